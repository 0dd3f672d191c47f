/* service.c - connections, and the turn that persists first and sends afterwards.
 *
 * Rules:
 *  1. A link's number names one connection for ever: what the state machine says to a connection
 * that has gone meanwhile reaches nobody else.
 *  2. Nothing is sent for an event before its facts are durable; what needs no fact (WELCOME, MAP
 * of a MAP_GET) says only what is durable already, so it waits for the turn, too, when there are
 * facts.
 *  3. Whoever does not read is closed: a server joins again and is told everything, a client asks
 *     again.
 * Design: docs/ADMIN.md, docs/PROTOCOL.md, DESIGN section 11. */
#include "coordinator/service.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/wire/ops.h"
#include "coordinator/admin.h"
#include "index/base/assert.h"
#include "index/base/log_line.h"

#define ERROR_FRAME_BYTES_MAX (GW_FRAME_HEADER + 4 + GW_ERROR_TEXT_BYTES_MAX)
#define JOB_FRAME_BYTES_MAX                                                                        \
    (GW_FRAME_HEADER + 64 + 2 * (GW_ID_BYTES_MAX + 1) + 2 * (GW_ADDRESS_BYTES_MAX + 1) +           \
     GW_SLOTS_WIRE_MAX + 2 + 256)

enum link_role { LINK_SILENT, LINK_CLIENT, LINK_SERVER };

struct link {
    uint64_t id;
    struct gw_conn *conn;
    uint64_t heard_ns;
    enum link_role role;
    bool ending;                      /* told so: nothing more is sent or taken */
    char server[GW_ID_BYTES_MAX + 1]; /* for the log */
};

struct gw_service {
    struct gw_fact_store *store;
    struct gw_coordinator *coordinator;
    const struct gw_clock *clock;
    uint64_t incarnation, links_ever, now_ns, swept_ns;
    uint32_t connections_max, clients;
    struct link **link; /* connections_max; by the low 16 bits of the id */
    uint32_t slots_free;
    uint16_t *slot_free;
};

enum gw_status gw_service_create(struct gw_fact_store *store, struct gw_coordinator *coordinator,
                                 const struct gw_clock *clock, uint32_t connections_max,
                                 struct gw_service **out)
{
    if (connections_max <= GW_SERVICE_CONNECTIONS_RESERVED || connections_max > UINT16_MAX)
        return GW_E_INVALID;
    struct gw_service *service = calloc(1, sizeof *service);
    if (!service)
        return GW_E_NOMEM;
    service->link = calloc(connections_max, sizeof(struct link *));
    service->slot_free = calloc(connections_max, sizeof *service->slot_free);
    if (!service->link || !service->slot_free) {
        free(service->slot_free);
        free(service->link);
        free(service);
        return GW_E_NOMEM;
    }
    for (uint32_t i = 0; i < connections_max; i++)
        service->slot_free[service->slots_free++] = (uint16_t)(connections_max - 1 - i);
    service->connections_max = connections_max;
    service->store = store;
    service->coordinator = coordinator;
    service->clock = clock;
    service->incarnation = gw_clock_wall_ms(clock);
    *out = service;
    return GW_OK;
}

void gw_service_destroy(struct gw_service *service)
{
    if (!service)
        return;
    for (uint32_t i = 0; i < service->connections_max; i++)
        free(service->link[i]);
    gw_coordinator_destroy(service->coordinator);
    free(service->slot_free);
    free(service->link);
    free(service);
}

const struct gw_coordinator *gw_service_coordinator(const struct gw_service *service)
{
    return service->coordinator;
}

static struct link *find(struct gw_service *service, uint64_t id)
{
    struct link *link = service->link[id & UINT16_MAX];
    return link && link->id == id ? link : NULL; /* rule 1 */
}

/* --- sending -----------------------------------------------------------------------------------
 */

