/* outgoing_internal.h - the source's data plane as its two files see it. */
#ifndef GW_MIGRATION_OUTGOING_INTERNAL_H
#define GW_MIGRATION_OUTGOING_INTERNAL_H

#include <stdatomic.h>

#include "index/base/assert.h"
#include "migration/outgoing.h"
#include "migration/unlink.h"

/* A key of the cursor's bucket that went out already, by two hashes: 128 bits, for a key taken for
 * another would be lost. */
struct gwi_sent {
    uint64_t hash, other;
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
    /* Relaxed: numbers for people. */
    _Atomic uint64_t bytes, records;
};

struct gw_outgoing {
    uint64_t job;
    struct gw_slots slots;
    uint8_t chunk_bits;
    uint32_t chunks, dispatchers;
    struct gw_unlinker *unlinker;
    _Atomic bool closing;    /* written once, by control */
    _Atomic bool unreadable; /* said once */
    _Atomic uint64_t pull_bytes, pull_records, pulls;

    _Alignas(GW_CACHE_LINE) _Atomic uint64_t attempt; /* written by control */
    /* 63-32 the attempt from which on acks count, 31-0 how many chunks are acknowledged. */
    _Atomic uint64_t acked;
    _Atomic uint32_t next;      /* where to look for a chunk to claim */
    _Atomic uint32_t exhausted; /* low half of the attempt in which nothing is left to claim */
    _Atomic uint64_t *word;     /* a chunk each: outgoing.c */
    struct gwi_hand *hand;
};
#endif
