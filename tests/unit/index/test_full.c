/* Goal: "the store is full" is said when it is, and only then. Not because whoever was to make room
 * has had no turn yet, as happens on a machine with fewer processors than threads; and never not at
 * all: who waits for room that does not come is told in the end. How: writes without a turn of the
 * store between them, which is what the others see of a thread that has no processor. */
#include <criterion/criterion.h>

#include "index/store_internal.h"
#include "store_fixture.h"
#include "tests/support/ram_device.h"

#define PAGE_BITS 16u
#define PAGE      ((uint64_t)1 << PAGE_BITS)
#define ENOUGH    100000u /* more turns than anything takes */

static struct fixture f;

/* f.op as it is, without a turn of the store before it. */
static enum gw_status run_alone(void)
{
    size_t used = 0;
    gw_store_hash(f.store, &f.op);
    gw_store_enter(f.thread);
    gw_store_execute(f.thread, &f.op, 1, f.room, f.room_bytes, &used);
    gw_store_exit(f.thread);
    return (enum gw_status)f.op.status;
}

/* The same with turns, until it is answered for good. */
static enum gw_status run_out(void)
{
    for (uint32_t i = 0; i < ENOUGH; i++) {
        gw_store_poll(f.thread);
        enum gw_status st = run_alone();
        if (st != GW_RETRY && st != GW_PENDING)
            return st;
    }
    return GW_RETRY;
}

static void count_key(const uint64_t *key)
{
    op_bytes(&f, GW_VERB_UPSERT, key, 8, GW_OP_COUNTER);
    f.op.number = (int64_t)*key;
}

Test(full, an_index_waits_for_frames_that_the_log_has_to_spare, .timeout = 60)
{
    enum { KEYS = 60000 };
    fixture_open(&f, &(struct gw_store_options){.log_bytes = 256 * PAGE,
                                                .page_bits = PAGE_BITS,
                                                .index_bytes = PAGE,
                                                .index_bytes_max = 128 * PAGE});
    uint32_t waited = 0;
    for (uint64_t key = 0; key < KEYS; key++) {
        count_key(&key);
        if (key == 15000) /* every chunk wants to grow by now: it asks for room, and has none yet */
            gw_store_poll(f.thread);
        enum gw_status st = run_alone();
        if (st == GW_RETRY) {
            waited++;
            st = run_out();
        }
        cr_assert_eq(st, GW_OK, "key %lu: %s", (unsigned long)key, gw_status_name(st));
    }
    cr_expect_gt(waited, 0, "the index never was in want of room: this shows nothing");
    fixture_close(&f);
}

/* The log holds no more frames than it needs, so none will come. */
static void index_is_told(struct gw_device *device, bool evict)
{
    fixture_open(&f, &(struct gw_store_options){.log_bytes = GW_LOG_FRAMES_MIN << 20,
                                                .page_bits = 20,
                                                .index_bytes = PAGE,
                                                .index_bytes_max = 128 * PAGE,
                                                .device = device,
                                                .evict = evict});
    enum gw_status st = GW_OK;
    uint64_t key = 0;
    for (; st == GW_OK && key < 100000; key++) {
        count_key(&key);
        st = run_out();
    }
    cr_expect_eq(st, GW_E_FULL, "key %lu: %s", (unsigned long)key, gw_status_name(st));
    cr_expect_gt(key, 5000);
    uint64_t first = 0;
    op_bytes(&f, GW_VERB_READ, &first, 8, 0);
    cr_expect_eq(run_out(), GW_OK, "reads go on");
    fixture_close(&f);
}

Test(full, an_index_that_gets_no_room_is_full_in_memory, .timeout = 60)
{
    index_is_told(NULL, false);
}

Test(full, an_index_that_gets_no_room_is_full_with_a_device, .timeout = 60)
{
    struct gw_ram_device *ram =
        gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = 20});
    index_is_told(gw_ram_device_face(ram), false);
    gw_ram_device_destroy(ram);
}

