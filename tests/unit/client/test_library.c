/* The library's public face over real TCP: opening, synchronous calls, draining, the descriptor, a
 * scan and an operator's request, against one thread that plays coordinator and server at once. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/include/godwit.h"
#include "client/net/net.h"
#include "client/wire/map.h"
#include "client/wire/ops.h"
#include "client/wire/scan.h"

#define KEYS 1000 /* "key-0000".. */

struct host {
    struct gw_net *net;
    pthread_t thread;
    atomic_bool stop;
    char address[64];
    struct gw_map *map;
    int64_t count[KEYS];
    char value[256]; /* of every "s..." key */
    uint32_t value_bytes;
    uint32_t scans;
    uint8_t durability; /* of its WELCOME; then a SYNC is answered by DURABLE */
    uint64_t position;
    atomic_bool deaf; /* to SYNC */
    atomic_uint hellos, byes, syncs;
};

static void send_body(struct gw_conn *conn, struct gw_frame head, const struct gw_writer *w)
{
    size_t bytes = gw_writer_used(w);
    head.bytes = (uint32_t)(GW_FRAME_HEADER + bytes);
    uint8_t *room = gw_conn_reserve(conn, head.bytes);
    if (!room)
        return;
    gw_frame_encode(&head, room);
    if (bytes > 0)
        memcpy(room + GW_FRAME_HEADER, w->start, bytes);
    gw_conn_commit(conn, head.bytes);
}

/* Of "key-0123", which no zero ends. */
static int key_number(const void *key)
{
    const char *digit = (const char *)key + 4;
    return (digit[0] - '0') * 1000 + (digit[1] - '0') * 100 + (digit[2] - '0') * 10 + digit[3] -
           '0';
}

static void on_batch(struct host *h, const struct gw_frame *head, struct gw_reader *r,
                     struct gw_writer *w)
{
    struct gw_wire_op op;
    while (gw_wire_op_decode(r, &op)) {
        struct gw_wire_reply reply = {.version = 7};
        if (op.verb == GW_WIRE_ADD) {
            int key = key_number(op.key);
            reply.flags = GW_WIRE_COUNTER;
            reply.number = h->count[key % KEYS] += op.number;
        } else if (op.verb == GW_WIRE_UPSERT && op.value) {
            memcpy(h->value, op.value, op.value_bytes);
            h->value_bytes = op.value_bytes;
        } else if (op.verb == GW_WIRE_READ && op.key[0] == 's') {
            reply.flags = GW_WIRE_VALUE;
            reply.value = (const uint8_t *)h->value;
            reply.value_bytes = h->value_bytes;
        } else {
            reply.status = GW_NOT_FOUND;
        }
        gw_wire_reply_encode(&reply, w);
    }
    (void)head;
}

/* The first request is told to wait, the second that the view is another; then two pages. */
static void on_scan(struct host *h, uint32_t *count, struct gw_writer *w, struct gw_reader *r)
{
    struct gw_scan m;
    if (gw_scan_decode(r, &m) != GW_OK)
        return;
    h->scans++;
    struct gw_scan_reply reply = {.status = GW_PENDING};
    if (h->scans == 2) {
        reply.status = GW_WRONG_VIEW;
        h->map->version++;
    } else if (h->scans > 2) {
        reply.status = m.cursor == 0 ? GW_OK : GW_END;
        reply.cursor = 500;
    }
    gw_scan_reply_encode(&reply, w);
    if (h->scans <= 2)
        return;
    for (uint32_t i = 0; i < 500; i++) {
        char key[16];
        uint32_t number = i + (uint32_t)m.cursor;
        snprintf(key, sizeof key, "key-%04u", number);
        struct gw_scan_record record = {.key = (const uint8_t *)key,
                                        .key_bytes = 8,
                                        .kind = GW_SCAN_COUNTER,
                                        .number = h->count[number],
                                        .value_bytes = 8};
        gw_scan_record_encode(&record, w);
        ++*count;
    }
}

