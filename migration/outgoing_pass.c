/* outgoing_pass.c - the pass over the log: what lies on the device and may not stay there is read
 * page by page, each from its begin to its end, before the walk over the index begins.
 *
 * A page's word is as a chunk's (outgoing.c), a page that could not be read counts as settled, too.
 *
 * Rules:
 *  1. Of a page those records go out to which the index leads at once: of each chain the newest
 *     one. They go in frames of the page, numbered from 0, the last one marked, all by one
 *     dispatcher on its one connection; the target acknowledges the page. That is a chunk's way,
 *     but that a page completes nothing: its records are of all chunks.
 *  2. The walk over the index begins when all pages are settled. It leaves out what an acknowledged
 *     page has brought: it asks the index where a chain leads now, and that record went out, for
 *     the range is frozen and entries change to newer records only (gw_store_walk_rest). Compaction
 *     and promotion put records where no page of the pass is: these the walk finds.
 *  3. The pass goes on to head, wherever that is by then: what leaves memory meanwhile would be
 *     read one by one by the walk. The first one who finds no page below head has found its end.
 *  4. What cannot be read is left to the walk, which says so and waits; what lies in an object
 *     store that does not answer is tried again.
 *  5. It is worth it where the range's records lie close to each other. One of a few records in a
 *     large log is had by fewer reads one by one. */
#include <stdlib.h>

#include "index/base/log_line.h"
#include "migration/frame_internal.h"
#include "migration/outgoing_internal.h"

/* Bytes of log a record of the range: what a device reads in order in the time of a read of one
 * record by itself. 500 MB/s and 30,000 reads a second make 16 KiB. */
#define WORTH_BYTES UINT64_C(16384)
#define NO_LIMIT    UINT32_MAX

static bool counts(const struct gwi_pass *pass, uint64_t word)
{
    return (gwi_word_state(word) == GWI_ACKED || gwi_word_state(word) == GWI_UNREADABLE) &&
           (int32_t)(gwi_word_attempt(word) -
                     (uint32_t)atomic_load_explicit(&pass->from, memory_order_relaxed)) >= 0;
}

bool gwi_pass_init(struct gwi_pass *pass)
{
    pass->word = calloc(GW_PASS_PAGES_MAX, sizeof *pass->word); /* touched as far as it is used */
    pthread_mutex_init(&pass->lock, NULL);
    atomic_init(&pass->over, true); /* gw_outgoing_set */
    return pass->word != NULL;
}

void gwi_pass_destroy(struct gwi_pass *pass)
{
    free(pass->word);
    pthread_mutex_destroy(&pass->lock);
}

void gwi_pass_restart(struct gwi_pass *pass, uint64_t attempt, bool from_scratch)
{
    pthread_mutex_lock(&pass->lock);
    pass->attempt = attempt;
    pass->next = 0;
    if (from_scratch) {
        pass->settled = 0;
        pass->limit = pass->begun && !pass->worth ? 0 : NO_LIMIT;
        /* Relaxed, both: who sees the attempt sees them. */
        atomic_store_explicit(&pass->from, attempt, memory_order_relaxed);
        atomic_store_explicit(&pass->over, false, memory_order_relaxed);
    }
    pthread_mutex_unlock(&pass->lock);
}

/* Requires, all that follow up to `claim`: the lock. */
static void look_over(struct gwi_pass *pass)
{
    /* Release: who sees it sees which pages were acknowledged. */
    if (pass->settled == pass->limit)
        atomic_store_explicit(&pass->over, true, memory_order_release);
}

static void settle(struct gwi_pass *pass, uint32_t page, uint64_t attempt,
                   enum gwi_word_state state)
{
    atomic_store_explicit(&pass->word[page], gwi_word_make(attempt, state), memory_order_relaxed);
    pass->settled++;
    look_over(pass);
}

static bool is_worth_it(const struct gw_outgoing *o, uint64_t pages, uint64_t page_bytes)
{
    return pages != 0 && pages <= o->options.records * WORTH_BYTES / page_bytes;
}

/* The first one decides whether there is a pass, and where it begins. */
static void begin(struct gw_outgoing *o, uint64_t first, uint64_t end, uint64_t page_bytes)
{
    struct gwi_pass *pass = &o->pass;
    pass->begun = true;
    pass->first = first;
    pass->worth = is_worth_it(o, end - first, page_bytes);
    if (!pass->worth)
        pass->limit = 0;
    else
        gw_info("ship_by_page", "job=%llu pages=%llu page_bytes=%llu", (unsigned long long)o->job,
                (unsigned long long)(end - first), (unsigned long long)page_bytes);
}

/* GW_OK: the hand has a page. GW_PENDING: there is none, and some are not settled. GW_END: all are,
 * or another attempt is current. */
static enum gw_status claim(struct gw_outgoing *o, struct gwi_page_hand *hand,
                            struct gw_thread *thread, uint64_t page_bytes, uint64_t attempt)
{
    struct gwi_pass *pass = &o->pass;
    uint64_t first, end;
    gw_store_pages_cold(thread, &first, &end);
    pthread_mutex_lock(&pass->lock);
    enum gw_status st = attempt == pass->attempt ? GW_PENDING : GW_END;
    if (st != GW_END && !pass->begun)
        begin(o, first, end, page_bytes);
    for (; st == GW_PENDING && pass->next < pass->limit; pass->next++) {
        uint32_t page = pass->next;
        uint64_t word = atomic_load_explicit(&pass->word[page], memory_order_relaxed);
        if (pass->first + page >= end || page + 1 == GW_PASS_PAGES_MAX) {
            pass->limit = page; /* rule 3 */
            break;
        }
        if (counts(pass, word) || gwi_word_attempt(word) == (uint32_t)attempt)
            continue;
        atomic_store_explicit(&pass->word[page], gwi_word_make(attempt, GWI_CLAIMED),
                              memory_order_relaxed);
        *hand = (struct gwi_page_hand){.active = true,
                                       .attempt = attempt,
                                       .page = page,
                                       .cursor = {.owner = o->job, .page = pass->first + page}};
        st = GW_OK;
    }
    look_over(pass);
    if (st == GW_PENDING && atomic_load_explicit(&pass->over, memory_order_relaxed))
        st = GW_END;
    pthread_mutex_unlock(&pass->lock);
    return st;
}

