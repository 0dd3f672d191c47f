/* ops.h - operations in a BATCH, replies in a REPLY or COMPLETION: packed, decoded in place.
 * One op:    u8 verb, u8 flags, u16 key bytes, u32 serial - frame.serial, key, then with
 *            GW_WIRE_EXPIRY: u64 Unix time in ms, then by verb
 *            READ, DELETE, TOUCH, READ_TOUCH, GETDEL   nothing
 *            UPSERT, INSERT, GETSET   u32 value bytes, value; with GW_WIRE_COUNTER instead: i64
 *            CAS              u32 expected version, then as UPSERT
 *            ADD              i64 delta; with GW_WIRE_INITIAL also: i64 initial; with
 *                             GW_WIRE_BOUNDED also: i64 low, i64 high
 *            APPEND, PREPEND  u32 value bytes, value
 * One reply: i8 status, u8 flags, u16 zero, u32 version, then by flag, in this order
 *            GW_WIRE_HAS_SERIAL   u32 serial - frame.serial
 *            GW_WIRE_COUNTER      i64 number
 *            GW_WIRE_EXPIRES      u64 Unix time in ms
 *            GW_WIRE_LENGTH       u32 bytes of the value, which itself does not follow
 *            GW_WIRE_VALUE        u32 bytes, value
 * An add with an 8-byte key takes 24 bytes, its reply 16. Replies to a batch stand in the order of
 * its ops and carry no serial; an op answered GW_PENDING gets its reply later in a COMPLETION, with
 * its serial. Serials: unique and rising within a session, over all servers. Numbers of verbs are
 * stable. Also here: the bodies of HELLO, WELCOME and ERROR. Any thread. Layer: client/wire. */
#ifndef GW_CLIENT_WIRE_OPS_H
#define GW_CLIENT_WIRE_OPS_H

#include <stdint.h>

#include "client/wire/frame.h"

enum gw_wire_verb {
    GW_WIRE_READ = 1,
    GW_WIRE_UPSERT = 2,
    GW_WIRE_DELETE = 3,
    GW_WIRE_ADD = 4,
    GW_WIRE_CAS = 5,
    GW_WIRE_INSERT = 6,
    GW_WIRE_TOUCH = 7,
    GW_WIRE_READ_TOUCH = 8,
    GW_WIRE_APPEND = 9,
    GW_WIRE_PREPEND = 10,
    GW_WIRE_GETSET = 11,
    GW_WIRE_GETDEL = 12,
};
#define GW_WIRE_VERB_MAX 12

/* Flags of an op. COUNTER goes with UPSERT, CAS, INSERT and GETSET, INITIAL with ADD, RESENT with
 * all. */
#define GW_WIRE_COUNTER 1u /* the value is a counter (in a reply: the number follows) */
#define GW_WIRE_INITIAL 2u
/* It was sent before and its result is not known: it may have been applied already. */
#define GW_WIRE_RESENT      4u
#define GW_WIRE_EXPIRY      8u   /* with every verb that writes but DELETE and GETDEL */
#define GW_WIRE_KEEP_EXPIRY 16u  /* UPSERT, CAS, GETSET; not together with EXPIRY */
#define GW_WIRE_BOUNDED     32u  /* ADD */
#define GW_WIRE_CLAMP       64u  /* ADD, with BOUNDED */
#define GW_WIRE_MUST_EXIST  128u /* APPEND, PREPEND */
/* Flags of a reply, besides GW_WIRE_COUNTER. Of COUNTER, VALUE, LENGTH, NONE and FORGOTTEN there is
 * one at most. */
#define GW_WIRE_VALUE      2u
#define GW_WIRE_HAS_SERIAL 4u
#define GW_WIRE_LENGTH     8u
#define GW_WIRE_NONE       16u /* GETSET: there was no value */
/* GETSET, GETDEL, READ_TOUCH, sent again and answered from what is known of its serial: it took
 * effect once, but its old value was too long to be kept. */
#define GW_WIRE_FORGOTTEN    32u
#define GW_WIRE_EXPIRES      64u

#define GW_WIRE_BOUNDS_BYTES 16u

/* frame.flags of a BATCH: the client has gone back to what was refused (MIGRATION R2). After a
 * refusal the server refuses every batch of the connection that comes without it. */
#define GW_BATCH_RESUME 4u
/* Answer when applied, also where the server's mode is to answer when durable; the reply then names
 * the position. Elsewhere it changes nothing. */
#define GW_BATCH_EARLY 8u

/* For gw_frame_count_plausible. */
#define GW_WIRE_OP_BYTES_LEAST    9u
#define GW_WIRE_REPLY_BYTES_LEAST 8u

struct gw_wire_op {
    const uint8_t *key;   /* borrows the frame */
    const uint8_t *value; /* borrows the frame; NULL where the op has none. BOUNDED: the bounds */
    int64_t number;       /* ADD: delta; COUNTER values: the value */
    int64_t initial;
    uint64_t expiry_ms; /* with EXPIRY */
    uint32_t value_bytes;
    uint32_t expected_version;
    uint32_t serial_delta;
    uint16_t key_bytes;
    uint8_t verb, flags;
};

