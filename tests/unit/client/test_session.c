/* A session against scripted servers: batching, order, refusals, returned and pending operations,
 * bounds. Loss and time are in test_session_loss.c. */
#include "peer.h"

#include <criterion/criterion.h>
#include <string.h>

#define KEY_SAME "{k}1" /* two keys of one slot */
#define KEY_TOO  "{k}2"
#define A        (&w->server[0])
#define B        (&w->server[1])

static struct gw_session_options options_of(uint32_t batch_operations, uint32_t batches)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.operations_max = 64;
    o.batch_operations = batch_operations;
    o.batches_in_flight = batches;
    return o;
}

static void expect_answers(struct world *w, uint32_t count, const int *tags)
{
    cr_assert_eq(w->answers, count, "%u answers instead of %u", w->answers, count);
    for (uint32_t i = 0; i < count; i++)
        cr_expect_eq(w->answer[i].tag, tags[i], "answer %u is of %d", i, w->answer[i].tag);
}

/* Opens the session's connection to A, with nothing in flight afterwards. */
static struct world *connected_world(const struct gw_session_options *o)
{
    struct world *w = world_create(o, 1);
    cr_assert_eq(world_add(w, "hello", 1, -1), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 1);
    w->answers = 0;
    return w;
}

Test(session, answers_reach_callbacks_in_the_order_of_issue_with_their_numbers)
{
    struct world *w = world_create(NULL, 1);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    cr_assert_eq(world_get(w, "y", 2), GW_OK);
    cr_assert_eq(world_add(w, "x", 5, 3), GW_OK);
    world_run(w, 20 * MS);
    struct peer_batch *b = peer_batch(A);
    cr_assert_not_null(b);
    cr_expect_eq(b->count, 3, "they travel in one batch");
    cr_expect_eq(b->head.sequence, 1);
    cr_expect_eq(b->head.view, 1);
    cr_expect_eq(b->head.confirmed, 1, "nothing is answered yet");
    cr_expect_eq(b->op[0].serial, 1);
    cr_expect_eq(b->op[2].serial, 3);
    cr_expect_eq(b->op[1].verb, GW_WIRE_READ);
    cr_expect_eq(b->op[2].number, 5);
    cr_expect_eq(gw_in_flight(w->session), 3);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    expect_answers(w, 3, (int[]){1, 2, 3});
    cr_expect_eq(w->answer[2].number, 102);
    cr_expect_eq(gw_in_flight(w->session), 0);
    world_destroy(w);
}

Test(session, a_callback_never_runs_inside_the_issuing_call)
{
    struct gw_session_options o = options_of(4, 2);
    struct world *w = connected_world(&o);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK); /* the fourth sends a batch */
    struct gw_net *net;
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 2);
    peer_reply(A, GW_OK);
    peer_reply(A, GW_OK);
    while (gw_loop_step(w->loop, &net) && net != w->session->net)
        gw_net_poll(net, 0);
    for (int i = 8; i < 16; i++) /* the answers are there to be taken */
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    gw_flush(w->session);
    cr_expect_eq(w->answers, 0, "a callback ran outside of gw_poll");
    cr_expect_gt(gw_poll(w->session, 0), 0);
    cr_expect_gt(w->answers, 0);
    world_destroy(w);
}

Test(session, a_full_batch_leaves_at_once_and_the_rest_waits_for_an_answer)
{
    struct gw_session_options o = options_of(4, 2);
    struct world *w = connected_world(&o);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    cr_expect_eq(w->session->stats.batches, 2, "full: sent by the issuing call");
    for (int i = 4; i < 7; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(A->batches, 1, "three more wait while a batch is in flight");
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 1);
    cr_expect_eq(peer_batch(A)->count, 3);
    cr_expect_eq(peer_batch(A)->head.confirmed, 6, "hello and the first four are answered");
    gw_flush(w->session);
    cr_assert_eq(world_add(w, "x", 1, 7), GW_OK);
    gw_flush(w->session);
    world_run(w, 20 * MS);
    cr_expect_eq(A->batches, 2, "a flush does not wait");
    cr_assert_eq(world_add(w, "x", 1, 8), GW_OK);
    gw_flush(w->session);
    world_run(w, 20 * MS);
    cr_expect_eq(A->batches, 2, "but two batches in flight are the bound");
    world_destroy(w);
}

