/* Goal: no add is lost and no value is torn while most records are on the device, and a walk meets
 * every key that is there all the time: threads add to counters and replace texts that have gone
 * cold, in place, in memory, by copy from the device, all at once, and pages leave under them.
 * How: sums compared, values that carry their own check, walks that count. GW_TORTURE_MS. */
#include <string.h>

#include "index/base/rand.h"
#include "index/store.h"
#include "tests/support/ram_device.h"
#include "tests/torture/torture.h"
#include "tests/torture/torture_text.h"

#define THREADS   4u
#define COUNTERS  3000u
#define TEXTS     1500u
#define TEXT_MAX  700u
#define BATCH     24u
#define PAGE_BITS 16u
#define PAGES     8u
#define WAITING   256u

static struct gw_store *store;
static _Atomic uint32_t stop;
static _Atomic int64_t sums[COUNTERS];
static _Atomic uint64_t adds, pendings, walks, texts_read;
static uint64_t keys[COUNTERS + TEXTS];

struct worker {
    struct gw_thread *t;
    struct gw_rand rand;
    struct gw_op wait[WAITING];
    uint8_t text[WAITING][TEXT_MAX];
    uint32_t waiting;
    uint8_t room[BATCH * 1024 * 2 + (WAITING * 1024)];
};

static uint32_t which(const struct gw_op *op)
{
    return (uint32_t)((const uint64_t *)(const void *)op->key - keys);
}

static void settled(const struct gw_op *op)
{
    uint32_t k = which(op);
    if (op->verb == GW_VERB_ADD) {
        CHECK(op->status == GW_OK, "status %d", op->status);
        atomic_fetch_add_explicit(&sums[k], op->delta, memory_order_relaxed);
        atomic_fetch_add_explicit(&adds, 1, memory_order_relaxed);
    } else if (op->verb == GW_VERB_READ && op->status == GW_OK && k >= COUNTERS) {
        text_check(op->out, op->out_bytes);
        atomic_fetch_add_explicit(&texts_read, 1, memory_order_relaxed);
    } else {
        CHECK(op->status == GW_OK || (op->status == GW_NOT_FOUND && k < COUNTERS), "status %d",
              op->status);
    }
}

/* Executes what waits. A worker never has two operations on one key. */
static void run(struct worker *w)
{
    size_t used;
    uint32_t n = w->waiting, left = 0;
    gw_store_enter(w->t);
    uint32_t done = gw_store_execute(w->t, w->wait, n, w->room, sizeof w->room, &used);
    CHECK(done == n, "%u of %u", done, n);
    for (uint32_t i = 0; i < n; i++)
        if (w->wait[i].status != GW_PENDING && w->wait[i].status != GW_RETRY)
            settled(&w->wait[i]);
    gw_store_exit(w->t);
    for (uint32_t i = 0; i < n; i++) {
        if (w->wait[i].status != GW_PENDING && w->wait[i].status != GW_RETRY)
            continue;
        atomic_fetch_add_explicit(&pendings, 1, memory_order_relaxed);
        if (left != i) {
            w->wait[left] = w->wait[i];
            memcpy(w->text[left], w->text[i], TEXT_MAX);
            w->wait[left].value = w->text[left];
        }
        left++;
    }
    w->waiting = left;
    gw_store_poll(w->t);
    uint64_t hashes[16];
    while (gw_store_ready(w->t, hashes, 16)) {}
}

static bool has(const struct worker *w, uint32_t k)
{
    for (uint32_t i = 0; i < w->waiting; i++)
        if (which(&w->wait[i]) == k)
            return true;
    return false;
}

static void draw(struct worker *w)
{
    while (w->waiting < BATCH) {
        uint32_t k = (uint32_t)gw_rand_below(&w->rand, COUNTERS + TEXTS);
        if (gw_rand_below(&w->rand, 8) == 0)
            k %= 32; /* all threads meet there */
        if (has(w, k))
            continue;
        struct gw_op *op = &w->wait[w->waiting];
        uint8_t *text = w->text[w->waiting++];
        *op = (struct gw_op){.key = (const uint8_t *)&keys[k], .key_bytes = 8, .value = text};
        gw_store_hash(store, op);
        if (gw_rand_below(&w->rand, 3) == 0) {
            op->verb = GW_VERB_READ;
        } else if (k < COUNTERS) {
            op->verb = GW_VERB_ADD;
            op->delta = (int64_t)gw_rand_below(&w->rand, 100);
        } else {
            op->verb = GW_VERB_UPSERT;
            op->value_bytes = 8 + (uint32_t)gw_rand_below(&w->rand, TEXT_MAX - 8);
            text_make(text, op->value_bytes, (uint32_t)gw_rand_next(&w->rand));
        }
    }
}

