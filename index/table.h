/* table.h - the latch-free hash table: creation, insertion, positions by hash.
 *
 * Look-up and layout are in table_inline.h. Entries are found by tag (slot and six hash bits), not
 * by key: several keys may share one, their records form a chain in the log. The table does not
 * grow in this version; its layout lets each chunk do so on its own. Any thread; callers that
 * follow entries into the log are inside the epoch. Layer: index. */
#ifndef GW_INDEX_TABLE_H
#define GW_INDEX_TABLE_H

#include "index/base/status.h"
#include "index/table_inline.h"

#define GW_TABLE_BYTES_MIN 65536u

/* `bytes` is all that the table may take: the largest power of two of buckets within two thirds,
 * the rest for overflow lines. chunk_bits: log2 of the buckets of a chunk, 0 for the default (2 MiB
 * of buckets). GW_E_INVALID: fewer than GW_TABLE_BYTES_MIN; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_table_create(uint64_t bytes, uint32_t chunk_bits,
                                           struct gw_table **out);
void gw_table_destroy(struct gw_table *table);

/* Puts in a live entry {tag, address} if its chain has none with this tag.
 *   GW_OK      it is there, at *place; the release that publishes the record was the confirming CAS
 *   GW_EXISTS  another one is there: *place and *entry say which; nothing was put in
 *   GW_RETRY   other threads were in the way for a bounded number of times
 *   GW_E_FULL  no free place and no overflow line left */
GW_MUST_USE enum gw_status gw_table_insert(struct gw_table *table, uint64_t hash, uint64_t tag,
                                           gw_addr address, _Atomic uint64_t **place,
                                           uint64_t *entry);

/* The hashes that share this hash's bucket: *first to *last, inclusive. */
void gw_table_bucket_range(const struct gw_table *table, uint64_t hash, uint64_t *first,
                           uint64_t *last);

uint64_t gw_table_buckets(const struct gw_table *table);
uint64_t gw_table_lines_used(const struct gw_table *table);
uint64_t gw_table_lines_total(const struct gw_table *table);
#endif
