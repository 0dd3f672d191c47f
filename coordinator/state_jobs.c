/* state_jobs.c - a migration job from its creation to its end.
 *
 *   CREATED --ask_commit--> COMMITTED --arrived--> CLOSING --closed--> DONE
 *      |--cancel--> CANCELLED            `--revive--> REVIVED
 *      `--gave_up--> FAILED
 *
 * The commit gives the slots away, in one transaction with the job's move: up to it the source owns
 * them, after it the target, and there is no way back but a second job (MIGRATION R3), or, when
 * the target is lost for good, the operator's word for it: then the target is fenced and the source
 * goes on with what it had. Its tenure is the one of before the commit, for what it has, and what
 * it may have to recover, is of that one (R23). An event that does not fit the state changes
 * nothing: it is a repeated or a late one, and its answer, the job as it is, tells the sender what
 * won. Rules: state_internal.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/refusal.h"
#include "coordinator/state_internal.h"
#include "index/base/log_line.h"

static const uint32_t moves[GW_JOB_STATES] = {
    [GW_JOB_CREATED] = GW_BIT(GW_JOB_COMMITTED) | GW_BIT(GW_JOB_CANCELLED) | GW_BIT(GW_JOB_FAILED),
    [GW_JOB_COMMITTED] = GW_BIT(GW_JOB_CLOSING) | GW_BIT(GW_JOB_REVIVED),
    [GW_JOB_CLOSING] = GW_BIT(GW_JOB_DONE),
    [GW_JOB_DONE] = 0,
    [GW_JOB_CANCELLED] = 0,
    [GW_JOB_FAILED] = 0,
    [GW_JOB_REVIVED] = 0,
};

struct coordinator_job *gwi_coordinator_job_new(void)
{
    return calloc(1, sizeof(struct coordinator_job));
}

void gwi_coordinator_fact_job(struct gw_coordinator *c, struct coordinator_job *job,
                              enum gw_job_state was)
{
    struct gw_fact *fact = gwi_coordinator_fact(c, GW_FACT_JOB);
    fact->job.was = was;
    fact->job.is = job->record;
    job->unsaved = false;
    job->saved_ns = c->now_ns;
}

void gwi_coordinator_save_numbers(struct gw_coordinator *c, struct coordinator_job *job)
{
    gwi_coordinator_fact_job(c, job, job->record.state);
}

void gwi_coordinator_send_job(struct gw_coordinator *c, const struct coordinator_job *job)
{
    if (job->record.queued) /* they do not know of it */
        return;
    uint64_t from = c->server[job->record.from].link, to = c->server[job->record.to].link;
    if (from)
        gwi_coordinator_action(c, GW_ACT_JOB, from)->id = job->record.id;
    if (to)
        gwi_coordinator_action(c, GW_ACT_JOB, to)->id = job->record.id;
}

/* The only writer of a job's state. Compare-and-set: false, and nothing changed, when it is not in
 * `was`. The caller has room for 1 fact and 2 actions. */
bool gwi_coordinator_job_move(struct gw_coordinator *c, struct coordinator_job *job,
                              enum gw_job_state was, enum gw_job_state next)
{
    if (job->record.state != was)
        return false;
    GW_ASSERT(moves[was] & GW_BIT(next));
    gw_log_move("coordinator.job", job->record.id, gw_job_state_name(was), gw_job_state_name(next));
    job->record.state = next;
    job->record.updated_ms = c->wall_ms;
    if (!gw_job_is_open(next)) {
        job->record.finished_ms = c->wall_ms ? c->wall_ms : 1; /* 0 means open */
        c->jobs_open--;
        c->round++; /* who has got indirections by it must say so before anything is deleted */
        c->server[job->record.from].tell.keep_from = 0;
        c->server[job->record.from].fresh = c->server[job->record.to].fresh = false;
    }
    gwi_coordinator_fact_job(c, job, was);
    gwi_coordinator_send_job(c, job);
    return true;
}

