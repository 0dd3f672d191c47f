/* haul.c - turns of migration work and the connections that carry it; see haul.h.
 *
 * Rules: 1. A portion a turn for each job, unless its connection has a backlog (the kernel and the
 * receiver set the pace); while clients are served, no more than pace.h gives, for shipping,
 * inserting and unlinking together. 2. Pulls are answered in the turn in which they come,
 * before any portion; those whose records are on the device wait in the park (haul_pull.c). 3. A
 * key is asked for once until its answer or the connection's loss (R20).
 */
#include "server/haul.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "server/control.h"
#include "server/haul_internal.h"

#define FRAME_BYTES           (32u << 10) /* usual CHUNK frame */
#define BULK_BACKLOG          (256u << 10)
#define BUCKETS_A_TURN        2048u
#define BUSY_NS               5000000ull
#define UNLINK_BUCKETS_A_TURN 2048u
#define PULL_KEYS_MAX         512u
#define RECONNECT_NS          20000000ull
#define HOLD_SPACE_NS         2000000ull
#define HOLD_COLD_NS          20000000ull

struct asked { /* one PULL under way */
    struct asked *next;
    uint64_t sequence;
    uint32_t count, left; /* keys, and those without an answer */
    uint64_t hash[];
};

/* One connection of one dispatcher for one job; freed when the connection's last callback has run.
 */
struct hauler {
    struct hauler *next, **at; /* list of all of the dispatcher's */
    struct gwi_dispatcher *d;
    uint64_t job; /* 0: let go */
    uint64_t attempt;
    struct gw_conn *conn; /* NULL: none */
    bool up;
    uint64_t retry_ns;
    uint64_t next_pull;
    struct asked *asked;
    struct gwi_incoming_job *incoming; /* pulls: valid while job != 0 */
};

struct gwi_haul *gwi_haul_create(struct gwi_dispatcher *d)
{
    struct gwi_haul *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->room_bytes = d->server->frame_bytes_max;
    /* Borrowed: a frame in the making and the values for it are needed between two batches only. */
    h->room = d->reply;
    h->scratch = d->room;
    return h;
}

static void free_asked(struct hauler *h)
{
    for (struct asked *a = h->asked, *next; a; a = next) {
        next = a->next;
        free(a);
    }
    h->asked = NULL;
}

static void hauler_free(struct hauler *h)
{
    *h->at = h->next;
    if (h->next)
        h->next->at = h->at;
    free_asked(h);
    free(h);
}

void gwi_haul_destroy(struct gwi_haul *haul)
{
    if (!haul)
        return;
    while (haul->all)
        hauler_free(haul->all);
    gwi_haul_pulls_free(haul);
    free(haul);
}

static bool send_hello(struct hauler *h, struct gw_conn *conn, uint8_t role)
{
    struct gw_hello hello = {.role = role, .index = h->d->index, .incarnation = 0};
    memcpy(hello.id, h->d->server->options.id, sizeof hello.id);
    uint8_t frame[GW_FRAME_HEADER + 128];
    struct gw_writer w = gw_writer_of(frame + GW_FRAME_HEADER, sizeof frame - GW_FRAME_HEADER);
    gw_hello_encode(&hello, &w);
    struct gw_frame f = {.bytes = GW_FRAME_HEADER + (uint32_t)gw_writer_used(&w),
                         .kind = GW_KIND_HELLO,
                         .session = h->job};
    gw_frame_encode(&f, frame);
    return gwi_link_send(conn, frame, f.bytes);
}

/* What was asked for over a lost connection is asked for again (R20). */
static void forget_asked(struct hauler *h)
{
    for (struct asked *a = h->asked; a; a = a->next)
        for (uint32_t i = 0; i < a->count; i++) {
            struct gwi_parked_key *key = gwi_park_find(&h->d->park, a->hash[i]);
            if (key && key->pull_sent) {
                key->pull_sent = false;
                h->d->park.unsent_pulls++;
            }
        }
    free_asked(h);
}

static void on_down(struct hauler *h)
{
    h->conn = NULL;
    h->up = false;
    h->retry_ns = h->d->now_ns + RECONNECT_NS;
    forget_asked(h);
    if (h->job == 0)
        hauler_free(h);
}

