/* Goal: the holes of ENGINE section 1 that open when records leave memory, each driven by hand on a
 * device in memory. Races are in torture/, random sequences in model/. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/cold.h"
#include "index/store_internal.h"
#include "store_fixture.h"
#include "tests/support/ram_device.h"

#define PAGE_BITS 16u
#define PAGE      ((uint64_t)1 << PAGE_BITS)
#define PAGES     8u

static struct fixture f;
static struct gw_ram_device *ram;

static void open_with(struct gw_store_options options)
{
    options.page_bits = options.page_bits ? options.page_bits : PAGE_BITS;
    ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = options.page_bits});
    options.log_bytes = (uint64_t)PAGES << options.page_bits;
    options.device = gw_ram_device_face(ram);
    fixture_open(&f, &options);
}

static void setup(void)
{
    open_with((struct gw_store_options){0});
}

static void teardown(void)
{
    fixture_close(&f);
    gw_ram_device_destroy(ram);
}

TestSuite(holes, .init = setup, .fini = teardown, .timeout = 20);

/* Executes f.op until it is answered. */
static enum gw_status settle(void)
{
    enum gw_status st = run(&f);
    for (int i = 0; i < 10000 && (st == GW_PENDING || st == GW_RETRY); i++)
        st = run(&f);
    return st;
}

static uint64_t fillers;

/* Writes pages of other keys, so that all that was there before leaves memory. */
static void push_out(uint32_t pages)
{
    uint8_t value[4000] = {7};
    for (uint64_t i = 0; i < pages * (PAGE / 4096); i++) {
        uint64_t key = 0x1000000 + fillers++;
        op_bytes(&f, GW_VERB_UPSERT, &key, 8, 0);
        f.op.value = value;
        f.op.value_bytes = sizeof value;
        cr_assert_eq(settle(), GW_OK);
    }
}

static void polls(uint32_t n)
{
    while (n--)
        gw_store_poll(f.thread);
}

static bool is_cold(const char *key)
{
    op(&f, GW_VERB_READ, key, 0);
    gw_store_hash(f.store, &f.op);
    gw_store_enter(f.thread);
    struct gwi_position position;
    uint64_t tag = gw_table_tag(f.thread->table, f.op.hash, f.op.slot);
    position.place = gw_table_find(f.thread->table, f.op.hash, tag, &position.entry);
    bool cold =
        position.place && gwi_chain_find(f.thread, f.op.key, f.op.key_bytes, &position) == GWI_COLD;
    gw_store_exit(f.thread);
    return cold;
}

Test(holes, h5_no_page_is_written_while_somebody_may_seal_in_it)
{
    struct gw_thread *old;
    cr_assert_eq(gw_store_thread_open(f.store, &old), GW_OK);
    cr_assert_eq(put(&f, "key", "before"), GW_OK);
    gw_store_enter(old); /* with the boundaries of now */
    push_out(PAGES - 4);
    polls(20);
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_assert_gt(stats.log_read_only, stats.log_begin, "read_only has risen");
    cr_expect_eq(gw_ram_device_in_flight(ram, GW_RAM_WRITE), 0);
    cr_expect_eq(gw_ram_device_pages(ram), 0, "a page was written under an old view");
    /* In the old view the record is mutable still. */
    op(&f, GW_VERB_UPSERT, "key", 0);
    f.op.value = (const uint8_t *)"behind";
    f.op.value_bytes = 6;
    gw_store_hash(f.store, &f.op);
    size_t used;
    gw_store_execute(old, &f.op, 1, f.room, f.room_bytes, &used);
    cr_assert_eq(f.op.status, GW_OK);
    gw_store_exit(old);
    push_out(2 * PAGES);
    cr_expect_gt(gw_ram_device_pages(ram), 0);
    cr_assert(is_cold("key"));
    op(&f, GW_VERB_READ, "key", 0);
    cr_assert_eq(settle(), GW_OK);
    cr_expect_arr_eq(f.op.out, "behind", 6);
    gw_store_thread_close(old);
}

