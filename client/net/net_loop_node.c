/* net_loop_node.c - a node of the in-process transport: its side of net.h.
 * Connections end and are freed only in loop_poll (after their last callback), never in the call
 * that asked for it; whatever may hold a pointer to one (the far end's `other`) is cleared when it
 * ends. */
#include <stdlib.h>
#include <string.h>

#include "client/net/net_loop_internal.h"
#include "client/wire/frame.h"
#include "index/base/assert.h"

struct loop_conn *gwi_loop_conn_new(struct loop_net *net, const char *remote, void *user)
{
    if (net->base.stats.connections >= net->base.options.connections_max)
        return NULL;
    struct loop_conn *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->base.net = &net->base;
    c->base.user = user;
    c->state = LOOP_CONNECTING;
    c->arrives_ns = c->timeout_ns = GWI_NEVER;
    strcpy(c->remote, remote);
    struct loop_conn **end = &net->conns;
    while (*end)
        end = &(*end)->next;
    *end = c;
    net->base.stats.connections++;
    return c;
}

static void conn_free(struct loop_net *net, struct loop_conn *c)
{
    struct loop_conn **at = &net->conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    GW_ASSERT(c->other == NULL);
    gwi_loop_drop_items(c);
    free(c->out);
    free(c);
    net->base.stats.connections--;
}

static size_t backlog(const struct loop_conn *c)
{
    return c->out_bytes + c->unread;
}

/* The sender's backlog shrinks when the receiver has taken a frame, or can no longer do so. */
static void item_done(struct loop_conn *c, struct loop_item *item)
{
    struct loop_conn *sender = c->other;
    if (sender && item->kind == ITEM_FRAME) {
        struct loop_net *net = gwi_loop_of(&sender->base);
        GW_ASSERT(sender->unread >= item->bytes);
        sender->unread -= item->bytes;
        if (sender->refused && backlog(sender) < net->base.options.backlog_bytes_max / 2) {
            sender->refused = false;
            sender->drained_due = true;
            net->work = true;
        }
    }
    free(item);
}

static struct loop_item *item_pop(struct loop_conn *c)
{
    struct loop_item *item = c->first;
    c->first = item->next;
    if (!c->first)
        c->last = NULL;
    return item;
}

void gwi_loop_drop_items(struct loop_conn *c)
{
    while (c->first)
        item_done(c, item_pop(c));
}

void gwi_loop_end(struct loop_conn *c, enum gw_status st)
{
    if (c->state == LOOP_CLOSED)
        return;
    c->state = LOOP_CLOSED;
    c->end = st;
    gwi_loop_of(&c->base)->work = true;
    struct loop_conn *far = c->other;
    if (!far)
        return;
    gwi_loop_drop_items(c);
    c->other = far->other = NULL;
    /* Behind the frames that are on their way: they were sent. Without memory it is a reset. */
    if (!gwi_loop_send(far, ITEM_END, NULL, 0))
        gwi_loop_end(far, GW_E_NOMEM);
}

static enum gw_status loop_listen(struct gw_net *base, const char *address, char *bound)
{
    struct loop_net *net = (struct loop_net *)base;
    if (strlen(address) >= GWI_LOOP_NAME || strlen(address) == 0)
        return GW_E_INVALID;
    if (gwi_loop_listener(net->loop, address))
        return GW_E_BUSY;
    if (net->listen_count == GWI_LOOP_LISTENERS)
        return GW_E_LIMIT;
    strcpy(net->listens[net->listen_count++], address);
    if (bound)
        strcpy(bound, address);
    return GW_OK;
}

static enum gw_status loop_connect(struct gw_net *base, const char *address, void *user,
                                   struct gw_conn **out)
{
    struct loop_net *net = (struct loop_net *)base;
    struct gw_loop *loop = net->loop;
    if (strlen(address) >= GWI_LOOP_NAME || strlen(address) == 0)
        return GW_E_INVALID;
    if (net->base.stats.connections >= net->base.options.connections_max)
        return GW_E_LIMIT;
    struct loop_net *to = gwi_loop_listener(loop, address);
    struct loop_conn *c = gwi_loop_conn_new(net, to ? to->name : address, user);
    if (!c)
        return GW_E_NOMEM;
    strcpy(c->target, address);
    const struct gw_loop_options *o = &loop->options;
    c->arrives_ns = loop->now_ns + o->delay_ns_min +
                    gw_rand_below(&loop->rand, o->delay_ns_max - o->delay_ns_min + 1);
    c->timeout_ns = loop->now_ns + net->base.options.connect_timeout_ms * UINT64_C(1000000);
    *out = &c->base;
    return GW_OK;
}

