/* Goal: slots that go to and fro between two stores, their cold parts left where they are, keep
 * every key while all of this goes on at the same time: threads read, write and delete over
 * indirections, resolving inserts and retires, compaction copies, an index grows, cuts are made and
 * what nobody needs is deleted.
 * How: each worker has keys of its own and knows what they must be; all add to common counters. A
 * mover hands slots over as a migration does: while they arrive only blind writes are executed. A
 * keeper makes cuts. GW_TORTURE_MS. */
#include <string.h>
#include <time.h>

#include "index/base/rand.h"
#include "index/epoch.h"
#include "index/indirection.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"
#include "tests/torture/torture.h"
#include "tests/torture/torture_text.h"

#define STORES    2u
#define WORKERS   3u
#define THREADS   (WORKERS + 1) /* the mover is the last */
#define TAGS      6u
#define EACH      60u   /* keys of a worker in a tag */
#define COMMON    16u   /* counters in a tag */
#define FILLERS   1500u /* four times as many where the index may grow */
#define TEXT_MAX  400u
#define PAGE_BITS 16u
#define PAGES     8u
#define LOG_ID    700u
#define TURNS_MAX 4000000u
#define MORE_MS   20000u /* beyond GW_TORTURE_MS, on a slow machine, until all has happened */

struct key {
    char name[24];
    uint16_t bytes;
    bool live;
    uint32_t seed, text_bytes;
};

static struct gw_store *store[STORES];
static struct gw_ram_device *ram[STORES];
static struct {
    pthread_rwlock_t lock; /* shared: an operation is executed; alone: what follows changes */
    uint32_t owner;
    bool arriving;
    struct gw_slots slots;
} tag[TAGS];
static struct key own[WORKERS][TAGS][EACH], common[TAGS][COMMON];
static _Atomic int64_t sums[TAGS][COMMON];
static _Atomic uint32_t stop, keeping, working;
static _Atomic uint64_t operations, moves, links, cuts_made, unneeded;

struct worker {
    struct gw_thread *t[STORES];
    struct gw_rand rand;
    uint8_t text[TEXT_MAX], want[TEXT_MAX], room[2048];
};

/* What a dispatcher does between its batches. */
static void turn(struct worker *w)
{
    uint64_t hashes[16];
    for (uint32_t s = 0; s < STORES; s++) {
        struct gw_cut cut;
        struct gw_epoch *epoch = gw_store_epoch(store[s]);
        uint32_t slot = gw_store_epoch_slot(w->t[s]);
        gw_store_enter(w->t[s]);
        while (gw_cut_next(epoch, slot, &cut)) {
            gw_store_cross(w->t[s]);
            gw_cut_acknowledge(epoch, slot);
        }
        gw_store_exit(w->t[s]);
        gw_store_poll(w->t[s]);
        while (gw_store_ready(w->t[s], hashes, 16)) {}
    }
}

/* Executes one operation until it is answered. `polled`: between other things of its thread, which
 * may be inside another store's epoch. */
static void drive(struct worker *w, uint32_t s, struct gw_op *op, bool polled)
{
    size_t used;
    uint64_t hashes[16];
    gw_store_hash(store[s], op);
    for (uint32_t n = 0;; n++) {
        CHECK(n < TURNS_MAX, "verb %d ends never (%d)", op->verb, op->status);
        gw_store_enter(w->t[s]);
        gw_store_execute(w->t[s], op, 1, w->room, sizeof w->room, &used);
        gw_store_exit(w->t[s]);
        if (op->status != GW_RETRY && op->status != GW_PENDING && op->status != GW_E_FULL)
            return;
        if (polled)
            turn(w);
        else
            gw_store_poll(w->t[s]);
        while (gw_store_ready(w->t[s], hashes, 16)) {}
    }
}

static struct gw_op op_of(const struct key *k, uint8_t verb)
{
    return (struct gw_op){.verb = verb,
                          .key = (const uint8_t *)k->name,
                          .key_bytes = k->bytes,
                          .delta = 1};
}

static void check(struct worker *w, uint32_t s, const struct key *k)
{
    struct gw_op op = op_of(k, GW_VERB_READ);
    drive(w, s, &op, true);
    CHECK(op.status == (k->live ? GW_OK : GW_NOT_FOUND), "%s in %u: %d, live %d", k->name, s,
          op.status, k->live);
    if (!k->live)
        return;
    text_make(w->want, k->text_bytes, k->seed);
    CHECK(op.out_bytes == k->text_bytes && memcmp(op.out, w->want, op.out_bytes) == 0,
          "%s in %u: %u bytes instead of %u", k->name, s, op.out_bytes, k->text_bytes);
}

