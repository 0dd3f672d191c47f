/* Goal: while the object store is away a blind write goes on over what cannot be read, with a
 * version above all, and nothing else guesses. How: records on a device that says of them what the
 * shared tier would say. Random sequences are in model/store_cold_verbs. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/store_internal.h"
#include "store_fixture.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"

#define PAGE_BITS 16u
#define PAGES     8u
#define NOW_MS    1000000u
#define TURNS     1000u

static struct fixture f;
static struct gw_ram_device *ram;
static uint64_t fillers, now_ms;

static uint64_t wall_ms(void *ctx)
{
    (void)ctx;
    return now_ms;
}

static struct gw_clock wall = {.wall_ms = wall_ms};

static void options_of(struct gw_store_options *o)
{
    *o = (struct gw_store_options){.page_bits = PAGE_BITS,
                                   .log_bytes = PAGES << PAGE_BITS,
                                   .index_bytes = 65536,
                                   .clock = &wall,
                                   .device = gw_ram_device_face(ram)};
}

static void setup(void)
{
    struct gw_store_options o;
    now_ms = NOW_MS;
    fillers = 0;
    ram = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS});
    options_of(&o);
    fixture_open(&f, &o);
}

static void teardown(void)
{
    fixture_close(&f);
    gw_ram_device_destroy(ram);
}

TestSuite(outage, .init = setup, .fini = teardown, .timeout = 60);

/* Executes f.op until it is answered. */
static enum gw_status settle(void)
{
    enum gw_status st = GW_RETRY;
    for (uint32_t i = 0; i < TURNS && (st == GW_RETRY || st == GW_PENDING); i++)
        st = run(&f);
    return st;
}

static enum gw_status set(const char *key, const char *value, uint8_t flags, uint64_t expiry_ms)
{
    op(&f, GW_VERB_UPSERT, key, flags);
    f.op.value = (const uint8_t *)value;
    f.op.value_bytes = (uint32_t)strlen(value);
    f.op.expiry_ms = expiry_ms;
    return settle();
}

static void expect_value(const char *key, const char *value)
{
    op(&f, GW_VERB_READ, key, 0);
    cr_assert_eq(settle(), GW_OK, "%s: %s", key, gw_status_text((enum gw_status)f.op.status));
    cr_expect(f.op.out_bytes == strlen(value) && memcmp(f.op.out, value, strlen(value)) == 0,
              "%s has another value", key);
}

static struct gw_store_stats stats(void)
{
    struct gw_store_stats s;
    gw_store_stats(f.store, &s);
    return s;
}

/* Writes other keys until what was there lies on the device only. */
static void push_out(void)
{
    static const uint8_t value[8000];
    uint64_t tail = stats().log_tail;
    for (uint32_t i = 0; i < TURNS && stats().log_head < tail; i++) {
        uint64_t key = 1000 + fillers++;
        op_bytes(&f, GW_VERB_UPSERT, &key, 8, 0);
        f.op.value = value;
        f.op.value_bytes = sizeof value;
        cr_assert_eq(settle(), GW_OK);
    }
    cr_assert_geq(stats().log_head, tail);
}

/* The object store is away, and so is all that is not in memory. */
static void go_away(bool known)
{
    gw_ram_device_lose(ram, gw_addr_of(stats().log_head), known);
}

static void come_back(void)
{
    gw_ram_device_lose(ram, gw_addr_of(0), false);
}

Test(outage, a_blind_write_goes_on_over_what_cannot_be_read)
{
    for (uint32_t known = 0; known < 2; known++) {
        const char *key = known ? "b" : "a";
        cr_assert_eq(set(key, "before", 0, 0), GW_OK);
        uint32_t version = f.op.version;
        push_out();
        uint64_t keys = stats().keys, live = stats().live_bytes;
        struct gw_device_usage usage[2];
        gw_ram_device_face(ram)->usage(gw_ram_device_face(ram), &usage[0]);
        go_away(known);
        cr_assert_eq(set(key, "behind", 0, 0), GW_OK);
        gw_ram_device_face(ram)->usage(gw_ram_device_face(ram), &usage[1]);
        if (known)
            cr_expect_eq(usage[1].reads, usage[0].reads, "it has waited for a read");
        cr_expect_gt(f.op.version, version);
        cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED | GW_EFFECT_START);
        version = f.op.version;
        cr_expect(stats().keys == keys && stats().live_bytes == live, "not counted as one key");
        expect_value(key, "behind");
        cr_expect_eq(f.op.version, version);
        cr_assert_eq(set(key, "again", 0, 0), GW_OK); /* in memory now */
        cr_expect_eq(f.op.version, version + 1);
        come_back();
        expect_value(key, "again");
        push_out();
        expect_value(key, "again");
        cr_assert_eq(del(&f, key) == GW_PENDING ? settle() : (enum gw_status)f.op.status, GW_OK);
        cr_expect_eq(f.op.version, version + 2);
    }
}

