/* compact_indirection.c - what becomes of an indirection of an old page.
 *
 * The record X at address a lies in the chain of each entry whose hashes it covers: in one, but for
 * tables that have doubled more than six times since it was written. In each of them:
 *  1. Nothing leads to a any more: dead there.
 *  2. One of the same name lies above it and covers the chain: it was copied, or retired. Dead.
 *  3. Else it stands, and is put on top of the chain again, as a record for that chain alone.
 * One that says "retired" stands for as long as what it retires may be met: that lies below it in
 * the chain, so when this is the oldest page nothing is left; where there are checkpoints, only
 * when the newest one holds it, as with tombstones (ENGINE H17).
 * Every chain is walked, mixed or not: that is only said of records with keys. */
#include "index/cold.h"
#include "index/compact_internal.h"
#include "index/foreign.h"

#define SETTLE_TRIES 16u

enum verdict { DEAD, LIVE, UNKNOWN };

/* Does this record stand for `part` (rule 2)? */
static bool replaces(struct gw_record *record, const struct gw_indirection *part)
{
    /* Relaxed: final; what is asked here never changes. */
    uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
    struct gw_indirection in;
    return gw_control_kind(control) == GW_RECORD_INDIRECTION &&
           gwi_indirection_of(record, control, &in) && gwi_indirection_is(&in, part) &&
           in.prefix_bits <= part->prefix_bits && gwi_indirection_covers(&in, part->hash_prefix);
}

/* The same for the part of the chain that is on the device. */
static enum verdict look_cold(struct gw_thread *t, struct gwi_compact_job *job, gw_addr top,
                              gw_addr a, const struct gw_indirection *part)
{
    struct gw_record *const *records;
    uint32_t count;
    if (!t->cold)
        return DEAD; /* below begin */
    enum gw_status st = gwi_cold_chain(t, top, false, false, &records, &count);
    if (st == GW_PENDING || st == GW_NOT_YET || st == GW_E_NOMEM)
        return UNKNOWN;
    if (st != GW_OK) {
        if (t->store->compactor->evict)
            return DEAD;
        job->unreadable = true;
        return UNKNOWN;
    }
    enum verdict verdict = DEAD;
    gw_addr at = top;
    for (uint32_t i = 0; i < count && at.v >= a.v; i++) {
        if (at.v == a.v) {
            verdict = LIVE;
            break;
        }
        if (replaces(records[i], part))
            break;
        if (gw_record_previous(records[i]) == 0)
            break;
        at = gw_addr_widen(gw_record_previous(records[i]), t->view.reference);
    }
    gwi_cold_chain_drop(t, top, false);
    return verdict;
}

static enum verdict look(struct gw_thread *t, struct gwi_compact_job *job, uint64_t entry,
                         gw_addr a, const struct gw_indirection *part)
{
    for (uint64_t narrow = gw_entry_narrow(entry); narrow != 0;) {
        gw_addr at = gw_addr_widen(narrow, t->view.reference);
        if (at.v <= a.v)
            return at.v == a.v ? LIVE : DEAD;
        if (at.v < t->view.head)
            return look_cold(t, job, at, a, part);
        struct gw_record *record = gw_log_at(&t->view, at);
        if (replaces(record, part))
            return DEAD;
        narrow = gw_record_previous(record);
    }
    return DEAD;
}

/* One chain. */
static enum gwi_settled settle_part(struct gw_thread *t, struct gwi_compact_job *job, gw_addr a,
                                    const struct gw_indirection *part, uint64_t flags, bool *copied)
{
    uint64_t tag = gw_table_tag(t->table, part->hash_prefix, part->slot);
    for (uint32_t tries = 0; tries < SETTLE_TRIES; tries++) {
        struct gwi_position position = {.entry = 0};
        position.place = gw_table_find(t->table, part->hash_prefix, tag, &position.entry);
        if (!position.place)
            return GWI_SETTLED;
        enum verdict verdict = look(t, job, position.entry, a, part);
        if (verdict != LIVE)
            return verdict == DEAD ? GWI_SETTLED : GWI_UNDECIDED;
        enum gw_status st = gwi_put_indirection(t, part, flags, true, &position);
        if (st == GW_OK) {
            *copied = true;
            return GWI_SETTLED;
        }
        if (st != GW_RETRY)
            return GWI_NO_ROOM;
    }
    return GWI_NO_ROOM;
}

enum gwi_settled gwi_compact_settle_indirection(struct gw_thread *t, struct gwi_compact_job *job,
                                                const struct gwi_met *met)
{
    const uint64_t bytes = GWI_INDIRECTION_UNITS * GW_ADDR_UNIT;
    /* Relaxed: final, and acquired with `flushable`. */
    uint64_t control = atomic_load_explicit(&met->record->control, memory_order_relaxed);
    uint64_t flags = control & GW_CONTROL_TOMBSTONE;
    struct gw_indirection in, part;
    if (!gwi_indirection_of(met->record, control, &in))
        return GWI_SETTLED; /* parse has seen to it */
    if (flags &&
        !(t->store->retains &&
          /* Acquire: the checkpoint before the boundary. */
          met->address.v >= atomic_load_explicit(&t->store->retain_end, memory_order_acquire))) {
        gwi_count_live(t, -(int64_t)bytes);
        return GWI_SETTLED;
    }
    uint64_t last = gwi_prefix_last(in.hash_prefix, in.prefix_bits), end = 0;
    bool first = true;
    part = in;
    do {
        bool copied = false;
        uint32_t bits = gwi_chain_bits(t, part.hash_prefix);
        part.prefix_bits = bits > in.prefix_bits ? (uint8_t)bits : in.prefix_bits;
        enum gwi_settled settled = settle_part(t, job, met->address, &part, flags, &copied);
        if (settled != GWI_SETTLED)
            return settled; /* what was copied so far is found to be (rule 2) */
        if (copied) {
            gwi_count(&t->counters.compacted_live_bytes, bytes);
            job->copied_bytes += bytes;
            if (first) /* the others are new */
                gwi_count_live(t, -(int64_t)bytes);
            else if (!flags)
                gwi_foreign_count(t->store->foreign, in.log_id, 1);
            first = false;
        }
        if (gwi_chain_bits(t, part.hash_prefix) > part.prefix_bits)
            continue; /* split meanwhile: each half is asked */
        end = gwi_prefix_last(part.hash_prefix, part.prefix_bits);
        part.hash_prefix = end + 1;
    } while (end < last);
    return GWI_SETTLED;
}
