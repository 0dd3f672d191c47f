/* migrate.c - godwit-bench migrate: flags, rounds, ablations and the document: see migrate.h. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bench/bench.h"
#include "bench/migrate.h"
#include "index/base/text.h"

#define VALUE_MAX  (1u << 20)
#define ROUNDS_MAX 20u

const char *const gw_migrate_ablation_names[GW_ABLATIONS] = {[GW_ABLATE_SAMPLING] = "sampling",
                                                             [GW_ABLATE_INDIRECTION] =
                                                                 "indirection",
                                                             [GW_ABLATE_PULLS] = "pulls"};

static void usage(FILE *to)
{
    fputs(
        "usage: godwit-bench migrate [FLAGS]\n"
        "Starts a cluster of its own, loads keys, and moves slots from the first server to the\n"
        "second in the middle of a load.\n"
        "  --part P               of the slots: 10% (default), 50%, 0.25\n"
        "  --servers N            2 (default) or 3: the third has an even share and stands by\n"
        "  --target-serves        so has the target, before anything moves (default: it has none)\n"
        "  --server-threads T     dispatchers of each (default 1)\n"
        "  --memory SIZE          of each (default: by need)\n"
        "  --disk SIZE            of each (default: none)\n"
        "  --blob URL             shared tier; dir: one directory of the cluster's own\n"
        "  --server-flag WORD     one more word for each of them; several times for several\n"
        "  --threads T            client threads (default 1)\n"
        "  --keys N               (default 1000000)\n"
        "  --key-size N           8 (default) to 200 bytes\n"
        "  --value-size N         8: counters; 12 and more: bytes (default 100)\n"
        "  --workload W           a, b (default), c, f, add, 50:50, as in `cluster`\n"
        "  --distribution D       uniform (default), zipfian; --theta X its skew (default 0.99)\n"
        "  --seed N               of what is drawn (default: a fixed one)\n"
        "  --apart                client threads on the first processor, all else on the others\n"
        "  --batch N, --depth N   operations in a batch (256), batches in flight (8)\n"
        "  --rate R               open loop: R operations a second in all, latency from the\n"
        "                         intended start (default: closed loop)\n"
        "  --idle                 no load while the slots move: the bulk rate\n"
        "  --warm-up S, --before S, --after S   seconds of load (2, 3, 2)\n"
        "  --timeout S            of the job (default 300)\n"
        "  --no-sampling, --no-indirection, --no-pulls   what the job leaves out\n"
        "  --job-rate SIZE        that the job may send a second (default: no bound)\n"
        "  --max-impact US        p99 that it may cause (default: the servers')\n"
        "  --rounds N             clusters one after the other (default 1; with ablations 3)\n"
        "  --ablations            each round: all on, and each of the three off, in turns\n"
        "  --verify               at the end the source is stopped and every key of the range is\n"
        "                         read from the target and compared\n"
        "  --loopback             two processes on loopback TCP in the same run, as a measure\n"
        "  --out DIR              JSON, tables and pictures go there (default: none are made)\n"
        "  --json                 the document on stdout instead of words\n",
        to);
}

static int refuse(const char *flag, const char *value, const char *limit)
{
    fprintf(stderr, "godwit-bench migrate: %s: '%s' is not %s\n", flag, value, limit);
    return 2;
}

static int parse_part(const char *text, double *part)
{
    char *end;
    double value = strtod(text, &end);
    if (strcmp(end, "%") == 0)
        value /= 100;
    else if (*end)
        value = NAN;
    if (end == text || !(value > 0 && value <= 1))
        return refuse("--part", text, "a part above 0, up to 100% or 1");
    *part = value;
    return -1;
}

struct number_flag {
    const char *name;
    uint64_t *out, min, max;
};

struct text_flag {
    const char *name;
    int (*parse)(struct gw_migrate_settings *s, const char *text);
};

static int set_size(const char *flag, const char *text, uint64_t *out)
{
    return gw_parse_size(text, out) == GW_OK ? -1 : refuse(flag, text, "a size such as 512MiB");
}

static int set_part(struct gw_migrate_settings *s, const char *text)
{
    return parse_part(text, &s->part);
}
static int set_memory(struct gw_migrate_settings *s, const char *text)
{
    return set_size("--memory", text, &s->memory);
}
static int set_disk(struct gw_migrate_settings *s, const char *text)
{
    return set_size("--disk", text, &s->disk);
}
static int set_job_rate(struct gw_migrate_settings *s, const char *text)
{
    return set_size("--job-rate", text, &s->job_rate_bytes);
}
static int set_blob(struct gw_migrate_settings *s, const char *text)
{
    s->blob = text;
    return -1;
}
static int set_out(struct gw_migrate_settings *s, const char *text)
{
    s->out = text;
    return -1;
}
static int set_server_flag(struct gw_migrate_settings *s, const char *text)
{
    if (s->server_flags_count == GW_MIGRATE_FLAGS_MAX)
        return refuse("--server-flag", text, "one of at most 16");
    s->server_flags[s->server_flags_count++] = text;
    return -1;
}
static int set_workload(struct gw_migrate_settings *s, const char *text)
{
    char mix;
    if (gw_workload_parse_mix(text, &mix) != GW_OK || gw_workload_inserts(mix))
        return refuse("--workload", text, "one of a, b, c, f, add, 50:50");
    s->workload.mix = mix;
    return -1;
}
static int set_distribution(struct gw_migrate_settings *s, const char *text)
{
    if (gw_workload_parse_distribution(text, &s->workload.distribution) != GW_OK ||
        s->workload.distribution == GW_LATEST)
        return refuse("--distribution", text, "uniform or zipfian");
    return -1;
}
static int set_theta(struct gw_migrate_settings *s, const char *text)
{
    return gw_workload_parse_theta(text, &s->workload.theta) == GW_OK
               ? -1
               : refuse("--theta", text, "a skew above 0, up to 10, other than 1");
}

static int set_ablate(struct gw_migrate_settings *s, const char *text)
{
    for (int i = 0; i < GW_ABLATIONS; i++)
        if (strcmp(text, gw_migrate_ablation_names[i]) == 0) {
            s->ablate[i] = true;
            return -1;
        }
    return refuse("--ablate", text, "one of sampling, indirection, pulls");
}

static bool any(const bool *which)
{
    return which[GW_ABLATE_SAMPLING] || which[GW_ABLATE_INDIRECTION] || which[GW_ABLATE_PULLS];
}

static int check(const struct gw_migrate_settings *s)
{
    if (s->value_bytes != 8 && s->value_bytes < 12)
        return refuse("--value-size", "9 to 11", "possible: 8, or 12 and more");
    if (gw_workload_adds(s->workload.mix) && s->value_bytes != 8)
        return refuse("--value-size", "other than 8", "possible with a workload of counter adds");
    if (s->keys < s->threads)
        return refuse("--keys", "less than --threads", "possible");
    if (s->blob && !s->disk)
        return refuse("--blob", s->blob, "possible without --disk");
    return -1;
}

enum { FLAG_NUMBER = 256, FLAG_TEXT = 512, FLAG_SWITCH = 768 };

static int parse(int argc, char **argv, struct gw_migrate_settings *s)
{
    uint64_t rate = 0;
    bool ablations = false;
    const struct number_flag numbers[] = {
        {"servers", &s->servers, 2, 3},
        {"server-threads", &s->server_threads, 1, 128},
        {"threads", &s->threads, 1, 64},
        {"keys", &s->keys, 1, UINT32_MAX},
        {"key-size", &s->key_bytes, 8, 200},
        {"value-size", &s->value_bytes, 8, VALUE_MAX},
        {"seed", &s->workload.seed, 1, INT64_MAX},
        {"batch", &s->batch, 1, 65536},
        {"depth", &s->depth, 1, 64},
        {"rate", &rate, 1, 1000000000},
        {"warm-up", &s->warm_up_s, 0, 3600},
        {"before", &s->before_s, 1, 3600},
        {"after", &s->after_s, 1, 3600},
        {"timeout", &s->timeout_s, 1, 86400},
        {"settle", &s->settle_s, 0, 86400},
        {"max-impact", &s->max_impact_us, 1, 10000000},
        {"rounds", &s->rounds, 1, ROUNDS_MAX},
    };
    const struct text_flag texts[] = {
        {"part", set_part},         {"memory", set_memory},
        {"disk", set_disk},         {"blob", set_blob},
        {"out", set_out},           {"server-flag", set_server_flag},
        {"workload", set_workload}, {"distribution", set_distribution},
        {"theta", set_theta},       {"job-rate", set_job_rate},
        {"ablate", set_ablate},
    };
    const struct {
        const char *name;
        bool *out;
    } switches[] = {
        {"idle", &s->idle},
        {"target-serves", &s->target_serves},
        {"apart", &s->apart},
        {"no-sampling", &s->without[GW_ABLATE_SAMPLING]},
        {"no-indirection", &s->without[GW_ABLATE_INDIRECTION]},
        {"no-pulls", &s->without[GW_ABLATE_PULLS]},
        {"ablations", &ablations},
        {"verify", &s->verify},
        {"loopback", &s->loopback},
        {"json", &s->json},
    };
    enum {
        NUMBERS = sizeof numbers / sizeof numbers[0],
        TEXTS = sizeof texts / sizeof texts[0],
        SWITCHES = sizeof switches / sizeof switches[0]
    };
    struct option options[NUMBERS + TEXTS + SWITCHES + 2] = {{"help", no_argument, NULL, 'h'}};
    struct option *next = options + 1;
    for (int i = 0; i < NUMBERS; i++)
        *next++ = (struct option){numbers[i].name, required_argument, NULL, FLAG_NUMBER + i};
    for (int i = 0; i < TEXTS; i++)
        *next++ = (struct option){texts[i].name, required_argument, NULL, FLAG_TEXT + i};
    for (int i = 0; i < SWITCHES; i++)
        *next++ = (struct option){switches[i].name, no_argument, NULL, FLAG_SWITCH + i};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        int code = -1;
        if (c == 'h') {
            usage(stdout);
            return 0;
        }
        if (c >= FLAG_SWITCH) {
            *switches[c - FLAG_SWITCH].out = true;
        } else if (c >= FLAG_TEXT) {
            code = texts[c - FLAG_TEXT].parse(s, optarg);
        } else if (c >= FLAG_NUMBER) {
            const struct number_flag *flag = &numbers[c - FLAG_NUMBER];
            char name[32], limit[80];
            snprintf(name, sizeof name, "--%s", flag->name);
            snprintf(limit, sizeof limit, "a number from %" PRIu64 " to %" PRIu64, flag->min,
                     flag->max);
            if (gw_parse_u64(optarg, flag->min, flag->max, flag->out) != GW_OK)
                code = refuse(name, optarg, limit);
        } else {
            usage(stderr);
            return 2;
        }
        if (code >= 0)
            return code;
    }
    if (optind != argc)
        return refuse("argument", argv[optind], "a flag");
    s->rate = (double)rate;
    for (int i = 0; ablations && i < GW_ABLATIONS; i++)
        s->ablate[i] = true;
    if (s->rounds == 0)
        s->rounds = any(s->ablate) ? 3 : 1;
    return check(s);
}

/* ---- rounds --------------------------------------------------------------------------------- */