/* The slots change hands: map and both views, in one batch of facts with the job's move. `since`: 0
 * for a new tenure. */
static void change_hands(struct gw_coordinator *c, const struct gw_job_record *record,
                         uint32_t server, uint64_t since)
{
    gwi_coordinator_fact_cluster(c, c->map->version + 1);
    c->map->server[record->from].view = c->map->version;
    c->map->server[record->to].view = c->map->version;
    gwi_coordinator_fact_server(c, record->from);
    gwi_coordinator_fact_server(c, record->to);
    gwi_coordinator_own(c, &record->slots, server, since ? since : c->map->version);
    gwi_coordinator_send_map(c, 0); /* rule 3 */
}

static void job_commit(struct gw_coordinator *c, struct coordinator_job *job)
{
    struct gw_map *map = c->map;
    struct gw_job_record *record = &job->record;
    if (record->state != GW_JOB_CREATED || record->paused)
        return;
    /* The target has passed Prepare, but is it still there? While it is away the source goes on
     * serving and asks again: better than a range that nobody serves. */
    if (!gw_coordinator_server_up(c, record->to))
        return;
    record->since = 0;
    uint16_t first, last;
    for (uint32_t at = 0; gw_slots_next_run(&record->slots, &at, &first, &last);)
        for (uint32_t slot = first; slot <= last; slot++) {
            GW_ASSERT(map->owner[slot] == record->from);
            if (map->since[slot] > record->since)
                record->since = map->since[slot];
        }
    change_hands(c, record, record->to, 0);
    record->commit_version = map->version;
    record->transferred_ms = c->wall_ms;
    bool moved = gwi_coordinator_job_move(c, job, GW_JOB_CREATED, GW_JOB_COMMITTED);
    GW_ASSERT(moved);
}

static void take_numbers(struct gw_coordinator *c, struct coordinator_job *job,
                         const struct gw_job_event *event)
{
    struct gw_job_record *record = &job->record;
    record->bytes_moved = event->bytes_moved;
    record->records_moved = event->records_moved;
    record->chunks_done = event->chunks_done;
    record->chunks = event->chunks;
    record->pulls = event->pulls;
    record->bytes_left = event->bytes_left;
    record->records_left = event->records_left;
    record->rate = event->rate;
    record->indirections = event->indirections;
    record->hot_records = event->hot_records;
    record->pull_leads = event->pull_leads;
    record->retries = event->retries;
    record->source_p99_us = event->source_p99_us;
    record->target_p99_us = event->target_p99_us;
    if (event->pause_ns > record->pause_ns) /* the longest of all, a restarted source's too */
        record->pause_ns = event->pause_ns;
    if (event->event == GW_JOB_PROGRESS)
        snprintf(record->phase, sizeof record->phase, "%.*s", (int)GW_JOB_PHASE_MAX, event->text);
    record->updated_ms = c->wall_ms;
    job->unsaved = true;
}

/* Once an event has had its effect its repetitions have old numbers. */
static bool event_is_due(enum gw_job_state state, enum gw_job_event_kind event)
{
    switch (event) {
    case GW_JOB_PROGRESS:
        return gw_job_is_open(state);
    case GW_JOB_ASK_COMMIT:
    case GW_JOB_GAVE_UP:
        return state == GW_JOB_CREATED;
    case GW_JOB_ARRIVED:
        return state == GW_JOB_COMMITTED;
    case GW_JOB_CLOSED:
        return state == GW_JOB_CLOSING;
    }
    return false;
}

