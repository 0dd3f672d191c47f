/* churn_grow.c - growth of the index under load: half of the operations insert new counters, half
 * read loaded ones, until the index has as many buckets as asked for. Turns are told apart by
 * whether any chunk was split while they ran (looked at every WINDOW turns), and the longest one is
 * known by processor time too: a virtual machine takes the processor away for milliseconds. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/churn.h"
#include "index/base/clock.h"

#define WINDOW 32u
#define MARGIN 8192u /* the newest keys are not read: their insertion may have been put off */

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

struct turn {
    uint64_t wall_ns, cpu_ns;
};

struct growing {
    struct gw_op op[GW_BENCH_BATCH_MAX];
    uint64_t key[GW_BENCH_BATCH_MAX];
    uint64_t inserted;
    struct turn turn[WINDOW];
};

static void fill(struct gw_churn_worker *w, struct growing *g, uint32_t n)
{
    const struct gw_churn_settings *s = w->settings;
    for (uint32_t i = 0; i < n; i++) {
        struct gw_op *op = &g->op[i];
        bool insert = g->inserted <= MARGIN || i % 2 == 0;
        uint64_t nth = insert ? g->inserted++ : gw_rand_below(&w->rand, g->inserted - MARGIN);
        g->key[i] = gw_workload_key(nth * s->threads + w->number);
        op->verb = insert ? GW_VERB_UPSERT : GW_VERB_READ;
        op->flags = insert ? GW_OP_COUNTER : 0;
        op->number = (int64_t)nth;
        op->expected_version = 0;
        gw_store_hash(w->place->store, op);
    }
}

static void check_one(struct gw_churn_worker *w, const struct gw_op *op)
{
    if (op->status == GW_E_FULL)
        w->full++;
    else if (op->status == GW_NOT_FOUND)
        w->lost++;
    else if (op->status != GW_OK)
        w->errors++;
}

static struct turn one_turn(struct gw_churn_worker *w, struct growing *g)
{
    uint32_t n = (uint32_t)w->settings->batch;
    uint64_t cpu = thread_cpu_ns(), start = now_ns();
    gw_bench_session_poll(&w->session);
    uint32_t room = gw_bench_session_free(&w->session);
    n = n < room ? n : room;
    fill(w, g, n);
    gw_bench_session_execute(&w->session, g->op, n);
    for (uint32_t i = 0; i < n; i++)
        if (!gw_bench_session_keep(&w->session, &g->op[i], start))
            check_one(w, &g->op[i]);
    atomic_fetch_add_explicit(&w->progress.operations, n, memory_order_relaxed);
    uint64_t wall = now_ns() - start;
    return (struct turn){wall, thread_cpu_ns() - cpu};
}

void *gw_churn_grow(void *arg)
{
    struct gw_churn_worker *w = arg;
    const struct gw_churn_settings *s = w->settings;
    struct growing *g = calloc(1, sizeof *g);
    if (!g)
        w->failed = GW_E_NOMEM;
    for (uint32_t i = 0; g && i < GW_BENCH_BATCH_MAX; i++) {
        g->op[i].key = (const uint8_t *)&g->key[i];
        g->op[i].key_bytes = sizeof g->key[i];
    }
    pthread_barrier_wait(w->start);
    uint64_t end = now_ns() + s->seconds * 1000000000u;
    struct gw_store_stats stats;
    gw_store_stats(w->place->store, &stats);
    while (g && now_ns() < end && stats.index_buckets < s->buckets_to && w->full == 0) {
        uint64_t splits = stats.index_splits, buckets = stats.index_buckets;
        for (uint32_t i = 0; i < WINDOW; i++)
            g->turn[i] = one_turn(w, g);
        gw_store_stats(w->place->store, &stats);
        bool grew = stats.index_splits != splits || stats.index_buckets != buckets;
        for (uint32_t i = 0; i < WINDOW; i++) {
            gw_histogram_add(grew ? &w->growing : &w->quiet, g->turn[i].wall_ns);
            if (grew && g->turn[i].cpu_ns > w->growing_cpu_max_ns)
                w->growing_cpu_max_ns = g->turn[i].cpu_ns;
            if (!grew && g->turn[i].cpu_ns > w->quiet_cpu_max_ns)
                w->quiet_cpu_max_ns = g->turn[i].cpu_ns;
        }
    }
    atomic_store_explicit(&w->progress.finished, true, memory_order_release);
    free(g);
    return NULL;
}
