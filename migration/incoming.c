/* incoming.c - inserting what arrives, and knowing when a chunk is complete.
 *
 * Rules:
 *  1. A chunk's frames come on one connection, in order, so the number of the next frame wanted is
 *     all the book that is kept. It belongs to an attempt; the first frame of another attempt
 *     starts it anew.
 *  2. A frame is counted, and its chunk acknowledged, when all of it is inserted. One that has to
 * be offered again goes on behind the last group that was inserted whole (a frame of a number is
 * the same frame within an attempt); what is there already answers EXISTS, a tombstone as well. So
 *     records whose chains lie on the device need to be there a group at a time only.
 *  3. The completeness bit is set with release after the last insertion; the look-ups of others
 *     come behind an acquire load of it (MIGRATION R10).
 *  4. Records come before indirections in the frame as in the chain, so a group ends where an
 *     indirection stands: it is linked when all before it is inserted (MIGRATION R15).
 *  5. Frames of a page of the source's log are as a chunk's, with a book of their own, but that
 * they complete nothing and hold records of all chunks: what comes for a complete one is left out
 *     (R12), looked at in the same stay in the epoch in which the others are inserted (R11, R13).
 *  6. A chunk's book is under a lock, one of a few: it is taken once a frame, by two dispatchers
 *     only if an old connection and a new one deliver the same chunk at the same time. Insertion
 *     runs under it, so that of two such frames one finds the other's done. */
#include "migration/incoming.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/indirection.h"
#include "migration/frame_internal.h"

#define GROUP              64u
#define TRIES_MAX          16u /* of records that are busy; then the frame waits a turn */
#define LOCKS              256u
#define RECORD_BYTES_LEAST 13u /* twelve and a key of one byte */

struct book {
    uint64_t attempt; /* 0: no frame yet */
    uint32_t next;    /* number of the frame wanted */
    uint32_t done;    /* records of that frame that are inserted: whole groups */
};

struct gwi_incoming {
    struct gw_slots slots;
    uint32_t chunks;
    _Atomic uint64_t attempt;
    _Atomic uint32_t chunks_done;
    atomic_bool unlinkable;
    /* Relaxed: numbers for people. */
    _Atomic uint64_t bytes, records, pulled, led, blocked, linked, hot;
    struct book *book;
    _Atomic(struct book *) pages; /* owned; with the first frame of a page */
    pthread_mutex_t lock[LOCKS];  /* chunks, and pages, by their numbers */
};

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void locks_init(struct gwi_incoming *inner)
{
    for (uint32_t i = 0; i < LOCKS; i++)
        pthread_mutex_init(&inner->lock[i], NULL);
}

enum gw_status gw_incoming_create(uint64_t job, const struct gw_slots *slots, uint8_t chunk_bits,
                                  uint64_t attempt, struct gw_incoming **out)
{
    if (chunk_bits == 0 || chunk_bits > GW_CHUNK_BITS_MAX)
        return GW_E_INVALID;
    uint32_t chunks = 1u << chunk_bits;
    struct gw_incoming *in = calloc(1, sizeof *in);
    struct gwi_incoming *inner = calloc(1, sizeof *inner);
    _Atomic uint64_t *complete = calloc((chunks + 63) / 64, sizeof *complete);
    struct book *book = calloc(chunks, sizeof *book);
    if (!in || !inner || !complete || !book) {
        free(in);
        free(inner);
        free(complete);
        free(book);
        return GW_E_NOMEM;
    }
    inner->slots = *slots;
    inner->chunks = chunks;
    inner->book = book;
    atomic_init(&inner->attempt, attempt);
    locks_init(inner);
    in->job = job;
    in->chunk_bits = chunk_bits;
    in->complete = complete;
    in->inner = inner;
    *out = in;
    return GW_OK;
}

void gw_incoming_destroy(struct gw_incoming *in)
{
    if (!in)
        return;
    for (uint32_t i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&in->inner->lock[i]);
    free(atomic_load_explicit(&in->inner->pages, memory_order_relaxed));
    free(in->inner->book);
    free(in->inner);
    free(in->complete);
    free(in);
}

void gw_incoming_restart(struct gw_incoming *in, uint64_t attempt)
{
    /* Relaxed: it only tells frames apart; the books are under their locks. */
    atomic_store_explicit(&in->inner->attempt, attempt, memory_order_relaxed);
}

