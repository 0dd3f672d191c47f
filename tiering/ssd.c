/* ssd.c - the face of the SSD tier: takes reads and writes, sees them through, counts.
 *
 *  1. An operation is taken from its queue's pool, and everything that can be refused is refused
 *     before; from then on it calls back exactly once, from poll (device.h, rule 2).
 *  2. From start to finish it holds a reference to its segment (ssd_segments.c), so that the file
 *     is there and the checks are in memory.
 *  3. A page is readable when its state is WRITTEN: stored with release after page, table and
 * checks are in, loaded with acquire by readers of any queue.
 *  4. Bytes leave only after their CRC32C was compared with the checks in memory (ENGINE H9).
 *  5. A call that was interrupted or did a part is gone on with, a bounded number of times; what is
 *     left then is GW_E_IO, or GW_E_FULL where the filesystem had no room. */
#include "tiering/ssd.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "index/base/checksum.h"
#include "index/base/log_line.h"
#include "tiering/ssd_internal.h"

#define IDLE_POLLS_DRAIN 16u /* a stale event costs a sleeper at most as many turns for nothing */

enum gw_status gwi_ssd_status_of(int error, bool write)
{
    switch (-error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return write ? GW_E_FULL : GW_E_IO;
    case ENOMEM:
        return GW_E_NOMEM;
    default:
        return GW_E_IO;
    }
}

struct ssd_range gwi_ssd_range(const struct ssd_op *op, uint32_t part)
{
    const struct gw_ssd_geometry *g = &op->queue->ssd->g;
    uint64_t in_segment = op->at % g->segment_bytes;
    uint32_t page = (uint32_t)(in_segment >> g->page_bits), done = op->done[part];
    if (part == SSD_PART_TABLE)
        return (struct ssd_range){op->table + done, op->table_bytes - done,
                                  gw_ssd_table_offset(g, page) + done};
    uint64_t offset = gw_ssd_page_offset(g, page) + (in_segment & (g->page_bytes - 1)) + done;
    return (struct ssd_range){op->memory + done, op->bytes - done, offset};
}

/* ---- events and the inbox ---- */

static void signal_events(struct ssd_queue *q)
{
    uint64_t one = 1;
    /* Seq_cst, with the store in ssd_wait_fd and the push before this: either the push is seen by
     * the poll that follows wait_fd, or events are seen to be on here. */
    if (atomic_load_explicit(&q->events_on, memory_order_seq_cst))
        (void)!write(q->event_fd, &one, sizeof one); /* full: it is readable already */
}

static void drain_events(struct ssd_queue *q)
{
    uint64_t events;
    (void)!read(q->event_fd, &events, sizeof events); /* empty is fine too */
}

void gwi_ssd_deliver(struct ssd_op *op)
{
    struct ssd_queue *q = op->queue;
    struct ssd_op *head = atomic_load_explicit(&q->inbox, memory_order_relaxed);
    do {
        op->next = head;
        /* Release: what was done to the operation comes before it; pairs with take_inbox. Seq_cst
         * beyond that: see signal_events. The operation may be gone after this. */
    } while (!atomic_compare_exchange_weak_explicit(&q->inbox, &head, op, memory_order_seq_cst,
                                                    memory_order_relaxed));
    signal_events(q);
}

/* All that came back, oldest first. */
static struct ssd_op *take_inbox(struct ssd_queue *q)
{
    /* Seq_cst for the load too: it comes after ssd_wait_fd's store (signal_events). */
    if (!atomic_load_explicit(&q->inbox, memory_order_seq_cst))
        return NULL;
    struct ssd_op *in = atomic_exchange_explicit(&q->inbox, NULL, memory_order_acquire);
    struct ssd_op *in_order = NULL;
    while (in) {
        struct ssd_op *next = in->next;
        in->next = in_order;
        in_order = in;
        in = next;
    }
    return in_order;
}

/* ---- an operation's life ---- */