static void end_with_error(struct link *link, enum gw_status status, const char *text)
{
    if (link->ending)
        return;
    link->ending = true;
    gw_warn("link closed", "peer=%s server=%s status=%s reason=\"%s\"", gw_conn_peer(link->conn),
            link->server, gw_status_name(status), text);
    uint8_t *room = gw_conn_reserve(link->conn, ERROR_FRAME_BYTES_MAX);
    if (!room) {
        gw_conn_close(link->conn);
        return;
    }
    gw_conn_commit(link->conn, gw_frame_error(room, ERROR_FRAME_BYTES_MAX, status, text));
    gw_conn_close_after_flush(link->conn);
}

/* Room for a frame, its header skipped; NULL, and the link is on its end: it does not read (rule
 * 3). */
static uint8_t *begin(struct link *link, size_t bytes, struct gw_writer *body)
{
    uint8_t *room = gw_conn_reserve(link->conn, bytes);
    if (!room) {
        gw_warn("link closed", "peer=%s server=%s reason=\"it does not read\"",
                gw_conn_peer(link->conn), link->server);
        link->ending = true;
        gw_conn_close(link->conn);
        return NULL;
    }
    *body = gw_writer_of(room + GW_FRAME_HEADER, bytes - GW_FRAME_HEADER);
    return room;
}

static void finish(struct link *link, uint8_t *room, const struct gw_writer *body,
                   struct gw_frame header)
{
    GW_ASSERT(!body->bad); /* the bounds above are the codecs' own */
    header.bytes = (uint32_t)(GW_FRAME_HEADER + gw_writer_used(body));
    gw_frame_encode(&header, room);
    gw_conn_commit(link->conn, header.bytes);
}

static void send_map(struct gw_service *service, struct link *link, struct gw_frame header)
{
    const struct gw_map *map = gw_coordinator_map(service->coordinator);
    struct gw_writer body;
    uint8_t *room = begin(link, GW_FRAME_HEADER + gw_map_wire_bytes(map), &body);
    if (!room)
        return;
    gw_map_encode(map, &body);
    header.view = map->version;
    finish(link, room, &body, header);
}

static void send_job(struct gw_service *service, struct link *link, uint64_t id)
{
    if (!gw_coordinator_job(service->coordinator, id))
        return; /* finished and forgotten within one turn: there was nothing to tell any more */
    struct gw_job job;
    gw_coordinator_job_wire(service->coordinator, id, &job);
    struct gw_writer body;
    uint8_t *room = begin(link, JOB_FRAME_BYTES_MAX, &body);
    if (!room)
        return;
    gw_job_encode(&job, &body);
    finish(link, room, &body, (struct gw_frame){.kind = GW_KIND_JOB, .session = id});
}

static void send_needs(struct gw_service *service, struct link *link, uint32_t server)
{
    struct gw_needs needs;
    gw_coordinator_needs_wire(service->coordinator, server, &needs);
    struct gw_writer body;
    uint8_t *room = begin(link, GW_FRAME_HEADER + 64, &body);
    if (!room)
        return;
    gw_needs_encode(&needs, &body);
    finish(link, room, &body, (struct gw_frame){.kind = GW_KIND_NEEDS});
}

static void send_admin_reply(struct link *link, uint64_t request, const char *json)
{
    size_t bytes = strlen(json);
    struct gw_writer body;
    uint8_t *room = begin(link, GW_FRAME_HEADER + bytes, &body);
    if (!room)
        return;
    gw_write_bytes(&body, json, bytes);
    finish(link, room, &body, (struct gw_frame){.kind = GW_KIND_ADMIN_REPLY, .session = request});
}

