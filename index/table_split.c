/* table_split.c - splitting one bucket into two while everybody goes on (ENGINE H1, H2).
 *
 * Rules:
 *  1. Freeze before copying. Line by line: first the overflow pointer, so that the chain gets no
 *     new line; then each entry by CAS to state frozen, a tentative or empty one as frozen and
 *     empty. From then on every late CAS on the old chain fails, the confirmation of an insertion
 *     too.
 *  2. Settle once. Where an entry goes may depend on what changes from moment to moment (the log's
 *     begin, whether a record is in memory). So when a line is frozen, one CAS writes two bits for
 *     each of its entries into its eighth word, low child and high child, and all helpers follow
 *     what the first of them has found. What comes after depends on frozen contents alone.
 *  3. Children's words are all ones, never written, until one CAS gives each its first value:
 *     the n-th entry of a child goes to its n-th word, words beyond the last become 0. However many
 *     helpers copy, and however late, a word is copied once and an update of it is never undone.
 *  4. A child's eighth word is written last, so that one look at it tells whether the child may be
 *     used. What does not fit into seven words lies in lines that are filled before they are
 *     linked, by that same CAS; who loses gives his lines back.
 *  5. Who meets a frozen or never-written word finishes the split of that bucket and starts over
 *     from the directory. Readers too: only they could say "absent" of a key whose newest entry is
 *     in the child already. Nobody waits for anybody.
 *  6. A live entry goes to the child that its six hash bits name. When doublings have used these up
 *     the records must tell: an entry whose chain has keys of both children, or one that may have
 *     (not in memory), goes to both. Look-ups compare keys, so they stay right; who visits entries
 *     leaves out keys whose hash is not the bucket's, for of those the entry may know old records
 *     only (gw_table_chain).
 *  7. An entry below the log's begin is dead and is dropped.
 * The protocol, checked in all states of small cases: tests/model/spin/table_split.pml. */
#include "index/table_internal.h"

bool gwi_entry_dead(uint64_t entry, gw_addr begin, gw_addr reference)
{
    return gw_addr_widen(gw_entry_narrow(entry), reference).v < begin.v;
}

static uint64_t split_state(uint64_t eighth)
{
    return (eighth >> GWI_SPLIT_SHIFT) & 3;
}

/* ---- freezing (rules 1 and 2) ---- */

/* Which children get this entry: bit 0 the low one, bit 1 the high one. */
static uint64_t sides_of(const struct gw_table *table, uint32_t old_bits, uint64_t entry)
{
    const struct gw_table_records *records = &table->grow->records;
    uint32_t doublings = old_bits - table->bucket_bits;
    if (doublings < GWI_ENTRY_BITS) {
        uint32_t high = gw_entry_hash_bits(entry) >> (GWI_ENTRY_BITS - 1 - doublings) & 1;
        return (uint64_t)1 << high;
    }
    uint32_t shift = 63 - table->directory_bits - old_bits; /* the first bit below the bucket's */
    return records->sides ? records->sides(records->ctx, entry, shift) & 3 : 3;
}

/* The two bits of each entry of a frozen line. */
static uint64_t settle(const struct gw_table *table, uint32_t old_bits, struct gw_bucket *line)
{
    const struct gw_table_records *records = &table->grow->records;
    gw_addr begin = {0}, reference = {0};
    if (records->range)
        records->range(records->ctx, &begin, &reference);
    uint64_t sides = 0;
    for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
        /* Acquire: the records that the entry leads to, for `sides`. */
        uint64_t e = atomic_load_explicit(&line->word[i], memory_order_acquire);
        GW_ASSERT(gw_entry_state(e) == GW_ENTRY_FROZEN);
        e &= ~GWI_ENTRY_STATE_MASK;
        if (e != 0 && !gwi_entry_dead(e, begin, reference))
            sides |= sides_of(table, old_bits, e) << (2 * i);
    }
    return sides;
}

static void freeze_entry(_Atomic uint64_t *word)
{
    GWI_STEP();
    uint64_t e = atomic_load_explicit(word, memory_order_acquire);
    while (gw_entry_state(e) != GW_ENTRY_FROZEN) {
        uint64_t keep = gw_entry_state(e) == GW_ENTRY_LIVE ? e : 0;
        GWI_STEP();
        /* Release: hands on what was acquired with the entry; pairs with the loads of helpers and
         * of those who look for it. Acquire on failure: the new value may be live. */
        if (atomic_compare_exchange_strong_explicit(word, &e, keep | GWI_ENTRY_FROZEN,
                                                    memory_order_acq_rel, memory_order_acquire))
            return;
    }
}

