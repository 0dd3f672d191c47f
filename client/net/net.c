/* net.c - the face of net.h: each call goes to the implementation that made the net. */
#include "client/net/net.h"

#include "client/net/net_internal.h"

#include "index/base/assert.h"

void gw_net_options_default(struct gw_net_options *options)
{
    *options = (struct gw_net_options){
        .connections_max = 12000,
        .frame_bytes_max = (4u << 20) + (128u << 10),
        .backlog_bytes_max = 8u << 20,
        .spin_ns_max = 50000,
        .connect_timeout_ms = 5000,
        .stalled_ms_max = 30000,
        .receive_buffers = 64,
        .receive_buffer_bytes = 64u << 10,
        .transit_bytes_max = UINT64_MAX,
    };
}

void gwi_net_init(struct gw_net *net, const struct gw_net_ops *ops,
                  const struct gw_net_options *options, const struct gw_net_events *events,
                  void *ctx)
{
    struct gw_net_options defaults;
    gw_net_options_default(&defaults);
    net->ops = ops;
    net->events = events;
    net->ctx = ctx;
    net->options = options ? *options : defaults;
    struct gw_net_options *o = &net->options;
    if (o->connections_max == 0)
        o->connections_max = defaults.connections_max;
    if (o->frame_bytes_max == 0)
        o->frame_bytes_max = defaults.frame_bytes_max;
    if (o->backlog_bytes_max == 0)
        o->backlog_bytes_max = defaults.backlog_bytes_max;
    if (o->connect_timeout_ms == 0)
        o->connect_timeout_ms = defaults.connect_timeout_ms;
    if (o->stalled_ms_max == 0)
        o->stalled_ms_max = defaults.stalled_ms_max;
    if (o->receive_buffers == 0)
        o->receive_buffers = defaults.receive_buffers;
    if (o->receive_buffer_bytes == 0)
        o->receive_buffer_bytes = defaults.receive_buffer_bytes;
    if (o->transit_bytes_max == 0)
        o->transit_bytes_max = defaults.transit_bytes_max;
}

void gw_net_destroy(struct gw_net *net)
{
    if (net)
        net->ops->destroy(net);
}

enum gw_status gw_net_listen(struct gw_net *net, const char *address, char *bound)
{
    return net->ops->listen(net, address, bound);
}

enum gw_status gw_net_connect(struct gw_net *net, const char *address, void *user,
                              struct gw_conn **out)
{
    return net->ops->connect(net, address, user, out);
}

uint8_t *gw_conn_reserve(struct gw_conn *conn, size_t bytes)
{
    GW_ASSERT(bytes <= conn->net->options.frame_bytes_max);
    return conn->net->ops->reserve(conn, bytes);
}

void gw_conn_commit(struct gw_conn *conn, size_t bytes)
{
    conn->net->ops->commit(conn, bytes);
}

size_t gw_conn_backlog(const struct gw_conn *conn)
{
    return conn->net->ops->backlog(conn);
}

void gw_net_flush(struct gw_net *net)
{
    net->ops->flush(net);
}

void gw_conn_close(struct gw_conn *conn)
{
    conn->net->ops->close(conn);
}

void gw_conn_close_after_flush(struct gw_conn *conn)
{
    conn->net->ops->close_after_flush(conn);
}

void gw_conn_pause(struct gw_conn *conn)
{
    conn->net->ops->pause(conn);
}

void gw_conn_resume(struct gw_conn *conn)
{
    conn->net->ops->resume(conn);
}

void *gw_conn_user(const struct gw_conn *conn)
{
    return conn->user;
}

void gw_conn_set_user(struct gw_conn *conn, void *user)
{
    conn->user = user;
}

const char *gw_conn_peer(const struct gw_conn *conn)
{
    return conn->net->ops->peer(conn);
}

enum gw_status gw_conn_detach(struct gw_conn *conn, bool again, gw_detached_cb done, void *ctx)
{
    return conn->net->ops->detach(conn, again, done, ctx);
}

enum gw_status gw_net_attach(struct gw_net *net, struct gw_handover *takes, void *user,
                             struct gw_conn **out)
{
    return net->ops->attach(net, takes, user, out);
}

uint32_t gw_net_poll(struct gw_net *net, uint64_t timeout_ns)
{
    return net->ops->poll(net, timeout_ns);
}

void gw_net_set_sleep_hooks(struct gw_net *net, void (*before_sleep)(void *ctx),
                            void (*after_sleep)(void *ctx))
{
    net->before_sleep = before_sleep;
    net->after_sleep = after_sleep;
}

void gw_net_wake(struct gw_net *net)
{
    net->ops->wake(net);
}

int gw_net_eventfd(struct gw_net *net)
{
    return net->ops->eventfd(net);
}

enum gw_status gw_net_watch(struct gw_net *net, int fd)
{
    return net->ops->watch ? net->ops->watch(net, fd) : GW_E_UNSUPPORTED;
}

void gw_net_stats(const struct gw_net *net, struct gw_net_stats *out)
{
    *out = net->stats;
    if (net->ops->memory)
        net->ops->memory(net, out);
}

uint32_t gw_net_crowded(const struct gw_net *net)
{
    return net->ops->crowded ? net->ops->crowded(net) : 0;
}