static void on_connected(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    struct hauler *h = ctx;
    (void)conn;
    if (st == GW_OK)
        return;
    uint64_t job = h->job;
    bool bulk = h->incoming == NULL;
    struct gwi_dispatcher *d = h->d;
    on_down(h);
    if (bulk && job)
        gwi_dispatcher_post(d->server->dispatcher[0], GWI_MAIL_BULK_DOWN, job, NULL);
}

static void on_closed(void *ctx, struct gw_conn *conn, enum gw_status st)
{
    on_connected(ctx, conn, st == GW_OK ? GW_E_CLOSED : st);
}

static enum gw_status on_bulk_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                                    uint32_t bytes)
{
    struct hauler *h = ctx;
    struct gw_frame f;
    (void)conn;
    if (gw_frame_decode(frame, bytes, &f) != GW_OK)
        return GW_E_PROTOCOL;
    if (f.kind == GW_KIND_WELCOME) {
        h->up = true;
        return GW_OK;
    }
    if (f.kind != GW_KIND_CHUNK_ACK || h->job == 0)
        return f.kind == GW_KIND_ERROR ? GW_E_CLOSED : GW_OK;
    gwi_dispatcher_enter(h->d);
    struct gwi_outgoing_job *job = gwi_outgoing_by_id(h->d->server, h->job);
    if (job) {
        gwi_haul_raise(&job->pause_ns, f.serial);
        atomic_store_explicit(&job->late_there_ns, f.confirmed, memory_order_relaxed);
    }
    if (job && gw_outgoing_acked(job->out, &f) && gw_outgoing_done(job->out) &&
        !atomic_exchange_explicit(&job->done_told, true, memory_order_acq_rel))
        gwi_dispatcher_post(h->d->server->dispatcher[0], GWI_MAIL_SHIPPED, job->id, NULL);
    gwi_dispatcher_exit(h->d);
    return GW_OK;
}

static const struct gwi_out_events bulk_events = {on_connected, on_bulk_frame, on_closed};

struct answering {
    struct gwi_dispatcher *d;
    const struct asked *asked;
    uint32_t answered;
    bool again;
};

static void on_pulled(void *ctx, uint32_t i, enum gw_status outcome,
                      const struct gw_incoming_lead *lead)
{
    struct answering *a = ctx;
    struct gwi_parked_key *key = gwi_park_find(&a->d->park, a->asked->hash[i]);
    a->answered++;
    if (!key || !key->pull_sent)
        return;
    key->pull_sent = false;
    if (outcome == GW_OK || outcome == GW_NOT_FOUND) {
        key->pull_wanted = false;
        key->negative = outcome == GW_NOT_FOUND;
        gwi_park_to_front(&a->d->park, key);
        return;
    }
    if (outcome == GW_END) {
        key->led = true;
        key->lead = *lead;
        key->pull_wanted = false;
        gwi_park_to_front(&a->d->park, key);
        return;
    }
    if (outcome == GW_E_UNREACHABLE || outcome == GW_E_CORRUPT || outcome == GW_E_IO) {
        key->failed = (int8_t)outcome;
        key->pull_wanted = false;
        gwi_park_to_front(&a->d->park, key);
        return;
    }
    a->d->park.unsent_pulls++;
    a->again = true;
}

static enum gw_status take_answer(struct hauler *h, const struct gw_frame *f, const uint8_t *body)
{
    struct asked **at = &h->asked;
    while (*at && (*at)->sequence != f->sequence)
        at = &(*at)->next;
    struct asked *asked = *at;
    if (!asked)
        return GW_OK;
    struct gwi_dispatcher *d = h->d;
    struct gw_incoming *in = atomic_load_explicit(&h->incoming->in, memory_order_acquire);
    struct answering a = {d, asked, 0, false};
    struct gw_reader r = gw_reader_of(body, f->bytes - GW_FRAME_HEADER);
    enum gw_status st =
        gw_incoming_pull_answer(in, d->store, d->server->store, f, r, asked->count, on_pulled, &a);
    if (st == GW_RETRY)
        for (uint32_t i = 0; i < asked->count; i++)
            on_pulled(&a, i, GW_RETRY, NULL);
    if (a.again)
        d->haul->pull_again_ns = d->now_ns + 1000000;
    if (st != GW_OK && st != GW_RETRY)
        return st; /* the connection ends: what has no answer is asked for again */
    asked->left -= a.answered < asked->left ? a.answered : asked->left;
    if (asked->left == 0) {
        *at = asked->next;
        free(asked);
    }
    gwi_release_try(d, a.answered);
    return GW_OK;
}

