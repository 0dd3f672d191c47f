/* Goal: a directory is an object store: whole objects or none, ranges, lists in the order of the
 * bytes, names that stay inside; and the client's own promises that need no network: one callback
 * for each call, a bounded queue, cancellation by close, deadlines.
 * How: real files. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "tests/support/blob_calls.h"
#include "tests/support/tier.h"
#include "tiering/blob.h"
#include "tiering/blob_internal.h"

static char *dir;
static struct gw_blob *blob;
static char text[1 << 20];
static uint32_t count;

static struct gw_blob *open_at(const char *path)
{
    char url[4096], error[512] = "";
    struct gw_blob *out = NULL;
    snprintf(url, sizeof url, "dir:%s", path);
    struct gw_blob_options options = {.url = url, .backoff_first_ns = 5 * BLOB_MS};
    cr_assert_eq(gw_blob_open(&options, &out, error, sizeof error), GW_OK, "%s", error);
    return out;
}

static void setup(void)
{
    dir = tier_dir_make();
    blob = open_at(dir);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void teardown(void)
{
    gw_blob_close(blob);
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(dir);
}

static void expect_list(const char *prefix, const char *after, const char *expected)
{
    cr_expect_eq(blob_list(blob, prefix, after, BLOB_NONE, text, sizeof text, &count), GW_OK);
    cr_expect_str_eq(text, expected, "'%s' behind '%s': %s", prefix, after, text);
}

Test(blob_dir, what_was_put_is_got_whole_and_in_parts, .init = setup, .fini = teardown)
{
    struct blob_note note;
    size_t n = (5 << 20) + 3; /* several steps, a sync in between */
    uint8_t *bytes = blob_bytes(n, 1);
    cr_assert_eq(blob_put(blob, "c/s/one.gwo", bytes, n, BLOB_NONE), GW_OK);
    cr_assert_eq(blob_get(blob, "c/s/one.gwo", 0, 0, BLOB_NONE, &note), GW_OK);
    cr_expect_eq(note.bytes, n);
    cr_expect_arr_eq(note.data, bytes, n);
    blob_note_fini(&note);

    cr_assert_eq(blob_get(blob, "c/s/one.gwo", 1234567, 4096, BLOB_NONE, &note), GW_OK);
    cr_expect_eq(note.bytes, 4096);
    cr_expect_arr_eq(note.data, bytes + 1234567, 4096);
    blob_note_fini(&note);
    cr_assert_eq(blob_get(blob, "c/s/one.gwo", n - 5, 4096, BLOB_NONE, &note), GW_OK);
    cr_expect_eq(note.bytes, 5, "it ends there");
    cr_expect_arr_eq(note.data, bytes + n - 5, 5);
    blob_note_fini(&note);
    cr_expect_eq(blob_get(blob, "c/s/one.gwo", n + 5, 4096, BLOB_NONE, &note), GW_OK);
    cr_expect_eq(note.bytes, 0);

    cr_expect_eq(blob_put(blob, "c/s/none.gwo", NULL, 0, BLOB_NONE), GW_OK);
    cr_expect_eq(blob_get(blob, "c/s/none.gwo", 0, 0, BLOB_NONE, &note), GW_OK);
    cr_expect_eq(note.bytes, 0);
    struct gw_blob_stats stats;
    gw_blob_stats(blob, &stats);
    cr_expect_eq(stats.puts, 2);
    cr_expect_eq(stats.gets, 5);
    cr_expect_eq(stats.bytes_up, n);
    cr_expect_eq(stats.bytes_down, n + 4096 + 5);
    cr_expect(stats.healthy);
    cr_expect_eq(stats.failures + stats.retries, 0);
    free(bytes);
}

