/* Goal: the migration protocol's models still hold, and still find what they were written to find.
 * How: tests/model/spin/run with the configurations that take seconds; the larger ones are listed
 * in the models' heads. A hole that is not found any more would mean that the model checks
 * nothing. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

enum verdict { HOLDS = 0, VIOLATED = 1 };

static int run(const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "GODWIT_SPIN_KEEP=no %s/tests/model/spin/run %s >&2",
             GW_TEST_SOURCE_DIR, arguments);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define SMALL "migration -DINIT=0 -DNOPS0=1 -DNOPS1=1 "

Test(spin, no_state_of_the_protocol_loses_resurrects_or_repeats)
{
    cr_expect_eq(run(SMALL), HOLDS);
}

Test(spin, hole_4_yours_before_every_dispatcher_has_passed_gives_two_owners)
{
    cr_expect_eq(run(SMALL "-DHOLE_EARLY"), VIOLATED);
}

Test(spin, hole_5_yours_without_the_replay_entries_applies_twice)
{
    cr_expect_eq(run(SMALL "-DHOLE_DEDUPE"), VIOLATED);
}

Test(spin, hole_6_a_late_pull_answer_resurrects)
{
    cr_expect_eq(run(SMALL "-DHOLE_LATE"), VIOLATED);
}

Test(spin, hole_10_completeness_read_after_the_lookup_calls_a_present_key_absent)
{
    cr_expect_eq(run(SMALL "-DHOLE_FLAG"), VIOLATED);
}

Test(spin, hole_2_a_session_that_does_not_go_back_breaks_its_order)
{
    cr_expect_eq(run("session"), VIOLATED);
    cr_expect_eq(run("session -DGOBACK"), HOLDS);
}
