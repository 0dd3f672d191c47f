/* state_plan.c - durable plans: parents of moves. See plan.h.
 *
 *   plan: running --all moves done--> done
 *            |--cancel---------------> (its committed moves end) --> cancelled
 *            `--a move does not succeed-> (those that run end)    --> failed
 *
 * What a plan does next follows from its record and its moves' alone, so a restarted coordinator
 * goes on at its first tick. Rules: state_internal.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/refusal.h"
#include "coordinator/state_internal.h"
#include "index/base/log_line.h"

uint32_t gw_coordinator_plans(const struct gw_coordinator *c)
{
    return c->plans;
}

const struct gw_plan_record *gw_coordinator_plan_at(const struct gw_coordinator *c, uint32_t at)
{
    GW_ASSERT(at < c->plans);
    return c->plan[at];
}

int gwi_coordinator_find_plan(const struct gw_coordinator *c, uint64_t id)
{
    for (uint32_t i = 0; i < c->plans; i++)
        if (c->plan[i]->id == id)
            return (int)i;
    return -1;
}

const struct gw_plan_record *gw_coordinator_plan(const struct gw_coordinator *c, uint64_t id)
{
    int at = gwi_coordinator_find_plan(c, id);
    return at < 0 ? NULL : c->plan[at];
}

static void fact_plan(struct gw_coordinator *c, struct gw_plan_record *plan, enum gw_job_state was)
{
    plan->updated_ms = c->wall_ms;
    struct gw_fact *fact = gwi_coordinator_fact(c, GW_FACT_PLAN);
    fact->plan.was = was;
    fact->plan.is = *plan;
}

/* --- beginning ---------------------------------------------------------------------------------
 */

static enum gw_status may_begin(struct gw_coordinator *c, const struct gw_plan_draft *draft,
                                char *text, size_t text_bytes)
{
    if (draft->map_version != c->map->version)
        return gwi_refusal(GW_MISMATCH, text, text_bytes,
                           "the plan was made for map version %" PRIu64 ", the map is at %" PRIu64
                           " now: make it again",
                           draft->map_version, c->map->version);
    if (c->plans_open == GW_PLANS_OPEN_MAX)
        return gwi_refusal(GW_E_LIMIT, text, text_bytes, "%u plans are running already",
                           GW_PLANS_OPEN_MAX);
    if (draft->moves == 0 && draft->kind != GW_PLAN_DRAIN)
        return gwi_refusal(
            GW_E_REFUSED, text, text_bytes,
            draft->kind == GW_PLAN_SCALE_OUT
                ? "server %.64s has, or is getting, its even share, or all others are "
                  "moving already"
                : "there is nothing to move: the servers are even as they are",
            c->map->server[draft->server].id);
    struct gw_slots seen;
    gw_slots_clear(&seen);
    for (uint32_t i = 0; i < draft->moves; i++) {
        const struct gw_plan_move *move = &draft->move[i];
        uint32_t to;
        if ((draft->kind == GW_PLAN_DRAIN && move->from != draft->server) ||
            (draft->kind == GW_PLAN_SCALE_OUT && move->to != draft->server))
            return gwi_refusal(GW_E_INVALID, text, text_bytes,
                               "move %" PRIu32 " of the plan (%.60s to %.60s) is none of a %s of "
                               "server %.60s",
                               i + 1, c->map->server[move->from].id, c->map->server[move->to].id,
                               gw_plan_kind_name(draft->kind), c->map->server[draft->server].id);
        enum gw_status st = gwi_coordinator_target(c, c->map->server[move->to].id, draft->moves,
                                                   &to, text, text_bytes);
        if (st == GW_OK && c->server[to].drained &&
            !(draft->kind == GW_PLAN_SCALE_OUT && draft->server == to))
            st = gwi_refusal(GW_E_REFUSED, text, text_bytes, "server %.64s is drained",
                             c->map->server[to].id);
        if (st == GW_OK && move->from == to)
            st = gwi_refusal(GW_E_INVALID, text, text_bytes,
                             "from and to are the same server, %.64s", c->map->server[to].id);
        if (st == GW_OK && !gw_coordinator_server_up(c, move->from))
            st = gwi_refusal(GW_E_REFUSED, text, text_bytes,
                             "server %.64s is down and would have to give slots",
                             c->map->server[move->from].id);
        if (st == GW_OK)
            st = gwi_coordinator_slots_are_free(c, &move->slots, move->from, text, text_bytes);
        if (st == GW_OK && gw_slots_overlap(&seen, &move->slots))
            st = gwi_refusal(GW_E_INVALID, text, text_bytes, "two moves of the plan share slots");
        if (st != GW_OK)
            return st;
        for (uint32_t w = 0; w < GW_SLOTS / 64; w++)
            seen.word[w] |= move->slots.word[w];
    }
    return GW_OK;
}

