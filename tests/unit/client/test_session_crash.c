/* What a session does with what it keeps when servers are killed, come back or do not, and while
 * slots move. Names of holes are those of the migration's design. */
#include "peer.h"

#include <criterion/criterion.h>
#include <string.h>

#define A (&w->server[0])
#define B (&w->server[1])

/* Both servers make durable, a is connected; what it answers is durable at position 1. */
static struct world *kept_world(enum gw_wire_durability durability, enum gw_acknowledge mode)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.acknowledge = mode;
    struct world *w = world_create(&o, 1);
    A->durability = B->durability = (uint8_t)durability;
    A->forgotten = B->forgotten = 3;
    cr_assert_eq(world_add(w, "hello", 1, -1), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    w->answers = 0;
    A->position = B->position = 1;
    return w;
}

static struct gw_session_stats stats_of(struct world *w)
{
    struct gw_session_stats stats;
    gw_session_stats(w->session, &stats);
    return stats;
}

/* An add that a has answered. */
static void kept_add(struct world *w, const char *key, int tag)
{
    cr_assert_eq(world_add(w, key, 1, tag), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
}

static void expect_batch(struct peer *p, const uint64_t *serial, uint32_t count)
{
    struct peer_batch *b = peer_batch(p);
    cr_assert_not_null(b, "%s has no batch", p->name);
    cr_assert_eq(b->count, count, "%u operations", b->count);
    for (uint32_t i = 0; i < count; i++)
        cr_expect_eq(b->op[i].serial, serial[i], "place %u: %lu", i,
                     (unsigned long)b->op[i].serial);
}

Test(session_crash, the_same_process_keeps_what_it_applied_and_nothing_goes_again)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    A->position = 2;
    kept_add(w, "x", 2);
    gw_loop_break(A->conn);
    A->durable = 1; /* what became durable meanwhile is in its WELCOME */
    world_run(w, 200 * MS);
    cr_expect_eq(A->connections, 2, "opened for what is kept");
    cr_expect_eq(A->hello.flags, GW_HELLO_RESUME);
    cr_expect_eq(A->batches, 0);
    cr_expect_eq(stats_of(w).kept, 1);
    cr_expect_eq(gw_session_durable(w->session), 2);
    peer_durable(A, 2);
    world_run(w, 20 * MS);
    cr_expect_eq(stats_of(w).kept, 0);
    cr_expect_eq(stats_of(w).replayed, 0);
    cr_expect_eq(w->answers, 2);
    world_destroy(w);
}

/* Hole 18: a server in memory mode comes back at its checkpoint; its client goes on from its
 * durable point. */
Test(session_crash, hole_18_after_a_crash_what_is_not_durable_goes_again_silently_in_order)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1); /* 2 */
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    A->position = 2;
    kept_add(w, "x", 2); /* 3 */
    kept_add(w, "y", 3); /* 4 */
    cr_assert_eq(world_add(w, "x", 1, 4), GW_OK);
    world_run(w, 20 * MS); /* 5: under way */
    peer_crash(A);
    cr_assert_eq(world_add(w, "x", 1, 5), GW_OK); /* 6: not sent */
    world_run(w, 200 * MS);
    cr_expect_eq(A->hello.incarnation, 1000);
    expect_batch(A, (uint64_t[]){3, 4, 5, 6}, 4);
    cr_expect_eq(peer_batch(A)->head.confirmed, 3);
    cr_expect_eq(peer_batch(A)->head.flags, GW_BATCH_EARLY);
    for (int i = 0; i < 4; i++)
        cr_expect_eq(peer_batch(A)->op[i].flags, i < 3 ? GW_WIRE_RESENT : 0);
    cr_expect_eq(stats_of(w).kept, 0);
    cr_expect_eq(gw_in_flight(w->session), 2);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 5, "two more");
    for (int i = 0; i < 5; i++)
        cr_expect_eq(w->answer[i].tag, i + 1);
    cr_expect_eq(stats_of(w).kept, 4, "and kept, by the new incarnation's positions");
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_OK);
    cr_expect_eq(gw_session_durable(w->session), 6);
    cr_expect_eq(w->answers, 5);
    cr_expect_eq(stats_of(w).replayed, 2);
    cr_expect_eq(stats_of(w).in_doubt + stats_of(w).lost, 0);
    world_destroy(w);
}

