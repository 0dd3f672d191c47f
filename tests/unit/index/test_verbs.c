/* Goal: expiry, touch, append and prepend, get-and-set, get-and-delete and bounded adds do what
 * store.h says, in one thread; random sequences of them are in model/test_store_map.c, threads in
 * torture/index_verbs.c. The clock is the test's. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/store_internal.h"
#include "store_fixture.h"

#define START_MS UINT64_C(1700000000000)

static uint64_t now_ms;

static uint64_t test_wall_ms(void *ctx)
{
    (void)ctx;
    return now_ms;
}

static void open_at_start(struct fixture *f)
{
    static const struct gw_clock clock = {.wall_ms = test_wall_ms};
    now_ms = START_MS;
    fixture_open(f, &(struct gw_store_options){.page_bits = 16, .clock = &clock});
}

static enum gw_status with_value(struct fixture *f, uint8_t verb, const char *key,
                                 const char *value, uint8_t flags, uint64_t expiry_ms)
{
    op(f, verb, key, flags);
    f->op.value = (const uint8_t *)value;
    f->op.value_bytes = (uint32_t)strlen(value);
    f->op.expiry_ms = expiry_ms;
    return run(f);
}

static enum gw_status put_until(struct fixture *f, const char *key, const char *value,
                                uint64_t expiry_ms)
{
    return with_value(f, GW_VERB_UPSERT, key, value, GW_OP_HAS_EXPIRY, expiry_ms);
}

static enum gw_status touch(struct fixture *f, const char *key, uint64_t expiry_ms)
{
    op(f, GW_VERB_TOUCH, key, expiry_ms ? GW_OP_HAS_EXPIRY : 0);
    f->op.expiry_ms = expiry_ms;
    return run(f);
}

static void expect_value(struct fixture *f, const char *key, const char *value)
{
    cr_expect_eq(get(f, key), GW_OK, "%s", key);
    cr_expect_eq(f->op.out_bytes, strlen(value), "%s: %u bytes", key, f->op.out_bytes);
    cr_expect_arr_eq(f->op.out, value, strlen(value));
}

static uint64_t log_used(struct fixture *f)
{
    struct gw_store_stats stats;
    gw_store_stats(f->store, &stats);
    return stats.log_bytes_used;
}

Test(verbs, a_key_ends_at_its_time_and_not_before)
{
    struct fixture f;
    open_at_start(&f);
    put_until(&f, "k", "v", START_MS + 10);
    uint32_t version = f.op.version;
    now_ms = START_MS + 9;
    expect_value(&f, "k", "v");
    cr_expect_eq(f.op.expiry_ms, START_MS + 10);
    now_ms = START_MS + 10;
    cr_expect_eq(get(&f, "k"), GW_NOT_FOUND);
    cr_expect_eq(fetch(&f, "k"), GW_TOMBSTONE, "its version is still known");
    cr_expect_eq(f.op.version, version);
    cr_expect_eq(del(&f, "k"), GW_NOT_FOUND);
    cr_expect_eq(touch(&f, "k", 0), GW_NOT_FOUND, "too late to persist it");
    put(&f, "k", "w");
    cr_expect_eq(f.op.version, version + 1, "the version goes on rising");
    now_ms = START_MS + 1000;
    expect_value(&f, "k", "w");
    cr_expect_eq(f.op.expiry_ms, 0, "a plain set clears the expiry");
    fixture_close(&f);
}

Test(verbs, every_verb_takes_an_expired_key_for_deleted)
{
    struct fixture f;
    open_at_start(&f);
    const char *keys[] = {"add", "cas", "insert", "append", "getset", "getdel", "must"};
    for (uint32_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        cr_assert_eq(put_until(&f, keys[i], "old", START_MS + 5), GW_OK);
    uint32_t version = f.op.version;
    now_ms += 5;
    cr_expect_eq(add(&f, "add", 7), GW_OK, "no counter was there, but it has gone");
    cr_expect_eq(f.op.number, 7);
    op(&f, GW_VERB_CAS, "cas", 0);
    f.op.expected_version = version;
    cr_expect_eq(run(&f), GW_NOT_FOUND);
    cr_expect_eq(with_value(&f, GW_VERB_INSERT, "insert", "new", 0, 0), GW_OK);
    cr_expect_eq(with_value(&f, GW_VERB_APPEND, "append", "new", 0, 0), GW_OK);
    expect_value(&f, "append", "new");
    cr_expect_eq(with_value(&f, GW_VERB_GETSET, "getset", "new", 0, 0), GW_OK);
    cr_expect_eq(f.op.kind, GW_KIND_NONE);
    op(&f, GW_VERB_GETDEL, "getdel", 0);
    cr_expect_eq(run(&f), GW_NOT_FOUND);
    cr_expect_eq(with_value(&f, GW_VERB_APPEND, "must", "new", GW_OP_MUST_EXIST, 0), GW_NOT_FOUND);
    fixture_close(&f);
}

Test(verbs, who_keeps_an_expiry_and_who_clears_it)
{
    struct fixture f;
    open_at_start(&f);
    uint64_t end = START_MS + 100;
    put_until(&f, "k", "1", end);
    with_value(&f, GW_VERB_UPSERT, "k", "2", GW_OP_KEEP_EXPIRY, 0);
    get(&f, "k");
    cr_expect_eq(f.op.expiry_ms, end, "kept on demand");
    with_value(&f, GW_VERB_APPEND, "k", "3", 0, 0);
    get(&f, "k");
    cr_expect_eq(f.op.expiry_ms, end, "an append keeps it");
    with_value(&f, GW_VERB_APPEND, "k", "a value too long for the room of the first", 0, 0);
    get(&f, "k");
    cr_expect_eq(f.op.expiry_ms, end, "by copy too");
    with_value(&f, GW_VERB_UPSERT, "k", "4", 0, 0);
    get(&f, "k");
    cr_expect_eq(f.op.expiry_ms, 0, "a set clears it");
    op(&f, GW_VERB_ADD, "counter1", GW_OP_HAS_EXPIRY);
    f.op.delta = 1;
    f.op.expiry_ms = end;
    cr_expect_eq(run(&f), GW_OK);
    add(&f, "counter1", 1);
    get(&f, "counter1");
    cr_expect_eq(f.op.number, 2);
    cr_expect_eq(f.op.expiry_ms, end, "an add keeps it");
    now_ms = end;
    add(&f, "counter1", 1);
    cr_expect_eq(f.op.number, 1, "it starts anew");
    get(&f, "counter1");
    cr_expect_eq(f.op.expiry_ms, 0, "and has no expiry any more");
    fixture_close(&f);
}

Test(verbs, touch_sets_moves_and_removes_the_expiry)
{
    struct fixture f;
    open_at_start(&f);
    cr_expect_eq(touch(&f, "k", START_MS + 1), GW_NOT_FOUND);
    put(&f, "k", "value");
    uint32_t version = f.op.version;
    cr_expect_eq(touch(&f, "k", START_MS + 50), GW_OK);
    cr_expect_eq(f.op.version, version + 1);
    uint64_t used = log_used(&f);
    cr_expect_eq(touch(&f, "k", START_MS + 60), GW_OK);
    cr_expect_eq(touch(&f, "k", 0), GW_OK);
    cr_expect_eq(f.op.version, version + 3);
    cr_expect_eq(log_used(&f), used, "the word is changed in place once it is there");
    now_ms = START_MS + 100;
    expect_value(&f, "k", "value");
    cr_expect_eq(f.op.expiry_ms, 0);
    op(&f, GW_VERB_READ_TOUCH, "k", GW_OP_HAS_EXPIRY);
    f.op.expiry_ms = now_ms + 5;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.out_bytes, 5);
    cr_expect_arr_eq(f.op.out, "value", 5);
    now_ms += 5;
    cr_expect_eq(get(&f, "k"), GW_NOT_FOUND);
    fixture_close(&f);
}

Test(verbs, a_counter_with_an_expiry_takes_48_bytes)
{
    struct fixture f;
    open_at_start(&f);
    uint64_t before = log_used(&f);
    op(&f, GW_VERB_ADD, "counter1", GW_OP_HAS_EXPIRY);
    f.op.expiry_ms = START_MS + 1;
    f.op.delta = 3;
    run(&f);
    cr_expect_eq(log_used(&f) - before, 48);
    add(&f, "counter1", 4);
    cr_expect_eq(f.op.number, 7);
    cr_expect_eq(log_used(&f) - before, 48, "and is added to in place");
    fixture_close(&f);
}

Test(verbs, a_time_that_is_past_deletes)
{
    struct fixture f;
    open_at_start(&f);
    put(&f, "k", "v");
    uint32_t version = f.op.version;
    cr_expect_eq(put_until(&f, "k", "w", START_MS), GW_OK);
    cr_expect_eq(f.op.version, version + 1);
    now_ms = 1; /* even if the clock is set back: it is a tombstone, and time does not go back */
    cr_expect_eq(get(&f, "k"), GW_NOT_FOUND);
    cr_expect_eq(fetch(&f, "k"), GW_TOMBSTONE);
    now_ms = START_MS;
    add(&f, "counter1", 5);
    op(&f, GW_VERB_ADD, "counter1", GW_OP_HAS_EXPIRY);
    f.op.delta = 1;
    f.op.expiry_ms = 1;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.number, 6, "the sum is told all the same");
    cr_expect_eq(get(&f, "counter1"), GW_NOT_FOUND);
    cr_expect_eq(put_until(&f, "new", "w", 0), GW_OK);
    cr_expect_eq(get(&f, "new"), GW_NOT_FOUND);
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect_eq(stats.keys, 0);
    fixture_close(&f);
}

