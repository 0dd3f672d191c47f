/* Goal: what the source ships is the newest version of every key of the range, each chunk whole,
 * once an attempt, by one dispatcher; and it answers pulls exactly.
 * How: real stores, one thread, so the order is exact; races are in tests/sim and tests/torture. */
#include "migration/outgoing.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "pair.h"

static void put_many(struct side *side, const char *prefix, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char key[32], value[64];
        snprintf(key, sizeof key, "%s%u", prefix, i);
        snprintf(value, sizeof value, "value of %s%u", prefix, i);
        cr_assert_eq(side_put(side, key, value), GW_OK);
    }
}

static void expect_many(struct pair *p, const char *prefix, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char key[32], value[64];
        snprintf(key, sizeof key, "%s%u", prefix, i);
        snprintf(value, sizeof value, "value of %s%u", prefix, i);
        cr_assert_eq(pair_get(p, key), GW_OK, "%s is missing", key);
        cr_assert_eq(p->t.op.out_bytes, strlen(value));
        cr_assert_arr_eq(p->t.op.out, value, strlen(value));
    }
}

Test(outgoing, everything_of_the_range_arrives_with_its_version)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    put_many(&p.s, "key", 3000);
    side_add(&p.s, "counter", 41);
    side_add(&p.s, "counter", 1);
    uint32_t version = p.s.op.version;
    pair_ship(&p);
    cr_expect(gw_outgoing_done(p.out));
    cr_expect(gw_incoming_done(p.in));
    expect_many(&p, "key", 3000);
    cr_expect_eq(pair_get(&p, "counter"), GW_OK);
    cr_expect_eq(p.t.op.number, 42);
    cr_expect_eq(p.t.op.kind, GW_KIND_COUNTER);
    cr_expect_eq(p.t.op.version, version, "what arrives keeps its version");
    struct gw_outgoing_progress progress;
    gw_outgoing_progress(p.out, &progress);
    cr_expect_eq(progress.chunks_done, 4);
    cr_expect_eq(progress.chunks, 4);
    cr_expect_eq(progress.records, 3001);
    pair_close(&p);
}

Test(outgoing, other_slots_stay_where_they_are)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.slots = "0-8191"});
    put_many(&p.s, "key", 500);
    pair_ship(&p);
    for (uint32_t i = 0; i < 500; i++) {
        char key[32];
        snprintf(key, sizeof key, "key%u", i);
        bool moved = gw_key_slot(key, strlen(key)) < 8192;
        cr_assert_eq(side_get(&p.t, key), moved ? GW_OK : GW_NOT_FOUND);
        cr_assert_eq(side_get(&p.s, key), GW_OK, "the source keeps everything");
    }
    pair_close(&p);
}

Test(outgoing, a_bucket_larger_than_a_frame_goes_out_in_several)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1, .index_bytes = 65536}); /* 512 buckets */
    static char value[30000], key[40][32];
    memset(value, 'v', sizeof value - 1);
    for (uint32_t i = 0, found = 0; found < 40; i++) { /* all in one bucket */
        snprintf(key[found], sizeof key[found], "{tag}%u", i);
        if (side_hash(&p.s, key[found]) >> 55 == 5)
            cr_assert_eq(side_put(&p.s, key[found++], value), GW_OK);
    }
    size_t room_bytes = gw_outgoing_frame_bytes_max(p.s.store); /* two such records at most */
    uint8_t *room = malloc(room_bytes);
    uint32_t frames = 0;
    enum gw_status st;
    do {
        struct frame frame = {room, 0};
        gw_store_enter(p.s.thread);
        st = gw_outgoing_fill(p.out, 0, p.s.thread, gw_outgoing_attempt(p.out), room, room_bytes,
                              UINT32_MAX, &frame.size);
        gw_store_exit(p.s.thread);
        if (frame.size) {
            cr_assert_lt(frames, 1000, "it goes round and round");
            frames++;
            cr_assert_eq(pair_deliver(&p, frame), GW_OK);
        }
    } while (st == GW_OK);
    cr_expect_eq(st, GW_END);
    cr_expect_geq(frames, 20);
    cr_expect(gw_incoming_done(p.in));
    for (uint32_t i = 0; i < 40; i++)
        cr_expect_eq(pair_get(&p, key[i]), GW_OK);
    free(room);
    pair_close(&p);
}

