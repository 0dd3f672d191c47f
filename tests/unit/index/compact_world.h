/* compact_world.h - a small store and a plain map beside it, for the tests of compaction. */
#ifndef GW_TESTS_COMPACT_WORLD_H
#define GW_TESTS_COMPACT_WORLD_H

#include "index/base/rand.h"
#include "index/store_internal.h"
#include "store_fixture.h"

struct world_options {
    uint32_t pages; /* of 64 KiB */
    uint32_t keys, value_max;
    uint64_t index_bytes, index_bytes_max; /* 0: 1 MiB; no growth */
    bool one_slot, evict;
    struct gw_device *device;
    const struct gw_clock *clock;
    uint64_t seed; /* 0: 1 */
};

struct world_entry {
    bool live;
    uint32_t version, value_bytes, fill;
};

struct world {
    struct fixture f;
    struct gw_rand rand;
    struct world_entry *entry;
    uint32_t keys, value_max;
    bool one_slot;
    uint64_t written; /* bytes of values */
    uint8_t *value;
    uint64_t expiry_ms; /* of what world_put writes; 0: none */
};

void world_open(struct world *w, const struct world_options *options);
void world_close(struct world *w);

/* Each executes its operation until it is answered for good, with a turn of the store before each
 * attempt, and compares with the map. */
enum gw_status world_put(struct world *w, uint32_t key, uint32_t value_bytes);
enum gw_status world_delete(struct world *w, uint32_t key);
void world_check(struct world *w, uint32_t key);
void world_check_all(struct world *w);
/* The same for a store that may drop keys: whether it is there. */
bool world_may_be_gone(struct world *w, uint32_t key);

uint64_t world_live(const struct world *w); /* keys */
/* Bytes of the newest record of every key, by a look at the whole log. Memory only. */
uint64_t world_live_bytes(struct world *w);
#endif
