/* peer.c - scripted servers for the tests of a session. */
#include "peer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

void peer_send(struct peer *p, const struct gw_frame *head, const void *body, size_t bytes)
{
    struct gw_frame f = *head;
    f.bytes = (uint32_t)(GW_FRAME_HEADER + bytes);
    uint8_t *room = gw_conn_reserve(p->conn, f.bytes);
    if (!room)
        return; /* the connection has just been broken */
    gw_frame_encode(&f, room);
    if (bytes)
        memcpy(room + GW_FRAME_HEADER, body, bytes);
    gw_conn_commit(p->conn, f.bytes);
    gw_net_flush(p->net);
}

static size_t map_bytes(const struct gw_map *map, uint8_t **out)
{
    size_t room = gw_map_wire_bytes(map);
    *out = malloc(room);
    struct gw_writer w = gw_writer_of(*out, room);
    gw_map_encode(map, &w);
    cr_assert(!w.bad);
    return gw_writer_used(&w);
}

void peer_send_map(struct peer *p, const struct gw_map *map)
{
    uint8_t *body;
    size_t bytes = map_bytes(map, &body);
    peer_send(p, &(struct gw_frame){.kind = GW_KIND_MAP}, body, bytes);
    free(body);
}

static void keep(struct peer *p, const struct gw_frame *head, const uint8_t *frame)
{
    cr_assert_lt(p->batches, PEER_BATCHES);
    struct peer_batch *b = &p->batch[p->batches++];
    b->head = *head;
    b->count = 0;
    struct gw_reader r = gw_frame_body(frame, head);
    struct gw_wire_op op;
    while (gw_wire_op_decode(&r, &op)) {
        cr_assert_lt(b->count, 64);
        struct peer_op *kept = &b->op[b->count++];
        *kept = (struct peer_op){.serial = head->serial + op.serial_delta,
                                 .number = op.number,
                                 .verb = op.verb,
                                 .flags = op.flags};
        memcpy(kept->key, op.key, op.key_bytes < 31 ? op.key_bytes : 31);
    }
    cr_assert(!r.bad);
    cr_assert_eq(b->count, head->count);
}

static void on_accepted(void *ctx, struct gw_conn *conn)
{
    struct peer *p = ctx;
    p->conn = conn;
    p->welcomed = false;
    p->connections++;
}

static void shake_hands(struct peer *p, const struct gw_frame *head, const uint8_t *frame)
{
    struct gw_reader r = gw_frame_body(frame, head);
    cr_assert_eq(gw_hello_decode(&r, &p->hello), GW_OK);
    cr_assert_eq(p->hello.role, GW_ROLE_CLIENT);
    uint8_t room[512];
    if (gw_failed(p->error)) {
        size_t bytes = gw_frame_error(room, sizeof room, p->error, NULL);
        struct gw_frame f;
        cr_assert_eq(gw_frame_decode(room, (uint32_t)bytes, &f), GW_OK);
        peer_send(p, &f, room + GW_FRAME_HEADER, bytes - GW_FRAME_HEADER);
        gw_conn_close_after_flush(p->conn);
        return;
    }
    struct gw_welcome m = {
        .incarnation = p->incarnation,
        .cluster = 77,
        .window = p->hello.window,
        .frame_bytes_max = 1 << 20,
        .value_bytes_max = 1 << 19,
        .flags = (p->hello.flags & GW_HELLO_RESUME) && !p->forgets ? GW_WELCOME_KNOWN : 0,
        .durability = p->durability,
        .durable = p->durable,
        .forgotten = p->forgotten,
    };
    struct gw_writer w = gw_writer_of(room, sizeof room);
    gw_welcome_encode(&m, &w);
    p->welcomed = true;
    peer_send(p, &(struct gw_frame){.kind = GW_KIND_WELCOME, .session = head->session}, room,
              gw_writer_used(&w));
}

static enum gw_status on_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                               uint32_t bytes)
{
    struct peer *p = ctx;
    struct gw_frame head;
    cr_assert_eq(gw_frame_decode(frame, bytes, &head), GW_OK);
    if (conn != p->conn)
        return GW_OK; /* of an older connection */
    if (p->mute)
        return GW_OK;
    switch (head.kind) {
    case GW_KIND_HELLO:
        shake_hands(p, &head, frame);
        break;
    case GW_KIND_MAP_GET:
        p->map_gets++;
        if (p->map)
            peer_send_map(p, p->map);
        break;
    case GW_KIND_BATCH:
        if (p->on_batch)
            p->on_batch(p, &head, frame);
        else
            keep(p, &head, frame);
        break;
    case GW_KIND_BYE:
        p->byes++;
        break;
    case GW_KIND_SYNC:
        p->syncs++;
        break;
    default:
        p->bad_frames++;
        break;
    }
    return GW_OK;
}

