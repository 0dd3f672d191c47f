/* sessions.h - a dispatcher's client sessions: which serials were applied, exactly (MIGRATION R7),
 * and the connection that speaks for each. A session lives on dispatcher id % threads (ENGINE rule
 * 25); it outlives its connections, so that a replay is recognised. Memory is bounded by the number
 * of sessions (when there are too many, the one that has been without a connection for longest is
 * forgotten early) and by the windows granted to them. Touched by its dispatcher only.
 * Layer: server. */
#ifndef GW_SERVER_SESSIONS_H
#define GW_SERVER_SESSIONS_H

#include <stdatomic.h>
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
    uint32_t granted;                  /* operations in flight that its client was told */
    struct gw_applied_window *applied; /* owned */
    uint64_t imaged;                   /* generation of the image that has it (session_image.h) */
    bool recovered; /* what it had applied before this process began is known: from its files */
};

/* An image of the sessions in the making; session_image.h. */
struct gwi_session_image {
    uint64_t generation; /* raised by every opening; sessions of another one are not copied yet */
    uint64_t number;     /* of the checkpoint */
    uint8_t *bytes;      /* owned, malloc */
    size_t used, room;
    uint32_t bucket, sessions; /* copied so far: all below this bucket; sessions in `bytes` */
    bool open, failed;
};

struct gwi_sessions {
    struct gwi_session **bucket;
    uint32_t buckets, count;
    uint32_t count_max;            /* 0: GWI_SESSIONS_MAX */
    uint64_t granted, granted_max; /* entries of applied windows, promised; 0: no bound */
    struct gwi_session_image image;
    _Atomic uint64_t *forgotten; /* raised for each session that goes with entries that its client
                                    has not confirmed; NULL: nobody asks */
};

/* One more session is forgotten. Clients compare the counter for equality only; the low half
 * counts, the high half is drawn anew each time, so that no value comes twice, not even after a
 * restart that goes back to an older count. */
void gwi_sessions_raise_forgotten(_Atomic uint64_t *forgotten);

bool gwi_sessions_init(struct gwi_sessions *s);
void gwi_sessions_fini(struct gwi_sessions *s);
struct gwi_session *gwi_sessions_find(const struct gwi_sessions *s, uint64_t id);
/* NULL: out of memory, or there are too many and all of them have a connection or operations that
 * wait. */
struct gwi_session *gwi_sessions_create(struct gwi_sessions *s, uint64_t id, uint32_t window);
/* The client is gone for good (BYE): nothing is lost with it. */
void gwi_sessions_remove(struct gwi_sessions *s, struct gwi_session *session);
/* How many operations in flight the session's client is told: a power of two, at most `asked`, less
 * when many windows have been promised. */
uint32_t gwi_sessions_grant(struct gwi_sessions *s, struct gwi_session *session, uint32_t asked);
uint64_t gwi_sessions_bytes(const struct gwi_sessions *s); /* memory of all of them */
/* Forgets sessions that have been without a connection for too long. */
void gwi_sessions_expire(struct gwi_sessions *s, uint64_t now_ns);
#endif
