/* Goal: a job ships as fast as its rate says, no faster and not much slower, and a paused one ships
 * nothing while its keys are served.
 * How: real processes; records of a known size, and the job's own numbers. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cluster/harness.h"

TestSuite(pace, .timeout = 120);

#define KEYS        60000u
#define VALUE_BYTES 200u
#define RATE        (4u << 20)

static void stored(void *ctx, const struct gw_result *result)
{
    *(bool *)ctx |= result->status != GW_OK;
}

static void fill(struct gw_cluster *cluster)
{
    struct gw_session *session;
    static uint8_t value[VALUE_BYTES];
    char key[32];
    bool failed = false;
    cr_assert_eq(gw_session_open(cluster, NULL, &session), GW_OK);
    for (uint32_t i = 0; i < KEYS; i++) {
        enum gw_status st;
        size_t n = (size_t)snprintf(key, sizeof key, "key%u", i);
        while ((st = gw_set(session, key, n, value, sizeof value, stored, &failed)) ==
               GW_WOULD_BLOCK)
            (void)gw_poll(session, 10);
        cr_assert_eq(st, GW_OK);
    }
    cr_assert_eq(gw_drain(session, 30000), GW_OK);
    cr_assert_not(failed);
    gw_session_close(session);
}

/* Asks the coordinator by a document, as an operator's program would; the answer is the caller's.
 */
static json_t *ask(struct gw_spawn *spawn, json_t *request)
{
    static uint8_t room[1 << 20];
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    int fd = harness_connect(spawn->coordinator_address);
    size_t bytes = harness_frame(room, (struct gw_frame){.kind = GW_KIND_ADMIN, .session = 1}, text,
                                 strlen(text));
    cr_assert(harness_send(fd, room, bytes));
    free(text);
    long got = harness_read_frame(fd, room, sizeof room, 10000);
    close(fd);
    cr_assert_gt(got, (long)GW_FRAME_HEADER);
    json_t *answer =
        json_loadb((const char *)room + GW_FRAME_HEADER, (size_t)got - GW_FRAME_HEADER, 0, NULL);
    cr_assert_not_null(answer);
    return answer;
}

static json_t *job_of(struct gw_spawn *spawn)
{
    struct harness_run run = HARNESS_EXPECT(spawn, 0, NULL, "--json", "job", "show", "1");
    json_t *job = json_loadb(run.out, run.out_bytes, 0, NULL);
    harness_run_free(&run);
    cr_assert_not_null(job);
    return job;
}

static uint64_t number(const json_t *job, const char *name)
{
    const json_t *in = json_object_get(job, "job");
    const json_t *value = json_object_get(in ? in : job, name);
    cr_assert(json_is_integer(value), "no number %s", name);
    return (uint64_t)json_integer_value(value);
}

static uint64_t number_now(struct gw_spawn *spawn, const char *name)
{
    json_t *job = job_of(spawn);
    uint64_t is = number(job, name);
    json_decref(job);
    return is;
}

/* All slots from A to B at RATE. */
static void start_move(struct gw_spawn *spawn, struct gw_cluster **cluster)
{
    harness_start(spawn, 2);
    cr_assert_eq(gw_cluster_open(spawn->coordinator_address, NULL, cluster), GW_OK);
    fill(*cluster);
    json_decref(
        ask(spawn, json_pack("{s:s, s:s, s:s, s:s, s:i, s:b}", "op", "migrate", "slots", "0-16383",
                             "from", "A", "to", "B", "rate", (int)RATE, "sampling", 0)));
}

Test(pace, a_rate_is_kept)
{
    struct gw_spawn spawn = {.server_flags = NULL};
    struct gw_cluster *cluster;
    start_move(&spawn, &cluster);
    HARNESS_CHECK(&spawn, 0, "job", "watch", "1", "--timeout", "60");
    json_t *job = job_of(&spawn);
    double bytes = (double)number(job, "bytes_moved");
    double seconds = (double)(number(job, "finished_ms") - number(job, "transferred_ms")) / 1000;
    json_decref(job);
    fprintf(stderr, "%.1f MB in %.2f s: %.2f of the rate\n", bytes / 1e6, seconds,
            bytes / seconds / RATE);
    cr_expect_gt(bytes, (double)KEYS * VALUE_BYTES);
    cr_expect_lt(bytes / seconds, 1.2 * RATE);
    cr_expect_gt(bytes / seconds, 0.8 * RATE);
    gw_cluster_close(cluster);
    harness_stop(&spawn);
}

Test(pace, a_paused_job_ships_nothing_and_its_keys_are_served)
{
    struct gw_spawn spawn = {.server_flags = NULL};
    struct gw_cluster *cluster;
    struct gw_session *session;
    start_move(&spawn, &cluster);
    uint64_t until = harness_now_ms() + 10000;
    while (number_now(&spawn, "records_moved") == 0 && harness_now_ms() < until)
        harness_sleep_ms(20);
    HARNESS_CHECK(&spawn, 0, "job", "pause", "1");
    harness_sleep_ms(400); /* the source knows, and the coordinator its last number */
    uint64_t before = number_now(&spawn, "records_moved");
    cr_assert_gt(before, 0);
    cr_assert_lt(before, KEYS, "too fast for this test");
    harness_sleep_ms(700);
    cr_expect_eq(number_now(&spawn, "records_moved"), before);

    /* What is not there yet is pulled; nothing else comes with it. */
    cr_assert_eq(gw_session_open(cluster, NULL, &session), GW_OK);
    for (uint32_t i = 0; i < 200; i++) {
        char key[32];
        size_t n = (size_t)snprintf(key, sizeof key, "key%u", i * 7);
        struct gw_result result = {0};
        cr_assert_eq(gw_get_sync(session, key, n, &result), GW_OK, "key %u", i * 7);
    }
    gw_session_close(session);
    harness_sleep_ms(400);
    uint64_t after = number_now(&spawn, "records_moved");
    cr_expect_leq(after, before + 200);

    HARNESS_CHECK(&spawn, 0, "job", "resume", "1");
    HARNESS_CHECK(&spawn, 0, "job", "watch", "1", "--timeout", "60");
    cr_expect_geq(number_now(&spawn, "records_moved"), KEYS);
    gw_cluster_close(cluster);
    harness_stop(&spawn);
}
