/* Goal: what arrives never undoes anything, is complete only when it is, and "not found" is said
 * only when it is known. How: real stores, one thread, the order of events is the test's. */
#include "migration/incoming.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pair.h"

Test(incoming, what_the_new_owner_wrote_stays)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    side_put(&p.s, "a", "old");
    side_put(&p.s, "b", "old");
    side_put(&p.t, "a", "new");
    side_put(&p.t, "b", "new");
    side_del(&p.t, "b");
    pair_ship(&p);
    cr_expect_eq(pair_get(&p, "a"), GW_OK);
    cr_expect_arr_eq(p.t.op.out, "new", 3);
    cr_expect_eq(pair_get(&p, "b"), GW_NOT_FOUND);
    pair_close(&p);
}

Test(incoming, a_chunk_is_complete_with_its_last_frame_only)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    p.buckets_max = 500;
    char key[32];
    for (uint32_t i = 0; i < 2000; i++) {
        snprintf(key, sizeof key, "key%u", i);
        side_add(&p.s, key, i);
    }
    uint32_t frames = 0;
    for (;;) {
        struct frame frame = pair_fill(&p, 0);
        if (frame.size == 0) {
            frame_free(frame);
            break;
        }
        frames++;
        struct gw_frame f = frame_header(frame);
        uint64_t hash = gw_chunk_first((uint32_t)(f.sequence >> 32), 1);
        cr_assert_not(gw_incoming_complete(p.in, hash));
        cr_assert_eq(pair_deliver(&p, frame), GW_OK);
        bool last = f.flags & GW_CHUNK_LAST;
        cr_assert_eq(gw_incoming_complete(p.in, hash), last);
        cr_assert_eq(p.result.ack_due, last);
        cr_assert_eq(p.result.completed_all, last && gw_incoming_done(p.in));
        frame_free(frame);
    }
    cr_expect_gt(frames, 4);
    cr_expect(gw_incoming_done(p.in));
    pair_close(&p);
}

Test(incoming, a_gap_in_a_chunk_is_refused_and_a_repeat_is_dropped)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    p.buckets_max = 500;
    char key[32];
    for (uint32_t i = 0; i < 3000; i++) {
        snprintf(key, sizeof key, "key%u", i);
        side_add(&p.s, key, i);
    }
    struct frame a = pair_fill(&p, 0), b = pair_fill(&p, 0), c = pair_fill(&p, 0);
    cr_assert_eq((uint32_t)frame_header(c).sequence, 2);
    cr_expect_eq(pair_deliver(&p, a), GW_OK);
    cr_expect_eq(pair_deliver(&p, c), GW_E_PROTOCOL);
    cr_expect_eq(pair_deliver(&p, a), GW_OK, "it came already");
    cr_expect_eq(pair_deliver(&p, b), GW_OK);
    cr_expect_eq(pair_deliver(&p, c), GW_OK);
    struct gw_incoming_progress progress;
    gw_incoming_progress(p.in, &progress);
    cr_expect_eq(progress.records,
                 frame_header(a).count + frame_header(b).count + frame_header(c).count);
    frame_free(a);
    frame_free(b);
    frame_free(c);
    pair_close(&p);
}

Test(incoming, keys_of_other_slots_and_chunks_are_refused)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    side_put(&p.s, "foo", "1"); /* slot 12182 */
    struct frame frame = pair_fill(&p, 0);
    while (frame_header(frame).count == 0) {
        frame_free(frame);
        frame = pair_fill(&p, 0);
    }
    struct gw_slots few;
    cr_assert_eq(gw_slots_parse("0-100", &few, NULL, 0), GW_OK);
    struct gw_incoming *other, *mine = p.in;
    cr_assert_eq(gw_incoming_create(1, &few, 2, gw_incoming_attempt(p.in), &other), GW_OK);
    p.in = other;
    cr_expect_eq(pair_deliver_only(&p, frame), GW_E_PROTOCOL);
    p.in = mine;
    struct gw_frame f = frame_header(frame);
    f.sequence ^= (uint64_t)1 << 32;
    gw_frame_encode(&f, frame.bytes);
    cr_expect_eq(pair_deliver_only(&p, frame), GW_E_PROTOCOL, "the neighbour's chunk");
    f.sequence = (uint64_t)4 << 32;
    gw_frame_encode(&f, frame.bytes);
    cr_expect_eq(pair_deliver_only(&p, frame), GW_E_PROTOCOL, "no such chunk");
    cr_expect_eq(side_get(&p.t, "foo"), GW_NOT_FOUND);
    gw_incoming_destroy(other);
    frame_free(frame);
    pair_close(&p);
}