uint64_t gw_incoming_attempt(const struct gw_incoming *in)
{
    return atomic_load_explicit(&in->inner->attempt, memory_order_relaxed);
}

uint32_t gw_incoming_chunks_done(const struct gw_incoming *in)
{
    return atomic_load_explicit(&in->inner->chunks_done, memory_order_acquire);
}

bool gw_incoming_links(const struct gw_incoming *in)
{
    return !atomic_load_explicit(&in->inner->unlinkable, memory_order_relaxed);
}

bool gw_incoming_done(const struct gw_incoming *in)
{
    return gw_incoming_chunks_done(in) == in->inner->chunks;
}

static bool chunk_complete(const struct gw_incoming *in, uint32_t chunk)
{
    return gw_incoming_complete(in, gw_chunk_first(chunk, in->chunk_bits));
}

/* ---- inserting ----------------------------------------------------------------------------- */

static void op_of_record(struct gw_op *op, const struct gw_peer_record *record,
                         const struct gw_store *store)
{
    memset(op, 0, sizeof *op);
    op->verb = GW_VERB_ARRIVE;
    op->key = record->key;
    op->key_bytes = record->key_bytes;
    op->expected_version = record->version;
    if (record->tombstone) {
        op->flags = GW_OP_TOMBSTONE;
    } else if (record->kind == GW_KIND_COUNTER) {
        op->flags = GW_OP_COUNTER;
        op->number = record->number;
    } else {
        op->value = record->value;
        op->value_bytes = record->value_bytes;
    }
    if (record->expiry_ms != 0) {
        op->flags |= GW_OP_HAS_EXPIRY;
        op->expiry_ms = record->expiry_ms;
    }
    gw_store_hash(store, op);
}

/* Inserts all of ops, trying busy ones again; reorders them. GW_WOULD_BLOCK; GW_PENDING: some are
 * behind records that are being read; or the failure of one. */
static enum gw_status insert(struct gw_thread *thread, struct gw_op *ops, uint32_t n)
{
    enum gw_status worst = GW_OK;
    for (uint32_t tries = 0; n > 0; tries++) {
        if (tries == TRIES_MAX)
            return GW_WOULD_BLOCK;
        size_t used;
        gw_store_execute(thread, ops, n, NULL, 0, &used);
        uint32_t busy = 0;
        for (uint32_t i = 0; i < n; i++) {
            enum gw_status st = (enum gw_status)ops[i].status;
            if (st == GW_RETRY)
                ops[busy++] = ops[i];
            else if (st == GW_PENDING)
                worst = worst == GW_OK ? GW_PENDING : worst;
            else if (st == GW_E_FULL)
                worst = GW_WOULD_BLOCK;
            else if (st != GW_OK && st != GW_EXISTS)
                return st;
        }
        n = busy;
    }
    return worst;
}

static struct gw_indirection indirection_of(const struct gw_peer_indirection *m)
{
    return (struct gw_indirection){.log_id = m->log_id,
                                   .address = m->address,
                                   .hash_prefix = m->hash_prefix,
                                   .map_version = m->map_version,
                                   .begin = m->begin,
                                   .slot = m->slot,
                                   .prefix_bits = m->prefix_bits};
}

/* GW_WOULD_BLOCK, GW_PENDING: again with the frame. Linking twice does no harm. */
static enum gw_status link_one(struct gw_incoming *in, struct gw_thread *thread,
                               const struct gw_peer_indirection *m)
{
    const struct gw_indirection indirection = indirection_of(m);
    enum gw_status st = GW_RETRY;
    for (uint32_t tries = 0; st == GW_RETRY && tries < TRIES_MAX; tries++)
        st = gw_store_link(thread, &indirection);
    if (st == GW_RETRY || st == GW_NOT_YET || st == GW_E_FULL)
        return GW_WOULD_BLOCK;
    add(&in->inner->linked, st == GW_OK);
    if (gw_failed(st))
        atomic_store_explicit(&in->inner->unlinkable, true, memory_order_relaxed);
    return st;
}

#define ANY UINT32_MAX

/* A frame's records on their way into the store: those up to `at` are there, and `n` gathered. */
struct inserting {
    struct gw_incoming *in;
    struct gw_thread *thread;
    struct book *book;
    uint32_t chunk; /* ANY: a page's */
    uint32_t at, n;
    struct gw_op ops[GROUP];
};

