/* store_change.h - what a write makes of a record: decided in store_decide.c, its value made in
 * store_value.c, done and published in store_write.c. Layer: index. */
#ifndef GW_INDEX_STORE_CHANGE_H
#define GW_INDEX_STORE_CHANGE_H

#include "index/store_internal.h"

enum gwi_how {
    GWI_HOW_SET,     /* to value, or to number if that is NULL and value_bytes is 8 */
    GWI_HOW_ADD,     /* number is the old one plus op->delta, known under lock or seal */
    GWI_HOW_APPEND,  /* op->value behind the old one */
    GWI_HOW_PREPEND, /* before it */
    GWI_HOW_KEEP,
};

/* What a record is to become. */
struct gwi_change {
    const uint8_t *value;
    uint64_t value_bytes; /* of the whole new value */
    uint64_t expiry_ms;   /* 0: none */
    int64_t number;
    enum gw_record_kind kind;
    enum gwi_how how;
    bool tombstone;
    bool gives_old;
    bool gives_whole; /* gw_store_give_results: the new value is given too */
    bool unseen;      /* of a key created over a chain whose rest cannot be read (store_write.c) */
};

/* The old value, copied out of a record and not yet given to the caller. */
struct gwi_old {
    int64_t number;
    uint64_t bytes;
    enum gw_kind kind;
};

/* ---- store_decide.c ---- */

bool gwi_bounds_are_good(const struct gw_op *op);
/* The sum of an add, within its bounds: GW_OK, GW_OVERFLOW. */
enum gw_status gwi_sum_of(const struct gw_op *op, int64_t base, int64_t *sum);
/* What a key without any record becomes; not GW_OK: that is the answer. */
enum gw_status gwi_decide_absent(const struct gw_thread *t, const struct gw_op *op,
                                 struct gwi_change *change);
/* What the record with this control word becomes; not GW_OK: that is the answer. An expired one is
 * decided upon as if it were a tombstone. */
enum gw_status gwi_decide_found(const struct gw_thread *t, const struct gw_op *op,
                                struct gw_record *record, uint64_t control,
                                struct gwi_change *change);

/* ---- store_value.c ---- */

/* Copies the old value to the caller's room, which has space for it; under lock or seal. */
void gwi_old_take(struct gw_record *record, uint64_t control, const struct gwi_room *room,
                  struct gwi_old *old);
/* Makes it a result of the operation, which has succeeded. */
void gwi_old_give(struct gw_op *op, const struct gwi_old *old, struct gwi_room *room);
/* Copies the new value, which `record` holds, to the caller's room, which has space for it, or to
 * op->number; the record is locked, or private still. */
void gwi_whole_give(struct gw_record *record, uint64_t control, struct gw_op *op,
                    const struct gwi_room *room);
/* The new value in place, under the lock: GW_OK, GW_OVERFLOW (nothing changed). */
enum gw_status gwi_value_change(struct gw_record *record, uint64_t control, const struct gw_op *op,
                                struct gwi_change *change);
/* The new value into a private record; `old` is what it is made from, final below a seal or below
 * safe_read_only. NULL for GWI_HOW_SET. */
void gwi_value_build(struct gw_record *record, uint64_t control, const struct gwi_change *change,
                     const struct gw_op *op, struct gw_record *old, uint64_t old_control);
#endif