Test(session, an_add_with_an_eight_byte_key_takes_24_bytes_of_a_frame)
{
    struct world *w = world_create(NULL, 1);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(gw_add(w->session, "12345678", 8, 1, 0, NULL, NULL), GW_OK);
    world_run(w, 20 * MS);
    cr_assert_not_null(peer_batch(A));
    cr_expect_eq(peer_batch(A)->head.bytes, GW_FRAME_HEADER + 10 * 24);
    cr_expect_str_eq(peer_batch(A)->op[9].key, "12345678");
    world_destroy(w);
}

Test(session, keys_and_values_of_any_length_arrive_as_they_were)
{
    struct world *w = world_create(NULL, 1);
    static char key[70000], value[300000];
    memset(key, 'k', sizeof key);
    memset(value, 'v', sizeof value);
    cr_expect_eq(gw_set(w->session, key, 0, value, 1, NULL, NULL), GW_E_INVALID);
    cr_expect_eq(gw_set(w->session, key, 65536, value, 1, NULL, NULL), GW_E_INVALID);
    cr_expect_eq(gw_set(w->session, key, 65535, value, sizeof value, NULL, NULL), GW_OK);
    cr_expect_eq(gw_set(w->session, key, 5, value, 5 << 20, NULL, NULL), GW_E_TOO_LARGE);
    world_run(w, 50 * MS);
    cr_assert_not_null(peer_batch(A));
    cr_expect_eq(peer_batch(A)->head.bytes, GW_FRAME_HEADER + 8 + 65535 + 4 + sizeof value,
                 "larger than a batch: goes alone");
    world_destroy(w);
}

Test(session, what_is_larger_than_the_server_takes_fails_alone)
{
    struct world *w = world_create(NULL, 1);
    char *value = calloc(1, 2 << 20); /* the peers take frames of 1 MiB */
    cr_expect_eq(gw_set(w->session, "big", 3, value, 2 << 20, world_answer, world_ctx(w, 1)),
                 GW_OK);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    world_run(w, 50 * MS);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].status, GW_E_TOO_LARGE);
    cr_expect_eq(peer_batch(A)->count, 1);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    expect_answers(w, 2, (int[]){1, 2});
    free(value);
    world_destroy(w);
}

Test(session, operations_and_bytes_beyond_the_bounds_would_block)
{
    struct gw_session_options o = options_of(4, 2);
    o.operations_max = 5; /* rounded up to 8 */
    o.bytes_max = 1000;
    struct world *w = world_create(&o, 1);
    for (int i = 0; i < 8; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    cr_expect_eq(world_add(w, "x", 1, 8), GW_WOULD_BLOCK);
    world_run(w, 20 * MS);
    cr_expect_eq(world_add(w, "x", 1, 8), GW_WOULD_BLOCK);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    char value[900] = {0};
    cr_expect_eq(gw_set(w->session, "x", 1, value, sizeof value, NULL, NULL), GW_OK);
    cr_expect_eq(gw_set(w->session, "x", 1, value, sizeof value, NULL, NULL), GW_WOULD_BLOCK);
    while (gw_in_flight(w->session)) {
        world_run(w, 20 * MS);
        peer_reply(A, GW_OK);
        world_run(w, 20 * MS);
    }
    char large[2000] = {0};
    cr_expect_eq(gw_set(w->session, "x", 1, large, sizeof large, NULL, NULL), GW_OK,
                 "one operation beyond the bound goes when it is alone");
    world_destroy(w);
}

Test(session, a_reply_may_come_in_several_frames)
{
    struct world *w = world_create(NULL, 1);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    world_run(w, 20 * MS);
    peer_reply_part(A, 0, 2);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 2);
    peer_reply_part(A, 2, 3);
    world_run(w, 20 * MS);
    expect_answers(w, 5, (int[]){0, 1, 2, 3, 4});
    cr_expect_eq(w->answer[4].number, 104);
    cr_expect_eq(A->connections, 1);
    world_destroy(w);
}