static void on_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct peer *p = ctx;
    (void)st;
    if (conn == p->conn)
        p->conn = NULL;
}

static const struct gw_net_events peer_events = {.accepted = on_accepted,
                                                 .frame = on_frame,
                                                 .closed = on_closed};

static void peer_init(struct world *w, struct peer *p, const char *name)
{
    p->world = w;
    p->incarnation = 1000;
    strcpy(p->name, name);
    cr_assert_eq(gw_net_loop_create(w->loop, name, NULL, &peer_events, p, &p->net), GW_OK);
    cr_assert_eq(gw_net_listen(p->net, name, NULL), GW_OK);
}

static enum gw_status client_net(void *ctx, const struct gw_net_options *options,
                                 const struct gw_net_events *events, void *events_ctx,
                                 struct gw_net **out)
{
    return gw_net_loop_create(((struct world *)ctx)->loop, "client", options, events, events_ctx,
                              out);
}

struct world *world_create(const struct gw_session_options *options, uint64_t seed)
{
    static const char *const names[WORLD_PEERS] = {"a:1", "b:1", "c:1"};
    struct world *w = calloc(1, sizeof *w);
    struct gw_loop_options loop;
    gw_loop_options_default(&loop);
    loop.seed = seed;
    cr_assert_eq(gw_loop_create(&loop, &w->loop), GW_OK);
    w->map = gw_map_create();
    w->map->version = 1;
    w->map->cluster = 77;
    w->map->servers = WORLD_PEERS;
    w->map->server = calloc(WORLD_PEERS, sizeof *w->map->server);
    for (int i = 0; i < WORLD_PEERS; i++) {
        peer_init(w, &w->server[i], names[i]);
        w->map->server[i].id[0] = names[i][0];
        strcpy(w->map->server[i].address, names[i]);
        w->map->server[i].view = 1;
    }
    peer_init(w, &w->coordinator, "z:1");
    for (uint32_t i = 0; i < GW_SLOTS; i++)
        w->map->owner[i] = 0;

    cr_assert_eq(gwi_cluster_create("z:1", NULL, seed, gw_map_copy(w->map), &w->cluster), GW_OK);
    struct gwi_env env = {.clock = gw_loop_clock(w->loop),
                          .seed = seed,
                          .net_create = client_net,
                          .ctx = w};
    cr_assert_eq(gwi_session_create(w->cluster, options, &env, &w->session), GW_OK);
    return w;
}

void world_close_session(struct world *w)
{
    gw_session_close(w->session);
    w->session = NULL;
}

void world_destroy(struct world *w)
{
    if (w->session)
        gw_session_close(w->session);
    for (int i = 0; i < WORLD_PEERS; i++)
        gw_net_destroy(w->server[i].net);
    gw_net_destroy(w->coordinator.net);
    gw_cluster_close(w->cluster);
    gw_loop_destroy(w->loop);
    gw_map_destroy(w->map);
    free(w);
}

void world_run(struct world *w, uint64_t ns)
{
    const struct gw_clock *clock = gw_loop_clock(w->loop);
    uint64_t end_ns = gw_clock_now_ns(clock) + ns;
    if (w->session)
        gw_poll(w->session, 0);
    for (;;) {
        uint64_t now_ns = gw_clock_now_ns(clock);
        uint64_t net_ns = gw_loop_next_ns(w->loop);
        uint64_t session_ns = w->session ? gwi_session_next_ns(w->session) : UINT64_MAX;
        if (session_ns < now_ns)
            session_ns = now_ns;
        if (net_ns > end_ns && session_ns > end_ns)
            break;
        if (session_ns < net_ns) {
            /* A turn that is due and changes nothing would stand still here for ever. */
            gw_loop_advance(w->loop, session_ns > now_ns ? session_ns : now_ns + 1000);
            gw_poll(w->session, 0);
            continue;
        }
        struct gw_net *net;
        cr_assert(gw_loop_step(w->loop, &net));
        if (w->session && net == w->session->net)
            gw_poll(w->session, 0);
        else
            gw_net_poll(net, 0);
    }
    gw_loop_advance(w->loop, end_ns);
}

void world_move(struct world *w, uint32_t slot, uint32_t server)
{
    w->map->version++;
    for (uint32_t i = 0; i < GW_SLOTS; i++) {
        if (slot != GW_SLOTS && slot != i)
            continue;
        w->map->server[w->map->owner[i]].view = w->map->version;
        w->map->owner[i] = (uint16_t)server;
    }
    w->map->server[server].view = w->map->version;
}

