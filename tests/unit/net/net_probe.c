/* net_probe.c - see net_probe.h. */
#include "net_probe.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "index/base/clock.h"

void probe_frame(uint8_t *room, uint32_t bytes, uint64_t number)
{
    const struct gw_frame header = {.bytes = bytes, .kind = GW_KIND_BATCH, .sequence = number};
    gw_frame_encode(&header, room);
    for (uint32_t i = GW_FRAME_HEADER; i < bytes; i++)
        room[i] = (uint8_t)(number * 31 + i + (i >> 8));
}

bool probe_frame_is(const uint8_t *frame, uint32_t bytes, uint64_t number)
{
    struct gw_frame header;
    if (gw_frame_decode(frame, bytes, &header) != GW_OK || header.sequence != number)
        return false;
    for (uint32_t i = GW_FRAME_HEADER; i < bytes; i++)
        if (frame[i] != (uint8_t)(number * 31 + i + (i >> 8)))
            return false;
    return true;
}

bool probe_send(struct gw_conn *conn, uint32_t bytes, uint64_t number)
{
    uint8_t *room = gw_conn_reserve(conn, bytes);
    if (!room)
        return false;
    probe_frame(room, bytes, number);
    gw_conn_commit(conn, bytes);
    return true;
}

uint32_t probe_size(uint64_t number, uint32_t max)
{
    uint64_t mixed = (number + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return GW_FRAME_HEADER + (uint32_t)((mixed >> 33) % (max - GW_FRAME_HEADER + 1));
}

static void on_accepted(void *ctx, struct gw_conn *conn)
{
    struct probe *p = ctx;
    p->accepted++;
    p->conn = conn;
}

static void on_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct probe *p = ctx;
    p->connected++;
    p->connected_status = st;
    p->conn = st == GW_OK ? conn : NULL;
}

static void on_detached(void *ctx, struct gw_handover *handover)
{
    struct probe *p = ctx;
    p->handovers++;
    p->handover = handover;
    p->lost_handover = handover == NULL;
}

static void detach(struct probe *p, struct gw_conn *conn)
{
    p->detach_at = 0;
    p->conn = NULL;
    if (gw_conn_detach(conn, p->detach_again, on_detached, p) != GW_OK)
        p->wrong++;
}

static enum gw_status on_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                               uint32_t bytes)
{
    struct probe *p = ctx;
    uint64_t nth = p->frames + 1;
    const uint32_t detach_at = p->detach_at;
    if (nth == p->block_at && !p->blocked) {
        p->blocked = true;
        return GW_WOULD_BLOCK;
    }
    if (nth == detach_at && p->detach_again) {
        detach(p, conn);
        return GW_END;
    }
    uint64_t number = p->ordered ? p->expected : gw_load64(frame + 24);
    if (!probe_frame_is(frame, bytes, number))
        p->wrong++;
    p->expected++;
    p->frames++;
    p->bytes += bytes;
    if (p->echo) {
        uint8_t *room = gw_conn_reserve(conn, bytes);
        if (room) {
            memcpy(room, frame, bytes);
            gw_conn_commit(conn, bytes);
        } else {
            p->wrong++;
        }
    }
    if (nth == detach_at) {
        detach(p, conn);
        return GW_END;
    }
    if (p->resume && p->resume != conn) {
        gw_conn_resume(p->resume);
        p->resume = NULL;
    }
    if (nth == p->pause_at)
        gw_conn_pause(conn);
    if (nth == p->close_at) {
        gw_conn_close(conn);
        return GW_END;
    }
    return nth == p->fail_at ? GW_E_REFUSED : GW_OK;
}

static void on_garbage(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct probe *p = ctx;
    p->garbage++;
    p->garbage_status = st;
    if (p->error_on_garbage && !probe_send(conn, 100, 999))
        p->wrong++;
}

static void on_drained(void *ctx, struct gw_conn *conn)
{
    struct probe *p = ctx;
    (void)conn;
    p->drained++;
}

static void on_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct probe *p = ctx;
    p->closed++;
    p->closed_status = st;
    if (p->conn == conn)
        p->conn = NULL;
}

const struct gw_net_events probe_events = {
    .accepted = on_accepted,
    .connected = on_connected,
    .frame = on_frame,
    .garbage = on_garbage,
    .drained = on_drained,
    .closed = on_closed,
};

uint64_t probe_now_ms(void)
{
    return gw_clock_now_ns(gw_clock_system()) / 1000000;
}

void probe_open_net(struct probe *p, const struct gw_net_options *options)
{
    cr_assert_eq(gw_net_uring_create(options, &probe_events, p, &p->net), GW_OK);
}

void probe_open_server(struct probe *p, const struct gw_net_options *options, char *bound)
{
    probe_open_net(p, options);
    cr_assert_eq(gw_net_listen(p->net, "127.0.0.1:0", bound), GW_OK);
}

/* Polls `a` (and `b`) until *counter is at least `goal`; false after 5 s. */
bool probe_pump_until(struct probe *a, struct probe *b, const void *counter, size_t counter_bytes,
                      uint64_t goal)
{
    uint64_t start = probe_now_ms();
    for (;;) {
        uint64_t value = counter_bytes == 4 ? gw_load32(counter) : gw_load64(counter);
        if (value >= goal)
            return true;
        if (probe_now_ms() - start > 5000)
            return false;
        gw_net_poll(a->net, b ? 0 : 1000000);
        if (b)
            gw_net_poll(b->net, 100000);
    }
}
void probe_pump_for(struct probe *a, struct probe *b, uint64_t ms)
{
    for (uint64_t start = probe_now_ms(); probe_now_ms() - start < ms;) {
        gw_net_poll(a->net, 1000000);
        if (b)
            gw_net_poll(b->net, 0);
    }
}

void probe_connect_pair(struct probe *server, const struct gw_net_options *server_options,
                        struct probe *client, const struct gw_net_options *client_options)
{
    char bound[64];
    struct gw_conn *conn;
    probe_open_server(server, server_options, bound);
    probe_open_net(client, client_options);
    cr_assert_eq(gw_net_connect(client->net, bound, NULL, &conn), GW_OK);
    probe_pump(server, client, client->connected, 1);
    probe_pump(server, client, server->accepted, 1);
    cr_assert_eq(client->connected_status, GW_OK);
}

int probe_raw_connect(const char *bound)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons((uint16_t)atoi(strchr(bound, ':') + 1));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

void probe_close_pair(struct probe *a, struct probe *b)
{
    gw_net_destroy(a->net);
    gw_net_destroy(b->net);
}
