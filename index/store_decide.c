/* store_decide.c - what an operation makes of what is there: a pure question of verb, flags, time
 * and the record's control word. Nothing is changed here.
 *
 * Rules:
 *  1. A record that has expired, or is deleted, is decided upon as an absent key, its version
 * apart.
 *  2. A time that is past when it is set makes a tombstone: it says the same and needs less room.
 */
#include "index/store_change.h"

enum gw_status gwi_sum_of(const struct gw_op *op, int64_t base, int64_t *sum)
{
    bool overflow = __builtin_add_overflow(base, op->delta, sum);
    if (GW_LIKELY(!(op->flags & GW_OP_BOUNDED)))
        return overflow ? GW_OVERFLOW : GW_OK;
    int64_t low = (int64_t)gw_load64(op->value), high = (int64_t)gw_load64(op->value + 8);
    bool above = overflow ? op->delta > 0 : *sum > high;
    bool below = overflow ? op->delta < 0 : *sum < low;
    if (!above && !below)
        return GW_OK;
    if (!(op->flags & GW_OP_CLAMP))
        return GW_OVERFLOW;
    *sum = above ? high : low;
    return GW_OK;
}

bool gwi_bounds_are_good(const struct gw_op *op)
{
    return !(op->flags & GW_OP_BOUNDED) ||
           (op->value && op->value_bytes == GW_ADD_BOUNDS_BYTES &&
            (int64_t)gw_load64(op->value) <= (int64_t)gw_load64(op->value + 8));
}

/* The expiry that the key gets; kept_ms: what a live one has now. */
static void set_expiry(const struct gw_thread *t, const struct gw_op *op, uint64_t kept_ms,
                       struct gwi_change *change)
{
    if (GW_LIKELY(!(op->flags & GW_OP_HAS_EXPIRY))) {
        bool keeps = change->how == GWI_HOW_ADD || change->how == GWI_HOW_APPEND ||
                     change->how == GWI_HOW_PREPEND || (op->flags & GW_OP_KEEP_EXPIRY);
        change->expiry_ms = keeps ? kept_ms : 0;
        return;
    }
    change->expiry_ms = op->expiry_ms == GW_EXPIRY_NEVER ? 0 : op->expiry_ms;
    if (op->expiry_ms > t->now_ms)
        return;
    /* Past already: a tombstone says the same, and takes no more room than it needs. What an add
     * comes to is still computed, for its answer. */
    change->tombstone = true;
    change->expiry_ms = 0;
    if (change->how != GWI_HOW_ADD) {
        change->how = GWI_HOW_SET;
        change->value = NULL;
        change->value_bytes = 0;
    }
}

static void change_to_value(const struct gw_op *op, struct gwi_change *change)
{
    bool counter = op->flags & GW_OP_COUNTER;
    *change = (struct gwi_change){
        .value = counter ? NULL : op->value,
        .value_bytes = counter ? 8 : op->value_bytes,
        .number = op->number,
        .kind = counter ? GW_RECORD_COUNTER : GW_RECORD_BYTES,
        .gives_old = op->verb == GW_VERB_GETSET,
    };
}

/* What a key without a live value becomes; not GW_OK: that is the answer. */
static enum gw_status decide_dead(const struct gw_thread *t, const struct gw_op *op,
                                  struct gwi_change *change)
{
    enum gw_status st = GW_OK;
    switch (op->verb) {
    case GW_VERB_ADD:
        *change = (struct gwi_change){.value_bytes = 8, .kind = GW_RECORD_COUNTER};
        st = gwi_sum_of(op, (op->flags & GW_OP_HAS_INITIAL) ? op->initial : 0, &change->number);
        break;
    case GW_VERB_DELETE:
    case GW_VERB_GETDEL:
    case GW_VERB_CAS:
    case GW_VERB_TOUCH:
    case GW_VERB_READ_TOUCH:
        return GW_NOT_FOUND;
    case GW_VERB_APPEND:
    case GW_VERB_PREPEND:
        if (op->flags & GW_OP_MUST_EXIST)
            return GW_NOT_FOUND;
        *change = (struct gwi_change){.value = op->value, .value_bytes = op->value_bytes};
        break;
    default:
        change_to_value(op, change);
        break;
    }
    set_expiry(t, op, 0, change);
    return st;
}

enum gw_status gwi_decide_absent(const struct gw_thread *t, const struct gw_op *op,
                                 struct gwi_change *change)
{
    if (op->verb == GW_VERB_ARRIVE && (op->flags & GW_OP_TOMBSTONE)) {
        *change = (struct gwi_change){.tombstone = true};
        return GW_OK;
    }
    if ((op->flags & GW_OP_UNSETTLED) && op->verb != GW_VERB_ARRIVE)
        return GW_ABSENT;
    return decide_dead(t, op, change);
}

/* What the live record with this control word becomes; not GW_OK: that is the answer. */
static enum gw_status decide_live(const struct gw_thread *t, const struct gw_op *op,
                                  struct gw_record *record, uint64_t control,
                                  struct gwi_change *change)
{
    enum gw_record_kind kind = gw_control_kind(control);
    switch (op->verb) {
    case GW_VERB_ADD:
        if (kind != GW_RECORD_COUNTER)
            return GW_WRONG_TYPE;
        *change =
            (struct gwi_change){.value_bytes = 8, .kind = GW_RECORD_COUNTER, .how = GWI_HOW_ADD};
        break;
    case GW_VERB_DELETE:
    case GW_VERB_GETDEL:
        *change = (struct gwi_change){.tombstone = true, .gives_old = op->verb == GW_VERB_GETDEL};
        return GW_OK;
    case GW_VERB_TOUCH:
    case GW_VERB_READ_TOUCH:
        *change = (struct gwi_change){.value_bytes = gw_record_value_bytes(record, control),
                                      .kind = kind,
                                      .how = GWI_HOW_KEEP,
                                      .gives_old = op->verb == GW_VERB_READ_TOUCH};
        break;
    case GW_VERB_APPEND:
    case GW_VERB_PREPEND:
        if (kind != GW_RECORD_BYTES)
            return GW_WRONG_TYPE;
        *change = (struct gwi_change){.value_bytes =
                                          gw_record_value_bytes(record, control) + op->value_bytes,
                                      .how = op->verb == GW_VERB_APPEND ? GWI_HOW_APPEND
                                                                        : GWI_HOW_PREPEND};
        break;
    case GW_VERB_CAS:
        if (gw_control_version(control) != op->expected_version)
            return GW_MISMATCH;
        change_to_value(op, change);
        break;
    case GW_VERB_INSERT:
        return GW_EXISTS;
    default:
        change_to_value(op, change);
        break;
    }
    set_expiry(t, op, gw_record_expiry(record, control), change);
    return GW_OK;
}

enum gw_status gwi_decide_found(const struct gw_thread *t, const struct gw_op *op,
                                struct gw_record *record, uint64_t control,
                                struct gwi_change *change)
{
    if (op->verb == GW_VERB_ARRIVE)
        return GW_EXISTS;
    if (!(control & GW_CONTROL_TOMBSTONE) && !gw_record_expired(record, control, t->now_ms))
        return decide_live(t, op, record, control, change);
    return decide_dead(t, op, change);
}
