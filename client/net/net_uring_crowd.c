/* net_uring_crowd.c - what happens when more bytes are on their way than the net may hold.
 *
 * Out: gw_net_crowded says so and the caller makes no more output; what is there leaves, or its
 * connection is closed for standing still. In: only partial frames are held for long, and each
 * needs more bytes to become whole, so that stopping all of them would stop for ever. Hence a
 * queue.
 *
 * Rules: 1. When more than half of the bound is held for input, all connections stop receiving,
 * those without a byte too: what a single receive brings of each would be too much. 2. Those with a
 * partial frame stand in a queue, of which the first one receives; when its frame is whole, or when
 * it is paused by the caller, the next one does. So one frame at a time grows beyond the bound. 3.
 * The first one that gets no byte for GWI_CROWD_STALLED_NS is closed: the others wait for it. 4.
 * All receive again when half of that is free. What is held is in partial frames and in frames that
 * the caller has paused, and both come to an end without the others. */
#include "client/net/net_uring.h"

static uint64_t half(const struct uring_net *net)
{
    return net->base.options.transit_bytes_max / 2;
}

/* What paused connections hold is not counted: it ends when the caller resumes them, which no other
 * connection shall have to wait for. */
static uint64_t live(const struct uring_net *net)
{
    return net->in.taken_bytes - net->in_paused;
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

size_t gwi_uring_paused_bytes_max(const struct uring_net *net)
{
    if (GW_LIKELY(net->base.options.transit_bytes_max == UINT64_MAX))
        return GWI_PAUSED_BYTES_MAX;
    uint64_t part = net->base.options.transit_bytes_max / 64;
    if (net->in_paused > half(net))
        return 0;
    return part < GWI_PAUSED_BYTES_MAX ? (size_t)part : GWI_PAUSED_BYTES_MAX;
}

bool gwi_uring_crowd_waits(struct uring_net *net, struct uring_conn *c)
{
    if (GW_LIKELY(!net->crowd) || c->state != CONN_OPEN || first(net) == c)
        return false;
    gwi_link_append(&net->waiting, &c->crowded); /* if it is in none of the two */
    return true;
}

/* Everybody stops: rule 1. */
static void begin(struct uring_net *net)
{
    net->crowd = true;
    first_changed(net);
    for (uint32_t slot = 0; slot < net->base.options.connections_max; slot++) {
        struct uring_conn *c = net->conns[slot];
        if (!c || c->state != CONN_OPEN)
            continue;
        gwi_link_append(held(c) > 0 && !c->eof ? &net->crowded : &net->waiting, &c->crowded);
        if (c->recv_armed && !c->recv_cancelling && first(net) != c) {
            c->recv_cancelling = true;
            gwi_uring_cancel(net, c, OP_RECV);
        }
    }
}

void gwi_uring_crowd_join(struct uring_net *net, struct uring_conn *c)
{
    if (GW_UNLIKELY(!net->crowd && live(net) > half(net)))
        begin(net);
    if (GW_LIKELY(!net->crowd) || c->state != CONN_OPEN || held(c) == 0 || c->eof)
        return;
    if (first(net) == c)
        return;
    gwi_link_remove(&c->crowded); /* from those that wait */
    if (gwi_link_alone(&net->crowded))
        first_changed(net);
    gwi_link_append(&net->crowded, &c->crowded);
}

static void let_go(struct gwi_link *list)
{
    while (!gwi_link_alone(list)) {
        struct uring_conn *c = gwi_link_conn(list->next, crowded);
        gwi_link_remove(&c->crowded);
        gwi_uring_recv_arm(c);
    }
}

void gwi_uring_crowd_turn(struct uring_net *net)
{
    if (GW_LIKELY(!net->crowd))
        return;
    struct uring_conn *c;
    for (; !gwi_link_alone(&net->crowded); gwi_link_append(&net->waiting, &c->crowded)) {
        c = first(net);
        if (c->state == CONN_OPEN && held(c) > 0 && !c->eof)
            break;
        gwi_link_remove(&c->crowded);
        first_changed(net);
    }
    if (gwi_link_alone(&net->crowded) || live(net) <= half(net) / 2) {
        net->crowd = false;
        let_go(&net->crowded);
        let_go(&net->waiting);
        return;
    }
    if (first(net)->paused) { /* its turn comes again */
        c = first(net);
        gwi_link_remove(&c->crowded);
        gwi_link_append(&net->crowded, &c->crowded);
        first_changed(net);
    }
    if (!first(net)->paused)
        gwi_uring_recv_arm(first(net));
}

void gwi_uring_crowd_tick(struct uring_net *net, uint64_t now_ns)
{
    if (!net->crowd || gwi_link_alone(&net->crowded))
        return;
    struct uring_conn *c = first(net);
    if (net->crowd_ns == 0 || held(c) != net->crowd_bytes || c->paused) {
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
    out->transit_bytes =
        net->in.taken_bytes + net->in.cached_bytes + net->out.taken_bytes + net->out.cached_bytes;
    out->fixed_bytes = (uint64_t)o->receive_buffers * o->receive_buffer_bytes + sizeof *net +
                       o->connections_max * (sizeof *net->conns + sizeof *net->generations +
                                             sizeof *net->free_slots) +
                       net->base.stats.connections * sizeof(struct uring_conn) +
                       GWI_URING_ENTRIES * sizeof(struct io_uring_sqe) +
                       GWI_URING_COMPLETIONS * sizeof(struct io_uring_cqe);
}
