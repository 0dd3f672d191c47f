/* engine_report.c - what `godwit-bench engine` says: everything as one JSON document, or the part
 * that a reader wants first. Sums of the threads; differences over the measured time where a number
 * counts events, the state at its end where it is a size. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "bench/engine.h"

struct totals {
    struct gw_histogram latency, cold;
    uint64_t operations, errors, full, missing, retried, waits;
    double rate, seconds;
    uint64_t counter[GW_COUNTS];
    bool counted[GW_COUNTS];
    struct gw_store_stats stats;
    struct gw_device_usage device; /* events: of the measured time */
    uint64_t cpu_ns, rss_bytes;
    double load_seconds;
};

static void add_up(const struct gw_engine_settings *s, const struct gw_engine_worker *workers,
                   struct totals *t)
{
    memset(t, 0, sizeof *t);
    gw_histogram_clear(&t->latency);
    gw_histogram_clear(&t->cold);
    for (int k = 0; k < GW_COUNTS; k++)
        t->counted[k] = true;
    for (uint64_t i = 0; i < s->threads; i++) {
        const struct gw_engine_worker *w = &workers[i];
        gw_histogram_merge(&t->latency, &w->latency);
        gw_histogram_merge(&t->cold, &w->latency_cold);
        t->operations += w->operations;
        t->errors += w->errors;
        t->full += w->full;
        t->missing += w->missing;
        t->retried += w->session.retried;
        t->waits += w->session.waits;
        t->rate += w->seconds > 0 ? (double)w->operations / w->seconds : 0;
        t->seconds = w->seconds > t->seconds ? w->seconds : t->seconds;
        for (int k = 0; k < GW_COUNTS; k++) {
            t->counter[k] += w->counters.value[k];
            t->counted[k] &= w->counters.present[k];
        }
    }
}

static void measure_place(struct gw_bench_place *place, const struct gw_engine_baseline *base,
                          struct totals *t)
{
    gw_store_stats(place->store, &t->stats);
    t->cpu_ns = base->cpu_end_ns - base->cpu_ns;
    t->rss_bytes = gw_bench_rss_bytes();
    if (!place->device)
        return;
    struct gw_device_usage *d = &t->device;
    place->device->usage(place->device, d);
    d->reads -= base->device.reads;
    d->read_bytes -= base->device.read_bytes;
    d->writes -= base->device.writes;
    d->write_bytes -= base->device.write_bytes;
}

static double ratio(uint64_t part, uint64_t of)
{
    return of ? (double)part / (double)of : 0;
}

/* ---- JSON ---- */

static void put(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static void put_real(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, json_real(value));
}

static json_t *latency_json(const struct gw_histogram *h)
{
    json_t *object = json_object();
    put_real(object, "p50", (double)gw_histogram_at(h, 0.5) / 1e3);
    put_real(object, "p99", (double)gw_histogram_at(h, 0.99) / 1e3);
    put_real(object, "p999", (double)gw_histogram_at(h, 0.999) / 1e3);
    put_real(object, "max", (double)h->max / 1e3);
    put(object, "count", h->count);
    return object;
}

static json_t *settings_json(const struct gw_engine_settings *s, const struct gw_bench_place *place)
{
    json_t *o = json_object();
    const struct gw_workload_options *w = &s->workload;
    json_object_set_new(o, "workload", json_string(gw_workload_mix_name(w->mix)));
    json_object_set_new(o, "distribution",
                        json_string(gw_workload_distribution_name(w->distribution)));
    if (w->distribution != GW_UNIFORM)
        put_real(o, "theta", w->theta == 0 ? GW_WORKLOAD_THETA : w->theta);
    put(o, "seed", w->seed);
    put(o, "threads", s->threads);
    put(o, "keys", s->keys);
    put(o, "value_size", s->value_bytes);
    put(o, "batch", s->batch);
    put(o, "depth", s->depth);
    put(o, "warm_up_seconds", s->warm_up);
    put(o, "memory", s->place.memory_bytes);
    put(o, "disk", s->place.disk_bytes);
    json_object_set_new(o, "evict", json_boolean(s->place.evict));
    put(o, "log_bytes", place->options.log_bytes);
    put(o, "index_bytes", place->options.index_bytes);
    put(o, "index_bytes_max", place->options.index_bytes_max);
    put(o, "page_bytes", (uint64_t)1 << place->options.page_bits);
    return o;
}

