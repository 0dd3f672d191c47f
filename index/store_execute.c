/* store_execute.c - batches: four stages, so that the memory latency of one operation passes under
 * the work of the others.
 *
 *   stage 1, up to FIRST_AHEAD operations early: prefetch the bucket
 *   stage 2, up to SECOND_AHEAD: find the entry, prefetch the record or else the overflow line
 *   stage 3, up to THIRD_AHEAD: if it was the line, find there, prefetch the record
 *   stage 4: load the entry again, execute
 * The first three run in short bursts between blocks of executions (run_ahead says why). A read of
 * an 8-byte key touches two lines, its bucket and its record, and stores to nothing shared.
 *
 * Rules:
 *  1. What stages 2 and 3 found is a hint. Stage 4 reloads the entry, and looks up again if the
 *     place was empty or has another tag (ENGINE H12): op i may have created or replaced what op j
 *     needs.
 *  2. Stage 4 runs strictly in order. An operation that must be left undone (GW_RETRY, GW_ABSENT)
 *     keeps the later ones on its key from overtaking it: they are left undone too. Arrivals are
 *     nobody's session and are what an absent key waits for; they are executed.
 *  3. Nothing waits.
 *  4. An operation that must cross a cut (store_cut.h) is not executed: if it is the first of the
 *     call its thread crosses right there, else the call ends before it, so that the owner takes
 *     note of what came before. Then the next call crosses at its start. */
#include <string.h>

#include "index/cold.h"
#include "index/store_internal.h"

#define BLOCK         48u
#define FIRST_AHEAD   (3 * BLOCK)
#define SECOND_AHEAD  (2 * BLOCK)
#define THIRD_AHEAD   BLOCK
#define HINTS         256u /* a power of two, not below FIRST_AHEAD + BLOCK */
#define UNDONE_PLACES 512u /* a power of two */
#define UNDONE_MAX    256u /* half of it */

struct hint {
    struct gw_bucket *bucket; /* after stage 2: the overflow line to look at, NULL: none */
    _Atomic uint64_t *place;  /* NULL: nothing found so far */
    uint64_t tag;
};

/* Keys that were left undone in this call: a small open table, cleared at the first one, since most
 * calls have none. While a range arrives nearly every key of a batch may be absent, so the list has
 * to hold a whole batch: what does not fit is left undone unseen, and then asked for in vain. */
struct undone {
    uint32_t count;
    enum gw_status rest; /* of everything, once the table is full */
    struct {
        uint64_t hash;
        enum gw_status status; /* GW_OK: empty */
    } key[UNDONE_PLACES];
};

/* ---- reading ---- */

/* Control is loaded before and after the value's words (record_inline.h, rule 3); the seal changes
 * nothing in them. */
enum gw_status gwi_read_value(struct gw_thread *t, struct gw_op *op, struct gw_record *record,
                              struct gwi_room *room)
{
    for (uint32_t tries = 0; tries < GWI_TRIES; tries++) {
        /* Acquire: the value's words are at least as new; pairs with gw_record_unlock. */
        uint64_t before = atomic_load_explicit(&record->control, memory_order_acquire);
        if (GW_UNLIKELY(before & GW_CONTROL_LOCKED)) {
            gwi_pause();
            continue;
        }
        op->version = gw_control_version(before);
        op->kind = (uint8_t)gw_control_kind(before);
        if (GW_UNLIKELY(before & GW_CONTROL_TOMBSTONE))
            return GW_TOMBSTONE;
        /* A time that is read while somebody changes it does not count: see the end. */
        op->expiry_ms = gw_record_expiry(record, before);
        bool expired = op->expiry_ms != 0 && op->expiry_ms <= t->now_ms;
        _Atomic uint64_t *value = gw_record_value(record, before);
        uint64_t bytes = 0;
        if (GW_UNLIKELY(expired)) {
            ; /* what the value holds means nothing */
        } else if (gw_control_kind(before) == GW_RECORD_COUNTER) {
            op->number = (int64_t)atomic_load_explicit(value, memory_order_acquire);
        } else {
            bytes = gw_record_value_bytes(record, before);
            op->out_bytes = (uint32_t)bytes;
            if (bytes > (size_t)(room->end - room->at))
                return GW_WOULD_BLOCK;
            op->out = room->at;
            gw_value_load(room->at, value, bytes);
        }
        /* Relaxed: the acquire loads of the value keep it behind them. */
        uint64_t after = atomic_load_explicit(&record->control, memory_order_relaxed);
        if (GW_UNLIKELY((before ^ after) & ~GW_CONTROL_SEALED))
            continue;
        if (GW_UNLIKELY(expired))
            return GW_TOMBSTONE;
        gwi_record_met(t, record);
        gwi_room_take(room, bytes);
        return GW_OK;
    }
    return GW_RETRY;
}