static void op_free(struct ssd_queue *q, struct ssd_op *op)
{
    if (op->table)
        q->free_tables[--q->writing] = op->table;
    op->table = NULL;
    op->next = q->free_ops;
    q->free_ops = op;
}

static struct ssd_op *op_take(struct ssd_queue *q, bool write)
{
    struct ssd_op *op = q->free_ops;
    if (!op || (write && q->writing == GW_SSD_WRITES_MAX))
        return NULL;
    q->free_ops = op->next;
    *op = (struct ssd_op){.queue = q, .write = write, .status = GW_OK};
    if (write)
        op->table = q->free_tables[q->writing++];
    return op;
}

static uint32_t *checks_at(const struct ssd *ssd, const struct ssd_op *op)
{
    return op->segment->checks + op->at % ssd->g.segment_bytes / GW_DEVICE_BLOCK;
}

static _Atomic uint8_t *page_at(const struct ssd *ssd, const struct ssd_segment *s, uint64_t at)
{
    return &s->pages[at % ssd->g.segment_bytes >> ssd->g.page_bits];
}

/* The segment is open and referenced. False: the operation has ended with op->status. */
static bool op_start(struct ssd_op *op)
{
    struct ssd_queue *q = op->queue;
    struct ssd *ssd = q->ssd;
    op->started = true;
    op->parts = 1;
    if (op->write) {
        uint8_t none = SSD_PAGE_NONE;
        /* Relaxed: it only keeps a second write of the page out. */
        if (q->ring_dead ||
            !atomic_compare_exchange_strong_explicit(page_at(ssd, op->segment, op->at), &none,
                                                     SSD_PAGE_WRITING, memory_order_relaxed,
                                                     memory_order_relaxed)) {
            op->status = q->ring_dead ? GW_E_IO : GW_E_INVALID;
            gwi_ssd_release(ssd, op->segment);
            op->segment = NULL;
            return false;
        }
        gw_ssd_table_write(&ssd->g, ssd->store_id, ssd->incarnation, op->at, op->memory, op->table,
                           checks_at(ssd, op));
        op->table_bytes = ssd->g.table_bytes;
        op->parts = 2;
    }
    if (ssd->uring) {
        gwi_ssd_ring_send(op, SSD_PART_DATA);
        if (op->write)
            gwi_ssd_ring_send(op, SSD_PART_TABLE);
    } else {
        op->next = NULL;
        *q->to_send_end = op;
        q->to_send_end = &op->next;
    }
    return true;
}

bool gwi_ssd_part_result(struct ssd_op *op, uint32_t part, int64_t result)
{
    struct ssd_range left = gwi_ssd_range(op, part);
    int error = 0;
    /* Cancelled: the thread that sent it has ended, and another has the queue now. */
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -ECANCELED) {
        error = (int)result;
    } else if (result == 0 && !op->write) {
        error = -EIO; /* the file ends before what was written into it */
    } else {
        /* Past the page cache only whole blocks can be gone on from. */
        uint32_t whole = result > 0 ? (uint32_t)result & ~(GW_DEVICE_BLOCK - 1) : 0;
        GW_ASSERT(whole <= left.bytes);
        op->done[part] += whole;
        if (whole == left.bytes)
            return true;
        if (whole == 0 && ++op->tries >= GWI_SSD_TRIES_MAX)
            error = -EIO;
    }
    if (error == 0)
        return false;
    gw_debug("tiering.io", "write=%d at=%llu errno=%d", op->write, (unsigned long long)op->at,
             -error);
    op->status = gwi_ssd_status_of(error, op->write);
    return true;
}

