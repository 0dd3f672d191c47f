/* Goal: the source's machine gives the range away only by the coordinator's commit, sends nothing
 * of it before its cut, and finishes whatever is lost on the way. */
#include "migration/source.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS 1000000ull

struct rig {
    struct gw_source *source;
    struct gw_job job;
    struct gw_source_actions out;
    uint64_t now_ns;
    bool target_shares;
};

static void rig_open(struct rig *r, enum gw_job_state state)
{
    memset(r, 0, sizeof *r);
    r->job = (struct gw_job){.id = 5,
                             .state = state,
                             .from = "a",
                             .to = "b",
                             .from_address = "127.0.0.1:1",
                             .to_address = "127.0.0.1:2"};
    gw_slots_add_range(&r->job.slots, 0, 99);
    r->now_ns = 1000 * MS;
    cr_assert_eq(gw_source_create(&r->job, 7, "127.0.0.1:1", 4, &r->source), GW_OK);
}

static void rig_close(struct rig *r)
{
    gw_source_destroy(r->source);
}

static void step_event(struct rig *r, struct gw_source_event e)
{
    if (e.attempt == 0)
        e.attempt = gw_source_attempt(r->source);
    gw_source_step(r->source, &e, r->now_ns, &r->out);
}

static void step(struct rig *r, enum gw_source_event_kind kind)
{
    step_event(r, (struct gw_source_event){.kind = kind});
}

static void wait_ms(struct rig *r, uint64_t ms)
{
    r->now_ns += ms * MS;
    step(r, GW_SOURCE_ON_TICK);
}

static void step_job(struct rig *r, enum gw_job_state state)
{
    r->job.state = state;
    r->job.commit_version = 12;
    step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_JOB, .job = &r->job});
}

static void step_prepared(struct rig *r, uint64_t incarnation, enum gw_status st, const char *text)
{
    struct gw_prepared m = {.incarnation = incarnation,
                            .status = (int8_t)st,
                            .shared_tier = r->target_shares};
    snprintf(m.text, sizeof m.text, "%s", text);
    step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_PREPARED, .prepared = &m});
}

static void step_applied(struct rig *r, uint32_t count)
{
    struct gw_applied *entries = calloc(count + 1, sizeof *entries);
    for (uint32_t i = 0; i < count; i++)
        entries[i] = (struct gw_applied){.session = 1, .serial = i, .slot = (uint16_t)(i % 100)};
    step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_APPLIED_COLLECTED,
                                           .applied = {entries, count, 77}});
    free(entries);
}

static const struct gw_source_action *find(struct rig *r, enum gw_source_action_kind kind)
{
    for (uint32_t i = 0; i < r->out.count; i++)
        if (r->out.action[i].kind == kind)
            return &r->out.action[i];
    return NULL;
}

static uint32_t sent(struct rig *r, uint8_t kind, struct gw_frame *f)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->out.count; i++) {
        const struct gw_source_action *a = &r->out.action[i];
        struct gw_frame header;
        if (a->kind != GW_SOURCE_DO_SEND_PEER)
            continue;
        cr_assert_eq(gw_frame_decode(a->frame, (uint32_t)a->frame_bytes, &header), GW_OK);
        cr_assert_eq(header.session, 5);
        cr_assert_eq(header.view, gw_source_attempt(r->source));
        if (header.kind == kind) {
            count++;
            if (f)
                *f = header;
        }
    }
    return count;
}

static bool told(struct rig *r, enum gw_job_event_kind event)
{
    const struct gw_source_action *a = find(r, GW_SOURCE_DO_SEND_EVENT);
    return a && a->event.event == event && a->event.job == 5;
}

static void go_asking(struct rig *r)
{
    step(r, GW_SOURCE_ON_START);
    cr_assert_not_null(find(r, GW_SOURCE_DO_CONNECT_PEER));
    step(r, GW_SOURCE_ON_PEER_UP);
    cr_assert_eq(sent(r, GW_KIND_PREPARE, NULL), 1);
    step_prepared(r, 3, GW_OK, "");
    cr_assert(told(r, GW_JOB_ASK_COMMIT));
}

static void go_yours(struct rig *r, uint32_t entries)
{
    go_asking(r);
    step_job(r, GW_JOB_COMMITTED);
    step(r, GW_SOURCE_ON_CUT_PASSED);
    step(r, GW_SOURCE_ON_SECURED);
    step_applied(r, entries);
}

