/* gather.c - chains as a whole. Contract: gather.h.
 *
 * Rules:
 *  1. The records of our log come first: whatever lies behind an indirection is older (R16).
 *  2. An indirection is left out when it is retired by a record above it, and taken once: of the
 *     same name there may be one for each part of a chain, so the prefix counts too.
 *  3. What an indirection leads to counts for hashes that it covers and the chain holds; one that
 *     is met there counts for those that both cover. */
#include "index/gather.h"

#include <stdlib.h>

#include "index/base/hash.h"
#include "index/cold.h"
#include "index/foreign.h"

static bool same_key(const struct gw_record *a, const struct gw_record *b)
{
    uint64_t ca = atomic_load_explicit(&a->control, memory_order_relaxed); /* key part: immutable */
    uint64_t cb = atomic_load_explicit(&b->control, memory_order_relaxed);
    return gw_record_has_key(a, ca, gw_record_key(b, cb), gw_control_key_bytes(cb));
}

bool gwi_gather_add(struct gw_thread *t, struct gw_record *record)
{
    if (t->chain_count == t->chain_room) {
        uint32_t room = t->chain_room ? 2 * t->chain_room : 64;
        struct gw_record **chain = realloc((void *)t->chain, room * sizeof *chain);
        if (!chain)
            return false;
        t->chain = chain;
        t->chain_room = room;
    }
    t->chain[t->chain_count++] = record;
    return true;
}

bool gwi_gather_later(enum gw_status st)
{
    return st == GW_PENDING || st == GW_NOT_YET || st == GW_E_NOMEM || st == GW_E_UNREACHABLE;
}

enum gw_status gwi_gather(struct gw_thread *t, uint64_t entry, bool one)
{
    uint64_t narrow = gw_entry_narrow(entry);
    t->chain_count = 0;
    t->chain_cut = false;
    while (narrow != 0) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.head) {
            struct gw_record *const *records = NULL;
            uint32_t count = 0;
            if (at.v < t->view.begin)
                return GW_OK;
            enum gw_status st = gwi_cold_chain(t, at, one, false, &records, &count);
            if (gwi_gather_later(st))
                return st; /* nothing is wrong with the records: they are not left out */
            t->chain_cut = st != GW_OK;
            for (uint32_t i = 0; st == GW_OK && i < count; i++) {
                if (gw_addr_widen(narrow, t->view.reference).v < t->view.begin)
                    break; /* begin has risen since it was read */
                if (!gwi_gather_add(t, records[i]))
                    return GW_E_NOMEM;
                narrow = gw_record_previous(records[i]);
            }
            return GW_OK;
        }
        struct gw_record *record = gw_log_at(&t->view, at);
        if (!gwi_gather_add(t, record))
            return GW_E_NOMEM;
        if (one)
            return GW_OK;
        narrow = gw_record_previous(record);
    }
    return GW_OK;
}

bool gwi_gather_superseded(const struct gw_thread *t, uint32_t i)
{
    for (uint32_t j = 0; j < i; j++)
        if (same_key(t->chain[j], t->chain[i]))
            return true;
    return false;
}

/* ---- other logs ---- */

bool gwi_gather_indirection(struct gw_record *record, struct gw_indirection *out)
{
    /* Relaxed: what is asked of it never changes. */
    uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
    return gw_control_kind(control) == GW_RECORD_INDIRECTION &&
           gwi_indirection_of(record, control, out);
}

bool gwi_gather_stands(const struct gw_thread *t, uint32_t i, const struct gw_indirection *within,
                       struct gw_indirection *out)
{
    struct gw_indirection above;
    if (!gwi_gather_indirection(t->chain[i], out) || !gwi_indirection_narrow(out, within) ||
        (atomic_load_explicit(&t->chain[i]->control, memory_order_relaxed) & GW_CONTROL_TOMBSTONE))
        return false;
    for (uint32_t j = 0; j < i; j++)
        if (gwi_gather_indirection(t->chain[j], &above) && gwi_indirection_is(&above, out) &&
            gwi_indirection_narrow(&above, within) && above.prefix_bits <= out->prefix_bits &&
            gwi_indirection_covers(&above, out->hash_prefix))
            return false;
    return true;
}

struct leads {
    struct gwi_lead *all;
    uint32_t count, room;
};

