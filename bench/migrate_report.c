/* migrate_report.c - what is said of runs, in words and as JSON: see migrate.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/migrate.h"

static const char *const sides[GW_SIDES] = {"outside", "inside"};

/* A number that may be unknown. */
static json_t *figure(double value)
{
    return isnan(value) || isinf(value) ? json_null() : json_real(value);
}

static json_t *count(uint64_t value)
{
    return json_integer((json_int_t)value);
}

/* A moment in ms; null: was not seen. */
static json_t *moment(uint64_t at_ns)
{
    return at_ns ? json_real((double)at_ns / 1e6) : json_null();
}

json_t *gw_migrate_settings_json(const struct gw_migrate_settings *s)
{
    struct utsname machine = {0};
    (void)uname(&machine);
    json_t *flags = json_array();
    for (uint32_t i = 0; i < s->server_flags_count; i++)
        json_array_append_new(flags, json_string(s->server_flags[i]));
    json_t *j = json_pack(
        "{s:I, s:I, s:I, s:I, s:s?, s:o, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:s, s:f, "
        "s:I, s:b, s:b}",
        "servers", (json_int_t)s->servers, "server_threads", (json_int_t)s->server_threads,
        "memory", (json_int_t)s->memory, "disk", (json_int_t)s->disk, "blob", s->blob,
        "server_flags", flags, "part", s->part, "threads", (json_int_t)s->threads, "keys",
        (json_int_t)s->keys, "key_bytes", (json_int_t)s->key_bytes, "value_bytes",
        (json_int_t)s->value_bytes, "batch", (json_int_t)s->batch, "depth", (json_int_t)s->depth,
        "rate", s->rate, "workload", gw_workload_mix_name(s->workload.mix), "distribution",
        gw_workload_distribution_name(s->workload.distribution), "theta",
        s->workload.theta > 0 ? s->workload.theta : GW_WORKLOAD_THETA, "seed",
        (json_int_t)s->workload.seed, "idle", s->idle, "target_serves", s->target_serves);
    json_object_set_new(j, "apart", json_boolean(s->apart));
    json_object_set_new(j, "warm_up_s", count(s->warm_up_s));
    json_object_set_new(j, "before_s", count(s->before_s));
    json_object_set_new(j, "after_s", count(s->after_s));
    json_object_set_new(j, "row_ms", count(GW_MIGRATE_ROW_NS / 1000000));
    json_object_set_new(j, "kernel", json_string(machine.release));
    json_object_set_new(j, "cpus", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    return j;
}

static json_t *span_json(const struct gw_migrate_span *span)
{
    json_t *j =
        json_pack("{s:I, s:I, s:I}", "rows", (json_int_t)span->rows, "median_per_row",
                  (json_int_t)span->all_median, "least_per_row", (json_int_t)span->all_least);
    for (int side = 0; side < GW_SIDES; side++)
        json_object_set_new(j, sides[side],
                            json_pack("{s:f, s:f, s:f, s:f}", "p50_us", span->p50[side], "p99_us",
                                      span->p99[side], "p999_us", span->p999[side], "max_us",
                                      span->max[side]));
    return j;
}

static json_t *rows_json(const struct gw_migrate_run *run)
{
    static const char *const columns[] = {"t_ms",           "source",         "target",
                                          "other",          "waiting_max",    "waiting_end",
                                          "outside_p50_us", "outside_p99_us", "outside_p999_us",
                                          "outside_max_us", "inside_p50_us",  "inside_p99_us",
                                          "inside_p999_us", "inside_max_us"};
    enum { COLUMNS = sizeof columns / sizeof columns[0] };
    json_t *column[COLUMNS], *j = json_object();
    for (int c = 0; c < COLUMNS; c++)
        json_object_set_new(j, columns[c], column[c] = json_array());
    for (uint64_t n = 0; n < run->points_count; n++) {
        const struct gw_migrate_point *p = &run->points[n];
        const uint64_t whole[] = {
            n * (GW_MIGRATE_ROW_NS / 1000000), p->done[GW_OWNER_SOURCE], p->done[GW_OWNER_TARGET],
            p->done[GW_OWNER_OTHER],           p->waiting_max,           p->waiting_end};
        for (int c = 0; c < 6; c++)
            json_array_append_new(column[c], count(whole[c]));
        for (int side = 0; side < GW_SIDES; side++) {
            const double us[] = {p->p50[side], p->p99[side], p->p999[side], p->max[side]};
            for (int c = 0; c < 4; c++) /* nothing ended: there is no latency */
                json_array_append_new(column[6 + side * 4 + c],
                                      p->count[side] ? json_real(us[c]) : json_null());
        }
    }
    return j;
}

static json_t *job_samples_json(const struct gw_migrate_watch *w)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < w->jobs_count; i++) {
        const struct gw_migrate_job_sample *s = &w->jobs[i], *before = i ? s - 1 : NULL;
        /* The same numbers as before, seen again, say nothing. */
        if (before && i + 1 < w->jobs_count &&
            memcmp(&s->bytes, &before->bytes, sizeof *s - sizeof s->at_ns) == 0)
            continue;
        json_array_append_new(
            all,
            json_pack("{s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "t_ms",
                      (double)s->at_ns / 1e6, "bytes", (json_int_t)s->bytes, "records",
                      (json_int_t)s->records, "hot_records", (json_int_t)s->hot_records, "pulls",
                      (json_int_t)s->pulls, "pull_leads", (json_int_t)s->pull_leads, "indirections",
                      (json_int_t)s->indirections, "chunks_done", (json_int_t)s->chunks_done,
                      "chunks", (json_int_t)s->chunks, "bytes_left", (json_int_t)s->bytes_left));
    }
    return all;
}

