/* control.c - the coordinator's connection, the map, views and their cuts, mail of the dispatchers.
 *
 * Rules: 1. Maps are adopted whole and only upwards (MIGRATION R1). 2. A view is published with a
 * cut, always: when it has passed, older views and jobs that ended before it are free, since every
 * dispatcher has loaded the new one at a batch boundary and none can hold what was before.
 * 3. A cancelled or finished job leaves the tables first and is freed behind the next cut. 4. The
 * coordinator may be away: nothing on the data path waits for it.
 * 5. A restarted server publishes no map before it knows all its open jobs: a slot that is still on
 * its way here must not look settled (R23); until its target has entered it waits. Nor does it,
 * after a recovery, publish a map that gives it slots of which older records lie here: those are
 * unlinked first, for a checkpoint that says this view promises that they are gone. */
#include "server/control.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/indirection.h"
#include "server/control_internal.h"

#define HEARTBEAT_NS   500000000ull
#define TICK_NS        20000000ull
#define REJOIN_NS      1000000000ull
#define RETRY_MS_MAX   1000u
#define PREDECESSOR_NS 8000000000ull
/* Of a dispatcher's time, to read what indirections lead to. */
#define RESOLVE_PERCENT 5u

void gwi_errand_free(struct gwi_errand *e)
{
    free(e->entries);
    free(e);
}

bool gwi_control_errand(struct gwi_control *c, uint32_t dispatcher, enum gwi_mail_kind kind,
                        struct gwi_errand *e)
{
    e->dispatcher = dispatcher;
    e->status = GW_OK;
    if (gwi_dispatcher_post(c->server->dispatcher[dispatcher], kind, 0, e))
        return true;
    gwi_errand_free(e);
    return false;
}

void gwi_control_wake_all(struct gwi_control *c)
{
    for (uint32_t i = 0; i < c->server->dispatchers; i++)
        gw_net_wake(c->server->dispatcher[i]->net);
}

void gwi_control_count_jobs(struct gwi_control *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        n += atomic_load_explicit(&c->server->outgoing[i], memory_order_relaxed) != NULL;
        n += atomic_load_explicit(&c->server->incoming[i], memory_order_relaxed) != NULL;
    }
    atomic_store_explicit(&c->server->jobs, n, memory_order_release);
    /* What lies with others can wait; who waits for a range cannot. */
    gw_store_resolve_rate(c->server->store, n == 0 ? RESOLVE_PERCENT : 0);
}

bool gwi_control_range_is_ours(const struct gwi_control *c, const struct gw_slots *slots)
{
    struct gw_slots ours;
    int self = gw_map_find(c->map, c->server->options.id);
    if (self < 0)
        return false;
    gw_map_slots_of(c->map, (uint32_t)self, &ours);
    return gw_slots_contains(&ours, slots);
}

void gwi_control_clean(struct gwi_control *c, const struct gw_slots *slots)
{
    gwi_slots_take_out(&c->dirty, slots);
    gwi_slots_take_out(&c->stale, slots);
}

/* ---- views ---------------------------------------------------------------------------------- */

static void overlay(struct gwi_view *view, const struct gw_slots *slots, enum gwi_slot_state state,
                    uint32_t incoming)
{
    uint16_t first, last;
    for (uint32_t at = 0; gw_slots_next_run(slots, &at, &first, &last);)
        for (uint32_t s = first; s <= last; s++) {
            view->state[s] = (uint8_t)state;
            view->incoming_of[s] = (uint8_t)incoming;
        }
}

/* A target that has nothing yet, and comes back to a job that is committed: the map says that the
 * range is ours, and the machine has not come to where it waits for the source. */
static void overlay_unentered(const struct gwi_target_slot *t, struct gwi_view *view)
{
    for (uint32_t s = 0; s < GW_SLOTS; s++)
        if (view->state[s] == GWI_SLOT_OWNED && gw_slots_has(&t->job->slots, (uint16_t)s)) {
            view->state[s] = GWI_SLOT_WAITING;
            view->incoming_of[s] = (uint8_t)view->incoming_count;
        }
    view->incoming[view->incoming_count++] = t->job;
}

