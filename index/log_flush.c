/* log_flush.c - how pages leave memory: read_only follows the tail, pages below flushable are
 * written, head rises over what is written, and frames are used again.
 *
 * Rules:
 *  1. A page is written once it lies whole below flushable: two epochs after the last change in
 *     place and one after the last seal (ENGINE H5). What is written does not change any more.
 *  2. head rises only over pages that can be read back, or that begin has passed. Whoever loaded
 * the old head may still read their frames; one epoch later (head_freed) nobody does, and only then
 *     page_limit rises, so that the tail may use them.
 *  3. One thread at a time decides (`busy`); others pass by. The callbacks of writes come on the
 *     thread that submitted them, and only mark their page.
 *  4. A write that failed is offered again, the same page to the same place; until it succeeds
 *     neither flushed nor head pass it. When many in a row have failed users are answered as if
 *     there was no room, until one succeeds: they would wait for ever else.
 *  5. A page has its frame from the raise of page_limit until head_freed: page p lies in frame
 *     (p - first_page) mod frames_count, and page_limit <= freed + frames_count (but for the moment
 *     in which head_freed raises both), so no two pages that are alive share a frame. The log may
 *     be told to hold fewer frames than there are; frames above that number are given back to the
 *     system when head passes them, and get memory again before the tail comes to them.
 *  6. While it has more than it may have the tail gets no frame that becomes free; but where only
 *     compaction frees any the limit follows the tail as far as compaction's copies need it, or
 *     nothing would ever be freed again. Not so far that users could go on: they would take what is
 *     to be given up.
 * Design: DESIGN sections 4 and 5; FASTER (SIGMOD'18) section 5. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/checksum.h"
#include "index/device.h"
#include "index/log_internal.h"

#define WRITES_MAX      8u /* pages on their way to the device at the same time */
#define FREE_FRAMES_MAX 8u /* frames kept free for the tail, where there are many */
#define QUEUES_MAX      256u
#define FAILURES_MAX    16u /* writes in a row that failed: now users are told (rule 4) */

enum io_state { IO_NONE = 0, IO_WRITING, IO_WRITTEN, IO_FAILED };

struct gwi_frame_io {
    struct gw_log *log;
    uint32_t queue;
    _Atomic uint8_t state; /* WRITING -> WRITTEN, FAILED by the callback; else under `busy` */
    _Atomic bool released; /* its memory was given back to the system */
};

static struct gwi_frame_io *io_of(const struct gw_log *log, uint64_t page)
{
    return &log->io[(page - log->first_page) % log->frames_count];
}

enum gw_status gwi_log_flush_begin(struct gw_log *log)
{
    log->io = calloc(log->frames_count, sizeof *log->io);
    log->writes_of = calloc(QUEUES_MAX, sizeof *log->writes_of);
    if (!log->io || !log->writes_of)
        return GW_E_NOMEM;
    for (uint32_t i = 0; i < log->frames_count; i++)
        log->io[i].log = log;
    return GW_OK;
}

void gwi_log_flush_end(struct gw_log *log)
{
    free(log->io);
    free(log->writes_of);
}

enum gw_status gw_log_attach(struct gw_log *log, struct gw_device *device, bool evict)
{
    if ((device || evict) && log->frames_count < GW_LOG_FRAMES_MIN)
        return GW_E_INVALID;
    log->device = device;
    log->evict = evict;
    return GW_OK;
}

/* ---- how the frames are shared out ---- */

static uint32_t free_wanted(uint32_t frames)
{
    uint32_t n = frames / 16;
    return n < 2 ? 2 : n > FREE_FRAMES_MAX ? FREE_FRAMES_MAX : n;
}

/* Pages that change in place: nine tenths; in cache mode three quarters, the rest is where a record
 * that is read gets its second chance. Not so many that users never get beyond the reserve: as many
 * as are to be free must be able to leave. */
