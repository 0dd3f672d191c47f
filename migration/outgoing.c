/* outgoing.c - claiming, walking and acknowledging the chunks of an outgoing job.
 *
 * A chunk is free if its word's attempt is not the current one and it is not acknowledged, so that
 * a restart is one store and no pass over the chunks.
 *
 * Rules:
 *  1. A chunk is claimed by CAS, once an attempt. What its claimer does afterwards under an older
 *     attempt than the current one changes no word (CAS) and its frames are dropped by the target.
 *  2. An ack counts only in the attempt that is current, and only if no restart from scratch came
 *     behind it: `acked` carries the attempt from which on acks count.
 *  3. The cursor moves by whole buckets; what of a bucket went out before a frame was full, or
 *     before the walk had to wait for the device, is remembered by key and not by place: the range
 *     is frozen (MIGRATION R5), but compaction and promotion move a record within its chain, and a
 *     table may split under the cursor.
 * Chunk words are relaxed: they only divide the work. The records themselves were published to
 * every dispatcher by the index; frames travel by the network. */
#include "migration/outgoing.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/hash.h"
#include "index/base/log_line.h"
#include "index/indirection.h"
#include "migration/frame_internal.h"
#include "migration/outgoing_internal.h"

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}
static bool swap(_Atomic uint64_t *word, uint64_t *seen, uint64_t next)
{
    return atomic_compare_exchange_strong_explicit(word, seen, next, memory_order_relaxed,
                                                   memory_order_relaxed);
}
static void count(_Atomic uint64_t *counter, uint64_t n) /* single writer */
{
    atomic_store_explicit(counter, load(counter) + n, memory_order_relaxed);
}

enum gw_status gw_outgoing_create(uint64_t job, const struct gw_slots *slots, uint8_t chunk_bits,
                                  uint64_t attempt, uint32_t dispatchers, struct gw_outgoing **out)
{
    if (chunk_bits == 0 || chunk_bits > GW_CHUNK_BITS_MAX || dispatchers == 0)
        return GW_E_INVALID;
    struct gw_outgoing *o = aligned_alloc(GW_CACHE_LINE, sizeof *o);
    if (!o)
        return GW_E_NOMEM;
    memset(o, 0, sizeof *o);
    o->job = job;
    o->slots = *slots;
    o->chunk_bits = chunk_bits;
    o->chunks = 1u << chunk_bits;
    o->dispatchers = dispatchers;
    atomic_init(&o->attempt, attempt);
    atomic_init(&o->acked, attempt << 32);
    atomic_init(&o->exhausted, (uint32_t)attempt - 1);
    pthread_mutex_init(&o->hot.lock, NULL);
    atomic_init(&o->hot.over, true);
    o->word = calloc(o->chunks, sizeof *o->word);
    o->hand = aligned_alloc(GW_CACHE_LINE, dispatchers * sizeof *o->hand);
    if (o->hand)
        memset(o->hand, 0, dispatchers * sizeof *o->hand);
    bool pass = gwi_pass_init(&o->pass);
    if (!pass || !o->word || !o->hand ||
        gw_unlinker_create(slots, dispatchers, &o->unlinker) != GW_OK) {
        gw_outgoing_destroy(o);
        return GW_E_NOMEM;
    }
    for (uint32_t i = 0; i < o->chunks; i++)
        atomic_init(&o->word[i], gwi_word_make(attempt - 1, GWI_FREE));
    *out = o;
    return GW_OK;
}

void gw_outgoing_destroy(struct gw_outgoing *out)
{
    if (!out)
        return;
    gw_unlinker_destroy(out->unlinker);
    for (uint32_t i = 0; out->hand && i < out->dispatchers; i++)
        free(out->hand[i].sent);
    free(out->hand);
    free(out->word);
    gwi_pass_destroy(&out->pass);
    pthread_mutex_destroy(&out->hot.lock);
    free(out);
}

