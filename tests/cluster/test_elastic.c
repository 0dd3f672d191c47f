/* test_elastic.c - the verbs of elasticity with real processes, under a writer that counts. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/cluster/recovery.h"

#define KEYS        5000
#define VALUE_BYTES 100

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

/* Until every key is there: from then on what the servers hold does not change. */
static void until_filled(const struct harness_writer *writer)
{
    uint64_t end = harness_now_ms() + 60000;
    while (harness_writer_total(writer) < 14 * (uint64_t)KEYS) {
        cr_assert_lt(harness_now_ms(), end, "the writer is too slow");
        harness_sleep_ms(10);
    }
    harness_sleep_ms(700); /* and the coordinator knows */
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
    until_filled(&writer);
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "B", "--wait", "--timeout", "30");
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "C", "--wait", "--timeout", "30");
    struct harness_run even =
        HARNESS_EXPECT(&spawn, 0, NULL, "rebalance", "--by", "bytes", "--dry-run");
    cr_assert_not_null(strstr(even.out, "\n0 moves "), "it is even, but:\n%s", even.out);
    harness_run_free(&even);
    HARNESS_CHECK(&spawn, 5, "rebalance", "--by", "bytes");

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

/* Healthy is said when those are up that own slots; these steps need all. */
static void until_nobody_is_down(struct gw_spawn *spawn)
{
    uint64_t end = harness_now_ms() + 20000;
    for (bool down = true; down; harness_sleep_ms(10)) {
        cr_assert_lt(harness_now_ms(), end, "a server does not join again");
        struct harness_run run = HARNESS_CLI(spawn, NULL, "status");
        down = run.code != 0 || strstr(run.out, " down ") != NULL;
        harness_run_free(&run);
    }
}

static const char *const steps[][4] = {{"rebalance"},
                                       {"drain", "A"},
                                       {"scale-out", "--to", "A"},
                                       {"drain", "B"},
                                       {"scale-out", "--to", "B"}};
#define STEPS (sizeof steps / sizeof steps[0])

static uint64_t random_ms(struct gw_rand *rand, uint64_t most)
{
    return gw_rand_below(rand, 4) ? gw_rand_below(rand, most) : gw_rand_below(rand, 20);
}

static void seed(struct gw_rand *rand)
{
    uint64_t number = gw_rand_system_seed();
    fprintf(stderr, "seed %llu\n", (unsigned long long)number);
    gw_rand_init(rand, number);
}

Test(elastic, plans_go_on_when_their_coordinator_was_killed_at_any_moment, .timeout = 200)
{
    struct gw_spawn spawn;
    struct harness_writer writer = {0};
    struct gw_rand rand;
    seed(&rand);
    harness_start(&spawn, 3);
    harness_writer_start(&writer, &spawn, "k", KEYS);
    for (size_t i = 0; i < STEPS; i++) {
        struct harness_run run = harness_expect(&spawn, 0, NULL, steps[i]);
        char id[16];
        id_of(&run, id, sizeof id);
        harness_run_free(&run);
        for (int kills = 0; kills < 2; kills++) {
            harness_sleep_ms(random_ms(&rand, 500));
            cr_assert_eq(gw_process_stop(&spawn.coordinator, SIGKILL, 5000), 128 + SIGKILL);
            cr_assert(gw_spawn_coordinator(&spawn), "%s", spawn.error);
        }
        HARNESS_CHECK(&spawn, 0, "job", "watch", id, "--timeout", "60");
        until_nobody_is_down(&spawn);
        HARNESS_CHECK(&spawn, 0, "job", "show", id);
    }
    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    harness_writer_free(&writer);
    harness_stop(&spawn);
}

static uint64_t number_of(struct gw_spawn *spawn, const char *id, const char *name)
{
    struct harness_run run = HARNESS_EXPECT(spawn, 0, NULL, "--json", "job", "show", id);
    json_t *answer = json_loadb(run.out, run.out_bytes, 0, NULL);
    const json_t *value = json_object_get(json_object_get(answer, "job"), name);
    cr_assert(json_is_integer(value), "no number %s in %s", name, run.out);
    uint64_t number = (uint64_t)json_integer_value(value);
    json_decref(answer);
    harness_run_free(&run);
    return number;
}

/* KEYS keys of VALUE_BYTES bytes. */
static void fill(struct gw_spawn *spawn)
{
    static char tsv[KEYS * (VALUE_BYTES + 16)], value[VALUE_BYTES + 1];
    size_t n = 0;
    memset(value, 'v', VALUE_BYTES);
    for (uint32_t i = 0; i < KEYS; i++)
        n += (size_t)snprintf(tsv + n, sizeof tsv - n, "f%u\t%s\n", i, value);
    struct harness_run run = HARNESS_EXPECT(spawn, 0, tsv, "load", "--bytes");
    harness_run_free(&run);
}

