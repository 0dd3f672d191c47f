/* Goal: in commit mode what was acknowledged is there after any kill, once, and nothing rests upon
 * what is lost (ENGINE H3); in every mode a reply says when it is durable, and who asks is told.
 * How: real servers with two dispatchers, killed under load; raw connections that look at frames;
 * a log whose end is taken away by hand. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/cluster/harness.h"
#include "tests/cluster/recovery.h"
#include "tiering/commit.h"

TestSuite(commit, .timeout = 200);

#define MIB     (1024ull * 1024)
#define WRITERS 4u
#define WAIT_MS 5000

static const char *const commit_flags[] = {"--disk=512MiB", "--durability=commit",
                                           "--checkpoint-interval=1", NULL};
/* A checkpoint only when somebody asks. */
static const char *const commit_quiet[] = {"--disk=512MiB", "--durability=commit",
                                           "--checkpoint-interval=0", NULL};
static const char *const memory_quiet[] = {"--disk=512MiB", "--durability=memory",
                                           "--checkpoint-interval=0", NULL};

static void begin(struct gw_spawn *spawn, const char *const *flags)
{
    memset(spawn, 0, sizeof *spawn);
    spawn->threads = 2;
    cr_assert(gw_spawn_open(spawn, harness_programs()), "%s", spawn->error);
    spawn->threads = 2;
    spawn->memory_bytes = 192 * MIB;
    spawn->server_flags = flags;
    cr_assert(gw_spawn_coordinator(spawn), "%s", spawn->error);
    cr_assert(gw_spawn_server(spawn, "A"), "%s", spawn->error);
}

static void kill_server(struct gw_spawn *spawn)
{
    (void)gw_process_stop(&spawn->servers[0].process, SIGKILL, 5000);
}

static void start_server(struct gw_spawn *spawn)
{
    cr_assert(gw_spawn_server(spawn, "A"), "%s", spawn->error);
}

/* ---- under load ---- */

static void kills_under_load(const char *const *flags, uint32_t kills)
{
    struct gw_spawn spawn;
    begin(&spawn, flags);
    static struct harness_writer writer[WRITERS];
    memset(writer, 0, sizeof writer);
    for (uint32_t i = 0; i < WRITERS; i++) {
        if (i > 0) { /* all of them add to the same counters */
            writer[i].sent = writer[0].sent;
            writer[i].acknowledged = writer[0].acknowledged;
        }
        writer[i].delay_us = 200;
        harness_writer_start(&writer[i], &spawn, "k", 500);
    }
    struct gw_rand rand;
    gw_rand_init(&rand, 42);
    for (uint32_t n = 0; n < kills; n++) {
        harness_sleep_ms(200 + gw_rand_below(&rand, 1200));
        uint64_t before = harness_writer_total(&writer[0]);
        kill_server(&spawn);
        cr_expect_gt(before, n * 1000, "nothing was acknowledged");
        start_server(&spawn);
    }
    harness_sleep_ms(500);
    for (uint32_t i = 0; i < WRITERS; i++)
        harness_writer_stop(&writer[i]);
    for (uint32_t i = 0; i < WRITERS; i++)
        cr_expect_eq(writer[i].in_doubt, 0);
    harness_writer_check(&writer[0]);
    kill_server(&spawn); /* and once more, with nothing under way */
    start_server(&spawn);
    harness_writer_check(&writer[0]);
    for (uint32_t i = 1; i < WRITERS; i++)
        gw_cluster_close(writer[i].cluster);
    harness_writer_free(&writer[0]);
    harness_stop(&spawn);
}

Test(commit, kills_under_load_lose_nothing_and_repeat_nothing)
{
    kills_under_load(commit_flags, 5);
}

Test(commit, kills_without_any_checkpoint_by_time)
{
    kills_under_load(commit_quiet, 3);
}

/* ---- by hand ---- */

struct raw {
    int fd;
    uint64_t session, view, sequence, incarnation;
    struct gw_welcome welcome;
    struct gw_frame frame; /* of the last reply */
};

