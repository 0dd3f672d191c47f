/* blob.h - the shared tier (tiering/tier.h) as a server runs it: watched, so that what does not
 * work is said once and shown for as long as it lasts; explained; and collected: every few hours,
 * and when asked to, objects are looked for that no list of ours knows.
 *
 * Operators' requests: {"op": "collect", "dry": BOOL} begins; {"op": "collect_status"}: {"state":
 * "none" | "running" | "done" | "failed", "dry", "objects", "bytes", "list": [{"name", "bytes",
 * "why"}, ...], "error"}. Layer: server. */
#ifndef GW_SERVER_BLOB_H
#define GW_SERVER_BLOB_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

struct gwi_server;

/* Begins to watch, if the server has a shared tier. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_blob_start(struct gwi_server *server, uint64_t cluster);
/* Ends it; waits for a collection that is under way. Before the device is closed. */
void gwi_blob_stop(struct gwi_server *server);

/* Deletes every object of the log of a server that is gone, whose objects nobody needs any more
 * (control.h, NEEDS): soon, on a thread of ours, tried again until it is done. Our own log and 0
 * are ignored. Any thread. */
void gwi_blob_clear(struct gwi_server *server, uint64_t log_id);
uint64_t gwi_blob_cleared(const struct gwi_server *server); /* the last that was; 0: none */

/* What is wrong with the shared tier, as a sentence; false and "": nothing, or there is none. Any
 * thread. */
bool gwi_blob_trouble(const struct gwi_server *server, char *room, size_t room_bytes);
/* The section "blob" of `explain store`; NULL: there is no shared tier. Any thread. */
json_t *gwi_blob_explain(const struct gwi_server *server);
/* NULL: another op. Dispatcher 0's thread. */
json_t *gwi_blob_answer(struct gwi_server *server, const json_t *request, const char *op);
#endif
