/* test_state.c - servers and jobs, one event at a time; random sequences are in test_history.c. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "coordinator/state.h"
#include "tests/unit/coordinator/world.h"

static struct world w;

static void set_up(void)
{
    world_init(&w);
}
static void tear_down(void)
{
    world_fini(&w);
}
TestSuite(state, .init = set_up, .fini = tear_down);

static const struct gw_map *map(void)
{
    return gw_coordinator_map(w.c);
}
static enum gw_job_state state_of(uint64_t job)
{
    return gw_coordinator_job(w.c, job)->state;
}

Test(state, the_first_server_gets_all_slots_and_later_ones_none)
{
    uint64_t a = world_join(&w, "a", 1);
    cr_expect_eq(world_sent_to(&w, a, GW_ACT_JOINED), 1);
    cr_expect_eq(map()->version, 1);
    cr_expect_eq(map()->cluster, WORLD_CLUSTER);
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        cr_assert_str_eq(world_owner(&w, slot), "a");
    uint64_t b = world_join(&w, "b", 1);
    cr_expect_eq(world_sent_to(&w, b, GW_ACT_JOINED), 1);
    cr_expect_eq(world_sent_to(&w, a, GW_ACT_MAP), 1, "who is in hears of who comes");
    cr_expect_eq(world_sent_to(&w, b, GW_ACT_MAP), 0);
    cr_expect_eq(map()->version, 2);
    cr_expect_eq(map()->server[0].view, 1, "a's slots are what they were");
    struct gw_slots owned;
    gw_map_slots_of(map(), 1, &owned);
    cr_expect_eq(gw_slots_count(&owned), 0);
}

Test(state, an_address_may_change_and_raises_the_version_but_no_view)
{
    uint64_t a = world_join(&w, "a", 1), b = world_join(&w, "b", 1);
    uint64_t version = map()->version, view = map()->server[0].view;
    gw_coordinator_link_lost(w.c, a);
    a = world_join_at(&w, "a", 1, "elsewhere:9", 0);
    cr_expect_str_eq(map()->server[0].address, "elsewhere:9");
    cr_expect_eq(map()->version, version + 1);
    cr_expect_eq(map()->server[0].view, view);
    cr_expect_eq(world_sent_to(&w, b, GW_ACT_MAP), 1);
    gw_coordinator_link_lost(w.c, a);
    world_join_at(&w, "a", 1, "elsewhere:9", 0);
    cr_expect_eq(map()->version, version + 1, "the same again is no change");
}

Test(state, a_server_of_another_cluster_is_refused)
{
    uint64_t a = world_join_at(&w, "a", 1, "a:1", WORLD_CLUSTER + 1);
    cr_expect_eq(world_last(&w, a, GW_ACT_REFUSE)->status, GW_E_REFUSED);
    cr_expect_not_null(strstr(world_last(&w, a, GW_ACT_REFUSE)->text, "c1c2c3c4c5c6c7c8"));
    cr_expect_eq(map()->servers, 0);
    a = world_join_at(&w, "a", 1, "a:1", WORLD_CLUSTER);
    cr_expect_eq(world_sent_to(&w, a, GW_ACT_JOINED), 1);
}

Test(state, bad_ids_and_addresses_are_refused_by_name)
{
    cr_expect_eq(world_last(&w, world_join_at(&w, "", 1, "a:1", 0), GW_ACT_REFUSE)->status,
                 GW_E_INVALID);
    cr_expect_eq(world_last(&w, world_join_at(&w, "a b", 1, "a:1", 0), GW_ACT_REFUSE)->status,
                 GW_E_INVALID);
    uint64_t link = world_join_at(&w, "a", 1, "nowhere", 0);
    cr_expect_not_null(strstr(world_last(&w, link, GW_ACT_REFUSE)->text, "HOST:PORT"));
    cr_expect_eq(world_last(&w, world_join_at(&w, "a", 1, "a:0", 0), GW_ACT_REFUSE)->status,
                 GW_E_INVALID);
    cr_expect_eq(map()->servers, 0);
}

Test(state, a_second_living_process_with_the_same_id_is_refused)
{
    uint64_t one = world_join(&w, "a", 5);
    uint64_t two = world_join(&w, "a", 6);
    cr_expect_eq(world_last(&w, two, GW_ACT_REFUSE)->status, GW_E_BUSY);
    cr_expect_not_null(strstr(world_last(&w, two, GW_ACT_REFUSE)->text, "--id"));
    cr_expect_eq(world_sent_to(&w, one, GW_ACT_REFUSE), 0);
    cr_expect_eq(map()->server[0].incarnation, 5);
}

Test(state, of_two_processes_the_newer_wins_once_the_older_is_silent)
{
    uint64_t one = world_join(&w, "a", 5);
    world_pass(&w, 5001);
    uint64_t older = world_join(&w, "a", 4);
    cr_expect_eq(world_last(&w, older, GW_ACT_REFUSE)->status, GW_E_REFUSED);
    uint64_t two = world_join(&w, "a", 6);
    cr_expect_eq(world_sent_to(&w, two, GW_ACT_JOINED), 1);
    cr_expect_eq(world_sent_to(&w, one, GW_ACT_REFUSE), 1);
    cr_expect_eq(map()->server[0].incarnation, 6);
    world_heartbeat(&w, one, 5);
    world_turn(&w);
    cr_expect_eq(world_last(&w, one, GW_ACT_REFUSE)->status, GW_E_PROTOCOL, "it is a stranger now");
}

Test(state, one_process_may_come_back_on_another_connection_at_once)
{
    uint64_t one = world_join(&w, "a", 5);
    uint64_t two = world_join(&w, "a", 5);
    cr_expect_eq(world_sent_to(&w, one, GW_ACT_REFUSE), 1);
    cr_expect_eq(world_sent_to(&w, two, GW_ACT_JOINED), 1);
    gw_coordinator_link_lost(w.c, one);
    cr_expect(gw_coordinator_server_up(w.c, 0), "the end of the old link is not the server's");
}

Test(state, a_server_is_up_while_it_heartbeats)
{
    uint64_t a = world_join(&w, "a", 1);
    cr_expect(gw_coordinator_server_up(w.c, 0));
    world_pass(&w, 4000);
    world_heartbeat(&w, a, 1);
    world_pass(&w, 4000);
    cr_expect(gw_coordinator_server_up(w.c, 0));
    cr_expect_eq(gw_coordinator_server_numbers(w.c, 0)->keys, 7);
    world_pass(&w, 1001);
    cr_expect_not(gw_coordinator_server_up(w.c, 0));
    world_pass(&w, 10000);
    world_turn(&w);
    cr_expect_eq(world_last(&w, a, GW_ACT_REFUSE)->status, GW_E_TIMEOUT);
}

Test(state, a_server_that_knows_a_newer_map_unmasks_an_old_store)
{
    uint64_t a = world_join(&w, "a", 1);
    struct gw_heartbeat h = {.incarnation = 1, .map_version = map()->version + 1};
    cr_assert_eq(gw_coordinator_heartbeat(w.c, a, &h), GW_OK);
    world_turn(&w);
    cr_expect_eq(world_last(&w, a, GW_ACT_REFUSE)->status, GW_E_REFUSED);
}

Test(state, a_job_goes_from_created_to_done)
{
    uint64_t a = world_join(&w, "a", 1), b = world_join(&w, "b", 1), job;
    cr_assert_eq(world_migrate(&w, "0-99,200", "a", "b", &job), GW_OK);
    cr_expect_eq(world_sent_to(&w, a, GW_ACT_JOB), 1);
    cr_expect_eq(world_sent_to(&w, b, GW_ACT_JOB), 1);
    uint64_t version = map()->version;

    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_expect_eq(state_of(job), GW_JOB_COMMITTED);
    cr_expect_eq(map()->version, version + 1);
    cr_expect_eq(gw_coordinator_job(w.c, job)->commit_version, version + 1);
    cr_expect_eq(map()->server[0].view, version + 1);
    cr_expect_eq(map()->server[1].view, version + 1);
    cr_expect_str_eq(world_owner(&w, 99), "b");
    cr_expect_str_eq(world_owner(&w, 200), "b");
    cr_expect_str_eq(world_owner(&w, 100), "a");
    cr_assert_eq(w.sents, 4);
    for (uint32_t i = 0; i < 4; i++)
        cr_expect_eq(w.sent[i].kind, i < 2 ? GW_ACT_MAP : GW_ACT_JOB, "maps before jobs");

    world_event(&w, a, job, GW_JOB_ARRIVED);
    cr_expect_eq(state_of(job), GW_JOB_CLOSING);
    cr_expect_eq(map()->version, version + 1, "who owns what stays");
    world_event(&w, a, job, GW_JOB_CLOSED);
    cr_expect_eq(state_of(job), GW_JOB_DONE);
    cr_expect_eq(world_sent_to(&w, b, GW_ACT_JOB), 1);
    cr_expect_neq(gw_coordinator_job(w.c, job)->finished_ms, 0);
}

/* MIGRATION R23: what a server recovers of an earlier tenure is no more; so a tenure's beginning is
 * durable, and a slot that comes back has a new one. */
