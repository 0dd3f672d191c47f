/* ram_device.c - a gw_device in memory, strict about its caller (ram_device.h).
 *
 *  1. One lock for all; callbacks run without it, so they may submit.
 *  2. An operation submitted by a callback is due at the next poll at the earliest, so that a poll
 *     ends.
 *  3. Whether a read finds its page is decided twice: at submission and when it comes out. */
#include "tests/support/ram_device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "index/base/checksum.h"
#include "index/base/rand.h"

#define QUEUES_MAX 64u
#define POISON     0xEE
#define KNOWN_MAX  16u

struct op {
    enum gw_ram_kind kind;
    enum gw_status inject; /* GW_OK: comes out as it is */
    uint64_t at, due;      /* due: number of the poll */
    void *room;
    const void *from;
    uint32_t bytes, crc; /* crc of `from` at submission */
    gw_device_cb cb;
    void *arg;
};

struct queue {
    struct op *ops;
    uint32_t count;
    uint64_t polls;
    int event_fd;
    bool adopted;
};

struct page {
    uint8_t *bytes; /* NULL: not written */
    uint32_t *crcs; /* of its blocks */
    uint64_t order; /* of its writing */
};

struct segment {
    bool taken;
    struct page *pages;
};

struct failure {
    uint64_t skip, count;
    enum gw_status status;
};

struct gw_ram_device {
    struct gw_device face;
    pthread_mutex_t lock;
    struct gw_ram_device_options o;
    uint64_t page_bytes, segment_pages, segment_file_bytes;
    struct segment *segments; /* segments[i] holds addresses from (first_segment + i) x its bytes */
    uint64_t first_segment, segments_count, segments_room;
    uint64_t trimmed;
    uint64_t written, synced; /* pages so far; those up to `synced` survive a crash */
    struct queue queues[QUEUES_MAX];
    struct failure failures[GW_RAM_KINDS];
    bool held[GW_RAM_KINDS], broken;
    uint32_t in_flight[GW_RAM_KINDS];
    struct gw_device_usage usage;
    struct gw_rand rand;
    _Atomic uint64_t shared, foreign_reads, lost;
    _Atomic bool lost_is_known;
    uint64_t deleted;
    struct gw_ram_device *known[KNOWN_MAX]; /* the number of a log; ours is among them */
    uint32_t known_count;
};

static void *must(void *memory)
{
    GW_ASSERT(memory);
    return memory;
}

static struct gw_ram_device *lock_of(struct gw_device *device)
{
    struct gw_ram_device *ram = (struct gw_ram_device *)device;
    pthread_mutex_lock(&ram->lock);
    return ram;
}

static void signal_queue(struct queue *q)
{
    uint64_t one = 1;
    if (q->event_fd >= 0)
        GW_ASSERT(write(q->event_fd, &one, sizeof one) == sizeof one);
}

static struct segment *segment_find(struct gw_ram_device *ram, uint64_t at)
{
    uint64_t number = at / ram->o.segment_bytes;
    if (number < ram->first_segment || number - ram->first_segment >= ram->segments_count)
        return NULL;
    struct segment *s = &ram->segments[number - ram->first_segment];
    return s->taken ? s : NULL;
}

static struct page *page_find(struct gw_ram_device *ram, uint64_t at)
{
    struct segment *s = at < ram->trimmed ? NULL : segment_find(ram, at);
    return s ? &s->pages[at % ram->o.segment_bytes / ram->page_bytes] : NULL;
}

/* Makes the segment at `at`; false: the bound has no room. */
static bool segment_take(struct gw_ram_device *ram, uint64_t at)
{
    if (segment_find(ram, at))
        return true;
    if (ram->o.limit_bytes && ram->usage.used_bytes + ram->segment_file_bytes > ram->o.limit_bytes)
        return false;
    uint64_t number = at / ram->o.segment_bytes;
    if (ram->segments_count == 0)
        ram->first_segment = number;
    uint64_t below = number < ram->first_segment ? ram->first_segment - number : 0;
    uint64_t need = below ? ram->segments_count + below : number - ram->first_segment + 1;
    if (need > ram->segments_room) {
        ram->segments_room = need * 2;
        ram->segments = must(realloc(ram->segments, ram->segments_room * sizeof *ram->segments));
    }
    if (below) { /* pages may be written in any order */
        memmove(ram->segments + below, ram->segments, ram->segments_count * sizeof *ram->segments);
        memset(ram->segments, 0, below * sizeof *ram->segments);
        ram->first_segment = number;
        ram->segments_count = need;
    }
    for (; ram->segments_count < need; ram->segments_count++)
        ram->segments[ram->segments_count] = (struct segment){0};
    struct segment *s = &ram->segments[number - ram->first_segment];
    s->taken = true;
    s->pages = must(calloc(ram->segment_pages, sizeof *s->pages));
    ram->usage.used_bytes += ram->segment_file_bytes;
    return true;
}