static void overlay_jobs(struct gwi_control *c, struct gwi_view *view)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        const struct gwi_source_slot *s = &c->source[i];
        if (s->machine && s->range_set)
            overlay(view, &s->slots, s->range == GW_RANGE_OWNED ? GWI_SLOT_OWNED : GWI_SLOT_FOREIGN,
                    0);
        const struct gwi_target_slot *t = &c->target[i];
        if (t->machine && !t->dying && gw_target_state(t->machine) < GW_TARGET_ENTERING)
            overlay_unentered(t, view);
        if (!t->machine || !t->range_set)
            continue;
        view->incoming[view->incoming_count] = t->job;
        overlay(view, &t->job->slots,
                t->range == GW_RANGE_WAITING ? GWI_SLOT_WAITING : GWI_SLOT_ARRIVING,
                view->incoming_count++);
    }
}

static void keep_old(struct gwi_control *c, struct gwi_view *view)
{
    struct gwi_old_view *old = malloc(sizeof *old);
    if (!old)
        return; /* a view stays for ever: better than a use after free */
    *old = (struct gwi_old_view){c->old, view};
    c->old = old;
}

static bool try_publish(struct gwi_control *c)
{
    struct gw_map *map = gw_map_copy(c->map);
    struct gwi_view *view = gwi_view_create(map, c->server->options.id);
    if (!view)
        return false;
    overlay_jobs(c, view);
    view->generation = c->generation + 1;
    struct gwi_view *old =
        atomic_load_explicit(&c->server->view, memory_order_relaxed); /* only we write it */
    if (gwi_server_publish(c->server, view) != GW_OK) {
        gwi_view_destroy(view);
        return false;
    }
    keep_old(c, old);
    c->generation++;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (view->state[slot] == GWI_SLOT_OWNED || view->state[slot] == GWI_SLOT_ARRIVING)
            gw_slots_add(&c->dirty, (uint16_t)slot);
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        if (c->source[i].cut_wanted)
            c->source[i].cut_generation = c->generation;
        if (c->target[i].cut_wanted)
            c->target[i].cut_generation = c->generation;
        c->source[i].cut_wanted = c->target[i].cut_wanted = false;
    }
    return true;
}

/* Rule 5. Frozen slots of an outgoing job that come back are its machine's business. */
static bool may_publish(const struct gwi_control *c)
{
    if (!c->map || !c->jobs_known)
        return false;
    if (!c->server->recovered)
        return true;
    struct gw_slots stale = c->stale, ours;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        if (c->source[i].machine)
            gwi_slots_take_out(&stale, &c->source[i].slots);
    int self = gw_map_find(c->map, c->server->options.id);
    if (self < 0)
        return true;
    gw_map_slots_of(c->map, (uint32_t)self, &ours);
    return !gw_slots_overlap(&ours, &stale);
}

void gwi_control_publish(struct gwi_control *c)
{
    c->publish_wanted = !may_publish(c) || !try_publish(c);
}

static void cut_passed(struct gwi_control *c, uint64_t generation)
{
    c->passed = generation;
    for (struct gwi_old_view **at = &c->old; *at;) {
        struct gwi_old_view *old = *at;
        if (old->view->generation >= generation) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        gwi_view_destroy(old->view);
        free(old);
    }
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_source_slot *s = &c->source[i];
        if (s->machine && s->cut_generation && s->cut_generation <= generation) {
            s->cut_generation = 0;
            if (s->dying)
                gwi_source_bury(s);
            else
                gwi_source_event(s, &(struct gw_source_event){.kind = GW_SOURCE_ON_CUT_PASSED});
        }
        struct gwi_target_slot *t = &c->target[i];
        if (t->machine && t->cut_generation && t->cut_generation <= generation) {
            t->cut_generation = 0;
            if (t->dying)
                gwi_target_bury(t);
            else
                (void)gwi_target_event(t,
                                       &(struct gw_target_event){.kind = GW_TARGET_ON_CUT_PASSED});
        }
    }
}

/* Slots that are ours again with the tenure that they had: a job was revived while we recovered. */
static void note_revived(struct gwi_control *c)
{
    int self = c->server->recovered ? gw_map_find(c->map, c->server->options.id) : -1;
    for (uint32_t slot = 0; self >= 0 && slot < GW_SLOTS; slot++)
        if (c->map->owner[slot] == (uint32_t)self && c->map->since[slot] <= c->server->held_version)
            gw_slots_remove(&c->stale, (uint16_t)slot);
}

void gwi_control_adopt(struct gwi_control *c, struct gw_map *map)
{
    if (c->map && map->version <= c->map->version) {
        gw_map_destroy(map);
        return;
    }
    gw_info("map", "version=%llu servers=%u", (unsigned long long)map->version, map->servers);
    gw_map_destroy(c->map);
    c->map = map;
    c->server->cluster = map->cluster;
    note_revived(c);
    gwi_control_publish(c);
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        if (c->target[i].machine && !c->target[i].dying)
            (void)gwi_target_event(&c->target[i],
                                   &(struct gw_target_event){.kind = GW_TARGET_ON_MAP_ADOPTED,
                                                             .map_version = map->version,
                                                             .owned = gwi_control_range_is_ours(
                                                                 c, &c->target[i].job->slots)});
}

