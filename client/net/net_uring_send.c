/* net_uring_send.c - outgoing bytes of a connection: one buffer fills while the other is sent.
 * Everything that is committed in a turn goes out in one send, and what is committed while a send
 * is in flight goes out in the next, so a busy connection batches by itself. No MSG_WAITALL: a
 * short send is how we see that a slow peer still takes something (net.h, stalled_ms_max). */
#include "client/net/net_uring.h"

size_t gwi_uring_backlog(const struct gw_conn *conn)
{
    const struct uring_conn *c = (const struct uring_conn *)conn;
    return c->sending_end - c->sending_at + c->filling_end;
}

uint8_t *gwi_uring_reserve(struct gw_conn *conn, size_t bytes)
{
    struct uring_conn *c = (struct uring_conn *)conn;
    struct uring_net *net = gwi_uring_of(conn);
    if (c->state == CONN_CLOSING || c->state == CONN_DETACHING || c->lingering || c->broken)
        return NULL;
    size_t backlog = gwi_uring_backlog(conn);
    if (backlog > 0 && backlog + bytes > net->base.options.backlog_bytes_max) {
        c->refused = true;
        return NULL;
    }
    size_t need = c->filling_end + bytes;
    if (need > c->filling.capacity || !c->filling.bytes) {
        /* Twice what is there, so that many small frames copy each byte a bounded number of times.
         */
        size_t room = c->filling_end > 0 ? 2 * c->filling.capacity : c->filling_hint;
        room = room > need ? room : need;
        if (!gwi_chunk_grow(&net->out, &c->filling, 0, c->filling_end, room)) {
            gwi_uring_end(c, GW_E_NOMEM);
            return NULL;
        }
    }
    c->reserved = true;
    return c->filling.bytes + c->filling_end;
}

void gwi_uring_commit(struct gw_conn *conn, size_t bytes)
{
    struct uring_conn *c = (struct uring_conn *)conn;
    if (c->state == CONN_CLOSING || c->state == CONN_DETACHING || c->broken)
        return; /* it has ended between reserve and commit */
    GW_ASSERT(c->reserved);
    GW_ASSERT(c->filling_end + bytes <= c->filling.capacity);
    c->reserved = false;
    c->filling_end += bytes;
    gwi_uring_of(conn)->out_bytes += bytes;
    if (c->filling_end > 0 && !c->send_inflight)
        gwi_link_append(&gwi_uring_of(conn)->dirty, &c->dirty);
}

static void send_arm(struct uring_net *net, struct uring_conn *c)
{
    struct io_uring_sqe *sqe = gwi_uring_sqe(net);
    io_uring_prep_send(sqe, c->fd, c->sending.bytes + c->sending_at, c->sending_end - c->sending_at,
                       MSG_NOSIGNAL);
    io_uring_sqe_set_data64(sqe, gwi_uring_data(c, OP_SEND));
    c->send_inflight = true;
    net->inflight++;
    net->base.stats.sends++;
    gwi_uring_watch(c);
}

static void send_start(struct uring_net *net, struct uring_conn *c)
{
    GW_ASSERT(!c->send_inflight);
    if (c->state != CONN_OPEN && c->state != CONN_DRAINING)
        return;
    if (c->sending_at == c->sending_end) {
        /* A reservation points into the filling buffer: it must not become the sending one. */
        if (c->filling_end == 0 || c->reserved)
            return;
        gwi_chunk_give(&net->out, &c->sending);
        c->sending = c->filling;
        c->sending_at = 0;
        c->sending_end = c->filling_end;
        c->filling = (struct gwi_chunk){NULL, 0};
        c->filling_end = 0;
        /* With a bound a room is as large as what is in it: a thousand that once held a megabyte
         * would be a gigabyte. */
        size_t most = gwi_uring_bounded(net) ? GWI_HINT_BOUNDED : GWI_HINT_MAX;
        size_t recent = c->sending_end < most ? c->sending_end : most;
        c->filling_hint = recent > c->filling_hint / 2 ? recent : c->filling_hint / 2;
    }
    send_arm(net, c);
}

void gwi_uring_run_dirty(struct uring_net *net)
{
    struct gwi_link turn;
    gwi_link_move_all(&net->dirty, &turn);
    while (!gwi_link_alone(&turn)) {
        struct uring_conn *c = gwi_link_conn(turn.next, dirty);
        gwi_link_remove(&c->dirty);
        if (!c->send_inflight)
            send_start(net, c);
    }
}

/* The peer takes nothing any more, but what it sent before may still be unread (an error frame that
 * says why): output is dropped, and the end comes from the receiving side, or from the tick. */
static void send_broke(struct uring_net *net, struct uring_conn *c)
{
    net->out_bytes -= gwi_uring_backlog(&c->base);
    c->broken = true;
    c->sending_at = c->sending_end = c->filling_end = 0;
    gwi_chunk_give(&net->out, &c->sending);
    if (!c->reserved)
        gwi_chunk_give(&net->out, &c->filling);
    c->since_ns = 0;
    gwi_uring_watch(c);
}

void gwi_uring_send_done(struct uring_net *net, struct uring_conn *c, int result)
{
    c->send_inflight = false;
    net->inflight--;
    if (result > 0) {
        net->base.stats.bytes_out += (uint64_t)result;
        c->progressed = true;
        c->sending_at += (size_t)result;
        net->out_bytes -= (uint64_t)result;
        GW_ASSERT(c->sending_at <= c->sending_end);
    }
    if (c->state == CONN_CLOSING || c->state == CONN_DETACHING) {
        gwi_uring_settle(c);
        return;
    }
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        send_broke(net, c);
        gwi_uring_drain_check(c);
        return;
    }
    if (c->sending_at == c->sending_end) {
        c->sending_at = c->sending_end = 0;
        gwi_chunk_give(&net->out, &c->sending);
    }
    if (c->sending_end > 0 || c->filling_end > 0)
        gwi_link_append(&net->dirty, &c->dirty);
    if (c->refused && gwi_uring_backlog(&c->base) < net->base.options.backlog_bytes_max / 2) {
        c->refused = false;
        if (c->state == CONN_OPEN && net->base.events->drained) {
            net->callbacks++;
            net->base.events->drained(net->base.ctx, &c->base);
        }
    }
    gwi_uring_drain_check(c);
}
