/* Goal: what one incarnation wrote and synced the next one reads, without a gap being readable and
 * without anything wrong being taken for right; every damaged, missing, foreign file is named and
 * nothing is removed then; a failed sync is never followed by a good one.
 * How: three segments of an incarnation, closed; then damaged in one way each. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/tier.h"
#include "tiering/ssd.h"
#include "tiering/ssd_calls.h"
#include "tiering/ssd_format.h"

#define PAGE_BITS 15u
#define PAGE      (1u << PAGE_BITS)
#define SEGMENT   (4u * PAGE)
#define STORE     0x1122334455667788u
#define FIRST     (8u * PAGE) /* address: the third segment's first page */
#define PAGES     11u

static char *dir;
static struct gw_device *device;
static struct gw_ssd_report report;
static uint8_t *page, *room;

static struct gw_ssd_options options_of(uint32_t incarnation)
{
    return (struct gw_ssd_options){.dir = dir,
                                   .page_bits = PAGE_BITS,
                                   .segment_bytes = SEGMENT,
                                   .store_id = STORE,
                                   .server_id = "A",
                                   .hash_seed_check = 99,
                                   .keep_earlier = incarnation > 1,
                                   .incarnation = incarnation,
                                   .queues = 2,
                                   .depth = 64};
}

static void open_as(uint32_t incarnation)
{
    struct gw_ssd_options o = options_of(incarnation);
    cr_assert_eq(gw_ssd_open(&o, &device, &report), GW_OK, "%s", report.error);
}

static enum gw_status sync_now(void)
{
    struct tier_note note = {0};
    cr_assert_eq(device->sync(device, 0, tier_noted, &note), GW_PENDING);
    tier_await(device, 0, &note, 1);
    return note.status;
}

/* Pages FIRST.. of incarnation 1: segments 2, 3 and three pages of 4. */
static void setup(void)
{
    dir = tier_dir_make();
    page = tier_room(PAGE);
    room = tier_room(PAGE);
    open_as(1);
    for (uint32_t i = 0; i < PAGES; i++) {
        tier_fill(page, PAGE, FIRST + i * PAGE);
        cr_assert_eq(tier_write(device, 0, FIRST + (uint64_t)i * PAGE, page, PAGE), GW_OK);
    }
    cr_assert_eq(sync_now(), GW_OK);
    gw_ssd_close(device);
}

static void teardown(void)
{
    free(page);
    free(room);
    tier_dir_remove(dir);
}

TestSuite(ssd_adopt, .init = setup, .fini = teardown);

static uint64_t used_bytes(void)
{
    struct gw_device_usage usage;
    device->usage(device, &usage);
    return usage.used_bytes;
}

static char error[GW_SSD_TEXT_BYTES];

static enum gw_status adopt(uint64_t begin, uint64_t end)
{
    return gw_ssd_adopt(device, gw_addr_of(begin), gw_addr_of(end), NULL, 0, error, sizeof error);
}

static void path_of(uint32_t incarnation, uint64_t first, char *path, size_t bytes)
{
    char name[GW_SSD_NAME_BYTES];
    gw_ssd_name(incarnation, first, name);
    snprintf(path, bytes, "%s/%s", dir, name);
}

static void flip(const char *path, uint64_t offset)
{
    uint8_t byte;
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0 && pread(fd, &byte, 1, (off_t)offset) == 1);
    byte ^= 4;
    cr_assert_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