static void write_own(struct worker *w, uint32_t s, struct key *k, uint8_t verb)
{
    struct gw_op op = op_of(k, verb);
    uint32_t seed = (uint32_t)gw_rand_next(&w->rand);
    op.value = w->text;
    op.value_bytes = 8 + (uint32_t)gw_rand_below(&w->rand, TEXT_MAX - 8);
    text_make(w->text, op.value_bytes, seed);
    drive(w, s, &op, true);
    if (verb == GW_VERB_INSERT && k->live) {
        CHECK(op.status == GW_EXISTS, "%s in %u: inserted, %d", k->name, s, op.status);
        return;
    }
    CHECK(op.status == GW_OK, "%s in %u: written, %d", k->name, s, op.status);
    k->live = true;
    k->seed = seed;
    k->text_bytes = op.value_bytes;
}

/* On one of the worker's keys, or a common one. Requires: the tag's lock, shared. */
static void operate(struct worker *w, uint32_t number, uint32_t at)
{
    struct key *k = &own[number][at][gw_rand_below(&w->rand, EACH)];
    uint32_t s = tag[at].owner;
    if (tag[at].arriving) { /* nothing else needs no pull */
        write_own(w, s, k, GW_VERB_UPSERT);
        return;
    }
    switch (gw_rand_below(&w->rand, 6)) {
    case 0:
        write_own(w, s, k, GW_VERB_UPSERT);
        return;
    case 1:
        write_own(w, s, k, GW_VERB_INSERT);
        return;
    case 2: {
        struct gw_op op = op_of(k, GW_VERB_DELETE);
        drive(w, s, &op, true);
        CHECK(op.status == (k->live ? GW_OK : GW_NOT_FOUND), "%s in %u: deleted, %d, live %d",
              k->name, s, op.status, k->live);
        k->live = false;
        return;
    }
    case 3: {
        uint32_t i = (uint32_t)gw_rand_below(&w->rand, COMMON);
        struct gw_op op = op_of(&common[at][i], GW_VERB_ADD);
        drive(w, s, &op, true);
        CHECK(op.status == GW_OK, "%s in %u: added, %d", common[at][i].name, s, op.status);
        atomic_fetch_add_explicit(&sums[at][i], 1, memory_order_relaxed);
        return;
    }
    default:
        check(w, s, k);
    }
}

static void fill(struct worker *w, uint32_t s)
{
    struct key k = {.live = false};
    uint32_t most = s ? 4 * FILLERS : FILLERS;
    k.bytes = (uint16_t)snprintf(k.name, sizeof k.name, "filler%u",
                                 (uint32_t)gw_rand_below(&w->rand, most));
    write_own(w, s, &k, GW_VERB_UPSERT);
}

static void work(struct worker *w, uint32_t number)
{
    while (!atomic_load(&stop)) {
        uint32_t at = (uint32_t)gw_rand_below(&w->rand, TAGS);
        pthread_rwlock_rdlock(&tag[at].lock);
        operate(w, number, at);
        pthread_rwlock_unlock(&tag[at].lock);
        if (gw_rand_below(&w->rand, 2) == 0)
            fill(w, (uint32_t)gw_rand_below(&w->rand, STORES));
        turn(w);
        atomic_fetch_add_explicit(&operations, 1, memory_order_relaxed);
    }
}

/* ---- the mover ---- */

struct handing {
    struct worker *w;
    uint32_t to;
};

static bool arrives(void *ctx, const struct gw_record_view *view)
{
    struct handing *h = ctx;
    struct gw_op op = {.verb = GW_VERB_ARRIVE,
                       .key = view->key,
                       .key_bytes = view->key_bytes,
                       .number = view->number,
                       .expected_version = view->version,
                       .value = view->value,
                       .value_bytes = view->kind == GW_KIND_COUNTER ? 0 : view->value_bytes};
    op.flags = (view->kind == GW_KIND_COUNTER ? GW_OP_COUNTER : 0) |
               (view->tombstone ? GW_OP_TOMBSTONE : 0);
    drive(h->w, h->to, &op, false);
    CHECK(op.status == GW_OK || op.status == GW_EXISTS, "arrives: %d", op.status);
    return true;
}

