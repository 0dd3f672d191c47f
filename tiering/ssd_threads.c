/* ssd_threads.c - a few threads that read and write where the kernel has no io_uring for us.
 * Operations are handed over by polls, a list at a time; they come back through the inbox. */
#include <errno.h>

#include "tiering/ssd_internal.h"

int gwi_ssd_transfer(const struct gw_ssd_calls *calls, int fd, bool write, struct ssd_range r)
{
    uint32_t tries = 0;
    while (r.bytes > 0) {
        ssize_t n = write ? calls->pwrite(calls->ctx, fd, r.memory, r.bytes, r.offset)
                          : calls->pread(calls->ctx, fd, r.memory, r.bytes, r.offset);
        if (n < 0 && n != -EINTR && n != -EAGAIN)
            return (int)n;
        if (n == 0 && !write)
            return -EIO;
        uint32_t whole = n > 0 ? (uint32_t)n & ~(GW_DEVICE_BLOCK - 1) : 0;
        if (whole == 0 && ++tries >= GWI_SSD_TRIES_MAX)
            return -EIO;
        r.memory += whole;
        r.bytes -= whole;
        r.offset += whole;
    }
    return 0;
}

static void run(struct ssd *ssd, struct ssd_op *op)
{
    uint32_t parts = op->parts;
    for (uint32_t part = 0; part < parts; part++) {
        int rc = gwi_ssd_transfer(&ssd->calls, op->segment->fd, op->write, gwi_ssd_range(op, part));
        if (rc < 0)
            op->status = gwi_ssd_status_of(rc, op->write);
    }
    gwi_ssd_deliver(op);
}

static void *worker_main(void *arg)
{
    struct ssd *ssd = arg;
    pthread_mutex_lock(&ssd->work_lock);
    for (;;) {
        struct ssd_op *op = ssd->work;
        if (!op && ssd->workers_end)
            break;
        if (!op) {
            pthread_cond_wait(&ssd->work_wakes, &ssd->work_lock);
            continue;
        }
        ssd->work = op->next;
        if (!ssd->work)
            ssd->work_end = &ssd->work;
        pthread_mutex_unlock(&ssd->work_lock);
        run(ssd, op);
        pthread_mutex_lock(&ssd->work_lock);
    }
    pthread_mutex_unlock(&ssd->work_lock);
    return NULL;
}

void gwi_ssd_threads_send(struct ssd_queue *q)
{
    struct ssd *ssd = q->ssd;
    if (!q->to_send)
        return;
    pthread_mutex_lock(&ssd->work_lock);
    *ssd->work_end = q->to_send;
    ssd->work_end = q->to_send_end;
    pthread_cond_broadcast(&ssd->work_wakes);
    pthread_mutex_unlock(&ssd->work_lock);
    q->to_send = NULL;
    q->to_send_end = &q->to_send;
}

enum gw_status gwi_ssd_threads_init(struct ssd *ssd)
{
    ssd->work_end = &ssd->work;
    for (; ssd->workers_count < GWI_SSD_WORKERS; ssd->workers_count++)
        if (pthread_create(&ssd->workers[ssd->workers_count], NULL, worker_main, ssd) != 0)
            break;
    return ssd->workers_count > 0 ? GW_OK : GW_E_NOMEM; /* one is enough to go on */
}

void gwi_ssd_threads_fini(struct ssd *ssd)
{
    pthread_mutex_lock(&ssd->work_lock);
    ssd->workers_end = true;
    pthread_cond_broadcast(&ssd->work_wakes);
    pthread_mutex_unlock(&ssd->work_lock);
    for (uint32_t i = 0; i < ssd->workers_count; i++)
        pthread_join(ssd->workers[i], NULL);
    ssd->workers_count = 0;
}
