/* frame.h - the header that every native frame starts with, and the list of kinds.
 * All little-endian, byte by byte in docs/PROTOCOL.md. Both ends check with gw_frame_decode before
 * anything else is read; what lies behind the header is decoded with the bounds-checked readers of
 * the other files here. Everything here may be called from any thread. Layer: client/wire. */
#ifndef GW_CLIENT_WIRE_FRAME_H
#define GW_CLIENT_WIRE_FRAME_H

#include <stdint.h>

#include "index/base/bytes.h"
#include "index/base/status.h"

#define GW_FRAME_MAGIC       0x5747u /* "GW" */
#define GW_FRAME_VERSION     1u
#define GW_FRAME_HEADER      64u
#define GW_KEY_BYTES_MAX     65535u
#define GW_ID_BYTES_MAX      63u /* server ids and advertised addresses */
#define GW_ADDRESS_BYTES_MAX 63u

/* X(name, number, text): the only place where a kind is declared. Numbers are never reused. */
#define GW_FRAME_KIND_LIST(X)                                                                      \
    /* anybody to a server or coordinator */                                                       \
    X(GW_KIND_HELLO, 0x01, "hello")     /* opens a connection: role, session, window */            \
    X(GW_KIND_WELCOME, 0x02, "welcome") /* its answer: limits, view, incarnation */                \
    X(GW_KIND_ERROR, 0x03, "error")     /* the connection closes behind it */                      \
    X(GW_KIND_MAP_GET, 0x04, "map_get") /* empty */                                                \
    X(GW_KIND_MAP, 0x05, "map")         /* map.h; also pushed by the coordinator to servers */     \
    /* client and server */                                                                        \
    X(GW_KIND_BATCH, 0x10, "batch")           /* ops.h */                                          \
    X(GW_KIND_REPLY, 0x11, "reply")           /* one reply per op, in order */                     \
    X(GW_KIND_REFUSAL, 0x12, "refusal")       /* of a batch: u8 status, u8[7] zero, map */         \
    X(GW_KIND_COMPLETION, 0x13, "completion") /* replies to pending ops, each with its serial */   \
    X(GW_KIND_SCAN, 0x14, "scan")             /* scan.h */                                         \
    X(GW_KIND_SCAN_REPLY, 0x15, "scan_reply")                                                      \
    X(GW_KIND_BYE, 0x16, "bye")         /* the session is over: the server may forget it */        \
    X(GW_KIND_SYNC, 0x17, "sync")       /* empty: make durable what I was answered, soon */        \
    X(GW_KIND_DURABLE, 0x18, "durable") /* empty; confirmed: the position that is durable */       \
    /* operator and coordinator: JSON documents */                                                 \
    X(GW_KIND_ADMIN, 0x20, "admin")                                                                \
    X(GW_KIND_ADMIN_REPLY, 0x21, "admin_reply")                                                    \
    /* server and coordinator: control.h */                                                        \
    X(GW_KIND_JOIN, 0x30, "join")                                                                  \
    X(GW_KIND_JOINED, 0x31, "joined")                                                              \
    X(GW_KIND_HEARTBEAT, 0x32, "heartbeat")                                                        \
    X(GW_KIND_JOB, 0x33, "job")             /* coordinator to server: a job's durable state */     \
    X(GW_KIND_JOB_EVENT, 0x34, "job_event") /* server to coordinator: what happened */             \
    X(GW_KIND_NEEDS, 0x35, "needs") /* coordinator to server: what others need of its log */       \
    /* server and server: peer.h */                                                                \
    X(GW_KIND_PREPARE, 0x40, "prepare")                                                            \
    X(GW_KIND_PREPARED, 0x41, "prepared")                                                          \
    X(GW_KIND_ABANDON, 0x42, "abandon")                                                            \
    X(GW_KIND_YOURS, 0x43, "yours")                                                                \
    X(GW_KIND_YOURS_ACK, 0x44, "yours_ack")                                                        \
    X(GW_KIND_CHUNK, 0x45, "chunk")                                                                \
    X(GW_KIND_CHUNK_ACK, 0x46, "chunk_ack")                                                        \
    X(GW_KIND_PULL, 0x47, "pull")                                                                  \
    X(GW_KIND_PULL_ANSWER, 0x48, "pull_answer")                                                    \
    X(GW_KIND_SECURED, 0x49, "secured") /* the target has all chunks durably */

