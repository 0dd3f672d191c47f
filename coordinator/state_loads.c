/* state_loads.c - what each slot holds and how much it is asked for, as far as heartbeats tell.
 *
 * Servers say sums: keys and live bytes of all that they have, operations of ranges of slots. Here
 * they become numbers of slots, which go with the slot when its owner changes. So a plan that is
 * made right behind another one does not reckon with sums from before the moves.
 *
 * Rules:
 *  1. While a server has a part in a job that runs, its sums are of slots that it has only in part:
 *     what was known before stays. Its link keeps the order of heartbeats and events, so the first
 *     one behind the end of its job is one from behind the move.
 *  2. Unless nothing was known of it since our start: then a wrong number is better than none.
 *  3. What was counted before a job's end may be far from what is counted behind it. A rebalance,
 *     which looks at differences, waits for new numbers of all (fresh).
 *  4. Nothing of this is durable: the servers say it again.
 * Rules of the machine: state_internal.h. */
#include "coordinator/state_internal.h"

static bool has_part_in_a_job(const struct gw_coordinator *c, uint32_t server)
{
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (gw_job_is_open(job->state) && !job->queued &&
            (job->from == server || job->to == server))
            return true;
    }
    return false;
}

void gwi_coordinator_loads_heard(struct gw_coordinator *c, uint32_t at)
{
    struct coordinator_server *server = &c->server[at];
    const struct gw_heartbeat *last = &server->last;
    bool settled = !has_part_in_a_job(c, at);
    if (!settled && server->counted) /* rules 1 and 2 */
        return;
    struct gw_slots owned;
    gw_map_slots_of(c->map, at, &owned);
    uint32_t slots = gw_slots_count(&owned);
    server->counted = server->fresh = settled;
    if (slots == 0)
        return;
    /* A store without a device does not count what is superseded: its keys count then. */
    uint64_t live = last->live_bytes ? last->live_bytes : last->keys * GW_PLAN_KEY_BYTES;
    struct gwi_slot_load even = {.bytes = (float)live / (float)slots,
                                 .keys = (float)last->keys / (float)slots};
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (c->map->owner[slot] == at)
            c->slot[slot] = even;
    for (uint32_t i = 0; i < last->loads; i++) {
        const struct gw_load *range = &last->load[i];
        uint32_t ours = 0;
        for (uint32_t slot = range->first; slot <= range->last; slot++)
            ours += c->map->owner[slot] == at;
        for (uint32_t slot = range->first; ours && slot <= range->last; slot++)
            if (c->map->owner[slot] == at)
                c->slot[slot].operations = (float)range->operations / (float)ours;
    }
}
