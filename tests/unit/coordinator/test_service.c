/* test_service.c - the service over the in-process transport: frames in, frames out, in virtual
 * time. The program over real sockets is tested in tests/cluster. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/net/net_loop.h"
#include "client/wire/ops.h"
#include "coordinator/admin.h"
#include "coordinator/service.h"
#include "tests/unit/coordinator/world.h"

#define KEPT 4096u

/* One end of a connection to the service, and what came over it. */
struct peer {
    struct gw_conn *conn;
    bool closed;
    uint32_t frames;
    uint8_t kind[KEPT];
    struct gw_frame last;
    uint8_t *body; /* of the last frame */
    uint32_t body_bytes;
    bool deaf; /* reads nothing */
};

static struct world w; /* for its file only */
static struct gw_loop *loop;
static struct gw_net *service_net, *peer_net;
static struct gw_service *service;

static void peer_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)ctx, (void)conn;
    cr_assert_eq(st, GW_OK);
}
static enum gw_status peer_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame, uint32_t n)
{
    (void)ctx;
    struct peer *p = gw_conn_user(conn);
    if (p->deaf)
        return GW_WOULD_BLOCK;
    cr_assert_eq(gw_frame_decode(frame, n, &p->last), GW_OK);
    p->kind[p->frames++ % KEPT] = p->last.kind;
    p->body_bytes = n - GW_FRAME_HEADER;
    p->body = realloc(p->body, p->body_bytes + 1);
    memcpy(p->body, frame + GW_FRAME_HEADER, p->body_bytes);
    p->body[p->body_bytes] = '\0';
    return GW_OK;
}
static void peer_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)ctx, (void)st;
    struct peer *p = gw_conn_user(conn);
    p->closed = true;
    p->conn = NULL;
}
static const struct gw_net_events peer_events = {.connected = peer_connected,
                                                 .frame = peer_frame,
                                                 .closed = peer_closed};

static void start_service(void)
{
    char why[256];
    struct gw_net_options options;
    gw_net_options_default(&options);
    options.connections_max = 2000;
    cr_assert_eq(gw_service_create(w.store, w.c, gw_loop_clock(loop), 2000, &service), GW_OK);
    w.c = NULL; /* the service's */
    cr_assert_eq(gw_net_loop_create(loop, "coordinator:1", &options, gw_service_events(), service,
                                    &service_net),
                 GW_OK);
    cr_assert_eq(gw_net_listen(service_net, "coordinator:1", NULL), GW_OK);
    cr_assert_eq(gw_service_turn(service, why, sizeof why), GW_OK);
}
static void stop_service(void)
{
    gw_net_destroy(service_net);
    gw_service_destroy(service);
}

static void set_up(void)
{
    world_init(&w);
    cr_assert_eq(gw_loop_create(NULL, &loop), GW_OK);
    cr_assert_eq(gw_net_loop_create(loop, "peer:1", NULL, &peer_events, NULL, &peer_net), GW_OK);
    start_service();
}
static void tear_down(void)
{
    gw_net_destroy(peer_net);
    stop_service();
    gw_loop_destroy(loop);
    world_fini(&w);
}
TestSuite(service, .init = set_up, .fini = tear_down);

/* Everything that is on its way arrives, with all that follows from it. */
static void settle(void)
{
    struct gw_net *net;
    char why[256];
    gw_net_flush(peer_net);
    while (gw_loop_step(loop, &net)) {
        gw_net_poll(net, 0);
        if (net == service_net) {
            cr_assert_eq(gw_service_turn(service, why, sizeof why), GW_OK, "%s", why);
            gw_net_flush(service_net);
        }
        gw_net_flush(peer_net);
    }
}
static void pass(uint64_t ms)
{
    char why[256];
    gw_loop_advance(loop, gw_clock_now_ns(gw_loop_clock(loop)) + ms * 1000000);
    cr_assert_eq(gw_service_turn(service, why, sizeof why), GW_OK);
    gw_net_flush(service_net);
    settle();
}

