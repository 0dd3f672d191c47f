/* test_net_loop.c - the in-process transport of the simulator: order, determinism, breaks,
 * partitions. */
#include "client/net/net_loop.h"

#include <criterion/criterion.h>
#include <string.h>

#include "net_probe.h"

TestSuite(net_loop, .timeout = 30);

enum { NODES = 4 };

struct world {
    struct gw_loop *loop;
    struct probe node[NODES];
    uint64_t trace; /* of what happened when and to whom */
};

static const char *const names[NODES] = {"a:1", "b:1", "c:1", "d:1"};

static void open_world(struct world *w, uint64_t seed, const struct gw_net_options *options)
{
    struct gw_loop_options loop_options;
    gw_loop_options_default(&loop_options);
    loop_options.seed = seed;
    memset(w, 0, sizeof *w);
    cr_assert_eq(gw_loop_create(&loop_options, &w->loop), GW_OK);
    for (int i = 0; i < NODES; i++) {
        struct probe *p = &w->node[i];
        cr_assert_eq(gw_net_loop_create(w->loop, names[i], options, &probe_events, p, &p->net),
                     GW_OK);
        cr_assert_eq(gw_net_listen(p->net, names[i], NULL), GW_OK);
    }
}

static void close_world(struct world *w)
{
    for (int i = 0; i < NODES; i++)
        gw_net_destroy(w->node[i].net);
    gw_loop_destroy(w->loop);
}

static uint64_t now(struct world *w)
{
    return gw_clock_now_ns(gw_loop_clock(w->loop));
}

static bool step(struct world *w)
{
    struct gw_net *net;
    if (!gw_loop_step(w->loop, &net))
        return false;
    uint32_t who = 0;
    while (w->node[who].net != net)
        who++;
    uint32_t callbacks = gw_net_poll(net, UINT64_MAX);
    w->trace = (w->trace ^ now(w) ^ (uint64_t)who << 56 ^ (uint64_t)callbacks << 48) *
               UINT64_C(0x100000001B3);
    return true;
}

static void run(struct world *w) /* until nothing is on its way */
{
    for (uint32_t steps = 0; step(w); steps++)
        cr_assert_lt(steps, 1000000);
}

static struct gw_conn *connect_nodes(struct world *w, int from, int to)
{
    struct gw_conn *conn;
    cr_assert_eq(gw_net_connect(w->node[from].net, names[to], NULL, &conn), GW_OK);
    run(w);
    cr_assert_eq(w->node[from].connected_status, GW_OK);
    return conn;
}

Test(net_loop, frames_keep_their_order_within_a_connection_and_take_time)
{
    struct world w;
    open_world(&w, 1, NULL);
    uint64_t start = now(&w), wall = gw_clock_wall_ms(gw_loop_clock(w.loop));
    struct gw_conn *conn = connect_nodes(&w, 0, 1);
    w.node[0].ordered = w.node[1].ordered = w.node[1].echo = true;
    for (uint64_t i = 0; i < 500; i++) {
        cr_assert(probe_send(conn, probe_size(i, 5000), i));
        if (i % 7 == 0)
            step(&w);
    }
    run(&w);
    cr_expect_eq(w.node[1].frames, 500);
    cr_expect_eq(w.node[0].frames, 500);
    cr_expect_eq(w.node[0].wrong + w.node[1].wrong, 0);
    cr_expect_eq(gw_conn_backlog(conn), 0);
    cr_expect_gt(now(&w), start + 20000);
    cr_expect_leq(gw_clock_wall_ms(gw_loop_clock(w.loop)) - wall, 20);
    cr_expect_str_eq(gw_conn_peer(conn), "b:1");
    close_world(&w);
}

/* Three nodes stream to the fourth, with a break and a partition on the way. */
static uint64_t busy_run(uint64_t seed)
{
    struct world w;
    struct gw_conn *conn[3];
    open_world(&w, seed, NULL);
    w.node[3].echo = true;
    for (int i = 0; i < 3; i++)
        conn[i] = connect_nodes(&w, i, 3);
    for (uint64_t i = 0; i < 300; i++) {
        if (i < 150)
            cr_assert(probe_send(conn[i % 3], 100, i));
        else if (i % 3 != 0)
            cr_assert(probe_send(conn[i % 3], 100, i));
        if (i == 150)
            cr_assert_eq(gw_loop_break_between(w.loop, "a:1", "d:1"), 1);
        if (i == 200)
            cr_assert_eq(gw_loop_partition(w.loop, "b:1", "d:1"), GW_OK);
        if (i == 280)
            gw_loop_heal_all(w.loop);
        step(&w);
    }
    run(&w);
    cr_expect_eq(w.node[0].closed_status, GW_E_IO);
    cr_expect_eq(w.node[1].frames, 100);
    uint64_t trace = w.trace;
    close_world(&w);
    return trace;
}

