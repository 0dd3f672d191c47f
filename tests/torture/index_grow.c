/* Goal: while chunks are frozen, copied and replaced no entry is lost, doubled, undone or
 * overlooked, whatever other threads do to it meanwhile (ENGINE H2, H15). How: rounds on a fresh
 * table of tiny chunks that doubles many times. Each thread has keys of its own, of which it knows
 * the entry exactly: it inserts them, updates them by CAS and looks at them. Keys of all are
 * inserted by everybody at once: exactly one may win. One thread also walks and must meet every
 * entry that was there when it began. */
#include <stdlib.h>
#include <string.h>

#include "index/base/rand.h"
#include "index/table_internal.h"
#include "tests/torture/torture.h"

#define THREADS 4u
#define OWN     2048u /* keys of each thread */
#define SHARED  1000u

struct key {
    uint64_t hash, entry; /* entry: 0 while not there; the owner's alone */
    uint16_t slot;
};

static struct gw_table *table;
static struct gw_epoch *epoch;
static pthread_barrier_t barrier;
static struct key own[THREADS][OWN]; /* the slot names the key: tags do not collide */
static struct key shared[SHARED];
static _Atomic uint32_t winners[SHARED];
static _Atomic uint64_t shared_entry[SHARED];
static _Atomic uint64_t next_address = 1u << 20;
static _Atomic uint64_t begin; /* of a log that there is not: addresses below are dead */
static _Atomic uint32_t stop;
static uint64_t rounds, splits;

static gw_addr new_address(void)
{
    return gw_addr_of(atomic_fetch_add_explicit(&next_address, 16, memory_order_relaxed));
}

static void range(void *ctx, gw_addr *from, gw_addr *reference)
{
    (void)ctx;
    from->v = atomic_load_explicit(&begin, memory_order_acquire);
    reference->v = atomic_load_explicit(&next_address, memory_order_relaxed) + GW_ADDR_LEAD;
}

static uint32_t sides(void *ctx, uint64_t entry, uint32_t shift)
{
    (void)ctx, (void)entry, (void)shift;
    return 3; /* as if all were cold */
}

/* Inserts; a chunk without lines has to grow first. */
static enum gw_status insert(const struct key *k, uint64_t tag, gw_addr at, uint64_t *entry)
{
    _Atomic uint64_t *place;
    enum gw_status st;
    while ((st = gw_table_insert(table, k->hash, tag, at, &place, entry)) == GW_RETRY)
        gw_table_grow(table, epoch, UINT64_MAX, 0, 64);
    return st;
}

static void own_step(struct key *k)
{
    uint64_t tag = gw_table_tag(table, k->hash, k->slot), entry = 0;
    if (k->entry == 0) {
        gw_addr at = new_address();
        CHECK(!gw_table_find(table, k->hash, tag, &entry), "found before it was inserted");
        enum gw_status st = insert(k, tag, at, &k->entry);
        CHECK(st == GW_OK, "insert: %d", st);
        CHECK(gw_entry_narrow(k->entry) == gw_addr_narrow(at), "another entry");
        return;
    }
    uint64_t next = gw_entry_make(tag, new_address());
    for (;;) {
        _Atomic uint64_t *place = gw_table_find(table, k->hash, tag, &entry);
        CHECK(place, "lost");
        CHECK(entry == k->entry, "an update was lost or undone");
        /* Release: as gwi_publish. Fails only because the bucket is being split. */
        if (atomic_compare_exchange_strong_explicit(place, &entry, next, memory_order_release,
                                                    memory_order_relaxed))
            break;
        CHECK(gw_entry_state(entry) == GW_ENTRY_FROZEN, "somebody else has changed it");
    }
    k->entry = next;
}

static void shared_step(uint32_t i)
{
    struct key *k = &shared[i];
    uint64_t tag = gw_table_tag(table, k->hash, k->slot), entry = 0, found;
    enum gw_status st = insert(k, tag, new_address(), &entry);
    CHECK(st == GW_OK || st == GW_EXISTS, "insert: %d", st);
    if (st == GW_OK) {
        atomic_fetch_add_explicit(&winners[i], 1, memory_order_relaxed);
        atomic_store_explicit(&shared_entry[i], entry, memory_order_release);
    }
    CHECK(gw_table_find(table, k->hash, tag, &found), "lost");
    CHECK(found == entry, "two entries");
}

/* Meets every entry that was there when it began. */
static void walk(uint32_t slot)
{
    static uint64_t before[SHARED];
    uint32_t met = 0, wanted = 0;
    for (uint32_t i = 0; i < SHARED; i++)
        wanted += (before[i] = atomic_load_explicit(&shared_entry[i], memory_order_acquire)) != 0;
    static bool seen[SHARED];
    memset(seen, 0, sizeof seen);
    uint64_t hash = 0;
    struct gw_table_chain chain;
    do {
        gw_epoch_enter(epoch, slot);
        do {
            uint64_t e;
            gw_table_chain_open(table, hash, &chain);
            CHECK(chain.first <= hash && hash <= chain.last, "another bucket");
            while (gw_table_chain_next(&chain, &e)) {
                uint32_t i =
                    (uint32_t)gw_entry_slot(e) - THREADS * OWN; /* the slot names the key */
                if (i < SHARED && shared[i].hash >= chain.first && shared[i].hash <= chain.last &&
                    before[i] == e && !seen[i]) {
                    seen[i] = true;
                    met++;
                }
            }
        } while (chain.moved);
        gw_epoch_exit(epoch, slot);
        hash = chain.last + 1;
    } while (hash != 0);
    CHECK(met == wanted, "walked past %u of %u entries", wanted - met, wanted);
}

