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
