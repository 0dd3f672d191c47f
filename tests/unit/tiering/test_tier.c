/* Goal: SSD and object store look like one device: what was written is read back whether it is on
 * the disk, dropped, or another server's; through restarts, trims, cuts, and an object store that
 * is away; nobody's objects are taken for ours. How: against a directory as object store, with
 * pages whose bytes follow from their address, and a plain map of what should be there. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "index/base/rand.h"
#include "tests/support/tier.h"
#include "tiering/ssd_format.h"
#include "tiering/tier.h"
#include "tiering/tier_internal.h"

#define PAGE_BITS 13u
#define PAGE      (1u << PAGE_BITS)
#define SEGMENT   (8u * PAGE)
#define CLUSTER   0xC1u
#define STORE     0x51u
#define WAIT_NS   (UINT64_C(20) * 1000000000)

struct world {
    char *dir, *store, *url;
    struct gw_tier_options options;
    struct gw_device *device;
    struct gw_tier *tier;
    struct gw_ssd_report report;
    uint8_t *page;
};

static void remove_tree(char *dir)
{
    char command[4200];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    cr_assert_eq(system(command), 0);
    free(dir);
}

static struct world world_make(uint32_t segments)
{
    struct world w = {.dir = tier_dir_make(), .store = tier_dir_make(), .page = tier_room(PAGE)};
    w.url = malloc(strlen(w.store) + 8);
    sprintf(w.url, "dir:%s", w.store);
    uint64_t file = gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE).file_bytes;
    w.options = (struct gw_tier_options){.ssd = {.dir = w.dir,
                                                 .page_bits = PAGE_BITS,
                                                 .segment_bytes = SEGMENT,
                                                 .limit_bytes = segments * file,
                                                 .store_id = STORE,
                                                 .incarnation = 1,
                                                 .queues = 2,
                                                 .depth = 64,
                                                 .keep_earlier = true,
                                                 .hash_seed_check = 77},
                                         .blob_url = w.url,
                                         .cluster = CLUSTER,
                                         .server_id = "s1",
                                         .frame_bytes = GW_OBJECT_FRAME_MIN,
                                         .cache_bytes = 64 << 10,
                                         .read_deadline_ns = UINT64_C(2000000000)};
    return w;
}

static void world_open(struct world *w)
{
    enum gw_status status = gw_tier_open(&w->options, &w->device, &w->tier, &w->report);
    cr_assert_eq(status, GW_OK, "%s", w->report.error);
}

static void world_close(struct world *w)
{
    gw_tier_close(w->tier);
    w->tier = NULL;
}

static void world_end(struct world *w)
{
    gw_tier_close(w->tier);
    remove_tree(w->dir);
    remove_tree(w->store);
    free(w->url);
    free(w->page);
}

static enum gw_status put_page(struct world *w, uint64_t at)
{
    tier_fill(w->page, PAGE, at);
    return tier_write(w->device, 0, at, w->page, PAGE);
}

/* Waits for room as the log does. */
static void write_page(struct world *w, uint64_t at)
{
    uint64_t end = gwi_tier_now() + WAIT_NS;
    enum gw_status status;
    while ((status = put_page(w, at)) == GW_E_FULL && gwi_tier_now() < end)
        usleep(1000);
    struct gw_tier_stats stats;
    gw_tier_stats(w->tier, &stats);
    cr_assert_eq(status, GW_OK, "page %#lx: %s; shared %#lx, %s", at, gw_status_text(status),
                 stats.shared, stats.trouble);
}

static void await_shared(struct world *w, uint64_t to)
{
    uint64_t end = gwi_tier_now() + WAIT_NS;
    struct gw_tier_stats stats = {0};
    while (w->device->shared(w->device) < to) {
        gw_tier_stats(w->tier, &stats);
        cr_assert(gwi_tier_now() < end, "shared %#lx, wanted %#lx: %s", stats.shared, to,
                  stats.trouble);
        usleep(500);
    }
}

