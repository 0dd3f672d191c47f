/* store_walk.c - visiting the newest record of every key by hash position, and unlinking slots.
 *
 * Rules:
 *  1. Positions are hashes, never bucket numbers: they stay good when a table grows.
 *  2. A cursor moves by whole buckets. A bucket that was not finished is visited again from its
 *     start, so that every key is visited at least once and none is forgotten.
 *  3. Of a chain, a record is the newest of its key if no record before it has the same key. Seals
 *     are ignored: a sealed record may not have its successor yet, then it still is the newest.
 *  4. Keys whose hash lies outside of the wanted range are left out although they share a bucket
 *     with some that lie in it. */
#include <stdlib.h>
#include <string.h>

#include "index/base/hash.h"
#include "index/store_internal.h"

#define SEEN_MAX                                                                                   \
    64u              /* keys of one chain remembered; beyond, the chain is walked again for each   \
                      */
#define LOOKAHEAD 4u /* buckets whose records are fetched early */

struct walk {
    struct gw_thread *t;
    uint64_t hash_first, hash_last;
    const struct gw_slots *slots;
    bool tombstones;
    gw_walk_cb fn;
    void *ctx;
};

static bool wanted(const struct gw_slots *slots, uint64_t entry)
{
    return gw_entry_is_live(entry) && (!slots || gw_slots_has(slots, gw_entry_slot(entry)));
}

/* ---- one record ---- */

/* Makes the scratch hold `bytes`; false: out of memory. */
static bool scratch_want(struct gw_thread *t, uint64_t bytes)
{
    if (bytes <= t->scratch_bytes)
        return true;
    uint8_t *scratch = realloc(t->scratch, bytes);
    if (!scratch)
        return false;
    t->scratch = scratch;
    t->scratch_bytes = bytes;
    return true;
}

/* Copies everything but the key, untorn; false: locked for too long, or no memory. */
static bool view_fill(struct gw_thread *t, struct gw_record *record, struct gw_record_view *view)
{
    for (uint32_t tries = 0; tries < GWI_TRIES; tries++) {
        /* Acquire and order of loads: record_inline.h, rule 3. */
        uint64_t before = atomic_load_explicit(&record->control, memory_order_acquire);
        if (before & GW_CONTROL_LOCKED) {
            gwi_pause();
            continue;
        }
        view->tombstone = before & GW_CONTROL_TOMBSTONE;
        view->arrived = before & GW_CONTROL_ARRIVED;
        view->version = gw_control_version(before);
        view->kind = (uint8_t)gw_control_kind(before);
        view->value = NULL;
        view->value_bytes = 0;
        view->number = 0;
        view->expiry_ms = gw_record_expiry(record, before);
        view->tombstone |= view->expiry_ms != 0 && view->expiry_ms <= t->now_ms;
        _Atomic uint64_t *value = gw_record_value(record, before);
        if (view->tombstone) {
            ; /* what the value holds means nothing */
        } else if (view->kind == GW_KIND_COUNTER) {
            view->value_bytes = 8;
            view->number = (int64_t)atomic_load_explicit(value, memory_order_acquire);
        } else {
            uint64_t bytes = gw_record_value_bytes(record, before);
            if (!scratch_want(t, bytes ? bytes : 1)) /* so that value is never NULL */
                return false;
            gw_value_load(t->scratch, value, bytes);
            view->value = t->scratch;
            view->value_bytes = (uint32_t)bytes;
        }
        uint64_t after = atomic_load_explicit(&record->control, memory_order_relaxed);
        if (((before ^ after) & ~GW_CONTROL_SEALED) == 0)
            return true;
    }
    return false;
}

/* ---- one chain ---- */

struct seen {
    uint32_t count;
    const struct gw_record *record[SEEN_MAX];
};

static bool same_key(const struct gw_record *a, const struct gw_record *b)
{
    uint64_t ca = atomic_load_explicit(&a->control, memory_order_relaxed); /* key part: immutable */
    uint64_t cb = atomic_load_explicit(&b->control, memory_order_relaxed);
    return gw_record_has_key(a, ca, gw_record_key(b, cb), gw_control_key_bytes(cb));
}

/* Does a record before `record`, in the chain that begins at `narrow`, have its key? */
static bool superseded(const struct walk *w, const struct seen *seen, uint64_t narrow,
                       const struct gw_record *record)
{
    for (uint32_t i = 0; i < seen->count; i++)
        if (same_key(seen->record[i], record))
            return true;
    if (seen->count < SEEN_MAX)
        return false;
    for (;;) { /* more keys than are remembered: from the start again */
        struct gw_record *r = gw_log_at(&w->t->view, gw_addr_widen(narrow, w->t->view.reference));
        if (r == record)
            return false;
        if (same_key(r, record))
            return true;
        narrow = gw_record_previous(r);
    }
}