static bool comes(void *ctx, const struct gw_indirection *in)
{
    struct handing *h = ctx;
    struct gw_thread *t = h->w->t[h->to];
    enum gw_status st = GW_RETRY;
    uint64_t hashes[16];
    for (uint32_t n = 0; st != GW_OK; n++) {
        CHECK(n < TURNS_MAX && (st == GW_RETRY || st == GW_NOT_YET || st == GW_E_FULL), "%d", st);
        gw_store_enter(t);
        st = gw_store_link(t, in);
        gw_store_exit(t);
        gw_store_poll(t);
        while (gw_store_ready(t, hashes, 16)) {}
    }
    atomic_fetch_add_explicit(&links, 1, memory_order_relaxed);
    return true;
}

static void unlink_from(struct worker *w, uint32_t s, const struct gw_slots *slots)
{
    struct gw_cursor cursor = {0};
    uint64_t n = 0;
    while (!cursor.done) {
        gw_store_enter(w->t[s]);
        gw_store_unlink(w->t[s], &cursor, UINT64_MAX, slots, 64, &n);
        gw_store_exit(w->t[s]);
        turn(w);
    }
}

static void passed(void *arg)
{
    atomic_store_explicit((_Atomic bool *)arg, true, memory_order_release);
}

static void let_pass(struct worker *w, uint32_t s)
{
    _Atomic bool all = false;
    while (gw_epoch_defer(gw_store_epoch(store[s]), passed, &all) != GW_OK)
        turn(w);
    while (!atomic_load_explicit(&all, memory_order_acquire))
        turn(w);
}

static void move(struct worker *w, uint64_t map_version)
{
    uint32_t at = (uint32_t)gw_rand_below(&w->rand, TAGS), from = tag[at].owner, to = 1 - from;
    struct handing h = {w, to};
    const struct gw_slots *slots = &tag[at].slots;
    struct gw_store_stats stats;
    bool whole = gw_rand_below(&w->rand, 6) == 0;
    gw_store_keep_tombstones(store[to], slots);
    let_pass(w, to);
    unlink_from(w, to, slots);
    gw_store_version_floor(store[to], gw_store_version_highest(store[from]));
    pthread_rwlock_wrlock(&tag[at].lock);
    tag[at].owner = to;
    tag[at].arriving = true;
    pthread_rwlock_unlock(&tag[at].lock);
    gw_store_stats(store[from], &stats);
    gw_ram_device_share(ram[from], gw_addr_of(stats.log_flushed));
    for (struct gw_cursor cursor = {0}; !cursor.done;) {
        gw_store_enter(w->t[from]);
        if (whole)
            gw_store_walk(w->t[from], &cursor, UINT64_MAX, slots, true, 32, arrives, &h);
        else
            gw_store_walk_shared(w->t[from], &cursor, UINT64_MAX, slots, map_version, 32, arrives,
                                 comes, &h);
        gw_store_exit(w->t[from]);
        turn(w);
    }
    pthread_rwlock_wrlock(&tag[at].lock);
    tag[at].arriving = false;
    pthread_rwlock_unlock(&tag[at].lock);
    let_pass(w, to);
    gw_store_keep_tombstones(store[to], NULL);
    unlink_from(w, from, slots);
    atomic_fetch_add_explicit(&moves, 1, memory_order_relaxed);
}

/* What nobody needs goes. As the coordinator does it: while the other needs a store's log, all that
 * this one ever said counts (coordinator/state_needs.c, rule 2). */
static void collect(void)
{
    static uint64_t said[STORES][STORES] = {{UINT64_MAX, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}};
    uint64_t now[STORES][STORES] = {{UINT64_MAX, UINT64_MAX}, {UINT64_MAX, UINT64_MAX}};
    uint64_t keep[STORES] = {UINT64_MAX, UINT64_MAX};
    bool needed[STORES] = {false, false};
    for (uint32_t s = 0; s < STORES; s++) {
        struct gw_foreign_need need[STORES];
        uint32_t n = gw_store_foreign(store[s], need, STORES);
        for (uint32_t i = 0; i < n; i++) {
            uint64_t log = need[i].log_id - LOG_ID, lowest = need[i].lowest;
            now[s][log] = lowest;
            said[s][log] = lowest < said[s][log] ? lowest : said[s][log];
        }
    }
    for (uint32_t n = 0; n < 2 * STORES * STORES; n++) { /* until nothing is new */
        uint32_t s = n / STORES % STORES, log = n % STORES;
        uint64_t of = needed[s] ? said[s][log] : now[s][log];
        keep[log] = of < keep[log] ? of : keep[log];
        needed[log] |= of != UINT64_MAX && s != log;
    }
    for (uint32_t s = 0; s < STORES; s++) {
        struct gw_store_stats stats;
        gw_store_stats(store[s], &stats);
        uint64_t below = keep[s] < stats.log_begin ? keep[s] : stats.log_begin;
        gw_ram_device_delete(ram[s], gw_addr_of(below));
        atomic_fetch_add_explicit(&unneeded, keep[s] == UINT64_MAX, memory_order_relaxed);
    }
}