Test(outgoing, a_room_too_small_for_a_record_is_said_and_nothing_is_lost)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    static char value[1000];
    memset(value, 'v', sizeof value - 1);
    side_put(&p.s, "large", value);
    uint8_t small[GW_FRAME_HEADER + 500];
    size_t used;
    enum gw_status st;
    do {
        gw_store_enter(p.s.thread);
        st = gw_outgoing_fill(p.out, 0, p.s.thread, gw_outgoing_attempt(p.out), small, sizeof small,
                              100000, &used);
        gw_store_exit(p.s.thread);
        if (used)
            cr_assert_eq(pair_deliver(&p, (struct frame){small, used}), GW_OK);
    } while (st == GW_OK);
    cr_expect_eq(st, GW_E_TOO_LARGE);
    pair_ship(&p);
    cr_expect_eq(pair_get(&p, "large"), GW_OK);
    pair_close(&p);
}

Test(outgoing, work_in_a_call_is_bounded)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    side_put(&p.s, "lonely", "1");
    uint8_t room[4096];
    size_t used;
    uint32_t calls = 0;
    enum gw_status st;
    do {
        gw_store_enter(p.s.thread);
        st = gw_outgoing_fill(p.out, 0, p.s.thread, gw_outgoing_attempt(p.out), room, sizeof room,
                              64, &used);
        gw_store_exit(p.s.thread);
        calls++;
    } while (st == GW_OK);
    struct gw_store_stats stats;
    gw_store_stats(p.s.store, &stats);
    cr_expect_geq(calls, stats.index_buckets / 64);
    pair_close(&p);
}

/* A dispatcher learns of a restart from its caller, later than the walk does: until then its
 * connection is the old one, and whoever answers a frame of the new attempt there is not heard. */
Test(outgoing, a_connection_of_an_earlier_attempt_carries_nothing_of_a_restart)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    side_put(&p.s, "lonely", "1");
    uint64_t before = gw_outgoing_attempt(p.out);
    gw_outgoing_restart(p.out, before + 1, true);
    uint8_t room[4096];
    size_t used = 1;
    gw_store_enter(p.s.thread);
    cr_expect_eq(gw_outgoing_fill(p.out, 0, p.s.thread, before, room, sizeof room, 100000, &used),
                 GW_END);
    cr_expect_eq(used, 0);
    cr_expect_eq(gw_outgoing_fill(p.out, 0, p.s.thread, before + 1, room, sizeof room, 100000,
                                  &used),
                 GW_OK);
    cr_expect_gt(used, 0);
    gw_store_exit(p.s.thread);
    pair_close(&p);
}

Test(outgoing, a_chunk_belongs_to_one_dispatcher)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 3, .dispatchers = 2});
    put_many(&p.s, "key", 2000);
    p.buckets_max = 300;
    int owner[8];
    memset(owner, -1, sizeof owner);
    bool more[2] = {true, true};
    for (uint32_t turn = 0; more[0] || more[1]; turn++) {
        struct frame frame = pair_fill(&p, turn & 1);
        more[turn & 1] = frame.size != 0;
        if (frame.size) {
            uint32_t chunk = (uint32_t)(frame_header(frame).sequence >> 32);
            cr_assert(owner[chunk] == -1 || owner[chunk] == (int)(turn & 1));
            owner[chunk] = (int)(turn & 1);
            cr_assert_eq(pair_deliver(&p, frame), GW_OK);
        }
        frame_free(frame);
    }
    cr_expect(gw_outgoing_done(p.out));
    expect_many(&p, "key", 2000);
    pair_close(&p);
}

Test(outgoing, a_restart_sends_over_what_is_not_acknowledged_and_old_acks_do_not_count)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    put_many(&p.s, "key", 100);
    uint64_t first = gw_outgoing_attempt(p.out);
    struct frame lost[4];
    for (uint32_t i = 0; i < 4; i++)
        lost[i] = pair_fill(&p, 0);
    cr_expect_eq(pair_deliver(&p, lost[2]), GW_OK);
    gw_outgoing_restart(p.out, first + 1, false);
    cr_expect_not(gw_outgoing_acked(p.out, &(struct gw_frame){.view = first}),
                  "an ack of the attempt before");
    gw_incoming_restart(p.in, first + 1);
    for (uint32_t i = 0; i < 3; i++) {
        struct frame frame = pair_fill(&p, 0);
        cr_assert_neq(frame.size, 0);
        cr_expect_neq(frame_header(frame).sequence >> 32, 2, "it was acknowledged");
        cr_expect_eq(pair_deliver(&p, frame), GW_OK);
        frame_free(frame);
    }
    struct frame end = pair_fill(&p, 0);
    cr_expect_eq(end.size, 0);
    cr_expect(gw_outgoing_done(p.out));
    gw_outgoing_restart(p.out, first + 2, true);
    cr_expect_not(gw_outgoing_done(p.out), "from scratch: all acks are void");
    gw_incoming_restart(p.in, first + 2);
    pair_ship(&p);
    cr_expect(gw_outgoing_done(p.out), "the target had all and says so");
    expect_many(&p, "key", 100);
    frame_free(end);
    for (uint32_t i = 0; i < 4; i++)
        frame_free(lost[i]);
    pair_close(&p);
}

