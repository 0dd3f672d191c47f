/* churn.c - `godwit-bench churn`: its command line, its threads, and the monitor that looks at
 * memory, disk and store meanwhile (churn.h says what the modes are for). */
#include "bench/churn.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/bench.h"
#include "bench/counters.h"
#include "index/base/clock.h"
#include "index/base/text.h"

#define SAMPLE_MS     100u
#define PATIENCE_MS   10000u
#define ROOM_BYTES    ((uint64_t)2 << 20) /* values read by one batch; more are read in parts */
#define KEYS_A_BUCKET 4u                  /* room for keys while growing to so many buckets */
#define BUCKET_BYTES  96u                 /* with its share of overflow lines */
#define DISK_TIMES    3u                  /* of the data: the default of --disk */

static int usage(FILE *to, const char *what)
{
    if (what)
        fprintf(to, "godwit-bench churn: %s\n", what);
    fputs(
        "usage: godwit-bench churn mixed|overwrite|growth [FLAGS]\n"
        "  --memory SIZE      of index, log and buffers (default 512MiB; growth: by need)\n"
        "  --ratio N          data : memory (default 8)\n"
        "  --data DIR         where the files go (mixed and overwrite need it, or --evict)\n"
        "  --disk SIZE        bound of the files (default: three times the data; 0: none)\n"
        "  --evict            drop the oldest records instead of refusing writes\n"
        "  --seconds S        at most (default 60)\n"
        "  --threads T        1 (default) to 64\n"
        "  --batch N, --depth N   operations in a batch (32), waiting for the device (128)\n"
        "  --seed N           of what is drawn (default: a fixed one)\n"
        "  --ttl SECONDS      mixed: 15 of 100 keys expire within so long (default 30; 0: never)\n"
        "  --value-size B     overwrite: (default 1024)\n"
        "  --times N          overwrite: until N times the data has been written (default 10)\n"
        "  --buckets-from N, --buckets-to N\n"
        "                     growth: (default 1048576 to 67108864, 16 GiB of memory)\n"
        "  --series FILE      every look at memory, disk and store, tab-separated\n"
        "  --json             one JSON document on stdout\n",
        to);
    return 2;
}

/* ---- command line ---- */

struct number_flag {
    const char *name;
    uint64_t *out, min, max; /* max 0: a size such as 64MiB */
};

static const char *check_settings(struct gw_churn_settings *s, bool disk_given)
{
    if (s->mode == GW_CHURN_GROWTH) {
        if (s->buckets_from > s->buckets_to)
            return "--buckets-from is above --buckets-to";
        s->keys = s->buckets_to * KEYS_A_BUCKET;
        s->record_bytes = (double)gw_bench_record_bytes(8);
        return NULL;
    }
    if (!s->directory && !s->evict)
        return "--data DIR is needed (or --evict)";
    s->record_bytes = gw_churn_record_bytes(s);
    s->keys = (uint64_t)((double)(s->memory_bytes * s->ratio) / s->record_bytes);
    if (s->keys < s->threads * 1000)
        return "too little data: raise --memory or --ratio";
    if (!s->directory)
        s->disk_bytes = 0;
    else if (!disk_given)
        s->disk_bytes = s->memory_bytes * s->ratio * DISK_TIMES;
    return NULL;
}