static void inserted(struct inserting *x, uint32_t n)
{
    x->at += n;
    x->book->done = x->at > x->book->done ? x->at : x->book->done;
}

/* Leaves out what belongs to complete chunks (rule 5); returns how many are left. */
static uint32_t drop_late(struct inserting *x)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < x->n; i++)
        if (!gw_incoming_complete(x->in, x->ops[i].hash))
            x->ops[n++] = x->ops[i];
    return n;
}

static enum gw_status insert_gathered(struct inserting *x)
{
    enum gw_status st = GW_OK;
    if (x->at >= x->book->done)
        st = insert(x->thread, x->ops, x->chunk == ANY ? drop_late(x) : x->n);
    if (st == GW_E_UNREACHABLE) /* of our own chain: the object store will be back */
        st = GW_PENDING;
    if (st == GW_OK)
        inserted(x, x->n);
    x->n = 0;
    return st;
}

static enum gw_status insert_indirection(struct inserting *x, const struct gw_peer_indirection *m)
{
    if (x->chunk == ANY || !gw_slots_has(&x->in->inner->slots, m->slot) ||
        m->prefix_bits < x->in->chunk_bits ||
        gw_chunk_of(m->hash_prefix, x->in->chunk_bits) != x->chunk)
        return GW_E_PROTOCOL;
    enum gw_status st = insert_gathered(x);
    if (st == GW_OK && x->at >= x->book->done)
        st = link_one(x->in, x->thread, m);
    if (st == GW_OK)
        inserted(x, 1);
    return st;
}

static enum gw_status insert_all(struct gw_incoming *in, struct gw_thread *thread,
                                 const struct gw_store *store, uint32_t chunk, struct book *book,
                                 uint32_t count, struct gw_reader *r)
{
    struct inserting x = {.in = in, .thread = thread, .book = book, .chunk = chunk};
    enum gw_status st = GW_OK;
    for (uint32_t i = 0; i < count && st == GW_OK; i++) {
        struct gw_peer_record record;
        struct gw_peer_indirection indirection;
        if (!gw_peer_record_decode(r, &record))
            return GW_E_PROTOCOL;
        if (gw_peer_indirection_of(&record, &indirection)) {
            st = insert_indirection(&x, &indirection);
            continue;
        }
        struct gw_op *op = &x.ops[x.n];
        op_of_record(op, &record, store);
        if (!gw_slots_has(&in->inner->slots, op->slot) ||
            (chunk != ANY && gw_chunk_of(op->hash, in->chunk_bits) != chunk))
            return GW_E_PROTOCOL;
        if (++x.n == GROUP)
            st = insert_gathered(&x);
    }
    if (st == GW_OK)
        st = insert_gathered(&x);
    if (st != GW_OK)
        return st;
    return r->bad || gw_reader_left(r) != 0 ? GW_E_PROTOCOL : GW_OK;
}

/* ---- frames -------------------------------------------------------------------------------- */

/* True: it was the last chunk. */
static bool complete(struct gw_incoming *in, uint32_t chunk)
{
    /* Release: rule 3. */
    atomic_fetch_or_explicit(&in->complete[chunk / 64], (uint64_t)1 << (chunk & 63),
                             memory_order_release);
    /* Acq_rel: who counts the last one has every chunk's records behind it. */
    return atomic_fetch_add_explicit(&in->inner->chunks_done, 1, memory_order_acq_rel) + 1 ==
           in->inner->chunks;
}

/* The frame, if its number is the one that is wanted. *taken: it was, and all of it is there now.
 * Requires: the book's lock. */
static enum gw_status take_frame(struct gw_incoming *in, struct gw_thread *thread,
                                 const struct gw_store *store, const struct gw_frame *f,
                                 struct gw_reader *body, struct book *book, uint32_t chunk,
                                 bool *taken)
{
    uint32_t number = (uint32_t)f->sequence;
    if (book->attempt != f->view)
        *book = (struct book){.attempt = f->view};
    if (number != book->next)
        return number < book->next ? GW_OK : GW_E_PROTOCOL;
    enum gw_status st = insert_all(in, thread, store, chunk, book, f->count, body);
    if (st != GW_OK)
        return st;
    book->next++;
    book->done = 0;
    add(&in->inner->bytes, f->bytes);
    add(&in->inner->records, f->count);
    *taken = true;
    return GW_OK;
}

