/* table_internal.h - the steps of an insertion, apart, so that tests put threads between them.
 * Layer: index. */
#ifndef GW_INDEX_TABLE_INTERNAL_H
#define GW_INDEX_TABLE_INTERNAL_H

#include "index/table.h"

/* Step 1: puts a tentative entry into the first free place of the chain, adding an overflow line if
 * there is none. GW_OK, GW_EXISTS (as gw_table_insert), GW_RETRY (lost a race), GW_E_FULL. */
enum gw_status gwi_table_place(struct gw_table *table, uint64_t hash, uint64_t tag, gw_addr address,
                               _Atomic uint64_t **place, uint64_t *entry);
/* Step 2: scans the chain again and confirms the tentative `entry` at `place`. GW_OK: it is live;
 * GW_EXISTS: *place and *entry are another, ours is gone; GW_RETRY: ours is gone, begin again. */
enum gw_status gwi_table_confirm(struct gw_table *table, uint64_t hash, _Atomic uint64_t **place,
                                 uint64_t *entry);

/* A line of the chunk's arena, zeroed and private: its number, 0 when there is none left. */
uint32_t gwi_line_take(struct gw_table *table, uint64_t chunk);
void gwi_line_give_back(struct gw_table *table, uint64_t chunk, uint32_t line);
#endif
