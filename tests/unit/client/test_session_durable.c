/* Two completions: when callbacks run, what is kept, what the commit point says. */
#include "peer.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define A (&w->server[0])
#define B (&w->server[1])

/* Both servers are of that mode, and a is connected; what it answers is durable at position 1. */
static struct world *durable_world(enum gw_wire_durability durability, enum gw_acknowledge mode,
                                   struct gw_session_options *options)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    if (!options)
        options = &o;
    options->acknowledge = mode;
    struct world *w = world_create(options, 1);
    A->durability = B->durability = (uint8_t)durability;
    if (durability == GW_WIRE_DURABILITY_NONE)
        gw_session_set_acknowledge(w->session, GW_ACKNOWLEDGE_SERVER);
    cr_assert_eq(world_add(w, "hello", 1, -1), GW_OK);
    world_run(w, 20 * MS);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 1);
    w->answers = 0;
    A->position = B->position = 1;
    gw_session_set_acknowledge(w->session, mode);
    return w;
}

static struct gw_session_stats stats_of(struct world *w)
{
    struct gw_session_stats stats;
    gw_session_stats(w->session, &stats);
    return stats;
}

static void answer_all(struct world *w, enum gw_status st)
{
    world_run(w, 20 * MS);
    while (A->batches > 0)
        peer_reply(A, st);
    world_run(w, 20 * MS);
}

Test(session_durable, the_servers_own_mode_tells_at_once_and_keeps_nothing)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_SERVER, NULL);
    cr_expect_eq(gw_session_durable(w->session), 1);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(peer_batch(A)->head.flags, 0);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 1);
    cr_expect_eq(stats_of(w).kept, 0);
    cr_expect_eq(w->session->oldest, 3, "its place is free");
    cr_expect_eq(gw_session_issued(w->session), 2);
    cr_expect_eq(gw_session_durable(w->session), 1, "not durable yet");
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(gw_session_durable(w->session), 2);
    world_destroy(w);
}

Test(session_durable, applied_tells_early_and_keeps_the_place_until_durable)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED, NULL);
    A->position = 40;
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(peer_batch(A)->head.flags, GW_BATCH_EARLY);
    peer_reply(A, GW_OK);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 1);
    cr_expect_eq(w->answer[0].number, 100);
    cr_expect_eq(gw_in_flight(w->session), 0);
    cr_expect_eq(stats_of(w).kept, 1);
    cr_expect_eq(gw_session_durable(w->session), 1);
    A->position = 41;
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(peer_batch(A)->head.confirmed, 2, "what is kept is not confirmed");
    peer_reply(A, GW_OK);
    peer_durable(A, 39);
    world_run(w, 20 * MS);
    cr_expect_eq(stats_of(w).kept, 2, "a lower position says nothing about them");
    peer_durable(A, 40);
    world_run(w, 20 * MS);
    cr_expect_eq(stats_of(w).kept, 1);
    cr_expect_eq(gw_session_durable(w->session), 2);
    cr_assert_eq(world_add(w, "x", 1, 3), GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(peer_batch(A)->head.confirmed, 3);
    peer_reply(A, GW_OK);
    peer_durable(A, 100);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 3, "nobody is told twice");
    cr_expect_eq(stats_of(w).durable, 4);
    world_destroy(w);
}

Test(session_durable, durable_tells_when_it_is_and_gives_the_answer_as_it_was)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_DURABLE, NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    cr_assert_eq(world_get(w, "y", 2), GW_OK);
    cr_assert_eq(world_add(w, "z", 1, 3), GW_OK);
    cr_assert_eq(world_add(w, "z", 1, 4), GW_OK);
    world_run(w, 20 * MS);
    cr_expect_eq(peer_batch(A)->head.flags, 0);
    const enum gw_status st[] = {GW_OK, GW_OK, GW_OVERFLOW, GW_E_FULL};
    peer_reply_each(A, st);
    world_run(w, 500 * MS);
    cr_assert_eq(w->answers, 1, "only the failure");
    cr_expect_eq(w->answer[0].tag, 4);
    cr_expect_eq(gw_in_flight(w->session), 3);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_assert_eq(w->answers, 4);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(w->answer[i + 1].tag, i + 1);
        cr_expect_eq(w->answer[i + 1].status, st[i]);
        cr_expect_eq(w->answer[i + 1].number, st[i] == GW_OK ? 100 + i : 0);
    }
    cr_expect_geq(w->session->stats.wait_longest_ns, 500 * MS);
    cr_expect_eq(w->session->bytes, 0);
    cr_expect_eq(w->session->held, 0);
    world_destroy(w);
}

