/* unlink.h - removing every index entry of a set of slots, by all dispatchers together, in bounded
 * steps between batches. The target uses it before it is prepared, the source when it closes. Only
 * for slots that no operation may touch (gw_store_unlink). Thread rule: step by one dispatcher per
 * number, entered; done by anyone. Layer: migration. */
#ifndef GW_MIGRATION_UNLINK_H
#define GW_MIGRATION_UNLINK_H

#include <stdbool.h>

#include "index/store.h"

struct gw_unlinker;

/* GW_E_NOMEM. *slots is copied. */
GW_MUST_USE enum gw_status gw_unlinker_create(const struct gw_slots *slots, uint32_t dispatchers,
                                              struct gw_unlinker **out);
void gw_unlinker_destroy(struct gw_unlinker *u); /* requires: no dispatcher uses it */
/* GW_OK: call again; GW_END: nothing left for this dispatcher (others may still be at work). */
GW_MUST_USE enum gw_status gw_unlinker_step(struct gw_unlinker *u, uint32_t dispatcher,
                                            struct gw_thread *thread, uint32_t buckets_max);
bool gw_unlinker_done(const struct gw_unlinker *u); /* all of the table is unlinked */
uint64_t gw_unlinker_entries(const struct gw_unlinker *u);
#endif
