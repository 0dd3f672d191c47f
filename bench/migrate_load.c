/* migrate_load.c - the client threads of `godwit-bench migrate`: see migrate.h.
 *
 * Every operation is measured. Closed loop: from the call that the library accepted to its answer;
 * the window is always full. Open loop: from the moment at which the operation was due, also when
 * the window was full and it began late (no coordinated omission), or the thread was taking one of
 * its naps of 50 us. The clock is read once in
 * ISSUES_A_LOOK issues and ENDS_A_LOOK answers, so that a latency may be wrong by a microsecond,
 * and always at the first answer of a poll. A thread writes only its own rows, which lie ready: an
 * untouched page of them costs a fault now and then and nothing else. Keys are written by the
 * thread that their number names, so that what was written last is known for each, and any thread
 * may read it. */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "bench/migrate.h"
#include "client/cluster.h"
#include "index/base/assert.h"
#include "index/base/clock.h"

#define WINDOW_MAX    65536u
#define ISSUES_A_LOOK 16u
#define ENDS_A_LOOK   8u
#define DRAIN_MS      60000
#define NAP_NS        50000 /* open loop: between two looks at what is due */
#define VALUE_HEAD    12u   /* key number, generation */

enum phase { PHASE_LOAD, PHASE_READY, PHASE_RUN, PHASE_END };

struct op {
    struct worker *worker;
    struct op *next_free;
    uint64_t start_ns, key;
    uint32_t row; /* of its issue */
    uint16_t slot;
    bool inside, read;
};

struct worker {
    struct gw_migrate_load *load;
    struct gw_session *session;
    pthread_t thread;
    bool started;
    uint32_t number;
    struct gw_workload workload;
    struct op *ops, *free_ops;
    uint8_t *value;
    struct gw_migrate_row *rows;
    uint64_t row, row_end_ns, late_rows;
    uint64_t now_ns;       /* as read last */
    uint32_t ends_to_look; /* answers until the clock is read again; 0: at the next one */
    uint32_t waiting;      /* inside, issued and unanswered */
    uint64_t map_version;
    uint8_t owner[GW_SLOTS];
    uint64_t last_end_ns[GW_SIDES];
    uint64_t operations, errors, wrong, first_served_ns, gap_ns[GW_SIDES];
    enum gw_status failure, error;
    struct gw_session_stats stats;
};

