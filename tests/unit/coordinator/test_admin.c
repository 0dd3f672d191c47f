/* test_admin.c - requests in JSON and their answers. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/admin.h"
#include "tests/unit/coordinator/world.h"

static struct world w;
static json_t *answer;

static void set_up(void)
{
    world_init(&w);
}
static void tear_down(void)
{
    json_decref(answer);
    world_fini(&w);
}
TestSuite(admin, .init = set_up, .fini = tear_down);

static json_t *ask_bytes(const char *request, size_t n)
{
    cr_assert_eq(gw_admin_execute(w.c, 900, 41, request, n), GW_OK);
    world_turn(&w);
    cr_assert_eq(world_last(&w, 900, GW_ACT_ADMIN_REPLY)->id, 41, "the request's id is echoed");
    json_decref(answer);
    answer = json_loads(w.reply, 0, NULL);
    cr_assert(json_is_object(answer), "%s", w.reply);
    return answer;
}
static json_t *ask(const char *request)
{
    return ask_bytes(request, strlen(request));
}

/* The request is refused with this status, and the sentence holds `mention`. */
static void refused(const char *request, const char *status, const char *mention)
{
    json_t *error = json_object_get(ask(request), "error");
    cr_expect_str_eq(json_string_value(json_object_get(error, "status")), status, "%s -> %s",
                     request, w.reply);
    cr_expect_not_null(strstr(json_string_value(json_object_get(error, "message")), mention),
                       "%s -> %s", request, w.reply);
}

static json_int_t number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    cr_assert(json_is_integer(value), "%s in %s", name, w.reply);
    return json_integer_value(value);
}
static const char *text(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    cr_assert(json_is_string(value), "%s in %s", name, w.reply);
    return json_string_value(value);
}

Test(admin, status_says_what_is)
{
    json_t *s = ask("{\"op\": \"status\"}");
    cr_expect_eq(json_array_size(json_object_get(s, "servers")), 0);
    cr_expect(json_is_false(json_object_get(s, "healthy")), "nobody owns anything yet");
    uint64_t a = world_join(&w, "a", 0xabc), b = world_join(&w, "b", 1), job;
    cr_assert_eq(world_migrate(&w, "100-199,300", "a", "b", &job), GW_OK);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    world_heartbeat(&w, a, 0xabc);
    s = ask("{\"op\": \"status\"}");
    cr_expect_eq(number(s, "map_version"), 3);
    cr_expect_str_eq(text(s, "cluster"), "c1c2c3c4c5c6c7c8");
    cr_expect(json_is_true(json_object_get(s, "healthy")));
    const json_t *server = json_array_get(json_object_get(s, "servers"), 0);
    cr_expect_str_eq(text(server, "id"), "a");
    cr_expect_str_eq(text(server, "address"), "a:7401");
    cr_expect_eq(number(server, "slots"), 16384 - 101);
    cr_expect_str_eq(text(server, "slot_ranges"), "0-99,200-299,301-16383");
    cr_expect_eq(number(server, "view"), 3);
    cr_expect_str_eq(text(server, "state"), "up");
    cr_expect_eq(number(server, "keys"), 7);
    cr_expect_eq(number(server, "operations"), 8);
    cr_expect_eq(number(server, "memory_used"), 0);
    cr_expect_eq(number(server, "memory_total"), 0);
    cr_expect_eq(number(server, "sessions"), 0);
    cr_expect_str_eq(text(server, "incarnation"), "0000000000000abc");
    cr_expect_eq(json_array_size(json_object_get(s, "jobs")), 1);
    gw_coordinator_link_lost(w.c, b);
    s = ask("{\"op\": \"status\"}");
    cr_expect(json_is_false(json_object_get(s, "healthy")));
    cr_expect_str_eq(text(json_array_get(json_object_get(s, "servers"), 1), "state"), "down");
}

