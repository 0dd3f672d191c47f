/* churn_run.c - the load of `godwit-bench churn`, mixed and overwrite.
 *
 * Values are slices of a pool of random bytes, at a place made of the key: whatever length a value
 * has, what is read can be checked without remembering what was written. A key's class is made of
 * its number: counters are only added to, so their sum is known in the end; some keys expire, some
 * are deleted now and then; all others must be found whenever they are asked for.
 *
 * A turn begins where the one before ended, or where the thread woke up: the store's own work is
 * part of it, as it is for whoever waits for a server's answer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/churn.h"
#include "bench/counters.h"
#include "index/base/clock.h"

#define DRAIN_MS        60000u
#define CLASSES         20u
#define CLASS_COUNTER   0u
#define CLASS_EXPIRES   3u /* 1 .. 3 */
#define CLASS_DELETED   4u
#define SMALL_SHARE     90u /* of 100 values: 8 B to 1 KiB */
#define MIDDLE_SHARE    9u  /* 1 KiB to 32 KiB; the rest up to 1 MiB */
#define READ_SHARE      50u /* of 100 operations */
#define SPREAD_SHARE    10u /* of 100 keys are drawn uniformly, not by zipf */
#define CHECK_ALL_BELOW 4096u

struct batch {
    struct gw_op op[GW_BENCH_BATCH_MAX];
    uint64_t key[GW_BENCH_BATCH_MAX]; /* scrambled numbers */
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static uint32_t class_of(uint64_t key)
{
    return (uint32_t)(key >> 40) % CLASSES;
}
static bool is_counter(const struct gw_churn_settings *s, uint64_t key)
{
    return s->mode == GW_CHURN_GROWTH ||
           (s->mode == GW_CHURN_MIXED && class_of(key) == CLASS_COUNTER);
}
static bool may_expire(const struct gw_churn_settings *s, uint64_t key)
{
    return s->mode == GW_CHURN_MIXED && class_of(key) >= 1 && class_of(key) <= CLASS_EXPIRES;
}
static bool may_be_missing(const struct gw_churn_settings *s, uint64_t key)
{
    return may_expire(s, key) || (s->mode == GW_CHURN_MIXED && class_of(key) == CLASS_DELETED);
}

static const uint8_t *value_of(const struct gw_churn_worker *w, uint64_t key)
{
    return w->pool + (key >> 16) % ((GW_CHURN_POOL_BYTES - GW_CHURN_VALUE_MAX) / 8) * 8;
}

/* Between low and high, each power of two as likely as the next. */
static uint64_t log_uniform(struct gw_rand *rand, double low, double high)
{
    return (uint64_t)(low * pow(high / low, gw_rand_unit(rand)));
}

static uint64_t draw_size(const struct gw_churn_settings *s, struct gw_rand *rand)
{
    if (s->mode != GW_CHURN_MIXED)
        return s->value_bytes;
    uint64_t percent = gw_rand_below(rand, 100);
    if (percent < SMALL_SHARE)
        return log_uniform(rand, 8, 1024);
    if (percent < SMALL_SHARE + MIDDLE_SHARE)
        return log_uniform(rand, 1024, 32768);
    return log_uniform(rand, 32768, (double)GW_CHURN_VALUE_MAX);
}

double gw_churn_record_bytes(const struct gw_churn_settings *s)
{
    enum { DRAWS = 200000 };
    struct gw_rand rand;
    gw_rand_init(&rand, 1);
    double sum = 0;
    for (int i = 0; i < DRAWS; i++)
        sum += (double)gw_bench_record_bytes(draw_size(s, &rand));
    return sum / DRAWS;
}

/* ---- operations ---- */

static void set_write(struct gw_churn_worker *w, struct gw_op *op, uint64_t key)
{
    const struct gw_churn_settings *s = w->settings;
    op->flags = 0;
    if (is_counter(s, key)) {
        /* Loading gives it 0: only then is the sum of all counters the number of adds. */
        op->verb = w->loading ? GW_VERB_UPSERT : GW_VERB_ADD;
        op->flags = w->loading ? GW_OP_COUNTER : 0;
        op->number = 0;
        op->delta = 1;
        return;
    }
    if (class_of(key) == CLASS_DELETED && !w->loading && s->mode == GW_CHURN_MIXED &&
        gw_rand_below(&w->rand, 4) == 0) {
        op->verb = GW_VERB_DELETE;
        return;
    }
    op->verb = GW_VERB_UPSERT;
    op->value = value_of(w, key);
    op->value_bytes = (uint32_t)draw_size(s, &w->rand);
    if (may_expire(s, key) && s->ttl_ms) {
        op->flags = GW_OP_HAS_EXPIRY;
        op->expiry_ms =
            gw_clock_wall_ms(gw_clock_system()) + 1 + gw_rand_below(&w->rand, s->ttl_ms);
    }
}

static void set_read(struct gw_op *op)
{
    op->verb = GW_VERB_READ;
    op->flags = 0;
}

static void fill(struct gw_churn_worker *w, struct batch *b, uint32_t n)
{
    const struct gw_churn_settings *s = w->settings;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t number;
        if (s->mode == GW_CHURN_MIXED && gw_rand_below(&w->rand, 100) < SPREAD_SHARE)
            number = gw_rand_below(&w->rand, s->keys);
        else
            (void)gw_workload_next(&w->workload, &number);
        b->key[i] = gw_workload_key(number);
        if (s->mode == GW_CHURN_MIXED && gw_rand_below(&w->rand, 100) < READ_SHARE)
            set_read(&b->op[i]);
        else
            set_write(w, &b->op[i], b->key[i]);
        gw_store_hash(w->place->store, &b->op[i]);
    }
}