Test(verbs, never_is_no_expiry)
{
    struct fixture f;
    open_at_start(&f);
    put_until(&f, "k", "v", UINT64_MAX);
    get(&f, "k");
    cr_expect_eq(f.op.expiry_ms, 0);
    put_until(&f, "k", "v", START_MS + 1);
    put_until(&f, "k", "v", UINT64_MAX);
    now_ms = UINT64_MAX - 1;
    cr_expect_eq(get(&f, "k"), GW_OK);
    fixture_close(&f);
}

Test(verbs, a_clock_that_is_set_back_revives_nothing)
{
    struct fixture f;
    open_at_start(&f);
    put_until(&f, "k", "v", START_MS + 5);
    now_ms = START_MS + 5;
    cr_expect_eq(get(&f, "k"), GW_NOT_FOUND);
    now_ms = START_MS;
    cr_expect_eq(get(&f, "k"), GW_NOT_FOUND);
    fixture_close(&f);
}

Test(verbs, pieces_are_put_behind_and_before_a_value)
{
    struct fixture f;
    open_at_start(&f);
    char whole[600] = "", piece[40];
    size_t len = 0;
    for (uint32_t i = 0; len + 30 < sizeof whole; i++) {
        uint32_t n = (i * 7) % 23;
        for (uint32_t b = 0; b < n; b++)
            piece[b] = (char)('a' + (i + b) % 26);
        piece[n] = '\0';
        bool behind = i % 3 != 0;
        cr_assert_eq(with_value(&f, behind ? GW_VERB_APPEND : GW_VERB_PREPEND, "text", piece, 0, 0),
                     GW_OK);
        memmove(whole + (behind ? 0 : n), whole, len + 1);
        memcpy(whole + (behind ? len : 0), piece, n);
        len += n;
        whole[len] = '\0';
        cr_expect_eq(f.op.out_bytes, len, "the answer is the new length");
        expect_value(&f, "text", whole);
    }
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect_lt(stats.copies, 20, "%lu copies: appends have room to grow into",
                 (unsigned long)stats.copies);
    fixture_close(&f);
}

