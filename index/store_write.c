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
 *  6. A sealed record found as the newest of its key is about to be replaced: wait (bounded). Not
 *     below safe_read_only: it is final there, sealed or not. Its replacement may have been dropped
 *     with the end of an earlier process's log, or is being published now; then one of both fails.
 *  7. What is made from the old value, and the old value that is given to the caller, are taken
 *     under the lock or the seal; that there is room to give it is seen before. Nothing of the
 *     operation's results is written before it has succeeded: some of them are inputs too.
 *  9. Whoever changes a record leaves his interval's parity in it (store_cut.h). A cut that the
 *     thread does not know is looked for when room was allocated, and when a record is met that may
 *     lie above one; then the operation is left for after the crossing.
 *  8. An expired record is decided upon as if it were a tombstone. Its lock's or seal's CAS expects
 *     the control word that was there when its expiry was read.
 * 10. The one exception to rule 4: a blind write whose chain goes on where nothing can be read now,
 *     in an object store that does not answer, creates its key over that unseen. Rule 4's CAS still
 *     holds, the chain counts as mixed, the version lies above all, and to the commit log the key
 *     begins there; what it does to the numbers is a guess (docs/decisions/0011). */
#include "index/store_change.h"

#define APPEND_ROOM_MAX 192u /* kept free behind a value that has been appended to, at most */
static_assert(APPEND_ROOM_MAX + 2 * GW_ADDR_UNIT <= GW_RECORD_SLACK_MAX, "it must count as slack");

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

/* ---- doing ---- */

/* What the change was. `old_control`: of the record that it was made from, at `old`; a key that is
 * created from nothing has none: GW_CONTROL_ARRIVED says the same of what begins with it. */
static uint8_t effect_of(const struct gw_thread *t, const struct gwi_change *change,
                         uint64_t old_control, gw_addr old)
{
    bool first = old.v < gw_log_cut_address(&t->view) ||
                 ((old_control ^ t->view.parity) & GW_CONTROL_PARITY);
    return (uint8_t)(GW_EFFECT_CHANGED |
                     ((old_control & GW_CONTROL_ARRIVED) ? GW_EFFECT_START : 0) |
                     (first ? GW_EFFECT_FIRST : 0) | (change->tombstone ? GW_EFFECT_TOMBSTONE : 0));
}

static void answer(struct gw_thread *t, struct gw_op *op, const struct gwi_change *change,
                   uint32_t version)
{
    op->version = version;
    if (GW_UNLIKELY(t->gives_results))
        op->expiry_ms = change->tombstone ? 0 : change->expiry_ms;
    if (GW_UNLIKELY(change->gives_old)) {
        op->kind = GW_KIND_NONE; /* there was none; else gwi_old_give says what it was */
        op->out_bytes = 0;
    } else {
        op->kind = (uint8_t)change->kind;
        if (change->kind == GW_RECORD_COUNTER && change->how != GWI_HOW_KEEP)
            op->number = change->number;
        op->out_bytes = (uint32_t)change->value_bytes;
    }
    gwi_count_highest(&t->counters.version_highest, version);
}

/* Units of the record that `change` needs. Who appends once will append again: then there is some
 * room behind, so that not every time costs a copy. */
static uint64_t units_of(const struct gw_thread *t, const struct gw_op *op,
                         const struct gwi_change *change)
{
    bool expires = change->expiry_ms != 0;
    uint64_t units = gw_record_units_for(op->key_bytes, change->value_bytes, expires);
    if (GW_LIKELY(change->how != GWI_HOW_APPEND && change->how != GWI_HOW_PREPEND))
        return units;
    uint64_t more = change->value_bytes / 4;
    more = more < APPEND_ROOM_MAX ? more : APPEND_ROOM_MAX;
    uint64_t roomy = gw_record_units_for(op->key_bytes, change->value_bytes + more, expires);
    return roomy <= t->store->units_max ? roomy : units;
}

/* Fills the spare room with what `change` makes of the old record (NULL: there is none). */
static struct gw_record *fill(struct gw_thread *t, const struct spare *spare,
                              const struct gw_op *op, const struct gwi_change *change,
                              uint32_t version, uint64_t flags, struct gw_record *old,
                              uint64_t old_control)
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
    gwi_value_build(record, control, change, op, old, old_control);
    gw_record_pad(record, control);
    return record;
}