static bool count(void *ctx, const struct gw_record_view *view)
{
    uint8_t *seen = ctx;
    uint64_t key;
    memcpy(&key, view->key, 8);
    if (view->kind == GW_KIND_BYTES)
        text_check(view->value, view->value_bytes);
    seen[key - 1]++;
    return true;
}

static void walk(struct worker *w)
{
    static uint8_t seen[COUNTERS + TEXTS]; /* one walker */
    memset(seen, 0, sizeof seen);
    struct gw_cursor cursor = {0};
    while (!cursor.done && !atomic_load(&stop)) {
        gw_store_enter(w->t);
        gw_store_walk(w->t, &cursor, UINT64_MAX, NULL, false, 32, count, seen);
        gw_store_exit(w->t);
        gw_store_poll(w->t);
    }
    for (uint32_t k = COUNTERS; cursor.done && k < COUNTERS + TEXTS; k++)
        CHECK(seen[k], "text %u was there all the time", k);
    atomic_fetch_add(&walks, cursor.done);
}

static void body(uint32_t number, void *ctx)
{
    struct worker *w = calloc(1, sizeof *w);
    uint64_t end = *(uint64_t *)ctx;
    gw_rand_init(&w->rand, number + 1);
    CHECK(gw_store_thread_open(store, &w->t) == GW_OK, "thread");
    while (!atomic_load(&stop)) {
        if (number == 0 && torture_now_ms() > end)
            atomic_store(&stop, 1);
        if (number == 1) {
            walk(w);
            continue;
        }
        draw(w);
        run(w);
    }
    while (w->waiting)
        run(w);
    gw_store_thread_close(w->t);
    free(w);
}

/* One by one, until each is answered. */
static void one(struct worker *w, uint32_t k, uint8_t verb, uint32_t value_bytes)
{
    struct gw_op *op = &w->wait[0];
    *op = (struct gw_op){.key = (const uint8_t *)&keys[k],
                         .key_bytes = 8,
                         .verb = verb,
                         .value = w->text[0],
                         .value_bytes = value_bytes};
    gw_store_hash(store, op);
    w->waiting = 1;
    while (w->waiting)
        run(w);
}

int main(void)
{
    struct gw_ram_device *ram =
        gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                                             .delay_polls_max = 4,
                                                             .queues = THREADS + 1});
    struct gw_store_options options = {.log_bytes = PAGES << PAGE_BITS,
                                       .index_bytes = 1 << 17,
                                       .page_bits = PAGE_BITS,
                                       .threads_max = THREADS + 1,
                                       .cold_reads_max = 64,
                                       .device = gw_ram_device_face(ram)};
    CHECK(gw_store_open(&options, &store) == GW_OK, "store");
    for (uint32_t k = 0; k < COUNTERS + TEXTS; k++)
        keys[k] = k + 1;
    struct worker *w = calloc(1, sizeof *w);
    CHECK(gw_store_thread_open(store, &w->t) == GW_OK, "thread");
    for (uint32_t k = COUNTERS; k < COUNTERS + TEXTS; k++) {
        text_make(w->text[0], 200, k);
        one(w, k, GW_VERB_UPSERT, 200);
    }
    gw_store_thread_close(w->t);
    w->t = NULL;
    uint64_t end = torture_now_ms() + torture_duration_ms();
    torture_run(THREADS, body, &end);

    CHECK(gw_store_thread_open(store, &w->t) == GW_OK, "thread");
    for (uint32_t k = 0; k < COUNTERS; k++) {
        one(w, k, GW_VERB_READ, 0);
        int64_t want = atomic_load(&sums[k]),
                got = w->wait[0].status == GW_OK ? w->wait[0].number : 0;
        CHECK(got == want, "counter %u is %ld instead of %ld", k, (long)got, (long)want);
    }
    gw_store_thread_close(w->t);
    free(w);
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    printf("%lu adds, %lu texts read, %lu waits, %lu walks, %lu KiB of log, head at %lu\n",
           (unsigned long)atomic_load(&adds), (unsigned long)atomic_load(&texts_read),
           (unsigned long)atomic_load(&pendings), (unsigned long)atomic_load(&walks),
           (unsigned long)(stats.log_tail >> 10), (unsigned long)(stats.log_head >> 10));
    CHECK(stats.log_head > (PAGES << PAGE_BITS), "nothing went to the device");
    CHECK(stats.corrupt == 0, "corrupt");
    gw_store_close(store);
    gw_ram_device_destroy(ram);
    return 0;
}
