/* state_plan.c - scale-out: which slots go to a server that shall have its even share.
 * What counts is the map as it will be when all open jobs have finished; what is moving already is
 * not taken. Every source gives in proportion to what it has, rounded by largest remainder, from
 * the top of its ranges, so that its rest stays in one piece. Rules: state_internal.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/state_internal.h"

struct plan_source {
    struct gw_slots free; /* owned and in no open job */
    uint32_t count, give, remainder;
    struct coordinator_job *job;
};

struct plan {
    uint32_t sources, need, total;
    struct plan_source *source; /* by server index */
};

static void count_free(const struct gw_coordinator *c, struct plan *plan, uint32_t target)
{
    uint32_t future; /* what the target will have when all is done */
    for (uint32_t i = 0; i < plan->sources; i++)
        if (!c->server[i].lost) /* what it had nobody can give */
            gw_map_slots_of(c->map, i, &plan->source[i].free);
    future = gw_slots_count(&plan->source[target].free);
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (!gw_job_is_open(job->state))
            continue;
        if (job->state == GW_JOB_CREATED && job->to == target)
            future += gw_slots_count(&job->slots);
        if (job->state == GW_JOB_CREATED && job->from == target)
            future -= gw_slots_count(&job->slots);
        for (uint32_t s = 0; s < plan->sources; s++)
            for (uint32_t w = 0; w < GW_SLOTS / 64; w++)
                plan->source[s].free.word[w] &= ~job->slots.word[w];
    }
    gw_slots_clear(&plan->source[target].free); /* not a source */
    for (uint32_t i = 0; i < plan->sources; i++) {
        plan->source[i].count = gw_slots_count(&plan->source[i].free);
        plan->total += plan->source[i].count;
    }
    uint32_t share = GW_SLOTS / plan->sources;
    plan->need = share > future ? share - future : 0;
    if (plan->need > plan->total)
        plan->need = plan->total;
}

static void divide(struct plan *plan)
{
    uint32_t left = plan->need;
    for (uint32_t i = 0; i < plan->sources; i++) {
        struct plan_source *source = &plan->source[i];
        uint64_t exact = (uint64_t)plan->need * source->count;
        source->give = (uint32_t)(exact / plan->total);
        source->remainder = (uint32_t)(exact % plan->total);
        left -= source->give;
    }
    for (; left; left--) { /* less than one round: the remainders add up to left * total */
        uint32_t best = 0;
        for (uint32_t i = 1; i < plan->sources; i++)
            if (plan->source[i].remainder > plan->source[best].remainder)
                best = i;
        GW_ASSERT(plan->source[best].give < plan->source[best].count);
        plan->source[best].give++;
        plan->source[best].remainder = 0;
    }
}

static void take_top(const struct plan_source *source, struct gw_slots *out)
{
    gw_slots_clear(out);
    uint32_t left = source->give;
    for (uint32_t slot = GW_SLOTS; left && slot-- > 0;)
        if (gw_slots_has(&source->free, (uint16_t)slot)) {
            gw_slots_add(out, (uint16_t)slot);
            left--;
        }
    GW_ASSERT(left == 0);
}

/* Everything that can fail, before the first job is opened. */
static enum gw_status prepare(struct gw_coordinator *c, struct plan *plan, const char *to,
                              uint32_t *jobs, char *text, size_t text_bytes)
{
    uint32_t target, givers = 0;
    for (uint32_t i = 0; i < plan->sources; i++)
        if (plan->source[i].give)
            givers++;
    enum gw_status st = gwi_coordinator_target(c, to, givers, &target, text, text_bytes);
    if (st != GW_OK)
        return st;
    for (uint32_t i = 0; i < plan->sources; i++) {
        if (!plan->source[i].give)
            continue;
        if (!gw_coordinator_server_up(c, i)) {
            snprintf(text, text_bytes,
                     "server %s is down and would have to give slots; start it, or move slots from "
                     "the others with migrate",
                     c->map->server[i].id);
            return GW_E_REFUSED;
        }
        plan->source[i].job = gwi_coordinator_job_new();
        if (!plan->source[i].job)
            goto no_memory;
    }
    if (!gwi_coordinator_room(c, 3 * givers, 2 * givers))
        goto no_memory;
    *jobs = givers;
    return GW_OK;

no_memory:
    snprintf(text, text_bytes, "the coordinator is out of memory");
    return GW_E_NOMEM;
}

enum gw_status gw_coordinator_scale_out(struct gw_coordinator *c, const char *to, uint64_t *ids,
                                        uint32_t *jobs, char *text, size_t text_bytes)
{
    GW_ASSERT(c->started);
    uint32_t target;
    enum gw_status st = gwi_coordinator_target(c, to, 0, &target, text, text_bytes);
    if (st != GW_OK)
        return st;
    struct plan plan = {.sources = c->map->servers};
    plan.source = calloc(plan.sources, sizeof *plan.source);
    if (!plan.source) {
        snprintf(text, text_bytes, "the coordinator is out of memory");
        return GW_E_NOMEM;
    }
    count_free(c, &plan, target);
    if (!plan.need) {
        snprintf(text, text_bytes,
                 "server %s has, or is getting, its even share of %" PRIu32
                 " slots, or all others are moving already",
                 to, GW_SLOTS / plan.sources);
        st = GW_E_REFUSED;
        goto out;
    }
    divide(&plan);
    st = prepare(c, &plan, to, jobs, text, text_bytes);
    if (st != GW_OK)
        goto out;
    uint32_t opened = 0;
    for (uint32_t i = 0; i < plan.sources; i++) {
        struct plan_source *source = &plan.source[i];
        if (!source->give)
            continue;
        struct gw_slots slots;
        take_top(source, &slots);
        ids[opened++] = gwi_coordinator_job_open(c, source->job, &slots, i, target);
        source->job = NULL;
    }
    GW_ASSERT(opened == *jobs);
out:
    for (uint32_t i = 0; i < plan.sources; i++)
        free(plan.source[i].job);
    free(plan.source);
    return st;
}
