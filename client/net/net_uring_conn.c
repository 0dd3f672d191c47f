/* net_uring_conn.c - a connection's life: accepted or connected, watched by the tick, ended.
 * Moves are those of the diagram in net_uring.h; the rules cited are there too. */
#include "client/net/net_uring.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/log_line.h"

struct uring_conn *gwi_uring_find(struct uring_net *net, uint64_t user_data)
{
    uint32_t slot = (uint32_t)(user_data >> 8) & 0xFFFFFFu;
    uint32_t generation = (uint32_t)(user_data >> 32);
    if (slot >= net->base.options.connections_max)
        return NULL;
    struct uring_conn *c = net->conns[slot];
    return c && c->generation == generation ? c : NULL;
}

struct uring_conn *gwi_uring_conn_new(struct uring_net *net, int fd, void *user)
{
    if (net->free_count == 0)
        return NULL;
    struct uring_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->base.net = &net->base;
    c->base.user = user;
    c->fd = fd;
    c->slot = net->free_slots[--net->free_count];
    c->generation = net->generations[c->slot];
    c->state = CONN_OPEN;
    c->connect_reported = true;
    gwi_link_init(&c->dirty);
    gwi_link_init(&c->ready);
    gwi_link_init(&c->starved);
    gwi_link_init(&c->ending);
    gwi_link_init(&c->timed);
    gwi_link_init(&c->crowded);
    net->conns[c->slot] = c;
    net->base.stats.connections++;
    return c;
}

void gwi_uring_conn_free(struct uring_net *net, struct uring_conn *c)
{
    GW_ASSERT(!c->recv_armed);
    GW_ASSERT(!c->send_inflight);
    GW_ASSERT(!c->connect_inflight);
    gwi_link_remove(&c->dirty);
    gwi_link_remove(&c->ready);
    gwi_link_remove(&c->starved);
    gwi_link_remove(&c->ending);
    gwi_link_remove(&c->timed);
    gwi_link_remove(&c->crowded);
    net->out_bytes -= gwi_uring_backlog(&c->base);
    gwi_chunk_give(&net->out, &c->sending);
    gwi_chunk_give(&net->out, &c->filling);
    gwi_chunk_give(&net->in, &c->stash);
    gwi_uring_stash_count(net, c);
    if (c->fd >= 0)
        close(c->fd);
    net->conns[c->slot] = NULL;
    net->generations[c->slot]++;
    net->free_slots[net->free_count++] = c->slot;
    net->base.stats.connections--;
    free(c);
}

static void send_at_once(int fd)
{
    const int on = 1; /* we batch ourselves; a failure costs time only */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void gwi_uring_accepted(struct uring_net *net, int fd)
{
    struct uring_conn *c = gwi_uring_conn_new(net, fd, NULL);
    if (!c) {
        gw_debug("net.accept", "connections=%u refused=1", net->base.options.connections_max);
        close(fd);
        return;
    }
    send_at_once(fd);
    socklen_t bytes = sizeof c->address;
    (void)getpeername(fd, &c->address.any, &bytes); /* for logs only */
    if (net->base.events->accepted) {
        net->callbacks++;
        net->base.events->accepted(net->base.ctx, &c->base);
    }
    gwi_uring_recv_arm(c);
}

/* A failure found at once takes the same way as a late one: `connected` comes from poll. */
static void connect_fail(struct uring_conn *c, enum gw_status st)
{
    c->state = CONN_CLOSING;
    c->end = st;
    gwi_uring_settle(c);
}

enum gw_status gwi_uring_connect(struct gw_net *base, const char *text, void *user,
                                 struct gw_conn **out)
{
    struct uring_net *net = (struct uring_net *)base;
    union gwi_address address;
    memset(&address, 0, sizeof address);
    enum gw_status found = gwi_address_parse(text, &address);
    if (found == GW_E_INVALID)
        return found;
    if (net->free_count == 0)
        return GW_E_LIMIT;
    int fd = -1;
    if (found == GW_OK) {
        fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            gw_debug("net.connect", "address=%s errno=%d", text, errno);
            return GW_E_IO;
        }
        send_at_once(fd);
    }
    struct uring_conn *c = gwi_uring_conn_new(net, fd, user);
    if (!c) {
        if (fd >= 0)
            close(fd);
        return GW_E_NOMEM;
    }
    c->state = CONN_CONNECTING;
    c->connect_reported = false;
    c->address = address;
    *out = &c->base;
    if (found != GW_OK) {
        connect_fail(c, GW_E_UNREACHABLE);
        return GW_OK;
    }
    struct io_uring_sqe *sqe = gwi_uring_sqe(net);
    io_uring_prep_connect(sqe, fd, &c->address.any, gwi_address_bytes(&c->address));
    io_uring_sqe_set_data64(sqe, gwi_uring_data(c, OP_CONNECT));
    c->connect_inflight = true;
    net->inflight++;
    c->since_ns = gwi_uring_now_ns();
    gwi_uring_watch(c);
    return GW_OK;
}