/* Values above a few KiB only by their ends and their middle: comparing all of a megabyte takes as
 * long as a thousand operations. */
static bool value_right(const struct gw_churn_worker *w, uint64_t key, const struct gw_op *op)
{
    const uint8_t *right = value_of(w, key);
    if (op->out_bytes > GW_CHURN_VALUE_MAX)
        return false;
    if (op->out_bytes < CHECK_ALL_BELOW)
        return memcmp(op->out, right, op->out_bytes) == 0;
    size_t part = CHECK_ALL_BELOW / 4, middle = op->out_bytes / 2, end = op->out_bytes - part;
    return memcmp(op->out, right, part) == 0 &&
           memcmp(op->out + middle, right + middle, part) == 0 &&
           memcmp(op->out + end, right + end, part) == 0;
}

static void check_read(struct gw_churn_worker *w, uint64_t key, const struct gw_op *op)
{
    const struct gw_churn_settings *s = w->settings;
    if (op->status == GW_NOT_FOUND) {
        w->missing++;
        if (!may_be_missing(s, key) && !s->evict)
            w->lost++;
    } else if (op->status != GW_OK) {
        w->errors++;
    } else if ((op->kind == GW_KIND_COUNTER) != is_counter(s, key)) {
        w->torn++;
    } else if (op->kind == GW_KIND_COUNTER) {
        w->counted += w->verifying ? op->number : 0;
    } else {
        w->torn += !value_right(w, key, op);
    }
}

static void check_one(struct gw_churn_worker *w, const struct gw_op *op)
{
    uint64_t key;
    memcpy(&key, op->key, sizeof key);
    if (op->verb == GW_VERB_READ) {
        check_read(w, key, op);
    } else if (op->status == GW_E_FULL) {
        w->full++;
    } else if (op->status == GW_OK) {
        w->added += op->verb == GW_VERB_ADD;
        if (op->verb == GW_VERB_UPSERT)
            atomic_fetch_add_explicit(&w->progress.written_bytes, op->value_bytes,
                                      memory_order_relaxed);
    } else if (op->verb != GW_VERB_DELETE || op->status != GW_NOT_FOUND) {
        w->errors++;
        if (w->loading)
            w->failed = (enum gw_status)op->status;
    }
}

void gw_churn_done(void *ctx, struct gw_op *op, uint64_t latency_ns, bool waited)
{
    struct gw_churn_worker *w = ctx;
    check_one(w, op);
    atomic_fetch_add_explicit(&w->progress.operations, 1, memory_order_relaxed);
    if (!w->loading && !w->verifying)
        gw_histogram_add(waited ? &w->waited : &w->hit, latency_ns);
}