static void ack(struct rig *r, uint64_t part)
{
    step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_YOURS_ACK, .part = part});
}

static void step_target_secured(struct rig *r, uint64_t incarnation)
{
    step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_TARGET_SECURED,
                                           .incarnation = incarnation});
}

static void go_shipping(struct rig *r)
{
    go_yours(r, 3);
    ack(r, 0);
    cr_assert_eq(gw_source_state(r->source), GW_SOURCE_SHIPPING);
}

Test(source, a_job_runs_through)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_asking(&r);
    step_job(&r, GW_JOB_COMMITTED);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_BEGIN_CUT));
    cr_expect_eq(find(&r, GW_SOURCE_DO_BEGIN_CUT)->range, GW_RANGE_LEAVING);
    step(&r, GW_SOURCE_ON_CUT_PASSED);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_SECURE));
    step(&r, GW_SOURCE_ON_SECURED);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_COLLECT_APPLIED));
    step_applied(&r, 3);
    struct gw_frame f;
    cr_assert_eq(sent(&r, GW_KIND_YOURS, &f), 1);
    cr_expect_eq(f.count, 3);
    ack(&r, 0);
    const struct gw_source_action *a = find(&r, GW_SOURCE_DO_START_SHIPPING);
    cr_assert_not_null(a);
    cr_expect_eq(a->attempt, gw_source_attempt(r.source));
    step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    cr_expect_not(told(&r, GW_JOB_ARRIVED), "it might forget them");
    step_target_secured(&r, 3);
    cr_expect(told(&r, GW_JOB_ARRIVED));
    step_job(&r, GW_JOB_CLOSING);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_BEGIN_UNLINK));
    step(&r, GW_SOURCE_ON_UNLINKED);
    cr_expect_eq(find(&r, GW_SOURCE_DO_BEGIN_CUT)->range, GW_RANGE_FOREIGN);
    cr_expect_not(told(&r, GW_JOB_CLOSED), "only when the cut has passed");
    step(&r, GW_SOURCE_ON_CUT_PASSED);
    cr_expect(told(&r, GW_JOB_CLOSED));
    step_job(&r, GW_JOB_DONE);
    a = find(&r, GW_SOURCE_DO_FINISH);
    cr_assert_not_null(a);
    cr_expect_eq(a->result, GW_OK);
    rig_close(&r);
}

Test(source, what_it_sends_says_what_the_job_says)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    step(&r, GW_SOURCE_ON_START);
    step(&r, GW_SOURCE_ON_PEER_UP);
    const struct gw_source_action *a = find(&r, GW_SOURCE_DO_SEND_PEER);
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
    rig_close(&r);
}

Test(source, hole_4_yours_waits_for_the_cut_and_the_collection)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_asking(&r);
    step_job(&r, GW_JOB_COMMITTED);
    for (uint32_t i = 0; i < 20; i++) {
        wait_ms(&r, 100);
        cr_assert_eq(sent(&r, GW_KIND_YOURS, NULL), 0);
    }
    step_applied(&r, 1);
    cr_expect_eq(sent(&r, GW_KIND_YOURS, NULL), 0, "collected before the cut: not taken");
    step(&r, GW_SOURCE_ON_CUT_PASSED);
    step(&r, GW_SOURCE_ON_SECURED);
    for (uint32_t i = 0; i < 20; i++) {
        wait_ms(&r, 100);
        cr_assert_eq(sent(&r, GW_KIND_YOURS, NULL), 0);
    }
    step_applied(&r, 1);
    cr_expect_eq(sent(&r, GW_KIND_YOURS, NULL), 1);
    rig_close(&r);
}

Test(source, hole_5_every_entry_goes_out_in_parts_before_any_chunk)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_yours(&r, 40000);
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
        cr_assert_null(find(&r, GW_SOURCE_DO_START_SHIPPING));
        for (uint64_t k = 0; k < in_step; k++) { /* acks come; the next parts go out at the last */
            uint64_t part = next++;
            ack(&r, part);
            if (k + 1 < in_step && sent(&r, GW_KIND_YOURS, NULL)) { /* in flight already */
                in_step += sent(&r, GW_KIND_YOURS, NULL);
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
    rig_close(&r);
}

Test(source, asks_until_it_knows_and_serves_meanwhile)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_asking(&r);
    uint32_t asked = 0;
    for (uint32_t i = 0; i < 40; i++) {
        wait_ms(&r, 100);
        asked += told(&r, GW_JOB_ASK_COMMIT);
        cr_assert_null(find(&r, GW_SOURCE_DO_BEGIN_CUT));
    }
    cr_expect_geq(asked, 7, "every 200 to 500 ms");
    cr_expect_leq(asked, 20);
    rig_close(&r);
}