static json_t *store_json(const struct totals *t)
{
    const struct gw_store_stats *st = &t->stats;
    json_t *o = json_object();
    put(o, "keys", st->keys);
    put(o, "log_bytes_used", st->log_bytes_used);
    put(o, "log_bytes_in_memory", st->log_tail - (st->log_head ? st->log_head : st->log_begin));
    put(o, "live_bytes", st->live_bytes);
    put(o, "index_bytes", st->index_bytes);
    put(o, "index_buckets", st->index_buckets);
    put(o, "index_overflow_used", st->index_overflow_used);
    put(o, "index_splits", st->index_splits);
    put_real(o, "keys_per_bucket", ratio(st->keys, st->index_buckets));
    put_real(o, "index_bytes_per_key", ratio(st->index_bytes, st->keys));
    put_real(o, "log_bytes_per_key", ratio(st->log_bytes_used, st->keys));
    json_object_set_new(o, "log_pages", json_string(gw_memory_kind_name(st->log_pages)));
    json_object_set_new(o, "index_pages", json_string(gw_memory_kind_name(st->index_pages)));
    put(o, "walk_longest", st->walk_longest);
    put(o, "copies", st->copies);
    put(o, "cold", st->cold);
    put(o, "promoted", st->promoted);
    put(o, "evicted", st->evicted);
    put(o, "expired", st->expired);
    put(o, "corrupt", st->corrupt);
    put(o, "refused_full", st->refused_full);
    put(o, "compacted_bytes", st->compacted_bytes);
    put(o, "compacted_live_bytes", st->compacted_live_bytes);
    put(o, "compact_reads", st->compact_reads);
    put(o, "memory_log", st->memory_log);
    put(o, "memory_index", st->memory_index);
    put(o, "memory_cold", st->memory_cold);
    put(o, "memory_chains", st->memory_chains);
    put(o, "memory_threads", st->memory_threads);
    put(o, "memory_device", st->memory_device);
    return o;
}

static json_t *device_json(const struct gw_bench_place *place, const struct totals *t)
{
    const struct gw_device_usage *d = &t->device;
    json_t *o = json_object();
    put(o, "reads", d->reads);
    put(o, "writes", d->writes);
    put_real(o, "reads_per_second", t->seconds > 0 ? (double)d->reads / t->seconds : 0);
    put_real(o, "writes_per_second", t->seconds > 0 ? (double)d->writes / t->seconds : 0);
    put_real(o, "reads_per_op", ratio(d->reads, t->operations));
    put_real(o, "writes_per_op", ratio(d->writes, t->operations));
    put_real(o, "read_bytes_per_op", ratio(d->read_bytes, t->operations));
    put_real(o, "write_bytes_per_op", ratio(d->write_bytes, t->operations));
    put_real(o, "cpu_us_per_read", ratio(t->cpu_ns, d->reads) / 1e3);
    put(o, "used_bytes", d->used_bytes);
    put(o, "limit_bytes", d->limit_bytes);
    put(o, "memory_bytes", d->memory_bytes);
    put_real(o, "used_over_live", ratio(d->used_bytes, t->stats.live_bytes));
    put(o, "corrupt_blocks", d->corrupt_blocks);
    put(o, "failed_reads", d->failed_reads);
    put(o, "failed_writes", d->failed_writes);
    json_object_set_new(o, "direct", json_boolean(place->direct));
    json_object_set_new(o, "io_uring", json_boolean(place->uring));
    return o;
}

/* NULL: this machine has none, or does not let us. */
static json_t *counters_json(const struct totals *t)
{
    json_t *o = NULL;
    for (int k = 0; k < GW_COUNTS; k++) {
        if (!t->counted[k])
            continue;
        o = o ? o : json_object();
        put_real(o, gw_bench_counter_name((enum gw_bench_counter)k),
                 ratio(t->counter[k], t->operations));
    }
    return o;
}