Test(ssd_adopt, an_image_is_read_by_the_next_incarnation_and_nothing_beyond_it)
{
    uint64_t begin = FIRST + 5 * PAGE, end = FIRST + 10 * PAGE;
    open_as(2);
    cr_expect_eq(used_bytes(), 0);
    cr_expect_eq(gw_ssd_resume(device, gw_addr_of(end)).v, FIRST + 12 * PAGE);
    cr_expect_eq(gw_ssd_resume(device, gw_addr_of(FIRST + 12 * PAGE + 1)).v, FIRST + 16 * PAGE);
    cr_assert_eq(adopt(begin, end), GW_OK, "%s", error);
    cr_expect_eq(used_bytes(), 2 * report.file_bytes);
    cr_expect_eq(tier_dir_count(dir, ".gws"), 2, "what holds nothing of the image is removed");
    for (uint32_t i = 0; i < PAGES; i++) {
        uint64_t at = FIRST + (uint64_t)i * PAGE;
        enum gw_status st = tier_read(device, 1, at, room, PAGE);
        if (at >= begin && at < end)
            cr_expect(st == GW_OK && tier_is_filled(room, PAGE, at));
        else
            cr_expect_eq(st, GW_NOT_FOUND, "page %u", i);
    }
    /* Our own pages come behind, and trimming takes the old files first. */
    uint64_t resume = gw_ssd_resume(device, gw_addr_of(end)).v;
    tier_fill(page, PAGE, resume);
    cr_assert_eq(tier_write(device, 0, resume, page, PAGE), GW_OK);
    device->trim(device, gw_addr_of(FIRST + 8 * PAGE));
    for (int i = 0; i < 1000 && tier_dir_count(dir, ".gws") != 2; i++)
        usleep(1000);
    cr_expect_eq(tier_dir_count(dir, ".gws"), 2);
    cr_expect_eq(tier_read(device, 1, FIRST + 5 * PAGE, room, PAGE), GW_NOT_FOUND);
    cr_expect_eq(tier_read(device, 1, resume, room, PAGE), GW_OK);
    gw_ssd_close(device);
}

Test(ssd_adopt, a_third_incarnation_adopts_from_both_and_leaves_the_gap_out)
{
    open_as(2);
    cr_assert_eq(adopt(FIRST, FIRST + 9 * PAGE), GW_OK, "%s", error);
    uint64_t resume = FIRST + 12 * PAGE;
    for (uint32_t i = 0; i < 2; i++) {
        tier_fill(page, PAGE, resume + i * PAGE);
        cr_assert_eq(tier_write(device, 0, resume + (uint64_t)i * PAGE, page, PAGE), GW_OK);
    }
    cr_assert_eq(sync_now(), GW_OK);
    gw_ssd_close(device);
    open_as(3);
    struct gw_addr_range gap = {gw_addr_of(FIRST + 9 * PAGE), gw_addr_of(resume)};
    cr_assert_eq(gw_ssd_adopt(device, gw_addr_of(FIRST + PAGE), gw_addr_of(resume + 2 * PAGE), &gap,
                              1, error, sizeof error),
                 GW_OK, "%s", error);
    cr_expect_eq(tier_read(device, 0, FIRST + PAGE, room, PAGE), GW_OK);
    cr_expect_eq(tier_read(device, 0, FIRST + 8 * PAGE, room, PAGE), GW_OK);
    cr_expect_eq(tier_read(device, 0, FIRST + 9 * PAGE, room, PAGE), GW_NOT_FOUND);
    cr_expect_eq(tier_read(device, 0, resume + PAGE, room, PAGE), GW_OK);
    cr_expect(tier_is_filled(room, PAGE, resume + PAGE));
    gw_ssd_close(device);
}

