/* Goal: every verb and status of store.h does what the header says, in one thread. */
#include "index/store.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store_fixture.h"

Test(store, reads_what_was_written)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    cr_assert_eq(put(&f, "alpha", "one"), GW_OK);
    cr_assert_eq(put(&f, "b", ""), GW_OK);
    cr_expect_eq(get(&f, "alpha"), GW_OK);
    cr_expect_eq(f.op.out_bytes, 3);
    cr_expect_arr_eq(f.op.out, "one", 3);
    cr_expect_eq(f.op.kind, GW_KIND_BYTES);
    cr_expect_eq(get(&f, "b"), GW_OK);
    cr_expect_eq(f.op.out_bytes, 0);
    cr_expect_eq(get(&f, "c"), GW_NOT_FOUND);
    fixture_close(&f);
}

Test(store, versions_rise_by_one_with_every_change)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    put(&f, "k", "1");
    uint32_t v = f.op.version;
    cr_expect_gt(v, 0);
    put(&f, "k", "2");
    cr_expect_eq(f.op.version, v + 1, "in place");
    put(&f, "k", "a value that does not fit the room of the first one");
    cr_expect_eq(f.op.version, v + 2, "by copy");
    cr_expect_eq(del(&f, "k"), GW_OK);
    cr_expect_eq(f.op.version, v + 3);
    cr_expect_eq(del(&f, "k"), GW_NOT_FOUND, "deleted already");
    cr_expect_eq(get(&f, "k"), GW_NOT_FOUND);
    cr_expect_eq(fetch(&f, "k"), GW_TOMBSTONE);
    cr_expect_eq(f.op.version, v + 3);
    put(&f, "k", "3");
    cr_expect_eq(f.op.version, v + 4, "created again above the tombstone");
    cr_expect_eq(gw_store_version_highest(f.store), v + 4);
    fixture_close(&f);
}

Test(store, a_counter_adds_and_keeps_its_range)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    cr_expect_eq(add(&f, "counter1", 5), GW_OK);
    cr_expect_eq(f.op.number, 5);
    cr_expect_eq(add(&f, "counter1", -7), GW_OK);
    cr_expect_eq(f.op.number, -2);
    cr_expect_eq(get(&f, "counter1"), GW_OK);
    cr_expect_eq(f.op.kind, GW_KIND_COUNTER);
    cr_expect_eq(f.op.number, -2);
    uint32_t version = f.op.version;
    cr_expect_eq(add(&f, "counter1", INT64_MIN), GW_OVERFLOW);
    get(&f, "counter1");
    cr_expect_eq(f.op.number, -2, "an overflow changes nothing");
    cr_expect_eq(f.op.version, version);
    put(&f, "text", "x");
    cr_expect_eq(add(&f, "text", 1), GW_WRONG_TYPE);
    op(&f, GW_VERB_ADD, "new", GW_OP_HAS_INITIAL);
    f.op.initial = 100;
    f.op.delta = 1;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.number, 101);
    op(&f, GW_VERB_ADD, "newer", GW_OP_HAS_INITIAL);
    f.op.initial = INT64_MAX;
    f.op.delta = 1;
    cr_expect_eq(run(&f), GW_OVERFLOW);
    cr_expect_eq(get(&f, "newer"), GW_NOT_FOUND);
    fixture_close(&f);
}

Test(store, a_counter_may_become_bytes_and_back)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    add(&f, "k", 5);
    cr_expect_eq(put(&f, "k", "bytes"), GW_OK);
    get(&f, "k");
    cr_expect_eq(f.op.kind, GW_KIND_BYTES);
    cr_expect_arr_eq(f.op.out, "bytes", 5);
    op(&f, GW_VERB_UPSERT, "k", GW_OP_COUNTER);
    f.op.number = -9;
    cr_expect_eq(run(&f), GW_OK);
    add(&f, "k", 1);
    cr_expect_eq(f.op.number, -8);
    del(&f, "k");
    add(&f, "k", 3);
    cr_expect_eq(f.op.number, 3, "a deleted counter starts anew");
    fixture_close(&f);
}