Test(state, rule23_a_tenure_begins_at_the_commit_and_survives_the_coordinator)
{
    uint64_t job, a = world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    uint64_t first = gw_coordinator_map(w.c)->since[0];
    cr_expect_eq(first, gw_coordinator_map(w.c)->server[0].view);
    cr_assert_eq(world_migrate(&w, "5-9", "a", "b", &job), GW_OK);
    cr_expect_eq(gw_coordinator_map(w.c)->since[5], first, "it has not begun");
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    uint64_t second = gw_coordinator_job(w.c, job)->commit_version;
    world_event(&w, a, job, GW_JOB_ARRIVED);
    world_event(&w, a, job, GW_JOB_CLOSED);
    world_stop(&w);
    world_start(&w);
    world_join(&w, "a", 1);
    uint64_t b = world_join(&w, "b", 1);
    const struct gw_map *map = gw_coordinator_map(w.c);
    for (uint32_t slot = 4; slot <= 10; slot++)
        cr_expect_eq(map->since[slot], slot >= 5 && slot <= 9 ? second : first, "slot %u", slot);

    cr_assert_eq(world_migrate(&w, "5-6", "b", "a", &job), GW_OK);
    world_event(&w, b, job, GW_JOB_ASK_COMMIT);
    uint64_t third = gw_coordinator_job(w.c, job)->commit_version;
    cr_expect_gt(third, second);
    cr_expect_eq(map->since[5], third, "back at a, but not the tenure of before");
    cr_expect_eq(map->since[7], second);
}

