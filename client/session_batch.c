/* session_batch.c - operations out in batches, answers in. A frame is put together from the encoded
 * operations in the window at the moment it leaves: an operation that must go again, to the same or
 * another server, is sent by the very same code. Rules by number: session.h. */
#include "client/session.h"

#include <string.h>

#define COPY_BYTES 32u /* an operation up to so long is copied by two moves instead of a call */

static bool may_send(const struct gwi_lane *lane, bool force)
{
    const struct gw_session *s = lane->session;
    if (lane->count == 0 || lane->state != GWI_LANE_UP || lane->draining || lane->returned ||
        lane->choked || lane->batch_count >= s->options.batches_in_flight ||
        lane->resume_ns > s->now_ns)
        return false;
    return force || lane->batch_count == 0 || lane->count >= s->options.batch_operations ||
           lane->bytes >= s->options.batch_bytes;
}

static void list_pop(struct gwi_lane *lane, struct gwi_op *op)
{
    lane->first = op->next;
    lane->count--;
    lane->bytes -= op->bytes;
}

static bool is_early(const struct gwi_op *op)
{
    return op->mode == GW_ACKNOWLEDGE_APPLIED;
}

/* Where nothing becomes durable, who waits for that waits for ever: it is not even sent. */
static bool refuses(const struct gwi_lane *lane, const struct gwi_op *op)
{
    return lane->durability == GW_WIRE_DURABILITY_NONE && op->mode == GW_ACKNOWLEDGE_DURABLE;
}

/* May the operation go in the batch that `first` has begun? */
static inline bool same_way(const struct gwi_lane *lane, const struct gwi_op *first,
                            const struct gwi_op *op)
{
    return first->mode == op->mode || (is_early(first) == is_early(op) && !refuses(lane, op));
}

/* Takes operations from the lane's list into the frame's body at `room`; returns its bytes. */
static size_t fill(struct gwi_lane *lane, uint8_t *room, size_t limit, size_t room_bytes,
                   struct gwi_batch *batch)
{
    struct gw_session *s = lane->session;
    uint32_t base = (uint32_t)s->oldest;
    uint32_t most = s->options.batch_operations;
    uint64_t resent = 0;
    size_t used = 0;
    const struct gwi_op *first = &s->op[lane->first];
    batch->first = lane->first;
    batch->left = 0;
    while (lane->count > 0 && batch->left < most) {
        struct gwi_op *op = &s->op[lane->first];
        if (batch->left > 0 && (used + op->bytes > limit || !same_way(lane, first, op)))
            break;
        uint8_t *bytes = gwi_op_bytes(op);
        if (GW_LIKELY(op->bytes <= COPY_BYTES && room_bytes - used >= COPY_BYTES))
            memcpy(room + used, bytes, COPY_BYTES);
        else
            memcpy(room + used, bytes, op->bytes);
        gw_store32(room + used + 4, (uint32_t)op->serial - base);
        resent += (bytes[1] & GW_WIRE_RESENT) != 0;
        used += op->bytes;
        op->state = GWI_OP_SENT;
        batch->left++;
        list_pop(lane, op);
    }
    s->stats.resent += resent;
    return used;
}

static bool send_one(struct gwi_lane *lane)
{
    struct gw_session *s = lane->session;
    struct gwi_op *first = &s->op[lane->first];
    struct gw_net_options bounds;
    gw_net_options_default(&bounds);
    size_t frame_max = lane->frame_bytes_max < bounds.frame_bytes_max ? lane->frame_bytes_max
                                                                      : bounds.frame_bytes_max;
    size_t body_max = frame_max - GW_FRAME_HEADER;
    if (GW_UNLIKELY(first->bytes > body_max)) {
        list_pop(lane, first);
        gwi_op_fail(s, first, GW_E_TOO_LARGE);
        return true;
    }
    if (GW_UNLIKELY(refuses(lane, first))) {
        list_pop(lane, first);
        gwi_op_fail(s, first, GW_E_UNSUPPORTED);
        return true;
    }
    uint16_t flags = is_early(first) ? GW_BATCH_EARLY : 0;
    size_t limit = s->options.batch_bytes < body_max ? s->options.batch_bytes : body_max;
    size_t room_bytes = lane->bytes < limit ? lane->bytes : limit;
    if (room_bytes < first->bytes)
        room_bytes = first->bytes;
    if (room_bytes + COPY_BYTES <= body_max)
        room_bytes += COPY_BYTES;
    uint8_t *room = gw_conn_reserve(lane->conn, GW_FRAME_HEADER + room_bytes);
    if (!room) {
        lane->choked = true; /* `drained` follows */
        return false;
    }

    uint32_t at = (lane->batch_head + lane->batch_count) % GWI_BATCHES_MAX;
    struct gwi_batch *batch = &lane->batch[at];
    batch->sequence = ++lane->sequence;
    batch->view = lane->view;
    size_t bytes = GW_FRAME_HEADER + fill(lane, room + GW_FRAME_HEADER, limit, room_bytes, batch);
    struct gw_frame head = {
        .bytes = (uint32_t)bytes,
        .kind = GW_KIND_BATCH,
        .flags = lane->resuming ? flags | GW_BATCH_RESUME : flags,
        .count = batch->left,
        .session = s->id,
        .sequence = batch->sequence,
        .view = batch->view,
        .serial = s->oldest,
        .confirmed = s->oldest,
    };
    gw_frame_encode(&head, room);
    gw_conn_commit(lane->conn, bytes);
    lane->resuming = false;
    lane->batch_count++;
    s->stats.batches++;
    return true;
}

void gwi_lane_send(struct gwi_lane *lane, bool force)
{
    while (may_send(lane, force) && send_one(lane)) {}
}

