/* admin_plan.c - plans in JSON: scale-out, drain, rebalance, plan-apply, hot, remove.
 * A draft is an object that can be kept in a file and given back to plan-apply; of it only kind,
 * server, cluster, map_version and the moves are read. Rules: admin.c; design: docs/ADMIN.md. */
#include <inttypes.h>
#include <stdlib.h>

#include "coordinator/admin_internal.h"

#define HOT_LISTED 32u
#define HINT_PART  0.75 /* of a gap: more would only turn it round */

/* --- what is -----------------------------------------------------------------------------------
 */

static json_t *shares_json(const struct gw_coordinator *c, const struct gw_plan_share *share,
                           uint32_t n)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < n; i++) {
        if (gw_coordinator_server_lost(c, i))
            continue;
        json_array_append_new(list,
                              json_pack("{s:s, s:I, s:o, s:o}", "server",
                                        gw_coordinator_map(c)->server[i].id, "slots",
                                        (json_int_t)share[i].slots, "bytes",
                                        gwi_number_json((uint64_t)share[i].bytes), "operations",
                                        gwi_number_json((uint64_t)share[i].operations)));
    }
    return list;
}

/* Servers that could hold something and are left out, for they are down. */
static json_t *left_out_json(const struct gw_coordinator *c)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < gw_coordinator_map(c)->servers; i++)
        if (!gw_coordinator_server_lost(c, i) && !gw_coordinator_server_up(c, i))
            json_array_append_new(list, json_string(gw_coordinator_map(c)->server[i].id));
    return list;
}

static json_t *draft_json(const struct gw_coordinator *c, const struct gw_plan_draft *draft)
{
    const struct gw_map *map = gw_coordinator_map(c);
    json_t *moves = json_array();
    for (uint32_t i = 0; moves && i < draft->moves; i++)
        json_array_append_new(
            moves, json_pack("{s:s, s:s, s:o, s:I}", "from", map->server[draft->move[i].from].id,
                             "to", map->server[draft->move[i].to].id, "slots",
                             gwi_slots_json(&draft->move[i].slots, GWI_SLOTS_TEXT_WHOLE),
                             "slot_count", (json_int_t)gw_slots_count(&draft->move[i].slots)));
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "kind",
                     gw_plan_kind_name(draft->kind), "server",
                     draft->kind == GW_PLAN_REBALANCE ? "" : map->server[draft->server].id,
                     "cluster", gwi_hex_json(map->cluster), "map_version",
                     gwi_number_json(draft->map_version), "bytes",
                     gwi_number_json((uint64_t)draft->bytes), "shipped_bytes",
                     gwi_number_json((uint64_t)draft->shipped), "predicted_ms",
                     gwi_number_json(draft->ms), "left_out", left_out_json(c), "before",
                     shares_json(c, draft->before, draft->servers), "after",
                     shares_json(c, draft->after, draft->servers), "moves", moves);
}

/* A plan's moves together. */
struct sum {
    uint64_t bytes, records, bytes_left, records_left, rate, pause_ns;
    uint64_t pulls, pull_leads, indirections, hot_records, retries;
    uint32_t running;
    char phase[160]; /* of the first that runs; else why the first one waits */
};

static void add_move(const struct gw_coordinator *c, struct sum *sum,
                     const struct gw_job_record *job)
{
    sum->bytes += job->bytes_moved;
    sum->records += job->records_moved;
    sum->pulls += job->pulls;
    sum->pull_leads += job->pull_leads;
    sum->indirections += job->indirections;
    sum->hot_records += job->hot_records;
    sum->retries += job->retries;
    if (job->pause_ns > sum->pause_ns)
        sum->pause_ns = job->pause_ns;
    if (!gw_job_is_open(job->state))
        return;
    sum->bytes_left += job->bytes_left;
    sum->records_left += job->records_left;
    char words[128];
    if (job->queued) {
        gw_coordinator_plan_waits(c, job, words, sizeof words);
        if (!sum->phase[0])
            snprintf(sum->phase, sizeof sum->phase, "move %" PRIu64 " %s", job->id, words);
        return;
    }
    sum->rate += job->rate;
    if (sum->running++ == 0)
        snprintf(sum->phase, sizeof sum->phase, "move %" PRIu64 ": %s", job->id,
                 job->phase[0] ? job->phase : gw_job_state_name(job->state));
}