static json_t *wires_json(const struct gw_migrate_watch *w)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < w->wires_count; i++)
        json_array_append_new(all,
                              json_pack("{s:f, s:I, s:I}", "t_ms", (double)w->wires[i].at_ns / 1e6,
                                        "bulk", (json_int_t)w->wires[i].bulk, "pulled",
                                        (json_int_t)w->wires[i].pulled));
    return all;
}

static json_t *servers_json(const struct gw_migrate_watch *w)
{
    json_t *all = json_array();
    for (uint32_t i = 0; i < w->servers_count; i++) {
        const struct gw_migrate_server_sample *s = &w->servers[i];
        json_array_append_new(all, json_pack("{s:f, s:{s:I, s:I}, s:{s:I, s:I}}", "t_ms",
                                             (double)s->at_ns / 1e6, "source", "operations",
                                             (json_int_t)s->operations[0], "parked",
                                             (json_int_t)s->parked[0], "target", "operations",
                                             (json_int_t)s->operations[1], "parked",
                                             (json_int_t)s->parked[1]));
    }
    return all;
}

static json_t *checks_json(const struct gw_migrate_run *run)
{
    struct gw_migrate_check check[GW_MIGRATE_CHECKS_MAX];
    uint32_t n = gw_migrate_checks(run, check);
    json_t *all = json_array();
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(all, json_pack("{s:s, s:o, s:s, s:o, s:s, s:o}", "what",
                                             check[i].name, "measured", figure(check[i].measured),
                                             "asked", check[i].relation, "limit",
                                             figure(check[i].limit), "unit", check[i].unit, "pass",
                                             check[i].known ? json_boolean(check[i].pass)
                                                            : json_null()));
    return all;
}

