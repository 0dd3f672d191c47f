/* map.h - the cluster map: who owns which slot, in which view, and where servers are.
 * A map is a value that is adopted whole and only upwards (MIGRATION R1): whoever holds version n
 * ignores every version <= n. Each server's `view` is the map version at which its own slots last
 * changed, so that a migration between two servers refuses no batch at a third. A plain value:
 * whoever shares one between threads does not change it. Layer: client/wire. */
#ifndef GW_CLIENT_WIRE_MAP_H
#define GW_CLIENT_WIRE_MAP_H

#include <stdint.h>

#include "client/wire/frame.h"
#include "index/base/slots.h"

#define GW_SERVERS_MAX 1024u
#define GW_NO_SERVER   0xffffu

struct gw_map_server {
    char id[GW_ID_BYTES_MAX + 1];
    char address[GW_ADDRESS_BYTES_MAX + 1]; /* as advertised now, may be ""; identity is the id */
    uint64_t view;
    uint64_t incarnation; /* of the process that joined last */
};

struct gw_map {
    uint64_t version;   /* 0: no map yet */
    uint64_t cluster;   /* random, made with the cluster */
    uint64_t hash_seed; /* one for all servers (ENGINE H16) */
    uint32_t servers;
    struct gw_map_server *server; /* owned, from malloc; index = position, stable for the life of
                                     the cluster */
    uint16_t owner[GW_SLOTS];     /* index of a server, or GW_NO_SERVER */
    /* Map version at which the owner got the slot: what a server recovers of an earlier tenure is
     * no more (MIGRATION R23). 0 where there is no owner. */
    uint64_t since[GW_SLOTS];
};

struct gw_map *gw_map_create(void);                   /* empty, NULL on lack of memory */
void gw_map_destroy(struct gw_map *map);              /* NULL is ignored */
struct gw_map *gw_map_copy(const struct gw_map *map); /* NULL on lack of memory */
/* Index of the server of that id, or -1. */
int gw_map_find(const struct gw_map *map, const char *id);
void gw_map_slots_of(const struct gw_map *map, uint32_t server, struct gw_slots *out);

/* Wire: u64 version, u64 cluster, u64 hash seed, u16 servers, u16 zero; per server: u64 view, u64
 * incarnation, u8 id bytes, id, u8 address bytes, address; then owners as runs: u16 runs, per run
 * u16 first, u16 last, u16 server, u64 since (at most the version); slots in no run have no owner.
 * Runs ascend, and runs of one server and tenure that touch are one run. A map is always the last
 * thing of its body. */
size_t gw_map_wire_bytes(const struct gw_map *map); /* an upper bound */
void gw_map_encode(const struct gw_map *map, struct gw_writer *w);
/* GW_E_PROTOCOL (also for bytes behind the map), GW_E_NOMEM; on GW_OK *out is the caller's. */
GW_MUST_USE enum gw_status gw_map_decode(struct gw_reader *r, struct gw_map **out);
#endif
