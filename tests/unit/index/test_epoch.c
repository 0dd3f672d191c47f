/* Goal: triggers wait for exactly those who were inside, cuts for exactly those who take part. */
#include "index/epoch.h"

#include <criterion/criterion.h>

#define SLOTS 3u

static struct gw_epoch *epoch;
static uint32_t slot[SLOTS];

static void setup(void)
{
    cr_assert_eq(gw_epoch_create(SLOTS, &epoch), GW_OK);
    for (uint32_t i = 0; i < SLOTS; i++)
        cr_assert_eq(gw_epoch_join(epoch, i < 2, &slot[i]), GW_OK); /* the last takes no part */
}

static void teardown(void)
{
    for (uint32_t i = 0; i < SLOTS; i++)
        gw_epoch_leave(epoch, slot[i]);
    gw_epoch_destroy(epoch);
}

TestSuite(epoch, .init = setup, .fini = teardown);

static void count(void *arg)
{
    ++*(uint32_t *)arg;
}

Test(epoch, a_trigger_waits_for_who_was_inside)
{
    uint32_t ran = 0;
    gw_epoch_enter(epoch, slot[0]);
    cr_assert_eq(gw_epoch_defer(epoch, count, &ran), GW_OK);
    gw_epoch_enter(epoch, slot[1]); /* came later: does not hold it back */
    gw_epoch_poll(epoch);
    cr_expect_eq(ran, 0, "ran under a thread that was inside");
    cr_expect_eq(gw_epoch_waiting(epoch), 1);
    gw_epoch_exit(epoch, slot[0]);
    gw_epoch_poll(epoch);
    cr_expect_eq(ran, 1, "did not run after the last one left");
    gw_epoch_poll(epoch);
    cr_expect_eq(ran, 1, "ran twice");
    gw_epoch_exit(epoch, slot[1]);
}

Test(epoch, a_thread_that_left_and_came_again_holds_nothing_back)
{
    uint32_t ran = 0;
    gw_epoch_enter(epoch, slot[0]);
    cr_assert_eq(gw_epoch_defer(epoch, count, &ran), GW_OK);
    gw_epoch_exit(epoch, slot[0]);
    gw_epoch_enter(epoch, slot[0]);
    gw_epoch_poll(epoch);
    cr_expect_eq(ran, 1);
    gw_epoch_exit(epoch, slot[0]);
}

static void defer_again(void *arg)
{
    cr_assert_eq(gw_epoch_defer(epoch, count, arg), GW_OK);
}

Test(epoch, a_trigger_may_defer_the_next_step)
{
    uint32_t ran = 0;
    gw_epoch_enter(epoch, slot[0]);
    cr_assert_eq(gw_epoch_defer(epoch, defer_again, &ran), GW_OK);
    gw_epoch_exit(epoch, slot[0]);
    gw_epoch_enter(epoch, slot[1]);
    gw_epoch_poll(epoch);
    cr_expect_eq(ran, 0, "the second step waits for who is inside now");
    gw_epoch_exit(epoch, slot[1]);
    gw_epoch_poll(epoch);
    cr_expect_eq(ran, 1);
}

Test(epoch, being_full_is_a_status)
{
    uint32_t ran = 0;
    gw_epoch_enter(epoch, slot[0]);
    for (uint32_t i = 0; i < GW_EPOCH_ACTIONS_MAX; i++)
        cr_assert_eq(gw_epoch_defer(epoch, count, &ran), GW_OK);
    cr_expect_eq(gw_epoch_defer(epoch, count, &ran), GW_E_FULL);
    gw_epoch_exit(epoch, slot[0]);
    cr_expect_eq(gw_epoch_poll(epoch), GW_EPOCH_ACTIONS_MAX);
    cr_expect_eq(ran, GW_EPOCH_ACTIONS_MAX);
    uint32_t one_more;
    cr_expect_eq(gw_epoch_join(epoch, true, &one_more), GW_E_LIMIT);
}

Test(epoch, a_cut_needs_each_participant_once_and_nobody_else)
{
    uint32_t done = 0;
    struct gw_cut cut = {.phase = 3, .subject = &done, .done = count, .arg = &done}, seen;
    cr_assert_eq(gw_cut_publish(epoch, &cut), GW_OK);
    cr_expect_not(gw_cut_next(epoch, slot[2], &seen), "takes no part");
    cr_expect(gw_cut_next(epoch, slot[0], &seen));
    cr_expect_eq(seen.phase, 3);
    cr_expect_eq(seen.subject, &done);
    gw_cut_acknowledge(epoch, slot[0]);
    cr_expect_eq(done, 0);
    cr_expect_eq(gw_cut_open(epoch), 1);
    gw_cut_acknowledge(epoch, slot[1]);
    cr_expect_eq(done, 1);
    cr_expect_eq(gw_cut_open(epoch), 0);
    cr_expect_not(gw_cut_next(epoch, slot[1], &seen));
}

