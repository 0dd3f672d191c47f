/* Goal: when the system gives no more memory, a store is refused or goes on, and says nothing that
 * is not so: the n-th mapping fails, for every n, at the start and while the index grows. How: a
 * limit on the address space, real mmap. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "index/base/clock.h"
#include "index/store.h"
#include "tests/support/ram_device.h"

#if !defined(__SANITIZE_ADDRESS__) /* its shadow is address space too */

#define PAGE_BITS 16u
#define KEYS      60000u

static uint64_t address_space(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (uint64_t)pages * 4096;
}

static void limit(uint64_t bytes)
{
    struct rlimit l;
    getrlimit(RLIMIT_AS, &l);
    l.rlim_cur = bytes ? bytes : l.rlim_max;
    setrlimit(RLIMIT_AS, &l);
}

static enum gw_status one(struct gw_store *store, struct gw_thread *t, uint8_t verb, uint64_t key,
                          struct gw_op *op)
{
    uint8_t room[64];
    *op = (struct gw_op){.verb = verb,
                         .key = (const uint8_t *)&key,
                         .key_bytes = 8,
                         .flags = verb == GW_VERB_UPSERT ? GW_OP_COUNTER : 0,
                         .number = (int64_t)key};
    gw_store_hash(store, op);
    for (int turn = 0; turn < 20000; turn++) {
        size_t used;
        uint64_t hashes[4];
        gw_store_poll(t);
        while (gw_store_ready(t, hashes, 4)) {}
        gw_store_enter(t);
        gw_store_execute(t, op, 1, room, sizeof room, &used);
        gw_store_exit(t);
        if (op->status != GW_PENDING && op->status != GW_RETRY)
            break;
    }
    return (enum gw_status)op->status;
}

Test(store_memory_fault, every_mapping_of_the_start_may_fail, .timeout = 60)
{
    struct gw_ram_device *ram =
        gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS});
    struct gw_store_options options = {.log_bytes = 16u << PAGE_BITS,
                                       .index_bytes = 1 << 18,
                                       .index_bytes_max = 1 << 20,
                                       .page_bits = PAGE_BITS,
                                       .device = gw_ram_device_face(ram)};
    uint32_t refused = 0, opened = 0, wrong = 0;
    uint64_t base = address_space();
    for (uint64_t more = 0; more < (uint64_t)96 << 20 && opened < 3; more += 512 << 10) {
        struct gw_store *store = NULL;
        struct gw_thread *t = NULL;
        struct gw_op op;
        limit(base + more);
        enum gw_status st = gw_store_open(&options, &store);
        if (st == GW_OK) {
            st = gw_store_thread_open(store, &t);
            if (st == GW_OK) {
                opened++;
                wrong += one(store, t, GW_VERB_UPSERT, 7, &op) != GW_OK;
                wrong += one(store, t, GW_VERB_READ, 7, &op) != GW_OK || op.number != 7;
                gw_store_thread_close(t);
            }
            gw_store_close(store);
        }
        refused += st == GW_E_NOMEM;
        wrong += st != GW_OK && st != GW_E_NOMEM;
        limit(0);
    }
    cr_expect_eq(wrong, 0);
    cr_expect_gt(refused, 3);
    cr_expect_eq(opened, 3, "it opens when there is enough");
    gw_ram_device_destroy(ram);
}

Test(store_memory_fault, an_index_that_gets_no_memory_goes_on_as_it_is, .timeout = 60)
{
    struct gw_store_options options = {.log_bytes = (uint64_t)80 << PAGE_BITS,
                                       .index_bytes = 1 << 17,
                                       .index_bytes_max = 3 << 20,
                                       .page_bits = PAGE_BITS,
                                       .populate = true};
    struct gw_store *store;
    struct gw_thread *t;
    struct gw_op op;
    cr_assert_eq(gw_store_open(&options, &store), GW_OK);
    cr_assert_eq(gw_store_thread_open(store, &t), GW_OK);
    limit(address_space() + (64 << 10));
    uint64_t taken = 0, wrong = 0;
    while (taken < KEYS && one(store, t, GW_VERB_UPSERT, taken, &op) == GW_OK)
        taken++;
    enum gw_status last = (enum gw_status)op.status;
    for (uint64_t key = 0; key < taken; key++)
        wrong += one(store, t, GW_VERB_READ, key, &op) != GW_OK || op.number != (int64_t)key;
    struct gw_store_stats denied;
    gw_store_stats(store, &denied);
    limit(0);
    cr_expect_eq(wrong, 0);
    cr_expect_gt(taken, 5000);
    cr_expect(taken == KEYS || last == GW_E_FULL || last == GW_RETRY, "%s", gw_status_name(last));
    uint64_t until = gw_clock_now_ns(gw_clock_system()) + 5000000000u;
    while (taken < KEYS && gw_clock_now_ns(gw_clock_system()) < until)
        taken += one(store, t, GW_VERB_UPSERT, taken, &op) == GW_OK; /* by itself, soon */
    cr_assert_eq(taken, KEYS, "key %lu: %s", (unsigned long)taken,
                 gw_status_name((enum gw_status)op.status));
    struct gw_store_stats now;
    gw_store_stats(store, &now);
    cr_expect_gt(now.index_splits, denied.index_splits);
    for (uint64_t key = 0; key < KEYS; key++)
        cr_assert(one(store, t, GW_VERB_READ, key, &op) == GW_OK && op.number == (int64_t)key);
    gw_store_thread_close(t);
    gw_store_close(store);
}
#endif
