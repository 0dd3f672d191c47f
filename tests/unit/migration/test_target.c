/* Goal: the target's machine serves the range only when it has "yours" and the map, takes every
 * message twice, and leaves cleanly when the job is cancelled before the commit. */
#include "migration/target.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define MS 1000000ull

struct rig {
    struct gw_target *target;
    struct gw_prepare prepare;
    struct gw_target_actions out;
    uint64_t now_ns, attempt;
    uint8_t body[GW_FRAME_HEADER + 16 + 10 * GW_APPLIED_BYTES];
};

static void rig_open(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->prepare = (struct gw_prepare){.incarnation = 7,
                                     .chunk_bits = 4,
                                     .from = "a",
                                     .from_address = "127.0.0.1:1"};
    gw_slots_add_range(&r->prepare.slots, 0, 99);
    r->attempt = gw_attempt_first(7);
    r->now_ns = 1000 * MS;
    cr_assert_eq(gw_target_create(5, &r->prepare.slots, 3, false, &r->target), GW_OK);
}

static void rig_close(struct rig *r)
{
    gw_target_destroy(r->target);
}

static enum gw_status step_event(struct rig *r, struct gw_target_event e)
{
    if (e.attempt == 0)
        e.attempt = r->attempt;
    return gw_target_step(r->target, &e, r->now_ns, &r->out);
}

static void step(struct rig *r, enum gw_target_event_kind kind)
{
    cr_assert_eq(step_event(r, (struct gw_target_event){.kind = kind, .prepare = &r->prepare}),
                 GW_OK);
}

static void step_map(struct rig *r, uint64_t version, bool owned)
{
    cr_assert_eq(step_event(r, (struct gw_target_event){.kind = GW_TARGET_ON_MAP_ADOPTED,
                                                        .map_version = version,
                                                        .owned = owned}),
                 GW_OK);
}

static void step_job(struct rig *r, enum gw_job_state state)
{
    struct gw_job job = {.id = 5, .state = state, .commit_version = 12};
    cr_assert_eq(step_event(r, (struct gw_target_event){.kind = GW_TARGET_ON_JOB, .job = &job}),
                 GW_OK);
}

static enum gw_status step_yours_attempt(struct rig *r, uint64_t attempt, uint64_t part, bool last,
                                         uint32_t entries)
{
    struct gw_writer w = gw_writer_of(r->body, sizeof r->body);
    gw_yours_encode(&(struct gw_yours){.commit_version = 12, .version_highest = 77, .last = last},
                    &w);
    for (uint32_t i = 0; i < entries; i++)
        gw_applied_encode(&(struct gw_applied){.session = 1, .serial = part * 10 + i, .slot = 9},
                          &w);
    cr_assert_not(w.bad);
    return step_event(r,
                      (struct gw_target_event){.kind = GW_TARGET_ON_YOURS,
                                               .attempt = attempt,
                                               .part = part,
                                               .count = entries,
                                               .body = gw_reader_of(r->body, gw_writer_used(&w))});
}

static void step_yours(struct rig *r, uint64_t part, bool last, uint32_t entries)
{
    cr_assert_eq(step_yours_attempt(r, r->attempt, part, last, entries), GW_OK);
}

static void step_merged(struct rig *r, uint64_t part)
{
    cr_assert_eq(step_event(r, (struct gw_target_event){.kind = GW_TARGET_ON_MERGED, .part = part}),
                 GW_OK);
}

static const struct gw_target_action *find(struct rig *r, enum gw_target_action_kind kind)
{
    for (uint32_t i = 0; i < r->out.count; i++)
        if (r->out.action[i].kind == kind)
            return &r->out.action[i];
    return NULL;
}

/* The PREPARED sent in this step; false: none. */
static bool answered(struct rig *r, struct gw_prepared *m)
{
    const struct gw_target_action *a = find(r, GW_TARGET_DO_SEND_PEER);
    struct gw_frame f;
    if (!a)
        return false;
    cr_assert_eq(gw_frame_decode(a->frame, (uint32_t)a->frame_bytes, &f), GW_OK);
    if (f.kind != GW_KIND_PREPARED)
        return false;
    cr_assert_eq(f.view, r->attempt);
    cr_assert_eq(f.session, 5);
    struct gw_reader body = gw_frame_body(a->frame, &f);
    cr_assert_eq(gw_prepared_decode(&body, m), GW_OK);
    cr_assert_eq(m->incarnation, 3);
    return true;
}