void gw_outgoing_set(struct gw_outgoing *o, const struct gw_outgoing_options *options)
{
    o->options = *options;
    gwi_pass_restart(&o->pass, gwi_outgoing_current(o), true);
    gwi_hot_restart(o, gwi_outgoing_current(o), true);
}

void gw_outgoing_indirect(struct gw_outgoing *o, bool allowed)
{
    atomic_store_explicit(&o->indirect, allowed, memory_order_relaxed);
}

size_t gw_outgoing_frame_bytes_max(const struct gw_store *store)
{
    return GW_FRAME_HEADER + 64 + gw_store_record_bytes_max(store);
}

/* ---- acks and restarts --------------------------------------------------------------------- */

static bool acked_counts(const struct gw_outgoing *o, uint64_t word)
{
    return gwi_word_state(word) == GWI_ACKED &&
           (int32_t)(gwi_word_attempt(word) - (uint32_t)(load(&o->acked) >> 32)) >= 0;
}

static bool chunk_acked(struct gw_outgoing *o, uint32_t chunk, uint64_t attempt)
{
    if (chunk >= o->chunks || gwi_outgoing_current(o) != attempt)
        return false;
    uint64_t word = load(&o->word[chunk]);
    do {
        if (acked_counts(o, word) || gwi_word_attempt(word) != (uint32_t)attempt)
            return acked_counts(o, word); /* again, or a claim of a later attempt */
    } while (!swap(&o->word[chunk], &word, gwi_word_make(attempt, GWI_ACKED)));
    uint64_t acked = load(&o->acked);
    do {
        if ((int32_t)((uint32_t)attempt - (uint32_t)(acked >> 32)) < 0)
            return false; /* rule 2 */
    } while (!swap(&o->acked, &acked, acked + 1));
    return true;
}

bool gw_outgoing_acked(struct gw_outgoing *o, const struct gw_frame *ack)
{
    uint32_t which = (uint32_t)(ack->sequence >> 32);
    return ack->flags & GW_CHUNK_PAGE ? gwi_pass_acked(o, which, ack->view)
                                      : chunk_acked(o, which, ack->view);
}

void gw_outgoing_restart(struct gw_outgoing *o, uint64_t attempt, bool from_scratch)
{
    GW_ASSERT(attempt > gwi_outgoing_current(o));
    if (from_scratch)
        atomic_store_explicit(&o->acked, attempt << 32, memory_order_relaxed);
    atomic_store_explicit(&o->next, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&o->retries, 1, memory_order_relaxed);
    gwi_pass_restart(&o->pass, attempt, from_scratch);
    /* It publishes the attempt, with release: who sees it sees from when on acks count, and whether
     * indirections are allowed; pairs with gwi_outgoing_current(). */
    gwi_hot_restart(o, attempt, from_scratch);
}

bool gw_outgoing_done(const struct gw_outgoing *o)
{
    return (uint32_t)load(&o->acked) == o->chunks;
}

uint64_t gw_outgoing_attempt(const struct gw_outgoing *o)
{
    return gwi_outgoing_current(o);
}

/* ---- walking ------------------------------------------------------------------------------- */

static bool claim(struct gw_outgoing *o, struct gwi_hand *hand, uint64_t attempt)
{
    if (atomic_load_explicit(&o->exhausted, memory_order_relaxed) == (uint32_t)attempt)
        return false;
    uint32_t start = atomic_load_explicit(&o->next, memory_order_relaxed);
    for (uint32_t i = 0; i < o->chunks; i++) {
        uint32_t chunk = (start + i) & (o->chunks - 1);
        uint64_t word = load(&o->word[chunk]);
        /* Claimed in this attempt or, if we are late, in a later one. */
        if ((int32_t)(gwi_word_attempt(word) - (uint32_t)attempt) >= 0 || acked_counts(o, word) ||
            !swap(&o->word[chunk], &word, gwi_word_make(attempt, GWI_CLAIMED)))
            continue;
        atomic_store_explicit(&o->next, chunk + 1, memory_order_relaxed);
        hand->active = true;
        hand->attempt = attempt;
        hand->chunk = chunk;
        hand->frame = 0;
        hand->sent_count = 0;
        hand->cursor = (struct gw_cursor){.hash = gw_chunk_first(chunk, o->chunk_bits)};
        return true;
    }
    atomic_store_explicit(&o->exhausted, (uint32_t)attempt, memory_order_relaxed);
    return false;
}

