/* table_chunk.c - the memory of a chunk: buckets, line 0 (struct gwi_arena), overflow lines.
 *
 * Rules:
 *  1. Address space is reserved for LINES_PER_BUCKET lines a bucket, memory is taken where lines
 *     are touched. Lines are in small pages, since a chunk uses them from the first on and often
 *     few; buckets are in huge pages from 2 MiB.
 *  2. Memory is charged by pages: buckets, line 0 and the rest of its page at creation, then
 *     GWI_PAGE_LINES lines at a time, before the first of them is handed out. What has been touched
 *     stays charged until the chunk is unmapped.
 *  3. An insertion's line is refused beyond bytes_max, or when the chunk uses lines_insert already.
 *     A split's line is not: it must not stop half-way. gw_table_grow begins a split only if there
 *     is address space for all its lines (gwi_chunk_fits_doubled). */
#include <string.h>

#include "index/table_internal.h"

#define PAGE_BYTES       4096u
#define HUGE_BYTES       ((uint64_t)2 << 20)
#define LINES_INSERT     2u    /* per bucket: 21 keys a bucket */
#define LINES_PER_BUCKET 6u    /* of address space */
#define LINES_SPARE      1024u /* those that losers of races hold for a moment */

static uint64_t bucket_bytes(uint64_t word)
{
    return sizeof(struct gw_bucket) << gwi_chunk_bits(word);
}

static uint64_t page_up(uint64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static uint32_t at_most_32(uint64_t n)
{
    return n > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)n;
}

static uint32_t reserved_lines(uint32_t bits)
{
    return at_most_32(((uint64_t)LINES_PER_BUCKET << bits) + LINES_SPARE);
}

static uint64_t reserved_bytes(uint32_t bits)
{
    return ((uint64_t)1 << bits) * sizeof(struct gw_bucket) +
           ((uint64_t)reserved_lines(bits) + 1) * sizeof(struct gw_bucket);
}

struct gwi_arena *gwi_chunk_arena(uint64_t word)
{
    return (struct gwi_arena *)gwi_chunk_line(word, 0);
}

uint64_t gwi_chunk_bytes_at_start(uint32_t bits)
{
    return page_up((((uint64_t)1 << bits) + 1) * sizeof(struct gw_bucket));
}

uint64_t gwi_chunk_bytes(uint64_t word)
{
    /* Relaxed: a number. */
    uint64_t lines = atomic_load_explicit(&gwi_chunk_arena(word)->charged, memory_order_relaxed);
    return bucket_bytes(word) + (lines + 1) * sizeof(struct gw_bucket);
}

enum gw_status gwi_chunk_create(const struct gw_table *table, uint64_t number, uint32_t bits,
                                uint64_t *word, enum gw_memory_kind *kind)
{
    uint64_t buckets = (uint64_t)1 << bits, bytes = buckets * sizeof(struct gw_bucket);
    void *base;
    enum gw_status st =
        gw_memory_reserve(reserved_bytes(bits), bytes / HUGE_BYTES * HUGE_BYTES, &base, kind);
    if (st != GW_OK)
        return st;
    GW_ASSERT(((uint64_t)(uintptr_t)base & ~(uint64_t)0x0000ffffffffffc0u) == 0);
    *word = (uint64_t)(uintptr_t)base | bits;
    struct gwi_arena *arena = gwi_chunk_arena(*word);
    arena->lines = reserved_lines(bits);
    arena->lines_insert = at_most_32(buckets * LINES_INSERT);
    arena->lines_grow =
        at_most_32(buckets * gw_table_threshold(number, table->directory_bits) / 1000);
    arena->number = (uint32_t)number;
    atomic_init(&arena->charged,
                (uint32_t)((gwi_chunk_bytes_at_start(bits) - bytes) / sizeof(struct gw_bucket)) -
                    1);
    return GW_OK;
}

bool gwi_chunk_fits_doubled(uint64_t word)
{
    const struct gwi_arena *arena = gwi_chunk_arena(word);
    uint32_t bits = gwi_chunk_bits(word) + 1;
    /* Entries that go to both children need up to two lines for each old one. */
    uint64_t used = atomic_load_explicit(&arena->used, memory_order_relaxed);
    uint64_t old = used > arena->lines_insert ? used : arena->lines_insert;
    uint64_t insert = (uint64_t)LINES_INSERT << bits;
    return 2 * old + insert + LINES_SPARE <= reserved_lines(bits);
}

bool gwi_chunk_unmap(uint64_t word, uint64_t *done, uint64_t bytes)
{
    uint64_t all = reserved_bytes(gwi_chunk_bits(word));
    uint8_t *base = (uint8_t *)gwi_chunk_buckets(word);
    /* What lies behind the last touched line costs nothing to unmap. */
    bool last = bytes >= all - *done;
    gw_memory_unmap(base + *done, last ? all - *done : bytes);
    *done += bytes;
    return last;
}

