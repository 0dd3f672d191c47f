/* Goal: whatever the order of messages, wherever a connection breaks: no effect is lost, undone or
 * repeated, one server at a time answers, and every job comes to its end.
 * How: seeded schedules (world.h). GODWIT_SIM_SEED=N runs the one schedule of that seed,
 * GODWIT_SIM_SCHEDULES=N so many; a failure prints its seed. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/base/log_line.h"
#include "world.h"

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

Test(migration, ranges_move_exactly_in_every_schedule)
{
    uint64_t seed = from_environment("GODWIT_SIM_SEED", 0);
    uint64_t schedules = seed ? 1 : from_environment("GODWIT_SIM_SCHEDULES", 1000);
    gw_log_set_level(seed ? GW_LOG_INFO : GW_LOG_OFF);
    struct summary sum = {0};
    for (uint64_t i = 0; i < schedules; i++) {
        uint64_t this = seed ? seed : i + 1;
        char failure[256];
        const struct plan plan = {.seed = this,
                                  .round = this % 2 == 0,
                                  .ops = OPS,
                                  .jobs = 4,
                                  .breaks = 16,
                                  .cancels = 2};
        if (!world_run(&plan, &sum, failure, sizeof failure))
            cr_assert_fail("GODWIT_SIM_SEED=%" PRIu64 ": %s", this, failure);
    }
    fprintf(stderr,
            "schedules=%" PRIu64 " jobs=%" PRIu64 " cancelled=%" PRIu64 " pulls=%" PRIu64
            " moved=%" PRIu64 " replays=%" PRIu64 " breaks=%" PRIu64 " restarts=%" PRIu64
            " hot=%" PRIu64 "\n",
            schedules, sum.jobs, sum.cancelled, sum.pulls, sum.moved, sum.replays, sum.breaks,
            sum.restarts, sum.hot);
    if (seed)
        return;
    /* A world in which nothing happens proves nothing. */
    cr_expect_gt(sum.jobs, schedules);
    cr_expect_gt(sum.cancelled, 0);
    cr_expect_gt(sum.pulls, schedules * 5);
    cr_expect_gt(sum.moved, schedules);
    cr_expect_gt(sum.replays, 0);
    cr_expect_gt(sum.restarts, schedules / 10);
}
