/* spawn.h - a cluster of real processes on loopback in a directory of its own, from the programs
 * that lie in one place. One thread. Layer: bench (also used by tests/cluster). */
#ifndef GW_BENCH_SPAWN_H
#define GW_BENCH_SPAWN_H

#include "bench/process.h"

#define GW_SPAWN_SERVERS_MAX 16u

struct gw_spawn_server {
    struct gw_process process;
    char id[32];
    char address[64];
};

struct gw_spawn {
    char programs[512];  /* where godwit-server and the others lie */
    char directory[128]; /* made by gw_spawn_open, removed by gw_spawn_close */
    char coordinator_address[64];
    struct gw_process coordinator;
    struct gw_spawn_server servers[GW_SPAWN_SERVERS_MAX];
    uint32_t server_count;
    uint32_t threads;                /* of each server; 0: 1 */
    uint64_t memory_bytes;           /* of each server */
    uint64_t index_bytes;            /* 0: the server's default */
    const char *const *server_flags; /* more words for every server, the last one NULL; or NULL */
    char error[256];                 /* what a call that failed says */
};

/* The directory; `programs` NULL: beside this program. Logs go into it: *.log. */
bool gw_spawn_open(struct gw_spawn *spawn, const char *programs);
/* Ends every process and removes the directory. */
void gw_spawn_close(struct gw_spawn *spawn);

/* Starts the coordinator, again at its old address if it had one, and waits until it is ready. */
bool gw_spawn_coordinator(struct gw_spawn *spawn);
/* Starts a server (one that has ended: again at its old address) and waits until it is ready. */
struct gw_spawn_server *gw_spawn_server(struct gw_spawn *spawn, const char *id);
/* Gives the server an even share of the slots of all servers, and waits for it. */
bool gw_spawn_share(struct gw_spawn *spawn, const char *id);
#endif