/* The settings of each variant of a round; how many. */
static uint32_t variants_of(const struct gw_migrate_settings *s, struct gw_migrate_settings *out,
                            const char **names)
{
    static const char *const off[] = {"sampling off", "indirection off", "pulls off"};
    uint32_t n = 0;
    out[n] = *s;
    names[n++] = any(s->without) ? "as asked" : "all on";
    for (int i = 0; i < GW_ABLATIONS; i++)
        if (s->ablate[i] && !s->without[i]) {
            out[n] = *s;
            out[n].without[i] = true;
            names[n++] = off[i];
        }
    return n;
}

/* Has the coordinator taken what was left out? One that does not know an option ignores it. */
static bool options_taken(const struct gw_migrate_run *run)
{
    const json_t *options = json_object_get(run->watch.last, "options");
    for (int i = 0; i < GW_ABLATIONS; i++)
        if (run->settings->without[i] &&
            !json_is_false(json_object_get(options, gw_migrate_ablation_names[i])))
            return false;
    return true;
}

/* "", "round-2-", "sampling-off-1-" */
static void prefix_of(const struct gw_migrate_run *run, char *room, size_t room_bytes)
{
    const struct gw_migrate_settings *s = run->settings;
    room[0] = '\0';
    if (any(s->ablate))
        snprintf(room, room_bytes, "%s-%" PRIu64 "-", run->variant, run->round);
    else if (s->rounds > 1)
        snprintf(room, room_bytes, "round-%" PRIu64 "-", run->round);
    for (char *at = room; *at; at++)
        if (*at == ' ')
            *at = '-';
}

