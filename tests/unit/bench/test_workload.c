/* Goal: the mixes have their shares, zipfian its skew, and equal seeds ask the same questions. */
#include "bench/workload.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

#define DRAWS 200000u

static void open(struct gw_workload *w, char mix, enum gw_distribution d, uint64_t keys)
{
    struct gw_workload_options o = {.mix = mix, .distribution = d, .keys = keys, .threads = 1};
    cr_assert_eq(gw_workload_init(w, &o), GW_OK);
}

Test(workload, mixes_have_their_shares)
{
    static const struct {
        char mix;
        double share[4]; /* read, update, insert, add */
    } mixes[] = {{'a', {0.5, 0.5, 0, 0}},
                 {'b', {0.95, 0.05, 0, 0}},
                 {'c', {1, 0, 0, 0}},
                 {'d', {0.95, 0, 0.05, 0}},
                 {'f', {0, 0, 0, 1}}};
    for (size_t m = 0; m < sizeof mixes / sizeof mixes[0]; m++) {
        struct gw_workload w;
        uint32_t count[4] = {0};
        uint64_t key;
        open(&w, mixes[m].mix, GW_UNIFORM, 1000);
        for (uint32_t i = 0; i < DRAWS; i++)
            count[gw_workload_next(&w, &key)]++;
        for (int v = 0; v < 4; v++)
            cr_expect_float_eq((double)count[v] / DRAWS, mixes[m].share[v], 0.005, "%c, verb %d",
                               mixes[m].mix, v);
    }
}

Test(workload, zipfian_has_the_skew_of_theta_099)
{
    enum { KEYS = 10000 };
    struct gw_workload w;
    uint32_t *count = calloc(KEYS, sizeof *count), most = 0;
    open(&w, 'c', GW_ZIPFIAN, KEYS);
    for (uint32_t i = 0; i < DRAWS; i++) {
        uint64_t key;
        gw_workload_next(&w, &key);
        cr_assert_lt(key, KEYS);
        if (++count[key] > most)
            most = count[key];
    }
    double zeta = 0;
    for (int i = 1; i <= KEYS; i++)
        zeta += pow(i, -0.99);
    cr_expect_float_eq((double)most / DRAWS, 1 / zeta, 0.01, "the share of the most popular key");
    free(count);
}

Test(workload, reads_of_d_find_what_was_inserted)
{
    struct gw_workload w;
    open(&w, 'd', GW_ZIPFIAN, 1000);
    uint64_t next = 1000;
    for (uint32_t i = 0; i < DRAWS; i++) {
        uint64_t key;
        if (gw_workload_next(&w, &key) == GW_WORKLOAD_INSERT)
            cr_assert_eq(key, next++);
        else
            cr_assert_lt(key, next, "read before it was inserted");
    }
}

Test(workload, equal_seeds_ask_the_same)
{
    struct gw_workload a, b;
    open(&a, 'a', GW_ZIPFIAN, 5000);
    open(&b, 'a', GW_ZIPFIAN, 5000);
    for (uint32_t i = 0; i < 1000; i++) {
        uint64_t ka, kb;
        cr_assert_eq(gw_workload_next(&a, &ka), gw_workload_next(&b, &kb));
        cr_assert_eq(ka, kb);
    }
    struct gw_workload_options none = {.mix = 'c', .threads = 1};
    cr_expect_eq(gw_workload_init(&a, &none), GW_E_INVALID, "no keys");
    none.keys = 1;
    none.mix = 'e';
    cr_expect_eq(gw_workload_init(&a, &none), GW_E_INVALID, "no such mix");
}