Test(net_loop, the_same_seed_gives_the_same_run_another_one_does_not)
{
    cr_expect_eq(busy_run(42), busy_run(42));
    cr_expect_neq(busy_run(42), busy_run(43));
}

/* Goal: between connections any order is possible, so a simulation meets them all. */
Test(net_loop, connections_overtake_each_other)
{
    uint32_t later_first = 0;
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct world w;
        open_world(&w, seed, NULL);
        struct gw_conn *first = connect_nodes(&w, 0, 3), *second = connect_nodes(&w, 1, 3);
        cr_assert(probe_send(first, 100, 1));
        cr_assert(probe_send(second, 100, 2));
        w.node[3].ordered = true;
        w.node[3].expected = 1; /* wrong counts when 2 comes before 1 */
        run(&w);
        cr_assert_eq(w.node[3].frames, 2);
        later_first += w.node[3].wrong > 0;
        close_world(&w);
    }
    cr_expect_gt(later_first, 10);
    cr_expect_lt(later_first, 40);
}

Test(net_loop, a_break_ends_both_ends_and_loses_what_is_on_its_way)
{
    struct world w;
    open_world(&w, 5, NULL);
    struct gw_conn *conn = connect_nodes(&w, 0, 1);
    cr_assert(probe_send(conn, 100, 0));
    gw_net_flush(w.node[0].net);
    gw_loop_break(conn);
    run(&w);
    cr_expect_eq(w.node[0].closed, 1);
    cr_expect_eq(w.node[1].closed, 1);
    cr_expect_eq(w.node[0].closed_status, GW_E_IO);
    cr_expect_eq(w.node[1].closed_status, GW_E_IO);
    cr_expect_eq(w.node[1].frames, 0);
    close_world(&w);
}

Test(net_loop, a_close_comes_behind_the_frames_that_were_sent)
{
    struct world w;
    open_world(&w, 6, NULL);
    struct gw_conn *conn = connect_nodes(&w, 0, 1);
    w.node[1].ordered = true;
    for (uint64_t i = 0; i < 10; i++)
        cr_assert(probe_send(conn, 100, i));
    gw_conn_close_after_flush(conn);
    run(&w);
    cr_expect_eq(w.node[1].frames, 10);
    cr_expect_eq(w.node[1].closed_status, GW_E_CLOSED);
    cr_expect_eq(w.node[0].closed_status, GW_E_CLOSED);

    conn = connect_nodes(&w, 0, 1);
    cr_assert(probe_send(conn, 100, 10));
    gw_conn_close(conn); /* what was not sent is dropped */
    run(&w);
    cr_expect_eq(w.node[1].frames, 10);
    cr_expect_eq(w.node[1].closed, 2);
    close_world(&w);
}

/* Goal: a partition delays, as TCP would; only new connections fail, and healing mends it. */
Test(net_loop, a_partition_holds_frames_back_until_it_heals)
{
    struct world w;
    open_world(&w, 7, NULL);
    struct gw_conn *conn = connect_nodes(&w, 0, 1), *aside = connect_nodes(&w, 2, 1);
    w.node[1].echo = true;
    cr_assert_eq(gw_loop_partition(w.loop, "b:1", "a:1"), GW_OK);
    for (uint64_t i = 0; i < 3; i++) {
        cr_assert(probe_send(conn, 100, i));
        cr_assert(probe_send(aside, 100, i));
    }
    run(&w);
    cr_expect_eq(w.node[2].frames, 3, "others are not concerned");
    cr_expect_eq(w.node[1].frames, 3);
    cr_expect_eq(gw_conn_backlog(conn), 300);
    cr_expect_eq(gw_loop_next_ns(w.loop), UINT64_MAX);

    struct gw_conn *fresh;
    uint64_t start = now(&w);
    cr_assert_eq(gw_net_connect(w.node[0].net, "b:1", NULL, &fresh), GW_OK);
    run(&w);
    cr_expect_eq(w.node[0].connected_status, GW_E_TIMEOUT);
    cr_expect_eq(now(&w) - start, 5000000000u);

    gw_loop_advance(w.loop, now(&w) + 1000);
    gw_loop_heal(w.loop, "a:1", "b:1");
    run(&w);
    cr_expect_eq(w.node[0].frames, 3);
    cr_expect_eq(w.node[0].closed, 0);
    close_world(&w);
}

Test(net_loop, nobody_there_is_unreachable)
{
    struct world w;
    struct gw_conn *conn;
    open_world(&w, 8, NULL);
    cr_assert_eq(gw_net_connect(w.node[0].net, "z:9", NULL, &conn), GW_OK);
    cr_expect_eq(w.node[0].connected, 0);
    run(&w);
    cr_expect_eq(w.node[0].connected, 1);
    cr_expect_eq(w.node[0].connected_status, GW_E_UNREACHABLE);
    cr_expect_eq(w.node[0].closed, 0);
    close_world(&w);
}

