/* Goal: a server that was killed at any moment comes back with everything that was durable, and
 * with nothing else; counters of clients that keep what is not durable are exact.
 * How: real processes, SIGKILL, the same address again; plain counting and expected values. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/cluster/harness.h"
#include "tests/cluster/recovery.h"

TestSuite(recovery, .timeout = 250);

/* ---- values ---------------------------------------------------------------------------------- */

#define KEYS 6000u

/* Round r writes the keys whose number fits, deletes some, adds to counters. */
static void write_round(struct gw_session *s, uint8_t *generation, int64_t *counter, uint8_t round,
                        struct gw_rand *rand)
{
    char key[32], value[700];
    for (uint32_t i = 0; i < KEYS; i++) {
        uint64_t dice = gw_rand_below(rand, 4);
        size_t n = (size_t)snprintf(key, sizeof key, "key:%u", i);
        enum gw_status st = GW_OK;
        if (dice == 0) {
            st = gw_delete_sync(s, key, n, NULL);
            cr_assert(st == (generation[i] ? GW_OK : GW_NOT_FOUND), "%s: %s", key,
                      gw_status_text(st));
            generation[i] = 0;
        } else if (dice == 1) {
            size_t bytes = recovery_value(value, i, round);
            st = gw_set_sync(s, key, n, value, bytes, NULL);
            cr_assert_eq(st, GW_OK, "%s: %s", key, gw_status_text(st));
            generation[i] = round;
        }
    }
    for (uint32_t i = 0; i < 100; i++) {
        struct gw_result result;
        size_t n = (size_t)snprintf(key, sizeof key, "count:%u", i);
        int64_t step = (int64_t)gw_rand_below(rand, 1000) - 300;
        cr_assert_eq(gw_add_sync(s, key, n, step, 0, &result), GW_OK);
        counter[i] += step;
        cr_assert_eq(result.number, counter[i]);
    }
}

static void check_all(struct gw_session *s, const uint8_t *generation, const int64_t *counter,
                      const char *when)
{
    char key[32], value[700];
    struct gw_result result;
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        size_t n = (size_t)snprintf(key, sizeof key, "key:%u", i);
        enum gw_status st = gw_get_sync(s, key, n, &result);
        size_t bytes = generation[i] ? recovery_value(value, i, generation[i]) : 0;
        bool good = generation[i] ? st == GW_OK && result.value_bytes == bytes &&
                                        memcmp(result.value, value, bytes) == 0
                                  : st == GW_NOT_FOUND;
        wrong += !good;
    }
    cr_expect_eq(wrong, 0, "%s: %u keys are wrong", when, wrong);
    for (uint32_t i = 0; i < 100; i++) {
        size_t n = (size_t)snprintf(key, sizeof key, "count:%u", i);
        cr_assert_eq(gw_get_sync(s, key, n, &result), GW_OK);
        cr_expect_eq(result.number, counter[i], "%s: %s", when, key);
    }
}

Test(recovery, what_was_synced_is_there_after_each_kill_with_any_number_of_threads)
{
    static const char *const flags[] = {"--disk", "512MiB", "--segment-size", "16MiB", NULL};
    static uint8_t generation[KEYS];
    static int64_t counter[100];
    struct gw_spawn spawn;
    struct gw_rand rand;
    gw_rand_init(&rand, 1);
    harness_start_with(&spawn, 1, 128 << 20, flags);
    for (uint8_t round = 1; round <= 4; round++) {
        struct gw_cluster *cluster;
        struct gw_session *s;
        char when[64];
        snprintf(when, sizeof when, "after kill %u", round);
        cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
        cr_assert_eq(gw_session_open(cluster, NULL, &s), GW_OK);
        write_round(s, generation, counter, round, &rand);
        cr_assert_eq(gw_session_sync(s, 20000), GW_OK);
        gw_session_close(s);
        gw_cluster_close(cluster);
        recovery_kill(&spawn, "A");
        spawn.threads = 1 + (round + 1) % 3;
        cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
        cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
        cr_assert_eq(gw_session_open(cluster, NULL, &s), GW_OK);
        check_all(s, generation, counter, when);
        gw_session_close(s);
        gw_cluster_close(cluster);
    }
    json_t *stats = recovery_stats(&spawn.servers[0]);
    const json_t *recovered = json_object_get(json_object_get(stats, "durability"), "recovered");
    cr_expect_gt(json_integer_value(json_object_get(recovered, "checkpoint")), 0);
    cr_expect_gt(json_integer_value(json_object_get(recovered, "keys")), 1000);
    json_decref(stats);
    harness_stop(&spawn);
}

