/* engine.h - what the files of `godwit-bench engine` share: settings, one worker's run. */
#ifndef GW_BENCH_ENGINE_H
#define GW_BENCH_ENGINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench/counters.h"
#include "bench/place.h"
#include "bench/session.h"
#include "bench/workload.h"
#include "index/base/histogram.h"

#define GW_ENGINE_THREADS_MAX 128u
#define GW_ENGINE_VALUE_MAX   ((uint64_t)1 << 20)

struct gw_engine_settings {
    uint64_t threads, keys, value_bytes, batch, depth, seconds, warm_up;
    struct gw_workload_options workload;
    struct gw_bench_place_options place;
    bool counters, json; /* counters: values are numbers (value size 8) */
    bool cold;           /* records may be out of memory: there is a device, or eviction */
};

/* The numbers when the measured time began, and the processor time at its end. */
struct gw_engine_baseline {
    struct gw_store_stats stats;
    struct gw_device_usage device;
    uint64_t cpu_ns, cpu_end_ns;
};

struct gw_engine_worker {
    const struct gw_engine_settings *settings;
    struct gw_bench_place *place;
    struct gw_engine_baseline *baseline; /* written by worker 0 */
    struct gw_bench_session session;
    struct gw_workload workload;
    pthread_barrier_t *start;
    uint32_t number;
    bool loading, measuring; /* how the end of a parked operation counts */
    enum gw_status failed;   /* what stopped it; GW_OK: nothing */
    /* results */
    struct gw_histogram latency;      /* batches; with cold data, operations answered at once */
    struct gw_histogram latency_cold; /* operations that waited for the device */
    struct gw_bench_counters counters;
    uint64_t operations, errors, full, missing; /* missing: keys that were evicted */
    double seconds;
};

/* Threads; `arg` is a struct gw_engine_worker with everything above `results`. */
void *gw_engine_load(void *arg);
void *gw_engine_run(void *arg);
/* gw_bench_done_cb of a worker's session. */
void gw_engine_done(void *ctx, struct gw_op *op, uint64_t latency_ns, bool waited);

void gw_engine_report(const struct gw_engine_settings *s, const struct gw_engine_worker *workers,
                      struct gw_bench_place *place, double load_seconds);
#endif
