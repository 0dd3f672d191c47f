/* Goal: the table grows while it is used, and nothing is lost, doubled or undone by it.
 * How: one thread plays all parts by hand, so the order is exact: splits are taken apart into
 * freezing and filling, growth into its steps. Threads are in torture/index_grow, all orders of a
 * small case in model/test_table_split. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/rand.h"
#include "index/table_internal.h"

#define PLENTY UINT64_MAX

struct fixture {
    struct gw_table *table;
    struct gw_epoch *epoch;
    uint32_t slot;
    gw_addr begin;
    uint64_t next; /* address */
    uint32_t asked, sides;
};

static void range(void *ctx, gw_addr *begin, gw_addr *reference)
{
    struct fixture *f = ctx;
    *begin = f->begin;
    reference->v = f->next + GW_ADDR_LEAD;
}

static uint32_t sides(void *ctx, uint64_t entry, uint32_t shift)
{
    struct fixture *f = ctx;
    (void)entry, (void)shift;
    f->asked++;
    return f->sides;
}

static void open_table(struct fixture *f, uint64_t bytes, uint64_t bytes_max, uint32_t chunk_bits)
{
    *f = (struct fixture){.next = 1 << 20, .sides = 3};
    cr_assert_eq(gw_epoch_create(4, &f->epoch), GW_OK);
    cr_assert_eq(gw_epoch_join(f->epoch, true, &f->slot), GW_OK);
    struct gw_table_options options = {
        .bytes = bytes,
        .bytes_max = bytes_max,
        .chunk_bits = chunk_bits,
        .records = {.ctx = f, .range = range, .sides = sides},
    };
    cr_assert_eq(gw_table_create(&options, &f->table), GW_OK);
}

static void close_table(struct fixture *f)
{
    gw_epoch_leave(f->epoch, f->slot);
    gw_epoch_destroy(f->epoch);
    gw_table_destroy(f->table);
}

/* One turn of a thread: what is due, and a piece of growth. */
static uint64_t turn_refused(struct fixture *f, uint64_t room, uint64_t refused, uint32_t budget)
{
    gw_epoch_poll(f->epoch);
    gw_epoch_enter(f->epoch, f->slot);
    gw_table_grow(f->table, f->epoch, room, refused, budget);
    gw_epoch_exit(f->epoch, f->slot);
    return gw_table_lacks(f->table);
}

static uint64_t turn(struct fixture *f, uint64_t room, uint32_t budget)
{
    return turn_refused(f, room, UINT64_MAX, budget);
}

static void grow_all(struct fixture *f)
{
    for (uint32_t i = 0; gw_table_grow_wanted(f->table) || gw_epoch_waiting(f->epoch) != 0; i++) {
        cr_assert_lt(i, 1000000, "growth does not end");
        turn(f, PLENTY, 64);
    }
}

static enum gw_status insert(struct fixture *f, uint64_t hash, uint16_t slot, uint64_t *entry)
{
    _Atomic uint64_t *place;
    f->next += 16;
    return gw_table_insert(f->table, hash, gw_table_tag(f->table, hash, slot), gw_addr_of(f->next),
                           &place, entry);
}

static _Atomic uint64_t *find(struct fixture *f, uint64_t hash, uint16_t slot, uint64_t *entry)
{
    return gw_table_find(f->table, hash, gw_table_tag(f->table, hash, slot), entry);
}

/* Makes the chunk want to grow by taking lines from its arena, and brings it as far as splitting.
 */
static struct gwi_growth *begin_growth(struct fixture *f, uint64_t hash)
{
    uint64_t word = gwi_table_word(f->table, hash);
    struct gwi_arena *arena = gwi_chunk_arena(word);
    while (atomic_load(&arena->used) <= arena->lines_grow)
        cr_assert_neq(gwi_line_take(f->table, word, true), 0);
    for (int i = 0; !atomic_load(&f->table->grow->splitting); i++) {
        cr_assert_lt(i, 10000);
        turn(f, PLENTY, 0); /* one piece */
    }
    word = gwi_table_word(f->table, hash);
    cr_assert(gwi_chunk_grows(word));
    return gwi_growth_of(word);
}

