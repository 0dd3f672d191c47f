/* count.c - the verb `count`: every input line names a counter, to which 1 is added.
 *
 * One thread reads blocks (lines.h), N threads with a session each issue an asynchronous add a
 * line, straight from the block; the main thread shows progress. The window of a session is what
 * bounds all: when it is full the thread polls, and does not take the next block.
 * Latency is measured for one operation in SAMPLE_EVERY; the longest wait is the session's own, of
 * all operations. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/flags.h"
#include "client/cli/lines.h"
#include "client/cli/progress.h"
#include "client/cli/timeline.h"
#include "index/base/assert.h"
#include "index/base/clock.h"

#define THREADS_MAX     64u
#define REPEAT_MAX      1000000000u
#define KEY_BYTES_MAX   65535u
#define SAMPLE_EVERY    16u
#define SAMPLES_MAX     4096u
#define BLOCKS_A_THREAD 4u
#define POLL_MS         10
#define SHOW_MS         100u

struct count;

struct sample {
    struct worker *worker;
    uint64_t issued_ns;
    struct sample *next_free;
};

struct worker {
    struct count *count;
    struct gw_session *session;
    pthread_t thread;
    /* Events answered; the worker writes, the main thread reads to show progress. Relaxed: the
     * number publishes nothing but itself. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t events;
    uint64_t in_doubt, failed, issued;
    uint64_t longest_ns;           /* of all operations, kept over resets of the session's own */
    enum gw_status failure;        /* the first */
    uint64_t bad_line;             /* a line that is too long */
    struct gw_session_stats stats; /* the last */
    /* what goes into the timeline's row when that is over */
    uint64_t row, row_events;
    struct gw_histogram row_latency_ns;
    struct sample *free_samples;
    struct sample samples[SAMPLES_MAX];
};

struct count {
    struct gw_lines *lines;
    struct gw_timeline *timeline; /* NULL: none wanted */
    struct worker *workers;
    uint64_t threads, repeat;
    enum gw_status read_status;
    int read_errno;
    /* Workers and the reader that have not ended yet: each decrements it last (release), the main
     * thread waits for 0 (acquire). */
    _Atomic uint32_t running;
};

/* ---- a worker ------------------------------------------------------------------------------- */

static void tally(struct worker *worker, const struct gw_result *result)
{
    if (GW_LIKELY(result->status == GW_OK)) {
        uint64_t events = atomic_load_explicit(&worker->events, memory_order_relaxed);
        atomic_store_explicit(&worker->events, events + 1, memory_order_relaxed);
        return;
    }
    if (result->status == GW_IN_DOUBT) {
        worker->in_doubt++;
        return;
    }
    worker->failed++;
    if (worker->failure == GW_OK)
        worker->failure = result->status;
}

static void counted(void *ctx, const struct gw_result *result)
{
    tally(ctx, result);
}

static void counted_sampled(void *ctx, const struct gw_result *result)
{
    struct sample *sample = ctx;
    struct worker *worker = sample->worker;
    gw_histogram_add(&worker->row_latency_ns,
                     gw_clock_now_ns(gw_clock_system()) - sample->issued_ns);
    sample->next_free = worker->free_samples;
    worker->free_samples = sample;
    tally(worker, result);
}

/* Hands what has been gathered to the timeline and starts anew. */
static void close_row(struct worker *worker)
{
    struct gw_timeline *timeline = worker->count->timeline;
    struct gw_session_stats stats;
    gw_session_stats(worker->session, &stats);
    gw_session_stats_reset_wait(worker->session);
    if (stats.wait_longest_ns > worker->longest_ns)
        worker->longest_ns = stats.wait_longest_ns;
    uint64_t events = atomic_load_explicit(&worker->events, memory_order_relaxed);
    if (timeline) {
        gw_timeline_add(timeline, worker->row, events - worker->row_events, &worker->row_latency_ns,
                        stats.wait_longest_ns);
        worker->row = gw_timeline_row(timeline, gw_clock_now_ns(gw_clock_system()));
    }
    worker->row_events = events;
    gw_histogram_clear(&worker->row_latency_ns);
}