static void raw_open(struct raw *raw, const struct gw_spawn *spawn, uint64_t session)
{
    uint64_t incarnation = raw->incarnation;
    *raw = (struct raw){.session = session, .incarnation = incarnation};
    raw->fd = harness_connect(spawn->servers[0].address);
    uint8_t room[1024], body[256];
    struct gw_hello hello = {.window = 1024, .role = GW_ROLE_CLIENT, .incarnation = incarnation};
    struct gw_writer w = gw_writer_of(body, sizeof body);
    gw_hello_encode(&hello, &w);
    size_t bytes = harness_frame(room, (struct gw_frame){.kind = GW_KIND_HELLO, .session = session},
                                 body, gw_writer_used(&w));
    cr_assert(harness_send(raw->fd, room, bytes));
    long got = harness_read_frame(raw->fd, room, sizeof room, WAIT_MS);
    cr_assert_gt(got, 0);
    struct gw_frame frame;
    cr_assert_eq(gw_frame_decode(room, (uint32_t)got, &frame), GW_OK);
    cr_assert_eq(frame.kind, GW_KIND_WELCOME);
    struct gw_reader r = gw_frame_body(room, &frame);
    cr_assert_eq(gw_welcome_decode(&r, &raw->welcome), GW_OK);
    raw->view = frame.view;
    raw->incarnation = raw->welcome.incarnation;
}

static void raw_close(struct raw *raw)
{
    close(raw->fd);
}

static void raw_send(struct raw *raw, uint16_t flags, uint64_t serial, uint64_t confirmed,
                     struct gw_wire_op op, const char *key)
{
    uint8_t room[1024], body[512];
    op.key = (const uint8_t *)key;
    op.key_bytes = (uint16_t)strlen(key);
    struct gw_writer w = gw_writer_of(body, sizeof body);
    gw_wire_op_encode(&op, &w);
    size_t bytes = harness_frame(room,
                                 (struct gw_frame){.kind = GW_KIND_BATCH,
                                                   .flags = flags,
                                                   .count = 1,
                                                   .session = raw->session,
                                                   .sequence = ++raw->sequence,
                                                   .view = raw->view,
                                                   .serial = serial,
                                                   .confirmed = confirmed},
                                 body, gw_writer_used(&w));
    cr_assert(harness_send(raw->fd, room, bytes));
}

/* The answer to the one operation that was sent: of a record on the device it comes later. */
static struct gw_wire_reply raw_reply(struct raw *raw)
{
    static uint8_t room[4096];
    for (;;) {
        long got = harness_read_frame(raw->fd, room, sizeof room, WAIT_MS);
        cr_assert_gt(got, 0, "no reply");
        cr_assert_eq(gw_frame_decode(room, (uint32_t)got, &raw->frame), GW_OK);
        if (raw->frame.kind == GW_KIND_DURABLE)
            continue; /* may be told at any time */
        cr_assert(raw->frame.kind == GW_KIND_REPLY || raw->frame.kind == GW_KIND_COMPLETION, "%s",
                  gw_frame_kind_name(raw->frame.kind));
        struct gw_reader r = gw_frame_body(room, &raw->frame);
        struct gw_wire_reply reply;
        cr_assert(gw_wire_reply_decode(&r, &reply));
        reply.flags &= (uint8_t)~GW_WIRE_HAS_SERIAL;
        if (reply.status != GW_PENDING)
            return reply;
    }
}

/* Adds 1; the reply's number. */
static int64_t raw_add(struct raw *raw, uint64_t serial, uint16_t flags, const char *key)
{
    raw_send(raw, flags, serial, 1, (struct gw_wire_op){.verb = GW_WIRE_ADD, .number = 1}, key);
    struct gw_wire_reply reply = raw_reply(raw);
    cr_assert_eq(reply.status, GW_OK, "%s", gw_status_text((enum gw_status)reply.status));
    return reply.number;
}

static int64_t raw_get(struct raw *raw, uint64_t serial, const char *key)
{
    raw_send(raw, 0, serial, 1, (struct gw_wire_op){.verb = GW_WIRE_READ}, key);
    struct gw_wire_reply reply = raw_reply(raw);
    return reply.status == GW_OK ? reply.number : -1;
}

