/* Goal: a slot's floor does not outlive the addresses that it speaks of. A range is unlinked behind
 * the cut of a checkpoint, at a tail that is still in memory only; the process ends, and the next
 * one goes on below that tail: what it writes there is there after another restart. How: two
 * restarts of a small store on a device in memory, the log resumed as low as a server may. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "index/floors.h"
#include "store_fixture.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"

TestSuite(floors, .timeout = 20);

#define PAGE_BITS 16u
#define KEYS      300u

static struct fixture f;
static struct gw_store_options options;

static void set(uint32_t key, const char *value)
{
    char name[32];
    snprintf(name, sizeof name, "{slot}%u", key);
    enum gw_status st = put(&f, name, value);
    for (int i = 0; i < 10000 && (st == GW_RETRY || st == GW_PENDING); i++) {
        gw_store_poll(f.thread);
        st = put(&f, name, value);
    }
    cr_assert_eq(st, GW_OK, "key %u: %d", key, st);
}

static enum gw_status look_up(uint32_t key)
{
    char name[32];
    uint64_t hashes[8];
    snprintf(name, sizeof name, "{slot}%u", key);
    enum gw_status st = get(&f, name);
    for (int i = 0; i < 10000 && (st == GW_RETRY || st == GW_PENDING); i++) {
        gw_store_poll(f.thread);
        while (gw_store_ready(f.thread, hashes, 8) != 0) {}
        st = get(&f, name);
    }
    return st;
}

/* The process ends; the next one goes on right behind what the image has. */
static void restart(const struct gw_test_image *image)
{
    char why[256];
    uint64_t page = (uint64_t)1 << PAGE_BITS;
    gw_addr resume = gw_addr_of((image->numbers.end.v / page + 1) * page);
    gw_store_thread_close(f.thread);
    gw_store_close(f.store);
    cr_assert_eq(gw_test_recover(&options, image, NULL, resume, 1, NULL, &f.store, why), GW_OK,
                 "%s", why);
    gw_store_retain_all(f.store);
    gw_store_retain(f.store, image->numbers.begin, image->numbers.end);
    cr_assert_eq(gw_store_thread_open(f.store, &f.thread), GW_OK);
}

Test(floors, what_is_written_below_a_floor_that_only_memory_knew_is_kept)
{
    struct gw_ram_device *ram =
        gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS});
    options = (struct gw_store_options){.page_bits = PAGE_BITS,
                                        .log_bytes = 16u << PAGE_BITS,
                                        .index_bytes = 1 << 16,
                                        .index_bytes_max = 1 << 18,
                                        .threads_max = 4,
                                        .hash_seed = 99,
                                        .device = gw_ram_device_face(ram)};
    fixture_open(&f, &options);
    gw_store_retain_all(f.store);
    for (uint32_t key = 0; key < KEYS; key++)
        set(key, "before the cut");
    struct gw_test_image image;
    gw_test_image_begin(&image, f.store, f.thread, 1);
    gw_store_poll(f.thread);
    static char large[1000];
    memset(large, 'x', sizeof large - 1);
    for (uint32_t key = 0; key < KEYS; key++) /* the tail rises by some pages */
        set(key, large);
    op(&f, GW_VERB_READ, "{slot}", 0);
    gw_store_hash(f.store, &f.op);
    struct gw_slots slots = {{0}};
    gw_slots_add(&slots, f.op.slot);
    struct gw_cursor cursor = {0};
    uint64_t unlinked = 0;
    gw_store_enter(f.thread);
    gw_store_unlink(f.thread, &cursor, UINT64_MAX, &slots, UINT32_MAX, &unlinked);
    gw_store_exit(f.thread);
    cr_assert_gt(unlinked, 0);
    for (int i = 0; i < 10000 && !gw_store_cut_flushed(f.store, image.numbers.end); i++)
        gw_store_poll(f.thread);
    gw_test_image_finish(&image, f.store);
    restart(&image);
    gw_test_image_free(&image);
    for (uint32_t key = 0; key < KEYS; key++)
        cr_assert_eq(look_up(key), GW_NOT_FOUND, "key %u was unlinked", key);
    for (uint32_t key = 0; key < KEYS; key++)
        set(key, "new");
    gw_test_image_take(&image, f.store, f.thread, 2);
    restart(&image);
    gw_test_image_free(&image);
    uint32_t lost = 0;
    for (uint32_t key = 0; key < KEYS; key++)
        lost += look_up(key) != GW_OK || f.op.out_bytes != 3 || memcmp(f.op.out, "new", 3) != 0;
    cr_expect_eq(lost, 0, "%u of %u keys are lost", lost, KEYS);
    fixture_close(&f);
    gw_ram_device_destroy(ram);
}
