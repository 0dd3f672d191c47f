/* release.c - operations that wait, and their end: executed and answered by a COMPLETION, or
 * returned as moved. A waiting write is PENDING among its session's serials, so that a resent one
 * attaches to it (MIGRATION R8); its answer goes to whatever connection speaks for the session. */
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "server/haul.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/session_image.h"

#define IN_VAIN_MAX 4u
#define BEHIND_MAX  8u

bool gwi_release_park(struct gwi_dispatcher *d, struct gwi_link *link, const struct gw_op *op,
                      uint64_t serial, bool resent, enum gw_status why)
{
    bool has_value = op->value && op->value_bytes;
    struct gwi_parked_op *p =
        gwi_parked_op_create(op->key, op->key_bytes, op->value, has_value ? op->value_bytes : 0);
    if (!p)
        return false;
    p->session = link->session->id;
    p->serial = serial;
    p->link_generation = link->generation;
    p->parked_ns = d->now_ns;
    /* A counter that is stored comes in `number`, an add's step in `delta`; one place is enough. */
    p->delta = op->verb == GW_VERB_ADD ? op->delta : op->number;
    p->initial = op->initial;
    p->expiry_ms = op->expiry_ms;
    p->expected_version = op->expected_version;
    p->verb = op->verb;
    p->flags = op->flags & (uint8_t)~GW_OP_UNSETTLED;
    p->early = link->early;
    p->unknown = resent && d->view->state[op->slot] == GWI_SLOT_WAITING;
    struct gwi_parked_key *key = gwi_park_add(&d->park, op->hash, op->slot, p);
    if (!key) {
        free(p);
        return false;
    }
    if (why == GW_ABSENT && !key->pull_wanted) {
        key->pull_wanted = true;
        d->park.unsent_pulls++;
    }
    if (why == GW_PENDING)
        gwi_park_to_cold(&d->park, key, d->now_ns);
    link->session->parked++;
    if (op->verb != GW_VERB_READ)
        gw_applied_begin(link->session->applied, serial, op->slot);
    return true;
}

void gwi_release_flush(struct gwi_dispatcher *d)
{
    if (d->completions_count == 0)
        return;
    struct gwi_session *session = gwi_sessions_find(&d->sessions, d->completion_session);
    uint32_t count = d->completions_count;
    size_t bytes = d->completions_bytes;
    d->completions_count = 0;
    d->completions_bytes = 0;
    if (!session || !session->link)
        return; /* nobody listens: writes are recorded, a resent one gets its answer from there */
    struct gw_frame f = {.bytes = (uint32_t)bytes,
                         .kind = GW_KIND_COMPLETION,
                         .count = count,
                         .session = session->id,
                         .serial = session->applied->confirmed};
    if (!gwi_hold_reply(session->link, &f, d->reply, d->completions_early))
        gw_conn_close(session->link->conn); /* it has not read for a whole backlog */
}

/* The answer to an operation that has ended, if somebody listens. */
static void tell(struct gwi_dispatcher *d, struct gwi_session *session,
                 const struct gwi_parked_op *p, struct gw_wire_reply reply, uint16_t slot)
{
    session->parked--;
    reply.flags |= GW_WIRE_HAS_SERIAL;
    if (d->view->state[slot] == GWI_SLOT_ARRIVING)
        gwi_haul_raise(&d->view->incoming[d->view->incoming_of[slot]]->pause_ns,
                       d->now_ns - p->parked_ns);
    if (!session->link ||
        (p->verb == GW_VERB_READ && session->link->generation != p->link_generation) ||
        p->serial < session->applied->confirmed)
        return;
    if (d->completion_session != session->id ||
        d->completions_bytes + 64 + (reply.flags & GW_WIRE_VALUE ? reply.value_bytes : 0) >
            d->reply_room ||
        d->completions_bytes > GWI_REPLY_BYTES)
        gwi_release_flush(d);
    d->completion_session = session->id;
    if (d->completions_count == 0) {
        d->completions_bytes = GW_FRAME_HEADER;
        d->completions_early = true;
    }
    d->completions_early &= p->early; /* not its connection's: later batches may be early */
    reply.serial_delta = (uint32_t)(p->serial - session->applied->confirmed);
    struct gw_writer w =
        gw_writer_of(d->reply + d->completions_bytes, d->reply_room - d->completions_bytes);
    gw_wire_reply_encode(&reply, &w);
    GW_ASSERT(!w.bad);
    d->completions_bytes += gw_writer_used(&w);
    d->completions_count++;
}

