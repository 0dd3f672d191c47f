/* Goal: whatever happens to one file of a data directory while its server is down, the server
 * either comes back with everything or says which file is wrong and ends with code 3; it never
 * serves anything else. With --recover=salvage it begins with what is left, and says so.
 * How: one directory with two checkpoints, copied for each case; one file of it damaged; the real
 * server; all keys compared. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/checksum.h"
#include "index/base/rand.h"
#include "tests/cluster/harness.h"
#include "tests/cluster/recovery.h"

TestSuite(recovery_files, .timeout = 280);

#define KEYS       2500u
#define PATH_BYTES 512

static const char *const flags[] = {"--disk",      "256MiB", "--segment-size",        "8MiB",
                                    "--page-size", "1MiB",   "--checkpoint-interval", "0",
                                    NULL};
static const char *const salvage[] = {"--disk",
                                      "256MiB",
                                      "--segment-size",
                                      "8MiB",
                                      "--page-size",
                                      "1MiB",
                                      "--checkpoint-interval",
                                      "0",
                                      "--recover=salvage",
                                      NULL};

struct scene {
    struct gw_spawn spawn;
    char data[PATH_BYTES / 2], good[PATH_BYTES / 2], foreign[PATH_BYTES / 2];
    uint64_t newest, older; /* digests of what was there at the last two checkpoints */
};

static void shell(const char *format, const char *a, const char *b)
{
    char command[3 * PATH_BYTES];
    snprintf(command, sizeof command, format, a, b);
    cr_assert_eq(system(command), 0, "%s", command);
}

/* Of all keys and values, in no order; 0: they cannot all be read. */
static uint64_t digest(struct scene *s)
{
    struct harness_run run = HARNESS_CLI(&s->spawn, NULL, "export");
    uint64_t sum = 0;
    if (run.code == 0)
        for (char *line = strtok(run.out, "\n"); line; line = strtok(NULL, "\n"))
            sum += (uint64_t)gw_crc32c(0, line, strlen(line)) << 16 | strlen(line);
    else
        fprintf(stderr, "export: exit code %d: %s", run.code, run.err);
    harness_run_free(&run);
    return sum;
}

/* What the server has said on stderr. */
static const char *said(const struct scene *s)
{
    static char text[4096];
    char path[2 * PATH_BYTES];
    snprintf(path, sizeof path, "%s/A.log", s->spawn.directory);
    FILE *file = fopen(path, "re");
    size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
    if (file)
        fclose(file);
    text[n] = 0;
    return text;
}

static void load(struct scene *s, uint32_t round)
{
    char *text = malloc(KEYS * 800), *at = text;
    cr_assert(text);
    for (uint32_t i = round; i < KEYS; i += round) {
        at += sprintf(at, "key:%u\t", i);
        at += recovery_value(at, i, (uint8_t)round);
        *at++ = '\n';
    }
    *at = 0;
    struct harness_run run = HARNESS_EXPECT(&s->spawn, 0, text, "load");
    harness_run_free(&run);
    free(text);
}

static void scene_start(struct scene *s)
{
    memset(s, 0, sizeof *s);
    harness_start_with(&s->spawn, 1, 64 << 20, flags);
    snprintf(s->data, sizeof s->data, "%s/A", s->spawn.directory);
    snprintf(s->good, sizeof s->good, "%s/good", s->spawn.directory);
    snprintf(s->foreign, sizeof s->foreign, "%s/foreign", s->spawn.directory);
    /* Another store of the same server's name. */
    load(s, 1);
    recovery_take_checkpoint(&s->spawn.servers[0]);
    recovery_kill(&s->spawn, "A");
    cr_assert_eq(rename(s->data, s->foreign), 0);
    cr_assert(gw_spawn_server(&s->spawn, "A"), "%s", s->spawn.error);
    for (uint32_t round = 1; round <= 8; round++) {
        load(s, round);
        if (round < 7)
            continue;
        recovery_take_checkpoint(&s->spawn.servers[0]);
        s->older = s->newest;
        s->newest = digest(s);
        cr_assert_neq(s->newest, 0);
    }
    load(s, 1); /* of no checkpoint */
    recovery_kill(&s->spawn, "A");
    cr_assert_eq(rename(s->data, s->good), 0);
}

