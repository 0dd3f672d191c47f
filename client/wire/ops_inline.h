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

/* Bytes between an op's key and its value's bytes, at verb << 3 | the lower three flags. What the
 * upper ones add is counted apart: few operations have any. */
#define GWI_PLAIN 0, GWI_NONE, GWI_NONE, GWI_NONE, 0, GWI_NONE, GWI_NONE, GWI_NONE
#define GWI_STORE(extra)                                                                           \
    4 + (extra), 8 + (extra), GWI_NONE, GWI_NONE, 4 + (extra), 8 + (extra), GWI_NONE, GWI_NONE
#define GWI_PIECE   4, GWI_NONE, GWI_NONE, GWI_NONE, 4, GWI_NONE, GWI_NONE, GWI_NONE
#define GWI_ADD     8, GWI_NONE, 16, GWI_NONE, 8, GWI_NONE, 16, GWI_NONE
#define GWI_NO_VERB GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE, GWI_NONE
static const uint8_t gwi_op_shape[128] __attribute__((aligned(64))) = {
    GWI_NO_VERB,  /* 0 */
    GWI_PLAIN,    /* READ */
    GWI_STORE(0), /* UPSERT */
    GWI_PLAIN,    /* DELETE */
    GWI_ADD,      /* ADD */
    GWI_STORE(4), /* CAS */
    GWI_STORE(0), /* INSERT */
    GWI_PLAIN,    /* TOUCH */
    GWI_PLAIN,    /* READ_TOUCH */
    GWI_PIECE,    /* APPEND */
    GWI_PIECE,    /* PREPEND */
    GWI_STORE(0), /* GETSET */
    GWI_PLAIN,    /* GETDEL */
    GWI_NO_VERB,  /* 13 */
    GWI_NO_VERB,  /* 14 */
    GWI_NO_VERB,  /* 15 */
};
_Static_assert(GW_WIRE_COUNTER == 1 && GW_WIRE_INITIAL == 2 && GW_WIRE_RESENT == 4,
               "the table above counts in these flags");
_Static_assert(GW_WIRE_READ == 1 && GW_WIRE_UPSERT == 2 && GW_WIRE_DELETE == 3 &&
                   GW_WIRE_ADD == 4 && GW_WIRE_CAS == 5 && GW_WIRE_INSERT == 6 &&
                   GW_WIRE_TOUCH == 7 && GW_WIRE_READ_TOUCH == 8 && GW_WIRE_APPEND == 9 &&
                   GW_WIRE_PREPEND == 10 && GW_WIRE_GETSET == 11 && GW_WIRE_GETDEL == 12,
               "the table above stands in this order");

/* What the upper five flags add between the key and the value's bytes; GWI_NONE: this verb does not
 * have them, or not together. */
static inline uint32_t gwi_op_extra(uint8_t verb, uint8_t flags)
{
    static const uint8_t allowed[GW_WIRE_VERB_MAX + 1] = {
        [GW_WIRE_UPSERT] = GW_WIRE_EXPIRY | GW_WIRE_KEEP_EXPIRY,
        [GW_WIRE_ADD] = GW_WIRE_EXPIRY | GW_WIRE_BOUNDED | GW_WIRE_CLAMP,
        [GW_WIRE_CAS] = GW_WIRE_EXPIRY | GW_WIRE_KEEP_EXPIRY,
        [GW_WIRE_INSERT] = GW_WIRE_EXPIRY,
        [GW_WIRE_TOUCH] = GW_WIRE_EXPIRY,
        [GW_WIRE_READ_TOUCH] = GW_WIRE_EXPIRY,
        [GW_WIRE_APPEND] = GW_WIRE_EXPIRY | GW_WIRE_MUST_EXIST,
        [GW_WIRE_PREPEND] = GW_WIRE_EXPIRY | GW_WIRE_MUST_EXIST,
        [GW_WIRE_GETSET] = GW_WIRE_EXPIRY | GW_WIRE_KEEP_EXPIRY,
    };
    if (verb > GW_WIRE_VERB_MAX || (flags & 0xf8 & ~allowed[verb]) ||
        ((flags & GW_WIRE_EXPIRY) && (flags & GW_WIRE_KEEP_EXPIRY)) ||
        ((flags & GW_WIRE_CLAMP) && !(flags & GW_WIRE_BOUNDED)))
        return GWI_NONE;
    return (flags & GW_WIRE_EXPIRY ? 8 : 0) + (flags & GW_WIRE_BOUNDED ? GW_WIRE_BOUNDS_BYTES : 0);
}
_Static_assert(GW_WIRE_OP_BYTES_LEAST == GWI_OP_HEAD + 1, "a key has at least one byte");

/* Bytes between a reply's head and its value's bytes, by the lower three flags; the upper ones are
 * counted apart, as with operations. */
static const uint8_t gwi_reply_shape[8] = {0, 8, 4, GWI_NONE, 4, 12, 8, GWI_NONE};
_Static_assert(GW_WIRE_COUNTER == 1 && GW_WIRE_VALUE == 2 && GW_WIRE_HAS_SERIAL == 4,
               "the table above counts in these flags");

static inline uint32_t gwi_reply_extra(uint8_t flags)
{
    const uint8_t one_of =
        GW_WIRE_COUNTER | GW_WIRE_VALUE | GW_WIRE_LENGTH | GW_WIRE_NONE | GW_WIRE_FORGOTTEN;
    uint8_t of = flags & one_of;
    if ((flags & 0x80) || (of & (of - 1)))
        return GWI_NONE;
    return (flags & GW_WIRE_EXPIRES ? 8 : 0) + (flags & GW_WIRE_LENGTH ? 4 : 0);
}