void gwi_split_freeze(const struct gw_table *table, const struct gwi_growth *growth,
                      struct gw_bucket *bucket)
{
    uint32_t old_bits = gwi_chunk_bits(growth->old_word);
    for (struct gw_bucket *line = bucket; line;
         line = gwi_chunk_next_line(growth->old_word, line, memory_order_acquire)) {
        _Atomic uint64_t *last = &line->word[GW_BUCKET_OVERFLOW];
        GWI_STEP();
        uint64_t eighth = atomic_load_explicit(last, memory_order_acquire);
        while (split_state(eighth) == GWI_PLAIN) {
            uint64_t next = eighth | (uint64_t)GWI_SPLITTING << GWI_SPLIT_SHIFT;
            GWI_STEP();
            /* Acq_rel: the line that it may lead to, both ways. */
            if (atomic_compare_exchange_strong_explicit(last, &eighth, next, memory_order_acq_rel,
                                                        memory_order_acquire))
                eighth = next;
        }
        if (split_state(eighth) == GWI_SPLIT)
            continue;
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++)
            freeze_entry(&line->word[i]);
        uint64_t settled = (eighth & UINT32_MAX) | (uint64_t)GWI_SPLIT << GWI_SPLIT_SHIFT |
                           settle(table, old_bits, line) << GWI_SIDES_SHIFT;
        GWI_STEP();
        /* Release: all entries are frozen. Failure: another helper has settled it (rule 2). */
        (void)atomic_compare_exchange_strong_explicit(last, &eighth, settled, memory_order_acq_rel,
                                                      memory_order_acquire);
    }
}

/* ---- copying (rules 3 and 4) ---- */

/* Lines that are being filled for a child, private until linked. */
struct private_lines {
    const struct gw_table *table;
    uint64_t word;  /* of the new chunk */
    uint32_t first; /* 0: none */
    struct gw_bucket *last;
    uint32_t entries; /* in the last one */
};

static void private_add(struct private_lines *lines, uint64_t entry)
{
    if (lines->entries == GW_BUCKET_ENTRIES || !lines->last) {
        uint32_t line;
        /* There is address space for all lines that are needed (gwi_chunk_fits_doubled) and for
         * many that losers hold: none left means that other helpers are about to give some back. */
        while ((line = gwi_line_take(lines->table, lines->word, true)) == 0) {}
        struct gw_bucket *bucket = gwi_chunk_line(lines->word, line);
        if (lines->last) /* relaxed: private */
            atomic_store_explicit(&lines->last->word[GW_BUCKET_OVERFLOW], line,
                                  memory_order_relaxed);
        else
            lines->first = line;
        lines->last = bucket;
        lines->entries = 0;
    }
    atomic_store_explicit(&lines->last->word[lines->entries++], entry, memory_order_relaxed);
}

static void private_drop(struct private_lines *lines)
{
    for (uint32_t line = lines->first; line != 0;) {
        struct gw_bucket *bucket = gwi_chunk_line(lines->word, line);
        uint32_t next =
            (uint32_t)atomic_load_explicit(&bucket->word[GW_BUCKET_OVERFLOW], memory_order_relaxed);
        gwi_line_give_back(lines->table, lines->word, line);
        line = next;
    }
}

/* Gives a child's word its first value, if it has none. */
static void write_first(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t never = GWI_NEVER_WRITTEN;
    GWI_STEP();
    /* Release: what was acquired with the frozen entry, or filled into the lines. Relaxed on
     * failure: it was written, that is all we want to know. */
    (void)atomic_compare_exchange_strong_explicit(word, &never, value, memory_order_release,
                                                  memory_order_relaxed);
}

/* Acquire: the child's other words were written before its eighth (rule 4). */
static bool child_written(const struct gw_bucket *child)
{
    return atomic_load_explicit(&child->word[GW_BUCKET_OVERFLOW], memory_order_acquire) !=
           GWI_NEVER_WRITTEN;
}

