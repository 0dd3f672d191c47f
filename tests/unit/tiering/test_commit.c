/* Goal: what a commit log said was durable is read back, in order, each entry as it was; blocks do
 * not mix intervals; files are made, filled and given back; memory of a burst is given back.
 * How: real files; entries whose bytes follow from their number; small files, so that there are
 * many. View is always interval + 100. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/commit_log.h"
#include "tests/support/tier.h"
#include "tiering/commit_internal.h"

#define FILE_BYTES (9u * 4096u) /* seven blocks of one unit */

static char *dir;
static struct gw_commit *log_;
static struct commit_seen seen;

static void open_log(uint64_t file_bytes, uint64_t limit)
{
    char error[GW_COMMIT_TEXT_BYTES];
    struct gw_commit_options options = commit_options(dir, 0, 3, file_bytes);
    options.limit_bytes = limit;
    cr_assert_eq(gw_commit_open(&options, &log_, error), GW_OK, "%s", error);
}

static void setup(void)
{
    dir = tier_dir_make();
    open_log(FILE_BYTES, 0);
}

static void teardown(void)
{
    gw_commit_close(log_);
    tier_dir_remove(dir);
}

/* Each entry a flush of its own. */
static void flush_each(uint64_t from, uint64_t to, uint64_t interval)
{
    for (uint64_t n = from; n <= to; n++) {
        cr_assert_eq(commit_append(log_, n, 0), GW_OK);
        cr_assert_eq(commit_flush_whole(log_, interval, interval + 100), GW_OK);
    }
}

static void expect(uint64_t wanted, uint64_t first, uint64_t last)
{
    commit_see(dir, wanted, false, &seen);
    cr_assert_eq(seen.status, GW_OK, "%s", seen.error);
    cr_expect(!seen.wrong);
    cr_expect_eq(seen.first, first);
    cr_expect_eq(seen.last, last);
    cr_expect_eq(seen.count, last ? last - first + 1 : 0);
    cr_expect_eq(seen.torn_bytes, 0);
}

Test(commit, what_was_flushed_is_read_back, .init = setup, .fini = teardown)
{
    for (uint64_t n = 1; n <= 1000; n++)
        cr_assert_eq(commit_append(log_, n, 0), GW_OK);
    cr_expect_gt(gw_commit_gathered(log_), 1000 * GW_COMMIT_ENTRY_BYTES);
    cr_assert_eq(commit_flush_whole(log_, 1, 101), GW_OK);
    cr_expect_eq(gw_commit_gathered(log_), 0);
    cr_expect_eq(commit_flush_whole(log_, 1, 101), GW_OK, "nothing to flush");
    flush_each(1001, 1030, 1);
    expect(0, 1, 1030);
    cr_expect_eq(seen.blocks, 31);
    struct gw_commit_usage usage;
    gw_commit_usage(log_, &usage);
    cr_expect_eq(usage.flushes, 31);
    cr_expect_gt(usage.flush_ns_longest, 0);
    cr_expect_geq(usage.files, 5);
}

Test(commit, what_was_only_gathered_is_not_there, .init = setup, .fini = teardown)
{
    flush_each(1, 3, 1);
    cr_assert_eq(commit_append(log_, 4, 0), GW_OK);
    expect(0, 1, 3);
    gw_commit_close(log_);
    log_ = NULL;
    expect(0, 1, 3);
}

Test(commit, blocks_are_divided_by_interval_and_view, .init = setup, .fini = teardown)
{
    for (uint64_t n = 1; n <= 30; n++) {
        cr_assert_eq(commit_append(log_, n, 0), GW_OK);
        if (n % 10 == 0 && n < 30)
            gw_commit_divide(log_, n / 10, n / 10 + 100);
    }
    gw_commit_divide(log_, 3, 103);
    gw_commit_divide(log_, 4, 104); /* nothing is left to divide */
    cr_assert_eq(commit_flush_whole(log_, 4, 104), GW_OK);
    expect(0, 1, 30);
    cr_expect_eq(seen.blocks, 3);
    cr_expect_eq(seen.interval_last, 3);
    expect(1, 11, 30);
    expect(2, 21, 30);
    expect(3, 0, 0);
    cr_expect_eq(seen.interval_last, 3);
}

Test(commit, a_value_larger_than_a_block_and_a_file, .init = setup, .fini = teardown)
{
    flush_each(1, 1, 1);
    cr_assert_eq(commit_append(log_, 2, 9u << 20), GW_OK);
    cr_assert_eq(commit_append(log_, 3, 0), GW_OK);
    cr_assert_eq(commit_append(log_, 4, 3u << 20), GW_OK);
    cr_assert_eq(commit_flush_whole(log_, 1, 101), GW_OK);
    flush_each(5, 6, 1);
    expect(0, 1, 6);
}