static enum gw_status on_pull_frame(void *ctx, struct gw_conn *conn, const uint8_t *frame,
                                    uint32_t bytes)
{
    struct hauler *h = ctx;
    struct gw_frame f;
    (void)conn;
    if (gw_frame_decode(frame, bytes, &f) != GW_OK)
        return GW_E_PROTOCOL;
    if (f.kind == GW_KIND_WELCOME)
        h->up = true;
    if (f.kind != GW_KIND_PULL_ANSWER || h->job == 0)
        return f.kind == GW_KIND_ERROR ? GW_E_CLOSED : GW_OK;
    gwi_dispatcher_enter(h->d);
    enum gw_status st = h->job ? take_answer(h, &f, frame + GW_FRAME_HEADER) : GW_OK;
    gwi_dispatcher_exit(h->d);
    return st;
}

static const struct gwi_out_events pull_events = {on_connected, on_pull_frame, on_closed};

static struct hauler *hauler_for(struct gwi_dispatcher *d, struct hauler **place, uint64_t job)
{
    if (!*place) {
        *place = calloc(1, sizeof **place);
        struct hauler *h = *place;
        if (h) {
            *h = (struct hauler){.d = d, .job = job, .next = d->haul->all, .at = &d->haul->all};
            if (h->next)
                h->next->at = &h->next;
            d->haul->all = h;
        }
    }
    return *place;
}

static void connect_hauler(struct hauler *h, const char *address, uint8_t role,
                           const struct gwi_out_events *events)
{
    if (h->conn || h->d->now_ns < h->retry_ns)
        return;
    if (gwi_link_open(h->d, address, events, h, &h->conn) != GW_OK || !send_hello(h, h->conn, role))
        h->retry_ns = h->d->now_ns + RECONNECT_NS;
}

static void let_go(struct hauler **place)
{
    struct hauler *h = *place;
    *place = NULL;
    h->job = 0;
    h->incoming = NULL;
    if (h->conn)
        gw_conn_close(h->conn); /* freed by its last callback */
    else
        hauler_free(h);
}

void gwi_haul_notice(struct gwi_dispatcher *d)
{
    struct gwi_haul *haul = d->haul;
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_outgoing_job *o =
            atomic_load_explicit(&d->server->outgoing[i], memory_order_acquire);
        if (haul->out[i] && (!o || o->id != haul->out[i]->job))
            let_go(&haul->out[i]);
        struct gwi_incoming_job *n =
            atomic_load_explicit(&d->server->incoming[i], memory_order_acquire);
        if (haul->in[i] && (!n || n->id != haul->in[i]->job))
            let_go(&haul->in[i]);
    }
}

/* Have clients been served within the last milliseconds? */
static bool is_busy(struct gwi_dispatcher *d)
{
    uint64_t operations =
        atomic_load_explicit(&d->operations, memory_order_relaxed); /* ours to write */
    if (operations != d->haul->operations)
        d->haul->busy_until_ns = d->now_ns + BUSY_NS;
    d->haul->operations = operations;
    return d->now_ns < d->haul->busy_until_ns;
}

static bool may_ship(const struct hauler *h)
{
    return h->up && gw_conn_backlog(h->conn) <= BULK_BACKLOG; /* its completion wakes us */
}

/* One CHUNK frame of the job, whose connection takes one. GW_OK: there may be more; GW_RETRY: not
 * before *wait_ns; else there is none until something happens. *did: there was something to do. */
static enum gw_status ship(struct gwi_dispatcher *d, struct gwi_outgoing_job *job, struct hauler *h,
                           uint64_t now_ns, uint64_t *wait_ns, bool *did)
{
    uint64_t rate = atomic_load_explicit(&job->rate_bytes, memory_order_relaxed);
    size_t used = 0, portion = gwi_rate_portion(rate, FRAME_BYTES);
    *wait_ns = gwi_rate_take(&job->rate_due_ns, rate, now_ns, portion);
    if (*wait_ns)
        return GW_RETRY;
    enum gw_status st = gw_outgoing_fill(job->out, d->index, d->store, h->attempt, d->haul->room,
                                         portion, BUCKETS_A_TURN, &used);
    if (st == GW_E_TOO_LARGE)
        st = gw_outgoing_fill(job->out, d->index, d->store, h->attempt, d->haul->room,
                              d->haul->room_bytes, BUCKETS_A_TURN, &used);
    gwi_rate_settle(&job->rate_due_ns, rate, portion, used);
    *did |= used != 0 || st == GW_OK;
    if (used && !gwi_link_send(h->conn, d->haul->room, used)) {
        gw_conn_close(
            h->conn); /* cannot be: an empty backlog takes a frame; the restart repeats it */
        return GW_E_CLOSED;
    }
    return st;
}

