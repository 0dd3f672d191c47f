/* Goal: the source's machine samples, waits for its store and sends indirections as the job, the
 * store and the target want it, and every way out ends the gathering. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/migration/source_rig.h"

static void open_sampling(struct source_rig *r, uint8_t flags)
{
    source_rig_open(r, GW_JOB_CREATED);
    gw_source_destroy(r->source);
    r->job.options.flags = flags;
    r->job.options.sample_ms = 100;
    cr_assert_eq(gw_source_create(&r->job, 7, "127.0.0.1:1", 4, &r->source), GW_OK);
    gw_source_able(r->source, true, true);
    source_step(r, GW_SOURCE_ON_START);
    source_step(r, GW_SOURCE_ON_PEER_UP);
}

static void go_sampling(struct source_rig *r)
{
    open_sampling(r, 0);
    source_step_prepared(r, 3, GW_OK, "");
    cr_assert_eq(gw_source_state(r->source), GW_SOURCE_SAMPLING);
    cr_assert_not_null(source_find(r, GW_SOURCE_DO_BEGIN_SAMPLING));
    cr_assert_not(source_told(r, GW_JOB_ASK_COMMIT));
}

Test(source_options, hot_records_gather_for_as_long_as_the_job_says)
{
    struct source_rig r;
    go_sampling(&r);
    source_wait_ms(&r, 99);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SAMPLING);
    cr_expect_null(source_find(&r, GW_SOURCE_DO_BEGIN_SAMPLING), "once");
    source_wait_ms(&r, 1);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_END_SAMPLING));
    cr_expect(source_told(&r, GW_JOB_ASK_COMMIT));
    cr_expect(gw_source_sampled(r.source));
    source_rig_close(&r);
}

Test(source_options, hot_records_gather_until_there_are_enough)
{
    struct source_rig r;
    go_sampling(&r);
    source_step(&r, GW_SOURCE_ON_SAMPLED);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_END_SAMPLING));
    cr_expect(source_told(&r, GW_JOB_ASK_COMMIT));
    cr_expect(gw_source_sampled(r.source));
    source_step(&r, GW_SOURCE_ON_SAMPLED);
    cr_expect_null(source_find(&r, GW_SOURCE_DO_END_SAMPLING), "once");
    source_rig_close(&r);
}

/* What is not durable when the range goes would be waited for while nobody serves it. */
Test(source_options, the_commit_waits_for_what_the_store_held_to_be_durable)
{
    struct source_rig r;
    go_sampling(&r);
    gw_source_durable(r.source, false);
    source_wait_ms(&r, 100);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_END_SAMPLING), "gathering longer is no use");
    cr_expect_not(source_told(&r, GW_JOB_ASK_COMMIT));
    source_wait_ms(&r, 100);
    cr_expect(!source_find(&r, GW_SOURCE_DO_BEGIN_SAMPLING) && !source_told(&r, GW_JOB_ASK_COMMIT));
    gw_source_durable(r.source, true);
    source_wait_ms(&r, 1);
    cr_expect(source_told(&r, GW_JOB_ASK_COMMIT));
    cr_expect(gw_source_sampled(r.source));
    source_rig_close(&r);
    go_sampling(&r);
    gw_source_durable(r.source, false);
    source_wait_ms(&r, 100 + 4999);
    cr_expect_not(source_told(&r, GW_JOB_ASK_COMMIT));
    source_wait_ms(&r, 1);
    cr_expect(source_told(&r, GW_JOB_ASK_COMMIT), "not for ever");
    source_rig_close(&r);
}

Test(source_options, nothing_gathers_where_the_job_or_the_store_does_not_want_it)
{
    struct source_rig r;
    open_sampling(&r, GW_JOB_NO_SAMPLING);
    source_step_prepared(&r, 3, GW_OK, "");
    cr_expect(source_told(&r, GW_JOB_ASK_COMMIT));
    cr_expect_not(gw_source_sampled(r.source));
    source_rig_close(&r);
    source_rig_open(&r, GW_JOB_CREATED); /* gw_source_able was not called */
    source_go_asking(&r);
    cr_expect_not(gw_source_sampled(r.source));
    source_rig_close(&r);
}