Test(verbs, a_piece_that_makes_the_value_too_large_is_refused_whole)
{
    struct fixture f;
    open_at_start(&f);
    uint64_t most = gw_store_record_bytes_max(f.store) - 16 - 8;
    uint8_t *large = calloc(1, most);
    op(&f, GW_VERB_UPSERT, "k", 0);
    f.op.value = large;
    f.op.value_bytes = (uint32_t)most - 3;
    cr_assert_eq(run(&f), GW_OK);
    uint32_t version = f.op.version;
    cr_expect_eq(with_value(&f, GW_VERB_APPEND, "k", "four", 0, 0), GW_E_TOO_LARGE);
    cr_expect_eq(with_value(&f, GW_VERB_PREPEND, "k", "four", 0, 0), GW_E_TOO_LARGE);
    get(&f, "k");
    cr_expect_eq(f.op.version, version);
    cr_expect_eq(f.op.out_bytes, most - 3);
    cr_expect_eq(with_value(&f, GW_VERB_APPEND, "k", "one", 0, 0), GW_OK, "the last three fit");
    free(large);
    fixture_close(&f);
}

Test(verbs, pieces_do_not_go_with_counters)
{
    struct fixture f;
    open_at_start(&f);
    add(&f, "c", 12);
    cr_expect_eq(with_value(&f, GW_VERB_APPEND, "c", "3", 0, 0), GW_WRONG_TYPE);
    cr_expect_eq(with_value(&f, GW_VERB_PREPEND, "c", "3", 0, 0), GW_WRONG_TYPE);
    cr_expect_eq(with_value(&f, GW_VERB_APPEND, "absent", "3", GW_OP_MUST_EXIST, 0), GW_NOT_FOUND);
    cr_expect_eq(get(&f, "absent"), GW_NOT_FOUND);
    fixture_close(&f);
}

