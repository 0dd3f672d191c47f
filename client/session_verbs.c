/* session_verbs.c - the calls that issue an operation, and their synchronous wrappers.
 * The common way of an issue: take the next place in the window, encode into it, one CRC16, one
 * look at the slot, into the lane's list. Nothing is allocated for an operation of up to 64 bytes.
 * Rules by number: session.h. */
#include "client/session_sync.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t frame_bytes_max = (4u << 20) + (128u << 10); /* of the transport: net.h */

static inline bool key_fits(size_t key_bytes)
{
    return key_bytes - 1 < GW_KEY_BYTES_MAX;
}

static enum gw_status full(struct gw_session *s)
{
    if (s->kept > 0) { /* what is kept holds the places */
        s->refused = true;
        gwi_keep_hurry(s, NULL);
    }
    return GW_WOULD_BLOCK;
}

static inline enum gw_status issue(struct gw_session *s, const struct gw_wire_op *wire,
                                   gw_callback callback, void *ctx)
{
    if (GW_UNLIKELY(s->next - s->oldest >= s->window))
        return full(s);
    size_t bytes = gw_wire_op_bytes(wire);
    if (GW_UNLIKELY(bytes > frame_bytes_max - GW_FRAME_HEADER))
        return GW_E_TOO_LARGE;
    if (GW_UNLIKELY(s->bytes + bytes > s->options.bytes_max && s->bytes > 0))
        return full(s);
    if (GW_UNLIKELY(s->clock_stale || s->issues++ >= GWI_ISSUES_PER_CLOCK))
        gwi_session_clock(s);

    struct gwi_op *op = gwi_op_at(s, s->next);
    uint8_t *room = op->bytes_inline;
    op->heap = NULL;
    if (GW_UNLIKELY(bytes > GWI_INLINE_BYTES)) {
        op->heap = room = malloc(bytes);
        if (!room)
            return GW_E_NOMEM;
    }
    struct gw_writer w = gw_writer_of(room, bytes);
    gw_wire_op_encode(wire, &w);

    op->serial = s->next++;
    op->callback = callback;
    op->ctx = ctx;
    op->bytes = (uint32_t)bytes;
    op->issued_ns = s->now_ns;
    op->deadline_ns = s->deadline_after_ns;
    if (op->deadline_ns != UINT64_MAX) {
        op->deadline_ns += s->now_ns;
        if (op->deadline_ns < s->deadline_low_ns)
            s->deadline_low_ns = op->deadline_ns;
    }
    op->mode = s->mode;
    op->abandoned = op->unsure = op->told = op->orphan = false;
    op->slot = gw_key_slot(wire->key, wire->key_bytes);
    s->bytes += bytes;
    s->in_flight++;

    struct gwi_slot *slot = &s->slot[op->slot];
    uint16_t owner = slot->owner;
    if (GW_UNLIKELY(slot->queued != 0 || owner == GWI_NO_LANE ||
                    (slot->under_way != 0 && slot->returning) ||
                    (slot->lane != owner && gwi_slot_bound(s, op->slot)))) {
        gwi_route_queue(s, op); /* rules 1, 2 and 6 */
        return GW_OK;
    }
    struct gwi_lane *lane = s->lane[owner];
    gwi_route_ready(s, lane, op);
    if (GW_UNLIKELY(lane->count >= s->options.batch_operations ||
                    lane->bytes >= s->options.batch_bytes)) {
        uint64_t batches = s->stats.batches;
        gwi_lane_send(lane, false);
        if (s->stats.batches != batches && !s->running) {
            gwi_session_own(s);
            gw_net_flush(s->net);
        }
    }
    return GW_OK;
}

enum gw_status gwi_session_issue(struct gw_session *s, const struct gw_wire_op *wire,
                                 const void *key, size_t key_bytes, gw_callback callback, void *ctx)
{
    if (!key_fits(key_bytes))
        return GW_E_INVALID;
    if (wire->value_bytes > frame_bytes_max)
        return GW_E_TOO_LARGE;
    struct gw_wire_op op = *wire;
    op.key = key;
    op.key_bytes = (uint16_t)key_bytes;
    return issue(s, &op, callback, ctx);
}

enum gw_status gw_get(struct gw_session *s, const void *key, size_t key_bytes, gw_callback cb,
                      void *ctx)
{
    if (!key_fits(key_bytes))
        return GW_E_INVALID;
    struct gw_wire_op op = {.verb = GW_WIRE_READ, .key = key, .key_bytes = (uint16_t)key_bytes};
    return issue(s, &op, cb, ctx);
}

enum gw_status gw_delete(struct gw_session *s, const void *key, size_t key_bytes, gw_callback cb,
                         void *ctx)
{
    if (!key_fits(key_bytes))
        return GW_E_INVALID;
    struct gw_wire_op op = {.verb = GW_WIRE_DELETE, .key = key, .key_bytes = (uint16_t)key_bytes};
    return issue(s, &op, cb, ctx);
}