static bool write_document(const struct gw_migrate_settings *s, const json_t *document)
{
    const size_t flags = JSON_COMPACT | JSON_REAL_PRECISION(8) | JSON_PRESERVE_ORDER;
    char path[600];
    bool well = true;
    if (s->out) {
        snprintf(path, sizeof path, "%s/migrate.json", s->out);
        if (json_dump_file(document, path, flags) != 0) {
            fprintf(stderr, "godwit-bench migrate: %s: could not be written\n", path);
            well = false;
        }
    }
    if (s->json) {
        json_dumpf(document, stdout, flags);
        putchar('\n');
    }
    return fflush(stdout) == 0 && well;
}

static int run_all(const struct gw_migrate_settings *s)
{
    struct gw_migrate_settings variants[GW_ABLATIONS + 1];
    const char *names[GW_ABLATIONS + 1];
    uint32_t per_round = variants_of(s, variants, names), count = 0;
    struct gw_migrate_run *runs = calloc(s->rounds * per_round, sizeof *runs);
    json_t *all = json_array(), *pictures = json_array();
    bool well = runs != NULL;
    for (uint64_t round = 1; well && round <= s->rounds; round++)
        for (uint32_t v = 0; well && v < per_round; v++) {
            struct gw_migrate_run *run = &runs[count++];
            *run = (struct gw_migrate_run){.settings = &variants[v],
                                           .variant = names[v],
                                           .round = round};
            well = gw_migrate_run(run);
            if (well && !options_taken(run)) {
                fprintf(stderr,
                        "godwit-bench migrate: the coordinator does not know the option of '%s': "
                        "the run is left out\n",
                        names[v]);
                gw_migrate_run_free(run);
                count--;
                continue;
            }
            if (!well)
                break;
            char prefix[96];
            prefix_of(run, prefix, sizeof prefix);
            if (!s->json)
                gw_migrate_run_print(run);
            if (s->out && !gw_migrate_plot(run, prefix, pictures))
                well = false;
            json_array_append_new(all, gw_migrate_run_json(run));
            well = well && run->sound;
        }
    bool table = !s->json && count > 1;
    json_t *document =
        json_pack("{s:s, s:o, s:o, s:o, s:o}", "benchmark", "migrate", "settings",
                  gw_migrate_settings_json(s), "summary", gw_migrate_summary(runs, count, table),
                  "pictures", pictures, "runs", all);
    well = write_document(s, document) && well;
    json_decref(document);
    for (uint32_t i = 0; i < count; i++)
        gw_migrate_run_free(&runs[i]);
    free(runs);
    return well ? 0 : 1;
}

