/* Goal: every op and reply survives the trip, and no bytes that are not one pass for one. */
#include "client/wire/ops.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/frame.h"
#include "tests/support/wire_recode.h"

#define KEY   ((const uint8_t *)"key-of-twelve")
#define VALUE ((const uint8_t *)"a value of some length")

/* All there are: verb, flags without RESENT. */
static struct {
    uint8_t verb, flags;
    size_t bytes; /* without key and value */
} shapes[64];
static size_t shapes_count;
#define SHAPES shapes_count

static void shape(uint8_t verb, uint8_t flags, size_t bytes)
{
    shapes[shapes_count].verb = verb;
    shapes[shapes_count].flags = flags;
    shapes[shapes_count++].bytes = bytes;
}

static void with_expiry(uint8_t verb, uint8_t flags, size_t bytes, bool keeps)
{
    shape(verb, flags, bytes);
    shape(verb, flags | GW_WIRE_EXPIRY, bytes + 8);
    if (keeps)
        shape(verb, flags | GW_WIRE_KEEP_EXPIRY, bytes);
}

static __attribute__((constructor)) void shapes_list(void)
{
    shape(GW_WIRE_READ, 0, 8);
    shape(GW_WIRE_DELETE, 0, 8);
    shape(GW_WIRE_GETDEL, 0, 8);
    with_expiry(GW_WIRE_TOUCH, 0, 8, false);
    with_expiry(GW_WIRE_READ_TOUCH, 0, 8, false);
    with_expiry(GW_WIRE_UPSERT, 0, 12, true);
    with_expiry(GW_WIRE_UPSERT, GW_WIRE_COUNTER, 16, true);
    with_expiry(GW_WIRE_GETSET, 0, 12, true);
    with_expiry(GW_WIRE_GETSET, GW_WIRE_COUNTER, 16, true);
    with_expiry(GW_WIRE_INSERT, 0, 12, false);
    with_expiry(GW_WIRE_INSERT, GW_WIRE_COUNTER, 16, false);
    with_expiry(GW_WIRE_CAS, 0, 16, true);
    with_expiry(GW_WIRE_CAS, GW_WIRE_COUNTER, 20, true);
    for (uint8_t initial = 0; initial <= GW_WIRE_INITIAL; initial += GW_WIRE_INITIAL) {
        size_t bytes = initial ? 24 : 16;
        with_expiry(GW_WIRE_ADD, initial, bytes, false);
        with_expiry(GW_WIRE_ADD, initial | GW_WIRE_BOUNDED, bytes + 16, false);
        with_expiry(GW_WIRE_ADD, initial | GW_WIRE_BOUNDED | GW_WIRE_CLAMP, bytes + 16, false);
    }
    for (uint8_t verb = GW_WIRE_APPEND; verb <= GW_WIRE_PREPEND; verb++) {
        with_expiry(verb, 0, 12, false);
        with_expiry(verb, GW_WIRE_MUST_EXIST, 12, false);
    }
}

static struct gw_wire_op op_of(size_t at, uint8_t more_flags)
{
    struct gw_wire_op op = {.key = KEY,
                            .key_bytes = 12,
                            .serial_delta = 0xdeadbeef,
                            .verb = shapes[at].verb,
                            .flags = shapes[at].flags | more_flags};
    bool stores = op.verb == GW_WIRE_UPSERT || op.verb == GW_WIRE_CAS ||
                  op.verb == GW_WIRE_INSERT || op.verb == GW_WIRE_APPEND ||
                  op.verb == GW_WIRE_PREPEND || op.verb == GW_WIRE_GETSET;
    if (op.verb == GW_WIRE_CAS)
        op.expected_version = 0xfeedface;
    if (op.verb == GW_WIRE_ADD || (op.flags & GW_WIRE_COUNTER))
        op.number = INT64_MIN + 1;
    if (op.verb == GW_WIRE_ADD && (op.flags & GW_WIRE_INITIAL))
        op.initial = -2;
    if (op.flags & GW_WIRE_EXPIRY)
        op.expiry_ms = 0x0102030405060708;
    if (op.verb == GW_WIRE_ADD && (op.flags & GW_WIRE_BOUNDED)) {
        op.value = (const uint8_t *)"sixteen bytes...";
        op.value_bytes = GW_WIRE_BOUNDS_BYTES;
    }
    if (stores && !(op.flags & GW_WIRE_COUNTER)) {
        op.value = VALUE;
        op.value_bytes = 22;
    }
    return op;
}

