/* log.c - allocation at the tail, page turns, and the read-only shift.
 *
 * Rules:
 *  1. The tail word is tested before the fetch-add, so that its 36-bit offset cannot be driven out
 *     by threads that fail again and again (ENGINE H22).
 *  2. A page is turned by one CAS of the whole word, page | offset -> page + 1 | header, by whoever
 *     comes to it; losing that CAS means that somebody else got on. Who wins writes the new page's
 *     header: nobody needs it before a flush, which is epochs away. A cut turns the page too, and
 *     is not in the epoch: it keeps flushes away (log_cut.c).
 *  3. On the last page that has a frame, allocation is a CAS instead of a fetch-add: a record too
 *     large for the rest must not push the offset over the end, for smaller ones may still fit.
 *  4. Addresses only grow. An address is taken after everything that the caller has read before it
 *     was: a fetch-add on one word puts all allocations in one order (ENGINE H13).
 *  5. The read-only boundary goes up in three steps, one epoch apart each: read_only, then
 *     safe_read_only when every thread has loaded it, then flushable when every thread has loaded
 *     that. Sealing needs an address at or above the safe_read_only of one's own view, so below
 *     flushable no word changes (ENGINE H5).
 * Design: DESIGN section 4. */
#include "index/log.h"

#include <stdlib.h>
#include <string.h>

#include "index/log_internal.h"

#define ALLOCATE_TRIES 1024u
#define AGING_SHARE    8u /* of the memory: records that are read once more before they leave it */
#define OFFSET_MASK    GW_LOG_OFFSET_MASK

static_assert(((uint64_t)1 << 26) * 257 < OFFSET_MASK, "an overshoot by each of 256 threads fits");

static uint64_t tail_word(uint64_t page, uint64_t offset)
{
    return page << GW_LOG_OFFSET_BITS | offset;
}

/* Everything but used_units: who turned the page may be late, and others may have filled and closed
 * it by then. */
void gwi_log_page_open(struct gw_log *log, uint64_t page)
{
    struct gw_log_page_header *header = gw_log_page(log, page);
    header->magic = GW_LOG_PAGE_MAGIC;
    header->format = GW_LOG_PAGE_FORMAT;
    header->page_bits = (uint16_t)log->page_bits;
    header->address = page << log->page_bits;
    header->store_id = log->store_id;
    header->incarnation = log->incarnation;
    header->checkpoint_version = 0;
    memset(header->zeros, 0, sizeof header->zeros);
    header->crc = 0;
}

enum gw_status gw_log_create(struct gw_epoch *epoch, uint64_t bytes, uint32_t page_bits,
                             uint64_t start, struct gw_log **out)
{
    uint64_t frames = bytes >> page_bits;
    uint64_t page = start >> page_bits;
    if (frames < 2 || bytes > GW_ADDR_LEAD / 2 || page == 0 || page >= GW_LOG_PAGES_MAX - frames ||
        start > UINT64_MAX - bytes)
        return GW_E_INVALID;
    size_t size = (sizeof(struct gw_log) + GW_CACHE_LINE - 1) / GW_CACHE_LINE * GW_CACHE_LINE;
    struct gw_log *log = aligned_alloc(GW_CACHE_LINE, size);
    if (!log)
        return GW_E_NOMEM;
    memset(log, 0, size);
    log->page_bits = page_bits;
    log->page_bytes = (uint64_t)1 << page_bits;
    log->ring_bytes = frames << page_bits;
    log->epoch = epoch;
    void *memory = NULL;
    if (gw_memory_map(log->ring_bytes, &memory, &log->pages) != GW_OK) {
        free(log);
        return GW_E_NOMEM;
    }
    log->frames = memory;
    log->first_page = page;
    log->frames_count = (uint32_t)frames;
    log->write_next = page;
    uint64_t first = (page << page_bits) + GW_LOG_PAGE_HEADER;
    atomic_init(&log->begin, first);
    atomic_init(&log->head, first);
    atomic_init(&log->safe_read_only, first);
    atomic_init(&log->read_only, first);
    atomic_init(&log->flushable, first);
    atomic_init(&log->flushed, first);
    atomic_init(&log->freed, page);
    atomic_init(&log->frames_target, (uint32_t)frames);
    atomic_init(&log->page_limit, page + frames);
    atomic_init(&log->held_limit, page + frames);
    atomic_init(&log->tail, tail_word(page, GW_LOG_PAGE_HEADER));
    atomic_init(&log->looked, UINT64_MAX);
    atomic_init(&log->cut, (page << page_bits) & ~GW_LOG_CUT_NAME);
    if (gwi_log_flush_begin(log) != GW_OK) {
        gw_log_destroy(log);
        return GW_E_NOMEM;
    }
    gwi_log_page_open(log, page);
    *out = log;
    return GW_OK;
}