/* Requires: a verb, flags and key length that exist. */
static inline uint32_t gwi_op_shape_of(const struct gw_wire_op *op)
{
    GW_ASSERT(op->verb <= GW_WIRE_VERB_MAX && op->key_bytes > 0);
    uint32_t shape = gwi_op_shape[op->verb << 3 | (op->flags & 7)];
    uint32_t extra = GW_UNLIKELY(op->flags & 0xf8) ? gwi_op_extra(op->verb, op->flags) : 0;
    GW_ASSERT(shape != GWI_NONE && extra != GWI_NONE);
    return shape + extra;
}

static inline bool gwi_op_has_value(uint8_t verb, uint8_t flags)
{
    return ((1u << verb) & (1u << GW_WIRE_UPSERT | 1u << GW_WIRE_CAS | 1u << GW_WIRE_INSERT |
                            1u << GW_WIRE_APPEND | 1u << GW_WIRE_PREPEND | 1u << GW_WIRE_GETSET)) &&
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
    uint32_t shape = gwi_op_shape[(verb & 15) << 3 | (flags & 7)];
    uint32_t extra = GW_UNLIKELY(flags & 0xf8) ? gwi_op_extra(verb, flags) : 0;
    if (GW_UNLIKELY((verb & 0xf0) != 0 || shape == GWI_NONE || extra == GWI_NONE ||
                    key_bytes == 0 || left < GWI_OP_HEAD + (size_t)key_bytes + shape + extra)) {
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
    if (GW_UNLIKELY(flags & GW_WIRE_EXPIRY)) {
        op->expiry_ms = gw_load64(tail);
        tail += 8;
    }
    switch (verb) {
    case GW_WIRE_ADD:
        op->number = (int64_t)gw_load64(tail);
        if (flags & GW_WIRE_INITIAL)
            op->initial = (int64_t)gw_load64(tail + 8);
        if (GW_UNLIKELY(flags & GW_WIRE_BOUNDED)) {
            op->value = tail + shape;
            op->value_bytes = GW_WIRE_BOUNDS_BYTES;
        }
        break;
    case GW_WIRE_CAS:
        op->expected_version = gw_load32(tail);
        /* fall through */
    case GW_WIRE_UPSERT:
    case GW_WIRE_INSERT:
    case GW_WIRE_APPEND:
    case GW_WIRE_PREPEND:
    case GW_WIRE_GETSET:
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
    default: /* those with a key only: the table lets no other pass */
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
    if (GW_UNLIKELY(op->flags & GW_WIRE_EXPIRY)) {
        gw_store64(at, op->expiry_ms);
        at += 8;
    }
    switch (op->verb) {
    case GW_WIRE_ADD:
        gw_store64(at, (uint64_t)op->number);
        if (op->flags & GW_WIRE_INITIAL) {
            gw_store64(at + 8, (uint64_t)op->initial);
            at += 8;
        }
        if (GW_UNLIKELY(op->flags & GW_WIRE_BOUNDED))
            memcpy(at + 8, op->value, GW_WIRE_BOUNDS_BYTES);
        break;
    case GW_WIRE_CAS:
        gw_store32(at, op->expected_version);
        at += 4;
        /* fall through */
    case GW_WIRE_UPSERT:
    case GW_WIRE_INSERT:
    case GW_WIRE_APPEND:
    case GW_WIRE_PREPEND:
    case GW_WIRE_GETSET:
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
    uint32_t extra = GW_UNLIKELY(flags & 0xf8) ? gwi_reply_extra(flags) : 0;
    if (GW_UNLIKELY((head & 0xffff0000) != 0 || shape == GWI_NONE || extra == GWI_NONE ||
                    !gwi_status_known(status) || left < GWI_REPLY_HEAD + shape + extra)) {
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
    if (GW_UNLIKELY(flags & GW_WIRE_EXPIRES)) {
        reply->expiry_ms = gw_load64(at);
        at += 8;
    }
    if (GW_UNLIKELY(flags & GW_WIRE_LENGTH)) {
        reply->value_bytes = gw_load32(at);
        at += 4;
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
    uint32_t shape = gwi_reply_shape[reply->flags & 7];
    uint32_t extra = GW_UNLIKELY(reply->flags & 0xf8) ? gwi_reply_extra(reply->flags) : 0;
    GW_ASSERT(shape != GWI_NONE && extra != GWI_NONE);
    return GWI_REPLY_HEAD + shape + extra +
           (reply->flags & GW_WIRE_VALUE ? (size_t)reply->value_bytes : 0);
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
    if (reply->flags & GW_WIRE_COUNTER) {
        gw_store64(at, (uint64_t)reply->number);
        at += 8;
    }
    if (GW_UNLIKELY(reply->flags & GW_WIRE_EXPIRES)) {
        gw_store64(at, reply->expiry_ms);
        at += 8;
    }
    if (GW_UNLIKELY(reply->flags & GW_WIRE_LENGTH))
        gw_store32(at, reply->value_bytes);
    if (reply->flags & GW_WIRE_VALUE) {
        gw_store32(at, reply->value_bytes);
        gwi_copy_short(at + 4, reply->value, reply->value_bytes);
    }
}
#endif
