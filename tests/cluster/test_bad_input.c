/* Goal: whatever a peer sends, it gets a clear error or a closed connection, memory stays bounded
 * and other clients do not notice.
 * How: raw connections to the real server and coordinator, beside a client whose counter must stay
 * exact; resident memory is read from /proc. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/cluster/harness.h"

TestSuite(bad_input, .timeout = 200);

/* AddressSanitizer keeps what was freed for a while, 256 MiB of it. */
#if defined(__SANITIZE_ADDRESS__)
#define KEPT_FREED (300 * MIB)
#else
#define KEPT_FREED (0 * MIB)
#endif

#define MIB        (1024ull * 1024)
#define CLOSES_MS  10000
#define FRAME_ROOM (256u << 10)
#define GROWTH_MAX (32 * MIB) /* of resident memory, unless a test says otherwise */

/* A cluster of one server, a client beside the trouble, and what memory was before. */
struct scene {
    struct gw_spawn spawn;
    struct harness_writer witness;
    uint64_t server_before, coordinator_before;
    const char *server;
};

static void begin_with(struct scene *scene, uint64_t memory_bytes, const char *const *flags)
{
    memset(scene, 0, sizeof *scene);
    harness_start_with(&scene->spawn, 1, memory_bytes, flags);
    scene->server = scene->spawn.servers[0].address;
    scene->witness.delay_us = 500; /* there all the time, without taking the machine */
    harness_writer_start(&scene->witness, &scene->spawn, "witness", 3000);
    harness_sleep_ms(300); /* what it touches first has been touched */
    scene->server_before = gw_process_resident_bytes(scene->spawn.servers[0].process.pid);
    scene->coordinator_before = gw_process_resident_bytes(scene->spawn.coordinator.pid);
}

static void begin(struct scene *scene)
{
    begin_with(scene, 128 * MIB, NULL);
}

/* The witness has gone on, exactly; nobody has died or grown by more than `growth_max`. */
static void end(struct scene *scene, uint64_t growth_max)
{
    uint64_t total = harness_writer_total(&scene->witness);
    harness_sleep_ms(50);
    cr_expect_gt(harness_writer_total(&scene->witness), total, "the other client stands still");
    uint64_t server = gw_process_resident_bytes(scene->spawn.servers[0].process.pid);
    uint64_t coordinator = gw_process_resident_bytes(scene->spawn.coordinator.pid);
    cr_assert_gt(server, 0, "the server has died");
    cr_assert_gt(coordinator, 0, "the coordinator has died");
    cr_expect_leq(server, scene->server_before + growth_max,
                  "the server grew from %llu to %llu MiB",
                  (unsigned long long)(scene->server_before / MIB),
                  (unsigned long long)(server / MIB));
    cr_expect_leq(coordinator, scene->coordinator_before + growth_max,
                  "the coordinator grew from %llu to %llu MiB",
                  (unsigned long long)(scene->coordinator_before / MIB),
                  (unsigned long long)(coordinator / MIB));
    harness_writer_stop(&scene->witness);
    harness_writer_check(&scene->witness);
    cr_expect_lt(scene->witness.wait_longest_ns, 2000000000ull, "the other client waited %llu ms",
                 (unsigned long long)(scene->witness.wait_longest_ns / 1000000));
    harness_writer_free(&scene->witness);
    harness_stop(&scene->spawn);
}

/* Sends the bytes on a new connection (behind a handshake if `greeted`) and expects its end.
 * `wanted`: what the ERROR frame must say; GW_OK: any error, or none. */
static void expect_closed(const char *address, bool greeted, const uint8_t *bytes, size_t n,
                          enum gw_status wanted, const char *what)
{
    enum gw_status said = GW_OK;
    int fd = harness_connect(address);
    if (greeted) {
        struct gw_welcome welcome;
        uint64_t view;
        cr_assert(harness_hello(fd, gw_rand_system_seed(), &welcome, &view));
    }
    (void)harness_send(fd, bytes, n); /* the other end may close before it has all */
    cr_expect(harness_closes(fd, CLOSES_MS, &said), "%s: the connection stays open", what);
    if (wanted != GW_OK)
        cr_expect_eq(said, wanted, "%s: the answer is %s", what, gw_status_name(said));
    close(fd);
}