void gw_log_destroy(struct gw_log *log)
{
    if (!log)
        return;
    gwi_log_flush_end(log);
    free(log->gaps);
    gw_memory_unmap(log->frames, log->ring_bytes);
    free(log);
}

void gw_log_view_load(struct gw_log *log, struct gw_log_view *view)
{
    /* Acquire, all: they were raised by triggers whose effects we are to see. From the top down,
     * each only rises: the copy keeps begin <= head <= ... only if the lower ones are read first.
     */
    view->begin = atomic_load_explicit(&log->begin, memory_order_acquire);
    view->head = atomic_load_explicit(&log->head, memory_order_acquire);
    /* Both may have risen between the two loads. Without a device what has left memory is no more,
     * and nobody could read it. */
    if (!log->device && view->begin < view->head)
        view->begin = view->head;
    view->safe_read_only = atomic_load_explicit(&log->safe_read_only, memory_order_acquire);
    view->read_only = atomic_load_explicit(&log->read_only, memory_order_acquire);
    view->fresh = gwi_log_cut_view(log, view);
    view->reference = gw_addr_of(view->fresh + GW_ADDR_LEAD);
    view->frames = log->frames;
    view->ring_bytes = log->ring_bytes;
    uint64_t base = log->first_page << log->page_bits;
    view->origin = base + (view->head - base) / log->ring_bytes * log->ring_bytes;
    view->aging = view->head;
    if (log->evict && !log->device) {
        view->aging = view->safe_read_only;
    } else if (view->head >= base + log->page_bytes) { /* memory is used up: pages leave */
        uint64_t to = view->head + log->ring_bytes / AGING_SHARE;
        view->aging = to < view->safe_read_only ? to : view->safe_read_only;
    }
}

/* ---- allocation ---- */

/* Notes how far a page was used. Only one thread ends a page: the one whose CAS turned it from
 * within, or whose fetch-add stepped over its end. */
void gwi_log_page_close(struct gw_log *log, uint64_t page, uint64_t used)
{
    gw_log_page(log, page)->used_units = (uint32_t)(used / GW_ADDR_UNIT);
    /* Relaxed: a number. */
    atomic_fetch_add_explicit(&log->waste, (int64_t)(log->page_bytes - used), memory_order_relaxed);
}

/* Whose record it is decides how much of the last frames, and of the device, is his. */
enum whose { USERS, DELETES, COMPACTIONS };

/* How far he may go: on to the next page; on this page only; nowhere, for the page is one of those
 * kept for others. Who fills up the pages that compaction has opened takes from it what it needs to
 * make room, and then nobody ever gets any. */
enum reach { NEXT_PAGE, THIS_PAGE, NOWHERE };

/* Relaxed but for the limit: numbers. */
static enum reach reach_of(struct gw_log *log, uint64_t page, enum whose whose, uint64_t *limit)
{
    uint64_t keep = 0;
    /* Acquire: pairs with the release that makes the frame ours. */
    *limit = atomic_load_explicit(&log->page_limit, memory_order_acquire);
    if (whose == COMPACTIONS) {
        if (GW_UNLIKELY(atomic_load_explicit(&log->compact_full, memory_order_relaxed)))
            return THIS_PAGE;
    } else {
        keep = atomic_load_explicit(&log->reserve, memory_order_relaxed);
        _Atomic bool *refused = &log->user_full;
        if (whose == DELETES) {
            keep /= 2;
            refused = &log->delete_full;
        }
        if (atomic_load_explicit(refused, memory_order_relaxed))
            return NOWHERE;
    }
    if (GW_LIKELY(page + 1 + keep < *limit))
        return NEXT_PAGE;
    return page + keep < *limit || keep == 0 ? THIS_PAGE : NOWHERE;
}