struct gw_migrate_load {
    const struct gw_migrate_settings *settings;
    struct gw_cluster *cluster;
    const struct gw_slots *inside;
    char source[64], target[64];
    bool counters;
    uint64_t rows, start_ns;
    uint32_t *generation; /* of each key: how often it was written; its writer's */
    struct worker *workers;
    /* Main thread writes, release where start_ns goes with it; workers acquire. */
    _Atomic int phase;
    _Atomic bool asked;          /* relaxed: publishes nothing else */
    _Atomic uint32_t ready, bad; /* workers that have loaded (release) or given up */
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

/* ---- recording ------------------------------------------------------------------------------ */

static void owners_of(void *ctx, const struct gw_map *map)
{
    struct worker *w = ctx;
    int source = gw_map_find(map, w->load->source), target = gw_map_find(map, w->load->target);
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        w->owner[slot] = map->owner[slot] == source   ? GW_OWNER_SOURCE
                         : map->owner[slot] == target ? GW_OWNER_TARGET
                                                      : GW_OWNER_OTHER;
    w->map_version = map->version;
}

static void follow_map(struct worker *w)
{
    if (GW_UNLIKELY(gw_cluster_map_version(w->load->cluster) != w->map_version))
        gwi_cluster_read(w->load->cluster, owners_of, w);
}

static void turn_row(struct worker *w)
{
    while (w->now_ns >= w->row_end_ns) {
        w->rows[w->row].waiting_end = w->waiting;
        w->row_end_ns += GW_MIGRATE_ROW_NS;
        if (w->row + 1 < w->load->rows)
            w->row++;
        else
            w->late_rows++; /* more time than was planned: it goes into the last row */
        w->rows[w->row].waiting_max = w->waiting;
    }
}

static inline void look(struct worker *w)
{
    w->now_ns = now_ns();
    if (GW_UNLIKELY(w->now_ns >= w->row_end_ns))
        turn_row(w);
}

static inline void record(struct worker *w, const struct op *op)
{
    struct gw_migrate_row *row = &w->rows[w->row];
    uint64_t now = w->now_ns;
    uint8_t owner = w->owner[op->slot];
    row->done[owner]++;
    gw_histogram_add(&row->latency_ns[op->inside], now > op->start_ns ? now - op->start_ns : 0);
    uint64_t gap = now - w->last_end_ns[op->inside];
    w->last_end_ns[op->inside] = now;
    if (GW_UNLIKELY(gap > w->gap_ns[op->inside]) &&
        atomic_load_explicit(&w->load->asked, memory_order_relaxed))
        w->gap_ns[op->inside] = gap;
    if (!op->inside)
        return;
    w->waiting--;
    w->rows[op->row].latest_answer_ns = now - w->load->start_ns;
    if (GW_UNLIKELY(owner == GW_OWNER_TARGET && w->first_served_ns == 0))
        w->first_served_ns = now - w->load->start_ns;
}

static bool value_of_key(const struct gw_migrate_load *load, const struct gw_result *result,
                         uint64_t key)
{
    if (load->counters)
        return result->kind == GW_VALUE_COUNTER;
    return result->kind == GW_VALUE_BYTES && result->value_bytes == load->settings->value_bytes &&
           memcmp(result->value, &key, sizeof key) == 0;
}

static void answered(void *ctx, const struct gw_result *result)
{
    struct op *op = ctx;
    struct worker *w = op->worker;
    if (w->ends_to_look-- == 0) {
        look(w);
        follow_map(w);
        w->ends_to_look = ENDS_A_LOOK - 1;
    }
    record(w, op);
    w->operations++;
    if (GW_UNLIKELY(result->status != GW_OK)) {
        w->errors++;
        if (w->error == GW_OK)
            w->error = result->status;
    } else if (op->read && !value_of_key(w->load, result, op->key)) {
        w->wrong++;
    }
    op->next_free = w->free_ops;
    w->free_ops = op;
}

static void poll_session(struct worker *w, int timeout_ms)
{
    w->ends_to_look = 0;
    (void)gw_poll(w->session, timeout_ms);
    look(w);
}

/* ---- operations ----------------------------------------------------------------------------- */

/* The key next to `number` that this thread may write. */
static uint64_t own_key(const struct worker *w, uint64_t number)
{
    const struct gw_migrate_settings *s = w->load->settings;
    number = number - number % s->threads + w->number;
    return number < s->keys ? number : w->number;
}

static enum gw_status call(struct worker *w, enum gw_workload_verb verb, uint64_t number,
                           const uint8_t *key, gw_callback callback, void *ctx)
{
    struct gw_migrate_load *load = w->load;
    const struct gw_migrate_settings *s = load->settings;
    if (verb == GW_WORKLOAD_READ)
        return gw_get(w->session, key, s->key_bytes, callback, ctx);
    enum gw_status st;
    uint32_t generation = load->generation[number];
    if (verb == GW_WORKLOAD_ADD) {
        st = gw_add(w->session, key, s->key_bytes, 1, 0, callback, ctx);
    } else if (load->counters) {
        st = gw_set_counter(w->session, key, s->key_bytes, generation + 1, callback, ctx);
    } else {
        gwi_migrate_value(w->value, s->value_bytes, number, generation + 1);
        st = gw_set(w->session, key, s->key_bytes, w->value, s->value_bytes, callback, ctx);
    }
    if (st == GW_OK)
        load->generation[number] = generation + 1;
    return st;
}

/* due_ns 0: closed loop. */
static void issue(struct worker *w, uint64_t due_ns)
{
    uint8_t key[256];
    uint64_t number;
    enum gw_workload_verb verb = gw_workload_next(&w->workload, &number);
    if (verb != GW_WORKLOAD_READ)
        number = own_key(w, number);
    struct op *op = w->free_ops; /* as many as the window, so there is one */
    while (GW_UNLIKELY(!op)) {
        poll_session(w, 10);
        op = w->free_ops;
    }
    w->free_ops = op->next_free;
    gwi_migrate_key(w->load->settings, number, key);
    op->key = number;
    op->read = verb == GW_WORKLOAD_READ;
    op->slot = gw_key_slot(key, w->load->settings->key_bytes);
    op->inside = gw_slots_has(w->load->inside, op->slot);
    enum gw_status st;
    for (;;) {
        op->start_ns = due_ns ? due_ns : w->now_ns;
        op->row = (uint32_t)w->row;
        st = call(w, verb, number, key, answered, op);
        if (GW_LIKELY(st != GW_WOULD_BLOCK))
            break;
        poll_session(w, 10);
    }
    if (GW_UNLIKELY(st != GW_OK)) {
        w->failure = st;
        op->next_free = w->free_ops;
        w->free_ops = op;
    } else if (op->inside) {
        struct gw_migrate_row *row = &w->rows[w->row];
        if (++w->waiting > row->waiting_max)
            row->waiting_max = w->waiting;
    }
}

static void closed_loop(struct worker *w)
{
    look(w);
    for (uint32_t i = 0; i < ISSUES_A_LOOK && w->failure == GW_OK; i++)
        issue(w, 0);
}

static void open_loop(struct worker *w, double *due_ns, double step_ns)
{
    look(w);
    for (uint32_t i = 0; i < ISSUES_A_LOOK && *due_ns <= (double)w->now_ns; i++) {
        issue(w, (uint64_t)*due_ns);
        if (w->failure != GW_OK)
            return;
        *due_ns += step_ns;
    }
    if (*due_ns <= (double)w->now_ns)
        return;
    poll_session(w, 0);
    if (*due_ns > (double)w->now_ns) /* servers may need this processor */
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
}

/* ---- a thread ------------------------------------------------------------------------------- */

static void loaded(void *ctx, const struct gw_result *result)
{
    struct worker *w = ctx;
    if (GW_UNLIKELY(result->status != GW_OK) && w->failure == GW_OK)
        w->failure = result->status;
}

static int phase_of(const struct worker *w)
{
    return atomic_load_explicit(&w->load->phase, memory_order_acquire);
}

static void load_keys(struct worker *w)
{
    const struct gw_migrate_settings *s = w->load->settings;
    uint8_t key[256];
    for (uint64_t at = w->number; at < s->keys && w->failure == GW_OK; at += s->threads) {
        gwi_migrate_key(s, at, key);
        enum gw_status st;
        while ((st = call(w, GW_WORKLOAD_UPDATE, at, key, loaded, w)) == GW_WOULD_BLOCK)
            (void)gw_poll(w->session, 10);
        if (st != GW_OK)
            w->failure = st;
        if (at % 1024 < s->threads && phase_of(w) == PHASE_END)
            break;
    }
    enum gw_status st = gw_drain(w->session, DRAIN_MS);
    if (w->failure == GW_OK)
        w->failure = st;
}

static void run_load(struct worker *w)
{
    const struct gw_migrate_settings *s = w->load->settings;
    double step_ns = s->rate > 0 ? 1e9 * (double)s->threads / s->rate : 0;
    (void)prctl(PR_SET_TIMERSLACK, 1000); /* of naps; else they take 50 us more */
    double due_ns = (double)w->load->start_ns + step_ns * w->number / (double)s->threads;
    w->row_end_ns = w->load->start_ns + GW_MIGRATE_ROW_NS;
    w->last_end_ns[GW_OUTSIDE] = w->last_end_ns[GW_INSIDE] = w->load->start_ns;
    while (phase_of(w) == PHASE_RUN && w->failure == GW_OK) {
        if (step_ns > 0)
            open_loop(w, &due_ns, step_ns);
        else
            closed_loop(w);
    }
    uint64_t end = now_ns() + DRAIN_MS * 1000000ull;
    while (gw_in_flight(w->session) > 0 && now_ns() < end)
        poll_session(w, 10);
    w->errors += gw_in_flight(w->session);
}

static void *work(void *ctx)
{
    struct worker *w = ctx;
    struct gw_migrate_load *load = w->load;
    if (load->settings->apart) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(load->settings->client_cpu, &one);
        (void)pthread_setaffinity_np(pthread_self(), sizeof one, &one); /* then the luck decides */
    }
    load_keys(w);
    gwi_cluster_read(load->cluster, owners_of, w);
    if (w->failure != GW_OK)
        atomic_fetch_add_explicit(&load->bad, 1, memory_order_release);
    atomic_fetch_add_explicit(&load->ready, 1, memory_order_release);
    while (phase_of(w) < PHASE_RUN)
        (void)gw_poll(w->session, 1);
    if (w->failure == GW_OK && !load->settings->idle) {
        gw_session_stats_reset_wait(w->session);
        run_load(w);
        if (w->failure != GW_OK)
            atomic_fetch_add_explicit(&load->bad, 1, memory_order_release);
    }
    gw_session_stats(w->session, &w->stats);
    gw_session_close(w->session); /* a session ends on the thread that polled it */
    w->session = NULL;
    return NULL;
}

