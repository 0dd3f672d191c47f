/* session_keep.c - what is answered and not durable yet: keeping it, letting it go, sending it
 * again after its server's crash, and the commit point. Rules by number: session.h; the protocol's
 * side: "Durability" in docs/PROTOCOL.md.
 *
 * Of an answer with a position that its server has not reached there remains, by the mode in which
 * the operation was issued:
 *   SERVER    a mark: the callback runs, the place in the window becomes free
 *   APPLIED   a write that had an effect stays in the window, told; of all else a mark
 *   DURABLE   it stays in the window with its answer, not told; failures are told at once
 * A failed write and a read are not sent again once they are told: they had no effect that could be
 * missing, and a second one would contradict what was said. */
#include "client/session.h"

#include <stdlib.h>
#include <string.h>

/* Positions rise in the order of answers; if they do not, the higher one is on the safe side. */
static uint64_t position_of(struct gwi_lane *lane)
{
    if (lane->position > lane->given)
        lane->given = lane->position;
    return lane->given;
}

static void mark(struct gwi_lane *lane, uint64_t serial, bool effect)
{
    uint64_t position = position_of(lane);
    struct gwi_mark *m = lane->marks > 0 ? &lane->mark[lane->marks - 1] : NULL;
    if (!m || (m->position != position && lane->marks < GWI_MARKS)) {
        m = &lane->mark[lane->marks++];
        *m = (struct gwi_mark){.first = serial};
    }
    m->position = position; /* no room for one more: the newest two become one */
    if (serial < m->first)
        m->first = serial;
    m->writes += effect;
}

/* The operation has left batch and list; it stays in the window. */
static void keep(struct gwi_lane *lane, struct gwi_op *op)
{
    struct gw_session *s = lane->session;
    uint32_t at = (uint32_t)(op->serial & s->mask);
    op->position = position_of(lane);
    op->state = GWI_OP_APPLIED;
    op->unsure = false;
    op->next = GWI_NO_OP;
    if (lane->kept++ == 0)
        lane->kept_first = at;
    else
        s->op[lane->kept_last].next = at;
    lane->kept_last = at;
    s->slot_kept[op->slot]++;
    s->kept++;
    /* Asked for in time, durability comes before the window is full. */
    if (s->kept > s->window / 2 || s->bytes > s->options.bytes_max / 2)
        gwi_keep_hurry(s, lane);
}

static struct gwi_op *unkeep_first(struct gwi_lane *lane)
{
    struct gw_session *s = lane->session;
    struct gwi_op *op = &s->op[lane->kept_first];
    lane->kept_first = op->next;
    lane->kept--;
    s->kept--;
    if (--s->slot_kept[op->slot] == 0 && s->slot[op->slot].queued != 0)
        s->dispatch_due = true;
    return op;
}

/* Keeps the answer until it may be given. */
static bool hold(struct gw_session *s, struct gwi_op *op, const struct gw_wire_reply *reply)
{
    size_t value_bytes = reply->value ? reply->value_bytes : 0;
    struct gwi_held *held = malloc(sizeof *held + value_bytes);
    if (!held)
        return false;
    *held = (struct gwi_held){.ctx = op->ctx,
                              .issued_ns = op->issued_ns,
                              .bytes = sizeof *held + value_bytes,
                              .reply = *reply};
    if (reply->value) {
        memcpy(held->value, reply->value, value_bytes);
        held->reply.value = held->value;
    }
    op->held = held;
    s->bytes += held->bytes;
    s->held++;
    return true;
}

void *gwi_keep_drop(struct gw_session *s, struct gwi_op *op)
{
    void *ctx = op->held->ctx;
    s->bytes -= op->held->bytes;
    s->held--;
    free(op->held);
    op->ctx = ctx;
    return ctx;
}

/* Nothing is there to hold an answer in: the caller hears that much. */
static void give_up(struct gw_session *s, struct gwi_op *op)
{
    struct gw_wire_reply reply = {.status = gwi_op_writes(op) ? GW_IN_DOUBT : GW_E_NOMEM};
    gw_callback callback = op->callback;
    void *ctx = op->ctx;
    gwi_op_tell(s, op->issued_ns, (enum gw_status)reply.status);
    gwi_op_release(s, op);
    gwi_op_call_back(callback, ctx, &reply);
}

