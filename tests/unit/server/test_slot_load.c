/* test_slot_load.c - counters of slots to ranges of about the same load. */
#include <criterion/criterion.h>
#include <string.h>

#include "server/slot_load.h"

static struct gwi_slot_count counts[2];
static struct gwi_slot_load load;

static const struct gwi_slot_count *count_of(void *ctx, uint32_t dispatcher)
{
    return dispatcher < *(const uint32_t *)ctx ? &counts[dispatcher] : NULL;
}

static void set_up(void)
{
    memset(counts, 0, sizeof counts);
    memset(&load, 0, sizeof load);
}
TestSuite(slot_load, .init = set_up);

static void look(uint64_t second)
{
    uint32_t n = 2;
    gwi_slot_load_look(&load, second * 1000000000, count_of, &n);
}

static void check_order(void)
{
    cr_assert_leq(load.loads, GW_HEARTBEAT_LOADS_MAX);
    for (uint32_t i = 0; i < load.loads; i++) {
        cr_assert_leq(load.load[i].first, load.load[i].last);
        cr_assert(i == 0 || load.load[i - 1].last < load.load[i].first);
    }
}

Test(slot_load, even_load_is_divided_evenly)
{
    look(1);
    for (uint64_t second = 2; second < 30; second++) {
        for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
            gwi_slot_count_add(&counts[slot % 2], (uint16_t)slot, 10);
        look(second);
        check_order();
    }
    uint64_t all = 0;
    for (uint32_t i = 0; i < load.loads; i++)
        all += load.load[i].operations;
    cr_expect(all > 160000 && all < 165000, "%lu of 163840 a second", (unsigned long)all);
    cr_expect_geq(load.loads, 30);
    cr_expect_eq(load.load[0].first, 0);
    cr_expect_eq(load.load[load.loads - 1].last, GW_SLOTS - 1);
}

/* Goal: a slot that has more than a part of everything is alone, and nothing is lost around it. */
Test(slot_load, a_hot_slot_is_a_range_of_its_own)
{
    look(1);
    for (uint64_t second = 2; second < 30; second++) {
        for (uint32_t slot = 0; slot < GW_SLOTS; slot += 3)
            gwi_slot_count_add(&counts[0], (uint16_t)slot, 7);
        gwi_slot_count_add(&counts[1], 6000, 100000);
        look(second);
        check_order();
    }
    uint32_t found = 0;
    for (uint32_t i = 0; i < load.loads; i++)
        if (load.load[i].first == 6000 && load.load[i].last == 6000) {
            found++;
            cr_expect(load.load[i].operations > 99000 && load.load[i].operations < 101000);
        }
    cr_expect_eq(found, 1);
}

Test(slot_load, what_has_ended_is_forgotten_and_counters_may_wrap)
{
    counts[0].operations[5] = UINT32_MAX - 10;
    look(1);
    gwi_slot_count_add(&counts[0], 5, 1000);
    look(2);
    cr_assert_eq(load.loads, 1);
    cr_expect_eq(load.load[0].first, 5);
    cr_expect_eq(load.load[0].operations, 300, "%u: three tenths of a first second",
                 load.load[0].operations);
    for (uint64_t second = 3; second < 60; second++)
        look(second);
    cr_expect_eq(load.loads, 0);
}