Test(admin, a_job_from_its_making_to_its_end)
{
    uint64_t a = world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    uint64_t id = (uint64_t)
        number(ask("{\"op\":\"migrate\",\"slots\":\"0-9,20\",\"from\":\"a\",\"to\":\"b\"}"), "job");
    for (enum gw_job_event_kind e = GW_JOB_PROGRESS; e <= GW_JOB_CLOSED; e++) {
        world_pass(&w, 10);
        world_event(&w, a, id, e);
    }
    const json_t *job = json_object_get(ask("{\"op\":\"job-show\",\"id\":1}"), "job");
    cr_expect_eq(number(job, "id"), 1);
    cr_expect_str_eq(text(job, "state"), "done");
    cr_expect_str_eq(text(job, "from"), "a");
    cr_expect_str_eq(text(job, "to"), "b");
    cr_expect_str_eq(text(job, "slots"), "0-9,20");
    cr_expect_eq(number(job, "slot_count"), 11);
    cr_expect_eq(number(job, "bytes_moved"), 40);
    cr_expect_eq(number(job, "chunks"), 4);
    cr_expect_eq(number(job, "pulls"), 0);
    cr_expect_eq(number(job, "pause_us"), 0);
    cr_expect_str_eq(text(job, "phase"), "word 1");
    cr_expect_str_eq(text(job, "error"), "");
    cr_expect_eq(number(job, "created_ms"), 1700000000000);
    cr_expect_eq(number(job, "transferred_ms"), 1700000000020);
    cr_expect_eq(number(job, "finished_ms"), 1700000000040);
    cr_expect_eq(number(job, "updated_ms"), 1700000000040);
    cr_expect_eq(json_array_size(json_object_get(ask("{\"op\":\"job-list\"}"), "jobs")), 1);
    cr_expect_eq(json_array_size(
                     json_object_get(ask("{\"op\":\"scale-out\",\"to\":\"b\"}"), "jobs")),
                 1);
    job = json_object_get(ask("{\"op\":\"job-cancel\",\"id\":3}"), "job");
    cr_expect_str_eq(text(job, "state"), "cancelled");
    refused("{\"op\":\"job-cancel\",\"id\":1}", "e_refused", "job 1 has ended already: done");
}

Test(admin, what_makes_no_sense_is_refused_with_its_name_and_limit)
{
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    refused("", "e_invalid", "no JSON");
    refused("{", "e_invalid", "no JSON");
    refused("[]", "e_invalid", "object");
    refused("{\"op\":\"status\"} x", "e_invalid", "no JSON");
    refused("{\"op\":\"status\",\"op\":\"job-list\"}", "e_invalid", "no JSON");
    refused("{}", "e_invalid", "\"op\" is missing");
    refused("{\"op\":1}", "e_invalid", "\"op\" must be a string");
    refused("{\"op\":\"dance\"}", "e_invalid", "unknown op \"dance\"");
    refused("{\"op\":\"job-show\"}", "e_invalid", "\"id\" is missing");
    refused("{\"op\":\"job-show\",\"id\":\"1\"}", "e_invalid", "\"id\" must be");
    refused("{\"op\":\"job-show\",\"id\":-1}", "e_invalid", "1 or more");
    refused("{\"op\":\"job-show\",\"id\":1.5}", "e_invalid", "\"id\" must be");
    refused("{\"op\":\"job-show\",\"id\":9}", "not_found", "no job 9");
    refused("{\"op\":\"job-cancel\",\"id\":9}", "not_found", "no job 9");
    refused("{\"op\":\"scale-out\"}", "e_invalid", "\"to\" is missing");
    refused("{\"op\":\"scale-out\",\"to\":\"x\"}", "not_found", "no server x");
    refused("{\"op\":\"migrate\",\"slots\":\"0-9\",\"from\":\"a\"}", "e_invalid", "\"to\"");
    refused("{\"op\":\"migrate\",\"slots\":[1],\"from\":\"a\",\"to\":\"b\"}", "e_invalid",
            "\"slots\" must be a string");
    refused("{\"op\":\"migrate\",\"slots\":\"0-16384\",\"from\":\"a\",\"to\":\"b\"}", "e_invalid",
            "16383");
    refused("{\"op\":\"migrate\",\"slots\":\"\",\"from\":\"a\",\"to\":\"b\"}", "e_invalid",
            "\"slots\"");
    refused("{\"op\":\"migrate\",\"slots\":\"1\",\"from\":\"b\",\"to\":\"a\"}", "e_refused",
            "b does not own slots 1");
    refused("{\"op\":\"migrate\",\"slots\":\"1\",\"from\":\"x\",\"to\":\"a\"}", "not_found",
            "no server x");
    cr_expect_eq(gw_coordinator_jobs(w.c), 0);
}

