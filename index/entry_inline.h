/* entry_inline.h - the index entry: one 64-bit word (ENGINE section 2).
 *
 *   63-50 slot | 49-44 six hash bits | 43-42 state | 41-0 address / 16, low 42 bits
 *
 * The whole word 0 is an empty place. A live entry's top 22 bits are its tag with state 0, so one
 * compare of them finds only live matches. The six hash bits are those that follow the smallest
 * table of this store (table_inline.h keeps the position): they say, without reading a record, to
 * which child of a split bucket an entry goes. Plain values; the words themselves are atomic and
 * live in buckets. Layer: index. */
#ifndef GW_INDEX_ENTRY_INLINE_H
#define GW_INDEX_ENTRY_INLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "index/address.h"

enum gw_entry_state {
    GW_ENTRY_LIVE = 0,
    GW_ENTRY_TENTATIVE = 1,
    GW_ENTRY_FROZEN = 2,        /* growth: this word has been or is being copied */
    GW_ENTRY_NEVER_WRITTEN = 3, /* growth: with all other bits one */
};

#define GW_ENTRY_TAG_SHIFT     42
#define GW_ENTRY_STATE_SHIFT   42
#define GW_ENTRY_TENTATIVE_BIT ((uint64_t)GW_ENTRY_TENTATIVE << GW_ENTRY_STATE_SHIFT)

/* The top 22 bits of a live entry of this slot and these hash bits. */
static inline uint64_t gw_entry_tag(uint16_t slot, uint32_t hash_bits)
{
    return (uint64_t)slot << 8 | (uint64_t)(hash_bits & 63) << 2;
}
static inline uint64_t gw_entry_make(uint64_t tag, gw_addr address)
{
    return tag << GW_ENTRY_TAG_SHIFT | gw_addr_narrow(address);
}
/* True for a live entry with this tag; an empty word with tag 0 is told apart by its address. */
static inline bool gw_entry_matches(uint64_t entry, uint64_t tag)
{
    return entry >> GW_ENTRY_TAG_SHIFT == tag && entry != 0;
}
static inline uint64_t gw_entry_narrow(uint64_t entry)
{
    return entry & GW_ADDR_MASK;
}
static inline uint16_t gw_entry_slot(uint64_t entry)
{
    return (uint16_t)(entry >> 50);
}
static inline uint32_t gw_entry_hash_bits(uint64_t entry)
{
    return (uint32_t)(entry >> 44) & 63;
}
static inline enum gw_entry_state gw_entry_state(uint64_t entry)
{
    return (enum gw_entry_state)((entry >> GW_ENTRY_STATE_SHIFT) & 3);
}
static inline bool gw_entry_is_live(uint64_t entry)
{
    return entry != 0 && gw_entry_state(entry) == GW_ENTRY_LIVE;
}
#endif