/* MIGRATION R3: commit and cancel are compare-and-set on the job's state: one wins, whichever comes
 * first, and the other learns it. */
Test(state, rule3_commit_and_cancel_are_compare_and_set)
{
    uint64_t a = world_join(&w, "a", 1), job;
    char text[256];
    world_join(&w, "b", 1);

    /* The cancel is first: the commit, on its way already, finds nothing to commit. */
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    uint64_t version = map()->version;
    cr_expect_eq(gw_coordinator_cancel(w.c, job, text, sizeof text), GW_OK);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_expect_eq(state_of(job), GW_JOB_CANCELLED);
    cr_expect_eq(map()->version, version);
    cr_expect_str_eq(world_owner(&w, 5), "a");
    cr_expect_eq(world_last(&w, a, GW_ACT_JOB)->state, GW_JOB_CANCELLED, "the source learns it");
    cr_expect_eq(gw_coordinator_cancel(w.c, job, text, sizeof text), GW_OK, "once more is no harm");

    /* The commit is first: the cancel is refused, for ever. */
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    for (enum gw_job_event_kind e = GW_JOB_ASK_COMMIT; e <= GW_JOB_CLOSED; e++) {
        world_event(&w, a, job, e);
        enum gw_job_state before = state_of(job);
        cr_expect_eq(gw_coordinator_cancel(w.c, job, text, sizeof text), GW_E_REFUSED);
        cr_expect_eq(state_of(job), before);
        if (e < GW_JOB_CLOSED)
            cr_expect_not_null(strstr(text, "moved back"), "%s", text);
        cr_expect_str_eq(world_owner(&w, 5), "b");
    }
    cr_expect_eq(state_of(job), GW_JOB_DONE);

    /* The same in the file: a fact whose `was` is not so is refused, and nothing of its batch
     * holds. */
    struct gw_fact facts[2] = {{.kind = GW_FACT_JOB_GONE, .job_gone = job},
                               {.kind = GW_FACT_JOB,
                                .job = {.was = GW_JOB_CREATED,
                                        .is = *gw_coordinator_job(w.c, job - 1)}}};
    cr_expect_eq(gw_fact_store_save(w.store, facts, 2, text, sizeof text), GW_MISMATCH);
    world_stop(&w);
    world_start(&w);
    cr_expect_eq(state_of(job), GW_JOB_DONE);
}