/* Waits for DURABLE with at least this position. */
static void raw_durable(struct raw *raw, uint64_t position)
{
    for (uint64_t durable = 0; durable < position;) {
        uint8_t room[1024];
        long got = harness_read_frame(raw->fd, room, sizeof room, WAIT_MS);
        cr_assert_gt(got, 0, "position %llu is never said to be durable",
                     (unsigned long long)position);
        struct gw_frame frame;
        cr_assert_eq(gw_frame_decode(room, (uint32_t)got, &frame), GW_OK);
        cr_assert_eq(frame.kind, GW_KIND_DURABLE);
        cr_assert_eq(frame.session, raw->session);
        cr_assert_gt(frame.confirmed, durable, "told the same again");
        durable = frame.confirmed;
    }
}

static void raw_sync(struct raw *raw)
{
    uint8_t room[GW_FRAME_HEADER];
    size_t bytes =
        harness_frame(room, (struct gw_frame){.kind = GW_KIND_SYNC, .session = raw->session}, NULL,
                      0);
    cr_assert(harness_send(raw->fd, room, bytes));
}

/* Takes the last block of the newest log of this dispatcher away, as if it had never been written.
 */
static void lose_last_block(const struct gw_spawn *spawn, uint32_t dispatcher)
{
    char dir[300], path[600] = "", start[32];
    snprintf(dir, sizeof dir, "%s/A/commit", spawn->directory);
    snprintf(start, sizeof start, "c%u-", dispatcher);
    DIR *d = opendir(dir);
    cr_assert(d, "%s", dir);
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, start, strlen(start)) == 0) {
            cr_assert_eq(path[0], 0, "more than one log: %s", e->d_name);
            snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        }
    closedir(d);
    cr_assert(path[0], "dispatcher %u has no log", dispatcher);
    int fd = open(path, O_RDWR);
    cr_assert(fd >= 0);
    uint8_t unit[GW_COMMIT_BLOCK_UNIT];
    off_t last = -1;
    for (off_t at = 0; pread(fd, unit, sizeof unit, at) == sizeof unit; at += sizeof unit)
        if (gw_load32(unit) == GW_COMMIT_MAGIC)
            last = at;
    cr_assert(last >= 0, "%s holds no block", path);
    memset(unit, 0, sizeof unit);
    cr_assert_eq(pwrite(fd, unit, sizeof unit, last), (ssize_t)sizeof unit);
    close(fd);
}

/* H3: A adds to K, B adds upon that; A's log is lost, B's is not. B's value contains A's add: if it
 * were kept, A's client would add it a second time. */
Test(commit, h3_two_dispatchers_one_key_one_log_lost)
{
    struct gw_spawn spawn;
    begin(&spawn, commit_quiet);
    struct raw a = {.fd = -1}, b = {.fd = -1};
    raw_open(&a, &spawn, 1000); /* dispatcher 0 */
    raw_open(&b, &spawn, 1001); /* dispatcher 1 */
    cr_expect_eq(a.welcome.durability, GW_WIRE_DURABILITY_COMMIT);
    cr_assert_eq(raw_add(&b, 1, 0, "key"), 1);
    cr_assert_eq(raw_add(&a, 1, 0, "key"), 2);
    cr_assert_eq(raw_add(&b, 2, 0, "key"), 3);
    kill_server(&spawn);
    raw_close(&a);
    raw_close(&b);
    lose_last_block(&spawn, 0);
    start_server(&spawn);
    raw_open(&a, &spawn, 1000);
    raw_open(&b, &spawn, 1001);
    cr_expect(b.welcome.flags & GW_WELCOME_KNOWN, "a session with a log is known");
    cr_assert_eq(raw_get(&b, 100, "key"), 1, "what rests upon a lost change counts");
    cr_expect_eq(raw_add(&b, 1, 0, "key"), 1, "applied once, answered again");
    cr_expect_eq(raw_add(&a, 1, 0, "key"), 2, "lost, so it is executed");
    cr_expect_eq(raw_add(&b, 2, 0, "key"), 3, "dropped with what it rested upon, so executed");
    cr_expect_eq(raw_add(&b, 2, 0, "key"), 3);
    cr_assert_eq(raw_get(&a, 101, "key"), 3);
    raw_close(&a);
    raw_close(&b);
    harness_stop(&spawn);
}

