/* Goal: what cannot work is refused at the start, with the flag, the value and the remedy; a data
 * directory belongs to one server, one format and one process; nothing is removed that is not ours.
 * How: the real program, with directories made by hand. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cluster/harness.h"

TestSuite(data_dir, .timeout = 120);

#define MIB (1024ull * 1024)

struct refusal {
    const char *words[12];
    const char *named[3]; /* all must be in what is said; NULL: fewer */
};

/* ---- flags ---------------------------------------------------------------------------------- */

Test(data_dir, sizes_that_contradict_one_another_are_refused_with_the_remedy)
{
    static const struct refusal cases[] = {
        {{"--memory", "64MiB", "--disk", "32MiB"}, {"--disk 32 MiB", "--memory 64 MiB", "larger"}},
        {{"--memory", "64MiB", "--disk", "512MiB", "--segment-size", "256MiB"},
         {"--disk 512 MiB", "4 segments", "at least --disk 1 GiB"}},
        {{"--memory", "64MiB", "--disk", "1GiB", "--segment-size", "3333333"},
         {"--segment-size", "whole number of pages", NULL}},
        {{"--segment-size", "64MiB"}, {"--segment-size 64 MiB", "--disk", NULL}},
        {{"--io", "direct"}, {"--io direct", "--disk", NULL}},
        {{"--io", "fast"}, {"--io fast", "auto, direct or buffered", NULL}},
        {{"--disk", "much"}, {"--disk much", "not a size", NULL}},
        {{"--disk", "0"}, {"--disk 0", "not a size", NULL}},
        {{"--disk", "32TiB"}, {"--disk 32 TiB", "at most 16TiB", NULL}},
        {{"--memory", "64MiB", "--disk", "1TiB"}, {"--disk 1 TiB", "checksums", "more --memory"}},
        {{"--memory", "64MiB", "--threads", "64"}, {"--memory 64 MiB", "--threads 64", "fewer"}},
        {{"--memory", "64MiB", "--index-memory", "48MiB"},
         {"--index-memory 48 MiB", "the log", "more"}},
        {{"--durability", "commit"}, {"--durability commit", "--disk", "both"}},
        {{"--durability", "often"}, {"--durability often", "memory or commit", NULL}},
        {{"--memory", "64MiB", "--disk", "1GiB", "--evict", "--durability", "commit"},
         {"--durability commit", "--evict", "memory"}},
        {{"--memory", "64MiB", "--disk", "1GiB", "--commit-log", "128MiB"},
         {"--commit-log 128 MiB", "--durability commit", NULL}},
        {{"--memory", "64MiB", "--disk", "1GiB", "--durability", "commit", "--commit-log", "1MiB"},
         {"--commit-log 1 MiB", "64 MiB", "16TiB"}},
        {{"--checkpoint-interval", "90000"}, {"--checkpoint-interval 90000", "86400", NULL}},
        {{"--checkpoint-interval", "5"}, {"--checkpoint-interval 5", "--disk", NULL}},
        {{"--recover=all"}, {"--recover all", "salvage", NULL}},
        {{"--recover=salvage"}, {"--recover=salvage", "--disk", NULL}},
        {{"--page-size", "3MiB"}, {"--page-size 3MiB", "power of two", NULL}},
        {{"--page-size", "128MiB"}, {"--page-size 128MiB", "64MiB", NULL}},
        {{"--memory", "64MiB", "--page-size", "64MiB"}, {"--memory 64 MiB", "--page-size", NULL}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *words[20] = {"--id", "A", "--data", "/nonexistent/x"};
        size_t n = 4;
        for (const char *const *w = cases[i].words; *w; w++)
            words[n++] = *w;
        struct harness_run run = harness_run_program("godwit-server", words, NULL, 0);
        cr_expect_eq(run.code, 2, "%s: exit code %d: %s", cases[i].named[0], run.code, run.err);
        for (int j = 0; j < 3 && cases[i].named[j]; j++)
            cr_expect(strstr(run.err, cases[i].named[j]), "'%s' is not in: %s", cases[i].named[j],
                      run.err);
        harness_run_free(&run);
    }
}

/* ---- directories ---------------------------------------------------------------------------- */

/* A server that is expected to end at once; `named` must be in what it says. */
static void expect_refused(struct gw_spawn *spawn, const char *id, const char *data,
                           const char *const *named)
{
    const char *words[] = {
        "--id",   id,       "--listen",  "127.0.0.1:0", "--coordinator", spawn->coordinator_address,
        "--data", data,     "--threads", "1",           "--memory",      "64MiB",
        "--disk", "256MiB", NULL};
    struct harness_run run = harness_run_program("godwit-server", words, NULL, 0);
    cr_expect_eq(run.code, 1, "exit code %d: %s", run.code, run.err);
    cr_expect_str_eq(run.out, "", "it said it was ready");
    for (; *named; named++)
        cr_expect(strstr(run.err, *named), "'%s' is not in: %s", *named, run.err);
    harness_run_free(&run);
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
}

static bool exists(const char *dir, const char *name)
{
    char path[400];
    struct stat about;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return stat(path, &about) == 0;
}

static char *read_identity(const char *dir)
{
    char path[400];
    static char text[1000];
    snprintf(path, sizeof path, "%s/store.json", dir);
    FILE *f = fopen(path, "re");
    cr_assert(f, "%s", path);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

Test(data_dir, a_directory_that_is_not_this_servers_is_refused_and_left_alone)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    char dir[300];
    snprintf(dir, sizeof dir, "%s/A", spawn.directory);
    char pid[32];
    snprintf(pid, sizeof pid, "process %ld", (long)spawn.servers[0].process.pid);
    expect_refused(&spawn, "A", dir, (const char *[]){"in use by", pid, NULL});
    expect_refused(&spawn, "B", dir, (const char *[]){"in use by", pid, NULL});
    cr_assert_eq(gw_process_stop(&spawn.servers[0].process, SIGTERM, 5000), 0);
    expect_refused(&spawn, "B", dir,
                   (const char *[]){"server A", "--id B", "another directory", NULL});

    char good[1000];
    snprintf(good, sizeof good, "%s", read_identity(dir));
    write_file(dir, "store.json", "{\"format\": 9, \"program\": \"godwit-server\"}");
    expect_refused(&spawn, "A", dir, (const char *[]){"format 9", "reads 1", NULL});
    write_file(dir, "store.json", "{\"format\": 1, \"program\": \"godwit-ser");
    expect_refused(&spawn, "A", dir, (const char *[]){"store.json is damaged", NULL});
    write_file(dir, "store.json", "[]");
    expect_refused(&spawn, "A", dir, (const char *[]){"store.json is damaged", NULL});
    write_file(
        dir, "store.json",
        "{\"format\": 1, \"program\": \"godwit-server\", \"server\": \"A\", \"store\": \"x\"}");
    expect_refused(&spawn, "A", dir, (const char *[]){"store.json is damaged", NULL});
    char other[1000]; /* one digit of a number that nobody would miss */
    snprintf(other, sizeof other, "%s", good);
    char *digit = strstr(other, "created_ms") + strlen("created_ms\": 12");
    *digit = *digit == '5' ? '6' : '5';
    write_file(dir, "store.json", other);
    expect_refused(&spawn, "A", dir, (const char *[]){"store.json is damaged", "checksum", NULL});
    write_file(dir, "store.json", good);
    cr_assert(gw_spawn_server(&spawn, "A"), "its own is good again: %s", spawn.error);

    char none[300];
    snprintf(none, sizeof none, "%s/none", spawn.directory);
    cr_assert_eq(mkdir(none, 0755), 0);
    snprintf(none, sizeof none, "%s/none/log", spawn.directory);
    cr_assert_eq(mkdir(none, 0755), 0);
    write_file(none, "precious", "mine");
    snprintf(none, sizeof none, "%s/none", spawn.directory);
    expect_refused(&spawn, "C", none, (const char *[]){"no store.json", NULL});
    cr_expect(exists(none, "log/precious"));

    snprintf(none, sizeof none, "%s/file", spawn.directory);
    write_file(spawn.directory, "file", "x");
    expect_refused(&spawn, "C", none, (const char *[]){"no directory", NULL});
    expect_refused(&spawn, "C", "/proc/none", (const char *[]){"cannot be made", NULL});
    harness_stop(&spawn);
}

/* Goal: what an earlier run of this server left goes, with a word; what others put there stays. */
Test(data_dir, segments_of_an_earlier_run_go_and_other_files_stay)
{
    struct gw_spawn spawn;
    static const char *const flags[] = {"--disk", "512MiB", NULL};
    harness_start_with(&spawn, 1, 64 * MIB, flags);
    char dir[300], first[100] = "", command[800];
    snprintf(dir, sizeof dir, "%s/A", spawn.directory);
    struct gw_cluster *cluster;
    struct gw_session *s;
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &s), GW_OK);
    static char value[4000];
    memset(value, 'v', sizeof value);
    for (uint32_t i = 0; i < 30000; i++) {
        char key[32];
        size_t n = (size_t)snprintf(key, sizeof key, "k%u", i);
        while (gw_set(s, key, n, value, sizeof value, NULL, NULL) == GW_WOULD_BLOCK)
            gw_poll(s, 10);
    }
    cr_assert_eq(gw_drain(s, 30000), GW_OK);
    gw_session_close(s);
    gw_cluster_close(cluster);
    snprintf(command, sizeof command, "ls %s/log", dir);
    FILE *list = popen(command, "r");
    cr_assert(list && fgets(first, sizeof first, list), "there is no segment");
    pclose(list);
    first[strcspn(first, "\n")] = 0;
    json_t *identity = json_loads(read_identity(dir), 0, NULL);
    json_int_t incarnation = json_integer_value(json_object_get(identity, "incarnation"));

    cr_assert_eq(gw_process_stop(&spawn.servers[0].process, SIGKILL, 5000), 128 + SIGKILL);
    char log_dir[310];
    snprintf(log_dir, sizeof log_dir, "%s/log", dir);
    write_file(log_dir, "notes.txt", "mine");
    cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    cr_expect(!exists(log_dir, first), "%s is still there", first);
    cr_expect(exists(log_dir, "notes.txt"));
    json_t *again = json_loads(read_identity(dir), 0, NULL);
    cr_expect_eq(json_integer_value(json_object_get(again, "incarnation")), incarnation + 1);
    cr_expect(json_equal(json_object_get(again, "store"), json_object_get(identity, "store")));
    json_decref(identity);
    json_decref(again);
    char log[400];
    snprintf(log, sizeof log, "%s/A.log", spawn.directory);
    snprintf(command, sizeof command, "grep -q tier_earlier_removed %s", log);
    cr_expect_eq(system(command), 0, "it says nothing of what it removed");
    harness_until_healthy(&spawn);
    HARNESS_CHECK(&spawn, 0, "set", "new", "1");
    HARNESS_CHECK(&spawn, 1, "get", "k1");
    harness_stop(&spawn);
}

/* The kernel takes a dead process's rings apart behind its end, and its port with them. */
Test(data_dir, a_killed_server_comes_back_at_once_on_its_port)
{
    struct gw_spawn spawn;
    static const char *const flags[] = {"--disk", "512MiB", NULL};
    harness_start_with(&spawn, 1, 64 * MIB, flags);
    for (int i = 0; i < 10; i++) {
        harness_until_healthy(&spawn);
        HARNESS_CHECK(&spawn, 0, "set", "key", "1"); /* a connection it dies with */
        cr_assert_eq(gw_process_stop(&spawn.servers[0].process, SIGKILL, 5000), 128 + SIGKILL);
        cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    }
    harness_stop(&spawn);
}
