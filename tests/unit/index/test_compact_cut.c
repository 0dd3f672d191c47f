/* Goal: compaction gives back nothing that a checkpoint may still need (ENGINE H10, H17), asks for
 * one when it has to, and comes to an end neither with a full device nor with a slow cutter.
 * How: seeded churn against a plain map on a device in memory, checkpoints taken by hand. */
#include <criterion/criterion.h>
#include <string.h>

#include "compact_world.h"
#include "index/compact_internal.h"
#include "tests/support/log_image.h"

#define PAGE_BITS 16u
#define SEGMENT   (8u << PAGE_BITS)

static struct gw_ram_device *ram;
static struct world w;
static struct gw_store_image image[2]; /* the last two checkpoints */
static uint64_t number;

static void open_with(uint64_t limit, uint32_t keys)
{
    ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                                               .segment_bytes = SEGMENT,
                                                               .limit_bytes = limit,
                                                               .delay_polls_max = 4});
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = keys,
                                           .value_max = 900,
                                           .device = gw_ram_device_face(ram)});
    gw_store_retain_all(w.f.store);
    memset(image, 0, sizeof image);
    number = 0;
}

static void close_all(void)
{
    world_close(&w);
    gw_ram_device_destroy(ram);
}

static void nothing(void *ctx, const struct gw_image_record *record)
{
    (void)ctx;
    (void)record;
}

/* A checkpoint from begin to end; of two that are kept nothing is missing. */
static void checkpoint(void)
{
    image[0] = image[1];
    enum gw_status st;
    for (int i = 0; (st = gw_store_cut_begin(w.f.store, number + 1, &image[1])) != GW_OK; i++) {
        cr_assert(st == GW_RETRY || st == GW_E_BUSY, "%d", st);
        cr_assert_lt(i, 100000, "no page for a cut");
        gw_store_poll(w.f.thread);
    }
    number++;
    gw_store_enter(w.f.thread);
    gw_store_exit(w.f.thread);
    for (int i = 0; !gw_store_cut_flushed(w.f.store, image[1].end); i++) {
        cr_assert_lt(i, 100000, "the cut is not flushed");
        gw_store_poll(w.f.thread);
    }
    for (int i = 0; i < 2; i++) /* aborts if a page is missing */
        gw_log_image_walk(ram, PAGE_BITS, &image[i], nothing, NULL);
    gw_store_retain(w.f.store, image[0].begin, image[1].end);
    for (int i = 0; i < 20; i++)
        gw_store_poll(w.f.thread);
}

static uint64_t refused;

static void churn(uint64_t bytes, bool checkpoints)
{
    uint64_t until = w.written + bytes;
    while (w.written < until) {
        uint32_t i = (uint32_t)gw_rand_below(&w.rand, w.keys);
        if (gw_rand_below(&w.rand, 20) == 0) {
            world_delete(&w, i);
        } else {
            uint32_t size = (uint32_t)gw_rand_below(&w.rand, w.value_max);
            enum gw_status st = world_put(&w, i, size);
            /* It waits for a checkpoint, and where two are kept for one more. */
            for (int n = 0; n < 2 && st == GW_PENDING && gw_store_wants_checkpoint(w.f.store);
                 n++) {
                checkpoint();
                st = world_put(&w, i, size);
            }
            if (st != GW_OK && st != GW_E_FULL)
                cr_assert_fail("%d", st);
            refused += st == GW_E_FULL;
        }
        if (checkpoints && gw_store_wants_checkpoint(w.f.store))
            checkpoint();
    }
}

Test(holes, h10_segments_stay_until_no_checkpoint_needs_them, .timeout = 60)
{
    open_with(0, 4000);
    churn(20u << 20, false);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.log_begin, 3 * SEGMENT, "compaction goes on");
    cr_expect_eq(gw_ram_device_trimmed(ram), 0);
    cr_expect(gw_store_wants_checkpoint(w.f.store));
    checkpoint();
    cr_expect_eq(gw_ram_device_trimmed(ram), 0, "the checkpoint before needs them");
    uint64_t begin = image[1].begin.v;
    cr_expect(gw_store_wants_checkpoint(w.f.store), "one more");
    checkpoint();
    cr_expect_eq(gw_ram_device_trimmed(ram), begin / SEGMENT * SEGMENT);
    churn(2u << 20, true);
    world_check_all(&w);
    close_all();
}