/* ---- the keeper ---- */

static void moment(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
}

static void keep_images(void)
{
    static _Atomic bool all;
    for (uint64_t number = 1; !atomic_load(&stop); number++) {
        uint32_t s = number % STORES;
        struct gw_test_image image = {.words = NULL};
        enum gw_status st;
        while ((st = gw_store_cut_begin(store[s], number, &image.numbers)) != GW_OK) {
            CHECK(st == GW_RETRY || st == GW_E_BUSY, "%d", st);
            moment();
        }
        atomic_store(&all, false);
        struct gw_cut cut = {.phase = 1, .done = passed, .arg = &all};
        CHECK(gw_cut_publish(gw_store_epoch(store[s]), &cut) == GW_OK, "cut");
        while (!atomic_load_explicit(&all, memory_order_acquire) ||
               !gw_store_cut_flushed(store[s], image.numbers.end))
            moment();
        gw_test_image_finish(&image, store[s]);
        gw_store_retain(store[s], image.numbers.begin, image.numbers.end);
        gw_store_foreign_retained(store[s], image.numbers.end.v);
        gw_test_image_free(&image);
        atomic_fetch_add(&cuts_made, 1);
        moment();
    }
    atomic_store(&keeping, 0);
}

/* ---- the whole ---- */

static bool all_happened(void)
{
    uint64_t found = 0, retired = 0;
    for (uint32_t s = 0; s < STORES; s++) {
        struct gw_indirection_stats in;
        gw_store_indirection_stats(store[s], &in);
        found += in.found;
        retired += in.retired;
    }
    return found != 0 && retired != 0 && atomic_load(&cuts_made) != 0;
}

static void body(uint32_t number, void *ctx)
{
    uint64_t end = *(uint64_t *)ctx;
    if (number == THREADS) {
        keep_images();
        return;
    }
    struct worker *w = calloc(1, sizeof *w);
    gw_rand_init(&w->rand, number + 1);
    for (uint32_t s = 0; s < STORES; s++)
        CHECK(gw_store_thread_open(store[s], &w->t[s]) == GW_OK, "thread");
    if (number < WORKERS)
        work(w, number);
    for (uint64_t n = 1; number == WORKERS && !atomic_load(&stop); n++) {
        move(w, n);
        collect();
        uint64_t now = torture_now_ms();
        if (now > end && (all_happened() || now > end + MORE_MS))
            atomic_store(&stop, 1);
    }
    atomic_fetch_sub(&working, 1);
    while (atomic_load(&keeping) || atomic_load(&working)) /* a cut waits for everybody */
        turn(w);
    for (uint32_t s = 0; s < STORES; s++)
        gw_store_thread_close(w->t[s]);
    free(w);
}

