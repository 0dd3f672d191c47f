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
 *  6. A sealed record found as the newest of its key is about to be replaced: wait (bounded).
 *  7. What is made from the old value, and the old value that is given to the caller, are taken
 *     under the lock or the seal; that there is room to give it is seen before. Nothing of the
 *     operation's results is written before it has succeeded: some of them are inputs too.
 *  8. An expired record is decided upon as if it were a tombstone. Its lock's or seal's CAS expects
 *     the control word that was there when its expiry was read. */
#include "index/store_internal.h"

#define APPEND_ROOM_MAX 192u /* kept free behind a value that has been appended to, at most */
static_assert(APPEND_ROOM_MAX + 2 * GW_ADDR_UNIT <= GW_RECORD_SLACK_MAX, "it must count as slack");

enum how {
    HOW_SET,     /* to value, or to number if that is NULL and value_bytes is 8 */
    HOW_ADD,     /* number is the old one plus op->delta, known under lock or seal */
    HOW_APPEND,  /* op->value behind the old one */
    HOW_PREPEND, /* before it */
    HOW_KEEP,
};

/* What a record is to become. */
struct change {
    const uint8_t *value;
    uint64_t value_bytes; /* of the whole new value */
    uint64_t expiry_ms;   /* 0: none */
    int64_t number;
    enum gw_record_kind kind;
    enum how how;
    bool tombstone;
    bool gives_old;
};

/* The old value, copied out of a record and not yet given to the caller. */
struct old {
    int64_t number;
    uint64_t bytes;
    enum gw_kind kind;
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
                                 uint64_t entry, bool tombstone)
{
    if (units > t->store->units_max)
        return GW_E_TOO_LARGE;
    if (spare->units == units &&
        (entry == 0 ||
         gw_addr_widen(gw_entry_narrow(entry), t->view.reference).v < spare->address.v))
        return GW_OK;
    spare_drop(t, spare);
    enum gw_status st = GW_UNLIKELY(tombstone)
                            ? gw_log_allocate_delete(t->log, units, &spare->address)
                            : gw_log_allocate(t->log, units, &spare->address);
    if (st == GW_OK)
        spare->units = units;
    return st;
}

/* ---- deciding ---- */

/* The sum of an add, within its bounds. */
static enum gw_status sum_of(const struct gw_op *op, int64_t base, int64_t *sum)
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

static bool bounds_are_good(const struct gw_op *op)
{
    return !(op->flags & GW_OP_BOUNDED) ||
           (op->value && op->value_bytes == GW_ADD_BOUNDS_BYTES &&
            (int64_t)gw_load64(op->value) <= (int64_t)gw_load64(op->value + 8));
}

