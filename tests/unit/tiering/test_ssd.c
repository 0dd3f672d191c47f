/* Goal: the SSD tier keeps the contract of index/device.h on real files, in each of its four ways
 * (io_uring or threads, past the page cache or through it): bytes come back, damage is told from
 * good blocks, room is bounded, trimmed files go, sleepers are woken.
 * How: small pages and segments in a fresh directory; every test runs in all ways. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/support/tier.h"
#include "tiering/ssd.h"
#include "tiering/ssd_format.h"

#define PAGE_BITS 15u
#define PAGE      (1u << PAGE_BITS)
#define SEGMENT   (4u * PAGE)
#define STORE     0x1122334455667788u

struct way {
    char name[24]; /* no pointer: Criterion hands it to another process */
    bool threads, buffered;
};

static struct way ways[] = {{"ring, direct", false, false},
                            {"ring, buffered", false, true},
                            {"threads, direct", true, false},
                            {"threads, buffered", true, true}};

#define EVERY_WAY(name)                                                                            \
    ParameterizedTestParameters(ssd, name)                                                         \
    {                                                                                              \
        return cr_make_param_array(struct way, ways, sizeof ways / sizeof *ways);                  \
    }                                                                                              \
    ParameterizedTest(struct way *way, ssd, name)

static char *dir;
static struct gw_device *device;
static struct gw_ssd_report report;
static uint8_t *page, *room;

static struct gw_ssd_options options_of(const struct way *way)
{
    return (struct gw_ssd_options){.dir = dir,
                                   .page_bits = PAGE_BITS,
                                   .segment_bytes = SEGMENT,
                                   .store_id = STORE,
                                   .incarnation = 1,
                                   .queues = 3,
                                   .depth = 64,
                                   .threads = way->threads,
                                   .buffered = way->buffered};
}

static void start_with(const struct way *way, uint64_t limit_bytes)
{
    dir = dir ? dir : tier_dir_make();
    struct gw_ssd_options o = options_of(way);
    o.limit_bytes = limit_bytes;
    cr_assert_eq(gw_ssd_open(&o, &device, &report), GW_OK, "%s: %s", way->name, report.error);
    page = tier_room(PAGE);
    room = tier_room(PAGE);
}

static void start(const struct way *way)
{
    start_with(way, 0);
}

static void stop(void)
{
    gw_ssd_close(device);
    free(page);
    free(room);
    tier_dir_remove(dir);
    dir = NULL;
}

static enum gw_status write_page(uint64_t number)
{
    tier_fill(page, PAGE, number * PAGE);
    return tier_write(device, 0, number * PAGE, page, PAGE);
}

static bool reads_back(uint64_t at, uint32_t bytes)
{
    return tier_read(device, 1, at, room, bytes) == GW_OK && tier_is_filled(room, bytes, at);
}

static uint64_t used_bytes(void)
{
    struct gw_device_usage usage;
    device->usage(device, &usage);
    return usage.used_bytes;
}

EVERY_WAY(gives_back_what_was_written)
{
    start(way);
    cr_expect_eq(report.uring, !way->threads);
    cr_expect_eq(report.why[0] != 0, way->threads || way->buffered, "%s", report.why);
    const uint64_t base = (uint64_t)7 << 45; /* beyond the 42 bits of 16-byte units */
    for (uint64_t p = 11; p-- > 0;)          /* any order */
        cr_assert_eq(write_page(base / PAGE + p), GW_OK, "%s", way->name);
    for (uint64_t p = 0; p < 11; p++) {
        cr_expect(reads_back(base + p * PAGE, PAGE));
        for (uint32_t at = 0; at < PAGE; at += GW_DEVICE_BLOCK)
            cr_expect(reads_back(base + p * PAGE + at, GW_DEVICE_BLOCK));
    }
    struct gw_device_usage usage;
    device->usage(device, &usage);
    cr_expect_eq(usage.used_bytes, 3 * report.file_bytes);
    cr_expect_eq(usage.segment_bytes, SEGMENT);
    cr_expect_eq(usage.writes, 11);
    cr_expect_eq(usage.reads, 11 * 9);
    cr_expect_eq(usage.read_bytes, 11 * 2 * PAGE);
    cr_expect_geq(usage.memory_bytes, 3 * (SEGMENT / 1024));
    cr_expect_eq(usage.failed_reads + usage.failed_writes + usage.corrupt_blocks, 0);
    cr_expect_eq(tier_dir_count(dir, ".gws"), 3);
    cr_expect_eq(tier_dir_count(dir, ".tmp"), 0);
    stop();
}