static const char *parse(int argc, char **argv, struct gw_churn_settings *s)
{
    static const char *const modes[] = {[GW_CHURN_MIXED] = "mixed",
                                        [GW_CHURN_OVERWRITE] = "overwrite",
                                        [GW_CHURN_GROWTH] = "growth"};
    uint64_t ttl_seconds = 30;
    const struct number_flag numbers[] = {
        {"memory", &s->memory_bytes, 0, 0},
        {"disk", &s->disk_bytes, 0, 0},
        {"ratio", &s->ratio, 1, 1000},
        {"seconds", &s->seconds, 1, 86400},
        {"threads", &s->threads, 1, GW_CHURN_THREADS_MAX},
        {"batch", &s->batch, 1, GW_BENCH_BATCH_MAX},
        {"depth", &s->depth, 1, GW_BENCH_DEPTH_MAX},
        {"seed", &s->seed, 1, UINT64_MAX},
        {"ttl", &ttl_seconds, 0, 86400},
        {"value-size", &s->value_bytes, 1, GW_CHURN_VALUE_MAX},
        {"times", &s->times, 1, 1000},
        {"buckets-from", &s->buckets_from, 64, (uint64_t)1 << 36},
        {"buckets-to", &s->buckets_to, 64, (uint64_t)1 << 36},
    };
    enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
    struct option options[NUMBERS + 6] = {
        {"data", required_argument, NULL, 'p'}, {"series", required_argument, NULL, 's'},
        {"evict", no_argument, NULL, 'e'},      {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
    };
    for (int i = 0; i < NUMBERS; i++)
        options[5 + i] = (struct option){numbers[i].name, required_argument, NULL, 256 + i};
    bool disk_given = false;
    optind = 1;
    for (int c, which = 0; (c = getopt_long(argc, argv, "h", options, &which)) != -1;) {
        enum gw_status st = GW_OK;
        if (c >= 256) {
            const struct number_flag *flag = &numbers[c - 256];
            st = flag->max ? gw_parse_u64(optarg, flag->min, flag->max, flag->out)
                           : gw_parse_size(optarg, flag->out);
            disk_given |= flag->out == &s->disk_bytes;
        } else if (c == 'p') {
            s->directory = optarg;
        } else if (c == 's') {
            s->series = optarg;
        } else if (c == 'e') {
            s->evict = true;
        } else if (c == 'j') {
            s->json = true;
        } else if (c == 'h') {
            usage(stdout, NULL);
            exit(0);
        } else {
            return "unknown flag, or one without its value";
        }
        if (st != GW_OK) {
            static char wrong[200];
            snprintf(wrong, sizeof wrong, "--%s %.80s: not understood or out of range",
                     options[which].name, optarg);
            return wrong;
        }
    }
    s->ttl_ms = ttl_seconds * 1000;
    if (optind + 1 != argc)
        return "one of mixed, overwrite and growth is needed";
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(argv[optind], modes[i]) == 0) {
            s->mode = (enum gw_churn_mode)i;
            return check_settings(s, disk_given);
        }
    }
    return "no such mode";
}

/* ---- the monitor ---- */

static void look(struct gw_churn_series *series, const struct gw_churn_worker *workers,
                 const struct gw_churn_settings *s, struct gw_bench_place *place, double seconds)
{
    uint64_t rss = gw_bench_rss_bytes();
    series->rss_max = rss > series->rss_max ? rss : series->rss_max;
    if (series->count == series->room) {
        uint32_t room = series->room ? series->room * 2 : 1024;
        struct gw_churn_sample *more = realloc(series->sample, room * sizeof *more);
        if (!more)
            return;
        series->sample = more;
        series->room = room;
    }
    struct gw_store_stats st;
    struct gw_device_usage usage = {0};
    gw_store_stats(place->store, &st);
    if (place->device)
        place->device->usage(place->device, &usage);
    struct gw_churn_sample *sample = &series->sample[series->count++];
    *sample = (struct gw_churn_sample){.seconds = seconds,
                                       .rss_bytes = rss,
                                       .live_bytes = st.live_bytes,
                                       .log_bytes = st.log_bytes_used,
                                       .disk_bytes = usage.used_bytes,
                                       .keys = st.keys,
                                       .index_bytes = st.index_bytes,
                                       .index_buckets = st.index_buckets,
                                       .compacted_bytes = st.compacted_bytes,
                                       .compacted_live_bytes = st.compacted_live_bytes,
                                       .compact_reads = st.compact_reads,
                                       .evicted = st.evicted,
                                       .cold = st.cold,
                                       .promoted = st.promoted,
                                       .full = st.full};
    for (uint64_t i = 0; i < s->threads; i++) {
        const struct gw_churn_progress *p = &workers[i].progress;
        sample->operations += atomic_load_explicit(&p->operations, memory_order_relaxed);
        sample->written_bytes += atomic_load_explicit(&p->written_bytes, memory_order_relaxed);
    }
}