static void job_event(struct gw_coordinator *c, struct coordinator_job *job,
                      const struct gw_job_event *event)
{
    if (!event_is_due(job->record.state, event->event))
        return;
    take_numbers(c, job, event);
    switch (event->event) {
    case GW_JOB_PROGRESS:
        break;
    case GW_JOB_ASK_COMMIT:
        job_commit(c, job);
        break;
    case GW_JOB_ARRIVED:
        (void)gwi_coordinator_job_move(c, job, GW_JOB_COMMITTED,
                                       GW_JOB_CLOSING); /* event_is_due has looked */
        break;
    case GW_JOB_CLOSED:
        (void)gwi_coordinator_job_move(c, job, GW_JOB_CLOSING, GW_JOB_DONE);
        break;
    case GW_JOB_GAVE_UP:
        snprintf(job->record.error, sizeof job->record.error, "%s",
                 event->text[0] ? event->text : "the source gave no reason");
        (void)gwi_coordinator_job_move(c, job, GW_JOB_CREATED, GW_JOB_FAILED);
        break;
    }
}

enum gw_status gw_coordinator_job_event(struct gw_coordinator *c, uint64_t link,
                                        const struct gw_job_event *event)
{
    GW_ASSERT(c->started && link);
    if (!gwi_coordinator_room(c, 5, 3 + c->map->servers))
        return GW_E_NOMEM;
    int sender = gwi_coordinator_server_of(c, link);
    int at = gwi_coordinator_find_job(c, event->job);
    if (sender < 0) {
        gwi_coordinator_refuse(c, link, GW_E_PROTOCOL,
                               "a job event on a connection that has not joined");
        return GW_OK;
    }
    if (at < 0) {
        gwi_coordinator_refuse(c, link, GW_E_REFUSED,
                               "job %" PRIu64 " is not known to this coordinator", event->job);
        return GW_OK;
    }
    struct coordinator_job *job = c->job[at];
    if (job->record.from != (uint32_t)sender) {
        gwi_coordinator_refuse(c, link, GW_E_PROTOCOL,
                               "job %" PRIu64 " has server %s as its source, not %s", event->job,
                               c->map->server[job->record.from].id, c->map->server[sender].id);
        return GW_OK;
    }
    if (job->record.queued) /* not begun: nobody can have asked for anything */
        return GW_OK;
    enum gw_job_state was = job->record.state;
    job_event(c, job, event);
    bool told = job->record.state != was;
    /* Progress wants no answer, unless there is nothing left to make progress with. */
    if (!told && (event->event != GW_JOB_PROGRESS || !gw_job_is_open(was)))
        gwi_coordinator_action(c, GW_ACT_JOB, link)->id = event->job;
    if (job->unsaved && c->now_ns - job->saved_ns >= GW_PROGRESS_SAVE_NS)
        gwi_coordinator_save_numbers(c, job);
    return GW_OK;
}

/* --- the operator ------------------------------------------------------------------------------
 */

static bool is_history(const struct gw_coordinator *c, const struct gw_job_record *job)
{
    int plan = job->plan ? gwi_coordinator_find_plan(c, job->plan) : -1;
    return !gw_job_is_open(job->state) && (plan < 0 || c->plan[plan]->state != GW_JOB_CREATED);
}

enum gw_status gwi_coordinator_target(struct gw_coordinator *c, const char *to, uint32_t jobs,
                                      uint32_t *server, char *text, size_t text_bytes)
{
    int at = gw_map_find(c->map, to);
    if (at < 0)
        return gwi_refusal(GW_NOT_FOUND, text, text_bytes, "there is no server %.64s", to);
    if (c->server[at].lost)
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "server %.64s was %s and can never take slots", to,
                           c->server[at].removed ? "removed" : "given up for lost");
    if (!gw_coordinator_server_up(c, (uint32_t)at))
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "server %s is down: it cannot take slots until it has joined again", to);
    if (c->jobs_open + jobs > GW_JOBS_OPEN_MAX)
        return gwi_refusal(GW_E_LIMIT, text, text_bytes,
                           "%" PRIu32 " jobs are open, %" PRIu32
                           " more would be over the limit of %u",
                           c->jobs_open, jobs, GW_JOBS_OPEN_MAX);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < c->jobs; i++)
        kept += !is_history(c, &c->job[i]->record);
    if (kept + jobs > GWI_JOBS_MAX)
        return gwi_refusal(GW_E_LIMIT, text, text_bytes,
                           "open jobs and plans have %" PRIu32
                           " moves in all, finished ones included: "
                           "wait for the end of a plan",
                           kept);
    *server = (uint32_t)at;
    return GW_OK;
}

