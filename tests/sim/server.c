/* server.c - a server's dispatchers as the real ones work: they notice views late, park what must
 * wait, and remember what they applied. */
#include <stdlib.h>
#include <string.h>

#include "client/wire/ops.h"
#include "index/base/assert.h"
#include "world.h"

void server_open(int s)
{
    struct server *server = &w->server[s];
    struct gw_store_options o = {.log_bytes = 16u << GW_STORE_PAGE_BITS_MIN,
                                 .index_bytes = 64u << 10,
                                 .page_bits = GW_STORE_PAGE_BITS_MIN,
                                 .threads_max = DISPATCHERS,
                                 .hash_seed = 99};
    GW_ASSERT(gw_store_open(&o, &server->store) == GW_OK);
    server->map_version = 1;
    server->view = (struct view){1, s == 0 ? GW_RANGE_OWNED : GW_RANGE_FOREIGN, 1};
    for (int d = 0; d < DISPATCHERS; d++) {
        GW_ASSERT(gw_store_thread_open(server->store, &server->dispatcher[d].thread) == GW_OK);
        server->dispatcher[d].view = server->view;
    }
}

void server_close(int s)
{
    struct server *server = &w->server[s];
    for (int d = 0; d < DISPATCHERS; d++) {
        struct dispatcher *dispatcher = &server->dispatcher[d];
        for (int c = 0; c < CLIENTS; c++)
            gw_applied_destroy(dispatcher->window[c]);
        while (dispatcher->parked) {
            struct parked *p = dispatcher->parked;
            dispatcher->parked = p->next;
            free(p);
        }
        gw_store_thread_close(dispatcher->thread);
    }
    gw_source_destroy(server->source);
    gw_target_destroy(server->target);
    gw_outgoing_destroy(server->out);
    gw_incoming_destroy(server->in);
    gw_unlinker_destroy(server->unlinker);
    for (uint32_t i = 0; i < 8; i++)
        free(server->merge[i].entries);
    free(server->collected);
    gw_store_close(server->store);
}

/* ---- views --------------------------------------------------------------------------------- */

void server_publish(int s, bool cut)
{
    struct server *server = &w->server[s];
    enum gw_range_state settled = server->map_owner == s ? GW_RANGE_OWNED : GW_RANGE_FOREIGN;
    server->view.number = server->map_version;
    server->view.state = server->range_set ? server->range : settled;
    server->view.generation++;
    if (cut)
        server->cut_generation = server->view.generation;
}

void server_adopt_map(int s, uint64_t version, int owner)
{
    struct server *server = &w->server[s];
    if (version <= server->map_version)
        return;
    /* What takes the range from us comes into force with our cut (jobs.c). */
    if (server->map_owner == s && owner != s)
        return;
    server->map_version = version;
    server->map_owner = owner;
    server_publish(s, false);
    jobs_map_adopted(s);
}

/* ---- operations ---------------------------------------------------------------------------- */

static void answer(int s, const struct request *r, enum gw_status status, int64_t number)
{
    struct server *server = &w->server[s];
    struct reply reply = {.serial = r->serial,
                          .status = status,
                          .number = number,
                          .view = server->view.number,
                          .owner = server->map_owner};
    if (status == GW_MOVED)
        w->moved++;
    conn_send(&w->client[r->client].conn[s], 1, &reply, sizeof reply);
}

static struct gw_applied_window *window(struct dispatcher *dispatcher, int c)
{
    if (!dispatcher->window[c])
        dispatcher->window[c] = gw_applied_create(64);
    GW_ASSERT(dispatcher->window[c] != NULL);
    return dispatcher->window[c];
}

