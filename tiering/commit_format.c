/* commit_format.c - names, blocks, groups and entries of commit logs (commit.h). What is decoded
 * comes from a disk: nothing of it is believed before it is checked, nothing is asserted. */
#include "tiering/commit_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "index/base/checksum.h"
#include "tiering/commit_read.h"

#define FOOT_MAGIC 0x46475747u /* "GWGF" */
#define SEAL_MAGIC 0x53475747u /* "GWGS" */
/* Foot: magic 4, format 2, zeros 2, store id 8, file bytes 8, zeros; at 60 the CRC32C of the first
 * 60; zeros. Seal: the same, but for file bytes: number 8, number of the next 8. */
#define END_CHECK 60u
#define ENTRY_MAX (1u << 30)

_Static_assert(GWI_BLOCK_CHECK + 4 == GW_COMMIT_BLOCK_HEADER, "the checksum ends the header");

/* ---- names ---- */

void gwi_commit_name_print(const struct gwi_commit_name *name, char *out)
{
    snprintf(out, GWI_COMMIT_NAME_BYTES, "%s%u-%u-%" PRIu64 ".gwl", name->spare ? "spare-" : "c",
             name->dispatcher, name->incarnation, name->number);
}

/* Only what name_print prints: no sign, no leading zero. */
static bool number_of(const char **at, char end, uint64_t most, uint64_t *out)
{
    const char *p = *at;
    uint64_t n = 0;
    if (*p < '0' || *p > '9' || (*p == '0' && p[1] >= '0' && p[1] <= '9'))
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return false;
    if (*p != end || n > most)
        return false;
    *at = p + 1;
    *out = n;
    return true;
}

bool gwi_commit_name_parse(const char *text, struct gwi_commit_name *out)
{
    uint64_t dispatcher, incarnation, number;
    bool spare = strncmp(text, "spare-", 6) == 0;
    if (!spare && text[0] != 'c')
        return false;
    text += spare ? 6 : 1;
    if (!number_of(&text, '-', UINT16_MAX, &dispatcher) ||
        !number_of(&text, '-', UINT32_MAX, &incarnation) ||
        !number_of(&text, '.', UINT64_MAX, &number) || strcmp(text, "gwl") != 0)
        return false;
    *out = (struct gwi_commit_name){number, (uint32_t)incarnation, (uint16_t)dispatcher, spare};
    return true;
}

/* ---- blocks ---- */

/* Of the header with its last field zero, and the payload. */
static uint32_t check_of(const uint8_t *block, uint32_t payload_bytes)
{
    static const uint8_t zero[4];
    uint32_t crc = gw_crc32c(0, block, GWI_BLOCK_CHECK);
    crc = gw_crc32c(crc, zero, sizeof zero);
    return gw_crc32c(crc, block + GW_COMMIT_BLOCK_HEADER, payload_bytes);
}

void gwi_commit_block_seal(uint8_t *block, const struct gw_commit_block *header)
{
    gw_store32(block + GWI_BLOCK_MAGIC, GW_COMMIT_MAGIC);
    gw_store16(block + GWI_BLOCK_FORMAT, GW_COMMIT_FORMAT);
    gw_store16(block + GWI_BLOCK_DISPATCHER, header->dispatcher);
    gw_store64(block + GWI_BLOCK_STORE, header->store_id);
    gw_store64(block + GWI_BLOCK_SEQUENCE, header->sequence);
    gw_store64(block + GWI_BLOCK_DURABLE, header->durable_sequence);
    gw_store32(block + GWI_BLOCK_INCARNATION, header->incarnation);
    gw_store32(block + GWI_BLOCK_GROUPS, header->groups);
    gw_store64(block + GWI_BLOCK_INTERVAL, header->interval);
    gw_store64(block + GWI_BLOCK_VIEW, header->view);
    gw_store32(block + GWI_BLOCK_PAYLOAD, header->payload_bytes);
    gw_store32(block + GWI_BLOCK_CHECK, check_of(block, header->payload_bytes));
}

static bool zeros(const uint8_t *at, uint64_t bytes)
{
    return bytes == 0 || (at[0] == 0 && memcmp(at, at + 1, bytes - 1) == 0);
}

void gwi_commit_block_read(const uint8_t *at, struct gw_commit_block *out)
{
    *out = (struct gw_commit_block){
        .store_id = gw_load64(at + GWI_BLOCK_STORE),
        .sequence = gw_load64(at + GWI_BLOCK_SEQUENCE),
        .durable_sequence = gw_load64(at + GWI_BLOCK_DURABLE),
        .interval = gw_load64(at + GWI_BLOCK_INTERVAL),
        .view = gw_load64(at + GWI_BLOCK_VIEW),
        .incarnation = gw_load32(at + GWI_BLOCK_INCARNATION),
        .groups = gw_load32(at + GWI_BLOCK_GROUPS),
        .payload_bytes = gw_load32(at + GWI_BLOCK_PAYLOAD),
        .dispatcher = gw_load16(at + GWI_BLOCK_DISPATCHER),
    };
}

