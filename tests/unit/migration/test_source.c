/* Goal: the source's machine gives the range away only by the coordinator's commit, sends nothing
 * of it before its cut, and finishes whatever is lost on the way. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/migration/source_rig.h"

Test(source, a_job_runs_through)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_asking(&r);
    source_step_job(&r, GW_JOB_COMMITTED);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_BEGIN_CUT));
    cr_expect_eq(source_find(&r, GW_SOURCE_DO_BEGIN_CUT)->range, GW_RANGE_LEAVING);
    source_step(&r, GW_SOURCE_ON_CUT_PASSED);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_SECURE));
    source_step(&r, GW_SOURCE_ON_SECURED);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_COLLECT_APPLIED));
    source_step_applied(&r, 3);
    struct gw_frame f;
    cr_assert_eq(source_sent(&r, GW_KIND_YOURS, &f), 1);
    cr_expect_eq(f.count, 3);
    source_ack(&r, 0);
    const struct gw_source_action *a = source_find(&r, GW_SOURCE_DO_START_SHIPPING);
    cr_assert_not_null(a);
    cr_expect_eq(a->attempt, gw_source_attempt(r.source));
    source_step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    cr_expect_not(source_told(&r, GW_JOB_ARRIVED), "it might forget them");
    source_step_target_secured(&r, 3);
    cr_expect(source_told(&r, GW_JOB_ARRIVED));
    source_step_job(&r, GW_JOB_CLOSING);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_BEGIN_UNLINK));
    source_step(&r, GW_SOURCE_ON_UNLINKED);
    cr_expect_eq(source_find(&r, GW_SOURCE_DO_BEGIN_CUT)->range, GW_RANGE_FOREIGN);
    cr_expect_not(source_told(&r, GW_JOB_CLOSED), "only when the cut has passed");
    source_step(&r, GW_SOURCE_ON_CUT_PASSED);
    cr_expect(source_told(&r, GW_JOB_CLOSED));
    source_step_job(&r, GW_JOB_DONE);
    a = source_find(&r, GW_SOURCE_DO_FINISH);
    cr_assert_not_null(a);
    cr_expect_eq(a->result, GW_OK);
    source_rig_close(&r);
}

Test(source, what_it_sends_says_what_the_job_says)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_step(&r, GW_SOURCE_ON_START);
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    const struct gw_source_action *a = source_find(&r, GW_SOURCE_DO_SEND_PEER);
    struct gw_frame f;
    cr_assert_eq(gw_frame_decode(a->frame, (uint32_t)a->frame_bytes, &f), GW_OK);
    struct gw_reader body = gw_frame_body(a->frame, &f);
    struct gw_prepare m;
    cr_assert_eq(gw_prepare_decode(&body, &m), GW_OK);
    cr_expect_eq(m.incarnation, 7);
    cr_expect_eq(m.chunk_bits, 4);
    cr_expect_str_eq(m.from, "a");
    cr_expect_str_eq(m.from_address, "127.0.0.1:1");
    cr_expect_arr_eq(&m.slots, &r.job.slots, sizeof m.slots);
    source_rig_close(&r);
}

Test(source, hole_4_yours_waits_for_the_cut_and_the_collection)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_asking(&r);
    source_step_job(&r, GW_JOB_COMMITTED);
    for (uint32_t i = 0; i < 20; i++) {
        source_wait_ms(&r, 100);
        cr_assert_eq(source_sent(&r, GW_KIND_YOURS, NULL), 0);
    }
    source_step_applied(&r, 1);
    cr_expect_eq(source_sent(&r, GW_KIND_YOURS, NULL), 0, "collected before the cut: not taken");
    source_step(&r, GW_SOURCE_ON_CUT_PASSED);
    source_step(&r, GW_SOURCE_ON_SECURED);
    for (uint32_t i = 0; i < 20; i++) {
        source_wait_ms(&r, 100);
        cr_assert_eq(source_sent(&r, GW_KIND_YOURS, NULL), 0);
    }
    source_step_applied(&r, 1);
    cr_expect_eq(source_sent(&r, GW_KIND_YOURS, NULL), 1);
    source_rig_close(&r);
}

Test(source, hole_5_every_entry_goes_out_in_parts_before_any_chunk)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_yours(&r, 40000);
    uint64_t next = 0;
    uint32_t total = 0, last = 0;
    for (uint32_t turn = 0; gw_source_state(r.source) == GW_SOURCE_YOURS; turn++) {
        cr_assert_lt(turn, 100);
        uint64_t in_step = 0;
        for (uint32_t i = 0; i < r.out.count; i++) {
            const struct gw_source_action *a = &r.out.action[i];
            struct gw_frame f;
            if (a->kind != GW_SOURCE_DO_SEND_PEER)
                continue;
            cr_assert_eq(gw_frame_decode(a->frame, (uint32_t)a->frame_bytes, &f), GW_OK);
            cr_assert_eq(f.sequence, next + in_step++);
            struct gw_reader body = gw_frame_body(a->frame, &f);
            struct gw_yours m;
            cr_assert_eq(gw_yours_decode(&body, &m), GW_OK);
            cr_assert_eq(m.version_highest, 77);
            cr_assert_eq(m.commit_version, 12);
            last += m.last;
            for (uint32_t k = 0; k < f.count; k++) {
                struct gw_applied e;
                cr_assert(gw_applied_decode(&body, &e));
                cr_assert_eq(e.serial, total++);
            }
        }
        cr_assert_gt(in_step, 0);
        cr_assert_null(source_find(&r, GW_SOURCE_DO_START_SHIPPING));
        for (uint64_t k = 0; k < in_step; k++) { /* acks come; the next parts go out at the last */
            uint64_t part = next++;
            source_ack(&r, part);
            if (k + 1 < in_step && source_sent(&r, GW_KIND_YOURS, NULL)) { /* in flight already */
                in_step += source_sent(&r, GW_KIND_YOURS, NULL);
                for (uint32_t i = 0; i < r.out.count; i++)
                    if (r.out.action[i].kind == GW_SOURCE_DO_SEND_PEER) {
                        struct gw_frame f;
                        cr_assert_eq(gw_frame_decode(r.out.action[i].frame,
                                                     (uint32_t)r.out.action[i].frame_bytes, &f),
                                     GW_OK);
                        struct gw_reader body = gw_frame_body(r.out.action[i].frame, &f);
                        struct gw_yours m;
                        cr_assert_eq(gw_yours_decode(&body, &m), GW_OK);
                        last += m.last;
                        total += f.count;
                    }
            }
        }
    }
    cr_expect_eq(total, 40000);
    cr_expect_eq(last, 1);
    source_rig_close(&r);
}

