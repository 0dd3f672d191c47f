/* test_elastic.c - plans as durable parents of moves: drain, rebalance, remove; turns, failure,
 * pause, cancel, stale drafts, and a coordinator that starts again at every step. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "coordinator/state.h"
#include "tests/unit/coordinator/world.h"

#define SERVERS 4u

static struct world w;
static char text[256];
static uint64_t link_of[SERVERS + 1];
static const char *const ids[] = {"s0", "s1", "s2", "s3", "s4"};
static const struct gw_job_options options = {.rate_bytes = 5, .max_impact_us = 6, .flags = 4};
static const struct gw_job_options fast = {.rate_bytes = 1000000000};

static uint32_t owned(uint32_t server)
{
    struct gw_slots slots;
    gw_map_slots_of(gw_coordinator_map(w.c), server, &slots);
    return gw_slots_count(&slots);
}

static void heartbeat(uint32_t i, uint64_t bytes, uint16_t hot, uint32_t operations)
{
    struct gw_heartbeat h = {.incarnation = 1,
                             .map_version = gw_coordinator_map(w.c)->version,
                             .live_bytes = bytes};
    if (operations) {
        h.loads = 1;
        h.load[0] = (struct gw_load){hot, hot, operations};
    }
    cr_assert_eq(gw_coordinator_heartbeat(w.c, link_of[i], &h), GW_OK);
}

static const struct gw_job_record *running(uint32_t nth)
{
    for (uint32_t i = 0; i < gw_coordinator_jobs(w.c); i++) {
        const struct gw_job_record *job = gw_coordinator_job_at(w.c, i);
        if (gw_job_is_open(job->state) && !job->queued && nth-- == 0)
            return job;
    }
    return NULL;
}

/* No two moves that run have a server in common. */
static void check_pairs(void)
{
    bool busy[SERVERS + 1] = {false};
    const struct gw_job_record *job;
    for (uint32_t nth = 0; (job = running(nth)); nth++) {
        cr_assert_not(busy[job->from] || busy[job->to]);
        busy[job->from] = busy[job->to] = true;
        cr_assert_lt(nth, GW_PLAN_AT_ONCE);
    }
}

static void restart(void)
{
    world_stop(&w);
    world_start(&w);
    for (uint32_t i = 0; i < gw_coordinator_map(w.c)->servers; i++)
        link_of[i] = world_join(&w, ids[i], 1);
}

/* Runs the moves that there are to their ends; with `kills`, through a restart before each step. */
static void run(bool kills)
{
    const struct gw_job_record *job;
    for (;;) {
        world_turn(&w);
        check_pairs();
        if (!(job = running(0)))
            return;
        static const enum gw_job_event_kind next[GW_JOB_STATES] = {
            [GW_JOB_CREATED] = GW_JOB_ASK_COMMIT,
            [GW_JOB_COMMITTED] = GW_JOB_ARRIVED,
            [GW_JOB_CLOSING] = GW_JOB_CLOSED};
        uint64_t id = job->id;
        if (kills)
            restart();
        job = gw_coordinator_job(w.c, id);
        world_event(&w, link_of[job->from], id, next[job->state]);
    }
}

static uint64_t begin(struct gw_plan_draft *draft)
{
    uint64_t plan = 0;
    cr_assert_eq(gw_coordinator_plan_begin(w.c, draft, &options, &plan, text, sizeof text), GW_OK,
                 "%s", text);
    gw_plan_draft_destroy(draft);
    world_turn(&w);
    return plan;
}

static uint64_t drain(const char *server)
{
    struct gw_plan_draft draft;
    cr_assert_eq(gw_plan_drain(w.c, server, NULL, &draft, text, sizeof text), GW_OK, "%s", text);
    return begin(&draft);
}

static void set_up(void)
{
    world_init(&w);
    for (uint32_t i = 0; i < SERVERS; i++) {
        link_of[i] = world_join(&w, ids[i], 1);
        uint64_t jobs_ids[SERVERS];
        uint32_t jobs;
        if (i)
            cr_assert_eq(gw_coordinator_scale_out(w.c, ids[i], jobs_ids, &jobs, text, sizeof text),
                         GW_OK, "%s", text);
        run(false);
    }
}
static void tear_down(void)
{
    world_fini(&w);
}
TestSuite(elastic, .init = set_up, .fini = tear_down);