/* The oldest finished job makes room, when it is only history. */
static void forget_oldest(struct gw_coordinator *c)
{
    if (c->jobs - c->jobs_open < GW_JOBS_FINISHED_MAX)
        return;
    uint32_t at = 0;
    while (at < c->jobs && !is_history(c, &c->job[at]->record))
        at++;
    if (at ==
        c->jobs) /* all belong to plans that are open; there is room for more jobs than that */
        return;
    gwi_coordinator_fact(c, GW_FACT_JOB_GONE)->job_gone = c->job[at]->record.id;
    free(c->job[at]);
    c->jobs--;
    memmove(&c->job[at], &c->job[at + 1], (c->jobs - at) * sizeof c->job[0]);
}

uint64_t gwi_coordinator_job_open(struct gw_coordinator *c, struct coordinator_job *job,
                                  const struct gw_slots *slots, uint32_t from, uint32_t to)
{
    forget_oldest(c);
    GW_ASSERT(c->jobs < GWI_JOBS_MAX); /* open ones, and finished ones of open plans, are bounded */
    GW_ASSERT(from != to);
    job->record.id = c->next_job++;
    job->record.state = GW_JOB_CREATED;
    job->record.from = from;
    job->record.to = to;
    job->record.slots = *slots;
    job->record.created_ms = job->record.updated_ms = c->wall_ms;
    c->job[c->jobs++] = job;
    c->jobs_open++;
    gwi_coordinator_fact_cluster(c, c->map->version); /* the next id */
    gwi_coordinator_fact_job(c, job, 0);
    gwi_coordinator_send_job(c, job);
    gw_log_move("coordinator.job", job->record.id, "none", gw_job_state_name(GW_JOB_CREATED));
    return job->record.id;
}

enum gw_status gwi_coordinator_slots_are_free(const struct gw_coordinator *c,
                                              const struct gw_slots *slots, uint32_t from,
                                              char *text, size_t text_bytes)
{
    if (gw_slots_count(slots) == 0)
        return gwi_refusal(GW_E_INVALID, text, text_bytes, "slots: name at least one of 0 to %u",
                           GW_SLOTS - 1);
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (gw_job_is_open(job->state) && gw_slots_overlap(&job->slots, slots)) {
            struct gw_slots both;
            for (uint32_t w = 0; w < GW_SLOTS / 64; w++)
                both.word[w] = job->slots.word[w] & slots->word[w];
            char which[64];
            gw_slots_format(&both, which, sizeof which);
            return gwi_refusal(GW_E_BUSY, text, text_bytes,
                               "slots %s are in job %" PRIu64
                               " (%s, %.60s to %.60s); a slot is in at most one open job",
                               which, job->id,
                               job->queued ? "waiting" : gw_job_state_name(job->state),
                               c->map->server[job->from].id, c->map->server[job->to].id);
        }
    }
    struct gw_slots owned, missing;
    gw_map_slots_of(c->map, from, &owned);
    for (uint32_t w = 0; w < GW_SLOTS / 64; w++)
        missing.word[w] = slots->word[w] & ~owned.word[w];
    if (gw_slots_count(&missing)) {
        char which[128];
        gw_slots_format(&missing, which, sizeof which);
        return gwi_refusal(GW_E_REFUSED, text, text_bytes, "server %s does not own slots %s",
                           c->map->server[from].id, which);
    }
    return GW_OK;
}

enum gw_status gw_coordinator_migrate(struct gw_coordinator *c, const struct gw_slots *slots,
                                      const char *from, const char *to, uint64_t *job, char *text,
                                      size_t text_bytes)
{
    static const struct gw_job_options defaults;
    return gw_coordinator_migrate_as(c, slots, from, to, &defaults, true, job, text, text_bytes);
}

