/* table.c - creation and the two-step tentative insert (ENGINE H15, after FASTER section 3.2).
 *
 * Rules:
 *  1. The record is written before its entry is: an entry never exists without an address, so that
 *     equal words have equal histories (addresses are not reused).
 *  2. Insert: CAS empty -> tentative (seq_cst), scan the whole chain again (seq_cst), then CAS
 *     tentative -> live. Two inserters of one tag each write before they scan, so at least one of
 *     them sees the other (Dekker); hence the orders, which TSan does not check.
 *  3. Tie between two tentative entries: the lower place wins. It may CAS the other's word away;
 *     the higher one takes its own away and starts over. Therefore confirmation is a CAS, and
 *     somebody always gets on.
 *  4. A full chain gets a line of its chunk's arena by CAS on the last line's overflow word; who
 *     loses gives the line back and goes on with the winner's. Lines are linked empty and leave
 *     only with their chunk.
 * Frozen and never-written words belong to growth, which this version does not have: nothing here
 * writes them, and no look-up takes them for live. */
#include "index/table.h"

#include <stdlib.h>
#include <string.h>

#include "index/table_internal.h"

#define CHUNK_BITS_DEFAULT 15u /* 2^15 buckets of 64 bytes: one huge page */
#define INSERT_TRIES       64u

static uint32_t floor_log2(uint64_t n)
{
    return 63u - (uint32_t)__builtin_clzll(n);
}

enum gw_status gw_table_create(uint64_t bytes, uint32_t chunk_bits, struct gw_table **out)
{
    if (bytes < GW_TABLE_BYTES_MIN || bytes > (uint64_t)1 << 46)
        return GW_E_INVALID;
    uint32_t total_bits = floor_log2(bytes / 3 * 2 / sizeof(struct gw_bucket));
    if (chunk_bits == 0)
        chunk_bits = CHUNK_BITS_DEFAULT;
    if (chunk_bits > total_bits)
        chunk_bits = total_bits;
    if (total_bits - chunk_bits > GW_DIRECTORY_BITS_MAX)
        chunk_bits = total_bits - GW_DIRECTORY_BITS_MAX;
    uint32_t directory_bits = total_bits - chunk_bits;
    uint64_t chunks = (uint64_t)1 << directory_bits;
    uint64_t chunk_bytes = bytes / chunks / sizeof(struct gw_bucket) * sizeof(struct gw_bucket);
    uint64_t lines = chunk_bytes / sizeof(struct gw_bucket) - ((uint64_t)1 << chunk_bits);

    struct gw_table *table = calloc(1, sizeof *table);
    if (!table)
        return GW_E_NOMEM;
    table->directory_bits = directory_bits;
    table->bucket_bits = chunk_bits;
    table->split_shift = 64 - total_bits - 6;
    table->lines = lines > UINT32_MAX - 1 ? UINT32_MAX - 1 : (uint32_t)lines;
    table->memory_bytes = chunk_bytes * chunks;

    table->directory = calloc(chunks, sizeof *table->directory);
    if (!table->directory)
        goto fail_directory;
    table->arenas = aligned_alloc(GW_CACHE_LINE, chunks * sizeof *table->arenas);
    if (!table->arenas)
        goto fail_arenas;
    memset(table->arenas, 0, chunks * sizeof *table->arenas);
    if (gw_memory_map(table->memory_bytes, &table->memory, &table->pages) != GW_OK)
        goto fail_memory;
    for (uint64_t i = 0; i < chunks; i++) {
        uint64_t base = (uint64_t)(uintptr_t)table->memory + i * chunk_bytes;
        GW_ASSERT((base & ~(uint64_t)0x0000ffffffffffc0u) == 0);
        atomic_init(&table->directory[i], base | chunk_bits);
    }
    *out = table;
    return GW_OK;

fail_memory:
    free(table->arenas);
fail_arenas:
    free((void *)table->directory);
fail_directory:
    free(table);
    return GW_E_NOMEM;
}

void gw_table_destroy(struct gw_table *table)
{
    if (!table)
        return;
    gw_memory_unmap(table->memory, table->memory_bytes);
    free(table->arenas);
    free((void *)table->directory);
    free(table);
}

/* ---- overflow lines ---- */

static struct gw_bucket *line_at(const struct gw_table *table, uint64_t chunk, uint32_t line)
{
    uint64_t word = atomic_load_explicit(&table->directory[chunk], memory_order_acquire);
    return gwi_chunk_buckets(word) + ((uint64_t)1 << gwi_chunk_bits(word)) + line - 1;
}

