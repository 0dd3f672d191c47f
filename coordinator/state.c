/* state.c - the coordinator's memory: loading it from facts, time, and the outcome of events.
 * Rules: state_internal.h. Design: docs/ADMIN.md, MIGRATION R1, R3, R23, R24. */
#include "coordinator/state_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum gw_status gw_coordinator_create(struct gw_coordinator **out)
{
    struct gw_coordinator *c = calloc(1, sizeof *c);
    if (!c)
        return GW_E_NOMEM;
    c->map = gw_map_create();
    if (!c->map)
        goto fail_map;
    /* Room for all servers there can ever be: a join then needs no memory (rule 1). */
    struct gw_map_server *servers = calloc(GW_SERVERS_MAX, sizeof *servers);
    if (!servers)
        goto fail_servers;
    free(c->map->server);
    c->map->server = servers;
    c->server = calloc(GW_SERVERS_MAX, sizeof *c->server);
    if (!c->server)
        goto fail_servers;
    c->next_job = 1;
    *out = c;
    return GW_OK;

fail_servers:
    gw_map_destroy(c->map);
fail_map:
    free(c);
    return GW_E_NOMEM;
}

void gw_coordinator_destroy(struct gw_coordinator *c)
{
    if (!c)
        return;
    gw_coordinator_clear(c);
    for (uint32_t i = 0; i < c->jobs; i++)
        free(c->job[i]);
    for (uint32_t i = 0; i < c->plans; i++)
        free(c->plan[i]);
    free(c->fact);
    free(c->action);
    free(c->server);
    gw_map_destroy(c->map);
    free(c);
}

/* --- loading -----------------------------------------------------------------------------------
 */

static bool text_ends(const char *text, size_t room)
{
    return memchr(text, 0, room) != NULL;
}

static enum gw_status apply_cluster(struct gw_coordinator *c, const struct gw_fact *fact)
{
    struct gw_map *map = c->map;
    if (fact->cluster.version_was != map->version || fact->cluster.version < map->version ||
        !fact->cluster.cluster || !fact->cluster.next_job)
        return GW_E_CORRUPT;
    if (map->cluster &&
        (map->cluster != fact->cluster.cluster || map->hash_seed != fact->cluster.hash_seed))
        return GW_E_CORRUPT;
    map->version = fact->cluster.version;
    map->cluster = fact->cluster.cluster;
    map->hash_seed = fact->cluster.hash_seed;
    c->next_job = fact->cluster.next_job;
    return GW_OK;
}

static enum gw_status apply_server(struct gw_coordinator *c, const struct gw_fact *fact)
{
    struct gw_map *map = c->map;
    const struct gw_map_server *is = &fact->server.is;
    if (fact->server.index > map->servers || fact->server.index >= GW_SERVERS_MAX ||
        !text_ends(is->id, sizeof is->id) || !text_ends(is->address, sizeof is->address) ||
        !is->id[0])
        return GW_E_CORRUPT;
    int same = gw_map_find(map, is->id);
    if (same >= 0 ? (uint32_t)same != fact->server.index : fact->server.index != map->servers)
        return GW_E_CORRUPT; /* an id never changes its place */
    map->server[fact->server.index] = *is;
    struct coordinator_server *server = &c->server[fact->server.index];
    const struct gw_server_record *record = &fact->server.record;
    if (record->needs > GW_HEARTBEAT_NEEDS_MAX)
        return GW_E_CORRUPT;
    server->lost = record->lost;
    server->removed = record->removed;
    server->drained = record->drained;
    server->needs_all = record->needs_all;
    server->log_id = record->log_id;
    server->needs = record->needs;
    memcpy(server->need, record->need, sizeof server->need);
    if (same < 0)
        map->servers++;
    return GW_OK;
}

static void own(struct gw_map *map, const struct gw_slots *slots, uint32_t server, uint64_t since)
{
    uint16_t first, last;
    for (uint32_t at = 0; gw_slots_next_run(slots, &at, &first, &last);)
        for (uint32_t slot = first; slot <= last; slot++) {
            map->owner[slot] = (uint16_t)server;
            map->since[slot] = since;
        }
}

static enum gw_status apply_owner(struct gw_coordinator *c, const struct gw_fact *fact)
{
    if (fact->owner.server >= c->map->servers || !fact->owner.since)
        return GW_E_CORRUPT;
    own(c->map, &fact->owner.slots, fact->owner.server, fact->owner.since);
    return GW_OK;
}

