/* tier.c - the face of the shared tier: what the log asks of its device.
 *
 *  1. What is on disk is read and written by the SSD tier without a detour: its status, its
 *     callback. What it does not have (any more) and lies below local_from goes to the reader.
 *  2. local_from rises before the segments below it are trimmed from the SSD. A read that finds a
 *     segment gone finds local_from raised: dropped_below.
 *  3. What the reader has done comes back through the queue's inbox, and signals the descriptor
 *     that the SSD gave out for this queue. The descriptor is drained before either is reaped, so
 *     an event that comes later stays.
 *  4. A full disk is GW_E_FULL only when nothing has been uploaded for some seconds, fewer of them
 *     when the object store fails than when it is only slow: as long as room is being made a page
 *     waits, like one whose segment is not made yet. A process has that time from its start on:
 *     it may find the disk full of what an earlier one could not upload any more. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "index/base/rand.h"
#include "tiering/tier_internal.h"

uint64_t gwi_tier_now(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

void gwi_tier_trouble(struct gw_tier *tier, bool up, const char *format, ...)
{
    char *text = up ? tier->trouble_up : tier->trouble_read;
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&tier->trouble_lock);
    text[0] = 0;
    if (format)
        vsnprintf(text, GW_BLOB_TEXT_BYTES, format, args);
    if (!up)
        tier->trouble_read_ns = gwi_tier_now();
    pthread_mutex_unlock(&tier->trouble_lock);
    va_end(args);
}

bool gwi_tier_in_hole(const struct gw_tier *tier, uint64_t at)
{
    uint32_t low = 0, high = tier->holes_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (tier->holes[middle].to.v <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low < tier->holes_count && tier->holes[low].from.v <= at;
}

/* ---- completions ---- */

static void signal_event(struct tier_queue *q)
{
    uint64_t one = 1;
    /* Seq_cst, with the push before and the store in tier_wait_fd: as in ssd.c. */
    int fd = atomic_load_explicit(&q->event_fd, memory_order_seq_cst);
    if (fd >= 0)
        (void)!write(fd, &one, sizeof one); /* full: it is readable already */
}

void gwi_tier_deliver(struct tier_op *op, enum gw_status status)
{
    struct tier_queue *q = op->queue;
    op->status = status;
    struct tier_op *head = atomic_load_explicit(&q->inbox, memory_order_relaxed);
    do {
        op->next = head;
        /* Release: the room's bytes and the status come before it; pairs with tier_poll. Seq_cst:
         * signal_event. The operation may be gone after this. */
    } while (!atomic_compare_exchange_weak_explicit(&q->inbox, &head, op, memory_order_seq_cst,
                                                    memory_order_relaxed));
    signal_event(q);
}

static uint32_t run_inbox(struct tier_queue *q)
{
    struct tier_op *in = atomic_exchange_explicit(&q->inbox, NULL, memory_order_acquire);
    struct tier_op *in_order = NULL;
    uint32_t count = 0;
    while (in) {
        struct tier_op *next = in->next;
        in->next = in_order;
        in_order = in;
        in = next;
    }
    for (struct tier_op *op = in_order, *next; op; op = next, count++) {
        next = op->next;
        gw_device_cb cb = op->cb;
        void *arg = op->arg;
        enum gw_status status = op->status;
        op->next = q->free_ops; /* before the callback: it may submit */
        q->free_ops = op;
        cb(arg, status);
    }
    return count;
}

static uint32_t tier_poll(struct gw_device *device, uint32_t queue)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    GW_ASSERT(queue < tier->queues_count);
    struct tier_queue *q = &tier->queues[queue];
    /* Seq_cst: after the store in tier_wait_fd. */
    bool due = atomic_load_explicit(&q->inbox, memory_order_seq_cst) != NULL;
    int fd = due ? atomic_load_explicit(&q->event_fd, memory_order_relaxed) : -1;
    uint64_t events;
    if (fd >= 0) /* before the SSD reaps, too: what it is told of later has an event of its own */
        (void)!read(fd, &events, sizeof events);
    uint32_t count = tier->ssd_face->poll(tier->ssd_face, queue);
    return due ? count + run_inbox(q) : count;
}

