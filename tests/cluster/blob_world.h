/* blob_world.h - a server that is larger than its disk, with an object store; keys whose values say
 * whose they are. A failure in here fails the test. Layer: tests. */
#ifndef GW_TESTS_CLUSTER_BLOB_WORLD_H
#define GW_TESTS_CLUSTER_BLOB_WORLD_H

#include "tests/cluster/recovery.h"

#define WORLD_MEMORY      (64ull << 20)
#define WORLD_VALUE_BYTES 10000u

/* A cluster of one server with a directory beside it as the object store. */
struct world {
    struct gw_spawn spawn;
    char store[200], url[300];
    const char *flags[16];
    struct gw_cluster *cluster;
    struct gw_session *session;
    uint32_t keys;
    uint8_t *generation; /* of each key; 0: never written */
    uint64_t good, wrong, missing, unreachable, failed;
    enum gw_status failure;
};

/* Server A with 128 MiB of disk. url NULL: a directory beside its own. */
void world_open(struct world *w, const char *durability, uint32_t keys, const char *url);
void world_more(struct world *w, uint32_t keys); /* keys that were never written */
void world_close(struct world *w);
const struct gw_spawn_server *world_server(const struct world *w);
void world_start_again(struct world *w); /* after its end; until it is healthy */

void world_value(uint8_t *room, uint32_t key, uint8_t generation);
/* Writes or reads every `step`-th key from `first` to `last`, and counts what came back. */
void world_each(struct world *w, bool write, uint32_t first, uint32_t last, uint32_t step);
void world_expect_exact(const struct world *w, const char *when);
/* Reads every `step`-th key until none is unreachable: a machine that is busy with others may be
 * too slow for a read's deadline. None is ever wrong or missing. */
void world_until_exact(struct world *w, uint32_t first, uint32_t last, uint32_t step,
                       const char *when);

uint64_t world_number(const struct world *w, const char *name); /* of "blob" in the statistics */
/* Waits until the trouble that is shown has a text in it; NULL: until there is none. */
void world_until_trouble(const struct world *w, const char *text, uint64_t ms);
void world_until_status(struct world *w, const char *text); /* the same, as operators see it */
void world_until_uploaded(const struct world *w);
#endif