/* ---- many large answers ---- */

#define LARGE 16u

/* Sends one batch of operations that were encoded to `body`. */
static void raw_send_batch(struct raw *raw, uint64_t serial, uint32_t count, const uint8_t *body,
                           size_t body_bytes)
{
    uint8_t *room = malloc(GW_FRAME_HEADER + body_bytes);
    cr_assert(room);
    size_t bytes = harness_frame(room,
                                 (struct gw_frame){.kind = GW_KIND_BATCH,
                                                   .count = count,
                                                   .session = raw->session,
                                                   .sequence = ++raw->sequence,
                                                   .view = raw->view,
                                                   .serial = serial,
                                                   .confirmed = 1},
                                 body, body_bytes);
    cr_assert(harness_send(raw->fd, room, bytes));
    free(room);
}

/* Reads frames until `count` operations are answered; each with GW_OK and a value of `bytes`. */
static void raw_values(struct raw *raw, uint32_t count, size_t bytes)
{
    size_t room_bytes = raw->welcome.frame_bytes_max;
    uint8_t *room = malloc(room_bytes);
    cr_assert(room);
    for (uint32_t answered = 0; answered < count;) {
        long got = harness_read_frame(raw->fd, room, room_bytes, WAIT_MS);
        cr_assert_gt(got, 0, "answer %u never comes", answered);
        cr_assert_eq(gw_frame_decode(room, (uint32_t)got, &raw->frame), GW_OK);
        struct gw_reader r = gw_frame_body(room, &raw->frame);
        for (uint32_t i = 0; i < raw->frame.count; i++) {
            struct gw_wire_reply reply;
            cr_assert(gw_wire_reply_decode(&r, &reply));
            if (reply.status == GW_PENDING)
                continue;
            cr_assert_eq(reply.status, GW_OK, "%s", gw_status_text((enum gw_status)reply.status));
            cr_assert_eq(reply.value_bytes, bytes);
            answered++;
        }
    }
    free(room);
}

/* One batch of writes whose answers fill several frames: what is executed behind the first frame is
 * logged as well as what came before it. */
Test(commit, writes_behind_a_full_reply_frame_are_logged_too)
{
    struct gw_spawn spawn;
    /* Pages, and so frames, so small that one that waits is below the bound of all that wait. */
    const char *const flags[] = {"--disk=512MiB", "--durability=commit", "--checkpoint-interval=0",
                                 "--page-size=1MiB", NULL};
    begin(&spawn, flags);
    struct raw raw = {.fd = -1};
    raw_open(&raw, &spawn, 24);
    size_t value_bytes = raw.welcome.frame_bytes_max / 8, room_bytes = value_bytes + 4096;
    uint8_t *value = calloc(1, value_bytes), *body = malloc(room_bytes);
    cr_assert(value && body);
    uint64_t serial = 1;
    char key[LARGE][8];
    for (uint32_t i = 0; i < LARGE; i++) {
        snprintf(key[i], sizeof key[i], "L%u", i);
        struct gw_wire_op op = {.verb = GW_WIRE_UPSERT,
                                .key = (const uint8_t *)key[i],
                                .key_bytes = (uint16_t)strlen(key[i]),
                                .value = value,
                                .value_bytes = (uint32_t)value_bytes};
        struct gw_writer w = gw_writer_of(body, room_bytes);
        gw_wire_op_encode(&op, &w);
        raw_send_batch(&raw, serial++, 1, body, gw_writer_used(&w));
        cr_assert_eq(raw_reply(&raw).status, GW_OK);
    }
    struct gw_writer w = gw_writer_of(body, room_bytes);
    for (uint32_t i = 0; i < LARGE; i++) {
        struct gw_wire_op op = {.verb = GW_WIRE_GETSET,
                                .serial_delta = i,
                                .key = (const uint8_t *)key[i],
                                .key_bytes = (uint16_t)strlen(key[i]),
                                .value = (const uint8_t *)"new",
                                .value_bytes = 3};
        gw_wire_op_encode(&op, &w);
    }
    raw_send_batch(&raw, serial, LARGE, body, gw_writer_used(&w));
    raw_values(&raw, LARGE, value_bytes);
    serial += LARGE;
    raw_close(&raw);
    kill_server(&spawn);
    start_server(&spawn);
    raw_open(&raw, &spawn, 24);
    for (uint32_t i = 0; i < LARGE; i++) {
        raw_send(&raw, 0, serial + i, 1, (struct gw_wire_op){.verb = GW_WIRE_READ}, key[i]);
        struct gw_wire_reply reply = raw_reply(&raw);
        cr_expect_eq(reply.status, GW_OK);
        cr_expect_eq(reply.value_bytes, 3, "%s: an acknowledged write is lost", key[i]);
    }
    raw_close(&raw);
    free(value);
    free(body);
    harness_stop(&spawn);
}

