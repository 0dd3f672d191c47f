/* table_grow.c - which chunk grows when, and the steps of it (ENGINE H1, H2).
 *
 *   wanted --choose--> PREPARING --publish--> SPLITTING --all split--> GROWN --epoch--> UNMAPPING
 *
 * One chunk is prepared or split at a time, by all threads together, so that what growth takes
 * beyond the table is one chunk; several old ones may wait to be unmapped.
 *
 * Rules:
 *  1. A chunk wants to grow when it uses more overflow lines than its threshold. The thresholds are
 *     those of loads of 5 to 10 keys a bucket, evenly over the octave in the order of the reversed
 *     bits of the chunk's number, so that at each time some chunks have just grown and others are
 *     about to. With Poisson keys the table then costs 14.5 to 15.7 bytes a key; doubled all at
 *     once it would cost up to 26.
 *  2. A call does pieces until its budget is used up, well below a millisecond whatever the
 *     chunk's size: unmapping goes by UNMAP_BYTES, and of pages of 2 MiB one is cleared in a call.
 *     That takes 0.1 ms, but some 4 ms in a virtual machine whose host has not given it this memory
 *     yet: who must not see that populates at the start what the index will grow into. What must
 *     not be done twice at a time is under a lock that nobody waits for.
 *  3. Old buckets are claimed by ranges and counted when they are split; who counts the last one
 *     puts the new chunk into the directory. Claimed ranges are worked through inside of the epoch,
 *     and others never wait for them: who needs a bucket splits it himself.
 *  4. The old chunk's memory goes an epoch after that: nobody has a place in it then.
 *  5. No growth without room for all of the doubled chunk. A chunk that may not grow goes on with
 *     overflow lines; it asks again whenever it takes one. Without a line an insertion waits for
 *     the growth (GW_RETRY), unless that has been denied: then the table is full. To lack room that
 *     others are about to give up is not to be denied it. */
#include <stdlib.h>
#include <string.h>

#include "index/table_internal.h"

#define CLAIM_BUCKETS 64u
#define PREPARE_BYTES ((uint64_t)32 << 10) /* a piece */
#define UNMAP_BYTES   ((uint64_t)4 << 20)
#define HUGE_BYTES    ((uint64_t)2 << 20)
/* What pieces cost, in buckets split. */
#define PREPARE_COST      64u
#define PREPARE_HUGE_COST 1024u /* the first of a page of 2 MiB */
#define MAP_COST          128u
#define UNMAP_COST        64u
#define UNMAP_COST_MIB    64u

/* Overflow lines per thousand buckets at 5 * 2^(i/16) keys a bucket: the sum over k of
 * P(more than 7k keys), Poisson. */
static const uint16_t lines_at_load[17] = {134, 158, 185, 216, 250, 287, 328, 372, 418,
                                           467, 519, 573, 628, 685, 743, 803, 864};

uint32_t gw_table_threshold(uint64_t chunk, uint32_t directory_bits)
{
    uint32_t position = 0; /* in the octave, in 65536ths */
    for (uint32_t bit = 0; bit < directory_bits; bit++)
        position |= (uint32_t)(chunk >> bit & 1) << (15 - bit);
    position |= 1u << (15 - directory_bits); /* the middle of its share */
    uint32_t at = position >> 12, between = position & 4095;
    return lines_at_load[at] +
           (uint32_t)(lines_at_load[at + 1] - lines_at_load[at]) * between / 4096;
}

static uint64_t number_bit(uint64_t number)
{
    return (uint64_t)1 << (number % 64);
}

void gwi_grow_want(const struct gw_table *table, uint64_t number)
{
    struct gwi_grow *grow = table->grow;
    if (grow->fixed)
        return;
    _Atomic uint64_t *word = &grow->wanted[number / 64];
    if (atomic_load_explicit(word, memory_order_relaxed) & number_bit(number))
        return;
    /* seq_cst, both: the bit before `work`; pairs with work_settle. */
    atomic_fetch_or_explicit(word, number_bit(number), memory_order_seq_cst);
    atomic_store_explicit(&grow->work, 1, memory_order_seq_cst);
}