static void check_page(struct world *w, uint32_t queue, uint64_t at)
{
    memset(w->page, 0xEE, PAGE);
    enum gw_status status = tier_read(w->device, queue, at, w->page, PAGE);
    cr_assert_eq(status, GW_OK, "page %#lx: %s", at, gw_status_text(status));
    cr_assert(tier_is_filled(w->page, PAGE, at & (((uint64_t)1 << GW_DEVICE_ORIGIN_SHIFT) - 1)),
              "page %#lx: wrong bytes", at);
}

static uint32_t objects_in(const struct world *w)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%016x/%016x", w->store, CLUSTER, STORE);
    return tier_dir_count(path, ".gwo");
}

Test(tier, what_was_dropped_is_read_back)
{
    struct world w = world_make(4);
    world_open(&w);
    for (uint64_t p = 1; p < 20 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 20 * SEGMENT);
    struct gw_tier_stats stats;
    gw_tier_stats(w.tier, &stats);
    cr_assert_geq(stats.dropped_segments, 16);
    cr_assert_geq(stats.local_from, 16 * SEGMENT);
    cr_assert_str_eq(stats.trouble, "");
    struct gw_device_usage usage;
    w.device->usage(w.device, &usage);
    cr_assert_geq(usage.used_bytes, 20 * SEGMENT - PAGE);
    cr_assert_eq(usage.limit_bytes, 0);
    for (uint64_t p = 1; p < 20 * 8; p++)
        check_page(&w, p % 2, p * PAGE);
    cr_assert_eq(tier_read(w.device, 0, 0, w.page, PAGE), GW_NOT_FOUND);
    /* In pieces of any place and size. */
    struct gw_rand rand;
    gw_rand_init(&rand, 5);
    for (uint32_t i = 0; i < 300; i++) {
        uint64_t at = PAGE + gw_rand_below(&rand, 20 * SEGMENT - PAGE) / 4096 * 4096;
        uint32_t bytes = at % PAGE == 0 && i % 2 ? PAGE : 4096;
        cr_assert_eq(tier_read(w.device, 0, at, w.page, bytes), GW_OK);
        cr_assert(tier_is_filled(w.page, bytes, at));
    }
    gw_tier_stats(w.tier, &stats);
    cr_assert_gt(stats.cold_reads, 300);
    cr_assert_gt(stats.cache_hits, 0);
    cr_assert_leq(stats.cache_bytes, 64 << 10);
    world_end(&w);
}

Test(tier, many_reads_of_one_frame_ask_once)
{
    struct world w = world_make(4);
    world_open(&w);
    for (uint64_t p = 1; p < 12 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 12 * SEGMENT);
    struct gw_tier_stats stats, after;
    struct tier_note notes[32] = {0};
    uint8_t *rooms = tier_room(32 * 4096);
    gw_tier_stats(w.tier, &stats);
    for (uint32_t i = 0; i < 32; i++)
        cr_assert_eq(w.device->read(w.device, 1, gw_addr_of(PAGE + i % 2 * 4096), rooms + i * 4096,
                                    4096, tier_noted, &notes[i]),
                     GW_PENDING);
    tier_await(w.device, 1, notes, 32);
    for (uint32_t i = 0; i < 32; i++) {
        cr_assert_eq(notes[i].status, GW_OK);
        cr_assert(tier_is_filled(rooms + i * 4096, 4096, PAGE + i % 2 * 4096));
    }
    gw_tier_stats(w.tier, &after);
    cr_assert_eq(after.blob.gets - stats.blob.gets, 2, "a head and a frame");
    free(rooms);
    world_end(&w);
}

