/* commit.c - the dispatcher's side of its commit log: gathering, handing over, asking.
 *
 * Rules:
 *  1. Entries are encoded where they will be written from: a flush copies nothing.
 *  2. The dispatcher makes no system call but one wake-up a flush; files and the device are the
 *     flusher thread's (commit_flush.c, commit_files.c).
 *  3. Two buffers change places at each flush. They grow by doubling, and one that was needed for
 *     a burst only is given back.
 *
 * Measured (ext4 on a virtual disk, 4 to 64 KiB, p50 / p99 us): O_DIRECT|O_DSYNC 116 / 198 into
 * blocks that were only allocated, 83 / 130 into blocks written before (hence commit_files.c fills
 * with zeros and uses files again); write + fdatasync the same at 4 KiB, 300 / 880 at 64 KiB where
 * the others need 130; io_uring with RWF_DSYNC 87 / 131, a thread 86 / 142: so a thread, which has
 * the files to make besides. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "index/base/clock.h"
#include "tiering/commit_internal.h"

#define FILE_BYTES (64u << 20)
#define ROOM_FIRST (256u << 10)        /* of a gather buffer */
#define ROOM_MAX   (UINT64_C(2) << 30) /* beyond it, GW_E_NOMEM */
#define ROOM_KEPT  (2u << 20)          /* a larger buffer is given back when it is not needed */
#define SMALL_MAX  64u                 /* ... by this many flushes in a row */
#define ROOM_BESIDE                                                                                \
    (2u * GW_COMMIT_BLOCK_UNIT) /* the padding of one block, headers of the next                   \
                                 */

/* ---- open, close ---- */

static enum gw_status buffer_grow(struct gw_commit *log, struct gwi_commit_buffer *b, size_t room)
{
    size_t larger = b->room ? b->room : ROOM_FIRST;
    while (larger < room)
        larger *= 2;
    if (larger > ROOM_MAX)
        return GW_E_NOMEM;
    uint8_t *base = log->calls.memory(log->calls.ctx, larger);
    if (!base)
        return GW_E_NOMEM;
    if (b->used)
        memcpy(base, b->base, b->used);
    free(b->base);
    b->base = base;
    b->room = larger;
    return GW_OK;
}

enum gw_status gw_commit_open(const struct gw_commit_options *options, struct gw_commit **out,
                              char *error)
{
    struct gw_commit *log = calloc(1, sizeof *log);
    if (!log)
        return GW_E_NOMEM;
    log->options = *options;
    log->calls = options->calls ? *options->calls : *gw_ssd_calls_system();
    if (log->options.file_bytes == 0)
        log->options.file_bytes = FILE_BYTES;
    enum gw_status status = GW_E_INVALID;
    if (log->options.file_bytes % GW_COMMIT_BLOCK_UNIT != 0 ||
        log->options.file_bytes < GWI_COMMIT_END_BYTES + GW_COMMIT_BLOCK_UNIT)
        goto fail_log;
    log->sequence = 1;
    log->dir_fd = -1;
    pthread_mutex_init(&log->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&log->wakes, &monotonic);
    pthread_condattr_destroy(&monotonic);

    status = GW_E_NOMEM;
    snprintf(error, GW_COMMIT_TEXT_BYTES, "commit log in %s: out of memory", options->dir);
    if (gw_failed(buffer_grow(log, &log->gather, 0)) ||
        gw_failed(buffer_grow(log, &log->flight, 0)))
        goto fail_buffers;
    status = gwi_commit_files_open(log, error);
    if (gw_failed(status))
        goto fail_buffers;
    if (pthread_create(&log->thread, NULL, gwi_commit_flusher, log) != 0) {
        snprintf(error, GW_COMMIT_TEXT_BYTES, "commit log in %s: no thread", options->dir);
        status = GW_E_NOMEM;
        goto fail_files;
    }
    log->options.dir = NULL; /* was borrowed */
    *out = log;
    return GW_OK;

fail_files:
    gwi_commit_files_close(log);
fail_buffers:
    free(log->gather.base);
    free(log->flight.base);
    pthread_cond_destroy(&log->wakes);
    pthread_mutex_destroy(&log->lock);
fail_log:
    if (status == GW_E_INVALID)
        snprintf(error, GW_COMMIT_TEXT_BYTES, "commit log: a file of %" PRIu64 " bytes",
                 log->options.file_bytes);
    free(log);
    return status;
}

