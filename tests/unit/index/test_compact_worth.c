/* Goal: what compaction copies is paid for by what died and by what checkpoints left empty, also
 * where the count of live bytes is wrong; so a store that nobody writes to comes to rest.
 * How: a small live set on a device in memory, of which the store believes less than half, since
 * slots with small values left while they were on the device (gw_store_unlink counts those by the
 * mean); checkpoints taken by hand, more often than anybody needs them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "compact_world.h"
#include "index/base/hash.h"
#include "index/compact_internal.h"
#include "tests/support/ram_device.h"

#define PAGE_BITS   16u
#define KEYS        8000u
#define LARGE_VALUE 900u
#define SMALL_VALUE 60u
#define COPIES_MAX  2u /* docs/engine.md: bytes copied for each that died or was left empty */

static struct gw_ram_device *ram;
static struct world w;
static struct gw_store_image image[2];
static uint64_t number, segment;
static uint32_t polls_a_round = 300;

static void polls(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        gw_store_poll(w.f.thread);
}

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
    gw_store_retain(w.f.store, image[0].begin, image[1].end);
    polls(20);
}

static bool is_small(uint32_t key)
{
    char text[32];
    int n = snprintf(text, sizeof text, "key %u", key);
    return gw_key_slot(text, (size_t)n) % 4 != 0; /* three of four */
}

static struct gw_store_stats stats_now(void)
{
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    return stats;
}

static uint64_t live_truly(void)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < w.keys; i++)
        bytes += w.entry[i].live ? LARGE_VALUE + 16 : 0;
    return bytes;
}

/* Slots with small values leave, while nearly all that they have is on the device. */
static void small_ones_leave(void)
{
    struct gw_slots slots;
    struct gw_cursor cursor = {.hash = 0};
    uint64_t unlinked = 0;
    gw_slots_clear(&slots);
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (slot % 4 != 0)
            gw_slots_add(&slots, (uint16_t)slot);
    while (!cursor.done) {
        gw_store_enter(w.f.thread);
        gw_store_unlink(w.f.thread, &cursor, UINT64_MAX, &slots, 64, &unlinked);
        gw_store_exit(w.f.thread);
        gw_store_poll(w.f.thread);
    }
    cr_assert_gt(unlinked, KEYS / 2);
    for (uint32_t i = 0; i < w.keys; i++)
        w.entry[i].live &= !is_small(i);
}

static void open_miscounted(uint32_t segment_pages)
{
    segment = (uint64_t)segment_pages << PAGE_BITS;
    ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                                               .segment_bytes = segment,
                                                               .delay_polls_max = 4});
    world_open(&w, &(struct world_options){.pages = 12,
                                           .keys = KEYS,
                                           .value_max = LARGE_VALUE,
                                           .device = gw_ram_device_face(ram)});
    gw_store_retain_all(w.f.store);
    memset(image, 0, sizeof image);
    number = 0;
    for (int small = 1; small >= 0; small--)
        for (uint32_t i = 0; i < w.keys; i++)
            if (is_small(i) == small)
                cr_assert_eq(world_put(&w, i, small ? SMALL_VALUE : LARGE_VALUE), GW_OK);
    checkpoint();
    small_ones_leave();
    cr_assert_lt(stats_now().live_bytes, live_truly() / 2, "the count is to be wrong: %lu of %lu",
                 stats_now().live_bytes, live_truly());
}

static void close_all(void)
{
    world_check_all(&w);
    world_close(&w);
    gw_ram_device_destroy(ram);
}

/* Which of the three defences is taken away before each round, so that the others show what they
 * are good for alone. */
enum without { NOTHING = 0, CREDIT = 1, LAPS = 2, CORRECTION = 4 };

static void take_away(unsigned without)
{
    struct gwi_compactor *c = w.f.store->compactor;
    pthread_mutex_lock(&c->lock);
    if (without & CREDIT)
        c->credit = INT32_MAX;
    if (without & LAPS)
        c->futile = -1;
    if (without & CORRECTION)
        c->unseen = 0;
    pthread_mutex_unlock(&c->lock);
}

static void round_of(unsigned without, bool checkpoint_too)
{
    for (uint32_t i = 0; i < polls_a_round; i++) {
        take_away(without);
        gw_store_poll(w.f.thread);
    }
    if (checkpoint_too || gw_store_wants_checkpoint(w.f.store))
        checkpoint();
}

static void idle(uint32_t rounds, unsigned without)
{
    for (uint32_t i = 0; i < rounds; i++)
        round_of(without, false);
}

static void comes_to_rest(uint32_t segment_pages, unsigned without)
{
    open_miscounted(segment_pages);
    idle(90000 / polls_a_round, without);
    uint64_t before = stats_now().compacted_live_bytes, tail = stats_now().log_tail;
    idle(180000 / polls_a_round, without);
    struct gw_store_stats stats = stats_now();
    cr_expect_eq(stats.compacted_live_bytes, before, "%lu bytes of %lu live ones copied, tail %lu",
                 stats.compacted_live_bytes - before, live_truly(), stats.log_tail - tail);
    close_all();
}