void gwi_split_fill(const struct gw_table *table, const struct gwi_growth *growth,
                    struct gw_bucket *bucket, uint32_t side, struct gw_bucket *child)
{
    if (child_written(child))
        return;
    struct private_lines lines = {.table = table, .word = growth->new_word};
    uint32_t count = 0;
    for (struct gw_bucket *line = bucket; line;
         line = gwi_chunk_next_line(growth->old_word, line, memory_order_acquire)) {
        uint64_t eighth =
            atomic_load_explicit(&line->word[GW_BUCKET_OVERFLOW], memory_order_acquire);
        GW_ASSERT(split_state(eighth) == GWI_SPLIT);
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            if ((eighth >> (GWI_SIDES_SHIFT + 2 * i + side) & 1) == 0)
                continue;
            uint64_t e = atomic_load_explicit(&line->word[i], memory_order_acquire);
            e &= ~GWI_ENTRY_STATE_MASK;
            if (count++ < GW_BUCKET_ENTRIES)
                write_first(&child->word[count - 1], e);
            else
                private_add(&lines, e);
        }
    }
    for (; count < GW_BUCKET_ENTRIES; count++)
        write_first(&child->word[count], 0);
    uint64_t never = GWI_NEVER_WRITTEN;
    GWI_STEP();
    /* Release: the child's words and the lines. */
    if (!atomic_compare_exchange_strong_explicit(&child->word[GW_BUCKET_OVERFLOW], &never,
                                                 lines.first, memory_order_acq_rel,
                                                 memory_order_acquire))
        private_drop(&lines);
}

void gwi_split_bucket(const struct gw_table *table, const struct gwi_growth *growth, uint64_t index)
{
    struct gw_bucket *bucket = gwi_chunk_buckets(growth->old_word) + index;
    struct gw_bucket *child = gwi_chunk_buckets(growth->new_word) + 2 * index;
    if (child_written(child) && child_written(child + 1))
        return;
    gwi_split_freeze(table, growth, bucket);
    gwi_split_fill(table, growth, bucket, 0, child);
    gwi_split_fill(table, growth, bucket, 1, child + 1);
}

/* ---- look-up beside it ---- */

static uint64_t index_in(uint64_t word, uint32_t directory_bits, uint64_t hash)
{
    return (hash << directory_bits) >> (64 - gwi_chunk_bits(word));
}

struct gw_bucket *gwi_growing_bucket(uint64_t word, uint32_t directory_bits, uint64_t hash)
{
    const struct gwi_growth *growth = gwi_growth_of(word);
    uint64_t index = index_in(growth->old_word, directory_bits, hash);
    /* Relaxed: a guess. */
    bool split = index < atomic_load_explicit(&growth->claimed, memory_order_relaxed);
    return gwi_chunk_bucket(split ? growth->new_word : growth->old_word, directory_bits, hash);
}

struct gwi_spot gwi_table_locate(const struct gw_table *table, uint64_t hash)
{
    for (;;) {
        uint64_t word = gwi_table_word(table, hash);
        GWI_STEP();
        if (GW_LIKELY(!gwi_chunk_grows(word))) {
            struct gw_bucket *bucket = gwi_chunk_bucket(word, table->directory_bits, hash);
            return (struct gwi_spot){word, bucket};
        }
        const struct gwi_growth *growth = gwi_growth_of(word);
        uint64_t index = index_in(growth->old_word, table->directory_bits, hash);
        struct gw_bucket *child = gwi_chunk_bucket(growth->new_word, table->directory_bits, hash);
        if (child_written(child))
            return (struct gwi_spot){growth->new_word, child};
        struct gw_bucket *old = gwi_chunk_buckets(growth->old_word) + index;
        /* Acquire: as in gwi_split_freeze. */
        uint64_t eighth =
            atomic_load_explicit(&old->word[GW_BUCKET_OVERFLOW], memory_order_acquire);
        if (split_state(eighth) == GWI_PLAIN)
            return (struct gwi_spot){growth->old_word, old};
        gwi_split_bucket(table, growth, index);
    }
}

_Atomic uint64_t *gwi_table_find_exact(const struct gw_table *table, uint64_t hash, uint64_t tag,
                                       uint64_t *entry)
{
    for (;;) {
        struct gwi_spot spot = gwi_table_locate(table, hash);
        bool moved = false;
        for (struct gw_bucket *b = spot.bucket; b;
             b = gwi_chunk_next_line(spot.word, b, memory_order_acquire))
            for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
                GWI_STEP();
                uint64_t e = atomic_load_explicit(&b->word[i], memory_order_acquire);
                if (gw_entry_matches(e, tag)) {
                    *entry = e;
                    return &b->word[i];
                }
                moved |= gw_entry_state(e) >= GW_ENTRY_FROZEN;
            }
        if (GW_LIKELY(!moved))
            return NULL;
    }
}
