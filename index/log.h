/* log.h - the hybrid log: a ring of page frames in memory, its boundaries, and its way to a device.
 *
 *   begin <= head <= flushed <= flushable <= safe_read_only <= read_only <= tail
 *
 * At or above read_only records change in place. Between safe_read_only and read_only is the fuzzy
 * region: some threads may still change in place there, so who replaces a record seals it first.
 * Below safe_read_only nothing changes; below `flushable`, one epoch later, not even a seal
 * (ENGINE H5). Below `flushed` pages are on the device, below head they are only there; below begin
 * a record is not at all.
 *
 * With a device, or in cache mode, read_only follows the tail at a distance. Without both,
 * read_only moves only when it is asked to, head moves with begin, and when the frames are used up
 * and compaction makes no room an allocation is answered GW_E_FULL, once for each that does not
 * fit: smaller ones may still fit the last page.
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
#define GW_LOG_OFFSET_BITS 36 /* tail word: page 28 | cut 1 | offset 35 */
/* In the tail word: the page's start is the newest cut (log_cut.c). */
#define GW_LOG_TAIL_CUT    ((uint64_t)1 << (GW_LOG_OFFSET_BITS - 1))
#define GW_LOG_OFFSET_MASK (GW_LOG_TAIL_CUT - 1)
/* In the cut word: the low bits of the cut's name; the rest is its address, a page's start. */
#define GW_LOG_CUT_NAME  ((uint64_t)0xffff)
#define GW_LOG_PAGES_MAX ((uint64_t)1 << 28)

/* The first bytes of every page. Written when the page becomes the tail's; used_units when it is
 * left; the checksum when it goes to a device. */
struct gw_log_page_header {
    uint32_t magic;
    uint16_t format, page_bits;
    uint64_t address;
    uint64_t store_id;
    uint32_t incarnation, used_units, checkpoint_version;
    uint8_t zeros[24];
    uint32_t crc; /* CRC32C of the 60 bytes before it */
};
static_assert(sizeof(struct gw_log_page_header) == GW_LOG_PAGE_HEADER,
              "the page header is 64 bytes");

struct gwi_frame_io;

struct gw_log {
    uint8_t *frames;
    uint64_t ring_bytes, page_bytes;
    uint64_t first_page; /* the page that frame 0 held first */
    uint32_t page_bits, frames_count;
    enum gw_memory_kind pages;
    struct gw_epoch *epoch;   /* borrowed for the log's life */
    struct gw_device *device; /* borrowed; NULL: none */
    bool evict;
    struct gwi_frame_io *io; /* one a frame */
    uint64_t store_id;       /* for the page headers */
    uint32_t incarnation;
    /* log_resume.c; never changes once other threads use the log. Pages below `resumed` are of
     * earlier incarnations: 0, or the first page's start. Those in a gap do not exist. */
    uint64_t resumed;
    struct gw_addr_range *gaps; /* owned; rising, whole pages, none below the begin of the start */
    uint32_t gaps_count;

    /* page << 36 | cut | offset; by fetch-add and CAS. Publishes nothing: records are published by
     * index entries. The offset may pass the page's end while the page is being turned. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t tail;
    /* Pages at or above this one have no frame; rises an epoch after head did, sinks when frames
     * are to be given up. */
    _Atomic uint64_t page_limit;
    _Atomic uint32_t reserve;  /* the last frames: not for users, half of them for deletes */
    _Atomic bool user_full;    /* compaction says: no new page for users */
    _Atomic bool delete_full;  /* nor for deletes */
    _Atomic bool compact_full; /* nor for compaction: the rest is for the cut of a checkpoint */
    _Atomic bool room_coming;  /* it says: but there will be some soon */
    /* What it knew when it said so: the tail's page << 32 | frames_target; UINT64_MAX: nobody
     * compacts. */
    _Atomic uint64_t looked;
    _Atomic bool asked;       /* for frames that it may have again if it cannot spare them */
    _Atomic bool device_full; /* the device refuses the next page, or fails to write any */
    /* Bytes behind the last records of all closed pages at or above begin: neither live nor to be
     * had back. */
    _Atomic int64_t waste;
    _Atomic int64_t cut_waste; /* bytes that cuts have left empty behind them; only rises */

    /* Each only rises. Written by the epoch's triggers and by shifts, read once a batch. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t begin;
    _Atomic uint64_t head, safe_read_only, read_only, flushable, flushed;
    _Atomic uint64_t cut;  /* log_cut.c: address of the newest cut | low bits of its name */
    _Atomic uint32_t full; /* the last allocation that wanted room got none */
    /* Of the newest cut, or of one that is about to begin: number << 1 | parity of their count. */
    _Atomic uint64_t cut_name;

