/* clock.c - the system's clocks. */
#include "index/base/clock.h"

#include <stddef.h>
#include <time.h>

#include "index/base/assert.h"

static uint64_t read_ns(clockid_t id)
{
    struct timespec t;
    int rc = clock_gettime(id, &t); /* vDSO: no system call */
    GW_ASSERT(rc == 0);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t system_now_ns(void *ctx)
{
    (void)ctx;
    return read_ns(CLOCK_MONOTONIC);
}

static uint64_t system_wall_ms(void *ctx)
{
    (void)ctx;
    return read_ns(CLOCK_REALTIME) / 1000000u;
}

static uint64_t coarse_now_ns(void *ctx)
{
    (void)ctx;
    return read_ns(CLOCK_MONOTONIC_COARSE);
}

static uint64_t coarse_wall_ms(void *ctx)
{
    (void)ctx;
    return read_ns(CLOCK_REALTIME_COARSE) / 1000000u;
}

const struct gw_clock *gw_clock_coarse(void)
{
    static const struct gw_clock coarse_clock = {coarse_now_ns, coarse_wall_ms, NULL};
    return &coarse_clock;
}

const struct gw_clock *gw_clock_system(void)
{
    static const struct gw_clock system_clock = {system_now_ns, system_wall_ms, NULL};
    return &system_clock;
}