EVERY_WAY(says_what_is_not_there_and_what_cannot_be)
{
    start(way);
    cr_assert_eq(write_page(1), GW_OK);
    cr_expect_eq(tier_read(device, 0, 0, room, 4096), GW_NOT_FOUND, "a page never written");
    cr_expect_eq(tier_read(device, 0, 9 * PAGE, room, 4096), GW_NOT_FOUND, "no such segment");
    cr_expect_eq(tier_read(device, 0, PAGE + 8, room, 4096), GW_E_INVALID);
    cr_expect_eq(tier_read(device, 0, PAGE, room + 8, 4096), GW_E_INVALID);
    cr_expect_eq(tier_read(device, 0, PAGE, room, 0), GW_E_INVALID);
    cr_expect_eq(tier_read(device, 0, 2 * PAGE - 4096, room, 8192), GW_E_INVALID, "over its end");
    cr_expect_eq(tier_write(device, 0, 4096, page, PAGE), GW_E_INVALID);
    cr_expect_eq(tier_write(device, 0, 2 * PAGE, page, 4096), GW_E_INVALID);
    cr_expect_eq(write_page(1), GW_E_INVALID, "a page is written once");
    cr_expect(reads_back(PAGE, PAGE), "and the second write did no harm");
    stop();
}

EVERY_WAY(has_many_reads_under_way_on_several_queues)
{
    start(way);
    for (uint64_t p = 0; p < 8; p++)
        cr_assert_eq(write_page(p), GW_OK);
    uint8_t *rooms = tier_room(2 * 64 * 4096);
    device->adopt(device, 1, rooms, 64 * 4096); /* the other queue does without */
    struct tier_note notes[2][64] = {0};
    for (uint32_t i = 0; i < 64; i++)
        for (uint32_t q = 1; q <= 2; q++)
            cr_assert_eq(device->read(device, q, gw_addr_of(i * 4096),
                                      rooms + ((q - 1) * 64 + i) * 4096, 4096, tier_noted,
                                      &notes[q - 1][i]),
                         GW_PENDING);
    cr_expect_eq(device->read(device, 1, gw_addr_of(0), room, 4096, tier_noted, NULL),
                 GW_WOULD_BLOCK, "deeper than its depth");
    tier_await(device, 2, notes[1], 64);
    cr_expect_eq(notes[0][0].calls, 0, "a callback came from another queue's poll");
    tier_await(device, 1, notes[0], 64);
    for (uint32_t i = 0; i < 64; i++)
        for (uint32_t q = 0; q < 2; q++) {
            cr_expect_eq(notes[q][i].status, GW_OK);
            cr_expect(tier_is_filled(rooms + (q * 64 + i) * 4096, 4096, i * 4096));
        }
    gw_ssd_close(device); /* before the adopted rooms go */
    device = NULL;
    free(rooms);
    stop();
}

/* Where a block of a page lies in its file; the file's name is in `name`. */
static uint64_t file_offset(uint64_t at, char name[GW_SSD_NAME_BYTES])
{
    struct gw_ssd_geometry g = gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE);
    gw_ssd_name(1, at / SEGMENT * SEGMENT, name);
    return gw_ssd_page_offset(&g, (uint32_t)(at % SEGMENT / PAGE)) + at % PAGE;
}

static void flip(uint64_t at)
{
    char name[GW_SSD_NAME_BYTES], path[8192];
    uint64_t offset = file_offset(at, name);
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= 0x10;
    cr_assert_eq(pwrite(fd, &byte, 1, (off_t)offset), 1);
    cr_assert_eq(fsync(fd), 0);
    close(fd);
}

EVERY_WAY(a_flipped_bit_is_corruption_of_its_block_alone)
{
    start(way);
    cr_assert_eq(write_page(0), GW_OK);
    cr_assert_eq(write_page(5), GW_OK);
    flip(5 * PAGE + 4096 + 777);
    for (uint32_t at = 0; at < PAGE; at += 4096) {
        bool bad = at == 4096;
        cr_expect_eq(tier_read(device, 1, 5 * PAGE + at, room, 4096), bad ? GW_E_CORRUPT : GW_OK);
        cr_expect(reads_back(at, 4096));
    }
    cr_expect_eq(tier_read(device, 1, 5 * PAGE, room, PAGE), GW_E_CORRUPT, "the page with it");
    struct gw_device_usage usage;
    device->usage(device, &usage);
    cr_expect_eq(usage.corrupt_blocks, 2);
    cr_expect_eq(usage.failed_reads, 0);
    stop();
}

