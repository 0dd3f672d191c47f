/* Goal: expiry, touch, append and prepend, get-and-set, get-and-delete and bounded adds in a real
 * cluster: through the library, on the command line, while slots move, and when an answer is lost.
 * How: the real programs on loopback; raw batches where answers are to be lost. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/cluster/harness.h"

TestSuite(verbs, .timeout = 120);

#define ROOM (64u << 10)
#define HOUR UINT64_C(3600000)

static uint64_t wall_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

struct user {
    struct gw_spawn spawn;
    struct gw_cluster *cluster;
    struct gw_session *session;
    struct gw_result result; /* of the last call */
};

static void user_open(struct user *u, uint32_t servers)
{
    harness_start(&u->spawn, servers);
    cr_assert_eq(gw_cluster_open(u->spawn.coordinator_address, NULL, &u->cluster), GW_OK);
    cr_assert_eq(gw_session_open(u->cluster, NULL, &u->session), GW_OK);
}

static void user_close(struct user *u)
{
    gw_session_close(u->session);
    gw_cluster_close(u->cluster);
    harness_stop(&u->spawn);
}

static void expect_bytes(struct user *u, const char *key, const char *value)
{
    cr_expect_eq(gw_get_sync(u->session, key, strlen(key), &u->result), GW_OK, "%s", key);
    cr_expect_eq(u->result.kind, GW_VALUE_BYTES);
    cr_expect_eq(u->result.value_bytes, strlen(value), "%s: %.*s", key, (int)u->result.value_bytes,
                 (const char *)u->result.value);
    cr_expect_arr_eq(u->result.value, value, strlen(value));
}

/* Waits until the key is gone; returns when that was. */
static uint64_t wait_until_gone(struct user *u, const char *key)
{
    uint64_t give_up = wall_ms() + 10000;
    while (gw_get_sync(u->session, key, strlen(key), NULL) == GW_OK && wall_ms() < give_up)
        harness_sleep_ms(1);
    return wall_ms();
}

Test(verbs, the_library_sets_reads_moves_and_removes_the_end_of_a_key)
{
    struct user u;
    user_open(&u, 1);
    struct gw_session *s = u.session;
    uint64_t end = wall_ms() + 200;
    cr_expect_eq(gw_set_until_sync(s, "k", 1, "v", 1, end, NULL), GW_OK);
    expect_bytes(&u, "k", "v");
    cr_expect_eq(u.result.expiry_ms, end);
    uint64_t gone = wait_until_gone(&u, "k");
    cr_expect_geq(gone, end, "%lu ms early", (unsigned long)(end - gone));
    cr_expect_lt(gone, end + 2000);

    cr_expect_eq(gw_touch_sync(s, "k", 1, wall_ms() + HOUR, NULL), GW_NOT_FOUND);
    cr_expect_eq(gw_set_sync(s, "k", 1, "v", 1, &u.result), GW_OK);
    uint32_t version = u.result.version;
    cr_expect_eq(gw_touch_sync(s, "k", 1, end + HOUR, &u.result), GW_OK);
    cr_expect_eq(u.result.version, version + 1);
    cr_expect_eq(gw_set_until_sync(s, "k", 1, "w", 1, GW_EXPIRY_KEEP, NULL), GW_OK);
    expect_bytes(&u, "k", "w");
    cr_expect_eq(u.result.expiry_ms, end + HOUR);
    cr_expect_eq(gw_persist_sync(s, "k", 1, NULL), GW_OK);
    expect_bytes(&u, "k", "w");
    cr_expect_eq(u.result.expiry_ms, 0);
    cr_expect_eq(gw_get_touch_sync(s, "k", 1, wall_ms() + 50, &u.result), GW_OK);
    cr_expect_arr_eq(u.result.value, "w", 1);
    wait_until_gone(&u, "k");
    cr_expect_eq(gw_set_until_sync(s, "past", 4, "v", 1, 1, NULL), GW_OK);
    cr_expect_eq(gw_get_sync(s, "past", 4, NULL), GW_NOT_FOUND);

    struct gw_write lock = {.verb = GW_WRITE_INSERT,
                            .value = "me",
                            .value_bytes = 2,
                            .expiry_ms = wall_ms() + 100};
    cr_expect_eq(gw_write_sync(s, "lock", 4, &lock, NULL), GW_OK);
    cr_expect_eq(gw_write_sync(s, "lock", 4, &lock, NULL), GW_EXISTS);
    wait_until_gone(&u, "lock");
    lock.expiry_ms = wall_ms() + HOUR;
    cr_expect_eq(gw_write_sync(s, "lock", 4, &lock, NULL), GW_OK, "a lock that nobody gave back");
    user_close(&u);
}

