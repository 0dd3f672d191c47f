/* peer.h - what two servers say to each other while a range moves (MIGRATION's phases).
 * frame.session = job id, frame.view = `attempt` (raised by the source whenever it starts sending
 * over, so that frames of an earlier attempt are recognised and dropped; R12). Connections: one
 * PEER_CONTROL (PREPARE, YOURS, ABANDON, SECURED), one PEER_BULK per source dispatcher (CHUNK), one
 * PEER_PULL per target dispatcher, opened by the target (PULL), so that pulls never wait behind
 * bulk (R20). "u8+" is u8 bytes and the bytes, "u16+" likewise (names.h). Any thread. Layer:
 * client/wire. */
#ifndef GW_CLIENT_WIRE_PEER_H
#define GW_CLIENT_WIRE_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "client/wire/frame.h"
#include "index/base/slots.h"

/* PREPARE: u64 source incarnation, u8 chunk bits, u8 flags (the job's: GW_JOB_NO_PULLS and the
 * others of control.h), u8[2] zero, u8+ from id, u8+ from address, slots. Idempotent.
 * PREPARED: i8 status, u8 shared tier (1: the target reads what the source's log has there, so that
 * it can follow indirections), u8[2] zero, u64 target incarnation, u16+ text.
 * ABANDON: empty: the job was cancelled, leave the waiting state.
 * SECURED: u64 target incarnation: whatever happens to it now, it has every chunk and everything
 * that came with them (MIGRATION R24). Repeated until the job is done; of a target that makes
 * nothing durable it says that every chunk is there. */
#define GW_CHUNK_BITS_MAX 12u /* bounds the book that a target must keep of chunks */
struct gw_prepare {
    uint64_t incarnation;
    uint8_t chunk_bits; /* 0..GW_CHUNK_BITS_MAX: chunk = so many top bits of the hash; fixed when
                           the job starts (R21) */
    uint8_t flags;      /* GW_JOB_... of the job's options */
    char from[GW_ID_BYTES_MAX + 1];
    char from_address[GW_ADDRESS_BYTES_MAX + 1];
    struct gw_slots slots;
};
struct gw_secured {
    uint64_t incarnation;
};
struct gw_prepared {
    uint64_t incarnation;
    int8_t status;
    uint8_t shared_tier; /* 0, 1 */
    char text[128];
};

/* YOURS: frame.sequence = part number from 0, frame.count = entries in this part, body: u8 last
 * part, u8[3] zero, u32 highest version, u64 commit map version, entries of 32 bytes. YOURS_ACK
 * echoes frame.sequence (part). Nothing of the range is executed at the target before the last part
 * (R7). gw_yours_decode stops at the entries; the caller compares their number with the count. */
struct gw_yours {
    uint64_t commit_version;
    uint32_t version_highest;
    uint8_t last;
};
/* One applied serial of one session: u64 session, u64 serial, i64 number, u32 version, u16 slot,
 * i8 status, u8 flags: as in a reply one of COUNTER, VALUE (number: its bytes), LENGTH (number: the
 * length), NONE and FORGOTTEN, or 0; number is 0 with the last three. An entry with VALUE is
 * followed by its value in pieces, one an entry: the same session, serial, slot and status, flags
 * GW_APPLIED_PIECE, version = number of the piece from 0, number = 8 bytes of the value (the last
 * one's rest zero). So an entry is an entry wherever they are counted, divided and copied. */
#define GW_APPLIED_BYTES     32u
#define GW_APPLIED_PIECE     128u
#define GW_APPLIED_VALUE_MAX 64u /* bytes of an old value that are kept for a replay */
struct gw_applied {
    uint64_t session, serial;
    int64_t number;
    uint32_t version;
    uint16_t slot;
    int8_t status;
    uint8_t flags;
};

/* CHUNK: frame.sequence = chunk << 32 | frame number within the chunk (from 0), frame.count =
 * records, flags bit 1 (GW_CHUNK_LAST) on the chunk's last frame. CHUNK_ACK: frame.sequence =
 * chunk << 32, sent when the chunk is complete.
 * Record: u32 version, u16 key bytes, u8 kind (0 bytes, 1 counter, 2 indirection), u8 flags (1
 * tombstone, 2 expires; not both), u32 value bytes, with `expires` u64 Unix time in ms, key, value
 * (counter: value bytes = 8, the number; tombstone: 0). An indirection has no key, version 0, no
 * flags and 40 bytes: u64 log id, u64 address (below 2^48), u64 hash prefix (zero but for its top
 * prefix bits), u64 map version, u16 slot, u8 prefix bits (at most 64), begin / 65536 in 5 bytes
 * (below 2^32); it comes behind the records of its chain, in the same frame or a later one of the
 * chunk (R14). Only CHUNK frames
 * that are not hot hold any.
 * Bit 4 (GW_CHUNK_HOT): records of any chunk of the range that go first, of no chunk's book; the
 * chunk is 0, the frame number 0, and nothing acknowledges them. Not together with LAST.
 * Bit 6 (GW_CHUNK_PAGE): records of any chunk of the range, of one page of the source's log; in
 * frame.sequence, and in that of the CHUNK_ACK that answers the last one, which has the bit, too,
 * is the page's number in the source's pass over its log instead of a chunk. It completes nothing:
 * the source begins with its chunks when all pages are acknowledged. */