static enum gw_status execute(int s, int d, const struct request *r, bool settled, int64_t *number)
{
    static const uint8_t verbs[] = {GW_VERB_ADD, GW_VERB_UPSERT, GW_VERB_DELETE, GW_VERB_READ};
    struct server *server = &w->server[s];
    struct gw_op op = {.verb = verbs[r->kind],
                       .key = (const uint8_t *)w->key[r->key],
                       .key_bytes = (uint16_t)strlen(w->key[r->key]),
                       .delta = 1};
    if (r->kind == OP_PUT) { /* blind */
        op.flags = GW_OP_COUNTER;
        op.number = (int64_t)r->serial * 1000 + r->client;
    } else if (!settled) {
        op.flags = GW_OP_UNSETTLED;
    }
    size_t used;
    gw_store_hash(server->store, &op);
    gw_store_poll(server->dispatcher[d].thread);
    gw_store_enter(server->dispatcher[d].thread);
    gw_store_execute(server->dispatcher[d].thread, &op, 1, NULL, 0, &used);
    gw_store_exit(server->dispatcher[d].thread);
    *number = r->kind == OP_DELETE || op.status != GW_OK ? 0 : op.number;
    return (enum gw_status)op.status;
}

/* Executes, or says ABSENT: a pull is needed. */
static bool try(int s, int d, const struct request *r, bool negative)
{
    struct server *server = &w->server[s];
    struct dispatcher *dispatcher = &server->dispatcher[d];
    bool settled = true;
    if (dispatcher->view.state == GW_RANGE_ARRIVING)
        settled = negative || gw_incoming_complete(server->in, w->hash[r->key]); /* before (R10) */
    int64_t number;
    enum gw_status status = execute(s, d, r, settled, &number);
    if (status == GW_ABSENT || status == GW_RETRY)
        return false;
    if (status == GW_E_FULL) {
        fail("the store is full: the world is too small");
        return true;
    }
    truth_check(s, r, status, number);
    if (w->failed)
        return true;
    if (r->kind != OP_READ) {
        GW_ASSERT(gw_applied_reserve(window(dispatcher, r->client), r->serial) == GW_OK);
        gw_applied_record(window(dispatcher, r->client), r->serial, w->slot[r->key], (int8_t)status,
                          1, number ? GW_WIRE_COUNTER : 0, number);
    } else {
        gw_applied_forget(window(dispatcher, r->client), r->serial);
    }
    answer(s, r, status, number);
    return true;
}

static struct parked *park(struct dispatcher *dispatcher, const struct request *r, bool begun)
{
    struct parked *p = calloc(1, sizeof *p);
    GW_ASSERT(p != NULL);
    p->request = *r;
    p->begun = begun;
    p->next = dispatcher->parked;
    dispatcher->parked = p;
    return p;
}

/* A request of this view whose slot is ours. */
static void take(int s, int d, const struct request *r)
{
    struct dispatcher *dispatcher = &w->server[s].dispatcher[d];
    struct gw_applied_window *applied = window(dispatcher, r->client);
    gw_applied_confirm(applied, r->serial); /* one at a time: all before are answered */
    const struct gw_applied_entry *e = NULL;
    switch (gw_applied_check(applied, r->serial, &e)) {
    case GW_APPLIED_DONE:
        w->replays++;
        answer(s, r, (enum gw_status)e->status, e->number);
        return;
    case GW_APPLIED_PENDING: /* the parked one answers */
    case GW_APPLIED_BELOW:   /* an old connection's buffer */
        return;
    default:
        break;
    }
    /* As from a device: accepted, executed later (hole 4). */
    bool slow = dispatcher->view.state == GW_RANGE_OWNED && chance(25);
    if (!slow && try(s, d, r, false))
        return;
    GW_ASSERT(gw_applied_reserve(applied, r->serial) == GW_OK);
    gw_applied_begin(applied, r->serial, w->slot[r->key]);
    struct parked *p = park(dispatcher, r, true);
    p->slow_until_ns = slow ? w->now_ns + below(3 * MS) : 0;
    p->wanted = !slow;
}

