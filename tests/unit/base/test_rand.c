/* test_rand.c - the generator is the published one, repeats from its seed and is even. */
#include "index/base/rand.h"

#include <criterion/criterion.h>

/* Goal: it is xoshiro256** and nothing else.
 * How: from the state 1, 2, 3, 4 the authors' C code gives these numbers. */
Test(rand, gives_the_numbers_of_the_reference)
{
    static const uint64_t expected[] = {
        11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u, 607988272756665600u,
    };
    struct gw_rand r = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        cr_expect_eq(gw_rand_next(&r), expected[i], "number %zu", i);
}

/* splitmix64 from 0 begins with these (Vigna's reference). */
Test(rand, is_seeded_by_splitmix64)
{
    struct gw_rand r;
    gw_rand_init(&r, 0);
    cr_expect_eq(r.s[0], 0xe220a8397b1dcdafu);
    cr_expect_eq(r.s[1], 0x6e789e6aa1b965f4u);
    cr_expect_eq(r.s[2], 0x06c45d188009454fu);
    cr_expect_eq(r.s[3], 0xf88bb8a8724c81ecu);
}

Test(rand, a_seed_repeats_and_another_differs)
{
    struct gw_rand a, b, c;
    gw_rand_init(&a, 7);
    gw_rand_init(&b, 7);
    gw_rand_init(&c, 8);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t next = gw_rand_next(&a);
        cr_assert_eq(next, gw_rand_next(&b));
        same += next == gw_rand_next(&c);
    }
    cr_expect_eq(same, 0);
}

Test(rand, below_stays_below_and_is_even)
{
    struct gw_rand r;
    uint32_t seen[10] = {0};
    gw_rand_init(&r, 1);
    for (int i = 0; i < 100000; i++) {
        uint64_t v = gw_rand_below(&r, 10);
        cr_assert_lt(v, 10u);
        seen[v]++;
    }
    for (int i = 0; i < 10; i++) /* five standard deviations of 95 */
        cr_expect(seen[i] > 10000 - 475 && seen[i] < 10000 + 475, "%d: %u", i, seen[i]);
    cr_expect_eq(gw_rand_below(&r, 1), 0u);
    uint64_t high = 0;
    for (int i = 0; i < 100; i++)
        high |= gw_rand_below(&r, UINT64_MAX);
    cr_expect_neq(high >> 60, 0u, "large bounds use the high bits");
}

Test(rand, unit_is_in_its_half_open_interval_with_its_mean_in_the_middle)
{
    struct gw_rand r;
    double sum = 0;
    gw_rand_init(&r, 2);
    for (int i = 0; i < 100000; i++) {
        double v = gw_rand_unit(&r);
        cr_assert(v >= 0 && v < 1);
        sum += v;
    }
    cr_expect(sum > 49500 && sum < 50500, "%f", sum);
}

Test(rand, system_seeds_are_never_zero_and_differ)
{
    uint64_t a = gw_rand_system_seed(), b = gw_rand_system_seed();
    cr_expect_neq(a, 0u);
    cr_expect_neq(b, 0u);
    cr_expect_neq(a, b);
}
