/* migrate_sums.c - figures of a run from its rows and moments: see migrate.h.
 *
 * Before: whole rows between the warm-up and the request. During: every row that touches the time
 * from the request to the end of the job, or to the answer of the last operation inside that was
 * issued by then, if that came later. After: whole rows behind that. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/migrate.h"

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Rows from..to-1 as one. */
static void sum_span(const struct gw_migrate_run *run, const struct gw_migrate_load *load,
                     uint64_t from, uint64_t to, struct gw_migrate_span *out)
{
    memset(out, 0, sizeof *out);
    uint64_t *all = calloc(to > from ? to - from : 1, sizeof *all);
    struct gw_migrate_row *row = malloc(sizeof *row), *sum = calloc(1, sizeof *sum);
    for (uint64_t n = from; all && row && sum && n < to && n < run->points_count; n++) {
        gw_migrate_load_row(load, n, row);
        for (int side = 0; side < GW_SIDES; side++)
            gw_histogram_merge(&sum->latency_ns[side], &row->latency_ns[side]);
        all[out->rows++] = run->points[n].all;
    }
    if (out->rows) {
        qsort(all, out->rows, sizeof *all, by_size);
        out->all_least = all[0];
        out->all_median = all[out->rows / 2];
        for (int side = 0; side < GW_SIDES; side++) {
            const struct gw_histogram *h = &sum->latency_ns[side];
            out->p50[side] = (double)gw_histogram_at(h, 0.5) / 1e3;
            out->p99[side] = (double)gw_histogram_at(h, 0.99) / 1e3;
            out->p999[side] = (double)gw_histogram_at(h, 0.999) / 1e3;
            out->max[side] = (double)h->max / 1e3;
        }
    }
    free(all);
    free(row);
    free(sum);
}

static void fill_points(struct gw_migrate_run *run, const struct gw_migrate_load *load)
{
    run->points_count = run->marks.ended / GW_MIGRATE_ROW_NS;
    run->points = calloc(run->points_count + 1, sizeof *run->points);
    struct gw_migrate_row *row = malloc(sizeof *row);
    if (!run->points || !row)
        run->points_count = 0;
    for (uint64_t n = 0; n < run->points_count; n++) {
        struct gw_migrate_point *p = &run->points[n];
        gw_migrate_load_row(load, n, row);
        for (int owner = 0; owner < GW_OWNERS; owner++)
            p->all += p->done[owner] = row->done[owner];
        p->waiting_max = row->waiting_max;
        p->waiting_end = row->waiting_end;
        p->latest_answer_ns = row->latest_answer_ns;
        for (int side = 0; side < GW_SIDES; side++) {
            const struct gw_histogram *h = &row->latency_ns[side];
            p->count[side] = h->count;
            p->p50[side] = (double)gw_histogram_at(h, 0.5) / 1e3;
            p->p99[side] = (double)gw_histogram_at(h, 0.99) / 1e3;
            p->p999[side] = (double)gw_histogram_at(h, 0.999) / 1e3;
            p->max[side] = (double)h->max / 1e3;
        }
    }
    free(row);
}

static double ms_between(uint64_t from, uint64_t to)
{
    return from == 0 || to == 0 ? NAN : to > from ? (double)(to - from) / 1e6 : 0;
}

/* The kernel's count at that moment: of the last look at or before it. */
static uint64_t bulk_at(const struct gw_migrate_watch *w, uint64_t at_ns)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < w->wires_count && w->wires[i].at_ns <= at_ns; i++)
        bytes = w->wires[i].bulk;
    return bytes;
}

static void sum_bytes(struct gw_migrate_run *run)
{
    const struct gw_migrate_settings *s = run->settings;
    const struct gw_migrate_watch *w = &run->watch;
    const struct gw_migrate_marks *m = &run->marks;
    for (uint32_t i = 0; i < w->jobs_count && run->resident_bytes == 0; i++)
        if (w->jobs[i].at_ns >= m->committed && w->jobs[i].bytes_left)
            run->resident_bytes = w->jobs[i].bytes + w->jobs[i].bytes_left;
    if (!w->jobs_count || !(run->transfer_ms > 0))
        return;
    const struct gw_migrate_job_sample *last = &w->jobs[w->jobs_count - 1];
    double seconds = run->transfer_ms / 1e3;
    run->bulk_mb = (double)last->bytes / 1e6 / seconds;
    run->payload_mb =
        (double)last->records * (double)(s->key_bytes + s->value_bytes) / 1e6 / seconds;
    if (w->wires_count && w->wires[w->wires_count - 1].bulk)
        run->wire_mb =
            (double)(w->wires[w->wires_count - 1].bulk - bulk_at(w, m->asked)) / 1e6 / seconds;
}

