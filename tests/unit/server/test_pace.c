/* Goal: shipping takes what the operator allows, never nothing, and never more than its rate.
 * How: pace has no clock of its own; a made-up dispatcher whose requests are late in proportion to
 * what shipping takes tells it numbers. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "index/base/rand.h"
#include "server/pace.h"

TestSuite(pace, .timeout = 60);

#define US 1000u
#define MS 1000000u

/* ---- lateness ---- */

Test(pace, a_bucket_is_at_most_a_quarter_wide)
{
    uint32_t last = 0;
    for (uint64_t ns = 1; ns < (uint64_t)1 << 33; ns += ns / 64 + 1) {
        struct gwi_lateness late = {0};
        uint32_t bucket = gwi_lateness_bucket(ns);
        cr_assert(bucket == last || bucket == last + 1, "%llu ns", (unsigned long long)ns);
        last = bucket;
        gwi_lateness_add(&late, ns, 1);
        uint64_t said = gwi_lateness_p99(&late);
        cr_assert_gt(said, ns);
        cr_assert_leq(said, ns + ns / 4 + 1024, "%llu ns are called %llu", (unsigned long long)ns,
                      (unsigned long long)said);
    }
    cr_expect_eq(gwi_lateness_bucket(UINT64_MAX), GWI_LATENESS_BUCKETS - 1);
}

Test(pace, p99_leaves_one_in_a_hundred_above_it)
{
    struct gwi_lateness late = {0};
    cr_expect_eq(gwi_lateness_p99(&late), 0, "without requests");
    gwi_lateness_add(&late, 100 * US, 990);
    gwi_lateness_add(&late, 50 * MS, 10);
    cr_expect_lt(gwi_lateness_p99(&late), 130 * US);
    gwi_lateness_add(&late, 50 * MS, 2);
    cr_expect_gt(gwi_lateness_p99(&late), 50 * MS);
}

Test(pace, lateness_is_forgotten)
{
    struct gwi_lateness late = {0};
    uint64_t now = 5 * MS;
    cr_expect(gwi_lateness_forget(&late, now));
    gwi_lateness_add(&late, 8 * MS, 1000);
    cr_expect_not(gwi_lateness_forget(&late, now + GWI_LATENESS_HALF_NS - 1));
    now += GWI_LATENESS_HALF_NS;
    cr_expect(gwi_lateness_forget(&late, now));
    cr_expect_eq(late.bucket[gwi_lateness_bucket(8 * MS)], 500);
    gwi_lateness_add(&late, 8 * MS, 1000);
    cr_expect(gwi_lateness_forget(&late, now + 40 * GWI_LATENESS_HALF_NS));
    cr_expect_eq(gwi_lateness_p99(&late), 0, "a long silence leaves nothing");
}

/* ---- share ---- */

/* A dispatcher that ships whenever it may; `late_ns`: how much later requests are by shipping all
 * of the time. Returns the share that it shipped of the last half of the time. */
static double ship_for(struct gwi_pace *pace, uint64_t *now, uint64_t impact_ns, uint64_t usual_ns,
                       uint64_t late_ns, uint64_t for_ns)
{
    uint64_t start = *now, shipped = 0;
    while (*now - start < for_ns) {
        if (gwi_pace_is_due(pace, *now))
            gwi_pace_look(pace, *now, usual_ns + late_ns * pace->share / GWI_PACE_WHOLE, impact_ns);
        uint64_t wait = gwi_pace_wait(pace, *now);
        *now += wait;
        uint64_t work = pace->portion_ns;
        gwi_pace_worked(pace, *now, *now + work);
        *now += work;
        if (*now - start > for_ns / 2)
            shipped += work;
    }
    return (double)shipped / ((double)for_ns / 2);
}

static void learn_usual(struct gwi_pace *pace, uint64_t *now, uint64_t usual_ns)
{
    gwi_pace_init(pace);
    for (int i = 0; i < 50; i++, *now += GWI_PACE_STEP_NS)
        gwi_pace_look(pace, *now, usual_ns, UINT64_MAX);
}