enum gw_status gw_coordinator_migrate_as(struct gw_coordinator *c, const struct gw_slots *slots,
                                         const char *from, const char *to,
                                         const struct gw_job_options *options, bool really,
                                         uint64_t *job, char *text, size_t text_bytes)
{
    GW_ASSERT(c->started);
    int source = gw_map_find(c->map, from);
    if (source < 0)
        return gwi_refusal(GW_NOT_FOUND, text, text_bytes, "there is no server %.64s", from);
    uint32_t target;
    enum gw_status st = gwi_coordinator_target(c, to, 1, &target, text, text_bytes);
    if (st != GW_OK)
        return st;
    if ((uint32_t)source == target)
        return gwi_refusal(GW_E_INVALID, text, text_bytes, "from and to are the same server, %s",
                           to);
    st = gwi_coordinator_slots_are_free(c, slots, (uint32_t)source, text, text_bytes);
    if (st == GW_OK && c->server[target].drained)
        st = gwi_refusal(
            GW_E_REFUSED, text, text_bytes,
            "server %.60s is drained, or about to be: only a scale-out, or cancelling the "
            "drain, lets it take slots again",
            to);
    if (st != GW_OK || !really)
        return st;
    struct coordinator_job *opened = gwi_coordinator_job_new();
    if (!opened || !gwi_coordinator_room(c, 3, 2)) {
        free(opened);
        return gwi_refusal(GW_E_NOMEM, text, text_bytes, "the coordinator is out of memory");
    }
    opened->record.options = *options;
    *job = gwi_coordinator_job_open(c, opened, slots, (uint32_t)source, target);
    return GW_OK;
}

enum gw_status gw_coordinator_cancel(struct gw_coordinator *c, uint64_t id, char *text,
                                     size_t text_bytes)
{
    GW_ASSERT(c->started);
    int at = gwi_coordinator_find_job(c, id);
    if (at < 0)
        return gwi_refusal(GW_NOT_FOUND, text, text_bytes, "there is no job %" PRIu64, id);
    if (!gwi_coordinator_room(c, 1, 2))
        return gwi_refusal(GW_E_NOMEM, text, text_bytes, "the coordinator is out of memory");
    struct coordinator_job *job = c->job[at];
    const char *from = c->map->server[job->record.from].id, *to = c->map->server[job->record.to].id;
    if (gwi_coordinator_job_move(c, job, GW_JOB_CREATED, GW_JOB_CANCELLED))
        return GW_OK;
    switch (job->record.state) {
    case GW_JOB_CANCELLED:
        return GW_OK;
    case GW_JOB_COMMITTED:
    case GW_JOB_CLOSING:
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "job %" PRIu64
                           " is committed and will finish: the slots belong to %.60s "
                           "now; they can be moved back to %.60s by another migrate",
                           id, to, from);
    default:
        return gwi_refusal(GW_E_REFUSED, text, text_bytes, "job %" PRIu64 " has ended already: %s",
                           id, gw_job_state_name(job->record.state));
    }
}

enum gw_status gw_coordinator_pause(struct gw_coordinator *c, uint64_t id, bool paused, char *text,
                                    size_t text_bytes)
{
    GW_ASSERT(c->started);
    int at = gwi_coordinator_find_job(c, id);
    if (at < 0)
        return gwi_refusal(GW_NOT_FOUND, text, text_bytes, "there is no job %" PRIu64, id);
    struct coordinator_job *job = c->job[at];
    if (!gw_job_is_open(job->record.state))
        return gwi_refusal(GW_E_REFUSED, text, text_bytes, "job %" PRIu64 " has ended already: %s",
                           id, gw_job_state_name(job->record.state));
    if (job->record.paused == paused)
        return GW_OK;
    if (!gwi_coordinator_room(c, 1, 2))
        return gwi_refusal(GW_E_NOMEM, text, text_bytes, "the coordinator is out of memory");
    job->record.paused = paused;
    job->record.updated_ms = c->wall_ms;
    gwi_coordinator_fact_job(c, job, job->record.state);
    gwi_coordinator_send_job(c, job);
    return GW_OK;
}