/* One turn of the session, and of the timeline's row if that is over. */
static void turn(struct worker *worker, int timeout_ms)
{
    (void)gw_poll(worker->session, timeout_ms);
    const struct gw_timeline *timeline = worker->count->timeline;
    if (timeline && gw_timeline_row(timeline, gw_clock_now_ns(gw_clock_system())) != worker->row)
        close_row(worker);
}

static enum gw_status count_one(struct worker *worker, const char *key, size_t len)
{
    gw_callback callback = counted;
    void *ctx = worker;
    struct sample *sample = NULL;
    if (worker->issued++ % SAMPLE_EVERY == 0 && worker->free_samples) {
        sample = worker->free_samples;
        worker->free_samples = sample->next_free;
        sample->issued_ns = gw_clock_now_ns(gw_clock_system());
        callback = counted_sampled;
        ctx = sample;
    }
    enum gw_status st;
    while ((st = gw_add(worker->session, key, len, 1, 0, callback, ctx)) == GW_WOULD_BLOCK &&
           worker->failure == GW_OK)
        turn(worker, POLL_MS);
    if (GW_UNLIKELY(st != GW_OK) && sample) {
        sample->next_free = worker->free_samples;
        worker->free_samples = sample;
    }
    return st;
}

/* False: stop, worker->failure or bad_line says why. */
static bool count_block(struct worker *worker, const struct gw_block *block)
{
    const char *at = block->bytes, *end = block->bytes + block->len;
    uint64_t line = block->first_line;
    for (; at < end; line++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((newline ? newline : end) - at);
        if (GW_UNLIKELY(len > KEY_BYTES_MAX)) {
            worker->bad_line = line;
            return false;
        }
        if (len) {
            enum gw_status st = count_one(worker, at, len);
            if (GW_UNLIKELY(st != GW_OK) && worker->failure == GW_OK)
                worker->failure = st;
        }
        if (GW_UNLIKELY(worker->failure != GW_OK))
            return false;
        at += len + 1;
    }
    return true;
}

static void *work(void *ctx)
{
    struct worker *worker = ctx;
    struct count *count = worker->count;
    for (;;) {
        const struct gw_block *block;
        /* With something in flight nobody else polls for it: never wait for input then. */
        bool idle = gw_in_flight(worker->session) == 0;
        enum gw_status st = gw_lines_take(count->lines, idle, &block);
        if (st == GW_END)
            break;
        if (st == GW_RETRY) {
            turn(worker, POLL_MS);
            continue;
        }
        bool well = count_block(worker, block);
        gw_lines_give_back(count->lines, block);
        if (!well)
            gw_lines_stop(count->lines);
    }
    while (gw_in_flight(worker->session) > 0)
        turn(worker, POLL_MS);
    close_row(worker);
    gw_session_stats(worker->session, &worker->stats);
    /* A session ends on the thread that polled it. */
    gw_session_close(worker->session);
    worker->session = NULL;
    atomic_fetch_sub_explicit(&count->running, 1, memory_order_release);
    return NULL;
}

static void *read_input(void *ctx)
{
    struct count *count = ctx;
    count->read_status = gw_lines_read(count->lines);
    count->read_errno = errno;
    atomic_fetch_sub_explicit(&count->running, 1, memory_order_release);
    return NULL;
}

/* ---- the main thread ------------------------------------------------------------------------ */

struct totals {
    uint64_t events, in_doubt, failed, longest_ns, bad_line, refusals, resent;
    enum gw_status failure;
    double seconds;
};

static uint64_t events_now(const struct count *count)
{
    uint64_t events = 0;
    for (uint64_t i = 0; i < count->threads; i++)
        events += atomic_load_explicit(&count->workers[i].events, memory_order_relaxed);
    return events;
}

static void watch(struct count *count, uint64_t start_ns)
{
    struct gw_progress progress;
    gw_progress_init(&progress);
    uint64_t shown_ns = start_ns;
    /* Short naps, so that a small input does not wait for the display. */
    while (atomic_load_explicit(&count->running, memory_order_acquire) > 0) {
        usleep(2000);
        uint64_t now = gw_clock_now_ns(gw_clock_system());
        if (now - shown_ns < SHOW_MS * 1000000ull)
            continue;
        shown_ns = now;
        uint64_t events = events_now(count);
        char words[96];
        snprintf(words, sizeof words, "%" PRIu64 " events, %.2f M/s", events,
                 (double)events * 1e3 / (double)(now - start_ns));
        gw_progress_show(&progress, -1, words);
    }
    gw_progress_clear(&progress);
}