/* TCP connects a socket to itself when the kernel gives it the very port it is looking for, which
 * happens to who keeps trying a local server that is down: its own frames would come back. */
static bool is_own_peer(int fd)
{
    union gwi_address here, there;
    socklen_t here_bytes = sizeof here, there_bytes = sizeof there;
    memset(&here, 0, sizeof here);
    memset(&there, 0, sizeof there);
    return getsockname(fd, &here.any, &here_bytes) == 0 &&
           getpeername(fd, &there.any, &there_bytes) == 0 && here_bytes == there_bytes &&
           memcmp(&here, &there, here_bytes) == 0;
}

void gwi_uring_connect_done(struct uring_net *net, struct uring_conn *c, int result)
{
    c->connect_inflight = false;
    net->inflight--;
    if (c->state == CONN_CLOSING) { /* closed by the caller, or timed out */
        gwi_uring_settle(c);
        return;
    }
    if (result < 0 || is_own_peer(c->fd)) {
        gw_debug("net.connect", "peer=%s errno=%d", gwi_uring_peer(&c->base), -result);
        connect_fail(c, GW_E_UNREACHABLE);
        return;
    }
    c->state = CONN_OPEN;
    c->since_ns = 0;
    c->connect_reported = true;
    gwi_uring_recv_arm(c);
    if (c->filling_end > 0)
        gwi_link_append(&net->dirty, &c->dirty);
    if (c->drain_when_open)
        gwi_uring_drain(c, GW_E_CLOSED);
    if (net->base.events->connected) {
        net->callbacks++;
        net->base.events->connected(net->base.ctx, &c->base, GW_OK);
    }
}

void gwi_uring_cancel(struct uring_net *net, struct uring_conn *c, enum uring_op op)
{
    struct io_uring_sqe *sqe = gwi_uring_sqe(net);
    io_uring_prep_cancel64(sqe, gwi_uring_data(c, op), 0);
    io_uring_sqe_set_data64(sqe, OP_NONE);
}

static void cancel_all(struct uring_net *net, struct uring_conn *c)
{
    if (c->recv_armed)
        gwi_uring_cancel(net, c, OP_RECV);
    if (c->send_inflight)
        gwi_uring_cancel(net, c, OP_SEND);
    if (c->connect_inflight)
        gwi_uring_cancel(net, c, OP_CONNECT);
}

void gwi_uring_settle(struct uring_conn *c)
{
    struct uring_net *net = gwi_uring_of(&c->base);
    if (c->state != CONN_CLOSING && c->state != CONN_DETACHING)
        return;
    if (c->recv_armed || c->send_inflight || c->connect_inflight)
        return;
    gwi_link_append(&net->ending, &c->ending);
}

void gwi_uring_end(struct uring_conn *c, enum gw_status st)
{
    struct uring_net *net = gwi_uring_of(&c->base);
    if (c->state == CONN_CLOSING)
        return;
    c->end = st;
    if (c->state == CONN_CONNECTING)
        c->connect_reported = true; /* closed by its owner: only `closed` follows */
    c->state = CONN_CLOSING;
    cancel_all(net, c);
    gwi_uring_watch(c);
    gwi_uring_settle(c);
    gwi_uring_kick(net);
}

void gwi_uring_drain(struct uring_conn *c, enum gw_status st)
{
    if (c->state == CONN_CONNECTING)
        c->drain_when_open = true;
    if (c->state != CONN_OPEN)
        return;
    c->state = CONN_DRAINING;
    c->end = st;
    gwi_uring_recv_arm(c); /* to see the peer's end, even when it was paused */
    gwi_uring_drain_check(c);
}

void gwi_uring_drain_check(struct uring_conn *c)
{
    if (c->state != CONN_DRAINING || c->send_inflight)
        return;
    if (gwi_uring_backlog(&c->base) > 0 && !c->broken)
        return;
    if (c->eof || c->broken) {
        gwi_uring_end(c, c->end);
    } else if (!c->lingering) {
        /* Closing with unread input sends a reset, which may overtake our last frame: half-close
         * and wait for the peer to do the same, for a bounded time. */
        c->lingering = true;
        c->since_ns = gwi_uring_now_ns();
        (void)shutdown(c->fd, SHUT_WR);
        gwi_uring_watch(c);
    }
}

