/* net_loop.h - the transport of net.h inside one process, over a virtual clock: for the simulator.
 * A loop is a little world of nodes; each node is a gw_net with a name ("a:1") that others connect
 * to once it listens. What a node commits travels as frames that arrive after a delay drawn from
 * the loop's seed: first in, first out within a connection, in any order between connections.
 * Nothing happens by itself: gw_loop_step moves the clock to the next event and names the node that
 * now has something to do; its gw_net_poll then runs the callbacks. gw_net_poll never sleeps here.
 *
 *     while (gw_loop_step(loop, &net))
 *         gw_net_poll(net, 0);
 *
 * The same seed and the same calls give the same run. Unlike TCP: a stalled peer is not closed
 * after stalled_ms_max (its clock would run whenever a simulation falls silent), there is no
 * eventfd, and a connection cannot move to another node. Thread rule: one thread for a loop and all
 * its nodes. Ownership: nodes are ended with gw_net_destroy before their loop. Layer: client/net.
 */
#ifndef GW_CLIENT_NET_NET_LOOP_H
#define GW_CLIENT_NET_NET_LOOP_H

#include "client/net/net.h"

struct gw_loop;

struct gw_loop_options {
    uint64_t seed;
    uint64_t delay_ns_min; /* of a frame, a connection, an end; default 10,000 */
    uint64_t delay_ns_max; /* default 500,000 */
    uint64_t start_ns;     /* the clock's first value; default 1 s */
    uint64_t wall_ms;      /* Unix time then; default 1,700,000,000,000 */
};

void gw_loop_options_default(struct gw_loop_options *options); /* seed 1 */
/* GW_E_NOMEM; GW_E_INVALID: delay_ns_min above delay_ns_max. */
GW_MUST_USE enum gw_status gw_loop_create(const struct gw_loop_options *options,
                                          struct gw_loop **out);
void gw_loop_destroy(struct gw_loop *loop);                 /* requires: no nodes left */
const struct gw_clock *gw_loop_clock(struct gw_loop *loop); /* lives as long as the loop */

/* A node. gw_net_listen on it takes any text as its address, usually `name`; peers see `name`.
 * GW_E_BUSY: the name is taken; GW_E_INVALID: longer than 63 bytes. */
GW_MUST_USE enum gw_status gw_net_loop_create(struct gw_loop *loop, const char *name,
                                              const struct gw_net_options *options,
                                              const struct gw_net_events *events, void *ctx,
                                              struct gw_net **out);

/* The next event happens: the clock moves there, *net has something to do. False: nothing is on its
 * way. Nodes that have something to do already (resumed, woken) come first, at the present time. */
bool gw_loop_step(struct gw_loop *loop, struct gw_net **net);
uint64_t gw_loop_next_ns(const struct gw_loop *loop); /* when that is; UINT64_MAX: never */
/* Lets time pass up to `ns`, for the caller's own timers. Requires: no event is due before. */
void gw_loop_advance(struct gw_loop *loop, uint64_t ns);

/* The connection is reset: both ends get `closed` with GW_E_IO, what was on its way is lost. */
void gw_loop_break(struct gw_conn *conn);
/* The same for all connections between two nodes; returns their number. */
uint32_t gw_loop_break_between(struct gw_loop *loop, const char *a, const char *b);
/* Nothing passes between two nodes from now on, in both directions: what is on its way waits, as
 * TCP sends again until it gets through, and new connections time out. Healing lets it go on. */
GW_MUST_USE enum gw_status gw_loop_partition(struct gw_loop *loop, const char *a, const char *b);
void gw_loop_heal(struct gw_loop *loop, const char *a, const char *b);
void gw_loop_heal_all(struct gw_loop *loop);
#endif