/* Bytes that `shapes` does not count. */
static size_t value_bytes_of(const struct gw_wire_op *op)
{
    return op->verb == GW_WIRE_ADD ? 0 : op->value_bytes;
}

static void expect_same(const struct gw_wire_op *a, const struct gw_wire_op *b)
{
    cr_expect_eq(a->verb, b->verb);
    cr_expect_eq(a->flags, b->flags);
    cr_expect_eq(a->serial_delta, b->serial_delta);
    cr_expect_eq(a->number, b->number);
    cr_expect_eq(a->initial, b->initial);
    cr_expect_eq(a->expiry_ms, b->expiry_ms);
    cr_expect_eq(a->expected_version, b->expected_version);
    cr_assert_eq(a->key_bytes, b->key_bytes);
    cr_expect_arr_eq(a->key, b->key, a->key_bytes);
    cr_assert_eq(a->value_bytes, b->value_bytes);
    cr_expect_eq(a->value == NULL, b->value == NULL);
    if (a->value_bytes)
        cr_expect_arr_eq(a->value, b->value, a->value_bytes);
}

/* A batch with every shape, with and without RESENT. */
static size_t batch_of_all(uint8_t *room, size_t room_bytes)
{
    struct gw_writer w = gw_writer_of(room, room_bytes);
    for (size_t i = 0; i < 2 * SHAPES; i++) {
        struct gw_wire_op op = op_of(i / 2, i % 2 ? GW_WIRE_RESENT : 0);
        gw_wire_op_encode(&op, &w);
    }
    cr_assert_not(w.bad);
    return gw_writer_used(&w);
}

Test(ops, every_shape_survives_the_trip)
{
    uint8_t room[8192];
    struct gw_reader r = gw_reader_of(room, batch_of_all(room, sizeof room));
    for (size_t i = 0; i < 2 * SHAPES; i++) {
        struct gw_wire_op want = op_of(i / 2, i % 2 ? GW_WIRE_RESENT : 0), got;
        cr_expect_eq(gw_wire_op_bytes(&want), shapes[i / 2].bytes + 12 + value_bytes_of(&want));
        memset(&got, 0xa5, sizeof got);
        cr_assert(gw_wire_op_decode(&r, &got), "shape %zu", i);
        expect_same(&got, &want);
    }
    struct gw_wire_op none;
    cr_expect_not(gw_wire_op_decode(&r, &none));
    cr_expect_not(r.bad, "the end is no fault");
}

Test(ops, an_add_takes_24_bytes_and_its_reply_16)
{
    struct gw_wire_op op = {.key = KEY, .key_bytes = 8, .verb = GW_WIRE_ADD};
    struct gw_wire_reply reply = {.flags = GW_WIRE_COUNTER};
    cr_expect_eq(gw_wire_op_bytes(&op), 24);
    cr_expect_eq(gw_wire_reply_bytes(&reply), 16);
}

Test(ops, keys_of_every_length_are_copied_whole)
{
    static uint8_t key[GW_KEY_BYTES_MAX], room[GW_KEY_BYTES_MAX + 16];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(i * 31 + 1);
    for (uint32_t n = 1; n <= GW_KEY_BYTES_MAX; n = n < 40 ? n + 1 : n == 40 ? 65535 : 65536) {
        struct gw_wire_op op = {.key = key, .key_bytes = (uint16_t)n, .verb = GW_WIRE_ADD};
        struct gw_wire_op got = {0};
        struct gw_writer w = gw_writer_of(room, sizeof room);
        gw_wire_op_encode(&op, &w);
        cr_assert_not(w.bad);
        cr_expect_eq(gw_writer_used(&w), 16 + n);
        struct gw_reader r = gw_reader_of(room, gw_writer_used(&w));
        cr_assert(gw_wire_op_decode(&r, &got), "%u bytes", n);
        cr_expect_eq(got.key_bytes, n);
        cr_expect_eq(memcmp(got.key, key, n), 0, "%u bytes", n);
    }
}

Test(ops, a_key_without_bytes_is_refused)
{
    uint8_t room[64];
    for (size_t i = 0; i < SHAPES; i++) {
        struct gw_wire_op op = op_of(i, 0), got;
        struct gw_writer w = gw_writer_of(room, sizeof room);
        gw_wire_op_encode(&op, &w);
        gw_store16(room + 2, 0);
        struct gw_reader r = gw_reader_of(room, gw_writer_used(&w));
        cr_expect_not(gw_wire_op_decode(&r, &got));
        cr_expect(r.bad);
    }
}

