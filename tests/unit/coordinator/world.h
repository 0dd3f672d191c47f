/* world.h - a coordinator with its store for tests: saves what comes out, notes what is sent, and
 * can be thrown away and started again from the file at any moment. */
#ifndef GW_TESTS_COORDINATOR_WORLD_H
#define GW_TESTS_COORDINATOR_WORLD_H

#include "coordinator/state.h"
#include "coordinator/store.h"

#define WORLD_CLUSTER 0xc1c2c3c4c5c6c7c8u
#define WORLD_SEED    0xd1d2d3d4d5d6d7d8u
#define WORLD_SENT    8192

struct world_sent { /* an action, with what the map and the job were when it was sent */
    enum gw_action_kind kind;
    enum gw_status status;
    uint64_t link, id, map_version;
    enum gw_job_state state;
    char text[256];
};

struct world {
    char path[128], url[160];
    struct gw_fact_store *store;
    struct gw_coordinator *c;
    uint64_t now_ns, wall_ms, links;
    struct world_sent sent[WORLD_SENT]; /* since the last world_turn */
    uint32_t sents;
    char *reply; /* the last ADMIN_REPLY */
};

void world_init(struct world *w); /* a new file in a directory of its own */
void world_fini(struct world *w); /* and away with it */
void world_start(struct world *w);
void world_stop(struct world *w); /* like a kill: what was not saved is gone */
void world_turn(struct world *w); /* saves, then notes in `sent` and `reply` */
void world_pass(struct world *w, uint64_t ms);

/* A server joins on a new link, which is returned; the turn is done. */
uint64_t world_join(struct world *w, const char *id, uint64_t incarnation);
uint64_t world_join_at(struct world *w, const char *id, uint64_t incarnation, const char *address,
                       uint64_t cluster);
void world_heartbeat(struct world *w, uint64_t link, uint64_t incarnation);
void world_event(struct world *w, uint64_t link, uint64_t job, enum gw_job_event_kind event);
/* GW_OK: *job is its id. The turn is done. */
enum gw_status world_migrate(struct world *w, const char *slots, const char *from, const char *to,
                             uint64_t *job);
/* How many of that kind were sent to the link in the last turn. */
uint32_t world_sent_to(const struct world *w, uint64_t link, enum gw_action_kind kind);
const struct world_sent *world_last(const struct world *w, uint64_t link, enum gw_action_kind kind);
const char *world_owner(const struct world *w, uint32_t slot);
/* Do two coordinators agree in everything durable? */
bool world_same(const struct gw_coordinator *a, const struct gw_coordinator *b);
#endif