Test(source, asks_until_it_knows_and_serves_meanwhile)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_asking(&r);
    uint32_t asked = 0;
    for (uint32_t i = 0; i < 40; i++) {
        source_wait_ms(&r, 100);
        asked += source_told(&r, GW_JOB_ASK_COMMIT);
        cr_assert_null(source_find(&r, GW_SOURCE_DO_BEGIN_CUT));
    }
    cr_expect_geq(asked, 7, "every 200 to 500 ms");
    cr_expect_leq(asked, 20);
    source_rig_close(&r);
}

Test(source, does_not_ask_for_the_commit_while_the_target_is_away)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_asking(&r);
    source_step(&r, GW_SOURCE_ON_PEER_DOWN);
    for (uint32_t i = 0; i < 20; i++) {
        source_wait_ms(&r, 100);
        cr_assert_not(source_told(&r, GW_JOB_ASK_COMMIT));
    }
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    source_step_prepared(&r, 3, GW_OK, "");
    cr_expect(source_told(&r, GW_JOB_ASK_COMMIT));
    source_rig_close(&r);
}

Test(source, gives_up_with_a_reason_when_the_target_stays_away)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_step(&r, GW_SOURCE_ON_START);
    uint32_t connects = 0;
    for (uint32_t i = 0; i < 101; i++) {
        source_step(&r, GW_SOURCE_ON_PEER_DOWN);
        source_wait_ms(&r, 100);
        connects += source_find(&r, GW_SOURCE_DO_CONNECT_PEER) != NULL;
        if (i < 90)
            cr_assert_not(source_told(&r, GW_JOB_GAVE_UP));
    }
    cr_expect_geq(connects, 18);
    source_wait_ms(&r, 500);
    cr_assert(source_told(&r, GW_JOB_GAVE_UP));
    cr_expect_str_eq(source_find(&r, GW_SOURCE_DO_SEND_EVENT)->event.text,
                     "the target cannot be reached");
    source_step_job(&r, GW_JOB_FAILED);
    cr_expect_eq(source_find(&r, GW_SOURCE_DO_FINISH)->result, GW_E_CANCELLED);
    source_rig_close(&r);
}