/* Requires: the chunk's lock. */
static enum gw_status chunk_frame(struct gw_incoming *in, struct gw_thread *thread,
                                  const struct gw_store *store, const struct gw_frame *f,
                                  struct gw_reader *body, struct gw_incoming_result *result)
{
    bool last = f->flags & GW_CHUNK_LAST, taken = false;
    if (f->view != gw_incoming_attempt(in))
        return GW_OK; /* of another attempt: whoever sent it sends over (R12) */
    if (chunk_complete(in, result->chunk)) {
        /* Told at once, so that the rest need not come. */
        result->ack_due = last || (uint32_t)f->sequence == 0;
        return GW_OK;
    }
    enum gw_status st = take_frame(in, thread, store, f, body, &in->inner->book[result->chunk],
                                   result->chunk, &taken);
    if (taken && last) {
        result->completed_all = complete(in, result->chunk);
        result->ack_due = true;
    }
    return st;
}

/* The books of pages; NULL: no memory. What is not used of them is not touched. */
static struct book *page_books(struct gwi_incoming *inner)
{
    struct book *books = atomic_load_explicit(&inner->pages, memory_order_acquire);
    if (GW_LIKELY(books != NULL))
        return books;
    struct book *mine = calloc(GW_PASS_PAGES_MAX, sizeof *mine);
    /* Acq_rel: who finds another one's finds it zeroed. */
    if (mine && atomic_compare_exchange_strong_explicit(&inner->pages, &books, mine,
                                                        memory_order_acq_rel, memory_order_acquire))
        return mine;
    free(mine);
    return books;
}

/* Rule 5. Requires: the page's lock. */
static enum gw_status page_frame(struct gw_incoming *in, struct gw_thread *thread,
                                 const struct gw_store *store, const struct gw_frame *f,
                                 struct gw_reader *body, struct gw_incoming_result *result)
{
    bool taken = false;
    if (f->view != gw_incoming_attempt(in))
        return GW_OK;
    struct book *books = page_books(in->inner);
    if (!books)
        return GW_WOULD_BLOCK;
    enum gw_status st = take_frame(in, thread, store, f, body, &books[result->chunk], ANY, &taken);
    result->ack_due = taken && (f->flags & GW_CHUNK_LAST);
    return st;
}

/* Nothing waits for these, and nobody is told: what cannot be inserted now comes again. A record
 * of a complete chunk is one too late (R12); that a chunk is incomplete is looked at in the same
 * stay in the epoch in which its record is inserted (R11, R13). */
static enum gw_status hot_frame(struct gw_incoming *in, struct gw_thread *thread,
                                const struct gw_store *store, const struct gw_frame *f,
                                struct gw_reader *body)
{
    if ((f->flags & (GW_CHUNK_LAST | GW_CHUNK_PAGE)) || f->sequence != 0)
        return GW_E_PROTOCOL;
    if (f->view != gw_incoming_attempt(in))
        return GW_OK;
    struct gw_op ops[GROUP];
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->count; i++) {
        struct gw_peer_record record;
        if (!gw_peer_record_decode(body, &record) || record.kind == GW_PEER_INDIRECTION)
            return GW_E_PROTOCOL;
        op_of_record(&ops[n], &record, store);
        if (!gw_slots_has(&in->inner->slots, ops[n].slot))
            return GW_E_PROTOCOL;
        n += !gw_incoming_complete(in, ops[n].hash);
        if (n == GROUP || (i + 1 == f->count && n > 0)) {
            size_t used;
            gw_store_execute(thread, ops, n, NULL, 0, &used);
            for (uint32_t k = 0; k < n; k++)
                add(&in->inner->hot, ops[k].status == GW_OK);
            n = 0;
        }
    }
    add(&in->inner->bytes, f->bytes);
    return body->bad || gw_reader_left(body) != 0 ? GW_E_PROTOCOL : GW_OK;
}

enum gw_status gw_incoming_chunk(struct gw_incoming *in, struct gw_thread *thread,
                                 const struct gw_store *store, const struct gw_frame *f,
                                 struct gw_reader body, struct gw_incoming_result *result)
{
    bool page = f->flags & GW_CHUNK_PAGE;
    *result = (struct gw_incoming_result){.chunk = (uint32_t)(f->sequence >> 32), .page = page};
    if (result->chunk >= (page ? GW_PASS_PAGES_MAX : in->inner->chunks) ||
        !gw_frame_count_plausible(f, RECORD_BYTES_LEAST))
        return GW_E_PROTOCOL;
    if (f->flags & GW_CHUNK_HOT)
        return hot_frame(in, thread, store, f, &body);
    pthread_mutex_t *lock = &in->inner->lock[result->chunk % LOCKS];
    pthread_mutex_lock(lock);
    enum gw_status st = (page ? page_frame : chunk_frame)(in, thread, store, f, &body, result);
    pthread_mutex_unlock(lock);
    if (st == GW_WOULD_BLOCK)
        add(&in->inner->blocked, 1);
    return st;
}

