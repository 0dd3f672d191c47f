/* profile.c - where the time of an operation goes, by the processor's time stamps around the stages
 * of a batch, one thread. What cannot be seen from outside the executor is told by comparison:
 *
 *   hot      a few keys, in the first-level caches: what the instructions cost
 *   uniform  all keys: the difference to hot is memory that was not hidden
 *   absent   keys that are not there: a bucket line, no record
 * Hardware counters would tell it directly; many virtual machines have none. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/counters.h"
#include "bench/place.h"
#include "bench/session.h"
#include "bench/workload.h"
#include "index/base/clock.h"
#include "index/base/text.h"

#define HOT_KEYS     128u
#define TRACE        ((uint64_t)1 << 22) /* operations drawn ahead */
#define LOAD_BATCH   256u
#define RUN_NS       1000000000u
#define WARM_BATCHES 256u
#define VALUE_BYTES  100u
#define VALUE_MAX    128u

enum stage { STAGE_FILL, STAGE_HASH, STAGE_ENTER, STAGE_EXECUTE, STAGE_EXIT, STAGE_CHECK, STAGES };

static const char *const stage_names[STAGES] = {"fill",    "hash", "enter",
                                                "execute", "exit", "check"};

enum keys { KEYS_HOT, KEYS_UNIFORM, KEYS_ABSENT };

static const struct row {
    const char *name;
    enum gw_verb verb;
    enum keys keys;
    uint64_t value_bytes;
} rows[] = {
    {"read, hot", GW_VERB_READ, KEYS_HOT, 8},
    {"read, uniform", GW_VERB_READ, KEYS_UNIFORM, 8},
    {"read, absent", GW_VERB_READ, KEYS_ABSENT, 8},
    {"add, hot", GW_VERB_ADD, KEYS_HOT, 8},
    {"add, uniform", GW_VERB_ADD, KEYS_UNIFORM, 8},
    {"set, hot", GW_VERB_UPSERT, KEYS_HOT, 8},
    {"set, uniform", GW_VERB_UPSERT, KEYS_UNIFORM, 8},
    {"read 100 B, hot", GW_VERB_READ, KEYS_HOT, VALUE_BYTES},
    {"read 100 B, uniform", GW_VERB_READ, KEYS_UNIFORM, VALUE_BYTES},
    {"set 100 B, hot", GW_VERB_UPSERT, KEYS_HOT, VALUE_BYTES},
    {"set 100 B, uniform", GW_VERB_UPSERT, KEYS_UNIFORM, VALUE_BYTES},
};
#define ROWS (sizeof rows / sizeof rows[0])

struct profile {
    uint64_t keys, batch;
    bool json;
    struct gw_bench_place place;
    struct gw_bench_session session;
    uint64_t *trace; /* TRACE keys */
    struct gw_op op[GW_BENCH_BATCH_MAX];
    uint64_t key[GW_BENCH_BATCH_MAX];
    uint64_t errors;
    double ticks_per_ns;
};

static const uint8_t value[VALUE_MAX];

static void set_op(struct gw_op *op, enum gw_verb verb, uint64_t value_bytes)
{
    op->verb = (uint8_t)verb;
    op->flags = verb == GW_VERB_UPSERT && value_bytes == 8 ? GW_OP_COUNTER : 0;
    op->value = value;
    op->value_bytes = (uint32_t)value_bytes;
    op->number = 1;
    op->delta = 1;
}

static void unexpected(void *ctx, struct gw_op *op, uint64_t latency_ns, bool waited)
{
    struct profile *p = ctx;
    (void)op, (void)latency_ns, (void)waited;
    p->errors++; /* nobody else is there, everything is in memory: nothing is ever parked */
}

