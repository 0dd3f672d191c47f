/* Goal: what a checkpoint writes of its state is read back as it was, and no other bytes are.
 * How: states with everything in them, encoded into memory; then each byte changed, each length
 * cut; fields that contradict one another, sealed with good checksums. */
#include "server/state_file.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "index/base/checksum.h"

struct file {
    uint8_t bytes[8192];
    size_t n;
    uint32_t puts, fails_at; /* fails_at 0: never */
};

static enum gw_status put(void *ctx, const void *bytes, size_t n)
{
    struct file *f = ctx;
    if (++f->puts == f->fails_at)
        return GW_E_FULL;
    cr_assert_leq(f->n + n, sizeof f->bytes);
    memcpy(f->bytes + f->n, bytes, n);
    f->n += n;
    return GW_OK;
}

static const struct gw_addr_range gaps[] = {{{3 << 20}, {8 << 20}}, {{9 << 20}, {16 << 20}}};
static const uint64_t mixed[] = {7, 9, UINT64_MAX, 1};
static const uint8_t part_a[] = "some sessions", part_b[] = "16 bytes of them";
static const struct gwi_state_part parts[] = {{part_a, 13, 0}, {NULL, 0, 0}, {part_b, 16, 0}};

static struct gwi_state sample(void)
{
    struct gwi_state s = {
        .store_id = 0x1122334455667788,
        .server_id = "server-7",
        .incarnation = 5,
        .cluster = 99,
        .view = 12,
        .created_ms = 1700000000000,
        .segment_bytes = 8 << 20,
        .page_bits = 20,
        .hash_seed_check = 0xabcdef,
        .forgotten = 3,
        .image = {.number = 42,
                  .begin = {1 << 20},
                  .end = {20 << 20},
                  .version_highest = 77,
                  .expiry_ms = 5,
                  .keys = 1000,
                  .live_bytes = -1,
                  .waste = 12,
                  .expires = true,
                  .gaps = gaps,
                  .gaps_count = 2},
        .index = {.number = 40, .start = {19 << 20}, .blocks = 3, .crc = 1, .view = 11},
        .mixed = mixed,
        .mixed_count = 4,
        .parts = parts,
        .parts_count = 3};
    return s;
}

static struct file encoded(const struct gwi_state *s)
{
    struct file f = {.n = 0};
    cr_assert_eq(gwi_state_encode(s, put, &f), GW_OK);
    return f;
}

/* Both checksums of a file whose numbers were changed: as who made it on purpose would. */
static void seal(struct file *f)
{
    uint64_t n = gw_load64(f->bytes + 24);
    gw_store32(f->bytes + 32 + n, gw_crc32c(0, f->bytes + 32, n));
    gw_store32(f->bytes + f->n - 4, gw_crc32c(0, f->bytes, f->n - 4));
}

static enum gw_status decode(const struct file *f)
{
    /* A copy of exactly this length: sanitizers see who reads behind it. */
    uint8_t *copy = malloc(f->n + 1);
    char why[GWI_STATE_WHY];
    struct gwi_state s = {0};
    memcpy(copy, f->bytes, f->n);
    enum gw_status st = gwi_state_decode(copy, f->n, &s, why);
    cr_expect_eq(st == GW_OK, why[0] == 0, "%s", why);
    gwi_state_fini(&s);
    free(copy);
    return st;
}

static void expect_same(const struct gwi_state *a, const struct gwi_state *b)
{
    cr_expect_eq(a->store_id, b->store_id);
    cr_expect_str_eq(a->server_id, b->server_id);
    cr_expect_eq(a->incarnation, b->incarnation);
    cr_expect_eq(a->cluster, b->cluster);
    cr_expect_eq(a->view, b->view);
    cr_expect_eq(a->created_ms, b->created_ms);
    cr_expect_eq(a->segment_bytes, b->segment_bytes);
    cr_expect_eq(a->page_bits, b->page_bits);
    cr_expect_eq(a->hash_seed_check, b->hash_seed_check);
    cr_expect_eq(a->forgotten, b->forgotten);
    cr_expect_eq(a->image.number, b->image.number);
    cr_expect_eq(a->image.begin.v, b->image.begin.v);
    cr_expect_eq(a->image.end.v, b->image.end.v);
    cr_expect_eq(a->image.version_highest, b->image.version_highest);
    cr_expect_eq(a->image.expiry_ms, b->image.expiry_ms);
    cr_expect_eq(a->image.keys, b->image.keys);
    cr_expect_eq(a->image.live_bytes, b->image.live_bytes);
    cr_expect_eq(a->image.waste, b->image.waste);
    cr_expect_eq(a->image.expires, b->image.expires);
    cr_expect_eq(a->index.number, b->index.number);
    cr_expect_eq(a->index.start.v, b->index.start.v);
    cr_expect_eq(a->index.blocks, b->index.blocks);
    cr_expect_eq(a->index.crc, b->index.crc);
    cr_expect_eq(a->index.view, b->index.view);
    cr_assert_eq(a->image.gaps_count, b->image.gaps_count);
    cr_expect_eq(memcmp(a->image.gaps, b->image.gaps, a->image.gaps_count * sizeof gaps[0]), 0);
    cr_assert_eq(a->mixed_count, b->mixed_count);
    cr_expect_eq(memcmp(a->mixed, b->mixed, a->mixed_count * 8), 0);
}

