/* cold.c - cold walks, the blocks that they read, and their bounds. Contract and why results stay
 * true: cold.h.
 *
 *   walk:   QUEUED -> READING (its block) -> [next block] ... -> FOUND | ABSENT | FAILED -> freed
 *   block:  READING -> READY -> freed with its last walk
 *
 * Rules:
 *  1. A result that nobody has used yet is kept UNUSED_TURNS and UNUSED_NS: the record may have
 * come to memory in another way meanwhile, then nobody ever asks for it. Both, so that neither a
 * slow caller nor a quick one loses what he has waited for, for ever. Used ones stay as long as
 * there is room, the one used longest ago goes first. What is read ahead for a walk over the table
 *     never takes the place of what that walk needs now: it has half of the walks at most, and is
 *     kept CHAIN_NS; those of more than half of the walks go as early as the others do, for a chain
 *     that changes between the asking and the taking is never dropped, and look-ups would wait.
 * What it needs now is a bucket, all of it at once: for that the bounds give way.
 *  2. Bytes come from the device checked (device.h rule 4), and are checked again for what they
 *     mean: lengths within the page, addresses that go down.
 *  3. The first read of a record takes what records took lately; who finds it longer reads again.
 *  4. A foreign walk goes on in the logs of others, where indirections lead (indirection.h), by
 *     addresses of the device (device.h). Of those logs nothing is known but what the indirection
 *     says: a page may have any size, so reads stay within the smallest one or take just the
 *     record; links are widened against the record's own address; the chain ends below the begin
 *     that the indirection names. A walk for a key notes the indirections that it passes and goes
 *     on with the newest map version when a chain is at its end. Its result stays true as well:
 *     what those logs hold never changes, and its `top` is the set of indirections it began with.
 */
#include "index/cold.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/cold_internal.h"
#include "index/foreign.h"

#define READS_DEFAULT                                                                              \
    128u /* more than the system queues makes submitting wait (docs/BENCHMARKS.md) */
#define GHOSTS_MIN 16384u
#define GHOSTS_MAX (1u << 22)

/* ---- asking ---- */

static struct gwi_cold_walk *walk_find(struct gwi_cold *cold, uint64_t hash, const uint8_t *key,
                                       uint16_t key_bytes, uint64_t stop, bool foreign)
{
    struct gwi_cold_walk *w = *gwi_cold_walk_place(cold, hash);
    while (w && !(w->hash == hash && w->stop == stop && !w->whole && w->foreign == foreign &&
                  w->key_bytes == key_bytes && memcmp(w->key, key, key_bytes) == 0))
        w = w->next;
    return w;
}

struct asked {
    const uint8_t *key;
    const struct gwi_lead *met; /* foreign, of a key: where to go */
    uint64_t hash, top, stop, end;
    uint32_t met_count;
    uint16_t key_bytes;
    bool whole, one, ahead, foreign;
};

/* Begins a walk; GW_PENDING or GW_NOT_YET. */
static enum gw_status walk_begin(struct gwi_cold *cold, const struct asked *asked)
{
    uint64_t bytes = sizeof(struct gwi_cold_walk) + asked->key_bytes;
    bool needed = asked->whole && !asked->ahead;
    if (asked->ahead && cold->chains >= cold->walks_max / 2)
        return GW_NOT_YET;
    while (cold->walks >= cold->walks_max || !gwi_cold_may_take(cold, bytes)) {
        if (gwi_cold_evict(cold))
            continue;
        if (!needed)
            return GW_NOT_YET;
        break;
    }
    struct gwi_cold_walk *w = calloc(1, bytes);
    if (!w)
        return GW_NOT_YET;
    gwi_cold_account(cold, (int64_t)bytes);
    cold->walks++;
    cold->chains += asked->whole;
    w->hash = asked->hash;
    w->top = w->at = asked->top;
    w->stop = asked->stop;
    w->whole = asked->whole;
    w->one = asked->one;
    w->needed = needed;
    w->key_bytes = asked->key_bytes;
    memcpy(w->key, asked->key, asked->key_bytes);
    w->next = *gwi_cold_walk_place(cold, w->hash);
    *gwi_cold_walk_place(cold, w->hash) = w;
    w->foreign = asked->foreign;
    w->end = asked->end;
    gwi_count(&cold->t->counters.cold, 1);
    if (asked->met_count != 0) {
        enum gw_status st = GW_OK;
        for (uint32_t i = 0; i < asked->met_count && st == GW_OK; i++)
            st = gwi_cold_meet(cold, w, &asked->met[i].in, asked->met[i].done);
        if (st != GW_OK) {
            gwi_cold_list_add(&cold->queued, w); /* where one of its state belongs */
            gwi_cold_walk_free(cold, w);
            return GW_NOT_YET;
        }
        if (!gwi_cold_walk_next(cold, w))
            return GW_PENDING; /* it has failed, and its name will be said */
    }
    gwi_cold_walk_go(cold, w);
    return GW_PENDING;
}

