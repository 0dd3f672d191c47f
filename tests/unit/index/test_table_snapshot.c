/* Goal: what a table's stream says is what the table had, also when it grows while it is written,
 * and when it is loaded into a finer one; what is no such stream is refused.
 * How: random entries, one thread by hand; growth happens between two steps of the writer. Whole
 * stores: test_store_recover.c; threads: torture/index_snapshot.c. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/rand.h"
#include "index/table_internal.h"
#include "index/table_snapshot.h"

#define KEYS_MAX 40000u

struct key {
    uint64_t hash;
    uint16_t slot;
    uint64_t address;
};

struct fixture {
    struct gw_table *table;
    struct gw_epoch *epoch;
    uint32_t slot;
    uint64_t next; /* address */
    struct gw_rand rand;
    struct key *key;
    uint32_t keys;
};

static void range(void *ctx, gw_addr *begin, gw_addr *reference)
{
    begin->v = 0;
    reference->v = ((struct fixture *)ctx)->next + GW_ADDR_LEAD;
}

static const struct gw_table_options options = {.bytes = 1 << 16,
                                                .bytes_max = 64 << 20,
                                                .chunk_bits = 5};

static void fixture_open(struct fixture *f)
{
    *f = (struct fixture){.next = 1 << 20, .key = calloc(KEYS_MAX, sizeof(struct key))};
    gw_rand_init(&f->rand, 7);
    struct gw_table_options o = options;
    o.records = (struct gw_table_records){.ctx = f, .range = range};
    cr_assert_eq(gw_epoch_create(4, &f->epoch), GW_OK);
    cr_assert_eq(gw_epoch_join(f->epoch, true, &f->slot), GW_OK);
    cr_assert_eq(gw_table_create(&o, &f->table), GW_OK);
}

static void fixture_close(struct fixture *f)
{
    gw_epoch_leave(f->epoch, f->slot);
    gw_epoch_destroy(f->epoch);
    gw_table_destroy(f->table);
    free(f->key);
}

static void grow(struct fixture *f)
{
    for (int i = 0; i < 1000 && gw_table_grow_wanted(f->table); i++) {
        gw_epoch_enter(f->epoch, f->slot);
        gw_table_grow(f->table, f->epoch, UINT64_MAX, 0, 512);
        gw_epoch_exit(f->epoch, f->slot);
        gw_epoch_poll(f->epoch);
    }
}

/* Keys as they come: two of one tag share an entry, whose address is the higher one's. */
static void add(struct fixture *f, uint32_t count, bool growing)
{
    while (count-- > 0) {
        struct key *k = &f->key[f->keys++];
        *k = (struct key){gw_rand_next(&f->rand), (uint16_t)gw_rand_below(&f->rand, 16384),
                          f->next += 64};
        _Atomic uint64_t *place;
        uint64_t e;
        enum gw_status st = GW_RETRY;
        while (st == GW_RETRY) {
            gw_epoch_enter(f->epoch, f->slot);
            st = gw_table_insert(f->table, k->hash, gw_table_tag(f->table, k->hash, k->slot),
                                 gw_addr_of(k->address), &place, &e);
            gw_epoch_exit(f->epoch, f->slot);
            if (st == GW_RETRY)
                grow(f);
        }
        if (st == GW_EXISTS)
            f->keys--;
        else
            cr_assert_eq(st, GW_OK);
        if (growing)
            grow(f);
    }
}

struct stream {
    uint64_t *word;
    uint64_t count;
};

/* `between`: keys that come after each piece of it. */
static struct stream write_all(struct fixture *f, uint32_t buckets, uint32_t between)
{
    struct gwi_table_writer w;
    struct stream s = {malloc(64 << 20), 0};
    gwi_table_writer_init(&w, f->table);
    while (!w.done || w.count != w.taken) {
        gw_epoch_enter(f->epoch, f->slot);
        cr_assert_eq(gwi_table_writer_step(&w, buckets), GW_OK);
        gw_epoch_exit(f->epoch, f->slot);
        s.count += gwi_table_writer_take(&w, s.word + s.count, 100);
        if (between && f->keys + between < KEYS_MAX && !w.done)
            add(f, between, true);
    }
    gwi_table_writer_fini(&w);
    return s;
}