Test(store, compare_and_set_wants_the_version)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    op(&f, GW_VERB_CAS, "k", 0);
    cr_expect_eq(run(&f), GW_NOT_FOUND);
    put(&f, "k", "1");
    uint32_t v = f.op.version;
    op(&f, GW_VERB_CAS, "k", 0);
    f.op.expected_version = v + 1;
    f.op.value = (const uint8_t *)"2";
    f.op.value_bytes = 1;
    cr_expect_eq(run(&f), GW_MISMATCH);
    cr_expect_eq(f.op.version, v, "the answer names the version in force");
    f.op.expected_version = v;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.version, v + 1);
    get(&f, "k");
    cr_expect_arr_eq(f.op.out, "2", 1);
    del(&f, "k");
    op(&f, GW_VERB_CAS, "k", 0);
    f.op.expected_version = v + 2;
    cr_expect_eq(run(&f), GW_NOT_FOUND, "a tombstone is no value");
    fixture_close(&f);
}

Test(store, insert_only_where_no_live_record_is)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    op(&f, GW_VERB_INSERT, "k", 0);
    f.op.value = (const uint8_t *)"1";
    f.op.value_bytes = 1;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(run(&f), GW_EXISTS);
    del(&f, "k");
    op(&f, GW_VERB_INSERT, "k", GW_OP_COUNTER);
    f.op.number = 7;
    cr_expect_eq(run(&f), GW_OK);
    get(&f, "k");
    cr_expect_eq(f.op.number, 7);
    fixture_close(&f);
}

Test(store, what_arrives_never_replaces_anything)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    op(&f, GW_VERB_ARRIVE, "k", GW_OP_COUNTER | GW_OP_UNSETTLED);
    f.op.number = 42;
    f.op.expected_version = 4000000000u;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(run(&f), GW_EXISTS, "a second copy");
    get(&f, "k");
    cr_expect_eq(f.op.number, 42);
    cr_expect_eq(f.op.version, 4000000000u, "the version came along");
    cr_expect_eq(gw_store_version_highest(f.store), 4000000000u);
    put(&f, "dead", "x");
    del(&f, "dead");
    op(&f, GW_VERB_ARRIVE, "dead", GW_OP_COUNTER);
    cr_expect_eq(run(&f), GW_EXISTS, "a tombstone hides what arrives later");
    cr_expect_eq(get(&f, "dead"), GW_NOT_FOUND);
    op(&f, GW_VERB_ARRIVE, "gone", GW_OP_TOMBSTONE);
    f.op.expected_version = 17;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(get(&f, "gone"), GW_NOT_FOUND);
    cr_expect_eq(fetch(&f, "gone"), GW_TOMBSTONE);
    cr_expect_eq(f.op.version, 17);
    add(&f, "gone", 1);
    cr_expect_eq(f.op.version, 18);
    fixture_close(&f);
}

Test(store, unsettled_keys_are_absent_and_stay_so)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    static const uint8_t verbs[] = {GW_VERB_READ,   GW_VERB_UPSERT, GW_VERB_DELETE, GW_VERB_ADD,
                                    GW_VERB_INSERT, GW_VERB_CAS,    GW_VERB_FETCH};
    for (size_t i = 0; i < sizeof verbs; i++) {
        op(&f, verbs[i], "k", GW_OP_UNSETTLED | GW_OP_COUNTER);
        cr_expect_eq(run(&f), GW_ABSENT, "verb %d", verbs[i]);
        cr_expect_eq(get(&f, "k"), GW_NOT_FOUND, "verb %d", verbs[i]);
    }
    put(&f, "k", "v");
    del(&f, "k");
    op(&f, GW_VERB_READ, "k", GW_OP_UNSETTLED);
    cr_expect_eq(run(&f), GW_NOT_FOUND, "a tombstone is known");
    op(&f, GW_VERB_ADD, "k", GW_OP_UNSETTLED);
    f.op.delta = 2;
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.number, 2);
    fixture_close(&f);
}

Test(store, new_keys_get_versions_above_the_floor)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    put(&f, "old", "v");
    gw_store_version_floor(f.store, 3000000000u);
    gw_store_version_floor(f.store, 5);
    put(&f, "new", "v");
    cr_expect_gt(f.op.version, 3000000000u);
    cr_expect_geq(gw_store_version_highest(f.store), 3000000000u);
    uint32_t first = f.op.version;
    put(&f, "newer", "v");
    cr_expect_gt(f.op.version, first, "no two lives begin alike");
    put(&f, "old", "w");
    cr_expect_lt(f.op.version, 3000000000u, "an old key goes on from its own version");
    fixture_close(&f);
}

