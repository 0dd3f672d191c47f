/* memory.c - dividing --memory; see memory.h. The numbers are measured sizes, rounded up: what a
 * dispatcher allocates at its start, what a connection costs while half a frame of it is there. */
#define _GNU_SOURCE
#include "server/memory.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "index/address.h"
#include "index/base/text.h"
#include "index/store.h"
#include "tiering/tier.h"

#define KIB                  UINT64_C(1024)
#define MIB                  (KIB * 1024)

#define PROCESS_BYTES        (5 * MIB) /* text, libraries and heap of an idle server */
#define PROCESS_THREAD_BYTES (128 * KIB)
#define HOLES_SHARE          32u /* what malloc cannot give back at once */
#define HOLES_MAX            (8 * MIB)
#define DISPATCHER_BYTES     (640 * KIB) /* rings, tables of connections and sessions */
#define VALUE_ROOM           (128 * KIB) /* what a frame has beyond the largest record */
#define LARGE_BUFFER_BYTES   (64 * KIB)
#define SMALL_BUFFER_BYTES   (16 * KIB) /* of servers that must count every connection */
#define SMALL_MEMORY         (512 * MIB)
#define BUFFERS_MAX          64u
#define CONNECTION_BYTES     KIB /* one that is idle; bytes on their way have a bound of their own */
#define CONNECTIONS_MAX      12000u
#define CONNECTIONS_MIN      16u
#define READ_BYTES           (8 * KIB)
#define READS_MAX            512u
#define TABLE_SHARE          (KIB - 24) /* a checksum of 4 B for 4 KiB, headers */
#define TIER_QUEUE_BYTES     (320 * KIB)
#define COMPACT_BYTES        MIB /* pieces of four pages, and one large record */
#define CHECKPOINT_BYTES     MIB /* write buffer, blocks, the worker */
#define BLOB_CACHE_MIN       MIB
#define BLOB_CACHE_MAX       GW_TIER_CACHE_BYTES
#define BLOB_CACHE_SHARE     32u
#define BLOB_EXTENTS         5u /* one raw, three as objects, a part of one more for their overhead */
#define BLOB_EXTENTS_SHARE   8u
#define BLOB_MORE            (2 * MIB) /* compressing, connections, lists of objects */
#define GATHER_MIN           (256 * KIB)
#define GATHER_MAX           (8 * MIB)
#define EASE_PERCENT         98u
#define PAGES_MIN            2u
#define PAGES_MIN_TIER       8u /* of a log that is flushed: two over the store's least */
#define INDEX_MIN            (2 * MIB)
#define INDEX_START_SHARE    16u
#define INDEX_MAX_PERCENT    60u

static uint64_t clamp(uint64_t v, uint64_t least, uint64_t most)
{
    return v < least ? least : v > most ? most : v;
}

/* No object is smaller than a page, and five of them are in memory while they are made. */
static uint32_t page_bits_for(uint64_t memory, bool blob)
{
    return memory >= 1024 * MIB ? 22 : memory >= (blob ? 128 : 64) * MIB ? 21 : 20;
}

static uint64_t reserve_of(const struct gwi_memory *m)
{
    return m->process + m->dispatchers + m->connections + m->parked + m->reads + m->tables +
           m->chains + m->threads + m->checkpoints + m->commit + m->blob;
}

static const char *size_text(uint64_t bytes, char *room)
{
    gw_format_size(bytes, room, 32);
    return room;
}

