/* checkpoint.c - the machine that takes checkpoints; see checkpoint.h.
 *
 * Rules:
 *  1. The image belongs to one view: the cut is not begun while a view's cut is open, and no view
 *     is published before every dispatcher has crossed. Both happen on dispatcher 0.
 *  2. Nothing is taken before control has a view of the coordinator's: an image that says "view 0"
 *     would void every slot that this server owns (MIGRATION R23).
 *  3. An index snapshot serves an image only if this server has owned every slot that it owns now
 *     since the snapshot began: an older one may hold records of an earlier tenure, which have been
 *     unlinked since and whose addresses a replay from there cannot tell from new ones.
 *  4. `checkpointed` rises when state file and folder are synced, and only then is anything given
 *     back: segments, commit logs.
 *  5. Number n + 1 is the interval from the moment that cut n may have begun: who asks then gets
 *     the checkpoint behind it. */
#define _GNU_SOURCE
#include "server/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "client/wire/control.h"
#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/indirection.h"
#include "index/store_cut.h"
#include "index/store_recover.h"
#include "server/checkpoint_internal.h"
#include "server/session_image.h"

#define MS                 UINT64_C(1000000)
#define SECOND             (1000 * MS)
#define STEP_NS            (MS / 2) /* between looks at what others drive */
#define LOOK_NS            (20 * MS)
#define RETRY_NS           SECOND
#define RETRY_NS_MAX       (30 * SECOND)
#define INDEX_EVERY        16u
#define INDEX_LOG_LEAST    (UINT64_C(64) << 20)
#define INDEX_LOG_SHARE    4u
#define IDLE_INTERVALS_MAX 10u
#define PAGE_HEADER_BYTES  64u /* at least what an empty page has */
#define ALONE_STUCK_NS     (60 * SECOND)
#define ALONE_PAUSE_NS     100000
#define MIXED_TRIES        4u
#define PIN_PAUSE_NS       2000000

static const char *const phase_names[GWI_CHECKPOINT_PHASES] = {"idle", "index", "begin",
                                                               "cut",  "flush", "publish"};

static void move(struct gwi_checkpoints *c, enum gwi_checkpoint_phase next)
{
    /* Allowed: the diagram in the header; GIVE UP is a move to IDLE from anywhere. */
    GW_ASSERT(next == GWI_CHECKPOINT_IDLE || next == c->phase + 1u ||
              (c->phase == GWI_CHECKPOINT_IDLE && next == GWI_CHECKPOINT_BEGIN));
    gw_log_move("server.checkpoint", c->next, phase_names[c->phase], phase_names[next]);
    pthread_mutex_lock(&c->lock);
    c->phase = next;
    c->figures.doing = phase_names[next];
    pthread_mutex_unlock(&c->lock);
}

static uint64_t now_of(const struct gwi_checkpoints *c)
{
    const struct gwi_server *s = c->server;
    return c->alone_map || !s->dispatchers ? gw_clock_now_ns(gw_clock_system())
                                           : s->dispatcher[0]->now_ns;
}

static void post(struct gwi_checkpoints *c, enum gwi_checkpoint_job job)
{
    atomic_store_explicit(&c->done, false, memory_order_relaxed); /* the lock publishes it */
    pthread_mutex_lock(&c->lock);
    c->job = job;
    pthread_cond_signal(&c->posted);
    pthread_mutex_unlock(&c->lock);
}

static bool is_done(const struct gwi_checkpoints *c)
{
    /* Acquire: what the worker wrote before; pairs with the release there. */
    return atomic_load_explicit(&c->done, memory_order_acquire);
}

/* What the image of this moment belongs to; NULL: nobody knows yet (rule 2). */
static const struct gw_map *map_now(struct gwi_checkpoints *c, uint32_t *self)
{
    const struct gw_map *map = c->alone_map;
    if (!map) /* relaxed: written by this thread only */
        map = atomic_load_explicit(&c->server->view, memory_order_relaxed)->map;
    int at = gw_map_find(map, c->server->options.id);
    if (at < 0 || map->version == 0)
        return NULL;
    atomic_store_explicit(&c->known, true, memory_order_relaxed);
    *self = (uint32_t)at;
    return map;
}