/* Notes what an indirection record says for the hashes of `within`. False: no memory. */
static bool lead_add(struct leads *leads, struct gw_record *record,
                     const struct gw_indirection *within)
{
    struct gw_indirection in;
    uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
    if (!gwi_gather_indirection(record, &in) || !gwi_indirection_narrow(&in, within)) /* rule 3 */
        return true;
    for (uint32_t i = 0; i < leads->count; i++) { /* rule 2 */
        const struct gw_indirection *above = &leads->all[i].in;
        if (gwi_indirection_is(above, &in) && above->prefix_bits <= in.prefix_bits &&
            gwi_indirection_covers(above, in.hash_prefix))
            return true;
    }
    if (leads->count == leads->room) {
        uint32_t room = leads->room ? 2 * leads->room : 8;
        struct gwi_lead *all = realloc(leads->all, room * sizeof *all);
        if (!all)
            return false;
        leads->all = all;
        leads->room = room;
    }
    leads->all[leads->count++] =
        (struct gwi_lead){.in = in, .done = control & GW_CONTROL_TOMBSTONE};
    return true;
}

static struct gwi_lead *lead_next(const struct leads *leads)
{
    struct gwi_lead *next = NULL;
    for (uint32_t i = 0; i < leads->count; i++)
        if (!leads->all[i].done && (!next || leads->all[i].in.map_version > next->in.map_version))
            next = &leads->all[i];
    return next;
}

static bool top_add(struct gw_thread *t, gw_addr top)
{
    if (t->tops_count == t->tops_room) {
        uint32_t room = t->tops_room ? 2 * t->tops_room : 64;
        gw_addr *tops = realloc(t->tops, room * sizeof *tops);
        if (!tops)
            return false;
        t->tops = tops;
        t->tops_room = room;
    }
    t->tops[t->tops_count++] = top;
    return true;
}

/* Follows one; `in` is a copy, for the list moves. */
static enum gw_status lead_follow(struct gw_thread *t, struct leads *leads,
                                  struct gw_indirection in)
{
    struct gw_record *const *records = NULL;
    uint32_t count = 0;
    gw_addr top;
    enum gw_status st = gwi_cold_foreign(t, &in, false, &records, &count, &top);
    if (st != GW_OK)
        return st;
    if (!top_add(t, top))
        return GW_E_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t control = atomic_load_explicit(&records[i]->control, memory_order_relaxed);
        if (gw_control_kind(control) == GW_RECORD_INDIRECTION) {
            if (!lead_add(leads, records[i], &in))
                return GW_E_NOMEM;
            continue;
        }
        uint64_t hash = gw_key_hash(gw_record_key(records[i], control),
                                    gw_control_key_bytes(control), t->store->hash_seed);
        if (gwi_indirection_covers(&in, hash) && !gwi_gather_add(t, records[i]))
            return GW_E_NOMEM;
    }
    return GW_OK;
}

enum gw_status gwi_gather_foreign(struct gw_thread *t, uint16_t slot,
                                  const struct gw_indirection *within)
{
    if (GW_LIKELY(!gwi_foreign_has(t->store->foreign, slot, t->view.begin)))
        return GW_OK;
    struct leads leads = {0};
    enum gw_status st = GW_OK;
    for (uint32_t i = 0; i < t->chain_count && st == GW_OK; i++)
        st = lead_add(&leads, t->chain[i], within) ? GW_OK : GW_E_NOMEM;
    struct gwi_lead *next;
    while (st == GW_OK && !t->chain_cut && (next = lead_next(&leads))) {
        next->done = true;
        st = lead_follow(t, &leads, next->in);
        if (st != GW_OK && !gwi_gather_later(st)) {
            t->chain_cut = true; /* counted */
            st = GW_OK;
        }
    }
    free(leads.all);
    return st;
}

bool gwi_gather_request(struct gw_thread *t, uint64_t entry, const struct gw_indirection *within,
                        bool ahead, uint32_t *requests)
{
    struct leads leads = {0};
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v < t->view.head)
            break;
        struct gw_record *record = gw_log_at(&t->view, at);
        if (!lead_add(&leads, record, within))
            break;
        narrow = gw_record_previous(record);
    }
    bool more = true;
    for (uint32_t i = 0; i < leads.count && more; i++) {
        gw_addr top;
        if (leads.all[i].done)
            continue;
        ++*requests;
        more = gwi_cold_foreign(t, &leads.all[i].in, ahead, NULL, NULL, &top) != GW_NOT_YET;
    }
    free(leads.all);
    return more;
}

void gwi_gather_drop(struct gw_thread *t)
{
    for (uint32_t i = 0; i < t->tops_count; i++)
        gwi_cold_chain_drop(t, t->tops[i], false);
    t->tops_count = 0;
}