static void walk_used(struct gwi_cold *cold, struct gwi_cold_walk *w)
{
    gwi_cold_list_remove(w->used ? &cold->used : &cold->fresh, w);
    w->used = true;
    gwi_cold_list_add(&cold->used, w);
}

/* The walk's result, or that of a new one where there is none with this top. */
static enum gwi_walk ask(struct gw_thread *t, const struct asked *asked,
                         struct gwi_position *position, enum gw_status *status,
                         struct gwi_cold_walk **out)
{
    struct gwi_cold *cold = t->cold;
    struct gwi_cold_walk *w =
        walk_find(cold, asked->hash, asked->key, asked->key_bytes, asked->stop, asked->foreign);
    if (w && w->state > GWI_COLD_READING && w->top != asked->top) {
        if (w->announced) { /* somebody else may wait for the name: it comes with this turn's end */
            *status = GW_NOT_YET;
            return GWI_COLD;
        }
        gwi_cold_walk_free(cold, w); /* what was in memory then has gone cold */
        w = NULL;
    }
    if (!w) {
        *status = walk_begin(cold, asked);
        return GWI_COLD;
    }
    *out = w;
    switch (w->state) {
    case GWI_COLD_FOUND:
        walk_used(cold, w);
        if (w->at < t->view.begin)
            return GWI_ABSENT;
        position->record = w->record;
        position->address = gw_addr_of(w->at);
        return GWI_FOUND;
    case GWI_COLD_ABSENT:
        walk_used(cold, w);
        position->address = gw_addr_of(w->at);
        return GWI_ABSENT;
    case GWI_COLD_FAILED:
        *status = w->status;
        position->address = gw_addr_of(w->at);
        gwi_count(&t->counters.corrupt, w->status == GW_E_CORRUPT);
        if (!w->announced)
            gwi_cold_walk_free(cold, w); /* the next one who asks reads again */
        return GWI_COLD;
    default:
        *status = GW_PENDING;
        return GWI_COLD;
    }
}

enum gwi_walk gwi_cold_find(struct gw_thread *t, uint64_t hash, const uint8_t *key,
                            uint16_t key_bytes, gw_addr stop, struct gwi_position *position,
                            enum gw_status *status)
{
    struct gwi_cold_walk *w;
    GW_ASSERT(t->cold != NULL && position->address.v < t->view.head);
    struct asked asked = {.key = key,
                          .hash = hash,
                          .top = position->address.v,
                          .stop = stop.v,
                          .key_bytes = key_bytes};
    return ask(t, &asked, position, status, &w);
}

enum gwi_walk gwi_cold_find_met(struct gw_thread *t, uint64_t hash, const uint8_t *key,
                                uint16_t key_bytes, struct gwi_position *position,
                                const struct gwi_lead **met, uint32_t *count,
                                enum gw_status *status)
{
    struct gwi_cold_walk *w = NULL;
    GW_ASSERT(t->cold != NULL && position->address.v < t->view.head);
    struct asked asked = {.key = key,
                          .hash = hash,
                          .top = position->address.v,
                          .key_bytes = key_bytes};
    enum gwi_walk walk = ask(t, &asked, position, status, &w);
    *met = walk == GWI_ABSENT ? w->met : NULL;
    *count = walk == GWI_ABSENT ? w->met_count : 0;
    return walk;
}