Test(compact_cut, checkpoints_that_compaction_asks_for_bound_the_device, .timeout = 60)
{
    open_with(0, 4000);
    churn(4u << 20, true);
    uint64_t most = 0;
    for (int i = 0; i < 40; i++) {
        churn(1u << 20, true);
        uint64_t bytes = gw_ram_device_pages(ram) << PAGE_BITS;
        most = bytes > most ? bytes : most;
    }
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(number, 10);
    cr_expect_lt(most, 2 * stats.live_bytes + 6 * SEGMENT, "%lu bytes for %lu", most,
                 stats.live_bytes);
    world_check_all(&w);
    close_all();
}

Test(compact_cut, a_full_device_is_freed_by_checkpoints, .timeout = 100)
{
    /* Half of it live: users come to the bound all the time. */
    open_with(14 * (SEGMENT + 8192 + (8 << 12)), 6000);
    refused = 0;
    churn(40u << 20, true);
    cr_expect_gt(number, 4);
    cr_expect_eq(refused, 0, "who has to wait for a checkpoint is not refused");
    world_check_all(&w);
    close_all();
}

/* Compaction has all the time that it wants, and takes no room that the cut needs. */
Test(compact_cut, a_late_checkpoint_still_finds_room, .timeout = 100)
{
    open_with(14 * (SEGMENT + 8192 + (8 << 12)), 6000);
    enum gw_status st = GW_OK;
    for (int laps = 0; laps < 3; laps++) {
        do {
            uint32_t i = (uint32_t)gw_rand_below(&w.rand, w.keys);
            st = world_put(&w, i, (uint32_t)gw_rand_below(&w.rand, w.value_max));
        } while (st == GW_OK);
        cr_assert_eq(st, GW_PENDING, "%d", st);
        for (int i = 0; i < 20000; i++)
            gw_store_poll(w.f.thread);
        cr_assert(gw_store_wants_checkpoint(w.f.store));
        checkpoint();
        checkpoint();
        cr_assert_eq(world_put(&w, 1, 500), GW_OK, "it has made room");
    }
    world_check_all(&w);
    close_all();
}

static bool entry_is_there(const char *key)
{
    op(&w.f, GW_VERB_FETCH, key, 0);
    enum gw_status st = run(&w.f);
    for (int i = 0; i < 10000 && (st == GW_PENDING || st == GW_RETRY); i++)
        st = run(&w.f);
    cr_assert(st == GW_TOMBSTONE || st == GW_NOT_FOUND, "%d", st);
    return st == GW_TOMBSTONE;
}

Test(holes, h17_a_tombstone_stays_until_a_checkpoint_holds_it, .timeout = 60)
{
    open_with(0, 4000);
    cr_assert_eq(put(&w.f, "gone", "value"), GW_OK);
    cr_assert_eq(del(&w.f, "gone"), GW_OK);
    uint32_t version = w.f.op.version;
    churn(30u << 20, false);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_assert_gt(stats.log_begin, 8 * SEGMENT, "compaction has passed it, more than once");
    cr_expect_lt(stats.log_tail, 100u << 20, "the same records are copied over and over");
    cr_expect(entry_is_there("gone"));
    cr_expect_eq(w.f.op.version, version);
    for (int i = 0; i < 30 && entry_is_there("gone"); i++) {
        checkpoint();
        churn(4u << 20, false);
    }
    cr_expect_not(entry_is_there("gone"), "now it goes");
    close_all();
}

/* A seal that an earlier process has left does not say that the record is dead. */
Test(compact_cut, seals_of_an_earlier_process_are_not_trusted, .timeout = 60)
{
    open_with(0, 4000);
    cr_assert_eq(add(&w.f, "sealed", 41), GW_OK);
    cr_assert_eq(gw_store_shift_read_only(w.f.store), GW_OK);
    for (int i = 0; i < 10; i++)
        gw_store_poll(w.f.thread);
    struct gwi_position position;
    enum gw_status why;
    gw_store_enter(w.f.thread);
    op(&w.f, GW_VERB_READ, "sealed", 0);
    gw_store_hash(w.f.store, &w.f.op);
    cr_assert_eq(gwi_find(w.f.thread, &w.f.op, &position, &why), GWI_FOUND);
    atomic_fetch_or(&position.record->control, GW_CONTROL_SEALED);
    gw_store_exit(w.f.thread);
    /* Its page is from before. */
    w.f.store->log->resumed = (position.address.v | ((1u << PAGE_BITS) - 1)) + 1;
    churn(20u << 20, false);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_assert_gt(stats.log_begin, 3 * SEGMENT);
    enum gw_status st = add(&w.f, "sealed", 1);
    for (int i = 0; i < 10000 && (st == GW_PENDING || st == GW_RETRY); i++)
        st = run(&w.f);
    cr_assert_eq(st, GW_OK);
    cr_expect_eq(w.f.op.number, 42);
    close_all();
}
