/* peer.c - bodies of what two servers say to each other while a range moves. Records go by in
 * their millions, so each is decoded with one check of its fixed part and one of its length. */
#include "client/wire/peer.h"

#include "client/wire/control.h"
#include "client/wire/names.h"
#include "client/wire/ops.h"
#include "index/base/assert.h"

#define RECORD_HEAD      12u
#define COUNTER_BYTES    8u
#define RECORD_TOMBSTONE 1u
#define RECORD_EXPIRES   2u
#define EXPIRY_BYTES     8u
_Static_assert(GW_PEER_RECORD_BYTES_LEAST == RECORD_HEAD + 1, "a key has at least one byte");

#define PREPARE_FLAGS (GW_JOB_NO_SAMPLING | GW_JOB_NO_INDIRECTION | GW_JOB_NO_PULLS)

void gw_prepare_encode(const struct gw_prepare *m, struct gw_writer *w)
{
    gw_write64(w, m->incarnation);
    gw_write8(w, m->chunk_bits);
    gw_write8(w, m->flags);
    gwi_zero_encode(w, 2);
    gwi_id_encode(m->from, w);
    gwi_address_encode(m->from_address, w);
    gw_slots_encode(&m->slots, w);
}

enum gw_status gw_prepare_decode(struct gw_reader *r, struct gw_prepare *out)
{
    struct gw_prepare m = {0};
    m.incarnation = gw_read64(r);
    m.chunk_bits = gw_read8(r);
    m.flags = gw_read8(r);
    gwi_zero_decode(r, 2);
    gwi_id_decode(r, m.from, GWI_REQUIRED);
    gwi_address_decode(r, m.from_address, GWI_REQUIRED);
    gw_slots_decode(r, &m.slots);
    gwi_expect(r, m.chunk_bits <= GW_CHUNK_BITS_MAX && !(m.flags & ~PREPARE_FLAGS));
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *out = m;
    return st;
}

void gw_prepared_encode(const struct gw_prepared *m, struct gw_writer *w)
{
    GW_ASSERT(m->shared_tier <= 1);
    gw_write8(w, (uint8_t)m->status);
    gw_write8(w, m->shared_tier);
    gwi_zero_encode(w, 2);
    gw_write64(w, m->incarnation);
    gwi_text_encode(m->text, sizeof m->text - 1, w);
}

enum gw_status gw_prepared_decode(struct gw_reader *r, struct gw_prepared *out)
{
    struct gw_prepared m = {0};
    m.status = gwi_status_decode(r);
    m.shared_tier = gw_read8(r);
    gwi_expect(r, m.shared_tier <= 1);
    gwi_zero_decode(r, 2);
    m.incarnation = gw_read64(r);
    gwi_text_decode(r, m.text, sizeof m.text);
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *out = m;
    return st;
}

void gw_secured_encode(const struct gw_secured *m, struct gw_writer *w)
{
    gw_write64(w, m->incarnation);
}

enum gw_status gw_secured_decode(struct gw_reader *r, struct gw_secured *out)
{
    struct gw_secured m = {.incarnation = gw_read64(r)};
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *out = m;
    return st;
}

void gw_yours_encode(const struct gw_yours *m, struct gw_writer *w)
{
    GW_ASSERT(m->last <= 1);
    gw_write8(w, m->last);
    gwi_zero_encode(w, 3);
    gw_write32(w, m->version_highest);
    gw_write64(w, m->commit_version);
}

enum gw_status gw_yours_decode(struct gw_reader *r, struct gw_yours *out)
{
    struct gw_yours m = {0};
    m.last = gw_read8(r);
    gwi_zero_decode(r, 3);
    m.version_highest = gw_read32(r);
    m.commit_version = gw_read64(r);
    gwi_expect(r, m.last <= 1);
    if (r->bad)
        return GW_E_PROTOCOL;
    *out = m;
    return GW_OK;
}

#define APPLIED_NUMBERED (GW_WIRE_COUNTER | GW_WIRE_VALUE | GW_WIRE_LENGTH | GW_APPLIED_PIECE)
#define APPLIED_FLAGS    (APPLIED_NUMBERED | GW_WIRE_NONE | GW_WIRE_FORGOTTEN)

static bool applied_is_good(const struct gw_applied *m)
{
    if (m->slot >= GW_SLOTS || (m->flags & ~APPLIED_FLAGS) || (m->flags & (m->flags - 1)))
        return false;
    if (m->flags & GW_WIRE_VALUE)
        return (uint64_t)m->number <= GW_APPLIED_VALUE_MAX;
    if (m->flags & GW_WIRE_LENGTH)
        return (uint64_t)m->number <= UINT32_MAX;
    return !(m->flags & GW_APPLIED_PIECE) || m->version < GW_APPLIED_VALUE_MAX / 8;
}

