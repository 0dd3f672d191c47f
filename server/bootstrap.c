/* bootstrap.c - MAP_GET over a short-lived transport of its own; see bootstrap.h. */
#include "server/bootstrap.h"

#include <string.h>

#include "client/net/net.h"
#include "client/wire/ops.h"
#include "index/base/log_line.h"

#define RETRY_NS  200000000ull
#define ANSWER_NS 2000000000ull

struct asking {
    struct gw_map *map;
    bool down;
};

static void on_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)conn;
    ((struct asking *)ctx)->down = st != GW_OK;
}

static enum gw_status on_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                               uint32_t bytes)
{
    struct asking *a = ctx;
    struct gw_frame f;
    (void)conn;
    if (gw_frame_decode(frame, bytes, &f) != GW_OK || f.kind != GW_KIND_MAP || a->map)
        return GW_E_PROTOCOL;
    struct gw_reader r = gw_reader_of(frame + GW_FRAME_HEADER, bytes - GW_FRAME_HEADER);
    return gw_map_decode(&r, &a->map);
}

static void on_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)conn;
    (void)st;
    ((struct asking *)ctx)->down = true;
}

static void on_accepted(void *ctx, struct gw_conn *conn)
{
    (void)ctx;
    gw_conn_close(conn); /* nobody listens here */
}

static const struct gw_net_events events = {.accepted = on_accepted,
                                            .connected = on_connected,
                                            .frame = on_frame,
                                            .closed = on_closed};

static enum gw_status ask(struct gw_net *net, const char *coordinator, struct asking *a)
{
    struct gw_conn *conn;
    enum gw_status st = gw_net_connect(net, coordinator, NULL, &conn);
    if (st != GW_OK)
        return st;
    uint8_t *room = gw_conn_reserve(conn, GW_FRAME_HEADER);
    gw_conn_commit(conn, gw_frame_empty(room, GW_FRAME_HEADER, GW_KIND_MAP_GET, 0));
    for (uint64_t waited = 0; !a->map && !a->down && waited < ANSWER_NS; waited += RETRY_NS / 10)
        gw_net_poll(net, RETRY_NS / 10);
    return a->map ? GW_OK : GW_E_UNREACHABLE;
}

enum gw_status gwi_bootstrap_map(const char *coordinator, const atomic_bool *stop,
                                 struct gw_map **out)
{
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.connections_max = 4;
    bool told = false;
    while (!atomic_load(stop)) {
        struct asking a = {0};
        struct gw_net *net;
        enum gw_status st = gw_net_uring_create(&options, &events, &a, &net);
        if (st != GW_OK)
            return st;
        st = ask(net, coordinator, &a);
        if (st != GW_OK && st != GW_E_INVALID) {
            if (!told)
                gw_warn("coordinator_unreachable", "address=%s next=retry", coordinator);
            told = true;
            gw_net_poll(net, RETRY_NS);
        }
        gw_net_destroy(net);
        if (a.map) {
            *out = a.map;
            return GW_OK;
        }
        if (st == GW_E_INVALID)
            return st;
    }
    return GW_E_CANCELLED;
}
