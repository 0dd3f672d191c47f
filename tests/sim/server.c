/* server.c - a server's dispatchers as the real ones work: they notice views late, park what must
 * wait, and remember what they applied. */
#include <stdlib.h>
#include <string.h>

#include "client/wire/ops.h"
#include "index/base/assert.h"
#include "world.h"

static void restore_windows(struct server *server)
{
    for (int d = 0; d < DISPATCHERS; d++)
        for (int c = 0; c < CLIENTS; c++) {
            const struct window_image *image = &server->image->window[d][c];
            if (!image->there)
                continue;
            struct gw_applied_window *window = gw_applied_create(GW_APPLIED_WINDOW_MIN);
            GW_ASSERT(window != NULL);
            server->dispatcher[d].window[c] = window;
            gw_applied_confirm(window, image->confirmed);
            for (size_t i = 0; i < image->count; i++)
                GW_ASSERT(gw_applied_merge(window, &image->entries[i]) == GW_OK);
        }
}

/* Above all that an earlier life has written. */
static gw_addr unused_address(const struct server *server)
{
    uint64_t segment = (uint64_t)8 << GW_STORE_PAGE_BITS_MIN;
    return gw_addr_of((server->log_tail.v / segment + 1) * segment);
}

/* From the newest image, under the coordinator's map: what lies in it of an earlier tenure of ours
 * is dropped, what is not ours is kept (R23). */
static void recover(int s, const struct gw_store_options *options)
{
    struct server *server = &w->server[s];
    const struct image *image = server->image;
    const struct map *map = coordinator_map();
    bool drop = map->owner == s && map->since > image->view;
    char why[256] = "";
    enum gw_status st = gw_test_recover(options, &image->store, NULL, unused_address(server), 2,
                                        drop ? &w->slots : NULL, &server->store, why);
    if (st != GW_OK) {
        fail("server %d does not recover: %s", s, why);
        GW_ASSERT(gw_store_open(options, &server->store) == GW_OK);
        return;
    }
    server->held = map->owner == s;
    server->stale = !server->held;
    server->image_number = image->number;
    gw_store_retain_all(server->store);
    gw_store_retain(server->store, image->store.numbers.begin, image->store.numbers.end);
    gw_store_keep_tombstones(server->store, &w->slots); /* until the jobs are known */
    restore_windows(server);
}

void server_open(int s)
{
    struct server *server = &w->server[s];
    /* With a shared tier little memory, so that much is cold. */
    uint32_t pages = w->plan.shared ? 8 : 16;
    struct gw_store_options o = {.log_bytes = (uint64_t)pages << GW_STORE_PAGE_BITS_MIN,
                                 .index_bytes = 64u << 10,
                                 .page_bits = GW_STORE_PAGE_BITS_MIN,
                                 .threads_max = DISPATCHERS + 2,
                                 .hash_seed = 99};
    if (server->device)
        o.device = gw_ram_device_face(server->device);
    server->incarnation = 16 * (w->life[s] + 1) + (uint64_t)s;
    if (server->image) {
        recover(s, &o);
    } else {
        o.log_start = server->log_tail.v ? unused_address(server).v : 0;
        GW_ASSERT(gw_store_open(&o, &server->store) == GW_OK);
        if (server->device)
            gw_store_retain_all(server->store);
    }
    server->view = (struct view){0, GW_RANGE_FOREIGN, 1};
    for (int d = 0; d < DISPATCHERS; d++) {
        GW_ASSERT(gw_store_thread_open(server->store, &server->dispatcher[d].thread) == GW_OK);
        server->dispatcher[d].view = server->view;
    }
}

void server_start(int s)
{
    for (int d = 0; d < DISPATCHERS; d++)
        party_call_in(s, below(MS), server_turn, s, d);
    party_call_in(s, below(20 * MS), jobs_tick, s, 0);
    bool fresh = w->plan.fresh && !w->server[s].image;
    if (w->server[s].device)
        party_call_in(s, fresh ? 400 * MS + below(400 * MS) : below(50 * MS), checkpoint_turn, s,
                      0);
    conn_open(&w->coordinator[s]);
}