uint32_t gwi_line_take(struct gw_table *table, uint64_t chunk)
{
    struct gwi_arena *arena = &table->arenas[chunk];
    /* Acquire: the link in the line comes before the head that leads to it; pairs with the release
     * in gwi_line_give_back. The tag changes with every push, so an old head never matches: reading
     * the link of a line that somebody else has taken meanwhile is harmless. */
    uint64_t head = atomic_load_explicit(&arena->free, memory_order_acquire);
    while ((uint32_t)head != 0) {
        struct gw_bucket *line = line_at(table, chunk, (uint32_t)head);
        uint32_t below =
            (uint32_t)atomic_load_explicit(&line->word[GW_BUCKET_OVERFLOW], memory_order_relaxed);
        uint64_t next = (head & ~(uint64_t)UINT32_MAX) | below;
        if (atomic_compare_exchange_weak_explicit(&arena->free, &head, next, memory_order_acquire,
                                                  memory_order_acquire)) {
            /* Relaxed: private now; published by the CAS that links it. */
            atomic_store_explicit(&line->word[GW_BUCKET_OVERFLOW], 0, memory_order_relaxed);
            atomic_fetch_add_explicit(&arena->used, 1, memory_order_relaxed); /* a statistic */
            return (uint32_t)head;
        }
    }
    /* Relaxed: a number nobody else gets; the line's words are zero from the start. */
    uint32_t next = atomic_load_explicit(&arena->next, memory_order_relaxed);
    while (next < table->lines) {
        if (atomic_compare_exchange_weak_explicit(&arena->next, &next, next + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            atomic_fetch_add_explicit(&arena->used, 1, memory_order_relaxed);
            return next + 1;
        }
    }
    return 0;
}

void gwi_line_give_back(struct gw_table *table, uint64_t chunk, uint32_t line)
{
    struct gwi_arena *arena = &table->arenas[chunk];
    struct gw_bucket *bucket = line_at(table, chunk, line);
    uint64_t head = atomic_load_explicit(&arena->free, memory_order_relaxed);
    uint64_t next;
    do {
        atomic_store_explicit(&bucket->word[GW_BUCKET_OVERFLOW], (uint32_t)head,
                              memory_order_relaxed);
        next = ((head >> 32) + 1) << 32 | line;
        /* Release: the link above; pairs with the acquires in gwi_line_take. */
    } while (!atomic_compare_exchange_weak_explicit(&arena->free, &head, next, memory_order_release,
                                                    memory_order_relaxed));
    atomic_fetch_sub_explicit(&arena->used, 1, memory_order_relaxed);
}

/* Adds a line behind `last`, or finds that another thread has. GW_E_FULL: none left. */
static enum gw_status extend(struct gw_table *table, uint64_t hash, struct gw_bucket *last)
{
    uint64_t chunk = gwi_table_chunk(table, hash);
    uint32_t line = gwi_line_take(table, chunk);
    if (line == 0)
        return GW_E_FULL;
    uint64_t none = 0;
    /* seq_cst: part of what rule 2's second scan must see; also releases the line's zeros. */
    if (!atomic_compare_exchange_strong_explicit(&last->word[GW_BUCKET_OVERFLOW], &none, line,
                                                 memory_order_seq_cst, memory_order_relaxed))
        gwi_line_give_back(table, chunk, line);
    return GW_OK;
}

/* ---- insertion ---- */

enum gw_status gwi_table_place(struct gw_table *table, uint64_t hash, uint64_t tag, gw_addr address,
                               _Atomic uint64_t **place, uint64_t *entry)
{
    uint64_t tentative = gw_entry_make(tag, address) | GW_ENTRY_TENTATIVE_BIT;
    struct gw_bucket *bucket = gw_table_bucket(table, hash);
    _Atomic uint64_t *empty = NULL;
    for (;;) {
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            uint64_t e = atomic_load_explicit(&bucket->word[i], memory_order_acquire);
            if (gw_entry_matches(e, tag)) {
                *place = &bucket->word[i];
                *entry = e;
                return GW_EXISTS;
            }
            if (e == 0 && !empty)
                empty = &bucket->word[i];
        }
        struct gw_bucket *next = gw_table_next_line(table, hash, bucket, memory_order_acquire);
        if (!next)
            break;
        bucket = next;
    }
    if (!empty) {
        enum gw_status st = extend(table, hash, bucket);
        return st == GW_OK ? GW_RETRY : st; /* the caller scans again, the new line included */
    }
    uint64_t none = 0;
    /* seq_cst: before the second scan's loads (rule 2). */
    if (!atomic_compare_exchange_strong_explicit(empty, &none, tentative, memory_order_seq_cst,
                                                 memory_order_relaxed))
        return GW_RETRY;
    *place = empty;
    *entry = tentative;
    return GW_OK;
}