static enum gw_status apply_job(struct gw_coordinator *c, const struct gw_fact *fact)
{
    const struct gw_job_record *is = &fact->job.is;
    int at = gwi_coordinator_find_job(c, is->id);
    enum gw_job_state was = at < 0 ? 0 : c->job[at]->record.state;
    if (was != fact->job.was || is->state < GW_JOB_CREATED || is->state >= GW_JOB_STATES ||
        is->from >= c->map->servers || is->to >= c->map->servers || !is->id ||
        !text_ends(is->phase, sizeof is->phase) || !text_ends(is->error, sizeof is->error) ||
        (is->queued && !is->plan))
        return GW_E_CORRUPT;
    if (at < 0) {
        if (c->jobs == GWI_JOBS_MAX || (c->jobs && c->job[c->jobs - 1]->record.id > is->id))
            return GW_E_CORRUPT;
        struct coordinator_job *job = gwi_coordinator_job_new();
        if (!job)
            return GW_E_NOMEM;
        at = (int)c->jobs;
        c->job[c->jobs++] = job;
    } else if (gw_job_is_open(was)) {
        c->jobs_open--;
    }
    c->job[at]->record = *is;
    if (gw_job_is_open(is->state))
        c->jobs_open++;
    return GW_OK;
}

static enum gw_status apply_plan(struct gw_coordinator *c, const struct gw_fact *fact)
{
    const struct gw_plan_record *is = &fact->plan.is;
    int at = gwi_coordinator_find_plan(c, is->id);
    enum gw_job_state was = at < 0 ? 0 : c->plan[at]->state;
    bool ended =
        is->state == GW_JOB_DONE || is->state == GW_JOB_CANCELLED || is->state == GW_JOB_FAILED;
    if (was != fact->plan.was || !is->id || is->kind < GW_PLAN_SCALE_OUT ||
        is->kind >= GW_PLAN_KINDS || (is->state != GW_JOB_CREATED && !ended) ||
        ended != (is->finished_ms != 0) || is->server >= c->map->servers ||
        !text_ends(is->error, sizeof is->error))
        return GW_E_CORRUPT;
    if (at < 0) {
        if (c->plans == GW_PLANS_MAX || (c->plans && c->plan[c->plans - 1]->id > is->id))
            return GW_E_CORRUPT;
        struct gw_plan_record *plan = malloc(sizeof *plan);
        if (!plan)
            return GW_E_NOMEM;
        at = (int)c->plans;
        c->plan[c->plans++] = plan;
    } else if (was == GW_JOB_CREATED) {
        c->plans_open--;
    }
    *c->plan[at] = *is;
    c->plans_open += !ended;
    return GW_OK;
}

static enum gw_status apply_plan_gone(struct gw_coordinator *c, uint64_t id)
{
    int at = gwi_coordinator_find_plan(c, id);
    if (at < 0 || c->plan[at]->state == GW_JOB_CREATED)
        return GW_E_CORRUPT;
    free(c->plan[at]);
    c->plans--;
    memmove(&c->plan[at], &c->plan[at + 1], (c->plans - (uint32_t)at) * sizeof c->plan[0]);
    return GW_OK;
}

static void forget(struct gw_coordinator *c, uint32_t at)
{
    free(c->job[at]);
    c->jobs--;
    memmove(&c->job[at], &c->job[at + 1], (c->jobs - at) * sizeof c->job[0]);
}

enum gw_status gw_coordinator_apply(struct gw_coordinator *c, const struct gw_fact *fact)
{
    GW_ASSERT(!c->started);
    switch (fact->kind) {
    case GW_FACT_CLUSTER:
        return apply_cluster(c, fact);
    case GW_FACT_SERVER:
        return apply_server(c, fact);
    case GW_FACT_OWNER:
        return apply_owner(c, fact);
    case GW_FACT_JOB:
        return apply_job(c, fact);
    case GW_FACT_JOB_GONE: {
        int at = gwi_coordinator_find_job(c, fact->job_gone);
        if (at < 0 || gw_job_is_open(c->job[at]->record.state))
            return GW_E_CORRUPT;
        forget(c, (uint32_t)at);
        return GW_OK;
    }
    case GW_FACT_PLAN:
        return apply_plan(c, fact);
    case GW_FACT_PLAN_GONE:
        return apply_plan_gone(c, fact->plan_gone);
    }
    return GW_E_CORRUPT;
}