/* A record that is read shortly before it leaves memory, or again after it has left, is copied to
 * the tail. On the device only the second read of a while counts: a copy of every cold record that
 * is read once would push out what is hot. The answer of the read is good whether it succeeds or
 * not. */
static void promote(struct gw_thread *t, const struct gw_op *op,
                    const struct gwi_position *position)
{
    bool sampled = GW_UNLIKELY(t->sample != NULL) && gw_slots_has(t->sample, op->slot);
    if (GW_UNLIKELY(t->sample != NULL) && !sampled && position->address.v >= t->aging)
        return; /* store_sample.c */
    if (position->address.v < t->view.head && !sampled && !gwi_cold_again(t->cold, op->hash))
        return;
    if (gwi_copy_to_tail(t, position, op->hash, false) == GW_OK)
        gwi_count(&t->counters.promoted, 1);
}

static __attribute__((noinline)) enum gw_status read_one(struct gw_thread *t, struct gw_op *op,
                                                         struct gwi_position *position,
                                                         struct gwi_room *room)
{
    enum gwi_walk walk = GWI_ABSENT;
    if (GW_LIKELY(position->place != NULL))
        walk = gwi_chain_find(t, op->key, op->key_bytes, position);
    enum gw_status why = GW_OK;
    if (GW_UNLIKELY(walk == GWI_COLD) && op->verb == GW_VERB_FETCH && gwi_leads(t, op, position))
        return GW_END;
    if (GW_UNLIKELY(walk == GWI_COLD))
        walk = gwi_find_cold(t, op, position, &why);
    if (GW_UNLIKELY(walk == GWI_ABSENT) && gwi_may_be_foreign(t) && position->place)
        walk = gwi_find_foreign(t, op, position, &why);
    if (GW_UNLIKELY(walk != GWI_FOUND)) {
        if (walk == GWI_COLD)
            return why == GW_NOT_YET ? GW_RETRY : why;
        return (op->flags & GW_OP_UNSETTLED) ? GW_ABSENT : GW_NOT_FOUND;
    }
    enum gw_status st = gwi_read_value(t, op, position->record, room);
    if (GW_UNLIKELY(st == GW_TOMBSTONE) && op->verb == GW_VERB_READ)
        return GW_NOT_FOUND;
    if (GW_UNLIKELY(position->address.v < t->view.aging) && st == GW_OK && op->verb == GW_VERB_READ)
        promote(t, op, position);
    return st;
}

/* ---- the common cases: a counter under a key of 8 bytes ---- */

/* Control word of a plain counter under a key of 8 bytes, but for version, slack, arrived, parity:
 * one compare tells that key and value lie at fixed places and nothing is in the way. */
#define SMALL_MASK                                                                                 \
    ((uint64_t)UINT16_MAX << GW_CONTROL_KEY_SHIFT | (uint64_t)3 << GW_CONTROL_KIND_SHIFT |         \
     GW_CONTROL_EXPIRY | GW_CONTROL_TOMBSTONE | GW_CONTROL_LOCKED)
#define SMALL_COUNTER                                                                              \
    ((uint64_t)8 << GW_CONTROL_KEY_SHIFT | (uint64_t)GW_RECORD_COUNTER << GW_CONTROL_KIND_SHIFT)

