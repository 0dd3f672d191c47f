/* plan.c - drafts: who gives which slots to whom. See plan.h.
 *
 * All sums are of weights: every slot has bytes (state_loads.c, and a little for the slot itself,
 * so that an empty cluster is divided by slots) and operations. What is in an open job counts as
 * its target's and is not taken. Slots are taken from the top of a giver's ranges, so that its rest
 * stays in one piece. */
#include "coordinator/plan.h"
#include "coordinator/refusal.h"

#include <stdio.h>
#include <stdlib.h>

#include "coordinator/state_internal.h"

static double larger(double a, double b)
{
    return a > b ? a : b;
}

static double smaller(double a, double b)
{
    return a < b ? a : b;
}

const char *gw_plan_kind_name(enum gw_plan_kind kind)
{
    switch (kind) {
    case GW_PLAN_SCALE_OUT:
        return "scale-out";
    case GW_PLAN_DRAIN:
        return "drain";
    case GW_PLAN_REBALANCE:
        return "rebalance";
    case GW_PLAN_KINDS:
        break;
    }
    return "unknown";
}

struct loads {
    uint32_t servers;
    double bytes[GW_SLOTS], operations[GW_SLOTS];
    double weight[GW_SLOTS];  /* what this draft makes even */
    uint16_t owner[GW_SLOTS]; /* when all open jobs have ended */
    bool moving[GW_SLOTS];
    double *load;  /* weight by server */
    double *spare; /* of that, what is in no open job; behind load */
};

static enum gw_status no_memory(char *text, size_t text_bytes)
{
    return gwi_refusal(GW_E_NOMEM, text, text_bytes, "the coordinator is out of memory");
}

static void loads_destroy(struct loads *loads)
{
    if (loads)
        free(loads->load);
    free(loads);
}

/* A half each, of shares of the whole, when both count. */
static void weigh(struct loads *loads, enum gw_plan_by by)
{
    double bytes = 0, operations = 0;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++) {
        bytes += loads->bytes[slot];
        operations += loads->operations[slot];
    }
    if (operations == 0)
        by = GW_PLAN_BY_BYTES;
    double half = by == GW_PLAN_BY_BOTH ? 0.5 : 1;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++) {
        double weight = 0;
        if (by != GW_PLAN_BY_OPERATIONS)
            weight += half * loads->bytes[slot] / bytes;
        if (by != GW_PLAN_BY_BYTES)
            weight += half * loads->operations[slot] / operations;
        loads->weight[slot] = weight;
    }
    for (uint32_t i = 0; i < loads->servers; i++)
        loads->load[i] = 0;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (loads->owner[slot] < loads->servers)
            loads->load[loads->owner[slot]] += loads->weight[slot];
}

/* May slots go to it? */
static bool takes(const struct gw_coordinator *c, uint32_t server)
{
    return !c->server[server].lost && !c->server[server].drained &&
           gw_coordinator_server_up(c, server);
}

/* A server that takes part and of which what it holds now is not known, though it soon will be; the
 * number of servers: none. */
static uint32_t not_heard_since(const struct gw_coordinator *c)
{
    bool busy[GW_SERVERS_MAX] = {false};
    struct gw_slots owned;
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (gw_job_is_open(job->state) && !job->queued)
            busy[job->from] = busy[job->to] = true;
    }
    for (uint32_t i = 0; i < c->map->servers; i++) {
        if (!takes(c, i) || busy[i] || c->server[i].fresh)
            continue;
        gw_map_slots_of(c->map, i, &owned);
        if (gw_slots_count(&owned))
            return i;
    }
    return c->map->servers;
}

/* Numbers of different times compare badly: a slot is then taken as the average one. */
static void make_even(const struct gw_coordinator *c, struct loads *loads)
{
    double bytes = 0;
    uint32_t slots = 0;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (c->map->owner[slot] != GW_NO_SERVER) {
            bytes += loads->bytes[slot];
            slots++;
        }
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        loads->bytes[slot] = slots ? bytes / slots : GW_PLAN_SLOT_BYTES;
}

