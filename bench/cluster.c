/* cluster.c - godwit-bench cluster: client threads against a running cluster, or against one that
 * is started for it and ended with it. Flags, phases and the report; the load is in cluster_load.
 */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/bench.h"
#include "bench/cluster_load.h"
#include "bench/spawn.h"
#include "index/base/text.h"

#define THREADS_MAX      64u
#define VALUE_MAX        (1u << 20)
#define RATE_MAX         1000000000u

#define SERVER_FLAGS_MAX 16u

struct settings {
    struct gw_load_settings load;
    const char *servers; /* the coordinator's address; NULL: spawn */
    uint64_t spawn, server_threads, seconds, warm_up, memory;
    const char *server_flags[SERVER_FLAGS_MAX + 1]; /* words, the last one NULL */
    uint32_t server_flags_count;
    bool json;
};

/* Set by SIGINT and SIGTERM; relaxed: it publishes nothing but itself. */
static _Atomic bool interrupted;

static void interrupt(int signal)
{
    (void)signal;
    atomic_store_explicit(&interrupted, true, memory_order_relaxed);
}

static bool is_interrupted(void)
{
    return atomic_load_explicit(&interrupted, memory_order_relaxed);
}

/* ---- command line --------------------------------------------------------------------------- */

static void usage(FILE *to)
{
    fputs("usage: godwit-bench cluster --servers H:P | --spawn N [FLAGS]\n"
          "  --servers H:P           a running cluster, by its coordinator's address\n"
          "  --spawn N               N servers of its own on loopback (1 to 16)\n"
          "  --server-threads T      dispatchers of each spawned server (default 1)\n"
          "  --memory SIZE           of each spawned server (default: by need)\n"
          "  --server-flag WORD      one more word for each of them, such as --disk=4GiB;\n"
          "                          several times for several\n"
          "  --threads T             client threads (default 1)\n"
          "  --workload W            YCSB's a, b, c, d; add or f (default): counter adds;\n"
          "                          50:50: reads and adds; insert: new keys\n"
          "  --keys N                loaded before (default 1000000)\n"
          "  --value-size B          8 (default) stores counters\n"
          "  --distribution D        uniform (default), zipfian or latest\n"
          "  --theta X               the skew of the latter two (default 0.99)\n"
          "  --seed N                of what is drawn (default: a fixed one)\n"
          "  --seconds S             measured time (default 5)\n"
          "  --warm-up S             before it (default 1)\n"
          "  --batch N               operations in a batch at most (default 512)\n"
          "  --depth N               batches in flight of each thread (default 8)\n"
          "  --rate R                open loop: R operations a second in all, latency from the\n"
          "                          intended start (default: closed loop)\n"
          "  --json                  one JSON document on stdout\n",
          to);
}

static int refuse(const char *flag, const char *value, const char *limit)
{
    fprintf(stderr, "godwit-bench cluster: %s: '%s' is not %s\n", flag, value, limit);
    return 2;
}

static int number(const char *flag, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    char limit[80];
    if (gw_parse_u64(text, min, max, out) == GW_OK)
        return -1;
    snprintf(limit, sizeof limit, "a number from %" PRIu64 " to %" PRIu64, min, max);
    return refuse(flag, text, limit);
}

/* Which number a flag sets, and its limits. */
struct number_flag {
    const char *name;
    uint64_t *out, min, max;
};