/* Goal: a paused plan ships nothing, a resumed one everything. The rate makes it last for seconds.
 */
Test(elastic, a_plan_is_paused_resumed_and_cancelled_like_a_job, .timeout = 120)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 3);
    fill(&spawn);
    harness_sleep_ms(700); /* the coordinator knows what there is */
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "drain", "A", "--rate", "100KB/s");
    char id[16];
    id_of(&run, id, sizeof id);
    harness_run_free(&run);
    cr_expect_gt(number_of(&spawn, id, "bytes_left"), 0, "what waits counts");
    for (uint64_t end = harness_now_ms() + 20000; number_of(&spawn, id, "bytes_moved") == 0;) {
        cr_assert_lt(harness_now_ms(), end, "nothing moves");
        harness_sleep_ms(20);
    }
    HARNESS_CHECK(&spawn, 0, "job", "pause", id);
    harness_sleep_ms(700); /* the source knows, and the coordinator its last number */
    uint64_t moved = number_of(&spawn, id, "bytes_moved");
    cr_assert_lt(moved, KEYS * VALUE_BYTES, "too fast for this test");
    HARNESS_CHECK(&spawn, 7, "job", "watch", id, "--timeout", "1");
    cr_expect_eq(number_of(&spawn, id, "bytes_moved"), moved);
    HARNESS_CHECK(&spawn, 0, "job", "resume", id);
    HARNESS_CHECK(&spawn, 0, "job", "watch", id, "--timeout", "60");
    cr_expect_geq(number_of(&spawn, id, "bytes_moved"), KEYS * VALUE_BYTES);
    cr_expect_eq(number_of(&spawn, id, "bytes_left"), 0);
    HARNESS_CHECK(&spawn, 5, "job", "cancel", id);
    HARNESS_CHECK(&spawn, 5, "job", "pause", id);
    harness_stop(&spawn);
}

/* What an operator does: says it again until it is done. The plan must end by itself each time. */
static void watch_and_say_again(struct gw_spawn *spawn, const char *first, const char *const *words)
{
    char plan[16];
    snprintf(plan, sizeof plan, "%s", first);
    for (int attempt = 0;; attempt++) {
        struct harness_run run = HARNESS_CLI(spawn, NULL, "job", "watch", plan, "--timeout", "60");
        int code = run.code;
        cr_assert(code == 0 || code == 6, "exit code %d: %s", code, run.err);
        harness_run_free(&run);
        if (code == 0)
            return;
        cr_assert_lt(attempt, 5);
        until_nobody_is_down(spawn);
        run = harness_cli(spawn, NULL, words);
        cr_assert(run.code == 0 || run.code == 5, "exit code %d: %s", run.code, run.err);
        bool done = run.code == 5; /* nothing is left to do */
        if (!done)
            id_of(&run, plan, sizeof plan);
        harness_run_free(&run);
        if (done)
            return;
    }
}

/* Goal: sources and targets may be killed at any moment; plans end, and counts are exact. */
Test(elastic, plans_end_when_their_servers_were_killed_at_any_moment, .timeout = 280)
{
    static const char *const flags[] = {"--disk=128MiB", "--durability=commit", NULL};
    struct gw_spawn spawn;
    struct harness_writer writer = {.delay_us = 5000}; /* short commit logs: short recoveries */
    struct gw_rand rand;
    seed(&rand);
    harness_start_with(&spawn, 3, 64u << 20, flags);
    harness_writer_start(&writer, &spawn, "k", KEYS);
    for (size_t i = 0; i < STEPS; i++) {
        struct harness_run run = harness_expect(&spawn, 0, NULL, steps[i]);
        char id[16], killed[2] = {(char)('A' + gw_rand_below(&rand, 3)), 0};
        id_of(&run, id, sizeof id);
        harness_run_free(&run);
        harness_sleep_ms(random_ms(&rand, 400));
        recovery_kill(&spawn, killed);
        harness_sleep_ms(gw_rand_below(&rand, 300));
        cr_assert(gw_spawn_server(&spawn, killed), "%s", spawn.error);
        watch_and_say_again(&spawn, id, steps[i]);
        until_nobody_is_down(&spawn);
    }
    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    harness_writer_free(&writer);
    harness_stop(&spawn);
}

