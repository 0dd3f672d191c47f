/* churn.h - what the files of `godwit-bench churn` share. Layer: bench.
 *
 *   mixed      values of 8 B to 1 MiB, counters, keys that expire and keys that are deleted, data
 *              several times the memory: is the memory number kept, do hits stay fast, is anything
 *              lost
 *   overwrite  the data written over many times: how much disk, and what compaction costs
 *   growth     keys come in while the index grows: the longest turn */
#ifndef GW_BENCH_CHURN_H
#define GW_BENCH_CHURN_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bench/place.h"
#include "bench/session.h"
#include "bench/workload.h"
#include "index/base/histogram.h"

#define GW_CHURN_THREADS_MAX 64u

enum gw_churn_mode { GW_CHURN_MIXED, GW_CHURN_OVERWRITE, GW_CHURN_GROWTH };

struct gw_churn_settings {
    enum gw_churn_mode mode;
    uint64_t memory_bytes, disk_bytes, ratio, seconds, threads, seed, batch, depth, ttl_ms;
    uint64_t value_bytes, times;       /* overwrite */
    uint64_t buckets_from, buckets_to; /* growth */
    uint64_t keys;                     /* by ratio, or by buckets_to */
    double record_bytes;               /* mean */
    const char *directory, *series;
    bool evict, json;
};

/* Written by one worker, read by the monitor: relaxed, a recent number is enough. */
struct gw_churn_progress {
    _Atomic uint64_t operations, written_bytes;
    _Atomic bool finished;
};

struct gw_churn_worker {
    const struct gw_churn_settings *settings;
    struct gw_bench_place *place;
    struct gw_bench_session session;
    const uint8_t *pool; /* values are slices of it */
    pthread_barrier_t *start;
    uint32_t number;
    bool loading, verifying;
    struct gw_rand rand;
    struct gw_workload workload; /* which key */
    struct gw_churn_progress progress;
    /* results */
    enum gw_status failed;
    struct gw_histogram hit;                       /* turns, for each operation answered at once */
    struct gw_histogram waited;                    /* operations that waited for the device */
    struct gw_histogram quiet, growing;            /* growth: turns, outside of and within growth */
    uint64_t quiet_cpu_max_ns, growing_cpu_max_ns; /* the longest turn, by processor time */
    uint64_t errors, lost, torn, full, missing, added;
    int64_t counted; /* sum of the counters, after verifying */
};

/* One look at everything. */
struct gw_churn_sample {
    double seconds;
    uint64_t operations, written_bytes, rss_bytes;
    uint64_t live_bytes, log_bytes, disk_bytes, keys, index_bytes, index_buckets;
    uint64_t compacted_bytes, compacted_live_bytes, compact_reads, evicted, cold, promoted;
    bool full;
};

struct gw_churn_series {
    struct gw_churn_sample *sample;
    uint32_t count, room;
    uint64_t rss_before; /* without a store */
    uint64_t rss_max;
};

/* Values: `pool` holds GW_CHURN_POOL_BYTES random bytes. */
#define GW_CHURN_VALUE_MAX  ((uint64_t)1 << 20)
#define GW_CHURN_POOL_BYTES (GW_CHURN_VALUE_MAX + 65536u)

/* Mean bytes of a record of these settings. */
double gw_churn_record_bytes(const struct gw_churn_settings *s);

/* Threads; `arg` is a struct gw_churn_worker. */
void *gw_churn_load(void *arg);
void *gw_churn_run(void *arg);    /* mixed, overwrite */
void *gw_churn_verify(void *arg); /* reads everything that must be there */
void *gw_churn_grow(void *arg);   /* growth */
void gw_churn_done(void *ctx, struct gw_op *op, uint64_t latency_ns, bool waited);

void gw_churn_report(const struct gw_churn_settings *s, const struct gw_churn_worker *workers,
                     struct gw_bench_place *place, const struct gw_churn_series *series);
#endif
