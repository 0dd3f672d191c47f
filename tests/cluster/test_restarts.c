/* Goal: room that restarts and checkpoints leave empty comes back: a small store on a small disk
 * goes on for ever, however often it is killed and however often somebody asks for a checkpoint.
 * How: a real server whose disk would be full of begun segments and closed pages many times over.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/harness.h"

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