static void round_open(uint64_t seed)
{
    struct gw_rand rand;
    gw_rand_init(&rand, seed);
    /* 1024 buckets in chunks of 4 to 32; the entry's bits lie above it. In every other round keys
     * crowd in a 64th of the hashes, so that some chunks double beyond six times. */
    struct gw_table_options options = {.bytes = 1 << 18,
                                       .bytes_max = (uint64_t)1 << 30,
                                       .chunk_bits = 2 + (uint32_t)(seed % 4),
                                       .records = {.range = range, .sides = sides}};
    CHECK(gw_epoch_create(THREADS, &epoch) == GW_OK, "epoch");
    CHECK(gw_table_create(&options, &table) == GW_OK, "table");
    uint64_t crowd = seed % 2 ? UINT64_MAX : UINT64_MAX >> 6;
    for (uint32_t t = 0; t < THREADS; t++)
        for (uint32_t i = 0; i < OWN; i++)
            own[t][i] = (struct key){gw_rand_next(&rand) & crowd, 0, (uint16_t)(t * OWN + i)};
    for (uint32_t i = 0; i < SHARED; i++) {
        shared[i] = (struct key){gw_rand_next(&rand) & crowd, 0, (uint16_t)(THREADS * OWN + i)};
        atomic_store(&winners[i], 0);
        atomic_store(&shared_entry[i], 0);
    }
}

static void round_close(void)
{
    for (uint32_t i = 0; i < SHARED; i++)
        CHECK(atomic_load(&winners[i]) == 1, "%u winners", atomic_load(&winners[i]));
    uint64_t live = 0, lines = 0, hash = 0;
    struct gw_table_chain chain;
    do {
        uint64_t e;
        gw_table_chain_open(table, hash, &chain);
        for (struct gw_bucket *b = chain.line;
             (b = gwi_chunk_next_line(chain.word, b, memory_order_acquire));)
            lines++;
        while (gw_table_chain_next(&chain, &e))
            live++;
        hash = chain.last + 1;
    } while (hash != 0);
    CHECK(live >= SHARED + THREADS * OWN, "%lu entries", (unsigned long)live);
    CHECK(lines == gw_table_lines_used(table), "%lu lines linked, %lu used", (unsigned long)lines,
          (unsigned long)gw_table_lines_used(table));
    splits += gw_table_splits(table);
    gw_epoch_destroy(epoch);
    gw_table_destroy(table);
}

static void play(uint32_t number, struct gw_rand *rand)
{
    uint32_t slot, inserted = 0, shared_next = 0;
    CHECK(gw_epoch_join(epoch, true, &slot) == GW_OK, "join");
    while (inserted < OWN || shared_next < SHARED) {
        gw_epoch_poll(epoch);
        gw_epoch_enter(epoch, slot);
        gw_table_grow(table, epoch, UINT64_MAX, 0, 64 * (uint32_t)gw_rand_below(rand, 4));
        gw_epoch_exit(epoch, slot);
        gw_epoch_enter(epoch, slot);
        for (uint32_t i = 0; i < 16 && inserted < OWN; i++)
            own_step(&own[number][inserted++]);
        for (uint32_t i = 0; i < 32; i++)
            own_step(&own[number][gw_rand_below(rand, inserted)]);
        for (uint32_t i = 0; i < 8 && shared_next < SHARED; i++)
            shared_step(shared_next++);
        gw_epoch_exit(epoch, slot);
        if (number == 0 && inserted % 512 == 0)
            walk(slot);
    }
    /* Until nothing is left to do: old chunks must go. */
    while (gw_table_grow_wanted(table) || gw_epoch_waiting(epoch) != 0) {
        gw_epoch_poll(epoch);
        gw_epoch_enter(epoch, slot);
        gw_table_grow(table, epoch, UINT64_MAX, 0, 256);
        gw_epoch_exit(epoch, slot);
    }
    gw_epoch_leave(epoch, slot);
}

static void body(uint32_t number, void *ctx)
{
    uint64_t end = *(uint64_t *)ctx;
    struct gw_rand rand;
    gw_rand_init(&rand, number + 100);
    for (;;) {
        if (number == 0)
            round_open(rounds + 1);
        pthread_barrier_wait(&barrier);
        play(number, &rand);
        pthread_barrier_wait(&barrier);
        if (number == 0) {
            round_close();
            rounds++;
            if (torture_now_ms() > end)
                atomic_store(&stop, 1);
        }
        pthread_barrier_wait(&barrier);
        if (atomic_load(&stop))
            return;
    }
}

int main(void)
{
    pthread_barrier_init(&barrier, NULL, THREADS);
    uint64_t end = torture_now_ms() + torture_duration_ms();
    torture_run(THREADS, body, &end);
    printf("%lu rounds, %lu splits\n", (unsigned long)rounds, (unsigned long)splits);
    CHECK(splits > rounds * 8, "that was no growth");
    return 0;
}
