/* Goal: whoever of source, target and coordinator is killed, wherever, one of them or two: the job
 * ends by itself, done or cancelled; nothing that was durable is lost, nothing happens twice, no
 * delete is undone, one server at a time answers (invariants 1 to 6 of the design).
 * How: durable worlds (world.h). First one run of a seed in which nobody dies counts what can be
 * seen of each party from outside: frames sent and taken in, views published, checkpoints and facts
 * made durable; then one run for each of these in which the party dies instead of doing it.
 * GODWIT_SIM_SEED=N GODWIT_SIM_PARTY=P GODWIT_SIM_STEP=S [GODWIT_SIM_PARTY2=, _STEP2=] runs one of
 * them; a failure prints these. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "index/base/log_line.h"
#include "world.h"

#define CRASH_OPS  60u /* of a client */
#define CRASH_JOBS 2u  /* there and back: the second tenure meets what is left of the first */
#define ROUND_JOBS 3u  /* through all three: the first one meets what it left with others */

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

/* Every other one with a shared tier, and of these every other one round the three servers. */
static struct plan plan_of(uint64_t seed)
{
    bool round = seed % 4 == 2;
    return (struct plan){.seed = seed,
                         .durable = true,
                         .shared = seed % 2 == 0,
                         .fresh = seed % 3 == 1,
                         .round = round,
                         .ops = CRASH_OPS,
                         .jobs = round ? ROUND_JOBS : CRASH_JOBS};
}

/* Two deaths, broken connections and an operator who cancels, by chance. Seeds from 1000. */
static struct plan two_of(uint64_t seed)
{
    struct gw_rand rand;
    gw_rand_init(&rand, seed);
    struct plan plan = plan_of(seed);
    plan.breaks = (uint32_t)gw_rand_below(&rand, 8);
    plan.cancels = seed % 3 == 0 ? 60 : 0;
    for (int i = 0; i < 2; i++) {
        plan.death[i].party = (enum party)gw_rand_below(&rand, PARTIES);
        bool small = plan.death[i].party == PARTY_COORDINATOR;
        plan.death[i].step = 1 + gw_rand_below(&rand, small ? 60 : 200);
    }
    return plan;
}

static void run(const struct plan *plan, struct summary *sum)
{
    char failure[256];
    if (!world_run(plan, sum, failure, sizeof failure))
        cr_assert_fail("GODWIT_SIM_SEED=%" PRIu64 " GODWIT_SIM_PARTY=%d GODWIT_SIM_STEP=%" PRIu64
                       " GODWIT_SIM_PARTY2=%d GODWIT_SIM_STEP2=%" PRIu64 ": %s",
                       plan->seed, (int)plan->death[0].party, plan->death[0].step,
                       (int)plan->death[1].party, plan->death[1].step, failure);
}

static void say(const char *what, uint64_t points, const struct summary *sum)
{
    fprintf(stderr,
            "%s=%" PRIu64 " deaths=%" PRIu64 " jobs=%" PRIu64 " cancelled=%" PRIu64
            " checkpoints=%" PRIu64 " undone=%" PRIu64 " replays=%" PRIu64 " resumed=%" PRIu64
            " pulls=%" PRIu64 " hot=%" PRIu64 " indirections=%" PRIu64 " linked=%" PRIu64
            " foreign_reads=%" PRIu64 " leads=%" PRIu64 " followed=%" PRIu64 " paged=%" PRIu64 "\n",
            what, points, sum->deaths, sum->jobs, sum->cancelled, sum->checkpoints, sum->undone,
            sum->replays, sum->resumed, sum->pulls, sum->hot, sum->indirections, sum->linked,
            sum->foreign_reads, sum->leads, sum->followed, sum->paged);
}

Test(crash, one_party_dies_at_every_point_of_a_migration)
{
    uint64_t seed = from_environment("GODWIT_SIM_SEED", 0);
    gw_log_set_level(seed ? GW_LOG_INFO : GW_LOG_OFF);
    struct summary sum = {0};
    if (seed) {
        struct plan plan = seed < 1000 ? plan_of(seed) : two_of(seed);
        plan.death[0].party = (enum party)from_environment("GODWIT_SIM_PARTY", 0);
        plan.death[0].step = from_environment("GODWIT_SIM_STEP", 0);
        plan.death[1].party = (enum party)from_environment("GODWIT_SIM_PARTY2", 0);
        plan.death[1].step = from_environment("GODWIT_SIM_STEP2", 0);
        run(&plan, &sum);
        say("points", 1, &sum);
        return;
    }
    uint64_t points = 0, worlds = from_environment("GODWIT_SIM_WORLDS", 3);
    for (uint64_t this = 1; this <= worlds; this ++) {
        struct plan plan = plan_of(this);
        for (int party = 0; party < PARTIES; party++)
            /* As long as a run comes to the step, whatever an undisturbed one had: resolving and
             * compaction go by the machine's clock, so the last steps may be one more or less. */
            for (uint64_t step = 1;; step++, points++) {
                uint64_t deaths = sum.deaths;
                plan.death[0].party = (enum party)party;
                plan.death[0].step = step;
                run(&plan, &sum);
                if (sum.deaths == deaths)
                    break;
            }
    }
    say("points", points, &sum);
    /* A world in which nothing happens proves nothing. */
    cr_expect_geq(points, 1500);
    cr_expect_geq(sum.deaths, points);
    cr_expect_gt(sum.jobs, points);
    cr_expect_gt(sum.undone, 0);
    cr_expect_gt(sum.resumed, points / 20);
    cr_expect_gt(sum.indirections, points / 20);
    cr_expect_gt(sum.foreign_reads, points / 20);
    cr_expect_gt(sum.paged, points / 20);
}

Test(crash, two_parties_die_wherever_chance_has_it)
{
    uint64_t seeds = from_environment("GODWIT_SIM_SCHEDULES", 400);
    if (getenv("GODWIT_SIM_SEED"))
        return;
    gw_log_set_level(GW_LOG_OFF);
    struct summary sum = {0};
    for (uint64_t seed = 1000; seed < 1000 + seeds; seed++) {
        struct plan plan = two_of(seed);
        run(&plan, &sum);
    }
    say("schedules", seeds, &sum);
    cr_expect_gt(sum.deaths, seeds);
    cr_expect_gt(sum.jobs, seeds);
    cr_expect_gt(sum.cancelled, seeds / 20);
    cr_expect_gt(sum.undone, 0);
    cr_expect_gt(sum.resumed, 0);
    cr_expect_gt(sum.indirections, seeds);
    cr_expect_gt(sum.foreign_reads, seeds / 20);
    cr_expect_gt(sum.paged, seeds / 20);
}
