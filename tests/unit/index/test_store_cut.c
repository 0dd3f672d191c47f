/* Goal: cuts of checkpoints, one situation at a time: who crosses when, what the image then holds,
 * and what a change says of itself. Random sequences are in model/, races in torture/. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/store_internal.h"
#include "store_fixture.h"
#include "tests/support/log_image.h"

#define PAGE_BITS 16u
#define PAGE      ((uint64_t)1 << PAGE_BITS)
#define PAGES     8u

static struct fixture f;
static struct gw_ram_device *ram;
static struct gw_store_image image;
static struct gw_thread *other;
static uint64_t crossings, interval;

static void crossed(void *ctx, uint64_t number)
{
    (void)ctx;
    crossings++;
    interval = number;
}

static void setup(void)
{
    ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS});
    struct gw_store_options options = {.page_bits = PAGE_BITS,
                                       .log_bytes = PAGES << PAGE_BITS,
                                       .device = gw_ram_device_face(ram)};
    fixture_open(&f, &options);
    cr_assert_eq(gw_store_thread_open(f.store, &other), GW_OK);
    gw_store_on_cross(f.thread, crossed, NULL);
    crossings = 0;
}

static void teardown(void)
{
    gw_store_thread_close(other);
    fixture_close(&f);
    gw_ram_device_destroy(ram);
}

TestSuite(store_cut, .init = setup, .fini = teardown, .timeout = 20);
TestSuite(holes, .init = setup, .fini = teardown, .timeout = 20);

static enum gw_status settle(void)
{
    enum gw_status st = run(&f);
    for (int i = 0; i < 10000 && (st == GW_PENDING || st == GW_RETRY); i++)
        st = run(&f);
    return st;
}

static void cut(uint64_t number)
{
    enum gw_status st = gw_store_cut_begin(f.store, number, &image);
    for (int i = 0; i < 1000 && st == GW_RETRY; i++) {
        gw_store_poll(f.thread);
        st = gw_store_cut_begin(f.store, number, &image);
    }
    cr_assert_eq(st, GW_OK, "%d", st);
}

static void flushed(void)
{
    for (int i = 0; i < 100; i++)
        gw_store_poll(f.thread);
    cr_assert(gw_store_cut_flushed(f.store, image.end), "what lies below the cut is written");
}

static void push_out(void)
{
    static uint64_t fillers;
    uint8_t value[4000] = {7};
    for (uint64_t i = 0; i < 2 * PAGES * (PAGE / 4096); i++) {
        uint64_t key = 0x1000000 + fillers++;
        op_bytes(&f, GW_VERB_UPSERT, &key, 8, 0);
        f.op.value = value;
        f.op.value_bytes = sizeof value;
        cr_assert_eq(settle(), GW_OK);
    }
}

struct found {
    const char *key;
    struct gw_image_record record;
    uint8_t value[256];
    uint32_t count;
};

static void look(void *ctx, const struct gw_image_record *record)
{
    struct found *found = ctx;
    size_t bytes = strlen(found->key);
    if (gw_control_key_bytes(record->control) != bytes || memcmp(record->key, found->key, bytes))
        return;
    found->record = *record;
    found->count++;
    memcpy(found->value, record->value,
           record->value_bytes < sizeof found->value ? record->value_bytes : sizeof found->value);
}

/* The newest record of the key in the image; count 0: none. */
static struct found image_of(const char *key)
{
    struct found found = {.key = key};
    gw_log_image_walk(ram, PAGE_BITS, &image, look, &found);
    return found;
}

static int64_t image_number(const char *key)
{
    struct found found = image_of(key);
    int64_t number;
    cr_assert(found.count > 0, "%s is in the image", key);
    memcpy(&number, found.value, 8);
    return number;
}

/* ---- who crosses when ---- */

Test(store_cut, a_store_without_a_device_has_no_checkpoints)
{
    struct fixture m;
    fixture_open(&m, &(struct gw_store_options){.page_bits = PAGE_BITS});
    cr_expect_eq(gw_store_cut_begin(m.store, 1, &image), GW_E_UNSUPPORTED);
    fixture_close(&m);
}

