/* cluster.h - what the sessions of a process share: the coordinator's address, the newest map, and
 * the right to ask for a newer one. One fetch at a time and a growing pause between fetches, so
 * that a thousand sessions that meet the same refusal are no storm (DESIGN section 7). Thread rule:
 * every function may be called from any thread. Layer: client. */
#ifndef GW_CLIENT_CLUSTER_H
#define GW_CLIENT_CLUSTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/include/godwit.h"
#include "client/wire/map.h"

#define GWI_FETCH_PAUSE_MS_MIN 50u
#define GWI_FETCH_PAUSE_MS_MAX 2000u
#define GWI_ADDRESS_TEXT_BYTES (GW_ADDRESS_BYTES_MAX + 1)

/* A cluster that knows `map` (taken, may be NULL) and asks nobody yet: what gw_cluster_open is
 * built on, and what a simulation starts with. `seed` decides session ids and jitter. */
GW_MUST_USE enum gw_status gwi_cluster_create(const char *coordinator,
                                              const struct gw_cluster_options *options,
                                              uint64_t seed, struct gw_map *map,
                                              struct gw_cluster **out);
const char *gwi_cluster_coordinator(const struct gw_cluster *cluster);
uint32_t gwi_cluster_timeout_ms(const struct gw_cluster *cluster);

/* Takes `map`; true if it was newer and is the cluster's map now (R1: whole, only upwards). */
bool gwi_cluster_offer(struct gw_cluster *cluster, struct gw_map *map);
/* Decodes a map from what is left of a frame and offers it. A map that is not newer is not even
 * decoded. GW_E_PROTOCOL, GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_cluster_offer_wire(struct gw_cluster *cluster, struct gw_reader *r);
/* Runs fn on the newest map, which it may look at until it returns; not if there is none. */
void gwi_cluster_read(struct gw_cluster *cluster, void (*fn)(void *ctx, const struct gw_map *map),
                      void *ctx);

/* May the caller fetch the map now? True: it must call gwi_cluster_fetch_end, whatever comes of it.
 */
bool gwi_cluster_fetch_begin(struct gw_cluster *cluster, uint64_t now_ns);
/* `newer`: the fetch brought a newer map; otherwise the next pause is twice as long. */
void gwi_cluster_fetch_end(struct gw_cluster *cluster, uint64_t now_ns, bool newer);
/* When asking gwi_cluster_fetch_begin again makes sense. */
uint64_t gwi_cluster_fetch_at(struct gw_cluster *cluster, uint64_t now_ns);

/* Ids of one process are consecutive: a server places a session on dispatcher id % threads, so that
 * they spread evenly. Never 0. */
uint64_t gwi_cluster_session_id(struct gw_cluster *cluster);
#endif