static bool all_finished(const struct gw_churn_worker *workers, uint64_t threads)
{
    for (uint64_t i = 0; i < threads; i++)
        if (!atomic_load_explicit(&workers[i].progress.finished, memory_order_acquire))
            return false;
    return true;
}

/* Runs main_fn for every worker, looks at the store every SAMPLE_MS, and waits for them. */
static void on_all(const struct gw_churn_settings *s, struct gw_churn_worker *workers,
                   struct gw_bench_place *place, struct gw_churn_series *series,
                   void *(*main_fn)(void *))
{
    pthread_t id[GW_CHURN_THREADS_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, (unsigned)s->threads);
    uint64_t began = gw_clock_now_ns(gw_clock_system());
    for (uint64_t i = 0; i < s->threads; i++) {
        struct gw_churn_worker *w = &workers[i];
        w->start = &start;
        atomic_store_explicit(&w->progress.finished, false, memory_order_relaxed);
        atomic_store_explicit(&w->progress.operations, 0, memory_order_relaxed);
        atomic_store_explicit(&w->progress.written_bytes, 0, memory_order_relaxed);
        if (pthread_create(&id[i], NULL, main_fn, w) != 0) {
            fprintf(stderr, "godwit-bench churn: cannot start thread %" PRIu64 "\n", i);
            exit(1); /* the others wait at the barrier for ever */
        }
    }
    bool finished;
    do {
        finished = all_finished(workers, s->threads);
        if (!finished)
            nanosleep(&(struct timespec){.tv_nsec = SAMPLE_MS * 1000000l}, NULL);
        double seconds = (double)(gw_clock_now_ns(gw_clock_system()) - began) / 1e9;
        look(series, workers, s, place, seconds);
    } while (!finished);
    for (uint64_t i = 0; i < s->threads; i++)
        pthread_join(id[i], NULL);
    pthread_barrier_destroy(&start);
}

/* ---- a run ---- */

static enum gw_status open_workers(const struct gw_churn_settings *s, struct gw_bench_place *place,
                                   const uint8_t *pool, struct gw_churn_worker *workers)
{
    enum gw_status st = GW_OK;
    uint64_t seed = s->seed ? s->seed : 20240229;
    for (uint64_t i = 0; i < s->threads && st == GW_OK; i++) {
        struct gw_churn_worker *w = &workers[i];
        w->settings = s;
        w->place = place;
        w->pool = pool;
        w->number = (uint32_t)i;
        gw_rand_init(&w->rand, seed * 31 + i);
        struct gw_workload_options o = {.mix = 'c',
                                        .distribution =
                                            s->mode == GW_CHURN_MIXED ? GW_ZIPFIAN : GW_UNIFORM,
                                        .keys = s->keys,
                                        .thread = (uint32_t)i,
                                        .threads = (uint32_t)s->threads,
                                        .seed = s->seed};
        struct gw_bench_session_options session = {.store = place->store,
                                                   .depth = (uint32_t)s->depth,
                                                   .room_bytes = ROOM_BYTES,
                                                   .patience_ms = place->device ? PATIENCE_MS : 0,
                                                   .done = gw_churn_done,
                                                   .ctx = w};
        st = gw_workload_init(&w->workload, &o);
        if (st == GW_OK)
            st = gw_bench_session_open(&w->session, &session);
    }
    return st;
}

static enum gw_status first_failure(const struct gw_churn_settings *s,
                                    const struct gw_churn_worker *workers)
{
    for (uint64_t i = 0; i < s->threads; i++)
        if (workers[i].failed != GW_OK)
            return workers[i].failed;
    return GW_OK;
}

