/* ops_inline.h - the codecs of ops and replies, inlined: millions of each pass a second, so each is
 * one 8-byte load, one look into a table that knows verb and flags together, and one comparison of
 * lengths; what is left are branches that a batch of like ops predicts. Included by ops.h only. */
#ifndef GW_CLIENT_WIRE_OPS_INLINE_H
#define GW_CLIENT_WIRE_OPS_INLINE_H

#include <string.h>

#include "client/wire/names.h"
#include "client/wire/ops.h"
#include "index/base/assert.h"

#define GWI_OP_HEAD    8u
#define GWI_REPLY_HEAD 8u
#define GWI_NONE       0xffu /* no such combination */

/* Bytes between an op's key and its value's bytes, at verb << 3 | flags. */
#define GWI_PLAIN 0, GWI_NONE, GWI_NONE, GWI_NONE, 0, GWI_NONE, GWI_NONE, GWI_NONE
#define GWI_STORE(extra)                                                                           \
    4 + (extra), 8 + (extra), GWI_NONE, GWI_NONE, 4 + (extra), 8 + (extra), GWI_NONE, GWI_NONE
#define GWI_ADD     8, GWI_NONE, 16, GWI_NONE, 8, GWI_NONE, 16, GWI_NONE
#define GWI_NO_VERB GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE
static const uint8_t gwi_op_shape[64] __attribute__((aligned(64))) = {
    GWI_NO_VERB,  /* 0 */
    GWI_PLAIN,    /* READ */
    GWI_STORE(0), /* UPSERT */
    GWI_PLAIN,    /* DELETE */
    GWI_ADD,      /* ADD */
    GWI_STORE(4), /* CAS */
    GWI_STORE(0), /* INSERT */
    GWI_NO_VERB,  /* 7 */
};
_Static_assert(GW_WIRE_COUNTER == 1 && GW_WIRE_INITIAL == 2 && GW_WIRE_RESENT == 4,
               "the table above counts in these flags");
_Static_assert(GW_WIRE_READ == 1 && GW_WIRE_UPSERT == 2 && GW_WIRE_DELETE == 3 &&
                   GW_WIRE_ADD == 4 && GW_WIRE_CAS == 5 && GW_WIRE_INSERT == 6,
               "the table above stands in this order");
_Static_assert(GW_WIRE_OP_BYTES_LEAST == GWI_OP_HEAD + 1, "a key has at least one byte");

/* Bytes between a reply's head and its value's bytes, by flags. */
static const uint8_t gwi_reply_shape[8] = {0, 8, 4, GWI_NONE, 4, 12, 8, GWI_NONE};
_Static_assert(GW_WIRE_COUNTER == 1 && GW_WIRE_VALUE == 2 && GW_WIRE_HAS_SERIAL == 4,
               "the table above counts in these flags");

static inline uint8_t gwi_op_shape_of(const struct gw_wire_op *op)
{
    GW_ASSERT(((op->verb | op->flags) & ~7) == 0 && op->key_bytes > 0);
    uint8_t shape = gwi_op_shape[op->verb << 3 | op->flags];
    GW_ASSERT(shape != GWI_NONE);
    return shape;
}

static inline bool gwi_op_has_value(uint8_t verb, uint8_t flags)
{
    return (verb == GW_WIRE_UPSERT || verb == GW_WIRE_CAS || verb == GW_WIRE_INSERT) &&
           !(flags & GW_WIRE_COUNTER);
}

/* memcpy whose usual case, a key of 8 to 16 bytes, is four moves instead of a call. */
static inline void gwi_copy_short(uint8_t *to, const uint8_t *from, size_t n)
{
    if (GW_LIKELY(n - 8 <= 8)) {
        uint64_t first = gw_load64(from), last = gw_load64(from + n - 8);
        gw_store64(to, first);
        gw_store64(to + n - 8, last);
    } else if (n) {
        memcpy(to, from, n);
    }
}

static inline bool gw_wire_op_decode(struct gw_reader *r, struct gw_wire_op *op)
{
    size_t left = gw_reader_left(r);
    if (GW_UNLIKELY(r->bad || left < GWI_OP_HEAD)) {
        r->bad |= left != 0;
        return false;
    }

    const uint8_t *at = r->at;
    uint64_t head = gw_load64(at);
    uint8_t verb = (uint8_t)head;
    uint8_t flags = (uint8_t)(head >> 8);
    uint16_t key_bytes = (uint16_t)(head >> 16);
    uint32_t shape = gwi_op_shape[(verb & 7) << 3 | (flags & 7)];
    if (GW_UNLIKELY((head & 0xf8f8) != 0 || shape == GWI_NONE || key_bytes == 0 ||
                    left < GWI_OP_HEAD + (size_t)key_bytes + shape)) {
        r->bad = true;
        return false;
    }

    const uint8_t *tail = at + GWI_OP_HEAD + key_bytes;
    *op = (struct gw_wire_op){
        .key = at + GWI_OP_HEAD,
        .serial_delta = (uint32_t)(head >> 32),
        .key_bytes = key_bytes,
        .verb = verb,
        .flags = flags,
    };
    switch (verb) {
    case GW_WIRE_ADD:
        op->number = (int64_t)gw_load64(tail);
        if (flags & GW_WIRE_INITIAL)
            op->initial = (int64_t)gw_load64(tail + 8);
        break;
    case GW_WIRE_CAS:
        op->expected_version = gw_load32(tail);
        /* fall through */
    case GW_WIRE_UPSERT:
    case GW_WIRE_INSERT:
        /* What is read last stands at the end of the fixed part, with or without a version. */
        if (flags & GW_WIRE_COUNTER) {
            op->number = (int64_t)gw_load64(tail + shape - 8);
            break;
        }
        op->value_bytes = gw_load32(tail + shape - 4);
        op->value = tail + shape;
        if (GW_UNLIKELY((size_t)(r->end - op->value) < op->value_bytes)) {
            r->bad = true;
            return false;
        }
        break;
    default: /* READ, DELETE: the table lets no other pass */
        break;
    }
    r->at = tail + shape + op->value_bytes;
    return true;
}

