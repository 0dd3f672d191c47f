/* log.h - the hybrid log: a ring of page frames in memory, and its boundaries.
 *
 *   begin <= head <= safe_read_only <= read_only <= tail
 *
 * At or above read_only records change in place. Between safe_read_only and read_only is the fuzzy
 * region: some threads may still change in place there, so who replaces a record seals it first.
 * Below safe_read_only nothing changes; below `flushable`, one epoch later, not even a seal
 * (ENGINE H5). Below head a record is not in memory, below begin it is not at all.
 *
 * Without a device nothing leaves memory: begin and head stay at the start, read_only moves only
 * when it is asked to, and when the frames are used up an allocation is answered GW_E_FULL, once
 * for each that does not fit: smaller ones may still fit the last page.
 * Thread rule: any thread; addresses are followed inside the epoch, through a view loaded after
 * entering it. Layer: index. */
#ifndef GW_INDEX_LOG_H
#define GW_INDEX_LOG_H

#include <assert.h>
#include <stdatomic.h>

#include "index/address.h"
#include "index/base/assert.h"
#include "index/base/memory.h"
#include "index/base/status.h"
#include "index/epoch.h"
#include "index/record_inline.h"

#define GW_LOG_PAGE_HEADER 64u
#define GW_LOG_PAGE_MAGIC  0x50475747u /* "GWGP" */
#define GW_LOG_PAGE_FORMAT 1u
#define GW_LOG_OFFSET_BITS 36 /* tail word: page 28 | offset 36 */
#define GW_LOG_PAGES_MAX   ((uint64_t)1 << 28)

/* The first bytes of every page. Written when the page becomes the tail's; used_units when it is
 * left; the checksum belongs to whoever writes the page to a device. */
struct gw_log_page_header {
    uint32_t magic;
    uint16_t format, page_bits;
    uint64_t address;
    uint64_t store_id;
    uint32_t incarnation, used_units, checkpoint_version;
    uint8_t zeros[24];
    uint32_t crc;
};
static_assert(sizeof(struct gw_log_page_header) == GW_LOG_PAGE_HEADER,
              "the page header is 64 bytes");

struct gw_log {
    uint8_t *frames;
    uint64_t ring_bytes, page_bytes;
    uint32_t page_bits;
    enum gw_memory_kind pages;
    struct gw_epoch *epoch; /* borrowed for the log's life */

    /* page << 36 | offset; by fetch-add and CAS. Publishes nothing: records are published by index
     * entries. The offset may pass the page's end while the page is being turned. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t tail;
    /* Pages at or above this one have no frame; rises when head does. */
    _Atomic uint64_t page_limit;

    /* Each only rises. Written by the epoch's triggers and by shifts, read once a batch. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t begin;
    _Atomic uint64_t head, safe_read_only, read_only, flushable;
    /* Start of the lap of the ring in which head lies: frame offset = address - origin, less one
     * ring's length if it is beyond. */
    _Atomic uint64_t origin;
    _Atomic uint32_t full; /* the last allocation that wanted room got none */
};

/* A thread's copy of the boundaries: loaded after entering the epoch, good until it leaves. */
struct gw_log_view {
    uint64_t begin, head, safe_read_only, read_only, origin;
    gw_addr reference; /* for widening */
    uint8_t *frames;
    uint64_t ring_bytes;
};

/* start: the first address, cut to a page. The log borrows the epoch. GW_E_INVALID: fewer than two
 * pages, or addresses that the tail word cannot hold; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_log_create(struct gw_epoch *epoch, uint64_t bytes, uint32_t page_bits,
                                         uint64_t start, struct gw_log **out);
void gw_log_destroy(struct gw_log *log);

void gw_log_view_load(const struct gw_log *log, struct gw_log_view *view);

/* Room for a record of `units` x 16 bytes at the tail, its words zero. Requires: inside the epoch;
 * the caller fills it or makes it void before it leaves. A record lies above every address that
 * the caller had read before.
 * GW_E_FULL: no page has room; GW_RETRY: others were in the way a bounded number of times. */
GW_MUST_USE enum gw_status gw_log_allocate(struct gw_log *log, uint64_t units, gw_addr *out);
/* Says that an allocated record will never be published; scans step over it. */
void gw_log_void(struct gw_record *record, uint64_t units);

/* Raises read_only to `to` (not above the tail, never down), then safe_read_only and flushable by
 * one trigger each. GW_E_FULL: no trigger is free; the fuzzy region stays until a later shift.
 * GW_E_NOMEM: nothing changed. */
GW_MUST_USE enum gw_status gw_log_shift_read_only(struct gw_log *log, gw_addr to);

gw_addr gw_log_tail(const struct gw_log *log);
uint64_t gw_log_record_bytes_max(const struct gw_log *log);

/* Where an address lies in memory. Requires: view.head <= at. */
static inline struct gw_record *gw_log_at(const struct gw_log_view *view, gw_addr at)
{
    uint64_t offset = at.v - view->origin;
    if (GW_UNLIKELY(offset >= view->ring_bytes))
        offset -= view->ring_bytes;
    return (struct gw_record *)(view->frames + offset);
}
#endif