static struct loads *loads_create(const struct gw_coordinator *c, enum gw_plan_by by)
{
    struct loads *loads = calloc(1, sizeof *loads);
    if (!loads)
        return NULL;
    loads->servers = c->map->servers;
    loads->load = calloc(2 * (size_t)loads->servers + 2, sizeof *loads->load);
    if (!loads->load) {
        free(loads);
        return NULL;
    }
    memcpy(loads->owner, c->map->owner, sizeof loads->owner);
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++) {
        loads->bytes[slot] = (double)c->slot[slot].bytes + GW_PLAN_SLOT_BYTES;
        loads->operations[slot] = (double)c->slot[slot].operations;
    }
    if (not_heard_since(c) < c->map->servers)
        make_even(c, loads);
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (!gw_job_is_open(job->state))
            continue;
        uint16_t first, last;
        for (uint32_t at = 0; gw_slots_next_run(&job->slots, &at, &first, &last);)
            for (uint32_t slot = first; slot <= last; slot++) {
                loads->owner[slot] = (uint16_t)job->to;
                loads->moving[slot] = true;
            }
    }
    weigh(loads, by);
    loads->spare = loads->load + loads->servers + 1;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (loads->owner[slot] < loads->servers && !loads->moving[slot])
            loads->spare[loads->owner[slot]] += loads->weight[slot];
    return loads;
}

static void shares(const struct loads *loads, struct gw_plan_share *share)
{
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++) {
        if (loads->owner[slot] >= loads->servers)
            continue;
        struct gw_plan_share *of = &share[loads->owner[slot]];
        of->slots++;
        of->bytes += loads->bytes[slot] - GW_PLAN_SLOT_BYTES;
        of->operations += loads->operations[slot];
    }
}

/* Moves slots of at most so much weight, from the top; at most what `from` may give. Returns the
 * weight that went. A move without a slot is none. */
static double take(struct loads *loads, struct gw_plan_draft *draft, uint32_t from, uint32_t to,
                   double most)
{
    struct gw_plan_move *move = &draft->move[draft->moves];
    *move = (struct gw_plan_move){.from = from, .to = to};
    double taken = 0, slack = most * 1e-9 + 1e-15;
    bool any = false;
    for (uint32_t slot = GW_SLOTS; slot-- > 0;) {
        if (loads->owner[slot] != from || loads->moving[slot] ||
            taken + loads->weight[slot] > most + slack)
            continue;
        gw_slots_add(&move->slots, (uint16_t)slot);
        taken += loads->weight[slot];
        loads->owner[slot] = (uint16_t)to;
        loads->moving[slot] = true;
        any = true;
    }
    draft->moves += any;
    return taken;
}

/* Bytes a second that the last sizeable move has shipped, were it not for its rate. */
static double shipping_rate(const struct gw_coordinator *c, const struct gw_job_options *options)
{
    double rate = (double)GW_PLAN_RATE;
    for (uint32_t i = c->jobs; i-- > 0;) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (job->state != GW_JOB_DONE || job->bytes_moved < GW_PLAN_SIZEABLE_BYTES ||
            job->options.rate_bytes || job->finished_ms <= job->transferred_ms)
            continue;
        rate = (double)job->bytes_moved * 1000 / (double)(job->finished_ms - job->transferred_ms);
        break;
    }
    if (options && options->rate_bytes)
        rate = smaller(rate, (double)options->rate_bytes);
    return rate;
}

/* The part of what a server has that goes over the wire: with a shared tier at both ends, what is
 * in memory. */
static double shipped_part(const struct gw_coordinator *c, const struct gw_plan_move *move,
                           const struct gw_job_options *options)
{
    const struct gw_heartbeat *from = &c->server[move->from].last;
    if (!from->log_id || !c->server[move->to].last.log_id || !from->live_bytes ||
        (options && options->flags & GW_JOB_NO_INDIRECTION))
        return 1;
    return smaller(1, (double)from->memory_used / (double)from->live_bytes);
}