static bool walk_chain(const struct walk *w, uint64_t entry)
{
    struct seen seen;
    seen.count = 0;
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, w->t->view.reference);
        if (at.v < w->t->view.head)
            return true; /* not in memory; without a device that is the chain's end */
        struct gw_record *record = gw_log_at(&w->t->view, at);
        narrow = gw_record_previous(record);
        if (superseded(w, &seen, gw_entry_narrow(entry), record))
            continue;
        if (seen.count < SEEN_MAX)
            seen.record[seen.count++] = record;
        uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
        struct gw_record_view view = {
            .key = gw_record_key(record, control),
            .key_bytes = gw_control_key_bytes(control),
            .slot = gw_entry_slot(entry),
        };
        view.hash = gw_key_hash(view.key, view.key_bytes, w->t->store->hash_seed);
        if (view.hash < w->hash_first || view.hash > w->hash_last)
            continue;
        if (!view_fill(w->t, record, &view))
            return false;
        if ((!view.tombstone || w->tombstones) && !w->fn(w->ctx, &view))
            return false;
    }
    return true;
}

/* ---- buckets ---- */

/* Fetches the records of a bucket's own line; the overflow lines are few. */
static void prefetch_records(const struct walk *w, uint64_t hash)
{
    struct gw_bucket *bucket = gw_table_bucket(w->t->table, hash);
    for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
        uint64_t e = atomic_load_explicit(&bucket->word[i], memory_order_acquire);
        if (!wanted(w->slots, e))
            continue;
        gw_addr at = gw_addr_widen(gw_entry_narrow(e), w->t->view.reference);
        if (at.v >= w->t->view.head)
            __builtin_prefetch(gw_log_at(&w->t->view, at), 0, 3);
    }
}

static bool walk_bucket(const struct walk *w, uint64_t hash)
{
    struct gw_bucket *bucket = gw_table_bucket(w->t->table, hash);
    for (; bucket; bucket = gw_table_next_line(w->t->table, hash, bucket, memory_order_acquire)) {
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            uint64_t e = atomic_load_explicit(&bucket->word[i], memory_order_acquire);
            if (wanted(w->slots, e) && !walk_chain(w, e))
                return false;
        }
    }
    return true;
}

/* Moves the cursor behind the bucket whose last hash is `last`. */
static void cursor_step(struct gw_cursor *cursor, uint64_t last, uint64_t hash_last)
{
    if (last >= hash_last)
        cursor->done = true;
    else
        cursor->hash = last + 1;
}

void gw_store_walk(struct gw_thread *t, struct gw_cursor *cursor, uint64_t hash_last,
                   const struct gw_slots *slots, bool tombstones, uint32_t buckets_max,
                   gw_walk_cb fn, void *ctx)
{
    GW_ASSERT(t->inside);
    struct walk w = {t, cursor->hash, hash_last, slots, tombstones, fn, ctx};
    if (cursor->hash > hash_last)
        cursor->done = true;
    for (uint32_t n = 0; n < buckets_max && !cursor->done; n++) {
        uint64_t first, last;
        gw_table_bucket_range(t->table, cursor->hash, &first, &last);
        uint64_t ahead = first + (last - first + 1) * LOOKAHEAD;
        if (ahead > last && ahead <= hash_last)
            prefetch_records(&w, ahead);
        if (!walk_bucket(&w, cursor->hash))
            return;
        cursor_step(cursor, last, hash_last);
    }
}

void gw_store_unlink(struct gw_thread *t, struct gw_cursor *cursor, uint64_t hash_last,
                     const struct gw_slots *slots, uint32_t buckets_max, uint64_t *unlinked)
{
    GW_ASSERT(t->inside);
    uint64_t count = 0;
    if (cursor->hash > hash_last)
        cursor->done = true;
    for (uint32_t n = 0; n < buckets_max && !cursor->done; n++) {
        uint64_t first, last;
        gw_table_bucket_range(t->table, cursor->hash, &first, &last);
        for (struct gw_bucket *b = gw_table_bucket(t->table, cursor->hash); b;
             b = gw_table_next_line(t->table, cursor->hash, b, memory_order_acquire)) {
            for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
                uint64_t e = atomic_load_explicit(&b->word[i], memory_order_acquire);
                /* A CAS although nobody may touch these slots: if somebody does, against the
                 * contract, his entry stays and the next walk shows it. Relaxed: an empty word
                 * publishes nothing. */
                if (wanted(slots, e) &&
                    atomic_compare_exchange_strong_explicit(&b->word[i], &e, 0,
                                                            memory_order_relaxed,
                                                            memory_order_relaxed))
                    count++;
            }
        }
        cursor_step(cursor, last, hash_last);
    }
    gwi_count_keys(t, -(int64_t)count); /* approximate: an entry may lead to several keys or none */
    *unlinked += count;
}
