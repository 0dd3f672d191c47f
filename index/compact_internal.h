/* compact_internal.h - what the files of compaction share. Layer: index. */
#ifndef GW_INDEX_COMPACT_INTERNAL_H
#define GW_INDEX_COMPACT_INTERNAL_H

#include "index/compact.h"
#include "index/device.h"
#include "index/page_read.h"

#define GWI_CLAIMS_MAX    64u /* pages between begin and the last one taken */
#define GWI_UNDECIDED_MAX 256u

/* compact_worth.c: what the log said when it was looked at last. */
struct gwi_seen {
    bool any;
    uint64_t tail;
    int64_t counted; /* live bytes */
    int64_t copied;  /* by compaction, ever */
    int64_t waste;   /* behind the last records of pages, ever */
    int64_t emptied; /* of that, by cuts */
};

struct gwi_lap {
    uint64_t end;    /* address: the lap is over when begin is there; 0: none has begun */
    int64_t counted; /* live bytes when it began */
    int64_t emptied; /* as above, when it began */
    int64_t gain;    /* bytes that it has given back */
    int64_t copied;  /* and copied */
};

/* Shared by the threads of a store. */
struct gwi_compactor {
    struct gw_store *store;
    struct gw_log *log;
    uint64_t segment_pages; /* of the device; 1 without one */
    bool evict;

    /* Pages to be had, or a reason to look at once. Written under the lock, read by every turn;
     * a hint. */
    _Alignas(GW_CACHE_LINE) _Atomic bool work;
    _Atomic uint32_t urgency;    /* enum gwi_urgency */
    _Atomic uint64_t look_bytes; /* tail at which the policy looks again; 0: at once */
    _Atomic uint64_t look_ns;    /* time at which it does, whatever the tail */
    _Atomic bool keep_any;
    _Atomic uint64_t sweep_from; /* begin at the start of the last sweep of the index */
    _Atomic uint64_t sweep_every;
    _Atomic bool sweeping;
    _Atomic bool sample_due;
    struct gw_cursor sweep_cursor; /* of the thread that set `sweeping`, as is the next */
    uint64_t sweep_begin;          /* begin when this sweep began; 0: it has not */

    _Alignas(GW_CACHE_LINE) pthread_mutex_t lock; /* all below */
    uint64_t base;        /* page: everything below is done; begin follows it */
    uint64_t next;        /* page to be taken next */
    uint64_t goal;        /* pages below this one may be taken */
    uint64_t done, again; /* bit i: page base + i is done; was given back */
    bool drop;            /* pages taken now are dropped, live or not (cache mode) */
    struct gw_slots keep; /* gwi_compact_keep */
    bool trim_waits;      /* a trigger that trims is on its way */
    uint64_t trim_to;     /* pages below may be trimmed */
    uint64_t trimmed, trimming;
    uint64_t shifted; /* address to which read_only was asked to rise */
    /* Bytes that were passed and wait for a checkpoint, or a trim; since when they, and the newest
     * checkpoint, are what they are. */
    uint64_t passed, passed_end, passed_ns;
    /* Since when `base` is what it is while pages are to be had, and the looks since. */
    uint64_t moved_base, moved_ns, moved_looks;
    /* compact_worth.c */
    struct gwi_seen seen;
    struct gwi_lap lap, ahead; /* ahead: of pages that are done and belong to the next one */
    int64_t credit;            /* bytes that may be copied; below 0: owed */
    int64_t waste_passed;      /* empty ends of the pages that are done */
    int64_t garbage;           /* as of the last look */
    int64_t futile;            /* garbage that the last lap found not worth it; -1: none */
    int64_t unseen;            /* live bytes that the last lap found and nobody had counted, */
    int64_t unseen_counted;    /* and what was counted then; below 0: none */
    /* compact_sample.c */
    uint64_t sample_bytes, sample_ns; /* the next one: at this tail; at this time, while full */
    uint64_t sample_seed, samples;
    uint64_t expired_ppm; /* of the log's bytes: expired and not yet counted off */
};

enum gwi_urgency { GWI_CALM, GWI_BRISK, GWI_LATE, GWI_BLOCKED };