/* Answers one operation; `op` says how it ended. */
static void complete(struct gwi_dispatcher *d, const struct gwi_parked_op *p,
                     const struct gw_op *op, uint16_t slot, enum gw_status st)
{
    if (p->pull) {
        gwi_haul_pulled(d, p->pull, (uint32_t)p->serial, op, st);
        return;
    }
    struct gwi_session *session = gwi_sessions_find(&d->sessions, p->session);
    if (!session)
        return;
    struct gw_wire_reply reply = {.status = (int8_t)st};
    if (op)
        reply = gwi_reply_of(op);
    if (p->verb != GW_VERB_READ) {
        gwi_session_image_take(d, session);
        if (st == GW_MOVED || gw_failed(st)) {
            gw_applied_forget(session->applied, p->serial);
        } else {
            gwi_reply_record(session->applied, p->serial, op, reply.flags);
            if (GW_UNLIKELY(d->commit.log != NULL))
                gwi_commit_write(d, session, p->serial, op);
        }
    }
    tell(d, session, p, reply, slot);
}

/* A waiting operation whose history came with its range: a write that the previous owner has
 * executed is answered as there, and a read behind which its session wrote there comes too late.
 * False: it is to be executed. */
static bool known(struct gwi_dispatcher *d, const struct gwi_parked_op *p, uint16_t slot)
{
    if (p->pull || (p->verb == GW_VERB_READ && !p->unknown))
        return false;
    struct gwi_session *session = gwi_sessions_find(&d->sessions, p->session);
    const struct gw_applied_entry *e = NULL;
    if (!session)
        return false;
    if (p->verb != GW_VERB_READ) {
        if (gw_applied_check(session->applied, p->serial, &e) != GW_APPLIED_DONE)
            return false;
        tell(d, session, p, gwi_reply_again(session->applied, e), slot);
        return true;
    }
    if (!gw_applied_has_later(session->applied, p->serial, slot, true))
        return false;
    tell(d, session, p, (struct gw_wire_reply){.status = GW_IN_DOUBT}, slot);
    return true;
}

static void return_moved(struct gwi_dispatcher *d, struct gwi_parked_key *key)
{
    uint16_t slot = key->slot;
    for (bool gone = false; !gone;) {
        struct gwi_parked_op *p = gwi_park_take(&d->park, key, &gone);
        complete(d, p, NULL, slot, GW_MOVED);
        free(p);
    }
}

/* What a look-up for another server waits for is nobody's operation: it goes on while the slot is
 * foreign, for then its records stand still (MIGRATION R5). */
static bool is_moved(const struct gwi_dispatcher *d, const struct gwi_parked_key *key)
{
    return d->view->state[key->slot] == GWI_SLOT_FOREIGN && !key->first->pull;
}

static void return_moved_of(struct gwi_dispatcher *d, struct gwi_parked_key *sentinel)
{
    for (struct gwi_parked_key *key = sentinel->after, *next; key != sentinel; key = next) {
        next = key->after;
        if (is_moved(d, key))
            return_moved(d, key);
    }
}

void gwi_release_moved(struct gwi_dispatcher *d)
{
    return_moved_of(d, &d->park.ring);
    return_moved_of(d, &d->park.cold);
    gwi_release_flush(d);
}

/* Is it a read whose client does not take its answers: its own backlog is full, or all together
 * are? */
static bool reader_is_behind(struct gwi_dispatcher *d, const struct gwi_parked_op *p)
{
    if (p->verb != GW_VERB_READ)
        return false;
    const struct gwi_session *session = gwi_sessions_find(&d->sessions, p->session);
    size_t unsent = session && d->completion_session == p->session ? d->completions_bytes : 0;
    return session && session->link && gwi_link_is_behind(session->link, unsent);
}

/* Sessions whose reads of a key wait for their client: what follows of them on this key waits too,
 * for the order within a session; other sessions go past. */
struct behind {
    uint64_t session[BEHIND_MAX];
    uint32_t count;
};

/* Does this operation wait for its client, or behind one that does? */
static bool stays_behind(struct gwi_dispatcher *d, const struct gwi_parked_op *p,
                         struct behind *behind)
{
    for (uint32_t i = 0; i < behind->count; i++)
        if (behind->session[i] == p->session)
            return true;
    if (!reader_is_behind(d, p))
        return false;
    behind->session[behind->count++] = p->session;
    return true;
}

/* Tries the key's operations in order until one has to go on waiting. False: the first one had to,
 * because somebody holds the record or the store begins no further reads now. */
