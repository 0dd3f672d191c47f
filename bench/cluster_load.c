/* cluster_load.c - see cluster_load.h.
 *
 * Closed loop: the session's window is always full; latency is measured for one operation in
 * SAMPLE_EVERY, from its issue, and the maximum is the session's own, of all operations.
 * Open loop: every operation has the time at which it should begin; its latency counts from then,
 * also when the window was full and it began late (no coordinated omission). */
#include "bench/cluster_load.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/clock.h"

#define SAMPLE_EVERY   16u
#define SAMPLES_CLOSED 4096u
#define WINDOW_MAX     65536u
#define ISSUES_A_LOOK  64u /* operations between two looks at the phase */
#define POLL_MS        10
#define DRAIN_MS       60000
#define NEAR_NS        1000000u /* an operation due so soon is awaited without sleeping */
#define COUNTER_SHIFT  24

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

enum gw_status gw_load_init(struct gw_load_worker *worker, struct gw_load_settings *settings,
                            uint32_t number)
{
    memset(worker, 0, sizeof *worker);
    worker->settings = settings;
    worker->number = number;
    struct gw_workload_options workload = settings->workload;
    workload.keys = settings->keys;
    workload.thread = number;
    workload.threads = (uint32_t)settings->threads;
    enum gw_status st = gw_workload_init(&worker->workload, &workload);
    if (st != GW_OK)
        return st;
    uint32_t samples = settings->rate > 0 ? WINDOW_MAX : SAMPLES_CLOSED;
    worker->samples = calloc(samples, sizeof *worker->samples);
    worker->value = malloc(settings->value_bytes + 1);
    if (!worker->samples || !worker->value)
        return GW_E_NOMEM;
    memset(worker->value, 'v', settings->value_bytes);
    for (uint32_t i = 0; i < samples; i++) {
        worker->samples[i].worker = worker;
        worker->samples[i].next_free = i + 1 < samples ? &worker->samples[i + 1] : NULL;
    }
    worker->free_samples = worker->samples;

    struct gw_session_options options;
    gw_session_options_default(&options);
    uint64_t window = settings->batch * settings->depth;
    options.operations_max = (uint32_t)(window < WINDOW_MAX ? window : WINDOW_MAX);
    options.batch_operations = (uint32_t)settings->batch;
    options.batches_in_flight = (uint32_t)settings->depth;
    options.bytes_max = (settings->value_bytes + 64) * WINDOW_MAX;
    return gw_session_open(settings->cluster, &options, &worker->session);
}

void gw_load_fini(struct gw_load_worker *worker)
{
    if (worker->session) /* its thread was never started */
        gw_session_close(worker->session);
    free(worker->samples);
    free(worker->value);
}

/* ---- answers -------------------------------------------------------------------------------- */

static void answered(void *ctx, const struct gw_result *result)
{
    struct gw_load_worker *worker = ctx;
    worker->answered++;
    if (GW_UNLIKELY(result->status != GW_OK)) {
        worker->errors++;
        if (worker->error == GW_OK)
            worker->error = result->status;
    }
}

static void answered_sampled(void *ctx, const struct gw_result *result)
{
    struct gw_load_sample *sample = ctx;
    struct gw_load_worker *worker = sample->worker;
    if (worker->measuring)
        gw_histogram_add(&worker->latency_ns, now_ns() - sample->start_ns);
    sample->next_free = worker->free_samples;
    worker->free_samples = sample;
    answered(worker, result);
}

/* ---- operations ----------------------------------------------------------------------------- */

static inline enum gw_status write_key(struct gw_load_worker *worker, const uint64_t *key,
                                       gw_callback callback, void *ctx)
{
    const struct gw_load_settings *s = worker->settings;
    if (s->counters)
        return gw_set_counter(worker->session, key, sizeof *key, (int64_t)(*key >> COUNTER_SHIFT),
                              callback, ctx);
    return gw_set(worker->session, key, sizeof *key, worker->value, s->value_bytes, callback, ctx);
}

/* Issues what was drawn, waiting while the window is full. */
static enum gw_status issue(struct gw_load_worker *worker, enum gw_workload_verb verb,
                            uint64_t number, gw_callback callback, void *ctx)
{
    uint64_t key = gw_workload_key(number);
    enum gw_status st;
    for (;;) {
        switch (verb) {
        case GW_WORKLOAD_READ:
            st = gw_get(worker->session, &key, sizeof key, callback, ctx);
            break;
        case GW_WORKLOAD_ADD:
            st = gw_add(worker->session, &key, sizeof key, 1, 0, callback, ctx);
            break;
        default:
            st = write_key(worker, &key, callback, ctx);
            break;
        }
        if (GW_LIKELY(st != GW_WOULD_BLOCK))
            return st;
        (void)gw_poll(worker->session, POLL_MS);
    }
}