static void open_all(void)
{
    for (uint32_t s = 0; s < STORES; s++) {
        ram[s] = gw_ram_device_create(&(struct gw_ram_device_options){.page_bits = PAGE_BITS,
                                                                      .delay_polls_max = 3,
                                                                      .queues = THREADS + 2,
                                                                      .seed = s + 1,
                                                                      .log_id = LOG_ID + s});
        struct gw_store_options options = {.log_bytes = PAGES << PAGE_BITS,
                                           .index_bytes = 1 << 16,
                                           .index_bytes_max = s ? 1 << 19 : 0,
                                           .page_bits = PAGE_BITS,
                                           .hash_seed = 5,
                                           .threads_max = THREADS + 2,
                                           .cold_reads_max = 32,
                                           .device = gw_ram_device_face(ram[s])};
        CHECK(gw_store_open(&options, &store[s]) == GW_OK, "store");
        gw_store_retain_all(store[s]);
        gw_store_resolve_rate(store[s], 50);
    }
    gw_ram_device_know(ram[0], ram[1]);
    gw_ram_device_know(ram[1], ram[0]);
    for (uint32_t at = 0; at < TAGS; at++) {
        pthread_rwlock_init(&tag[at].lock, NULL);
        tag[at].owner = at % STORES;
        for (uint32_t i = 0; i < COMMON; i++)
            common[at][i].bytes = (uint16_t)snprintf(common[at][i].name, sizeof common[at][i].name,
                                                     "{%u}sum%u", at, i);
        for (uint32_t n = 0; n < WORKERS; n++)
            for (uint32_t i = 0; i < EACH; i++)
                own[n][at][i].bytes =
                    (uint16_t)snprintf(own[n][at][i].name, sizeof own[n][at][i].name,
                                       "{%u}%u of %u", at, i, n);
        struct gw_op op = op_of(&common[at][0], GW_VERB_READ);
        gw_store_hash(store[0], &op);
        gw_slots_clear(&tag[at].slots);
        gw_slots_add(&tag[at].slots, op.slot);
    }
}

/* Keys that lie on the devices when it begins. */
static void begin_with(void)
{
    struct worker *w = calloc(1, sizeof *w);
    for (uint32_t s = 0; s < STORES; s++)
        CHECK(gw_store_thread_open(store[s], &w->t[s]) == GW_OK, "thread");
    for (uint32_t at = 0; at < TAGS; at++)
        for (uint32_t n = 0; n < WORKERS; n++)
            for (uint32_t i = 0; i < EACH; i += 2)
                write_own(w, tag[at].owner, &own[n][at][i], GW_VERB_UPSERT);
    for (uint32_t i = 0; i < 2 * FILLERS; i++)
        fill(w, i % STORES);
    for (uint32_t s = 0; s < STORES; s++)
        gw_store_thread_close(w->t[s]);
    free(w);
}

static void check_all(void)
{
    struct worker *w = calloc(1, sizeof *w);
    for (uint32_t s = 0; s < STORES; s++)
        CHECK(gw_store_thread_open(store[s], &w->t[s]) == GW_OK, "thread");
    for (uint32_t at = 0; at < TAGS; at++) {
        for (uint32_t n = 0; n < WORKERS; n++)
            for (uint32_t i = 0; i < EACH; i++)
                check(w, tag[at].owner, &own[n][at][i]);
        for (uint32_t i = 0; i < COMMON; i++) {
            struct gw_op op = op_of(&common[at][i], GW_VERB_READ);
            drive(w, tag[at].owner, &op, true);
            int64_t want = atomic_load(&sums[at][i]), got = op.status == GW_OK ? op.number : 0;
            CHECK(got == want, "%s is %ld instead of %ld", common[at][i].name, (long)got,
                  (long)want);
        }
    }
    for (uint32_t s = 0; s < STORES; s++)
        gw_store_thread_close(w->t[s]);
    free(w);
}

int main(void)
{
    open_all();
    begin_with();
    atomic_store(&keeping, 1);
    atomic_store(&working, THREADS);
    uint64_t end = torture_now_ms() + torture_duration_ms();
    torture_run(THREADS + 1, body, &end);
    check_all();
    uint64_t found = 0, retired = 0, splits = 0;
    for (uint32_t s = 0; s < STORES; s++) {
        struct gw_indirection_stats in;
        struct gw_store_stats stats;
        gw_store_indirection_stats(store[s], &in);
        gw_store_stats(store[s], &stats);
        CHECK(stats.corrupt == 0, "corrupt");
        found += in.found;
        retired += in.retired;
        splits += stats.index_splits;
    }
    printf(
        "%lu operations, %lu moves, %lu links, %lu found, %lu retired, %lu cuts, %lu splits, %lu "
        "times unneeded\n",
        (unsigned long)operations, (unsigned long)moves, (unsigned long)links, (unsigned long)found,
        (unsigned long)retired, (unsigned long)cuts_made, (unsigned long)splits,
        (unsigned long)unneeded);
    CHECK(all_happened(), "too little");
    for (uint32_t s = 0; s < STORES; s++)
        gw_store_close(store[s]);
    for (uint32_t s = 0; s < STORES; s++)
        gw_ram_device_destroy(ram[s]);
    return 0;
}
