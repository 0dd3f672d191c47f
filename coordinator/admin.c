/* admin.c - JSON requests to calls of the state machine, and what is to JSON.
 *
 * Rules:
 *  1. Every request gets one reply: its result, or {"error": {"status", "message"}}.
 *  2. Words of 64 random bits (cluster, incarnation) are strings of 16 hex digits: most readers of
 *     JSON keep 53 bits of a number.
 *  3. Lists cut long slot texts ("..."), so that a reply stays within a frame; job-show does not.
 * Design: docs/ADMIN.md. */
#include "coordinator/admin.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/admin_internal.h"
#include "index/base/assert.h"

/* A verb gives its result, or NULL with status and text set; without them memory has run out. */
typedef json_t *(*verb_cb)(struct gwi_admin_request *r);

json_t *gwi_admin_refuse(struct gwi_admin_request *r, enum gw_status status, const char *format,
                         ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(r->text, sizeof r->text, format, args);
    va_end(args);
    r->status = status;
    return NULL;
}

/* --- fields ------------------------------------------------------------------------------------
 */

const char *gwi_admin_text(struct gwi_admin_request *r, const char *name)
{
    const json_t *value = json_object_get(r->json, name);
    if (!value)
        gwi_admin_refuse(r, GW_E_INVALID, "field \"%s\" is missing", name);
    else if (!json_is_string(value))
        gwi_admin_refuse(r, GW_E_INVALID, "field \"%s\" must be a string", name);
    else
        return json_string_value(value);
    return NULL;
}

static bool id_field(struct gwi_admin_request *r, uint64_t *id)
{
    const json_t *value = json_object_get(r->json, "id");
    if (!value)
        gwi_admin_refuse(r, GW_E_INVALID, "field \"id\" is missing");
    else if (!json_is_integer(value) || json_integer_value(value) < 1)
        gwi_admin_refuse(r, GW_E_INVALID, "field \"id\" must be a job's number, 1 or more");
    else {
        *id = (uint64_t)json_integer_value(value);
        return true;
    }
    return false;
}

bool gwi_admin_switch(struct gwi_admin_request *r, const char *name, bool *out)
{
    const json_t *value = json_object_get(r->json, name);
    if (value && !json_is_boolean(value)) {
        gwi_admin_refuse(r, GW_E_INVALID, "field \"%s\" must be true or false", name);
        return false;
    }
    if (value)
        *out = json_is_true(value);
    return true;
}

bool gwi_admin_number(struct gwi_admin_request *r, const char *name, uint64_t max, uint64_t *out)
{
    const json_t *value = json_object_get(r->json, name);
    if (!value)
        return true;
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) > max) {
        gwi_admin_refuse(r, GW_E_INVALID, "field \"%s\" must be a number from 0 to %" PRIu64, name,
                         max);
        return false;
    }
    *out = (uint64_t)json_integer_value(value);
    return true;
}

bool gwi_admin_options(struct gwi_admin_request *r, struct gw_job_options *out)
{
    uint64_t impact = 0, sample_ms = 0;
    bool sampling = true, indirection = true, pulls = true;
    *out = (struct gw_job_options){0};
    if (!gwi_admin_number(r, "rate", INT64_MAX, &out->rate_bytes) ||
        !gwi_admin_number(r, "sample_bytes", INT64_MAX, &out->sample_bytes) ||
        !gwi_admin_number(r, "max_impact_us", 60000000, &impact) ||
        !gwi_admin_number(r, "sample_ms", 600000, &sample_ms) ||
        !gwi_admin_switch(r, "sampling", &sampling) ||
        !gwi_admin_switch(r, "indirection", &indirection) || !gwi_admin_switch(r, "pulls", &pulls))
        return false;
    out->max_impact_us = (uint32_t)impact;
    out->sample_ms = (uint32_t)sample_ms;
    out->flags =
        (uint8_t)((sampling ? 0 : GW_JOB_NO_SAMPLING) | (indirection ? 0 : GW_JOB_NO_INDIRECTION) |
                  (pulls ? 0 : GW_JOB_NO_PULLS));
    return true;
}

/* --- what is -----------------------------------------------------------------------------------
 */

json_t *gwi_hex_json(uint64_t word) /* rule 2 */
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, word);
    return json_string(text);
}

