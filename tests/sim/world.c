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

void call_in(uint64_t delay_ns, void (*call)(int, int), int a, int b)
{
    push((struct event){
        .at_ns = w->now_ns + delay_ns, .kind = EVENT_CALL, .call = call, .a = a, .b = b});
}

/* ---- connections --------------------------------------------------------------------------- */

static uint64_t delay(void)
{
    return chance(5) ? below(20 * MS) : 20 * US + below(500 * US);
}

void conn_open(struct conn *c)
{
    c->generation++;
    c->up = false;
    c->last_ns[0] = c->last_ns[1] = 0;
    push((struct event){.at_ns = w->now_ns + delay(),
                        .kind = chance(10) && w->breaks_left ? EVENT_DOWN : EVENT_UP,
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
    if (!c->up)
        return;
    uint64_t at = w->now_ns + delay();
    if (at < c->last_ns[direction])
        at = c->last_ns[direction];
    c->last_ns[direction] = at;
    struct event e = {.at_ns = at,
                      .kind = EVENT_FRAME,
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
    push((struct event){
        .at_ns = w->now_ns + delay(), .kind = EVENT_DOWN, .conn = c, .generation = c->generation});
}

static void break_something(int a, int b)
{
    (void)a;
    (void)b;
    struct conn *jobs[1 + 2 * DISPATCHERS];
    size_t n = 0;
    if (w->control.up)
        jobs[n++] = &w->control;
    for (int d = 0; d < DISPATCHERS; d++) {
        if (w->bulk[d].up)
            jobs[n++] = &w->bulk[d];
        if (w->pull[d].up)
            jobs[n++] = &w->pull[d];
    }
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
    switch (e->kind) {
    case EVENT_FRAME:
        /* A reply behind a broken connection reaches nobody. */
        if (current || (e->buffered && !(e->conn->role == ROLE_CLIENT && e->direction == 1)))
            deliver(e);
        break;
    case EVENT_UP:
        if (!current)
            break;
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

static bool finished(void)
{
    if (w->job_open || w->jobs_made < JOBS)
        return false;
    for (int s = 0; s < SERVERS; s++)
        if (w->server[s].source || w->server[s].target)
            return false;
    for (int c = 0; c < CLIENTS; c++)
        if (w->client[c].done < OPS)
            return false;
    return true;
}

/* Every key at its owner is what it must be, and nowhere else. */
static void check_end(void)
{
    for (int s = 0; s < SERVERS; s++)
        for (int k = 0; k < KEYS; k++) {
            struct gw_op op = {.verb = GW_VERB_READ,
                               .key = (const uint8_t *)w->key[k],
                               .key_bytes = (uint16_t)strlen(w->key[k])};
            size_t used;
            gw_store_hash(w->server[s].store, &op);
            gw_store_enter(w->server[s].dispatcher[0].thread);
            gw_store_execute(w->server[s].dispatcher[0].thread, &op, 1, NULL, 0, &used);
            gw_store_exit(w->server[s].dispatcher[0].thread);
            bool there = op.status == GW_OK;
            bool wanted = s == w->map_owner && w->truth[k].exists;
            if (there != wanted)
                fail("at the end server %d %s key %d", s, there ? "has" : "has not", k);
            else if (there && op.number != w->truth[k].number)
                fail("at the end key %d is %lld and should be %lld", k, (long long)op.number,
                     (long long)w->truth[k].number);
        }
}

static void world_open(uint64_t seed)
{
    w = calloc(1, sizeof *w);
    GW_ASSERT(w != NULL);
    w->seed = seed;
    gw_rand_init(&w->rand, seed);
    w->map_version = 1;
    w->breaks_left = (uint32_t)below(16);
    for (int k = 0; k < KEYS; k++)
        snprintf(w->key[k], sizeof w->key[k], "{r}key%u",
                 (uint32_t)k % 1000); /* one slot: long chains */
    if (chance(50))
        for (int k = 0; k < KEYS; k++)
            snprintf(w->key[k], sizeof w->key[k], "key%d", k);
    w->control = (struct conn){.role = ROLE_CONTROL};
    for (int d = 0; d < DISPATCHERS; d++) {
        w->bulk[d] = (struct conn){.role = ROLE_BULK, .a = d};
        w->pull[d] = (struct conn){.role = ROLE_PULL, .a = d};
    }
    for (int s = 0; s < SERVERS; s++) {
        w->coordinator[s] = (struct conn){.role = ROLE_COORDINATOR, .a = s, .up = true};
        server_open(s);
        for (int d = 0; d < DISPATCHERS; d++)
            call_in(below(MS), server_turn, s, d);
        call_in(below(100 * MS), jobs_tick, s, 0);
    }
    for (int k = 0; k < KEYS; k++) {
        w->hash[k] =
            gw_key_hash(w->key[k], strlen(w->key[k]), gw_store_hash_seed(w->server[0].store));
        w->slot[k] = gw_key_slot(w->key[k], strlen(w->key[k]));
    }
    for (int c = 0; c < CLIENTS; c++) {
        w->client[c].map_version = 1;
        for (int s = 0; s < SERVERS; s++) {
            w->client[c].conn[s] = (struct conn){.role = ROLE_CLIENT, .a = c, .b = s};
            conn_open(&w->client[c].conn[s]);
        }
        call_in(below(5 * MS), client_start, c, 0);
    }
    call_in(below(40 * MS), coordinator_tick, 0, 0);
    if (w->breaks_left)
        call_in(below(60 * MS), break_something, 0, 0);
    if (chance(70))
        call_in(below(100 * MS), break_client, 0, 0);
}

static void world_close(void)
{
    for (size_t i = 0; i < w->events; i++)
        free(w->heap[i].bytes);
    free(w->heap);
    for (int s = 0; s < SERVERS; s++)
        server_close(s);
    free(w);
    w = NULL;
}

bool world_run(uint64_t seed, struct summary *summary, char *failure, size_t failure_bytes)
{
    world_open(seed);
    while (!w->failed && !finished()) {
        struct event e = pop();
        w->now_ns = e.at_ns;
        happen(&e);
        if (w->now_ns > DEADLINE_NS)
            fail("stuck: job %llu is %s, source %s, target %s, clients did %u %u %u %u",
                 (unsigned long long)w->job.id, gw_job_state_name(w->job.state),
                 w->server[w->source].source
                     ? gw_source_state_name(gw_source_state(w->server[w->source].source))
                     : "gone",
                 w->server[w->target].target
                     ? gw_target_state_name(gw_target_state(w->server[w->target].target))
                     : "gone",
                 w->client[0].done, w->client[1].done, w->client[2].done, w->client[3].done);
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
    bool passed = !w->failed;
    snprintf(failure, failure_bytes, "%s", w->failure);
    world_close();
    return passed;
}