/* Executes a batch that began at `start`; returns how many of it were answered at once. */
static uint32_t execute(struct gw_churn_worker *w, struct batch *b, uint32_t n, uint64_t start)
{
    uint32_t answered = 0;
    for (uint32_t done = 0; done < n;) {
        uint32_t executed = gw_bench_session_execute(&w->session, b->op + done, n - done);
        for (uint32_t i = done; i < done + executed; i++) {
            if (gw_bench_session_keep(&w->session, &b->op[i], start))
                continue;
            check_one(w, &b->op[i]);
            answered++;
        }
        done += executed;
    }
    atomic_fetch_add_explicit(&w->progress.operations, answered, memory_order_relaxed);
    return answered;
}

static struct batch *batch_create(void)
{
    struct batch *b = calloc(1, sizeof *b);
    for (uint32_t i = 0; b && i < GW_BENCH_BATCH_MAX; i++) {
        b->op[i].key = (const uint8_t *)&b->key[i];
        b->op[i].key_bytes = sizeof b->key[i];
    }
    return b;
}

/* Room for a batch, after the store's own work; 0: slept instead. */
static uint32_t turn_begin(struct gw_churn_worker *w)
{
    gw_bench_session_poll(&w->session);
    uint32_t n = gw_bench_session_free(&w->session);
    n = n < w->settings->batch ? n : (uint32_t)w->settings->batch;
    if (n == 0)
        gw_bench_session_wait(&w->session);
    return n;
}

/* ---- threads ---- */

/* Goes through this worker's share of the keys: writes them, or reads them. */
static void sweep(struct gw_churn_worker *w, bool write)
{
    const struct gw_churn_settings *s = w->settings;
    struct batch *b = batch_create();
    if (!b) {
        w->failed = GW_E_NOMEM;
        return;
    }
    for (uint64_t at = w->number; at < s->keys && w->failed == GW_OK;) {
        uint32_t room = turn_begin(w), n = 0;
        for (; n < room && at < s->keys; n++, at += s->threads) {
            b->key[n] = gw_workload_key(at);
            if (write)
                set_write(w, &b->op[n], b->key[n]);
            else
                set_read(&b->op[n]);
            gw_store_hash(w->place->store, &b->op[n]);
        }
        execute(w, b, n, now_ns());
    }
    if (!gw_bench_session_drain(&w->session, DRAIN_MS) && w->failed == GW_OK)
        w->failed = GW_E_TIMEOUT;
    free(b);
}

void *gw_churn_load(void *arg)
{
    struct gw_churn_worker *w = arg;
    w->loading = true;
    sweep(w, true);
    w->loading = false;
    atomic_store_explicit(&w->progress.finished, true, memory_order_release);
    return NULL;
}

void *gw_churn_verify(void *arg)
{
    struct gw_churn_worker *w = arg;
    w->verifying = true;
    sweep(w, false);
    atomic_store_explicit(&w->progress.finished, true, memory_order_release);
    return NULL;
}

/* Whether this worker has written its share of what overwrite is to write. */
static bool written_enough(const struct gw_churn_worker *w)
{
    const struct gw_churn_settings *s = w->settings;
    uint64_t data = s->keys * s->value_bytes;
    return s->mode == GW_CHURN_OVERWRITE &&
           atomic_load_explicit(&w->progress.written_bytes, memory_order_relaxed) * s->threads >=
               data * s->times;
}

void *gw_churn_run(void *arg)
{
    struct gw_churn_worker *w = arg;
    struct batch *b = batch_create();
    if (!b)
        w->failed = GW_E_NOMEM;
    pthread_barrier_wait(w->start);
    uint64_t start = now_ns(), end = start + w->settings->seconds * 1000000000u;
    while (b && start < end && !written_enough(w)) {
        uint32_t n = turn_begin(w);
        if (n == 0) {
            start = now_ns();
            continue;
        }
        fill(w, b, n);
        uint32_t answered = execute(w, b, n, start);
        uint64_t now = now_ns();
        gw_histogram_add_n(&w->hit, now - start, answered);
        start = now;
    }
    if (!gw_bench_session_drain(&w->session, DRAIN_MS) && w->failed == GW_OK)
        w->failed = GW_E_TIMEOUT;
    atomic_store_explicit(&w->progress.finished, true, memory_order_release);
    free(b);
    return NULL;
}
