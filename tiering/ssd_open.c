/* ssd_open.c - the SSD tier begins and ends: sizes, queues, threads. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tiering/ssd_internal.h"

#define CLOSE_PAUSE_US 100u
#define PAGES_MAX      (1u << 20)

__attribute__((format(printf, 2, 3))) static enum gw_status invalid(struct gw_ssd_report *report,
                                                                    const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(report->error, sizeof report->error, format, args);
    va_end(args);
    return GW_E_INVALID;
}

/* The pages of a segment of which `files` fit into the bound. */
static uint64_t pages_that_fit(const struct gw_ssd_options *o, uint32_t files)
{
    uint64_t room = o->limit_bytes / files;
    struct gw_ssd_geometry one = gw_ssd_geometry_of(o->page_bits, 1);
    return room <= GW_SSD_HEADER_BYTES
               ? 0
               : (room - GW_SSD_HEADER_BYTES) / (one.page_bytes + one.table_bytes);
}

/* How many pages a segment has (ssd.h). 0: the bound is too small. */
static uint64_t pages_of_segment(const struct gw_ssd_options *o)
{
    uint64_t pages = GW_SSD_SEGMENT_BYTES >> o->page_bits;
    if (o->limit_bytes && pages > pages_that_fit(o, GW_SSD_SEGMENTS_MIN))
        pages = pages_that_fit(o, GW_SSD_SEGMENTS_MIN);
    if (pages < GW_SSD_SEGMENT_PAGES)
        pages = GW_SSD_SEGMENT_PAGES;
    if (o->limit_bytes && pages > pages_that_fit(o, GW_SSD_SEGMENTS_LEAST))
        pages = pages_that_fit(o, GW_SSD_SEGMENTS_LEAST);
    return pages;
}

static enum gw_status choose_sizes(struct ssd *ssd, const struct gw_ssd_options *o,
                                   struct gw_ssd_report *report)
{
    if (!o->dir || !o->dir[0])
        return invalid(report, "the SSD tier needs a directory");
    if (o->page_bits < GW_SSD_BLOCK_BITS || o->page_bits > 30)
        return invalid(report, "a page of 2^%u bytes is not between 4 KiB and 1 GiB", o->page_bits);
    if (o->queues > GW_SSD_QUEUES_MAX || o->depth > GW_SSD_DEPTH_MAX)
        return invalid(report, "%u queues of depth %u: at most %u and %u", o->queues, o->depth,
                       GW_SSD_QUEUES_MAX, GW_SSD_DEPTH_MAX);
    uint64_t pages = o->segment_bytes >> o->page_bits;
    if (pages << o->page_bits != o->segment_bytes || pages > PAGES_MAX)
        return invalid(report, "a segment of %llu bytes is not 1 to %u whole pages of %u",
                       (unsigned long long)o->segment_bytes, PAGES_MAX, 1u << o->page_bits);
    if (pages == 0)
        pages = pages_of_segment(o);
    uint64_t least = GW_SSD_SEGMENTS_LEAST *
                     gw_ssd_geometry_of(o->page_bits, pages ? (uint32_t)pages : 1).file_bytes;
    if (pages == 0 || (o->limit_bytes && o->limit_bytes < least))
        return invalid(report,
                       "a bound of %llu bytes is too small for %u segments: give the SSD tier at "
                       "least %llu bytes",
                       (unsigned long long)o->limit_bytes, GW_SSD_SEGMENTS_LEAST,
                       (unsigned long long)least);
    ssd->g = gw_ssd_geometry_of(o->page_bits, (uint32_t)pages);
    ssd->limit_bytes = o->limit_bytes;
    ssd->queues_count = o->queues ? o->queues : 1;
    ssd->depth = o->depth ? o->depth : GW_SSD_DEPTH_DEFAULT;
    ssd->store_id = o->store_id;
    ssd->read_only = o->read_only;
    memcpy(ssd->server_id, o->server_id, sizeof ssd->server_id);
    ssd->incarnation = o->incarnation;
    ssd->hash_seed_check = o->hash_seed_check;
    report->segment_bytes = ssd->g.segment_bytes;
    report->file_bytes = ssd->g.file_bytes;
    return GW_OK;
}

static enum gw_status queue_init(struct ssd *ssd, struct ssd_queue *q, uint32_t number)
{
    const struct gw_ssd_calls *calls = &ssd->calls;
    size_t tables = (size_t)GW_SSD_WRITES_MAX * ssd->g.table_bytes;
    size_t ops = ssd->depth * sizeof *q->ops;
    q->ssd = ssd;
    q->number = number;
    q->event_fd = -1;
    q->to_send_end = &q->to_send;
    q->ops = calls->memory(calls->ctx, ops);
    q->tables = calls->memory(calls->ctx, tables);
    if (!q->ops || !q->tables)
        return GW_E_NOMEM;
    for (uint32_t i = ssd->depth; i-- > 0;) {
        q->ops[i].next = q->free_ops;
        q->free_ops = &q->ops[i];
    }
    for (uint32_t i = 0; i < GW_SSD_WRITES_MAX; i++)
        q->free_tables[i] = q->tables + (size_t)i * ssd->g.table_bytes;
    atomic_fetch_add_explicit(&ssd->memory_bytes, ops + tables, memory_order_relaxed);
    return GW_OK;
}

