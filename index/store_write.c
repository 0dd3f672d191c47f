/* store_write.c - the verbs that change something, one operation at a time: in place, by copy to
 * the tail, or as a new key.
 *
 * Rules (numbers of ENGINE section 3 in brackets):
 *  1. An operation looks up, decides, and publishes against exactly what it looked at: the control
 *     word it locked or sealed by CAS, the entry it expects by CAS. Whatever changed meanwhile
 *     makes it start over, a bounded number of times; then GW_RETRY [10].
 *  2. In place only at or above read_only, under the record's lock, version + 1 [8].
 *  3. A record at or above safe_read_only is sealed before it is copied; the room of the copy is
 *     allocated before the seal, and between seal and publication nothing can fail but the CAS of
 *     the entry: then it is unsealed [9].
 *  4. Only ABSENT creates, and the CAS expects the entry where that walk began [16].
 *  5. Room that a failed attempt has left is used by the next one if it still lies above what it
 *     would follow and has the size, else made void; none is left when the operation ends [7].
 *  6. A sealed record found as the newest of its key is about to be replaced: wait (bounded). */
#include "index/store_internal.h"

/* What a record is to become. */
struct change {
    const uint8_t *value; /* NULL: `number` */
    uint64_t value_bytes;
    int64_t number;
    enum gw_record_kind kind;
    bool tombstone;
    bool add; /* number is the old one plus op->delta, known under lock or seal */
};

/* Room allocated and not yet published. */
struct spare {
    gw_addr address;
    uint64_t units; /* 0: none */
};

bool gwi_publish(struct gw_thread *t, _Atomic uint64_t *place, uint64_t entry,
                 struct gw_record *record, gw_addr address)
{
    gw_addr previous = gw_addr_widen(gw_entry_narrow(entry), t->view.reference);
    if (previous.v >= address.v)
        return false; /* chains run downward: no cycles, and below head all the rest is cold */
    /* A chain ends at begin: links below it would be met when the 42 bits have come round. */
    record->link = gw_record_link(gw_record_units(record),
                                  previous.v >= t->view.begin ? gw_entry_narrow(entry) : 0);
    uint64_t next = gw_entry_make(entry >> GW_ENTRY_TAG_SHIFT, address);
    /* Release: the record before the entry that leads to it; pairs with gw_bucket_find. Older
     * records were published before `entry`, which we acquired. Relaxed on failure: not followed.
     * ABA: addresses are not reused, so an equal entry is the same entry. */
    return atomic_compare_exchange_strong_explicit(place, &entry, next, memory_order_release,
                                                   memory_order_relaxed);
}

/* ---- room at the tail ---- */

static void spare_drop(struct gw_thread *t, struct spare *spare)
{
    if (spare->units != 0)
        gw_log_void(gw_log_at(&t->view, spare->address), spare->units);
    spare->units = 0;
}

/* Room of `units` above `entry`, which was read before. */
static enum gw_status spare_want(struct gw_thread *t, struct spare *spare, uint64_t units,
                                 uint64_t entry)
{
    if (units > t->store->units_max)
        return GW_E_TOO_LARGE;
    if (spare->units == units &&
        (entry == 0 ||
         gw_addr_widen(gw_entry_narrow(entry), t->view.reference).v < spare->address.v))
        return GW_OK;
    spare_drop(t, spare);
    enum gw_status st = gw_log_allocate(t->log, units, &spare->address);
    if (st == GW_OK)
        spare->units = units;
    return st;
}

/* ---- deciding ---- */

static enum gw_status add_checked(int64_t a, int64_t b, int64_t *sum)
{
    return __builtin_add_overflow(a, b, sum) ? GW_OVERFLOW : GW_OK;
}

static void change_to_value(const struct gw_op *op, struct change *change)
{
    bool counter = op->flags & GW_OP_COUNTER;
    *change = (struct change){
        .value = counter ? NULL : op->value,
        .value_bytes = counter ? 8 : op->value_bytes,
        .number = op->number,
        .kind = counter ? GW_RECORD_COUNTER : GW_RECORD_BYTES,
    };
}

static enum gw_status change_to_first_sum(const struct gw_op *op, struct change *change)
{
    int64_t initial = (op->flags & GW_OP_HAS_INITIAL) ? op->initial : 0;
    *change = (struct change){.value_bytes = 8, .kind = GW_RECORD_COUNTER};
    return add_checked(initial, op->delta, &change->number);
}

/* What a key without any record becomes; not GW_OK: that is the answer. */
static enum gw_status decide_absent(const struct gw_op *op, struct change *change)
{
    if ((op->flags & GW_OP_UNSETTLED) && op->verb != GW_VERB_ARRIVE)
        return GW_ABSENT;
    switch (op->verb) {
    case GW_VERB_ADD:
        return change_to_first_sum(op, change);
    case GW_VERB_DELETE:
    case GW_VERB_CAS:
        return GW_NOT_FOUND;
    case GW_VERB_ARRIVE:
        if (op->flags & GW_OP_TOMBSTONE) {
            *change = (struct change){.tombstone = true};
            return GW_OK;
        }
        change_to_value(op, change);
        return GW_OK;
    default:
        change_to_value(op, change);
        return GW_OK;
    }
}