struct gw_wire_reply {
    const uint8_t *value; /* borrows the frame; NULL without GW_WIRE_VALUE */
    int64_t number;
    uint64_t expiry_ms;   /* with EXPIRES */
    uint32_t value_bytes; /* with LENGTH too */
    uint32_t version;
    uint32_t serial_delta;
    int8_t status;
    uint8_t flags;
};

/* The next op; false at the end or when bad (then r->bad, and *op says nothing). Refuses (bad)
 * verbs, flags and key lengths (0) that do not exist; whether a value is too large is the store's
 * business. Fields that the op does not have are zero. The caller compares the number of ops with
 * frame.count: fewer or more is GW_E_PROTOCOL. */
static inline bool gw_wire_op_decode(struct gw_reader *r, struct gw_wire_op *op);
/* What encode will take. */
static inline size_t gw_wire_op_bytes(const struct gw_wire_op *op);
/* Requires: a verb, flags and key length that exist. w->bad when the room does not suffice; what
 * was written before stays good. Fields that the op does not have are ignored. */
static inline void gw_wire_op_encode(const struct gw_wire_op *op, struct gw_writer *w);
/* The same for replies. That replies in a COMPLETION have serials, and those in a REPLY do not, is
 * for the caller to check. */
static inline bool gw_wire_reply_decode(struct gw_reader *r, struct gw_wire_reply *reply);
static inline size_t gw_wire_reply_bytes(const struct gw_wire_reply *reply);
static inline void gw_wire_reply_encode(const struct gw_wire_reply *reply, struct gw_writer *w);

/* HELLO body: u8 role, u8 flags, u16 zero, u32 window (serials in flight at most), u32 index
 * (dispatcher of the peer for role PEER), u64 incarnation of the server that the session was opened
 * with earlier (0 none), u8 id bytes, id (the server's id for PEER; may be empty for CLIENT).
 * frame.session is the client's session id (chosen by the client, random, never 0). */
enum gw_role {
    GW_ROLE_CLIENT = 1,
    GW_ROLE_PEER_CONTROL = 2,
    GW_ROLE_PEER_BULK = 3,
    GW_ROLE_PEER_PULL = 4
};
#define GW_HELLO_RESUME 1u /* the client had this session here before */
struct gw_hello {
    uint64_t incarnation;
    uint32_t window, index;
    uint8_t role, flags;
    char id[GW_ID_BYTES_MAX + 1];
};
/* Every encode of a body marks the writer when the room does not suffice; every decode takes the
 * whole body, gives GW_E_PROTOCOL for anything that is not as described, bytes left over included,
 * and leaves nothing unchecked. */
void gw_hello_encode(const struct gw_hello *h, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_hello_decode(struct gw_reader *r, struct gw_hello *h);

/* WELCOME body: u32 window granted, u32 frame bytes max, u32 value bytes max, u8 flags, u8
 * durability, u8[2] zero, u64 incarnation, u64 cluster id, u64 durable position, u64 forgotten, u8
 * id bytes, id (empty: a coordinator, which has none). frame.view = the server's view,
 * frame.confirmed = 0. */
#define GW_WELCOME_KNOWN 1u /* the session was known: what it had applied is remembered */
enum gw_wire_durability {
    GW_WIRE_DURABILITY_NONE = 0,   /* nothing survives the process */
    GW_WIRE_DURABILITY_MEMORY = 1, /* answered when applied, durable with a checkpoint */
    GW_WIRE_DURABILITY_COMMIT = 2, /* answered when durable */
};
struct gw_welcome {
    uint64_t incarnation, cluster;
    uint64_t durable; /* the position that is durable now; positions count within an incarnation */
    uint64_t forgotten; /* changes with each session that is dropped with unconfirmed writes, never
                           back: equal before and after a restart, of a session that is not KNOWN
                           nothing is in what was recovered */
    uint32_t window, frame_bytes_max, value_bytes_max;
    uint8_t flags;
    uint8_t durability; /* enum gw_wire_durability */
    char id[GW_ID_BYTES_MAX + 1];
};
void gw_welcome_encode(const struct gw_welcome *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_welcome_decode(struct gw_reader *r, struct gw_welcome *m);

/* Whole frames, ready to send. Return the frame's bytes, 0 when room does not suffice. */
/* Requires: st is a failure. text NULL: gw_status_text(st); longer ones are cut. */
#define GW_ERROR_TEXT_BYTES_MAX 1023u
size_t gw_frame_error(uint8_t *room, size_t room_bytes, enum gw_status st, const char *text);
size_t gw_frame_empty(uint8_t *room, size_t room_bytes, uint8_t kind, uint64_t session);
/* ERROR's body: the failure that the peer names, or GW_E_PROTOCOL with an empty text. text is cut
 * to fit and always terminated. */
enum gw_status gw_frame_error_decode(struct gw_reader *r, char *text, size_t text_bytes);

#include "client/wire/ops_inline.h"
#endif