/* H3: versions of a key only rise, though it was changed far more often than its log grew. */
Test(outage, a_version_that_somebody_holds_never_comes_back)
{
    cr_assert_eq(set("k", "before", 0, 0), GW_OK);
    uint32_t first = f.op.version;
    for (uint32_t i = 0; i < 200000; i++)
        cr_assert(put(&f, "k", "before") == GW_OK);
    uint32_t held = f.op.version;
    cr_assert_eq(held, first + 200000);
    push_out();
    cr_assert_lt(stats().log_tail / 16, held, "the place of a record is above: it says nothing");
    go_away(false);
    cr_assert_eq(set("k", "behind", 0, 0), GW_OK);
    cr_expect_gt(f.op.version, held);
    come_back();
    op(&f, GW_VERB_CAS, "k", 0);
    f.op.expected_version = held;
    cr_expect_eq(settle(), GW_MISMATCH);
    expect_value("k", "behind");
}

/* When the numbers have come to their end it gets that of a new key, and never 0. */
Test(outage, versions_go_round)
{
    cr_assert_eq(set("k", "before", 0, 0), GW_OK);
    op(&f, GW_VERB_ARRIVE, "highest", 0);
    f.op.expected_version = UINT32_MAX;
    cr_assert_eq(settle(), GW_OK);
    push_out();
    go_away(false);
    uint64_t tail = stats().log_tail;
    cr_assert_eq(set("k", "behind", 0, 0), GW_OK);
    cr_expect(f.op.version >= (uint32_t)(tail / 16) &&
                  f.op.version < (uint32_t)(tail / 16 + (1 << PAGE_BITS)),
              "version %u", f.op.version);
    come_back();
    expect_value("k", "behind");
}

Test(outage, what_is_not_blind_is_refused_and_changes_nothing)
{
    static const uint8_t verbs[] = {GW_VERB_READ,   GW_VERB_ADD,        GW_VERB_DELETE,
                                    GW_VERB_CAS,    GW_VERB_INSERT,     GW_VERB_APPEND,
                                    GW_VERB_TOUCH,  GW_VERB_READ_TOUCH, GW_VERB_PREPEND,
                                    GW_VERB_GETSET, GW_VERB_GETDEL,     GW_VERB_ARRIVE};
    cr_assert_eq(set("k", "before", GW_OP_HAS_EXPIRY, NOW_MS + 50000), GW_OK);
    uint32_t version = f.op.version;
    push_out();
    go_away(true);
    for (uint32_t i = 0; i < sizeof verbs; i++) {
        op(&f, verbs[i], "k", 0);
        f.op.value = (const uint8_t *)"x";
        f.op.value_bytes = 1;
        f.op.expected_version = verbs[i] == GW_VERB_ARRIVE ? version + 9 : version;
        cr_expect_eq(settle(), GW_E_UNREACHABLE, "verb %u: %d", verbs[i], f.op.status);
    }
    cr_expect_eq(set("k", "x", GW_OP_KEEP_EXPIRY, 0), GW_E_UNREACHABLE);
    cr_expect_eq(set("k", "x", GW_OP_UNSETTLED, 0), GW_E_UNREACHABLE);
    come_back();
    expect_value("k", "before");
    cr_expect_eq(f.op.version, version);
    cr_expect_eq(f.op.expiry_ms, NOW_MS + 50000);
}

Test(outage, its_expiry_is_that_of_the_write)
{
    gw_store_give_results(f.thread, true);
    cr_assert_eq(set("none", "before", GW_OP_HAS_EXPIRY, NOW_MS + 50000), GW_OK);
    cr_assert_eq(set("some", "before", 0, 0), GW_OK);
    cr_assert_eq(set("past", "before", 0, 0), GW_OK);
    push_out();
    go_away(true);
    cr_assert_eq(set("none", "behind", 0, 0), GW_OK);
    cr_expect_eq(f.op.expiry_ms, 0);
    cr_assert_eq(set("some", "behind", GW_OP_HAS_EXPIRY, NOW_MS + 70000), GW_OK);
    cr_expect_eq(f.op.expiry_ms, NOW_MS + 70000);
    uint64_t keys = stats().keys;
    cr_assert_eq(set("past", "behind", GW_OP_HAS_EXPIRY, NOW_MS - 1), GW_OK);
    cr_expect_eq(f.op.effect, GW_EFFECT_CHANGED | GW_EFFECT_START | GW_EFFECT_TOMBSTONE);
    cr_expect_eq(stats().keys, keys - 1);
    come_back();
    op(&f, GW_VERB_READ, "past", 0);
    cr_expect_eq(settle(), GW_NOT_FOUND);
    now_ms += 60000;
    expect_value("none", "behind");
    cr_expect_eq(f.op.expiry_ms, 0);
    expect_value("some", "behind");
    now_ms += 20000;
    op(&f, GW_VERB_READ, "some", 0);
    cr_expect_eq(settle(), GW_NOT_FOUND);
}