/* ---- frames --------------------------------------------------------------------------------- */

static uint8_t frame_room[FRAME_ROOM];

/* A batch of the given operations' bytes. */
static size_t batch(const void *ops, size_t bytes, uint32_t count, uint64_t view)
{
    return harness_frame(frame_room,
                         (struct gw_frame){.kind = GW_KIND_BATCH,
                                           .count = count,
                                           .session = 1,
                                           .sequence = 1,
                                           .view = view,
                                           .serial = 1,
                                           .confirmed = 1},
                         ops, bytes);
}

static void garbage_at(const char *address)
{
    struct gw_rand rand;
    uint8_t bytes[4096];
    gw_rand_init(&rand, 99);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)gw_rand_next(&rand);
        expect_closed(address, false, bytes, sizeof bytes, GW_OK, "garbage");
    }
    static const char http[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    expect_closed(address, false, (const uint8_t *)http, sizeof http - 1, GW_E_PROTOCOL, "HTTP");
}

static void headers_at(const char *address)
{
    uint8_t frame[GW_FRAME_HEADER + 16] = {0};
    size_t bytes = harness_frame(frame, (struct gw_frame){.kind = GW_KIND_HELLO, .session = 1},
                                 frame + GW_FRAME_HEADER, 8);
    uint8_t changed[sizeof frame];

    memcpy(changed, frame, sizeof frame);
    changed[6] = GW_FRAME_VERSION + 1;
    expect_closed(address, false, changed, bytes, GW_E_VERSION, "another version");

    memcpy(changed, frame, sizeof frame);
    gw_store32(changed, 0xfffffff0u);
    expect_closed(address, false, changed, bytes, GW_E_TOO_LARGE, "a frame of 4 GiB");

    memcpy(changed, frame, sizeof frame);
    gw_store32(changed, GW_FRAME_HEADER - 1);
    expect_closed(address, false, changed, bytes, GW_OK, "a frame shorter than its header");

    memcpy(changed, frame, sizeof frame);
    changed[7] = 0xee;
    expect_closed(address, false, changed, bytes, GW_E_PROTOCOL, "a kind that does not exist");

    memcpy(changed, frame, sizeof frame);
    changed[8] = 0xf8;
    expect_closed(address, false, changed, bytes, GW_E_PROTOCOL, "flags that do not exist");
}

static void truncated_at(const char *address)
{
    uint8_t frame[GW_FRAME_HEADER + 64] = {0};
    size_t bytes = harness_frame(frame, (struct gw_frame){.kind = GW_KIND_HELLO, .session = 1},
                                 frame + GW_FRAME_HEADER, 32);
    for (size_t n = 1; n < bytes; n += 9) {
        enum gw_status said;
        int fd = harness_connect(address);
        cr_assert(harness_send(fd, frame, n));
        shutdown(fd, SHUT_WR);
        cr_expect(harness_closes(fd, CLOSES_MS, &said), "%zu bytes of a frame", n);
        close(fd);
    }
}

Test(bad_input, garbage_is_answered_by_a_closed_connection)
{
    struct scene scene;
    begin(&scene);
    garbage_at(scene.server);
    garbage_at(scene.spawn.coordinator_address);
    end(&scene, GROWTH_MAX);
}

Test(bad_input, headers_that_are_wrong_get_an_error_that_says_how)
{
    struct scene scene;
    begin(&scene);
    headers_at(scene.server);
    headers_at(scene.spawn.coordinator_address);
    end(&scene, GROWTH_MAX);
}

Test(bad_input, a_frame_cut_short_ends_the_connection)
{
    struct scene scene;
    begin(&scene);
    truncated_at(scene.server);
    truncated_at(scene.spawn.coordinator_address);
    end(&scene, GROWTH_MAX);
}

