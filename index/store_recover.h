/* store_recover.h - the index on paper, and opening a store from an image.
 *
 * An index snapshot says, for each chain, the newest address below its `start`, as it was at some
 * time after `start` was the tail. Recovery loads it and replays the log from `start` to the
 * image's end: every record that is not void becomes the newest of its chain if its address is
 * higher. So a snapshot may be older than the image that it is used for: one every few checkpoints
 * is enough (ENGINE section 4).
 * GAPS (added by the lead 10:40, for B): an image has a list of gaps, image.gaps, one for every
 * earlier restart; recovery adds {image.end, resume}. Pages within a gap are never read, flushed,
 * walked or compacted; compaction and replay step over each of them. gw_store_recover copies the
 * list (GW_E_LIMIT: more than GW_STORE_GAPS_MAX, those below begin not counted).
 * After recovery all records are on the device only; addresses go on at `resume`, above everything
 * that was ever written (ENGINE H8). Layer: index. */
#ifndef GW_INDEX_STORE_RECOVER_H
#define GW_INDEX_STORE_RECOVER_H

#include "index/store_cut.h"

#define GW_SNAPSHOT_BLOCK                                                                          \
    65536u /* the stream comes in blocks of this size, each with its CRC32C                        \
            */

/* ---- writing ---- */

struct gw_snapshot;
/* A snapshot that begins now; start: the tail of this moment. Its reader needs no gw_thread and
 * takes part in no cut. One at a time. GW_E_LIMIT: no slot in the epoch is free; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_snapshot_begin(struct gw_store *store, struct gw_snapshot **out,
                                             gw_addr *start);
/* The next block (GW_SNAPSHOT_BLOCK bytes) of the stream. GW_OK; GW_END: the block before was the
 * last. Enters and leaves the epoch: bounded, a few hundred buckets a call. A thread of its own,
 * not a dispatcher. */
GW_MUST_USE enum gw_status gw_snapshot_next(struct gw_snapshot *snapshot, uint8_t *block);
/* GW_E_CORRUPT: a chain could not be followed down below `start` (its record was not readable). */
void gw_snapshot_end(struct gw_snapshot *snapshot); /* at any time; NULL is ignored */

/* Names of the mixed chains (chains.h), complete for everything below the end of an image that has
 * been flushed. Returns how many there are, fills at most `max`; UINT64_MAX: not known ("all"). */
uint64_t gw_store_mixed_chains(const struct gw_store *store, uint64_t *names, uint64_t max);

/* ---- reading ---- */

struct gw_recovery {
    struct gw_store_image image;
    gw_addr snapshot_start; /* of the index snapshot; with none: image.begin */
    gw_addr resume;         /* first address of the new tail, a page's start, above all others */
    uint32_t threads;       /* that work at it, each with the device queue of its number */
    /* The snapshot's blocks, in order, called by one thread; NULL: there is none, the whole image
     * is replayed. Status of a block: GW_OK, GW_END, or the failure that recovery ends with. */
    enum gw_status (*next_block)(void *ctx, uint8_t *block);
    void *next_ctx;
    /* Slots whose records in the image are no more (MIGRATION R23): no entry is made. NULL: none.
     */
    const struct gw_slots *drop;
    const uint64_t *mixed;            /* names of mixed chains */
    uint64_t mixed_count;             /* UINT64_MAX: not known */
    _Atomic uint64_t *progress_bytes; /* of index and log done so far; may be NULL */
};

/* As gw_store_open, with the image. The device must be able to read [begin, end). GW_E_CORRUPT:
 * a page or block is damaged, `why` says which address or block; GW_E_IO; GW_E_NOMEM; GW_E_INVALID:
 * page_bits, hash seed or memory do not fit the image, `why` says how. */
GW_MUST_USE enum gw_status gw_store_recover(const struct gw_store_options *options,
                                            const struct gw_recovery *recovery,
                                            struct gw_store **out, char *why, size_t why_bytes);

/* Puts a key's state as the commit log has it: by GW_VERB_RESTORE (store.h), through
 * gw_store_execute on a thread of the recovered store, before anybody else uses it; different keys
 * by different threads at the same time. */
#endif
