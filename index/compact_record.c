/* compact_record.c - what becomes of one record of an old page.
 *
 * The record X at address a, of key K, lies below flushable: no word of it changes any more. It was
 * published in the chain of K's entry, and chains run downward.
 *  1. Sealed, in this process (compact.c forgets older seals): whoever sealed it has published its
 * successor, or somebody else has, else he had taken the seal away, and all who could have sealed
 * it have left the epoch. Dead.
 *  2. No entry, or one that leads below a: X's entry was removed with its slot. Dead.
 *  3. The entry leads to a: the newest of its key. Live.
 *  4. The entry leads above a and the chain is not mixed (chains.h): all its records have one key,
 *     and X's among them, so there is a newer one. Dead, and nothing was read.
 *  5. Else the chain is walked from the entry to a: a newer record of K, or no way to a: dead; a is
 *     reached: live. Parts of the chain beyond memory are read by a cold walk that stops at a.
 * What is live is copied, if the entry still is the one from which all this was seen (ENGINE H18).
 *
 * Left behind although live: tombstones and expired records, of slots that nobody moves here
 * (ENGINE H17: this is the oldest page, so nothing older of the key is left that could rise; where
 * there are checkpoints, only those that the newest one holds; none of a slot that has
 * indirections, MIGRATION R13), and
 * everything in cache mode (of slots that are moved here only what arrived). If the chain ends with
 * X its entry is taken out by CAS, whereby exactly one thread counts the loss: who wants to
 * supersede X must win a CAS on the same word. The word may become empty although a is not yet
 * below begin (compare ENGINE H15): nobody changes X in place any more, and who has found it can
 * publish only over the entry that is gone. In a chain of several keys the entry stays and leads
 * below begin soon; a key that is written again before that is counted off twice. Such chains are
 * rare, and the window is that of one page. Design: DESIGN section 6. */
#include "index/cold.h"
#include "index/compact_internal.h"
#include "index/foreign.h"

#define SETTLE_TRIES 16u

enum verdict { DEAD, LIVE, UNKNOWN };

/* Rule 5. Requires: the entry leads above met->address. */
static enum verdict walk(struct gw_thread *t, struct gwi_compact_job *job,
                         const struct gwi_met *met, uint64_t entry)
{
    const struct gw_record *mine = met->record;
    uint64_t control = atomic_load_explicit(&met->record->control, memory_order_relaxed);
    const uint8_t *key = gw_record_key(mine, control);
    uint16_t key_bytes = gw_control_key_bytes(control);
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v <= met->address.v)
            return at.v == met->address.v ? LIVE : DEAD;
        if (at.v < t->view.head) {
            if (!t->cold)
                return DEAD; /* below begin */
            struct gwi_position position = {.address = at};
            enum gw_status why;
            enum gwi_walk cold =
                gwi_cold_find(t, met->hash, key, key_bytes, met->address, &position, &why);
            if (cold == GWI_ABSENT)
                return position.address.v == met->address.v ? LIVE : DEAD;
            if (cold == GWI_FOUND)
                return DEAD;
            if (why == GW_PENDING || why == GW_NOT_YET)
                return UNKNOWN;
            if (t->store->compactor->evict)
                return DEAD; /* cannot be told: a cache may forget it */
            job->unreadable = true;
            return UNKNOWN;
        }
        struct gw_record *record = gw_log_at(&t->view, at);
        /* Relaxed: the key part never changes. */
        if (gw_record_has_key(record, atomic_load_explicit(&record->control, memory_order_relaxed),
                              key, key_bytes))
            return DEAD;
        narrow = gw_record_previous(record);
    }
    return DEAD;
}