static uint32_t mutable_pages(const struct gw_log *log, uint32_t frames)
{
    uint32_t share = log->evict && !log->device ? frames / 4 * 3 : frames / 10 * 9;
    uint32_t others = free_wanted(frames) + 2 +
                      atomic_load_explicit(&log->reserve, memory_order_relaxed); /* a number */
    uint32_t most = frames > others ? frames - others : 1;
    return share == 0 ? 1 : share < most ? share : most;
}

uint32_t gw_log_frames_least(const struct gw_log *log)
{
    bool compacts = !log->device && !log->evict && log->frames_count >= GW_LOG_FRAMES_COMPACT;
    return compacts ? GW_LOG_FRAMES_COMPACT : GW_LOG_FRAMES_MIN;
}

void gw_log_frames_allow(struct gw_log *log, uint64_t frames, bool asked)
{
    if (frames < gw_log_frames_least(log))
        frames = gw_log_frames_least(log);
    if (frames > log->frames_count)
        frames = log->frames_count;
    if (atomic_load_explicit(&log->asked, memory_order_relaxed) != asked)
        atomic_store_explicit(&log->asked, asked, memory_order_relaxed);
    atomic_store_explicit(&log->frames_target, (uint32_t)frames, memory_order_release);
}

uint64_t gw_log_frames_held(const struct gw_log *log)
{
    /* Acquire: freed first, and then no older limit than it was raised with, so that it is never
     * above. */
    uint64_t freed = atomic_load_explicit(&log->freed, memory_order_acquire);
    return atomic_load_explicit(&log->held_limit, memory_order_relaxed) - freed;
}

uint32_t gw_log_writes(const struct gw_log *log, uint32_t queue)
{
    return log->writes_of[queue];
}

/* ---- writing ---- */

static void written(void *arg, enum gw_status status)
{
    struct gwi_frame_io *io = arg;
    io->log->writes_of[io->queue]--;
    struct gw_log *log = io->log;
    /* Relaxed, all: numbers, and what is seen late is seen in the next turn. */
    if (status != GW_OK) {
        atomic_fetch_add_explicit(&log->writes_failed, 1, memory_order_relaxed);
        if (atomic_fetch_add_explicit(&log->failures, 1, memory_order_relaxed) + 1 >= FAILURES_MAX)
            atomic_store_explicit(&log->device_full, true, memory_order_relaxed);
    } else {
        atomic_store_explicit(&log->failures, 0, memory_order_relaxed);
        if (atomic_load_explicit(&log->device_full, memory_order_relaxed))
            atomic_store_explicit(&log->device_full, false, memory_order_relaxed);
    }
    /* Release: pairs with the maintainer's acquire. */
    atomic_store_explicit(&io->state, status == GW_OK ? IO_WRITTEN : IO_FAILED,
                          memory_order_release);
    atomic_fetch_sub_explicit(&io->log->writes, 1, memory_order_release);
}

/* Offers a page to the device; false: not now. */
static bool page_write(struct gw_log *log, uint64_t page, uint32_t queue)
{
    struct gwi_frame_io *io = io_of(log, page);
    if (((page + 1) << log->page_bits) <=
        atomic_load_explicit(&log->begin, memory_order_acquire)) { /* nobody will ask for it */
        atomic_store_explicit(&io->state, IO_WRITTEN, memory_order_relaxed);
        return true;
    }
    struct gw_log_page_header *header = gw_log_page(log, page);
    header->crc = gw_crc32c(0, header, offsetof(struct gw_log_page_header, crc));
    io->queue = queue;
    atomic_store_explicit(&io->state, IO_WRITING, memory_order_relaxed);
    enum gw_status st = log->device->write(log->device, queue, gw_addr_of(page << log->page_bits),
                                           header, (uint32_t)log->page_bytes, written, io);
    if (st == GW_PENDING) {
        log->writes_of[queue]++;
        atomic_fetch_add_explicit(&log->writes, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&log->pages_written, 1, memory_order_relaxed);
        if (atomic_load_explicit(&log->failures, memory_order_relaxed) < FAILURES_MAX)
            atomic_store_explicit(&log->device_full, false, memory_order_relaxed);
        return true;
    }
    atomic_store_explicit(&io->state, IO_FAILED, memory_order_relaxed);
    if (st != GW_WOULD_BLOCK) /* no room, or broken: users are told, until it takes a page again */
        atomic_store_explicit(&log->device_full, true, memory_order_relaxed);
    return false;
}

