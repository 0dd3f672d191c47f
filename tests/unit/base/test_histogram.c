/* test_histogram.c - quantiles are right within the bound, counts are exact. */
#include "index/base/histogram.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "index/base/rand.h"

static struct gw_histogram h, other;

Test(histogram, an_empty_one_answers_zero)
{
    gw_histogram_clear(&h);
    cr_expect_eq(gw_histogram_at(&h, 0), 0u);
    cr_expect_eq(gw_histogram_at(&h, 0.5), 0u);
    cr_expect_eq(gw_histogram_at(&h, 1), 0u);
}

Test(histogram, small_values_are_exact)
{
    gw_histogram_clear(&h);
    for (uint64_t v = 0; v < 100; v++)
        gw_histogram_add(&h, v);
    cr_expect_eq(h.count, 100u);
    cr_expect_eq(h.sum, 4950u);
    cr_expect_eq(h.max, 99u);
    cr_expect_eq(gw_histogram_at(&h, 0), 0u);
    cr_expect_eq(gw_histogram_at(&h, 0.01), 0u);
    cr_expect_eq(gw_histogram_at(&h, 0.5), 49u);
    cr_expect_eq(gw_histogram_at(&h, 0.99), 98u);
    cr_expect_eq(gw_histogram_at(&h, 1), 99u);
}

/* Goal: the error stays under 1/64 over the whole range, and at each power of two.
 * How: with the value and a much larger one, the median is told as the first one's bucket. */
Test(histogram, one_value_is_told_within_its_error_and_never_too_small)
{
    for (int exponent = 0; exponent < 40; exponent++)
        for (int64_t around = -2; around <= 2; around++) {
            int64_t signed_value = ((int64_t)1 << exponent) + around;
            if (signed_value < 0 || signed_value >= (int64_t)1 << 40)
                continue;
            uint64_t value = (uint64_t)signed_value;
            gw_histogram_clear(&h);
            gw_histogram_add(&h, value);
            gw_histogram_add(&h, UINT64_C(1) << 50);
            uint64_t told = gw_histogram_at(&h, 0.5);
            cr_expect_geq(told, value);
            cr_expect_leq(told - value, value / 64, "%llu told as %llu", (unsigned long long)value,
                          (unsigned long long)told);
        }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

Test(histogram, quantiles_of_random_values_match_the_sorted_list)
{
    enum { N = 20000 };
    static uint64_t values[N];
    static const double quantiles[] = {0.001, 0.1, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999};
    struct gw_rand r;
    gw_rand_init(&r, 6);
    gw_histogram_clear(&h);
    for (int i = 0; i < N; i++) {
        values[i] = gw_rand_next(&r) >> (24 + gw_rand_below(&r, 40));
        gw_histogram_add(&h, values[i]);
    }
    qsort(values, N, sizeof *values, by_value);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++) {
        double rank = quantiles[i] * N;
        size_t at = (size_t)rank + ((double)(size_t)rank < rank) - 1;
        uint64_t told = gw_histogram_at(&h, quantiles[i]);
        cr_expect_geq(told, values[at]);
        cr_expect_leq(told - values[at], values[at] / 64, "quantile %f", quantiles[i]);
    }
    cr_expect_eq(gw_histogram_at(&h, 1), values[N - 1]);
}

Test(histogram, the_lowest_quantile_is_the_least_value)
{
    gw_histogram_clear(&h);
    gw_histogram_add(&h, 5);
    gw_histogram_add(&h, 9);
    cr_expect_eq(gw_histogram_at(&h, 0), 5u);
    cr_expect_eq(gw_histogram_at(&h, -1), 5u);
}

Test(histogram, no_quantile_is_above_the_maximum)
{
    gw_histogram_clear(&h);
    gw_histogram_add(&h, 1000001);
    cr_expect_eq(gw_histogram_at(&h, 0.5), 1000001u);
    cr_expect_eq(gw_histogram_at(&h, 0.9999), 1000001u);
}

Test(histogram, values_beyond_the_range_are_counted_in_the_last_bucket)
{
    gw_histogram_clear(&h);
    gw_histogram_add(&h, UINT64_MAX);
    cr_expect_eq(gw_histogram_at(&h, 0.5), (UINT64_C(1) << 40) - 1);
    gw_histogram_add(&h, (UINT64_C(1) << 40) - 1);
    cr_expect_eq(h.count, 2u);
    cr_expect_eq(h.max, UINT64_MAX);
    cr_expect_eq(gw_histogram_at(&h, 0.5), (UINT64_C(1) << 40) - 1);
    cr_expect_eq(gw_histogram_at(&h, 1), UINT64_MAX);
}

Test(histogram, adding_n_and_merging_equal_adding_one_by_one)
{
    static struct gw_histogram one_by_one;
    gw_histogram_clear(&h);
    gw_histogram_clear(&other);
    gw_histogram_clear(&one_by_one);
    for (uint64_t v = 1; v < 1000000; v = v * 3 + 1) {
        gw_histogram_add_n(&h, v, 5);
        gw_histogram_add_n(&other, v + 7, 2);
        for (int i = 0; i < 5; i++)
            gw_histogram_add(&one_by_one, v);
        for (int i = 0; i < 2; i++)
            gw_histogram_add(&one_by_one, v + 7);
    }
    gw_histogram_add_n(&h, 1u << 30, 0);
    gw_histogram_merge(&h, &other);
    cr_expect_arr_eq(&h, &one_by_one, sizeof h);
}
