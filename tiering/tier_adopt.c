/* tier_adopt.c - a log goes on that an earlier process has written (tier.h).
 *
 *  1. tier.json says up to where segments may have been dropped. What an image has above must be on
 *     disk, as without a shared tier; what it has below must be in an object that tier.json names,
 *     and nobody is asked: a server starts while its object store is away.
 *  2. Files below that boundary may still be there (a crash between the two): they go.
 *  3. Pages that the image does not have are holes, whatever an object holds in their place: it may
 *     have been made by a process whose last changes were never part of a checkpoint.
 *  4. Where the log goes on is in tier.json (`used`) before anything is removed. A process may have
 *     put what it did not write down, and ended; its files alone tell of it, and who adopts removes
 *     them: were he to end as well, the next one would use addresses again. A directory without a
 *     tier.json is new, or was brought back from a copy: then the object store is asked what has
 *     been put, for others may have been told of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tiering/tier_internal.h"

gw_addr gw_tier_resume(struct gw_tier *tier, gw_addr least)
{
    uint64_t at = gw_ssd_resume(tier->ssd_face, least).v, segment = tier->segment_bytes;
    /* Relaxed: no other thread before the first write. */
    uint64_t local = atomic_load_explicit(&tier->local_from, memory_order_relaxed);
    uint64_t shared = atomic_load_explicit(&tier->shared, memory_order_relaxed);
    const struct tier_objects *o = &tier->objects;
    uint64_t top = o->count ? o->at[o->count - 1].first + o->at[o->count - 1].bytes : 0;
    at = local > at ? local : at;
    at = shared > at ? shared : at;
    at = top > at ? top : at;
    at = tier->used > at ? tier->used : at;
    at = (at + segment - 1) / segment * segment;
    if (at > tier->used && !tier->read_only) { /* rule 4 */
        tier->used = at;
        enum gw_status saved = gwi_tier_save(tier, local, shared);
        (void)saved; /* it takes another crash, and it is written with what comes next */
    }
    return gw_addr_of(at);
}

/* The first page in [at, to) that is neither in an object nor in a hole; `to`: there is none. */
static uint64_t first_missing(const struct gw_tier *tier, uint64_t at, uint64_t to)
{
    const struct tier_objects *o = &tier->objects;
    for (uint32_t hole = 0; at < to;) {
        while (hole < tier->holes_count && tier->holes[hole].to.v <= at)
            hole++;
        if (hole < tier->holes_count && tier->holes[hole].from.v <= at) {
            at = tier->holes[hole].to.v;
            continue;
        }
        uint32_t place = gwi_tier_objects_place(o, at);
        if (place == o->count || o->at[place].first > at)
            return at;
        at = o->at[place].first + o->at[place].bytes;
    }
    return to;
}

static enum gw_status holes_take(struct gw_tier *tier, uint64_t end,
                                 const struct gw_addr_range *gaps, uint32_t gaps_count)
{
    struct gw_addr_range *holes = calloc((size_t)gaps_count + 1, sizeof *holes);
    if (!holes)
        return GW_E_NOMEM;
    free(tier->holes);
    tier->holes = holes;
    tier->holes_count = 0;
    for (uint32_t i = 0; i < gaps_count; i++)
        holes[tier->holes_count++] = gaps[i];
    uint64_t resume = gw_tier_resume(tier, gw_addr_of(end)).v;
    if (resume > end)
        holes[tier->holes_count++] = (struct gw_addr_range){gw_addr_of(end), gw_addr_of(resume)};
    return GW_OK;
}

enum gw_status gw_tier_adopt(struct gw_tier *tier, gw_addr begin, gw_addr end,
                             const struct gw_addr_range *gaps, uint32_t gaps_count, char *error,
                             size_t error_bytes)
{
    uint64_t mask = tier->page_bytes - 1, from = begin.v & ~mask, to = (end.v + mask) & ~mask;
    uint64_t local = atomic_load_explicit(&tier->local_from, memory_order_relaxed);
    enum gw_status status = holes_take(tier, to, gaps, gaps_count);
    if (status != GW_OK) {
        snprintf(error, error_bytes, "out of memory for the list of gaps");
        return status;
    }
    uint64_t far_end = local < to ? local : to, missing = first_missing(tier, from, far_end);
    if (missing < far_end) {
        snprintf(error, error_bytes,
                 "the page at address %#" PRIx64 " was dropped from the disk, and tier.json names "
                 "no object that holds it",
                 missing);
        return GW_NOT_FOUND;
    }
    gw_addr local_begin = begin.v > local ? begin : gw_addr_of(local < end.v ? local : end.v);
    status = gw_ssd_adopt(tier->ssd_face, local_begin, end, gaps, gaps_count, error, error_bytes);
    if (status != GW_OK)
        return status;
    tier->image_end = to;
    atomic_store_explicit(&tier->begin, from, memory_order_relaxed);
    gwi_tier_count_remote(tier);
    /* Release: all of the above; pairs with the uploader's acquire. */
    atomic_store_explicit(&tier->adopted, true, memory_order_release);
    gwi_tier_uploader_wake(tier);
    return GW_OK;
}
