/* net_internal.h - what the implementations of net.h share: the table of functions that net.c
 * dispatches to, and the head of every net and connection. Layer: client/net. */
#ifndef GW_CLIENT_NET_NET_INTERNAL_H
#define GW_CLIENT_NET_NET_INTERNAL_H

#include "client/net/net.h"

/* One per implementation; the contracts are those of net.h. */
struct gw_net_ops {
    void (*destroy)(struct gw_net *net);
    enum gw_status (*listen)(struct gw_net *net, const char *address, char *bound);
    enum gw_status (*connect)(struct gw_net *net, const char *address, void *user,
                              struct gw_conn **out);
    void (*flush)(struct gw_net *net);
    uint32_t (*poll)(struct gw_net *net, uint64_t timeout_ns);
    void (*wake)(struct gw_net *net);
    uint32_t (*crowded)(const struct gw_net *net);                      /* NULL: never */
    void (*memory)(const struct gw_net *net, struct gw_net_stats *out); /* NULL: not known */
    int (*eventfd)(struct gw_net *net);
    enum gw_status (*watch)(struct gw_net *net, int fd); /* NULL: not supported */
    uint8_t *(*reserve)(struct gw_conn *conn, size_t bytes);
    void (*commit)(struct gw_conn *conn, size_t bytes);
    size_t (*backlog)(const struct gw_conn *conn);
    void (*close)(struct gw_conn *conn);
    void (*close_after_flush)(struct gw_conn *conn);
    void (*pause)(struct gw_conn *conn);
    void (*resume)(struct gw_conn *conn);
    const char *(*peer)(const struct gw_conn *conn);
    enum gw_status (*detach)(struct gw_conn *conn, bool again, gw_detached_cb done, void *ctx);
    enum gw_status (*attach)(struct gw_net *net, struct gw_handover *takes, void *user,
                             struct gw_conn **out);
};

struct gw_net {
    const struct gw_net_ops *ops;
    const struct gw_net_events *events; /* borrowed */
    void *ctx;
    struct gw_net_options options;
    struct gw_net_stats stats;
    void (*before_sleep)(void *ctx); /* NULL: none */
    void (*after_sleep)(void *ctx);
};

struct gw_conn {
    struct gw_net *net;
    void *user;
};

/* Fills in the head; options NULL means the defaults, a zero bound its default. */
void gwi_net_init(struct gw_net *net, const struct gw_net_ops *ops,
                  const struct gw_net_options *options, const struct gw_net_events *events,
                  void *ctx);
#endif