static enum gw_status verify(struct ssd *ssd, const struct ssd_op *op)
{
    const uint32_t *checks = checks_at(ssd, op);
    for (uint32_t i = 0; i < op->bytes / GW_DEVICE_BLOCK; i++) {
        if (gw_crc32c(0, op->memory + (size_t)i * GW_DEVICE_BLOCK, GW_DEVICE_BLOCK) == checks[i])
            continue;
        gwi_ssd_count(&op->queue->counters.corrupt_blocks, 1);
        gw_debug("tiering.corrupt", "at=%llu",
                 (unsigned long long)(op->at + (uint64_t)i * GW_DEVICE_BLOCK));
        return GW_E_CORRUPT;
    }
    return GW_OK;
}

static void count(struct ssd_counters *c, const struct ssd_op *op)
{
    bool good = op->status == GW_OK;
    if (op->sync)
        return;
    if (op->write) {
        gwi_ssd_count(&c->writes, good);
        gwi_ssd_count(&c->write_bytes, good ? op->bytes + op->table_bytes : 0);
        gwi_ssd_count(&c->failed_writes, !good);
    } else {
        gwi_ssd_count(&c->reads, good);
        gwi_ssd_count(&c->read_bytes, good ? op->bytes : 0);
        gwi_ssd_count(&c->failed_reads, !good && op->status != GW_E_CORRUPT);
    }
}

void gwi_ssd_finish(struct ssd_op *op)
{
    struct ssd_queue *q = op->queue;
    struct ssd *ssd = q->ssd;
    if (op->segment) {
        if (op->write &&
            op->status == GW_OK) /* before the callback: a sync behind it must see it */
            atomic_store_explicit(&op->segment->dirty, true, memory_order_release);
        if (op->write) /* release: rule 3 */
            atomic_store_explicit(page_at(ssd, op->segment, op->at),
                                  op->status == GW_OK ? SSD_PAGE_WRITTEN : SSD_PAGE_NONE,
                                  memory_order_release);
        else if (op->status == GW_OK)
            op->status = verify(ssd, op);
        gwi_ssd_release(ssd, op->segment);
    }
    count(&q->counters, op);
    gw_device_cb cb = op->cb;
    void *arg = op->arg;
    enum gw_status status = op->status;
    if (op->sync)
        q->syncing = false;
    op_free(q, op); /* before the callback: it may submit */
    q->in_flight--;
    q->finished++;
    if (!q->closing)
        cb(arg, status);
}

/* ---- the face ---- */

static enum gw_status ssd_read(struct gw_device *device, uint32_t queue, gw_addr at, void *room,
                               uint32_t bytes, gw_device_cb cb, void *arg)
{
    struct ssd *ssd = (struct ssd *)device;
    GW_ASSERT(queue < ssd->queues_count);
    struct ssd_queue *q = &ssd->queues[queue];
    uint64_t in_page = at.v & (ssd->g.page_bytes - 1);
    if ((in_page | bytes | (uintptr_t)room) & (GW_DEVICE_BLOCK - 1) || bytes == 0 ||
        bytes > ssd->g.page_bytes - in_page)
        return GW_E_INVALID;
    if (q->ring_dead)
        return GW_E_IO;
    if (!q->free_ops)
        return GW_WOULD_BLOCK;
    /* Relaxed: whoever trims below what he reads does so in an order of his own. */
    if (at.v < atomic_load_explicit(&ssd->trimmed, memory_order_relaxed))
        return GW_NOT_FOUND;
    struct ssd_segment *s = gwi_ssd_acquire(ssd, at.v / ssd->g.segment_bytes);
    if (!s)
        return GW_NOT_FOUND;
    /* Acquire: rule 3. */
    if (atomic_load_explicit(page_at(ssd, s, at.v), memory_order_acquire) != SSD_PAGE_WRITTEN) {
        gwi_ssd_release(ssd, s);
        return GW_NOT_FOUND;
    }
    struct ssd_op *op = op_take(q, false);
    op->segment = s;
    op->at = at.v;
    op->memory = room;
    op->bytes = bytes;
    op->cb = cb;
    op->arg = arg;
    q->in_flight++;
    (void)op_start(op); /* a read always starts */
    return GW_PENDING;
}