enum gw_status gw_coordinator_start(struct gw_coordinator *c, uint64_t new_cluster,
                                    uint64_t new_hash_seed, char *text, size_t text_bytes)
{
    GW_ASSERT(!c->started && new_cluster && new_hash_seed);
    if (!gw_coordinator_check(c, text, text_bytes))
        return GW_E_CORRUPT;
    if (!c->map->cluster) {
        if (!gwi_coordinator_room(c, 1, 0))
            return GW_E_NOMEM;
        c->map->cluster = new_cluster;
        c->map->hash_seed = new_hash_seed;
        gwi_coordinator_fact_cluster(c, 0);
    }
    c->started = true;
    c->round = 1;
    return GW_OK;
}

static bool wrong(char *text, size_t text_bytes, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static bool wrong(char *text, size_t text_bytes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(text, text_bytes, format, args);
    va_end(args);
    return false;
}

/* What holds of a job in each state (the diagram is in state_jobs.c). */
static bool check_job(const struct gw_coordinator *c, const struct gw_job_record *job, char *text,
                      size_t text_bytes)
{
    bool committed = job->state == GW_JOB_COMMITTED || job->state == GW_JOB_CLOSING ||
                     job->state == GW_JOB_DONE || job->state == GW_JOB_REVIVED;
    if (committed != (job->commit_version != 0) || job->commit_version > c->map->version)
        return wrong(text, text_bytes, "job %" PRIu64 " is %s with commit version %" PRIu64,
                     job->id, gw_job_state_name(job->state), job->commit_version);
    if (gw_job_is_open(job->state) != (job->finished_ms == 0))
        return wrong(text, text_bytes, "job %" PRIu64 " is %s with finish time %" PRIu64, job->id,
                     gw_job_state_name(job->state), job->finished_ms);
    if (job->id >= c->next_job || job->from == job->to)
        return wrong(text, text_bytes, "job %" PRIu64 " cannot have been created", job->id);
    if (!gw_job_is_open(job->state))
        return true;
    int plan = job->plan ? gwi_coordinator_find_plan(c, job->plan) : -1;
    if (job->plan && (plan < 0 || c->plan[plan]->state != GW_JOB_CREATED))
        return wrong(text, text_bytes, "job %" PRIu64 " is open, its plan %" PRIu64 " is not",
                     job->id, job->plan);
    if (job->queued && job->state != GW_JOB_CREATED)
        return wrong(text, text_bytes, "job %" PRIu64 " is %s and has not begun", job->id,
                     gw_job_state_name(job->state));
    uint32_t owner = committed ? job->to : job->from;
    uint16_t first, last;
    for (uint32_t at = 0; gw_slots_next_run(&job->slots, &at, &first, &last);)
        for (uint32_t slot = first; slot <= last; slot++)
            if (c->map->owner[slot] != owner)
                return wrong(text, text_bytes,
                             "job %" PRIu64 " is %s, but slot %" PRIu32 " is not of server %s",
                             job->id, gw_job_state_name(job->state), slot,
                             c->map->server[owner].id);
    return true;
}

bool gw_coordinator_check(const struct gw_coordinator *c, char *text, size_t text_bytes)
{
    const struct gw_map *map = c->map;
    if (!map->cluster && (map->servers || c->jobs || map->version))
        return wrong(text, text_bytes, "there are servers or jobs, but no cluster");
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (map->servers ? map->owner[slot] >= map->servers : map->owner[slot] != GW_NO_SERVER)
            return wrong(text, text_bytes, "slot %" PRIu32 " has no owner", slot);
    /* A tenure begins at a view of its owner's: the latest of them is the view. */
    for (uint32_t slot = 0; map->servers && slot < GW_SLOTS; slot++)
        if (!map->since[slot] || map->since[slot] > map->server[map->owner[slot]].view)
            return wrong(text, text_bytes,
                         "slot %" PRIu32 " is of server %s since map version %" PRIu64
                         ", whose view is %" PRIu64,
                         slot, map->server[map->owner[slot]].id, map->since[slot],
                         map->server[map->owner[slot]].view);
    for (uint32_t i = 0; i < map->servers; i++)
        if (map->server[i].view > map->version || !map->server[i].view)
            return wrong(text, text_bytes,
                         "server %s has view %" PRIu64 ", the map is of version %" PRIu64,
                         map->server[i].id, map->server[i].view, map->version);
    struct gw_slots moving;
    gw_slots_clear(&moving);
    uint32_t open = 0;
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (!check_job(c, job, text, text_bytes))
            return false;
        if (!gw_job_is_open(job->state))
            continue;
        open++;
        if (gw_slots_overlap(&moving, &job->slots))
            return wrong(text, text_bytes, "job %" PRIu64 " overlaps with another open job",
                         job->id);
        for (uint32_t w = 0; w < GW_SLOTS / 64; w++)
            moving.word[w] |= job->slots.word[w];
    }
    if (open != c->jobs_open)
        return wrong(text, text_bytes, "%" PRIu32 " jobs are open, %" PRIu32 " are counted", open,
                     c->jobs_open);
    return true;
}

