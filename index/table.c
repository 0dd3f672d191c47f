/* table.c - creation, the two-step tentative insert (ENGINE H15, after FASTER section 3.2), the
 * entries of a bucket, numbers.
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
 *  5. An entry below the log's begin is dead: before a full chain gets a line its place is taken,
 *     by CAS of the whole word. Who still holds the old word sees his CAS fail.
 *  6. A frozen or never-written word means that the bucket is being split (table_split.c): step
 *     back, finish that, begin again. A tentative word is frozen as empty, so nothing of it stays,
 *     and its confirmation fails: that is why it is a CAS. */
#include "index/table.h"

#include <stdlib.h>
#include <string.h>

#include "index/table_internal.h"
#include "index/table_snapshot.h"

#define CHUNK_BITS_DEFAULT 15u /* 2^15 buckets of 64 bytes: one huge page */
#define CHUNK_BITS_SMALL   8u  /* below, what is charged for lines is most of a chunk */
#define CHUNKS_WANTED_BITS 4u  /* sixteen chunks, to spread their growth */
#define INSERT_TRIES       64u

static uint32_t floor_log2(uint64_t n)
{
    return 63u - (uint32_t)__builtin_clzll(n);
}

static uint32_t chunk_bits_for(uint32_t total_bits, uint32_t wanted)
{
    uint32_t bits = wanted;
    if (bits == 0) {
        bits = total_bits > CHUNKS_WANTED_BITS ? total_bits - CHUNKS_WANTED_BITS : 0;
        if (bits > CHUNK_BITS_DEFAULT)
            bits = CHUNK_BITS_DEFAULT;
        if (bits < CHUNK_BITS_SMALL)
            bits = CHUNK_BITS_SMALL;
    }
    if (bits > total_bits)
        bits = total_bits;
    if (total_bits - bits > GW_DIRECTORY_BITS_MAX)
        bits = total_bits - GW_DIRECTORY_BITS_MAX;
    return bits;
}

static enum gw_status create(const struct gw_table_options *options,
                             const struct gwi_table_shape *shape, struct gw_table **out)
{
    uint64_t chunks = (uint64_t)1 << shape->directory_bits;
    struct gw_table *table = calloc(1, sizeof *table);
    if (!table)
        return GW_E_NOMEM;
    table->directory_bits = shape->directory_bits;
    table->bucket_bits = shape->bucket_bits;
    table->split_shift = 64 - shape->directory_bits - shape->bucket_bits - GWI_ENTRY_BITS;
    table->directory = calloc(chunks, sizeof *table->directory);
    if (!table->directory)
        goto fail_directory;
    struct gwi_grow *grow = aligned_alloc(GW_CACHE_LINE, sizeof *grow);
    if (!grow)
        goto fail_grow;
    memset(grow, 0, sizeof *grow);
    table->grow = grow;
    grow->records = options->records;

    uint64_t made = 0, bytes = 0, buckets = 0;
    for (; made < chunks; made++) {
        uint64_t word;
        uint32_t bits = shape->chunk_bits[made];
        if (gwi_chunk_create(table, made, bits, &word, &table->pages) != GW_OK)
            goto fail_chunks;
        atomic_init(&table->directory[made], word);
        atomic_init(&grow->chunk_bits[made], (uint8_t)bits);
        bytes += gwi_chunk_bytes_at_start(bits);
        buckets += (uint64_t)1 << bits;
    }
    atomic_init(&grow->bytes, bytes);
    atomic_init(&grow->buckets, buckets);
    atomic_init(&grow->lines, bytes / sizeof(struct gw_bucket) - buckets - chunks);
    grow->fixed = options->bytes_max < options->bytes;
    grow->bytes_max = options->bytes_max > options->bytes ? options->bytes_max : options->bytes;
    *out = table;
    return GW_OK;

fail_chunks:
    while (made-- > 0) {
        uint64_t done = 0;
        gwi_chunk_unmap(atomic_load_explicit(&table->directory[made], memory_order_relaxed), &done,
                        UINT64_MAX);
    }
    free(grow);
fail_grow:
    free((void *)table->directory);
fail_directory:
    free(table);
    return GW_E_NOMEM;
}

enum gw_status gw_table_create(const struct gw_table_options *options, struct gw_table **out)
{
    if (options->bytes < GW_TABLE_BYTES_MIN || options->bytes > (uint64_t)1 << 46)
        return GW_E_INVALID;
    uint32_t total_bits = floor_log2(options->bytes / 3 * 2 / sizeof(struct gw_bucket));
    uint32_t chunk_bits = chunk_bits_for(total_bits, options->chunk_bits);
    struct gwi_table_shape shape = {.directory_bits = total_bits - chunk_bits,
                                    .bucket_bits = chunk_bits};
    memset(shape.chunk_bits, (int)chunk_bits, (size_t)1 << shape.directory_bits);
    return create(options, &shape, out);
}

