/* compact.c - one thread's turn: a few pages, each read from its frame or in pieces from the device
 * (while one is read another one is worked on), their records decided in batches so that the misses
 * of the index overlap.
 *
 * Rules:
 *  1. A turn is bounded by time: compaction gets a fifth of what passes between turns, half when it
 *     has to hurry, as much again when it is late, and what it wants while users wait for the room.
 *  2. Where a page lies is asked in every turn: head may have passed it meanwhile.
 *  3. Records behind whose entry the chain must be read first are put aside, and asked for again in
 *     later turns; a page is done when none is left.
 *  4. A page that cannot be read is tried again later, and begin stays below it: what is live in it
 *     must not turn from unreadable to absent. In cache mode it is left behind.
 *  5. Doing a page twice is harmless (a thread may leave and give its page back): what was copied
 *     has a newer record now.
 * Design: DESIGN section 6. */
#include "index/compact.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/clock.h"
#include "index/base/hash.h"
#include "index/compact_internal.h"
#include "index/foreign.h"

#define BATCH          16u
#define LOOKED_MAX     512u /* records, dead ones included, between two looks at the clock */
#define PIECE_BYTES    (256u << 10)
#define CREDIT_MAX_NS  400000u
#define CREDIT_MIN_NS  10000u
#define CREDIT_OVER_NS 100000u /* the last piece of work, at most */
#define FAILED_WAIT_NS 1000000000u
#define STALLS_MAX     100u
/* How long a page waits for room, for each time that it has; not that many turns in vain a second.
 */
#define STALL_WAIT_NS     2000u
#define STALL_WAIT_MAX_NS 5000000u
#define SOON_NS           1000000u
#define ASIDE_WAIT_NS     100000u

/* ---- reading ---- */

/* The page is not to be read, now or at all. */
static void failed(struct gw_thread *t, struct gwi_compact_job *job, uint64_t now_ns)
{
    struct gwi_compactor *c = t->store->compactor;
    if (!job->dry)
        gwi_count(&t->counters.corrupt, 1);
    job->in.read = GWI_READ_NONE;
    job->in.until = job->in.from;
    if (c->evict || job->dry) { /* rule 4 */
        job->abandoned = true;
        return;
    }
    job->retry_ns = now_ns + FAILED_WAIT_NS;
}

/* Begins to read from `at` on, at least `need` bytes. */
static void fetch(struct gw_thread *t, struct gwi_compact_job *job, uint64_t at, uint64_t need,
                  uint64_t now_ns)
{
    struct gw_log *log = t->log;
    if (job->dry && (!log->device || (job->in.page + 1) << log->page_bits <= t->view.begin)) {
        job->abandoned = true; /* gone meanwhile */
        return;
    }
    enum gw_status st = gwi_page_fetch(t, &job->in, at, need, PIECE_BYTES);
    if (st != GW_PENDING && st != GW_WOULD_BLOCK && st != GW_E_NOMEM) /* these: a later turn */
        failed(t, job, now_ns);
}

static void wait_at_least(struct gwi_compact_job *job, uint64_t until_ns)
{
    if (job->retry_ns < until_ns)
        job->retry_ns = until_ns;
}

/* There is no room for a copy. In cache mode the rest of the page is dropped when there was none
 * for many turns: true. */
static bool stalled(struct gw_thread *t, struct gwi_compact_job *job, uint64_t now_ns)
{
    if (++job->stalls >= STALLS_MAX && !job->drop && t->store->compactor->evict) {
        job->drop = true;
        return true;
    }
    uint64_t wait = (uint64_t)STALL_WAIT_NS * job->stalls;
    wait_at_least(job, now_ns + (wait < STALL_WAIT_MAX_NS ? wait : STALL_WAIT_MAX_NS));
    return false;
}