Test(store, keys_and_values_have_limits)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.page_bits = 17});
    op(&f, GW_VERB_UPSERT, "", 0);
    cr_expect_eq(run(&f), GW_E_INVALID);
    op(&f, GW_VERB_READ, "", 0);
    cr_expect_eq(run(&f), GW_E_INVALID);
    op(&f, 99, "k", 0);
    cr_expect_eq(run(&f), GW_E_INVALID);

    uint64_t max = gw_store_record_bytes_max(f.store);
    uint8_t *bytes = malloc(max + 16);
    memset(bytes, 'x', max + 16);
    op(&f, GW_VERB_UPSERT, "12345678", 0);
    f.op.value = bytes;
    f.op.value_bytes = (uint32_t)(max - 16 - 8);
    cr_expect_eq(run(&f), GW_OK, "the largest that fits");
    f.op.value_bytes++;
    cr_expect_eq(run(&f), GW_E_TOO_LARGE);
    f.op.value_bytes = UINT32_MAX;
    cr_expect_eq(run(&f), GW_E_TOO_LARGE);
    cr_expect_eq(get(&f, "12345678"), GW_OK);
    cr_expect_eq(f.op.out_bytes, max - 24);

    op_bytes(&f, GW_VERB_UPSERT, bytes, 65535, 0); /* the longest key */
    f.op.value = bytes;
    f.op.value_bytes = 9;
    cr_expect_eq(run(&f), GW_OK);
    op_bytes(&f, GW_VERB_READ, bytes, 65535, 0);
    cr_expect_eq(run(&f), GW_OK);
    cr_expect_eq(f.op.out_bytes, 9);
    op_bytes(&f, GW_VERB_READ, bytes, 65534, 0);
    cr_expect_eq(run(&f), GW_NOT_FOUND);
    free(bytes);
    fixture_close(&f);
}

Test(store, options_out_of_range_are_refused)
{
    struct gw_store *store = NULL;
    struct gw_store_options good = {.log_bytes = 1 << 23, .index_bytes = 1 << 20};
    struct gw_store_options o = good;
    o.page_bits = 40;
    cr_expect_eq(gw_store_open(&o, &store), GW_E_INVALID);
    o = good;
    o.log_bytes = 1 << 22; /* one page */
    cr_expect_eq(gw_store_open(&o, &store), GW_E_INVALID);
    o = good;
    o.index_bytes = 100;
    cr_expect_eq(gw_store_open(&o, &store), GW_E_INVALID);
    o = good;
    o.threads_max = 100000;
    cr_expect_eq(gw_store_open(&o, &store), GW_E_INVALID);
    o = good;
    o.log_start = UINT64_MAX;
    cr_expect_eq(gw_store_open(&o, &store), GW_E_INVALID);
    cr_expect_null(store);
}

Test(store, a_read_that_does_not_fit_the_room_stops_the_batch_there)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){0});
    put(&f, "a", "12345678");
    put(&f, "b", "123456789012");
    struct gw_op ops[3];
    memset(ops, 0, sizeof ops);
    static const char *keys[] = {"a", "b", "a"};
    for (int i = 0; i < 3; i++) {
        ops[i].verb = GW_VERB_READ;
        ops[i].key = (const uint8_t *)keys[i];
        ops[i].key_bytes = 1;
        gw_store_hash(f.store, &ops[i]);
    }
    uint8_t room[16];
    size_t used = 99;
    gw_store_enter(f.thread);
    cr_expect_eq(gw_store_execute(f.thread, ops, 3, room, sizeof room, &used), 1);
    cr_expect_eq(used, 8);
    cr_expect_eq(ops[0].status, GW_OK);
    cr_expect_eq(ops[1].status, GW_WOULD_BLOCK);
    cr_expect_eq(ops[1].out_bytes, 12, "says how much it needs");
    cr_expect_eq(ops[2].status, GW_WOULD_BLOCK);
    cr_expect_eq(gw_store_execute(f.thread, ops + 1, 2, room, 12, &used), 1);
    cr_expect_eq(used, 12, "an odd end of the room is usable");
    cr_expect_arr_eq(ops[1].out, "123456789012", 12);
    gw_store_exit(f.thread);
    fixture_close(&f);
}

