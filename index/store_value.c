/* store_value.c - making the new value of a record from the old one, in place or into a copy, and
 * taking the old one out.
 *
 * Rules:
 *  1. In place only the holder of the lock writes, so plain loads do for what it reads; others read
 *     meanwhile, so every store is a release of a whole word (record_inline.h, rule 3).
 *  2. The last word's rest is zero. */
#include "index/store_change.h"

void gwi_old_take(struct gw_record *record, uint64_t control, const struct gwi_room *room,
                  struct gwi_old *old)
{
    _Atomic uint64_t *value = gw_record_value(record, control);
    *old = (struct gwi_old){.kind = (enum gw_kind)gw_control_kind(control)};
    if (old->kind == GW_KIND_COUNTER) {
        old->number = (int64_t)atomic_load_explicit(value, memory_order_acquire);
    } else {
        old->bytes = gw_record_value_bytes(record, control);
        gw_value_load(room->at, value, old->bytes);
    }
}

void gwi_old_give(struct gw_op *op, const struct gwi_old *old, struct gwi_room *room)
{
    op->kind = (uint8_t)old->kind;
    op->number = old->number;
    op->out = room->at;
    op->out_bytes = (uint32_t)old->bytes;
    gwi_room_take(room, old->bytes);
}

void gwi_whole_give(struct gw_record *record, uint64_t control, struct gw_op *op,
                    const struct gwi_room *room)
{
    _Atomic uint64_t *value = gw_record_value(record, control);
    op->result = NULL;
    op->result_bytes = 0;
    if (control & GW_CONTROL_TOMBSTONE)
        return;
    if (gw_control_kind(control) == GW_RECORD_COUNTER) {
        op->number = (int64_t)atomic_load_explicit(value, memory_order_acquire);
        return;
    }
    op->result = room->at;
    op->result_bytes = (uint32_t)gw_record_value_bytes(record, control);
    gw_value_load(room->at, value, op->result_bytes);
}

static void value_store(struct gw_record *record, uint64_t control, const struct gwi_change *change)
{
    _Atomic uint64_t *value = gw_record_value(record, control);
    if (change->value)
        gw_value_store(value, change->value, change->value_bytes);
    else if (change->value_bytes == 8)
        atomic_store_explicit(value, (uint64_t)change->number, memory_order_release);
}

/* Under the lock nobody else writes, so plain loads do for what is read; others read meanwhile, so
 * every store is atomic. A word is 8 bytes of the new value, the last one's rest is zero. */
static void append_in_place(_Atomic uint64_t *value, uint64_t old_bytes, const uint8_t *more,
                            uint64_t more_bytes)
{
    uint64_t word = old_bytes / 8, within = old_bytes % 8;
    if (within != 0 && more_bytes != 0) {
        uint64_t take = 8 - within < more_bytes ? 8 - within : more_bytes, joined = 0;
        memcpy(&joined, (const uint8_t *)&value[word], within);
        memcpy((uint8_t *)&joined + within, more, take);
        atomic_store_explicit(&value[word], joined, memory_order_release);
        word++;
        more += take;
        more_bytes -= take;
    }
    if (more_bytes != 0)
        gw_value_store(&value[word], more, more_bytes);
}

/* From the last word down: a word's source lies at or below it, and nothing above it is read again.
 * Requires: more_bytes > 0, and the capacity for all of it. */
static void prepend_in_place(_Atomic uint64_t *value, uint64_t old_bytes, const uint8_t *more,
                             uint64_t more_bytes)
{
    const uint8_t *old = (const uint8_t *)value;
    uint64_t bytes = old_bytes + more_bytes;
    for (uint64_t i = (bytes + 7) / 8; i-- > 0;) {
        uint64_t from = 8 * i, n = bytes - from < 8 ? bytes - from : 8, word = 0, got = 0;
        if (from < more_bytes) {
            got = more_bytes - from < n ? more_bytes - from : n;
            memcpy(&word, more + from, got);
        }
        if (got < n)
            memcpy((uint8_t *)&word + got, old + (from + got - more_bytes), n - got);
        atomic_store_explicit(&value[i], word, memory_order_release);
    }
}

void gwi_value_build(struct gw_record *record, uint64_t control, const struct gwi_change *change,
                     const struct gw_op *op, struct gw_record *old, uint64_t old_control)
{
    if (change->how == GWI_HOW_SET || change->how == GWI_HOW_ADD) {
        value_store(record, control, change);
        return;
    }
    uint8_t *to = (uint8_t *)gw_record_value(record, control);
    if (change->value_bytes % 8)
        gw_store64(to + (change->value_bytes & ~(uint64_t)7), 0); /* the rest of the last word */
    uint64_t old_bytes = gw_record_value_bytes(old, old_control), at = 0;
    if (change->how == GWI_HOW_PREPEND) {
        memcpy(to, op->value, op->value_bytes);
        at = op->value_bytes;
    }
    gw_value_load(to + at, gw_record_value(old, old_control), old_bytes);
    if (change->how == GWI_HOW_APPEND && op->value_bytes)
        memcpy(to + old_bytes, op->value, op->value_bytes);
}

enum gw_status gwi_value_change(struct gw_record *record, uint64_t control, const struct gw_op *op,
                                struct gwi_change *change)
{
    _Atomic uint64_t *value = gw_record_value(record, control);
    switch (change->how) {
    case GWI_HOW_ADD:
        /* Relaxed: we hold the lock, its acquire ordered us behind the last writer. */
        if (gwi_sum_of(op, (int64_t)atomic_load_explicit(value, memory_order_relaxed),
                       &change->number) != GW_OK)
            return GW_OVERFLOW;
        break;
    case GWI_HOW_APPEND:
        append_in_place(value, gw_record_value_bytes(record, control), op->value, op->value_bytes);
        return GW_OK;
    case GWI_HOW_PREPEND:
        if (op->value_bytes)
            prepend_in_place(value, gw_record_value_bytes(record, control), op->value,
                             op->value_bytes);
        return GW_OK;
    case GWI_HOW_KEEP:
        return GW_OK;
    case GWI_HOW_SET:
        break;
    }
    if (!change->tombstone) /* else the value stays as it is, unread */
        value_store(record, control, change);
    return GW_OK;
}