/* What is started from now on, but for the client threads, stays away from the first processor that
 * we may use: where threads that are always busy are on which processor is a matter of luck else,
 * and the luck of a run is not what it measures. */
static bool set_apart(struct gw_migrate_settings *s)
{
    cpu_set_t cpus;
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0 || CPU_COUNT(&cpus) < 2)
        return false;
    while (!CPU_ISSET(s->client_cpu, &cpus))
        s->client_cpu++;
    CPU_CLR(s->client_cpu, &cpus);
    return sched_setaffinity(0, sizeof cpus, &cpus) == 0;
}

int gw_bench_migrate(int argc, char **argv)
{
    static struct gw_migrate_settings s = {.part = 0.1,
                                           .servers = 2,
                                           .server_threads = 1,
                                           .threads = 1,
                                           .keys = 1000000,
                                           .key_bytes = 8,
                                           .value_bytes = 100,
                                           .batch = 256,
                                           .depth = 8,
                                           .workload = {.mix = 'b'},
                                           .warm_up_s = 2,
                                           .before_s = 3,
                                           .after_s = 2,
                                           .timeout_s = 300,
                                           .settle_s = 300};
    int code = parse(argc, argv, &s);
    if (code >= 0)
        return code;
    if (s.out && mkdir(s.out, 0755) != 0 && errno != EEXIST) {
        fprintf(stderr, "godwit-bench migrate: --out %s: %s\n", s.out, strerror(errno));
        return 1;
    }
    if (s.apart && !set_apart(&s))
        return refuse("--apart", "one processor", "possible");
    return run_all(&s);
}
