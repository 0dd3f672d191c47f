/* Goal: frames leave when they are durable and in their order, who is to be told is told, and
 * nothing is left of connections that have gone.
 * How: one dispatcher without a thread, with connections of the in-process transport; what is
 * durable is said by the open word of another one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/process.h"
#include "client/net/net_loop.h"
#include "index/store_cut.h"
#include "server/server.h"

#define CLIENTS 3u

struct client {
    struct gw_conn *conn;
    struct gwi_link *link;
    struct gw_frame got[32];
    uint32_t n;
    bool closed;
};

struct scene {
    struct gw_loop *loop;
    struct gw_net *net; /* of the clients */
    struct gwi_server *server;
    struct gwi_dispatcher *d;
    struct client client[CLIENTS];
    struct gwi_session session[CLIENTS];
};

static void connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)ctx, (void)conn;
    cr_assert_eq(st, GW_OK);
}

static enum gw_status frame_came(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                                 uint32_t bytes)
{
    (void)ctx;
    struct client *c = gw_conn_user(conn);
    cr_assert_lt(c->n, 32);
    cr_assert_eq(gw_frame_decode(frame, bytes, &c->got[c->n++]), GW_OK);
    return GW_OK;
}

static void closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)ctx, (void)st;
    ((struct client *)gw_conn_user(conn))->closed = true;
}

static const struct gw_net_events client_events = {.connected = connected,
                                                   .frame = frame_came,
                                                   .closed = closed};

static void pass(struct scene *s)
{
    struct gw_net *net;
    gw_net_flush(s->d->net);
    while (gw_loop_step(s->loop, &net))
        gw_net_poll(net, 0);
}

static void begin(struct scene *s, enum gwi_durability mode)
{
    memset(s, 0, sizeof *s);
    s->server = aligned_alloc(GW_CACHE_LINE, (sizeof *s->server + GW_CACHE_LINE - 1) /
                                                 GW_CACHE_LINE * GW_CACHE_LINE);
    s->d = aligned_alloc(GW_CACHE_LINE,
                         (sizeof *s->d + GW_CACHE_LINE - 1) / GW_CACHE_LINE * GW_CACHE_LINE);
    cr_assert(s->server && s->d);
    memset(s->server, 0, sizeof *s->server);
    memset(s->d, 0, sizeof *s->d);
    char dir[] = "/tmp/godwit-hold-XXXXXX";
    cr_assert(mkdtemp(dir));
    snprintf(s->server->options.data, sizeof s->server->options.data, "%s", dir);
    s->server->options.threads = 2;
    s->server->options.commit_log_bytes = 64u << 20;
    s->server->durable.mode = mode;
    s->server->memory.gather_bytes_max = 4096;
    s->server->memory.connections_max = 100;
    s->server->data.incarnation = 1;
    struct gw_store_options options = {.log_bytes = 1u << 20,
                                       .page_bits = 16,
                                       .index_bytes = 65536};
    cr_assert_eq(gw_store_open(&options, &s->server->store), GW_OK);
    cr_assert_eq(gw_loop_create(NULL, &s->loop), GW_OK);
    s->d->server = s->server;
    s->d->backlog_soft = 1u << 20;
    s->d->held.before = s->d->held.after = &s->d->held;
    cr_assert_eq(gw_net_loop_create(s->loop, "s:1", NULL, &gwi_link_events, s->d, &s->d->net),
                 GW_OK);
    cr_assert_eq(gw_net_listen(s->d->net, "s:1", NULL), GW_OK);
    cr_assert_eq(gw_net_loop_create(s->loop, "c:1", NULL, &client_events, NULL, &s->net), GW_OK);
    cr_assert_eq(gw_store_thread_open(s->server->store, &s->d->store), GW_OK);
    gwi_hold_init(s->d);
    s->server->dispatcher[0] = s->d;
    s->server->dispatchers = 1;
    cr_assert_eq(gwi_commit_open(s->d), GW_OK);
    s->server->dispatchers = 2; /* the other one is its open word */
    atomic_store(&s->server->durable.dispatcher[1].open, GWI_NOTHING_OPEN);
    atomic_store(&s->server->durable.round, 10);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct client *c = &s->client[i];
        cr_assert_eq(gw_net_connect(s->net, "s:1", c, &c->conn), GW_OK);
        pass(s);
        c->link = s->d->links; /* the newest one */
        s->session[i].id = 100 + i;
        s->session[i].link = c->link;
        c->link->session = &s->session[i];
        c->link->role = GWI_LINK_CLIENT;
    }
}

