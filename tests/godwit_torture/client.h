/* client.h - threads that work on the cluster and write down what they did. Layer: tests. */
#ifndef GW_TESTS_TORTURE_CLIENT_H
#define GW_TESTS_TORTURE_CLIENT_H

#include "client/include/godwit.h"
#include "index/base/rand.h"
#include "tests/godwit_torture/expiring.h"
#include "tests/godwit_torture/history.h"
#include "tests/godwit_torture/pieces.h"
#include "tests/godwit_torture/run.h"

struct torture_known { /* a state of a key and its version, for cas */
    uint64_t state;
    uint32_t version;
};

struct torture_flight;

struct torture_client {
    struct torture_run *run;
    struct gw_cluster *cluster;
    uint16_t id;
    bool reader;
    struct gw_rand rand;
    struct torture_log log;
    struct torture_known *known;       /* by register */
    struct torture_expiring *expiring; /* shared; each belongs to one client */
    struct torture_flight *spare;
    struct gw_session *session; /* the one of now */
    uint32_t session_number, session_serial;
    enum gw_acknowledge acknowledge;
    uint64_t writes; /* for ids of pieces */
    pthread_t thread;
    bool running;
    uint8_t room[TORTURE_PIECE_MAX];
};

/* Prepares a client; torture_client_run is what its thread does until run->stop. */
void torture_client_init(struct torture_client *client, struct torture_run *run,
                         struct gw_cluster *cluster, struct torture_expiring *expiring,
                         uint16_t id);
void torture_client_free(struct torture_client *client);
void *torture_client_run(void *client);

/* Opens a session to be used by the calls below; false: said. */
bool torture_client_open(struct torture_client *client, enum gw_acknowledge acknowledge);
/* Waits for all answers and ends it. False: some did not come in time (a violation, told). */
bool torture_client_close(struct torture_client *client);
/* Writes every value once: what a run with a shared tier begins with. Before the threads run. */
bool torture_client_fill(struct torture_client *client);
/* Issues a get and writes it down. */
void torture_client_get(struct torture_client *client, uint32_t key);
/* Waits until at most `most` operations are unanswered. */
bool torture_client_wait(struct torture_client *client, size_t most);
#endif