Test(holes, h6_a_cold_counter_is_not_begun_anew)
{
    cr_assert_eq(add(&f, "counter", 1000), GW_OK);
    for (int64_t want = 1001; want <= 1003; want++) {
        push_out(2 * PAGES);
        cr_assert(is_cold("counter"));
        uint32_t version = 0;
        cr_expect_eq(add(&f, "counter", 1), GW_PENDING, "nothing has happened yet");
        cr_assert_eq(settle(), GW_OK);
        cr_expect_eq(f.op.number, want);
        cr_expect_gt(f.op.version, version);
        version = f.op.version;
    }
}

Test(holes, h6_a_cold_delete_is_found)
{
    cr_assert_eq(put(&f, "key", "value"), GW_OK);
    uint32_t version = f.op.version;
    cr_assert_eq(del(&f, "key"), GW_OK);
    push_out(2 * PAGES);
    cr_assert(is_cold("key"));
    op(&f, GW_VERB_READ, "key", 0);
    cr_expect_eq(settle(), GW_NOT_FOUND);
    op(&f, GW_VERB_INSERT, "key", GW_OP_COUNTER);
    cr_assert_eq(settle(), GW_OK);
    cr_expect_eq(f.op.version, version + 2, "versions go on behind a tombstone on the device");
}

Test(holes, h12_later_operations_do_not_overtake_one_that_waits)
{
    cr_assert_eq(add(&f, "counter", 5), GW_OK);
    push_out(2 * PAGES);
    struct gw_op ops[3];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 3; i++) {
        ops[i] = (struct gw_op){.key = (const uint8_t *)"counter", .key_bytes = 7, .delta = 1};
        ops[i].verb = i == 1 ? GW_VERB_READ : GW_VERB_ADD;
        gw_store_hash(f.store, &ops[i]);
    }
    size_t used;
    for (int turns = 0; turns < 1000 && (turns == 0 || ops[0].status != GW_OK); turns++) {
        gw_store_enter(f.thread);
        gw_store_execute(f.thread, ops, 3, f.room, f.room_bytes, &used);
        gw_store_exit(f.thread);
        for (int i = 1; i < 3; i++)
            cr_assert_eq(ops[i].status == GW_OK, ops[0].status == GW_OK, "in order or not at all");
        gw_store_poll(f.thread);
    }
    cr_expect_eq(ops[0].number, 6);
    cr_expect_eq(ops[1].number, 6);
    cr_expect_eq(ops[2].number, 7);
}

Test(holes, h14_addresses_go_on_over_the_end_of_42_bits)
{
    teardown(); /* a store of its own */
    /* Larger pages: the tail's 28 bits of page reach that far only with them. */
    open_with((struct gw_store_options){.page_bits = 20,
                                        .log_start = GW_ADDR_WINDOW - ((uint64_t)3 << 20)});
    char key[16];
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        op(&f, GW_VERB_UPSERT, key, GW_OP_COUNTER);
        f.op.number = i;
        cr_assert_eq(settle(), GW_OK);
        push_out(i % 4 ? 0 : 8);
    }
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_assert_gt(stats.log_head, GW_ADDR_WINDOW, "the wrap lies behind");
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 100; i++) {
            snprintf(key, sizeof key, "key-%d", i);
            op(&f, round ? GW_VERB_ADD : GW_VERB_READ, key, 0);
            f.op.delta = 1;
            cr_assert_eq(settle(), GW_OK);
            cr_expect_eq(f.op.number, i + round);
        }
}

