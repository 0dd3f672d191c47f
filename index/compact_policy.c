/* compact_policy.c - when pages are compacted, who gets which, and what follows when they are done.
 *
 *   page:  in the log --goal--> to be had --claim--> under work --finish--> done --base--> below
 * begin
 *                                   ^---- give back ----'
 *
 * Rules:
 *  1. Only pages below flushable are taken, with a device only such as are written: nothing in them
 *     changes any more, and they can be read whether head passes them or not.
 *  2. begin rises to the first page that is not done. One epoch later nobody reads below it, and
 * the device is trimmed; frames are the log's own business (log_flush.c).
 *  3. Not for nothing: the room that dead records take is known (used less live less what pages
 * have left empty at their ends). If it is not worth the reading, users are told GW_E_FULL instead,
 *     until something is overwritten, deleted or expires. While nobody waits for the room copies
 *     are paid for, and what a lap has found corrects the count of live bytes (compact_worth.c).
 *  4. What compaction itself needs is kept in reserve: frames of the log, two segments of the
 *     device. Users who would need it wait if room is being made, and are refused if it is not.
 *  5. When begin may rise is all that a crash cares about: with checkpoints, the trim of rule 2
 *     waits until those that are kept need nothing below (ENGINE H10, gw_store_retain). What waits
 *     for that is not compacted for again: it counts as given back where the question is whether to
 *     go on, and as taken where it is whether there is room. Users wait for it, too, as long as
 *     checkpoints come. The last of the reserve is nobody's but the checkpoint's, whose cut needs a
 *     page: compaction stops before it, having passed a segment by then (it has more than one to
 *     copy to), so that a checkpoint, or two if two are kept, makes room.
 *  6. Without a device nobody waits for ever: a log whose oldest page is not done for STUCK_NS, in
 *     STUCK_LOOKS looks, has no room for its copies; users are refused although there is garbage.
 * Design: DESIGN section 6. */
#include <stdlib.h>
#include <string.h>

#include "index/compact_internal.h"
#include "index/foreign.h"

#define RESERVE_MAX       8u
#define SEGMENTS_RESERVED 2u           /* one more with checkpoints: rule 5 */
#define CUT_PAGES         4u           /* of the device, at least, for the cuts of checkpoints */
#define CHECKPOINT_NS     60000000000u /* users wait so long for one, then they are told "full" */
#define LOOK_NS           5000000u
#define LOOK_BLOCKED_NS   100000u
#define UNDER_WORK_MAX    16u
#define STUCK_NS          5000000000u /* without a page done: nothing is coming */
#define STUCK_LOOKS       64u         /* nobody may have had a turn for as long */

struct room {
    uint64_t begin, tail, tail_page, page_bytes;
    uint64_t used, live;
    uint64_t unseen;  /* of `live`: what is not counted, as the last lap has found */
    uint64_t present; /* pages from begin to the tail's */
    int64_t garbage;  /* what can be had back, by the count; an estimate, may be below 0 */
};

/* What a page leaves empty at its end that cannot be had back. One that a checkpoint has closed
 * leaves more than usual, and that can. */
static uint64_t usual_waste(const struct gwi_compactor *c)
{
    if (!c->store->retains)
        return c->log->page_bytes;
    uint64_t record = gwi_mean_record_bytes(c->store), half = c->log->page_bytes / 2;
    return GW_LOG_PAGE_HEADER + (record < half ? record : half);
}

