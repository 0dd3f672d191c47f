/* store_follow.c - look-ups that go on in the logs of others, and what they find is inserted here.
 *
 * Rules (MIGRATION R11, R16):
 *  1. Only where the whole chain, from the present entry down to its end, on the device too, had no
 *     answer. The chain is walked again for its indirections: those that cover the hash and are not
 *     retired above themselves.
 *  2. What was found is inserted by one CAS that expects that entry. So nobody can have inserted,
 *     deleted or retired anything in between: each of these puts a record on top of the chain.
 *  3. The copy is no change, as one that arrives is none: version, expiry and kind are the same, it
 *     says `arrived`, and it belongs to no session, so that no cut is asked about.
 *  4. A tombstone is inserted as well, an expired record too: they are answers, and the operation
 *     decides upon them.
 *  5. A read is answered from the buffer where there is no room, or somebody was in the way: what
 *     the chain did not have was true when its entry was loaded. */
#include <stdlib.h>
#include <string.h>

#include "index/cold.h"
#include "index/device.h"
#include "index/foreign.h"

#define MET_MAX 16u /* on the stack; more of them are rare, and take memory */

struct met {
    struct gwi_lead few[MET_MAX], *all;
    uint32_t count, room;
    bool any; /* one is not done */
};

static bool met_add(struct met *met, const struct gw_indirection *in, bool retired)
{
    for (uint32_t i = 0; i < met->count; i++)
        if (gwi_indirection_is(&met->all[i].in, in))
            return true; /* the upper one counts */
    if (met->count == met->room) {
        struct gwi_lead *more = malloc(2 * met->room * sizeof *more);
        if (!more)
            return false;
        memcpy(more, met->all, met->count * sizeof *more);
        if (met->all != met->few)
            free(met->all);
        met->all = more;
        met->room *= 2;
    }
    met->all[met->count++] = (struct gwi_lead){.in = *in, .done = retired};
    met->any |= !retired;
    return true;
}

/* Gathers the indirections of the chain that cover the key. ABSENT: all; COLD: *status; FOUND: the
 * key has come meanwhile. */
static enum gwi_walk gather(struct gw_thread *t, const struct gw_op *op, uint64_t entry,
                            struct met *met, enum gw_status *status)
{
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.begin)
            return GWI_ABSENT;
        if (at.v < t->view.head) {
            struct gwi_position position = {.address = at};
            const struct gwi_lead *cold;
            uint32_t count;
            enum gwi_walk walk = gwi_cold_find_met(t, op->hash, op->key, op->key_bytes, &position,
                                                   &cold, &count, status);
            *status = walk == GWI_FOUND ? GW_RETRY : *status;
            for (uint32_t i = 0; i < count; i++)
                if (!met_add(met, &cold[i].in, cold[i].done)) {
                    *status = GW_NOT_YET;
                    return GWI_COLD;
                }
            return walk;
        }
        struct gw_record *record = gw_log_at(&t->view, at);
        /* Relaxed: an indirection never changes, and was acquired with the entry. */
        uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
        struct gw_indirection in;
        if (gw_control_kind(control) == GW_RECORD_INDIRECTION &&
            gwi_indirection_of(record, control, &in) && gwi_indirection_covers(&in, op->hash) &&
            !met_add(met, &in, control & GW_CONTROL_TOMBSTONE)) {
            *status = GW_NOT_YET;
            return GWI_COLD;
        }
        narrow = gw_record_previous(record);
    }
    return GWI_ABSENT;
}