static bool try_operations(struct gwi_dispatcher *d, struct gwi_parked_key *key)
{
    struct behind behind = {.count = 0};
    struct gwi_parked_op *before = NULL; /* the last one of those that stay behind */
    const int8_t unreadable = key->failed;
    bool done = false;
    key->failed = GW_OK;
    for (bool gone = false; !gone;) {
        struct gwi_parked_op *p = before ? before->next : key->first;
        if (!p || behind.count == BEHIND_MAX) {
            gwi_park_to_back(&d->park, key);
            return true;
        }
        if (stays_behind(d, p, &behind)) {
            before = p;
            continue;
        }
        uint16_t slot = key->slot;
        if (known(d, p, slot)) {
            done = true;
            free(gwi_park_take_after(&d->park, key, before, &gone));
            continue;
        }
        struct gw_op op = {.key = p->bytes,
                           .key_bytes = p->key_bytes,
                           .value = p->bytes + p->key_bytes,
                           .value_bytes = p->value_bytes,
                           .hash = key->hash,
                           .slot = key->slot,
                           .delta = p->delta,
                           .number = p->delta,
                           .initial = p->initial,
                           .expiry_ms = p->expiry_ms,
                           .expected_version = p->expected_version,
                           .verb = p->verb,
                           .flags = p->flags};
        if (d->view->state[key->slot] == GWI_SLOT_ARRIVING && !gwi_op_is_blind(&op) && !p->pull &&
            !key->negative && !gwi_haul_settled(d->view, key->slot, key->hash))
            op.flags |= GW_OP_UNSETTLED;
        if (GW_UNLIKELY(d->commit.log != NULL)) {
            if (gwi_commit_is_behind(d)) {
                gwi_park_to_back(&d->park, key);
                return done;
            }
            if (op.verb != GW_VERB_READ && !p->pull)
                gwi_commit_begin(d);
        }
        size_t used;
        gw_store_execute(d->store, &op, 1, d->room, d->room_bytes, &used);
        if (op.status == GW_ABSENT && key->led) {
            op.status = (int8_t)gwi_haul_follow(d, key, p);
            if (op.status == GW_OK)
                continue;
            if (op.status == GW_NOT_YET) {
                gwi_park_to_back(&d->park, key);
                return done;
            }
        }
        if (op.status == GW_ABSENT && unreadable != GW_OK)
            op.status = unreadable;
        if (op.status == GW_ABSENT && !key->pull_wanted) {
            key->pull_wanted = true;
            d->park.unsent_pulls++;
        }
        if (op.status == GW_PENDING) {
            gwi_park_to_cold(&d->park, key, d->now_ns);
            return true;
        }
        if (op.status == GW_ABSENT || op.status == GW_RETRY) {
            gwi_park_to_back(&d->park, key);
            return op.status == GW_ABSENT || done;
        }
        done = true;
        p = gwi_park_take_after(&d->park, key, before, &gone);
        complete(d, p, &op, slot, (enum gw_status)op.status);
        free(p);
    }
    return true;
}

static bool try_key(struct gwi_dispatcher *d, struct gwi_parked_key *key)
{
    if (is_moved(d, key)) {
        return_moved(d, key);
        return true;
    }
    if (d->view->state[key->slot] == GWI_SLOT_WAITING && !key->first->pull) {
        gwi_park_to_back(&d->park, key);
        return true;
    }
    return try_operations(d, key);
}

void gwi_release_try(struct gwi_dispatcher *d, uint32_t keys_max)
{
    /* When several in a row have to wait on, the rest would most likely have to, too: looking at
     * thousands of them in each turn would cost more than it brings. They come next, from where we
     * stop. Those for which a chunk is complete now wait for nothing any more. */
    uint32_t settled = atomic_load_explicit(&d->server->jobs, memory_order_relaxed)
                           ? gwi_haul_bring_settled(d)
                           : 0;
    if (keys_max < UINT32_MAX - settled)
        keys_max += settled;
    uint32_t in_vain = 0, in_vain_max = keys_max == UINT32_MAX ? UINT32_MAX : IN_VAIN_MAX;
    for (uint32_t n = d->park.keys < keys_max ? d->park.keys : keys_max;
         n > 0 && d->park.ring.after != &d->park.ring && in_vain < in_vain_max; n--)
        in_vain = try_key(d, d->park.ring.after) ? 0 : in_vain + 1;
    gwi_release_flush(d);
}

void gwi_release_ready(struct gwi_dispatcher *d, const uint64_t *hashes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct gwi_parked_key *key = gwi_park_find(&d->park, hashes[i]);
        if (key && key->cold)
            (void)try_key(d, key);
    }
    gwi_release_flush(d);
}

uint64_t gwi_release_stale(struct gwi_dispatcher *d, uint32_t keys_max)
{
    struct gwi_parked_key *key;
    for (; keys_max > 0 && (key = gwi_park_coldest(&d->park)); keys_max--) {
        if (d->now_ns - key->cold_ns < GWI_COLD_AGAIN_NS)
            break;
        (void)try_key(d, key);
    }
    gwi_release_flush(d);
    key = gwi_park_coldest(&d->park);
    if (!key)
        return UINT64_MAX;
    uint64_t waited = d->now_ns - key->cold_ns;
    return waited < GWI_COLD_AGAIN_NS ? GWI_COLD_AGAIN_NS - waited : 0;
}