Test(bad_input, a_large_frame_is_only_held_as_far_as_it_has_come)
{
    struct scene scene;
    begin(&scene);
    uint8_t header[GW_FRAME_HEADER];
    gw_frame_encode(&(struct gw_frame){.kind = GW_KIND_BATCH, .bytes = 4 << 20, .session = 1},
                    header);
    int fd[200];
    for (int i = 0; i < 200; i++) { /* together they claim 800 MiB */
        fd[i] = harness_connect(scene.server);
        cr_assert(harness_send(fd[i], header, sizeof header));
    }
    harness_sleep_ms(300);
    uint64_t now = gw_process_resident_bytes(scene.spawn.servers[0].process.pid);
    cr_expect_lt(now, scene.server_before + GROWTH_MAX);
    for (int i = 0; i < 200; i++)
        close(fd[i]);
    end(&scene, GROWTH_MAX);
}

Test(bad_input, batches_that_lie_about_their_operations_are_refused)
{
    struct scene scene;
    begin(&scene);
    uint8_t ops[512];
    struct gw_wire_op add = {.verb = GW_WIRE_ADD,
                             .key = (const uint8_t *)"key",
                             .key_bytes = 3,
                             .number = 1};
    struct gw_writer w = gw_writer_of(ops, sizeof ops);
    gw_wire_op_encode(&add, &w);
    size_t one = gw_writer_used(&w);

    /* What is right is executed, so that the rest is refused for its own fault. */
    int fd = harness_connect(scene.server);
    struct gw_welcome welcome;
    uint64_t view;
    uint8_t reply[4096];
    cr_assert(harness_hello(fd, 1, &welcome, &view));
    size_t n = batch(ops, one, 1, view);
    cr_assert(harness_send(fd, frame_room, n));
    cr_assert_gt(harness_read_frame(fd, reply, sizeof reply, 5000), 0);
    struct gw_frame answer;
    cr_assert_eq(gw_frame_decode(reply, gw_load32(reply), &answer), GW_OK);
    cr_expect_eq(answer.kind, GW_KIND_REPLY, "%s", gw_frame_kind_name(answer.kind));
    close(fd);

    n = batch(ops, one, 2, view);
    expect_closed(scene.server, true, frame_room, n, GW_E_PROTOCOL,
                  "more operations than there are");
    n = batch(ops, one, UINT32_MAX, view);
    expect_closed(scene.server, true, frame_room, n, GW_E_PROTOCOL, "four billion operations");
    n = batch(ops, one - 1, 1, view);
    expect_closed(scene.server, true, frame_room, n, GW_E_PROTOCOL, "an operation cut short");

    uint8_t changed[sizeof ops];
    memcpy(changed, ops, one);
    gw_store16(changed + 2, 0);
    n = batch(changed, one, 1, view);
    expect_closed(scene.server, true, frame_room, n, GW_E_PROTOCOL, "a key of 0 bytes");
    memcpy(changed, ops, one);
    gw_store16(changed + 2, UINT16_MAX);
    n = batch(changed, one, 1, view);
    expect_closed(scene.server, true, frame_room, n, GW_E_PROTOCOL, "a key longer than the frame");
    memcpy(changed, ops, one);
    changed[0] = 99;
    n = batch(changed, one, 1, view);
    expect_closed(scene.server, true, frame_room, n, GW_E_PROTOCOL, "a verb that does not exist");

    /* A value that claims more than the frame has. */
    struct gw_wire_op set = {.verb = GW_WIRE_UPSERT,
                             .key = (const uint8_t *)"key",
                             .key_bytes = 3,
                             .value = (const uint8_t *)"value",
                             .value_bytes = 5};
    w = gw_writer_of(ops, sizeof ops);
    gw_wire_op_encode(&set, &w);
    size_t used = gw_writer_used(&w);
    gw_store32(ops + used - 9, 0x7fffffff);
    n = batch(ops, used, 1, view);
    expect_closed(scene.server, true, frame_room, n, GW_E_PROTOCOL,
                  "a value longer than the frame");

    /* Operations without a handshake; frames that only servers or coordinators send. */
    n = batch(ops, one, 1, view);
    expect_closed(scene.server, false, frame_room, n, GW_OK, "a batch before HELLO");
    for (int kind = GW_KIND_HELLO; kind <= GW_KIND_PULL_ANSWER; kind++) {
        if (strcmp(gw_frame_kind_name((uint8_t)kind), "unknown") == 0 || kind == GW_KIND_MAP_GET ||
            kind == GW_KIND_SCAN || kind == GW_KIND_SYNC || kind == GW_KIND_BYE)
            continue;
        struct gw_frame frame = {.kind = (uint8_t)kind, .session = 1, .sequence = 1, .count = 7};
        memset(ops, 0xa5, sizeof ops);
        n = harness_frame(frame_room, frame, ops, 200);
        expect_closed(scene.server, true, frame_room, n, GW_OK, gw_frame_kind_name((uint8_t)kind));
    }
    end(&scene, GROWTH_MAX);
}

