/* ssd_format.c - headers, check tables and names of segment files (ssd_format.h). */
#include "tiering/ssd_format.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "index/base/checksum.h"

#define HEADER_CRC (GW_SSD_HEADER_BYTES - 4)
#define TABLE_CRC  (GW_SSD_TABLE_HEADER - 4)

static_assert(GW_DEVICE_BLOCK == 1u << GW_SSD_BLOCK_BITS, "the device's block is the file's");
static_assert(GW_SSD_HEADER_BYTES % GW_DEVICE_BLOCK == 0, "what follows the header is aligned");

struct gw_ssd_geometry gw_ssd_geometry_of(uint32_t page_bits, uint32_t segment_pages)
{
    GW_ASSERT(page_bits >= GW_SSD_BLOCK_BITS && page_bits <= 30);
    GW_ASSERT(segment_pages > 0);
    struct gw_ssd_geometry g = {.page_bits = page_bits,
                                .page_bytes = 1u << page_bits,
                                .page_blocks = 1u << (page_bits - GW_SSD_BLOCK_BITS),
                                .segment_pages = segment_pages,
                                .segment_bytes = (uint64_t)segment_pages << page_bits};
    g.table_bytes =
        (GW_SSD_TABLE_HEADER + 4 * g.page_blocks + GW_DEVICE_BLOCK - 1) & ~(GW_DEVICE_BLOCK - 1);
    g.file_bytes = GW_SSD_HEADER_BYTES + (uint64_t)segment_pages * g.table_bytes + g.segment_bytes;
    return g;
}

void gw_ssd_header_write(const struct gw_ssd_header *header, uint8_t *block)
{
    memset(block, 0, GW_SSD_HEADER_BYTES);
    struct gw_writer w = gw_writer_of(block, GW_SSD_HEADER_BYTES);
    gw_write32(&w, GW_SSD_MAGIC);
    gw_write16(&w, GW_SSD_FORMAT);
    gw_write8(&w, header->page_bits);
    gw_write8(&w, header->block_bits);
    gw_write64(&w, header->store_id);
    gw_write_bytes(&w, header->server_id, sizeof header->server_id);
    gw_write64(&w, header->first_address);
    gw_write64(&w, header->segment_bytes);
    gw_write32(&w, header->incarnation);
    gw_write32(&w, header->hash_seed_check);
    GW_ASSERT(!w.bad);
    gw_store32(block + HEADER_CRC, gw_crc32c(0, block, HEADER_CRC));
}

enum gw_status gw_ssd_header_read(const uint8_t *block, struct gw_ssd_header *header)
{
    struct gw_reader r = gw_reader_of(block, GW_SSD_HEADER_BYTES);
    struct gw_ssd_header h = {0};
    if (gw_read32(&r) != GW_SSD_MAGIC ||
        gw_load32(block + HEADER_CRC) != gw_crc32c(0, block, HEADER_CRC))
        return GW_E_CORRUPT;
    h.format = gw_read16(&r);
    if (h.format != GW_SSD_FORMAT) {
        *header = h;
        return GW_E_VERSION;
    }
    h.page_bits = gw_read8(&r);
    h.block_bits = gw_read8(&r);
    h.store_id = gw_read64(&r);
    memcpy(h.server_id, gw_read_bytes(&r, sizeof h.server_id), sizeof h.server_id);
    h.first_address = gw_read64(&r);
    h.segment_bytes = gw_read64(&r);
    h.incarnation = gw_read32(&r);
    h.hash_seed_check = gw_read32(&r);
    if (h.block_bits != GW_SSD_BLOCK_BITS || h.page_bits < h.block_bits || h.page_bits > 30 ||
        h.segment_bytes == 0 || h.segment_bytes % ((uint64_t)1 << h.page_bits) != 0 ||
        h.first_address % h.segment_bytes != 0)
        return GW_E_CORRUPT;
    *header = h;
    return GW_OK;
}

