/* control_source.c - does what the machine of an outgoing job says: connections, cuts, collecting,
 * shipping, unlinking. No decision is made here; see migration/source.h. */
#include <stdlib.h>
#include <string.h>

#include "index/base/log_line.h"
#include "index/device.h"
#include "index/indirection.h"
#include "server/control_internal.h"

#define RATE_OVER_NS 400000000ull

struct gwi_source_slot *gwi_source_find(struct gwi_control *c, uint64_t id)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        if (c->source[i].machine && c->source[i].id == id)
            return &c->source[i];
    return NULL;
}

static void peer_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct gwi_source_slot *s = ctx;
    if (st == GW_OK || s->peer != conn)
        return; /* up means welcomed */
    s->peer = NULL;
    gwi_source_event(s, &(struct gw_source_event){.kind = GW_SOURCE_ON_PEER_DOWN});
}

static void peer_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    peer_connected(ctx, conn, st == GW_OK ? GW_E_CLOSED : st);
}

static enum gw_status send_map(struct gwi_source_slot *s, struct gw_conn *conn)
{
    const struct gw_map *map = s->control->map;
    size_t room_bytes = GW_FRAME_HEADER + gw_map_wire_bytes(map);
    uint8_t *room = gw_conn_reserve(conn, room_bytes);
    if (!room)
        return GW_E_LIMIT;
    struct gw_writer w = gw_writer_of(room + GW_FRAME_HEADER, room_bytes - GW_FRAME_HEADER);
    gw_map_encode(map, &w);
    struct gw_frame f = {.bytes = GW_FRAME_HEADER + (uint32_t)gw_writer_used(&w),
                         .kind = GW_KIND_MAP,
                         .session = s->id,
                         .view = map->version};
    gw_frame_encode(&f, room);
    gw_conn_commit(conn, w.bad ? 0 : f.bytes);
    return GW_OK;
}

static enum gw_status peer_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                                 uint32_t bytes)
{
    struct gwi_source_slot *s = ctx;
    struct gw_frame f;
    if (gw_frame_decode(frame, bytes, &f) != GW_OK)
        return GW_E_PROTOCOL;
    if (s->peer != conn)
        return GW_OK; /* given up already */
    struct gw_reader r = gw_reader_of(frame + GW_FRAME_HEADER, bytes - GW_FRAME_HEADER);
    struct gw_source_event event = {.attempt = f.view, .part = f.sequence};
    struct gw_prepared prepared;
    struct gw_secured secured;
    switch (f.kind) {
    case GW_KIND_WELCOME:
        event.kind = GW_SOURCE_ON_PEER_UP;
        break;
    case GW_KIND_PREPARED:
        if (gw_prepared_decode(&r, &prepared) != GW_OK)
            return GW_E_PROTOCOL;
        event.kind = GW_SOURCE_ON_PREPARED;
        event.prepared = &prepared;
        break;
    case GW_KIND_SECURED:
        if (gw_secured_decode(&r, &secured) != GW_OK)
            return GW_E_PROTOCOL;
        event.kind = GW_SOURCE_ON_TARGET_SECURED;
        event.incarnation = secured.incarnation;
        break;
    case GW_KIND_YOURS_ACK:
        event.kind = GW_SOURCE_ON_YOURS_ACK;
        break;
    case GW_KIND_MAP_GET:
        return send_map(s, conn);
    default:
        return GW_E_PROTOCOL;
    }
    gwi_source_event(s, &event);
    return GW_OK;
}

static const struct gwi_out_events peer_events = {peer_connected, peer_frame, peer_closed};

static void drop_peer(struct gwi_source_slot *s)
{
    struct gw_conn *conn = s->peer;
    s->peer = NULL;
    if (conn)
        gw_conn_close(conn);
}

