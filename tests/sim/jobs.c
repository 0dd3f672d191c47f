/* jobs.c - what a server does for its job: the actions of its machine, and frames between servers.
 */
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "world.h"

#define CHUNK_BITS 4

static void source_step(int s, struct gw_source_event e);
static void target_step(int s, struct gw_target_event e);

/* ---- source -------------------------------------------------------------------------------- */

static void source_connections_close(void)
{
    conn_close(&w->control);
    for (int d = 0; d < DISPATCHERS; d++)
        conn_close(&w->bulk[d]);
}

static void collect(int s, int d)
{
    struct server *server = &w->server[s];
    for (int c = 0; c < CLIENTS; c++) {
        struct gw_applied_window *window = server->dispatcher[d].window[c];
        if (!window || !server->source)
            continue;
        const struct gw_slots *slots = &gw_source_job(server->source)->slots;
        if (gw_applied_pending(window, slots) != 0)
            fail("an operation is pending when its range is collected");
        size_t n = gw_applied_collect(window, (uint64_t)c, slots, NULL, 0);
        server->collected = realloc(server->collected,
                                    (server->collected_count + n + 1) * sizeof(struct gw_applied));
        GW_ASSERT(server->collected != NULL);
        server->collected_count +=
            gw_applied_collect(window, (uint64_t)c, slots,
                               server->collected + server->collected_count, n);
    }
    if (--server->collect_errands == 0)
        source_step(s,
                    (struct gw_source_event){.kind = GW_SOURCE_ON_APPLIED_COLLECTED,
                                             .applied = {server->collected, server->collected_count,
                                                         gw_store_version_highest(server->store)}});
}

static void open_outgoing(int s, uint64_t attempt, bool indirection)
{
    struct server *server = &w->server[s];
    const struct gw_job *job = gw_source_job(server->source);
    if (server->out)
        return;
    GW_ASSERT(gw_outgoing_create(job->id, &job->slots, CHUNK_BITS, attempt, DISPATCHERS,
                                 &server->out) == GW_OK);
    tier_outgoing(s, indirection);
}

static void ship(int s, const struct gw_source_action *a)
{
    struct server *server = &w->server[s];
    if (a->kind == GW_SOURCE_DO_RESTART_SHIPPING) {
        w->restarts++;
        gw_outgoing_indirect(server->out, a->indirection);
        gw_outgoing_restart(server->out, a->attempt, a->from_scratch);
    } else {
        open_outgoing(s, a->attempt, a->indirection);
    }
    server->shipping = true;
    for (int d = 0; d < DISPATCHERS; d++)
        conn_open(&w->bulk[d]);
}

static void source_finish(int s)
{
    struct server *server = &w->server[s];
    source_connections_close();
    if (server->sampling)
        fail("the store still gathers for a job that is over");
    tier_count(s);
    gw_source_destroy(server->source);
    gw_outgoing_destroy(server->out);
    free(server->collected);
    server->source = NULL;
    server->out = NULL;
    server->collected = NULL;
    server->collected_count = 0;
    server->shipping = server->unlinking = server->unlinked_told = false;
    server->range_set = false;
    server->stale = false; /* unlinked, or ours as before */
    server_publish(s, false);
}

static void source_cut(int s, enum gw_range_state range)
{
    struct server *server = &w->server[s];
    server->range = range;
    server->range_set = true;
    if (range == GW_RANGE_LEAVING)
        server->held = false;
    server_publish(s, true);
}

static void source_begin_unlink(int s)
{
    struct server *server = &w->server[s];
    open_outgoing(s, gw_source_attempt(server->source), false);
    gw_outgoing_unlink_begin(server->out);
    server->unlinking = true;
    for (int d = 0; d < DISPATCHERS; d++)
        for (int c = 0; c < CLIENTS; c++)
            if (server->dispatcher[d].window[c])
                gw_applied_drop(server->dispatcher[d].window[c],
                                &gw_source_job(server->source)->slots);
}

static void look_secured(int s, int unused)
{
    (void)unused;
    jobs_secured(s);
}

