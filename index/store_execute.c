/* store_execute.c - batches: three stages a few operations apart, so that the memory latency of
 * one operation passes under the work of its neighbours.
 *
 *   stage 1, for op i + 2 x DISTANCE: prefetch the bucket
 *   stage 2, for op i + DISTANCE: find the entry, prefetch the record
 *   stage 3, for op i: load the entry again, execute
 * A rolling pipeline and not three passes: there is no moment at which all wait for the last
 * prefetch of a stage. A read of an 8-byte key touches two lines, its bucket and its record, and
 * stores to nothing shared.
 *
 * Rules:
 *  1. What stage 2 found is a hint. Stage 3 reloads the entry, and looks up again if the place was
 *     empty or has another tag (ENGINE H12): op i may have created or replaced what op j needs.
 *  2. Stage 3 runs strictly in order. An operation that must be left undone (GW_RETRY, GW_ABSENT)
 *     keeps the later ones on its key from overtaking it: they are left undone too.
 *  3. Nothing waits. */
#include <string.h>

#include "index/store_internal.h"

#define DISTANCE   16u
#define HINTS      64u /* a power of two above 2 x DISTANCE */
#define UNDONE_MAX 16u

struct hint {
    struct gw_bucket *bucket;
    _Atomic uint64_t *place; /* NULL: stage 2 found nothing */
};

struct room {
    uint8_t *at, *end;
};

/* Keys that were left undone in this call. */
struct undone {
    uint32_t count;
    enum gw_status rest; /* of everything, once the list is full */
    struct {
        uint64_t hash;
        enum gw_status status;
    } key[UNDONE_MAX];
};

/* ---- reading
 * ------------------------------------------------------------------------------------- */

/* Copies the record's value; GW_WOULD_BLOCK: no room. Control is loaded before and after the
 * value's words (record_inline.h, rule 3); the seal changes nothing in them. */
static enum gw_status read_value(struct gw_op *op, struct gw_record *record, struct room *room)
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
        _Atomic uint64_t *value = gw_record_value(record, before);
        uint64_t bytes = 0;
        if (gw_control_kind(before) == GW_RECORD_COUNTER) {
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
        uint64_t step = gw_round8(bytes);
        uint64_t left = (uint64_t)(room->end - room->at);
        room->at += step < left ? step : left;
        return GW_OK;
    }
    return GW_RETRY;
}

static enum gw_status read_one(struct gw_thread *t, struct gw_op *op, struct gwi_position *position,
                               struct room *room)
{
    enum gwi_walk walk = GWI_ABSENT;
    if (GW_LIKELY(position->place != NULL))
        walk = gwi_chain_find(t, op->key, op->key_bytes, position);
    if (GW_UNLIKELY(walk != GWI_FOUND)) {
        if (walk == GWI_COLD)
            return GW_E_UNSUPPORTED; /* without a device head never leaves begin */
        return (op->flags & GW_OP_UNSETTLED) ? GW_ABSENT : GW_NOT_FOUND;
    }
    enum gw_status st = read_value(op, position->record, room);
    if (GW_UNLIKELY(st == GW_TOMBSTONE) && op->verb == GW_VERB_READ)
        return GW_NOT_FOUND;
    return st;
}

/* ---- the common update: adding to a counter that is there, in place
 * ------------------------------ */

/* False: not that simple, gwi_write does it. */
static inline bool add_fast(struct gw_thread *t, struct gw_op *op, struct gwi_position *position)
{
    if (!position->place || gwi_chain_find(t, op->key, op->key_bytes, position) != GWI_FOUND ||
        position->address.v < t->view.read_only)
        return false;
    struct gw_record *record = position->record;
    /* Relaxed: the lock's CAS acquires. */
    uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
    if (GW_UNLIKELY(control & (GW_CONTROL_LOCKED | GW_CONTROL_SEALED | GW_CONTROL_TOMBSTONE)) ||
        GW_UNLIKELY(gw_control_kind(control) != GW_RECORD_COUNTER) ||
        GW_UNLIKELY(!gw_record_lock(record, control)))
        return false;
    _Atomic uint64_t *value = gw_record_value(record, control);
    int64_t old = (int64_t)atomic_load_explicit(value, memory_order_relaxed); /* locked */
    int64_t sum;
    if (GW_UNLIKELY(__builtin_add_overflow(old, op->delta, &sum))) {
        gw_record_unlock(record, control);
        return false;
    }
    /* Release: see gw_value_store. */
    atomic_store_explicit(value, (uint64_t)sum, memory_order_release);
    uint64_t next = (control & ~GW_CONTROL_ARRIVED) + ((uint64_t)1 << GW_CONTROL_VERSION_SHIFT);
    gw_record_unlock(record, next);
    op->number = sum;
    op->version = gw_control_version(next);
    op->kind = GW_KIND_COUNTER;
    gwi_count_highest(&t->counters.version_highest, op->version);
    return true;
}