Test(store, a_full_store_refuses_writes_and_goes_on_reading)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.page_bits = 16, .log_bytes = 4 << 16});
    char key[16], value[1101];
    memset(value, 'v', 1100); /* so that a page's end stays free */
    value[1100] = 0;
    int n = 0;
    enum gw_status st;
    for (;; n++) {
        snprintf(key, sizeof key, "key%05d", n);
        st = put(&f, key, value);
        if (st != GW_OK)
            break;
    }
    cr_expect_eq(st, GW_E_FULL);
    cr_expect_eq(n, 4 * 57);
    cr_expect_eq(get(&f, key), GW_NOT_FOUND, "refused means nothing happened");
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect(stats.full);
    cr_expect_eq(stats.refused_full, 1);
    cr_expect_eq(stats.keys, n);
    cr_expect_eq(add(&f, "small", 1), GW_OK, "room for a small record is found");
    gw_store_stats(f.store, &stats);
    cr_expect_not(stats.full);
    for (int i = 0;; i++) {
        char small[32];
        snprintf(small, sizeof small, "small%03d", i);
        if (add(&f, small, 1) != GW_OK)
            break;
        cr_assert_lt(i, 1000);
    }
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "key%05d", i);
        cr_expect_eq(get(&f, key), GW_OK);
        cr_expect_eq(f.op.out_bytes, 1100);
        cr_expect_eq(memcmp(f.op.out, value, 1100), 0);
    }
    cr_expect_eq(add(&f, "small", 1), GW_OK, "in place needs no room");
    cr_expect_eq(f.op.number, 2);
    cr_expect_eq(put(&f, "key00000", "short"), GW_E_FULL, "too short for its room");
    cr_expect_eq(get(&f, "key00000"), GW_OK);
    cr_expect_eq(f.op.out_bytes, 1100, "not left sealed, not changed");
    cr_expect_eq(put(&f, "key00000", value), GW_OK);
    cr_expect_eq(del(&f, "key00001"), GW_OK, "so does a delete");
    fixture_close(&f);
}

Test(store, a_full_index_refuses_new_keys_only)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.index_bytes = 65536});
    char key[16];
    int n = 0;
    for (;; n++) {
        snprintf(key, sizeof key, "%08d", n);
        if (add(&f, key, n) != GW_OK)
            break;
        cr_assert_lt(n, 100000);
    }
    cr_expect_eq(f.op.status, GW_E_FULL);
    cr_expect_gt(n, 65536 / 64 * 7 / 2);
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%08d", i);
        cr_assert_eq(get(&f, key), GW_OK);
        cr_assert_eq(f.op.number, i);
    }
    fixture_close(&f);
}

/* ---- walking ------------------------------------------------------------------------------------
 */

struct tally {
    uint32_t live, tombstones, calls, stop_at;
    uint64_t sum, hash_min, hash_max;
};

static bool tally_view(void *ctx, const struct gw_record_view *view)
{
    struct tally *tally = ctx;
    if (tally->stop_at && ++tally->calls == tally->stop_at)
        return false;
    tally->live += !view->tombstone;
    tally->tombstones += view->tombstone;
    tally->sum += (uint64_t)view->number;
    if (view->hash < tally->hash_min)
        tally->hash_min = view->hash;
    if (view->hash > tally->hash_max)
        tally->hash_max = view->hash;
    return true;
}

static void walk_all(struct fixture *f, struct tally *tally, const struct gw_slots *slots,
                     bool tombstones, uint64_t first, uint64_t last, uint32_t step)
{
    struct gw_cursor cursor = {.hash = first};
    tally->hash_min = UINT64_MAX;
    while (!cursor.done) {
        gw_store_enter(f->thread);
        gw_store_walk(f->thread, &cursor, last, slots, tombstones, step, tally_view, tally);
        gw_store_exit(f->thread);
    }
}

static uint64_t fill_keys(struct fixture *f, int n)
{
    char key[16];
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "%08d", i);
        cr_assert_eq(add(f, key, i), GW_OK);
        sum += (uint64_t)i;
    }
    return sum;
}