static void segment_free(struct gw_ram_device *ram, struct segment *s)
{
    if (!s->taken)
        return;
    for (uint64_t i = 0; i < ram->segment_pages; i++)
        free(s->pages[i].bytes);
    free(s->pages);
    ram->usage.used_bytes -= ram->segment_file_bytes;
}

/* What was ordered for the next call of this kind. */
static enum gw_status next_failure(struct gw_ram_device *ram, enum gw_ram_kind kind)
{
    struct failure *f = &ram->failures[kind];
    if (f->count == 0)
        return GW_OK;
    if (f->skip > 0) {
        f->skip--;
        return GW_OK;
    }
    f->count--;
    return f->status;
}

static bool answered_at_once(enum gw_status status)
{
    return status == GW_WOULD_BLOCK || status == GW_E_FULL || status == GW_NOT_FOUND;
}

static enum gw_status submit(struct gw_ram_device *ram, uint32_t queue, struct op op)
{
    GW_ASSERT(queue < ram->o.queues);
    struct queue *q = &ram->queues[queue];
    if (ram->broken)
        return GW_E_IO;
    if (q->count == ram->o.depth)
        return GW_WOULD_BLOCK;
    op.inject = next_failure(ram, op.kind);
    if (answered_at_once(op.inject))
        return op.inject;
    if (op.kind == GW_RAM_READ && (op.at & GW_DEVICE_FOREIGN)) {
        memset(op.room, POISON, op.bytes);
        atomic_fetch_add(&ram->foreign_reads, 1);
    } else if (op.kind == GW_RAM_READ) {
        struct page *page = page_find(ram, op.at);
        if (!page || !page->bytes)
            return GW_NOT_FOUND;
        if (op.at < atomic_load(&ram->lost))
            op.inject = GW_E_UNREACHABLE;
        memset(op.room, POISON, op.bytes);
        ram->usage.reads++;
        ram->usage.read_bytes += op.bytes;
    } else if (op.kind == GW_RAM_SYNC) {
        op.at = ram->written; /* what it covers */
    } else {
        if (op.at < ram->trimmed)
            return GW_NOT_FOUND;
        if (!segment_take(ram, op.at))
            return GW_E_FULL;
        GW_ASSERT(!page_find(ram, op.at)->bytes); /* a page is written once */
        for (uint32_t i = 0; i < ram->o.queues; i++)
            for (uint32_t k = 0; k < ram->queues[i].count; k++)
                GW_ASSERT(ram->queues[i].ops[k].kind != GW_RAM_WRITE ||
                          ram->queues[i].ops[k].at != op.at);
        op.crc = gw_crc32c(0, op.from, op.bytes);
        ram->usage.writes++;
        ram->usage.write_bytes += op.bytes;
    }
    op.due = q->polls + 1 + gw_rand_below(&ram->rand, (uint64_t)ram->o.delay_polls_max + 1);
    q->ops[q->count++] = op;
    ram->in_flight[op.kind]++;
    if (!ram->held[op.kind])
        signal_queue(q);
    return GW_PENDING;
}

static enum gw_status ram_read(struct gw_device *device, uint32_t queue, gw_addr at, void *room,
                               uint32_t bytes, gw_device_cb cb, void *arg)
{
    struct gw_ram_device *ram = lock_of(device);
    GW_ASSERT(at.v % GW_DEVICE_BLOCK == 0 && bytes % GW_DEVICE_BLOCK == 0 && bytes > 0);
    GW_ASSERT((at.v & GW_DEVICE_FOREIGN) ||
              at.v / ram->page_bytes == (at.v + bytes - 1) / ram->page_bytes);
    GW_ASSERT((uintptr_t)room % GW_DEVICE_BLOCK == 0);
    enum gw_status status = submit(ram, queue,
                                   (struct op){.kind = GW_RAM_READ,
                                               .at = at.v,
                                               .room = room,
                                               .bytes = bytes,
                                               .cb = cb,
                                               .arg = arg});
    pthread_mutex_unlock(&ram->lock);
    return status;
}

