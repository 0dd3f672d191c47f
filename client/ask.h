/* ask.h - one question and its answer, waited for: for what is not a session's business (the first
 * map, operator requests, scans). One connection at a time, on a transport of its own.
 * Thread rule: an asker belongs to the thread that asks first. Layer: client. */
#ifndef GW_CLIENT_ASK_H
#define GW_CLIENT_ASK_H

#include <stdint.h>

#include "client/wire/ops.h"

struct gwi_asker;

struct gwi_answer {
    struct gw_frame head;
    struct gw_reader body; /* borrows the asker until it is asked again */
};

/* GW_E_NOMEM, GW_E_UNSUPPORTED. */
GW_MUST_USE enum gw_status gwi_asker_create(struct gwi_asker **out);
void gwi_asker_destroy(struct gwi_asker *asker); /* NULL is ignored */
/* Sends a whole frame to the address, over the connection of the last question if that is to the
 * same one, and waits for the next frame from there. GW_E_INVALID (address), GW_E_UNREACHABLE,
 * GW_E_TIMEOUT, GW_E_TOO_LARGE (the frame), GW_E_PROTOCOL, GW_E_NOMEM; an ERROR frame gives the
 * failure that it names. After a failure the next question opens a new connection. */
GW_MUST_USE enum gw_status gwi_asker_ask(struct gwi_asker *asker, const char *address,
                                         const uint8_t *frame, uint32_t bytes, uint32_t timeout_ms,
                                         struct gwi_answer *answer);
#endif
