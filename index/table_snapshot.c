/* table_snapshot.c - the table as a stream of words (table_snapshot.h), and back.
 *
 * Rules:
 *  1. A position is a hash. A chunk is announced with a number of buckets and written in such; a
 *     bucket that is found coarser, since its split has not come yet, is written as the buckets
 * that will become of it. One that is found finer makes the chunk begin anew: chunks only grow,
 * each time to the double, so this ends, and all of it together is less than one more pass.
 *  2. What is there all the time is written. What comes, goes or is raised meanwhile may be written
 *     or not: whoever loads the stream knows that from the log (store_recover.h).
 *  3. An entry of a coarser bucket goes to the finer ones that its six bits name, and beyond them
 * to all, as a split does that cannot read the records (table_split.c, rule 6).
 *  4. A loader trusts nothing: it may be handed a file of another store.
 *  5. An entry that is taken out while its bucket is copied may be met again further on, made anew:
 *     one of a tag is written, the one that was met last, for it is the newer. */
#include "index/table_snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "index/table_internal.h"

enum word_kind { WORD_ENTRY = 0, WORD_BUCKETS = 1, WORD_CHUNK = 2 };

static uint64_t word_make(enum word_kind kind, uint64_t value)
{
    return (uint64_t)kind << GW_ENTRY_STATE_SHIFT | value;
}

/* ---- shape ---- */

void gwi_table_shape_of(const struct gw_table *table, struct gwi_table_shape *out)
{
    memset(out, 0, sizeof *out);
    out->directory_bits = table->directory_bits;
    out->bucket_bits = table->bucket_bits;
    for (uint64_t i = 0; i < (uint64_t)1 << table->directory_bits; i++)
        out->chunk_bits[i] =
            atomic_load_explicit(&table->grow->chunk_bits[i], memory_order_relaxed);
}

bool gwi_table_shape_is_valid(const struct gwi_table_shape *shape)
{
    uint32_t smallest = shape->directory_bits + shape->bucket_bits;
    if (shape->directory_bits > GW_DIRECTORY_BITS_MAX || smallest == 0 ||
        smallest > GWI_TABLE_BITS_MAX)
        return false;
    for (uint64_t i = 0; i < (uint64_t)1 << shape->directory_bits; i++)
        if (shape->chunk_bits[i] < shape->bucket_bits ||
            shape->chunk_bits[i] + shape->directory_bits > GWI_TABLE_BITS_MAX)
            return false;
    return true;
}

uint64_t gwi_table_shape_bytes(const struct gwi_table_shape *shape)
{
    uint64_t bytes = 0;
    for (uint64_t i = 0; i < (uint64_t)1 << shape->directory_bits; i++)
        bytes += gwi_chunk_bytes_at_start(shape->chunk_bits[i]);
    return bytes;
}

/* Does an entry of a bucket of 2^old_bits go to the child-th of those that it has become, of
 * 2^new_bits (rule 3)? */
static bool goes_to(const struct gw_table *table, uint64_t entry, uint32_t old_bits,
                    uint32_t new_bits, uint64_t child)
{
    for (uint32_t bits = old_bits; bits < new_bits; bits++) {
        uint32_t doublings = bits - table->bucket_bits;
        if (doublings >= GWI_ENTRY_BITS)
            return true;
        uint32_t side = gw_entry_hash_bits(entry) >> (GWI_ENTRY_BITS - 1 - doublings) & 1;
        if (side != (child >> (new_bits - 1 - bits) & 1))
            return false;
    }
    return true;
}

/* ---- writing ---- */

void gwi_table_writer_init(struct gwi_table_writer *writer, const struct gw_table *table)
{
    *writer = (struct gwi_table_writer){.table = table};
}

void gwi_table_writer_fini(struct gwi_table_writer *writer)
{
    free(writer->words);
    free(writer->bucket);
}