static void end(struct scene *s)
{
    gwi_commit_close(s->d);
    gw_net_destroy(s->d->net);
    gwi_links_free(s->d);
    gwi_hold_fini(s->d);
    gw_net_destroy(s->net);
    gw_loop_destroy(s->loop);
    gw_store_thread_close(s->d->store);
    gw_store_close(s->server->store);
    gw_process_remove_tree(s->server->options.data);
    free(s->d);
    free(s->server);
}

static void others_open(struct scene *s, uint64_t word)
{
    atomic_store(&s->server->durable.dispatcher[1].open, word);
}

static void reply(struct scene *s, uint32_t i, uint64_t serial, bool early)
{
    uint8_t frame[GW_FRAME_HEADER + 16] = {0};
    struct gw_frame f = {.bytes = sizeof frame,
                         .kind = GW_KIND_REPLY,
                         .session = s->session[i].id,
                         .serial = serial};
    cr_assert(gwi_hold_reply(s->client[i].link, &f, frame, early));
    pass(s);
}

static void turn(struct scene *s)
{
    (void)gwi_hold_turn(s->d);
    pass(s);
}

Test(hold, replies_wait_until_they_are_durable_and_keep_their_order)
{
    struct scene s;
    begin(&s, GWI_DURABILITY_COMMIT);
    reply(&s, 0, 1, false);
    cr_expect_eq(s.client[0].n, 1, "nothing is open, and it waits");
    others_open(&s, 10);
    reply(&s, 0, 2, false);
    atomic_store(&s.server->durable.round, 12);
    reply(&s, 0, 3, false);
    reply(&s, 1, 1, true);
    others_open(&s, 13); /* what it shows is durable, but it comes behind the others */
    reply(&s, 0, 4, false);
    reply(&s, 2, 1, false);
    others_open(&s, 10);
    turn(&s);
    cr_expect_eq(s.client[0].n, 1);
    cr_assert_geq(s.client[1].n, 1, "an early one does not wait");
    cr_expect_eq(s.client[1].got[0].kind, GW_KIND_REPLY);
    cr_expect_eq(s.client[1].got[0].confirmed, 12);
    cr_expect_eq(s.client[2].n, 1, "other connections wait too");
    others_open(&s, 11);
    turn(&s);
    cr_expect_eq(s.client[0].n, 2);
    others_open(&s, GWI_NOTHING_OPEN);
    atomic_store(&s.server->durable.round, 13);
    turn(&s);
    cr_assert_eq(s.client[0].n, 4);
    for (uint32_t i = 0; i < 4; i++) {
        cr_expect_eq(s.client[0].got[i].serial, i + 1);
        cr_expect_eq(s.client[0].got[i].confirmed, 0, "durable, and it says when it will be");
    }
    cr_expect_eq(s.d->hold.bytes, 0);
    uint32_t n = s.client[1].n;
    for (uint32_t i = 1; i < n; i++) {
        cr_expect_eq(s.client[1].got[i].kind, GW_KIND_DURABLE);
        cr_expect(i == 1 || s.client[1].got[i].confirmed > s.client[1].got[i - 1].confirmed);
    }
    cr_expect_geq(s.client[1].got[n - 1].confirmed, 12, "never told");
    turn(&s);
    cr_expect_eq(s.client[1].n, n, "told twice");
    cr_expect_null(s.d->hold.tell_first);
    end(&s);
}

Test(hold, too_much_that_waits_lets_no_batch_begin)
{
    struct scene s;
    begin(&s, GWI_DURABILITY_COMMIT);
    others_open(&s, 10);
    uint32_t n = 0;
    for (; !gwi_link_is_undurable(s.client[1].link) && n < 1000; n++)
        reply(&s, 0, n, false);
    cr_expect_lt(n, 100);
    cr_expect(gwi_link_is_behind(s.client[0].link, 1u << 20), "held bytes are backlog, too");
    cr_expect_not(gwi_link_is_behind(s.client[1].link, 1u << 20));
    gw_conn_close(s.client[0].conn); /* it gives up: its frames go when their turn comes */
    pass(&s);
    others_open(&s, GWI_NOTHING_OPEN);
    atomic_store(&s.server->durable.round, 20);
    turn(&s);
    cr_expect_eq(s.d->hold.bytes, 0);
    cr_expect_not(gwi_link_is_undurable(s.client[1].link));
    cr_expect_null(s.d->hold.first);
    end(&s);
}