static enum gw_status load(const struct stream *s, const struct gwi_table_shape *shape,
                           struct gw_table **out, uint64_t *loaded)
{
    struct gwi_table_loader l;
    cr_assert_eq(gwi_table_create_shaped(&options, shape, out), GW_OK);
    gwi_table_loader_init(&l, *out);
    enum gw_status st = GW_OK;
    for (uint64_t at = 0; at < s->count && st == GW_OK; at += 77)
        st = gwi_table_loader_put(&l, s->word + at,
                                  (uint32_t)(s->count - at < 77 ? s->count - at : 77));
    if (st == GW_OK)
        st = gwi_table_loader_end(&l);
    if (loaded)
        *loaded = l.loaded;
    return st;
}

/* The first `keys` of the fixture are in the table with their addresses. */
static void check(struct fixture *f, const struct gw_table *table, uint32_t keys)
{
    for (uint32_t i = 0; i < keys; i++) {
        const struct key *k = &f->key[i];
        uint64_t e;
        _Atomic uint64_t *place =
            gw_table_find(table, k->hash, gw_table_tag(table, k->hash, k->slot), &e);
        cr_assert_not_null(place, "key %u", i);
        cr_assert_eq(gw_entry_narrow(e), gw_addr_narrow(gw_addr_of(k->address)), "key %u", i);
    }
}

static uint64_t entries(const struct gw_table *table)
{
    uint64_t n = 0, hash = 0, e;
    struct gw_table_chain chain;
    do {
        gw_table_chain_open(table, hash, &chain);
        while (gw_table_chain_next(&chain, &e))
            n++;
        hash = chain.last + 1;
    } while (chain.last != UINT64_MAX);
    return n;
}

Test(table_snapshot, an_empty_table_comes_back)
{
    struct fixture f;
    fixture_open(&f);
    struct gwi_table_shape shape;
    gwi_table_shape_of(f.table, &shape);
    struct stream s = write_all(&f, UINT32_MAX, 0);
    struct gw_table *table;
    uint64_t loaded;
    cr_assert_eq(load(&s, &shape, &table, &loaded), GW_OK);
    cr_expect_eq(loaded, 0);
    cr_expect_leq(s.count, 2u << shape.directory_bits, "empty buckets cost next to nothing");
    cr_expect_eq(table->split_shift, f.table->split_shift);
    gw_table_destroy(table);
    free(s.word);
    fixture_close(&f);
}

Test(table_snapshot, what_was_there_comes_back)
{
    struct fixture f;
    fixture_open(&f);
    add(&f, 20000, true);
    cr_assert_gt(gw_table_splits(f.table), 20);
    struct gwi_table_shape shape;
    gwi_table_shape_of(f.table, &shape);
    struct stream s = write_all(&f, 10, 0);
    struct gw_table *table;
    uint64_t loaded;
    cr_assert_eq(load(&s, &shape, &table, &loaded), GW_OK);
    check(&f, table, f.keys);
    cr_expect_eq(loaded, f.keys);
    cr_expect_eq(entries(table), entries(f.table));
    cr_expect_eq(gw_table_buckets(table), gw_table_buckets(f.table));
    cr_expect_eq(gw_table_lines_used(table) > 0, true);
    gw_table_destroy(table);
    free(s.word);
    fixture_close(&f);
}

Test(table_snapshot, a_table_that_grows_while_it_is_written_loses_nothing)
{
    struct fixture f;
    fixture_open(&f);
    add(&f, 1500, true);
    uint32_t before = f.keys;
    uint64_t splits = gw_table_splits(f.table);
    /* Small steps: chunks are met before, while and after they grow, and grow between two. */
    struct stream s = write_all(&f, 3, 60);
    cr_assert_gt(gw_table_splits(f.table), splits + 10);
    uint64_t again = 0, last = UINT64_MAX;
    for (uint64_t i = 0; i < s.count; i++)
        if (gw_entry_state(s.word[i]) == 2) {
            again += (s.word[i] & GW_ADDR_MASK) >> 6 == last;
            last = (s.word[i] & GW_ADDR_MASK) >> 6;
        }
    cr_expect_gt(again, 0, "no chunk had to begin anew: the test is too easy");
    /* Into the shape of the end, and into that of the beginning: the stream may be finer. */
    struct gwi_table_shape shape;
    gwi_table_shape_of(f.table, &shape);
    for (int i = 0; i < 2; i++) {
        struct gw_table *table;
        cr_assert_eq(load(&s, &shape, &table, NULL), GW_OK);
        check(&f, table, before);
        uint64_t bytes = gw_table_memory_bytes(table), buckets = gw_table_buckets(table);
        cr_expect_geq(bytes, buckets * 64);
        cr_expect_leq(bytes, buckets * 128 + ((uint64_t)4096 << shape.directory_bits));
        gw_table_destroy(table);
        memset(shape.chunk_bits, (int)shape.bucket_bits, (size_t)1 << shape.directory_bits);
    }
    free(s.word);
    fixture_close(&f);
}

