/* control_target.c - does what the machine of an incoming job says: unlinking, cuts, receiving,
 * merging applied serials, serving. No decision is made here; see migration/target.h. */
#include <stdlib.h>
#include <string.h>

#include "index/base/log_line.h"
#include "index/device.h"
#include "server/control_internal.h"

#define ORPHAN_NS 10000000000ull

struct gwi_target_slot *gwi_target_find(struct gwi_control *c, uint64_t id)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        if (c->target[i].machine && c->target[i].id == id)
            return &c->target[i];
    return NULL;
}

void gwi_target_keep_tombstones(struct gwi_control *c)
{
    struct gw_slots slots;
    if (c->server->recovered && !c->jobs_known)
        return; /* of all slots: it is not known yet which of them are coming (R13) */
    gw_slots_clear(&slots);
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++)
        for (uint32_t w = 0; w < sizeof slots.word / sizeof slots.word[0]; w++)
            if (c->target[i].machine && !c->target[i].dying)
                slots.word[w] |= c->target[i].job->slots.word[w];
    gw_store_keep_tombstones(c->server->store, &slots);
}

static struct gwi_target_slot *open_target(struct gwi_control *c, uint64_t id,
                                           const struct gw_slots *slots, const char *from_address)
{
    struct gwi_target_slot *t = NULL;
    for (uint32_t i = 0; i < GWI_JOBS_MAX && !t; i++)
        t = c->target[i].machine ? NULL : &c->target[i];
    struct gwi_incoming_job *job = calloc(1, sizeof *job);
    struct gw_target *machine;
    bool resumed = gw_slots_contains(&c->held, slots);
    if (!t || !job ||
        gw_target_create(id, slots, c->server->incarnation, resumed, &machine) != GW_OK) {
        gw_warn("job_refused", "job=%llu side=target reason=\"%s\"", (unsigned long long)id,
                t ? "out of memory" : "32 incoming jobs are open");
        free(job);
        return NULL;
    }
    gw_target_able(machine, c->server->device && c->server->device->shared);
    job->id = id;
    job->slots = *slots;
    strncpy(job->from_address, from_address, sizeof job->from_address - 1);
    *t = (struct gwi_target_slot){.machine = machine, .control = c, .id = id, .job = job};
    atomic_store_explicit(&c->server->incoming[t - c->target], job, memory_order_release);
    gwi_control_tick_soon(c);
    gwi_control_count_jobs(c);
    gwi_target_keep_tombstones(c);
    return t;
}

/* A PREPARE that was left in the buffers of an old connection must not open a job that has ended.
 */
static bool is_over(const struct gwi_control *c, uint64_t id)
{
    for (uint32_t i = 0; i < GWI_OVER; i++)
        if (c->over[i] == id)
            return true;
    return false;
}

/* The coordinator opens a job only when no other one of its slots is open: an older one that was
 * not committed must have been cancelled, though we were not told. */
static void abandon_older(struct gwi_control *c, const struct gw_job *job)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_target_slot *t = &c->target[i];
        if (t->machine && !t->dying && t->id < job->id && !gw_target_committed(t->machine) &&
            gw_slots_overlap(&t->job->slots, &job->slots))
            (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_ABANDON});
    }
}

static void begin_unlink(struct gwi_target_slot *t)
{
    struct gwi_control *c = t->control;
    struct gw_unlinker *unlinker;
    if (!gw_slots_overlap(&c->dirty, &t->job->slots)) { /* a walk of the whole index for nothing */
        gwi_dispatcher_post(c->d, GWI_MAIL_UNLINKED, t->id, NULL);
        return;
    }
    if (atomic_load_explicit(&t->job->unlinker,
                             memory_order_relaxed)) { /* ours: only control writes it */
        if (atomic_load_explicit(&t->job->unlinked_told, memory_order_acquire))
            gwi_dispatcher_post(c->d, GWI_MAIL_UNLINKED, t->id, NULL);
        return;
    }
    t->unlink_wanted =
        gw_unlinker_create(&t->job->slots, c->server->dispatchers, &unlinker) != GW_OK;
    if (t->unlink_wanted)
        return; /* out of memory: the next tick tries again */
    atomic_store_explicit(&t->job->unlinker, unlinker, memory_order_release);
    gwi_control_wake_all(c);
}

static void receive(struct gwi_target_slot *t, uint64_t attempt)
{
    struct gw_incoming *in =
        atomic_load_explicit(&t->job->in, memory_order_relaxed); /* ours to write */
    t->receive_attempt = attempt;
    if (in)
        gw_incoming_restart(in, attempt);
    else if (gw_incoming_create(t->id, &t->job->slots, gw_target_chunk_bits(t->machine), attempt,
                                &in) == GW_OK)
        atomic_store_explicit(&t->job->in, in, memory_order_release);
}

bool gwi_target_securing(struct gwi_target_slot *t)
{
    if (!t->machine || t->dying || !t->securing)
        return false;
    if (!gwi_secure_done(t->control->server, t->secure_ticket))
        return true;
    t->securing = false;
    (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_SECURED});
    return false;
}