/* May the newest record of its key be left behind? */
static bool needless(struct gw_thread *t, const struct gwi_compact_job *job,
                     const struct gwi_met *met, uint64_t control)
{
    struct gwi_compactor *c = t->store->compactor;
    bool gone =
        (control & GW_CONTROL_TOMBSTONE) || gw_record_expired(met->record, control, t->now_ms);
    if (!gone && !job->drop)
        return false;
    /* MIGRATION R13: an indirection may lead to older records of the key. What came from one and
     * was not changed here is there still. */
    if (GW_UNLIKELY(gwi_foreign_has(t->store->foreign, met->slot, t->view.begin)))
        return !gone && (control & GW_CONTROL_ARRIVED);
    /* Acquire: the checkpoint before the boundary. */
    if (gone && t->store->retains &&
        met->address.v >= atomic_load_explicit(&t->store->retain_end, memory_order_acquire))
        return false;
    /* Acquire: pairs with gw_store_keep_tombstones, whose callers let a cut pass. */
    if (GW_LIKELY(!atomic_load_explicit(&c->keep_any, memory_order_acquire)))
        return true;
    pthread_mutex_lock(&c->lock);
    bool keep = gw_slots_has(&c->keep, met->slot);
    pthread_mutex_unlock(&c->lock);
    /* What arrived and was not changed here may arrive again; what was written here is newer. */
    return !keep || (!gone && (control & GW_CONTROL_ARRIVED));
}

/* Leaves a live record behind and counts that. False: the entry has changed. */
static bool leave_behind(struct gw_thread *t, const struct gwi_met *met, uint64_t control,
                         _Atomic uint64_t *place, uint64_t entry, bool mixed)
{
    uint64_t previous = gw_record_previous(met->record);
    bool last =
        !mixed || previous == 0 || gw_addr_widen(previous, t->view.reference).v < t->view.begin;
    gwi_version_leaves(t->store, gw_control_version(control));
    /* Relaxed: an empty word publishes nothing, what is found instead is not followed. */
    if (last && gw_entry_narrow(entry) == gw_addr_narrow(met->address) &&
        !atomic_compare_exchange_strong_explicit(place, &entry, 0, memory_order_relaxed,
                                                 memory_order_relaxed))
        return false;
    gwi_count_live(t, -(int64_t)(gw_record_units(met->record) * GW_ADDR_UNIT));
    if (control & GW_CONTROL_TOMBSTONE)
        return true;
    gwi_count_keys(t, -1);
    if (gw_record_expired(met->record, control, t->now_ms))
        gwi_count(&t->counters.expired, 1);
    else
        gwi_count(&t->counters.evicted, 1);
    return true;
}

enum gwi_settled gwi_compact_settle(struct gw_thread *t, struct gwi_compact_job *job,
                                    const struct gwi_met *met)
{
    /* Relaxed: final, and acquired with `flushable`. */
    uint64_t control = atomic_load_explicit(&met->record->control, memory_order_relaxed);
    if ((control & GW_CONTROL_SEALED) || gw_control_kind(control) == GW_RECORD_VOID)
        return GWI_SETTLED;
    if (GW_UNLIKELY(gw_control_kind(control) == GW_RECORD_INDIRECTION))
        return gwi_compact_settle_indirection(t, job, met);
    uint64_t tag = gw_table_tag(t->table, met->hash, met->slot);
    uint64_t name = gwi_chains_name(met->slot, met->hash, t->table->split_shift);
    for (uint32_t tries = 0; tries < SETTLE_TRIES; tries++) {
        struct gwi_position position = {.record = met->record, .address = met->address};
        position.place = gw_table_find(t->table, met->hash, tag, &position.entry);
        if (!position.place)
            return GWI_SETTLED;
        uint64_t first = gw_addr_widen(gw_entry_narrow(position.entry), t->view.reference).v;
        if (first < met->address.v)
            return GWI_SETTLED;
        bool mixed = gwi_chains_mixed(t->store->chains, name, t->view.begin);
        if (first != met->address.v) {
            enum verdict verdict = mixed ? walk(t, job, met, position.entry) : DEAD;
            if (verdict != LIVE)
                return verdict == DEAD ? GWI_SETTLED : GWI_UNDECIDED;
        }
        if (needless(t, job, met, control)) {
            if (leave_behind(t, met, control, position.place, position.entry, mixed))
                return GWI_SETTLED;
            continue;
        }
        enum gw_status st = gwi_copy_to_tail(t, &position, met->hash, true);
        if (st == GW_OK) {
            uint64_t bytes = gw_record_units(met->record) * GW_ADDR_UNIT;
            gwi_count(&t->counters.compacted_live_bytes, bytes);
            job->copied_bytes += bytes;
            return GWI_SETTLED;
        }
        if (st != GW_RETRY)
            return GWI_NO_ROOM;
    }
    return GWI_NO_ROOM;
}