Test(commit, every_verb_comes_back_with_its_answer)
{
    struct gw_spawn spawn;
    begin(&spawn, commit_quiet);
    struct raw raw = {.fd = -1};
    raw_open(&raw, &spawn, 7);
    uint64_t later = 4102444800000; /* the year 2100 */
    const struct {
        const char *key;
        struct gw_wire_op op;
    } all[] = {
        {"bytes", {.verb = GW_WIRE_UPSERT, .value = (const uint8_t *)"12345", .value_bytes = 5}},
        {"bytes", {.verb = GW_WIRE_APPEND, .value = (const uint8_t *)"67", .value_bytes = 2}},
        {"bytes", {.verb = GW_WIRE_PREPEND, .value = (const uint8_t *)"0", .value_bytes = 1}},
        {"bytes", {.verb = GW_WIRE_INSERT, .value = (const uint8_t *)"x", .value_bytes = 1}},
        {"bytes",
         {.verb = GW_WIRE_CAS,
          .expected_version = 3,
          .value = (const uint8_t *)"y",
          .value_bytes = 1}},
        {"bytes", {.verb = GW_WIRE_TOUCH, .flags = GW_WIRE_EXPIRY, .expiry_ms = later}},
        {"number", {.verb = GW_WIRE_UPSERT, .flags = GW_WIRE_COUNTER, .number = -5}},
        {"number", {.verb = GW_WIRE_ADD, .number = 9}},
        {"number", {.verb = GW_WIRE_READ_TOUCH, .flags = GW_WIRE_EXPIRY, .expiry_ms = later}},
        {"number", {.verb = GW_WIRE_GETSET, .flags = GW_WIRE_COUNTER, .number = 77}},
        {"gone", {.verb = GW_WIRE_UPSERT, .value = (const uint8_t *)"z", .value_bytes = 1}},
        {"gone", {.verb = GW_WIRE_GETDEL}},
        {"gone", {.verb = GW_WIRE_DELETE}},
        {"never", {.verb = GW_WIRE_DELETE}},
        {"first", {.verb = GW_WIRE_GETSET, .value = (const uint8_t *)"q", .value_bytes = 1}},
    };
    enum { COUNT = sizeof all / sizeof all[0] };
    struct gw_wire_reply before[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        raw_send(&raw, 0, i + 1, 1, all[i].op, all[i].key);
        before[i] = raw_reply(&raw);
        cr_expect_eq(raw.frame.confirmed, 0, "what it says is durable");
    }
    for (uint32_t round = 0; round < 2; round++) { /* from the log, then from a checkpoint of it */
        kill_server(&spawn);
        raw_close(&raw);
        start_server(&spawn);
        raw_open(&raw, &spawn, 7);
        cr_assert(raw.welcome.flags & GW_WELCOME_KNOWN);
        for (uint32_t i = 0; i < COUNT; i++) {
            raw_send(&raw, 0, i + 1, 1, all[i].op, all[i].key);
            struct gw_wire_reply again = raw_reply(&raw), *was = &before[i];
            cr_expect_eq(again.status, was->status, "operation %u: %d, was %d", i, again.status,
                         was->status);
            if (all[i].op.verb == GW_WIRE_DELETE)
                continue; /* no version is told with it */
            cr_expect_eq(again.version, was->version, "operation %u: version %u, was %u", i,
                         again.version, was->version);
            bool old = (all[i].op.verb == GW_WIRE_GETSET || all[i].op.verb == GW_WIRE_GETDEL ||
                        all[i].op.verb == GW_WIRE_READ_TOUCH) &&
                       !(was->flags & GW_WIRE_NONE);
            cr_expect_eq(again.flags, old ? GW_WIRE_FORGOTTEN : was->flags, "operation %u", i);
            if (!old) {
                cr_expect_eq(again.number, was->number, "operation %u", i);
                cr_expect_eq(again.value_bytes, was->value_bytes, "operation %u", i);
            }
        }
        raw_send(&raw, 0, 50, 1, (struct gw_wire_op){.verb = GW_WIRE_READ}, "bytes");
        struct gw_wire_reply read = raw_reply(&raw);
        cr_assert_eq(read.value_bytes, 8, "round %u: %u bytes, status %d", round, read.value_bytes,
                     read.status);
        cr_expect_eq(memcmp(read.value, "01234567", 8), 0);
        cr_expect_eq(read.expiry_ms, later);
        cr_expect_eq(raw_get(&raw, 51, "number"), 77);
        cr_expect_eq(raw_get(&raw, 52, "gone"), -1);
        cr_expect_neq(raw_get(&raw, 53, "first"), -1);
    }
    raw_close(&raw);
    harness_stop(&spawn);
}

