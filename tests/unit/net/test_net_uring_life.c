/* test_net_uring_life.c - TCP over io_uring: connecting, waking, sleeping, moving to another net,
 * many connections, want of descriptors, the end. */
#include "client/net/net.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net_probe.h"

TestSuite(net_uring_life, .timeout = 60);

static uint64_t cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* ---- connecting ---- */

Test(net_uring_life, addresses_that_make_no_sense_are_refused_at_once)
{
    struct probe p = {0};
    struct gw_conn *conn = NULL;
    char bound[64];
    probe_open_server(&p, NULL, bound);
    cr_expect_eq(gw_net_listen(p.net, "127.0.0.1", NULL), GW_E_INVALID);
    cr_expect_eq(gw_net_listen(p.net, bound, NULL), GW_E_BUSY);
    cr_expect_eq(gw_net_listen(p.net, "192.0.2.1:0", NULL), GW_E_INVALID);
    cr_expect_eq(gw_net_connect(p.net, "here:there", NULL, &conn), GW_E_INVALID);
    cr_expect_null(conn);
    gw_net_destroy(p.net);
}

Test(net_uring_life, a_refused_connection_reports_unreachable_and_nothing_else)
{
    struct probe server = {0}, client = {0};
    struct gw_conn *conn;
    char bound[64];
    probe_open_server(&server, NULL, bound);
    gw_net_destroy(server.net); /* nobody listens there now */
    probe_open_net(&client, NULL);
    cr_assert_eq(gw_net_connect(client.net, bound, NULL, &conn), GW_OK);
    cr_expect_eq(client.connected, 0, "callbacks run in poll only");
    probe_pump(&client, NULL, client.connected, 1);
    cr_expect_eq(client.connected_status, GW_E_UNREACHABLE);
    probe_pump_for(&client, NULL, 20);
    cr_expect_eq(client.closed, 0);
    gw_net_destroy(client.net);
}

Test(net_uring_life, a_name_that_is_not_known_reports_unreachable)
{
    struct probe client = {0};
    struct gw_conn *conn;
    probe_open_net(&client, NULL);
    cr_assert_eq(gw_net_connect(client.net, "no-such-host.invalid:7400", NULL, &conn), GW_OK);
    probe_pump(&client, NULL, client.connected, 1);
    cr_expect_eq(client.connected_status, GW_E_UNREACHABLE);
    gw_net_destroy(client.net);
}

/* Goal: an address that does not answer costs the timeout. How: a listener whose queue is full does
 * not answer. */
Test(net_uring_life, a_connection_without_answer_times_out)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof here;
    int full = socket(AF_INET, SOCK_STREAM, 0), filler[4];
    cr_assert_eq(bind(full, (struct sockaddr *)&here, sizeof here), 0);
    cr_assert_eq(listen(full, 0), 0);
    getsockname(full, (struct sockaddr *)&here, &bytes);
    for (size_t i = 0; i < 4; i++) {
        filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(filler[i], (struct sockaddr *)&here, sizeof here);
    }
    char address[64];
    snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(here.sin_port));
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.connect_timeout_ms = 300;
    struct probe client = {0};
    struct gw_conn *conn;
    probe_open_net(&client, &options);
    uint64_t start = probe_now_ms();
    cr_assert_eq(gw_net_connect(client.net, address, NULL, &conn), GW_OK);
    probe_pump(&client, NULL, client.connected, 1);
    cr_expect_eq(client.connected_status, GW_E_TIMEOUT);
    cr_expect_geq(probe_now_ms() - start, 290);
    cr_expect_lt(probe_now_ms() - start, 1500);

    /* Closed before it stands: only `closed` comes. */
    cr_assert_eq(gw_net_connect(client.net, address, NULL, &conn), GW_OK);
    probe_pump_for(&client, NULL, 20);
    gw_conn_close(conn);
    probe_pump(&client, NULL, client.closed, 1);
    cr_expect_eq(client.connected, 1);
    cr_expect_eq(client.closed_status, GW_E_CLOSED);
    for (size_t i = 0; i < 4; i++)
        close(filler[i]);
    close(full);
    gw_net_destroy(client.net);
}

