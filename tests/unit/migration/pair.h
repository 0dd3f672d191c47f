/* pair.h - two real stores in one process and the data plane of one job between them, with one
 * dispatcher each, so that a test decides the order of everything. */
#ifndef GW_TESTS_MIGRATION_PAIR_H
#define GW_TESTS_MIGRATION_PAIR_H

#include "index/store.h"
#include "migration/incoming.h"
#include "migration/outgoing.h"
#include "tests/support/ram_device.h"

#define PAIR_INCARNATION 7
#define PAIR_FRAME_BYTES (256u << 10)
#define PAIR_KEYS_MAX    64u

struct side {
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_ram_device *ram; /* NULL: memory only */
    struct gw_op op;           /* the last operation, with its results */
    uint8_t *room;
    size_t room_bytes;
};

struct frame {
    uint8_t *bytes;
    size_t size;
};

struct pair {
    struct side s, t;
    struct gw_slots slots;
    struct gw_outgoing *out;
    struct gw_incoming *in;
    struct gw_incoming_result result; /* of the last delivery */
    uint32_t buckets_max; /* of a fill; from the start no bound: a small chunk is one frame */
    uint32_t pulled_keys;
    bool leads; /* of pulls */
    /* Per key of the last pull answer delivered. */
    enum gw_status pulled[PAIR_KEYS_MAX];
    struct gw_incoming_lead lead[PAIR_KEYS_MAX];
};

struct pair_options {
    uint8_t chunk_bits;    /* 0: 2 */
    uint32_t t_log_pages;  /* 0: 64 */
    uint32_t index_bytes;  /* 0: 1 MiB */
    const char *slots;     /* NULL: all */
    uint32_t dispatchers;  /* of the source; 0: 1 */
    uint32_t shared_pages; /* not 0: logs of so many pages, over devices that know each other */
    uint32_t device_pages; /* the same, over devices without a shared tier */
};
void pair_open(struct pair *p, const struct pair_options *options);
void pair_close(struct pair *p);

/* side->op, with hash and slot filled in; over a device until it is answered. */
enum gw_status side_run(struct side *side);
void side_turn(struct side *side); /* what the store does by itself, and its device */
enum gw_status side_verb(struct side *side, uint8_t verb, const char *key, uint8_t flags);
enum gw_status side_put(struct side *side, const char *key, const char *value);
enum gw_status side_add(struct side *side, const char *key, int64_t delta);
enum gw_status side_del(struct side *side, const char *key);
enum gw_status side_get(struct side *side, const char *key);
uint64_t side_hash(struct side *side, const char *key);

/* An operation at T as a dispatcher does it: completeness first, then the look-up (R10). */
enum gw_status pair_get(struct pair *p, const char *key);
enum gw_status pair_add(struct pair *p, const char *key, int64_t delta);

/* The next frame of S that is not empty, in memory of its own (frame_free); size 0: GW_END. */
struct frame pair_fill(struct pair *p, uint32_t dispatcher);
enum gw_status pair_deliver(struct pair *p, struct frame frame); /* and its ack, if due, to S */
enum gw_status pair_deliver_only(struct pair *p, struct frame frame);
void pair_ship(struct pair *p);                                              /* all the rest */
struct frame pair_pull(struct pair *p, const char *const *keys, uint32_t n); /* T's question */
struct frame pair_answer(struct pair *p, struct frame pull);                 /* S's answer */
enum gw_status pair_deliver_answer(struct pair *p, struct frame answer, uint32_t n);
struct gw_frame frame_header(struct frame frame);
void frame_free(struct frame frame);
#endif