Test(blob_dir, putting_again_is_the_same_and_deleting_ends_it, .init = setup, .fini = teardown)
{
    struct blob_note note;
    cr_expect_eq(blob_put(blob, "a", "first", 5, BLOB_NONE), GW_OK);
    cr_expect_eq(blob_put(blob, "a", "again!", 6, BLOB_NONE), GW_OK);
    cr_expect_eq(blob_get(blob, "a", 0, 0, BLOB_NONE, &note), GW_OK);
    cr_assert_eq(note.bytes, 6);
    cr_expect_arr_eq(note.data, "again!", 6);
    blob_note_fini(&note);
    cr_expect_eq(blob_delete(blob, "a", BLOB_NONE), GW_OK);
    cr_expect_eq(blob_delete(blob, "a", BLOB_NONE), GW_OK, "it is deleted already");
    cr_expect_eq(blob_get(blob, "a", 0, 0, BLOB_NONE, &note), GW_NOT_FOUND);
    cr_expect_eq(blob_get(blob, "a", 0, 10, BLOB_NONE, &note), GW_NOT_FOUND);
    cr_expect_eq(blob_get(blob, "no/such/way", 0, 10, BLOB_NONE, &note), GW_NOT_FOUND);
    struct gw_blob_stats stats;
    gw_blob_stats(blob, &stats);
    cr_expect(stats.healthy, "an object that is not there is an answer");
    cr_expect_eq(stats.failures, 0);
}

Test(blob_dir, names_are_listed_in_the_order_of_their_bytes, .init = setup, .fini = teardown)
{
    /* '-' < '.' < '/' < '0': a directory stands where its slash does. */
    static const char *const names[] = {"a/x/2", "a-b", "a.b", "a/x/1", "a0", "a/x-", "b", "a/y"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        cr_assert_eq(blob_put(blob, names[i], "1234567", i, BLOB_NONE), GW_OK);
    expect_list("", "", "a-b=1 a.b=2 a/x-=5 a/x/1=3 a/x/2=0 a/y=7 a0=4 b=6 ");
    expect_list("a/", "", "a/x-=5 a/x/1=3 a/x/2=0 a/y=7 ");
    expect_list("a/x", "", "a/x-=5 a/x/1=3 a/x/2=0 ");
    expect_list("a/x/", "a/x/1", "a/x/2=0 ");
    expect_list("a", "a/x/1", "a/x/2=0 a/y=7 a0=4 ");
    expect_list("", "a/x", "a/x-=5 a/x/1=3 a/x/2=0 a/y=7 a0=4 b=6 ");
    expect_list("", "b", "");
    expect_list("c", "", "");
}

Test(blob_dir, a_list_is_told_in_pieces_of_a_thousand, .init = setup, .fini = teardown)
{
    char name[64], after[64] = "";
    for (int i = 0; i < 1005; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/o%04d", dir, i);
        int fd = open(path, O_CREAT | O_WRONLY, 0666);
        cr_assert_geq(fd, 0);
        close(fd);
    }
    cr_assert_eq(blob_list(blob, "o", "", BLOB_NONE, text, sizeof text, &count), GW_OK);
    cr_expect_eq(count, 1000);
    snprintf(after, sizeof after, "o%04d", 999);
    cr_assert_eq(blob_list(blob, "o", after, BLOB_NONE, text, sizeof text, &count), GW_OK);
    cr_expect_eq(count, 5);
    snprintf(name, sizeof name, "o%04d=0 ", 1000);
    cr_expect_eq(strncmp(text, name, strlen(name)), 0);
}

Test(blob_dir, names_that_could_lead_elsewhere_are_refused, .init = setup, .fini = teardown)
{
    char longest[GW_BLOB_NAME_MAX + 2];
    memset(longest, 'n', sizeof longest - 1);
    longest[GW_BLOB_NAME_MAX] = 0;
    cr_expect(gwi_blob_name_valid(longest));
    longest[GW_BLOB_NAME_MAX] = 'n';
    longest[GW_BLOB_NAME_MAX + 1] = 0;
    static const char *const bad[] = {"",       "/a",       "a/",   "a//b", "..",   "../a",
                                      "a/../b", ".a",       "a/.b", "a b",  "a\nb", "a%2f",
                                      "a\\b",   "\xc3\xa4", "a/.",  "*",    "a:b"};
    for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
        const char *name = i < sizeof bad / sizeof *bad ? bad[i] : longest;
        struct blob_note note;
        cr_expect_eq(blob_put(blob, name, "x", 1, BLOB_NONE), GW_E_INVALID, "'%s'", name);
        cr_expect_eq(blob_get(blob, name, 0, 0, BLOB_NONE, &note), GW_E_INVALID, "'%s'", name);
        cr_expect_eq(blob_delete(blob, name, BLOB_NONE), GW_E_INVALID, "'%s'", name);
        if (name[0])
            cr_expect_eq(blob_list(blob, "", name, BLOB_NONE, text, sizeof text, &count),
                         GW_E_INVALID, "'%s'", name);
    }
    cr_expect_eq(blob_list(blob, "../", "", BLOB_NONE, text, sizeof text, &count), GW_E_INVALID);
}