void server_request(int s, const struct request *r)
{
    int d = r->client % DISPATCHERS;
    struct dispatcher *dispatcher = &w->server[s].dispatcher[d];
    if (r->view != dispatcher->view.number) {
        answer(s, r, r->view > dispatcher->view.number ? GW_NOT_YET : GW_WRONG_VIEW, 0);
        return;
    }
    switch (dispatcher->view.state) {
    case GW_RANGE_OWNED:
    case GW_RANGE_ARRIVING:
        take(s, d, r);
        break;
    case GW_RANGE_WAITING:
        park(dispatcher, r, false);
        break;
    default:
        answer(s, r, GW_MOVED, 0);
        break;
    }
}

/* ---- turns --------------------------------------------------------------------------------- */

/* The range is not ours any more: whatever waits goes back unexecuted (R5). */
static void return_parked(int s, int d)
{
    struct dispatcher *dispatcher = &w->server[s].dispatcher[d];
    while (dispatcher->parked) {
        struct parked *p = dispatcher->parked;
        dispatcher->parked = p->next;
        if (p->begun)
            gw_applied_forget(window(dispatcher, p->request.client), p->request.serial);
        answer(s, &p->request, GW_MOVED, 0);
        free(p);
    }
}

static void retry_parked(int s, int d)
{
    struct dispatcher *dispatcher = &w->server[s].dispatcher[d];
    struct parked **at = &dispatcher->parked, *p;
    struct parked *waited = NULL; /* for "yours": these start from the beginning */
    while ((p = *at) != NULL) {
        bool executed =
            p->begun && w->now_ns >= p->slow_until_ns && try(s, d, &p->request, p->negative);
        if (p->begun && !executed) {
            p->wanted |= w->now_ns >= p->slow_until_ns && !p->pull;
            p->negative = false;
            at = &p->next;
            continue;
        }
        *at = p->next;
        if (executed) {
            free(p);
        } else {
            p->next = waited;
            waited = p;
        }
    }
    while (waited) {
        p = waited;
        waited = p->next;
        server_request(s, &p->request);
        free(p);
    }
}

void parked_again(int s, int d, int key, enum gw_status outcome)
{
    for (struct parked *p = w->server[s].dispatcher[d].parked; p; p = p->next) {
        if (p->request.key != key || !p->pull)
            continue;
        p->pull = 0;
        p->negative = outcome == GW_NOT_FOUND;
        p->wanted = outcome == GW_RETRY;
    }
}

void server_drop_asked(int s, int d)
{
    struct dispatcher *dispatcher = &w->server[s].dispatcher[d];
    memset(dispatcher->asked, 0, sizeof dispatcher->asked);
    for (struct parked *p = dispatcher->parked; p; p = p->next)
        if (p->pull) {
            p->pull = 0;
            p->wanted = true;
        }
}

static void notice_view(int s, int d)
{
    struct server *server = &w->server[s];
    struct dispatcher *dispatcher = &server->dispatcher[d];
    if (dispatcher->view.generation == server->view.generation)
        return;
    dispatcher->view = server->view;
    if (dispatcher->view.state == GW_RANGE_LEAVING || dispatcher->view.state == GW_RANGE_FOREIGN)
        return_parked(s, d);
    if (server->cut_generation == 0)
        return;
    for (int i = 0; i < DISPATCHERS; i++)
        if (server->dispatcher[i].view.generation < server->cut_generation)
            return;
    server->cut_generation = 0;
    jobs_cut_passed(s);
}

void server_turn(int s, int d)
{
    notice_view(s, d);
    enum gw_range_state state = w->server[s].dispatcher[d].view.state;
    if (state == GW_RANGE_OWNED || state == GW_RANGE_ARRIVING)
        retry_parked(s, d);
    if (state == GW_RANGE_ARRIVING)
        jobs_pull(s, d);
    jobs_turn(s, d);
    call_in(chance(3) ? below(20 * MS) : 50 * US + below(MS), server_turn, s, d);
}