/* The file of `folder` whose name begins so: the first, or the last, by name. */
static void find(const char *dir, const char *folder, const char *begins, bool last, char *path)
{
    char in[PATH_BYTES / 2], best[PATH_BYTES / 2] = "";
    snprintf(in, sizeof in, "%s/%s", dir, folder);
    DIR *d = opendir(in);
    cr_assert(d, "%s", in);
    const struct dirent *e;
    while ((e = readdir(d)))
        if (strncmp(e->d_name, begins, strlen(begins)) == 0 &&
            (!best[0] || (strcmp(e->d_name, best) > 0) == last))
            snprintf(best, sizeof best, "%s", e->d_name);
    closedir(d);
    cr_assert(best[0], "no %s* in %s", begins, in);
    snprintf(path, PATH_BYTES, "%s/%s", in, best);
}

static void flip(const char *path, long at, uint8_t bit)
{
    uint8_t byte;
    struct stat about;
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0 && fstat(fd, &about) == 0);
    off_t where = at >= 0 ? at : about.st_size + at;
    cr_assert_eq(pread(fd, &byte, 1, where), 1);
    byte ^= (uint8_t)(1u << bit);
    cr_assert_eq(pwrite(fd, &byte, 1, where), 1);
    close(fd);
}

static void cut_in_half(const char *path)
{
    struct stat about;
    cr_assert_eq(stat(path, &about), 0);
    cr_assert_eq(truncate(path, about.st_size / 2), 0);
}

static void swap(const char *a, const char *b)
{
    char beside[PATH_BYTES + 8];
    snprintf(beside, sizeof beside, "%s.x", a);
    cr_assert(rename(a, beside) == 0 && rename(b, a) == 0 && rename(beside, b) == 0);
}

/* Starts the server on what lies in `data`. Returns its exit code, or 0: it serves. */
static int start(struct scene *s, const char *const *words)
{
    char log[PATH_BYTES];
    snprintf(log, sizeof log, "%s/A.log", s->spawn.directory);
    (void)unlink(log);
    s->spawn.server_flags = words;
    if (gw_spawn_server(&s->spawn, "A"))
        return 0;
    const char *code = strstr(s->spawn.error, "exit code ");
    cr_assert(code, "%s", s->spawn.error);
    return atoi(code + strlen("exit code "));
}

static void again(struct scene *s)
{
    if (s->spawn.servers[0].process.pid)
        (void)gw_process_stop(&s->spawn.servers[0].process, SIGKILL, 5000);
    shell("rm -rf '%s'%s", s->data, "");
    shell("cp -a --sparse=always '%s' '%s'", s->good, s->data);
}

enum { STATE_NEW = 1, STATE_OLD, INDEX, SEGMENT_FIRST, SEGMENT_LAST, IDENTITY, FILES };
static const char *const file_names[FILES] = {"",          "newest state",  "older state",
                                              "index",     "first segment", "last segment",
                                              "store.json"};

static void path_of(const struct scene *s, const char *dir, int file, char *path)
{
    (void)s;
    switch (file) {
    case STATE_NEW:
    case STATE_OLD:
        find(dir, "checkpoints", "state-", file == STATE_NEW, path);
        break;
    case INDEX:
        find(dir, "checkpoints", "index-", true, path);
        break;
    case SEGMENT_FIRST:
    case SEGMENT_LAST:
        find(dir, "log", "log-", file == SEGMENT_LAST, path);
        break;
    default:
        snprintf(path, PATH_BYTES, "%s/store.json", dir);
    }
}

static const char *base(const char *path)
{
    return strrchr(path, '/') + 1;
}

