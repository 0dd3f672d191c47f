/* control.h - the one place of a server that decides: it holds the connection to the coordinator
 * and to the sources and targets of jobs, drives their machines (migration/source.h, target.h),
 * builds the views that all dispatchers work by, and frees what a cut has made free. It lives on
 * dispatcher 0, between batches; nothing of it is touched by another thread. Layer: server. */
#ifndef GW_SERVER_CONTROL_H
#define GW_SERVER_CONTROL_H

#include "server/dispatcher.h"

struct gwi_control;

/* What lies in the store has been recovered under this map (server->recovered); before create. */
void gwi_control_note_recovery(struct gwi_server *server, const struct gw_map *map);

GW_MUST_USE struct gwi_control *gwi_control_create(struct gwi_dispatcher *d);
void gwi_control_destroy(struct gwi_control *c); /* after all dispatchers have ended */
/* What is due by now; once a turn, outside of the epoch. Returns when it wants to run again, ns. */
uint64_t gwi_control_turn(struct gwi_control *c);
void gwi_control_mail(struct gwi_control *c, const struct gwi_mail *mail);
enum gw_status gwi_control_peer_frame(struct gwi_control *c, struct gwi_link *link,
                                      const struct gw_frame *f, const uint8_t *body);
void gwi_control_peer_closed(struct gwi_control *c, struct gwi_link *link);
#endif