static struct gw_bucket *old_bucket(const struct fixture *f, const struct gwi_growth *g,
                                    uint64_t hash)
{
    return gwi_chunk_bucket(g->old_word, f->table->directory_bits, hash);
}
static struct gw_bucket *new_bucket(const struct fixture *f, const struct gwi_growth *g,
                                    uint64_t hash)
{
    return gwi_chunk_bucket(g->new_word, f->table->directory_bits, hash);
}

/* A table of one chunk with 512 buckets: hash bits 63-55 are the bucket, 54-49 those of the entry.
 */
#define ONE_CHUNK         65536, 1 << 30, 9
#define HASH(bucket, six) ((uint64_t)(bucket) << 55 | (uint64_t)(six) << 49 | 12345)

/* ---- H1: splitting reads no record ---- */

Test(holes, h1_six_doublings_read_no_record)
{
    struct fixture f;
    open_table(&f, ONE_CHUNK);
    uint64_t entry, start = gw_table_buckets(f.table);
    for (uint32_t six = 0; six < 64; six++)
        cr_assert_eq(insert(&f, HASH(100, six), 7, &entry), GW_OK);
    for (uint32_t doubling = 1; doubling <= 6; doubling++) {
        begin_growth(&f, HASH(100, 0));
        grow_all(&f);
        cr_assert_eq(gw_table_buckets(f.table), start << doubling);
        cr_expect_eq(f.asked, 0, "doubling %u asked for records", doubling);
        for (uint32_t six = 0; six < 64; six++) {
            struct gw_table_chain chain;
            uint32_t count = 0;
            gw_table_chain_open(f.table, HASH(100, six), &chain);
            while (gw_table_chain_next(&chain, &entry))
                count++;
            cr_expect_eq(count, 64u >> doubling, "an entry is in one child");
            cr_expect(find(&f, HASH(100, six), 7, &entry));
        }
    }
    /* The seventh must ask, and has one entry for each bucket. */
    begin_growth(&f, HASH(100, 0));
    grow_all(&f);
    cr_expect_geq(f.asked, 64);
    close_table(&f);
}

Test(holes, h1_beyond_six_doublings_records_tell_and_cold_ones_go_to_both)
{
    static const uint64_t low = HASH(3, 9), high = HASH(3, 9) | (uint64_t)1 << 48;
    for (uint32_t side = 1; side <= 3; side++) {
        struct fixture f;
        uint64_t entry;
        open_table(&f, ONE_CHUNK);
        for (int i = 0; i < 6; i++) {
            begin_growth(&f, low);
            grow_all(&f);
        }
        cr_assert_eq(insert(&f, low, 7, &entry), GW_OK);
        f.sides = side;
        begin_growth(&f, low);
        grow_all(&f);
        cr_expect_eq(find(&f, low, 7, &entry) != NULL, (side & 1) != 0);
        cr_expect_eq(find(&f, high, 7, &entry) != NULL, (side & 2) != 0);
        struct gw_table_chain chain;
        gw_table_chain_open(f.table, high, &chain);
        cr_expect(chain.first <= high && high <= chain.last && chain.first > low,
                  "the bucket says whose keys it is asked about");
        close_table(&f);
    }
}

/* Lines that a chain needs are in the right child, in any number. */
Test(table_grow, long_chains_are_split_too)
{
    struct fixture f;
    uint64_t entry;
    open_table(&f, ONE_CHUNK);
    for (uint16_t slot = 0; slot < 40; slot++)
        for (uint32_t six = 0; six < 64; six += 32 + slot % 2) /* more low ones than high ones */
            cr_assert_eq(insert(&f, HASH(5, six), slot, &entry), GW_OK);
    cr_assert_eq(insert(&f, HASH(6, 0), 1, &entry), GW_OK);
    begin_growth(&f, HASH(5, 0));
    grow_all(&f);
    uint32_t seen = 0;
    for (uint16_t slot = 0; slot < 40; slot++)
        for (uint32_t six = 0; six < 64; six += 32 + slot % 2, seen++)
            cr_expect(find(&f, HASH(5, six), slot, &entry));
    for (uint32_t six = 0; six < 64; six += 32) {
        struct gw_table_chain chain;
        gw_table_chain_open(f.table, HASH(5, six), &chain);
        while (gw_table_chain_next(&chain, &entry)) {
            seen--;
            cr_expect_eq(gw_entry_hash_bits(entry) >> 5, six >> 5);
        }
    }
    cr_expect_eq(seen, 0, "as many entries as before");
    cr_expect_null(find(&f, HASH(7, 0), 1, &entry));
    close_table(&f);
}