void gw_commit_close(struct gw_commit *log)
{
    if (!log)
        return;
    pthread_mutex_lock(&log->lock);
    log->end = true;
    pthread_cond_signal(&log->wakes);
    pthread_mutex_unlock(&log->lock);
    pthread_join(log->thread, NULL);
    gwi_commit_files_close(log);
    free(log->gather.base);
    free(log->flight.base);
    pthread_cond_destroy(&log->wakes);
    pthread_mutex_destroy(&log->lock);
    free(log);
}

void gw_commit_on_done(struct gw_commit *log, gw_commit_wake_cb wake, void *ctx)
{
    log->wake = wake; /* the flusher reads it after it has been handed a flush, under the lock */
    log->wake_ctx = ctx;
}

/* ---- gathering ---- */

enum gw_status gw_commit_group(struct gw_commit *log, uint64_t session, uint64_t confirmed,
                               uint64_t first_serial)
{
    GW_ASSERT(first_serial <= UINT64_MAX - UINT16_MAX);
    log->group = (struct gw_commit_group){.session = session,
                                          .confirmed = confirmed,
                                          .first_serial = first_serial};
    log->grouped = true;
    log->gather.group_open = false;
    return GW_OK; /* its header is written with its first entry */
}

/* The open block is whole then, but for interval and view. */
static void block_close(struct gwi_commit_buffer *b)
{
    uint8_t *block = b->base + b->block;
    size_t end = (b->used + GW_COMMIT_BLOCK_UNIT - 1) & ~(size_t)(GW_COMMIT_BLOCK_UNIT - 1);
    GW_ASSERT(b->block_open && b->groups > 0 && end <= b->room);
    gw_store32(block + GWI_BLOCK_GROUPS, b->groups);
    gw_store32(block + GWI_BLOCK_PAYLOAD, (uint32_t)(b->used - b->block - GW_COMMIT_BLOCK_HEADER));
    memset(b->base + b->used, 0, end - b->used);
    b->used = end;
    b->block_open = false;
    b->group_open = false;
}

static void block_begin(struct gwi_commit_buffer *b)
{
    b->block = b->used;
    b->used += GW_COMMIT_BLOCK_HEADER;
    b->groups = 0;
    b->block_open = true;
}

static void group_begin(struct gwi_commit_buffer *b, const struct gw_commit_group *group)
{
    gwi_commit_group_put(b->base + b->used, group);
    b->group = b->used;
    b->used += GW_COMMIT_GROUP_BYTES;
    b->groups++;
    b->group_open = true;
}

enum gw_status gw_commit_append(struct gw_commit *log, const struct gw_commit_entry *entry)
{
    struct gwi_commit_buffer *b = &log->gather;
    size_t bytes = gwi_commit_entry_bytes(entry);
    GW_ASSERT(log->grouped);
    if (GW_UNLIKELY(bytes == 0))
        return GW_E_TOO_LARGE;
    if (GW_UNLIKELY(b->used + bytes + ROOM_BESIDE > b->room)) {
        enum gw_status status = buffer_grow(log, b, b->used + bytes + ROOM_BESIDE);
        if (gw_failed(status))
            return status;
    }
    if (b->block_open &&
        GW_UNLIKELY(b->used - b->block + bytes + GW_COMMIT_GROUP_BYTES > GW_COMMIT_BLOCK_MAX))
        block_close(b);
    if (GW_UNLIKELY(!b->block_open))
        block_begin(b);
    if (!b->group_open)
        group_begin(b, &log->group);
    gwi_commit_entry_put(b->base + b->used, entry, log->group.first_serial);
    b->used += bytes;
    uint8_t *group = b->base + b->group;
    gw_store32(group + 24, gw_load32(group + 24) + 1);
    gw_store32(group + 28, gw_load32(group + 28) + (uint32_t)bytes);
    return GW_OK;
}