Test(verbs, the_library_changes_values_by_what_they_were)
{
    struct user u;
    user_open(&u, 1);
    struct gw_session *s = u.session;
    cr_expect_eq(gw_append_sync(s, "text", 4, "bc", 2, GW_MUST_EXIST, NULL), GW_NOT_FOUND);
    cr_expect_eq(gw_append_sync(s, "text", 4, "bc", 2, 0, &u.result), GW_OK);
    cr_expect_eq(u.result.value_bytes, 2);
    cr_expect_eq(gw_prepend_sync(s, "text", 4, "a", 1, GW_MUST_EXIST, &u.result), GW_OK);
    cr_expect_eq(u.result.value_bytes, 3);
    cr_expect_null(u.result.value);
    expect_bytes(&u, "text", "abc");
    cr_expect_eq(gw_get_set_sync(s, "text", 4, "new", 3, &u.result), GW_OK);
    cr_expect_eq(u.result.value_bytes, 3);
    cr_expect_arr_eq(u.result.value, "abc", 3);
    cr_expect_eq(gw_get_set_sync(s, "none", 4, "first", 5, &u.result), GW_OK);
    cr_expect_eq(u.result.kind, GW_VALUE_NONE);
    expect_bytes(&u, "none", "first");
    cr_expect_eq(gw_get_delete_sync(s, "text", 4, &u.result), GW_OK);
    cr_expect_arr_eq(u.result.value, "new", 3);
    cr_expect_eq(gw_get_delete_sync(s, "text", 4, &u.result), GW_NOT_FOUND);

    cr_expect_eq(gw_set_counter_sync(s, "n", 1, 7, NULL), GW_OK);
    cr_expect_eq(gw_append_sync(s, "n", 1, "x", 1, 0, NULL), GW_WRONG_TYPE);
    struct gw_add_options add = {.bounded = true, .low = 0, .high = 10};
    cr_expect_eq(gw_add_with_sync(s, "n", 1, 4, &add, &u.result), GW_OVERFLOW);
    cr_expect_eq(gw_add_with_sync(s, "n", 1, 3, &add, &u.result), GW_OK);
    cr_expect_eq(u.result.number, 10);
    add.clamp = true;
    cr_expect_eq(gw_add_with_sync(s, "n", 1, -400, &add, &u.result), GW_OK);
    cr_expect_eq(u.result.number, 0);
    cr_expect_eq(gw_get_delete_sync(s, "n", 1, &u.result), GW_OK);
    cr_expect_eq(u.result.kind, GW_VALUE_COUNTER);
    cr_expect_eq(u.result.number, 0);

    /* Pieces until no page holds the whole: then nothing of the last one is there. */
    size_t piece = 100000, bytes = 0;
    char *value = malloc(64 * piece);
    for (size_t i = 0; i < 64 * piece; i++)
        value[i] = (char)(i * 7 + i / 251);
    enum gw_status st = GW_OK;
    for (uint32_t i = 0; i < 64 && st == GW_OK; i++) {
        st = gw_append_sync(s, "large", 5, value + bytes, piece, 0, &u.result);
        if (st == GW_OK)
            cr_expect_eq(u.result.value_bytes, bytes += piece);
    }
    cr_expect_eq(st, GW_E_TOO_LARGE);
    cr_expect_gt(bytes, 2 * piece);
    cr_assert_eq(gw_get_delete_sync(s, "large", 5, &u.result), GW_OK);
    cr_assert_eq(u.result.value_bytes, bytes);
    cr_expect_eq(memcmp(u.result.value, value, bytes), 0);
    free(value);
    user_close(&u);
}

struct scanned {
    uint64_t expiry_ms[3];
    uint32_t keys;
};

static bool scan_item(void *ctx, const struct gw_scan_item *item)
{
    struct scanned *scanned = ctx;
    scanned->keys++;
    if (item->key_bytes == 2 && memcmp(item->key, "k", 1) == 0)
        scanned->expiry_ms[((const char *)item->key)[1] - '0'] = item->expiry_ms;
    return true;
}

