/* control_tell.c - what a server tells the coordinator twice a second, and what it hears of the
 * needs of others. Layer: server. */
#include <stdio.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/device.h"
#include "index/indirection.h"
#include "server/blob.h"
#include "server/checkpoint.h"
#include "server/control_internal.h"
#include "tiering/tier.h"

static void tell_durability(const struct gwi_server *s, struct gw_heartbeat *h)
{
    h->durability = (uint64_t)s->durable.mode;
    if (s->durable.mode == GWI_DURABILITY_NONE)
        return;
    struct gwi_checkpoint_figures figures;
    gwi_checkpoint_figures(s, &figures);
    uint64_t wall_ms = gw_clock_wall_ms(gw_clock_system());
    h->checkpoint = figures.number;
    h->checkpoint_age_ms =
        figures.finished_ms && wall_ms > figures.finished_ms ? wall_ms - figures.finished_ms : 0;
    h->checkpoint_ns = figures.duration_ns;
    h->checkpoints = figures.taken;
    h->checkpoints_failed = figures.given_up;
    h->log_bytes = s->durable.mode == GWI_DURABILITY_COMMIT ? gwi_commit_log_bytes(s) : 0;
    h->recovered = s->report.number;
    h->recovery_ms = s->report.duration_ns / 1000000;
    h->recovered_entries = s->report.applied;
    h->sessions_forgotten =
        (uint32_t)atomic_load_explicit(&s->durable.forgotten, memory_order_relaxed);
    int failed = atomic_load_explicit(&s->durable.failed, memory_order_relaxed);
    if (failed != GW_OK)
        snprintf(h->trouble, sizeof h->trouble, "nothing is acknowledged as durable any more: %s",
                 gw_status_text((enum gw_status)failed));
    else if (figures.failure[0])
        snprintf(h->trouble, sizeof h->trouble, "the last checkpoint was given up: %.200s",
                 figures.failure);
}

/* What this server has in the shared tier, and needs of others' logs. What is said in a round was
 * gathered after that round was heard of (client/wire/control.h, NEEDS). */
static void tell_shared(const struct gwi_control *c, struct gw_heartbeat *h)
{
    const struct gwi_server *s = c->server;
    if (!s->tier || !s->device->log_id)
        return;
    h->round = c->needs.round;
    h->log_id = s->device->log_id(s->device);
    struct gw_tier_stats tier;
    gw_tier_stats(s->tier, &tier);
    h->shared_used = tier.objects_bytes;
    h->shared_lag = tier.lag_bytes;
    h->foreign_reads = tier.foreign_reads;
    struct gw_indirection_stats indirections;
    gw_store_indirection_stats(s->store, &indirections);
    h->indirections = indirections.live;
    h->orphan_done = gwi_blob_cleared(s);
    struct gw_foreign_need need[GW_HEARTBEAT_NEEDS_MAX];
    uint32_t n = gw_store_foreign(s->store, need, GW_HEARTBEAT_NEEDS_MAX);
    if (n > GW_HEARTBEAT_NEEDS_MAX) {
        h->flags |= GW_HEARTBEAT_NEEDS_ALL;
        n = GW_HEARTBEAT_NEEDS_MAX;
    }
    for (uint32_t i = 0; i < n; i++)
        h->need[h->needs++] = (struct gw_need){need[i].log_id, need[i].lowest};
    if (!h->trouble[0])
        (void)gwi_blob_trouble(s, h->trouble, sizeof h->trouble); /* false: "" */
}

void gwi_control_on_needs(struct gwi_control *c, const struct gw_needs *needs)
{
    c->needs = *needs;
    if (!c->server->tier)
        return;
    gwi_control_hold_objects(c);
    gw_tier_keep(c->server->tier, gw_addr_of(c->needs.keep_from));
    gwi_blob_clear(c->server, needs->orphan);
}

/* While slots move away from here nothing is deleted: where they go indirections arise that nobody
 * has spoken of yet (MIGRATION R17). What was said before does not hold afterwards either; when the
 * job has ended the coordinator begins a new round. */
void gwi_control_hold_objects(struct gwi_control *c)
{
    bool moving = false;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        moving |= c->source[i].machine && !c->source[i].dying;
    if (!moving || !c->server->tier || !c->needs.keep_from)
        return;
    c->needs.keep_from = 0;
    gw_tier_keep(c->server->tier, gw_addr_of(0));
}

static const struct gwi_slot_count *slot_count_of(void *ctx, uint32_t dispatcher)
{
    const struct gwi_server *s = ctx;
    return dispatcher < s->dispatchers ? &s->dispatcher[dispatcher]->slot_count : NULL;
}

static void tell_loads(struct gwi_control *c, struct gw_heartbeat *h)
{
    gwi_slot_load_look(&c->load, c->d->now_ns, slot_count_of, c->server);
    h->loads = c->load.loads;
    memcpy(h->load, c->load.load, c->load.loads * sizeof h->load[0]);
}

void gwi_control_heartbeat(struct gwi_control *c)
{
    struct gw_store_stats stats;
    gw_store_stats(c->server->store, &stats);
    struct gw_heartbeat h = {.incarnation = c->server->incarnation,
                             .map_version = c->map ? c->map->version : 0,
                             .keys = stats.keys,
                             .memory_used = stats.log_tail - stats.log_head + stats.index_bytes,
                             .memory_total = c->server->options.memory_bytes,
                             .live_bytes = stats.live_bytes,
                             .cold_reads = stats.cold,
                             .evicted = stats.evicted,
                             .expired = stats.expired,
                             .compacted = stats.compacted_bytes,
                             .compacted_live = stats.compacted_live_bytes};
    struct gw_device *device = c->server->device;
    if (device) {
        struct gw_device_usage usage;
        device->usage(device, &usage);
        h.disk_used = usage.used_bytes;
        h.disk_total = usage.limit_bytes;
    }
    for (uint32_t i = 0; i < c->server->dispatchers; i++) {
        h.operations +=
            atomic_load_explicit(&c->server->dispatcher[i]->operations, memory_order_relaxed);
        h.sessions +=
            atomic_load_explicit(&c->server->dispatcher[i]->sessions_open, memory_order_relaxed);
    }
    tell_durability(c->server, &h);
    tell_shared(c, &h);
    tell_loads(c, &h);
    uint8_t body[GW_HEARTBEAT_BYTES_MAX];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    gw_heartbeat_encode(&h, &w);
    (void)gwi_control_send(c, GW_KIND_HEARTBEAT, body, gw_writer_used(&w)); /* another follows */
}