bool gwi_grow_helps(const struct gw_table *table, struct gwi_arena *arena)
{
    if (table->grow->fixed)
        return false;
    /* Below its threshold the chunk does not grow: what lacks is memory, and that comes only if
     * something is under way that gives some back. */
    if (atomic_load_explicit(&arena->used, memory_order_relaxed) <= arena->lines_grow)
        return gw_table_grow_wanted(table);
    gwi_grow_want(table, arena->number);
    /* As of the last turn. What one chunk lacks in vain every other one waits behind. */
    return !atomic_load_explicit(&arena->denied, memory_order_relaxed) &&
           !atomic_load_explicit(&table->grow->refused, memory_order_relaxed);
}

bool gw_table_grow_wanted(const struct gw_table *table)
{
    /* Relaxed: a hint; seen late it costs a turn. */
    return atomic_load_explicit(&table->grow->work, memory_order_relaxed) != 0;
}

/* ---- after the split ---- */

/* Growths are pushed once and taken all together, so that the top cannot be another one at the same
 * address. */
static void push(_Atomic(struct gwi_growth *) *stack, struct gwi_growth *growth)
{
    struct gwi_grow *grow = growth->grow; /* *growth may be gone once it is pushed */
    struct gwi_growth *top = atomic_load_explicit(stack, memory_order_relaxed);
    do {
        growth->next = top;
        /* Release: `next`; pairs with the exchange that takes them. seq_cst: see work_settle. */
    } while (!atomic_compare_exchange_weak_explicit(stack, &top, growth, memory_order_seq_cst,
                                                    memory_order_relaxed));
    atomic_store_explicit(&grow->work, 1, memory_order_seq_cst);
}

static void growth_quiet(void *arg)
{
    struct gwi_growth *growth = arg;
    push(&growth->grow->quiet, growth);
}

/* Arranges rule 4; while too many triggers wait, the growth waits in `grown`. */
static void growth_retire(struct gw_epoch *epoch, struct gwi_growth *growth)
{
    if (gw_epoch_defer(epoch, growth_quiet, growth) != GW_OK)
        push(&growth->grow->grown, growth);
}

static void retire_grown(struct gwi_grow *grow, struct gw_epoch *epoch)
{
    if (!atomic_load_explicit(&grow->grown, memory_order_relaxed))
        return;
    struct gwi_growth *growth = atomic_exchange_explicit(&grow->grown, NULL, memory_order_acquire);
    while (growth) {
        struct gwi_growth *next = growth->next; /* before it is pushed, or freed by its trigger */
        growth_retire(epoch, growth);
        growth = next;
    }
}

static void growth_finish(struct gw_table *table, struct gw_epoch *epoch, struct gwi_growth *growth)
{
    struct gwi_grow *grow = table->grow;
    uint64_t growing = (uint64_t)(uintptr_t)growth | GWI_DIRECTORY_GROWING;
    /* Acq_rel: all was split, by whomever (`finished`), before the directory leads to it. */
    bool was_growing =
        atomic_compare_exchange_strong_explicit(&table->directory[growth->number], &growing,
                                                growth->new_word, memory_order_acq_rel,
                                                memory_order_relaxed);
    GW_ASSERT(was_growing);
    atomic_fetch_add_explicit(&grow->buckets, (uint64_t)1 << gwi_chunk_bits(growth->old_word),
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&grow->splits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&grow->grown_chunks, 1, memory_order_relaxed);
    /* Release: the next growth may begin. Before the trigger, so that who enters after that does
     * not find *growth any more. */
    atomic_store_explicit(&grow->splitting, NULL, memory_order_release);
    growth_retire(epoch, growth);
}

/* Splits the next range of buckets; false: all are claimed. */
static bool split_some(struct gw_table *table, struct gw_epoch *epoch, struct gwi_growth *growth)
{
    uint64_t buckets = (uint64_t)1 << gwi_chunk_bits(growth->old_word);
    if (atomic_load_explicit(&growth->claimed, memory_order_relaxed) >= buckets)
        return false;
    /* Relaxed: numbers that nobody else gets. */
    uint64_t from =
        atomic_fetch_add_explicit(&growth->claimed, CLAIM_BUCKETS, memory_order_relaxed);
    if (from >= buckets)
        return false;
    uint64_t to = from + CLAIM_BUCKETS < buckets ? from + CLAIM_BUCKETS : buckets;
    for (uint64_t i = from; i < to; i++)
        gwi_split_bucket(table, growth, i);
    /* Acq_rel: who counts the last one has seen what the others did. */
    uint64_t before = atomic_fetch_add_explicit(&growth->finished, to - from, memory_order_acq_rel);
    if (before + (to - from) == buckets)
        growth_finish(table, epoch, growth);
    return true;
}