static uint64_t operations_of(const struct gwi_server *s)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->dispatchers; i++)
        sum += atomic_load_explicit(&s->dispatcher[i]->operations, memory_order_relaxed);
    return sum;
}

static uint64_t tail_of(const struct gwi_server *s)
{
    struct gw_store_stats stats;
    gw_store_stats(s->store, &stats);
    return stats.log_tail;
}

static uint64_t flushed_of(const struct gwi_server *s)
{
    struct gw_store_stats stats;
    gw_store_stats(s->store, &stats);
    return stats.log_flushed;
}

/* ---- beginning and giving up -------------------------------------------------------------------
 */

static void forget_parts(struct gwi_checkpoints *c)
{
    for (uint32_t i = 0; i < GWI_THREADS_MAX; i++) {
        free(c->part_bytes[i]);
        c->part_bytes[i] = NULL;
        c->part[i] = (struct gwi_state_part){0};
    }
    free(c->mixed);
    c->mixed = NULL;
}

static void give_up(struct gwi_checkpoints *c, enum gw_status st, const char *why)
{
    c->retry_pause_ns = c->retry_pause_ns ? 2 * c->retry_pause_ns : RETRY_NS;
    if (c->retry_pause_ns > RETRY_NS_MAX)
        c->retry_pause_ns = RETRY_NS_MAX;
    c->retry_ns = now_of(c) + c->retry_pause_ns;
    gw_error("checkpoint_given_up", "number=%" PRIu64 " phase=%s status=%s why=\"%s\" next=retry",
             c->next, phase_names[c->phase], gw_status_name(st), why);
    pthread_mutex_lock(&c->lock);
    c->figures.given_up++;
    snprintf(c->figures.failure, sizeof c->figures.failure, "checkpoint %" PRIu64 " (%s): %s",
             c->next, phase_names[c->phase], why);
    pthread_mutex_unlock(&c->lock);
    if (c->phase >= GWI_CHECKPOINT_CUT) { /* the number is used up: dispatchers are beyond it */
        c->next++;
        forget_parts(c);
    }
    move(c, GWI_CHECKPOINT_IDLE);
}

/* After a failed sync nobody knows what is on the disk: nothing is promised any more. */
static void fail_for_good(struct gwi_checkpoints *c)
{
    struct gwi_server *s = c->server;
    gw_error("durability_failed", "why=\"%s\" next=end", c->job_why);
    fprintf(
        stderr,
        "godwit-server: --data %s: %s; after a failed sync nothing can be promised: this server "
        "ends. Check the disk; a restart recovers what was durable before\n",
        s->options.data, c->job_why);
    pthread_mutex_lock(&c->lock);
    c->figures.given_up++;
    snprintf(c->figures.failure, sizeof c->figures.failure, "%s", c->job_why);
    pthread_mutex_unlock(&c->lock);
    atomic_store(&s->durable.failed, (int)c->job_status);
    atomic_store(&s->fatal, (int)c->job_status);
    c->retry_ns = UINT64_MAX;
    c->next++;
    forget_parts(c);
    move(c, GWI_CHECKPOINT_IDLE);
}

/* Rule 3. */
static bool index_is_stale(const struct gwi_checkpoints *c, const struct gw_map *map, uint32_t self)
{
    if (c->index_wanted || c->index.number == 0)
        return true;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (map->owner[slot] == self && map->since[slot] > c->index.view)
            return true;
    return false;
}

/* Rule 3, and how much would have to be replayed. */
static bool needs_index(const struct gwi_checkpoints *c, const struct gw_map *map, uint32_t self)
{
    const struct gwi_index_file *index = &c->index;
    if (index_is_stale(c, map, self) || c->next - index->number >= INDEX_EVERY)
        return true;
    uint64_t replay = tail_of(c->server) - index->start.v;
    uint64_t bytes = index->blocks * GW_SNAPSHOT_BLOCK * INDEX_LOG_SHARE;
    return replay > (bytes > INDEX_LOG_LEAST ? bytes : INDEX_LOG_LEAST);
}