static void on_value(void *ctx, const struct gw_result *result)
{
    char *text = ctx;
    snprintf(text, 64, "%s %.*s", gw_status_name(result->status), (int)result->value_bytes,
             (const char *)result->value);
}

Test(session_durable, a_value_that_was_read_is_held_too)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_DURABLE, NULL);
    char text[64] = "";
    cr_assert_eq(gw_get(w->session, "s", 1, on_value, text), GW_OK);
    world_run(w, 20 * MS);
    uint8_t body[64];
    struct gw_writer b = gw_writer_of(body, sizeof body);
    gw_wire_reply_encode(&(struct gw_wire_reply){.flags = GW_WIRE_VALUE,
                                                 .value = (const uint8_t *)"godwit",
                                                 .value_bytes = 6},
                         &b);
    peer_send(A,
              &(struct gw_frame){.kind = GW_KIND_REPLY,
                                 .count = 1,
                                 .sequence = peer_batch(A)->head.sequence,
                                 .confirmed = 1},
              body, gw_writer_used(&b));
    peer_drop_batch(A);
    world_run(w, 20 * MS);
    cr_expect_str_eq(text, "");
    memset(body, 0, sizeof body);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_str_eq(text, "ok godwit");
    world_destroy(w);
}

Test(session_durable, position_zero_is_durable_in_every_mode)
{
    for (enum gw_acknowledge m = GW_ACKNOWLEDGE_SERVER; m <= GW_ACKNOWLEDGE_DURABLE; m++) {
        struct world *w = durable_world(GW_WIRE_DURABILITY_COMMIT, m, NULL);
        A->position = 0;
        cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
        answer_all(w, GW_OK);
        cr_expect_eq(w->answers, 1);
        cr_expect_eq(stats_of(w).kept, 0);
        cr_expect_eq(gw_session_durable(w->session), 2);
        world_destroy(w);
    }
}

Test(session_durable, reads_and_what_had_no_effect_are_told_and_not_kept)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED, NULL);
    cr_assert_eq(world_get(w, "x", 1), GW_OK);
    cr_assert_eq(world_add(w, "y", 1, 2), GW_OK);
    world_run(w, 20 * MS);
    const enum gw_status st[] = {GW_OK, GW_OVERFLOW};
    peer_reply_each(A, st);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 2);
    cr_expect_eq(stats_of(w).kept, 0);
    cr_expect_eq(gw_session_durable(w->session), 1, "what they saw may be lost");
    peer_crash(A);
    cr_assert_eq(world_get(w, "x", 3), GW_OK);
    answer_all(w, GW_OK);
    cr_expect_eq(w->answers, 3);
    cr_expect_eq(stats_of(w).replayed, 0);
    cr_expect_eq(stats_of(w).lost, 0);
    world_destroy(w);
}