Test(source, a_target_that_refuses_ends_the_job_with_its_words)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_step(&r, GW_SOURCE_ON_START);
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    source_step_prepared(&r, 3, GW_PENDING, "");
    cr_expect_not(source_told(&r, GW_JOB_ASK_COMMIT), "it is not ready yet");
    source_step_prepared(&r, 3, GW_E_LIMIT, "too many jobs");
    cr_assert(source_told(&r, GW_JOB_GAVE_UP));
    cr_expect_str_eq(source_find(&r, GW_SOURCE_DO_SEND_EVENT)->event.text, "too many jobs");
    /* The coordinator has the last word: it may have committed before. */
    source_step_job(&r, GW_JOB_COMMITTED);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_BEGIN_CUT));
    source_rig_close(&r);
}

Test(source, cancel_before_the_commit_tells_the_target)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_asking(&r);
    source_step_job(&r, GW_JOB_CANCELLED);
    cr_expect_eq(source_sent(&r, GW_KIND_ABANDON, NULL), 1);
    cr_expect_eq(source_find(&r, GW_SOURCE_DO_FINISH)->result, GW_E_CANCELLED);
    source_rig_close(&r);
}

Test(source, hole_25_nothing_cancels_behind_the_commit)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_shipping(&r);
    source_step_job(&r, GW_JOB_CANCELLED);
    cr_expect_null(source_find(&r, GW_SOURCE_DO_FINISH));
    cr_expect_eq(source_sent(&r, GW_KIND_ABANDON, NULL), 0);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
    source_rig_close(&r);
}

Test(source, a_lost_connection_raises_the_attempt_and_sends_all_again)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_shipping(&r);
    uint64_t attempt = gw_source_attempt(r.source);
    source_step(&r, GW_SOURCE_ON_PEER_DOWN);
    cr_expect_eq(gw_source_attempt(r.source), attempt + 1);
    source_wait_ms(&r, 100);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_CONNECT_PEER));
    source_step_event(&r, (struct gw_source_event){.kind = GW_SOURCE_ON_ALL_CHUNKS_ACKED,
                                                   .attempt = attempt});
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_YOURS, "of the attempt before");
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    cr_expect_eq(source_sent(&r, GW_KIND_PREPARE, NULL), 1);
    source_step_prepared(&r, 3, GW_OK, "");
    cr_expect_eq(source_sent(&r, GW_KIND_YOURS, NULL), 1);
    source_step_event(&r,
                      (struct gw_source_event){.kind = GW_SOURCE_ON_YOURS_ACK, .attempt = attempt});
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_YOURS, "an old ack");
    source_ack(&r, 0);
    const struct gw_source_action *a = source_find(&r, GW_SOURCE_DO_RESTART_SHIPPING);
    cr_assert_not_null(a);
    cr_expect_eq(a->attempt, attempt + 1);
    cr_expect_not(a->from_scratch, "what is acknowledged stays so");
    source_rig_close(&r);
}

Test(source, a_restarted_target_gets_everything_again)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_shipping(&r);
    source_step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    source_step_target_secured(&r, 3);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_ARRIVED);
    source_step(&r, GW_SOURCE_ON_PEER_DOWN);
    source_wait_ms(&r, 100);
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    source_step_prepared(&r, 4, GW_OK, "");
    cr_expect_eq(source_sent(&r, GW_KIND_YOURS, NULL), 1);
    source_step_job(&r, GW_JOB_CLOSING);
    cr_expect_null(source_find(&r, GW_SOURCE_DO_BEGIN_UNLINK), "it has nothing yet");
    source_ack(&r, 0);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_RESTART_SHIPPING));
    cr_expect(source_find(&r, GW_SOURCE_DO_RESTART_SHIPPING)->from_scratch);
    source_step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    source_step_target_secured(&r, 3);
    cr_expect_null(source_find(&r, GW_SOURCE_DO_BEGIN_UNLINK), "that was its life before");
    source_step_target_secured(&r, 4);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_BEGIN_UNLINK));
    source_rig_close(&r);
}