void gw_applied_encode(const struct gw_applied *m, struct gw_writer *w)
{
    GW_ASSERT(applied_is_good(m));
    uint8_t *at = gw_write_room(w, GW_APPLIED_BYTES);
    if (!at)
        return;
    gw_store64(at, m->session);
    gw_store64(at + 8, m->serial);
    gw_store64(at + 16, m->flags & APPLIED_NUMBERED ? (uint64_t)m->number : 0);
    gw_store32(at + 24, m->version);
    gw_store16(at + 28, m->slot);
    at[30] = (uint8_t)m->status;
    at[31] = m->flags;
}

bool gw_applied_decode(struct gw_reader *r, struct gw_applied *m)
{
    if (r->bad || gw_reader_left(r) == 0)
        return false;
    const uint8_t *at = gw_read_bytes(r, GW_APPLIED_BYTES);
    if (!at)
        return false;
    *m = (struct gw_applied){
        .session = gw_load64(at),
        .serial = gw_load64(at + 8),
        .number = (int64_t)gw_load64(at + 16),
        .version = gw_load32(at + 24),
        .slot = gw_load16(at + 28),
        .status = (int8_t)at[30],
        .flags = at[31],
    };
    gwi_expect(r, applied_is_good(m) && gwi_status_known(m->status));
    gwi_expect(r, (m->flags & APPLIED_NUMBERED) || m->number == 0);
    return !r->bad;
}

static uint32_t record_value_bytes(const struct gw_peer_record *m)
{
    if (m->tombstone)
        return 0;
    return m->kind == GW_PEER_COUNTER       ? COUNTER_BYTES
           : m->kind == GW_PEER_INDIRECTION ? GW_PEER_INDIRECTION_BYTES
                                            : m->value_bytes;
}

static bool record_expires(const struct gw_peer_record *m)
{
    return m->expiry_ms != 0 && !m->tombstone;
}

size_t gw_peer_record_bytes(const struct gw_peer_record *m)
{
    return RECORD_HEAD + (record_expires(m) ? EXPIRY_BYTES : 0) + (size_t)m->key_bytes +
           record_value_bytes(m);
}

static bool indirection_is_good(const struct gw_peer_indirection *m)
{
    if (m->prefix_bits > 64)
        return false;
    uint64_t rest = m->prefix_bits == 0 ? UINT64_MAX : UINT64_MAX >> (m->prefix_bits - 1) >> 1;
    return !(m->hash_prefix & rest) && m->slot < GW_SLOTS &&
           (m->address | m->begin) >> GW_PEER_ADDRESS_BITS == 0;
}

struct gw_peer_record gw_peer_indirection_record(const struct gw_peer_indirection *m,
                                                 uint8_t value[GW_PEER_INDIRECTION_BYTES])
{
    GW_ASSERT(indirection_is_good(m) && m->begin % 65536 == 0);
    gw_store64(value, m->log_id);
    gw_store64(value + 8, m->address);
    gw_store64(value + 16, m->hash_prefix);
    gw_store64(value + 24, m->map_version);
    gw_store64(value + 32, m->slot | (uint64_t)m->prefix_bits << 16 | m->begin >> 16 << 24);
    return (struct gw_peer_record){.kind = GW_PEER_INDIRECTION,
                                   .value = value,
                                   .value_bytes = GW_PEER_INDIRECTION_BYTES};
}

bool gw_peer_indirection_of(const struct gw_peer_record *record, struct gw_peer_indirection *m)
{
    if (record->kind != GW_PEER_INDIRECTION)
        return false;
    const uint8_t *value = record->value;
    *m = (struct gw_peer_indirection){
        .log_id = gw_load64(value),
        .address = gw_load64(value + 8),
        .hash_prefix = gw_load64(value + 16),
        .map_version = gw_load64(value + 24),
        .begin = gw_load64(value + 32) >> 24 << 16,
        .slot = gw_load16(value + 32),
        .prefix_bits = value[34],
    };
    return true;
}

/* What must hold of an indirection's record, and of its value, which lies there whole. */
static bool indirection_decodes(const struct gw_peer_record *m)
{
    struct gw_peer_indirection in;
    return m->version == 0 && gw_peer_indirection_of(m, &in) && indirection_is_good(&in) &&
           gw_load64(m->value + 32) >> 56 == 0;
}

