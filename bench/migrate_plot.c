/* migrate_plot.c - the pictures of a run: tables of its rows, a script for gnuplot, and gnuplot.
 *
 *   PREFIXrows.tsv, PREFIXbytes.tsv     what was recorded, as it was recorded
 *   PREFIXthroughput.png                source, target and all, with the moments of the move
 *   PREFIXlatency.png                   p50, p99, p99.9 outside and inside of the range
 *   PREFIXwaiting.png                   operations waiting; bytes on the wire, and by kind
 * Scripts stay beside them as PREFIX*.gp, so that a picture can be drawn again. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/migrate.h"

#define PATH_BYTES        600
#define GNUPLOT_MS        60000
#define RECORD_HEAD       12u /* of a record in a CHUNK frame (client/wire/peer.h) */
#define INDIRECTION_BYTES 52u
#define PULLED_BYTES      13u /* PULL_ANSWER: one byte before the record */

static FILE *open_file(const struct gw_migrate_run *run, const char *prefix, const char *name,
                       char *path)
{
    snprintf(path, PATH_BYTES, "%s/%s%s", run->settings->out, prefix, name);
    FILE *file = fopen(path, "w");
    if (!file)
        fprintf(stderr, "godwit-bench migrate: %s: %s\n", path, strerror(errno));
    return file;
}

static bool close_file(FILE *file, const char *path)
{
    bool bad = ferror(file);
    bad = fclose(file) != 0 || bad;
    if (bad)
        fprintf(stderr, "godwit-bench migrate: %s: could not be written\n", path);
    return !bad;
}

static bool write_rows(const struct gw_migrate_run *run, const char *prefix, char *path)
{
    FILE *file = open_file(run, prefix, "rows.tsv", path);
    if (!file)
        return false;
    fprintf(file,
            "# s, M ops/s: source, target, other, all; ms outside: p50 p99 p99.9 max, inside: "
            "p50 p99 p99.9 max; waiting: most, at the end\n");
    for (uint64_t n = 0; n < run->points_count; n++) {
        const struct gw_migrate_point *p = &run->points[n];
        fprintf(file, "%.1f", (double)n / 10);
        for (int owner = 0; owner < GW_OWNERS; owner++)
            fprintf(file, "\t%.4f", (double)p->done[owner] / 1e5);
        fprintf(file, "\t%.4f", (double)p->all / 1e5);
        for (int side = 0; side < GW_SIDES; side++) {
            if (p->count[side])
                fprintf(file, "\t%.4f\t%.4f\t%.4f\t%.4f", p->p50[side] / 1e3, p->p99[side] / 1e3,
                        p->p999[side] / 1e3, p->max[side] / 1e3);
            else
                fprintf(file, "\t?\t?\t?\t?");
        }
        fprintf(file, "\t%" PRIu64 "\t%" PRIu64 "\n", p->waiting_max, p->waiting_end);
    }
    return close_file(file, path);
}

/* Two blocks: the kernel's counts, and the job's own by kind. The tool's records all have one size,
 * so bytes by kind follow from the job's counts. */
static bool write_bytes(const struct gw_migrate_run *run, const char *prefix, char *path)
{
    const struct gw_migrate_watch *w = &run->watch;
    const struct gw_migrate_settings *s = run->settings;
    double record = (double)(RECORD_HEAD + s->key_bytes + s->value_bytes);
    FILE *file = open_file(run, prefix, "bytes.tsv", path);
    if (!file)
        return false;
    fprintf(file, "# on the wire: s, MB chunks, MB pulls\n0\t0\t0\n");
    for (uint32_t i = 0; i < w->wires_count; i++)
        fprintf(file, "%.3f\t%.4f\t%.4f\n", (double)w->wires[i].at_ns / 1e9,
                (double)w->wires[i].bulk / 1e6, (double)w->wires[i].pulled / 1e6);
    fprintf(file, "\n\n# by the job: s, MB in all, hot first, pulled, indirections, chunks done "
                  "of 1\n0\t0\t0\t0\t0\t0\n");
    for (uint32_t i = 0; i < w->jobs_count; i++) {
        const struct gw_migrate_job_sample *j = &w->jobs[i];
        fprintf(file, "%.3f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\n", (double)j->at_ns / 1e9,
                (double)j->bytes / 1e6, (double)j->hot_records * record / 1e6,
                ((double)(j->pulls - j->pull_leads) * (record - RECORD_HEAD + PULLED_BYTES) +
                 (double)j->pull_leads * (INDIRECTION_BYTES + 1)) /
                    1e6,
                (double)j->indirections * INDIRECTION_BYTES / 1e6,
                j->chunks ? (double)j->chunks_done / (double)j->chunks : 0);
    }
    return close_file(file, path);
}

