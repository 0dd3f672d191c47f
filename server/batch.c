/* batch.c - BATCH frames: two integers are compared, then the whole batch runs.
 *
 * Rules: 1. A batch of another view is refused whole, with our map; one from the future is held for
 * a while first (MIGRATION R2). After a refusal every later batch is refused until the client has
 * gone back (flag GW_BATCH_RESUME). 2. Within a batch of our view, one look at the slot's state an
 * operation keeps out what a broken client or a view that changed in the middle of a suspended
 * batch would do. 3. A write is looked up among the applied serials before it runs and recorded
 * after (R7). 4. Whether a chunk is complete is read before the engine looks (R10).
 * 5. Replies stand in the order of the operations; what waits is answered GW_PENDING there. A batch
 * may be answered by several REPLY frames. When the client does not read, or the commit log does
 * not keep up, the batch is suspended between two groups. 6. What is recorded of a write goes into
 * the commit log in the same breath, between two calls of the engine, for each of them may cross
 * into another interval (store_cut.h). */
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "server/haul.h"
#include "server/reply.h"
#include "server/server.h"
#include "server/session_image.h"

/* What an operation of the group in hand is answered, when the engine does not run it. */
struct verdict {
    uint64_t serial;
    int16_t exec; /* index into d->ops, or -1 */
    int8_t status;
    bool write;
    bool again; /* from what is known of its serial */
    bool resent;
};

uint8_t gwi_verb_of_wire(uint8_t wire_verb)
{
    static const uint8_t verbs[GW_WIRE_VERB_MAX + 1] = {
        [GW_WIRE_READ] = GW_VERB_READ,     [GW_WIRE_UPSERT] = GW_VERB_UPSERT,
        [GW_WIRE_DELETE] = GW_VERB_DELETE, [GW_WIRE_ADD] = GW_VERB_ADD,
        [GW_WIRE_CAS] = GW_VERB_CAS,       [GW_WIRE_INSERT] = GW_VERB_INSERT,
        [GW_WIRE_TOUCH] = GW_VERB_TOUCH,   [GW_WIRE_READ_TOUCH] = GW_VERB_READ_TOUCH,
        [GW_WIRE_APPEND] = GW_VERB_APPEND, [GW_WIRE_PREPEND] = GW_VERB_PREPEND,
        [GW_WIRE_GETSET] = GW_VERB_GETSET, [GW_WIRE_GETDEL] = GW_VERB_GETDEL};
    return wire_verb <= GW_WIRE_VERB_MAX ? verbs[wire_verb] : 0;
}

static enum gw_status refuse(struct gwi_link *link, const struct gw_frame *f, enum gw_status why)
{
    const struct gwi_view *view = link->dispatcher->view;
    size_t bytes = GW_FRAME_HEADER + 8 + view->map_wire_bytes;
    bool waits = link->hold_of.first != NULL; /* behind the replies that came before it */
    uint8_t *room = waits ? gwi_hold_room(link, bytes) : gw_conn_reserve(link->conn, bytes);
    if (!room) { /* it does not even read refusals */
        gwi_link_hold(link, GWI_HOLD_BACKLOG, 0);
        return GW_WOULD_BLOCK;
    }
    struct gw_frame r = {.bytes = (uint32_t)bytes,
                         .kind = GW_KIND_REFUSAL,
                         .session = f->session,
                         .sequence = f->sequence,
                         .view = view->number};
    gw_frame_encode(&r, room);
    memset(room + GW_FRAME_HEADER, 0, 8);
    room[GW_FRAME_HEADER] = (uint8_t)why;
    memcpy(room + GW_FRAME_HEADER + 8, view->map_wire, view->map_wire_bytes);
    if (!waits)
        gw_conn_commit(link->conn, bytes);
    link->sequence = f->sequence;
    link->refusing = true;
    link->hold_until_ns = 0;
    return GW_OK;
}

