/* Goal: compaction loses nothing, brings nothing back, and gives back what is dead: memory only,
 * and in cache mode. With a device: test_compact_device.c; with threads: torture/index_compact.c.
 * How: seeded churn on tiny pages against a plain map, with compaction in every turn. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compact_world.h"
#include "index/base/clock.h"
#include "index/base/rand.h"

static void churn(struct world *w, uint64_t bytes)
{
    uint64_t until = w->written + bytes;
    while (w->written < until) {
        uint32_t i = (uint32_t)gw_rand_below(&w->rand, w->keys);
        uint64_t draw = gw_rand_below(&w->rand, 10);
        if (draw < 7)
            cr_assert_eq(world_put(w, i, (uint32_t)gw_rand_below(&w->rand, w->value_max)), GW_OK);
        else if (draw < 8)
            world_delete(w, i);
        else
            world_check(w, i);
    }
}

Test(compact, memory_of_replaced_and_deleted_records_is_given_back)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 32, .keys = 2000, .value_max = 600});
    uint64_t log_bytes = 32u << 16;
    churn(&w, 12 * log_bytes);
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.log_begin, 8 * log_bytes);
    cr_expect_gt(stats.compacted_bytes, 8 * log_bytes);
    cr_expect_eq(stats.refused_full, 0);
    cr_expect_eq(stats.keys, world_live(&w));
    cr_expect_eq(stats.live_bytes, world_live_bytes(&w));
    cr_expect_eq(stats.evicted, 0);
    world_close(&w);
}

/* Few slots and a small index: most chains hold several keys, so entries seldom lead to the record
 * that is asked about. */
Test(compact, chains_of_several_keys_lose_nothing)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 32,
                                           .keys = 3000,
                                           .value_max = 300,
                                           .index_bytes = 65536,
                                           .one_slot = true});
    churn(&w, (uint64_t)24 << 20);
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(gwi_chains_count(w.f.store->chains), 100);
    cr_expect_gt(stats.compacted_bytes, (uint64_t)4 << 20);
    cr_expect_eq(stats.keys, world_live(&w));
    cr_expect_eq(stats.live_bytes, world_live_bytes(&w));
    world_close(&w);
}

Test(compact, values_of_most_of_a_page_move_too)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 32, .keys = 24, .value_max = 40000});
    churn(&w, (uint64_t)40 << 20);
    world_check_all(&w);
    world_close(&w);
}

Test(compact, a_full_store_refuses_writes_without_going_in_circles_and_recovers)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 32, .keys = 20000, .value_max = 400});
    uint32_t n = 0;
    while (n < w.keys && world_put(&w, n, 300) == GW_OK)
        n++;
    cr_assert_lt(n, w.keys, "never full");
    struct gw_store_stats before, after;
    gw_store_stats(w.f.store, &before);
    cr_expect_gt(before.refused_full, 0);
    for (uint32_t i = 0; i < 2000; i++)
        gw_store_poll(w.f.thread);
    cr_expect_eq(world_put(&w, n, 300), GW_E_FULL);
    gw_store_stats(w.f.store, &after);
    cr_expect_lt(after.compacted_bytes, before.compacted_bytes + (2u << 16), "nothing to gain");
    world_check_all(&w); /* reads go on */
    for (uint32_t i = 0; i < n; i += 3)
        cr_assert_eq(world_delete(&w, i), GW_OK, "a delete of a full store");
    for (uint32_t i = 0; i < n / 4; i++)
        cr_assert_eq(world_put(&w, i * 3, 250), GW_OK, "%u", i);
    world_check_all(&w);
    gw_store_stats(w.f.store, &after);
    cr_expect_eq(after.keys, world_live(&w));
    world_close(&w);
}

static uint64_t fake_ms;

static uint64_t fake_now_ns(void *ctx)
{
    (void)ctx;
    return fake_ms * 1000000;
}
static uint64_t fake_wall_ms(void *ctx)
{
    (void)ctx;
    return fake_ms;
}
static const struct gw_clock fake_clock = {fake_now_ns, fake_wall_ms, NULL};