/* ---- the coordinator ------------------------------------------------------------------------ */

bool gwi_control_send(struct gwi_control *c, uint8_t kind, const uint8_t *body, size_t bytes)
{
    if (!c->coordinator)
        return false;
    uint8_t *room = gw_conn_reserve(c->coordinator, GW_FRAME_HEADER + bytes);
    if (!room)
        return false;
    struct gw_frame f = {.bytes = GW_FRAME_HEADER + (uint32_t)bytes, .kind = kind};
    gw_frame_encode(&f, room);
    if (bytes)
        memcpy(room + GW_FRAME_HEADER, body, bytes);
    gw_conn_commit(c->coordinator, f.bytes);
    return true;
}

static void send_join(struct gwi_control *c)
{
    struct gw_join join = {.incarnation = c->server->incarnation, .cluster = c->server->cluster};
    memcpy(join.id, c->server->options.id, sizeof join.id);
    memcpy(join.address, c->server->address, sizeof join.address);
    uint8_t body[256];
    struct gw_writer w = gw_writer_of(body, sizeof body);
    gw_join_encode(&join, &w);
    (void)gwi_control_send(c, GW_KIND_JOIN, body,
                           gw_writer_used(&w)); /* refused only beyond the backlog */
}

void gwi_control_rejoin(struct gwi_control *c)
{
    if (c->joined)
        send_join(c);
}

static void coordinator_down(struct gwi_control *c, enum gw_status st)
{
    if (c->joined || c->retry_ms == 0)
        gw_warn("coordinator_down", "address=%s status=%s next=retry",
                c->server->options.coordinator, gw_status_name(st));
    c->coordinator = NULL;
    c->joined = false;
    c->retry_ms = c->retry_ms ? c->retry_ms * 2 : 20;
    if (c->retry_ms > RETRY_MS_MAX)
        c->retry_ms = RETRY_MS_MAX;
    c->retry_ns = c->d->now_ns + c->retry_ms * 1000000ull;
}

static void coordinator_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)conn;
    if (st != GW_OK)
        coordinator_down(ctx, st);
}

static void coordinator_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    (void)conn;
    coordinator_down(ctx, st == GW_OK ? GW_E_CLOSED : st);
}

/* Rule 5: the jobs that were open when we joined are all known; others have ended, and we were not
 * told, for the connection was lost then. Sources ask by themselves. */
static void know_jobs(struct gwi_control *c)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        if (c->target[i].machine && c->target[i].untold)
            gwi_target_ended(&c->target[i]);
    if (c->jobs_known)
        return;
    c->jobs_known = true;
    gwi_target_keep_tombstones(c);
    gwi_control_publish(c);
    if (c->ready_told)
        return;
    c->ready_told = true;
    printf("godwit-server ready id=%s listen=%s threads=%u\n", c->server->options.id,
           c->server->bound, c->server->dispatchers);
    fflush(stdout);
}

static void on_joined(struct gwi_control *c, uint32_t jobs)
{
    c->joined = true;
    c->needs.round = 0; /* of another connection, perhaps of another coordinator */
    c->retry_ms = 0;
    c->heartbeat_ns = 0;
    c->jobs_left = jobs;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        c->target[i].untold = c->target[i].machine != NULL;
    c->rejoin_ns = c->d->now_ns + REJOIN_NS;
    if (jobs == 0)
        know_jobs(c);
}

static enum gw_status on_refused(struct gwi_control *c, struct gw_reader *r)
{
    char text[256];
    enum gw_status st = gw_frame_error_decode(r, text, sizeof text);
    gw_error("join_refused", "status=%s text=\"%s\"", gw_status_name(st), text);
    if (st == GW_E_CANCELLED) { /* given up for lost: others have what was ours (control.h) */
        fprintf(stderr, "godwit-server: the coordinator at %s has fenced id %s: %s\n",
                c->server->options.coordinator, c->server->options.id, text);
        atomic_store(&c->server->fatal, (int)st);
        return GW_E_CLOSED;
    }
    /* The one that runs already may be our own predecessor, killed a moment ago: the coordinator
     * believes in it for some seconds if its connection has not ended by itself. */
    if (st == GW_E_BUSY && !c->ready_told && !c->joined) {
        if (c->busy_since_ns == 0)
            c->busy_since_ns = c->d->now_ns;
        if (c->d->now_ns - c->busy_since_ns < PREDECESSOR_NS)
            return GW_E_CLOSED;
    }
    if (!c->ready_told && !c->joined) { /* never served: nothing is lost by saying so and ending */
        fprintf(stderr, "godwit-server: the coordinator at %s refuses id %s: %s\n",
                c->server->options.coordinator, c->server->options.id, text);
        atomic_store(&c->server->fatal, (int)st);
    }
    return GW_E_CLOSED;
}