static void source_act(int s, const struct gw_source_action *a)
{
    switch (a->kind) {
    case GW_SOURCE_DO_CONNECT_PEER:
        conn_open(&w->control);
        break;
    case GW_SOURCE_DO_SEND_PEER:
        conn_send(&w->control, 0, a->frame, a->frame_bytes);
        break;
    case GW_SOURCE_DO_SEND_EVENT:
        if (chance(85))
            server_say_event(s, &a->event);
        break;
    case GW_SOURCE_DO_BEGIN_SAMPLING:
    case GW_SOURCE_DO_END_SAMPLING:
        tier_sample(s, a->kind == GW_SOURCE_DO_BEGIN_SAMPLING);
        break;
    case GW_SOURCE_DO_BEGIN_CUT:
        source_cut(s, a->range);
        break;
    case GW_SOURCE_DO_SECURE:
        w->server[s].source_secures = true;
        w->server[s].source_ticket = checkpoint_ask(s);
        party_call_in(s, below(2 * MS), look_secured, s, 0);
        break;
    case GW_SOURCE_DO_COLLECT_APPLIED:
        w->server[s].collect_errands = DISPATCHERS;
        for (int d = 0; d < DISPATCHERS; d++)
            party_call_in(s, below(2 * MS), collect, s, d);
        break;
    case GW_SOURCE_DO_START_SHIPPING:
    case GW_SOURCE_DO_RESTART_SHIPPING:
        ship(s, a);
        break;
    case GW_SOURCE_DO_BEGIN_UNLINK:
        source_begin_unlink(s);
        break;
    case GW_SOURCE_DO_FINISH:
        source_finish(s);
        break;
    }
}

static void source_step(int s, struct gw_source_event e)
{
    struct server *server = &w->server[s];
    if (!server->source)
        return;
    static struct gw_source_actions actions; /* large; steps do not nest */
    gw_source_step(server->source, &e, w->now_ns, &actions);
    bool restarted = false;
    for (uint32_t i = 0; i < actions.count; i++) {
        restarted |= actions.action[i].kind == GW_SOURCE_DO_RESTART_SHIPPING;
        source_act(s, &actions.action[i]);
    }
    if (restarted && gw_outgoing_done(server->out))
        source_step(s, (struct gw_source_event){.kind = GW_SOURCE_ON_ALL_CHUNKS_ACKED,
                                                .attempt = gw_outgoing_attempt(server->out)});
}

/* ---- target -------------------------------------------------------------------------------- */

static void merge(int s, int code)
{
    struct server *server = &w->server[s];
    int slot = code / DISPATCHERS, d = code % DISPATCHERS;
    if (!server->merge[slot].entries)
        return; /* the job is gone */
    for (size_t i = 0; i < server->merge[slot].count; i++) {
        const struct gw_applied *e = &server->merge[slot].entries[i];
        struct gw_applied_window **window = &server->dispatcher[d].window[e->session];
        if ((int)e->session % DISPATCHERS != d)
            continue;
        if (!*window)
            *window = gw_applied_create(GW_APPLIED_WINDOW_MIN);
        GW_ASSERT(*window && gw_applied_merge(*window, e) == GW_OK);
    }
    if (--server->merge[slot].left > 0)
        return;
    free(server->merge[slot].entries);
    server->merge[slot].entries = NULL;
    target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_MERGED,
                                            .attempt = server->merge[slot].attempt,
                                            .part = server->merge[slot].part});
}

static void begin_merge(int s, const struct gw_target_action *a)
{
    struct server *server = &w->server[s];
    int slot = 0;
    while (server->merge[slot].entries)
        slot++;
    GW_ASSERT(slot < 8);
    server->merge[slot].entries = malloc((a->entries_count + 1) * sizeof *a->entries);
    GW_ASSERT(server->merge[slot].entries != NULL);
    for (size_t i = 0; i < a->entries_count; i++)
        server->merge[slot].entries[i] = a->entries[i];
    server->merge[slot].count = a->entries_count;
    server->merge[slot].attempt = a->attempt;
    server->merge[slot].part = a->part;
    server->merge[slot].left = DISPATCHERS;
    for (int d = 0; d < DISPATCHERS; d++)
        party_call_in(s, below(3 * MS), merge, s, slot * DISPATCHERS + d);
}

