/* cluster_load.h - one client thread of `godwit-bench cluster`: loads its share of the keys, warms
 * up, measures. All threads follow one phase, which the main thread moves on. Layer: bench. */
#ifndef GW_BENCH_CLUSTER_LOAD_H
#define GW_BENCH_CLUSTER_LOAD_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench/workload.h"
#include "client/include/godwit.h"
#include "index/base/histogram.h"

enum gw_load_phase { GW_LOAD_KEYS, GW_LOAD_WARM_UP, GW_LOAD_MEASURE, GW_LOAD_END };

struct gw_load_settings {
    uint64_t threads, keys, value_bytes, batch, depth;
    double rate;   /* operations a second over all threads; 0: closed loop */
    bool counters; /* values are numbers (value-size 8) */
    struct gw_workload_options workload;
    struct gw_cluster *cluster;
    /* Main thread writes, workers read; relaxed: it publishes nothing but itself. */
    _Atomic int phase;
    /* Workers that have loaded their keys (release), for the main thread (acquire). */
    _Atomic uint32_t loaded;
};

struct gw_load_sample {
    struct gw_load_worker *worker;
    uint64_t start_ns;
    struct gw_load_sample *next_free;
};

struct gw_load_worker {
    struct gw_load_settings *settings;
    struct gw_session *session;
    pthread_t thread;
    uint32_t number;
    struct gw_workload workload;
    uint64_t answered, errors;
    enum gw_status failure; /* that ended the thread: a call was refused */
    enum gw_status error;   /* of the first operation that failed */
    bool measuring;
    struct gw_load_sample *samples, *free_samples;
    uint8_t *value;
    /* of the measured time */
    uint64_t operations;
    double seconds;
    struct gw_histogram latency_ns;
    struct gw_session_stats stats;
};

/* Opens the session and what else the thread needs. */
GW_MUST_USE enum gw_status gw_load_init(struct gw_load_worker *worker,
                                        struct gw_load_settings *settings, uint32_t number);
void gw_load_fini(struct gw_load_worker *worker);
void *gw_load_run(void *worker); /* the thread */
#endif