Test(incoming, a_frame_that_is_cut_or_claims_too_much_is_refused)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    char key[32];
    for (uint32_t i = 0; i < 20; i++) {
        snprintf(key, sizeof key, "key%u", i);
        side_put(&p.s, key, "some value");
    }
    struct frame frame = pair_fill(&p, 0);
    struct gw_frame whole = frame_header(frame);
    for (uint32_t bytes = GW_FRAME_HEADER; bytes < whole.bytes; bytes++) {
        struct gw_frame f = whole;
        f.bytes = bytes;
        gw_frame_encode(&f, frame.bytes);
        cr_assert_eq(pair_deliver_only(&p, (struct frame){frame.bytes, bytes}), GW_E_PROTOCOL);
    }
    struct gw_frame f = whole;
    f.count = UINT32_MAX;
    gw_frame_encode(&f, frame.bytes);
    cr_expect_eq(pair_deliver_only(&p, frame), GW_E_PROTOCOL);
    f.count = whole.count - 1;
    gw_frame_encode(&f, frame.bytes);
    cr_expect_eq(pair_deliver_only(&p, frame), GW_E_PROTOCOL, "bytes left over");
    gw_frame_encode(&whole, frame.bytes);
    cr_expect_eq(pair_deliver_only(&p, frame), GW_OK, "none of that was counted");
    frame_free(frame);
    pair_close(&p);
}

Test(incoming, a_full_target_asks_for_the_frame_again_and_loses_nothing)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1, .t_log_pages = 2});
    static char value[1000];
    memset(value, 'v', sizeof value - 1);
    char key[32];
    for (uint32_t i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key%u", i);
        cr_assert_eq(side_put(&p.s, key, value), GW_OK);
    }
    enum gw_status st = GW_OK;
    for (uint32_t i = 0; i < 100 && st == GW_OK; i++) {
        struct frame frame = pair_fill(&p, 0);
        cr_assert_neq(frame.size, 0);
        st = pair_deliver(&p, frame);
        if (st == GW_WOULD_BLOCK)
            cr_expect_eq(pair_deliver(&p, frame), GW_WOULD_BLOCK, "nothing was freed");
        frame_free(frame);
    }
    cr_expect_eq(st, GW_WOULD_BLOCK);
    cr_expect_not(gw_incoming_done(p.in));
    struct gw_incoming_progress progress;
    gw_incoming_progress(p.in, &progress);
    cr_expect_eq(progress.blocked, 2);
    pair_close(&p);
}

/* ---- holes of MIGRATION.md ----------------------------------------------------------------- */

Test(incoming, hole_6_late_pull_answer_does_not_resurrect)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    side_put(&p.s, "k", "1");
    struct frame late = pair_answer(&p, pair_pull(&p, (const char *const[]){"k"}, 1));
    pair_ship(&p);
    cr_assert_eq(pair_get(&p, "k"), GW_OK);
    cr_assert_eq(side_del(&p.t, "k"), GW_OK);
    /* The tombstone is dropped: allowed, for the chunk is complete. */
    struct gw_cursor cursor = {0};
    uint64_t unlinked = 0;
    gw_store_enter(p.t.thread);
    gw_store_unlink(p.t.thread, &cursor, UINT64_MAX, &p.slots, UINT32_MAX, &unlinked);
    gw_store_exit(p.t.thread);
    cr_expect_eq(pair_deliver_answer(&p, late, 1), GW_OK);
    cr_expect_eq(p.pulled[0], GW_OK, "start over: its chunk is complete");
    cr_expect_eq(pair_get(&p, "k"), GW_NOT_FOUND);
    pair_close(&p);
}