enum gw_status gwi_table_create_shaped(const struct gw_table_options *options,
                                       const struct gwi_table_shape *shape, struct gw_table **out)
{
    GW_ASSERT(gwi_table_shape_is_valid(shape));
    return create(options, shape, out);
}

void gw_table_destroy(struct gw_table *table)
{
    if (!table)
        return;
    gwi_grow_end(table);
    for (uint64_t i = 0; i < (uint64_t)1 << table->directory_bits; i++) {
        uint64_t done = 0;
        gwi_chunk_unmap(atomic_load_explicit(&table->directory[i], memory_order_relaxed), &done,
                        UINT64_MAX);
    }
    free(table->grow);
    free((void *)table->directory);
    free(table);
}

void gw_table_populate(struct gw_table *table)
{
    for (uint64_t i = 0; i < (uint64_t)1 << table->directory_bits; i++) {
        uint64_t word = atomic_load_explicit(&table->directory[i], memory_order_relaxed);
        gw_memory_populate(gwi_chunk_buckets(word), gwi_chunk_bytes_at_start(gwi_chunk_bits(word)));
    }
}

/* ---- insertion ---- */

/* Adds a line behind `last`, or finds that another thread has. GW_E_FULL: none may be taken;
 * GW_WOULD_BLOCK: not before the chunk has grown. */
static enum gw_status extend(struct gw_table *table, uint64_t word, struct gw_bucket *last)
{
    uint32_t line = gwi_line_take(table, word, false);
    if (line == 0)
        return gwi_grow_helps(table, gwi_chunk_arena(word)) ? GW_WOULD_BLOCK : GW_E_FULL;
    uint64_t none = 0;
    GWI_STEP();
    /* seq_cst: part of what rule 2's second scan must see; also releases the line's zeros. A frozen
     * pointer is not 0. */
    if (!atomic_compare_exchange_strong_explicit(&last->word[GW_BUCKET_OVERFLOW], &none, line,
                                                 memory_order_seq_cst, memory_order_relaxed))
        gwi_line_give_back(table, word, line);
    return GW_OK;
}

/* A dead entry of the chain (rule 5): its place and the word that is there; NULL: none. */
static _Atomic uint64_t *find_dead(const struct gw_table *table, struct gwi_spot spot,
                                   uint64_t *dead)
{
    const struct gw_table_records *records = &table->grow->records;
    if (!records->range)
        return NULL;
    gw_addr begin, reference;
    records->range(records->ctx, &begin, &reference);
    for (struct gw_bucket *b = spot.bucket; b;
         b = gwi_chunk_next_line(spot.word, b, memory_order_acquire))
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            uint64_t e = atomic_load_explicit(&b->word[i], memory_order_acquire);
            if (gw_entry_is_live(e) && gwi_entry_dead(e, begin, reference)) {
                *dead = e;
                return &b->word[i];
            }
        }
    return NULL;
}