static enum gw_status coordinator_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                                        uint32_t bytes)
{
    struct gwi_control *c = ctx;
    struct gw_frame f;
    (void)conn;
    if (gw_frame_decode(frame, bytes, &f) != GW_OK)
        return GW_E_PROTOCOL;
    struct gw_reader r = gw_reader_of(frame + GW_FRAME_HEADER, bytes - GW_FRAME_HEADER);
    struct gw_map *map;
    struct gw_job job;
    struct gw_needs needs;
    bool known;
    switch (f.kind) {
    case GW_KIND_JOINED:
    case GW_KIND_MAP:
        if (gw_map_decode(&r, &map) != GW_OK)
            return GW_E_PROTOCOL;
        if (map->hash_seed !=
            gw_store_hash_seed(c->server->store)) { /* records lie by it (ENGINE H16) */
            gw_map_destroy(map);
            gw_error("join_refused", "reason=\"the coordinator speaks for another cluster now\"");
            return GW_E_REFUSED;
        }
        gwi_control_adopt(c, map);
        if (f.kind == GW_KIND_JOINED)
            on_joined(c, f.count);
        return GW_OK;
    case GW_KIND_JOB:
        if (gw_job_decode(&r, &job) != GW_OK)
            return GW_E_PROTOCOL;
        known = true;
        if (strcmp(job.from, c->server->options.id) == 0)
            gwi_source_on_job(c, &job);
        else if (strcmp(job.to, c->server->options.id) == 0)
            known = gwi_target_on_job(c, &job); /* no memory: told again when we have joined anew */
        if (known && c->jobs_left && --c->jobs_left == 0)
            know_jobs(c);
        return GW_OK;
    case GW_KIND_NEEDS:
        if (gw_needs_decode(&r, &needs) != GW_OK)
            return GW_E_PROTOCOL;
        gwi_control_on_needs(c, &needs);
        return GW_OK;
    case GW_KIND_ERROR:
        return on_refused(c, &r);
    default:
        return GW_OK; /* a newer coordinator may say more */
    }
}

static const struct gwi_out_events coordinator_events = {coordinator_connected, coordinator_frame,
                                                         coordinator_closed};

static void connect_coordinator(struct gwi_control *c)
{
    enum gw_status st = gwi_link_open(c->d, c->server->options.coordinator, &coordinator_events, c,
                                      &c->coordinator);
    if (st != GW_OK)
        coordinator_down(c, st);
    else
        send_join(c);
}

/* ---- turns and mail ------------------------------------------------------------------------- */

void gwi_control_tick_soon(struct gwi_control *c)
{
    uint64_t soon_ns = c->d->now_ns + TICK_NS;
    c->tick_ns = c->tick_ns < soon_ns ? c->tick_ns : soon_ns;
}

static uint32_t tick_jobs(struct gwi_control *c)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        if (c->source[i].machine && ++open)
            gwi_source_event(&c->source[i], &(struct gw_source_event){.kind = GW_SOURCE_ON_TICK});
        if (c->target[i].machine && ++open)
            gwi_target_tick(&c->target[i]);
    }
    return open;
}

static void look_for_secured(struct gwi_control *c)
{
    c->securing = false;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        c->securing |= gwi_source_securing(&c->source[i]);
        c->securing |= gwi_target_securing(&c->target[i]);
    }
}

uint64_t gwi_control_turn(struct gwi_control *c)
{
    uint64_t now = c->d->now_ns;
    if (c->securing)
        look_for_secured(c);
    gwi_control_hold_objects(c);
    if (!c->coordinator && now >= c->retry_ns)
        connect_coordinator(c);
    if (c->joined && now >= c->heartbeat_ns) {
        c->heartbeat_ns = now + HEARTBEAT_NS;
        gwi_control_heartbeat(c);
    }
    if (c->joined && !c->jobs_known && now >= c->rejoin_ns) {
        c->rejoin_ns = now + REJOIN_NS; /* one has ended and was forgotten in between */
        send_join(c);
    }
    if (c->publish_wanted && may_publish(c))
        gwi_control_publish(c);
    if (now >= c->tick_ns) {
        c->jobs = tick_jobs(c);
        c->tick_ns = now + (c->jobs ? TICK_NS : HEARTBEAT_NS);
    }
    uint64_t next = c->tick_ns;
    if (!c->coordinator && c->retry_ns < next)
        next = c->retry_ns;
    if (c->joined && c->heartbeat_ns < next)
        next = c->heartbeat_ns;
    return c->publish_wanted && may_publish(c) ? now : next;
}

