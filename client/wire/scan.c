/* scan.c - the bodies of SCAN and SCAN_REPLY. */
#include "client/wire/scan.h"

#include "client/wire/names.h"
#include "index/base/assert.h"

#define RECORD_HEAD   12u
#define COUNTER_BYTES 8u
#define EXPIRES       1u
#define EXPIRY_BYTES  8u
_Static_assert(GW_SCAN_RECORD_BYTES_LEAST == RECORD_HEAD + 1, "a key has at least one byte");

void gw_scan_encode(const struct gw_scan *m, struct gw_writer *w)
{
    gw_write64(w, m->cursor);
    gw_write32(w, m->bytes_max);
    gw_write32(w, 0);
    gw_slots_encode(&m->slots, w);
}

enum gw_status gw_scan_decode(struct gw_reader *r, struct gw_scan *out)
{
    struct gw_scan m = {0};
    m.cursor = gw_read64(r);
    m.bytes_max = gw_read32(r);
    gwi_zero_decode(r, 4);
    gw_slots_decode(r, &m.slots);
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *out = m;
    return st;
}

void gw_scan_reply_encode(const struct gw_scan_reply *m, struct gw_writer *w)
{
    gw_write8(w, (uint8_t)m->status);
    gwi_zero_encode(w, 3);
    gw_write64(w, m->cursor);
}

enum gw_status gw_scan_reply_decode(struct gw_reader *r, struct gw_scan_reply *out)
{
    struct gw_scan_reply m = {0};
    m.status = gwi_status_decode(r);
    gwi_zero_decode(r, 3);
    m.cursor = gw_read64(r);
    if (r->bad)
        return GW_E_PROTOCOL;
    *out = m;
    return GW_OK;
}

static uint32_t record_value_bytes(const struct gw_scan_record *m)
{
    return m->kind == GW_SCAN_COUNTER ? COUNTER_BYTES : m->value_bytes;
}

size_t gw_scan_record_bytes(const struct gw_scan_record *m)
{
    return RECORD_HEAD + (m->expiry_ms ? EXPIRY_BYTES : 0) + (size_t)m->key_bytes +
           record_value_bytes(m);
}

void gw_scan_record_encode(const struct gw_scan_record *m, struct gw_writer *w)
{
    GW_ASSERT(m->key_bytes > 0 && m->kind <= GW_SCAN_COUNTER);
    uint8_t *at = gw_write_room(w, gw_scan_record_bytes(m));
    if (!at)
        return;
    uint32_t value_bytes = record_value_bytes(m);
    gw_store16(at, m->key_bytes);
    at[2] = m->kind;
    at[3] = m->expiry_ms ? EXPIRES : 0;
    gw_store32(at + 4, m->version);
    gw_store32(at + 8, value_bytes);
    at += RECORD_HEAD;
    if (m->expiry_ms) {
        gw_store64(at, m->expiry_ms);
        at += EXPIRY_BYTES;
    }
    memcpy(at, m->key, m->key_bytes);
    at += m->key_bytes;
    if (m->kind == GW_SCAN_COUNTER)
        gw_store64(at, (uint64_t)m->number);
    else if (value_bytes)
        memcpy(at, m->value, value_bytes);
}

bool gw_scan_record_decode(struct gw_reader *r, struct gw_scan_record *m)
{
    if (r->bad || gw_reader_left(r) == 0)
        return false;
    const uint8_t *head = gw_read_bytes(r, RECORD_HEAD);
    if (!head)
        return false;
    *m = (struct gw_scan_record){
        .key_bytes = gw_load16(head),
        .kind = head[2],
        .version = gw_load32(head + 4),
        .value_bytes = gw_load32(head + 8),
    };
    gwi_expect(r, m->key_bytes > 0 && m->kind <= GW_SCAN_COUNTER && head[3] <= EXPIRES);
    gwi_expect(r, m->value_bytes == record_value_bytes(m));
    if (head[3] == EXPIRES) {
        m->expiry_ms = gw_read64(r);
        gwi_expect(r, m->expiry_ms != 0);
    }
    m->key = gw_read_bytes(r, m->key_bytes);
    m->value = gw_read_bytes(r, m->value_bytes);
    if (r->bad)
        return false;
    if (m->kind == GW_SCAN_COUNTER)
        m->number = (int64_t)gw_load64(m->value);
    return true;
}
