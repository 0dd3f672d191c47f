/* store_sample.c - gathering the hot set of slots that are about to leave (indirection.h).
 *
 * While it goes on, what was in the log when it began counts as read-only for operations on these
 * slots: a read copies its record to the tail, as a promotion does, and a change copies, too. The
 * hottest records are the ones that are changed in place: without that they would not be in what
 * was gathered. It is the fuzzy region that grows: who does not know of it yet changes in place,
 * who knows seals first, as ever above safe_read_only. The fast paths are told by `aging` and
 * `read_only` of the thread's view, which are raised: no word more is loaded by them. Each record
 * is copied once, for the copy lies above. What was gathered is what chains have above the tail of
 * the beginning, so it is found by the index. */
#include <stdlib.h>

#include "index/base/hash.h"
#include "index/foreign.h"
#include "index/gather.h"

#define BUCKETS_MAX 1024u /* of a call */

static void sample_free(void *arg)
{
    free(arg);
}

void gw_store_sample(struct gw_store *store, const struct gw_slots *slots)
{
    struct gw_slots *copy = NULL;
    if (slots && (copy = malloc(sizeof *copy))) /* no memory: nothing is sampled */
        *copy = *slots;
    /* What was gathered can be visited behind the end of it. Other slots beside those that gather:
     * what these have so far counts, too. */
    if (slots && !atomic_load_explicit(&store->sample, memory_order_relaxed))
        atomic_store_explicit(&store->sample_from, gw_log_tail(store->log).v, memory_order_relaxed);
    /* Acq_rel: the copy and the address before the pointer. */
    struct gw_slots *old = atomic_exchange_explicit(&store->sample, copy, memory_order_acq_rel);
    while (old && gw_epoch_defer(store->epoch, sample_free, old) != GW_OK)
        gw_epoch_poll(store->epoch);
}

struct sampled {
    uint64_t from, bytes;
    gw_walk_cb fn;
    void *ctx;
    bool full;
};

/* The records of the chain from where the sampling began. False: fn has stopped the walk, or the
 * bytes are used up. */
static bool give_chain(struct gw_thread *t, const struct gw_table_chain *bucket, uint64_t entry,
                       struct sampled *s)
{
    t->chain_count = 0;
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.head || at.v < s->from)
            break;
        struct gw_record *record = gw_log_at(&t->view, at);
        if (!gwi_gather_add(t, record))
            return false;
        narrow = gw_record_previous(record);
    }
    for (uint32_t i = 0; i < t->chain_count; i++) {
        struct gw_record *record = t->chain[i];
        uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
        if (gw_control_kind(control) == GW_RECORD_INDIRECTION || gwi_gather_superseded(t, i))
            continue;
        struct gw_record_view view = {.key = gw_record_key(record, control),
                                      .key_bytes = gw_control_key_bytes(control),
                                      .slot = gw_entry_slot(entry)};
        view.hash = gw_key_hash(view.key, view.key_bytes, t->store->hash_seed);
        if (view.hash < bucket->first || view.hash > bucket->last)
            continue;
        uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
        if (bytes > s->bytes) {
            s->full = true;
            return false;
        }
        if (!gwi_view_fill(t, record, &view) || !s->fn(s->ctx, &view))
            return false;
        s->bytes -= bytes;
    }
    return true;
}

void gw_store_walk_sampled(struct gw_thread *t, uint64_t *at, const struct gw_slots *slots,
                           uint64_t bytes, gw_walk_cb fn, void *ctx)
{
    GW_ASSERT(t->inside);
    struct sampled s = {.from = atomic_load_explicit(&t->store->sample_from, memory_order_relaxed),
                        .bytes = bytes,
                        .fn = fn,
                        .ctx = ctx};
    for (uint32_t n = 0; n < BUCKETS_MAX && *at != UINT64_MAX; n++) {
        struct gw_table_chain bucket;
        do {
            uint64_t e;
            gw_table_chain_open(t->table, *at, &bucket);
            while (gw_table_chain_next(&bucket, &e)) {
                if (!gw_slots_has(slots, gw_entry_slot(e)) || give_chain(t, &bucket, e, &s))
                    continue;
                *at = s.full ? UINT64_MAX : *at;
                return;
            }
        } while (bucket.moved);
        *at = bucket.last == UINT64_MAX ? UINT64_MAX : bucket.last + 1;
    }
}
