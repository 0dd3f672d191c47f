/* compact_sweep.c - clearing index entries that lead below begin.
 *
 * Such an entry is absent to everybody and its place is used again by whoever needs it, so nothing
 * hurries, but for one thing: an entry holds 42 bits of an address, and when the tail has come
 * 64 TiB further it would name a new record (ENGINE H14). Records are no such danger: the link of a
 * live one leads to begin or above as of its publication (gwi_publish), and the live log is shorter
 * than the window. So the index is swept whenever begin has risen by a quarter of the window, and
 * nothing else waits for it: an entry is at most two such quarters and the live log old. */
#include "index/compact_internal.h"

#define SWEEP_BUCKETS 256u /* a turn */

void gwi_compact_sweep_init(struct gwi_compactor *c)
{
    atomic_init(&c->sweep_every, GW_ADDR_WINDOW / 4);
    atomic_init(&c->sweep_from, atomic_load_explicit(&c->log->begin, memory_order_relaxed));
}

/* Returns the last hash of the bucket. */
static uint64_t sweep_bucket(struct gw_thread *t, uint64_t hash)
{
    struct gw_table_chain bucket;
    do {
        _Atomic uint64_t *place;
        uint64_t e;
        gw_table_chain_open(t->table, hash, &bucket);
        while ((place = gw_table_chain_next(&bucket, &e)))
            /* Relaxed, all: the entry is not followed, an empty word publishes nothing. If the CAS
             * fails somebody has used the place, or a split has dropped the entry itself. */
            if (gw_addr_widen(gw_entry_narrow(e), t->view.reference).v < t->view.begin)
                (void)atomic_compare_exchange_strong_explicit(place, &e, 0, memory_order_relaxed,
                                                              memory_order_relaxed);
    } while (bucket.moved);
    return bucket.last;
}

bool gwi_compact_sweep(struct gw_thread *t)
{
    struct gwi_compactor *c = t->store->compactor;
    uint64_t begin = atomic_load_explicit(&c->log->begin, memory_order_relaxed);
    if (begin - atomic_load_explicit(&c->sweep_from, memory_order_relaxed) <
        atomic_load_explicit(&c->sweep_every, memory_order_relaxed))
        return false;
    /* Acquire: what the last one who swept has left; pairs with the release below. */
    if (atomic_exchange_explicit(&c->sweeping, true, memory_order_acquire))
        return true;
    gwi_store_enter(t);
    if (c->sweep_begin == 0)
        c->sweep_begin = t->view.begin;
    for (uint32_t n = 0; n < SWEEP_BUCKETS && !c->sweep_cursor.done; n++) {
        uint64_t last = sweep_bucket(t, c->sweep_cursor.hash);
        if (last == UINT64_MAX)
            c->sweep_cursor.done = true;
        else
            c->sweep_cursor.hash = last + 1;
    }
    gw_store_exit(t);
    bool more = !c->sweep_cursor.done;
    if (!more) {
        atomic_store_explicit(&c->sweep_from, c->sweep_begin, memory_order_relaxed);
        c->sweep_cursor = (struct gw_cursor){.hash = 0};
        c->sweep_begin = 0;
    }
    atomic_store_explicit(&c->sweeping, false, memory_order_release);
    return more;
}
