/* harness.h - real processes for the tests: a cluster, the command line with its output, raw
 * connections that may send anything, and writers that count what they do.
 * A failure in here fails the test. Layer: tests. */
#ifndef GW_TESTS_CLUSTER_HARNESS_H
#define GW_TESTS_CLUSTER_HARNESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/spawn.h"
#include "client/include/godwit.h"
#include "client/wire/ops.h"

/* ---- cluster -------------------------------------------------------------------------------- */

/* A coordinator and servers "A", "B", ... of one dispatcher each; A owns all slots. */
void harness_start(struct gw_spawn *spawn, uint32_t servers);
/* The same with another memory number and more flags (the last one NULL; may be NULL). */
void harness_start_with(struct gw_spawn *spawn, uint32_t servers, uint64_t memory_bytes,
                        const char *const *server_flags);
void harness_stop(struct gw_spawn *spawn);
void harness_until_healthy(struct gw_spawn *spawn); /* every server has joined; at most 10 s */
/* n, scaled by GODWIT_TEST_SCALE percent, at least 1: how heavy a test is. */
uint64_t harness_scaled(uint64_t n);
const char *harness_programs(void); /* the directory of the programs under test */
void harness_sleep_ms(uint64_t ms);
uint64_t harness_now_ms(void);
/* A port of 127.0.0.1 that was free a moment ago. */
uint16_t harness_free_port(void);

/* ---- the command line ----------------------------------------------------------------------- */

struct harness_run {
    int code;
    char *out, *err; /* zero-terminated; owned by the run */
    size_t out_bytes;
};

/* Runs a program (a name in the directory of programs) to its end, at most 60 s. */
struct harness_run harness_run_program(const char *program, const char *const *words,
                                       const char *input, size_t input_bytes);
/* `godwit -c COORDINATOR words...`; words end with NULL. input NULL: empty. */
struct harness_run harness_cli(struct gw_spawn *spawn, const char *input, const char *const *words);
void harness_run_free(struct harness_run *run);
#define HARNESS_CLI(spawn, input, ...)                                                             \
    harness_cli(spawn, input, (const char *[]){__VA_ARGS__, NULL})

/* Runs and checks the exit code; shows what was said when it differs. The caller frees the run. */
struct harness_run harness_expect(struct gw_spawn *spawn, int code, const char *input,
                                  const char *const *words);
/* As above, and nothing more is wanted. */
void harness_check(struct gw_spawn *spawn, int code, const char *const *words);
#define HARNESS_EXPECT(spawn, code, input, ...)                                                    \
    harness_expect(spawn, code, input, (const char *[]){__VA_ARGS__, NULL})
#define HARNESS_CHECK(spawn, code, ...)                                                            \
    harness_check(spawn, code, (const char *[]){__VA_ARGS__, NULL})

/* ---- a writer that counts ------------------------------------------------------------------- */

/* A thread that adds 1 to random ones of `keys` counters, "PREFIX<number>", as fast as it can, and
 * counts plainly what it did. Its arrays may lie in memory shared with another process. */
struct harness_writer {
    char prefix[24];
    uint32_t keys;
    uint32_t delay_us;                     /* between bursts of 64; 0: none */
    _Atomic uint64_t *sent, *acknowledged; /* per key; owned by the writer if it made them */
    uint64_t in_doubt, failed;
    enum gw_status failure;
    uint64_t wait_longest_ns;
    struct gw_cluster *cluster;
    pthread_t thread;
    _Atomic bool stop;
};

void harness_writer_start(struct harness_writer *writer, struct gw_spawn *spawn, const char *prefix,
                          uint32_t keys);
/* Stops it and waits for every answer. */
void harness_writer_stop(struct harness_writer *writer);
/* Every counter of the cluster against plain counting: equal, and nothing in doubt or failed. */
void harness_writer_check(struct harness_writer *writer);
void harness_writer_free(struct harness_writer *writer);
uint64_t harness_writer_total(const struct harness_writer *writer); /* acknowledged so far */

/* ---- raw connections ------------------------------------------------------------------------ */

int harness_connect(const char *address); /* a blocking socket with a send timeout of 2 s */
/* Sends all of it; false when the other end has closed or takes no more for 2 s. */
bool harness_send(int fd, const void *bytes, size_t n);
/* Reads one frame into room. 0: closed (or reset); -1: nothing for timeout_ms; else its bytes. */
long harness_read_frame(int fd, uint8_t *room, size_t room_bytes, int timeout_ms);
/* Reads until the other end closes. True: it did within timeout_ms, and all that came before was
 * frames; *status gets what the last ERROR frame said, GW_OK without one. */
bool harness_closes(int fd, int timeout_ms, enum gw_status *status);

/* A whole frame in room: header from *f (bytes is filled in) and body. Its length. */
size_t harness_frame(uint8_t *room, struct gw_frame f, const void *body, size_t body_bytes);
/* Sends HELLO as a client and reads WELCOME; false: refused. */
bool harness_hello(int fd, uint64_t session, struct gw_welcome *welcome, uint64_t *view);
#endif