/* Takes our tentative word away; if somebody else has done so already, that is as good. */
static void withdraw(_Atomic uint64_t *place, uint64_t tentative)
{
    /* Relaxed: an empty word publishes nothing. */
    atomic_compare_exchange_strong_explicit(place, &tentative, 0, memory_order_relaxed,
                                            memory_order_relaxed);
}

enum gw_status gwi_table_confirm(struct gw_table *table, uint64_t hash, _Atomic uint64_t **place,
                                 uint64_t *entry)
{
    _Atomic uint64_t *mine = *place;
    uint64_t tentative = *entry;
    uint64_t live = tentative & ~GW_ENTRY_TENTATIVE_BIT;
    uint64_t tag = live >> GW_ENTRY_TAG_SHIFT;
    bool above = false; /* have we met our own place? then what follows is higher */
    for (struct gw_bucket *b = gw_table_bucket(table, hash); b;
         b = gw_table_next_line(table, hash, b, memory_order_seq_cst)) {
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            if (&b->word[i] == mine) {
                above = true;
                continue;
            }
            /* seq_cst: rule 2. */
            uint64_t e = atomic_load_explicit(&b->word[i], memory_order_seq_cst);
            if ((e & ~GW_ENTRY_TENTATIVE_BIT) >> GW_ENTRY_TAG_SHIFT == tag && above &&
                gw_entry_state(e) == GW_ENTRY_TENTATIVE) {
                /* Rule 3: we are lower. Failure: it was confirmed or withdrawn; `e` says which. */
                if (atomic_compare_exchange_strong_explicit(&b->word[i], &e, 0,
                                                            memory_order_seq_cst,
                                                            memory_order_seq_cst))
                    continue;
            }
            if (gw_entry_matches(e, tag)) {
                withdraw(mine, tentative);
                *place = &b->word[i];
                *entry = e;
                return GW_EXISTS;
            }
            if (e != 0 && e >> GW_ENTRY_TAG_SHIFT == (tag | GW_ENTRY_TENTATIVE)) {
                /* A lower one, or a place that changed hands while we looked: let it go first. */
                withdraw(mine, tentative);
                return GW_RETRY;
            }
        }
    }
    GW_ASSERT(above);
    /* Release: the record before the entry that leads to it; pairs with gw_bucket_find. */
    if (!atomic_compare_exchange_strong_explicit(mine, &tentative, live, memory_order_seq_cst,
                                                 memory_order_relaxed))
        return GW_RETRY; /* a lower one took ours away */
    *entry = live;
    return GW_OK;
}

enum gw_status gw_table_insert(struct gw_table *table, uint64_t hash, uint64_t tag, gw_addr address,
                               _Atomic uint64_t **place, uint64_t *entry)
{
    enum gw_status st = GW_RETRY;
    for (uint32_t tries = 0; tries < INSERT_TRIES && st == GW_RETRY; tries++) {
        st = gwi_table_place(table, hash, tag, address, place, entry);
        if (st == GW_OK)
            st = gwi_table_confirm(table, hash, place, entry);
    }
    return st;
}

/* ---- positions and numbers ---- */

void gw_table_bucket_range(const struct gw_table *table, uint64_t hash, uint64_t *first,
                           uint64_t *last)
{
    uint64_t word =
        atomic_load_explicit(&table->directory[gwi_table_chunk(table, hash)], memory_order_acquire);
    uint32_t span_bits = 64 - table->directory_bits - gwi_chunk_bits(word);
    uint64_t mask = ((uint64_t)1 << span_bits) - 1; /* a table has at least two buckets */
    *first = hash & ~mask;
    *last = hash | mask;
}

uint64_t gw_table_buckets(const struct gw_table *table)
{
    return (uint64_t)1 << (table->directory_bits + table->bucket_bits);
}

uint64_t gw_table_lines_used(const struct gw_table *table)
{
    uint64_t used = 0;
    for (uint64_t i = 0; i < (uint64_t)1 << table->directory_bits; i++)
        used += atomic_load_explicit(&table->arenas[i].used, memory_order_relaxed);
    return used;
}

uint64_t gw_table_lines_total(const struct gw_table *table)
{
    return (uint64_t)table->lines << table->directory_bits;
}
