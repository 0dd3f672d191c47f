/* store_recover.c - a store that goes on from an image. Contract: store_recover.h.
 *
 *   words of the image -> empty store of that shape, log at `resume` -> floors, mixed chains,
 *   numbers -> snapshot -> replay -> the memory is shared out
 *
 * Rules:
 *  1. What is read is judged, never believed: state, snapshot and pages may be those of another
 *     store, or of another time. What does not fit is refused with a sentence that says what.
 *  2. Nothing is written. Who fails, or is killed, leaves everything as it was.
 *  3. What is true of an image beyond its records goes on being true until begin has passed its
 * end: mixed chains are marked there, floors stay, and slots that are dropped now get one: the next
 *     image still holds their records. */
#include "index/store_recover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/device.h"
#include "index/foreign.h"
#include "index/replay.h"
#include "index/snapshot.h"

#define MIB ((uint64_t)1 << 20)

struct recovery {
    const struct gw_recovery *r;
    struct gw_store *store;
    char *why;
    size_t why_bytes;
    uint64_t reference; /* for widening */
    uint64_t entries_dropped;
    bool too_new; /* an entry leads beyond the image */
};

/* ---- what must fit ---- */

static enum gw_status check_addresses(const struct gw_store_options *options,
                                      const struct gw_recovery *r, char *why, size_t why_bytes)
{
    uint32_t page_bits = options->page_bits ? options->page_bits : GW_STORE_PAGE_BITS;
    const struct gw_store_image *image = &r->image;
    uint64_t mask = ((uint64_t)1 << page_bits) - 1;
    if (!options->device) {
        snprintf(why, why_bytes, "there is no device to read the image from");
        return GW_E_INVALID;
    }
    if (image->begin.v > image->end.v || image->end.v > r->resume.v ||
        ((image->end.v | r->resume.v) & mask) != 0 || r->resume.v == 0) {
        snprintf(why, why_bytes,
                 "the image %" PRIu64 " to %" PRIu64 " and the tail at %" PRIu64
                 " do not fit pages of %" PRIu64 " bytes",
                 image->begin.v, image->end.v, r->resume.v, mask + 1);
        return GW_E_INVALID;
    }
    for (uint32_t i = 0; i < image->gaps_count; i++)
        if (image->gaps[i].from.v >= image->gaps[i].to.v ||
            ((image->gaps[i].from.v | image->gaps[i].to.v) & mask) != 0 ||
            image->gaps[i].to.v > image->end.v ||
            (i > 0 && image->gaps[i].from.v < image->gaps[i - 1].to.v)) {
            snprintf(why, why_bytes, "gap %u of the image, %" PRIu64 " to %" PRIu64 ", is wrong", i,
                     image->gaps[i].from.v, image->gaps[i].to.v);
            return GW_E_INVALID;
        }
    return GW_OK;
}

static enum gw_status refuse_memory(uint64_t needed, uint64_t given, char *why, size_t why_bytes)
{
    snprintf(why, why_bytes,
             "the index of the image needs %" PRIu64 " MiB (%" PRIu64
             " bytes) of memory, it is given %" PRIu64 " MiB (%" PRIu64 " bytes)",
             (needed + MIB - 1) / MIB, needed, given / MIB, given);
    return GW_E_INVALID;
}

static uint64_t index_given(const struct gw_store_options *options)
{
    uint64_t bytes = options->index_bytes ? options->index_bytes : options->log_bytes / 2;
    return bytes > options->index_bytes_max ? bytes : options->index_bytes_max;
}

/* ---- what the image says ---- */

static enum gw_status take_over(struct recovery *c, const struct gwi_image_words *words)
{
    const struct gw_store_image *image = &c->r->image;
    struct gw_store *store = c->store;
    if (gwi_floors_read(store->floors, words->floors, words->floors_count, image->end) != GW_OK) {
        snprintf(c->why, c->why_bytes, "the floors of slots in the image are damaged");
        return GW_E_CORRUPT;
    }
    if (gwi_foreign_read(store->foreign, words->foreign, words->foreign_count, image->end) !=
        GW_OK) {
        snprintf(c->why, c->why_bytes, "what the image says of indirections is damaged");
        return GW_E_CORRUPT;
    }
    if (c->r->drop)
        gwi_floors_raise(store->floors, c->r->drop, image->end);
    uint64_t begin = atomic_load_explicit(&store->log->begin, memory_order_relaxed);
    for (uint64_t i = 0; i < words->names_count; i++)
        gwi_chains_mark(store->chains, words->names[i], image->end, begin);
    if (words->all_mixed)
        gwi_chains_mark_all(store->chains, image->end.v);
    /* Relaxed, all: nobody else uses the store yet. */
    atomic_store_explicit(&store->expires, image->expires, memory_order_relaxed);
    atomic_store_explicit(&store->closed.version_highest, image->version_highest,
                          memory_order_relaxed);
    gw_store_version_floor(store, image->version_highest); /* keys that come back begin above */
    atomic_store_explicit(&store->closed.keys, image->keys, memory_order_relaxed);
    atomic_store_explicit(&store->closed.live_bytes, image->live_bytes, memory_order_relaxed);
    return GW_OK;
}