/* As gwi_publish, but the record follows what lies behind the chain's first, position->record. */
static bool publish_over(struct gw_thread *t, uint64_t hash, uint16_t slot,
                         const struct gwi_position *position, struct gw_record *record, gw_addr at)
{
    uint64_t behind = gw_record_previous(position->record), entry = position->entry;
    if (behind != 0 && gw_addr_widen(behind, t->view.reference).v < t->view.begin)
        behind = 0;
    if (gw_addr_widen(gw_entry_narrow(entry), t->view.reference).v >= at.v)
        return false;
    if (behind != 0)
        gwi_mark_mixed(t, hash, slot, behind, at);
    record->link = gw_record_link(gw_record_units(record), behind);
    /* Orders and ABA: as in gwi_publish. */
    return atomic_compare_exchange_strong_explicit(position->place, &entry,
                                                   gw_entry_make(entry >> GW_ENTRY_TAG_SHIFT, at),
                                                   memory_order_release, memory_order_relaxed);
}

enum gw_status gwi_insert_foreign(struct gw_thread *t, uint64_t hash, uint16_t slot, uint32_t how,
                                  struct gw_record *from, struct gwi_position *position)
{
    /* Relaxed: a buffer of this thread's. */
    uint64_t control = atomic_load_explicit(&from->control, memory_order_relaxed);
    uint64_t units = gw_record_units(from);
    gw_addr at;
    if (units > t->store->units_max)
        return GW_E_TOO_LARGE;
    enum gw_status st = (how & GWI_INSERT_DELETES) ? gw_log_allocate_delete(t->log, units, &at)
                                                   : gw_log_allocate(t->log, units, &at);
    if (st != GW_OK)
        return st;
    struct gw_record *to = gw_log_at(&t->view, at);
    to->link = gw_record_link(units, 0);
    uint64_t bytes = units * GW_ADDR_UNIT - GW_RECORD_HEADER;
    for (uint64_t i = 0; i < bytes; i += 8)
        gw_store64(to->rest + i, gw_load64(from->rest + i));
    uint64_t stays = control & ~(GW_CONTROL_LOCKED | GW_CONTROL_SEALED | GW_CONTROL_PARITY);
    atomic_store_explicit(&to->control,
                          stays | GW_CONTROL_ARRIVED | (t->view.parity ^ GW_CONTROL_PARITY),
                          memory_order_relaxed); /* private still */
    if (control & GW_CONTROL_EXPIRY)
        atomic_store_explicit(&t->store->expires, true, memory_order_relaxed);
    if (!(how & GWI_INSERT_OVER))
        gwi_mark_mixed(t, hash, slot, position->entry, at);
    if (how & GWI_INSERT_OVER ? !publish_over(t, hash, slot, position, to, at)
                              : !gwi_publish(t, position->place, position->entry, to, at)) {
        gw_log_void(to, units);
        return GW_RETRY;
    }
    gwi_count_live(t, (int64_t)(units * GW_ADDR_UNIT));
    gwi_count_highest(&t->counters.version_highest, gw_control_version(control));
    if (!(control & GW_CONTROL_TOMBSTONE))
        gwi_count_keys(t, 1);
    position->entry = gw_entry_make(position->entry >> GW_ENTRY_TAG_SHIFT, at);
    position->record = to;
    position->address = at;
    return GW_OK;
}

/* Does neither effect nor answer of the operation depend on what the key holds? (MIGRATION R18) */
static bool is_blind(const struct gw_op *op)
{
    return op->verb == GW_VERB_ARRIVE || gwi_writes_blind(op);
}