Test(tier, a_sleeper_is_woken_for_both)
{
    struct world w = world_make(4);
    world_open(&w);
    for (uint64_t p = 1; p < 12 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 12 * SEGMENT);
    int fd = w.device->wait_fd(w.device, 1);
    cr_assert_geq(fd, 0);
    cr_assert_eq(w.device->wait_fd(w.device, 1), fd);
    for (uint32_t i = 0; i < 40; i++) { /* in turn from there and from the disk */
        uint64_t at = i % 2 ? (uint64_t)11 * SEGMENT + i / 2 % 8 * PAGE : (1 + i / 2) * PAGE;
        struct tier_note note = {0};
        cr_assert_eq(w.device->read(w.device, 1, gw_addr_of(at), w.page, 4096, tier_noted, &note),
                     GW_PENDING);
        w.device->poll(w.device, 1);
        uint32_t turns = 0;
        while (note.calls == 0 && turns++ < 100) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            cr_assert_eq(poll(&p, 1, 5000), 1, "nobody woke us for read %u", i);
            w.device->poll(w.device, 1);
        }
        cr_assert_eq(note.calls, 1);
        cr_assert_eq(note.status, GW_OK);
        cr_assert(tier_is_filled(w.page, 4096, at));
    }
    world_end(&w);
}

/* Waits until it is known that reads there fail, or that they do not. */
static void await_away(const struct world *w, uint64_t at, bool away)
{
    uint64_t end = gwi_tier_now() + WAIT_NS;
    while (w->device->away(w->device, gw_addr_of(at)) != away) {
        cr_assert(gwi_tier_now() < end, "away: %d", !away);
        usleep(1000);
    }
}

/* Every request fails, or what there was is back. */
static void store_away(const struct world *w, bool away)
{
    char folder[4150], moved[4300];
    snprintf(folder, sizeof folder, "%s/%016x", w->store, CLUSTER);
    snprintf(moved, sizeof moved, "%s.away", folder);
    if (!away)
        cr_assert_eq(unlink(folder), 0);
    cr_assert_eq(rename(away ? folder : moved, away ? moved : folder), 0);
    if (away) /* a failure that may pass by itself: requests are tried again */
        cr_assert_eq(symlink(folder, folder), 0);
}

/* Goal: once it is known that the object store is away a read does not wait for its turn at it, and
 * when the store is back, reads are as before. How: all that a queue takes at once; most have their
 * answer before the one that tries all the same could have it. */
Test(tier, reads_do_not_stand_in_line_while_the_store_is_away)
{
    enum { READS = 64, MOST = 56, ROUNDS = 3 };
    static struct tier_note notes[READS];
    struct world w = world_make(4);
    world_open(&w);
    for (uint64_t p = 1; p < 20 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 20 * SEGMENT);
    store_away(&w, true);
    cr_assert_eq(tier_read(w.device, 0, PAGE, w.page, PAGE), GW_E_UNREACHABLE);
    await_away(&w, PAGE, true);
    uint8_t *room = tier_room(READS * 4096);
    uint32_t soon = 0; /* a round may be disturbed */
    for (uint32_t round = 0; round < ROUNDS && soon < MOST; round++) {
        memset(notes, 0, sizeof notes);
        uint64_t end = gwi_tier_now() + GWI_TIER_TRIAL_NS * 3 / 4;
        for (uint32_t i = 0; i < READS; i++)
            cr_assert_eq(w.device->read(w.device, 0, gw_addr_of((1 + i) * PAGE), room + i * 4096,
                                        4096, tier_noted, &notes[i]),
                         GW_PENDING);
        for (soon = 0; soon < MOST && gwi_tier_now() < end; usleep(1000))
            soon += w.device->poll(w.device, 0);
        tier_await(w.device, 0, notes, READS);
        for (uint32_t i = 0; i < READS; i++)
            cr_expect_eq(notes[i].status, GW_E_UNREACHABLE);
    }
    cr_expect_geq(soon, MOST, "%u of %u", soon, READS);
    free(room);
    store_away(&w, false);
    await_away(&w, PAGE, false);
    for (uint64_t p = 1; p < 20 * 8; p++)
        check_page(&w, 0, p * PAGE);
    world_end(&w);
}

/* Goal: a store that takes nothing but gives what it has is not taken for one that is away. How:
 * directories with the names of the objects that come next; it is away for a while, too. */