static enum gw_status ssd_write(struct gw_device *device, uint32_t queue, gw_addr at,
                                const void *from, uint32_t bytes, gw_device_cb cb, void *arg)
{
    struct ssd *ssd = (struct ssd *)device;
    GW_ASSERT(queue < ssd->queues_count);
    struct ssd_queue *q = &ssd->queues[queue];
    if (at.v & (ssd->g.page_bytes - 1) || bytes != ssd->g.page_bytes ||
        (uintptr_t)from & (GW_DEVICE_BLOCK - 1))
        return GW_E_INVALID;
    if (ssd->read_only)
        return GW_E_FULL;
    if (q->ring_dead)
        return GW_E_IO;
    if (at.v < atomic_load_explicit(&ssd->trimmed, memory_order_relaxed))
        return GW_NOT_FOUND;
    struct ssd_op *op = op_take(q, true);
    if (!op)
        return GW_WOULD_BLOCK;
    op->at = at.v;
    op->memory = (uint8_t *)from; /* only read */
    op->bytes = bytes;
    op->cb = cb;
    op->arg = arg;
    enum gw_status status = GW_RETRY;
    for (uint32_t i = 0; status == GW_RETRY && i < GWI_SSD_TRIES_MAX; i++) {
        op->segment = gwi_ssd_acquire(ssd, at.v / ssd->g.segment_bytes);
        if (op->segment)
            status = op_start(op) ? GW_PENDING : op->status;
        else
            status = gwi_ssd_wait_for_segment(ssd, op); /* if pending it is not ours any more */
    }
    if (status == GW_PENDING) {
        q->in_flight++;
        return GW_PENDING;
    }
    op_free(q, op);
    return status == GW_RETRY ? GW_WOULD_BLOCK : status;
}

static enum gw_status ssd_sync(struct gw_device *device, uint32_t queue, gw_device_cb cb, void *arg)
{
    struct ssd *ssd = (struct ssd *)device;
    GW_ASSERT(queue < ssd->queues_count);
    struct ssd_queue *q = &ssd->queues[queue];
    struct ssd_op *op = q->syncing ? NULL : op_take(q, false);
    if (!op)
        return GW_WOULD_BLOCK;
    op->sync = true;
    op->started = true; /* it comes back as it is: run_inbox */
    op->cb = cb;
    op->arg = arg;
    q->syncing = true;
    q->in_flight++;
    gwi_ssd_sync_send(op);
    return GW_PENDING;
}

static void ssd_trim(struct gw_device *device, gw_addr below)
{
    if (((struct ssd *)device)->read_only)
        return;
    gwi_ssd_trim((struct ssd *)device, below.v);
}

/* What comes out of the inbox was waiting for its segment, or is done by a worker. */
static void run_inbox(struct ssd_queue *q)
{
    struct ssd_op *op = take_inbox(q);
    while (op) {
        struct ssd_op *next = op->next;
        if (op->started || op->status != GW_OK || !op_start(op))
            gwi_ssd_finish(op);
        op = next;
    }
}

/* Before anything is reaped, so that an event which comes later stays for the sleeper. An event can
 * also come after its completion was reaped: then it is stale, and goes at a later, empty poll. */
static void drain_if_due(struct ssd_queue *q, bool due)
{
    /* Relaxed: set by this thread, or before it was given the queue. */
    if (!atomic_load_explicit(&q->events_on, memory_order_relaxed))
        return;
    if (!due && ++q->idle_polls < IDLE_POLLS_DRAIN)
        return;
    drain_events(q);
    q->idle_polls = due ? IDLE_POLLS_DRAIN - 1 : 0;
}