struct small_record { /* what such a record looks like */
    uint64_t link;
    _Atomic uint64_t control;
    uint64_t key;
    _Atomic uint64_t value;
};
static_assert(sizeof(struct small_record) == 32, "a counter under 8 bytes takes 32");
static_assert(GW_CONTROL_ARRIVED >> 6 == GW_EFFECT_START &&
                  GW_CONTROL_PARITY >> 4 == GW_EFFECT_FIRST,
              "add_small shifts the one to the other");

/* The common read: the newest record of the chain is a small counter and nobody changes it now.
 * False: not that simple, read_one does it. */
static inline bool read_small(struct gw_thread *t, struct gw_op *op,
                              const struct gwi_position *position)
{
    gw_addr at = gw_addr_widen(gw_entry_narrow(position->entry), t->view.reference);
    if (GW_UNLIKELY(at.v < t->view.aging) || op->key_bytes != 8)
        return false;
    struct small_record *record = (struct small_record *)gw_log_at(&t->view, at);
    /* Acquire and the order of loads: record_inline.h, rule 3. */
    uint64_t before = atomic_load_explicit(&record->control, memory_order_acquire);
    if ((before & SMALL_MASK) != SMALL_COUNTER || record->key != gw_load64(op->key))
        return false;
    uint64_t value = atomic_load_explicit(&record->value, memory_order_acquire);
    uint64_t after = atomic_load_explicit(&record->control, memory_order_relaxed);
    if (GW_UNLIKELY((before ^ after) & ~GW_CONTROL_SEALED))
        return false;
    op->number = (int64_t)value;
    op->version = gw_control_version(before);
    op->kind = GW_KIND_COUNTER;
    op->expiry_ms = 0;
    return true;
}

/* The common update, as common as that: add to a small counter in place. False: gwi_write does it.
 */
static inline bool add_small(struct gw_thread *t, struct gw_op *op,
                             const struct gwi_position *position)
{
    gw_addr at = gw_addr_widen(gw_entry_narrow(position->entry), t->view.reference);
    if (GW_UNLIKELY(at.v < t->view.read_only) || op->key_bytes != 8)
        return false;
    /* What was there when the view was loaded lies below every cut that it does not know. */
    if (GW_UNLIKELY(at.v >= t->view.fresh) && gw_log_cut_is_newer(t->log, &t->view))
        return false;
    struct gw_record *record = gw_log_at(&t->view, at);
    struct small_record *small = (struct small_record *)record;
    /* Relaxed: the lock's CAS acquires; the key was acquired with the entry. */
    uint64_t control = atomic_load_explicit(&small->control, memory_order_relaxed);
    if ((control & (SMALL_MASK | GW_CONTROL_SEALED)) != SMALL_COUNTER ||
        small->key != gw_load64(op->key) || GW_UNLIKELY(!gw_record_lock(record, control)))
        return false;
    int64_t sum,
        old = (int64_t)atomic_load_explicit(&small->value, memory_order_relaxed); /* locked */
    if (GW_UNLIKELY(__builtin_add_overflow(old, op->delta, &sum))) {
        gw_record_unlock(record, control);
        return false;
    }
    /* Release: see gw_value_store. */
    atomic_store_explicit(&small->value, (uint64_t)sum, memory_order_release);
    uint64_t next = ((control & ~(GW_CONTROL_ARRIVED | GW_CONTROL_PARITY)) | t->view.parity) +
                    ((uint64_t)1 << GW_CONTROL_VERSION_SHIFT);
    gw_record_unlock(record, next);
    /* As gwi_effect says; a record that changes in place lies above the cut. */
    op->effect = (uint8_t)(GW_EFFECT_CHANGED | (control >> 6 & GW_EFFECT_START) |
                           ((control ^ t->view.parity) >> 4 & GW_EFFECT_FIRST));
    if (GW_UNLIKELY(t->gives_results))
        op->expiry_ms = 0;
    op->number = sum;
    op->version = gw_control_version(next);
    op->kind = GW_KIND_COUNTER;
    gwi_count_highest(&t->counters.version_highest, op->version);
    return true;
}

/* ---- stages ---- */