void gwi_control_mail(struct gwi_control *c, const struct gwi_mail *mail)
{
    struct gwi_source_slot *s = gwi_source_find(c, mail->number);
    struct gwi_target_slot *t = gwi_target_find(c, mail->number);
    switch ((enum gwi_mail_kind)mail->kind) {
    case GWI_MAIL_CUT_PASSED:
        cut_passed(c, mail->number);
        break;
    case GWI_MAIL_COLLECT:
        gwi_source_collected(c, mail->subject);
        break;
    case GWI_MAIL_MERGE:
        gwi_target_merged(c, mail->subject);
        break;
    case GWI_MAIL_DROP:
        gwi_errand_free(mail->subject);
        break;
    case GWI_MAIL_SHIPPED:
        if (s && s->job && gw_outgoing_done(s->job->out)) /* not of an attempt before */
            gwi_source_event(s, &(struct gw_source_event){.kind = GW_SOURCE_ON_ALL_CHUNKS_ACKED,
                                                          .attempt =
                                                              gw_outgoing_attempt(s->job->out)});
        break;
    case GWI_MAIL_UNLINKED:
        if (s)
            gwi_source_event(s, &(struct gw_source_event){.kind = GW_SOURCE_ON_UNLINKED});
        if (t) {
            gwi_control_clean(c, &t->job->slots);
            (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_UNLINKED});
        }
        break;
    case GWI_MAIL_ARRIVED:
        if (t)
            (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_ALL_COMPLETE});
        break;
    case GWI_MAIL_BULK_DOWN:
        if (s)
            gwi_source_event(s, &(struct gw_source_event){.kind = GW_SOURCE_ON_PEER_DOWN});
        break;
    case GWI_MAIL_STOP:
    case GWI_MAIL_ATTACH:
        break;
    }
    gwi_control_tick_soon(c);
}

enum gw_status gwi_control_peer_frame(struct gwi_control *c, struct gwi_link *link,
                                      const struct gw_frame *f, const uint8_t *body)
{
    if (f->kind == GW_KIND_MAP) {
        struct gw_reader r = gw_reader_of(body, f->bytes - GW_FRAME_HEADER);
        struct gw_map *map;
        if (gw_map_decode(&r, &map) != GW_OK)
            return gwi_link_error(link->conn, GW_E_PROTOCOL, "malformed MAP");
        gwi_control_adopt(c, map);
        return GW_OK;
    }
    return gwi_target_on_frame(c, link, f, body);
}

void gwi_control_peer_closed(struct gwi_control *c, struct gwi_link *link)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_target_slot *t = &c->target[i];
        if (!t->machine || t->link != link)
            continue;
        t->link = NULL;
        (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_PEER_DOWN});
    }
}

void gwi_control_note_recovery(struct gwi_server *server, const struct gw_map *map)
{
    int self = gw_map_find(map, server->options.id);
    server->held_version = map->version;
    gw_slots_clear(&server->held);
    if (self >= 0)
        gw_map_slots_of(map, (uint32_t)self, &server->held);
}

struct gwi_control *gwi_control_create(struct gwi_dispatcher *d)
{
    struct gwi_control *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->d = d;
    c->server = d->server;
    if (c->server->recovered) {
        struct gw_slots all;
        gw_slots_clear(&all);
        gw_slots_add_range(&all, 0, GW_SLOTS - 1);
        c->dirty = c->stale = all;
        c->held = c->server->held;
        gwi_slots_take_out(&c->stale, &c->held);
        gw_store_keep_tombstones(c->server->store, &all); /* until the jobs are known */
    }
    return c;
}

void gwi_control_destroy(struct gwi_control *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        if (c->source[i].machine)
            gwi_source_bury(&c->source[i]);
        if (c->target[i].machine)
            gwi_target_bury(&c->target[i]);
    }
    for (struct gwi_old_view *old = c->old, *next; old; old = next) {
        next = old->next;
        gwi_view_destroy(old->view);
        free(old);
    }
    gw_map_destroy(c->map);
    free(c);
}
