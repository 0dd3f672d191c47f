/* test_needs.c - what each origin is told that others need of its log. */
#include <criterion/criterion.h>

#include "coordinator/state.h"
#include "tests/unit/coordinator/world.h"

#define LOG(server) (0x1000u + (server))
#define NONE        UINT64_MAX

static struct world w;
static char text[256];
static uint64_t link_of[4];
static uint64_t round_of[4]; /* as the servers have heard it */
static uint64_t keep_of[4], orphan_of[4], done_of[4];

static void set_up(void)
{
    world_init(&w);
    static const char *const ids[] = {"s0", "s1", "s2", "s3"};
    for (uint32_t i = 0; i < 4; i++)
        link_of[i] = world_join(&w, ids[i], 1);
}
static void tear_down(void)
{
    world_fini(&w);
}
TestSuite(needs, .init = set_up, .fini = tear_down);

/* What server `i` says it needs: of log LOG(of) from `lowest`; NONE: nothing. */
static void say(uint32_t i, uint32_t of, uint64_t lowest)
{
    struct gw_heartbeat h = {.incarnation = 1,
                             .map_version = gw_coordinator_map(w.c)->version,
                             .log_id = LOG(i),
                             .round = round_of[i],
                             .orphan_done = done_of[i]};
    if (lowest != NONE) {
        h.needs = 1;
        h.need[0] = (struct gw_need){LOG(of), lowest};
    }
    cr_assert_eq(gw_coordinator_heartbeat(w.c, link_of[i], &h), GW_OK);
    world_turn(&w);
    if (world_sent_to(&w, link_of[i], GW_ACT_NEEDS)) {
        struct gw_needs needs;
        gw_coordinator_needs_wire(w.c, i, &needs);
        round_of[i] = needs.round;
        keep_of[i] = needs.keep_from;
        orphan_of[i] = needs.orphan;
    }
}

/* Some seconds in which s1 needs the log of s0 from `one`, and s2 that of s1 from `two`. */
static void live(uint64_t one, uint64_t two, uint32_t servers)
{
    for (uint32_t turn = 0; turn < 15; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(1, 0, one);
        say(2, 1, two);
        if (servers > 3)
            say(3, 0, NONE);
    }
}

Test(needs, everybody_speaks_then_the_origin_hears_the_minimum)
{
    for (uint32_t turn = 0; turn < 3; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(1, 0, 500);
        say(2, 0, 700);
    }
    cr_expect_eq(keep_of[0], 0, "s3 has not spoken");
    for (uint32_t turn = 0; turn < 4; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(1, 0, 500);
        say(2, 0, 700);
        say(3, 0, NONE);
    }
    cr_expect_eq(keep_of[0], 500);
    cr_expect_eq(keep_of[1], NONE);
    live(NONE, NONE, 4);
    cr_expect_eq(keep_of[0], NONE);
}

Test(needs, a_job_of_the_origin_takes_it_back_until_a_new_round_was_heard)
{
    uint64_t job;
    live(NONE, NONE, 4);
    cr_assert_eq(keep_of[0], NONE);
    cr_assert_eq(world_migrate(&w, "0-99", "s0", "s1", &job), GW_OK);
    for (enum gw_job_event_kind e = GW_JOB_ASK_COMMIT; e <= GW_JOB_CLOSED; e++) {
        live(NONE, NONE, 4);
        world_event(&w, link_of[0], job, e);
    }
    say(0, 0, NONE);
    cr_expect_eq(keep_of[0], 0, "s1 may have indirections that it has not spoken of");
    uint64_t old = round_of[1];
    say(1, 0, NONE); /* composed before it heard of the round */
    cr_assert_neq(round_of[1], old);
    round_of[1] = old;
    for (uint32_t turn = 0; turn < 5; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        uint64_t heard = old;
        round_of[1] = heard;
        say(1, 0, NONE);
        round_of[1] = heard;
        say(2, 0, NONE);
        say(3, 0, NONE);
    }
    cr_expect_eq(keep_of[0], 0);
    round_of[1] = round_of[0];
    live(900, NONE, 4);
    cr_expect_eq(keep_of[0], 900);
}