size_t gw_incoming_ack(const struct gw_incoming *in, const struct gw_incoming_result *result,
                       uint8_t *room, size_t room_bytes)
{
    struct gw_writer w = gwi_frame_start(room, room_bytes);
    return gwi_frame_finish(&w, (struct gw_frame){
                                    .kind = GW_KIND_CHUNK_ACK,
                                    .flags = result->page ? GW_CHUNK_PAGE : 0,
                                    .session = in->job,
                                    .sequence = (uint64_t)result->chunk << 32,
                                    .view = gw_incoming_attempt(in),
                                });
}

/* ---- pulls --------------------------------------------------------------------------------- */

size_t gw_incoming_pull(const struct gw_incoming *in, uint64_t sequence, bool leads,
                        const struct gw_pull_key *keys, uint32_t n, uint8_t *room,
                        size_t room_bytes)
{
    struct gw_writer w = gwi_frame_start(room, room_bytes);
    for (uint32_t i = 0; i < n; i++) {
        gw_write16(&w, keys[i].key_bytes);
        gw_write_bytes(&w, keys[i].key, keys[i].key_bytes);
    }
    return gwi_frame_finish(&w, (struct gw_frame){
                                    .kind = GW_KIND_PULL,
                                    .flags = leads ? GW_PULL_LEADS : 0,
                                    .count = n,
                                    .session = in->job,
                                    .sequence = sequence,
                                    .view = gw_incoming_attempt(in),
                                });
}

/* Inserts a record that somebody waits for; GW_NOT_YET: somebody holds it. */
static enum gw_status insert_awaited(struct gw_incoming *in, struct gw_thread *thread,
                                     struct gw_op *op, _Atomic uint64_t *counter)
{
    /* Complete: it comes too late, what counts is in the index (R12). */
    if (gw_incoming_complete(in, op->hash))
        return GW_OK;
    enum gw_status st = insert(thread, op, 1);
    if (st == GW_WOULD_BLOCK)
        return op->status == GW_E_FULL ? GW_E_FULL : GW_NOT_YET;
    add(counter, st == GW_OK);
    return st;
}

/* One pulled record; GW_E_PROTOCOL: not of this range. */
static enum gw_status insert_pulled(struct gw_incoming *in, struct gw_thread *thread,
                                    const struct gw_store *store, struct gw_reader *r)
{
    struct gw_peer_record record;
    if (!gw_peer_record_decode(r, &record) || record.kind == GW_PEER_INDIRECTION)
        return GW_E_PROTOCOL;
    struct gw_op op;
    op_of_record(&op, &record, store);
    if (!gw_slots_has(&in->inner->slots, op.slot))
        return GW_E_PROTOCOL;
    enum gw_status st = insert_awaited(in, thread, &op, &in->inner->pulled);
    /* Asked for again: the chain before it has been read by then. */
    return st == GW_NOT_YET || st == GW_PENDING ? GW_RETRY : st;
}

/* GW_END: *lead; GW_E_PROTOCOL: none of this range. */
static enum gw_status take_lead(const struct gw_incoming *in, const struct gw_frame *f,
                                struct gw_reader *r, struct gw_incoming_lead *lead)
{
    struct gw_peer_record record;
    struct gw_peer_indirection m;
    if (!gw_peer_record_decode(r, &record) || !gw_peer_indirection_of(&record, &m) ||
        !gw_slots_has(&in->inner->slots, m.slot))
        return GW_E_PROTOCOL;
    *lead = (struct gw_incoming_lead){.to = indirection_of(&m), .job = in->job, .attempt = f->view};
    return GW_END;
}

