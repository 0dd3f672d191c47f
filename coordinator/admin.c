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

#include "index/base/assert.h"

#define SLOTS_TEXT_LISTED 1024u
#define SLOTS_TEXT_WHOLE  (GW_SLOTS * 6u)

struct request {
    struct gw_coordinator *c;
    const json_t *json;
    enum gw_status status; /* of the refusal */
    char text[256];
};

/* A verb gives its result, or NULL with status and text set; without them memory has run out. */
typedef json_t *(*verb_cb)(struct request *r);

static json_t *refuse(struct request *r, enum gw_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static json_t *refuse(struct request *r, enum gw_status status, const char *format, ...)
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

static const char *text_field(struct request *r, const char *name)
{
    const json_t *value = json_object_get(r->json, name);
    if (!value)
        refuse(r, GW_E_INVALID, "field \"%s\" is missing", name);
    else if (!json_is_string(value))
        refuse(r, GW_E_INVALID, "field \"%s\" must be a string", name);
    else
        return json_string_value(value);
    return NULL;
}

static bool id_field(struct request *r, uint64_t *id)
{
    const json_t *value = json_object_get(r->json, "id");
    if (!value)
        refuse(r, GW_E_INVALID, "field \"id\" is missing");
    else if (!json_is_integer(value) || json_integer_value(value) < 1)
        refuse(r, GW_E_INVALID, "field \"id\" must be a job's number, 1 or more");
    else {
        *id = (uint64_t)json_integer_value(value);
        return true;
    }
    return false;
}

/* --- what is -----------------------------------------------------------------------------------
 */

static json_t *hex(uint64_t word) /* rule 2 */
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, word);
    return json_string(text);
}