/* Whether the batch may run now: GW_OK, or what on_frame is to return (*done then). */
static enum gw_status admit(struct gwi_link *link, const struct gw_frame *f, bool *done)
{
    struct gwi_dispatcher *d = link->dispatcher;
    *done = true;
    if (f->sequence != link->sequence + 1)
        return gwi_link_error(link->conn, GW_E_PROTOCOL,
                              "batches of a connection are numbered from 1 without a gap");
    if (f->session != link->session->id)
        return gwi_link_error(link->conn, GW_E_PROTOCOL,
                              "the batch is of another session than the HELLO");
    if (link->refusing && !(f->flags & GW_BATCH_RESUME))
        return refuse(link, f, GW_RETRY);
    if (f->view != d->view->number) {
        if (f->view < d->view->number)
            return refuse(link, f, GW_WRONG_VIEW);
        if (link->hold_until_ns == 0)
            link->hold_until_ns = d->now_ns + GWI_HOLD_NS;
        if (d->now_ns >= link->hold_until_ns)
            return refuse(link, f, GW_NOT_YET);
        gwi_link_hold(link, GWI_HOLD_VIEW, link->hold_until_ns);
        return GW_WOULD_BLOCK;
    }
    link->hold_until_ns = 0;
    link->refusing = false;
    if (!gw_frame_count_plausible(f, GW_WIRE_OP_BYTES_LEAST))
        return gwi_link_error(link->conn, GW_E_PROTOCOL,
                              "the batch claims more operations than its bytes can hold");
    *done = false;
    return GW_OK;
}

/* The flags that few operations have. */
static uint8_t more_flags(uint8_t flags)
{
    return (uint8_t)((flags & GW_WIRE_EXPIRY ? GW_OP_HAS_EXPIRY : 0) |
                     (flags & GW_WIRE_KEEP_EXPIRY ? GW_OP_KEEP_EXPIRY : 0) |
                     (flags & GW_WIRE_BOUNDED ? GW_OP_BOUNDED : 0) |
                     (flags & GW_WIRE_CLAMP ? GW_OP_CLAMP : 0) |
                     (flags & GW_WIRE_MUST_EXIST ? GW_OP_MUST_EXIST : 0));
}

static void op_of_wire(const struct gw_wire_op *w, struct gw_op *op)
{
    op->key = w->key;
    op->value = w->value;
    op->key_bytes = w->key_bytes;
    op->value_bytes = w->value_bytes;
    op->expected_version = w->expected_version;
    op->verb = gwi_verb_of_wire(w->verb);
    op->flags = 0;
    op->effect = 0;
    op->version = 0; /* what is not found says nothing of it */
    op->number = w->number;
    op->delta = w->number;
    op->initial = w->initial;
    op->expiry_ms = w->expiry_ms;
    if (w->flags & GW_WIRE_COUNTER)
        op->flags |= GW_OP_COUNTER;
    if (w->flags & GW_WIRE_INITIAL)
        op->flags |= GW_OP_HAS_INITIAL;
    if (GW_UNLIKELY(w->flags & 0xf8))
        op->flags |= more_flags(w->flags);
}

static void answer(struct verdict *v, enum gw_status st)
{
    v->exec = -1;
    v->status = (int8_t)st;
}

/* Answers a write from what is known of its serial; false: it is new and is to run. */
static bool replayed(struct gwi_session *session, struct verdict *v)
{
    const struct gw_applied_entry *e = NULL;
    switch (gw_applied_check(session->applied, v->serial, &e)) {
    case GW_APPLIED_NEW:
        if (GW_LIKELY(gw_applied_reserve(session->applied, v->serial) == GW_OK))
            return false;
        answer(v, GW_E_NOMEM);
        return true;
    case GW_APPLIED_PENDING:
        answer(v, GW_PENDING);
        return true;
    case GW_APPLIED_DONE:
        answer(v, (enum gw_status)e->status);
        v->again = true;
        return true;
    case GW_APPLIED_BELOW:
    case GW_APPLIED_BEYOND:
        break;
    }
    answer(v, GW_E_SERIAL);
    return true;
}

