/* Goal: godwit-torture finds nothing in short runs of fixed seeds, and finds what is broken.
 * Long runs are for the command line: godwit-torture --help. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/cluster/harness.h"

TestSuite(torture, .timeout = 120);

/* A number of the last "coverage:" line. */
static uint64_t covered(const char *out, const char *name)
{
    const char *line = NULL, *at = out;
    char field[40];
    while ((at = strstr(at, "coverage: ")) != NULL)
        line = at++;
    snprintf(field, sizeof field, " %s=", name);
    at = line ? strstr(line, field) : NULL;
    cr_assert(at, "no%s in:\n%.3000s", field, out);
    return strtoull(at + strlen(field), NULL, 10);
}

static void run(const char *durability, const char *seconds, const char *seed)
{
    const char *words[] = {"--seconds",    seconds,
                           "--seed",       seed,
                           "--clients",    "4",
                           "--keys",       "200",
                           "--servers",    "3",
                           "--durability", durability,
                           "--programs",   harness_programs(),
                           "--no-fill",    NULL};
    struct harness_run result = harness_run_program("godwit-torture", words, NULL, 0);
    size_t bytes = strlen(result.out);
    cr_expect_eq(result.code, 0, "exit code %d\n%.3000s\n...\n%s%s", result.code, result.out,
                 bytes > 6000 ? result.out + bytes - 3000 : "", result.err);
    cr_expect(strstr(result.out, "passed: "), "%s", result.out);
    harness_run_free(&result);
}

Test(torture, kills_with_commit_lose_nothing_and_do_nothing_twice)
{
    run("commit", "8", "4711");
}

Test(torture, kills_with_checkpoints_lose_nothing_that_was_durable)
{
    run("memory", "5", "4712");
}

Test(torture, migrations_without_a_disk_lose_nothing)
{
    run("none", "4", "4713");
}

/* Most of the data lies in the objects; slots move all the time, servers are drained and killed.
 * Without numbers that show it nothing would have been tested. */
Test(torture, moves_with_a_shared_tier_lose_nothing)
{
    const char *words[] = {"--seconds", "9",      "--seed",     "4714",     "--clients",
                           "4",         "--keys", "100",        "--values", "9000",
                           "--servers", "3",      "--blob",     "dir",      "--no-fill",
                           "--dir",     NULL,     "--programs", NULL,       NULL};
    /* In memory where there is such a directory: what is synced there waits for nobody's disk. */
    char directory[64];
    snprintf(directory, sizeof directory, "%s/godwit-torture-%d",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
    words[16] = directory;
    words[18] = harness_programs();
    struct harness_run result = harness_run_program("godwit-torture", words, NULL, 0);
    size_t bytes = strlen(result.out);
    cr_expect_eq(result.code, 0, "exit code %d\n%.3000s\n...\n%s%s", result.code, result.out,
                 bytes > 6000 ? result.out + bytes - 3000 : "", result.err);
    /* Not `followed`: on a slow machine all may be resolved before anybody asks. */
    static const char *const numbers[] = {"moves",   "sent",     "linked",     "resolved",
                                          "retired", "uploaded", "cold_reads", "foreign_reads"};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        cr_expect_gt(covered(result.out, numbers[i]), 0, "%s is 0\n%s", numbers[i], result.out);
    harness_run_free(&result);
}

Test(torture, wrong_flags_are_refused)
{
    static const char *const cases[][4] = {
        {"--seconds", "0", NULL},  {"--durability", "perhaps", NULL},
        {"--servers", "16", NULL}, {"--seed", NULL},
        {"--no-such-flag", NULL},  {"--disk", "0", NULL},
        {"--blob", "s3", NULL},    {"--moves", "0", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct harness_run result = harness_run_program("godwit-torture", cases[i], NULL, 0);
        cr_expect_eq(result.code, 2, "%s: exit code %d", cases[i][0], result.code);
        cr_expect(strstr(result.err, cases[i][0]), "%s", result.err);
        harness_run_free(&result);
    }
}

Test(torture, a_cluster_that_cannot_be_started_is_no_violation)
{
    const char *words[] = {"--seconds", "1", "--programs", "/nonexistent", NULL};
    struct harness_run result = harness_run_program("godwit-torture", words, NULL, 0);
    cr_expect_eq(result.code, 3, "exit code %d: %s%s", result.code, result.out, result.err);
    harness_run_free(&result);
}
