/* session_sync.h - for the files with verbs: issuing by description, and waiting for one answer.
 * Thread rule: that of godwit.h. Layer: client. */
#ifndef GW_CLIENT_SESSION_SYNC_H
#define GW_CLIENT_SESSION_SYNC_H

#include "client/session.h"

/* Issues what `wire` says for this key (its own is not looked at). Statuses: godwit.h. */
GW_MUST_USE enum gw_status gwi_session_issue(struct gw_session *s, const struct gw_wire_op *wire,
                                             const void *key, size_t key_bytes,
                                             gw_callback callback, void *ctx);

struct gwi_waiter {
    struct gw_session *session;
    struct gw_result result; /* its value is the session's sync_value */
    bool done;
};
void gwi_waiter_done(void *ctx, const struct gw_result *result); /* ctx: struct gwi_waiter */

/* The body of a function with parameters `s` and `result`: issues by `call`, whose callback is
 * gwi_waiter_done with &waiter, until the session takes it, then waits for the answer. */
#define GWI_SYNC(call)                                                                             \
    do {                                                                                           \
        struct gwi_waiter waiter = {.session = s};                                                 \
        if (s->running)                                                                            \
            return GW_E_INVALID; /* from inside a callback: it would wait for itself */            \
        enum gw_status st_;                                                                        \
        while ((st_ = (call)) == GW_WOULD_BLOCK)                                                   \
            gw_poll(s, 1000);                                                                      \
        if (st_ != GW_OK)                                                                          \
            return st_;                                                                            \
        gw_flush(s);                                                                               \
        s->waits = true;                                                                           \
        while (!waiter.done)                                                                       \
            gw_poll(s, -1);                                                                        \
        s->waits = false;                                                                          \
        if (result)                                                                                \
            *result = waiter.result;                                                               \
        return waiter.result.status;                                                               \
    } while (0)
#endif
