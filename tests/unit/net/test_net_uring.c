/* test_net_uring.c - TCP over io_uring: frames, whole and in pieces, garbage, ends, timeouts.
 * Ends that must misbehave are plain sockets; everything runs in one thread, which polls all nets.
 */
#include "client/net/net.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "net_probe.h"

TestSuite(net_uring, .timeout = 60);

static void raw_send(int fd, const void *bytes, size_t n)
{
    cr_assert_eq(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

/* Pours into the server and reads everything up to the end of the stream while the server is
 * polled. */
static size_t raw_read_all(struct probe *server, int fd, uint8_t *room, size_t room_bytes)
{
    static const uint8_t more[100000];
    size_t have = 0;
    uint64_t start = probe_now_ms();
    while (probe_now_ms() - start < 5000) {
        (void)!send(fd, more, sizeof more, MSG_NOSIGNAL | MSG_DONTWAIT);
        gw_net_poll(server->net, 0);
        ssize_t n = recv(fd, room + have, room_bytes - have, MSG_DONTWAIT);
        if (n == 0)
            return have;
        if (n > 0)
            have += (size_t)n;
        else
            cr_assert_eq(errno, EAGAIN, "a reset may overtake what was sent");
    }
    cr_assert_fail("no end of the stream");
    return 0;
}

/* Goal: frames of all sizes, many to a send, arrive whole, unchanged and in order, both ways. */
Test(net_uring, frames_arrive_whole_and_in_order_both_ways)
{
    struct probe server = {.ordered = true, .echo = true}, client = {.ordered = true};
    probe_connect_pair(&server, NULL, &client, NULL);
    for (uint64_t i = 0; i < 2000; i++) {
        while (!probe_send(client.conn, probe_size(i, i % 50 == 0 ? 200000 : 3000), i))
            probe_pump_for(&server, &client, 1);
        if (i % 100 == 99)
            gw_net_poll(client.net, 0);
    }
    probe_pump(&server, &client, client.frames, 2000);
    cr_expect_eq(server.wrong, 0);
    cr_expect_eq(client.wrong, 0);
    cr_expect_eq(server.bytes, client.bytes);
    cr_expect_eq(gw_conn_backlog(client.conn), 0);
    struct gw_net_stats stats;
    gw_net_stats(server.net, &stats);
    cr_expect_eq(stats.frames_in, 2000);
    cr_expect_eq(stats.bytes_in, server.bytes);
    cr_expect_lt(stats.sends, 2000, "the frames of a turn go out together");
    probe_close_pair(&server, &client);
}

Test(net_uring, what_is_committed_before_the_connection_stands_is_sent)
{
    struct probe server = {.ordered = true}, client = {0};
    char bound[64];
    struct gw_conn *conn;
    probe_open_server(&server, NULL, bound);
    probe_open_net(&client, NULL);
    int mark;
    cr_assert_eq(gw_net_connect(client.net, bound, &mark, &conn), GW_OK);
    cr_expect_eq(gw_conn_user(conn), &mark);
    cr_assert(probe_send(conn, 500, 0));
    cr_assert(probe_send(conn, 70, 1));
    probe_pump(&server, &client, server.frames, 2);
    cr_expect_eq(server.wrong, 0);
    cr_expect_str_eq(gw_conn_peer(conn), bound);
    probe_close_pair(&server, &client);
}

Test(net_uring, a_frame_in_single_bytes_arrives_once)
{
    struct probe server = {.ordered = true};
    char bound[64];
    probe_open_server(&server, NULL, bound);
    int fd = probe_raw_connect(bound);
    uint8_t frame[300];
    for (uint64_t number = 0; number < 2; number++) {
        probe_frame(frame, sizeof frame, number);
        for (size_t i = 0; i < sizeof frame; i++) {
            cr_assert_eq(server.frames, number);
            raw_send(fd, frame + i, 1);
            gw_net_poll(server.net, 2000000);
        }
        probe_pump(&server, NULL, server.frames, number + 1);
    }
    cr_expect_eq(server.wrong, 0);
    close(fd);
    gw_net_destroy(server.net);
}

/* Goal: every way of cutting the stream gives the same frames. How: random frames, random cuts. */
Test(net_uring, any_cut_of_the_stream_gives_the_same_frames)
{
    enum { FRAMES = 300, LARGEST = 150000 };
    struct probe server = {.ordered = true};
    char bound[64];
    probe_open_server(&server, NULL, bound);
    int fd = probe_raw_connect(bound);
    uint8_t *stream = malloc((size_t)FRAMES * LARGEST);
    size_t bytes = 0, at = 0;
    for (uint64_t i = 0; i < FRAMES; i++) {
        uint32_t size = probe_size(i, i % 10 == 0 ? LARGEST : 300);
        probe_frame(stream + bytes, size, i);
        bytes += size;
    }
    struct gw_rand rand;
    gw_rand_init(&rand, 7);
    while (at < bytes) {
        size_t n = 1 + gw_rand_below(&rand, gw_rand_below(&rand, 4) == 0 ? 100000 : 100);
        n = n < bytes - at ? n : bytes - at;
        ssize_t sent = send(fd, stream + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        at += sent > 0 ? (size_t)sent : 0;
        gw_net_poll(server.net, 0);
    }
    probe_pump(&server, NULL, server.frames, FRAMES);
    cr_expect_eq(server.wrong, 0);
    free(stream);
    close(fd);
    gw_net_destroy(server.net);
}

Test(net_uring, the_largest_frame_passes_both_ways)
{
    struct gw_net_options options;
    gw_net_options_default(&options);
    struct probe server = {.ordered = true, .echo = true}, client = {.ordered = true};
    probe_connect_pair(&server, NULL, &client, NULL);
    for (uint64_t i = 0; i < 3; i++) {
        cr_assert(probe_send(client.conn, options.frame_bytes_max, i));
        probe_pump(&server, &client, client.frames, i + 1);
    }
    cr_expect_eq(server.wrong + client.wrong, 0);
    probe_close_pair(&server, &client);
}

Test(net_uring, an_empty_backlog_takes_one_frame_above_its_bound)
{
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.backlog_bytes_max = 1000;
    struct probe server = {0}, client = {0};
    probe_connect_pair(&server, NULL, &client, &options);
    cr_assert(probe_send(client.conn, 5000, 0));
    cr_expect_null(gw_conn_reserve(client.conn, 100));
    probe_pump(&server, &client, client.drained, 1);
    cr_assert(probe_send(client.conn, 100, 1));
    probe_pump(&server, &client, server.frames, 2);
    probe_close_pair(&server, &client);
}

/* Goal: each kind of garbage is named, the error frame sent in answer arrives although the peer
 * goes on sending, and only then the connection ends. */
static void expect_garbage(size_t offset, uint32_t value, size_t bytes, enum gw_status expected)
{
    struct probe server = {.error_on_garbage = true};
    char bound[64];
    probe_open_server(&server, NULL, bound);
    int fd = probe_raw_connect(bound);
    uint8_t good[100], bad[64], answer[4096];
    probe_frame(good, sizeof good, 0);
    probe_frame(bad, sizeof bad, 1);
    memcpy(bad + offset, &value, bytes);
    raw_send(fd, good, sizeof good);
    raw_send(fd, bad, sizeof bad);
    size_t got = raw_read_all(&server, fd, answer, sizeof answer);
    cr_expect_eq(server.frames, 1);
    cr_expect_eq(server.garbage, 1);
    cr_expect_eq(server.garbage_status, expected);
    cr_assert_eq(got, 100, "%zu bytes of the error frame came", got);
    cr_expect(probe_frame_is(answer, 100, 999));
    close(fd);
    probe_pump(&server, NULL, server.closed, 1);
    cr_expect_eq(server.closed_status, expected);
    gw_net_destroy(server.net);
}

Test(net_uring, a_wrong_magic_is_garbage)
{
    expect_garbage(4, 0x4848, 2, GW_E_PROTOCOL);
}

Test(net_uring, a_wrong_version_is_garbage)
{
    expect_garbage(6, 99, 1, GW_E_VERSION);
}

Test(net_uring, a_frame_beyond_the_limit_is_garbage)
{
    expect_garbage(0, (4u << 20) + (128u << 10) + 1, 4, GW_E_TOO_LARGE);
}

Test(net_uring, a_frame_shorter_than_its_header_is_garbage)
{
    expect_garbage(0, 63, 4, GW_E_TOO_LARGE);
}

/* Goal: who never closes after garbage is not kept: the linger is bounded. */
Test(net_uring, who_stays_after_garbage_is_closed_a_second_later)
{
    struct probe server = {0};
    char bound[64];
    probe_open_server(&server, NULL, bound);
    int fd = probe_raw_connect(bound);
    raw_send(fd, "GET / HTTP/1.1\r\n\r\n", 18);
    uint64_t start = probe_now_ms();
    probe_pump(&server, NULL, server.closed, 1);
    cr_expect_lt(probe_now_ms() - start, 2500);
    cr_expect_eq(server.closed_status, GW_E_PROTOCOL);
    close(fd);
    gw_net_destroy(server.net);
}

Test(net_uring, a_peer_that_ends_inside_a_frame_is_an_error_between_frames_it_is_not)
{
    struct probe server = {0};
    char bound[64];
    uint8_t frame[200];
    probe_frame(frame, sizeof frame, 0);
    probe_open_server(&server, NULL, bound);
    int fd = probe_raw_connect(bound);
    raw_send(fd, frame, 150);
    probe_pump(&server, NULL, server.accepted, 1);
    close(fd);
    probe_pump(&server, NULL, server.closed, 1);
    cr_expect_eq(server.closed_status, GW_E_IO);
    cr_expect_eq(server.frames, 0);

    fd = probe_raw_connect(bound);
    raw_send(fd, frame, sizeof frame);
    close(fd);
    probe_pump(&server, NULL, server.closed, 2);
    cr_expect_eq(server.closed_status, GW_E_CLOSED);
    cr_expect_eq(server.frames, 1, "what came before the end is delivered");
    gw_net_destroy(server.net);
}

Test(net_uring, a_reset_is_an_error)
{
    struct probe server = {0};
    char bound[64];
    probe_open_server(&server, NULL, bound);
    int fd = probe_raw_connect(bound);
    probe_pump(&server, NULL, server.accepted, 1);
    const struct linger hard = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(fd);
    probe_pump(&server, NULL, server.closed, 1);
    cr_expect_eq(server.closed_status, GW_E_IO);
    gw_net_destroy(server.net);
}

/* Goal: a peer that never reads costs no more than the backlog's bound, others are served
 * meanwhile, and when it reads at last it gets every byte. */
Test(net_uring, a_peer_that_does_not_read_fills_its_bound_only_and_loses_nothing)
{
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.backlog_bytes_max = 1 << 20;
    struct probe server = {.echo = true};
    char bound[64];
    probe_open_server(&server, &options, bound);
    int fd = probe_raw_connect(bound);
    probe_pump(&server, NULL, server.accepted, 1);
    struct gw_conn *slow = server.conn;
    uint64_t sent = 0;
    for (uint64_t full_since = probe_now_ms(); probe_now_ms() - full_since < 100;) {
        if (probe_send(slow, 10000, sent)) {
            sent++;
            full_since = probe_now_ms();
        }
        cr_assert_leq(gw_conn_backlog(slow), options.backlog_bytes_max);
        gw_net_poll(server.net, 0);
    }
    cr_expect_gt(gw_conn_backlog(slow), options.backlog_bytes_max / 2);
    cr_expect_eq(server.drained, 0);

    struct probe other = {0};
    struct gw_conn *conn;
    probe_open_net(&other, NULL);
    cr_assert_eq(gw_net_connect(other.net, bound, NULL, &conn), GW_OK);
    cr_assert(probe_send(conn, 100, 0));
    probe_pump(&server, &other, other.frames, 1);

    uint8_t *room = malloc(10000);
    for (uint64_t i = 0; i < sent; i++) {
        for (size_t have = 0; have < 10000;) {
            ssize_t n = recv(fd, room + have, 10000 - have, MSG_DONTWAIT);
            have += n > 0 ? (size_t)n : 0;
            gw_net_poll(server.net, 0);
        }
        cr_assert(probe_frame_is(room, 10000, i));
    }
    cr_expect_eq(server.drained, 1);
    cr_expect_eq(gw_conn_backlog(slow), 0);
    free(room);
    close(fd);
    probe_close_pair(&server, &other);
}

Test(net_uring, a_stalled_peer_is_closed_a_slow_one_is_not)
{
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.stalled_ms_max = 300;
    struct probe server = {0};
    char bound[64];
    probe_open_server(&server, &options, bound);
    int fd = probe_raw_connect(bound);
    probe_pump(&server, NULL, server.accepted, 1);
    uint64_t number = 0;
    uint8_t *room = malloc(1 << 20);
    while (probe_send(server.conn, 100000, number))
        number++;
    /* Reads little, but something, for longer than the limit. */
    for (uint64_t start = probe_now_ms(); probe_now_ms() - start < 900;) {
        (void)!recv(fd, room, 1 << 20, MSG_DONTWAIT);
        while (server.conn && probe_send(server.conn, 100000, number))
            number++;
        probe_pump_for(&server, NULL, 20);
    }
    cr_assert_eq(server.closed, 0, "a slow peer was closed");
    uint64_t start = probe_now_ms();
    probe_pump(&server, NULL, server.closed, 1);
    cr_expect_eq(server.closed_status, GW_E_TIMEOUT);
    cr_expect_geq(probe_now_ms() - start, 200);
    free(room);
    close(fd);
    gw_net_destroy(server.net);
}

/* Goal: a paused connection delivers nothing and keeps a bounded amount, also of a sender that
 * pours; resumed, it goes on where it was. */
Test(net_uring, a_paused_connection_delivers_nothing_and_loses_nothing)
{
    struct probe server = {.ordered = true, .pause_at = 3}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    uint64_t number = 0;
    for (uint64_t start = probe_now_ms(); probe_now_ms() - start < 300;) {
        for (int i = 0; i < 20 && probe_send(client.conn, 20000, number); i++)
            number++;
        probe_pump_for(&server, &client, 1);
    }
    cr_expect_eq(server.frames, 3);
    cr_expect_gt(gw_conn_backlog(client.conn), 4u << 20, "the window is not closed");
    struct gw_net_stats stats;
    gw_net_stats(server.net, &stats);
    cr_expect_lt(stats.bytes_in, 6u << 20, "a paused connection went on receiving");
    gw_conn_resume(server.conn);
    probe_pump(&server, &client, server.frames, number);
    cr_expect_eq(server.wrong, 0);
    probe_close_pair(&server, &client);
}

Test(net_uring, a_frame_that_would_block_comes_again_after_resume)
{
    struct probe server = {.ordered = true, .block_at = 2}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    for (uint64_t i = 0; i < 5; i++)
        cr_assert(probe_send(client.conn, 1000, i));
    probe_pump(&server, &client, server.frames, 1);
    probe_pump_for(&server, &client, 20);
    cr_expect_eq(server.frames, 1);
    cr_expect(server.blocked);
    /* The peer's end must wait for the frames in front of it. */
    gw_conn_close_after_flush(client.conn);
    probe_pump_for(&server, &client, 20);
    cr_expect_eq(server.closed, 0);
    gw_conn_resume(server.conn);
    probe_pump(&server, &client, server.closed, 1);
    cr_expect_eq(server.frames, 5);
    cr_expect_eq(server.wrong, 0);
    cr_expect_eq(server.closed_status, GW_E_CLOSED);
    probe_close_pair(&server, &client);
}

/* Goal: bytes that arrive in the turn in which a connection is resumed queue behind its older ones.
 * How: a frame of another connection, received just before them, resumes it. */
Test(net_uring, a_connection_resumed_by_another_one_keeps_its_order)
{
    struct probe server = {.block_at = 1}, client = {0};
    char bound[64];
    struct gw_conn *blocked, *other;
    probe_open_server(&server, NULL, bound);
    probe_open_net(&client, NULL);
    cr_assert_eq(gw_net_connect(client.net, bound, NULL, &blocked), GW_OK);
    cr_assert(probe_send(blocked, 100, 0));
    probe_pump(&server, &client, server.accepted, 1);
    server.resume = server.conn;
    probe_pump_for(&server, &client, 10);
    cr_assert(server.blocked);
    cr_assert_eq(gw_net_connect(client.net, bound, NULL, &other), GW_OK);
    probe_pump(&server, &client, server.accepted, 2);
    server.ordered = true; /* 0 is what the other one sends, then the blocked 0 is a wrong 1 */
    cr_assert(probe_send(other, 100, 0));
    cr_assert(probe_send(blocked, 100, 2));
    cr_assert(probe_send(blocked, 100, 3));
    probe_pump(&server, &client, server.frames, 4);
    cr_expect_eq(server.wrong, 1);
    probe_close_pair(&server, &client);
}

Test(net_uring, closing_or_failing_in_the_frame_callback_ends_delivery)
{
    struct probe server = {.close_at = 2}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    for (uint64_t i = 0; i < 5; i++)
        cr_assert(probe_send(client.conn, 1000, i));
    probe_pump(&server, &client, server.closed, 1);
    cr_expect_eq(server.frames, 2);
    cr_expect_eq(server.closed_status, GW_E_CLOSED);
    probe_pump(&server, &client, client.closed, 1);
    probe_close_pair(&server, &client);

    struct probe failing = {.fail_at = 1}, other = {0};
    probe_connect_pair(&failing, NULL, &other, NULL);
    cr_assert(probe_send(other.conn, 1000, 0));
    probe_pump(&failing, &other, failing.closed, 1);
    cr_expect_eq(failing.closed_status, GW_E_REFUSED);
    probe_close_pair(&failing, &other);
}

Test(net_uring, close_after_flush_sends_all_of_the_backlog_first)
{
    struct probe server = {.ordered = true}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    for (uint64_t i = 0; i < 70; i++)
        cr_assert(probe_send(client.conn, 100000, i));
    gw_conn_close_after_flush(client.conn);
    probe_pump(&server, &client, client.closed, 1);
    cr_expect_eq(client.closed_status, GW_E_CLOSED);
    probe_pump(&server, &client, server.closed, 1);
    cr_expect_eq(server.frames, 70);
    cr_expect_eq(server.wrong, 0);
    probe_close_pair(&server, &client);
}

Test(net_uring, a_reservation_holds_the_frame_back_until_it_is_committed)
{
    struct probe server = {.ordered = true}, client = {0};
    probe_connect_pair(&server, NULL, &client, NULL);
    cr_assert(probe_send(client.conn, 100, 0));
    uint8_t *room = gw_conn_reserve(client.conn, 500);
    cr_assert_not_null(room);
    probe_pump_for(&server, &client, 10);
    probe_frame(room, 300, 1);
    gw_conn_commit(client.conn, 300);
    cr_assert_not_null(gw_conn_reserve(client.conn, 1000));
    gw_conn_commit(client.conn, 0);
    probe_pump(&server, &client, server.frames, 2);
    cr_expect_eq(server.wrong, 0);
    cr_expect_eq(server.bytes, 400);
    probe_close_pair(&server, &client);
}