/* What its death leaves stays. */
void server_close(int s)
{
    struct server *server = &w->server[s];
    struct gw_store_stats stats;
    gw_store_stats(server->store, &stats);
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
    image_free(server->image_next);
    gw_store_close(server->store);
    if (server->device)
        gw_ram_device_crash(server->device);
    *server = (struct server){.device = server->device,
                              .image = server->image,
                              .log_tail = gw_addr_of(stats.log_tail),
                              .incarnation = server->incarnation};
}

/* ---- views --------------------------------------------------------------------------------- */

static bool may_publish(const struct server *server, int s)
{
    if (server->map.version == 0 || !server->jobs_known)
        return false;
    return !server->stale || server->source ||
           server->map.owner != s; /* server/control.c, rule 5 */
}

void server_publish(int s, bool cut)
{
    struct server *server = &w->server[s];
    server->cut_wanted |= cut;
    server->publish_wanted = !may_publish(server, s);
    if (server->publish_wanted || !party_step(s))
        return;
    enum gw_range_state settled = server->map.owner == s ? GW_RANGE_OWNED : GW_RANGE_FOREIGN;
    server->view.number = server->map.view[s];
    if (settled == GW_RANGE_OWNED && server->target &&
        gw_target_state(server->target) < GW_TARGET_ENTERING)
        settled = GW_RANGE_WAITING; /* server/control.c, overlay_unentered */
    server->view.state = server->range_set ? server->range : settled;
    server->view.generation++;
    if (server->cut_wanted)
        server->cut_generation = server->view.generation;
    server->cut_wanted = false;
}

void server_adopt_map(int s, const struct map *map)
{
    struct server *server = &w->server[s];
    if (map->version <= server->map.version)
        return;
    server->map = *map;
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
                          .position = server->device ? server->image_number + 1 : 0,
                          .incarnation = server->incarnation,
                          .map = server->map};
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

/* What has been read is tried again by everybody who waits. */
static void poll_store(struct dispatcher *dispatcher)
{
    uint64_t hashes[16];
    gw_store_poll(dispatcher->thread);
    while (gw_store_ready(dispatcher->thread, hashes, 16) != 0) {}
}

void server_run(int s, int d, struct gw_op *op)
{
    struct dispatcher *dispatcher = &w->server[s].dispatcher[d];
    struct gw_op wanted = *op;
    gw_store_hash(w->server[s].store, &wanted);
    for (uint32_t turns = 0; turns < 10000; turns++) {
        size_t used;
        *op = wanted;
        poll_store(dispatcher);
        gw_store_enter(dispatcher->thread);
        gw_store_execute(dispatcher->thread, op, 1, NULL, 0, &used);
        gw_store_exit(dispatcher->thread);
        if (op->status != GW_PENDING && op->status != GW_RETRY)
            return;
    }
    fail("server %d never reads what it wants", s);
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
    poll_store(&server->dispatcher[d]);
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
    if (status == GW_ABSENT || status == GW_RETRY || status == GW_PENDING)
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
    gw_applied_confirm(applied, r->confirmed);
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

void parked_again(int s, int d, int key, enum gw_status outcome,
                  const struct gw_incoming_lead *lead)
{
    for (struct parked *p = w->server[s].dispatcher[d].parked; p; p = p->next) {
        if (p->request.key != key || !p->pull)
            continue;
        p->led = outcome == GW_END;
        if (p->led) {
            p->lead = *lead;
            continue;
        }
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
        if (p->pull && !p->led) {
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
    if (w->server[s].publish_wanted)
        server_publish(s, false);
    poll_store(&w->server[s].dispatcher[d]);
    notice_view(s, d);
    enum gw_range_state state = w->server[s].dispatcher[d].view.state;
    if (state == GW_RANGE_OWNED || state == GW_RANGE_ARRIVING)
        retry_parked(s, d);
    if (state == GW_RANGE_ARRIVING) {
        jobs_follow(s, d);
        jobs_pull(s, d);
    }
    jobs_turn(s, d);
    party_call_in(s, chance(3) ? below(20 * MS) : 50 * US + below(MS), server_turn, s, d);
}
