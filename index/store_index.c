/* store_index.c - the store's side of the index: what the table asks about records, and its growth.
 *
 * Growth is driven from gw_store_poll by every thread: each gives a bounded piece of a turn to it
 * (table_grow.c), so that none waits for it and nobody needs a thread of his own. */
#include "index/base/hash.h"
#include "index/foreign.h"

#define GROW_BUDGET 512u /* buckets split a turn: some 80 us while a chunk grows */
#define SHARE_TURNS 64u  /* the shares are looked at again after so many turns */
#define SIDES_STEPS 64u  /* records of a chain read to tell where it goes */

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

uint64_t gwi_index_leaves_frames(const struct gw_store *store)
{
    /* A page ahead: overflow lines are taken between two looks. */
    uint64_t index =
        gw_table_memory_bytes(store->table) + gw_table_lacks(store->table) + store->log->page_bytes;
    index = index > store->index_bytes ? index : store->index_bytes;
    uint64_t left = store->memory_bytes > index ? store->memory_bytes - index : 0;
    return left >> store->log->page_bits;
}

/* Index and log live on one number of bytes: what the one takes the other gives up. What the index
 * was given at the start stays its own; the log gives up the rest frame by frame, and until it has,
 * the index waits. */
static void share(const struct gw_store *store)
{
    gw_log_frames_allow(store->log, gwi_index_leaves_frames(store));
}

/* What the index cannot get for its next step, although it has asked for it: the log has given what
 * it could. 0: nothing, or that is not known yet. */
static uint64_t refused_of(const struct gw_store *store)
{
    uint64_t lacks = gw_table_lacks(store->table), frames = gwi_index_leaves_frames(store);
    uint64_t least = frames > GW_LOG_FRAMES_MIN ? frames : GW_LOG_FRAMES_MIN;
    bool asked = atomic_load_explicit(&store->log->frames_target, memory_order_relaxed) <= least;
    return asked && !gw_log_frames_coming(store->log) ? lacks : 0;
}

static uint64_t room_of(const struct gw_store *store)
{
    uint64_t used = gw_table_memory_bytes(store->table), max = store->index_bytes_max;
    uint64_t held = gw_log_frames_held(store->log) << store->log->page_bits;
    uint64_t shared = store->memory_bytes > held ? store->memory_bytes - held : 0;
    max = shared < max ? shared : max;
    return used < max ? max - used : 0;
}

bool gwi_index_turn(struct gw_thread *t)
{
    struct gw_store *store = t->store;
    bool wanted = gw_table_grow_wanted(store->table);
    if (GW_UNLIKELY(wanted)) {
        gw_epoch_enter(store->epoch, t->slot);
        /* First what is refused: what comes after that is in the room. */
        uint64_t refused = refused_of(store);
        gw_table_grow(store->table, store->epoch, room_of(store), refused, GROW_BUDGET);
        gw_epoch_exit(store->epoch, t->slot);
    }
    if (store->index_bytes_max > store->index_bytes && (wanted || t->turns++ % SHARE_TURNS == 0))
        share(store);
    return wanted && gw_table_lacks(store->table) == 0;
}