json_t *gwi_plan_json(const struct gw_coordinator *c, const struct gw_plan_record *plan)
{
    struct sum sum = {0};
    json_t *ids = json_array();
    for (uint32_t i = 0; i < gw_coordinator_jobs(c); i++) {
        const struct gw_job_record *job = gw_coordinator_job_at(c, i);
        if (job->plan != plan->id)
            continue;
        json_array_append_new(ids, gwi_number_json(job->id));
        add_move(c, &sum, job);
    }
    const char *server = gw_coordinator_map(c)->server[plan->server].id;
    json_t *json =
        json_pack("{s:o, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:o, s:o, s:o}", "id",
                  gwi_number_json(plan->id), "kind", gw_plan_kind_name(plan->kind), "state",
                  plan->state != GW_JOB_CREATED ? gw_job_state_name(plan->state)
                  : plan->ending                ? "ending"
                                                : "running",
                  "from", plan->kind == GW_PLAN_DRAIN ? server : "", "to",
                  plan->kind == GW_PLAN_SCALE_OUT ? server : "", "paused", plan->paused, "moves",
                  (json_int_t)plan->moves, "moves_done", (json_int_t)plan->moves_done,
                  "moves_running", (json_int_t)sum.running, "jobs", ids, "phase",
                  gwi_foreign_json(plan->state == GW_JOB_CREATED ? sum.phase : ""), "error",
                  gwi_foreign_json(plan->error));
    const struct {
        const char *name;
        uint64_t value;
    } more[] = {
        {"bytes_moved", sum.bytes},
        {"records_moved", sum.records},
        {"bytes_left", sum.bytes_left},
        {"records_left", sum.records_left},
        {"rate", sum.rate},
        {"eta_ms", gwi_eta_ms(sum.bytes_left, sum.rate)},
        {"pause_us", sum.pause_ns / 1000},
        {"pulls", sum.pulls},
        {"pull_leads", sum.pull_leads},
        {"indirections", sum.indirections},
        {"hot_records", sum.hot_records},
        {"retries", sum.retries},
        {"map_version", plan->map_version},
        {"created_ms", plan->created_ms},
        {"updated_ms", plan->updated_ms},
        {"finished_ms", plan->finished_ms},
    };
    for (size_t i = 0; json && i < sizeof more / sizeof more[0]; i++)
        json_object_set_new(json, more[i].name, gwi_number_json(more[i].value));
    return json;
}

json_t *gwi_plans_json(const struct gw_coordinator *c, bool open_only)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < gw_coordinator_plans(c); i++) {
        const struct gw_plan_record *plan = gw_coordinator_plan_at(c, i);
        if (!open_only || plan->state == GW_JOB_CREATED)
            json_array_append_new(list, gwi_plan_json(c, plan));
    }
    return list;
}

/* --- verbs -------------------------------------------------------------------------------------
 */

/* What every verb that plans takes beside its own fields. */
struct common {
    struct gw_job_options options;
    bool dry_run;
};

static bool common_fields(struct gwi_admin_request *r, struct common *common)
{
    *common = (struct common){.dry_run = false};
    return gwi_admin_options(r, &common->options) &&
           gwi_admin_switch(r, "dry_run", &common->dry_run);
}

/* Shows the draft, and begins it unless it is a dry run. Takes it. */
static json_t *conclude(struct gwi_admin_request *r, const struct common *common,
                        struct gw_plan_draft *draft)
{
    json_t *shown = draft_json(r->c, draft), *result = NULL;
    uint64_t plan;
    if (shown && common->dry_run) {
        result = json_pack("{s:O}", "draft", shown);
    } else if (shown) {
        r->status = gw_coordinator_plan_begin(r->c, draft, &common->options, &plan, r->text,
                                              sizeof r->text);
        if (r->status == GW_OK) {
            json_t *ids = json_array();
            for (uint32_t i = 0; ids && i < draft->moves; i++)
                json_array_append_new(ids, gwi_number_json(plan + 1 + i));
            result = json_pack("{s:o, s:o, s:O}", "plan", gwi_number_json(plan), "jobs", ids,
                               "draft", shown);
        }
    }
    json_decref(shown);
    gw_plan_draft_destroy(draft);
    return result;
}

json_t *gwi_admin_scale_out(struct gwi_admin_request *r)
{
    struct common common;
    struct gw_plan_draft draft;
    const char *to = gwi_admin_text(r, "to");
    if (!to || !common_fields(r, &common))
        return NULL;
    r->status = gw_plan_scale_out(r->c, to, &common.options, &draft, r->text, sizeof r->text);
    return r->status == GW_OK ? conclude(r, &common, &draft) : NULL;
}

json_t *gwi_admin_drain(struct gwi_admin_request *r)
{
    struct common common;
    struct gw_plan_draft draft;
    const char *server = gwi_admin_text(r, "server");
    if (!server || !common_fields(r, &common))
        return NULL;
    r->status = gw_plan_drain(r->c, server, &common.options, &draft, r->text, sizeof r->text);
    return r->status == GW_OK ? conclude(r, &common, &draft) : NULL;
}