Test(needs, a_server_that_is_away_stops_the_minimum_from_rising)
{
    live(500, NONE, 4);
    cr_assert_eq(keep_of[0], 500);
    gw_coordinator_link_lost(w.c, link_of[1]);
    for (uint32_t turn = 0; turn < 15; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(2, 0, NONE);
        say(3, 0, NONE);
    }
    cr_expect_eq(keep_of[0], 500);
}

/* Goal: s2 needs the log of s1, in which there may be indirections to that of s0 which s1 has
 * forgotten; also after a restart of the coordinator, and when s1 is removed. */
Test(needs, they_are_transitive_and_durable)
{
    live(500, 300, 4);
    cr_assert_eq(keep_of[0], 500);
    cr_assert_eq(keep_of[1], 300);
    live(NONE, 300, 4);
    cr_expect_eq(keep_of[0], 500, "s1 counts with what it said, for it is needed");
    world_stop(&w);
    world_start(&w);
    static const char *const ids[] = {"s0", "s1", "s2", "s3"};
    for (uint32_t i = 0; i < 4; i++) {
        link_of[i] = world_join(&w, ids[i], 1);
        round_of[i] = 0;
    }
    live(NONE, 300, 4);
    cr_expect_eq(keep_of[0], 500);
    cr_assert_eq(gw_coordinator_remove(w.c, "s1", true, text, sizeof text), GW_OK, "%s", text);
    world_turn(&w);
    cr_assert_eq(world_last(&w, link_of[1], GW_ACT_REFUSE)->status, GW_E_CANCELLED);
    for (uint32_t turn = 0; turn < 15; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(2, 1, 300);
        say(3, 0, NONE);
    }
    cr_expect_eq(keep_of[0], 500);
    cr_expect_eq(orphan_of[0], 0, "s2 needs its objects");
    for (uint32_t turn = 0; turn < 15; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(2, 1, NONE);
        say(3, 0, NONE);
    }
    cr_expect_eq(keep_of[0], NONE);
    cr_expect_eq(orphan_of[0], LOG(1), "the first server that is up inherits");
    done_of[0] = LOG(1);
    for (uint32_t turn = 0; turn < 3; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(2, 1, NONE);
        say(3, 0, NONE);
    }
    cr_expect_eq(orphan_of[0], 0);
    struct gw_server_record record;
    gw_coordinator_server_record(w.c, 1, &record);
    cr_expect_eq(record.log_id, 0);
    cr_expect(record.removed && record.lost);
}

Test(needs, more_logs_than_fit_keep_everything)
{
    live(NONE, NONE, 4);
    cr_assert_eq(keep_of[0], NONE);
    struct gw_heartbeat h = {.incarnation = 1,
                             .map_version = gw_coordinator_map(w.c)->version,
                             .log_id = LOG(3),
                             .flags = GW_HEARTBEAT_NEEDS_ALL,
                             .round = round_of[3]};
    for (uint32_t turn = 0; turn < 3; turn++) {
        world_pass(&w, 1100);
        cr_assert_eq(gw_coordinator_heartbeat(w.c, link_of[3], &h), GW_OK);
        say(0, 0, NONE);
        say(1, 0, NONE);
        say(2, 0, NONE);
    }
    cr_expect_eq(keep_of[0], 0);
}

/* Some seconds in which all but s1 speak; s2 needs the log of s1 from `two`. */
static void live_without_s1(uint64_t two)
{
    for (uint32_t turn = 0; turn < 15; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(2, 1, two);
        say(3, 0, NONE);
    }
}

/* Goal: what was said on an earlier connection does not count on a new one: the process may have
 * found needs in a checkpoint meanwhile. */
Test(needs, who_joins_again_counts_when_it_has_spoken_again)
{
    live(500, NONE, 4);
    cr_assert_eq(keep_of[0], 500);
    for (uint64_t incarnation = 1; incarnation <= 2; incarnation++) {
        link_of[1] = world_join(&w, "s1", incarnation);
        round_of[1] = 0;
        live_without_s1(NONE);
        cr_expect_eq(keep_of[0], 500, "process %lu", (unsigned long)incarnation);
    }
}

