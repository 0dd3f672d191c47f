/* gather.h - all records of a chain at once, in t->chain, newest first: those of our log, and those
 * behind the indirections that stand in it. For walks over the index, not for look-ups.
 *
 * What is not in memory is read by cold walks (cold.h); a gathering that is not complete is begun
 * again, from nothing, in a later turn. Thread rule: the thread's, inside the epoch. Layer: index.
 */
#ifndef GW_INDEX_GATHER_H
#define GW_INDEX_GATHER_H

#include "index/store_internal.h"

struct gw_indirection;

/* Fills everything of a view but the key, untorn; false: locked for too long, or no memory. Good
 * until the next call. (store_walk.c) */
bool gwi_view_fill(struct gw_thread *t, struct gw_record *record, struct gw_record_view *view);

/* The chain of the entry; `one`: only its first record counts. GW_PENDING, GW_NOT_YET,
 * GW_E_UNREACHABLE: not all of it can be had now; GW_E_NOMEM. What cannot be read ends the chain:
 * it is counted, and t->chain_cut says so. */
GW_MUST_USE enum gw_status gwi_gather(struct gw_thread *t, uint64_t entry, bool one);
/* Adds, behind what was gathered, the records to which indirections in it lead, those of the newest
 * map version first, each of a key that its indirection covers, and of the chain: `within` is as
 * gwi_chain_prefix says. Statuses as above. Nothing behind
 * what cannot be read: an older record would pass for the newest. */
GW_MUST_USE enum gw_status gwi_gather_foreign(struct gw_thread *t, uint16_t slot,
                                              const struct gw_indirection *within);
/* Begins to read what gwi_gather_foreign will want, as far as the indirections are in memory;
 * false: no more can be read now. Adds to *requests. */
bool gwi_gather_request(struct gw_thread *t, uint64_t entry, const struct gw_indirection *within,
                        bool ahead, uint32_t *requests);
/* Lets go what gwi_gather_foreign has read; the records are gone then. */
void gwi_gather_drop(struct gw_thread *t);

/* The status says that nothing is wrong with what was to be read. */
bool gwi_gather_later(enum gw_status status);
/* Is it an indirection, standing or retired? Then *out is what it says. */
bool gwi_gather_indirection(struct gw_record *record, struct gw_indirection *out);
/* Is the i-th of those gathered an indirection that stands within the chain? Then *out is as much
 * of it. */
bool gwi_gather_stands(const struct gw_thread *t, uint32_t i, const struct gw_indirection *within,
                       struct gw_indirection *out);
bool gwi_gather_add(struct gw_thread *t, struct gw_record *record); /* false: no memory */
/* Does a record before the i-th of those gathered have its key? */
bool gwi_gather_superseded(const struct gw_thread *t, uint32_t i);
#endif
