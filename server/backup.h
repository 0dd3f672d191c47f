/* backup.h - a copy of a server's newest checkpoint in another directory, while it serves: state,
 * index, segments, store.json, and manifest.json last. It is a data directory of its own right:
 * verify, dump and a server read it. One at a time; a thread of its own copies, and segments that
 * it needs stay meanwhile. Consistent for this server: what its clients were told durable before it
 * began is in it. Layer: server. */
#ifndef GW_SERVER_BACKUP_H
#define GW_SERVER_BACKUP_H

#include <jansson.h>

struct gwi_server;

/* Answers an operator's request: {"op": "backup", "to": DIRECTORY} begins one, into DIRECTORY/ID,
 * which must not be there; {"op": "backup_status"}: {"state": "none" | "waiting" | "copying" |
 * "done" | "failed", "bytes", "bytes_all", "checkpoint", "error"}; {"op": "checkpoint"} asks for a
 * checkpoint, {"number"}. NULL: another op. Dispatcher 0's thread. */
json_t *gwi_backup_answer(struct gwi_server *server, const json_t *request, const char *op);
/* Waits for the thread, which gives up. Before checkpoints end. */
void gwi_backup_stop(struct gwi_server *server);
#endif