uint32_t gwi_table_writer_take(struct gwi_table_writer *writer, uint64_t *out, uint32_t max)
{
    uint64_t n = writer->count - writer->taken;
    if (n > max)
        n = max;
    if (n != 0)
        memcpy(out, writer->words + writer->taken, n * sizeof *out);
    writer->taken += n;
    if (writer->taken == writer->count)
        writer->taken = writer->count = 0;
    return (uint32_t)n;
}

static bool room_want(uint64_t **words, uint64_t *room, uint64_t wanted)
{
    if (wanted <= *room)
        return true;
    uint64_t next = wanted > 2 * *room ? wanted : 2 * *room;
    uint64_t *more = realloc(*words, next * sizeof **words);
    if (!more)
        return false;
    *words = more;
    *room = next;
    return true;
}

/* Copies the entries of the bucket that holds writer->hash; -1: no memory. */
static int64_t bucket_copy(struct gwi_table_writer *w, struct gw_table_chain *chain)
{
    uint64_t n;
    do {
        uint64_t e;
        n = 0;
        gw_table_chain_open(w->table, w->hash, chain);
        while (gw_table_chain_next(chain, &e)) {
            if (!room_want(&w->bucket, &w->bucket_room, n + 64))
                return -1;
            uint64_t at = 0;
            while (at < n && w->bucket[at] >> GW_ENTRY_TAG_SHIFT != e >> GW_ENTRY_TAG_SHIFT)
                at++;
            w->bucket[at] = e; /* rule 5 */
            n += at == n;
        }
    } while (chain->moved);
    return (int64_t)n;
}

/* The present bucket ends; one more empty one is counted in the word that is there. */
static void bucket_end(struct gwi_table_writer *w, uint64_t entries)
{
    uint64_t *last = w->count > w->taken ? &w->words[w->count - 1] : NULL;
    bool joins = entries == 0 && last && gw_entry_state(*last) == GW_ENTRY_TENTATIVE &&
                 gw_entry_narrow(*last) < GW_ADDR_MASK;
    if (joins)
        (*last)++;
    else
        w->words[w->count++] = word_make(WORD_BUCKETS, 1);
}

static enum gw_status bucket_write(struct gwi_table_writer *w)
{
    struct gw_table_chain chain;
    uint32_t directory_bits = w->table->directory_bits;
    int64_t copied = bucket_copy(w, &chain);
    if (copied < 0)
        return GW_E_NOMEM;
    uint64_t n = (uint64_t)copied, span = chain.last - chain.first;
    uint32_t found_bits = (uint32_t)__builtin_clzll(span) - directory_bits;
    uint64_t number = gwi_table_chunk(w->table, chain.first);
    uint64_t chunk_span = UINT64_MAX >> directory_bits;
    bool begins = (chain.first & chunk_span) == 0;
    if (!begins && found_bits > w->chunk_bits) { /* rule 1 */
        w->hash = chain.first & ~chunk_span;
        return GW_OK;
    }
    uint32_t bits = w->chunk_bits;
    if (begins) /* relaxed: not below what was found, for that came with the directory's word */
        bits = atomic_load_explicit(&w->table->grow->chunk_bits[number], memory_order_relaxed);
    uint64_t children = (uint64_t)1 << (bits - found_bits);
    if (!room_want(&w->words, &w->room, w->count + 1 + (n + 1) * children))
        return GW_E_NOMEM;
    if (begins) {
        w->words[w->count++] = word_make(WORD_CHUNK, number << 6 | bits);
        w->chunk_bits = bits;
    }
    for (uint64_t child = 0; child < children; child++) {
        uint64_t before = w->count;
        for (uint64_t i = 0; i < n; i++)
            if (goes_to(w->table, w->bucket[i], found_bits, bits, child))
                w->words[w->count++] = w->bucket[i];
        w->entries += w->count - before;
        bucket_end(w, w->count - before);
    }
    w->done = chain.last == UINT64_MAX;
    w->hash = chain.last + 1;
    return GW_OK;
}

enum gw_status gwi_table_writer_step(struct gwi_table_writer *writer, uint32_t buckets)
{
    enum gw_status st = GW_OK;
    for (uint32_t i = 0; i < buckets && !writer->done && st == GW_OK; i++)
        st = bucket_write(writer);
    return st;
}