/* ---- many ---- */

Test(net_uring_life, two_thousand_connections_open_talk_and_close)
{
    enum { CONNS = 2000 };
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    cr_assert_gt(files.rlim_max, 2 * CONNS + 100);
    struct probe server = {.echo = true}, client = {0};
    struct gw_conn **conns = calloc(CONNS, sizeof *conns);
    char bound[64];
    probe_open_server(&server, NULL, bound);
    probe_open_net(&client, NULL);
    for (uint32_t i = 0; i < CONNS; i++) {
        cr_assert_eq(gw_net_connect(client.net, bound, NULL, &conns[i]), GW_OK);
        cr_assert(probe_send(conns[i], probe_size(i, 2000), i));
        if (i % 100 == 0)
            gw_net_poll(server.net, 0);
    }
    probe_pump(&server, &client, client.frames, CONNS);
    cr_expect_eq(server.accepted, CONNS);
    for (uint32_t i = 0; i < CONNS; i += 2)
        gw_conn_close(conns[i]);
    probe_pump(&server, &client, server.closed, CONNS / 2);
    for (uint32_t i = 1; i < CONNS; i += 2) /* all at once: more than there are receive buffers */
        cr_assert(probe_send(conns[i], 5000, i));
    probe_pump(&server, &client, client.frames, CONNS + CONNS / 2);
    for (uint32_t i = 1; i < CONNS; i += 2)
        gw_conn_close(conns[i]);
    probe_pump(&server, &client, server.closed, CONNS);
    cr_expect_eq(client.closed, CONNS);
    cr_expect_eq(server.wrong + client.wrong, 0);
    struct gw_net_stats stats;
    gw_net_stats(server.net, &stats);
    cr_expect_eq(stats.connections, 0);
    free(conns);
    probe_close_pair(&server, &client);
}

/* Goal: one that pours does not starve many that send little. */
Test(net_uring_life, small_senders_get_through_beside_one_that_pours)
{
    enum { SMALL = 100 };
    struct probe server = {0}, pouring = {0}, small = {0};
    struct gw_conn *conns[SMALL];
    char bound[64];
    probe_open_server(&server, NULL, bound);
    probe_open_net(&pouring, NULL);
    probe_open_net(&small, NULL);
    struct gw_conn *fat;
    cr_assert_eq(gw_net_connect(pouring.net, bound, NULL, &fat), GW_OK);
    for (int i = 0; i < SMALL; i++)
        cr_assert_eq(gw_net_connect(small.net, bound, NULL, &conns[i]), GW_OK);
    probe_pump(&server, &small, small.connected, SMALL);
    for (int i = 0; i < SMALL; i++)
        cr_assert(probe_send(conns[i], 100, 0));
    gw_net_flush(small.net);
    uint64_t poured = 0;
    uint32_t turns = 0;
    for (; turns < 200 && server.frames - server.garbage < SMALL; turns++) {
        while (probe_send(fat, 60000, poured))
            poured++;
        gw_net_poll(pouring.net, 0);
        gw_net_poll(server.net, 0);
        gw_net_poll(small.net, 0);
    }
    cr_expect_lt(turns, 200);
    cr_expect_eq(server.wrong, 0);
    gw_net_destroy(small.net);
    probe_close_pair(&server, &pouring);
}

/* Goal: whose receive ends because all buffers are taken goes on. How: more is waiting in the
 * sockets, at once, than all buffers hold. */