/* Hole 17: an add executed and not yet flushed at the cut; "yours" says applied; we crash and
 * recover without it; the client's resend is answered by the target: "already applied". */
Test(source, hole_17_yours_is_collected_when_what_was_executed_is_durable)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_asking(&r);
    source_step_job(&r, GW_JOB_COMMITTED);
    cr_expect_null(source_find(&r, GW_SOURCE_DO_SECURE), "operations of the range may still run");
    source_step(&r, GW_SOURCE_ON_SECURED);
    source_step(&r, GW_SOURCE_ON_CUT_PASSED);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_SECURE), "of before the cut: not taken");
    for (uint32_t i = 0; i < 20; i++) {
        source_wait_ms(&r, 100);
        cr_assert_null(source_find(&r, GW_SOURCE_DO_COLLECT_APPLIED));
        cr_assert_null(source_find(&r, GW_SOURCE_DO_SECURE), "once");
        cr_assert_eq(source_sent(&r, GW_KIND_YOURS, NULL), 0);
    }
    source_step(&r, GW_SOURCE_ON_SECURED);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_COLLECT_APPLIED));
    source_rig_close(&r);
}

/* Hole 18: the same, after a restart behind the commit: what we have recovered is at least what was
 * at the cut, but has it been made durable by this life? */
Test(source, hole_18_a_restarted_source_secures_before_it_collects)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_COMMITTED);
    source_step(&r, GW_SOURCE_ON_START);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_BEGIN_CUT));
    source_step(&r, GW_SOURCE_ON_CUT_PASSED);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_SECURE));
    cr_expect_null(source_find(&r, GW_SOURCE_DO_COLLECT_APPLIED));
    source_rig_close(&r);
}

/* Hole 16: every chunk acknowledged, we purge, the target crashes before its checkpoint: a key that
 * was durable is gone. */
Test(source, hole_16_arrived_is_said_only_when_the_target_has_it_durably)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_shipping(&r);
    source_step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    for (uint32_t i = 0; i < 20; i++) {
        source_wait_ms(&r, 100);
        cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
        cr_assert_not(source_told(&r, GW_JOB_ARRIVED));
    }
    source_step_event(&r, (struct gw_source_event){.kind = GW_SOURCE_ON_TARGET_SECURED,
                                                   .incarnation = 3,
                                                   .attempt = gw_source_attempt(r.source) - 1});
    source_step_target_secured(&r, 2);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING, "of another attempt, or life");
    source_step_target_secured(&r, 3);
    cr_expect(source_told(&r, GW_JOB_ARRIVED));
    source_rig_close(&r);
}

Test(source, rule_24_secured_without_every_ack_is_not_enough)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_shipping(&r);
    source_step_target_secured(&r, 3);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
    source_step(&r, GW_SOURCE_ON_PEER_DOWN); /* another attempt: both are to be said again */
    source_wait_ms(&r, 100);
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    source_step_prepared(&r, 3, GW_OK, "");
    source_ack(&r, 0);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
    source_step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
    source_step_target_secured(&r, 3);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_ARRIVED);
    source_rig_close(&r);
}

/* Hole 28: pause stops what nobody waits for, and only that. */
Test(source, hole_28_a_paused_job_does_not_ask_and_otherwise_goes_on)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    r.job.paused = true;
    source_step(&r, GW_SOURCE_ON_START);
    source_step_event(&r, (struct gw_source_event){.kind = GW_SOURCE_ON_JOB, .job = &r.job});
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    source_step_prepared(&r, 3, GW_OK, "");
    for (uint32_t i = 0; i < 200; i++) { /* and it does not give up */
        source_wait_ms(&r, 100);
        cr_assert_eq(gw_source_state(r.source), GW_SOURCE_ASKING);
        cr_assert_not(source_told(&r, GW_JOB_ASK_COMMIT));
    }
    r.job.paused = false;
    source_step_event(&r, (struct gw_source_event){.kind = GW_SOURCE_ON_JOB, .job = &r.job});
    cr_expect(source_told(&r, GW_JOB_ASK_COMMIT));
    r.job.paused = true; /* behind the commit: the range's operations wait for "yours" */
    source_step_job(&r, GW_JOB_COMMITTED);
    source_step(&r, GW_SOURCE_ON_CUT_PASSED);
    source_step(&r, GW_SOURCE_ON_SECURED);
    source_step_applied(&r, 3);
    cr_expect_eq(source_sent(&r, GW_KIND_YOURS, NULL), 1);
    source_ack(&r, 0);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_START_SHIPPING),
                       "the data plane answers pulls");
    cr_expect(gw_source_job(r.source)->paused, "and knows that it ships nothing");
    source_rig_close(&r);
}

