/* Goal: room that restarts and checkpoints leave empty comes back: a small store on a small disk
 * goes on for ever, however often it is killed and however often somebody asks for a checkpoint;
 * and what a server compacts while it recovers is as careful as later (MIGRATION.md rule 13).
 * How: a real server whose disk would be full of begun segments and closed pages many times over; a
 * target that is killed in the middle of a move with a log that is mostly garbage.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/harness.h"
#include "tests/cluster/recovery.h"

TestSuite(restarts, .timeout = 240);

static const char *const commit_flags[] = {"--disk=96MiB", "--durability=commit",
                                           "--checkpoint-interval=0", NULL};
static const char *const memory_flags[] = {"--disk=96MiB", "--checkpoint-interval=0", NULL};

static void kill_and_restart(struct gw_spawn *spawn)
{
    (void)gw_process_stop(&spawn->servers[0].process, SIGKILL, 5000);
    cr_assert(gw_spawn_server(spawn, "A"), "%s", spawn->error);
}

Test(restarts, a_small_disk_is_not_filled_by_begun_segments)
{
    struct gw_spawn spawn;
    char wanted[32];
    uint32_t times = (uint32_t)harness_scaled(24);
    times = times < 16 ? 16 : times;
    harness_start_with(&spawn, 1, 64u << 20, commit_flags);
    for (uint32_t i = 1; i <= times; i++) {
        struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "incr", "k");
        snprintf(wanted, sizeof wanted, "%u\n", i);
        cr_assert_str_eq(run.out, wanted, "start %u", i);
        harness_run_free(&run);
        kill_and_restart(&spawn);
    }
    harness_stop(&spawn);
}

Test(restarts, a_small_disk_is_not_filled_by_checkpoints)
{
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    struct gw_session *session;
    uint32_t times = (uint32_t)harness_scaled(400);
    times = times < 200 ? 200 : times;
    harness_start_with(&spawn, 1, 64u << 20, memory_flags);
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &session), GW_OK);
    for (uint32_t i = 1; i <= times; i++) {
        struct gw_result result = {0};
        cr_assert_eq(gw_add_sync(session, "k", 1, 1, 0, &result), GW_OK, "add %u: %s", i,
                     gw_status_name(result.status));
        cr_assert_eq(result.number, i);
        cr_assert_eq(gw_session_sync(session, 20000), GW_OK, "sync %u", i);
    }
    gw_session_close(session);
    gw_cluster_close(cluster);
    kill_and_restart(&spawn);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "k");
    cr_expect_eq(strtoul(run.out, NULL, 10), times);
    harness_run_free(&run);
    harness_stop(&spawn);
}

#define GONE       2000u
#define LARGE_KEYS 6000u
#define LARGE      8192u

static void set_large(struct gw_session *session, const char *prefix, uint32_t i)
{
    static char value[LARGE];
    char key[32];
    int n = snprintf(key, sizeof key, "%s%u", prefix, i);
    cr_assert_eq(gw_set_sync(session, key, (size_t)n, value, sizeof value, NULL), GW_OK);
}

static enum gw_status gone(enum gw_status (*verb)(struct gw_session *, const void *, size_t,
                                                  struct gw_result *),
                           struct gw_session *session, uint32_t i)
{
    struct gw_result result;
    char key[32];
    int n = snprintf(key, sizeof key, "gone%u", i);
    return verb(session, key, (size_t)n, &result);
}

static int64_t log_begin(const struct gw_spawn_server *server)
{
    json_t *stats = recovery_stats(server);
    const json_t *bytes = json_object_get(stats, "log_begin");
    cr_assert(json_is_integer(bytes));
    int64_t value = json_integer_value(bytes);
    json_decref(stats);
    return value;
}

static void wait_for_job(struct gw_spawn *spawn, const char *state)
{
    for (uint64_t end = harness_now_ms() + 60000;;) {
        struct harness_run run = HARNESS_EXPECT(spawn, 0, NULL, "--json", "job", "list");
        bool there = strstr(run.out, state) != NULL;
        harness_run_free(&run);
        if (there)
            return;
        cr_assert_lt(harness_now_ms(), end, "the job is not %s", state);
    }
}

/* The target's tombstones lie in its oldest segments, before much garbage, when it is killed: what
 * it makes room of while it recovers must not forget them, for the source sends the records again.
 */