bool gwi_log_room_coming(const struct gw_log *log)
{
    /* Acquire, and first: what else compaction says, and begin, are not older. Relaxed: what is
     * seen late is seen in the next turn. */
    bool coming = atomic_load_explicit(&log->room_coming, memory_order_acquire);
    coming |= (log->device || log->evict) &&
              !atomic_load_explicit(&log->device_full, memory_order_relaxed) &&
              !atomic_load_explicit(&log->user_full, memory_order_relaxed);
    /* Frames below begin come an epoch later. Acquire: who finds that they have come finds the
     * limit raised, too; pairs with head_freed. */
    return coming | (atomic_load_explicit(&log->begin, memory_order_relaxed) >> log->page_bits >
                     atomic_load_explicit(&log->freed, memory_order_acquire));
}

/* The answer when there is no page to go on to from `page`. That compaction has not said that there
 * will be room counts only once it has looked since the tail came to this page, and since the log
 * may have as many frames as it may: whoever was to look may have had no processor while others
 * filled several pages. Nor is it said while frames are asked for that it may keep. And what was
 * found against a limit that has changed since, or is about to rise, is not looked at further. */
static enum gw_status no_page(struct gw_log *log, uint64_t page, uint64_t limit)
{
    /* Acquire: `asked` as it was. And below: in the order in which they are asked. */
    uint32_t frames = atomic_load_explicit(&log->frames_target, memory_order_acquire);
    if (atomic_load_explicit(&log->asked, memory_order_relaxed) ||
        atomic_load_explicit(&log->looked, memory_order_acquire) >> 32 < page ||
        !gwi_log_looked_at(log, frames) || gwi_log_room_coming(log) ||
        atomic_load_explicit(&log->freed, memory_order_acquire) + frames > limit ||
        atomic_load_explicit(&log->page_limit, memory_order_acquire) != limit)
        return GW_NOT_YET;
    atomic_store_explicit(&log->full, 1, memory_order_relaxed); /* a statistic */
    return GW_E_FULL;
}

static enum gw_status allocate(struct gw_log *log, uint64_t units, enum whose whose, gw_addr *out)
{
    uint64_t bytes = units * GW_ADDR_UNIT;
    GW_ASSERT(bytes > 0 && bytes <= log->page_bytes - GW_LOG_PAGE_HEADER);
    /* Acquire and acq_rel where pages change hands: the word publishes no record. */
    uint64_t word = atomic_load_explicit(&log->tail, memory_order_acquire);
    for (uint32_t tries = 0; tries < ALLOCATE_TRIES; tries++) {
        uint64_t page = word >> GW_LOG_OFFSET_BITS, offset = word & OFFSET_MASK;
        uint64_t limit;
        enum reach reach = reach_of(log, page, whose, &limit);
        if (GW_UNLIKELY(reach == NOWHERE))
            return no_page(log, page, limit);
        if (offset + bytes <= log->page_bytes) {
            if (GW_UNLIKELY(reach == THIS_PAGE)) { /* rule 3 */
                if (!atomic_compare_exchange_weak_explicit(&log->tail, &word, word + bytes,
                                                           memory_order_acq_rel,
                                                           memory_order_acquire))
                    continue;
                if (atomic_load_explicit(&log->full, memory_order_relaxed))
                    atomic_store_explicit(&log->full, 0, memory_order_relaxed);
            } else {
                word = atomic_fetch_add_explicit(&log->tail, bytes, memory_order_acq_rel);
                page = word >> GW_LOG_OFFSET_BITS;
                offset = word & OFFSET_MASK;
            }
            if (GW_UNLIKELY(word & GW_LOG_TAIL_CUT))
                gwi_log_cut_met(log, page);
            if (GW_LIKELY(offset + bytes <= log->page_bytes)) {
                *out = gw_addr_of((page << log->page_bits) + offset);
                return GW_OK;
            }
            if (offset <= log->page_bytes) /* we, and only we, stepped over the end */
                gwi_log_page_close(log, page, offset);
            word = atomic_load_explicit(&log->tail, memory_order_acquire);
            continue;
        }
        if (reach == THIS_PAGE)
            return no_page(log, page, limit);
        if (GW_UNLIKELY(word & GW_LOG_TAIL_CUT)) /* before the mark goes */
            gwi_log_cut_met(log, page);
        if (atomic_compare_exchange_weak_explicit(&log->tail, &word,
                                                  tail_word(page + 1, GW_LOG_PAGE_HEADER),
                                                  memory_order_acq_rel, memory_order_acquire)) {
            if (offset <= log->page_bytes)
                gwi_log_page_close(log, page, offset);
            gwi_log_page_open(log, page + 1);
            word = atomic_load_explicit(&log->tail, memory_order_acquire);
        }
    }
    return GW_RETRY;
}