size_t gw_commit_gathered(const struct gw_commit *log)
{
    return log->gather.used;
}

void gw_commit_divide(struct gw_commit *log, uint64_t interval, uint64_t view)
{
    struct gwi_commit_buffer *b = &log->gather;
    if (b->block_open)
        block_close(b);
    if (b->dividing == b->used)
        return;
    GW_ASSERT(interval >= log->interval); /* readers rely on it: commit_read.c */
    log->interval = interval;
    while (b->dividing < b->used) {
        uint8_t *block = b->base + b->dividing;
        gw_store64(block + GWI_BLOCK_INTERVAL, interval);
        gw_store64(block + GWI_BLOCK_VIEW, view);
        b->dividing += gwi_commit_block_bytes(gw_load32(block + GWI_BLOCK_PAYLOAD));
    }
    GW_ASSERT(b->dividing == b->used);
}

/* ---- flushing ---- */

/* Empties the buffer that a flush has given back. */
static void buffer_reset(struct gwi_commit_buffer *b)
{
    b->small = b->used < b->room / 4 ? b->small + 1 : 0;
    if (b->room > ROOM_KEPT && b->small >= SMALL_MAX) {
        free(b->base);
        b->base = NULL; /* the next append makes a small one */
        b->room = 0;
        b->small = 0;
    }
    b->used = b->dividing = 0;
    b->block_open = b->group_open = false;
}

enum gw_status gw_commit_flush(struct gw_commit *log, uint64_t interval, uint64_t view)
{
    int state = atomic_load_explicit(&log->state, memory_order_acquire);
    bool full = atomic_load_explicit(&log->full, memory_order_relaxed);
    if (state == GWI_COMMIT_BROKEN)
        return GW_E_IO;
    if (state == GWI_COMMIT_BUSY)
        return full ? GW_E_FULL : GW_WOULD_BLOCK;
    if (log->gather.used == 0)
        return GW_OK;
    gw_commit_divide(log, interval, view);
    if (full && log->gather.used > atomic_load_explicit(&log->left, memory_order_relaxed))
        return GW_E_FULL; /* the flusher goes on trying */

    struct gwi_commit_buffer taken = log->gather;
    log->gather = log->flight;
    buffer_reset(&log->gather);
    log->flight = taken;
    pthread_mutex_lock(&log->lock);
    log->job_ns = gw_clock_now_ns(gw_clock_system());
    log->job = true;
    atomic_store_explicit(&log->state, GWI_COMMIT_BUSY, memory_order_release);
    pthread_cond_signal(&log->wakes);
    pthread_mutex_unlock(&log->lock);
    return GW_PENDING;
}

enum gw_status gw_commit_poll(struct gw_commit *log)
{
    switch (atomic_load_explicit(&log->state, memory_order_acquire)) {
    case GWI_COMMIT_IDLE:
        return GW_OK;
    case GWI_COMMIT_BUSY:
        return GW_PENDING;
    default:
        return GW_E_IO;
    }
}

void gw_commit_truncate(struct gw_commit *log, uint64_t interval)
{
    pthread_mutex_lock(&log->lock);
    if (interval > log->finished)
        log->finished = interval;
    pthread_cond_signal(&log->wakes);
    pthread_mutex_unlock(&log->lock);
}

void gw_commit_usage(const struct gw_commit *log, struct gw_commit_usage *out)
{
    *out = (struct gw_commit_usage){
        .flushes = atomic_load_explicit(&log->flushes, memory_order_relaxed),
        .bytes_written = atomic_load_explicit(&log->bytes_written, memory_order_relaxed),
        .file_bytes = atomic_load_explicit(&log->file_bytes, memory_order_relaxed),
        .spare_bytes = atomic_load_explicit(&log->spare_bytes, memory_order_relaxed),
        .flush_ns_last = atomic_load_explicit(&log->flush_ns_last, memory_order_relaxed),
        .flush_ns_longest = atomic_load_explicit(&log->flush_ns_longest, memory_order_relaxed),
        .files = atomic_load_explicit(&log->files_count, memory_order_relaxed),
    };
}
