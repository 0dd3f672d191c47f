/* pace.c - see pace.h.
 *
 * Rules: 1. The share falls by a quarter a step and rises by steps of a 128th of the whole: it
 * settles near the highest share that keeps the bound (Chiu and Jain 1989), and gives way at once
 * when the load changes. 2. The usual p99 is learned only while no migration works. While one does
 * it may only fall: a bound that follows what it bounds is none. 3. What was done while nobody was
 * served is not made up for: the rest owed is that of one portion. 4. What is free is a mean of
 * some steps; what migrations took themselves was free. While one works it rises by a thousandth a
 * step only, for who is slowed down by it leaves time that is not free, and falls more slowly than
 * else, so that a single bad step is not remembered for seconds. 5. At the least share migrations
 * delay hardly anybody, so a p99 that stays high there is somebody else's, and becomes the usual
 * one: to go on as slowly would make the migration long and nobody faster. */
#include "server/pace.h"

#define WHOLE_US         10000u /* impact / (impact + this): pace.h */
#define FREE_US          2000u  /* likewise, of what is free */
#define BUSY_LEAST       384u   /* of GWI_PACE_WHOLE: so much of that where nothing is free */
#define IMPACT_NS_MAX    UINT64_C(60000000000)
#define LEAST_STEPS      10u /* at the least share, before rule 5 */
#define PORTIONS         10u /* in the time that the operator allows */
#define PORTION_NS_LEAST UINT64_C(50000)
#define PORTION_NS_MAX   UINT64_C(2000000)

/* Upper bound of a bucket. */
static uint64_t bound_of(uint32_t bucket)
{
    if (bucket < 4)
        return (uint64_t)(bucket + 1) * 1024;
    uint32_t log = bucket / 4 + 1;
    return ((uint64_t)(bucket % 4 + 5) << (log - 2)) * 1024;
}

bool gwi_lateness_forget(struct gwi_lateness *late, uint64_t now_ns)
{
    if (now_ns < late->forget_ns)
        return false;
    uint64_t halves = late->forget_ns ? 1 + (now_ns - late->forget_ns) / GWI_LATENESS_HALF_NS : 0;
    if (halves > 63)
        halves = 63;
    for (uint32_t i = 0; i < GWI_LATENESS_BUCKETS; i++)
        late->bucket[i] >>= halves;
    late->forget_ns = now_ns + GWI_LATENESS_HALF_NS;
    return true;
}

uint64_t gwi_lateness_p99(const struct gwi_lateness *late)
{
    uint64_t all = 0, above = 0;
    for (uint32_t i = 0; i < GWI_LATENESS_BUCKETS; i++)
        all += late->bucket[i];
    if (all == 0)
        return 0;
    for (uint32_t i = GWI_LATENESS_BUCKETS; i-- > 0;) {
        above += late->bucket[i];
        if (above > all / 100)
            return bound_of(i);
    }
    return 0;
}

static uint64_t within(uint64_t value, uint64_t least, uint64_t most)
{
    return value < least ? least : value > most ? most : value;
}

static uint32_t share_most(const struct gwi_pace *pace, uint64_t impact_ns)
{
    uint64_t impact_us = impact_ns / 1000;
    uint64_t most = GWI_PACE_WHOLE * impact_us / (impact_us + WHOLE_US);
    uint64_t least = most * BUSY_LEAST / GWI_PACE_WHOLE;
    uint64_t free = pace->free * impact_us / (impact_us + FREE_US);
    return (uint32_t)within(most < free ? most : free,
                            least > GWI_PACE_LEAST ? least : GWI_PACE_LEAST, GWI_PACE_WHOLE);
}

void gwi_pace_init(struct gwi_pace *pace)
{
    *pace = (struct gwi_pace){.free = GWI_PACE_WHOLE, .portion_ns = GWI_PACE_IMPACT_NS / PORTIONS};
    pace->share = share_most(pace, GWI_PACE_IMPACT_NS);
}

void gwi_pace_time(struct gwi_pace *pace, uint64_t span_ns, uint64_t idle_ns)
{
    uint64_t free_ns = idle_ns + pace->work_ns;
    bool works = pace->work_ns > 0;
    pace->work_ns = 0;
    if (span_ns == 0)
        return;
    uint64_t of_late = free_ns < span_ns ? free_ns * GWI_PACE_WHOLE / span_ns : GWI_PACE_WHOLE;
    if (works && of_late > pace->free)
        pace->free++;
    else
        pace->free =
            (uint32_t)(works ? (15 * pace->free + of_late) / 16 : (3 * pace->free + of_late) / 4);
}