static uint64_t now(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

/* Until when work on a migration has to wait; 0: it need not. */
static uint64_t rest(struct gwi_dispatcher *d, uint64_t now_ns)
{
    return is_busy(d) ? gwi_pace_wait(&d->pace, now_ns) : 0;
}

/* Work has been done since start_ns; returns after how many ns some more may be. */
static uint64_t worked(struct gwi_dispatcher *d, uint64_t start_ns)
{
    uint64_t end_ns = now();
    gwi_pace_worked(&d->pace, start_ns, end_ns);
    return rest(d, end_ns);
}

/* A portion of closing, paced as shipping is: nobody waits for it. */
static uint64_t unlink_some(struct gwi_dispatcher *d, struct gwi_outgoing_job *job)
{
    uint64_t start = now(), wait = rest(d, start);
    if (wait)
        return wait;
    bool more = gw_outgoing_unlink(job->out, d->index, d->store, UNLINK_BUCKETS_A_TURN) == GW_OK;
    wait = worked(d, start);
    return more ? wait : UINT64_MAX;
}

/* A portion of the job's frames. Returns after how many ns there may be another one. */
static uint64_t ship_some(struct gwi_dispatcher *d, struct gwi_outgoing_job *job, struct hauler *h)
{
    if (!may_ship(h))
        return UINT64_MAX;
    uint64_t start = now(), at = start, wait = rest(d, start);
    if (wait)
        return wait; /* asleep meanwhile: others want the CPU */
    enum gw_status st;
    bool did = false;
    do
        st = ship(d, job, h, at, &wait, &did);
    while (st == GW_OK && may_ship(h) && (at = now()) - start < d->pace.portion_ns);
    uint64_t rested = did ? worked(d, start) : 0; /* else others may do something */
    if (st != GW_OK && st != GW_RETRY)
        return UINT64_MAX;
    return wait > rested ? wait : rested;
}

static uint64_t outgoing_turn(struct gwi_dispatcher *d, uint32_t i, struct gwi_outgoing_job *job)
{
    uint64_t wait = UINT64_MAX;
    uint64_t shipping = atomic_load_explicit(&job->shipping, memory_order_acquire);
    if (shipping) {
        struct hauler *h = hauler_for(d, &d->haul->out[i], job->id);
        if (!h)
            return 0;
        if (h->attempt !=
            shipping) { /* frames of an earlier attempt must not mix with the new ones */
            if (h->attempt && h->conn) {
                let_go(&d->haul->out[i]);
                return 0;
            }
            h->attempt = shipping;
        }
        connect_hauler(h, job->to_address, GW_ROLE_PEER_BULK, &bulk_events);
        /* The sooner a record is there the fewer pulls there are: all of the time is used when
         * nobody is served. */
        if (!atomic_load_explicit(&job->paused, memory_order_relaxed)) /* else control wakes us */
            wait = ship_some(d, job, h);
    }
    if (atomic_load_explicit(&job->unlinking, memory_order_acquire)) {
        uint64_t w = unlink_some(d, job);
        wait = w < wait ? w : wait;
        if (gw_outgoing_unlinked(job->out) &&
            !atomic_exchange_explicit(&job->unlinked_told, true, memory_order_acq_rel))
            gwi_dispatcher_post(d->server->dispatcher[0], GWI_MAIL_UNLINKED, job->id, NULL);
    }
    return wait;
}

/* Sends one PULL for keys of this job that nobody has asked for yet. Those that could not be had
 * where an answer said are asked for by themselves. True: there may be more. */
static bool ask(struct gwi_dispatcher *d, struct gwi_incoming_job *job, struct hauler *h)
{
    struct gw_pull_key keys[PULL_KEYS_MAX];
    struct asked *asked = malloc(sizeof *asked + PULL_KEYS_MAX * sizeof asked->hash[0]);
    if (!asked)
        return false;
    uint32_t n = 0;
    size_t bytes = GW_FRAME_HEADER;
    bool read_there = false, others = false;
    /* From the end, where new ones are: looking at all that wait would cost more than the pull. */
    uint32_t left = d->park.unsent_pulls;
    for (struct gwi_parked_key *k = d->park.ring.before;
         k != &d->park.ring && n < PULL_KEYS_MAX && left > 0; k = k->before) {
        if (!k->pull_wanted || k->pull_sent)
            continue;
        left--;
        if (!gw_slots_has(&job->slots, k->slot))
            continue;
        read_there = n == 0 ? k->read_there : read_there;
        others |= k->read_there != read_there;
        if (k->read_there != read_there)
            continue;
        if (bytes + 2u + k->first->key_bytes > d->haul->room_bytes)
            break;
        bytes += 2u + k->first->key_bytes;
        keys[n] = (struct gw_pull_key){k->first->bytes, k->first->key_bytes};
        asked->hash[n++] = k->hash;
    }
    asked->count = asked->left = n;
    asked->sequence = ++h->next_pull;
    struct gw_incoming *in = atomic_load_explicit(&job->in, memory_order_acquire);
    bool leads = !read_there && d->now_ns >= d->haul->leads_ns;
    size_t used = n ? gw_incoming_pull(in, asked->sequence, leads, keys, n, d->haul->room,
                                       d->haul->room_bytes)
                    : 0;
    if (used == 0 || !gwi_link_send(h->conn, d->haul->room, used)) {
        free(asked);
        return false;
    }
    asked->next = h->asked;
    h->asked = asked;
    for (uint32_t i = 0; i < n; i++) {
        gwi_park_find(&d->park, asked->hash[i])->pull_sent = true;
        d->park.unsent_pulls--;
    }
    return others || n == PULL_KEYS_MAX;
}

static uint64_t incoming_turn(struct gwi_dispatcher *d, uint32_t i, struct gwi_incoming_job *job)
{
    uint64_t wait = UINT64_MAX;
    struct gw_unlinker *unlinker = atomic_load_explicit(&job->unlinker, memory_order_acquire);
    if (unlinker && !atomic_load_explicit(&job->unlinked_told, memory_order_relaxed)) {
        uint64_t start = now();
        wait = rest(d, start);
        if (!wait && gw_unlinker_step(unlinker, d->index, d->store, UNLINK_BUCKETS_A_TURN) == GW_OK)
            wait = worked(d, start);
        else if (!wait)
            wait = UINT64_MAX;
        if (gw_unlinker_done(unlinker) &&
            !atomic_exchange_explicit(&job->unlinked_told, true, memory_order_acq_rel))
            gwi_dispatcher_post(d->server->dispatcher[0], GWI_MAIL_UNLINKED, job->id, NULL);
    }
    if (!atomic_load_explicit(&job->pulling, memory_order_acquire))
        return wait;
    struct hauler *h = hauler_for(d, &d->haul->in[i], job->id);
    if (!h)
        return 0;
    h->incoming = job;
    connect_hauler(h, job->from_address, GW_ROLE_PEER_PULL, &pull_events);
    if (h->up && d->park.unsent_pulls && d->now_ns >= d->haul->pull_again_ns)
        wait = ask(d, job, h) ? 0 : wait;
    return wait;
}

uint64_t gwi_haul_impact(const struct gwi_dispatcher *d)
{
    return d->haul->impact_ns;
}

uint64_t gwi_haul_late(const struct gwi_server *server)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < server->dispatchers; i++) {
        uint64_t late = atomic_load_explicit(&server->dispatcher[i]->late_p99_ns,
                                             memory_order_relaxed); /* a number for people */
        most = late > most ? late : most;
    }
    return most;
}