static void perform(struct gw_service *service, const struct gw_action *action)
{
    struct link *link = find(service, action->link);
    if (!link || link->ending)
        return;
    switch (action->kind) {
    case GW_ACT_JOINED:
        gw_info("server joined", "server=%s peer=%s map_version=%" PRIu64, link->server,
                gw_conn_peer(link->conn), gw_coordinator_map(service->coordinator)->version);
        send_map(service, link,
                 (struct gw_frame){.kind = GW_KIND_JOINED, .count = (uint32_t)action->id});
        break;
    case GW_ACT_MAP:
        send_map(service, link, (struct gw_frame){.kind = GW_KIND_MAP, .session = action->id});
        break;
    case GW_ACT_JOB:
        send_job(service, link, action->id);
        break;
    case GW_ACT_NEEDS:
        send_needs(service, link, (uint32_t)action->id);
        break;
    case GW_ACT_REFUSE:
        end_with_error(link, action->status, action->text);
        break;
    case GW_ACT_ADMIN_REPLY:
        send_admin_reply(link, action->id, action->json);
        break;
    }
}

/* --- the turn ----------------------------------------------------------------------------------
 */

/* Events happen at the time of the tick before them; a millisecond is fine enough for that. */
static enum gw_status tick(struct gw_service *service)
{
    uint64_t now_ns = gw_clock_now_ns(service->clock);
    if (service->now_ns && now_ns - service->now_ns < 1000000)
        return GW_OK;
    enum gw_status st =
        gw_coordinator_tick(service->coordinator, now_ns, gw_clock_wall_ms(service->clock));
    if (st == GW_OK)
        service->now_ns = now_ns;
    return st;
}

static void sweep(struct gw_service *service)
{
    if (service->now_ns - service->swept_ns < GW_SERVICE_TURN_NS)
        return;
    service->swept_ns = service->now_ns;
    for (uint32_t i = 0; i < service->connections_max; i++) {
        struct link *link = service->link[i];
        if (!link || link->role == LINK_SERVER) /* those the state machine watches */
            continue;
        uint64_t silent_ns = service->now_ns - link->heard_ns;
        if (link->role == LINK_SILENT && silent_ns > GW_SERVICE_HELLO_NS_MAX)
            end_with_error(link, GW_E_TIMEOUT, "no frame within 10 s of connecting");
        else if (link->role == LINK_CLIENT && silent_ns > GW_SERVICE_IDLE_NS_MAX)
            end_with_error(link, GW_E_TIMEOUT, "no request for 600 s");
    }
}

enum gw_status gw_service_turn(struct gw_service *service, char *why, size_t why_bytes)
{
    if (tick(service) == GW_OK) /* without memory for it: at the next turn */
        sweep(service);
    const struct gw_outcome *outcome = gw_coordinator_outcome(service->coordinator);
    enum gw_status st =
        gw_fact_store_save(service->store, outcome->fact, outcome->facts, why, why_bytes);
    if (st != GW_OK)
        return st;
    for (uint32_t i = 0; i < outcome->actions; i++)
        perform(service, &outcome->action[i]);
    gw_coordinator_clear(service->coordinator);
    return GW_OK;
}

/* --- connections -------------------------------------------------------------------------------
 */

static void accepted(void *ctx, struct gw_conn *conn)
{
    struct gw_service *service = ctx;
    struct link *link = service->slots_free ? calloc(1, sizeof *link) : NULL;
    gw_conn_set_user(conn, link);
    if (!link) {
        gw_conn_close(conn);
        return;
    }
    uint16_t slot = service->slot_free[--service->slots_free];
    link->id = ++service->links_ever << 16 | slot;
    link->conn = conn;
    link->heard_ns = service->now_ns;
    service->link[slot] = link;
}

static void connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)ctx, (void)conn, (void)st;
    GW_ASSERT(!"a coordinator connects to nobody");
}

static void closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gw_service *service = ctx;
    struct link *link = gw_conn_user(conn);
    if (!link)
        return;
    if (link->role == LINK_SERVER)
        gw_info("server link ended", "server=%s status=%s", link->server, gw_status_name(st));
    if (link->role == LINK_CLIENT)
        service->clients--;
    gw_coordinator_link_lost(service->coordinator, link->id);
    uint16_t slot = (uint16_t)link->id;
    service->link[slot] = NULL;
    service->slot_free[service->slots_free++] = slot;
    free(link);
}