Test(outgoing, pulls_are_answered_exactly)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.slots = "0-8191"});
    /* foo: slot 12182, bar: 5061, hello: 866 */
    side_put(&p.s, "foo", "elsewhere");
    side_put(&p.s, "bar", "2");
    side_add(&p.s, "hello", 3);
    const char *keys[] = {"bar", "foo", "hello", "{bar}absent"};
    cr_expect_eq(pair_deliver_answer(&p, pair_answer(&p, pair_pull(&p, keys, 4)), 4), GW_OK);
    cr_expect_eq(p.pulled_keys, 4);
    cr_expect_eq(p.pulled[0], GW_OK);
    cr_expect_eq(p.pulled[1], GW_RETRY, "not of this range");
    cr_expect_eq(p.pulled[2], GW_OK);
    cr_expect_eq(p.pulled[3], GW_NOT_FOUND);
    cr_expect_eq(pair_get(&p, "bar"), GW_OK);
    cr_expect_eq(pair_get(&p, "hello"), GW_OK);
    cr_expect_eq(p.t.op.number, 3);
    cr_expect_eq(pair_get(&p, "{bar}absent"), GW_ABSENT, "unknown until asked or complete");
    pair_close(&p);
}

Test(outgoing, an_answer_that_does_not_fit_asks_to_ask_again)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    static char value[30000];
    memset(value, 'v', sizeof value - 1);
    const char *keys[] = {"a", "b", "c"};
    for (uint32_t i = 0; i < 3; i++)
        side_put(&p.s, keys[i], value);
    struct frame pull = pair_pull(&p, keys, 3);
    struct gw_frame f = frame_header(pull);
    size_t room_bytes = 40000, used;
    struct frame answer = {malloc(room_bytes), 0};
    gw_store_enter(p.s.thread);
    cr_assert_eq(gw_outgoing_answer_pull(p.out, p.s.thread, p.s.store, &f,
                                         gw_frame_body(pull.bytes, &f), p.s.room, p.s.room_bytes,
                                         answer.bytes, room_bytes, &used, NULL, NULL),
                 GW_OK);
    gw_store_exit(p.s.thread);
    answer.size = used;
    cr_expect_eq(pair_deliver_answer(&p, answer, 3), GW_OK);
    cr_expect_eq(p.pulled[0], GW_OK);
    cr_expect_eq(p.pulled[1], GW_RETRY);
    cr_expect_eq(p.pulled[2], GW_RETRY);
    answer = (struct frame){malloc(room_bytes), 0};
    cr_expect_eq(gw_outgoing_answer_unknown(&f, answer.bytes, room_bytes, &answer.size), GW_OK);
    cr_expect_eq(pair_deliver_answer(&p, answer, 3), GW_OK);
    cr_expect_eq(p.pulled[0], GW_RETRY);
    frame_free(pull);
    pair_close(&p);
}

Test(outgoing, a_pull_that_claims_more_than_it_has_is_refused)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    const char *keys[] = {"a", "b"};
    struct frame pull = pair_pull(&p, keys, 2);
    struct gw_frame f = frame_header(pull);
    uint8_t room[4096];
    size_t used;
    static const uint32_t counts[] = {1, 3, 1u << 30};
    for (uint32_t i = 0; i < 3; i++) {
        f.count = counts[i];
        gw_store_enter(p.s.thread);
        cr_expect_eq(gw_outgoing_answer_pull(p.out, p.s.thread, p.s.store, &f,
                                             gw_frame_body(pull.bytes, &f), p.s.room,
                                             p.s.room_bytes, room, sizeof room, &used, NULL, NULL),
                     GW_E_PROTOCOL);
        gw_store_exit(p.s.thread);
    }
    frame_free(pull);
    pair_close(&p);
}

/* ---- holes of MIGRATION.md ----------------------------------------------------------------- */