Test(recovery, an_orderly_end_keeps_everything)
{
    static const char *const flags[] = {"--disk", "512MiB", "--checkpoint-interval", "0", NULL};
    struct gw_spawn spawn;
    harness_start_with(&spawn, 1, 64 << 20, flags);
    HARNESS_CHECK(&spawn, 0, "set", "a", "1");
    cr_assert_eq(gw_process_stop(&spawn.servers[0].process, SIGTERM, 10000), 0);
    cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "a");
    cr_expect_str_eq(run.out, "1\n");
    harness_run_free(&run);
    /* Without its disk it would be empty: it says so instead. */
    cr_assert_eq(gw_process_stop(&spawn.servers[0].process, SIGTERM, 10000), 0);
    spawn.server_flags = NULL;
    cr_expect_not(gw_spawn_server(&spawn, "A"));
    cr_expect(recovery_log_has(&spawn, "A", "give --disk"));
    harness_stop(&spawn);
}

/* ---- kills during checkpoints ------------------------------------------------------------------
 */

struct counting {
    struct gw_cluster *cluster;
    uint64_t counted[64];
    uint64_t in_doubt, failed;
    enum gw_status failure;
    _Atomic bool stop;
    pthread_t thread;
};

struct one {
    struct counting *c;
    uint32_t key;
};

static void counted(void *ctx, const struct gw_result *r)
{
    struct one *one = ctx;
    if (r->status == GW_OK)
        one->c->counted[one->key]++;
    else if (r->status == GW_IN_DOUBT)
        one->c->in_doubt++;
    else {
        one->c->failed++;
        one->c->failure = r->status;
    }
}

static void *count_on(void *ctx)
{
    struct counting *c = ctx;
    struct gw_session_options options;
    struct gw_session *s;
    struct gw_rand rand;
    struct one ones[64];
    gw_rand_init(&rand, 7);
    gw_session_options_default(&options);
    options.acknowledge = GW_ACKNOWLEDGE_APPLIED;
    options.deadline_ms = 60000;
    if (gw_session_open(c->cluster, &options, &s) != GW_OK)
        abort();
    for (uint32_t i = 0; i < 64; i++)
        ones[i] = (struct one){c, i};
    while (!atomic_load(&c->stop) && !c->failed) {
        for (int i = 0; i < 32; i++) {
            char key[16];
            uint32_t k = (uint32_t)gw_rand_below(&rand, 64);
            size_t n = (size_t)snprintf(key, sizeof key, "n%u", k);
            enum gw_status st;
            while ((st = gw_add(s, key, n, 1, 0, counted, &ones[k])) == GW_WOULD_BLOCK)
                (void)gw_poll(s, 10);
            c->failed += st != GW_OK;
        }
        (void)gw_poll(s, 0);
        usleep(200);
    }
    if (gw_session_sync(s, 60000) != GW_OK)
        c->failed++;
    gw_session_close(s);
    return NULL;
}

