/* Goal: a directory that cannot serve is refused with a word of why, before anything in it is
 * touched; what is not ours is never removed; sizes follow from the bound.
 * How: real directories with real files of other stores, versions and incarnations, and garbage. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/bytes.h"
#include "index/base/checksum.h"
#include "tests/support/tier.h"
#include "tiering/ssd.h"
#include "tiering/ssd_format.h"

#define PAGE_BITS 13u
#define PAGE      (1u << PAGE_BITS)
#define STORE     0xABCDEFu

static char *dir;
static struct gw_ssd_report report;
static struct gw_ssd_options options;

static void begin(void)
{
    dir = tier_dir_make();
    options = (struct gw_ssd_options){.dir = dir,
                                      .page_bits = PAGE_BITS,
                                      .segment_bytes = 2 * PAGE,
                                      .store_id = STORE,
                                      .incarnation = 3};
}

static void end(void)
{
    tier_dir_remove(dir);
}

TestSuite(ssd_dir, .init = begin, .fini = end);

/* Leaves `segments` segments of another start behind. */
static void earlier_start(uint64_t store_id, uint32_t incarnation, uint32_t segments)
{
    struct gw_ssd_options o = options;
    struct gw_ssd_report r;
    struct gw_device *device;
    o.store_id = store_id;
    o.incarnation = incarnation;
    cr_assert_eq(gw_ssd_open(&o, &device, &r), GW_OK, "%s", r.error);
    uint8_t *page = tier_room(PAGE);
    for (uint64_t i = 0; i < segments; i++) {
        tier_fill(page, PAGE, i * 2 * PAGE);
        cr_assert_eq(tier_write(device, 0, i * 2 * PAGE, page, PAGE), GW_OK);
    }
    free(page);
    gw_ssd_close(device);
}

static void put_file(const char *name, const void *bytes, size_t n)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, n), (ssize_t)n);
    close(fd);
}

static void expect_refused(enum gw_status status, const char *word)
{
    struct gw_device *device = NULL;
    uint32_t files = tier_dir_count(dir, ""), open_files = tier_open_files();
    cr_expect_eq(gw_ssd_open(&options, &device, &report), status, "%s", report.error);
    cr_expect_null(device, "*out was written");
    cr_expect(strstr(report.error, word), "\"%s\" does not say \"%s\"", report.error, word);
    cr_expect_eq(tier_dir_count(dir, ""), files, "files came or went");
    cr_expect_eq(tier_open_files(), open_files, "descriptors leak");
}

static struct gw_device *expect_opened(void)
{
    struct gw_device *device = NULL;
    cr_assert_eq(gw_ssd_open(&options, &device, &report), GW_OK, "%s", report.error);
    cr_expect_eq(report.error[0], 0);
    return device;
}

Test(ssd_dir, is_made_when_its_parent_is_there)
{
    char path[8192];
    snprintf(path, sizeof path, "%s/tier", dir);
    options.dir = path;
    gw_ssd_close(expect_opened());
    struct stat st;
    cr_expect_eq(stat(path, &st), 0);
    snprintf(path, sizeof path, "%s/no/tier", dir);
    expect_refused(GW_E_REFUSED, "/no/tier");
}

Test(ssd_dir, that_is_a_file_or_cannot_be_written_is_refused)
{
    char path[8192];
    put_file("file", "x", 1);
    snprintf(path, sizeof path, "%s/file", dir);
    options.dir = path;
    expect_refused(GW_E_REFUSED, "directory");
    options.dir = "/proc/self"; /* nobody can make a file there, not even root */
    expect_refused(GW_E_REFUSED, "/proc/self");
    options.dir = "";
    expect_refused(GW_E_INVALID, "directory");
}

Test(ssd_dir, of_another_store_is_refused)
{
    earlier_start(STORE + 1, 1, 2);
    expect_refused(GW_E_REFUSED, "0000000000abcdf0");
}

Test(ssd_dir, with_segments_of_this_start_or_a_later_one_is_refused)
{
    earlier_start(STORE, 3, 1);
    expect_refused(GW_E_REFUSED, "incarnation 3");
    options.incarnation = 2;
    expect_refused(GW_E_REFUSED, "incarnation 3");
    options.incarnation = 4;
    gw_ssd_close(expect_opened());
}

Test(ssd_dir, of_another_format_is_refused)
{
    uint8_t block[GW_SSD_HEADER_BYTES];
    struct gw_ssd_header header = {.page_bits = PAGE_BITS,
                                   .block_bits = GW_SSD_BLOCK_BITS,
                                   .store_id = STORE,
                                   .segment_bytes = 2 * PAGE,
                                   .incarnation = 1};
    gw_ssd_header_write(&header, block);
    gw_store16(block + 4, GW_SSD_FORMAT + 1);
    gw_store32(block + sizeof block - 4, gw_crc32c(0, block, sizeof block - 4));
    put_file("log-00000001-0000000000000000.gws", block, sizeof block);
    expect_refused(GW_E_VERSION, "format 2");
}

