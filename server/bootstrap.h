/* bootstrap.h - the first word with the coordinator, before there is a store: the map names the
 * hash seed by which all records of the cluster lie. Layer: server. */
#ifndef GW_SERVER_BOOTSTRAP_H
#define GW_SERVER_BOOTSTRAP_H

#include <stdatomic.h>
#include <stdbool.h>

#include "client/wire/map.h"

/* Asks until the coordinator answers or *stop is set (GW_E_CANCELLED); says on stderr that it
 * waits. *out is the caller's. */
GW_MUST_USE enum gw_status gwi_bootstrap_map(const char *coordinator, const atomic_bool *stop,
                                             struct gw_map **out);
#endif