static void garbage(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)ctx;
    struct link *link = gw_conn_user(conn);
    if (!link || link->ending)
        return;
    link->ending = true; /* the net closes it */
    gw_warn("link closed", "peer=%s server=%s status=%s reason=\"what came is no frame\"",
            gw_conn_peer(conn), link->server, gw_status_name(st));
    uint8_t *room = gw_conn_reserve(conn, ERROR_FRAME_BYTES_MAX);
    if (room)
        gw_conn_commit(conn, gw_frame_error(room, ERROR_FRAME_BYTES_MAX, st, NULL));
}

static void drained(void *ctx, struct gw_conn *conn)
{
    (void)ctx;
    gw_conn_resume(conn);
}

/* --- frames ------------------------------------------------------------------------------------
 */

static enum gw_status on_hello(struct gw_service *service, struct link *link,
                               const struct gw_frame *f, struct gw_reader *body)
{
    struct gw_hello hello;
    enum gw_status st = gw_hello_decode(body, &hello);
    if (st != GW_OK)
        return st;
    if (hello.role != GW_ROLE_CLIENT) {
        end_with_error(link, GW_E_PROTOCOL, "a coordinator takes only clients and JOINs");
        return GW_END;
    }
    struct gw_writer out;
    uint8_t *room = begin(link, GW_FRAME_HEADER + 256, &out);
    if (!room)
        return GW_END;
    const struct gw_map *map = gw_coordinator_map(service->coordinator);
    gw_welcome_encode(&(struct gw_welcome){.incarnation = service->incarnation,
                                           .cluster = map->cluster,
                                           .window = hello.window,
                                           .frame_bytes_max =
                                               GW_ADMIN_REQUEST_BYTES_MAX + GW_FRAME_HEADER},
                      &out);
    finish(link, room, &out, (struct gw_frame){.kind = GW_KIND_WELCOME, .session = f->session});
    return GW_OK;
}

static enum gw_status on_map_get(struct gw_service *service, struct link *link,
                                 const struct gw_frame *f, struct gw_reader *body)
{
    if (gw_reader_left(body))
        return GW_E_PROTOCOL;
    if (gw_coordinator_outcome(service->coordinator)->facts == 0) {
        /* Nothing is waiting to be durable (rule 2). A client that asks faster than it reads waits:
         * the net gives us this frame again. */
        size_t bytes =
            GW_FRAME_HEADER + gw_map_wire_bytes(gw_coordinator_map(service->coordinator));
        if (!gw_conn_reserve(link->conn, bytes))
            return GW_WOULD_BLOCK;
        gw_conn_commit(link->conn, 0);
        send_map(service, link, (struct gw_frame){.kind = GW_KIND_MAP, .session = f->session});
        return link->ending ? GW_END : GW_OK;
    }
    return gw_coordinator_ask_map(service->coordinator, link->id, f->session);
}

static enum gw_status on_admin(struct gw_service *service, struct link *link,
                               const struct gw_frame *f, struct gw_reader *body)
{
    if (!gw_conn_reserve(link->conn, GW_FRAME_HEADER + 65536))
        return GW_WOULD_BLOCK; /* its earlier answers lie there unread */
    gw_conn_commit(link->conn, 0);
    return gw_admin_execute(service->coordinator, link->id, f->session, (const char *)body->at,
                            gw_reader_left(body));
}

static enum gw_status on_join(struct gw_service *service, struct link *link, struct gw_reader *body)
{
    struct gw_join join;
    enum gw_status st = gw_join_decode(body, &join);
    if (st != GW_OK)
        return st;
    memcpy(link->server, join.id, sizeof link->server);
    return gw_coordinator_join(service->coordinator, link->id, &join);
}