enum gw_frame_kind {
#define GW_FRAME_KIND_ENUM(name, number, text) name = number,
    GW_FRAME_KIND_LIST(GW_FRAME_KIND_ENUM)
#undef GW_FRAME_KIND_ENUM
};

/* Flags of every kind; bits 1 and 4 are GW_CHUNK_LAST and GW_CHUNK_HOT (peer.h) and belong to CHUNK
 * alone, bits 2 and 3 are GW_BATCH_RESUME and GW_BATCH_EARLY (ops.h) and belong to BATCH alone, bit
 * 5 is GW_PULL_LEADS and belongs to PULL, bit 6 is GW_CHUNK_PAGE and belongs to CHUNK and
 * CHUNK_ACK.
 */
#define GW_FRAME_HAS_CRC 1u /* crc covers the whole frame with this field as zero */

/* offset: 0 bytes 4, 4 magic 2, 6 version 1, 7 kind 1, 8 flags 2, 10 zero 2, 12 count 4,
 * 16 session 8, 24 sequence 8, 32 view 8, 40 serial 8, 48 confirmed 8, 56 crc 4, 60 zero 4 */
struct gw_frame {
    uint32_t bytes; /* of the whole frame, header included */
    uint8_t kind;
    uint16_t flags;
    uint32_t count;     /* ops, replies, entries */
    uint64_t session;   /* client session; job id in peer frames; request id in admin frames */
    uint64_t sequence;  /* of the batch within its connection's session; chunk and frame number in
                           peer frames */
    uint64_t view;      /* the view the sender believes in (the receiver's view number) */
    uint64_t serial;    /* the base to which the ops' serials are added */
    uint64_t confirmed; /* BATCH, HELLO: every serial below it has been answered and need not be
                           remembered. REPLY, COMPLETION: the position at which what they say is
                           durable, 0: it is. DURABLE: the position that is durable now */
    uint32_t crc;       /* zero without GW_FRAME_HAS_CRC */
};

/* Writes the header exactly as *f says. f->crc is the caller's: leave flag and field zero and call
 * gw_frame_seal when the frame is finished. */
void gw_frame_encode(const struct gw_frame *f, uint8_t *room /* GW_FRAME_HEADER bytes */);
/* GW_E_PROTOCOL (magic, length under a header or unlike `bytes`, a kind or flag that does not
 * exist, unused fields not zero), GW_E_VERSION, GW_E_CORRUPT (CRC). `bytes` is what is there, a
 * whole frame. *out is written on GW_OK only. */
GW_MUST_USE enum gw_status gw_frame_decode(const uint8_t *frame, uint32_t bytes,
                                           struct gw_frame *out);
/* For a transport: how long is the frame that starts with these `have` bytes? 0 in *bytes: cannot
 * say yet (under 8 bytes). GW_E_PROTOCOL, GW_E_VERSION, GW_E_TOO_LARGE (beyond max or under a
 * header); *bytes is 0 then. */
GW_MUST_USE enum gw_status gw_frame_length(const uint8_t *start, size_t have, uint32_t max,
                                           uint32_t *bytes);
/* Computes and stores the CRC of a finished frame and sets the flag. Requires: the header's length
 * is the frame's. */
void gw_frame_seal(uint8_t *frame);
/* "batch", "yours", ...; "unknown" for a number outside of the list. Never NULL. */
const char *gw_frame_kind_name(uint8_t kind);

/* Can the frame hold `count` entries of at least `least_bytes_each`? To be asked before anything
 * is sized by the count, which is the sender's word only. */
static inline bool gw_frame_count_plausible(const struct gw_frame *f, uint32_t least_bytes_each)
{
    return (uint64_t)f->count * least_bytes_each <= f->bytes - GW_FRAME_HEADER;
}

/* What lies behind the header of a frame that gw_frame_decode has accepted. */
static inline struct gw_reader gw_frame_body(const uint8_t *frame, const struct gw_frame *f)
{
    return gw_reader_of(frame + GW_FRAME_HEADER, f->bytes - GW_FRAME_HEADER);
}
#endif