Test(bad_input, the_coordinator_refuses_frames_it_does_not_know)
{
    struct scene scene;
    uint8_t body[200];
    begin(&scene);
    memset(body, 0xa5, sizeof body);
    for (int kind = GW_KIND_HELLO; kind <= GW_KIND_PULL_ANSWER; kind++) {
        if (strcmp(gw_frame_kind_name((uint8_t)kind), "unknown") == 0 || kind == GW_KIND_MAP_GET ||
            kind == GW_KIND_ADMIN)
            continue;
        struct gw_frame frame = {.kind = (uint8_t)kind, .session = 1, .sequence = 1, .count = 7};
        size_t n = harness_frame(frame_room, frame, body, sizeof body);
        expect_closed(scene.spawn.coordinator_address, false, frame_room, n, GW_OK,
                      gw_frame_kind_name((uint8_t)kind));
    }
    end(&scene, GROWTH_MAX);
}

Test(bad_input, admin_requests_that_make_no_sense_get_a_json_error)
{
    static const char *const requests[] = {
        "",
        "{",
        "[]",
        "7",
        "{\"op\":5}",
        "{\"op\":\"no-such\"}",
        "{\"op\":\"migrate\"}",
        "{\"op\":\"migrate\",\"slots\":\"0-99999\",\"from\":\"A\",\"to\":\"A\"}",
        "{\"op\":\"migrate\",\"slots\":[1],\"from\":\"A\",\"to\":\"A\"}",
        "{\"op\":\"job-show\",\"id\":-1}",
        "{\"op\":\"job-show\",\"id\":1e300}",
    };
    struct scene scene;
    begin(&scene);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        char *answer = NULL;
        enum gw_status st = gw_admin(scene.spawn.coordinator_address, requests[i], 5000, &answer);
        if (st != GW_OK)
            continue; /* refused before it was sent */
        json_error_t where;
        json_t *document = json_loads(answer, 0, &where);
        cr_expect(json_is_object(json_object_get(document, "error")), "%s: %s", requests[i],
                  answer);
        json_decref(document);
        free(answer);
    }
    end(&scene, GROWTH_MAX);
}

/* ---- sizes ---------------------------------------------------------------------------------- */

Test(bad_input, keys_and_values_beyond_their_limits_are_refused_with_a_status)
{
    struct scene scene;
    struct gw_session *session;
    struct gw_result result;
    begin_with(&scene, 128 * MIB, (const char *const[]){"--page-size", "4MiB", NULL});
    cr_assert_eq(gw_session_open(scene.witness.cluster, NULL, &session), GW_OK);
    size_t large = 9 * MIB;
    char *bytes = malloc(large);
    memset(bytes, 'b', large);
    cr_expect_eq(gw_set_sync(session, "", 0, "v", 1, &result), GW_E_INVALID);
    cr_expect_eq(gw_set_sync(session, bytes, 65536, "v", 1, &result), GW_E_INVALID);
    cr_expect_eq(gw_add_sync(session, bytes, 65536, 1, 0, &result), GW_E_INVALID);
    cr_expect_eq(gw_set_sync(session, bytes, 65535, "v", 1, &result), GW_OK);
    cr_expect_eq(gw_get_sync(session, bytes, 65535, &result), GW_OK);
    cr_expect_eq(result.value_bytes, 1);
    /* A page is 4 MiB: more does not fit. */
    cr_expect_eq(gw_set_sync(session, "large", 5, bytes, 4 * MIB, &result), GW_E_TOO_LARGE);
    cr_expect_eq(gw_set_sync(session, "large", 5, bytes, large, &result), GW_E_TOO_LARGE);
    cr_expect_eq(gw_get_sync(session, "large", 5, &result), GW_NOT_FOUND);
    cr_expect_eq(gw_set_sync(session, "fits", 4, bytes, 3 * MIB, &result), GW_OK);
    cr_expect_eq(gw_get_sync(session, "fits", 4, &result), GW_OK);
    cr_expect_eq(result.value_bytes, 3 * MIB);
    free(bytes);
    gw_session_close(session);
    end(&scene, 64 * MIB);
}

