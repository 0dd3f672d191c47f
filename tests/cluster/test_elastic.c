/* test_elastic.c - the verbs of elasticity with real processes, under a writer that counts. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/cluster/harness.h"

#define KEYS 5000

/* The id that a verb has printed. */
static void id_of(const struct harness_run *run, char *id, size_t room)
{
    snprintf(id, room, "%.*s", (int)strcspn(run->out, "\n"), run->out);
    cr_assert(id[0] >= '1' && id[0] <= '9', "%s", run->out);
}

static void expect_status(struct gw_spawn *spawn, const char *words)
{
    struct harness_run run = HARNESS_EXPECT(spawn, 0, NULL, "status");
    cr_expect_not_null(strstr(run.out, words), "%s is not in:\n%s", words, run.out);
    harness_run_free(&run);
}

Test(elastic, grow_drain_rebalance_and_remove_under_load, .timeout = 120)
{
    struct gw_spawn spawn;
    struct harness_writer writer = {0};
    char file[] = "/tmp/godwit-plan-XXXXXX";
    int fd = mkstemp(file);
    cr_assert_geq(fd, 0);
    close(fd);
    harness_start(&spawn, 3);
    harness_writer_start(&writer, &spawn, "k", KEYS);
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "B", "--wait", "--timeout", "30");
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "C", "--wait", "--timeout", "30");
    HARNESS_CHECK(&spawn, 5, "rebalance", "--by", "bytes"); /* it is even: nothing to do */

    cr_assert(gw_spawn_server(&spawn, "D"), "%s", spawn.error);
    harness_until_healthy(&spawn);
    HARNESS_CHECK(&spawn, 0, "rebalance", "--by", "bytes", "--plan", file);
    HARNESS_CHECK(&spawn, 0, "drain", "A", "--dry-run");
    HARNESS_CHECK(&spawn, 0, "drain", "A", "--rate", "1GB/s", "--wait", "--timeout", "60");
    HARNESS_CHECK(&spawn, 5, "rebalance", "--apply", file); /* the map has changed since */
    HARNESS_CHECK(&spawn, 5, "migrate", "--slots", "0", "--from", "B", "--to", "A");
    HARNESS_CHECK(&spawn, 5, "remove", "B");
    HARNESS_CHECK(&spawn, 0, "remove", "A");
    expect_status(&spawn, "removed");
    HARNESS_CHECK(&spawn, 0, "split");

    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    harness_writer_free(&writer);
    unlink(file);
    harness_stop(&spawn);
}

Test(elastic, a_drain_goes_on_when_its_coordinator_was_killed_in_the_middle, .timeout = 120)
{
    struct gw_spawn spawn;
    struct harness_writer writer = {0};
    static const uint64_t delays_ms[] = {0, 10, 200, 700};
    harness_start(&spawn, 3);
    harness_writer_start(&writer, &spawn, "k", KEYS);
    for (size_t i = 0; i < sizeof delays_ms / sizeof delays_ms[0]; i++) {
        const char *server = i % 2 ? "B" : "A";
        struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "drain", server);
        char id[16];
        id_of(&run, id, sizeof id);
        harness_run_free(&run);
        harness_sleep_ms(delays_ms[i]);
        cr_assert_eq(gw_process_stop(&spawn.coordinator, SIGKILL, 5000), 128 + SIGKILL);
        cr_assert(gw_spawn_coordinator(&spawn), "%s", spawn.error);
        HARNESS_CHECK(&spawn, 0, "job", "watch", id, "--timeout", "60");
        harness_until_healthy(&spawn);
        HARNESS_CHECK(&spawn, 0, "job", "show", id);
        HARNESS_CHECK(&spawn, 0, "scale-out", "--to", server, "--wait", "--timeout", "60");
    }
    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    harness_writer_free(&writer);
    harness_stop(&spawn);
}

Test(elastic, a_plan_is_paused_resumed_and_cancelled_like_a_job, .timeout = 60)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 3);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "drain", "A", "--rate", "1KB/s");
    char id[16];
    id_of(&run, id, sizeof id);
    harness_run_free(&run);
    run = HARNESS_CLI(&spawn, NULL, "job", "pause", id);
    if (run.code == 0) { /* an empty drain may be over already */
        HARNESS_CHECK(&spawn, 7, "job", "watch", id, "--timeout", "1");
        HARNESS_CHECK(&spawn, 0, "job", "resume", id);
        HARNESS_CHECK(&spawn, 0, "job", "watch", id, "--timeout", "30");
    }
    harness_run_free(&run);
    HARNESS_CHECK(&spawn, 5, "job", "cancel", id);
    harness_stop(&spawn);
}
