/* Goal: nothing is lost, doubled or brought back while threads overwrite, add to, delete and read
 * records that all of them compact at the same time: in memory only, with a device, and in cache
 * mode; threads come and go in the middle of their pages, and now and then the hot records of some
 * slots gather (gw_store_sample), so that what is changed in place elsewhere is copied.
 * How: sums compared, values that carry their own check, a key that is deleted stays so until its
 * thread writes it again, the number of keys compared with a walk. GW_TORTURE_MS. */
#include <string.h>

#include "index/base/rand.h"
#include "index/indirection.h"
#include "index/store.h"
#include "tests/support/ram_device.h"
#include "tests/torture/torture.h"
#include "tests/torture/torture_text.h"

#define THREADS  4u
#define COUNTERS 1500u
#define TEXTS    2400u
#define OWN      200u /* texts of each thread that it writes and deletes alone */
#define KEYS     (COUNTERS + TEXTS + THREADS * OWN)
#define TEXT_MAX 500u
#define BATCH    24u
#define WAITING  BATCH

enum mode { MEMORY, DEVICE, CACHE, MODES };

static struct gw_store *store;
static enum mode mode;
static uint64_t compacted_least; /* set before the threads start */
static _Atomic uint32_t stop;
static _Atomic int64_t sums[COUNTERS];
static _Atomic uint64_t adds, refused;
static char keys[KEYS][16];

struct worker {
    struct gw_thread *t;
    struct gw_rand rand;
    uint32_t number, waiting;
    bool own_live[OWN];
    struct gw_op wait[WAITING];
    uint8_t text[WAITING][TEXT_MAX];
    uint8_t room[WAITING * 1024];
};

static uint32_t which(const struct gw_op *op)
{
    return (uint32_t)((const char(*)[16])(const void *)op->key - keys);
}

static void set_key(struct gw_op *op, uint32_t k)
{
    op->key = (const uint8_t *)keys[k];
    op->key_bytes = (uint16_t)strlen(keys[k]);
    gw_store_hash(store, op);
}

/* What a thread's own key must answer: nobody else touches it. */
static void settled_own(struct worker *w, const struct gw_op *op, uint32_t own)
{
    bool live = w->own_live[own];
    if (op->verb == GW_VERB_UPSERT && op->status == GW_OK)
        w->own_live[own] = true;
    else if (op->verb == GW_VERB_DELETE && op->status != GW_E_FULL)
        w->own_live[own] = false;
    if (op->verb == GW_VERB_UPSERT || op->status == GW_E_FULL)
        return;
    if (mode == CACHE && op->status == GW_NOT_FOUND)
        return; /* dropped, or deleted */
    CHECK(op->status == (live ? GW_OK : GW_NOT_FOUND), "own key %u: %d, live %d", own, op->status,
          live);
}

