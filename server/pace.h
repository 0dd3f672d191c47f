/* pace.h - how long the next portion of a migration's work may be, and when.
 *
 * Three parts without clock or I/O of their own, fed by dispatcher.c and haul.c:
 *   lateness  how late requests were of late: a histogram that forgets
 *   pace      the share of a dispatcher's time that goes to migrations while requests come
 *   rate      bytes a second of one job, over all dispatchers
 * What the operator allows (gw_job_options.max_impact_us) bounds this: a portion lasts a tenth of
 * it, for so long every request behind it waits; the share is at most impact / (impact + 10 ms), a
 * sixth for 2 ms, since a client that waits for its answers loses as much of its throughput, and
 * more where all processors are busy: so of what requests leave it takes at most impact / (impact +
 * 2 ms), a half, though three eighths of the share in any case; and while the p99 of requests is
 * further above its usual value than that, the share falls, never below GWI_PACE_LEAST: a migration
 * always ends. Without a word of the operator it is 2 ms, or the usual p99 again where that is
 * more. Without requests all of the time is free; the caller sees to that.
 *
 * Thread rule: lateness and pace belong to one dispatcher; a rate is anybody's. Layer: server. */
#ifndef GW_SERVER_PACE_H
#define GW_SERVER_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- lateness -------------------------------------------------------------------------------- */

#define GWI_LATENESS_BUCKETS 96u                /* four a power of two, from 1 us to 16 s */
#define GWI_LATENESS_HALF_NS UINT64_C(50000000) /* what was counted weighs half after so long */

struct gwi_lateness {
    uint64_t forget_ns; /* when everything is halved next */
    uint64_t bucket[GWI_LATENESS_BUCKETS];
};

/* The bucket of a time; its bound is at most a quarter above it. */
static inline uint32_t gwi_lateness_bucket(uint64_t ns)
{
    uint64_t us = ns / 1024; /* a shift: near enough */
    if (us < 4)
        return (uint32_t)us;
    uint32_t log = 63u - (uint32_t)__builtin_clzll(us);
    uint32_t at = 4 * (log - 1) + (uint32_t)(us >> (log - 2) & 3);
    return at < GWI_LATENESS_BUCKETS ? at : GWI_LATENESS_BUCKETS - 1;
}

/* `requests` were answered so late. */
static inline void gwi_lateness_add(struct gwi_lateness *late, uint64_t ns, uint64_t requests)
{
    late->bucket[gwi_lateness_bucket(ns)] += requests;
}

/* Forgets what is due; true: something was, so it is time for another look at the p99. */
bool gwi_lateness_forget(struct gwi_lateness *late, uint64_t now_ns);
/* Of what is not forgotten, the time within which 99 of 100 were answered; 0: nothing came. */
uint64_t gwi_lateness_p99(const struct gwi_lateness *late);

/* ---- share of the time ----------------------------------------------------------------------- */

#define GWI_PACE_WHOLE     1024u /* share: all of the time */
#define GWI_PACE_LEAST     64u
#define GWI_PACE_IMPACT_NS UINT64_C(2000000) /* without a word of the operator */
#define GWI_PACE_STEP_NS   UINT64_C(10000000)

struct gwi_pace {
    uint32_t share;       /* of GWI_PACE_WHOLE */
    uint32_t free;        /* likewise: of late not used by requests, nor by others than us */
    uint32_t least_steps; /* so many in a row share was GWI_PACE_LEAST */
    uint64_t step_ns;     /* when the next step is due */
    uint64_t work_ns;     /* on migrations since the last gwi_pace_time */
    uint64_t usual_ns;    /* p99 without migrations; 0: not known */
    uint64_t portion_ns;  /* of work in one turn: what everybody else waits for */
    uint64_t due_ns;      /* before it nothing is to be done while requests come */
};

void gwi_pace_init(struct gwi_pace *pace);
/* Is it time for gwi_pace_look? */
static inline bool gwi_pace_is_due(const struct gwi_pace *pace, uint64_t now_ns)
{
    return now_ns >= pace->step_ns;
}
/* Of the last span_ns, idle_ns were spent with waiting: what was not, but for work on migrations,
 * went to requests. Before each look. */
void gwi_pace_time(struct gwi_pace *pace, uint64_t span_ns, uint64_t idle_ns);
/* A step: p99_ns of late (0: no requests). `impact_ns`: how far it may be above the usual one, 0:
 * the default; UINT64_MAX: no migration is at work, so this is the usual one. */
void gwi_pace_look(struct gwi_pace *pace, uint64_t now_ns, uint64_t p99_ns, uint64_t impact_ns);
/* Somebody else, who has a bound of his own, is above it: less, at once. */
void gwi_pace_yield(struct gwi_pace *pace);

/* While requests come: after how many ns is the next portion? 0: now. */
static inline uint64_t gwi_pace_wait(const struct gwi_pace *pace, uint64_t now_ns)
{
    return pace->due_ns > now_ns ? pace->due_ns - now_ns : 0;
}
/* Work of so long, and the rest that belongs to it. */
static inline uint64_t gwi_pace_span(const struct gwi_pace *pace, uint64_t work_ns)
{
    return work_ns * GWI_PACE_WHOLE / pace->share;
}
/* Work was done from start_ns to end_ns, a portion or some of it. */
void gwi_pace_worked(struct gwi_pace *pace, uint64_t start_ns, uint64_t end_ns);

/* ---- bytes a second -------------------------------------------------------------------------- */

/* What was not used for so long may be caught up with. */
#define GWI_RATE_CREDIT_NS UINT64_C(100000000)

/* Takes `bytes` of a rate (0: no cap) whose only state is *due_ns (0 at first, then left alone).
 * Returns 0, or after how many ns to ask again. Over any time of w ns no more is granted than
 * rate * (w + GWI_RATE_CREDIT_NS) + the last grant. */
uint64_t gwi_rate_take(_Atomic uint64_t *due_ns, uint64_t rate, uint64_t now_ns, uint64_t bytes);
/* Of a grant of `granted` bytes `used` were used: gives the rest back, or takes what is more. */
void gwi_rate_settle(_Atomic uint64_t *due_ns, uint64_t rate, uint64_t granted, uint64_t used);
/* How large a portion may be, at most `most`, so that a slow rate stays even. */
uint64_t gwi_rate_portion(uint64_t rate, uint64_t most);
#endif
