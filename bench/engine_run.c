/* engine_run.c - one thread of `godwit-bench engine`: loading, warming up, the measured time.
 *
 * In memory, keys and verbs are drawn before the clock starts, 4 M of them a thread, and gone
 * through in rounds: a zipfian draw takes longer than an operation. Mixes that insert draw as they
 * run, since an insert must be new; so do runs with cold data, where a second round would find what
 * the first has brought to memory. What a server does for a batch is inside the measured time: each
 * thread fills it in, hashes, executes, and looks at every status; an answer that cannot be right
 * counts as an error.
 *
 * Latency: in memory, that of a batch, whose operations begin and end together. With cold data that
 * of a turn, from the end of the batch before (or of a sleep) to the end of this one, so that what
 * the store does for itself in between is part of it; an operation that waited for the device
 * counts from the beginning of its turn to its answer. */
#include <stdlib.h>
#include <string.h>

#include "bench/engine.h"
#include "index/base/clock.h"

#define LATENCY_EVERY                                                                              \
    16u /* in memory: a clock pair for each 16th batch; it costs like a dozen reads */
#define TRACE           ((uint64_t)1 << 22) /* operations drawn ahead: far more lines than caches hold */
#define KEYS_SHIFT      24                  /* counters begin with a value made of the key */
#define LOAD_PATIENCE_S 60u

struct batch {
    struct gw_op op[GW_BENCH_BATCH_MAX];
    uint64_t key[GW_BENCH_BATCH_MAX];
};

/* What was drawn ahead. */
struct trace {
    uint64_t key[TRACE];
    uint8_t verb[TRACE];
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static void set_write(struct gw_op *op, const struct gw_engine_settings *s, const uint8_t *value,
                      uint64_t key)
{
    op->verb = GW_VERB_UPSERT;
    op->flags = s->counters ? GW_OP_COUNTER : 0;
    op->value = value;
    op->value_bytes = (uint32_t)s->value_bytes;
    op->number = (int64_t)(key >> KEYS_SHIFT);
}

static struct batch *batch_create(uint32_t n)
{
    struct batch *b = calloc(1, sizeof *b);
    for (uint32_t i = 0; b && i < n; i++) {
        b->op[i].key = (const uint8_t *)&b->key[i];
        b->op[i].key_bytes = sizeof b->key[i];
    }
    return b;
}

/* ---- loading ---- */

static void load_batch(struct gw_engine_worker *w, struct batch *b, uint32_t n)
{
    struct gw_bench_session *session = &w->session;
    while (gw_bench_session_free(session) < n) {
        gw_bench_session_poll(session);
        if (gw_bench_session_free(session) < n)
            gw_bench_session_wait(session);
    }
    uint64_t start = now_ns();
    gw_bench_session_execute(session, b->op, n);
    for (uint32_t i = 0; i < n; i++)
        if (!gw_bench_session_keep(session, &b->op[i], start) && b->op[i].status != GW_OK)
            w->failed = (enum gw_status)b->op[i].status;
    if (session->parked != 0 || w->settings->cold)
        gw_bench_session_poll(session);
}

void *gw_engine_load(void *arg)
{
    struct gw_engine_worker *w = arg;
    const struct gw_engine_settings *s = w->settings;
    struct batch *b = batch_create((uint32_t)s->batch);
    uint8_t *value = malloc(s->value_bytes + 8);
    if (!b || !value) {
        w->failed = GW_E_NOMEM;
    } else {
        memset(value, 'v', s->value_bytes + 8);
        uint64_t share = s->keys / s->threads, first = w->number * share;
        uint64_t last = w->number + 1 == s->threads ? s->keys : first + share;
        if (s->workload.mix == GW_MIX_INSERT)
            first = last;
        for (uint64_t at = first; at < last && w->failed == GW_OK;) {
            uint32_t n = 0;
            for (; n < s->batch && at < last; n++, at++) {
                b->key[n] = gw_workload_key(at);
                set_write(&b->op[n], s, value, b->key[n]);
                gw_store_hash(w->place->store, &b->op[n]);
            }
            load_batch(w, b, n);
        }
        if (!gw_bench_session_drain(&w->session, LOAD_PATIENCE_S * 1000) && w->failed == GW_OK)
            w->failed = GW_E_TIMEOUT;
    }
    free(value);
    free(b);
    return NULL;
}

/* ---- running ---- */

static inline void set_op(struct gw_engine_worker *w, struct batch *b, uint32_t i,
                          enum gw_workload_verb verb, const uint8_t *value)
{
    struct gw_op *op = &b->op[i];
    switch (verb) {
    case GW_WORKLOAD_READ:
        op->verb = GW_VERB_READ;
        op->flags = 0;
        break;
    case GW_WORKLOAD_ADD:
        op->verb = GW_VERB_ADD;
        op->flags = 0;
        op->delta = 1;
        break;
    case GW_WORKLOAD_UPDATE:
    case GW_WORKLOAD_INSERT:
        set_write(op, w->settings, value, b->key[i]);
        break;
    }
    gw_store_hash(w->place->store, op);
}

static void fill_from_trace(struct gw_engine_worker *w, struct batch *b, uint32_t n,
                            const uint8_t *value, const struct trace *trace, uint64_t *at)
{
    for (uint32_t i = 0; i < n; i++, ++*at) {
        b->key[i] = trace->key[*at % TRACE];
        set_op(w, b, i, (enum gw_workload_verb)trace->verb[*at % TRACE], value);
    }
}

static void fill_live(struct gw_engine_worker *w, struct batch *b, uint32_t n, const uint8_t *value)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t number;
        enum gw_workload_verb verb = gw_workload_next(&w->workload, &number);
        b->key[i] = gw_workload_key(number);
        set_op(w, b, i, verb, value);
    }
}