Test(source, does_not_ask_for_the_commit_while_the_target_is_away)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_asking(&r);
    step(&r, GW_SOURCE_ON_PEER_DOWN);
    for (uint32_t i = 0; i < 20; i++) {
        wait_ms(&r, 100);
        cr_assert_not(told(&r, GW_JOB_ASK_COMMIT));
    }
    step(&r, GW_SOURCE_ON_PEER_UP);
    step_prepared(&r, 3, GW_OK, "");
    cr_expect(told(&r, GW_JOB_ASK_COMMIT));
    rig_close(&r);
}

Test(source, gives_up_with_a_reason_when_the_target_stays_away)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    step(&r, GW_SOURCE_ON_START);
    uint32_t connects = 0;
    for (uint32_t i = 0; i < 101; i++) {
        step(&r, GW_SOURCE_ON_PEER_DOWN);
        wait_ms(&r, 100);
        connects += find(&r, GW_SOURCE_DO_CONNECT_PEER) != NULL;
        if (i < 90)
            cr_assert_not(told(&r, GW_JOB_GAVE_UP));
    }
    cr_expect_geq(connects, 18);
    wait_ms(&r, 500);
    cr_assert(told(&r, GW_JOB_GAVE_UP));
    cr_expect_str_eq(find(&r, GW_SOURCE_DO_SEND_EVENT)->event.text, "the target cannot be reached");
    step_job(&r, GW_JOB_FAILED);
    cr_expect_eq(find(&r, GW_SOURCE_DO_FINISH)->result, GW_E_CANCELLED);
    rig_close(&r);
}

Test(source, a_target_that_refuses_ends_the_job_with_its_words)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    step(&r, GW_SOURCE_ON_START);
    step(&r, GW_SOURCE_ON_PEER_UP);
    step_prepared(&r, 3, GW_PENDING, "");
    cr_expect_not(told(&r, GW_JOB_ASK_COMMIT), "it is not ready yet");
    step_prepared(&r, 3, GW_E_LIMIT, "too many jobs");
    cr_assert(told(&r, GW_JOB_GAVE_UP));
    cr_expect_str_eq(find(&r, GW_SOURCE_DO_SEND_EVENT)->event.text, "too many jobs");
    /* The coordinator has the last word: it may have committed before. */
    step_job(&r, GW_JOB_COMMITTED);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_BEGIN_CUT));
    rig_close(&r);
}

Test(source, cancel_before_the_commit_tells_the_target)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_asking(&r);
    step_job(&r, GW_JOB_CANCELLED);
    cr_expect_eq(sent(&r, GW_KIND_ABANDON, NULL), 1);
    cr_expect_eq(find(&r, GW_SOURCE_DO_FINISH)->result, GW_E_CANCELLED);
    rig_close(&r);
}

Test(source, hole_25_nothing_cancels_behind_the_commit)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_shipping(&r);
    step_job(&r, GW_JOB_CANCELLED);
    cr_expect_null(find(&r, GW_SOURCE_DO_FINISH));
    cr_expect_eq(sent(&r, GW_KIND_ABANDON, NULL), 0);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
    rig_close(&r);
}

Test(source, a_lost_connection_raises_the_attempt_and_sends_all_again)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_shipping(&r);
    uint64_t attempt = gw_source_attempt(r.source);
    step(&r, GW_SOURCE_ON_PEER_DOWN);
    cr_expect_eq(gw_source_attempt(r.source), attempt + 1);
    wait_ms(&r, 100);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_CONNECT_PEER));
    step_event(&r,
               (struct gw_source_event){.kind = GW_SOURCE_ON_ALL_CHUNKS_ACKED, .attempt = attempt});
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_YOURS, "of the attempt before");
    step(&r, GW_SOURCE_ON_PEER_UP);
    cr_expect_eq(sent(&r, GW_KIND_PREPARE, NULL), 1);
    step_prepared(&r, 3, GW_OK, "");
    cr_expect_eq(sent(&r, GW_KIND_YOURS, NULL), 1);
    step_event(&r, (struct gw_source_event){.kind = GW_SOURCE_ON_YOURS_ACK, .attempt = attempt});
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_YOURS, "an old ack");
    ack(&r, 0);
    const struct gw_source_action *a = find(&r, GW_SOURCE_DO_RESTART_SHIPPING);
    cr_assert_not_null(a);
    cr_expect_eq(a->attempt, attempt + 1);
    cr_expect_not(a->from_scratch, "what is acknowledged stays so");
    rig_close(&r);
}