static void flush(struct gw_log *log, uint32_t queue)
{
    uint64_t flushed = atomic_load_explicit(&log->flushed, memory_order_relaxed) >> log->page_bits;
    uint64_t end = atomic_load_explicit(&log->flushable, memory_order_acquire) >> log->page_bits;
    for (uint64_t p = flushed; p < end; p++) {
        /* Acquire: pairs with the callback's release. */
        uint8_t state = atomic_load_explicit(&io_of(log, p)->state, memory_order_acquire);
        if (state == IO_WRITING || (state == IO_WRITTEN && p < log->write_next))
            continue;
        if (atomic_load_explicit(&log->writes, memory_order_acquire) >= WRITES_MAX ||
            !page_write(log, p, queue))
            break;
        if (p >= log->write_next)
            log->write_next = p + 1;
    }
    while (flushed < log->write_next &&
           atomic_load_explicit(&io_of(log, flushed)->state, memory_order_acquire) == IO_WRITTEN)
        flushed++;
    gwi_log_raise(&log->flushed, flushed << log->page_bits);
}

/* ---- read_only ---- */

static void follow_tail(struct gw_log *log, uint64_t tail_page, uint32_t frames)
{
    uint64_t read_only = atomic_load_explicit(&log->read_only, memory_order_relaxed);
    uint64_t flushable = atomic_load_explicit(&log->flushable, memory_order_relaxed);
    uint64_t keep = mutable_pages(log, frames);
    uint64_t to = tail_page >= log->first_page + keep ? (tail_page - keep) << log->page_bits : 0;
    if (to <= read_only) {
        /* A step of an earlier shift found no trigger: go on from there. A cut raises read_only as
         * well, whether the tail moves or not. Acquire: pairs with the last step of a shift. */
        uint64_t cut = atomic_load_explicit(&log->cut, memory_order_acquire) & ~GW_LOG_CUT_NAME;
        to = log->device && cut > read_only ? cut : read_only;
        if (flushable >= to || atomic_load_explicit(&log->shifts, memory_order_acquire) != 0)
            return;
        flushable = atomic_load_explicit(&log->flushable, memory_order_relaxed);
        if (flushable >= to)
            return;
    }
    enum gw_status refused = gw_log_shift_read_only(log, gw_addr_of(to));
    (void)refused; /* the next turn tries again */
}

/* ---- head ---- */

static void head_freed(void *arg)
{
    struct gw_log *log = arg;
    uint64_t freed = atomic_load_explicit(&log->freed, memory_order_relaxed);
    uint64_t to = log->head_target;
    uint32_t target = atomic_load_explicit(&log->frames_target, memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&log->page_limit, memory_order_relaxed);
    for (uint64_t page = freed; page < to; page++) {
        struct gwi_frame_io *io = io_of(log, page);
        atomic_store_explicit(&io->state, IO_NONE, memory_order_relaxed);
        if (page + log->frames_count >= to + target &&
            gw_memory_release(gw_log_page(log, page), log->page_bytes) == GW_OK)
            atomic_store_explicit(&io->released, true, memory_order_relaxed);
    }
    uint64_t next = to + target;
    if (!log->device && !log->evict) { /* rule 6; never more frames than before */
        uint64_t tail =
            atomic_load_explicit(&log->tail, memory_order_acquire) >> GW_LOG_OFFSET_BITS;
        uint64_t copies = tail + atomic_load_explicit(&log->reserve, memory_order_relaxed);
        uint64_t most = limit + (to - freed);
        copies = copies < most ? copies : most;
        next = next > copies ? next : copies;
    }
    /* Release: the frames are ours to give; pairs with the acquire in allocate. */
    if (next > limit) {
        atomic_store_explicit(&log->held_limit, next, memory_order_relaxed);
        atomic_store_explicit(&log->page_limit, next, memory_order_release);
    }
    /* Release: behind the limit, or users are refused in between; pairs with
     * gwi_log_room_coming. */
    atomic_store_explicit(&log->freed, to, memory_order_release);
    /* Release: all of the above before the next mover. */
    atomic_store_explicit(&log->head_moving, 0, memory_order_release);
}

