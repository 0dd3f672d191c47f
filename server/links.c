/* links.c - connections of a dispatcher and what they are for.
 * The first frame of a connection says its role; a connection whose session or peer belongs to
 * another dispatcher is handed there whole, with the frame in hand (ENGINE rule 25): connections
 * travel, requests never do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/log_line.h"
#include "server/explain.h"
#include "server/haul.h"
#include "server/server.h"

bool gwi_link_send(struct gw_conn *conn, const uint8_t *frame, size_t bytes)
{
    uint8_t *room = gw_conn_reserve(conn, bytes);
    if (!room)
        return false;
    memcpy(room, frame, bytes);
    gw_conn_commit(conn, bytes);
    return true;
}

bool gwi_link_is_behind(const struct gwi_link *link, size_t more)
{
    const struct gwi_dispatcher *d = link->dispatcher;
    size_t backlog = gw_conn_backlog(link->conn) + link->hold_of.bytes + more;
    uint32_t crowded = gw_net_crowded(d->net);
    return GW_UNLIKELY(backlog > d->backlog_soft || (crowded && backlog > 0) || crowded > 1);
}

bool gwi_link_is_undurable(const struct gwi_link *link)
{
    const struct gwi_dispatcher *d = link->dispatcher;
    return GW_UNLIKELY(d->commit.log != NULL) && (gwi_commit_is_behind(d) || gwi_hold_is_full(d));
}

enum gw_status gwi_link_error(struct gw_conn *conn, enum gw_status st, const char *text)
{
    struct gwi_link *link = gw_conn_user(conn);
    if (GW_UNLIKELY(link && link->hold_of.first)) {
        uint8_t frame[GW_FRAME_HEADER + 512];
        size_t bytes = gw_frame_error(frame, sizeof frame, st, text);
        if (gwi_hold_frame(link, frame, bytes, false) && gwi_hold_close_behind(link)) {
            link->ending = true;
            return GW_OK;
        }
    }
    uint8_t *room = gw_conn_reserve(conn, GW_FRAME_HEADER + 512);
    if (room)
        gw_conn_commit(conn, gw_frame_error(room, GW_FRAME_HEADER + 512, st, text));
    gw_conn_close_after_flush(conn);
    return GW_OK;
}

static struct gwi_link *link_create(struct gwi_dispatcher *d, struct gw_conn *conn)
{
    struct gwi_link *link = calloc(1, sizeof *link);
    if (!link)
        return NULL;
    link->dispatcher = d;
    link->conn = conn;
    link->generation = ++d->next_link_generation;
    atomic_fetch_add_explicit(&d->server->connections, 1,
                              memory_order_relaxed); /* a bound of about */
    link->next = d->links;
    link->at = &d->links;
    if (link->next)
        link->next->at = &link->next;
    d->links = link;
    return link;
}

static void link_free(struct gwi_link *link)
{
    gwi_hold_forget(link);
    *link->at = link->next;
    if (link->next)
        link->next->at = link->at;
    atomic_fetch_sub_explicit(&link->dispatcher->server->connections, 1, memory_order_relaxed);
    free(link);
}

/* Connections are bounded by the memory number; `more` of them are kept for servers and tools. */
static bool too_many(const struct gwi_server *server, uint32_t more)
{
    return atomic_load_explicit(&server->connections, memory_order_relaxed) >
           server->memory.connections_max + more;
}

static enum gw_status refuse_connection(const struct gwi_server *server, struct gw_conn *conn)
{
    char text[160];
    snprintf(text, sizeof text,
             "the server has its %u connections, which follow from its --memory: close some, or "
             "give it more memory",
             server->memory.connections_max);
    return gwi_link_error(conn, GW_E_LIMIT, text);
}

void gwi_links_free(struct gwi_dispatcher *d)
{
    while (d->links)
        link_free(d->links);
}

static void link_unhold(struct gwi_link *link)
{
    if (link->hold == GWI_HOLD_NONE)
        return;
    link->hold = GWI_HOLD_NONE;
    link->before->after = link->after;
    link->after->before = link->before;
}

void gwi_link_hold(struct gwi_link *link, enum gwi_hold why, uint64_t until_ns)
{
    struct gwi_dispatcher *d = link->dispatcher;
    link_unhold(link);
    link->hold = (uint8_t)why;
    link->hold_until_ns = until_ns;
    link->hold_generation = d->generation;
    link->hold_reads = d->reads_ended;
    link->before = &d->held;
    link->after = d->held.after;
    d->held.after->before = link;
    d->held.after = link;
}