/* Every key gives its value or a failure; how many fail. */
static uint32_t read_all(struct scene *s, const char *what)
{
    struct gw_cluster *cluster;
    struct gw_session *session;
    uint32_t failed = 0, wrong = 0;
    cr_assert_eq(gw_cluster_open(s->spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &session), GW_OK);
    for (uint32_t i = 1; i < KEYS; i++) {
        struct gw_result r;
        char key[32], value[700];
        uint8_t round = 8; /* the last one that wrote it */
        while (i % round != 0)
            round--;
        size_t n = (size_t)snprintf(key, sizeof key, "key:%u", i);
        size_t bytes = recovery_value(value, i, round);
        enum gw_status st = gw_get_sync(session, key, n, &r);
        failed += st < 0;
        wrong += st >= 0 &&
                 (st != GW_OK || r.value_bytes != bytes || memcmp(r.value, value, bytes) != 0);
    }
    cr_expect_eq(wrong, 0, "%s: %u keys are wrong", what, wrong);
    gw_session_close(session);
    gw_cluster_close(cluster);
    return failed;
}

static json_int_t corrupt_blocks(const struct scene *s)
{
    json_t *stats = recovery_stats(&s->spawn.servers[0]);
    json_int_t n =
        json_integer_value(json_object_get(json_object_get(stats, "tier"), "corrupt_blocks"));
    json_decref(stats);
    return n;
}

/* It serves everything, or was refused with the file's name. */
static void expect_all_or_refused(struct scene *s, const char *what, const char *name, bool refused)
{
    int code = start(s, flags);
    if (code == 0) {
        uint32_t failed = read_all(s, what);
        if (failed == 0)
            cr_expect_eq(digest(s), s->newest, "%s: it serves something else: %s", what, said(s));
        else /* a block that nothing had to read at the start */
            cr_expect_gt(corrupt_blocks(s), 0, "%s: %u keys cannot be read", what, failed);
        cr_expect_not(refused, "%s: it serves", what);
        return;
    }
    cr_expect_eq(code, 3, "%s: exit code %d: %s", what, code, said(s));
    cr_expect(recovery_log_has(&s->spawn, "A", name), "%s: %s is not named: %s", what, name,
              said(s));
    cr_expect(recovery_log_has(&s->spawn, "A", "--recover=salvage"), "%s: no remedy", what);
}

static void expect_salvage(struct scene *s, const char *what, uint64_t expected)
{
    cr_expect_eq(start(s, salvage), 0, "%s: salvage: %s", what, s->spawn.error);
    if (s->spawn.servers[0].process.pid)
        cr_expect_eq(digest(s), expected, "%s: salvage serves something else: %s", what, said(s));
    cr_expect(recovery_log_has(&s->spawn, "A", "left out"), "%s: salvage says nothing", what);
    /* And is whole again: the next start needs no salvage. */
    if (s->spawn.servers[0].process.pid)
        (void)gw_process_stop(&s->spawn.servers[0].process, SIGKILL, 5000);
    cr_expect_eq(start(s, flags), 0, "%s: after salvage: %s", what, s->spawn.error);
    if (s->spawn.servers[0].process.pid)
        cr_expect_eq(digest(s), expected, "%s: after salvage", what);
}

Test(recovery_files, an_untouched_directory_comes_back_as_of_its_last_checkpoint)
{
    struct scene s;
    scene_start(&s);
    again(&s);
    cr_expect_eq(start(&s, flags), 0, "%s", s.spawn.error);
    cr_expect_eq(digest(&s), s.newest);
    again(&s);
    char path[PATH_BYTES]; /* what is older than the image is not needed */
    path_of(&s, s.data, STATE_OLD, path);
    cr_assert_eq(unlink(path), 0);
    cr_expect_eq(start(&s, flags), 0, "%s", s.spawn.error);
    cr_expect_eq(digest(&s), s.newest);
    again(&s);
    path_of(&s, s.data, STATE_OLD, path);
    flip(path, 100, 3);
    cr_expect_eq(start(&s, flags), 0, "%s", s.spawn.error);
    cr_expect_eq(digest(&s), s.newest);
    harness_stop(&s.spawn);
}