json_t *gwi_number_json(uint64_t value)
{
    return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

uint64_t gwi_eta_ms(uint64_t bytes_left, uint64_t rate)
{
    double ms = rate ? (double)bytes_left * 1000 / (double)rate : 0;
    return ms < (double)INT64_MAX ? (uint64_t)ms : INT64_MAX;
}

/* A text that a server has sent; the codec lets bytes through that are no UTF-8. */
json_t *gwi_foreign_json(const char *text)
{
    json_t *as_is = json_string(text);
    if (as_is)
        return as_is;
    char ascii[256];
    size_t n = 0;
    for (; text[n] && n < sizeof ascii - 1; n++)
        ascii[n] = (signed char)text[n] < 0 ? '?' : text[n];
    ascii[n] = '\0';
    return json_string(ascii);
}

json_t *gwi_slots_json(const struct gw_slots *slots, size_t bytes_max)
{
    char *room = malloc(bytes_max);
    if (!room)
        return NULL;
    gw_slots_format(slots, room, bytes_max);
    json_t *text = json_string(room);
    free(room);
    return text;
}

json_t *gwi_options_json(const struct gw_job_options *options)
{
    return json_pack("{s:o, s:o, s:I, s:I, s:b, s:b, s:b}", "rate",
                     gwi_number_json(options->rate_bytes), "sample_bytes",
                     gwi_number_json(options->sample_bytes), "max_impact_us",
                     (json_int_t)options->max_impact_us, "sample_ms",
                     (json_int_t)options->sample_ms, "sampling",
                     !(options->flags & GW_JOB_NO_SAMPLING), "indirection",
                     !(options->flags & GW_JOB_NO_INDIRECTION), "pulls",
                     !(options->flags & GW_JOB_NO_PULLS));
}

static json_t *job_json(const struct gw_coordinator *c, const struct gw_job_record *job,
                        size_t slots_max)
{
    const struct gw_map *map = gw_coordinator_map(c);
    json_t *json = json_pack(
        "{s:o, s:s, s:s, s:s, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:b}",
        "id", gwi_number_json(job->id), "state", gw_job_state_name(job->state), "from",
        map->server[job->from].id, "to", map->server[job->to].id, "slots",
        gwi_slots_json(&job->slots, slots_max), "slot_count", (int)gw_slots_count(&job->slots),
        "bytes_moved", gwi_number_json(job->bytes_moved), "records_moved",
        gwi_number_json(job->records_moved), "chunks_done", gwi_number_json(job->chunks_done),
        "chunks", gwi_number_json(job->chunks), "pulls", gwi_number_json(job->pulls), "pause_us",
        gwi_number_json(job->pause_ns / 1000), "phase", gwi_foreign_json(job->phase), "error",
        gwi_foreign_json(job->error), "created_ms", gwi_number_json(job->created_ms), "updated_ms",
        gwi_number_json(job->updated_ms), "transferred_ms", gwi_number_json(job->transferred_ms),
        "finished_ms", gwi_number_json(job->finished_ms), "paused", job->paused);
    const struct {
        const char *name;
        uint64_t value;
    } more[] = {
        {"bytes_left", job->bytes_left},
        {"records_left", job->records_left},
        {"rate", job->rate},
        {"eta_ms", gwi_eta_ms(job->bytes_left, job->rate)},
        {"indirections", job->indirections},
        {"pull_leads", job->pull_leads},
        {"hot_records", job->hot_records},
        {"retries", job->retries},
        {"source_p99_us", job->source_p99_us},
        {"target_p99_us", job->target_p99_us},
        {"plan", job->plan},
    };
    for (size_t i = 0; json && i < sizeof more / sizeof more[0]; i++)
        json_object_set_new(json, more[i].name, gwi_number_json(more[i].value));
    if (json) {
        json_object_set_new(json, "kind", json_string("move"));
        json_object_set_new(json, "waiting",
                            json_boolean(job->queued && job->state == GW_JOB_CREATED));
        json_object_set_new(json, "options", gwi_options_json(&job->options));
        if (job->queued && job->state == GW_JOB_CREATED) {
            char words[128];
            gw_coordinator_plan_waits(c, job, words, sizeof words);
            json_object_set_new(json, "phase", gwi_foreign_json(words));
        }
    }
    return json;
}

static json_t *jobs_json(const struct gw_coordinator *c, bool open_only)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < gw_coordinator_jobs(c); i++) {
        const struct gw_job_record *job = gw_coordinator_job_at(c, i);
        if (open_only && !gw_job_is_open(job->state))
            continue;
        if (json_array_append_new(list, job_json(c, job, GWI_SLOTS_TEXT_LISTED)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static const char *state_of(const struct gw_coordinator *c, uint32_t at)
{
    struct gw_server_record record;
    gw_coordinator_server_record(c, at, &record);
    if (record.lost)
        return record.removed ? "removed" : "lost";
    return gw_coordinator_server_up(c, at) ? "up" : "down";
}

static json_t *server_json(const struct gw_coordinator *c, uint32_t at, uint32_t *slots)
{
    const struct gw_map_server *server = &gw_coordinator_map(c)->server[at];
    const struct gw_heartbeat *numbers = gw_coordinator_server_numbers(c, at);
    struct gw_slots owned;
    gw_map_slots_of(gw_coordinator_map(c), at, &owned);
    *slots = gw_slots_count(&owned);
    json_t *json = json_pack("{s:s, s:s, s:i, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
                             server->id, "address", server->address, "slots", (int)*slots,
                             "slot_ranges", gwi_slots_json(&owned, GWI_SLOTS_TEXT_LISTED), "view",
                             gwi_number_json(server->view), "state", state_of(c, at), "keys",
                             gwi_number_json(numbers->keys), "operations",
                             gwi_number_json(numbers->operations), "memory_used",
                             gwi_number_json(numbers->memory_used), "memory_total",
                             gwi_number_json(numbers->memory_total), "sessions",
                             gwi_number_json(numbers->sessions), "incarnation",
                             gwi_hex_json(server->incarnation));
    const struct {
        const char *name;
        uint64_t value;
    } more[] = {
        {"disk_used", numbers->disk_used},
        {"disk_total", numbers->disk_total},
        {"live_bytes", numbers->live_bytes},
        {"cold_reads", numbers->cold_reads},
        {"evicted", numbers->evicted},
        {"expired", numbers->expired},
        {"compacted", numbers->compacted},
        {"compacted_live", numbers->compacted_live},
        {"checkpoint", numbers->checkpoint},
        {"checkpoint_age_ms", numbers->checkpoint_age_ms},
        {"checkpoint_us", numbers->checkpoint_ns / 1000},
        {"checkpoints", numbers->checkpoints},
        {"checkpoints_failed", numbers->checkpoints_failed},
        {"log_bytes", numbers->log_bytes},
        {"recovered", numbers->recovered},
        {"recovery_ms", numbers->recovery_ms},
        {"recovered_entries", numbers->recovered_entries},
        {"sessions_forgotten", numbers->sessions_forgotten},
        {"shared_used", numbers->shared_used},
        {"shared_lag", numbers->shared_lag},
        {"foreign_reads", numbers->foreign_reads},
        {"indirections", numbers->indirections},
        {"foreign_logs", numbers->needs},
    };
    for (size_t i = 0; json && i < sizeof more / sizeof more[0]; i++)
        json_object_set_new(json, more[i].name, gwi_number_json(more[i].value));
    static const char *const modes[] = {"none", "memory", "commit"};
    if (json) {
        struct gw_server_record record;
        gw_coordinator_server_record(c, at, &record);
        json_object_set_new(json, "drained", json_boolean(record.drained));
        json_object_set_new(json, "log_id", gwi_hex_json(record.log_id));
        json_object_set_new(json, "durability", json_string(modes[numbers->durability % 3]));
        json_object_set_new(json, "trouble", gwi_foreign_json(numbers->trouble));
    }
    return json;
}

/* Is a server down that somebody needs: it owns slots or has a part in an open job? */
static bool needed(const struct gw_coordinator *c, uint32_t server, uint32_t slots)
{
    for (uint32_t i = 0; !slots && i < gw_coordinator_jobs(c); i++) {
        const struct gw_job_record *job = gw_coordinator_job_at(c, i);
        if (gw_job_is_open(job->state) && !job->queued &&
            (job->from == server || job->to == server))
            return true;
    }
    return slots != 0;
}

/* --- verbs -------------------------------------------------------------------------------------
 */

static json_t *verb_status(struct gwi_admin_request *r)
{
    const struct gw_map *map = gw_coordinator_map(r->c);
    bool healthy = map->servers > 0;
    json_t *servers = json_array();
    for (uint32_t i = 0; servers && i < map->servers; i++) {
        uint32_t slots;
        if (json_array_append_new(servers, server_json(r->c, i, &slots)) != 0) {
            json_decref(servers);
            return NULL;
        }
        if (!gw_coordinator_server_up(r->c, i) && needed(r->c, i, slots))
            healthy = false;
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:b}", "map_version", gwi_number_json(map->version),
                     "cluster", gwi_hex_json(map->cluster), "servers", servers, "jobs",
                     jobs_json(r->c, true), "plans", gwi_plans_json(r->c, true), "healthy",
                     healthy);
}

static json_t *verb_migrate(struct gwi_admin_request *r)
{
    const char *slots_wanted = gwi_admin_text(r, "slots");
    const char *from = slots_wanted ? gwi_admin_text(r, "from") : NULL;
    const char *to = from ? gwi_admin_text(r, "to") : NULL;
    if (!to)
        return NULL;
    struct gw_slots slots;
    char why[160];
    if (gw_slots_parse(slots_wanted, &slots, why, sizeof why) != GW_OK)
        return gwi_admin_refuse(r, GW_E_INVALID, "field \"slots\": %s", why);
    uint64_t id;
    struct gw_job_options options;
    bool dry_run = false;
    if (!gwi_admin_options(r, &options) || !gwi_admin_switch(r, "dry_run", &dry_run))
        return NULL;
    r->status = gw_coordinator_migrate_as(r->c, &slots, from, to, &options, !dry_run, &id, r->text,
                                          sizeof r->text);
    if (r->status != GW_OK)
        return NULL;
    if (dry_run)
        return json_pack("{s:b, s:o, s:I, s:s, s:s, s:o}", "dry_run", true, "slots",
                         gwi_slots_json(&slots, GWI_SLOTS_TEXT_WHOLE), "slot_count",
                         (json_int_t)gw_slots_count(&slots), "from", from, "to", to, "options",
                         gwi_options_json(&options));
    return json_pack("{s:o}", "job", gwi_number_json(id));
}

static json_t *verb_job_list(struct gwi_admin_request *r)
{
    return json_pack("{s:o, s:o}", "jobs", jobs_json(r->c, false), "plans",
                     gwi_plans_json(r->c, false));
}

static json_t *verb_job_show(struct gwi_admin_request *r)
{
    uint64_t id;
    if (!id_field(r, &id))
        return NULL;
    const struct gw_plan_record *plan = gw_coordinator_plan(r->c, id);
    if (plan)
        return json_pack("{s:o}", "job", gwi_plan_json(r->c, plan));
    const struct gw_job_record *job = gw_coordinator_job(r->c, id);
    if (!job)
        return gwi_admin_refuse(r, GW_NOT_FOUND, "there is no job %" PRIu64, id);
    return json_pack("{s:o}", "job", job_json(r->c, job, GWI_SLOTS_TEXT_WHOLE));
}

static json_t *verb_job_cancel(struct gwi_admin_request *r)
{
    uint64_t id;
    if (!id_field(r, &id))
        return NULL;
    r->status = gw_coordinator_plan(r->c, id)
                    ? gw_coordinator_plan_cancel(r->c, id, r->text, sizeof r->text)
                    : gw_coordinator_cancel(r->c, id, r->text, sizeof r->text);
    return r->status == GW_OK ? verb_job_show(r) : NULL;
}

static json_t *pause_or_resume(struct gwi_admin_request *r, bool paused)
{
    uint64_t id;
    if (!id_field(r, &id))
        return NULL;
    r->status = gw_coordinator_plan(r->c, id)
                    ? gw_coordinator_plan_pause(r->c, id, paused, r->text, sizeof r->text)
                    : gw_coordinator_pause(r->c, id, paused, r->text, sizeof r->text);
    return r->status == GW_OK ? verb_job_show(r) : NULL;
}

static json_t *verb_job_pause(struct gwi_admin_request *r)
{
    return pause_or_resume(r, true);
}

static json_t *verb_job_resume(struct gwi_admin_request *r)
{
    return pause_or_resume(r, false);
}

/* What goes with the lost target of a job, as far as anybody knows. */
static json_t *loss_json(const struct gw_coordinator *c, const struct gw_job_record *job)
{
    struct gw_slots others;
    gw_map_slots_of(gw_coordinator_map(c), job->to, &others);
    if (job->state != GW_JOB_REVIVED)
        for (uint32_t w = 0; w < GW_SLOTS / 64; w++)
            others.word[w] &= ~job->slots.word[w];
    uint32_t jobs = 0;
    for (uint32_t i = 0; i < gw_coordinator_jobs(c); i++) {
        const struct gw_job_record *other = gw_coordinator_job_at(c, i);
        jobs += other != job && gw_job_is_open(other->state) &&
                (other->from == job->to || other->to == job->to);
    }
    return json_pack("{s:o, s:i, s:i, s:o, s:o, s:i}", "writes_since_ms",
                     gwi_number_json(job->transferred_ms), "slots",
                     (int)gw_slots_count(&job->slots), "other_slots", (int)gw_slots_count(&others),
                     "other_slot_ranges", gwi_slots_json(&others, GWI_SLOTS_TEXT_LISTED), "keys",
                     gwi_number_json(gw_coordinator_server_numbers(c, job->to)->keys), "other_jobs",
                     (int)jobs);
}

static json_t *verb_job_revive(struct gwi_admin_request *r)
{
    uint64_t id;
    const char *lost = id_field(r, &id) ? gwi_admin_text(r, "lost") : NULL;
    if (!lost)
        return NULL;
    const json_t *really = json_object_get(r->json, "really");
    if (really && !json_is_boolean(really))
        return gwi_admin_refuse(r, GW_E_INVALID, "field \"really\" must be true or false");
    r->status =
        gw_coordinator_revive(r->c, id, lost, json_is_true(really), r->text, sizeof r->text);
    if (r->status != GW_OK)
        return NULL;
    const struct gw_job_record *job = gw_coordinator_job(r->c, id);
    return json_pack("{s:o, s:b, s:o}", "job", job_json(r->c, job, GWI_SLOTS_TEXT_WHOLE), "revived",
                     job->state == GW_JOB_REVIVED, "loses", loss_json(r->c, job));
}

static const struct {
    const char *op;
    verb_cb verb;
} verbs[] = {
    {"status", verb_status},
    {"migrate", verb_migrate},
    {"scale-out", gwi_admin_scale_out},
    {"drain", gwi_admin_drain},
    {"rebalance", gwi_admin_rebalance},
    {"plan-apply", gwi_admin_plan_apply},
    {"hot", gwi_admin_hot},
    {"remove", gwi_admin_remove},
    {"job-list", verb_job_list},
    {"job-show", verb_job_show},
    {"job-cancel", verb_job_cancel},
    {"job-pause", verb_job_pause},
    {"job-resume", verb_job_resume},
    {"job-revive", verb_job_revive},
};

static json_t *run(struct gwi_admin_request *r)
{
    if (!json_is_object(r->json))
        return gwi_admin_refuse(r, GW_E_INVALID, "a request is a JSON object with a field \"op\"");
    const char *op = gwi_admin_text(r, "op");
    if (!op)
        return NULL;
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].op, op) == 0)
            return verbs[i].verb(r);
    return gwi_admin_refuse(
        r, GW_E_INVALID,
        "unknown op \"%.40s\"; there are status, migrate, scale-out, drain, rebalance, "
        "plan-apply, hot, remove, job-list, job-show, job-cancel, job-pause, job-resume "
        "and job-revive",
        op);
}