static uint8_t *loop_reserve(struct gw_conn *conn, size_t bytes)
{
    struct loop_conn *c = (struct loop_conn *)conn;
    struct loop_net *net = gwi_loop_of(conn);
    if (c->state == LOOP_CLOSED)
        return NULL;
    if (backlog(c) > 0 && backlog(c) + bytes > net->base.options.backlog_bytes_max) {
        c->refused = true;
        return NULL;
    }
    if (c->out_bytes + bytes > c->out_capacity || !c->out) {
        size_t capacity = 2 * c->out_capacity + bytes;
        uint8_t *wider = realloc(c->out, capacity);
        if (!wider) {
            gwi_loop_end(c, GW_E_NOMEM);
            return NULL;
        }
        c->out = wider;
        c->out_capacity = capacity;
    }
    c->reserved = true;
    return c->out + c->out_bytes;
}

static void loop_commit(struct gw_conn *conn, size_t bytes)
{
    struct loop_conn *c = (struct loop_conn *)conn;
    if (c->state == LOOP_CLOSED)
        return; /* it has ended between reserve and commit */
    GW_ASSERT(c->reserved);
    GW_ASSERT(c->out_bytes + bytes <= c->out_capacity);
    c->reserved = false;
    c->out_bytes += bytes;
    gwi_loop_of(conn)->work = true;
}

static size_t loop_backlog(const struct gw_conn *conn)
{
    return backlog((const struct loop_conn *)conn);
}

/* Sends what is committed, a frame an item; what is no frame goes in one piece and is garbage
 * there. */
static void flush_conn(struct loop_net *net, struct loop_conn *c)
{
    if ((c->state != LOOP_OPEN && c->state != LOOP_DRAINING) || c->reserved || c->out_bytes == 0)
        return;
    for (size_t at = 0; at < c->out_bytes && c->other;) {
        uint32_t length = 0;
        size_t left = c->out_bytes - at;
        enum gw_status st = gw_frame_length(c->out + at, left, UINT32_MAX, &length);
        if (st != GW_OK || length == 0 || length > left)
            length = (uint32_t)left;
        if (!gwi_loop_send(c->other, ITEM_FRAME, c->out + at, length)) {
            gw_loop_break(&c->base);
            return;
        }
        c->unread += length;
        at += length;
        net->base.stats.bytes_out += length;
    }
    c->out_bytes = 0;
    net->base.stats.sends++;
}

static void loop_flush(struct gw_net *base)
{
    struct loop_net *net = (struct loop_net *)base;
    for (struct loop_conn *c = net->conns; c; c = c->next)
        flush_conn(net, c);
}

static void garbage(struct loop_net *net, struct loop_conn *c, enum gw_status st)
{
    if (net->base.events->garbage) {
        net->callbacks++;
        net->base.events->garbage(net->base.ctx, &c->base, st);
    }
    if (c->state == LOOP_OPEN) {
        c->state = LOOP_DRAINING;
        c->end = st;
    }
}

/* Returns false when the item stays where it is. */
static bool take_frame(struct loop_net *net, struct loop_conn *c, const struct loop_item *item)
{
    if (c->state != LOOP_OPEN)
        return true; /* dropped: nobody is told of frames any more */
    if (c->paused)
        return false;
    uint32_t length = 0;
    enum gw_status st =
        gw_frame_length(item->data, item->bytes, net->base.options.frame_bytes_max, &length);
    if (st == GW_OK && length != item->bytes)
        st = GW_E_PROTOCOL;
    if (st != GW_OK) {
        garbage(net, c, st);
        return true;
    }
    net->callbacks++;
    st = net->base.events->frame(net->base.ctx, &c->base, item->data, item->bytes);
    if (st == GW_WOULD_BLOCK) {
        c->paused = true;
        return false;
    }
    net->base.stats.frames_in++;
    net->base.stats.bytes_in += item->bytes;
    if (gw_failed(st))
        gwi_loop_end(c, st);
    return true;
}

static void take_connected(struct loop_net *net, struct loop_conn *c)
{
    if (c->state != LOOP_CONNECTING)
        return;
    c->state = c->drain_when_open ? LOOP_DRAINING : LOOP_OPEN;
    c->end = GW_E_CLOSED;
    c->connect_reported = true;
    if (net->base.events->connected) {
        net->callbacks++;
        net->base.events->connected(net->base.ctx, &c->base, GW_OK);
    }
}

/* Takes the items that have arrived. The head is unlinked only afterwards: its frame is in use, and
 * a callback may end the connection, which drops all its items. */
static void take_items(struct loop_net *net, struct loop_conn *c)
{
    while (c->first && c->first->arrived && c->state != LOOP_CLOSED) {
        struct loop_item *item = item_pop(c);
        bool taken = true;
        switch (item->kind) {
        case ITEM_CONNECTED:
            take_connected(net, c);
            break;
        case ITEM_REFUSED:
            gwi_loop_end(c, GW_E_UNREACHABLE);
            break;
        case ITEM_FRAME:
            taken = take_frame(net, c, item);
            break;
        case ITEM_END:
            gwi_loop_end(c, c->state == LOOP_DRAINING ? c->end : GW_E_CLOSED);
            break;
        }
        if (taken || c->state == LOOP_CLOSED) {
            item_done(c, item);
            continue;
        }
        item->next = c->first;
        c->first = item;
        if (!c->last)
            c->last = item;
        return;
    }
}

