/* Goal: whatever the device answers, an operation gets a clean status, nothing that was said to be
 * done is lost or undone, and the store goes on.
 * How: the same small workload, far larger than memory, once for every n with the n-th read or
 * write going wrong; a map says what must be there. A record that cannot be read is answered with
 * the failure, every time or only that time, as the device does; everything else is served. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/store.h"
#include "tests/support/ram_device.h"

#define PAGE_BITS   16u
#define PAGES       6u
#define KEYS        300u
#define VALUE_BYTES 3000u
#define TURNS_MAX   20000u

struct run {
    struct gw_ram_device *ram;
    struct gw_store *store;
    struct gw_thread *thread;
    uint32_t version[KEYS]; /* of the value that must be there */
    uint32_t failures;      /* operations answered with a failure */
    uint8_t room[1 << 16], value[VALUE_BYTES];
    char key[16];
};

static struct run *r;

static void open_store(uint64_t limit_bytes)
{
    r = calloc(1, sizeof *r);
    r->ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                                                  .delay_polls_max = 3,
                                                                  .limit_bytes = limit_bytes,
                                                                  .segment_bytes = 4 << PAGE_BITS});
    struct gw_store_options options = {.log_bytes = PAGES << PAGE_BITS,
                                       .index_bytes = 1 << 17,
                                       .page_bits = PAGE_BITS,
                                       .device = gw_ram_device_face(r->ram)};
    cr_assert_eq(gw_store_open(&options, &r->store), GW_OK);
    cr_assert_eq(gw_store_thread_open(r->store, &r->thread), GW_OK);
}

static void close_store(void)
{
    gw_store_thread_close(r->thread);
    gw_store_close(r->store);
    gw_ram_device_destroy(r->ram);
    free(r);
}

/* Executes until it is answered; GW_RETRY when it is not in TURNS_MAX turns. */
static enum gw_status run(struct gw_op *op)
{
    gw_store_hash(r->store, op);
    for (uint32_t turn = 0; turn < TURNS_MAX; turn++) {
        size_t used;
        gw_store_enter(r->thread);
        gw_store_execute(r->thread, op, 1, r->room, sizeof r->room, &used);
        gw_store_exit(r->thread);
        if (op->status != GW_PENDING && op->status != GW_RETRY)
            return (enum gw_status)op->status;
        gw_store_poll(r->thread);
        uint64_t hashes[4];
        while (gw_store_ready(r->thread, hashes, 4)) {}
    }
    return GW_RETRY;
}

static struct gw_op op_of(uint8_t verb, uint32_t k)
{
    snprintf(r->key, sizeof r->key, "key-%u", k);
    return (struct gw_op){.verb = verb,
                          .key = (const uint8_t *)r->key,
                          .key_bytes = (uint16_t)strlen(r->key)};
}

static enum gw_status put(uint32_t k)
{
    struct gw_op op = op_of(GW_VERB_UPSERT, k);
    uint32_t next = r->version[k] + 1;
    memset(r->value, (int)(k * 7 + next), VALUE_BYTES);
    memcpy(r->value, &next, 4);
    op.value = r->value;
    op.value_bytes = VALUE_BYTES;
    enum gw_status st = run(&op);
    if (st == GW_OK)
        r->version[k] = next;
    else
        r->failures++;
    return st;
}

static enum gw_status get(uint32_t k)
{
    struct gw_op op = op_of(GW_VERB_READ, k);
    enum gw_status st = run(&op);
    if (gw_failed(st) || st == GW_RETRY) {
        r->failures++;
        return st;
    }
    if (r->version[k] == 0) {
        cr_assert_eq(st, GW_NOT_FOUND);
        return st;
    }
    cr_assert_eq(st, GW_OK, "key %u: %s", k, gw_status_name(st));
    uint32_t is;
    memcpy(&is, op.out, 4);
    cr_assert_eq(is, r->version[k], "key %u has value %u instead of %u", k, is, r->version[k]);
    for (uint32_t i = 4; i < op.out_bytes; i++)
        cr_assert_eq(op.out[i], (uint8_t)(k * 7 + is));
    return GW_OK;
}

/* Fills, overwrites some, reads all. */
static void workload(void)
{
    for (uint32_t k = 0; k < KEYS; k++)
        put(k);
    for (uint32_t k = 0; k < KEYS; k += 3)
        put(k);
    for (uint32_t k = 0; k < KEYS; k++)
        get(k);
}

Test(store_device, every_read_may_fail, .timeout = 120)
{
    static const enum gw_status hows[] = {GW_E_IO, GW_E_CORRUPT, GW_WOULD_BLOCK};
    for (uint32_t how = 0; how < 3; how++) {
        uint64_t step = 1;
        for (uint64_t n = 0;; n += step) {
            open_store(0);
            gw_ram_device_fail(r->ram, GW_RAM_READ, n, 1, hows[how]);
            workload();
            cr_assert_leq(r->failures, 1, "one read failed, %u operations did", r->failures);
            struct gw_device_usage usage;
            struct gw_device *device = gw_ram_device_face(r->ram);
            device->usage(device, &usage);
            bool over = usage.reads <= n;
            if (!over && hows[how] != GW_WOULD_BLOCK)
                cr_assert_eq(r->failures, 1, "read %lu failed, nobody was told", (unsigned long)n);
            r->failures = 0;
            gw_ram_device_fail(r->ram, GW_RAM_READ, 0, 0, GW_OK); /* if it was not met */
            for (uint32_t k = 0; k < KEYS; k++)                   /* it was that time only */
                get(k);
            cr_assert_eq(r->failures, 0);
            close_store();
            if (over)
                break;
            step = n < 20 ? 1 : 17;
        }
    }
}