/* The expiry that the key gets; kept_ms: what a live one has now. */
static void set_expiry(const struct gw_thread *t, const struct gw_op *op, uint64_t kept_ms,
                       struct change *change)
{
    if (GW_LIKELY(!(op->flags & GW_OP_HAS_EXPIRY))) {
        bool keeps = change->how == HOW_ADD || change->how == HOW_APPEND ||
                     change->how == HOW_PREPEND || (op->flags & GW_OP_KEEP_EXPIRY);
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
    if (change->how != HOW_ADD) {
        change->how = HOW_SET;
        change->value = NULL;
        change->value_bytes = 0;
    }
}

static void change_to_value(const struct gw_op *op, struct change *change)
{
    bool counter = op->flags & GW_OP_COUNTER;
    *change = (struct change){
        .value = counter ? NULL : op->value,
        .value_bytes = counter ? 8 : op->value_bytes,
        .number = op->number,
        .kind = counter ? GW_RECORD_COUNTER : GW_RECORD_BYTES,
        .gives_old = op->verb == GW_VERB_GETSET,
    };
}

/* What a key without a live value becomes; not GW_OK: that is the answer. */
static enum gw_status decide_dead(const struct gw_thread *t, const struct gw_op *op,
                                  struct change *change)
{
    enum gw_status st = GW_OK;
    switch (op->verb) {
    case GW_VERB_ADD:
        *change = (struct change){.value_bytes = 8, .kind = GW_RECORD_COUNTER};
        st = sum_of(op, (op->flags & GW_OP_HAS_INITIAL) ? op->initial : 0, &change->number);
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
        *change = (struct change){.value = op->value, .value_bytes = op->value_bytes};
        break;
    default:
        change_to_value(op, change);
        break;
    }
    set_expiry(t, op, 0, change);
    return st;
}

/* What a key without any record becomes; not GW_OK: that is the answer. */
static enum gw_status decide_absent(const struct gw_thread *t, const struct gw_op *op,
                                    struct change *change)
{
    if (op->verb == GW_VERB_ARRIVE && (op->flags & GW_OP_TOMBSTONE)) {
        *change = (struct change){.tombstone = true};
        return GW_OK;
    }
    if ((op->flags & GW_OP_UNSETTLED) && op->verb != GW_VERB_ARRIVE)
        return GW_ABSENT;
    return decide_dead(t, op, change);
}

/* What the live record with this control word becomes; not GW_OK: that is the answer. */
static enum gw_status decide_live(const struct gw_thread *t, const struct gw_op *op,
                                  struct gw_record *record, uint64_t control, struct change *change)
{
    enum gw_record_kind kind = gw_control_kind(control);
    switch (op->verb) {
    case GW_VERB_ADD:
        if (kind != GW_RECORD_COUNTER)
            return GW_WRONG_TYPE;
        *change = (struct change){.value_bytes = 8, .kind = GW_RECORD_COUNTER, .how = HOW_ADD};
        break;
    case GW_VERB_DELETE:
    case GW_VERB_GETDEL:
        *change = (struct change){.tombstone = true, .gives_old = op->verb == GW_VERB_GETDEL};
        return GW_OK;
    case GW_VERB_TOUCH:
    case GW_VERB_READ_TOUCH:
        *change = (struct change){.value_bytes = gw_record_value_bytes(record, control),
                                  .kind = kind,
                                  .how = HOW_KEEP,
                                  .gives_old = op->verb == GW_VERB_READ_TOUCH};
        break;
    case GW_VERB_APPEND:
    case GW_VERB_PREPEND:
        if (kind != GW_RECORD_BYTES)
            return GW_WRONG_TYPE;
        *change =
            (struct change){.value_bytes = gw_record_value_bytes(record, control) + op->value_bytes,
                            .how = op->verb == GW_VERB_APPEND ? HOW_APPEND : HOW_PREPEND};
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

static enum gw_status decide_found(const struct gw_thread *t, const struct gw_op *op,
                                   struct gw_record *record, uint64_t control,
                                   struct change *change)
{
    if (op->verb == GW_VERB_ARRIVE)
        return GW_EXISTS;
    if (!(control & GW_CONTROL_TOMBSTONE) && !gw_record_expired(record, control, t->now_ms))
        return decide_live(t, op, record, control, change);
    return decide_dead(t, op, change);
}

/* ---- values ---- */

/* Copies the old value to the caller's room, which has space for it (rule 7). */
static void old_take(struct gw_record *record, uint64_t control, const struct gwi_room *room,
                     struct old *old)
{
    _Atomic uint64_t *value = gw_record_value(record, control);
    *old = (struct old){.kind = (enum gw_kind)gw_control_kind(control)};
    if (old->kind == GW_KIND_COUNTER) {
        old->number = (int64_t)atomic_load_explicit(value, memory_order_acquire);
    } else {
        old->bytes = gw_record_value_bytes(record, control);
        gw_value_load(room->at, value, old->bytes);
    }
}

static void old_give(struct gw_op *op, const struct old *old, struct gwi_room *room)
{
    op->kind = (uint8_t)old->kind;
    op->number = old->number;
    op->out = room->at;
    op->out_bytes = (uint32_t)old->bytes;
    gwi_room_take(room, old->bytes);
}

static void value_store(struct gw_record *record, uint64_t control, const struct change *change)
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

/* The new value into a private record; `old` is what it is made from, final below a seal or below
 * safe_read_only. NULL for HOW_SET. */
static void value_build(struct gw_record *record, uint64_t control, const struct change *change,
                        const struct gw_op *op, struct gw_record *old, uint64_t old_control)
{
    if (change->how == HOW_SET || change->how == HOW_ADD) {
        value_store(record, control, change);
        return;
    }
    uint8_t *to = (uint8_t *)gw_record_value(record, control);
    if (change->value_bytes % 8)
        gw_store64(to + (change->value_bytes & ~(uint64_t)7), 0); /* the rest of the last word */
    uint64_t old_bytes = gw_record_value_bytes(old, old_control), at = 0;
    if (change->how == HOW_PREPEND) {
        memcpy(to, op->value, op->value_bytes);
        at = op->value_bytes;
    }
    gw_value_load(to + at, gw_record_value(old, old_control), old_bytes);
    if (change->how == HOW_APPEND && op->value_bytes)
        memcpy(to + old_bytes, op->value, op->value_bytes);
}

/* ---- doing ---- */

static void answer(struct gw_thread *t, struct gw_op *op, const struct change *change,
                   uint32_t version)
{
    op->version = version;
    if (GW_UNLIKELY(change->gives_old)) {
        op->kind = GW_KIND_NONE; /* there was none; else old_give says what it was */
        op->out_bytes = 0;
    } else {
        op->kind = (uint8_t)change->kind;
        if (change->kind == GW_RECORD_COUNTER)
            op->number = change->number;
        op->out_bytes = (uint32_t)change->value_bytes;
    }
    gwi_count_highest(&t->counters.version_highest, version);
}

/* Units of the record that `change` needs. Who appends once will append again: then there is some
 * room behind, so that not every time costs a copy. */
static uint64_t units_of(const struct gw_thread *t, const struct gw_op *op,
                         const struct change *change)
{
    bool expires = change->expiry_ms != 0;
    uint64_t units = gw_record_units_for(op->key_bytes, change->value_bytes, expires);
    if (GW_LIKELY(change->how != HOW_APPEND && change->how != HOW_PREPEND))
        return units;
    uint64_t more = change->value_bytes / 4;
    more = more < APPEND_ROOM_MAX ? more : APPEND_ROOM_MAX;
    uint64_t roomy = gw_record_units_for(op->key_bytes, change->value_bytes + more, expires);
    return roomy <= t->store->units_max ? roomy : units;
}

/* Fills the spare room with what `change` makes of the old record (NULL: there is none). */
static struct gw_record *fill(struct gw_thread *t, const struct spare *spare,
                              const struct gw_op *op, const struct change *change, uint32_t version,
                              uint64_t flags, struct gw_record *old, uint64_t old_control)
{
    struct gw_record *record = gw_log_at(&t->view, spare->address);
    flags |= change->tombstone ? GW_CONTROL_TOMBSTONE : 0;
    flags |= change->expiry_ms ? GW_CONTROL_EXPIRY : 0;
    uint64_t capacity =
        spare->units * GW_ADDR_UNIT - gw_record_head_bytes(flags) - gw_round8(op->key_bytes);
    uint64_t control =
        gw_control_make(version, op->key_bytes, (uint32_t)(capacity - change->value_bytes),
                        change->kind, flags);
    gw_record_fill(record, spare->units, op->key, control);
    if (GW_UNLIKELY(change->expiry_ms)) {
        if (!atomic_load_explicit(&t->store->expires, memory_order_relaxed))
            atomic_store_explicit(&t->store->expires, true, memory_order_relaxed);
        /* Relaxed: private still. */
        atomic_store_explicit(gw_record_expiry_word(record), change->expiry_ms,
                              memory_order_relaxed);
    }
    value_build(record, control, change, op, old, old_control);
    gw_record_pad(record, control);
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
    enum gw_status st = spare_want(t, spare, units_of(t, op, change), position->entry, false);
    if (st != GW_OK)
        return st;
    bool arrives = op->verb == GW_VERB_ARRIVE;
    uint32_t version = arrives ? op->expected_version : first_version(t, spare->address);
    struct gw_record *record =
        fill(t, spare, op, change, version, arrives ? GW_CONTROL_ARRIVED : 0, NULL, 0);
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
    if (change->tombstone)
        return true;
    if (change->expiry_ms != 0 && !(control & GW_CONTROL_EXPIRY))
        return false; /* the word is gained by a copy only */
    uint64_t capacity = gw_record_capacity(record, control);
    return (change->value_bytes <= capacity &&
            capacity - change->value_bytes <= GW_RECORD_SLACK_MAX);
}

/* The new value under the lock. */
static enum gw_status value_change(struct gw_record *record, uint64_t control,
                                   const struct gw_op *op, struct change *change)
{
    _Atomic uint64_t *value = gw_record_value(record, control);
    switch (change->how) {
    case HOW_ADD:
        /* Relaxed: we hold the lock, its acquire ordered us behind the last writer. */
        if (sum_of(op, (int64_t)atomic_load_explicit(value, memory_order_relaxed),
                   &change->number) != GW_OK)
            return GW_OVERFLOW;
        break;
    case HOW_APPEND:
        append_in_place(value, gw_record_value_bytes(record, control), op->value, op->value_bytes);
        return GW_OK;
    case HOW_PREPEND:
        if (op->value_bytes)
            prepend_in_place(value, gw_record_value_bytes(record, control), op->value,
                             op->value_bytes);
        return GW_OK;
    case HOW_KEEP:
        return GW_OK;
    case HOW_SET:
        break;
    }
    if (!change->tombstone) /* else the value stays as it is, unread */
        value_store(record, control, change);
    return GW_OK;
}

static enum gw_status change_in_place(struct gw_thread *t, struct gw_op *op,
                                      struct gw_record *record, uint64_t control,
                                      struct change *change, const struct gwi_room *room,
                                      struct old *old)
{
    if (!gw_record_lock(record, control))
        return GW_RETRY;
    if (GW_UNLIKELY(old != NULL))
        old_take(record, control, room, old);
    enum gw_status st = value_change(record, control, op, change);
    if (GW_UNLIKELY(st != GW_OK)) {
        gw_record_unlock(record, control);
        return st;
    }
    uint32_t version = gw_control_version(control) + 1;
    uint64_t stays = control & (GW_CONTROL_PARITY | GW_CONTROL_EXPIRY), next;
    if (change->tombstone) {
        next = gw_control_make(version, op->key_bytes, gw_control_slack(control),
                               gw_control_kind(control), stays | GW_CONTROL_TOMBSTONE);
    } else {
        if (GW_UNLIKELY(control & GW_CONTROL_EXPIRY))
            /* Release: see gw_value_store. */
            atomic_store_explicit(gw_record_expiry_word(record),
                                  change->expiry_ms ? change->expiry_ms : GW_EXPIRY_NEVER,
                                  memory_order_release);
        uint64_t capacity = gw_record_capacity(record, control);
        next = gw_control_make(version, op->key_bytes, (uint32_t)(capacity - change->value_bytes),
                               change->kind, stays);
    }
    gw_record_unlock(record, next);
    answer(t, op, change, version);
    return GW_OK;
}

static enum gw_status change_by_copy(struct gw_thread *t, struct gw_op *op,
                                     struct gwi_position *position, uint64_t control,
                                     struct change *change, struct spare *spare,
                                     const struct gwi_room *room, struct old *old)
{
    enum gw_status st =
        spare_want(t, spare, units_of(t, op, change), position->entry, change->tombstone);
    if (st != GW_OK)
        return st;
    struct gw_record *record = position->record;
    bool seal = position->address.v >= t->view.safe_read_only;
    if (seal && !gw_record_seal(record, control))
        return GW_RETRY;
    if (GW_UNLIKELY(old != NULL))
        old_take(record, control, room, old);
    if (change->how == HOW_ADD) {
        /* Acquire: final below the seal or below safe_read_only; written before. */
        int64_t value =
            (int64_t)atomic_load_explicit(gw_record_value(record, control), memory_order_acquire);
        st = sum_of(op, value, &change->number);
    }
    uint32_t version = gw_control_version(control) + 1;
    if (st == GW_OK) {
        struct gw_record *copy = fill(t, spare, op, change, version, 0, record, control);
        if (GW_UNLIKELY(gw_entry_narrow(position->entry) != gw_addr_narrow(position->address)))
            gwi_mark_mixed(t, op->hash, op->slot, position->entry, spare->address);
        if (!gwi_publish(t, position->place, position->entry, copy, spare->address))
            st = GW_RETRY;
    }
    if (st != GW_OK) {
        if (seal)
            gw_record_unseal(record, control);
        return st;
    }
    gwi_count_live(t, ((int64_t)spare->units - (int64_t)gw_record_units(record)) * GW_ADDR_UNIT);
    spare->units = 0; /* published */
    gwi_count(&t->counters.copies, 1);
    answer(t, op, change, version);
    return GW_OK;
}

static enum gw_status change_found(struct gw_thread *t, struct gw_op *op,
                                   struct gwi_position *position, struct spare *spare,
                                   struct gwi_room *room)
{
    struct gw_record *record = position->record;
    /* Acquire: decisions are made on what the last writer left; pairs with gw_record_unlock. */
    uint64_t control = atomic_load_explicit(&record->control, memory_order_acquire);
    if (GW_UNLIKELY(control & (GW_CONTROL_LOCKED | GW_CONTROL_SEALED))) {
        gwi_pause();
        return GW_RETRY;
    }
    struct change change;
    enum gw_status st = decide_found(t, op, record, control, &change);
    if (st != GW_OK) {
        op->version = gw_control_version(control);
        op->kind = (uint8_t)gw_control_kind(control);
        return st;
    }
    struct old old_room, *old = NULL;
    if (GW_UNLIKELY(change.gives_old) && !(control & GW_CONTROL_TOMBSTONE) &&
        !gw_record_expired(record, control, t->now_ms)) {
        uint64_t bytes = gw_record_value_bytes(record, control);
        if (gw_control_kind(control) == GW_RECORD_BYTES &&
            bytes > (uint64_t)(room->end - room->at)) {
            op->out_bytes = (uint32_t)bytes;
            return GW_WOULD_BLOCK;
        }
        old = &old_room;
    }
    if (position->address.v >= t->view.read_only && fits_in_place(record, control, &change))
        st = change_in_place(t, op, record, control, &change, room, old);
    else
        st = change_by_copy(t, op, position, control, &change, spare, room, old);
    if (st == GW_OK) {
        if (GW_UNLIKELY(old != NULL))
            old_give(op, old, room);
        /* By the tombstone, not by the expiry: an expired record counts until it is replaced. */
        bool was_counted = !(control & GW_CONTROL_TOMBSTONE);
        if (was_counted == change.tombstone)
            gwi_count_keys(t, change.tombstone ? -1 : 1);
    }
    return st;
}

enum gw_status gwi_write(struct gw_thread *t, struct gw_op *op, struct gwi_room *room)
{
    if (GW_UNLIKELY(op->verb == GW_VERB_ADD && !bounds_are_good(op)))
        return GW_E_INVALID;
    struct spare spare = {.units = 0};
    enum gw_status st = GW_RETRY;
    for (uint32_t tries = 0; tries < GWI_TRIES && st == GW_RETRY; tries++) {
        struct gwi_position position;
        struct change change;
        enum gw_status why = GW_OK;
        switch (gwi_find(t, op, &position, &why)) {
        case GWI_FOUND:
            st = change_found(t, op, &position, &spare, room);
            break;
        case GWI_ABSENT:
            st = decide_absent(t, op, &change);
            if (st == GW_OK)
                st = create(t, op, &position, &change, &spare);
            break;
        case GWI_COLD:
            st = why;
            break;
        }
    }
    spare_drop(t, &spare);
    if (GW_UNLIKELY(st == GW_NOT_YET)) /* no page, or no cold walk, in this turn */
        st = GW_RETRY;
    if (GW_UNLIKELY(st == GW_E_FULL))
        gwi_count(&t->counters.refused_full, 1);
    return st;
}
