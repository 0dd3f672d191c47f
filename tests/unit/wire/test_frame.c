/* Goal: a header says what it says byte for byte, and nothing that is not a frame passes for one.
 */
#include "client/wire/frame.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/ops.h"
#include "client/wire/peer.h"

static const struct gw_frame sample = {
    .bytes = GW_FRAME_HEADER,
    .kind = GW_KIND_BATCH,
    .count = 0x01020304,
    .session = 0x1112131415161718,
    .sequence = 0x2122232425262728,
    .view = 0x3132333435363738,
    .serial = 0x4142434445464748,
    .confirmed = 0x5152535455565758,
};

static enum gw_status decode(const uint8_t *frame, uint32_t n, struct gw_frame *out)
{
    uint8_t *exact = malloc(n ? n : 1); /* AddressSanitizer sees a read behind it */
    if (n)
        memcpy(exact, frame, n);
    enum gw_status st = gw_frame_decode(exact, n, out);
    free(exact);
    return st;
}

Test(frame, every_field_has_its_place)
{
    static const uint8_t bytes[GW_FRAME_HEADER] = {0x40, 0,    0,    0,    'G',  'W',  1,    0x10,
                                                   0,    0,    0,    0,    4,    3,    2,    1,
                                                   0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
                                                   0x28, 0x27, 0x26, 0x25, 0x24, 0x23, 0x22, 0x21,
                                                   0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31,
                                                   0x48, 0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41,
                                                   0x58, 0x57, 0x56, 0x55, 0x54, 0x53, 0x52, 0x51,
                                                   0,    0,    0,    0,    0,    0,    0,    0};
    uint8_t room[GW_FRAME_HEADER];
    gw_frame_encode(&sample, room);
    cr_expect_arr_eq(room, bytes, sizeof bytes);

    struct gw_frame f;
    cr_assert_eq(decode(bytes, sizeof bytes, &f), GW_OK);
    cr_expect_eq(f.bytes, sample.bytes);
    cr_expect_eq(f.kind, sample.kind);
    cr_expect_eq(f.flags, 0);
    cr_expect_eq(f.count, sample.count);
    cr_expect_eq(f.session, sample.session);
    cr_expect_eq(f.sequence, sample.sequence);
    cr_expect_eq(f.view, sample.view);
    cr_expect_eq(f.serial, sample.serial);
    cr_expect_eq(f.confirmed, sample.confirmed);
}

Test(frame, a_shorter_or_longer_frame_than_it_says_is_refused)
{
    uint8_t room[GW_FRAME_HEADER + 8] = {0};
    struct gw_frame f;
    gw_frame_encode(&sample, room);
    for (uint32_t n = 0; n < GW_FRAME_HEADER; n++)
        cr_expect_eq(decode(room, n, &f), GW_E_PROTOCOL, "%u bytes", n);
    cr_expect_eq(decode(room, GW_FRAME_HEADER + 1, &f), GW_E_PROTOCOL);
    gw_store32(room, GW_FRAME_HEADER - 1);
    cr_expect_eq(decode(room, GW_FRAME_HEADER, &f), GW_E_PROTOCOL);
    cr_expect_eq(decode(room, GW_FRAME_HEADER - 1, &f), GW_E_PROTOCOL);
}

