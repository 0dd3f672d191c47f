/* sessions.h - a dispatcher's client sessions: which serials were applied, exactly (MIGRATION R7),
 * and the connection that speaks for each. A session lives on dispatcher id % threads (ENGINE rule
 * 25); it outlives its connections, so that a replay is recognised. Touched by its dispatcher only.
 * Layer: server. */
#ifndef GW_SERVER_SESSIONS_H
#define GW_SERVER_SESSIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "migration/applied.h"

#define GWI_SESSIONS_MAX    65536u          /* of one dispatcher */
#define GWI_SESSION_IDLE_NS 600000000000ull /* without a connection for 10 minutes: forgotten */

struct gwi_link;

struct gwi_session {
    struct gwi_session *chain;
    uint64_t id;
    struct gwi_link *link; /* NULL while no connection speaks for it */
    uint64_t idle_since_ns;
    uint32_t parked;                   /* operations of it that wait */
    struct gw_applied_window *applied; /* owned */
};

struct gwi_sessions {
    struct gwi_session **bucket;
    uint32_t buckets, count;
};

bool gwi_sessions_init(struct gwi_sessions *s);
void gwi_sessions_fini(struct gwi_sessions *s);
struct gwi_session *gwi_sessions_find(const struct gwi_sessions *s, uint64_t id);
/* NULL: out of memory or GWI_SESSIONS_MAX reached. */
struct gwi_session *gwi_sessions_create(struct gwi_sessions *s, uint64_t id, uint32_t window);
void gwi_sessions_remove(struct gwi_sessions *s, struct gwi_session *session);
/* Forgets sessions that have been without a connection for too long. */
void gwi_sessions_expire(struct gwi_sessions *s, uint64_t now_ns);
#endif
