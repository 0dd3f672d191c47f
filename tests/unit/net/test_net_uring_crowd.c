/* test_net_uring_crowd.c - many connections with many bytes: memory stays within the bound, and
 * everybody is served in the end. */
#include "client/net/net.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net_probe.h"

TestSuite(net_uring_crowd, .timeout = 60);

#define PEERS       40u
#define FRAME_BYTES (400u << 10)
#define BUFFER      (16u << 10)
#define TRANSIT     (1u << 20)

struct peer {
    int fd;
    size_t sent;
};

static uint8_t frame_bytes[FRAME_BYTES];

static struct gw_net_options options_of(void)
{
    struct gw_net_options o;
    gw_net_options_default(&o);
    o.frame_bytes_max = 512u << 10;
    o.receive_buffers = 16;
    o.receive_buffer_bytes = BUFFER;
    o.transit_bytes_max = TRANSIT;
    return o;
}

static void open_peers(struct probe *server, struct peer *peers, uint32_t n)
{
    struct gw_net_options o = options_of();
    char bound[64];
    probe_open_server(server, &o, bound);
    probe_frame(frame_bytes, FRAME_BYTES, 7);
    for (uint32_t i = 0; i < n; i++) {
        peers[i] = (struct peer){.fd = probe_raw_connect(bound)};
        cr_assert_eq(fcntl(peers[i].fd, F_SETFL, O_NONBLOCK), 0);
    }
    probe_pump(server, NULL, server->accepted, n);
}

/* Sends what the socket takes of [sent, until); true: all of it is out. */
static bool push(struct peer *peer, size_t until)
{
    while (peer->sent < until) {
        ssize_t n = send(peer->fd, frame_bytes + peer->sent, until - peer->sent, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        peer->sent += (size_t)n;
    }
    return true;
}

static uint64_t transit(const struct probe *p)
{
    struct gw_net_stats stats;
    gw_net_stats(p->net, &stats);
    return stats.transit_in + stats.transit_out + stats.transit_spare;
}

/* Goal: half a frame on each of many connections does not fill memory, and when the rest comes
 * every frame is delivered. */
Test(net_uring_crowd, partial_frames_of_many_stay_within_the_bound_and_all_arrive)
{
    struct probe server = {0};
    struct peer peers[PEERS];
    open_peers(&server, peers, PEERS);
    uint64_t highest = 0;
    for (uint32_t round = 0; round < 200; round++) {
        for (uint32_t i = 0; i < PEERS; i++)
            push(&peers[i], FRAME_BYTES - 1000);
        probe_pump_for(&server, NULL, 1);
        highest = transit(&server) > highest ? transit(&server) : highest;
    }
    /* Half of the bound for what comes in, one frame that grows beyond it (in a chunk of a power of
     * two, and the one before it while it is copied), what two turns brought before all others had
     * stopped. */
    uint64_t most = TRANSIT / 2 + TRANSIT / 8 + 2 * (512u << 10) + PEERS * 2 * BUFFER;
    cr_expect_leq(highest, most, "%llu bytes are held", (unsigned long long)highest);
    cr_expect_geq(highest, TRANSIT / 2, "%llu: there was no crowd, the test says nothing",
                  (unsigned long long)highest);
    for (uint64_t start = probe_now_ms(); server.frames < PEERS;) {
        cr_assert_lt(probe_now_ms() - start, 4000, "%u of %u frames came", (unsigned)server.frames,
                     PEERS);
        for (uint32_t i = 0; i < PEERS; i++)
            push(&peers[i], FRAME_BYTES);
        probe_pump_for(&server, NULL, 1);
    }
    cr_expect_eq(server.closed, 0);
    for (uint32_t i = 0; i < PEERS; i++)
        close(peers[i].fd);
    gw_net_destroy(server.net);
}

/* Goal: one that stops in the middle of its frame, and is first, does not stop all others. */
Test(net_uring_crowd, who_stands_still_at_the_head_of_the_queue_is_closed)
{
    struct probe server = {0};
    struct peer peers[PEERS];
    open_peers(&server, peers, PEERS);
    for (uint32_t i = 0; i < 3; i++) /* these never send the rest */
        for (uint32_t round = 0; round < 40; round++) {
            push(&peers[i], FRAME_BYTES - 1000);
            probe_pump_for(&server, NULL, 1);
        }
    uint64_t start = probe_now_ms();
    while (server.frames < PEERS - 3 && probe_now_ms() - start < 25000) {
        for (uint32_t i = 3; i < PEERS; i++)
            push(&peers[i], FRAME_BYTES);
        probe_pump_for(&server, NULL, 2);
    }
    cr_expect_eq(server.frames, PEERS - 3);
    cr_expect_geq(server.closed, 1);
    cr_expect_eq(server.closed_status, GW_E_TIMEOUT);
    for (uint32_t i = 0; i < PEERS; i++)
        close(peers[i].fd);
    gw_net_destroy(server.net);
}

/* Goal: the caller hears when too much is on its way out, and when it is over. */
Test(net_uring_crowd, output_that_nobody_reads_is_said_to_be_too_much)
{
    struct probe server = {0}, client = {0};
    struct gw_net_options o = options_of();
    probe_connect_pair(&server, &o, &client, NULL);
    gw_conn_pause(client.conn);
    cr_expect_eq(gw_net_crowded(server.net), 0);
    for (uint32_t i = 0; i < 200 && !gw_net_crowded(server.net); i++) {
        cr_assert(probe_send(server.conn, 100u << 10, i));
        probe_pump_for(&server, &client, 1);
    }
    cr_expect(gw_net_crowded(server.net));
    gw_conn_resume(client.conn);
    for (uint64_t start = probe_now_ms(); gw_net_crowded(server.net);) {
        cr_assert_lt(probe_now_ms() - start, 5000);
        probe_pump_for(&server, &client, 1);
    }
    probe_close_pair(&server, &client);
}
