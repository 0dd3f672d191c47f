/* engine.c - the store without a network: its command line, its threads. One run of one workload;
 * bench/engine.sh makes the tables. */
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/engine.h"
#include "index/base/clock.h"
#include "index/base/text.h"

#define ROOM_MAX         ((uint64_t)64 << 20) /* values read by one batch */
#define INSERTS_A_SECOND 2000000u             /* room for what mix d inserts, for each thread */
#define PATIENCE_MS      10000u               /* with a device a full log passes */

static int usage(FILE *to, const char *what)
{
    if (what)
        fprintf(to, "godwit-bench engine: %s\n", what);
    fputs("usage: godwit-bench engine [FLAGS]\n"
          "  --workload W       a, b, c (default), d; add or f: counter adds; 50:50: reads and\n"
          "                     adds; insert: an empty store takes --keys new keys\n"
          "  --distribution D   uniform (default), zipfian or latest\n"
          "  --theta X          the skew of the latter two (default 0.99)\n"
          "  --keys N           loaded before (default 1000000)\n"
          "  --value-size B     8 (default) stores counters; up to 1048576 bytes\n"
          "  --threads T        1 (default) to 128\n"
          "  --seconds S        measured time (default 5)\n"
          "  --warm-up S        before it (default 1)\n"
          "  --batch N          operations in a batch, 1 to 1024 (default 256)\n"
          "  --depth N          operations of a thread that may wait for the device (default 128;\n"
          "                     more than the system queues makes submitting wait)\n"
          "  --seed N           of what is drawn (default: a fixed one)\n"
          "  --memory SIZE      of index, log and buffers (default: by need)\n"
          "  --log SIZE, --index SIZE, --index-max SIZE\n"
          "                     one by one; the index starts with --index\n"
          "  --disk SIZE        what does not fit goes to files, this much at most\n"
          "  --data DIR         where (a directory of its own is made in it and removed again)\n"
          "  --evict            drop the oldest records instead of refusing writes\n"
          "  --json             one JSON document on stdout\n",
          to);
    return 2;
}

/* ---- command line ---- */

struct number_flag {
    const char *name;
    uint64_t *out, min, max; /* max 0: a size such as 64MiB */
};

static const char *wrong_value(const char *flag, const char *value)
{
    static char text[200];
    snprintf(text, sizeof text, "--%s %.80s: not understood or out of range", flag, value);
    return text;
}

static const char *check_settings(struct gw_engine_settings *s)
{
    s->counters = s->value_bytes == 8;
    s->cold = s->place.disk_bytes || s->place.evict;
    if (gw_workload_adds(s->workload.mix) && !s->counters)
        return "counter adds need counters: --value-size 8";
    if (s->place.disk_bytes && !s->place.directory)
        return "--disk needs --data DIR";
    if (s->place.disk_bytes && !s->place.memory_bytes && !s->place.log_bytes)
        return "--disk needs --memory (or --log), else everything fits memory";
    if (s->batch > s->depth && s->cold)
        s->batch = s->depth;
    else if (s->batch > s->depth)
        s->depth = s->batch;
    if (s->batch * (s->value_bytes + 8) > ROOM_MAX)
        s->batch = ROOM_MAX / (s->value_bytes + 8);
    if (s->workload.mix == GW_MIX_INSERT)
        s->warm_up = 0;
    return NULL;
}

