/* incoming.h - the target's data plane of one job: which chunks are complete, and inserting what
 * arrives if the key is absent (ARRIVE; MIGRATION R11).
 *
 * "Not found" may be said of a key only if gw_incoming_complete said true BEFORE the look-up (R10).
 * What comes for a complete chunk or of another attempt is dropped (R12). That a chunk is still
 * incomplete is checked inside the caller's epoch stay, in which the insertion happens, too: so a
 * tombstone that stays until every dispatcher has passed an epoch after completeness (R13) stops
 * the insertions that were under way. Thread rule: any dispatcher at any time; those with a thread
 * require: entered. Layer: migration. */
#ifndef GW_MIGRATION_INCOMING_H
#define GW_MIGRATION_INCOMING_H

#include <stdatomic.h>
#include <stdbool.h>

#include "client/wire/peer.h"
#include "index/indirection.h"
#include "migration/range.h"

/* Open because the look-up of completeness is inlined; touch nothing else from outside. */
struct gw_incoming {
    uint64_t job;
    uint8_t chunk_bits;
    /* One bit a chunk. Set with release once every record of the chunk is in the index, read with
     * acquire: who sees the bit finds the records. Never cleared. */
    _Atomic uint64_t *complete;
    struct gwi_incoming *inner;
};

/* *slots is copied. GW_E_INVALID: chunk_bits not in 1..GW_CHUNK_BITS_MAX; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_incoming_create(uint64_t job, const struct gw_slots *slots,
                                              uint8_t chunk_bits, uint64_t attempt,
                                              struct gw_incoming **out);
void gw_incoming_destroy(struct gw_incoming *in); /* requires: no dispatcher uses it */

static inline bool gw_incoming_complete(const struct gw_incoming *in, uint64_t hash)
{
    uint32_t chunk = gw_chunk_of(hash, in->chunk_bits);
    return (atomic_load_explicit(&in->complete[chunk / 64], memory_order_acquire) >> (chunk & 63)) &
           1;
}

/* The source sends over: frames of other attempts are dropped from now on. Complete chunks stay
 * complete. */
void gw_incoming_restart(struct gw_incoming *in, uint64_t attempt);
uint64_t gw_incoming_attempt(const struct gw_incoming *in);
bool gw_incoming_done(const struct gw_incoming *in); /* every chunk is complete */
uint32_t gw_incoming_chunks_done(const struct gw_incoming *in);
/* Has every indirection been linked that the store was given? False: it cannot link some of them,
 * ever, and the source must be told that there is no shared tier here, for its next attempt. */
bool gw_incoming_links(const struct gw_incoming *in);

struct gw_incoming_result {
    bool ack_due;       /* send gw_incoming_ack on this connection */
    bool completed_all; /* this frame completed the last chunk: tell the machine ALL_COMPLETE */
    bool page;          /* `chunk` is a page's number: the frame was of a page */
    uint32_t chunk;
};
/* Inserts one CHUNK frame, and links its indirections, each behind the records before it (R14). Of
 * a frame of hot records those are inserted that can be at once; the others come with their chunks.
 *   GW_OK           done or dropped; see *result
 *   GW_PENDING      not all of it: a chain that it goes to is being read from the device, or cannot
 *                   be read now. Offer the same frame again when gw_store_ready has named a hash,
 *                   or a little later
 *   GW_WOULD_BLOCK  not all of it: the store is full or a record is busy. Offer the same frame
 *                   again later, and nothing else of this connection before it
 *   GW_E_PROTOCOL   the frame is not what it says, is out of order, or holds keys that are not of
 *                   this range or chunk: close the connection
 *   GW_E_TOO_LARGE  a record that this store's pages cannot hold: the job cannot go on
 *   GW_E_UNSUPPORTED, GW_E_LIMIT  an indirection that this store cannot link: close the
 *                   connection, see gw_incoming_links
 * The thread is the caller's; `store` its store. */
