/* Goal: docs/PROTOCOL.md says what the codecs do: its worked examples byte for byte, its kinds and
 * its statuses.
 * How: the same bytes stand here, are compared with what is encoded, and are looked for in the
 * page. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/ops.h"

#define SESSION 0x1122334455667788

static const uint8_t hello_bytes[] = {0x58, 0x00, 0x00, 0x00, 0x47, 0x57, 0x01, 0x01, 0x00, 0x00,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x88, 0x77, 0x66, 0x55,
                                      0x44, 0x33, 0x22, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                      0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe8, 0x03,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                      0x00, 0x00, 0x00, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00, 0x40,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x08, 0x07, 0x06, 0x05,
                                      0x04, 0x03, 0x02, 0x01, 0x03, 0x63, 0x6c, 0x69};
static const uint8_t batch_bytes[] = {
    0x7f, 0x00, 0x00, 0x00, 0x47, 0x57, 0x01, 0x10, 0x04, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe8, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xe8, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x04, 0x02, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x63, 0x6f, 0x75, 0x6e, 0x74, 0x65, 0x72, 0x31,
    0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xfb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x01, 0x00, 0x04, 0x00, 0x01, 0x00, 0x00, 0x00, 0x6e, 0x61, 0x6d, 0x65, 0x05, 0x04, 0x01, 0x00,
    0x03, 0x00, 0x00, 0x00, 0x6b, 0x09, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x68, 0x69};
static const uint8_t reply_bytes[] = {
    0x6a, 0x00, 0x00, 0x00, 0x47, 0x57, 0x01, 0x11, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00,
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe8, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x01, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0x00, 0x02, 0x00, 0x00, 0x0c, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x67, 0x6f, 0x64, 0x77,
    0x69, 0x74, 0x06, 0x00, 0x00, 0x00, 0x0a, 0x00, 0x00, 0x00};

/* The whole page, the caller's to free. */
static char *page(void)
{
    FILE *file = fopen(GW_TEST_SOURCE_DIR "/docs/PROTOCOL.md", "rb");
    cr_assert_not_null(file);
    char *text = calloc(1, 1 << 18);
    size_t n = fread(text, 1, (1 << 18) - 1, file);
    fclose(file);
    cr_assert(n > 0 && n < (1 << 18) - 1);
    return text;
}

/* The bytes of the example of that name: lines of "offset  bytes  words". */
static size_t example(const char *name, uint8_t *room, size_t room_bytes)
{
    char *text = page(), mark[64];
    size_t n = 0;
    snprintf(mark, sizeof mark, "<!-- example: %s -->\n```text\n", name);
    char *at = strstr(text, mark);
    cr_assert_not_null(at, "no example %s", name);
    at += strlen(mark);
    while (strncmp(at, "```", 3) != 0) {
        cr_assert_eq(strtoul(at, &at, 16), n, "%s: offset of a line", name);
        cr_assert_eq(strncmp(at, "  ", 2), 0);
        at += 2;
        unsigned byte;
        while (sscanf(at, "%2x", &byte) == 1 && (at[2] == ' ' || at[2] == '\n')) {
            cr_assert_lt(n, room_bytes);
            room[n++] = (uint8_t)byte;
            at += 3;
            if (*at == ' ')
                break; /* two blanks: words follow */
        }
        at = strchr(at, '\n') + 1;
    }
    free(text);
    return n;
}

static void expect_frame(const char *name, struct gw_frame head, const struct gw_writer *body,
                         const uint8_t *want, size_t want_bytes)
{
    uint8_t frame[512], told[512];
    size_t n = GW_FRAME_HEADER + gw_writer_used(body);
    cr_assert_not(body->bad);
    head.bytes = (uint32_t)n;
    head.session = SESSION;
    gw_frame_encode(&head, frame);
    memcpy(frame + GW_FRAME_HEADER, body->start, gw_writer_used(body));
    cr_assert_eq(n, want_bytes, "%s: encoded", name);
    cr_expect_arr_eq(frame, want, want_bytes, "%s: encoded", name);
    cr_assert_eq(example(name, told, sizeof told), want_bytes, "%s: in the page", name);
    cr_expect_arr_eq(told, want, want_bytes, "%s: in the page", name);
}

