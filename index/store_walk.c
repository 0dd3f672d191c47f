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
#include "index/device.h"
#include "index/foreign.h"
#include "index/gather.h"

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
    /* gw_store_walk_shared; NULL: everything is read. Below `shared` nothing is. */
    gw_walk_indirection_cb fn_in;
    uint64_t map_version, log_id, shared;
    gw_walk_brought_cb brought; /* gw_store_walk_rest; NULL: nothing is left out */
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

bool gwi_view_fill(struct gw_thread *t, struct gw_record *record, struct gw_record_view *view)
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

/* Was all that counts of the chain brought with its page? What an entry leads to below head it has
 * led to ever since head passed that page: an entry changes to new records only, and a split copies
 * it as it is (tests/model/spin/pass.pml). */
static bool is_brought(const struct walk *w, uint64_t entry, bool one)
{
    struct gw_thread *t = w->t;
    if (GW_LIKELY(!w->brought) || !one)
        return false;
    gw_addr at = gw_addr_widen(gw_entry_narrow(entry), t->view.reference);
    return at.v >= t->view.begin && at.v < t->view.head &&
           !gwi_foreign_has(t->store->foreign, gw_entry_slot(entry), t->view.begin) &&
           w->brought(w->ctx, at.v >> t->log->page_bits);
}

/* Calls fn for what was gathered of an entry's chain. */
static bool visit(const struct walk *w, const struct gw_table_chain *bucket, uint64_t entry)
{
    struct gw_thread *t = w->t;
    for (uint32_t i = 0; i < t->chain_count; i++) {
        struct gw_record *record = t->chain[i];
        uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
        if (gw_control_kind(control) == GW_RECORD_INDIRECTION || gwi_gather_superseded(t, i))
            continue;
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
        if (!gwi_view_fill(t, record, &view))
            return false;
        if ((!view.tombstone || w->tombstones) && !w->fn(w->ctx, &view))
            return false;
    }
    return true;
}

static bool walk_chain(const struct walk *w, const struct gw_table_chain *bucket, uint64_t entry)
{
    struct gw_thread *t = w->t;
    struct gw_indirection within;
    bool one = chain_is_one(t, bucket->first, entry);
    if (is_brought(w, entry, one))
        return true;
    if (gwi_gather(t, entry, one) != GW_OK)
        return false;
    if (GW_UNLIKELY(gwi_foreign_has(t->store->foreign, gw_entry_slot(entry), t->view.begin))) {
        gwi_chain_prefix(t, bucket->first, entry, &within);
        if (gwi_gather_foreign(t, gw_entry_slot(entry), &within) != GW_OK)
            return false;
    }
    return visit(w, bucket, entry);
}

/* ---- chains whose rest stays where it is ---- */

/* Gives the indirection for those of its hashes that are wanted: in as many as there are prefixes,
 * so that none of them covers what another chunk of the range brings (R15). */
static bool give(const struct walk *w, const struct gw_table_chain *bucket,
                 const struct gw_indirection *in)
{
    uint64_t first = in->hash_prefix, last = gwi_prefix_last(in->hash_prefix, in->prefix_bits);
    first = first > w->hash_first ? first : w->hash_first;
    first = first > bucket->first ? first : bucket->first;
    last = last < w->hash_last ? last : w->hash_last;
    last = last < bucket->last ? last : bucket->last;
    while (first <= last) {
        struct gw_indirection part = *in;
        uint32_t bits = 64;
        while (bits > 0 && (first & UINT64_MAX >> (bits - 1)) == 0 &&
               gwi_prefix_last(first, bits - 1) <= last)
            bits--;
        part.hash_prefix = first;
        part.prefix_bits = (uint8_t)bits;
        if (!w->fn_in(w->ctx, &part))
            return false;
        uint64_t end = gwi_prefix_last(first, bits);
        if (end == UINT64_MAX)
            break;
        first = end + 1;
    }
    return true;
}

/* Those that were gathered and stand. Of a chain that cannot be read to its end none: what they
 * lead to may be older than what is damaged. */
static bool give_gathered(const struct walk *w, const struct gw_table_chain *bucket,
                          const struct gw_indirection *within)
{
    struct gw_thread *t = w->t;
    for (uint32_t i = 0; i < t->chain_count && !t->chain_cut; i++) {
        struct gw_indirection in;
        if (gwi_gather_stands(t, i, within, &in) && !give(w, bucket, &in))
            return false;
    }
    return true;
}

