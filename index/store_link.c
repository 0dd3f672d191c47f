/* store_link.c - putting indirections in front of chains, and taking them out.
 *
 * Rules:
 *  1. In each chain that it covers lies a record of its own, whose prefix is that of the chain, or
 *     its own if that is longer. Not more: the replay of a log puts a record into every chain that
 *     its prefix covers, over what is there (store_replay.c). So the prefix is that of the chain as
 *     it is after its entry was found: if it is split later the CAS fails.
 *  2. The slot's word is raised before the record is published (foreign.h), and the chain is marked
 *     as mixed if there is something in it (chains.h): an indirection is nobody's newest record.
 *  3. Where it lies in its chain does not matter: it is followed only when all of the chain has no
 *     answer. */
#include "index/device.h"
#include "index/foreign.h"

/* Is it in the part of the chain that is in memory, standing or retired? */
static bool is_linked(struct gw_thread *t, uint64_t entry, const struct gw_indirection *in)
{
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.head || at.v < t->view.begin)
            return false;
        struct gw_record *record = gw_log_at(&t->view, at);
        uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
        struct gw_indirection there;
        if (gw_control_kind(control) == GW_RECORD_INDIRECTION &&
            gwi_indirection_of(record, control, &there) && gwi_indirection_is(&there, in) &&
            there.prefix_bits <= in->prefix_bits && gwi_indirection_covers(&there, in->hash_prefix))
            return true;
        narrow = gw_record_previous(record);
    }
    return false;
}

enum gw_status gwi_put_indirection(struct gw_thread *t, const struct gw_indirection *in,
                                   uint64_t flags, bool reserved, struct gwi_position *position)
{
    gw_addr at;
    struct gw_indirection part = *in;
    uint32_t bits = gwi_chain_bits(t, in->hash_prefix); /* rule 1 */
    part.prefix_bits = bits > in->prefix_bits ? (uint8_t)bits : in->prefix_bits;
    enum gw_status st = reserved ? gw_log_allocate_reserved(t->log, GWI_INDIRECTION_UNITS, &at)
                                 : gw_log_allocate(t->log, GWI_INDIRECTION_UNITS, &at);
    if (st != GW_OK)
        return st;
    struct gw_record *record = gw_log_at(&t->view, at);
    gwi_indirection_fill(record, &part, flags | t->view.parity);
    st = gwi_foreign_raise(t->store->foreign, in, at);
    if (st == GW_OK && position->place) {
        gwi_mark_mixed(t, in->hash_prefix, in->slot, position->entry, at);
        if (!gwi_publish(t, position->place, position->entry, record, at))
            st = GW_RETRY;
    } else if (st == GW_OK) {
        uint64_t tag = gw_table_tag(t->table, in->hash_prefix, in->slot);
        st =
            gw_table_insert(t->table, in->hash_prefix, tag, at, &position->place, &position->entry);
        st = st == GW_EXISTS ? GW_RETRY : st;
    }
    if (st != GW_OK)
        gw_log_void(record, GWI_INDIRECTION_UNITS);
    else
        gwi_count_live(t, (int64_t)GWI_INDIRECTION_UNITS * GW_ADDR_UNIT);
    return st;
}

static enum gw_status link_one(struct gw_thread *t, const struct gw_indirection *in)
{
    enum gw_status st = GW_RETRY;
    uint64_t tag = gw_table_tag(t->table, in->hash_prefix, in->slot);
    for (uint32_t tries = 0; tries < GWI_TRIES && st == GW_RETRY; tries++) {
        struct gwi_position position = {.entry = 0};
        position.place = gw_table_find(t->table, in->hash_prefix, tag, &position.entry);
        if (!position.place)
            position.entry = 0;
        else if (is_linked(t, position.entry, in))
            return GW_OK;
        st = gwi_put_indirection(t, in, 0, false, &position);
    }
    if (st == GW_OK) {
        atomic_fetch_add_explicit(&t->store->foreign->linked, 1, memory_order_relaxed);
        gwi_foreign_count(t->store->foreign, in->log_id, 1);
    }
    return st;
}

enum gw_status gw_store_link(struct gw_thread *t, const struct gw_indirection *in)
{
    GW_ASSERT(t->inside);
    const struct gw_device *device = t->log->device;
    if (!gw_indirection_is_sound(in))
        return GW_E_INVALID;
    if (!device || !device->origin)
        return GW_E_UNSUPPORTED;
    if (device->origin(t->log->device, in->log_id) == 0)
        return GW_E_LIMIT;
    struct gw_indirection part = *in;
    uint64_t last = gwi_prefix_last(in->hash_prefix, in->prefix_bits);
    for (uint32_t n = 0; n < GW_LINK_CHAINS_MAX; n++) {
        uint32_t bits = gwi_chain_bits(t, part.hash_prefix);
        part.prefix_bits = bits > in->prefix_bits ? (uint8_t)bits : in->prefix_bits;
        enum gw_status st = link_one(t, &part);
        if (st != GW_OK)
            return st;
        if (gwi_chain_bits(t, part.hash_prefix) > part.prefix_bits)
            continue; /* split meanwhile: maybe before, then only one half has it */
        uint64_t end = gwi_prefix_last(part.hash_prefix, part.prefix_bits);
        if (end >= last)
            return GW_OK;
        part.hash_prefix = end + 1;
    }
    return GW_E_LIMIT;
}
