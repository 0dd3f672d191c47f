/* coordinator.c - the real state machine of the coordinator, its facts in a vector, and the
 * messages between it and the servers; what happens at a server when they arrive follows
 * server/control.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "world.h"

enum to_kind { TO_JOINED, TO_MAP, TO_JOB, TO_REFUSED };
struct to_server {
    enum to_kind kind;
    uint32_t jobs;
    struct map map;
    struct gw_job job;
};

enum from_kind { FROM_JOIN, FROM_HEARTBEAT, FROM_EVENT, FROM_MAP_GET };
struct from_server {
    enum from_kind kind;
    uint64_t incarnation, map_version;
    struct gw_job_event event;
};

static void id_of(int s, char *room)
{
    snprintf(room, 8, "s%u", (unsigned)s % 10);
}

/* ---- the coordinator ----------------------------------------------------------------------- */

const struct map *coordinator_map(void)
{
    static struct map map;
    if (!w->state || w->dying[PARTY_COORDINATOR])
        return NULL;
    const struct gw_map *is = gw_coordinator_map(w->state);
    map = (struct map){.version = is->version, .owner = -1};
    for (int s = 0; s < SERVERS; s++) {
        char id[8];
        id_of(s, id);
        int at = gw_map_find(is, id);
        if (at < 0)
            continue;
        map.view[s] = is->server[at].view;
        map.incarnation[s] = is->server[at].incarnation;
        if (is->owner[w->slot[0]] == at) {
            map.owner = s;
            map.since = is->since[w->slot[0]];
        }
    }
    return &map;
}

static void perform(const struct gw_action *a)
{
    int s = 0;
    while (s < SERVERS && w->link[s] != a->link)
        s++;
    if (s == SERVERS)
        return;
    struct to_server m = {.map = *coordinator_map()};
    switch (a->kind) {
    case GW_ACT_JOINED:
        m.kind = TO_JOINED;
        m.jobs = (uint32_t)a->id;
        break;
    case GW_ACT_MAP:
        m.kind = TO_MAP;
        break;
    case GW_ACT_JOB:
        m.kind = TO_JOB;
        gw_coordinator_job_wire(w->state, a->id, &m.job);
        break;
    default:
        m.kind = TO_REFUSED;
        w->link[s] = 0;
        break;
    }
    conn_send(&w->coordinator[s], 1, &m, sizeof m);
}

/* Facts become durable, then the first frame leaves. */
static void turn(void)
{
    char why[256];
    if (!w->state)
        return;
    if (!gw_coordinator_check(w->state, why, sizeof why))
        fail("map and jobs do not fit together: %s", why);
    const struct gw_outcome *o = gw_coordinator_outcome(w->state);
    if (o->facts > 0) {
        if (!party_step(PARTY_COORDINATOR))
            return;
        w->fact = realloc(w->fact, (w->facts + o->facts) * sizeof *w->fact);
        GW_ASSERT(w->fact != NULL);
        memcpy(w->fact + w->facts, o->fact, o->facts * sizeof *w->fact);
        w->facts += o->facts;
    }
    for (uint32_t i = 0; i < o->actions && !w->dying[PARTY_COORDINATOR]; i++)
        perform(&o->action[i]);
    gw_coordinator_clear(w->state);
}

static void tick(void)
{
    GW_ASSERT(gw_coordinator_tick(w->state, w->now_ns + 1, 1 + w->now_ns / MS) == GW_OK);
}

void coordinator_open(void)
{
    char why[256] = "";
    GW_ASSERT(gw_coordinator_create(&w->state) == GW_OK);
    for (uint32_t i = 0; i < w->facts; i++)
        GW_ASSERT(gw_coordinator_apply(w->state, &w->fact[i]) == GW_OK);
    if (gw_coordinator_start(w->state, 1, 99, why, sizeof why) != GW_OK)
        fail("the coordinator does not start: %s", why);
    tick();
    turn();
}

void coordinator_close(void)
{
    gw_coordinator_destroy(w->state);
    w->state = NULL;
    memset(w->link, 0, sizeof w->link);
}

void coordinator_up(int s)
{
    if (w->link[s])
        gw_coordinator_link_lost(w->state, w->link[s]);
    w->link[s] = ++w->links;
    server_say_join(s);
}

static void connect_again(int s, int unused)
{
    (void)unused;
    if (!w->coordinator[s].up)
        conn_open(&w->coordinator[s]);
}

void coordinator_down(int s)
{
    if (w->state && w->link[s])
        gw_coordinator_link_lost(w->state, w->link[s]);
    w->link[s] = 0;
    w->server[s].joined = false;
    if (!w->down[s])
        party_call_in(s, 2 * MS + below(20 * MS), connect_again, s, 0);
}