Test(pace, the_share_settles_where_requests_are_as_late_as_allowed)
{
    static const uint64_t usual[] = {100 * US, 1 * MS, 20 * MS};
    static const uint64_t impact[] = {2 * MS, 3 * MS, 20 * MS};
    for (int u = 0; u < 3; u++)
        for (int i = 0; i < 3; i++) {
            struct gwi_pace pace;
            uint64_t now = MS;
            learn_usual(&pace, &now, usual[u]);
            /* Shipping 12 % of the time uses up what is allowed. */
            double share = ship_for(&pace, &now, impact[i], usual[u], impact[i] * 100 / 12,
                                    UINT64_C(4000) * MS);
            cr_expect(share > 0.08 && share < 0.13, "usual %llu, impact %llu: %.3f",
                      (unsigned long long)usual[u], (unsigned long long)impact[i], share);
        }
}

Test(pace, what_is_allowed_bounds_the_share_and_the_portion)
{
    static const struct {
        uint64_t impact_ns;
        double most;
    } rows[] = {{0, 2 / 12.0},        {2 * MS, 2 / 12.0},
                {1 * MS, 1 / 11.0},   {100 * US, (double)GWI_PACE_LEAST / GWI_PACE_WHOLE},
                {10 * MS, 0.5},       {1000 * MS, 1000 / 1010.0},
                {UINT64_MAX - 1, 1.0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct gwi_pace pace;
        uint64_t now = MS;
        learn_usual(&pace, &now, 100 * US);
        double share = ship_for(&pace, &now, rows[i].impact_ns, 100 * US, 0, UINT64_C(4000) * MS);
        cr_expect(share > rows[i].most * 0.95 && share < rows[i].most * 1.05 + 0.001,
                  "row %zu: %.3f instead of %.3f", i, share, rows[i].most);
        cr_expect_leq(pace.portion_ns, 2 * MS);
        if (rows[i].impact_ns > MS)
            cr_expect_leq(pace.portion_ns, rows[i].impact_ns / 10);
    }
}

/* Steps with requests that use `busy` of GWI_PACE_WHOLE, and a migration that takes its share. */
static void steps(struct gwi_pace *pace, uint64_t *now, uint32_t busy, uint64_t impact_ns, int n)
{
    for (int i = 0; i < n; i++, *now += GWI_PACE_STEP_NS) {
        bool works = impact_ns != UINT64_MAX;
        uint64_t work = works ? GWI_PACE_STEP_NS * pace->share / GWI_PACE_WHOLE : 0;
        uint64_t used = GWI_PACE_STEP_NS * busy / GWI_PACE_WHOLE + work;
        if (works)
            gwi_pace_worked(pace, *now, *now + work);
        gwi_pace_time(pace, GWI_PACE_STEP_NS,
                      used < GWI_PACE_STEP_NS ? GWI_PACE_STEP_NS - used : 0);
        gwi_pace_look(pace, *now, 100 * US, impact_ns);
    }
}

Test(pace, where_requests_take_all_of_the_time_the_share_is_small)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    const uint32_t most = GWI_PACE_WHOLE / 6;
    gwi_pace_init(&pace);
    steps(&pace, &now, 100, UINT64_MAX, 50);
    steps(&pace, &now, 100, 2 * MS, 50);
    cr_expect(pace.share >= most - 1 && pace.share <= most, "with much free: %u", pace.share);
    steps(&pace, &now, GWI_PACE_WHOLE, 2 * MS, 100); /* a second */
    cr_expect_eq(pace.share, GWI_PACE_LEAST, "with nothing free: %u", pace.share);
    /* a fifth is free: half of it */
    gwi_pace_init(&pace);
    steps(&pace, &now, GWI_PACE_WHOLE * 4 / 5, UINT64_MAX, 50);
    steps(&pace, &now, GWI_PACE_WHOLE * 4 / 5, 2 * MS, 50);
    cr_expect(pace.share > GWI_PACE_WHOLE / 11 && pace.share <= GWI_PACE_WHOLE / 9, "%u",
              pace.share);
}

Test(pace, one_bad_step_costs_little)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    gwi_pace_init(&pace);
    steps(&pace, &now, 300, UINT64_MAX, 50);
    steps(&pace, &now, 300, 2 * MS, 50);
    uint32_t share = pace.share;
    for (int i = 0; i < 10; i++) { /* somebody else had the processor for 10 ms */
        steps(&pace, &now, GWI_PACE_WHOLE, 2 * MS, 1);
        steps(&pace, &now, 300, 2 * MS, 19);
    }
    cr_expect_eq(pace.share, share, "%u instead of %u", pace.share, share);
}