/* What a crash in the middle of a put leaves is no object, and goes away when it is old. */
Test(blob_dir, half_an_object_is_none, .init = setup, .fini = teardown)
{
    char fresh[4096], old[4096], foreign[4096];
    cr_assert_eq(blob_put(blob, "s/a", "a", 1, BLOB_NONE), GW_OK);
    snprintf(fresh, sizeof fresh, "%s/s/.0123456789abcdef-1", dir);
    snprintf(old, sizeof old, "%s/s/.0123456789abcdef-2", dir);
    snprintf(foreign, sizeof foreign, "%s/s/.bashrc", dir);
    const char *const paths[] = {fresh, old, foreign};
    for (int i = 0; i < 3; i++) {
        int fd = open(paths[i], O_CREAT | O_WRONLY, 0666);
        cr_assert_geq(fd, 0);
        close(fd);
    }
    struct timespec at[2] = {{.tv_sec = time(NULL) - 7200}, {.tv_sec = time(NULL) - 7200}};
    cr_assert_eq(utimensat(AT_FDCWD, old, at, 0), 0);
    cr_assert_eq(utimensat(AT_FDCWD, foreign, at, 0), 0);
    expect_list("", "", "s/a=1 ");
    cr_expect_eq(access(fresh, F_OK), 0, "somebody may be writing it");
    cr_expect_neq(access(old, F_OK), 0);
    cr_expect_eq(access(foreign, F_OK), 0, "not ours");
}

static void wait_for_a_file(void)
{
    for (int i = 0; i < 20000 && tier_dir_count(dir, "") == 0; i++)
        usleep(500);
}

/* After a put nothing but the object is there; a put that is cancelled leaves nothing. */
Test(blob_dir, close_cancels_and_leaves_nothing_half_done, .init = setup, .fini = teardown)
{
    enum { PUTS = 8 };
    static struct blob_note notes[PUTS];
    size_t n = 32 << 20;
    uint8_t *bytes = blob_bytes(n, 2);
    char name[32];
    for (int i = 0; i < PUTS; i++) {
        snprintf(name, sizeof name, "p%02d", i);
        cr_assert_eq(gw_blob_put(blob, name, bytes, n, BLOB_NONE, blob_noted, &notes[i]), GW_OK);
    }
    wait_for_a_file(); /* of the first one, which has just begun */
    gw_blob_close(blob);
    uint32_t done = 0, cancelled = 0;
    for (int i = 0; i < PUTS; i++) {
        cr_expect_eq(notes[i].calls, 1);
        done += notes[i].status == GW_OK;
        cancelled += notes[i].status == GW_E_CANCELLED;
    }
    cr_expect_eq(done + cancelled, PUTS);
    cr_expect_gt(cancelled, 0);
    cr_expect_eq(tier_dir_count(dir, ""), done, "files of puts that were cancelled are left");
    blob = open_at(dir);
    free(bytes);
}

/* Several rounds, for this thread may sleep while a whole put is done. */
Test(blob_dir, a_get_does_not_wait_for_the_put_before_it, .init = setup, .fini = teardown)
{
    enum { ROUNDS = 8 };
    size_t n = 64 << 20;
    uint8_t *bytes = blob_bytes(n, 3);
    bool overtook = false;
    for (int i = 0; i < ROUNDS && !overtook; i++) {
        struct blob_note put = {0}, note;
        cr_assert_eq(blob_delete(blob, "put", BLOB_NONE), GW_OK);
        cr_assert_eq(gw_blob_put(blob, "put", bytes, n, BLOB_NONE, blob_noted, &put), GW_OK);
        wait_for_a_file();
        cr_expect_eq(blob_get(blob, "cold", 0, 0, BLOB_NONE, &note), GW_NOT_FOUND);
        blob_await(&put);
        cr_expect_eq(put.status, GW_OK);
        overtook = note.ended_ns < put.ended_ns;
    }
    cr_expect(overtook, "a cold read waits for a whole upload");
    free(bytes);
}