Test(source, a_restarted_target_gets_everything_again)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_shipping(&r);
    step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    step_target_secured(&r, 3);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_ARRIVED);
    step(&r, GW_SOURCE_ON_PEER_DOWN);
    wait_ms(&r, 100);
    step(&r, GW_SOURCE_ON_PEER_UP);
    step_prepared(&r, 4, GW_OK, "");
    cr_expect_eq(sent(&r, GW_KIND_YOURS, NULL), 1);
    step_job(&r, GW_JOB_CLOSING);
    cr_expect_null(find(&r, GW_SOURCE_DO_BEGIN_UNLINK), "it has nothing yet");
    ack(&r, 0);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_RESTART_SHIPPING));
    cr_expect(find(&r, GW_SOURCE_DO_RESTART_SHIPPING)->from_scratch);
    step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    step_target_secured(&r, 3);
    cr_expect_null(find(&r, GW_SOURCE_DO_BEGIN_UNLINK), "that was its life before");
    step_target_secured(&r, 4);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_BEGIN_UNLINK));
    rig_close(&r);
}

/* Hole 17: an add executed and not yet flushed at the cut; "yours" says applied; we crash and
 * recover without it; the client's resend is answered by the target: "already applied". */
Test(source, hole_17_yours_is_collected_when_what_was_executed_is_durable)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_asking(&r);
    step_job(&r, GW_JOB_COMMITTED);
    cr_expect_null(find(&r, GW_SOURCE_DO_SECURE), "operations of the range may still run");
    step(&r, GW_SOURCE_ON_SECURED);
    step(&r, GW_SOURCE_ON_CUT_PASSED);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_SECURE), "of before the cut: not taken");
    for (uint32_t i = 0; i < 20; i++) {
        wait_ms(&r, 100);
        cr_assert_null(find(&r, GW_SOURCE_DO_COLLECT_APPLIED));
        cr_assert_null(find(&r, GW_SOURCE_DO_SECURE), "once");
        cr_assert_eq(sent(&r, GW_KIND_YOURS, NULL), 0);
    }
    step(&r, GW_SOURCE_ON_SECURED);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_COLLECT_APPLIED));
    rig_close(&r);
}

/* Hole 18: the same, after a restart behind the commit: what we have recovered is at least what was
 * at the cut, but has it been made durable by this life? */
Test(source, hole_18_a_restarted_source_secures_before_it_collects)
{
    struct rig r;
    rig_open(&r, GW_JOB_COMMITTED);
    step(&r, GW_SOURCE_ON_START);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_BEGIN_CUT));
    step(&r, GW_SOURCE_ON_CUT_PASSED);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_SECURE));
    cr_expect_null(find(&r, GW_SOURCE_DO_COLLECT_APPLIED));
    rig_close(&r);
}

/* Hole 16: every chunk acknowledged, we purge, the target crashes before its checkpoint: a key that
 * was durable is gone. */
Test(source, hole_16_arrived_is_said_only_when_the_target_has_it_durably)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_shipping(&r);
    step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    for (uint32_t i = 0; i < 20; i++) {
        wait_ms(&r, 100);
        cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
        cr_assert_not(told(&r, GW_JOB_ARRIVED));
    }
    step_event(&r, (struct gw_source_event){.kind = GW_SOURCE_ON_TARGET_SECURED,
                                            .incarnation = 3,
                                            .attempt = gw_source_attempt(r.source) - 1});
    step_target_secured(&r, 2);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING, "of another attempt, or life");
    step_target_secured(&r, 3);
    cr_expect(told(&r, GW_JOB_ARRIVED));
    rig_close(&r);
}