json_t *gw_migrate_run_json(const struct gw_migrate_run *run)
{
    const struct gw_migrate_marks *m = &run->marks;
    const struct gw_migrate_load_totals *t = &run->totals;
    json_t *j = json_pack("{s:s, s:I, s:b}", "variant", run->variant, "round",
                          (json_int_t)run->round, "sound", run->sound);
    json_object_set_new(j, "marks_ms",
                        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "measured",
                                  moment(m->measured), "asked", moment(m->asked), "committed",
                                  moment(m->committed), "first_served", moment(m->first_served),
                                  "last_chunk", moment(m->last_chunk), "done", moment(m->done),
                                  "ended", moment(m->ended)));
    json_object_set_new(j, "figures",
                        json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:f}",
                                  "complete_ms", figure(run->complete_ms), "transfer_ms",
                                  figure(run->transfer_ms), "first_served_ms",
                                  figure(run->first_served_ms), "waiting_ms",
                                  figure(run->waiting_ms), "pause_inside_ms", figure(run->pause_ms),
                                  "kept_least_percent", figure(run->kept_least),
                                  "bulk_mb_per_second", figure(run->bulk_mb),
                                  "payload_mb_per_second", figure(run->payload_mb),
                                  "wire_mb_per_second", figure(run->wire_mb), "resident_bytes",
                                  (json_int_t)run->resident_bytes, "load_s", run->load_s));
    json_object_set_new(json_object_get(j, "figures"), "settle_s", json_real(run->settle_s));
    if (run->loopback_mb > 0)
        json_object_set_new(json_object_get(j, "figures"), "loopback_mb_per_second",
                            json_real(run->loopback_mb));
    json_object_set_new(j, "before", span_json(&run->before));
    json_object_set_new(j, "during", span_json(&run->during));
    json_object_set_new(j, "after", span_json(&run->after));
    json_object_set_new(
        j, "client",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "operations",
                  (json_int_t)t->operations, "errors", (json_int_t)t->errors, "wrong",
                  (json_int_t)t->wrong, "refusals", (json_int_t)t->stats.refusals, "resent",
                  (json_int_t)t->stats.resent, "in_doubt", (json_int_t)t->stats.in_doubt,
                  "longest_gap_outside_ms", (double)t->gap_longest_ns[GW_OUTSIDE] / 1e6,
                  "longest_gap_inside_ms", (double)t->gap_longest_ns[GW_INSIDE] / 1e6));
    if (run->has_verified)
        json_object_set_new(j, "verified",
                            json_pack("{s:I, s:I, s:I, s:I, s:f}", "keys",
                                      (json_int_t)run->verified.keys, "missing",
                                      (json_int_t)run->verified.missing, "wrong",
                                      (json_int_t)run->verified.wrong, "failed",
                                      (json_int_t)run->verified.failed, "seconds",
                                      run->verified.seconds));
    json_object_set_new(j, "checks", checks_json(run));
    json_object_set(j, "job", run->watch.last);
    static const char *const servers[] = {"source", "target"};
    json_t *stats = json_object();
    for (int i = 0; i < 2; i++)
        json_object_set_new(stats, servers[i],
                            json_pack("{s:O?, s:O?}", "before", run->stats_before[i], "after",
                                      run->stats_after[i]));
    json_object_set_new(j, "stats", stats);
    json_object_set_new(j, "rows", rows_json(run));
    json_object_set_new(j, "job_samples", job_samples_json(&run->watch));
    json_object_set_new(j, "wire_samples", wires_json(&run->watch));
    json_object_set_new(j, "server_samples", servers_json(&run->watch));
    return j;
}

/* ---- in words ------------------------------------------------------------------------------- */

void gw_migrate_run_print(const struct gw_migrate_run *run)
{
    struct gw_migrate_check check[GW_MIGRATE_CHECKS_MAX];
    uint32_t n = gw_migrate_checks(run, check);
    const struct gw_migrate_watch *w = &run->watch;
    const struct gw_migrate_job_sample none = {0},
                                       *last = w->jobs_count ? &w->jobs[w->jobs_count - 1] : &none;
    printf("%s, round %" PRIu64 ": %.0f ms from request to end, %.0f ms from commit to last chunk, "
           "first served after %.1f ms\n",
           run->variant, run->round, run->complete_ms, run->transfer_ms, run->first_served_ms);
    printf("  sent %.1f MB at %.0f MB/s: %" PRIu64 " records, %" PRIu64
           " of them hot first, %" PRIu64 " pulls, %" PRIu64
           " of them answered by where the key lies, %" PRIu64 " indirections\n",
           (double)last->bytes / 1e6, run->bulk_mb, last->records, last->hot_records, last->pulls,
           last->pull_leads, last->indirections);
    const struct gw_migrate_span *spans[] = {&run->before, &run->during, &run->after};
    const char *names[] = {"before", "during", "after"};
    for (int i = 0; i < 3 && !run->settings->idle; i++)
        printf("  %s: %.2f M ops/s (least %.2f); p50, p99, p99.9, max in ms: outside %.2f %.2f "
               "%.2f %.2f, inside %.2f %.2f %.2f %.2f\n",
               names[i], (double)spans[i]->all_median / 1e5, (double)spans[i]->all_least / 1e5,
               spans[i]->p50[0] / 1e3, spans[i]->p99[0] / 1e3, spans[i]->p999[0] / 1e3,
               spans[i]->max[0] / 1e3, spans[i]->p50[1] / 1e3, spans[i]->p99[1] / 1e3,
               spans[i]->p999[1] / 1e3, spans[i]->max[1] / 1e3);
    if (run->loopback_mb > 0)
        printf("  loopback, two processes, frames of %u bytes: %.0f MB/s\n", GW_MIGRATE_BULK_FRAME,
               run->loopback_mb);
    for (uint32_t i = 0; i < n; i++)
        printf("  %-5s %s: %.4g %s, asked: %s %.4g\n",
               !check[i].known ? "?"
               : check[i].pass ? "pass"
                               : "miss",
               check[i].name, check[i].measured, check[i].unit, check[i].relation, check[i].limit);
    if (!run->sound)
        printf("  NOT SOUND: errors, wrong answers or lost keys, see above\n");
    fflush(stdout);
}