static void replayed(struct gwi_lane *lane, struct gwi_op *op, bool open, bool effect)
{
    if (effect && open) {
        keep(lane, op);
        return;
    }
    if (!effect) /* what its caller was told has become untrue */
        gwi_keep_lost(lane->session, op->serial, 1);
    gwi_op_release(lane->session, op);
}

bool gwi_keep_answer(struct gwi_lane *lane, struct gwi_op *op, const struct gw_wire_reply *reply)
{
    struct gw_session *s = lane->session;
    bool effect = reply->status == GW_OK && gwi_op_writes(op);
    if (op->told) {
        replayed(lane, op, lane->position > lane->durable, effect);
        return true;
    }
    switch ((enum gw_acknowledge)op->mode) {
    case GW_ACKNOWLEDGE_SERVER:
        mark(lane, op->serial, effect);
        return false;
    case GW_ACKNOWLEDGE_APPLIED: {
        if (!effect) {
            mark(lane, op->serial, false);
            return false;
        }
        gw_callback callback = op->callback;
        void *ctx = op->ctx;
        gwi_op_tell(s, op->issued_ns, GW_OK);
        op->told = true;
        keep(lane, op);
        gwi_op_call_back(callback, ctx, reply);
        return true;
    }
    case GW_ACKNOWLEDGE_DURABLE:
        if (gw_failed((enum gw_status)reply->status) || reply->status == GW_IN_DOUBT)
            return false;
        if (!hold(s, op, reply)) {
            give_up(s, op);
            return true;
        }
        keep(lane, op);
        if (s->waits)
            gwi_keep_hurry(s, lane);
        return true;
    }
    return false;
}

void gwi_keep_expire(struct gw_session *s, struct gwi_op *op)
{
    uint64_t issued_ns = op->held->issued_ns;
    gw_callback callback = op->callback;
    void *ctx = gwi_keep_drop(s, op);
    op->told = op->abandoned = true; /* keeps its place in the list, is not sent again */
    gwi_op_tell(s, issued_ns, GW_IN_DOUBT);
    gwi_op_call_back(callback, ctx, &(struct gw_wire_reply){.status = GW_IN_DOUBT});
}

/* Gives the answer that was held, now that it is durable. */
static void give(struct gw_session *s, struct gwi_op *op)
{
    struct gwi_held *held = op->held;
    gw_callback callback = op->callback;
    s->bytes -= held->bytes;
    s->held--;
    gwi_op_tell(s, held->issued_ns, (enum gw_status)held->reply.status);
    gwi_op_release(s, op);
    gwi_op_call_back(callback, held->ctx, &held->reply);
    free(held);
}

void gwi_keep_durable(struct gwi_lane *lane, uint64_t position)
{
    struct gw_session *s = lane->session;
    if (position <= lane->durable)
        return;
    lane->durable = position;
    uint32_t passed = 0;
    while (passed < lane->marks && lane->mark[passed].position <= position)
        passed++;
    lane->marks -= passed;
    memmove(&lane->mark[0], &lane->mark[passed], lane->marks * sizeof lane->mark[0]);
    while (lane->kept > 0 && s->op[lane->kept_first].position <= position) {
        struct gwi_op *op = unkeep_first(lane);
        if (op->told)
            gwi_op_release(s, op);
        else
            give(s, op);
        s->room_made = true;
        s->refused = false;
    }
}

/* ---- after a loss ---- */

void gwi_keep_lost(struct gw_session *s, uint64_t serial, uint64_t writes)
{
    if (writes == 0)
        return;
    s->stats.lost += writes;
    if (serial < s->lost_from)
        s->lost_from = serial;
}

/* Sent again, silently if it was told. It is in no list. */
static void replay(struct gw_session *s, struct gwi_op *op)
{
    op->issued_ns = s->now_ns;
    if (!op->told) {
        uint64_t issued_ns = op->held->issued_ns;
        gwi_keep_drop(s, op);
        op->issued_ns = issued_ns;
    }
    /* Of a read, too: what it saw and what its own session wrote behind that may both be in what
     * the server has recovered. It must not show the latter (as in session_lane.c). */
    gwi_op_bytes(op)[1] |= GW_WIRE_RESENT;
    op->unsure |= gwi_op_writes(op);
    s->stats.replayed++;
    gwi_route_queue(s, op);
    s->dispatch_due = true;
}