static void kill_during_checkpoints(const char *const *flags, uint32_t rounds)
{
    struct gw_spawn spawn;
    struct counting c = {.failed = 0};
    struct gw_rand rand;
    gw_rand_init(&rand, 99);
    harness_start_with(&spawn, 1, 64 << 20, flags);
    spawn.threads = 2;
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &c.cluster), GW_OK);
    cr_assert_eq(pthread_create(&c.thread, NULL, count_on, &c), 0);
    uint64_t before = 0, checkpoints = 0;
    for (uint32_t round = 0; round < rounds; round++) {
        uint64_t end = harness_now_ms() + 20 + gw_rand_below(&rand, 150);
        while (harness_now_ms() < end) {
            recovery_ask_checkpoint(&spawn.servers[0]);
            usleep((useconds_t)gw_rand_below(&rand, 3000));
        }
        recovery_kill(&spawn, "A");
        cr_assert(gw_spawn_server(&spawn, "A"), "round %u: %s", round, spawn.error);
        uint64_t now = recovery_checkpoint(&spawn.servers[0]);
        cr_assert_geq(now, before, "round %u: checkpoint %llu after %llu", round,
                      (unsigned long long)now, (unsigned long long)before);
        checkpoints += now > before;
        before = now;
    }
    atomic_store(&c.stop, true);
    pthread_join(c.thread, NULL);
    cr_expect_eq(c.failed, 0, "%llu failed: %s", (unsigned long long)c.failed,
                 gw_status_text(c.failure));
    cr_expect_eq(c.in_doubt, 0, "%llu in doubt", (unsigned long long)c.in_doubt);
    cr_expect_geq(checkpoints, rounds / 2, "only %llu kills met a new checkpoint",
                  (unsigned long long)checkpoints);
    recovery_kill(&spawn, "A");
    cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    struct gw_session *s;
    cr_assert_eq(gw_session_open(c.cluster, NULL, &s), GW_OK);
    uint64_t total = 0;
    for (uint32_t i = 0; i < 64; i++) {
        struct gw_result result = {.number = 0};
        char key[16];
        size_t n = (size_t)snprintf(key, sizeof key, "n%u", i);
        (void)gw_get_sync(s, key, n, &result);
        cr_expect_eq((uint64_t)result.number, c.counted[i], "%s: %lld, counted %llu", key,
                     (long long)result.number, (unsigned long long)c.counted[i]);
        total += c.counted[i];
    }
    cr_expect_gt(total, 1000);
    gw_session_close(s);
    gw_cluster_close(c.cluster);
    harness_stop(&spawn);
}

Test(recovery, twenty_kills_while_checkpoints_are_taken_lose_and_repeat_nothing)
{
    static const char *const flags[] = {"--disk", "512MiB", NULL};
    kill_during_checkpoints(flags, (uint32_t)harness_scaled(20));
}

Test(recovery, the_same_with_commit_logs)
{
    static const char *const flags[] = {"--disk", "512MiB", "--durability", "commit", NULL};
    kill_during_checkpoints(flags, (uint32_t)harness_scaled(20));
}

/* ---- disks that are full, or not to be written -------------------------------------------------
 */

static void limit_files(const struct gw_spawn_server *server, rlim_t bytes)
{
    cr_assert_eq(prlimit(server->process.pid, RLIMIT_FSIZE, &(struct rlimit){bytes, RLIM_INFINITY},
                         NULL),
                 0);
}

static json_int_t durability(const struct gw_spawn_server *server, const char *name)
{
    json_t *stats = recovery_stats(server);
    json_int_t value =
        json_integer_value(json_object_get(json_object_get(stats, "durability"), name));
    json_decref(stats);
    return value;
}

static void wait_until_more(const struct gw_spawn_server *server, const char *name, json_int_t than)
{
    uint64_t end = harness_now_ms() + 15000;
    while (durability(server, name) <= than) {
        cr_assert_lt(harness_now_ms(), end, "%s is still %lld", name,
                     (long long)durability(server, name));
        harness_sleep_ms(50);
    }
}

Test(recovery, a_checkpoint_that_cannot_be_written_is_given_up_said_and_tried_again)
{
    static const char *const flags[] = {"--disk", "512MiB", "--checkpoint-interval", "0", NULL};
    struct gw_spawn spawn;
    harness_start_with(&spawn, 1, 64 << 20, flags);
    const struct gw_spawn_server *server = &spawn.servers[0];
    HARNESS_CHECK(&spawn, 0, "set", "a", "1");
    recovery_ask_checkpoint(server);
    wait_until_more(server, "taken", 0);
    /* Everything beyond the first bytes of a file is refused: states, index snapshots. */
    HARNESS_CHECK(&spawn, 0, "set", "a", "2");
    limit_files(server, 100);
    recovery_ask_checkpoint(server);
    harness_sleep_ms(300);
    HARNESS_CHECK(&spawn, 0, "set", "a", "3");
    json_int_t taken = durability(server, "taken");
    cr_expect_eq(taken, 1);
    limit_files(server, RLIM_INFINITY);
    wait_until_more(server, "taken", taken);
    recovery_kill(&spawn, "A");
    cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "a");
    cr_expect(strcmp(run.out, "3\n") == 0 || strcmp(run.out, "2\n") == 0, "%s", run.out);
    harness_run_free(&run);
    harness_stop(&spawn);
}

