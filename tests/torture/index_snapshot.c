/* Goal: snapshots and cuts that are made while threads write and the index grows give images that
 * have every add that was executed before its thread crossed, and none that came after.
 * How: threads add to common counters; each keeps what it has added to which, and copies that when
 * it crosses. A thread of its own makes snapshots and images, one after the other. Then the store
 * ends, another one goes on from the last image, with the last snapshot that was complete before
 * its cut, and every counter must be the sum of the copies; several times. GW_TORTURE_MS. */
#include <string.h>
#include <time.h>

#include "index/base/rand.h"
#include "index/epoch.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"
#include "tests/torture/torture.h"

#define WRITERS     3u
#define KEYS        12000u
#define BATCH       24u
#define WAITING     256u
#define PAGE_BITS   16u
#define PAGES       24u
#define SEGMENT     ((uint64_t)4 << PAGE_BITS)
#define GENERATIONS 3u

static struct gw_store *store;
static struct gw_store_options options;
static _Atomic uint32_t stop, keeping;
static uint64_t keys[KEYS];
static int64_t added[WRITERS][KEYS], crossed[WRITERS][KEYS]; /* each its writer's */
static int64_t base[KEYS], image_sum[KEYS];
static struct gw_test_image image;
static struct gw_test_snapshot snapshot; /* of the last image */
static bool has_image;
static uint64_t images, snapshots, splits, adds_total;

struct writer {
    struct gw_thread *t;
    struct gw_rand rand;
    uint32_t number, waiting;
    uint64_t adds, crossings;
    struct gw_op wait[WAITING];
    uint8_t room[65536];
};

static void on_cross(void *ctx, uint64_t number)
{
    struct writer *w = ctx;
    (void)number;
    memcpy(crossed[w->number], added[w->number], sizeof added[0]);
    w->crossings++;
}

/* Everything that a dispatcher does about a cut. */
static void cuts(struct writer *w)
{
    struct gw_cut cut;
    struct gw_epoch *epoch = gw_store_epoch(store);
    uint32_t slot = gw_store_epoch_slot(w->t);
    while (gw_cut_next(epoch, slot, &cut)) {
        gw_store_cross(w->t);
        gw_cut_acknowledge(epoch, slot);
    }
}

static void run(struct writer *w)
{
    size_t used;
    uint32_t n = w->waiting, left = 0;
    gw_store_enter(w->t);
    cuts(w);
    for (uint32_t at = 0; at < n;) { /* it comes back early where the thread has to cross */
        uint32_t done =
            gw_store_execute(w->t, w->wait + at, n - at, w->room, sizeof w->room, &used);
        for (uint32_t i = at; i < at + done; i++)
            if (w->wait[i].status == GW_OK) {
                uint64_t k = (const uint64_t *)(const void *)w->wait[i].key - keys;
                added[w->number][k] += w->wait[i].delta;
                w->adds++;
            }
        at += done;
    }
    gw_store_exit(w->t);
    for (uint32_t i = 0; i < n; i++) {
        int8_t st = w->wait[i].status;
        CHECK(st == GW_OK || st == GW_PENDING || st == GW_RETRY, "status %d", st);
        if (st != GW_OK)
            w->wait[left++] = w->wait[i];
    }
    w->waiting = left;
    gw_store_poll(w->t);
    uint64_t hashes[16];
    while (gw_store_ready(w->t, hashes, 16)) {}
}

static bool has(const struct writer *w, uint32_t k)
{
    for (uint32_t i = 0; i < w->waiting; i++)
        if (w->wait[i].key == (const uint8_t *)&keys[k])
            return true;
    return false;
}

static void draw(struct writer *w, uint32_t known)
{
    while (w->waiting < BATCH) {
        uint32_t k = (uint32_t)gw_rand_below(&w->rand, known);
        if (gw_rand_below(&w->rand, 4) == 0)
            k %= 64; /* all threads meet there, in place and behind seals */
        if (has(w, k))
            continue;
        struct gw_op *op = &w->wait[w->waiting++];
        *op = (struct gw_op){.verb = GW_VERB_ADD,
                             .key = (const uint8_t *)&keys[k],
                             .key_bytes = 8,
                             .delta = 1 + (int64_t)gw_rand_below(&w->rand, 9)};
        gw_store_hash(store, op);
    }
}

static void write_on(struct writer *w, uint64_t seed)
{
    gw_rand_init(&w->rand, seed);
    CHECK(gw_store_thread_open(store, &w->t) == GW_OK, "thread");
    gw_store_on_cross(w->t, on_cross, w);
    uint32_t known = 500; /* new keys come all the time, so that the index grows */
    while (!atomic_load(&stop)) {
        draw(w, known);
        run(w);
        known = known + 3 < KEYS ? known + 3 : KEYS;
    }
    while (w->waiting)
        run(w);
    /* Somebody waits for a cut, or for a flush; and who left between a cut's begin and its
     * publication would never cross it, though all that he did is in its image. */
    while (atomic_load(&keeping))
        run(w);
    gw_store_thread_close(w->t);
}

static void done(void *arg)
{
    atomic_store_explicit((_Atomic bool *)arg, true, memory_order_release);
}

static void moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

