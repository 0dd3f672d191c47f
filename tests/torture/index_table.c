/* Goal: however many threads insert one tag at the same time, exactly one entry becomes live and
 * all of them learn which (ENGINE H15); no line is lost.
 * How: rounds on one small table; in each round all threads insert the same tags into the same two
 * buckets, in orders of their own, then compare notes. */
#include <string.h>

#include "index/base/rand.h"
#include "index/table_internal.h"
#include "tests/torture/torture.h"

#define THREADS    4u
#define TAGS       40u
#define ROUNDS_MAX 100000u

static struct gw_table *table;
static pthread_barrier_t barrier;
static uint64_t winner[THREADS][TAGS];
static _Atomic uint64_t next_address = 1u << 20;
static _Atomic uint32_t stop;
static uint64_t round_hash, rounds;

static void insert_all(uint32_t number, struct gw_rand *rand)
{
    uint32_t first = (uint32_t)gw_rand_below(rand, TAGS);
    for (uint32_t i = 0; i < TAGS; i++) {
        uint32_t n = (first + i * 7) % TAGS;
        gw_addr at = gw_addr_of(atomic_fetch_add_explicit(&next_address, 16, memory_order_relaxed));
        uint64_t tag = gw_entry_tag((uint16_t)n, n);
        _Atomic uint64_t *place;
        uint64_t entry = 0;
        enum gw_status st;
        do
            st = gw_table_insert(table, round_hash, tag, at, &place, &entry);
        while (st == GW_RETRY);
        CHECK(st == GW_OK || st == GW_EXISTS, "status %d", st);
        CHECK(gw_entry_is_live(entry), "not a live entry");
        CHECK(st == GW_EXISTS || gw_entry_narrow(entry) == gw_addr_narrow(at), "not ours");
        winner[number][n] = entry;
    }
}

static void check_round(void)
{
    uint32_t live = 0;
    for (struct gw_bucket *b = gw_table_bucket(table, round_hash); b;
         b = gw_table_next_line(table, round_hash, b))
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            uint64_t e = atomic_load(&b->word[i]);
            CHECK(e == 0 || gw_entry_is_live(e), "entry %lx was left", (unsigned long)e);
            live += e != 0;
            atomic_store(&b->word[i], 0); /* for the next round */
        }
    CHECK(live == TAGS, "%u live entries for %u tags", live, TAGS);
    for (uint32_t n = 0; n < TAGS; n++)
        for (uint32_t t = 1; t < THREADS; t++)
            CHECK(winner[t][n] == winner[0][n], "threads disagree about tag %u", n);
}

static void body(uint32_t number, void *ctx)
{
    uint64_t end = *(uint64_t *)ctx;
    struct gw_rand rand;
    gw_rand_init(&rand, number + 100);
    for (;;) {
        pthread_barrier_wait(&barrier);
        if (atomic_load(&stop))
            return;
        insert_all(number, &rand);
        pthread_barrier_wait(&barrier);
        if (number == 0) {
            check_round();
            rounds++;
            round_hash = (rounds % 256) << 56; /* the first rounds extend their chains too */
            if (torture_now_ms() > end || rounds >= ROUNDS_MAX)
                atomic_store(&stop, 1);
        }
    }
}

int main(void)
{
    struct gw_table_options options = {.bytes = 1 << 19, .chunk_bits = 7};
    CHECK(gw_table_create(&options, &table) == GW_OK, "create");
    pthread_barrier_init(&barrier, NULL, THREADS);
    uint64_t end = torture_now_ms() + torture_duration_ms();
    torture_run(THREADS, body, &end);
    uint64_t linked = 0;
    for (uint64_t i = 0; i < gw_table_buckets(table); i++) {
        uint64_t hash = i << (64 - 12);
        struct gw_bucket *b = gw_table_bucket(table, hash);
        while ((b = gw_table_next_line(table, hash, b)))
            linked++;
    }
    CHECK(linked == gw_table_lines_used(table), "%lu linked, %lu used", (unsigned long)linked,
          (unsigned long)gw_table_lines_used(table));
    CHECK(gw_table_buckets(table) == 1 << 12, "the loop above fits the table");
    printf("%lu rounds\n", (unsigned long)rounds);
    gw_table_destroy(table);
    return 0;
}
