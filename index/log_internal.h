/* log_internal.h - what log.c and log_flush.c share. Layer: index. */
#ifndef GW_INDEX_LOG_INTERNAL_H
#define GW_INDEX_LOG_INTERNAL_H

#include "index/log.h"

/* Raises a boundary, never down; release: pairs with gw_log_view_load. */
void gwi_log_raise(_Atomic uint64_t *boundary, uint64_t to);
/* Makes and frees what log_flush.c keeps for each frame. */
GW_MUST_USE enum gw_status gwi_log_flush_begin(struct gw_log *log);
void gwi_log_flush_end(struct gw_log *log);
#endif