/* The oldest batch in flight has been answered or refused to its end. */
static void batch_pop(struct gwi_lane *lane)
{
    lane->batch_head = (lane->batch_head + 1) % GWI_BATCHES_MAX;
    if (--lane->batch_count == 0 && lane->draining) {
        lane->draining = false;
        lane->resuming = true;
        lane->session->dispatch_due = true;
    }
}

/* One reply to an operation under way. What is common comes first. */
static void take_reply(struct gwi_lane *lane, struct gwi_op *op, const struct gw_wire_reply *reply)
{
    struct gw_session *s = lane->session;
    switch (reply->status) {
    default:
        gwi_op_answer(lane, op, reply);
        break;
    case GW_PENDING:
        if (op->state == GWI_OP_SENT) {
            op->state = GWI_OP_PENDING;
            lane->pending++;
            s->stats.pending++;
        }
        break;
    case GW_MOVED:
    case GW_WRONG_VIEW:
        gwi_route_returned(s, op, true);
        break;
    case GW_RETRY:
        gwi_route_returned(s, op, false);
        break;
    }
}

/* All answers of a frame are durable at one position. */
static void begin_answers(struct gwi_lane *lane, const struct gw_frame *head)
{
    struct gw_session *s = lane->session;
    lane->position = head->confirmed;
    if (lane->durability != GW_WIRE_DURABILITY_NONE)
        return;
    lane->position = 0;
    if (s->oldest < s->volatile_from)
        s->volatile_from = s->oldest;
}

enum gw_status gwi_batch_reply(struct gwi_lane *lane, const struct gw_frame *head,
                               const uint8_t *frame)
{
    struct gw_session *s = lane->session;
    struct gwi_batch *batch = &lane->batch[lane->batch_head];
    /* A long answer may come in several frames; they name the same batch. */
    if (lane->batch_count == 0 || head->sequence != batch->sequence || head->count > batch->left ||
        head->count == 0)
        return GW_E_PROTOCOL;
    struct gw_reader r = gw_frame_body(frame, head);
    uint32_t at = batch->first;
    begin_answers(lane, head);
    for (uint32_t i = 0; i < head->count; i++) {
        struct gw_wire_reply reply;
        if (!gw_wire_reply_decode(&r, &reply) || (reply.flags & GW_WIRE_HAS_SERIAL))
            return GW_E_PROTOCOL; /* closes: what is not answered yet is sent again */
        struct gwi_op *op = &s->op[at];
        at = op->next;
        take_reply(lane, op, &reply);
    }
    if (gw_reader_left(&r) != 0)
        return GW_E_PROTOCOL;
    batch->first = at;
    batch->left -= head->count;
    if (batch->left == 0)
        batch_pop(lane);
    lane->fatal = 0;
    lane->not_yet = 0;
    return GW_OK;
}

enum gw_status gwi_batch_completion(struct gwi_lane *lane, const struct gw_frame *head,
                                    const uint8_t *frame)
{
    struct gw_session *s = lane->session;
    struct gw_reader r = gw_frame_body(frame, head);
    begin_answers(lane, head);
    for (uint32_t i = 0; i < head->count; i++) {
        struct gw_wire_reply reply;
        if (!gw_wire_reply_decode(&r, &reply) || !(reply.flags & GW_WIRE_HAS_SERIAL))
            return GW_E_PROTOCOL;
        uint64_t serial = head->serial + reply.serial_delta;
        if (serial < s->oldest || serial >= s->next)
            continue; /* of an operation that was answered by other means */
        struct gwi_op *op = gwi_op_at(s, serial);
        if (op->state == GWI_OP_PENDING && op->lane == lane->index)
            take_reply(lane, op, &reply);
    }
    return gw_reader_left(&r) == 0 ? GW_OK : GW_E_PROTOCOL;
}

enum gw_status gwi_batch_refusal(struct gwi_lane *lane, const struct gw_frame *head,
                                 const uint8_t *frame)
{
    struct gw_session *s = lane->session;
    struct gwi_batch *batch = &lane->batch[lane->batch_head];
    struct gw_reader r = gw_frame_body(frame, head);
    if (lane->batch_count == 0 || head->sequence != batch->sequence || gw_reader_left(&r) < 8)
        return GW_E_PROTOCOL;
    uint8_t reason = gw_read8(&r);
    (void)gw_read_bytes(&r, 7); /* there: asked above */
    if (reason != GW_WRONG_VIEW && reason != GW_NOT_YET && reason != GW_RETRY)
        return GW_E_PROTOCOL;

    s->stats.refusals++;
    bool first = !lane->draining; /* the others are only its consequence, whatever they say */
    lane->draining = true;
    gwi_route_pull_back(s, lane); /* what was not sent yet stands behind what comes back */
    uint32_t at = batch->first;
    for (; batch->left > 0; batch->left--) {
        struct gwi_op *op = &s->op[at];
        at = op->next;
        gwi_route_requeue(s, op);
        if (op->abandoned) {
            lane->abandoned--;
            gwi_op_free(s, op);
        }
    }
    uint64_t view = batch->view;
    batch_pop(lane);

    enum gw_status st = GW_OK;
    if (gw_reader_left(&r) > 0)
        st = gwi_cluster_offer_wire(s->cluster, &r);
    gwi_route_adopt(s);
    if (!first)
        return st;
    lane->resume_ns = 0;
    if (reason != GW_WRONG_VIEW || lane->view == view) {
        /* Nothing that we have learnt lets us expect another answer: ask again, later. */
        lane->resume_ns = s->now_ns + gwi_wait_ns(lane->not_yet++);
        s->map_wanted |= reason == GW_WRONG_VIEW;
    }
    return st;
}