/* The source goes away when the job is cancelled, and its ABANDON may be lost with the connection,
 * as ours to the coordinator may have been when that said so: ask. */
static void look_for_source(struct gwi_target_slot *t)
{
    struct gwi_control *c = t->control;
    if (t->link || gw_target_committed(t->machine)) {
        t->orphan_ns = 0;
        return;
    }
    if (t->orphan_ns == 0)
        t->orphan_ns = c->d->now_ns;
    if (c->d->now_ns - t->orphan_ns < ORPHAN_NS)
        return;
    t->orphan_ns = c->d->now_ns;
    gwi_control_rejoin(c);
}

void gwi_target_tick(struct gwi_target_slot *t)
{
    if (t->dying)
        return;
    look_for_source(t);
    if (t->unlink_wanted)
        begin_unlink(t);
    if (t->receive_attempt && !atomic_load_explicit(&t->job->in, memory_order_relaxed))
        receive(t, t->receive_attempt);
    (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_TICK});
}

/* Hands every entry to the dispatcher on which its session lives. */
static void merge(struct gwi_target_slot *t, const struct gw_target_action *a)
{
    struct gwi_control *c = t->control;
    uint32_t n = c->server->dispatchers;
    struct gwi_merging *m = &t->merging[a->part % GWI_MERGING];
    *m = (struct gwi_merging){0};
    for (uint32_t i = 0; i < n; i++) {
        struct gwi_errand *e = calloc(1, sizeof *e);
        if (e)
            e->entries = malloc((a->entries_count + 1) * sizeof *e->entries);
        if (!e || !e->entries) {
            free(e);
            m->failed = true;
            continue;
        }
        e->job = t->id;
        e->attempt = a->attempt;
        e->part = a->part;
        for (size_t k = 0; k < a->entries_count; k++)
            if (a->entries[k].session % n == i)
                e->entries[e->count++] = a->entries[k];
        if (gwi_control_errand(c, i, GWI_MAIL_MERGE, e))
            m->errands++;
        else
            m->failed = true;
    }
}

void gwi_target_merged(struct gwi_control *c, struct gwi_errand *e)
{
    struct gwi_target_slot *t = gwi_target_find(c, e->job);
    if (t && e->attempt == gw_target_attempt(t->machine)) {
        struct gwi_merging *m = &t->merging[e->part % GWI_MERGING];
        m->errands--;
        m->failed |= e->status != GW_OK;
        if (m->errands == 0)
            (void)gwi_target_event(t,
                                   &(struct gw_target_event){.kind = m->failed
                                                                         ? GW_TARGET_ON_MERGE_FAILED
                                                                         : GW_TARGET_ON_MERGED,
                                                             .attempt = e->attempt,
                                                             .part = e->part});
    }
    gwi_errand_free(e);
}

static void fetch_map(struct gwi_target_slot *t)
{
    uint8_t frame[GW_FRAME_HEADER];
    (void)gwi_control_send(t->control, GW_KIND_MAP_GET, NULL, 0); /* the machine repeats */
    if (t->link)
        (void)gwi_link_send(t->link->conn, frame,
                            gw_frame_empty(frame, sizeof frame, GW_KIND_MAP_GET, t->id));
}

static void finish(struct gwi_target_slot *t, enum gw_status result)
{
    struct gwi_control *c = t->control;
    c->over[c->over_next++ % GWI_OVER] = t->id;
    gw_info("job_over", "job=%llu side=target result=%s", (unsigned long long)t->id,
            gw_status_name(result));
    atomic_store_explicit(&c->server->incoming[t - c->target], NULL, memory_order_release);
    gwi_control_count_jobs(c);
    t->range_set = false;
    t->dying = true;
    gwi_target_keep_tombstones(c);
    t->cut_wanted = true;
    gwi_control_publish(c);
}

void gwi_target_bury(struct gwi_target_slot *t)
{
    gw_target_destroy(t->machine);
    struct gw_incoming *in = atomic_load_explicit(&t->job->in, memory_order_relaxed);
    struct gw_unlinker *unlinker = atomic_load_explicit(&t->job->unlinker, memory_order_relaxed);
    if (in)
        gw_incoming_destroy(in);
    if (unlinker)
        gw_unlinker_destroy(unlinker);
    free(t->job);
    memset(t, 0, sizeof *t);
}

static void set_range(struct gwi_target_slot *t, enum gw_range_state range)
{
    t->range = range;
    t->range_set = range == GW_RANGE_WAITING || range == GW_RANGE_ARRIVING;
    gwi_control_publish(t->control);
}