Test(store_cut, threads_cross_when_they_enter_and_once)
{
    cr_expect_eq(gw_store_interval(f.thread), 1);
    cr_assert_eq(add(&f, "a", 5), GW_OK);
    cut(1);
    cr_expect_eq(crossings, 0);
    cr_expect_eq(gw_store_interval(f.thread), 1, "outside it has not crossed");
    for (int i = 0; i < 20; i++)
        gw_store_poll(f.thread); /* the store's own entries are no crossing */
    cr_expect_eq(crossings, 0);
    cr_assert_eq(add(&f, "a", 1), GW_OK);
    cr_assert_eq(add(&f, "a", 1), GW_OK);
    cr_expect_eq(crossings, 1);
    cr_expect_eq(interval, 2);
    cr_expect_eq(gw_store_interval(f.thread), 2);
    struct gw_thread *late;
    cr_assert_eq(gw_store_thread_open(f.store, &late), GW_OK);
    cr_expect_eq(gw_store_interval(late), 2, "who comes later begins in the new interval");
    gw_store_thread_close(late);
    flushed();
    cr_expect_eq(image_number("a"), 5);
    cr_expect_eq(image_of("a").count, 1);
}

Test(store_cut, numbers_may_leave_some_out)
{
    cut(7);
    cr_assert_eq(add(&f, "a", 1), GW_OK);
    cr_expect_eq(interval, 8);
    flushed();
    cut(30000);
    cr_assert_eq(add(&f, "a", 1), GW_OK);
    cr_expect_eq(interval, 30001);
    cr_expect(f.op.effect & GW_EFFECT_FIRST);
}

Test(store_cut, the_next_cut_waits_until_the_last_one_is_flushed)
{
    cr_assert_eq(add(&f, "a", 1), GW_OK);
    gw_store_enter(other); /* holds the flush back */
    cut(1);
    for (int i = 0; i < 50; i++)
        gw_store_poll(f.thread);
    cr_expect_not(gw_store_cut_flushed(f.store, image.end));
    struct gw_store_image next;
    cr_expect_eq(gw_store_cut_begin(f.store, 2, &next), GW_E_BUSY);
    gw_store_exit(other);
    flushed();
    cut(2);
}

static void no_action(void *arg)
{
    (void)arg;
}

Test(store_cut, a_cut_that_finds_no_free_trigger_is_flushed_all_the_same)
{
    cr_assert_eq(add(&f, "a", 1), GW_OK);
    gw_store_enter(other);
    while (gw_epoch_defer(gw_store_epoch(f.store), no_action, NULL) == GW_OK) {}
    cut(1);
    gw_store_exit(other);
    flushed();
    cr_expect_eq(image_number("a"), 1);
}

Test(store_cut, a_page_is_wanted_and_a_cut_without_one_has_not_begun)
{
    /* The device takes nothing: frames run out. */
    gw_ram_device_hold(ram, GW_RAM_WRITE, true);
    uint8_t value[4000] = {7};
    enum gw_status st = GW_OK;
    for (uint64_t key = 1; key < 1000 && st == GW_OK; key++) {
        op_bytes(&f, GW_VERB_UPSERT, &key, 8, 0);
        f.op.value = value;
        f.op.value_bytes = sizeof value;
        for (int tries = 0; tries < 20 && (st = run(&f)) == GW_RETRY; tries++) {}
    }
    cr_assert_eq(st, GW_RETRY);
    st = gw_store_cut_begin(f.store, 1, &image);
    for (uint64_t n = 1; st == GW_OK && n < PAGES; n++) /* what is kept for compaction */
        st = gw_store_cut_begin(f.store, n + 1, &image);
    cr_expect(st == GW_RETRY || st == GW_E_BUSY);
    gw_ram_device_hold(ram, GW_RAM_WRITE, false);
}