static void last_callback(struct loop_net *net, struct loop_conn *c)
{
    const struct gw_net_events *events = net->base.events;
    net->callbacks++;
    if (c->connect_reported && events->closed)
        events->closed(net->base.ctx, &c->base, c->end);
    else if (!c->connect_reported && events->connected)
        events->connected(net->base.ctx, &c->base, c->end);
}

static void turn_conn(struct loop_net *net, struct loop_conn *c)
{
    const struct gw_net_events *events = net->base.events;
    if (c->accept_due) {
        c->accept_due = false;
        net->callbacks++;
        if (events->accepted)
            events->accepted(net->base.ctx, &c->base);
    }
    if (c->drained_due && c->state == LOOP_OPEN) {
        c->drained_due = false;
        net->callbacks++;
        if (events->drained)
            events->drained(net->base.ctx, &c->base);
    }
    take_items(net, c);
    flush_conn(net, c);
    if (c->state == LOOP_DRAINING && c->out_bytes == 0)
        gwi_loop_end(c, c->end);
}

static uint32_t loop_poll(struct gw_net *base, uint64_t timeout_ns)
{
    struct loop_net *net = (struct loop_net *)base;
    uint32_t before = net->callbacks;
    (void)timeout_ns; /* time passes in gw_loop_step only */
    net->work = false;
    for (struct loop_conn *c = net->conns; c; c = c->next)
        turn_conn(net, c);
    loop_flush(base);
    for (struct loop_conn *c = net->conns, *next; c; c = next) {
        bool over = c->state == LOOP_CLOSED;
        if (over)
            last_callback(net, c);
        next = c->next; /* after the callback: it may have connected anew */
        if (over)
            conn_free(net, c);
    }
    loop_flush(base);
    return net->callbacks - before;
}

static void loop_wake(struct gw_net *base)
{
    ((struct loop_net *)base)->work = true;
}

static int loop_eventfd(struct gw_net *base)
{
    (void)base;
    return -1;
}

static void loop_close(struct gw_conn *conn)
{
    struct loop_conn *c = (struct loop_conn *)conn;
    c->connect_reported = true; /* closed by its owner: only `closed` follows */
    gwi_loop_end(c, GW_E_CLOSED);
}

static void loop_close_after_flush(struct gw_conn *conn)
{
    struct loop_conn *c = (struct loop_conn *)conn;
    if (c->state == LOOP_CONNECTING)
        c->drain_when_open = true;
    if (c->state != LOOP_OPEN)
        return;
    c->state = LOOP_DRAINING;
    c->end = GW_E_CLOSED;
    gwi_loop_of(conn)->work = true;
}

static void loop_pause(struct gw_conn *conn)
{
    ((struct loop_conn *)conn)->paused = true;
}

static void loop_resume(struct gw_conn *conn)
{
    struct loop_conn *c = (struct loop_conn *)conn;
    c->paused = false;
    if (c->first && c->first->arrived)
        gwi_loop_of(conn)->work = true;
}

static const char *loop_peer(const struct gw_conn *conn)
{
    return ((const struct loop_conn *)conn)->remote;
}

static enum gw_status loop_detach(struct gw_conn *conn, bool again, gw_detached_cb done, void *ctx)
{
    (void)conn, (void)again, (void)done, (void)ctx;
    return GW_E_UNSUPPORTED;
}

static enum gw_status loop_attach(struct gw_net *base, struct gw_handover *takes, void *user,
                                  struct gw_conn **out)
{
    (void)base, (void)takes, (void)user, (void)out;
    return GW_E_UNSUPPORTED;
}

static void loop_destroy(struct gw_net *base)
{
    struct loop_net *net = (struct loop_net *)base;
    while (net->conns) {
        gwi_loop_end(net->conns, GW_E_CLOSED); /* the far ends hear of it */
        conn_free(net, net->conns);
    }
    struct loop_net **at = &net->loop->nets;
    while (*at != net)
        at = &(*at)->next;
    *at = net->next;
    free(net);
}

const struct gw_net_ops gwi_loop_ops = {
    .destroy = loop_destroy,
    .listen = loop_listen,
    .connect = loop_connect,
    .flush = loop_flush,
    .poll = loop_poll,
    .wake = loop_wake,
    .eventfd = loop_eventfd,
    .reserve = loop_reserve,
    .commit = loop_commit,
    .backlog = loop_backlog,
    .close = loop_close,
    .close_after_flush = loop_close_after_flush,
    .pause = loop_pause,
    .resume = loop_resume,
    .peer = loop_peer,
    .detach = loop_detach,
    .attach = loop_attach,
};