/* False: the end has come before it was complete. */
static bool image_make(uint64_t number, struct gw_test_image *made)
{
    static _Atomic bool all;
    memset(made, 0, sizeof *made);
    atomic_store(&all, false);
    enum gw_status st;
    while ((st = gw_store_cut_begin(store, number, &made->numbers)) != GW_OK) {
        CHECK(st == GW_RETRY || st == GW_E_BUSY, "%d", st);
        if (atomic_load(&stop))
            return false;
        moment();
    }
    struct gw_cut cut = {.phase = 1, .done = done, .arg = &all};
    CHECK(gw_cut_publish(gw_store_epoch(store), &cut) == GW_OK, "cut");
    while (!atomic_load_explicit(&all, memory_order_acquire))
        moment();
    int64_t sum[KEYS];
    for (uint32_t k = 0; k < KEYS; k++) {
        sum[k] = base[k];
        for (uint32_t i = 0; i < WRITERS; i++)
            sum[k] += crossed[i][k];
    }
    while (!gw_store_cut_flushed(store, made->numbers.end)) {
        if (atomic_load(&stop))
            return false;
        moment();
    }
    gw_test_image_finish(made, store);
    memcpy(image_sum, sum, sizeof sum);
    return true;
}

static void keep_images(uint64_t *number)
{
    struct gw_test_snapshot next = {.blocks = NULL};
    for (uint32_t n = 0; !atomic_load(&stop); n++) {
        if (n % 2 == 0) { /* every other image has the snapshot of the one before */
            gw_test_snapshot_free(&next);
            gw_test_snapshot_take(&next, store);
            snapshots++;
        }
        struct gw_test_image made;
        if (!image_make(++*number, &made)) {
            gw_test_image_free(&made);
            break;
        }
        gw_test_image_free(&image);
        image = made;
        if (n % 2 == 0) {
            gw_test_snapshot_free(&snapshot);
            snapshot = next;
            memset(&next, 0, sizeof next);
        }
        has_image = true;
        images++;
        gw_store_retain(store, image.numbers.begin, image.numbers.end);
    }
    gw_test_snapshot_free(&next);
}

static uint64_t number = 0;
static uint64_t generation = 0;

static void body(uint32_t n, void *ctx)
{
    uint64_t end = *(uint64_t *)ctx;
    if (n < WRITERS) {
        struct writer *w = calloc(1, sizeof *w);
        w->number = n;
        write_on(w, generation * WRITERS + n + 1);
        __atomic_fetch_add(&adds_total, w->adds, __ATOMIC_RELAXED);
        free(w);
    } else if (n == WRITERS) {
        keep_images(&number);
        atomic_store(&keeping, 0);
    } else {
        while (torture_now_ms() < end)
            moment();
        atomic_store(&stop, 1);
    }
}

static void check_all(void)
{
    struct gw_thread *t;
    CHECK(gw_store_thread_open(store, &t) == GW_OK, "thread");
    for (uint32_t k = 0; k < KEYS; k++) {
        struct gw_op op = {.key = (const uint8_t *)&keys[k], .key_bytes = 8, .verb = GW_VERB_READ};
        uint8_t room[64];
        size_t used;
        gw_store_hash(store, &op);
        do {
            uint64_t hashes[8];
            gw_store_poll(t);
            while (gw_store_ready(t, hashes, 8)) {}
            gw_store_enter(t);
            gw_store_execute(t, &op, 1, room, sizeof room, &used);
            gw_store_exit(t);
        } while (op.status == GW_PENDING || op.status == GW_RETRY);
        int64_t got = op.status == GW_OK ? op.number : 0;
        CHECK(got == image_sum[k], "counter %u is %ld instead of %ld, status %d", k, (long)got,
              (long)image_sum[k], op.status);
    }
    gw_store_thread_close(t);
}

int main(void)
{
    struct gw_ram_device *ram =
        gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                                             .segment_bytes = SEGMENT,
                                                             .delay_polls_max = 3,
                                                             .queues = WRITERS + 2});
    options = (struct gw_store_options){.log_bytes = PAGES << PAGE_BITS,
                                        .index_bytes = 1 << 16,
                                        .index_bytes_max = 1 << 19,
                                        .page_bits = PAGE_BITS,
                                        .threads_max = WRITERS + 2,
                                        .device = gw_ram_device_face(ram)};
    CHECK(gw_store_open(&options, &store) == GW_OK, "store");
    for (uint32_t k = 0; k < KEYS; k++)
        keys[k] = k * 0x9e3779b97f4a7c15u + 1;
    for (; generation < GENERATIONS; generation++) {
        gw_store_retain_all(store);
        if (has_image)
            gw_store_retain(store, image.numbers.begin, image.numbers.end);
        uint64_t end = torture_now_ms() + torture_duration_ms() / GENERATIONS + 50;
        atomic_store(&stop, 0);
        atomic_store(&keeping, 1);
        memset(added, 0, sizeof added);
        memset(crossed, 0, sizeof crossed);
        torture_run(WRITERS + 2, body, &end);
        struct gw_store_stats stats;
        gw_store_stats(store, &stats);
        CHECK(stats.corrupt == 0, "corrupt");
        splits += stats.index_splits;
        if (!has_image)
            break;
        gw_store_close(store);
        char why[256];
        gw_addr resume = gw_addr_of((stats.log_tail / SEGMENT + 1) * SEGMENT);
        struct gw_test_snapshot *with = generation % 3 == 2 ? NULL : &snapshot;
        enum gw_status st = gw_test_recover(&options, &image, with, resume, 2, NULL, &store, why);
        CHECK(st == GW_OK, "%d: %s", st, why);
        check_all();
        memcpy(base, image_sum, sizeof base);
    }
    printf("%lu adds, %lu images, %lu snapshots, %lu splits\n", (unsigned long)adds_total,
           (unsigned long)images, (unsigned long)snapshots, (unsigned long)splits);
    CHECK(images > 0, "no image was complete");
    gw_store_close(store);
    gw_test_image_free(&image);
    gw_test_snapshot_free(&snapshot);
    gw_ram_device_destroy(ram);
    return 0;
}
