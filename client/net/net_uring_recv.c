/* net_uring_recv.c - incoming bytes: one receive a connection (multishot, unless the bytes on their
 * way have a bound), into a ring of buffers
 * that all connections share. A frame that lies whole in a buffer is delivered there, without a
 * copy; the rest of the stream waits in the connection's stash, which grows with the bytes that
 * came (never with the length that a header claims) and is given back when it is empty. Buffers
 * return to the ring before the turn ends, so it runs dry only within one; whose receive then ends
 * with ENOBUFS is armed again at the turn's end, in order, as many as there are buffers. That
 * bounds a turn's input (to 4 MiB by default) and nobody starves. */
#include "client/net/net_uring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/frame.h"
#include "index/base/log_line.h"
#include "index/base/memory.h"

#define BUFFER_GROUP 0
#define STASH_SMALL  ((size_t)64 << 10)
#define HEADER_START 8u /* gw_frame_length needs so many bytes */

static size_t buffers_bytes(const struct uring_net *net)
{
    return (size_t)net->base.options.receive_buffers * net->base.options.receive_buffer_bytes;
}

static void buffers_free(const struct uring_net *net, void *buffers)
{
    if (net->buffers_mapped)
        gw_memory_unmap(buffers, buffers_bytes(net));
    else
        free(buffers);
}

enum gw_status gwi_uring_buffers_init(struct uring_net *net)
{
    void *ring, *buffers;
    const uint32_t count = net->base.options.receive_buffers;
    const uint32_t bytes = net->base.options.receive_buffer_bytes;
    if (count > GWI_BUFFERS_MAX || (count & (count - 1)) != 0) /* the kernel masks with it */
        return GW_E_INVALID;
    if (posix_memalign(&ring, 4096, count * sizeof(struct io_uring_buf)) != 0)
        return GW_E_NOMEM;
    enum gw_status st = GW_OK;
    net->buffers_mapped = buffers_bytes(net) >= GWI_BUFFERS_MAP_BYTES;
    if (net->buffers_mapped)
        st = gw_memory_map(buffers_bytes(net), &buffers, NULL);
    else if (posix_memalign(&buffers, 4096, buffers_bytes(net)) != 0)
        st = GW_E_NOMEM;
    if (st != GW_OK)
        goto fail_map;
    memset(ring, 0, count * sizeof(struct io_uring_buf));

    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)ring,
        .ring_entries = count,
        .bgid = BUFFER_GROUP,
    };
    int rc = io_uring_register_buf_ring(&net->ring, &reg, 0);
    if (rc < 0) {
        gw_debug("net.buffers", "errno=%d", -rc);
        st = rc == -ENOMEM ? GW_E_NOMEM : GW_E_UNSUPPORTED;
        goto fail_register;
    }
    net->buffer_ring = ring;
    net->buffers = buffers;
    io_uring_buf_ring_init(net->buffer_ring);
    for (uint32_t i = 0; i < count; i++)
        io_uring_buf_ring_add(net->buffer_ring, net->buffers + (size_t)i * bytes, bytes,
                              (unsigned short)i,
                              io_uring_buf_ring_mask(net->base.options.receive_buffers), (int)i);
    io_uring_buf_ring_advance(net->buffer_ring, (int)count);
    return GW_OK;

fail_register:
    buffers_free(net, buffers);
fail_map:
    free(ring);
    return st;
}

void gwi_uring_buffers_fini(struct uring_net *net) /* after the ring: the kernel has let go */
{
    buffers_free(net, net->buffers);
    free(net->buffer_ring);
}

static void buffer_return(struct uring_net *net, uint32_t buffer)
{
    io_uring_buf_ring_add(net->buffer_ring,
                          net->buffers + (size_t)buffer * net->base.options.receive_buffer_bytes,
                          net->base.options.receive_buffer_bytes, (unsigned short)buffer,
                          io_uring_buf_ring_mask(net->base.options.receive_buffers), 0);
    io_uring_buf_ring_advance(net->buffer_ring, 1);
}

static size_t stash_bytes(const struct uring_conn *c)
{
    return c->stash_end - c->stash_at;
}

/* May a frame be delivered now? A connection on the ready list has older bytes to deliver first. */
static bool takes_frames(const struct uring_conn *c)
{
    return c->state == CONN_OPEN && !c->paused && gwi_link_alone(&c->ready);
}

static bool keeps_bytes(const struct uring_conn *c)
{
    return c->state == CONN_OPEN || c->state == CONN_DETACHING;
}

