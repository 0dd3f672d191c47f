/* churn_report.c - what `godwit-bench churn` says. A number of the store that counts events is
 * taken over the measured time; bytes on disk against live bytes are looked at in every sample. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bench/churn.h"
#include "bench/counters.h"

struct sums {
    struct gw_histogram hit, waited, quiet, growing;
    uint64_t errors, lost, torn, full, missing, added, retried;
    int64_t counted;
    uint64_t quiet_cpu_max_ns, growing_cpu_max_ns;
    /* from the samples */
    double seconds, rate, rate_compacting, rate_resting, disk_ratio_max, disk_ratio_end;
    double seconds_compacting, index_bytes_per_key;
    struct gw_churn_sample first, last;
};

static void add_workers(const struct gw_churn_settings *s, const struct gw_churn_worker *workers,
                        struct sums *t)
{
    memset(t, 0, sizeof *t);
    gw_histogram_clear(&t->hit);
    gw_histogram_clear(&t->waited);
    gw_histogram_clear(&t->quiet);
    gw_histogram_clear(&t->growing);
    for (uint64_t i = 0; i < s->threads; i++) {
        const struct gw_churn_worker *w = &workers[i];
        gw_histogram_merge(&t->hit, &w->hit);
        gw_histogram_merge(&t->waited, &w->waited);
        gw_histogram_merge(&t->quiet, &w->quiet);
        gw_histogram_merge(&t->growing, &w->growing);
        t->errors += w->errors;
        t->lost += w->lost;
        t->torn += w->torn;
        t->full += w->full;
        t->missing += w->missing;
        t->added += w->added;
        t->counted += w->counted;
        t->retried += w->session.retried;
        if (w->quiet_cpu_max_ns > t->quiet_cpu_max_ns)
            t->quiet_cpu_max_ns = w->quiet_cpu_max_ns;
        if (w->growing_cpu_max_ns > t->growing_cpu_max_ns)
            t->growing_cpu_max_ns = w->growing_cpu_max_ns;
    }
}

static double ratio(double part, double of)
{
    return of > 0 ? part / of : 0;
}

/* Tells the time in which compaction worked from the time in which it rested, by samples. */
static void add_series(const struct gw_churn_series *series, struct sums *t)
{
    if (series->count == 0)
        return;
    t->first = series->sample[0];
    t->last = series->sample[series->count - 1];
    double compacting_ops = 0, resting_ops = 0, resting_seconds = 0, index = 0;
    for (uint32_t i = 0; i < series->count; i++) {
        const struct gw_churn_sample *now = &series->sample[i];
        double used = ratio((double)now->disk_bytes, (double)now->live_bytes);
        t->disk_ratio_max = used > t->disk_ratio_max ? used : t->disk_ratio_max;
        t->disk_ratio_end = used;
        index += ratio((double)now->index_bytes, (double)now->keys);
        if (i == 0)
            continue;
        const struct gw_churn_sample *before = now - 1;
        double seconds = now->seconds - before->seconds;
        double operations = (double)(now->operations - before->operations);
        if (now->compacted_bytes != before->compacted_bytes) {
            compacting_ops += operations;
            t->seconds_compacting += seconds;
        } else {
            resting_ops += operations;
            resting_seconds += seconds;
        }
    }
    t->seconds = t->last.seconds;
    t->rate = ratio((double)t->last.operations, t->seconds);
    t->rate_compacting = ratio(compacting_ops, t->seconds_compacting);
    t->rate_resting = ratio(resting_ops, resting_seconds);
    t->index_bytes_per_key = index / series->count;
}

static void write_series(const struct gw_churn_settings *s, const struct gw_churn_series *series)
{
    FILE *file = fopen(s->series, "w");
    if (!file) {
        perror(s->series);
        return;
    }
    fputs("# seconds\toperations\twritten\trss\tlive\tlog\tdisk\tkeys\tindex\tbuckets\tcompacted\t"
          "copied\tcompact_reads\tevicted\tcold\tpromoted\tfull\n",
          file);
    for (uint32_t i = 0; i < series->count; i++) {
        const struct gw_churn_sample *x = &series->sample[i];
        fprintf(file, "%.3f", x->seconds);
        const uint64_t columns[] = {x->operations,
                                    x->written_bytes,
                                    x->rss_bytes,
                                    x->live_bytes,
                                    x->log_bytes,
                                    x->disk_bytes,
                                    x->keys,
                                    x->index_bytes,
                                    x->index_buckets,
                                    x->compacted_bytes,
                                    x->compacted_live_bytes,
                                    x->compact_reads,
                                    x->evicted,
                                    x->cold,
                                    x->promoted,
                                    x->full};
        for (size_t k = 0; k < sizeof columns / sizeof columns[0]; k++)
            fprintf(file, "\t%" PRIu64, columns[k]);
        fputc('\n', file);
    }
    if (fclose(file) != 0)
        perror(s->series);
}

