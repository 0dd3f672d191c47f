/* test_plan.c - scale-out: how much whom. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "coordinator/state.h"
#include "tests/unit/coordinator/world.h"

static struct world w;
static char text[256];

static void set_up(void)
{
    world_init(&w);
}
static void tear_down(void)
{
    world_fini(&w);
}
TestSuite(plan, .init = set_up, .fini = tear_down);

static uint32_t owned(uint32_t server)
{
    struct gw_slots slots;
    gw_map_slots_of(gw_coordinator_map(w.c), server, &slots);
    return gw_slots_count(&slots);
}

static void run(uint64_t link_of_source, uint64_t job)
{
    for (enum gw_job_event_kind e = GW_JOB_ASK_COMMIT; e <= GW_JOB_CLOSED; e++)
        world_event(&w, link_of_source, job, e);
    cr_assert_eq(gw_coordinator_job(w.c, job)->state, GW_JOB_DONE);
}

Test(plan, scale_out_step_by_step_leaves_even_shares)
{
    uint64_t link[9];
    for (uint32_t n = 0; n < 9; n++) {
        char id[8];
        snprintf(id, sizeof id, "s%u", n);
        link[n] = world_join(&w, id, 1);
        if (n == 0)
            continue;
        uint64_t ids[GW_SERVERS_MAX];
        uint32_t jobs;
        cr_assert_eq(gw_coordinator_scale_out(w.c, id, ids, &jobs, text, sizeof text), GW_OK, "%s",
                     text);
        world_turn(&w);
        cr_assert_eq(jobs, n, "one job a source");
        for (uint32_t i = 0; i < jobs; i++)
            run(link[gw_coordinator_job(w.c, ids[i])->from], ids[i]);
        cr_expect_eq(owned(n), GW_SLOTS / (n + 1));
        /* Each step rounds every source by less than a slot. */
        for (uint32_t i = 0; i < n; i++)
            cr_expect(owned(i) + n >= GW_SLOTS / (n + 1) && owned(i) <= GW_SLOTS / (n + 1) + n,
                      "server %u of %u has %u", i, n + 1, owned(i));
        cr_expect_eq(gw_coordinator_scale_out(w.c, id, ids, &jobs, text, sizeof text), GW_E_REFUSED,
                     "it has its share");
    }
}

Test(plan, those_with_most_give_until_all_are_even)
{
    uint64_t a = world_join(&w, "a", 1), job, ids[GW_SERVERS_MAX];
    uint32_t jobs;
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-4095", "a", "b", &job), GW_OK);
    run(a, job);
    world_join(&w, "c", 1);
    cr_assert_eq(gw_coordinator_scale_out(w.c, "c", ids, &jobs, text, sizeof text), GW_OK);
    cr_assert_eq(jobs, 1, "b has less than an even share");
    cr_expect_eq(gw_slots_count(&gw_coordinator_job(w.c, ids[0])->slots), 5461);
    cr_expect_eq(gw_coordinator_scale_out(w.c, "c", ids, &jobs, text, sizeof text), GW_E_REFUSED,
                 "what is on its way counts");
    world_turn(&w);
    run(a, ids[0]);
    world_join(&w, "d", 1); /* a 6827, b 4096, c 5461: down to 4096 each gives something */
    cr_assert_eq(gw_coordinator_scale_out(w.c, "d", ids, &jobs, text, sizeof text), GW_OK);
    cr_assert_eq(jobs, 2);
    cr_expect_eq(gw_slots_count(&gw_coordinator_job(w.c, ids[0])->slots), 2731);
    cr_expect_eq(gw_slots_count(&gw_coordinator_job(w.c, ids[1])->slots), 1365);
    world_turn(&w);
}

Test(plan, slots_that_are_moving_are_not_taken)
{
    uint64_t job, ids[GW_SERVERS_MAX];
    uint32_t jobs;
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    world_join(&w, "c", 1);
    cr_assert_eq(world_migrate(&w, "12000-16383", "a", "b", &job), GW_OK);
    cr_assert_eq(gw_coordinator_scale_out(w.c, "c", ids, &jobs, text, sizeof text), GW_OK, "%s",
                 text);
    world_turn(&w); /* checks that open jobs are disjoint */
    cr_expect_eq(jobs, 1);
    cr_expect_eq(gw_slots_count(&gw_coordinator_job(w.c, ids[0])->slots), 5461);
}

Test(plan, scale_out_is_refused_when_it_cannot_work)
{
    uint64_t ids[GW_SERVERS_MAX];
    uint32_t jobs;
    uint64_t a = world_join(&w, "a", 1);
    cr_expect_eq(gw_coordinator_scale_out(w.c, "x", ids, &jobs, text, sizeof text), GW_NOT_FOUND);
    cr_expect_eq(gw_coordinator_scale_out(w.c, "a", ids, &jobs, text, sizeof text), GW_E_REFUSED);
    world_join(&w, "b", 1);
    gw_coordinator_link_lost(w.c, a);
    cr_expect_eq(gw_coordinator_scale_out(w.c, "b", ids, &jobs, text, sizeof text), GW_E_REFUSED);
    cr_expect_not_null(strstr(text, "server a is down"), "%s", text);
    cr_expect_eq(gw_coordinator_jobs(w.c), 0);
}