Test(state, a_repeated_ask_for_the_commit_is_answered_with_the_committed_job)
{
    uint64_t a = world_join(&w, "a", 1), job;
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    uint64_t version = map()->version, bytes = gw_coordinator_job(w.c, job)->bytes_moved;
    for (int i = 0; i < 3; i++) {
        world_event(&w, a, job, GW_JOB_ASK_COMMIT);
        cr_expect_eq(w.sents, 1);
        cr_expect_eq(world_last(&w, a, GW_ACT_JOB)->state, GW_JOB_COMMITTED);
        cr_expect_eq(map()->version, version);
        cr_expect_eq(gw_coordinator_job(w.c, job)->bytes_moved, bytes);
    }
    world_event(&w, a, job, GW_JOB_GAVE_UP);
    cr_expect_eq(state_of(job), GW_JOB_COMMITTED, "too late to give up");
    world_event(&w, a, job, GW_JOB_CLOSED);
    cr_expect_eq(state_of(job), GW_JOB_COMMITTED, "nothing has arrived yet");
}

Test(state, nothing_is_committed_to_a_server_that_is_down)
{
    uint64_t a = world_join(&w, "a", 1), b = world_join(&w, "b", 1), job;
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    gw_coordinator_link_lost(w.c, b);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_expect_eq(world_last(&w, a, GW_ACT_JOB)->state, GW_JOB_CREATED, "ask again");
    cr_expect_str_eq(world_owner(&w, 5), "a");
    b = world_join(&w, "b", 2);
    cr_expect_eq(world_sent_to(&w, b, GW_ACT_JOB), 1);
    cr_expect_eq(world_sent_to(&w, a, GW_ACT_JOB), 1, "the source sees the new incarnation");
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_expect_eq(state_of(job), GW_JOB_COMMITTED);
}

Test(state, a_job_that_gives_up_has_failed_with_its_reason)
{
    uint64_t a = world_join(&w, "a", 1), job;
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    world_event(&w, a, job, GW_JOB_GAVE_UP);
    cr_expect_eq(state_of(job), GW_JOB_FAILED);
    cr_expect_str_eq(gw_coordinator_job(w.c, job)->error, "word 5");
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_expect_eq(state_of(job), GW_JOB_FAILED);
    cr_expect_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK, "the slots are free again");
}

Test(state, events_from_anybody_but_the_source_are_refused)
{
    uint64_t a = world_join(&w, "a", 1), b = world_join(&w, "b", 1), job;
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    world_event(&w, b, job, GW_JOB_ASK_COMMIT);
    cr_expect_eq(world_last(&w, b, GW_ACT_REFUSE)->status, GW_E_PROTOCOL);
    world_event(&w, 999, job, GW_JOB_ASK_COMMIT);
    cr_expect_eq(world_last(&w, 999, GW_ACT_REFUSE)->status, GW_E_PROTOCOL);
    cr_expect_eq(state_of(job), GW_JOB_CREATED);
    world_event(&w, a, job + 1, GW_JOB_ASK_COMMIT);
    cr_expect_eq(world_last(&w, a, GW_ACT_REFUSE)->status, GW_E_REFUSED);
}

Test(state, jobs_that_cannot_be_are_refused)
{
    uint64_t job, b;
    world_join(&w, "a", 1);
    b = world_join(&w, "b", 1);
    cr_expect_eq(world_migrate(&w, "0-9", "x", "b", &job), GW_NOT_FOUND);
    cr_expect_eq(world_migrate(&w, "0-9", "a", "x", &job), GW_NOT_FOUND);
    cr_expect_eq(world_migrate(&w, "0-9", "a", "a", &job), GW_E_INVALID);
    cr_expect_eq(world_migrate(&w, "0-9", "b", "a", &job), GW_E_REFUSED, "not b's");
    gw_coordinator_link_lost(w.c, b);
    cr_expect_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_E_REFUSED, "b is down");
    struct gw_slots none;
    char text[256];
    gw_slots_clear(&none);
    world_join(&w, "b", 2);
    cr_expect_eq(gw_coordinator_migrate(w.c, &none, "a", "b", &job, text, sizeof text),
                 GW_E_INVALID);
    cr_expect_eq(gw_coordinator_jobs(w.c), 0);
}