Test(compact_worth, a_store_that_nobody_writes_to_comes_to_rest, .timeout = 60)
{
    comes_to_rest(4, NOTHING);
}

Test(compact_worth, a_lap_that_gained_nothing_is_not_repeated, .timeout = 60)
{
    polls_a_round = 10; /* each checkpoint that compaction asks for comes at once */
    comes_to_rest(2, CREDIT | CORRECTION);
}

/* Nor is it because files that are about to be trimmed look hollow meanwhile. */
Test(compact_worth, nor_for_files_that_are_about_to_be_trimmed, .timeout = 60)
{
    comes_to_rest(4, CREDIT | CORRECTION);
}

/* By hand: a lap over `used` bytes that passed as many dead ones as `gain`, while cuts left
 * `emptied` bytes of pages empty. Was it for nothing? */
static bool was_for_nothing(int64_t used, int64_t gain, int64_t emptied)
{
    struct gwi_compactor *c = w.f.store->compactor;
    struct gw_log *log = w.f.store->log;
    uint64_t tail = gw_log_tail(log).v;
    pthread_mutex_lock(&c->lock);
    c->futile = -1;
    c->garbage = used / 2;
    gwi_compact_worth_look(c, tail, (uint64_t)used, (uint64_t)used / 2);
    gwi_compact_lap_page(c, c->base, gain, 0);
    atomic_fetch_add(&log->cut_waste, emptied);
    gwi_compact_worth_look(c, tail, (uint64_t)used, (uint64_t)used / 2);
    gwi_compact_lap_end(c, (uint64_t)used);
    bool nothing = c->futile == used / 2;
    cr_expect(nothing || c->futile == -1);
    pthread_mutex_unlock(&c->lock);
    return nothing;
}

Test(compact_worth, what_cuts_left_empty_meanwhile_is_no_gain)
{
    open_miscounted(4);
    const int64_t used = 64 << PAGE_BITS, page = 1 << PAGE_BITS;
    cr_expect_not(was_for_nothing(used, 3 * page, 0));
    cr_expect_not(was_for_nothing(used, 5 * page, 2 * page));
    cr_expect(was_for_nothing(used, 5 * page, 4 * page));
    cr_expect(was_for_nothing(used, page, 0));
    close_all();
}

Test(compact_worth, what_a_lap_finds_corrects_the_count, .timeout = 60)
{
    open_miscounted(4);
    idle(300, NOTHING);
    uint64_t counted = stats_now().live_bytes;
    uint64_t corrected = counted + gwi_compact_unseen(w.f.store->compactor, counted);
    cr_expect_gt(corrected * 10, live_truly() * 9, "%lu of %lu", corrected, live_truly());
    cr_expect_lt(corrected * 10, live_truly() * 11, "%lu of %lu", corrected, live_truly());
    /* Most of it goes: what was found is not believed for ever. */
    for (uint32_t i = 0; i < w.keys; i++)
        if (w.entry[i].live && i % 8 != 0)
            cr_assert_eq(world_delete(&w, i), GW_OK);
    idle(600, NOTHING);
    cr_expect_lt(gw_ram_device_pages(ram) << PAGE_BITS, 8 * segment, "%lu bytes for %lu",
                 gw_ram_device_pages(ram) << PAGE_BITS, live_truly());
    close_all();
}

/* A key is written between two checkpoints, which are far too many. */
static void is_paid_for(unsigned without)
{
    open_miscounted(4);
    idle(300, without);
    uint64_t before = stats_now().compacted_live_bytes, written = 0, taken = number, most = 0;
    for (uint32_t i = 0; i < 600; i++) {
        uint32_t key;
        do
            key = (uint32_t)gw_rand_below(&w.rand, KEYS);
        while (is_small(key));
        cr_assert_eq(world_put(&w, key, LARGE_VALUE), GW_OK);
        written += LARGE_VALUE + 64;
        round_of(without, i % 2 == 0);
        uint64_t bytes = gw_ram_device_pages(ram) << PAGE_BITS;
        most = bytes > most ? bytes : most;
    }
    uint64_t copied = stats_now().compacted_live_bytes - before;
    uint64_t paid = COPIES_MAX * (written + ((number - taken) << PAGE_BITS));
    cr_expect_leq(copied, paid + segment, "%lu copied for %lu written and %lu checkpoints", copied,
                  written, number - taken);
    /* Not by doing nothing: what the checkpoints left empty alone is ten times what is live. */
    cr_expect_gt((number - taken) << PAGE_BITS, 10 * live_truly());
    cr_expect_lt(most, 2 * live_truly() + 10 * segment, "%lu bytes for %lu", most, live_truly());
    close_all();
}

Test(compact_worth, what_is_copied_was_paid_for_by_writes_and_checkpoints, .timeout = 60)
{
    is_paid_for(NOTHING);
}

Test(compact_worth, it_is_paid_for_although_laps_teach_nothing, .timeout = 60)
{
    is_paid_for(LAPS | CORRECTION);
}