static _Atomic bool held;

static void hold(void *ctx, enum gw_status status, const uint8_t *data, size_t bytes)
{
    while (atomic_load(&held))
        usleep(1000);
    blob_noted(ctx, status, data, bytes);
}

Test(blob_dir, the_queue_has_a_bound_and_deadlines_hold_within_it, .init = setup, .fini = teardown)
{
    static struct blob_note notes[GW_BLOB_QUEUE_MAX + 2];
    held = true; /* the thread stands still in the first callback */
    cr_assert_eq(gw_blob_delete(blob, "a", 0, hold, &notes[0]), GW_OK);
    usleep(20000);
    uint32_t taken = 1;
    enum gw_status st = GW_OK;
    while (taken < GW_BLOB_QUEUE_MAX + 2 &&
           (st = gw_blob_delete(blob, "a", BLOB_MS, blob_noted, &notes[taken])) == GW_OK)
        taken++;
    cr_expect_eq(st, GW_WOULD_BLOCK);
    cr_expect_eq(taken, 1 + GW_BLOB_QUEUE_MAX, "besides the one that is ending");
    struct gw_blob_stats stats;
    gw_blob_stats(blob, &stats);
    cr_expect_geq(stats.queued, GW_BLOB_QUEUE_MAX - 1);
    usleep(10000); /* past the deadline of the last one */
    held = false;
    for (uint32_t i = 0; i < taken; i++) {
        blob_await(&notes[i]);
        cr_assert_eq(notes[i].status, i == 0 ? GW_OK : GW_E_TIMEOUT);
    }
    cr_expect_eq(blob_delete(blob, "a", BLOB_NONE), GW_OK, "there is room again");
}

Test(blob_dir, a_directory_that_went_away_is_trouble_not_absence, .init = setup, .fini = teardown)
{
    struct blob_note note;
    cr_assert_eq(blob_put(blob, "a", "a", 1, BLOB_NONE), GW_OK);
    char path[4096];
    snprintf(path, sizeof path, "%s/a", dir);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(rmdir(dir), 0);
    uint64_t begin = gw_clock_now_ns(gw_clock_system());
    cr_expect_eq(blob_get(blob, "a", 0, 0, 300 * BLOB_MS, &note), GW_E_TIMEOUT);
    cr_expect_lt(gw_clock_now_ns(gw_clock_system()) - begin, 2000 * BLOB_MS);
    struct gw_blob_stats stats;
    gw_blob_stats(blob, &stats);
    cr_expect_not(stats.healthy);
    cr_expect_neq(stats.unhealthy_since_ms, 0);
    cr_expect_gt(stats.retries, 1);
    cr_expect_eq(stats.failures, 1);
    cr_expect(strstr(stats.trouble, "get of a") && strstr(stats.trouble, dir), "%s", stats.trouble);
}

Test(blob_dir, what_cannot_be_a_store_is_refused_with_a_sentence)
{
    static const struct {
        const char *url, *word;
        enum gw_status status;
    } cases[] = {
        {"dir:", "dir:PATH", GW_E_INVALID},
        {"dir:/no/such/directory", "/no/such/directory", GW_E_REFUSED},
        {"dir:/dev/null", "Not a directory", GW_E_REFUSED},
        {"file:/tmp", "names no object store", GW_E_INVALID},
        {"", "names no object store", GW_E_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char error[256] = "";
        struct gw_blob *none = NULL;
        struct gw_blob_options options = {.url = cases[i].url};
        cr_expect_eq(gw_blob_open(&options, &none, error, sizeof error), cases[i].status, "%s",
                     cases[i].url);
        cr_expect(strstr(error, cases[i].word), "%s", error);
        cr_expect_null(none);
    }
    gw_blob_close(NULL);
}