enum gwi_walk gwi_cold_follow(struct gw_thread *t, uint64_t hash, const uint8_t *key,
                              uint16_t key_bytes, const struct gwi_lead *met, uint32_t count,
                              struct gwi_position *position, enum gw_status *status)
{
    struct gwi_cold_walk *w;
    uint64_t top = 0;
    for (uint32_t i = 0; i < count; i++)
        if (!met[i].done)
            top = (top ^ met[i].in.log_id ^ met[i].in.address << 7 ^ met[i].in.map_version << 31) *
                  0x9e3779b97f4a7c15u;
    struct asked asked = {.key = key,
                          .met = met,
                          .hash = hash,
                          .top = top | GW_DEVICE_FOREIGN, /* above every begin */
                          .met_count = count,
                          .key_bytes = key_bytes,
                          .foreign = true};
    return ask(t, &asked, position, status, &w);
}

/* A chain's walk is found by its top; the name is spread, for tops are multiples of 16. */
static uint64_t name_of_chain(uint64_t top)
{
    return (top >> GW_ADDR_UNIT_BITS) * 0x9e3779b97f4a7c15u >> 32;
}

static struct gwi_cold_walk *chain_find(struct gwi_cold *cold, uint64_t top, bool one)
{
    struct gwi_cold_walk *w = *gwi_cold_walk_place(cold, name_of_chain(top));
    while (w && !(w->whole && w->one == one && w->top == top))
        w = w->next;
    return w;
}

static enum gw_status chain_ask(struct gw_thread *t, const struct asked *asked,
                                struct gw_record *const **records, uint32_t *count)
{
    struct gwi_cold *cold = t->cold;
    GW_ASSERT(cold != NULL);
    struct gwi_cold_walk *w = chain_find(cold, asked->top, asked->one);
    if (!w)
        return walk_begin(cold, asked);
    w->needed |= !asked->ahead;
    if (w->state <= GWI_COLD_READING)
        return GW_PENDING;
    if (!asked->ahead) { /* once more before it is stale */
        w->ended_turn = cold->turn;
        gwi_cold_list_remove(&cold->whole, w);
        gwi_cold_list_add(&cold->whole, w);
    }
    if (!records)
        return GW_OK;
    if (w->state == GWI_COLD_FAILED) {
        enum gw_status st = w->status;
        gwi_count(&t->counters.corrupt, st != GW_E_NOMEM && st != GW_E_UNREACHABLE);
        gwi_cold_walk_free(cold, w);
        return st;
    }
    *records = w->chain;
    *count = w->chain_count;
    return GW_OK;
}

enum gw_status gwi_cold_chain(struct gw_thread *t, gw_addr top, bool one, bool ahead,
                              struct gw_record *const **records, uint32_t *count)
{
    struct asked asked = {.hash = name_of_chain(top.v),
                          .key = (const uint8_t *)"",
                          .top = top.v,
                          .whole = true,
                          .one = one,
                          .ahead = ahead};
    return chain_ask(t, &asked, records, count);
}

enum gw_status gwi_cold_foreign(struct gw_thread *t, const struct gw_indirection *in, bool ahead,
                                struct gw_record *const **records, uint32_t *count, gw_addr *top)
{
    struct gw_device *device = t->cold->device;
    uint64_t base = device->origin ? device->origin(device, in->log_id) : 0;
    if (base == 0) {
        gwi_count(&t->counters.corrupt, 1);
        return device->origin ? GW_E_LIMIT : GW_E_UNSUPPORTED;
    }
    *top = gw_addr_of(base | in->address);
    struct asked asked = {.hash = name_of_chain(top->v),
                          .key = (const uint8_t *)"",
                          .top = top->v,
                          .end = base | in->begin,
                          .whole = true,
                          .foreign = true,
                          .ahead = ahead};
    return chain_ask(t, &asked, records, count);
}

void gwi_cold_chain_drop(struct gw_thread *t, gw_addr top, bool one)
{
    struct gwi_cold_walk *w = chain_find(t->cold, top.v, one);
    if (w && w->state > GWI_COLD_READING)
        gwi_cold_walk_free(t->cold, w);
}