/* ---- the main thread ------------------------------------------------------------------------ */

static enum gw_status worker_open(struct worker *w, struct gw_migrate_load *load, uint32_t number)
{
    const struct gw_migrate_settings *s = load->settings;
    w->load = load;
    w->number = number;
    struct gw_workload_options workload = s->workload;
    workload.keys = s->keys;
    workload.thread = number;
    workload.threads = (uint32_t)s->threads;
    enum gw_status st = gw_workload_init(&w->workload, &workload);
    if (st != GW_OK)
        return st;
    struct gw_session_options options;
    gw_session_options_default(&options);
    uint64_t window = 2;
    while (window < s->batch * s->depth && window < WINDOW_MAX)
        window *= 2; /* as the session rounds it */
    /* So many are in flight, and no more: w->ops. The session's serials may be further apart, as by
     * its defaults, or one operation that waits would stop all behind it. */
    if (options.operations_max < window)
        options.operations_max = (uint32_t)window;
    options.batch_operations = (uint32_t)s->batch;
    options.batches_in_flight = (uint32_t)s->depth;
    options.bytes_max = (s->key_bytes + s->value_bytes + 64) * WINDOW_MAX;
    w->ops = calloc(window, sizeof *w->ops);
    w->value = malloc(s->value_bytes + 8);
    w->rows = calloc(load->rows, sizeof *w->rows);
    if (!w->ops || !w->value || !w->rows)
        return GW_E_NOMEM;
    for (uint64_t i = 0; i < window; i++) {
        w->ops[i].worker = w;
        w->ops[i].next_free = i + 1 < window ? &w->ops[i + 1] : NULL;
    }
    w->free_ops = w->ops;
    return gw_session_open(load->cluster, &options, &w->session);
}