Test(source_options, a_pause_ends_the_gathering_and_it_begins_anew)
{
    struct source_rig r;
    go_sampling(&r);
    r.job.paused = true;
    source_step_job(&r, GW_JOB_CREATED);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_END_SAMPLING));
    source_wait_ms(&r, 1000);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SAMPLING);
    cr_expect_str_eq(source_find(&r, GW_SOURCE_DO_SEND_EVENT)->event.text, "paused");
    cr_expect_null(source_find(&r, GW_SOURCE_DO_END_SAMPLING), "once");
    r.job.paused = false;
    source_step_job(&r, GW_JOB_CREATED);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_BEGIN_SAMPLING));
    source_wait_ms(&r, 99);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SAMPLING, "its time begins anew");
    source_wait_ms(&r, 1);
    cr_expect(source_told(&r, GW_JOB_ASK_COMMIT));
    source_rig_close(&r);
}

Test(source_options, every_way_out_of_sampling_ends_the_gathering)
{
    static const enum gw_job_state ways[] = {GW_JOB_CANCELLED, GW_JOB_FAILED, GW_JOB_REVIVED,
                                             GW_JOB_COMMITTED};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct source_rig r;
        go_sampling(&r);
        source_step_job(&r, ways[i]);
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
        source_rig_close(&r);
    }
    struct source_rig r; /* the target restarts */
    go_sampling(&r);
    source_step(&r, GW_SOURCE_ON_PEER_DOWN);
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_SAMPLING);
    source_wait_ms(&r, 60);
    cr_assert_not_null(source_find(&r, GW_SOURCE_DO_CONNECT_PEER));
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    source_step_prepared(&r, 4, GW_OK, "");
    cr_expect_eq(gw_source_state(r.source), GW_SOURCE_GIVING_UP);
    cr_expect_not_null(source_find(&r, GW_SOURCE_DO_END_SAMPLING));
    source_rig_close(&r);
}

/* Does the source, at its next START or RESTART, send indirections? */
static bool ships_indirections(struct source_rig *r, bool able, uint8_t flags)
{
    source_rig_open(r, GW_JOB_CREATED);
    gw_source_destroy(r->source);
    r->target_shares = true;
    r->job.options.flags = flags;
    cr_assert_eq(gw_source_create(&r->job, 7, "127.0.0.1:1", 4, &r->source), GW_OK);
    gw_source_able(r->source, false, able);
    source_go_shipping(r);
    return source_find(r, GW_SOURCE_DO_START_SHIPPING)->indirection;
}

Test(source_options, indirections_go_only_where_both_ends_and_the_job_allow_them)
{
    struct source_rig r;
    cr_expect_not(ships_indirections(&r, false, 0), "our log is not shared");
    source_rig_close(&r);
    cr_expect_not(ships_indirections(&r, true, GW_JOB_NO_INDIRECTION));
    source_rig_close(&r);
    cr_expect(ships_indirections(&r, true, GW_JOB_NO_PULLS));
    /* The target comes back without its shared tier. */
    source_step(&r, GW_SOURCE_ON_PEER_DOWN);
    source_wait_ms(&r, 100);
    source_step(&r, GW_SOURCE_ON_PEER_UP);
    r.target_shares = false;
    source_step_prepared(&r, 4, GW_OK, "");
    source_ack(&r, 0);
    const struct gw_source_action *a = source_find(&r, GW_SOURCE_DO_RESTART_SHIPPING);
    cr_assert_not_null(a);
    cr_expect_not(a->indirection);
    cr_expect(a->from_scratch);
    source_rig_close(&r);
}

Test(source_options, prepare_says_what_the_job_asks_of_the_target)
{
    struct source_rig r;
    open_sampling(&r, GW_JOB_NO_PULLS | GW_JOB_NO_SAMPLING);
    const struct gw_source_action *a = source_find(&r, GW_SOURCE_DO_SEND_PEER);
    struct gw_frame f;
    struct gw_prepare m;
    cr_assert_eq(gw_frame_decode(a->frame, (uint32_t)a->frame_bytes, &f), GW_OK);
    struct gw_reader body = gw_frame_body(a->frame, &f);
    cr_assert_eq(gw_prepare_decode(&body, &m), GW_OK);
    cr_expect_eq(m.flags, GW_JOB_NO_PULLS | GW_JOB_NO_SAMPLING);
    source_rig_close(&r);
}
