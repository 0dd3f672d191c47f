/* engine.c - the store without a network: batches of operations on one store by T threads.
 *
 * Keys and verbs are drawn before the clock starts, 4 M of them a thread, and gone through in
 * rounds: a zipfian draw takes longer than an operation. Workload d, whose inserts must be new, is
 * drawn as it runs. What a server does for a batch is inside the measured time: each thread fills
 * it in, hashes, executes, and looks at every status; an answer that cannot be right counts as an
 * error. The latency of an operation is that of its batch: they begin and end together. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/workload.h"
#include "index/base/clock.h"
#include "index/base/histogram.h"
#include "index/base/text.h"
#include "index/store.h"

#define THREADS_MAX   128u
#define BATCH_MAX     1024u
#define VALUE_MAX     65536u
#define RETRIES_MAX   100000u
#define LATENCY_EVERY 16u /* a clock pair for each 16th batch: it would cost more than the work */
#define TRACE         ((uint64_t)1 << 22) /* operations drawn ahead: far more lines than caches hold */
#define KEYS_SHIFT    24 /* counters of workload c and f begin with a value made of the key */

struct settings {
    uint64_t threads, keys, value_bytes, batch, log_bytes, index_bytes;
    double seconds;
    struct gw_workload_options workload;
    bool counters, json; /* counters: values are numbers (value-size 8) */
};

struct worker {
    const struct settings *settings;
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_workload workload;
    struct gw_histogram latency;
    pthread_barrier_t *start;
    uint64_t operations, errors, checked;
    double seconds;
    uint32_t number;
    enum gw_status failed;
};

struct batch {
    struct gw_op op[BATCH_MAX];
    uint64_t key[BATCH_MAX];
};

static void set_write(struct gw_op *op, const struct settings *s, uint8_t verb,
                      const uint8_t *value, uint64_t key)
{
    op->verb = verb;
    op->flags = s->counters ? GW_OP_COUNTER : 0;
    op->value = value;
    op->value_bytes = (uint32_t)s->value_bytes;
    op->number = (int64_t)(key >> KEYS_SHIFT);
}

/* ---- loading ---- */

static void *load_main(void *arg)
{
    struct worker *w = arg;
    const struct settings *s = w->settings;
    struct batch *b = calloc(1, sizeof *b);
    uint8_t *value = calloc(1, s->value_bytes + 8);
    uint64_t share = s->keys / s->threads, first = w->number * share;
    uint64_t last = w->number + 1 == s->threads ? s->keys : first + share;
    memset(value, 'v', s->value_bytes);
    for (uint64_t at = first; at < last && w->failed == GW_OK;) {
        uint32_t n = 0;
        for (; n < s->batch && at < last; n++, at++) {
            b->key[n] = gw_workload_key(at);
            b->op[n].key = (const uint8_t *)&b->key[n];
            b->op[n].key_bytes = 8;
            set_write(&b->op[n], s, GW_VERB_UPSERT, value, b->key[n]);
            gw_store_hash(w->store, &b->op[n]);
        }
        size_t used;
        gw_store_enter(w->thread);
        gw_store_execute(w->thread, b->op, n, NULL, 0, &used);
        gw_store_exit(w->thread);
        for (uint32_t i = 0; i < n; i++)
            if (b->op[i].status != GW_OK)
                w->failed = (enum gw_status)b->op[i].status;
    }
    free(value);
    free(b);
    return NULL;
}

/* ---- running ---- */

/* What was drawn ahead. */
struct trace {
    uint64_t key[TRACE];
    uint8_t verb[TRACE];
};

static inline void set_op(struct worker *w, struct batch *b, uint32_t i, enum gw_workload_verb verb,
                          const uint8_t *value)
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
        set_write(op, w->settings, GW_VERB_UPSERT, value, b->key[i]);
        break;
    }
    gw_store_hash(w->store, op);
}

static void fill_from_trace(struct worker *w, struct batch *b, uint32_t n, const uint8_t *value,
                            const struct trace *trace, uint64_t *at)
{
    for (uint32_t i = 0; i < n; i++, ++*at) {
        b->key[i] = trace->key[*at % TRACE];
        set_op(w, b, i, (enum gw_workload_verb)trace->verb[*at % TRACE], value);
    }
}

