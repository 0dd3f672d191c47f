/* session_writes.c - the rarer calls: expiry, changes that look at the old value, bounds, and the
 * two that can say everything. All of them describe an operation and issue it like any other. */
#include "client/session_sync.h"

/* Adds what an expiry of a write means to the operation. */
static void set_expiry(struct gw_wire_op *op, uint64_t expiry_ms)
{
    if (expiry_ms == GW_EXPIRY_NONE)
        return;
    op->flags |= expiry_ms == GW_EXPIRY_KEEP ? GW_WIRE_KEEP_EXPIRY : GW_WIRE_EXPIRY;
    op->expiry_ms = expiry_ms;
}

/* A value is counted in 32 bits; what is longer is refused by any length that is too large. */
static void set_bytes(struct gw_wire_op *op, const void *value, size_t value_bytes)
{
    op->value = value;
    op->value_bytes = value_bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)value_bytes;
}

enum gw_status gw_write(struct gw_session *s, const void *key, size_t key_bytes,
                        const struct gw_write *what, gw_callback cb, void *ctx)
{
    static const uint8_t verbs[] = {
        [GW_WRITE_SET] = GW_WIRE_UPSERT,
        [GW_WRITE_INSERT] = GW_WIRE_INSERT,
        [GW_WRITE_CAS] = GW_WIRE_CAS,
        [GW_WRITE_GET_SET] = GW_WIRE_GETSET,
    };
    if ((uint32_t)what->verb >= sizeof verbs || (uint32_t)what->kind > GW_VALUE_COUNTER)
        return GW_E_INVALID;
    struct gw_wire_op op = {.verb = verbs[what->verb], .expected_version = what->expected_version};
    if (what->kind == GW_VALUE_COUNTER) {
        op.flags = GW_WIRE_COUNTER;
        op.number = what->number;
    } else {
        set_bytes(&op, what->value, what->value_bytes);
    }
    /* A key that is inserted has none to keep. */
    if (what->verb != GW_WRITE_INSERT || what->expiry_ms != GW_EXPIRY_KEEP)
        set_expiry(&op, what->expiry_ms);
    return gwi_session_issue(s, &op, key, key_bytes, cb, ctx);
}

enum gw_status gw_set_until(struct gw_session *s, const void *key, size_t key_bytes,
                            const void *value, size_t value_bytes, uint64_t expiry_ms,
                            gw_callback cb, void *ctx)
{
    struct gw_write what = {.value = value, .value_bytes = value_bytes, .expiry_ms = expiry_ms};
    return gw_write(s, key, key_bytes, &what, cb, ctx);
}

enum gw_status gw_get_set(struct gw_session *s, const void *key, size_t key_bytes,
                          const void *value, size_t value_bytes, gw_callback cb, void *ctx)
{
    struct gw_write what = {.verb = GW_WRITE_GET_SET, .value = value, .value_bytes = value_bytes};
    return gw_write(s, key, key_bytes, &what, cb, ctx);
}

static enum gw_status touch(struct gw_session *s, uint8_t verb, const void *key, size_t key_bytes,
                            uint64_t expiry_ms, gw_callback cb, void *ctx)
{
    struct gw_wire_op op = {.verb = verb};
    if (expiry_ms == GW_EXPIRY_KEEP)
        return GW_E_INVALID;
    set_expiry(&op, expiry_ms);
    return gwi_session_issue(s, &op, key, key_bytes, cb, ctx);
}

enum gw_status gw_touch(struct gw_session *s, const void *key, size_t key_bytes, uint64_t expiry_ms,
                        gw_callback cb, void *ctx)
{
    return touch(s, GW_WIRE_TOUCH, key, key_bytes, expiry_ms, cb, ctx);
}

enum gw_status gw_persist(struct gw_session *s, const void *key, size_t key_bytes, gw_callback cb,
                          void *ctx)
{
    return touch(s, GW_WIRE_TOUCH, key, key_bytes, GW_EXPIRY_NONE, cb, ctx);
}

enum gw_status gw_get_touch(struct gw_session *s, const void *key, size_t key_bytes,
                            uint64_t expiry_ms, gw_callback cb, void *ctx)
{
    return touch(s, GW_WIRE_READ_TOUCH, key, key_bytes, expiry_ms, cb, ctx);
}

static enum gw_status put_piece(struct gw_session *s, uint8_t verb, const void *key,
                                size_t key_bytes, const void *value, size_t value_bytes,
                                uint32_t flags, gw_callback cb, void *ctx)
{
    struct gw_wire_op op = {.verb = verb};
    if (flags & ~GW_MUST_EXIST)
        return GW_E_INVALID;
    if (flags & GW_MUST_EXIST)
        op.flags = GW_WIRE_MUST_EXIST;
    set_bytes(&op, value, value_bytes);
    return gwi_session_issue(s, &op, key, key_bytes, cb, ctx);
}