/* False: not now. */
static bool start(struct gwi_checkpoints *c)
{
    uint32_t self;
    const struct gw_map *map = map_now(c, &self);
    if (!map)
        return false;
    c->started_ns = now_of(c);
    if (needs_index(c, map, self)) {
        c->job_index = (struct gwi_index_file){.number = c->next, .view = map->server[self].view};
        move(c, GWI_CHECKPOINT_INDEX);
        post(c, GWI_JOB_INDEX);
    } else
        move(c, GWI_CHECKPOINT_BEGIN);
    return true;
}

static void index_done(struct gwi_checkpoints *c)
{
    if (c->job_status != GW_OK) {
        give_up(c, c->job_status, c->job_why);
        return;
    }
    c->index = c->job_index;
    c->index_wanted = false;
    pthread_mutex_lock(&c->lock);
    c->figures.index_bytes = c->job_bytes;
    pthread_mutex_unlock(&c->lock);
    move(c, GWI_CHECKPOINT_BEGIN);
}

/* ---- the cut -----------------------------------------------------------------------------------
 */

static void all_crossed(void *arg)
{
    struct gwi_checkpoints *c = arg;
    struct gwi_server *s = c->server;
    /* Release: what each dispatcher did before it acknowledged has been acquired by the last one
     * (cut.c, rule 4). `next` does not change while a cut is open. */
    atomic_store_explicit(&c->crossed, c->next, memory_order_release);
    if (atomic_load(&s->stopping))
        return;
    for (uint32_t i = 0; i < s->dispatchers; i++) /* they hand their sessions in now */
        gw_net_wake(s->dispatcher[i]->net);
}

static void describe(struct gwi_checkpoints *c, const struct gw_map *map, uint32_t self)
{
    const struct gwi_server *s = c->server;
    uint64_t seed = gw_store_hash_seed(s->store);
    struct gw_store_image image = c->state.image;
    c->state = (struct gwi_state){.store_id = s->data.store_id,
                                  .incarnation = s->data.incarnation,
                                  .cluster = map->cluster,
                                  .view = map->server[self].view,
                                  .segment_bytes = s->segment_bytes,
                                  .page_bits = s->memory.page_bits,
                                  .hash_seed_check = (uint32_t)(seed ^ seed >> 32),
                                  .image = image};
    c->state.index.number = c->index.number;
    c->state.index.start = c->index.start;
    c->state.index.blocks = c->index.blocks;
    c->state.index.crc = c->index.crc;
    c->state.index.view = c->index.view;
    snprintf(c->state.server_id, sizeof c->state.server_id, "%s", s->options.id);
    /* The gaps are the store's; those below the image are of no use to anybody. */
    while (c->state.image.gaps_count && c->state.image.gaps[0].to.v <= image.begin.v) {
        c->state.image.gaps++;
        c->state.image.gaps_count--;
    }
}

/* GW_OK: dispatchers cross; GW_RETRY: not now. */
static enum gw_status cut(struct gwi_checkpoints *c)
{
    struct gwi_server *s = c->server;
    struct gw_epoch *epoch = gw_store_epoch(s->store);
    uint32_t self;
    const struct gw_map *map = map_now(c, &self);
    if (!map || gw_cut_open(epoch) != 0) /* rule 1 */
        return GW_RETRY;
    /* A slot has come meanwhile. How much was written meanwhile is no reason: where the disk is
     * busy with it, the next snapshot would be as old when it is whole, and so on without end. */
    if (index_is_stale(c, map, self)) {
        move(c, GWI_CHECKPOINT_IDLE);
        return start(c) ? GW_PENDING : GW_RETRY;
    }
    atomic_store(&s->durable.interval, c->next + 1); /* rule 5 */
    enum gw_status st = gw_store_cut_begin(s->store, c->next, &c->state.image);
    if (st != GW_OK)
        return GW_RETRY;
    describe(c, map, self);
    atomic_store_explicit(&c->part_failed, GW_OK, memory_order_relaxed);
    atomic_store_explicit(&c->parts_left, c->alone_map ? 0 : s->dispatchers, memory_order_relaxed);
    c->crossing = true;
    c->last_ns = now_of(c);
    c->operations = operations_of(s);
    move(c, GWI_CHECKPOINT_CUT);
    st = gw_cut_publish(epoch, &(struct gw_cut){.phase = GWI_CUT_CHECKPOINT | c->next,
                                                .done = all_crossed,
                                                .arg = c});
    GW_ASSERT(st == GW_OK); /* none was open, and only this thread publishes */
    return GW_OK;
}