/* Deleted keys of slots that are on their way here have to be remembered. */
static void keep_tombstones(int s)
{
    struct gw_slots none;
    gw_slots_clear(&none);
    if (w->server[s].jobs_known)
        gw_store_keep_tombstones(w->server[s].store, w->server[s].target ? &w->slots : &none);
}

static void target_finish(int s)
{
    struct server *server = &w->server[s];
    server->over_job = gw_target_job(server->target);
    for (int d = 0; d < DISPATCHERS; d++)
        conn_close(&w->pull[d]);
    if (server->in) {
        struct gw_incoming_progress p;
        gw_incoming_progress(server->in, &p);
        w->linked += p.linked;
    }
    gw_target_destroy(server->target);
    gw_incoming_destroy(server->in);
    gw_unlinker_destroy(server->unlinker);
    server->target = NULL;
    server->in = NULL;
    server->unlinker = NULL;
    server->pulling = server->unlinked_told = server->untold = false;
    server->range_set = false;
    keep_tombstones(s);
    server_publish(s, false);
}

static void target_cut(int s, enum gw_range_state range)
{
    struct server *server = &w->server[s];
    server->range = range;
    server->range_set = range == GW_RANGE_WAITING;
    server_publish(s, true);
}

static void fetch_map(int s, int unused)
{
    (void)unused;
    server_say_map_get(s);
}

static void receive(int s, uint64_t attempt)
{
    struct server *server = &w->server[s];
    if (server->in)
        gw_incoming_restart(server->in, attempt);
    else
        GW_ASSERT(gw_incoming_create(gw_target_job(server->target), gw_target_slots(server->target),
                                     gw_target_chunk_bits(server->target), attempt,
                                     &server->in) == GW_OK);
}

static void serve(int s, uint32_t version_highest)
{
    struct server *server = &w->server[s];
    gw_store_version_floor(server->store, version_highest);
    truth_given(s);
    server->range = GW_RANGE_ARRIVING;
    server->range_set = true;
    server->pulling = !(gw_target_flags(server->target) & GW_JOB_NO_PULLS);
    for (int d = 0; d < DISPATCHERS && server->pulling; d++)
        conn_open(&w->pull[d]);
    server_publish(s, false);
}

static void target_act(int s, const struct gw_target_action *a)
{
    struct server *server = &w->server[s];
    switch (a->kind) {
    case GW_TARGET_DO_SEND_PEER:
        conn_send(&w->control, 1, a->frame, a->frame_bytes);
        break;
    case GW_TARGET_DO_BEGIN_UNLINK:
        GW_ASSERT(gw_unlinker_create(gw_target_slots(server->target), DISPATCHERS,
                                     &server->unlinker) == GW_OK);
        break;
    case GW_TARGET_DO_BEGIN_CUT:
        target_cut(s, a->range);
        break;
    case GW_TARGET_DO_FETCH_MAP:
        party_call_in(s, below(2 * MS), fetch_map, s, 0);
        break;
    case GW_TARGET_DO_RECEIVE:
        receive(s, a->attempt);
        break;
    case GW_TARGET_DO_MERGE_APPLIED:
        begin_merge(s, a);
        break;
    case GW_TARGET_DO_BEGIN_SERVING:
        serve(s, a->version_highest);
        break;
    case GW_TARGET_DO_SECURE:
        w->server[s].target_secures = true;
        w->server[s].target_ticket = checkpoint_ask(s);
        party_call_in(s, below(2 * MS), look_secured, s, 0);
        break;
    case GW_TARGET_DO_FINISH:
        target_finish(s);
        break;
    }
}

static void target_step(int s, struct gw_target_event e)
{
    struct server *server = &w->server[s];
    struct gw_target_actions actions;
    if (!server->target)
        return;
    if (gw_target_step(server->target, &e, w->now_ns, &actions) != GW_OK)
        fail("the target calls a frame of the source malformed");
    for (uint32_t i = 0; i < actions.count; i++)
        target_act(s, &actions.action[i]);
}

/* ---- what the server hears ----------------------------------------------------------------- */