static bool open_store(struct profile *p, uint64_t value_bytes)
{
    struct gw_bench_place_options place = {.keys = p->keys,
                                           .record_bytes = gw_bench_record_bytes(value_bytes),
                                           .threads = 1};
    if (!gw_bench_place_open(&p->place, &place)) {
        fprintf(stderr, "godwit-bench profile: %s\n", p->place.error);
        return false;
    }
    struct gw_bench_session_options session = {.store = p->place.store,
                                               .depth = GW_BENCH_BATCH_MAX,
                                               .room_bytes = GW_BENCH_BATCH_MAX * VALUE_MAX,
                                               .done = unexpected,
                                               .ctx = p};
    if (gw_bench_session_open(&p->session, &session) != GW_OK) {
        fputs("godwit-bench profile: out of memory\n", stderr);
        gw_bench_place_close(&p->place);
        return false;
    }
    for (uint64_t at = 0; at < p->keys;) {
        uint32_t n = 0;
        for (; n < LOAD_BATCH && at < p->keys; n++, at++) {
            p->key[n] = gw_workload_key(at);
            set_op(&p->op[n], GW_VERB_UPSERT, value_bytes);
            gw_store_hash(p->place.store, &p->op[n]);
        }
        gw_bench_session_execute(&p->session, p->op, n);
        for (uint32_t i = 0; i < n; i++)
            p->errors += p->op[i].status != GW_OK;
        gw_bench_session_poll(&p->session);
    }
    return true;
}

static void close_store(struct profile *p)
{
    gw_bench_session_close(&p->session);
    gw_bench_place_close(&p->place);
}

static void draw(struct profile *p, enum keys keys)
{
    struct gw_rand rand;
    gw_rand_init(&rand, 20240229);
    for (uint64_t i = 0; i < TRACE; i++) {
        uint64_t number = gw_rand_below(&rand, keys == KEYS_HOT ? HOT_KEYS : p->keys);
        p->trace[i] = gw_workload_key(keys == KEYS_ABSENT ? number + p->keys : number);
    }
}

/* One batch; adds the ticks of its stages. */
static void run_batch(struct profile *p, const struct row *row, uint64_t *traced,
                      uint64_t ticks[STAGES])
{
    uint32_t n = (uint32_t)p->batch;
    struct gw_thread *thread = p->session.thread;
    size_t used;
    uint64_t t[STAGES + 1];
    t[STAGE_FILL] = gw_bench_ticks();
    for (uint32_t i = 0; i < n; i++) {
        p->key[i] = p->trace[(*traced)++ % TRACE];
        set_op(&p->op[i], row->verb, row->value_bytes);
    }
    t[STAGE_HASH] = gw_bench_ticks();
    for (uint32_t i = 0; i < n; i++)
        gw_store_hash(p->place.store, &p->op[i]);
    t[STAGE_ENTER] = gw_bench_ticks();
    gw_store_enter(thread);
    t[STAGE_EXECUTE] = gw_bench_ticks();
    gw_store_execute(thread, p->op, n, p->session.room, p->session.options.room_bytes, &used);
    t[STAGE_EXIT] = gw_bench_ticks();
    gw_store_exit(thread);
    t[STAGE_CHECK] = gw_bench_ticks();
    enum gw_status expected = row->keys == KEYS_ABSENT ? GW_NOT_FOUND : GW_OK;
    for (uint32_t i = 0; i < n; i++)
        p->errors += p->op[i].status != (int8_t)expected;
    t[STAGES] = gw_bench_ticks();
    for (int stage = 0; stage < STAGES; stage++)
        ticks[stage] += t[stage + 1] - t[stage];
}

/* Nanoseconds an operation of each stage. */
static void measure(struct profile *p, const struct row *row, double ns[STAGES])
{
    const struct gw_clock *clock = gw_clock_system();
    uint64_t ticks[STAGES] = {0}, batches = 0, traced = 0;
    draw(p, row->keys);
    for (uint32_t i = 0; i < WARM_BATCHES; i++)
        run_batch(p, row, &traced, ticks);
    memset(ticks, 0, sizeof ticks);
    uint64_t end = gw_clock_now_ns(clock) + RUN_NS;
    while (gw_clock_now_ns(clock) < end) {
        for (uint32_t i = 0; i < 16; i++, batches++)
            run_batch(p, row, &traced, ticks);
        gw_bench_session_poll(&p->session);
    }
    for (int stage = 0; stage < STAGES; stage++)
        ns[stage] = (double)ticks[stage] / p->ticks_per_ns / (double)(batches * p->batch);
}