static int tier_wait_fd(struct gw_device *device, uint32_t queue)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    GW_ASSERT(queue < tier->queues_count);
    struct tier_queue *q = &tier->queues[queue];
    int fd = tier->ssd_face->wait_fd(tier->ssd_face, queue);
    if (fd < 0 || atomic_load_explicit(&q->event_fd, memory_order_relaxed) == fd)
        return fd;
    atomic_store_explicit(&q->event_fd, fd, memory_order_seq_cst);
    signal_event(q); /* what came before had no event */
    return fd;
}

/* ---- reads and writes ---- */

bool gwi_tier_gives_nothing(const struct gw_tier *tier)
{
    /* Relaxed, both: hints. */
    return atomic_load_explicit(&tier->ailing, memory_order_relaxed) &&
           atomic_load_explicit(&tier->gets_fail, memory_order_relaxed);
}

static enum gw_status submit_far(struct gw_tier *tier, uint32_t queue, uint64_t at, uint32_t origin,
                                 bool foreign, void *room, uint32_t bytes, gw_device_cb cb,
                                 void *arg)
{
    struct tier_queue *q = &tier->queues[queue];
    struct tier_op *op = q->free_ops;
    if (!op)
        return GW_WOULD_BLOCK;
    q->free_ops = op->next;
    uint64_t wait_ns = tier->read_deadline_ns;
    bool glance = gwi_tier_gives_nothing(tier);
    if (glance && wait_ns > GWI_TIER_AILING_NS)
        wait_ns = GWI_TIER_AILING_NS;
    *op = (struct tier_op){.queue = q,
                           .at = at,
                           .origin = origin,
                           .foreign = foreign,
                           .glance = glance,
                           .room = room,
                           .bytes = bytes,
                           .cb = cb,
                           .arg = arg,
                           .deadline_ns = gwi_tier_now() + wait_ns};
    gwi_tier_add(&tier->cold_reads, 1);
    gwi_tier_reader_take(tier, op);
    return GW_PENDING;
}

static enum gw_status read_foreign(struct gw_tier *tier, uint32_t queue, uint64_t at, void *room,
                                   uint32_t bytes, gw_device_cb cb, void *arg)
{
    uint64_t number = (at & ~GW_DEVICE_FOREIGN) >> GW_DEVICE_ORIGIN_SHIFT;
    uint64_t address = at & ((UINT64_C(1) << GW_DEVICE_ORIGIN_SHIFT) - 1);
    if ((address | bytes | (uintptr_t)room) & (GW_DEVICE_BLOCK - 1) || bytes == 0 ||
        bytes > GW_OBJECT_EXTENT_MAX ||
        /* Acquire: the log's id before the count. */
        number >= atomic_load_explicit(&tier->origins_count, memory_order_acquire))
        return GW_E_INVALID;
    gwi_tier_add(&tier->foreign_reads, 1);
    return submit_far(tier, queue, address, (uint32_t)number, true, room, bytes, cb, arg);
}

/* Rule 2: the SSD has said that it does not have it. */
static bool dropped_below(struct gw_tier *tier, uint64_t at)
{
    /* What told us so was stored under the SSD's lock, after local_from was. Our turn at the lock
     * cannot come before that one: we had read what it stored. */
    pthread_mutex_lock(&tier->ssd->lock);
    pthread_mutex_unlock(&tier->ssd->lock);
    return at < atomic_load_explicit(&tier->local_from, memory_order_relaxed);
}

