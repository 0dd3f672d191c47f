/* recovery.h - servers that are killed and asked what they have made durable. A failure in here
 * fails the test. Layer: tests. */
#ifndef GW_TESTS_CLUSTER_RECOVERY_H
#define GW_TESTS_CLUSTER_RECOVERY_H

#include <jansson.h>

#include "tests/cluster/harness.h"

void recovery_kill(struct gw_spawn *spawn, const char *id); /* SIGKILL, and waits for its end */
json_t *recovery_stats(const struct gw_spawn_server *server);
/* The newest finished checkpoint. */
uint64_t recovery_checkpoint(const struct gw_spawn_server *server);
/* Asks for a checkpoint, and does not wait. Its number. */
uint64_t recovery_ask_checkpoint(const struct gw_spawn_server *server);
void recovery_take_checkpoint(const struct gw_spawn_server *server); /* and waits for it */
/* Is this text in what the server has written to stderr? */
bool recovery_log_has(const struct gw_spawn *spawn, const char *id, const char *text);
/* A value that says whose it is; room: 700 bytes. */
size_t recovery_value(char *room, uint32_t key, uint8_t generation);
#endif