/* ---- the snapshot ---- */

/* Which entries are made: those of records that still are. */
static bool entry_wanted(void *ctx, uint64_t entry)
{
    struct recovery *c = ctx;
    uint64_t at = gw_addr_widen(gw_entry_narrow(entry), gw_addr_of(c->reference)).v;
    if (at >= c->r->image.end.v) {
        c->too_new = true;
        return false;
    }
    if (at < c->r->image.begin.v)
        return false;
    if (at >= gwi_floor(c->store->floors, gw_entry_slot(entry)))
        return true;
    c->entries_dropped += c->r->drop && gw_slots_has(c->r->drop, gw_entry_slot(entry));
    return false;
}

static enum gw_status block_load(struct recovery *c, struct gwi_snapshot_reader *reader,
                                 struct gwi_table_loader *loader, const uint8_t *block)
{
    const uint64_t *words;
    uint32_t count;
    const char *fault = NULL;
    uint64_t number = reader->sequence;
    const struct gw_table *table = c->store->table;
    enum gw_status st = gwi_snapshot_block(reader, block, &words, &count, &fault);
    if (st == GW_OK && number == 0) {
        if (reader->hash_check != gwi_snapshot_hash_check(c->store->hash_seed))
            fault = "it is of a store with another hash seed";
        else if (reader->shape != gwi_snapshot_shape(table->directory_bits, table->bucket_bits))
            fault = "it is of an index of another shape";
        else if (reader->start != c->r->snapshot_start.v)
            fault = "it begins at another address than the image says";
        st = fault ? GW_E_INVALID : GW_OK;
    }
    if (st == GW_OK) {
        st = gwi_table_loader_put(loader, words, count);
        if (st == GW_E_CORRUPT)
            fault = "its contents make no sense";
        if (st == GW_OK && c->too_new) {
            fault = "it leads beyond the image, for which it is too new";
            st = GW_E_INVALID;
        }
    }
    if (fault)
        snprintf(c->why, c->why_bytes, "block %" PRIu64 " of the index snapshot: %s", number,
                 fault);
    return st;
}

static enum gw_status load(struct recovery *c, uint64_t *loaded)
{
    struct gwi_snapshot_reader reader = {0};
    struct gwi_table_loader loader;
    gwi_table_loader_init(&loader, c->store->table);
    loader.wanted = entry_wanted;
    loader.ctx = c;
    uint8_t *block = aligned_alloc(GW_CACHE_LINE, GW_SNAPSHOT_BLOCK);
    if (!block)
        return GW_E_NOMEM;
    enum gw_status st;
    while ((st = c->r->next_block(c->r->next_ctx, block)) == GW_OK) {
        st = block_load(c, &reader, &loader, block);
        if (st != GW_OK)
            break;
        if (c->r->progress_bytes)
            atomic_fetch_add_explicit(c->r->progress_bytes, GW_SNAPSHOT_BLOCK,
                                      memory_order_relaxed);
    }
    free(block);
    if (st == GW_END) {
        st = reader.last ? gwi_table_loader_end(&loader) : GW_E_CORRUPT;
        if (st != GW_OK)
            snprintf(c->why, c->why_bytes,
                     "the index snapshot ends too early, behind block %" PRIu64, reader.sequence);
    } else if (st != GW_OK && !c->why[0]) {
        snprintf(c->why, c->why_bytes, "block %" PRIu64 " of the index snapshot cannot be read",
                 reader.sequence);
    }
    *loaded = loader.loaded;
    return st;
}

/* ---- the whole ---- */

