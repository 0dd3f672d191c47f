/* What a session does when connections, servers, deadlines and the coordinator fail it. */
#include "peer.h"

#include <criterion/criterion.h>
#include <string.h>

#define A (&w->server[0])
#define B (&w->server[1])

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

Test(session_loss, after_a_lost_connection_what_was_sent_goes_again_marked_and_in_order)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    cr_assert_eq(world_get(w, "x", 2), GW_OK);
    cr_assert_eq(world_add(w, "x", 1, 3), GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 1);
    peer_drop_batch(A);
    gw_loop_break(A->conn);
    cr_assert_eq(world_add(w, "x", 1, 4), GW_OK);
    world_run(w, 100 * MS);
    cr_expect_eq(A->connections, 2);
    cr_expect_eq(A->hello.flags, GW_HELLO_RESUME);
    cr_expect_eq(A->hello.incarnation, 1000);
    struct peer_batch *b = peer_batch(A);
    cr_assert_not_null(b);
    cr_assert_eq(b->count, 4);
    cr_expect_eq(b->head.sequence, 1, "a fresh connection counts from 1");
    for (uint32_t i = 0; i < 4; i++)
        cr_expect_eq(b->op[i].serial, 2 + i);
    cr_expect_eq(b->op[0].flags, GW_WIRE_RESENT);
    cr_expect_eq(b->op[1].flags, GW_WIRE_RESENT, "it must not show what came behind it");
    cr_expect_eq(b->op[2].flags, GW_WIRE_RESENT);
    cr_expect_eq(b->op[3].flags, 0, "was never sent");
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 4);
    for (int i = 0; i < 4; i++)
        cr_expect_eq(w->answer[i].tag, i + 1);
    cr_expect_eq(w->session->stats.resent, 3);
    world_destroy(w);
}

Test(session_loss, a_pending_operation_is_asked_for_again_after_a_lost_connection)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_PENDING);
    world_run(w, 20 * MS);
    gw_loop_break(A->conn);
    world_run(w, 100 * MS);
    cr_assert_eq(A->batches, 1);
    cr_expect_eq(peer_batch(A)->op[0].flags, GW_WIRE_RESENT);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 1);
    world_destroy(w);
}

static void lose_memory(bool new_process)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    cr_assert_eq(world_get(w, "y", 2), GW_OK);
    world_run(w, 20 * MS);
    peer_drop_batch(A);
    gw_loop_break(A->conn);
    cr_assert_eq(world_add(w, "x", 1, 3), GW_OK);
    if (new_process)
        A->incarnation = 2000;
    else
        A->forgets = true;
    world_run(w, 100 * MS);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].tag, 1);
    cr_expect_eq(w->answer[0].status, GW_IN_DOUBT);
    cr_expect_eq(w->session->stats.in_doubt, 1);
    struct peer_batch *b = peer_batch(A);
    cr_assert_not_null(b);
    cr_assert_eq(b->count, 2);
    cr_expect_eq(b->op[0].verb, GW_WIRE_READ);
    cr_expect_eq(b->op[1].serial, 4, "what was never sent is not in doubt");
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 3);
    world_destroy(w);
}

Test(session_loss, writes_are_in_doubt_when_a_new_process_answers_and_reads_go_again)
{
    lose_memory(true);
}

Test(session_loss, writes_are_in_doubt_when_the_server_has_forgotten_the_session)
{
    lose_memory(false);
}

Test(session_loss, what_was_sent_to_a_lost_server_goes_to_the_slots_new_owner_marked)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 20 * MS);
    peer_drop_batch(A);
    gw_net_destroy(A->net); /* and it does not come back */
    A->net = NULL;
    w->coordinator.map = w->map;
    world_move(w, GW_SLOTS, 1);
    world_run(w, 3000 * MS);
    cr_assert_eq(B->batches, 1);
    cr_expect_eq(peer_batch(B)->op[0].flags, GW_WIRE_RESENT);
    peer_reply(B, GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].status, GW_OK);
    world_destroy(w);
}

Test(session_loss, a_server_in_doubt_itself_is_believed)
{
    struct world *w = connected_world(NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_IN_DOUBT);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].status, GW_IN_DOUBT);
    cr_expect_eq(w->session->stats.in_doubt, 1);
    world_destroy(w);
}

Test(session_loss, what_was_never_sent_times_out_and_what_was_sent_is_in_doubt)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.deadline_ms = 500;
    o.batch_operations = 1;
    o.batches_in_flight = 1;
    struct world *w = connected_world(&o);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    gw_session_set_deadline(w->session, 0);
    cr_assert_eq(world_add(w, "x", 1, 3), GW_OK);
    world_run(w, 400 * MS);
    cr_expect_eq(w->answers, 0);
    world_run(w, 200 * MS);
    cr_assert_eq(w->answers, 2);
    cr_expect_eq(w->answer[0].status, GW_IN_DOUBT);
    cr_expect_eq(w->answer[1].status, GW_E_TIMEOUT);
    cr_expect_eq(gw_in_flight(w->session), 1);
    peer_reply(A, GW_OK); /* too late for the first: nobody is told twice */
    world_run(w, 100 * MS);
    cr_expect_eq(w->answers, 2);
    cr_assert_eq(A->batches, 1);
    cr_expect_eq(peer_batch(A)->op[0].serial, 4);
    cr_expect_eq(peer_batch(A)->head.confirmed, 4, "the late answer has freed its place");
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 3);
    world_destroy(w);
}