Test(admin, requests_and_foreign_texts_of_any_bytes_get_an_answer)
{
    static char long_request[GW_ADMIN_REQUEST_BYTES_MAX + 1];
    memset(long_request, ' ', sizeof long_request);
    json_t *error = json_object_get(ask_bytes(long_request, sizeof long_request), "error");
    cr_expect_str_eq(text(error, "status"), "e_too_large");
    /* Cut in the midst of a character, a quoted word must not spoil the answer's UTF-8. */
    char request[256];
    int n = snprintf(request, sizeof request, "{\"op\":\"");
    for (int i = 0; i < 30; i++)
        n += snprintf(request + n, sizeof request - (size_t)n, "x\xc3\xa4");
    snprintf(request + n, sizeof request - (size_t)n, "\"}");
    refused(request, "e_invalid", "unknown op");
    uint64_t a = world_join(&w, "a", 1), job;
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    struct gw_job_event e = {.job = job, .event = GW_JOB_GAVE_UP, .text = "bad \xff\xfe bytes"};
    cr_assert_eq(gw_coordinator_job_event(w.c, a, &e), GW_OK);
    cr_expect_str_eq(text(json_object_get(ask("{\"op\":\"job-show\",\"id\":1}"), "job"), "error"),
                     "bad ?? bytes");
}

Test(admin, lists_cut_long_slot_texts_and_single_jobs_do_not)
{
    uint64_t job;
    char refusal[256];
    struct gw_slots odd;
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    gw_slots_clear(&odd);
    for (uint32_t slot = 1; slot < GW_SLOTS; slot += 2)
        gw_slots_add(&odd, (uint16_t)slot);
    cr_assert_eq(gw_coordinator_migrate(w.c, &odd, "a", "b", &job, refusal, sizeof refusal), GW_OK);
    const json_t *listed = json_array_get(json_object_get(ask("{\"op\":\"job-list\"}"), "jobs"), 0);
    cr_expect_leq(strlen(text(listed, "slots")), 1024);
    cr_expect_not_null(strstr(text(listed, "slots"), "..."));
    cr_expect_eq(number(listed, "slot_count"), 8192);
    const json_t *shown = json_object_get(ask("{\"op\":\"job-show\",\"id\":1}"), "job");
    struct gw_slots back;
    cr_assert_eq(gw_slots_parse(text(shown, "slots"), &back, NULL, 0), GW_OK);
    cr_expect_arr_eq(back.word, odd.word, sizeof odd.word);
}

Test(admin, a_job_is_paused_and_resumed)
{
    uint64_t job;
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    const json_t *shown = json_object_get(ask("{\"op\":\"job-pause\",\"id\":1}"), "job");
    cr_expect(json_is_true(json_object_get(shown, "paused")));
    cr_expect_str_eq(text(shown, "state"), "created");
    shown = json_object_get(ask("{\"op\":\"job-resume\",\"id\":1}"), "job");
    cr_expect(json_is_false(json_object_get(shown, "paused")));
    refused("{\"op\":\"job-pause\",\"id\":7}", "not_found", "no job 7");
    refused("{\"op\":\"job-pause\"}", "e_invalid", "id");
}