Test(holes, h18_what_was_read_before_a_delete_does_not_come_back)
{
    cr_assert_eq(put(&f, "key", "value"), GW_OK);
    push_out(2 * PAGES);
    struct gw_thread *other;
    cr_assert_eq(gw_store_thread_open(f.store, &other), GW_OK);
    /* Read twice, so that the next answer copies it to the tail. */
    op(&f, GW_VERB_READ, "key", 0);
    cr_assert_eq(settle(), GW_OK);
    op(&f, GW_VERB_READ, "key", 0);
    gw_store_hash(f.store, &f.op);
    gw_store_enter(f.thread);
    struct gwi_position position;
    enum gw_status why;
    cr_assert_eq(gwi_find(f.thread, &f.op, &position, &why), GWI_FOUND, "the read is kept");
    gw_store_exit(f.thread);
    /* Meanwhile another thread deletes it. */
    struct gw_op gone = f.op;
    gone.verb = GW_VERB_DELETE;
    size_t used;
    for (int i = 0; i < 1000 && (i == 0 || gone.status != GW_OK); i++) {
        gw_store_enter(other);
        gw_store_execute(other, &gone, 1, f.room, f.room_bytes, &used);
        gw_store_exit(other);
        gw_store_poll(other);
    }
    cr_assert_eq(gone.status, GW_OK);
    gw_store_enter(f.thread);
    cr_expect_eq(gwi_copy_to_tail(f.thread, &position, f.op.hash, false), GW_RETRY,
                 "the chain has changed since the walk");
    gw_store_exit(f.thread);
    op(&f, GW_VERB_READ, "key", 0);
    cr_expect_eq(settle(), GW_NOT_FOUND);
    gw_store_thread_close(other);
}

Test(holes, h18_a_record_read_twice_comes_back_to_memory)
{
    cr_assert_eq(put(&f, "key", "value"), GW_OK);
    uint32_t version = f.op.version;
    push_out(2 * PAGES);
    for (int i = 0; i < 2; i++) {
        cr_assert(is_cold("key"));
        op(&f, GW_VERB_READ, "key", 0);
        cr_assert_eq(settle(), GW_OK);
    }
    cr_expect(!is_cold("key"));
    cr_assert_eq(get(&f, "key"), GW_OK);
    cr_expect_eq(f.op.version, version, "a copy is no change");
    cr_expect_arr_eq(f.op.out, "value", 5);
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect_eq(stats.promoted, 1);
}

Test(holes, h22_reads_under_way_are_bounded)
{
    teardown(); /* a store of its own */
    open_with((struct gw_store_options){.cold_reads_max = 3});
    char key[16];
    uint8_t value[20000];
    for (int i = 0; i < 60; i++) {
        snprintf(key, sizeof key, "key-%d", i);
        memset(value, i, sizeof value);
        op(&f, GW_VERB_UPSERT, key, 0);
        f.op.value = value;
        f.op.value_bytes = i % 4 ? 100 : sizeof value;
        cr_assert_eq(settle(), GW_OK);
    }
    push_out(2 * PAGES);
    struct gw_op ops[60];
    static char keys[60][16];
    static uint8_t room[60 * 20480];
    memset(ops, 0, sizeof ops);
    for (int i = 0; i < 60; i++) {
        snprintf(keys[i], sizeof keys[i], "key-%d", i);
        ops[i] = (struct gw_op){.verb = GW_VERB_READ,
                                .key = (const uint8_t *)keys[i],
                                .key_bytes = (uint16_t)strlen(keys[i])};
        gw_store_hash(f.store, &ops[i]);
    }
    uint32_t done = 0;
    for (int turns = 0; turns < 10000 && done < 60; turns++) {
        size_t used;
        uint32_t at = 0;
        gw_store_enter(f.thread);
        gw_store_execute(f.thread, ops, 60 - done, room, sizeof room, &used);
        for (uint32_t i = 0; i < 60 - done; i++) {
            if (ops[i].status == GW_PENDING || ops[i].status == GW_RETRY) {
                ops[at++] = ops[i];
                continue;
            }
            cr_assert_eq(ops[i].status, GW_OK);
            cr_assert_eq(ops[i].out[ops[i].out_bytes - 1], atoi((const char *)ops[i].key + 4));
        }
        gw_store_exit(f.thread);
        done = 60 - at;
        cr_assert_leq(gw_ram_device_in_flight(ram, GW_RAM_READ), 3);
        gw_store_poll(f.thread);
        uint64_t hashes[8];
        while (gw_store_ready(f.thread, hashes, 8) != 0) {}
    }
    cr_expect_eq(done, 60);
}