Test(store_cut, a_sleeping_thread_crosses_when_it_wakes_up)
{
    struct gw_op sleeper = {.verb = GW_VERB_ADD, .key = (const uint8_t *)"k", .key_bytes = 1};
    sleeper.delta = 10;
    gw_store_hash(f.store, &sleeper);
    size_t used;
    cr_assert_eq(add(&f, "k", 1), GW_OK);
    gw_store_enter(other); /* awake, in the old interval, and then it does nothing for long */
    cut(1);
    cr_assert_eq(add(&f, "k", 100), GW_OK);
    cr_expect_eq(f.op.number, 101);
    cr_expect_eq(gw_store_interval(other), 1);
    gw_store_execute(other, &sleeper, 1, NULL, 0, &used);
    cr_expect_eq(sleeper.number, 111);
    cr_expect_eq(gw_store_interval(other), 2, "before it executed anything");
    gw_store_exit(other);
    flushed();
    cr_expect_eq(image_number("k"), 1);
}

Test(store_cut, who_acknowledges_a_cut_crosses_first)
{
    gw_store_enter(f.thread);
    gw_store_cross(f.thread);
    cr_expect_eq(crossings, 0, "nothing to cross");
    cut(1);
    gw_store_cross(f.thread);
    gw_store_cross(f.thread);
    cr_expect_eq(crossings, 1);
    gw_store_exit(f.thread);
}

/* ---- in the middle of a call ---- */

static struct gw_device was; /* the device's own functions */
static uint64_t hook_number;

static enum gw_status hook_read(struct gw_device *device, uint32_t queue, gw_addr at, void *room,
                                uint32_t bytes, gw_device_cb cb, void *arg)
{
    if (hook_number != 0)
        cut(hook_number);
    hook_number = 0;
    return was.read(device, queue, at, room, bytes, cb, arg);
}

/* Executes four operations: an add to `old`, which is hot; a read of `cold`, upon which a cut
 * begins; another add to `old`; and `fourth` on `fresh`. */
static uint32_t cut_within(uint8_t fourth, struct gw_op ops[4], size_t *used)
{
    struct gw_device *device = f.thread->log->device;
    cr_assert_eq(add(&f, "cold", 1), GW_OK);
    push_out();
    cr_assert_eq(add(&f, "old", 10), GW_OK);
    static const char *keys[] = {"old", "cold", "old", "fresh"};
    for (int i = 0; i < 4; i++) {
        ops[i] = (struct gw_op){.verb = i == 1   ? GW_VERB_READ
                                        : i == 3 ? fourth
                                                 : GW_VERB_ADD,
                                .key = (const uint8_t *)keys[i],
                                .key_bytes = (uint16_t)strlen(keys[i]),
                                .delta = 1,
                                .expected_version = 77};
        gw_store_hash(f.store, &ops[i]);
    }
    crossings = 0;
    hook_number = 1;
    was = *device;
    device->read = hook_read;
    gw_store_enter(f.thread);
    uint32_t ran = gw_store_execute(f.thread, ops, 4, f.room, f.room_bytes, used);
    device->read = was.read;
    cr_assert_eq(hook_number, 0, "the cut has begun in the middle");
    return ran;
}

Test(store_cut, a_call_ends_early_before_the_operation_that_must_cross)
{
    struct gw_op ops[4];
    size_t used;
    cr_expect_eq(cut_within(GW_VERB_ADD, ops, &used), 3);
    cr_expect_eq(crossings, 0, "the owner has not seen the results");
    cr_expect_eq(ops[1].status, GW_PENDING);
    cr_expect_eq(ops[2].number, 12, "what was there before changes in the old interval");
    cr_expect_eq(ops[3].status, GW_WOULD_BLOCK);
    cr_expect_eq(gw_store_execute(f.thread, ops + 3, 1, f.room, f.room_bytes, &used), 1);
    cr_expect_eq(crossings, 1);
    cr_expect_eq(ops[3].status, GW_OK);
    cr_expect_eq(ops[3].effect, GW_EFFECT_CHANGED | GW_EFFECT_START);
    gw_store_exit(f.thread);
    flushed();
    cr_expect_eq(image_number("old"), 12);
    cr_expect_eq(image_of("fresh").count, 0);
}