Test(restarts, what_was_deleted_in_a_move_stays_deleted_when_the_target_compacts_in_recovery)
{
    static const char *const flags[] = {"--disk=512MiB", "--segment-size=8MiB",
                                        "--durability=commit", "--checkpoint-interval=0", NULL};
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    struct gw_session *session;
    harness_start_with(&spawn, 2, 64u << 20, flags);
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &session), GW_OK);
    for (uint32_t i = 0; i < GONE; i++) {
        char key[32];
        int n = snprintf(key, sizeof key, "gone%u", i);
        cr_assert_eq(gw_set_sync(session, key, (size_t)n, "old", 3, NULL), GW_OK);
    }
    for (uint32_t i = 0; i < LARGE_KEYS; i++)
        set_large(session, "heavy", i); /* so that the move takes its time */
    HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-16383", "--from", "A", "--to", "B");
    wait_for_job(&spawn, "\"committed\"");
    HARNESS_CHECK(&spawn, 0, "job", "pause", "1");
    for (uint32_t i = 0; i < GONE; i++)
        cr_assert_eq(gone(gw_delete_sync, session, i), GW_OK, "key %u", i);
    for (uint32_t i = 0; i < 6 * LARGE_KEYS; i++)
        set_large(session, "new", i % LARGE_KEYS);
    recovery_kill(&spawn, "B");
    cr_assert(gw_spawn_server(&spawn, "B"), "%s", spawn.error);
    cr_assert_gt(log_begin(&spawn.servers[1]), 8 << 20, "nothing was compacted in recovery");
    recovery_take_checkpoint(&spawn.servers[1]);
    recovery_take_checkpoint(&spawn.servers[1]);
    HARNESS_CHECK(&spawn, 0, "job", "resume", "1");
    wait_for_job(&spawn, "\"done\"");
    uint32_t back = 0;
    for (uint32_t i = 0; i < GONE; i++)
        back += gone(gw_get_sync, session, i) != GW_NOT_FOUND;
    cr_expect_eq(back, 0, "%u of %u deleted keys are back", back, GONE);
    gw_session_close(session);
    gw_cluster_close(cluster);
    harness_stop(&spawn);
}

/* A target whose newest checkpoint is older than the range recovers what it was told since from its
 * logs, and makes a checkpoint of that: killed again, it begins there. */
Test(restarts, what_was_written_in_a_move_survives_two_kills_of_the_target)
{
    static const char *const flags[] = {"--disk=512MiB", "--segment-size=8MiB",
                                        "--durability=commit", "--checkpoint-interval=0", NULL};
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    struct gw_session *session;
    char key[32];
    harness_start_with(&spawn, 2, 64u << 20, flags);
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &session), GW_OK);
    for (uint32_t i = 0; i < GONE; i++) {
        int n = snprintf(key, sizeof key, "gone%u", i);
        cr_assert_eq(gw_set_sync(session, key, (size_t)n, "old", 3, NULL), GW_OK);
    }
    for (uint32_t i = 0; i < LARGE_KEYS; i++)
        set_large(session, "heavy", i);
    recovery_take_checkpoint(&spawn.servers[1]);
    HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-16383", "--from", "A", "--to", "B");
    wait_for_job(&spawn, "\"committed\"");
    HARNESS_CHECK(&spawn, 0, "job", "pause", "1");
    for (uint32_t i = 0; i < GONE; i++) {
        int n = snprintf(key, sizeof key, "gone%u", i);
        cr_assert_eq(gw_set_sync(session, key, (size_t)n, "new", 3, NULL), GW_OK);
    }
    for (int kills = 0; kills < 2; kills++) {
        recovery_kill(&spawn, "B");
        cr_assert(gw_spawn_server(&spawn, "B"), "%s", spawn.error);
    }
    HARNESS_CHECK(&spawn, 0, "job", "resume", "1");
    wait_for_job(&spawn, "\"done\"");
    uint32_t lost = 0;
    for (uint32_t i = 0; i < GONE; i++) {
        struct gw_result result;
        int n = snprintf(key, sizeof key, "gone%u", i);
        enum gw_status st = gw_get_sync(session, key, (size_t)n, &result);
        lost += st != GW_OK || result.value_bytes != 3 || memcmp(result.value, "new", 3) != 0;
    }
    cr_expect_eq(lost, 0, "%u of %u acknowledged writes are lost", lost, GONE);
    gw_session_close(session);
    gw_cluster_close(cluster);
    harness_stop(&spawn);
}
