/* admin.h - the operator's requests, in JSON (docs/ADMIN.md): text in, an ADMIN_REPLY in the
 * coordinator's outcome. Pure like the state machine it speaks to. Layer: coordinator. */
#ifndef GW_COORDINATOR_ADMIN_H
#define GW_COORDINATOR_ADMIN_H

#include "coordinator/state.h"

#define GW_ADMIN_REQUEST_BYTES_MAX (256u << 10)
/* A reply that would be longer is an error that says so. */
#define GW_ADMIN_REPLY_BYTES_MAX (4u << 20)

/* Executes one request of `link` and queues the reply to it, errors included. GW_E_NOMEM: not even
 * that was possible; close the link. */
GW_MUST_USE enum gw_status gw_admin_execute(struct gw_coordinator *c, uint64_t link,
                                            uint64_t request, const char *json, size_t json_bytes);
#endif
