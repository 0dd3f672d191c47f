/* Goal: the rarer calls of godwit.h say on the wire what their arguments mean, and what comes back
 * reaches the callback. How: a scripted server keeps the operations and answers with flags. What
 * they do in a real cluster: cluster/test_verbs.c. */
#include "peer.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define A (&w->server[0])

struct seen {
    struct gw_wire_op op[32];
    uint8_t bytes[32][64]; /* key and value, which op borrows */
    uint32_t count;
    struct gw_wire_reply reply; /* to everything */
};

static void on_batch(struct peer *p, const struct gw_frame *head, const uint8_t *frame)
{
    struct seen *seen = p->user;
    struct gw_reader r = gw_frame_body(frame, head);
    struct gw_wire_op op;
    uint8_t body[4096];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    while (gw_wire_op_decode(&r, &op)) {
        uint8_t *bytes = seen->bytes[seen->count];
        memcpy(bytes, op.key, op.key_bytes);
        if (op.value)
            memcpy(bytes + op.key_bytes, op.value, op.value_bytes);
        op.key = bytes;
        op.value = op.value ? bytes + op.key_bytes : NULL;
        seen->op[seen->count++] = op;
        gw_wire_reply_encode(&seen->reply, &w);
    }
    cr_assert(!r.bad && !w.bad);
    peer_send(p,
              &(struct gw_frame){.kind = GW_KIND_REPLY,
                                 .count = head->count,
                                 .session = head->session,
                                 .sequence = head->sequence},
              body, gw_writer_used(&w));
}

static struct world *world_seeing(struct seen *seen)
{
    struct world *w = world_create(NULL, 1);
    memset(seen, 0, sizeof *seen);
    A->on_batch = on_batch;
    A->user = seen;
    return w;
}

static void take(void *ctx, const struct gw_result *result)
{
    *(struct gw_result *)ctx = *result;
}

static void expect_op(const struct seen *seen, uint32_t at, uint8_t verb, uint8_t flags,
                      uint64_t expiry_ms, const char *value)
{
    const struct gw_wire_op *op = &seen->op[at];
    cr_assert_gt(seen->count, at);
    cr_expect_eq(op->verb, verb, "operation %u: verb %u", at, op->verb);
    cr_expect_eq(op->flags, flags, "operation %u: flags %u", at, op->flags);
    cr_expect_eq(op->expiry_ms, expiry_ms, "operation %u", at);
    cr_expect_arr_eq(op->key, "key", 3);
    cr_expect_eq(op->value_bytes, value ? strlen(value) : 0, "operation %u", at);
    if (value)
        cr_expect_arr_eq(op->value, value, strlen(value));
}

Test(session_writes, every_call_says_what_it_means)
{
    static struct seen seen;
    struct world *w = world_seeing(&seen);
    struct gw_session *s = w->session;
    cr_assert_eq(gw_set_until(s, "key", 3, "v", 1, 77, NULL, NULL), GW_OK);
    cr_assert_eq(gw_set_until(s, "key", 3, "v", 1, GW_EXPIRY_KEEP, NULL, NULL), GW_OK);
    cr_assert_eq(gw_set_until(s, "key", 3, "v", 1, GW_EXPIRY_NONE, NULL, NULL), GW_OK);
    cr_assert_eq(gw_touch(s, "key", 3, 78, NULL, NULL), GW_OK);
    cr_assert_eq(gw_persist(s, "key", 3, NULL, NULL), GW_OK);
    cr_assert_eq(gw_get_touch(s, "key", 3, 79, NULL, NULL), GW_OK);
    cr_assert_eq(gw_append(s, "key", 3, "tail", 4, 0, NULL, NULL), GW_OK);
    cr_assert_eq(gw_prepend(s, "key", 3, "head", 4, GW_MUST_EXIST, NULL, NULL), GW_OK);
    cr_assert_eq(gw_get_set(s, "key", 3, "new", 3, NULL, NULL), GW_OK);
    cr_assert_eq(gw_get_delete(s, "key", 3, NULL, NULL), GW_OK);
    world_run(w, 50 * MS);
    expect_op(&seen, 0, GW_WIRE_UPSERT, GW_WIRE_EXPIRY, 77, "v");
    expect_op(&seen, 1, GW_WIRE_UPSERT, GW_WIRE_KEEP_EXPIRY, 0, "v");
    expect_op(&seen, 2, GW_WIRE_UPSERT, 0, 0, "v");
    expect_op(&seen, 3, GW_WIRE_TOUCH, GW_WIRE_EXPIRY, 78, NULL);
    expect_op(&seen, 4, GW_WIRE_TOUCH, 0, 0, NULL);
    expect_op(&seen, 5, GW_WIRE_READ_TOUCH, GW_WIRE_EXPIRY, 79, NULL);
    expect_op(&seen, 6, GW_WIRE_APPEND, 0, 0, "tail");
    expect_op(&seen, 7, GW_WIRE_PREPEND, GW_WIRE_MUST_EXIST, 0, "head");
    expect_op(&seen, 8, GW_WIRE_GETSET, 0, 0, "new");
    expect_op(&seen, 9, GW_WIRE_GETDEL, 0, 0, NULL);
    world_destroy(w);
}

