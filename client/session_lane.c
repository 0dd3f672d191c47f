/* session_lane.c - a server's connection, from opening to loss, and the short one on which a
 * session fetches the map from the coordinator. What was under way on a lost connection is sent
 * again, to the same server or to whoever owns the slot by then, marked as sent before, so that the
 * server gives the first result instead of a second effect (MIGRATION R7, R8). Only a server that
 * has forgotten what it applied makes a write's result unknown. Rules by number: session.h. */
#include "client/session.h"

void gwi_lane_init(struct gwi_lane *lane, struct gw_session *s, uint16_t index)
{
    lane->session = s;
    lane->index = index;
    lane->frame_bytes_max = UINT32_MAX;
}

bool gwi_lane_wanted(const struct gwi_lane *lane)
{
    const struct gw_session *s = lane->session;
    return lane->count > 0 || lane->kept > 0 ||
           (lane->marks > 0 && (s->sync_to != 0 || s->on_durable));
}

static void send_empty(struct gw_session *s, struct gw_conn *conn, uint8_t kind)
{
    uint8_t *room = gw_conn_reserve(conn, GW_FRAME_HEADER);
    if (room)
        gw_conn_commit(conn, gw_frame_empty(room, GW_FRAME_HEADER, kind, s->id));
}

void gwi_lane_ask_map(struct gwi_lane *lane)
{
    if (lane->state != GWI_LANE_UP || lane->map_asked)
        return;
    lane->map_asked = true;
    send_empty(lane->session, lane->conn, GW_KIND_MAP_GET);
}

/* Everything of the lane that is READY or under way goes back to QUEUED. */
static void take_back(struct gwi_lane *lane)
{
    struct gw_session *s = lane->session;
    gwi_route_pull_back(s, lane);
    if (lane->batch_count == 0 && lane->pending == 0)
        return;
    for (uint64_t serial = s->oldest; serial < s->next; serial++) {
        struct gwi_op *op = gwi_op_at(s, serial);
        if (op->lane != lane->index || (op->state != GWI_OP_SENT && op->state != GWI_OP_PENDING))
            continue;
        gwi_route_requeue(s, op);
        op->unsure = true;
        if (op->abandoned)
            gwi_op_free(s, op);
        else /* of a read it says that it must not show what came behind it */
            gwi_op_bytes(op)[1] |= GW_WIRE_RESENT;
    }
}

static uint64_t backoff_ns(struct gw_session *s, uint32_t failures)
{
    uint64_t ms = failures < 7 ? (uint64_t)GWI_RECONNECT_MS_MIN << failures : GWI_RECONNECT_MS_MAX;
    if (ms > GWI_RECONNECT_MS_MAX)
        ms = GWI_RECONNECT_MS_MAX;
    return ms * GWI_MS / 2 + gw_rand_below(&s->rand, ms * GWI_MS / 2);
}

void gwi_lane_lost(struct gwi_lane *lane, enum gw_status st)
{
    struct gw_session *s = lane->session;
    if (lane->conn) {
        gw_conn_close(lane->conn);
        lane->conn = NULL;
    }
    bool was_up = lane->state == GWI_LANE_UP;
    lane->state = GWI_LANE_DOWN;
    take_back(lane);
    lane->batch_head = lane->batch_count = 0;
    lane->pending = lane->abandoned = 0;
    lane->draining = lane->resuming = lane->returned = lane->choked = lane->map_asked = false;
    lane->resume_ns = 0;
    lane->synced = 0; /* the question may have been lost as well */
    lane->not_yet = 0;
    lane->retry_ns = s->now_ns + backoff_ns(s, lane->failures);
    if (lane->failures < UINT32_MAX)
        lane->failures++;
    if (st == GW_E_VERSION || st == GW_E_PROTOCOL || st == GW_E_REFUSED)
        lane->fatal++;
    if (!was_up) {
        s->map_wanted = true; /* it may be elsewhere now, or its slots may */
        if (lane->kept > 0)
            gwi_keep_give_over(lane);
    }
    s->dispatch_due = true;
}