/* ---- H2: late changes ---- */

Test(holes, h2_a_late_cas_in_an_old_bucket_fails_and_finds_the_child)
{
    struct fixture f;
    uint64_t entry, now, hash = HASH(9, 40);
    open_table(&f, ONE_CHUNK);
    cr_assert_eq(insert(&f, hash, 7, &entry), GW_OK);
    struct gwi_growth *g = begin_growth(&f, hash);
    _Atomic uint64_t *place = find(&f, hash, 7, &entry);
    cr_assert_not_null(place);
    cr_assert_eq((void *)((uintptr_t)place & ~(uintptr_t)63), old_bucket(&f, g, hash));
    uint64_t update = gw_entry_make(entry >> GW_ENTRY_TAG_SHIFT, gw_addr_of(f.next += 16));

    gwi_split_freeze(f.table, g, old_bucket(&f, g, hash));
    uint64_t expected = entry;
    cr_expect_not(atomic_compare_exchange_strong(place, &expected, update), "it would be lost");

    place = find(&f, hash, 7, &now); /* helps, since the bucket is frozen */
    cr_assert_not_null(place);
    cr_expect_eq((void *)((uintptr_t)place & ~(uintptr_t)63), new_bucket(&f, g, hash));
    cr_expect_eq(now, entry);
    cr_expect(atomic_compare_exchange_strong(place, &now, update));

    /* A helper that comes late undoes nothing. */
    gwi_split_fill(f.table, g, old_bucket(&f, g, hash), 1, new_bucket(&f, g, hash));
    gwi_split_bucket(f.table, g, 9);
    grow_all(&f);
    cr_assert_not_null(find(&f, hash, 7, &now));
    cr_expect_eq(now, update);
    close_table(&f);
}

Test(holes, h2_a_helper_that_was_half_way_undoes_no_update)
{
    struct fixture f;
    uint64_t entry, hash = HASH(9, 40);
    open_table(&f, ONE_CHUNK);
    for (uint16_t slot = 0; slot < 20; slot++) /* overflow lines too */
        cr_assert_eq(insert(&f, hash, slot, &entry), GW_OK);
    struct gwi_growth *g = begin_growth(&f, hash);
    gwi_split_bucket(f.table, g, 9);
    uint64_t updated[20], lines = gw_table_lines_used(f.table);
    for (uint16_t slot = 0; slot < 20; slot++) {
        _Atomic uint64_t *place = find(&f, hash, slot, &entry);
        updated[slot] = gw_entry_make(entry >> GW_ENTRY_TAG_SHIFT, gw_addr_of(f.next += 16));
        atomic_store(place, updated[slot]);
    }
    /* Another helper has seen the children unwritten, and goes on only now. Without its first look
     * it fills all, lines included. */
    struct gw_bucket *child = new_bucket(&f, g, hash);
    uint64_t eighth = atomic_load(&child->word[GW_BUCKET_OVERFLOW]);
    cr_assert_neq(eighth, 0);
    atomic_store(&child->word[GW_BUCKET_OVERFLOW], GWI_NEVER_WRITTEN);
    struct gwi_growth other = *g;
    gwi_split_fill(f.table, &other, old_bucket(&f, g, hash), 1, child);
    uint64_t its = atomic_exchange(&child->word[GW_BUCKET_OVERFLOW], eighth);
    for (uint32_t line = (uint32_t)its; line != 0;) { /* it took that for its own: give back */
        uint32_t next =
            (uint32_t)atomic_load(&gwi_chunk_line(g->new_word, line)->word[GW_BUCKET_OVERFLOW]);
        gwi_line_give_back(f.table, g->new_word, line);
        line = next;
    }
    for (uint16_t slot = 0; slot < 20; slot++) {
        cr_assert_not_null(find(&f, hash, slot, &entry));
        cr_expect_eq(entry, updated[slot], "slot %u", slot);
    }
    cr_expect_eq(gw_table_lines_used(f.table), lines, "no line is lost");
    close_table(&f);
}