Test(state, a_slot_is_in_at_most_one_open_job)
{
    uint64_t a = world_join(&w, "a", 1), job, other;
    char text[256];
    world_join(&w, "b", 1);
    world_join(&w, "c", 1);
    cr_assert_eq(world_migrate(&w, "0-99", "a", "b", &job), GW_OK);
    struct gw_slots set;
    cr_assert_eq(gw_slots_parse("99-120", &set, NULL, 0), GW_OK);
    cr_expect_eq(gw_coordinator_migrate(w.c, &set, "a", "c", &other, text, sizeof text), GW_E_BUSY);
    cr_expect_not_null(strstr(text, "job 1"), "%s", text);
    cr_expect_not_null(strstr(text, "slots 99 "), "%s", text);
    cr_expect_eq(world_migrate(&w, "100-120", "a", "c", &other), GW_OK, "disjoint ones may run");
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    cr_expect_eq(world_migrate(&w, "5", "b", "a", &other), GW_E_BUSY, "until it is closed");
    world_event(&w, a, job, GW_JOB_ARRIVED);
    cr_expect_eq(world_migrate(&w, "5", "b", "a", &other), GW_E_BUSY);
    world_event(&w, a, job, GW_JOB_CLOSED);
    cr_expect_eq(world_migrate(&w, "5", "b", "a", &other), GW_OK);
}

Test(state, a_joining_server_is_told_its_open_jobs)
{
    uint64_t a = world_join(&w, "a", 1), one, two, three;
    world_join(&w, "b", 1);
    world_join(&w, "c", 1);
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &one), GW_OK);
    cr_assert_eq(world_migrate(&w, "10-19", "a", "c", &two), GW_OK);
    cr_assert_eq(world_migrate(&w, "20-29", "a", "b", &three), GW_OK);
    world_event(&w, a, one, GW_JOB_ASK_COMMIT);
    world_event(&w, a, three, GW_JOB_GAVE_UP);
    world_stop(&w);
    world_start(&w);
    uint64_t b = world_join(&w, "b", 1);
    cr_assert_eq(w.sents, 2);
    cr_expect_eq(w.sent[0].kind, GW_ACT_JOINED);
    cr_expect_eq(w.sent[1].id, one);
    cr_expect_eq(world_last(&w, b, GW_ACT_JOB)->state, GW_JOB_COMMITTED);
}

Test(state, numbers_are_saved_at_most_once_a_second_and_at_each_move)
{
    uint64_t a = world_join(&w, "a", 1), job;
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "0-9", "a", "b", &job), GW_OK);
    struct gw_job_event e = {.job = job, .event = GW_JOB_PROGRESS, .bytes_moved = 5, .pause_ns = 9};
    snprintf(e.text, sizeof e.text, "prepare");
    uint32_t saved = 0;
    for (uint32_t i = 0; i < 40; i++) {
        world_pass(&w, 100);
        e.bytes_moved++;
        e.pause_ns = 40 - i;
        cr_assert_eq(gw_coordinator_job_event(w.c, a, &e), GW_OK);
        cr_expect_eq(gw_coordinator_outcome(w.c)->actions, 0, "progress has no answer");
        saved += gw_coordinator_outcome(w.c)->facts;
        world_heartbeat(&w, a, 1);
        world_turn(&w);
    }
    cr_expect_leq(saved, 4);
    cr_expect_geq(saved, 3);
    cr_expect_eq(gw_coordinator_job(w.c, job)->pause_ns, 40, "the longest");
    cr_expect_str_eq(gw_coordinator_job(w.c, job)->phase, "prepare");
    e.event = GW_JOB_GAVE_UP;
    e.bytes_moved = 77;
    cr_assert_eq(gw_coordinator_job_event(w.c, a, &e), GW_OK);
    world_turn(&w);
    world_stop(&w);
    world_start(&w);
    cr_expect_eq(gw_coordinator_job(w.c, job)->bytes_moved, 77);
}