Test(source, rule_24_secured_without_every_ack_is_not_enough)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_shipping(&r);
    step_target_secured(&r, 3);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
    step(&r, GW_SOURCE_ON_PEER_DOWN); /* another attempt: both are to be said again */
    wait_ms(&r, 100);
    step(&r, GW_SOURCE_ON_PEER_UP);
    step_prepared(&r, 3, GW_OK, "");
    ack(&r, 0);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
    step(&r, GW_SOURCE_ON_ALL_CHUNKS_ACKED);
    cr_assert_eq(gw_source_state(r.source), GW_SOURCE_SHIPPING);
    step_target_secured(&r, 3);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_ARRIVED);
    rig_close(&r);
}

/* Hole 28: pause stops what nobody waits for, and only that. */
Test(source, hole_28_a_paused_job_does_not_ask_and_otherwise_goes_on)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    r.job.paused = true;
    step(&r, GW_SOURCE_ON_START);
    step_event(&r, (struct gw_source_event){.kind = GW_SOURCE_ON_JOB, .job = &r.job});
    step(&r, GW_SOURCE_ON_PEER_UP);
    step_prepared(&r, 3, GW_OK, "");
    for (uint32_t i = 0; i < 200; i++) { /* and it does not give up */
        wait_ms(&r, 100);
        cr_assert_eq(gw_source_state(r.source), GW_SOURCE_ASKING);
        cr_assert_not(told(&r, GW_JOB_ASK_COMMIT));
    }
    r.job.paused = false;
    step_event(&r, (struct gw_source_event){.kind = GW_SOURCE_ON_JOB, .job = &r.job});
    cr_expect(told(&r, GW_JOB_ASK_COMMIT));
    r.job.paused = true; /* behind the commit: the range's operations wait for "yours" */
    step_job(&r, GW_JOB_COMMITTED);
    step(&r, GW_SOURCE_ON_CUT_PASSED);
    step(&r, GW_SOURCE_ON_SECURED);
    step_applied(&r, 3);
    cr_expect_eq(sent(&r, GW_KIND_YOURS, NULL), 1);
    ack(&r, 0);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_START_SHIPPING), "the data plane answers pulls");
    cr_expect(gw_source_job(r.source)->paused, "and knows that it ships nothing");
    rig_close(&r);
}

Test(source, a_lost_target_leaves_the_range_to_us)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_shipping(&r);
    step_job(&r, GW_JOB_REVIVED);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_FINISH));
    cr_expect_eq(find(&r, GW_SOURCE_DO_FINISH)->result, GW_E_CANCELLED, "the range stays linked");
    cr_expect_eq(sent(&r, GW_KIND_ABANDON, NULL), 0);
    rig_close(&r);

    rig_open(&r, GW_JOB_CREATED); /* we had not heard of the commit yet */
    go_asking(&r);
    step_job(&r, GW_JOB_REVIVED);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_FINISH));
    rig_close(&r);

    rig_open(&r, GW_JOB_CLOSING); /* cannot be: nothing is done about it */
    step(&r, GW_SOURCE_ON_START);
    step_job(&r, GW_JOB_REVIVED);
    cr_expect_null(find(&r, GW_SOURCE_DO_FINISH));
    rig_close(&r);
}

Test(source, a_restarted_target_ends_a_job_that_is_not_committed)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_asking(&r);
    step(&r, GW_SOURCE_ON_PEER_DOWN);
    wait_ms(&r, 100);
    step(&r, GW_SOURCE_ON_PEER_UP);
    step_prepared(&r, 4, GW_OK, "");
    cr_assert(told(&r, GW_JOB_GAVE_UP));
    cr_expect_str_eq(find(&r, GW_SOURCE_DO_SEND_EVENT)->event.text, "the target has restarted");
    rig_close(&r);
}

Test(source, yours_is_repeated_until_it_is_acknowledged)
{
    struct rig r;
    rig_open(&r, GW_JOB_CREATED);
    go_yours(&r, 0);
    struct gw_frame f;
    cr_assert_eq(sent(&r, GW_KIND_YOURS, &f), 1, "without entries, too");
    cr_expect_eq(f.count, 0);
    uint32_t repeats = 0;
    for (uint32_t i = 0; i < 20; i++) {
        wait_ms(&r, 100);
        repeats += sent(&r, GW_KIND_YOURS, NULL);
    }
    cr_expect_geq(repeats, 3);
    cr_expect_leq(repeats, 10);
    rig_close(&r);
}