/* What the record with this control word becomes; not GW_OK: that is the answer. */
static enum gw_status decide_found(const struct gw_op *op, uint64_t control, struct change *change)
{
    bool live = !(control & GW_CONTROL_TOMBSTONE);
    switch (op->verb) {
    case GW_VERB_ADD:
        if (!live)
            return change_to_first_sum(op, change);
        if (gw_control_kind(control) != GW_RECORD_COUNTER)
            return GW_WRONG_TYPE;
        *change = (struct change){.value_bytes = 8, .kind = GW_RECORD_COUNTER, .add = true};
        return GW_OK;
    case GW_VERB_DELETE:
        *change = (struct change){.tombstone = true};
        return live ? GW_OK : GW_NOT_FOUND;
    case GW_VERB_CAS:
        if (!live)
            return GW_NOT_FOUND;
        if (gw_control_version(control) != op->expected_version)
            return GW_MISMATCH;
        break;
    case GW_VERB_INSERT:
        if (live)
            return GW_EXISTS;
        break;
    case GW_VERB_ARRIVE:
        return GW_EXISTS;
    default:
        break;
    }
    change_to_value(op, change);
    return GW_OK;
}

/* ---- doing ---- */

static void value_store(struct gw_record *record, uint64_t control, const struct change *change)
{
    _Atomic uint64_t *value = gw_record_value(record, control);
    if (change->value)
        gw_value_store(value, change->value, change->value_bytes);
    else if (change->value_bytes == 8)
        atomic_store_explicit(value, (uint64_t)change->number, memory_order_release);
}

static void answer(struct gw_thread *t, struct gw_op *op, const struct change *change,
                   uint32_t version)
{
    op->version = version;
    op->kind = (uint8_t)change->kind;
    if (change->kind == GW_RECORD_COUNTER)
        op->number = change->number;
    gwi_count_highest(&t->counters.version_highest, version);
}

/* Fills the spare room with what `change` says. */
static struct gw_record *fill(struct gw_thread *t, const struct spare *spare,
                              const struct gw_op *op, const struct change *change, uint32_t version,
                              uint64_t flags)
{
    struct gw_record *record = gw_log_at(&t->view, spare->address);
    uint64_t capacity = spare->units * GW_ADDR_UNIT - GW_RECORD_HEADER - gw_round8(op->key_bytes);
    flags |= change->tombstone ? GW_CONTROL_TOMBSTONE : 0;
    uint64_t control =
        gw_control_make(version, op->key_bytes, (uint32_t)(capacity - change->value_bytes),
                        change->kind, flags);
    gw_record_fill(record, spare->units, op->key, control);
    value_store(record, control, change);
    return record;
}

/* The version of a key that is created from nothing (ENGINE section 2, MIGRATION rule 19). */
static uint32_t first_version(const struct gw_thread *t, gw_addr address)
{
    uint32_t version = (uint32_t)(address.v >> GW_ADDR_UNIT_BITS);
    uint32_t floor = atomic_load_explicit(&t->store->version_floor, memory_order_acquire);
    if (version <= floor && floor != UINT32_MAX)
        version = floor + 1;
    return version ? version : 1;
}

static enum gw_status create(struct gw_thread *t, struct gw_op *op, struct gwi_position *position,
                             const struct change *change, struct spare *spare)
{
    enum gw_status st =
        spare_want(t, spare, gw_record_units_for(op->key_bytes, change->value_bytes),
                   position->entry);
    if (st != GW_OK)
        return st;
    bool arrives = op->verb == GW_VERB_ARRIVE;
    uint32_t version = arrives ? op->expected_version : first_version(t, spare->address);
    struct gw_record *record =
        fill(t, spare, op, change, version, arrives ? GW_CONTROL_ARRIVED : 0);
    if (position->place) {
        gwi_mark_mixed(t, op->hash, op->slot, position->entry, spare->address);
        if (!gwi_publish(t, position->place, position->entry, record, spare->address))
            return GW_RETRY;
    } else {
        st = gw_table_insert(t->table, op->hash, gw_table_tag(t->table, op->hash, op->slot),
                             spare->address, &position->place, &position->entry);
        if (st != GW_OK)
            return st == GW_EXISTS ? GW_RETRY : st; /* another key of this tag, or this one */
    }
    gwi_count_live(t, (int64_t)(spare->units * GW_ADDR_UNIT));
    spare->units = 0; /* published */
    if (!change->tombstone)
        gwi_count_keys(t, 1);
    answer(t, op, change, version);
    return GW_OK;
}

static bool fits_in_place(const struct gw_record *record, uint64_t control,
                          const struct change *change)
{
    uint64_t capacity = gw_record_capacity(record, control);
    return change->tombstone || (change->value_bytes <= capacity &&
                                 capacity - change->value_bytes <= GW_RECORD_SLACK_MAX);
}