static void room_measure(struct gwi_compactor *c, struct room *room)
{
    struct gw_log *log = c->log;
    room->page_bytes = log->page_bytes;
    room->begin = c->base << log->page_bits;
    room->tail = gw_log_tail(log).v;
    room->tail_page = room->tail >> log->page_bits;
    uint64_t missing = gwi_log_pages_missing(log, c->base, room->tail_page);
    room->used = room->tail - room->begin - (missing << log->page_bits);
    room->live = gwi_live_bytes(c->store);
    room->present = room->tail_page - c->base + 1 - missing;
    int64_t waste = atomic_load_explicit(&log->waste, memory_order_relaxed) +
                    (int64_t)(room->present * GW_LOG_PAGE_HEADER);
    int64_t usual = (int64_t)(room->present * usual_waste(c));
    int64_t idle = waste < usual ? waste : usual;
    uint64_t expired = room->used / 1000000u * c->expired_ppm;
    room->live -= expired < room->live ? expired : room->live;
    room->garbage = (int64_t)room->used - (int64_t)room->live - idle;
    gwi_compact_worth_look(c, room->tail, room->used, room->live);
    room->unseen = gwi_compact_unseen(c, room->live);
    room->live += room->unseen;
}

/* Room of the device in segments that were begun and left when the store was started again: no page
 * of theirs has it. */
static int64_t hollow_bytes(const struct room *room, bool retains, uint64_t files, uint64_t segment)
{
    if (!retains)
        return 0;
    int64_t hollow = (int64_t)files - (int64_t)(room->present * room->page_bytes) -
                     (int64_t)(segment + files / 64); /* the one in use, and tables */
    return hollow > 0 ? hollow : 0;
}

/* Bytes of whole segments between this page and the first one that is not done. */
static uint64_t passed_bytes(const struct gwi_compactor *c, uint64_t from)
{
    if (from >= c->base)
        return 0;
    uint64_t pages =
        c->base / c->segment_pages * c->segment_pages - from / c->segment_pages * c->segment_pages;
    uint64_t missing = gwi_log_pages_missing(c->log, from, c->base);
    return (pages > missing ? pages - missing : 0) << c->log->page_bits;
}

/* Of them, those that a checkpoint has to let go (rule 5); the others are being trimmed. */
static uint64_t waiting_bytes(const struct gwi_compactor *c)
{
    if (!c->store->retains)
        return 0;
    uint64_t allowed =
        atomic_load_explicit(&c->store->retain_begin, memory_order_acquire) >> c->log->page_bits;
    return passed_bytes(c, c->trimmed > allowed ? c->trimmed : allowed);
}

/* What the policy has decided. */
struct plan {
    bool copy, drop;   /* neither: nothing to do */
    uint64_t goal;     /* pages below may be taken */
    bool user_full;    /* no new page for users */
    bool delete_full;  /* nor for deletes */
    bool compact_full; /* nor for compaction */
    bool coming;       /* what was passed makes room when a checkpoint lets it go */
    bool full;         /* users are, or are about to be, refused if nothing is done */
    enum gwi_urgency urgency;
};

/* ---- the reserve ---- */

static uint32_t reserve_of(uint32_t frames)
{
    uint32_t reserve = frames / 32;
    return frames < GW_LOG_FRAMES_COMPACT ? 0
           : reserve < 2                  ? 2
           : reserve > RESERVE_MAX        ? RESERVE_MAX
                                          : reserve;
}

/* A log that has given up frames for the index has fewer to spare. What pages under work count on
 * is not taken from them. */
static void reserve_follow(struct gwi_compactor *c)
{
    /* Relaxed: numbers; this one is written under the lock only. */
    uint32_t now = atomic_load_explicit(&c->log->reserve, memory_order_relaxed);
    uint32_t next = reserve_of(atomic_load_explicit(&c->log->frames_target, memory_order_relaxed));
    if (next > now || (next < now && c->next == c->base))
        atomic_store_explicit(&c->log->reserve, next, memory_order_relaxed);
}

/* So that pages below `page` may be taken; no further than the page before the tail's. */
static void make_flushable(struct gwi_compactor *c, uint64_t page)
{
    struct gw_log *log = c->log;
    uint64_t to = page << log->page_bits;
    if (atomic_load_explicit(&log->flushable, memory_order_acquire) >= to)
        return;
    /* A step of an earlier shift may have found no trigger: then nothing waits any more. */
    if (c->shifted >= to && gw_epoch_waiting(log->epoch) != 0)
        return;
    if (gw_log_shift_read_only(log, gw_addr_of(to)) == GW_OK) /* else the next look tries again */
        c->shifted = to;
}