static enum gw_status tier_read(struct gw_device *device, uint32_t queue, gw_addr at, void *room,
                                uint32_t bytes, gw_device_cb cb, void *arg)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    GW_ASSERT(queue < tier->queues_count);
    if (at.v & GW_DEVICE_FOREIGN)
        return read_foreign(tier, queue, at.v, room, bytes, cb, arg);
    uint64_t in_page = at.v & (tier->page_bytes - 1);
    if ((in_page | bytes | (uintptr_t)room) & (GW_DEVICE_BLOCK - 1) || bytes == 0 ||
        bytes > tier->page_bytes - in_page)
        return GW_E_INVALID;
    /* Relaxed: whoever trims below what he reads does so in an order of his own. */
    if (at.v < atomic_load_explicit(&tier->begin, memory_order_relaxed))
        return GW_NOT_FOUND;
    enum gw_status status = GW_NOT_FOUND;
    /* Relaxed: a glance that spares the SSD the question; a lower value is looked at again. */
    if (at.v >= atomic_load_explicit(&tier->local_from, memory_order_relaxed)) {
        status = tier->ssd_face->read(tier->ssd_face, queue, at, room, bytes, cb, arg);
        if (status != GW_NOT_FOUND || !dropped_below(tier, at.v))
            return status;
    }
    if (gwi_tier_in_hole(tier, at.v))
        return GW_NOT_FOUND;
    return submit_far(tier, queue, at.v, GWI_TIER_OWN, false, room, bytes, cb, arg);
}

static bool tier_away(const struct gw_device *device, gw_addr at)
{
    const struct gw_tier *tier = (const struct gw_tier *)device;
    /* Relaxed, both: hints. */
    return atomic_load_explicit(&tier->ailing, memory_order_relaxed) &&
           at.v < atomic_load_explicit(&tier->local_from, memory_order_relaxed);
}

/* Whether a further segment may be begun under the bound of all tiers. */
static bool beyond_bound(struct gw_tier *tier, uint64_t at)
{
    if (tier->blob_limit_bytes == 0)
        return false;
    uint64_t used = atomic_load_explicit(&tier->remote_bytes, memory_order_relaxed) +
                    atomic_load_explicit(&tier->ssd->used_bytes, memory_order_relaxed);
    if (used + tier->ssd->g.file_bytes <= tier->blob_limit_bytes)
        return false;
    struct ssd_segment *s = gwi_ssd_acquire(tier->ssd, at / tier->segment_bytes);
    if (!s)
        return true;
    gwi_ssd_release(tier->ssd, s);
    return false;
}

static enum gw_status tier_write(struct gw_device *device, uint32_t queue, gw_addr at,
                                 const void *from, uint32_t bytes, gw_device_cb cb, void *arg)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    GW_ASSERT(queue < tier->queues_count);
    uint64_t first = atomic_load_explicit(&tier->first_write, memory_order_relaxed);
    if (at.v & GW_DEVICE_FOREIGN || (first != UINT64_MAX && at.v < first))
        return GW_E_INVALID; /* tier.h: the first write is the lowest */
    /* Acquire: with gw_tier_adopt. */
    if (first == UINT64_MAX && !atomic_load_explicit(&tier->adopted, memory_order_acquire) &&
        gwi_tier_begin_empty(tier, at.v) != GW_OK)
        return GW_E_FULL; /* once in a store's life at most, and tried again */
    if (beyond_bound(tier, at.v))
        return GW_E_FULL;
    enum gw_status status = tier->ssd_face->write(tier->ssd_face, queue, at, from, bytes, cb, arg);
    if (status == GW_E_FULL && !tier->read_only) {
        /* Relaxed, both: hints. */
        atomic_store_explicit(&tier->full, true, memory_order_relaxed);
        gwi_tier_uploader_wake(tier);
        uint64_t last = atomic_load_explicit(&tier->progress_ns, memory_order_relaxed);
        bool unwell = atomic_load_explicit(&tier->unwell, memory_order_relaxed);
        if (gwi_tier_now() - last < tier->full_wait_ns / (unwell ? 3 : 1))
            return GW_WOULD_BLOCK; /* rule 4 */
    }
    if (status != GW_PENDING)
        return status;
    uint64_t end = atomic_load_explicit(&tier->written_end, memory_order_relaxed);
    while (end < at.v + bytes &&
           !atomic_compare_exchange_weak_explicit(&tier->written_end, &end, at.v + bytes,
                                                  memory_order_relaxed, memory_order_relaxed)) {}
    if (first == UINT64_MAX) {
        /* Release: begins the uploader's work, with what was adopted before. */
        (void)atomic_compare_exchange_strong_explicit(&tier->first_write, &first, at.v,
                                                      memory_order_release, memory_order_relaxed);
        gwi_tier_uploader_wake(tier);
    }
    return GW_PENDING;
}