Test(ssd_dir, leaves_alone_what_is_no_segment)
{
    uint8_t garbage[8192];
    memset(garbage, 0x5A, sizeof garbage);
    put_file("notes.txt", "mine", 4);
    put_file("log-00000001-0000000000000000.gws", garbage, sizeof garbage);
    put_file("log-00000001-0000000000004000.gws", "short", 5);
    put_file("log-00000001-0000000000008000-0000000000abcde0.tmp", "other store", 11);
    earlier_start(STORE, 2, 1);
    struct gw_device *device = expect_opened();
    cr_expect_eq(report.unknown_files, 4);
    cr_expect(strstr(report.unknown, "left alone"), "%s", report.unknown);
    cr_expect_eq(report.earlier_files, 1);
    uint32_t removed;
    cr_expect_eq(gw_ssd_forget_earlier(device, &removed), GW_OK);
    cr_expect_eq(removed, 1);
    gw_ssd_close(device);
    cr_expect_eq(tier_dir_count(dir, ""), 4);
    /* But a name that we would need is not taken over. */
    put_file("log-00000003-0000000000000000.gws", garbage, sizeof garbage);
    expect_refused(GW_E_REFUSED, "log-00000003-0000000000000000.gws");
}

Test(ssd_dir, lists_and_forgets_earlier_incarnations)
{
    earlier_start(STORE, 1, 3);
    options.incarnation = 4;
    earlier_start(STORE, 2, 2);
    put_file("log-00000002-0000000000008000-0000000000abcdef.tmp", "left by a crash", 15);
    struct gw_device *device = expect_opened();
    cr_expect_eq(report.earlier_files, 5);
    cr_expect_eq(report.earlier_bytes, 5 * report.file_bytes);
    cr_expect_eq(report.unknown_files, 0, "%s", report.unknown);
    struct gw_ssd_file files[8];
    cr_expect_eq(gw_ssd_earlier(device, files, 2), 5, "counts beyond the room");
    cr_assert_eq(gw_ssd_earlier(device, files, 8), 5);
    uint32_t of_one = 0;
    for (uint32_t i = 0; i < 5; i++) {
        of_one += files[i].incarnation == 1;
        cr_expect_eq(files[i].first_address % (2 * PAGE), 0);
        cr_expect_eq(files[i].bytes, report.file_bytes);
    }
    cr_expect_eq(of_one, 3);
    struct gw_device_usage usage;
    device->usage(device, &usage);
    cr_expect_eq(usage.used_bytes, report.earlier_bytes, "they take room");
    uint32_t removed = 0;
    cr_expect_eq(gw_ssd_forget_earlier(device, &removed), GW_OK);
    cr_expect_eq(removed, 5);
    cr_expect_eq(gw_ssd_earlier(device, NULL, 0), 0);
    device->usage(device, &usage);
    cr_expect_eq(usage.used_bytes, 0);
    gw_ssd_close(device);
    cr_expect_eq(tier_dir_count(dir, ""), 0);
}

/* What was replaced since it was listed is not ours to remove. */
Test(ssd_dir, does_not_forget_what_was_replaced_meanwhile)
{
    earlier_start(STORE, 1, 2);
    struct gw_device *device = expect_opened();
    put_file("log-00000001-0000000000000000.gws", "somebody else's", 15);
    uint32_t removed = 9;
    cr_expect_eq(gw_ssd_forget_earlier(device, &removed), GW_E_IO);
    cr_expect_eq(removed, 1);
    gw_ssd_close(device);
    cr_expect_eq(tier_dir_count(dir, ".gws"), 1);
}

Test(ssd_dir, segments_are_chosen_so_that_several_fit)
{
    static const struct {
        uint32_t page_bits;
        uint64_t limit, pages;
    } cases[] = {
        {22, 0, 64},                   /* no bound: 256 MiB */
        {22, (uint64_t)100 << 30, 64}, /* plenty */
        {22, (uint64_t)1 << 30, 31},   /* an eighth, less header and tables */
        {22, (uint64_t)200 << 20, 8},  /* not below 8 pages */
        {22, (uint64_t)100 << 20, 6},  /* unless fewer than 4 would fit */
        {13, (uint64_t)64 << 10, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        options.segment_bytes = 0;
        options.page_bits = cases[i].page_bits;
        options.limit_bytes = cases[i].limit;
        gw_ssd_close(expect_opened());
        cr_expect_eq(report.segment_bytes, cases[i].pages << cases[i].page_bits, "case %zu: %lu", i,
                     report.segment_bytes >> cases[i].page_bits);
        cr_expect(cases[i].limit == 0 || 4 * report.file_bytes <= cases[i].limit);
    }
    options.limit_bytes = 32 << 10;
    expect_refused(GW_E_INVALID, "at least 65536 bytes");
    options.segment_bytes = 64 * PAGE;
    options.limit_bytes = 128 * PAGE;
    expect_refused(GW_E_INVALID, "too small");
    options.segment_bytes = PAGE + 1;
    expect_refused(GW_E_INVALID, "whole pages");
    options.page_bits = 3;
    expect_refused(GW_E_INVALID, "page");
}
