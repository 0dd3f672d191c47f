/* peer.h - what two servers say to each other while a range moves (docs: MIGRATION's phases).
 * frame.session = job id, frame.view = `attempt` (raised by the source whenever it starts sending
 * over, so that frames of an earlier attempt are recognised and dropped; R12). Connections: one
 * PEER_CONTROL (PREPARE, YOURS, ABANDON), one PEER_BULK per source dispatcher (CHUNK), one
 * PEER_PULL per target dispatcher, opened by the target (PULL), so that pulls never wait behind
 * bulk (R20). Layer: client/wire. */
#ifndef GW_CLIENT_WIRE_PEER_H
#define GW_CLIENT_WIRE_PEER_H

#include <stdint.h>

#include "client/wire/frame.h"
#include "index/base/slots.h"

/* PREPARE: u64 source incarnation, u8 chunk bits, u8[3] zero, u8+from id, u8+from address, slots.
 * Idempotent. PREPARED: i8 status, u8[3] zero, u64 target incarnation, u16+ text. frame.session =
 * job. ABANDON: empty: the job was cancelled, leave the waiting state. */
struct gw_prepare {
    uint64_t incarnation;
    uint8_t chunk_bits; /* chunk = top bits of the hash; fixed when the job starts (R21) */
    char from[GW_ID_BYTES_MAX + 1];
    char from_address[GW_ADDRESS_BYTES_MAX + 1];
    struct gw_slots slots;
};
struct gw_prepared {
    uint64_t incarnation;
    int8_t status;
    char text[128];
};

/* YOURS: frame.sequence = part number from 0, frame.count = entries in this part, body: u8 last
 * part, u8[3] zero, u32 highest version, u64 commit map version, entries of 32 bytes. YOURS_ACK
 * echoes frame.sequence (part). Nothing of the range is executed at the target before the last part
 * (R7). */
struct gw_yours {
    uint64_t commit_version;
    uint32_t version_highest;
    uint8_t last;
};
/* One applied serial of one session: u64 session, u64 serial, i64 number, u32 version, u16 slot, i8
 * status, u8 kind of result (flags as in a reply: GW_WIRE_COUNTER or 0). */
#define GW_APPLIED_BYTES 32u
struct gw_applied {
    uint64_t session, serial;
    int64_t number;
    uint32_t version;
    uint16_t slot;
    int8_t status;
    uint8_t flags;
};

/* CHUNK: frame.sequence = chunk << 32 | frame number within the chunk (from 0), frame.count =
 * records, flags bit 1 (GW_CHUNK_LAST) on the chunk's last frame. CHUNK_ACK: frame.sequence = chunk
 * << 32, sent when the chunk is complete. Record: u32 version, u16 key bytes, u8 kind (0 bytes, 1
 * counter), u8 flags (1 tombstone), u32 value bytes, key, value (counter: value bytes = 8, the
 * number; tombstone: 0). */
#define GW_CHUNK_LAST 2u
struct gw_peer_record {
    const uint8_t *key, *value;
    int64_t number;
    uint32_t version, value_bytes;
    uint16_t key_bytes;
    uint8_t kind, tombstone;
};

/* PULL: frame.count keys, each u16 bytes, key. PULL_ANSWER: frame.sequence echoes the pull's; per
 * key in order: u8 found (0 absent, 1 record, 2 not the owner of the range any more / not known:
 * ask again later), then for 1 a record as in CHUNK. */

void gw_prepare_encode(const struct gw_prepare *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_prepare_decode(struct gw_reader *r, struct gw_prepare *m);
void gw_prepared_encode(const struct gw_prepared *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_prepared_decode(struct gw_reader *r, struct gw_prepared *m);
void gw_yours_encode(const struct gw_yours *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_yours_decode(struct gw_reader *r, struct gw_yours *m);
void gw_applied_encode(const struct gw_applied *m, struct gw_writer *w);
bool gw_applied_decode(struct gw_reader *r, struct gw_applied *m);
size_t gw_peer_record_bytes(const struct gw_peer_record *m);
void gw_peer_record_encode(const struct gw_peer_record *m, struct gw_writer *w);
bool gw_peer_record_decode(struct gw_reader *r, struct gw_peer_record *m);
#endif