static void connect_peer(struct gwi_source_slot *s)
{
    drop_peer(s);
    const struct gw_job *job = gw_source_job(s->machine);
    struct gwi_dispatcher *d = s->control->d;
    struct gw_hello hello = {.role = GW_ROLE_PEER_CONTROL};
    memcpy(hello.id, d->server->options.id, sizeof hello.id);
    uint8_t frame[GW_FRAME_HEADER + 128];
    struct gw_writer w = gw_writer_of(frame + GW_FRAME_HEADER, sizeof frame - GW_FRAME_HEADER);
    gw_hello_encode(&hello, &w);
    struct gw_frame f = {.bytes = GW_FRAME_HEADER + (uint32_t)gw_writer_used(&w),
                         .kind = GW_KIND_HELLO,
                         .session = s->id};
    gw_frame_encode(&f, frame);
    /* A failure here counts as a connection that was lost: the machine tries again by its timer. */
    if (gwi_link_open(d, job->to_address, &peer_events, s, &s->peer) == GW_OK)
        (void)gwi_link_send(s->peer, frame, f.bytes);
}

static void collect(struct gwi_source_slot *s)
{
    struct gwi_control *c = s->control;
    if (s->errands)
        return;
    free(s->collected);
    s->collected = NULL;
    s->collected_count = 0;
    for (uint32_t i = 0; i < c->server->dispatchers; i++) {
        struct gwi_errand *e = calloc(1, sizeof *e);
        if (!e)
            break;
        e->job = s->id;
        e->slots = s->slots;
        if (gwi_control_errand(c, i, GWI_MAIL_COLLECT, e))
            s->errands++;
    }
}

void gwi_source_collected(struct gwi_control *c, struct gwi_errand *e)
{
    struct gwi_source_slot *s = gwi_source_find(c, e->job);
    if (!s) {
        gwi_errand_free(e);
        return;
    }
    struct gw_applied *all =
        realloc(s->collected, (s->collected_count + e->count + 1) * sizeof *all);
    s->collected = all ? all : s->collected;
    if (!all ||
        e->status !=
            GW_OK) { /* nothing may be left out of "yours" (R7): ask that dispatcher again */
        free(e->entries);
        e->entries = NULL;
        e->count = 0;
        if (!gwi_control_errand(c, e->dispatcher, GWI_MAIL_COLLECT, e))
            gw_error("collect_applied", "job=%llu status=e_nomem next=\"job stalls\"",
                     (unsigned long long)s->id);
        return;
    }
    if (e->count)
        memcpy(all + s->collected_count, e->entries, e->count * sizeof *all);
    s->collected_count += e->count;
    s->errands--;
    gwi_errand_free(e);
    if (s->errands)
        return;
    struct gw_source_event event = {.kind = GW_SOURCE_ON_APPLIED_COLLECTED};
    event.applied.entries = s->collected;
    event.applied.count = s->collected_count;
    event.applied.version_highest = gw_store_version_highest(c->server->store);
    gwi_source_event(s, &event);
}

/* What the operator asks, and pause and resume: shipping only; pulls, "yours" and closing go on. */
static void set_asked(struct gwi_source_slot *s)
{
    if (!s->job)
        return;
    const struct gw_job_options *options = &gw_source_job(s->machine)->options;
    atomic_store_explicit(&s->job->rate_bytes, options->rate_bytes, memory_order_relaxed);
    atomic_store_explicit(&s->job->impact_ns, options->max_impact_us * UINT64_C(1000),
                          memory_order_relaxed);
    bool paused = gw_source_job(s->machine)->paused;
    if (atomic_exchange_explicit(&s->job->paused, paused, memory_order_relaxed) && !paused)
        gwi_control_wake_all(s->control);
}

/* ---- hot records ---------------------------------------------------------------------------- */

static uint64_t sample_bytes(const struct gwi_source_slot *s, const struct gw_store_stats *stats)
{
    uint64_t asked = gw_source_job(s->machine)->options.sample_bytes;
    return asked ? asked : stats->log_bytes_total / 8;
}

/* The store has one set of slots of which it gathers what is hot: of all jobs that want it. */
static void sample(struct gwi_source_slot *s, bool on)
{
    struct gwi_control *c = s->control;
    struct gw_slots slots;
    gw_slots_clear(&slots);
    if (on) {
        struct gw_store_stats stats;
        gw_store_stats(c->server->store, &stats);
        s->sample_from = stats.log_tail;
        s->sample_bytes = sample_bytes(s, &stats);
    }
    s->sampling = on;
    bool any = false;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        if (!c->source[i].machine || !c->source[i].sampling)
            continue;
        any = true;
        for (uint32_t w = 0; w < sizeof slots.word / sizeof slots.word[0]; w++)
            slots.word[w] |= c->source[i].slots.word[w];
    }
    gw_store_sample(c->server->store, any ? &slots : NULL);
}