static void queues_fini(struct ssd *ssd)
{
    for (uint32_t i = 0; ssd->queues && i < ssd->queues_count; i++) {
        struct ssd_queue *q = &ssd->queues[i];
        gwi_ssd_ring_fini(q);
        if (q->ssd && q->event_fd >= 0)
            (void)ssd->calls.close(ssd->calls.ctx, q->event_fd);
        free(q->ops);
        free(q->tables);
    }
    free(ssd->queues);
    ssd->queues = NULL;
}

/* All queues get a ring, or none does. */
static void rings_init(struct ssd *ssd, bool threads, struct gw_ssd_report *report)
{
    int rc = 0;
    for (uint32_t i = 0; !threads && rc == 0 && i < ssd->queues_count; i++)
        rc = gwi_ssd_ring_init(&ssd->queues[i]);
    ssd->uring = !threads && rc == 0;
    if (ssd->uring)
        return;
    for (uint32_t i = 0; i < ssd->queues_count; i++)
        gwi_ssd_ring_fini(&ssd->queues[i]);
    size_t used = strlen(report->why);
    snprintf(report->why + used, sizeof report->why - used, "%s%u threads: %s%s%s",
             used ? "; " : "", GWI_SSD_WORKERS,
             threads ? "as asked" : "the kernel refuses io_uring (", threads ? "" : strerror(-rc),
             threads ? "" : ")");
}

static enum gw_status queues_init(struct ssd *ssd, bool threads, struct gw_ssd_report *report)
{
    size_t bytes = ssd->queues_count * sizeof *ssd->queues;
    enum gw_status status = GW_OK;
    ssd->queues = ssd->calls.memory(ssd->calls.ctx, bytes);
    if (!ssd->queues)
        return GW_E_NOMEM;
    for (uint32_t i = 0; status == GW_OK && i < ssd->queues_count; i++)
        status = queue_init(ssd, &ssd->queues[i], i);
    if (status != GW_OK)
        return status;
    rings_init(ssd, threads, report);
    return ssd->uring ? GW_OK : gwi_ssd_threads_init(ssd);
}

enum gw_status gw_ssd_open(const struct gw_ssd_options *options, struct gw_device **out,
                           struct gw_ssd_report *report)
{
    const struct gw_ssd_calls *calls = options->calls ? options->calls : gw_ssd_calls_system();
    *report = (struct gw_ssd_report){0};
    struct ssd *ssd = calls->memory(calls->ctx, sizeof *ssd);
    enum gw_status status = GW_E_NOMEM;
    if (!ssd)
        goto fail_ssd;
    ssd->calls = *calls;
    ssd->dir_fd = -1;
    pthread_mutex_init(&ssd->lock, NULL);
    pthread_mutex_init(&ssd->work_lock, NULL);
    pthread_cond_init(&ssd->keeper_wakes, NULL);
    pthread_cond_init(&ssd->work_wakes, NULL);
    pthread_mutex_init(&ssd->sync_lock, NULL);
    pthread_cond_init(&ssd->sync_wakes, NULL);
    status = choose_sizes(ssd, options, report);
    if (status != GW_OK)
        goto fail_sizes;
    status = gwi_ssd_dir_open(ssd, options, report);
    if (status != GW_OK)
        goto fail_sizes;
    status = gwi_ssd_segments_init(ssd);
    if (status != GW_OK)
        goto fail_dir;
    status = queues_init(ssd, options->threads, report);
    if (status == GW_OK)
        status = gwi_ssd_sync_init(ssd);
    if (status != GW_OK)
        goto fail_queues;
    gwi_ssd_face(&ssd->face);
    report->direct = ssd->direct;
    report->uring = ssd->uring;
    *out = &ssd->face;
    return GW_OK;

fail_queues:
    gwi_ssd_threads_fini(ssd);
    queues_fini(ssd);
    gwi_ssd_segments_fini(ssd);
fail_dir:
    gwi_ssd_dir_close(ssd);
fail_sizes:
    pthread_mutex_destroy(&ssd->lock);
    pthread_mutex_destroy(&ssd->work_lock);
    pthread_cond_destroy(&ssd->keeper_wakes);
    pthread_cond_destroy(&ssd->work_wakes);
    pthread_mutex_destroy(&ssd->sync_lock);
    pthread_cond_destroy(&ssd->sync_wakes);
    free(ssd);
fail_ssd:
    if (report->error[0] == 0)
        snprintf(report->error, sizeof report->error, "the SSD tier cannot start: %s",
                 gw_status_text(status));
    return status;
}

void gw_ssd_close(struct gw_device *device)
{
    struct ssd *ssd = (struct ssd *)device;
    if (!ssd)
        return;
    for (uint32_t i = 0; i < ssd->queues_count; i++) {
        struct ssd_queue *q = &ssd->queues[i];
        q->closing = true;
        /* The threads of the queues have ended: only who closes waits, for the kernel writes into
         * rooms that are about to be given back. */
        while (q->in_flight > 0)
            if (gwi_ssd_poll(q) == 0)
                usleep(CLOSE_PAUSE_US);
    }
    gwi_ssd_sync_fini(ssd);
    gwi_ssd_threads_fini(ssd);
    gwi_ssd_segments_fini(ssd); /* before the rings: the keeper takes files out of them */
    queues_fini(ssd);
    gwi_ssd_dir_close(ssd);
    pthread_mutex_destroy(&ssd->lock);
    pthread_mutex_destroy(&ssd->work_lock);
    pthread_cond_destroy(&ssd->keeper_wakes);
    pthread_cond_destroy(&ssd->work_wakes);
    pthread_mutex_destroy(&ssd->sync_lock);
    pthread_cond_destroy(&ssd->sync_wakes);
    free(ssd);
}