static int run(const struct gw_churn_settings *s, struct gw_bench_place *place, const uint8_t *pool,
               uint64_t rss_before)
{
    struct gw_churn_worker *workers = calloc(s->threads, sizeof *workers);
    struct gw_churn_series aside = {0}, series = {.rss_before = rss_before};
    if (!workers)
        return 1;
    const char *what = "opening its threads";
    enum gw_status st = open_workers(s, place, pool, workers);
    if (st == GW_OK && s->mode == GW_CHURN_GROWTH) {
        what = "growing";
        on_all(s, workers, place, &series, gw_churn_grow);
        st = first_failure(s, workers);
    } else if (st == GW_OK) {
        what = "loading";
        on_all(s, workers, place, &aside, gw_churn_load);
        st = first_failure(s, workers);
        if (st == GW_OK) {
            what = "running";
            on_all(s, workers, place, &series, gw_churn_run);
            st = first_failure(s, workers);
        }
        if (st == GW_OK) {
            what = "verifying";
            on_all(s, workers, place, &aside, gw_churn_verify);
            st = first_failure(s, workers);
        }
        series.rss_max = aside.rss_max > series.rss_max ? aside.rss_max : series.rss_max;
    }
    if (st == GW_OK)
        gw_churn_report(s, workers, place, &series);
    else
        fprintf(stderr, "godwit-bench churn: %s failed: %s\n", what,
                st == GW_E_TIMEOUT ? "operations that waited for the device never ended"
                                   : gw_status_text(st));
    for (uint64_t i = 0; i < s->threads; i++)
        gw_bench_session_close(&workers[i].session);
    free(aside.sample);
    free(series.sample);
    free(workers);
    return st == GW_OK ? 0 : 1;
}

int gw_bench_churn(int argc, char **argv)
{
    static struct gw_churn_settings s = {.memory_bytes = (uint64_t)512 << 20,
                                         .ratio = 8,
                                         .seconds = 60,
                                         .threads = 1,
                                         .batch = 32,
                                         .depth = 128,
                                         .value_bytes = 1024,
                                         .times = 10,
                                         .buckets_from = (uint64_t)1 << 20,
                                         .buckets_to = (uint64_t)1 << 26};
    const char *wrong = parse(argc, argv, &s);
    if (wrong)
        return usage(stderr, wrong);
    struct gw_bench_place_options o = {.memory_bytes = s.memory_bytes,
                                       .disk_bytes = s.disk_bytes,
                                       .directory = s.directory,
                                       .evict = s.evict,
                                       .keys = s.keys,
                                       .record_bytes = (uint64_t)s.record_bytes,
                                       .threads = (uint32_t)s.threads,
                                       .depth = (uint32_t)s.depth};
    if (s.mode == GW_CHURN_MIXED)
        o.record_bytes_max = gw_bench_record_bytes(GW_CHURN_VALUE_MAX) + 16;
    if (s.mode == GW_CHURN_GROWTH) {
        o.memory_bytes = 0;
        o.index_bytes = s.buckets_from * BUCKET_BYTES + 65536;
        o.index_bytes_max = s.buckets_to * BUCKET_BYTES * 9 / 8 + 65536;
        o.log_bytes = s.keys * (uint64_t)s.record_bytes + o.index_bytes_max - o.index_bytes +
                      ((uint64_t)64 << 20);
        o.populate = true; /* what is measured is growth, not the first touch of the log */
        o.disk_bytes = 0;
    }
    uint8_t *pool = malloc(GW_CHURN_POOL_BYTES);
    if (!pool)
        return 1;
    struct gw_rand rand;
    gw_rand_init(&rand, 7);
    for (size_t i = 0; i + 8 <= GW_CHURN_POOL_BYTES; i += 8) {
        uint64_t word = gw_rand_next(&rand);
        memcpy(pool + i, &word, sizeof word);
    }
    uint64_t rss_before = gw_bench_rss_bytes();
    static struct gw_bench_place place;
    int code = 1;
    if (gw_bench_place_open(&place, &o)) {
        code = run(&s, &place, pool, rss_before);
        gw_bench_place_close(&place);
    } else {
        fprintf(stderr, "godwit-bench churn: %s\n", place.error);
    }
    free(pool);
    return code;
}