/* It cannot be sent again: whether it is in what the server has recovered, nobody can tell. */
static void lose(struct gw_session *s, struct gwi_op *op)
{
    if (op->told) {
        gwi_keep_lost(s, op->serial, 1);
        gwi_op_release(s, op);
        return;
    }
    bool effect = op->held->reply.status == GW_OK && gwi_op_writes(op);
    uint64_t issued_ns = op->held->issued_ns;
    gwi_keep_drop(s, op);
    op->issued_ns = issued_ns;
    if (!gwi_op_writes(op))
        gwi_op_bytes(op)[1] |= GW_WIRE_RESENT; /* as in `replay` */
    gwi_route_queue(s, op);
    s->dispatch_due = true;
    if (effect)
        gwi_op_fail(s, op, GW_IN_DOUBT);
    /* else it changed nothing, was told to nobody, and is simply done again */
}

/* What was kept at a server whose memory is another one now. */
static void recall(struct gwi_lane *lane, bool tells)
{
    struct gw_session *s = lane->session;
    for (uint32_t i = 0; i < lane->marks; i++)
        gwi_keep_lost(s, lane->mark[i].first, lane->mark[i].writes);
    lane->marks = 0;
    while (lane->kept > 0) {
        struct gwi_op *op = unkeep_first(lane);
        if (op->abandoned)
            gwi_op_release(s, op);
        else if (tells && !op->orphan)
            replay(s, op);
        else
            lose(s, op);
    }
    lane->given = lane->durable = lane->synced = 0;
}

/* The server does not know whether our writes that were under way were applied. */
static void doubt(struct gwi_lane *lane)
{
    struct gw_session *s = lane->session;
    for (uint64_t serial = s->oldest; serial < s->next; serial++) {
        struct gwi_op *op = gwi_op_at(s, serial);
        if (op->state != GWI_OP_QUEUED || !op->unsure || op->lane != lane->index)
            continue;
        if (gwi_op_writes(op))
            gwi_op_fail(s, op, GW_IN_DOUBT);
        else
            op->unsure = false;
    }
}

void gwi_keep_welcome(struct gwi_lane *lane, const struct gw_welcome *w)
{
    struct gw_session *s = lane->session;
    bool known = w->flags & GW_WELCOME_KNOWN;
    bool same = w->incarnation == lane->incarnation;
    if (same && known)
        return;
    /* A session that is unknown where none was forgotten has nothing applied there. */
    bool tells = lane->durability != GW_WIRE_DURABILITY_NONE &&
                 w->durability != GW_WIRE_DURABILITY_NONE &&
                 (known || w->forgotten == lane->forgotten);
    gwi_route_pull_back(s, lane); /* behind what goes again */
    if (!tells)
        doubt(lane); /* first: it would take what is recalled for unanswered */
    if (same) {
        /* Applied in this very process, so there is nothing to send again; but after its next
         * crash it could not tell these serials from new ones. */
        uint32_t at = lane->kept_first;
        for (uint32_t left = lane->kept; left > 0; left--, at = s->op[at].next)
            s->op[at].orphan = true;
    } else {
        recall(lane, tells);
    }
    s->dispatch_due = true;
}

void gwi_keep_give_over(struct gwi_lane *lane)
{
    struct gw_session *s = lane->session;
    uint32_t left = lane->kept, at = lane->kept_first;
    struct gwi_op *before = NULL;
    bool some = false;
    for (; left > 0; left--) {
        struct gwi_op *op = &s->op[at];
        uint32_t next = op->next;
        uint16_t owner = s->slot[op->slot].owner;
        if (owner == lane->index || owner == GWI_NO_LANE) {
            before = op;
            at = next;
            continue;
        }
        if (before)
            before->next = next;
        else
            lane->kept_first = next;
        if (lane->kept_last == at)
            lane->kept_last = before ? (uint32_t)(before->serial & s->mask) : GWI_NO_OP;
        at = next;
        lane->kept--;
        s->kept--;
        s->slot_kept[op->slot]--;
        some = true;
        if (op->abandoned)
            gwi_op_release(s, op);
        else if (op->orphan)
            lose(s, op);
        else
            replay(s, op);
    }
    s->dispatch_due |= some;
}

/* ---- the commit point ---- */