static void open_target(int s, uint64_t job, const struct gw_slots *slots)
{
    struct server *server = &w->server[s];
    GW_ASSERT(gw_target_create(job, slots, server->incarnation, server->held, &server->target) ==
              GW_OK);
    gw_target_able(server->target, tier_is_shared(s));
    w->resumed += server->held;
    keep_tombstones(s);
}

static void know_jobs(int s)
{
    struct server *server = &w->server[s];
    if (server->target && server->untold) {
        struct gw_job job = {.id = gw_target_job(server->target), .state = GW_JOB_DONE};
        if (gw_target_committed(server->target))
            target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_JOB, .job = &job});
        else
            target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_ABANDON});
        server->untold = false;
    }
    if (server->jobs_known)
        return;
    server->jobs_known = true;
    keep_tombstones(s);
    server_publish(s, false);
}

void jobs_joined(int s, uint32_t jobs)
{
    w->server[s].jobs_left = jobs;
    w->server[s].untold = w->server[s].target != NULL;
    if (jobs == 0)
        know_jobs(s);
}

static void told_source(int s, const struct gw_job *job, bool open)
{
    struct server *server = &w->server[s];
    struct gw_job with = *job;
    with.options = job_options(job->id);
    job = &with;
    if (!server->source && open) {
        GW_ASSERT(gw_source_create(job, server->incarnation, "h:s", CHUNK_BITS, &server->source) ==
                  GW_OK);
        gw_source_able(server->source, true, tier_is_shared(s));
        source_step(s, (struct gw_source_event){.kind = GW_SOURCE_ON_START});
    }
    source_step(s, (struct gw_source_event){.kind = GW_SOURCE_ON_JOB, .job = job});
}

static void told_target(int s, const struct gw_job *job, bool open)
{
    struct server *server = &w->server[s];
    /* A slot is in one open job only: an older one that we know of was cancelled. */
    if (server->target && gw_target_job(server->target) < job->id)
        target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_ABANDON});
    if (!server->target && open)
        open_target(s, job->id, &job->slots);
    server->untold = false;
    target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_JOB, .job = job});
    jobs_map_adopted(s);
}

void jobs_told(int s, const struct gw_job *job)
{
    struct server *server = &w->server[s];
    if (job->from[1] - '0' == s)
        told_source(s, job, gw_job_is_open(job->state));
    else
        told_target(s, job, gw_job_is_open(job->state));
    if (server->jobs_left && --server->jobs_left == 0)
        know_jobs(s);
}

void jobs_secured(int s)
{
    struct server *server = &w->server[s];
    uint64_t durable = server->image ? server->image->number : 0;
    if (server->source_secures && durable >= server->source_ticket) {
        server->source_secures = false;
        source_step(s, (struct gw_source_event){.kind = GW_SOURCE_ON_SECURED});
    }
    if (server->target_secures && durable >= server->target_ticket) {
        server->target_secures = false;
        target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_SECURED});
    }
}

void jobs_map_adopted(int s)
{
    target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_MAP_ADOPTED,
                                            .map_version = w->server[s].map.version,
                                            .owned = w->server[s].map.owner == s});
}

void jobs_cut_passed(int s)
{
    if (w->server[s].source)
        source_step(s, (struct gw_source_event){.kind = GW_SOURCE_ON_CUT_PASSED});
    else
        target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_CUT_PASSED});
}

void jobs_up(struct conn *c)
{
    if (c->role == ROLE_COORDINATOR)
        coordinator_up(c->a);
    else if (c->role == ROLE_CONTROL)
        source_step(w->source, (struct gw_source_event){.kind = GW_SOURCE_ON_PEER_UP});
}

void jobs_down(struct conn *c)
{
    if (c->role == ROLE_COORDINATOR) {
        coordinator_down(c->a);
    } else if (c->role == ROLE_PULL) {
        server_drop_asked(w->target, c->a);
        if (w->server[w->target].pulling)
            conn_open(c);
    } else if (w->server[w->source].source) {
        source_connections_close();
        source_step(w->source, (struct gw_source_event){.kind = GW_SOURCE_ON_PEER_DOWN});
    }
}

