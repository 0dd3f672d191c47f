/* state_file.c - writing and reading a checkpoint's state; see state_file.h.
 *
 * Rules: 1. Encoding hands out pieces, so that sessions are never copied together. 2. Decoding
 * checks the checksum of the whole before it believes anything, and every length against what is
 * left all the same: a checksum is no proof against a file that was made on purpose. */
#include "server/state_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "index/base/checksum.h"
#include "server/session_image.h"

enum { SECTION_NUMBERS = 1, SECTION_GAPS, SECTION_MIXED, SECTION_SESSIONS, SECTION_OPTIONAL = 128 };

#define HEAD_BYTES    16u
#define SECTION_BYTES 16u
#define END_BYTES     8u
#define NUMBERS_BYTES (64u + 29u * 8u)
#define MIXED_PORTION 512u

/* ---- writing ----------------------------------------------------------------------------------
 */

struct out {
    gwi_state_put put;
    void *ctx;
    uint32_t file_crc, section_crc;
    uint64_t section_bytes;
};

static enum gw_status put(struct out *o, const void *bytes, size_t n)
{
    if (n == 0)
        return GW_OK;
    o->file_crc = gw_crc32c(o->file_crc, bytes, n);
    return o->put(o->ctx, bytes, n);
}

static enum gw_status section_begin(struct out *o, uint32_t type, uint64_t bytes)
{
    uint8_t head[SECTION_BYTES] = {0};
    gw_store32(head, type);
    gw_store64(head + 8, bytes);
    o->section_crc = 0;
    o->section_bytes = bytes;
    return put(o, head, sizeof head);
}

static enum gw_status section_put(struct out *o, const void *bytes, size_t n)
{
    if (n == 0)
        return GW_OK;
    o->section_crc = gw_crc32c(o->section_crc, bytes, n);
    return put(o, bytes, n);
}

/* Checksum and zeros, so that the next section begins at a multiple of 8. */
static size_t tail_bytes(uint64_t bytes)
{
    return 4 + (size_t)((8 - (bytes + 4) % 8) % 8);
}

static enum gw_status section_end(struct out *o)
{
    uint8_t tail[12] = {0};
    gw_store32(tail, o->section_crc);
    return put(o, tail, tail_bytes(o->section_bytes));
}

static void numbers_encode(const struct gwi_state *s, uint8_t *room)
{
    struct gw_writer w = gw_writer_of(room, NUMBERS_BYTES);
    char id[64] = {0};
    memcpy(id, s->server_id, strnlen(s->server_id, sizeof id - 1));
    gw_write_bytes(&w, id, sizeof id);
    const uint64_t numbers[] = {s->store_id,
                                s->incarnation,
                                s->cluster,
                                s->view,
                                s->created_ms,
                                s->segment_bytes,
                                s->page_bits,
                                s->hash_seed_check,
                                s->forgotten,
                                s->image.number,
                                s->image.begin.v,
                                s->image.end.v,
                                s->image.version_highest,
                                s->image.expiry_ms,
                                (uint64_t)s->image.keys,
                                (uint64_t)s->image.live_bytes,
                                (uint64_t)s->image.waste,
                                s->image.expires,
                                s->index.number,
                                s->index.start.v,
                                s->index.blocks,
                                s->index.crc,
                                s->index.view,
                                s->parts_count,
                                s->mixed_count,
                                s->image.gaps_count};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        gw_write64(&w, numbers[i]);
    memset(w.at, 0, gw_writer_left(&w)); /* room for more */
}

static enum gw_status put_section(struct out *o, uint32_t type, const void *bytes, size_t n)
{
    enum gw_status st = section_begin(o, type, n);
    if (st == GW_OK)
        st = section_put(o, bytes, n);
    return st == GW_OK ? section_end(o) : st;
}

static enum gw_status put_gaps(struct out *o, const struct gw_store_image *image)
{
    enum gw_status st = section_begin(o, SECTION_GAPS, (uint64_t)image->gaps_count * 16);
    for (uint32_t i = 0; st == GW_OK && i < image->gaps_count; i++) {
        uint8_t room[16];
        gw_store64(room, image->gaps[i].from.v);
        gw_store64(room + 8, image->gaps[i].to.v);
        st = section_put(o, room, sizeof room);
    }
    return st == GW_OK ? section_end(o) : st;
}