static void add_up(const struct count *count, struct totals *totals)
{
    for (uint64_t i = 0; i < count->threads; i++) {
        const struct worker *worker = &count->workers[i];
        totals->events += atomic_load_explicit(&worker->events, memory_order_relaxed);
        totals->in_doubt += worker->in_doubt;
        totals->failed += worker->failed;
        totals->refusals += worker->stats.refusals;
        totals->resent += worker->stats.resent;
        if (worker->longest_ns > totals->longest_ns)
            totals->longest_ns = worker->longest_ns;
        if (totals->failure == GW_OK)
            totals->failure = worker->failure;
        if (worker->bad_line && (!totals->bad_line || worker->bad_line < totals->bad_line))
            totals->bad_line = worker->bad_line;
    }
    if (count->read_status == GW_E_TOO_LARGE && !totals->bad_line)
        totals->bad_line = gw_lines_bad_line(count->lines);
}

static double rate_of(const struct totals *totals)
{
    return totals->seconds > 0 ? (double)totals->events / totals->seconds : 0;
}

static json_t *totals_json(const struct count *count, const struct totals *totals)
{
    return json_pack("{s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "events",
                     (json_int_t)totals->events, "seconds", totals->seconds, "events_per_second",
                     rate_of(totals), "longest_wait_ms", (double)totals->longest_ns / 1e6,
                     "in_doubt", (json_int_t)totals->in_doubt, "failed", (json_int_t)totals->failed,
                     "refusals", (json_int_t)totals->refusals, "resent", (json_int_t)totals->resent,
                     "threads", (json_int_t)count->threads, "repeat", (json_int_t)count->repeat);
}

/* What went wrong, if anything did: the sentence, the status's name and the exit code. */
static enum gw_exit judge(const struct count *count, const struct totals *totals, char *room,
                          size_t room_bytes, const char **status)
{
    if (totals->bad_line) {
        *status = gw_status_name(GW_E_TOO_LARGE);
        snprintf(room, room_bytes, "line %" PRIu64 " is longer than %u bytes", totals->bad_line,
                 KEY_BYTES_MAX);
        return GW_EXIT_FAILED;
    }
    if (totals->failure != GW_OK) {
        *status = gw_status_name(totals->failure);
        snprintf(room, room_bytes, "%" PRIu64 " events failed: %s",
                 totals->failed ? totals->failed : 1, gw_status_text(totals->failure));
        return gw_cli_exit_of(totals->failure);
    }
    if (totals->in_doubt) {
        *status = gw_status_name(GW_IN_DOUBT);
        snprintf(room, room_bytes,
                 "%" PRIu64 " events are in doubt: they may or may not be counted",
                 totals->in_doubt);
        return GW_EXIT_FAILED;
    }
    if (count->read_status != GW_OK) {
        *status = gw_status_name(count->read_status);
        snprintf(room, room_bytes, "cannot read the input: %s",
                 count->read_status == GW_E_IO ? strerror(count->read_errno)
                                               : gw_status_text(count->read_status));
        return GW_EXIT_FAILED;
    }
    return GW_EXIT_OK;
}

static enum gw_exit report(struct gw_cli *cli, const struct count *count,
                           const struct totals *totals)
{
    char message[256];
    const char *status = "";
    enum gw_exit code = judge(count, totals, message, sizeof message, &status);
    if (cli->json) {
        json_t *document = totals_json(count, totals);
        if (code != GW_EXIT_OK)
            json_object_update_new(document, gw_cli_error(status, message));
        enum gw_exit printed = gw_cli_print(cli, document);
        return code != GW_EXIT_OK ? code : printed;
    }
    printf("events=%" PRIu64 " seconds=%.3f events_per_second=%.0f longest_wait_ms=%.2f "
           "in_doubt=%" PRIu64 "\n",
           totals->events, totals->seconds, rate_of(totals), (double)totals->longest_ns / 1e6,
           totals->in_doubt);
    enum gw_exit printed = gw_cli_flush(cli);
    if (code == GW_EXIT_OK)
        return printed;
    return gw_cli_fail(cli, code, status, "%s", message);
}

