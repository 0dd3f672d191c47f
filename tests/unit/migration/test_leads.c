/* Goal: a pull's "it lies there" (MIGRATION R15): said only of a key of which nothing is in front
 * of that address, only of what is shared, only to who asked; what is found there serves who waits,
 * is inserted only while the chunk is incomplete (R11, hole 12), and is never linked. How: a pair
 * of stores (pair.h) over devices that know each other; every step by hand. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pair.h"

static struct pair p;

static void setup(void)
{
    pair_open(&p, &(struct pair_options){.shared_pages = 12, .index_bytes = 1 << 16});
    gw_outgoing_set(p.out, &(struct gw_outgoing_options){.map_version = 3});
    gw_outgoing_indirect(p.out, true);
    gw_store_keep_tombstones(p.t.store, &p.slots);
    gw_store_resolve_rate(p.s.store, 0); /* nothing is compacted for thrift either */
    gw_store_resolve_rate(p.t.store, 0);
    p.leads = true;
}

static void teardown(void)
{
    pair_close(&p);
}

TestSuite(leads, .init = setup, .fini = teardown, .timeout = 60);

static uint64_t tail(struct side *side)
{
    struct gw_store_stats stats;
    gw_store_stats(side->store, &stats);
    return stats.log_tail;
}

static uint64_t flushed(struct side *side)
{
    struct gw_store_stats stats;
    gw_store_stats(side->store, &stats);
    return stats.log_flushed;
}

/* All that is in the source's log goes to its device; `share`: and to the others. */
static void push_out(bool share)
{
    static const char value[3000];
    static uint32_t fillers;
    uint64_t end = tail(&p.s);
    for (uint32_t i = 0; i < 400; i++) {
        char key[24];
        snprintf(key, sizeof key, "filler%u", fillers++ % 500);
        p.s.op = (struct gw_op){.verb = GW_VERB_UPSERT,
                                .key = (const uint8_t *)key,
                                .key_bytes = (uint16_t)strlen(key),
                                .value = (const uint8_t *)value,
                                .value_bytes = sizeof value};
        cr_assert_eq(side_run(&p.s), GW_OK);
    }
    for (uint32_t n = 0; n < 100000 && flushed(&p.s) < end; n++)
        side_turn(&p.s);
    cr_assert_geq(flushed(&p.s), end);
    if (share)
        gw_ram_device_share(p.s.ram, gw_addr_of(end & ~(uint64_t)0xffff));
}

/* As push_out, and `end` lies in what is shared. */
static void cold(void)
{
    push_out(false);
    push_out(true);
}

/* What the source says of the key; asked for again until it says something. */
static enum gw_status asked(const char *key)
{
    for (uint32_t n = 0; n < 1000; n++) {
        cr_assert_eq(pair_deliver_answer(&p, pair_answer(&p, pair_pull(&p, &key, 1)), 1), GW_OK);
        cr_assert_eq(p.pulled_keys, 1);
        if (p.pulled[0] != GW_RETRY)
            return p.pulled[0];
        side_turn(&p.s);
        side_turn(&p.t);
    }
    return GW_RETRY;
}

static enum gw_status follow(const char *key)
{
    for (uint32_t n = 0; n < 1000; n++) {
        gw_store_enter(p.t.thread);
        enum gw_status st =
            gw_incoming_follow(p.in, p.t.thread, p.t.store, &p.lead[0], (const uint8_t *)key,
                               (uint16_t)strlen(key), p.t.room, p.t.room_bytes);
        gw_store_exit(p.t.thread);
        if (st != GW_PENDING && st != GW_NOT_YET)
            return st;
        side_turn(&p.t);
    }
    return GW_PENDING;
}

static void expect_value(const char *key, const char *value)
{
    cr_assert_eq(pair_get(&p, key), GW_OK, "%s", key);
    cr_expect(p.t.op.out_bytes == strlen(value) && memcmp(p.t.op.out, value, p.t.op.out_bytes) == 0,
              "%s is %.*s", key, (int)p.t.op.out_bytes, (const char *)p.t.op.out);
}

static struct gw_indirection_stats links_of(struct side *side)
{
    struct gw_indirection_stats stats;
    gw_store_indirection_stats(side->store, &stats);
    return stats;
}