/* --- time --------------------------------------------------------------------------------------
 */

enum gw_status gw_coordinator_tick(struct gw_coordinator *c, uint64_t now_ns, uint64_t wall_ms)
{
    GW_ASSERT(c->started);
    if (!gwi_coordinator_room(c, 3 * c->jobs_open + 5 * c->plans_open + c->map->servers,
                              c->map->servers + 2 * c->jobs_open))
        return GW_E_NOMEM;
    GW_ASSERT(now_ns >= c->now_ns);
    c->now_ns = now_ns;
    if (!c->started_ns)
        c->started_ns = now_ns;
    c->wall_ms = wall_ms;
    for (uint32_t i = 0; i < c->jobs; i++)
        if (c->job[i]->unsaved && now_ns - c->job[i]->saved_ns >= GW_PROGRESS_SAVE_NS)
            gwi_coordinator_save_numbers(c, c->job[i]);
    for (uint32_t i = 0; i < c->map->servers; i++) {
        struct coordinator_server *server = &c->server[i];
        if (server->link && now_ns - server->heard_ns > GW_SERVER_SILENT_NS)
            gwi_coordinator_refuse(c, server->link, GW_E_TIMEOUT,
                                   "server %s sent no heartbeat for %" PRIu64 " s",
                                   c->map->server[i].id, GW_SERVER_SILENT_NS / 1000000000);
    }
    if (c->plans_open)
        gwi_coordinator_plans_turn(c);
    if (now_ns - c->needs_ns >= GWI_NEEDS_NS) {
        c->needs_ns = now_ns;
        gwi_coordinator_needs_turn(c);
    }
    return GW_OK;
}

/* --- outcome -----------------------------------------------------------------------------------
 */

static void *grown(void *array, uint32_t *room, uint64_t needed, size_t each)
{
    uint64_t more = needed + needed / 2 + 8;
    if (more > UINT32_MAX)
        return NULL;
    void *bigger = realloc(array, more * each);
    if (bigger)
        *room = (uint32_t)more;
    return bigger;
}

bool gwi_coordinator_room(struct gw_coordinator *c, uint32_t facts, uint32_t actions)
{
    uint64_t facts_needed = (uint64_t)c->outcome.facts + facts;
    uint64_t actions_needed = (uint64_t)c->outcome.actions + actions;
    if (facts_needed > c->facts_room) {
        void *bigger = grown(c->fact, &c->facts_room, facts_needed, sizeof *c->fact);
        if (!bigger)
            return false;
        c->fact = bigger;
    }
    if (actions_needed > c->actions_room) {
        void *bigger = grown(c->action, &c->actions_room, actions_needed, sizeof *c->action);
        if (!bigger)
            return false;
        c->action = bigger;
    }
    return true;
}

struct gw_fact *gwi_coordinator_fact(struct gw_coordinator *c, enum gw_fact_kind kind)
{
    GW_ASSERT(c->outcome.facts < c->facts_room);
    struct gw_fact *fact = &c->fact[c->outcome.facts++];
    memset(fact, 0, sizeof *fact);
    fact->kind = kind;
    return fact;
}

struct gw_action *gwi_coordinator_action(struct gw_coordinator *c, enum gw_action_kind kind,
                                         uint64_t link)
{
    GW_ASSERT(c->outcome.actions < c->actions_room);
    GW_ASSERT(link);
    struct gw_action *action = &c->action[c->outcome.actions++];
    *action = (struct gw_action){.kind = kind, .link = link};
    return action;
}

void gwi_coordinator_fact_cluster(struct gw_coordinator *c, uint64_t version)
{
    struct gw_fact *fact = gwi_coordinator_fact(c, GW_FACT_CLUSTER);
    fact->cluster.version_was = c->map->version;
    fact->cluster.version = version;
    fact->cluster.cluster = c->map->cluster;
    fact->cluster.hash_seed = c->map->hash_seed;
    fact->cluster.next_job = c->next_job;
    GW_ASSERT(version >= c->map->version);
    c->map->version = version;
}

void gwi_coordinator_fact_server(struct gw_coordinator *c, uint32_t server)
{
    struct gw_fact *fact = gwi_coordinator_fact(c, GW_FACT_SERVER);
    fact->server.index = server;
    fact->server.is = c->map->server[server];
    gwi_coordinator_record_of(c, server, &fact->server.record);
}

