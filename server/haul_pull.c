/* haul_pull.c - PULL frames: look-ups for the new owner of a range that leaves us; and at the new
 * owner, whom a completed chunk wakes.
 *
 * Rules: 1. What is in memory is answered in the turn in which it is asked. Look-ups whose records
 * are on the device wait in the park, like a client's operations, and are answered in further
 * frames: whenever as many are there as are awaited yet, so that neither the first of them waits
 * for the last one nor each needs a frame with a place for every key. 2. What waits so is
 * bounded, in frames and in bytes; beyond that, and when memory is short, a key is answered "ask
 * again". 3. The connection may close and the job end meanwhile: both are looked at when an outcome
 * comes, never held. 4. A key of ours that the source says lies in the shared tier is read there
 * like any cold record, when its first operation is tried again; if that fails the source is asked
 * for the record itself. */
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "server/haul_internal.h"

#define PULLS_WAITING_MAX 64u
#define LEADS_AGAIN_NS    2000000000ull

static void late_free(struct gwi_haul *haul, struct gwi_pull *pull)
{
    for (uint32_t i = 0; i < pull->f.count && pull->there > 0; i++) {
        pull->there -= pull->late[i].count != 0;
        free(pull->late[i].bytes);
        pull->late[i] = (struct gw_pull_late){0};
    }
    haul->pulls_bytes -= pull->bytes;
    pull->bytes = 0;
}

static void pull_free(struct gwi_haul *haul, struct gwi_pull *pull)
{
    *pull->at = pull->next;
    if (pull->next)
        pull->next->at = pull->at;
    haul->pulls_count--;
    late_free(haul, pull);
    free(pull);
}

void gwi_haul_pulls_free(struct gwi_haul *haul)
{
    while (haul->pulls)
        pull_free(haul, haul->pulls);
}

void gwi_haul_pulls_orphan(struct gwi_haul *haul, const struct gwi_link *link)
{
    for (struct gwi_pull *pull = haul->pulls; pull; pull = pull->next)
        if (pull->link == link)
            pull->link = NULL;
}

struct pulling {
    struct gwi_dispatcher *d;
    struct gwi_link *link;
    const struct gw_frame *f;
    struct gwi_pull *pull; /* NULL: none yet */
};

static struct gwi_pull *pull_create(struct pulling *p)
{
    struct gwi_haul *haul = p->d->haul;
    if (haul->pulls_count >= PULLS_WAITING_MAX || haul->pulls_bytes > haul->room_bytes)
        return NULL;
    struct gwi_pull *pull = calloc(1, sizeof *pull + p->f->count * sizeof pull->late[0]);
    if (!pull)
        return NULL;
    *pull = (struct gwi_pull){.next = haul->pulls, .at = &haul->pulls, .link = p->link, .f = *p->f};
    if (pull->next)
        pull->next->at = &pull->next;
    haul->pulls = pull;
    haul->pulls_count++;
    return pull;
}

/* A key of the PULL in hand is on the device: its look-up waits in the park. */
static bool pull_is_cold(void *ctx, uint32_t index, const struct gw_op *op)
{
    struct pulling *p = ctx;
    struct gwi_park *park = &p->d->park;
    if (!p->pull)
        p->pull = pull_create(p);
    if (!p->pull || park->bytes > p->d->park_bytes_max)
        return false;
    struct gwi_parked_op *parked = gwi_parked_op_create(op->key, op->key_bytes, NULL, 0);
    if (!parked)
        return false;
    parked->pull = p->pull;
    parked->serial = index;
    parked->verb = GW_VERB_FETCH;
    parked->parked_ns = p->d->now_ns;
    struct gwi_parked_key *key = gwi_park_add(park, op->hash, op->slot, parked);
    if (!key) {
        free(parked);
        return false;
    }
    if (key->first == parked)
        gwi_park_to_cold(park, key, p->d->now_ns);
    p->pull->waiting++;
    return true;
}

/* Sends what is there. */
static void answer_more(struct gwi_dispatcher *d, struct gwi_pull *pull)
{
    if (pull->link && pull->there) {
        struct gw_conn *conn = pull->link->conn;
        size_t bytes = GW_FRAME_HEADER + pull->f.count + pull->bytes;
        uint8_t *room = gw_conn_reserve(conn, bytes);
        if (room)
            gw_conn_commit(conn, gw_outgoing_pull_more(&pull->f, pull->late, room, bytes));
        else
            gw_conn_close(conn); /* it has not read for a whole backlog; it asks again (R20) */
    }
    late_free(d->haul, pull);
}