enum gw_status gw_append(struct gw_session *s, const void *key, size_t key_bytes, const void *value,
                         size_t value_bytes, uint32_t flags, gw_callback cb, void *ctx)
{
    return put_piece(s, GW_WIRE_APPEND, key, key_bytes, value, value_bytes, flags, cb, ctx);
}

enum gw_status gw_prepend(struct gw_session *s, const void *key, size_t key_bytes,
                          const void *value, size_t value_bytes, uint32_t flags, gw_callback cb,
                          void *ctx)
{
    return put_piece(s, GW_WIRE_PREPEND, key, key_bytes, value, value_bytes, flags, cb, ctx);
}

enum gw_status gw_get_delete(struct gw_session *s, const void *key, size_t key_bytes,
                             gw_callback cb, void *ctx)
{
    struct gw_wire_op op = {.verb = GW_WIRE_GETDEL};
    return gwi_session_issue(s, &op, key, key_bytes, cb, ctx);
}

enum gw_status gw_add_with(struct gw_session *s, const void *key, size_t key_bytes, int64_t delta,
                           const struct gw_add_options *options, gw_callback cb, void *ctx)
{
    struct gw_wire_op op = {.verb = GW_WIRE_ADD, .number = delta, .initial = options->initial};
    uint8_t bounds[GW_WIRE_BOUNDS_BYTES]; /* copied by the issue */
    if (options->initial != 0)
        op.flags |= GW_WIRE_INITIAL;
    if (options->expiry_ms != GW_EXPIRY_KEEP) /* an add keeps what there is by itself */
        set_expiry(&op, options->expiry_ms);
    if (options->bounded) {
        if (options->low > options->high)
            return GW_E_INVALID;
        op.flags |= GW_WIRE_BOUNDED | (options->clamp ? GW_WIRE_CLAMP : 0);
        gw_store64(bounds, (uint64_t)options->low);
        gw_store64(bounds + 8, (uint64_t)options->high);
        op.value = bounds;
        op.value_bytes = sizeof bounds;
    }
    return gwi_session_issue(s, &op, key, key_bytes, cb, ctx);
}

/* ---- synchronous ---- */

enum gw_status gw_write_sync(struct gw_session *s, const void *key, size_t key_bytes,
                             const struct gw_write *what, struct gw_result *result)
{
    GWI_SYNC(gw_write(s, key, key_bytes, what, gwi_waiter_done, &waiter));
}

enum gw_status gw_set_until_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                 const void *value, size_t value_bytes, uint64_t expiry_ms,
                                 struct gw_result *result)
{
    GWI_SYNC(
        gw_set_until(s, key, key_bytes, value, value_bytes, expiry_ms, gwi_waiter_done, &waiter));
}

enum gw_status gw_touch_sync(struct gw_session *s, const void *key, size_t key_bytes,
                             uint64_t expiry_ms, struct gw_result *result)
{
    GWI_SYNC(gw_touch(s, key, key_bytes, expiry_ms, gwi_waiter_done, &waiter));
}

enum gw_status gw_persist_sync(struct gw_session *s, const void *key, size_t key_bytes,
                               struct gw_result *result)
{
    GWI_SYNC(gw_persist(s, key, key_bytes, gwi_waiter_done, &waiter));
}

enum gw_status gw_get_touch_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                 uint64_t expiry_ms, struct gw_result *result)
{
    GWI_SYNC(gw_get_touch(s, key, key_bytes, expiry_ms, gwi_waiter_done, &waiter));
}

enum gw_status gw_append_sync(struct gw_session *s, const void *key, size_t key_bytes,
                              const void *value, size_t value_bytes, uint32_t flags,
                              struct gw_result *result)
{
    GWI_SYNC(gw_append(s, key, key_bytes, value, value_bytes, flags, gwi_waiter_done, &waiter));
}

enum gw_status gw_prepend_sync(struct gw_session *s, const void *key, size_t key_bytes,
                               const void *value, size_t value_bytes, uint32_t flags,
                               struct gw_result *result)
{
    GWI_SYNC(gw_prepend(s, key, key_bytes, value, value_bytes, flags, gwi_waiter_done, &waiter));
}

enum gw_status gw_get_set_sync(struct gw_session *s, const void *key, size_t key_bytes,
                               const void *value, size_t value_bytes, struct gw_result *result)
{
    GWI_SYNC(gw_get_set(s, key, key_bytes, value, value_bytes, gwi_waiter_done, &waiter));
}

enum gw_status gw_get_delete_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                  struct gw_result *result)
{
    GWI_SYNC(gw_get_delete(s, key, key_bytes, gwi_waiter_done, &waiter));
}

enum gw_status gw_add_with_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                int64_t delta, const struct gw_add_options *options,
                                struct gw_result *result)
{
    GWI_SYNC(gw_add_with(s, key, key_bytes, delta, options, gwi_waiter_done, &waiter));
}