static char *error_text(enum gw_status status, const char *message)
{
    json_t *text = gwi_foreign_json(message); /* the message may quote what the request said */
    json_t *error =
        json_pack("{s:{s:s, s:o}}", "error", "status", gw_status_name(status), "message", text);
    char *out = error ? json_dumps(error, JSON_COMPACT) : NULL;
    json_decref(error);
    return out;
}

enum gw_status gw_admin_execute(struct gw_coordinator *c, uint64_t link, uint64_t request,
                                const char *json, size_t json_bytes)
{
    struct gwi_admin_request r = {.c = c};
    json_error_t where;
    json_t *document = NULL, *result = NULL;
    if (json_bytes > GW_ADMIN_REQUEST_BYTES_MAX) {
        gwi_admin_refuse(&r, GW_E_TOO_LARGE, "a request has at most %u bytes, this one has %zu",
                         GW_ADMIN_REQUEST_BYTES_MAX, json_bytes);
    } else {
        document = json_loadb(json, json_bytes, JSON_REJECT_DUPLICATES, &where);
        r.json = document;
        if (document)
            result = run(&r);
        else
            gwi_admin_refuse(&r, GW_E_INVALID, "the request is no JSON: %s at byte %d", where.text,
                             where.position);
    }
    char *reply = NULL;
    if (result) {
        reply = json_dumps(result, JSON_COMPACT);
        if (reply && strlen(reply) > GW_ADMIN_REPLY_BYTES_MAX) {
            free(reply);
            reply = error_text(GW_E_TOO_LARGE, "the answer is over 4 MiB long: ask for single jobs "
                                               "with job-show");
        }
    } else if (r.status != GW_OK) {
        reply = error_text(r.status, r.text);
    }
    json_decref(result);
    json_decref(document);
    if (!reply) /* a change that has been made goes on; its answer could not be written */
        return GW_E_NOMEM;
    return gw_coordinator_reply(c, link, request, reply);
}