static void dial(struct peer *p)
{
    memset(p, 0, sizeof *p);
    cr_assert_eq(gw_net_connect(peer_net, "coordinator:1", p, &p->conn), GW_OK);
    settle();
}
static void hang_up(struct peer *p)
{
    if (p->conn)
        gw_conn_close(p->conn);
    settle();
    free(p->body);
}

static void say(struct peer *p, uint8_t kind, uint64_t session, const struct gw_writer *body)
{
    size_t n = body ? gw_writer_used(body) : 0;
    uint8_t *room = gw_conn_reserve(p->conn, GW_FRAME_HEADER + n);
    cr_assert_not_null(room);
    struct gw_frame f = {.bytes = (uint32_t)(GW_FRAME_HEADER + n),
                         .kind = kind,
                         .session = session};
    gw_frame_encode(&f, room);
    if (n)
        memcpy(room + GW_FRAME_HEADER, body->start, n);
    gw_conn_commit(p->conn, GW_FRAME_HEADER + n);
}
static void say_join(struct peer *p, const char *id, uint64_t incarnation)
{
    uint8_t room[256];
    struct gw_writer body = gw_writer_of(room, sizeof room);
    struct gw_join join = {.incarnation = incarnation};
    snprintf(join.id, sizeof join.id, "%s", id);
    snprintf(join.address, sizeof join.address, "%s:7401", id);
    gw_join_encode(&join, &body);
    say(p, GW_KIND_JOIN, 0, &body);
    settle();
}
static void say_event(struct peer *p, uint64_t job, enum gw_job_event_kind event)
{
    uint8_t room[512];
    struct gw_writer body = gw_writer_of(room, sizeof room);
    gw_job_event_encode(&(struct gw_job_event){.job = job, .event = event}, &body);
    say(p, GW_KIND_JOB_EVENT, job, &body);
    settle();
}
static void say_admin(struct peer *p, const char *json)
{
    struct gw_writer body = {.start = (uint8_t *)json, .at = (uint8_t *)json + strlen(json)};
    say(p, GW_KIND_ADMIN, 77, &body);
    settle();
}
static enum gw_status error_of(const struct peer *p, const char *mention)
{
    char text[1024];
    cr_assert_eq(p->last.kind, GW_KIND_ERROR, "%s came", gw_frame_kind_name(p->last.kind));
    struct gw_reader r = gw_reader_of(p->body, p->body_bytes);
    enum gw_status st = gw_frame_error_decode(&r, text, sizeof text);
    cr_expect_not_null(strstr(text, mention), "\"%s\" does not mention \"%s\"", text, mention);
    return st;
}

Test(service, a_client_gets_a_welcome_and_the_map)
{
    struct peer server, client;
    dial(&server);
    say_join(&server, "a", 1);
    cr_expect_eq(server.last.kind, GW_KIND_JOINED);
    cr_expect_eq(server.last.view, 1);
    dial(&client);
    say(&client, GW_KIND_MAP_GET, 5, NULL); /* HELLO is optional here */
    settle();
    cr_assert_eq(client.last.kind, GW_KIND_MAP);
    cr_expect_eq(client.last.session, 5);
    struct gw_map *map;
    struct gw_reader r = gw_reader_of(client.body, client.body_bytes);
    cr_assert_eq(gw_map_decode(&r, &map), GW_OK);
    cr_expect_eq(map->servers, 1);
    cr_expect_eq(map->cluster, WORLD_CLUSTER);
    cr_expect_eq(map->hash_seed, WORLD_SEED);
    gw_map_destroy(map);

    uint8_t room[256];
    struct gw_writer body = gw_writer_of(room, sizeof room);
    gw_hello_encode(&(struct gw_hello){.role = GW_ROLE_CLIENT, .window = 64}, &body);
    say(&client, GW_KIND_HELLO, 6, &body);
    settle();
    cr_expect_eq(client.last.kind, GW_KIND_WELCOME);
    hang_up(&client);
    hang_up(&server);
}