Test(incoming, hole_6_a_frame_sent_again_on_a_new_connection_does_not_resurrect)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    side_put(&p.s, "k", "1");
    struct frame frame[2] = {pair_fill(&p, 0), pair_fill(&p, 0)};
    for (uint32_t i = 0; i < 2; i++)
        cr_assert_eq(pair_deliver_only(&p, frame[i]), GW_OK); /* the acks are lost */
    gw_outgoing_restart(p.out, gw_outgoing_attempt(p.out) + 1, false);
    gw_incoming_restart(p.in, gw_outgoing_attempt(p.out));
    side_del(&p.t, "k");
    struct gw_cursor cursor = {0};
    uint64_t unlinked = 0;
    gw_store_enter(p.t.thread);
    gw_store_unlink(p.t.thread, &cursor, UINT64_MAX, &p.slots, UINT32_MAX, &unlinked);
    gw_store_exit(p.t.thread);
    for (uint32_t i = 0; i < 2; i++)
        cr_expect_eq(pair_deliver(&p, frame[i]), GW_OK, "of the old attempt: dropped");
    cr_expect_not(gw_outgoing_done(p.out));
    pair_ship(&p);
    cr_expect_eq(pair_get(&p, "k"), GW_NOT_FOUND);
    cr_expect(gw_outgoing_done(p.out), "dropped, but acknowledged");
    frame_free(frame[0]);
    frame_free(frame[1]);
    pair_close(&p);
}

Test(incoming, hole_10_not_found_is_said_only_of_a_chunk_complete_before_the_lookup)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    side_put(&p.s, "k", "1");
    uint64_t hash = side_hash(&p.t, "k");
    /* T0 asks for completeness, T1 inserts k and completes the chunk, T0 looks up. */
    bool complete_before = gw_incoming_complete(p.in, hash);
    cr_assert_not(complete_before);
    cr_expect_eq(side_verb(&p.t, GW_VERB_READ, "k", GW_OP_UNSETTLED), GW_ABSENT);
    pair_ship(&p);
    cr_expect_eq(side_verb(&p.t, GW_VERB_READ, "k", GW_OP_UNSETTLED), GW_OK);
    cr_expect(gw_incoming_complete(p.in, hash));
    cr_expect_eq(pair_get(&p, "absent"), GW_NOT_FOUND, "known: every chunk is complete");
    pair_close(&p);
}

Test(incoming, hole_11_a_negative_answer_counts_only_if_the_key_is_still_not_there)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    struct frame negative = pair_answer(&p, pair_pull(&p, (const char *const[]){"k"}, 1));
    side_put(&p.t, "k", "written here meanwhile"); /* a blind write of somebody else */
    cr_expect_eq(pair_deliver_answer(&p, negative, 1), GW_OK);
    cr_expect_eq(p.pulled[0], GW_NOT_FOUND);
    /* So the operation starts over, now without UNSETTLED. */
    cr_expect_eq(side_get(&p.t, "k"), GW_OK);
    pair_close(&p);
}

Test(incoming, rule_12_answers_of_an_earlier_life_of_the_source_are_dropped)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    side_put(&p.s, "k", "1");
    struct frame late = pair_answer(&p, pair_pull(&p, (const char *const[]){"k"}, 1));
    struct frame frame = pair_fill(&p, 0);
    gw_incoming_restart(p.in, gw_attempt_first(PAIR_INCARNATION + 1));
    cr_expect_eq(pair_deliver_answer(&p, late, 1), GW_RETRY, "ask again");
    cr_expect_eq(p.pulled_keys, 0);
    cr_expect_eq(pair_deliver(&p, frame), GW_OK);
    cr_expect_not(p.result.ack_due);
    cr_expect_eq(pair_get(&p, "k"), GW_ABSENT);
    frame_free(frame);
    pair_close(&p);
}

