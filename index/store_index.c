/* store_index.c - the store's side of the index: what the table asks about records, and its growth.
 *
 * Growth is driven from gw_store_poll by every thread: each gives a bounded piece of a turn to it
 * (table_grow.c), so that none waits for it and nobody needs a thread of his own. */
#include "index/base/hash.h"
#include "index/foreign.h"

#define GROW_BUDGET    512u /* buckets split a turn: some 80 us while a chunk grows */
#define SHARE_TURNS    64u  /* the shares are looked at again after so many turns */
#define SIDES_STEPS    64u  /* records of a chain read to tell where it goes */
#define ASK_AGAIN_NS   500000000u
#define ASK_IN_VAIN_NS 10000000000u /* although there seems to be nothing to be had */

void gwi_index_range(void *ctx, gw_addr *begin, gw_addr *reference)
{
    struct gw_store *store = ctx;
    /* Acquire: as in gw_log_view_load. Begin first: the reference must be above all that it is
     * compared with. */
    begin->v = atomic_load_explicit(&store->log->begin, memory_order_acquire);
    reference->v = gw_log_tail(store->log).v + GW_ADDR_LEAD;
}

uint32_t gwi_index_sides(void *ctx, uint64_t entry, uint32_t shift)
{
    struct gw_store *store = ctx;
    struct gw_log_view view;
    gw_log_view_load(store->log, &view); /* the caller is inside the epoch */
    uint32_t sides = 0;
    uint64_t narrow = gw_entry_narrow(entry);
    for (uint32_t steps = 0; narrow != 0; steps++) {
        gw_addr at = gw_addr_widen(narrow, view.reference);
        if (at.v < view.begin)
            return sides; /* the chain's end */
        if (at.v < view.head || steps == SIDES_STEPS)
            return 3;
        const struct gw_record *record = gw_log_at(&view, at);
        /* Relaxed: key bytes never change; publication was acquired with the entry. */
        uint64_t control = atomic_load_explicit(&record->control, memory_order_relaxed);
        if (gw_control_kind(control) == GW_RECORD_INDIRECTION) {
            struct gw_indirection in;
            bool known = gwi_indirection_of((struct gw_record *)record, control, &in) &&
                         in.prefix_bits >= 64 - shift;
            sides |= known ? 1u << (in.hash_prefix >> shift & 1) : 3;
            if (sides == 3)
                return sides;
            narrow = gw_record_previous(record);
            continue;
        }
        uint64_t hash = gw_key_hash(gw_record_key(record, control), gw_control_key_bytes(control),
                                    store->hash_seed);
        sides |= 1u << (hash >> shift & 1);
        if (sides == 3)
            return sides;
        narrow = gw_record_previous(record);
    }
    return sides;
}

/* ---- one number of bytes for index and log ----
 *
 * What the one takes the other gives up. What the index was given at the start stays its own; the
 * log gives up the rest frame by frame, and until it has, the index waits, and with it insertions
 * that cannot do without growth. When the log has nothing more to give, because nothing in it is
 * garbage, they are refused, and the log may have its frames again: nobody would use them. The
 * index asks once more after ASK_AGAIN_NS if by the count enough is garbage then, and after
 * ASK_IN_VAIN_NS in any case, for the count is an estimate. */

static uint64_t now(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static uint64_t leaves_frames(const struct gw_store *store, uint64_t lacks)
{
    /* A page ahead: overflow lines are taken between two looks. */
    uint64_t index = gw_table_memory_bytes(store->table) + lacks + store->log->page_bytes;
    index = index > store->index_bytes ? index : store->index_bytes;
    uint64_t left = store->memory_bytes > index ? store->memory_bytes - index : 0;
    return left >> store->log->page_bits;
}

void gwi_index_share(struct gw_store *store)
{
    /* Relaxed: a hint; what is seen late is seen in the next turn. */
    uint64_t lacks = gw_table_lacks(store->table);
    bool asks =
        lacks != 0 && atomic_load_explicit(&store->index_refused_ns, memory_order_relaxed) == 0;
    gw_log_frames_allow(store->log, leaves_frames(store, asks ? lacks : 0), asks);
}

/* What the table may take now, and what of the rest it is refused. Requires: inside the epoch. */
static void room_look(struct gw_store *store, uint64_t *room, uint64_t *refused)
{
    uint64_t lacks = gw_table_lacks(store->table), held;
    uint64_t since = atomic_load_explicit(&store->index_refused_ns, memory_order_relaxed);
    uint64_t least = leaves_frames(store, lacks);
    if (least < gw_log_frames_least(store->log))
        least = gw_log_frames_least(store->log);
    bool asked = atomic_load_explicit(&store->log->frames_target, memory_order_relaxed) <= least;
    bool coming = gw_log_frames_coming(store->log, &held);
    *refused = since != 0 || (asked && !coming) ? lacks : 0;
    held <<= store->log->page_bits;
    uint64_t used = gw_table_memory_bytes(store->table), max = store->index_bytes_max;
    uint64_t shared = store->memory_bytes > held ? store->memory_bytes - held : 0;
    max = shared < max ? shared : max;
    *room = used < max ? max - used : 0;
}

/* Has the log, by the count, enough that is not live? An estimate. */
static bool log_can_spare(const struct gw_store *store)
{
    const struct gw_log *log = store->log;
    if (log->device || log->evict)
        return true;
    uint64_t held = gw_log_frames_held(log) << log->page_bits;
    uint64_t kept = ((uint64_t)atomic_load_explicit(&log->reserve, memory_order_relaxed) + 3)
                    << log->page_bits;
    return gwi_live_bytes(store) + held / 32 + kept + gw_table_lacks(store->table) <= held;
}

/* Notes since when the index is refused what it lacks, or that it asks for it (again). */
static void refusal_note(struct gw_store *store)
{
    /* Relaxed, all: whose note is lost makes it in the next turn. */
    uint64_t since = atomic_load_explicit(&store->index_refused_ns, memory_order_relaxed);
    if (gw_table_lacks(store->table) == 0) {
        if (since != 0)
            atomic_store_explicit(&store->index_refused_ns, 0, memory_order_relaxed);
    } else if (since == 0) {
        if (gw_table_grow_refused(store->table))
            atomic_store_explicit(&store->index_refused_ns, now(), memory_order_relaxed);
    } else if (now() - since >= ASK_AGAIN_NS &&
               (log_can_spare(store) || now() - since >= ASK_IN_VAIN_NS)) {
        gw_table_grow_ask(store->table);
        atomic_store_explicit(&store->index_refused_ns, 0, memory_order_relaxed);
    }
}

bool gwi_index_turn(struct gw_thread *t)
{
    struct gw_store *store = t->store;
    bool wanted = gw_table_grow_wanted(store->table), more = false;
    if (GW_UNLIKELY(wanted)) {
        uint64_t room, refused;
        gw_epoch_enter(store->epoch, t->slot);
        room_look(store, &room, &refused);
        more = gw_table_grow(store->table, store->epoch, room, refused, GROW_BUDGET);
        gw_epoch_exit(store->epoch, t->slot);
        refusal_note(store);
    }
    if (store->index_bytes_max > store->index_bytes && (wanted || t->turns++ % SHARE_TURNS == 0))
        gwi_index_share(store);
    return more;
}
