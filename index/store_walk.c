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
#include "index/cold.h"
#include "index/store_internal.h"

#define LOOKAHEAD   4u  /* buckets whose records are fetched early */
#define COLD_AHEAD  64u /* buckets whose records are read early from the device */
#define COLD_SPARSE 16u /* times as many, while few of them have any */

struct walk {
    struct gw_thread *t;
    uint64_t hash_first, hash_last;
    const struct gw_slots *slots;
    bool tombstones;
    gw_walk_cb fn;
    void *ctx;
    uint32_t requests; /* chains of which a part is on the device, met by request_ahead */
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

static bool same_key(const struct gw_record *a, const struct gw_record *b)
{
    uint64_t ca = atomic_load_explicit(&a->control, memory_order_relaxed); /* key part: immutable */
    uint64_t cb = atomic_load_explicit(&b->control, memory_order_relaxed);
    return gw_record_has_key(a, ca, gw_record_key(b, cb), gw_control_key_bytes(cb));
}

static bool chain_add(struct gw_thread *t, struct gw_record *record)
{
    if (t->chain_count == t->chain_room) {
        uint32_t room = t->chain_room ? 2 * t->chain_room : 64;
        struct gw_record **chain = realloc((void *)t->chain, room * sizeof *chain);
        if (!chain)
            return false;
        t->chain = chain;
        t->chain_room = room;
    }
    t->chain[t->chain_count++] = record;
    return true;
}

/* Holds the chain records of one key only? Then the first is all of it that counts: what follows
 * are older versions, and may be many. `hash`: any of the bucket's. */
static bool chain_is_one(struct gw_thread *t, uint64_t hash, uint64_t entry)
{
    uint32_t shift = t->table->split_shift;
    uint64_t of = (hash & ~((uint64_t)63 << shift)) | (uint64_t)gw_entry_hash_bits(entry) << shift;
    return !gwi_chains_mixed(t->store->chains, gwi_chains_name(gw_entry_slot(entry), of, shift),
                             t->view.begin);
}

/* Where the part of a chain begins that is not in memory; false: it has none that counts. */
static bool chain_top(const struct gw_thread *t, uint64_t entry, bool one, gw_addr *top)
{
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        *top = gw_addr_widen(narrow, t->view.reference);
        if (top->v < t->view.head)
            return top->v >= t->view.begin;
        if (one)
            return false;
        narrow = gw_record_previous(gw_log_at(&t->view, *top));
    }
    return false;
}

/* Gathers the records of a chain in t->chain, newest first. GW_PENDING, GW_NOT_YET: not all of
 * them can be had now; GW_E_NOMEM. What cannot be read ends the chain: it is counted. */
static enum gw_status chain_gather(struct gw_thread *t, uint64_t entry, bool one)
{
    uint64_t narrow = gw_entry_narrow(entry);
    t->chain_count = 0;
    while (narrow != 0) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.head) {
            struct gw_record *const *records = NULL;
            uint32_t count = 0;
            if (at.v < t->view.begin)
                return GW_OK;
            enum gw_status st = gwi_cold_chain(t, at, one, false, &records, &count);
            if (st == GW_PENDING || st == GW_NOT_YET || st == GW_E_NOMEM)
                return st; /* nothing is wrong with the records: they are not left out */
            for (uint32_t i = 0; st == GW_OK && i < count; i++) {
                if (gw_addr_widen(narrow, t->view.reference).v < t->view.begin)
                    break; /* begin has risen since it was read */
                if (!chain_add(t, records[i]))
                    return GW_E_NOMEM;
                narrow = gw_record_previous(records[i]);
            }
            return GW_OK;
        }
        struct gw_record *record = gw_log_at(&t->view, at);
        if (!chain_add(t, record))
            return GW_E_NOMEM;
        if (one)
            return GW_OK;
        narrow = gw_record_previous(record);
    }
    return GW_OK;
}

