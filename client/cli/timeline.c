/* timeline.c - see timeline.h. A ring of open rows under one lock, taken ten times a second by
 * each thread. */
#include "client/cli/timeline.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/base/clock.h"

#define NS_PER_ROW (GW_TIMELINE_ROW_MS * 1000000ull)
#define ROWS_OPEN  (2 * GW_TIMELINE_LATE)

struct row {
    uint64_t events, longest_ns;
    struct gw_histogram latency_ns;
};

struct gw_timeline {
    FILE *file;
    uint64_t start_ns;
    pthread_mutex_t lock; /* guards what follows */
    uint64_t first, end;  /* open rows are first <= row < end, at row % ROWS_OPEN */
    struct row rows[ROWS_OPEN];
};

enum gw_status gw_timeline_create(const char *path, struct gw_timeline **out)
{
    struct gw_timeline *timeline = calloc(1, sizeof *timeline);
    if (!timeline)
        return GW_E_NOMEM;
    timeline->file = fopen(path, "w");
    if (!timeline->file) {
        free(timeline);
        return GW_E_IO;
    }
    pthread_mutex_init(&timeline->lock, NULL);
    timeline->start_ns = gw_clock_now_ns(gw_clock_system());
    fprintf(timeline->file, "# start_unix_ms %" PRIu64 "\n# t_ms events p50_us p99_us max_us\n",
            gw_clock_wall_ms(gw_clock_system()));
    *out = timeline;
    return GW_OK;
}

static void write_first(struct gw_timeline *timeline)
{
    struct row *row = &timeline->rows[timeline->first % ROWS_OPEN];
    fprintf(timeline->file, "%" PRIu64 " %" PRIu64 " %.1f %.1f %.1f\n",
            timeline->first * GW_TIMELINE_ROW_MS, row->events,
            (double)gw_histogram_at(&row->latency_ns, 0.5) / 1000,
            (double)gw_histogram_at(&row->latency_ns, 0.99) / 1000, (double)row->longest_ns / 1000);
    row->events = row->longest_ns = 0;
    gw_histogram_clear(&row->latency_ns);
    timeline->first++;
}

enum gw_status gw_timeline_close(struct gw_timeline *timeline)
{
    if (!timeline)
        return GW_OK;
    while (timeline->first < timeline->end)
        write_first(timeline);
    bool bad = ferror(timeline->file);
    bad = fclose(timeline->file) != 0 || bad;
    pthread_mutex_destroy(&timeline->lock);
    free(timeline);
    return bad ? GW_E_IO : GW_OK;
}

uint64_t gw_timeline_row(const struct gw_timeline *timeline, uint64_t now_ns)
{
    return (now_ns - timeline->start_ns) / NS_PER_ROW;
}

void gw_timeline_add(struct gw_timeline *timeline, uint64_t row, uint64_t events,
                     const struct gw_histogram *latency_ns, uint64_t longest_ns)
{
    pthread_mutex_lock(&timeline->lock);
    if (row >= timeline->end)
        timeline->end = row + 1;
    while (timeline->first + GW_TIMELINE_LATE < timeline->end) /* a stall leaves rows of zeros */
        write_first(timeline);
    if (row < timeline->first)
        row = timeline->first;
    struct row *into = &timeline->rows[row % ROWS_OPEN];
    into->events += events;
    /* The caller may have looked at the clock a little later than the session. */
    if (latency_ns->max > longest_ns)
        longest_ns = latency_ns->max;
    if (longest_ns > into->longest_ns)
        into->longest_ns = longest_ns;
    gw_histogram_merge(&into->latency_ns, latency_ns);
    pthread_mutex_unlock(&timeline->lock);
}