/* Waits until all have loaded. False: some could not. */
static bool await_keys(struct gw_migrate_load *load)
{
    uint32_t threads = (uint32_t)load->settings->threads;
    while (atomic_load_explicit(&load->ready, memory_order_acquire) < threads)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    for (uint32_t i = 0; i < threads; i++)
        if (load->workers[i].failure != GW_OK) {
            fprintf(stderr, "godwit-bench migrate: loading the keys: %s\n",
                    gw_status_text(load->workers[i].failure));
            return false;
        }
    return true;
}

struct gw_migrate_load *gw_migrate_load_open(const struct gw_migrate_settings *s,
                                             struct gw_cluster *cluster,
                                             const struct gw_slots *inside, const char *source,
                                             const char *target)
{
    struct gw_migrate_load *load = calloc(1, sizeof *load);
    if (!load)
        return NULL;
    load->settings = s;
    load->cluster = cluster;
    load->inside = inside;
    load->counters = s->value_bytes == 8;
    snprintf(load->source, sizeof load->source, "%s", source);
    snprintf(load->target, sizeof load->target, "%s", target);
    load->rows = (s->warm_up_s + s->before_s + s->after_s + s->timeout_s + 5) * 10;
    load->generation = calloc(s->keys, sizeof *load->generation);
    load->workers = calloc(s->threads, sizeof *load->workers);
    enum gw_status st = load->generation && load->workers ? GW_OK : GW_E_NOMEM;
    for (uint32_t i = 0; st == GW_OK && i < s->threads; i++)
        st = worker_open(&load->workers[i], load, i);
    for (uint32_t i = 0; st == GW_OK && i < s->threads; i++) {
        struct worker *w = &load->workers[i];
        w->started = pthread_create(&w->thread, NULL, work, w) == 0;
        if (!w->started)
            st = GW_E_NOMEM;
    }
    if (st != GW_OK)
        fprintf(stderr, "godwit-bench migrate: client threads: %s\n", gw_status_text(st));
    else if (await_keys(load))
        return load;
    gw_migrate_load_free(load);
    return NULL;
}