void gwi_coordinator_own(struct gw_coordinator *c, const struct gw_slots *slots, uint32_t server,
                         uint64_t since)
{
    struct gw_fact *fact = gwi_coordinator_fact(c, GW_FACT_OWNER);
    fact->owner.server = server;
    fact->owner.since = since;
    fact->owner.slots = *slots;
    own(c->map, slots, server, since);
}

void gwi_coordinator_send_map(struct gw_coordinator *c, uint64_t except_link)
{
    for (uint32_t i = 0; i < c->map->servers; i++)
        if (c->server[i].link && c->server[i].link != except_link)
            gwi_coordinator_action(c, GW_ACT_MAP, c->server[i].link);
}

enum gw_status gw_coordinator_reply(struct gw_coordinator *c, uint64_t link, uint64_t request,
                                    char *json)
{
    if (!gwi_coordinator_room(c, 0, 1)) {
        free(json);
        return GW_E_NOMEM;
    }
    struct gw_action *action = gwi_coordinator_action(c, GW_ACT_ADMIN_REPLY, link);
    action->id = request;
    action->json = json;
    return GW_OK;
}

enum gw_status gw_coordinator_ask_map(struct gw_coordinator *c, uint64_t link, uint64_t request)
{
    if (!gwi_coordinator_room(c, 0, 1))
        return GW_E_NOMEM;
    gwi_coordinator_action(c, GW_ACT_MAP, link)->id = request;
    return GW_OK;
}

const struct gw_outcome *gw_coordinator_outcome(struct gw_coordinator *c)
{
    c->outcome.fact = c->fact;
    c->outcome.action = c->action;
    return &c->outcome;
}

void gw_coordinator_clear(struct gw_coordinator *c)
{
    for (uint32_t i = 0; i < c->outcome.actions; i++)
        free(c->action[i].json);
    c->outcome.facts = 0;
    c->outcome.actions = 0;
}

/* --- what is -----------------------------------------------------------------------------------
 */

const struct gw_map *gw_coordinator_map(const struct gw_coordinator *c)
{
    return c->map;
}

bool gw_coordinator_server_lost(const struct gw_coordinator *c, uint32_t server)
{
    GW_ASSERT(server < c->map->servers);
    return c->server[server].lost;
}

bool gw_coordinator_server_up(const struct gw_coordinator *c, uint32_t server)
{
    GW_ASSERT(server < c->map->servers);
    return c->server[server].link && c->now_ns - c->server[server].heard_ns <= GW_SERVER_UP_NS;
}

void gw_coordinator_server_record(const struct gw_coordinator *c, uint32_t server,
                                  struct gw_server_record *out)
{
    GW_ASSERT(server < c->map->servers);
    gwi_coordinator_record_of(c, server, out);
}

const struct gw_heartbeat *gw_coordinator_server_numbers(const struct gw_coordinator *c,
                                                         uint32_t server)
{
    GW_ASSERT(server < c->map->servers);
    return &c->server[server].last;
}

uint32_t gw_coordinator_jobs(const struct gw_coordinator *c)
{
    return c->jobs;
}

const struct gw_job_record *gw_coordinator_job_at(const struct gw_coordinator *c, uint32_t at)
{
    GW_ASSERT(at < c->jobs);
    return &c->job[at]->record;
}

int gwi_coordinator_find_job(const struct gw_coordinator *c, uint64_t id)
{
    uint32_t low = 0, high = c->jobs;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (c->job[middle]->record.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < c->jobs && c->job[low]->record.id == id ? (int)low : -1;
}

const struct gw_job_record *gw_coordinator_job(const struct gw_coordinator *c, uint64_t id)
{
    int at = gwi_coordinator_find_job(c, id);
    return at < 0 ? NULL : &c->job[at]->record;
}

void gw_coordinator_job_wire(const struct gw_coordinator *c, uint64_t id, struct gw_job *out)
{
    const struct gw_job_record *job = gw_coordinator_job(c, id);
    GW_ASSERT(job);
    const struct gw_map_server *from = &c->map->server[job->from], *to = &c->map->server[job->to];
    memset(out, 0, sizeof *out);
    out->id = job->id;
    out->commit_version = job->commit_version;
    out->state = job->state;
    out->paused = job->paused;
    out->options = job->options;
    out->slots = job->slots;
    memcpy(out->from, from->id, sizeof out->from);
    memcpy(out->to, to->id, sizeof out->to);
    memcpy(out->from_address, from->address, sizeof out->from_address);
    memcpy(out->to_address, to->address, sizeof out->to_address);
    memcpy(out->error, job->error, sizeof out->error);
}