static enum gw_status replay(struct recovery *c, uint64_t *records, uint64_t *dropped)
{
    const struct gw_log *log = c->store->log;
    uint64_t begin = atomic_load_explicit(&log->begin, memory_order_relaxed);
    uint64_t from = c->r->next_block ? c->r->snapshot_start.v : begin;
    struct gwi_replay r = {.store = c->store,
                           .next = (from > begin ? from : begin) >> log->page_bits,
                           .end = c->r->image.end.v >> log->page_bits,
                           .drop = c->r->drop,
                           .progress_bytes = c->r->progress_bytes,
                           .why = c->why,
                           .why_bytes = c->why_bytes};
    if (pthread_mutex_init(&r.lock, NULL) != 0)
        return GW_E_NOMEM;
    uint32_t threads = c->r->threads < 1 ? 1 : c->r->threads;
    if (threads > c->store->threads_max)
        threads = c->store->threads_max;
    enum gw_status st = gwi_replay_run(&r, threads);
    pthread_mutex_destroy(&r.lock);
    *records = atomic_load_explicit(&r.records, memory_order_relaxed);
    *dropped = atomic_load_explicit(&r.dropped, memory_order_relaxed);
    return st;
}

/* Takes off the numbers what was dropped of `all`: approximate, as they are. */
static void count_off(struct gw_store *store, uint64_t dropped, uint64_t all)
{
    if (dropped == 0)
        return;
    _Atomic int64_t *numbers[] = {&store->closed.keys, &store->closed.live_bytes};
    for (int i = 0; i < 2; i++) {
        int64_t now = atomic_load_explicit(numbers[i], memory_order_relaxed);
        int64_t off = (int64_t)((double)now * (double)dropped / (double)all);
        atomic_store_explicit(numbers[i], now - off, memory_order_relaxed);
    }
}

/* The index has what it needs; the log gets the rest (store_index.c). */
static void share_memory(struct gw_store *store, bool populate)
{
    gwi_index_share(store);
    if (!populate)
        return;
    gw_table_populate(store->table);
    uint64_t frames = atomic_load_explicit(&store->log->frames_target, memory_order_relaxed);
    gw_memory_populate(store->log->frames, frames << store->log->page_bits);
}

static enum gw_status fill(struct recovery *c)
{
    uint64_t loaded = 0, records = 0, dropped = 0;
    enum gw_status st = GW_OK;
    if (c->r->next_block)
        st = load(c, &loaded);
    if (st == GW_OK)
        st = replay(c, &records, &dropped);
    if (st == GW_OK && c->r->next_block && c->entries_dropped != 0)
        count_off(c->store, c->entries_dropped, c->entries_dropped + loaded);
    else if (st == GW_OK && records != 0)
        count_off(c->store, dropped, records);
    return st;
}

enum gw_status gw_store_recover(const struct gw_store_options *options,
                                const struct gw_recovery *recovery, struct gw_store **out,
                                char *why, size_t why_bytes)
{
    char nothing[1];
    if (!why || why_bytes == 0) {
        why = nothing;
        why_bytes = sizeof nothing;
    }
    why[0] = 0;
    struct gwi_image_words words;
    enum gw_status st = check_addresses(options, recovery, why, why_bytes);
    if (st != GW_OK)
        return st;
    if (gwi_image_words_read(recovery->mixed, recovery->mixed_count, &words) != GW_OK) {
        snprintf(why, why_bytes, "what the image says of the index is missing or damaged");
        return GW_E_CORRUPT;
    }
    uint64_t given = index_given(options), needed = gwi_table_shape_bytes(&words.shape);
    if (needed > given)
        return refuse_memory(needed, given, why, why_bytes);
    struct gw_store_options o = *options;
    o.log_start = recovery->resume.v;
    o.populate = false;
    struct gwi_store_origin origin = {.shape = &words.shape,
                                      .begin = recovery->image.begin,
                                      .end = recovery->image.end,
                                      .gaps = recovery->image.gaps,
                                      .gaps_count = recovery->image.gaps_count,
                                      .waste = recovery->image.waste,
                                      .expiry_ms = recovery->image.expiry_ms,
                                      .number = recovery->image.number};
    struct recovery c = {.r = recovery, .why = why, .why_bytes = why_bytes};
    st = gwi_store_open_from(&o, &origin, &c.store);
    if (st != GW_OK) {
        snprintf(why, why_bytes, "the store cannot be opened: %s", gw_status_text(st));
        return st;
    }
    c.reference = gw_log_tail(c.store->log).v + GW_ADDR_LEAD;
    st = take_over(&c, &words);
    if (st == GW_OK)
        st = fill(&c);
    while (gw_epoch_poll(c.store->epoch) != 0) {}
    needed = gw_table_memory_bytes(c.store->table);
    if (st == GW_OK && needed > given)
        st = refuse_memory(needed, given, why, why_bytes);
    if (st != GW_OK) {
        if (!why[0])
            snprintf(why, why_bytes, "%s", gw_status_text(st));
        gw_store_close(c.store);
        return st;
    }
    share_memory(c.store, options->populate);
    *out = c.store;
    return GW_OK;
}
