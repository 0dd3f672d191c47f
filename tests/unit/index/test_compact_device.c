/* Goal: with a device behind the log, compaction bounds what lies on it, reads no record only to
 * learn that it is dead, trims nothing that somebody may still read, and survives a full and a
 * failing device.
 * How: seeded churn against a plain map on a device in memory, with delays. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "compact_world.h"
#include "index/base/clock.h"
#include "index/compact_internal.h"
#include "tests/support/ram_device.h"

#define SEGMENT (8u << 16)

static struct gw_ram_device *ram_open(uint64_t limit)
{
    return gw_ram_device_create(&(struct gw_ram_device_options){
        .page_bits = 16, .segment_bytes = SEGMENT, .limit_bytes = limit, .delay_polls_max = 4});
}

static uint64_t disk_used(struct gw_ram_device *ram)
{
    struct gw_device_usage usage;
    struct gw_device *device = gw_ram_device_face(ram);
    device->usage(device, &usage);
    return usage.used_bytes;
}

/* Overwrites, and some deletes and reads, of `bytes` of values; the most that lay on the device,
 * compared with twice what was live, in *excess. */
static void churn(struct world *w, struct gw_ram_device *ram, uint64_t bytes, int64_t *excess)
{
    uint64_t until = w->written + bytes;
    for (uint32_t n = 0; w->written < until; n++) {
        uint32_t i = (uint32_t)gw_rand_below(&w->rand, w->keys);
        uint64_t draw = gw_rand_below(&w->rand, 100);
        if (draw < 90) {
            enum gw_status st = world_put(w, i, (uint32_t)gw_rand_below(&w->rand, w->value_max));
            cr_assert_eq(st, GW_OK, "%d", st);
        } else if (draw < 93) {
            world_delete(w, i);
        } else {
            world_check(w, i);
        }
        if (excess && n % 64 == 0) {
            struct gw_store_stats stats;
            gw_store_stats(w->f.store, &stats);
            int64_t over = (int64_t)disk_used(ram) - 2 * (int64_t)stats.live_bytes;
            if (over > *excess)
                *excess = over;
        }
    }
}

Test(compact_device, what_lies_on_the_device_stays_below_twice_the_live_bytes)
{
    struct gw_ram_device *ram = ram_open(0);
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16,
                                           .keys = 10000,
                                           .value_max = 1200,
                                           .device = gw_ram_device_face(ram)});
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 600), GW_OK);
    int64_t excess = INT64_MIN;
    churn(&w, ram, 60u << 20, &excess); /* ten times the data */
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_lt(excess, 2 * (int64_t)SEGMENT, "%ld bytes too many", (long)excess);
    cr_expect_gt(gw_ram_device_trimmed(ram), 20u << 20);
    cr_expect_gt(stats.compacted_bytes, 20u << 20);
    cr_expect_eq(stats.keys, world_live(&w));
    /* ENGINE H11: no device read for a record that is dead, chains of several keys apart. */
    cr_expect_lt(stats.compact_reads * 1000, stats.compacted_bytes / 600, "%lu reads",
                 (unsigned long)stats.compact_reads);
    world_check_all(&w);
    world_close(&w);
    gw_ram_device_destroy(ram);
}

Test(compact_device, cold_chains_of_several_keys_lose_nothing)
{
    struct gw_ram_device *ram = ram_open(0);
    struct world w;
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = 6000,
                                           .value_max = 900,
                                           .index_bytes = 1 << 17,
                                           .one_slot = true,
                                           .device = gw_ram_device_face(ram)});
    churn(&w, ram, 40u << 20, NULL);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.compact_reads, 0, "some had to be read");
    cr_expect_gt(stats.compacted_bytes, 10u << 20);
    cr_expect_eq(stats.keys, world_live(&w));
    world_check_all(&w);
    world_close(&w);
    gw_ram_device_destroy(ram);
}