Test(bad_input, a_full_store_refuses_writes_and_goes_on_reading)
{
    struct scene scene;
    struct gw_session *session;
    struct gw_result result;
    begin(&scene);
    harness_writer_stop(&scene.witness); /* it would be refused, too */
    harness_writer_check(&scene.witness);
    cr_assert_eq(gw_session_open(scene.witness.cluster, NULL, &session), GW_OK);
    size_t bytes = 1 * MIB;
    char *value = malloc(bytes), key[32];
    memset(value, 'v', bytes);
    uint32_t stored = 0;
    enum gw_status st = GW_OK;
    for (; st == GW_OK && stored < 1000; stored += st == GW_OK) {
        int len = snprintf(key, sizeof key, "full%u", stored);
        st = gw_set_sync(session, key, (size_t)len, value, bytes, &result);
    }
    cr_expect_eq(st, GW_E_FULL, "%s after %u MiB", gw_status_text(st), stored);
    cr_expect(stored >= 40 && stored <= 128, "%u MiB of 128", stored);
    for (uint32_t i = 0; i < stored; i++) {
        int len = snprintf(key, sizeof key, "full%u", i);
        cr_assert_eq(gw_get_sync(session, key, (size_t)len, &result), GW_OK);
        cr_assert(result.value_bytes == bytes && memcmp(result.value, value, bytes) == 0);
    }
    cr_expect_eq(gw_add_sync(session, "witness1", 8, 1, 0, &result), GW_OK, "a change in place");
    free(value);
    gw_session_close(session);
    harness_writer_free(&scene.witness);
    harness_stop(&scene.spawn);
}

/* ---- views, connections, reading ------------------------------------------------------------ */

Test(bad_input, a_view_from_the_future_is_refused_in_time)
{
    struct scene scene;
    begin(&scene);
    int fd = harness_connect(scene.server);
    struct gw_welcome welcome;
    uint64_t view;
    uint8_t ops[64];
    static uint8_t reply[FRAME_ROOM];
    cr_assert(harness_hello(fd, 1, &welcome, &view));
    struct gw_wire_op add = {.verb = GW_WIRE_ADD,
                             .key = (const uint8_t *)"future",
                             .key_bytes = 6,
                             .number = 1};
    struct gw_writer w = gw_writer_of(ops, sizeof ops);
    gw_wire_op_encode(&add, &w);
    size_t n = batch(ops, gw_writer_used(&w), 1, view + 1000);
    cr_assert(harness_send(fd, frame_room, n));
    cr_assert_gt(harness_read_frame(fd, reply, sizeof reply, 10000), 0, "no answer in 10 s");
    struct gw_frame answer;
    cr_assert_eq(gw_frame_decode(reply, gw_load32(reply), &answer), GW_OK);
    cr_expect_eq(answer.kind, GW_KIND_REFUSAL, "%s", gw_frame_kind_name(answer.kind));
    struct gw_reader body = gw_frame_body(reply, &answer);
    cr_expect_eq((int8_t)gw_read8(&body), GW_NOT_YET);
    close(fd);
    HARNESS_CHECK(&scene.spawn, 1, "get", "future"); /* not executed */
    end(&scene, GROWTH_MAX);
}