#define GW_CHUNK_LAST              2u
#define GW_CHUNK_HOT               16u
#define GW_CHUNK_PAGE              64u
#define GW_PASS_PAGES_MAX          (1u << 20) /* bounds the book that a target keeps of pages */
#define GW_PEER_BYTES              0u
#define GW_PEER_COUNTER            1u
#define GW_PEER_INDIRECTION        2u
#define GW_PEER_INDIRECTION_BYTES  40u
#define GW_PEER_RECORD_BYTES_LEAST 13u /* for gw_frame_count_plausible */
struct gw_peer_record {
    const uint8_t *key, *value; /* borrow the frame; a counter's value is its 8 bytes */
    int64_t number;             /* encode takes a counter's number from here */
    uint64_t expiry_ms;         /* 0: none, as with a tombstone */
    uint32_t version, value_bytes;
    uint16_t key_bytes;
    uint8_t kind, tombstone; /* a tombstone has no value, whatever its kind */
};

/* What an indirection's value says (index/indirection.h, of which nothing is known here). */
struct gw_peer_indirection {
    uint64_t log_id, address, hash_prefix, map_version;
    uint64_t begin; /* of that log, whole 64 KiB; 0: not known */
    uint16_t slot;
    uint8_t prefix_bits;
};
#define GW_PEER_ADDRESS_BITS 48u

/* PULL: frame.count keys, each u16 bytes, key; flags bit 5 (GW_PULL_LEADS): who asks can read the
 * shared tier. PULL_ANSWER: frame.sequence echoes the pull's; per key in order: u8 found, then for
 * GW_PULL_RECORD a record as in CHUNK, for GW_PULL_LEAD one that is an indirection: nothing of the
 * key is in front of that address, and it is to be read there, for those who wait, never linked
 * (R15). A PULL has one answer or several: each key is answered in exactly one of them, and
 * GW_PULL_ELSEWHERE in the others, so that what is in memory waits for nothing that has to be read.
 */
#define GW_PULL_LEADS 32u
enum gw_pull_found {
    GW_PULL_ABSENT = 0,
    GW_PULL_RECORD = 1,
    GW_PULL_ASK_AGAIN = 2, /* not the owner of the range any more, or not known: ask again later */
    GW_PULL_ELSEWHERE = 3, /* in another answer to this PULL */
    GW_PULL_LEAD = 4,      /* only where GW_PULL_LEADS was asked */
    /* There is, or may be, a record, and it cannot be had: who waits for it is told so. */
    GW_PULL_UNREACHABLE = 5, /* GW_E_UNREACHABLE: its object store does not answer */
    GW_PULL_CORRUPT = 6,     /* GW_E_CORRUPT */
    GW_PULL_UNREADABLE = 7   /* GW_E_IO */
};
#define GW_PULL_KEY_BYTES_LEAST    3u
#define GW_PULL_ANSWER_BYTES_LEAST 1u

/* Whole bodies. Encode marks the writer when the room does not suffice; decode gives GW_E_PROTOCOL
 * for whatever is not as described, and then *m is not written. */
void gw_prepare_encode(const struct gw_prepare *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_prepare_decode(struct gw_reader *r, struct gw_prepare *m);
void gw_prepared_encode(const struct gw_prepared *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_prepared_decode(struct gw_reader *r, struct gw_prepared *m);
void gw_secured_encode(const struct gw_secured *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_secured_decode(struct gw_reader *r, struct gw_secured *m);
/* Parts of bodies: the bool ones give false at the end, or with r->bad set. Encoding requires what
 * decoding accepts. */
void gw_yours_encode(const struct gw_yours *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_yours_decode(struct gw_reader *r, struct gw_yours *m);
void gw_applied_encode(const struct gw_applied *m, struct gw_writer *w);
bool gw_applied_decode(struct gw_reader *r, struct gw_applied *m);
/* The record of an indirection, with `value` as its room; and back: false if the record is of
 * another kind. What gw_peer_record_decode took is good. */
struct gw_peer_record gw_peer_indirection_record(const struct gw_peer_indirection *m,
                                                 uint8_t value[GW_PEER_INDIRECTION_BYTES]);
bool gw_peer_indirection_of(const struct gw_peer_record *record, struct gw_peer_indirection *m);
size_t gw_peer_record_bytes(const struct gw_peer_record *m);
void gw_peer_record_encode(const struct gw_peer_record *m, struct gw_writer *w);
bool gw_peer_record_decode(struct gw_reader *r, struct gw_peer_record *m);
void gw_pull_key_encode(const uint8_t *key, uint16_t key_bytes, struct gw_writer *w);
bool gw_pull_key_decode(struct gw_reader *r, const uint8_t **key, uint16_t *key_bytes);
/* The record is read or written for GW_PULL_RECORD and GW_PULL_LEAD (an indirection's) only;
 * encoding others, it may be NULL. */
void gw_pull_answer_encode(enum gw_pull_found found, const struct gw_peer_record *m,
                           struct gw_writer *w);
bool gw_pull_answer_decode(struct gw_reader *r, enum gw_pull_found *found,
                           struct gw_peer_record *m);
#endif