/* ---- stages
 * ---------------------------------------------------------------------------------------- */

static inline void stage1(struct gw_thread *t, const struct gw_op *op, struct hint *hint)
{
    hint->bucket = gw_table_bucket(t->table, op->hash);
    __builtin_prefetch(hint->bucket, 0, 3);
}

static inline void stage2(struct gw_thread *t, const struct gw_op *op, struct hint *hint)
{
    uint64_t tag = gw_table_tag(t->table, op->hash, op->slot);
    uint64_t entry;
    hint->place = gw_bucket_find(hint->bucket, tag, &entry);
    if (GW_LIKELY(hint->place != NULL)) {
        gw_addr at = gw_addr_widen(gw_entry_narrow(entry), t->view.reference);
        /* Below head the address maps to some other page's frame: a wasted prefetch, no more. */
        if (GW_LIKELY(at.v >= t->view.head))
            __builtin_prefetch(gw_log_at(&t->view, at), 0, 3);
        return;
    }
    struct gw_bucket *line =
        gw_table_next_line(t->table, op->hash, hint->bucket, memory_order_acquire);
    if (line)
        __builtin_prefetch(line, 0, 3);
}

static inline enum gw_status stage3(struct gw_thread *t, struct gw_op *op, const struct hint *hint,
                                    struct room *room)
{
    if (GW_UNLIKELY(op->key_bytes == 0))
        return GW_E_INVALID;
    struct gwi_position position;
    uint64_t tag = gw_table_tag(t->table, op->hash, op->slot);
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
        return read_one(t, op, &position, room);
    case GW_VERB_ADD:
        if (GW_LIKELY(add_fast(t, op, &position)))
            return GW_OK;
        return gwi_write(t, op);
    case GW_VERB_UPSERT:
    case GW_VERB_DELETE:
    case GW_VERB_CAS:
    case GW_VERB_INSERT:
    case GW_VERB_ARRIVE:
        return gwi_write(t, op);
    default:
        return GW_E_INVALID;
    }
}

/* ---- operations left undone
 * ------------------------------------------------------------------------ */

static void undone_add(struct undone *undone, uint64_t hash, enum gw_status status)
{
    if (undone->count < UNDONE_MAX) {
        undone->key[undone->count].hash = hash;
        undone->key[undone->count++].status = status;
    } else {
        undone->rest = status;
    }
}

/* The status with which this key was left undone, GW_OK if it was not. Equal hashes count as equal
 * keys: the wrong guess costs a turn. */
static enum gw_status undone_find(const struct undone *undone, uint64_t hash)
{
    for (uint32_t i = 0; i < undone->count; i++)
        if (undone->key[i].hash == hash)
            return undone->key[i].status;
    return undone->rest;
}

uint32_t gw_store_execute(struct gw_thread *t, struct gw_op *ops, uint32_t n, uint8_t *room_start,
                          size_t room_bytes, size_t *room_used)
{
    GW_ASSERT(t->inside);
    struct hint hints[HINTS];
    struct room room = {room_start, room_start + room_bytes};
    struct undone undone;
    undone.count = 0;
    undone.rest = GW_OK;
    uint32_t first = 0, second = 0, i;
    for (i = 0; i < n; i++) {
        for (; first < n && first <= i + 2 * DISTANCE; first++)
            stage1(t, &ops[first], &hints[first % HINTS]);
        for (; second < n && second <= i + DISTANCE; second++)
            stage2(t, &ops[second], &hints[second % HINTS]);
        struct gw_op *op = &ops[i];
        enum gw_status st = GW_OK;
        if (GW_UNLIKELY(undone.count != 0))
            st = undone_find(&undone, op->hash);
        if (GW_LIKELY(st == GW_OK))
            st = stage3(t, op, &hints[i % HINTS], &room);
        op->status = (int8_t)st;
        if (GW_LIKELY(st == GW_OK))
            continue;
        if (st == GW_RETRY || st == GW_ABSENT) {
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