Test(holes, h2_a_tentative_entry_is_frozen_as_empty)
{
    struct fixture f;
    uint64_t entry, found, hash = HASH(9, 40);
    open_table(&f, ONE_CHUNK);
    struct gwi_growth *g = begin_growth(&f, hash);
    uint64_t tag = gw_table_tag(f.table, hash, 7);
    _Atomic uint64_t *place;
    cr_assert_eq(gwi_table_place(f.table, hash, tag, gw_addr_of(4096), &place, &entry), GW_OK);
    gwi_split_freeze(f.table, g, old_bucket(&f, g, hash));
    cr_expect_eq(atomic_load(place), GWI_ENTRY_FROZEN);
    cr_expect_eq(gwi_table_confirm(f.table, hash, &place, &entry), GW_RETRY);
    cr_expect_null(find(&f, hash, 7, &found));
    cr_expect_eq(gw_table_insert(f.table, hash, tag, gw_addr_of(4096), &place, &entry), GW_OK);
    cr_expect_eq((void *)((uintptr_t)place & ~(uintptr_t)63), new_bucket(&f, g, hash));
    /* And with the split between the second scan's start and its end all the same. */
    uint64_t other = HASH(10, 40);
    tag = gw_table_tag(f.table, other, 7);
    cr_assert_eq(gwi_table_place(f.table, other, tag, gw_addr_of(4096), &place, &entry), GW_OK);
    gwi_split_bucket(f.table, g, 10);
    cr_expect_eq(gwi_table_confirm(f.table, other, &place, &entry), GW_RETRY);
    grow_all(&f);
    cr_expect_null(find(&f, other, 7, &found));
    close_table(&f);
}

Test(holes, h2_nobody_says_absent_of_a_frozen_bucket)
{
    struct fixture f;
    uint64_t entry, hash = HASH(9, 40), absent = HASH(9, 41);
    open_table(&f, ONE_CHUNK);
    cr_assert_eq(insert(&f, hash, 7, &entry), GW_OK);
    struct gwi_growth *g = begin_growth(&f, hash);
    struct gw_bucket *old = old_bucket(&f, g, hash);
    /* The first helper got as far as one word. */
    atomic_fetch_or(&old->word[GW_BUCKET_OVERFLOW], (uint64_t)GWI_SPLITTING << GWI_SPLIT_SHIFT);
    atomic_fetch_or(&old->word[0], GWI_ENTRY_FROZEN);
    cr_assert_not_null(find(&f, hash, 7, &entry), "its only copy is frozen");
    cr_expect_eq(gw_entry_state(entry), GW_ENTRY_LIVE);
    cr_expect_null(find(&f, absent, 7, &entry));
    cr_expect_neq(atomic_load(&new_bucket(&f, g, hash)->word[GW_BUCKET_OVERFLOW]),
                  GWI_NEVER_WRITTEN, "the reader has finished the split");
    close_table(&f);
}

/* The same for who read the directory before the chunk began to grow. */
struct late {
    struct gw_table table;
    _Atomic uint64_t directory, growing;
};

static void *publish_late(void *arg)
{
    struct late *late = arg;
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    atomic_store(&late->directory, atomic_load(&late->growing));
    return NULL;
}

Test(holes, h2_who_was_on_the_way_to_a_bucket_when_it_was_frozen_does_not_say_absent)
{
    struct fixture f;
    uint64_t entry, hash = HASH(9, 40);
    open_table(&f, ONE_CHUNK);
    cr_assert_eq(insert(&f, hash, 7, &entry), GW_OK);
    struct late late = {.table = *f.table};
    late.directory = gwi_table_word(f.table, hash);
    struct gwi_growth *g = begin_growth(&f, hash);
    late.growing = gwi_table_word(f.table, hash);
    late.table.directory = &late.directory;
    gwi_split_freeze(f.table, g, old_bucket(&f, g, hash));
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, publish_late, &late), 0);
    cr_expect(gw_table_find(&late.table, hash, gw_table_tag(f.table, hash, 7), &entry));
    pthread_join(thread, NULL);
    close_table(&f);
}