/* Whoever executes again only what is named gets everything answered, however small the store's
 * buffers are and whatever else happens to the keys. */
Test(holes, h22_whatever_waits_is_named)
{
    teardown();
    open_with((struct gw_store_options){.cold_reads_max = 2});
    enum { N = 120 };
    static char keys[N][16];
    static struct gw_op ops[N];
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof keys[i], "key-%d", i);
        op(&f, GW_VERB_UPSERT, keys[i], GW_OP_COUNTER);
        f.op.number = i;
        cr_assert_eq(settle(), GW_OK);
    }
    push_out(2 * PAGES);
    struct gw_thread *other;
    cr_assert_eq(gw_store_thread_open(f.store, &other), GW_OK);
    bool waits[N] = {false};
    uint32_t left = 0, turns = 0;
    for (int i = 0; i < N; i++) {
        ops[i] = (struct gw_op){.verb = i % 2 ? GW_VERB_READ : GW_VERB_ADD,
                                .key = (const uint8_t *)keys[i],
                                .key_bytes = (uint16_t)strlen(keys[i])};
        gw_store_hash(f.store, &ops[i]);
    }
    size_t used;
    bool named[N];
    memset(named, 1, sizeof named); /* the first time all are executed */
    do {
        gw_store_enter(f.thread);
        for (int i = 0; i < N; i++) {
            if (!named[i])
                continue;
            gw_store_execute(f.thread, &ops[i], 1, f.room, f.room_bytes, &used);
            /* What could not even begin to wait is tried again in the next turn. */
            named[i] = ops[i].status == GW_RETRY;
            bool waits_now = ops[i].status == GW_RETRY || ops[i].status == GW_PENDING;
            left += (uint32_t)waits_now - (uint32_t)waits[i];
            waits[i] = waits_now;
            if (!waits_now) {
                cr_assert_eq(ops[i].status, GW_OK);
                cr_assert_eq(ops[i].number, i);
            }
        }
        gw_store_exit(f.thread);
        /* Another thread brings some of them back to memory meanwhile: nobody needs those reads. */
        struct gw_op touch = ops[turns * 7 % N];
        touch.verb = GW_VERB_ADD;
        touch.delta = 0;
        gw_store_enter(other);
        gw_store_execute(other, &touch, 1, f.room, f.room_bytes, &used);
        gw_store_exit(other);
        gw_store_poll(other);
        gw_store_poll(f.thread);
        uint64_t hashes[4];
        for (uint32_t n; (n = gw_store_ready(f.thread, hashes, 4)) != 0;)
            for (uint32_t h = 0; h < n; h++)
                for (int i = 0; i < N; i++)
                    named[i] |= waits[i] && ops[i].hash == hashes[h];
        cr_assert_lt(turns++, 200000, "%u operations wait for a name that does not come", left);
    } while (left != 0);
    gw_store_thread_close(other);
}

/* Two sessions wait for one key; the second asks before the first was told. The name comes still.
 */
Test(holes, h22_who_asks_first_does_not_take_the_name_away)
{
    cr_assert_eq(put(&f, "key", "value"), GW_OK);
    push_out(2 * PAGES);
    gw_ram_device_fail(ram, GW_RAM_READ, 0, 1, GW_E_CORRUPT);
    op(&f, GW_VERB_READ, "key", 0);
    cr_assert_eq(run(&f), GW_PENDING);
    polls(20); /* it has failed, and nobody was told */
    size_t used;
    gw_store_enter(f.thread);
    gw_store_execute(f.thread, &f.op, 1, f.room, f.room_bytes, &used);
    gw_store_exit(f.thread);
    cr_expect_eq(f.op.status, GW_E_CORRUPT);
    uint64_t hashes[4];
    cr_assert_eq(gw_store_ready(f.thread, hashes, 4), 1);
    cr_expect_eq(hashes[0], f.op.hash);
    cr_expect_eq(settle(), GW_E_CORRUPT, "it was read for both");
    cr_expect_eq(settle(), GW_OK, "and that time only");
}