static enum gw_status ram_write(struct gw_device *device, uint32_t queue, gw_addr at,
                                const void *from, uint32_t bytes, gw_device_cb cb, void *arg)
{
    struct gw_ram_device *ram = lock_of(device);
    GW_ASSERT(at.v % ram->page_bytes == 0 && bytes == ram->page_bytes);
    GW_ASSERT((uintptr_t)from % GW_DEVICE_BLOCK == 0);
    enum gw_status status = submit(ram, queue,
                                   (struct op){.kind = GW_RAM_WRITE,
                                               .at = at.v,
                                               .from = from,
                                               .bytes = bytes,
                                               .cb = cb,
                                               .arg = arg});
    pthread_mutex_unlock(&ram->lock);
    return status;
}

/* The bytes of a page that somebody has written. */
static enum gw_status page_copy(struct gw_ram_device *ram, struct page *page, uint64_t offset,
                                void *room, uint32_t bytes)
{
    for (uint64_t done = 0; done < bytes; done += GW_DEVICE_BLOCK) {
        const uint8_t *block = page->bytes + offset + done;
        if (gw_crc32c(0, block, GW_DEVICE_BLOCK) != page->crcs[(offset + done) / GW_DEVICE_BLOCK]) {
            ram->usage.corrupt_blocks++;
            return GW_E_CORRUPT;
        }
    }
    memcpy(room, page->bytes + offset, bytes);
    return GW_OK;
}

/* Without our lock, for the other one is taken. */
static enum gw_status finish_foreign(struct gw_ram_device *ram, const struct op *op)
{
    if (op->inject != GW_OK)
        return op->inject;
    uint64_t number = (op->at & ~GW_DEVICE_FOREIGN) >> GW_DEVICE_ORIGIN_SHIFT;
    uint64_t at = op->at & (((uint64_t)1 << GW_DEVICE_ORIGIN_SHIFT) - 1);
    pthread_mutex_lock(&ram->lock);
    GW_ASSERT(number < ram->known_count);
    struct gw_ram_device *other = ram->known[number];
    pthread_mutex_unlock(&ram->lock);
    pthread_mutex_lock(&other->lock);
    GW_ASSERT(at / other->page_bytes == (at + op->bytes - 1) / other->page_bytes);
    GW_ASSERT(at + op->bytes <= atomic_load(&other->shared));
    struct segment *s = at < other->deleted ? NULL : segment_find(other, at);
    struct page *page = s ? &s->pages[at % other->o.segment_bytes / other->page_bytes] : NULL;
    enum gw_status status = GW_NOT_FOUND;
    if (page && page->bytes)
        status = page_copy(other, page, at % other->page_bytes, op->room, op->bytes);
    pthread_mutex_unlock(&other->lock);
    return status;
}

static enum gw_status finish_read(struct gw_ram_device *ram, const struct op *op)
{
    if (op->inject != GW_OK) {
        ram->usage.failed_reads += op->inject != GW_E_CORRUPT;
        ram->usage.corrupt_blocks += op->inject == GW_E_CORRUPT;
        return op->inject;
    }
    struct page *page = page_find(ram, op->at);
    if (!page || !page->bytes)
        return GW_NOT_FOUND; /* trimmed meanwhile */
    return page_copy(ram, page, op->at % ram->page_bytes, op->room, op->bytes);
}

static enum gw_status finish_write(struct gw_ram_device *ram, const struct op *op)
{
    GW_ASSERT(gw_crc32c(0, op->from, op->bytes) == op->crc); /* `from` does not change meanwhile */
    if (op->inject != GW_OK) {
        ram->usage.failed_writes++;
        return op->inject;
    }
    struct page *page = page_find(ram, op->at);
    if (!page)
        return GW_OK; /* trimmed meanwhile: nobody will read it */
    uint32_t blocks = op->bytes / GW_DEVICE_BLOCK;
    page->bytes = must(malloc(op->bytes + blocks * sizeof *page->crcs));
    page->crcs = (uint32_t *)(page->bytes + op->bytes);
    page->order = ++ram->written;
    memcpy(page->bytes, op->from, op->bytes);
    for (uint32_t i = 0; i < blocks; i++)
        page->crcs[i] = gw_crc32c(0, page->bytes + (uint64_t)i * GW_DEVICE_BLOCK, GW_DEVICE_BLOCK);
    return GW_OK;
}