Test(holes, h2_one_scan_sees_the_tag_and_what_has_moved)
{
    for (uint32_t at = 0; at < GW_BUCKET_ENTRIES; at++) {
        struct gw_bucket bucket;
        uint64_t entry, tag = 5u << 8 | 63u << 2;
        memset(&bucket, 0, sizeof bucket);
        for (uint32_t state = 0; state < 4; state++) {
            uint64_t word = gw_entry_make(tag, gw_addr_of(4096));
            word |= (uint64_t)state << GW_ENTRY_STATE_SHIFT;
            atomic_store(&bucket.word[at], state == 3 ? GWI_NEVER_WRITTEN : word);
            bool moved = false;
            _Atomic uint64_t *place = gwi_bucket_find(&bucket, tag, &entry, &moved);
            cr_expect_eq(place, state == GW_ENTRY_LIVE ? &bucket.word[at] : NULL);
            cr_expect_eq(moved, state >= GW_ENTRY_FROZEN);
        }
    }
}

Test(holes, h2_an_old_bucket_gets_no_new_line)
{
    struct fixture f;
    uint64_t entry, hash = HASH(9, 40);
    open_table(&f, ONE_CHUNK);
    for (uint16_t slot = 0; slot < 7; slot++)
        cr_assert_eq(insert(&f, hash, slot, &entry), GW_OK);
    struct gwi_growth *g = begin_growth(&f, hash);
    struct gw_bucket *old = old_bucket(&f, g, hash);
    gwi_split_freeze(f.table, g, old);
    cr_assert_eq(insert(&f, hash, 7, &entry), GW_OK);
    cr_expect_eq((uint32_t)atomic_load(&old->word[GW_BUCKET_OVERFLOW]), 0);
    for (uint16_t slot = 0; slot < 8; slot++)
        cr_expect(find(&f, hash, slot, &entry));
    close_table(&f);
}

/* Where entries go is settled once, although the log's begin moves between two helpers. */
Test(holes, h2_helpers_that_see_another_begin_copy_the_same)
{
    struct fixture f;
    uint64_t first, second, entry;
    open_table(&f, ONE_CHUNK);
    cr_assert_eq(insert(&f, HASH(9, 0), 1, &first), GW_OK);
    cr_assert_eq(insert(&f, HASH(9, 0), 2, &second), GW_OK);
    struct gwi_growth *g = begin_growth(&f, HASH(9, 0));
    struct gw_bucket *old = old_bucket(&f, g, HASH(9, 0));
    gwi_split_freeze(f.table, g, old); /* both live */
    f.begin = gw_addr_of(f.next);      /* now the first is dead */
    gwi_split_bucket(f.table, g, 9);
    struct gw_bucket *child = new_bucket(&f, g, HASH(9, 0));
    cr_expect_eq(atomic_load(&child->word[0]), first);
    cr_expect_eq(atomic_load(&child->word[1]), second);
    (void)entry;
    close_table(&f);
}

/* ---- H15: the end of an entry ---- */

Test(holes, h15_a_split_drops_what_is_below_begin)
{
    struct fixture f;
    uint64_t entry;
    open_table(&f, ONE_CHUNK);
    for (uint16_t slot = 0; slot < 30; slot++) {
        if (slot == 20)
            f.begin = gw_addr_of(f.next + 16);
        cr_assert_eq(insert(&f, HASH(9, 40), slot, &entry), GW_OK);
    }
    begin_growth(&f, HASH(9, 40));
    grow_all(&f);
    for (uint16_t slot = 0; slot < 30; slot++)
        cr_expect_eq(find(&f, HASH(9, 40), slot, &entry) != NULL, slot >= 20, "slot %u", slot);
    close_table(&f);
}