/* ---- memory only ---- */

static void plan_memory(struct gwi_compactor *c, const struct room *room, struct plan *plan)
{
    struct gw_log *log = c->log;
    c->garbage = room->garbage;
    uint64_t frames = atomic_load_explicit(&log->frames_target, memory_order_relaxed);
    uint64_t reserve = atomic_load_explicit(&log->reserve, memory_order_relaxed);
    uint64_t used = room->tail_page - c->base + 1, free = frames > used ? frames - used : 0;
    uint64_t share = frames / (c->evict ? 16 : 8);
    uint64_t low = share > reserve + 2 ? share : reserve + 2;
    if (free > low || (frames < GW_LOG_FRAMES_COMPACT && !c->evict))
        return;
    plan->full = free <= reserve + 1;
    int64_t least = (int64_t)room->page_bytes;
    if (least < (int64_t)(room->used / (c->evict ? 8 : 32)))
        least = (int64_t)(room->used / (c->evict ? 8 : 32));
    plan->copy = frames >= GW_LOG_FRAMES_COMPACT && gwi_compact_worth(c, room->garbage, least);
    plan->drop = !plan->copy && c->evict;
    if (!plan->copy && !plan->drop) {
        /* What has expired is looked for in the oldest pages: the others change in place. */
        uint64_t sampled = c->base + used / 8 + 2;
        if (atomic_load_explicit(&c->store->expires, memory_order_relaxed))
            make_flushable(c, sampled < room->tail_page ? sampled : room->tail_page);
        return;
    }
    /* A page under work may need a page at the tail before it gives one back, and deletes take half
     * of the reserve: as many as the other half has room for, or each would wait for the others. */
    uint64_t most = plan->drop ? UNDER_WORK_MAX : reserve > 3 ? reserve / 2 : 1;
    uint64_t limit = atomic_load_explicit(&log->page_limit, memory_order_acquire);
    if (!plan->drop && limit < room->tail_page + 1 + most) /* the reserve is not whole */
        most = limit > room->tail_page + 2 ? limit - room->tail_page - 1 : 1;
    uint64_t wanted = low + 1 - free;
    uint64_t end = c->base + (wanted < most ? wanted : most);
    end = end < room->tail_page ? end : room->tail_page;
    make_flushable(c, end);
    uint64_t flushable =
        atomic_load_explicit(&log->flushable, memory_order_acquire) >> log->page_bits;
    plan->goal = end < flushable ? end : flushable;
    plan->urgency = free <= reserve ? GWI_BLOCKED : free * 2 <= low ? GWI_BRISK : GWI_CALM;
}

/* ---- with a device ---- */

/* Garbage that makes compaction worth while when the device is `percent` full, in percent. */
static uint64_t garbage_wanted(uint64_t percent)
{
    return percent >= 97 ? 5 : percent >= 85 ? 25 - (percent - 85) * 20 / 12 : 100;
}

/* Rule 5: who waits for a checkpoint (or a trim, which comes an epoch later), and whether it is
 * time for one. */
static void checkpoint_plan(struct gwi_compactor *c, uint64_t waiting, uint64_t live,
                            uint64_t segment, uint64_t percent, uint64_t now_ns, struct plan *plan)
{
    uint64_t passed = passed_bytes(c, c->trimmed);
    uint64_t end = atomic_load_explicit(&c->store->retain_end, memory_order_relaxed);
    if (passed != c->passed || end != c->passed_end || passed == 0) {
        c->passed = passed;
        c->passed_end = end;
        c->passed_ns = now_ns;
    }
    bool short_of_room = plan->full || plan->compact_full;
    plan->coming = passed != 0 && short_of_room && now_ns - c->passed_ns < CHECKPOINT_NS;
    atomic_store_explicit(&c->store->wants_checkpoint,
                          waiting >= 2 * segment ||
                              (waiting != 0 && (percent >= 85 || short_of_room)),
                          memory_order_relaxed);
    /* Enough is on its way: what is copied now takes the room that the cut needs, or, where there
     * is room, would be the same records over and over until somebody takes a checkpoint. */
    if (waiting >= 2 * segment && (short_of_room || waiting > 2 * (live + 2 * segment)))
        plan->copy = plan->drop = false;
}

