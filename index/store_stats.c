/* store_stats.c - the store's numbers: what each thread counts alone is added up when somebody
 * asks. Contract: store.h. */
#include <string.h>

#include "index/cold.h"
#include "index/compact.h"
#include "index/device.h"
#include "index/pages.h"
#include "index/store_internal.h"

void gwi_counters_add(struct gwi_counters *into, const struct gwi_counters *from)
{
#define ADD(field)                                                                                 \
    atomic_store_explicit(&into->field,                                                            \
                          atomic_load_explicit(&into->field, memory_order_relaxed) +               \
                              atomic_load_explicit(&from->field, memory_order_relaxed),            \
                          memory_order_relaxed)
    ADD(keys);
    ADD(live_bytes);
    ADD(refused_full);
    ADD(retries);
    ADD(copies);
    ADD(cold);
    ADD(promoted);
    ADD(corrupt);
    ADD(evicted);
    ADD(expired);
    ADD(compacted_bytes);
    ADD(compacted_live_bytes);
    ADD(compact_reads);
#undef ADD
    gwi_count_highest(&into->walk_longest,
                      atomic_load_explicit(&from->walk_longest, memory_order_relaxed));
    gwi_count_highest(&into->version_highest,
                      atomic_load_explicit(&from->version_highest, memory_order_relaxed));
}

static void counters_sum(const struct gw_store *store, struct gwi_counters *sum)
{
    memset(sum, 0, sizeof *sum);
    pthread_mutex_t *lock = (pthread_mutex_t *)&store->lock; /* a look, though it takes the lock */
    pthread_mutex_lock(lock);
    gwi_counters_add(sum, &store->closed);
    for (uint32_t i = 0; i < store->threads_max; i++)
        if (store->threads[i])
            gwi_counters_add(sum, &store->threads[i]->counters);
    pthread_mutex_unlock(lock);
}

uint64_t gwi_mean_record_bytes(const struct gw_store *store)
{
    struct gwi_counters sum;
    counters_sum(store, &sum);
    int64_t keys = atomic_load_explicit(&sum.keys, memory_order_relaxed);
    int64_t live = atomic_load_explicit(&sum.live_bytes, memory_order_relaxed);
    return keys > 0 && live > 0 ? (uint64_t)(live / keys) : 0;
}

uint64_t gwi_live_bytes(const struct gw_store *store)
{
    struct gwi_counters sum;
    counters_sum(store, &sum);
    int64_t live = atomic_load_explicit(&sum.live_bytes, memory_order_relaxed);
    return live > 0 ? (uint64_t)live : 0;
}

uint64_t gwi_copied_bytes(const struct gw_store *store)
{
    struct gwi_counters sum;
    counters_sum(store, &sum);
    return atomic_load_explicit(&sum.compacted_live_bytes, memory_order_relaxed);
}

uint64_t gw_store_unreadable(const struct gw_thread *t)
{
    return atomic_load_explicit(&t->counters.corrupt, memory_order_relaxed); /* its own */
}

uint32_t gw_store_version_highest(const struct gw_store *store)
{
    struct gwi_counters sum;
    counters_sum(store, &sum);
    uint32_t floor = atomic_load_explicit(&store->version_floor, memory_order_acquire);
    uint32_t highest = atomic_load_explicit(&sum.version_highest, memory_order_relaxed);
    return highest > floor ? highest : floor;
}

/* What the threads hold: their own structs and compaction, and cold reads. */
static void memory_of_threads(const struct gw_store *store, struct gw_store_stats *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&store->lock;
    pthread_mutex_lock(lock);
    for (uint32_t i = 0; i < store->threads_max; i++) {
        const struct gw_thread *t = store->threads[i];
        if (!t)
            continue;
        out->memory_threads += sizeof *t + gwi_compact_bytes(t) + gwi_pages_bytes(t);
        out->memory_cold += t->cold ? gwi_cold_bytes(t->cold) : 0;
    }
    pthread_mutex_unlock(lock);
}

void gw_store_stats(const struct gw_store *store, struct gw_store_stats *out)
{
    struct gwi_counters sum;
    counters_sum(store, &sum);
    const struct gw_log *log = store->log;
    struct gw_device_usage usage = {0};
    if (log->device)
        log->device->usage(log->device, &usage);
    int64_t keys = atomic_load_explicit(&sum.keys, memory_order_relaxed);
    int64_t live_bytes = atomic_load_explicit(&sum.live_bytes, memory_order_relaxed);
    uint64_t begin = atomic_load_explicit(&log->begin, memory_order_acquire);
    uint64_t tail = gw_log_tail(log).v;
    uint64_t missing = gwi_log_pages_missing(log, begin >> log->page_bits, tail >> log->page_bits);
    *out = (struct gw_store_stats){
        .keys = keys > 0 ? (uint64_t)keys : 0,
        .log_bytes_used = tail - begin - (missing << log->page_bits),
        .live_bytes = live_bytes > 0 ? (uint64_t)live_bytes : 0,
        .log_bytes_total = gw_log_frames_held(log) << log->page_bits,
        .log_begin = begin,
        .log_head = atomic_load_explicit(&log->head, memory_order_acquire),
        .log_flushed = atomic_load_explicit(&log->flushed, memory_order_acquire),
        .log_tail = tail,
        .log_read_only = atomic_load_explicit(&log->read_only, memory_order_acquire),
        .index_bytes = gw_table_memory_bytes(store->table),
        .index_buckets = gw_table_buckets(store->table),
        .index_overflow_used = gw_table_lines_used(store->table),
        .index_overflow_total = gw_table_lines_total(store->table),
        .index_splits = gw_table_splits(store->table),
        .log_pages = log->pages,
        .index_pages = store->table->pages,
        .full = atomic_load_explicit(&log->full, memory_order_relaxed) != 0,
        .refused_full = atomic_load_explicit(&sum.refused_full, memory_order_relaxed),
        .retries = atomic_load_explicit(&sum.retries, memory_order_relaxed),
        .copies = atomic_load_explicit(&sum.copies, memory_order_relaxed),
        .cold = atomic_load_explicit(&sum.cold, memory_order_relaxed),
        .promoted = atomic_load_explicit(&sum.promoted, memory_order_relaxed),
        .evicted = atomic_load_explicit(&sum.evicted, memory_order_relaxed),
        .expired = atomic_load_explicit(&sum.expired, memory_order_relaxed),
        .compacted_bytes = atomic_load_explicit(&sum.compacted_bytes, memory_order_relaxed),
        .compacted_live_bytes =
            atomic_load_explicit(&sum.compacted_live_bytes, memory_order_relaxed),
        .compact_reads = atomic_load_explicit(&sum.compact_reads, memory_order_relaxed),
        .corrupt = atomic_load_explicit(&sum.corrupt, memory_order_relaxed),
        .memory_log = gw_log_frames_held(log) << log->page_bits,
        .memory_index = gw_table_memory_bytes(store->table),
        .memory_device = usage.memory_bytes,
        .memory_chains = gwi_chains_bytes(store->chains),
        .walk_longest = atomic_load_explicit(&sum.walk_longest, memory_order_relaxed),
    };
    memory_of_threads(store, out);
}