Test(store_cut, nobody_is_told_where_nobody_wants_to_know)
{
    struct gw_op ops[4];
    size_t used;
    gw_store_on_cross(f.thread, NULL, NULL);
    cr_expect_eq(cut_within(GW_VERB_ADD, ops, &used), 4, "the call goes on");
    cr_expect_eq(ops[3].status, GW_OK);
    cr_expect_eq(gw_store_interval(f.thread), 2);
    gw_store_exit(f.thread);
    flushed();
    cr_expect_eq(image_of("fresh").count, 0);
}

Test(store_cut, arrivals_cross_nothing_and_stop_nothing)
{
    struct gw_op ops[4];
    size_t used;
    cr_expect_eq(cut_within(GW_VERB_ARRIVE, ops, &used), 4);
    cr_expect_eq(ops[3].status, GW_OK);
    cr_expect_eq(gw_store_interval(f.thread), 1);
    gw_store_exit(f.thread);
    op(&f, GW_VERB_APPEND, "fresh", 0);
    cr_assert_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.version, 78);
    cr_expect(f.op.effect & GW_EFFECT_START, "the first change of what arrived");
    cr_assert_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED);
}

/* ---- ENGINE H6 ---- */

Test(holes, h6_a_cold_counter_is_added_to_while_a_cut_is_in_progress)
{
    cr_assert_eq(add(&f, "counter", 1000), GW_OK);
    push_out();
    gw_store_enter(other);
    cut(1); /* begun, not crossed by all */
    cr_expect_eq(add(&f, "counter", 1), GW_PENDING);
    cr_assert_eq(settle(), GW_OK);
    cr_expect_eq(f.op.number, 1001, "cold is not absent");
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED | GW_EFFECT_FIRST);
    gw_store_exit(other);
    flushed(); /* crossed and written: the last phase */
    cr_assert_eq(add(&f, "counter", 1), GW_OK);
    cr_expect_eq(f.op.number, 1002);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED);
    cr_expect_eq(image_number("counter"), 1000);
}

Test(holes, h6_a_cold_counter_asked_for_before_the_cut_belongs_to_the_interval_after_it)
{
    cr_assert_eq(add(&f, "counter", 1000), GW_OK);
    push_out();
    cr_expect_eq(add(&f, "counter", 1), GW_PENDING);
    cut(1);
    cr_assert_eq(settle(), GW_OK);
    cr_expect_eq(f.op.number, 1001);
    cr_expect_eq(interval, 2);
    flushed();
    cr_expect_eq(image_number("counter"), 1000);
}

Test(holes, h6_an_old_thread_finds_what_a_new_one_made_of_a_cold_record)
{
    cr_assert_eq(add(&f, "counter", 1000), GW_OK);
    push_out();
    struct gw_op mine = {.verb = GW_VERB_ADD, .key = (const uint8_t *)"counter", .key_bytes = 7};
    mine.delta = 5;
    gw_store_hash(f.store, &mine);
    gw_store_enter(other);
    cut(1);
    cr_expect_eq(add(&f, "counter", 1), GW_PENDING);
    cr_assert_eq(settle(), GW_OK);
    size_t used;
    gw_store_execute(other, &mine, 1, NULL, 0, &used);
    cr_expect_eq(mine.status, GW_OK);
    cr_expect_eq(mine.number, 1006);
    cr_expect_eq(gw_store_interval(other), 2);
    gw_store_exit(other);
    flushed();
    cr_expect_eq(image_number("counter"), 1000);
}

/* ---- what a change says of itself ---- */