static void impact_add(struct gwi_haul *haul, const _Atomic uint64_t *asked)
{
    uint64_t impact = atomic_load_explicit(asked, memory_order_relaxed);
    if (impact == 0) /* the pace's own, unless somebody asks for something */
        haul->impact_ns = haul->impact_ns == UINT64_MAX ? 0 : haul->impact_ns;
    else if (haul->impact_ns == 0 || impact < haul->impact_ns)
        haul->impact_ns = impact;
}

uint64_t gwi_haul_turn(struct gwi_dispatcher *d)
{
    struct gwi_server *server = d->server;
    uint64_t wait = UINT64_MAX;
    d->haul->impact_ns = UINT64_MAX;
    if (atomic_load_explicit(&server->jobs, memory_order_acquire) == 0)
        return wait;
    uint32_t first = d->haul->first;
    for (uint32_t n = 0; n < GWI_JOBS_MAX; n++) {
        uint32_t i = (first + n) % GWI_JOBS_MAX;
        uint64_t due_ns = d->pace.due_ns;
        struct gwi_incoming_job *in =
            atomic_load_explicit(&server->incoming[i], memory_order_acquire);
        if (in)
            impact_add(d->haul, &in->impact_ns);
        uint64_t w = in ? incoming_turn(d, i, in) : UINT64_MAX;
        wait = w < wait ? w : wait;
        struct gwi_outgoing_job *out =
            atomic_load_explicit(&server->outgoing[i], memory_order_acquire);
        if (out)
            impact_add(d->haul, &out->impact_ns);
        w = out ? outgoing_turn(d, i, out) : UINT64_MAX;
        wait = w < wait ? w : wait;
        if (d->pace.due_ns != due_ns)
            d->haul->first = i + 1; /* all share one pace: the next portion is another one's */
    }
    return wait;
}