void coordinator_frame(int s, const uint8_t *bytes)
{
    struct from_server m;
    memcpy(&m, bytes, sizeof m);
    if (!w->state || !w->link[s] || (m.kind != FROM_HEARTBEAT && !party_step(PARTY_COORDINATOR)))
        return;
    tick();
    struct gw_join join = {.incarnation = m.incarnation};
    struct gw_heartbeat heartbeat = {.incarnation = m.incarnation, .map_version = m.map_version};
    enum gw_status st = GW_OK;
    switch (m.kind) {
    case FROM_JOIN:
        id_of(s, join.id);
        snprintf(join.address, sizeof join.address, "127.0.0.1:%d", 1 + s);
        st = gw_coordinator_join(w->state, w->link[s], &join);
        break;
    case FROM_HEARTBEAT:
        st = gw_coordinator_heartbeat(w->state, w->link[s], &heartbeat);
        break;
    case FROM_EVENT:
        st = gw_coordinator_job_event(w->state, w->link[s], &m.event);
        break;
    case FROM_MAP_GET:
        st = gw_coordinator_ask_map(w->state, w->link[s], 0);
        break;
    }
    GW_ASSERT(st == GW_OK);
    turn();
}

static const struct gw_job_record *newest_job(void)
{
    uint32_t jobs = w->state ? gw_coordinator_jobs(w->state) : 0;
    return jobs ? gw_coordinator_job_at(w->state, jobs - 1) : NULL;
}

bool coordinator_idle(void)
{
    const struct gw_job_record *job = newest_job();
    if (!w->state || w->dying[PARTY_COORDINATOR])
        return false;
    w->jobs_done = w->jobs_cancelled = 0;
    for (uint32_t i = 0; i < gw_coordinator_jobs(w->state); i++) {
        enum gw_job_state state = gw_coordinator_job_at(w->state, i)->state;
        w->jobs_done += state == GW_JOB_DONE;
        w->jobs_cancelled += state == GW_JOB_CANCELLED || state == GW_JOB_FAILED;
    }
    return !job || !gw_job_is_open(job->state);
}

const char *coordinator_job_state(void)
{
    const struct gw_job_record *job = newest_job();
    return job ? gw_job_state_name(job->state) : "none";
}

static void make_job(void)
{
    char from[8], to[8], why[256];
    uint64_t id;
    const struct map *map = coordinator_map();
    int source = map->owner, target = w->plan.round ? (source + 1) % SERVERS : source == 0;
    if (map->view[target] == 0)
        return; /* it has not joined */
    id_of(source, from);
    id_of(target, to);
    if (gw_coordinator_migrate(w->state, &w->slots, from, to, &id, why, sizeof why) != GW_OK)
        return; /* somebody is down: later */
    w->source = source;
    w->target = target;
    w->jobs_made++;
}

void coordinator_tick(int a, int b)
{
    call_in(5 * MS + below(40 * MS), coordinator_tick, a, b);
    if (!w->state)
        return;
    tick();
    bool gone = true;
    for (int s = 0; s < SERVERS; s++)
        gone &= !w->server[s].source && !w->server[s].target && !w->down[s];
    const struct gw_job_record *job = newest_job();
    bool open = job && gw_job_is_open(job->state);
    char why[256];
    if (!open && gone && w->jobs_made < w->plan.jobs && coordinator_map()->owner >= 0)
        make_job();
    else if (open && job->state == GW_JOB_CREATED && chance(w->plan.cancels))
        GW_ASSERT(gw_coordinator_cancel(w->state, job->id, why, sizeof why) == GW_OK);
    else if (open && (job->paused ? chance(40) : chance(3)))
        GW_ASSERT(gw_coordinator_pause(w->state, job->id, !job->paused, why, sizeof why) == GW_OK);
    turn();
}

/* ---- at a server --------------------------------------------------------------------------- */

void server_say_join(int s)
{
    struct from_server m = {.kind = FROM_JOIN, .incarnation = w->server[s].incarnation};
    conn_send(&w->coordinator[s], 0, &m, sizeof m);
}

void server_say_event(int s, const struct gw_job_event *event)
{
    struct from_server m = {.kind = FROM_EVENT, .event = *event};
    conn_send(&w->coordinator[s], 0, &m, sizeof m);
}

void server_say_map_get(int s)
{
    struct from_server m = {.kind = FROM_MAP_GET};
    conn_send(&w->coordinator[s], 0, &m, sizeof m);
}

void server_heartbeat(int s)
{
    struct from_server m = {.kind = FROM_HEARTBEAT,
                            .incarnation = w->server[s].incarnation,
                            .map_version = w->server[s].map.version};
    if (w->server[s].joined)
        conn_send_unseen(&w->coordinator[s], 0, &m, sizeof m);
}

void coordinator_message(int s, const uint8_t *bytes)
{
    struct server *server = &w->server[s];
    struct to_server m;
    memcpy(&m, bytes, sizeof m);
    if (!party_step(s))
        return;
    switch (m.kind) {
    case TO_JOINED:
        server->joined = true;
        server_adopt_map(s, &m.map);
        jobs_joined(s, m.jobs);
        break;
    case TO_MAP:
        server_adopt_map(s, &m.map);
        break;
    case TO_JOB:
        jobs_told(s, &m.job);
        break;
    case TO_REFUSED:
        conn_close(&w->coordinator[s]);
        server->joined = false;
        party_call_in(s, 20 * MS + below(100 * MS), connect_again, s, 0);
        break;
    }
}