Test(tier, what_is_there_can_be_read_while_nothing_can_be_put)
{
    struct world w = world_make(4);
    world_open(&w);
    for (uint64_t p = 1; p < 12 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 12 * SEGMENT);
    char name[GWI_TIER_NAME_BYTES], path[2][4200];
    for (uint32_t i = 0; i < 2; i++) {
        gwi_tier_object_name(CLUSTER, STORE, (12 + i) * SEGMENT, 1, name);
        snprintf(path[i], sizeof path[i], "%s/%s", w.store, name);
        cr_assert_eq(mkdir(path[i], 0777), 0);
    }
    for (uint64_t p = 12 * 8; p < 13 * 8; p++)
        write_page(&w, p * PAGE);
    await_away(&w, PAGE, true); /* nothing but puts was tried */
    for (uint64_t p = 1; p < 4 * 8; p++)
        check_page(&w, 0, p * PAGE);
    store_away(&w, true);
    cr_assert_eq(tier_read(w.device, 0, 5 * SEGMENT, w.page, PAGE), GW_E_UNREACHABLE);
    store_away(&w, false);
    uint64_t end = gwi_tier_now() + WAIT_NS;
    while (tier_read(w.device, 0, 5 * SEGMENT, w.page, PAGE) != GW_OK)
        cr_assert(gwi_tier_now() < end, "no read ever tries");
    for (uint64_t p = 4 * 8; p < 8 * 8; p++)
        check_page(&w, 0, p * PAGE);
    cr_expect_eq(w.device->shared(w.device), 12 * SEGMENT, "then nothing was tested");
    cr_assert_eq(rmdir(path[0]), 0);
    cr_assert_eq(rmdir(path[1]), 0);
    await_shared(&w, 13 * SEGMENT);
    world_end(&w);
}

Test(tier, a_restart_finds_what_was_dropped_with_the_store_away)
{
    struct world w = world_make(4);
    world_open(&w);
    for (uint64_t p = 1; p < 20 * 8 + 3; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 20 * SEGMENT);
    uint32_t objects = objects_in(&w);
    world_close(&w);
    char error[512] = "";
    store_away(&w, true);
    w.options.ssd.incarnation = 2;
    world_open(&w);
    struct gw_addr_range gap = {gw_addr_of(5 * PAGE), gw_addr_of(6 * PAGE)};
    uint64_t end = 20 * SEGMENT + 2 * PAGE;
    gw_addr resume = gw_tier_resume(w.tier, gw_addr_of(end));
    cr_assert_eq(gw_tier_adopt(w.tier, gw_addr_of(PAGE), gw_addr_of(end), &gap, 1, error,
                               sizeof error),
                 GW_OK, "%s", error);
    cr_assert_eq(resume.v, 21 * SEGMENT);
    cr_assert_eq(w.device->shared(w.device), 20 * SEGMENT);
    check_page(&w, 0, 20 * SEGMENT); /* local */
    cr_assert_eq(tier_read(w.device, 0, PAGE, w.page, PAGE), GW_E_UNREACHABLE);
    cr_assert_eq(tier_read(w.device, 0, 5 * PAGE, w.page, PAGE), GW_NOT_FOUND, "a gap");
    cr_assert_eq(tier_read(w.device, 0, end, w.page, PAGE), GW_NOT_FOUND, "above the image");
    cr_assert_eq(tier_read(w.device, 0, resume.v, w.page, PAGE), GW_NOT_FOUND);
    await_away(&w, PAGE, true);
    cr_expect_not(w.device->away(w.device, gw_addr_of(20 * SEGMENT)), "it is on the disk");
    store_away(&w, false);
    await_away(&w, PAGE, false);
    for (uint64_t p = 1; p < 20 * 8 + 2; p++)
        if (p != 5)
            check_page(&w, 0, p * PAGE);
    for (uint64_t p = 0; p < 30 * 8; p++)
        write_page(&w, resume.v + p * PAGE);
    await_shared(&w, resume.v + 30 * SEGMENT);
    for (uint64_t p = 0; p < 30 * 8; p++)
        check_page(&w, 1, resume.v + p * PAGE);
    for (uint64_t p = 1; p < 20 * 8 + 2; p++)
        if (p != 5)
            check_page(&w, 0, p * PAGE);
    cr_assert_eq(objects_in(&w), objects + 31, "one for the image's end, the rest new");
    world_end(&w);
}

