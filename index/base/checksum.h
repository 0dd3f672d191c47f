/* checksum.h - CRC32C (Castagnoli), by the processor's instruction where there is one, else by a
 * table. Any thread. Layer: base. */
#ifndef GW_INDEX_BASE_CHECKSUM_H
#define GW_INDEX_BASE_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* CRC32C of n bytes; to go on from an earlier part hand in its result as `crc`, else 0. */
uint32_t gw_crc32c(uint32_t crc, const void *bytes, size_t n);

/* The same by table on every processor: what gw_crc32c falls back on, and what tests compare. */
uint32_t gwi_crc32c_portable(uint32_t crc, const void *bytes, size_t n);
#endif