Test(bad_input, ten_thousand_connections_are_borne)
{
    struct scene scene;
    struct rlimit limit;
    begin_with(&scene, 1024 * MIB, NULL); /* which has room for 12,000 */
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    uint32_t wanted = limit.rlim_cur >= 10100 ? 10000 : (uint32_t)limit.rlim_cur - 100;
    int *fds = calloc(wanted, sizeof *fds);
    for (uint32_t i = 0; i < wanted; i++)
        fds[i] = harness_connect(scene.server);
    harness_sleep_ms(500);
    /* The last ones are served, and so is a newcomer. */
    struct gw_welcome welcome;
    uint64_t view;
    cr_expect(harness_hello(fds[wanted - 1], 77, &welcome, &view));
    HARNESS_CHECK(&scene.spawn, 0, "incr", "among-many");
    uint64_t now = gw_process_resident_bytes(scene.spawn.servers[0].process.pid);
    cr_expect_lt(now, scene.server_before + 256 * MIB, "%llu MiB more",
                 (unsigned long long)((now - scene.server_before) / MIB));
    for (uint32_t i = 0; i < wanted; i++)
        close(fds[i]);
    free(fds);
    harness_sleep_ms(300);
    HARNESS_CHECK(&scene.spawn, 0, "incr", "among-many");
    end(&scene, 256 * MIB);
}

/* Asks for a large value again and again, never reading what comes, until no more requests are
 * taken. Gives the connection; its bytes that were sent are added to *sent. */
static int flood_without_reading(const char *server, uint64_t session, uint64_t *sent)
{
    int fd = harness_connect(server);
    struct gw_welcome welcome;
    uint64_t view;
    cr_assert(harness_hello(fd, session, &welcome, &view));
    struct gw_wire_op get = {.verb = GW_WIRE_READ, .key = (const uint8_t *)"big", .key_bytes = 3};
    uint8_t ops[64 * 16];
    uint32_t count = 16;
    struct gw_writer w = gw_writer_of(ops, sizeof ops);
    for (uint32_t i = 0; i < count; i++) {
        get.serial_delta = i;
        gw_wire_op_encode(&get, &w);
    }
    uint64_t end = harness_now_ms() + 20000;
    for (uint64_t i = 0; harness_now_ms() < end; i++) {
        size_t n = harness_frame(frame_room,
                                 (struct gw_frame){.kind = GW_KIND_BATCH,
                                                   .count = count,
                                                   .session = session,
                                                   .sequence = i + 1,
                                                   .view = view,
                                                   .serial = i * count + 1,
                                                   .confirmed = i * count + 1},
                                 ops, gw_writer_used(&w));
        if (!harness_send(fd, frame_room, n))
            return fd; /* nothing was taken for 2 s, or it is closed */
        *sent += n;
    }
    cr_assert_fail("requests are taken for ever");
    return fd;
}

Test(bad_input, a_client_that_never_reads_costs_bounded_memory)
{
    struct scene scene;
    struct gw_session *session;
    begin(&scene);
    cr_assert_eq(gw_session_open(scene.witness.cluster, NULL, &session), GW_OK);
    static char value[65536];
    cr_assert_eq(gw_set_sync(session, "big", 3, value, sizeof value, NULL), GW_OK);
    gw_session_close(session);
    int fd[3];
    uint64_t sent = 0;
    for (uint64_t i = 0; i < 3; i++)
        fd[i] = flood_without_reading(scene.server, 1000 + i, &sent);
    /* Every 240 bytes ask for a megabyte: that is gigabytes of answers. */
    cr_expect_gt(sent, 1 * MIB);
    uint64_t now = gw_process_resident_bytes(scene.spawn.servers[0].process.pid);
    cr_expect_lt(now, scene.server_before + 96 * MIB + KEPT_FREED, "%llu MiB more",
                 (unsigned long long)((now - scene.server_before) / MIB));
    for (int i = 0; i < 3; i++)
        close(fd[i]);
    end(&scene, 96 * MIB + KEPT_FREED);
}
