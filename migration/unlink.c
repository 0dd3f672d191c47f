/* unlink.c - shared unlinking: the hash space in parts, each claimed by one dispatcher.
 *
 * Rules:
 *  1. A part is claimed once; its claimer ends it. `done` counts parts ended, so it is true only
 *     when the last dispatcher has finished its last one.
 *  2. A table smaller than the parts is no problem: parts then share buckets, and every entry in
 *     them is unwanted whichever part comes by. */
#include "migration/unlink.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "index/base/assert.h"
#include "migration/range.h"

#define PART_BITS 8u
#define PARTS     (1u << PART_BITS)

struct hand {
    _Alignas(GW_CACHE_LINE) struct gw_cursor cursor; /* its dispatcher's */
    uint64_t hash_last;
    bool active;
};

struct gw_unlinker {
    struct gw_slots slots;
    uint32_t dispatchers;
    _Atomic uint32_t next;    /* the first part not claimed */
    _Atomic uint32_t ended;   /* parts ended; publishes that their entries are gone */
    _Atomic uint64_t entries; /* for people */
    struct hand hand[];
};

enum gw_status gw_unlinker_create(const struct gw_slots *slots, uint32_t dispatchers,
                                  struct gw_unlinker **out)
{
    size_t bytes = sizeof(struct gw_unlinker) + dispatchers * sizeof(struct hand);
    struct gw_unlinker *u =
        aligned_alloc(GW_CACHE_LINE, (bytes + GW_CACHE_LINE - 1) & ~(size_t)(GW_CACHE_LINE - 1));
    if (!u)
        return GW_E_NOMEM;
    u->slots = *slots;
    u->dispatchers = dispatchers;
    atomic_init(&u->next, 0);
    atomic_init(&u->ended, 0);
    atomic_init(&u->entries, 0);
    for (uint32_t i = 0; i < dispatchers; i++)
        u->hand[i].active = false;
    *out = u;
    return GW_OK;
}

void gw_unlinker_destroy(struct gw_unlinker *u)
{
    free(u);
}

enum gw_status gw_unlinker_step(struct gw_unlinker *u, uint32_t dispatcher,
                                struct gw_thread *thread, uint32_t buckets_max)
{
    GW_ASSERT(dispatcher < u->dispatchers);
    struct hand *hand = &u->hand[dispatcher];
    if (!hand->active) {
        /* The load first, so that idle calls do not wear the counter out. Relaxed: the claim
         * publishes nothing. */
        if (atomic_load_explicit(&u->next, memory_order_relaxed) >= PARTS)
            return GW_END;
        uint32_t part = atomic_fetch_add_explicit(&u->next, 1, memory_order_relaxed);
        if (part >= PARTS)
            return GW_END;
        hand->cursor = (struct gw_cursor){.hash = gw_chunk_first(part, PART_BITS)};
        hand->hash_last = gw_chunk_last(part, PART_BITS);
        hand->active = true;
    }
    uint64_t entries = 0;
    gw_store_unlink(thread, &hand->cursor, hand->hash_last, &u->slots, buckets_max, &entries);
    atomic_fetch_add_explicit(&u->entries, entries, memory_order_relaxed); /* a statistic */
    if (hand->cursor.done) {
        hand->active = false;
        /* Release: the emptied entries come before it; pairs with gw_unlinker_done. */
        atomic_fetch_add_explicit(&u->ended, 1, memory_order_release);
    }
    return GW_OK;
}

bool gw_unlinker_done(const struct gw_unlinker *u)
{
    return atomic_load_explicit(&u->ended, memory_order_acquire) == PARTS;
}

uint64_t gw_unlinker_entries(const struct gw_unlinker *u)
{
    return atomic_load_explicit(&u->entries, memory_order_relaxed);
}