Test(store, a_walk_visits_each_key_once_when_nothing_moves)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.index_bytes = 1 << 20});
    uint64_t sum = fill_keys(&f, 10000);
    cr_assert_eq(gw_store_shift_read_only(f.store), GW_OK);
    gw_store_poll(f.thread);
    add(&f, "00000007", 100); /* copied to the tail: two records of one key in a chain */
    struct gw_store_stats stats;
    gw_store_stats(f.store, &stats);
    cr_expect_eq(stats.copies, 1);
    del(&f, "00000009");
    struct tally tally = {0};
    walk_all(&f, &tally, NULL, false, 0, UINT64_MAX, 7);
    cr_expect_eq(tally.live, 9999);
    cr_expect_eq(tally.sum, sum + 100 - 9);
    memset(&tally, 0, sizeof tally);
    walk_all(&f, &tally, NULL, true, 0, UINT64_MAX, 1000000);
    cr_expect_eq(tally.tombstones, 1);
    cr_expect_eq(tally.live, 9999);
    fixture_close(&f);
}

Test(store, parts_of_a_walk_make_the_whole)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.index_bytes = 65536});
    uint64_t sum = fill_keys(&f, 3000);
    uint64_t parts = 0, count = 0;
    for (uint64_t i = 0; i < 4096; i++) { /* finer than the table's buckets */
        struct tally tally = {0};
        uint64_t first = i << 52, last = first | (UINT64_MAX >> 12);
        walk_all(&f, &tally, NULL, false, first, last, 1);
        parts += tally.sum;
        count += tally.live;
        if (tally.live) {
            cr_assert_geq(tally.hash_min, first);
            cr_assert_leq(tally.hash_max, last);
        }
    }
    cr_expect_eq(count, 3000);
    cr_expect_eq(parts, sum);
    fixture_close(&f);
}

Test(store, a_stopped_walk_goes_on_from_the_start_of_its_bucket)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.index_bytes = 65536});
    fill_keys(&f, 2000);
    struct tally tally = {.stop_at = 1000};
    struct gw_cursor cursor = {0};
    gw_store_enter(f.thread);
    gw_store_walk(f.thread, &cursor, UINT64_MAX, NULL, false, UINT32_MAX, tally_view, &tally);
    gw_store_exit(f.thread);
    cr_expect_not(cursor.done);
    cr_expect_eq(tally.live, 999);
    struct tally rest = {0};
    walk_all(&f, &rest, NULL, false, cursor.hash, UINT64_MAX, 10);
    cr_expect_geq(tally.live + rest.live, 2000, "at least once");
    cr_expect_lt(tally.live + rest.live, 2040, "but no more than a bucket twice");
    fixture_close(&f);
}

Test(store, unlinked_slots_are_gone_and_the_others_stay)
{
    struct fixture f;
    fixture_open(&f, &(struct gw_store_options){.index_bytes = 65536});
    fill_keys(&f, 3000);
    struct gw_slots low;
    gw_slots_clear(&low);
    gw_slots_add_range(&low, 0, 8191);
    uint64_t unlinked = 0;
    struct tally before = {0}, after = {0}, rest = {0};
    walk_all(&f, &before, &low, false, 0, UINT64_MAX, 100);
    cr_expect_gt(before.live, 1000);
    struct gw_cursor cursor = {0};
    while (!cursor.done) {
        gw_store_enter(f.thread);
        gw_store_unlink(f.thread, &cursor, UINT64_MAX, &low, 50, &unlinked);
        gw_store_exit(f.thread);
    }
    cr_expect_leq(unlinked, before.live);
    walk_all(&f, &after, &low, true, 0, UINT64_MAX, 100);
    cr_expect_eq(after.live + after.tombstones, 0);
    walk_all(&f, &rest, NULL, false, 0, UINT64_MAX, 100);
    cr_expect_eq(rest.live, 3000 - before.live);
    fixture_close(&f);
}

static _Atomic bool looked_enough;

static void *look_at_numbers(void *store)
{
    struct gw_store_stats stats;
    while (!looked_enough)
        gw_store_stats(store, &stats);
    return NULL;
}

Test(store, numbers_may_be_asked_for_while_threads_come_and_go, .timeout = 30)
{
    struct gw_store *store;
    cr_assert_eq(gw_store_open(&(struct gw_store_options){.log_bytes = 8 << 16, .page_bits = 16},
                               &store),
                 GW_OK);
    pthread_t looker;
    cr_assert_eq(pthread_create(&looker, NULL, look_at_numbers, store), 0);
    for (int i = 0; i < 5000; i++) {
        struct gw_thread *thread;
        cr_assert_eq(gw_store_thread_open(store, &thread), GW_OK);
        gw_store_thread_close(thread);
    }
    looked_enough = true;
    pthread_join(looker, NULL);
    gw_store_close(store);
}
