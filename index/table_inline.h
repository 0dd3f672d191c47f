/* table_inline.h - the hash table's layout, and look-up, which is the hot path.
 *
 * A directory of chunks: the top `directory_bits` of the hash choose a chunk, the next bits a
 * bucket in it, so a chunk is a contiguous range of hashes and has a size of its own.
 * A directory word: 63 growing | 47-6 address of the chunk | 5-0 log2 of its buckets. While it
 * grows the address is that of a struct gwi_growth (table_internal.h) instead.
 * A bucket is one cache line: seven entries (entry_inline.h) and an eighth word, 31-0 overflow line
 * (0: none), 33-32 plain / splitting / split, 47-34 to which children the seven go.
 * Behind a chunk's buckets lies line 0, which holds its struct gwi_arena, then the overflow lines
 * 1, 2, ..., which have the form of buckets.
 * "Chain" in what follows means a bucket with its overflow lines; an entry's place in it is its
 * line first, then its position, and "lower" is nearer to the bucket.
 *
 * What a look-up may rely on while chunks grow (table_split.c says why):
 *   - A live entry with the wanted tag in a bucket that was right for the hash once is the entry:
 *     what has been copied is frozen, and frozen words have other state bits.
 *   - "Absent" is not said of a bucket with frozen or never-written words; gwi_table_find_exact
 *     sees to that.
 * All of it inside the epoch: chunks that have grown are unmapped an epoch later. Layer: index. */
#ifndef GW_INDEX_TABLE_INLINE_H
#define GW_INDEX_TABLE_INLINE_H

#include <assert.h>
#include <stdatomic.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "index/base/assert.h"
#include "index/base/memory.h"
#include "index/entry_inline.h"

#define GW_BUCKET_ENTRIES     7u
#define GW_BUCKET_OVERFLOW    7u /* the eighth word */
#define GW_DIRECTORY_BITS_MAX 12u

struct gw_bucket {
    /* Entries: written by CAS only, read by everybody; a live one publishes the record it leads to.
     * Overflow word: 0 -> a line, by CAS, for good; publishes that the line is empty. */
    _Alignas(64) _Atomic uint64_t word[8];
};
static_assert(sizeof(struct gw_bucket) == 64, "a bucket is one cache line");

#define GWI_DIRECTORY_GROWING ((uint64_t)1 << 63)
#define GWI_NEVER_WRITTEN     UINT64_MAX /* any word of a bucket that is being filled by a split */
#define GWI_SPLIT_SHIFT       32         /* of the eighth word */
#define GWI_SIDES_SHIFT       34
enum gwi_split {
    GWI_PLAIN = 0,
    GWI_SPLITTING = 1, /* no line is added any more; entries are being frozen */
    GWI_SPLIT = 2,     /* all entries are frozen, and it is settled where each of them goes */
};

struct gwi_grow; /* what growth changes: table_internal.h */

/* Nothing in here changes after creation: hot loops work with a copy. */
struct gw_table {
    _Atomic uint64_t *directory;
    uint32_t directory_bits;
    uint32_t split_shift; /* hash >> this gives the entry's six bits; fixed for the store's life */
    uint32_t bucket_bits; /* log2 of a chunk's buckets at creation */
    enum gw_memory_kind pages;
    struct gwi_grow *grow;
};

static inline uint64_t gw_table_tag(const struct gw_table *table, uint64_t hash, uint16_t slot)
{
    return gw_entry_tag(slot, (uint32_t)(hash >> table->split_shift));
}

