/* park.h - operations that wait: for "yours", for a pull's answer, for a lock that somebody else
 * holds, for a record that is read from the device. One queue a key, so that all operations on a
 * key take effect in the order in which they came, waiting or not (DESIGN section 4); a later
 * operation on a waiting key queues behind it. A waiting operation holds its own copy of key and
 * value and names its session by id, never by pointer into moving memory (ENGINE rule 14). One park
 * a dispatcher, touched by its thread only. Layer: server. */
#ifndef GW_SERVER_PARK_H
#define GW_SERVER_PARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "migration/incoming.h"

struct gwi_pull;

struct gwi_parked_op {
    struct gwi_parked_op *next;
    uint64_t session, serial;
    uint64_t link_generation; /* of the connection it came on: a read is not answered on another */
    uint64_t parked_ns;
    struct gwi_pull *pull; /* a look-up for another server (session 0): its number is `serial` */
    int64_t delta, initial;
    uint64_t expiry_ms;
    uint32_t value_bytes, expected_version;
    uint16_t key_bytes;
    uint8_t verb, flags; /* of the engine, without GW_OP_UNSETTLED */
    bool early;          /* its batch was: the answer need not wait until it is durable */
    bool unknown;        /* sent before, and what became of it had not come here yet */
    uint8_t bytes[];     /* key, value */
};

struct gwi_parked_key {
    struct gwi_parked_key *chain;          /* in its hash bucket */
    struct gwi_parked_key *before, *after; /* in the order of retries, or among the cold ones */
    struct gwi_parked_op *first, *last;
    uint64_t hash;
    uint64_t cold_ns; /* reading since; valid while `cold` */
    uint16_t slot;
    bool cold;        /* its record is being read: no retry before the store says it is there */
    bool pull_wanted; /* absent: a pull is to be sent */
    bool pull_sent;   /* and its answer has not come */
    bool negative;    /* the previous owner has no such key: absent counts now (MIGRATION R10) */
    bool read_there;  /* it could not be had where an answer said: the source is to read it */
    bool led;         /* the pull's answer says where it lies: `lead` */
    int8_t failed;    /* enum gw_status: what its pull ended with; GW_OK: nothing such. For
                       * the operations of one try: who comes later asks anew */
    struct gw_incoming_lead lead;
};

struct gwi_park {
    struct gwi_parked_key **bucket;
    uint32_t buckets; /* a power of two */
    uint32_t keys, ops, unsent_pulls;
    size_t bytes;
    struct gwi_parked_key ring; /* sentinel of the retry order */
    struct gwi_parked_key cold; /* sentinel of the cold keys, the longest waiting first */
};

bool gwi_park_init(struct gwi_park *park); /* false: out of memory */
void gwi_park_fini(struct gwi_park *park);
struct gwi_parked_key *gwi_park_find(const struct gwi_park *park, uint64_t hash);

/* An operation's own copy; NULL: out of memory. */
struct gwi_parked_op *gwi_parked_op_create(const void *key, uint16_t key_bytes, const void *value,
                                           uint32_t value_bytes);
/* Queues `op` (takes it) behind those of its key. NULL: out of memory, op is still the caller's. */
struct gwi_parked_key *gwi_park_add(struct gwi_park *park, uint64_t hash, uint16_t slot,
                                    struct gwi_parked_op *op);
/* Takes the key's first operation, or the one behind `before`, out (the caller frees it); ends the
 * key with its last one: then *key must not be used any more and true is returned in *key_gone. */
struct gwi_parked_op *gwi_park_take(struct gwi_park *park, struct gwi_parked_key *key,
                                    bool *key_gone);
struct gwi_parked_op *gwi_park_take_after(struct gwi_park *park, struct gwi_parked_key *key,
                                          struct gwi_parked_op *before, bool *key_gone);
void gwi_park_to_front(struct gwi_park *park, struct gwi_parked_key *key); /* tried next */
void gwi_park_to_back(struct gwi_park *park, struct gwi_parked_key *key);
/* Out of the retry order until it is put to front or back again. */
void gwi_park_to_cold(struct gwi_park *park, struct gwi_parked_key *key, uint64_t now_ns);
/* The cold key that has waited longest, or NULL. */
struct gwi_parked_key *gwi_park_coldest(const struct gwi_park *park);
#endif
