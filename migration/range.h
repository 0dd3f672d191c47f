/* range.h - what both ends of a job share: how the range stands in a server's view, chunks of the
 * hash space, and the number that tells the sendings of a job apart.
 *
 * A chunk is all hashes with the same top `chunk_bits` bits, fixed when the job starts, whatever
 * the tables' sizes (MIGRATION R21). An attempt is one sending of a job by its source: raised
 * whenever it starts sending over; its upper 40 bits come from the source's incarnation, so that
 * what a dead process left behind in a connection is recognised, too (R12). Values; any thread.
 * Layer: migration. */
#ifndef GW_MIGRATION_RANGE_H
#define GW_MIGRATION_RANGE_H

#include <stdint.h>

/* What BEGIN_CUT wants the range's slots to be in the view that the server publishes. */
enum gw_range_state {
    GW_RANGE_FOREIGN = 0, /* somebody else's: operations are returned as moved */
    GW_RANGE_OWNED,       /* ours and settled */
    GW_RANGE_WAITING,     /* target: operations wait (for the commit, for "yours") */
    GW_RANGE_ARRIVING,    /* target: served; absent means unknown until the chunk is complete */
    GW_RANGE_LEAVING,     /* source: given away, its records frozen and still there for pulls */
};

static inline uint32_t gw_chunk_of(uint64_t hash, uint8_t chunk_bits)
{
    return (uint32_t)((hash >> 1) >> (63 - chunk_bits)); /* two shifts: chunk_bits may be 0 */
}
static inline uint64_t gw_chunk_first(uint32_t chunk, uint8_t chunk_bits)
{
    return chunk_bits == 0 ? 0 : (uint64_t)chunk << (64 - chunk_bits);
}
static inline uint64_t gw_chunk_last(uint32_t chunk, uint8_t chunk_bits)
{
    return gw_chunk_first(chunk, chunk_bits) | (UINT64_MAX >> chunk_bits);
}

#define GW_ATTEMPT_BITS 24u
static inline uint64_t gw_attempt_first(uint64_t incarnation)
{
    return incarnation << GW_ATTEMPT_BITS | 1;
}
/* Do both come from one life of the source? */
static inline int gw_attempt_same_life(uint64_t a, uint64_t b)
{
    return a >> GW_ATTEMPT_BITS == b >> GW_ATTEMPT_BITS;
}
#endif
