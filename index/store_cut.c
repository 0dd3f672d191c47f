/* store_cut.c - checkpoints as seen by the engine: threads that cross, the numbers of an image, and
 * what a finished checkpoint allows. Contract, and why it holds: store_cut.h; the cut itself:
 * log_cut.c.
 *
 * Rules:
 *  1. A thread's operations know the cut that it has crossed. It crosses when it enters, or before
 *     an operation that has met something above a cut which the thread does not know: then nothing
 *     of that operation has been done (gwi_must_cross), and the owner has the results of all that
 *     came before it, or there are none.
 *  2. The view is loaded again where a thread crosses in the middle of its stay in the epoch. See
 *     struct gw_log_view for why it may be.
 *  3. The store's own work loads views as it likes: it executes no operations. */
#include "index/store_cut.h"

#include "index/compact.h"
#include "index/store_internal.h"

enum gw_status gw_store_cut_begin(struct gw_store *store, uint64_t number,
                                  struct gw_store_image *out)
{
    struct gw_log *log = store->log;
    /* Before the cut: whatever was copied so that begin could rise lies below it. Acquire: begin
     * was raised after those copies. */
    uint64_t begin = atomic_load_explicit(&log->begin, memory_order_acquire);
    gw_addr end;
    enum gw_status st = gw_log_cut(log, number, &end);
    if (st != GW_OK)
        return st;
    *out = (struct gw_store_image){
        .number = number,
        .begin = gw_addr_of(begin >> log->page_bits << log->page_bits),
        .end = end,
        .gaps = log->gaps,
        .gaps_count = log->gaps_count,
    };
    return GW_OK;
}

void gw_store_cut_numbers(const struct gw_store *store, struct gw_store_image *image)
{
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    image->version_highest = gw_store_version_highest(store);
    image->keys = (int64_t)stats.keys;
    image->live_bytes = (int64_t)stats.live_bytes;
    /* Relaxed, all: numbers; those that must not be too low were written before the crossing. */
    image->waste = atomic_load_explicit(&store->log->waste, memory_order_relaxed);
    image->expires = atomic_load_explicit(&store->expires, memory_order_relaxed);
    pthread_mutex_t *lock = (pthread_mutex_t *)&store->lock; /* a look, though it takes the lock */
    pthread_mutex_lock(lock);
    image->expiry_ms = store->expiry_ms;
    for (uint32_t i = 0; i < store->threads_max; i++) {
        const struct gw_thread *t = store->threads[i];
        uint64_t now_ms = t ? atomic_load_explicit(&t->now_ms, memory_order_relaxed) : 0;
        if (image->expiry_ms < now_ms)
            image->expiry_ms = now_ms;
    }
    pthread_mutex_unlock(lock);
}

bool gw_store_cut_flushed(const struct gw_store *store, gw_addr end)
{
    return atomic_load_explicit(&store->log->flushed, memory_order_acquire) >= end.v;
}

/* ---- crossing ---- */

void gwi_cross(struct gw_thread *t)
{
    gwi_view_load(t);
    t->crossed = t->view.cut;
    t->interval = gw_log_cut_number(t->log, &t->view) + 1;
    if (t->cross_cb)
        t->cross_cb(t->cross_ctx, t->interval);
}

void gw_store_cross(struct gw_thread *t)
{
    GW_ASSERT(t->inside);
    if (gw_log_cut_is_newer(t->log, &t->view))
        gwi_cross(t);
}

void gw_store_on_cross(struct gw_thread *t, gw_cross_cb cb, void *ctx)
{
    t->cross_cb = cb;
    t->cross_ctx = ctx;
}

uint64_t gw_store_interval(const struct gw_thread *t)
{
    return t->interval;
}

void gw_store_give_results(struct gw_thread *t, bool on)
{
    t->gives_results = on;
}

/* ---- what a finished checkpoint allows ---- */

void gw_store_retain_all(struct gw_store *store)
{
    store->retains = true;
}

static void raise(_Atomic uint64_t *boundary, uint64_t to)
{
    uint64_t now = atomic_load_explicit(boundary, memory_order_relaxed);
    /* Release: the checkpoint that allows it before the boundary. */
    while (now < to &&
           !atomic_compare_exchange_weak_explicit(boundary, &now, to, memory_order_release,
                                                  memory_order_relaxed)) {}
}

void gw_store_retain(struct gw_store *store, gw_addr begin, gw_addr end)
{
    /* Relaxed: the first call allows the first trim. */
    if (atomic_load_explicit(&store->retain_begin, memory_order_relaxed) == 0)
        gwi_compact_inherit(store, begin);
    raise(&store->retain_end, end.v);
    raise(&store->retain_begin, begin.v);
    gwi_compact_look_soon(store);
}

bool gw_store_wants_checkpoint(const struct gw_store *store)
{
    return atomic_load_explicit(&store->wants_checkpoint, memory_order_relaxed); /* a hint */
}