Test(holes, h15_an_insertion_takes_the_place_of_a_dead_entry_before_a_line)
{
    struct fixture f;
    uint64_t dead, entry, hash = HASH(9, 40);
    open_table(&f, ONE_CHUNK);
    for (uint16_t slot = 0; slot < 7; slot++)
        cr_assert_eq(insert(&f, hash, slot, &entry), GW_OK);
    _Atomic uint64_t *place = find(&f, hash, 3, &dead);
    f.begin = gw_addr_of(f.next + 16);
    for (uint16_t slot = 10; slot < 17; slot++)
        cr_assert_eq(insert(&f, hash, slot, &entry), GW_OK);
    cr_expect_eq(gw_table_lines_used(f.table), 0);
    /* Who found the dead entry before it went fails to publish upon it. */
    uint64_t expected = dead;
    cr_expect_not(atomic_compare_exchange_strong(place, &expected, dead + 1));
    cr_expect_null(find(&f, hash, 3, &entry));
    cr_assert_eq(insert(&f, hash, 17, &entry), GW_OK, "now all are live");
    cr_expect_eq(gw_table_lines_used(f.table), 1);
    close_table(&f);
}

/* ---- what it costs ---- */

Test(holes, h1_bytes_a_key_stay_at_sixteen_as_a_mean_over_staggered_growth)
{
    struct fixture f;
    struct gw_rand rand;
    gw_rand_init(&rand, 5);
    open_table(&f, 1 << 20, 1 << 30, 0);
    cr_assert_geq(f.table->directory_bits, 4, "enough chunks to spread");
    uint64_t keys = 0, entry, samples = 0;
    double sum = 0, worst = 0;
    /* From 400 thousand keys on, when the chunks are large enough for pages of 4 KiB not to count,
     * over two octaves, evenly in the logarithm. */
    for (uint64_t next = 400000; keys < 1600000; keys++) {
        while (insert(&f, gw_rand_next(&rand), (uint16_t)(gw_rand_next(&rand) & 16383), &entry) !=
               GW_OK) {}
        if (keys % 64 == 0)
            turn(&f, PLENTY, 512);
        if (keys >= next) {
            double bytes = (double)gw_table_memory_bytes(f.table) / (double)keys;
            sum += bytes;
            worst = bytes > worst ? bytes : worst;
            samples++;
            next += next / 32;
        }
    }
    double mean = sum / (double)samples;
    printf("%.2f bytes a key, at most %.2f, %lu splits\n", mean, worst,
           (unsigned long)gw_table_splits(f.table));
    cr_expect_leq(mean, 16.0);
    cr_expect_geq(mean, 12.0, "then something is not counted");
    cr_expect_leq(worst, 18.0, "no octave edge");
    close_table(&f);
}

Test(table_grow, thresholds_cover_the_octave_evenly)
{
    for (uint32_t bits = 0; bits <= GW_DIRECTORY_BITS_MAX; bits++) {
        uint32_t lowest = UINT32_MAX, highest = 0;
        for (uint64_t chunk = 0; chunk < (uint64_t)1 << bits; chunk++) {
            uint32_t threshold = gw_table_threshold(chunk, bits);
            lowest = threshold < lowest ? threshold : lowest;
            highest = threshold > highest ? threshold : highest;
        }
        cr_expect(lowest >= 134 && highest <= 864);
        if (bits >= 4)
            cr_expect(lowest < 150 && highest > 830);
    }
    /* Neighbours are half an octave apart. */
    cr_expect_gt(gw_table_threshold(1, 4), 2 * gw_table_threshold(0, 4));
}

/* ---- bounds ---- */