static json_t *number(uint64_t value)
{
    return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

/* A text that a server has sent; the codec lets bytes through that are no UTF-8. */
static json_t *foreign_text(const char *text)
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

static json_t *slots_text(const struct gw_slots *slots, size_t bytes_max)
{
    char *room = malloc(bytes_max);
    if (!room)
        return NULL;
    gw_slots_format(slots, room, bytes_max);
    json_t *text = json_string(room);
    free(room);
    return text;
}

static json_t *job_json(const struct gw_coordinator *c, const struct gw_job_record *job,
                        size_t slots_max)
{
    const struct gw_map *map = gw_coordinator_map(c);
    return json_pack(
        "{s:o, s:s, s:s, s:s, s:o, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o, s:b}",
        "id", number(job->id), "state", gw_job_state_name(job->state), "from",
        map->server[job->from].id, "to", map->server[job->to].id, "slots",
        slots_text(&job->slots, slots_max), "slot_count", (int)gw_slots_count(&job->slots),
        "bytes_moved", number(job->bytes_moved), "records_moved", number(job->records_moved),
        "chunks_done", number(job->chunks_done), "chunks", number(job->chunks), "pulls",
        number(job->pulls), "pause_us", number(job->pause_ns / 1000), "phase",
        foreign_text(job->phase), "error", foreign_text(job->error), "created_ms",
        number(job->created_ms), "updated_ms", number(job->updated_ms), "transferred_ms",
        number(job->transferred_ms), "finished_ms", number(job->finished_ms), "paused",
        job->paused);
}

static json_t *jobs_json(const struct gw_coordinator *c, bool open_only)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < gw_coordinator_jobs(c); i++) {
        const struct gw_job_record *job = gw_coordinator_job_at(c, i);
        if (open_only && !gw_job_is_open(job->state))
            continue;
        if (json_array_append_new(list, job_json(c, job, SLOTS_TEXT_LISTED)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static const char *state_of(const struct gw_coordinator *c, uint32_t at)
{
    if (gw_coordinator_server_lost(c, at))
        return "lost";
    return gw_coordinator_server_up(c, at) ? "up" : "down";
}

static json_t *server_json(const struct gw_coordinator *c, uint32_t at, uint32_t *slots)
{
    const struct gw_map_server *server = &gw_coordinator_map(c)->server[at];
    const struct gw_heartbeat *numbers = gw_coordinator_server_numbers(c, at);
    struct gw_slots owned;
    gw_map_slots_of(gw_coordinator_map(c), at, &owned);
    *slots = gw_slots_count(&owned);
    json_t *json =
        json_pack("{s:s, s:s, s:i, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "id", server->id,
                  "address", server->address, "slots", (int)*slots, "slot_ranges",
                  slots_text(&owned, SLOTS_TEXT_LISTED), "view", number(server->view), "state",
                  state_of(c, at), "keys", number(numbers->keys), "operations",
                  number(numbers->operations), "memory_used", number(numbers->memory_used),
                  "memory_total", number(numbers->memory_total), "sessions",
                  number(numbers->sessions), "incarnation", hex(server->incarnation));
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
    };
    for (size_t i = 0; json && i < sizeof more / sizeof more[0]; i++)
        json_object_set_new(json, more[i].name, number(more[i].value));
    static const char *const modes[] = {"none", "memory", "commit"};
    if (json) {
        json_object_set_new(json, "durability", json_string(modes[numbers->durability % 3]));
        json_object_set_new(json, "trouble", foreign_text(numbers->trouble));
    }
    return json;
}

/* Is a server down that somebody needs: it owns slots or has a part in an open job? */
static bool needed(const struct gw_coordinator *c, uint32_t server, uint32_t slots)
{
    for (uint32_t i = 0; !slots && i < gw_coordinator_jobs(c); i++) {
        const struct gw_job_record *job = gw_coordinator_job_at(c, i);
        if (gw_job_is_open(job->state) && (job->from == server || job->to == server))
            return true;
    }
    return slots != 0;
}

/* --- verbs -------------------------------------------------------------------------------------
 */

static json_t *verb_status(struct request *r)
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
    return json_pack("{s:o, s:o, s:o, s:o, s:b}", "map_version", number(map->version), "cluster",
                     hex(map->cluster), "servers", servers, "jobs", jobs_json(r->c, true),
                     "healthy", healthy);
}

static json_t *verb_migrate(struct request *r)
{
    const char *slots_wanted = text_field(r, "slots");
    const char *from = slots_wanted ? text_field(r, "from") : NULL;
    const char *to = from ? text_field(r, "to") : NULL;
    if (!to)
        return NULL;
    struct gw_slots slots;
    char why[160];
    if (gw_slots_parse(slots_wanted, &slots, why, sizeof why) != GW_OK)
        return refuse(r, GW_E_INVALID, "field \"slots\": %s", why);
    uint64_t id;
    r->status = gw_coordinator_migrate(r->c, &slots, from, to, &id, r->text, sizeof r->text);
    return r->status == GW_OK ? json_pack("{s:o}", "job", number(id)) : NULL;
}

static json_t *verb_scale_out(struct request *r)
{
    const char *to = text_field(r, "to");
    if (!to)
        return NULL;
    uint64_t *ids = malloc(GW_SERVERS_MAX * sizeof *ids);
    uint32_t n = 0;
    if (!ids)
        return NULL;
    json_t *result = NULL;
    r->status = gw_coordinator_scale_out(r->c, to, ids, &n, r->text, sizeof r->text);
    if (r->status == GW_OK) {
        json_t *list = json_array();
        for (uint32_t i = 0; list && i < n; i++)
            if (json_array_append_new(list, number(ids[i])) != 0) {
                json_decref(list);
                list = NULL;
            }
        result = json_pack("{s:o}", "jobs", list);
    }
    free(ids);
    return result;
}

static json_t *verb_job_list(struct request *r)
{
    return json_pack("{s:o}", "jobs", jobs_json(r->c, false));
}

static json_t *verb_job_show(struct request *r)
{
    uint64_t id;
    if (!id_field(r, &id))
        return NULL;
    const struct gw_job_record *job = gw_coordinator_job(r->c, id);
    if (!job)
        return refuse(r, GW_NOT_FOUND, "there is no job %" PRIu64, id);
    return json_pack("{s:o}", "job", job_json(r->c, job, SLOTS_TEXT_WHOLE));
}

static json_t *verb_job_cancel(struct request *r)
{
    uint64_t id;
    if (!id_field(r, &id))
        return NULL;
    r->status = gw_coordinator_cancel(r->c, id, r->text, sizeof r->text);
    return r->status == GW_OK ? verb_job_show(r) : NULL;
}

static json_t *pause_or_resume(struct request *r, bool paused)
{
    uint64_t id;
    if (!id_field(r, &id))
        return NULL;
    r->status = gw_coordinator_pause(r->c, id, paused, r->text, sizeof r->text);
    return r->status == GW_OK ? verb_job_show(r) : NULL;
}

static json_t *verb_job_pause(struct request *r)
{
    return pause_or_resume(r, true);
}

static json_t *verb_job_resume(struct request *r)
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
                     number(job->transferred_ms), "slots", (int)gw_slots_count(&job->slots),
                     "other_slots", (int)gw_slots_count(&others), "other_slot_ranges",
                     slots_text(&others, SLOTS_TEXT_LISTED), "keys",
                     number(gw_coordinator_server_numbers(c, job->to)->keys), "other_jobs",
                     (int)jobs);
}