/* Has the tail moved on as far as sampling may make it? What others write counts, too: then memory
 * turns over so fast that gathering longer would only push more of it out. */
static bool sampled_enough(const struct gwi_source_slot *s)
{
    if (!s->sampling)
        return false;
    struct gw_store_stats stats;
    gw_store_stats(s->control->server->store, &stats);
    return stats.log_tail - s->sample_from >= s->sample_bytes;
}

/* ---- the data plane -------------------------------------------------------------------------- */

/* What will have to be sent, as far as the whole store's numbers say. */
static void estimate(const struct gwi_source_slot *s, bool indirection,
                     struct gw_outgoing_options *o)
{
    struct gwi_control *c = s->control;
    struct gw_store_stats stats;
    gw_store_stats(c->server->store, &stats);
    uint64_t ours = 0, range = gw_slots_count(&s->slots);
    int self = c->map ? gw_map_find(c->map, c->server->options.id) : -1;
    for (uint32_t slot = 0; self >= 0 && slot < GW_SLOTS; slot++)
        ours += c->map->owner[slot] == self;
    double share = (double)range / (double)(ours + range);
    uint64_t used = stats.log_bytes_used ? stats.log_bytes_used : 1;
    if (indirection) { /* the part of the log that is in memory */
        uint64_t memory = stats.log_tail - stats.log_head;
        share *= memory < used ? (double)memory / (double)used : 1;
    }
    o->bytes = (uint64_t)((double)stats.live_bytes * share);
    o->records = (uint64_t)((double)stats.keys * share);
    if (gw_source_sampled(s->machine))
        o->hot_bytes = sample_bytes(s, &stats);
}

/* The job's data plane in the table that the dispatchers look at. */
static bool open_data_plane(struct gwi_source_slot *s, uint64_t attempt, bool indirection)
{
    struct gwi_control *c = s->control;
    if (s->job)
        return true;
    struct gwi_outgoing_job *job = calloc(1, sizeof *job);
    if (!job)
        return false;
    job->id = s->id;
    job->slots = s->slots;
    memcpy(job->to_address, gw_source_job(s->machine)->to_address, sizeof job->to_address);
    if (gw_outgoing_create(s->id, &s->slots, gw_source_chunk_bits(s->machine), attempt,
                           c->server->dispatchers, &job->out) != GW_OK) {
        free(job);
        return false;
    }
    s->job = job;
    struct gw_outgoing_options options = {.map_version = gw_source_job(s->machine)->commit_version};
    estimate(s, indirection, &options);
    gw_outgoing_set(job->out, &options);
    gw_outgoing_indirect(job->out, indirection);
    set_asked(s); /* before anybody sees it */
    atomic_store_explicit(&c->server->outgoing[s - c->source], job, memory_order_release);
    gwi_control_count_jobs(c);
    return true;
}

static void ship(struct gwi_source_slot *s, const struct gw_source_action *a)
{
    bool fresh = s->job == NULL;
    if (!open_data_plane(s, a->attempt, a->indirection)) {
        gw_error("outgoing_job", "job=%llu status=e_nomem next=retry", (unsigned long long)s->id);
        return;
    }
    if (!fresh) {
        gw_outgoing_indirect(s->job->out, a->indirection);
        gw_outgoing_restart(s->job->out, a->attempt, a->from_scratch);
        atomic_store_explicit(&s->job->done_told, false,
                              memory_order_relaxed); /* before `shipping` */
    }
    atomic_store_explicit(&s->job->shipping, a->attempt, memory_order_release);
    gwi_control_wake_all(s->control);
    if (gw_outgoing_done(s->job->out))
        gwi_dispatcher_post(s->control->d, GWI_MAIL_SHIPPED, s->id, NULL);
}

