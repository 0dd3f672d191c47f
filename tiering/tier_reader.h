/* tier_reader.h - what the reader's files share (tier_read.c, tier_cache.c, tier_origin.c). All of
 * it is the reader's thread's, but for the inbox. Layer: tiering. */
#ifndef GW_TIERING_TIER_READER_H
#define GW_TIERING_TIER_READER_H

#include "tiering/tier_internal.h"

#define GWI_TIER_BUCKETS 4096u
#define GWI_TIER_HEAD    0u /* as a part; frame n is part n + 1 */
#define GWI_TIER_TRIES   3u /* of bytes that are wrong */

struct tier_key {
    uint64_t first;
    uint32_t origin, incarnation, part;
};

/* A head or a frame: here, or on its way. */
struct tier_cached {
    struct tier_cached *bucket_next, *newer, *older;
    struct tier_key key;
    bool ready; /* else it is being fetched, and not among newer and older */
    size_t bytes;
    struct gw_object_head head;     /* of a head */
    struct gw_object_frame *frames; /* of a head, owned */
    uint8_t *raw;                   /* of a frame, owned */
    uint32_t raw_bytes;
    /* While it is fetched. */
    struct gw_tier *tier;
    struct tier_op *waiting, **waiting_end;
    struct gw_object_head of;     /* of a frame: its object's head */
    struct gw_object_frame frame; /* and where it lies there */
    uint64_t offset, deadline_ns;
    size_t asked;
    uint32_t tries;
    /* By the object store's callback, handed over with the inbox. */
    struct tier_cached *next_answer;
    enum gw_status status;
    uint8_t *body; /* owned */
    size_t body_bytes;
};

/* What an operation has had listed since it began. */
enum tier_listed { TIER_LISTED_NOTHING, TIER_LISTED_MORE, TIER_LISTED_ALL };

/* The objects of another log, as they were listed. */
struct tier_origin {
    struct gw_tier *tier;
    uint32_t number;
    struct tier_object *objects; /* owned */
    uint32_t count, room;
    bool known, listing;
    struct tier_op *waiting, **waiting_end;
    struct tier_origin *next_answer;
    enum gw_status status;
    uint8_t *body; /* owned */
    size_t body_bytes;
};

struct tier_reader {
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock;
    pthread_cond_t wakes;
    /* The inbox, under the lock. */
    struct tier_op *ops, **ops_end;
    struct tier_cached *answers;
    struct tier_origin *listed;
    bool ends;
    /* The thread's own. */
    struct tier_op *later, **later_end; /* the object store's queue was full */
    struct tier_cached *buckets[GWI_TIER_BUCKETS];
    struct tier_cached *newest, *oldest;
    size_t cached_bytes;
    struct tier_origin **origins; /* GWI_TIER_ORIGINS_MAX */
    struct tier_key said;         /* what was last said to be missing or wrong, if anything was */
    bool says, says_corrupt;
    uint64_t trial_ns; /* when a read last tried while gets fail */
    uint64_t later_ns; /* when `later` is tried */
};

/* tier_read.c */
void gwi_tier_run(struct gw_tier *tier, struct tier_op *op);
void gwi_tier_run_all(struct gw_tier *tier, struct tier_op *ops);
void gwi_tier_later(struct gw_tier *tier, struct tier_op *op);
/* Whether the object store may be asked for what it wants next (tier_read.c rule 7). */
bool gwi_tier_may_ask(struct gw_tier *tier, struct tier_op *op);
/* How the object store has answered. */
void gwi_tier_got(struct gw_tier *tier, enum gw_status status);
/* Why a read failed, in the words of device.h. */
void gwi_tier_give_up(struct gw_tier *tier, struct tier_op *op, enum gw_status status);

/* tier_cache.c */
struct tier_cached *gwi_tier_cache_find(struct tier_reader *r, const struct tier_key *key);
/* An entry that is not ready; NULL: no memory. */
struct tier_cached *gwi_tier_cache_make(struct gw_tier *tier, const struct tier_key *key);
void gwi_tier_cache_ready(struct gw_tier *tier, struct tier_cached *c);
void gwi_tier_cache_drop(struct gw_tier *tier, struct tier_cached *c);
void gwi_tier_cache_trim(struct gw_tier *tier); /* to its bound */
void gwi_tier_cache_end(struct gw_tier *tier);

/* tier_origin.c */
/* The object of that log that may hold the address; its head says whether it does, and if it does
 * not, gwi_tier_origin_past comes before the next question. GW_OK; GW_NOT_FOUND: there is none, and
 * the log begins above it; GW_PENDING: the operation waits for a list; GW_E_UNREACHABLE: no object
 * holds it, but there should be one: said; GW_WOULD_BLOCK; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_tier_origin_find(struct gw_tier *tier, struct tier_op *op,
                                                uint64_t at, struct tier_object *out);
void gwi_tier_origin_past(struct tier_op *op, const struct tier_key *object);
/* What was listed is not so any more: the operation has it listed again, once. GW_PENDING;
 * GW_E_UNREACHABLE: it was; as above. */
GW_MUST_USE enum gw_status gwi_tier_origin_again(struct gw_tier *tier, struct tier_op *op);
void gwi_tier_origin_answer(struct gw_tier *tier, struct tier_origin *o);
void gwi_tier_origins_end(struct gw_tier *tier);
#endif