static enum gw_load_phase phase_of(struct gw_load_worker *worker)
{
    return (enum gw_load_phase)atomic_load_explicit(&worker->settings->phase, memory_order_relaxed);
}

static void load_keys(struct gw_load_worker *worker)
{
    const struct gw_load_settings *s = worker->settings;
    uint64_t share = s->keys / s->threads, first = worker->number * share;
    uint64_t end = worker->number + 1 == s->threads ? s->keys : first + share;
    for (uint64_t at = first; at < end && worker->failure == GW_OK; at++) {
        if (at % ISSUES_A_LOOK == 0 && phase_of(worker) == GW_LOAD_END)
            break;
        worker->failure = issue(worker, GW_WORKLOAD_UPDATE, at, answered, worker);
    }
    if (worker->failure == GW_OK)
        worker->failure = gw_drain(worker->session, DRAIN_MS);
    if (worker->failure == GW_OK)
        worker->failure = worker->error;
}

/* One operation whose latency counts from start_ns. */
static enum gw_status issue_sampled(struct gw_load_worker *worker, enum gw_workload_verb verb,
                                    uint64_t number, uint64_t start_ns)
{
    struct gw_load_sample *sample = worker->free_samples;
    if (!sample)
        return issue(worker, verb, number, answered, worker);
    worker->free_samples = sample->next_free;
    sample->start_ns = start_ns;
    enum gw_status st = issue(worker, verb, number, answered_sampled, sample);
    if (st != GW_OK) {
        sample->next_free = worker->free_samples;
        worker->free_samples = sample;
    }
    return st;
}

/* ISSUES_A_LOOK operations as fast as the window allows. */
static void closed_loop(struct gw_load_worker *worker)
{
    uint64_t number;
    for (uint32_t i = 0; i < ISSUES_A_LOOK && worker->failure == GW_OK; i++) {
        enum gw_workload_verb verb = gw_workload_next(&worker->workload, &number);
        if (i % SAMPLE_EVERY == 0)
            worker->failure = issue_sampled(worker, verb, number, now_ns());
        else
            worker->failure = issue(worker, verb, number, answered, worker);
    }
}

/* What is due by now, at most ISSUES_A_LOOK operations; *due_ns: when the next one is. */
static void open_loop(struct gw_load_worker *worker, double *due_ns, double step_ns)
{
    uint64_t number, now = now_ns();
    for (uint32_t i = 0; i < ISSUES_A_LOOK && *due_ns <= (double)now; i++) {
        enum gw_workload_verb verb = gw_workload_next(&worker->workload, &number);
        worker->failure = issue_sampled(worker, verb, number, (uint64_t)*due_ns);
        if (worker->failure != GW_OK)
            return;
        *due_ns += step_ns;
    }
    now = now_ns();
    (void)gw_poll(worker->session, *due_ns > (double)(now + NEAR_NS) ? 1 : 0);
}

void *gw_load_run(void *ctx)
{
    struct gw_load_worker *worker = ctx;
    struct gw_load_settings *s = worker->settings;
    load_keys(worker);
    atomic_fetch_add_explicit(&s->loaded, 1, memory_order_release);

    while (phase_of(worker) == GW_LOAD_KEYS) /* until all threads have loaded */
        (void)gw_poll(worker->session, 1);
    double step_ns = s->rate > 0 ? 1e9 * (double)s->threads / s->rate : 0;
    double due_ns = (double)now_ns() + step_ns * worker->number / (double)s->threads;
    uint64_t before = 0, start = 0;
    enum gw_load_phase phase;
    while ((phase = phase_of(worker)) != GW_LOAD_END && worker->failure == GW_OK) {
        if (phase == GW_LOAD_MEASURE && !worker->measuring) {
            worker->measuring = true;
            gw_session_stats_reset_wait(worker->session);
            before = worker->answered;
            worker->errors = 0;
            start = now_ns();
        }
        if (step_ns > 0)
            open_loop(worker, &due_ns, step_ns);
        else
            closed_loop(worker);
    }
    if (worker->measuring) {
        worker->seconds = (double)(now_ns() - start) / 1e9;
        worker->operations = worker->answered - before;
    }
    if (gw_drain(worker->session, DRAIN_MS) != GW_OK)
        worker->errors += gw_in_flight(worker->session);
    gw_session_stats(worker->session, &worker->stats);
    /* A session ends on the thread that polled it. */
    gw_session_close(worker->session);
    worker->session = NULL;
    return NULL;
}