static void open_lane(struct gwi_lane *lane)
{
    struct gw_session *s = lane->session;
    lane->state = GWI_LANE_OPENING;
    lane->opened_ns = lane->heard_ns = s->now_ns;
    lane->sequence = 0;
    enum gw_status st = lane->address[0] == '\0'
                            ? GW_E_UNREACHABLE
                            : gw_net_connect(s->net, lane->address, lane, &lane->conn);
    if (st != GW_OK) {
        lane->conn = NULL;
        gwi_lane_lost(lane, st);
        return;
    }
    if (lane->incarnation != 0 || lane->failures != 0)
        s->stats.reconnects++;
    uint8_t *room = gw_conn_reserve(lane->conn, 256);
    if (!room) {
        gwi_lane_lost(lane, GW_E_UNREACHABLE);
        return;
    }
    struct gw_hello hello = {
        .role = GW_ROLE_CLIENT,
        .flags = lane->incarnation ? GW_HELLO_RESUME : 0,
        .window = s->mask + 1,
        .incarnation = lane->incarnation,
    };
    struct gw_writer w = gw_writer_of(room + GW_FRAME_HEADER, 256 - GW_FRAME_HEADER);
    gw_hello_encode(&hello, &w);
    GW_ASSERT(!w.bad);
    struct gw_frame head = {
        .bytes = (uint32_t)(GW_FRAME_HEADER + gw_writer_used(&w)),
        .kind = GW_KIND_HELLO,
        .session = s->id,
        .view = lane->view,
        .confirmed = s->oldest,
    };
    gw_frame_encode(&head, room);
    gw_conn_commit(lane->conn, head.bytes);
}

void gwi_lane_tick(struct gwi_lane *lane)
{
    struct gw_session *s = lane->session;
    switch ((enum gwi_lane_state)lane->state) {
    case GWI_LANE_DOWN:
        if (s->now_ns < lane->retry_ns)
            break;
        if (lane->fatal >= GWI_REFUSALS_MAX)
            lane->fatal = GWI_REFUSALS_MAX - 1; /* whoever comes now may try once */
        if (gwi_lane_wanted(lane))
            open_lane(lane);
        break;
    case GWI_LANE_OPENING:
        if (s->now_ns - lane->opened_ns >= GWI_HANDSHAKE_NS)
            gwi_lane_lost(lane, GW_E_TIMEOUT);
        break;
    case GWI_LANE_UP:
        /* What was given up holds its place in the window: a server that is silent as well is
         * treated as gone. */
        if (lane->abandoned > 0 && s->now_ns - lane->heard_ns >= GWI_SILENCE_NS)
            gwi_lane_lost(lane, GW_E_TIMEOUT);
        break;
    }
}

static enum gw_status welcome(struct gwi_lane *lane, const struct gw_frame *head,
                              const uint8_t *frame)
{
    struct gw_session *s = lane->session;
    struct gw_welcome w;
    struct gw_reader body = gw_frame_body(frame, head);
    enum gw_status st = gw_welcome_decode(&body, &w);
    if (st != GW_OK)
        return st;
    if (lane->state != GWI_LANE_OPENING)
        return GW_E_PROTOCOL;
    if (w.cluster != 0 && s->cluster_id != 0 && w.cluster != s->cluster_id)
        return GW_E_REFUSED; /* another cluster's server stands at this address now */
    if (w.window == 0 || w.frame_bytes_max <= GW_FRAME_HEADER)
        return GW_E_PROTOCOL;

    if (lane->incarnation != 0)
        gwi_keep_welcome(lane, &w);
    lane->incarnation = w.incarnation;
    lane->durability = w.durability;
    lane->forgotten = w.forgotten;
    lane->frame_bytes_max = w.frame_bytes_max;
    if (w.window < s->window)
        s->window = w.window;
    lane->state = GWI_LANE_UP;
    lane->failures = 0;
    gwi_keep_durable(lane, w.durable);
    return GW_OK;
}

/* A later frame for a connection that is gone by our own hand is not possible; what can come still
 * is its `closed`, when lane->conn is NULL or another one already. */