static enum gw_status on_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                               uint32_t bytes)
{
    struct host *h = ctx;
    struct gw_frame head;
    static uint8_t body[1 << 20];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    if (gw_frame_decode(frame, bytes, &head) != GW_OK)
        return GW_E_PROTOCOL;
    struct gw_reader r = gw_frame_body(frame, &head);
    struct gw_frame out = {.session = head.session, .sequence = head.sequence};
    switch (head.kind) {
    case GW_KIND_MAP_GET:
        out.kind = GW_KIND_MAP;
        gw_map_encode(h->map, &w);
        break;
    case GW_KIND_HELLO: {
        atomic_fetch_add(&h->hellos, 1);
        struct gw_welcome m = {.incarnation = 1,
                               .window = 65536,
                               .frame_bytes_max = 4 << 20,
                               .value_bytes_max = 1024,
                               .durability = h->durability};
        out.kind = GW_KIND_WELCOME;
        gw_welcome_encode(&m, &w);
        break;
    }
    case GW_KIND_BATCH:
        out.kind = GW_KIND_REPLY;
        out.count = head.count;
        out.confirmed = h->position;
        on_batch(h, &head, &r, &w);
        break;
    case GW_KIND_SCAN:
        out.kind = GW_KIND_SCAN_REPLY;
        on_scan(h, &out.count, &w, &r);
        break;
    case GW_KIND_ADMIN:
        out.kind = GW_KIND_ADMIN_REPLY;
        gw_write_bytes(&w, "{\"you\":", 7);
        gw_write_bytes(&w, r.at, gw_reader_left(&r));
        gw_write_bytes(&w, "}", 1);
        break;
    case GW_KIND_SYNC:
        atomic_fetch_add(&h->syncs, 1);
        if (atomic_load(&h->deaf))
            return GW_OK;
        out.kind = GW_KIND_DURABLE;
        out.confirmed = h->position++;
        break;
    case GW_KIND_BYE:
        atomic_fetch_add(&h->byes, 1);
        return GW_OK;
    default:
        return GW_E_PROTOCOL;
    }
    send_body(conn, out, &w);
    return GW_OK;
}

static const struct gw_net_events host_events = {.frame = on_frame};

static void *host_run(void *arg)
{
    struct host *h = arg;
    while (!atomic_load(&h->stop))
        gw_net_poll(h->net, 100000000);
    gw_net_destroy(h->net);
    return NULL;
}

static struct host *host_start_durable(uint8_t durability)
{
    struct host *h = calloc(1, sizeof *h);
    h->durability = durability;
    h->position = durability != GW_WIRE_DURABILITY_NONE;
    cr_assert_eq(gw_net_uring_create(NULL, &host_events, h, &h->net), GW_OK);
    cr_assert_eq(gw_net_listen(h->net, "127.0.0.1:0", h->address), GW_OK);
    h->map = gw_map_create();
    h->map->version = 1;
    h->map->servers = 1;
    h->map->server = calloc(1, sizeof *h->map->server);
    strcpy(h->map->server[0].id, "one");
    strcpy(h->map->server[0].address, h->address);
    h->map->server[0].view = 1;
    for (uint32_t i = 0; i < GW_SLOTS; i++)
        h->map->owner[i] = 0;
    cr_assert_eq(pthread_create(&h->thread, NULL, host_run, h), 0);
    return h;
}

static struct host *host_start(void)
{
    return host_start_durable(GW_WIRE_DURABILITY_NONE);
}

static void host_stop(struct host *h)
{
    atomic_store(&h->stop, true);
    gw_net_wake(h->net);
    pthread_join(h->thread, NULL);
    gw_map_destroy(h->map);
    free(h);
}

static void open_both(struct host *h, struct gw_cluster **cluster, struct gw_session **session)
{
    cr_assert_eq(gw_cluster_open(h->address, NULL, cluster), GW_OK);
    cr_expect_eq(gw_cluster_map_version(*cluster), 1);
    cr_assert_eq(gw_session_open(*cluster, NULL, session), GW_OK);
}

Test(library, synchronous_calls_give_their_results, .timeout = 20)
{
    struct host *h = host_start();
    struct gw_cluster *cluster;
    struct gw_session *s;
    open_both(h, &cluster, &s);
    struct gw_result result;
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(gw_add_sync(s, "key-0005", 8, 10, 0, &result), GW_OK);
        cr_expect_eq(result.kind, GW_VALUE_COUNTER);
        cr_expect_eq(result.number, 10 * i);
    }
    cr_expect_eq(gw_set_sync(s, "s", 1, "the value", 9, NULL), GW_OK);
    cr_assert_eq(gw_get_sync(s, "s", 1, &result), GW_OK);
    cr_assert_eq(result.value_bytes, 9);
    cr_expect_arr_eq(result.value, "the value", 9, "valid until the next call");
    cr_expect_eq(result.version, 7);
    cr_expect_eq(gw_get_sync(s, "none", 4, &result), GW_NOT_FOUND);
    cr_expect_null(result.value);
    cr_expect_eq(gw_get_sync(s, "", 0, &result), GW_E_INVALID);
    gw_session_close(s);
    gw_cluster_close(cluster);
    cr_expect_eq(h->byes, 1, "closing says so to the server");
    host_stop(h);
}