static const char *parse(int argc, char **argv, struct gw_engine_settings *s)
{
    const struct number_flag numbers[] = {
        {"threads", &s->threads, 1, GW_ENGINE_THREADS_MAX},
        {"keys", &s->keys, 1, (uint64_t)1 << 36},
        {"value-size", &s->value_bytes, 0, GW_ENGINE_VALUE_MAX},
        {"seconds", &s->seconds, 1, 86400},
        {"warm-up", &s->warm_up, 0, 86400},
        {"batch", &s->batch, 1, GW_BENCH_BATCH_MAX},
        {"depth", &s->depth, 1, GW_BENCH_DEPTH_MAX},
        {"seed", &s->workload.seed, 1, UINT64_MAX},
        {"memory", &s->place.memory_bytes, 0, 0},
        {"log", &s->place.log_bytes, 0, 0},
        {"index", &s->place.index_bytes, 0, 0},
        {"index-max", &s->place.index_bytes_max, 0, 0},
        {"disk", &s->place.disk_bytes, 0, 0},
    };
    enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
    struct option options[NUMBERS + 8] = {
        {"workload", required_argument, NULL, 'w'}, {"distribution", required_argument, NULL, 'd'},
        {"theta", required_argument, NULL, 't'},    {"data", required_argument, NULL, 'p'},
        {"evict", no_argument, NULL, 'e'},          {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
    };
    for (int i = 0; i < NUMBERS; i++)
        options[7 + i] = (struct option){numbers[i].name, required_argument, NULL, 256 + i};
    optind = 1;
    for (int c, which = 0; (c = getopt_long(argc, argv, "h", options, &which)) != -1;) {
        enum gw_status st = GW_OK;
        if (c >= 256) {
            const struct number_flag *flag = &numbers[c - 256];
            st = flag->max ? gw_parse_u64(optarg, flag->min, flag->max, flag->out)
                           : gw_parse_size(optarg, flag->out);
        } else if (c == 'w') {
            st = gw_workload_parse_mix(optarg, &s->workload.mix);
        } else if (c == 'd') {
            st = gw_workload_parse_distribution(optarg, &s->workload.distribution);
        } else if (c == 't') {
            st = gw_workload_parse_theta(optarg, &s->workload.theta);
        } else if (c == 'p') {
            s->place.directory = optarg;
        } else if (c == 'e') {
            s->place.evict = true;
        } else if (c == 'j') {
            s->json = true;
        } else if (c == 'h') {
            usage(stdout, NULL);
            exit(0);
        } else {
            return "unknown flag, or one without its value";
        }
        if (st != GW_OK)
            return wrong_value(options[which].name, optarg);
    }
    if (optind != argc)
        return argv[optind];
    return check_settings(s);
}

/* ---- threads ---- */

/* Runs main_fn for every worker and waits. */
static void on_all(struct gw_engine_worker *workers, uint64_t threads, void *(*main_fn)(void *))
{
    pthread_t id[GW_ENGINE_THREADS_MAX];
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
}

static enum gw_status open_workers(struct gw_engine_settings *s, struct gw_bench_place *place,
                                   struct gw_engine_baseline *baseline,
                                   struct gw_engine_worker *workers)
{
    enum gw_status st = GW_OK;
    for (uint64_t i = 0; i < s->threads && st == GW_OK; i++) {
        struct gw_engine_worker *w = &workers[i];
        w->settings = s;
        w->place = place;
        w->baseline = baseline;
        w->number = (uint32_t)i;
        w->loading = true;
        gw_histogram_clear(&w->latency);
        gw_histogram_clear(&w->latency_cold);
        struct gw_workload_options o = s->workload;
        o.keys = o.mix == GW_MIX_INSERT ? 0 : s->keys;
        o.thread = (uint32_t)i;
        o.threads = (uint32_t)s->threads;
        struct gw_bench_session_options session = {.store = place->store,
                                                   .depth = (uint32_t)s->depth,
                                                   .room_bytes = s->batch * (s->value_bytes + 8),
                                                   .patience_ms = s->cold ? PATIENCE_MS : 0,
                                                   .done = gw_engine_done,
                                                   .ctx = w};
        st = gw_workload_init(&w->workload, &o);
        if (st == GW_OK)
            st = gw_bench_session_open(&w->session, &session);
    }
    return st;
}

static enum gw_status first_failure(const struct gw_engine_settings *s,
                                    const struct gw_engine_worker *workers)
{
    for (uint64_t i = 0; i < s->threads; i++)
        if (workers[i].failed != GW_OK)
            return workers[i].failed;
    return GW_OK;
}

static int run(struct gw_engine_settings *s, struct gw_bench_place *place)
{
    static struct gw_engine_baseline baseline;
    struct gw_engine_worker *workers = calloc(s->threads, sizeof *workers);
    if (!workers)
        return 1;
    const char *what = "opening its threads";
    double load_seconds = 0;
    enum gw_status st = open_workers(s, place, &baseline, workers);
    if (st == GW_OK) {
        what = "loading";
        uint64_t start = gw_clock_now_ns(gw_clock_system());
        on_all(workers, s->threads, gw_engine_load);
        load_seconds = (double)(gw_clock_now_ns(gw_clock_system()) - start) / 1e9;
        st = first_failure(s, workers);
    }
    if (st == GW_OK) {
        what = "running";
        on_all(workers, s->threads, gw_engine_run);
        st = first_failure(s, workers);
    }
    if (st == GW_OK)
        gw_engine_report(s, workers, place, load_seconds);
    else
        fprintf(stderr, "godwit-bench engine: %s failed: %s\n", what, gw_status_text(st));
    for (uint64_t i = 0; i < s->threads; i++)
        gw_bench_session_close(&workers[i].session);
    free(workers);
    return st == GW_OK ? 0 : 1;
}

int gw_bench_engine(int argc, char **argv)
{
    struct gw_engine_settings s = {.threads = 1,
                                   .keys = 1000000,
                                   .value_bytes = 8,
                                   .batch = 256,
                                   .depth = 128,
                                   .seconds = 5,
                                   .warm_up = 1,
                                   .workload = {.mix = 'c'}};
    const char *wrong = parse(argc, argv, &s);
    if (wrong)
        return usage(stderr, wrong);
    s.place.threads = (uint32_t)s.threads;
    s.place.depth = (uint32_t)s.depth;
    s.place.record_bytes = gw_bench_record_bytes(s.value_bytes);
    s.place.keys = s.keys;
    if (s.workload.mix == 'd')
        s.place.keys += (s.seconds + s.warm_up) * INSERTS_A_SECOND * s.threads;
    static struct gw_bench_place place;
    if (!gw_bench_place_open(&place, &s.place)) {
        fprintf(stderr, "godwit-bench engine: %s\n", place.error);
        return 1;
    }
    int code = run(&s, &place);
    gw_bench_place_close(&place);
    return code;
}
