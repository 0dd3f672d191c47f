/* ssd_sync.c - the thread that makes durable what was written (device.h, sync).
 *
 *  1. A write marks its segment dirty before it calls back. A sync takes each mark away before it
 *     calls fdatasync on that file, so a write that calls back in between is marked for the next.
 *  2. Segments that are being removed need no sync: nobody will ask for them. One that is open is
 *     held by a reference meanwhile.
 *  3. Names become durable with the directory, behind the files.
 *  4. After a failure nobody knows what of the earlier writes is on the disk, and a second try may
 *     be told that all is well: it is refused for good. */
#include "index/base/log_line.h"
#include "tiering/ssd_internal.h"

static enum gw_status sync_all(struct ssd *ssd)
{
    const struct gw_ssd_calls *calls = &ssd->calls;
    int rc = 0;
    bool names = false;
    for (uint32_t i = 0; rc == 0 && i < ssd->segments_count; i++) {
        struct ssd_segment *slot = &ssd->segments[i];
        /* Relaxed: the exchange below looks again. */
        if (!atomic_load_explicit(&slot->dirty, memory_order_relaxed))
            continue;
        pthread_mutex_lock(&ssd->lock);
        uint64_t number = slot->number;
        pthread_mutex_unlock(&ssd->lock);
        struct ssd_segment *s = gwi_ssd_acquire(ssd, number);
        if (!s)
            continue;
        /* Acquire: the writes that were marked; pairs with the release in gwi_ssd_finish. */
        if (atomic_exchange_explicit(&s->dirty, false, memory_order_acquire)) {
            rc = calls->sync(calls->ctx, s->fd);
            names = true;
        }
        gwi_ssd_release(ssd, s);
    }
    if (rc == 0 && names)
        rc = calls->sync(calls->ctx, ssd->dir_fd);
    if (rc == 0)
        return GW_OK;
    gw_error("tiering.sync", "errno=%d next=refuse_further_syncs", -rc);
    return GW_E_IO;
}

static void *syncer_main(void *arg)
{
    struct ssd *ssd = arg;
    pthread_mutex_lock(&ssd->sync_lock);
    for (;;) {
        struct ssd_op *op = ssd->syncs;
        if (!op && ssd->syncer_ends)
            break;
        if (!op) {
            pthread_cond_wait(&ssd->sync_wakes, &ssd->sync_lock);
            continue;
        }
        ssd->syncs = op->next;
        if (!ssd->syncs)
            ssd->syncs_end = &ssd->syncs;
        enum gw_status status = ssd->sync_failed;
        pthread_mutex_unlock(&ssd->sync_lock);
        if (status == GW_OK)
            status = sync_all(ssd);
        pthread_mutex_lock(&ssd->sync_lock);
        ssd->sync_failed = status;
        pthread_mutex_unlock(&ssd->sync_lock);
        op->status = status;
        gwi_ssd_deliver(op);
        pthread_mutex_lock(&ssd->sync_lock);
    }
    pthread_mutex_unlock(&ssd->sync_lock);
    return NULL;
}

void gwi_ssd_sync_send(struct ssd_op *op)
{
    struct ssd *ssd = op->queue->ssd;
    op->next = NULL;
    pthread_mutex_lock(&ssd->sync_lock);
    *ssd->syncs_end = op;
    ssd->syncs_end = &op->next;
    pthread_cond_signal(&ssd->sync_wakes);
    pthread_mutex_unlock(&ssd->sync_lock);
}

enum gw_status gwi_ssd_sync_init(struct ssd *ssd)
{
    ssd->syncs_end = &ssd->syncs;
    if (pthread_create(&ssd->syncer, NULL, syncer_main, ssd) != 0)
        return GW_E_NOMEM;
    ssd->syncer_runs = true;
    return GW_OK;
}

void gwi_ssd_sync_fini(struct ssd *ssd)
{
    if (!ssd->syncer_runs)
        return;
    pthread_mutex_lock(&ssd->sync_lock);
    ssd->syncer_ends = true;
    pthread_cond_signal(&ssd->sync_wakes);
    pthread_mutex_unlock(&ssd->sync_lock);
    pthread_join(ssd->syncer, NULL);
    ssd->syncer_runs = false;
}