EVERY_WAY(tables_and_header_on_disk_are_what_the_format_says)
{
    start(way);
    cr_assert_eq(write_page(6), GW_OK);
    char name[GW_SSD_NAME_BYTES], path[8192];
    (void)file_offset(6 * PAGE, name);
    cr_expect_str_eq(name, "log-00000001-0000000000020000.gws");
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0);
    struct gw_ssd_header h;
    cr_assert_eq(pread(fd, page, 4096, 0), 4096);
    cr_assert_eq(gw_ssd_header_read(page, &h), GW_OK);
    cr_expect_eq(h.store_id, STORE);
    cr_expect_eq(h.first_address, SEGMENT);
    cr_expect_eq(h.segment_bytes, SEGMENT);
    struct gw_ssd_geometry g = gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE);
    uint32_t checks[PAGE / 4096];
    cr_assert_eq(pread(fd, page, 4096, (off_t)gw_ssd_table_offset(&g, 2)), 4096);
    cr_expect_eq(gw_ssd_table_read(&g, STORE, 1, 6 * PAGE, page, checks), GW_OK);
    cr_expect_eq(gw_ssd_table_read(&g, STORE, 1, 7 * PAGE, page, checks), GW_E_CORRUPT);
    cr_assert_eq(pread(fd, page, PAGE, (off_t)gw_ssd_page_offset(&g, 2)), PAGE);
    cr_expect(tier_is_filled(page, PAGE, 6 * PAGE));
    close(fd);
    stop();
}

EVERY_WAY(the_bound_holds_and_trim_gives_its_room_back)
{
    uint64_t file = gw_ssd_geometry_of(PAGE_BITS, 4).file_bytes;
    start_with(way, 5 * file + 4096);
    for (uint64_t p = 0; p < 20; p++)
        cr_assert_eq(write_page(p), GW_OK);
    for (uint64_t round = 0; round < 3 * 16; round++) { /* over and over the segments' slots */
        uint64_t next = 20 + 4 * round;
        cr_assert_eq(write_page(next), GW_E_FULL);
        cr_assert_leq(used_bytes(), 5 * file + 4096);
        device->trim(device, gw_addr_of((next - 20 + 3) * PAGE)); /* not all of the segment yet */
        cr_assert_eq(write_page(next), GW_E_FULL);
        cr_assert_eq(tier_read(device, 1, (next - 20 + 2) * PAGE, room, 4096), GW_NOT_FOUND);
        cr_assert(reads_back((next - 20 + 3) * PAGE, 4096));
        device->trim(device, gw_addr_of((next - 20 + 4) * PAGE));
        for (uint64_t p = next; p < next + 4; p++)
            cr_assert_eq(write_page(p), GW_OK, "round %lu", round);
        cr_assert(reads_back(next * PAGE, PAGE));
        cr_assert(reads_back((next - 16) * PAGE, PAGE));
        cr_assert_leq(tier_dir_count(dir, ".gws"), 5);
    }
    cr_expect_eq(write_page(1), GW_NOT_FOUND, "below what was trimmed");
    device->trim(device, gw_addr_of(UINT64_MAX));
    gw_ssd_close(device);
    device = NULL;
    cr_expect_eq(tier_dir_count(dir, ""), 0, "everything was trimmed");
    stop();
}

EVERY_WAY(a_read_under_way_when_its_segment_is_trimmed_still_answers)
{
    start(way);
    uint8_t *rooms = tier_room(32 * 4096);
    for (uint64_t round = 0; round < 20; round++) {
        for (uint64_t p = 0; p < 4; p++)
            cr_assert_eq(write_page(round * 4 + p), GW_OK);
        struct tier_note notes[32] = {0};
        uint64_t base = round * SEGMENT;
        for (uint32_t i = 0; i < 32; i++)
            cr_assert_eq(device->read(device, 1, gw_addr_of(base + i * 4096), rooms + i * 4096,
                                      4096, tier_noted, &notes[i]),
                         GW_PENDING);
        if (round % 2)
            device->poll(device, 1); /* sent, or not */
        device->trim(device, gw_addr_of(base + SEGMENT));
        cr_expect_eq(tier_read(device, 2, base, room, 4096), GW_NOT_FOUND);
        tier_await(device, 1, notes, 32);
        for (uint32_t i = 0; i < 32; i++)
            cr_expect(notes[i].status == GW_NOT_FOUND ||
                      (notes[i].status == GW_OK &&
                       tier_is_filled(rooms + i * 4096, 4096, base + i * 4096)));
        cr_expect_eq(used_bytes(), 0);
    }
    gw_ssd_close(device);
    device = NULL;
    cr_expect_eq(tier_dir_count(dir, ""), 0);
    free(rooms);
    stop();
}