struct fill {
    struct gw_writer w;
    struct gwi_hand *hand;
    const struct gw_outgoing *o;
    uint32_t count, indirections;
    bool full;
};

#define SENT_SEED UINT64_C(0x9e3779b97f4a7c15) /* any seed but the cluster's */

static bool was_sent(const struct gwi_hand *hand, const struct gwi_sent *key)
{
    for (uint32_t i = 0; i < hand->sent_count; i++)
        if (hand->sent[i].hash == key->hash && hand->sent[i].other == key->other)
            return true;
    return false;
}

/* Out of memory: the key may go out twice, which the target takes as one. */
static void note_sent(struct gwi_hand *hand, const struct gwi_sent *key)
{
    if (hand->sent_count == hand->sent_max) {
        uint32_t max = hand->sent_max ? 2 * hand->sent_max : 32;
        struct gwi_sent *wider = realloc(hand->sent, max * sizeof *wider);
        if (!wider)
            return;
        hand->sent = wider;
        hand->sent_max = max;
    }
    hand->sent[hand->sent_count++] = *key;
}

static bool fill_record(void *ctx, const struct gw_record_view *view)
{
    struct fill *fill = ctx;
    struct gwi_sent key = {view->hash, gw_key_hash(view->key, view->key_bytes, SENT_SEED)};
    if (was_sent(fill->hand, &key))
        return true;
    struct gw_peer_record record = gwi_record_of_view(view);
    if (gw_peer_record_bytes(&record) > gw_writer_left(&fill->w)) {
        fill->full = true;
        return false;
    }
    gw_peer_record_encode(&record, &fill->w);
    note_sent(fill->hand, &key);
    fill->count++;
    return true;
}

/* An indirection that covers more than the chunk does so where the table has fewer buckets than
 * there are chunks. At the target it must not reach into a chunk whose records have not come (R15):
 * each chunk gets its part. */
static struct gw_peer_indirection part_of_chunk(const struct fill *fill,
                                                const struct gw_indirection *in)
{
    struct gw_peer_indirection part = gwi_peer_of(in);
    if (in->prefix_bits < fill->o->chunk_bits) {
        part.hash_prefix = gw_chunk_first(fill->hand->chunk, fill->o->chunk_bits);
        part.prefix_bits = fill->o->chunk_bits;
    }
    return part;
}

/* What names an indirection of a bucket that is visited again: the one of our own log stands for
 * its chain wherever it points by now, for all that was in front of it then went out before it. */
static struct gwi_sent indirection_name(const struct fill *fill,
                                        const struct gw_peer_indirection *in)
{
    struct gw_peer_indirection same = *in;
    uint8_t value[GW_PEER_INDIRECTION_BYTES];
    same.begin = 0;
    if (in->map_version == fill->o->options.map_version)
        same.address = 0;
    (void)gw_peer_indirection_record(&same, value);
    return (struct gwi_sent){gw_key_hash(value, sizeof value, 0),
                             gw_key_hash(value, sizeof value, SENT_SEED)};
}

static bool fill_indirection(void *ctx, const struct gw_indirection *in)
{
    struct fill *fill = ctx;
    struct gw_peer_indirection m = part_of_chunk(fill, in);
    struct gwi_sent name = indirection_name(fill, &m);
    if (was_sent(fill->hand, &name))
        return true;
    uint8_t value[GW_PEER_INDIRECTION_BYTES];
    struct gw_peer_record record = gw_peer_indirection_record(&m, value);
    if (gw_peer_record_bytes(&record) > gw_writer_left(&fill->w)) {
        fill->full = true;
        return false;
    }
    gw_peer_record_encode(&record, &fill->w);
    note_sent(fill->hand, &name);
    fill->count++;
    fill->indirections++;
    return true;
}

