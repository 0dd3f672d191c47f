/* commit_flush.c - the thread of one commit log: writes what is handed over, wakes its dispatcher,
 * and between two flushes does a little of what makes the next ones fast.
 *
 * Rules:
 *  1. What is durable is said after the device has said so: each write has O_DSYNC.
 *  2. A block is written once. A failed write breaks the log for good: what is on the disk then is
 *     not known, and after a failed sync the kernel may forget what it could not write.
 *  3. No room for another file is no failure: nothing of the log was in it. It is tried again.
 *  4. All blocks of one flush name the same durable sequence: that of the last flush. */
#include <errno.h>
#include <time.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "index/base/clock.h"
#include "tiering/commit_internal.h"

#define RETRY_MS 50u /* between two tries to make a file when there was no room */
#define QUIET_MS 2u  /* without a flush, before something is filled that may delay the next one */

/* Waits for a flush, a truncation or the end, at most `ms` (0: for ever). Under the
 * lock. False: the time is over. */
static bool flusher_wait(struct gw_commit *log, uint32_t ms)
{
    if (ms == 0) {
        pthread_cond_wait(&log->wakes, &log->lock);
        return true;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    return pthread_cond_timedwait(&log->wakes, &log->lock, &until) == 0;
}

static uint64_t block_bytes(const uint8_t *block)
{
    return gwi_commit_block_bytes(gw_load32(block + GWI_BLOCK_PAYLOAD));
}

static void seal(struct gw_commit *log, uint8_t *block)
{
    const struct gw_commit_block header = {
        .store_id = log->options.store_id,
        .sequence = log->sequence++,
        .durable_sequence = log->durable,
        .interval = gw_load64(block + GWI_BLOCK_INTERVAL),
        .view = gw_load64(block + GWI_BLOCK_VIEW),
        .incarnation = log->options.incarnation,
        .groups = gw_load32(block + GWI_BLOCK_GROUPS),
        .payload_bytes = gw_load32(block + GWI_BLOCK_PAYLOAD),
        .dispatcher = log->options.dispatcher,
    };
    gwi_commit_block_seal(block, &header);
}

static enum gw_status write_whole(struct gw_commit *log, const uint8_t *from, uint64_t bytes)
{
    struct gwi_commit_file *file = log->current;
    while (bytes > 0) {
        ssize_t n = log->calls.pwrite(log->calls.ctx, file->fd, from, bytes, file->at);
        if (n == -EINTR)
            continue; /* nothing was written */
        if (n <= 0 || n % GW_COMMIT_BLOCK_UNIT != 0)
            return GW_E_IO;
        file->at += (uint64_t)n;
        from += n;
        bytes -= (uint64_t)n;
    }
    return GW_OK;
}

/* The flush gives up when the log is to be closed while there is no room for a file. */
static enum gw_status turn(struct gw_commit *log, uint64_t bytes)
{
    for (;;) {
        enum gw_status status = gwi_commit_files_turn(log, bytes);
        gwi_commit_files_count(log);
        if (status != GW_E_FULL)
            return status;
        pthread_mutex_lock(&log->lock);
        if (!log->end)
            flusher_wait(log, RETRY_MS);
        bool end = log->end;
        uint64_t finished = log->finished;
        pthread_mutex_unlock(&log->lock);
        if (end)
            return GW_E_IO;
        gwi_commit_files_give_back(log, finished);
    }
}

/* Writes the whole buffer: as many blocks at once as the file holds. */
static enum gw_status flush(struct gw_commit *log)
{
    uint8_t *at = log->flight.base, *end = at + log->flight.used;
    while (at < end) {
        struct gwi_commit_file *file = log->current;
        uint64_t room = file->bytes - GWI_COMMIT_END_BYTES - file->at;
        uint64_t bytes = 0;
        uint64_t first = gw_load64(at + GWI_BLOCK_INTERVAL), last = first;
        while (at + bytes < end && block_bytes(at + bytes) <= room - bytes) {
            uint8_t *block = at + bytes;
            last = gw_load64(block + GWI_BLOCK_INTERVAL);
            bytes += block_bytes(block);
            seal(log, block);
        }
        if (bytes == 0) {
            enum gw_status status = turn(log, block_bytes(at));
            if (gw_failed(status))
                return status;
            continue;
        }
        enum gw_status status = write_whole(log, at, bytes);
        if (gw_failed(status))
            return status;
        if (file->interval_first == UINT64_MAX)
            file->interval_first = first;
        file->interval_last = last;
        if (file->filled < file->at)
            file->filled = file->at;
        at += bytes;
    }
    log->durable = log->sequence - 1;
    return GW_OK;
}

/* Runs the flush that was handed over, and says how it ended. */
static bool run(struct gw_commit *log, uint64_t began_ns, bool broken)
{
    uint64_t bytes = log->flight.used;
    enum gw_status status = broken ? GW_E_IO : flush(log);
    gwi_commit_files_count(log);
    if (status == GW_OK) {
        uint64_t ns = gw_clock_now_ns(gw_clock_system()) - began_ns;
        atomic_fetch_add_explicit(&log->flushes, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&log->bytes_written, bytes, memory_order_relaxed);
        atomic_store_explicit(&log->flush_ns_last, ns, memory_order_relaxed);
        if (ns > atomic_load_explicit(&log->flush_ns_longest, memory_order_relaxed))
            atomic_store_explicit(&log->flush_ns_longest, ns, memory_order_relaxed);
    }
    gw_commit_wake_cb wake = log->wake; /* written before the job was handed over */
    void *ctx = log->wake_ctx;
    atomic_store_explicit(&log->state, status == GW_OK ? GWI_COMMIT_IDLE : GWI_COMMIT_BROKEN,
                          memory_order_release);
    if (wake)
        wake(ctx);
    return status == GW_OK;
}

/* Work that nobody waits for. How long to wait before more of it: 0: until somebody wakes us. */
static uint32_t between(struct gw_commit *log, uint64_t finished, bool *more, bool *broken)
{
    gwi_commit_files_give_back(log, finished);
    enum gw_status status = gwi_commit_files_ahead(log);
    gwi_commit_files_count(log);
    *more = status == GW_OK;
    *broken = status == GW_E_IO;
    return status == GW_E_FULL ? RETRY_MS : 0;
}

void *gwi_commit_flusher(void *arg)
{
    struct gw_commit *log = arg;
    uint32_t wait_ms = 0;
    bool more = true, broken = false;
    uint64_t seen = 0;
    pthread_mutex_lock(&log->lock);
    for (;;) {
        if (log->job) {
            uint64_t began_ns = log->job_ns;
            log->job = false;
            pthread_mutex_unlock(&log->lock);
            broken = !run(log, began_ns, broken);
            pthread_mutex_lock(&log->lock);
            more = true;
        } else if (log->end) {
            break;
        } else if (!broken && (more || seen != log->finished || wait_ms)) {
            if (!wait_ms && seen == log->finished && !gwi_commit_files_urgent(log))
                wait_ms = QUIET_MS;
            if (wait_ms && seen == log->finished && flusher_wait(log, wait_ms))
                continue; /* woken: by what, says the next turn */
            if (log->job || log->end)
                continue;
            seen = log->finished;
            pthread_mutex_unlock(&log->lock);
            wait_ms = between(log, seen, &more, &broken);
            pthread_mutex_lock(&log->lock);
            if (broken && !log->job) /* else the flush says it */
                atomic_store_explicit(&log->state, GWI_COMMIT_BROKEN, memory_order_release);
        } else {
            flusher_wait(log, 0);
        }
    }
    pthread_mutex_unlock(&log->lock);
    return NULL;
}