static void crossed(struct gwi_checkpoints *c)
{
    const struct gwi_server *s = c->server;
    uint64_t gaps_from = (uint64_t)(c->state.image.gaps_count);
    const struct gw_addr_range *gaps = c->state.image.gaps;
    gw_store_cut_numbers(s->store, &c->state.image);
    c->state.image.gaps = gaps;
    c->state.image.gaps_count = (uint32_t)gaps_from;
    c->state.created_ms = gw_clock_wall_ms(gw_clock_system());
    c->crossing = false;
}

/* All dispatchers have crossed and handed in. */
static void collected(struct gwi_checkpoints *c, uint32_t parts)
{
    int st = atomic_load_explicit(&c->part_failed, memory_order_relaxed); /* parts_left acquired */
    if (st != GW_OK) {
        give_up(c, (enum gw_status)st, "no memory for the sessions");
        return;
    }
    /* Behind the last crossing: a session that was forgotten before it is not in the image, so the
     * counter must have it. One that was forgotten later may be counted too early: then a client
     * is in doubt that need not be. */
    c->state.forgotten = atomic_load(&c->server->durable.forgotten);
    c->state.parts = c->part;
    c->state.parts_count = parts;
    move(c, GWI_CHECKPOINT_FLUSH);
}

static void flushed(struct gwi_checkpoints *c)
{
    struct gw_store *store = c->server->store;
    uint64_t room = 0, count = gw_store_mixed_chains(store, NULL, 0);
    /* More may come while they are counted: then with more room. */
    for (uint32_t tries = 0; tries < MIXED_TRIES && count > room && count != UINT64_MAX; tries++) {
        free(c->mixed);
        room = count + count / 8 + 64;
        c->mixed = malloc(room * sizeof *c->mixed);
        count = c->mixed ? gw_store_mixed_chains(store, c->mixed, room) : UINT64_MAX;
    }
    if (count > room) {
        give_up(c, GW_E_NOMEM, "no memory for what recovery needs beside the index");
        return;
    }
    c->state.mixed = c->mixed;
    c->state.mixed_count = count;
    move(c, GWI_CHECKPOINT_PUBLISH);
    post(c, GWI_JOB_PUBLISH);
}

/* ---- the end -----------------------------------------------------------------------------------
 */

static void count(struct gwi_checkpoints *c, uint64_t before)
{
    const struct gwi_state *s = &c->state;
    uint64_t sessions = 0, now = now_of(c), bytes = s->image.end.v - before;
    for (uint32_t i = 0; i < s->parts_count; i++)
        sessions += s->parts[i].sessions;
    pthread_mutex_lock(&c->lock);
    struct gwi_checkpoint_figures *f = &c->figures;
    f->number = s->image.number;
    f->finished_ms = gw_clock_wall_ms(gw_clock_system());
    f->duration_ns = now - c->started_ns;
    f->flushed_bytes = bytes;
    f->state_bytes = c->job_bytes;
    f->sessions = sessions;
    f->index = s->index.number == s->image.number;
    f->taken++;
    f->failure[0] = 0;
    pthread_mutex_unlock(&c->lock);
    gw_info("checkpoint",
            "number=%" PRIu64 " ms=%" PRIu64 " bytes=%" PRIu64 " index=%" PRIu64
            " sessions=%" PRIu64 " view=%" PRIu64,
            s->image.number, (now - c->started_ns) / MS, bytes, s->index.number, sessions, s->view);
}