Test(incoming, hole_25_a_range_that_was_given_back_holds_nothing_of_before)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    /* T had the range once: what it still has is unlinked before it says "prepared". */
    side_put(&p.t, "k", "stale");
    side_put(&p.t, "gone", "stale");
    side_put(&p.s, "k", "1");
    struct gw_cursor cursor = {0};
    uint64_t unlinked = 0;
    gw_store_enter(p.t.thread);
    gw_store_unlink(p.t.thread, &cursor, UINT64_MAX, &p.slots, UINT32_MAX, &unlinked);
    gw_store_exit(p.t.thread);
    cr_expect_eq(unlinked, 2);
    pair_ship(&p);
    cr_expect_eq(pair_get(&p, "k"), GW_OK);
    cr_expect_arr_eq(p.t.op.out, "1", 1);
    cr_expect_eq(pair_get(&p, "gone"), GW_NOT_FOUND);
    pair_close(&p);
}

Test(incoming, hole_28_a_lost_answer_and_a_waiter_of_an_absent_key_are_never_stuck)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){0});
    side_add(&p.s, "k", 5);
    const char *keys[] = {"k", "absent"};
    frame_free(pair_answer(&p, pair_pull(&p, keys, 2))); /* lost with its connection */
    cr_expect_eq(pair_deliver_answer(&p, pair_answer(&p, pair_pull(&p, keys, 2)), 2), GW_OK);
    cr_expect_eq(p.pulled[0], GW_OK);
    cr_expect_eq(p.pulled[1], GW_NOT_FOUND);
    cr_expect_eq(pair_add(&p, "k", 1), GW_OK);
    cr_expect_eq(p.t.op.number, 6);
    cr_expect_eq(pair_add(&p, "absent", 1), GW_ABSENT);
    cr_expect_eq(side_add(&p.t, "absent", 1), GW_OK, "the negative answer settles it");
    pair_ship(&p);
    cr_expect_eq(pair_get(&p, "k"), GW_OK);
    cr_expect_eq(p.t.op.number, 6);
    pair_close(&p);
}

/* The frame as one of hot records: of no chunk's book. */
static void make_hot(struct frame frame)
{
    struct gw_frame f = frame_header(frame);
    f.flags = GW_CHUNK_HOT;
    f.sequence = 0;
    gw_frame_encode(&f, frame.bytes);
}

Test(incoming, hot_records_come_first_and_complete_nothing)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    side_put(&p.s, "one", "1");
    side_put(&p.s, "two", "2");
    side_put(&p.s, "three", "3");
    for (int chunk = 0; chunk < 2; chunk++) {
        struct frame frame = pair_fill(&p, 0);
        make_hot(frame);
        cr_assert_eq(pair_deliver(&p, frame), GW_OK);
        cr_expect_not(p.result.ack_due);
        cr_expect_not(p.result.completed_all);
        frame_free(frame);
    }
    cr_expect_eq(gw_incoming_chunks_done(p.in), 0);
    struct gw_incoming_progress progress;
    gw_incoming_progress(p.in, &progress);
    cr_expect_eq(progress.hot, 3);
    cr_expect_eq(pair_get(&p, "one"), GW_OK);
    cr_expect_eq(pair_get(&p, "two"), GW_OK);
    cr_expect_eq(pair_get(&p, "none"), GW_ABSENT, "not found may not be said");
    /* Each comes once more with its chunk. */
    gw_outgoing_restart(p.out, gw_outgoing_attempt(p.out) + 1, false);
    gw_incoming_restart(p.in, gw_outgoing_attempt(p.out));
    pair_ship(&p);
    cr_expect(gw_incoming_done(p.in));
    cr_expect_eq(pair_get(&p, "three"), GW_OK);
    pair_close(&p);
}