enum gw_status gw_add(struct gw_session *s, const void *key, size_t key_bytes, int64_t delta,
                      int64_t initial, gw_callback cb, void *ctx)
{
    if (!key_fits(key_bytes))
        return GW_E_INVALID;
    struct gw_wire_op op = {
        .verb = GW_WIRE_ADD,
        .flags = initial != 0 ? GW_WIRE_INITIAL : 0,
        .key = key,
        .key_bytes = (uint16_t)key_bytes,
        .number = delta,
        .initial = initial,
    };
    return issue(s, &op, cb, ctx);
}

static enum gw_status write_value(struct gw_session *s, struct gw_wire_op *op, const void *key,
                                  size_t key_bytes, const void *value, size_t value_bytes,
                                  gw_callback cb, void *ctx)
{
    if (!key_fits(key_bytes))
        return GW_E_INVALID;
    if (value_bytes > frame_bytes_max)
        return GW_E_TOO_LARGE;
    op->key = key;
    op->key_bytes = (uint16_t)key_bytes;
    op->value = value;
    op->value_bytes = (uint32_t)value_bytes;
    return issue(s, op, cb, ctx);
}

enum gw_status gw_set(struct gw_session *s, const void *key, size_t key_bytes, const void *value,
                      size_t value_bytes, gw_callback cb, void *ctx)
{
    struct gw_wire_op op = {.verb = GW_WIRE_UPSERT};
    return write_value(s, &op, key, key_bytes, value, value_bytes, cb, ctx);
}

enum gw_status gw_set_counter(struct gw_session *s, const void *key, size_t key_bytes,
                              int64_t number, gw_callback cb, void *ctx)
{
    struct gw_wire_op op = {.verb = GW_WIRE_UPSERT, .flags = GW_WIRE_COUNTER, .number = number};
    return write_value(s, &op, key, key_bytes, NULL, 0, cb, ctx);
}

enum gw_status gw_cas(struct gw_session *s, const void *key, size_t key_bytes,
                      uint32_t expected_version, const void *value, size_t value_bytes,
                      gw_callback cb, void *ctx)
{
    struct gw_wire_op op = {.verb = GW_WIRE_CAS, .expected_version = expected_version};
    return write_value(s, &op, key, key_bytes, value, value_bytes, cb, ctx);
}

enum gw_status gw_insert(struct gw_session *s, const void *key, size_t key_bytes, const void *value,
                         size_t value_bytes, gw_callback cb, void *ctx)
{
    struct gw_wire_op op = {.verb = GW_WIRE_INSERT};
    return write_value(s, &op, key, key_bytes, value, value_bytes, cb, ctx);
}

void gwi_waiter_done(void *ctx, const struct gw_result *result)
{
    struct gwi_waiter *waiter = ctx;
    struct gw_session *s = waiter->session;
    waiter->result = *result;
    waiter->result.value = NULL;
    waiter->done = true;
    if (!result->value)
        return;
    if (result->value_bytes + 1 > s->sync_room) {
        uint8_t *room = realloc(s->sync_value, result->value_bytes + 1);
        if (!room) {
            waiter->result = (struct gw_result){.status = GW_E_NOMEM};
            return;
        }
        s->sync_value = room;
        s->sync_room = result->value_bytes + 1;
    }
    if (result->value_bytes > 0)
        memcpy(s->sync_value, result->value, result->value_bytes);
    waiter->result.value = s->sync_value;
}

enum gw_status gw_get_sync(struct gw_session *s, const void *key, size_t key_bytes,
                           struct gw_result *result)
{
    GWI_SYNC(gw_get(s, key, key_bytes, gwi_waiter_done, &waiter));
}

enum gw_status gw_set_sync(struct gw_session *s, const void *key, size_t key_bytes,
                           const void *value, size_t value_bytes, struct gw_result *result)
{
    GWI_SYNC(gw_set(s, key, key_bytes, value, value_bytes, gwi_waiter_done, &waiter));
}

enum gw_status gw_set_counter_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                   int64_t number, struct gw_result *result)
{
    GWI_SYNC(gw_set_counter(s, key, key_bytes, number, gwi_waiter_done, &waiter));
}

enum gw_status gw_delete_sync(struct gw_session *s, const void *key, size_t key_bytes,
                              struct gw_result *result)
{
    GWI_SYNC(gw_delete(s, key, key_bytes, gwi_waiter_done, &waiter));
}

enum gw_status gw_add_sync(struct gw_session *s, const void *key, size_t key_bytes, int64_t delta,
                           int64_t initial, struct gw_result *result)
{
    GWI_SYNC(gw_add(s, key, key_bytes, delta, initial, gwi_waiter_done, &waiter));
}

enum gw_status gw_cas_sync(struct gw_session *s, const void *key, size_t key_bytes,
                           uint32_t expected_version, const void *value, size_t value_bytes,
                           struct gw_result *result)
{
    GWI_SYNC(
        gw_cas(s, key, key_bytes, expected_version, value, value_bytes, gwi_waiter_done, &waiter));
}

enum gw_status gw_insert_sync(struct gw_session *s, const void *key, size_t key_bytes,
                              const void *value, size_t value_bytes, struct gw_result *result)
{
    GWI_SYNC(gw_insert(s, key, key_bytes, value, value_bytes, gwi_waiter_done, &waiter));
}