/* Parks an operation that the engine has not run; the reply is GW_PENDING. */
static void park(struct gwi_link *link, struct verdict *v, const struct gw_op *op,
                 enum gw_status why)
{
    if (gwi_release_park(link->dispatcher, link, op, v->serial, v->resent, why))
        answer(v, GW_PENDING);
    else
        answer(v, GW_E_NOMEM);
}

/* Decides on one operation whose slot is not plainly ours or that may queue behind a waiting one;
 * returns whether the engine is to run it. */
static bool admit_op(struct gwi_link *link, struct gw_op *op, struct verdict *v)
{
    struct gwi_dispatcher *d = link->dispatcher;
    const struct gwi_view *view = d->view;
    switch ((enum gwi_slot_state)view->state[op->slot]) {
    case GWI_SLOT_FOREIGN:
        answer(v, GW_MOVED);
        return false;
    case GWI_SLOT_WAITING:
        park(link, v, op, GW_OK);
        return false;
    case GWI_SLOT_ARRIVING:
        /* Completeness first, the look-up after it (R10). A blind write needs no pull (R18). */
        if (!gwi_op_is_blind(op) && !gwi_haul_settled(view, op->slot, op->hash))
            op->flags |= GW_OP_UNSETTLED;
        break;
    case GWI_SLOT_OWNED:
        break;
    }
    if (d->park.keys && gwi_park_find(&d->park, op->hash)) {
        park(link, v, op, GW_OK);
        return false;
    }
    return true;
}

static void settle(struct gwi_link *link, struct verdict *v, const struct gw_op *op)
{
    if (GW_UNLIKELY(op->status == GW_RETRY || op->status == GW_ABSENT ||
                    op->status == GW_PENDING)) {
        park(link, v, op, (enum gw_status)op->status);
        return;
    }
    v->status = op->status;
    if (v->write && !gw_failed((enum gw_status)op->status)) {
        gwi_reply_record(link->session->applied, v->serial, op, gwi_reply_flags(op));
        if (GW_UNLIKELY(link->dispatcher->commit.log != NULL))
            gwi_commit_write(link->dispatcher, link->session, v->serial, op);
    }
}

static bool send_replies(struct gwi_link *link, const struct gw_frame *f, uint32_t count,
                         size_t bytes)
{
    struct gwi_dispatcher *d = link->dispatcher;
    struct gw_frame r = {.bytes = (uint32_t)bytes,
                         .kind = GW_KIND_REPLY,
                         .count = count,
                         .session = f->session,
                         .sequence = f->sequence,
                         .view = d->view->number,
                         .serial = f->serial};
    return gwi_hold_reply(link, &r, d->reply, link->early);
}

/* Decodes up to GWI_GROUP operations. Returns how many, or UINT32_MAX when one is malformed. */
static uint32_t gather(struct gwi_link *link, const struct gw_frame *f, struct gw_reader *r,
                       uint32_t left, struct verdict *verdicts, uint32_t *exec)
{
    struct gwi_dispatcher *d = link->dispatcher;
    uint32_t n = 0;
    bool writes = false;
    for (; n < left && n < GWI_GROUP; n++) {
        struct gw_wire_op w;
        if (!gw_wire_op_decode(r, &w))
            return UINT32_MAX;
        struct gw_op *op = &d->ops[*exec];
        struct verdict *v = &verdicts[n];
        op_of_wire(&w, op);
        gw_store_hash(d->server->store, op);
        v->serial = f->serial + w.serial_delta;
        v->again = false;
        v->write = w.verb != GW_WIRE_READ;
        v->resent = w.flags & GW_WIRE_RESENT;
        if (v->write && replayed(link->session, v))
            continue;
        if (GW_UNLIKELY(v->resent) && !v->write &&
            gw_applied_has_later(link->session->applied, v->serial, op->slot, false)) {
            answer(v, GW_IN_DOUBT); /* its answer is lost, and it would show what came behind it */
            continue;
        }
        if (GW_UNLIKELY(d->view->state[op->slot] != GWI_SLOT_OWNED || d->park.keys) &&
            !admit_op(link, op, v))
            continue;
        v->exec = (int16_t)(*exec)++;
        writes |= v->write;
    }
    if (*exec)
        gwi_slot_count_add(&d->slot_count, d->ops[d->slot_count.turn++ % *exec].slot, *exec);
    if (GW_UNLIKELY(writes && d->commit.log))
        gwi_commit_begin(d);
    return n;
}

