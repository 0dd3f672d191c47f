/* net_loop_internal.h - what net_loop.c (the world: clock, events, partitions) and net_loop_node.c
 * (a node's side of net.h) share. Layer: client/net. */
#ifndef GW_CLIENT_NET_NET_LOOP_INTERNAL_H
#define GW_CLIENT_NET_NET_LOOP_INTERNAL_H

#include "client/net/net_internal.h"
#include "client/net/net_loop.h"
#include "index/base/rand.h"

#define GWI_LOOP_NAME      64u
#define GWI_LOOP_LISTENERS 8u
#define GWI_NEVER          UINT64_MAX

enum loop_item_kind { ITEM_CONNECTED, ITEM_REFUSED, ITEM_FRAME, ITEM_END };

/* Something on its way to one end of a connection. */
struct loop_item {
    struct loop_item *next;
    uint64_t at_ns; /* not before the item in front of it has arrived, whatever this says */
    bool arrived;
    enum loop_item_kind kind;
    uint32_t bytes; /* ITEM_FRAME */
    uint8_t data[];
};

/*   CONNECTING --> OPEN --> DRAINING --> CLOSED (the last callback is due) */
enum loop_conn_state { LOOP_CONNECTING, LOOP_OPEN, LOOP_DRAINING, LOOP_CLOSED };

struct loop_conn {
    struct gw_conn base;
    struct loop_conn *next;  /* of its node, oldest first */
    struct loop_conn *other; /* the far end; NULL: none yet, or gone */
    enum loop_conn_state state;
    enum gw_status end;
    bool accept_due, drained_due;
    bool connect_reported; /* false: the last callback is `connected` */
    bool drain_when_open;
    bool paused, reserved, refused;
    char remote[GWI_LOOP_NAME];
    char target[GWI_LOOP_NAME]; /* CONNECTING: the address asked for */
    uint64_t arrives_ns;        /* CONNECTING: when the listener hears of it; GWI_NEVER: it has */
    uint64_t timeout_ns;        /* CONNECTING */
    struct loop_item *first, *last; /* inbound */
    size_t unread;                  /* sent to the far end and not taken by it */
    uint8_t *out;
    size_t out_bytes, out_capacity;
};

struct loop_net {
    struct gw_net base;
    struct gw_loop *loop;
    struct loop_net *next;
    char name[GWI_LOOP_NAME];
    char listens[GWI_LOOP_LISTENERS][GWI_LOOP_NAME];
    uint32_t listen_count;
    bool work; /* poll has something to do */
    struct loop_conn *conns;
    uint32_t callbacks;
};

struct loop_cut {
    struct loop_cut *next;
    char a[GWI_LOOP_NAME], b[GWI_LOOP_NAME];
};

struct gw_loop {
    struct gw_clock clock;
    struct gw_loop_options options;
    struct gw_rand rand;
    uint64_t now_ns;
    struct loop_net *nets; /* oldest first */
    struct loop_cut *cuts;
};

static inline struct loop_net *gwi_loop_of(const struct gw_conn *conn)
{
    return (struct loop_net *)conn->net;
}

/* net_loop.c */
bool gwi_loop_is_cut(const struct gw_loop *loop, const char *a, const char *b);
struct loop_net *gwi_loop_listener(const struct gw_loop *loop, const char *address);
/* Puts an item on its way to `to`, behind what is on its way already. False: no memory. */
bool gwi_loop_send(struct loop_conn *to, enum loop_item_kind kind, const uint8_t *data,
                   uint32_t bytes);

/* net_loop_node.c */
extern const struct gw_net_ops gwi_loop_ops;
struct loop_conn *gwi_loop_conn_new(struct loop_net *net, const char *remote, void *user);
/* The connection is over on this side with `st`; the far end hears of it in its turn. */
void gwi_loop_end(struct loop_conn *c, enum gw_status st);
void gwi_loop_drop_items(struct loop_conn *c);
#endif