static void unlink_range(struct gwi_source_slot *s)
{
    struct gwi_control *c = s->control;
    if (!open_data_plane(s, gw_source_attempt(s->machine), false))
        return;
    gw_outgoing_unlink_begin(s->job->out);
    atomic_store_explicit(&s->job->unlinking, true, memory_order_release);
    for (uint32_t i = 0; i < c->server->dispatchers; i++) {
        struct gwi_errand *e = calloc(1, sizeof *e);
        if (!e)
            break; /* entries that stay cost memory only: the client never asks here again */
        e->slots = s->slots;
        (void)gwi_control_errand(c, i, GWI_MAIL_DROP, e);
    }
    gwi_control_wake_all(c);
}

/* Bytes a second since the last event but one that counts. */
static uint64_t rate_of_late(struct gwi_source_slot *s, uint64_t bytes)
{
    uint64_t now_ns = s->control->d->now_ns, passed = now_ns - s->told.at_ns;
    if (s->told.at_ns == 0 || bytes < s->told.bytes) {
        s->told.at_ns = now_ns;
        s->told.bytes = bytes;
    } else if (passed >= RATE_OVER_NS) {
        s->told.rate = (uint64_t)((double)(bytes - s->told.bytes) * 1e9 / (double)passed);
        s->told.at_ns = now_ns;
        s->told.bytes = bytes;
    }
    return s->told.rate;
}

static void send_event(struct gwi_source_slot *s, struct gw_job_event event)
{
    if (s->job) {
        struct gw_outgoing_progress p;
        gw_outgoing_progress(s->job->out, &p);
        event.bytes_moved = p.bytes;
        event.records_moved = p.records;
        event.chunks_done = p.chunks_done;
        event.chunks = p.chunks;
        event.pulls = p.pulls;
        event.pull_leads = p.pull_leads;
        event.bytes_left = p.bytes_left;
        event.records_left = p.records_left;
        event.rate = rate_of_late(s, p.bytes);
        event.indirections = p.indirections;
        event.hot_records = p.hot_records;
        event.retries = p.retries;
        event.pause_ns =
            atomic_load_explicit(&s->job->pause_ns, memory_order_relaxed); /* a number for people */
        event.source_p99_us = gwi_haul_late(s->control->server) / 1000;
        event.target_p99_us = atomic_load_explicit(&s->job->late_there_ns, memory_order_relaxed) /
                              1000; /* likewise */
    }
    uint8_t body[512];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    gw_job_event_encode(&event, &w);
    if (!w.bad)
        (void)gwi_control_send(s->control, GW_KIND_JOB_EVENT, body,
                               gw_writer_used(&w)); /* the machine repeats */
}

static void finish(struct gwi_source_slot *s, enum gw_status result)
{
    struct gwi_control *c = s->control;
    gw_info("job_over", "job=%llu side=source result=%s", (unsigned long long)s->id,
            gw_status_name(result));
    drop_peer(s);
    if (s->sampling)
        sample(s, false);
    if (result == GW_OK)
        gwi_control_clean(c, &s->slots); /* unlinked, and nobody could write since the cut */
    else
        gwi_slots_take_out(&c->stale, &s->slots); /* ours as before: of this very tenure */
    atomic_store_explicit(&c->server->outgoing[s - c->source], NULL, memory_order_release);
    gwi_control_count_jobs(c);
    s->range_set = false;
    s->dying = true;
    s->cut_wanted = true;
    gwi_control_publish(c);
}

void gwi_source_bury(struct gwi_source_slot *s)
{
    gw_source_destroy(s->machine);
    if (s->job) {
        gw_outgoing_destroy(s->job->out);
        free(s->job);
    }
    free(s->collected);
    memset(s, 0, sizeof *s);
}