Test(admin, reviving_says_beforehand_what_it_loses)
{
    uint64_t job, a = world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    for (enum gw_job_event_kind e = GW_JOB_ASK_COMMIT; e <= GW_JOB_CLOSED; e++)
        world_event(&w, a, job, e);
    cr_assert_eq(world_migrate(&w, "20-24", "a", "b", &job), GW_OK);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_assert_eq(world_migrate(&w, "30", "a", "b", &job), GW_OK);
    refused("{\"op\":\"job-revive\",\"id\":2,\"lost\":\"b\"}", "e_refused", "heard of");
    refused("{\"op\":\"job-revive\",\"id\":2}", "e_invalid", "lost");
    refused("{\"op\":\"job-revive\",\"id\":2,\"lost\":\"b\",\"really\":1}", "e_invalid", "really");
    for (int i = 0; i < 20; i++) {
        world_pass(&w, 1000);
        world_heartbeat(&w, a, 1);
    }
    ask("{\"op\":\"job-revive\",\"id\":2,\"lost\":\"b\"}");
    cr_expect(json_is_false(json_object_get(answer, "revived")));
    cr_expect_str_eq(text(json_object_get(answer, "job"), "state"), "committed");
    const json_t *loses = json_object_get(answer, "loses");
    cr_expect_eq(number(loses, "slots"), 5);
    cr_expect_eq(number(loses, "other_slots"), 10);
    cr_expect_str_eq(text(loses, "other_slot_ranges"), "0-9");
    cr_expect_eq(number(loses, "other_jobs"), 1);
    cr_expect_eq(number(loses, "writes_since_ms"),
                 (json_int_t)gw_coordinator_job(w.c, 2)->transferred_ms);
    ask("{\"op\":\"job-revive\",\"id\":2,\"lost\":\"b\",\"really\":true}");
    cr_expect(json_is_true(json_object_get(answer, "revived")));
    cr_expect_str_eq(text(json_object_get(answer, "job"), "state"), "revived");
    cr_expect_eq(number(json_object_get(answer, "loses"), "other_slots"), 10);
    const json_t *b = json_array_get(json_object_get(ask("{\"op\":\"status\"}"), "servers"), 1);
    cr_expect_str_eq(text(b, "state"), "lost");
    cr_expect_str_eq(text(b, "durability"), "none");
}

/* A rebalance's draft as it was answered, in plan-apply, with one field changed. */
static const char *apply_with(const char *draft, const char *field, const char *json)
{
    static char request[GW_ADMIN_REQUEST_BYTES_MAX];
    json_t *changed = json_loads(draft, 0, NULL);
    json_t *value = json ? json_loads(json, JSON_DECODE_ANY, NULL) : NULL;
    cr_assert(changed);
    if (value)
        json_object_set_new(changed, field, value);
    else
        json_object_del(changed, field);
    char *text_of = json_dumps(changed, JSON_COMPACT);
    snprintf(request, sizeof request, "{\"op\":\"plan-apply\",\"draft\":%s}", text_of);
    free(text_of);
    json_decref(changed);
    return request;
}

