/* source_rig.h - a source's machine alone, with what it is told and what it says. A failure in here
 * fails the test. Layer: tests. */
#ifndef GW_TESTS_MIGRATION_SOURCE_RIG_H
#define GW_TESTS_MIGRATION_SOURCE_RIG_H

#include "migration/source.h"

#define MS 1000000ull

struct source_rig {
    struct gw_source *source;
    struct gw_job job;
    struct gw_source_actions out;
    uint64_t now_ns;
    bool target_shares;
};

void source_rig_open(struct source_rig *r, enum gw_job_state state);
void source_rig_close(struct source_rig *r);
void source_step_event(struct source_rig *r, struct gw_source_event e);
void source_step(struct source_rig *r, enum gw_source_event_kind kind);
void source_wait_ms(struct source_rig *r, uint64_t ms);
void source_step_job(struct source_rig *r, enum gw_job_state state);
void source_step_prepared(struct source_rig *r, uint64_t incarnation, enum gw_status st,
                          const char *text);
void source_step_applied(struct source_rig *r, uint32_t count);
const struct gw_source_action *source_find(struct source_rig *r, enum gw_source_action_kind kind);
uint32_t source_sent(struct source_rig *r, uint8_t kind, struct gw_frame *f);
bool source_told(struct source_rig *r, enum gw_job_event_kind event);
void source_go_asking(struct source_rig *r);
void source_go_yours(struct source_rig *r, uint32_t entries);
void source_ack(struct source_rig *r, uint64_t part);
void source_step_target_secured(struct source_rig *r, uint64_t incarnation);
void source_go_shipping(struct source_rig *r);
#endif
