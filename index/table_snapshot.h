/* table_snapshot.h - the table as a stream of words, and a table made of one.
 *
 * The shape comes first, for it is what records mean: two keys whose tags and buckets agree share
 * an entry, and their records one chain. A table that were coarser than the one for which the
 * records were written would join chains that do not lead to one another, and lose keys; one with
 * other tag bits would say of old records that they are the newest. So a recovered table has the
 * same directory and the same smallest size, and no chunk of it is smaller than it was.
 *
 * The words, in hash order (bits 43-42, where entries have their state, tell them apart):
 *   0  an entry of the present bucket
 *   1  the present bucket ends, and (bits 41-0) - 1 empty ones follow
 *   2  a chunk begins: bits 41-6 its number, 5-0 log2 of its buckets. A chunk that grew meanwhile
 *      begins anew with more of them; what came for it before is void
 * Thread rule: a writer or loader is its owner's; the table may be used by others while it is
 * written, and by nobody else while it is loaded. Layer: index. */
#ifndef GW_INDEX_TABLE_SNAPSHOT_H
#define GW_INDEX_TABLE_SNAPSHOT_H

#include "index/table.h"

struct gwi_table_shape {
    uint32_t directory_bits;
    uint32_t bucket_bits; /* log2 of a chunk's buckets when the table was first made */
    uint8_t chunk_bits[1u << GW_DIRECTORY_BITS_MAX];
};

/* As it is now, a growing chunk as it will be: not smaller than any chunk for which a record was
 * written before the call. Any thread, outside of the epoch too. */
void gwi_table_shape_of(const struct gw_table *table, struct gwi_table_shape *out);
bool gwi_table_shape_is_valid(const struct gwi_table_shape *shape);
/* Memory that an empty table of this shape takes. */
uint64_t gwi_table_shape_bytes(const struct gwi_table_shape *shape);
/* An empty table of this shape, larger than options->bytes_max though it may be; bytes and
 * chunk_bits of the options only say whether it may grow. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_table_create_shaped(const struct gw_table_options *options,
                                                   const struct gwi_table_shape *shape,
                                                   struct gw_table **out);

/* ---- writing ---- */

struct gwi_table_writer {
    const struct gw_table *table;
    uint64_t hash; /* next bucket */
    bool done;
    uint32_t chunk_bits; /* of the present chunk, as announced */
    uint64_t entries;    /* written, those of chunks begun anew included */
    uint64_t *words;     /* those that have not been taken are [taken, count) */
    uint64_t count, taken, room;
    uint64_t *bucket; /* entries of one bucket */
    uint64_t bucket_room;
};

void gwi_table_writer_init(struct gwi_table_writer *writer, const struct gw_table *table);
void gwi_table_writer_fini(struct gwi_table_writer *writer);
/* Writes at most `buckets` more. GW_E_NOMEM: nothing was lost, try again. Requires: inside the
 * epoch. */
GW_MUST_USE enum gw_status gwi_table_writer_step(struct gwi_table_writer *writer, uint32_t buckets);
/* Moves up to `max` words to `out`; returns how many. */
uint32_t gwi_table_writer_take(struct gwi_table_writer *writer, uint64_t *out, uint32_t max);

/* ---- loading ---- */

struct gwi_table_loader {
    struct gw_table *table;
    /* Shall this entry be in the table? NULL: all. */
    bool (*wanted)(void *ctx, uint64_t entry);
    void *ctx;
    uint64_t chunk; /* the present one */
    uint32_t chunk_bits;
    bool in_chunk;
    uint64_t bucket; /* the present one, counted in 2^chunk_bits */
    uint64_t loaded; /* entries that are in the table */
};

/* The table is empty, of a shape not smaller than the stream's; chunks that the stream has larger
 * are made so. */
void gwi_table_loader_init(struct gwi_table_loader *loader, struct gw_table *table);
/* GW_E_CORRUPT: not a stream that a writer wrote; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_table_loader_put(struct gwi_table_loader *loader,
                                                const uint64_t *words, uint32_t count);
/* After the last word. GW_E_CORRUPT: something is missing. */
GW_MUST_USE enum gw_status gwi_table_loader_end(const struct gwi_table_loader *loader);
#endif