/* ---- loading ---- */

void gwi_table_loader_init(struct gwi_table_loader *loader, struct gw_table *table)
{
    *loader = (struct gwi_table_loader){.table = table};
}

static uint64_t chunk_word(const struct gwi_table_loader *l, uint64_t number)
{
    /* Relaxed: nobody else uses the table. */
    return atomic_load_explicit(&l->table->directory[number], memory_order_relaxed);
}

static uint64_t entries_of(const struct gw_bucket *b)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++)
        n += atomic_load_explicit(&b->word[i], memory_order_relaxed) != 0;
    return n;
}

/* Makes the chunk empty, with this many buckets at least. */
static enum gw_status chunk_renew(struct gwi_table_loader *l, uint64_t number, uint32_t bits)
{
    struct gwi_grow *grow = l->table->grow;
    uint64_t old = chunk_word(l, number), word;
    uint64_t old_buckets = (uint64_t)1 << gwi_chunk_bits(old);
    if (bits < gwi_chunk_bits(old))
        bits = gwi_chunk_bits(old);
    enum gw_status st = gwi_chunk_create(l->table, number, bits, &word, NULL);
    if (st != GW_OK)
        return st;
    const struct gwi_arena *arena = gwi_chunk_arena(old), *next = gwi_chunk_arena(word);
    /* Relaxed, all: numbers, and nobody else uses the table. */
    uint32_t lines = atomic_load_explicit(&arena->next, memory_order_relaxed);
    for (uint64_t i = 0; i < old_buckets; i++)
        l->loaded -= entries_of(gwi_chunk_buckets(old) + i);
    for (uint32_t line = 1; line <= lines; line++)
        l->loaded -= entries_of(gwi_chunk_line(old, line));
    atomic_fetch_sub_explicit(&grow->lines_used,
                              atomic_load_explicit(&arena->used, memory_order_relaxed),
                              memory_order_relaxed);
    atomic_fetch_sub_explicit(&grow->lines,
                              atomic_load_explicit(&arena->charged, memory_order_relaxed),
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&grow->lines,
                              atomic_load_explicit(&next->charged, memory_order_relaxed),
                              memory_order_relaxed);
    atomic_fetch_sub_explicit(&grow->bytes, gwi_chunk_bytes(old), memory_order_relaxed);
    atomic_fetch_add_explicit(&grow->bytes, gwi_chunk_bytes(word), memory_order_relaxed);
    atomic_fetch_sub_explicit(&grow->buckets, old_buckets, memory_order_relaxed);
    atomic_fetch_add_explicit(&grow->buckets, (uint64_t)1 << bits, memory_order_relaxed);
    atomic_store_explicit(&l->table->directory[number], word, memory_order_relaxed);
    atomic_store_explicit(&grow->chunk_bits[number], (uint8_t)bits, memory_order_relaxed);
    uint64_t done = 0;
    gwi_chunk_unmap(old, &done, UINT64_MAX);
    return GW_OK;
}

static enum gw_status chunk_begin(struct gwi_table_loader *l, uint64_t value)
{
    uint64_t number = value >> 6;
    uint32_t bits = (uint32_t)value & 63;
    bool ended = l->in_chunk && l->bucket == (uint64_t)1 << l->chunk_bits;
    bool again = l->in_chunk && !ended && number == l->chunk && bits > l->chunk_bits;
    bool next = l->in_chunk ? ended && number == l->chunk + 1 : number == 0;
    if (!(again || next) || number >> l->table->directory_bits != 0 ||
        bits < l->table->bucket_bits || bits + l->table->directory_bits > GWI_TABLE_BITS_MAX)
        return GW_E_CORRUPT;
    if (again || bits > gwi_chunk_bits(chunk_word(l, number))) {
        enum gw_status st = chunk_renew(l, number, bits);
        if (st != GW_OK)
            return st;
    }
    l->chunk = number;
    l->chunk_bits = bits;
    l->bucket = 0;
    l->in_chunk = true;
    return GW_OK;
}