static enum gw_status may_revive(struct gw_coordinator *c, const struct gw_job_record *job,
                                 const char *lost, char *text, size_t text_bytes)
{
    const char *from = c->map->server[job->from].id, *to = c->map->server[job->to].id;
    switch (job->state) {
    case GW_JOB_COMMITTED:
        break;
    case GW_JOB_CREATED:
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "job %" PRIu64
                           " is not committed, server %.60s still owns the slots: cancel "
                           "it",
                           job->id, from);
    case GW_JOB_CLOSING:
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "job %" PRIu64 " is closing: server %.60s has everything durably, and "
                           "server %.60s gives its copy away; start %.60s again from its data",
                           job->id, to, from, to);
    default:
        return gwi_refusal(GW_E_REFUSED, text, text_bytes, "job %" PRIu64 " has ended already: %s",
                           job->id, gw_job_state_name(job->state));
    }
    if (strcmp(lost, to) != 0)
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "the target of job %" PRIu64 " is server %.60s, not %.60s", job->id, to,
                           lost);
    const struct coordinator_server *target = &c->server[job->to];
    uint64_t heard_ns = target->heard_ns > c->started_ns ? target->heard_ns : c->started_ns;
    if (!target->lost && c->now_ns - heard_ns <= GW_SERVER_SILENT_NS)
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "server %.60s was heard of %" PRIu64
                           " s ago, or this coordinator has not "
                           "run for long enough to know: it must have been silent for %" PRIu64
                           " s",
                           to, (c->now_ns - heard_ns) / 1000000000,
                           GW_SERVER_SILENT_NS / 1000000000);
    if (!gw_coordinator_server_up(c, job->from))
        return gwi_refusal(GW_E_REFUSED, text, text_bytes,
                           "server %.60s, which has the frozen copy, is down: start it first",
                           from);
    return GW_OK;
}

/* What is not committed, and never can be, for one of its servers is lost. */
static void cancel_those_with(struct gw_coordinator *c, uint32_t lost)
{
    for (uint32_t i = 0; i < c->jobs; i++) {
        struct coordinator_job *job = c->job[i];
        if (job->record.state != GW_JOB_CREATED ||
            (job->record.from != lost && job->record.to != lost))
            continue;
        snprintf(job->record.error, sizeof job->record.error, "server %s was given up for lost",
                 c->map->server[lost].id);
        (void)gwi_coordinator_job_move(c, job, GW_JOB_CREATED, GW_JOB_CANCELLED);
    }
}

enum gw_status gw_coordinator_revive(struct gw_coordinator *c, uint64_t id, const char *lost,
                                     bool really, char *text, size_t text_bytes)
{
    GW_ASSERT(c->started);
    int at = gwi_coordinator_find_job(c, id);
    if (at < 0)
        return gwi_refusal(GW_NOT_FOUND, text, text_bytes, "there is no job %" PRIu64, id);
    struct coordinator_job *job = c->job[at];
    if (job->record.state == GW_JOB_REVIVED && strcmp(lost, c->map->server[job->record.to].id) == 0)
        return GW_OK;
    enum gw_status st = may_revive(c, &job->record, lost, text, text_bytes);
    if (st != GW_OK || !really)
        return st;
    if (!gwi_coordinator_room(c, 5 + c->jobs_open, 3 + c->map->servers + 2 * c->jobs_open))
        return gwi_refusal(GW_E_NOMEM, text, text_bytes, "the coordinator is out of memory");
    gwi_coordinator_lose(c, job->record.to);
    change_hands(c, &job->record, job->record.from, job->record.since);
    bool moved = gwi_coordinator_job_move(c, job, GW_JOB_COMMITTED, GW_JOB_REVIVED);
    GW_ASSERT(moved);
    cancel_those_with(c, job->record.to);
    return GW_OK;
}
