/* table_internal.h - what the files of the table share: the memory of a chunk, the steps of an
 * insertion and of a split, apart, so that tests put threads between them.
 *
 *   table.c        creation, insertion, chains, numbers
 *   table_chunk.c  a chunk's memory and its overflow lines
 *   table_split.c  freezing and splitting one bucket; look-up beside it
 *   table_grow.c   which chunk grows when, and in which steps
 *   table_snapshot.c  the table as a stream of words, and back
 * Layer: index. */
#ifndef GW_INDEX_TABLE_INTERNAL_H
#define GW_INDEX_TABLE_INTERNAL_H

#include "index/table.h"

/* A point at which tests let other threads on; nothing otherwise. */
#ifndef GWI_STEP
#define GWI_STEP() ((void)0)
#endif

#define GWI_ENTRY_STATE_MASK ((uint64_t)3 << GW_ENTRY_STATE_SHIFT)
#define GWI_ENTRY_FROZEN     ((uint64_t)GW_ENTRY_FROZEN << GW_ENTRY_STATE_SHIFT)
#define GWI_ENTRY_BITS       6u  /* doublings after which records must be read */
#define GWI_PAGE_LINES       64u /* lines are charged by pages of 4 KiB */
#define GWI_TABLE_BITS_MAX   40u /* log2 of all buckets */

/* Line 0 of a chunk: its free overflow lines. */
struct gwi_arena {
    /* Lines handed out so far, in order; then the freelist: 63-32 tag against ABA, 31-0 first. */
    _Alignas(GW_CACHE_LINE) _Atomic uint32_t next;
    _Atomic uint32_t used; /* linked; by the statistics and by the threshold */
    _Atomic uint64_t free;
    _Atomic uint32_t charged; /* lines in pages that count as memory */
    uint32_t lines;           /* for which there is address space */
    uint32_t lines_insert;    /* insertions take none beyond; the rest is for splits */
    uint32_t lines_grow;      /* the chunk wants to grow when it uses more */
    uint32_t number;          /* of the chunk */
    _Atomic uint32_t denied;  /* when it last wanted to grow it may not, whatever the room */
};
static_assert(sizeof(struct gwi_arena) == sizeof(struct gw_bucket), "it is line 0");

/* A chunk that grows. */
struct gwi_growth {
    _Alignas(GW_CACHE_LINE) struct gwi_grow *grow;
    uint64_t old_word, new_word;      /* as in the directory; fixed */
    uint64_t number;                  /* of the chunk; fixed */
    uint64_t prepared;                /* bytes of the new buckets; under the lock */
    uint64_t unmapped, charged_bytes; /* of the old chunk; under the lock */
    struct gwi_growth *next;
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t claimed; /* old buckets taken by gw_table_grow */
    _Atomic uint64_t finished;                        /* and split; all: the chunk has grown */
};

struct gwi_grow {
    /* Something is wanted, under way or to be given back: read by all once a turn. */
    _Alignas(GW_CACHE_LINE) _Atomic uint32_t work;
    uint64_t bytes_max;
    bool fixed; /* no growth */
    struct gw_table_records records;
    /* Charged so far. Changed when pages come and go, not by operations. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t bytes;
    _Atomic uint64_t buckets;               /* those of a growing chunk before it has grown */
    _Atomic uint64_t lines, lines_used;     /* charged and used, also of chunks not yet unmapped */
    _Atomic(struct gwi_growth *) splitting; /* published in the directory, at most one */
    _Atomic(struct gwi_growth *) quiet; /* grown, an epoch ago: a stack, pushed by the trigger */
    _Atomic(struct gwi_growth *) grown; /* grown, trigger not yet deferred: a stack */
    _Atomic uint64_t splits;
    _Atomic uint64_t wanted[(1u << GW_DIRECTORY_BITS_MAX) / 64]; /* a bit a chunk */
    _Atomic uint32_t lock; /* 1: one thread does what follows; the others do not wait for it */
    /* What the chunk lacks whose turn it is to grow, written under the lock; will it not get that?
     */
    _Atomic uint64_t lacks;
    _Atomic bool refused;
    _Atomic uint32_t grown_chunks; /* old ones whose memory has not been given back */
    uint32_t choose_next;          /* where the search for a wanted chunk goes on */
    struct gwi_growth *preparing;
    /* Log2 of each chunk's buckets, of a growing one as it will be: for who is outside of the
     * epoch. Written before the directory leads to the chunk. */
    _Atomic uint8_t chunk_bits[1u << GW_DIRECTORY_BITS_MAX];
    _Atomic(struct gwi_growth *)
        unmapping; /* old chunks that nobody uses: written under the lock */
};