static bool move_head(struct gw_log *log, uint64_t tail_page, uint32_t frames)
{
    /* Acquire: pairs with head_freed. */
    if (atomic_load_explicit(&log->head_moving, memory_order_acquire))
        return false;
    uint64_t head = atomic_load_explicit(&log->head, memory_order_relaxed) >> log->page_bits;
    uint64_t begin = atomic_load_explicit(&log->begin, memory_order_acquire) >> log->page_bits;
    uint64_t freed = atomic_load_explicit(&log->freed, memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&log->page_limit, memory_order_relaxed);
    uint64_t can = begin;
    if (log->device) {
        uint64_t flushed = atomic_load_explicit(&log->flushed, memory_order_relaxed);
        can = flushed >> log->page_bits > can ? flushed >> log->page_bits : can;
    }
    uint64_t reserve = atomic_load_explicit(&log->reserve, memory_order_relaxed);
    uint64_t held = limit - freed, free = limit - tail_page - 1;
    uint64_t want = free_wanted(frames) + reserve + (held > frames ? held - frames : 0);
    uint64_t to = head;
    if (want > free)
        to = head + (want - free) < can ? head + (want - free) : can;
    if (to < begin)
        to = begin; /* what is no more needs no frame */
    if (to <= freed)
        return false;
    if (to > head)
        gwi_log_raise(&log->head, to << log->page_bits);
    log->head_target = to;
    atomic_store_explicit(&log->head_moving, 1, memory_order_relaxed);
    if (gw_epoch_defer(log->epoch, head_freed, log) != GW_OK) {
        atomic_store_explicit(&log->head_moving, 0, memory_order_relaxed);
        return false; /* the next turn tries again: freed lags behind head */
    }
    return true;
}

/* Nobody turns to a page at or above the lowered page_limit any more. */
static void limit_lowered(void *arg)
{
    struct gw_log *log = arg;
    uint64_t limit = atomic_load_explicit(&log->page_limit, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&log->tail, memory_order_acquire) >> GW_LOG_OFFSET_BITS;
    if (limit <= tail) { /* somebody was quicker: the page has a frame, and keeps it */
        limit = tail + 1;
        atomic_store_explicit(&log->page_limit, limit, memory_order_release);
    }
    for (uint64_t page = limit; page < atomic_load_explicit(&log->held_limit, memory_order_relaxed);
         page++)
        if (gw_memory_release(gw_log_page(log, page), log->page_bytes) == GW_OK)
            atomic_store_explicit(&io_of(log, page)->released, true, memory_order_relaxed);
    atomic_store_explicit(&log->held_limit, limit, memory_order_relaxed);
    atomic_store_explicit(&log->head_moving, 0, memory_order_release);
}

/* To where the limit may be lowered: what waits for the tail stays. Without a device that is no
 * more than compaction takes for scarce, so that it begins. */
static uint64_t lowest_limit(const struct gw_log *log, uint64_t freed, uint64_t tail_page,
                             uint32_t frames)
{
    uint64_t keep = tail_page + 1 + (log->device ? free_wanted(frames) : 2) +
                    atomic_load_explicit(&log->reserve, memory_order_relaxed);
    return freed + frames > keep ? freed + frames : keep;
}

/* Gives up frames that no page has come to yet. A thread inside may turn to a page that is being
 * taken away, for it has loaded the old limit; so its frame is not touched before all have left. */