Test(elastic, a_drain_gives_everything_away_evenly_by_bytes)
{
    heartbeat(0, 3000000000, 0, 0);
    heartbeat(1, 3000000000, 0, 0);
    heartbeat(2, 0, 0, 0);
    heartbeat(3, 3000000000, 0, 0);
    struct gw_plan_draft draft;
    cr_assert_eq(gw_plan_drain(w.c, "s3", &fast, &draft, text, sizeof text), GW_OK);
    cr_expect_eq(draft.after[3].slots, 0);
    cr_expect(draft.after[2].bytes > 2900000000, "%f: the empty one is filled first",
              draft.after[2].bytes);
    cr_expect_gt(draft.ms, 2900);
    uint64_t before = gw_coordinator_map(w.c)->version, plan = begin(&draft);
    const struct gw_plan_record *is = gw_coordinator_plan(w.c, plan);
    cr_expect_eq(is->map_version, before);
    cr_expect_eq(memcmp(&gw_coordinator_job(w.c, plan + 1)->options, &options, sizeof options), 0);
    run(false);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->state, GW_JOB_DONE);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->moves_done, is->moves);
    cr_expect_eq(owned(3), 0);
    uint64_t job;
    cr_expect_eq(world_migrate(&w, "0-9", world_owner(&w, 0), "s3", &job), GW_E_REFUSED,
                 "it is drained for good");
    uint64_t list[SERVERS];
    uint32_t jobs;
    cr_expect_eq(gw_coordinator_scale_out(w.c, "s3", list, &jobs, text, sizeof text), GW_OK,
                 "but a scale-out takes it back: %s", text);
    run(false);
    cr_expect_geq(owned(3), GW_SLOTS / 4 - 1);
}

Test(elastic, a_coordinator_that_starts_again_at_every_step_goes_on)
{
    uint64_t plan = drain("s1");
    cr_assert_eq(gw_coordinator_plan(w.c, plan)->moves, 3);
    run(true);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->state, GW_JOB_DONE);
    cr_expect_eq(owned(1), 0);
    restart();
    struct gw_server_record record;
    gw_coordinator_server_record(w.c, 1, &record);
    cr_expect(record.drained);
    cr_assert_eq(gw_coordinator_remove(w.c, "s0", true, text, sizeof text), GW_E_REFUSED);
    cr_assert_eq(gw_coordinator_remove(w.c, "s1", false, text, sizeof text), GW_OK);
    cr_assert_not(gw_coordinator_server_lost(w.c, 1));
    cr_assert_eq(gw_coordinator_remove(w.c, "s1", true, text, sizeof text), GW_OK);
    world_turn(&w);
    cr_expect_eq(world_last(&w, link_of[1], GW_ACT_REFUSE)->status, GW_E_CANCELLED);
    link_of[1] = world_join(&w, "s1", 2);
    cr_expect_not_null(strstr(world_last(&w, link_of[1], GW_ACT_REFUSE)->text, "removed"));
    struct gw_plan_draft draft;
    cr_expect_eq(gw_plan_scale_out(w.c, "s1", NULL, &draft, text, sizeof text), GW_E_REFUSED);
}

Test(elastic, cancelling_in_the_middle_lets_what_is_committed_end)
{
    uint64_t plan = drain("s1");
    const struct gw_job_record *first = running(0);
    cr_assert_not_null(first);
    cr_assert_null(running(1), "all have s1 in common");
    uint64_t id = first->id;
    world_event(&w, link_of[1], id, GW_JOB_ASK_COMMIT);
    uint32_t left = owned(1);
    cr_assert_eq(gw_coordinator_plan_cancel(w.c, plan, text, sizeof text), GW_OK);
    world_turn(&w);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->state, GW_JOB_CREATED, "until the move has ended");
    cr_expect_eq(gw_coordinator_job(w.c, plan + 3)->state, GW_JOB_CANCELLED);
    restart();
    run(false);
    cr_expect_eq(gw_coordinator_job(w.c, id)->state, GW_JOB_DONE);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->state, GW_JOB_CANCELLED);
    cr_expect_eq(gw_coordinator_plan_cancel(w.c, plan, text, sizeof text), GW_OK, "again");
    cr_expect_eq(owned(1), left);
    struct gw_server_record record;
    gw_coordinator_server_record(w.c, 1, &record);
    cr_expect_not(record.drained);
}