Test(verbs, a_scan_gives_ends_and_leaves_out_what_has_ended)
{
    struct user u;
    user_open(&u, 1);
    struct gw_session *s = u.session;
    uint64_t end = wall_ms() + HOUR;
    cr_expect_eq(gw_set_sync(s, "k0", 2, "v", 1, NULL), GW_OK);
    cr_expect_eq(gw_set_until_sync(s, "k1", 2, "v", 1, end, NULL), GW_OK);
    cr_expect_eq(gw_set_until_sync(s, "k2", 2, "v", 1, wall_ms() + 50, NULL), GW_OK);
    wait_until_gone(&u, "k2");
    struct scanned scanned = {{1, 1, 1}, 0};
    cr_expect_eq(gw_scan_all(u.cluster, scan_item, &scanned), GW_OK);
    cr_expect_eq(scanned.keys, 2);
    cr_expect_eq(scanned.expiry_ms[0], 0);
    cr_expect_eq(scanned.expiry_ms[1], end);
    cr_expect_eq(scanned.expiry_ms[2], 1, "it has ended");
    user_close(&u);
}

static void cli_says(struct gw_spawn *spawn, const char *out, const char *const *words)
{
    struct harness_run run = harness_expect(spawn, 0, NULL, words);
    cr_expect_str_eq(run.out, out, "godwit %s: '%s'", words[0], run.out);
    harness_run_free(&run);
}
#define CLI_SAYS(spawn, out, ...) cli_says(spawn, out, (const char *[]){__VA_ARGS__, NULL})

Test(verbs, the_command_line_has_them_all)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 1);
    CLI_SAYS(&spawn, "", "set", "k", "v", "--ttl", "200ms");
    CLI_SAYS(&spawn, "", "expire", "k", "2h");
    struct harness_run run = HARNESS_EXPECT(&spawn, 0, NULL, "ttl", "k");
    double left = atof(run.out);
    cr_expect(left > 7100 && left <= 7200, "%s", run.out);
    harness_run_free(&run);
    CLI_SAYS(&spawn, "", "set", "k", "w", "--keep-ttl");
    run = HARNESS_EXPECT(&spawn, 0, NULL, "--json", "ttl", "k");
    cr_expect(strstr(run.out, "\"ttl_ms\": 7"), "%s", run.out);
    harness_run_free(&run);
    CLI_SAYS(&spawn, "", "persist", "k");
    CLI_SAYS(&spawn, "none\n", "ttl", "k");
    CLI_SAYS(&spawn, "", "expire", "k", "--until", "1");
    HARNESS_CHECK(&spawn, 1, "ttl", "k");
    HARNESS_CHECK(&spawn, 1, "persist", "k");
    HARNESS_CHECK(&spawn, 1, "expire", "k", "10s");

    CLI_SAYS(&spawn, "", "set", "lock", "me", "--if-absent", "--ttl", "100ms");
    HARNESS_CHECK(&spawn, 5, "set", "lock", "you", "--if-absent");
    harness_sleep_ms(150);
    CLI_SAYS(&spawn, "", "set", "lock", "you", "--if-absent");
    HARNESS_CHECK(&spawn, 5, "set", "lock", "x", "--if-version", "4000000000");

    CLI_SAYS(&spawn, "2\n", "append", "text", "bc");
    CLI_SAYS(&spawn, "3\n", "prepend", "text", "a", "--existing");
    HARNESS_CHECK(&spawn, 1, "append", "other", "x", "--existing");
    CLI_SAYS(&spawn, "abc\n", "getset", "text", "5");
    CLI_SAYS(&spawn, "", "getset", "fresh", "1");
    HARNESS_CHECK(&spawn, 5, "append", "text", "x"); /* a counter now */
    CLI_SAYS(&spawn, "5\n", "getdel", "text");
    HARNESS_CHECK(&spawn, 1, "getdel", "text");

    CLI_SAYS(&spawn, "3\n", "incr", "n", "3", "--min", "0", "--max", "5");
    HARNESS_CHECK(&spawn, 5, "incr", "n", "3", "--min", "0", "--max", "5");
    CLI_SAYS(&spawn, "5\n", "incr", "n", "3", "--max", "5", "--clamp");
    CLI_SAYS(&spawn, "-2\n", "incr", "n", "-50", "--min", "-2", "--clamp");
    CLI_SAYS(&spawn, "-1\n", "incr", "n", "--ttl", "1h");
    run = HARNESS_EXPECT(&spawn, 0, NULL, "--json", "export");
    cr_expect(strstr(run.out, "\"value\":-1,\"expiry_ms\":"), "%s", run.out);
    harness_run_free(&run);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "--json", "get", "n");
    cr_expect(strstr(run.out, "expiry_ms"), "%s", run.out);
    harness_run_free(&run);

    HARNESS_CHECK(&spawn, 2, "incr", "n", "--min", "5", "--max", "4");
    HARNESS_CHECK(&spawn, 2, "set", "k", "v", "--ttl", "soon");
    HARNESS_CHECK(&spawn, 2, "set", "k", "v", "--ttl", "1s", "--until", "5");
    HARNESS_CHECK(&spawn, 2, "set", "k", "v", "--ttl", "1s", "--keep-ttl");
    HARNESS_CHECK(&spawn, 2, "set", "k", "v", "--if-absent", "--if-version", "1");
    HARNESS_CHECK(&spawn, 2, "expire", "k");
    HARNESS_CHECK(&spawn, 2, "expire", "k", "10s", "--until", "5");
    harness_stop(&spawn);
}