Test(service, a_job_runs_over_frames)
{
    struct peer a, b, operator;
    dial(&a);
    say_join(&a, "a", 1);
    dial(&b);
    say_join(&b, "b", 1);
    cr_expect_eq(a.last.kind, GW_KIND_MAP, "who comes is told to who is in");
    dial(&operator);
    say_admin(&operator, "{\"op\":\"migrate\",\"slots\":\"0-99\",\"from\":\"a\",\"to\":\"b\"}");
    cr_expect_eq(operator.last.kind, GW_KIND_ADMIN_REPLY);
    cr_expect_eq(operator.last.session, 77);
    cr_expect_str_eq((char *)operator.body, "{\"job\":1}");
    cr_expect_eq(a.last.kind, GW_KIND_JOB);
    cr_expect_eq(b.last.kind, GW_KIND_JOB);
    uint32_t before = b.frames;
    say_event(&a, 1, GW_JOB_ASK_COMMIT);
    cr_assert_eq(b.frames, before + 2);
    cr_expect_eq(b.kind[before], GW_KIND_MAP, "the map before the job");
    cr_expect_eq(b.kind[before + 1], GW_KIND_JOB);
    struct gw_job job;
    struct gw_reader r = gw_reader_of(b.body, b.body_bytes);
    cr_assert_eq(gw_job_decode(&r, &job), GW_OK);
    cr_expect_eq(job.state, GW_JOB_COMMITTED);
    cr_expect_eq(job.commit_version, 3);
    cr_expect_str_eq(job.from_address, "a:7401");
    say_event(&a, 1, GW_JOB_ARRIVED);
    say_event(&a, 1, GW_JOB_CLOSED);
    r = gw_reader_of(a.body, a.body_bytes);
    cr_assert_eq(gw_job_decode(&r, &job), GW_OK);
    cr_expect_eq(job.state, GW_JOB_DONE);
    hang_up(&operator);
    hang_up(&a);
    hang_up(&b);
}

/* Goal: nothing leaves before its fact is durable. How: the file is taken away under the service;
 * then a commit has an effect on nobody. */
Test(service, what_cannot_be_persisted_is_told_to_nobody)
{
    struct peer a, b;
    char why[256] = "";
    dial(&a);
    say_join(&a, "a", 1);
    uint32_t before = a.frames;
    struct gw_fact stray = {.kind = GW_FACT_CLUSTER,
                            .cluster = {.version_was = 1,
                                        .version = 9,
                                        .cluster = WORLD_CLUSTER,
                                        .hash_seed = WORLD_SEED,
                                        .next_job = 1}};
    cr_assert_eq(gw_fact_store_save(w.store, &stray, 1, why, sizeof why), GW_OK);
    memset(&b, 0, sizeof b);
    cr_assert_eq(gw_net_connect(peer_net, "coordinator:1", &b, &b.conn), GW_OK);
    uint8_t room[256];
    struct gw_writer body = gw_writer_of(room, sizeof room);
    gw_join_encode(&(struct gw_join){.incarnation = 1, .id = "b", .address = "b:1"}, &body);
    say(&b, GW_KIND_JOIN, 0, &body);
    gw_net_flush(peer_net);
    struct gw_net *net;
    enum gw_status st = GW_OK;
    while (gw_loop_step(loop, &net)) {
        gw_net_poll(net, 0);
        if (net == service_net && st == GW_OK)
            st = gw_service_turn(service, why, sizeof why);
        gw_net_flush(service_net);
    }
    cr_expect_eq(st, GW_MISMATCH, "%s", why);
    cr_expect_eq(b.frames, 0);
    cr_expect_eq(a.frames, before);
    gw_coordinator_clear((struct gw_coordinator *)gw_service_coordinator(service));
    free(a.body);
    free(b.body);
}