/* A page under work. */
struct gwi_compact_job {
    bool open, drop;
    bool dry; /* a sample: records are counted, nothing is done, and the page may be let go */
    uint64_t expired_bytes;
    struct gwi_page_read in;
    uint64_t copied_bytes; /* of this page */
    bool abandoned;        /* not to be read, and nobody minds: the rest of the page is left */
    bool unreadable;       /* a chain behind one put aside cannot be read now */
    uint32_t stalls;       /* turns that ended because there was no room for a copy */
    /* Records behind which the chain has to be read from the device first. */
    uint32_t undecided_count;
    gw_addr undecided[GWI_UNDECIDED_MAX];
    uint64_t retry_ns; /* after a failure: not before */
};

#define GWI_JOBS_MAX 4u /* pages that a thread works on at the same time */

/* A thread's part. */
struct gwi_compact {
    uint64_t last_ns;  /* end of the last turn */
    int64_t credit_ns; /* time that may be spent; below 0: overspent */
    uint32_t next;     /* whose turn it is */
    struct gwi_compact_job job[GWI_JOBS_MAX];
};

/* ---- compact_worth.c; requires, all: the lock ---- */

/* Takes note of what was written, died and was copied since the last look. */
void gwi_compact_worth_look(struct gwi_compactor *c, uint64_t tail, uint64_t used,
                            uint64_t counted);
/* What is live beyond what is counted. */
uint64_t gwi_compact_unseen(const struct gwi_compactor *c, uint64_t counted);
/* Is this garbage, by the count, worth a lap? Not after one that was for nothing. */
bool gwi_compact_worth(struct gwi_compactor *c, int64_t garbage, int64_t least);
/* A page is done, or a gap was passed that begins there. */
void gwi_compact_lap_page(struct gwi_compactor *c, uint64_t page, int64_t gain, uint64_t copied);
bool gwi_compact_lap_is_over(const struct gwi_compactor *c);
void gwi_compact_lap_end(struct gwi_compactor *c, uint64_t used);

/* ---- compact_record.c ---- */

enum gwi_settled {
    GWI_SETTLED,   /* dead, copied or dropped: the page needs it no more */
    GWI_UNDECIDED, /* its chain is being read */
    GWI_NO_ROOM,   /* no room for the copy; try again in a later turn */
};

/* Decides about a record that lies below flushable. Requires: inside the epoch. */
enum gwi_settled gwi_compact_settle(struct gw_thread *t, struct gwi_compact_job *job,
                                    const struct gwi_met *met);

/* ---- compact_indirection.c ---- */

/* The same for an indirection; met->hash is its prefix. */
enum gwi_settled gwi_compact_settle_indirection(struct gw_thread *t, struct gwi_compact_job *job,
                                                const struct gwi_met *met);

/* ---- compact_policy.c ---- */

/* Looks whether something is to be done, if it is time to. */
void gwi_compact_look(struct gw_thread *t, uint64_t now_ns);
bool gwi_compact_claim(struct gwi_compactor *c, struct gwi_compact_job *job);
void gwi_compact_finish(struct gw_thread *t, struct gwi_compact_job *job, uint64_t now_ns);
void gwi_compact_job_begin(struct gwi_compact_job *job, const struct gw_log *log, uint64_t page);
void gwi_compact_give_back(struct gwi_compactor *c, struct gwi_compact_job *job);

/* ---- compact_sample.c ---- */

void gwi_compact_sample_plan(struct gwi_compactor *c, uint64_t tail, uint64_t used, bool full,
                             uint64_t now_ns);
/* A page to look at: what it holds is only counted. */
bool gwi_compact_sample_claim(struct gwi_compactor *c, struct gwi_compact_job *job);
void gwi_compact_sample_count(struct gw_thread *t, struct gwi_compact_job *job,
                              const struct gwi_met *met);
void gwi_compact_sample_finish(struct gwi_compactor *c, struct gwi_compact_job *job);

/* ---- compact_sweep.c ---- */

void gwi_compact_sweep_init(struct gwi_compactor *c);
/* Clears entries that lead below begin, some buckets a turn, while begin has come far since the
 * last time. True: there is more. */
bool gwi_compact_sweep(struct gw_thread *t);
#endif