static json_t *verb_job_revive(struct request *r)
{
    uint64_t id;
    const char *lost = id_field(r, &id) ? text_field(r, "lost") : NULL;
    if (!lost)
        return NULL;
    const json_t *really = json_object_get(r->json, "really");
    if (really && !json_is_boolean(really))
        return refuse(r, GW_E_INVALID, "field \"really\" must be true or false");
    r->status =
        gw_coordinator_revive(r->c, id, lost, json_is_true(really), r->text, sizeof r->text);
    if (r->status != GW_OK)
        return NULL;
    const struct gw_job_record *job = gw_coordinator_job(r->c, id);
    return json_pack("{s:o, s:b, s:o}", "job", job_json(r->c, job, SLOTS_TEXT_WHOLE), "revived",
                     job->state == GW_JOB_REVIVED, "loses", loss_json(r->c, job));
}

static const struct {
    const char *op;
    verb_cb verb;
} verbs[] = {
    {"status", verb_status},       {"migrate", verb_migrate},       {"scale-out", verb_scale_out},
    {"job-list", verb_job_list},   {"job-show", verb_job_show},     {"job-cancel", verb_job_cancel},
    {"job-pause", verb_job_pause}, {"job-resume", verb_job_resume}, {"job-revive", verb_job_revive},
};

static json_t *run(struct request *r)
{
    if (!json_is_object(r->json))
        return refuse(r, GW_E_INVALID, "a request is a JSON object with a field \"op\"");
    const char *op = text_field(r, "op");
    if (!op)
        return NULL;
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].op, op) == 0)
            return verbs[i].verb(r);
    return refuse(r, GW_E_INVALID,
                  "unknown op \"%.40s\"; there are status, migrate, scale-out, job-list, job-show, "
                  "job-cancel, job-pause, job-resume and job-revive",
                  op);
}

static char *error_text(enum gw_status status, const char *message)
{
    json_t *text = foreign_text(message); /* the message may quote what the request said */
    json_t *error =
        json_pack("{s:{s:s, s:o}}", "error", "status", gw_status_name(status), "message", text);
    char *out = error ? json_dumps(error, JSON_COMPACT) : NULL;
    json_decref(error);
    return out;
}

enum gw_status gw_admin_execute(struct gw_coordinator *c, uint64_t link, uint64_t request,
                                const char *json, size_t json_bytes)
{
    struct request r = {.c = c};
    json_error_t where;
    json_t *document = NULL, *result = NULL;
    if (json_bytes > GW_ADMIN_REQUEST_BYTES_MAX) {
        refuse(&r, GW_E_TOO_LARGE, "a request has at most %u bytes, this one has %zu",
               GW_ADMIN_REQUEST_BYTES_MAX, json_bytes);
    } else {
        document = json_loadb(json, json_bytes, JSON_REJECT_DUPLICATES, &where);
        r.json = document;
        if (document)
            result = run(&r);
        else
            refuse(&r, GW_E_INVALID, "the request is no JSON: %s at byte %d", where.text,
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