static enum gw_status ram_sync(struct gw_device *device, uint32_t queue, gw_device_cb cb, void *arg)
{
    struct gw_ram_device *ram = lock_of(device);
    enum gw_status status =
        submit(ram, queue, (struct op){.kind = GW_RAM_SYNC, .cb = cb, .arg = arg});
    pthread_mutex_unlock(&ram->lock);
    return status;
}

static enum gw_status finish_sync(struct gw_ram_device *ram, const struct op *op)
{
    if (op->inject == GW_OK && op->at > ram->synced)
        ram->synced = op->at;
    return op->inject;
}

void gw_ram_device_crash(struct gw_ram_device *ram)
{
    pthread_mutex_lock(&ram->lock);
    for (uint32_t i = 0; i < ram->o.queues; i++)
        ram->queues[i].count = 0;
    memset(ram->in_flight, 0, sizeof ram->in_flight);
    for (uint64_t i = 0; i < ram->segments_count; i++)
        for (uint64_t k = 0; ram->segments[i].taken && k < ram->segment_pages; k++) {
            struct page *page = &ram->segments[i].pages[k];
            if (page->bytes && page->order > ram->synced && gw_rand_below(&ram->rand, 2)) {
                free(page->bytes);
                *page = (struct page){0};
            }
        }
    pthread_mutex_unlock(&ram->lock);
}

/* Takes out any one of the operations that are due; false: none. */
static bool take_due(struct gw_ram_device *ram, struct queue *q, struct op *out)
{
    uint32_t due = 0;
    for (uint32_t i = 0; i < q->count; i++)
        due += q->ops[i].due <= q->polls && !ram->held[q->ops[i].kind];
    if (due == 0)
        return false;
    uint64_t pick = gw_rand_below(&ram->rand, due);
    for (uint32_t i = 0; i < q->count; i++) {
        if (q->ops[i].due > q->polls || ram->held[q->ops[i].kind] || pick-- > 0)
            continue;
        *out = q->ops[i];
        q->ops[i] = q->ops[--q->count];
        return true;
    }
    GW_ASSERT(false);
    return false;
}

static uint32_t ram_poll(struct gw_device *device, uint32_t queue)
{
    struct gw_ram_device *ram = lock_of(device);
    GW_ASSERT(queue < ram->o.queues);
    struct queue *q = &ram->queues[queue];
    uint64_t events;
    if (q->event_fd >= 0)
        (void)!read(q->event_fd, &events, sizeof events); /* empty is fine too */
    q->polls++;
    uint32_t done = 0;
    for (struct op op; take_due(ram, q, &op); done++) {
        ram->in_flight[op.kind]--;
        bool foreign = op.kind == GW_RAM_READ && (op.at & GW_DEVICE_FOREIGN);
        enum gw_status status = foreign                   ? GW_OK
                                : op.kind == GW_RAM_READ  ? finish_read(ram, &op)
                                : op.kind == GW_RAM_WRITE ? finish_write(ram, &op)
                                                          : finish_sync(ram, &op);
        pthread_mutex_unlock(&ram->lock);
        if (foreign)
            status = finish_foreign(ram, &op);
        op.cb(op.arg, status);
        pthread_mutex_lock(&ram->lock);
    }
    for (uint32_t i = 0; i < q->count; i++)
        if (!ram->held[q->ops[i].kind]) { /* further polls make it due */
            signal_queue(q);
            break;
        }
    pthread_mutex_unlock(&ram->lock);
    return done;
}

static void ram_trim(struct gw_device *device, gw_addr below)
{
    struct gw_ram_device *ram = lock_of(device);
    if (below.v > ram->trimmed)
        ram->trimmed = below.v;
    uint64_t gone = 0, end = ram->o.log_id ? ram->deleted : ram->trimmed;
    while (gone < ram->segments_count &&
           (ram->first_segment + gone + 1) * ram->o.segment_bytes <= end)
        segment_free(ram, &ram->segments[gone++]);
    if (gone > 0) {
        ram->segments_count -= gone;
        ram->first_segment += gone;
        memmove(ram->segments, ram->segments + gone, ram->segments_count * sizeof *ram->segments);
    }
    pthread_mutex_unlock(&ram->lock);
}

static void ram_adopt(struct gw_device *device, uint32_t queue, void *memory, size_t bytes)
{
    struct gw_ram_device *ram = lock_of(device);
    GW_ASSERT(queue < ram->o.queues && (memory == NULL) == (bytes == 0));
    GW_ASSERT(ram->queues[queue].adopted == (memory == NULL)); /* ended before another begins */
    ram->queues[queue].adopted = memory != NULL;
    pthread_mutex_unlock(&ram->lock);
}