/* server/control_target.c */
static void look_for_source(int s)
{
    struct server *server = &w->server[s];
    if (!server->target || gw_target_committed(server->target) || w->control.up) {
        server->orphan_ns = 0;
        return;
    }
    if (server->orphan_ns == 0)
        server->orphan_ns = w->now_ns;
    if (w->now_ns - server->orphan_ns < 10000 * MS)
        return;
    server->orphan_ns = w->now_ns;
    server_say_join(s);
}

void jobs_tick(int s, int unused)
{
    look_for_source(s);
    source_step(s, (struct gw_source_event){.kind = GW_SOURCE_ON_TICK});
    target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_TICK});
    server_heartbeat(s);
    party_call_in(s, 20 * MS + below(80 * MS), jobs_tick, s, unused);
}

/* ---- turns --------------------------------------------------------------------------------- */

static void ship_turn(int s, int d)
{
    struct server *server = &w->server[s];
    uint8_t room[GW_FRAME_HEADER + 80]; /* two records */
    size_t used;
    struct gw_thread *thread = server->dispatcher[d].thread;
    gw_store_enter(thread);
    enum gw_status st =
        gw_outgoing_fill(server->out, (uint32_t)d, thread, gw_outgoing_attempt(server->out), room,
                         sizeof room, 1 + (uint32_t)below(20), &used);
    gw_store_exit(thread);
    if ((st == GW_OK || st == GW_PENDING) && used) {
        tier_sent(s, room, used);
        conn_send(&w->bulk[d], 0, room, used);
    } else if (st != GW_OK && st != GW_PENDING && st != GW_END)
        fail("fill says %s", gw_status_name(st));
}

void jobs_turn(int s, int d)
{
    struct server *server = &w->server[s];
    struct gw_thread *thread = server->dispatcher[d].thread;
    bool paused = server->source && gw_source_job(server->source)->paused;
    if (server->shipping && !server->unlinking && !paused && w->bulk[d].up && chance(50))
        ship_turn(s, d);
    if (server->unlinking && !server->unlinked_told) {
        gw_store_enter(thread);
        enum gw_status st = gw_outgoing_unlink(server->out, (uint32_t)d, thread, 64);
        gw_store_exit(thread);
        if (st == GW_END && gw_outgoing_unlinked(server->out)) {
            server->unlinked_told = true;
            source_step(s, (struct gw_source_event){.kind = GW_SOURCE_ON_UNLINKED});
        }
    }
    if (server->unlinker && !server->unlinked_told) {
        gw_store_enter(thread);
        enum gw_status st = gw_unlinker_step(server->unlinker, (uint32_t)d, thread, 64);
        gw_store_exit(thread);
        if (st == GW_END && gw_unlinker_done(server->unlinker)) {
            server->unlinked_told = true;
            server->stale = false;
            target_step(s, (struct gw_target_event){.kind = GW_TARGET_ON_UNLINKED});
        }
    }
}

void jobs_pull(int s, int d)
{
    struct server *server = &w->server[s];
    struct dispatcher *dispatcher = &server->dispatcher[d];
    struct asked *asked = NULL;
    for (uint32_t i = 0; i < 8 && !asked; i++)
        if (dispatcher->asked[i].sequence == 0)
            asked = &dispatcher->asked[i];
    if (!asked || !w->pull[d].up)
        return;
    struct gw_pull_key keys[KEYS];
    asked->count = 0;
    bool leads = chance(80);
    for (struct parked *p = dispatcher->parked; p && asked->count < KEYS; p = p->next) {
        if (!p->wanted || !p->begun || (leads && p->read_there))
            continue;
        asked->key[asked->count] = p->request.key;
        keys[asked->count++] = (struct gw_pull_key){(const uint8_t *)w->key[p->request.key],
                                                    (uint16_t)strlen(w->key[p->request.key])};
        p->pull = dispatcher->next_pull + 1;
        p->wanted = false;
    }
    if (asked->count == 0)
        return;
    uint8_t room[2048];
    asked->sequence = ++dispatcher->next_pull;
    size_t used =
        gw_incoming_pull(server->in, asked->sequence, leads, keys, asked->count, room, sizeof room);
    w->pulls += asked->count;
    conn_send(&w->pull[d], 0, room, used);
}