/* MIGRATION hole 2: a batch behind a refused one must not overtake it. */
Test(session, after_a_refusal_everything_behind_it_goes_again_in_order_by_the_new_map)
{
    struct gw_session_options o = options_of(2, 3);
    struct world *w = connected_world(&o);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(world_add(w, KEY_SAME, 1, i), GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 3);
    world_move(w, GW_SLOTS, 0); /* a's view rises, nothing moves */
    peer_refuse(A, GW_WRONG_VIEW, w->map);
    world_run(w, 20 * MS);
    cr_assert_eq(world_add(w, KEY_SAME, 1, 6), GW_OK);
    gw_flush(w->session);
    world_run(w, 20 * MS);
    cr_expect_eq(A->batches, 2, "nothing is sent while refused batches are in flight");
    peer_refuse(A, GW_RETRY, w->map);
    peer_refuse(A, GW_RETRY, w->map);
    world_run(w, 20 * MS);
    uint64_t serial = 2;
    for (uint32_t i = 0; A->batches; i++) {
        struct peer_batch *b = peer_batch(A);
        cr_expect_eq(b->head.sequence, 5 + i, "the sequence goes on");
        cr_expect_eq(b->head.view, w->map->server[0].view);
        cr_expect_eq(b->head.flags, i == 0 ? GW_BATCH_RESUME : 0);
        for (uint32_t k = 0; k < b->count; k++) {
            cr_expect_eq(b->op[k].serial, serial++);
            cr_expect_eq(b->op[k].flags, 0, "refused is not executed: nothing to recognise");
        }
        peer_reply(A, GW_OK);
        world_run(w, 20 * MS);
    }
    expect_answers(w, 7, (int[]){0, 1, 2, 3, 4, 5, 6});
    cr_expect_eq(w->coordinator.connections, 0, "the refusal said all that was needed");
    cr_expect_eq(w->session->stats.refusals, 3);
    world_destroy(w);
}

Test(session, not_yet_keeps_the_newer_map_and_asks_again_after_a_while)
{
    struct world *w = connected_world(NULL);
    struct gw_map *old = gw_map_copy(w->map);
    world_move(w, GW_SLOTS, 0);
    cr_assert(gwi_cluster_offer(w->cluster, gw_map_copy(w->map)));
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    for (int i = 0; i < 5; i++) {
        world_run(w, 30 * MS);
        cr_assert_eq(A->batches, 1, "asked again, and once");
        cr_expect_eq(peer_batch(A)->head.view, 2);
        peer_refuse(A, GW_NOT_YET, old);
    }
    cr_expect_eq(w->session->map_version, 2);
    uint32_t batches = (uint32_t)w->session->stats.batches;
    world_run(w, 1 * MS + 100000);
    cr_expect_eq(w->session->stats.batches, batches, "not at once");
    world_run(w, 30 * MS);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    expect_answers(w, 1, (int[]){1});
    gw_map_destroy(old);
    world_destroy(w);
}

/* MIGRATION rule 6. */
Test(session, a_slot_goes_to_its_new_owner_only_when_the_old_one_has_answered)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, KEY_SAME, 1, 1), GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 1);
    world_move(w, gw_slot_of(KEY_SAME, 4), 1);
    cr_assert(gwi_cluster_offer(w->cluster, gw_map_copy(w->map)));
    cr_assert_eq(world_add(w, KEY_TOO, 1, 2), GW_OK);
    cr_assert_eq(world_add(w, "other", 1, 3), GW_OK);
    world_run(w, 100 * MS);
    cr_assert_eq(world_add(w, KEY_SAME, 1, 4), GW_OK);
    world_run(w, 100 * MS);
    cr_expect_eq(B->connections, 0, "b was asked although a has not answered");
    peer_reply(A, GW_OK);
    world_run(w, 100 * MS);
    cr_assert_not_null(peer_batch(B));
    cr_expect_eq(peer_batch(B)->count, 2);
    cr_expect_str_eq(peer_batch(B)->op[0].key, KEY_TOO);
    cr_expect_str_eq(peer_batch(B)->op[1].key, KEY_SAME);
    cr_assert_not_null(peer_batch(A));
    cr_expect_str_eq(peer_batch(A)->op[0].key, "other");
    world_destroy(w);
}