Test(session_durable, modes_of_calls_are_mixed_and_a_batch_holds_one_earliness)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_SERVER, NULL);
    static const enum gw_acknowledge mode[] = {GW_ACKNOWLEDGE_SERVER, GW_ACKNOWLEDGE_DURABLE,
                                               GW_ACKNOWLEDGE_APPLIED, GW_ACKNOWLEDGE_APPLIED,
                                               GW_ACKNOWLEDGE_SERVER};
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(gw_session_set_acknowledge(w->session, mode[i]), GW_OK);
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    }
    cr_expect_eq(gw_session_set_acknowledge(w->session, 3), GW_E_INVALID);
    gw_flush(w->session);
    world_run(w, 20 * MS);
    cr_assert_eq(A->batches, 3);
    static const uint32_t count[] = {2, 2, 1};
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(A->batch[i].count, count[i]);
        cr_expect_eq(A->batch[i].head.flags, i == 1 ? GW_BATCH_EARLY : 0);
        for (uint32_t k = 1; k < A->batch[i].count; k++)
            cr_expect_eq(A->batch[i].op[k].serial, A->batch[i].op[k - 1].serial + 1);
    }
    answer_all(w, GW_OK);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 5);
    world_destroy(w);
}

Test(session_durable, who_waits_for_durability_is_refused_where_there_is_none)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_NONE, GW_ACKNOWLEDGE_DURABLE, NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    cr_assert_eq(world_get(w, "x", 2), GW_OK);
    gw_session_set_acknowledge(w->session, GW_ACKNOWLEDGE_APPLIED);
    cr_assert_eq(world_add(w, "x", 1, 3), GW_OK);
    answer_all(w, GW_OK);
    cr_assert_eq(w->answers, 3);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(w->answer[i].status, w->answer[i].tag == 3 ? GW_OK : GW_E_UNSUPPORTED);
    cr_expect_eq(A->connections, 1);
    cr_expect_eq(stats_of(w).kept, 0);
    cr_expect_eq(gw_session_durable(w->session), 0);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_E_UNSUPPORTED);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_OK, "said once");
    world_destroy(w);
}

static void on_durable(void *ctx, uint64_t durable)
{
    uint64_t *last = ctx;
    cr_expect_gt(durable, *last);
    *last = durable;
}

Test(session_durable, the_commit_point_is_a_prefix_over_all_servers_and_is_told)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED, NULL);
    world_move(w, gw_slot_of("b", 1), 1);
    gwi_cluster_offer(w->cluster, gw_map_copy(w->map));
    uint64_t last = 1;
    gw_session_on_durable(w->session, on_durable, &last);
    cr_assert_eq(world_add(w, "a", 1, 1), GW_OK); /* 2 */
    cr_assert_eq(world_add(w, "b", 1, 2), GW_OK); /* 3 */
    gw_session_set_acknowledge(w->session, GW_ACKNOWLEDGE_SERVER);
    cr_assert_eq(world_add(w, "a", 1, 3), GW_OK); /* 4 */
    cr_assert_eq(world_add(w, "b", 1, 4), GW_OK); /* 5 */
    gw_flush(w->session);
    world_run(w, 20 * MS);
    for (int i = 0; i < 2; i++) {
        peer_reply(A, GW_OK);
        peer_reply(B, GW_OK);
        world_run(w, 20 * MS);
    }
    cr_expect_eq(w->answers, 4);
    cr_expect_eq(last, 1);
    peer_durable(B, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(last, 1, "2 is not durable, whatever b says of 3 and 5");
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(last, 5);
    world_destroy(w);
}

Test(session_durable, answers_of_more_positions_than_are_told_apart_lag_and_arrive)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_COMMIT, GW_ACKNOWLEDGE_APPLIED, NULL);
    for (uint64_t i = 1; i <= 40; i++) { /* serials 2 to 41 at positions 1 to 40 */
        A->position = i;
        cr_assert_eq(world_get(w, "x", (int)i), GW_OK);
        answer_all(w, GW_OK);
    }
    cr_expect_eq(w->answers, 40);
    for (uint64_t i = 1; i <= 40; i++) {
        peer_durable(A, i);
        world_run(w, 20 * MS);
        cr_expect_leq(gw_session_durable(w->session), i + 1);
        if (i < GWI_MARKS)
            cr_expect_eq(gw_session_durable(w->session), i + 1);
    }
    cr_expect_eq(gw_session_durable(w->session), 41);
    world_destroy(w);
}