Test(elastic, a_move_that_fails_ends_its_plan)
{
    uint64_t plan = drain("s1"), id = running(0)->id;
    world_event(&w, link_of[1], id, GW_JOB_GAVE_UP);
    world_turn(&w);
    const struct gw_plan_record *is = gw_coordinator_plan(w.c, plan);
    cr_expect_eq(is->state, GW_JOB_FAILED);
    cr_expect_not_null(strstr(is->error, "word 5"), "%s", is->error);
    cr_expect_null(running(0));
    cr_expect_eq(gw_coordinator_plan_cancel(w.c, plan, text, sizeof text), GW_E_REFUSED);
    cr_expect_eq(gw_coordinator_plan_pause(w.c, plan, true, text, sizeof text), GW_E_REFUSED);
}

Test(elastic, a_paused_plan_begins_nothing_and_its_moves_stand_still)
{
    uint64_t plan = drain("s1"), id = running(0)->id;
    cr_assert_eq(gw_coordinator_plan_pause(w.c, plan, true, text, sizeof text), GW_OK);
    world_turn(&w);
    world_event(&w, link_of[1], id, GW_JOB_ASK_COMMIT);
    cr_expect_eq(gw_coordinator_job(w.c, id)->state, GW_JOB_CREATED);
    restart();
    cr_expect(gw_coordinator_plan(w.c, plan)->paused);
    cr_expect(gw_coordinator_job(w.c, plan + 2)->paused);
    cr_assert_eq(gw_coordinator_plan_pause(w.c, plan, false, text, sizeof text), GW_OK);
    run(false);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->state, GW_JOB_DONE);
}

Test(elastic, slots_of_waiting_moves_are_taken_and_servers_do_not_hear_of_them)
{
    uint64_t plan = drain("s1"), job;
    const struct gw_job_record *last = gw_coordinator_job(w.c, plan + 3);
    cr_assert(last->queued);
    char slots[32];
    uint16_t first, end;
    uint32_t at = 0;
    cr_assert(gw_slots_next_run(&last->slots, &at, &first, &end));
    snprintf(slots, sizeof slots, "%u", first);
    cr_expect_eq(world_migrate(&w, slots, "s1", "s2", &job), GW_E_BUSY);
    link_of[last->to] = world_join(&w, ids[last->to], 1);
    cr_expect_eq(world_sent_to(&w, link_of[last->to], GW_ACT_JOB), 0);
    world_event(&w, link_of[1], plan + 3, GW_JOB_ASK_COMMIT); /* cannot be */
    cr_expect_eq(gw_coordinator_job(w.c, plan + 3)->state, GW_JOB_CREATED);
    struct gw_plan_draft draft;
    cr_expect_eq(gw_plan_drain(w.c, ids[last->to], NULL, &draft, text, sizeof text), GW_E_REFUSED,
                 "slots are on their way there");
    run(false);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->state, GW_JOB_DONE);
}

