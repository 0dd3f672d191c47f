/* explain.h - where the memory of the process is, and what the store has done: answers to ADMIN
 * frames on a server's own port (docs/ADMIN.md). Layer: server. */
#ifndef GW_SERVER_EXPLAIN_H
#define GW_SERVER_EXPLAIN_H

#include "server/dispatcher.h"

/* {"op": "memory"} or {"op": "stats"}; answers with one JSON object, an "error" for anything else.
 * Dispatcher's thread. */
enum gw_status gwi_explain_frame(struct gwi_link *link, const struct gw_frame *f,
                                 const uint8_t *body);
/* Publishes what only this dispatcher can count; its thread, now and then. */
void gwi_explain_publish(struct gwi_dispatcher *d);
#endif