static int parse(int argc, char **argv, struct settings *s)
{
    uint64_t rate = 0;
    const struct number_flag numbers[] = {
        {"spawn", &s->spawn, 1, GW_SPAWN_SERVERS_MAX},
        {"server-threads", &s->server_threads, 1, 128},
        {"threads", &s->load.threads, 1, THREADS_MAX},
        {"keys", &s->load.keys, 1, (uint64_t)1 << 36},
        {"value-size", &s->load.value_bytes, 0, VALUE_MAX},
        {"seconds", &s->seconds, 1, 86400},
        {"warm-up", &s->warm_up, 0, 3600},
        {"batch", &s->load.batch, 1, 65536},
        {"depth", &s->load.depth, 1, 64},
        {"rate", &rate, 1, RATE_MAX},
        {"seed", &s->load.workload.seed, 1, UINT64_MAX},
    };
    enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
    struct option options[NUMBERS + 9] = {
        {"servers", required_argument, NULL, 'c'},
        {"memory", required_argument, NULL, 'm'},
        {"workload", required_argument, NULL, 'w'},
        {"json", no_argument, NULL, 'j'},
        {"distribution", required_argument, NULL, 'd'},
        {"help", no_argument, NULL, 'h'},
        {"theta", required_argument, NULL, 't'},
        {"server-flag", required_argument, NULL, 's'},
    };
    for (int i = 0; i < NUMBERS; i++)
        options[8 + i] = (struct option){numbers[i].name, required_argument, NULL, 256 + i};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        int code = -1;
        if (c >= 256) {
            const struct number_flag *flag = &numbers[c - 256];
            char name[32];
            snprintf(name, sizeof name, "--%s", flag->name);
            code = number(name, optarg, flag->min, flag->max, flag->out);
        } else if (c == 'c') {
            s->servers = optarg;
        } else if (c == 'm') {
            if (gw_parse_size(optarg, &s->memory) != GW_OK)
                code = refuse("--memory", optarg, "a size such as 512MiB");
        } else if (c == 'w') {
            if (gw_workload_parse_mix(optarg, &s->load.workload.mix) != GW_OK)
                code = refuse("--workload", optarg, "one of a, b, c, d, f, add, 50:50, insert");
        } else if (c == 'd') {
            if (gw_workload_parse_distribution(optarg, &s->load.workload.distribution) != GW_OK)
                code = refuse("--distribution", optarg, "uniform, zipfian or latest");
        } else if (c == 't') {
            if (gw_workload_parse_theta(optarg, &s->load.workload.theta) != GW_OK)
                code = refuse("--theta", optarg, "a skew above 0, up to 10, other than 1");
        } else if (c == 's') {
            if (s->server_flags_count == SERVER_FLAGS_MAX)
                code = refuse("--server-flag", optarg, "one of at most 16");
            else
                s->server_flags[s->server_flags_count++] = optarg;
        } else if (c == 'j') {
            s->json = true;
        } else if (c == 'h') {
            usage(stdout);
            code = 0;
        } else {
            usage(stderr);
            code = 2;
        }
        if (code >= 0)
            return code;
    }
    if (optind != argc)
        return refuse("argument", argv[optind], "a flag");
    if (!s->servers == !s->spawn) {
        fputs("godwit-bench cluster: one of --servers and --spawn is needed\n", stderr);
        return 2;
    }
    s->load.rate = (double)rate;
    s->load.counters = s->load.value_bytes == 8;
    if (gw_workload_adds(s->load.workload.mix) && !s->load.counters)
        return refuse("--value-size", "other than 8", "possible with a workload of counter adds");
    return -1;
}

/* ---- the cluster ---------------------------------------------------------------------------- */

/* What a server needs to hold all keys, so that it may own all slots, plus room for copies. */
static void memory_by_need(const struct settings *s, struct gw_spawn *spawn)
{
    uint64_t record = (16 + 8 + (s->load.value_bytes + 7) / 8 * 8 + 15) / 16 * 16;
    uint64_t keys = s->load.keys;
    if (gw_workload_inserts(s->load.workload.mix))
        keys += s->seconds * 1000000;
    uint64_t need = record * keys * 2 + ((uint64_t)128 << 20);
    spawn->memory_bytes = s->memory ? s->memory : (need + (1 << 20) - 1) >> 20 << 20;
    uint64_t index = keys * 24;
    spawn->index_bytes = index < ((uint64_t)64 << 20) ? (uint64_t)64 << 20 : index;
    if (!s->memory)
        spawn->memory_bytes += spawn->index_bytes;
    if (spawn->index_bytes > spawn->memory_bytes / 2)
        spawn->index_bytes = 0; /* a --memory this small: the server divides it */
    spawn->threads = (uint32_t)s->server_threads;
    spawn->server_flags = s->server_flags_count ? s->server_flags : NULL;
}