Test(table_snapshot, a_finer_table_has_every_entry_where_it_is_looked_for)
{
    struct fixture f;
    fixture_open(&f);
    add(&f, 1500, false);
    struct stream s = write_all(&f, 64, 0);
    struct gwi_table_shape shape;
    gwi_table_shape_of(f.table, &shape);
    for (uint32_t more = 1; more <= 8; more++) { /* beyond six an entry is in several buckets */
        memset(shape.chunk_bits, (int)(shape.bucket_bits + more),
               (size_t)1 << shape.directory_bits);
        struct gw_table *table;
        uint64_t loaded;
        cr_assert_eq(load(&s, &shape, &table, &loaded), GW_OK);
        check(&f, table, f.keys);
        cr_expect_eq(loaded, (uint64_t)f.keys << (more > 6 ? more - 6 : 0));
        gw_table_destroy(table);
    }
    free(s.word);
    fixture_close(&f);
}

Test(table_snapshot, beyond_six_doublings_both_halves_are_written)
{
    struct fixture f;
    fixture_open(&f);
    struct gw_table_options o = options;
    o.chunk_bits = 1; /* the smallest size is 2 buckets a chunk: many doublings */
    gw_table_destroy(f.table);
    o.records = (struct gw_table_records){.ctx = &f, .range = range}; /* sides: always both */
    cr_assert_eq(gw_table_create(&o, &f.table), GW_OK);
    struct gwi_table_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.directory_bits = 2;
    shape.bucket_bits = 1;
    memset(shape.chunk_bits, 1, 4);
    gw_table_destroy(f.table);
    cr_assert_eq(gwi_table_create_shaped(&o, &shape, &f.table), GW_OK);
    add(&f, 9000, true);
    gwi_table_shape_of(f.table, &shape);
    cr_assert_gt(shape.chunk_bits[0], 8, "no chunk has doubled seven times");
    struct stream s = write_all(&f, 50, 0);
    struct gw_table *table;
    uint64_t loaded;
    cr_assert_eq(load(&s, &shape, &table, &loaded), GW_OK);
    cr_expect_eq(entries(table), entries(f.table));
    cr_expect_gt(loaded, f.keys);
    check(&f, table, f.keys);
    gw_table_destroy(table);
    free(s.word);
    fixture_close(&f);
}

Test(table_snapshot, damage_is_refused_or_harmless)
{
    struct fixture f;
    fixture_open(&f);
    add(&f, 2000, true);
    struct stream s = write_all(&f, 10, 0);
    struct gwi_table_shape shape;
    gwi_table_shape_of(f.table, &shape);
    uint32_t refused = 0, tries = 400;
    for (uint32_t i = 0; i < tries; i++) {
        uint64_t at = gw_rand_below(&f.rand, s.count), was = s.word[at], count = s.count;
        if (i % 8 == 0)
            s.count = at; /* cut off */
        else
            s.word[at] ^= (uint64_t)1 << gw_rand_below(&f.rand, 64);
        struct gw_table *table;
        enum gw_status st = load(&s, &shape, &table, NULL);
        refused += st == GW_E_CORRUPT;
        cr_expect(st == GW_OK || st == GW_E_CORRUPT);
        cr_expect(i % 8 != 0 || st == GW_E_CORRUPT, "a part was taken for the whole");
        gw_table_destroy(table);
        s.word[at] = was;
        s.count = count;
    }
    cr_expect_gt(refused, tries / 8);
    struct gw_table *table;
    cr_expect_eq(load(&(struct stream){NULL, 0}, &shape, &table, NULL), GW_E_CORRUPT);
    gw_table_destroy(table);
    free(s.word);
    fixture_close(&f);
}