enum gwi_commit_found gwi_commit_block_look(const uint8_t *at, uint64_t bytes,
                                            struct gw_commit_block *out)
{
    if (bytes < GW_COMMIT_BLOCK_HEADER || gw_load32(at + GWI_BLOCK_MAGIC) != GW_COMMIT_MAGIC)
        return GWI_COMMIT_NOTHING;
    uint32_t payload_bytes = gw_load32(at + GWI_BLOCK_PAYLOAD);
    uint64_t block_bytes = gwi_commit_block_bytes(payload_bytes);
    if (block_bytes > bytes || gw_load32(at + GWI_BLOCK_CHECK) != check_of(at, payload_bytes))
        return GWI_COMMIT_NOTHING;
    if (gw_load16(at + GWI_BLOCK_FORMAT) != GW_COMMIT_FORMAT)
        return GWI_COMMIT_FORMAT;
    uint64_t used = GW_COMMIT_BLOCK_HEADER + (uint64_t)payload_bytes;
    if (!zeros(at + used, block_bytes - used))
        return GWI_COMMIT_NOTHING;
    gwi_commit_block_read(at, out);
    /* It cannot know more to be durable than what came before it. */
    return out->sequence > out->durable_sequence ? GWI_COMMIT_BLOCK : GWI_COMMIT_NOTHING;
}

static void end_make(uint8_t *unit, uint32_t magic, uint64_t store_id, uint64_t a, uint64_t b)
{
    memset(unit, 0, GW_COMMIT_BLOCK_UNIT);
    gw_store32(unit, magic);
    gw_store16(unit + 4, GW_COMMIT_FORMAT);
    gw_store64(unit + 8, store_id);
    gw_store64(unit + 16, a);
    gw_store64(unit + 24, b);
    gw_store32(unit + END_CHECK, gw_crc32c(0, unit, END_CHECK));
}

static bool end_look(const uint8_t *unit, uint32_t magic)
{
    return gw_load32(unit) == magic &&
           gw_load32(unit + END_CHECK) == gw_crc32c(0, unit, END_CHECK) &&
           zeros(unit + END_CHECK + 4, GW_COMMIT_BLOCK_UNIT - END_CHECK - 4);
}

void gwi_commit_seal_make(uint8_t *unit, uint64_t store_id, uint64_t number, uint64_t next_number)
{
    end_make(unit, SEAL_MAGIC, store_id, number, next_number);
}

uint64_t gwi_commit_seal_look(const uint8_t *unit, uint64_t store_id, uint64_t number)
{
    return end_look(unit, SEAL_MAGIC) && gw_load64(unit + 8) == store_id &&
                   gw_load64(unit + 16) == number
               ? gw_load64(unit + 24)
               : 0;
}

void gwi_commit_foot_make(uint8_t *unit, uint64_t store_id, uint64_t file_bytes)
{
    end_make(unit, FOOT_MAGIC, store_id, file_bytes, 0);
}

bool gwi_commit_foot_look(const uint8_t *unit, uint16_t *format, uint64_t *store_id,
                          uint64_t *file_bytes)
{
    if (!end_look(unit, FOOT_MAGIC))
        return false;
    *format = gw_load16(unit + 4);
    *store_id = gw_load64(unit + 8);
    *file_bytes = gw_load64(unit + 16);
    return true;
}

/* ---- groups and entries ---- */

void gwi_commit_group_put(uint8_t *at, const struct gw_commit_group *group)
{
    gw_store64(at, group->session);
    gw_store64(at + 8, group->confirmed);
    gw_store64(at + 16, group->first_serial);
    gw_store32(at + 24, group->entries);
    gw_store32(at + 28, group->bytes);
    gw_store64(at + 32, 0); /* flags, zero */
}

bool gw_commit_next_group(const uint8_t *payload, uint32_t payload_bytes, uint32_t *at,
                          struct gw_commit_group *group, const uint8_t **entries, bool *bad)
{
    *bad = false;
    if (*at == payload_bytes)
        return false;
    *bad = true;
    if (*at > payload_bytes || payload_bytes - *at < GW_COMMIT_GROUP_BYTES)
        return false;
    const uint8_t *p = payload + *at;
    uint32_t left = payload_bytes - *at - GW_COMMIT_GROUP_BYTES;
    uint32_t count = gw_load32(p + 24);
    uint32_t bytes = gw_load32(p + 28);
    if (gw_load64(p + 32) != 0 || bytes > left || bytes % 8 != 0 || count == 0 ||
        count > bytes / GW_COMMIT_ENTRY_BYTES)
        return false;
    *group = (struct gw_commit_group){
        .session = gw_load64(p),
        .confirmed = gw_load64(p + 8),
        .first_serial = gw_load64(p + 16),
        .entries = count,
        .bytes = bytes,
    };
    if (group->first_serial > UINT64_MAX - UINT16_MAX)
        return false;
    *entries = p + GW_COMMIT_GROUP_BYTES;
    *at += GW_COMMIT_GROUP_BYTES + bytes;
    *bad = false;
    return true;
}