/* Counts what cannot be right: every loaded key must be found, with a value of its size, and with
 * its own number as long as nobody changes it. Where records are dropped a key may be missing. */
static inline void check_one(struct gw_engine_worker *w, const struct gw_op *op)
{
    const struct gw_engine_settings *s = w->settings;
    bool bad = op->status != GW_OK;
    if (!bad && op->verb == GW_VERB_READ) {
        if (!s->counters)
            bad = op->out_bytes != s->value_bytes;
        else if (s->workload.mix == 'c')
            bad = op->number != (int64_t)(*(const uint64_t *)(const void *)op->key >> KEYS_SHIFT);
    } else if (bad && op->status == GW_E_FULL) {
        w->full++;
        bad = false;
    } else if (bad && op->status == GW_NOT_FOUND && s->place.evict) {
        w->missing++;
        bad = false;
    }
    w->errors += bad;
}

/* Returns how many of the batch were answered, not parked. */
static uint32_t check(struct gw_engine_worker *w, const struct batch *b, uint32_t n, uint64_t start)
{
    uint32_t answered = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (gw_bench_session_keep(&w->session, &b->op[i], start))
            continue;
        check_one(w, &b->op[i]);
        answered++;
    }
    return answered;
}

struct run {
    struct batch *batch;
    uint8_t *value;
    struct trace *trace; /* NULL: draw as it runs */
    uint64_t traced;
};

static void fill(struct gw_engine_worker *w, struct run *run, uint32_t n)
{
    if (run->trace)
        fill_from_trace(w, run->batch, n, run->value, run->trace, &run->traced);
    else
        fill_live(w, run->batch, n, run->value);
}

/* Whether all keys of an insert-only run are in. */
static bool exhausted(const struct gw_engine_worker *w)
{
    const struct gw_engine_settings *s = w->settings;
    return s->workload.mix == GW_MIX_INSERT && w->workload.inserted * s->threads >= s->keys;
}

static uint64_t run_in_memory(struct gw_engine_worker *w, struct run *run, uint64_t end)
{
    struct gw_bench_session *session = &w->session;
    uint32_t n = (uint32_t)w->settings->batch;
    uint64_t now = now_ns();
    while (now < end && !exhausted(w)) {
        uint64_t before = now;
        for (uint32_t turn = 0; turn < LATENCY_EVERY; turn++) {
            if (GW_UNLIKELY(gw_bench_session_free(session) < n)) {
                gw_bench_session_poll(session);
                continue;
            }
            fill(w, run, n);
            if (turn == 0)
                before = now_ns();
            gw_bench_session_execute(session, run->batch->op, n);
            if (turn == 0)
                gw_histogram_add_n(&w->latency, now_ns() - before, n);
            w->operations += check(w, run->batch, n, before);
        }
        gw_bench_session_poll(session);
        now = now_ns();
    }
    return now;
}