Test(recovery_files, a_damaged_file_is_named_and_nothing_is_served)
{
    struct scene s;
    struct gw_rand rand;
    char path[PATH_BYTES], what[120];
    gw_rand_init(&rand, 5);
    scene_start(&s);
    static const int files[] = {STATE_NEW, INDEX, SEGMENT_FIRST, SEGMENT_LAST};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        bool small = files[i] == STATE_NEW || files[i] == INDEX;
        struct stat about;
        for (int kind = 0; kind < 6; kind++) {
            again(&s);
            path_of(&s, s.data, files[i], path);
            char name[100];
            snprintf(name, sizeof name, "%s", base(path));
            cr_assert_eq(stat(path, &about), 0);
            bool refused = small || kind < 3;
            switch (kind) {
            case 0:
                cr_assert_eq(unlink(path), 0);
                break;
            case 1:
                cut_in_half(path);
                break;
            case 2: /* the header */
                flip(path, 20, 1);
                break;
            case 3:
                flip(path, -9, 0);
                break;
            default:
                flip(path, (long)gw_rand_below(&rand, (uint64_t)about.st_size),
                     (uint8_t)gw_rand_below(&rand, 8));
            }
            if (kind == 0 && !small) /* named by its address */
                name[0] = 0, snprintf(name, sizeof name, "%s", strrchr(base(path), '-') + 1);
            snprintf(what, sizeof what, "%s, damage %d", file_names[files[i]], kind);
            expect_all_or_refused(&s, what, name, refused);
        }
    }
    harness_stop(&s.spawn);
}

Test(recovery_files, files_of_others_and_files_under_others_names_are_refused)
{
    struct scene s;
    char a[PATH_BYTES], b[PATH_BYTES];
    scene_start(&s);

    again(&s);
    path_of(&s, s.data, STATE_NEW, a);
    path_of(&s, s.data, STATE_OLD, b);
    swap(a, b);
    expect_all_or_refused(&s, "states swapped", base(a), true);

    again(&s);
    path_of(&s, s.data, STATE_NEW, a);
    path_of(&s, s.foreign, STATE_NEW, b);
    shell("cp '%s' '%s'", b, a);
    expect_all_or_refused(&s, "another store's state", base(a), true);

    again(&s);
    path_of(&s, s.data, INDEX, a);
    path_of(&s, s.foreign, INDEX, b);
    shell("cp '%s' '%s'", b, a);
    expect_all_or_refused(&s, "another store's index", base(a), true);

    again(&s);
    path_of(&s, s.data, SEGMENT_FIRST, a);
    path_of(&s, s.data, SEGMENT_LAST, b);
    if (strcmp(a, b) != 0) {
        swap(a, b);
        expect_all_or_refused(&s, "segments swapped", "log-", true);
    }

    again(&s);
    path_of(&s, s.data, SEGMENT_FIRST, a);
    path_of(&s, s.foreign, SEGMENT_FIRST, b);
    shell("cp --sparse=always '%s' '%s'", b, a);
    expect_all_or_refused(&s, "another store's segment", base(a), true);

    again(&s);
    path_of(&s, s.data, IDENTITY, a);
    path_of(&s, s.foreign, IDENTITY, b);
    shell("cp '%s' '%s'", b, a);
    int code = start(&s, flags);
    cr_expect(code == 1 || code == 3, "another store.json: exit code %d", code);
    cr_expect(recovery_log_has(&s.spawn, "A", "store"), "another store.json");

    again(&s);
    cr_assert_eq(unlink(a), 0);
    code = start(&s, flags);
    cr_expect(code == 1 || code == 3, "no store.json: exit code %d", code);
    cr_expect(recovery_log_has(&s.spawn, "A", "store.json"), "no store.json");

    again(&s);
    snprintf(a, sizeof a, "%s/checkpoints", s.data);
    shell("rm -rf '%s'%s", a, "");
    expect_all_or_refused(&s, "no checkpoints/", "state-", true);
    harness_stop(&s.spawn);
}

Test(recovery_files, salvage_begins_with_the_older_checkpoint_and_says_what_it_left_out)
{
    struct scene s;
    char path[PATH_BYTES];
    scene_start(&s);
    for (int kind = 0; kind < 3; kind++) {
        again(&s);
        path_of(&s, s.data, STATE_NEW, path);
        if (kind == 0)
            flip(path, 60, 2);
        else if (kind == 1)
            cut_in_half(path);
        else
            cr_assert_eq(unlink(path), 0);
        static const char *const names[] = {"a bit", "half of it", "not there"};
        expect_salvage(&s, names[kind], s.older);
    }
    harness_stop(&s.spawn);
}
