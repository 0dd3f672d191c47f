/* scan.h - a scan of one server's live keys, resumable.
 * SCAN: u64 cursor hash, u32 bytes max, u32 zero, slots. SCAN_REPLY: i8 status (GW_OK more follows,
 * GW_END done, GW_WRONG_VIEW: slots moved, ask the map), u8[3] zero, u64 next cursor, frame.count =
 * keys; per key: u16 key bytes, u8 kind, u8 flags (1 expires), u32 version, u32 value bytes, with
 * `expires` u64 Unix time in ms, key, value (counter: 8 bytes, the number). frame.session = request
 * id chosen by the client. frame.view: the server's view the client believes in; slots must be
 * owned and settled, those that are still arriving make the server answer GW_PENDING with no keys:
 * ask again. Every key that lives throughout is given at least once. Any thread. Layer:
 * client/wire. */
#ifndef GW_CLIENT_WIRE_SCAN_H
#define GW_CLIENT_WIRE_SCAN_H

#include <stdint.h>

#include "client/wire/frame.h"
#include "index/base/slots.h"

struct gw_scan {
    uint64_t cursor;
    uint32_t bytes_max;
    struct gw_slots slots;
};
struct gw_scan_reply {
    uint64_t cursor;
    int8_t status;
};
#define GW_SCAN_BYTES              0u
#define GW_SCAN_COUNTER            1u
#define GW_SCAN_RECORD_BYTES_LEAST 13u /* for gw_frame_count_plausible */
struct gw_scan_record {
    const uint8_t *key, *value; /* borrow the frame; a counter's value is its 8 bytes */
    int64_t number;             /* encode takes a counter's number from here */
    uint64_t expiry_ms;         /* 0: none */
    uint32_t version, value_bytes;
    uint16_t key_bytes;
    uint8_t kind;
};

void gw_scan_encode(const struct gw_scan *m, struct gw_writer *w);
/* The whole body, or GW_E_PROTOCOL; then *m is not written. */
GW_MUST_USE enum gw_status gw_scan_decode(struct gw_reader *r, struct gw_scan *m);
void gw_scan_reply_encode(const struct gw_scan_reply *m, struct gw_writer *w);
/* Stops at the records; the caller compares their number with frame.count. */
GW_MUST_USE enum gw_status gw_scan_reply_decode(struct gw_reader *r, struct gw_scan_reply *m);
size_t gw_scan_record_bytes(const struct gw_scan_record *m);
void gw_scan_record_encode(const struct gw_scan_record *m, struct gw_writer *w);
/* False at the end, or with r->bad set. */
bool gw_scan_record_decode(struct gw_reader *r, struct gw_scan_record *m);
#endif