Test(commit, a_block_has_an_upper_size, .init = setup, .fini = teardown)
{
    for (uint64_t n = 1; n <= 40; n++)
        cr_assert_eq(commit_append(log_, n, 1u << 20), GW_OK);
    cr_assert_eq(commit_flush_whole(log_, 1, 101), GW_OK);
    expect(0, 1, 40);
    cr_expect_geq(seen.blocks, 5);
}

Test(commit, memory_of_a_burst_is_given_back, .init = setup, .fini = teardown)
{
    for (uint64_t n = 1; n <= 20; n++)
        cr_assert_eq(commit_append(log_, n, 1u << 20), GW_OK);
    cr_assert_eq(commit_flush_whole(log_, 1, 101), GW_OK);
    cr_expect_geq(log_->flight.room, 20u << 20);
    for (uint64_t n = 21; n <= 21 + 2 * 64 + 2; n++) {
        cr_assert_eq(commit_append(log_, n, 0), GW_OK);
        cr_assert_eq(commit_flush_whole(log_, 1, 101), GW_OK);
    }
    cr_expect_lt(log_->flight.room + log_->gather.room, 5u << 20);
    expect(0, 1, 21 + 2 * 64 + 2);
}

Test(commit, files_of_finished_intervals_go_or_are_used_again, .init = setup, .fini = teardown)
{
    struct gw_commit_usage usage;
    uint64_t n = 1;
    for (uint64_t interval = 1; interval <= 12; interval++) {
        flush_each(n, n + 19, interval);
        if (interval > 1)
            expect(interval - 2, n - 21, n + 19);
        n += 20;
        if (interval > 1)
            gw_commit_truncate(log_, interval - 1);
        flush_each(n, n, interval); /* behind it, the truncation has been done */
        expect(interval - 1, n - 20, n);
        n++;
        gw_commit_usage(log_, &usage);
        cr_expect_leq(usage.files, 9, "%u files", usage.files);
    }
    cr_expect_leq(tier_dir_count(dir, ".gwl"), 9);
}

Test(commit, a_log_that_was_truncated_begins_where_nobody_needs_it, .init = setup, .fini = teardown)
{
    flush_each(1, 28, 1); /* four files, full */
    flush_each(29, 40, 2);
    gw_commit_truncate(log_, 1);
    flush_each(41, 41, 2);
    usleep(20000);
    expect(1, 29, 41);
    commit_see(dir, 0, false, &seen);
    cr_expect_eq(seen.status, GW_E_CORRUPT, "interval 1 is gone: %s", seen.error);
}

/* Blocks that were written before are written again faster: nothing is made anew. */
Test(commit, files_that_are_given_back_are_used_again_up_to_a_quarter_of_the_bound, .init = setup,
     .fini = teardown)
{
    gw_commit_close(log_);
    tier_dir_remove(dir);
    dir = tier_dir_make();
    open_log(FILE_BYTES, 32 * FILE_BYTES);
    struct gw_commit_usage usage = {.files = 0};
    flush_each(1, 70, 1); /* ten files, full */
    flush_each(71, 72, 2);
    gw_commit_truncate(log_, 1);
    for (uint32_t tries = 0; tries < 400 && usage.spare_bytes < 8 * FILE_BYTES; tries++) {
        usleep(2000);
        gw_commit_usage(log_, &usage);
    }
    cr_expect_eq(usage.spare_bytes, 8 * FILE_BYTES);
    cr_expect_leq(usage.files, 11);
    uint32_t files = usage.files;
    flush_each(73, 73 + 42, 2); /* six more */
    gw_commit_usage(log_, &usage);
    cr_expect_eq(usage.files, files);
    cr_expect_leq(usage.spare_bytes, 3 * FILE_BYTES);
    expect(1, 71, 73 + 42);
}