static void settled(struct worker *w, const struct gw_op *op)
{
    uint32_t k = which(op);
    CHECK(op->status == GW_OK || op->status == GW_NOT_FOUND || op->status == GW_E_FULL,
          "status %d of verb %d", op->status, op->verb);
    if (op->status == GW_E_FULL) {
        CHECK(op->verb != GW_VERB_READ, "a read refused");
        atomic_fetch_add_explicit(&refused, 1, memory_order_relaxed);
    }
    if (op->verb == GW_VERB_READ && op->status == GW_OK && k >= COUNTERS)
        text_check(op->out, op->out_bytes);
    if (k >= COUNTERS + TEXTS) {
        settled_own(w, op, (k - COUNTERS - TEXTS) % OWN);
    } else if (op->verb == GW_VERB_ADD && op->status == GW_OK) {
        atomic_fetch_add_explicit(&sums[k], op->delta, memory_order_relaxed);
        atomic_fetch_add_explicit(&adds, 1, memory_order_relaxed);
    } else {
        CHECK(op->status != GW_NOT_FOUND || k < COUNTERS || mode == CACHE, "text %u is gone", k);
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
    gw_store_exit(w->t);
    for (uint32_t i = 0; i < n; i++) {
        if (w->wait[i].status != GW_PENDING && w->wait[i].status != GW_RETRY) {
            settled(w, &w->wait[i]);
            continue;
        }
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
        else if (gw_rand_below(&w->rand, 3) == 0)
            k = COUNTERS + TEXTS + w->number * OWN + k % OWN;
        if (has(w, k))
            continue;
        struct gw_op *op = &w->wait[w->waiting];
        uint8_t *text = w->text[w->waiting++];
        *op = (struct gw_op){.value = text};
        set_key(op, k);
        uint64_t dice = gw_rand_below(&w->rand, 6);
        if (dice < 2 || (k >= COUNTERS && k < COUNTERS + TEXTS && k % 4 != 0)) {
            op->verb = GW_VERB_READ; /* most texts are written once: every lap copies them */
        } else if (k < COUNTERS) {
            op->verb = GW_VERB_ADD;
            op->delta = (int64_t)gw_rand_below(&w->rand, 100);
        } else if (k >= COUNTERS + TEXTS && dice == 2) {
            op->verb = GW_VERB_DELETE;
        } else {
            op->verb = GW_VERB_UPSERT;
            op->value_bytes = 8 + (uint32_t)gw_rand_below(&w->rand, TEXT_MAX - 8);
            text_make(text, op->value_bytes, (uint32_t)gw_rand_next(&w->rand));
        }
    }
}

/* The time is up, and compaction has had something to do: on a slow machine that takes longer. */
static bool over(uint64_t end)
{
    uint64_t now = torture_now_ms();
    if (now <= end)
        return false;
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    return stats.compacted_bytes > compacted_least || now > end + 60000;
}

/* Every other time none. */
static void sample(uint32_t turn)
{
    struct gw_slots slots;
    gw_slots_clear(&slots);
    for (uint32_t slot = turn % 3; slot < GW_SLOTS; slot += 3)
        gw_slots_add(&slots, (uint16_t)slot);
    gw_store_sample(store, turn % 2 ? &slots : NULL);
}

static void body(uint32_t number, void *ctx)
{
    struct worker *w = calloc(1, sizeof *w);
    uint64_t end = *(uint64_t *)ctx;
    gw_rand_init(&w->rand, number + 1);
    w->number = number;
    CHECK(gw_store_thread_open(store, &w->t) == GW_OK, "thread");
    for (uint32_t n = 1; !atomic_load(&stop); n++) {
        if (number == 0 && over(end))
            atomic_store(&stop, 1);
        draw(w);
        run(w);
        if (number == 0 && n % 64 == 0)
            sample(n / 64);
        if (n % 512 == 0) { /* leaves in the middle of a page, and what it was compacting stays */
            while (w->waiting)
                run(w);
            gw_store_thread_close(w->t);
            CHECK(gw_store_thread_open(store, &w->t) == GW_OK, "thread");
        }
    }
    while (w->waiting)
        run(w);
    if (number == 0)
        gw_store_sample(store, NULL);
    gw_store_thread_close(w->t);
    free(w);
}

/* One by one, until each is answered. */
static void one(struct worker *w, uint32_t k, uint8_t verb, uint32_t value_bytes)
{
    struct gw_op *op = &w->wait[0];
    *op = (struct gw_op){.verb = verb, .value = w->text[0], .value_bytes = value_bytes};
    set_key(op, k);
    w->waiting = 1;
    while (w->waiting)
        run(w);
}

/* A bucket may be visited again from its start: what counts is which keys were met. */
static bool meet(void *ctx, const struct gw_record_view *view)
{
    bool *met = ctx;
    char text[16] = {0};
    memcpy(text, view->key, view->key_bytes);
    met[strtoul(text + 3, NULL, 10)] = true; /* "{t}" and "key" */
    return true;
}

static uint64_t walk(struct gw_thread *t)
{
    static bool met[KEYS];
    memset(met, 0, sizeof met);
    struct gw_cursor cursor = {0};
    while (!cursor.done) {
        gw_store_enter(t);
        gw_store_walk(t, &cursor, UINT64_MAX, NULL, false, 1, meet, met);
        gw_store_exit(t);
        gw_store_poll(t);
    }
    uint64_t n = 0;
    for (uint32_t k = 0; k < KEYS; k++)
        n += met[k];
    return n;
}

static void torture(enum mode which_mode)
{
    static const char *const names[] = {"memory", "device", "cache"};
    uint32_t page_bits = which_mode == MEMORY ? 19 : 16;
    struct gw_ram_device *ram =
        gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = page_bits,
                                                             .delay_polls_max = 4,
                                                             .queues = THREADS + 1});
    struct gw_store_options options = {.log_bytes = (which_mode == MEMORY ? 16u : 32u) << page_bits,
                                       .index_bytes = 1 << 16, /* grows meanwhile */
                                       .index_bytes_max = 1 << 19,
                                       .page_bits = page_bits,
                                       .threads_max = THREADS + 1,
                                       .cold_reads_max = 64,
                                       .evict = which_mode == CACHE};
    options.log_start = (uint64_t)1 << page_bits;
    if (which_mode == MEMORY) /* crosses the end of 42 bits after a while (ENGINE H14) */
        options.log_start = ((uint64_t)1 << 46) - (64u << page_bits);
    if (which_mode == DEVICE)
        options.device = gw_ram_device_face(ram);
    mode = which_mode;
    compacted_least = (uint64_t)8 << page_bits;
    atomic_store(&stop, 0);
    atomic_store(&adds, 0);
    atomic_store(&refused, 0);
    CHECK(gw_store_open(&options, &store) == GW_OK, "store");
    for (uint32_t k = 0; k < KEYS; k++) /* every third in one slot: chains of several keys */
        snprintf(keys[k], sizeof keys[k], k % 3 ? "key%u" : "{t}%u", k);
    for (uint32_t k = 0; k < COUNTERS; k++)
        atomic_store(&sums[k], 0);
    struct worker *w = calloc(1, sizeof *w);
    CHECK(gw_store_thread_open(store, &w->t) == GW_OK, "thread");
    for (uint32_t k = COUNTERS; k < COUNTERS + TEXTS; k++) {
        text_make(w->text[0], 300, k);
        one(w, k, GW_VERB_UPSERT, 300);
    }
    gw_store_thread_close(w->t);
    uint64_t end = torture_now_ms() + torture_duration_ms();
    torture_run(THREADS, body, &end);

    CHECK(gw_store_thread_open(store, &w->t) == GW_OK, "thread");
    for (uint32_t k = 0; k < COUNTERS && mode != CACHE; k++) {
        one(w, k, GW_VERB_READ, 0);
        int64_t want = atomic_load(&sums[k]),
                got = w->wait[0].status == GW_OK ? w->wait[0].number : 0;
        CHECK(got == want, "counter %u is %ld instead of %ld", k, (long)got, (long)want);
    }
    uint64_t there = walk(w->t);
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    printf("%s: %lu adds, %lu KiB compacted, %lu of them live, %lu reads for it, %lu evicted, "
           "%lu refused, %lu KiB of log, %lu KiB live, begin at +%lu KiB\n",
           names[mode], (unsigned long)atomic_load(&adds),
           (unsigned long)stats.compacted_bytes >> 10,
           (unsigned long)stats.compacted_live_bytes >> 10, (unsigned long)stats.compact_reads,
           (unsigned long)stats.evicted, (unsigned long)atomic_load(&refused),
           (unsigned long)stats.log_bytes_used >> 10, (unsigned long)stats.live_bytes >> 10,
           (unsigned long)(stats.log_begin - options.log_start) >> 10);
    if (mode != CACHE)
        CHECK(stats.keys == there, "%lu keys counted, %lu met", (unsigned long)stats.keys,
              (unsigned long)there);
    CHECK(stats.compacted_bytes > compacted_least, "nothing was compacted");
    CHECK(atomic_load(&refused) == 0, "there was garbage enough");
    CHECK(stats.corrupt == 0, "corrupt");
    gw_store_thread_close(w->t);
    free(w);
    gw_store_close(store);
    gw_ram_device_destroy(ram);
}

int main(void)
{
    for (uint32_t m = 0; m < MODES; m++)
        torture((enum mode)m);
    return 0;
}