enum gwi_walk gwi_follow(struct gw_thread *t, const struct gw_op *op, struct gwi_position *position,
                         enum gw_status *status)
{
    struct gwi_foreign *f = t->store->foreign;
    struct met met = {.room = MET_MAX};
    met.all = met.few;
    enum gwi_walk walk = gather(t, op, position->entry, &met, status);
    struct gwi_position there = *position;
    if (walk == GWI_FOUND)
        walk = GWI_COLD; /* *status: try again */
    else if (walk == GWI_ABSENT && met.any)
        walk = gwi_cold_follow(t, op->hash, op->key, op->key_bytes, met.all, met.count, &there,
                               status);
    else if (walk == GWI_ABSENT) {
        f = NULL; /* there was none to follow */
    }
    if (met.all != met.few)
        free(met.all);
    if (walk == GWI_COLD || !f)
        return walk;
    atomic_fetch_add_explicit(&f->followed, 1, memory_order_relaxed);
    if (walk == GWI_ABSENT) {
        atomic_fetch_add_explicit(&f->absent, 1, memory_order_relaxed);
        return walk;
    }
    atomic_fetch_add_explicit(&f->found, 1, memory_order_relaxed);
    uint32_t how =
        op->verb == GW_VERB_DELETE || op->verb == GW_VERB_GETDEL ? GWI_INSERT_DELETES : 0;
    enum gw_status st = gwi_insert_foreign(t, op->hash, op->slot, how, there.record, position);
    if (st == GW_OK)
        return GWI_FOUND;
    if (op->verb == GW_VERB_READ || op->verb == GW_VERB_FETCH) { /* rule 5 */
        position->record = there.record;
        position->address = gw_addr_of(UINT64_MAX);
        return GWI_FOUND;
    }
    *status = st;
    return GWI_COLD;
}

enum gwi_walk gwi_find_foreign(struct gw_thread *t, const struct gw_op *op,
                               struct gwi_position *position, enum gw_status *status)
{
    if (is_blind(op) || !gwi_foreign_has(t->store->foreign, op->slot, t->view.begin))
        return GWI_ABSENT;
    return gwi_follow(t, op, position, status);
}

/* ---- leads ---- */

bool gwi_leads(const struct gw_thread *t, struct gw_op *op, const struct gwi_position *position)
{
    struct gw_device *device = t->log->device;
    /* An indirection in front of that address leads to what is older than the rest, and would not
     * be met behind it: such a chain is read here. */
    if (!(op->flags & GW_OP_LEADS) || !device->shared ||
        position->address.v >= device->shared(device) ||
        position->address.v > GW_INDIRECTION_ADDRESS_MAX ||
        gwi_foreign_has(t->store->foreign, op->slot, t->view.begin))
        return false;
    op->number = (int64_t)position->address.v;
    return true;
}

void gw_store_lead(const struct gw_thread *t, const struct gw_op *op, uint64_t map_version,
                   struct gw_indirection *out)
{
    struct gw_device *device = t->log->device;
    uint64_t address = (uint64_t)op->number;
    uint64_t begin = t->view.begin < address ? t->view.begin : address;
    *out = (struct gw_indirection){.log_id = device->log_id(device),
                                   .address = address,
                                   .hash_prefix = op->hash,
                                   .prefix_bits = 64,
                                   .map_version = map_version,
                                   .slot = op->slot,
                                   .begin = begin & ~(uint64_t)UINT16_MAX};
}

enum gw_status gw_store_fetch_lead(struct gw_thread *t, const struct gw_indirection *lead,
                                   struct gw_op *op, uint8_t *room, size_t room_bytes)
{
    struct gw_device *device = t->log->device;
    struct gwi_lead met = {.in = *lead};
    struct gwi_position position = {0};
    enum gw_status why = GW_OK;
    if (!gw_indirection_is_sound(lead) || lead->slot != op->slot ||
        !gwi_indirection_covers(lead, op->hash))
        return GW_E_INVALID;
    if (!device || !device->origin || !t->cold)
        return GW_E_UNSUPPORTED;
    enum gwi_walk walk =
        gwi_cold_follow(t, op->hash, op->key, op->key_bytes, &met, 1, &position, &why);
    if (walk == GWI_COLD)
        return why == GW_NOT_YET ? GW_RETRY : why;
    struct gwi_foreign *f = t->store->foreign;
    atomic_fetch_add_explicit(&f->followed, 1, memory_order_relaxed);
    if (walk == GWI_ABSENT) {
        atomic_fetch_add_explicit(&f->absent, 1, memory_order_relaxed);
        return GW_NOT_FOUND;
    }
    atomic_fetch_add_explicit(&f->found, 1, memory_order_relaxed);
    struct gwi_room left = {.at = room, .end = room + room_bytes};
    return gwi_read_value(t, op, position.record, &left);
}