/* Gathers what has to be sent of a chain: what is in memory, and on the device what is not shared.
 * *rest: the first record behind that, 0: there is none. A chain that says of an indirection that
 * it is retired is taken whole: who begins below would not know. */
static enum gw_status gather_unshared(const struct walk *w, uint64_t entry, bool one,
                                      uint64_t *rest)
{
    struct gw_thread *t = w->t;
    bool retired = false;
    t->chain_count = 0;
    t->chain_cut = false;
    *rest = 0;
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.begin)
            return GW_OK;
        if (at.v < t->view.head && at.v < w->shared && !retired) {
            *rest = at.v;
            return GW_OK;
        }
        struct gw_record *const *records = NULL, *record;
        uint32_t count = 1;
        if (at.v < t->view.head) {
            enum gw_status st = gwi_cold_chain(t, at, one, false, &records, &count);
            if (gwi_gather_later(st))
                return st;
            t->chain_cut = st != GW_OK;
            count = st == GW_OK ? count : 0;
        } else {
            record = gw_log_at(&t->view, at);
            records = &record;
        }
        for (uint32_t i = 0; i < count; i++) {
            uint64_t here = gw_addr_widen(narrow, t->view.reference).v;
            if (here < t->view.begin)
                return GW_OK;
            if (here < w->shared && here < t->view.head && !retired) {
                *rest = here;
                return GW_OK;
            }
            uint64_t control = atomic_load_explicit(&records[i]->control, memory_order_relaxed);
            retired |= gw_control_kind(control) == GW_RECORD_INDIRECTION &&
                       (control & GW_CONTROL_TOMBSTONE);
            if (!gwi_gather_add(t, records[i]))
                return GW_E_NOMEM;
            narrow = gw_record_previous(records[i]);
        }
        if (one || at.v < t->view.head)
            return GW_OK;
    }
    return GW_OK;
}