Test(commit, an_early_answer_names_the_position_that_is_told_when_it_is_durable)
{
    struct gw_spawn spawn;
    begin(&spawn, commit_quiet);
    struct raw raw = {.fd = -1};
    raw_open(&raw, &spawn, 9);
    uint64_t highest = raw.welcome.durable;
    for (uint64_t serial = 1; serial <= 20; serial++) {
        cr_assert_eq(raw_add(&raw, serial, GW_BATCH_EARLY, "early"), (int64_t)serial);
        cr_assert_gt(raw.frame.confirmed, highest, "it cannot be durable yet");
        highest = raw.frame.confirmed;
        raw_durable(&raw, highest);
    }
    kill_server(&spawn);
    raw_close(&raw);
    start_server(&spawn);
    raw_open(&raw, &spawn, 9);
    cr_expect_eq(raw_get(&raw, 100, "early"), 20, "told to be durable, and lost");
    raw_close(&raw);
    harness_stop(&spawn);
}

Test(commit, in_memory_mode_sync_makes_durable_what_was_answered)
{
    struct gw_spawn spawn;
    begin(&spawn, memory_quiet);
    struct raw raw = {.fd = -1}, other = {.fd = -1};
    raw_open(&raw, &spawn, 11);
    raw_open(&other, &spawn, 12);
    cr_expect_eq(raw.welcome.durability, GW_WIRE_DURABILITY_MEMORY);
    cr_assert_eq(raw_add(&raw, 1, 0, "m"), 1);
    uint64_t position = raw.frame.confirmed;
    cr_assert_gt(position, raw.welcome.durable);
    cr_assert_eq(raw_get(&other, 1, "m"), 1);
    uint64_t read = other.frame.confirmed;
    cr_assert_geq(read, position, "who reads it says when it is durable, too");
    raw_sync(&raw);
    raw_durable(&raw, position);
    raw_durable(&other, read);
    cr_assert_eq(raw_add(&raw, 2, 0, "m"), 2); /* behind the checkpoint: lost */
    kill_server(&spawn);
    raw_close(&raw);
    raw_close(&other);
    start_server(&spawn);
    raw_open(&raw, &spawn, 11);
    cr_expect(raw.welcome.flags & GW_WELCOME_KNOWN);
    cr_expect_eq(raw_get(&raw, 100, "m"), 1);
    cr_expect_eq(raw_add(&raw, 1, 0, "m"), 1, "applied before, answered again");
    cr_expect_eq(raw_add(&raw, 2, 0, "m"), 2, "lost, so it is executed");
    raw_close(&raw);
    harness_stop(&spawn);
}

/* ---- sessions that are not what they say ---- */