Test(outgoing, hole_8_tombstones_in_memory_are_shipped)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    side_put(&p.s, "k", "1");
    cr_assert_eq(gw_store_shift_read_only(p.s.store), GW_OK);
    for (uint32_t i = 0; i < 4; i++)
        gw_store_poll(p.s.thread);
    side_del(&p.s, "k"); /* a tombstone of its own above k=1 in the chain */
    uint32_t version = p.s.op.version;
    struct frame old = pair_answer(&p, pair_pull(&p, (const char *const[]){"k"}, 1));
    pair_ship(&p);
    cr_expect_eq(side_verb(&p.t, GW_VERB_FETCH, "k", 0), GW_TOMBSTONE);
    cr_expect_eq(p.t.op.version, version);
    cr_expect_eq(pair_deliver_answer(&p, old, 1), GW_OK);
    cr_expect_eq(pair_get(&p, "k"), GW_NOT_FOUND);
    pair_close(&p);
}

Test(outgoing, hole_20_of_two_versions_in_a_chain_only_the_newest_goes_out)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    for (uint32_t i = 0; i < 3; i++) { /* three records of one key */
        char value[100];
        snprintf(value, sizeof value, "version %u %*s", i, (int)i * 30, "");
        side_put(&p.s, "k", value);
    }
    pair_ship(&p);
    struct gw_outgoing_progress progress;
    gw_outgoing_progress(p.out, &progress);
    cr_expect_eq(progress.records, 1);
    cr_expect_eq(pair_get(&p, "k"), GW_OK);
    cr_expect_arr_eq(p.t.op.out, "version 2", 9);
    pair_close(&p);
}

Test(outgoing, hole_11_nothing_is_called_absent_once_unlinking_has_begun)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    side_put(&p.s, "k", "1");
    struct frame pull = pair_pull(&p, (const char *const[]){"k"}, 1);
    pair_ship(&p);
    gw_outgoing_unlink_begin(p.out);
    enum gw_status st;
    do {
        gw_store_enter(p.s.thread);
        st = gw_outgoing_unlink(p.out, 0, p.s.thread, 100);
        gw_store_exit(p.s.thread);
    } while (st == GW_OK);
    cr_expect(gw_outgoing_unlinked(p.out));
    cr_expect_eq(side_get(&p.s, "k"), GW_NOT_FOUND, "unlinked at the source");
    cr_expect_eq(pair_deliver_answer(&p, pair_answer(&p, pull), 1), GW_OK);
    cr_expect_eq(p.pulled[0], GW_RETRY, "the delayed pull must not say absent");
    cr_expect_eq(pair_get(&p, "k"), GW_OK);
    pair_close(&p);
}

Test(outgoing, hole_15_unlinking_leaves_other_slots_and_a_range_that_returns_is_whole)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.slots = "0-8191"});
    put_many(&p.s, "key", 400);
    pair_ship(&p);
    gw_outgoing_unlink_begin(p.out);
    enum gw_status st;
    do {
        gw_store_enter(p.s.thread);
        st = gw_outgoing_unlink(p.out, 0, p.s.thread, 1000);
        gw_store_exit(p.s.thread);
    } while (st == GW_OK);
    char key[32];
    uint32_t moved = 0;
    for (uint32_t i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "key%u", i);
        bool gone = gw_key_slot(key, strlen(key)) < 8192;
        cr_assert_eq(side_get(&p.s, key), gone ? GW_NOT_FOUND : GW_OK);
        if (gone) { /* the new owner changes and deletes, then gives the range back */
            moved++;
            cr_assert_eq(i % 2 ? side_del(&p.t, key) : side_put(&p.t, key, "newer"), GW_OK);
        }
    }
    cr_assert_gt(moved, 50);
    struct gw_outgoing *back;
    struct gw_incoming *in;
    uint64_t attempt = gw_attempt_first(8);
    cr_assert_eq(gw_outgoing_create(2, &p.slots, 2, attempt, 1, &back), GW_OK);
    cr_assert_eq(gw_incoming_create(2, &p.slots, 2, attempt, &in), GW_OK);
    struct pair b = {
        .s = p.t, .t = p.s, .slots = p.slots, .out = back, .in = in, .buckets_max = UINT32_MAX};
    pair_ship(&b);
    for (uint32_t i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "key%u", i);
        bool of_range = gw_key_slot(key, strlen(key)) < 8192;
        cr_assert_eq(side_get(&p.s, key), of_range && i % 2 ? GW_NOT_FOUND : GW_OK, "%s", key);
        if (of_range && i % 2 == 0)
            cr_assert_arr_eq(p.s.op.out, "newer", 5);
    }
    gw_outgoing_destroy(back);
    gw_incoming_destroy(in);
    pair_close(&p);
}