Test(store_device, every_write_may_fail, .timeout = 120)
{
    static const enum gw_status hows[] = {GW_E_IO, GW_WOULD_BLOCK};
    for (uint32_t how = 0; how < 2; how++) {
        for (uint64_t n = 0;; n++) {
            open_store(0);
            gw_ram_device_fail(r->ram, GW_RAM_WRITE, n, 1 + n % 3, hows[how]);
            workload();
            cr_assert_eq(r->failures, 0, "a page that was not written is written again");
            struct gw_device_usage usage;
            struct gw_device *device = gw_ram_device_face(r->ram);
            device->usage(device, &usage);
            close_store();
            if (usage.writes <= n)
                break;
        }
    }
}

Test(store_device, without_room_writes_are_refused_and_reads_go_on, .timeout = 60)
{
    open_store(6 * (4 << PAGE_BITS));
    gw_ram_device_limit(r->ram, 1);
    uint32_t k = 0;
    while (k < KEYS && put(k) == GW_OK)
        k++;
    cr_assert_lt(k, KEYS, "memory holds six pages");
    struct gw_op op = op_of(GW_VERB_UPSERT, k);
    op.value = r->value;
    op.value_bytes = VALUE_BYTES;
    cr_expect_eq(run(&op), GW_E_FULL);
    r->failures = 0;
    for (uint32_t i = 0; i < k; i++)
        get(i);
    cr_expect_eq(r->failures, 0);
    gw_ram_device_limit(r->ram, 0);
    /* The store looks every few milliseconds. */
    uint64_t until = gw_clock_now_ns(gw_clock_system()) + 5000000000u;
    while (put(k) == GW_E_FULL && gw_clock_now_ns(gw_clock_system()) < until)
        gw_store_poll(r->thread);
    r->failures = 0;
    for (; k < KEYS; k++)
        cr_assert_eq(put(k), GW_OK, "it goes on by itself, key %u", k);
    for (uint32_t i = 0; i < KEYS; i++)
        get(i);
    cr_expect_eq(r->failures, 0);
    close_store();
}

/* The device takes every page and then fails: nobody is to wait for that for ever. */
Test(store_device, writes_that_fail_again_and_again_are_told_to_users, .timeout = 60)
{
    open_store(0);
    gw_ram_device_fail(r->ram, GW_RAM_WRITE, 0, UINT64_MAX, GW_E_IO);
    uint32_t k = 0;
    enum gw_status st = GW_OK;
    for (; k < KEYS && (st = put(k)) == GW_OK; k++) {}
    cr_expect_eq(st, GW_E_FULL, "%s", gw_status_name(st));
    r->failures = 0;
    for (uint32_t i = 0; i < k; i++)
        get(i);
    cr_expect_eq(r->failures, 0, "memory is served");
    gw_ram_device_fail(r->ram, GW_RAM_WRITE, 0, 0, GW_OK);
    uint64_t until = gw_clock_now_ns(gw_clock_system()) + 5000000000u;
    while (put(k) == GW_E_FULL && gw_clock_now_ns(gw_clock_system()) < until)
        gw_store_poll(r->thread);
    r->failures = 0;
    for (; k < KEYS; k++)
        cr_assert_eq(put(k), GW_OK, "it goes on by itself, key %u", k);
    for (uint32_t i = 0; i < KEYS; i++)
        get(i);
    cr_expect_eq(r->failures, 0);
    close_store();
}

Test(store_device, a_device_that_breaks_takes_only_what_is_on_it, .timeout = 60)
{
    open_store(0);
    for (uint32_t k = 0; k < KEYS; k++)
        cr_assert_eq(put(k), GW_OK);
    gw_ram_device_break(r->ram);
    uint32_t served = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        enum gw_status st = get(k);
        served += st == GW_OK;
        cr_assert(st == GW_OK || st == GW_E_IO, "key %u: %s", k, gw_status_name(st));
    }
    cr_expect_gt(served, 20, "what is in memory is served");
    cr_expect_lt(served, KEYS);
    enum gw_status st = GW_OK;
    for (uint32_t k = 0; k < KEYS && st == GW_OK; k++) {
        struct gw_op op = op_of(GW_VERB_UPSERT, KEYS + k);
        op.value = r->value;
        op.value_bytes = VALUE_BYTES;
        st = run(&op);
    }
    cr_expect_eq(st, GW_E_FULL, "no page leaves memory any more, so writes end: %s",
                 gw_status_name(st));
    close_store();
}

Test(store_device, a_flipped_bit_is_reported_and_the_rest_is_served, .timeout = 60)
{
    open_store(0);
    for (uint32_t k = 0; k < KEYS; k++)
        cr_assert_eq(put(k), GW_OK);
    struct gw_store_stats stats;
    gw_store_stats(r->store, &stats);
    /* In the middle of the second page of the log. */
    gw_addr at = gw_addr_of((stats.log_begin & ~(uint64_t)((1 << PAGE_BITS) - 1)) + (3u << 15));
    cr_assert(gw_ram_device_flip(r->ram, at, 77));
    uint32_t corrupt = 0;
    for (uint32_t k = 0; k < KEYS; k++) {
        enum gw_status st = get(k);
        corrupt += st == GW_E_CORRUPT;
        cr_assert(st == GW_OK || st == GW_E_CORRUPT, "key %u: %s", k, gw_status_name(st));
    }
    cr_expect_geq(corrupt, 1);
    cr_expect_leq(corrupt, 3, "the records of one block");
    gw_store_stats(r->store, &stats);
    cr_expect_geq(stats.corrupt, corrupt);
    close_store();
}