EVERY_WAY(a_sleeper_is_woken_by_what_comes_back)
{
    start(way);
    cr_assert_eq(write_page(0), GW_OK);
    struct pollfd fd = {.fd = device->wait_fd(device, 1), .events = POLLIN};
    cr_assert_geq(fd.fd, 0);
    cr_expect_eq(device->wait_fd(device, 1), fd.fd, "the same one each time");
    for (uint32_t i = 0; i < 50; i++) {
        struct tier_note note = {0};
        cr_assert_eq(device->read(device, 1, gw_addr_of(0), room, 4096, tier_noted, &note),
                     GW_PENDING);
        device->poll(device, 1);
        while (note.calls == 0) {
            cr_assert_eq(poll(&fd, 1, 10000), 1, "slept while something was due");
            device->poll(device, 1);
        }
        cr_assert_eq(note.status, GW_OK);
    }
    /* A segment that has to be made wakes its writer too. */
    struct tier_note note = {0};
    fd.fd = device->wait_fd(device, 2);
    tier_fill(page, PAGE, 40 * PAGE);
    cr_assert_eq(device->write(device, 2, gw_addr_of(40 * PAGE), page, PAGE, tier_noted, &note),
                 GW_PENDING);
    device->poll(device, 2);
    while (note.calls == 0) {
        cr_assert_eq(poll(&fd, 1, 10000), 1, "slept while something was due");
        device->poll(device, 2);
    }
    cr_assert_eq(note.status, GW_OK);
    uint32_t spurious = 0; /* and then lets it sleep */
    while (poll(&fd, 1, 0) == 1 && ++spurious < 1000)
        device->poll(device, 2);
    cr_expect_lt(spurious, 40);
    stop();
}

struct handed {
    struct tier_note notes[32], written;
    uint8_t *rooms;
};

static void *submit_and_end(void *arg)
{
    struct handed *h = arg;
    for (uint32_t i = 0; i < 32; i++)
        cr_assert_eq(device->read(device, 1, gw_addr_of(i % 8 * 4096), h->rooms + i * 4096, 4096,
                                  tier_noted, &h->notes[i]),
                     GW_PENDING);
    tier_fill(page, PAGE, PAGE);
    cr_assert_eq(device->write(device, 1, gw_addr_of(PAGE), page, PAGE, tier_noted, &h->written),
                 GW_PENDING);
    device->poll(device, 1);
    return NULL;
}

/* device.h: one thread at a time, but not always the same. */
EVERY_WAY(a_queue_changes_hands_with_operations_under_way)
{
    start(way);
    cr_assert_eq(write_page(0), GW_OK);
    struct handed h = {.rooms = tier_room(32 * 4096)};
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, submit_and_end, &h), 0);
    pthread_join(thread, NULL);
    tier_await(device, 1, h.notes, 32);
    tier_await(device, 1, &h.written, 1);
    for (uint32_t i = 0; i < 32; i++) {
        cr_expect_eq(h.notes[i].status, GW_OK);
        cr_expect(tier_is_filled(h.rooms + i * 4096, 4096, i % 8 * 4096));
    }
    cr_expect_eq(h.written.status, GW_OK);
    cr_expect(reads_back(PAGE, PAGE));
    free(h.rooms);
    stop();
}

/* The second thread of a queue has its rooms where the first one had them. */
EVERY_WAY(rooms_of_an_earlier_region_are_not_read_into)
{
    start(way);
    for (uint64_t p = 0; p < 4; p++)
        cr_assert_eq(write_page(p), GW_OK);
    uint8_t *region =
        mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(region, MAP_FAILED);
    device->adopt(device, 1, region, 16 * PAGE);
    cr_assert_eq(tier_read(device, 1, 0, region, PAGE), GW_OK);
    device->adopt(device, 1, NULL, 0);
    /* Other pages of memory at the same addresses. */
    cr_assert_eq(mmap(region, 16 * PAGE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
                 region);
    device->adopt(device, 1, region, 16 * PAGE);
    cr_expect_eq(tier_read(device, 1, PAGE, region + PAGE, PAGE), GW_OK, "%s", way->name);
    cr_expect(tier_is_filled(region + PAGE, PAGE, PAGE));
    device->adopt(device, 1, NULL, 0);
    cr_expect_eq(tier_read(device, 1, 2 * PAGE, region, PAGE), GW_OK);
    cr_expect(tier_is_filled(region, PAGE, 2 * PAGE));
    munmap(region, 16 * PAGE);
    stop();
}