Test(tier, without_the_list_a_dropped_segment_is_named)
{
    struct world w = world_make(4);
    world_open(&w);
    for (uint64_t p = 1; p < 12 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 12 * SEGMENT);
    world_close(&w);
    char path[4200], error[512] = "";
    snprintf(path, sizeof path, "%s/tier.json", w.dir);
    FILE *f = fopen(path, "r+");
    cr_assert(f && fseek(f, 60, SEEK_SET) == 0 && fputc('~', f) == '~' && fclose(f) == 0);
    w.options.ssd.incarnation = 2;
    cr_assert_eq(gw_tier_open(&w.options, &w.device, &w.tier, &w.report), GW_E_CORRUPT);
    cr_assert(strstr(w.report.error, "tier.json"));
    cr_assert_eq(unlink(path), 0);
    world_open(&w);
    cr_assert_eq(gw_tier_adopt(w.tier, gw_addr_of(PAGE), gw_addr_of(12 * SEGMENT), NULL, 0, error,
                               sizeof error),
                 GW_NOT_FOUND);
    cr_assert(strstr(error, "missing"), "%s", error);
    world_end(&w);
}

Test(tier, others_read_what_is_shared)
{
    struct world w = world_make(4), t = world_make(4);
    free(t.url);
    t.url = strdup(w.url);
    t.options.blob_url = t.url;
    t.options.ssd.store_id = STORE + 1;
    snprintf(t.options.server_id, sizeof t.options.server_id, "s2");
    world_open(&w);
    world_open(&t);
    for (uint64_t p = 1; p < 4 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 4 * SEGMENT);
    uint64_t base = t.device->origin(t.device, STORE);
    cr_assert_neq(base & GW_DEVICE_FOREIGN, 0);
    cr_assert_eq(t.device->origin(t.device, STORE), base);
    cr_assert_neq(t.device->origin(t.device, STORE + 7), base);
    cr_assert_eq(w.device->log_id(w.device), STORE);
    for (uint64_t p = 1; p < 4 * 8; p++)
        check_page(&t, 0, base | p * PAGE);
    for (uint64_t p = 4 * 8; p < 9 * 8; p++) /* what came later is listed when it is asked for */
        write_page(&w, p * PAGE);
    await_shared(&w, 9 * SEGMENT);
    for (uint64_t p = 1; p < 9 * 8; p++)
        check_page(&t, 1, base | p * PAGE);
    uint8_t *large = tier_room(4 * PAGE); /* the other's pages may be larger */
    cr_assert_eq(tier_read(t.device, 0, base | (SEGMENT - 2 * PAGE), large, 4 * PAGE), GW_OK);
    cr_assert(tier_is_filled(large, 4 * PAGE, SEGMENT - 2 * PAGE));
    free(large);
    cr_assert_eq(tier_read(t.device, 0, base | 100 * SEGMENT, t.page, PAGE), GW_E_UNREACHABLE);
    uint64_t nobody = t.device->origin(t.device, STORE + 7);
    cr_assert_eq(tier_read(t.device, 0, nobody | PAGE, t.page, PAGE), GW_E_UNREACHABLE);
    uint64_t own = w.device->origin(w.device, STORE);
    for (uint64_t p = 1; p < 9 * 8; p++)
        check_page(&w, 1, own | p * PAGE);
    cr_assert_eq(tier_read(t.device, 0, GW_DEVICE_FOREIGN | (uint64_t)77 << 48, t.page, PAGE),
                 GW_E_INVALID);
    /* Trimmed by its owner, kept for others; then nobody needs the first half any more. */
    w.device->trim(w.device, gw_addr_of(6 * SEGMENT));
    for (uint64_t p = 1; p < 9 * 8; p++)
        check_page(&t, 1, base | p * PAGE);
    cr_assert_eq(objects_in(&w), 9);
    gw_tier_keep(w.tier, gw_addr_of(4 * SEGMENT + PAGE));
    uint64_t end = gwi_tier_now() + WAIT_NS;
    while (objects_in(&w) > 5 && gwi_tier_now() < end)
        usleep(1000);
    usleep(20000);
    cr_assert_eq(objects_in(&w), 5);
    for (uint64_t p = 4 * 8; p < 9 * 8; p++)
        check_page(&t, 1, base | p * PAGE);
    cr_assert_eq(tier_read(t.device, 0, base | PAGE, t.page, PAGE), GW_NOT_FOUND);
    world_end(&w);
    world_end(&t);
}