/* Rule 3: asks again for those put aside. False: some are left, or the page waits. */
static bool settle_aside(struct gw_thread *t, struct gwi_compact_job *job, uint64_t now_ns)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < job->undecided_count; i++) {
        struct gwi_met met;
        uint64_t bytes;
        gw_addr at = job->undecided[i];
        job->undecided[left++] = at;
        if (job->in.read == GWI_READ_UNDER_WAY)
            continue;
        enum gwi_page_at what = gwi_page_parse(t, &job->in, at.v, false, &met, &bytes);
        if (what == GWI_AT_MISSING) {
            fetch(t, job, at.v, bytes, now_ns);
            continue;
        }
        GW_ASSERT(what == GWI_AT_RECORD); /* it was one before */
        gwi_page_hash(t, &met);
        enum gwi_settled settled = gwi_compact_settle(t, job, &met);
        if (settled == GWI_SETTLED)
            left--;
        else if (settled == GWI_NO_ROOM)
            (void)stalled(t, job, now_ns); /* asked again in a later turn, either way */
    }
    job->undecided_count = left;
    if (left != 0)
        wait_at_least(job, now_ns + (job->unreadable ? FAILED_WAIT_NS : ASIDE_WAIT_NS));
    job->unreadable = false;
    return left == 0;
}

