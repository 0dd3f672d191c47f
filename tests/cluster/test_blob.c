/* Goal: a server whose oldest records lie in a shared tier only answers as exactly as any other,
 * also after kill -9; when the object store is away it says so, goes on with what it has, and
 * catches up; what looks at its files says what is not among them. How: real servers with 64 MiB of
 * memory, 128 MiB of disk and a directory as the object store; every value says by its bytes whose
 * it is. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/wire/peer.h"
#include "index/base/bytes.h"
#include "index/base/rand.h"
#include "tests/cluster/blob_world.h"

TestSuite(blob, .timeout = 120);

static struct harness_run run_server(const char *const *words)
{
    return harness_run_program("godwit-server", words, NULL, 0);
}

static void expect_run(int code, const char *named, const char *const *words)
{
    struct harness_run run = run_server(words);
    cr_expect_eq(run.code, code, "%s %s: exit code %d\n%.1500s%s", words[0], words[1], run.code,
                 run.out, run.err);
    cr_expect(strstr(run.out, named) || strstr(run.err, named), "'%s' is not in: %.1500s%s", named,
              run.out, run.err);
    harness_run_free(&run);
}

/* ---- tests ---------------------------------------------------------------------------------- */

/* Goal: flags that make no sense together are named, and no secret is repeated. */
Test(blob, flags_that_make_no_sense_are_refused)
{
    static const struct {
        const char *words[10];
        const char *named;
    } cases[] = {
        {{"--blob", "dir:/tmp"}, "give --disk"},
        {{"--blob", "dir:/tmp", "--disk", "2GiB", "--evict"}, "leave --evict out"},
        {{"--blob", "dir:tmp", "--disk", "2GiB"}, "absolute path"},
        {{"--blob", "http://x", "--disk", "2GiB"}, "must be dir:PATH or s3://"},
        {{"--blob", "s3://", "--disk", "2GiB"}, "name of a bucket"},
        {{"--blob", "s3://bucket?endpoint=x", "--disk", "2GiB"}, "endpoint= is followed by"},
        {{"--blob", "s3://bucket?key=x", "--disk", "2GiB"}, "nothing else"},
        {{"--blob", "s3://me:secret@bucket", "--disk", "2GiB"}, "AWS_ACCESS_KEY_ID"},
        {{"--blob-limit", "1GiB", "--disk", "2GiB"}, "give both"},
        {{"--blob-cache", "1GiB", "--disk", "2GiB"}, "--blob-cache: there is no shared tier"},
        {{"--blob-level", "3", "--disk", "2GiB"}, "--blob-level: there is no shared tier"},
        {{"--blob", "dir:/tmp", "--disk", "2GiB", "--blob-limit", "1GiB"}, "smaller than --disk"},
        {{"--blob", "dir:/tmp", "--disk", "2GiB", "--blob-level", "20"}, "from 1 to 19"},
        {{"--blob", "dir:/tmp", "--disk", "2GiB", "--blob-cache", "1KiB"}, "at least 1MiB"},
        {{"--blob", "dir:/tmp", "--disk", "2GiB", "--blob-cache", "1GiB"}, "--blob-cache"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *words[20] = {"--id", "A", "--data", "/nonexistent/x"};
        memcpy(words + 4, cases[i].words, sizeof cases[i].words);
        struct harness_run run = run_server(words);
        cr_expect_eq(run.code, 2, "%s: exit code %d: %s", cases[i].named, run.code, run.err);
        cr_expect(strstr(run.err, cases[i].named), "'%s' is not in: %s", cases[i].named, run.err);
        cr_expect(!strstr(run.err, "secret"), "it repeats what was given: %s", run.err);
        harness_run_free(&run);
    }
}

/* Goal: larger than the disk, before and after a kill; and without --blob it is refused, not served
 * in part. */
Test(blob, three_times_the_disk_is_exact_and_survives_a_kill)
{
    struct world w;
    char data[200];
    world_open(&w, "commit", 36000, NULL);
    snprintf(data, sizeof data, "%s/A", w.spawn.directory);
    world_each(&w, true, 0, w.keys, 1);
    world_expect_exact(&w, "written");
    world_each(&w, true, 1, w.keys, 7);
    world_until_uploaded(&w);
    cr_expect_gt(world_number(&w, "dropped_segments"), 0, "nothing was dropped: it says nothing");
    world_each(&w, false, 0, w.keys, 1);
    world_expect_exact(&w, "read back");
    cr_expect_gt(world_number(&w, "cold_reads"), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    uint64_t resident = gw_process_resident_bytes(world_server(&w)->process.pid);
    cr_expect_lt(resident, WORLD_MEMORY + WORLD_MEMORY / 10, "%llu MiB of 64",
                 (unsigned long long)(resident >> 20));
#endif

    recovery_kill(&w.spawn, "A");
    const char *const without[] = {"--id",
                                   "A",
                                   "--listen",
                                   "127.0.0.1:0",
                                   "--coordinator",
                                   w.spawn.coordinator_address,
                                   "--data",
                                   data,
                                   "--threads",
                                   "1",
                                   "--memory",
                                   "64MiB",
                                   "--disk",
                                   "128MiB",
                                   NULL};
    expect_run(1, "give --blob", without);
    world_start_again(&w);
    world_each(&w, false, 0, w.keys, 1);
    world_expect_exact(&w, "after the kill");
    world_close(&w);
}

/* Goal: killed while it uploads and drops, again and again, it loses nothing that was answered. */
Test(blob, kills_at_any_moment_lose_nothing)
{
    struct world w;
    struct gw_rand rand;
    gw_rand_init(&rand, 20);
    world_open(&w, "commit", 24000, NULL);
    struct harness_writer writer = {.keys = 20000, .prefix = ""};
    harness_writer_start(&writer, &w.spawn, "n", 20000);
    for (uint32_t round = 0; round < 4; round++) {
        world_each(&w, true, round * w.keys / 4, (round + 1) * w.keys / 4, 1);
        harness_sleep_ms(gw_rand_below(&rand, 300));
        recovery_kill(&w.spawn, "A");
        world_start_again(&w);
    }
    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    harness_writer_free(&writer);
    world_each(&w, false, 0, w.keys, 1);
    world_expect_exact(&w, "after four kills");
    cr_expect_gt(world_number(&w, "objects"), 0);
    world_close(&w);
}

/* The folder of the cluster's objects, and where it is put away. */
static void folder_of(const struct world *w, char *room, char *away, size_t room_bytes)
{
    room[0] = 0;
    DIR *d = opendir(w->store);
    cr_assert(d, "%s", w->store);
    for (const struct dirent *e; (e = readdir(d));)
        if (strlen(e->d_name) == 16)
            snprintf(room, room_bytes, "%s/%.16s", w->store, e->d_name);
    closedir(d);
    cr_assert(room[0], "%s is empty", w->store);
    snprintf(away, room_bytes, "%s/away", w->spawn.directory);
}

/* Goal: objects that vanish are not keys that vanish: cold reads fail, hot ones and writes go on,
 * it is said; when the objects are back everything is. */
Test(blob, objects_that_vanish_are_not_keys_that_vanish)
{
    struct world w;
    char folder[300], away[300];
    world_open(&w, "memory", 18000, NULL);
    world_each(&w, true, 0, w.keys, 1);
    world_until_uploaded(&w);
    cr_assert_gt(world_number(&w, "dropped_segments"), 0);
    folder_of(&w, folder, away, sizeof folder);
    cr_assert_eq(rename(folder, away), 0);
    uint32_t hot = w.keys - w.keys / 30;
    world_each(&w, false, hot, w.keys, 1);
    world_expect_exact(&w, "hot reads");
    world_each(&w, false, 0, w.keys / 20, 10);
    cr_expect_gt(w.unreachable + w.failed, 0, "cold reads are not told");
    cr_expect_eq(w.wrong + w.missing, 0, "%llu keys vanish",
                 (unsigned long long)(w.wrong + w.missing));
    world_until_trouble(&w, "shared tier", 10000);
    world_each(&w, true, hot, w.keys, 1);
    world_expect_exact(&w, "hot writes");
    char back[1000];
    snprintf(back, sizeof back, "cp -rn %s/. %s && rm -r %s", away, folder, away);
    char make[340];
    snprintf(make, sizeof make, "mkdir -p %s", folder);
    cr_assert_eq(system(make), 0);
    cr_assert_eq(system(back), 0);
    world_each(&w, false, 0, w.keys, 1);
    world_expect_exact(&w, "they are back");
    world_close(&w);
}

/* Goal: while the object store is away every key can be set, also those that lie there only; what
 * was answered is there after a kill with the store still away, after it has come back, and after
 * another kill; what looks at the old value is refused. */
Test(blob, an_outage_holds_up_no_write)
{
    struct world w;
    char folder[300], away[300];
    world_open(&w, "commit", 18000, NULL);
    world_each(&w, true, 0, w.keys, 1);
    world_until_uploaded(&w);
    cr_assert_gt(world_number(&w, "dropped_segments"), 0);
    folder_of(&w, folder, away, sizeof folder);
    cr_assert_eq(rename(folder, away), 0);
    FILE *file = fopen(folder, "we"); /* where a directory should be: every request fails */
    cr_assert(file && fclose(file) == 0);
    uint32_t cold = w.keys / 20, middle = cold / 2;
    uint64_t began_first = harness_now_ms();
    world_each(&w, true, 0, middle, 1); /* it is found out with these */
    cr_log_info("%u cold writes in %llu ms, at first", middle,
                (unsigned long long)(harness_now_ms() - began_first));
    world_expect_exact(&w, "cold writes");
    world_until_trouble(&w, "shared tier", 10000);
    harness_sleep_ms(6000); /* a read's deadline: then it is known */
    uint64_t reads = world_number(&w, "cold_reads"), began = harness_now_ms();
    world_each(&w, true, middle, cold, 1);
    world_expect_exact(&w, "more cold writes");
    cr_expect_eq(world_number(&w, "cold_reads"), reads, "they have waited for reads");
    cr_log_info("%u cold writes in %llu ms", cold - middle,
                (unsigned long long)(harness_now_ms() - began));
    world_each(&w, false, 0, cold, 1);
    world_expect_exact(&w, "read back meanwhile");
    HARNESS_CHECK(&w.spawn, 3, "get", "key:1000");
    HARNESS_CHECK(&w.spawn, 3, "del", "key:1001");
    HARNESS_CHECK(&w.spawn, 3, "append", "key:1002", "x");

    recovery_kill(&w.spawn, "A");
    world_start_again(&w);
    world_each(&w, false, 0, cold, 1);
    world_expect_exact(&w, "after a kill, the store is away");
    cr_assert_eq(unlink(folder), 0);
    cr_assert_eq(rename(away, folder), 0);
    world_until_trouble(&w, NULL, 30000);
    world_until_exact(&w, 0, w.keys, 1, "it is back");
    recovery_kill(&w.spawn, "A");
    world_start_again(&w);
    world_until_exact(&w, 0, w.keys, 1, "after another kill");
    world_close(&w);
}

/* A number of the move `id`. */
static uint64_t of_move(struct world *w, const char *id, const char *name)
{
    struct harness_run run = HARNESS_EXPECT(&w->spawn, 0, NULL, "job", "show", id, "--json");
    json_t *json = json_loads(run.out, 0, NULL), *job = json_object_get(json, "job");
    const json_t *number = json_object_get(job ? job : json, name);
    cr_assert(json_is_integer(number), "no %s in %s", name, run.out);
    uint64_t n = (uint64_t)json_integer_value(number);
    json_decref(json);
    harness_run_free(&run);
    return n;
}

/* Goal: a key that is asked for in the middle of a move, and lies in the shared tier, is read there
 * and not sent; while the object store is away the source is asked for the key itself, and who asks
 * for what nobody can read is told so, in time; and the move ends with all keys right. How: a move
 * so slow that everything is asked for before it comes. */
Test(blob, a_cold_key_that_is_asked_for_in_a_move_is_read_where_it_lies)
{
    struct world w;
    char folder[300], away[300];
    world_open(&w, "commit", 18000, NULL);
    world_each(&w, true, 0, w.keys, 1);
    world_until_uploaded(&w);
    cr_assert_gt(world_number(&w, "dropped_segments"), 0);
    folder_of(&w, folder, away, sizeof folder);
    cr_assert(gw_spawn_server(&w.spawn, "B"), "%s", w.spawn.error);
    harness_until_healthy(&w.spawn);
    HARNESS_CHECK(&w.spawn, 0, "migrate", "--slots", "0-8191", "--from", "A", "--to", "B",
                  "--no-sampling", "--rate", "200KB/s");
    for (uint64_t end = harness_now_ms() + 20000;
         of_move(&w, "1", "transferred_ms") == 0 && harness_now_ms() < end;)
        harness_sleep_ms(50);
    uint32_t half = w.keys / 2; /* the older one */
    world_until_exact(&w, 0, half, 7, "asked for in the move");
    harness_sleep_ms(1500); /* the job's numbers come now and then */
    cr_expect_gt(of_move(&w, "1", "pull_leads"), half / 7 / 8, "of %llu pulls",
                 (unsigned long long)of_move(&w, "1", "pulls"));
    cr_assert_eq(rename(folder, away), 0);
    FILE *file = fopen(folder, "we"); /* where a directory should be: every request fails */
    cr_assert(file && fclose(file) == 0);
    world_each(&w, false, half, w.keys, 7);
    cr_expect(w.wrong == 0 && w.missing == 0 && w.failed == 0,
              "%llu wrong, %llu missing, %llu failed (%s)", (unsigned long long)w.wrong,
              (unsigned long long)w.missing, (unsigned long long)w.failed,
              gw_status_name(w.failure));
    /* Most of them lie on the source's disk yet; those that stayed there alone would be fewer. */
    cr_expect_gt(w.good, half / 7 * 9 / 16, "of %u, what the source has is not to be had",
                 half / 7);
    /* Of the older half nobody has the records at hand that were not asked for. */
    world_each(&w, false, 3, half, 7);
    cr_expect(w.wrong == 0 && w.missing == 0 && w.failed == 0,
              "the older half: %llu wrong, %llu missing, %llu failed (%s)",
              (unsigned long long)w.wrong, (unsigned long long)w.missing,
              (unsigned long long)w.failed, gw_status_name(w.failure));
    cr_expect_gt(w.unreachable, half / 7 / 8, "of %u", half / 7);
    cr_assert_eq(unlink(folder), 0);
    cr_assert_eq(rename(away, folder), 0);
    HARNESS_CHECK(&w.spawn, 0, "job", "watch", "1", "--timeout", "90");
    world_until_exact(&w, 0, w.keys, 1, "the move is over");
    world_close(&w);
}

static void flip(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert(fd >= 0, "%s", path);
    cr_assert_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* The path of the first object, in DIR/CLUSTER/STORE/. */
static void first_object(const char *dir, char *room, size_t room_bytes)
{
    char at[600];
    snprintf(at, sizeof at, "%s", dir);
    for (int depth = 0; depth < 3; depth++) {
        char best[256] = "";
        DIR *d = opendir(at);
        cr_assert(d, "%s", at);
        for (const struct dirent *e; (e = readdir(d));)
            if (e->d_name[0] != '.' && (!best[0] || strcmp(e->d_name, best) < 0) &&
                (depth < 2 || strstr(e->d_name, ".gwo")))
                snprintf(best, sizeof best, "%s", e->d_name);
        closedir(d);
        cr_assert(best[0], "%s is empty", at);
        size_t n = strlen(at);
        snprintf(at + n, sizeof at - n, "/%s", best);
    }
    snprintf(room, room_bytes, "%s", at);
}

/* Every key, with its value; some may come twice (gw_store_walk). */
static void expect_dump(const struct world *w, const char *const *words)
{
    static uint8_t value[WORLD_VALUE_BYTES];
    struct harness_run run = run_server(words);
    cr_assert_eq(run.code, 0, "exit code %d: %s", run.code, run.err);
    bool *seen = calloc(w->keys, sizeof *seen);
    uint32_t count = 0;
    const uint8_t *bytes = (const uint8_t *)run.out;
    for (size_t at = 8; at + 4 <= run.out_bytes;) {
        uint32_t n = gw_load32(bytes + at), key = 0;
        if (n == 0)
            break;
        cr_assert_leq(n, run.out_bytes - at - 4);
        struct gw_peer_record r;
        struct gw_reader reader = gw_reader_of(bytes + at + 4, n);
        cr_assert(gw_peer_record_decode(&reader, &r));
        char text[32];
        snprintf(text, sizeof text, "%.*s", (int)r.key_bytes, (const char *)r.key);
        cr_assert_eq(sscanf(text, "key:%u", &key), 1, "%s", text);
        cr_assert_lt(key, w->keys);
        world_value(value, key, w->generation[key]);
        cr_assert(r.value_bytes == WORLD_VALUE_BYTES &&
                      memcmp(r.value, value, WORLD_VALUE_BYTES) == 0,
                  "the value of %s is another one", text);
        count += !seen[key];
        seen[key] = true;
        at += 4 + n;
    }
    cr_expect_eq(count, w->keys, "%s %s has %u of %u keys", words[0], words[1], count, w->keys);
    free(seen);
    harness_run_free(&run);
}

/* Goal: what a crash has left in the store is named by a dry run, which deletes nothing, and
 * deleted by the verb; what is needed stays. */
Test(blob, what_nobody_needs_is_named_and_deleted_by_a_verb)
{
    struct world w;
    char path[600], *name;
    world_open(&w, "memory", 18000, NULL);
    struct harness_run run = HARNESS_CLI(&w.spawn, NULL, "collect", "--server", "B");
    cr_expect_eq(run.code, 5, "there is no server B: exit code %d", run.code);
    harness_run_free(&run);
    world_each(&w, true, 0, w.keys, 1);
    world_until_uploaded(&w);
    cr_assert_gt(world_number(&w, "dropped_segments"), 0);
    first_object(w.store, path, sizeof path);
    name = strrchr(path, '/') + 1;
    snprintf(name, sizeof path - (size_t)(name - path), "%016x-%08x.gwo", 64, 0);
    FILE *file = fopen(path, "we");
    cr_assert(file && fputs("left over", file) >= 0 && fclose(file) == 0);
    bool named = false; /* the coordinator says first that no other server needs anything */
    for (uint64_t end = harness_now_ms() + 15000; !named && harness_now_ms() < end;) {
        run = HARNESS_EXPECT(&w.spawn, 0, NULL, "collect", "--dry-run");
        named = strstr(run.out, name);
        harness_run_free(&run);
        cr_assert_eq(access(path, F_OK), 0, "a dry run deletes nothing");
        harness_sleep_ms(100);
    }
    cr_expect(named, "%s is not named", name);
    run = HARNESS_EXPECT(&w.spawn, 0, NULL, "--json", "collect");
    cr_expect(strstr(run.out, name), "%s", run.out);
    harness_run_free(&run);
    cr_expect_neq(access(path, F_OK), 0, "it is still there");
    world_each(&w, false, 0, w.keys, 1);
    world_expect_exact(&w, "collected");
    world_close(&w);
}

/* Goal: verify, dump and backup of a directory whose oldest part lies elsewhere: never less than
 * all without a word. */
Test(blob, what_looks_at_its_files_says_what_is_not_among_them)
{
    struct world w;
    char data[200], backup[200], part[210], object[600], moved[610], seed[32];
    world_open(&w, "memory", 16000, NULL);
    snprintf(data, sizeof data, "%s/A", w.spawn.directory);
    snprintf(backup, sizeof backup, "%s/backup", w.spawn.directory);
    snprintf(part, sizeof part, "%s/A", backup);
    cr_assert_eq(mkdir(backup, 0755), 0);
    world_each(&w, true, 0, w.keys, 1);
    world_until_uploaded(&w);
    cr_assert_gt(world_number(&w, "dropped_segments"), 0);

    HARNESS_CHECK(&w.spawn, 0, "backup", "--to", backup);
    expect_run(0, "all good", (const char *[]){"verify", part, NULL});
    expect_dump(&w, (const char *[]){"dump", part, NULL});

    recovery_take_checkpoint(world_server(&w));
    cr_assert_eq(gw_process_stop(&w.spawn.servers[0].process, SIGTERM, 20000), 0);
    expect_run(0, "not looked at: addresses", (const char *[]){"verify", data, NULL});
    expect_run(0, "all good:", (const char *[]){"verify", data, "--blob", w.url, NULL});
    expect_run(0, "all good:", (const char *[]){"verify", data, "--quick", "--blob", w.url, NULL});
    json_t *manifest;
    char path[300];
    snprintf(path, sizeof path, "%s/manifest.json", part);
    manifest = json_load_file(path, 0, NULL);
    const json_t *number = json_object_get(manifest, "hash_seed");
    if (json_is_string(number))
        snprintf(seed, sizeof seed, "0x%s", json_string_value(number));
    else
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)json_integer_value(number));
    json_decref(manifest);
    expect_run(1, "give --blob URL", (const char *[]){"dump", data, "--hash-seed", seed, NULL});
    expect_dump(&w, (const char *[]){"dump", data, "--hash-seed", seed, "--blob", w.url, NULL});

    first_object(w.store, object, sizeof object);
    flip(object, 5000);
    expect_run(1, "is damaged", (const char *[]){"verify", data, "--blob", w.url, NULL});
    flip(object, 5000);
    snprintf(moved, sizeof moved, "%s.x", object);
    cr_assert_eq(rename(object, moved), 0);
    expect_run(1, "missing in the shared tier",
               (const char *[]){"verify", data, "--quick", "--blob", w.url, NULL});
    cr_assert_eq(rename(moved, object), 0);
    world_close(&w);
}

/* Goal: a copy of a data directory that runs beside the original is found out and named. */
Test(blob, two_servers_with_one_identity_are_named)
{
    struct world w;
    char command[800];
    world_open(&w, "memory", 9000, NULL);
    world_each(&w, true, 0, w.keys, 1);
    world_until_uploaded(&w);
    cr_assert_eq(gw_process_stop(&w.spawn.servers[0].process, SIGTERM, 20000), 0);
    snprintf(command, sizeof command, "cp -r %s/A %s/copy", w.spawn.directory, w.spawn.directory);
    cr_assert_eq(system(command), 0);
    world_start_again(&w);
    world_each(&w, true, 0, w.keys, 1);
    world_until_uploaded(&w);
    cr_assert_eq(gw_process_stop(&w.spawn.servers[0].process, SIGKILL, 5000), 128 + SIGKILL);
    snprintf(command, sizeof command, "rm -r %s/A && mv %s/copy %s/A", w.spawn.directory,
             w.spawn.directory, w.spawn.directory);
    cr_assert_eq(system(command), 0);
    world_start_again(&w);
    memset(w.generation, 1, w.keys);
    world_each(&w, false, 0, w.keys, 50);
    world_expect_exact(&w, "what the copy has is served");
    world_each(&w, true, 0, w.keys, 1);
    world_until_trouble(&w, "cop", 20000);
    world_close(&w);
}