Test(elastic, a_rebalance_makes_bytes_even_and_a_stale_one_is_refused)
{
    heartbeat(0, 9000000, 0, 0);
    heartbeat(1, 1000000, 0, 0);
    heartbeat(2, 1000000, 0, 0);
    heartbeat(3, 1000000, 0, 0);
    struct gw_plan_draft draft, stale;
    cr_assert_eq(gw_plan_rebalance(w.c, GW_PLAN_BY_BYTES, NULL, &draft, text, sizeof text), GW_OK);
    for (uint32_t i = 0; i < SERVERS; i++)
        cr_expect(draft.after[i].bytes > 2700000 && draft.after[i].bytes < 3300000, "%u: %f", i,
                  draft.after[i].bytes);
    cr_assert_eq(gw_plan_rebalance(w.c, GW_PLAN_BY_BYTES, NULL, &stale, text, sizeof text), GW_OK);
    begin(&draft);
    uint64_t plan;
    cr_expect_eq(gw_coordinator_plan_begin(w.c, &stale, &options, &plan, text, sizeof text),
                 GW_E_BUSY, "its slots are in moves");
    run(false);
    cr_expect_eq(gw_coordinator_plan_begin(w.c, &stale, &options, &plan, text, sizeof text),
                 GW_MISMATCH);
    cr_expect_not_null(strstr(text, "map version"), "%s", text);
    gw_plan_draft_destroy(&stale);
}

Test(elastic, a_rebalance_moves_others_away_from_a_hot_slot)
{
    uint16_t hot = 0;
    while (strcmp(world_owner(&w, hot), "s2") != 0)
        hot++;
    for (uint32_t i = 0; i < SERVERS; i++)
        heartbeat(i, 1000000, hot, i == 2 ? 100000 : 0);
    struct gw_plan_draft draft;
    cr_assert_eq(gw_plan_rebalance(w.c, GW_PLAN_BY_BOTH, NULL, &draft, text, sizeof text), GW_OK);
    cr_expect_gt(draft.moves, 0);
    cr_expect_lt(draft.after[2].slots, owned(2));
    for (uint32_t i = 0; i < draft.moves; i++) {
        cr_expect_eq(draft.move[i].from, 2);
        cr_expect_not(gw_slots_has(&draft.move[i].slots, hot), "nobody has room for it");
    }
    gw_plan_draft_destroy(&draft);
    for (uint32_t i = 0; i < SERVERS; i++)
        heartbeat(i, 1000000, 0, 0);
    cr_assert_eq(gw_plan_rebalance(w.c, GW_PLAN_BY_BOTH, NULL, &draft, text, sizeof text), GW_OK);
    cr_expect_eq(draft.moves, 0, "even as it is");
    uint64_t plan;
    cr_expect_eq(gw_coordinator_plan_begin(w.c, &draft, &options, &plan, text, sizeof text),
                 GW_E_REFUSED);
    gw_plan_draft_destroy(&draft);
}

Test(elastic, what_cannot_be_is_refused)
{
    struct gw_plan_draft draft;
    cr_expect_eq(gw_plan_drain(w.c, "x", NULL, &draft, text, sizeof text), GW_NOT_FOUND);
    gw_coordinator_link_lost(w.c, link_of[1]);
    cr_expect_eq(gw_plan_drain(w.c, "s1", NULL, &draft, text, sizeof text), GW_E_REFUSED);
    cr_expect_not_null(strstr(text, "it is down"), "%s", text);
    for (uint32_t i = 1; i < SERVERS; i++)
        gw_coordinator_link_lost(w.c, link_of[i]);
    cr_expect_eq(gw_plan_drain(w.c, "s0", NULL, &draft, text, sizeof text), GW_E_REFUSED);
    cr_expect_not_null(strstr(text, "no other server"), "%s", text);
    cr_expect_eq(gw_coordinator_plan_cancel(w.c, 99, text, sizeof text), GW_NOT_FOUND);
    world_turn(&w);
}

/* Goal: moves between disjoint pairs run at the same time. */
Test(elastic, disjoint_pairs_run_side_by_side)
{
    struct gw_plan_draft draft = {.kind = GW_PLAN_REBALANCE,
                                  .map_version = gw_coordinator_map(w.c)->version};
    draft.move = calloc(3, sizeof *draft.move);
    static const uint32_t pair[3][2] = {{0, 1}, {2, 3}, {1, 2}};
    for (uint32_t i = 0; i < 3; i++) {
        struct gw_slots slots;
        uint16_t first, last;
        uint32_t at = 0;
        gw_map_slots_of(gw_coordinator_map(w.c), pair[i][0], &slots);
        cr_assert(gw_slots_next_run(&slots, &at, &first, &last));
        draft.move[draft.moves] = (struct gw_plan_move){.from = pair[i][0], .to = pair[i][1]};
        gw_slots_add(&draft.move[draft.moves++].slots, first);
    }
    cr_assert_eq(gw_plan_of_moves(w.c, NULL, &draft), GW_OK);
    uint64_t plan = begin(&draft);
    cr_expect_not_null(running(1));
    cr_expect_null(running(2), "the third has a server of each");
    run(false);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->state, GW_JOB_DONE);
}

