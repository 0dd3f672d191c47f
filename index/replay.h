/* replay.h - putting the records of a log into the index, as a part of recovery: by all cores, each
 * with a device queue of its own. Thread rule: run by one thread, which works too. Layer: index. */
#ifndef GW_INDEX_REPLAY_H
#define GW_INDEX_REPLAY_H

#include <pthread.h>

#include "index/store_internal.h"

struct gwi_replay {
    struct gw_store *store; /* nobody else uses it yet */
    uint64_t next, end;     /* pages: the next one to be read; behind the last one */
    const struct gw_slots
        *drop; /* records of these, below their floors, are counted; may be NULL */
    _Atomic uint64_t *progress_bytes; /* may be NULL */
    pthread_mutex_t lock;             /* next, status, why */
    _Atomic bool stop;
    enum gw_status status; /* the first failure */
    char *why;
    size_t why_bytes;
    uint32_t pages_each;               /* that a worker holds; set by run */
    _Atomic uint64_t records, dropped; /* seen, void ones not counted; of `drop` */
};

/* Reads the pages [next, end), gaps left out, and raises the entries of their records. GW_OK, or
 * the first failure, with `why`. Records below the floor of their slot are left out. */
GW_MUST_USE enum gw_status gwi_replay_run(struct gwi_replay *replay, uint32_t threads);
/* Notes a failure, if it is the first, and ends the replay. */
void gwi_replay_fail(struct gwi_replay *replay, enum gw_status status, const char *text);
#endif