static void rise(_Atomic uint64_t *word, uint64_t to)
{
    uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
    /* Relaxed: a bound; nothing is published by it. */
    while (now < to && !atomic_compare_exchange_weak_explicit(word, &now, to, memory_order_relaxed,
                                                              memory_order_relaxed)) {}
}

static void tier_trim(struct gw_device *device, gw_addr below)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    rise(&tier->begin, below.v);
    tier->ssd_face->trim(tier->ssd_face, below);
    gwi_tier_count_remote(tier);
    gwi_tier_uploader_wake(tier);
}

static enum gw_status tier_sync(struct gw_device *device, uint32_t queue, gw_device_cb cb,
                                void *arg)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    GW_ASSERT(queue < tier->queues_count);
    return tier->ssd_face->sync(tier->ssd_face, queue, cb, arg);
}

static void tier_adopt(struct gw_device *device, uint32_t queue, void *memory, size_t bytes)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    GW_ASSERT(queue < tier->queues_count);
    tier->ssd_face->adopt(tier->ssd_face, queue, memory, bytes);
}

static void tier_usage(struct gw_device *device, struct gw_device_usage *out)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    tier->ssd_face->usage(tier->ssd_face, out);
    /* Relaxed, all of it: a glance. */
    out->used_bytes += atomic_load_explicit(&tier->remote_bytes, memory_order_relaxed);
    out->limit_bytes = tier->blob_limit_bytes;
    out->memory_bytes += atomic_load_explicit(&tier->cache_used, memory_order_relaxed) +
                         (uint64_t)tier->queues_count * tier->depth * sizeof(struct tier_op);
    out->reads += atomic_load_explicit(&tier->cold_reads, memory_order_relaxed);
    out->read_bytes += atomic_load_explicit(&tier->cold_bytes, memory_order_relaxed);
    out->failed_reads += atomic_load_explicit(&tier->cold_failed, memory_order_relaxed);
    out->corrupt_blocks += atomic_load_explicit(&tier->cold_corrupt, memory_order_relaxed);
}

static uint64_t tier_shared(struct gw_device *device)
{
    /* Acquire: what is below was put before. */
    return atomic_load_explicit(&((struct gw_tier *)device)->shared, memory_order_acquire);
}

static uint64_t tier_origin(struct gw_device *device, uint64_t log_id)
{
    struct gw_tier *tier = (struct gw_tier *)device;
    uint32_t count = atomic_load_explicit(&tier->origins_count, memory_order_acquire), i = 0;
    while (i < count && atomic_load_explicit(&tier->origins[i], memory_order_relaxed) != log_id)
        i++;
    if (i == count) {
        pthread_mutex_lock(&tier->origins_lock);
        count = atomic_load_explicit(&tier->origins_count, memory_order_relaxed);
        while (i < count && atomic_load_explicit(&tier->origins[i], memory_order_relaxed) != log_id)
            i++;
        if (i == count && count < GWI_TIER_ORIGINS_MAX) {
            atomic_store_explicit(&tier->origins[i], log_id, memory_order_relaxed);
            /* Release: the id before the count. */
            atomic_store_explicit(&tier->origins_count, count + 1, memory_order_release);
        }
        pthread_mutex_unlock(&tier->origins_lock);
    }
    return i < GWI_TIER_ORIGINS_MAX ? GW_DEVICE_FOREIGN | (uint64_t)i << GW_DEVICE_ORIGIN_SHIFT : 0;
}

static uint64_t tier_log_id(const struct gw_device *device)
{
    return ((const struct gw_tier *)device)->store_id;
}

/* ---- the other face ---- */

struct gw_device *gw_tier_ssd(struct gw_tier *tier)
{
    return tier->ssd_face;
}

void gw_tier_keep(struct gw_tier *tier, gw_addr from)
{
    atomic_store_explicit(&tier->keep_from, from.v, memory_order_release); /* may fall, too */
    gwi_tier_uploader_wake(tier);
}