Test(session_crash, a_second_crash_during_the_replay_changes_nothing)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED);
    A->position = 70;
    kept_add(w, "x", 1);
    kept_add(w, "x", 2);
    for (int i = 0; i < 3; i++) {
        peer_crash(A);
        A->position = 10; /* positions start over */
        world_run(w, 200 * MS);
        expect_batch(A, (uint64_t[]){2, 3}, 2);
        if (i == 1) { /* the first is answered, then it dies again */
            peer_reply_part(A, 0, 1);
            world_run(w, 20 * MS);
            cr_expect_eq(stats_of(w).kept, 1);
        }
    }
    peer_reply(A, GW_OK);
    peer_durable(A, 10);
    world_run(w, 20 * MS);
    cr_expect_eq(stats_of(w).kept, 0);
    cr_expect_eq(gw_session_durable(w->session), 3);
    cr_expect_eq(w->answers, 2);
    world_destroy(w);
}

Test(session_crash, who_waits_for_durability_is_told_once_and_by_the_second_execution)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_DURABLE);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    cr_assert_eq(world_get(w, "x", 2), GW_OK);
    world_run(w, 20 * MS);
    const enum gw_status st[] = {GW_OVERFLOW, GW_OK};
    peer_reply_each(A, st);
    world_run(w, 20 * MS);
    cr_expect_eq(stats_of(w).kept, 2);
    peer_crash(A);
    world_run(w, 200 * MS);
    expect_batch(A, (uint64_t[]){2, 3}, 2);
    cr_expect_eq(peer_batch(A)->op[0].flags, GW_WIRE_RESENT);
    cr_expect_eq(peer_batch(A)->op[1].flags, GW_WIRE_RESENT, "it must not show what came behind");
    cr_expect_eq(w->answers, 0);
    peer_reply(A, GW_OK);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 2);
    cr_expect_eq(w->answer[0].status, GW_OK);
    cr_expect_eq(w->answer[0].number, 100);
    cr_expect_eq(w->session->bytes, 0);
    world_destroy(w);
}

Test(session_crash, a_server_that_does_not_know_the_session_and_forgot_none_has_applied_nothing)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    world_run(w, 20 * MS);
    A->forgets = true;
    peer_crash(A);
    world_run(w, 200 * MS);
    expect_batch(A, (uint64_t[]){2, 3}, 2);
    cr_expect_eq(w->answers, 1);
    world_destroy(w);
}

Test(session_crash, a_server_that_has_forgotten_sessions_leaves_doubt_and_sync_says_so)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    cr_assert_eq(world_get(w, "x", 3), GW_OK);
    world_run(w, 20 * MS);
    A->forgets = true;
    A->forgotten++;
    peer_crash(A);
    cr_assert_eq(world_add(w, "x", 1, 4), GW_OK);
    world_run(w, 200 * MS);
    cr_assert_eq(w->answers, 2);
    cr_expect_eq(w->answer[1].tag, 2);
    cr_expect_eq(w->answer[1].status, GW_IN_DOUBT);
    expect_batch(A, (uint64_t[]){4, 5}, 2);
    peer_reply(A, GW_OK);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(stats_of(w).lost, 1);
    cr_expect_eq(gw_session_durable(w->session), 1);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_IN_DOUBT);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_OK);
    cr_expect_eq(gw_session_durable(w->session), 5);
    world_destroy(w);
}

Test(session_crash, who_waits_for_durability_hears_of_doubt_only_where_there_was_an_effect)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_DURABLE);
    for (int i = 1; i <= 3; i++)
        cr_assert_eq(i == 2 ? world_get(w, "x", i) : world_add(w, "x", 1, i), GW_OK);
    world_run(w, 20 * MS);
    const enum gw_status st[] = {GW_OK, GW_OK, GW_OVERFLOW};
    peer_reply_each(A, st);
    world_run(w, 20 * MS);
    A->forgets = true;
    A->forgotten++;
    peer_crash(A);
    world_run(w, 200 * MS);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].tag, 1);
    cr_expect_eq(w->answer[0].status, GW_IN_DOUBT);
    expect_batch(A, (uint64_t[]){3, 4}, 2);
    cr_expect_eq(peer_batch(A)->op[0].flags, GW_WIRE_RESENT, "it must not show what came behind");
    cr_expect_eq(peer_batch(A)->op[1].flags, 0, "nothing of it can be there already");
    cr_expect_eq(stats_of(w).lost, 0, "the caller was told");
    cr_expect_eq(w->session->held, 0);
    world_destroy(w);
}