Test(tier, a_hurried_extent_is_uploaded_up_to_there)
{
    struct world w = world_make(8);
    world_open(&w);
    for (uint64_t p = 1; p < 8 + 3; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, SEGMENT);
    usleep(250000);
    cr_assert_eq(w.device->shared(w.device), SEGMENT);
    gw_tier_hurry(w.tier, gw_addr_of(SEGMENT + 2 * PAGE - 5));
    await_shared(&w, SEGMENT + 2 * PAGE);
    cr_assert_eq(w.device->shared(w.device), SEGMENT + 2 * PAGE);
    for (uint64_t p = 8 + 3; p < 12 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 12 * SEGMENT);
    for (uint64_t p = 1; p < 12 * 8; p++)
        check_page(&w, 0, p * PAGE);
    cr_assert_eq(objects_in(&w), 13);
    world_end(&w);
}

static void count_name(void *ctx, const char *name, uint64_t bytes, const char *why)
{
    (void)name;
    (void)bytes;
    cr_assert_gt(strlen(why), 0);
    ++*(uint32_t *)ctx;
}

Test(tier, the_collector_takes_what_nobody_knows_or_needs)
{
    struct world w = world_make(8);
    world_open(&w);
    for (uint64_t p = 1; p < 6 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 6 * SEGMENT);
    char path[4300];
    snprintf(path, sizeof path, "%s/%016x/%016x/%016x-%08x.gwo", w.store, CLUSTER, STORE, 2 * PAGE,
             0);
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs("left over", f) >= 0 && fclose(f) == 0);
    uint32_t count = 0;
    cr_assert_eq(gw_tier_collect(w.tier, false, count_name, &count), GW_OK);
    cr_assert_eq(count, 0, "somebody may need it");
    gw_tier_keep(w.tier, gw_addr_of(UINT64_MAX));
    cr_assert_eq(gw_tier_collect(w.tier, true, count_name, &count), GW_OK);
    cr_assert_eq(count, 1);
    cr_assert_eq(objects_in(&w), 7, "a dry run deletes nothing");
    cr_assert_eq(gw_tier_collect(w.tier, false, count_name, &count), GW_OK);
    cr_assert_eq(count, 2);
    cr_assert_eq(objects_in(&w), 6);
    for (uint64_t p = 1; p < 6 * 8; p++)
        check_page(&w, 0, p * PAGE);
    world_end(&w);
}

Test(tier, a_second_server_with_our_identity_uploads_nothing)
{
    struct world w = world_make(8), t = world_make(8);
    struct gw_tier_stats stats = {0};
    free(t.url);
    t.url = strdup(w.url);
    t.options.blob_url = t.url;
    snprintf(t.options.server_id, sizeof t.options.server_id, "other");
    world_open(&w);
    world_open(&t);
    for (uint64_t p = 1; p < 2 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 2 * SEGMENT);
    for (uint64_t p = 1; p < 3 * 8; p++)
        write_page(&t, p * PAGE);
    uint64_t end = gwi_tier_now() + WAIT_NS;
    while (!stats.trouble[0] && gwi_tier_now() < end) {
        gw_tier_stats(t.tier, &stats);
        usleep(1000);
    }
    cr_assert(strstr(stats.trouble, "\"s1\""), "%s", stats.trouble);
    usleep(250000);
    cr_assert_eq(t.device->shared(t.device), PAGE);
    cr_assert_eq(objects_in(&w), 2);
    world_end(&w);
    world_end(&t);
}