static void forget_oldest_plan(struct gw_coordinator *c)
{
    if (c->plans < GW_PLANS_MAX)
        return;
    uint32_t at = 0; /* at most GW_PLANS_OPEN_MAX are open */
    while (c->plan[at]->state == GW_JOB_CREATED)
        at++;
    gwi_coordinator_fact(c, GW_FACT_PLAN_GONE)->plan_gone = c->plan[at]->id;
    free(c->plan[at]);
    c->plans--;
    memmove(&c->plan[at], &c->plan[at + 1], (c->plans - at) * sizeof c->plan[0]);
}

static void set_drained(struct gw_coordinator *c, uint32_t server, bool drained)
{
    if (c->server[server].drained == drained)
        return;
    c->server[server].drained = drained;
    gwi_coordinator_fact_server(c, server);
}

enum gw_status gw_coordinator_plan_begin(struct gw_coordinator *c,
                                         const struct gw_plan_draft *draft,
                                         const struct gw_job_options *options, uint64_t *id,
                                         char *text, size_t text_bytes)
{
    GW_ASSERT(c->started);
    enum gw_status st = may_begin(c, draft, text, text_bytes);
    if (st != GW_OK)
        return st;
    struct gw_plan_record *plan = calloc(1, sizeof *plan);
    struct coordinator_job **job = calloc(draft->moves + 1, sizeof(struct coordinator_job *));
    bool room = plan && job && gwi_coordinator_room(c, 4 + 3 * draft->moves, 2 * draft->moves);
    for (uint32_t i = 0; room && i < draft->moves; i++) {
        job[i] = gwi_coordinator_job_new();
        room = job[i] != NULL;
    }
    if (!room) {
        for (uint32_t i = 0; job && i < draft->moves; i++)
            free(job[i]);
        free(job);
        free(plan);
        return gwi_refusal(GW_E_NOMEM, text, text_bytes, "the coordinator is out of memory");
    }
    forget_oldest_plan(c);
    *plan = (struct gw_plan_record){.id = c->next_job++,
                                    .kind = draft->kind,
                                    .state = GW_JOB_CREATED,
                                    .server = draft->server,
                                    .moves = draft->moves,
                                    .map_version = draft->map_version,
                                    .created_ms = c->wall_ms};
    c->plan[c->plans++] = plan;
    c->plans_open++;
    gwi_coordinator_fact_cluster(c, c->map->version); /* the next id */
    fact_plan(c, plan, 0);
    if (draft->kind != GW_PLAN_REBALANCE)
        set_drained(c, draft->server, draft->kind == GW_PLAN_DRAIN);
    for (uint32_t i = 0; i < draft->moves; i++) {
        job[i]->record.queued = true;
        job[i]->record.plan = plan->id;
        job[i]->record.options = *options;
        job[i]->record.bytes_left = (uint64_t)draft->move[i].shipped;
        job[i]->record.records_left = (uint64_t)draft->move[i].keys;
        (void)gwi_coordinator_job_open(c, job[i], &draft->move[i].slots, draft->move[i].from,
                                       draft->move[i].to); /* its id follows */
    }
    gw_info("plan begins", "plan=%" PRIu64 " kind=%s moves=%" PRIu32, plan->id,
            gw_plan_kind_name(plan->kind), plan->moves);
    free(job);
    *id = plan->id;
    return GW_OK;
}

enum gw_status gw_coordinator_scale_out(struct gw_coordinator *c, const char *to, uint64_t *ids,
                                        uint32_t *jobs, char *text, size_t text_bytes)
{
    struct gw_plan_draft draft;
    static const struct gw_job_options defaults;
    enum gw_status st = gw_plan_scale_out(c, to, &defaults, &draft, text, text_bytes);
    if (st != GW_OK)
        return st;
    uint64_t plan;
    st = gw_coordinator_plan_begin(c, &draft, &defaults, &plan, text, text_bytes);
    *jobs = st == GW_OK ? draft.moves : 0;
    for (uint32_t i = 0; i < *jobs; i++)
        ids[i] = plan + 1 + i;
    gw_plan_draft_destroy(&draft);
    return st;
}

/* --- turns -------------------------------------------------------------------------------------
 */

/* Has one of the two a part in a job that runs? */
static bool busy(const struct gw_coordinator *c, const struct gw_job_record *move)
{
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (gw_job_is_open(job->state) && !job->queued &&
            (job->from == move->from || job->to == move->from || job->from == move->to ||
             job->to == move->to))
            return true;
    }
    return false;
}

