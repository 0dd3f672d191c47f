/* compact_sample.c - how much of the log has expired without anybody having looked.
 *
 * What is replaced or deleted is counted when it happens; what expires is counted as live until
 * somebody meets it, for a clock that runs out makes no call. A store whose keys are written once
 * and expire would seem full of live records for ever. So a page is looked at now and then, chosen
 * at random, and the share of its bytes that has expired is taken for that of the whole log: a page
 * for every 1/64 of the log that is written, more often while users are refused. A record that is
 * both replaced and expired counts twice; what is too much is noticed by the lap that finds less
 * (compact_policy.c, rule 3). Nothing is read from the index, nothing is changed. */
#include "index/compact_internal.h"

#define SAMPLE_SHARE   64u
#define SAMPLE_PAGES   4u /* written between two looks, at least */
#define SAMPLE_FULL_NS 20000000u
#define SAMPLES_MEAN   8u

/* Requires: the lock. `full`: users are refused. */
void gwi_compact_sample_plan(struct gwi_compactor *c, uint64_t tail, uint64_t used, bool full,
                             uint64_t now_ns)
{
    /* Relaxed: a hint that comes true once. */
    if (!atomic_load_explicit(&c->store->expires, memory_order_relaxed))
        return;
    if (tail < c->sample_bytes && !(full && now_ns >= c->sample_ns))
        return;
    uint64_t step = used / SAMPLE_SHARE;
    uint64_t least = SAMPLE_PAGES << c->log->page_bits;
    c->sample_bytes = tail + (step > least ? step : least);
    c->sample_ns = now_ns + SAMPLE_FULL_NS;
    atomic_store_explicit(&c->sample_due, true, memory_order_relaxed);
}

bool gwi_compact_sample_claim(struct gwi_compactor *c, struct gwi_compact_job *job)
{
    if (!atomic_exchange_explicit(&c->sample_due, false, memory_order_relaxed))
        return false;
    struct gw_log *log = c->log;
    uint64_t end =
        atomic_load_explicit(log->device ? &log->flushed : &log->flushable, memory_order_acquire) >>
        log->page_bits;
    pthread_mutex_lock(&c->lock);
    uint64_t first = c->next, page = 0;
    if (first < end) {
        c->sample_seed = c->sample_seed * 6364136223846793005u + 1442695040888963407u;
        page = gwi_log_page_from(log, first + (c->sample_seed >> 33) % (end - first));
    }
    pthread_mutex_unlock(&c->lock);
    if (first >= end || page >= end)
        return false;
    gwi_compact_job_begin(job, log, page);
    job->dry = true;
    return true;
}

void gwi_compact_sample_count(struct gw_thread *t, struct gwi_compact_job *job,
                              const struct gwi_met *met)
{
    uint64_t control = atomic_load_explicit(&met->record->control, memory_order_relaxed);
    if (!(control & GW_CONTROL_TOMBSTONE) && gw_record_expired(met->record, control, t->now_ms))
        job->expired_bytes += gw_record_units(met->record) * GW_ADDR_UNIT;
}

void gwi_compact_sample_finish(struct gwi_compactor *c, struct gwi_compact_job *job)
{
    uint64_t share = job->expired_bytes * 1000000u / c->log->page_bytes;
    job->open = false;
    pthread_mutex_lock(&c->lock);
    if (c->samples < SAMPLES_MEAN)
        c->samples++;
    c->expired_ppm = (c->expired_ppm * (c->samples - 1) + share) / c->samples;
    pthread_mutex_unlock(&c->lock);
}
