/* source_rig.c - see source_rig.h. */
#include "tests/unit/migration/source_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void source_rig_open(struct source_rig *r, enum gw_job_state state)
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

void source_rig_close(struct source_rig *r)
{
    gw_source_destroy(r->source);
}

void source_step_event(struct source_rig *r, struct gw_source_event e)
{
    if (e.attempt == 0)
        e.attempt = gw_source_attempt(r->source);
    gw_source_step(r->source, &e, r->now_ns, &r->out);
}

void source_step(struct source_rig *r, enum gw_source_event_kind kind)
{
    source_step_event(r, (struct gw_source_event){.kind = kind});
}

void source_wait_ms(struct source_rig *r, uint64_t ms)
{
    r->now_ns += ms * MS;
    source_step(r, GW_SOURCE_ON_TICK);
}

void source_step_job(struct source_rig *r, enum gw_job_state state)
{
    r->job.state = state;
    r->job.commit_version = 12;
    source_step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_JOB, .job = &r->job});
}

void source_step_prepared(struct source_rig *r, uint64_t incarnation, enum gw_status st,
                          const char *text)
{
    struct gw_prepared m = {.incarnation = incarnation,
                            .status = (int8_t)st,
                            .shared_tier = r->target_shares};
    snprintf(m.text, sizeof m.text, "%s", text);
    source_step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_PREPARED, .prepared = &m});
}

void source_step_applied(struct source_rig *r, uint32_t count)
{
    struct gw_applied *entries = calloc(count + 1, sizeof *entries);
    for (uint32_t i = 0; i < count; i++)
        entries[i] = (struct gw_applied){.session = 1, .serial = i, .slot = (uint16_t)(i % 100)};
    source_step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_APPLIED_COLLECTED,
                                                  .applied = {entries, count, 77}});
    free(entries);
}

const struct gw_source_action *source_find(struct source_rig *r, enum gw_source_action_kind kind)
{
    for (uint32_t i = 0; i < r->out.count; i++)
        if (r->out.action[i].kind == kind)
            return &r->out.action[i];
    return NULL;
}

uint32_t source_sent(struct source_rig *r, uint8_t kind, struct gw_frame *f)
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

bool source_told(struct source_rig *r, enum gw_job_event_kind event)
{
    const struct gw_source_action *a = source_find(r, GW_SOURCE_DO_SEND_EVENT);
    return a && a->event.event == event && a->event.job == 5;
}

void source_go_asking(struct source_rig *r)
{
    source_step(r, GW_SOURCE_ON_START);
    cr_assert_not_null(source_find(r, GW_SOURCE_DO_CONNECT_PEER));
    source_step(r, GW_SOURCE_ON_PEER_UP);
    cr_assert_eq(source_sent(r, GW_KIND_PREPARE, NULL), 1);
    source_step_prepared(r, 3, GW_OK, "");
    cr_assert(source_told(r, GW_JOB_ASK_COMMIT));
}

void source_go_yours(struct source_rig *r, uint32_t entries)
{
    source_go_asking(r);
    source_step_job(r, GW_JOB_COMMITTED);
    source_step(r, GW_SOURCE_ON_CUT_PASSED);
    source_step(r, GW_SOURCE_ON_SECURED);
    source_step_applied(r, entries);
}

void source_ack(struct source_rig *r, uint64_t part)
{
    source_step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_YOURS_ACK, .part = part});
}

void source_step_target_secured(struct source_rig *r, uint64_t incarnation)
{
    source_step_event(r, (struct gw_source_event){.kind = GW_SOURCE_ON_TARGET_SECURED,
                                                  .incarnation = incarnation});
}

void source_go_shipping(struct source_rig *r)
{
    source_go_yours(r, 3);
    source_ack(r, 0);
    cr_assert_eq(gw_source_state(r->source), GW_SOURCE_SHIPPING);
}
