/* ssd_uring.c - one io_uring a queue: sends in one call what was prepared since the last, takes in
 * what has come back.
 *
 *  1. A ring has room for every part of every operation of its queue, so preparing never fails and
 *     completions never overflow.
 *  2. The ring is not bound to one thread (no SINGLE_ISSUER): device.h lets a queue change hands,
 *     and the keeper takes files out of the table of registered ones. COOP_TASKRUN spares the
 *     interrupt of the running thread; TASKRUN_FLAG says in shared memory when a call is worth it.
 *  3. A segment's file is registered with a ring at the first use there, by a thread that holds a
 *     reference, and is taken out by the keeper after the last reference: never both at a time.
 *     Whatever the kernel refuses to register is used by its plain name.
 *  4. A submission that fails is tried again at the next poll; when that has failed for long, the
 *     ring is dead: what the kernel has not taken ends with GW_E_IO, and nothing new is accepted.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "index/base/log_line.h"
#include "tiering/ssd_internal.h"

#define SUBMIT_FAILURES_MAX 10000u

static_assert(_Alignof(struct ssd_op) >= SSD_PARTS, "the low bits of a pointer hold the part");

static uint64_t name_of(struct ssd_op *op, uint32_t part)
{
    return (uint64_t)(uintptr_t)op | part;
}

int gwi_ssd_ring_init(struct ssd_queue *q)
{
    static const uint32_t flags[] = {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                                         IORING_SETUP_SUBMIT_ALL,
                                     IORING_SETUP_SUBMIT_ALL, 0};
    struct ssd *ssd = q->ssd;
    uint32_t entries = 1;
    while (entries < ssd->depth + GW_SSD_WRITES_MAX)
        entries *= 2;
    int rc = -EINVAL;
    for (size_t i = 0; rc == -EINVAL && i < sizeof flags / sizeof *flags; i++) {
        struct io_uring_params params = {.flags = flags[i]};
        rc = ssd->calls.ring_init(ssd->calls.ctx, entries, &q->ring, &params);
    }
    if (rc < 0)
        return rc;
    q->ring_made = true;
    atomic_fetch_add_explicit(&ssd->memory_bytes, (uint64_t)entries * (64 + 2 * 16),
                              memory_order_relaxed);

    uint32_t files =
        ssd->segments_count < GWI_SSD_FILES_MAX ? ssd->segments_count : GWI_SSD_FILES_MAX;
    q->files = ssd->calls.memory(ssd->calls.ctx, files * sizeof *q->files);
    if (!q->files)
        return -ENOMEM;
    if (io_uring_register_files_sparse(&q->ring, files) == 0)
        q->files_count = files;
    return 0;
}

void gwi_ssd_ring_fini(struct ssd_queue *q)
{
    if (q->ring_made) {
        /* The kernel ends a ring at its leisure: files and memory must not wait for that. */
        (void)io_uring_unregister_files(&q->ring);
        (void)io_uring_unregister_buffers(&q->ring);
        io_uring_queue_exit(&q->ring);
    }
    q->ring_made = false;
    free(q->files);
    q->files = NULL;
}

void gwi_ssd_ring_disown(struct ssd_queue *q)
{
    if (q->fixed_room)
        (void)io_uring_unregister_buffers(&q->ring);
    q->fixed_room = false;
}

void gwi_ssd_ring_adopt(struct ssd_queue *q)
{
    struct iovec region = {q->room, (size_t)(q->room_end - q->room)};
    int rc = io_uring_register_buffers(&q->ring, &region, 1);
    q->fixed_room = rc == 0;
    if (rc < 0)
        gw_debug("tiering.adopt", "bytes=%zu errno=%d", region.iov_len, -rc);
}

bool gwi_ssd_ring_events(struct ssd_queue *q)
{
    return io_uring_register_eventfd(&q->ring, q->event_fd) == 0;
}

void gwi_ssd_ring_forget_file(struct ssd_queue *q, struct ssd_segment *s)
{
    if (!q->ring_made || s->index >= q->files_count || q->files[s->index] != s->number + 1)
        return;
    int none = -1;
    (void)io_uring_register_files_update(&q->ring, s->index, &none,
                                         1); /* the file is emptied too */
    q->files[s->index] = 0;
}