static void fill_live(struct worker *w, struct batch *b, uint32_t n, const uint8_t *value)
{
    for (uint32_t i = 0; i < n; i++) {
        uint64_t number;
        enum gw_workload_verb verb = gw_workload_next(&w->workload, &number);
        b->key[i] = gw_workload_key(number);
        set_op(w, b, i, verb, value);
    }
}

/* What another thread was in the way of is done again, as a server does in its next turn. */
static void finish(struct worker *w, struct gw_op *op, uint8_t *room, size_t room_bytes)
{
    size_t used;
    for (uint32_t tries = 0; tries < RETRIES_MAX && op->status == GW_RETRY; tries++) {
        gw_store_enter(w->thread);
        gw_store_execute(w->thread, op, 1, room, room_bytes, &used);
        gw_store_exit(w->thread);
    }
}

/* Counts what cannot be right; every loaded key must be found, with the value it was given. */
static void check(struct worker *w, struct batch *b, uint32_t n, uint8_t *room, size_t room_bytes)
{
    bool constant = w->settings->workload.mix == 'c';
    for (uint32_t i = 0; i < n; i++) {
        struct gw_op *op = &b->op[i];
        if (op->status == GW_RETRY)
            finish(w, op, room, room_bytes);
        bool bad = op->status != GW_OK;
        if (!bad && constant && w->settings->counters)
            bad = op->number != (int64_t)(b->key[i] >> KEYS_SHIFT);
        w->errors += bad;
    }
}

static void *run_main(void *arg)
{
    struct worker *w = arg;
    const struct settings *s = w->settings;
    const struct gw_clock *clock = gw_clock_system();
    uint32_t n = (uint32_t)s->batch;
    struct batch *b = calloc(1, sizeof *b);
    uint8_t *value = calloc(1, s->value_bytes + 8);
    size_t room_bytes = n * (s->value_bytes + 8), used;
    uint8_t *room = malloc(room_bytes);
    memset(value, 'w', s->value_bytes);
    for (uint32_t i = 0; i < n; i++) {
        b->op[i].key = (const uint8_t *)&b->key[i];
        b->op[i].key_bytes = 8;
    }
    struct trace *trace = s->workload.mix == 'd' ? NULL : malloc(sizeof *trace);
    uint64_t traced = 0, number;
    for (uint64_t i = 0; trace && i < TRACE; i++) {
        trace->verb[i] = (uint8_t)gw_workload_next(&w->workload, &number);
        trace->key[i] = gw_workload_key(number);
    }
    pthread_barrier_wait(w->start);
    uint64_t start = gw_clock_now_ns(clock), now = start;
    uint64_t end = start + (uint64_t)(s->seconds * 1e9);
    while (now < end) {
        uint64_t before = now;
        for (uint32_t turn = 0; turn < LATENCY_EVERY; turn++) {
            if (trace)
                fill_from_trace(w, b, n, value, trace, &traced);
            else
                fill_live(w, b, n, value);
            if (turn == 0)
                before = gw_clock_now_ns(clock);
            gw_store_enter(w->thread);
            gw_store_execute(w->thread, b->op, n, room, room_bytes, &used);
            gw_store_exit(w->thread);
            if (turn == 0)
                gw_histogram_add_n(&w->latency, gw_clock_now_ns(clock) - before, n);
            check(w, b, n, room, room_bytes);
            w->operations += n;
        }
        gw_store_poll(w->thread);
        now = gw_clock_now_ns(clock);
    }
    w->seconds = (double)(now - start) / 1e9;
    free(trace);
    free(room);
    free(value);
    free(b);
    return NULL;
}