Test(session, what_comes_back_as_moved_goes_to_the_new_owner_before_later_ones_of_its_slot)
{
    struct gw_session_options o = options_of(2, 2);
    struct world *w = connected_world(&o);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(world_add(w, i == 1 ? "other" : KEY_SAME, 1, i), GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 2);
    A->map = w->map;
    world_move(w, gw_slot_of(KEY_SAME, 4), 1);
    peer_reply_each(A, (enum gw_status[]){GW_MOVED, GW_OK});
    world_run(w, 10 * MS);
    cr_expect_eq(A->map_gets, 1, "the server that knows is asked");
    cr_expect_eq(w->session->map_version, 2);
    cr_expect_eq(B->connections, 0, "later ones of the slot are still at a");
    peer_reply(A, GW_MOVED);
    world_run(w, 50 * MS);
    uint64_t serials[4];
    uint32_t n = 0;
    while (B->batches) {
        for (uint32_t i = 0; i < peer_batch(B)->count; i++)
            serials[n++] = peer_batch(B)->op[i].serial;
        peer_reply(B, GW_OK);
        world_run(w, 20 * MS);
    }
    cr_assert_eq(n, 4);
    cr_expect(serials[0] == 2 && serials[1] == 4 && serials[2] == 5 && serials[3] == 6);
    expect_answers(w, 5, (int[]){1, 0, 2, 3, 4});
    cr_expect_eq(A->batches, 0);
    world_destroy(w);
}

Test(session, moved_without_a_new_owner_asks_again_slower_and_slower)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    uint64_t batches = w->session->stats.batches;
    for (uint64_t passed = 0; passed < 200; passed++) {
        world_run(w, 1 * MS);
        if (A->batches)
            peer_reply(A, GW_MOVED);
    }
    uint64_t tries = w->session->stats.batches - batches;
    cr_expect(tries >= 8 && tries <= 20, "%lu tries in 200 ms", (unsigned long)tries);
    world_run(w, 30 * MS);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    expect_answers(w, 1, (int[]){1});
    world_destroy(w);
}

Test(session, a_busy_key_goes_again_to_the_same_server)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_RETRY);
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 1);
    cr_expect_eq(peer_batch(A)->op[0].flags, 0);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    expect_answers(w, 1, (int[]){1});
    cr_expect_eq(A->map_gets, 0);
    world_destroy(w);
}

Test(session, behind_a_returned_operation_nothing_of_its_slot_is_sent_first)
{
    struct gw_session_options o = options_of(1, 1);
    struct world *w = connected_world(&o);
    cr_assert_eq(world_add(w, KEY_SAME, 1, 0), GW_OK);
    cr_assert_eq(world_add(w, KEY_TOO, 1, 1), GW_OK); /* stands in the list */
    world_run(w, 20 * MS);
    peer_reply(A, GW_RETRY);
    world_run(w, 900000);                             /* less than the pause before the next try */
    cr_assert_eq(world_add(w, KEY_TOO, 1, 2), GW_OK); /* comes while the first one waits */
    for (uint64_t serial = 2; serial <= 4; serial++) {
        world_run(w, 20 * MS);
        cr_assert_eq(A->batches, 1);
        cr_expect_eq(peer_batch(A)->op[0].serial, serial);
        peer_reply(A, GW_OK);
    }
    world_run(w, 20 * MS);
    expect_answers(w, 3, (int[]){0, 1, 2});
    world_destroy(w);
}