void gwi_haul_pulled(struct gwi_dispatcher *d, struct gwi_pull *pull, uint32_t index,
                     const struct gw_op *op, enum gw_status st)
{
    struct gwi_outgoing_job *job = gwi_outgoing_by_id(d->server, pull->f.session);
    if (!job || !atomic_load_explicit(&job->shipping, memory_order_acquire))
        job = NULL;
    struct gw_pull_late *late = &pull->late[index];
    size_t bytes = op && st >= GW_OK ? gw_outgoing_pull_late_bytes(op) : 1;
    size_t frame = GW_FRAME_HEADER + pull->f.count + pull->bytes + bytes;
    if (frame > d->haul->room_bytes && pull->there)
        answer_more(d, pull);
    if (pull->link && GW_FRAME_HEADER + pull->f.count + bytes <= d->haul->room_bytes &&
        d->haul->pulls_bytes + bytes <= 2 * d->haul->room_bytes)
        late->bytes = malloc(bytes);
    late->count = 1; /* no bytes: it is asked for again */
    if (late->bytes)
        late->count = gw_outgoing_pull_late(job ? job->out : NULL, op, st, late->bytes, bytes);
    pull->there++;
    pull->bytes += late->count;
    d->haul->pulls_bytes += late->count;
    pull->waiting--;
    if (pull->there >= pull->waiting)
        answer_more(d, pull);
    if (pull->waiting == 0)
        pull_free(d->haul, pull);
}

enum gw_status gwi_haul_pull_frame(struct gwi_link *link, const struct gw_frame *f,
                                   const uint8_t *body)
{
    struct gwi_dispatcher *d = link->dispatcher;
    struct gwi_haul *haul = d->haul;
    struct gwi_outgoing_job *job = gwi_outgoing_by_id(d->server, f->session);
    struct pulling p = {d, link, f, NULL};
    size_t used = 0;
    enum gw_status st;
    struct gw_reader r = gw_reader_of(body, f->bytes - GW_FRAME_HEADER);
    if (job && atomic_load_explicit(&job->shipping, memory_order_acquire))
        st = gw_outgoing_answer_pull(job->out, d->store, d->server->store, f, r, haul->scratch,
                                     haul->room_bytes, haul->room, haul->room_bytes, &used,
                                     pull_is_cold, &p);
    else
        st = gw_outgoing_answer_unknown(f, haul->room, haul->room_bytes, &used);
    struct gwi_pull *pull = p.pull;
    if (pull && st == GW_PENDING && pull->waiting == f->count)
        return GW_OK; /* nothing to say yet */
    if (pull && pull->waiting && st != GW_PENDING)
        pull->link = NULL; /* malformed behind keys that are parked */
    else if (pull && pull->waiting == 0)
        pull_free(haul, pull);
    if (st != GW_OK && st != GW_PENDING)
        return gwi_link_error(link->conn, st, "malformed PULL");
    return gwi_link_send(link->conn, haul->room, used) ? GW_OK : GW_E_LIMIT;
}

enum gw_status gwi_haul_follow(struct gwi_dispatcher *d, struct gwi_parked_key *key,
                               const struct gwi_parked_op *op)
{
    const struct gwi_view *view = d->view;
    struct gwi_incoming_job *job = view->state[key->slot] == GWI_SLOT_ARRIVING
                                       ? view->incoming[view->incoming_of[key->slot]]
                                       : NULL;
    struct gw_incoming *in = job ? atomic_load_explicit(&job->in, memory_order_acquire) : NULL;
    enum gw_status st = GW_OK; /* nothing of it is absent any more */
    if (in)
        st = gw_incoming_follow(in, d->store, d->server->store, &key->lead, op->bytes,
                                op->key_bytes, d->room, d->room_bytes);
    if (st == GW_PENDING || st == GW_NOT_YET || st == GW_E_FULL)
        return st == GW_PENDING ? st : GW_NOT_YET;
    key->led = false;
    key->negative |= st == GW_NOT_FOUND;
    if (st == GW_OK || st == GW_NOT_FOUND || st == GW_RETRY)
        return GW_OK;
    /* What is too large for our room, or cannot be had now, the source reads and sends. While the
     * object store is away each key would wait for its deadline first: the others do not ask. */
    key->read_there = true;
    if (st == GW_E_UNREACHABLE)
        d->haul->leads_ns = d->now_ns + LEADS_AGAIN_NS;
    return GW_OK;
}

uint32_t gwi_haul_bring_settled(struct gwi_dispatcher *d)
{
    const struct gwi_view *view = d->view;
    uint64_t chunks = 0;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_incoming_job *job =
            atomic_load_explicit(&d->server->incoming[i], memory_order_acquire);
        struct gw_incoming *in = job ? atomic_load_explicit(&job->in, memory_order_acquire) : NULL;
        chunks += in ? gw_incoming_chunks_done(in) : 0;
    }
    if (chunks == d->haul->chunks_seen)
        return 0;
    d->haul->chunks_seen = chunks;
    uint32_t n = 0;
    for (struct gwi_parked_key *key = d->park.ring.after, *next; key != &d->park.ring; key = next) {
        next = key->after;
        if (view->state[key->slot] != GWI_SLOT_ARRIVING ||
            !gwi_haul_settled(view, key->slot, key->hash))
            continue;
        gwi_park_to_front(&d->park, key);
        n++;
    }
    return n;
}