Test(table_grow, no_more_memory_than_allowed_and_then_full)
{
    struct fixture f;
    struct gw_rand rand;
    gw_rand_init(&rand, 6);
    open_table(&f, 1 << 20, 3 << 20, 0);
    uint64_t entry, most = 0, keys = 0;
    enum gw_status st;
    while ((st = insert(&f, gw_rand_next(&rand), (uint16_t)(gw_rand_next(&rand) & 16383),
                        &entry)) == GW_OK ||
           st == GW_EXISTS) {
        if (++keys % 64 == 0)
            turn(&f, PLENTY, 512);
        uint64_t bytes = gw_table_memory_bytes(f.table);
        most = bytes > most ? bytes : most;
    }
    cr_expect_eq(st, GW_E_FULL);
    cr_expect_leq(most, 3 << 20);
    cr_expect_gt(most, 5 << 19, "it used what it may have: %lu", (unsigned long)most);
    cr_expect_gt(gw_table_splits(f.table), 8);
    cr_expect_gt(keys, (3u << 20) / 16);
    close_table(&f);
}

Test(table_grow, without_a_larger_bound_it_does_not_grow)
{
    struct fixture f;
    struct gw_rand rand;
    gw_rand_init(&rand, 7);
    open_table(&f, 1 << 20, 0, 0);
    uint64_t entry, buckets = gw_table_buckets(f.table);
    enum gw_status st = GW_OK;
    for (uint64_t keys = 0; st != GW_E_FULL; keys++) {
        st = insert(&f, gw_rand_next(&rand), (uint16_t)(gw_rand_next(&rand) & 16383), &entry);
        if (keys % 64 == 0)
            cr_assert_eq(turn(&f, PLENTY, 512), 0, "it asks for nothing");
    }
    cr_expect_eq(gw_table_buckets(f.table), buckets);
    cr_expect_leq(gw_table_memory_bytes(f.table), 1 << 20);
    close_table(&f);
}

Test(table_grow, what_the_next_step_lacks_is_said_and_then_taken)
{
    struct fixture f;
    open_table(&f, 1 << 20, 1 << 30, 12);
    uint64_t word = gwi_table_word(f.table, 0);
    struct gwi_arena *arena = gwi_chunk_arena(word);
    while (atomic_load(&arena->used) <= arena->lines_grow)
        cr_assert_neq(gwi_line_take(f.table, word, true), 0);
    uint64_t before = gw_table_memory_bytes(f.table), chunk = gwi_chunk_bytes(word);
    uint64_t want = (64u << 13) + 4096;
    for (int i = 0; i < 3; i++)
        cr_expect_eq(turn(&f, want - 1, 512), want);
    cr_expect_eq(gw_table_memory_bytes(f.table), before);
    cr_expect_eq(turn(&f, want, 512), 0);
    cr_expect_eq(gw_table_memory_bytes(f.table), before + want, "both are there for a while");
    grow_all(&f);
    cr_expect_eq(gw_table_memory_bytes(f.table), before + want - chunk);
    cr_expect_eq(gw_table_splits(f.table), 1);
    close_table(&f);
}

static void nothing(void *arg)
{
    (void)arg;
}

Test(table_grow, an_old_chunk_waits_for_the_epoch_and_for_room_among_the_triggers)
{
    struct fixture f;
    uint32_t other;
    uint64_t entry, hash = HASH(9, 40);
    open_table(&f, ONE_CHUNK);
    cr_assert_eq(gw_epoch_join(f.epoch, true, &other), GW_OK);
    cr_assert_eq(insert(&f, hash, 7, &entry), GW_OK);
    struct gwi_growth *g = begin_growth(&f, hash);
    uint64_t both = gw_table_memory_bytes(f.table);
    gw_epoch_enter(f.epoch, other); /* somebody reads the old bucket */
    struct gw_bucket *old = old_bucket(&f, g, hash);
    while (gw_epoch_defer(f.epoch, nothing, NULL) == GW_OK) {}
    for (int i = 0; i < 50; i++)
        turn(&f, PLENTY, 64);
    cr_expect_eq(gw_table_splits(f.table), 1, "growth itself waits for nobody");
    cr_expect_eq(gw_table_memory_bytes(f.table), both);
    cr_expect_eq(atomic_load(&old->word[0]), entry | GWI_ENTRY_FROZEN, "mapped, frozen");
    gw_epoch_exit(f.epoch, other);
    grow_all(&f);
    cr_expect_lt(gw_table_memory_bytes(f.table), both);
    gw_epoch_leave(f.epoch, other);
    close_table(&f);
}