static void plan_device(struct gwi_compactor *c, const struct room *room, uint64_t now_ns,
                        struct plan *plan)
{
    struct gw_log *log = c->log;
    struct gw_device_usage usage = {0};
    log->device->usage(log->device, &usage);
    uint64_t segment = c->segment_pages << log->page_bits;
    uint64_t flushed = atomic_load_explicit(&log->flushed, memory_order_acquire);
    /* What is in memory only will need room too, beyond the segment that was begun. */
    uint64_t covered = (flushed + segment - 1) / segment * segment;
    uint64_t taken = usage.used_bytes + (room->tail > covered ? room->tail - covered : 0);
    uint64_t limit = usage.limit_bytes;
    uint64_t percent = limit ? taken * 100 / limit : 0;
    uint64_t reserved = SEGMENTS_RESERVED + c->store->retains;
    bool full = limit && taken + reserved * segment > limit;
    bool refused = atomic_load_explicit(&log->device_full, memory_order_relaxed);

    /* In time for the device to stay below twice the live bytes: beside the log it holds a segment
     * of which a part is done, and one that has been begun. */
    uint64_t waiting = waiting_bytes(c);
    uint64_t kept = usage.used_bytes > waiting ? usage.used_bytes - waiting : 0;
    uint64_t passed = passed_bytes(c, c->trimmed); /* what is about to be trimmed is not hollow */
    uint64_t files = usage.used_bytes > passed ? usage.used_bytes - passed : 0;
    int64_t garbage = room->garbage + hollow_bytes(room, c->store->retains, files, segment);
    c->garbage = garbage;
    bool much = room->used > room->live / 10 * 17 || kept + segment + segment / 2 > 2 * room->live;
    /* Thrift can wait until nobody waits for a range: what a range that left has made garbage of
     * lies on the device, or beyond it. */
    bool loose = much && room->used > log->ring_bytes + 2 * segment && c->credit > 0 &&
                 garbage - (int64_t)room->unseen >= (int64_t)segment &&
                 atomic_load_explicit(&c->store->foreign->resolve_percent, memory_order_relaxed) &&
                 gwi_compact_worth(c, garbage, (int64_t)segment);
    /* With few segments the reserve alone is a quarter of the bound: users are refused long before
     * 85 percent are taken, and whatever is garbage then is worth it. */
    uint64_t left = taken > waiting ? taken - waiting : 0; /* when that is gone */
    bool tight = (limit && left * 100 / limit >= 85) || refused ||
                 (limit && left + reserved * segment > limit);
    if (tight) {
        int64_t least =
            (int64_t)(room->used / 100 * garbage_wanted(refused || full ? 100 : percent));
        tight = gwi_compact_worth(c, garbage, least > (int64_t)segment ? least : (int64_t)segment);
    }
    plan->copy = loose || tight;
    plan->drop =
        !plan->copy && c->evict && (refused || (limit && left + (reserved + 1) * segment > limit));
    plan->user_full = full;
    plan->full = full || refused;
    plan->delete_full = limit && taken + (reserved - 1) * segment > limit;
    uint64_t cut = CUT_PAGES << log->page_bits;
    cut = cut > segment / 2 ? cut : segment / 2;
    plan->compact_full = c->store->retains && limit && taken + cut > limit;
    checkpoint_plan(c, waiting, room->live, segment, percent, now_ns, plan);
    if (!plan->copy && !plan->drop)
        return;
    uint64_t end = (c->base / c->segment_pages + 1) * c->segment_pages;
    uint64_t written = flushed >> log->page_bits;
    if (end <= written)
        plan->goal = end;
    else /* more memory than device: it would not be written for long */
        make_flushable(c, end < room->tail_page ? end : room->tail_page);
    uint64_t tenth = room->live / 10;
    if (full || refused)
        plan->urgency = GWI_BLOCKED;
    else if (room->used > 19 * tenth || kept > 20 * tenth)
        plan->urgency = GWI_LATE;
    else if (percent >= 92 || room->used > 18 * tenth || kept > 19 * tenth)
        plan->urgency = GWI_BRISK;
}

