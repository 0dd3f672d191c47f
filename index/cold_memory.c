/* cold_memory.c - what cold walks hold: lists, buffers, and what goes when there is no more room.
 * Rules: cold.c. */
#include <stdlib.h>

#include "index/base/clock.h"
#include "index/cold_internal.h"
#include "index/foreign.h"

#define UNUSED_NS    5000000ull
#define UNUSED_TURNS 64u
#define CHAIN_NS     2000000000ull

/* ---- lists ---- */

void gwi_cold_list_add(struct gwi_cold_list *list, struct gwi_cold_walk *w)
{
    w->after = NULL;
    w->before = list->last;
    if (list->last)
        list->last->after = w;
    else
        list->first = w;
    list->last = w;
}

void gwi_cold_list_remove(struct gwi_cold_list *list, struct gwi_cold_walk *w)
{
    if (w->before)
        w->before->after = w->after;
    else
        list->first = w->after;
    if (w->after)
        w->after->before = w->before;
    else
        list->last = w->before;
}

/* ---- memory ---- */

void gwi_cold_account(struct gwi_cold *cold, int64_t bytes)
{
    cold->heap += (uint64_t)bytes;
    /* Relaxed: one writer, a statistic. */
    atomic_store_explicit(&cold->bytes,
                          atomic_load_explicit(&cold->bytes, memory_order_relaxed) +
                              (uint64_t)bytes,
                          memory_order_relaxed);
}

/* The same for bytes of records. */
void gwi_cold_account_bulk(struct gwi_cold *cold, int64_t bytes)
{
    cold->bulk += (uint64_t)bytes;
    gwi_cold_account(cold, bytes);
}

bool gwi_cold_may_take(const struct gwi_cold *cold, uint64_t bytes)
{
    return cold->bulk == 0 || cold->heap + bytes <= cold->heap_max;
}

void gwi_cold_buffer_free(struct gwi_cold *cold, uint8_t *data, uint32_t bytes)
{
    if (bytes <= GWI_COLD_SMALL_BYTES) {
        *(void **)(void *)data = cold->slab_free;
        cold->slab_free = data;
    } else {
        gwi_cold_account_bulk(cold, -(int64_t)bytes);
        free(data);
    }
}

struct gwi_cold_block **gwi_cold_block_place(struct gwi_cold *cold, uint64_t at)
{
    return &cold->blocks[(at / GW_DEVICE_BLOCK) & (GWI_COLD_PLACES - 1)];
}

void gwi_cold_block_release(struct gwi_cold *cold, struct gwi_cold_block *b)
{
    if (--b->refs > 0)
        return;
    struct gwi_cold_block **at = gwi_cold_block_place(cold, b->at);
    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
    gwi_cold_buffer_free(cold, b->data, b->bytes);
    free(b);
}

void gwi_cold_block_leave(struct gwi_cold *cold, struct gwi_cold_walk *w)
{
    struct gwi_cold_block *b = w->block;
    w->block = NULL;
    if (b)
        gwi_cold_block_release(cold, b);
}

struct gwi_cold_walk **gwi_cold_walk_place(struct gwi_cold *cold, uint64_t hash)
{
    return &cold->place[hash & (GWI_COLD_PLACES - 1)];
}

void gwi_cold_walk_free(struct gwi_cold *cold, struct gwi_cold_walk *w)
{
    GW_ASSERT(w->state != GWI_COLD_READING);
    gwi_cold_list_remove(w->state == GWI_COLD_QUEUED ? &cold->queued
                         : w->whole                  ? &cold->whole
                         : w->used                   ? &cold->used
                                                     : &cold->fresh,
                         w);
    struct gwi_cold_walk **at = gwi_cold_walk_place(cold, w->hash);
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (w->announced) {
        at = &cold->announced;
        while (*at != w)
            at = &(*at)->announce;
        *at = w->announce;
        if (cold->announced_end == &w->announce)
            cold->announced_end = at;
    }
    gwi_cold_block_leave(cold, w);
    bool whole = w->whole;
    int64_t bytes = (int64_t)(sizeof *w + w->key_bytes + w->chain_room * sizeof *w->chain +
                              w->met_room * sizeof *w->met);
    for (uint32_t i = 0; i < w->chain_count; i++) {
        gwi_cold_account_bulk(cold, -(int64_t)(gw_record_units(w->chain[i]) * GW_ADDR_UNIT));
        free(w->chain[i]);
    }
    free((void *)w->chain);
    free(w->met);
    free(w);
    gwi_cold_account(cold, -bytes);
    cold->walks--;
    cold->chains -= whole;
}

/* Has the one who asked had his chance (cold.c, rule 1)? Not before he was told. */
static bool walk_is_stale(const struct gwi_cold *cold, const struct gwi_cold_walk *w,
                          uint64_t after_ns)
{
    if (w->announced)
        return false;
    /* Acquire: pairs with the raise. What lies below begin is of no use to anybody. */
    if (w->top < atomic_load_explicit(&cold->log->begin, memory_order_acquire))
        return true;
    return cold->turn - w->ended_turn > UNUSED_TURNS &&
           gw_clock_now_ns(gw_clock_system()) - w->ended_ns > after_ns;
}

bool gwi_cold_evict(struct gwi_cold *cold)
{
    struct gwi_cold_walk *w = cold->used.first;
    while (w && w->announced) /* another operation on its key may wait for the name */
        w = w->after;
    if (!w) {
        w = cold->fresh.first;
        if (!w || !walk_is_stale(cold, w, UNUSED_NS))
            w = cold->whole.first;
        /* Who asked for chains may come rarely, but what has changed meanwhile nobody ever drops:
         * of more than half of the walks those go that were not asked for lately. */
        uint64_t after = cold->chains > cold->walks_max / 2 ? UNUSED_NS : CHAIN_NS;
        if (!w || (w->whole && !walk_is_stale(cold, w, after)))
            return false;
    }
    gwi_cold_walk_free(cold, w);
    return true;
}

uint8_t *gwi_cold_buffer_take(struct gwi_cold *cold, uint32_t bytes, bool needed)
{
    if (bytes <= GWI_COLD_SMALL_BYTES) {
        while (!cold->slab_free)
            if (!gwi_cold_evict(cold))
                return NULL;
        uint8_t *data = cold->slab_free;
        cold->slab_free = *(void **)(void *)data;
        return data;
    }
    while (!gwi_cold_may_take(cold, bytes)) {
        if (gwi_cold_evict(cold))
            continue;
        if (!needed)
            return NULL;
        break;
    }
    uint8_t *data = aligned_alloc(GW_DEVICE_BLOCK, bytes);
    if (data)
        gwi_cold_account_bulk(cold, bytes);
    return data;
}
