/* Goal: the models of migration, of the hash table's growth and of the commit log still hold, and
 * still find what they were written to find. How: tests/model/spin/run with the configurations that
 * take seconds; the larger ones are listed in the models' heads. A hole that is not found any more
 * would mean that the model checks nothing. */
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

Test(spin, hole_12_what_a_pulls_answer_leads_to_is_not_inserted_in_a_complete_chunk)
{
    cr_expect_eq(run("migration -DINIT=2 -DLEADS -DNOPS0=1 -DNOPS1=1 -DHOLE_LEAD"), VIOLATED);
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

Test(spin, the_pass_over_the_log_and_the_walk_behind_it_bring_every_key)
{
    static const char *const holes[] = {"LED", "SENT", "MIXED", "UNREADABLE", "EARLY"};
    cr_expect_eq(run("pass"), HOLDS);
    for (size_t i = 0; i < sizeof holes / sizeof holes[0]; i++) {
        char arguments[64];
        snprintf(arguments, sizeof arguments, "pass -DHOLE_%s", holes[i]);
        cr_expect_eq(run(arguments), VIOLATED, "%s", holes[i]);
    }
}

#define SPLIT "split "

Test(spin, splitting_a_bucket_loses_doubles_and_undoes_nothing)
{
    cr_expect_eq(run(SPLIT "-DINSERTERS=0 -DHELPERS=1"), HOLDS);
    cr_expect_eq(run(SPLIT "-DINSERTERS=0 -DREADERS=0 -DBEGIN -DUPDATES=2"), HOLDS);
    cr_expect_eq(run(SPLIT "-DHELPERS=1 -DREADERS=0 -DBEGIN"), HOLDS);
    cr_expect_eq(run(SPLIT "-DHELPERS=1 -DUPDATES=0"), HOLDS);
    cr_expect_eq(run(SPLIT "-DHELPERS=1 -DINSERTERS=2 -DREADERS=0 -DUPDATES=0"), HOLDS);
}

Test(spin, h2_a_plain_store_in_the_copy_undoes_an_update)
{
    cr_expect_eq(run(SPLIT "-DREADERS=0 -DINSERTERS=0 -DHOLE_COPY"), VIOLATED);
}

Test(spin, h2_a_plain_store_as_the_second_step_of_an_insertion_loses_it)
{
    cr_expect_eq(run(SPLIT "-DREADERS=0 -DHELPERS=1 -DHOLE_CONFIRM"), VIOLATED);
}

Test(spin, h2_a_reader_that_answers_from_a_frozen_bucket_calls_a_present_key_absent)
{
    cr_expect_eq(run(SPLIT "-DINSERTERS=0 -DHOLE_ABSENT"), VIOLATED);
}

Test(spin, h2_helpers_that_decide_each_for_themselves_lose_an_entry)
{
    cr_expect_eq(run(SPLIT "-DINSERTERS=0 -DREADERS=0 -DBEGIN -DHOLE_SETTLE"), VIOLATED);
}

#define COMMIT "commit -DOPS=1 "

Test(spin, nothing_that_a_reply_has_shown_is_lost_by_a_crash)
{
    cr_expect_eq(run(COMMIT), HOLDS);
    cr_expect_eq(run(COMMIT "-DNOTHING -DBATCHES0=1"), HOLDS);
    cr_expect_eq(run("commit -DBATCHES0=1 -DKEYS=2"), HOLDS);
}

Test(spin, h3_a_reply_that_waits_for_too_little_is_lost)
{
    static const char *const holes[] = {"OWN",   "READS", "BOUNDARY", "LATE",
                                        "CLOSE", "RETAG", "ORDER"};
    for (size_t i = 0; i < sizeof holes / sizeof holes[0]; i++) {
        char arguments[64];
        snprintf(arguments, sizeof arguments, COMMIT "-DHOLE_%s", holes[i]);
        cr_expect_eq(run(arguments), VIOLATED, "%s", holes[i]);
    }
}

Test(spin, h3_recovery_behind_a_gap_applies_twice)
{
    cr_expect_eq(run(COMMIT "-DHOLE_GAP"), VIOLATED);
    cr_expect_eq(run(COMMIT "-DHOLE_SERIAL"), VIOLATED);
    cr_expect_eq(run(COMMIT "-DNOTHING -DHOLE_NOTHING"), VIOLATED);
}

Test(spin, a_reply_whose_release_is_missed_is_held_for_ever)
{
    cr_expect_eq(run(COMMIT "-DHOLE_BUMP"), VIOLATED);
    cr_expect_eq(run(COMMIT "-DHOLE_FIRST"), VIOLATED);
    cr_expect_eq(run(COMMIT "-DHOLE_SLEEP"), VIOLATED);
}