/* ---- over the rounds ------------------------------------------------------------------------ */

static double bytes_of(const struct gw_migrate_run *run)
{
    const struct gw_migrate_watch *w = &run->watch;
    return w->jobs_count ? (double)w->jobs[w->jobs_count - 1].bytes / 1e6 : NAN;
}

/* The columns of the table. */
enum { METRICS = 9 };
static const char *const metric_names[METRICS] = {"complete_ms",        "transfer_ms",
                                                  "first_served_ms",    "sent_mb",
                                                  "kept_least_percent", "pause_inside_ms",
                                                  "waiting_ms",         "p999_inside_during_ms",
                                                  "bulk_mb_per_second"};

static double metric(const struct gw_migrate_run *run, int which)
{
    const double values[METRICS] = {run->complete_ms,     run->transfer_ms,
                                    run->first_served_ms, bytes_of(run),
                                    run->kept_least,      run->pause_ms,
                                    run->waiting_ms,      run->during.p999[GW_INSIDE] / 1e3,
                                    run->bulk_mb};
    return values[which];
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct middle {
    double median, least, most;
    uint32_t rounds;
};

static struct middle middle_of(const struct gw_migrate_run *runs, uint32_t n, const char *variant,
                               int which)
{
    struct middle m = {NAN, NAN, NAN, 0};
    double *values = calloc(n ? n : 1, sizeof *values);
    for (uint32_t i = 0; values && i < n; i++)
        if (strcmp(runs[i].variant, variant) == 0 && !isnan(metric(&runs[i], which)))
            values[m.rounds++] = metric(&runs[i], which);
    if (m.rounds) {
        qsort(values, m.rounds, sizeof *values, by_value);
        m.median = m.rounds % 2 ? values[m.rounds / 2]
                                : (values[m.rounds / 2 - 1] + values[m.rounds / 2]) / 2;
        m.least = values[0];
        m.most = values[m.rounds - 1];
    }
    free(values);
    return m;
}

static bool first_of_variant(const struct gw_migrate_run *runs, uint32_t i)
{
    for (uint32_t j = 0; j < i; j++)
        if (strcmp(runs[j].variant, runs[i].variant) == 0)
            return false;
    return true;
}

static json_t *variant_json(const struct gw_migrate_run *runs, uint32_t n, const char *variant,
                            bool print)
{
    json_t *j = json_object();
    if (print)
        printf("| %s |", variant);
    for (int which = 0; which < METRICS; which++) {
        struct middle m = middle_of(runs, n, variant, which);
        json_object_set_new(j, metric_names[which],
                            json_pack("{s:o, s:o, s:o, s:I}", "median", figure(m.median), "least",
                                      figure(m.least), "most", figure(m.most), "rounds",
                                      (json_int_t)m.rounds));
        if (print && m.rounds)
            printf(" %.4g (%.4g to %.4g) |", m.median, m.least, m.most);
        else if (print)
            printf(" - |");
    }
    if (print)
        printf("\n");
    return j;
}

/* How many times sooner it is complete than with indirections off; both of the same run. */
static void print_gain(const struct gw_migrate_run *runs, uint32_t n, json_t *summary, bool print)
{
    struct middle on = middle_of(runs, n, "all on", 0);
    struct middle off = middle_of(runs, n, "indirection off", 0);
    if (!on.rounds || !off.rounds || on.median <= 0)
        return;
    double times = off.median / on.median;
    json_object_set_new(summary, "indirection_times_sooner", json_real(times));
    if (print && runs[0].settings->blob) /* in memory there is nothing to point at */
        printf("%s complete %.1f times sooner than with indirection off, asked: at least 6\n",
               times >= 6 ? "pass " : "miss ", times);
}

json_t *gw_migrate_summary(const struct gw_migrate_run *runs, uint32_t n, bool print)
{
    json_t *summary = json_object(), *variants = json_object();
    if (print) {
        printf("\nmedian (least to most)\n| variant |");
        for (int which = 0; which < METRICS; which++)
            printf(" %s |", metric_names[which]);
        printf("\n|");
        for (int which = 0; which <= METRICS; which++)
            printf(" --- |");
        printf("\n");
    }
    for (uint32_t i = 0; i < n; i++)
        if (first_of_variant(runs, i))
            json_object_set_new(variants, runs[i].variant,
                                variant_json(runs, n, runs[i].variant, print));
    json_object_set_new(summary, "variants", variants);
    print_gain(runs, n, summary, print);
    return summary;
}
