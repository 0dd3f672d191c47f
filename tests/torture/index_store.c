/* Goal: no add is lost, no value is torn, no key is missed by a walk, while records are changed in
 * place, sealed and copied, deleted and created again, by all threads at once (ENGINE H4, H12).
 * How: counters are added to and the sums compared; values carry their own check; some keys are
 * always live, and every walk must meet all of them. The read-only boundary keeps moving. */
#include <string.h>

#include "index/base/rand.h"
#include "index/store.h"
#include "tests/torture/torture.h"
#include "tests/torture/torture_text.h"

#define THREADS  4u
#define COUNTERS 64u
#define TEXTS    16u
#define TEXT_MAX 300u
#define BATCH    32u

static struct gw_store *store;
static _Atomic uint32_t stop;
static _Atomic int64_t sums[COUNTERS];
static _Atomic uint64_t adds, walks, retries, texts_read;
static uint64_t counter_keys[COUNTERS], text_keys[TEXTS];

static void set_key(struct gw_op *op, const uint64_t *key)
{
    op->key = (const uint8_t *)key;
    op->key_bytes = 8;
    gw_store_hash(store, op);
}

static void check_batch(struct gw_op *ops, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct gw_op *op = &ops[i];
        bool counter = false;
        uint32_t which = 0;
        for (; which < COUNTERS && !counter; which++)
            counter = op->key == (const uint8_t *)&counter_keys[which];
        if (op->status == GW_RETRY) {
            atomic_fetch_add_explicit(&retries, 1, memory_order_relaxed);
            continue;
        }
        if (op->verb == GW_VERB_ADD) {
            CHECK(counter, "adds go to counters");
            CHECK(op->status == GW_OK || op->status == GW_E_FULL, "add: %d", op->status);
            if (op->status == GW_OK) {
                atomic_fetch_add_explicit(&sums[which - 1], op->delta, memory_order_relaxed);
                atomic_fetch_add_explicit(&adds, 1, memory_order_relaxed);
            }
        } else if (op->verb == GW_VERB_READ && !counter) {
            CHECK(op->status == GW_OK || op->status == GW_NOT_FOUND, "read: %d", op->status);
            if (op->status == GW_OK) {
                text_check(op->out, op->out_bytes);
                atomic_fetch_add_explicit(&texts_read, 1, memory_order_relaxed);
            }
        } else if (op->verb == GW_VERB_READ) {
            CHECK(op->status == GW_OK && op->kind == GW_KIND_COUNTER, "counter: %d", op->status);
        } else {
            CHECK(op->status == GW_OK || op->status == GW_NOT_FOUND || op->status == GW_EXISTS ||
                      op->status == GW_E_FULL,
                  "verb %d: %d", op->verb, op->status);
        }
    }
}

static void work(struct gw_thread *t, struct gw_rand *rand)
{
    static _Thread_local uint8_t texts[BATCH][TEXT_MAX];
    static _Thread_local uint8_t room[BATCH * (TEXT_MAX + 8)];
    struct gw_op ops[BATCH];
    memset(ops, 0, sizeof ops);
    for (uint32_t i = 0; i < BATCH; i++) {
        struct gw_op *op = &ops[i];
        uint64_t draw = gw_rand_below(rand, 10);
        if (draw < 5) {
            op->verb = draw < 4 ? GW_VERB_ADD : GW_VERB_READ;
            op->delta = (int64_t)gw_rand_below(rand, 1000) - 300;
            set_key(op, &counter_keys[gw_rand_below(rand, COUNTERS)]);
            continue;
        }
        set_key(op, &text_keys[gw_rand_below(rand, TEXTS)]);
        if (draw < 8) {
            op->verb = GW_VERB_READ;
        } else if (gw_rand_below(rand, 8) == 0) {
            op->verb = GW_VERB_DELETE;
        } else {
            op->verb = draw == 8 ? GW_VERB_UPSERT : GW_VERB_INSERT;
            op->value_bytes = 8 + (uint32_t)gw_rand_below(rand, TEXT_MAX - 8);
            text_make(texts[i], op->value_bytes, (uint32_t)gw_rand_next(rand));
            op->value = texts[i];
        }
    }
    size_t used;
    gw_store_poll(t);
    gw_store_enter(t);
    CHECK(gw_store_execute(t, ops, BATCH, room, sizeof room, &used) == BATCH, "blocked");
    gw_store_exit(t);
    check_batch(ops, BATCH);
}