/* The moments of the move as upright lines, with names in the first panel. */
static void marks(FILE *file, const struct gw_migrate_run *run, bool named)
{
    const struct gw_migrate_marks *m = &run->marks;
    const struct {
        const char *name, *colour;
        uint64_t at_ns;
    } mark[] = {{"asked", "#808080", m->asked},
                {"committed", "#c0392b", m->committed},
                {"first served", "#2a9d4a", m->first_served},
                {"last chunk", "#e08a00", m->last_chunk},
                {"done", "#1f4e8c", m->done}};
    for (int i = 0; i < 5; i++) {
        double at = (double)mark[i].at_ns / 1e9;
        if (mark[i].at_ns == 0)
            continue;
        fprintf(file,
                "set arrow %d from first %.4f, graph 0 to first %.4f, graph 1 nohead dt 2 lw 1.5 "
                "lc rgb \"%s\" back\n",
                i + 1, at, at, mark[i].colour);
        if (named)
            fprintf(file,
                    "set label %d \"%s, %.2f s\" at first %.4f, graph %.2f offset 0.5,0 tc rgb "
                    "\"%s\" font \"sans,10\" front\n",
                    i + 1, mark[i].name, at, at, 0.97 - i * 0.05, mark[i].colour);
    }
}

static void head(FILE *file, const struct gw_migrate_run *run, const char *png, const char *title,
                 int height)
{
    const struct gw_migrate_settings *s = run->settings;
    /* The warm-up is left out. */
    fprintf(file,
            "set terminal pngcairo size 1400,%d font \"sans,12\"\nset output \"%s\"\n"
            "set grid xtics ytics back lt 1 lw 1 lc rgb \"#d8d8d8\"\n"
            "set key outside top center horizontal\nset datafile missing \"?\"\n"
            "set lmargin 12\nset rmargin 4\nset xlabel \"seconds\"\nset xrange [%.2f:%.2f]\n"
            "title_text = \"%s: %.0f %% of the slots, %" PRIu64 " keys of %" PRIu64 " + %" PRIu64
            " bytes, %s %s%s (%s, round %" PRIu64 ")\"\n",
            height, png, (double)run->marks.measured / 1e9, (double)run->marks.ended / 1e9, title,
            s->part * 100, s->keys, s->key_bytes, s->value_bytes,
            gw_workload_distribution_name(s->workload.distribution),
            gw_workload_mix_name(s->workload.mix), s->rate > 0 ? ", open loop" : ", closed loop",
            run->variant, run->round);
}

static void draw_throughput(FILE *file, const struct gw_migrate_run *run, const char *png,
                            const char *rows, const char *bytes)
{
    (void)bytes;
    head(file, run, png, "Throughput while slots move", 600);
    marks(file, run, true);
    fprintf(file, "set title title_text\nset ylabel \"million operations / s, every 100 ms\"\n");
    fprintf(file, "set yrange [0:*]\nset offsets graph 0, 0, graph 0.25, 0\n");
    fprintf(file,
            "plot \"%s\" using 1:5 with steps lw 2 lc rgb \"#303030\" title \"all\", \"\" using "
            "1:2 with steps lw 2 lc rgb \"#1f4e8c\" title \"source\", \"\" using 1:3 with steps lw "
            "2 lc rgb \"#2a9d4a\" title \"target\"",
            rows);
    if (run->settings->servers == 3)
        fprintf(file, ", \"\" using 1:4 with steps lw 1 lc rgb \"#9060b0\" title \"third server\"");
    fprintf(file, "\n");
}

static void draw_latency(FILE *file, const struct gw_migrate_run *run, const char *png,
                         const char *rows, const char *bytes)
{
    static const char *const names[] = {"Outside of the range", "Inside of the range"};
    (void)bytes;
    head(file, run, png, "Latency while slots move", 1000);
    marks(file, run, false);
    fprintf(file, "set multiplot title title_text\nset logscale y\nset ylabel \"ms\"\n");
    for (int side = 0; side < GW_SIDES; side++) {
        int first = 6 + side * 4;
        fprintf(file,
                "set origin 0, %.2f\nset size 1, 0.48\nset title \"%s\"\n"
                "plot \"%s\" using 1:%d with lines lw 2 lc rgb \"#2a9d4a\" title \"p50\", \"\" "
                "using 1:%d with lines lw 2 lc rgb \"#e08a00\" title \"p99\", \"\" using 1:%d with "
                "lines lw 2 lc rgb \"#c0392b\" title \"p99.9\", \"\" using 1:%d with points pt 7 "
                "ps 0.4 lc rgb \"#808080\" title \"longest\"\n",
                side == GW_OUTSIDE ? 0.48 : 0.0, names[side], rows, first, first + 1, first + 2,
                first + 3);
    }
    fprintf(file, "unset multiplot\n");
}