#define KEYS 2000u

/* While slots move, a key may be asked for before it has come: whatever looks at the old value, an
 * expiry that is kept included, waits for it. */
Test(verbs, what_looks_at_the_old_value_waits_for_it_while_slots_move)
{
    struct user u;
    user_open(&u, 2);
    struct gw_session *s = u.session;
    char key[32];
    uint64_t end = wall_ms() + HOUR;
    for (uint32_t i = 0; i < KEYS; i++) {
        int n = snprintf(key, sizeof key, "key%u", i);
        cr_assert_eq(gw_set_until(s, key, (size_t)n, "old", 3, end + i, NULL, NULL), GW_OK);
    }
    cr_assert_eq(gw_drain(s, 10000), GW_OK);
    cr_assert_eq(gw_set_until_sync(s, "brief", 5, "v", 1, wall_ms() + 300, &u.result), GW_OK);
    uint32_t brief = u.result.version;
    HARNESS_CHECK(&u.spawn, 0, "migrate", "--slots", "0-16383", "--from", "A", "--to", "B");
    for (uint32_t i = 0; i < KEYS; i++) { /* while it moves, and behind it */
        size_t n = (size_t)snprintf(key, sizeof key, "key%u", i);
        switch (i % 5) {
        case 0:
            cr_expect_eq(gw_append_sync(s, key, n, "er", 2, 0, &u.result), GW_OK);
            cr_expect_eq(u.result.value_bytes, 5, "%s", key);
            break;
        case 1:
            cr_expect_eq(gw_get_set_sync(s, key, n, "new", 3, &u.result), GW_OK);
            cr_expect_eq(u.result.kind, GW_VALUE_BYTES, "%s", key);
            break;
        case 2:
            cr_expect_eq(gw_get_delete_sync(s, key, n, &u.result), GW_OK, "%s", key);
            cr_expect_eq(u.result.value_bytes, 3);
            break;
        case 3:
            cr_expect_eq(gw_set_until_sync(s, key, n, "new", 3, GW_EXPIRY_KEEP, NULL), GW_OK);
            break;
        default:
            cr_expect_eq(gw_get_touch_sync(s, key, n, end + HOUR, &u.result), GW_OK, "%s", key);
            cr_expect_arr_eq(u.result.value, "old", 3);
            break;
        }
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        static const char *const values[] = {"older", "new", NULL, "new", "old"};
        size_t n = (size_t)snprintf(key, sizeof key, "key%u", i);
        uint64_t expiry[] = {end + i, 0, 0, end + i, end + HOUR};
        enum gw_status st = gw_get_sync(s, key, n, &u.result);
        cr_expect_eq(st, values[i % 5] ? GW_OK : GW_NOT_FOUND, "%s", key);
        if (st != GW_OK)
            continue;
        cr_expect_eq(u.result.value_bytes, strlen(values[i % 5]), "%s", key);
        cr_expect_eq(u.result.expiry_ms, expiry[i % 5], "%s", key);
    }
    wait_until_gone(&u, "brief");
    cr_expect_eq(gw_insert_sync(s, "brief", 5, "w", 1, &u.result), GW_OK);
    cr_expect_gt(u.result.version, brief, "its version went with it");
    user_close(&u);
}

/* ---- lost answers ---------------------------------------------------------------------------- */

struct raw {
    int fd;
    uint64_t session, view, sequence;
};

static void raw_open(struct raw *raw, const char *address)
{
    struct gw_welcome welcome;
    raw->fd = harness_connect(address);
    raw->sequence = 0;
    cr_assert(harness_hello(raw->fd, raw->session, &welcome, &raw->view));
}

