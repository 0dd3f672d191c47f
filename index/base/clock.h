/* clock.h - time, behind an interface that the simulator implements too.
 * Protocol code never asks the system: it is handed `now_ns`, or a struct gw_clock. Layer: base. */
#ifndef GW_INDEX_BASE_CLOCK_H
#define GW_INDEX_BASE_CLOCK_H

#include <stdint.h>

struct gw_clock {
    uint64_t (*now_ns)(void *ctx);  /* monotonic, never goes back */
    uint64_t (*wall_ms)(void *ctx); /* Unix time in ms, for people and expiry */
    void *ctx;
};

/* The system's clocks (CLOCK_MONOTONIC, CLOCK_REALTIME). Any thread; never ends. */
const struct gw_clock *gw_clock_system(void);

/* The same to the kernel's last tick (1 to 10 ms behind), at an eighth of the price: for whoever
 * asks once a batch, and a batch may be one operation. */
const struct gw_clock *gw_clock_coarse(void);

static inline uint64_t gw_clock_now_ns(const struct gw_clock *c)
{
    return c->now_ns(c->ctx);
}
static inline uint64_t gw_clock_wall_ms(const struct gw_clock *c)
{
    return c->wall_ms(c->ctx);
}
#endif