static enum gw_exit open_workers(struct gw_cli *cli, struct count *count)
{
    enum gw_exit code = gw_cli_cluster(cli);
    for (uint64_t i = 0; code == GW_EXIT_OK && i < count->threads; i++) {
        struct worker *worker = &count->workers[i];
        worker->count = count;
        for (uint32_t s = 0; s < SAMPLES_MAX; s++) {
            worker->samples[s].worker = worker;
            worker->samples[s].next_free = s + 1 < SAMPLES_MAX ? &worker->samples[s + 1] : NULL;
        }
        worker->free_samples = worker->samples;
        enum gw_status st = gw_session_open(cli->cluster, NULL, &worker->session);
        if (st != GW_OK)
            code = gw_cli_fail_status(cli, st, "cannot open session %" PRIu64, i);
    }
    return code;
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *ctx)
{
    int error = pthread_create(thread, NULL, run, ctx);
    GW_ASSERT(error == 0); /* at start-up, with at most THREADS_MAX + 2 threads */
}

static enum gw_exit run_count(struct gw_cli *cli, struct count *count, const char *timeline_path)
{
    enum gw_exit code = open_workers(cli, count);
    if (code != GW_EXIT_OK)
        return code;
    if (gw_lines_create(STDIN_FILENO, count->repeat, BLOCKS_A_THREAD * (uint32_t)count->threads,
                        &count->lines) != GW_OK)
        return gw_cli_fail_status(cli, GW_E_NOMEM, "count");
    if (timeline_path && gw_timeline_create(timeline_path, &count->timeline) != GW_OK)
        return gw_cli_fail(cli, GW_EXIT_FAILED, gw_status_name(GW_E_IO), "--timeline %s: %s",
                           timeline_path, strerror(errno));

    uint64_t start_ns = gw_clock_now_ns(gw_clock_system());
    pthread_t reader;
    atomic_store_explicit(&count->running, (uint32_t)count->threads + 1, memory_order_relaxed);
    start_thread(&reader, read_input, count);
    for (uint64_t i = 0; i < count->threads; i++)
        start_thread(&count->workers[i].thread, work, &count->workers[i]);
    watch(count, start_ns);
    pthread_join(reader, NULL);
    for (uint64_t i = 0; i < count->threads; i++)
        pthread_join(count->workers[i].thread, NULL);

    struct totals totals = {.seconds =
                                (double)(gw_clock_now_ns(gw_clock_system()) - start_ns) / 1e9};
    add_up(count, &totals);
    enum gw_status written = gw_timeline_close(count->timeline);
    count->timeline = NULL;
    code = report(cli, count, &totals);
    if (code == GW_EXIT_OK && written != GW_OK) {
        fprintf(stderr, "godwit: --timeline %s: could not be written\n", timeline_path);
        code = GW_EXIT_FAILED;
    }
    return code;
}

enum gw_exit gwi_cli_count(struct gw_cli *cli, int argc, char **argv)
{
    const char *timeline_path = NULL;
    struct count count = {.threads = 1, .repeat = 1};
    const struct gw_flag flags[] = {
        {"--threads", GW_FLAG_NUMBER, &count.threads, 1, THREADS_MAX},
        {"--repeat", GW_FLAG_NUMBER, &count.repeat, 1, REPEAT_MAX},
        {"--timeline", GW_FLAG_TEXT, &timeline_path, 0, 0},
        {0},
    };
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code != GW_EXIT_OK)
        return code;
    count.workers = aligned_alloc(GW_CACHE_LINE, count.threads * sizeof *count.workers);
    if (!count.workers)
        return gw_cli_fail_status(cli, GW_E_NOMEM, "count");
    memset(count.workers, 0, count.threads * sizeof *count.workers);
    code = run_count(cli, &count, timeline_path);
    for (uint64_t i = 0; i < count.threads; i++)
        if (count.workers[i].session) /* its thread was never started */
            gw_session_close(count.workers[i].session);
    gw_lines_destroy(count.lines);
    free(count.workers);
    return code;
}