void gw_tier_hurry(struct gw_tier *tier, gw_addr to)
{
    rise(&tier->hurry_to, (to.v + tier->page_bytes - 1) & ~(tier->page_bytes - 1));
    gwi_tier_uploader_wake(tier);
}

void gw_tier_stats(struct gw_tier *tier, struct gw_tier_stats *out)
{
    *out = (struct gw_tier_stats){0};
    gw_blob_stats(tier->blob, &out->blob);
#define LOOK(word) atomic_load_explicit(&tier->word, memory_order_relaxed) /* numbers */
    out->shared = LOOK(shared);
    out->local_from = LOOK(local_from);
    uint64_t end = LOOK(written_end) / tier->extent_bytes * tier->extent_bytes;
    out->lag_bytes = end > out->shared ? end - out->shared : 0;
    uint64_t first = LOOK(first_write);
    if (first != UINT64_MAX && out->shared < first) /* what lies between does not exist */
        out->lag_bytes = end > first ? end - first : 0;
    out->objects_bytes = LOOK(objects_bytes);
    out->uploaded_raw_bytes = LOOK(uploaded_raw_bytes);
    out->uploaded_bytes = LOOK(uploaded_bytes);
    out->uploads_failed = LOOK(uploads_failed);
    out->dropped_segments = LOOK(dropped_segments);
    out->deleted_objects = LOOK(deleted_objects);
    out->cold_reads = LOOK(cold_reads);
    out->cache_hits = LOOK(cache_hits);
    out->foreign_reads = LOOK(foreign_reads);
    out->cache_bytes = LOOK(cache_used);
#undef LOOK
    pthread_mutex_lock(&tier->objects.lock);
    out->objects = tier->objects.count;
    pthread_mutex_unlock(&tier->objects.lock);
    pthread_mutex_lock(&tier->trouble_lock);
    const char *text = tier->trouble_up;
    if (!text[0] && tier->trouble_read[0] &&
        gwi_tier_now() - tier->trouble_read_ns < GWI_TIER_SAID_NS)
        text = tier->trouble_read; /* reading has no end at which it could be taken back */
    if (out->blob.healthy || !out->blob.trouble[0])
        snprintf(out->trouble, sizeof out->trouble, "%s", text);
    else /* the cause of now before what it means, which may have been found out earlier */
        snprintf(out->trouble, sizeof out->trouble, "%.150s%s%.90s", out->blob.trouble,
                 text[0] ? "; " : "", text);
    pthread_mutex_unlock(&tier->trouble_lock);
}

/* ---- begin and end ---- */

static enum gw_status queues_make(struct gw_tier *tier)
{
    const struct gw_ssd_calls *calls = &tier->ssd->calls;
    tier->queues = calls->memory(calls->ctx, tier->queues_count * sizeof *tier->queues);
    if (!tier->queues)
        return GW_E_NOMEM;
    for (uint32_t i = 0; i < tier->queues_count; i++) {
        struct tier_queue *q = &tier->queues[i];
        atomic_init(&q->event_fd, -1);
        q->ops = calloc(tier->depth, sizeof *q->ops);
        if (!q->ops)
            return GW_E_NOMEM;
        for (uint32_t n = tier->depth; n-- > 0;) {
            q->ops[n].next = q->free_ops;
            q->free_ops = &q->ops[n];
        }
    }
    return GW_OK;
}

/* The largest power of two of pages that is at most `most` and a segment. */
static uint64_t extent_of(uint64_t page_bytes, uint64_t segment_bytes, uint64_t most)
{
    uint64_t bytes = page_bytes;
    if (most == 0 || most > GW_TIER_EXTENT_BYTES)
        most = GW_TIER_EXTENT_BYTES;
    while (2 * bytes <= most && 2 * bytes <= segment_bytes)
        bytes *= 2;
    return bytes;
}

static uint64_t process_token(void)
{
    static _Atomic uint64_t token; /* of the process, whatever devices it opens one after another */
    uint64_t seen = 0, fresh = gw_rand_system_seed();
    return atomic_compare_exchange_strong_explicit(&token, &seen, fresh, memory_order_relaxed,
                                                   memory_order_relaxed)
               ? fresh
               : seen;
}

