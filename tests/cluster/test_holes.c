/* Goal: the holes of MIGRATION.md that need a whole server: 5 (resent before its history has come),
 * 23 (sleeping dispatcher), 24 (reconnect to another dispatcher), 26 (what looks blind and is not).
 * How: real servers of two dispatchers; raw batches where a client library would behave too well.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/cluster/harness.h"

TestSuite(holes, .timeout = 120);

#define ROOM (64u << 10)

static void start_two_threads(struct gw_spawn *spawn, uint32_t servers)
{
    const char *const *flags = spawn->server_flags;
    cr_assert(gw_spawn_open(spawn, harness_programs()), "%s", spawn->error);
    spawn->server_flags = flags;
    spawn->memory_bytes = 128u << 20;
    spawn->threads = 2;
    cr_assert(gw_spawn_coordinator(spawn), "%s", spawn->error);
    for (uint32_t i = 0; i < servers; i++) {
        char id[2] = {(char)('A' + i), '\0'};
        cr_assert(gw_spawn_server(spawn, id), "%s", spawn->error);
    }
}

/* One add of 1 as a batch of its own. */
static bool send_add(int fd, uint64_t session, uint64_t sequence, uint64_t view, uint64_t serial,
                     uint8_t flags, const char *key)
{
    uint8_t body[256], room[512];
    struct gw_wire_op add = {.verb = GW_WIRE_ADD,
                             .flags = flags,
                             .key = (const uint8_t *)key,
                             .key_bytes = (uint16_t)strlen(key),
                             .number = 1};
    struct gw_writer w = gw_writer_of(body, sizeof body);
    gw_wire_op_encode(&add, &w);
    struct gw_frame f = {.kind = GW_KIND_BATCH,
                         .count = 1,
                         .session = session,
                         .sequence = sequence,
                         .view = view,
                         .serial = serial,
                         .confirmed = 1};
    return harness_send(fd, room, harness_frame(room, f, body, gw_writer_used(&w)));
}

/* The one reply of the next frame; kind is 0 when nothing came. */
static uint8_t read_reply(int fd, struct gw_wire_reply *reply)
{
    static uint8_t room[ROOM];
    struct gw_frame f;
    memset(reply, 0, sizeof *reply);
    if (harness_read_frame(fd, room, sizeof room, 5000) <= 0 ||
        gw_frame_decode(room, gw_load32(room), &f) != GW_OK)
        return 0;
    struct gw_reader r = gw_frame_body(room, &f);
    if (f.kind == GW_KIND_REPLY || f.kind == GW_KIND_COMPLETION)
        cr_assert(gw_wire_reply_decode(&r, reply));
    return f.kind;
}

/* A session's HELLO may arrive anywhere: it is handed to the dispatcher that its id names, with
 * what it applied. Sessions of both parities are tried, so that both dispatchers are met. */
Test(holes, hole_24_an_add_that_is_resent_on_another_connection_is_applied_once)
{
    struct gw_spawn spawn = {.server_flags = NULL};
    start_two_threads(&spawn, 1);
    for (uint64_t session = 100; session < 104; session++) {
        char key[32];
        snprintf(key, sizeof key, "resent%llu", (unsigned long long)session);
        struct gw_welcome welcome;
        uint64_t view;
        int first = harness_connect(spawn.servers[0].address);
        cr_assert(harness_hello(first, session, &welcome, &view));
        cr_expect_eq(welcome.flags & GW_WELCOME_KNOWN, 0);
        /* The answer is never read: as if it was lost. */
        cr_assert(send_add(first, session, 1, view, 1, 0, key));
        struct gw_wire_reply reply;
        cr_assert_eq(read_reply(first, &reply), GW_KIND_REPLY);
        cr_expect_eq(reply.number, 1);
        int second = harness_connect(spawn.servers[0].address);
        cr_assert(harness_hello(second, session, &welcome, &view));
        cr_expect_eq(welcome.flags & GW_WELCOME_KNOWN, GW_WELCOME_KNOWN, "forgotten");
        enum gw_status said;
        cr_expect(harness_closes(first, 5000, &said), "the old connection lives on beside the new");
        for (uint64_t sequence = 1; sequence <= 3; sequence++) {
            cr_assert(send_add(second, session, sequence, view, 1, GW_WIRE_RESENT, key));
            cr_assert_eq(read_reply(second, &reply), GW_KIND_REPLY);
            cr_expect_eq(reply.status, GW_OK);
            cr_expect_eq(reply.number, 1, "applied again: %lld", (long long)reply.number);
        }
        cr_assert(send_add(second, session, 4, view, 2, 0, key));
        cr_assert_eq(read_reply(second, &reply), GW_KIND_REPLY);
        cr_expect_eq(reply.number, 2);
        close(second);
        close(first);
    }
    harness_stop(&spawn);
}