Test(session_loss, deadlines_of_their_own_are_kept_among_longer_ones)
{
    struct world *w = connected_world(NULL);
    A->mute = true;
    for (int i = 0; i < 100; i++) {
        gw_session_set_deadline(w->session, i % 10 == 3 ? 50 : 5000);
        cr_assert_eq(world_get(w, "x", i), GW_OK);
    }
    world_run(w, 70 * MS);
    cr_expect_eq(w->answers, 10);
    for (uint32_t i = 0; i < w->answers; i++)
        cr_expect_eq(w->answer[i].tag % 10, 3);
    world_run(w, 7000 * MS);
    cr_expect_eq(w->answers, 100);
    world_destroy(w);
}

Test(session_loss, a_silent_server_with_expired_operations_gives_their_places_back)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.operations_max = 8;
    o.deadline_ms = 200;
    struct world *w = connected_world(&o);
    A->mute = true;
    for (int i = 0; i < 8; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    world_run(w, 300 * MS);
    cr_expect_eq(w->answers, 8);
    cr_expect_eq(world_add(w, "x", 1, 8), GW_WOULD_BLOCK, "their places in order are taken");
    world_run(w, 2000 * MS);
    A->mute = false;
    cr_expect_eq(world_add(w, "x", 1, 8), GW_OK);
    world_run(w, 100 * MS);
    cr_assert_eq(A->batches, 1);
    cr_expect_eq(peer_batch(A)->count, 1, "what was given up is not sent again");
    world_destroy(w);
}

Test(session_loss, the_coordinator_is_asked_at_a_bounded_rate_while_a_server_is_gone)
{
    struct world *w = connected_world(NULL);
    gw_net_destroy(A->net);
    A->net = NULL;
    A->conn = NULL;
    world_run(w, 20 * MS); /* the session hears of it: nothing is sent into the void */
    w->coordinator.map = w->map;
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 10000 * MS);
    cr_expect(w->coordinator.map_gets >= 5 && w->coordinator.map_gets <= 20, "%u fetches in 10 s",
              w->coordinator.map_gets);
    cr_expect_eq(w->answers, 0, "it waits for its deadline");
    world_run(w, 21000 * MS);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].status, GW_E_TIMEOUT);
    world_destroy(w);
}

Test(session_loss, a_silent_coordinator_stops_nothing)
{
    struct world *w = connected_world(NULL);
    w->coordinator.mute = true;
    gw_loop_break(A->conn);
    cr_assert_eq(gw_loop_partition(w->loop, "client", "a:1"), GW_OK);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 6000 * MS);
    gw_loop_heal_all(w->loop);
    world_run(w, 2000 * MS);
    cr_assert_eq(A->batches, 1);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 1);
    world_destroy(w);
}

Test(session_loss, a_server_that_speaks_another_version_fails_operations_after_a_few_tries)
{
    struct world *w = world_create(NULL, 1);
    A->error = GW_E_VERSION;
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 1000 * MS);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].status, GW_E_UNREACHABLE);
    cr_expect_eq(A->connections, 3);
    A->error = GW_OK;
    world_run(w, 1000 * MS);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    world_run(w, 1000 * MS);
    cr_expect_eq(A->batches, 1, "it is tried again later");
    world_destroy(w);
}

Test(session_loss, a_reply_that_is_not_one_ends_the_connection_and_everything_goes_again)
{
    struct world *w = connected_world(NULL);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    world_run(w, 20 * MS);
    peer_reply_part(A, 0, 1);
    uint8_t garbage[20] = {0, 0xff};
    peer_send(A, &(struct gw_frame){.kind = GW_KIND_REPLY, .count = 2, .sequence = 2}, garbage,
              sizeof garbage);
    peer_drop_batch(A);
    world_run(w, 200 * MS);
    cr_expect_eq(A->connections, 2);
    cr_assert_eq(A->batches, 1);
    cr_expect_eq(peer_batch(A)->count, 2, "what was answered before is not sent again");
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 3);
    world_destroy(w);
}

Test(session_loss, a_server_of_another_cluster_is_not_spoken_to)
{
    struct world *w = world_create(NULL, 1);
    world_move(w, GW_SLOTS, 0);
    w->map->cluster = 78; /* the peers say 77 */
    cr_assert(gwi_cluster_offer(w->cluster, gw_map_copy(w->map)));
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 1000 * MS);
    cr_expect_eq(A->batches, 0);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].status, GW_E_UNREACHABLE);
    world_destroy(w);
}

Test(session_loss, an_address_that_changes_is_followed)
{
    struct world *w = connected_world(NULL);
    gw_net_destroy(A->net);
    A->net = NULL;
    A->conn = NULL;
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    w->coordinator.map = w->map;
    w->map->version++;
    strcpy(w->map->server[0].address, "c:1");
    w->server[2].incarnation = 1000; /* the same process, seen from elsewhere */
    world_run(w, 1000 * MS);
    cr_assert_eq(w->server[2].batches, 1);
    cr_expect_eq(w->server[2].hello.flags, GW_HELLO_RESUME);
    world_destroy(w);
}