Test(session, a_returned_operation_waits_for_those_of_its_slot_that_are_under_way)
{
    struct gw_session_options o = options_of(1, 2);
    struct world *w = connected_world(&o);
    cr_assert_eq(world_add(w, KEY_SAME, 1, 0), GW_OK);
    cr_assert_eq(world_add(w, KEY_SAME, 1, 1), GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 2);
    peer_reply(A, GW_RETRY);
    world_run(w, 50 * MS);
    cr_expect_eq(A->batches, 1, "sent behind a later one of its key");
    peer_reply(A, GW_RETRY);
    world_run(w, 50 * MS);
    cr_assert_eq(A->batches, 2);
    cr_expect_eq(A->batch[0].op[0].serial, 2);
    cr_expect_eq(A->batch[1].op[0].serial, 3);
    world_destroy(w);
}

Test(session, a_pending_operation_is_answered_by_its_completion)
{
    struct world *w = connected_world(NULL);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(world_add(w, i == 1 ? KEY_SAME : "x", 1, i), GW_OK);
    world_run(w, 20 * MS);
    peer_reply_each(A, (enum gw_status[]){GW_OK, GW_PENDING, GW_OK});
    world_run(w, 20 * MS);
    expect_answers(w, 2, (int[]){0, 2});
    cr_expect_eq(gw_in_flight(w->session), 1);
    world_move(w, gw_slot_of(KEY_SAME, 4), 1);
    cr_assert(gwi_cluster_offer(w->cluster, gw_map_copy(w->map)));
    cr_assert_eq(world_add(w, KEY_TOO, 1, 3), GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(B->connections, 0, "pending is under way");
    peer_complete(A, 99, GW_OK, 1); /* nobody's */
    peer_complete(A, 3, GW_OK, 55);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 3);
    cr_expect_eq(w->answer[2].tag, 1);
    cr_expect_eq(w->answer[2].number, 55);
    cr_expect_eq(B->batches, 1);
    world_destroy(w);
}

Test(session, a_pending_operation_may_come_back_as_moved)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, KEY_SAME, 1, 1), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_PENDING);
    world_run(w, 20 * MS);
    A->map = w->map;
    world_move(w, gw_slot_of(KEY_SAME, 4), 1);
    peer_complete(A, 2, GW_MOVED, 0);
    world_run(w, 50 * MS);
    cr_assert_eq(B->batches, 1);
    peer_reply(B, GW_OK);
    world_run(w, 20 * MS);
    expect_answers(w, 1, (int[]){1});
    world_destroy(w);
}

static void issue_another(void *ctx, const struct gw_result *result)
{
    struct world *w = ctx;
    (void)result;
    cr_expect_eq(world_add(w, "x", 1, (int)w->answers), GW_OK);
    gw_flush(w->session);
    cr_expect_eq(gw_poll(w->session, 0), 0, "a poll inside of a callback does nothing");
    cr_expect_eq(gw_drain(w->session, 0), GW_E_INVALID);
    cr_expect_eq(gw_get_sync(w->session, "x", 1, NULL), GW_E_INVALID);
}

Test(session, a_callback_may_issue_and_flush_but_not_wait)
{
    struct gw_session_options o = options_of(1, 4);
    struct world *w = world_create(&o, 1);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(gw_add(w->session, "x", 1, 1, 0, issue_another, w), GW_OK);
    world_run(w, 20 * MS);
    for (int i = 0; i < 8; i++) {
        peer_reply(A, GW_OK);
        world_run(w, 20 * MS);
    }
    expect_answers(w, 4, (int[]){0, 0, 0, 0});
    world_destroy(w);
}

Test(session, closing_answers_everything_and_says_goodbye)
{
    struct gw_session_options o = options_of(2, 1);
    struct world *w = connected_world(&o);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    world_run(w, 20 * MS);
    world_close_session(w);
    expect_answers(w, 3, (int[]){0, 1, 2});
    cr_expect_eq(w->answer[0].status, GW_IN_DOUBT, "sent");
    cr_expect_eq(w->answer[1].status, GW_IN_DOUBT, "sent");
    cr_expect_eq(w->answer[2].status, GW_E_CANCELLED, "never sent");
    world_run(w, 20 * MS);
    world_destroy(w);
}