static bool frame_bytes_fit(uint32_t bytes)
{
    return bytes >= GW_OBJECT_FRAME_MIN && bytes <= GW_OBJECT_FRAME_MAX &&
           (bytes & (bytes - 1)) == 0;
}

static void tier_free(struct gw_tier *tier)
{
    for (uint32_t i = 0; tier->queues && i < tier->queues_count; i++)
        free(tier->queues[i].ops);
    free(tier->queues);
    free(tier->holes);
    free(tier->objects.at);
    free(tier->origins);
    pthread_mutex_destroy(&tier->objects.lock);
    pthread_mutex_destroy(&tier->origins_lock);
    pthread_mutex_destroy(&tier->trouble_lock);
    free(tier);
}

static struct gw_tier *tier_make(const struct gw_tier_options *o)
{
    size_t size = (sizeof(struct gw_tier) + GW_CACHE_LINE - 1) / GW_CACHE_LINE * GW_CACHE_LINE;
    struct gw_tier *tier = aligned_alloc(GW_CACHE_LINE, size);
    if (!tier)
        return NULL;
    memset(tier, 0, size);
    tier->origins = calloc(GWI_TIER_ORIGINS_MAX, sizeof *tier->origins);
    pthread_mutex_init(&tier->objects.lock, NULL);
    pthread_mutex_init(&tier->origins_lock, NULL);
    pthread_mutex_init(&tier->trouble_lock, NULL);
    tier->cluster = o->cluster;
    tier->store_id = o->ssd.store_id;
    tier->incarnation = o->ssd.incarnation;
    tier->hash_seed_check = o->ssd.hash_seed_check;
    tier->page_bits = o->ssd.page_bits;
    tier->page_bytes = UINT64_C(1) << o->ssd.page_bits;
    tier->read_only = o->ssd.read_only;
    tier->keep_earlier = o->ssd.keep_earlier;
    tier->queues_count = o->ssd.queues ? o->ssd.queues : 1;
    tier->depth = o->ssd.depth ? o->ssd.depth : GW_SSD_DEPTH_DEFAULT;
    tier->blob_limit_bytes = o->blob_limit_bytes;
    tier->cache_bytes = o->cache_bytes ? o->cache_bytes : GW_TIER_CACHE_BYTES;
    tier->frame_bytes = o->frame_bytes ? o->frame_bytes : GW_TIER_FRAME_BYTES;
    tier->read_deadline_ns = o->read_deadline_ns ? o->read_deadline_ns : GW_TIER_READ_DEADLINE;
    tier->full_wait_ns = o->full_wait_ns ? o->full_wait_ns : GWI_TIER_FULL_WAIT_NS;
    tier->level = o->level ? o->level : 1;
    tier->process = process_token();
    snprintf(tier->server_id, sizeof tier->server_id, "%s", o->server_id);
    atomic_init(&tier->first_write, UINT64_MAX);
    atomic_init(&tier->progress_ns, gwi_tier_now());
    if (tier->origins) {
        atomic_init(&tier->origins[GWI_TIER_OWN], tier->store_id);
        atomic_init(&tier->origins_count, 1);
        return tier;
    }
    tier_free(tier);
    return NULL;
}

/* What an earlier process left: tier.json. */
static enum gw_status state_take(struct gw_tier *tier, bool *found, struct gw_ssd_report *report)
{
    struct tier_state state;
    enum gw_status status = gwi_tier_state_load(tier, &state, report->error, sizeof report->error);
    if (status != GW_OK)
        return status;
    tier->objects.at = state.objects;
    tier->objects.count = tier->objects.room = state.count;
    atomic_store_explicit(&tier->local_from, state.local_from, memory_order_relaxed);
    atomic_store_explicit(&tier->shared, state.shared, memory_order_relaxed);
    tier->used = state.used;
    *found = state.found;
    return GW_OK;
}