/* Versions order the changes of a commit log, but only those of one half of their numbers: what
 * lies unseen must be in a checkpoint then. */
Test(outage, what_a_commit_log_could_not_put_in_order_is_refused)
{
    cr_assert_eq(set("k", "before", 0, 0), GW_OK);
    push_out();
    go_away(true);
    gw_store_version_floor(f.store, (uint32_t)INT32_MAX);
    cr_expect_eq(set("k", "unlogged", 0, 0), GW_OK, "no log asks for an order");
    push_out();
    go_away(true);
    gw_store_give_results(f.thread, true);
    cr_expect_eq(set("k", "behind", 0, 0), GW_E_UNREACHABLE);
    gw_store_retain(f.store, gw_addr_of(0), gw_addr_of(stats().log_head));
    cr_expect_eq(set("k", "behind", 0, 0), GW_OK);
    come_back();
    expect_value("k", "behind");
}

/* The next key from `from` on that shares the chain of key 0: of the same slot, whose hash agrees
 * in the bits that the entry and the bucket have. */
static void key_of_chain(uint32_t *from, char room[32])
{
    struct gw_op zero = {.key = (const uint8_t *)"{c}0", .key_bytes = 4};
    gw_store_hash(f.store, &zero);
    uint32_t shift = f.store->table->split_shift;
    for (;; ++*from) {
        struct gw_op mine = {.key = (const uint8_t *)room};
        mine.key_bytes = (uint16_t)snprintf(room, 32, "{c}%u", *from);
        gw_store_hash(f.store, &mine);
        if (mine.hash >> shift == zero.hash >> shift)
            break;
    }
    ++*from;
}

/* A neighbour in the chain is not taken for an older record of the key: compaction keeps it. */
Test(outage, another_key_of_the_chain_stays)
{
    uint32_t from = 1;
    char other[32];
    key_of_chain(&from, other);
    cr_assert_eq(set(other, "other", 0, 0), GW_OK);
    push_out();
    go_away(false);
    cr_assert_eq(set("{c}0", "behind", 0, 0), GW_OK);
    come_back();
    expect_value(other, "other");
    gw_ram_device_limit(ram, 80u << PAGE_BITS);
    uint64_t begin = stats().log_begin;
    for (uint32_t i = 0; i < 4000 && stats().log_begin == begin; i++) {
        static const uint8_t value[8000];
        uint64_t key = 1000 + i % 100;
        op_bytes(&f, GW_VERB_UPSERT, &key, 8, 0);
        f.op.value = value;
        f.op.value_bytes = sizeof value;
        (void)settle(); /* full, now and then */
    }
    cr_assert_gt(stats().log_begin, begin, "nothing was compacted: it says nothing");
    expect_value(other, "other");
    expect_value("{c}0", "behind");
}

/* A process that goes on from an image has the new value, though the old one can be read again. */
Test(outage, an_image_holds_the_new_value)
{
    struct gw_test_image image;
    struct gw_store_options o;
    char why[256] = "";
    cr_assert_eq(set("k", "before", 0, 0), GW_OK);
    push_out();
    go_away(true);
    cr_assert_eq(set("k", "behind", 0, 0), GW_OK);
    uint32_t version = f.op.version;
    gw_test_image_take(&image, f.store, f.thread, 1);
    uint64_t end = (stats().log_tail >> PAGE_BITS) + 16;
    gw_store_thread_close(f.thread);
    gw_store_close(f.store);
    come_back();
    options_of(&o);
    o.hash_seed = 12345;
    cr_assert_eq(gw_test_recover(&o, &image, NULL, gw_addr_of(end << PAGE_BITS), 1, NULL, &f.store,
                                 why),
                 GW_OK, "%s", why);
    cr_assert_eq(gw_store_thread_open(f.store, &f.thread), GW_OK);
    expect_value("k", "behind");
    cr_expect_eq(f.op.version, version);
    gw_test_image_free(&image);
}