bool gwi_pass_acked(struct gw_outgoing *o, uint32_t page, uint64_t attempt)
{
    struct gwi_pass *pass = &o->pass;
    bool counted = false;
    pthread_mutex_lock(&pass->lock);
    if (page < GW_PASS_PAGES_MAX && attempt == pass->attempt) {
        /* Sent to its end: before that nobody can have all of it. */
        counted = atomic_load_explicit(&pass->word[page], memory_order_relaxed) ==
                  gwi_word_make(attempt, GWI_SENT);
        if (counted)
            settle(pass, page, attempt, GWI_ACKED);
    }
    pthread_mutex_unlock(&pass->lock);
    return counted;
}

bool gwi_pass_brought(const struct gw_outgoing *o, uint64_t page)
{
    const struct gwi_pass *pass = &o->pass;
    if (page - pass->first >= GW_PASS_PAGES_MAX)
        return false;
    uint64_t word = atomic_load_explicit(&pass->word[page - pass->first], memory_order_relaxed);
    return gwi_word_state(word) == GWI_ACKED && counts(pass, word);
}

/* The page needs no frame any more: nothing of it went out, or nothing more of it can. */
static void leave(struct gw_outgoing *o, struct gwi_page_hand *hand, enum gwi_word_state state)
{
    struct gwi_pass *pass = &o->pass;
    hand->active = false;
    pthread_mutex_lock(&pass->lock);
    if (hand->attempt == pass->attempt)
        settle(pass, hand->page, hand->attempt, state);
    pthread_mutex_unlock(&pass->lock);
}

static void unreadable(struct gw_outgoing *o, struct gwi_page_hand *hand, enum gw_status st)
{
    gw_warn("ship_by_page", "job=%llu page=%llu status=%s next=one_by_one",
            (unsigned long long)o->job, (unsigned long long)hand->cursor.page, gw_status_name(st));
    leave(o, hand, GWI_UNREADABLE);
}

struct page_fill {
    struct gw_writer w;
    uint32_t count;
    bool full;
};

static bool fill_record(void *ctx, const struct gw_record_view *view)
{
    struct page_fill *fill = ctx;
    struct gw_peer_record record = gwi_record_of_view(view);
    fill->full = gw_peer_record_bytes(&record) > gw_writer_left(&fill->w);
    if (fill->full)
        return false;
    gw_peer_record_encode(&record, &fill->w);
    fill->count++;
    return true;
}

static void send(struct gw_outgoing *o, struct gwi_page_hand *hand, struct page_fill *fill,
                 bool last, size_t *used)
{
    struct gwi_pass *pass = &o->pass;
    *used = gwi_frame_finish(&fill->w, (struct gw_frame){
                                           .kind = GW_KIND_CHUNK,
                                           .flags = GW_CHUNK_PAGE | (last ? GW_CHUNK_LAST : 0),
                                           .count = fill->count,
                                           .session = o->job,
                                           .sequence = (uint64_t)hand->page << 32 | hand->frame,
                                           .view = hand->attempt,
                                       });
    hand->frame++;
    atomic_fetch_add_explicit(&pass->bytes, *used, memory_order_relaxed);
    atomic_fetch_add_explicit(&pass->records, fill->count, memory_order_relaxed);
    if (!last)
        return;
    uint64_t word = gwi_word_make(hand->attempt, GWI_CLAIMED);
    /* By CAS: under an older attempt than the current one it changes nothing. */
    (void)atomic_compare_exchange_strong_explicit(&pass->word[hand->page], &word,
                                                  gwi_word_make(hand->attempt, GWI_SENT),
                                                  memory_order_relaxed, memory_order_relaxed);
    hand->active = false;
}

enum gw_status gwi_pass_fill(struct gw_outgoing *o, struct gwi_page_hand *hand,
                             struct gw_thread *thread, uint64_t attempt, uint8_t *room,
                             size_t room_bytes, uint32_t records_max, size_t *used)
{
    if (hand->active && hand->attempt != attempt)
        hand->active = false;
    if (!hand->active) {
        enum gw_status st = claim(o, hand, thread, gw_store_page_bytes(thread), attempt);
        if (st != GW_OK)
            return st;
    }
    struct page_fill fill = {.w = gwi_frame_start(room, room_bytes)};
    enum gw_status st =
        gw_store_walk_page(thread, &hand->cursor, &o->slots, records_max, fill_record, &fill);
    if (fill.w.bad || (fill.full && fill.count == 0))
        return GW_E_TOO_LARGE;
    bool later = st == GW_PENDING || st == GW_NOT_YET || st == GW_E_UNREACHABLE; /* rule 4 */
    if (st != GW_OK && st != GW_END && !later) {
        unreadable(o, hand, st);
        return GW_OK;
    }
    if (st == GW_END && fill.count == 0 && hand->frame == 0)
        leave(o, hand, GWI_ACKED); /* there is nothing to be acknowledged */
    else if (fill.count != 0 || st == GW_END)
        send(o, hand, &fill, st == GW_END, used);
    return later ? GW_PENDING : GW_OK;
}