static inline void stage1(const struct gw_table *table, const struct gw_op *op, struct hint *hint)
{
    hint->bucket = gw_table_bucket(table, op->hash);
    hint->tag = gw_table_tag(table, op->hash, op->slot);
    __builtin_prefetch(hint->bucket, 0, 3);
}

/* Stages 2 and 3. One key in twenty lies in an overflow line at five keys a bucket; without a stage
 * of their own each of them would wait for its record. */
static inline void look(const struct gw_table *table, const struct gw_log_view *view,
                        uint32_t beyond, const struct gw_op *op, struct hint *hint)
{
    uint64_t entry;
    struct gw_bucket *bucket = hint->bucket;
    _Atomic uint64_t *place = gw_bucket_find(bucket, hint->tag, &entry);
    hint->place = place;
    if (GW_LIKELY(place != NULL)) {
        hint->bucket = NULL;
        gw_addr at = gw_addr_widen(gw_entry_narrow(entry), view->reference);
        if (GW_LIKELY(at.v >= view->head)) {
            const uint8_t *record = (const uint8_t *)gw_log_at(view, at);
            __builtin_prefetch(record, 0, 3);
            if (GW_UNLIKELY(beyond != 0)) {
                for (uint32_t i = GW_CACHE_LINE; i < beyond; i += GW_CACHE_LINE)
                    __builtin_prefetch(record + i, 0, 3);
                __builtin_prefetch(record + beyond, 0, 3);
            }
        }
        return;
    }
    hint->bucket = gw_table_next_line(table, op->hash, bucket);
    if (hint->bucket)
        __builtin_prefetch(hint->bucket, 0, 3);
}

static inline enum gw_status stage4(struct gw_thread *t, struct gw_op *op, const struct hint *hint,
                                    struct gwi_room *room)
{
    if (GW_UNLIKELY(op->key_bytes == 0))
        return GW_E_INVALID;
    struct gwi_position position;
    uint64_t tag = hint->tag;
    position.place = hint->place;
    position.entry = 0;
    if (GW_LIKELY(position.place != NULL)) {
        /* Acquire: as in gw_bucket_find. */
        position.entry = atomic_load_explicit(position.place, memory_order_acquire);
        if (GW_UNLIKELY(!gw_entry_matches(position.entry, tag)))
            position.place = NULL;
    }
    if (GW_UNLIKELY(position.place == NULL)) {
        position.place = gw_table_find(t->table, op->hash, tag, &position.entry);
        if (!position.place)
            position.entry = 0;
    }
    switch (op->verb) {
    case GW_VERB_READ:
    case GW_VERB_FETCH:
        if (GW_LIKELY(position.place != NULL) && GW_LIKELY(read_small(t, op, &position)))
            return GW_OK;
        return read_one(t, op, &position, room);
    case GW_VERB_ADD:
        if (GW_LIKELY(!(op->flags & (GW_OP_BOUNDED | GW_OP_HAS_EXPIRY))) &&
            GW_LIKELY(position.place != NULL) && GW_LIKELY(add_small(t, op, &position)))
            return GW_OK;
        return gwi_write(t, op, room);
    case GW_VERB_UPSERT:
    case GW_VERB_DELETE:
    case GW_VERB_CAS:
    case GW_VERB_INSERT:
    case GW_VERB_ARRIVE:
    case GW_VERB_TOUCH:
    case GW_VERB_READ_TOUCH:
    case GW_VERB_APPEND:
    case GW_VERB_PREPEND:
    case GW_VERB_GETSET:
    case GW_VERB_GETDEL:
    case GW_VERB_RESTORE:
        return gwi_write(t, op, room);
    default:
        return GW_E_INVALID;
    }
}

/* How far each of the first three stages has come. */
struct ahead {
    uint32_t first, second, third;
};

/* Brings the first three stages a block further, in tight loops: many short iterations fit the
 * processor's window, so that their address translations and misses overlap. Twice a block, for
 * different stages, so that a burst never needs more line buffers than there are: the misses of
 * one pass while operations execute. */