static void begin_moves(struct gw_coordinator *c)
{
    uint32_t running = 0;
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        running += gw_job_is_open(job->state) && job->plan && !job->queued;
    }
    for (uint32_t i = 0; i < c->jobs && running < GW_PLAN_AT_ONCE; i++) {
        struct gw_job_record *job = &c->job[i]->record;
        if (job->state != GW_JOB_CREATED || !job->queued || job->paused)
            continue;
        int plan = gwi_coordinator_find_plan(c, job->plan);
        if (plan < 0 || c->plan[plan]->paused || c->plan[plan]->ending || busy(c, job) ||
            !gw_coordinator_server_up(c, job->from) || !gw_coordinator_server_up(c, job->to))
            continue;
        job->queued = false;
        job->updated_ms = c->wall_ms;
        gwi_coordinator_fact_job(c, c->job[i], GW_JOB_CREATED);
        gwi_coordinator_send_job(c, c->job[i]);
        gw_info("move begins", "job=%" PRIu64 " plan=%" PRIu64, job->id, job->plan);
        running++;
    }
}

void gw_coordinator_plan_waits(const struct gw_coordinator *c, const struct gw_job_record *move,
                               char *text, size_t text_bytes)
{
    int plan = move->plan ? gwi_coordinator_find_plan(c, move->plan) : -1;
    const char *from = c->map->server[move->from].id, *to = c->map->server[move->to].id;
    text[0] = '\0';
    if (!move->queued || move->state != GW_JOB_CREATED)
        return;
    if (move->paused || (plan >= 0 && c->plan[plan]->paused))
        snprintf(text, text_bytes, "paused");
    else if (!gw_coordinator_server_up(c, move->from) || !gw_coordinator_server_up(c, move->to))
        snprintf(text, text_bytes, "waits for server %.64s, which is down",
                 gw_coordinator_server_up(c, move->from) ? to : from);
    else if (busy(c, move))
        snprintf(text, text_bytes, "waits for the end of another job of server %.64s or %.64s",
                 from, to);
    else
        snprintf(text, text_bytes, "waits: %u moves of plans run at a time", GW_PLAN_AT_ONCE);
}

/* The plan will end so: what waits, and with `all` what is not committed, is cancelled. */
static void end_soon(struct gw_coordinator *c, struct gw_plan_record *plan,
                     enum gw_job_state ending, bool all)
{
    plan->ending = ending;
    fact_plan(c, plan, GW_JOB_CREATED);
    for (uint32_t i = 0; i < c->jobs; i++)
        if (c->job[i]->record.plan == plan->id && (all || c->job[i]->record.queued))
            (void)gwi_coordinator_job_move(c, c->job[i], GW_JOB_CREATED, GW_JOB_CANCELLED);
}

struct tally {
    uint32_t open, done;
    const struct gw_job_record *bad; /* the first that has not succeeded */
};

static struct tally tally(const struct gw_coordinator *c, const struct gw_plan_record *plan)
{
    struct tally t = {0};
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (job->plan != plan->id)
            continue;
        if (gw_job_is_open(job->state))
            t.open++;
        else if (job->state == GW_JOB_DONE)
            t.done++;
        else if (!t.bad)
            t.bad = job;
    }
    return t;
}

/* A drain's own moves have ended. Slots that were in other jobs when it began may have stayed.
 * False: those jobs are open yet. */
static bool is_empty(struct gw_coordinator *c, struct gw_plan_record *plan)
{
    struct gw_slots owned;
    gw_map_slots_of(c->map, plan->server, &owned);
    if (gw_slots_count(&owned) == 0)
        return true;
    for (uint32_t i = 0; i < c->jobs; i++)
        if (gw_job_is_open(c->job[i]->record.state) && c->job[i]->record.from == plan->server)
            return false;
    snprintf(plan->error, sizeof plan->error,
             "server %.64s still owns %" PRIu32
             " slots, which were in a job that has ended without moving them: drain it again",
             c->map->server[plan->server].id, gw_slots_count(&owned));
    plan->ending = GW_JOB_FAILED;
    return true;
}

static void plan_turn(struct gw_coordinator *c, struct gw_plan_record *plan)
{
    struct tally t = tally(c, plan);
    if (t.bad && !plan->ending) {
        snprintf(plan->error, sizeof plan->error, "move %" PRIu64 " (%.40s to %.40s) is %s%s%.100s",
                 t.bad->id, c->map->server[t.bad->from].id, c->map->server[t.bad->to].id,
                 gw_job_state_name(t.bad->state), t.bad->error[0] ? ": " : "", t.bad->error);
        end_soon(c, plan, GW_JOB_FAILED, false);
        t = tally(c, plan);
    }
    if (plan->moves_done != t.done) {
        plan->moves_done = t.done;
        fact_plan(c, plan, GW_JOB_CREATED);
    }
    if (t.open || (plan->kind == GW_PLAN_DRAIN && !plan->ending && !is_empty(c, plan)))
        return;
    plan->state = plan->ending ? plan->ending : GW_JOB_DONE;
    plan->finished_ms = c->wall_ms ? c->wall_ms : 1;
    c->plans_open--;
    fact_plan(c, plan, GW_JOB_CREATED);
    if (plan->kind == GW_PLAN_DRAIN && plan->state != GW_JOB_DONE)
        set_drained(c, plan->server, false);
    gw_info("plan ends", "plan=%" PRIu64 " state=%s", plan->id, gw_job_state_name(plan->state));
}

