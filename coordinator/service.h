/* service.h - the coordinator on a network: frames to events, outcomes to frames.
 * Works over any gw_net (sockets, or the simulator's):
 *
 *     gw_service_create(store, coordinator, clock, connections_max, &service);
 *     gw_net_uring_create(&options, gw_service_events(), service, &net);  or gw_net_loop_create
 *     while (running) {
 *         gw_net_poll(net, GW_SERVICE_TURN_NS);
 *         st = gw_service_turn(service, why, sizeof why);   a failure: end the process
 *     }
 *
 * Callbacks only collect; the turn makes the facts of all of them durable in one transaction and
 * only then sends what they have led to. Thread rule: the net's. Layer: coordinator. */
#ifndef GW_COORDINATOR_SERVICE_H
#define GW_COORDINATOR_SERVICE_H

#include "client/net/net.h"
#include "coordinator/store.h"

#define GW_SERVICE_TURN_NS              UINT64_C(500000000) /* at most so long between two turns */
#define GW_SERVICE_CONNECTIONS_MAX      12000u
#define GW_SERVICE_CONNECTIONS_RESERVED 1100u /* of them, for servers: clients get the rest */
#define GW_SERVICE_HELLO_NS_MAX         UINT64_C(10000000000)  /* silent after connecting: closed */
#define GW_SERVICE_IDLE_NS_MAX          UINT64_C(600000000000) /* a client that asks nothing */

struct gw_service;

/* Borrows store and clock, takes the coordinator (on success). connections_max: as in the net's
 * options, more than GW_SERVICE_CONNECTIONS_RESERVED and at most 65,535. GW_E_NOMEM, GW_E_INVALID.
 */
GW_MUST_USE enum gw_status gw_service_create(struct gw_fact_store *store,
                                             struct gw_coordinator *coordinator,
                                             const struct gw_clock *clock, uint32_t connections_max,
                                             struct gw_service **out);
void gw_service_destroy(struct gw_service *service); /* its net has been destroyed before */
/* For the net's creation, with the service as ctx. */
const struct gw_net_events *gw_service_events(void);
/* After each poll. On failure nothing was sent and memory is ahead of the file: the process must
 * end, and start again from what the file holds. `why` gets a sentence. */
GW_MUST_USE enum gw_status gw_service_turn(struct gw_service *service, char *why, size_t why_bytes);
/* For tests and the simulator to look at. */
const struct gw_coordinator *gw_service_coordinator(const struct gw_service *service);
#endif