Test(store_cut, effects)
{
    cr_assert_eq(put(&f, "k", "one"), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED | GW_EFFECT_START);
    cr_assert_eq(put(&f, "k", "two"), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED);
    op(&f, GW_VERB_INSERT, "k", 0);
    cr_assert_eq(run(&f), GW_EXISTS);
    cr_expect_eq(f.op.effect, 0);
    cut(1);
    cr_assert_eq(put(&f, "k", "three"), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED | GW_EFFECT_FIRST);
    cr_assert_eq(del(&f, "k"), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED | GW_EFFECT_TOMBSTONE);
    cr_assert_eq(del(&f, "k"), GW_NOT_FOUND);
    cr_expect_eq(f.op.effect, 0);
    cr_assert_eq(put(&f, "k", "four"), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED, "its predecessor is the tombstone");
    flushed();
    cut(2);
    /* A promotion is no change: the next change is the first of its interval still. */
    gw_store_enter(f.thread);
    struct gwi_position position;
    enum gw_status why;
    op(&f, GW_VERB_READ, "k", 0);
    gw_store_hash(f.store, &f.op);
    cr_assert_eq(gwi_find(f.thread, &f.op, &position, &why), GWI_FOUND);
    cr_assert_eq(gwi_copy_to_tail(f.thread, &position, f.op.hash, false), GW_OK);
    gw_store_exit(f.thread);
    cr_assert_eq(put(&f, "k", "five"), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED | GW_EFFECT_FIRST);
    /* Nor is one within the interval a reason to forget that it was changed. */
    gw_store_enter(f.thread);
    op(&f, GW_VERB_READ, "k", 0);
    gw_store_hash(f.store, &f.op);
    cr_assert_eq(gwi_find(f.thread, &f.op, &position, &why), GWI_FOUND);
    cr_assert_eq(gwi_copy_to_tail(f.thread, &position, f.op.hash, false), GW_OK);
    gw_store_exit(f.thread);
    cr_assert_eq(put(&f, "k", "six"), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED);
}

static void whole(uint8_t verb, const char *value, size_t room)
{
    op(&f, verb, "k", 0);
    f.op.value = (const uint8_t *)value;
    f.op.value_bytes = (uint32_t)strlen(value);
    gw_store_hash(f.store, &f.op);
    size_t used;
    gw_store_enter(f.thread);
    gw_store_execute(f.thread, &f.op, 1, f.room, room, &used);
    gw_store_exit(f.thread);
}

Test(store_cut, results_are_what_the_record_is_now)
{
    gw_store_give_results(f.thread, true);
    whole(GW_VERB_APPEND, "abc", 100);
    cr_assert_eq(f.op.status, GW_OK);
    cr_assert_eq(f.op.result_bytes, 3);
    whole(GW_VERB_APPEND, "def", 5);
    cr_expect_eq(f.op.status, GW_WOULD_BLOCK);
    cr_expect_eq(f.op.out_bytes, 6);
    whole(GW_VERB_APPEND, "def", 6);
    cr_assert_eq(f.op.status, GW_OK);
    cr_assert_eq(f.op.result_bytes, 6, "what did not fit has changed nothing");
    cr_expect_arr_eq(f.op.result, "abcdef", 6);
    cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
    whole(GW_VERB_PREPEND, "-", 100); /* by copy */
    cr_assert_eq(f.op.result_bytes, 7);
    cr_expect_arr_eq(f.op.result, "-abcdef", 7);
    op(&f, GW_VERB_TOUCH, "k", GW_OP_HAS_EXPIRY);
    f.op.expiry_ms = (uint64_t)1 << 50;
    cr_assert_eq(run(&f), GW_OK);
    cr_assert_eq(f.op.result_bytes, 7);
    cr_expect_arr_eq(f.op.result, "-abcdef", 7);
    cr_expect_eq(f.op.expiry_ms, (uint64_t)1 << 50);
    op(&f, GW_VERB_READ_TOUCH, "k", 0);
    cr_assert_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.expiry_ms, 0);
    cr_assert_eq(f.op.result_bytes, 7);
    cr_expect_arr_eq(f.op.out, "-abcdef", 7);
    op(&f, GW_VERB_TOUCH, "k", GW_OP_HAS_EXPIRY);
    f.op.expiry_ms = 1; /* past */
    cr_assert_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED | GW_EFFECT_TOMBSTONE);
    cr_expect_eq(f.op.expiry_ms, 0);
    cr_expect_eq(f.op.result_bytes, 0);
    cr_assert_eq(add(&f, "n", 40), GW_OK);
    op(&f, GW_VERB_ADD, "n", GW_OP_HAS_EXPIRY);
    f.op.delta = 2;
    f.op.expiry_ms = (uint64_t)1 << 50;
    cr_assert_eq(run(&f), GW_OK);
    cr_assert_eq(add(&f, "n", 0), GW_OK);
    cr_expect_eq(f.op.expiry_ms, (uint64_t)1 << 50, "an add keeps it");
    op(&f, GW_VERB_TOUCH, "n", 0);
    cr_assert_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.kind, GW_KIND_COUNTER);
    cr_expect_eq(f.op.number, 42);
}