/* The reply to what has been decided; op: as the engine has executed it, or NULL. */
static struct gw_wire_reply reply_to(const struct gwi_link *link, const struct verdict *v,
                                     const struct gw_op *op)
{
    if (GW_LIKELY(op != NULL))
        return gwi_reply_of(op);
    const struct gw_applied_entry *e = NULL;
    if (v->again && gw_applied_check(link->session->applied, v->serial, &e) == GW_APPLIED_DONE)
        return gwi_reply_again(link->session->applied, e);
    return (struct gw_wire_reply){.status = v->status};
}

enum { SUSPEND_NONE = 0, SUSPEND_BACKLOG, SUSPEND_PARK, SUSPEND_DURABLE };

/* The engine stopped in the middle of the group, for large values. What cannot go on now waits, and
 * the rest moves up: operations behind one that was parked meanwhile, on the same key; reads, when
 * the client has not read what there is; all, when the commit log is behind. Returns how many are
 * left to execute, d->ops[done..) on.
 */
static uint32_t queue_rest(struct gwi_link *link, struct verdict *verdicts, uint32_t at, uint32_t n,
                           uint32_t done, size_t unsent)
{
    struct gwi_dispatcher *d = link->dispatcher;
    uint32_t kept = done;
    bool behind = gwi_link_is_behind(link, unsent);
    bool undurable = gwi_link_is_undurable(link);
    for (; at < n; at++) {
        struct verdict *v = &verdicts[at];
        if (v->exec < 0)
            continue;
        const struct gw_op *op = &d->ops[v->exec];
        if (undurable || (behind && op->verb == GW_VERB_READ) ||
            gwi_park_find(&d->park, op->hash)) {
            park(link, v, op, GW_OK);
            continue;
        }
        d->ops[kept] = *op;
        v->exec = (int16_t)kept++;
    }
    return kept;
}

/* Executes d->ops[0..exec) and settles and encodes the verdicts; replies that outgrow the buffer
 * leave as a frame of their own. False: the connection is to be closed. */
static bool run_group(struct gwi_link *link, const struct gw_frame *f, struct verdict *verdicts,
                      uint32_t n, uint32_t exec, struct gw_writer *w, uint32_t *count)
{
    struct gwi_dispatcher *d = link->dispatcher;
    uint32_t at = 0, done = 0;
    bool ended = false; /* a frame has left, and what comes is of a batch of its own to the log */
    while (at < n) {
        if (done < exec) {
            if (GW_UNLIKELY(ended && d->commit.log))
                gwi_commit_begin(d);
            ended = false;
            /* A portion of values at a time, so that a look at the backlog comes in between; one
             * that is larger than a portion comes alone. */
            size_t used;
            uint32_t ran =
                gw_store_execute(d->store, d->ops + done, exec - done, d->room,
                                 gw_net_crowded(d->net) ? GWI_CROWD_BYTES : GWI_REPLY_BYTES, &used);
            if (ran == 0)
                ran = gw_store_execute(d->store, d->ops + done, 1, d->room, d->room_bytes, &used);
            done += ran;
            gwi_session_image_take(d, link->session); /* it may have crossed a cut */
        }
        /* All that was executed is noted and logged before a frame of it leaves: its position says
         * what is in the log (commit.h). */
        for (uint32_t i = at; i < n && verdicts[i].exec < (int32_t)done; i++)
            if (verdicts[i].exec >= 0)
                settle(link, &verdicts[i], &d->ops[verdicts[i].exec]);
        uint32_t before = at;
        for (; at < n && verdicts[at].exec < (int32_t)done; at++) {
            const struct verdict *v = &verdicts[at];
            const struct gw_op *op = v->exec >= 0 ? &d->ops[v->exec] : NULL;
            struct gw_wire_reply reply = reply_to(link, v, op);
            size_t need = 64 + (reply.flags & GW_WIRE_VALUE ? reply.value_bytes : 0);
            if (gw_writer_left(w) < need) {
                if (!send_replies(link, f, *count, gw_writer_used(w)))
                    return false;
                w->at = w->start + GW_FRAME_HEADER;
                *count = 0;
                ended = true;
            }
            gw_wire_reply_encode(&reply, w);
            ++*count;
        }
        GW_ASSERT(at > before); /* an empty room takes any value: see room_bytes */
        if (at < n)
            exec = queue_rest(link, verdicts, at, n, done, gw_writer_used(w));
    }
    return true;
}

