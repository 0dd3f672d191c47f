/* log_internal.h - what log.c and log_flush.c share. Layer: index. */
#ifndef GW_INDEX_LOG_INTERNAL_H
#define GW_INDEX_LOG_INTERNAL_H

#include "index/log.h"

/* Raises a boundary, never down; release: pairs with gw_log_view_load. */
void gwi_log_raise(_Atomic uint64_t *boundary, uint64_t to);
/* Opens the header of a page; notes how far a page was used (log.c says who does). */
void gwi_log_page_open(struct gw_log *log, uint64_t page);
void gwi_log_page_close(struct gw_log *log, uint64_t page, uint64_t used);
/* Somebody has met the mark of a cut in the tail word, at this page. */
void gwi_log_cut_met(struct gw_log *log, uint64_t page);
/* Is room being made for users, as far as the log and compaction know? Before that: has compaction
 * looked since the log may have this many frames? */
bool gwi_log_room_coming(const struct gw_log *log);
static inline bool gwi_log_looked_at(const struct gw_log *log, uint32_t frames)
{
    /* Acquire: what it said. */
    uint64_t looked = atomic_load_explicit(&log->looked, memory_order_acquire);
    return looked == UINT64_MAX || (uint32_t)looked == frames;
}
/* The address that a tail word stands for; an offset beyond the page's end counts as its end. */
static inline uint64_t gwi_log_address_of(const struct gw_log *log, uint64_t tail)
{
    uint64_t offset = tail & GW_LOG_OFFSET_MASK;
    if (offset > log->page_bytes)
        offset = log->page_bytes;
    return ((tail >> GW_LOG_OFFSET_BITS) << log->page_bits) + offset;
}
/* Loads tail and cut into the view, whose read_only has been loaded; returns the tail's address. */
uint64_t gwi_log_cut_view(struct gw_log *log, struct gw_log_view *view);
/* Makes and frees what log_flush.c keeps for each frame. */
GW_MUST_USE enum gw_status gwi_log_flush_begin(struct gw_log *log);
void gwi_log_flush_end(struct gw_log *log);
#endif