Test(state, only_so_many_finished_jobs_are_remembered)
{
    uint64_t job = 0;
    char text[256];
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    for (uint32_t i = 0; i < GW_JOBS_FINISHED_MAX + 20; i++) {
        struct gw_slots set;
        gw_slots_clear(&set);
        gw_slots_add(&set, 3);
        cr_assert_eq(gw_coordinator_migrate(w.c, &set, "a", "b", &job, text, sizeof text), GW_OK);
        cr_assert_eq(gw_coordinator_cancel(w.c, job, text, sizeof text), GW_OK);
        if (i % 100 == 0)
            world_turn(&w);
    }
    cr_expect_eq(gw_coordinator_jobs(w.c), GW_JOBS_FINISHED_MAX);
    cr_expect_null(gw_coordinator_job(w.c, 20));
    cr_expect_not_null(gw_coordinator_job(w.c, job));
    const struct gw_outcome *o = gw_coordinator_outcome(w.c);
    cr_assert_eq(gw_fact_store_save(w.store, o->fact, o->facts, text, sizeof text), GW_OK, "%s",
                 text);
    gw_coordinator_clear(w.c);
    world_stop(&w);
    world_start(&w);
    cr_expect_eq(gw_coordinator_jobs(w.c), GW_JOBS_FINISHED_MAX);
}

/* MIGRATION hole 28: a job may be held up at every step, durably. */
Test(state, a_paused_job_is_not_committed_and_stays_paused_over_a_restart)
{
    uint64_t job, a = world_join(&w, "a", 1);
    char text[256];
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "5-9", "a", "b", &job), GW_OK);
    cr_assert_eq(gw_coordinator_pause(w.c, job, true, text, sizeof text), GW_OK);
    world_turn(&w);
    cr_expect_eq(world_sent_to(&w, a, GW_ACT_JOB), 1, "the source is told");
    struct gw_job wire;
    gw_coordinator_job_wire(w.c, job, &wire);
    cr_expect(wire.paused);
    cr_assert_eq(gw_coordinator_pause(w.c, job, true, text, sizeof text), GW_OK, "again");
    world_event(&w, a, job, GW_JOB_ASK_COMMIT); /* it was on its way */
    cr_expect_eq(gw_coordinator_job(w.c, job)->state, GW_JOB_CREATED);
    world_stop(&w);
    world_start(&w);
    a = world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    cr_expect(gw_coordinator_job(w.c, job)->paused);
    cr_assert_eq(gw_coordinator_pause(w.c, job, false, text, sizeof text), GW_OK);
    world_turn(&w);
    for (enum gw_job_event_kind e = GW_JOB_ASK_COMMIT; e <= GW_JOB_CLOSED; e++) {
        world_event(&w, a, job, e);
        if (gw_job_is_open(gw_coordinator_job(w.c, job)->state)) {
            cr_expect_eq(gw_coordinator_pause(w.c, job, true, text, sizeof text), GW_OK);
            world_turn(&w);
        }
    }
    cr_expect_eq(gw_coordinator_job(w.c, job)->state, GW_JOB_DONE, "later steps are the source's");
    cr_expect_eq(gw_coordinator_pause(w.c, job, true, text, sizeof text), GW_E_REFUSED);
    cr_expect_eq(gw_coordinator_pause(w.c, 99, true, text, sizeof text), GW_NOT_FOUND);
}

static enum gw_status revive(uint64_t job, const char *lost, bool really, const char *mention)
{
    char text[256] = "";
    enum gw_status st = gw_coordinator_revive(w.c, job, lost, really, text, sizeof text);
    cr_expect_not_null(strstr(text, mention), "\"%s\" does not mention \"%s\"", text, mention);
    world_turn(&w);
    return st;
}

/* a is heard of, b is silent. */
static void pass_silent(uint64_t a, uint32_t seconds)
{
    for (uint32_t i = 0; i < seconds; i++) {
        world_pass(&w, 1000);
        world_heartbeat(&w, a, 1);
    }
}