void jobs_follow(int s, int d)
{
    struct server *server = &w->server[s];
    struct dispatcher *dispatcher = &server->dispatcher[d];
    uint8_t room[256];
    for (struct parked *p = dispatcher->parked; p; p = p->next) {
        if (!p->led || !server->in)
            continue;
        const char *key = w->key[p->request.key];
        gw_store_enter(dispatcher->thread);
        enum gw_status st =
            gw_incoming_follow(server->in, dispatcher->thread, server->store, &p->lead,
                               (const uint8_t *)key, (uint16_t)strlen(key), room, sizeof room);
        gw_store_exit(dispatcher->thread);
        if (st == GW_PENDING || st == GW_NOT_YET)
            continue;
        w->followed += st == GW_OK;
        p->led = false;
        p->pull = 0;
        p->negative = st == GW_NOT_FOUND;
        p->read_there = gw_failed(st);
        p->wanted = st != GW_OK && st != GW_NOT_FOUND;
    }
}

/* ---- frames -------------------------------------------------------------------------------- */

static void to_target(const uint8_t *bytes, const struct gw_frame *f)
{
    int s = w->target;
    struct server *server = &w->server[s];
    struct gw_reader body = gw_frame_body(bytes, f);
    struct gw_prepare prepare;
    if (f->kind == GW_KIND_PREPARE) {
        if (gw_prepare_decode(&body, &prepare) != GW_OK)
            fail("a PREPARE does not decode");
        if (!server->target && f->session > server->over_job)
            open_target(s, f->session, &prepare.slots);
    }
    if (!server->target || gw_target_job(server->target) != f->session)
        return;
    struct gw_target_event e = {.attempt = f->view, .part = f->sequence, .count = f->count};
    e.body = body;
    e.prepare = &prepare;
    e.current =
        f->kind == GW_KIND_PREPARE && server->map.incarnation[w->source] == prepare.incarnation;
    e.kind = f->kind == GW_KIND_PREPARE   ? GW_TARGET_ON_PREPARE
             : f->kind == GW_KIND_ABANDON ? GW_TARGET_ON_ABANDON
                                          : GW_TARGET_ON_YOURS;
    target_step(s, e);
}

static void to_source(const uint8_t *bytes, const struct gw_frame *f)
{
    struct server *server = &w->server[w->source];
    if (!server->source || gw_source_job(server->source)->id != f->session)
        return;
    struct gw_source_event e = {.attempt = f->view, .part = f->sequence};
    struct gw_prepared prepared;
    e.kind = GW_SOURCE_ON_YOURS_ACK;
    if (f->kind == GW_KIND_PREPARED) {
        struct gw_reader body = gw_frame_body(bytes, f);
        if (gw_prepared_decode(&body, &prepared) != GW_OK)
            fail("a PREPARED does not decode");
        e.kind = GW_SOURCE_ON_PREPARED;
        e.prepared = &prepared;
    }
    struct gw_secured secured;
    if (f->kind == GW_KIND_SECURED) {
        struct gw_reader body = gw_frame_body(bytes, f);
        if (gw_secured_decode(&body, &secured) != GW_OK)
            fail("a SECURED does not decode");
        e.kind = GW_SOURCE_ON_TARGET_SECURED;
        e.incarnation = secured.incarnation;
    }
    source_step(w->source, e);
}

static void chunk(struct conn *c, const uint8_t *bytes, const struct gw_frame *f)
{
    struct server *server = &w->server[w->target];
    struct gw_thread *thread = server->dispatcher[(c->a + (int)f->session) % DISPATCHERS].thread;
    struct gw_incoming_result result;
    if (!server->in || server->in->job != f->session)
        return;
    enum gw_status st = GW_PENDING;
    /* Nothing overtakes it. */
    for (uint32_t tries = 0; (st == GW_PENDING || st == GW_WOULD_BLOCK) && tries < 1000; tries++) {
        uint64_t hashes[16];
        gw_store_poll(thread);
        while (gw_store_ready(thread, hashes, 16) != 0) {}
        gw_store_enter(thread);
        st = gw_incoming_chunk(server->in, thread, server->store, f, gw_frame_body(bytes, f),
                               &result);
        gw_store_exit(thread);
    }
    if (st != GW_OK)
        fail("a CHUNK frame was answered %s", gw_status_name(st));
    uint8_t ack[GW_FRAME_HEADER];
    if (result.ack_due)
        conn_send(c, 1, ack, gw_incoming_ack(server->in, &result, ack, sizeof ack));
    if (result.completed_all)
        target_step(w->target, (struct gw_target_event){.kind = GW_TARGET_ON_ALL_COMPLETE});
}