static uint32_t value_bytes_of(const struct gw_commit_entry *entry)
{
    return entry->op == GW_COMMIT_SET ? entry->value_bytes : entry->op == GW_COMMIT_COUNTER ? 8 : 0;
}

size_t gwi_commit_entry_bytes(const struct gw_commit_entry *entry)
{
    size_t bytes = GW_COMMIT_ENTRY_BYTES + (entry->expiry_ms ? 8u : 0u) + entry->key_bytes +
                   (size_t)value_bytes_of(entry);
    return bytes > ENTRY_MAX ? 0 : (bytes + 7) & ~(size_t)7;
}

void gwi_commit_entry_put(uint8_t *at, const struct gw_commit_entry *entry, uint64_t first_serial)
{
    GW_ASSERT(entry->serial >= first_serial && entry->serial - first_serial <= UINT16_MAX);
    GW_ASSERT(entry->op >= GW_COMMIT_SET && entry->op <= GW_COMMIT_NOTHING);
    uint32_t value_bytes = value_bytes_of(entry);
    uint32_t rest = (GW_COMMIT_ENTRY_BYTES + entry->key_bytes + value_bytes) & 7;
    gw_store32(at, entry->version);
    gw_store32(at + 4, value_bytes);
    gw_store16(at + 8, entry->key_bytes);
    at[10] = entry->op;
    at[11] = (uint8_t)((entry->flags & (GW_COMMIT_START | GW_COMMIT_FIRST)) |
                       (entry->expiry_ms ? GW_COMMIT_EXPIRES : 0));
    at[12] = (uint8_t)entry->status;
    at[13] = entry->reply;
    gw_store16(at + 14, (uint16_t)(entry->serial - first_serial));
    at += GW_COMMIT_ENTRY_BYTES;
    if (entry->expiry_ms) {
        gw_store64(at, entry->expiry_ms);
        at += 8;
    }
    if (entry->key_bytes)
        memcpy(at, entry->key, entry->key_bytes);
    at += entry->key_bytes;
    if (entry->op == GW_COMMIT_COUNTER)
        gw_store64(at, (uint64_t)entry->number);
    else if (value_bytes)
        memcpy(at, entry->value, value_bytes);
    at += value_bytes;
    if (rest)
        memset(at, 0, 8 - rest);
}

bool gw_commit_next_entry(const struct gw_commit_group *group, const uint8_t *entries, uint32_t *at,
                          struct gw_commit_entry *entry, bool *bad)
{
    *bad = false;
    if (*at == group->bytes)
        return false;
    *bad = true;
    if (*at > group->bytes || group->bytes - *at < GW_COMMIT_ENTRY_BYTES)
        return false;
    const uint8_t *p = entries + *at;
    uint32_t value_bytes = gw_load32(p + 4);
    uint16_t key_bytes = gw_load16(p + 8);
    uint8_t op = p[10], flags = p[11];
    bool expires = flags & GW_COMMIT_EXPIRES;
    uint64_t bytes = (uint64_t)GW_COMMIT_ENTRY_BYTES + (expires ? 8 : 0) + key_bytes + value_bytes;
    uint64_t whole = (bytes + 7) & ~(uint64_t)7;
    if (whole > group->bytes - *at || !zeros(p + bytes, whole - bytes) ||
        (flags & ~(GW_COMMIT_START | GW_COMMIT_EXPIRES | GW_COMMIT_FIRST)) != 0)
        return false;
    if (op < GW_COMMIT_SET || op > GW_COMMIT_NOTHING ||
        (op == GW_COMMIT_COUNTER && value_bytes != 8) ||
        ((op == GW_COMMIT_TOMBSTONE || op == GW_COMMIT_NOTHING) && value_bytes != 0))
        return false;
    uint64_t expiry_ms = expires ? gw_load64(p + GW_COMMIT_ENTRY_BYTES) : 0;
    if (expires && expiry_ms == 0)
        return false;
    const uint8_t *key = p + GW_COMMIT_ENTRY_BYTES + (expires ? 8 : 0);
    *entry = (struct gw_commit_entry){
        .key = key,
        .value = op == GW_COMMIT_SET ? key + key_bytes : NULL,
        .number = op == GW_COMMIT_COUNTER ? (int64_t)gw_load64(key + key_bytes) : 0,
        .expiry_ms = expiry_ms,
        .serial = group->first_serial + gw_load16(p + 14),
        .version = gw_load32(p),
        .value_bytes = value_bytes,
        .key_bytes = key_bytes,
        .op = op,
        .flags = flags,
        .status = (int8_t)p[12],
        .reply = p[13],
    };
    *at += (uint32_t)whole;
    *bad = false;
    return true;
}