Test(recovery, states_that_cannot_be_made_are_given_up_and_the_server_serves_on)
{
    static const char *const flags[] = {"--disk", "512MiB", "--checkpoint-interval", "0", NULL};
    struct gw_spawn spawn;
    harness_start_with(&spawn, 1, 64 << 20, flags);
    const struct gw_spawn_server *server = &spawn.servers[0];
    char folder[300], aside[310];
    snprintf(folder, sizeof folder, "%s/A/checkpoints", spawn.directory);
    snprintf(aside, sizeof aside, "%s.aside", folder);
    HARNESS_CHECK(&spawn, 0, "set", "a", "1");
    recovery_ask_checkpoint(server);
    wait_until_more(server, "taken", 0);
    cr_assert_eq(rename(folder, aside), 0);
    HARNESS_CHECK(&spawn, 0, "set", "a", "2");
    recovery_ask_checkpoint(server);
    wait_until_more(server, "given_up", 0);
    json_t *stats = recovery_stats(server);
    const char *failure =
        json_string_value(json_object_get(json_object_get(stats, "durability"), "failure"));
    cr_expect(failure && strstr(failure, "state-"), "it says: %s", failure ? failure : "nothing");
    json_decref(stats);
    HARNESS_CHECK(&spawn, 0, "set", "b", "3");
    cr_assert_eq(rename(aside, folder), 0);
    wait_until_more(server, "taken", 1);
    recovery_kill(&spawn, "A");
    cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "b");
    cr_expect_str_eq(run.out, "3\n");
    harness_run_free(&run);
    harness_stop(&spawn);
}

/* A file system of its own for the server's data; false: it may not be made here. */
static bool mount_small(struct gw_spawn *spawn, char *folder, size_t folder_bytes, const char *size)
{
    char options[32];
    snprintf(folder, folder_bytes, "%s/A", spawn->directory);
    snprintf(options, sizeof options, "size=%s", size);
    (void)mkdir(folder, 0700);
    return mount("none", folder, "tmpfs", 0, options) == 0;
}

Test(recovery, a_full_and_a_read_only_file_system_cost_checkpoints_not_data)
{
    static const char *const flags[] = {
        "--disk", "128MiB", "--segment-size", "8MiB", "--checkpoint-interval", "1", NULL};
    struct gw_spawn spawn;
    char folder[300], value[3000];
    harness_start_with(&spawn, 0, 64 << 20, flags);
    if (!mount_small(&spawn, folder, sizeof folder, "40m")) {
        harness_stop(&spawn);
        cr_skip_test("no file system may be mounted here");
    }
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    const struct gw_spawn_server *server = &spawn.servers[0];
    HARNESS_CHECK(&spawn, 0, "set", "first", "1");
    wait_until_more(server, "taken", 0);
    struct gw_cluster *cluster;
    struct gw_session *s;
    struct gw_session_options options;
    gw_session_options_default(&options);
    options.deadline_ms = 300;
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, &options, &s), GW_OK);
    enum gw_status st = GW_OK;
    uint32_t n = 0;
    for (; n < 40000 && st == GW_OK; n++) { /* until nothing goes any more */
        char key[32];
        size_t bytes = (size_t)snprintf(key, sizeof key, "key:%u", n);
        st = gw_set_sync(s, key, bytes, value, sizeof value, NULL);
    }
    gw_session_close(s);
    gw_cluster_close(cluster);
    cr_expect_neq(st, GW_OK, "40 MiB never became full");
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "first");
    cr_expect_str_eq(run.out, "1\n");
    harness_run_free(&run);
    recovery_kill(&spawn, "A");
    cr_expect_eq(mount("none", folder, NULL, MS_REMOUNT, "size=200m"), 0);
    cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "first");
    cr_expect_str_eq(run.out, "1\n");
    harness_run_free(&run);

    cr_assert_eq(gw_process_stop(&spawn.servers[0].process, SIGTERM, 20000), 0);
    if (mount("none", folder, NULL, MS_REMOUNT | MS_RDONLY, "size=200m") == 0) {
        cr_expect_not(gw_spawn_server(&spawn, "A"), "it serves what it cannot write");
        cr_expect_eq(mount("none", folder, NULL, MS_REMOUNT, "size=200m"), 0);
    }
    cr_assert(gw_spawn_server(&spawn, "A"), "%s", spawn.error);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "first");
    cr_expect_str_eq(run.out, "1\n");
    harness_run_free(&run);
    recovery_kill(&spawn, "A");
    cr_expect_eq(umount2(folder, MNT_DETACH), 0);
    harness_stop(&spawn);
}
