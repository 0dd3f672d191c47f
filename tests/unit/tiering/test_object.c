/* Goal: an object gives back what went in, frame by frame, and no damage to it, in whatever part,
 * gives other bytes. How: extents of several kinds and sizes; every byte of head and index and many
 * of the frames get a flipped bit; cut ends; hostile headers with good checksums. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "index/base/checksum.h"
#include "index/base/rand.h"
#include "tiering/object.h"

struct made {
    struct gw_object_head head;
    uint8_t *raw, *object;
    size_t bytes;
};

enum content { ZEROS, TEXT, NOISE, CONTENTS };

static struct made make_one(uint64_t raw_bytes, uint32_t frame_bytes, enum content content)
{
    struct made m = {.head = {.cluster = 7,
                              .store_id = 9,
                              .first_address = 3 << 20,
                              .raw_bytes = raw_bytes,
                              .frame_bytes = frame_bytes,
                              .incarnation = 4,
                              .hash_seed_check = 5,
                              .page_bits = 12}};
    struct gw_rand rand;
    gw_rand_init(&rand, raw_bytes + frame_bytes + content);
    m.raw = calloc(1, raw_bytes);
    for (uint64_t i = 0; content != ZEROS && i < raw_bytes; i++)
        m.raw[i] = content == NOISE ? (uint8_t)gw_rand_next(&rand)
                                    : (uint8_t)("godwit"[i % 6] + gw_rand_below(&rand, 3));
    size_t room = gw_object_bytes_max(raw_bytes, frame_bytes);
    m.object = malloc(room);
    cr_assert_eq(gw_object_make(&m.head, m.raw, 1, m.object, room, &m.bytes), GW_OK);
    cr_assert_leq(m.bytes, room);
    return m;
}

static void made_free(struct made *m)
{
    free(m->raw);
    free(m->object);
}

/* Reads all of it from bytes that may be wrong: true only if all is as it was made. A wrong byte
 * that is given as right fails the test. */
static bool reads_right(const struct made *m, const uint8_t *bytes, size_t n)
{
    struct gw_object_head head;
    struct gw_object_frame frames[64];
    if (gw_object_read_head(bytes, n, &head, frames, 64) != GW_OK)
        return false;
    bool right = true;
    uint8_t *room = malloc(head.frame_bytes);
    cr_assert_eq(head.raw_bytes, m->head.raw_bytes);
    for (uint32_t i = 0; i < head.frames; i++) {
        size_t got = 0;
        if (frames[i].offset + frames[i].bytes > n ||
            gw_object_read_frame(&head, &frames[i], i, bytes + frames[i].offset, frames[i].bytes,
                                 room, &got) != GW_OK) {
            right = false;
            continue;
        }
        uint64_t from = (uint64_t)i * head.frame_bytes;
        cr_assert_leq(from + got, m->head.raw_bytes);
        cr_assert_eq(memcmp(room, m->raw + from, got), 0, "wrong bytes of frame %u", i);
    }
    free(room);
    return right;
}

Test(object, gives_back_what_went_in)
{
    static const uint64_t sizes[] = {1, 4096, 16384, 16385, 100000, 262144, 500001};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (uint32_t frame = GW_OBJECT_FRAME_MIN; frame <= (64u << 10); frame *= 2)
            for (enum content c = ZEROS; c < CONTENTS; c++) {
                struct made m = make_one(sizes[s], frame, c);
                cr_assert(reads_right(&m, m.object, m.bytes));
                struct gw_object_head head;
                cr_assert_eq(gw_object_read_head(m.object, GW_OBJECT_HEADER, &head, NULL, 0),
                             GW_OK);
                cr_assert_eq(head.frames, m.head.frames);
                cr_assert_eq(head.object_bytes, m.bytes);
                cr_assert_eq(head.cluster, 7);
                cr_assert_eq(head.incarnation, 4);
                if (c != NOISE && sizes[s] >= 16384)
                    cr_assert_lt(m.bytes, sizes[s], "nothing was compressed");
                made_free(&m);
            }
}

Test(object, no_flipped_bit_gives_other_bytes)
{
    for (enum content c = ZEROS; c < CONTENTS; c++) {
        struct made m = make_one(70000, GW_OBJECT_FRAME_MIN, c);
        size_t head = gw_object_head_bytes(70000, GW_OBJECT_FRAME_MIN);
        struct gw_object_frame frames[8];
        struct gw_object_head h;
        cr_assert_eq(gw_object_read_head(m.object, m.bytes, &h, frames, 8), GW_OK);
        uint32_t pads = 0;
        for (size_t i = 0; i < m.bytes; i += i < head ? 1 : 7) {
            bool in_frame = i < head;
            for (uint32_t f = 0; f < h.frames; f++)
                in_frame |= i >= frames[f].offset && i < frames[f].offset + frames[f].bytes;
            m.object[i] ^= (uint8_t)(1u << i % 8);
            bool right = reads_right(&m, m.object, m.bytes);
            cr_assert(right == !in_frame, "byte %zu of %zu: %d", i, m.bytes, right);
            pads += !in_frame;
            m.object[i] ^= (uint8_t)(1u << i % 8);
        }
        cr_assert_lt(pads, 100); /* padding alone is nobody's */
        made_free(&m);
    }
}