static bool acked(struct rig *r, uint64_t part)
{
    const struct gw_target_action *a = find(r, GW_TARGET_DO_SEND_PEER);
    struct gw_frame f;
    if (!a)
        return false;
    cr_assert_eq(gw_frame_decode(a->frame, (uint32_t)a->frame_bytes, &f), GW_OK);
    return f.kind == GW_KIND_YOURS_ACK && f.sequence == part && f.view == r->attempt;
}

/* Is SECURED of the rig's attempt among what was sent? */
static bool said_secured(struct rig *r)
{
    for (uint32_t i = 0; i < r->out.count; i++) {
        const struct gw_target_action *a = &r->out.action[i];
        struct gw_frame f;
        if (a->kind != GW_TARGET_DO_SEND_PEER)
            continue;
        cr_assert_eq(gw_frame_decode(a->frame, (uint32_t)a->frame_bytes, &f), GW_OK);
        if (f.kind != GW_KIND_SECURED)
            continue;
        struct gw_reader body = gw_frame_body(a->frame, &f);
        struct gw_secured m;
        cr_assert_eq(gw_secured_decode(&body, &m), GW_OK);
        cr_expect_eq(m.incarnation, 3);
        cr_expect_eq(f.session, 5);
        cr_expect_eq(f.view, r->attempt);
        return true;
    }
    return false;
}

static void go_prepared(struct rig *r)
{
    step(r, GW_TARGET_ON_PREPARE);
    cr_assert_not_null(find(r, GW_TARGET_DO_BEGIN_UNLINK));
    step(r, GW_TARGET_ON_UNLINKED);
    cr_assert_eq(find(r, GW_TARGET_DO_BEGIN_CUT)->range, GW_RANGE_WAITING);
    step(r, GW_TARGET_ON_CUT_PASSED);
    struct gw_prepared m;
    cr_assert(answered(r, &m));
    cr_assert_eq(m.status, GW_OK);
}

static void go_serving(struct rig *r)
{
    go_prepared(r);
    step_map(r, 12, true);
    step_yours(r, 0, true, 3);
    step_merged(r, 0);
    cr_assert_not_null(find(r, GW_TARGET_DO_BEGIN_SERVING));
}

Test(target, a_job_runs_through)
{
    struct rig r;
    struct gw_prepared m;
    rig_open(&r);
    step(&r, GW_TARGET_ON_PREPARE);
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.status, GW_PENDING, "not ready, but here");
    step(&r, GW_TARGET_ON_PREPARE);
    cr_expect_null(find(&r, GW_TARGET_DO_BEGIN_UNLINK), "once");
    step(&r, GW_TARGET_ON_UNLINKED);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.status, GW_OK);
    cr_expect_str_eq(gw_target_source_address(r.target), "127.0.0.1:1");
    step_job(&r, GW_JOB_COMMITTED);
    cr_expect(gw_target_committed(r.target));
    step_map(&r, 12, true);
    step_yours(&r, 0, true, 3);
    cr_expect_eq(find(&r, GW_TARGET_DO_RECEIVE)->attempt, r.attempt);
    const struct gw_target_action *a = find(&r, GW_TARGET_DO_MERGE_APPLIED);
    cr_assert_not_null(a);
    cr_expect_eq(a->entries_count, 3);
    cr_expect_eq(a->entries[2].serial, 2);
    step_merged(&r, 0);
    cr_expect(acked(&r, 0));
    cr_assert_not_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    cr_expect_eq(find(&r, GW_TARGET_DO_BEGIN_SERVING)->version_highest, 77, "R19");
    step(&r, GW_TARGET_ON_ALL_COMPLETE);
    cr_assert_not_null(find(&r, GW_TARGET_DO_SECURE));
    cr_expect_not(said_secured(&r));
    step(&r, GW_TARGET_ON_SECURED);
    cr_expect(said_secured(&r));
    cr_assert_not_null(find(&r, GW_TARGET_DO_BEGIN_CUT));
    cr_expect_eq(find(&r, GW_TARGET_DO_BEGIN_CUT)->range, GW_RANGE_OWNED);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_expect_null(find(&r, GW_TARGET_DO_FINISH), "the source may ask again");
    step_job(&r, GW_JOB_DONE);
    cr_assert_not_null(find(&r, GW_TARGET_DO_FINISH));
    cr_expect_eq(find(&r, GW_TARGET_DO_FINISH)->result, GW_OK);
    rig_close(&r);
}