/* ---- looking ---- */

static void trim_now(void *arg)
{
    struct gwi_compactor *c = arg;
    pthread_mutex_lock(&c->lock);
    uint64_t to = c->trimming;
    pthread_mutex_unlock(&c->lock);
    c->log->device->trim(c->log->device, gw_addr_of(to << c->log->page_bits));
    pthread_mutex_lock(&c->lock);
    c->trimmed = to;
    c->trim_waits = false;
    pthread_mutex_unlock(&c->lock);
}

/* Rule 2. Requires: the lock; begin has been raised. */
static void trim_later(struct gwi_compactor *c)
{
    uint64_t begin = atomic_load_explicit(&c->log->begin, memory_order_acquire);
    if (c->store->retains) {
        /* Acquire: the checkpoint before the boundary. */
        uint64_t kept = atomic_load_explicit(&c->store->retain_begin, memory_order_acquire);
        begin = begin < kept ? begin : kept;
    }
    uint64_t page = begin >> c->log->page_bits;
    uint64_t to = page / c->segment_pages * c->segment_pages;
    if (!c->log->device || c->trim_waits || to <= c->trimmed)
        return;
    c->trimming = to;
    c->trim_waits = true;
    if (gw_epoch_defer(c->log->epoch, trim_now, c) != GW_OK)
        c->trim_waits = false; /* the next look tries again */
}

/* May the next page be taken? Those behind a gap only when all before it are done: then base is
 * there, and bits count from it. */
static bool next_is_to_be_had(const struct gwi_compactor *c)
{
    return c->next < c->goal && c->next - c->base < GWI_CLAIMS_MAX &&
           c->next < gwi_log_page_gap(c->log, c->base);
}

static void work_update(struct gwi_compactor *c)
{
    bool work = c->again != 0 || next_is_to_be_had(c);
    atomic_store_explicit(&c->work, work, memory_order_relaxed);
}

/* Rule 6. */
static bool is_stuck(struct gwi_compactor *c, bool active, uint64_t now_ns)
{
    if (c->log->device || !active || c->moved_base != c->base) {
        c->moved_base = active ? c->base : UINT64_MAX;
        c->moved_ns = now_ns;
        c->moved_looks = 0;
    }
    return ++c->moved_looks > STUCK_LOOKS && now_ns - c->moved_ns >= STUCK_NS;
}

static void look(struct gwi_compactor *c, uint64_t now_ns)
{
    struct room room;
    struct plan plan = {.urgency = GWI_CALM};
    /* Relaxed: a number; as it is before it is looked at. */
    uint32_t frames = atomic_load_explicit(&c->log->frames_target, memory_order_relaxed);
    reserve_follow(c);
    room_measure(c, &room);
    if (c->log->device)
        plan_device(c, &room, now_ns, &plan);
    else
        plan_memory(c, &room, &plan);
    bool active = plan.copy || plan.drop;
    c->drop = plan.drop;
    c->goal = plan.goal;
    atomic_store_explicit(&c->urgency, plan.urgency, memory_order_relaxed);
    /* Coming first if there is, last if there is not, and read first: a user between the stores
     * waits a turn too long instead of being refused. */
    bool coming = (!is_stuck(c, active, now_ns) && active) || plan.coming;
    if (coming)
        atomic_store_explicit(&c->log->room_coming, true, memory_order_release);
    atomic_store_explicit(&c->log->compact_full, plan.compact_full, memory_order_relaxed);
    atomic_store_explicit(&c->log->user_full, plan.user_full, memory_order_relaxed);
    atomic_store_explicit(&c->log->delete_full, plan.delete_full, memory_order_relaxed);
    atomic_store_explicit(&c->log->room_coming, coming, memory_order_release);
    /* Release: all that was said. */
    atomic_store_explicit(&c->log->looked, room.tail_page << 32 | frames, memory_order_release);
    gwi_compact_sample_plan(c, room.tail, room.used, plan.full && !active, now_ns);
    trim_later(c);
    work_update(c);
}