struct seen {
    uint64_t counters; /* one bit each */
};

static bool see(void *ctx, const struct gw_record_view *view)
{
    struct seen *seen = ctx;
    CHECK(view->key_bytes == 8, "key");
    for (uint32_t i = 0; i < COUNTERS; i++)
        if (memcmp(view->key, &counter_keys[i], 8) == 0) {
            CHECK(view->kind == GW_KIND_COUNTER, "kind");
            seen->counters |= (uint64_t)1 << i;
            return true;
        }
    text_check(view->value, view->value_bytes);
    return true;
}

static void walker(struct gw_thread *t)
{
    uint64_t end = torture_now_ms() + torture_duration_ms();
    uint32_t shifts = 0;
    while (torture_now_ms() < end) {
        struct gw_cursor cursor = {0};
        struct seen seen = {0};
        while (!cursor.done) {
            gw_store_poll(t);
            gw_store_enter(t);
            gw_store_walk(t, &cursor, UINT64_MAX, NULL, false, 16, see, &seen);
            gw_store_exit(t);
        }
        CHECK(seen.counters == UINT64_MAX, "a key was missed: %lx", (unsigned long)seen.counters);
        atomic_fetch_add(&walks, 1);
        /* Half of the memory for copies that the shifts make; then in place only. */
        struct gw_store_stats stats;
        gw_store_stats(store, &stats);
        if (stats.log_bytes_used < stats.log_bytes_total / 2)
            shifts += gw_store_shift_read_only(store) == GW_OK;
    }
    CHECK(shifts > 0, "the boundary never moved");
    atomic_store(&stop, 1);
}

static void body(uint32_t number, void *ctx)
{
    (void)ctx;
    struct gw_rand rand;
    struct gw_thread *t;
    gw_rand_init(&rand, number + 1000);
    CHECK(gw_store_thread_open(store, &t) == GW_OK, "thread");
    if (number == 0)
        walker(t);
    else
        while (!atomic_load_explicit(&stop, memory_order_relaxed))
            work(t, &rand);
    gw_store_thread_close(t);
}

int main(void)
{
    struct gw_store_options options = {
        .log_bytes = 256u << 20,
        .index_bytes = 65536,
        .page_bits = 19,
        .hash_seed = 99,
    };
    options.log_start = ((uint64_t)1 << 46) - (64u << 19); /* crosses the end of 42 bits */
    CHECK(gw_store_open(&options, &store) == GW_OK, "open");
    struct gw_thread *t;
    CHECK(gw_store_thread_open(store, &t) == GW_OK, "thread");
    struct gw_op ops[COUNTERS];
    memset(ops, 0, sizeof ops);
    for (uint32_t i = 0; i < COUNTERS; i++) {
        counter_keys[i] = i;
        ops[i].verb = GW_VERB_ADD;
        set_key(&ops[i], &counter_keys[i]);
    }
    for (uint32_t i = 0; i < TEXTS; i++)
        text_keys[i] = 1000 + i;
    size_t used;
    gw_store_enter(t);
    gw_store_execute(t, ops, COUNTERS, NULL, 0, &used);
    gw_store_exit(t);
    torture_run(THREADS, body, NULL);
    gw_store_enter(t);
    for (uint32_t i = 0; i < COUNTERS; i++)
        ops[i].verb = GW_VERB_READ;
    gw_store_execute(t, ops, COUNTERS, NULL, 0, &used);
    gw_store_exit(t);
    for (uint32_t i = 0; i < COUNTERS; i++)
        CHECK(ops[i].status == GW_OK && ops[i].number == atomic_load(&sums[i]),
              "counter %u: %ld instead of %ld", i, (long)ops[i].number,
              (long)atomic_load(&sums[i]));
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    printf("%lu adds, %lu texts read, %lu copies, %lu walks, %lu retries, %lu KiB of log%s\n",
           (unsigned long)atomic_load(&adds), (unsigned long)atomic_load(&texts_read),
           (unsigned long)stats.copies, (unsigned long)atomic_load(&walks),
           (unsigned long)atomic_load(&retries), (unsigned long)stats.log_bytes_used >> 10,
           stats.full ? ", full" : "");
    CHECK(stats.copies > 100 && atomic_load(&walks) > 2, "too little happened");
    gw_store_thread_close(t);
    gw_store_close(store);
    return 0;
}
