/* pages.h - a thread's buffers for reading pages of the log in order (store_page.c). Thread rule:
 * the thread's own. Layer: index. */
#ifndef GW_INDEX_PAGES_H
#define GW_INDEX_PAGES_H

#include "index/page_read.h"

/* GW_E_NOMEM. Leaving waits for the reads that are under way: their rooms are ours. */
GW_MUST_USE enum gw_status gwi_pages_join(struct gw_thread *t);
void gwi_pages_leave(struct gw_thread *t);
void gwi_pages_turn(struct gw_thread *t); /* gives back what nobody has used for a while */
uint32_t gwi_pages_reads(const struct gw_thread *t); /* under way */
uint64_t gwi_pages_bytes(const struct gw_thread *t); /* memory held; any thread */
#endif
