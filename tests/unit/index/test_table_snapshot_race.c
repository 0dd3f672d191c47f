/* Goal: a table's stream can be loaded whatever becomes of a bucket while it is copied.
 * How: the table's own code, with a step between any two looks of the writer at the words of a
 * bucket; at each of them in turn an entry goes, its place is taken, and it comes again. */
#include <criterion/criterion.h>
#include <stdlib.h>

static void step(void);
#define GWI_STEP() step()
#include "index/table.c"
#include "index/table_snapshot.c"

#define TAGS 6u

static const struct gw_table_options options = {.bytes = 1 << 16,
                                                .bytes_max = 1 << 20,
                                                .chunk_bits = 5};
static struct gw_table *table;
static int32_t countdown; /* steps to the change; below 0: none */

static void range(void *ctx, gw_addr *begin, gw_addr *reference)
{
    (void)ctx;
    begin->v = 0;
    reference->v = (1 << 22) + GW_ADDR_LEAD;
}

/* Slots tell the tags apart: all lie in the first bucket. */
static void insert(uint16_t slot, uint64_t address)
{
    uint64_t e;
    _Atomic uint64_t *place;
    cr_assert_eq(gw_table_insert(table, 1, gw_table_tag(table, 1, slot), gw_addr_of(address),
                                 &place, &e),
                 GW_OK);
}

static void step(void)
{
    if (countdown < 0 || countdown-- != 0)
        return;
    uint64_t e;
    _Atomic uint64_t *place = gw_table_find(table, 1, gw_table_tag(table, 1, 0), &e);
    cr_assert_not_null(place);
    atomic_store(place, 0); /* as when its slot is unlinked */
    insert(TAGS, 1 << 21);
    insert(0, (1 << 21) + 64);
}

Test(table_snapshot_race, an_entry_that_comes_again_elsewhere_is_written_once)
{
    struct gw_table_options o = options;
    o.records = (struct gw_table_records){.range = range};
    uint32_t changed = 0;
    for (int32_t at = 0; at < 64; at++) {
        countdown = -1;
        cr_assert_eq(gw_table_create(&o, &table), GW_OK);
        for (uint16_t i = 0; i < TAGS; i++)
            insert(i, (1 << 20) + 64 * i);
        struct gwi_table_shape shape;
        gwi_table_shape_of(table, &shape);
        uint64_t *words = malloc(1 << 20), n = 0;
        struct gwi_table_writer w;
        gwi_table_writer_init(&w, table);
        countdown = at;
        while (!w.done || w.count != w.taken) {
            cr_assert_eq(gwi_table_writer_step(&w, 64), GW_OK);
            n += gwi_table_writer_take(&w, words + n, 1000);
        }
        changed += countdown < 0;
        countdown = -1;
        gwi_table_writer_fini(&w);
        struct gw_table *copy;
        struct gwi_table_loader l;
        cr_assert_eq(gwi_table_create_shaped(&o, &shape, &copy), GW_OK);
        gwi_table_loader_init(&l, copy);
        cr_assert_eq(gwi_table_loader_put(&l, words, (uint32_t)n), GW_OK, "step %d", at);
        cr_assert_eq(gwi_table_loader_end(&l), GW_OK);
        uint64_t e;
        for (uint16_t i = 1; i < TAGS; i++)
            cr_assert_not_null(gw_table_find(copy, 1, gw_table_tag(copy, 1, i), &e), "tag %u", i);
        gw_table_destroy(copy);
        gw_table_destroy(table);
        free(words);
    }
    cr_expect_gt(changed, TAGS);
}
