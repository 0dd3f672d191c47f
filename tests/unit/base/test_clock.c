/* test_clock.c - the system's clocks tell the time. */
#include "index/base/clock.h"

#include <criterion/criterion.h>
#include <time.h>

Test(clock, monotonic_time_never_goes_back_and_goes_on)
{
    const struct gw_clock *c = gw_clock_system();
    uint64_t start = gw_clock_now_ns(c), last = start;
    for (int i = 0; i < 100000; i++) {
        uint64_t now = gw_clock_now_ns(c);
        cr_assert_geq(now, last);
        last = now;
    }
    cr_expect_gt(last, start);
}

Test(clock, monotonic_time_is_in_nanoseconds)
{
    const struct gw_clock *c = gw_clock_system();
    uint64_t start = gw_clock_now_ns(c);
    struct timespec nap = {0, 20000000};
    nanosleep(&nap, NULL);
    uint64_t took = gw_clock_now_ns(c) - start;
    cr_expect_geq(took, 20000000u);
    cr_expect_lt(took, 10000000000u, "%llu ns", (unsigned long long)took);
}

Test(clock, wall_time_is_unix_milliseconds)
{
    uint64_t before = (uint64_t)time(NULL) * 1000;
    uint64_t wall = gw_clock_wall_ms(gw_clock_system());
    cr_expect_geq(wall + 1000, before);
    cr_expect_leq(wall, before + 10000);
}

static uint64_t told(void *ctx)
{
    return *(uint64_t *)ctx;
}

Test(clock, another_clock_is_asked_with_its_context)
{
    uint64_t now = 42;
    struct gw_clock c = {told, told, &now};
    cr_expect_eq(gw_clock_now_ns(&c), 42u);
    now = 43;
    cr_expect_eq(gw_clock_wall_ms(&c), 43u);
}
