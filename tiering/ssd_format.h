/* ssd_format.h - the segment file, byte for byte (ENGINE section 2): a header of one block; then
 * for each page a check table with the CRC32C of each of its blocks; then the pages.
 *
 *   0                 header     | magic 4 | format 2 | log2 page 1 | log2 block 1 | store id 8 |
 *                                | server id 16 | first address 8 | segment bytes 8 |
 *                                | incarnation 4 | hash seed check 4 | zeros | CRC32C of the rest 4
 * | 4096              tables     one per page, each a whole number of blocks: | magic 4 | blocks 4
 * | page address 8 | store id 8 | | incarnation 4 | zeros 32 | CRC32C of all but itself 4 | |
 * CRC32C of block 0 | of block 1 | ... | zeros | 4096 + n x table  pages
 *
 * All numbers are little-endian. Plain functions, any thread. Layer: tiering. */
#ifndef GW_TIERING_SSD_FORMAT_H
#define GW_TIERING_SSD_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"
#include "index/device.h"

#define GW_SSD_BLOCK_BITS   12u
#define GW_SSD_HEADER_BYTES 4096u
#define GW_SSD_TABLE_HEADER 64u
#define GW_SSD_MAGIC        0x53475747u /* "GWGS" */
#define GW_SSD_TABLE_MAGIC  0x54475747u /* "GWGT" */
#define GW_SSD_FORMAT       1u

/* The sizes that follow from page and segment. */
struct gw_ssd_geometry {
    uint32_t page_bits, page_bytes, page_blocks, table_bytes, segment_pages;
    uint64_t segment_bytes; /* of addresses, without header and tables */
    uint64_t file_bytes;
};

struct gw_ssd_header {
    uint16_t format;
    uint8_t page_bits, block_bits;
    uint64_t store_id;
    uint8_t server_id[16];
    uint64_t first_address, segment_bytes;
    uint32_t incarnation, hash_seed_check;
};

/* Requires: page_bits 12..30, pages > 0. */
struct gw_ssd_geometry gw_ssd_geometry_of(uint32_t page_bits, uint32_t segment_pages);

static inline uint64_t gw_ssd_table_offset(const struct gw_ssd_geometry *g, uint32_t page)
{
    return GW_SSD_HEADER_BYTES + (uint64_t)page * g->table_bytes;
}
static inline uint64_t gw_ssd_page_offset(const struct gw_ssd_geometry *g, uint32_t page)
{
    return GW_SSD_HEADER_BYTES + (uint64_t)g->segment_pages * g->table_bytes +
           (uint64_t)page * g->page_bytes;
}

/* Fills a block of GW_SSD_HEADER_BYTES; the format written is GW_SSD_FORMAT. */
void gw_ssd_header_write(const struct gw_ssd_header *header, uint8_t *block);
/* GW_E_CORRUPT: not a segment's header, or damaged. GW_E_VERSION: another format; then only
 * header->format is filled, for nobody knows where the rest of it lies. */
GW_MUST_USE enum gw_status gw_ssd_header_read(const uint8_t *block, struct gw_ssd_header *header);

/* Fills a page's table and gives the checksums of its blocks, which are also in `checks`. */
void gw_ssd_table_write(const struct gw_ssd_geometry *g, uint64_t store_id, uint32_t incarnation,
                        uint64_t page_address, const uint8_t *page, uint8_t *table,
                        uint32_t *checks);
/* Whether this is the table of that page, undamaged: then `checks` is filled. Else GW_E_CORRUPT. */
GW_MUST_USE enum gw_status gw_ssd_table_read(const struct gw_ssd_geometry *g, uint64_t store_id,
                                             uint32_t incarnation, uint64_t page_address,
                                             const uint8_t *table, uint32_t *checks);

#define GW_SSD_NAME_BYTES 64
/* "log-<incarnation>-<first address>.gws", in hexadecimal digits. */
void gw_ssd_name(uint32_t incarnation, uint64_t first_address, char name[GW_SSD_NAME_BYTES]);
/* The name under which it is made: the same with the store's id and ".tmp", so that what a crash
 * leaves behind says whose it is although its header may not be in. */
void gw_ssd_name_unfinished(uint64_t store_id, uint32_t incarnation, uint64_t first_address,
                            char name[GW_SSD_NAME_BYTES]);
bool gw_ssd_name_read(const char *name, uint32_t *incarnation, uint64_t *first_address);
bool gw_ssd_name_unfinished_read(const char *name, uint64_t *store_id, uint32_t *incarnation);
#endif