static void count_up(void *ctx, const struct gw_result *result)
{
    cr_assert_eq(result->status, GW_OK);
    ++*(uint64_t *)ctx;
}

Test(library, a_million_pipelined_adds_are_all_counted, .timeout = 60)
{
    struct host *h = host_start();
    struct gw_cluster *cluster;
    struct gw_session *s;
    open_both(h, &cluster, &s);
    uint64_t done = 0;
    for (uint32_t i = 0; i < 1000000; i++) {
        char key[9] = "key-0000";
        key[7] = (char)('0' + i % 10);
        while (gw_add(s, key, 8, 1, 0, count_up, &done) == GW_WOULD_BLOCK)
            gw_poll(s, -1);
    }
    cr_assert_eq(gw_drain(s, 10000), GW_OK);
    cr_expect_eq(done, 1000000);
    cr_expect_eq(gw_in_flight(s), 0);
    for (int i = 0; i < 10; i++)
        cr_expect_eq(h->count[i], 100000);
    struct gw_session_stats stats;
    gw_session_stats(s, &stats);
    cr_expect_eq(stats.operations, 1000000);
    cr_expect_gt(stats.wait_longest_ns, 0);
    gw_session_stats_reset_wait(s);
    gw_session_stats(s, &stats);
    cr_expect_eq(stats.wait_longest_ns, 0);
    gw_session_close(s);
    gw_cluster_close(cluster);
    host_stop(h);
}

/* Nothing becomes durable there but by being asked for: whoever waits must ask. */
Test(library, waiting_for_durability_asks_for_it, .timeout = 20)
{
    struct host *h = host_start_durable(GW_WIRE_DURABILITY_MEMORY);
    struct gw_cluster *cluster;
    struct gw_session *s;
    open_both(h, &cluster, &s);
    struct gw_result result;
    cr_expect_eq(gw_session_set_acknowledge(s, GW_ACKNOWLEDGE_DURABLE), GW_OK);
    for (int i = 1; i <= 3; i++) {
        cr_assert_eq(gw_add_sync(s, "key-0005", 8, 1, 0, &result), GW_OK);
        cr_expect_eq(result.number, i);
        cr_expect_eq(gw_session_durable(s), i);
    }
    cr_expect_eq(h->syncs, 3);
    uint64_t done = 0;
    cr_assert_eq(gw_add(s, "key-0005", 8, 1, 0, count_up, &done), GW_OK);
    cr_expect_eq(gw_drain(s, 5000), GW_OK);
    cr_expect_eq(done, 1);

    for (enum gw_acknowledge m = GW_ACKNOWLEDGE_SERVER; m <= GW_ACKNOWLEDGE_APPLIED; m++) {
        cr_expect_eq(gw_session_set_acknowledge(s, m), GW_OK);
        cr_assert_eq(gw_add_sync(s, "key-0005", 8, 1, 0, NULL), GW_OK);
        cr_expect_lt(gw_session_durable(s), gw_session_issued(s));
        cr_expect_eq(gw_session_sync(s, 5000), GW_OK);
        cr_expect_eq(gw_session_durable(s), gw_session_issued(s));
    }
    h->deaf = true;
    cr_assert_eq(gw_add_sync(s, "key-0005", 8, 1, 0, NULL), GW_OK);
    cr_expect_eq(gw_session_sync(s, 50), GW_E_TIMEOUT);
    gw_session_close(s);
    gw_cluster_close(cluster);
    host_stop(h);
}

static void risen(void *ctx, uint64_t durable)
{
    *(uint64_t *)ctx = durable;
}