struct tagged {
    struct world *world;
    int tag;
};

void *world_ctx(struct world *w, int tag)
{
    struct tagged *t = malloc(sizeof *t);
    *t = (struct tagged){w, tag};
    return t;
}

void world_answer(void *ctx, const struct gw_result *result)
{
    struct tagged *t = ctx;
    struct world *w = t->world;
    cr_assert_lt(w->answers, WORLD_ANSWERS);
    w->answer[w->answers++] = (struct answer){t->tag, result->status, result->number};
    free(t);
}

enum gw_status world_add(struct world *w, const char *key, int64_t delta, int tag)
{
    void *ctx = world_ctx(w, tag);
    enum gw_status st = gw_add(w->session, key, strlen(key), delta, 0, world_answer, ctx);
    if (st != GW_OK)
        free(ctx);
    return st;
}

enum gw_status world_get(struct world *w, const char *key, int tag)
{
    void *ctx = world_ctx(w, tag);
    enum gw_status st = gw_get(w->session, key, strlen(key), world_answer, ctx);
    if (st != GW_OK)
        free(ctx);
    return st;
}

struct peer_batch *peer_batch(struct peer *p)
{
    return p->batches ? &p->batch[0] : NULL;
}

void peer_drop_batch(struct peer *p)
{
    cr_assert_gt(p->batches, 0);
    memmove(&p->batch[0], &p->batch[1], --p->batches * sizeof p->batch[0]);
}

static void replies(struct peer *p, const enum gw_status *st, uint32_t from, uint32_t count)
{
    struct peer_batch *b = peer_batch(p);
    uint8_t body[4096];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    for (uint32_t i = from; i < from + count; i++) {
        struct gw_wire_reply reply = {.status = (int8_t)st[i],
                                      .flags = st[i] == GW_OK ? GW_WIRE_COUNTER : 0,
                                      .number = 100 + i};
        gw_wire_reply_encode(&reply, &w);
    }
    cr_assert(!w.bad);
    peer_send(p,
              &(struct gw_frame){.kind = GW_KIND_REPLY,
                                 .count = count,
                                 .session = b->head.session,
                                 .sequence = b->head.sequence,
                                 .confirmed = p->position},
              body, gw_writer_used(&w));
}

void peer_reply_each(struct peer *p, const enum gw_status *st)
{
    cr_assert_not_null(peer_batch(p), "%s has no batch to answer", p->name);
    replies(p, st, 0, peer_batch(p)->count);
    peer_drop_batch(p);
}

void peer_reply(struct peer *p, enum gw_status st)
{
    enum gw_status all[64];
    for (int i = 0; i < 64; i++)
        all[i] = st;
    peer_reply_each(p, all);
}

void peer_reply_part(struct peer *p, uint32_t from, uint32_t count)
{
    enum gw_status all[64] = {GW_OK};
    replies(p, all, from, count);
}

void peer_refuse(struct peer *p, enum gw_status reason, const struct gw_map *map)
{
    struct peer_batch *b = peer_batch(p);
    cr_assert_not_null(b, "%s has no batch to refuse", p->name);
    uint8_t *wire;
    size_t bytes = map_bytes(map, &wire);
    uint8_t *body = calloc(1, 8 + bytes);
    body[0] = (uint8_t)reason;
    memcpy(body + 8, wire, bytes);
    peer_send(p, &(struct gw_frame){.kind = GW_KIND_REFUSAL, .sequence = b->head.sequence}, body,
              8 + bytes);
    free(wire);
    free(body);
    peer_drop_batch(p);
}

void peer_complete(struct peer *p, uint64_t serial, enum gw_status st, int64_t number)
{
    uint8_t body[64];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    struct gw_wire_reply reply = {
        .status = (int8_t)st,
        .flags = GW_WIRE_HAS_SERIAL | (st == GW_OK ? GW_WIRE_COUNTER : 0),
        .number = number,
        .serial_delta = 2,
    };
    gw_wire_reply_encode(&reply, &w);
    peer_send(p,
              &(struct gw_frame){.kind = GW_KIND_COMPLETION,
                                 .count = 1,
                                 .serial = serial - 2,
                                 .confirmed = p->position},
              body, gw_writer_used(&w));
}

void peer_durable(struct peer *p, uint64_t position)
{
    p->durable = position;
    if (p->conn && p->welcomed)
        peer_send(p, &(struct gw_frame){.kind = GW_KIND_DURABLE, .confirmed = position}, NULL, 0);
}

void peer_crash(struct peer *p)
{
    p->incarnation++;
    p->durable = 0;
    p->position = 1;
    p->batches = 0;
    if (p->conn)
        gw_loop_break(p->conn);
}
