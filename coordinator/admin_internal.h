/* admin_internal.h - what admin.c and admin_plan.c share. Layer: coordinator. */
#ifndef GW_COORDINATOR_ADMIN_INTERNAL_H
#define GW_COORDINATOR_ADMIN_INTERNAL_H

#include <jansson.h>

#include "coordinator/state.h"

#define GWI_SLOTS_TEXT_LISTED 1024u
#define GWI_SLOTS_TEXT_WHOLE  (GW_SLOTS * 6u)

struct gwi_admin_request {
    struct gw_coordinator *c;
    const json_t *json;
    enum gw_status status; /* of the refusal */
    char text[256];
};

/* Each verb gives its result, or NULL with status and text set; without them memory has run out. */
json_t *gwi_admin_refuse(struct gwi_admin_request *r, enum gw_status status, const char *format,
                         ...) __attribute__((format(printf, 3, 4)));
/* NULL, false: refused. Optional ones leave *out when the field is missing. */
const char *gwi_admin_text(struct gwi_admin_request *r, const char *name);
bool gwi_admin_switch(struct gwi_admin_request *r, const char *name, bool *out);
bool gwi_admin_number(struct gwi_admin_request *r, const char *name, uint64_t max, uint64_t *out);
bool gwi_admin_options(struct gwi_admin_request *r, struct gw_job_options *out);

json_t *gwi_number_json(uint64_t value);
json_t *gwi_hex_json(uint64_t word);                     /* 16 hex digits */
uint64_t gwi_eta_ms(uint64_t bytes_left, uint64_t rate); /* 0: not known */
json_t *gwi_foreign_json(const char *text);
json_t *gwi_slots_json(const struct gw_slots *slots, size_t bytes_max);
json_t *gwi_options_json(const struct gw_job_options *options);
json_t *gwi_plan_json(const struct gw_coordinator *c, const struct gw_plan_record *plan);
json_t *gwi_plans_json(const struct gw_coordinator *c, bool open_only);

/* admin_plan.c */
json_t *gwi_admin_scale_out(struct gwi_admin_request *r);
json_t *gwi_admin_drain(struct gwi_admin_request *r);
json_t *gwi_admin_rebalance(struct gwi_admin_request *r);
json_t *gwi_admin_plan_apply(struct gwi_admin_request *r);
json_t *gwi_admin_hot(struct gwi_admin_request *r);
json_t *gwi_admin_remove(struct gwi_admin_request *r);
#endif