/* Restarts that come before a checkpoint, again and again: addresses go up, files do not. */
Test(ssd_adopt, no_number_of_restarts_makes_a_small_disk_full)
{
    uint64_t file_bytes = 0, resume = 0;
    for (uint32_t incarnation = 2; incarnation < 60; incarnation++) {
        struct gw_ssd_options o = options_of(incarnation);
        o.limit_bytes = file_bytes ? 5 * file_bytes : 0;
        cr_assert_eq(gw_ssd_open(&o, &device, &report), GW_OK, "%s", report.error);
        file_bytes = report.file_bytes;
        gw_addr next = gw_ssd_resume(device, gw_addr_of(FIRST + 9 * PAGE));
        cr_assert_gt(next.v, resume);
        resume = next.v;
        cr_assert_eq(adopt(FIRST, FIRST + 9 * PAGE), GW_OK, "%s", error);
        for (uint32_t i = 0; i < 2; i++) {
            uint64_t at = resume + (uint64_t)i * SEGMENT;
            tier_fill(page, PAGE, at);
            cr_assert_eq(tier_write(device, 0, at, page, PAGE), GW_OK, "start %u", incarnation);
            cr_assert_eq(tier_read(device, 0, at, room, PAGE), GW_OK);
            cr_assert(tier_is_filled(room, PAGE, at));
        }
        cr_assert_eq(tier_read(device, 0, FIRST + 8 * PAGE, room, PAGE), GW_OK);
        cr_assert(tier_is_filled(room, PAGE, FIRST + 8 * PAGE));
        cr_assert_eq(used_bytes(), 5 * file_bytes);
        if (incarnation == 59) {
            device->trim(device, gw_addr_of(resume + SEGMENT));
            cr_expect_eq(tier_read(device, 0, FIRST, room, PAGE), GW_NOT_FOUND);
            cr_expect_eq(tier_read(device, 0, resume + SEGMENT, room, PAGE), GW_OK);
            cr_expect_eq(used_bytes(), file_bytes);
        }
        gw_ssd_close(device);
    }
}

Test(ssd_adopt, damage_is_named_and_nothing_is_removed)
{
    char path[512], other[512];
    struct gw_ssd_geometry g = gw_ssd_geometry_of(PAGE_BITS, 4);
    path_of(1, FIRST + SEGMENT, path, sizeof path);
    path_of(1, FIRST, other, sizeof other);
    static const struct {
        const char *what, *says;
        enum gw_status status;
    } ways[] = {{"header", "header", GW_E_CORRUPT},
                {"table", "table", GW_E_CORRUPT},
                {"missing", "missing", GW_NOT_FOUND},
                {"short", "too short", GW_E_IO},
                {"swapped", "another segment", GW_E_CORRUPT}};
    for (uint32_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char keep[600], command[1300];
        snprintf(keep, sizeof keep, "%s.keep", dir);
        snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", keep, dir, keep);
        cr_assert_eq(system(command), 0);
        if (i == 0)
            flip(path, 100);
        else if (i == 1)
            flip(path, gw_ssd_table_offset(&g, 2) + 70);
        else if (i == 2)
            unlink(path);
        else if (i == 3)
            cr_assert_eq(truncate(path, 5000), 0);
        else {
            snprintf(command, sizeof command, "cp %s %s", other, path);
            cr_assert_eq(system(command), 0);
        }
        uint32_t files = tier_dir_count(dir, ".gws");
        open_as(2);
        enum gw_status st = adopt(FIRST, FIRST + 10 * PAGE);
        cr_expect(st == ways[i].status || st == GW_NOT_FOUND, "%s: %s", ways[i].what,
                  gw_status_name(st));
        cr_expect(strstr(error, "log-") != NULL, "%s names no file: %s", ways[i].what, error);
        cr_expect_eq(tier_dir_count(dir, ".gws"), files, "%s", ways[i].what);
        gw_ssd_close(device);
        snprintf(command, sizeof command, "rm -rf %s && mv %s %s", dir, keep, dir);
        cr_assert_eq(system(command), 0);
    }
}

Test(ssd_adopt, another_server_another_cluster_and_other_sizes_are_refused)
{
    struct gw_ssd_options o = options_of(2);
    o.server_id[0] = 'B';
    cr_assert_eq(gw_ssd_open(&o, &device, &report), GW_OK);
    cr_expect_eq(adopt(FIRST, FIRST + PAGE), GW_E_REFUSED, "%s", error);
    gw_ssd_close(device);
    o = options_of(3);
    o.hash_seed_check = 98;
    cr_assert_eq(gw_ssd_open(&o, &device, &report), GW_OK);
    cr_expect_eq(adopt(FIRST, FIRST + PAGE), GW_E_REFUSED, "%s", error);
    gw_ssd_close(device);
    o = options_of(4);
    o.segment_bytes = 2 * SEGMENT;
    cr_assert_eq(gw_ssd_open(&o, &device, &report), GW_OK);
    cr_expect_eq(adopt(FIRST, FIRST + PAGE), GW_E_INVALID, "%s", error);
    gw_ssd_close(device);
}