/* There is no tier.json (tier_adopt.c, rule 4). */
static enum gw_status state_begin(struct gw_tier *tier, struct gw_ssd_report *report)
{
    if (tier->read_only)
        return GW_OK;
    if (tier->incarnation > 1) {
        struct gw_blob_stats blob;
        enum gw_status status = gwi_tier_look_for_used(tier);
        gw_blob_stats(tier->blob, &blob);
        if (status != GW_OK)
            snprintf(report->error, sizeof report->error,
                     "there is no tier.json, and the object store does not say what an earlier "
                     "process has put: %.160s",
                     blob.trouble[0] ? blob.trouble : gw_status_text(status));
        return status;
    }
    enum gw_status saved = gwi_tier_save(tier, 0, 0);
    (void)saved; /* without it the next start asks */
    return GW_OK;
}

enum gw_status gw_tier_open(const struct gw_tier_options *options, struct gw_device **out,
                            struct gw_tier **tier_out, struct gw_ssd_report *report)
{
    struct gw_ssd_options ssd = options->ssd;
    struct gw_blob_options blob = {.url = options->blob_url};
    *report = (struct gw_ssd_report){0};
    if ((options->frame_bytes && !frame_bytes_fit(options->frame_bytes)) ||
        (UINT64_C(1) << ssd.page_bits) > GW_TIER_EXTENT_BYTES) {
        snprintf(report->error, sizeof report->error,
                 "frames of %u bytes, pages of 2^%u: frames are a power of two from 16 KiB to 1 "
                 "MiB, pages at most 32 MiB",
                 options->frame_bytes, ssd.page_bits);
        return GW_E_INVALID;
    }
    struct gw_tier *tier = tier_make(options);
    enum gw_status status = GW_E_NOMEM;
    bool found = false;
    if (!tier)
        goto fail;
    ssd.queues = tier->queues_count + 1; /* the last is the uploader's */
    status = gw_ssd_open(&ssd, &tier->ssd_face, report);
    if (status != GW_OK)
        goto fail_ssd;
    tier->ssd = (struct ssd *)tier->ssd_face;
    tier->segment_bytes = tier->ssd->g.segment_bytes;
    tier->extent_bytes = extent_of(tier->page_bytes, tier->segment_bytes, options->extent_bytes);
    status = queues_make(tier);
    if (status == GW_OK)
        status = state_take(tier, &found, report);
    if (status != GW_OK)
        goto fail_blob;
    status = gw_blob_open(&blob, &tier->blob, report->error, sizeof report->error);
    if (status != GW_OK)
        goto fail_blob;
    status = found ? GW_OK : state_begin(tier, report);
    if (status != GW_OK)
        goto fail_reader;
    tier->face = (struct gw_device){.read = tier_read,
                                    .write = tier_write,
                                    .trim = tier_trim,
                                    .poll = tier_poll,
                                    .adopt = tier_adopt,
                                    .sync = tier_sync,
                                    .usage = tier_usage,
                                    .wait_fd = tier_wait_fd,
                                    .shared = tier_shared,
                                    .origin = tier_origin,
                                    .log_id = tier_log_id,
                                    .away = tier_away};
    status = gwi_tier_reader_begin(tier);
    if (status != GW_OK)
        goto fail_reader;
    status = gwi_tier_uploader_begin(tier);
    if (status != GW_OK)
        goto fail_uploader;
    gwi_tier_count_remote(tier);
    *out = &tier->face;
    *tier_out = tier;
    return GW_OK;

fail_uploader:
    gwi_tier_reader_stop(tier);
fail_reader:
    gw_blob_close(tier->blob);
    gwi_tier_reader_end(tier);
fail_blob:
    gw_ssd_close(tier->ssd_face);
fail_ssd:
    tier_free(tier);
fail:
    if (report->error[0] == 0)
        snprintf(report->error, sizeof report->error, "the shared tier cannot start: %s",
                 gw_status_text(status));
    return status;
}

void gw_tier_close(struct gw_tier *tier)
{
    if (!tier)
        return;
    gwi_tier_uploader_stop(tier);
    gwi_tier_reader_stop(tier);
    gw_blob_close(tier->blob); /* the last callbacks come in here: only notes are taken */
    gwi_tier_uploader_end(tier);
    gwi_tier_reader_end(tier);
    gw_ssd_close(tier->ssd_face);
    tier_free(tier);
}