static enum gw_status lane_frame(struct gwi_lane *lane, const struct gw_frame *head,
                                 const uint8_t *frame)
{
    struct gw_session *s = lane->session;
    struct gw_reader body = gw_frame_body(frame, head);
    lane->heard_ns = s->now_ns;
    switch (head->kind) {
    case GW_KIND_REPLY:
        return gwi_batch_reply(lane, head, frame);
    case GW_KIND_COMPLETION:
        return gwi_batch_completion(lane, head, frame);
    case GW_KIND_REFUSAL:
        return gwi_batch_refusal(lane, head, frame);
    case GW_KIND_WELCOME:
        return welcome(lane, head, frame);
    case GW_KIND_DURABLE:
        if (lane->state != GWI_LANE_UP || gw_reader_left(&body) != 0)
            return GW_E_PROTOCOL;
        gwi_keep_durable(lane, head->confirmed);
        return GW_OK;
    case GW_KIND_MAP: {
        lane->map_asked = false;
        enum gw_status st = gwi_cluster_offer_wire(s->cluster, &body);
        gwi_route_adopt(s);
        return st;
    }
    case GW_KIND_ERROR: {
        char text[GW_ERROR_TEXT_BYTES_MAX + 1];
        enum gw_status st = gw_frame_error_decode(&body, text, sizeof text);
        gwi_lane_lost(lane, st);
        return GW_END;
    }
    default:
        return GW_E_PROTOCOL;
    }
}

static void fetch_done(struct gw_session *s, bool newer)
{
    if (s->fetch)
        gw_conn_close(s->fetch);
    s->fetch = NULL;
    s->map_wanted = false; /* whoever still wants one says so again */
    s->dispatch_due = true;
    gwi_cluster_fetch_end(s->cluster, s->now_ns, newer);
}

void gwi_fetch_tick(struct gw_session *s)
{
    if (s->fetch) {
        if (s->now_ns >= s->fetch_until_ns)
            fetch_done(s, false);
        return;
    }
    if (!s->map_wanted || !gwi_cluster_fetch_begin(s->cluster, s->now_ns))
        return;
    s->stats.map_fetches++;
    s->fetch_until_ns = s->now_ns + gwi_cluster_timeout_ms(s->cluster) * GWI_MS;
    if (gw_net_connect(s->net, gwi_cluster_coordinator(s->cluster), s, &s->fetch) != GW_OK) {
        s->fetch = NULL;
        fetch_done(s, false);
        return;
    }
    send_empty(s, s->fetch, GW_KIND_MAP_GET);
}

static enum gw_status fetch_frame(struct gw_session *s, const struct gw_frame *head,
                                  const uint8_t *frame)
{
    bool newer = false;
    if (head->kind == GW_KIND_MAP) {
        struct gw_reader body = gw_frame_body(frame, head);
        uint64_t before = gw_cluster_map_version(s->cluster);
        if (gwi_cluster_offer_wire(s->cluster, &body) == GW_OK)
            newer = gw_cluster_map_version(s->cluster) > before;
    }
    fetch_done(s, newer);
    gwi_route_adopt(s);
    return GW_END;
}

static void on_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gw_session *s = ctx;
    if (st == GW_OK)
        return;
    gwi_session_clock(s);
    if (conn == s->fetch) {
        s->fetch = NULL;
        fetch_done(s, false);
        return;
    }
    struct gwi_lane *lane = gw_conn_user(conn);
    if ((void *)lane == (void *)s || conn != lane->conn)
        return;
    lane->conn = NULL;
    gwi_lane_lost(lane, st);
}

static enum gw_status on_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                               uint32_t bytes)
{
    struct gw_session *s = ctx;
    struct gw_frame head;
    gwi_session_clock(s);
    enum gw_status st = gw_frame_decode(frame, bytes, &head);
    if (st != GW_OK)
        return st;
    if (conn == s->fetch)
        return fetch_frame(s, &head, frame);
    struct gwi_lane *lane = gw_conn_user(conn);
    if ((void *)lane == (void *)s || conn != lane->conn)
        return GW_END; /* closed by us a moment ago */
    return lane_frame(lane, &head, frame);
}

static void on_drained(void *ctx, struct gw_conn *conn)
{
    struct gwi_lane *lane = gw_conn_user(conn);
    if ((void *)lane != ctx && conn == lane->conn)
        lane->choked = false;
}

static void on_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gw_session *s = ctx;
    gwi_session_clock(s);
    if (conn == s->fetch) {
        s->fetch = NULL;
        fetch_done(s, false);
        return;
    }
    struct gwi_lane *lane = gw_conn_user(conn);
    if ((void *)lane == (void *)s || conn != lane->conn)
        return;
    lane->conn = NULL;
    gwi_lane_lost(lane, st);
}

const struct gw_net_events gwi_session_events = {
    .connected = on_connected,
    .frame = on_frame,
    .drained = on_drained,
    .closed = on_closed,
};