/* ---- under the lock ---- */

/* seq_cst: see work_settle. */
static bool to_unmap(const struct gwi_grow *grow)
{
    return atomic_load_explicit(&grow->unmapping, memory_order_relaxed) ||
           atomic_load_explicit(&grow->quiet, memory_order_seq_cst);
}

/* Unmaps a piece of the oldest chunk that nobody uses any more; returns its cost. */
static uint32_t unmap_some(struct gwi_grow *grow)
{
    /* Relaxed: written under the lock. */
    struct gwi_growth *growth = atomic_load_explicit(&grow->unmapping, memory_order_relaxed);
    if (!growth) {
        growth = atomic_exchange_explicit(&grow->quiet, NULL, memory_order_acquire);
        atomic_store_explicit(&grow->unmapping, growth, memory_order_relaxed);
    }
    uint64_t word = growth->old_word;
    if (growth->unmapped == 0) { /* the arena goes with the first piece that holds it */
        growth->charged_bytes = gwi_chunk_bytes(word);
        const struct gwi_arena *arena = gwi_chunk_arena(word);
        uint32_t used = atomic_load_explicit(&arena->used, memory_order_relaxed);
        uint32_t charged = atomic_load_explicit(&arena->charged, memory_order_relaxed);
        atomic_fetch_sub_explicit(&grow->lines_used, used, memory_order_relaxed);
        atomic_fetch_sub_explicit(&grow->lines, charged, memory_order_relaxed);
    }
    /* What was never touched goes in one piece. */
    uint64_t left = growth->charged_bytes - growth->unmapped;
    bool rest = left <= UNMAP_BYTES;
    uint32_t cost = UNMAP_COST + (uint32_t)((rest ? left : UNMAP_BYTES) >> 20) * UNMAP_COST_MIB;
    if (!gwi_chunk_unmap(word, &growth->unmapped, rest ? UINT64_MAX : UNMAP_BYTES))
        return cost;
    atomic_fetch_sub_explicit(&grow->bytes, growth->charged_bytes, memory_order_relaxed);
    atomic_store_explicit(&grow->unmapping, growth->next, memory_order_relaxed);
    /* Release: behind the bytes; pairs with step_locked. */
    atomic_fetch_sub_explicit(&grow->grown_chunks, 1, memory_order_release);
    free(growth);
    return cost;
}

/* Makes the next piece of the new buckets never written; the last one is followed by publication.
 */
static uint32_t prepare_some(struct gw_table *table)
{
    struct gwi_grow *grow = table->grow;
    struct gwi_growth *growth = grow->preparing;
    uint64_t all = sizeof(struct gw_bucket) << gwi_chunk_bits(growth->new_word);
    uint64_t bytes = all - growth->prepared;
    if (bytes > PREPARE_BYTES)
        bytes = PREPARE_BYTES;
    uint8_t *base = (uint8_t *)gwi_chunk_buckets(growth->new_word);
    memset(base + growth->prepared, 0xff, bytes); /* private so far */
    bool huge = all >= HUGE_BYTES && growth->prepared % HUGE_BYTES == 0;
    uint32_t cost = huge ? PREPARE_HUGE_COST : PREPARE_COST;
    growth->prepared += bytes;
    if (growth->prepared < all)
        return cost;
    grow->preparing = NULL;
    uint64_t old_word = growth->old_word;
    /* Relaxed: who has used the new chunk has acquired the word that is published next. */
    atomic_store_explicit(&grow->chunk_bits[growth->number],
                          (uint8_t)gwi_chunk_bits(growth->new_word), memory_order_relaxed);
    /* Release: the new chunk's words and *growth, before the directory leads to them. */
    bool published =
        atomic_compare_exchange_strong_explicit(&table->directory[growth->number], &old_word,
                                                (uint64_t)(uintptr_t)growth | GWI_DIRECTORY_GROWING,
                                                memory_order_acq_rel, memory_order_relaxed);
    GW_ASSERT(published);
    atomic_store_explicit(&grow->splitting, growth, memory_order_release);
    return cost;
}