/* Does a record before the i-th of the gathered chain have its key? */
static bool superseded(const struct gw_thread *t, uint32_t i)
{
    for (uint32_t j = 0; j < i; j++)
        if (same_key(t->chain[j], t->chain[i]))
            return true;
    return false;
}

static bool walk_chain(const struct walk *w, const struct gw_table_chain *bucket, uint64_t entry)
{
    struct gw_thread *t = w->t;
    if (chain_gather(t, entry, chain_is_one(t, bucket->first, entry)) != GW_OK)
        return false;
    for (uint32_t i = 0; i < t->chain_count; i++) {
        struct gw_record *record = t->chain[i];
        if (superseded(t, i))
            continue;
        uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
        struct gw_record_view view = {
            .key = gw_record_key(record, control),
            .key_bytes = gw_control_key_bytes(control),
            .slot = gw_entry_slot(entry),
        };
        view.hash = gw_key_hash(view.key, view.key_bytes, t->store->hash_seed);
        if (view.hash < w->hash_first || view.hash > w->hash_last)
            continue;
        /* A neighbour's key: maybe superseded there (struct gw_table_chain). */
        if (view.hash < bucket->first || view.hash > bucket->last)
            continue;
        if (!view_fill(t, record, &view))
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

typedef bool (*entry_fn)(const struct walk *w, const struct gw_table_chain *bucket, uint64_t entry);

/* Calls fn for every wanted entry of the bucket that holds `hash`; false as soon as fn says so.
 * Entries come twice when the bucket is split meanwhile. *bucket: whose entries they were. */
static bool each_entry(const struct walk *w, uint64_t hash, entry_fn fn,
                       struct gw_table_chain *bucket)
{
    do {
        uint64_t e;
        gw_table_chain_open(w->t->table, hash, bucket);
        while (gw_table_chain_next(bucket, &e))
            if (wanted(w->slots, e) && !fn(w, bucket, e))
                return false;
    } while (bucket->moved);
    return true;
}

/* Begins to read what is not in memory; false: no more can be read now. */
static bool chain_request(const struct walk *w, const struct gw_table_chain *bucket, uint64_t entry,
                          bool ahead)
{
    gw_addr top;
    bool one = chain_is_one(w->t, bucket->first, entry);
    if (!chain_top(w->t, entry, one, &top))
        return true;
    ((struct walk *)w)->requests++; /* a walk is never a constant */
    return gwi_cold_chain(w->t, top, one, ahead, NULL, NULL) != GW_NOT_YET;
}

static bool request_now(const struct walk *w, const struct gw_table_chain *bucket, uint64_t entry)
{
    return chain_request(w, bucket, entry, false);
}

static bool request_early(const struct walk *w, const struct gw_table_chain *bucket, uint64_t entry)
{
    return chain_request(w, bucket, entry, true);
}

static bool chain_drop(const struct walk *w, const struct gw_table_chain *bucket, uint64_t entry)
{
    gw_addr top;
    bool one = chain_is_one(w->t, bucket->first, entry);
    if (chain_top(w->t, entry, one, &top))
        gwi_cold_chain_drop(w->t, top, one);
    return true;
}

/* Begins to read what this bucket and those behind it have on the device; further where only few of
 * them have any, not at all where none has. */
static void request_ahead(struct walk *w, uint64_t hash, uint64_t span)
{
    struct gw_table_chain bucket;
    w->requests = 0;
    for (uint32_t i = 0; i < COLD_SPARSE * COLD_AHEAD && hash <= w->hash_last; i++) {
        if (!each_entry(w, hash, i == 0 ? request_now : request_early, &bucket) ||
            hash + span < hash || w->requests >= COLD_AHEAD ||
            (i >= COLD_AHEAD && w->requests == 0))
            return;
        hash += span;
    }
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
    struct walk w = {t, cursor->hash, hash_last, slots, tombstones, fn, ctx, 0};
    if (cursor->hash > hash_last)
        cursor->done = true;
    for (uint32_t n = 0; n < buckets_max && !cursor->done; n++) {
        struct gw_table_chain bucket;
        gw_table_chain_open(t->table, cursor->hash, &bucket);
        uint64_t span = bucket.last - bucket.first + 1;
        uint64_t ahead = bucket.first + span * LOOKAHEAD;
        if (ahead > bucket.last && ahead <= hash_last)
            prefetch_records(&w, ahead);
        if (t->cold && (n == 0 || n % (COLD_AHEAD / 2) == 0))
            request_ahead(&w, cursor->hash, span);
        if (!each_entry(&w, cursor->hash, walk_chain, &bucket))
            return;
        if (t->cold)
            each_entry(&w, cursor->hash, chain_drop, &(struct gw_table_chain){0});
        cursor_step(cursor, bucket.last, hash_last);
    }
}

/* What goes with an entry: keys that were live, bytes of newest records. Exact for what is in
 * memory; a chain that goes on beyond counts as one more key of the mean size. */
struct unlinked {
    int64_t keys, bytes;
    uint64_t cold;
};

static void count_unlinked(struct gw_thread *t, uint64_t hash, uint64_t entry, struct unlinked *sum)
{
    bool one = chain_is_one(t, hash, entry);
    t->chain_count = 0;
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.head) {
            /* Behind a record in memory nearly all of it is older versions (chains.h). */
            sum->cold += t->chain_count == 0 && at.v >= t->view.begin;
            break;
        }
        struct gw_record *record = gw_log_at(&t->view, at);
        if (!chain_add(t, record) || one)
            break;
        narrow = gw_record_previous(record);
    }
    for (uint32_t i = 0; i < t->chain_count; i++) {
        if (superseded(t, i))
            continue;
        uint64_t control = atomic_load_explicit(&t->chain[i]->control, memory_order_relaxed);
        sum->keys += !(control & GW_CONTROL_TOMBSTONE);
        sum->bytes += (int64_t)(gw_record_units(t->chain[i]) * GW_ADDR_UNIT);
    }
}