Test(hold, a_last_word_waits_for_what_came_before_it)
{
    struct scene s;
    begin(&s, GWI_DURABILITY_COMMIT);
    others_open(&s, 10);
    reply(&s, 0, 1, false);
    (void)gwi_link_error(s.client[0].link->conn, GW_E_PROTOCOL, "enough");
    pass(&s);
    cr_expect_eq(s.client[0].n, 0, "it overtakes a reply");
    cr_expect(s.client[0].link->ending);
    (void)gwi_link_error(s.client[1].link->conn, GW_E_PROTOCOL, "nothing waits here");
    pass(&s);
    cr_expect_eq(s.client[1].n, 1);
    others_open(&s, GWI_NOTHING_OPEN);
    atomic_store(&s.server->durable.round, 20);
    turn(&s);
    cr_assert_eq(s.client[0].n, 2);
    cr_expect_eq(s.client[0].got[0].kind, GW_KIND_REPLY);
    cr_expect_eq(s.client[0].got[1].kind, GW_KIND_ERROR);
    cr_expect(s.client[0].closed);
    end(&s);
}

Test(hold, in_memory_mode_every_client_is_told_of_a_checkpoint_once)
{
    struct scene s;
    begin(&s, GWI_DURABILITY_MEMORY);
    uint64_t interval = gw_store_interval(s.d->store);
    for (uint32_t i = 0; i < CLIENTS; i++)
        reply(&s, i, 1, false);
    turn(&s);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        cr_assert_eq(s.client[i].n, 1);
        cr_expect_eq(s.client[i].got[0].confirmed, interval);
    }
    atomic_store(&s.server->durable.checkpointed, interval);
    turn(&s);
    turn(&s);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        cr_assert_eq(s.client[i].n, 2);
        cr_expect_eq(s.client[i].got[1].kind, GW_KIND_DURABLE);
        cr_expect_eq(s.client[i].got[1].confirmed, interval);
        cr_expect_eq(s.client[i].got[1].session, 100 + i);
    }
    cr_expect_null(s.d->hold.tell_first);
    end(&s);
}

/* An operation waits for its record; what its connection sends meanwhile is none of its business.
 */
static void park_one(struct scene *s, struct gwi_session *session, uint32_t who, bool early)
{
    struct gwi_link *link = s->client[who].link;
    uint64_t serial = who + 1;
    session->link = link;
    link->session = session;
    link->early = early;
    struct gw_op op = {.key = (const uint8_t *)"key",
                       .key_bytes = 3,
                       .value = (const uint8_t *)"value",
                       .value_bytes = 5,
                       .verb = GW_VERB_UPSERT};
    gw_store_hash(s->server->store, &op);
    cr_assert_eq(gw_applied_reserve(session->applied, serial), GW_OK);
    cr_assert(gwi_release_park(s->d, link, &op, serial, false, GW_RETRY));
    link->early = !early;
    gw_store_enter(s->d->store);
    gwi_release_try(s->d, UINT32_MAX);
    gw_store_exit(s->d->store);
    pass(s);
}

Test(hold, a_completion_is_as_early_as_the_batch_that_it_answers)
{
    struct scene s;
    begin(&s, GWI_DURABILITY_COMMIT);
    static struct gwi_view view; /* all slots are plainly ours */
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        view.state[slot] = GWI_SLOT_OWNED;
    s.d->view = &view;
    s.d->room_bytes = s.d->reply_room = 1u << 18;
    s.d->room = malloc(s.d->room_bytes);
    s.d->reply = malloc(s.d->reply_room);
    cr_assert(s.d->room && s.d->reply);
    cr_assert(gwi_park_init(&s.d->park) && gwi_sessions_init(&s.d->sessions));
    struct gwi_session *session = gwi_sessions_create(&s.d->sessions, 200, 1024);
    cr_assert(session);
    park_one(&s, session, 0, false);
    cr_expect_eq(s.client[0].n, 0, "a later batch was early, and its answer is not durable");
    s.client[0].link->session = NULL; /* its next connection */
    park_one(&s, session, 1, true);
    cr_assert_eq(s.client[1].n, 1);
    cr_expect_eq(s.client[1].got[0].kind, GW_KIND_COMPLETION);
    cr_expect_gt(s.client[1].got[0].confirmed, 0);

    s.client[1].link->session = NULL;
    gwi_sessions_fini(&s.d->sessions);
    gwi_park_fini(&s.d->park);
    free(s.d->room);
    free(s.d->reply);
    end(&s);
}
