/* session.h - executes operations on a store the way a server does: what is answered GW_PENDING is
 * parked until gw_store_ready names its hash, what is answered GW_RETRY until the next turn, and a
 * thread with nothing to do sleeps until its device reads have ended.
 *
 *   turn: gw_bench_session_poll      the store's own work; parked operations end, by callback
 *         gw_bench_session_execute   a batch, at most gw_bench_session_free operations
 *         gw_bench_session_keep      for each of it: is it parked now?
 *         gw_bench_session_wait      if there was nothing to issue
 * A session belongs to one thread. Operations have keys of 8 bytes; what they point at as a value
 * must stay. Unlike a server's, parked operations on one key keep no order among themselves: the
 * workloads do not ask for one. Layer: bench. */
#ifndef GW_BENCH_SESSION_H
#define GW_BENCH_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "index/base/assert.h"
#include "index/store.h"

#define GW_BENCH_BATCH_MAX 1024u
#define GW_BENCH_DEPTH_MAX 65536u

struct gw_bench_parked;

/* A parked operation has ended, this long after the time given to keep. Its value (op->out) is good
 * until the callback returns. Waited: its record came from the device; else it was in somebody's
 * way. */
typedef void (*gw_bench_done_cb)(void *ctx, struct gw_op *op, uint64_t latency_ns, bool waited);

struct gw_bench_session_options {
    struct gw_store *store;
    uint32_t depth;    /* operations that may be parked */
    size_t room_bytes; /* for the values of one call, at least the largest one */
    uint32_t
        patience_ms; /* how long GW_RETRY and GW_E_FULL are tried again, from the time given to
                      * keep on; 0: GW_E_FULL is an answer, GW_RETRY is tried for ten seconds */
    gw_bench_done_cb done;
    void *ctx;
};

struct gw_bench_session {
    struct gw_bench_session_options options;
    struct gw_thread *thread;
    uint32_t parked;
    uint64_t retried; /* answers of GW_RETRY and, with patience, GW_E_FULL */
    uint64_t waits;   /* times the thread slept */
    /* private */
    struct gw_bench_parked *slot;
    uint32_t *chain, chain_mask, unused, busy;
    struct gw_op *again; /* operations executed once more, and where they were parked */
    uint32_t *again_slot;
    uint8_t *room;
    bool progress;
};

/* Opens a thread of the store. GW_E_INVALID: depth out of range; GW_E_NOMEM, GW_E_LIMIT. */
GW_MUST_USE enum gw_status gw_bench_session_open(struct gw_bench_session *s,
                                                 const struct gw_bench_session_options *options);
void gw_bench_session_close(struct gw_bench_session *s); /* what is parked is forgotten */

static inline uint32_t gw_bench_session_free(const struct gw_bench_session *s)
{
    return s->options.depth - s->parked;
}

/* Executes ops[0..n) and returns how many: fewer than n when their values have filled the room.
 * Look at them, then call again with the rest. */
static inline uint32_t gw_bench_session_execute(struct gw_bench_session *s, struct gw_op *ops,
                                                uint32_t n)
{
    size_t used;
    gw_store_enter(s->thread);
    uint32_t executed = gw_store_execute(s->thread, ops, n, s->room, s->options.room_bytes, &used);
    gw_store_exit(s->thread);
    return executed;
}

void gw_bench_session_park(struct gw_bench_session *s, const struct gw_op *op, uint64_t started_ns);

/* True: the operation has no answer yet and was parked; `done` will tell. */
static inline bool gw_bench_session_keep(struct gw_bench_session *s, const struct gw_op *op,
                                         uint64_t started_ns)
{
    if (GW_LIKELY(op->status == GW_OK))
        return false;
    if (op->status != GW_PENDING && op->status != GW_RETRY &&
        !(op->status == GW_E_FULL && s->options.patience_ms))
        return false;
    gw_bench_session_park(s, op, started_ns);
    return true;
}

/* Does the store's own work and ends parked operations whose reads have ended. Once a turn. */
void gw_bench_session_poll(struct gw_bench_session *s);
/* Sleeps until a read ends, a millisecond at most; returns at once if the last poll achieved
 * something. For turns in which nothing could be issued. */
void gw_bench_session_wait(struct gw_bench_session *s);
/* Turns until nothing is parked. False: some is, after so long. */
bool gw_bench_session_drain(struct gw_bench_session *s, uint32_t patience_ms);
#endif
