/* store_internal.h - what the files of the store share: its structs, look-up in a chain of records,
 * publication. Layer: index. */
#ifndef GW_INDEX_STORE_INTERNAL_H
#define GW_INDEX_STORE_INTERNAL_H

#include <pthread.h>

#include "index/base/clock.h"
#include "index/chains.h"
#include "index/epoch.h"
#include "index/floors.h"
#include "index/log.h"
#include "index/record_inline.h"
#include "index/store.h"
#include "index/store_cut.h"
#include "index/table.h"

#define GWI_TRIES 64u /* bound of every spin on another thread's record (ENGINE rule 10) */

/* One thread's numbers: written by it alone (relaxed load and store), read by the statistics. */
struct gwi_counters {
    _Atomic int64_t keys; /* made live less deleted */
    /* Bytes of the newest records of all keys, tombstones included until they are dropped: what is
     * published is added, what it supersedes taken off, by who publishes. */
    _Atomic int64_t live_bytes;
    _Atomic uint64_t refused_full, retries, copies, cold, promoted, corrupt;
    _Atomic uint64_t evicted, expired, compacted_bytes, compacted_live_bytes, compact_reads;
    _Atomic uint32_t walk_longest, version_highest;
};

struct gwi_cold;
struct gwi_foreign;
struct gwi_compactor;
struct gwi_compact;
struct gwi_pages;

/* Adds what a thread counted to a sum. */
void gwi_counters_add(struct gwi_counters *into, const struct gwi_counters *from);

struct gw_store {
    struct gw_table *table;
    struct gw_log *log;
    struct gw_epoch *epoch;
    struct gwi_chains *chains;   /* which chains hold more than one key */
    struct gwi_floors *floors;   /* below which records of a slot are no more */
    struct gwi_foreign *foreign; /* which slots have indirections */
    struct gwi_compactor *compactor;
    uint64_t expiry_ms; /* no thread's clock begins below it; rises as they close, under `lock` */
    const struct gw_clock *clock;
    uint64_t hash_seed;
    uint64_t memory_bytes; /* index and log together */
    uint64_t index_bytes, index_bytes_max;
    _Atomic uint64_t index_refused_ns; /* since when; 0: the index asks for what it lacks */
    uint64_t units_max;                /* of a record */
    _Atomic bool expires;              /* a record with an expiry was written once */
    /* gw_store_retain: without `retains` nothing of this counts */
    bool retains;
    _Atomic uint64_t retain_begin, retain_end;
    _Atomic bool wants_checkpoint;
    _Atomic uint32_t version_floor; /* only rises */
    _Atomic uint32_t version_base;  /* see gwi_first_version */
    /* store_sample.c: slots whose hot records gather at the tail, NULL: none; an epoch keeps them
     */
    _Atomic(struct gw_slots *) sample;
    _Atomic uint64_t sample_from;
    uint32_t threads_max, cold_reads_max;
    pthread_mutex_t lock;       /* threads[], closed */
    struct gwi_counters closed; /* sums of the threads that are gone */
    struct gw_thread *threads[GW_STORE_THREADS_MAX];
};

struct gw_thread {
    _Alignas(GW_CACHE_LINE) struct gw_store *store;
    struct gw_table *table;
    struct gw_log *log;
    struct gw_log_view view; /* loaded by gw_store_enter */
    uint64_t crossed;        /* the cut that its operations know, as view.cut */
    /* Of this stay in the epoch; then view.aging and view.read_only are where the sampling began or
     * read_only, whichever is higher, and these are what they were (store_sample.c). */
    const struct gw_slots *sample;
    uint64_t aging, read_only;
    uint64_t interval;
    gw_cross_cb cross_cb; /* NULL: nobody cares */
    void *cross_ctx;
    bool must_cross; /* why gwi_write answered GW_WOULD_BLOCK */
    bool gives_results;
    struct gwi_cold *cold; /* NULL: no device */
    struct gwi_compact *compact;
    struct gwi_pages *pages; /* store_page.c */
    /* Wall time, loaded by gw_store_enter; it never goes back. One thread's is enough: a session
     * lives on one thread, so no session sees a key again that it has seen expired, and every
     * decision is made on one thread under the record's lock, seal or entry. Between threads the
     * clocks are one, unless somebody sets it back. Atomic for who asks how late it got. */
    _Atomic uint64_t now_ms;
    uint32_t slot;  /* in the epoch */
    uint32_t turns; /* of gw_store_poll, as far as anybody counts them */
    bool inside;
    /* How far behind its first byte a record that is looked for may have lines of interest: the
     * sizes met lately, smoothed; 0 when they end with their first line. A guess for prefetches. */
    uint32_t record_beyond;
    uint8_t *scratch; /* values met by a walk */
    size_t scratch_bytes;
    struct gw_record **chain; /* records of a chain that is walked */
    uint32_t chain_count, chain_room;
    bool chain_cut; /* what is behind them could not be read (gather.h) */
    gw_addr *tops;  /* of chains of other logs that it has read (gather.h) */
    uint32_t tops_count, tops_room;
    struct gwi_counters counters;
};