    /* log_flush.c */
    _Alignas(GW_CACHE_LINE) _Atomic uint32_t busy; /* somebody maintains: all below is his */
    _Atomic uint64_t freed;         /* pages below this one have given up their frames */
    _Atomic uint32_t frames_target; /* frames that the log may have */
    _Atomic uint64_t held_limit;    /* page_limit, or what it was while it is being lowered */
    _Atomic uint32_t head_moving;   /* a trigger that frees (1) or takes (2) frames is on its way */
    uint64_t head_target;           /* where it goes */
    uint64_t write_next;            /* pages from here on were not offered to the device yet */
    uint32_t *writes_of;            /* by queue, each its own thread's: on their way */
    _Atomic uint32_t writes;        /* on their way, all queues */
    _Atomic uint32_t shifts;        /* of read_only, on their way */
    _Atomic uint64_t pages_written, writes_failed;
    _Atomic uint32_t failures; /* writes that have failed since the last one that succeeded */
};

/* A thread's copy of the boundaries: loaded after entering the epoch, good until it leaves. It may
 * be loaded again in between: boundaries only rise, what an older copy of them allowed to follow
 * stays where it is until the thread leaves, and whoever relies on all having loaded a boundary
 * waits for the thread to leave, whatever it has loaded. */
struct gw_log_view {
    uint64_t begin, head, safe_read_only;
    uint64_t read_only; /* not below the cut: who has loaded a cut changes nothing below it */
    uint64_t cut;       /* the word: address | low bits of the name */
    uint64_t fresh;     /* the tail at that time: what lies below was there before */
    uint64_t parity;    /* of the cut: GW_CONTROL_PARITY or 0, for what is changed after it */
    uint64_t aging;     /* records below it that are read get a second chance, when pages leave */
    uint64_t origin;    /* start of the lap of the ring in which head lies */
    gw_addr reference;  /* for widening */
    uint8_t *frames;
    uint64_t ring_bytes;
};

/* start: the first address, cut to a page. The log borrows the epoch. GW_E_INVALID: fewer than two
 * pages, or addresses that the tail word cannot hold; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_log_create(struct gw_epoch *epoch, uint64_t bytes, uint32_t page_bits,
                                         uint64_t start, struct gw_log **out);
/* Before the first allocation: from now on full pages go to the device (NULL: none), or, with
 * evict, are dropped. GW_E_INVALID: fewer than GW_LOG_FRAMES_MIN pages; GW_E_NOMEM. */
#define GW_LOG_FRAMES_MIN     6u
#define GW_LOG_FRAMES_COMPACT 8u /* a log of fewer in memory has none to spare for compaction */
GW_MUST_USE enum gw_status gw_log_attach(struct gw_log *log, struct gw_device *device, bool evict);
void gw_log_destroy(struct gw_log *log); /* requires: no write is on its way */

void gw_log_view_load(struct gw_log *log, struct gw_log_view *view);
/* Has a cut begun that the view does not know? Ask after what may lie above it was acquired: an
 * allocation, or the entry that leads to a record. */
static inline bool gw_log_cut_is_newer(const struct gw_log *log, const struct gw_log_view *view)
{
    /* Relaxed: log_cut.c, 3. */
    return GW_UNLIKELY(atomic_load_explicit(&log->cut, memory_order_relaxed) != view->cut);
}
static inline uint64_t gw_log_cut_address(const struct gw_log_view *view)
{
    return view->cut & ~GW_LOG_CUT_NAME;
}
/* The whole number of the cut that the view knows. */
uint64_t gw_log_cut_number(const struct gw_log *log, const struct gw_log_view *view);
/* Cuts the log: *end is the start of a page, everything allocated so far lies below it, everything
 * later at or above. Outside of the epoch; one thread at a time. Requires: `number` is above the
 * last one's by less than 2^15. GW_E_BUSY: what lies below the last cut has not been flushed;
 * GW_RETRY: no page is to be had now, or others were in the way: nothing has happened;
 * GW_E_UNSUPPORTED: there is no device. */
GW_MUST_USE enum gw_status gw_log_cut(struct gw_log *log, uint64_t number, gw_addr *end);
/* The number of the cut that came before the first one of this process. Before any other use. */
void gw_log_cut_resume(struct gw_log *log, uint64_t number);

/* Room for a record of `units` x 16 bytes at the tail; its words are not cleared. Requires: inside
 * the epoch; the caller fills all of it or makes it void before it leaves. A record lies above
 * every address that the caller had read before. GW_E_FULL: no page has room and none will get some
 * by itself; GW_NOT_YET: room is being made, or nobody has looked yet whether it can be: try again
 * after leaving the epoch and a turn; GW_RETRY: others were in the way a bounded number of times.
 */