/* The log has given all but what its records take, and nothing of that is garbage. */
Test(full, an_index_that_gets_too_little_room_is_full, .timeout = 60)
{
    static uint8_t value[8000];
    fixture_open(&f, &(struct gw_store_options){.log_bytes = 32 * PAGE,
                                                .page_bits = PAGE_BITS,
                                                .index_bytes = PAGE,
                                                .index_bytes_max = 32 * PAGE});
    uint64_t key = 0;
    for (; key < 24 * (PAGE / sizeof value); key++) {
        op_bytes(&f, GW_VERB_UPSERT, &key, 8, 0);
        f.op.value = value;
        f.op.value_bytes = sizeof value;
        cr_assert_eq(run_out(), GW_OK);
    }
    enum gw_status st = GW_OK;
    for (; st == GW_OK && key < 100000; key++) {
        count_key(&key);
        st = run_out();
    }
    cr_expect_eq(st, GW_E_FULL, "key %lu: %s", (unsigned long)key, gw_status_name(st));
    fixture_close(&f);
}

Test(full, a_log_of_garbage_is_not_full_before_somebody_has_looked, .timeout = 60)
{
    static uint8_t value[8000];
    fixture_open(&f, &(struct gw_store_options){.log_bytes = 16 * PAGE, .page_bits = PAGE_BITS});
    uint32_t waited = 0;
    for (uint32_t i = 0; i < 4000; i++) {
        uint64_t key = i % 4;
        op_bytes(&f, GW_VERB_UPSERT, &key, 8, 0);
        f.op.value = value;
        f.op.value_bytes = i % 8 < 4 ? 5000 : sizeof value; /* never in place */
        enum gw_status st = run_alone();
        if (st == GW_RETRY) {
            waited++;
            st = run_out();
        }
        cr_assert_eq(st, GW_OK, "%u: %s", i, gw_status_name(st));
    }
    cr_expect_gt(waited, 0, "the log never was in want of room: this shows nothing");
    fixture_close(&f);
}

/* *key, made one of the big ones. */
static void big_key(uint64_t *key)
{
    static uint8_t value[1000];
    *key |= (uint64_t)1 << 32;
    op_bytes(&f, GW_VERB_UPSERT, key, 8, 0);
    f.op.value = value;
    f.op.value_bytes = sizeof value;
}

/* It is answered for good. */
static enum gw_status write_big(uint64_t key)
{
    big_key(&key);
    enum gw_status st = run_out();
    cr_assert(st == GW_OK || st == GW_E_FULL, "big key %lu: %s", (unsigned long)key,
              gw_status_name(st));
    return st;
}

/* Does the log hold what the index does not, but for the page that is kept for that? */
static bool log_has_the_rest(void)
{
    uint64_t held = gw_log_frames_held(f.store->log) << PAGE_BITS;
    return held + gw_table_memory_bytes(f.store->table) + 2 * PAGE >= f.store->memory_bytes;
}

/* A log that is full of records of which so many of 100 live, and an index that wants some pages of
 * it. What compaction frees goes to the index, and its copies need room meanwhile. True: the index
 * had to ask for them. */
