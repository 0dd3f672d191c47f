/* compact_worth.c - whether compaction is worth what it writes.
 *
 * What lies in the log and is not live is garbage; but where slots have left, or an image was
 * recovered, the count of live bytes is an estimate. Where it is too low, compaction that only asks
 * how much garbage there seems to be copies the same records round and round, and each round leaves
 * waste of its own, for the checkpoints that it asks for close pages. So:
 *  1. Copies are paid for. Each byte that dies (was written, and is not live any more by the count)
 *     pays for COPIES_PAID copied ones, and so does each that the cut of a checkpoint leaves empty.
 *     That is enough for what is asked of compaction: in a log of 1.7 times what is live there are
 *     0.7 dead bytes for each that a lap copies. Copies do not move the count, so one that is wrong
 *     pays once. What is dead when a store begins has paid. Nobody saves more than a lap over
 *     everything; who copied without paying, for users were about to be refused, owes a segment.
 *  2. A lap, from begin to what was the tail, tells what was live at least: what it copied. If that
 *     is more than was counted when it began, the difference belongs to the count from then on,
 *     less what the count has sunk since.
 *  3. A lap that has gained less than 1/32 of the log, what cuts have left empty meanwhile taken
 *     off, was for nothing: there is no other one before there is a segment more of garbage.
 * A lap begins with a page and is counted to its end, whether compaction rests in between or not.
 * Requires, all: the compactor's lock. */
#include "index/compact_internal.h"

#define COPIES_PAID 2   /* docs/engine.md, rule 15 */
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
        int64_t dead = most - (int64_t)counted;
        c->credit = COPIES_PAID * dead < most ? COPIES_PAID * dead : most;
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