Test(state_file, what_was_written_is_read)
{
    struct gwi_state s = sample(), read, copy;
    struct file f = encoded(&s);
    char why[GWI_STATE_WHY];
    cr_assert_eq(gwi_state_decode(f.bytes, f.n, &read, why), GW_OK, "%s", why);
    expect_same(&read, &s);
    cr_assert_eq(read.parts_count, 3);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(read.parts[i].n, parts[i].n);
        cr_expect(parts[i].n == 0 || memcmp(read.parts[i].bytes, parts[i].bytes, parts[i].n) == 0);
    }
    cr_assert_eq(gwi_state_copy(&read, &copy), GW_OK);
    gwi_state_fini(&read);
    memset(f.bytes, 0, sizeof f.bytes); /* a copy borrows nothing */
    expect_same(&copy, &s);
    cr_expect_eq(copy.parts_count, 0);
    gwi_state_fini(&copy);
}

Test(state_file, a_state_with_nothing_in_it)
{
    struct gwi_state s = {.store_id = 1,
                          .server_id = "A",
                          .page_bits = 16,
                          .segment_bytes = 1 << 16,
                          .image.number = 1,
                          .mixed_count = UINT64_MAX},
                     read;
    struct file f = encoded(&s);
    char why[GWI_STATE_WHY];
    cr_assert_eq(gwi_state_decode(f.bytes, f.n, &read, why), GW_OK, "%s", why);
    cr_expect_eq(read.mixed_count, UINT64_MAX);
    cr_expect_eq(read.parts_count, 0);
    gwi_state_fini(&read);
}

Test(state_file, every_changed_bit_and_every_cut_is_found)
{
    struct gwi_state s = sample();
    struct file good = encoded(&s);
    for (size_t i = 0; i < good.n; i++)
        for (int bit = 0; bit < 8; bit += 3) {
            struct file f = good;
            f.bytes[i] ^= (uint8_t)(1 << bit);
            enum gw_status st = decode(&f);
            cr_expect(st == GW_E_CORRUPT || st == GW_E_VERSION, "byte %zu, bit %d: %s", i, bit,
                      gw_status_name(st));
        }
    for (size_t n = 0; n < good.n; n++) {
        struct file f = good;
        f.n = n;
        cr_expect_eq(decode(&f), GW_E_CORRUPT, "%zu bytes", n);
    }
    struct file f = good;
    f.bytes[f.n++] = 0;
    cr_expect_eq(decode(&f), GW_E_CORRUPT, "a byte more");
}

Test(state_file, numbers_that_contradict_one_another_are_refused_whatever_the_checksums_say)
{
    static const struct {
        const char *what;
        uint32_t field; /* of the numbers */
        uint64_t value;
    } cases[] = {
        {"page bits too low", 6, 3},
        {"page bits too high", 6, 40},
        {"number 0", 9, 0},
        {"begin behind the end", 10, 21 << 20},
        {"an end within a page", 11, (20 << 20) + 64},
        {"expires is no bool", 17, 2},
        {"an index newer than the image", 18, 43},
        {"an index that begins behind the image", 19, 21 << 20},
        {"more parts than there are", 23, 4},
        {"fewer parts than there are", 23, 2},
        {"parts beyond all memory", 23, UINT32_MAX},
        {"chains beyond all memory", 24, UINT64_MAX - 1},
        {"chains that are not there", 24, 5},
        {"gaps beyond the bound", 25, GW_STORE_GAPS_MAX + 1},
        {"gaps that are not there", 25, 3},
        {"an incarnation of 33 bits", 1, UINT64_C(1) << 32},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct gwi_state s = sample();
        struct file f = encoded(&s);
        gw_store64(f.bytes + 32 + 64 + 8 * cases[i].field, cases[i].value);
        seal(&f);
        cr_expect_eq(decode(&f), GW_E_CORRUPT, "%s", cases[i].what);
    }
    struct gwi_state s = sample();
    struct file f = encoded(&s);
    seal(&f);
    cr_expect_eq(decode(&f), GW_OK, "sealing by itself changes nothing");
    gw_store32(f.bytes + 8, 2);
    seal(&f);
    cr_expect_eq(decode(&f), GW_E_VERSION);
}

Test(state_file, gaps_that_overlap_or_lie_beyond_the_image_are_refused)
{
    static const struct gw_addr_range overlap[] = {{{3 << 20}, {8 << 20}}, {{7 << 20}, {9 << 20}}};
    static const struct gw_addr_range beyond[] = {{{3 << 20}, {21 << 20}}};
    struct gwi_state s = sample();
    s.image.gaps = overlap;
    struct file f = encoded(&s);
    cr_expect_eq(decode(&f), GW_E_CORRUPT);
    s.image.gaps = beyond;
    s.image.gaps_count = 1;
    f = encoded(&s);
    cr_expect_eq(decode(&f), GW_E_CORRUPT);
}

Test(state_file, a_write_that_fails_ends_the_encoding)
{
    struct gwi_state s = sample();
    struct file good = encoded(&s);
    for (uint32_t i = 1; i <= good.puts; i++) {
        struct file f = {.fails_at = i};
        cr_expect_eq(gwi_state_encode(&s, put, &f), GW_E_FULL, "put %u", i);
        cr_expect_eq(f.puts, i, "it goes on behind a failure");
    }
}

Test(state_file, names_say_their_number_and_others_none)
{
    char name[64];
    cr_expect_eq(gwi_state_number(gwi_state_name(0x123456789, name)), 0x123456789);
    cr_expect_eq(gwi_index_number(gwi_index_name(1, name)), 1);
    static const char *const bad[] = {"",
                                      "state-",
                                      "state-0000000000000001.gwc.tmp",
                                      "state-000000000000001.gwc",
                                      "state-000000000000000G.gwc",
                                      "index-0000000000000001.gwi",
                                      "xstate-0000000000000001.gwc"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_eq(gwi_state_number(bad[i]), 0, "%s", bad[i]);
}