/* ---- table_chunk.c ---- */

/* Maps a chunk of 2^bits buckets, its words zero. Does not charge it. GW_E_NOMEM. */
enum gw_status gwi_chunk_create(const struct gw_table *table, uint64_t number, uint32_t bits,
                                uint64_t *word, enum gw_memory_kind *kind);
/* Unmaps up to `bytes` (a multiple of 2 MiB, or UINT64_MAX), *done of it being unmapped already.
 * True: that was the last. */
bool gwi_chunk_unmap(uint64_t word, uint64_t *done, uint64_t bytes);
/* Has a chunk of twice the buckets address space for every line that a split may need? */
bool gwi_chunk_fits_doubled(uint64_t word);
struct gwi_arena *gwi_chunk_arena(uint64_t word);
uint64_t gwi_chunk_bytes(uint64_t word);          /* charged */
uint64_t gwi_chunk_bytes_at_start(uint32_t bits); /* buckets, line 0 and the rest of its page */

/* A line of the chunk's arena, zeroed and private: its number, 0 when none may be taken. `split`:
 * for a split, which must not fail: neither bytes_max nor lines_insert counts. */
uint32_t gwi_line_take(const struct gw_table *table, uint64_t word, bool split);
void gwi_line_give_back(const struct gw_table *table, uint64_t word, uint32_t line);

/* ---- table.c: the steps of an insertion ---- */

/* Step 1: puts a tentative entry into the first free place of the chain, adding an overflow line if
 * there is none. GW_OK, GW_EXISTS, GW_E_FULL (as gw_table_insert), GW_RETRY (lost a race),
 * GW_WOULD_BLOCK (growth will make room). */
enum gw_status gwi_table_place(struct gw_table *table, uint64_t hash, uint64_t tag, gw_addr address,
                               _Atomic uint64_t **place, uint64_t *entry);
/* Step 2: scans the chain again and confirms the tentative `entry` at `place`. GW_OK: it is live;
 * GW_EXISTS: *place and *entry are another, ours is gone; GW_RETRY: ours is gone, begin again. */
enum gw_status gwi_table_confirm(struct gw_table *table, uint64_t hash, _Atomic uint64_t **place,
                                 uint64_t *entry);

/* ---- table_split.c ---- */

/* A bucket and the chunk that it is in (its directory word, never a growing one). */
struct gwi_spot {
    uint64_t word;
    struct gw_bucket *bucket;
};

/* The bucket that this hash is in now, after finishing its split if that has begun. It may begin
 * right after: who meets frozen words there calls again. */
struct gwi_spot gwi_table_locate(const struct gw_table *table, uint64_t hash);
/* Splits the index-th bucket of the old chunk, or finishes what others have begun. */
void gwi_split_bucket(const struct gw_table *table, const struct gwi_growth *growth,
                      uint64_t index);
/* Its two steps: after the first no word of the old chain changes any more, the second fills the
 * child `side` (0, 1) from it. */
void gwi_split_freeze(const struct gw_table *table, const struct gwi_growth *growth,
                      struct gw_bucket *bucket);
void gwi_split_fill(const struct gw_table *table, const struct gwi_growth *growth,
                    struct gw_bucket *bucket, uint32_t side, struct gw_bucket *child);
/* Is the entry's address below the log's begin? */
bool gwi_entry_dead(uint64_t entry, gw_addr begin, gw_addr reference);

/* ---- table_grow.c ---- */

/* The chunk uses more lines than its threshold. */
void gwi_grow_want(const struct gw_table *table, uint64_t number);
/* A line was refused to this chunk. True: growth will help. */
bool gwi_grow_helps(const struct gw_table *table, struct gwi_arena *arena);
/* Frees what is left of growths, finished or not. Requires: nobody uses the table any more. */
void gwi_grow_end(struct gw_table *table);
static inline struct gwi_growth *gwi_growth_of(uint64_t growing_word)
{
    return (struct gwi_growth *)(growing_word & 0x0000ffffffffffc0u);
}
#endif