static inline size_t gw_wire_op_bytes(const struct gw_wire_op *op)
{
    size_t bytes = GWI_OP_HEAD + (size_t)op->key_bytes + gwi_op_shape_of(op);
    return gwi_op_has_value(op->verb, op->flags) ? bytes + op->value_bytes : bytes;
}

static inline void gw_wire_op_encode(const struct gw_wire_op *op, struct gw_writer *w)
{
    uint8_t *at = gw_write_room(w, gw_wire_op_bytes(op));
    if (GW_UNLIKELY(!at))
        return;
    gw_store64(at, (uint64_t)op->verb | (uint64_t)op->flags << 8 | (uint64_t)op->key_bytes << 16 |
                       (uint64_t)op->serial_delta << 32);
    gwi_copy_short(at + GWI_OP_HEAD, op->key, op->key_bytes);
    at += GWI_OP_HEAD + op->key_bytes;
    switch (op->verb) {
    case GW_WIRE_ADD:
        gw_store64(at, (uint64_t)op->number);
        if (op->flags & GW_WIRE_INITIAL)
            gw_store64(at + 8, (uint64_t)op->initial);
        break;
    case GW_WIRE_CAS:
        gw_store32(at, op->expected_version);
        at += 4;
        /* fall through */
    case GW_WIRE_UPSERT:
    case GW_WIRE_INSERT:
        if (op->flags & GW_WIRE_COUNTER) {
            gw_store64(at, (uint64_t)op->number);
            break;
        }
        gw_store32(at, op->value_bytes);
        gwi_copy_short(at + 4, op->value, op->value_bytes);
        break;
    default:
        break;
    }
}

static inline bool gw_wire_reply_decode(struct gw_reader *r, struct gw_wire_reply *reply)
{
    size_t left = gw_reader_left(r);
    if (GW_UNLIKELY(r->bad || left < GWI_REPLY_HEAD)) {
        r->bad |= left != 0;
        return false;
    }

    uint64_t head = gw_load64(r->at);
    int8_t status = (int8_t)head;
    uint8_t flags = (uint8_t)(head >> 8);
    uint32_t shape = gwi_reply_shape[flags & 7];
    /* One mask for the flags that do not exist and the two bytes that must be zero. */
    if (GW_UNLIKELY((head & 0xfffff800) != 0 || shape == GWI_NONE || !gwi_status_known(status) ||
                    left < GWI_REPLY_HEAD + shape)) {
        r->bad = true;
        return false;
    }

    const uint8_t *at = r->at + GWI_REPLY_HEAD;
    *reply = (struct gw_wire_reply){
        .version = (uint32_t)(head >> 32),
        .status = status,
        .flags = flags,
    };
    if (flags & GW_WIRE_HAS_SERIAL) {
        reply->serial_delta = gw_load32(at);
        at += 4;
    }
    if (flags & GW_WIRE_COUNTER) {
        reply->number = (int64_t)gw_load64(at);
        at += 8;
    }
    if (flags & GW_WIRE_VALUE) {
        reply->value_bytes = gw_load32(at);
        reply->value = at + 4;
        if (GW_UNLIKELY((size_t)(r->end - reply->value) < reply->value_bytes)) {
            r->bad = true;
            return false;
        }
        at = reply->value + reply->value_bytes;
    }
    r->at = at;
    return true;
}

static inline size_t gw_wire_reply_bytes(const struct gw_wire_reply *reply)
{
    GW_ASSERT((reply->flags & ~7) == 0);
    uint8_t shape = gwi_reply_shape[reply->flags];
    GW_ASSERT(shape != GWI_NONE);
    return GWI_REPLY_HEAD + shape + (reply->flags & GW_WIRE_VALUE ? (size_t)reply->value_bytes : 0);
}

static inline void gw_wire_reply_encode(const struct gw_wire_reply *reply, struct gw_writer *w)
{
    uint8_t *at = gw_write_room(w, gw_wire_reply_bytes(reply));
    if (GW_UNLIKELY(!at))
        return;
    gw_store64(at, (uint64_t)(uint8_t)reply->status | (uint64_t)reply->flags << 8 |
                       (uint64_t)reply->version << 32);
    at += GWI_REPLY_HEAD;
    if (reply->flags & GW_WIRE_HAS_SERIAL) {
        gw_store32(at, reply->serial_delta);
        at += 4;
    }
    if (reply->flags & GW_WIRE_COUNTER)
        gw_store64(at, (uint64_t)reply->number);
    if (reply->flags & GW_WIRE_VALUE) {
        gw_store32(at, reply->value_bytes);
        gwi_copy_short(at + 4, reply->value, reply->value_bytes);
    }
}
#endif
