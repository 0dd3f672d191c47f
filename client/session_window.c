/* session_window.c - the window of operations: what an answer does, what a deadline does, and where
 * callbacks are run. Rules by number: session.h. */
#include "client/session.h"

#include <stdlib.h>

static void window_advance(struct gw_session *s)
{
    while (s->oldest < s->next && gwi_op_at(s, s->oldest)->state == GWI_OP_FREE)
        s->oldest++;
}

static inline void op_release(struct gw_session *s, struct gwi_op *op)
{
    s->bytes -= op->bytes;
    if (GW_UNLIKELY(op->heap != NULL)) {
        free(op->heap);
        op->heap = NULL;
    }
    op->state = GWI_OP_FREE;
    if (op->serial == s->oldest)
        window_advance(s);
}

void gwi_op_release(struct gw_session *s, struct gwi_op *op)
{
    op_release(s, op);
}

void gwi_op_free(struct gw_session *s, struct gwi_op *op)
{
    GW_ASSERT(op->abandoned && op->state == GWI_OP_QUEUED);
    s->queued--;
    s->slot[op->slot].queued--;
    op_release(s, op);
}

void gwi_op_tell(struct gw_session *s, uint64_t issued_ns, enum gw_status st)
{
    if (s->now_ns > issued_ns && s->now_ns - issued_ns > s->stats.wait_longest_ns)
        s->stats.wait_longest_ns = s->now_ns - issued_ns;
    s->in_flight--;
    s->callbacks++;
    if (GW_UNLIKELY(st == GW_IN_DOUBT))
        s->stats.in_doubt++;
}

void gwi_op_call_back(gw_callback callback, void *ctx, const struct gw_wire_reply *reply)
{
    if (!callback)
        return;
    struct gw_result result = {
        .status = (enum gw_status)reply->status,
        .version = reply->version,
        .kind = reply->flags & GW_WIRE_COUNTER ? GW_VALUE_COUNTER : GW_VALUE_BYTES,
        .number = reply->number,
        .value = reply->value,
        .value_bytes = reply->value_bytes,
    };
    if (GW_UNLIKELY(reply->flags & ~7u)) {
        result.expiry_ms = reply->expiry_ms;
        if (reply->flags & GW_WIRE_NONE)
            result.kind = GW_VALUE_NONE;
        else if (reply->flags & GW_WIRE_FORGOTTEN)
            result.kind = GW_VALUE_FORGOTTEN;
    }
    callback(ctx, &result);
}

void gwi_op_answer(struct gwi_lane *lane, struct gwi_op *op, const struct gw_wire_reply *reply)
{
    struct gw_session *s = lane->session;
    struct gwi_slot *slot = &s->slot[op->slot];
    slot->tries = 0;
    if (--slot->under_way == 0 && GW_UNLIKELY(slot->queued != 0))
        s->dispatch_due = true;
    if (GW_UNLIKELY(op->state == GWI_OP_PENDING))
        lane->pending--;
    if (GW_UNLIKELY(op->abandoned)) {
        lane->abandoned--;
        op_release(s, op);
        return;
    }
    if (GW_UNLIKELY(lane->position > lane->durable || op->told) && gwi_keep_answer(lane, op, reply))
        return;

    /* The slot in the window may be given to another operation by the callback: everything that is
     * needed of this one is taken before. */
    gw_callback callback = op->callback;
    void *ctx = op->ctx;
    gwi_op_tell(s, op->issued_ns, (enum gw_status)reply->status);
    op_release(s, op);
    gwi_op_call_back(callback, ctx, reply);
}

void gwi_op_fail(struct gw_session *s, struct gwi_op *op, enum gw_status st)
{
    struct gwi_slot *slot = &s->slot[op->slot];
    if (op->state == GWI_OP_QUEUED) {
        s->queued--;
        slot->queued--;
    } else {
        GW_ASSERT(op->state == GWI_OP_READY);
        slot->under_way--;
    }
    s->dispatch_due |= slot->queued != 0;
    if (GW_UNLIKELY(op->told)) {
        gwi_keep_lost(s, op->serial, 1);
        op_release(s, op);
        return;
    }
    op->state = GWI_OP_FAILED;
    op->status = (int8_t)(op->unsure && gw_failed(st) ? GW_IN_DOUBT : st);
    s->failed++;
}

void gwi_window_deliver(struct gw_session *s)
{
    GW_ASSERT(s->running);
    uint64_t end = s->next; /* what callbacks issue has not failed yet */
    for (uint64_t serial = s->oldest; s->failed > 0 && serial < end; serial++) {
        struct gwi_op *op = gwi_op_at(s, serial);
        if (op->state != GWI_OP_FAILED || op->serial != serial)
            continue;
        struct gw_result result = {.status = (enum gw_status)op->status};
        gw_callback callback = op->callback;
        void *ctx = op->ctx;
        s->failed--;
        gwi_op_tell(s, op->issued_ns, result.status);
        op_release(s, op);
        if (callback)
            callback(ctx, &result);
    }
}

static void expire(struct gw_session *s, struct gwi_op *op)
{
    if (op->state == GWI_OP_READY)
        gwi_route_pull_back(s, s->lane[op->lane]);
    if (op->state == GWI_OP_QUEUED) {
        gwi_op_fail(s, op, GW_E_TIMEOUT);
        return;
    }
    if (op->state == GWI_OP_APPLIED) {
        gwi_keep_expire(s, op);
        return;
    }
    /* Under way: the caller is told, the place in order stays taken (rule 5). */
    op->abandoned = true;
    s->lane[op->lane]->abandoned++;
    struct gw_result result = {.status = GW_IN_DOUBT};
    gw_callback callback = op->callback;
    void *ctx = op->ctx;
    op->callback = NULL;
    gwi_op_tell(s, op->issued_ns, GW_IN_DOUBT);
    if (callback)
        callback(ctx, &result);
}

/* deadline_low_ns is at or below the lowest deadline in the window; answers do not raise it, so
 * that they cost nothing. When it passes, one walk finds the true one: with one deadline for all,
 * that is one walk in a deadline's time. */
void gwi_window_deadlines(struct gw_session *s)
{
    GW_ASSERT(s->running);
    if (s->now_ns < s->deadline_low_ns || s->now_ns < s->deadline_check_ns)
        return;
    s->deadline_check_ns = s->now_ns + GWI_DEADLINE_CHECK_NS;
    s->deadline_low_ns = UINT64_MAX;
    uint64_t low_ns = UINT64_MAX;
    uint64_t end = s->next;
    for (uint64_t serial = s->oldest; serial < end; serial++) {
        struct gwi_op *op = gwi_op_at(s, serial);
        if (op->serial != serial || op->abandoned || op->told || op->state == GWI_OP_FREE ||
            op->state == GWI_OP_FAILED)
            continue;
        if (op->deadline_ns <= s->now_ns)
            expire(s, op);
        else if (op->deadline_ns < low_ns)
            low_ns = op->deadline_ns;
    }
    if (low_ns < s->deadline_low_ns) /* callbacks may have issued some with lower ones */
        s->deadline_low_ns = low_ns;
}