Test(net_uring_life, more_input_at_once_than_receive_buffers_gets_through)
{
    enum { CONNS = 30, FRAMES = 60 };
    struct probe server = {0}, client = {0};
    struct gw_conn *conns[CONNS];
    char bound[64];
    probe_open_server(&server, NULL, bound);
    probe_open_net(&client, NULL);
    for (int i = 0; i < CONNS; i++)
        cr_assert_eq(gw_net_connect(client.net, bound, NULL, &conns[i]), GW_OK);
    probe_pump(&server, &client, server.accepted, CONNS);
    for (int round = 0; round < 5; round++) {
        for (uint64_t n = 0; n < FRAMES; n++)
            for (int i = 0; i < CONNS; i++)
                cr_assert(probe_send(conns[i], 60000, n));
        probe_pump_for(&client, NULL, 20); /* the sockets fill up, the server does not look */
        probe_pump(&server, &client, server.frames, (uint64_t)(round + 1) * CONNS * FRAMES);
    }
    cr_expect_eq(server.wrong, 0);
    probe_close_pair(&server, &client);
}

Test(net_uring_life, one_connection_too_many_is_accepted_and_closed)
{
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.connections_max = 2;
    struct probe server = {0}, client = {0};
    char bound[64];
    struct gw_conn *conn;
    probe_open_server(&server, &options, bound);
    probe_open_net(&client, &options);
    cr_assert_eq(gw_net_connect(client.net, bound, NULL, &conn), GW_OK);
    cr_assert_eq(gw_net_connect(client.net, bound, NULL, &conn), GW_OK);
    cr_expect_eq(gw_net_connect(client.net, bound, NULL, &conn), GW_E_LIMIT);
    probe_pump(&server, &client, server.accepted, 2);
    int fd = probe_raw_connect(bound);
    char byte;
    probe_pump_for(&server, &client, 50);
    cr_expect_eq(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
    cr_expect_eq(server.accepted, 2);
    close(fd);
    probe_close_pair(&server, &client);
}

/* Goal: without descriptors accepting neither spins nor ends; with descriptors again it goes on. */
Test(net_uring_life, accepting_survives_a_want_of_descriptors)
{
    struct probe server = {0};
    char bound[64];
    probe_open_server(&server, NULL, bound);
    int fd = probe_raw_connect(bound); /* before the first poll: io_uring notes the limit then */
    int spare = dup(fd);               /* the lowest free number is the limit now */
    close(spare);
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = before;
    none.rlim_cur = (rlim_t)spare;
    setrlimit(RLIMIT_NOFILE, &none);
    uint64_t cpu = cpu_us();
    probe_pump_for(&server, NULL, 400);
    cr_expect_eq(server.accepted, 0);
    cr_expect_lt(cpu_us() - cpu, 100000, "accepting spins");
    setrlimit(RLIMIT_NOFILE, &before);
    probe_pump(&server, NULL, server.accepted, 1);
    close(fd);
    gw_net_destroy(server.net);
}

/* ---- sleeping and waking ---- */

struct waker {
    struct gw_net *net;
    atomic_uint asked, seen;
    atomic_bool stop;
    uint32_t times;
};

static void *wake_many(void *arg)
{
    struct waker *w = arg;
    for (uint32_t i = 1; i <= w->times; i++) {
        for (uint32_t pause = i % 16; pause > 0; pause--) /* meets the owner at ever other points */
            (void)atomic_load(&w->stop);
        atomic_store(&w->asked, i);
        gw_net_wake(w->net);
        while (atomic_load(&w->seen) != i && !atomic_load(&w->stop)) {
            if (i % 64 == 0)
                usleep(20); /* sometimes late, so that the owner is deep asleep the next time */
        }
    }
    return NULL;
}

/* Goal: no wake-up is lost, whatever the owner is doing. How: the owner sleeps for up to 5 s, each
 * time; a lost one is seen by the time it takes. */
static void expect_no_lost_wake(uint32_t spin_ns_max, uint32_t times)
{
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.spin_ns_max = spin_ns_max;
    struct probe p = {0};
    probe_open_net(&p, &options);
    struct waker w = {.net = p.net, .times = times};
    pthread_t thread;
    pthread_create(&thread, NULL, wake_many, &w);
    uint64_t longest = 0;
    while (atomic_load(&w.seen) < times && longest < 2000) {
        uint64_t start = probe_now_ms();
        gw_net_poll(p.net, UINT64_C(5000000000));
        uint64_t took = probe_now_ms() - start;
        longest = took > longest ? took : longest;
        atomic_store(&w.seen, atomic_load(&w.asked));
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    cr_expect_lt(longest, 2000, "a wake-up was lost");
    gw_net_destroy(p.net);
}

Test(net_uring_life, no_wake_is_lost_while_sleeping)
{
    expect_no_lost_wake(0, 30000);
}

Test(net_uring_life, no_wake_is_lost_while_spinning)
{
    expect_no_lost_wake(2000, 30000);
}

Test(net_uring_life, a_wake_before_the_poll_is_kept)
{
    struct probe p = {0};
    probe_open_net(&p, NULL);
    gw_net_wake(p.net);
    uint64_t start = probe_now_ms();
    cr_expect_eq(gw_net_poll(p.net, UINT64_C(3000000000)), 0);
    cr_expect_lt(probe_now_ms() - start, 1000);
    start = probe_now_ms();
    gw_net_poll(p.net, 100000000);
    cr_expect_geq(probe_now_ms() - start, 95, "one wake ends one poll");
    gw_net_destroy(p.net);
}

static void wake_late(void *ctx)
{
    gw_net_wake(((struct probe *)ctx)->net);
}

/* Goal: a wake between the decision to sleep and the sleep is not lost. How: the hook runs right
 * there. */
Test(net_uring_life, a_wake_on_the_way_to_sleep_is_kept)
{
    struct probe p = {0};
    probe_open_net(&p, NULL);
    gw_net_set_sleep_hooks(p.net, wake_late, NULL);
    uint64_t start = probe_now_ms();
    gw_net_poll(p.net, UINT64_C(3000000000));
    cr_expect_lt(probe_now_ms() - start, 1000);
    gw_net_destroy(p.net);
}

static uint32_t slept, woke;
static void count_sleep(void *ctx)
{
    (void)ctx;
    slept++;
}
static void count_wake(void *ctx)
{
    (void)ctx;
    woke++;
}

Test(net_uring_life, an_idle_net_sleeps_also_with_connections_and_after_traffic)
{
    struct probe server = {.echo = true}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    gw_net_set_sleep_hooks(server.net, count_sleep, count_wake);
    for (uint64_t i = 0; i < 2000; i++) {
        cr_assert(probe_send(client.conn, 100, i));
        probe_pump(&server, &client, client.frames, i + 1);
    }
    gw_net_poll(server.net, 300000000);
    uint32_t before = slept;
    uint64_t cpu = cpu_us(), start = probe_now_ms();
    gw_net_poll(server.net, 300000000);
    cr_expect_geq(probe_now_ms() - start, 295);
    cr_expect_lt(cpu_us() - cpu, 3000, "an idle net used %llu us", cpu_us() - cpu);
    cr_expect_gt(slept, before);
    cr_expect_leq(slept, before + 3, "it does not wake up by itself");
    cr_expect_eq(slept, woke);
    probe_close_pair(&server, &client);
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, timeout_ms) == 1;
}

static void *wake_once(void *net)
{
    usleep(20000);
    gw_net_wake(net);
    return NULL;
}

Test(net_uring_life, the_descriptor_is_readable_when_there_is_something_to_do)
{
    struct probe server = {.block_at = 3}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    int fd = gw_net_eventfd(server.net);
    cr_assert_geq(fd, 0);
    cr_expect_eq(gw_net_eventfd(server.net), fd);
    while (readable(fd, 0))
        gw_net_poll(server.net, 0);
    for (uint64_t i = 0; i < 50; i++) {
        cr_expect_not(readable(fd, 1), "nothing has come");
        cr_assert(probe_send(client.conn, 100, i));
        gw_net_flush(client.net);
        uint64_t had = server.frames;
        cr_assert(readable(fd, 2000), "frame %llu does not show", (unsigned long long)i);
        while (readable(fd, 0))
            gw_net_poll(server.net, 0);
        gw_net_poll(client.net, 0);
        if (i == 2) { /* blocked: to be resumed is something to do as well */
            cr_expect(server.blocked);
            cr_expect_not(readable(fd, 5));
            gw_conn_resume(server.conn);
            cr_assert(readable(fd, 2000), "a resumed connection does not show");
            gw_net_poll(server.net, 0);
        }
        cr_expect_eq(server.frames, had + 1);
    }
    cr_expect_eq(server.frames, 50);

    pthread_t thread;
    pthread_create(&thread, NULL, wake_once, server.net);
    cr_assert(readable(fd, 2000), "a wake does not show");
    pthread_join(thread, NULL);
    gw_net_poll(server.net, 0);
    cr_expect_not(readable(fd, 10));
    gw_conn_close(client.conn);
    probe_pump(&client, NULL, client.closed, 1);
    cr_assert(readable(fd, 2000), "an end does not show");
    while (readable(fd, 0))
        gw_net_poll(server.net, 0);
    cr_expect_eq(server.closed, 1);
    cr_expect_not(readable(fd, 10));
    probe_close_pair(&server, &client);
}

/* ---- moving and ending ---- */

/* Goal: a connection moves between nets under traffic in both directions and no frame is lost,
 * doubled or out of order. How: it moves back and forth again and again while the client streams.
 */
static void expect_handover_keeps_everything(bool again)
{
    enum { FRAMES = 3000, MOVES = 20 };
    struct probe server[2] = {{.ordered = true, .echo = true}, {.ordered = true, .echo = true}};
    struct probe client = {.ordered = true};
    probe_connect_pair(&server[0], NULL, &client, NULL);
    probe_open_net(&server[1], NULL);
    uint64_t sent = 0;
    uint32_t at = 0, moves = 0;
    server[0].detach_at = 50;
    server[0].detach_again = server[1].detach_again = again;
    for (uint64_t start = probe_now_ms(); client.frames < FRAMES;) {
        cr_assert_lt(probe_now_ms() - start, 20000, "%llu frames, %u moves",
                     (unsigned long long)client.frames, moves);
        while (sent < FRAMES && sent < client.frames + 400 &&
               probe_send(client.conn, probe_size(sent, 30000), sent))
            sent++;
        gw_net_poll(client.net, 0);
        gw_net_poll(server[at].net, 0);
        if (!server[at].handover)
            continue;
        struct probe *from = &server[at], *to = &server[1 - at];
        cr_expect_null(from->conn);
        to->expected = from->expected;
        cr_assert_eq(gw_net_attach(to->net, from->handover, to, &to->conn), GW_OK);
        from->handover = NULL;
        at = 1 - at;
        if (++moves < MOVES)
            to->detach_at = (uint32_t)to->frames + 60;
    }
    cr_expect_eq(moves, MOVES);
    cr_expect_eq(server[0].wrong + server[1].wrong + client.wrong, 0);
    cr_expect_eq(server[0].frames + server[1].frames, FRAMES);
    cr_expect_eq(server[0].closed + server[1].closed, 0);
    cr_expect_eq(server[1 - at].handovers + server[at].handovers, MOVES);
    gw_net_destroy(client.net);
    probe_close_pair(&server[0], &server[1]);
}

Test(net_uring_life, a_handover_under_traffic_keeps_every_frame)
{
    expect_handover_keeps_everything(false);
}

Test(net_uring_life, a_handover_takes_the_frame_in_hand_along)
{
    expect_handover_keeps_everything(true);
}

Test(net_uring_life, a_dropped_handover_closes_the_connection)
{
    struct probe server = {.detach_at = 1}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    cr_assert(probe_send(client.conn, 100, 0));
    probe_pump(&server, &client, server.handovers, 1);
    gw_handover_drop(server.handover);
    probe_pump(&server, &client, client.closed, 1);
    cr_expect_eq(server.closed, 0);
    probe_close_pair(&server, &client);
}

Test(net_uring_life, destroy_closes_everything_without_callbacks)
{
    struct probe server = {0}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    while (probe_send(client.conn, 1 << 20, 0)) /* a send is in flight and stays so */
        gw_net_poll(client.net, 0);
    gw_net_destroy(client.net);
    cr_expect_eq(client.closed, 0);
    probe_pump(&server, NULL, server.closed, 1);
    gw_net_destroy(server.net);
}

/* Goal: created here, used there: the thread that polls first is the owner. */
static void *poll_elsewhere(void *arg)
{
    struct probe *server = arg;
    for (uint64_t start = probe_now_ms(); server->frames < 10 && probe_now_ms() - start < 5000;)
        gw_net_poll(server->net, 10000000);
    return NULL;
}

Test(net_uring_life, a_net_may_be_made_by_another_thread_than_its_owner)
{
    struct probe server = {.ordered = true}, client = {0};
    char bound[64];
    struct gw_conn *conn;
    pthread_t thread;
    probe_open_server(&server, NULL, bound);
    probe_open_net(&client, NULL);
    pthread_create(&thread, NULL, poll_elsewhere, &server);
    cr_assert_eq(gw_net_connect(client.net, bound, NULL, &conn), GW_OK);
    for (uint64_t i = 0; i < 10; i++)
        cr_assert(probe_send(conn, 1000, i));
    probe_pump_for(&client, NULL, 50);
    pthread_join(thread, NULL);
    cr_expect_eq(server.frames, 10);
    gw_net_destroy(server.net); /* the owner has ended */
    gw_net_destroy(client.net);
}

/* ---- time ---- */

static struct gw_net_stats stats_of(const struct gw_net *net)
{
    struct gw_net_stats stats;
    gw_net_stats(net, &stats);
    return stats;
}

/* Goal: who has a date in less than the busy wait lasts does not sleep as well, which would be
 * late and may end on another processor. How: sleeps are counted; the first waits, whose ends are
 * near, teach the net that busy waits pay. */
Test(net_uring_life, a_wait_that_is_shorter_than_the_busy_wait_does_not_sleep)
{
    enum { SHORT_NS = 20000, LONGER_NS = 60000, LESSONS = 5000, WAITS = 200 };
    struct probe p = {0};
    probe_open_net(&p, NULL);
    bool learned = false;
    for (int i = 0; i < LESSONS && !learned; i++) {
        gw_net_poll(p.net, LONGER_NS);
        uint64_t before = stats_of(p.net).waits;
        gw_net_poll(p.net, SHORT_NS);
        learned = stats_of(p.net).waits == before;
    }
    cr_assert(learned, "it always sleeps");
    uint64_t before = stats_of(p.net).waits;
    for (int i = 0; i < WAITS; i++)
        gw_net_poll(p.net, SHORT_NS);
    cr_expect_eq(stats_of(p.net).waits, before);
    gw_net_destroy(p.net);
}

Test(net_uring_life, time_without_work_is_idle_and_no_other)
{
    struct probe server = {.ordered = true}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    uint64_t idle = stats_of(server.net).idle_ns, start = probe_now_ms(), sent = 0;
    while (probe_now_ms() - start < 30) {
        if (probe_send(client.conn, 20000, sent))
            sent++;
        gw_net_poll(client.net, 0);
        gw_net_poll(server.net, 0);
    }
    cr_expect_gt(server.frames, 0);
    cr_expect_eq(stats_of(server.net).idle_ns, idle, "a poll that may not wait has waited");
    probe_pump(&server, &client, server.frames, sent);
    idle = stats_of(server.net).idle_ns;
    start = probe_now_ms();
    gw_net_poll(server.net, 100000000);
    uint64_t waited = (probe_now_ms() - start) * 1000000;
    idle = stats_of(server.net).idle_ns - idle;
    cr_expect(idle > 90000000 && idle < waited + 2000000, "%llu ns idle of %llu",
              (unsigned long long)idle, (unsigned long long)waited);
    probe_close_pair(&server, &client);
}