Test(leads, a_cold_key_is_told_where_it_lies_and_read_there)
{
    side_put(&p.s, "cold", "as it was");
    side_add(&p.s, "number", 41);
    cold();
    cr_assert_eq(pair_get(&p, "cold"), GW_ABSENT);
    cr_assert_eq(asked("cold"), GW_END);
    cr_expect_eq(pair_get(&p, "cold"), GW_ABSENT, "nothing has been brought");
    cr_assert_eq(follow("cold"), GW_OK);
    expect_value("cold", "as it was");
    cr_assert_eq(asked("number"), GW_END);
    cr_assert_eq(follow("number"), GW_OK);
    cr_assert_eq(pair_add(&p, "number", 1), GW_OK);
    cr_expect_eq(p.t.op.number, 42);
    cr_expect_eq(links_of(&p.t).linked, 0);
    struct gw_outgoing_progress sent;
    struct gw_incoming_progress taken;
    gw_outgoing_progress(p.out, &sent);
    gw_incoming_progress(p.in, &taken);
    cr_expect_eq(sent.pull_leads, 2);
    cr_expect_eq(taken.led, 2);
    cr_expect_eq(taken.pulled, 0);
    cr_expect_lt(sent.bytes, 2 * (GW_FRAME_HEADER + 64));
    pair_ship(&p); /* what comes with the chunks does not undo it */
    cr_expect(gw_incoming_done(p.in));
    cr_assert_eq(pair_add(&p, "number", 0), GW_OK);
    cr_expect_eq(p.t.op.number, 42);
}

Test(leads, what_is_in_memory_is_sent_and_what_was_deleted_there_too)
{
    side_put(&p.s, "newer", "cold");
    side_put(&p.s, "gone", "cold");
    cold();
    side_put(&p.s, "newer", "in memory");
    side_del(&p.s, "gone");
    cr_expect_eq(asked("newer"), GW_OK);
    expect_value("newer", "in memory");
    cr_expect_eq(asked("gone"), GW_OK, "its tombstone is a record");
    cr_expect_eq(pair_get(&p, "gone"), GW_NOT_FOUND);
}

Test(leads, what_is_not_shared_yet_is_read_by_the_source)
{
    side_put(&p.s, "key", "on the device only");
    push_out(false);
    push_out(false);
    cr_assert_eq(asked("key"), GW_OK);
    expect_value("key", "on the device only");
}

Test(leads, only_who_asks_for_leads_gets_any_and_only_where_indirections_are_allowed)
{
    side_put(&p.s, "one", "1");
    side_put(&p.s, "two", "2");
    cold();
    p.leads = false;
    cr_assert_eq(asked("one"), GW_OK);
    expect_value("one", "1");
    p.leads = true;
    gw_outgoing_indirect(p.out, false);
    cr_assert_eq(asked("two"), GW_OK);
    expect_value("two", "2");
}

Test(leads, a_key_that_is_not_there_is_absent_behind_its_lead_too)
{
    /* Keys that share a chain with a cold one: their look-up goes on where it lies. */
    for (int i = 0; i < 2000; i++) {
        char key[24];
        snprintf(key, sizeof key, "{t}k%d", i);
        side_put(&p.s, key, "v");
    }
    cold();
    uint32_t led = 0;
    for (int i = 0; i < 3000 && led < 3; i++) {
        char key[24];
        snprintf(key, sizeof key, "{t}none%d", i);
        enum gw_status st = asked(key);
        if (st == GW_NOT_FOUND)
            continue;
        cr_assert_eq(st, GW_END);
        cr_expect_eq(follow(key), GW_NOT_FOUND);
        cr_expect_eq(pair_get(&p, key), GW_ABSENT, "nothing was inserted");
        led++;
    }
    cr_expect_gt(led, 0);
}

Test(leads, hole_12_nothing_is_read_or_inserted_once_the_chunk_is_complete)
{
    side_put(&p.s, "key", "old");
    cold();
    cr_assert_eq(asked("key"), GW_END);
    pair_ship(&p);
    cr_assert(gw_incoming_done(p.in));
    cr_assert_eq(side_del(&p.t, "key"), GW_OK);
    uint64_t followed = links_of(&p.t).followed;
    cr_expect_eq(follow("key"), GW_OK, "start over");
    cr_expect_eq(links_of(&p.t).followed, followed);
    cr_expect_eq(pair_get(&p, "key"), GW_NOT_FOUND);
}