enum gw_status gw_incoming_pull_answer(struct gw_incoming *in, struct gw_thread *thread,
                                       const struct gw_store *store, const struct gw_frame *f,
                                       struct gw_reader body, uint32_t n, gw_pull_cb fn, void *ctx)
{
    if (f->count != n)
        return GW_E_PROTOCOL;
    if (!gw_attempt_same_life(f->view, gw_incoming_attempt(in)))
        return GW_RETRY;
    for (uint32_t i = 0; i < n; i++) {
        enum gw_status st;
        struct gw_incoming_lead lead;
        switch (gw_read8(&body)) {
        case GW_PULL_ABSENT:
            st = body.bad ? GW_E_PROTOCOL : GW_NOT_FOUND;
            break;
        case GW_PULL_RECORD:
            st = insert_pulled(in, thread, store, &body);
            break;
        case GW_PULL_ASK_AGAIN:
            st = GW_RETRY;
            break;
        case GW_PULL_ELSEWHERE:
            continue;
        case GW_PULL_LEAD:
            st = take_lead(in, f, &body, &lead);
            break;
        case GW_PULL_UNREACHABLE:
            st = GW_E_UNREACHABLE;
            break;
        case GW_PULL_CORRUPT:
            st = GW_E_CORRUPT;
            break;
        case GW_PULL_UNREADABLE:
            st = GW_E_IO;
            break;
        default:
            st = GW_E_PROTOCOL;
            break;
        }
        if (st == GW_E_PROTOCOL)
            return st;
        fn(ctx, i, st, st == GW_END ? &lead : NULL);
    }
    add(&in->inner->bytes, f->bytes);
    return gw_reader_left(&body) != 0 ? GW_E_PROTOCOL : GW_OK;
}

/* What a FETCH has found, as a record that arrives. */
static struct gw_op arrival_of(const struct gw_op *found)
{
    struct gw_op op = {.verb = GW_VERB_ARRIVE,
                       .key = found->key,
                       .key_bytes = found->key_bytes,
                       .hash = found->hash,
                       .slot = found->slot,
                       .expected_version = found->version};
    if (found->status == GW_TOMBSTONE) {
        op.flags = GW_OP_TOMBSTONE;
        return op;
    }
    if (found->kind == GW_KIND_COUNTER) {
        op.flags = GW_OP_COUNTER;
        op.number = found->number;
    } else {
        op.value = found->out;
        op.value_bytes = found->out_bytes;
    }
    if (found->expiry_ms != 0) {
        op.flags |= GW_OP_HAS_EXPIRY;
        op.expiry_ms = found->expiry_ms;
    }
    return op;
}

enum gw_status gw_incoming_follow(struct gw_incoming *in, struct gw_thread *thread,
                                  const struct gw_store *store, const struct gw_incoming_lead *lead,
                                  const uint8_t *key, uint16_t key_bytes, uint8_t *room,
                                  size_t room_bytes)
{
    struct gw_op op = {.verb = GW_VERB_FETCH, .key = key, .key_bytes = key_bytes};
    gw_store_hash(store, &op);
    if (gw_incoming_complete(in, op.hash))
        return GW_OK;
    /* A source that came back may not have what it had (R25). */
    if (lead->job != in->job || !gw_attempt_same_life(lead->attempt, gw_incoming_attempt(in)))
        return GW_RETRY;
    enum gw_status st = gw_store_fetch_lead(thread, &lead->to, &op, room, room_bytes);
    if (st == GW_RETRY)
        return GW_NOT_YET;
    if (st != GW_OK && st != GW_TOMBSTONE)
        return st;
    op.status = (int8_t)st;
    struct gw_op arrival = arrival_of(&op);
    return insert_awaited(in, thread, &arrival, &in->inner->led);
}

void gw_incoming_progress(const struct gw_incoming *in, struct gw_incoming_progress *progress)
{
    const struct gwi_incoming *inner = in->inner;
    *progress = (struct gw_incoming_progress){
        .bytes = atomic_load_explicit(&inner->bytes, memory_order_relaxed),
        .records = atomic_load_explicit(&inner->records, memory_order_relaxed),
        .chunks_done = atomic_load_explicit(&inner->chunks_done, memory_order_relaxed),
        .chunks = inner->chunks,
        .pulled = atomic_load_explicit(&inner->pulled, memory_order_relaxed),
        .led = atomic_load_explicit(&inner->led, memory_order_relaxed),
        .blocked = atomic_load_explicit(&inner->blocked, memory_order_relaxed),
        .linked = atomic_load_explicit(&inner->linked, memory_order_relaxed),
        .hot = atomic_load_explicit(&inner->hot, memory_order_relaxed),
    };
}