/* Moves between disjoint pairs run side by side. */
static void predict(const struct gw_coordinator *c, const struct gw_job_options *options,
                    struct gw_plan_draft *draft)
{
    double busy[GW_SERVERS_MAX] = {0}, end = 0, rate = shipping_rate(c, options);
    draft->bytes = draft->shipped = 0;
    for (uint32_t i = 0; i < draft->moves; i++) {
        struct gw_plan_move *move = &draft->move[i];
        double bytes = 0, keys = 0, part = shipped_part(c, move, options);
        uint16_t first, last;
        for (uint32_t at = 0; gw_slots_next_run(&move->slots, &at, &first, &last);)
            for (uint32_t slot = first; slot <= last; slot++) {
                bytes += (double)c->slot[slot].bytes;
                keys += (double)c->slot[slot].keys;
            }
        move->shipped = bytes * part;
        move->keys = keys * part;
        double start = larger(busy[move->from], busy[move->to]);
        double over = start + move->shipped / rate + 1; /* sampling etc. */
        busy[move->from] = busy[move->to] = over;
        end = larger(end, over);
        draft->bytes += bytes;
        draft->shipped += move->shipped;
    }
    draft->ms = draft->moves ? (uint64_t)(end * 1000) : 0;
    draft->map_version = draft->map_version ? draft->map_version : c->map->version;
}

/* Room for so many moves, and the shares as they are. */
static bool draft_begin(const struct loads *loads, struct gw_plan_draft *draft, uint32_t moves)
{
    draft->servers = loads->servers;
    draft->move = calloc(moves + 1, sizeof *draft->move);
    draft->before = calloc(loads->servers + 1, sizeof *draft->before);
    draft->after = calloc(loads->servers + 1, sizeof *draft->after);
    if (!draft->move || !draft->before || !draft->after) {
        gw_plan_draft_destroy(draft);
        return false;
    }
    shares(loads, draft->before);
    return true;
}

static void draft_end(const struct gw_coordinator *c, struct loads *loads,
                      const struct gw_job_options *options, struct gw_plan_draft *draft)
{
    shares(loads, draft->after);
    predict(c, options, draft);
    loads_destroy(loads);
}

void gw_plan_draft_destroy(struct gw_plan_draft *draft)
{
    free(draft->move);
    free(draft->before);
    free(draft->after);
    *draft = (struct gw_plan_draft){0};
}

static enum gw_status known(const struct gw_coordinator *c, const char *id, uint32_t *server,
                            char *text, size_t text_bytes)
{
    int at = gw_map_find(c->map, id);
    if (at < 0)
        return gwi_refusal(GW_NOT_FOUND, text, text_bytes, "there is no server %.64s", id);
    if (c->server[at].lost)
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "server %.64s was %s and can never take or give slots", id,
                           c->server[at].removed ? "removed" : "given up for lost");
    *server = (uint32_t)at;
    return GW_OK;
}

/* Servers that will stay and hold a part of everything, the target among them. */
static uint32_t holders(const struct gw_coordinator *c, uint32_t target)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->map->servers; i++)
        n += i == target || (!c->server[i].lost && !c->server[i].drained);
    return n;
}

/* What a server with more than `down_to` gives. */
static double gives(const struct loads *loads, uint32_t server, double down_to)
{
    if (loads->load[server] <= down_to)
        return 0;
    return smaller(loads->load[server] - down_to, loads->spare[server]);
}

/* The level down to which those with most give, so that it is `need` in all, or all there is. */
static double surface(const struct gw_coordinator *c, const struct loads *loads, uint32_t target,
                      double need)
{
    double low = 0, high = 4; /* all weights together are 1 */
    for (int round = 0; round < 60; round++) {
        double middle = (low + high) / 2, sum = 0;
        for (uint32_t i = 0; i < loads->servers; i++)
            if (i != target && !c->server[i].lost)
                sum += gives(loads, i, middle);
        if (sum < need)
            high = middle;
        else
            low = middle;
    }
    return low;
}

