/* admin_plan.c - plans in JSON: scale-out, drain, rebalance, plan-apply, hot, remove.
 * A draft is an object that can be kept in a file and given back to plan-apply; of it only kind,
 * server, map_version and the moves are read. Rules: admin.c; design: docs/ADMIN.md. */
#include <inttypes.h>
#include <stdlib.h>

#include "coordinator/admin_internal.h"

#define HOT_LISTED 32u

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
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "kind",
                     gw_plan_kind_name(draft->kind), "server",
                     draft->kind == GW_PLAN_REBALANCE ? "" : map->server[draft->server].id,
                     "map_version", gwi_number_json(draft->map_version), "bytes",
                     gwi_number_json((uint64_t)draft->bytes), "predicted_ms",
                     gwi_number_json(draft->ms), "before",
                     shares_json(c, draft->before, draft->servers), "after",
                     shares_json(c, draft->after, draft->servers), "moves", moves);
}

json_t *gwi_plan_json(const struct gw_coordinator *c, const struct gw_plan_record *plan)
{
    uint64_t bytes = 0, left = 0, rate = 0, pause_ns = 0;
    json_t *ids = json_array();
    for (uint32_t i = 0; i < gw_coordinator_jobs(c); i++) {
        const struct gw_job_record *job = gw_coordinator_job_at(c, i);
        if (job->plan != plan->id)
            continue;
        json_array_append_new(ids, gwi_number_json(job->id));
        bytes += job->bytes_moved;
        if (job->pause_ns > pause_ns)
            pause_ns = job->pause_ns;
        if (gw_job_is_open(job->state)) {
            left += job->bytes_left;
            rate += job->rate;
        }
    }
    const char *server = gw_coordinator_map(c)->server[plan->server].id;
    return json_pack(
        "{s:o, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o}",
        "id", gwi_number_json(plan->id), "kind", gw_plan_kind_name(plan->kind), "state",
        plan->state != GW_JOB_CREATED ? gw_job_state_name(plan->state)
        : plan->ending                ? "ending"
                                      : "running",
        "from", plan->kind == GW_PLAN_DRAIN ? server : "", "to",
        plan->kind == GW_PLAN_SCALE_OUT ? server : "", "paused", plan->paused, "moves",
        (json_int_t)plan->moves, "moves_done", (json_int_t)plan->moves_done, "jobs", ids,
        "bytes_moved", gwi_number_json(bytes), "bytes_left", gwi_number_json(left), "rate",
        gwi_number_json(rate), "pause_us", gwi_number_json(pause_ns / 1000), "map_version",
        gwi_number_json(plan->map_version), "created_ms", gwi_number_json(plan->created_ms),
        "updated_ms", gwi_number_json(plan->updated_ms), "finished_ms",
        gwi_number_json(plan->finished_ms), "error", gwi_foreign_json(plan->error));
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
    r->status =
        gw_plan_scale_out(r->c, to, common.options.rate_bytes, &draft, r->text, sizeof r->text);
    return r->status == GW_OK ? conclude(r, &common, &draft) : NULL;
}

json_t *gwi_admin_drain(struct gwi_admin_request *r)
{
    struct common common;
    struct gw_plan_draft draft;
    const char *server = gwi_admin_text(r, "server");
    if (!server || !common_fields(r, &common))
        return NULL;
    r->status =
        gw_plan_drain(r->c, server, common.options.rate_bytes, &draft, r->text, sizeof r->text);
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
    r->status = gw_plan_rebalance(r->c, names[i].by, common.options.rate_bytes, &draft, r->text,
                                  sizeof r->text);
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
        gwi_admin_refuse(r, GW_E_INVALID, "a plan has kind, map_version and moves (at most %u)",
                         GW_JOBS_OPEN_MAX - 1);
        return false;
    }
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
    if (!draft_of(r, json, &draft) ||
        gw_plan_of_moves(r->c, common.options.rate_bytes, &draft) != GW_OK) {
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

/* The ranges with most operations a slot, hottest first. */
json_t *gwi_admin_hot(struct gwi_admin_request *r)
{
    const struct gw_map *map = gw_coordinator_map(r->c);
    uint32_t n = 0;
    struct hot *hot = calloc((size_t)map->servers * GW_HEARTBEAT_LOADS_MAX + 1, sizeof *hot);
    json_t *list = json_array();
    for (uint32_t i = 0; hot && i < map->servers; i++) {
        const struct gw_heartbeat *last = gw_coordinator_server_numbers(r->c, i);
        for (uint32_t k = 0; k < last->loads; k++) {
            struct hot *h = &hot[n];
            *h = (struct hot){.server = i, .load = last->load[k]};
            for (uint32_t slot = h->load.first; slot <= h->load.last; slot++)
                h->slots += map->owner[slot] == i;
            h->per_slot = h->slots ? (double)h->load.operations / h->slots : 0;
            n += h->per_slot > 0;
        }
    }
    if (hot)
        qsort(hot, n, sizeof *hot, hotter);
    for (uint32_t k = 0; hot && k < n && k < HOT_LISTED; k++) {
        const char *id = map->server[hot[k].server].id;
        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:i, s:I, s:I, s:o}", "server", id, "first",
                                        (int)hot[k].load.first, "last", (int)hot[k].load.last,
                                        "slots", (json_int_t)hot[k].slots, "operations",
                                        (json_int_t)hot[k].load.operations, "operations_a_slot",
                                        gwi_number_json((uint64_t)(hot[k].per_slot + 0.5))));
    }
    json_t *result = hot ? json_pack("{s:o}", "ranges", list) : NULL;
    if (!hot)
        json_decref(list);
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