enum gw_status gwi_batch_frame(struct gwi_link *link, const struct gw_frame *f, const uint8_t *body)
{
    struct gwi_dispatcher *d = link->dispatcher;
    bool done;
    if (link->batch_done == 0 && link->batch_at == 0) {
        enum gw_status st = admit(link, f, &done);
        if (done)
            return st;
        link->early = f->flags & GW_BATCH_EARLY;
        gwi_session_image_take(d, link->session);
        gw_applied_confirm(link->session->applied, f->confirmed);
    }
    struct gw_reader r =
        gw_reader_of(body + link->batch_at, f->bytes - GW_FRAME_HEADER - link->batch_at);
    struct gw_writer w = gw_writer_of(d->reply, d->reply_room);
    w.at += GW_FRAME_HEADER;
    uint32_t count = 0, left = f->count - link->batch_done;
    int suspend = SUSPEND_NONE;
    struct verdict verdicts[GWI_GROUP];
    while (left > 0) {
        if (d->park.bytes > d->park_bytes_max || link->session->parked > d->park_session_max)
            suspend = SUSPEND_PARK;
        else if (gwi_link_is_behind(link, 0))
            suspend = SUSPEND_BACKLOG;
        else if (gwi_link_is_undurable(link))
            suspend = SUSPEND_DURABLE;
        if (suspend)
            break;
        uint32_t exec = 0;
        uint32_t n = gather(link, f, &r, left, verdicts, &exec);
        if (n == UINT32_MAX)
            return gwi_link_error(link->conn, GW_E_PROTOCOL, "malformed operation in a batch");
        if (!run_group(link, f, verdicts, n, exec, &w, &count))
            return GW_E_LIMIT;
        left -= n;
        if (gw_writer_used(&w) >= GWI_REPLY_BYTES || left == 0) {
            if (!send_replies(link, f, count, gw_writer_used(&w)))
                return GW_E_LIMIT;
            w.at = w.start + GW_FRAME_HEADER;
            count = 0;
        }
    }
    atomic_store_explicit(&d->operations,
                          atomic_load_explicit(&d->operations, memory_order_relaxed) + f->count -
                              left - link->batch_done,
                          memory_order_relaxed); /* ours alone to write */
    if (suspend) {
        if (count && !send_replies(link, f, count, gw_writer_used(&w)))
            return GW_E_LIMIT;
        link->batch_done = f->count - left;
        link->batch_at = (uint32_t)(r.at - body);
        gwi_link_hold(link,
                      suspend == SUSPEND_PARK      ? GWI_HOLD_PARK
                      : suspend == SUSPEND_DURABLE ? GWI_HOLD_DURABLE
                                                   : GWI_HOLD_BACKLOG,
                      0);
        return GW_WOULD_BLOCK;
    }
    link->batch_done = link->batch_at = 0;
    link->sequence = f->sequence;
    if (gw_reader_left(&r) != 0)
        return gwi_link_error(link->conn, GW_E_PROTOCOL,
                              "bytes behind the last operation of a batch");
    return GW_OK;
}