GW_MUST_USE enum gw_status gw_incoming_chunk(struct gw_incoming *in, struct gw_thread *thread,
                                             const struct gw_store *store, const struct gw_frame *f,
                                             struct gw_reader body,
                                             struct gw_incoming_result *result);
/* CHUNK_ACK, GW_FRAME_HEADER bytes. */
size_t gw_incoming_ack(const struct gw_incoming *in, const struct gw_incoming_result *result,
                       uint8_t *room, size_t room_bytes);

/* A PULL for `n` keys; 0: the room does not suffice. leads: the answer may be where a key lies. The
 * caller remembers under `sequence` which keys it asked for, in this order. */
struct gw_pull_key {
    const uint8_t *key;
    uint16_t key_bytes;
};
size_t gw_incoming_pull(const struct gw_incoming *in, uint64_t sequence, bool leads,
                        const struct gw_pull_key *keys, uint32_t n, uint8_t *room,
                        size_t room_bytes);
/* Of the i-th key of the pull. GW_END: *lead says where it lies, see gw_incoming_follow. GW_OK: a
 * record is here now, whoever brought it, or its chunk is complete: start over. GW_NOT_FOUND: the
 * source has none: start over; absent counts now. GW_RETRY: ask again later. GW_E_UNREACHABLE,
 * GW_E_CORRUPT, GW_E_IO: the source, or our own chain, cannot be read, which ends those who wait;
 * who comes later asks anew. GW_E_FULL: no room for it. GW_E_TOO_LARGE. */
struct gw_incoming_lead {
    struct gw_indirection to;
    uint64_t job, attempt; /* of the answer */
};
typedef void (*gw_pull_cb)(void *ctx, uint32_t i, enum gw_status outcome,
                           const struct gw_incoming_lead *lead);
/* Inserts what a PULL_ANSWER brings and tells fn of each key that it answers: there may be several
 * answers to a PULL. n: how many were asked for.
 * GW_E_PROTOCOL: not an answer to that; fn may have been called for the first ones. GW_RETRY: of an
 * earlier life of the source; dropped, fn was not called: ask again. */
GW_MUST_USE enum gw_status gw_incoming_pull_answer(struct gw_incoming *in, struct gw_thread *thread,
                                                   const struct gw_store *store,
                                                   const struct gw_frame *f, struct gw_reader body,
                                                   uint32_t n, gw_pull_cb fn, void *ctx);

/* Reads the key where an answer says that it lies, and inserts what is there as a pulled record is
 * (R11): for the operations that wait for it, while its chunk is incomplete; nothing is linked
 * (R15). Outcomes as of a pulled key: GW_OK, GW_NOT_FOUND, GW_RETRY (the lead is of another job,
 * or of an earlier life of the source: ask again), GW_E_FULL, GW_E_TOO_LARGE; and
 *   GW_PENDING      being read: call again when gw_store_ready names the hash
 *   GW_NOT_YET      call again in a later turn
 *   GW_WOULD_BLOCK  `room` is too small for it
 *   other failures  it cannot be had in this way: ask again, without leads
 * room: for the value, on its way. */
GW_MUST_USE enum gw_status gw_incoming_follow(struct gw_incoming *in, struct gw_thread *thread,
                                              const struct gw_store *store,
                                              const struct gw_incoming_lead *lead,
                                              const uint8_t *key, uint16_t key_bytes, uint8_t *room,
                                              size_t room_bytes);

struct gw_incoming_progress {
    uint64_t bytes, records; /* received in frames and pull answers, dropped ones not counted */
    uint64_t chunks_done, chunks;
    uint64_t pulled;  /* records that came by a pull */
    uint64_t led;     /* records that were read where a pull's answer said */
    uint64_t blocked; /* frames that had to be offered again */
    uint64_t linked;  /* indirections */
    uint64_t hot;     /* records that came first and were inserted */
};
void gw_incoming_progress(const struct gw_incoming *in, struct gw_incoming_progress *progress);
#endif
