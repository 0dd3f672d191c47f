/* place.c - see place.h. Without a memory number the store gets what the keys need. With one, the
 * buffers of the store come off first; the index starts as large as the keys need at six a bucket,
 * but within half of the rest, may grow to that half, and the log gets what is left. */
#include "bench/place.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/text.h"
#include "tiering/ssd.h"

#define HASH_SEED       20240229u
#define KEYS_TIGHT      6u  /* keys a bucket when memory is short: 16 B a key with overflow lines */
#define FRAMES_MIN      16u /* pages of the log at least; smaller pages are taken instead */
#define BUCKET_BYTES    64u
#define READ_BYTES      8192u        /* of one read under way */
#define QUEUE_BYTES     (320u << 10) /* rings of one queue of the device */
#define TABLE_SHARE     1000u        /* bytes of files for each byte of checksums */
#define LOG_BYTES_SPARE ((uint64_t)64 << 20)

uint64_t gw_bench_record_bytes(uint64_t value_bytes)
{
    return (16 + 8 + (value_bytes + 7) / 8 * 8 + 15) / 16 * 16;
}

/* The smallest table with at most so many keys a bucket; a third of it is overflow lines. */
static uint64_t index_for(uint64_t keys, uint64_t keys_a_bucket)
{
    uint64_t buckets = 2;
    while (buckets * keys_a_bucket < keys)
        buckets *= 2;
    return buckets * BUCKET_BYTES * 3 / 2 + 65536;
}

uint64_t gw_bench_index_bytes(uint64_t keys)
{
    return index_for(keys, 4);
}

/* What the store and the device hold beside index and log: rooms of reads, results that wait, names
 * of mixed chains, checksums of what is on the device. As the server reckons (server/memory.c), but
 * for its connections. */
static uint64_t reserve_for(const struct gw_bench_place_options *o)
{
    if (!o->disk_bytes)
        return o->memory_bytes / 256;
    uint64_t tables = o->disk_bytes / TABLE_SHARE;
    return o->memory_bytes / 64 + o->memory_bytes / 256 +
           o->threads * (o->depth * READ_BYTES + QUEUE_BYTES) +
           (tables < o->memory_bytes / 4 ? tables : o->memory_bytes / 4);
}

static bool divide(struct gw_bench_place *place, const struct gw_bench_place_options *o)
{
    struct gw_store_options *s = &place->options;
    s->index_bytes = o->index_bytes;
    s->log_bytes = o->log_bytes;
    s->index_bytes_max = o->index_bytes_max;
    if (o->memory_bytes) {
        uint64_t reserve = reserve_for(o), half = (o->memory_bytes - reserve) / 2;
        if (!s->index_bytes) {
            s->index_bytes = index_for(o->keys, KEYS_TIGHT);
            s->index_bytes = s->index_bytes > half ? half : s->index_bytes;
        }
        if (!s->index_bytes_max)
            s->index_bytes_max = s->index_bytes > half ? s->index_bytes : half;
        if (s->index_bytes + reserve >= o->memory_bytes) {
            snprintf(place->error, sizeof place->error,
                     "--index %" PRIu64 " and buffers leave nothing of --memory %" PRIu64
                     " for the log",
                     s->index_bytes, o->memory_bytes);
            return false;
        }
        if (!s->log_bytes)
            s->log_bytes = o->memory_bytes - reserve - s->index_bytes;
    }
    if (!s->index_bytes)
        s->index_bytes = gw_bench_index_bytes(o->keys);
    if (!s->log_bytes)
        s->log_bytes = o->record_bytes * o->keys * 17 / 16 + LOG_BYTES_SPARE;
    uint64_t largest = o->record_bytes_max ? o->record_bytes_max : o->record_bytes;
    s->page_bits = GW_STORE_PAGE_BITS;
    while (s->page_bits > GW_STORE_PAGE_BITS_MIN && s->log_bytes >> s->page_bits < FRAMES_MIN &&
           (uint64_t)1 << (s->page_bits - 1) >= 2 * largest)
        s->page_bits--;
    return true;
}

static bool open_device(struct gw_bench_place *place, const struct gw_bench_place_options *o)
{
    int length =
        snprintf(place->directory, sizeof place->directory, "%s/godwit-bench-XXXXXX", o->directory);
    if (length >= (int)sizeof place->directory || !mkdtemp(place->directory)) {
        snprintf(place->error, sizeof place->error, "cannot make a directory in %.200s: %s",
                 o->directory,
                 strerror(length >= (int)sizeof place->directory ? ENAMETOOLONG : errno));
        place->directory[0] = 0;
        return false;
    }
    static struct gw_ssd_report report; /* its texts are long */
    struct gw_ssd_options ssd = {.dir = place->directory,
                                 .page_bits = place->options.page_bits,
                                 .limit_bytes = o->disk_bytes,
                                 .store_id = (uint64_t)getpid(),
                                 .incarnation = 1,
                                 .queues = o->threads,
                                 .depth =
                                     o->depth < GW_SSD_DEPTH_MAX ? o->depth : GW_SSD_DEPTH_MAX};
    if (gw_ssd_open(&ssd, &place->device, &report) != GW_OK) {
        snprintf(place->error, sizeof place->error, "%s", report.error);
        return false;
    }
    if (report.why[0])
        fprintf(stderr, "godwit-bench: %s\n", report.why);
    place->direct = report.direct;
    place->uring = report.uring;
    return true;
}

bool gw_bench_place_open(struct gw_bench_place *place, const struct gw_bench_place_options *options)
{
    memset(place, 0, sizeof *place);
    struct gw_store_options *s = &place->options;
    if (!divide(place, options))
        return false;
    s->threads_max = options->threads;
    s->hash_seed = HASH_SEED;
    s->populate = options->populate;
    s->evict = options->evict;
    s->cold_reads_max = options->depth;
    if (options->disk_bytes && !open_device(place, options)) {
        gw_bench_place_close(place);
        return false;
    }
    s->device = place->device;
    enum gw_status st = gw_store_open(s, &place->store);
    if (st != GW_OK) {
        char log[32], index[32];
        gw_format_size(s->log_bytes, log, sizeof log);
        gw_format_size(s->index_bytes, index, sizeof index);
        snprintf(place->error, sizeof place->error, "cannot open the store (log %s, index %s): %s",
                 log, index, gw_status_text(st));
        gw_bench_place_close(place);
        return false;
    }
    return true;
}

void gw_bench_place_close(struct gw_bench_place *place)
{
    gw_store_close(place->store);
    if (place->device) {
        place->device->trim(place->device,
                            (gw_addr){UINT64_MAX}); /* close removes what was trimmed */
        gw_ssd_close(place->device);
    }
    if (place->directory[0] && rmdir(place->directory) != 0)
        fprintf(stderr, "godwit-bench: %s: %s\n", place->directory, strerror(errno));
    place->store = NULL;
    place->device = NULL;
    place->directory[0] = 0;
}