void gwi_compact_inherit(struct gw_store *store, gw_addr begin)
{
    struct gwi_compactor *c = store->compactor;
    uint64_t page = (begin.v >> c->log->page_bits) / c->segment_pages * c->segment_pages;
    pthread_mutex_lock(&c->lock);
    if (page < c->trimmed)
        c->trimmed = page;
    pthread_mutex_unlock(&c->lock);
}

void gwi_compact_look_soon(struct gw_store *store)
{
    atomic_store_explicit(&store->compactor->look_bytes, 0, memory_order_relaxed);
}

void gwi_compact_look(struct gw_thread *t, uint64_t now_ns)
{
    struct gwi_compactor *c = t->store->compactor;
    /* Relaxed: hints. */
    uint64_t tail = gw_log_tail(c->log).v;
    uint64_t looked = atomic_load_explicit(&c->log->looked, memory_order_relaxed);
    if (tail < atomic_load_explicit(&c->look_bytes, memory_order_relaxed) &&
        looked >> 32 == tail >> c->log->page_bits &&
        (uint32_t)looked == atomic_load_explicit(&c->log->frames_target, memory_order_relaxed) &&
        now_ns < atomic_load_explicit(&c->look_ns, memory_order_relaxed))
        return;
    if (pthread_mutex_trylock(&c->lock) != 0)
        return;
    look(c, now_ns);
    bool blocked = atomic_load_explicit(&c->urgency, memory_order_relaxed) == GWI_BLOCKED;
    atomic_store_explicit(&c->look_bytes, tail + c->log->page_bytes / 4, memory_order_relaxed);
    atomic_store_explicit(&c->look_ns, now_ns + (blocked ? LOOK_BLOCKED_NS : LOOK_NS),
                          memory_order_relaxed);
    pthread_mutex_unlock(&c->lock);
}

/* ---- pages ---- */

void gwi_compact_job_begin(struct gwi_compact_job *job, const struct gw_log *log, uint64_t page)
{
    job->open = true;
    job->dry = false;
    job->copied_bytes = job->expired_bytes = 0;
    job->abandoned = job->unreadable = false;
    job->stalls = 0;
    job->retry_ns = 0;
    gwi_page_begin(&job->in, log, page);
}

bool gwi_compact_claim(struct gwi_compactor *c, struct gwi_compact_job *job)
{
    pthread_mutex_lock(&c->lock);
    bool got = true;
    uint64_t page = 0;
    if (c->again != 0) {
        uint32_t i = (uint32_t)__builtin_ctzll(c->again);
        c->again &= ~((uint64_t)1 << i);
        page = c->base + i;
    } else if (next_is_to_be_had(c)) {
        page = c->next++;
    } else {
        got = false;
    }
    job->drop = c->drop;
    work_update(c);
    pthread_mutex_unlock(&c->lock);
    if (!got)
        return false;
    gwi_compact_job_begin(job, c->log, page);
    return true;
}

void gwi_compact_give_back(struct gwi_compactor *c, struct gwi_compact_job *job)
{
    GW_ASSERT(job->open);
    job->open = false;
    job->undecided_count = 0;
    if (job->dry)
        return;
    pthread_mutex_lock(&c->lock);
    c->again |= (uint64_t)1 << (job->in.page - c->base);
    work_update(c);
    pthread_mutex_unlock(&c->lock);
}