uint64_t gw_migrate_load_start(struct gw_migrate_load *load)
{
    load->start_ns = now_ns();
    atomic_store_explicit(&load->phase, PHASE_RUN, memory_order_release);
    return load->start_ns;
}

void gw_migrate_load_asked(struct gw_migrate_load *load)
{
    atomic_store_explicit(&load->asked, true, memory_order_relaxed);
}

const uint32_t *gw_migrate_load_generations(const struct gw_migrate_load *load)
{
    return load->generation;
}

bool gw_migrate_load_failed(const struct gw_migrate_load *load)
{
    return atomic_load_explicit(&load->bad, memory_order_acquire) > 0;
}

static void join(struct gw_migrate_load *load)
{
    atomic_store_explicit(&load->phase, PHASE_END, memory_order_release);
    for (uint32_t i = 0; load->workers && i < load->settings->threads; i++)
        if (load->workers[i].started) {
            pthread_join(load->workers[i].thread, NULL);
            load->workers[i].started = false;
        }
}

void gw_migrate_load_stop(struct gw_migrate_load *load, struct gw_migrate_load_totals *totals)
{
    join(load);
    memset(totals, 0, sizeof *totals);
    for (uint32_t i = 0; i < load->settings->threads; i++) {
        const struct worker *w = &load->workers[i];
        totals->operations += w->operations;
        totals->errors += w->errors;
        totals->wrong += w->wrong;
        totals->late_rows += w->late_rows;
        if (totals->error == GW_OK)
            totals->error = w->failure != GW_OK ? w->failure : w->error;
        if (w->first_served_ns &&
            (!totals->first_served_ns || w->first_served_ns < totals->first_served_ns))
            totals->first_served_ns = w->first_served_ns;
        for (int side = 0; side < GW_SIDES; side++)
            if (w->gap_ns[side] > totals->gap_longest_ns[side])
                totals->gap_longest_ns[side] = w->gap_ns[side];
        totals->stats.refusals += w->stats.refusals;
        totals->stats.resent += w->stats.resent;
        totals->stats.in_doubt += w->stats.in_doubt;
        if (w->stats.wait_longest_ns > totals->stats.wait_longest_ns)
            totals->stats.wait_longest_ns = w->stats.wait_longest_ns;
    }
}

void gw_migrate_load_row(const struct gw_migrate_load *load, uint64_t n, struct gw_migrate_row *row)
{
    memset(row, 0, sizeof *row);
    for (uint32_t i = 0; n < load->rows && i < load->settings->threads; i++) {
        const struct gw_migrate_row *of = &load->workers[i].rows[n];
        for (int owner = 0; owner < GW_OWNERS; owner++)
            row->done[owner] += of->done[owner];
        for (int side = 0; side < GW_SIDES; side++)
            if (of->latency_ns[side].count)
                gw_histogram_merge(&row->latency_ns[side], &of->latency_ns[side]);
        row->waiting_max += of->waiting_max;
        row->waiting_end += of->waiting_end;
        if (of->latest_answer_ns > row->latest_answer_ns)
            row->latest_answer_ns = of->latest_answer_ns;
    }
}

void gw_migrate_load_free(struct gw_migrate_load *load)
{
    if (!load)
        return;
    join(load);
    for (uint32_t i = 0; load->workers && i < load->settings->threads; i++) {
        struct worker *w = &load->workers[i];
        if (w->session) /* its thread was never started */
            gw_session_close(w->session);
        free(w->ops);
        free(w->value);
        free(w->rows);
    }
    free(load->workers);
    free(load->generation);
    free(load);
}