Test(leads, hole_12_what_was_read_before_the_chunk_was_complete_is_not_inserted_behind_it)
{
    side_put(&p.s, "key", "old");
    cold();
    cr_assert_eq(asked("key"), GW_END);
    gw_store_enter(p.t.thread);
    cr_assert_eq(gw_incoming_follow(p.in, p.t.thread, p.t.store, &p.lead[0], (const uint8_t *)"key",
                                    3, p.t.room, p.t.room_bytes),
                 GW_PENDING);
    gw_store_exit(p.t.thread);
    pair_ship(&p);
    cr_assert(gw_incoming_done(p.in));
    cr_expect_eq(follow("key"), GW_OK);
    struct gw_incoming_progress taken;
    gw_incoming_progress(p.in, &taken);
    cr_expect_eq(taken.led, 0);
    expect_value("key", "old"); /* by the chunk's indirection */
}

Test(leads, a_write_that_came_first_stays)
{
    side_put(&p.s, "key", "old");
    cold();
    cr_assert_eq(asked("key"), GW_END);
    side_put(&p.t, "key", "new"); /* blind */
    cr_expect_eq(follow("key"), GW_OK);
    expect_value("key", "new");
}

Test(leads, one_of_an_earlier_life_of_the_source_or_of_another_job_is_asked_for_again)
{
    side_put(&p.s, "key", "old");
    cold();
    cr_assert_eq(asked("key"), GW_END);
    p.lead[0].job++;
    cr_expect_eq(follow("key"), GW_RETRY);
    p.lead[0].job--;
    gw_incoming_restart(p.in, gw_attempt_first(PAIR_INCARNATION + 1));
    cr_expect_eq(follow("key"), GW_RETRY);
    cr_expect_eq(pair_get(&p, "key"), GW_ABSENT);
}

Test(leads, a_chain_with_an_indirection_is_read_by_the_source)
{
    /* The source holds an indirection itself, above what is cold: behind the lead it would not be
     * met. */
    side_put(&p.s, "key", "here");
    cold();
    uint64_t hash = side_hash(&p.s, "key");
    const struct gw_indirection in = {.log_id = 52,
                                      .address = 1 << 16,
                                      .hash_prefix = hash,
                                      .prefix_bits = 64,
                                      .map_version = 1,
                                      .slot = p.s.op.slot,
                                      .begin = 1 << 16};
    gw_store_enter(p.s.thread);
    cr_assert_eq(gw_store_link(p.s.thread, &in), GW_OK);
    gw_store_exit(p.s.thread);
    cr_assert_eq(asked("key"), GW_OK);
    expect_value("key", "here");
}

Test(leads, what_cannot_be_read_there_is_an_error_and_then_the_source_reads_it)
{
    side_put(&p.s, "key", "old");
    cold();
    cr_assert_eq(asked("key"), GW_END);
    gw_ram_device_fail(p.t.ram, GW_RAM_READ, 0, 1, GW_E_UNREACHABLE);
    cr_expect_eq(follow("key"), GW_E_UNREACHABLE);
    p.leads = false;
    cr_assert_eq(asked("key"), GW_OK);
    expect_value("key", "old");
}

Test(leads, one_that_is_not_of_this_key_or_says_what_none_can_say_is_refused)
{
    side_put(&p.s, "key", "old");
    cold();
    cr_assert_eq(asked("key"), GW_END);
    struct gw_incoming_lead good = p.lead[0];
    p.lead[0].to.hash_prefix ^= 1;
    cr_expect_eq(follow("key"), GW_E_INVALID);
    p.lead[0] = good;
    p.lead[0].to.address |= 1;
    cr_expect_eq(follow("key"), GW_E_INVALID);
    p.lead[0] = good;
    p.lead[0].to.slot ^= 1;
    cr_expect_eq(follow("key"), GW_E_INVALID);
    p.lead[0] = good;
    cr_expect_eq(follow("key"), GW_OK);
}
