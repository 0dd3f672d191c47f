/* net_uring_crowd.c - what happens when more bytes are on their way than the net may hold.
 *
 * Out: gw_net_crowded says so and the caller makes no more output; what is there leaves, or its
 * connection is closed for standing still. In: frames that come in one piece are never held. What
 * is held is partial frames, each of which needs more bytes to become whole, and frames that the
 * caller has paused, which it takes without any more bytes of anybody.
 *
 * Rules: 1. With a bound every receive brings one buffer at most, and a paused connection with
 * bytes receives nothing. 2. While more than half of the bound is held for input, a connection that
 * has a partial frame stands in a queue, of which the first one receives; when its frame is whole
 * the next one does. So one frame at a time grows beyond the bound; all others hold one buffer
 * beyond it, and those whose frames come whole do not notice. 3. While paused connections alone
 * hold more than that half, the first one does not receive either: its frame would only be the next
 * to be paused. 4. The first one that could receive and gets no byte for GWI_CROWD_STALLED_NS is
 * closed: the others wait for it. */
#include "client/net/net_uring.h"

static uint64_t half(const struct uring_net *net)
{
    return net->base.options.transit_bytes_max / 2;
}

static struct uring_conn *first(const struct uring_net *net)
{
    return gwi_link_conn(net->crowded.next, crowded);
}

static size_t held(const struct uring_conn *c)
{
    return c->stash_end - c->stash_at;
}

static void first_changed(struct uring_net *net)
{
    net->crowd_ns = 0; /* the next tick begins to count */
    net->crowd_bytes = 0;
}

bool gwi_uring_bounded(const struct uring_net *net)
{
    return net->base.options.transit_bytes_max != UINT64_MAX;
}

bool gwi_uring_crowd_waits(struct uring_net *net, struct uring_conn *c)
{
    if (c->state != CONN_OPEN || held(c) == 0)
        return false;
    if (c->paused)
        return true;
    if (GW_LIKELY(gwi_link_alone(&c->crowded) && net->in.taken_bytes <= half(net)))
        return false;
    if (gwi_link_alone(&net->crowded))
        first_changed(net);
    gwi_link_append(&net->crowded, &c->crowded); /* unless it is there */
    return first(net) != c || net->in_paused > half(net);
}

void gwi_uring_crowd_turn(struct uring_net *net)
{
    while (GW_UNLIKELY(!gwi_link_alone(&net->crowded))) {
        struct uring_conn *c = first(net);
        if (c->state == CONN_OPEN && held(c) > 0 && !c->eof && !c->paused &&
            net->in.taken_bytes > half(net) / 2) {
            gwi_uring_recv_arm(c);
            return;
        }
        gwi_link_remove(&c->crowded);
        first_changed(net);
        gwi_uring_recv_arm(c);
    }
}

void gwi_uring_crowd_tick(struct uring_net *net, uint64_t now_ns)
{
    if (gwi_link_alone(&net->crowded))
        return;
    struct uring_conn *c = first(net);
    if (net->crowd_ns == 0 || held(c) != net->crowd_bytes || !c->recv_armed) {
        net->crowd_ns = now_ns;
        net->crowd_bytes = held(c);
    } else if (now_ns - net->crowd_ns >= GWI_CROWD_STALLED_NS) {
        gwi_uring_end(c, GW_E_TIMEOUT);
        gwi_uring_settle(c);
    }
}

uint32_t gwi_uring_crowded(const struct gw_net *base)
{
    const struct uring_net *net = (const struct uring_net *)base;
    if (GW_LIKELY(net->out_bytes <= half(net)))
        return 0;
    return net->out_bytes <= net->base.options.transit_bytes_max ? 1 : 2;
}

void gwi_uring_memory(const struct gw_net *base, struct gw_net_stats *out)
{
    const struct uring_net *net = (const struct uring_net *)base;
    const struct gw_net_options *o = &net->base.options;
    out->transit_in = net->in.taken_bytes;
    out->transit_paused = net->in_paused;
    out->transit_out = net->out.taken_bytes;
    out->transit_spare = net->in.cached_bytes + net->out.cached_bytes;
    out->fixed_bytes = (uint64_t)o->receive_buffers * o->receive_buffer_bytes + sizeof *net +
                       o->connections_max * (sizeof *net->conns + sizeof *net->generations +
                                             sizeof *net->free_slots) +
                       net->base.stats.connections * sizeof(struct uring_conn) +
                       GWI_URING_ENTRIES * sizeof(struct io_uring_sqe) +
                       GWI_URING_COMPLETIONS * sizeof(struct io_uring_cqe);
}
