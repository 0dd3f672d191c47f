/* net_uring_handover.c - a connection moves to another thread's net.
 * The kernel may be receiving into our buffers when detach is called, and those bytes belong to the
 * connection: so the operations are cancelled, what they still bring goes to the stash, and only
 * when their last completions are in (rule 1) does the socket leave, with stash and unsent bytes.
 */
#include "client/net/net_uring.h"

#include <stdlib.h>
#include <unistd.h>

struct gw_handover {
    int fd;
    bool eof, broken;
    union gwi_address address;
    struct gwi_chunk sending, filling, stash;
    size_t sending_at, sending_end, filling_end, stash_at, stash_end;
};

enum gw_status gwi_uring_detach(struct gw_conn *conn, bool again, gw_detached_cb done, void *ctx)
{
    struct uring_conn *c = (struct uring_conn *)conn;
    struct uring_net *net = gwi_uring_of(conn);
    GW_ASSERT(!c->reserved);
    if (c->state != CONN_OPEN)
        return GW_E_CLOSED;
    c->handover = calloc(1, sizeof *c->handover);
    if (!c->handover)
        return GW_E_NOMEM;
    c->detached = done;
    c->detached_ctx = ctx;
    c->detach_again = again;
    c->state = CONN_DETACHING;
    if (c->recv_armed)
        gwi_uring_cancel(net, c, OP_RECV);
    if (c->send_inflight)
        gwi_uring_cancel(net, c, OP_SEND);
    gwi_uring_watch(c);
    gwi_uring_settle(c);
    gwi_uring_kick(net);
    return GW_OK;
}

void gwi_uring_detached(struct uring_net *net, struct uring_conn *c)
{
    struct gw_handover *h = c->handover;
    gw_detached_cb done = c->detached;
    void *ctx = c->detached_ctx;
    *h = (struct gw_handover){
        .fd = c->fd,
        .eof = c->eof,
        .broken = c->broken,
        .address = c->address,
        .sending = c->sending,
        .filling = c->filling,
        .stash = c->stash,
        .sending_at = c->sending_at,
        .sending_end = c->sending_end,
        .filling_end = c->filling_end,
        .stash_at = c->stash_at,
        .stash_end = c->stash_end,
    };
    net->out_bytes -= gwi_uring_backlog(&c->base);
    c->sending_at = c->sending_end = c->filling_end = 0; /* they are the handover's */
    gwi_chunk_leave(&net->out, &c->sending);
    gwi_chunk_leave(&net->out, &c->filling);
    gwi_chunk_leave(&net->in, &c->stash);
    c->fd = -1;
    c->sending = c->filling = c->stash = (struct gwi_chunk){NULL, 0};
    gwi_uring_conn_free(net, c);
    net->callbacks++;
    done(ctx, h);
}

enum gw_status gwi_uring_attach(struct gw_net *base, struct gw_handover *h, void *user,
                                struct gw_conn **out)
{
    struct uring_net *net = (struct uring_net *)base;
    if (net->free_count == 0)
        return GW_E_LIMIT;
    struct uring_conn *c = gwi_uring_conn_new(net, h->fd, user);
    if (!c)
        return GW_E_NOMEM;
    c->address = h->address;
    c->eof = h->eof;
    c->broken = h->broken;
    c->sending = h->sending;
    c->sending_at = h->sending_at;
    c->sending_end = h->sending_end;
    c->filling = h->filling;
    c->filling_end = h->filling_end;
    c->stash = h->stash;
    c->stash_at = h->stash_at;
    c->stash_end = h->stash_end;
    net->out_bytes += gwi_uring_backlog(&c->base);
    gwi_chunk_join(&net->out, &c->sending);
    gwi_chunk_join(&net->out, &c->filling);
    gwi_chunk_join(&net->in, &c->stash);
    free(h);
    if (gwi_uring_backlog(&c->base) > 0)
        gwi_link_append(&net->dirty, &c->dirty);
    if (c->stash_end > c->stash_at || c->eof)
        gwi_link_append(&net->ready, &c->ready);
    if (c->broken)
        gwi_uring_watch(c);
    gwi_uring_recv_arm(c);
    gwi_uring_kick(net);
    *out = &c->base;
    return GW_OK;
}

void gw_handover_drop(struct gw_handover *handover)
{
    if (!handover)
        return;
    close(handover->fd);
    free(handover->sending.bytes);
    free(handover->filling.bytes);
    free(handover->stash.bytes);
    free(handover);
}
