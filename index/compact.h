/* compact.h - giving back the room of dead records: the oldest pages of the log are read from begin
 * upward, what is live in them is copied to the tail, and begin rises over them.
 *
 * All threads of the store take part: each takes a page, works on it a little in every turn of
 * gw_store_poll, and takes the next one. Nothing is unlinked to make room: a record that was left
 * behind is below begin afterwards, and so is whatever still leads to it. In cache mode the same
 * machine runs over the oldest pages and leaves the live records behind too.
 * When it runs and how fast: compact_policy.c. What is dead: compact_record.c. Why no dead record
 * costs a device read: chains.h. Thread rule: as the store's. Layer: index. */
#ifndef GW_INDEX_COMPACT_H
#define GW_INDEX_COMPACT_H

#include "index/store_internal.h"

struct gwi_compactor;
struct gwi_compact;

/* Requires: the store's log is there, with its device. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_compactor_create(struct gw_store *store, struct gwi_compactor **out);
void gwi_compactor_destroy(struct gwi_compactor *compactor); /* NULL is ignored */

/* A thread's part. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_compact_join(struct gw_thread *t);
/* Gives back what it has under work, and waits for its read if one is under way. */
void gwi_compact_leave(struct gw_thread *t);

/* A bounded share of the work; outside of the epoch, once a turn. True: there is more at once. */
bool gwi_compact_turn(struct gw_thread *t);

/* An earlier process has left the device with what checkpoints need from `begin` on: it is given
 * back when they no longer do. Before the first trim. */
void gwi_compact_inherit(struct gw_store *store, gw_addr begin);
/* The policy looks at the store in the next turn. Any thread. */
void gwi_compact_look_soon(struct gw_store *store);
/* Device reads of this thread's compaction under way. */
uint32_t gwi_compact_reads(const struct gw_thread *t);
/* Memory that a thread's compaction holds, in bytes; any thread. */
uint64_t gwi_compact_bytes(const struct gw_thread *t);
#endif