static bool spawn_cluster(const struct settings *s, struct gw_spawn *spawn)
{
    if (!gw_spawn_open(spawn, NULL))
        return false;
    memory_by_need(s, spawn);
    if (!gw_spawn_coordinator(spawn))
        return false;
    for (uint64_t i = 0; i < s->spawn; i++) {
        char id[24];
        snprintf(id, sizeof id, "s%" PRIu64, i + 1);
        /* One after the other, so that all shares are even. */
        if (!gw_spawn_server(spawn, id) || (i > 0 && !gw_spawn_share(spawn, id)))
            return false;
    }
    return true;
}

/* ---- phases --------------------------------------------------------------------------------- */

static void move_to(struct gw_load_settings *load, enum gw_load_phase phase)
{
    atomic_store_explicit(&load->phase, (int)phase, memory_order_relaxed);
}

static void nap(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static void wait_seconds(uint64_t seconds)
{
    for (uint64_t i = 0; i < seconds * 20 && !is_interrupted(); i++)
        nap(50);
}

static bool any_failed(const struct gw_load_worker *workers, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        if (workers[i].failure != GW_OK) {
            fprintf(stderr, "godwit-bench cluster: %s\n", gw_status_text(workers[i].failure));
            return true;
        }
    return false;
}

/* True: measured. Joins every thread that it has started. */
static bool drive(struct settings *s, struct gw_load_worker *workers)
{
    struct gw_load_settings *load = &s->load;
    uint64_t started = 0;
    for (; started < load->threads; started++)
        if (pthread_create(&workers[started].thread, NULL, gw_load_run, &workers[started]) != 0)
            break;
    if (started < load->threads) {
        fputs("godwit-bench cluster: cannot start its threads\n", stderr);
    } else {
        while (atomic_load_explicit(&load->loaded, memory_order_acquire) < load->threads &&
               !is_interrupted())
            nap(5);
        move_to(load, GW_LOAD_WARM_UP);
        wait_seconds(s->warm_up);
        move_to(load, GW_LOAD_MEASURE);
        wait_seconds(s->seconds);
    }
    move_to(load, GW_LOAD_END);
    for (uint64_t i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    return started == load->threads && !is_interrupted() && !any_failed(workers, started);
}

/* ---- report --------------------------------------------------------------------------------- */

struct totals {
    struct gw_histogram latency_ns;
    uint64_t operations, errors, refusals, resent, batches, sent;
    double rate, seconds;
    double max_us;
    enum gw_status error;
};

static void add_up(const struct settings *s, const struct gw_load_worker *workers, struct totals *t)
{
    for (uint64_t i = 0; i < s->load.threads; i++) {
        const struct gw_load_worker *worker = &workers[i];
        gw_histogram_merge(&t->latency_ns, &worker->latency_ns);
        t->operations += worker->operations;
        t->errors += worker->errors;
        t->refusals += worker->stats.refusals;
        t->resent += worker->stats.resent;
        t->batches += worker->stats.batches;
        t->sent += worker->stats.operations;
        t->rate += worker->seconds > 0 ? (double)worker->operations / worker->seconds : 0;
        if (worker->seconds > t->seconds)
            t->seconds = worker->seconds;
        if (t->error == GW_OK)
            t->error = worker->error;
        /* In a closed loop the session knows the longest wait of all operations, not of samples. */
        double longest = (double)worker->stats.wait_longest_ns / 1e3;
        if (s->load.rate <= 0 && longest > t->max_us)
            t->max_us = longest;
    }
    if ((double)t->latency_ns.max / 1e3 > t->max_us)
        t->max_us = (double)t->latency_ns.max / 1e3;
}

static int report(const struct settings *s, const struct totals *t)
{
    const char *mix = gw_workload_mix_name(s->load.workload.mix);
    const char *distribution = gw_workload_distribution_name(s->load.workload.distribution);
    double p50 = (double)gw_histogram_at(&t->latency_ns, 0.5) / 1e3;
    double p99 = (double)gw_histogram_at(&t->latency_ns, 0.99) / 1e3;
    double p999 = (double)gw_histogram_at(&t->latency_ns, 0.999) / 1e3;
    double filled = t->batches ? (double)t->sent / (double)t->batches : 0;
    if (t->errors)
        fprintf(stderr, "godwit-bench cluster: %" PRIu64 " errors, the first: %s\n", t->errors,
                gw_status_text(t->error));
    if (!s->json) {
        printf("workload %s, %s, %" PRIu64 " keys, %" PRIu64 " threads: %.2f M ops/s, %" PRIu64
               " errors\n"
               "latency: p50 %.1f us, p99 %.1f us, p999 %.1f us, max %.1f us; %.0f ops a batch\n",
               mix, distribution, s->load.keys, s->load.threads, t->rate / 1e6, t->errors, p50, p99,
               p999, t->max_us, filled);
        return fflush(stdout) == 0 ? 0 : 1;
    }
    json_t *document = json_pack(
        "{s:f, s:{s:f, s:f, s:f, s:f}, s:I, s:f, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:I, "
        "s:I, s:I, s:f}",
        "ops_per_second", t->rate, "latency_us", "p50", p50, "p99", p99, "p999", p999, "max",
        t->max_us, "errors", (json_int_t)t->errors, "seconds", t->seconds, "operations",
        (json_int_t)t->operations, "workload", mix, "distribution", distribution, "threads",
        (json_int_t)s->load.threads, "keys", (json_int_t)s->load.keys, "value_size",
        (json_int_t)s->load.value_bytes, "batch", (json_int_t)s->load.batch, "depth",
        (json_int_t)s->load.depth, "rate", s->load.rate, "servers", (json_int_t)s->spawn,
        "refusals", (json_int_t)t->refusals, "resent", (json_int_t)t->resent,
        "operations_per_batch", filled);
    json_dumpf(document, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10) | JSON_PRESERVE_ORDER);
    putchar('\n');
    json_decref(document);
    return fflush(stdout) == 0 ? 0 : 1;
}

static int run(struct settings *s, const char *coordinator)
{
    int code = 1;
    enum gw_status st = gw_cluster_open(coordinator, NULL, &s->load.cluster);
    if (st != GW_OK) {
        fprintf(stderr, "godwit-bench cluster: coordinator %s: %s\n", coordinator,
                gw_status_text(st));
        return 1;
    }
    struct gw_load_worker *workers = calloc(s->load.threads, sizeof *workers);
    struct totals *totals = calloc(1, sizeof *totals);
    uint64_t opened = 0;
    for (; workers && totals && st == GW_OK && opened < s->load.threads; opened++)
        st = gw_load_init(&workers[opened], &s->load, (uint32_t)opened);
    if (!workers || !totals || st != GW_OK) {
        fprintf(stderr, "godwit-bench cluster: cannot open its sessions: %s\n",
                gw_status_text(st == GW_OK ? GW_E_NOMEM : st));
    } else if (drive(s, workers)) {
        add_up(s, workers, totals);
        code = report(s, totals);
    }
    for (uint64_t i = 0; i < opened; i++)
        gw_load_fini(&workers[i]);
    free(workers);
    free(totals);
    gw_cluster_close(s->load.cluster);
    return code;
}

int gw_bench_cluster(int argc, char **argv)
{
    static struct gw_spawn spawn;
    static struct settings s = {.load = {.threads = 1,
                                         .keys = 1000000,
                                         .value_bytes = 8,
                                         .batch = 512,
                                         .depth = 8,
                                         .workload = {.mix = 'f'}},
                                .server_threads = 1,
                                .seconds = 5,
                                .warm_up = 1};
    int code = parse(argc, argv, &s);
    if (code >= 0)
        return code;
    struct sigaction action = {.sa_handler = interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (s.servers)
        return run(&s, s.servers);
    if (spawn_cluster(&s, &spawn)) {
        code = run(&s, spawn.coordinator_address);
    } else {
        fprintf(stderr, "godwit-bench cluster: %s\n", spawn.error);
        code = 1;
    }
    gw_spawn_close(&spawn);
    return code;
}