json_t *gwi_admin_rebalance(struct gwi_admin_request *r)
{
    static const struct {
        const char *name;
        enum gw_plan_by by;
    } names[] = {{"both", GW_PLAN_BY_BOTH},
                 {"bytes", GW_PLAN_BY_BYTES},
                 {"operations", GW_PLAN_BY_OPERATIONS}};
    struct common common;
    struct gw_plan_draft draft;
    const char *by = json_object_get(r->json, "by") ? gwi_admin_text(r, "by") : "both";
    if (!by || !common_fields(r, &common))
        return NULL;
    size_t i = 0;
    while (i < 3 && strcmp(names[i].name, by) != 0)
        i++;
    if (i == 3)
        return gwi_admin_refuse(r, GW_E_INVALID, "field \"by\" must be both, bytes or operations");
    r->status =
        gw_plan_rebalance(r->c, names[i].by, &common.options, &draft, r->text, sizeof r->text);
    return r->status == GW_OK ? conclude(r, &common, &draft) : NULL;
}

static bool server_of(struct gwi_admin_request *r, const json_t *object, const char *name,
                      uint32_t *server)
{
    const char *id = json_string_value(json_object_get(object, name));
    int at = id ? gw_map_find(gw_coordinator_map(r->c), id) : -1;
    if (at < 0)
        gwi_admin_refuse(r, id ? GW_NOT_FOUND : GW_E_INVALID,
                         id ? "the plan names server %.64s, which there is not"
                            : "the plan names no server in a field \"%.64s\"",
                         id ? id : name);
    *server = at < 0 ? 0 : (uint32_t)at;
    return at >= 0;
}

static bool draft_of(struct gwi_admin_request *r, const json_t *json, struct gw_plan_draft *draft)
{
    const char *kind = json_string_value(json_object_get(json, "kind"));
    const json_t *version = json_object_get(json, "map_version");
    const json_t *moves = json_object_get(json, "moves");
    for (int k = GW_PLAN_SCALE_OUT; kind && k < GW_PLAN_KINDS; k++)
        if (strcmp(gw_plan_kind_name((enum gw_plan_kind)k), kind) == 0)
            draft->kind = (enum gw_plan_kind)k;
    if (!draft->kind || !json_is_integer(version) || !json_is_array(moves) ||
        json_array_size(moves) >= GW_JOBS_OPEN_MAX) {
        gwi_admin_refuse(r, GW_E_INVALID,
                         "a plan has kind, cluster, map_version and moves (at most %u)",
                         GW_JOBS_OPEN_MAX - 1);
        return false;
    }
    const char *cluster = json_string_value(json_object_get(json, "cluster"));
    json_t *ours = gwi_hex_json(gw_coordinator_map(r->c)->cluster);
    bool same = cluster && ours && strcmp(cluster, json_string_value(ours)) == 0;
    if (!same)
        gwi_admin_refuse(r, cluster ? GW_MISMATCH : GW_E_INVALID,
                         "the plan is of cluster %.32s, this is cluster %s",
                         cluster ? cluster : "(none)", ours ? json_string_value(ours) : "?");
    json_decref(ours);
    if (!same)
        return false;
    draft->map_version = (uint64_t)json_integer_value(version);
    if (draft->map_version != gw_coordinator_map(r->c)->version) {
        gwi_admin_refuse(r, GW_MISMATCH,
                         "the plan was made for map version %" PRIu64 ", the map is at %" PRIu64
                         " now: make it again",
                         draft->map_version, gw_coordinator_map(r->c)->version);
        return false;
    }
    if (draft->kind != GW_PLAN_REBALANCE && !server_of(r, json, "server", &draft->server))
        return false;
    draft->move = calloc(json_array_size(moves) + 1, sizeof *draft->move);
    if (!draft->move)
        return false;
    for (size_t i = 0; i < json_array_size(moves); i++) {
        const json_t *move = json_array_get(moves, i);
        struct gw_plan_move *out = &draft->move[draft->moves++];
        const char *slots = json_string_value(json_object_get(move, "slots"));
        char why[160] = "missing";
        if (!server_of(r, move, "from", &out->from) || !server_of(r, move, "to", &out->to))
            return false;
        if (!slots || gw_slots_parse(slots, &out->slots, why, sizeof why) != GW_OK) {
            gwi_admin_refuse(r, GW_E_INVALID, "slots of move %zu: %s", i + 1, why);
            return false;
        }
    }
    return true;
}

json_t *gwi_admin_plan_apply(struct gwi_admin_request *r)
{
    struct common common;
    struct gw_plan_draft draft = {.kind = 0};
    const json_t *json = json_object_get(r->json, "draft");
    if (!json_is_object(json))
        return gwi_admin_refuse(r, GW_E_INVALID, "field \"draft\" must be a plan's draft");
    if (!common_fields(r, &common))
        return NULL;
    if (!draft_of(r, json, &draft) || gw_plan_of_moves(r->c, &common.options, &draft) != GW_OK) {
        free(draft.move);
        return NULL;
    }
    return conclude(r, &common, &draft);
}