static bool is_brought(void *ctx, uint64_t page)
{
    const struct fill *fill = ctx;
    return gwi_pass_brought(fill->o, page);
}

/* One bucket; false: the frame is full or the bucket is busy, or being read. */
static bool fill_bucket(struct gw_outgoing *o, struct gwi_hand *hand, struct gw_thread *thread,
                        struct fill *fill)
{
    uint64_t before = hand->cursor.hash, unreadable = gw_store_unreadable(thread);
    uint64_t last = gw_chunk_last(hand->chunk, o->chunk_bits);
    if (atomic_load_explicit(&o->indirect, memory_order_relaxed))
        gw_store_walk_shared(thread, &hand->cursor, last, &o->slots, o->options.map_version, 1,
                             fill_record, fill_indirection, fill);
    else
        gw_store_walk_rest(thread, &hand->cursor, last, &o->slots, 1, is_brought, fill_record,
                           fill);
    if (GW_UNLIKELY(gw_store_unreadable(thread) != unreadable)) {
        /* Going on would lose what cannot be read, without a word: the chunk stays open, its
         * records stay here, and the job waits for somebody to mend the disk. */
        if (!atomic_exchange_explicit(&o->unreadable, true, memory_order_relaxed))
            gw_error("ship", "job=%llu why=\"records cannot be read from the disk\" next=wait",
                     (unsigned long long)o->job);
        hand->cursor = (struct gw_cursor){.hash = before};
        return false;
    }
    bool passed = hand->cursor.done || hand->cursor.hash != before;
    if (passed)
        hand->sent_count = 0;
    return passed;
}

static void hand_check(struct gw_outgoing *o, struct gwi_hand *hand, uint64_t attempt)
{
    /* The target may acknowledge a chunk before its last frame: it was complete already. */
    if (hand->active && (hand->attempt != attempt || acked_counts(o, load(&o->word[hand->chunk]))))
        hand->active = false;
}

enum gw_status gw_outgoing_fill(struct gw_outgoing *o, uint32_t dispatcher,
                                struct gw_thread *thread, uint64_t attempt, uint8_t *room,
                                size_t room_bytes, uint32_t buckets_max, size_t *used)
{
    GW_ASSERT(dispatcher < o->dispatchers);
    struct gwi_hand *hand = &o->hand[dispatcher];
    *used = 0;
    /* A restart is known here before its caller opens another connection: a frame of it on the old
     * one would be answered to nobody. */
    if (attempt != gwi_outgoing_current(o))
        return GW_END;
    if (GW_UNLIKELY(!atomic_load_explicit(&o->hot.over, memory_order_relaxed)))
        return gwi_hot_fill(o, thread, attempt, room, room_bytes, used);
    if (!atomic_load_explicit(&o->indirect, memory_order_relaxed) &&
        !atomic_load_explicit(&o->pass.over, memory_order_acquire)) {
        enum gw_status st =
            gwi_pass_fill(o, &hand->page, thread, attempt, room, room_bytes, buckets_max, used);
        if (st != GW_END)
            return st;
    }
    hand_check(o, hand, attempt);
    if (!hand->active && !claim(o, hand, attempt))
        return GW_END;

    struct fill fill = {.w = gwi_frame_start(room, room_bytes), .hand = hand, .o = o};
    bool stopped = false;
    for (uint32_t n = 0; n < buckets_max && !hand->cursor.done && !stopped; n++)
        stopped = !fill_bucket(o, hand, thread, &fill);
    bool last = hand->cursor.done;
    enum gw_status st = stopped && !fill.full ? GW_PENDING : GW_OK;
    if (fill.w.bad || (fill.full && fill.count == 0))
        return GW_E_TOO_LARGE;
    if (fill.count == 0 && !last)
        return st;
    *used = gwi_frame_finish(&fill.w, (struct gw_frame){
                                          .kind = GW_KIND_CHUNK,
                                          .flags = last ? GW_CHUNK_LAST : 0,
                                          .count = fill.count,
                                          .session = o->job,
                                          .sequence = (uint64_t)hand->chunk << 32 | hand->frame,
                                          .view = attempt,
                                      });
    hand->frame++;
    count(&hand->records, fill.count);
    count(&hand->bytes, *used);
    count(&hand->indirections, fill.indirections);
    count(&hand->chunks, last);
    if (last) {
        uint64_t word = gwi_word_make(attempt, GWI_CLAIMED);
        (void)swap(&o->word[hand->chunk], &word, gwi_word_make(attempt, GWI_SENT)); /* rule 1 */
        hand->active = false;
    }
    return st;
}