static uint64_t wall_ms(void)
{
    return gw_clock_wall_ms(gw_clock_system());
}

static enum gw_status put_until(struct side *side, const char *key, uint64_t expiry_ms,
                                bool counter)
{
    side->op = (struct gw_op){.verb = GW_VERB_UPSERT,
                              .flags = GW_OP_HAS_EXPIRY | (counter ? GW_OP_COUNTER : 0),
                              .key = (const uint8_t *)key,
                              .key_bytes = (uint16_t)strlen(key),
                              .value = (const uint8_t *)"value",
                              .value_bytes = 5,
                              .number = 7,
                              .expiry_ms = expiry_ms};
    return side_run(side);
}

Test(outgoing, a_key_keeps_its_expiry_whichever_way_it_goes)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    uint64_t end = wall_ms() + 3600000;
    put_until(&p.s, "bytes", end, false);
    put_until(&p.s, "counter", end + 1, true);
    put_until(&p.s, "pulled", end + 2, false);
    side_put(&p.s, "eternal", "value");
    const char *keys[] = {"pulled"};
    struct frame answer = pair_answer(&p, pair_pull(&p, keys, 1));
    cr_assert_eq(pair_deliver_answer(&p, answer, 1), GW_OK);
    cr_expect_eq(pair_get(&p, "pulled"), GW_OK);
    cr_expect_eq(p.t.op.expiry_ms, end + 2);
    pair_ship(&p);
    cr_expect_eq(pair_get(&p, "bytes"), GW_OK);
    cr_expect_eq(p.t.op.expiry_ms, end);
    cr_expect_eq(pair_get(&p, "counter"), GW_OK);
    cr_expect_eq(p.t.op.expiry_ms, end + 1);
    cr_expect_eq(p.t.op.number, 7);
    cr_expect_eq(pair_get(&p, "eternal"), GW_OK);
    cr_expect_eq(p.t.op.expiry_ms, 0);
    pair_close(&p);
}

/* Else a key that is created anew at the target could get a version that it had before. */
Test(outgoing, of_an_expired_key_its_version_goes)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    put_until(&p.s, "short", wall_ms() + 20, false);
    put_until(&p.s, "pulled", wall_ms() + 20, false);
    uint32_t version = p.s.op.version;
    while (side_get(&p.s, "pulled") == GW_OK || side_get(&p.s, "short") == GW_OK) {}
    const char *keys[] = {"pulled"};
    struct frame answer = pair_answer(&p, pair_pull(&p, keys, 1));
    cr_assert_eq(pair_deliver_answer(&p, answer, 1), GW_OK);
    cr_expect_eq(side_verb(&p.t, GW_VERB_FETCH, "pulled", 0), GW_TOMBSTONE);
    cr_expect_eq(p.t.op.version, version);
    pair_ship(&p);
    cr_expect_eq(side_verb(&p.t, GW_VERB_FETCH, "short", 0), GW_TOMBSTONE);
    pair_close(&p);
}

/* ---- pulls that waited for the device ------------------------------------------------------- */

/* Goal: what is in memory waits for nobody; late answers come in frames of their own, at their
 * keys' places, and one without an answer is asked for again.
 * How: the first frame by hand, as an answer with three late keys leaves it. */