Test(source, a_lost_target_leaves_the_range_to_us)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_shipping(&r);
    source_step_job(&r, GW_JOB_REVIVED);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_FINISH));
    cr_expect_eq(source_find(&r, GW_SOURCE_DO_FINISH)->result, GW_E_CANCELLED,
                 "the range stays linked");
    cr_expect_eq(source_sent(&r, GW_KIND_ABANDON, NULL), 0);
    source_rig_close(&r);

    source_rig_open(&r, GW_JOB_CREATED); /* we had not heard of the commit yet */
    source_go_asking(&r);
    source_step_job(&r, GW_JOB_REVIVED);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_FINISH));
    source_rig_close(&r);

    source_rig_open(&r, GW_JOB_CLOSING); /* cannot be: nothing is done about it */
    source_step(&r, GW_SOURCE_ON_START);
    source_step_job(&r, GW_JOB_REVIVED);
    cr_expect_null(source_find(&r, GW_SOURCE_DO_FINISH));
    source_rig_close(&r);
}

Test(source, a_restarted_target_ends_a_job_that_is_not_committed)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_asking(&r);
    source_step(&r, GW_SOURCE_ON_PEER_DOWN);
    source_wait_ms(&r, 100);
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    source_step_prepared(&r, 4, GW_OK, "");
    cr_assert(source_told(&r, GW_JOB_GAVE_UP));
    cr_expect_str_eq(source_find(&r, GW_SOURCE_DO_SEND_EVENT)->event.text,
                     "the target has restarted");
    source_rig_close(&r);
}

Test(source, yours_is_repeated_until_it_is_acknowledged)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_CREATED);
    source_go_yours(&r, 0);
    struct gw_frame f;
    cr_assert_eq(source_sent(&r, GW_KIND_YOURS, &f), 1, "without entries, too");
    cr_expect_eq(f.count, 0);
    uint32_t repeats = 0;
    for (uint32_t i = 0; i < 20; i++) {
        source_wait_ms(&r, 100);
        repeats += source_sent(&r, GW_KIND_YOURS, NULL);
    }
    cr_expect_geq(repeats, 3);
    cr_expect_leq(repeats, 10);
    source_rig_close(&r);
}

Test(source, takes_up_a_job_where_the_coordinator_has_it)
{
    struct source_rig r;
    source_rig_open(&r, GW_JOB_COMMITTED);
    source_step(&r, GW_SOURCE_ON_START);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_BEGIN_CUT));
    cr_expect_eq(source_find(&r, GW_SOURCE_DO_BEGIN_CUT)->range, GW_RANGE_LEAVING);
    source_rig_close(&r);
    source_rig_open(&r, GW_JOB_CLOSING);
    source_step(&r, GW_SOURCE_ON_START);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_BEGIN_UNLINK));
    source_rig_close(&r);
    source_rig_open(&r, GW_JOB_DONE);
    source_step(&r, GW_SOURCE_ON_START);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_FINISH));
    source_rig_close(&r);
}

Test(source, refuses_a_job_without_slots)
{
    struct gw_job job = {.id = 1, .state = GW_JOB_CREATED};
    struct gw_source *source;
    cr_expect_eq(gw_source_create(&job, 1, "", 4, &source), GW_E_INVALID);
    gw_slots_add(&job.slots, 1);
    cr_expect_eq(gw_source_create(&job, 1, "", GW_CHUNK_BITS_MAX + 1, &source), GW_E_INVALID);
}
