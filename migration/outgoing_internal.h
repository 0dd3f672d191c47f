/* outgoing_internal.h - the source's data plane as its files see it. */
#ifndef GW_MIGRATION_OUTGOING_INTERNAL_H
#define GW_MIGRATION_OUTGOING_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "index/base/assert.h"
#include "index/indirection.h"
#include "migration/outgoing.h"
#include "migration/unlink.h"

/* A key of the cursor's bucket that went out already, by two hashes: 128 bits, for a key taken for
 * another would be lost. */
struct gwi_sent {
    uint64_t hash, other;
};

/* A word says how far a chunk, or a page of the pass, is: 63-32 low half of the attempt in which it
 * came to that, 7-0 state. */
enum gwi_word_state { GWI_FREE = 0, GWI_CLAIMED, GWI_SENT, GWI_ACKED, GWI_UNREADABLE };

static inline uint64_t gwi_word_make(uint64_t attempt, enum gwi_word_state state)
{
    return attempt << 32 | state;
}
static inline enum gwi_word_state gwi_word_state(uint64_t word)
{
    return (enum gwi_word_state)(word & 0xff);
}
static inline uint32_t gwi_word_attempt(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

/* The page of the pass that a dispatcher has in hand. */
struct gwi_page_hand {
    bool active;
    uint32_t page;  /* its place in the pass */
    uint32_t frame; /* number of the next one within the page */
    uint64_t attempt;
    struct gw_page_cursor cursor;
};

/* What one dispatcher is doing; its own but for the counters, which anybody may read. */
struct gwi_hand {
    _Alignas(GW_CACHE_LINE) bool active;
    uint32_t chunk;
    uint32_t frame;        /* number of the next one within the chunk */
    struct gwi_sent *sent; /* owned */
    uint32_t sent_count, sent_max;
    uint64_t attempt;
    struct gw_cursor cursor;
    struct gwi_page_hand page;
    /* Relaxed: numbers for people. Of chunks only. */
    _Atomic uint64_t bytes, records, chunks, indirections;
};

/* The hot records, which all dispatchers send together, a frame at a time. `over` is read without
 * the lock; the rest is under it, and an attempt that begins takes it, too. */
struct gwi_hot {
    pthread_mutex_t lock;
    atomic_bool over;
    uint64_t at;                     /* of gw_store_walk_sampled */
    uint64_t left;                   /* bytes */
    uint64_t bucket;                 /* where `at` was when it was counted how many */
    uint32_t bucket_sent;            /* of its records went out */
    uint32_t stuck;                  /* walks in a row that brought nothing */
    _Atomic uint64_t bytes, records; /* for people */
};

/* The pass over the log. `over`, `from` and the words are read without the lock, all else is under
 * it; a page's word changes under it, but for the CAS to SENT. */
struct gwi_pass {
    pthread_mutex_t lock;
    atomic_bool over;
    bool begun, worth;     /* `worth`: since it has begun */
    uint64_t first;        /* the page of the first word; set once, before `over` */
    uint64_t attempt;      /* the current one; a little before gw_outgoing.attempt says so */
    uint32_t next;         /* where to look for a page to claim */
    uint32_t limit;        /* pages of the pass; UINT32_MAX: not known yet */
    uint32_t settled;      /* of them: acknowledged, or unreadable */
    _Atomic uint64_t from; /* attempt from which on acks count */
    _Atomic uint64_t *word;
    _Atomic uint64_t bytes, records; /* for people */
};

struct gw_outgoing {
    uint64_t job;
    struct gw_slots slots;
    uint8_t chunk_bits;
    uint32_t chunks, dispatchers;
    struct gw_unlinker *unlinker;
    _Atomic bool closing;    /* written once, by control */
    _Atomic bool unreadable; /* said once */
    _Atomic uint64_t pull_bytes, pull_records, pull_leads, pulls;
    struct gw_outgoing_options options;
    atomic_bool indirect; /* written before an attempt is published */
    _Atomic uint64_t retries;
    struct gwi_hot hot;
    struct gwi_pass pass;

    _Alignas(GW_CACHE_LINE) _Atomic uint64_t attempt; /* written by control */
    /* 63-32 the attempt from which on acks count, 31-0 how many chunks are acknowledged. */
    _Atomic uint64_t acked;
    _Atomic uint32_t next;      /* where to look for a chunk to claim */
    _Atomic uint32_t exhausted; /* low half of the attempt in which nothing is left to claim */
    _Atomic uint64_t *word;     /* a chunk each */
    struct gwi_hand *hand;
};

static inline uint64_t gwi_outgoing_current(const struct gw_outgoing *o)
{
    return atomic_load_explicit(&o->attempt, memory_order_acquire);
}

static inline struct gw_peer_record gwi_record_of_view(const struct gw_record_view *view)
{
    return (struct gw_peer_record){
        .key = view->key,
        .key_bytes = view->key_bytes,
        .version = view->version,
        .tombstone = view->tombstone,
        .kind = view->tombstone ? GW_KIND_BYTES : view->kind,
        .value = view->value,
        .value_bytes = view->value_bytes,
        .number = view->number,
        .expiry_ms = view->expiry_ms,
    };
}

/* As it goes over the wire. */
static inline struct gw_peer_indirection gwi_peer_of(const struct gw_indirection *in)
{
    return (struct gw_peer_indirection){
        .log_id = in->log_id,
        .address = in->address,
        .hash_prefix = in->hash_prefix,
        .map_version = in->map_version,
        .begin = in->begin & ~UINT64_C(0xffff), /* lower is as good */
        .slot = in->slot,
        .prefix_bits = in->prefix_bits,
    };
}

/* outgoing_hot.c */
void gwi_hot_restart(struct gw_outgoing *o, uint64_t attempt, bool from_scratch);
/* As gw_outgoing_fill while hot records are left. */
enum gw_status gwi_hot_fill(struct gw_outgoing *o, struct gw_thread *thread, uint64_t attempt,
                            uint8_t *room, size_t room_bytes, size_t *used);

/* outgoing_pass.c */
bool gwi_pass_init(struct gwi_pass *pass); /* false: no memory; destroy all the same */
void gwi_pass_destroy(struct gwi_pass *pass);
/* Before the attempt is published. */
void gwi_pass_restart(struct gwi_pass *pass, uint64_t attempt, bool from_scratch);
/* As gw_outgoing_fill while the pass is not over; GW_END: it is. */
enum gw_status gwi_pass_fill(struct gw_outgoing *o, struct gwi_page_hand *hand,
                             struct gw_thread *thread, uint64_t attempt, uint8_t *room,
                             size_t room_bytes, uint32_t records_max, size_t *used);
bool gwi_pass_acked(struct gw_outgoing *o, uint32_t page, uint64_t attempt);
/* Has the target all records of this page (by number) to which the index led then? Once the pass is
 * over. */
bool gwi_pass_brought(const struct gw_outgoing *o, uint64_t page);
#endif