Test(verbs, get_and_set_gives_what_was_there)
{
    struct fixture f;
    open_at_start(&f);
    cr_expect_eq(with_value(&f, GW_VERB_GETSET, "k", "one", 0, 0), GW_OK);
    cr_expect_eq(f.op.kind, GW_KIND_NONE, "the set happened, there was nothing before");
    cr_expect_eq(with_value(&f, GW_VERB_GETSET, "k", "two and more than there was room for", 0, 0),
                 GW_OK);
    cr_expect_eq(f.op.kind, GW_KIND_BYTES);
    cr_expect_eq(f.op.out_bytes, 3);
    cr_expect_arr_eq(f.op.out, "one", 3);
    op(&f, GW_VERB_GETSET, "k", GW_OP_COUNTER);
    f.op.number = 9;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.kind, GW_KIND_BYTES);
    cr_expect_arr_eq(f.op.out, "two and", 7);
    op(&f, GW_VERB_GETDEL, "k", 0);
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.kind, GW_KIND_COUNTER);
    cr_expect_eq(f.op.number, 9);
    cr_expect_eq(run(&f), GW_NOT_FOUND);
    fixture_close(&f);
}

Test(verbs, an_old_value_that_finds_no_room_changes_nothing)
{
    struct fixture f;
    open_at_start(&f);
    static const uint8_t verbs[] = {GW_VERB_GETSET, GW_VERB_GETDEL, GW_VERB_READ_TOUCH};
    put(&f, "k", "twenty bytes of value");
    uint32_t version = f.op.version;
    for (uint32_t i = 0; i < sizeof verbs; i++) {
        op(&f, verbs[i], "k", 0);
        gw_store_hash(f.store, &f.op);
        size_t used;
        gw_store_enter(f.thread);
        uint32_t done = gw_store_execute(f.thread, &f.op, 1, f.room, 20, &used);
        gw_store_exit(f.thread);
        cr_expect_eq(done, 0);
        cr_expect_eq(f.op.status, GW_WOULD_BLOCK);
        cr_expect_eq(f.op.out_bytes, 21, "it says how much");
        cr_expect_eq(used, 0);
        get(&f, "k");
        cr_expect_eq(f.op.version, version);
    }
    fixture_close(&f);
}

static enum gw_status add_within(struct fixture *f, const char *key, int64_t delta, int64_t low,
                                 int64_t high, uint8_t flags)
{
    int64_t bounds[2] = {low, high};
    op(f, GW_VERB_ADD, key, GW_OP_BOUNDED | flags);
    f->op.value = (const uint8_t *)bounds;
    f->op.value_bytes = sizeof bounds;
    f->op.delta = delta;
    return run(f);
}

Test(verbs, a_bounded_add_refuses_or_stops_at_its_bounds)
{
    struct fixture f;
    open_at_start(&f);
    cr_expect_eq(add_within(&f, "c", 8, 0, 10, 0), GW_OK);
    uint32_t version = f.op.version;
    cr_expect_eq(add_within(&f, "c", 3, 0, 10, 0), GW_OVERFLOW);
    get(&f, "c");
    cr_expect_eq(f.op.number, 8);
    cr_expect_eq(f.op.version, version, "refused: nothing has changed");
    cr_expect_eq(add_within(&f, "c", 3, 0, 10, GW_OP_CLAMP), GW_OK);
    cr_expect_eq(f.op.number, 10);
    cr_expect_eq(add_within(&f, "c", INT64_MIN, 0, 10, GW_OP_CLAMP), GW_OK);
    cr_expect_eq(f.op.number, 0);
    cr_expect_eq(add_within(&f, "c", INT64_MAX, INT64_MIN, INT64_MAX, 0), GW_OK);
    cr_expect_eq(add_within(&f, "c", 1, INT64_MIN, INT64_MAX, GW_OP_CLAMP), GW_OK);
    cr_expect_eq(f.op.number, INT64_MAX, "a sum beyond 64 bits is beyond every bound");
    cr_expect_eq(add_within(&f, "c", -1, 0, 10, GW_OP_CLAMP), GW_OK);
    cr_expect_eq(f.op.number, 10, "from beyond it comes to the bound");
    cr_expect_eq(add_within(&f, "first", 11, 0, 10, 0), GW_OVERFLOW);
    cr_expect_eq(get(&f, "first"), GW_NOT_FOUND);
    cr_expect_eq(add_within(&f, "c", 1, 2, 1, 0), GW_E_INVALID);
    op(&f, GW_VERB_ADD, "c", GW_OP_BOUNDED);
    cr_expect_eq(run(&f), GW_E_INVALID, "bounds are missing");
    fixture_close(&f);
}