Test(library, a_pipeline_goes_on_through_a_window_of_kept_operations, .timeout = 60)
{
    struct host *h = host_start_durable(GW_WIRE_DURABILITY_MEMORY);
    struct gw_cluster *cluster;
    struct gw_session *s;
    struct gw_session_options o;
    gw_session_options_default(&o);
    o.operations_max = 256;
    o.acknowledge = GW_ACKNOWLEDGE_APPLIED;
    cr_assert_eq(gw_cluster_open(h->address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, &o, &s), GW_OK);
    uint64_t done = 0, durable = 0;
    gw_session_on_durable(s, risen, &durable);
    for (uint32_t i = 0; i < 100000; i++)
        while (gw_add(s, "key-0001", 8, 1, 0, count_up, &done) == GW_WOULD_BLOCK)
            gw_poll(s, i % 2 ? -1 : 1000);
    cr_expect_eq(gw_session_sync(s, 10000), GW_OK);
    cr_expect_eq(done, 100000);
    gw_poll(s, 0);
    cr_expect_eq(durable, 100000);
    cr_expect_eq(h->count[1], 100000);
    struct gw_session_stats stats;
    gw_session_stats(s, &stats);
    cr_expect_eq(stats.kept + stats.replayed + stats.lost, 0);
    cr_expect_eq(stats.durable, 100000);
    gw_session_close(s);
    gw_cluster_close(cluster);
    host_stop(h);
}

Test(library, the_descriptor_wakes_an_event_loop_for_answers_and_for_deadlines, .timeout = 20)
{
    struct host *h = host_start();
    struct gw_cluster *cluster;
    struct gw_session *s;
    open_both(h, &cluster, &s);
    int fd = gw_session_eventfd(s);
    cr_assert_geq(fd, 0);
    cr_expect_eq(gw_session_eventfd(s), fd);
    uint64_t done = 0;
    for (int i = 0; i < 100; i++) {
        cr_assert_eq(gw_add(s, "key-0001", 8, 1, 0, count_up, &done), GW_OK);
        gw_flush(s);
        for (uint64_t before = done; done == before;) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            cr_assert_eq(poll(&p, 1, 5000), 1, "never woken");
            gw_poll(s, 0);
        }
    }
    cr_expect_eq(done, 100);
    gw_session_close(s);
    gw_cluster_close(cluster);
    host_stop(h);
}

static bool take_item(void *ctx, const struct gw_scan_item *item)
{
    uint32_t *seen = ctx;
    cr_assert_eq(item->key_bytes, 8);
    cr_assert_eq(item->kind, GW_VALUE_COUNTER);
    int key = key_number(item->key);
    cr_expect_eq(item->number, key);
    ++*seen;
    return *seen < 1200; /* more than there are */
}

static bool take_three(void *ctx, const struct gw_scan_item *item)
{
    (void)item;
    return ++*(uint32_t *)ctx < 3;
}

Test(library, a_scan_waits_for_what_arrives_and_follows_a_new_map, .timeout = 20)
{
    struct host *h = host_start();
    for (int i = 0; i < KEYS; i++)
        h->count[i] = i;
    struct gw_cluster *cluster;
    cr_assert_eq(gw_cluster_open(h->address, NULL, &cluster), GW_OK);
    uint32_t seen = 0;
    cr_expect_eq(gw_scan_all(cluster, take_item, &seen), GW_OK);
    cr_expect_eq(seen, KEYS);
    cr_expect_eq(gw_cluster_map_version(cluster), 2);
    seen = 0;
    cr_expect_eq(gw_scan_all(cluster, take_three, &seen), GW_END);
    cr_expect_eq(seen, 3);
    gw_cluster_close(cluster);
    host_stop(h);
}

Test(library, an_operators_request_gets_its_answer, .timeout = 20)
{
    struct host *h = host_start();
    char *answer = NULL;
    cr_assert_eq(gw_admin(h->address, "{\"verb\":\"status\"}", 2000, &answer), GW_OK);
    cr_expect_str_eq(answer, "{\"you\":{\"verb\":\"status\"}}");
    free(answer);
    host_stop(h);
    cr_expect_eq(gw_admin("127.0.0.1:1", "{}", 2000, &answer), GW_E_UNREACHABLE);
}

static void *use_elsewhere(void *session)
{
    struct gw_result result;
    cr_expect_eq(gw_add_sync(session, "key-0001", 8, 1, 0, &result), GW_OK);
    cr_expect_eq(result.number, 1);
    return NULL;
}

Test(library, a_session_may_be_opened_here_and_used_by_another_thread, .timeout = 20)
{
    struct host *h = host_start();
    struct gw_cluster *cluster;
    struct gw_session *s;
    open_both(h, &cluster, &s);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, use_elsewhere, s), 0);
    pthread_join(thread, NULL);
    gw_session_close(s); /* after its thread has ended: by whoever is left */
    gw_cluster_close(cluster);
    host_stop(h);
}