static json_t *latency_json(const struct gw_histogram *h)
{
    return json_pack("{s:f, s:f, s:f, s:f, s:I}", "p50", (double)gw_histogram_at(h, 0.5) / 1e3,
                     "p99", (double)gw_histogram_at(h, 0.99) / 1e3, "p999",
                     (double)gw_histogram_at(h, 0.999) / 1e3, "max", (double)h->max / 1e3, "count",
                     (json_int_t)h->count);
}

static void put(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}
static void put_real(json_t *object, const char *name, double value)
{
    json_object_set_new(object, name, json_real(value));
}

static const char *mode_name(const struct gw_churn_settings *s)
{
    return s->mode == GW_CHURN_MIXED       ? "mixed"
           : s->mode == GW_CHURN_OVERWRITE ? "overwrite"
                                           : "growth";
}

static void print_json(const struct gw_churn_settings *s, const struct gw_bench_place *place,
                       const struct gw_churn_series *series, const struct sums *t,
                       const struct gw_store_stats *st)
{
    json_t *o = json_object();
    json_object_set_new(o, "mode", json_string(mode_name(s)));
    put(o, "memory", s->memory_bytes);
    put(o, "disk", s->disk_bytes);
    put(o, "keys", s->keys);
    put_real(o, "record_bytes", s->record_bytes);
    put(o, "threads", s->threads);
    put_real(o, "seconds", t->seconds);
    put_real(o, "ops_per_second", t->rate);
    put(o, "errors", t->errors);
    put(o, "lost", t->lost);
    put(o, "torn", t->torn);
    put(o, "full", t->full);
    put(o, "missing", t->missing);
    put(o, "retried", t->retried);
    put(o, "index_bytes", place->options.index_bytes);
    put(o, "log_bytes", place->options.log_bytes);
    put(o, "rss_before", series->rss_before);
    put(o, "rss_max", series->rss_max);
    if (s->mode == GW_CHURN_GROWTH) {
        put(o, "buckets_from", t->first.index_buckets);
        put(o, "buckets_to", t->last.index_buckets);
        put(o, "splits", st->index_splits);
        put_real(o, "index_bytes_per_key", t->index_bytes_per_key);
        json_object_set_new(o, "turn_us", latency_json(&t->quiet));
        json_object_set_new(o, "turn_growing_us", latency_json(&t->growing));
        put_real(o, "turn_cpu_max_us", (double)t->quiet_cpu_max_ns / 1e3);
        put_real(o, "turn_growing_cpu_max_us", (double)t->growing_cpu_max_ns / 1e3);
    } else {
        put_real(o, "rss_over_memory", ratio((double)series->rss_max, (double)s->memory_bytes));
        put_real(o, "rss_of_store_over_memory",
                 ratio((double)(series->rss_max - series->rss_before), (double)s->memory_bytes));
        json_object_set_new(o, "hit_us", latency_json(&t->hit));
        json_object_set_new(o, "waited_us", latency_json(&t->waited));
        put(o, "adds", t->added);
        json_object_set_new(o, "adds_counted", json_integer((json_int_t)t->counted));
        put_real(o, "disk_over_live_max", t->disk_ratio_max);
        put_real(o, "disk_over_live_end", t->disk_ratio_end);
        put(o, "written_bytes", t->last.written_bytes);
        put(o, "live_bytes", t->last.live_bytes);
        put(o, "disk_bytes", t->last.disk_bytes);
        put(o, "compacted_bytes", t->last.compacted_bytes - t->first.compacted_bytes);
        put(o, "compacted_live_bytes",
            t->last.compacted_live_bytes - t->first.compacted_live_bytes);
        put(o, "compact_reads", t->last.compact_reads - t->first.compact_reads);
        put_real(o, "seconds_compacting", t->seconds_compacting);
        put_real(o, "ops_per_second_compacting", t->rate_compacting);
        put_real(o, "ops_per_second_resting", t->rate_resting);
        put(o, "evicted", st->evicted);
        put(o, "expired", st->expired);
        put(o, "promoted", st->promoted);
        put(o, "corrupt", st->corrupt);
    }
    json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(o);
}

