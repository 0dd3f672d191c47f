/* slots.c - a set of slots as a bitmap, as text and on the wire.
 * The text comes from people and the wire form from peers: both are checked and answered. */
#include "index/base/slots.h"

#include <stdio.h>
#include <string.h>

#include "index/base/assert.h"

#define WORDS (GW_SLOTS / 64)

void gw_slots_clear(struct gw_slots *s)
{
    memset(s, 0, sizeof *s);
}

void gw_slots_add_range(struct gw_slots *s, uint16_t first, uint16_t last)
{
    GW_ASSERT(first <= last);
    GW_ASSERT(last < GW_SLOTS);
    for (uint32_t word = first / 64; word <= last / 64u; word++) {
        uint64_t mask = ~(uint64_t)0;
        if (word == first / 64u)
            mask &= ~(uint64_t)0 << (first & 63);
        if (word == last / 64u)
            mask &= ~(uint64_t)0 >> (63 - (last & 63));
        s->word[word] |= mask;
    }
}

uint32_t gw_slots_count(const struct gw_slots *s)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < WORDS; i++)
        count += (uint32_t)__builtin_popcountll(s->word[i]);
    return count;
}

bool gw_slots_overlap(const struct gw_slots *a, const struct gw_slots *b)
{
    for (uint32_t i = 0; i < WORDS; i++)
        if (a->word[i] & b->word[i])
            return true;
    return false;
}

bool gw_slots_contains(const struct gw_slots *whole, const struct gw_slots *part)
{
    for (uint32_t i = 0; i < WORDS; i++)
        if (part->word[i] & ~whole->word[i])
            return false;
    return true;
}

/* The first slot at or above `at` whose bit is `set`; GW_SLOTS if there is none. */
static uint32_t find(const struct gw_slots *s, uint32_t at, bool set)
{
    while (at < GW_SLOTS) {
        uint64_t word = set ? s->word[at / 64] : ~s->word[at / 64];
        word &= ~(uint64_t)0 << (at & 63);
        if (word)
            return at / 64 * 64 + (uint32_t)__builtin_ctzll(word);
        at = at / 64 * 64 + 64;
    }
    return GW_SLOTS;
}

bool gw_slots_next_run(const struct gw_slots *s, uint32_t *at, uint16_t *first, uint16_t *last)
{
    uint32_t start = find(s, *at, true);
    if (start == GW_SLOTS) {
        *at = GW_SLOTS;
        return false;
    }
    uint32_t end = find(s, start, false);
    *first = (uint16_t)start;
    *last = (uint16_t)(end - 1);
    *at = end;
    return true;
}

/* Reads a decimal number at *text. False if there is none, or it is no slot. */
static bool parse_slot(const char **text, uint16_t *slot)
{
    const char *p = *text;
    uint32_t value = 0;
    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++) {
        value = value * 10 + (uint32_t)(*p - '0');
        if (value >= GW_SLOTS)
            return false;
    }
    *text = p;
    *slot = (uint16_t)value;
    return true;
}

static bool parse_run(const char *text, const char *end, uint16_t *first, uint16_t *last)
{
    if (!parse_slot(&text, first))
        return false;
    *last = *first;
    if (*text == '-') {
        text++;
        if (!parse_slot(&text, last))
            return false;
    }
    return text == end && *first <= *last;
}

enum gw_status gw_slots_parse(const char *text, struct gw_slots *out, char *error,
                              size_t error_bytes)
{
    struct gw_slots slots;
    gw_slots_clear(&slots);
    for (const char *part = text;; part++) {
        const char *end = strchrnul(part, ',');
        uint16_t first, last;
        if (!parse_run(part, end, &first, &last)) {
            if (error && error_bytes) {
                size_t len = (size_t)(end - part);
                snprintf(error, error_bytes,
                         "'%.*s' is not a slot or a range of slots: expected A or A-B with "
                         "0 <= A <= B <= %u",
                         len > 40 ? 40 : (int)len, part, GW_SLOTS - 1);
            }
            return GW_E_INVALID;
        }
        gw_slots_add_range(&slots, first, last);
        part = end;
        if (*part == '\0')
            break;
    }
    *out = slots;
    return GW_OK;
}

void gw_slots_format(const struct gw_slots *s, char *room, size_t room_bytes)
{
    static const char cut[] = "...";
    GW_ASSERT(room_bytes >= sizeof cut);
    room[0] = '\0';
    size_t used = 0;
    size_t safe = 0; /* how far the text may go and still have room for the dots */
    uint32_t at = 0;
    uint16_t first, last;
    while (gw_slots_next_run(s, &at, &first, &last)) {
        char run[16];
        int n = first == last ? snprintf(run, sizeof run, "%s%u", used ? "," : "", first)
                              : snprintf(run, sizeof run, "%s%u-%u", used ? "," : "", first, last);
        if (used + (size_t)n >= room_bytes) {
            memcpy(room + safe, cut, sizeof cut);
            return;
        }
        memcpy(room + used, run, (size_t)n + 1);
        used += (size_t)n;
        if (used + sizeof cut <= room_bytes)
            safe = used;
    }
}

void gw_slots_encode(const struct gw_slots *s, struct gw_writer *w)
{
    uint8_t *count = gw_write_room(w, 2);
    uint16_t runs = 0;
    uint32_t at = 0;
    uint16_t first, last;
    while (gw_slots_next_run(s, &at, &first, &last)) {
        gw_write16(w, first);
        gw_write16(w, last);
        runs++;
    }
    if (count)
        gw_store16(count, runs);
}

void gw_slots_decode(struct gw_reader *r, struct gw_slots *out)
{
    gw_slots_clear(out);
    uint32_t runs = gw_read16(r);
    uint32_t least = 0; /* runs ascend and do not touch: one set has one wire form */
    for (uint32_t i = 0; i < runs && !r->bad; i++) {
        uint16_t first = gw_read16(r);
        uint16_t last = gw_read16(r);
        if (r->bad || first < least || last < first || last >= GW_SLOTS) {
            r->bad = true;
            break;
        }
        gw_slots_add_range(out, first, last);
        least = (uint32_t)last + 2;
    }
    if (r->bad)
        gw_slots_clear(out);
}