Test(source, takes_up_a_job_where_the_coordinator_has_it)
{
    struct rig r;
    rig_open(&r, GW_JOB_COMMITTED);
    step(&r, GW_SOURCE_ON_START);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_BEGIN_CUT));
    cr_expect_eq(find(&r, GW_SOURCE_DO_BEGIN_CUT)->range, GW_RANGE_LEAVING);
    rig_close(&r);
    rig_open(&r, GW_JOB_CLOSING);
    step(&r, GW_SOURCE_ON_START);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_BEGIN_UNLINK));
    rig_close(&r);
    rig_open(&r, GW_JOB_DONE);
    step(&r, GW_SOURCE_ON_START);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_FINISH));
    rig_close(&r);
}

Test(source, refuses_a_job_without_slots)
{
    struct gw_job job = {.id = 1, .state = GW_JOB_CREATED};
    struct gw_source *source;
    cr_expect_eq(gw_source_create(&job, 1, "", 4, &source), GW_E_INVALID);
    gw_slots_add(&job.slots, 1);
    cr_expect_eq(gw_source_create(&job, 1, "", GW_CHUNK_BITS_MAX + 1, &source), GW_E_INVALID);
}

/* ---- sampling and indirections ------------------------------------------------------------- */

static void open_sampling(struct rig *r, uint8_t flags)
{
    rig_open(r, GW_JOB_CREATED);
    gw_source_destroy(r->source);
    r->job.options.flags = flags;
    r->job.options.sample_ms = 100;
    cr_assert_eq(gw_source_create(&r->job, 7, "127.0.0.1:1", 4, &r->source), GW_OK);
    gw_source_able(r->source, true, true);
    step(r, GW_SOURCE_ON_START);
    step(r, GW_SOURCE_ON_PEER_UP);
}

static void go_sampling(struct rig *r)
{
    open_sampling(r, 0);
    step_prepared(r, 3, GW_OK, "");
    cr_assert_eq(gw_source_state(r->source), GW_SOURCE_SAMPLING);
    cr_assert_not_null(find(r, GW_SOURCE_DO_BEGIN_SAMPLING));
    cr_assert_not(told(r, GW_JOB_ASK_COMMIT));
}

Test(source, hot_records_gather_for_as_long_as_the_job_says)
{
    struct rig r;
    go_sampling(&r);
    wait_ms(&r, 99);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SAMPLING);
    cr_expect_null(find(&r, GW_SOURCE_DO_BEGIN_SAMPLING), "once");
    wait_ms(&r, 1);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_END_SAMPLING));
    cr_expect(told(&r, GW_JOB_ASK_COMMIT));
    cr_expect(gw_source_sampled(r.source));
    rig_close(&r);
}

Test(source, hot_records_gather_until_there_are_enough)
{
    struct rig r;
    go_sampling(&r);
    step(&r, GW_SOURCE_ON_SAMPLED);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_END_SAMPLING));
    cr_expect(told(&r, GW_JOB_ASK_COMMIT));
    cr_expect(gw_source_sampled(r.source));
    step(&r, GW_SOURCE_ON_SAMPLED);
    cr_expect_null(find(&r, GW_SOURCE_DO_END_SAMPLING), "once");
    rig_close(&r);
}

Test(source, nothing_gathers_where_the_job_or_the_store_does_not_want_it)
{
    struct rig r;
    open_sampling(&r, GW_JOB_NO_SAMPLING);
    step_prepared(&r, 3, GW_OK, "");
    cr_expect(told(&r, GW_JOB_ASK_COMMIT));
    cr_expect_not(gw_source_sampled(r.source));
    rig_close(&r);
    rig_open(&r, GW_JOB_CREATED); /* gw_source_able was not called */
    go_asking(&r);
    cr_expect_not(gw_source_sampled(r.source));
    rig_close(&r);
}

Test(source, a_pause_ends_the_gathering_and_it_begins_anew)
{
    struct rig r;
    go_sampling(&r);
    r.job.paused = true;
    step_job(&r, GW_JOB_CREATED);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_END_SAMPLING));
    wait_ms(&r, 1000);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SAMPLING);
    cr_expect_str_eq(find(&r, GW_SOURCE_DO_SEND_EVENT)->event.text, "paused");
    cr_expect_null(find(&r, GW_SOURCE_DO_END_SAMPLING), "once");
    r.job.paused = false;
    step_job(&r, GW_JOB_CREATED);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_BEGIN_SAMPLING));
    wait_ms(&r, 99);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SAMPLING, "its time begins anew");
    wait_ms(&r, 1);
    cr_expect(told(&r, GW_JOB_ASK_COMMIT));
    rig_close(&r);
}