/* Which chunk; the double shift because directory_bits may be 0. */
static inline uint64_t gwi_table_chunk(const struct gw_table *table, uint64_t hash)
{
    return (hash >> 1) >> (63 - table->directory_bits);
}
/* The chunk's directory word. Acquire: the chunk's words come before the word that leads to it. */
static inline uint64_t gwi_table_word(const struct gw_table *table, uint64_t hash)
{
    return atomic_load_explicit(&table->directory[gwi_table_chunk(table, hash)],
                                memory_order_acquire);
}
static inline bool gwi_chunk_grows(uint64_t word)
{
    return (int64_t)word < 0;
}
static inline struct gw_bucket *gwi_chunk_buckets(uint64_t word)
{
    return (struct gw_bucket *)(word & 0x0000ffffffffffc0u);
}
static inline uint32_t gwi_chunk_bits(uint64_t word)
{
    return (uint32_t)word & 63;
}
static inline struct gw_bucket *gwi_chunk_bucket(uint64_t word, uint32_t directory_bits,
                                                 uint64_t hash)
{
    return gwi_chunk_buckets(word) + ((hash << directory_bits) >> (64 - gwi_chunk_bits(word)));
}
static inline struct gw_bucket *gwi_chunk_line(uint64_t word, uint32_t line)
{
    return gwi_chunk_buckets(word) + ((uint64_t)1 << gwi_chunk_bits(word)) + line;
}
/* The line behind `bucket`, which is of this chunk and was written; NULL at the end. */
static inline struct gw_bucket *gwi_chunk_next_line(uint64_t word, const struct gw_bucket *bucket,
                                                    memory_order order)
{
    uint32_t line = (uint32_t)atomic_load_explicit(&bucket->word[GW_BUCKET_OVERFLOW], order);
    return GW_LIKELY(line == 0) ? NULL : gwi_chunk_line(word, line);
}

struct gw_bucket *gwi_growing_bucket(uint64_t word, uint32_t directory_bits, uint64_t hash);
_Atomic uint64_t *gwi_table_find_exact(const struct gw_table *table, uint64_t hash, uint64_t tag,
                                       uint64_t *entry);

/* The bucket of this hash, or of those that it may be in, the likelier one: to fetch it and to look
 * for a live entry. What is not there is looked for by gw_table_find. */
static inline struct gw_bucket *gw_table_bucket(const struct gw_table *table, uint64_t hash)
{
    uint64_t word = gwi_table_word(table, hash);
    if (GW_UNLIKELY(gwi_chunk_grows(word)))
        return gwi_growing_bucket(word, table->directory_bits, hash);
    return gwi_chunk_bucket(word, table->directory_bits, hash);
}

/* The line behind `bucket`, which came from gw_table_bucket or from here; NULL at the end and when
 * that cannot be told without more ado. */
static inline struct gw_bucket *gw_table_next_line(const struct gw_table *table, uint64_t hash,
                                                   const struct gw_bucket *bucket)
{
    const _Atomic uint64_t *last = &bucket->word[GW_BUCKET_OVERFLOW];
    if (GW_LIKELY((uint32_t)atomic_load_explicit(last, memory_order_relaxed) == 0))
        return NULL;
    /* Line numbers are the chunk's own. If the directory leads to another chunk by now, this one
     * has grown before, and all its eighth words say so: they came before the directory's word. */
    uint64_t word = gwi_table_word(table, hash);
    uint64_t line = atomic_load_explicit(last, memory_order_acquire);
    if (GW_UNLIKELY(line >> GWI_SPLIT_SHIFT != GWI_PLAIN || gwi_chunk_grows(word)))
        return NULL;
    return gwi_chunk_line(word, (uint32_t)line);
}

/* Which of the seven words have this tag, one bit each: all are compared before the first branch,
 * for where in its bucket an entry lies cannot be predicted, and a wrong guess throws away the work
 * of the neighbours. A hint: callers load the word again, with acquire. *moved: a word is frozen or
 * never written, as seen by the same loads: then no match says nothing.
 * Two vector loads read the line: x86-64 reads each aligned 8-byte lane of them whole, so what is
 * seen is what relaxed loads could have seen; ThreadSanitizer cannot know that and gets the loop.
 * Volatile, or the compiler may load a half twice: live where the states are looked at and frozen
 * where the tags are, which would be "absent" of an entry that is there (torture/index_bucket). */