void gwi_compact_finish(struct gw_thread *t, struct gwi_compact_job *job, uint64_t now_ns)
{
    struct gwi_compactor *c = t->store->compactor;
    struct gw_log *log = c->log;
    GW_ASSERT(job->open && job->undecided_count == 0);
    uint64_t bytes = job->in.end - (job->in.page << log->page_bits);
    job->open = false;
    gwi_count(&t->counters.compacted_bytes, bytes);
    atomic_fetch_sub_explicit(&log->waste, (int64_t)(log->page_bytes - bytes),
                              memory_order_relaxed);
    pthread_mutex_lock(&c->lock);
    uint64_t empty = log->page_bytes - bytes, usual = usual_waste(c);
    c->waste_passed += (int64_t)empty;
    gwi_compact_lap_page(c, job->in.page,
                         (int64_t)(bytes + (empty > usual ? empty - usual : 0)) -
                             (int64_t)job->copied_bytes,
                         job->copied_bytes);
    c->done |= (uint64_t)1 << (job->in.page - c->base);
    while (c->done & 1) {
        c->done >>= 1;
        c->again >>= 1;
        c->base++;
    }
    uint64_t beyond = gwi_log_page_from(log, c->base); /* nothing behind a gap is taken before */
    if (beyond != c->base) { /* and the file that ends there has room for more pages */
        uint64_t end = (c->base + c->segment_pages - 1) / c->segment_pages * c->segment_pages;
        gwi_compact_lap_page(c, c->base,
                             (int64_t)(((end < beyond ? end : beyond) - c->base) << log->page_bits),
                             0);
        c->base = beyond;
    }
    c->next = c->next > c->base ? c->next : c->base;
    uint64_t begin = c->base << log->page_bits;
    if (begin > atomic_load_explicit(&log->begin, memory_order_acquire))
        gw_log_raise_begin(log, gw_addr_of(begin));
    if (gwi_compact_lap_is_over(c)) {
        struct room room;
        room_measure(c, &room);
        gwi_compact_lap_end(c, room.used);
    }
    look(c, now_ns); /* at once: what the next page is, or that there is none */
    pthread_mutex_unlock(&c->lock);
}

/* ---- life ---- */

enum gw_status gwi_compactor_create(struct gw_store *store, struct gwi_compactor **out)
{
    struct gwi_compactor *c = aligned_alloc(GW_CACHE_LINE, sizeof *c);
    if (!c)
        return GW_E_NOMEM;
    memset(c, 0, sizeof *c);
    if (pthread_mutex_init(&c->lock, NULL) != 0) {
        free(c);
        return GW_E_NOMEM;
    }
    struct gw_log *log = store->log;
    c->store = store;
    c->log = log;
    c->evict = log->evict;
    c->segment_pages = 1;
    if (log->device) {
        struct gw_device_usage usage = {0};
        log->device->usage(log->device, &usage);
        if (usage.segment_bytes > log->page_bytes)
            c->segment_pages = usage.segment_bytes >> log->page_bits;
    }
    uint64_t begin = atomic_load_explicit(&log->begin, memory_order_relaxed);
    c->base = gwi_log_page_from(log, begin >> log->page_bits);
    c->next = c->goal = c->base;
    c->trimmed = c->base;
    c->futile = -1;
    atomic_store_explicit(&log->reserve, reserve_of(log->frames_count), memory_order_relaxed);
    atomic_store_explicit(&log->looked, 0, memory_order_relaxed);
    gwi_compact_sweep_init(c);
    *out = c;
    return GW_OK;
}

void gwi_compactor_destroy(struct gwi_compactor *c)
{
    if (!c)
        return;
    pthread_mutex_destroy(&c->lock);
    free(c);
}

void gw_store_keep_tombstones(struct gw_store *store, const struct gw_slots *slots)
{
    struct gwi_compactor *c = store->compactor;
    pthread_mutex_lock(&c->lock);
    gw_slots_clear(&c->keep);
    if (slots)
        c->keep = *slots;
    /* Release: pairs with compact_record.c's look before it takes the lock. */
    atomic_store_explicit(&c->keep_any, slots && gw_slots_count(slots) != 0, memory_order_release);
    pthread_mutex_unlock(&c->lock);
}
