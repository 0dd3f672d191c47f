/* Goal: a backup is whole or it is not there; what is in it comes back, into any number of servers;
 * what is damaged is named and nothing of it is restored.
 * How: a cluster of two, its keys as `export` shows them before and after. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cluster/harness.h"

TestSuite(backup, .timeout = 240);

#define KEYS 20000u

static const char *const durable[] = {"--disk=256MiB", "--checkpoint-interval=0", NULL};

/* A text of KEY<TAB>VALUE lines; owned by the caller. */
static char *lines_of(uint32_t keys)
{
    char *text = malloc((size_t)keys * 96), *at = text;
    cr_assert(text);
    for (uint32_t i = 0; i < keys; i++)
        at += i % 2 ? sprintf(at, "counter:%u\t%d\n", i, (int)i * 7 - 1000)
                    : sprintf(at, "text:%u\tvalue %u of %0*u\n", i, i * 3, 1 + (int)(i % 40), i);
    return text;
}

static int by_line(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All keys with their ends, sorted by key; owned by the caller. */
static char *all_keys(struct gw_spawn *spawn)
{
    struct harness_run run = HARNESS_EXPECT(spawn, 0, NULL, "export");
    uint32_t count = 0, room = 1024;
    char **line = malloc(room * sizeof *line), *at = run.out;
    for (char *end; (end = strchr(at, '\n')); at = end + 1) {
        *end = 0;
        if (count == room)
            line = realloc((void *)line, (room *= 2) * sizeof *line);
        line[count++] = at;
    }
    qsort((void *)line, count, sizeof *line, by_line);
    char *all = malloc(run.out_bytes + 1), *to = all;
    for (uint32_t i = 0; i < count; i++)
        to += sprintf(to, "%s\n", line[i]);
    *to = 0;
    free((void *)line);
    harness_run_free(&run);
    return all;
}

static void fill(struct gw_spawn *spawn)
{
    char *text = lines_of(KEYS);
    struct harness_run run = HARNESS_EXPECT(spawn, 0, text, "load");
    harness_run_free(&run);
    free(text);
    HARNESS_CHECK(spawn, 0, "set", "ends", "later", "--ttl", "1h");
    HARNESS_CHECK(spawn, 0, "del", "text:8");
    HARNESS_CHECK(spawn, 0, "incr", "counter:9", "5");
}

/* A directory for backups beside the servers' own. */
static void make_room(const struct gw_spawn *spawn, char *room, size_t bytes)
{
    snprintf(room, bytes, "%s/backup", spawn->directory);
    cr_assert_eq(mkdir(room, 0700), 0);
}

/* The path of the first segment of a server's part. */
static void file_of(const char *part, const char *folder, const char *suffix, char *room,
                    size_t bytes)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", part, folder);
    DIR *dir = opendir(path);
    cr_assert(dir, "%s", path);
    room[0] = 0;
    for (struct dirent *e; (e = readdir(dir));)
        if (strstr(e->d_name, suffix))
            snprintf(room, bytes, "%s/%s", path, e->d_name);
    closedir(dir);
    cr_assert(room[0], "no %s in %s", suffix, path);
}

static void flip(const char *path, off_t offset)
{
    char byte;
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0 && pread(fd, &byte, 1, offset) == 1);
    byte ^= 1;
    cr_assert_eq(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
}

static struct harness_run verify(struct gw_spawn *spawn, const char *dir)
{
    return harness_cli(spawn, NULL, (const char *[]){"verify", dir, NULL});
}