void gwi_source_event(struct gwi_source_slot *s, const struct gw_source_event *event)
{
    struct gwi_control *c = s->control;
    if (!s->machine || s->dying)
        return;
    const struct gw_source_event sampled = {.kind = GW_SOURCE_ON_SAMPLED};
    if (event->kind == GW_SOURCE_ON_TICK && sampled_enough(s))
        event = &sampled;
    struct gw_source_actions actions;
    if (gwi_secure_done(c->server, s->held_ticket))
        s->held_ticket = 0; /* asked once more it would wake us at each flush */
    gw_source_durable(s->machine, s->held_ticket == 0);
    gw_source_step(s->machine, event, c->d->now_ns, &actions);
    for (uint32_t i = 0; i < actions.count && !s->dying; i++) {
        const struct gw_source_action *a = &actions.action[i];
        switch (a->kind) {
        case GW_SOURCE_DO_CONNECT_PEER:
            connect_peer(s);
            break;
        case GW_SOURCE_DO_SEND_PEER:
            if (s->peer)
                (void)gwi_link_send(s->peer, a->frame,
                                    a->frame_bytes); /* lost: the machine repeats */
            break;
        case GW_SOURCE_DO_SEND_EVENT:
            send_event(s, a->event);
            break;
        case GW_SOURCE_DO_BEGIN_SAMPLING:
        case GW_SOURCE_DO_END_SAMPLING:
            sample(s, a->kind == GW_SOURCE_DO_BEGIN_SAMPLING);
            break;
        case GW_SOURCE_DO_BEGIN_CUT:
            s->range = a->range;
            s->range_set = true;
            s->cut_wanted = true;
            if (a->range == GW_RANGE_LEAVING)
                gwi_slots_take_out(&c->held, &s->slots); /* should it come back: a new tenure */
            gwi_control_publish(c);
            break;
        case GW_SOURCE_DO_SECURE:
            s->secure_ticket = gwi_secure_begin(c->server, GWI_SECURE_EXECUTED);
            s->securing = true;
            c->securing = true;
            break;
        case GW_SOURCE_DO_COLLECT_APPLIED:
            collect(s);
            break;
        case GW_SOURCE_DO_START_SHIPPING:
        case GW_SOURCE_DO_RESTART_SHIPPING:
            ship(s, a);
            break;
        case GW_SOURCE_DO_BEGIN_UNLINK:
            unlink_range(s);
            break;
        case GW_SOURCE_DO_FINISH:
            finish(s, a->result);
            break;
        }
    }
}

/* True: it is still being made durable. */
bool gwi_source_securing(struct gwi_source_slot *s)
{
    if (!s->machine || s->dying || !s->securing)
        return false;
    if (!gwi_secure_done(s->control->server, s->secure_ticket))
        return true;
    s->securing = false;
    gwi_source_event(s, &(struct gw_source_event){.kind = GW_SOURCE_ON_SECURED});
    return false;
}

void gwi_source_on_job(struct gwi_control *c, const struct gw_job *job)
{
    struct gwi_source_slot *s = gwi_source_find(c, job->id);
    if (!s) {
        if (job->state != GW_JOB_CREATED && job->state != GW_JOB_COMMITTED &&
            job->state != GW_JOB_CLOSING)
            return; /* over, and we have forgotten it */
        for (uint32_t i = 0; i < GWI_JOBS_MAX && !s; i++)
            s = c->source[i].machine ? NULL : &c->source[i];
        struct gw_source *machine;
        if (!s || gw_source_create(job, c->server->incarnation, c->server->address, GWI_CHUNK_BITS,
                                   &machine) != GW_OK) {
            gw_warn("job_refused", "job=%llu side=source reason=\"%s\"",
                    (unsigned long long)job->id, s ? "out of memory" : "32 outgoing jobs are open");
            return; /* the coordinator shows it as created; it starts when it is told again */
        }
        const struct gw_device *device = c->server->device;
        gw_source_able(machine, device != NULL, device && device->shared);
        *s = (struct gwi_source_slot){.machine = machine,
                                      .control = c,
                                      .id = job->id,
                                      .slots = job->slots};
        gwi_control_tick_soon(c);
        /* What is durable when the range goes is not in the way then. */
        if (job->state == GW_JOB_CREATED)
            s->held_ticket = gwi_secure_begin(c->server, GWI_SECURE_EXECUTED);
        gwi_source_event(s, &(struct gw_source_event){.kind = GW_SOURCE_ON_START});
    }
    gwi_source_event(s, &(struct gw_source_event){.kind = GW_SOURCE_ON_JOB, .job = job});
    if (s->machine && !s->dying)
        set_asked(s);
}
