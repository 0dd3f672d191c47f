/* store_recover.h - the index on paper, and opening a store from an image.
 *
 * An index snapshot holds, for each chain, an address that was its newest at some time after
 * `start` was the tail. Recovery loads it and replays the log from `start` to the image's end:
 * every record that is not void becomes the newest of its chain if its address is higher. So a
 * snapshot may be older than the image that it is used for: one every few checkpoints is enough
 * (ENGINE section 4). It must not be newer: use it for images whose cut began when its last block
 * had been made. Why that is right: an address in the snapshot is that of a published record, below
 * the cut's end, and chains only get higher addresses; every record at or above `start` is seen by
 * the replay. An entry that was taken out after the snapshot came by comes back, which is harmless
 * for tombstones and expired records (nobody sees those), and is undone by the floor of its slot
 * for those of slots that were given away (floors.h). What the records alone do not say is in the
 * words of gw_store_mixed_chains: the shape of the index for which they were written
 * (table_snapshot.h), the floors, and which chains are mixed.
 *
 * After recovery all records are on the device only; addresses go on at `resume`, above everything
 * that was ever written (ENGINE H8). What lies between the image and there is a gap in the log, as
 * is that of every earlier restart: pages in gaps are never read, flushed, walked or compacted.
 * Layer: index. */
#ifndef GW_INDEX_STORE_RECOVER_H
#define GW_INDEX_STORE_RECOVER_H

#include "index/store_cut.h"

/* The stream comes in blocks of this size, each with its number and its CRC32C. */
#define GW_SNAPSHOT_BLOCK 65536u

/* ---- writing ---- */

struct gw_snapshot;
/* A snapshot that begins now; start: the tail of this moment. Its reader needs no gw_thread and
 * takes part in no cut. Waits until the threads have left that are inside the epoch now, for less
 * than a batch takes: a thread of its own, not a dispatcher. GW_E_LIMIT: no slot in the epoch is
 * free; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_snapshot_begin(struct gw_store *store, struct gw_snapshot **out,
                                             gw_addr *start);
/* The next block (GW_SNAPSHOT_BLOCK bytes) of the stream. GW_OK; GW_END: the block before was the
 * last; GW_E_NOMEM: try again. Enters and leaves the epoch, for a few hundred buckets each
 * time. The thread that began it. */
GW_MUST_USE enum gw_status gw_snapshot_next(struct gw_snapshot *snapshot, uint8_t *block);
void gw_snapshot_end(struct gw_snapshot *snapshot); /* at any time; NULL is ignored */

/* What recovery must know of the index besides, as words that only gw_store_recover reads: its
 * shape, the floors of slots, the names of the mixed chains (chains.h). Complete for everything
 * below the end of an image once that has been flushed: a record's chain is marked before it is
 * published, and two epochs after the cut nobody is left who publishes below its end. Returns how
 * many there are (a few hundred, seldom more), fills at most `max`: if that was less, what was
 * filled is of no use, ask again. Without them an image cannot be recovered. Any thread. */
uint64_t gw_store_mixed_chains(const struct gw_store *store, uint64_t *words, uint64_t max);

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
    const uint64_t *mixed; /* the words of gw_store_mixed_chains */
    uint64_t mixed_count;
    _Atomic uint64_t *progress_bytes; /* of index and log done so far; may be NULL */
};

/* As gw_store_open, with the image. The device must be able to read [begin, end). GW_E_CORRUPT:
 * a page or block is damaged, `why` says which address or block; GW_E_IO; GW_E_NOMEM; GW_E_INVALID:
 * page_bits, hash seed or memory do not fit the image, or they contradict one another, `why` says
 * how; GW_E_LIMIT: more gaps than GW_STORE_GAPS_MAX; or what next_block gave. */
GW_MUST_USE enum gw_status gw_store_recover(const struct gw_store_options *options,
                                            const struct gw_recovery *recovery,
                                            struct gw_store **out, char *why, size_t why_bytes);

/* Puts a key's state as the commit log has it: by GW_VERB_RESTORE (store.h), through
 * gw_store_execute on a thread of the recovered store, before anybody else uses it; different keys
 * by different threads at the same time. */
#endif