enum gw_status gwi_target_event(struct gwi_target_slot *t, const struct gw_target_event *event)
{
    struct gwi_control *c = t->control;
    if (!t->machine || t->dying)
        return GW_OK;
    struct gw_target_actions actions;
    enum gw_status st = gw_target_step(t->machine, event, c->d->now_ns, &actions);
    for (uint32_t i = 0; i < actions.count && !t->dying; i++) {
        const struct gw_target_action *a = &actions.action[i];
        switch (a->kind) {
        case GW_TARGET_DO_SEND_PEER:
            if (t->link)
                (void)gwi_link_send(t->link->conn, a->frame,
                                    a->frame_bytes); /* lost: the source repeats */
            break;
        case GW_TARGET_DO_BEGIN_UNLINK:
            begin_unlink(t);
            break;
        case GW_TARGET_DO_BEGIN_CUT:
            t->cut_wanted = true;
            set_range(t, a->range);
            break;
        case GW_TARGET_DO_FETCH_MAP:
            fetch_map(t);
            break;
        case GW_TARGET_DO_RECEIVE:
            receive(t, a->attempt);
            break;
        case GW_TARGET_DO_MERGE_APPLIED:
            merge(t, a);
            break;
        case GW_TARGET_DO_BEGIN_SERVING:
            gw_store_version_floor(c->server->store, a->version_highest);
            atomic_store_explicit(&t->job->pulling,
                                  !(gw_target_flags(t->machine) & GW_JOB_NO_PULLS),
                                  memory_order_release);
            set_range(t, GW_RANGE_ARRIVING);
            break;
        case GW_TARGET_DO_SECURE:
            t->secure_ticket = gwi_secure_begin(c->server, GWI_SECURE_RECORDS);
            t->securing = true;
            c->securing = true;
            break;
        case GW_TARGET_DO_FINISH:
            finish(t, a->result);
            break;
        }
    }
    return st;
}

void gwi_target_ended(struct gwi_target_slot *t)
{
    t->untold = false;
    /* Committed, it can only have been closed: then we had said that we have everything. */
    struct gw_job job = {.id = t->id, .state = GW_JOB_DONE};
    if (gw_target_committed(t->machine))
        (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_JOB, .job = &job});
    else
        (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_ABANDON});
}

bool gwi_target_on_job(struct gwi_control *c, const struct gw_job *job)
{
    struct gwi_target_slot *t = gwi_target_find(c, job->id);
    abandon_older(c, job);
    if (!t) {
        if (job->state != GW_JOB_CREATED && job->state != GW_JOB_COMMITTED &&
            job->state != GW_JOB_CLOSING)
            return true;
        t = open_target(c, job->id, &job->slots, job->from_address);
        if (!t)
            return false;
    }
    t->untold = false;
    atomic_store_explicit(&t->job->impact_ns, job->options.max_impact_us * UINT64_C(1000),
                          memory_order_relaxed); /* haul.h */
    (void)gwi_target_event(t, &(struct gw_target_event){.kind = GW_TARGET_ON_JOB,
                                                        .job = job}); /* no YOURS: never bad */
    if (c->map && t->machine && !t->dying)
        (void)gwi_target_event(
            t, &(struct gw_target_event){.kind = GW_TARGET_ON_MAP_ADOPTED,
                                         .map_version = c->map->version,
                                         .owned = gwi_control_range_is_ours(c, &t->job->slots)});
    return true;
}

/* An attempt that had to end because the store cannot link what the source sends: the next one is
 * to bring records. */
static void note_unlinkable(struct gwi_target_slot *t)
{
    const struct gw_incoming *in = atomic_load_explicit(&t->job->in, memory_order_relaxed);
    if (in && !gw_incoming_links(in))
        gw_target_able(t->machine, false);
}

/* Does the map say that the source's process is the one that sent this? */
static bool is_present_process(const struct gwi_control *c, const struct gw_prepare *m)
{
    int at = c->map ? gw_map_find(c->map, m->from) : -1;
    return at >= 0 && c->map->server[at].incarnation == m->incarnation;
}

enum gw_status gwi_target_on_frame(struct gwi_control *c, struct gwi_link *link,
                                   const struct gw_frame *f, const uint8_t *body)
{
    struct gw_reader r = gw_reader_of(body, f->bytes - GW_FRAME_HEADER);
    struct gwi_target_slot *t = gwi_target_find(c, f->session);
    struct gw_target_event event = {.attempt = f->view,
                                    .part = f->sequence,
                                    .count = f->count,
                                    .body = r};
    struct gw_prepare prepare;
    switch (f->kind) {
    case GW_KIND_PREPARE:
        if (gw_prepare_decode(&r, &prepare) != GW_OK)
            return gwi_link_error(link->conn, GW_E_PROTOCOL, "malformed PREPARE");
        if (t)
            note_unlinkable(t);
        if (!t && !is_over(c, f->session))
            t = open_target(c, f->session, &prepare.slots, prepare.from_address);
        event.kind = GW_TARGET_ON_PREPARE;
        event.prepare = &prepare;
        event.current = is_present_process(c, &prepare);
        break;
    case GW_KIND_ABANDON:
        event.kind = GW_TARGET_ON_ABANDON;
        break;
    default:
        event.kind = GW_TARGET_ON_YOURS;
        break;
    }
    if (!t)
        return GW_OK; /* nothing known of it: the source begins with PREPARE */
    t->link = link;
    enum gw_status st = gwi_target_event(t, &event);
    return st == GW_OK ? GW_OK : gwi_link_error(link->conn, st, "malformed YOURS");
}