void gwi_pace_look(struct gwi_pace *pace, uint64_t now_ns, uint64_t p99_ns, uint64_t impact_ns)
{
    pace->step_ns = now_ns + GWI_PACE_STEP_NS;
    if (impact_ns == UINT64_MAX) {
        if (p99_ns)
            pace->usual_ns = pace->usual_ns ? (7 * pace->usual_ns + p99_ns) / 8 : p99_ns;
        pace->share = share_most(pace, GWI_PACE_IMPACT_NS);
        return;
    }
    if (p99_ns && pace->usual_ns == 0) /* rule 2; a target may have had no requests before */
        pace->usual_ns = p99_ns;
    else if (p99_ns && p99_ns < pace->usual_ns)
        pace->usual_ns = (3 * pace->usual_ns + p99_ns) / 4;
    if (impact_ns == 0)
        impact_ns = pace->usual_ns > GWI_PACE_IMPACT_NS ? pace->usual_ns : GWI_PACE_IMPACT_NS;
    impact_ns = within(impact_ns, 0, IMPACT_NS_MAX);
    pace->portion_ns = within(impact_ns / PORTIONS, PORTION_NS_LEAST, PORTION_NS_MAX);
    uint32_t most = share_most(pace, impact_ns);
    bool least = pace->share == GWI_PACE_LEAST;
    pace->least_steps = least ? pace->least_steps + 1 : 0;
    if (p99_ns > pace->usual_ns + impact_ns) {
        if (least && pace->least_steps > LEAST_STEPS) /* rule 5 */
            pace->usual_ns = (7 * pace->usual_ns + p99_ns) / 8;
        gwi_pace_yield(pace);
    } else {
        pace->share += GWI_PACE_WHOLE / 128;
    }
    if (pace->share > most)
        pace->share = most;
}

void gwi_pace_yield(struct gwi_pace *pace)
{
    pace->share -= pace->share / 4;
    if (pace->share < GWI_PACE_LEAST)
        pace->share = GWI_PACE_LEAST;
}

void gwi_pace_worked(struct gwi_pace *pace, uint64_t start_ns, uint64_t end_ns)
{
    pace->work_ns += end_ns - start_ns;
    uint64_t from = pace->due_ns > start_ns ? pace->due_ns : start_ns;
    uint64_t span = gwi_pace_span(pace, end_ns - start_ns),
             most = gwi_pace_span(pace, pace->portion_ns);
    pace->due_ns = from + span;
    /* Rule 3. */
    most = end_ns + (span > most ? span : most);
    if (pace->due_ns > most)
        pace->due_ns = most;
}

static uint64_t cost_of(uint64_t rate, uint64_t bytes)
{
    return (uint64_t)((unsigned __int128)bytes * 1000000000u / rate);
}

uint64_t gwi_rate_take(_Atomic uint64_t *due_ns, uint64_t rate, uint64_t now_ns, uint64_t bytes)
{
    if (rate == 0)
        return 0;
    uint64_t earliest = now_ns > GWI_RATE_CREDIT_NS ? now_ns - GWI_RATE_CREDIT_NS : 0;
    /* Relaxed: the word is all there is, it publishes nothing. */
    uint64_t due = atomic_load_explicit(due_ns, memory_order_relaxed), next;
    do {
        if (due > now_ns)
            return due - now_ns;
        next = (due > earliest ? due : earliest) + cost_of(rate, bytes);
    } while (!atomic_compare_exchange_weak_explicit(due_ns, &due, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return 0;
}

void gwi_rate_settle(_Atomic uint64_t *due_ns, uint64_t rate, uint64_t granted, uint64_t used)
{
    if (rate == 0)
        return;
    if (used < granted)
        atomic_fetch_sub_explicit(due_ns, cost_of(rate, granted - used), memory_order_relaxed);
    else
        atomic_fetch_add_explicit(due_ns, cost_of(rate, used - granted), memory_order_relaxed);
}

uint64_t gwi_rate_portion(uint64_t rate, uint64_t most)
{
    uint64_t portion = rate / 128; /* so many a second */
    if (rate == 0 || portion > most)
        return most;
    return portion < 4096 ? 4096 : portion;
}