/* Whether the segment's file is registered with this ring, now. */
static bool registered(struct ssd_queue *q, const struct ssd_segment *s)
{
    if (s->index >= q->files_count || q->files_refused)
        return false;
    if (q->files[s->index] == s->number + 1)
        return true;
    int fd = s->fd;
    if (io_uring_register_files_update(&q->ring, s->index, &fd, 1) != 1) {
        q->files_refused = true; /* it would be asked again for every read */
        return false;
    }
    q->files[s->index] = s->number + 1;
    return true;
}

void gwi_ssd_ring_send(struct ssd_op *op, uint32_t part)
{
    struct ssd_queue *q = op->queue;
    struct ssd_range r = gwi_ssd_range(op, part);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
    GW_ASSERT(sqe); /* rule 1 */
    bool file = registered(q, op->segment);
    int fd = file ? (int)op->segment->index : op->segment->fd;
    if (op->write)
        io_uring_prep_write(sqe, fd, r.memory, r.bytes, r.offset);
    else if (q->fixed_room && r.memory >= q->room && r.memory + r.bytes <= q->room_end)
        io_uring_prep_read_fixed(sqe, fd, r.memory, r.bytes, r.offset, 0);
    else
        io_uring_prep_read(sqe, fd, r.memory, r.bytes, r.offset);
    if (file)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, name_of(op, part));
}

static void part_came_back(struct ssd_op *op, uint32_t part, int64_t result)
{
    if (!gwi_ssd_part_result(op, part, result)) {
        if (!op->queue->ring_dead) {
            gwi_ssd_ring_send(op, part);
            return;
        }
        op->status = GW_E_IO;
    }
    if (--op->parts == 0)
        gwi_ssd_finish(op);
}

/* Rule 4: ends what was prepared and not taken. */
static void ring_die(struct ssd_queue *q, int rc)
{
    gw_debug("tiering.ring", "queue=%u errno=%d", q->number, -rc);
    q->ring_dead = true;
    struct io_uring_sq *sq = &q->ring.sq;
    /* Without a kernel thread of the ring's own the kernel looks at the tail inside of our calls
     * only, so that we may take it back between them. */
    uint32_t from = *sq->khead, to = sq->sqe_tail;
    sq->sqe_head = sq->sqe_tail = from;
    *sq->ktail = from;
    for (uint32_t i = from; i != to; i++) {
        uint64_t name = sq->sqes[i & *sq->kring_mask].user_data;
        part_came_back((struct ssd_op *)(uintptr_t)(name & ~(uint64_t)(SSD_PARTS - 1)),
                       name & (SSD_PARTS - 1), -EIO);
    }
}

static void ring_submit(struct ssd_queue *q)
{
    int rc = q->ssd->calls.ring_submit(q->ssd->calls.ctx, &q->ring);
    if (rc >= 0) {
        q->submit_failures = 0;
        return;
    }
    /* Short of memory, interrupted: the entries stay where they are, the next poll tries again. */
    if (++q->submit_failures >= SUBMIT_FAILURES_MAX && !q->ring_dead)
        ring_die(q, rc);
}

bool gwi_ssd_ring_gather(struct ssd_queue *q)
{
    if (io_uring_cq_ready(&q->ring) > 0)
        return true;
    bool wants_us = __atomic_load_n(q->ring.sq.kflags, __ATOMIC_RELAXED) &
                    (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    if (wants_us || io_uring_sq_ready(&q->ring) > 0)
        ring_submit(q);
    return io_uring_cq_ready(&q->ring) > 0;
}

void gwi_ssd_ring_reap(struct ssd_queue *q)
{
    /* No more than there are now: callbacks submit, and a poll must end. */
    uint32_t ready = io_uring_cq_ready(&q->ring);
    for (uint32_t i = 0; i < ready; i++) {
        struct io_uring_cqe *cqe;
        if (io_uring_peek_cqe(&q->ring, &cqe) != 0)
            break;
        uint64_t name = cqe->user_data;
        int result = cqe->res;
        io_uring_cqe_seen(&q->ring, cqe);
        struct ssd_op *op = (struct ssd_op *)(uintptr_t)(name & ~(uint64_t)(SSD_PARTS - 1));
        uint32_t part = name & (SSD_PARTS - 1);
        void *memory = gwi_ssd_range(op, part).memory;
        result = q->ssd->calls.ring_result(q->ssd->calls.ctx, op->write, memory, result);
        part_came_back(op, part, result);
    }
}

void gwi_ssd_ring_flush(struct ssd_queue *q)
{
    if (io_uring_sq_ready(&q->ring) > 0)
        ring_submit(q);
}