Test(session_crash, a_server_that_comes_back_without_durability_leaves_doubt)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    A->durability = GW_WIRE_DURABILITY_NONE;
    peer_crash(A);
    world_run(w, 200 * MS);
    cr_expect_eq(A->connections, 2);
    cr_expect_eq(A->batches, 0);
    cr_expect_eq(stats_of(w).lost, 1);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_IN_DOUBT);
    world_destroy(w);
}

/* The process that forgot us is the one that applied it: its next incarnation cannot tell. */
Test(session_crash, what_was_kept_when_the_session_was_forgotten_is_not_sent_again)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    A->forgets = true;
    A->forgotten++;
    gw_loop_break(A->conn);
    world_run(w, 200 * MS);
    cr_expect_eq(stats_of(w).kept, 1, "applied, and it becomes durable with the rest");
    cr_expect_eq(stats_of(w).lost, 0);
    A->forgets = false;
    kept_add(w, "x", 2);
    peer_crash(A);
    world_run(w, 200 * MS);
    expect_batch(A, (uint64_t[]){3}, 1);
    cr_expect_eq(stats_of(w).lost, 1);
    world_destroy(w);
}

Test(session_crash, a_replay_that_fails_is_lost_and_said)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    kept_add(w, "x", 2);
    peer_crash(A);
    world_run(w, 200 * MS);
    const enum gw_status st[] = {GW_E_FULL, GW_OK};
    peer_reply_each(A, st);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 2);
    cr_expect_eq(stats_of(w).lost, 1);
    cr_expect_eq(gw_session_durable(w->session), 1);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_IN_DOUBT);
    cr_expect_eq(gw_session_durable(w->session), 3);
    world_destroy(w);
}

/* ---- replays and migrations ---- */

static void offer(struct world *w, const char *key, uint32_t server)
{
    world_move(w, gw_slot_of(key, strlen(key)), server);
    gwi_cluster_offer(w->cluster, gw_map_copy(w->map));
}

/* Hole 17: executed at the old owner and not durable. Its later operations wait for that. */
Test(session_crash, hole_17_a_kept_operation_holds_its_slot_until_it_is_durable)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    offer(w, "x", 1);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    cr_assert_eq(world_add(w, "y", 1, 3), GW_OK);
    world_run(w, 100 * MS);
    cr_expect_eq(B->batches, 0);
    cr_expect_eq(A->syncs, 1, "it is asked to hurry, once");
    expect_batch(A, (uint64_t[]){4}, 1); /* another slot goes on */
    peer_reply(A, GW_OK);
    peer_durable(A, 1);
    world_run(w, 100 * MS);
    expect_batch(B, (uint64_t[]){3}, 1);
    peer_reply(B, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 3);
    world_destroy(w);
}

/* A read whose answer is not durable, and a write behind it: the server dies, and has recovered
 * both the write and that it was done. It says of the read that it comes too late. */
Test(session_crash, a_read_that_was_held_does_not_show_the_write_behind_it)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_DURABLE);
    cr_assert_eq(world_get(w, "x", 1), GW_OK);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(stats_of(w).kept, 2);
    peer_crash(A);
    world_run(w, 200 * MS);
    expect_batch(A, (uint64_t[]){2, 3}, 2);
    for (int i = 0; i < 2; i++)
        cr_expect_eq(peer_batch(A)->op[i].flags, GW_WIRE_RESENT);
    const enum gw_status st[] = {GW_IN_DOUBT, GW_OK};
    peer_reply_each(A, st);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 2);
    cr_expect_eq(w->answer[0].tag, 1);
    cr_expect_eq(w->answer[0].status, GW_IN_DOUBT);
    cr_expect_eq(w->answer[1].status, GW_OK);
    world_destroy(w);
}

/* Hole 1: serials of a session are spread over servers; each is a name, none is a bound. */
Test(session_crash, hole_1_a_replay_names_its_serials_and_leaves_out_what_others_have)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED);
    offer(w, "b", 1);
    for (int i = 0; i < 3; i++) { /* 2 4 6 at a, 3 5 7 at b */
        kept_add(w, "a", i);
        cr_assert_eq(world_add(w, "b", 1, 10 + i), GW_OK);
        world_run(w, 20 * MS);
        peer_reply(B, GW_OK);
        world_run(w, 20 * MS);
    }
    peer_durable(B, 1);
    world_run(w, 20 * MS);
    peer_crash(A);
    world_run(w, 200 * MS);
    expect_batch(A, (uint64_t[]){2, 4, 6}, 3);
    cr_expect_eq(B->batches, 0);
    world_destroy(w);
}