bool gwi_cold_turn(struct gw_thread *t)
{
    struct gwi_cold *cold = t->cold;
    cold->turn++;
    /* Once through the list: who still has to wait goes to its end. */
    struct gwi_cold_walk *last = cold->queued.last;
    for (struct gwi_cold_walk *w = cold->queued.first; w && cold->reads < cold->reads_max;) {
        gwi_cold_list_remove(&cold->queued, w);
        bool end = w == last;
        gwi_cold_walk_go(cold, w);
        w = end ? NULL : cold->queued.first;
    }
    return cold->queued.first != NULL;
}

uint32_t gwi_cold_ready(struct gwi_cold *cold, uint64_t *hashes, uint32_t max)
{
    uint32_t n = 0;
    for (; n < max && cold->announced; n++) {
        struct gwi_cold_walk *w = cold->announced;
        cold->announced = w->announce;
        if (!cold->announced)
            cold->announced_end = &cold->announced;
        w->announced = false;
        hashes[n] = w->hash;
    }
    return n;
}

uint32_t gwi_cold_reads(const struct gwi_cold *cold)
{
    return cold->reads;
}

uint64_t gwi_cold_bytes(const struct gwi_cold *cold)
{
    return atomic_load_explicit(&cold->bytes, memory_order_relaxed);
}

bool gwi_cold_again(struct gwi_cold *cold, uint64_t hash)
{
    uint32_t *ghost = &cold->ghost[(hash >> 32) & (cold->ghosts - 1)], name = (uint32_t)hash | 1;
    bool again = *ghost == name;
    *ghost = again ? 0 : name;
    return again;
}

/* ---- life ---- */

enum gw_status gwi_cold_create(struct gw_thread *t, uint32_t reads_max, struct gwi_cold **out)
{
    struct gwi_cold *cold = calloc(1, sizeof *cold);
    if (!cold)
        return GW_E_NOMEM;
    cold->t = t;
    cold->log = t->log;
    cold->device = t->log->device;
    cold->queue = t->slot;
    cold->reads_max = reads_max ? reads_max : READS_DEFAULT;
    cold->walks_max = 4 * cold->reads_max;
    cold->heap_max = t->log->ring_bytes / 64 > (1u << 20) ? t->log->ring_bytes / 64 : 1u << 20;
    cold->guess = 64;
    cold->announced_end = &cold->announced;
    cold->ghosts = GHOSTS_MIN;
    while (cold->ghosts < GHOSTS_MAX && cold->ghosts < t->log->ring_bytes / 1024)
        cold->ghosts *= 2;
    cold->ghost = calloc(cold->ghosts, sizeof *cold->ghost);
    size_t bytes = (size_t)cold->reads_max * GWI_COLD_SMALL_BYTES;
    cold->slab = aligned_alloc(GW_DEVICE_BLOCK, bytes);
    if (!cold->slab || !cold->ghost) {
        free(cold->slab);
        free(cold->ghost);
        free(cold);
        return GW_E_NOMEM;
    }
    for (size_t at = 0; at < bytes; at += GWI_COLD_SMALL_BYTES)
        gwi_cold_buffer_free(cold, cold->slab + at, GWI_COLD_SMALL_BYTES);
    atomic_init(&cold->bytes, sizeof *cold + bytes + cold->ghosts * sizeof *cold->ghost);
    cold->device->adopt(cold->device, cold->queue, cold->slab, bytes);
    *out = cold;
    return GW_OK;
}

void gwi_cold_destroy(struct gwi_cold *cold)
{
    if (!cold)
        return;
    while (cold->reads) /* bounded by the device: each read calls back once */
        cold->device->poll(cold->device, cold->queue);
    struct gwi_cold_list *lists[] = {&cold->queued, &cold->fresh, &cold->used, &cold->whole};
    for (int i = 0; i < 4; i++)
        while (lists[i]->first)
            gwi_cold_walk_free(cold, lists[i]->first);
    GW_ASSERT(cold->walks == 0);
    cold->device->adopt(cold->device, cold->queue, NULL, 0);
    free(cold->slab);
    free(cold->ghost);
    free(cold);
}