Test(frame, what_this_version_does_not_know_is_refused)
{
    static const struct {
        size_t at;
        uint8_t flip;
        enum gw_status st;
    } cases[] = {
        {4, 1, GW_E_PROTOCOL},     {5, 0x80, GW_E_PROTOCOL}, {6, 3, GW_E_VERSION},
        {8, 16, GW_E_PROTOCOL},    {9, 1, GW_E_PROTOCOL},    {10, 1, GW_E_PROTOCOL},
        {11, 0x80, GW_E_PROTOCOL}, {56, 1, GW_E_PROTOCOL},   {59, 1, GW_E_PROTOCOL},
        {60, 1, GW_E_PROTOCOL},    {63, 1, GW_E_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t room[GW_FRAME_HEADER];
        struct gw_frame f = {.view = 77};
        gw_frame_encode(&sample, room);
        room[cases[i].at] ^= cases[i].flip;
        cr_expect_eq(decode(room, sizeof room, &f), cases[i].st, "byte %zu", cases[i].at);
        cr_expect_eq(f.view, 77, "*out was written by a refusal");
    }
}

Test(frame, exactly_the_listed_kinds_exist)
{
    bool listed[256] = {false};
#define LISTED(name, number, text) listed[number] = true;
    GW_FRAME_KIND_LIST(LISTED)
#undef LISTED
    for (uint32_t kind = 0; kind < 256; kind++) {
        uint8_t room[GW_FRAME_HEADER];
        struct gw_frame f = sample;
        f.kind = (uint8_t)kind;
        gw_frame_encode(&f, room);
        cr_expect_eq(decode(room, sizeof room, &f), listed[kind] ? GW_OK : GW_E_PROTOCOL, "kind %u",
                     kind);
        cr_expect_eq(strcmp(gw_frame_kind_name((uint8_t)kind), "unknown") == 0, !listed[kind]);
    }
    cr_expect_str_eq(gw_frame_kind_name(GW_KIND_PULL_ANSWER), "pull_answer");
}

Test(frame, each_flag_belongs_to_its_kind)
{
#define TRY_KIND(name, number, text)                                                               \
    for (uint32_t bit = 0; bit < 16; bit++) {                                                      \
        uint8_t room[GW_FRAME_HEADER];                                                             \
        struct gw_frame f = {.bytes = sizeof room, .kind = name, .flags = (uint16_t)(1u << bit)};  \
        gw_frame_encode(&f, room);                                                                 \
        if (bit == 0)                                                                              \
            gw_frame_seal(room);                                                                   \
        bool exists =                                                                              \
            bit == 0 ||                                                                            \
            (name == GW_KIND_CHUNK && (f.flags == GW_CHUNK_LAST || f.flags == GW_CHUNK_HOT)) ||    \
            ((name == GW_KIND_CHUNK || name == GW_KIND_CHUNK_ACK) && f.flags == GW_CHUNK_PAGE) ||  \
            (name == GW_KIND_BATCH &&                                                              \
             (f.flags == GW_BATCH_RESUME || f.flags == GW_BATCH_EARLY)) ||                         \
            (name == GW_KIND_PULL && f.flags == GW_PULL_LEADS);                                    \
        cr_expect_eq(decode(room, sizeof room, &f), exists ? GW_OK : GW_E_PROTOCOL,                \
                     text " with bit %u", bit);                                                    \
        cr_expect_eq(f.flags, 1u << bit);                                                          \
    }
    GW_FRAME_KIND_LIST(TRY_KIND)
#undef TRY_KIND
}

/* Bytes 4 and 5 (magic) and 6 (version) are looked at before the checksum, 0 to 3 (length) too:
 * they say whether there is a checksum to look at. The flag's own bit turns the checksum off, and
 * then the field that is not zero betrays it. */
Test(frame, a_sealed_frame_betrays_every_flipped_bit)
{
    uint8_t room[GW_FRAME_HEADER + 37];
    struct gw_frame f = sample;
    f.bytes = sizeof room;
    gw_frame_encode(&f, room);
    for (size_t i = GW_FRAME_HEADER; i < sizeof room; i++)
        room[i] = (uint8_t)(i * 7);
    gw_frame_seal(room);
    cr_assert_eq(decode(room, sizeof room, &f), GW_OK);
    cr_expect_neq(f.crc, 0);
    cr_expect_eq(f.flags, GW_FRAME_HAS_CRC);
    for (size_t bit = 0; bit < 8 * sizeof room; bit++) {
        room[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum gw_status want = bit / 8 == 6               ? GW_E_VERSION
                              : bit / 8 < 6 || bit == 64 ? GW_E_PROTOCOL
                                                         : GW_E_CORRUPT;
        cr_expect_eq(decode(room, sizeof room, &f), want, "bit %zu", bit);
        room[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    gw_frame_seal(room); /* again: the stored checksum must not count */
    cr_expect_eq(decode(room, sizeof room, &f), GW_OK);
}

Test(frame, a_length_is_told_from_eight_bytes)
{
    uint8_t room[GW_FRAME_HEADER];
    struct gw_frame f = sample;
    uint32_t bytes;
    f.bytes = 1000;
    gw_frame_encode(&f, room);
    for (size_t have = 0; have < 8; have++) {
        bytes = 1;
        cr_expect_eq(gw_frame_length(room, have, 1000, &bytes), GW_OK);
        cr_expect_eq(bytes, 0, "from %zu bytes", have);
    }
    cr_expect_eq(gw_frame_length(room, 8, 1000, &bytes), GW_OK);
    cr_expect_eq(bytes, 1000);
    cr_expect_eq(gw_frame_length(room, 8, 999, &bytes), GW_E_TOO_LARGE);
    cr_expect_eq(bytes, 0);
    gw_store32(room, GW_FRAME_HEADER - 1);
    cr_expect_eq(gw_frame_length(room, 8, 1000, &bytes), GW_E_TOO_LARGE);
    gw_store32(room, UINT32_MAX);
    cr_expect_eq(gw_frame_length(room, 8, UINT32_MAX, &bytes), GW_OK);
    cr_expect_eq(gw_frame_length((const uint8_t *)"GET / HT", 8, 1000, &bytes), GW_E_PROTOCOL);
    room[6] = 2;
    cr_expect_eq(gw_frame_length(room, 8, 1000, &bytes), GW_E_VERSION);
}

Test(frame, a_count_beyond_the_bytes_is_not_plausible)
{
    struct gw_frame f = {.bytes = GW_FRAME_HEADER + 2 * GW_WIRE_OP_BYTES_LEAST, .count = 2};
    cr_expect(gw_frame_count_plausible(&f, GW_WIRE_OP_BYTES_LEAST));
    f.count = 3;
    cr_expect_not(gw_frame_count_plausible(&f, GW_WIRE_OP_BYTES_LEAST));
    f.count = 1u << 29; /* times 8 is 0 in 32 bits */
    cr_expect_not(gw_frame_count_plausible(&f, 8));
    f.count = UINT32_MAX;
    cr_expect_not(gw_frame_count_plausible(&f, GW_WIRE_OP_BYTES_LEAST));
    f.count = 0;
    f.bytes = GW_FRAME_HEADER;
    cr_expect(gw_frame_count_plausible(&f, GW_WIRE_OP_BYTES_LEAST));
}

Test(frame, an_error_carries_a_failure_and_a_text_without_control_characters)
{
    uint8_t room[2000];
    struct gw_frame f;
    char text[300], tiny[5];
    size_t n = gw_frame_error(room, sizeof room, GW_E_LIMIT, "10,000 connections\n\x1b[2J");
    cr_assert_eq(gw_frame_decode(room, (uint32_t)n, &f), GW_OK);
    cr_expect_eq(f.kind, GW_KIND_ERROR);
    struct gw_reader r = gw_frame_body(room, &f);
    cr_expect_eq(gw_frame_error_decode(&r, text, sizeof text), GW_E_LIMIT);
    cr_expect_str_eq(text, "10,000 connections  [2J");
    r = gw_frame_body(room, &f);
    cr_expect_eq(gw_frame_error_decode(&r, tiny, sizeof tiny), GW_E_LIMIT);
    cr_expect_str_eq(tiny, "10,0");

    n = gw_frame_error(room, sizeof room, GW_E_VERSION, NULL);
    r = gw_reader_of(room + GW_FRAME_HEADER, n - GW_FRAME_HEADER);
    cr_expect_eq(gw_frame_error_decode(&r, text, sizeof text), GW_E_VERSION);
    cr_expect_str_eq(text, gw_status_text(GW_E_VERSION));

    room[GW_FRAME_HEADER] = GW_OK; /* "error: done" */
    r = gw_reader_of(room + GW_FRAME_HEADER, n - GW_FRAME_HEADER);
    cr_expect_eq(gw_frame_error_decode(&r, text, sizeof text), GW_E_PROTOCOL);
    cr_expect_str_eq(text, "");

    cr_expect_eq(gw_frame_error(room, GW_FRAME_HEADER + 5, GW_E_IO, "abc"), 0, "one byte short");
    cr_expect_eq(gw_frame_error(room, GW_FRAME_HEADER + 6, GW_E_IO, "abc"), GW_FRAME_HEADER + 6);
}

Test(frame, an_error_text_without_end_is_cut)
{
    uint8_t room[GW_FRAME_HEADER + 3 + GW_ERROR_TEXT_BYTES_MAX];
    char text[GW_ERROR_TEXT_BYTES_MAX + 1], longer[4096];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    size_t n = gw_frame_error(room, sizeof room, GW_E_IO, longer);
    cr_assert_eq(n, sizeof room);
    struct gw_reader r = gw_reader_of(room + GW_FRAME_HEADER, n - GW_FRAME_HEADER);
    cr_expect_eq(gw_frame_error_decode(&r, text, sizeof text), GW_E_IO);
    cr_expect_eq(strlen(text), GW_ERROR_TEXT_BYTES_MAX);
}

Test(frame, an_empty_frame_is_a_header)
{
    uint8_t room[GW_FRAME_HEADER];
    struct gw_frame f;
    cr_expect_eq(gw_frame_empty(room, GW_FRAME_HEADER - 1, GW_KIND_BYE, 9), 0);
    cr_assert_eq(gw_frame_empty(room, sizeof room, GW_KIND_BYE, 9), GW_FRAME_HEADER);
    cr_assert_eq(gw_frame_decode(room, sizeof room, &f), GW_OK);
    cr_expect_eq(f.kind, GW_KIND_BYE);
    cr_expect_eq(f.session, 9);
}