static struct gwi_incoming_job *incoming_by_id(struct gwi_server *server, uint64_t id)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_incoming_job *job =
            atomic_load_explicit(&server->incoming[i], memory_order_acquire);
        if (job && job->id == id)
            return job;
    }
    return NULL;
}

enum gw_status gwi_haul_chunk_frame(struct gwi_link *link, const struct gw_frame *f,
                                    const uint8_t *body)
{
    struct gwi_dispatcher *d = link->dispatcher;
    struct gwi_incoming_job *job = incoming_by_id(d->server, f->session);
    struct gw_incoming *in = job ? atomic_load_explicit(&job->in, memory_order_acquire) : NULL;
    if (!in)
        return GW_OK; /* of a job that is over, or of an attempt that has not begun here: sent again
                         if it matters */
    struct gw_incoming_result result = {0};
    struct gw_reader r = gw_reader_of(body, f->bytes - GW_FRAME_HEADER);
    /* The source keeps a pace for itself; ours may be slower, and sources several. Half of a
     * portion may come at once: a frame or two. */
    uint64_t start = now(), wait = rest(d, start);
    if (wait > gwi_pace_span(&d->pace, d->pace.portion_ns) / 2) {
        gwi_link_hold(link, GWI_HOLD_SPACE, start + wait);
        return GW_WOULD_BLOCK;
    }
    enum gw_status st = gw_incoming_chunk(in, d->store, d->server->store, f, r, &result);
    worked(d, start);
    if (st == GW_WOULD_BLOCK) {
        gwi_link_hold(link, GWI_HOLD_SPACE, d->now_ns + HOLD_SPACE_NS);
        return st;
    }
    if (st == GW_PENDING) {
        gwi_link_hold(link, GWI_HOLD_COLD, d->now_ns + HOLD_COLD_NS);
        return GW_WOULD_BLOCK;
    }
    if (st != GW_OK) {
        gw_warn("chunk_refused", "job=%llu status=%s", (unsigned long long)f->session,
                gw_status_name(st));
        return gwi_link_error(link->conn, st, "malformed or oversized CHUNK");
    }
    uint8_t ack[GW_FRAME_HEADER];
    if (result.ack_due) {
        size_t n = gw_incoming_ack(in, &result, ack, sizeof ack);
        /* frame.serial and frame.confirmed, docs/PROTOCOL.md */
        gw_store64(ack + 40, atomic_load_explicit(&job->pause_ns, memory_order_relaxed));
        gw_store64(ack + 48, gwi_haul_late(d->server));
        if (!gwi_link_send(link->conn, ack, n))
            return GW_E_LIMIT;
    }
    if (result.completed_all)
        gwi_dispatcher_post(d->server->dispatcher[0], GWI_MAIL_ARRIVED, job->id, NULL);
    return GW_OK;
}

enum gw_status gwi_haul_control_frame(struct gwi_link *link, const struct gw_frame *f,
                                      const uint8_t *body)
{
    return gwi_control_peer_frame(link->dispatcher->control, link, f, body);
}

void gwi_haul_link_closed(struct gwi_link *link)
{
    gwi_haul_pulls_orphan(link->dispatcher->haul, link);
    if (link->role == GWI_LINK_CONTROL_IN && link->dispatcher->control)
        gwi_control_peer_closed(link->dispatcher->control, link);
}
