/* reply.h - what a reply says of an operation that the engine has executed, and what of it is
 * remembered for a replay: the same for those that were answered at once and those that waited.
 * Layer: server. */
#ifndef GW_SERVER_REPLY_H
#define GW_SERVER_REPLY_H

#include "client/wire/ops.h"
#include "index/store.h"
#include "migration/applied.h"

/* Flags of the reply, without HAS_SERIAL. */
static inline uint8_t gwi_reply_flags(const struct gw_op *op)
{
    if (op->status != GW_OK)
        return 0;
    switch (op->verb) {
    case GW_VERB_ADD:
        return GW_WIRE_COUNTER;
    case GW_VERB_READ:
        return (uint8_t)((op->kind == GW_KIND_COUNTER ? GW_WIRE_COUNTER : GW_WIRE_VALUE) |
                         (op->expiry_ms != 0 ? GW_WIRE_EXPIRES : 0));
    case GW_VERB_APPEND:
    case GW_VERB_PREPEND:
        return GW_WIRE_LENGTH;
    case GW_VERB_GETSET:
    case GW_VERB_GETDEL:
    case GW_VERB_READ_TOUCH:
        return op->kind == GW_KIND_COUNTER ? GW_WIRE_COUNTER
               : op->kind == GW_KIND_NONE  ? GW_WIRE_NONE
                                           : GW_WIRE_VALUE;
    default:
        return 0;
    }
}

/* Everything but the serial. The value is borrowed from the operation's room. */
static inline struct gw_wire_reply gwi_reply_of(const struct gw_op *op)
{
    return (struct gw_wire_reply){.status = op->status,
                                  .flags = gwi_reply_flags(op),
                                  .version = op->version,
                                  .number = op->number,
                                  .expiry_ms = op->expiry_ms,
                                  .value = op->out,
                                  .value_bytes = op->out_bytes};
}

/* Requires: a write that did not fail, whose serial is reserved. */
static inline void gwi_reply_record(struct gw_applied_window *w, uint64_t serial,
                                    const struct gw_op *op, uint8_t flags)
{
    if (GW_UNLIKELY(flags & GW_WIRE_VALUE))
        gw_applied_record_value(w, serial, op->slot, op->status, op->version, op->out,
                                op->out_bytes);
    else
        gw_applied_record(w, serial, op->slot, op->status, op->version, flags,
                          flags & GW_WIRE_LENGTH ? (int64_t)op->out_bytes : op->number);
}

/* The reply to a write that is answered from what is known of its serial. */
static inline struct gw_wire_reply gwi_reply_again(const struct gw_applied_window *w,
                                                   const struct gw_applied_entry *e)
{
    struct gw_wire_reply reply = {.status = e->status,
                                  .flags = e->flags,
                                  .version = e->version,
                                  .number = e->number};
    if (e->flags & GW_WIRE_LENGTH)
        reply.value_bytes = (uint32_t)e->number;
    if (e->flags & GW_WIRE_VALUE)
        reply.value = gw_applied_value(w, e, &reply.value_bytes);
    return reply;
}

/* A write that needs nothing of what the key was: it is done before the record has come from the
 * previous owner (MIGRATION R18). */
static inline bool gwi_op_is_blind(const struct gw_op *op)
{
    return op->verb == GW_VERB_UPSERT && !(op->flags & GW_OP_KEEP_EXPIRY);
}
#endif