Test(tier, wrong_bytes_are_never_given)
{
    struct world w = world_make(4);
    world_open(&w);
    for (uint64_t p = 1; p < 12 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 12 * SEGMENT);
    char command[4400];
    snprintf(command, sizeof command,
             "for f in %s/%016x/%016x/*.gwo; do printf x | dd of=$f bs=1 seek=3000 conv=notrunc "
             "status=none; done",
             w.store, CLUSTER, STORE);
    cr_assert_eq(system(command), 0);
    uint32_t corrupt = 0;
    for (uint64_t p = 1; p < 8 * 8; p++) {
        enum gw_status status = tier_read(w.device, 0, p * PAGE, w.page, PAGE);
        corrupt += status == GW_E_CORRUPT;
        if (status == GW_OK)
            cr_assert(tier_is_filled(w.page, PAGE, p * PAGE));
        else
            cr_assert_eq(status, GW_E_CORRUPT, "%s", gw_status_text(status));
    }
    cr_assert_geq(corrupt, 8, "a frame of each object is damaged");
    struct gw_tier_stats stats;
    gw_tier_stats(w.tier, &stats);
    cr_assert(strstr(stats.trouble, "wrong bytes"), "%s", stats.trouble);
    /* An object of another store under our name. */
    snprintf(command, sizeof command,
             "cd %s/%016x/%016x && cp %016x-00000001.gwo %016x-00000001.gwo", w.store, CLUSTER,
             STORE, 2 * SEGMENT, 3 * SEGMENT);
    cr_assert_eq(system(command), 0);
    world_close(&w);
    char error[512] = "";
    w.options.ssd.incarnation = 2;
    world_open(&w);
    cr_assert_eq(gw_tier_adopt(w.tier, gw_addr_of(PAGE), gw_addr_of(12 * SEGMENT), NULL, 0, error,
                               sizeof error),
                 GW_OK, "%s", error);
    cr_assert_eq(tier_read(w.device, 0, 3 * SEGMENT, w.page, PAGE), GW_E_UNREACHABLE);
    world_end(&w);
}

Test(tier, a_full_disk_refuses_and_catches_up)
{
    struct world w = world_make(4);
    world_open(&w);
    char path[4200]; /* a file where a directory should be: every request fails */
    snprintf(path, sizeof path, "%s/%016x", w.store, CLUSTER);
    FILE *f = fopen(path, "w");
    cr_assert(f && fclose(f) == 0);
    uint64_t p = 1;
    enum gw_status status = GW_OK;
    for (; p < 100 && (status = put_page(&w, p * PAGE)) == GW_OK; p++) {}
    cr_assert_eq(status, GW_E_FULL);
    cr_assert_eq(p, 4 * 8, "the whole bound was used");
    for (uint64_t q = 1; q < p; q++)
        check_page(&w, 0, q * PAGE);
    struct gw_tier_stats stats;
    gw_tier_stats(w.tier, &stats);
    cr_assert_gt(strlen(stats.trouble), 0, "nobody is told");
    cr_assert_eq(unlink(path), 0);
    for (; p < 12 * 8; p++)
        write_page(&w, p * PAGE);
    await_shared(&w, 12 * SEGMENT);
    for (uint64_t q = 1; q < p; q++)
        check_page(&w, 0, q * PAGE);
    world_end(&w);
}