enum gw_status gw_plan_scale_out(const struct gw_coordinator *c, const char *to,
                                 const struct gw_job_options *options, struct gw_plan_draft *out,
                                 char *text, size_t text_bytes)
{
    uint32_t target = 0;
    enum gw_status st = known(c, to, &target, text, text_bytes);
    if (st != GW_OK)
        return st;
    if (!gw_coordinator_server_up(c, target))
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "server %s is down: it cannot take slots until it has joined again", to);
    struct loads *loads = loads_create(c, GW_PLAN_BY_BYTES);
    struct gw_plan_draft draft = {.kind = GW_PLAN_SCALE_OUT, .server = target};
    if (!loads || !draft_begin(loads, &draft, loads->servers)) {
        loads_destroy(loads);
        return no_memory(text, text_bytes);
    }
    double total = 0, due = 0, taken = 0;
    for (uint32_t i = 0; i < loads->servers; i++)
        if (!c->server[i].lost)
            total += loads->load[i];
    double need = total / holders(c, target) - loads->load[target];
    double down_to = need > 0 ? surface(c, loads, target, need) : 0;
    for (uint32_t i = 0; need > 0 && i < loads->servers; i++) {
        if (i == target || c->server[i].lost)
            continue;
        /* What rounding has left over falls to the next one. */
        uint32_t before = draft.moves;
        due += gives(loads, i, down_to);
        taken += take(loads, &draft, i, target, smaller(due, need) - taken);
        if (draft.moves > before && !gw_coordinator_server_up(c, i)) {
            loads_destroy(loads);
            gw_plan_draft_destroy(&draft);
            return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                               "server %s is down and would have to give slots; start it, or move "
                               "slots from the others with migrate",
                               c->map->server[i].id);
        }
    }
    draft_end(c, loads, options, &draft);
    *out = draft;
    return GW_OK;
}

/* The level up to which the takers are filled by `amount` more. */
static double level(const struct gw_coordinator *c, const struct loads *loads, uint32_t giver,
                    double amount)
{
    double low = 0, high = 4; /* all weights together are 1 */
    for (int round = 0; round < 100; round++) {
        double middle = (low + high) / 2, holds = 0;
        for (uint32_t i = 0; i < loads->servers; i++)
            if (i != giver && takes(c, i))
                holds += larger(0, middle - loads->load[i]);
        if (holds < amount)
            low = middle;
        else
            high = middle;
    }
    return high;
}

enum gw_status gw_plan_drain(const struct gw_coordinator *c, const char *server,
                             const struct gw_job_options *options, struct gw_plan_draft *out,
                             char *text, size_t text_bytes)
{
    uint32_t giver = 0, last = UINT32_MAX;
    enum gw_status st = known(c, server, &giver, text, text_bytes);
    if (st != GW_OK)
        return st;
    for (uint32_t i = 0; i < c->jobs; i++)
        if (gw_job_is_open(c->job[i]->record.state) && c->job[i]->record.to == giver)
            return gwi_refusal(
                GW_E_REFUSED, text, text_bytes,
                "job %llu brings slots to server %.64s: cancel it, or wait for its end",
                (unsigned long long)c->job[i]->record.id, server);
    struct loads *loads = loads_create(c, GW_PLAN_BY_BYTES);
    struct gw_plan_draft draft = {.kind = GW_PLAN_DRAIN, .server = giver};
    if (!loads || !draft_begin(loads, &draft, loads->servers)) {
        loads_destroy(loads);
        return no_memory(text, text_bytes);
    }
    double amount = loads->spare[giver];
    for (uint32_t i = 0; i < loads->servers; i++)
        if (i != giver && takes(c, i))
            last = i;
    const char *why = NULL;
    if (amount > 0 && last == UINT32_MAX)
        why = "there is no other server that is up, not drained, and could take its slots";
    else if (amount > 0 && !gw_coordinator_server_up(c, giver))
        why = "it is down: start it first, for it has what its slots hold";
    if (why) {
        loads_destroy(loads);
        gw_plan_draft_destroy(&draft);
        return gwi_refusal(GW_E_REFUSED, text, text_bytes, "server %.64s cannot be drained: %s",
                           server, why);
    }
    double full = amount > 0 ? level(c, loads, giver, amount) : 0, due = 0, taken = 0;
    for (uint32_t i = 0; amount > 0 && i < loads->servers; i++) {
        if (i == giver || !takes(c, i))
            continue;
        due += larger(0, full - loads->load[i]);
        taken += take(loads, &draft, giver, i, i == last ? 2 : due - taken);
    }
    draft_end(c, loads, options, &draft);
    *out = draft;
    return GW_OK;
}