static void finish(struct gwi_checkpoints *c)
{
    struct gwi_server *s = c->server;
    struct gwi_state kept = {0};
    uint64_t before = c->newest.image.number ? c->newest.image.end.v : c->state.image.begin.v;
    if (gwi_state_copy(&c->state, &kept) != GW_OK) /* only what is needed later: numbers */
        kept = (struct gwi_state){.image = {.number = c->state.image.number,
                                            .begin = c->state.image.begin,
                                            .end = c->state.image.end},
                                  .index.number = c->state.index.number};
    count(c, before);
    gwi_state_fini(&c->older);
    c->older = c->newest;
    c->newest = kept;
    c->retry_pause_ns = c->retry_ns = 0;
    c->log_floor = s->durable.mode == GWI_DURABILITY_COMMIT ? gwi_commit_log_bytes(s) : 0;
    c->intervals_idle = 0;
    forget_parts(c);
    gw_addr begin = c->older.image.number ? c->older.image.begin : c->newest.image.begin;
    gw_addr end = c->older.image.number ? c->older.image.end : c->newest.image.end;
    if (c->pinned.image.number && c->pinned.image.begin.v < begin.v)
        begin = c->pinned.image.begin;
    if (c->pinned.image.number && c->pinned.image.end.v < end.v)
        end = c->pinned.image.end;
    gw_store_retain(s->store, begin, c->newest.image.end);
    gw_store_foreign_retained(s->store, end.v); /* needs of other logs end (MIGRATION R17) */
    uint64_t number = c->next++;
    move(c, GWI_CHECKPOINT_IDLE);
    /* seq_cst: dispatchers compare it with what they look at around it. */
    atomic_store(&s->durable.checkpointed, number);
    for (uint32_t i = 0; i < s->dispatchers; i++) /* clients are told, logs go */
        gw_net_wake(s->dispatcher[i]->net);
}

static void published(struct gwi_checkpoints *c)
{
    if (c->job_fatal)
        fail_for_good(c);
    else if (c->job_status != GW_OK)
        give_up(c, c->job_status, c->job_why);
    else
        finish(c);
}

/* ---- turns -------------------------------------------------------------------------------------
 */

/* Is there a log of another server that only older checkpoints of ours need, none of what stands
 * here now? Its owner keeps its objects until those are gone, and so they go, however idle we are.
 */
static bool holds_for_nothing(const struct gwi_server *s)
{
    struct gw_foreign_need need[GW_HEARTBEAT_NEEDS_MAX];
    uint32_t n = gw_store_foreign(s->store, need, GW_HEARTBEAT_NEEDS_MAX);
    for (uint32_t i = 0; i < n && i < GW_HEARTBEAT_NEEDS_MAX; i++)
        if (need[i].retained_only)
            return true;
    return false;
}

/* The interval has passed: has anything been written? A cut closes what lies below it, so that the
 * first change after it goes above. */
static bool is_worth_it(struct gwi_checkpoints *c)
{
    if (holds_for_nothing(c->server))
        return true;
    if (operations_of(c->server) == c->operations)
        return false;
    if (c->newest.image.number == 0 ||
        tail_of(c->server) > c->newest.image.end.v + PAGE_HEADER_BYTES)
        return true;
    /* Reads only, or writes that changed nothing, whose answers clients keep until they are
     * durable: now and then. */
    return ++c->intervals_idle >= IDLE_INTERVALS_MAX;
}

static bool is_wanted(struct gwi_checkpoints *c, uint64_t now)
{
    struct gwi_server *s = c->server;
    const struct gwi_options *o = &s->options;
    uint32_t self;
    if (now < c->retry_ns ||
        (!atomic_load_explicit(&c->known, memory_order_relaxed) && !map_now(c, &self)))
        return false;
    if (atomic_load_explicit(&c->asked, memory_order_acquire) > c->newest.image.number ||
        gw_store_wants_checkpoint(s->store))
        return true;
    if (o->checkpoint_interval_s && now - c->last_ns >= o->checkpoint_interval_s * SECOND) {
        if (is_worth_it(c))
            return true;
        c->last_ns = now;
    }
    if (s->durable.mode != GWI_DURABILITY_COMMIT || now < c->look_ns)
        return false;
    c->look_ns = now + LOOK_NS;
    uint64_t bytes = gwi_commit_log_bytes(s);
    return bytes > o->commit_log_bytes && bytes > c->log_floor + o->commit_log_bytes / 4;
}

static uint64_t when(const struct gwi_checkpoints *c, uint64_t now)
{
    uint64_t interval = c->server->options.checkpoint_interval_s * SECOND;
    uint64_t due = interval ? c->last_ns + interval : UINT64_MAX;
    if (now < c->retry_ns && (c->retry_pause_ns != 0 || due < c->retry_ns))
        due = c->retry_ns;
    return due;
}