static inline void gwi_count(_Atomic uint64_t *counter, uint64_t n)
{
    /* Relaxed: one writer; readers want a recent number, nothing else. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void gwi_count_keys(struct gw_thread *t, int64_t n)
{
    _Atomic int64_t *keys = &t->counters.keys;
    atomic_store_explicit(keys, atomic_load_explicit(keys, memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void gwi_count_live(struct gw_thread *t, int64_t bytes)
{
    _Atomic int64_t *live = &t->counters.live_bytes;
    atomic_store_explicit(live, atomic_load_explicit(live, memory_order_relaxed) + bytes,
                          memory_order_relaxed);
}
static inline void gwi_count_highest(_Atomic uint32_t *highest, uint32_t value)
{
    if (GW_UNLIKELY(value > atomic_load_explicit(highest, memory_order_relaxed)))
        atomic_store_explicit(highest, value, memory_order_relaxed);
}

#define GWI_BEYOND_MAX 1024u /* what lies further is fetched by the processor's own streams */

/* A record was met: the next ones are likely to be of its size. Those of 32 bytes, when there are
 * no others, lie within a line. */
static inline void gwi_record_met(struct gw_thread *t, const struct gw_record *record)
{
    uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
    uint32_t now = bytes <= 32 ? 0 : bytes < GWI_BEYOND_MAX ? (uint32_t)bytes - 1 : GWI_BEYOND_MAX;
    t->record_beyond =
        now == 0 ? t->record_beyond / 2 : t->record_beyond - t->record_beyond / 8 + now / 8;
}

/* What an image says of a store that is to go on from it; the log begins at options.log_start. */
struct gwi_table_shape;
struct gwi_store_origin {
    const struct gwi_table_shape *shape;
    gw_addr begin, end;
    const struct gw_addr_range *gaps;
    uint32_t gaps_count;
    int64_t waste;
    uint64_t expiry_ms;
    uint64_t number; /* of the image: the store begins in the interval after it */
};
/* gw_store_open; origin NULL: of an empty store. GW_E_LIMIT: too many gaps. */
GW_MUST_USE enum gw_status gwi_store_open_from(const struct gw_store_options *options,
                                               const struct gwi_store_origin *origin,
                                               struct gw_store **out);

/* ---- the epoch's bracket, and the cut (store_cut.c) ---------------------------------------------
 */

/* As gw_store_enter, for the store's own work: whatever cut the view has, the thread's operations
 * do not cross it. */
void gwi_store_enter(struct gw_thread *t);
/* Loads the view; inside the epoch. */
void gwi_view_load(struct gw_thread *t);
/* Goes over to the newest cut: loads the view again and tells the owner. */
void gwi_cross(struct gw_thread *t);
/* Must this operation belong to a later interval than its thread is in? Ask when it has met a
 * record at or above view.fresh, or got room, and nothing of it has been done. Then it is not
 * executed: the answer is GW_WOULD_BLOCK and gw_store_execute sees to it. What belongs to no
 * session stays. */
static inline bool gwi_must_cross(struct gw_thread *t, const struct gw_op *op)
{
    if (GW_LIKELY(!gw_log_cut_is_newer(t->log, &t->view)) || op->verb == GW_VERB_ARRIVE ||
        op->verb == GW_VERB_RESTORE)
        return false;
    t->must_cross = true;
    return true;
}

/* From where on the records of a slot are changed in place. */
static inline uint64_t gwi_read_only(const struct gw_thread *t, uint16_t slot)
{
    if (GW_LIKELY(t->sample == NULL) || gw_slots_has(t->sample, slot))
        return t->view.read_only;
    return t->read_only;
}

/* The parity bit of a copy that changes nothing, of the record with this control word, from one
 * address to another: who changes it next is to learn whether it was changed since the cut. */
static inline uint64_t gwi_copy_parity(const struct gw_log_view *view, uint64_t control,
                                       gw_addr from, gw_addr to)
{
    uint64_t cut = gw_log_cut_address(view);
    return from.v < cut && to.v >= cut ? view->parity ^ GW_CONTROL_PARITY
                                       : control & GW_CONTROL_PARITY;
}

/* ---- look-up ------------------------------------------------------------------------------------
 */

enum gwi_walk {
    GWI_FOUND,
    GWI_COLD,   /* the chain goes on below head; *address says where. Not "absent" (ENGINE H6) */
    GWI_ABSENT, /* the chain's end was reached */
};

/* Where an operation's key was found, or the entry at which its search began. */
struct gwi_position {
    _Atomic uint64_t *place; /* NULL: no entry has the tag */
    uint64_t entry;
    struct gw_record *record; /* FOUND */
    gw_addr address;          /* FOUND, COLD: with a failure, where the chain cannot be read */
};

/* Finds the newest record of the key in the chain that begins at position->entry. */
static inline enum gwi_walk gwi_chain_find(struct gw_thread *t, const uint8_t *key,
                                           uint16_t key_bytes, struct gwi_position *position)
{
    uint64_t narrow = gw_entry_narrow(position->entry);
    uint32_t steps = 0;
    do {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        position->address = at;
        if (GW_UNLIKELY(at.v < t->view.head))
            return at.v < t->view.begin ? GWI_ABSENT : GWI_COLD;
        struct gw_record *record = gw_log_at(&t->view, at);
        /* Relaxed: key bytes and kind of layout never change once published, and publication was
         * acquired with the entry; who reads the value loads control again, with acquire. */
        uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
        steps++;
        if (GW_LIKELY(gw_record_has_key(record, control, key, key_bytes))) {
            position->record = record;
            if (GW_UNLIKELY(steps > 1))
                gwi_count_highest(&t->counters.walk_longest, steps);
            return GWI_FOUND;
        }
        narrow = gw_record_previous(record);
    } while (narrow != 0);
    gwi_count_highest(&t->counters.walk_longest, steps);
    return GWI_ABSENT;
}

/* Does neither the effect nor the answer of this write depend on what the key holds (MIGRATION
 * R18)? Arrivals, which only take the place of nothing, are not meant. */
static inline bool gwi_writes_blind(const struct gw_op *op)
{
    return op->verb == GW_VERB_UPSERT && !(op->flags & GW_OP_KEEP_EXPIRY);
}

/* What lies behind GWI_COLD; see gwi_cold_find. A blind write does not ask for what is known to be
 * out of reach: GWI_COLD, GW_E_UNREACHABLE. */
enum gwi_walk gwi_find_cold(struct gw_thread *t, const struct gw_op *op,
                            struct gwi_position *position, enum gw_status *status);

/* What lies behind the indirections of a chain that ended ABSENT; see gwi_follow (foreign.h). */
enum gwi_walk gwi_find_foreign(struct gw_thread *t, const struct gw_op *op,
                               struct gwi_position *position, enum gw_status *status);
/* Whoever found nothing asks this: a look-up that ends absent pays one load. */
static inline bool gwi_may_be_foreign(const struct gw_thread *t)
{
    /* Relaxed: what the chain holds was acquired (foreign.h, rule 1). The flag is the first word of
     * struct gwi_foreign. */
    return GW_UNLIKELY(
        atomic_load_explicit((const _Atomic uint8_t *)t->store->foreign, memory_order_relaxed));
}

/* The version of a key that is created from nothing, at this address (ENGINE section 2, MIGRATION
 * rule 19): addresses are never used again, so no two lives begin alike. The base rises when
 * versions must lie above others: a floor, or those of a key that leaves the store for good. */
static inline uint32_t gwi_first_version(const struct gw_store *store, gw_addr address)
{
    uint32_t version = (uint32_t)(address.v >> GW_ADDR_UNIT_BITS) +
                       atomic_load_explicit(&store->version_base, memory_order_acquire);
    return version ? version : 1;
}
/* The version of a key of which it cannot be known now whether and with what version it is there:
 * above every version that was ever given here, this number too. Once these have come to the end of
 * their 32 bits there is no such number; then that of a key that is created at this address
 * (docs/decisions/0011). */
uint32_t gwi_version_above_all(const struct gw_store *store, gw_addr address);
/* A key that had this version leaves the store, tombstone and all: if it comes back it begins
 * above, else a CAS that somebody prepared in its earlier life could succeed (ENGINE H3). Before it
 * is left behind. */
void gwi_version_leaves(struct gw_store *store, uint32_t version);

/* Looks the key up from the table on: place, entry and, if FOUND, record and address. COLD: *status
 * says why it cannot be known now. */
static inline enum gwi_walk gwi_find(struct gw_thread *t, const struct gw_op *op,
                                     struct gwi_position *position, enum gw_status *status)
{
    uint64_t tag = gw_table_tag(t->table, op->hash, op->slot);
    position->place = gw_table_find(t->table, op->hash, tag, &position->entry);
    if (!position->place) {
        position->entry = 0;
        return GWI_ABSENT;
    }
    enum gwi_walk walk = gwi_chain_find(t, op->key, op->key_bytes, position);
    if (GW_UNLIKELY(walk == GWI_COLD))
        walk = gwi_find_cold(t, op, position, status);
    if (GW_UNLIKELY(walk == GWI_ABSENT) && gwi_may_be_foreign(t))
        walk = gwi_find_foreign(t, op, position, status);
    return walk;
}

/* Copies the record as it is to the tail and puts the copy in its place, if the entry of its chain
 * still is position->entry: the caller has walked from there to the record and seen no newer one of
 * its key (ENGINE H18). Version, expiry and `arrived` stay. GW_OK; GW_RETRY: the chain changed, or
 * somebody changes the record now; else as gw_log_allocate. `reserved`: see there. */
enum gw_status gwi_copy_to_tail(struct gw_thread *t, const struct gwi_position *position,
                                uint64_t hash, bool reserved);

/* Where the log begins for whoever may read it yet: retained checkpoints, and the one that is being
 * made, whose image begins where the log did at its cut. */
static inline uint64_t gwi_begin_needed(const struct gw_store *store, uint64_t begin)
{
    if (!store->retains)
        return begin;
    uint64_t kept = atomic_load_explicit(&store->retain_begin, memory_order_acquire);
    return kept < begin ? kept : begin;
}

/* Notes that the private record at `address` is about to be put before a record of another key
 * (chains.h). Every caller of gwi_publish calls it first unless the entry leads to a record of the
 * key that it publishes. Nothing to note when the entry leads below begin. */
static inline void gwi_mark_mixed(struct gw_thread *t, uint64_t hash, uint16_t slot, uint64_t entry,
                                  gw_addr address)
{
    if (gw_addr_widen(gw_entry_narrow(entry), t->view.reference).v >= t->view.begin)
        gwi_chains_mark(t->store->chains, gwi_chains_name(slot, hash, t->table->split_shift),
                        address, gwi_begin_needed(t->store, t->view.begin));
}

/* Makes the private record at `address` the newest of the chain whose entry is `entry`. False: the
 * entry has changed, or the record does not lie above what it would follow (ENGINE H13: then make
 * it void and allocate anew). */
bool gwi_publish(struct gw_thread *t, _Atomic uint64_t *place, uint64_t entry,
                 struct gw_record *record, gw_addr address);

/* What is left of the caller's room for values. */
struct gwi_room {
    uint8_t *at, *end;
};

/* Live bytes of a key, as a mean; a look at all threads' numbers, not for hot paths. */
uint64_t gwi_mean_record_bytes(const struct gw_store *store);
uint64_t gwi_live_bytes(const struct gw_store *store);   /* the same */
uint64_t gwi_copied_bytes(const struct gw_store *store); /* by compaction */

/* Copies the record's value and says what else is to be said of it. GW_OK, GW_TOMBSTONE, GW_RETRY;
 * GW_WOULD_BLOCK: no room. */
enum gw_status gwi_read_value(struct gw_thread *t, struct gw_op *op, struct gw_record *record,
                              struct gwi_room *room);

/* May a look-up of this key be answered by where the cold rest of its chain begins, which is
 * position->address? Then op->number is that (store_follow.c). */
bool gwi_leads(const struct gw_thread *t, struct gw_op *op, const struct gwi_position *position);

/* Executes a verb that may change something: everything but READ and FETCH. */
enum gw_status gwi_write(struct gw_thread *t, struct gw_op *op, struct gwi_room *room);

/* Takes `bytes` of the room that hold a value now, rounded up so that the next one is aligned. */
static inline void gwi_room_take(struct gwi_room *room, uint64_t bytes)
{
    uint64_t step = gw_round8(bytes);
    uint64_t left = (uint64_t)(room->end - room->at);
    room->at += step < left ? step : left;
}

/* ---- the index (store_index.c) ------------------------------------------------------------------
 */

/* For struct gw_table_records; ctx: the store. */
void gwi_index_range(void *ctx, gw_addr *begin, gw_addr *reference);
uint32_t gwi_index_sides(void *ctx, uint64_t entry, uint32_t shift);
/* A bounded piece of the growth of the index, and the share of memory between index and log;
 * outside of the epoch, once a turn. True: there is more to do at once. */
bool gwi_index_turn(struct gw_thread *t);
/* Gives the log the frames that the index leaves to it. */
void gwi_index_share(struct gw_store *store);

static inline void gwi_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}
#endif