static bool hold_is_over(const struct gwi_link *link)
{
    const struct gwi_dispatcher *d = link->dispatcher;
    switch ((enum gwi_hold)link->hold) {
    case GWI_HOLD_VIEW:
        return d->generation != link->hold_generation || d->now_ns >= link->hold_until_ns;
    case GWI_HOLD_BACKLOG:
        return gw_conn_backlog(link->conn) <= d->backlog_soft / 2 && !gwi_link_is_behind(link, 0);
    case GWI_HOLD_PARK:
        return (d->park.bytes < d->park_bytes_max / 2 &&
                (!link->session || link->session->parked < d->park_session_max / 2)) ||
               d->generation != link->hold_generation;
    case GWI_HOLD_SPACE:
        return d->now_ns >= link->hold_until_ns;
    case GWI_HOLD_COLD:
        return d->reads_ended != link->hold_reads || d->now_ns >= link->hold_until_ns;
    case GWI_HOLD_DURABLE:
        return !gwi_link_is_undurable(link) && (link->role != GWI_LINK_NEW || !link->hold_of.first);
    case GWI_HOLD_NONE:
        break;
    }
    return true;
}

void gwi_links_release(struct gwi_dispatcher *d)
{
    for (struct gwi_link *link = d->held.after, *next; link != &d->held; link = next) {
        next = link->after;
        if (!hold_is_over(link))
            continue;
        /* The reason stays readable for the frame that comes again: a batch from the future must
         * know that it has waited already. */
        uint64_t until = link->hold_until_ns;
        link_unhold(link);
        link->hold_until_ns = until;
        gw_conn_resume(link->conn);
    }
}

static void on_accepted(void *ctx, struct gw_conn *conn)
{
    struct gwi_link *link = link_create(ctx, conn);
    gw_conn_set_user(conn, link);
    if (!link)
        gw_conn_close(conn);
    else if (too_many(link->dispatcher->server, GWI_CONNECTIONS_KEPT))
        (void)refuse_connection(link->dispatcher->server, conn);
}

struct gwi_link *gwi_link_attach(struct gwi_dispatcher *d, struct gw_handover *takes)
{
    struct gwi_link *link = link_create(d, NULL);
    if (!link || gw_net_attach(d->net, takes, link, &link->conn) != GW_OK) {
        gw_handover_drop(takes);
        if (link)
            link_free(link);
        return NULL;
    }
    return link;
}

struct detaching {
    struct gwi_dispatcher *from;
    uint32_t to;
};

static void detached(void *ctx, struct gw_handover *handover)
{
    struct detaching *t = ctx;
    if (handover &&
        !gwi_dispatcher_post(t->from->server->dispatcher[t->to], GWI_MAIL_ATTACH, 0, handover))
        gw_handover_drop(handover);
    free(t);
}

/* Hands the connection to another dispatcher; the HELLO in hand goes with it. */
static enum gw_status hand_over(struct gwi_link *link, uint32_t to)
{
    struct detaching *t = malloc(sizeof *t);
    if (!t)
        return GW_E_NOMEM;
    *t = (struct detaching){link->dispatcher, to};
    enum gw_status st = gw_conn_detach(link->conn, true, detached, t);
    if (st != GW_OK) {
        free(t);
        return st;
    }
    link_free(link);
    return GW_END;
}

static uint8_t wire_durability(enum gwi_durability mode)
{
    switch (mode) {
    case GWI_DURABILITY_MEMORY:
        return GW_WIRE_DURABILITY_MEMORY;
    case GWI_DURABILITY_COMMIT:
        return GW_WIRE_DURABILITY_COMMIT;
    case GWI_DURABILITY_NONE:
        break;
    }
    return GW_WIRE_DURABILITY_NONE;
}

static bool send_welcome(struct gwi_link *link, uint64_t session, uint32_t window, bool known)
{
    struct gwi_server *server = link->dispatcher->server;
    struct gw_welcome m = {.incarnation = server->incarnation,
                           .cluster = link->dispatcher->view->map->cluster,
                           .window = window,
                           .frame_bytes_max = server->frame_bytes_max,
                           .value_bytes_max = server->value_bytes_max,
                           .flags = known ? GW_WELCOME_KNOWN : 0,
                           .durability = wire_durability(server->durable.mode),
                           .durable = gwi_durable_position(server),
                           .forgotten = atomic_load(&server->durable.forgotten)};
    memcpy(m.id, server->options.id, sizeof m.id);
    uint8_t frame[GW_FRAME_HEADER + 256];
    struct gw_writer w = gw_writer_of(frame + GW_FRAME_HEADER, sizeof frame - GW_FRAME_HEADER);
    gw_welcome_encode(&m, &w);
    struct gw_frame f = {.bytes = GW_FRAME_HEADER + (uint32_t)gw_writer_used(&w),
                         .kind = GW_KIND_WELCOME,
                         .session = session,
                         .view = link->dispatcher->view->number};
    gw_frame_encode(&f, frame);
    return gwi_link_send(link->conn, frame, f.bytes);
}

