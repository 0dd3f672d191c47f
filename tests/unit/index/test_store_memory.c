/* Goal: index and log live on one number of bytes, whichever of them grows. */
#include <criterion/criterion.h>
#include <string.h>

#include "index/store_internal.h"
#include "store_fixture.h"
#include "tests/support/ram_device.h"

#define PAGE_BITS 16u
#define PAGE      ((uint64_t)1 << PAGE_BITS)

static struct fixture f;

static uint64_t held(struct gw_store_stats *stats)
{
    gw_store_stats(f.store, stats);
    return (gw_log_frames_held(f.store->log) << PAGE_BITS) + gw_table_memory_bytes(f.store->table);
}

/* Puts small records in until `keys` are there; the bound holds all the way. */
static void fill(uint64_t keys, uint64_t bound)
{
    struct gw_store_stats stats;
    for (uint64_t k = 0; k < keys; k++) {
        op_bytes(&f, GW_VERB_UPSERT, &k, 8, GW_OP_COUNTER);
        f.op.number = (int64_t)k;
        enum gw_status st = run(&f);
        for (int i = 0; i < 10000 && (st == GW_PENDING || st == GW_RETRY); i++)
            st = run(&f);
        cr_assert_eq(st, GW_OK, "key %lu: %s", (unsigned long)k, gw_status_name(st));
        if (k % 256 == 0)
            cr_assert_leq(held(&stats), bound, "key %lu: %lu bytes", (unsigned long)k,
                          (unsigned long)held(&stats));
    }
}

static void read_all(uint64_t keys)
{
    for (uint64_t k = 0; k < keys; k++) {
        op_bytes(&f, GW_VERB_READ, &k, 8, 0);
        enum gw_status st = run(&f);
        for (int i = 0; i < 10000 && (st == GW_PENDING || st == GW_RETRY); i++)
            st = run(&f);
        cr_assert_eq(st, GW_OK);
        cr_assert_eq(f.op.number, (int64_t)k);
    }
}

Test(store_memory, a_growing_index_takes_frames_that_the_log_has_not_come_to, .timeout = 60)
{
    fixture_open(&f, &(struct gw_store_options){.log_bytes = 96 * PAGE,
                                                .page_bits = PAGE_BITS,
                                                .index_bytes = 2 * PAGE,
                                                .index_bytes_max = 48 * PAGE});
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    uint64_t buckets = stats.index_buckets;
    fill(100000, 98 * PAGE); /* 3.2 MB of records, 1.5 MB of index */
    gw_store_stats(f.store, &stats);
    cr_expect_geq(stats.index_buckets, 8 * buckets);
    cr_expect_lt(stats.log_bytes_total, 80 * PAGE);
    read_all(100000);
    fixture_close(&f);
}

Test(store_memory, a_growing_index_sends_records_to_the_device, .timeout = 60)
{
    struct gw_ram_device *ram =
        gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS});
    fixture_open(&f, &(struct gw_store_options){.log_bytes = 40 * PAGE,
                                                .page_bits = PAGE_BITS,
                                                .index_bytes = 2 * PAGE,
                                                .index_bytes_max = 34 * PAGE,
                                                .device = gw_ram_device_face(ram)});
    struct gw_store_stats stats;
    fill(100000, 42 * PAGE);
    gw_store_stats(f.store, &stats);
    cr_expect_gt(stats.index_bytes, 16 * PAGE);
    cr_expect_lt(stats.log_bytes_total, 30 * PAGE);
    cr_expect_gt(stats.log_head, 20 * PAGE);
    read_all(100000);
    cr_assert_leq(held(&stats), 42 * PAGE);
    fixture_close(&f);
    gw_ram_device_destroy(ram);
}

/* Users must get beyond what is kept in reserve, which was measured out for all frames. */
static void write_with(uint32_t frames)
{
    struct gw_ram_device *ram =
        gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS});
    fixture_open(&f, &(struct gw_store_options){.log_bytes = 256 * PAGE,
                                                .page_bits = PAGE_BITS,
                                                .device = gw_ram_device_face(ram)});
    gw_log_frames_allow(f.store->log, frames, false);
    static uint8_t value[8000];
    for (uint64_t k = 0; k < 4000; k++) {
        op_bytes(&f, GW_VERB_UPSERT, &k, 8, 0);
        f.op.value = value;
        f.op.value_bytes = sizeof value;
        enum gw_status st = run(&f);
        for (int i = 0; i < 10000 && st == GW_RETRY; i++)
            st = run(&f);
        cr_assert_eq(st, GW_OK, "%u frames, key %lu: %s", frames, (unsigned long)k,
                     gw_status_name(st));
    }
    cr_expect_leq(gw_log_frames_held(f.store->log), frames);
    fixture_close(&f);
    gw_ram_device_destroy(ram);
}

Test(store_memory, writes_go_on_when_the_log_has_given_up_most_frames, .timeout = 60)
{
    write_with(90);
    write_with(70);
    write_with(20);
    write_with(8);
    write_with(GW_LOG_FRAMES_MIN);
}