static bool walk_shared_chain(const struct walk *w, const struct gw_table_chain *bucket,
                              uint64_t entry)
{
    struct gw_thread *t = w->t;
    uint64_t rest;
    if (gather_unshared(w, entry, chain_is_one(t, bucket->first, entry), &rest) != GW_OK ||
        !visit(w, bucket, entry))
        return false;
    struct gw_indirection in = {.log_id = w->log_id,
                                .address = rest,
                                .map_version = w->map_version,
                                .slot = gw_entry_slot(entry),
                                .begin = t->view.begin & ~(uint64_t)UINT16_MAX};
    gwi_chain_prefix(t, bucket->first, entry, &in);
    if (rest != 0 && !give(w, bucket, &in))
        return false;
    return give_gathered(w, bucket, &in);
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
    if (is_brought(w, entry, one))
        return true;
    if (w->fn_in) {
        if (!chain_top(w->t, entry, one, &top) || top.v < w->shared)
            return true;
    } else if (gwi_foreign_has(w->t->store->foreign, gw_entry_slot(entry), w->t->view.begin)) {
        struct gw_indirection within;
        gwi_chain_prefix(w->t, bucket->first, entry, &within);
        if (!gwi_gather_request(w->t, entry, &within, ahead, &((struct walk *)w)->requests))
            return false;
    }
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
 * them have any, not at all where none has. Looked for again when the cursor is half way through
 * what was looked at: callers come with a bucket at a time. */
static void request_ahead(struct walk *w, struct gw_cursor *cursor, uint64_t span)
{
    struct gw_table_chain bucket;
    uint64_t hash = cursor->hash;
    w->requests = 0;
    for (uint32_t i = 0; i < COLD_SPARSE * COLD_AHEAD && hash <= w->hash_last; i++) {
        if (!each_entry(w, hash, i == 0 ? request_now : request_early, &bucket) ||
            hash + span < hash || w->requests >= COLD_AHEAD ||
            (i >= COLD_AHEAD && w->requests == 0))
            break;
        hash += span;
    }
    cursor->ahead = cursor->hash + (hash - cursor->hash) / 2;
}

/* Moves the cursor behind the bucket whose last hash is `last`. */
static void cursor_step(struct gw_cursor *cursor, uint64_t last, uint64_t hash_last)
{
    if (last >= hash_last)
        cursor->done = true;
    else
        cursor->hash = last + 1;
}

static void walk(struct walk *w, struct gw_cursor *cursor, uint32_t buckets_max, entry_fn fn)
{
    struct gw_thread *t = w->t;
    GW_ASSERT(t->inside);
    w->hash_first = cursor->hash;
    if (cursor->hash > w->hash_last)
        cursor->done = true;
    for (uint32_t n = 0; n < buckets_max && !cursor->done; n++) {
        struct gw_table_chain bucket;
        gw_table_chain_open(t->table, cursor->hash, &bucket);
        uint64_t span = bucket.last - bucket.first + 1;
        uint64_t ahead = bucket.first + span * LOOKAHEAD;
        if (ahead > bucket.last && ahead <= w->hash_last)
            prefetch_records(w, ahead);
        if (t->cold && cursor->hash >= cursor->ahead)
            request_ahead(w, cursor, span);
        else if (t->cold) /* all of this one's at a time, again if it could not end */
            each_entry(w, cursor->hash, request_now, &(struct gw_table_chain){0});
        t->tops_count = 0; /* those of a turn that could not end are asked for again */
        if (!each_entry(w, cursor->hash, fn, &bucket))
            return;
        if (t->cold) {
            each_entry(w, cursor->hash, chain_drop, &(struct gw_table_chain){0});
            gwi_gather_drop(t);
        }
        cursor_step(cursor, bucket.last, w->hash_last);
    }
}

void gw_store_walk(struct gw_thread *t, struct gw_cursor *cursor, uint64_t hash_last,
                   const struct gw_slots *slots, bool tombstones, uint32_t buckets_max,
                   gw_walk_cb fn, void *ctx)
{
    struct walk w = {.t = t,
                     .hash_last = hash_last,
                     .slots = slots,
                     .tombstones = tombstones,
                     .fn = fn,
                     .ctx = ctx};
    walk(&w, cursor, buckets_max, walk_chain);
}

void gw_store_walk_rest(struct gw_thread *t, struct gw_cursor *cursor, uint64_t hash_last,
                        const struct gw_slots *slots, uint32_t buckets_max,
                        gw_walk_brought_cb brought, gw_walk_cb fn, void *ctx)
{
    struct walk w = {.t = t,
                     .hash_last = hash_last,
                     .slots = slots,
                     .tombstones = true,
                     .fn = fn,
                     .ctx = ctx,
                     .brought = brought};
    walk(&w, cursor, buckets_max, walk_chain);
}

void gw_store_walk_shared(struct gw_thread *t, struct gw_cursor *cursor, uint64_t hash_last,
                          const struct gw_slots *slots, uint64_t map_version, uint32_t buckets_max,
                          gw_walk_cb fn, gw_walk_indirection_cb fn_in, void *ctx)
{
    struct gw_device *device = t->log->device;
    bool shares = device && device->shared;
    uint64_t shared = shares ? device->shared(device) : 0;
    struct walk w = {.t = t,
                     .hash_last = hash_last,
                     .slots = slots,
                     .tombstones = true,
                     .fn = fn,
                     .ctx = ctx,
                     .fn_in = fn_in,
                     .map_version = map_version,
                     .log_id = shares ? device->log_id(device) : 0,
                     /* Beyond what an indirection can say everything is read. */
                     .shared = shared <= GW_INDIRECTION_ADDRESS_MAX ? shared : 0};
    walk(&w, cursor, buckets_max, walk_shared_chain);
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
        if (!gwi_gather_add(t, record) || one)
            break;
        narrow = gw_record_previous(record);
    }
    for (uint32_t i = 0; i < t->chain_count; i++) {
        uint64_t control = atomic_load_explicit(&t->chain[i]->control, memory_order_relaxed);
        struct gw_indirection in;
        if (gwi_gather_superseded(t, i))
            continue;
        if (gw_control_kind(control) == GW_RECORD_INDIRECTION) {
            if (!(control & GW_CONTROL_TOMBSTONE) && gwi_indirection_of(t->chain[i], control, &in))
                gwi_foreign_count(t->store->foreign, in.log_id, -1);
            control |= GW_CONTROL_TOMBSTONE; /* no key */
        }
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
