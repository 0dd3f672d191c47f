/* session_image.h - a dispatcher's sessions as they were when it crossed a cut: their part of a
 * checkpoint (durable.h). At the crossing nothing is copied. Each session is copied once: before
 * its window changes, by whoever is about to change it, or else by the dispatcher's turns, a
 * bounded portion each. When all are copied and every dispatcher has crossed, the bytes go to the
 * checkpoint.
 *
 * For the dispatcher's code:
 *   gwi_session_image_take(d, session) comes before anything of the session's window changes:
 *     - at the start of a BATCH frame, before gw_applied_confirm;
 *     - after every gw_store_execute (it may have crossed), before its results are recorded;
 *     - before complete(), merge and drop change a window.
 *   It is one compare of two numbers on the session's own line.
 *   gwi_session_image_turn(d) is called once a turn, outside of the epoch.
 * What is copied: the DONE entries. What is reserved, PENDING or NEW is nothing to recovery, so
 * gw_applied_reserve, begin and forget need no call.
 * Sessions are in the file as gwi_session_image_read reads them. Thread rule: the dispatcher's
 * thread; read: any. Layer: server. */
#ifndef GW_SERVER_SESSION_IMAGE_H
#define GW_SERVER_SESSION_IMAGE_H

#include <stddef.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "server/dispatcher.h"

#define GWI_IMAGE_SESSION_BYTES 40u   /* before the session's entries */
#define GWI_IMAGE_PORTION       4096u /* entries looked at by one turn */

/* The sessions are frozen as they are now, for checkpoint `number`. What was frozen before and not
 * fetched is forgotten. */
void gwi_session_image_open(struct gwi_sessions *s, uint64_t number);
/* Nobody wants it any more. */
void gwi_session_image_close(struct gwi_sessions *s);
/* Copies up to about `entries` more. True: all sessions are copied, or it has failed (no memory).
 */
bool gwi_session_image_copy(struct gwi_sessions *s, uint32_t entries);
/* The bytes of a finished image, the caller's to free (NULL if there are no sessions), and ends it.
 * GW_E_NOMEM: it could not be copied. Requires: gwi_session_image_copy has said true. */
GW_MUST_USE enum gw_status gwi_session_image_fetch(struct gwi_sessions *s, uint8_t **bytes,
                                                   size_t *n, uint32_t *sessions);
void gwi_session_image_take_slow(struct gwi_sessions *s, struct gwi_session *session);

static inline void gwi_session_image_take_of(struct gwi_sessions *s, struct gwi_session *session)
{
    if (GW_UNLIKELY(session->imaged != s->image.generation))
        gwi_session_image_take_slow(s, session);
}

static inline void gwi_session_image_take(struct gwi_dispatcher *d, struct gwi_session *session)
{
    gwi_session_image_take_of(&d->sessions, session);
}

/* One portion, if an image is open; hands it to the checkpoint when it is whole. True: there is
 * more to do at once. */
bool gwi_session_image_turn(struct gwi_dispatcher *d);

/* ---- reading ---- */

/* The sessions of a part of a state file, each put into sessions[id % threads]; a session that is
 * there already is a mistake of the file. GW_E_CORRUPT: not as written; GW_E_NOMEM. `count` is
 * raised by the sessions read. */
GW_MUST_USE enum gw_status gwi_session_image_read(const uint8_t *bytes, size_t n,
                                                  struct gwi_sessions *sessions, uint32_t threads,
                                                  uint64_t *count);
#endif
