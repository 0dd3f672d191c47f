/* snapshot.h - a snapshot's blocks, and the words that go with an image, as seen by recovery. What
 * writes them: store_recover.h. Plain functions, any thread. Layer: index. */
#ifndef GW_INDEX_SNAPSHOT_H
#define GW_INDEX_SNAPSHOT_H

#include "index/store_internal.h"
#include "index/store_recover.h"
#include "index/table_snapshot.h"

/* Where a reader of the blocks is. Zero at first. */
struct gwi_snapshot_reader {
    uint64_t sequence;      /* of the next block */
    uint64_t stream, start; /* as the first block says */
    uint32_t hash_check, shape;
    uint64_t entries; /* of the last block: written, those of chunks begun anew included */
    bool last;
};

/* The words of a block. GW_E_CORRUPT: damaged, or not the block that should come; *why: what is
 * wrong. */
GW_MUST_USE enum gw_status gwi_snapshot_block(struct gwi_snapshot_reader *reader,
                                              const uint8_t *block, const uint64_t **words,
                                              uint32_t *count, const char **why);
uint32_t gwi_snapshot_hash_check(uint64_t hash_seed);
uint32_t gwi_snapshot_shape(uint32_t directory_bits, uint32_t bucket_bits);

/* The words of gw_store_mixed_chains, read. */
struct gwi_image_words {
    struct gwi_table_shape shape;
    const uint64_t *floors, *names, *foreign; /* borrowed from the words */
    uint64_t floors_count, names_count, foreign_count;
    bool all_mixed;
};
GW_MUST_USE enum gw_status gwi_image_words_read(const uint64_t *words, uint64_t count,
                                                struct gwi_image_words *out); /* GW_E_CORRUPT */
#endif