static void draw_waiting(FILE *file, const struct gw_migrate_run *run, const char *png,
                         const char *rows, const char *bytes)
{
    head(file, run, png, "Waiting and sending while slots move", 1000);
    marks(file, run, false);
    fprintf(file,
            "set multiplot title title_text\nset yrange [0:*]\n"
            "set origin 0, 0.48\nset size 1, 0.48\nset ylabel \"operations inside, unanswered\"\n"
            "plot \"%s\" using 1:14 with steps lw 1 lc rgb \"#c0a0a0\" title \"most in 100 ms\", "
            "\"\" using 1:15 with steps lw 2 lc rgb \"#c0392b\" title \"at its end\"\n",
            rows);
    fprintf(file,
            "set origin 0, 0\nset ylabel \"MB since the start\"\nset y2label \"chunks done\"\n"
            "set y2range [0:1.05]\nset y2tics\n"
            "plot \"%s\" index 0 using 1:2 with lines lw 2 lc rgb \"#1f4e8c\" title \"on the wire: "
            "chunks\", \"\" index 0 using 1:3 with lines lw 2 lc rgb \"#e08a00\" title \"on the "
            "wire: pulls\", \"\" index 1 using 1:2 with steps lw 1 dt 2 lc rgb \"#1f4e8c\" title "
            "\"job: in all\", \"\" index 1 using 1:3 with steps lw 1 lc rgb \"#c0392b\" title "
            "\"hot first\", \"\" index 1 using 1:4 with steps lw 1 dt 2 lc rgb \"#e08a00\" title "
            "\"pulls\", \"\" index 1 using 1:5 with steps lw 1 lc rgb \"#9060b0\" title "
            "\"indirections\", \"\" index 1 using 1:6 axes x1y2 with steps lw 1 lc rgb \"#909090\" "
            "title \"chunks done\"\nunset multiplot\n",
            bytes);
}

static bool gnuplot(const struct gw_migrate_run *run, const char *script)
{
    const char *argv[] = {"/usr/bin/env", "gnuplot", script, NULL};
    char log[PATH_BYTES + 16];
    struct gw_process process;
    snprintf(log, sizeof log, "%s/gnuplot.log", run->settings->out);
    if (gw_process_start(&process, argv, log)) {
        int code = gw_process_wait(&process, GNUPLOT_MS);
        if (code < 0)
            (void)gw_process_stop(&process, SIGKILL, 1000);
        if (code == 0)
            return true;
        fprintf(stderr, "godwit-bench migrate: gnuplot %s: exit code %d (see %s%s)\n", script, code,
                log, code == 127 ? "; is gnuplot installed?" : "");
    } else {
        fprintf(stderr, "godwit-bench migrate: gnuplot: %s\n", strerror(errno));
    }
    return false;
}

bool gw_migrate_plot(const struct gw_migrate_run *run, const char *prefix, json_t *names)
{
    static const struct {
        const char *name;
        void (*draw)(FILE *, const struct gw_migrate_run *, const char *, const char *,
                     const char *);
    } pictures[] = {{"throughput", draw_throughput},
                    {"latency", draw_latency},
                    {"waiting", draw_waiting}};
    char rows[PATH_BYTES], bytes[PATH_BYTES], script[PATH_BYTES], png[PATH_BYTES], name[128];
    if (!write_rows(run, prefix, rows) || !write_bytes(run, prefix, bytes))
        return false;
    bool well = true;
    for (size_t i = 0; i < sizeof pictures / sizeof pictures[0]; i++) {
        if (run->settings->idle && pictures[i].draw != draw_waiting)
            continue; /* nobody asked anything */
        snprintf(name, sizeof name, "%.80s.gp", pictures[i].name);
        FILE *file = open_file(run, prefix, name, script);
        if (!file)
            return false;
        snprintf(name, sizeof name, "%.90s%.20s.png", prefix, pictures[i].name);
        snprintf(png, sizeof png, "%s/%s", run->settings->out, name);
        pictures[i].draw(file, run, png, rows, bytes);
        if (!close_file(file, script) || !gnuplot(run, script))
            well = false;
        else
            json_array_append_new(names, json_string(name));
    }
    return well;
}
