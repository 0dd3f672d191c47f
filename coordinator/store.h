/* store.h - the facts of the coordinator in one SQLite file (`sqlite:PATH`): WAL, synchronous=FULL,
 * one transaction a batch of facts. Exactly one process may hold the file; the lock goes with the
 * process, also when it is killed. Every failure comes with a sentence that names the file.
 * Thread rule: one thread. Layer: coordinator. */
#ifndef GW_COORDINATOR_STORE_H
#define GW_COORDINATOR_STORE_H

#include "coordinator/state.h"

#define GW_FACT_STORE_SCHEMA 4

struct gw_fact_store;

/* Opens or makes the file; one of an older schema is brought up to this one in the same transaction
 * that takes the lock. GW_E_INVALID: not "sqlite:PATH"; GW_E_BUSY: another coordinator holds
 * it; GW_E_VERSION: another schema version; GW_E_CORRUPT: no database, damaged, or another
 * program's; GW_E_IO: cannot be opened or written; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_fact_store_open(const char *url, struct gw_fact_store **out,
                                              char *error, size_t error_bytes);
void gw_fact_store_close(struct gw_fact_store *store); /* NULL is ignored */

/* Gives all facts in the order that gw_coordinator_apply wants. Statuses of open, and what `each`
 * returned when it failed. */
typedef enum gw_status (*gw_fact_cb)(void *ctx, const struct gw_fact *fact);
GW_MUST_USE enum gw_status gw_fact_store_load(struct gw_fact_store *store, gw_fact_cb each,
                                              void *ctx, char *error, size_t error_bytes);

/* All facts or none, durable on GW_OK. GW_MISMATCH: the store is not in the state that a fact's
 * `was` says. After any failure what the file holds is unknown until it is loaded again. */
GW_MUST_USE enum gw_status gw_fact_store_save(struct gw_fact_store *store,
                                              const struct gw_fact *facts, uint32_t n, char *error,
                                              size_t error_bytes);

/* A coordinator with what the store holds; founds the cluster when it holds nothing. */
GW_MUST_USE enum gw_status gw_fact_store_start(struct gw_fact_store *store, uint64_t new_cluster,
                                               uint64_t new_hash_seed, struct gw_coordinator **out,
                                               char *error, size_t error_bytes);
#endif
