/* Goal: no add is lost and no walk misses a key while the index of a store grows from 64 KiB to
 * some megabytes under them (ENGINE H2), beyond six doublings too, where splits read records. How:
 * adders bring in new counters and add to old ones, and compare each answer with nothing but that
 * it is possible; at the end every counter is the sum of what was added. A walker must meet every
 * key that was there when it began. The read-only boundary moves, so entries change. */
#include <string.h>

#include "index/base/rand.h"
#include "index/store.h"
#include "tests/torture/torture.h"

#define THREADS 4u
#define KEYS    300000u
#define BATCH   64u
#define NEW     24u /* of a batch, while there are any */

static struct gw_store *store;
static _Atomic uint32_t stop, keys_begun;
static _Atomic int64_t sums[KEYS];
static _Atomic bool there[KEYS];
static _Atomic uint64_t adds, walks;

/* Eight bytes that are not in order of the number. */
static void key_make(uint64_t *key, uint32_t number)
{
    *key = (uint64_t)number * 0x9e3779b97f4a7c15u;
}

static void work(struct gw_thread *t, struct gw_rand *rand)
{
    uint64_t keys[BATCH];
    uint32_t number[BATCH];
    struct gw_op ops[BATCH];
    memset(ops, 0, sizeof ops);
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t begun = atomic_load_explicit(&keys_begun, memory_order_relaxed);
        if (i < NEW && begun < KEYS)
            number[i] = atomic_fetch_add_explicit(&keys_begun, 1, memory_order_relaxed) % KEYS;
        else
            number[i] = (uint32_t)gw_rand_below(rand, begun < KEYS ? begun + 1 : KEYS);
        key_make(&keys[i], number[i]);
        ops[i].verb = GW_VERB_ADD;
        ops[i].delta = (int64_t)gw_rand_below(rand, 1000) - 300;
        ops[i].key = (const uint8_t *)&keys[i];
        ops[i].key_bytes = 8;
        gw_store_hash(store, &ops[i]);
    }
    for (uint32_t left = BATCH; left != 0;) {
        size_t used;
        gw_store_poll(t);
        gw_store_enter(t);
        CHECK(gw_store_execute(t, ops, left, NULL, 0, &used) == left, "blocked");
        gw_store_exit(t);
        uint32_t kept = 0;
        for (uint32_t i = 0; i < left; i++) {
            if (ops[i].status == GW_RETRY) {
                number[kept] = number[i];
                ops[kept++] = ops[i];
                continue;
            }
            CHECK(ops[i].status == GW_OK, "add: %d", ops[i].status);
            atomic_fetch_add_explicit(&sums[number[i]], ops[i].delta, memory_order_relaxed);
            atomic_store_explicit(&there[number[i]], true, memory_order_release);
            atomic_fetch_add_explicit(&adds, 1, memory_order_relaxed);
        }
        left = kept;
    }
}

static bool see(void *ctx, const struct gw_record_view *view)
{
    uint8_t *seen = ctx;
    uint64_t key;
    CHECK(view->key_bytes == 8, "key");
    memcpy(&key, view->key, 8);
    /* The inverse of the factor in key_make. */
    uint64_t number = key * 0xf1de83e19937733du;
    CHECK(number < KEYS, "a key that nobody made");
    seen[number] |= 2;
    return true;
}

static void walker(struct gw_thread *t, struct gw_rand *rand)
{
    static uint8_t seen[KEYS]; /* 1: was there before, 2: seen */
    uint64_t end = torture_now_ms() + torture_duration_ms();
    uint32_t shifts = 0;
    while (torture_now_ms() < end || atomic_load(&keys_begun) < KEYS) {
        struct gw_cursor cursor = {0};
        for (uint32_t i = 0; i < KEYS; i++)
            seen[i] = atomic_load_explicit(&there[i], memory_order_acquire);
        while (!cursor.done) {
            gw_store_poll(t);
            gw_store_enter(t);
            gw_store_walk(t, &cursor, UINT64_MAX, NULL, false,
                          1 + (uint32_t)gw_rand_below(rand, 64), see, seen);
            gw_store_exit(t);
        }
        for (uint32_t i = 0; i < KEYS; i++)
            CHECK(seen[i] != 1, "key %u was missed", i);
        atomic_fetch_add(&walks, 1);
        struct gw_store_stats stats;
        gw_store_stats(store, &stats);
        if (stats.log_bytes_used < stats.log_bytes_total / 4)
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
        walker(t, &rand);
    else
        while (!atomic_load_explicit(&stop, memory_order_relaxed))
            work(t, &rand);
    gw_store_thread_close(t);
}

int main(void)
{
    CHECK(0x9e3779b97f4a7c15u * 0xf1de83e19937733du == 1, "the inverse");
    struct gw_store_options options = {
        .log_bytes = 128u << 20,
        .index_bytes = 65536,
        .index_bytes_max = 32u << 20,
        .page_bits = 20,
        .hash_seed = 99,
    };
    CHECK(gw_store_open(&options, &store) == GW_OK, "open");
    torture_run(THREADS, body, NULL);
    struct gw_thread *t;
    CHECK(gw_store_thread_open(store, &t) == GW_OK, "thread");
    for (uint32_t i = 0; i < KEYS; i++) {
        uint64_t key;
        size_t used;
        key_make(&key, i);
        struct gw_op op = {.verb = GW_VERB_READ, .key = (const uint8_t *)&key, .key_bytes = 8};
        gw_store_hash(store, &op);
        gw_store_enter(t);
        gw_store_execute(t, &op, 1, NULL, 0, &used);
        gw_store_exit(t);
        CHECK(op.status == (atomic_load(&there[i]) ? GW_OK : GW_NOT_FOUND), "key %u: %d", i,
              op.status);
        CHECK(op.status != GW_OK || op.number == atomic_load(&sums[i]), "key %u: %ld, not %ld", i,
              (long)op.number, (long)atomic_load(&sums[i]));
    }
    struct gw_store_stats stats;
    gw_store_stats(store, &stats);
    printf("%lu adds, %lu walks, %lu splits, %lu buckets, %.1f bytes of index a key\n",
           (unsigned long)atomic_load(&adds), (unsigned long)atomic_load(&walks),
           (unsigned long)stats.index_splits, (unsigned long)stats.index_buckets,
           (double)stats.index_bytes / KEYS);
    CHECK(stats.index_splits > 10 && atomic_load(&walks) > 0, "too little happened");
    CHECK(stats.index_buckets > 512u << 6, "not beyond six doublings");
    gw_store_thread_close(t);
    gw_store_close(store);
    return 0;
}