Test(backup, comes_back_in_another_number_of_servers)
{
    struct gw_spawn old, new;
    char room[300], part[320];
    harness_start_with(&old, 2, 96u << 20, durable);
    cr_assert(gw_spawn_share(&old, "B"), "%s", old.error);
    fill(&old);
    make_room(&old, room, sizeof room);
    HARNESS_CHECK(&old, 0, "backup", "--to", room);
    HARNESS_CHECK(&old, 0, "set", "too", "late");
    struct harness_run run = verify(&old, room);
    cr_expect_eq(run.code, 0, "%s%s", run.out, run.err);
    cr_expect(strstr(run.out, "all good"), "%s", run.out);
    harness_run_free(&run);
    HARNESS_CHECK(&old, 0, "del", "too");
    char *before = all_keys(&old);
    /* Not a second time into the same place. */
    run = HARNESS_EXPECT(&old, 5, NULL, "backup", "--to", room);
    cr_expect(strstr(run.err, "has a backup"), "%s", run.err);
    harness_run_free(&run);

    harness_start_with(&new, 3, 96u << 20, NULL);
    cr_assert(gw_spawn_share(&new, "B") && gw_spawn_share(&new, "C"), "%s", new.error);
    HARNESS_CHECK(&new, 0, "restore", "--from", room);
    char *after = all_keys(&new);
    cr_expect_str_eq(after, before, "what was restored differs");
    run = HARNESS_EXPECT(&new, 0, NULL, "ttl", "ends");
    cr_expect(atoi(run.out) > 3000 && atoi(run.out) <= 3600, "%s", run.out);
    harness_run_free(&run);
    run = HARNESS_EXPECT(&new, 0, NULL, "get", "counter:9");
    cr_expect_str_eq(run.out, "-932\n");
    harness_run_free(&run);
    free(before);
    free(after);
    harness_stop(&new);

    /* One server's part is a data directory: that server starts on a copy of it. */
    snprintf(part, sizeof part, "%s/A", room);
    run = verify(&old, part);
    cr_expect_eq(run.code, 0, "%s", run.out);
    harness_run_free(&run);
    harness_stop(&old);
}

Test(backup, damage_is_named_and_nothing_is_restored)
{
    struct gw_spawn spawn;
    char room[300], part[320], path[1100];
    harness_start_with(&spawn, 1, 96u << 20, durable);
    fill(&spawn);
    make_room(&spawn, room, sizeof room);
    HARNESS_CHECK(&spawn, 0, "backup", "--to", room);
    HARNESS_CHECK(&spawn, 0, "del", "text:10");
    snprintf(part, sizeof part, "%s/A", room);
    file_of(part, "log", ".gws", path, sizeof path);
    flip(path, 300000);
    struct harness_run run = verify(&spawn, room);
    cr_expect_eq(run.code, 1, "%s", run.out);
    cr_expect(strstr(run.out, "DAMAGED") && strstr(run.out, strrchr(path, '/') + 1), "%s", run.out);
    harness_run_free(&run);
    run = HARNESS_EXPECT(&spawn, 1, NULL, "restore", "--from", room);
    cr_expect(strstr(run.err, "damaged"), "%s", run.err);
    harness_run_free(&run);
    HARNESS_CHECK(&spawn, 1, "get", "text:10");
    flip(path, 300000);
    HARNESS_CHECK(&spawn, 0, "restore", "--from", room);
    HARNESS_CHECK(&spawn, 0, "get", "text:10");
    /* A checkpoint that cannot be read, one that is gone. */
    file_of(part, "checkpoints", ".gwc", path, sizeof path);
    for (int gone = 0; gone <= 1; gone++) {
        if (gone)
            unlink(path);
        else
            flip(path, 100);
        run = verify(&spawn, part);
        cr_expect_eq(run.code, 1, "%s", run.out);
        cr_expect(strstr(run.out, strrchr(path, '/') + 1), "%s", run.out);
        cr_expect(!gone || strstr(run.out, "missing: store.json"), "%s", run.out);
        harness_run_free(&run);
    }
    /* A manifest that is gone, a file that is gone. */
    snprintf(path, sizeof path, "%s/manifest.json", part);
    unlink(path);
    run = HARNESS_EXPECT(&spawn, 1, NULL, "restore", "--from", room);
    cr_expect(strstr(run.err, "no backup"), "%s", run.err);
    harness_run_free(&run);
    harness_stop(&spawn);
}

Test(backup, what_makes_no_sense_is_refused)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    HARNESS_CHECK(&spawn, 2, "backup");
    HARNESS_CHECK(&spawn, 2, "backup", "--to", "relative");
    struct harness_run run = HARNESS_EXPECT(&spawn, 5, NULL, "backup", "--to", "/tmp");
    cr_expect(strstr(run.err, "--disk"), "%s", run.err);
    harness_run_free(&run);
    HARNESS_CHECK(&spawn, 1, "restore", "--from", "/nonexistent");
    HARNESS_CHECK(&spawn, 2, "verify");
    run = verify(&spawn, "/nonexistent");
    cr_expect_eq(run.code, 3);
    harness_run_free(&run);
    harness_stop(&spawn);
}