Test(session_durable, a_completion_has_a_position_too)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED, NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    answer_all(w, GW_PENDING);
    cr_expect_eq(stats_of(w).kept, 0);
    A->position = 2;
    peer_complete(A, 2, GW_OK, 5);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(w->answers, 1);
    cr_expect_eq(stats_of(w).kept, 1);
    peer_durable(A, 2);
    world_run(w, 20 * MS);
    cr_expect_eq(stats_of(w).kept, 0);
    world_destroy(w);
}

/* ---- bounds, deadlines, the end ---- */

Test(session_durable, what_is_kept_fills_the_window_and_asks_for_durability)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.operations_max = 8;
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED, &o);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    answer_all(w, GW_OK);
    cr_expect_eq(A->syncs, 0, "half a window is no hurry");
    for (int i = 4; i < 8; i++)
        cr_assert_eq(world_add(w, "x", 1, i), GW_OK);
    answer_all(w, GW_OK);
    cr_expect_eq(w->answers, 8);
    cr_expect_eq(A->syncs, 1);
    for (int i = 0; i < 3; i++) {
        cr_expect_eq(world_add(w, "x", 1, 8), GW_WOULD_BLOCK);
        world_run(w, 20 * MS);
    }
    cr_expect_eq(A->syncs, 1, "once a position");
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(world_add(w, "x", 1, 8), GW_OK);
    world_destroy(w);
}

Test(session_durable, bytes_that_are_kept_are_within_their_bound)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.bytes_max = 1000;
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED, &o);
    char value[400] = {0};
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(gw_set(w->session, "x", 1, value, sizeof value, NULL, NULL), GW_OK);
        answer_all(w, GW_OK);
    }
    cr_expect_eq(gw_in_flight(w->session), 0);
    cr_expect_eq(gw_set(w->session, "x", 1, value, sizeof value, NULL, NULL), GW_WOULD_BLOCK);
    world_run(w, 20 * MS);
    cr_expect_eq(A->syncs, 1);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(gw_set(w->session, "x", 1, value, sizeof value, NULL, NULL), GW_OK);
    world_destroy(w);
}

Test(session_durable, a_deadline_ends_the_wait_for_durability_in_doubt_and_spares_the_told)
{
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.deadline_ms = 300;
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_DURABLE, &o);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    gw_session_set_acknowledge(w->session, GW_ACKNOWLEDGE_APPLIED);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    gw_flush(w->session);
    answer_all(w, GW_OK);
    cr_expect_eq(w->answers, 1);
    world_run(w, 400 * MS);
    cr_assert_eq(w->answers, 2);
    cr_expect_eq(w->answer[1].tag, 1);
    cr_expect_eq(w->answer[1].status, GW_IN_DOUBT);
    cr_expect_eq(w->session->held, 0);
    peer_crash(A);
    world_run(w, 200 * MS);
    cr_assert_eq(A->batches, 1);
    cr_expect_eq(peer_batch(A)->count, 1, "who was told of doubt is not sent again");
    cr_expect_eq(peer_batch(A)->op[0].serial, 3);
    world_run(w, 2000 * MS);
    cr_expect_eq(w->answers, 2, "what was told has no deadline any more");
    cr_expect_eq(A->connections, 2);
    world_destroy(w);
}

Test(session_durable, closing_tells_whom_nobody_has_told)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED, NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    gw_session_set_acknowledge(w->session, GW_ACKNOWLEDGE_DURABLE);
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    gw_flush(w->session);
    answer_all(w, GW_OK);
    cr_expect_eq(w->answers, 1);
    world_close_session(w);
    cr_assert_eq(w->answers, 2);
    cr_expect_eq(w->answer[1].tag, 2);
    cr_expect_eq(w->answer[1].status, GW_IN_DOUBT);
    world_destroy(w);
}

/* ---- sync ---- */

