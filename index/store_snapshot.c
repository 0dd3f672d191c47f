/* store_snapshot.c - the index as a stream of blocks, and what an image says of the index besides.
 * Contract: store_recover.h; what is in the blocks: table_snapshot.h.
 *
 * A block: magic "GWIX", format, flags (1: the last), its number, `start`, the stream's name, a
 * check of the hash seed, how many words, the table's smallest shape, entries (the last: all),
 * CRC32C of the rest of the 64 KiB; then words, then zeros. Little-endian, like the segments. The
 * words of an image: magic, shape, how many words of floors, how many names, and in format 2 how
 * many of indirections (foreign.c); the chunks' sizes, eight a word; floors; names; those.
 * Format 1 is written where there never was an indirection. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/checksum.h"
#include "index/base/rand.h"
#include "index/foreign.h"
#include "index/snapshot.h"

#define BLOCK_MAGIC   0x58495747u /* "GWIX" */
#define BLOCK_FORMAT  1u
#define BLOCK_LAST    1u
#define WORDS_MAGIC   0x0001444e49475747u /* "GWGIND", format 1 */
#define WORDS_MAGIC_2 0x0002444e49475747u
#define WORDS_HEAD    4u
#define WORDS_HEAD_2  5u
#define QUIET_WAIT_NS 50000
#define STEP_BUCKETS  256u /* in one stay in the epoch */
#define ALL_MIXED_BIT ((uint64_t)1 << 63)

struct block_header {
    uint32_t magic;
    uint16_t format, flags;
    uint64_t sequence, start, stream;
    uint32_t hash_check, words;
    uint32_t shape, zero;
    uint64_t entries;
    uint32_t zero2, crc;
};
static_assert(sizeof(struct block_header) == 64, "a block begins with a header of 64 bytes");

#define BLOCK_WORDS ((GW_SNAPSHOT_BLOCK - sizeof(struct block_header)) / sizeof(uint64_t))

struct gw_snapshot {
    struct gw_store *store;
    struct gwi_table_writer writer;
    uint64_t start, stream, sequence;
    uint32_t slot;
    bool ended;
};

static uint32_t block_crc(const uint8_t *block)
{
    uint32_t crc = gw_crc32c(0, block, offsetof(struct block_header, crc));
    return gw_crc32c(crc, block + sizeof(struct block_header),
                     GW_SNAPSHOT_BLOCK - sizeof(struct block_header));
}

uint32_t gwi_snapshot_hash_check(uint64_t hash_seed)
{
    return (uint32_t)(hash_seed ^ hash_seed >> 32);
}

uint32_t gwi_snapshot_shape(uint32_t directory_bits, uint32_t bucket_bits)
{
    return directory_bits | bucket_bits << 8;
}

/* ---- writing ---- */

static void quiet(void *arg)
{
    atomic_store_explicit((_Atomic bool *)arg, true, memory_order_release);
}

/* Waits until every thread has left the epoch that is inside now. A record below `start` may not be
 * published yet; it must be before its entry is read, for the replay begins at `start`. */
static void wait_quiet(struct gw_epoch *epoch)
{
    struct timespec moment = {.tv_nsec = QUIET_WAIT_NS};
    _Atomic bool passed = false;
    while (gw_epoch_defer(epoch, quiet, &passed) != GW_OK)
        if (gw_epoch_poll(epoch) == 0)
            nanosleep(&moment, NULL);
    /* Acquire: what they have published. */
    while (!atomic_load_explicit(&passed, memory_order_acquire))
        if (gw_epoch_poll(epoch) == 0 && !atomic_load_explicit(&passed, memory_order_acquire))
            nanosleep(&moment, NULL);
}

enum gw_status gw_snapshot_begin(struct gw_store *store, struct gw_snapshot **out, gw_addr *start)
{
    struct gw_snapshot *s = calloc(1, sizeof *s);
    if (!s)
        return GW_E_NOMEM;
    s->store = store;
    enum gw_status st = gw_epoch_join(store->epoch, false, &s->slot);
    if (st != GW_OK) {
        free(s);
        return st;
    }
    gwi_table_writer_init(&s->writer, store->table);
    s->stream = gw_rand_system_seed();
    s->start = gw_log_tail(store->log).v;
    wait_quiet(store->epoch);
    *start = gw_addr_of(s->start);
    *out = s;
    return GW_OK;
}

enum gw_status gw_snapshot_next(struct gw_snapshot *s, uint8_t *block)
{
    if (s->ended)
        return GW_END;
    struct gw_epoch *epoch = s->store->epoch;
    while (!s->writer.done && s->writer.count - s->writer.taken < BLOCK_WORDS) {
        gw_epoch_enter(epoch, s->slot);
        enum gw_status st = gwi_table_writer_step(&s->writer, STEP_BUCKETS);
        gw_epoch_exit(epoch, s->slot);
        if (st != GW_OK)
            return st;
    }
    memset(block, 0, GW_SNAPSHOT_BLOCK);
    uint32_t n =
        gwi_table_writer_take(&s->writer, (uint64_t *)(void *)(block + sizeof(struct block_header)),
                              BLOCK_WORDS);
    s->ended = s->writer.done && s->writer.count == s->writer.taken;
    struct block_header header = {
        .magic = BLOCK_MAGIC,
        .format = BLOCK_FORMAT,
        .flags = s->ended ? BLOCK_LAST : 0,
        .sequence = s->sequence++,
        .start = s->start,
        .stream = s->stream,
        .hash_check = gwi_snapshot_hash_check(s->store->hash_seed),
        .words = n,
        .shape = gwi_snapshot_shape(s->store->table->directory_bits, s->store->table->bucket_bits),
        .entries = s->writer.entries,
    };
    memcpy(block, &header, sizeof header);
    header.crc = block_crc(block);
    memcpy(block, &header, sizeof header);
    return GW_OK;
}