void gwi_coordinator_plans_turn(struct gw_coordinator *c)
{
    for (uint32_t i = 0; i < c->plans; i++)
        if (c->plan[i]->state == GW_JOB_CREATED)
            plan_turn(c, c->plan[i]);
    begin_moves(c);
}

/* --- the operator ------------------------------------------------------------------------------
 */

static enum gw_status running(struct gw_coordinator *c, uint64_t id, struct gw_plan_record **plan,
                              char *text, size_t text_bytes)
{
    int at = gwi_coordinator_find_plan(c, id);
    if (at < 0)
        return gwi_refusal(GW_NOT_FOUND, text, text_bytes, "there is no plan %" PRIu64, id);
    *plan = c->plan[at];
    if ((*plan)->state != GW_JOB_CREATED)
        return gwi_refusal(GW_E_REFUSED, text, text_bytes, "plan %" PRIu64 " has ended already: %s",
                           id, gw_job_state_name((*plan)->state));
    if (!gwi_coordinator_room(c, 2 + c->jobs_open, 2 * c->jobs_open))
        return gwi_refusal(GW_E_NOMEM, text, text_bytes, "the coordinator is out of memory");
    return GW_OK;
}

enum gw_status gw_coordinator_plan_cancel(struct gw_coordinator *c, uint64_t id, char *text,
                                          size_t text_bytes)
{
    struct gw_plan_record *plan = NULL;
    enum gw_status st = running(c, id, &plan, text, text_bytes);
    if (st == GW_E_REFUSED && plan->state == GW_JOB_CANCELLED)
        return GW_OK;
    if (st != GW_OK || plan->ending)
        return st;
    snprintf(plan->error, sizeof plan->error, "cancelled by the operator");
    end_soon(c, plan, GW_JOB_CANCELLED, true);
    return GW_OK;
}

enum gw_status gw_coordinator_plan_pause(struct gw_coordinator *c, uint64_t id, bool paused,
                                         char *text, size_t text_bytes)
{
    struct gw_plan_record *plan = NULL;
    enum gw_status st = running(c, id, &plan, text, text_bytes);
    if (st != GW_OK)
        return st;
    plan->paused = paused;
    fact_plan(c, plan, GW_JOB_CREATED);
    for (uint32_t i = 0; i < c->jobs; i++) {
        struct coordinator_job *job = c->job[i];
        if (job->record.plan != id || !gw_job_is_open(job->record.state) ||
            job->record.paused == paused)
            continue;
        job->record.paused = paused;
        job->record.updated_ms = c->wall_ms;
        gwi_coordinator_fact_job(c, job, job->record.state);
        gwi_coordinator_send_job(c, job);
    }
    return GW_OK;
}

enum gw_status gw_coordinator_remove(struct gw_coordinator *c, const char *id, bool really,
                                     char *text, size_t text_bytes)
{
    GW_ASSERT(c->started);
    int at = gw_map_find(c->map, id);
    if (at < 0)
        return gwi_refusal(GW_NOT_FOUND, text, text_bytes, "there is no server %.64s", id);
    struct coordinator_server *server = &c->server[at];
    if (server->removed)
        return GW_OK;
    struct gw_slots owned;
    gw_map_slots_of(c->map, (uint32_t)at, &owned);
    if (gw_slots_count(&owned))
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "server %.64s owns %" PRIu32 " slots: drain it first", id,
                           gw_slots_count(&owned));
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (gw_job_is_open(job->state) && (job->from == (uint32_t)at || job->to == (uint32_t)at))
            return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                               "server %.64s has a part in job %" PRIu64 ", which is open", id,
                               job->id);
    }
    if (!really)
        return GW_OK;
    if (!gwi_coordinator_room(c, 1, 1))
        return gwi_refusal(GW_E_NOMEM, text, text_bytes, "the coordinator is out of memory");
    gwi_coordinator_lose(c, (uint32_t)at);
    server->removed = true;
    gwi_coordinator_fact_server(c, (uint32_t)at);
    if (server->link)
        gwi_coordinator_refuse(c, server->link, GW_E_CANCELLED,
                               "server %s was removed by the operator", id);
    return GW_OK;
}