/* One operation as a batch of its own; its reply. The value is good until the next call. */
static struct gw_wire_reply ask(struct raw *raw, uint64_t serial, struct gw_wire_op op)
{
    static uint8_t body[ROOM], room[ROOM];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    gw_wire_op_encode(&op, &w);
    struct gw_frame f = {.kind = GW_KIND_BATCH,
                         .count = 1,
                         .session = raw->session,
                         .sequence = ++raw->sequence,
                         .view = raw->view,
                         .serial = serial,
                         .confirmed = 1};
    cr_assert(harness_send(raw->fd, room, harness_frame(room, f, body, gw_writer_used(&w))));
    struct gw_wire_reply reply;
    do {
        cr_assert_gt(harness_read_frame(raw->fd, room, sizeof room, 5000), 0);
        cr_assert_eq(gw_frame_decode(room, gw_load32(room), &f), GW_OK);
        cr_assert(f.kind == GW_KIND_REPLY || f.kind == GW_KIND_COMPLETION, "kind %u", f.kind);
        struct gw_reader r = gw_frame_body(room, &f);
        cr_assert(gw_wire_reply_decode(&r, &reply));
    } while (reply.status == GW_PENDING);
    return reply;
}

static struct gw_wire_op op_of(uint8_t verb, const char *key, const char *value, size_t bytes)
{
    return (struct gw_wire_op){.verb = verb,
                               .key = (const uint8_t *)key,
                               .key_bytes = (uint16_t)strlen(key),
                               .value = (const uint8_t *)value,
                               .value_bytes = (uint32_t)bytes};
}

static void expect_given(const struct gw_wire_reply *reply, const char *value)
{
    cr_expect_eq(reply->status, GW_OK);
    cr_assert_eq(reply->flags & GW_WIRE_VALUE, GW_WIRE_VALUE, "flags %u", reply->flags);
    cr_assert_eq(reply->value_bytes, strlen(value));
    cr_expect_arr_eq(reply->value, value, strlen(value));
}

/* Every operation is sent once, its answer thrown away, and sent again on a new connection, to the
 * same server and then, when the slots have moved, to the next one. */
Test(verbs, a_lost_answer_is_given_again_and_nothing_is_done_twice)
{
    struct gw_spawn spawn;
    harness_start(&spawn, 2);
    static char longer[200];
    memset(longer, 'x', sizeof longer - 1);
    struct raw raw = {.session = 4711};
    raw_open(&raw, spawn.servers[0].address);
    const struct gw_wire_op ops[] = {
        op_of(GW_WIRE_UPSERT, "a", "one", 3),        op_of(GW_WIRE_GETSET, "a", "two", 3),
        op_of(GW_WIRE_APPEND, "b", "piece", 5),      op_of(GW_WIRE_GETDEL, "a", NULL, 0),
        op_of(GW_WIRE_UPSERT, "c", longer, 199),     op_of(GW_WIRE_GETDEL, "c", NULL, 0),
        op_of(GW_WIRE_GETSET, "fresh", "v", 1),      op_of(GW_WIRE_GETDEL, "absent", NULL, 0),
        op_of(GW_WIRE_UPSERT, "d", "nine bytes", 9), op_of(GW_WIRE_READ_TOUCH, "d", NULL, 0),
    };
    const uint32_t count = sizeof ops / sizeof ops[0];
    for (uint32_t i = 0; i < count; i++) {
        struct gw_wire_reply reply = ask(&raw, 1 + i, ops[i]);
        cr_expect_eq(reply.status, i == 7 ? GW_NOT_FOUND : GW_OK, "operation %u", i);
    }
    for (uint32_t round = 0; round < 2; round++) {
        close(raw.fd);
        raw_open(&raw, spawn.servers[round].address);
        for (uint32_t i = 0; i < count; i++) {
            struct gw_wire_op op = ops[i];
            op.flags |= GW_WIRE_RESENT;
            struct gw_wire_reply reply = ask(&raw, 1 + i, op);
            cr_expect_eq(reply.status, i == 7 ? GW_NOT_FOUND : GW_OK, "round %u, %u", round, i);
            if (i == 1)
                expect_given(&reply, "one");
            else if (i == 2)
                cr_expect(reply.flags == GW_WIRE_LENGTH && reply.value_bytes == 5, "%u bytes",
                          reply.value_bytes);
            else if (i == 3)
                expect_given(&reply, "two");
            else if (i == 5)
                cr_expect_eq(reply.flags, GW_WIRE_FORGOTTEN, "too long to be kept, and said so");
            else if (i == 6)
                cr_expect_eq(reply.flags, GW_WIRE_NONE);
            else if (i == 9)
                expect_given(&reply, "nine byte");
        }
        struct gw_wire_reply piece = ask(&raw, 100 + round, op_of(GW_WIRE_READ, "b", NULL, 0));
        expect_given(&piece, "piece");
        HARNESS_CHECK(&spawn, 1, "get", "a");
        if (round == 0)
            HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-16383", "--from", "A", "--to", "B",
                          "--wait");
    }
    close(raw.fd);
    harness_stop(&spawn);
}
