/* peer.h - a world for a session's tests: a session on the in-process transport, and scripted peers
 * that play servers and coordinator. A peer shakes hands by itself; batches it keeps until the test
 * says what to answer, or gives to a handler. Time passes only in world_run. */
#ifndef GW_TESTS_UNIT_CLIENT_PEER_H
#define GW_TESTS_UNIT_CLIENT_PEER_H

#include "client/net/net_loop.h"
#include "client/session.h"

#define WORLD_PEERS   3 /* servers "a:1", "b:1", "c:1" */
#define WORLD_ANSWERS 100000
#define PEER_BATCHES  64
#define MS            UINT64_C(1000000)

struct peer_op {
    uint64_t serial;
    char key[32];
    int64_t number;
    uint8_t verb, flags;
};

struct peer_batch {
    struct gw_frame head;
    uint32_t count;
    struct peer_op op[64];
};

struct world;
struct peer {
    struct world *world;
    struct gw_net *net;
    struct gw_conn *conn; /* the newest; NULL: none */
    char name[8];
    uint64_t incarnation;
    bool welcomed;        /* said on `conn` */
    bool forgets;         /* its WELCOME does not say KNOWN */
    bool mute;            /* takes connections, says nothing */
    enum gw_status error; /* answers HELLO by this error, if it is a failure */
    uint32_t connections, map_gets, byes, syncs, bad_frames;
    uint8_t durability;          /* enum gw_wire_durability */
    uint64_t durable, forgotten; /* as WELCOME says */
    uint64_t position;           /* of its answers */
    struct gw_hello hello;       /* the last one */
    struct gw_map *map;          /* what MAP_GET is answered with; NULL: nothing. Borrowed */
    struct peer_batch batch[PEER_BATCHES];
    uint32_t batches; /* kept */
    /* Instead of keeping: the whole frame. */
    void (*on_batch)(struct peer *peer, const struct gw_frame *head, const uint8_t *frame);
    void *user;
};

struct answer {
    int tag;
    enum gw_status status;
    int64_t number;
};

struct world {
    struct gw_loop *loop;
    struct gw_cluster *cluster;
    struct gw_session *session;
    struct gw_map *map; /* the newest; what the session starts with */
    struct peer server[WORLD_PEERS];
    struct peer coordinator;
    struct answer answer[WORLD_ANSWERS];
    uint32_t answers;
};

/* All slots are a's; options NULL: defaults. */
struct world *world_create(const struct gw_session_options *options, uint64_t seed);
void world_destroy(struct world *w);
void world_run(struct world *w, uint64_t ns); /* until so much time has passed */
void world_close_session(struct world *w);
/* The next map: `slot` belongs to `server` now; both servers' views rise. GW_SLOTS: all slots. */
void world_move(struct world *w, uint32_t slot, uint32_t server);
/* Issues with a callback that appends to w->answer. */
enum gw_status world_add(struct world *w, const char *key, int64_t delta, int tag);
enum gw_status world_get(struct world *w, const char *key, int tag);
void world_answer(void *ctx, const struct gw_result *result); /* ctx: of world_ctx */
void *world_ctx(struct world *w, int tag);

/* The oldest batch kept; NULL: none. Valid until the next world_run. */
struct peer_batch *peer_batch(struct peer *p);
void peer_drop_batch(struct peer *p);
/* Answers the oldest batch and drops it; number i of the answers is 100 + i. */
void peer_reply(struct peer *p, enum gw_status st);
void peer_reply_each(struct peer *p, const enum gw_status *st); /* one status an operation */
/* The first `count` replies of the oldest batch from number `from` on; does not drop it. */
void peer_reply_part(struct peer *p, uint32_t from, uint32_t count);
void peer_refuse(struct peer *p, enum gw_status reason, const struct gw_map *map);
void peer_complete(struct peer *p, uint64_t serial, enum gw_status st, int64_t number);
/* So much is durable now, and is said. */
void peer_durable(struct peer *p, uint64_t position);
/* It is killed and comes back as another process, which has recovered. */
void peer_crash(struct peer *p);
void peer_send(struct peer *p, const struct gw_frame *head, const void *body, size_t bytes);
void peer_send_map(struct peer *p, const struct gw_map *map);
#endif