/* Goal: a plan right behind another one reckons with what slots hold, not with sums of another
 * moment; a rebalance, which looks at differences, waits for new ones. */
Test(elastic, numbers_of_before_a_move_do_not_count_behind_it)
{
    struct gw_plan_draft draft;
    for (uint32_t i = 0; i < SERVERS; i++)
        heartbeat(i, 4096000, 0, 0);
    drain("s1");
    run(false);
    cr_assert_eq(gw_plan_rebalance(w.c, GW_PLAN_BY_BYTES, NULL, &draft, text, sizeof text),
                 GW_E_BUSY);
    cr_expect_not_null(strstr(text, "has not said yet"), "%s", text);
    cr_assert_eq(gw_plan_drain(w.c, "s2", NULL, &draft, text, sizeof text), GW_OK, "by slots");
    cr_expect_eq(draft.moves, 2);
    gw_plan_draft_destroy(&draft);
    for (uint32_t i = 0; i < SERVERS; i++)
        heartbeat(i, i == 1 ? 0 : 5461333, 0, 0);
    cr_assert_eq(gw_plan_rebalance(w.c, GW_PLAN_BY_BYTES, NULL, &draft, text, sizeof text), GW_OK);
    cr_expect_eq(draft.moves, 0, "and s1 is drained");
    gw_plan_draft_destroy(&draft);
}

Test(elastic, while_a_server_has_a_job_its_sums_do_not_count)
{
    uint64_t job;
    struct gw_plan_draft draft;
    for (uint32_t i = 0; i < SERVERS; i++)
        heartbeat(i, 4096000, 0, 0);
    cr_assert_eq(world_migrate(&w, "0-9", "s0", "s1", &job), GW_OK);
    world_turn(&w);
    heartbeat(0, 1, 0, 0);
    heartbeat(1, 1000000000, 0, 0);
    cr_assert_eq(gw_plan_rebalance(w.c, GW_PLAN_BY_BYTES, NULL, &draft, text, sizeof text), GW_OK);
    cr_expect_eq(draft.moves, 0, "%f in all", draft.bytes);
    gw_plan_draft_destroy(&draft);
}

/* Goal: with a shared tier at both ends only what is in memory is shipped, and the last real rate
 * counts. */
Test(elastic, a_prediction_knows_the_shared_tier)
{
    struct gw_plan_draft draft;
    struct gw_heartbeat h = {.incarnation = 1,
                             .map_version = gw_coordinator_map(w.c)->version,
                             .live_bytes = 10000000000,
                             .memory_used = 1000000000};
    for (uint32_t shared = 0; shared < 2; shared++) {
        for (uint32_t i = 0; i < SERVERS; i++) {
            h.log_id = shared ? 100 + i : 0;
            cr_assert_eq(gw_coordinator_heartbeat(w.c, link_of[i], &h), GW_OK);
        }
        cr_assert_eq(gw_plan_drain(w.c, "s1", NULL, &draft, text, sizeof text), GW_OK);
        cr_expect_float_eq(draft.bytes, 1e10, 1e7);
        cr_expect_float_eq(draft.shipped, shared ? 1e9 : 1e10, 1e7);
        cr_expect_float_eq((double)draft.ms, (shared ? 5000 : 50000) + 3000, 200);
        gw_plan_draft_destroy(&draft);
    }
    static const struct gw_job_options all = {.flags = GW_JOB_NO_INDIRECTION,
                                              .rate_bytes = 100000000};
    cr_assert_eq(gw_plan_drain(w.c, "s1", &all, &draft, text, sizeof text), GW_OK);
    cr_expect_float_eq((double)draft.ms, 103000, 300);
    begin(&draft);
    cr_expect_gt(running(0)->bytes_left, 3000000000);
}