void gw_migrate_sum_up(struct gw_migrate_run *run, const struct gw_migrate_load *load)
{
    const uint64_t row_ns = GW_MIGRATE_ROW_NS;
    struct gw_migrate_marks *m = &run->marks;
    m->first_served = run->totals.first_served_ns;
    m->committed = run->watch.committed_ns;
    m->last_chunk = run->watch.last_chunk_ns;
    m->done = run->watch.done_ns;
    run->complete_ms = ms_between(m->asked, m->done);
    run->transfer_ms = ms_between(m->committed, m->last_chunk);
    run->first_served_ms = ms_between(m->committed, m->first_served);
    run->bulk_mb = run->payload_mb = run->wire_mb = NAN;
    run->kept_least = run->waiting_ms = run->pause_ms = NAN;
    fill_points(run, load);
    sum_bytes(run);

    uint64_t end = m->done ? m->done : m->ended, latest = 0;
    for (uint64_t n = 0; n < run->points_count && n <= end / row_ns; n++)
        if (run->points[n].latest_answer_ns > latest)
            latest = run->points[n].latest_answer_ns;
    uint64_t during_from = m->asked / row_ns,
             during_to = (latest > end ? latest : end) / row_ns + 1;
    sum_span(run, load, (m->measured + row_ns - 1) / row_ns, during_from, &run->before);
    sum_span(run, load, during_from, during_to, &run->during);
    sum_span(run, load, during_to, run->points_count, &run->after);
    if (run->settings->idle || !run->during.rows)
        return;
    if (run->before.all_median)
        run->kept_least = (double)run->during.all_least * 100 / (double)run->before.all_median;
    run->pause_ms = run->during.max[GW_INSIDE] / 1e3;
    latest = 0;
    for (uint64_t n = 0; n < run->points_count && n <= m->last_chunk / row_ns; n++)
        if (run->points[n].latest_answer_ns > latest)
            latest = run->points[n].latest_answer_ns;
    if (m->last_chunk)
        run->waiting_ms = ms_between(m->last_chunk, latest);
}

/* ---- what was asked for --------------------------------------------------------------------- */

static void add(struct gw_migrate_check *out, uint32_t *count, const char *name, double measured,
                const char *relation, double limit, const char *unit)
{
    bool known = !isnan(measured) && !isnan(limit);
    out[(*count)++] = (struct gw_migrate_check){.name = name,
                                                .known = known,
                                                .pass = known && (strcmp(relation, "at least") == 0
                                                                      ? measured >= limit
                                                                      : measured <= limit),
                                                .measured = measured,
                                                .limit = limit,
                                                .unit = unit,
                                                .relation = relation};
}

uint32_t gw_migrate_checks(const struct gw_migrate_run *run, struct gw_migrate_check *out)
{
    const struct gw_migrate_settings *s = run->settings;
    const struct gw_migrate_watch *w = &run->watch;
    uint32_t count = 0;
    if (s->idle) {
        /* 400 MB/s, or half of what the machine itself can do. */
        double limit =
            run->loopback_mb > 0 && run->loopback_mb / 2 < 400 ? run->loopback_mb / 2 : 400;
        add(out, &count, "bulk rate", run->bulk_mb, "at least", limit, "MB/s");
    } else {
        add(out, &count, "throughput kept, least 100 ms", run->kept_least, "at least", 70, "%");
        add(out, &count, "outside: longest request against 2 x p99.9 before",
            run->during.rows ? run->during.max[GW_OUTSIDE] / 1e3 : NAN, "at most",
            run->before.rows ? run->before.p999[GW_OUTSIDE] * 2 / 1e3 : NAN, "ms");
        add(out, &count, "inside: longest pause", run->pause_ms, "at most", 20, "ms");
        add(out, &count, "waiting operations answered after the last chunk", run->waiting_ms,
            "at most", 1000, "ms");
        add(out, &count, "first request served after the transfer", run->first_served_ms, "at most",
            50, "ms");
    }
    if (s->blob && w->jobs_count) {
        const struct gw_migrate_job_sample *last = &w->jobs[w->jobs_count - 1];
        double limit = run->resident_bytes
                           ? 1.3 * (double)run->resident_bytes + 64.0 * (double)last->indirections
                           : NAN;
        add(out, &count, "bytes sent against 1.3 x memory part + 64 B a cold chain",
            (double)last->bytes / 1e6, "at most", limit / 1e6, "MB");
    }
    if (run->has_verified)
        add(out, &count, "keys missing or wrong at the target, source stopped",
            (double)(run->verified.missing + run->verified.wrong + run->verified.failed), "at most",
            0, "keys");
    return count;
}