Test(verbs, an_arriving_record_keeps_its_expiry)
{
    struct fixture f;
    open_at_start(&f);
    op(&f, GW_VERB_ARRIVE, "k", GW_OP_HAS_EXPIRY);
    f.op.value = (const uint8_t *)"v";
    f.op.value_bytes = 1;
    f.op.expected_version = 77;
    f.op.expiry_ms = START_MS + 5;
    cr_expect_eq(run(&f), GW_OK);
    get(&f, "k");
    cr_expect_eq(f.op.version, 77);
    cr_expect_eq(f.op.expiry_ms, START_MS + 5);
    op(&f, GW_VERB_ARRIVE, "late", GW_OP_HAS_EXPIRY);
    f.op.expected_version = 78;
    f.op.expiry_ms = START_MS - 5;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(fetch(&f, "late"), GW_TOMBSTONE);
    cr_expect_eq(f.op.version, 78, "what expired on its way leaves its version");
    fixture_close(&f);
}

static bool count_views(void *ctx, const struct gw_record_view *view)
{
    uint32_t *counts = ctx;
    counts[view->tombstone ? 1 : 0]++;
    if (!view->tombstone)
        cr_expect_eq(view->expiry_ms, START_MS + 500);
    return true;
}

static void walk_all(struct fixture *f, bool tombstones, uint32_t *counts)
{
    struct gw_cursor cursor = {0};
    counts[0] = counts[1] = 0;
    gw_store_enter(f->thread);
    while (!cursor.done)
        gw_store_walk(f->thread, &cursor, UINT64_MAX, NULL, tombstones, 64, count_views, counts);
    gw_store_exit(f->thread);
}

Test(verbs, a_walk_leaves_expired_keys_out_like_deleted_ones)
{
    struct fixture f;
    open_at_start(&f);
    put_until(&f, "short", "v", START_MS + 5);
    put_until(&f, "long", "v", START_MS + 500);
    now_ms += 5;
    uint32_t counts[2];
    walk_all(&f, false, counts);
    cr_expect_eq(counts[0], 1);
    cr_expect_eq(counts[1], 0);
    walk_all(&f, true, counts);
    cr_expect_eq(counts[0], 1);
    cr_expect_eq(counts[1], 1, "whoever moves keys needs its version");
    fixture_close(&f);
}

/* Goal: frames are used again as they are, so no byte of a record is left from before.
 * How: all of the log's memory is filled with a byte that no key, value or word below has. */
Test(verbs, a_record_writes_all_of_its_words)
{
    struct fixture f;
    open_at_start(&f);
    struct gw_log *log = f.store->log;
    memset(log->frames + GW_LOG_PAGE_HEADER, 0xa5, log->page_bytes - GW_LOG_PAGE_HEADER);
    char key[40] = "", value[301];
    memset(value, 'v', sizeof value);
    for (uint32_t n = 1; n < 36; n++) {
        memset(key, 'k', n);
        value[n * 8 % 301] = '\0';
        put_until(&f, key, value, n % 2 ? START_MS + n : UINT64_MAX);
        with_value(&f, GW_VERB_APPEND, key, "piece", 0, 0);
        with_value(&f, GW_VERB_PREPEND, key, "piece by piece", 0, 0);
        touch(&f, key, START_MS + 1000);
        if (n % 3 == 0)
            put_until(&f, key, "", 1);
        value[n * 8 % 301] = 'v';
        key[n - 1] = 'c';
        add(&f, key, n);
        key[n - 1] = 'k';
    }
    uint64_t used = log_used(&f);
    cr_assert_lt(used, log->page_bytes, "one page is looked at");
    uint32_t records = 0;
    for (uint64_t at = GW_LOG_PAGE_HEADER; at < used; records++) {
        const struct gw_record *record = (const struct gw_record *)(log->frames + at);
        uint64_t bytes = gw_record_units(record) * GW_ADDR_UNIT;
        cr_assert_gt(bytes, 0);
        for (uint64_t b = 16; b < bytes; b++)
            cr_assert_neq(log->frames[at + b], 0xa5, "byte %lu of record %u, %lu bytes long",
                          (unsigned long)b, records, (unsigned long)bytes);
        at += bytes;
    }
    cr_expect_gt(records, 100);
    fixture_close(&f);
}