/* A session's new connection takes over from an old one, whose unread input is dropped with it: the
 * same dispatcher holds both, so nothing of the old one runs behind the new one (R8). */
static enum gw_status open_session(struct gwi_link *link, const struct gw_frame *f,
                                   const struct gw_hello *hello)
{
    struct gwi_dispatcher *d = link->dispatcher;
    if (f->session == 0)
        return gwi_link_error(link->conn, GW_E_INVALID, "a session id is never 0");
    if (too_many(d->server, 0))
        return refuse_connection(d->server, link->conn);
    struct gwi_session *session = gwi_sessions_find(&d->sessions, f->session);
    bool known = session != NULL;
    uint32_t window = hello->window < GW_APPLIED_WINDOW_MIN ? GW_APPLIED_WINDOW_MIN : hello->window;
    window = window > GW_APPLIED_WINDOW_MAX ? GW_APPLIED_WINDOW_MAX : window;
    if (!session)
        session = gwi_sessions_create(&d->sessions, f->session, window);
    if (!session)
        return gwi_link_error(link->conn, GW_E_LIMIT, "no room for another session");
    gw_applied_widen(session->applied, window);
    if (session->link) {
        session->link->session = NULL;
        gw_conn_close(session->link->conn);
    }
    session->link = link;
    link->session = session;
    link->role = GWI_LINK_CLIENT;
    /* An incarnation other than ours in the HELLO means that what the client sent went to a process
     * that is gone: then this session's history is not known, whatever is here by migration, unless
     * it was recovered. */
    known = known && (hello->incarnation == 0 || hello->incarnation == d->server->incarnation ||
                      session->recovered);
    atomic_store_explicit(&d->sessions_open, d->sessions.count,
                          memory_order_relaxed); /* a number for people */
    window = gwi_sessions_grant(&d->sessions, session, session->applied->window);
    if (!send_welcome(link, f->session, window, known))
        return GW_E_LIMIT;
    if (known)
        gwi_hold_resume(link);
    return GW_OK;
}

static enum gw_status on_hello(struct gwi_link *link, const struct gw_frame *f, const uint8_t *body)
{
    struct gwi_dispatcher *d = link->dispatcher;
    struct gw_hello hello;
    struct gw_reader r = gw_reader_of(body, f->bytes - GW_FRAME_HEADER);
    if (gw_hello_decode(&r, &hello) != GW_OK)
        return gwi_link_error(link->conn, GW_E_PROTOCOL, "malformed HELLO");
    uint32_t to = 0;
    if (hello.role == GW_ROLE_CLIENT)
        to = (uint32_t)(f->session % d->server->dispatchers);
    else if (hello.role != GW_ROLE_PEER_CONTROL)
        to = hello.index % d->server->dispatchers;
    if (to != d->index) {
        if (link->hold_of.first) { /* a scan's answers: they leave from here */
            gwi_link_hold(link, GWI_HOLD_DURABLE, 0);
            return GW_WOULD_BLOCK;
        }
        return hand_over(link, to);
    }
    if (hello.role == GW_ROLE_CLIENT)
        return open_session(link, f, &hello);
    link->role = hello.role == GW_ROLE_PEER_CONTROL ? GWI_LINK_CONTROL_IN
                 : hello.role == GW_ROLE_PEER_BULK  ? GWI_LINK_BULK_IN
                                                    : GWI_LINK_PULL_IN;
    return send_welcome(link, f->session, 0, false) ? GW_OK : GW_E_LIMIT;
}

static enum gw_status on_map_get(struct gwi_link *link, const struct gw_frame *f)
{
    const struct gwi_view *view = link->dispatcher->view;
    size_t bytes = GW_FRAME_HEADER + view->map_wire_bytes;
    uint8_t *room = gw_conn_reserve(link->conn, bytes);
    if (!room)
        return GW_E_LIMIT;
    struct gw_frame m = {.bytes = (uint32_t)bytes,
                         .kind = GW_KIND_MAP,
                         .session = f->session,
                         .view = view->map->version};
    gw_frame_encode(&m, room);
    memcpy(room + GW_FRAME_HEADER, view->map_wire, view->map_wire_bytes);
    gw_conn_commit(link->conn, bytes);
    return GW_OK;
}

static enum gw_status on_bye(struct gwi_link *link)
{
    struct gwi_session *session = link->session;
    link->session = NULL;
    session->link = NULL;
    session->idle_since_ns = link->dispatcher->now_ns;
    if (session->parked == 0)
        gwi_sessions_remove(&link->dispatcher->sessions, session);
    if (gwi_hold_close_behind(link))
        link->ending = true;
    else
        gw_conn_close_after_flush(link->conn);
    return GW_OK;
}