static bool share_full_log(uint32_t live)
{
    enum { FRAMES = 128, COUNTERS = 45000, COUNTERS_MAX = 80000, RECORD = 1024 };
    fixture_open(&f, &(struct gw_store_options){.log_bytes = FRAMES * PAGE,
                                                .page_bits = PAGE_BITS,
                                                .index_bytes = PAGE,
                                                .index_bytes_max = 64 * PAGE});
    uint64_t counters = 0;
    for (; counters < COUNTERS; counters++) {
        count_key(&counters);
        cr_assert_eq(run_out(), GW_OK);
    }
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    uint64_t keys = (stats.log_bytes_total - stats.log_bytes_used) / 100 * live / RECORD;
    for (uint64_t n = 0; n < 3 * keys; n++) {
        if (n % keys == 0) /* what follows is not written in place */
            cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
        write_big(n % keys);
    }
    cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
    bool asked = false;
    uint32_t full = 0;
    for (; counters < COUNTERS_MAX && full < 100; counters++) {
        if (counters % 1024 == 0) /* what is written over makes garbage */
            cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
        write_big(counters % keys);
        count_key(&counters);
        enum gw_status st = run_out();
        cr_assert(st == GW_OK || st == GW_E_FULL, "%u %% live, counter %lu: %s", live,
                  (unsigned long)counters, gw_status_name(st));
        full += st == GW_E_FULL;
        asked |= gw_table_lacks(f.store->table) != 0;
    }
    for (uint32_t turns = 0; full != 0 && !log_has_the_rest(); turns++) {
        cr_assert_lt(turns, ENOUGH, "%u %% live: the index keeps what it cannot use", live);
        gw_store_poll(f.thread);
    }
    uint64_t first = 0;
    for (uint32_t n = 0; n < 200; n++)
        write_big(n % keys);
    op_bytes(&f, GW_VERB_READ, &first, 8, 0);
    cr_expect_eq(run_out(), GW_OK, "reads go on");
    fixture_close(&f);
    return asked;
}

Test(full, an_index_that_asks_a_full_log_for_frames_stops_nobody, .timeout = 120)
{
    uint32_t asked = 0;
    for (uint32_t live = 50; live <= 90; live += 1)
        asked += share_full_log(live);
    cr_expect_geq(asked, 5, "the index had to ask in %u cases only", asked);
}

/* Pages that the log could still turn to, were the index to get nothing more. */
static int64_t pages_free(void)
{
    const struct gw_log *log = f.store->log;
    uint64_t others = gw_table_memory_bytes(f.store->table) + PAGE;
    uint64_t used = (gw_log_tail(log).v >> PAGE_BITS) - (atomic_load(&log->begin) >> PAGE_BITS) + 1;
    return (int64_t)((f.store->memory_bytes - others) / PAGE) - (int64_t)used -
           (int64_t)atomic_load(&log->reserve);
}

Test(full, users_are_not_told_while_the_index_asks_in_vain, .timeout = 60)
{
    enum { FRAMES = 128, COUNTERS = 45000, COUNTERS_MAX = 90000, BURST = 200 };
    fixture_open(&f, &(struct gw_store_options){.log_bytes = FRAMES * PAGE,
                                                .page_bits = PAGE_BITS,
                                                .index_bytes = PAGE,
                                                .index_bytes_max = 64 * PAGE});
    uint64_t counters = 0, big = 0;
    for (; counters < COUNTERS; counters++) {
        count_key(&counters);
        cr_assert_eq(run_out(), GW_OK);
    }
    while (pages_free() > 18)
        cr_assert_eq(write_big(big++), GW_OK);
    for (; counters < COUNTERS_MAX && gw_table_lacks(f.store->table) == 0; counters++) {
        count_key(&counters);
        cr_assert_eq(run_out(), GW_OK);
    }
    cr_assert_neq(gw_table_lacks(f.store->table), 0, "the index did not ask: this shows nothing");
    cr_assert_gt(pages_free(), 4, "there is no room for bursts: this shows nothing");
    enum gw_status st = GW_OK;
    for (uint32_t turns = 0; st != GW_E_FULL; turns++) {
        cr_assert_lt(turns, ENOUGH, "never full");
        st = GW_OK;
        for (uint32_t i = 0; i < BURST && st == GW_OK; i++) { /* as others write meanwhile */
            uint64_t key = big++;
            big_key(&key);
            st = run_alone();
        }
        if (st == GW_E_FULL)
            cr_expect_leq(pages_free(), 1, "told after %u turns", turns);
        gw_store_poll(f.thread);
    }
    cr_expect(gw_table_grow_refused(f.store->table), "the index got what it asked for");
    fixture_close(&f);
}
