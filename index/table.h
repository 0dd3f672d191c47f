/* table.h - the latch-free hash table: creation, insertion, growth, buckets by hash.
 *
 * Look-up and layout are in table_inline.h. Entries are found by tag (slot and six hash bits), not
 * by key: several keys may share one, their records form a chain in the log.
 * The table grows chunk by chunk while it is used: a chunk whose keys need many overflow lines is
 * split into one of twice the buckets. The chunks' thresholds are spread over one octave, so that
 * they grow one after the other and the mean cost stays near 15 bytes a key (ENGINE H1, H2).
 * Thread rule: any thread; whatever looks at entries, and gw_table_grow, runs inside the epoch.
 * Memory: what is mapped and touched counts, in pages of 4 KiB. Address space is reserved for many
 * more overflow lines than are used. Layer: index. */
#ifndef GW_INDEX_TABLE_H
#define GW_INDEX_TABLE_H

#include "index/base/status.h"
#include "index/epoch.h"
#include "index/table_inline.h"

#define GW_TABLE_BYTES_MIN 65536u

/* What only the owner of the log can say of the records that entries lead to. The functions are
 * called by any thread that uses the table, inside the epoch. */
struct gw_table_records {
    void *ctx;
    /* Entries whose address, widened against *reference, is below *begin are dead: a split drops
     * them, and insertions take their places. NULL: none is. */
    void (*range)(void *ctx, gw_addr *begin, gw_addr *reference);
    /* Whether the entry's chain has keys with (hash >> shift & 1) == 0: 1, == 1: 2, both: 3; 3 also
     * when that cannot be told without waiting. Asked only when the entry's own six bits do not
     * tell any more, beyond six doublings. NULL: 3. */
    uint32_t (*sides)(void *ctx, uint64_t entry, uint32_t shift);
};

struct gw_table_options {
    uint64_t bytes;      /* at the start: the largest power of two of buckets within two thirds, the
                          * rest for overflow lines */
    uint64_t bytes_max;  /* it may grow to this; less than bytes: no growth */
    uint32_t chunk_bits; /* log2 of the buckets of a chunk; 0: chunks of 2 MiB, less in a table of
                          * fewer than sixteen such */
    struct gw_table_records records;
};

/* GW_E_INVALID: fewer bytes than GW_TABLE_BYTES_MIN; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_table_create(const struct gw_table_options *options,
                                           struct gw_table **out);
/* Requires: no thread uses it, and the triggers that it deferred have run. NULL is ignored. */
void gw_table_destroy(struct gw_table *table);
/* Touches what the table has at the start. Before other threads use it. */
void gw_table_populate(struct gw_table *table);

/* Puts in a live entry {tag, address} if its chain has none with this tag.
 *   GW_OK      it is there, at *place; the release that publishes the record was the confirming CAS
 *   GW_EXISTS  another one is there: *place and *entry say which; nothing was put in
 *   GW_RETRY   other threads were in the way for a bounded number of times, or there will be room
 *              when the chunk has grown, for which it may wait for memory that others give up: call
 *              gw_table_grow and try again
 *   GW_E_FULL  no free place, no overflow line may be taken, and the chunk may not grow */
GW_MUST_USE enum gw_status gw_table_insert(struct gw_table *table, uint64_t hash, uint64_t tag,
                                           gw_addr address, _Atomic uint64_t **place,
                                           uint64_t *entry);

/* ---- the entries of a bucket ---- */

struct gw_table_chain {
    uint64_t first, last; /* the hashes of the bucket, inclusive. Beyond six doublings a chain may
                           * lead to records of others as well, and these need not be the newest of
                           * their keys: leave them out */
    bool moved;           /* the bucket is being split: open again, at the same hash, and begin
                           * anew; what was seen so far is seen again */
    uint64_t word;        /* the rest is table.c's */
    struct gw_bucket *line;
    uint32_t next;
};

/* The chain of the bucket that holds `hash`, finishing its split if one is under way. */
void gw_table_chain_open(const struct gw_table *table, uint64_t hash, struct gw_table_chain *chain);
/* The next live entry and its place; NULL: that was all, or chain->moved. Whatever was there all
 * the time since open has been given when NULL comes without moved. */
_Atomic uint64_t *gw_table_chain_next(struct gw_table_chain *chain, uint64_t *entry);

/* ---- growth ---- */

/* Is there something for gw_table_grow to do? One load. */
bool gw_table_grow_wanted(const struct gw_table *table);
/* Does a bounded piece of what growth is to do; every thread calls it once a turn while it is
 * wanted, inside of the epoch. At most `budget` buckets are split (some 150 ns each, in steps of
 * 64), or as much memory is mapped, prepared or given back as takes the same time.
 * room_bytes: how much more memory the table may take now (bytes_max is kept besides).
 * refused_bytes: up to so much it cannot get in addition, as the caller knows; what lacks more, or
 * lacks it for the first time, waits, and with it the insertions that need the growth. True: there
 * is more to do at once. */
bool gw_table_grow(struct gw_table *table, struct gw_epoch *epoch, uint64_t room_bytes,
                   uint64_t refused_bytes, uint32_t budget);
/* What the next step needs and did not have when it was last tried, 0 if it lacks nothing: a chunk
 * needs its doubled size in one piece and gives the old one back when it has grown. */
uint64_t gw_table_lacks(const struct gw_table *table);
/* Was it refused that? Then insertions for which there is no line are told GW_E_FULL. */
bool gw_table_grow_refused(const struct gw_table *table);
/* They wait again: the caller is asking for it once more. */
void gw_table_grow_ask(struct gw_table *table);

/* Overflow lines in thousandths of the buckets at which this chunk of so many grows. */
uint32_t gw_table_threshold(uint64_t chunk, uint32_t directory_bits);

/* ---- numbers ---- */

uint64_t gw_table_memory_bytes(const struct gw_table *table); /* buckets and lines, also growing */
uint64_t gw_table_buckets(const struct gw_table *table);
uint64_t gw_table_lines_used(const struct gw_table *table);
uint64_t gw_table_lines_total(const struct gw_table *table); /* that bytes_max leaves room for */
uint64_t gw_table_splits(const struct gw_table *table);      /* chunks doubled so far */
#endif
