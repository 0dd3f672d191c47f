/* Goal: whatever is asked of records on the device ends, however large they are and whatever the
 * device says. */
#include <criterion/criterion.h>
#include <string.h>

#include "index/cold.h"
#include "index/store_internal.h"
#include "store_fixture.h"
#include "tests/support/ram_device.h"

static struct fixture f;
static struct gw_ram_device *ram;
static uint64_t fillers;

static void open_with(struct gw_store_options options, uint32_t pages)
{
    ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = options.page_bits});
    options.log_bytes = (uint64_t)pages << options.page_bits;
    options.device = gw_ram_device_face(ram);
    fixture_open(&f, &options);
}

static void done(void)
{
    fixture_close(&f);
    gw_ram_device_destroy(ram);
}

static enum gw_status settle(void)
{
    enum gw_status st = GW_RETRY;
    for (int i = 0; i < 10000 && (st == GW_PENDING || st == GW_RETRY); i++) {
        uint64_t hashes[16];
        st = run(&f);
        while (gw_store_ready(f.thread, hashes, 16) != 0) {}
    }
    return st;
}

static void put_bytes(uint64_t key, uint32_t bytes)
{
    static uint8_t value[2 << 20];
    memset(value, (int)key, bytes);
    op_bytes(&f, GW_VERB_UPSERT, &key, 8, 0);
    f.op.value = value;
    f.op.value_bytes = bytes;
    cr_assert_eq(settle(), GW_OK);
}

static void push_out(uint32_t page_bits, uint32_t pages)
{
    for (uint64_t i = 0; i < (uint64_t)pages * 4; i++)
        put_bytes(0x1000000 + fillers++, (1u << page_bits) / 4 - 256);
}

struct seen {
    uint32_t count[256];
};

static bool see(void *ctx, const struct gw_record_view *view)
{
    struct seen *seen = ctx;
    uint64_t key = gw_load64(view->key);
    if (key < 256)
        seen->count[key]++;
    return true;
}

/* Turns until the walk over all is done; -1: it does not end. */
static int walk_all(struct seen *seen, int turns_max)
{
    struct gw_cursor cursor = {0};
    for (int turn = 0; turn < turns_max; turn++) {
        gw_store_poll(f.thread);
        gw_store_enter(f.thread);
        gw_store_walk(f.thread, &cursor, UINT64_MAX, NULL, false, 64, see, seen);
        gw_store_exit(f.thread);
        if (cursor.done)
            return turn;
    }
    return -1;
}

Test(cold, a_walk_leaves_out_what_cannot_be_read, .timeout = 20)
{
    open_with((struct gw_store_options){.page_bits = 16, .index_bytes = 65536}, 8);
    for (uint64_t key = 0; key < 20; key++)
        put_bytes(key, 5000);
    push_out(16, 16);
    bool flipped = false;
    for (uint64_t at = (1 << 16) + 4096; at < (1 << 16) + 4 * 4096; at += 4096)
        flipped |= gw_ram_device_flip(ram, gw_addr_of(at), 5);
    cr_assert(flipped);
    struct seen seen = {0};
    cr_assert_geq(walk_all(&seen, 20000), 0, "the walk does not end");
    uint32_t met = 0;
    for (int i = 0; i < 20; i++)
        met += seen.count[i] != 0;
    cr_expect_lt(met, 20);
    cr_expect_geq(met, 15);
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect_geq(stats.corrupt, 1);
    done();
}

Test(cold, the_largest_record_can_be_read, .timeout = 20)
{
    open_with((struct gw_store_options){.page_bits = 21}, 6);
    put_bytes(1, 1500000);
    push_out(21, 8);
    uint64_t key = 1;
    op_bytes(&f, GW_VERB_READ, &key, 8, 0);
    cr_expect_eq(settle(), GW_OK);
    cr_expect_eq(f.op.out_bytes, 1500000);
    done();
}

/* The next key from `from` on that shares the bucket of key 0, of 512. */
static uint64_t key_of_bucket(uint64_t from)
{
    for (uint64_t key = from;; key++) {
        uint64_t zero = 0;
        op_bytes(&f, GW_VERB_READ, &zero, 8, 0);
        gw_store_hash(f.store, &f.op);
        uint64_t hash = f.op.hash;
        op_bytes(&f, GW_VERB_READ, &key, 8, 0);
        gw_store_hash(f.store, &f.op);
        if (f.op.hash >> 55 == hash >> 55)
            return key;
    }
}

static uint32_t large_seen;

static bool see_large(void *ctx, const struct gw_record_view *view)
{
    (void)ctx;
    large_seen += view->value_bytes == 300000;
    return true;
}

Test(cold, a_bucket_of_large_records_is_walked, .timeout = 30)
{
    open_with((struct gw_store_options){.page_bits = 20, .index_bytes = 65536}, 8);
    uint64_t key = 0;
    for (int i = 0; i < 6; i++) {
        key = key_of_bucket(key);
        put_bytes(key++, 300000);
    }
    fillers = key;
    push_out(20, 16);
    struct gw_cursor cursor = {0};
    uint64_t start = gw_clock_now_ns(gw_clock_system());
    while (!cursor.done && gw_clock_now_ns(gw_clock_system()) - start < 8000000000ull) {
        gw_store_poll(f.thread);
        gw_store_enter(f.thread);
        gw_store_walk(f.thread, &cursor, UINT64_MAX, NULL, false, 64, see_large, NULL);
        gw_store_exit(f.thread);
    }
    cr_expect(cursor.done);
    cr_expect_geq(large_seen, 6);
    done();
}