struct hot {
    uint32_t server, slots;
    double per_slot;
    struct gw_load load;
};

static int hotter(const void *a, const void *b)
{
    double x = ((const struct hot *)a)->per_slot, y = ((const struct hot *)b)->per_slot;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* What may be done about a range, as a command or a sentence; "": nothing, or nothing is needed.
 * The largest gap between two servers is what a move can make smaller. */
static void hint_of(const struct gw_coordinator *c, const struct hot *h, const double *load,
                    char *text, size_t text_bytes)
{
    const struct gw_map *map = gw_coordinator_map(c);
    double sum = 0;
    uint32_t n = 0, least = UINT32_MAX;
    text[0] = '\0';
    for (uint32_t i = 0; i < map->servers; i++) {
        struct gw_server_record record;
        gw_coordinator_server_record(c, i, &record);
        if (record.lost || record.drained || !gw_coordinator_server_up(c, i))
            continue;
        sum += load[i];
        n++;
        if (least == UINT32_MAX || load[i] < load[least])
            least = i;
    }
    if (n < 2 || least == h->server || load[h->server] <= sum / n * (1 + GW_PLAN_EVEN_WITHIN))
        return;
    if (h->load.operations > HINT_PART * (load[h->server] - load[least])) {
        if (h->slots == 1)
            snprintf(text, text_bytes,
                     "one slot cannot be divided: rebalance --by operations moves the others away");
        return;
    }
    struct gw_slots slots;
    char which[80];
    gw_slots_clear(&slots);
    for (uint32_t slot = h->load.first; slot <= h->load.last; slot++)
        if (map->owner[slot] == h->server)
            gw_slots_add(&slots, (uint16_t)slot);
    gw_slots_format(&slots, which, sizeof which);
    if (!strstr(which, "..."))
        snprintf(text, text_bytes, "migrate --slots %s --from %s --to %s", which,
                 map->server[h->server].id, map->server[least].id);
}

static json_t *hot_json(const struct gw_coordinator *c, const struct hot *h, const double *load)
{
    char hint[320];
    hint_of(c, h, load, hint, sizeof hint);
    return json_pack("{s:s, s:i, s:i, s:I, s:I, s:o, s:s}", "server",
                     gw_coordinator_map(c)->server[h->server].id, "first", (int)h->load.first,
                     "last", (int)h->load.last, "slots", (json_int_t)h->slots, "operations",
                     (json_int_t)h->load.operations, "operations_a_slot",
                     gwi_number_json((uint64_t)(h->per_slot + 0.5)), "hint", hint);
}

/* The ranges with most operations a slot, hottest first. */
json_t *gwi_admin_hot(struct gwi_admin_request *r)
{
    const struct gw_map *map = gw_coordinator_map(r->c);
    uint32_t n = 0;
    struct hot *hot = calloc((size_t)map->servers * GW_HEARTBEAT_LOADS_MAX + 1, sizeof *hot);
    double *load = calloc(map->servers + 1, sizeof *load);
    json_t *list = hot && load ? json_array() : NULL, *result = NULL;
    for (uint32_t i = 0; list && i < map->servers; i++) {
        const struct gw_heartbeat *last = gw_coordinator_server_numbers(r->c, i);
        for (uint32_t k = 0; k < last->loads && gw_coordinator_server_up(r->c, i); k++) {
            struct hot *h = &hot[n];
            *h = (struct hot){.server = i, .load = last->load[k]};
            for (uint32_t slot = h->load.first; slot <= h->load.last; slot++)
                h->slots += map->owner[slot] == i;
            h->per_slot = h->slots ? (double)h->load.operations / h->slots : 0;
            load[i] += h->slots ? (double)h->load.operations : 0;
            n += h->per_slot > 0;
        }
    }
    if (list) {
        qsort(hot, n, sizeof *hot, hotter);
        for (uint32_t k = 0; k < n && k < HOT_LISTED; k++)
            json_array_append_new(list, hot_json(r->c, &hot[k], load));
        result = json_pack("{s:o}", "ranges", list);
    }
    free(load);
    free(hot);
    return result;
}

json_t *gwi_admin_remove(struct gwi_admin_request *r)
{
    bool dry_run = false;
    const char *server = gwi_admin_text(r, "server");
    if (!server || !gwi_admin_switch(r, "dry_run", &dry_run))
        return NULL;
    r->status = gw_coordinator_remove(r->c, server, !dry_run, r->text, sizeof r->text);
    return r->status == GW_OK ? json_pack("{s:s, s:b}", "server", server, "removed", !dry_run)
                              : NULL;
}