Test(outgoing, late_answers_come_behind_the_others_at_their_places)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    const char *keys[] = {"a", "b", "c", "d"};
    side_put(&p.s, "b", "bb");
    side_put(&p.s, "d", "dd");
    struct frame pull = pair_pull(&p, keys, 4);
    struct gw_frame f = frame_header(pull);
    struct gw_op op = {.key = (const uint8_t *)"a",
                       .key_bytes = 1,
                       .version = 7,
                       .out = (const uint8_t *)"late",
                       .out_bytes = 4,
                       .status = GW_OK};
    size_t bytes = gw_outgoing_pull_late_bytes(&op);
    uint8_t *late_a = malloc(bytes), partial[512], whole[512];
    struct gw_pull_late late[4] = {
        {late_a, gw_outgoing_pull_late(p.out, &op, GW_OK, late_a, bytes)}, {0}, {0}, {0}};
    cr_assert_eq(late[0].count, bytes);

    /* b from memory, c absent, a and d late. */
    gw_store_enter(p.s.thread);
    size_t used;
    cr_assert_eq(gw_outgoing_answer_pull(p.out, p.s.thread, p.s.store, &f,
                                         gw_frame_body(pull.bytes, &f), p.s.room, p.s.room_bytes,
                                         whole, sizeof whole, &used, NULL, NULL),
                 GW_OK);
    gw_store_exit(p.s.thread);
    struct gw_frame head;
    cr_assert_eq(gw_frame_decode(whole, used, &head), GW_OK);
    struct gw_reader r = gw_frame_body(whole, &head);
    struct gw_writer w = gw_writer_of(partial + GW_FRAME_HEADER, sizeof partial - GW_FRAME_HEADER);
    for (int i = 0; i < 4; i++) {
        const uint8_t *at = r.at;
        struct gw_peer_record record;
        uint8_t found = gw_read8(&r);
        if (found == 1)
            cr_assert(gw_peer_record_decode(&r, &record));
        if (i == 0 || i == 3)
            gw_write8(&w, GW_PULL_ELSEWHERE);
        else
            gw_write_bytes(&w, at, (size_t)(r.at - at));
    }
    head.bytes = (uint32_t)(GW_FRAME_HEADER + gw_writer_used(&w));
    gw_frame_encode(&head, partial);
    const enum gw_status unsaid = GW_E_INVALID;
    struct frame answer = {malloc(512), head.bytes};
    memcpy(answer.bytes, partial, head.bytes);
    for (int i = 0; i < 4; i++)
        p.pulled[i] = unsaid;
    cr_expect_eq(pair_deliver_answer(&p, answer, 4), GW_OK);
    cr_expect_eq(p.pulled[0], unsaid);
    cr_expect_eq(p.pulled[1], GW_OK, "it has waited for a and d");
    cr_expect_eq(p.pulled[2], GW_NOT_FOUND);
    cr_expect_eq(p.pulled[3], unsaid);
    cr_expect_eq(pair_get(&p, "a"), GW_ABSENT);
    cr_expect_eq(pair_get(&p, "b"), GW_OK);

    for (int i = 0; i < 4; i++)
        p.pulled[i] = unsaid;
    answer = (struct frame){malloc(512), 0};
    answer.size = gw_outgoing_pull_more(&f, late, answer.bytes, GW_FRAME_HEADER + 4 + bytes);
    cr_expect_eq(pair_deliver_answer(&p, answer, 4), GW_OK);
    cr_expect_eq(p.pulled[0], GW_OK);
    cr_expect_eq(p.pulled[1], unsaid);
    cr_expect_eq(p.pulled[2], unsaid);
    cr_expect_eq(p.pulled[3], unsaid, "it is read yet");
    cr_expect_eq(pair_get(&p, "a"), GW_OK);

    late[0] = (struct gw_pull_late){0};
    late[3].count = 1;
    answer = (struct frame){malloc(512), 0};
    answer.size = gw_outgoing_pull_more(&f, late, answer.bytes, GW_FRAME_HEADER + 5);
    p.pulled[0] = unsaid;
    cr_expect_eq(pair_deliver_answer(&p, answer, 4), GW_OK);
    cr_expect_eq(p.pulled[0], unsaid);
    cr_expect_eq(p.pulled[3], GW_RETRY);

    /* What cannot be read is said, so that nobody waits for it. */
    static const enum gw_status failures[] = {GW_E_UNREACHABLE, GW_E_CORRUPT, GW_E_IO};
    for (int i = 0; i < 3; i++) {
        uint8_t failed[1];
        late[i] = (struct gw_pull_late){failed, gw_outgoing_pull_late(p.out, NULL, failures[i],
                                                                      failed, sizeof failed)};
        answer = (struct frame){malloc(512), 0};
        answer.size = gw_outgoing_pull_more(&f, late, answer.bytes, GW_FRAME_HEADER + 5);
        cr_expect_eq(pair_deliver_answer(&p, answer, 4), GW_OK);
        cr_expect_eq(p.pulled[i], failures[i]);
        late[i] = (struct gw_pull_late){0};
    }

    /* A job that is over says nothing of a key. */
    uint8_t one[8];
    cr_expect_eq(gw_outgoing_pull_late(NULL, &op, GW_NOT_FOUND, one, sizeof one), 1);
    cr_expect_eq(one[0], 2);
    cr_expect_eq(gw_outgoing_pull_late(p.out, NULL, GW_MOVED, one, sizeof one), 1);
    cr_expect_eq(one[0], 2);
    free(late_a);
    frame_free(pull);
    pair_close(&p);
}