uint32_t gwi_ssd_poll(struct ssd_queue *q)
{
    uint64_t before = q->finished;
    bool uring = q->ssd->uring, due = uring && gwi_ssd_ring_gather(q);
    /* Relaxed: a glance; take_inbox looks properly. */
    due |= atomic_load_explicit(&q->inbox, memory_order_relaxed) != NULL;
    drain_if_due(q, due);
    run_inbox(q);
    if (uring) {
        gwi_ssd_ring_reap(q);
        gwi_ssd_ring_flush(
            q); /* what callbacks asked for: nobody may come back before it is done */
    } else {
        gwi_ssd_threads_send(q);
    }
    return (uint32_t)(q->finished - before);
}

static uint32_t ssd_poll(struct gw_device *device, uint32_t queue)
{
    struct ssd *ssd = (struct ssd *)device;
    GW_ASSERT(queue < ssd->queues_count);
    return gwi_ssd_poll(&ssd->queues[queue]);
}

static void ssd_adopt(struct gw_device *device, uint32_t queue, void *memory, size_t bytes)
{
    struct ssd *ssd = (struct ssd *)device;
    GW_ASSERT(queue < ssd->queues_count);
    struct ssd_queue *q = &ssd->queues[queue];
    if (!ssd->uring)
        return;
    /* What is registered are pages of memory, not addresses: those of an earlier region would get
     * the bytes that are meant for a new one at the same place. */
    gwi_ssd_ring_disown(q);
    q->room = memory;
    q->room_end = q->room + bytes;
    if (memory)
        gwi_ssd_ring_adopt(q);
}

static void ssd_usage(struct gw_device *device, struct gw_device_usage *out)
{
    struct ssd *ssd = (struct ssd *)device;
    /* Relaxed, all of it: a glance at words that change meanwhile. */
    *out = (struct gw_device_usage){.used_bytes = atomic_load_explicit(&ssd->used_bytes,
                                                                       memory_order_relaxed),
                                    .limit_bytes = ssd->limit_bytes,
                                    .segment_bytes = ssd->g.segment_bytes,
                                    .memory_bytes = atomic_load_explicit(&ssd->memory_bytes,
                                                                         memory_order_relaxed)};
    for (uint32_t i = 0; i < ssd->queues_count; i++) {
        struct ssd_counters *c = &ssd->queues[i].counters;
        out->reads += atomic_load_explicit(&c->reads, memory_order_relaxed);
        out->read_bytes += atomic_load_explicit(&c->read_bytes, memory_order_relaxed);
        out->writes += atomic_load_explicit(&c->writes, memory_order_relaxed);
        out->write_bytes += atomic_load_explicit(&c->write_bytes, memory_order_relaxed);
        out->corrupt_blocks += atomic_load_explicit(&c->corrupt_blocks, memory_order_relaxed);
        out->failed_reads += atomic_load_explicit(&c->failed_reads, memory_order_relaxed);
        out->failed_writes += atomic_load_explicit(&c->failed_writes, memory_order_relaxed);
    }
}

static int ssd_wait_fd(struct gw_device *device, uint32_t queue)
{
    struct ssd *ssd = (struct ssd *)device;
    GW_ASSERT(queue < ssd->queues_count);
    struct ssd_queue *q = &ssd->queues[queue];
    if (atomic_load_explicit(&q->events_on, memory_order_relaxed))
        return q->event_fd;
    if (q->event_fd < 0) {
        int fd = ssd->calls.event_fd(ssd->calls.ctx);
        if (fd < 0)
            return -1;
        q->event_fd = fd;
    }
    if (ssd->uring && !gwi_ssd_ring_events(q))
        return -1;
    atomic_store_explicit(&q->events_on, true, memory_order_seq_cst); /* see signal_events */
    signal_events(q); /* what came before had no event */
    return q->event_fd;
}

void gwi_ssd_face(struct gw_device *face)
{
    *face = (struct gw_device){.read = ssd_read,
                               .write = ssd_write,
                               .trim = ssd_trim,
                               .sync = ssd_sync,
                               .poll = ssd_poll,
                               .adopt = ssd_adopt,
                               .usage = ssd_usage,
                               .wait_fd = ssd_wait_fd};
}