enum gw_status gwi_table_place(struct gw_table *table, uint64_t hash, uint64_t tag, gw_addr address,
                               _Atomic uint64_t **place, uint64_t *entry)
{
    uint64_t tentative = gw_entry_make(tag, address) | GW_ENTRY_TENTATIVE_BIT;
    struct gwi_spot spot = gwi_table_locate(table, hash);
    struct gw_bucket *last = NULL;
    _Atomic uint64_t *free_place = NULL;
    uint64_t there = 0;
    for (struct gw_bucket *b = spot.bucket; b;
         b = gwi_chunk_next_line(spot.word, b, memory_order_acquire)) {
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            GWI_STEP();
            uint64_t e = atomic_load_explicit(&b->word[i], memory_order_acquire);
            if (gw_entry_matches(e, tag)) {
                *place = &b->word[i];
                *entry = e;
                return GW_EXISTS;
            }
            if (GW_UNLIKELY(gw_entry_state(e) >= GW_ENTRY_FROZEN))
                return GW_RETRY;
            if (e == 0 && !free_place)
                free_place = &b->word[i];
        }
        last = b;
    }
    if (!free_place)
        free_place = find_dead(table, spot, &there);
    if (!free_place) {
        enum gw_status st = extend(table, spot.word, last);
        return st == GW_OK ? GW_RETRY : st; /* the caller scans again, the new line included */
    }
    GWI_STEP();
    /* seq_cst: before the second scan's loads (rule 2). */
    if (!atomic_compare_exchange_strong_explicit(free_place, &there, tentative,
                                                 memory_order_seq_cst, memory_order_relaxed))
        return GW_RETRY;
    *place = free_place;
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
    struct gwi_spot spot = gwi_table_locate(table, hash);
    for (struct gw_bucket *b = spot.bucket; b;
         b = gwi_chunk_next_line(spot.word, b, memory_order_seq_cst)) {
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            if (&b->word[i] == mine) {
                above = true;
                continue;
            }
            GWI_STEP();
            /* seq_cst: rule 2. */
            uint64_t e = atomic_load_explicit(&b->word[i], memory_order_seq_cst);
            if ((e & ~GW_ENTRY_TENTATIVE_BIT) >> GW_ENTRY_TAG_SHIFT == tag && above &&
                gw_entry_state(e) == GW_ENTRY_TENTATIVE) {
                GWI_STEP();
                /* Rule 3: we are lower. Failure: it was confirmed, withdrawn or frozen; `e` says
                 * which. */
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
            if ((e != 0 && e >> GW_ENTRY_TAG_SHIFT == (tag | GW_ENTRY_TENTATIVE)) ||
                GW_UNLIKELY(gw_entry_state(e) >= GW_ENTRY_FROZEN)) {
                /* A lower one, or a place that changed hands while we looked: let it go first. Or
                 * rule 6. */
                withdraw(mine, tentative);
                return GW_RETRY;
            }
        }
    }
    if (GW_UNLIKELY(!above))
        return GW_RETRY; /* our place was split: it is frozen, as empty (rule 6) */
    GWI_STEP();
    /* Release: the record before the entry that leads to it; pairs with gw_bucket_find. */
    if (!atomic_compare_exchange_strong_explicit(mine, &tentative, live, memory_order_seq_cst,
                                                 memory_order_relaxed))
        return GW_RETRY; /* a lower one took ours away, or it was frozen */
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
    return st == GW_WOULD_BLOCK ? GW_RETRY : st;
}

/* ---- the entries of a bucket ---- */

void gw_table_chain_open(const struct gw_table *table, uint64_t hash, struct gw_table_chain *chain)
{
    struct gwi_spot spot = gwi_table_locate(table, hash);
    uint32_t span_bits = 64 - table->directory_bits - gwi_chunk_bits(spot.word);
    uint64_t mask = ((uint64_t)1 << span_bits) - 1; /* a table has at least two buckets */
    *chain = (struct gw_table_chain){
        .first = hash & ~mask,
        .last = hash | mask,
        .word = spot.word,
        .line = spot.bucket,
    };
}

_Atomic uint64_t *gw_table_chain_next(struct gw_table_chain *chain, uint64_t *entry)
{
    while (chain->line) {
        for (; chain->next < GW_BUCKET_ENTRIES; chain->next++) {
            _Atomic uint64_t *place = &chain->line->word[chain->next];
            GWI_STEP();
            /* Acquire: as in gw_bucket_find. */
            uint64_t e = atomic_load_explicit(place, memory_order_acquire);
            if (GW_UNLIKELY(gw_entry_state(e) >= GW_ENTRY_FROZEN)) {
                chain->moved = true;
                chain->line = NULL;
                return NULL;
            }
            if (gw_entry_is_live(e)) {
                chain->next++;
                *entry = e;
                return place;
            }
        }
        chain->next = 0;
        chain->line = gwi_chunk_next_line(chain->word, chain->line, memory_order_acquire);
    }
    return NULL;
}

/* ---- numbers: counters, since chunks may be looked at inside the epoch only ---- */

uint64_t gw_table_memory_bytes(const struct gw_table *table)
{
    return atomic_load_explicit(&table->grow->bytes, memory_order_relaxed);
}

uint64_t gw_table_buckets(const struct gw_table *table)
{
    return atomic_load_explicit(&table->grow->buckets, memory_order_relaxed);
}

uint64_t gw_table_lines_used(const struct gw_table *table)
{
    return atomic_load_explicit(&table->grow->lines_used, memory_order_relaxed);
}

uint64_t gw_table_lines_total(const struct gw_table *table)
{
    uint64_t bytes = gw_table_memory_bytes(table), max = table->grow->bytes_max;
    uint64_t room = bytes < max ? max - bytes : 0;
    return atomic_load_explicit(&table->grow->lines, memory_order_relaxed) +
           room / sizeof(struct gw_bucket);
}

uint64_t gw_table_splits(const struct gw_table *table)
{
    return atomic_load_explicit(&table->grow->splits, memory_order_relaxed);
}