Test(ops, a_batch_cut_anywhere_gives_the_ops_before_the_cut_only)
{
    static uint8_t room[8192];
    size_t n = batch_of_all(room, sizeof room), ends[2 * 64 + 1] = {0};
    for (size_t i = 0; i < 2 * SHAPES; i++) {
        struct gw_wire_op op = op_of(i / 2, 0);
        ends[i + 1] = ends[i] + gw_wire_op_bytes(&op);
    }
    cr_assert_eq(ends[2 * SHAPES], n);
    size_t whole = 0;
    for (size_t cut = 0; cut <= n; cut++) {
        size_t good;
        while (whole < 2 * SHAPES && ends[whole + 1] <= cut)
            whole++;
        enum gw_status st = wire_recode(wire_codec_find("ops"), room, cut, &good);
        cr_expect_eq(st, cut == ends[whole] ? GW_OK : GW_E_PROTOCOL, "cut at %zu", cut);
        cr_expect_eq(good, ends[whole], "cut at %zu", cut);
    }
}

Test(ops, exactly_the_described_verbs_and_flags_exist)
{
    uint8_t room[300];
    for (uint32_t head = 0; head < 65536; head++) {
        uint8_t verb = (uint8_t)head, flags = (uint8_t)(head >> 8);
        bool exists = false;
        for (size_t i = 0; i < SHAPES; i++)
            exists |= shapes[i].verb == verb && shapes[i].flags == (flags & ~GW_WIRE_RESENT);
        memset(room, 0, sizeof room);
        room[0] = verb;
        room[1] = flags;
        gw_store16(room + 2, 3); /* key; whatever follows may be zero */
        struct gw_reader r = gw_reader_of(room, sizeof room);
        struct gw_wire_op op;
        bool decoded = gw_wire_op_decode(&r, &op);
        cr_expect_eq(decoded, exists, "verb %u flags %u", verb, flags);
        cr_expect_eq(r.bad, !exists, "verb %u flags %u", verb, flags);
    }
}

Test(ops, a_value_longer_than_the_frame_is_refused)
{
    uint8_t room[64];
    for (size_t i = 0; i < SHAPES; i++) {
        struct gw_wire_op op = op_of(i, 0), got;
        if (!op.value || op.verb == GW_WIRE_ADD)
            continue;
        struct gw_writer w = gw_writer_of(room, sizeof room);
        gw_wire_op_encode(&op, &w);
        uint8_t *length = room + shapes[i].bytes + 12 - 4;
        for (uint32_t more = 1; more != 0; more <<= 1) {
            gw_store32(length, op.value_bytes + more);
            struct gw_reader r = gw_reader_of(room, gw_writer_used(&w));
            cr_expect_not(gw_wire_op_decode(&r, &got), "%u more", more);
            cr_expect(r.bad);
            cr_expect_not(gw_wire_op_decode(&r, &got), "bad stays bad");
        }
    }
}