Test(admin, a_plan_is_shown_kept_and_applied_and_one_that_is_not_whole_is_refused)
{
    uint64_t a = world_join(&w, "a", 1), b = world_join(&w, "b", 1);
    world_join(&w, "c", 1);
    gw_coordinator_link_lost(w.c, 3);
    refused("{\"op\":\"rebalance\"}", "e_busy", "server a has not said yet");
    world_heartbeat(&w, a, 1);
    world_heartbeat(&w, b, 1);
    json_t *shown = json_object_get(ask("{\"op\":\"rebalance\",\"dry_run\":true}"), "draft");
    cr_expect_eq(number(shown, "map_version"), (json_int_t)gw_coordinator_map(w.c)->version);
    cr_expect_str_eq(text(shown, "cluster"), "c1c2c3c4c5c6c7c8");
    cr_expect_str_eq(json_string_value(json_array_get(json_object_get(shown, "left_out"), 0)), "c");
    cr_expect_eq(json_array_size(json_object_get(shown, "before")), 3);
    cr_expect_eq(number(json_array_get(json_object_get(shown, "after"), 1), "slots"), 8192);
    cr_expect_geq(number(shown, "predicted_ms"), 1000);
    char *draft = json_dumps(shown, 0);
    cr_expect_eq(gw_coordinator_plans(w.c), 0);
    refused(apply_with(draft, "kind", "\"dance\""), "e_invalid", "kind");
    refused(apply_with(draft, "kind", NULL), "e_invalid", "kind");
    refused(apply_with(draft, "cluster", "\"c1c2c3c4c5c6c7c9\""), "mismatch", "of cluster");
    refused(apply_with(draft, "cluster", NULL), "e_invalid", "of cluster (none)");
    refused(apply_with(draft, "map_version", "99"), "mismatch", "map version 99");
    refused(apply_with(draft, "map_version", "-1"), "mismatch", "map version");
    refused(apply_with(draft, "map_version", "\"3\""), "e_invalid", "map_version");
    refused(apply_with(draft, "moves", NULL), "e_invalid", "moves");
    refused(apply_with(draft, "moves", "[]"), "e_refused", "nothing to move");
    refused(apply_with(draft, "moves", "[7]"), "e_invalid", "\"from\"");
    refused(apply_with(draft, "moves", "[{\"from\":\"a\",\"to\":\"x\",\"slots\":\"1\"}]"),
            "not_found", "server x");
    refused(apply_with(draft, "moves", "[{\"from\":\"a\",\"to\":\"c\",\"slots\":\"1\"}]"),
            "e_refused", "server c is down");
    refused(apply_with(draft, "moves", "[{\"from\":\"a\",\"to\":\"a\",\"slots\":\"1\"}]"),
            "e_invalid", "the same server");
    refused(apply_with(draft, "moves", "[{\"from\":\"b\",\"to\":\"a\",\"slots\":\"1\"}]"),
            "e_refused", "does not own");
    refused(apply_with(draft, "moves", "[{\"from\":\"a\",\"to\":\"b\",\"slots\":\"x\"}]"),
            "e_invalid", "slots of move 1");
    refused(apply_with(draft, "moves",
                       "[{\"from\":\"a\",\"to\":\"b\",\"slots\":\"1-9\"},"
                       "{\"from\":\"a\",\"to\":\"b\",\"slots\":\"9\"}]"),
            "e_invalid", "share slots");
    cr_expect_eq(gw_coordinator_plans(w.c), 0);
    cr_expect_eq(gw_coordinator_jobs(w.c), 0);
    cr_assert_eq(number(ask(apply_with(draft, "before", NULL)), "plan"), 1);
    free(draft);

    /* One of the two in words and numbers, before and while it runs. */
    json_t *plan = json_object_get(ask("{\"op\":\"job-show\",\"id\":1}"), "job");
    cr_expect_str_eq(text(plan, "state"), "running");
    cr_expect_eq(number(plan, "moves_running"), 1);
    cr_expect_str_eq(text(plan, "phase"), "move 2: created");
    cr_expect_gt(number(plan, "bytes_left"), 0, "by the draft");
    world_event(&w, a, 2, GW_JOB_PROGRESS);
    plan = json_object_get(ask("{\"op\":\"job-show\",\"id\":1}"), "job");
    cr_expect_str_eq(text(plan, "phase"), "move 2: word 1");
    cr_expect_eq(number(plan, "bytes_left"), 20);
    cr_expect_eq(number(plan, "records_left"), 21);
    cr_expect_eq(number(plan, "rate"), 22);
    cr_expect_eq(number(plan, "eta_ms"), 909);
    cr_expect_eq(number(plan, "indirections"), 23);
    cr_expect_eq(number(plan, "hot_records"), 24);
    cr_expect_eq(number(plan, "pull_leads"), 28);
    cr_expect_eq(number(plan, "retries"), 25);
    cr_expect_eq(number(plan, "pulls"), 0);
}

Test(admin, hot_ranges_come_with_a_hint)
{
    uint64_t link[2], job;
    link[0] = world_join(&w, "a", 1);
    link[1] = world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "8192-16383", "a", "b", &job), GW_OK);
    for (enum gw_job_event_kind e = GW_JOB_ASK_COMMIT; e <= GW_JOB_CLOSED; e++)
        world_event(&w, link[0], job, e);
    struct gw_heartbeat h = {.incarnation = 1, .loads = 2};
    h.map_version = gw_coordinator_map(w.c)->version;
    h.load[0] = (struct gw_load){10, 19, 3000};
    h.load[1] = (struct gw_load){77, 77, 90000};
    cr_assert_eq(gw_coordinator_heartbeat(w.c, link[0], &h), GW_OK);
    h.loads = 1;
    h.load[0] = (struct gw_load){9000, 9099, 1000};
    cr_assert_eq(gw_coordinator_heartbeat(w.c, link[1], &h), GW_OK);
    json_t *ranges = json_object_get(ask("{\"op\":\"hot\"}"), "ranges");
    cr_assert_eq(json_array_size(ranges), 3);
    cr_expect_eq(number(json_array_get(ranges, 0), "first"), 77);
    cr_expect_not_null(strstr(text(json_array_get(ranges, 0), "hint"), "cannot be divided"));
    cr_expect_str_eq(text(json_array_get(ranges, 1), "hint"),
                     "migrate --slots 10-19 --from a --to b");
    cr_expect_str_eq(text(json_array_get(ranges, 2), "hint"), "", "b has not too much");
}