/* Goal: Ctrl-C ends the command, not the work. */
Test(elastic, ctrl_c_ends_the_wait_and_the_plan_goes_on, .timeout = 60)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 2);
    fill(&spawn);
    char program[700];
    snprintf(program, sizeof program, "%s/godwit", harness_programs());
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        execl(program, "godwit", "-c", spawn.coordinator_address, "scale-out", "--to", "B",
              "--rate", "100KB/s", "--wait", NULL);
        _exit(127);
    }
    for (int code = 1; code != 0; harness_sleep_ms(20)) {
        struct harness_run run = HARNESS_CLI(&spawn, NULL, "job", "show", "2");
        code = run.code;
        harness_run_free(&run);
    }
    harness_sleep_ms(200);
    int status;
    cr_assert_eq(kill(pid, SIGINT), 0);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT, "status %x", status);
    HARNESS_CHECK(&spawn, 0, "job", "watch", "1", "--timeout", "40");
    harness_stop(&spawn);
}

static void write_file(const char *path, const char *text, size_t n)
{
    FILE *file = fopen(path, "we");
    cr_assert(file && fwrite(text, 1, n, file) == n && fclose(file) == 0);
}

/* The command is refused so, in words that have these in them; nothing has been begun. */
static void refused(struct gw_spawn *spawn, int code, const char *mention, const char *const *words)
{
    struct harness_run run = harness_expect(spawn, code, NULL, words);
    cr_expect_not_null(strstr(run.err, mention), "'%s' is not in: %s", mention, run.err);
    harness_run_free(&run);
}
#define REFUSED(code, mention, ...)                                                                \
    refused(&spawn, code, mention, (const char *[]){__VA_ARGS__, NULL})

Test(elastic, what_makes_no_sense_is_refused_and_changes_nothing, .timeout = 120)
{
    struct gw_spawn spawn;
    char file[] = "/tmp/godwit-plan-XXXXXX";
    int fd = mkstemp(file);
    cr_assert_geq(fd, 0);
    close(fd);
    harness_start(&spawn, 2);
    REFUSED(5, "no server X", "drain", "X");
    REFUSED(5, "no server X", "scale-out", "--to", "X");
    REFUSED(5, "no server X", "remove", "X");
    REFUSED(5, "owns", "remove", "A");
    REFUSED(2, "--rate", "drain", "A", "--rate", "0");
    REFUSED(2, "--rate", "drain", "A", "--rate", "fast");
    REFUSED(2, "--max-impact", "drain", "A", "--max-impact", "0");
    REFUSED(2, "--max-impact", "drain", "A", "--max-impact", "61s");
    REFUSED(2, "--sample-time", "drain", "A", "--sample-time", "10us");
    REFUSED(2, "--by", "rebalance", "--by", "luck");
    REFUSED(2, "--plan", "rebalance", "--plan", file, "--apply", file);
    REFUSED(2, "--plan", "rebalance", "--plan", file, "--wait");
    REFUSED(1, "is no plan", "rebalance", "--apply", "/nowhere/plan");
    REFUSED(1, "cannot write", "rebalance", "--plan", "/nowhere/plan");

    HARNESS_CHECK(&spawn, 0, "rebalance", "--plan", file);
    char *plan = NULL;
    size_t n = 0;
    FILE *in = fopen(file, "re");
    cr_assert(in && getdelim(&plan, &n, 0, in) > 0);
    fclose(in);
    n = strlen(plan);
    cr_assert_not_null(strstr(plan, "predicted_ms"));
    write_file(file, plan, n / 2);
    REFUSED(1, "is no plan", "rebalance", "--apply", file);
    write_file(file, "[]", 2);
    REFUSED(1, "is no plan", "rebalance", "--apply", file);
    char *cluster = strstr(plan, "\"cluster\": \"");
    cr_assert_not_null(cluster);
    cluster[12] = cluster[12] == '0' ? '1' : '0';
    write_file(file, plan, n);
    REFUSED(5, "the plan is of cluster", "rebalance", "--apply", file);
    free(plan);
    unlink(file);

    /* The last one, and one that slots are on their way to. */
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "B", "--wait", "--timeout", "30");
    HARNESS_CHECK(&spawn, 0, "drain", "B", "--wait", "--timeout", "30");
    HARNESS_CHECK(&spawn, 0, "remove", "B");
    REFUSED(5, "no other server", "drain", "A");
    REFUSED(5, "removed", "drain", "B");
    REFUSED(5, "nothing to move", "rebalance");
    struct harness_run run = HARNESS_EXPECT(&spawn, 5, NULL, "--json", "drain", "A", "--dry-run");
    json_t *answer = json_loadb(run.out, run.out_bytes, 0, NULL);
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(answer, "error"), "status")),
                     "e_refused");
    json_decref(answer);
    harness_run_free(&run);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "--json", "job", "list");
    answer = json_loadb(run.out, run.out_bytes, 0, NULL);
    cr_expect_eq(json_array_size(json_object_get(answer, "plans")), 2, "%s", run.out);
    json_decref(answer);
    harness_run_free(&run);
    harness_stop(&spawn);
}
