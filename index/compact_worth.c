/* compact_worth.c - whether compaction is worth what it writes.
 *
 * What lies in the log that is not live is garbage; but live bytes are a count, and where slots
 * have left, or a checkpoint was replayed, that count is an estimate. Compaction that only asks how
 * much garbage there seems to be copies the same records round and round where the count is too
 * low, and each round leaves its own waste behind, for the checkpoints that it asks for close
 * pages. So:
 *  1. Copies are paid for. A byte that dies (it was written and is not live any more, by the count)
 *     pays for two copied ones, and so does one that the cut of a checkpoint has left empty. That
 * is enough for all that is asked of compaction: a log that is kept at 1.7 times what is live has
 * 0.7 dead bytes for each that a lap copies at most. What the count says cancels out over time: it
 *     moves once for each mistake, and copies do not move it. A store that begins has paid for one
 *     lap; nobody saves more than one. Whoever copies without paying, because users are about to
 *     be refused, owes a segment at most.
 *  2. A lap from begin to what was the tail tells what was live at least: what was copied. If that
 *     is more than the count said when the lap began, the difference is added to the count from
 * then on, less what the count has sunk since.
 *  3. A lap that has gained less than 1/32 of the log, what cuts have left empty meanwhile taken
 *     off, was for nothing. There is no other one before there is that much more garbage.
 * A lap begins with a page and is counted to its end, whether compaction rests in between or not.
 * Requires: the compactor's lock, all.
 */
#include "index/compact_internal.h"

#define COPIES_PAID 2
#define LAP_GAIN    32u /* 1/32 of the log, at least */

static void lap_begin(struct gwi_compactor *c, uint64_t tail)
{
    c->lap = (struct gwi_lap){.end = tail,
                              .counted = c->seen.counted,
                              .emptied = c->seen.emptied,
                              .gain = c->ahead.gain,
                              .copied = c->ahead.copied};
    c->ahead = (struct gwi_lap){0};
}

void gwi_compact_worth_look(struct gwi_compactor *c, uint64_t tail, uint64_t used, uint64_t counted)
{
    struct gw_log *log = c->log;
    /* Relaxed, both: numbers. */
    struct gwi_seen now = {.any = true,
                           .tail = tail,
                           .counted = (int64_t)counted,
                           .copied = (int64_t)gwi_copied_bytes(c->store),
                           .waste = atomic_load_explicit(&log->waste, memory_order_relaxed) +
                                    c->waste_passed,
                           .emptied = atomic_load_explicit(&log->cut_waste, memory_order_relaxed)};
    struct gwi_seen was = c->seen;
    c->seen = now;
    int64_t most = (int64_t)used, least = -(int64_t)(c->segment_pages << log->page_bits);
    if (!was.any) {
        c->credit = most;
        return;
    }
    int64_t copied = now.copied - was.copied;
    int64_t written = (int64_t)(now.tail - was.tail) - copied - (now.waste - was.waste);
    int64_t died = written - (now.counted - was.counted);
    c->credit += COPIES_PAID * (died + (now.emptied - was.emptied)) - copied;
    c->credit = c->credit > most ? most : c->credit < least ? least : c->credit;
}

uint64_t gwi_compact_unseen(const struct gwi_compactor *c, uint64_t counted)
{
    int64_t sunk = c->unseen_counted - (int64_t)counted;
    int64_t unseen = c->unseen - (sunk > 0 ? sunk : 0);
    return unseen > 0 ? (uint64_t)unseen : 0;
}

bool gwi_compact_worth(struct gwi_compactor *c, int64_t garbage, int64_t least)
{
    if (garbage < least || (c->futile >= 0 && garbage < c->futile + least))
        return false;
    c->futile = -1;
    return true;
}

void gwi_compact_lap_page(struct gwi_compactor *c, uint64_t page, int64_t gain, uint64_t copied)
{
    if (c->lap.end == 0)
        lap_begin(c, c->seen.tail);
    struct gwi_lap *lap = page << c->log->page_bits < c->lap.end ? &c->lap : &c->ahead;
    lap->gain += gain;
    lap->copied += (int64_t)copied;
}

bool gwi_compact_lap_is_over(const struct gwi_compactor *c)
{
    return c->lap.end != 0 && c->base << c->log->page_bits >= c->lap.end;
}

void gwi_compact_lap_end(struct gwi_compactor *c, uint64_t used)
{
    int64_t net = c->lap.gain - (c->seen.emptied - c->lap.emptied);
    if (net < (int64_t)(used / LAP_GAIN) && c->garbage > 0)
        c->futile = c->garbage;
    c->unseen = c->lap.copied - c->lap.counted;
    c->unseen_counted = c->seen.counted;
    c->lap.end = 0;
}