Test(session_durable, sync_asks_the_servers_concerned_and_waits_in_every_mode)
{
    for (enum gw_acknowledge m = GW_ACKNOWLEDGE_SERVER; m <= GW_ACKNOWLEDGE_DURABLE; m++) {
        struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, m, NULL);
        cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
        cr_expect_eq(gw_session_sync(w->session, 0), GW_E_TIMEOUT);
        world_run(w, 20 * MS);
        cr_expect_eq(A->syncs, 0, "not before there is an answer");
        peer_reply(A, GW_OK);
        world_run(w, 20 * MS);
        cr_expect_eq(A->syncs, 1);
        cr_expect_eq(B->connections, 0);
        cr_expect_eq(gw_session_sync(w->session, 0), GW_E_TIMEOUT);
        world_run(w, 20 * MS);
        cr_expect_eq(A->syncs, 1, "it knows");
        peer_durable(A, 1);
        world_run(w, 20 * MS);
        cr_expect_eq(gw_session_sync(w->session, 0), GW_OK);
        cr_expect_eq(w->answers, 1);
        cr_expect_eq(A->bad_frames, 0);
        world_destroy(w);
    }
}

Test(session_durable, sync_does_not_wait_for_what_is_issued_later)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_APPLIED, NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    answer_all(w, GW_OK);
    uint64_t before = gw_session_issued(w->session);
    A->position = 2;
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    answer_all(w, GW_OK);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect(gwi_keep_secured(w->session, before));
    cr_expect_not(gwi_keep_secured(w->session, before + 1));
    cr_expect_eq(gw_session_sync(w->session, 0), GW_E_TIMEOUT);
    world_destroy(w);
}

Test(session_durable, a_sync_that_was_lost_with_its_connection_is_asked_again)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_SERVER, NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    answer_all(w, GW_OK);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_E_TIMEOUT);
    gw_loop_break(A->conn);
    world_run(w, 200 * MS);
    cr_expect_eq(A->connections, 2, "opened for the sync's sake: nothing is kept");
    cr_expect_eq(A->syncs, 1);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_OK);
    world_destroy(w);
}

Test(session_durable, sync_says_once_what_a_memory_server_has_lost)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_SERVER, NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    answer_all(w, GW_OK);
    peer_durable(A, 1);
    world_run(w, 20 * MS);
    A->position = 2;
    cr_assert_eq(world_add(w, "x", 1, 2), GW_OK);
    cr_assert_eq(world_get(w, "x", 3), GW_OK);
    answer_all(w, GW_OK);
    peer_crash(A);
    A->durable = 7; /* another incarnation's positions say nothing about the old ones */
    cr_expect_eq(gw_session_sync(w->session, 0), GW_E_TIMEOUT);
    world_run(w, 200 * MS);
    cr_expect_eq(stats_of(w).lost, 1, "a read is not");
    cr_expect_eq(gw_session_durable(w->session), 2, "stops below it");
    cr_expect_eq(gw_session_sync(w->session, 0), GW_IN_DOUBT);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_OK);
    cr_expect_eq(gw_session_durable(w->session), 4);
    cr_expect_eq(w->answers, 3);
    cr_expect_eq(A->batches, 0, "nothing goes again");
    world_destroy(w);
}

Test(session_durable, what_was_lost_is_counted_once_however_often_its_server_dies)
{
    struct world *w = durable_world(GW_WIRE_DURABILITY_MEMORY, GW_ACKNOWLEDGE_SERVER, NULL);
    cr_assert_eq(world_add(w, "x", 1, 1), GW_OK);
    answer_all(w, GW_OK);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_E_TIMEOUT);
    peer_crash(A);
    world_run(w, 200 * MS);
    cr_expect_eq(gw_session_sync(w->session, 0), GW_IN_DOUBT, "nothing of it can come any more");
    cr_assert_eq(world_get(w, "x", 2), GW_OK);
    world_run(w, 100 * MS);
    peer_crash(A);
    world_run(w, 200 * MS);
    answer_all(w, GW_OK);
    cr_expect_eq(w->answers, 2);
    cr_expect_eq(stats_of(w).lost, 1);
    world_destroy(w);
}
