/* Goal: the programs as an operator meets them: flags, signals, restarts, what they cost at rest.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cluster/harness.h"

TestSuite(processes, .timeout = 120);

struct refusal {
    const char *program;
    const char *words[16];
    const char *named[2]; /* both must be in what is said */
};

Test(processes, flags_that_make_no_sense_are_refused_with_their_name_and_limit)
{
    static const struct refusal cases[] = {
        {"godwit-server", {"--data", "/tmp/x"}, {"--id", ""}},
        {"godwit-server",
         {"--id", "A", "--data", "/tmp/x", "--threads", "0"},
         {"--threads", "128"}},
        {"godwit-server",
         {"--id", "A", "--data", "/tmp/x", "--threads", "two"},
         {"--threads", "128"}},
        {"godwit-server",
         {"--id", "A", "--data", "/tmp/x", "--memory", "1KiB"},
         {"--memory", "32MiB"}},
        {"godwit-server",
         {"--id", "A", "--data", "/tmp/x", "--memory", "lots"},
         {"--memory", "lots"}},
        {"godwit-server",
         {"--id", "A", "--data", "/tmp/x", "--memory", "64MiB", "--index-memory", "64MiB"},
         {"--index-memory", "--memory"}},
        {"godwit-server", {"--id", "a b", "--data", "/tmp/x"}, {"--id", "63"}},
        {"godwit-server",
         {"--id", "A", "--data", "/tmp/x", "--listen", "7401"},
         {"--listen", "HOST:PORT"}},
        {"godwit-server",
         {"--id", "A", "--data", "/tmp/x", "--listen", "h:70000"},
         {"--listen", "65535"}},
        {"godwit-server",
         {"--id", "A", "--data", "/tmp/x", "--coordinator", "x"},
         {"--coordinator", "HOST:PORT"}},
        {"godwit-server", {"--no-such-flag"}, {"no-such-flag", ""}},
        {"godwit-coordinator", {"--listen", "nowhere"}, {"--listen", ""}},
        {"godwit-coordinator", {"--store", "file:/tmp/x"}, {"--store", "sqlite:"}},
        {"godwit-coordinator", {"--no-such-flag"}, {"no-such-flag", ""}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct harness_run run = harness_run_program(cases[i].program, cases[i].words, NULL, 0);
        cr_expect_eq(run.code, 2, "%s %s: exit code %d", cases[i].program, cases[i].named[0],
                     run.code);
        cr_expect_str_eq(run.out, "");
        for (int j = 0; j < 2; j++)
            cr_expect(strstr(run.err, cases[i].named[j]), "%s: '%s' is not in: %s",
                      cases[i].program, cases[i].named[j], run.err);
        harness_run_free(&run);
    }
}

Test(processes, an_address_in_use_is_said_and_ends_the_program)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    char data[200], store[200];
    snprintf(data, sizeof data, "%s/other", spawn.directory);
    snprintf(store, sizeof store, "sqlite:%s/other.db", spawn.directory);
    const char *server[] = {"--id",
                            "B",
                            "--listen",
                            spawn.servers[0].address,
                            "--coordinator",
                            spawn.coordinator_address,
                            "--data",
                            data,
                            "--threads",
                            "1",
                            "--memory",
                            "64MiB",
                            NULL};
    struct harness_run run = harness_run_program("godwit-server", server, NULL, 0);
    cr_expect_eq(run.code, 1);
    cr_expect(strstr(run.err, spawn.servers[0].address), "%s", run.err);
    harness_run_free(&run);
    const char *coordinator[] = {"--listen", spawn.coordinator_address, "--store", store, NULL};
    run = harness_run_program("godwit-coordinator", coordinator, NULL, 0);
    cr_expect_eq(run.code, 1);
    cr_expect(strstr(run.err, spawn.coordinator_address), "%s", run.err);
    harness_run_free(&run);
    harness_stop(&spawn);
}

Test(processes, they_stop_cleanly_on_sigterm)
{
    struct gw_spawn spawn;
    struct harness_writer writer = {0};
    harness_start(&spawn, 2);
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "B", "--wait", "--timeout", "30");
    harness_writer_start(&writer, &spawn, "k", 1000);
    harness_sleep_ms(100);
    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    struct gw_session *session; /* connected while they stop */
    cr_assert_eq(gw_session_open(writer.cluster, NULL, &session), GW_OK);
    (void)gw_get_sync(session, "k1", 2, NULL);
    uint64_t start = harness_now_ms();
    cr_expect_eq(gw_process_stop(&spawn.servers[0].process, SIGTERM, 5000), 0);
    cr_expect_eq(gw_process_stop(&spawn.servers[1].process, SIGINT, 5000), 0);
    cr_expect_eq(gw_process_stop(&spawn.coordinator, SIGTERM, 5000), 0);
    cr_expect_lt(harness_now_ms() - start, 4000);
    gw_session_close(session);
    harness_writer_free(&writer);
    harness_stop(&spawn);
}

Test(processes, a_coordinator_that_restarts_remembers_the_map)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 2);
    HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-999", "--from", "A", "--to", "B", "--wait",
                  "--timeout", "30");
    HARNESS_CHECK(&spawn, 0, "set", "k", "7");
    struct harness_run before = HARNESS_EXPECT(&spawn, 0, NULL, "job", "list");
    cr_assert_eq(gw_process_stop(&spawn.coordinator, SIGKILL, 5000), 128 + SIGKILL);
    cr_assert(gw_spawn_coordinator(&spawn), "%s", spawn.error);
    harness_until_healthy(&spawn);
    struct harness_run after = HARNESS_EXPECT(&spawn, 0, NULL, "job", "list");
    cr_expect_str_eq(after.out, before.out);
    harness_run_free(&before);
    harness_run_free(&after);
    after = HARNESS_EXPECT(&spawn, 0, NULL, "incr", "k");
    cr_expect_str_eq(after.out, "8\n");
    harness_run_free(&after);
    after = HARNESS_EXPECT(&spawn, 0, NULL, "status");
    cr_expect(strstr(after.out, "1000"), "%s", after.out);
    harness_run_free(&after);
    harness_stop(&spawn);
}

static uint64_t processor_ms(const struct gw_spawn *spawn)
{
    uint64_t ms = gw_process_processor_ms(spawn->coordinator.pid);
    for (uint32_t i = 0; i < spawn->server_count; i++)
        ms += gw_process_processor_ms(spawn->servers[i].process.pid);
    return ms;
}

Test(processes, an_idle_cluster_takes_under_one_percent_of_a_core)
{
    enum { IDLE_MS = 4000 };
    struct gw_spawn spawn;
    struct harness_writer writer = {0};
    harness_start(&spawn, 2);
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "B", "--wait", "--timeout", "30");
    harness_writer_start(&writer, &spawn, "k", 1000);
    harness_sleep_ms(100);
    harness_writer_stop(&writer);
    struct gw_session *session; /* connected and silent */
    cr_assert_eq(gw_session_open(writer.cluster, NULL, &session), GW_OK);
    (void)gw_get_sync(session, "k1", 2, NULL);
    harness_sleep_ms(500);
    uint64_t before = processor_ms(&spawn);
    cr_assert_gt(before, 0, "the writer's work does not show: nothing is measured");
    harness_sleep_ms(IDLE_MS);
    uint64_t used = processor_ms(&spawn) - before;
    fprintf(stderr, "idle: %llu ms of processor time in %d ms\n", (unsigned long long)used,
            IDLE_MS);
    cr_expect_lt(used, IDLE_MS / 100);
    gw_session_close(session);
    harness_writer_free(&writer);
    harness_stop(&spawn);
}