Test(incoming, hole_6_a_hot_record_that_comes_late_does_not_resurrect)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 1});
    side_put(&p.s, "k", "1");
    struct frame late[2], chunk[2];
    for (int i = 0; i < 2; i++) {
        late[i] = pair_fill(&p, 0);
        chunk[i] = (struct frame){malloc(late[i].size), late[i].size};
        memcpy(chunk[i].bytes, late[i].bytes, late[i].size);
        make_hot(late[i]);
    }
    /* Deleted at the target before it comes: the tombstone is an answer. */
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pair_deliver(&p, late[i]), GW_OK);
    cr_expect_eq(side_del(&p.t, "k"), GW_OK);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pair_deliver(&p, late[i]), GW_OK);
    cr_expect_eq(pair_get(&p, "k"), GW_NOT_FOUND);
    /* Its chunk is complete, nothing keeps the tombstone any more, and it comes again. */
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pair_deliver(&p, chunk[i]), GW_OK);
    cr_assert(gw_incoming_done(p.in));
    struct gw_cursor all = {0};
    uint64_t unlinked = 0;
    gw_store_enter(p.t.thread);
    gw_store_unlink(p.t.thread, &all, UINT64_MAX, &p.slots, UINT32_MAX, &unlinked);
    gw_store_exit(p.t.thread);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pair_deliver(&p, late[i]), GW_OK);
    cr_expect_eq(side_get(&p.t, "k"), GW_NOT_FOUND);
    for (int i = 0; i < 2; i++) {
        frame_free(late[i]);
        frame_free(chunk[i]);
    }
    pair_close(&p);
}

/* A CHUNK frame that holds this one indirection. */
static enum gw_status deliver_indirection(struct pair *p, uint16_t flags, uint32_t chunk,
                                          const struct gw_peer_indirection *m)
{
    uint8_t value[GW_PEER_INDIRECTION_BYTES], bytes[GW_FRAME_HEADER + 64];
    struct gw_peer_record record = gw_peer_indirection_record(m, value);
    struct gw_writer w = gw_writer_of(bytes + GW_FRAME_HEADER, 64);
    gw_peer_record_encode(&record, &w);
    struct frame frame = {bytes, GW_FRAME_HEADER + gw_writer_used(&w)};
    struct gw_frame f = {.bytes = (uint32_t)frame.size,
                         .kind = GW_KIND_CHUNK,
                         .flags = flags,
                         .count = 1,
                         .session = 1,
                         .sequence = (uint64_t)chunk << 32,
                         .view = gw_incoming_attempt(p->in)};
    gw_frame_encode(&f, bytes);
    return pair_deliver_only(p, frame);
}

Test(incoming, rule_15_an_indirection_covers_nothing_outside_of_its_chunk)
{
    struct pair p;
    pair_open(&p, &(struct pair_options){.chunk_bits = 2, .slots = "0-99"});
    struct gw_peer_indirection m = {.log_id = 9,
                                    .address = 65536,
                                    .hash_prefix = (uint64_t)1 << 62,
                                    .map_version = 3,
                                    .slot = 5,
                                    .prefix_bits = 2};
    cr_expect_eq(deliver_indirection(&p, GW_CHUNK_HOT, 0, &m), GW_E_PROTOCOL, "hot");
    cr_expect_eq(deliver_indirection(&p, 0, 2, &m), GW_E_PROTOCOL, "another chunk");
    struct gw_peer_indirection bad = m;
    bad.slot = 100;
    cr_expect_eq(deliver_indirection(&p, 0, 1, &bad), GW_E_PROTOCOL, "another slot");
    bad = m;
    bad.prefix_bits = 1;
    bad.hash_prefix = 0;
    cr_expect_eq(deliver_indirection(&p, 0, 0, &bad), GW_E_PROTOCOL, "several chunks");
    cr_expect(gw_incoming_links(p.in));
    /* This store has no shared tier: said, so that the next attempt brings records. */
    cr_expect_eq(deliver_indirection(&p, 0, 1, &m), GW_E_UNSUPPORTED);
    cr_expect_not(gw_incoming_links(p.in));
    pair_close(&p);
}
