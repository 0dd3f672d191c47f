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
    } mixes[] = {{'a', {0.5, 0.5, 0, 0}},      {'b', {0.95, 0.05, 0, 0}},
                 {'c', {1, 0, 0, 0}},          {'d', {0.95, 0, 0.05, 0}},
                 {GW_MIX_ADD, {0, 0, 0, 1}},   {GW_MIX_HALF, {0.5, 0, 0, 0.5}},
                 {GW_MIX_INSERT, {0, 0, 1, 0}}};
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

/* The shares of the most popular key and of the ten most popular, drawn with this skew. */
static void expect_skew(double theta, enum gw_distribution distribution)
{
    enum { KEYS = 10000 };
    struct gw_workload w;
    uint32_t *count = calloc(KEYS, sizeof *count), most = 0;
    struct gw_workload_options o = {
        .mix = 'c', .distribution = distribution, .theta = theta, .keys = KEYS, .threads = 1};
    cr_assert_eq(gw_workload_init(&w, &o), GW_OK);
    for (uint32_t i = 0; i < DRAWS; i++) {
        uint64_t key;
        gw_workload_next(&w, &key);
        cr_assert_lt(key, KEYS);
        if (++count[key] > count[most])
            most = (uint32_t)key;
    }
    double zeta = 0, ten = 0;
    for (int i = 1; i <= KEYS; i++) {
        zeta += pow(i, -theta);
        ten = i == 10 ? zeta : ten;
    }
    cr_expect_float_eq((double)count[most] / DRAWS, 1 / zeta, 0.01, "theta %.2f: the top", theta);
    if (distribution == GW_LATEST) {
        cr_expect_eq(most, KEYS - 1, "the newest key is the most popular");
        uint32_t newest = 0;
        for (int i = 0; i < 10; i++)
            newest += count[KEYS - 1 - i];
        cr_expect_float_eq((double)newest / DRAWS, ten / zeta, 0.04, "theta %.2f: ten", theta);
    }
    free(count);
}

Test(workload, zipfian_has_the_skew_that_was_asked_for)
{
    expect_skew(0.99, GW_ZIPFIAN);
    expect_skew(1.2, GW_ZIPFIAN);
    expect_skew(0.99, GW_LATEST);
    expect_skew(1.2, GW_LATEST);
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

Test(workload, inserts_are_new_keys_of_each_thread)
{
    struct gw_workload_options o = {.mix = GW_MIX_INSERT, .threads = 2, .thread = 1};
    struct gw_workload w;
    cr_assert_eq(gw_workload_init(&w, &o), GW_OK, "needs no loaded keys");
    for (uint64_t i = 0; i < 100; i++) {
        uint64_t key;
        cr_assert_eq(gw_workload_next(&w, &key), GW_WORKLOAD_INSERT);
        cr_assert_eq(key, 2 * i + 1);
    }
}

Test(workload, command_lines_are_understood_or_refused)
{
    char mix = 0;
    double theta = 0;
    enum gw_distribution d;
    static const char *const names[] = {"a", "b", "c", "d", "f", "50:50", "insert"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cr_expect_eq(gw_workload_parse_mix(names[i], &mix), GW_OK);
        cr_expect_str_eq(gw_workload_mix_name(mix), names[i]);
    }
    cr_expect_eq(gw_workload_parse_mix("add", &mix), GW_OK);
    cr_expect_eq(mix, GW_MIX_ADD);
    cr_expect_eq(gw_workload_parse_mix("e", &mix), GW_E_INVALID);
    cr_expect_eq(gw_workload_parse_mix("", &mix), GW_E_INVALID);
    cr_expect_eq(gw_workload_parse_distribution("latest", &d), GW_OK);
    cr_expect_eq(d, GW_LATEST);
    cr_expect_eq(gw_workload_parse_distribution("zipf", &d), GW_E_INVALID);
    cr_expect_eq(gw_workload_parse_theta("1.2", &theta), GW_OK);
    cr_expect_float_eq(theta, 1.2, 1e-12);
    static const char *const wrong[] = {"1", "0", "-1", "nan", "11", "", "0.9x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        cr_expect_eq(gw_workload_parse_theta(wrong[i], &theta), GW_E_INVALID, "%s", wrong[i]);
}
