/* world.c - the clock, the events, connections that delay and break, and a whole schedule. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/hash.h"

struct world *w;

void fail(const char *format, ...)
{
    if (w->failed)
        return;
    w->failed = true;
    int n = snprintf(w->failure, sizeof w->failure, "at %.3f ms: ", (double)w->now_ns / 1e6);
    va_list list;
    va_start(list, format);
    vsnprintf(w->failure + n, sizeof w->failure - (size_t)n, format, list);
    va_end(list);
}

uint64_t below(uint64_t n)
{
    return gw_rand_below(&w->rand, n);
}
bool chance(uint32_t percent)
{
    return below(100) < percent;
}

/* ---- events -------------------------------------------------------------------------------- */

static bool earlier(const struct event *a, const struct event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void push(struct event e)
{
    if (w->events == w->events_room) {
        w->events_room = w->events_room ? w->events_room * 2 : 256;
        w->heap = realloc(w->heap, w->events_room * sizeof *w->heap);
        GW_ASSERT(w->heap != NULL);
    }
    e.order = w->next_order++;
    size_t i = w->events++;
    for (; i > 0 && earlier(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event pop(void)
{
    struct event first = w->heap[0], last = w->heap[--w->events];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->events)
            break;
        if (child + 1 < w->events && earlier(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!earlier(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

void party_call_in(int party, uint64_t delay_ns, void (*call)(int, int), int a, int b)
{
    push((struct event){.at_ns = w->now_ns + delay_ns,
                        .kind = EVENT_CALL,
                        .party = party,
                        .life = party == PARTIES ? 0 : w->life[party],
                        .call = call,
                        .a = a,
                        .b = b});
}

void call_in(uint64_t delay_ns, void (*call)(int, int), int a, int b)
{
    party_call_in(PARTIES, delay_ns, call, a, b);
}

/* ---- connections --------------------------------------------------------------------------- */

static uint64_t delay(void)
{
    return chance(5) ? below(20 * MS) : 20 * US + below(500 * US);
}

/* Whose end that is: 0 the opener's. */
static int party_at(const struct conn *c, int end)
{
    switch (c->role) {
    case ROLE_CLIENT:
        return end == 0 ? (int)PARTIES : c->b;
    case ROLE_COORDINATOR:
        return end == 0 ? c->a : (int)PARTY_COORDINATOR;
    case ROLE_PULL:
        return end == 0 ? w->target : w->source;
    default:
        return end == 0 ? w->source : w->target;
    }
}

static bool is_there(int party)
{
    return party == PARTIES || (!w->down[party] && !w->dying[party]);
}

void conn_open(struct conn *c)
{
    c->generation++;
    c->up = false;
    c->last_ns[0] = c->last_ns[1] = 0;
    push((struct event){.at_ns = w->now_ns + delay(),
                        .kind = chance(10) && w->breaks_left ? EVENT_DOWN : EVENT_UP,
                        .party = PARTIES,
                        .conn = c,
                        .generation = c->generation});
}

void conn_close(struct conn *c)
{
    c->generation++;
    c->up = false;
}

void conn_send(struct conn *c, int direction, const void *bytes, size_t size)
{
    if (c->up && (c->role == ROLE_CLIENT || party_step(party_at(c, direction))))
        conn_send_unseen(c, direction, bytes, size);
}

void conn_send_unseen(struct conn *c, int direction, const void *bytes, size_t size)
{
    if (!c->up || !is_there(party_at(c, direction)))
        return;
    int receiver = party_at(c, 1 - direction);
    uint64_t at = w->now_ns + delay();
    if (at < c->last_ns[direction])
        at = c->last_ns[direction];
    c->last_ns[direction] = at;
    struct event e = {.at_ns = at,
                      .kind = EVENT_FRAME,
                      .party = receiver,
                      .life = receiver == PARTIES ? 0 : w->life[receiver],
                      .conn = c,
                      .generation = c->generation,
                      .direction = direction,
                      .bytes = malloc(size),
                      .size = size};
    GW_ASSERT(e.bytes != NULL);
    memcpy(e.bytes, bytes, size);
    push(e);
}

/* A prefix of what is under way in each direction lies in the receiver's buffer and is still read,
 * maybe behind what comes on the next connection; the rest is lost. */
void conn_break(struct conn *c)
{
    if (!c->up)
        return;
    w->breaks++;
    uint64_t prefix_order[2] = {w->next_order - below(20), w->next_order - below(20)};
    for (size_t i = 0; i < w->events; i++) {
        struct event *e = &w->heap[i];
        if (e->kind == EVENT_FRAME && e->conn == c && e->generation == c->generation)
            e->buffered = e->order < prefix_order[e->direction];
    }
    c->generation++;
    c->up = false;
    push((struct event){.at_ns = w->now_ns + delay(),
                        .kind = EVENT_DOWN,
                        .party = PARTIES,
                        .conn = c,
                        .generation = c->generation});
}

static void break_something(int a, int b)
{
    (void)a;
    (void)b;
    struct conn *jobs[1 + SERVERS + 2 * DISPATCHERS];
    size_t n = 0;
    if (w->control.up)
        jobs[n++] = &w->control;
    for (int d = 0; d < DISPATCHERS; d++) {
        if (w->bulk[d].up)
            jobs[n++] = &w->bulk[d];
        if (w->pull[d].up)
            jobs[n++] = &w->pull[d];
    }
    for (int s = 0; s < SERVERS; s++)
        if (w->coordinator[s].up && chance(30))
            jobs[n++] = &w->coordinator[s];
    const struct gw_source *source = w->server[w->source].source;
    bool shipping = source && gw_source_state(source) >= GW_SOURCE_YOURS &&
                    gw_source_state(source) <= GW_SOURCE_SHIPPING;
    struct conn *c = &w->client[below(CLIENTS)].conn[below(SERVERS)];
    if (!shipping && below(1000) > 3) { /* later, where it hurts more */
        call_in(below(5 * MS), break_something, 0, 0);
        return;
    }
    if (n > 0 && chance(90))
        c = jobs[below(n)];
    conn_break(c);
    if (w->breaks_left-- > 1)
        call_in(below(15 * MS), break_something, 0, 0);
}

static void break_client(int a, int b)
{
    conn_break(&w->client[below(CLIENTS)].conn[below(SERVERS)]);
    if (w->now_ns < 1000 * MS)
        call_in(below(150 * MS), break_client, a, b);
}

/* ---- dispatching --------------------------------------------------------------------------- */

static void deliver(const struct event *e)
{
    struct conn *c = e->conn;
    if (c->role == ROLE_CLIENT && e->direction == 0) {
        server_request(c->b, (const struct request *)e->bytes);
    } else if (c->role == ROLE_CLIENT) {
        client_reply(c->a, c->b, (const struct reply *)e->bytes);
    } else {
        jobs_frame(c, e->direction, e->bytes, e->size);
    }
}

static void happen(const struct event *e)
{
    bool current = !e->conn || e->generation == e->conn->generation;
    if (e->party != PARTIES && (w->down[e->party] || e->life != w->life[e->party])) {
        free(e->bytes); /* it was in the memory of somebody who is dead */
        return;
    }
    switch (e->kind) {
    case EVENT_FRAME:
        /* A reply behind a broken connection reaches nobody. */
        if (current || (e->buffered && !(e->conn->role == ROLE_CLIENT && e->direction == 1)))
            deliver(e);
        break;
    case EVENT_UP:
        if (!current)
            break;
        if (!is_there(party_at(e->conn, 0)))
            break;
        if (!is_there(party_at(e->conn, 1))) {
            if (e->conn->role == ROLE_CLIENT)
                client_down(e->conn->a, e->conn->b);
            else
                jobs_down(e->conn);
            break;
        }
        e->conn->up = true;
        if (e->conn->role == ROLE_CLIENT)
            client_up(e->conn->a, e->conn->b);
        else
            jobs_up(e->conn);
        break;
    case EVENT_DOWN:
        if (!current)
            break;
        if (e->conn->role == ROLE_CLIENT)
            client_down(e->conn->a, e->conn->b);
        else
            jobs_down(e->conn);
        break;
    case EVENT_CALL:
        e->call(e->a, e->b);
        break;
    }
    free(e->bytes);
}

static void server_start_in(int s, int unused)
{
    (void)unused;
    server_start(s);
}

static bool finished(void)
{
    if (!coordinator_idle() || w->jobs_made < w->plan.jobs)
        return false;
    for (int p = 0; p < PARTIES; p++)
        if (w->down[p])
            return false;
    for (int s = 0; s < SERVERS; s++)
        if (w->server[s].source || w->server[s].target)
            return false;
    for (int c = 0; c < CLIENTS; c++)
        if (w->client[c].done < w->plan.ops || w->client[c].kept_count)
            return false;
    return true;
}

/* Every key at its owner is what it must be, and nowhere else. */
static void check_end(void)
{
    int owner = coordinator_map()->owner;
    for (int c = 0; c < CLIENTS; c++)
        for (uint64_t serial = 1; serial <= w->plan.ops; serial++)
            if (!w->truth.history[c][serial].applied && !w->was_read[c][serial])
                fail("serial %llu of client %d was acknowledged and has no effect",
                     (unsigned long long)serial, c);
    for (int s = 0; s < SERVERS; s++)
        for (int k = 0; k < KEYS; k++) {
            struct gw_op op = {.verb = GW_VERB_READ,
                               .key = (const uint8_t *)w->key[k],
                               .key_bytes = (uint16_t)strlen(w->key[k])};
            server_run(s, 0, &op);
            bool there = op.status == GW_OK;
            bool wanted = s == owner && w->truth.key[k].exists;
            if (there && s != owner && w->server[s].stale)
                continue; /* recovered, of an earlier tenure: gone before it could be asked for */
            if (there != wanted)
                fail("at the end server %d %s key %d", s, there ? "has" : "has not", k);
            else if (there && op.number != w->truth.key[k].number)
                fail("at the end key %d is %lld and should be %lld", k, (long long)op.number,
                     (long long)w->truth.key[k].number);
        }
}

static void world_open(const struct plan *plan)
{
    w = calloc(1, sizeof *w);
    GW_ASSERT(w != NULL);
    w->plan = *plan;
    gw_rand_init(&w->rand, plan->seed);
    w->breaks_left = plan->breaks ? (uint32_t)below(plan->breaks) : 0;
    bool one_slot = chance(50); /* long chains */
    for (int k = 0; k < KEYS; k++) {
        snprintf(w->key[k], sizeof w->key[k], one_slot ? "{r}key%u" : "key%u", (uint32_t)k % 1000);
        w->hash[k] = gw_key_hash(w->key[k], strlen(w->key[k]), 99);
        w->slot[k] = gw_key_slot(w->key[k], strlen(w->key[k]));
        gw_slots_add(&w->slots, w->slot[k]);
    }
    w->target = 1;
    w->holder = -1;
    coordinator_open();
    w->control = (struct conn){.role = ROLE_CONTROL};
    for (int d = 0; d < DISPATCHERS; d++) {
        w->bulk[d] = (struct conn){.role = ROLE_BULK, .a = d};
        w->pull[d] = (struct conn){.role = ROLE_PULL, .a = d};
    }
    for (int s = 0; s < SERVERS; s++) {
        w->coordinator[s] = (struct conn){.role = ROLE_COORDINATOR, .a = s};
        if (plan->durable)
            w->server[s].device = gw_ram_device_create(
                &(struct gw_ram_device_options){.page_bits = GW_STORE_PAGE_BITS_MIN,
                                                .delay_polls_max = 3,
                                                .seed = plan->seed,
                                                .log_id = plan->shared ? (uint64_t)s + 1 : 0});
    }
    for (int s = 0; s < SERVERS; s++) {
        for (int o = 0; o < SERVERS && plan->shared; o++)
            if (o != s)
                gw_ram_device_know(w->server[s].device, w->server[o].device);
        server_open(s);
        if (plan->durable && (!plan->fresh || s == 0))
            checkpoint_first(s);
        /* The first one that joins gets all slots. */
        party_call_in(s, s * 40 * MS, server_start_in, s, 0);
    }
    for (int c = 0; c < CLIENTS; c++) {
        for (int s = 0; s < SERVERS; s++) {
            w->client[c].conn[s] = (struct conn){.role = ROLE_CLIENT, .a = c, .b = s};
            conn_open(&w->client[c].conn[s]);
        }
        call_in(below(5 * MS), client_start, c, 0);
    }
    call_in(below(40 * MS), coordinator_tick, 0, 0);
    if (plan->shared)
        call_in(below(40 * MS), tier_forget_turn, 0, 0);
    if (w->breaks_left)
        call_in(below(60 * MS), break_something, 0, 0);
    if (plan->breaks && chance(70))
        call_in(below(100 * MS), break_client, 0, 0);
}

static void world_close(void)
{
    for (size_t i = 0; i < w->events; i++)
        free(w->heap[i].bytes);
    free(w->heap);
    for (int s = 0; s < SERVERS; s++) {
        if (!w->down[s])
            server_close(s);
        image_free(w->server[s].image);
    }
    for (int s = 0; s < SERVERS; s++)
        if (w->server[s].device)
            gw_ram_device_destroy(w->server[s].device);
    coordinator_close();
    free(w->fact);
    free(w);
    w = NULL;
}

static void check_stuck(void)
{
    const struct gw_source *source = w->server[w->source].source;
    const struct gw_target *target = w->server[w->target].target;
    if (w->now_ns > DEADLINE_NS)
        fail("stuck: job %u of %u is %s, source %s, target %s, clients did %u %u %u %u",
             w->jobs_made, w->plan.jobs, coordinator_job_state(),
             source ? gw_source_state_name(gw_source_state(source)) : "gone",
             target ? gw_target_state_name(gw_target_state(target)) : "gone", w->client[0].done,
             w->client[1].done, w->client[2].done, w->client[3].done);
}

bool world_run(const struct plan *plan, struct summary *summary, char *failure,
               size_t failure_bytes)
{
    world_open(plan);
    while (!w->failed && !finished()) {
        struct event e = pop();
        w->now_ns = e.at_ns;
        happen(&e);
        for (int p = 0; p < PARTIES; p++)
            if (w->dying[p] && !w->failed)
                party_die(p);
        check_stuck();
    }
    if (!w->failed)
        check_end();
    summary->pulls += w->pulls;
    summary->moved += w->moved;
    summary->replays += w->replays;
    summary->restarts += w->restarts;
    summary->breaks += w->breaks;
    summary->jobs += w->jobs_done;
    summary->cancelled += w->jobs_cancelled;
    summary->deaths += w->deaths;
    summary->checkpoints += w->checkpoints;
    summary->undone += w->undone;
    summary->resumed += w->resumed;
    summary->hot += w->hot;
    summary->indirections += w->indirections;
    summary->leads += w->leads;
    summary->followed += w->followed;
    summary->paged += w->paged;
    summary->linked += w->linked;
    for (int s = 0; s < SERVERS && plan->shared; s++)
        summary->foreign_reads += gw_ram_device_foreign_reads(w->server[s].device);
    memcpy(summary->step, w->step, sizeof summary->step);
    bool passed = !w->failed;
    snprintf(failure, failure_bytes, "%s", w->failure);
    world_close();
    return passed;
}