Test(source, every_way_out_of_sampling_ends_the_gathering)
{
    static const enum gw_job_state ways[] = {GW_JOB_CANCELLED, GW_JOB_FAILED, GW_JOB_REVIVED,
                                             GW_JOB_COMMITTED};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct rig r;
        go_sampling(&r);
        step_job(&r, ways[i]);
        uint32_t ends = 0, finish = UINT32_MAX, end = UINT32_MAX;
        for (uint32_t k = 0; k < r.out.count; k++) {
            if (r.out.action[k].kind == GW_SOURCE_DO_END_SAMPLING) {
                ends++;
                end = k;
            }
            if (r.out.action[k].kind == GW_SOURCE_DO_FINISH)
                finish = k;
        }
        cr_expect_eq(ends, 1, "way %zu", i);
        cr_expect(finish == UINT32_MAX || end < finish, "nothing is done behind FINISH");
        cr_expect_not(gw_source_sampled(r.source));
        rig_close(&r);
    }
    struct rig r; /* the target restarts */
    go_sampling(&r);
    step(&r, GW_SOURCE_ON_PEER_DOWN);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SAMPLING);
    wait_ms(&r, 60);
    cr_assert_not_null(find(&r, GW_SOURCE_DO_CONNECT_PEER));
    step(&r, GW_SOURCE_ON_PEER_UP);
    step_prepared(&r, 4, GW_OK, "");
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_GIVING_UP);
    cr_expect_not_null(find(&r, GW_SOURCE_DO_END_SAMPLING));
    rig_close(&r);
}

/* Does the source, at its next START or RESTART, send indirections? */
static bool ships_indirections(struct rig *r, bool able, uint8_t flags)
{
    rig_open(r, GW_JOB_CREATED);
    gw_source_destroy(r->source);
    r->target_shares = true;
    r->job.options.flags = flags;
    cr_assert_eq(gw_source_create(&r->job, 7, "127.0.0.1:1", 4, &r->source), GW_OK);
    gw_source_able(r->source, false, able);
    go_shipping(r);
    return find(r, GW_SOURCE_DO_START_SHIPPING)->indirection;
}

Test(source, indirections_go_only_where_both_ends_and_the_job_allow_them)
{
    struct rig r;
    cr_expect_not(ships_indirections(&r, false, 0), "our log is not shared");
    rig_close(&r);
    cr_expect_not(ships_indirections(&r, true, GW_JOB_NO_INDIRECTION));
    rig_close(&r);
    cr_expect(ships_indirections(&r, true, GW_JOB_NO_PULLS));
    /* The target comes back without its shared tier. */
    step(&r, GW_SOURCE_ON_PEER_DOWN);
    wait_ms(&r, 100);
    step(&r, GW_SOURCE_ON_PEER_UP);
    r.target_shares = false;
    step_prepared(&r, 4, GW_OK, "");
    ack(&r, 0);
    const struct gw_source_action *a = find(&r, GW_SOURCE_DO_RESTART_SHIPPING);
    cr_assert_not_null(a);
    cr_expect_not(a->indirection);
    cr_expect(a->from_scratch);
    rig_close(&r);
}

Test(source, prepare_says_what_the_job_asks_of_the_target)
{
    struct rig r;
    open_sampling(&r, GW_JOB_NO_PULLS | GW_JOB_NO_SAMPLING);
    const struct gw_source_action *a = find(&r, GW_SOURCE_DO_SEND_PEER);
    struct gw_frame f;
    struct gw_prepare m;
    cr_assert_eq(gw_frame_decode(a->frame, (uint32_t)a->frame_bytes, &f), GW_OK);
    struct gw_reader body = gw_frame_body(a->frame, &f);
    cr_assert_eq(gw_prepare_decode(&body, &m), GW_OK);
    cr_expect_eq(m.flags, GW_JOB_NO_PULLS | GW_JOB_NO_SAMPLING);
    rig_close(&r);
}