/* ---- recovery's verb, and what an earlier process has left ---- */

Test(store_cut, restore_puts_whatever_is_there)
{
    cr_assert_eq(put(&f, "k", "old"), GW_OK);
    op(&f, GW_VERB_RESTORE, "k", GW_OP_COUNTER);
    f.op.number = 12;
    f.op.expected_version = 500;
    cr_assert_eq(run(&f), GW_OK);
    cr_assert_eq(add(&f, "k", 1), GW_OK);
    cr_expect_eq(f.op.number, 13);
    cr_expect_eq(f.op.version, 501);
    op(&f, GW_VERB_RESTORE, "k", GW_OP_TOMBSTONE);
    f.op.expected_version = 502;
    cr_assert_eq(run(&f), GW_OK);
    cr_expect_eq(get(&f, "k"), GW_NOT_FOUND);
    op(&f, GW_VERB_RESTORE, "new", GW_OP_HAS_EXPIRY);
    f.op.value = (const uint8_t *)"text";
    f.op.value_bytes = 4;
    f.op.expiry_ms = (uint64_t)1 << 50;
    f.op.expected_version = 9;
    cr_assert_eq(run(&f), GW_OK);
    op(&f, GW_VERB_FETCH, "new", 0);
    cr_assert_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.version, 9);
    cr_expect_eq(f.op.expiry_ms, (uint64_t)1 << 50);
    cr_expect_arr_eq(f.op.out, "text", 4);
}

Test(store_cut, a_sealed_record_that_cannot_change_any_more_is_the_newest_all_the_same)
{
    cr_assert_eq(add(&f, "k", 7), GW_OK);
    cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
    for (int i = 0; i < 10; i++)
        gw_store_poll(f.thread);
    gw_store_enter(f.thread);
    struct gwi_position position;
    enum gw_status why;
    op(&f, GW_VERB_READ, "k", 0);
    gw_store_hash(f.store, &f.op);
    cr_assert_eq(gwi_find(f.thread, &f.op, &position, &why), GWI_FOUND);
    cr_assert_lt(position.address.v, f.thread->view.safe_read_only);
    /* As one is found whose successor was lost with the end of an earlier log. */
    atomic_fetch_or(&position.record->control, GW_CONTROL_SEALED);
    gw_store_exit(f.thread);
    cr_assert_eq(add(&f, "k", 1), GW_OK);
    cr_expect_eq(f.op.number, 8);
}

Test(store_cut, numbers_of_an_image)
{
    op(&f, GW_VERB_UPSERT, "k", GW_OP_HAS_EXPIRY);
    f.op.value = (const uint8_t *)"x";
    f.op.value_bytes = 1;
    f.op.expiry_ms = (uint64_t)1 << 50;
    cr_assert_eq(run(&f), GW_OK);
    uint32_t version = f.op.version;
    cr_assert_eq(put(&f, "l", "y"), GW_OK);
    cut(1);
    cr_expect_eq(image.number, 1);
    cr_expect_eq(image.begin.v % PAGE, 0);
    cr_expect_eq(image.end.v % PAGE, 0);
    gw_store_enter(f.thread);
    gw_store_exit(f.thread);
    gw_store_cut_numbers(f.store, &image);
    cr_expect_eq(image.keys, 2);
    cr_expect_geq(image.version_highest, version);
    cr_expect(image.expires);
    cr_expect_eq(image.expiry_ms, f.thread->now_ms);
    cr_expect_gt(image.waste, 0, "the rest of the page");
}