/* Rule 10. A key's changes in the commit logs are put in order by their versions, which go round:
 * a higher number may count as the lower one. So what the chain holds unseen must be in the newest
 * checkpoint, hence in no log that is replayed, or all versions lie in one half of the numbers. */
static bool order_is_known(const struct gw_thread *t, gw_addr unseen)
{
    /* Acquire: the checkpoint before the boundary. */
    return !t->gives_results ||
           unseen.v < atomic_load_explicit(&t->store->retain_end, memory_order_acquire) ||
           gw_store_version_highest(t->store) <= INT32_MAX;
}

static uint32_t version_of_new(const struct gw_thread *t, const struct gw_op *op,
                               const struct gwi_change *change, gw_addr address)
{
    if (op->verb == GW_VERB_ARRIVE)
        return op->expected_version;
    return change->unseen ? gwi_version_above_all(t->store, address)
                          : gwi_first_version(t->store, address);
}

/* Unseen: a guess, that what is in the chain is an older record of this key, of the same size. */
static void count_created(struct gw_thread *t, const struct gwi_change *change, uint64_t units)
{
    if (!change->unseen)
        gwi_count_live(t, (int64_t)(units * GW_ADDR_UNIT));
    gwi_count_keys(t, (int64_t)!change->unseen - (int64_t)change->tombstone);
}

static enum gw_status create(struct gw_thread *t, struct gw_op *op, struct gwi_position *position,
                             const struct gwi_change *change, struct spare *spare,
                             struct gwi_room *room)
{
    if (GW_UNLIKELY(change->gives_whole) &&
        change->value_bytes > (uint64_t)(room->end - room->at)) {
        op->out_bytes = (uint32_t)change->value_bytes;
        return GW_WOULD_BLOCK;
    }
    enum gw_status st = spare_want(t, spare, units_of(t, op, change), position->entry, false);
    if (st != GW_OK)
        return st;
    if (gwi_must_cross(t, op))
        return GW_WOULD_BLOCK;
    bool arrives = op->verb == GW_VERB_ARRIVE;
    uint32_t version = version_of_new(t, op, change, spare->address);
    if (GW_UNLIKELY(change->unseen) && !order_is_known(t, position->address))
        return GW_E_UNREACHABLE;
    uint64_t flags =
        arrives ? GW_CONTROL_ARRIVED | (t->view.parity ^ GW_CONTROL_PARITY) : t->view.parity;
    struct gw_record *record = fill(t, spare, op, change, version, flags, NULL, 0);
    if (GW_UNLIKELY(change->gives_whole))
        gwi_whole_give(record, atomic_load_explicit(&record->control, memory_order_relaxed), op,
                       room);
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
    count_created(t, change, spare->units);
    spare->units = 0; /* published */
    answer(t, op, change, version);
    op->effect = effect_of(t, change, GW_CONTROL_ARRIVED | t->view.parity, gw_addr_of(UINT64_MAX));
    if (GW_UNLIKELY(change->gives_whole))
        gwi_room_take(room, op->result_bytes);
    return GW_OK;
}

/* GW_VERB_RESTORE: the newest record of its chain from now on, whatever is there. Chains say that
 * they are mixed, for nobody looks whether they are. */
static enum gw_status restore(struct gw_thread *t, struct gw_op *op, struct spare *spare)
{
    struct gwi_change change = {.expiry_ms = (op->flags & GW_OP_HAS_EXPIRY) ? op->expiry_ms : 0,
                                .tombstone = op->flags & GW_OP_TOMBSTONE};
    if (change.tombstone) {
        change.expiry_ms = 0;
    } else if (op->flags & GW_OP_COUNTER) {
        change.value_bytes = 8;
        change.number = op->number;
        change.kind = GW_RECORD_COUNTER;
    } else {
        change.value = op->value;
        change.value_bytes = op->value_bytes;
    }
    uint64_t tag = gw_table_tag(t->table, op->hash, op->slot), entry = 0;
    _Atomic uint64_t *place = gw_table_find(t->table, op->hash, tag, &entry);
    bool fresh = !place; /* the insertion below fills in `entry` */
    if (fresh)
        entry = 0;
    enum gw_status st = spare_want(t, spare, units_of(t, op, &change), entry, false);
    if (st != GW_OK)
        return st;
    struct gw_record *record =
        fill(t, spare, op, &change, op->expected_version, t->view.parity, NULL, 0);
    if (place) {
        gwi_mark_mixed(t, op->hash, op->slot, entry, spare->address);
        if (!gwi_publish(t, place, entry, record, spare->address))
            return GW_RETRY;
    } else {
        st = gw_table_insert(t->table, op->hash, tag, spare->address, &place, &entry);
        if (st != GW_OK)
            return st == GW_EXISTS ? GW_RETRY : st;
    }
    /* A guess: what is in the chain is an older record of this key, of the same size. */
    if (fresh)
        gwi_count_live(t, (int64_t)(spare->units * GW_ADDR_UNIT));
    gwi_count_keys(t, (int64_t)(fresh ? 1 : 0) - (change.tombstone ? 1 : 0));
    spare->units = 0; /* published */
    answer(t, op, &change, op->expected_version);
    op->effect = effect_of(t, &change, GW_CONTROL_ARRIVED | t->view.parity, gw_addr_of(UINT64_MAX));
    return GW_OK;
}