/* One step; when the next one may be possible. */
static uint64_t step(struct gwi_checkpoints *c, uint64_t now)
{
    switch (c->phase) {
    case GWI_CHECKPOINT_IDLE:
        if (!is_wanted(c, now))
            return when(c, now);
        return start(c) ? 0 : now + LOOK_NS;
    case GWI_CHECKPOINT_INDEX:
        if (!is_done(c))
            return UINT64_MAX; /* the worker wakes us */
        index_done(c);
        return 0;
    case GWI_CHECKPOINT_BEGIN:
        return cut(c) == GW_RETRY ? now + STEP_NS : 0;
    case GWI_CHECKPOINT_CUT:
        /* Acquire, both: what the dispatchers did before they crossed, what they handed in. */
        if (atomic_load_explicit(&c->crossed, memory_order_acquire) != c->next)
            return UINT64_MAX;
        if (c->crossing)
            crossed(c);
        if (atomic_load_explicit(&c->parts_left, memory_order_acquire) != 0)
            return UINT64_MAX; /* the last one wakes us */
        collected(c, c->alone_map ? c->server->options.threads : c->server->dispatchers);
        return 0;
    case GWI_CHECKPOINT_FLUSH:
        if (!gw_store_cut_flushed(c->server->store, c->state.image.end))
            return now + STEP_NS; /* each turn polls the store */
        flushed(c);
        return 0;
    case GWI_CHECKPOINT_PUBLISH:
        if (!is_done(c))
            return UINT64_MAX;
        published(c);
        return 0;
    case GWI_CHECKPOINT_PHASES:
        break;
    }
    GW_ASSERT(false);
    return 0;
}

/* The newest checkpoint is kept for a backup, or is not any more. */
static void pin_turn(struct gwi_checkpoints *c)
{
    /* Acquire: pairs with the backup's release. */
    int pin = atomic_load_explicit(&c->pin, memory_order_acquire);
    if (pin == GWI_PIN_WANTED) {
        c->pin_status =
            c->newest.image.number ? gwi_state_copy(&c->newest, &c->pinned) : GW_NOT_FOUND;
        atomic_store_explicit(&c->pin, c->pin_status == GW_OK ? GWI_PIN_HELD : GWI_PIN_NONE,
                              memory_order_release);
    } else if (pin == GWI_PIN_RELEASED && c->phase != GWI_CHECKPOINT_PUBLISH) {
        gwi_state_fini(&c->pinned); /* the worker reads it while it publishes */
        c->pinned = (struct gwi_state){0};
        atomic_store_explicit(&c->pin, GWI_PIN_NONE, memory_order_release);
    }
}

uint64_t gwi_checkpoint_turn(struct gwi_server *s)
{
    struct gwi_checkpoints *c = s->checkpoints;
    if (!c)
        return UINT64_MAX;
    if (atomic_load_explicit(&c->pin, memory_order_relaxed) != GWI_PIN_NONE &&
        c->phase != GWI_CHECKPOINT_PUBLISH)
        pin_turn(c);
    uint64_t now = now_of(c), due = 0;
    for (int steps = 0; due == 0 && steps < 4; steps++)
        due = step(c, now);
    return due;
}

bool gwi_checkpoint_is_crossing(const struct gwi_server *s)
{
    return s->checkpoints && s->checkpoints->crossing;
}

/* ---- alone -------------------------------------------------------------------------------------
 */

static enum gw_status hand_in_all(struct gwi_checkpoints *c, struct gwi_sessions *sessions,
                                  uint32_t threads)
{
    for (uint32_t i = 0; i < threads; i++) {
        gwi_session_image_open(&sessions[i], c->next);
        while (!gwi_session_image_copy(&sessions[i], UINT32_MAX)) {}
        enum gw_status st = gwi_session_image_fetch(&sessions[i], &c->part_bytes[i], &c->part[i].n,
                                                    &c->part[i].sessions);
        if (st != GW_OK)
            return st;
        c->part[i].bytes = c->part_bytes[i];
    }
    return GW_OK;
}