Test(net_loop, names_and_addresses_are_taken_once)
{
    struct world w;
    struct gw_net *net;
    open_world(&w, 9, NULL);
    cr_expect_eq(gw_net_loop_create(w.loop, "a:1", NULL, &probe_events, NULL, &net), GW_E_BUSY);
    cr_expect_eq(gw_net_listen(w.node[1].net, "a:1", NULL), GW_E_BUSY);
    cr_expect_eq(gw_net_eventfd(w.node[1].net), -1);
    close_world(&w);
}

/* Goal: a node that is destroyed is a crashed process: its peers see the end, its name is free. */
Test(net_loop, a_destroyed_node_ends_its_connections_and_may_come_back)
{
    struct world w;
    open_world(&w, 10, NULL);
    connect_nodes(&w, 0, 1);
    struct probe *b = &w.node[1];
    gw_net_destroy(b->net);
    cr_assert_eq(gw_net_loop_create(w.loop, "b:1", NULL, &probe_events, b, &b->net), GW_OK);
    cr_assert_eq(gw_net_listen(b->net, "b:1", NULL), GW_OK);
    run(&w);
    cr_expect_eq(w.node[0].closed, 1);
    cr_expect_eq(b->closed, 0, "no callbacks for the destroyed");
    connect_nodes(&w, 0, 1);
    cr_expect_eq(b->accepted, 2);
    close_world(&w);
}

Test(net_loop, a_full_backlog_refuses_and_says_when_it_has_drained)
{
    struct world w;
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.backlog_bytes_max = 1000;
    open_world(&w, 11, &options);
    struct gw_conn *conn = connect_nodes(&w, 0, 1);
    w.node[1].block_at = 1; /* pauses the receiver */
    uint64_t sent = 0;
    while (probe_send(conn, 100, sent))
        sent++;
    cr_expect_eq(sent, 10);
    run(&w);
    cr_expect(w.node[1].blocked);
    cr_expect_eq(w.node[1].frames, 0);
    cr_expect_eq(w.node[0].drained, 0);
    cr_expect_eq(gw_conn_backlog(conn), 1000);
    gw_conn_resume(w.node[1].conn);
    run(&w);
    cr_expect_eq(w.node[1].frames, 10);
    cr_expect_eq(w.node[0].drained, 1);
    cr_expect_eq(w.node[1].wrong, 0);
    close_world(&w);
}

Test(net_loop, garbage_is_told_and_answered)
{
    struct world w;
    open_world(&w, 12, NULL);
    struct gw_conn *conn = connect_nodes(&w, 0, 1);
    w.node[1].error_on_garbage = true;
    memset(gw_conn_reserve(conn, 80), 'x', 80);
    gw_conn_commit(conn, 80);
    run(&w);
    cr_expect_eq(w.node[1].garbage_status, GW_E_PROTOCOL);
    cr_expect_eq(w.node[1].closed_status, GW_E_PROTOCOL);
    cr_expect_eq(w.node[0].frames, 1);
    cr_expect_eq(w.node[0].closed, 1);
    close_world(&w);
}

Test(net_loop, closing_and_failing_in_the_frame_callback_end_delivery)
{
    struct world w;
    open_world(&w, 13, NULL);
    struct gw_conn *conn = connect_nodes(&w, 0, 1);
    w.node[1].close_at = 2;
    for (uint64_t i = 0; i < 5; i++)
        cr_assert(probe_send(conn, 100, i));
    run(&w);
    cr_expect_eq(w.node[1].frames, 2);
    cr_expect_eq(w.node[1].closed_status, GW_E_CLOSED);
    cr_expect_eq(w.node[0].closed, 1);
    w.node[1].fail_at = 3;
    conn = connect_nodes(&w, 0, 1);
    cr_assert(probe_send(conn, 100, 0));
    run(&w);
    cr_expect_eq(w.node[1].closed_status, GW_E_REFUSED);
    close_world(&w);
}

Test(net_loop, a_wake_gives_the_node_a_turn)
{
    struct world w;
    struct gw_net *net = NULL;
    open_world(&w, 14, NULL);
    cr_expect_not(gw_loop_step(w.loop, &net));
    gw_net_wake(w.node[2].net);
    cr_expect_eq(gw_loop_next_ns(w.loop), now(&w));
    cr_assert(gw_loop_step(w.loop, &net));
    cr_expect_eq(net, w.node[2].net);
    gw_net_poll(net, 0);
    cr_expect_not(gw_loop_step(w.loop, &net));
    close_world(&w);
}