static enum gw_status on_unexpected(struct gwi_link *link, const struct gw_frame *f)
{
    char text[128];
    snprintf(text, sizeof text, "frame of kind %s (0x%02x) has no place here",
             gw_frame_kind_name(f->kind), f->kind);
    return gwi_link_error(link->conn, GW_E_PROTOCOL, text);
}

static enum gw_status route(struct gwi_link *link, const struct gw_frame *f, const uint8_t *body)
{
    bool client = link->role == GWI_LINK_CLIENT && link->session;
    switch (f->kind) {
    case GW_KIND_HELLO:
        return link->role == GWI_LINK_NEW ? on_hello(link, f, body) : on_unexpected(link, f);
    case GW_KIND_MAP_GET:
        return on_map_get(link, f);
    case GW_KIND_SCAN:
        return link->role <= GWI_LINK_CLIENT ? gwi_scan_frame(link, f, body)
                                             : on_unexpected(link, f);
    case GW_KIND_ADMIN:
        return link->role == GWI_LINK_NEW ? gwi_explain_frame(link, f, body)
                                          : on_unexpected(link, f);
    case GW_KIND_BATCH:
        return client ? gwi_batch_frame(link, f, body) : on_unexpected(link, f);
    case GW_KIND_SYNC:
        if (!client)
            return on_unexpected(link, f);
        gwi_hold_resume(link); /* also one that was given no position yet wants to be told */
        gwi_durable_hurry(link->dispatcher->server);
        return GW_OK;
    case GW_KIND_BYE:
        return client ? on_bye(link) : on_unexpected(link, f);
    case GW_KIND_PREPARE:
    case GW_KIND_ABANDON:
    case GW_KIND_YOURS:
        return link->role == GWI_LINK_CONTROL_IN ? gwi_haul_control_frame(link, f, body)
                                                 : on_unexpected(link, f);
    case GW_KIND_CHUNK:
        return link->role == GWI_LINK_BULK_IN ? gwi_haul_chunk_frame(link, f, body)
                                              : on_unexpected(link, f);
    case GW_KIND_PULL:
        return link->role == GWI_LINK_PULL_IN ? gwi_haul_pull_frame(link, f, body)
                                              : on_unexpected(link, f);
    default:
        return on_unexpected(link, f);
    }
}

static enum gw_status on_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                               uint32_t bytes)
{
    struct gwi_dispatcher *d = ctx;
    struct gwi_link *link = gw_conn_user(conn);
    if (link->out)
        return link->out->frame(link->out_ctx, conn, frame, bytes);
    if (link->ending)
        return GW_OK;
    struct gw_frame f;
    enum gw_status st = gw_frame_decode(frame, bytes, &f);
    if (st != GW_OK)
        return gwi_link_error(conn, st, "malformed frame header");
    gwi_dispatcher_enter(d);
    st = route(link, &f, frame + GW_FRAME_HEADER);
    gwi_dispatcher_exit(d);
    return st;
}

static void on_garbage(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gwi_dispatcher *d = ctx;
    char text[160];
    snprintf(text, sizeof text, "not a native frame of version %u with at most %u bytes",
             GW_FRAME_VERSION, d->server->frame_bytes_max);
    uint8_t *room = gw_conn_reserve(conn, GW_FRAME_HEADER + 256);
    if (room)
        gw_conn_commit(conn, gw_frame_error(room, GW_FRAME_HEADER + 256, st, text));
}

static void on_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)ctx;
    struct gwi_link *link = gw_conn_user(conn);
    link->out->connected(link->out_ctx, conn, st);
    if (st != GW_OK)
        link_free(link);
}

static void on_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gwi_dispatcher *d = ctx;
    struct gwi_link *link = gw_conn_user(conn);
    if (!link)
        return;
    link_unhold(link);
    if (link->out)
        link->out->closed(link->out_ctx, conn, st);
    if (link->role == GWI_LINK_CONTROL_IN || link->role == GWI_LINK_BULK_IN ||
        link->role == GWI_LINK_PULL_IN)
        gwi_haul_link_closed(link);
    if (link->session) {
        link->session->link = NULL;
        link->session->idle_since_ns = d->now_ns;
    }
    link_free(link);
}

const struct gw_net_events gwi_link_events = {
    .accepted = on_accepted,
    .connected = on_connected,
    .frame = on_frame,
    .garbage = on_garbage,
    .closed = on_closed,
};

enum gw_status gwi_link_open(struct gwi_dispatcher *d, const char *address,
                             const struct gwi_out_events *events, void *ctx, struct gw_conn **out)
{
    struct gwi_link *link = link_create(d, NULL);
    if (!link)
        return GW_E_NOMEM;
    link->role = GWI_LINK_OUT;
    link->out = events;
    link->out_ctx = ctx;
    enum gw_status st = gw_net_connect(d->net, address, link, &link->conn);
    if (st != GW_OK) {
        link_free(link);
        return st;
    }
    *out = link->conn;
    return GW_OK;
}