static enum gw_status on_heartbeat(struct gw_service *service, struct link *link,
                                   struct gw_reader *body)
{
    struct gw_heartbeat heartbeat;
    enum gw_status st = gw_heartbeat_decode(body, &heartbeat);
    return st == GW_OK ? gw_coordinator_heartbeat(service->coordinator, link->id, &heartbeat) : st;
}

static enum gw_status on_job_event(struct gw_service *service, struct link *link,
                                   struct gw_reader *body)
{
    struct gw_job_event event;
    enum gw_status st = gw_job_event_decode(body, &event);
    return st == GW_OK ? gw_coordinator_job_event(service->coordinator, link->id, &event) : st;
}

/* What a link is follows from its first frame. False: there are too many of its kind. */
static bool take_role(struct gw_service *service, struct link *link, uint8_t kind)
{
    bool server = kind == GW_KIND_JOIN || kind == GW_KIND_HEARTBEAT || kind == GW_KIND_JOB_EVENT;
    if (link->role == LINK_SERVER || (link->role == LINK_CLIENT && !server))
        return true;
    if (server) {
        if (link->role == LINK_CLIENT)
            service->clients--;
        link->role = LINK_SERVER;
        return true;
    }
    if (service->clients >= service->connections_max - GW_SERVICE_CONNECTIONS_RESERVED)
        return false;
    service->clients++;
    link->role = LINK_CLIENT;
    return true;
}

static enum gw_status dispatch(struct gw_service *service, struct link *link,
                               const struct gw_frame *f, struct gw_reader *body)
{
    switch (f->kind) {
    case GW_KIND_HELLO:
        return on_hello(service, link, f, body);
    case GW_KIND_MAP_GET:
        return on_map_get(service, link, f, body);
    case GW_KIND_ADMIN:
        return on_admin(service, link, f, body);
    case GW_KIND_JOIN:
        return on_join(service, link, body);
    case GW_KIND_HEARTBEAT:
        return on_heartbeat(service, link, body);
    case GW_KIND_JOB_EVENT:
        return on_job_event(service, link, body);
    case GW_KIND_BYE:
        link->ending = true;
        gw_conn_close_after_flush(link->conn);
        return GW_END;
    default: {
        char text[64];
        snprintf(text, sizeof text, "a coordinator takes no %s frames",
                 gw_frame_kind_name(f->kind));
        end_with_error(link, GW_E_PROTOCOL, text);
        return GW_END;
    }
    }
}

static enum gw_status frame(void *ctx, struct gw_conn *conn, const uint8_t *bytes, uint32_t n)
{
    struct gw_service *service = ctx;
    struct link *link = gw_conn_user(conn);
    if (!link || link->ending)
        return GW_END;
    struct gw_frame f = {0};
    enum gw_status st = tick(service);
    if (st == GW_OK)
        st = gw_frame_decode(bytes, n, &f);
    if (st == GW_OK && !take_role(service, link, f.kind)) {
        char text[96];
        snprintf(text, sizeof text, "this coordinator serves at most %" PRIu32 " clients",
                 service->connections_max - GW_SERVICE_CONNECTIONS_RESERVED);
        end_with_error(link, GW_E_LIMIT, text);
        return GW_END;
    }
    if (st == GW_OK) {
        link->heard_ns = service->now_ns;
        struct gw_reader body = gw_frame_body(bytes, &f);
        st = dispatch(service, link, &f, &body);
    }
    if (!gw_failed(st))
        return st;
    char text[96];
    snprintf(text, sizeof text, "%s frame: %s", gw_frame_kind_name(f.kind), gw_status_text(st));
    end_with_error(link, st, text);
    gw_coordinator_link_lost(service->coordinator, link->id);
    return GW_END;
}

const struct gw_net_events *gw_service_events(void)
{
    static const struct gw_net_events events = {
        .accepted = accepted,
        .connected = connected,
        .frame = frame,
        .garbage = garbage,
        .drained = drained,
        .closed = closed,
    };
    return &events;
}