static uint32_t table_crc(const struct gw_ssd_geometry *g, const uint8_t *table)
{
    uint32_t crc = gw_crc32c(0, table, TABLE_CRC);
    return gw_crc32c(crc, table + GW_SSD_TABLE_HEADER, (size_t)4 * g->page_blocks);
}

void gw_ssd_table_write(const struct gw_ssd_geometry *g, uint64_t store_id, uint32_t incarnation,
                        uint64_t page_address, const uint8_t *page, uint8_t *table,
                        uint32_t *checks)
{
    memset(table, 0, g->table_bytes);
    gw_store32(table, GW_SSD_TABLE_MAGIC);
    gw_store32(table + 4, g->page_blocks);
    gw_store64(table + 8, page_address);
    gw_store64(table + 16, store_id);
    gw_store32(table + 24, incarnation);
    for (uint32_t i = 0; i < g->page_blocks; i++) {
        checks[i] = gw_crc32c(0, page + (size_t)i * GW_DEVICE_BLOCK, GW_DEVICE_BLOCK);
        gw_store32(table + GW_SSD_TABLE_HEADER + 4 * (size_t)i, checks[i]);
    }
    gw_store32(table + TABLE_CRC, table_crc(g, table));
}

enum gw_status gw_ssd_table_read(const struct gw_ssd_geometry *g, uint64_t store_id,
                                 uint32_t incarnation, uint64_t page_address, const uint8_t *table,
                                 uint32_t *checks)
{
    if (gw_load32(table) != GW_SSD_TABLE_MAGIC || gw_load32(table + 4) != g->page_blocks ||
        gw_load64(table + 8) != page_address || gw_load64(table + 16) != store_id ||
        gw_load32(table + 24) != incarnation || gw_load32(table + TABLE_CRC) != table_crc(g, table))
        return GW_E_CORRUPT;
    for (uint32_t i = 0; i < g->page_blocks; i++)
        checks[i] = gw_load32(table + GW_SSD_TABLE_HEADER + 4 * (size_t)i);
    return GW_OK;
}

void gw_ssd_name(uint32_t incarnation, uint64_t first_address, char name[GW_SSD_NAME_BYTES])
{
    snprintf(name, GW_SSD_NAME_BYTES, "log-%08" PRIx32 "-%016" PRIx64 ".gws", incarnation,
             first_address);
}

void gw_ssd_name_unfinished(uint64_t store_id, uint32_t incarnation, uint64_t first_address,
                            char name[GW_SSD_NAME_BYTES])
{
    snprintf(name, GW_SSD_NAME_BYTES, "log-%08" PRIx32 "-%016" PRIx64 "-%016" PRIx64 ".tmp",
             incarnation, first_address, store_id);
}

/* Takes exactly `digits` lower-case hexadecimal digits, then `after`. */
static bool take_hex(const char **at, int digits, const char *after, uint64_t *out)
{
    uint64_t v = 0;
    for (int i = 0; i < digits; i++, (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9')
            v = v << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            v = v << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    size_t n = strlen(after);
    if (strncmp(*at, after, n) != 0)
        return false;
    *at += n;
    *out = v;
    return true;
}

bool gw_ssd_name_read(const char *name, uint32_t *incarnation, uint64_t *first_address)
{
    uint64_t inc, first;
    if (strncmp(name, "log-", 4) != 0)
        return false;
    name += 4;
    if (!take_hex(&name, 8, "-", &inc) || !take_hex(&name, 16, ".gws", &first) || *name)
        return false;
    *incarnation = (uint32_t)inc;
    *first_address = first;
    return true;
}

bool gw_ssd_name_unfinished_read(const char *name, uint64_t *store_id, uint32_t *incarnation)
{
    uint64_t inc, first, id;
    if (strncmp(name, "log-", 4) != 0)
        return false;
    name += 4;
    if (!take_hex(&name, 8, "-", &inc) || !take_hex(&name, 16, "-", &first) ||
        !take_hex(&name, 16, ".tmp", &id) || *name)
        return false;
    *incarnation = (uint32_t)inc;
    *store_id = id;
    return true;
}