static void report_row(const struct profile *p, const struct row *row, const double ns[STAGES],
                       json_t *list)
{
    double sum = 0;
    for (int stage = 0; stage < STAGES; stage++)
        sum += ns[stage];
    if (!p->json) {
        printf("| %-19s |", row->name);
        for (int stage = 0; stage < STAGES; stage++)
            printf(" %7.2f |", ns[stage]);
        printf(" %7.2f |\n", sum);
        fflush(stdout);
        return;
    }
    json_t *o = json_pack("{s:s, s:f}", "name", row->name, "total_ns", sum);
    for (int stage = 0; stage < STAGES; stage++)
        json_object_set_new(o, stage_names[stage], json_real(ns[stage]));
    json_array_append_new(list, o);
}

static int run(struct profile *p)
{
    json_t *list = json_array();
    if (!p->json) {
        printf("| ns an operation     |");
        for (int stage = 0; stage < STAGES; stage++)
            printf(" %7s |", stage_names[stage]);
        printf("   total |\n| --- |");
        for (int stage = 0; stage <= STAGES; stage++)
            printf(" --- |");
        putchar('\n');
    }
    uint64_t opened = 0;
    for (size_t i = 0; i < ROWS; i++) {
        double ns[STAGES];
        if (opened && opened != rows[i].value_bytes) {
            close_store(p);
            opened = 0;
        }
        if (!opened && !open_store(p, rows[i].value_bytes)) {
            json_decref(list);
            return 1;
        }
        opened = rows[i].value_bytes;
        measure(p, &rows[i], ns);
        report_row(p, &rows[i], ns, list);
    }
    close_store(p);
    if (p->json) {
        json_t *root = json_pack("{s:I, s:I, s:f, s:I, s:o}", "keys", (json_int_t)p->keys, "batch",
                                 (json_int_t)p->batch, "ticks_per_ns", p->ticks_per_ns, "errors",
                                 (json_int_t)p->errors, "rows", list);
        json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6) | JSON_PRESERVE_ORDER);
        putchar('\n');
        json_decref(root);
    } else {
        json_decref(list);
    }
    if (p->errors)
        fprintf(stderr, "godwit-bench profile: %" PRIu64 " unexpected answers\n", p->errors);
    return p->errors ? 1 : 0;
}

int gw_bench_profile(int argc, char **argv)
{
    static const struct option options[] = {{"keys", required_argument, NULL, 'k'},
                                            {"batch", required_argument, NULL, 'b'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    static struct profile p;
    p.keys = 20000000;
    p.batch = 256;
    bool valid = true;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'j')
            p.json = true;
        else if (c == 'k')
            valid &= gw_parse_u64(optarg, HOT_KEYS, (uint64_t)1 << 36, &p.keys) == GW_OK;
        else
            valid &= c == 'b' && gw_parse_u64(optarg, 1, GW_BENCH_BATCH_MAX, &p.batch) == GW_OK;
    }
    if (!valid || optind != argc) {
        fputs("usage: godwit-bench profile [--keys N (128 or more, default 20000000)]\n"
              "       [--batch N (1 to 1024, default 256)] [--json]\n",
              stderr);
        return 2;
    }
    p.trace = malloc(TRACE * sizeof *p.trace);
    if (!p.trace) {
        fputs("godwit-bench profile: out of memory\n", stderr);
        return 1;
    }
    for (uint32_t i = 0; i < GW_BENCH_BATCH_MAX; i++) {
        p.op[i].key = (const uint8_t *)&p.key[i];
        p.op[i].key_bytes = sizeof p.key[i];
    }
    p.ticks_per_ns = gw_bench_ticks_per_ns();
    int code = run(&p);
    free(p.trace);
    return code;
}