static void print_latency(const char *what, const struct gw_histogram *h)
{
    printf("%s: p50 %.1f us, p99 %.1f us, p999 %.1f us, max %.1f us\n", what,
           (double)gw_histogram_at(h, 0.5) / 1e3, (double)gw_histogram_at(h, 0.99) / 1e3,
           (double)gw_histogram_at(h, 0.999) / 1e3, (double)h->max / 1e3);
}

static void print_growth(const struct sums *t)
{
    printf("%" PRIu64 " to %" PRIu64 " buckets in %.1f s, %.1f index bytes a key on the mean\n",
           t->first.index_buckets, t->last.index_buckets, t->seconds, t->index_bytes_per_key);
    print_latency("turns while nothing was split", &t->quiet);
    print_latency("turns while chunks were split", &t->growing);
    printf("longest by processor time: %.1f us, while growing %.1f us\n",
           (double)t->quiet_cpu_max_ns / 1e3, (double)t->growing_cpu_max_ns / 1e3);
}

static void print_churn(const struct gw_churn_settings *s, const struct gw_churn_series *series,
                        const struct sums *t, const struct gw_store_stats *st)
{
    const double mib = 1048576;
    print_latency("operations in memory", &t->hit);
    print_latency("operations that waited for the device", &t->waited);
    printf("memory: %.1f MiB resident at most, of it %.1f before there was a store; %.3f times "
           "--memory (the store alone %.3f)\n",
           (double)series->rss_max / mib, (double)series->rss_before / mib,
           ratio((double)series->rss_max, (double)s->memory_bytes),
           ratio((double)(series->rss_max - series->rss_before), (double)s->memory_bytes));
    printf("disk: %.1f MiB, live %.1f MiB: %.2f times, at most %.2f; written %.1f MiB\n",
           (double)t->last.disk_bytes / mib, (double)t->last.live_bytes / mib, t->disk_ratio_end,
           t->disk_ratio_max, (double)t->last.written_bytes / mib);
    printf("compaction: read %.1f MiB, copied %.1f MiB, %" PRIu64 " look-ups on the device; %.3f M "
           "ops/s while it worked (%.1f s), %.3f M while it rested\n",
           (double)(t->last.compacted_bytes - t->first.compacted_bytes) / mib,
           (double)(t->last.compacted_live_bytes - t->first.compacted_live_bytes) / mib,
           t->last.compact_reads - t->first.compact_reads, t->rate_compacting / 1e6,
           t->seconds_compacting, t->rate_resting / 1e6);
    printf("%" PRIu64 " evicted, %" PRIu64 " expired, %" PRIu64 " promoted, %" PRIu64
           " corrupt; counters %" PRId64 " of %" PRIu64 " adds\n",
           st->evicted, st->expired, st->promoted, st->corrupt, t->counted, t->added);
}

void gw_churn_report(const struct gw_churn_settings *s, const struct gw_churn_worker *workers,
                     struct gw_bench_place *place, const struct gw_churn_series *series)
{
    static struct sums t; /* histograms are large */
    struct gw_store_stats st;
    gw_store_stats(place->store, &st);
    add_workers(s, workers, &t);
    add_series(series, &t);
    if (s->series)
        write_series(s, series);
    if (s->json) {
        print_json(s, place, series, &t, &st);
        return;
    }
    printf("%s, %" PRIu64 " keys, %" PRIu64 " threads, %.1f s: %.3f M ops/s; %" PRIu64
           " errors, %" PRIu64 " lost, %" PRIu64 " torn, %" PRIu64 " refused for want of room\n",
           mode_name(s), s->keys, s->threads, t.seconds, t.rate / 1e6, t.errors, t.lost, t.torn,
           t.full);
    if (s->mode == GW_CHURN_GROWTH)
        print_growth(&t);
    else
        print_churn(s, series, &t, &st);
}