void gwi_uring_recv_arm(struct uring_conn *c)
{
    struct uring_net *net = gwi_uring_of(&c->base);
    if (c->recv_armed || c->eof || (c->state != CONN_OPEN && c->state != CONN_DRAINING))
        return;
    if (c->paused && c->state == CONN_OPEN && stash_bytes(c) > GWI_PAUSED_BYTES_MAX)
        return;
    bool bounded = gwi_uring_bounded(net);
    if (bounded && gwi_uring_crowd_waits(net, c))
        return;
    struct io_uring_sqe *sqe = gwi_uring_sqe(net);
    if (bounded)
        io_uring_prep_recv(sqe, c->fd, NULL, 0, 0);
    else
        io_uring_prep_recv_multishot(sqe, c->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data64(sqe, gwi_uring_data(c, OP_RECV));
    c->recv_armed = true;
    c->recv_cancelling = false;
    net->inflight++;
}

/* `expected`: how many bytes the stash will have to hold for the frame to be whole, 0 if unknown.
 */
static bool stash_append(struct uring_net *net, struct uring_conn *c, const uint8_t *bytes,
                         size_t n, size_t expected)
{
    size_t held = stash_bytes(c);
    if (c->stash_end + n > c->stash.capacity) {
        /* Ahead of what came, but by no more than four times: the claim of a header is no proof. */
        size_t room = expected < 4 * (held + n) ? expected : 4 * (held + n);
        room = room > held + n ? room : held + n;
        if (net->in.taken_bytes > net->base.options.transit_bytes_max / 2 &&
            net->crowded.next != &c->crowded)
            room = held + n; /* it will not go on for a while */
        if (!gwi_chunk_grow(&net->in, &c->stash, c->stash_at, c->stash_end, room))
            return false;
        c->stash_at = 0;
        c->stash_end = held;
        gwi_uring_stash_count(net, c);
    }
    memcpy(c->stash.bytes + c->stash_end, bytes, n);
    c->stash_end += n;
    return true;
}

/* A frame has left and little is behind it: with a bound the room must not stay as large as it was,
 * for it may be long until the rest comes. No memory: it stays. */
static void stash_shrink(struct uring_net *net, struct uring_conn *c)
{
    size_t held = stash_bytes(c);
    if (c->stash.capacity <= STASH_SMALL || held * 4 > c->stash.capacity)
        return;
    if (!gwi_chunk_grow(&net->in, &c->stash, c->stash_at, c->stash_end, held))
        return;
    c->stash_at = 0;
    c->stash_end = held;
}

static void stash_consume(struct uring_net *net, struct uring_conn *c, size_t n)
{
    c->stash_at += n;
    if (c->stash_at == c->stash_end) {
        c->stash_at = c->stash_end = 0;
        gwi_chunk_give(&net->in, &c->stash);
    } else if (n > 0 && gwi_uring_bounded(net)) {
        stash_shrink(net, c);
    }
    gwi_uring_stash_count(net, c);
}

static void garbage(struct uring_net *net, struct uring_conn *c, enum gw_status st)
{
    if (net->base.events->garbage) {
        net->callbacks++;
        net->base.events->garbage(net->base.ctx, &c->base, st);
    }
    if (c->state == CONN_OPEN)
        gwi_uring_drain(c, st);
}

/* Delivers the whole frames of [bytes, bytes + n). Returns how many bytes are done with; *expected
 * is the length of the frame that is left incomplete, 0 if unknown. */
static size_t deliver(struct uring_net *net, struct uring_conn *c, const uint8_t *bytes, size_t n,
                      size_t *expected)
{
    size_t at = 0;
    *expected = 0;
    while (at < n && takes_frames(c)) {
        uint32_t length = 0;
        enum gw_status st =
            gw_frame_length(bytes + at, n - at, net->base.options.frame_bytes_max, &length);
        if (st != GW_OK) {
            garbage(net, c, st);
            return n;
        }
        if (length == 0 || length > n - at) {
            *expected = length;
            break;
        }
        net->base.stats.frames_in++;
        net->callbacks++;
        st = net->base.events->frame(net->base.ctx, &c->base, bytes + at, length);
        if (c->state == CONN_DETACHING && c->detach_again)
            break;
        if (st == GW_WOULD_BLOCK) {
            net->base.stats.frames_in--; /* it comes again */
            c->paused = true;
            gwi_uring_stash_count(net, c);
            break;
        }
        at += length;
        if (gw_failed(st))
            gwi_uring_end(c, st);
    }
    return at;
}

/* What follows a look at the stash: the peer's end, if it waited for the frames before it. */
static void end_if_last(struct uring_conn *c)
{
    if (c->eof && takes_frames(c))
        gwi_uring_drain(c, stash_bytes(c) > 0 ? GW_E_IO : GW_E_CLOSED);
}

static void feed(struct uring_net *net, struct uring_conn *c, const uint8_t *bytes, size_t n)
{
    size_t expected = 0;
    bool room = true;
    /* A partial frame gets exactly what it lacks, so that the next frame can be delivered in place.
     */
    while (room && n > 0 && stash_bytes(c) > 0 && takes_frames(c)) {
        size_t held = stash_bytes(c);
        uint32_t length = 0;
        enum gw_status st = gw_frame_length(c->stash.bytes + c->stash_at, held,
                                            net->base.options.frame_bytes_max, &length);
        GW_ASSERT(st == GW_OK); /* deliver() has looked at the same bytes */
        size_t lacks = (length ? length : HEADER_START) - held;
        size_t part = lacks < n ? lacks : n;
        room = stash_append(net, c, bytes, part, length);
        if (!room)
            break;
        bytes += part;
        n -= part;
        if (part == lacks) {
            size_t done = deliver(net, c, c->stash.bytes + c->stash_at, stash_bytes(c), &expected);
            stash_consume(net, c, done);
        }
    }
    if (room && n > 0 && stash_bytes(c) == 0 && takes_frames(c)) {
        size_t done = deliver(net, c, bytes, n, &expected);
        bytes += done;
        n -= done;
    }
    if (room && n > 0 && keeps_bytes(c))
        room = stash_append(net, c, bytes, n, expected);
    if (!room)
        gwi_uring_end(c, GW_E_NOMEM);
    if (!keeps_bytes(c))
        stash_consume(net, c, stash_bytes(c));
}

static void recv_failed(struct uring_net *net, struct uring_conn *c, int result)
{
    switch (-result) {
    case ENOBUFS:
        gwi_link_append(&net->starved, &c->starved);
        break;
    case ECANCELED:
    case EINTR:
    case EAGAIN:
        gwi_uring_recv_arm(c); /* unless it is paused or on its way out */
        break;
    default:
        gw_debug("net.receive", "peer=%s errno=%d", gwi_uring_peer(&c->base), -result);
        c->eof = true;
        if (c->state != CONN_DETACHING)
            gwi_uring_end(c, c->state == CONN_DRAINING ? c->end : GW_E_IO);
    }
}

void gwi_uring_recv_done(struct uring_net *net, struct uring_conn *c, int result, uint32_t flags)
{
    if (!(flags & IORING_CQE_F_MORE) && c) {
        c->recv_armed = false;
        net->inflight--;
    }
    if (flags & IORING_CQE_F_BUFFER) {
        uint32_t buffer = flags >> IORING_CQE_BUFFER_SHIFT;
        if (c && result > 0) {
            net->base.stats.bytes_in += (uint64_t)result;
            if (keeps_bytes(c))
                feed(net, c, net->buffers + (size_t)buffer * net->base.options.receive_buffer_bytes,
                     (size_t)result);
        }
        buffer_return(net, buffer);
    }
    if (!c)
        return;
    if (result == 0) {
        c->eof = true;
        if (stash_bytes(c) == 0 || takes_frames(c)) {
            if (c->state == CONN_OPEN)
                gwi_uring_drain(c, stash_bytes(c) > 0 ? GW_E_IO : GW_E_CLOSED);
        }
        gwi_uring_drain_check(c);
    } else if (result < 0) {
        recv_failed(net, c, result);
    } else if (!c->recv_armed) {
        gwi_uring_recv_arm(c);
    }
    /* A short pause costs nothing; a long one must not fill memory with what the peer sends. */
    if (c->paused && c->state == CONN_OPEN && c->recv_armed && !c->recv_cancelling &&
        stash_bytes(c) > GWI_PAUSED_BYTES_MAX) {
        c->recv_cancelling = true;
        gwi_uring_cancel(net, c, OP_RECV);
    }
    gwi_uring_settle(c);
}

void gwi_uring_run_ready(struct uring_net *net)
{
    struct gwi_link turn;
    gwi_link_move_all(&net->ready, &turn);
    while (!gwi_link_alone(&turn)) {
        struct uring_conn *c = gwi_link_conn(turn.next, ready);
        gwi_link_remove(&c->ready);
        if (!takes_frames(c))
            continue;
        size_t expected;
        size_t done = deliver(net, c, c->stash.bytes + c->stash_at, stash_bytes(c), &expected);
        stash_consume(net, c, done);
        end_if_last(c);
        gwi_uring_recv_arm(c);
    }
}

void gwi_uring_run_starved(struct uring_net *net)
{
    for (uint32_t i = 0; i < net->base.options.receive_buffers && !gwi_link_alone(&net->starved);
         i++) {
        struct uring_conn *c = gwi_link_conn(net->starved.next, starved);
        gwi_link_remove(&c->starved);
        gwi_uring_recv_arm(c);
    }
}

void gwi_uring_pause(struct gw_conn *conn)
{
    struct uring_conn *c = (struct uring_conn *)conn;
    c->paused = true;
    gwi_uring_stash_count(gwi_uring_of(conn), c);
}

void gwi_uring_resume(struct gw_conn *conn)
{
    struct uring_conn *c = (struct uring_conn *)conn;
    struct uring_net *net = gwi_uring_of(conn);
    if (!c->paused)
        return;
    c->paused = false;
    gwi_uring_stash_count(net, c);
    if (c->state != CONN_OPEN)
        return;
    if (stash_bytes(c) > 0 || c->eof)
        gwi_link_append(&net->ready, &c->ready);
    else
        gwi_uring_recv_arm(c);
    gwi_uring_kick(net);
}