/* Adds an entry to a bucket that nobody else uses. */
static enum gw_status bucket_add(struct gwi_table_loader *l, uint64_t word, struct gw_bucket *b,
                                 uint64_t entry)
{
    for (;;) {
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            uint64_t there = atomic_load_explicit(&b->word[i], memory_order_relaxed);
            if (there == 0) {
                atomic_store_explicit(&b->word[i], entry, memory_order_relaxed);
                l->loaded++;
                return GW_OK;
            }
            if (there >> GW_ENTRY_TAG_SHIFT == entry >> GW_ENTRY_TAG_SHIFT)
                return GW_E_CORRUPT; /* one entry a tag */
        }
        struct gw_bucket *next = gwi_chunk_next_line(word, b, memory_order_relaxed);
        if (!next) {
            uint32_t line = gwi_line_take(l->table, word, true);
            if (line == 0)
                return GW_E_NOMEM;
            atomic_store_explicit(&b->word[GW_BUCKET_OVERFLOW], line, memory_order_relaxed);
            next = gwi_chunk_line(word, line);
        }
        b = next;
    }
}

/* Do the entry's six bits agree with its bucket, as far as they tell? */
static bool belongs(const struct gwi_table_loader *l, uint64_t entry)
{
    uint32_t known = l->chunk_bits - l->table->bucket_bits;
    if (known > GWI_ENTRY_BITS)
        known = GWI_ENTRY_BITS;
    uint64_t below = l->chunk_bits - l->table->bucket_bits - known;
    uint64_t mine = l->bucket >> below & (((uint64_t)1 << known) - 1);
    return gw_entry_hash_bits(entry) >> (GWI_ENTRY_BITS - known) == mine;
}

static enum gw_status entry_put(struct gwi_table_loader *l, uint64_t entry)
{
    if (!l->in_chunk || l->bucket >> l->chunk_bits != 0 || gw_entry_narrow(entry) == 0 ||
        !belongs(l, entry))
        return GW_E_CORRUPT;
    if (l->wanted && !l->wanted(l->ctx, entry))
        return GW_OK;
    uint64_t word = chunk_word(l, l->chunk);
    uint32_t more = gwi_chunk_bits(word) - l->chunk_bits;
    for (uint64_t child = 0; child < (uint64_t)1 << more; child++) {
        if (!goes_to(l->table, entry, l->chunk_bits, l->chunk_bits + more, child))
            continue;
        enum gw_status st =
            bucket_add(l, word, gwi_chunk_buckets(word) + (l->bucket << more) + child, entry);
        if (st != GW_OK)
            return st;
    }
    return GW_OK;
}

enum gw_status gwi_table_loader_put(struct gwi_table_loader *loader, const uint64_t *words,
                                    uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        enum gw_status st = GW_OK;
        uint64_t value = words[i] & GW_ADDR_MASK;
        enum gw_entry_state kind = gw_entry_state(words[i]);
        if (kind == (enum gw_entry_state)WORD_ENTRY) {
            st = entry_put(loader, words[i]);
        } else if (words[i] != word_make((enum word_kind)kind, value)) {
            st = GW_E_CORRUPT;
        } else if (kind == (enum gw_entry_state)WORD_CHUNK) {
            st = chunk_begin(loader, value);
        } else if (kind == (enum gw_entry_state)WORD_BUCKETS) {
            uint64_t left =
                loader->in_chunk ? ((uint64_t)1 << loader->chunk_bits) - loader->bucket : 0;
            if (value == 0 || value > left)
                st = GW_E_CORRUPT;
            loader->bucket += value;
        } else {
            st = GW_E_CORRUPT;
        }
        if (st != GW_OK)
            return st;
    }
    return GW_OK;
}

enum gw_status gwi_table_loader_end(const struct gwi_table_loader *loader)
{
    uint64_t last = ((uint64_t)1 << loader->table->directory_bits) - 1;
    bool all = loader->in_chunk && loader->chunk == last &&
               loader->bucket == (uint64_t)1 << loader->chunk_bits;
    return all ? GW_OK : GW_E_CORRUPT;
}