GW_MUST_USE enum gw_status gw_log_allocate(struct gw_log *log, uint64_t units, gw_addr *out);
/* The same for work that makes room: compaction takes from the reserve, deletes from half of it. */
GW_MUST_USE enum gw_status gw_log_allocate_reserved(struct gw_log *log, uint64_t units,
                                                    gw_addr *out);
GW_MUST_USE enum gw_status gw_log_allocate_delete(struct gw_log *log, uint64_t units, gw_addr *out);
/* Makes a log that nobody uses yet, created at `resume` and attached, the continuation of an image
 * whose records lie in [begin, end) without its gaps: begin as said, one more gap up to the log's
 * first page, `waste` bytes as in struct gw_log. Gaps below begin are left out, those given are
 * copied. GW_E_INVALID: addresses that contradict one another; GW_E_LIMIT: more gaps than
 * `gaps_max`; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_log_resume(struct gw_log *log, gw_addr begin, gw_addr end,
                                          const struct gw_addr_range *gaps, uint32_t gaps_count,
                                          uint32_t gaps_max, int64_t waste);
/* The first page at or above this one that exists, or will. */
uint64_t gwi_log_page_from(const struct gw_log *log, uint64_t page);
/* Where the pages end that follow `page`, which exists, without a gap; UINT64_MAX: nowhere. */
uint64_t gwi_log_page_gap(const struct gw_log *log, uint64_t page);
/* Pages of [from, to) that do not exist. */
uint64_t gwi_log_pages_missing(const struct gw_log *log, uint64_t from, uint64_t to);

/* Says that an allocated record will never be published; scans step over it. */
void gw_log_void(struct gw_record *record, uint64_t units);

/* Raises read_only to `to` (not above the tail, never down), then safe_read_only and flushable by
 * one trigger each. GW_E_FULL: no trigger is free; the fuzzy region stays until a later shift.
 * GW_E_NOMEM: nothing changed. */
GW_MUST_USE enum gw_status gw_log_shift_read_only(struct gw_log *log, gw_addr to);
/* Raises begin: whatever lies below is no more. Not above safe_read_only. Frames below it are free
 * an epoch later (gw_log_maintain sees to it). Trimming the device is the caller's, an epoch later.
 */
void gw_log_raise_begin(struct gw_log *log, gw_addr to);

/* A bounded share of the log's own work: shifts read_only, writes pages, raises head when frames
 * are wanted. Any thread, outside of the epoch, once a turn; one at a time gets in, others return
 * at once. `queue` is the caller's at the device. True: there is more to do at once. */
bool gw_log_maintain(struct gw_log *log, uint32_t queue);
/* Writes that this queue has on their way. */
uint32_t gw_log_writes(const struct gw_log *log, uint32_t queue);

/* What it keeps whatever it may have: compaction goes on where nothing else makes room. */
uint32_t gw_log_frames_least(const struct gw_log *log);
/* The log may have this many frames (cut to gw_log_frames_least .. all). When it has more, it gives
 * up those that wait for the tail, and others as head rises. */
/* asked: it is not settled yet whether it has to; until then nobody is told that it is full. */
void gw_log_frames_allow(struct gw_log *log, uint64_t frames, bool asked);
/* Frames that it has now: no other page has memory. */
uint64_t gw_log_frames_held(const struct gw_log *log);
/* Has it more than it may have, and will it give some of them up by itself? *held: what it has, as
 * of the answer (others may give it more at any time). Requires: inside the epoch. */
bool gw_log_frames_coming(const struct gw_log *log, uint64_t *held);

gw_addr gw_log_tail(const struct gw_log *log);
uint64_t gw_log_record_bytes_max(const struct gw_log *log);

/* A page's frame. Requires: the page has one (head's page <= page < page_limit). */
static inline struct gw_log_page_header *gw_log_page(const struct gw_log *log, uint64_t page)
{
    uint64_t frame = (page - log->first_page) % log->frames_count;
    return (struct gw_log_page_header *)(log->frames + (frame << log->page_bits));
}

/* Where an address lies in memory. Requires: view.head <= at. */
static inline struct gw_record *gw_log_at(const struct gw_log_view *view, gw_addr at)
{
    uint64_t offset = at.v - view->origin;
    if (GW_UNLIKELY(offset >= view->ring_bytes))
        offset -= view->ring_bytes;
    return (struct gw_record *)(view->frames + offset);
}
#endif