/* Hole 16: what the old owner had answered goes to the new one when the old one has died, in front
 * of what came after it. */
Test(session_crash, hole_16_what_a_killed_source_had_answered_goes_to_the_new_owner_in_order)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1); /* 2 */
    kept_add(w, "y", 2); /* 3 */
    kept_add(w, "x", 3); /* 4 */
    cr_assert_eq(world_add(w, "x", 1, 4), GW_OK);
    world_run(w, 20 * MS); /* 5: under way */
    offer(w, "x", 1);
    cr_assert_eq(world_add(w, "x", 1, 5), GW_OK); /* 6: waits */
    peer_crash(A);
    world_run(w, 200 * MS);
    expect_batch(A, (uint64_t[]){3}, 1);
    expect_batch(B, (uint64_t[]){2, 4, 5, 6}, 4);
    for (int i = 0; i < 4; i++)
        cr_expect_eq(peer_batch(B)->op[i].flags, i < 3 ? GW_WIRE_RESENT : 0);
    peer_reply(A, GW_OK);
    peer_reply(B, GW_OK);
    peer_durable(A, 1);
    peer_durable(B, 1);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 5);
    cr_expect_eq(gw_session_durable(w->session), 6);
    world_destroy(w);
}

Test(session_crash, what_a_server_keeps_that_does_not_come_back_goes_to_the_new_owner)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1); /* 2 */
    kept_add(w, "y", 2); /* 3 */
    kept_add(w, "x", 3); /* 4 */
    gw_net_destroy(A->net);
    A->net = NULL;
    A->conn = NULL;
    offer(w, "x", 1);
    cr_assert_eq(world_add(w, "x", 1, 4), GW_OK); /* 5 */
    world_run(w, 3000 * MS);
    expect_batch(B, (uint64_t[]){2, 4, 5}, 3);
    cr_expect_eq(stats_of(w).kept, 1, "y's waits for its server");
    cr_expect_eq(w->session->lane[0]->kept, 1);
    peer_reply(B, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 4);
    offer(w, "y", 1);
    world_run(w, 3000 * MS);
    expect_batch(B, (uint64_t[]){3}, 1);
    world_destroy(w);
}

/* A slot goes to b and comes back while the first operation is kept at a. */
Test(session_crash, a_slot_that_comes_back_meets_its_kept_operations)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    offer(w, "x", 1);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    world_run(w, 100 * MS);
    cr_expect_eq(B->batches, 0);
    offer(w, "x", 0);
    world_run(w, 100 * MS);
    expect_batch(A, (uint64_t[]){3}, 1);
    world_destroy(w);
}

/* What is returned unexecuted does not wait for what is kept at the same server (rule 2). */
Test(session_crash, a_returned_operation_is_not_held_up_by_kept_ones_of_its_server)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_RETRY);
    world_run(w, 100 * MS);
    expect_batch(A, (uint64_t[]){3}, 1);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 2);
    world_destroy(w);
}

Test(session_crash, a_replay_that_is_returned_or_pending_stays_silent)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    kept_add(w, "y", 2);
    peer_crash(A);
    world_run(w, 200 * MS);
    const enum gw_status st[] = {GW_RETRY, GW_PENDING};
    peer_reply_each(A, st);
    world_run(w, 100 * MS);
    expect_batch(A, (uint64_t[]){2}, 1);
    peer_reply(A, GW_OK);
    peer_complete(A, 3, GW_OK, 7);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 2);
    cr_expect_eq(stats_of(w).kept, 2);
    cr_expect_eq(gw_in_flight(w->session), 0);
    world_destroy(w);
}

Test(session_crash, what_is_kept_survives_a_server_that_refuses_for_a_while)
{
    struct world *w = kept_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED);
    kept_add(w, "x", 1);
    A->error = GW_E_REFUSED;
    peer_crash(A);
    world_run(w, 5000 * MS);
    cr_expect_eq(stats_of(w).lost, 0);
    A->error = GW_OK;
    world_run(w, 3000 * MS);
    expect_batch(A, (uint64_t[]){2}, 1);
    world_destroy(w);
}
