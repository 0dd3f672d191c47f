/* session_route.c - which operation may go to which server, and in which order (MIGRATION R1, R6).
 * A new operation whose slot has nothing queued and nothing under way elsewhere goes straight into
 * its lane's list: one comparison. Everything else is QUEUED and is dispatched by a walk over the
 * window, from the oldest serial up, which is what keeps the order. Rules by number: session.h. */
#include "client/session.h"

#include <stdlib.h>
#include <string.h>

void gwi_route_ready(struct gw_session *s, struct gwi_lane *lane, struct gwi_op *op)
{
    struct gwi_slot *slot = &s->slot[op->slot];
    uint32_t at = (uint32_t)(op->serial & s->mask);
    slot->under_way++;
    slot->lane = lane->index;
    op->state = GWI_OP_READY;
    op->lane = lane->index;
    op->next = GWI_NO_OP;
    if (lane->count++ == 0)
        lane->first = at;
    else
        s->op[lane->last].next = at;
    lane->last = at;
    lane->bytes += op->bytes;
}

void gwi_route_queue(struct gw_session *s, struct gwi_op *op)
{
    op->state = GWI_OP_QUEUED;
    s->queued++;
    s->slot[op->slot].queued++;
    if (s->slot[op->slot].owner == GWI_NO_LANE)
        s->map_wanted = true;
}

void gwi_route_requeue(struct gw_session *s, struct gwi_op *op)
{
    s->slot[op->slot].under_way--;
    op->state = GWI_OP_QUEUED;
    s->queued++;
    s->slot[op->slot].queued++;
    s->dispatch_due = true;
}

void gwi_route_pull_back(struct gw_session *s, struct gwi_lane *lane)
{
    uint32_t at = lane->first;
    for (uint32_t left = lane->count; left > 0; left--) {
        struct gwi_op *op = &s->op[at];
        at = op->next;
        gwi_route_requeue(s, op);
    }
    lane->count = 0;
    lane->bytes = 0;
}

void gwi_route_returned(struct gw_session *s, struct gwi_op *op, bool moved)
{
    struct gwi_slot *slot = &s->slot[op->slot];
    struct gwi_lane *lane = s->lane[op->lane];
    if (op->state == GWI_OP_PENDING)
        lane->pending--;
    gwi_route_requeue(s, op);
    if (op->abandoned) {
        lane->abandoned--;
        gwi_op_free(s, op);
    }
    slot->returning = true;
    lane->returned = true; /* rule 2: later ones of the slot may stand in its list */
    if (slot->owner != lane->index)
        return; /* the map knows better already */
    uint64_t at_ns = s->now_ns + gwi_wait_ns(slot->tries);
    if (s->slot_wait_ns[op->slot] <= s->now_ns) {
        /* Once a round: all the slot's operations come back together. */
        s->slot_wait_ns[op->slot] = at_ns;
        if (slot->tries < UINT8_MAX)
            slot->tries++;
    }
    if (moved)
        gwi_lane_ask_map(lane);
}

static bool slot_may_go(struct gw_session *s, const struct gwi_op *op, struct gwi_slot *slot)
{
    if (slot->under_way != 0 && slot->returning)
        return false; /* rule 2; the last answer makes a dispatch due */
    if (slot->lane != slot->owner && gwi_slot_bound(s, op->slot)) {
        if (s->slot_kept[op->slot] != 0)
            gwi_keep_hurry(s, s->lane[slot->lane]);
        return false; /* rules 1 and 6; so does the last that becomes durable */
    }
    if (slot->owner == GWI_NO_LANE) {
        s->map_wanted = true;
        return false;
    }
    if (s->lane[slot->owner]->draining)
        return false; /* its last refusal makes a dispatch due */
    uint64_t at_ns = s->slot_wait_ns[op->slot];
    if (at_ns > s->now_ns) {
        if (at_ns < s->wait_low_ns)
            s->wait_low_ns = at_ns;
        return false;
    }
    return true;
}

void gwi_route_dispatch(struct gw_session *s)
{
    s->dispatch_due = false;
    s->wait_low_ns = UINT64_MAX;
    for (uint32_t i = 0; i < s->lane_count; i++)
        if (s->lane[i]->returned) {
            s->lane[i]->returned = false;
            gwi_route_pull_back(s, s->lane[i]);
        }
    s->dispatch_due = false; /* what was pulled back is seen now */
    if (++s->pass == 0) {
        for (uint32_t i = 0; i < GW_SLOTS; i++)
            s->slot[i].pass = 0;
        s->pass = 1;
    }

    uint32_t left = s->queued;
    for (uint64_t serial = s->oldest; left > 0; serial++) {
        GW_ASSERT(serial < s->next);
        struct gwi_op *op = gwi_op_at(s, serial);
        if (op->state != GWI_OP_QUEUED)
            continue;
        left--;
        struct gwi_slot *slot = &s->slot[op->slot];
        if (slot->pass == s->pass)
            continue;
        if (!slot_may_go(s, op, slot)) {
            slot->pass = s->pass;
            continue;
        }
        slot->returning = false;
        struct gwi_lane *lane = s->lane[slot->owner];
        if (GW_UNLIKELY(lane->fatal >= GWI_REFUSALS_MAX && !op->told)) {
            gwi_op_fail(s, op, GW_E_UNREACHABLE);
            continue;
        }
        s->queued--;
        slot->queued--;
        gwi_route_ready(s, lane, op);
    }
}

static bool lanes_grow(struct gw_session *s, uint32_t servers)
{
    if (servers <= s->lane_count)
        return true;
    struct gwi_lane **lanes = realloc(s->lane, servers * sizeof(struct gwi_lane *));
    if (!lanes)
        return false;
    s->lane = lanes;
    while (s->lane_count < servers) {
        struct gwi_lane *lane = calloc(1, sizeof *lane);
        if (!lane)
            return false;
        gwi_lane_init(lane, s, (uint16_t)s->lane_count);
        s->lane[s->lane_count++] = lane;
    }
    return true;
}

static void adopt(void *ctx, const struct gw_map *map)
{
    struct gw_session *s = ctx;
    if (map->version <= s->map_version || !lanes_grow(s, map->servers))
        return; /* out of memory: the next turn tries again */
    s->map_version = map->version;
    s->cluster_id = map->cluster;
    for (uint32_t i = 0; i < map->servers; i++) {
        struct gwi_lane *lane = s->lane[i];
        lane->view = map->server[i].view;
        if (strcmp(lane->address, map->server[i].address) != 0) {
            memcpy(lane->address, map->server[i].address, sizeof lane->address);
            lane->retry_ns = s->now_ns; /* what failed was another address */
        }
    }
    for (uint32_t i = 0; i < GW_SLOTS; i++) {
        if (s->slot[i].owner == map->owner[i])
            continue;
        s->slot[i].owner = map->owner[i];
        s->slot[i].tries = 0;
        s->slot_wait_ns[i] = 0;
    }
    /* What stands in a list and was never sent may belong elsewhere now. */
    for (uint32_t i = 0; i < s->lane_count; i++)
        gwi_route_pull_back(s, s->lane[i]);
    s->dispatch_due = true;
    s->map_wanted = false;
}

void gwi_route_adopt(struct gw_session *s)
{
    if (gw_cluster_map_version(s->cluster) > s->map_version)
        gwi_cluster_read(s->cluster, adopt, s);
}