Test(state, a_lost_target_is_fenced_and_the_source_goes_on_with_its_tenure)
{
    uint64_t job, a = world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    world_pass(&w, 20000);
    a = world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    uint64_t first = gw_coordinator_map(w.c)->since[5];
    cr_assert_eq(world_migrate(&w, "5-9", "a", "b", &job), GW_OK);
    cr_expect_eq(revive(job, "b", true, "cancel"), GW_E_REFUSED, "not committed");
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    uint64_t commit = gw_coordinator_job(w.c, job)->commit_version;
    cr_expect_eq(revive(job, "b", true, "heard of"), GW_E_REFUSED, "it lives");
    cr_expect_eq(revive(job, "a", true, "the target of job"), GW_E_REFUSED);
    cr_expect_eq(revive(99, "b", true, "no job"), GW_NOT_FOUND);
    world_pass(&w, 16000);
    cr_expect_eq(revive(job, "b", true, "is down"), GW_E_REFUSED, "the source is silent, too");
    a = world_join(&w, "a", 1);
    pass_silent(a, 2);
    cr_expect_eq(revive(job, "b", false, ""), GW_OK);
    cr_expect_eq(gw_coordinator_job(w.c, job)->state, GW_JOB_COMMITTED, "only asked");
    cr_expect_eq(revive(job, "b", true, ""), GW_OK);
    cr_expect_eq(world_last(&w, a, GW_ACT_JOB)->state, GW_JOB_REVIVED);
    cr_expect_eq(world_sent_to(&w, a, GW_ACT_MAP), 1);
    cr_expect_eq(revive(job, "b", true, ""), GW_OK, "again");

    world_stop(&w);
    world_start(&w);
    const struct gw_map *map = gw_coordinator_map(w.c);
    cr_expect_str_eq(world_owner(&w, 5), "a");
    cr_expect_eq(map->since[5], first, "what it recovers of this tenure counts");
    cr_expect_gt(map->server[0].view, commit);
    cr_expect_gt(map->server[1].view, commit);
    for (uint64_t incarnation = 1; incarnation < 3; incarnation++) {
        uint64_t b = world_join(&w, "b", incarnation);
        const struct world_sent *no = world_last(&w, b, GW_ACT_REFUSE);
        cr_assert_not_null(no);
        cr_expect_eq(no->status, GW_E_CANCELLED);
        cr_expect_not_null(strstr(no->text, "given up for lost"));
    }
    uint64_t other;
    world_join(&w, "a", 1);
    cr_expect_eq(world_migrate(&w, "5-9", "a", "b", &other), GW_E_REFUSED);
}

/* The target had everything durably, the source gives its copy away: there is nothing to go back
 * to. */
Test(state, a_closing_job_is_not_revived)
{
    uint64_t job, a = world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "5-9", "a", "b", &job), GW_OK);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    world_event(&w, a, job, GW_JOB_ARRIVED);
    pass_silent(a, 17);
    cr_expect_eq(revive(job, "b", true, "closing"), GW_E_REFUSED);
    world_event(&w, a, job, GW_JOB_CLOSED);
    cr_expect_eq(revive(job, "b", true, "ended already"), GW_E_REFUSED);
}

/* Who has just started has heard of nobody: that says nothing about anybody. */
Test(state, a_coordinator_that_has_just_started_gives_nobody_up)
{
    uint64_t job, a = world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "5-9", "a", "b", &job), GW_OK);
    world_event(&w, a, job, GW_JOB_ASK_COMMIT);
    world_stop(&w);
    world_start(&w);
    a = world_join(&w, "a", 1);
    pass_silent(a, 10);
    cr_expect_eq(revive(job, "b", true, "not run for long enough"), GW_E_REFUSED);
    pass_silent(a, 6);
    cr_expect_eq(revive(job, "b", true, ""), GW_OK);
}

/* Before it knows them all the server serves no slot. */
Test(state, joined_says_how_many_jobs_follow)
{
    uint64_t job;
    world_join(&w, "a", 1);
    world_join(&w, "b", 1);
    cr_assert_eq(world_migrate(&w, "5-9", "a", "b", &job), GW_OK);
    cr_assert_eq(world_migrate(&w, "15-19", "a", "b", &job), GW_OK);
    uint64_t b = world_join(&w, "b", 1);
    cr_expect_eq(world_last(&w, b, GW_ACT_JOINED)->id, 2);
    cr_expect_eq(world_sent_to(&w, b, GW_ACT_JOB), 2);
    world_join(&w, "c", 1);
    uint64_t c = world_join(&w, "c", 1);
    cr_expect_eq(world_last(&w, c, GW_ACT_JOINED)->id, 0);
}