static void run_ahead(struct gw_thread *t, const struct gw_op *ops, uint32_t n, struct hint *hints,
                      uint32_t now, struct ahead *ahead)
{
    uint32_t first = ahead->first, second = ahead->second, third = ahead->third;
    /* Copies whose addresses stay here: the compiler keeps them in registers over the stores to the
     * hints, which could otherwise be stores to them. */
    const struct gw_table table = *t->table;
    const struct gw_log_view view = t->view;
    const uint32_t beyond = t->record_beyond;
    bool odd = now % BLOCK != 0;
    if (!odd)
        for (; first < n && first < now + FIRST_AHEAD; first++)
            stage1(&table, &ops[first], &hints[first % HINTS]);
    if (odd || now == 0) {
        for (; second < n && second < now + SECOND_AHEAD; second++)
            look(&table, &view, beyond, &ops[second], &hints[second % HINTS]);
        for (; third < n && third < now + THIRD_AHEAD; third++)
            if (GW_UNLIKELY(hints[third % HINTS].bucket != NULL))
                look(&table, &view, beyond, &ops[third], &hints[third % HINTS]);
    }
    *ahead = (struct ahead){first, second, third};
}

/* ---- operations left undone ---- */

static void undone_add(struct undone *undone, uint64_t hash, enum gw_status status)
{
    if (undone->count == 0)
        memset(undone->key, 0, sizeof undone->key);
    if (undone->count == UNDONE_MAX) {
        undone->rest = status;
        return;
    }
    uint32_t at = hash & (UNDONE_PLACES - 1);
    while (undone->key[at].status != GW_OK && undone->key[at].hash != hash)
        at = (at + 1) & (UNDONE_PLACES - 1);
    undone->count += undone->key[at].status == GW_OK;
    undone->key[at].hash = hash;
    undone->key[at].status = status;
}

/* The status with which this key was left undone, GW_OK if it was not. Equal hashes count as equal
 * keys: the wrong guess costs a turn. */
static enum gw_status undone_find(const struct undone *undone, uint64_t hash)
{
    for (uint32_t at = hash & (UNDONE_PLACES - 1); undone->key[at].status != GW_OK;
         at = (at + 1) & (UNDONE_PLACES - 1))
        if (undone->key[at].hash == hash)
            return undone->key[at].status;
    return undone->rest;
}

uint32_t gw_store_execute(struct gw_thread *t, struct gw_op *ops, uint32_t n, uint8_t *room_start,
                          size_t room_bytes, size_t *room_used)
{
    GW_ASSERT(t->inside);
    struct hint hints[HINTS];
    struct gwi_room room = {room_start, room_start + room_bytes};
    struct undone undone;
    undone.count = 0;
    undone.rest = GW_OK;
    struct ahead ahead = {0, 0, 0};
    uint32_t i = 0;
    gw_store_cross(t);
    for (; i < n; i++) {
        if (i % (BLOCK / 2) == 0)
            run_ahead(t, ops, n, hints, i, &ahead);
        struct gw_op *op = &ops[i];
        enum gw_status st = GW_OK;
        if (GW_UNLIKELY(undone.count != 0) && op->verb != GW_VERB_ARRIVE)
            st = undone_find(&undone, op->hash);
        if (GW_LIKELY(st == GW_OK))
            st = stage4(t, op, &hints[i % HINTS], &room);
        if (GW_UNLIKELY(t->must_cross)) {
            t->must_cross = false;
            if (i != 0 && t->cross_cb) /* rule 4: the owner first */
                break;
            gwi_cross(t);
            i--; /* this one again: nothing of it has been done */
            continue;
        }
        op->status = (int8_t)st;
        if (GW_LIKELY(st == GW_OK))
            continue;
        if (st == GW_RETRY || st == GW_ABSENT || st == GW_PENDING) {
            undone_add(&undone, op->hash, st);
            if (st == GW_RETRY)
                gwi_count(&t->counters.retries, 1);
        } else if (st == GW_WOULD_BLOCK) {
            break;
        }
    }
    for (uint32_t j = i; j < n; j++)
        ops[j].status = GW_WOULD_BLOCK;
    *room_used = (size_t)(room.at - room_start);
    return i;
}