Test(pace, an_operator_in_a_hurry_gets_more_of_busy_servers)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    gwi_pace_init(&pace);
    steps(&pace, &now, GWI_PACE_WHOLE, UINT64_MAX, 50);
    steps(&pace, &now, GWI_PACE_WHOLE, 10 * MS, 200);
    cr_expect(pace.share > 180 && pace.share < 200, "three eighths of a half: %u", pace.share);
}

/* Clients that wait for answers ask for less when a migration holds them up: that is not free. */
Test(pace, time_that_a_migration_makes_free_is_not_taken_at_once)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    gwi_pace_init(&pace);
    steps(&pace, &now, GWI_PACE_WHOLE, UINT64_MAX, 50);
    steps(&pace, &now, GWI_PACE_WHOLE / 2, 2 * MS, 50); /* half a second */
    cr_expect_leq(pace.share, GWI_PACE_LEAST);
    steps(&pace, &now, GWI_PACE_WHOLE / 2, 2 * MS, 1000); /* but the load may really have gone */
    cr_expect_gt(pace.share, GWI_PACE_WHOLE / 8);
}

Test(pace, shipping_never_ends_however_late_requests_are)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    learn_usual(&pace, &now, 100 * US);
    double share = ship_for(&pace, &now, 2 * MS, 100 * US, 1000 * MS, UINT64_C(8000) * MS);
    double least = (double)GWI_PACE_LEAST / GWI_PACE_WHOLE;
    cr_expect(share > least * 0.95 && share < least * 1.15, "%.4f instead of %.4f", share, least);
    /* and it comes back when they are not late any more */
    share = ship_for(&pace, &now, 2 * MS, 100 * US, 0, UINT64_C(2000) * MS);
    cr_expect_gt(share, 0.15, "%.4f", share);
}

/* Requests may be late for reasons of their own: less of the time does not help them. */
Test(pace, what_is_late_at_the_least_share_too_does_not_hold_shipping_up)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    learn_usual(&pace, &now, 100 * US);
    double share = ship_for(&pace, &now, 2 * MS, 30 * MS, 0, UINT64_C(4000) * MS);
    cr_expect_gt(share, 0.15, "%.4f", share);
    learn_usual(&pace, &now, 100 * US); /* but what does help is given up */
    share = ship_for(&pace, &now, 2 * MS, 100 * US, 20 * MS, UINT64_C(4000) * MS);
    cr_expect_lt(share, 0.12, "%.4f", share);
}

/* Without a word of the operator requests may be twice as late as usual, where that is more. */
Test(pace, who_is_slow_as_a_rule_is_allowed_more)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    learn_usual(&pace, &now, 8 * MS);
    double share = ship_for(&pace, &now, 0, 8 * MS, 0, UINT64_C(4000) * MS);
    cr_expect(share > 8 / 18.0 * 0.95 && share < 8 / 18.0 * 1.05, "%.3f", share);
    learn_usual(&pace, &now, 8 * MS);
    share = ship_for(&pace, &now, 2 * MS, 8 * MS, 0, UINT64_C(4000) * MS);
    cr_expect_lt(share, 2 / 12.0 * 1.05, "%.3f of what was asked for", share);
}

Test(pace, what_was_done_for_nobody_is_not_made_up_for)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    learn_usual(&pace, &now, 100 * US);
    for (int i = 0; i < 10000; i++, now += pace.portion_ns) /* nobody is served: no rest */
        gwi_pace_worked(&pace, now, now + pace.portion_ns);
    cr_expect_leq(gwi_pace_wait(&pace, now), gwi_pace_span(&pace, pace.portion_ns));
    gwi_pace_worked(&pace, now, now + 100 * MS); /* one that could not be divided */
    cr_expect_geq(gwi_pace_wait(&pace, now + 100 * MS), 400 * MS);
}

Test(pace, what_shipping_causes_does_not_become_usual)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    learn_usual(&pace, &now, 100 * US);
    (void)ship_for(&pace, &now, 2 * MS, 100 * US, 30 * MS, UINT64_C(5000) * MS);
    cr_expect_leq(pace.usual_ns, 100 * US);
}