Test(object, no_cut_end_is_taken_for_whole)
{
    struct made m = make_one(50000, GW_OBJECT_FRAME_MIN, TEXT);
    for (size_t n = 0; n + 8 < m.bytes; n += n < 400 ? 1 : 37) {
        uint8_t *cut = malloc(n ? n : 1); /* the sanitizer sees what is read behind it */
        memcpy(cut, m.object, n);
        cr_assert_not(reads_right(&m, cut, n), "%zu of %zu bytes", n, m.bytes);
        free(cut);
    }
    made_free(&m);
}

/* As somebody would write it who knows the checksums. */
static enum gw_status with_word(const struct made *m, size_t at, uint64_t word, size_t bytes)
{
    uint8_t *copy = malloc(m->bytes);
    memcpy(copy, m->object, m->bytes);
    memcpy(copy + at, &word, bytes);
    gw_store32(copy + GW_OBJECT_HEADER - 4, gw_crc32c(0, copy, GW_OBJECT_HEADER - 4));
    size_t index = (size_t)m->head.frames * 16;
    gw_store32(copy + GW_OBJECT_HEADER + index, gw_crc32c(0, copy + GW_OBJECT_HEADER, index));
    struct gw_object_head head;
    struct gw_object_frame frames[64];
    enum gw_status status = gw_object_read_head(copy, m->bytes, &head, frames, 64);
    free(copy);
    return status;
}

Test(object, hostile_heads_are_refused)
{
    struct made m = make_one(50000, GW_OBJECT_FRAME_MIN, TEXT);
    cr_assert_eq(with_word(&m, 8, 1, 8), GW_OK); /* another cluster: not for the format to say */
    cr_assert_eq(with_word(&m, 4, 2, 2), GW_E_VERSION);
    cr_assert_eq(with_word(&m, 6, 40, 2), GW_E_CORRUPT);              /* page bits */
    cr_assert_eq(with_word(&m, 24, UINT64_MAX - 5, 8), GW_E_CORRUPT); /* addresses that wrap */
    cr_assert_eq(with_word(&m, 32, 0, 8), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, 32, UINT64_MAX, 8), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, 40, 0, 4), GW_E_CORRUPT); /* frame bytes */
    cr_assert_eq(with_word(&m, 40, 16385, 4), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, 44, 3, 4), GW_E_CORRUPT); /* frames */
    cr_assert_eq(with_word(&m, 44, UINT32_MAX, 4), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, 56, m.bytes + 8, 8), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, 100, 1, 1), GW_E_CORRUPT); /* zeros */
    cr_assert_eq(with_word(&m, GW_OBJECT_HEADER, 0, 4), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, GW_OBJECT_HEADER, UINT32_MAX, 4), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, GW_OBJECT_HEADER + 4, 0, 4), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, GW_OBJECT_HEADER + 4, 16385, 4), GW_E_CORRUPT);
    cr_assert_eq(with_word(&m, GW_OBJECT_HEADER + 4, UINT32_MAX, 4), GW_E_CORRUPT);
    struct gw_object_head head;
    struct gw_object_frame frames[3];
    cr_assert_eq(gw_object_read_head(m.object, m.bytes, &head, frames, 3), GW_E_CORRUPT);
    made_free(&m);
}

Test(object, sizes_that_cannot_be_are_refused)
{
    uint8_t room[1024] = {0}, raw[16] = {0};
    size_t bytes;
    struct gw_object_head head = {.raw_bytes = 16, .frame_bytes = GW_OBJECT_FRAME_MIN};
    cr_assert_eq(gw_object_make(&head, raw, 1, room, 100, &bytes), GW_E_INVALID);
    head.frame_bytes = 1000;
    cr_assert_eq(gw_object_make(&head, raw, 1, room, sizeof room, &bytes), GW_E_INVALID);
    head.frame_bytes = GW_OBJECT_FRAME_MIN;
    head.raw_bytes = 0;
    cr_assert_eq(gw_object_make(&head, raw, 1, room, sizeof room, &bytes), GW_E_INVALID);
    head.raw_bytes = GW_OBJECT_EXTENT_MAX + 1;
    cr_assert_eq(gw_object_make(&head, raw, 1, room, sizeof room, &bytes), GW_E_INVALID);
}