Test(compact_device, a_full_device_refuses_writes_and_recovers)
{
    struct gw_ram_device *ram = ram_open(16 * (SEGMENT + 8192 + (8 << 12)));
    struct world w;
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = 40000,
                                           .value_max = 600,
                                           .device = gw_ram_device_face(ram)});
    uint32_t n = 0;
    while (n < w.keys && world_put(&w, n, 500) == GW_OK)
        n++;
    cr_assert_lt(n, w.keys, "never full");
    cr_expect_gt(n, 10 * SEGMENT / 544, "full too early: %u", n);
    struct gw_store_stats before, after;
    gw_store_stats(w.f.store, &before);
    for (uint32_t i = 0; i < 3000; i++)
        gw_store_poll(w.f.thread);
    cr_expect_eq(world_put(&w, n, 500), GW_E_FULL);
    gw_store_stats(w.f.store, &after);
    cr_expect_leq(after.compacted_bytes, before.compacted_bytes + SEGMENT, "nothing to gain");
    world_check_all(&w); /* reads go on */
    for (uint32_t i = 0; i < n; i += 2)
        cr_assert_eq(world_delete(&w, i), GW_OK, "a delete of a full store: %u of %u", i, n);
    for (uint32_t i = 0; i < n / 4; i++)
        cr_assert_eq(world_put(&w, i * 2, 400), GW_OK, "%u", i);
    world_check_all(&w);
    gw_store_stats(w.f.store, &after);
    cr_expect_eq(after.keys, world_live(&w));
    cr_expect_eq(after.evicted, 0);
    world_close(&w);
    gw_ram_device_destroy(ram);
}

Test(compact_device, cache_mode_drops_when_the_device_is_full)
{
    struct gw_ram_device *ram = ram_open(16 * (SEGMENT + 8192 + (8 << 12)));
    struct world w;
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = 40000,
                                           .value_max = 600,
                                           .evict = true,
                                           .device = gw_ram_device_face(ram)});
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 500), GW_OK, "%u", i);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.refused_full, 0);
    cr_expect_eq(stats.keys + stats.evicted, w.keys);
    cr_expect_gt(stats.keys, 9 * SEGMENT / 544);
    uint32_t found = 0;
    for (uint32_t i = 0; i < w.keys; i++)
        found += world_may_be_gone(&w, i);
    cr_expect_gt(found, 9 * SEGMENT / 544);
    cr_expect(world_may_be_gone(&w, w.keys - 1));
    world_close(&w);
    gw_ram_device_destroy(ram);
}

/* ENGINE H10: begin is published first, nobody reads below it an epoch later, and only then the
 * room is given back. */
Test(holes, h10_begin_rises_before_the_trim_and_readers_are_waited_for)
{
    struct gw_ram_device *ram = ram_open(0);
    struct world w;
    struct gw_thread *reader;
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = 4000,
                                           .value_max = 1000,
                                           .device = gw_ram_device_face(ram)});
    cr_assert_eq(gw_store_thread_open(w.f.store, &reader), GW_OK);
    churn(&w, ram, 12u << 20, NULL);
    gw_store_enter(reader); /* may follow anything above its begin, also to the device */
    uint64_t begin = reader->view.begin;
    /* A long stay stops the log sooner or later, so not for ever. */
    struct gw_store_stats stats;
    for (uint32_t i = 0; i < 3000; i++) {
        (void)put(&w.f, "another", "key");
        cr_assert_leq(gw_ram_device_trimmed(ram), begin, "under a reader");
    }
    gw_store_stats(w.f.store, &stats);
    gw_store_exit(reader);
    churn(&w, ram, 6u << 20, NULL);
    cr_expect_gt(gw_ram_device_trimmed(ram), begin, "not after he has left");
    gw_store_stats(w.f.store, &stats);
    cr_expect_leq(gw_ram_device_trimmed(ram), stats.log_begin);
    world_check_all(&w);
    gw_store_thread_close(reader);
    world_close(&w);
    gw_ram_device_destroy(ram);
}