static void run_end(struct uring_net *net, struct uring_conn *c)
{
    if (c->state == CONN_DETACHING) {
        gwi_uring_detached(net, c);
        return;
    }
    const struct gw_net_events *events = net->base.events;
    if (c->handover) { /* it was to move, and memory ran out */
        net->callbacks++;
        free(c->handover);
        c->detached(c->detached_ctx, NULL);
    } else if (!c->connect_reported) {
        net->callbacks++;
        if (events->connected)
            events->connected(net->base.ctx, &c->base, c->end);
    } else {
        net->callbacks++;
        if (events->closed)
            events->closed(net->base.ctx, &c->base, c->end);
    }
    gwi_uring_conn_free(net, c);
}

void gwi_uring_run_ending(struct uring_net *net)
{
    struct gwi_link turn;
    gwi_link_move_all(&net->ending, &turn);
    while (!gwi_link_alone(&turn)) {
        struct uring_conn *c = gwi_link_conn(turn.next, ending);
        gwi_link_remove(&c->ending);
        run_end(net, c);
    }
}

void gwi_uring_watch(struct uring_conn *c)
{
    gwi_link_append(&gwi_uring_of(&c->base)->timed, &c->timed);
}

/* When nobody else can be served for what peers do not take, patience is short. */
static uint64_t stalled_ms_max(const struct uring_net *net)
{
    uint64_t usual = net->base.options.stalled_ms_max;
    bool full = gwi_uring_crowded(&net->base) > 1;
    return full && usual > GWI_CROWD_STALLED_MS ? GWI_CROWD_STALLED_MS : usual;
}

/* Returns whether the connection has to be looked at again. */
static bool tick_conn(struct uring_net *net, struct uring_conn *c, uint64_t now)
{
    const struct gw_net_options *o = &net->base.options;
    bool moved = c->progressed;
    c->progressed = false;
    switch (c->state) {
    case CONN_CONNECTING:
        if (now - c->since_ns < o->connect_timeout_ms * UINT64_C(1000000))
            return true;
        c->state = CONN_CLOSING;
        c->end = GW_E_TIMEOUT;
        cancel_all(net, c);
        return true;
    case CONN_OPEN:
    case CONN_DRAINING:
        if (c->since_ns == 0 || (moved && !c->lingering))
            c->since_ns = now;
        if (c->lingering || c->broken) {
            if (now - c->since_ns < GWI_LINGER_NS)
                return true;
            gwi_uring_end(c, c->lingering ? c->end : GW_E_IO);
            return true;
        }
        if (gwi_uring_backlog(&c->base) == 0) {
            c->since_ns = 0;
            return false;
        }
        if (now - c->since_ns >= stalled_ms_max(net) * UINT64_C(1000000))
            gwi_uring_end(c, GW_E_TIMEOUT);
        return true;
    case CONN_DETACHING:
    case CONN_CLOSING:
        /* The cancellation of an operation that was just changing hands in the kernel finds
         * nothing. */
        cancel_all(net, c);
        return true;
    }
    return false;
}

void gwi_uring_tick(struct uring_net *net)
{
    uint64_t now = gwi_uring_now_ns();
    struct gwi_link turn;
    gwi_link_move_all(&net->timed, &turn);
    while (!gwi_link_alone(&turn)) {
        struct uring_conn *c = gwi_link_conn(turn.next, timed);
        gwi_link_remove(&c->timed);
        if (tick_conn(net, c, now))
            gwi_uring_watch(c);
    }
    gwi_uring_crowd_tick(net, now);
}

void gwi_uring_close(struct gw_conn *conn)
{
    gwi_uring_end((struct uring_conn *)conn, GW_E_CLOSED);
}

void gwi_uring_close_after_flush(struct gw_conn *conn)
{
    gwi_uring_drain((struct uring_conn *)conn, GW_E_CLOSED);
    gwi_uring_kick(gwi_uring_of(conn));
}

const char *gwi_uring_peer(const struct gw_conn *conn)
{
    struct uring_conn *c = (struct uring_conn *)conn; /* the text is only a cache */
    if (!c->peer[0])
        gwi_address_format(&c->address, c->peer);
    return c->peer;
}