static void print_json(const struct gw_engine_settings *s, const struct gw_bench_place *place,
                       const struct totals *t)
{
    json_t *root = settings_json(s, place);
    put_real(root, "ops_per_second", t->rate);
    json_object_set_new(root, "latency_us", latency_json(&t->latency));
    json_object_set_new(root, "latency_of",
                        json_string(s->cold ? "operations in memory" : "batches"));
    if (s->cold)
        json_object_set_new(root, "latency_cold_us", latency_json(&t->cold));
    put(root, "errors", t->errors);
    put(root, "full", t->full);
    put(root, "missing", t->missing);
    put(root, "retried", t->retried);
    put(root, "waits", t->waits);
    put_real(root, "seconds", t->seconds);
    put_real(root, "load_seconds", t->load_seconds);
    put(root, "operations", t->operations);
    put_real(root, "cpu_ns_per_op", ratio(t->cpu_ns, t->operations));
    put(root, "rss_bytes", t->rss_bytes);
    json_t *counters = counters_json(t);
    json_object_set_new(root, "counters_per_op", counters ? counters : json_null());
    json_object_set_new(root, "store", store_json(t));
    json_object_set_new(root, "device", place->device ? device_json(place, t) : json_null());
    json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(root);
}

/* ---- words ---- */

static void print_latency(const char *what, const struct gw_histogram *h)
{
    printf("%s: p50 %.1f us, p99 %.1f us, p999 %.1f us, max %.1f us\n", what,
           (double)gw_histogram_at(h, 0.5) / 1e3, (double)gw_histogram_at(h, 0.99) / 1e3,
           (double)gw_histogram_at(h, 0.999) / 1e3, (double)h->max / 1e3);
}

static void print_counters(const struct totals *t)
{
    bool any = false;
    for (int k = 0; k < GW_COUNTS; k++) {
        if (!t->counted[k])
            continue;
        printf("%s%.2f %s", any ? ", " : "per operation: ", ratio(t->counter[k], t->operations),
               gw_bench_counter_name((enum gw_bench_counter)k));
        any = true;
    }
    puts(any ? "" : "misses per operation: none counted, no hardware counters here");
}

static void print_words(const struct gw_engine_settings *s, const struct gw_bench_place *place,
                        const struct totals *t)
{
    const struct gw_store_stats *st = &t->stats;
    printf("workload %s, %s, %" PRIu64 " keys, %" PRIu64 " threads: %.3f M ops/s, %" PRIu64
           " errors\n",
           gw_workload_mix_name(s->workload.mix),
           gw_workload_distribution_name(s->workload.distribution), s->keys, s->threads,
           t->rate / 1e6, t->errors);
    char name[64];
    snprintf(name, sizeof name, "batches of %" PRIu64, s->batch);
    print_latency(s->cold ? "operations in memory" : name, &t->latency);
    if (s->cold)
        print_latency("operations that waited for the device", &t->cold);
    printf("%.0f ns of processor an operation; index %.1f, log %.1f bytes a key\n",
           ratio(t->cpu_ns, t->operations), ratio(st->index_bytes, st->keys),
           ratio(st->log_bytes_used, st->keys));
    printf("%.1f keys a bucket, longest walk %u, pages: log %s, index %s\n",
           ratio(st->keys, st->index_buckets), st->walk_longest, gw_memory_kind_name(st->log_pages),
           gw_memory_kind_name(st->index_pages));
    print_counters(t);
    if (t->full || t->missing)
        printf("%" PRIu64 " refused for want of room, %" PRIu64
               " reads of keys that were evicted\n",
               t->full, t->missing);
    if (place->device) {
        const struct gw_device_usage *d = &t->device;
        printf("device: %.0f reads/s, %.3f reads and %.0f + %.0f bytes (read, written) an "
               "operation, %.1f us of processor a read\n",
               t->seconds > 0 ? (double)d->reads / t->seconds : 0, ratio(d->reads, t->operations),
               ratio(d->read_bytes, t->operations), ratio(d->write_bytes, t->operations),
               ratio(t->cpu_ns, d->reads) / 1e3);
        printf("device: %.2f x the live bytes used; compaction read %.1f MiB, copied %.1f MiB\n",
               ratio(d->used_bytes, st->live_bytes), (double)st->compacted_bytes / 1048576,
               (double)st->compacted_live_bytes / 1048576);
    }
}

void gw_engine_report(const struct gw_engine_settings *s, const struct gw_engine_worker *workers,
                      struct gw_bench_place *place, double load_seconds)
{
    static struct totals t; /* histograms are large */
    add_up(s, workers, &t);
    measure_place(place, workers[0].baseline, &t);
    t.load_seconds = load_seconds;
    if (s->json)
        print_json(s, place, &t);
    else
        print_words(s, place, &t);
}