/* Runs main for every worker and waits; false: a thread could not be started. */
static bool on_all(struct worker *workers, uint64_t threads, void *(*main_fn)(void *))
{
    pthread_t id[THREADS_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (uint64_t i = 0; i < threads; i++) {
        workers[i].start = &start;
        if (pthread_create(&id[i], NULL, main_fn, &workers[i]) != 0) {
            fprintf(stderr, "godwit-bench engine: cannot start thread %" PRIu64 "\n", i);
            exit(1); /* the others wait at the barrier for ever */
        }
    }
    for (uint64_t i = 0; i < threads; i++)
        pthread_join(id[i], NULL);
    pthread_barrier_destroy(&start);
    return true;
}

/* ---- report ---- */

static void report(const struct settings *s, const struct worker *workers, struct gw_store *store)
{
    static struct gw_histogram all;
    gw_histogram_clear(&all);
    uint64_t errors = 0, operations = 0;
    double rate = 0, seconds = 0;
    for (uint64_t i = 0; i < s->threads; i++) {
        const struct worker *w = &workers[i];
        gw_histogram_merge(&all, &w->latency);
        errors += w->errors;
        operations += w->operations;
        rate += (double)w->operations / w->seconds;
        seconds = w->seconds > seconds ? w->seconds : seconds;
    }
    double p50 = (double)gw_histogram_at(&all, 0.5) / 1e3;
    double p99 = (double)gw_histogram_at(&all, 0.99) / 1e3;
    double p999 = (double)gw_histogram_at(&all, 0.999) / 1e3;
    double max = (double)all.max / 1e3;
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    char mix[2] = {s->workload.mix, 0};
    const char *distribution = s->workload.distribution == GW_ZIPFIAN ? "zipfian" : "uniform";
    if (s->json) {
        json_t *root = json_pack(
            "{s:f, s:{s:f, s:f, s:f, s:f}, s:I, s:f, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:s, "
            "s:f, s:i}",
            "ops_per_second", rate, "latency_us", "p50", p50, "p99", p99, "p999", p999, "max", max,
            "errors", (json_int_t)errors, "seconds", seconds, "operations", (json_int_t)operations,
            "workload", mix, "distribution", distribution, "threads", (json_int_t)s->threads,
            "keys", (json_int_t)s->keys, "value_size", (json_int_t)s->value_bytes, "batch",
            (json_int_t)s->batch, "log_pages", gw_memory_kind_name(stats.log_pages), "index_pages",
            gw_memory_kind_name(stats.index_pages), "keys_per_bucket",
            (double)stats.keys / (double)stats.index_buckets, "walk_longest",
            (int)stats.walk_longest);
        json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
        putchar('\n');
        json_decref(root);
    } else {
        printf("workload %s, %s, %" PRIu64 " keys, %" PRIu64 " threads: %.2f M ops/s, %" PRIu64
               " errors\n",
               mix, distribution, s->keys, s->threads, rate / 1e6, errors);
        printf("batches of %" PRIu64 ": p50 %.1f us, p99 %.1f us, p999 %.1f us, max %.1f us\n",
               s->batch, p50, p99, p999, max);
        printf("%.1f keys a bucket, longest walk %u, %s pages\n",
               (double)stats.keys / (double)stats.index_buckets, stats.walk_longest,
               gw_memory_kind_name(stats.log_pages));
    }
}

/* ---- command line ---- */

static int usage(const char *what)
{
    if (what)
        fprintf(stderr, "godwit-bench engine: %s\n", what);
    fprintf(stderr,
            "usage: godwit-bench engine [--threads T] [--workload a|b|c|d|f] [--keys N]\n"
            "       [--value-size B] [--distribution uniform|zipfian] [--seconds S] [--batch N]\n"
            "       [--log SIZE] [--index SIZE] [--json]\n"
            "Limits: T 1 to 128, keys 1 to 2^36, B 0 to 65536, S 1 to 86400, batch 1 to 1024.\n"
            "A value size of 8 (the default) stores counters; workload f needs it.\n");
    return 2;
}

static const char *parse(int argc, char **argv, struct settings *s)
{
    static const struct option options[] = {{"threads", required_argument, NULL, 't'},
                                            {"workload", required_argument, NULL, 'w'},
                                            {"keys", required_argument, NULL, 'k'},
                                            {"value-size", required_argument, NULL, 'v'},
                                            {"distribution", required_argument, NULL, 'd'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"batch", required_argument, NULL, 'b'},
                                            {"log", required_argument, NULL, 'l'},
                                            {"index", required_argument, NULL, 'i'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    uint64_t seconds = 5;
    optind = 1;
    for (int c, which = 0; (c = getopt_long(argc, argv, "", options, &which)) != -1;) {
        enum gw_status st = GW_OK;
        switch (c) {
        case 't':
            st = gw_parse_u64(optarg, 1, THREADS_MAX, &s->threads);
            break;
        case 'w':
            st = gw_workload_parse_mix(optarg, &s->workload.mix);
            break;
        case 'k':
            st = gw_parse_u64(optarg, 1, (uint64_t)1 << 36, &s->keys);
            break;
        case 'v':
            st = gw_parse_u64(optarg, 0, VALUE_MAX, &s->value_bytes);
            break;
        case 'd':
            st = gw_workload_parse_distribution(optarg, &s->workload.distribution);
            break;
        case 's':
            st = gw_parse_u64(optarg, 1, 86400, &seconds);
            break;
        case 'b':
            st = gw_parse_u64(optarg, 1, BATCH_MAX, &s->batch);
            break;
        case 'l':
            st = gw_parse_size(optarg, &s->log_bytes);
            break;
        case 'i':
            st = gw_parse_size(optarg, &s->index_bytes);
            break;
        case 'j':
            s->json = true;
            break;
        default:
            return "unknown flag";
        }
        if (st != GW_OK) {
            static char wrong[160];
            snprintf(wrong, sizeof wrong,
                     "--%s %.80s: not understood or out of range (limits below)",
                     options[which].name, optarg);
            return wrong;
        }
    }
    if (optind != argc)
        return argv[optind];
    s->seconds = (double)seconds;
    s->counters = s->value_bytes == 8;
    if (s->workload.mix == 'f' && !s->counters)
        return "workload f adds to counters: --value-size 8";
    return NULL;
}

int gw_bench_engine(int argc, char **argv)
{
    struct settings s = {
        .threads = 1, .keys = 1000000, .value_bytes = 8, .batch = 256, .workload = {.mix = 'c'}};
    const char *wrong = parse(argc, argv, &s);
    if (wrong)
        return usage(wrong);
    uint64_t record = (16 + 8 + (s.value_bytes + 7) / 8 * 8 + 15) / 16 * 16;
    /* What is loaded, and what d inserts at 2 M a second and thread. */
    uint64_t keys = s.keys;
    if (s.workload.mix == 'd')
        keys += (uint64_t)s.seconds * 2000000 * s.threads;
    if (!s.log_bytes)
        s.log_bytes =
            record * s.keys * 17 / 16 + ((uint64_t)64 << 20) +
            (s.workload.mix == 'd' ? record * (uint64_t)s.seconds * 2000000 * s.threads : 0);
    if (!s.index_bytes) {
        uint64_t buckets = 2; /* two to four keys a bucket at the start, ENGINE section 0 */
        while (buckets * 4 < keys)
            buckets *= 2;
        s.index_bytes = buckets * 64 * 3 / 2 + 65536;
    }
    struct gw_store_options options = {.log_bytes = s.log_bytes,
                                       .index_bytes = s.index_bytes,
                                       .threads_max = (uint32_t)s.threads,
                                       .hash_seed = 20240229};
    struct gw_store *store;
    enum gw_status st = gw_store_open(&options, &store);
    if (st != GW_OK) {
        fprintf(stderr, "godwit-bench engine: cannot open the store: %s\n", gw_status_text(st));
        return 1;
    }
    static struct worker workers[THREADS_MAX];
    memset(workers, 0, sizeof workers);
    for (uint64_t i = 0; i < s.threads && st == GW_OK; i++) {
        struct worker *w = &workers[i];
        w->settings = &s;
        w->store = store;
        w->number = (uint32_t)i;
        struct gw_workload_options o = s.workload;
        o.keys = s.keys;
        o.thread = (uint32_t)i;
        o.threads = (uint32_t)s.threads;
        st = gw_workload_init(&w->workload, &o);
        if (st == GW_OK)
            st = gw_store_thread_open(store, &w->thread);
    }
    int code = 1;
    if (st == GW_OK) {
        on_all(workers, s.threads, load_main);
        for (uint64_t i = 0; i < s.threads; i++)
            if (workers[i].failed != GW_OK)
                st = workers[i].failed;
    }
    if (st == GW_OK) {
        on_all(workers, s.threads, run_main);
        report(&s, workers, store);
        code = 0;
    } else {
        fprintf(stderr, "godwit-bench engine: loading failed: %s\n", gw_status_text(st));
    }
    for (uint64_t i = 0; i < s.threads; i++)
        gw_store_thread_close(workers[i].thread);
    gw_store_close(store);
    return code;
}