#define LARGE_KEYS  15000u
#define LARGE_BYTES 4096u

/* What takes a moment to ship. */
static void fill(struct gw_spawn *spawn)
{
    struct gw_cluster *cluster;
    struct gw_session *session;
    static char value[LARGE_BYTES];
    cr_assert_eq(gw_cluster_open(spawn->coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &session), GW_OK);
    for (uint32_t i = 0; i < LARGE_KEYS; i++) {
        char key[32];
        int n = snprintf(key, sizeof key, "large%u", i);
        cr_assert_eq(gw_set_sync(session, key, (size_t)n, value, sizeof value, NULL), GW_OK);
    }
    gw_session_close(session);
    gw_cluster_close(cluster);
}

static bool job_is(struct gw_spawn *spawn, const char *state)
{
    struct harness_run run = HARNESS_CLI(spawn, NULL, "--json", "job", "list");
    bool is = strstr(run.out, state) != NULL;
    harness_run_free(&run);
    return is;
}

/* The target was killed behind the transfer and is back; the source is stopped. What was executed
 * there without the client's getting the answer comes again here, before the source can say so. */
Test(holes, hole_5_an_add_that_is_resent_before_its_history_has_come_is_applied_once)
{
    static const char *const flags[] = {"--disk=512MiB", "--durability=commit",
                                        "--checkpoint-interval=0", NULL};
    struct gw_spawn spawn = {.server_flags = flags};
    start_two_threads(&spawn, 2);
    fill(&spawn);
    struct gw_wire_reply reply;
    struct gw_welcome welcome;
    uint64_t view;
    const uint64_t session = 101;
    int old = harness_connect(spawn.servers[0].address);
    cr_assert(harness_hello(old, session, &welcome, &view));
    cr_assert(send_add(old, session, 1, view, 1, 0, "once"));
    cr_assert_eq(read_reply(old, &reply), GW_KIND_REPLY);
    cr_assert_eq(reply.number, 1); /* and is lost */
    close(old);
    HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-16383", "--from", "A", "--to", "B",
                  "--no-sampling", "--rate",
                  "4MB/s"); /* 15 s of it: it is to be caught under way */
    for (uint32_t tries = 0; tries < 400 && !job_is(&spawn, "\"committed\""); tries++)
        cr_assert_not(job_is(&spawn, "\"done\""), "too fast for this test");
    HARNESS_CHECK(&spawn, 0, "job", "pause", "1");
    cr_assert(job_is(&spawn, "\"committed\""), "too fast for this test");
    (void)gw_process_stop(&spawn.servers[1].process, SIGKILL, 5000);
    cr_assert_eq(kill(spawn.servers[0].process.pid, SIGSTOP), 0);
    cr_assert(gw_spawn_server(&spawn, "B"), "%s", spawn.error);
    int fd = harness_connect(spawn.servers[1].address);
    cr_assert(harness_hello(fd, session, &welcome, &view));
    cr_assert(send_add(fd, session, 1, view, 1, GW_WIRE_RESENT, "once"));
    cr_assert_eq(read_reply(fd, &reply), GW_KIND_REPLY);
    cr_assert_eq(reply.status, GW_PENDING, "it cannot be known yet: %d", reply.status);
    cr_assert_eq(kill(spawn.servers[0].process.pid, SIGCONT), 0);
    cr_assert_eq(read_reply(fd, &reply), GW_KIND_COMPLETION);
    cr_expect_eq(reply.status, GW_OK);
    cr_expect_eq(reply.number, 1, "applied again: %lld", (long long)reply.number);
    HARNESS_CHECK(&spawn, 0, "job", "resume", "1");
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "once");
    cr_expect_str_eq(run.out, "1\n");
    harness_run_free(&run);
    close(fd);
    harness_stop(&spawn);
}