/* Goal: slots that were in another job when the drain began are not forgotten. */
Test(elastic, a_drain_waits_for_what_is_in_another_job_and_fails_if_that_stays)
{
    for (uint32_t cancelled = 0; cancelled < 2; cancelled++) {
        uint64_t job;
        char slots[32];
        uint16_t slot = 0;
        while (strcmp(world_owner(&w, slot), cancelled ? "s2" : "s1") != 0)
            slot++;
        snprintf(slots, sizeof slots, "%u", slot);
        uint32_t from = cancelled ? 2 : 1;
        cr_assert_eq(world_migrate(&w, slots, ids[from], "s0", &job), GW_OK);
        uint64_t plan = drain(ids[from]);
        world_turn(&w);
        cr_expect_null(running(1), "its server is busy");
        for (uint32_t i = 0; i < 4; i++) { /* the plan's moves wait for the job */
            const struct gw_job_record *move = gw_coordinator_job(w.c, plan + 1);
            gw_coordinator_plan_waits(w.c, move, text, sizeof text);
            cr_expect_not_null(strstr(text, "waits"), "%s", text);
        }
        if (cancelled)
            cr_assert_eq(gw_coordinator_cancel(w.c, job, text, sizeof text), GW_OK);
        run(false);
        const struct gw_plan_record *is = gw_coordinator_plan(w.c, plan);
        cr_expect_eq(is->state, cancelled ? GW_JOB_FAILED : GW_JOB_DONE, "%s", is->error);
        cr_expect_eq(owned(from), cancelled);
        if (cancelled)
            cr_expect_not_null(strstr(is->error, "still owns 1 slots"), "%s", is->error);
    }
}

/* Goal: a plan with a server that was given up ends by itself. */
Test(elastic, giving_a_server_up_cancels_what_waits_for_it)
{
    uint64_t job, plan = drain("s1");
    const struct gw_job_record *first = running(0);
    uint32_t lost = first->to, other = lost == 3 ? 2 : 3;
    uint64_t id = first->id;
    world_event(&w, link_of[1], id, GW_JOB_ASK_COMMIT);
    struct gw_slots slots;
    uint16_t a, b;
    uint32_t at = 0;
    char range[32];
    gw_map_slots_of(gw_coordinator_map(w.c), other, &slots);
    cr_assert(gw_slots_next_run(&slots, &at, &a, &b));
    snprintf(range, sizeof range, "%u", a);
    cr_assert_eq(world_migrate(&w, range, ids[other], ids[lost], &job), GW_OK);
    gw_coordinator_link_lost(w.c, link_of[lost]);
    for (uint32_t i = 0; i < 8; i++) {
        world_pass(&w, 2500);
        for (uint32_t s = 0; s < SERVERS; s++)
            if (s != lost)
                heartbeat(s, 1000, 0, 0);
    }
    world_turn(&w);
    cr_assert_eq(gw_coordinator_revive(w.c, id, ids[lost], true, text, sizeof text), GW_OK, "%s",
                 text);
    world_turn(&w);
    cr_expect_eq(gw_coordinator_job(w.c, job)->state, GW_JOB_CANCELLED);
    cr_expect_not_null(strstr(gw_coordinator_job(w.c, job)->error, "given up for lost"));
    world_turn(&w);
    cr_expect_eq(gw_coordinator_plan(w.c, plan)->state, GW_JOB_FAILED);
}

Test(elastic, moves_that_are_none_of_the_plans_kind_are_refused)
{
    struct gw_plan_draft draft;
    uint64_t plan;
    cr_assert_eq(gw_plan_drain(w.c, "s1", NULL, &draft, text, sizeof text), GW_OK);
    draft.server = 2;
    cr_expect_eq(gw_coordinator_plan_begin(w.c, &draft, &options, &plan, text, sizeof text),
                 GW_E_INVALID);
    cr_expect_not_null(strstr(text, "none of a drain of server s2"), "%s", text);
    gw_plan_draft_destroy(&draft);
}
