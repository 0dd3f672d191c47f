/* map.c - the cluster map as a value and on the wire.
 * Rules: (1) one map has one wire form: runs of owners ascend, and neighbours with the same owner
 * since the same version are one run; (2) no memory is taken on the word of a count alone; (3) ids
 * are distinct, or a look-up by id would mean two servers. */
#include "client/wire/map.h"

#include <stdlib.h>
#include <string.h>

#include "client/wire/names.h"
#include "index/base/assert.h"

#define HEAD_BYTES         (8 + 8 + 8 + 2 + 2)
#define SERVER_BYTES_LEAST (8 + 8 + 1 + 1 + 1) /* an id has at least one byte, an address none */
#define SERVER_BYTES_MOST  (8 + 8 + 1 + GW_ID_BYTES_MAX + 1 + GW_ADDRESS_BYTES_MAX)
#define RUN_BYTES          (2 + 2 + 2 + 8)

struct gw_map *gw_map_create(void)
{
    struct gw_map *map = calloc(1, sizeof *map);
    if (!map)
        return NULL;
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        map->owner[slot] = GW_NO_SERVER;
    return map;
}

void gw_map_destroy(struct gw_map *map)
{
    if (!map)
        return;
    free(map->server);
    free(map);
}

struct gw_map *gw_map_copy(const struct gw_map *map)
{
    struct gw_map *copy = malloc(sizeof *copy);
    if (!copy)
        return NULL;
    *copy = *map;
    copy->server = NULL;
    if (map->servers == 0)
        return copy;
    copy->server = malloc(map->servers * sizeof *copy->server);
    if (!copy->server) {
        free(copy);
        return NULL;
    }
    memcpy(copy->server, map->server, map->servers * sizeof *copy->server);
    return copy;
}

int gw_map_find(const struct gw_map *map, const char *id)
{
    for (uint32_t i = 0; i < map->servers; i++)
        if (strcmp(map->server[i].id, id) == 0)
            return (int)i;
    return -1;
}

void gw_map_slots_of(const struct gw_map *map, uint32_t server, struct gw_slots *out)
{
    gw_slots_clear(out);
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (map->owner[slot] == server)
            gw_slots_add(out, (uint16_t)slot);
}

/* The next run of slots of one owner and tenure at or above *at; moves *at behind it, false at the
 * end. */
static bool next_run(const struct gw_map *map, uint32_t *at, uint16_t *first, uint16_t *last)
{
    uint32_t slot = *at;
    while (slot < GW_SLOTS && map->owner[slot] == GW_NO_SERVER)
        slot++;
    if (slot == GW_SLOTS)
        return false;
    *first = (uint16_t)slot;
    while (slot + 1 < GW_SLOTS && map->owner[slot + 1] == map->owner[slot] &&
           map->since[slot + 1] == map->since[slot])
        slot++;
    *last = (uint16_t)slot;
    *at = slot + 1;
    return true;
}

size_t gw_map_wire_bytes(const struct gw_map *map)
{
    size_t bytes = HEAD_BYTES + (size_t)map->servers * SERVER_BYTES_MOST + 2;
    uint32_t at = 0;
    uint16_t first, last;
    while (next_run(map, &at, &first, &last))
        bytes += RUN_BYTES;
    return bytes;
}

void gw_map_encode(const struct gw_map *map, struct gw_writer *w)
{
    GW_ASSERT(map->servers <= GW_SERVERS_MAX);
    gw_write64(w, map->version);
    gw_write64(w, map->cluster);
    gw_write64(w, map->hash_seed);
    gw_write16(w, (uint16_t)map->servers);
    gw_write16(w, 0);
    for (uint32_t i = 0; i < map->servers; i++) {
        const struct gw_map_server *server = &map->server[i];
        gw_write64(w, server->view);
        gw_write64(w, server->incarnation);
        gwi_id_encode(server->id, w);
        gwi_address_encode(server->address, w);
    }

    uint8_t *count = gw_write_room(w, 2);
    uint16_t runs = 0;
    uint32_t at = 0;
    uint16_t first, last;
    while (next_run(map, &at, &first, &last)) {
        gw_write16(w, first);
        gw_write16(w, last);
        gw_write16(w, map->owner[first]);
        gw_write64(w, map->since[first]);
        runs++;
    }
    if (count)
        gw_store16(count, runs);
}

static int compare_ids(const void *a, const void *b)
{
    const char *const *left = a, *const *right = b;
    return strcmp(*left, *right);
}

static bool ids_distinct(const struct gw_map *map)
{
    const char *id[GW_SERVERS_MAX];
    for (uint32_t i = 0; i < map->servers; i++)
        id[i] = map->server[i].id;
    qsort(id, map->servers, sizeof id[0], compare_ids); /* 1,024 of them pair by pair take ms */
    for (uint32_t i = 1; i < map->servers; i++)
        if (strcmp(id[i - 1], id[i]) == 0)
            return false;
    return true;
}

static void decode_servers(struct gw_reader *r, struct gw_map *map)
{
    for (uint32_t i = 0; i < map->servers && !r->bad; i++) {
        struct gw_map_server *server = &map->server[i];
        server->view = gw_read64(r);
        server->incarnation = gw_read64(r);
        gwi_id_decode(r, server->id, GWI_REQUIRED);
        gwi_address_decode(r, server->address, GWI_OPTIONAL);
    }
    gwi_expect(r, !r->bad && ids_distinct(map));
}

static void decode_owners(struct gw_reader *r, struct gw_map *map)
{
    uint32_t runs = gw_read16(r);
    uint32_t least = 0; /* where a run may start at the earliest */
    for (uint32_t i = 0; i < runs && !r->bad; i++) {
        uint16_t first = gw_read16(r);
        uint16_t last = gw_read16(r);
        uint16_t server = gw_read16(r);
        uint64_t since = gw_read64(r);
        if (r->bad || first < least || last < first || last >= GW_SLOTS || server >= map->servers ||
            since > map->version || /* a tenure that has not begun */
            (first > 0 && map->owner[first - 1] == server && map->since[first - 1] == since)) {
            r->bad = true;
            return;
        }
        for (uint32_t slot = first; slot <= last; slot++) {
            map->owner[slot] = server;
            map->since[slot] = since;
        }
        least = (uint32_t)last + 1;
    }
}

enum gw_status gw_map_decode(struct gw_reader *r, struct gw_map **out)
{
    uint64_t version = gw_read64(r);
    uint64_t cluster = gw_read64(r);
    uint64_t hash_seed = gw_read64(r);
    uint32_t servers = gw_read16(r);
    gwi_zero_decode(r, 2);
    if (r->bad || servers > GW_SERVERS_MAX ||
        gw_reader_left(r) < (size_t)servers * SERVER_BYTES_LEAST)
        return GW_E_PROTOCOL;

    struct gw_map *map = gw_map_create();
    if (!map)
        return GW_E_NOMEM;
    enum gw_status st = GW_E_NOMEM;
    if (servers > 0) {
        map->server = calloc(servers, sizeof *map->server);
        if (!map->server)
            goto fail_map;
    }
    map->version = version;
    map->cluster = cluster;
    map->hash_seed = hash_seed;
    map->servers = servers;
    decode_servers(r, map);
    decode_owners(r, map);
    st = gwi_body_end(r);
    if (st != GW_OK)
        goto fail_map;
    *out = map;
    return GW_OK;

fail_map:
    gw_map_destroy(map);
    return st;
}