Test(tier, the_bound_of_all_tiers_holds)
{
    struct world w = world_make(4);
    uint64_t file = gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE).file_bytes;
    w.options.blob_limit_bytes = 8 * file;
    world_open(&w);
    uint64_t p = 1, end = gwi_tier_now() + WAIT_NS;
    for (uint32_t quiet = 0; quiet < 300 && gwi_tier_now() < end;) {
        enum gw_status status = put_page(&w, p * PAGE);
        p += status == GW_OK;
        quiet = status == GW_OK ? 0 : quiet + 1;
        if (status != GW_OK)
            usleep(1000);
    }
    struct gw_device_usage usage;
    w.device->usage(w.device, &usage);
    cr_assert_leq(usage.used_bytes, 8 * file);
    cr_assert_geq(p, 6 * 8);
    w.device->trim(w.device, gw_addr_of(5 * SEGMENT));
    write_page(&w, p * PAGE);
    world_end(&w);
}

/* ---- against a plain map ---- */

static void random_life(uint64_t seed)
{
    struct world w = world_make(4);
    struct gw_rand rand;
    gw_rand_init(&rand, seed);
    uint64_t next = 1, begin = 1, image_end = 0; /* pages */
    struct gw_addr_range gaps[64];
    uint32_t gaps_count = 0;
    world_open(&w);
    for (uint32_t i = 0; i < 600; i++) {
        uint64_t what = gw_rand_below(&rand, 100);
        if (what < 50) {
            write_page(&w, next++ * PAGE);
        } else if (what < 92 && begin < next) {
            uint64_t p = begin + gw_rand_below(&rand, next - begin);
            bool gap = false;
            for (uint32_t g = 0; g < gaps_count; g++)
                gap |= p >= gaps[g].from.v / PAGE && p < gaps[g].to.v / PAGE;
            if (gap)
                cr_assert_eq(tier_read(w.device, 0, p * PAGE, w.page, 4096), GW_NOT_FOUND,
                             "seed %lu: page %lu does not exist", seed, p);
            else
                check_page(&w, (uint32_t)what % 2, p * PAGE);
        } else if (what < 95) {
            begin += gw_rand_below(&rand, 6);
            begin = begin < next ? begin : next;
            w.device->trim(w.device, gw_addr_of(begin * PAGE));
            if (what == 94)
                gw_tier_keep(w.tier, gw_addr_of(begin * PAGE));
        } else if (what < 97) {
            gw_tier_hurry(w.tier, gw_addr_of(next * PAGE));
        } else if (gaps_count < 60) { /* a restart that loses what was written last */
            char error[512] = "";
            world_close(&w);
            w.options.ssd.incarnation++;
            world_open(&w);
            uint64_t lost = gw_rand_below(&rand, 4);
            image_end = next > begin + lost ? next - lost : begin;
            while (gaps_count > 0 && gaps[gaps_count - 1].from.v / PAGE >= image_end)
                gaps_count--;
            if (gaps_count > 0 && gaps[gaps_count - 1].to.v / PAGE > image_end)
                image_end = gaps[gaps_count - 1].from.v / PAGE, gaps_count--;
            if (image_end < begin)
                image_end = begin;
            gw_addr resume = gw_tier_resume(w.tier, gw_addr_of(image_end * PAGE));
            enum gw_status status =
                gw_tier_adopt(w.tier, gw_addr_of(begin * PAGE), gw_addr_of(image_end * PAGE), gaps,
                              gaps_count, error, sizeof error);
            cr_assert_eq(status, GW_OK, "seed %lu: %s", seed, error);
            next = resume.v / PAGE;
            if (next > image_end)
                gaps[gaps_count++] =
                    (struct gw_addr_range){gw_addr_of(image_end * PAGE), gw_addr_of(next * PAGE)};
        }
    }
    struct gw_tier_stats stats;
    gw_tier_stats(w.tier, &stats);
    cr_assert_str_eq(stats.trouble, "", "seed %lu: %s", seed, stats.trouble);
    world_end(&w);
}

Test(tier, a_random_life_is_as_a_map_says)
{
    for (uint64_t seed = 1; seed <= 6; seed++)
        random_life(seed);
}