/* Starts to prepare a chunk if it may grow. GW_WOULD_BLOCK: the room lacks *lacks bytes. */
static enum gw_status growth_start(struct gw_table *table, struct gwi_arena *arena, uint64_t word,
                                   uint64_t room_bytes, uint64_t *lacks)
{
    struct gwi_grow *grow = table->grow;
    uint32_t bits = gwi_chunk_bits(word) + 1;
    if (bits + table->directory_bits > GWI_TABLE_BITS_MAX || !gwi_chunk_fits_doubled(word))
        return GW_E_LIMIT;
    uint64_t bytes = gwi_chunk_bytes_at_start(bits);
    if (gw_table_memory_bytes(table) + bytes > grow->bytes_max)
        return GW_E_FULL;
    if (bytes > room_bytes) {
        *lacks = bytes;
        return GW_WOULD_BLOCK;
    }
    struct gwi_growth *growth = aligned_alloc(GW_CACHE_LINE, sizeof *growth);
    if (!growth)
        return GW_E_NOMEM;
    memset(growth, 0, sizeof *growth);
    GW_ASSERT(((uint64_t)(uintptr_t)growth & ~(uint64_t)0x0000ffffffffffc0u) == 0);
    growth->grow = grow;
    growth->number = arena->number;
    growth->old_word = word;
    enum gw_status st = gwi_chunk_create(table, arena->number, bits, &growth->new_word, NULL);
    if (st != GW_OK) {
        free(growth);
        return st;
    }
    uint32_t lines =
        atomic_load_explicit(&gwi_chunk_arena(growth->new_word)->charged, memory_order_relaxed);
    atomic_fetch_add_explicit(&grow->bytes, bytes, memory_order_relaxed);
    atomic_fetch_add_explicit(&grow->lines, lines, memory_order_relaxed);
    grow->preparing = growth;
    return GW_OK;
}

/* Looks for a chunk that wants to grow and may; false: there is none. *lacks: what one lacks. */
static bool choose(struct gw_table *table, uint64_t room_bytes, uint64_t *lacks)
{
    struct gwi_grow *grow = table->grow;
    uint32_t words = (((uint32_t)1 << table->directory_bits) + 63) / 64;
    for (uint32_t n = 0; n < words; n++) {
        uint32_t at = (grow->choose_next + n) % words;
        uint64_t wanted = atomic_load_explicit(&grow->wanted[at], memory_order_acquire);
        for (; wanted != 0; wanted &= wanted - 1) {
            uint64_t number = (uint64_t)at * 64 + (uint64_t)__builtin_ctzll(wanted);
            /* Cleared first: lines taken from here on set it again (rule 5). */
            atomic_fetch_and_explicit(&grow->wanted[at], ~number_bit(number), memory_order_seq_cst);
            /* Relaxed: only who has the lock changes it, and no growth is under way. */
            uint64_t word = atomic_load_explicit(&table->directory[number], memory_order_relaxed);
            struct gwi_arena *arena = gwi_chunk_arena(word);
            if (atomic_load_explicit(&arena->used, memory_order_relaxed) <= arena->lines_grow)
                continue; /* it has grown since */
            enum gw_status st = growth_start(table, arena, word, room_bytes, lacks);
            bool denied = st != GW_OK && st != GW_WOULD_BLOCK;
            atomic_store_explicit(&arena->denied, denied, memory_order_relaxed);
            if (st == GW_WOULD_BLOCK) {
                gwi_grow_want(table, number);
                return false;
            }
            grow->choose_next = at;
            if (st == GW_OK)
                return true;
        }
    }
    return false;
}

/* Turns `work` off when there is none. seq_cst: against those who make work and then set it. */
static void work_settle(struct gw_table *table)
{
    struct gwi_grow *grow = table->grow;
    atomic_store_explicit(&grow->work, 0, memory_order_seq_cst);
    bool work = grow->preparing || to_unmap(grow) ||
                atomic_load_explicit(&grow->splitting, memory_order_seq_cst) ||
                atomic_load_explicit(&grow->grown, memory_order_seq_cst);
    uint32_t words = (((uint32_t)1 << table->directory_bits) + 63) / 64;
    for (uint32_t at = 0; at < words && !work; at++)
        work = atomic_load_explicit(&grow->wanted[at], memory_order_seq_cst) != 0;
    if (work)
        atomic_store_explicit(&grow->work, 1, memory_order_seq_cst);
}