Test(target, hole_5_nothing_is_served_before_the_last_part_is_merged)
{
    struct rig r;
    rig_open(&r);
    go_prepared(&r);
    step_map(&r, 12, true);
    step_yours(&r, 0, false, 2);
    step_yours(&r, 1, false, 2);
    step_yours(&r, 3, true, 2); /* part 2 is missing: waits for its repeat */
    cr_expect_null(find(&r, GW_TARGET_DO_MERGE_APPLIED));
    step_merged(&r, 1); /* in any order */
    cr_expect(acked(&r, 1));
    step_merged(&r, 0);
    cr_expect(acked(&r, 0));
    step_yours(&r, 2, false, 2);
    step_yours(&r, 3, true, 2);
    step_merged(&r, 2);
    cr_expect_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    step_yours(&r, 2, false, 2);
    cr_expect(acked(&r, 2), "a repeat of a merged part: its ack was lost");
    step_yours(&r, 3, true, 2);
    cr_expect_not(acked(&r, 3), "a repeat of a part that is being merged: wait");
    cr_expect_null(find(&r, GW_TARGET_DO_MERGE_APPLIED));
    step_merged(&r, 3);
    cr_expect(acked(&r, 3));
    cr_expect_not_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    rig_close(&r);
}

Test(target, a_part_that_could_not_be_merged_is_merged_when_it_comes_again)
{
    struct rig r;
    rig_open(&r);
    go_prepared(&r);
    step_map(&r, 12, true);
    step_yours(&r, 0, false, 2);
    step_yours(&r, 1, true, 2);
    step_event(&r, (struct gw_target_event){.kind = GW_TARGET_ON_MERGE_FAILED, .part = 0});
    step_merged(&r, 1);
    cr_expect_eq(r.out.count, 0, "it is taken again behind part 0");
    step_yours(&r, 0, false, 2);
    cr_expect_not_null(find(&r, GW_TARGET_DO_MERGE_APPLIED));
    step_merged(&r, 0);
    cr_expect(acked(&r, 0));
    step_yours(&r, 1, true, 2);
    step_merged(&r, 1);
    cr_expect_not_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    rig_close(&r);
}

/* The coordinator is silent: T learns of the commit from S, and asks for the map. */
Test(target, hole_3_the_commit_may_be_learnt_from_the_source)
{
    struct rig r;
    rig_open(&r);
    go_prepared(&r);
    cr_expect_not(gw_target_committed(r.target));
    step_yours(&r, 0, true, 0);
    cr_expect(gw_target_committed(r.target));
    cr_assert_not_null(find(&r, GW_TARGET_DO_FETCH_MAP));
    cr_expect_eq(find(&r, GW_TARGET_DO_FETCH_MAP)->map_version, 12);
    step_merged(&r, 0);
    cr_expect(acked(&r, 0));
    cr_expect_null(find(&r, GW_TARGET_DO_BEGIN_SERVING), "the map in force names S");
    step_map(&r, 11, false);
    cr_expect_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    r.now_ns += 300 * MS;
    step(&r, GW_TARGET_ON_TICK);
    cr_expect_not_null(find(&r, GW_TARGET_DO_FETCH_MAP), "asks again");
    step_map(&r, 12, true);
    cr_expect_not_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    rig_close(&r);
}

Test(target, abandoned_before_the_commit_it_leaves)
{
    struct rig r;
    struct gw_prepared m;
    rig_open(&r);
    go_prepared(&r);
    step(&r, GW_TARGET_ON_ABANDON);
    cr_assert_not_null(find(&r, GW_TARGET_DO_BEGIN_CUT));
    cr_expect_eq(find(&r, GW_TARGET_DO_BEGIN_CUT)->range, GW_RANGE_FOREIGN);
    step(&r, GW_TARGET_ON_PREPARE);
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.status, GW_E_CANCELLED);
    step_yours(&r, 0, true, 1);
    cr_expect_eq(r.out.count, 0);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_assert_not_null(find(&r, GW_TARGET_DO_FINISH));
    cr_expect_eq(find(&r, GW_TARGET_DO_FINISH)->result, GW_E_CANCELLED);
    rig_close(&r);
}

