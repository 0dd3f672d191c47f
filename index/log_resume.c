/* log_resume.c - a log that goes on where an earlier process left off.
 *
 * Addresses are never used again (ENGINE H8): the new tail is above everything that was ever
 * written, and what lies between an image and there is a gap, in which no page exists. Every
 * restart leaves one, and they go as begin passes them. Rules:
 *  1. Gaps are whole pages, rising, and do not touch what lies before the first page of the image.
 *  2. Nothing of the log proper ever comes near one: frames and writes begin at the first page, and
 *     chains lead to records only. Who walks pages from begin upward (compaction, recovery) steps
 *     over them with gwi_log_page_from.
 *  3. The last gap ends at the first page of this process, whose start is `resumed`. Seals in pages
 *     below it say nothing: who set them may have been dropped with the end of the old log (ENGINE
 *     H11). */
#include <stdlib.h>

#include "index/log.h"

enum gw_status gwi_log_resume(struct gw_log *log, gw_addr begin, gw_addr end,
                              const struct gw_addr_range *gaps, uint32_t gaps_count,
                              uint32_t gaps_max, int64_t waste)
{
    uint64_t first = log->first_page << log->page_bits, mask = log->page_bytes - 1;
    if (begin.v > end.v || end.v > first || (end.v & mask) != 0)
        return GW_E_INVALID;
    uint32_t skip = 0;
    for (uint32_t i = 0; i < gaps_count; i++) {
        if (gaps[i].from.v >= gaps[i].to.v || ((gaps[i].from.v | gaps[i].to.v) & mask) != 0 ||
            gaps[i].to.v > end.v || (i > 0 && gaps[i].from.v < gaps[i - 1].to.v))
            return GW_E_INVALID;
        skip += gaps[i].to.v <= begin.v;
    }
    if (gaps_count - skip >= gaps_max)
        return GW_E_LIMIT;
    struct gw_addr_range *mine = calloc(gaps_count - skip + 1, sizeof *mine);
    if (!mine)
        return GW_E_NOMEM;
    uint32_t count = 0;
    for (uint32_t i = skip; i < gaps_count; i++)
        mine[count++] = gaps[i];
    if (end.v < first) {
        if (count > 0 && mine[count - 1].to.v == end.v) /* an image of which nothing is left */
            mine[count - 1].to = gw_addr_of(first);
        else
            mine[count++] = (struct gw_addr_range){end, gw_addr_of(first)};
    }
    log->resumed = first;
    log->gaps = mine;
    log->gaps_count = count;
    uint64_t page = gwi_log_page_from(log, begin.v >> log->page_bits);
    uint64_t start = (page << log->page_bits) + GW_LOG_PAGE_HEADER;
    /* Relaxed, both: nobody uses it yet. */
    atomic_store_explicit(&log->begin, begin.v > start ? begin.v : start, memory_order_relaxed);
    atomic_store_explicit(&log->waste, waste, memory_order_relaxed);
    return GW_OK;
}

uint64_t gwi_log_page_from(const struct gw_log *log, uint64_t page)
{
    for (uint32_t i = 0; i < log->gaps_count; i++) {
        if (page < log->gaps[i].from.v >> log->page_bits)
            break;
        if (page < log->gaps[i].to.v >> log->page_bits)
            page = log->gaps[i].to.v >> log->page_bits; /* the next one may begin right there */
    }
    return page;
}

uint64_t gwi_log_page_gap(const struct gw_log *log, uint64_t page)
{
    for (uint32_t i = 0; i < log->gaps_count; i++)
        if (page < log->gaps[i].from.v >> log->page_bits)
            return log->gaps[i].from.v >> log->page_bits;
    return UINT64_MAX;
}

uint64_t gwi_log_pages_missing(const struct gw_log *log, uint64_t from, uint64_t to)
{
    uint64_t missing = 0;
    for (uint32_t i = 0; i < log->gaps_count; i++) {
        uint64_t first = log->gaps[i].from.v >> log->page_bits;
        uint64_t end = log->gaps[i].to.v >> log->page_bits;
        first = first > from ? first : from;
        end = end < to ? end : to;
        missing += first < end ? end - first : 0;
    }
    return missing;
}