enum gw_status gw_log_allocate(struct gw_log *log, uint64_t units, gw_addr *out)
{
    return allocate(log, units, USERS, out);
}

enum gw_status gw_log_allocate_reserved(struct gw_log *log, uint64_t units, gw_addr *out)
{
    return allocate(log, units, COMPACTIONS, out);
}

enum gw_status gw_log_allocate_delete(struct gw_log *log, uint64_t units, gw_addr *out)
{
    return allocate(log, units, DELETES, out);
}

void gw_log_void(struct gw_record *record, uint64_t units)
{
    record->link = gw_record_link(units, 0);
    atomic_store_explicit(&record->control, gw_control_make(0, 0, 0, GW_RECORD_VOID, 0),
                          memory_order_release);
}

/* ---- boundaries ---- */

void gwi_log_raise(_Atomic uint64_t *boundary, uint64_t to)
{
    uint64_t now = atomic_load_explicit(boundary, memory_order_relaxed);
    while (now < to &&
           !atomic_compare_exchange_weak_explicit(boundary, &now, to, memory_order_release,
                                                  memory_order_relaxed)) {}
}

/* A shift on its way up; freed by its last step. */
struct shift {
    struct gw_log *log;
    uint64_t to;
    bool safe; /* the first trigger has run */
};

static void shift_step(void *arg)
{
    struct shift *shift = arg;
    if (!shift->safe) {
        gwi_log_raise(&shift->log->safe_read_only, shift->to);
        shift->safe = true;
        /* Full: safe_read_only stands, which is all that correctness needs; flushable is raised by
         * a later shift, which goes further. */
        if (gw_epoch_defer(shift->log->epoch, shift_step, shift) == GW_OK)
            return;
    } else {
        gwi_log_raise(&shift->log->flushable, shift->to);
    }
    /* Release: the boundary before it; pairs with follow_tail. */
    atomic_fetch_sub_explicit(&shift->log->shifts, 1, memory_order_release);
    free(shift);
}

enum gw_status gw_log_shift_read_only(struct gw_log *log, gw_addr to)
{
    gw_addr tail = gw_log_tail(log);
    if (to.v > tail.v)
        to = tail;
    struct shift *shift = malloc(sizeof *shift);
    if (!shift)
        return GW_E_NOMEM;
    *shift = (struct shift){log, to.v, false};
    /* The boundary first, then the epoch: whoever enters after the raise loads it. */
    if (atomic_load_explicit(&log->flushable, memory_order_acquire) >= to.v) {
        free(shift);
        return GW_OK;
    }
    gwi_log_raise(&log->read_only, to.v);
    atomic_fetch_add_explicit(&log->shifts, 1, memory_order_relaxed); /* a hint */
    if (gw_epoch_defer(log->epoch, shift_step, shift) != GW_OK) {
        /* The fuzzy region stays longer until a shift succeeds. */
        atomic_fetch_sub_explicit(&log->shifts, 1, memory_order_relaxed);
        free(shift);
        return GW_E_FULL;
    }
    return GW_OK;
}

gw_addr gw_log_tail(const struct gw_log *log)
{
    return gw_addr_of(
        gwi_log_address_of(log, atomic_load_explicit(&log->tail, memory_order_acquire)));
}

uint64_t gw_log_record_bytes_max(const struct gw_log *log)
{
    uint64_t bytes = log->page_bytes - GW_LOG_PAGE_HEADER;
    uint64_t most = GW_RECORD_UNITS_MAX * GW_ADDR_UNIT;
    return bytes < most ? bytes : most;
}