static uint64_t mixed_listed(const struct gwi_state *s)
{
    return s->mixed_count == UINT64_MAX ? 0 : s->mixed_count;
}

static enum gw_status put_mixed(struct out *o, const struct gwi_state *s)
{
    uint64_t count = mixed_listed(s);
    enum gw_status st = section_begin(o, SECTION_MIXED, count * 8);
    /* Little-endian words in memory are the file's (bytes.h refuses other machines). */
    for (uint64_t at = 0; st == GW_OK && at < count; at += MIXED_PORTION) {
        uint64_t n = count - at < MIXED_PORTION ? count - at : MIXED_PORTION;
        st = section_put(o, s->mixed + at, n * 8);
    }
    return st == GW_OK ? section_end(o) : st;
}

enum gw_status gwi_state_encode(const struct gwi_state *s, gwi_state_put fn, void *ctx)
{
    struct out o = {.put = fn, .ctx = ctx};
    uint8_t head[HEAD_BYTES], numbers[NUMBERS_BYTES], end[END_BYTES];
    memcpy(head, GWI_STATE_MAGIC, 8);
    gw_store32(head + 8, GWI_STATE_FORMAT);
    gw_store32(head + 12, 3 + s->parts_count);
    numbers_encode(s, numbers);
    enum gw_status st = put(&o, head, sizeof head);
    if (st == GW_OK)
        st = put_section(&o, SECTION_NUMBERS, numbers, sizeof numbers);
    if (st == GW_OK)
        st = put_gaps(&o, &s->image);
    if (st == GW_OK)
        st = put_mixed(&o, s);
    for (uint32_t i = 0; st == GW_OK && i < s->parts_count; i++)
        st = put_section(&o, SECTION_SESSIONS, s->parts[i].bytes, s->parts[i].n);
    if (st != GW_OK)
        return st;
    memcpy(end, "end.", 4);
    gw_store32(end + 4, gw_crc32c(o.file_crc, end, 4));
    return fn(ctx, end, sizeof end);
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static enum gw_status wrong(char *why, const char *text)
{
    snprintf(why, GWI_STATE_WHY, "%s", text);
    return GW_E_CORRUPT;
}

struct section {
    uint32_t type;
    const uint8_t *bytes;
    uint64_t n;
};

static bool next_section(struct gw_reader *r, struct section *out)
{
    out->type = gw_read32(r);
    uint32_t zero = gw_read32(r);
    out->n = gw_read64(r);
    if (r->bad || zero != 0 || out->n > gw_reader_left(r))
        return false;
    out->bytes = gw_read_bytes(r, out->n);
    const uint8_t *tail = gw_read_bytes(r, tail_bytes(out->n));
    if (!out->bytes || !tail || gw_load32(tail) != gw_crc32c(0, out->bytes, out->n))
        return false;
    for (size_t i = 4; i < tail_bytes(out->n); i++)
        if (tail[i] != 0)
            return false;
    return true;
}

static bool fits32(uint64_t v)
{
    return v <= UINT32_MAX;
}

/* Numbers that contradict one another were not written by us. */
static bool numbers_decode(const struct section *section, struct gwi_state *s)
{
    if (section->type != SECTION_NUMBERS || section->n < NUMBERS_BYTES)
        return false;
    struct gw_reader r = gw_reader_of(section->bytes, section->n);
    const uint8_t *id = gw_read_bytes(&r, sizeof s->server_id);
    memcpy(s->server_id, id, sizeof s->server_id);
    if (s->server_id[sizeof s->server_id - 1] != 0)
        return false;
    uint64_t n[26];
    for (size_t i = 0; i < sizeof n / sizeof n[0]; i++)
        n[i] = gw_read64(&r);
    s->store_id = n[0];
    s->incarnation = (uint32_t)n[1];
    s->cluster = n[2];
    s->view = n[3];
    s->created_ms = n[4];
    s->segment_bytes = n[5];
    s->page_bits = (uint32_t)n[6];
    s->hash_seed_check = (uint32_t)n[7];
    s->forgotten = n[8];
    s->image.number = n[9];
    s->image.begin = gw_addr_of(n[10]);
    s->image.end = gw_addr_of(n[11]);
    s->image.version_highest = (uint32_t)n[12];
    s->image.expiry_ms = n[13];
    s->image.keys = (int64_t)n[14];
    s->image.live_bytes = (int64_t)n[15];
    s->image.waste = (int64_t)n[16];
    s->image.expires = n[17] == 1;
    s->index.number = n[18];
    s->index.start = gw_addr_of(n[19]);
    s->index.blocks = n[20];
    s->index.crc = (uint32_t)n[21];
    s->index.view = n[22];
    s->parts_count = (uint32_t)n[23];
    s->mixed_count = n[24];
    s->image.gaps_count = (uint32_t)n[25];
    if (r.bad || !fits32(n[1]) || !fits32(n[12]) || !fits32(n[21]) || !fits32(n[23]) || n[17] > 1 ||
        n[25] > GW_STORE_GAPS_MAX || !fits32(n[7]))
        return false;
    if (n[6] < GW_STORE_PAGE_BITS_MIN || n[6] > GW_STORE_PAGE_BITS_MAX || s->image.number == 0)
        return false;
    uint64_t page = UINT64_C(1) << s->page_bits;
    if (n[10] > n[11] || n[11] % page != 0 || s->segment_bytes % page != 0)
        return false;
    return s->index.number == 0 || (s->index.number <= s->image.number && n[19] <= n[11]);
}

static bool gaps_decode(const struct section *section, struct gwi_state *s,
                        struct gw_addr_range *gaps)
{
    if (section->type != SECTION_GAPS || section->n != (uint64_t)s->image.gaps_count * 16)
        return false;
    uint64_t before = 0;
    for (uint32_t i = 0; i < s->image.gaps_count; i++) {
        uint64_t from = gw_load64(section->bytes + 16 * i);
        uint64_t to = gw_load64(section->bytes + 16 * i + 8);
        if (from < before || to < from || to > s->image.end.v)
            return false;
        before = to;
        gaps[i] = (struct gw_addr_range){gw_addr_of(from), gw_addr_of(to)};
    }
    return true;
}

/* One block for gaps, names and parts, once their numbers are known to lie within the file. */
static enum gw_status make_room(struct gwi_state *s, size_t file_bytes, struct gw_addr_range **gaps,
                                uint64_t **mixed, struct gwi_state_part **parts, char *why)
{
    uint64_t listed = mixed_listed(s);
    if (listed > file_bytes / 8 || s->image.gaps_count > file_bytes / 16 ||
        s->parts_count > file_bytes / SECTION_BYTES)
        return wrong(why, "it claims more than it can hold");
    size_t a = s->image.gaps_count * sizeof **gaps, b = (size_t)listed * 8;
    uint8_t *room = malloc(a + b + s->parts_count * sizeof **parts + 1);
    if (!room)
        return GW_E_NOMEM;
    s->owned = room;
    *gaps = (struct gw_addr_range *)(void *)room;
    *mixed = (uint64_t *)(void *)(room + a);
    *parts = (struct gwi_state_part *)(void *)(room + a + b);
    s->image.gaps = *gaps;
    s->mixed = *mixed;
    s->parts = *parts;
    return GW_OK;
}

static enum gw_status sections_decode(struct gw_reader *r, uint32_t sections, size_t file_bytes,
                                      struct gwi_state *s, char *why)
{
    struct section section;
    struct gw_addr_range *gaps = NULL;
    uint64_t *mixed = NULL;
    struct gwi_state_part *parts = NULL;
    if (sections < 3 || !next_section(r, &section) || !numbers_decode(&section, s))
        return wrong(why, "its numbers are damaged");
    enum gw_status st = make_room(s, file_bytes, &gaps, &mixed, &parts, why);
    if (st != GW_OK)
        return st;
    if (!next_section(r, &section) || !gaps_decode(&section, s, gaps))
        return wrong(why, "its list of gaps is damaged");
    if (!next_section(r, &section) || section.type != SECTION_MIXED ||
        section.n != mixed_listed(s) * 8)
        return wrong(why, "its list of chains is damaged");
    memcpy(mixed, section.bytes, section.n);
    uint32_t found = 0;
    for (uint32_t i = 3; i < sections; i++) {
        if (!next_section(r, &section))
            return wrong(why, "a section is damaged");
        if (section.type >= SECTION_OPTIONAL)
            continue;
        if (section.type != SECTION_SESSIONS || found == s->parts_count)
            return wrong(why, "it has a section that this version does not know");
        parts[found++] = (struct gwi_state_part){section.bytes, section.n, 0};
    }
    return found == s->parts_count ? GW_OK : wrong(why, "sessions are missing");
}

enum gw_status gwi_state_decode(const uint8_t *bytes, size_t n, struct gwi_state *out, char *why)
{
    struct gwi_state s = {0};
    why[0] = 0;
    if (n < HEAD_BYTES + END_BYTES || memcmp(bytes, GWI_STATE_MAGIC, 8) != 0)
        return wrong(why, "it is no state file, or cut short");
    uint32_t format = gw_load32(bytes + 8), sections = gw_load32(bytes + 12);
    if (format != GWI_STATE_FORMAT) {
        snprintf(why, GWI_STATE_WHY, "it is of format %" PRIu32 ", this version reads %u", format,
                 GWI_STATE_FORMAT);
        return GW_E_VERSION;
    }
    const uint8_t *end = bytes + n - END_BYTES;
    if (memcmp(end, "end.", 4) != 0)
        return wrong(why, "it is cut short");
    if (gw_load32(end + 4) != gw_crc32c(0, bytes, n - 4))
        return wrong(why, "its checksum is wrong");
    struct gw_reader r = gw_reader_of(bytes + HEAD_BYTES, n - HEAD_BYTES - END_BYTES);
    enum gw_status st = sections_decode(&r, sections, n, &s, why);
    if (st == GW_OK && gw_reader_left(&r) != 0)
        st = wrong(why, "there is something behind its last section");
    if (st != GW_OK) {
        free(s.owned);
        return st;
    }
    *out = s;
    return GW_OK;
}

enum gw_status gwi_state_copy(const struct gwi_state *from, struct gwi_state *out)
{
    struct gwi_state s = *from;
    struct gw_addr_range *gaps;
    uint64_t *mixed;
    struct gwi_state_part *parts;
    char why[GWI_STATE_WHY];
    s.parts_count = 0;
    s.owned = NULL;
    enum gw_status st = make_room(&s, SIZE_MAX, &gaps, &mixed, &parts, why);
    if (st != GW_OK)
        return st;
    if (s.image.gaps_count)
        memcpy(gaps, from->image.gaps, s.image.gaps_count * sizeof *gaps);
    if (mixed_listed(&s))
        memcpy(mixed, from->mixed, mixed_listed(&s) * 8);
    *out = s;
    return GW_OK;
}

void gwi_state_fini(struct gwi_state *s)
{
    free(s->owned);
    memset(s, 0, sizeof *s);
}

/* ---- names ------------------------------------------------------------------------------------
 */

const char *gwi_state_name(uint64_t number, char *room)
{
    snprintf(room, 64, "state-%016" PRIx64 ".gwc", number);
    return room;
}

const char *gwi_index_name(uint64_t number, char *room)
{
    snprintf(room, 64, "index-%016" PRIx64 ".gwi", number);
    return room;
}

/* PREFIX<16 hexadecimal digits>SUFFIX, without folder. */
static uint64_t number_of(const char *name, const char *prefix, const char *suffix)
{
    size_t before = strlen(prefix);
    if (strlen(name) != before + 16 + strlen(suffix) || strncmp(name, prefix, before) != 0 ||
        strcmp(name + before + 16, suffix) != 0 || strspn(name + before, "0123456789abcdef") < 16)
        return 0;
    return strtoull(name + before, NULL, 16);
}

uint64_t gwi_state_number(const char *name)
{
    return number_of(name, "state-", ".gwc");
}

uint64_t gwi_index_number(const char *name)
{
    return number_of(name, "index-", ".gwi");
}