static void plan_reserve(const struct gwi_options *o, struct gwi_memory *m)
{
    uint64_t threads = o->threads;
    m->limit = o->memory_bytes;
    m->page_bits = o->page_bits ? o->page_bits : page_bits_for(m->limit, o->blob_url[0] != 0);
    m->frame_bytes = (uint32_t)((UINT64_C(1) << m->page_bits) + VALUE_ROOM);
    m->process = PROCESS_BYTES + threads * PROCESS_THREAD_BYTES +
                 clamp(m->limit / HOLES_SHARE, 0, HOLES_MAX + threads * MIB);

    m->receive_buffer_bytes =
        (uint32_t)(m->limit < SMALL_MEMORY ? SMALL_BUFFER_BYTES : LARGE_BUFFER_BYTES);
    m->receive_buffers = BUFFERS_MAX;
    while (m->receive_buffers > 16 &&
           (uint64_t)m->receive_buffers * m->receive_buffer_bytes * threads > m->limit / 64)
        m->receive_buffers /= 2;
    uint64_t receive = (uint64_t)m->receive_buffers * m->receive_buffer_bytes;
    m->dispatchers = threads * (2 * (uint64_t)m->frame_bytes + receive + DISPATCHER_BYTES);

    m->connections = clamp(m->limit / 16, 8 * MIB, 256 * MIB);
    m->connections = clamp(m->connections, 0, m->limit / 6);
    m->connections_max =
        (uint32_t)clamp(m->connections / 4 / CONNECTION_BYTES, CONNECTIONS_MIN, CONNECTIONS_MAX);
    m->windows_bytes_max = m->connections / 4 / threads;
    m->net_bytes_max = m->connections / 2 / threads;

    m->parked = clamp(m->limit / 64, MIB, 16 * MIB * threads);
    m->park_bytes_max = m->parked / threads;
    m->chains = m->limit / 256;
    m->threads = threads * 512 * KIB;
    if (o->disk_bytes) {
        m->reads =
            clamp(m->limit / 32, threads * 32 * READ_BYTES, threads * READS_MAX * READ_BYTES);
        m->cold_reads_max = (uint32_t)(m->reads / threads / READ_BYTES);
        m->threads = threads * (COMPACT_BYTES + (UINT64_C(1) << m->page_bits));
        m->tables = o->disk_bytes / TABLE_SHARE + threads * TIER_QUEUE_BYTES;
        m->checkpoints = CHECKPOINT_BYTES + m->connections / 8;
    }
    if (o->blob_url[0]) {
        m->blob_cache = o->blob_cache_bytes
                            ? o->blob_cache_bytes
                            : clamp(m->limit / BLOB_CACHE_SHARE, BLOB_CACHE_MIN, BLOB_CACHE_MAX);
        m->blob_extent = GW_TIER_EXTENT_BYTES;
        while (m->blob_extent >> m->page_bits > 1 &&
               m->blob_extent * BLOB_EXTENTS > m->limit / BLOB_EXTENTS_SHARE)
            m->blob_extent /= 2;
        m->blob = m->blob_cache + m->blob_extent * BLOB_EXTENTS + BLOB_MORE;
    }
    if (o->durability == GWI_DURABILITY_COMMIT) {
        m->gather_bytes_max = clamp(m->limit / 64 / threads, GATHER_MIN, GATHER_MAX);
        m->commit = threads * 3 * m->gather_bytes_max; /* gathering, in flight, replies */
    }
}

enum gw_status gwi_memory_plan(const struct gwi_options *o, struct gwi_memory *out, char *why,
                               size_t why_bytes)
{
    struct gwi_memory m = {0};
    char a[32], b[32], c[32];
    plan_reserve(o, &m);
    if (m.tables > m.limit / 4) {
        snprintf(
            why, why_bytes,
            "--disk %s: its checksums would take %s of memory, a quarter of --memory %s is the "
            "limit; give more --memory or less --disk",
            size_text(o->disk_bytes, a), size_text(m.tables, b), size_text(m.limit, c));
        return GW_E_INVALID;
    }
    uint64_t pages = (uint64_t)(o->disk_bytes ? PAGES_MIN_TIER : PAGES_MIN) << m.page_bits;
    uint64_t reserve = reserve_of(&m);
    uint64_t index =
        o->index_bytes ? o->index_bytes : clamp(m.limit / INDEX_START_SHARE, INDEX_MIN, UINT64_MAX);
    if (reserve + index + pages > m.limit) {
        char log[32];
        snprintf(why, why_bytes,
                 "--memory %s: buffers of --threads %u, connections and tables%s take %s, "
                 "--index-memory %s, and the log needs %s at least; give more --memory, or fewer "
                 "threads, or a smaller --index-memory%s%s",
                 size_text(m.limit, a), o->threads, m.blob ? ", uploads and --blob-cache" : "",
                 size_text(reserve, b), size_text(index, c), size_text(pages, log),
                 m.blob_cache ? " or --blob-cache" : "", o->page_bits ? " or --page-size" : "");
        return GW_E_INVALID;
    }
    uint64_t left = m.limit - reserve;
    m.index_start = index;
    m.log = (left - index) >> m.page_bits << m.page_bits;
    m.index_max = left / 100 * INDEX_MAX_PERCENT;
    if (m.index_max > left - pages)
        m.index_max = left - pages;
    if (m.index_max < index)
        m.index_max = index;
    *out = m;
    return GW_OK;
}

void gwi_memory_tune(const struct gwi_options *o)
{
    /* One arena a dispatcher and one for the rest: glibc's default of eight a CPU keeps what each
     * of them once held. Fixed thresholds, for the default ones grow with the largest block freed:
     * a value of a megabyte would then stay with the process for ever. */
    (void)mallopt(M_ARENA_MAX, (int)o->threads + 1);
    (void)mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    (void)mallopt(M_TRIM_THRESHOLD, 512 * 1024);
    (void)mallopt(M_TOP_PAD, 64 * 1024);
}

void gwi_memory_ease(const struct gwi_memory *m)
{
    unsigned long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return;
    if (fscanf(file, "%lu %lu", &pages, &resident) == 2 &&
        resident * (uint64_t)sysconf(_SC_PAGESIZE) > m->limit / 100 * EASE_PERCENT)
        (void)malloc_trim(0); /* 1: something was given back */
    fclose(file);
}