/* A segment that cannot be read stays where it is: what is live in it must not become absent. */
Test(compact_device, a_page_that_cannot_be_read_is_not_passed)
{
    struct gw_ram_device *ram = ram_open(0);
    struct world w;
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = 4000,
                                           .value_max = 1000,
                                           .device = gw_ram_device_face(ram)});
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 900), GW_OK);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    uint64_t begin = stats.log_begin;
    uint64_t bad = (begin & ~(uint64_t)0xFFFF) + 20000;
    cr_assert(gw_ram_device_flip(ram, gw_addr_of(bad), 3));
    for (uint32_t n = 0; n < 20000; n++)
        cr_assert_eq(world_put(&w, w.keys / 2 + (uint32_t)gw_rand_below(&w.rand, w.keys / 2), 900),
                     GW_OK);
    gw_store_stats(w.f.store, &stats);
    cr_expect_lt(stats.log_begin, (begin & ~(uint64_t)0xFFFF) + 65536 + 64);
    cr_expect_gt(stats.corrupt, 0);
    world_close(&w);
    gw_ram_device_destroy(ram);
}

/* A cache forgets what it cannot read instead of standing still. */
Test(compact_device, cache_mode_passes_a_page_that_cannot_be_read)
{
    struct gw_ram_device *ram = ram_open(16 * (SEGMENT + 8192 + (8 << 12)));
    struct world w;
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = 40000,
                                           .value_max = 600,
                                           .evict = true,
                                           .device = gw_ram_device_face(ram)});
    uint32_t i = 0;
    for (; i < 8000; i++)
        cr_assert_eq(world_put(&w, i, 500), GW_OK, "%u", i);
    for (uint64_t page = 2; page < 40; page += 3)
        cr_assert(gw_ram_device_flip(ram, gw_addr_of((page << 16) + 20000), 3));
    for (; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 500), GW_OK, "%u", i);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.log_begin, 64u << 16);
    cr_expect_gt(stats.corrupt, 0);
    cr_expect(world_may_be_gone(&w, w.keys - 1));
    world_close(&w);
    gw_ram_device_destroy(ram);
}

/* A read that fails is made again later: nothing is lost and compaction goes on. Users meet some of
 * the failures themselves, and then nothing has changed. */
Test(compact_device, a_read_that_fails_costs_time_only)
{
    struct gw_ram_device *ram = ram_open(0);
    struct world w;
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = 3000,
                                           .value_max = 900,
                                           .device = gw_ram_device_face(ram)});
    churn(&w, ram, 8u << 20, NULL);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_assert_gt(stats.compacted_bytes, 0);
    for (uint32_t round = 0; round < 1000 && stats.corrupt == 0; round++) {
        gw_ram_device_fail(ram, GW_RAM_READ, gw_rand_below(&w.rand, 50), 1, GW_E_IO);
        for (uint32_t n = 0; n < 200; n++) {
            enum gw_status st = world_put(&w, (uint32_t)gw_rand_below(&w.rand, w.keys), 400);
            cr_assert(st == GW_OK || st == GW_E_IO, "%d", st);
        }
        gw_store_stats(w.f.store, &stats);
    }
    cr_expect_gt(stats.corrupt, 0, "compaction never met a failure");
    gw_ram_device_fail(ram, GW_RAM_READ, 0, 0, GW_E_IO);
    uint64_t begin = stats.log_begin, end = gw_clock_now_ns(gw_clock_system()) + 1200000000u;
    while (gw_clock_now_ns(gw_clock_system()) < end)
        gw_store_poll(w.f.thread);
    churn(&w, ram, 8u << 20, NULL);
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.log_begin, begin + (1u << 20));
    world_check_all(&w);
    world_close(&w);
    gw_ram_device_destroy(ram);
}