static inline uint32_t gwi_bucket_matches(struct gw_bucket *bucket, uint64_t tag, bool *moved)
{
#if defined(__AVX2__) && !defined(__SANITIZE_THREAD__)
    __m256i want = _mm256_set1_epi64x((long long)tag);
    __m256i low = *(const volatile __m256i *)(const volatile void *)&bucket->word[0];
    __m256i high = *(const volatile __m256i *)(const volatile void *)&bucket->word[4];
    /* Bit 43 is the upper one of the state. The eighth word has it only when it is no longer plain.
     */
    __m256i states = _mm256_slli_epi64(_mm256_or_si256(low, high), 63 - GW_ENTRY_STATE_SHIFT - 1);
    *moved |= _mm256_movemask_pd(_mm256_castsi256_pd(states)) != 0;
    low = _mm256_cmpeq_epi64(_mm256_srli_epi64(low, GW_ENTRY_TAG_SHIFT), want);
    high = _mm256_cmpeq_epi64(_mm256_srli_epi64(high, GW_ENTRY_TAG_SHIFT), want);
    return (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(low)) |
           ((uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(high)) & 7) << 4;
#else
    uint32_t matches = 0;
    for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
        uint64_t e = atomic_load_explicit(&bucket->word[i], memory_order_relaxed);
        matches |= (uint32_t)(e >> GW_ENTRY_TAG_SHIFT == tag) << i;
        *moved |= gw_entry_state(e) >= GW_ENTRY_FROZEN;
    }
    return matches;
#endif
}

/* The live entry with this tag in one line: its place, NULL if there is none. At most one exists
 * in a chain (rules 2 and 3 of table.c). *moved: see gwi_bucket_matches. */
static inline _Atomic uint64_t *gwi_bucket_find(struct gw_bucket *bucket, uint64_t tag,
                                                uint64_t *entry, bool *moved)
{
    uint32_t matches = gwi_bucket_matches(bucket, tag, moved);
    while (matches != 0) { /* more than one: empty words beside an entry with tag 0 */
        _Atomic uint64_t *place = &bucket->word[__builtin_ctz(matches)];
        /* Acquire: the record comes before the entry that leads to it; pairs with the release CAS
         * in gwi_publish and the confirming CAS in gw_table_insert. */
        uint64_t e = atomic_load_explicit(place, memory_order_acquire);
        if (GW_LIKELY(gw_entry_matches(e, tag))) {
            *entry = e;
            return place;
        }
        *moved |= gw_entry_state(e) >= GW_ENTRY_FROZEN;
        matches &= matches - 1;
    }
    return NULL;
}
static inline _Atomic uint64_t *gw_bucket_find(struct gw_bucket *bucket, uint64_t tag,
                                               uint64_t *entry)
{
    bool moved = false;
    return gwi_bucket_find(bucket, tag, entry, &moved);
}

/* The live entry with this tag: its place, NULL if there is none. Helps splits that it meets. */
static inline _Atomic uint64_t *gw_table_find(const struct gw_table *table, uint64_t hash,
                                              uint64_t tag, uint64_t *entry)
{
    uint64_t word = gwi_table_word(table, hash);
    if (GW_LIKELY(!gwi_chunk_grows(word))) {
        struct gw_bucket *bucket = gwi_chunk_bucket(word, table->directory_bits, hash);
        bool moved = false;
        do {
            _Atomic uint64_t *place = gwi_bucket_find(bucket, tag, entry, &moved);
            if (place)
                return place;
            bucket = gwi_chunk_next_line(word, bucket, memory_order_acquire);
        } while (GW_UNLIKELY(bucket != NULL));
        if (GW_LIKELY(!moved))
            return NULL; /* no word was frozen when it was seen, for that is for good */
    }
    return gwi_table_find_exact(table, hash, tag, entry);
}
#endif