/* Counts one more page of lines as memory; false: bytes_max does not allow it. */
static bool charge(struct gwi_grow *grow, struct gwi_arena *arena, uint32_t charged, bool split)
{
    /* Relaxed: numbers; the pages are the arena's in any case. */
    uint64_t before = atomic_fetch_add_explicit(&grow->bytes, PAGE_BYTES, memory_order_relaxed);
    if ((before + PAGE_BYTES > grow->bytes_max && !split) ||
        !atomic_compare_exchange_strong_explicit(&arena->charged, &charged,
                                                 charged + GWI_PAGE_LINES, memory_order_relaxed,
                                                 memory_order_relaxed)) {
        atomic_fetch_sub_explicit(&grow->bytes, PAGE_BYTES, memory_order_relaxed);
        return before + PAGE_BYTES <= grow->bytes_max || split; /* somebody else has charged it */
    }
    atomic_fetch_add_explicit(&grow->lines, GWI_PAGE_LINES, memory_order_relaxed);
    return true;
}

/* A line that was given back; 0: there is none. */
static uint32_t take_free(uint64_t word, struct gwi_arena *arena)
{
    /* Acquire: the link in the line comes before the head that leads to it; pairs with the release
     * in gwi_line_give_back. The tag changes with every push, so an old head never matches: reading
     * the link of a line that somebody else has taken meanwhile is harmless. */
    uint64_t head = atomic_load_explicit(&arena->free, memory_order_acquire);
    while ((uint32_t)head != 0) {
        struct gw_bucket *line = gwi_chunk_line(word, (uint32_t)head);
        uint32_t below =
            (uint32_t)atomic_load_explicit(&line->word[GW_BUCKET_OVERFLOW], memory_order_relaxed);
        uint64_t next = (head & ~(uint64_t)UINT32_MAX) | below;
        if (atomic_compare_exchange_weak_explicit(&arena->free, &head, next, memory_order_acquire,
                                                  memory_order_acquire)) {
            /* Relaxed: private now; published by the CAS that links it. */
            atomic_store_explicit(&line->word[GW_BUCKET_OVERFLOW], 0, memory_order_relaxed);
            return (uint32_t)head;
        }
    }
    return 0;
}

/* A line that nobody had yet, with the bound of rule 3; 0: there is none. */
static uint32_t take_fresh(struct gwi_grow *grow, struct gwi_arena *arena, bool split)
{
    /* Relaxed: a number nobody else gets; the line's words are zero from the start. */
    uint32_t next = atomic_load_explicit(&arena->next, memory_order_relaxed);
    while (next < arena->lines) {
        uint32_t charged = atomic_load_explicit(&arena->charged, memory_order_relaxed);
        if (next >= charged) {
            if (!charge(grow, arena, charged, split))
                return 0;
            continue;
        }
        if (atomic_compare_exchange_weak_explicit(&arena->next, &next, next + 1,
                                                  memory_order_relaxed, memory_order_relaxed))
            return next + 1;
    }
    return 0;
}

uint32_t gwi_line_take(const struct gw_table *table, uint64_t word, bool split)
{
    struct gwi_arena *arena = gwi_chunk_arena(word);
    uint32_t used = atomic_load_explicit(&arena->used, memory_order_relaxed);
    if (used >= arena->lines_insert && !split)
        return 0;
    uint32_t line = take_free(word, arena);
    if (line == 0)
        line = take_fresh(table->grow, arena, split);
    if (line == 0)
        return 0;
    used = atomic_fetch_add_explicit(&arena->used, 1, memory_order_relaxed) + 1;
    atomic_fetch_add_explicit(&table->grow->lines_used, 1, memory_order_relaxed);
    if (used > arena->lines_grow)
        gwi_grow_want(table, arena->number);
    return line;
}

void gwi_line_give_back(const struct gw_table *table, uint64_t word, uint32_t line)
{
    struct gwi_arena *arena = gwi_chunk_arena(word);
    struct gw_bucket *bucket = gwi_chunk_line(word, line);
    for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) /* a split has filled it */
        atomic_store_explicit(&bucket->word[i], 0, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&arena->free, memory_order_relaxed);
    uint64_t next;
    do {
        atomic_store_explicit(&bucket->word[GW_BUCKET_OVERFLOW], (uint32_t)head,
                              memory_order_relaxed);
        next = ((head >> 32) + 1) << 32 | line;
        /* Release: the words above; pairs with the acquires in take_free. */
    } while (!atomic_compare_exchange_weak_explicit(&arena->free, &head, next, memory_order_release,
                                                    memory_order_relaxed));
    atomic_fetch_sub_explicit(&arena->used, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&table->grow->lines_used, 1, memory_order_relaxed);
}
