/* ram_device.h - a gw_device in memory for tests of what stands on one: the whole contract of
 * index/device.h, with completions that come late and out of order, failures on request, flipped
 * bits, a bound, and a check of the caller.
 *
 * It is strict, so that a caller's mistake is found here and not on a disk: it aborts (GW_ASSERT)
 * when a page is written twice, when `from` changes under way, when a range leaves its page or is
 * not aligned. Rooms of reads are filled with 0xEE at submission and with the bytes only when the
 * callback comes. Bytes read are verified against CRC32C of their blocks, taken when written.
 * A write below what was trimmed is answered GW_NOT_FOUND, without a callback.
 * Thread rule: as gw_device; the functions here by any thread. Everything takes one lock, so a race
 * in the caller can be hidden by it: races are looked for with the real device. */
#ifndef GW_TESTS_SUPPORT_RAM_DEVICE_H
#define GW_TESTS_SUPPORT_RAM_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "index/device.h"

struct gw_ram_device;

enum gw_ram_kind { GW_RAM_READ, GW_RAM_WRITE, GW_RAM_SYNC, GW_RAM_KINDS };

/* Zero: the default in brackets. */
struct gw_ram_device_options {
    uint32_t page_bits;       /* [16] */
    uint64_t segment_bytes;   /* whole pages [8 pages]: room is taken and freed in these */
    uint64_t limit_bytes;     /* [0: none]; a segment counts as its file would: header and tables */
    uint32_t queues;          /* [4] */
    uint32_t depth;           /* of a queue; beyond it GW_WOULD_BLOCK [512] */
    uint32_t delay_polls_max; /* a completion comes 1 to 1 + this polls after submission [0] */
    uint64_t seed;            /* of order and delays [1] */
    bool no_wait_fd;          /* wait_fd gives -1 */
    uint64_t log_id;          /* of a device with a shared tier, else 0: its pages stay readable for
                               * others when they are trimmed here */
};

/* Aborts when there is no memory. What is in flight at destroy gets no callback. */
struct gw_ram_device *gw_ram_device_create(const struct gw_ram_device_options *options);
void gw_ram_device_destroy(struct gw_ram_device *ram);
struct gw_device *gw_ram_device_face(struct gw_ram_device *ram);

/* Of the calls of this kind from now on the one after `skip` others, and the count - 1 after it,
 * come out as `status`: GW_WOULD_BLOCK, GW_E_FULL and GW_NOT_FOUND from the submission, others from
 * the callback. One such order at a time for a kind; count 0 ends it. */
void gw_ram_device_fail(struct gw_ram_device *ram, enum gw_ram_kind kind, uint64_t skip,
                        uint64_t count, enum gw_status status);
/* From now on every submission is answered GW_E_IO: the device has failed for good. */
void gw_ram_device_break(struct gw_ram_device *ram);
/* The machine has crashed: what was in flight gets no callback, and of the pages that no sync has
 * covered some are gone, by chance. Requires: nobody uses the device meanwhile. */
void gw_ram_device_crash(struct gw_ram_device *ram);
/* While held, calls of this kind are taken but do not come out. */
void gw_ram_device_hold(struct gw_ram_device *ram, enum gw_ram_kind kind, bool held);
/* Reads of our own below `below` come out as GW_E_UNREACHABLE from now on, as if it lay in an
 * object store that is away; 0 ends it. known: the face's `away` says so. */
void gw_ram_device_lose(struct gw_ram_device *ram, gw_addr below, bool known);
/* Flips a bit of what was written; false: nothing is written there. */
bool gw_ram_device_flip(struct gw_ram_device *ram, gw_addr at, uint32_t bit);
void gw_ram_device_limit(struct gw_ram_device *ram, uint64_t limit_bytes);

/* ---- a shared tier (log_id) ---- */

/* The device may read `other`'s pages, below what that shares, from now on. Lives as long. */
void gw_ram_device_know(struct gw_ram_device *ram, struct gw_ram_device *other);
/* All pages below `to` are with the others; they have been written. Only rises. */
void gw_ram_device_share(struct gw_ram_device *ram, gw_addr to);
/* Others find nothing below `below` any more: the objects are deleted. */
void gw_ram_device_delete(struct gw_ram_device *ram, gw_addr below);
uint64_t gw_ram_device_foreign_reads(struct gw_ram_device *ram);

uint32_t gw_ram_device_in_flight(struct gw_ram_device *ram, enum gw_ram_kind kind);
/* Pages that are written and not trimmed. */
uint64_t gw_ram_device_pages(struct gw_ram_device *ram);
uint64_t gw_ram_device_trimmed(struct gw_ram_device *ram);
/* The bytes of a written block, past all delays and injections; NULL if there is none. Good until
 * the page is trimmed. */
const uint8_t *gw_ram_device_peek(struct gw_ram_device *ram, gw_addr at);
#endif