enum gw_status gw_plan_rebalance(const struct gw_coordinator *c, enum gw_plan_by by,
                                 const struct gw_job_options *options, struct gw_plan_draft *out,
                                 char *text, size_t text_bytes)
{
    uint32_t silent = not_heard_since(c);
    if (silent < c->map->servers)
        return gwi_refusal(GW_E_BUSY, text, text_bytes,
                           "server %.64s has not said yet what it holds: ask again in a second",
                           c->map->server[silent].id);
    struct loads *loads = loads_create(c, by);
    struct gw_plan_draft draft = {.kind = GW_PLAN_REBALANCE};
    if (!loads || !draft_begin(loads, &draft, 2 * loads->servers)) {
        loads_destroy(loads);
        return no_memory(text, text_bytes);
    }
    double average = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < loads->servers; i++)
        if (takes(c, i)) {
            average += loads->load[i];
            n++;
        }
    average = n ? average / n : 0;
    /* Who has most gives first, to who has least. Each step settles a giver or a taker. */
    for (uint32_t step = 0; n && step < 2 * loads->servers; step++) {
        uint32_t most = UINT32_MAX, least = UINT32_MAX;
        for (uint32_t i = 0; i < loads->servers; i++) {
            if (!takes(c, i))
                continue;
            if (most == UINT32_MAX || loads->load[i] > loads->load[most])
                most = i;
            if (least == UINT32_MAX || loads->load[i] < loads->load[least])
                least = i;
        }
        double excess = loads->load[most] - average, lack = average - loads->load[least];
        if (larger(excess, lack) <= average * GW_PLAN_EVEN_WITHIN)
            break;
        double went = take(loads, &draft, most, least, smaller(excess, lack));
        loads->load[most] -= went;
        loads->load[least] += went;
        if (went == 0) /* what is left are slots hotter than what is missing */
            break;
    }
    draft_end(c, loads, options, &draft);
    *out = draft;
    return GW_OK;
}

enum gw_status gw_plan_of_moves(const struct gw_coordinator *c,
                                const struct gw_job_options *options, struct gw_plan_draft *draft)
{
    struct loads *loads = loads_create(c, GW_PLAN_BY_BYTES);
    struct gw_plan_draft made = *draft;
    made.move = NULL;
    if (!loads || !draft_begin(loads, &made, 0)) {
        loads_destroy(loads);
        return GW_E_NOMEM;
    }
    free(made.move);
    made.move = draft->move;
    for (uint32_t i = 0; i < made.moves; i++) {
        uint16_t first, last;
        for (uint32_t at = 0; gw_slots_next_run(&made.move[i].slots, &at, &first, &last);)
            for (uint32_t slot = first; slot <= last; slot++)
                loads->owner[slot] = (uint16_t)made.move[i].to;
    }
    draft_end(c, loads, options, &made);
    *draft = made;
    return GW_OK;
}