Test(table_grow, a_table_is_destroyed_in_the_middle_of_growth)
{
    for (int turns = 0; turns < 12; turns++) {
        struct fixture f;
        open_table(&f, ONE_CHUNK);
        uint64_t word = gwi_table_word(f.table, 0);
        struct gwi_arena *arena = gwi_chunk_arena(word);
        while (atomic_load(&arena->used) <= arena->lines_grow)
            cr_assert_neq(gwi_line_take(f.table, word, true), 0);
        for (int i = 0; i < turns; i++)
            turn(&f, PLENTY, 0);
        close_table(&f);
    }
}

/* ---- against a plain map ---- */

#define MODEL_KEYS 6000u

struct model_key {
    uint64_t hash, entry; /* 0: not there */
    uint16_t slot;
    bool seen;
};

/* A walk over all buckets from hash 0 on, in steps, as store_walk.c does it. */
static void walk_some(struct fixture *f, uint64_t *hash, bool *done, struct model_key *keys,
                      uint32_t buckets)
{
    for (uint32_t n = 0; n < buckets && !*done; n++) {
        struct gw_table_chain chain;
        do {
            uint64_t e;
            gw_table_chain_open(f->table, *hash, &chain);
            while (gw_table_chain_next(&chain, &e))
                for (uint32_t i = 0; i < MODEL_KEYS; i++)
                    if (keys[i].entry == e && keys[i].hash >= chain.first &&
                        keys[i].hash <= chain.last)
                        keys[i].seen = true;
        } while (chain.moved);
        *done = chain.last == UINT64_MAX;
        *hash = chain.last + 1;
    }
}

Test(table_grow, content_and_walks_equal_a_map_while_it_grows)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct fixture f;
        struct gw_rand rand;
        gw_rand_init(&rand, seed);
        open_table(&f, 65536, 1 << 26, 3 + (uint32_t)seed); /* 16 to 64 buckets a chunk at first */
        struct model_key *keys = calloc(MODEL_KEYS, sizeof *keys);
        for (uint32_t i = 0; i < MODEL_KEYS; i++) {
            keys[i].hash = gw_rand_next(&rand);
            keys[i].slot = (uint16_t)i; /* tags do not collide */
        }
        uint64_t cursor = 0;
        bool done = false;
        for (uint32_t n = 0; n < 60000; n++) {
            uint32_t among = n / 8 + 1 < MODEL_KEYS ? n / 8 + 1 : MODEL_KEYS;
            struct model_key *k = &keys[gw_rand_below(&rand, among)];
            uint64_t entry = 0;
            _Atomic uint64_t *place = find(&f, k->hash, k->slot, &entry);
            cr_assert_eq(place != NULL, k->entry != 0, "seed %lu, step %u", seed, n);
            cr_assert_eq(entry, k->entry);
            if (!place) {
                cr_assert_eq(insert(&f, k->hash, k->slot, &k->entry), GW_OK);
                k->seen = true; /* was not there all the time */
            } else if (gw_rand_below(&rand, 8) == 0) {
                atomic_store(place, 0); /* as an unlink does */
                k->entry = 0;
                k->seen = true;
            } else {
                k->entry = gw_entry_make(entry >> GW_ENTRY_TAG_SHIFT, gw_addr_of(f.next += 16));
                atomic_store(place, k->entry);
            }
            if (n % 16 == 0)
                turn(&f, PLENTY, 64);
            if (n % 64 == 0)
                walk_some(&f, &cursor, &done, keys, 4);
            if (done) {
                for (uint32_t i = 0; i < MODEL_KEYS; i++) {
                    cr_assert(keys[i].seen || keys[i].entry == 0, "key %u was not visited", i);
                    keys[i].seen = false;
                }
                cursor = 0;
                done = false;
            }
        }
        cr_expect_gt(gw_table_splits(f.table), 7);
        grow_all(&f);
        for (uint32_t i = 0; i < MODEL_KEYS; i++) {
            uint64_t entry = 0;
            find(&f, keys[i].hash, keys[i].slot, &entry);
            cr_assert_eq(entry, keys[i].entry);
        }
        free(keys);
        close_table(&f);
    }
}