/* Nothing says that a record has expired but the clock: the store has to look. */
Test(compact, a_store_full_of_expired_records_takes_writes_again)
{
    struct world w;
    fake_ms = 1000;
    world_open(&w, &(struct world_options){
                       .pages = 32, .keys = 40000, .value_max = 400, .clock = &fake_clock});
    w.expiry_ms = 5000;
    uint32_t n = 0;
    while (n < w.keys && world_put(&w, n, 300) == GW_OK)
        n++;
    cr_assert_lt(n, w.keys, "never full");
    fake_ms = 4999;
    cr_expect_eq(world_put(&w, n, 300), GW_E_FULL, "not yet");
    fake_ms = 6000;
    memset(w.entry, 0, w.keys * sizeof *w.entry);
    w.expiry_ms = 0;
    enum gw_status st = GW_E_FULL;
    for (uint32_t i = 0; i < 1000000 && st == GW_E_FULL; i++)
        st = world_put(&w, n, 300);
    cr_assert_eq(st, GW_OK, "%d", st);
    for (uint32_t i = 0; i < n / 2; i++)
        cr_assert_eq(world_put(&w, n + i, 300), GW_OK, "%u", i);
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.expired, n / 3);
    cr_expect_eq(stats.keys, world_live(&w) + n - stats.expired);
    world_close(&w);
}

/* Keys that are written once and expire: what the log takes follows what is live. */
Test(compact, a_stream_of_expiring_keys_does_not_fill_the_log)
{
    struct world w;
    fake_ms = 1000;
    world_open(&w, &(struct world_options){
                       .pages = 32, .keys = 60000, .value_max = 400, .clock = &fake_clock});
    for (uint32_t i = 0; i < w.keys; i++) {
        fake_ms = 1000 + i;
        w.expiry_ms = fake_ms + 1000;
        enum gw_status st = GW_E_FULL;
        for (uint32_t turn = 0; turn < 100000 && st == GW_E_FULL; turn++)
            st = world_put(&w, i, 300);
        cr_assert_eq(st, GW_OK, "%u", i);
        if (i >= 1100)
            w.entry[i - 1100].live = false;
    }
    for (uint32_t i = 0; i < w.keys; i++)
        if (i < w.keys - 1100 || i > w.keys - 900)
            world_check(&w, i);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_gt(stats.expired, w.keys / 2);
    world_close(&w);
}

Test(compact, everything_can_be_deleted_and_written_again)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16, .keys = 3000, .value_max = 200});
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < w.keys; i++)
            cr_assert_eq(world_put(&w, i, 100), GW_OK, "round %u, key %u", round, i);
        for (uint32_t i = 0; i < w.keys; i++)
            cr_assert_eq(world_delete(&w, i), GW_OK, "round %u, key %u", round, i);
    }
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.keys, 0);
    cr_expect_eq(stats.live_bytes, world_live_bytes(&w), "tombstones");
    world_close(&w);
}

Test(compact, cache_mode_drops_the_oldest_and_counts_them)
{
    struct world w;
    world_open(
        &w, &(struct world_options){.pages = 16, .keys = 100000, .value_max = 200, .evict = true});
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 100), GW_OK, "%u", i);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.refused_full, 0);
    cr_expect_gt(stats.evicted, w.keys / 2);
    cr_expect_eq(stats.keys + stats.evicted, w.keys);
    uint32_t found = 0;
    for (uint32_t i = 0; i < w.keys; i++)
        found += world_may_be_gone(&w, i);
    cr_expect_gt(found, 3000);
    cr_expect(world_may_be_gone(&w, w.keys - 1), "the newest");
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.live_bytes, world_live_bytes(&w));
    world_close(&w);
}

/* What fits is not dropped because of what was replaced. */
Test(compact, cache_mode_keeps_what_fits_through_overwrites)
{
    struct world w;
    world_open(&w,
               &(struct world_options){.pages = 32, .keys = 2000, .value_max = 300, .evict = true});
    churn(&w, (uint64_t)24 << 20);
    world_check_all(&w);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.evicted, 0);
    cr_expect_eq(stats.keys, world_live(&w));
    world_close(&w);
}

Test(compact, cache_mode_drops_from_chains_of_several_keys)
{
    struct world w;
    world_open(&w, &(struct world_options){.pages = 16,
                                           .keys = 30000,
                                           .value_max = 200,
                                           .evict = true,
                                           .one_slot = true,
                                           .index_bytes = 1 << 18});
    for (uint32_t i = 0; i < w.keys; i++)
        cr_assert_eq(world_put(&w, i, 100), GW_OK, "%u", i);
    uint32_t found = 0;
    for (uint32_t i = 0; i < w.keys; i++)
        found += world_may_be_gone(&w, i);
    cr_expect_gt(found, 2000);
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_expect_eq(stats.keys + stats.evicted, w.keys);
    world_close(&w);
}