static void lower_limit(struct gw_log *log, uint64_t tail_page, uint32_t frames)
{
    if (atomic_load_explicit(&log->head_moving, memory_order_acquire))
        return;
    uint64_t freed = atomic_load_explicit(&log->freed, memory_order_relaxed);
    uint64_t limit = atomic_load_explicit(&log->page_limit, memory_order_relaxed);
    uint64_t to = lowest_limit(log, freed, tail_page, frames);
    if (to >= limit)
        return;
    atomic_store_explicit(&log->head_moving, 2, memory_order_relaxed);
    atomic_store_explicit(&log->page_limit, to, memory_order_release);
    if (gw_epoch_defer(log->epoch, limit_lowered, log) != GW_OK) {
        atomic_store_explicit(&log->page_limit, limit, memory_order_release);
        atomic_store_explicit(&log->head_moving, 0, memory_order_relaxed);
    }
}

/* Raises the limit to what is allowed again; the frames are there, only their memory may be gone.
 */
static void raise_limit(struct gw_log *log, uint32_t frames)
{
    if (atomic_load_explicit(&log->head_moving, memory_order_acquire))
        return;
    uint64_t to = atomic_load_explicit(&log->freed, memory_order_relaxed) + frames;
    if (to <= atomic_load_explicit(&log->page_limit, memory_order_relaxed))
        return;
    atomic_store_explicit(&log->held_limit, to, memory_order_relaxed);
    atomic_store_explicit(&log->page_limit, to, memory_order_release);
}

bool gw_log_frames_coming(const struct gw_log *log, uint64_t *held)
{
    /* What is read first only makes us say yes once too often. The trigger before what it changes:
     * the caller is inside the epoch, so one that is not under way now does not run meanwhile. */
    bool moving = atomic_load_explicit(&log->head_moving, memory_order_acquire) != 0;
    uint32_t frames = atomic_load_explicit(&log->frames_target, memory_order_relaxed);
    bool said = gwi_log_looked_at(log, frames);
    *held = gw_log_frames_held(log);
    if (*held <= frames)
        return false;
    if (!said || moving || gwi_log_room_coming(log))
        return true;
    uint64_t tail_page =
        atomic_load_explicit(&log->tail, memory_order_acquire) >> GW_LOG_OFFSET_BITS;
    return lowest_limit(log, atomic_load_explicit(&log->freed, memory_order_relaxed), tail_page,
                        frames) < atomic_load_explicit(&log->page_limit, memory_order_relaxed);
}

/* Gives the frames that come next their memory back, so that no allocation waits for it. */
static void populate_ahead(struct gw_log *log, uint64_t tail_page)
{
    uint64_t limit = atomic_load_explicit(&log->page_limit, memory_order_relaxed);
    for (uint64_t page = tail_page + 1; page < limit && page <= tail_page + 2; page++) {
        struct gwi_frame_io *io = io_of(log, page);
        if (!atomic_load_explicit(&io->released, memory_order_relaxed))
            continue;
        gw_memory_prepare(gw_log_page(log, page), log->page_bytes);
        atomic_store_explicit(&io->released, false, memory_order_relaxed);
        return; /* one a turn */
    }
}

void gw_log_raise_begin(struct gw_log *log, gw_addr to)
{
    GW_ASSERT(to.v <= atomic_load_explicit(&log->safe_read_only, memory_order_acquire));
    gwi_log_raise(&log->begin, to.v);
}

bool gw_log_maintain(struct gw_log *log, uint32_t queue)
{
    /* Acquire: what the last maintainer did; pairs with the release below. */
    if (atomic_exchange_explicit(&log->busy, 1, memory_order_acquire))
        return false;
    uint64_t tail_page =
        atomic_load_explicit(&log->tail, memory_order_acquire) >> GW_LOG_OFFSET_BITS;
    uint32_t frames = atomic_load_explicit(&log->frames_target, memory_order_relaxed);
    if (log->device || log->evict)
        follow_tail(log, tail_page, frames);
    if (log->device)
        flush(log, queue);
    bool more = move_head(log, tail_page, frames);
    lower_limit(log, tail_page, frames);
    raise_limit(log, frames);
    populate_ahead(log, tail_page);
    atomic_store_explicit(&log->busy, 0, memory_order_release);
    return more;
}