Test(target, a_cancel_waits_for_what_is_under_way)
{
    struct rig r;
    rig_open(&r);
    step(&r, GW_TARGET_ON_PREPARE);
    step_job(&r, GW_JOB_CANCELLED);
    cr_expect_eq(r.out.count, 0);
    step(&r, GW_TARGET_ON_UNLINKED);
    cr_expect_not_null(find(&r, GW_TARGET_DO_FINISH));
    rig_close(&r);
    rig_open(&r);
    step(&r, GW_TARGET_ON_PREPARE);
    step(&r, GW_TARGET_ON_UNLINKED);
    step(&r, GW_TARGET_ON_ABANDON);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_expect_eq(find(&r, GW_TARGET_DO_BEGIN_CUT)->range, GW_RANGE_FOREIGN);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_expect_not_null(find(&r, GW_TARGET_DO_FINISH));
    rig_close(&r);
}

Test(target, hole_25_nothing_cancels_once_the_commit_is_known)
{
    struct rig r;
    rig_open(&r);
    go_prepared(&r);
    step_job(&r, GW_JOB_COMMITTED);
    step(&r, GW_TARGET_ON_ABANDON);
    cr_expect_null(find(&r, GW_TARGET_DO_BEGIN_CUT));
    cr_expect_eq(gw_target_state(r.target), GW_TARGET_PREPARED);
    rig_close(&r);
}

Test(target, a_new_attempt_starts_yours_over_and_an_old_one_is_dropped)
{
    struct rig r;
    rig_open(&r);
    go_prepared(&r);
    step_map(&r, 12, true);
    step_yours(&r, 0, false, 2);
    uint64_t old = r.attempt++;
    step(&r, GW_TARGET_ON_PREPARE);
    cr_assert_eq(step_event(&r,
                            (struct gw_target_event){.kind = GW_TARGET_ON_MERGED, .attempt = old}),
                 GW_OK);
    cr_expect_eq(r.out.count, 0, "merged for the old attempt");
    cr_assert_eq(step_yours_attempt(&r, old, 1, true, 2), GW_OK);
    cr_expect_eq(r.out.count, 0);
    step_yours(&r, 0, true, 2);
    cr_expect_eq(find(&r, GW_TARGET_DO_RECEIVE)->attempt, r.attempt);
    cr_expect_not_null(find(&r, GW_TARGET_DO_MERGE_APPLIED));
    step_event(&r, (struct gw_target_event){.kind = GW_TARGET_ON_PREPARE,
                                            .attempt = old,
                                            .prepare = &r.prepare});
    cr_expect_eq(r.out.count, 0, "a PREPARE that comes late");
    cr_expect_eq(gw_target_attempt(r.target), r.attempt);
    step_merged(&r, 0);
    cr_expect_not_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    rig_close(&r);
}

Test(target, once_served_yours_is_acknowledged_and_not_merged)
{
    struct rig r;
    rig_open(&r);
    go_serving(&r);
    r.attempt++;
    step(&r, GW_TARGET_ON_PREPARE);
    step_yours(&r, 0, true, 3);
    cr_expect(acked(&r, 0));
    cr_expect_null(find(&r, GW_TARGET_DO_MERGE_APPLIED));
    cr_expect_eq(find(&r, GW_TARGET_DO_RECEIVE)->attempt, r.attempt);
    rig_close(&r);
}

Test(target, chunks_may_all_be_there_before_it_may_serve)
{
    struct rig r;
    rig_open(&r);
    go_prepared(&r);
    step_yours(&r, 0, true, 1);
    step_merged(&r, 0);
    step(&r, GW_TARGET_ON_ALL_COMPLETE);
    cr_expect_null(find(&r, GW_TARGET_DO_BEGIN_CUT));
    step_map(&r, 12, true);
    cr_expect_not_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    cr_expect_not_null(find(&r, GW_TARGET_DO_SECURE));
    step(&r, GW_TARGET_ON_SECURED);
    cr_expect_eq(find(&r, GW_TARGET_DO_BEGIN_CUT)->range, GW_RANGE_OWNED);
    rig_close(&r);
}