/* Goal: the target of a move is lost before it could say what indirections it got. While s2 needs
 * its log, in which there may be some, nothing at all is deleted. */
Test(needs, who_is_lost_before_it_spoke_needs_everything_while_it_is_needed)
{
    uint64_t job;
    live(NONE, 300, 4);
    cr_assert_eq(keep_of[0], NONE);
    cr_assert_eq(world_migrate(&w, "0-99", "s0", "s1", &job), GW_OK);
    world_event(&w, link_of[0], job, GW_JOB_ASK_COMMIT);
    live(NONE, 300, 4);
    cr_assert_eq(world_migrate(&w, "200-299", "s0", "s2", &job), GW_OK); /* a new round */
    for (enum gw_job_event_kind e = GW_JOB_ASK_COMMIT; e <= GW_JOB_CLOSED; e++)
        world_event(&w, link_of[0], job, e);
    live_without_s1(300); /* longer than one must be silent */
    cr_assert_eq(gw_coordinator_revive(w.c, 1, "s1", true, text, sizeof text), GW_OK, "%s", text);
    world_turn(&w);
    live_without_s1(300);
    cr_expect_eq(keep_of[0], 0);
    cr_expect_eq(keep_of[3], 0);
    world_stop(&w);
    world_start(&w);
    static const char *const ids[] = {"s0", "", "s2", "s3"};
    for (uint32_t i = 0; i < 4; i += i == 0 ? 2 : 1) {
        link_of[i] = world_join(&w, ids[i], 1);
        round_of[i] = 0;
    }
    live_without_s1(300);
    cr_expect_eq(keep_of[0], 0, "also after a restart");
    live_without_s1(NONE);
    cr_expect_eq(keep_of[0], NONE, "nobody comes to it through that log any more");
    cr_expect_eq(orphan_of[0], 0, "what it left is for people to decide on");
}

/* Goal: s1 comes back with another data directory. What its old log led on to nobody knows. */
Test(needs, a_log_that_no_server_has_keeps_everything)
{
    live(500, 300, 4);
    cr_assert_eq(keep_of[0], 500);
    for (uint32_t turn = 0; turn < 30; turn++) {
        world_pass(&w, 1100);
        struct gw_heartbeat h = {.incarnation = 1,
                                 .map_version = gw_coordinator_map(w.c)->version,
                                 .log_id = 0x7777,
                                 .round = round_of[0]};
        cr_assert_eq(gw_coordinator_heartbeat(w.c, link_of[1], &h), GW_OK);
        say(0, 0, NONE);
        say(2, 1, turn < 15 ? 300 : NONE);
        say(3, 0, NONE);
        if (turn == 14)
            cr_expect_eq(keep_of[0], 0, "s2 needs the old log of s1");
    }
    cr_expect_eq(keep_of[0], NONE);
}

/* Goal: a coordinator that has just begun knows nothing: nothing rises before all have spoken. */
Test(needs, a_new_coordinator_waits_for_everybody)
{
    live(500, NONE, 4);
    cr_assert_eq(keep_of[0], 500);
    world_stop(&w);
    world_start(&w);
    static const char *const ids[] = {"s0", "s1", "s2", "s3"};
    for (uint32_t i = 0; i < 3; i++) {
        link_of[i] = world_join(&w, ids[i], 1);
        round_of[i] = 0;
    }
    keep_of[0] = NONE; /* what it holds; the first NEEDS replaces it */
    for (uint32_t turn = 0; turn < 15; turn++) {
        world_pass(&w, 1100);
        say(0, 0, NONE);
        say(1, 0, NONE);
        say(2, 1, NONE);
    }
    cr_expect_eq(keep_of[0], 0, "s3 is away, and it may need anything");
    link_of[3] = world_join(&w, "s3", 1);
    round_of[3] = 0;
    live(NONE, NONE, 4);
    cr_expect_eq(keep_of[0], NONE);
}