/* Rule 10. What is not blind cannot be done: GW_E_UNREACHABLE. */
static enum gw_status create_unseen(struct gw_thread *t, struct gw_op *op,
                                    struct gwi_position *position, struct spare *spare,
                                    struct gwi_room *room)
{
    struct gwi_change change;
    if (!gwi_writes_blind(op) || (op->flags & GW_OP_UNSETTLED))
        return GW_E_UNREACHABLE;
    enum gw_status st = gwi_decide_absent(t, op, &change);
    change.unseen = true;
    return st == GW_OK ? create(t, op, position, &change, spare, room) : st;
}

static bool fits_in_place(const struct gw_record *record, uint64_t control,
                          const struct gwi_change *change)
{
    if (change->tombstone)
        return true;
    if (change->expiry_ms != 0 && !(control & GW_CONTROL_EXPIRY))
        return false; /* the word is gained by a copy only */
    uint64_t capacity = gw_record_capacity(record, control);
    return (change->value_bytes <= capacity &&
            capacity - change->value_bytes <= GW_RECORD_SLACK_MAX);
}

static enum gw_status change_in_place(struct gw_thread *t, struct gw_op *op,
                                      struct gw_record *record, uint64_t control,
                                      struct gwi_change *change, const struct gwi_room *room,
                                      struct gwi_old *old)
{
    if (!gw_record_lock(record, control))
        return GW_RETRY;
    if (GW_UNLIKELY(old != NULL))
        gwi_old_take(record, control, room, old);
    enum gw_status st = gwi_value_change(record, control, op, change);
    if (GW_UNLIKELY(st != GW_OK)) {
        gw_record_unlock(record, control);
        return st;
    }
    uint32_t version = gw_control_version(control) + 1;
    uint64_t stays = (control & GW_CONTROL_EXPIRY) | t->view.parity, next;
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
    if (GW_UNLIKELY(change->gives_whole))
        gwi_whole_give(record, next, op, room);
    gw_record_unlock(record, next);
    answer(t, op, change, version);
    return GW_OK;
}

