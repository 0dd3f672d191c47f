/* slots.h - a set of slots: a bitmap of 16,384 bits, its textual form "0-99,200,300-16383" and its
 * wire form (pairs of first and last slot). Plain value; no thread of its own. Layer: base. */
#ifndef GW_INDEX_BASE_SLOTS_H
#define GW_INDEX_BASE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/bytes.h"
#include "index/base/hash.h"
#include "index/base/status.h"

struct gw_slots {
    uint64_t word[GW_SLOTS / 64];
};

static inline bool gw_slots_has(const struct gw_slots *s, uint16_t slot)
{
    return (s->word[slot >> 6] >> (slot & 63)) & 1;
}
static inline void gw_slots_add(struct gw_slots *s, uint16_t slot)
{
    s->word[slot >> 6] |= (uint64_t)1 << (slot & 63);
}
static inline void gw_slots_remove(struct gw_slots *s, uint16_t slot)
{
    s->word[slot >> 6] &= ~((uint64_t)1 << (slot & 63));
}
void gw_slots_clear(struct gw_slots *s);
void gw_slots_add_range(struct gw_slots *s, uint16_t first, uint16_t last); /* inclusive */
uint32_t gw_slots_count(const struct gw_slots *s);
bool gw_slots_overlap(const struct gw_slots *a, const struct gw_slots *b);
bool gw_slots_contains(const struct gw_slots *whole, const struct gw_slots *part);
/* The next run of set slots at or above *at: fills first and last, moves *at behind it. False at
 * the end. Start with *at = 0. */
bool gw_slots_next_run(const struct gw_slots *s, uint32_t *at, uint16_t *first, uint16_t *last);

/* Parses "A-B[,C-D...]"; GW_E_INVALID leaves *out unchanged and, if error is not NULL, writes a
 * sentence that names the offending part and the limit into it. */
GW_MUST_USE enum gw_status gw_slots_parse(const char *text, struct gw_slots *out, char *error,
                                          size_t error_bytes);
/* Writes the textual form, cut to room with "..." when it does not fit; "" for the empty set. */
void gw_slots_format(const struct gw_slots *s, char *room, size_t room_bytes);

/* Wire form: u16 runs, then per run u16 first, u16 last. At most 2 + 4 * 8192 bytes. */
#define GW_SLOTS_WIRE_MAX (2 + 4 * (GW_SLOTS / 2))
void gw_slots_encode(const struct gw_slots *s, struct gw_writer *w);
/* Marks the reader bad on runs that are out of range, empty, unordered or overlapping. */
void gw_slots_decode(struct gw_reader *r, struct gw_slots *out);
#endif