Test(service, strange_frames_are_answered_with_an_error_and_closed)
{
    struct peer p;
    dial(&p);
    say(&p, GW_KIND_BATCH, 1, NULL);
    settle();
    cr_expect_eq(error_of(&p, "takes no batch frames"), GW_E_PROTOCOL);
    cr_expect(p.closed);
    hang_up(&p);

    uint8_t room[64] = {0};
    struct gw_writer body = gw_writer_of(room, sizeof room);
    gw_write64(&body, 1);
    for (int kind = GW_KIND_HELLO; kind <= GW_KIND_JOB_EVENT; kind++) {
        if (kind != GW_KIND_HELLO && kind != GW_KIND_MAP_GET && kind != GW_KIND_JOIN &&
            kind != GW_KIND_HEARTBEAT && kind != GW_KIND_JOB_EVENT)
            continue;
        dial(&p); /* a body that is too short, or not empty where it should be */
        say(&p, (uint8_t)kind, 1, &body);
        settle();
        cr_expect_eq(error_of(&p, gw_frame_kind_name((uint8_t)kind)), GW_E_PROTOCOL);
        cr_expect(p.closed);
        hang_up(&p);
    }

    dial(&p);
    body = gw_writer_of(room, sizeof room);
    gw_hello_encode(&(struct gw_hello){.role = GW_ROLE_PEER_PULL, .id = "a"}, &body);
    say(&p, GW_KIND_HELLO, 1, &body);
    settle();
    cr_expect_eq(error_of(&p, "only clients"), GW_E_PROTOCOL);
    hang_up(&p);

    dial(&p); /* a heartbeat of somebody who never joined */
    uint8_t more[512];
    body = gw_writer_of(more, sizeof more);
    gw_heartbeat_encode(&(struct gw_heartbeat){.incarnation = 3}, &body);
    say(&p, GW_KIND_HEARTBEAT, 1, &body);
    settle();
    cr_expect_eq(error_of(&p, "not joined"), GW_E_PROTOCOL);
    hang_up(&p);
}

Test(service, a_silent_connection_is_closed_after_ten_seconds)
{
    struct peer p, client;
    dial(&client);
    say(&client, GW_KIND_MAP_GET, 1, NULL);
    dial(&p);
    pass(9000);
    cr_expect_not(p.closed);
    pass(2000);
    cr_expect_eq(error_of(&p, "10 s"), GW_E_TIMEOUT);
    cr_expect(p.closed);
    cr_expect_not(client.closed, "a client may think for a while");
    hang_up(&p);
    hang_up(&client);
}

Test(service, clients_leave_room_for_servers)
{
    static struct peer many[2000 - GW_SERVICE_CONNECTIONS_RESERVED + 1];
    uint32_t n = sizeof many / sizeof many[0];
    for (uint32_t i = 0; i < n; i++) {
        dial(&many[i]);
        say(&many[i], GW_KIND_MAP_GET, i, NULL);
    }
    settle();
    cr_expect_eq(many[n - 2].last.kind, GW_KIND_MAP);
    cr_expect_eq(error_of(&many[n - 1], "at most 900 clients"), GW_E_LIMIT);
    struct peer server;
    dial(&server);
    say_join(&server, "a", 1);
    cr_expect_eq(server.last.kind, GW_KIND_JOINED);
    hang_up(&many[0]);
    struct peer next;
    dial(&next);
    say(&next, GW_KIND_MAP_GET, 1, NULL);
    settle();
    cr_expect_eq(next.last.kind, GW_KIND_MAP, "one has left, one may come");
    for (uint32_t i = 1; i < n; i++)
        hang_up(&many[i]);
    hang_up(&next);
    hang_up(&server);
}

Test(service, a_client_that_never_reads_holds_bounded_memory_and_stops_nobody)
{
    struct peer deaf, server;
    dial(&server);
    say_join(&server, "a", 1);
    dial(&deaf);
    deaf.deaf = true;
    for (int i = 0; i < 200; i++) {
        for (int j = 0; j < 100 && deaf.conn; j++)
            say(&deaf, GW_KIND_MAP_GET, 1, NULL);
        settle();
    }
    struct peer other;
    dial(&other);
    say(&other, GW_KIND_MAP_GET, 3, NULL);
    settle();
    cr_expect_eq(other.last.kind, GW_KIND_MAP);
    deaf.deaf = false;
    if (deaf.conn)
        gw_conn_resume(deaf.conn);
    settle();
    if (deaf.conn)
        cr_expect_eq(deaf.frames, 20000, "who reads again gets all answers");
    hang_up(&deaf);
    hang_up(&other);
    hang_up(&server);
}