static void ram_usage(struct gw_device *device, struct gw_device_usage *out)
{
    struct gw_ram_device *ram = lock_of(device);
    *out = ram->usage;
    out->limit_bytes = ram->o.limit_bytes;
    out->segment_bytes = ram->o.segment_bytes;
    pthread_mutex_unlock(&ram->lock);
}

static bool ram_away(const struct gw_device *device, gw_addr at)
{
    const struct gw_ram_device *ram = (const struct gw_ram_device *)device;
    return atomic_load(&ram->lost_is_known) && at.v < atomic_load(&ram->lost);
}

static uint64_t ram_shared(struct gw_device *device)
{
    return atomic_load(&((struct gw_ram_device *)device)->shared);
}

static uint64_t ram_origin(struct gw_device *device, uint64_t log_id)
{
    struct gw_ram_device *ram = lock_of(device);
    uint64_t base = 0;
    for (uint32_t i = 0; i < ram->known_count; i++)
        if (ram->known[i]->o.log_id == log_id)
            base = GW_DEVICE_FOREIGN | (uint64_t)i << GW_DEVICE_ORIGIN_SHIFT;
    pthread_mutex_unlock(&ram->lock);
    return base;
}

static uint64_t ram_log_id(const struct gw_device *device)
{
    return ((const struct gw_ram_device *)device)->o.log_id;
}

void gw_ram_device_know(struct gw_ram_device *ram, struct gw_ram_device *other)
{
    pthread_mutex_lock(&ram->lock);
    GW_ASSERT(ram->known_count < KNOWN_MAX && other->o.log_id);
    ram->known[ram->known_count++] = other;
    pthread_mutex_unlock(&ram->lock);
}

void gw_ram_device_share(struct gw_ram_device *ram, gw_addr to)
{
    if (atomic_load(&ram->shared) < to.v)
        atomic_store(&ram->shared, to.v);
}

void gw_ram_device_delete(struct gw_ram_device *ram, gw_addr below)
{
    pthread_mutex_lock(&ram->lock);
    uint64_t to = below.v & ~(ram->page_bytes - 1);
    if (ram->deleted < to)
        ram->deleted = to;
    pthread_mutex_unlock(&ram->lock);
}

uint64_t gw_ram_device_foreign_reads(struct gw_ram_device *ram)
{
    return atomic_load(&ram->foreign_reads);
}

static int ram_wait_fd(struct gw_device *device, uint32_t queue)
{
    struct gw_ram_device *ram = (struct gw_ram_device *)device;
    GW_ASSERT(queue < ram->o.queues);
    return ram->queues[queue].event_fd;
}

struct gw_ram_device *gw_ram_device_create(const struct gw_ram_device_options *options)
{
    struct gw_ram_device *ram = must(calloc(1, sizeof *ram));
    ram->face = (struct gw_device){.read = ram_read,
                                   .write = ram_write,
                                   .trim = ram_trim,
                                   .sync = ram_sync,
                                   .poll = ram_poll,
                                   .adopt = ram_adopt,
                                   .usage = ram_usage,
                                   .wait_fd = ram_wait_fd};
    ram->o = *options;
    ram->o.page_bits = ram->o.page_bits ? ram->o.page_bits : 16;
    ram->page_bytes = (uint64_t)1 << ram->o.page_bits;
    ram->o.segment_bytes = ram->o.segment_bytes ? ram->o.segment_bytes : 8 * ram->page_bytes;
    ram->o.queues = ram->o.queues ? ram->o.queues : 4;
    ram->o.depth = ram->o.depth ? ram->o.depth : 512;
    GW_ASSERT(ram->o.queues <= QUEUES_MAX && ram->page_bytes >= GW_DEVICE_BLOCK);
    GW_ASSERT(ram->o.segment_bytes % ram->page_bytes == 0);
    ram->segment_pages = ram->o.segment_bytes / ram->page_bytes;
    uint64_t table = (64 + 4 * (ram->page_bytes / GW_DEVICE_BLOCK) + 4095) & ~(uint64_t)4095;
    ram->segment_file_bytes = 4096 + ram->segment_pages * (table + ram->page_bytes);
    pthread_mutex_init(&ram->lock, NULL);
    gw_rand_init(&ram->rand, ram->o.seed ? ram->o.seed : 1);
    ram->face.away = ram_away;
    if (ram->o.log_id) {
        ram->face.shared = ram_shared;
        ram->face.origin = ram_origin;
        ram->face.log_id = ram_log_id;
        gw_ram_device_know(ram, ram);
    }
    for (uint32_t i = 0; i < ram->o.queues; i++) {
        struct queue *q = &ram->queues[i];
        q->ops = must(calloc(ram->o.depth, sizeof *q->ops));
        q->event_fd = ram->o.no_wait_fd ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        GW_ASSERT(ram->o.no_wait_fd || q->event_fd >= 0);
    }
    return ram;
}