static enum gw_status change_in_place(struct gw_thread *t, struct gw_op *op,
                                      struct gw_record *record, uint64_t control,
                                      struct change *change)
{
    if (!gw_record_lock(record, control))
        return GW_RETRY;
    if (change->add) {
        /* Relaxed: we hold the lock, its acquire ordered us behind the last writer. */
        int64_t old =
            (int64_t)atomic_load_explicit(gw_record_value(record, control), memory_order_relaxed);
        if (add_checked(old, op->delta, &change->number) != GW_OK) {
            gw_record_unlock(record, control);
            return GW_OVERFLOW;
        }
    }
    uint32_t version = gw_control_version(control) + 1;
    uint64_t next;
    if (change->tombstone) { /* the value stays as it is, unread */
        next = gw_control_make(version, op->key_bytes, gw_control_slack(control),
                               gw_control_kind(control),
                               (control & GW_CONTROL_PARITY) | GW_CONTROL_TOMBSTONE);
    } else {
        value_store(record, control, change);
        uint64_t capacity = gw_record_capacity(record, control);
        next = gw_control_make(version, op->key_bytes, (uint32_t)(capacity - change->value_bytes),
                               change->kind, control & GW_CONTROL_PARITY);
    }
    gw_record_unlock(record, next);
    answer(t, op, change, version);
    return GW_OK;
}

static enum gw_status change_by_copy(struct gw_thread *t, struct gw_op *op,
                                     struct gwi_position *position, uint64_t control,
                                     struct change *change, struct spare *spare)
{
    enum gw_status st =
        spare_want(t, spare, gw_record_units_for(op->key_bytes, change->value_bytes),
                   position->entry);
    if (st != GW_OK)
        return st;
    struct gw_record *old = position->record;
    bool seal = position->address.v >= t->view.safe_read_only;
    if (seal && !gw_record_seal(old, control))
        return GW_RETRY;
    if (change->add) {
        /* Acquire: final below the seal or below safe_read_only; written before. */
        int64_t value =
            (int64_t)atomic_load_explicit(gw_record_value(old, control), memory_order_acquire);
        st = add_checked(value, op->delta, &change->number);
    }
    uint32_t version = gw_control_version(control) + 1;
    if (st == GW_OK) {
        struct gw_record *record = fill(t, spare, op, change, version, 0);
        if (GW_UNLIKELY(gw_entry_narrow(position->entry) != gw_addr_narrow(position->address)))
            gwi_mark_mixed(t, op->hash, op->slot, position->entry, spare->address);
        if (!gwi_publish(t, position->place, position->entry, record, spare->address))
            st = GW_RETRY;
    }
    if (st != GW_OK) {
        if (seal)
            gw_record_unseal(old, control);
        return st;
    }
    gwi_count_live(t, ((int64_t)spare->units - (int64_t)gw_record_units(old)) * GW_ADDR_UNIT);
    spare->units = 0; /* published */
    gwi_count(&t->counters.copies, 1);
    answer(t, op, change, version);
    return GW_OK;
}

static enum gw_status change_found(struct gw_thread *t, struct gw_op *op,
                                   struct gwi_position *position, struct spare *spare)
{
    struct gw_record *record = position->record;
    /* Acquire: decisions are made on what the last writer left; pairs with gw_record_unlock. */
    uint64_t control = atomic_load_explicit(&record->control, memory_order_acquire);
    if (GW_UNLIKELY(control & (GW_CONTROL_LOCKED | GW_CONTROL_SEALED))) {
        gwi_pause();
        return GW_RETRY;
    }
    struct change change;
    enum gw_status st = decide_found(op, control, &change);
    if (st != GW_OK) {
        op->version = gw_control_version(control);
        op->kind = (uint8_t)gw_control_kind(control);
        return st;
    }
    if (position->address.v >= t->view.read_only && fits_in_place(record, control, &change))
        st = change_in_place(t, op, record, control, &change);
    else
        st = change_by_copy(t, op, position, control, &change, spare);
    if (st == GW_OK) {
        bool was_live = !(control & GW_CONTROL_TOMBSTONE);
        if (was_live == change.tombstone)
            gwi_count_keys(t, change.tombstone ? -1 : 1);
    }
    return st;
}

enum gw_status gwi_write(struct gw_thread *t, struct gw_op *op)
{
    struct spare spare = {.units = 0};
    enum gw_status st = GW_RETRY;
    for (uint32_t tries = 0; tries < GWI_TRIES && st == GW_RETRY; tries++) {
        struct gwi_position position;
        struct change change;
        switch (gwi_find(t, op, &position)) {
        case GWI_FOUND:
            st = change_found(t, op, &position, &spare);
            break;
        case GWI_ABSENT:
            st = decide_absent(op, &change);
            if (st == GW_OK)
                st = create(t, op, &position, &change, &spare);
            break;
        case GWI_COLD:
            st = GW_E_UNSUPPORTED; /* without a device head never leaves begin */
            break;
        }
    }
    spare_drop(t, &spare);
    if (GW_UNLIKELY(st == GW_E_FULL))
        gwi_count(&t->counters.refused_full, 1);
    return st;
}