static uint64_t commit_point(const struct gw_session *s)
{
    uint64_t first = s->oldest;
    if (s->lost_from < first)
        first = s->lost_from;
    if (s->volatile_from < first)
        first = s->volatile_from;
    for (uint32_t i = 0; i < s->lane_count; i++)
        for (uint32_t m = 0; m < s->lane[i]->marks; m++)
            if (s->lane[i]->mark[m].first < first)
                first = s->lane[i]->mark[m].first;
    return first - 1;
}

bool gwi_keep_secured(const struct gw_session *s, uint64_t serial)
{
    if (s->oldest <= serial)
        return false;
    for (uint32_t i = 0; i < s->lane_count; i++)
        for (uint32_t m = 0; m < s->lane[i]->marks; m++)
            if (s->lane[i]->mark[m].first <= serial)
                return false;
    return true;
}

void gwi_keep_hurry(struct gw_session *s, struct gwi_lane *lane)
{
    if (lane) {
        lane->hurry = s->hurry = true;
        return;
    }
    for (uint32_t i = 0; i < s->lane_count; i++)
        if (s->lane[i]->kept > 0)
            s->lane[i]->hurry = s->hurry = true;
}

static bool send_sync(struct gwi_lane *lane)
{
    uint8_t *room = gw_conn_reserve(lane->conn, GW_FRAME_HEADER);
    if (!room)
        return false; /* choked: the next turn tries again */
    gw_conn_commit(lane->conn,
                   gw_frame_empty(room, GW_FRAME_HEADER, GW_KIND_SYNC, lane->session->id));
    lane->synced = lane->given;
    return true;
}

void gwi_keep_tick(struct gw_session *s)
{
    if (s->sync_to != 0 && gwi_keep_secured(s, s->sync_to))
        s->sync_to = 0;
    bool hurry = false;
    for (uint32_t i = 0; i < s->lane_count; i++) {
        struct gwi_lane *lane = s->lane[i];
        if ((!lane->hurry && s->sync_to == 0) || lane->state != GWI_LANE_UP) {
            hurry |= lane->hurry;
            continue;
        }
        if (gwi_lane_outstanding(lane) && lane->given > lane->synced && !send_sync(lane))
            hurry = true;
        else
            lane->hurry = false;
    }
    s->hurry = hurry;
}

void gwi_keep_tell(struct gw_session *s)
{
    uint64_t durable = commit_point(s);
    if (durable <= s->durable_told)
        return;
    s->durable_told = durable;
    s->callbacks++;
    s->on_durable(s->on_durable_ctx, durable);
}

uint64_t gw_session_issued(const struct gw_session *s)
{
    return s->next - 1;
}

uint64_t gw_session_durable(const struct gw_session *s)
{
    return commit_point(s);
}

void gw_session_on_durable(struct gw_session *s, gw_durable_callback callback, void *ctx)
{
    s->on_durable = callback;
    s->on_durable_ctx = ctx;
    s->durable_told = commit_point(s);
}

enum gw_status gw_session_set_acknowledge(struct gw_session *s, enum gw_acknowledge mode)
{
    if (mode != GW_ACKNOWLEDGE_SERVER && mode != GW_ACKNOWLEDGE_APPLIED &&
        mode != GW_ACKNOWLEDGE_DURABLE)
        return GW_E_INVALID;
    s->mode = (uint8_t)mode;
    return GW_OK;
}

enum gw_status gw_session_sync(struct gw_session *s, int timeout_ms)
{
    if (s->running)
        return GW_E_INVALID; /* would wait for the very callback that calls it */
    uint64_t last = s->next - 1;
    s->sync_to = last;
    gw_flush(s);
    uint64_t end_ns = timeout_ms < 0 ? UINT64_MAX : s->now_ns + (uint64_t)timeout_ms * GWI_MS;
    s->syncing = true;
    while (!gwi_keep_secured(s, last) && s->now_ns < end_ns) {
        uint64_t left_ms = (end_ns - s->now_ns + GWI_MS - 1) / GWI_MS;
        s->sync_to = last;
        gw_poll(s, end_ns == UINT64_MAX || left_ms > 1000 ? 1000 : (int)left_ms);
    }
    s->syncing = false;
    if (!gwi_keep_secured(s, last))
        return GW_E_TIMEOUT; /* goes on being wanted */
    if (s->lost_from <= last) {
        s->lost_from = UINT64_MAX;
        return GW_IN_DOUBT;
    }
    if (s->volatile_from <= last) {
        s->volatile_from = UINT64_MAX;
        return GW_E_UNSUPPORTED;
    }
    return GW_OK;
}