struct verified {
    uint32_t files, bad;
    char last[GW_SSD_TEXT_BYTES];
};

static void verified(void *ctx, const char *file, uint64_t bytes, const char *wrong)
{
    struct verified *v = ctx;
    (void)bytes;
    v->files++;
    if (wrong[0]) {
        v->bad++;
        snprintf(v->last, sizeof v->last, "%s: %s", file, wrong);
    }
}

Test(ssd_adopt, verify_finds_a_flipped_bit_in_any_block)
{
    struct gw_ssd_expected e = {.store_id = STORE,
                                .page_bits = PAGE_BITS,
                                .hash_seed_check = 99,
                                .begin = {FIRST},
                                .end = {FIRST + 10 * PAGE}};
    struct verified v = {0};
    cr_expect_eq(gw_ssd_verify(dir, &e, true, verified, &v), GW_OK, "%s", v.last);
    cr_expect_eq(v.files, 3);
    char path[512];
    path_of(1, FIRST + SEGMENT, path, sizeof path);
    struct gw_ssd_geometry g = gw_ssd_geometry_of(PAGE_BITS, 4);
    flip(path, gw_ssd_page_offset(&g, 3) + 3 * GW_DEVICE_BLOCK + 17);
    v = (struct verified){0};
    cr_expect_eq(gw_ssd_verify(dir, &e, false, verified, &v), GW_OK, "tables are good");
    v = (struct verified){0};
    cr_expect_eq(gw_ssd_verify(dir, &e, true, verified, &v), GW_E_CORRUPT);
    cr_expect_eq(v.bad, 1);
    cr_expect(strstr(v.last, "block") != NULL, "%s", v.last);
    unlink(path);
    v = (struct verified){0};
    cr_expect_eq(gw_ssd_verify(dir, &e, false, verified, &v), GW_E_CORRUPT);
    cr_expect(strstr(v.last, "missing") != NULL, "%s", v.last);
}

static int syncs_left;
static int failing_sync(void *ctx, int fd)
{
    (void)ctx;
    return syncs_left-- > 0 ? (fdatasync(fd) == 0 ? 0 : -errno) : -EIO;
}

Test(ssd_adopt, after_a_failed_sync_none_succeeds)
{
    struct gw_ssd_calls calls = *gw_ssd_calls_system();
    struct gw_ssd_options o = options_of(2);
    calls.sync = failing_sync;
    o.calls = &calls;
    syncs_left = 1; /* the header of the new file */
    cr_assert_eq(gw_ssd_open(&o, &device, &report), GW_OK);
    uint64_t at = gw_ssd_resume(device, gw_addr_of(0)).v;
    tier_fill(page, PAGE, at);
    cr_assert_eq(tier_write(device, 0, at, page, PAGE), GW_OK);
    cr_expect_eq(sync_now(), GW_E_IO);
    syncs_left = 100;
    cr_expect_eq(sync_now(), GW_E_IO);
    gw_ssd_close(device);
}

Test(ssd_adopt, one_sync_of_a_queue_at_a_time)
{
    open_as(2);
    struct tier_note a = {0}, b = {0};
    cr_assert_eq(device->sync(device, 0, tier_noted, &a), GW_PENDING);
    cr_expect_eq(device->sync(device, 0, tier_noted, &b), GW_WOULD_BLOCK);
    tier_await(device, 0, &a, 1);
    cr_expect_eq(a.status, GW_OK);
    cr_expect_eq(device->sync(device, 0, tier_noted, &b), GW_PENDING);
    gw_ssd_close(device); /* waits for it, without a callback */
    cr_expect_eq(b.calls, 0);
}