/* Hole 16: acknowledged is not durable. */
Test(target, hole_16_secured_is_said_when_all_is_durable_and_until_the_job_is_done)
{
    struct rig r;
    rig_open(&r);
    go_serving(&r);
    step(&r, GW_TARGET_ON_SECURED);
    cr_expect_not(said_secured(&r), "of nothing");
    step(&r, GW_TARGET_ON_ALL_COMPLETE);
    cr_assert_not_null(find(&r, GW_TARGET_DO_SECURE));
    for (uint32_t i = 0; i < 20; i++) {
        r.now_ns += 100 * MS;
        step(&r, GW_TARGET_ON_TICK);
        cr_assert_not(said_secured(&r));
        cr_assert_null(find(&r, GW_TARGET_DO_SECURE), "once");
        cr_assert_eq(gw_target_state(r.target), GW_TARGET_SECURING);
    }
    step(&r, GW_TARGET_ON_SECURED);
    cr_expect(said_secured(&r));
    step(&r, GW_TARGET_ON_CUT_PASSED);
    uint32_t repeats = 0;
    for (uint32_t i = 0; i < 20; i++) {
        r.now_ns += 100 * MS;
        step(&r, GW_TARGET_ON_TICK);
        repeats += said_secured(&r);
    }
    cr_expect_geq(repeats, 4, "it may have been lost");
    r.attempt++; /* the source has lost its connection, or restarted: it wants to hear it again */
    step(&r, GW_TARGET_ON_PREPARE);
    struct gw_prepared m;
    cr_expect(answered(&r, &m));
    cr_expect(said_secured(&r));
    step_job(&r, GW_JOB_DONE);
    r.now_ns += 1000 * MS;
    cr_expect_not_null(find(&r, GW_TARGET_DO_FINISH));
    rig_close(&r);
}

static void reopen(struct rig *r, bool resumed)
{
    gw_target_destroy(r->target);
    cr_assert_eq(gw_target_create(5, &r->prepare.slots, 3, resumed, &r->target), GW_OK);
}

/* R22, R23: what it has recovered of the range is newer than what comes again. */
Test(target, rule_22_a_target_that_has_recovered_keeps_it_and_receives_everything_again)
{
    struct rig r;
    rig_open(&r);
    reopen(&r, true);
    step_job(&r, GW_JOB_COMMITTED);
    cr_expect_null(find(&r, GW_TARGET_DO_BEGIN_UNLINK), "its own writes lie there");
    cr_assert_not_null(find(&r, GW_TARGET_DO_BEGIN_CUT));
    cr_expect_eq(find(&r, GW_TARGET_DO_BEGIN_CUT)->range, GW_RANGE_WAITING, "until \"yours\"");
    step_map(&r, 12, true);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_expect_eq(gw_target_state(r.target), GW_TARGET_PREPARED);
    step(&r, GW_TARGET_ON_PREPARE);
    struct gw_prepared m;
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.status, GW_OK);
    step_yours(&r, 0, true, 3);
    cr_expect_not_null(find(&r, GW_TARGET_DO_MERGE_APPLIED), "entry by entry, again");
    step_merged(&r, 0);
    cr_expect_not_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    rig_close(&r);

    rig_open(&r); /* the source's PREPARE may be faster than the coordinator's JOB */
    reopen(&r, true);
    step(&r, GW_TARGET_ON_PREPARE);
    cr_expect_null(find(&r, GW_TARGET_DO_BEGIN_UNLINK));
    rig_close(&r);
}

/* It had said "secured" before it restarted, the source gives its copy away: nobody sends again. */
Test(target, rule_24_a_target_that_had_everything_durably_serves_it_at_once)
{
    struct rig r;
    rig_open(&r);
    reopen(&r, true);
    step_job(&r, GW_JOB_CLOSING);
    step_map(&r, 12, true);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_assert_not_null(find(&r, GW_TARGET_DO_BEGIN_CUT));
    cr_expect_eq(find(&r, GW_TARGET_DO_BEGIN_CUT)->range, GW_RANGE_OWNED);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    /* The source had not heard of the closing yet when we came back. */
    step(&r, GW_TARGET_ON_PREPARE);
    cr_expect(said_secured(&r));
    step_yours(&r, 0, true, 3);
    cr_expect(acked(&r, 0));
    cr_expect_null(find(&r, GW_TARGET_DO_MERGE_APPLIED));
    cr_expect_not_null(find(&r, GW_TARGET_DO_RECEIVE), "its chunks are acknowledged, too");
    rig_close(&r);
}