void gw_snapshot_end(struct gw_snapshot *s)
{
    if (!s)
        return;
    gwi_table_writer_fini(&s->writer);
    gw_epoch_leave(s->store->epoch, s->slot);
    free(s);
}

/* ---- reading ---- */

enum gw_status gwi_snapshot_block(struct gwi_snapshot_reader *reader, const uint8_t *block,
                                  const uint64_t **words, uint32_t *count, const char **why)
{
    struct block_header h;
    memcpy(&h, block, sizeof h);
    *why = NULL;
    if (h.magic != BLOCK_MAGIC)
        *why = "it is no block of an index snapshot";
    else if (h.crc != block_crc(block))
        *why = "its checksum is wrong";
    else if (h.format != BLOCK_FORMAT)
        *why = "it has another format";
    else if (h.sequence != reader->sequence || reader->last)
        *why = "another one should come here";
    else if (reader->sequence != 0 && (h.stream != reader->stream || h.start != reader->start))
        *why = "it is of another snapshot";
    else if (h.words > BLOCK_WORDS)
        *why = "its length is wrong";
    if (*why)
        return GW_E_CORRUPT;
    reader->sequence++;
    reader->stream = h.stream;
    reader->start = h.start;
    reader->hash_check = h.hash_check;
    reader->shape = h.shape;
    reader->entries = h.entries;
    reader->last = (h.flags & BLOCK_LAST) != 0;
    *words = (const uint64_t *)(const void *)(block + sizeof h);
    *count = h.words;
    return GW_OK;
}

/* ---- what an image says besides ---- */

static uint64_t shape_words(uint32_t directory_bits)
{
    return (((uint64_t)1 << directory_bits) + 7) / 8;
}

uint64_t gw_store_mixed_chains(const struct gw_store *store, uint64_t *words, uint64_t max)
{
    struct gwi_table_shape shape;
    gwi_table_shape_of(store->table, &shape);
    /* Acquire: as in gw_log_view_load. */
    uint64_t begin = atomic_load_explicit(&store->log->begin, memory_order_acquire);
    uint64_t held = atomic_load_explicit(&store->retain_end, memory_order_acquire);
    /* Not `begin`: it may have risen since the cut, and then what the image says of its records
     * below must be there. */
    uint64_t from = gwi_begin_needed(store, begin);
    /* Twice, for where they go; what comes in between is above the image. */
    uint64_t foreign = gwi_foreign_write(store->foreign, from, held, NULL, 0), head;
    head = foreign ? WORDS_HEAD_2 : WORDS_HEAD;
    uint64_t sizes = shape_words(shape.directory_bits), all_until;
    uint64_t at = head + sizes < max ? head + sizes : max;
    uint64_t floors = gwi_floors_write(store->floors, from, words ? words + at : NULL, max - at);
    uint64_t names_at = at + floors < max ? at + floors : max;
    uint64_t names = gwi_chains_names(store->chains, words ? words + names_at : NULL,
                                      max - names_at, &all_until);
    uint64_t foreign_at = names_at + names < max ? names_at + names : max;
    if (foreign)
        foreign = gwi_foreign_write(store->foreign, from, held, words ? words + foreign_at : NULL,
                                    max - foreign_at);
    uint64_t all = head + sizes + floors + names + foreign;
    if (all > max)
        return all;
    words[0] = foreign ? WORDS_MAGIC_2 : WORDS_MAGIC;
    words[1] = gwi_snapshot_shape(shape.directory_bits, shape.bucket_bits) |
               (all_until != 0 && all_until >= from ? ALL_MIXED_BIT : 0);
    words[2] = floors;
    words[3] = names;
    if (foreign)
        words[4] = foreign;
    memset(words + head, 0, sizes * sizeof *words);
    memcpy(words + head, shape.chunk_bits, (size_t)1 << shape.directory_bits);
    return all;
}

enum gw_status gwi_image_words_read(const uint64_t *words, uint64_t count,
                                    struct gwi_image_words *out)
{
    memset(out, 0, sizeof *out);
    if (!words || count < WORDS_HEAD || (words[0] != WORDS_MAGIC && words[0] != WORDS_MAGIC_2))
        return GW_E_CORRUPT;
    uint64_t head = words[0] == WORDS_MAGIC_2 ? WORDS_HEAD_2 : WORDS_HEAD;
    if (count < head)
        return GW_E_CORRUPT;
    out->shape.directory_bits = words[1] & 255;
    out->shape.bucket_bits = words[1] >> 8 & 255;
    out->all_mixed = (words[1] & ALL_MIXED_BIT) != 0;
    out->floors_count = words[2];
    out->names_count = words[3];
    out->foreign_count = head == WORDS_HEAD_2 ? words[4] : 0;
    if (out->shape.directory_bits > GW_DIRECTORY_BITS_MAX)
        return GW_E_CORRUPT;
    uint64_t sizes = shape_words(out->shape.directory_bits), left = count - head;
    if (sizes > left || out->floors_count > left - sizes ||
        out->foreign_count > left - sizes - out->floors_count ||
        out->names_count != left - sizes - out->floors_count - out->foreign_count)
        return GW_E_CORRUPT;
    memcpy(out->shape.chunk_bits, words + head, (size_t)1 << out->shape.directory_bits);
    out->floors = words + head + sizes;
    out->names = out->floors + out->floors_count;
    out->foreign = out->names + out->names_count;
    return gwi_table_shape_is_valid(&out->shape) ? GW_OK : GW_E_CORRUPT;
}