Test(commit, stale_serials_and_serials_far_ahead_are_refused)
{
    struct gw_spawn spawn;
    begin(&spawn, commit_quiet);
    struct raw raw = {.fd = -1};
    raw_open(&raw, &spawn, 21);
    const struct gw_wire_op add = {.verb = GW_WIRE_ADD, .number = 1};
    raw_send(&raw, 0, 10, 10, add, "s"); /* everything below 10 is confirmed */
    cr_expect_eq(raw_reply(&raw).number, 1);
    raw_send(&raw, 0, 9, 10, add, "s");
    cr_expect_eq(raw_reply(&raw).status, GW_E_SERIAL, "a serial that was confirmed");
    raw_send(&raw, 0, 10 + 65536, 10, add, "s");
    cr_expect_eq(raw_reply(&raw).status, GW_E_SERIAL, "a serial beyond the window");
    raw_send(&raw, 0, 10 + raw.welcome.window - 1, 10, add, "s");
    cr_expect_eq(raw_reply(&raw).number, 2, "gaps within it are nobody's business");
    kill_server(&spawn);
    raw_close(&raw);
    start_server(&spawn);
    raw_open(&raw, &spawn, 21); /* the same of what was recovered */
    raw_send(&raw, 0, 9, 1, add, "s");
    cr_expect_eq(raw_reply(&raw).status, GW_E_SERIAL);
    raw_send(&raw, 0, 10 + 65536, 10, add, "s");
    cr_expect_eq(raw_reply(&raw).status, GW_E_SERIAL);
    cr_expect_eq(raw_get(&raw, 100, "s"), 2);
    raw_close(&raw);
    harness_stop(&spawn);
}

Test(commit, who_says_another_ones_session_takes_it_over_and_repeats_nothing)
{
    struct gw_spawn spawn;
    begin(&spawn, commit_quiet);
    struct raw owner = {.fd = -1}, thief = {.fd = -1};
    raw_open(&owner, &spawn, 31);
    cr_assert_eq(raw_add(&owner, 1, 0, "t"), 1);
    raw_open(&thief, &spawn, 31);
    enum gw_status status;
    cr_expect(harness_closes(owner.fd, WAIT_MS, &status), "two connections speak for a session");
    cr_expect(thief.welcome.flags & GW_WELCOME_KNOWN);
    cr_expect_eq(raw_add(&thief, 1, 0, "t"), 1, "a replayed serial is answered, not executed");
    cr_expect_eq(raw_get(&thief, 100, "t"), 1);
    raw_close(&owner);
    raw_close(&thief);
    harness_stop(&spawn);
}

Test(commit, a_log_that_is_gone_as_a_whole_is_missed)
{
    struct gw_spawn spawn;
    char path[300], aside[300], data[300];
    begin(&spawn, commit_quiet);
    for (int i = 0; i < 3; i++)
        HARNESS_CHECK(&spawn, 0, "incr", "k");
    kill_server(&spawn);
    snprintf(data, sizeof data, "%s/A", spawn.directory);
    snprintf(path, sizeof path, "%s/A/commit/c0-1-1.gwl", spawn.directory);
    snprintf(aside, sizeof aside, "%s/aside", spawn.directory);
    cr_assert_eq(rename(path, aside), 0, "%s", path);
    cr_expect_null(gw_spawn_server(&spawn, "A"), "it serves without a log");
    cr_expect(strstr(spawn.error, "exit code 3"), "%s", spawn.error);
    cr_expect(recovery_log_has(&spawn, "A", "commit/c0-1-*.gwl is missing"));
    struct harness_run run = harness_cli(&spawn, NULL, (const char *[]){"verify", data, NULL});
    cr_expect_eq(run.code, 1, "%s", run.out);
    cr_expect(strstr(run.out, "commit/c0-1-*.gwl"), "%s", run.out);
    harness_run_free(&run);
    cr_assert_eq(rename(aside, path), 0);
    start_server(&spawn);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "k");
    cr_expect_str_eq(run.out, "3\n");
    harness_run_free(&run);
    /* And again: the logs of the first life are not asked for any more. */
    kill_server(&spawn);
    start_server(&spawn);
    run = HARNESS_EXPECT(&spawn, 0, NULL, "get", "k");
    cr_expect_str_eq(run.out, "3\n");
    harness_run_free(&run);
    harness_stop(&spawn);
}