/* R12: attempts of a source that restarts rise, whatever its clock says. */
Test(target, rule_12_a_restarted_source_is_not_taken_for_an_earlier_attempt)
{
    struct rig r;
    struct gw_prepared m;
    rig_open(&r);
    go_serving(&r);
    uint64_t old_attempt = r.attempt;
    r.prepare.incarnation = 8;
    r.attempt = gw_attempt_first(8);
    step(&r, GW_TARGET_ON_PREPARE);
    cr_expect(answered(&r, &m), "a newer life");
    cr_expect_eq(gw_target_attempt(r.target), r.attempt);

    r.prepare.incarnation = 7; /* what the dead one left in a buffer */
    r.attempt = old_attempt + 5;
    step(&r, GW_TARGET_ON_PREPARE);
    cr_expect_eq(gw_target_attempt(r.target), gw_attempt_first(8));

    r.prepare.incarnation = 6; /* its clock was put back, but the coordinator has let it join */
    r.attempt = gw_attempt_first(6);
    cr_assert_eq(step_event(&r, (struct gw_target_event){.kind = GW_TARGET_ON_PREPARE,
                                                         .prepare = &r.prepare,
                                                         .current = true}),
                 GW_OK);
    cr_expect(answered(&r, &m));
    cr_expect_eq(gw_target_attempt(r.target), r.attempt);
    rig_close(&r);
}

Test(target, a_restarted_target_takes_up_a_committed_job)
{
    struct rig r;
    rig_open(&r);
    step_job(&r, GW_JOB_COMMITTED);
    cr_expect_not_null(find(&r, GW_TARGET_DO_BEGIN_UNLINK));
    step_map(&r, 12, true);
    step(&r, GW_TARGET_ON_UNLINKED);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_expect_null(find(&r, GW_TARGET_DO_SEND_PEER), "nobody has asked yet");
    step(&r, GW_TARGET_ON_PREPARE);
    struct gw_prepared m;
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.status, GW_OK);
    step_yours(&r, 0, true, 0);
    step_merged(&r, 0);
    cr_expect_not_null(find(&r, GW_TARGET_DO_BEGIN_SERVING));
    rig_close(&r);
}

Test(target, a_prepare_with_other_slots_is_refused)
{
    struct rig r;
    struct gw_prepared m;
    rig_open(&r);
    go_prepared(&r);
    gw_slots_add(&r.prepare.slots, 5000);
    step(&r, GW_TARGET_ON_PREPARE);
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.status, GW_E_INVALID);
    cr_expect_neq(m.text[0], 0);
    rig_close(&r);
}

Test(target, a_bad_yours_is_refused)
{
    struct rig r;
    rig_open(&r);
    go_prepared(&r);
    uint8_t body[16] = {1};
    cr_expect_eq(step_event(&r, (struct gw_target_event){.kind = GW_TARGET_ON_YOURS,
                                                         .count = 1000000,
                                                         .body = gw_reader_of(body, 16)}),
                 GW_E_PROTOCOL, "a count that the frame does not hold");
    cr_expect_eq(step_event(&r, (struct gw_target_event){.kind = GW_TARGET_ON_YOURS,
                                                         .body = gw_reader_of(body, 3)}),
                 GW_E_PROTOCOL);
    rig_close(&r);
}

Test(target, prepared_says_whether_indirections_can_be_followed)
{
    struct rig r;
    rig_open(&r);
    struct gw_prepared m;
    r.prepare.flags = GW_JOB_NO_PULLS;
    step(&r, GW_TARGET_ON_PREPARE);
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.shared_tier, 0, "nobody said that it can");
    cr_expect_eq(gw_target_flags(r.target), GW_JOB_NO_PULLS);
    gw_target_able(r.target, true);
    step(&r, GW_TARGET_ON_UNLINKED);
    step(&r, GW_TARGET_ON_CUT_PASSED);
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.shared_tier, 1);
    /* The store cannot link what came: the next attempt is told so. */
    gw_target_able(r.target, false);
    r.attempt++;
    step(&r, GW_TARGET_ON_PREPARE);
    cr_assert(answered(&r, &m));
    cr_expect_eq(m.shared_tier, 0);
    cr_expect_eq(m.status, GW_OK);
    rig_close(&r);
}