/* One piece, under the lock. Returns its cost, 0: there is nothing to do, or it cannot be done. */
static uint32_t step_locked(struct gw_table *table, struct gw_epoch *epoch, uint64_t room_bytes,
                            uint64_t refused_bytes)
{
    struct gwi_grow *grow = table->grow;
    uint32_t cost = 0;
    /* Acquire: what comes before in growth_finish. */
    bool splitting = atomic_load_explicit(&grow->splitting, memory_order_acquire) != NULL;
    retire_grown(grow, epoch);
    if (to_unmap(grow)) {
        cost = unmap_some(grow);
    } else if (grow->preparing) {
        cost = prepare_some(table);
    } else if (!splitting) {
        /* What is refused has been asked for: the last one lacked as much. And the memory of a
         * chunk that has grown comes in any case. Acquire, before the room is looked at by choose:
         * what has come is in it. */
        uint64_t lacks = 0, asked = gw_table_lacks(table);
        bool coming = atomic_load_explicit(&grow->grown_chunks, memory_order_acquire) != 0;
        cost = choose(table, room_bytes, &lacks) ? MAP_COST : 0;
        bool refused = lacks != 0 && lacks <= refused_bytes && lacks <= asked && !coming;
        /* Relaxed, both: what is seen late is seen in the next turn. */
        atomic_store_explicit(&grow->lacks, lacks, memory_order_relaxed);
        atomic_store_explicit(&grow->refused, refused, memory_order_relaxed);
    }
    work_settle(table);
    return cost;
}

uint64_t gw_table_lacks(const struct gw_table *table)
{
    return atomic_load_explicit(&table->grow->lacks, memory_order_relaxed);
}

bool gw_table_grow_refused(const struct gw_table *table)
{
    return atomic_load_explicit(&table->grow->refused, memory_order_relaxed);
}

void gw_table_grow_ask(struct gw_table *table)
{
    atomic_store_explicit(&table->grow->refused, false, memory_order_relaxed);
}

bool gw_table_grow(struct gw_table *table, struct gw_epoch *epoch, uint64_t room_bytes,
                   uint64_t refused_bytes, uint32_t budget)
{
    struct gwi_grow *grow = table->grow;
    uint64_t bytes_max = gw_table_memory_bytes(table);
    bytes_max = room_bytes < UINT64_MAX - bytes_max ? bytes_max + room_bytes : UINT64_MAX;
    for (uint32_t used = 0; used <= budget && gw_table_grow_wanted(table);) {
        /* Acquire: *growth. It stays while we are inside, for its trigger was or will be deferred
         * after this load. Each call begins under the lock: else nothing would be unmapped as long
         * as one chunk after the other grows. */
        struct gwi_growth *growth = atomic_load_explicit(&grow->splitting, memory_order_acquire);
        bool unmap = used == 0 && to_unmap(grow);
        if (growth && !unmap && split_some(table, epoch, growth)) {
            used += CLAIM_BUCKETS;
            continue;
        }
        uint32_t unlocked = 0;
        if (!atomic_compare_exchange_strong_explicit(&grow->lock, &unlocked, 1,
                                                     memory_order_acquire, memory_order_relaxed)) {
            if (!unmap)
                break;
            used++; /* somebody else is about it */
            continue;
        }
        uint64_t bytes = gw_table_memory_bytes(table);
        uint32_t cost =
            step_locked(table, epoch, bytes < bytes_max ? bytes_max - bytes : 0, refused_bytes);
        atomic_store_explicit(&grow->lock, 0, memory_order_release);
        if (cost == 0)
            break;
        used += cost;
    }
    return gw_table_grow_wanted(table) && (gw_table_lacks(table) == 0 || to_unmap(grow));
}

void gwi_grow_end(struct gw_table *table)
{
    struct gwi_grow *grow = table->grow;
    struct gwi_growth *growth = atomic_load_explicit(&grow->splitting, memory_order_acquire);
    uint64_t done = 0;
    if (growth) { /* half-way: both chunks are there; the directory is left with the old one */
        gwi_chunk_unmap(growth->new_word, &done, UINT64_MAX);
        atomic_store_explicit(&table->directory[growth->number], growth->old_word,
                              memory_order_relaxed);
        free(growth);
    }
    if (grow->preparing) {
        done = 0;
        gwi_chunk_unmap(grow->preparing->new_word, &done, UINT64_MAX);
        free(grow->preparing);
    }
    growth = atomic_load_explicit(&grow->grown, memory_order_acquire);
    while (growth) {
        struct gwi_growth *next = growth->next;
        gwi_chunk_unmap(growth->old_word, &growth->unmapped, UINT64_MAX);
        free(growth);
        growth = next;
    }
    while (to_unmap(grow))
        unmap_some(grow);
}