enum gw_status gwi_checkpoint_alone(struct gwi_server *s, struct gw_thread *thread,
                                    struct gwi_sessions *sessions, uint32_t threads,
                                    const struct gw_map *map)
{
    struct gwi_checkpoints *c = s->checkpoints;
    uint64_t number = c->next, given_up = c->figures.given_up, since = 0, before = 0, now;
    bool sessions_taken = false;
    enum gw_status st = GW_OK;
    c->alone_map = map;
    if (!start(c))
        st = GW_E_INVALID; /* not in the map: the caller has looked */
    while (st == GW_OK && s->durable.checkpointed < number) {
        now = now_of(c);
        /* Stuck: no page for the cut, or nothing of what lies below it reaches the device. */
        bool waits = c->phase == GWI_CHECKPOINT_BEGIN || c->phase == GWI_CHECKPOINT_FLUSH;
        uint64_t flushed = flushed_of(s);
        since = since && waits && flushed == before ? since : now;
        before = flushed;
        if (c->phase == GWI_CHECKPOINT_CUT && !sessions_taken) {
            st = hand_in_all(c, sessions, threads);
            sessions_taken = true;
        }
        (void)step(c, now);
        (void)gw_store_poll(thread);
        gw_store_enter(thread); /* crosses */
        struct gw_cut open;
        if (gw_cut_next(gw_store_epoch(s->store), gw_store_epoch_slot(thread), &open)) {
            gw_store_cross(thread);
            gw_cut_acknowledge(gw_store_epoch(s->store), gw_store_epoch_slot(thread));
        }
        gw_store_exit(thread);
        if (waits && now - since > ALONE_STUCK_NS)
            st = GW_E_FULL;
        else if (c->figures.given_up != given_up)
            st = c->job_status != GW_OK ? c->job_status : GW_E_NOMEM;
        nanosleep(&(struct timespec){.tv_nsec = ALONE_PAUSE_NS}, NULL);
    }
    c->alone_map = NULL;
    if (st != GW_OK)
        fprintf(
            stderr,
            "godwit-server: --data %s: no checkpoint can be taken of what was recovered: %s%s%s; "
            "nothing is lost: make room and start again\n",
            s->options.data, gw_status_text(st), c->job_why[0] ? ": " : "", c->job_why);
    return st;
}

/* ---- any thread --------------------------------------------------------------------------------
 */

uint64_t gwi_checkpoint_ask(struct gwi_server *s)
{
    struct gwi_checkpoints *c = s->checkpoints;
    uint64_t number = atomic_load(&s->durable.interval);
    uint64_t asked = atomic_load_explicit(&c->asked, memory_order_relaxed);
    /* Release: pairs with the acquire in is_wanted. */
    while (asked < number &&
           !atomic_compare_exchange_weak_explicit(&c->asked, &asked, number, memory_order_release,
                                                  memory_order_relaxed)) {}
    if (asked < number && s->dispatchers)
        gw_net_wake(s->dispatcher[0]->net);
    return number;
}

void gwi_checkpoint_sessions(struct gwi_server *s, uint32_t dispatcher, uint64_t number,
                             enum gw_status st, uint8_t *bytes, size_t n, uint32_t sessions)
{
    struct gwi_checkpoints *c = s->checkpoints;
    GW_ASSERT(c && number == c->next && !c->part_bytes[dispatcher]);
    if (st != GW_OK)
        atomic_store_explicit(&c->part_failed, (int)st, memory_order_relaxed);
    c->part_bytes[dispatcher] = bytes;
    c->part[dispatcher] = (struct gwi_state_part){bytes, n, sessions};
    /* acq_rel: the last one has acquired what the others handed in, and its zero releases it. */
    if (atomic_fetch_sub_explicit(&c->parts_left, 1, memory_order_acq_rel) == 1)
        gw_net_wake(s->dispatcher[0]->net);
}

bool gwi_checkpoint_is_possible(const struct gwi_server *s)
{
    return s->checkpoints && atomic_load_explicit(&s->checkpoints->known, memory_order_relaxed);
}

bool gwi_checkpoint_crossed(const struct gwi_server *s, uint64_t number)
{
    return atomic_load_explicit(&s->checkpoints->crossed, memory_order_acquire) >= number;
}