void gw_store_unlink(struct gw_thread *t, struct gw_cursor *cursor, uint64_t hash_last,
                     const struct gw_slots *slots, uint32_t buckets_max, uint64_t *unlinked)
{
    GW_ASSERT(t->inside);
    uint64_t count = 0;
    struct unlinked sum = {0, 0, 0};
    if (cursor->hash > hash_last)
        cursor->done = true;
    for (uint32_t n = 0; n < buckets_max && !cursor->done; n++) {
        struct gw_table_chain bucket;
        do {
            _Atomic uint64_t *place;
            uint64_t e;
            gw_table_chain_open(t->table, cursor->hash, &bucket);
            while ((place = gw_table_chain_next(&bucket, &e))) {
                /* A CAS: compaction may put a copy there meanwhile. Relaxed: an empty word
                 * publishes nothing; acquire, for the entry found instead may be followed. */
                while (wanted(slots, e)) {
                    if (!atomic_compare_exchange_strong_explicit(place, &e, 0, memory_order_acquire,
                                                                 memory_order_acquire))
                        continue;
                    count++;
                    count_unlinked(t, bucket.first, e, &sum);
                    break;
                }
                /* Frozen before we could: the entry goes on in the children. */
                bucket.moved |= gw_entry_state(e) == GW_ENTRY_FROZEN;
            }
        } while (bucket.moved);
        cursor_step(cursor, bucket.last, hash_last);
    }
    if (sum.cold != 0) {
        sum.keys += (int64_t)sum.cold;
        sum.bytes += (int64_t)(sum.cold * gwi_mean_record_bytes(t->store));
    }
    gwi_count_keys(t, -sum.keys);
    gwi_count_live(t, -sum.bytes);
    /* Copies that compaction was about to put there found the entries gone: all that these slots
     * had lies below the tail. */
    if (cursor->done)
        gwi_floors_raise(t->store->floors, slots, gw_log_tail(t->log));
    *unlinked += count;
}