Test(epoch, open_cuts_are_acknowledged_in_order)
{
    uint32_t done[3] = {0};
    struct gw_cut seen;
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(gw_cut_publish(epoch, &(struct gw_cut){i, NULL, count, &done[i]}), GW_OK);
    for (uint32_t i = 0; i < 3; i++) {
        cr_expect(gw_cut_next(epoch, slot[0], &seen));
        cr_expect_eq(seen.phase, i);
        gw_cut_acknowledge(epoch, slot[0]);
    }
    cr_expect_eq(done[0] + done[1] + done[2], 0);
    gw_cut_acknowledge(epoch, slot[1]);
    cr_expect_eq(done[0], 1);
    cr_expect_eq(done[1], 0);
    gw_cut_acknowledge(epoch, slot[1]);
    gw_cut_acknowledge(epoch, slot[1]);
    cr_expect_eq(done[2], 1);
}

Test(epoch, who_leaves_has_no_part_left_to_do)
{
    uint32_t done = 0;
    struct gw_cut seen;
    cr_assert_eq(gw_cut_publish(epoch, &(struct gw_cut){1, NULL, count, &done}), GW_OK);
    gw_cut_acknowledge(epoch, slot[0]);
    gw_epoch_leave(epoch, slot[1]);
    cr_expect_eq(done, 1);
    cr_assert_eq(gw_cut_publish(epoch, &(struct gw_cut){2, NULL, count, &done}), GW_OK);
    cr_assert_eq(gw_epoch_join(epoch, true, &slot[1]), GW_OK);
    cr_expect_not(gw_cut_next(epoch, slot[1], &seen), "was published before it came");
    gw_cut_acknowledge(epoch, slot[0]);
    cr_expect_eq(done, 2);
}

Test(epoch, too_many_open_cuts_is_a_status)
{
    uint32_t done = 0;
    struct gw_cut cut = {1, NULL, count, &done};
    for (uint32_t i = 0; i < GW_CUTS_MAX; i++)
        cr_assert_eq(gw_cut_publish(epoch, &cut), GW_OK);
    cr_expect_eq(gw_cut_publish(epoch, &cut), GW_E_BUSY);
    gw_cut_acknowledge(epoch, slot[0]);
    gw_cut_acknowledge(epoch, slot[1]);
    cr_expect_eq(done, 1);
    cr_expect_eq(gw_cut_publish(epoch, &cut), GW_OK);
}

Test(epoch, without_participants_a_cut_is_done_at_once)
{
    uint32_t done = 0;
    gw_epoch_leave(epoch, slot[0]);
    gw_epoch_leave(epoch, slot[1]);
    cr_assert_eq(gw_cut_publish(epoch, &(struct gw_cut){1, NULL, count, &done}), GW_OK);
    cr_expect_eq(done, 1);
    cr_assert_eq(gw_epoch_join(epoch, true, &slot[0]), GW_OK);
    cr_assert_eq(gw_epoch_join(epoch, true, &slot[1]), GW_OK);
}

struct steps {
    struct gw_epoch *epoch;
    uint32_t left;
};

static void step(void *arg)
{
    struct steps *s = arg;
    if (s->left-- > 1)
        cr_assert_eq(gw_epoch_defer(s->epoch, step, s), GW_OK);
}

Test(epoch, a_full_ring_of_triggers_with_two_steps_ends_with_the_epoch)
{
    static struct steps all[GW_EPOCH_ACTIONS_MAX];
    struct gw_epoch *mine;
    cr_assert_eq(gw_epoch_create(2, &mine), GW_OK);
    for (uint32_t i = 0; i < GW_EPOCH_ACTIONS_MAX; i++) {
        all[i] = (struct steps){mine, 3};
        cr_assert_eq(gw_epoch_defer(mine, step, &all[i]), GW_OK);
    }
    gw_epoch_destroy(mine);
    for (uint32_t i = 0; i < GW_EPOCH_ACTIONS_MAX; i++)
        cr_expect_eq(all[i].left, 0);
}