static void chunk_ack(const struct gw_frame *f)
{
    struct server *server = &w->server[w->source];
    if (server->out && gw_source_job(server->source)->id == f->session &&
        gw_outgoing_acked(server->out, f) && gw_outgoing_done(server->out))
        source_step(w->source, (struct gw_source_event){.kind = GW_SOURCE_ON_ALL_CHUNKS_ACKED,
                                                        .attempt = f->view});
}

static void pull(struct conn *c, const uint8_t *bytes, const struct gw_frame *f)
{
    struct server *server = &w->server[w->source];
    struct gw_thread *thread = server->dispatcher[c->a].thread;
    uint8_t scratch[256], room[2048];
    size_t used = 0;
    bool known = server->shipping && gw_source_job(server->source)->id == f->session;
    enum gw_status st;
    if (known) {
        gw_store_enter(thread);
        st = gw_outgoing_answer_pull(server->out, thread, server->store, f, gw_frame_body(bytes, f),
                                     scratch, sizeof scratch, room, sizeof room, &used, NULL, NULL);
        gw_store_exit(thread);
    } else {
        st = gw_outgoing_answer_unknown(f, room, sizeof room, &used);
    }
    if (st != GW_OK)
        fail("a PULL was answered %s", gw_status_name(st));
    tier_answered(w->source, room, used);
    conn_send(c, 1, room, used);
}

struct pulled {
    int s, d;
    const struct asked *asked;
};

static void pulled_one(void *ctx, uint32_t i, enum gw_status outcome,
                       const struct gw_incoming_lead *lead)
{
    struct pulled *p = ctx;
    parked_again(p->s, p->d, p->asked->key[i], outcome, lead);
}

static void pull_answer(struct conn *c, const uint8_t *bytes, const struct gw_frame *f)
{
    int s = w->target;
    struct server *server = &w->server[s];
    struct dispatcher *dispatcher = &server->dispatcher[c->a];
    for (uint32_t i = 0; i < 8; i++) {
        struct asked *asked = &dispatcher->asked[i];
        if (asked->sequence != f->sequence || !server->in || server->in->job != f->session)
            continue;
        struct pulled p = {s, c->a, asked};
        gw_store_enter(dispatcher->thread);
        enum gw_status st =
            gw_incoming_pull_answer(server->in, dispatcher->thread, server->store, f,
                                    gw_frame_body(bytes, f), asked->count, pulled_one, &p);
        gw_store_exit(dispatcher->thread);
        for (uint32_t k = 0; st == GW_RETRY && k < asked->count; k++)
            pulled_one(&p, k, GW_RETRY, NULL); /* of an earlier life of the source */
        if (st != GW_OK && st != GW_RETRY)
            fail("a PULL_ANSWER was taken for %s", gw_status_name(st));
        asked->sequence = 0;
    }
}

void jobs_frame(struct conn *c, int direction, const uint8_t *bytes, size_t size)
{
    if (c->role == ROLE_COORDINATOR) {
        if (direction == 1)
            coordinator_message(c->a, bytes);
        else
            coordinator_frame(c->a, bytes);
        return;
    }
    int from = c->role == ROLE_PULL ? w->target : w->source;
    if (!party_step(direction == 0 ? w->source + w->target - from : from))
        return;
    struct gw_frame f;
    if (gw_frame_decode(bytes, (uint32_t)size, &f) != GW_OK) {
        fail("a frame does not decode");
        return;
    }
    switch (c->role) {
    case ROLE_CONTROL:
        if (direction == 0)
            to_target(bytes, &f);
        else
            to_source(bytes, &f);
        break;
    case ROLE_BULK:
        if (direction == 0)
            chunk(c, bytes, &f);
        else
            chunk_ack(&f);
        break;
    default:
        if (direction == 0)
            pull(c, bytes, &f);
        else
            pull_answer(c, bytes, &f);
        break;
    }
}