Test(protocol, hello_is_as_described)
{
    uint8_t room[256];
    struct gw_writer w = gw_writer_of(room, sizeof room);
    const struct gw_hello hello = {.role = GW_ROLE_CLIENT,
                                   .flags = GW_HELLO_RESUME,
                                   .window = 16384,
                                   .incarnation = 0x0102030405060708,
                                   .id = "cli"};
    gw_hello_encode(&hello, &w);
    expect_frame("hello", (struct gw_frame){.kind = GW_KIND_HELLO, .view = 7, .confirmed = 1000},
                 &w, hello_bytes, sizeof hello_bytes);
}

Test(protocol, batch_is_as_described)
{
    uint8_t room[256];
    struct gw_writer w = gw_writer_of(room, sizeof room);
    const struct gw_wire_op op[] = {
        {.verb = GW_WIRE_ADD,
         .flags = GW_WIRE_INITIAL,
         .key = (const uint8_t *)"counter1",
         .key_bytes = 8,
         .number = 1,
         .initial = -5},
        {.verb = GW_WIRE_READ, .key = (const uint8_t *)"name", .key_bytes = 4, .serial_delta = 1},
        {.verb = GW_WIRE_CAS,
         .flags = GW_WIRE_RESENT,
         .key = (const uint8_t *)"k",
         .key_bytes = 1,
         .serial_delta = 3,
         .expected_version = 9,
         .value = (const uint8_t *)"hi",
         .value_bytes = 2},
    };
    for (size_t i = 0; i < 3; i++)
        gw_wire_op_encode(&op[i], &w);
    expect_frame("batch",
                 (struct gw_frame){.kind = GW_KIND_BATCH,
                                   .flags = GW_BATCH_RESUME,
                                   .count = 3,
                                   .sequence = 2,
                                   .view = 7,
                                   .serial = 1000,
                                   .confirmed = 1000},
                 &w, batch_bytes, sizeof batch_bytes);
}

Test(protocol, reply_is_as_described)
{
    uint8_t room[256];
    struct gw_writer w = gw_writer_of(room, sizeof room);
    const struct gw_wire_reply reply[] = {
        {.status = GW_OK, .flags = GW_WIRE_COUNTER, .version = 3, .number = -4},
        {.status = GW_OK,
         .flags = GW_WIRE_VALUE,
         .version = 12,
         .value = (const uint8_t *)"godwit",
         .value_bytes = 6},
        {.status = GW_MISMATCH, .version = 10},
    };
    for (size_t i = 0; i < 3; i++)
        gw_wire_reply_encode(&reply[i], &w);
    expect_frame("reply",
                 (struct gw_frame){
                     .kind = GW_KIND_REPLY, .count = 3, .sequence = 2, .view = 7, .serial = 1000},
                 &w, reply_bytes, sizeof reply_bytes);
}

Test(protocol, the_page_lists_every_kind_and_status_by_its_number)
{
    char *text = page(), row[256];
#define KIND_ROW(name, number, text_)                                                              \
    snprintf(row, sizeof row, "\n| 0x%02x | %s |", number, &#name[strlen("GW_KIND_")]);            \
    cr_expect_not_null(strstr(text, row), "%s", row);
    GW_FRAME_KIND_LIST(KIND_ROW)
#undef KIND_ROW
#define STATUS_ROW(name, number, text_)                                                            \
    snprintf(row, sizeof row, "\n| %d | `%s` | %s |", number, gw_status_name(name), text_);        \
    cr_expect_not_null(strstr(text, row), "%s", row);
    GW_STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
    free(text);
}