/* Nobody is connected, so every dispatcher but the first sleeps through the whole job; the one that
 * wakes up for the old view's batch must not take it. */
Test(holes, hole_23_a_dispatcher_that_slept_through_the_move_refuses_the_old_view)
{
    struct gw_spawn spawn = {.server_flags = NULL};
    start_two_threads(&spawn, 2);
    struct gw_welcome welcome;
    uint64_t view = 0;
    int fd[4];
    for (uint64_t i = 0; i < 4; i++) {
        fd[i] = harness_connect(spawn.servers[0].address);
        cr_assert(harness_hello(fd[i], 200 + i, &welcome, &view));
    }
    harness_sleep_ms(300); /* asleep, all of them */
    uint64_t start = harness_now_ms();
    HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-16383", "--from", "A", "--to", "B", "--wait");
    cr_expect_lt(harness_now_ms() - start, 5000, "the cut waited for a sleeper");
    for (uint64_t i = 0; i < 4; i++) {
        struct gw_wire_reply reply;
        cr_assert(send_add(fd[i], 200 + i, 1, view, 1, 0, "slept"));
        cr_expect_eq(read_reply(fd[i], &reply), GW_KIND_REFUSAL, "two owners");
        close(fd[i]);
    }
    HARNESS_CHECK(&spawn, 1, "get", "slept");
    harness_stop(&spawn);
}

#define KEYS 3000u

/* Insert, delete and compare-and-set depend on the old value: asked of a key that has not arrived
 * yet they must wait for it. */
Test(holes, hole_26_what_depends_on_the_old_value_is_not_blind)
{
    struct gw_spawn spawn = {.server_flags = NULL};
    start_two_threads(&spawn, 2);
    struct gw_cluster *cluster;
    struct gw_session *session;
    cr_assert_eq(gw_cluster_open(spawn.coordinator_address, NULL, &cluster), GW_OK);
    cr_assert_eq(gw_session_open(cluster, NULL, &session), GW_OK);
    static uint32_t version[KEYS];
    char key[32];
    for (uint32_t i = 0; i < KEYS; i++) {
        struct gw_result result;
        int n = snprintf(key, sizeof key, "old%u", i);
        cr_assert_eq(gw_set_sync(session, key, (size_t)n, "value", 5, &result), GW_OK);
        version[i] = result.version;
    }
    for (uint32_t round = 0; round < 3; round++) {
        const char *from = round % 2 ? "B" : "A", *to = round % 2 ? "A" : "B";
        HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-16383", "--from", from, "--to", to);
        for (uint32_t i = round; i < KEYS; i += 3) { /* while it moves, and behind it */
            struct gw_result result;
            int n = snprintf(key, sizeof key, "old%u", i);
            cr_expect_eq(gw_insert_sync(session, key, (size_t)n, "x", 1, &result), GW_EXISTS);
            cr_expect_eq(gw_cas_sync(session, key, (size_t)n, version[i] + 1, "x", 1, &result),
                         GW_MISMATCH);
            cr_expect_eq(gw_cas_sync(session, key, (size_t)n, version[i], "new", 3, &result),
                         GW_OK);
            cr_expect_eq(gw_delete_sync(session, key, (size_t)n, &result), GW_OK);
            cr_expect_eq(gw_delete_sync(session, key, (size_t)n, &result), GW_NOT_FOUND);
            cr_expect_eq(gw_get_sync(session, key, (size_t)n, &result), GW_NOT_FOUND);
            /* A life that begins anew has none of the versions of the one before. */
            cr_expect_eq(gw_insert_sync(session, key, (size_t)n, "again", 5, &result), GW_OK);
            cr_expect_eq(gw_cas_sync(session, key, (size_t)n, version[i], "x", 1, NULL),
                         GW_MISMATCH);
        }
        for (int tries = 0; tries < 400; tries++) {
            struct harness_run run = HARNESS_CLI(&spawn, NULL, "--json", "job", "list");
            bool open = strstr(run.out, "\"created\"") || strstr(run.out, "\"committed\"") ||
                        strstr(run.out, "\"closing\"");
            harness_run_free(&run);
            if (!open)
                break;
            harness_sleep_ms(25);
        }
    }
    gw_session_close(session);
    gw_cluster_close(cluster);
    harness_stop(&spawn);
}