/* The first requests of a target are those that waited for the transfer. */
Test(pace, a_target_without_requests_learns_from_its_first_ones)
{
    struct gwi_pace pace;
    uint64_t now = MS;
    gwi_pace_init(&pace);
    for (int i = 0; i < 10; i++, now += GWI_PACE_STEP_NS)
        gwi_pace_look(&pace, now, 0, UINT64_MAX);
    uint32_t share = pace.share;
    gwi_pace_look(&pace, now, 30 * MS, 0);
    cr_expect_geq(pace.share, share);
    for (int i = 0; i < 10; i++)
        gwi_pace_look(&pace, now, 1 * MS, 0);
    share = pace.share;
    gwi_pace_look(&pace, now, 30 * MS, 0);
    cr_expect_lt(pace.share, share);
}

/* ---- rate ---- */

Test(pace, no_window_gets_more_than_its_rate)
{
    enum { GRANTS = 4000 };
    static uint64_t at[GRANTS], bytes[GRANTS];
    static const uint64_t rates[] = {1000, 100000, 7654321, 400000000, 40000000000};
    struct gw_rand rand;
    uint64_t seed = gw_rand_system_seed();
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    gw_rand_init(&rand, seed);
    for (size_t r = 0; r < sizeof rates / sizeof rates[0]; r++) {
        _Atomic uint64_t due = 0;
        uint64_t rate = rates[r], now = UINT64_C(3000) * MS,
                 portion = gwi_rate_portion(rate, 32768);
        for (int n = 0; n < GRANTS;) {
            uint64_t wait = gwi_rate_take(&due, rate, now, portion);
            if (wait) { /* asked too early, at the right time, or far too late */
                uint64_t more = gw_rand_below(&rand, 3);
                now += more == 0 ? wait / 2 + 1 : more == 1 ? wait : wait + 1 + wait / 3;
                continue;
            }
            uint64_t used = gw_rand_below(&rand, 4) ? portion : gw_rand_below(&rand, 2 * portion);
            gwi_rate_settle(&due, rate, portion, used);
            at[n] = now;
            bytes[n++] = used;
            if (gw_rand_below(&rand, 500) == 0)
                now += 200 * (uint64_t)MS; /* a pause gives no credit beyond its bound */
        }
        for (int i = 0; i < GRANTS; i += 37) {
            uint64_t sum = 0;
            for (int j = i; j < GRANTS; j++) {
                double most = (double)rate * (double)(at[j] - at[i] + GWI_RATE_CREDIT_NS) / 1e9;
                cr_assert_leq((double)sum,
                              most + (double)bytes[j] + 1 + GRANTS * (double)rate / 1e9,
                              "rate %llu: grants %d to %d", (unsigned long long)rate, i, j);
                sum += bytes[j];
            }
        }
    }
}

Test(pace, a_rate_is_used_up)
{
    static const uint64_t rates[] = {20000, 1000000, 50000000, 400000000};
    for (size_t r = 0; r < sizeof rates / sizeof rates[0]; r++) {
        _Atomic uint64_t due = 0;
        uint64_t start = UINT64_C(3000) * MS, now = start, sum = 0;
        uint64_t portion = gwi_rate_portion(rates[r], 32768);
        while (now - start < UINT64_C(20000) * MS) {
            uint64_t wait = gwi_rate_take(&due, rates[r], now, portion);
            now += wait ? wait + 400 * US : 50 * US; /* a turn comes late */
            sum += wait ? 0 : portion;
        }
        double got = (double)sum / 20 / (double)rates[r];
        cr_expect(got > 0.95 && got < 1.05, "rate %llu: %.3f of it", (unsigned long long)rates[r],
                  got);
    }
}

Test(pace, without_a_rate_nothing_waits)
{
    _Atomic uint64_t due = 0;
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(gwi_rate_take(&due, 0, 1, (uint64_t)1 << 40), 0);
    gwi_rate_settle(&due, 0, 5, 3);
    cr_expect_eq(atomic_load(&due), 0);
    cr_expect_eq(gwi_rate_portion(0, 777), 777);
    cr_expect_eq(gwi_rate_portion(1, 32768), 4096);
}