/* wire_recode aborts when what was decoded is not what was there. */
Test(ops, flipped_bits_are_refused_or_mean_what_they_say)
{
    static uint8_t room[8192];
    size_t n = batch_of_all(room, sizeof room);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        room[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)wire_recode(wire_codec_find("ops"), room, n, NULL);
        (void)wire_recode(wire_codec_find("replies"), room, n, NULL);
        room[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

Test(ops, encoding_never_leaves_its_room)
{
    for (size_t i = 0; i < SHAPES; i++) {
        struct gw_wire_op op = op_of(i, 0);
        size_t need = gw_wire_op_bytes(&op);
        for (size_t n = 0; n < need; n++) {
            uint8_t *exact = malloc(n + 1);
            exact[n] = 0x5a;
            struct gw_writer w = gw_writer_of(exact, n);
            gw_wire_op_encode(&op, &w);
            cr_expect(w.bad);
            cr_expect_eq(gw_writer_used(&w), 0);
            cr_expect_eq(exact[n], 0x5a);
            free(exact);
        }
    }
}

/* One of these at most, with or without a serial and an expiry. */
static bool reply_flags_exist(uint8_t flags)
{
    uint8_t of = flags & (uint8_t) ~(GW_WIRE_HAS_SERIAL | GW_WIRE_EXPIRES);
    return of == 0 || of == GW_WIRE_COUNTER || of == GW_WIRE_VALUE || of == GW_WIRE_LENGTH ||
           of == GW_WIRE_NONE || of == GW_WIRE_FORGOTTEN;
}

static struct gw_wire_reply reply_of(uint8_t flags)
{
    struct gw_wire_reply reply = {.status = GW_MISMATCH, .version = 0x01020304, .flags = flags};
    if (flags & GW_WIRE_HAS_SERIAL)
        reply.serial_delta = 0xfffffffe;
    if (flags & GW_WIRE_COUNTER)
        reply.number = INT64_MIN;
    if (flags & GW_WIRE_EXPIRES)
        reply.expiry_ms = 0x0102030405060708;
    if (flags & GW_WIRE_LENGTH)
        reply.value_bytes = 77;
    if (flags & GW_WIRE_VALUE) {
        reply.value = VALUE;
        reply.value_bytes = 22;
    }
    return reply;
}

Test(ops, every_reply_survives_the_trip)
{
    uint8_t all[256], room[1024];
    size_t count = 0;
    for (uint32_t flags = 0; flags < 256; flags++)
        if (reply_flags_exist((uint8_t)flags))
            all[count++] = (uint8_t)flags;
    cr_assert_eq(count, 24);
    struct gw_writer w = gw_writer_of(room, sizeof room);
    for (size_t i = 0; i < count; i++) {
        struct gw_wire_reply reply = reply_of(all[i]);
        size_t before = gw_writer_used(&w);
        gw_wire_reply_encode(&reply, &w);
        cr_expect_eq(gw_writer_used(&w) - before, gw_wire_reply_bytes(&reply));
    }
    cr_assert_not(w.bad);
    struct gw_reader r = gw_reader_of(room, gw_writer_used(&w));
    for (size_t i = 0; i < count; i++) {
        struct gw_wire_reply want = reply_of(all[i]), got;
        memset(&got, 0xa5, sizeof got);
        cr_assert(gw_wire_reply_decode(&r, &got), "flags %u", all[i]);
        cr_expect_eq(got.status, want.status);
        cr_expect_eq(got.flags, want.flags);
        cr_expect_eq(got.version, want.version);
        cr_expect_eq(got.serial_delta, want.serial_delta);
        cr_expect_eq(got.number, want.number);
        cr_expect_eq(got.expiry_ms, want.expiry_ms);
        cr_assert_eq(got.value_bytes, want.value_bytes);
        cr_expect_eq(got.value == NULL, want.value == NULL);
        if (got.value)
            cr_expect_arr_eq(got.value, want.value, want.value_bytes);
    }
    cr_expect_not(gw_wire_reply_decode(&r, &(struct gw_wire_reply){0}));
    cr_expect_not(r.bad);

    size_t n = gw_writer_used(&w);
    for (size_t cut = 0; cut < n; cut++) {
        size_t good;
        enum gw_status st = wire_recode(wire_codec_find("replies"), room, cut, &good);
        cr_expect_eq(st == GW_OK, good == cut, "cut at %zu", cut);
    }
    for (size_t bit = 0; bit < 8 * n; bit++) {
        room[bit / 8] ^= (uint8_t)(1u << bit % 8);
        (void)wire_recode(wire_codec_find("replies"), room, n, NULL);
        room[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

Test(ops, exactly_the_described_statuses_and_flags_of_replies_exist)
{
    bool known[256] = {false};
#define KNOWN(name, number, text) known[(uint8_t)(int8_t)(number)] = true;
    GW_STATUS_LIST(KNOWN)
#undef KNOWN
    uint8_t room[64] = {0};
    for (uint32_t head = 0; head < 65536; head++) {
        uint8_t flags = (uint8_t)(head >> 8);
        bool exists = known[head & 255] && reply_flags_exist(flags);
        gw_store16(room, (uint16_t)head);
        struct gw_reader r = gw_reader_of(room, sizeof room);
        struct gw_wire_reply reply;
        cr_expect_eq(gw_wire_reply_decode(&r, &reply), exists, "head %x", head);
        cr_expect_eq(r.bad, !exists);
    }
    for (size_t bit = 0; bit < 16; bit++) {
        memset(room, 0, sizeof room);
        gw_store16(room + 2, (uint16_t)(1u << bit));
        struct gw_reader r = gw_reader_of(room, sizeof room);
        cr_expect_not(gw_wire_reply_decode(&r, &(struct gw_wire_reply){0}), "reserved bit %zu",
                      bit);
    }
}