Test(commit, at_its_limit_it_is_full_until_files_are_given_back, .init = setup, .fini = teardown)
{
    gw_commit_close(log_);
    tier_dir_remove(dir);
    dir = tier_dir_make();
    open_log(FILE_BYTES, 2 * FILE_BYTES);
    uint64_t n = 1;
    enum gw_status status = GW_OK;
    for (; n <= 40 && status == GW_OK; n++) {
        cr_assert_eq(commit_append(log_, n, 0), GW_OK);
        usleep(1000);
        status = commit_flush_whole(log_, n <= 10 ? 1 : 2, n <= 10 ? 101 : 102);
    }
    cr_assert_eq(status, GW_E_FULL, "after %lu", n);
    cr_expect_eq(n, 16, "14 blocks fit");
    cr_expect_eq(gw_commit_poll(log_), GW_OK, "what was flushed is durable");
    expect(0, 1, 14);
    gw_commit_truncate(log_, 1); /* the first file; the second begins in interval 1 */
    for (uint32_t tries = 0; tries < 200 && status == GW_E_FULL; tries++) {
        usleep(5000);
        status = commit_flush_whole(log_, 2, 102);
    }
    cr_expect_eq(status, GW_OK);
    expect(1, 11, 15);
}

static _Atomic uint32_t woken;
static void wake(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&woken, 1);
}

Test(commit, the_dispatcher_is_woken_once_a_flush, .init = setup, .fini = teardown)
{
    gw_commit_on_done(log_, wake, NULL);
    flush_each(1, 5, 1);
    usleep(10000);
    cr_expect_eq(atomic_load(&woken), 5);
    cr_assert_eq(commit_append(log_, 6, 8u << 20), GW_OK);
    cr_expect_eq(gw_commit_flush(log_, 1, 101), GW_PENDING);
    cr_assert_eq(commit_append(log_, 7, 0), GW_OK, "gathers meanwhile");
    enum gw_status status = gw_commit_flush(log_, 1, 101);
    cr_expect(status == GW_WOULD_BLOCK || status == GW_PENDING);
    cr_expect_eq(commit_wait(log_), GW_OK);
}

Test(commit, an_incarnation_is_used_once, .init = setup, .fini = teardown)
{
    char error[GW_COMMIT_TEXT_BYTES];
    struct gw_commit *second = NULL;
    struct gw_commit_options options = commit_options(dir, 0, 3, FILE_BYTES);
    cr_expect_eq(gw_commit_open(&options, &second, error), GW_E_IO);
    cr_expect(strstr(error, "c0-3-1.gwl"), "%s", error);
    options.file_bytes = 4097;
    cr_expect_eq(gw_commit_open(&options, &second, error), GW_E_INVALID);
}

Test(commit, logs_of_one_directory_are_told_apart_and_removed, .init = setup, .fini = teardown)
{
    char error[GW_COMMIT_TEXT_BYTES];
    flush_each(1, 20, 1);
    for (uint16_t d = 0; d < 3; d++) {
        struct gw_commit *other = NULL;
        struct gw_commit_options options = commit_options(dir, d, 2, FILE_BYTES);
        cr_assert_eq(gw_commit_open(&options, &other, error), GW_OK);
        cr_assert_eq(commit_append(other, 1, 0), GW_OK);
        cr_assert_eq(commit_flush_whole(other, 5u + d, 105u + d), GW_OK);
        gw_commit_close(other);
    }
    struct gw_commit_logs *logs;
    cr_assert_eq(gw_commit_logs_open(dir, COMMIT_STORE, 0, false, &logs, error), GW_OK);
    cr_assert_eq(gw_commit_logs_count(logs), 4);
    for (uint32_t i = 0; i < 4; i++) {
        struct gw_commit_log_info info;
        gw_commit_logs_info(logs, i, &info);
        cr_expect_eq(info.incarnation, i < 3 ? 2 : 3);
        cr_expect_eq(info.dispatcher, i < 3 ? i : 0);
        cr_expect_eq(info.interval_last, i < 3 ? 5 + i : 1);
    }
    gw_commit_logs_close(logs);
    uint32_t removed = 0;
    cr_expect_eq(gw_commit_logs_remove(dir, COMMIT_STORE, 6, 3, &removed), GW_OK);
    cr_expect_eq(removed, 2, "%u: two of incarnation 2; interval 7 and incarnation 3 stay",
                 removed);
    commit_see(dir, 0, false, &seen);
    cr_expect_eq(seen.logs, 2);
    cr_expect_eq(gw_commit_logs_remove(dir, COMMIT_STORE + 1, 100, 3, &removed), GW_E_REFUSED);
    cr_expect_eq(gw_commit_logs_remove(dir, COMMIT_STORE, 7, 3, &removed), GW_OK);
    expect(0, 1, 20);
}

Test(commit, no_directory_no_logs)
{
    commit_see("/nowhere/at/all", 0, false, &seen);
    cr_expect_eq(seen.status, GW_OK);
    cr_expect_eq(seen.logs, 0);
}