Test(session_writes, writes_and_adds_can_say_everything)
{
    static struct seen seen;
    struct world *w = world_seeing(&seen);
    struct gw_session *s = w->session;
    struct gw_write write = {.verb = GW_WRITE_CAS,
                             .kind = GW_VALUE_COUNTER,
                             .number = -4,
                             .expected_version = 9,
                             .expiry_ms = GW_EXPIRY_KEEP};
    cr_assert_eq(gw_write(s, "key", 3, &write, NULL, NULL), GW_OK);
    write = (struct gw_write){.verb = GW_WRITE_INSERT, .value = "lock", .value_bytes = 4};
    write.expiry_ms = 1234;
    cr_assert_eq(gw_write(s, "key", 3, &write, NULL, NULL), GW_OK);
    write.expiry_ms = GW_EXPIRY_KEEP;
    cr_assert_eq(gw_write(s, "key", 3, &write, NULL, NULL), GW_OK);
    struct gw_add_options add = {
        .initial = 5, .expiry_ms = 99, .bounded = true, .clamp = true, .low = -1, .high = 10};
    cr_assert_eq(gw_add_with(s, "key", 3, 2, &add, NULL, NULL), GW_OK);
    world_run(w, 50 * MS);
    expect_op(&seen, 0, GW_WIRE_CAS, GW_WIRE_COUNTER | GW_WIRE_KEEP_EXPIRY, 0, NULL);
    cr_expect_eq(seen.op[0].number, -4);
    cr_expect_eq(seen.op[0].expected_version, 9);
    expect_op(&seen, 1, GW_WIRE_INSERT, GW_WIRE_EXPIRY, 1234, "lock");
    expect_op(&seen, 2, GW_WIRE_INSERT, 0, 0, "lock");
    const struct gw_wire_op *op = &seen.op[3];
    cr_expect_eq(op->flags, GW_WIRE_INITIAL | GW_WIRE_EXPIRY | GW_WIRE_BOUNDED | GW_WIRE_CLAMP);
    cr_expect_eq(op->number, 2);
    cr_expect_eq(op->initial, 5);
    cr_expect_eq(op->expiry_ms, 99);
    cr_assert_eq(op->value_bytes, 16);
    cr_expect_eq((int64_t)gw_load64(op->value), -1);
    cr_expect_eq((int64_t)gw_load64(op->value + 8), 10);
    world_destroy(w);
}

Test(session_writes, arguments_that_contradict_themselves_are_refused)
{
    static struct seen seen;
    struct world *w = world_seeing(&seen);
    struct gw_session *s = w->session;
    struct gw_add_options bounds = {.bounded = true, .low = 2, .high = 1};
    cr_expect_eq(gw_add_with(s, "key", 3, 1, &bounds, NULL, NULL), GW_E_INVALID);
    cr_expect_eq(gw_touch(s, "key", 3, GW_EXPIRY_KEEP, NULL, NULL), GW_E_INVALID);
    cr_expect_eq(gw_append(s, "key", 3, "x", 1, 8, NULL, NULL), GW_E_INVALID);
    cr_expect_eq(gw_append(s, "", 0, "x", 1, 0, NULL, NULL), GW_E_INVALID);
    cr_expect_eq(gw_append(s, "key", 3, "x", (size_t)1 << 40, 0, NULL, NULL), GW_E_TOO_LARGE);
    struct gw_write write = {.kind = GW_VALUE_NONE};
    cr_expect_eq(gw_write(s, "key", 3, &write, NULL, NULL), GW_E_INVALID);
    write = (struct gw_write){.verb = (enum gw_write_verb)7};
    cr_expect_eq(gw_write(s, "key", 3, &write, NULL, NULL), GW_E_INVALID);
    cr_expect_eq(gw_in_flight(s), 0);
    world_destroy(w);
}

Test(session_writes, what_comes_back_reaches_the_callback)
{
    static struct seen seen;
    struct world *w = world_seeing(&seen);
    const struct {
        struct gw_wire_reply reply;
        struct gw_result result;
    } cases[] = {
        {{.flags = GW_WIRE_NONE, .version = 3}, {.kind = GW_VALUE_NONE, .version = 3}},
        {{.flags = GW_WIRE_FORGOTTEN, .version = 4}, {.kind = GW_VALUE_FORGOTTEN, .version = 4}},
        {{.flags = GW_WIRE_LENGTH, .value_bytes = 99}, {.value_bytes = 99}},
        {{.flags = GW_WIRE_COUNTER | GW_WIRE_EXPIRES, .number = -1, .expiry_ms = 55},
         {.kind = GW_VALUE_COUNTER, .number = -1, .expiry_ms = 55}},
        {{.flags = GW_WIRE_COUNTER, .number = 8}, {.kind = GW_VALUE_COUNTER, .number = 8}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gw_result got;
        memset(&got, 0xa5, sizeof got);
        seen.count = 0;
        seen.reply = cases[i].reply;
        cr_assert_eq(gw_get_delete(w->session, "key", 3, take, &got), GW_OK);
        world_run(w, 50 * MS);
        const struct gw_result *want = &cases[i].result;
        cr_expect_eq(got.status, GW_OK, "case %zu", i);
        cr_expect_eq(got.kind, want->kind, "case %zu", i);
        cr_expect_eq(got.version, want->version, "case %zu", i);
        cr_expect_eq(got.number, want->number, "case %zu", i);
        cr_expect_eq(got.value_bytes, want->value_bytes, "case %zu", i);
        cr_expect_null(got.value, "case %zu", i);
        cr_expect_eq(got.expiry_ms, want->expiry_ms, "case %zu", i);
    }
    world_destroy(w);
}