enum gw_status gwi_checkpoint_pin(struct gwi_server *s, struct gwi_state *out)
{
    struct gwi_checkpoints *c = s->checkpoints;
    int pin;
    while (atomic_load_explicit(&c->pin, memory_order_acquire) != GWI_PIN_NONE) {
        if (atomic_load(&s->stopping))
            return GW_E_CANCELLED;
        nanosleep(&(struct timespec){.tv_nsec = PIN_PAUSE_NS}, NULL);
    }
    atomic_store_explicit(&c->pin, GWI_PIN_WANTED, memory_order_release);
    gw_net_wake(s->dispatcher[0]->net);
    while ((pin = atomic_load_explicit(&c->pin, memory_order_acquire)) == GWI_PIN_WANTED) {
        if (atomic_load(&s->stopping))
            return GW_E_CANCELLED;
        nanosleep(&(struct timespec){.tv_nsec = PIN_PAUSE_NS}, NULL);
    }
    if (pin == GWI_PIN_NONE)
        return c->pin_status;
    enum gw_status st = gwi_state_copy(&c->pinned, out);
    if (st != GW_OK)
        gwi_checkpoint_unpin(s);
    return st;
}

void gwi_checkpoint_unpin(struct gwi_server *s)
{
    atomic_store_explicit(&s->checkpoints->pin, GWI_PIN_RELEASED, memory_order_release);
}

void gwi_checkpoint_figures(const struct gwi_server *s, struct gwi_checkpoint_figures *out)
{
    struct gwi_checkpoints *c = s->checkpoints;
    if (!c) {
        *out = (struct gwi_checkpoint_figures){.doing = "none"};
        return;
    }
    pthread_mutex_lock(&c->lock);
    *out = c->figures;
    pthread_mutex_unlock(&c->lock);
}

/* ---- creation ----------------------------------------------------------------------------------
 */

static bool keep(const struct gwi_state *from, struct gwi_state *to)
{
    return !from || gwi_state_copy(from, to) == GW_OK;
}

enum gw_status gwi_checkpoint_create(struct gwi_server *s, const struct gwi_checkpoint_start *start)
{
    struct gwi_checkpoints *c = aligned_alloc(GW_CACHE_LINE, (sizeof *c + GW_CACHE_LINE - 1) /
                                                                 GW_CACHE_LINE * GW_CACHE_LINE);
    if (!c)
        return GW_E_NOMEM;
    memset(c, 0, sizeof *c);
    c->server = s;
    c->next = start->interval;
    c->last_ns = gw_clock_now_ns(gw_clock_system());
    c->index_wanted = start->index_wanted;
    c->figures.doing = phase_names[0];
    c->figures.number = start->number;
    if (!keep(start->newest, &c->newest) || !keep(start->older, &c->older))
        goto fail_state;
    c->index = (struct gwi_index_file){.number = c->newest.index.number,
                                       .start = c->newest.index.start,
                                       .blocks = c->newest.index.blocks,
                                       .crc = c->newest.index.crc,
                                       .view = c->newest.index.view};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->posted, NULL);
    if (pthread_create(&c->thread, NULL, gwi_checkpoint_worker, c) != 0)
        goto fail_thread;
    atomic_store(&s->durable.interval, start->interval);
    atomic_store(&s->durable.checkpointed, start->number);
    s->checkpoints = c;
    return GW_OK;

fail_thread:
    pthread_cond_destroy(&c->posted);
    pthread_mutex_destroy(&c->lock);
fail_state:
    gwi_state_fini(&c->newest);
    gwi_state_fini(&c->older);
    free(c);
    return GW_E_NOMEM;
}

void gwi_checkpoint_stop(struct gwi_server *s)
{
    struct gwi_checkpoints *c = s->checkpoints;
    if (!c || atomic_exchange(&c->stop, true))
        return;
    post(c, GWI_JOB_STOP);
    pthread_join(c->thread, NULL);
}

void gwi_checkpoint_destroy(struct gwi_server *s)
{
    struct gwi_checkpoints *c = s->checkpoints;
    if (!c)
        return;
    gwi_checkpoint_stop(s);
    pthread_cond_destroy(&c->posted);
    pthread_mutex_destroy(&c->lock);
    forget_parts(c);
    gwi_state_fini(&c->newest);
    gwi_state_fini(&c->older);
    gwi_state_fini(&c->pinned);
    free(c);
    s->checkpoints = NULL;
}