/* Collects up to BATCH records and decides them. False: the page is at its end, or has to wait. */
static bool scan(struct gw_thread *t, struct gwi_compact_job *job, uint64_t now_ns)
{
    struct gwi_met met[BATCH];
    uint32_t n = 0;
    bool more = true;
    for (uint32_t looked = 0; n < BATCH && looked < LOOKED_MAX && more; looked++) {
        uint64_t bytes;
        if (job->in.end != 0 && job->in.at >= job->in.end)
            break;
        switch (gwi_page_parse(t, &job->in, job->in.at, false, &met[n], &bytes)) {
        case GWI_AT_RECORD:
            if (job->dry)
                gwi_compact_sample_count(t, job, &met[n]);
            else
                gwi_page_hash(t, &met[n++]);
            job->in.at += bytes;
            break;
        case GWI_AT_NOTHING:
            job->in.at += bytes;
            break;
        case GWI_AT_END:
            job->in.end = job->in.at;
            break;
        case GWI_AT_MISSING:
            /* Not under the feet of those that lie in the buffer. */
            if (n == 0 && job->undecided_count == 0)
                fetch(t, job, gwi_page_missing(t->log, &job->in), bytes, now_ns);
            more = false;
            break;
        case GWI_AT_BAD:
            if (n == 0)
                failed(t, job, now_ns);
            more = false;
            break;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        enum gwi_settled settled = gwi_compact_settle(t, job, &met[i]);
        if (settled == GWI_NO_ROOM && stalled(t, job, now_ns))
            settled = gwi_compact_settle(t, job, &met[i]);
        if (settled == GWI_UNDECIDED && job->undecided_count < GWI_UNDECIDED_MAX) {
            job->undecided[job->undecided_count++] = met[i].address;
            gwi_count(&t->counters.compact_reads, 1);
        } else if (settled != GWI_SETTLED) {
            job->in.at = met[i].address.v;
            return false;
        }
    }
    return n != 0 || (more && job->in.at < job->in.end);
}

/* Works until `end_ns`. True: the page is done. */
static bool work(struct gw_thread *t, struct gwi_compact_job *job, uint64_t now_ns, uint64_t end_ns)
{
    if (job->in.read == GWI_READ_DONE && gwi_page_take(t, &job->in) != GW_OK)
        failed(t, job, now_ns);
    bool done = false;
    gwi_store_enter(t);
    if (!job->abandoned && settle_aside(t, job, now_ns)) {
        while (!job->abandoned && job->in.read == GWI_READ_NONE && scan(t, job, now_ns))
            if (gw_clock_now_ns(gw_clock_system()) >= end_ns)
                break;
        done = job->in.end != 0 && job->in.at >= job->in.end && job->undecided_count == 0;
    }
    gw_store_exit(t);
    if (job->abandoned) {
        job->undecided_count = 0;
        job->in.end = job->in.at;
        return true;
    }
    return done;
}

/* ---- turns ---- */

/* Gives the job something to do if it has nothing. */
static void claim(struct gwi_compactor *c, struct gwi_compact_job *job)
{
    /* Relaxed: a hint. */
    if (atomic_load_explicit(&c->work, memory_order_relaxed) && gwi_compact_claim(c, job))
        return;
    if (gwi_compact_sample_claim(c, job) || !job->in.buffer)
        return;
    gwi_page_free(&job->in); /* nothing to do for a while */
}

/* Works on one page until `end_ns`; true: there is more to do at once. */
static bool job_turn(struct gw_thread *t, struct gwi_compact_job *job, uint64_t now,
                     uint64_t end_ns)
{
    struct gwi_compactor *c = t->store->compactor;
    if (!job->open || job->in.read == GWI_READ_UNDER_WAY)
        return false; /* the device's descriptor wakes a sleeper */
    if (job->retry_ns > now)
        return job->retry_ns - now < SOON_NS;
    bool done = work(t, job, now, end_ns);
    if (done && job->dry)
        gwi_compact_sample_finish(c, job);
    else if (done)
        gwi_compact_finish(t, job, now);
    return job->in.read != GWI_READ_UNDER_WAY;
}

bool gwi_compact_turn(struct gw_thread *t)
{
    static const uint32_t share[] = {5, 2, 1, 1}; /* by enum gwi_urgency */
    struct gwi_compactor *c = t->store->compactor;
    struct gwi_compact *compact = t->compact;
    uint64_t now = gw_clock_now_ns(gw_clock_system());
    gwi_compact_look(t, now);
    bool more = gwi_compact_sweep(t);
    uint32_t urgency = atomic_load_explicit(&c->urgency, memory_order_relaxed);
    uint64_t passed = now - compact->last_ns;
    compact->last_ns = now;
    compact->credit_ns +=
        (int64_t)(passed < CREDIT_MAX_NS * 5 ? passed : CREDIT_MAX_NS * 5) / share[urgency];
    if (compact->credit_ns > CREDIT_MAX_NS || urgency == GWI_BLOCKED)
        compact->credit_ns = CREDIT_MAX_NS;
    uint32_t jobs = !t->log->device ? 1 : urgency == GWI_CALM ? GWI_JOBS_MAX / 2 : GWI_JOBS_MAX;
    bool open = false;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_compact_job *job = &compact->job[i];
        if (!job->open && i < jobs)
            claim(c, job);
        open |= job->open;
    }
    if (!open)
        return more;
    if (compact->credit_ns < CREDIT_MIN_NS)
        return true;
    uint64_t end_ns = now + (uint64_t)compact->credit_ns, at = now;
    for (uint32_t n = 0; n < GWI_JOBS_MAX && at < end_ns; n++) {
        more |= job_turn(t, &compact->job[compact->next++ % GWI_JOBS_MAX], at, end_ns);
        at = gw_clock_now_ns(gw_clock_system());
    }
    /* Time beyond the end is the scheduler's, who had given the processor to somebody else: whoever
     * pays for that stands still while users, who pay for nothing, go on. */
    uint64_t spent = at - now, most = end_ns - now + CREDIT_OVER_NS;
    compact->credit_ns -= (int64_t)(spent < most ? spent : most);
    compact->last_ns = at;
    return more;
}

enum gw_status gwi_compact_join(struct gw_thread *t)
{
    t->compact = calloc(1, sizeof *t->compact);
    return t->compact ? GW_OK : GW_E_NOMEM;
}

void gwi_compact_leave(struct gw_thread *t)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_compact_job *job = &t->compact->job[i];
        while (job->in.read == GWI_READ_UNDER_WAY) /* it calls back once */
            t->log->device->poll(t->log->device, t->slot);
        if (job->open)
            gwi_compact_give_back(t->store->compactor, job);
        gwi_page_free(&job->in);
    }
    free(t->compact);
    t->compact = NULL;
}

uint32_t gwi_compact_reads(const struct gw_thread *t)
{
    uint32_t reads = 0;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        reads += t->compact->job[i].in.read == GWI_READ_UNDER_WAY;
    return reads;
}

uint64_t gwi_compact_bytes(const struct gw_thread *t)
{
    uint64_t bytes = sizeof *t->compact;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        bytes += atomic_load_explicit(&t->compact->job[i].in.buffer_memory, memory_order_relaxed);
    return bytes;
}
