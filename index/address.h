/* address.h - places in the log: 64-bit byte addresses, never reused, and the 42 bits of 16-byte
 * units that index entries and records hold of them (ENGINE H14).
 *
 * Widening is the only way back from 42 bits: against a reference at or above every address that
 * can be met, so that the window is the 64 TiB up to it. A reader takes the tail it loaded after
 * entering the epoch plus GW_ADDR_LEAD: other threads append while it runs, but never as much as
 * that. Plain values, any thread. Layer: index. */
#ifndef GW_INDEX_ADDRESS_H
#define GW_INDEX_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#define GW_ADDR_UNIT_BITS 4
#define GW_ADDR_UNIT      16u
#define GW_ADDR_BITS      42
#define GW_ADDR_MASK      (((uint64_t)1 << GW_ADDR_BITS) - 1)
#define GW_ADDR_WINDOW    ((uint64_t)1 << (GW_ADDR_BITS + GW_ADDR_UNIT_BITS)) /* 64 TiB */
#define GW_ADDR_LEAD      ((uint64_t)1 << 40) /* more than a log's memory, far less than the window */

typedef struct {
    uint64_t v;
} gw_addr;

static inline gw_addr gw_addr_of(uint64_t v)
{
    return (gw_addr){v};
}

/* Addresses from `from` on and below `to`. */
struct gw_addr_range {
    gw_addr from, to;
};

/* The 42 bits of an address. 0 never names a record: pages begin with a header, and a page's
 * start is the only place where they could be 0. */
static inline uint64_t gw_addr_narrow(gw_addr a)
{
    return (a.v >> GW_ADDR_UNIT_BITS) & GW_ADDR_MASK;
}

/* The one address in (reference - 64 TiB, reference] with these 42 bits. Results below the log's
 * start (a wrapped subtraction included) are the caller's to compare with `begin`. */
static inline gw_addr gw_addr_widen(uint64_t narrow, gw_addr reference)
{
    uint64_t back = ((reference.v >> GW_ADDR_UNIT_BITS) - narrow) & GW_ADDR_MASK;
    return (gw_addr){((reference.v >> GW_ADDR_UNIT_BITS) - back) << GW_ADDR_UNIT_BITS};
}
#endif