void gw_peer_record_encode(const struct gw_peer_record *m, struct gw_writer *w)
{
    GW_ASSERT(m->kind <= GW_PEER_INDIRECTION && m->tombstone <= 1);
    GW_ASSERT((m->kind == GW_PEER_INDIRECTION) == (m->key_bytes == 0));
    uint8_t *at = gw_write_room(w, gw_peer_record_bytes(m));
    if (!at)
        return;
    uint32_t value_bytes = record_value_bytes(m);
    gw_store32(at, m->version);
    gw_store16(at + 4, m->key_bytes);
    at[6] = m->kind;
    at[7] = m->tombstone ? RECORD_TOMBSTONE : record_expires(m) ? RECORD_EXPIRES : 0;
    gw_store32(at + 8, value_bytes);
    at += RECORD_HEAD;
    if (record_expires(m)) {
        gw_store64(at, m->expiry_ms);
        at += EXPIRY_BYTES;
    }
    if (m->key_bytes)
        memcpy(at, m->key, m->key_bytes);
    at += m->key_bytes;
    if (m->kind == GW_PEER_COUNTER && !m->tombstone)
        gw_store64(at, (uint64_t)m->number);
    else if (value_bytes)
        memcpy(at, m->value, value_bytes);
}

bool gw_peer_record_decode(struct gw_reader *r, struct gw_peer_record *m)
{
    if (r->bad || gw_reader_left(r) == 0)
        return false;
    const uint8_t *head = gw_read_bytes(r, RECORD_HEAD);
    if (!head)
        return false;
    *m = (struct gw_peer_record){
        .version = gw_load32(head),
        .key_bytes = gw_load16(head + 4),
        .kind = head[6],
        .tombstone = head[7] == RECORD_TOMBSTONE,
        .value_bytes = gw_load32(head + 8),
    };
    bool indirection = m->kind == GW_PEER_INDIRECTION;
    gwi_expect(r, m->kind <= GW_PEER_INDIRECTION && (m->key_bytes == 0) == indirection);
    gwi_expect(r, head[7] <= RECORD_EXPIRES && (head[7] == 0 || !indirection));
    gwi_expect(r, m->value_bytes == record_value_bytes(m));
    if (head[7] == RECORD_EXPIRES) {
        m->expiry_ms = gw_read64(r);
        gwi_expect(r, m->expiry_ms != 0);
    }
    m->key = gw_read_bytes(r, m->key_bytes);
    const uint8_t *value = gw_read_bytes(r, m->value_bytes);
    if (r->bad)
        return false;
    if (m->tombstone)
        return true;
    m->value = value;
    if (m->kind == GW_PEER_COUNTER)
        m->number = (int64_t)gw_load64(value);
    if (indirection) {
        m->key = NULL;
        gwi_expect(r, indirection_decodes(m));
    }
    return !r->bad;
}

void gw_pull_key_encode(const uint8_t *key, uint16_t key_bytes, struct gw_writer *w)
{
    GW_ASSERT(key_bytes > 0);
    uint8_t *at = gw_write_room(w, 2 + (size_t)key_bytes);
    if (!at)
        return;
    gw_store16(at, key_bytes);
    memcpy(at + 2, key, key_bytes);
}

bool gw_pull_key_decode(struct gw_reader *r, const uint8_t **key, uint16_t *key_bytes)
{
    if (r->bad || gw_reader_left(r) == 0)
        return false;
    *key_bytes = gw_read16(r);
    gwi_expect(r, *key_bytes > 0);
    *key = gw_read_bytes(r, *key_bytes);
    return !r->bad;
}

void gw_pull_answer_encode(enum gw_pull_found found, const struct gw_peer_record *m,
                           struct gw_writer *w)
{
    gw_write8(w, (uint8_t)found);
    if (found == GW_PULL_RECORD || found == GW_PULL_LEAD)
        gw_peer_record_encode(m, w);
}

bool gw_pull_answer_decode(struct gw_reader *r, enum gw_pull_found *found, struct gw_peer_record *m)
{
    if (r->bad || gw_reader_left(r) == 0)
        return false;
    uint8_t byte = gw_read8(r);
    gwi_expect(r, byte <= GW_PULL_UNREADABLE);
    if (r->bad)
        return false;
    *found = (enum gw_pull_found)byte;
    if (*found != GW_PULL_RECORD && *found != GW_PULL_LEAD)
        return true;
    bool there = gw_peer_record_decode(r, m);
    /* An end where a record must stand is no end. */
    gwi_expect(r, there && (m->kind == GW_PEER_INDIRECTION) == (*found == GW_PULL_LEAD));
    there = there && !r->bad;
    return there;
}
