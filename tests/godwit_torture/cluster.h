/* cluster.h - the coordinator and the servers of a run: started, killed, stopped and started again
 * with the same data at the same address, each behind a relay. All calls from one thread, the one
 * that ends last: children die with it. Layer: tests. */
#ifndef GW_TESTS_TORTURE_CLUSTER_H
#define GW_TESTS_TORTURE_CLUSTER_H

#include "bench/process.h"
#include "tests/godwit_torture/relay.h"
#include "tests/godwit_torture/run.h"

enum torture_party_state {
    TORTURE_DOWN,     /* to be started at until_ns */
    TORTURE_STARTING, /* has not said that it is ready */
    TORTURE_UP,
    TORTURE_STOPPED, /* SIGSTOP, until until_ns */
};

struct torture_party {
    struct gw_process process;
    char id[24];
    char address[64]; /* where it listens, once known */
    enum torture_party_state state;
    uint64_t until_ns, started_ns;
    uint32_t exits; /* how often it ended by itself */
    /* Until then it may end by itself (its disk is full), and is then started again. */
    uint64_t may_end_ns;
};

struct torture_cluster {
    struct torture_run *run;
    struct torture_relays *relays;                       /* of party i: relay i */
    struct torture_party party[TORTURE_SERVERS_MAX + 1]; /* 0: the coordinator */
    uint32_t parties;
    char programs[512], directory[256], data[300], objects[300];
    bool made_directory, mounted;
    bool lockable; /* the shared tier can be kept from servers */
    uint64_t longest_start_ns;
};

/* Starts all, and spreads the slots over the servers. False: it cannot run; said on stderr. */
bool torture_cluster_start(struct torture_cluster *cluster, struct torture_run *run);
/* Looks after those that are starting, stopped, down or have ended by themselves; in the place of a
 * server that was removed it starts a new one. */
void torture_cluster_turn(struct torture_cluster *cluster);
void torture_cluster_kill(struct torture_cluster *cluster, uint32_t party, uint32_t away_ms);
void torture_cluster_freeze(struct torture_cluster *cluster, uint32_t party, uint32_t ms);
bool torture_cluster_all_up(const struct torture_cluster *cluster);
/* Makes the shared tier unreachable for servers, or reachable again; false: it is as it was. */
bool torture_cluster_lock_objects(struct torture_cluster *cluster, bool lock);
/* Ends every trouble, and waits until all are up and no job is open; false: they are not. */
bool torture_cluster_heal(struct torture_cluster *cluster, uint64_t timeout_ms);
/* SIGTERM to all; an exit code other than 0 is a violation. */
void torture_cluster_stop(struct torture_cluster *cluster);
/* Kills what is left; removes the directory unless it is to be kept. */
void torture_cluster_end(struct torture_cluster *cluster, bool keep);

/* Asks the coordinator (a JSON document); NULL: no answer. The caller frees it. Any thread. */
char *torture_ask(struct torture_run *run, const char *request);
#endif