/* ---- closing ------------------------------------------------------------------------------- */

void gw_outgoing_unlink_begin(struct gw_outgoing *o)
{
    /* Release: pairs with the acquire before a pull's look-up. It is a courtesy only: the target
     * has every chunk by now and looks before it believes an "absent" (R10). */
    atomic_store_explicit(&o->closing, true, memory_order_release);
}

enum gw_status gw_outgoing_unlink(struct gw_outgoing *o, uint32_t dispatcher,
                                  struct gw_thread *thread, uint32_t buckets_max)
{
    GW_ASSERT(atomic_load_explicit(&o->closing, memory_order_acquire));
    return gw_unlinker_step(o->unlinker, dispatcher, thread, buckets_max);
}

bool gw_outgoing_unlinked(const struct gw_outgoing *o)
{
    return gw_unlinker_done(o->unlinker);
}

/* Chunks that are to be sent yet, in this attempt. */
static uint64_t chunks_left(const struct gw_outgoing *o)
{
    uint32_t attempt = (uint32_t)gwi_outgoing_current(o);
    uint64_t left = 0;
    for (uint32_t i = 0; i < o->chunks; i++) {
        uint64_t word = load(&o->word[i]);
        bool sent = gwi_word_state(word) == GWI_SENT && gwi_word_attempt(word) == attempt;
        left += !sent && !acked_counts(o, word);
    }
    return left;
}

void gw_outgoing_progress(const struct gw_outgoing *o, struct gw_outgoing_progress *progress)
{
    uint64_t chunks = 0, bytes = 0, records = 0, left = chunks_left(o);
    *progress = (struct gw_outgoing_progress){
        .chunks_done = (uint32_t)load(&o->acked),
        .chunks = o->chunks,
        .pulls = load(&o->pulls),
        .pull_leads = load(&o->pull_leads),
        .hot_records = load(&o->hot.records),
        .retries = load(&o->retries),
    };
    for (uint32_t i = 0; i < o->dispatchers; i++) {
        bytes += load(&o->hand[i].bytes);
        records += load(&o->hand[i].records);
        chunks += load(&o->hand[i].chunks);
        progress->indirections += load(&o->hand[i].indirections);
    }
    uint64_t paged = load(&o->pass.bytes), paged_records = load(&o->pass.records);
    progress->bytes = bytes + load(&o->pull_bytes) + load(&o->hot.bytes) + paged;
    progress->records = records + load(&o->pull_records) + progress->hot_records + paged_records;
    /* As those that were sent, once there are some. */
    bool known = chunks > 0;
    uint64_t total = o->options.bytes > paged ? o->options.bytes - paged : 0;
    uint64_t total_records =
        o->options.records > paged_records ? o->options.records - paged_records : 0;
    progress->bytes_left = known ? bytes / chunks * left : total / o->chunks * left;
    progress->records_left = known ? records * left / chunks : total_records * left / o->chunks;
}