static enum gw_status change_by_copy(struct gw_thread *t, struct gw_op *op,
                                     struct gwi_position *position, uint64_t control,
                                     struct gwi_change *change, struct spare *spare,
                                     const struct gwi_room *room, struct gwi_old *old)
{
    enum gw_status st =
        spare_want(t, spare, units_of(t, op, change), position->entry, change->tombstone);
    if (st != GW_OK)
        return st;
    if (gwi_must_cross(t, op))
        return GW_WOULD_BLOCK;
    struct gw_record *record = position->record;
    bool seal = position->address.v >= t->view.safe_read_only;
    if (seal && !gw_record_seal(record, control))
        return GW_RETRY;
    if (GW_UNLIKELY(old != NULL))
        gwi_old_take(record, control, room, old);
    if (change->how == GWI_HOW_ADD) {
        /* Acquire: final below the seal or below safe_read_only; written before. */
        int64_t value =
            (int64_t)atomic_load_explicit(gw_record_value(record, control), memory_order_acquire);
        st = gwi_sum_of(op, value, &change->number);
    }
    uint32_t version = gw_control_version(control) + 1;
    if (st == GW_OK) {
        struct gw_record *copy =
            fill(t, spare, op, change, version, t->view.parity, record, control);
        if (GW_UNLIKELY(change->gives_whole))
            gwi_whole_give(copy, atomic_load_explicit(&copy->control, memory_order_relaxed), op,
                           room);
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

/* Is the new value to be given as a whole (gw_store_give_results)? Of the other verbs the caller
 * has it. */
static bool gives_whole(const struct gw_op *op, const struct gwi_change *change)
{
    return !change->tombstone && (op->verb == GW_VERB_APPEND || op->verb == GW_VERB_PREPEND ||
                                  op->verb == GW_VERB_TOUCH || op->verb == GW_VERB_READ_TOUCH);
}

static enum gw_status change_found(struct gw_thread *t, struct gw_op *op,
                                   struct gwi_position *position, struct spare *spare,
                                   struct gwi_room *room)
{
    struct gw_record *record = position->record;
    gwi_record_met(t, record);
    /* Acquire: decisions are made on what the last writer left; pairs with gw_record_unlock. */
    uint64_t control = atomic_load_explicit(&record->control, memory_order_acquire);
    if (GW_UNLIKELY(position->address.v >= t->view.fresh) && gwi_must_cross(t, op))
        return GW_WOULD_BLOCK;
    if (GW_UNLIKELY(control & (GW_CONTROL_LOCKED | GW_CONTROL_SEALED)) &&
        position->address.v >= t->view.safe_read_only) {
        gwi_pause();
        return GW_RETRY;
    }
    struct gwi_change change;
    enum gw_status st = gwi_decide_found(t, op, record, control, &change);
    if (st != GW_OK) {
        op->version = gw_control_version(control);
        op->kind = (uint8_t)gw_control_kind(control);
        return st;
    }
    struct gwi_old old_room, *old = NULL;
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
    if (GW_UNLIKELY(t->gives_results) && gives_whole(op, &change)) {
        /* READ_TOUCH changes nothing of the value: it is given once. */
        change.gives_whole = old == NULL;
        if (change.gives_whole && change.kind == GW_RECORD_BYTES &&
            change.value_bytes > (uint64_t)(room->end - room->at)) {
            op->out_bytes = (uint32_t)change.value_bytes;
            return GW_WOULD_BLOCK;
        }
    }
    if (position->address.v >= gwi_read_only(t, op->slot) &&
        fits_in_place(record, control, &change))
        st = change_in_place(t, op, record, control, &change, room, old);
    else
        st = change_by_copy(t, op, position, control, &change, spare, room, old);
    if (st == GW_OK) {
        op->effect = effect_of(t, &change, control, position->address);
        if (GW_UNLIKELY(old != NULL)) {
            gwi_old_give(op, old, room);
            if (op->verb == GW_VERB_READ_TOUCH && !change.tombstone) {
                op->result = op->out;
                op->result_bytes = op->out_bytes;
            }
        } else if (GW_UNLIKELY(change.gives_whole)) {
            gwi_room_take(room, op->result_bytes);
        }
        /* By the tombstone, not by the expiry: an expired record counts until it is replaced. */
        bool was_counted = !(control & GW_CONTROL_TOMBSTONE);
        if (was_counted == change.tombstone)
            gwi_count_keys(t, change.tombstone ? -1 : 1);
    }
    return st;
}

enum gw_status gwi_write(struct gw_thread *t, struct gw_op *op, struct gwi_room *room)
{
    if (GW_UNLIKELY(op->verb == GW_VERB_ADD && !gwi_bounds_are_good(op)))
        return GW_E_INVALID;
    struct spare spare = {.units = 0};
    enum gw_status st = GW_RETRY;
    op->effect = 0;
    if (GW_UNLIKELY(t->gives_results)) {
        op->result = NULL;
        op->result_bytes = 0;
    }
    for (uint32_t tries = 0; tries < GWI_TRIES && st == GW_RETRY; tries++) {
        struct gwi_position position;
        struct gwi_change change;
        enum gw_status why = GW_OK;
        if (GW_UNLIKELY(op->verb == GW_VERB_RESTORE)) {
            st = restore(t, op, &spare);
            continue;
        }
        switch (gwi_find(t, op, &position, &why)) {
        case GWI_FOUND:
            st = change_found(t, op, &position, &spare, room);
            break;
        case GWI_ABSENT:
            st = gwi_decide_absent(t, op, &change);
            change.gives_whole = t->gives_results && st == GW_OK && gives_whole(op, &change);
            if (st == GW_OK)
                st = create(t, op, &position, &change, &spare, room);
            break;
        case GWI_COLD:
            st = why == GW_E_UNREACHABLE ? create_unseen(t, op, &position, &spare, room) : why;
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