static uint64_t run_cold(struct gw_engine_worker *w, struct run *run, uint64_t end)
{
    struct gw_bench_session *session = &w->session;
    uint64_t start = now_ns(); /* of the turn */
    while (start < end && !exhausted(w)) {
        gw_bench_session_poll(session);
        uint32_t n = gw_bench_session_free(session);
        n = n < w->settings->batch ? n : (uint32_t)w->settings->batch;
        if (n == 0) {
            gw_bench_session_wait(session);
            start = now_ns();
            continue;
        }
        fill(w, run, n);
        gw_bench_session_execute(session, run->batch->op, n);
        uint32_t answered = check(w, run->batch, n, start);
        uint64_t now = now_ns();
        gw_histogram_add_n(&w->latency, now - start, answered);
        w->operations += answered;
        start = now;
    }
    return start;
}

static uint64_t run_until(struct gw_engine_worker *w, struct run *run, uint64_t end)
{
    return w->settings->cold ? run_cold(w, run, end) : run_in_memory(w, run, end);
}

static void forget_warm_up(struct gw_engine_worker *w)
{
    gw_histogram_clear(&w->latency);
    gw_histogram_clear(&w->latency_cold);
    w->operations = w->full = w->missing = 0; /* errors are errors at any time */
    w->session.retried = w->session.waits = 0;
}

void gw_engine_done(void *ctx, struct gw_op *op, uint64_t latency_ns, bool waited)
{
    struct gw_engine_worker *w = ctx;
    if (w->loading) {
        if (op->status != GW_OK)
            w->failed = (enum gw_status)op->status;
        return;
    }
    check_one(w, op);
    if (!w->measuring)
        return;
    gw_histogram_add(waited ? &w->latency_cold : &w->latency, latency_ns);
    w->operations++;
}

static bool run_open(struct run *run, struct gw_engine_worker *w)
{
    const struct gw_engine_settings *s = w->settings;
    memset(run, 0, sizeof *run);
    bool live = s->cold || gw_workload_inserts(s->workload.mix);
    run->batch = batch_create((uint32_t)s->batch);
    run->value = malloc(s->value_bytes + 8);
    run->trace = live ? NULL : malloc(sizeof *run->trace);
    if (!run->batch || !run->value || (!live && !run->trace))
        return false;
    memset(run->value, 'w', s->value_bytes + 8);
    uint64_t number;
    for (uint64_t i = 0; run->trace && i < TRACE; i++) {
        run->trace->verb[i] = (uint8_t)gw_workload_next(&w->workload, &number);
        run->trace->key[i] = gw_workload_key(number);
    }
    return true;
}

static void note_baseline(struct gw_engine_worker *w)
{
    struct gw_engine_baseline *b = w->baseline;
    gw_store_stats(w->place->store, &b->stats);
    if (w->place->device)
        w->place->device->usage(w->place->device, &b->device);
    b->cpu_ns = gw_bench_cpu_ns();
}

void *gw_engine_run(void *arg)
{
    struct gw_engine_worker *w = arg;
    const struct gw_engine_settings *s = w->settings;
    struct run run;
    if (!run_open(&run, w))
        w->failed = GW_E_NOMEM;
    w->loading = false;
    w->measuring = true;
    pthread_barrier_wait(w->start);
    if (w->failed == GW_OK && s->warm_up) {
        (void)run_until(w, &run, now_ns() + s->warm_up * 1000000000u);
        forget_warm_up(w);
    }
    pthread_barrier_wait(w->start);
    if (w->number == 0)
        note_baseline(w);
    if (w->failed == GW_OK) {
        gw_bench_counters_start(&w->counters);
        uint64_t start = now_ns();
        uint64_t end = run_until(w, &run, start + s->seconds * 1000000000u);
        w->seconds = (double)(end - start) / 1e9;
        gw_bench_counters_stop(&w->counters);
    }
    w->measuring = false;
    if (w->number == 0)
        w->baseline->cpu_end_ns = gw_bench_cpu_ns();
    if (!gw_bench_session_drain(&w->session, LOAD_PATIENCE_S * 1000))
        w->errors += w->session.parked;
    free(run.trace);
    free(run.value);
    free(run.batch);
    return NULL;
}