void gw_ram_device_destroy(struct gw_ram_device *ram)
{
    if (!ram)
        return;
    for (uint64_t i = 0; i < ram->segments_count; i++)
        segment_free(ram, &ram->segments[i]);
    free(ram->segments);
    for (uint32_t i = 0; i < ram->o.queues; i++) {
        free(ram->queues[i].ops);
        if (ram->queues[i].event_fd >= 0)
            close(ram->queues[i].event_fd);
    }
    pthread_mutex_destroy(&ram->lock);
    free(ram);
}

struct gw_device *gw_ram_device_face(struct gw_ram_device *ram)
{
    return &ram->face;
}

void gw_ram_device_fail(struct gw_ram_device *ram, enum gw_ram_kind kind, uint64_t skip,
                        uint64_t count, enum gw_status status)
{
    pthread_mutex_lock(&ram->lock);
    ram->failures[kind] = (struct failure){skip, count, status};
    pthread_mutex_unlock(&ram->lock);
}

void gw_ram_device_break(struct gw_ram_device *ram)
{
    pthread_mutex_lock(&ram->lock);
    ram->broken = true;
    pthread_mutex_unlock(&ram->lock);
}

void gw_ram_device_lose(struct gw_ram_device *ram, gw_addr below, bool known)
{
    atomic_store(&ram->lost, below.v);
    atomic_store(&ram->lost_is_known, known);
}

void gw_ram_device_hold(struct gw_ram_device *ram, enum gw_ram_kind kind, bool held)
{
    pthread_mutex_lock(&ram->lock);
    ram->held[kind] = held;
    for (uint32_t i = 0; i < ram->o.queues; i++)
        signal_queue(&ram->queues[i]);
    pthread_mutex_unlock(&ram->lock);
}

bool gw_ram_device_flip(struct gw_ram_device *ram, gw_addr at, uint32_t bit)
{
    pthread_mutex_lock(&ram->lock);
    struct page *page = page_find(ram, at.v);
    bool there = page && page->bytes;
    if (there)
        page->bytes[at.v % ram->page_bytes + bit / 8] ^= (uint8_t)(1u << bit % 8);
    pthread_mutex_unlock(&ram->lock);
    return there;
}

void gw_ram_device_limit(struct gw_ram_device *ram, uint64_t limit_bytes)
{
    pthread_mutex_lock(&ram->lock);
    ram->o.limit_bytes = limit_bytes;
    pthread_mutex_unlock(&ram->lock);
}

uint32_t gw_ram_device_in_flight(struct gw_ram_device *ram, enum gw_ram_kind kind)
{
    pthread_mutex_lock(&ram->lock);
    uint32_t n = ram->in_flight[kind];
    pthread_mutex_unlock(&ram->lock);
    return n;
}

uint64_t gw_ram_device_pages(struct gw_ram_device *ram)
{
    uint64_t pages = 0;
    pthread_mutex_lock(&ram->lock);
    for (uint64_t i = 0; i < ram->segments_count; i++)
        for (uint64_t k = 0; ram->segments[i].taken && k < ram->segment_pages; k++)
            pages += ram->segments[i].pages[k].bytes &&
                     (ram->first_segment + i) * ram->o.segment_bytes + k * ram->page_bytes >=
                         ram->trimmed;
    pthread_mutex_unlock(&ram->lock);
    return pages;
}

uint64_t gw_ram_device_trimmed(struct gw_ram_device *ram)
{
    pthread_mutex_lock(&ram->lock);
    uint64_t trimmed = ram->trimmed;
    pthread_mutex_unlock(&ram->lock);
    return trimmed;
}

const uint8_t *gw_ram_device_peek(struct gw_ram_device *ram, gw_addr at)
{
    pthread_mutex_lock(&ram->lock);
    struct page *page = page_find(ram, at.v);
    const uint8_t *bytes = page && page->bytes ? page->bytes + at.v % ram->page_bytes : NULL;
    pthread_mutex_unlock(&ram->lock);
    return bytes;
}
