/* Goal: what was read or changed while the source gathered goes first, each record of it once, no
 * more than asked for, and chunks begin behind it whatever happens.
 * How: a pair of stores (pair.h); the gathering is begun and ended by hand. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/indirection.h"
#include "pair.h"

#define KEYS 300u

static void fill_source(struct pair *p)
{
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16], value[24];
        snprintf(key, sizeof key, "key%u", i);
        snprintf(value, sizeof value, "value of %u", i);
        cr_assert_eq(side_put(&p->s, key, value), GW_OK);
    }
}

static void hot_bytes(struct pair *p, uint64_t bytes)
{
    gw_outgoing_set(p->out, &(struct gw_outgoing_options){.hot_bytes = bytes, .map_version = 3});
}

/* Delivers hot frames of at most room_bytes until there is none; returns how many records. */
static uint32_t ship_hot(struct pair *p, size_t room_bytes)
{
    uint8_t room[4096];
    uint32_t records = 0;
    cr_assert_leq(room_bytes, sizeof room);
    for (uint32_t turns = 0; turns < 100000; turns++) {
        size_t used;
        gw_store_enter(p->s.thread);
        enum gw_status st =
            gw_outgoing_fill(p->out, 0, p->s.thread, gw_outgoing_attempt(p->out), room, room_bytes,
                             1, &used); /* of a chunk: one bucket */
        gw_store_exit(p->s.thread);
        cr_assert(st == GW_OK || st == GW_PENDING);
        if (!used)
            continue;
        struct frame frame = {room, used};
        struct gw_frame f = frame_header(frame);
        if (!(f.flags & GW_CHUNK_HOT)) {
            gw_outgoing_restart(p->out, gw_outgoing_attempt(p->out) + 1, false);
            gw_incoming_restart(p->in, gw_outgoing_attempt(p->out));
            return records;
        }
        cr_assert_eq(f.sequence, 0);
        records += f.count;
        cr_assert_eq(pair_deliver(p, frame), GW_OK);
        cr_expect_not(p->result.ack_due);
    }
    cr_assert_fail("chunks never begin");
    return records;
}

static void expect_all(struct pair *p)
{
    pair_ship(p);
    cr_expect(gw_incoming_done(p->in));
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        cr_expect_eq(pair_get(p, key), GW_OK, "%s", key);
    }
}

Test(hot, what_was_read_or_changed_meanwhile_goes_first)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    fill_source(&p);
    side_add(&p.s, "counter", 7);
    gw_store_sample(p.s.store, &p.slots);
    for (int again = 0; again < 2; again++) { /* each once, however often it is touched */
        side_get(&p.s, "key1");
        side_get(&p.s, "key77");
        side_put(&p.s, "key5", "newer");
        side_add(&p.s, "counter", 1);
    }
    side_put(&p.s, "born", "now");
    gw_store_sample(p.s.store, NULL);
    side_get(&p.s, "key200");
    hot_bytes(&p, 100000);
    cr_expect_eq(ship_hot(&p, 4096), 5);
    cr_expect_eq(gw_incoming_chunks_done(p.in), 0);
    cr_expect_eq(pair_get(&p, "key1"), GW_OK);
    cr_expect_eq(pair_get(&p, "key77"), GW_OK);
    cr_expect_eq(pair_get(&p, "born"), GW_OK);
    cr_assert_eq(pair_get(&p, "key5"), GW_OK);
    cr_expect(p.t.op.out_bytes == 5 && memcmp(p.t.op.out, "newer", 5) == 0);
    cr_assert_eq(pair_get(&p, "counter"), GW_OK);
    cr_expect_eq(p.t.op.number, 9);
    cr_expect_eq(pair_get(&p, "key200"), GW_ABSENT, "touched behind the end");
    cr_expect_eq(pair_get(&p, "key2"), GW_ABSENT);
    struct gw_outgoing_progress progress;
    gw_outgoing_progress(p.out, &progress);
    cr_expect_eq(progress.hot_records, 5);
    expect_all(&p);
    pair_close(&p);
}

Test(hot, slots_that_stay_are_changed_in_place_and_gather_nothing)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.slots = "0-8191"});
    fill_source(&p);
    struct gw_store_stats before, after;
    gw_store_sample(p.s.store, &p.slots);
    gw_store_stats(p.s.store, &before);
    uint32_t stay = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        (void)side_hash(&p.s, key);
        if (gw_slots_has(&p.slots, p.s.op.slot))
            continue;
        stay++;
        side_get(&p.s, key);
        side_put(&p.s, key, "value of 1");
    }
    gw_store_stats(p.s.store, &after);
    cr_expect_gt(stay, 100);
    cr_expect_eq(after.log_tail, before.log_tail);
    gw_store_sample(p.s.store, NULL);
    pair_close(&p);
}

Test(hot, a_bucket_larger_than_a_frame_goes_out_whole_and_chunks_begin)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.index_bytes = 64u << 10}); /* few buckets */
    fill_source(&p);
    gw_store_sample(p.s.store, &p.slots);
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        side_get(&p.s, key);
    }
    gw_store_sample(p.s.store, NULL);
    hot_bytes(&p, 1u << 20);
    cr_expect_eq(ship_hot(&p, GW_FRAME_HEADER + 44), KEYS); /* one record a frame */
    expect_all(&p);
    pair_close(&p);
}

Test(hot, no_more_bytes_than_asked_for_go_first)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    fill_source(&p);
    gw_store_sample(p.s.store, &p.slots);
    for (uint32_t i = 0; i < KEYS; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        side_get(&p.s, key);
    }
    gw_store_sample(p.s.store, NULL);
    hot_bytes(&p, 1000);
    uint32_t records = ship_hot(&p, 4096);
    cr_expect_gt(records, 10);
    cr_expect_lt(records, 50);
    expect_all(&p);
    pair_close(&p);
}

Test(hot, other_slots_that_gather_too_lose_nothing_of_what_was_there)
{
    struct pair p;
    struct gw_slots all;
    pair_open(&p, &(struct pair_options){.slots = "0-8191"});
    fill_source(&p);
    gw_store_sample(p.s.store, &p.slots);
    uint32_t range = 0;
    for (uint32_t i = 0; i < 50; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        side_get(&p.s, key);
        range += gw_slots_has(&p.slots, p.s.op.slot);
    }
    cr_assert_eq(gw_slots_parse("0-16383", &all, NULL, 0), GW_OK);
    gw_store_sample(p.s.store, &all); /* another job begins, and ends */
    gw_store_sample(p.s.store, &p.slots);
    gw_store_sample(p.s.store, NULL);
    hot_bytes(&p, 100000);
    cr_expect_eq(ship_hot(&p, 4096), range);
    pair_close(&p);
}

Test(hot, a_restart_begins_them_over_only_for_who_has_nothing)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    fill_source(&p);
    gw_store_sample(p.s.store, &p.slots);
    for (uint32_t i = 0; i < 20; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        side_get(&p.s, key);
    }
    gw_store_sample(p.s.store, NULL);
    hot_bytes(&p, 100000);
    cr_expect_eq(ship_hot(&p, 4096), 20);
    cr_expect_eq(ship_hot(&p, 4096), 0, "a lost connection");
    uint64_t attempt = gw_outgoing_attempt(p.out) + 1;
    gw_outgoing_restart(p.out, attempt, true);
    gw_incoming_restart(p.in, attempt);
    cr_expect_eq(ship_hot(&p, 4096), 20, "a target that has restarted");
    expect_all(&p);
    pair_close(&p);
}
