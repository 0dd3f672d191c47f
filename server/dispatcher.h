/* dispatcher.h - one thread a vCPU: its own transport, engine thread, sessions and waiting
 * operations. It takes what the network gave, executes it in batches under the view of the moment
 * and answers; between batches it does its share of migrations. Nothing of a dispatcher is touched
 * by another thread but its mailbox. Files: dispatcher.c (thread, turn, mail), links.c (connections
 * and their roles), batch.c (BATCH frames), release.c (parked operations), scan.c, haul.c (the data
 * plane of migrations), commit.c and hold.c (durability). Layer: server. */
#ifndef GW_SERVER_DISPATCHER_H
#define GW_SERVER_DISPATCHER_H

#include <pthread.h>

#include "client/net/net.h"
#include "client/wire/ops.h"
#include "index/epoch.h"
#include "index/store.h"
#include "server/commit.h"
#include "server/hold.h"
#include "server/mailbox.h"
#include "server/pace.h"
#include "server/park.h"
#include "server/sessions.h"
#include "server/slot_load.h"
#include "server/view.h"

struct gwi_server;
struct gwi_control;
struct gwi_haul;

#define GWI_GROUP         128u /* operations executed by one call of the engine */
#define GWI_READY_GROUP   64u
#define GWI_CROWD_BYTES   (16u << 10)  /* of values a client gets at once when memory is short */
#define GWI_REPLY_BYTES   (256u << 10) /* a REPLY frame is sent when it has grown to about this */
#define GWI_BACKLOG_SOFT  (2u << 20)   /* at most; see backlog_soft */
#define GWI_COLD_AGAIN_NS 100000000ull /* a read's result waits so long at most for its reader */
#define GWI_HOLD_NS       200000000ull /* a batch from the future is held so long, then refused (R2) */

enum gwi_mail_kind {
    GWI_MAIL_STOP = 1,
    GWI_MAIL_ATTACH,     /* subject: struct gw_handover */
    GWI_MAIL_CUT_PASSED, /* number: the cut's; to control */
    GWI_MAIL_COLLECT,    /* subject: struct gwi_errand; to every dispatcher, and back to control */
    GWI_MAIL_MERGE,      /* likewise */
    GWI_MAIL_DROP,       /* likewise: forget the applied serials of these slots */
    /* to control; number: the job */
    GWI_MAIL_SHIPPED,  /* every chunk is acknowledged */
    GWI_MAIL_UNLINKED, /* the range is unlinked */
    GWI_MAIL_ARRIVED,  /* every chunk is complete */
    GWI_MAIL_BULK_DOWN,
};

enum gwi_link_role {
    GWI_LINK_NEW = 0, /* accepted, no HELLO yet */
    GWI_LINK_CLIENT,
    GWI_LINK_CONTROL_IN, /* the source of an incoming job speaks */
    GWI_LINK_BULK_IN,
    GWI_LINK_PULL_IN, /* the target of an outgoing job asks */
    GWI_LINK_OUT,     /* opened by us: coordinator, peers; `out` says whose */
};

enum gwi_hold {
    GWI_HOLD_NONE = 0,
    GWI_HOLD_VIEW,
    GWI_HOLD_BACKLOG,
    GWI_HOLD_PARK,
    GWI_HOLD_SPACE,
    GWI_HOLD_COLD,    /* until the store has read something, or until hold_until_ns */
    GWI_HOLD_DURABLE, /* until the commit log has room, or less waits to be durable */
};

/* Handlers of a connection that this server opened; `ctx` is the opener's. */
struct gwi_out_events {
    void (*connected)(void *ctx, struct gw_conn *conn, enum gw_status st);
    enum gw_status (*frame)(void *ctx, struct gw_conn *conn, const uint8_t *frame, uint32_t bytes);
    void (*closed)(void *ctx, struct gw_conn *conn, enum gw_status st);
};

/* What the server knows of a connection: its user pointer. */
struct gwi_link {
    struct gwi_dispatcher *dispatcher;
    struct gw_conn *conn;
    struct gwi_session *session; /* role CLIENT */
    const struct gwi_out_events *out;
    void *out_ctx;
    struct gwi_link *before, *after; /* list of held links, while hold != NONE */
    struct gwi_link *next, **at;     /* list of all links of the dispatcher */
    uint64_t generation;             /* unique in the dispatcher */
    uint64_t sequence;               /* of the last batch taken (or refused) */
    uint64_t hold_until_ns, hold_generation, hold_reads;
    uint32_t batch_at, batch_done; /* progress inside of a batch that was suspended */
    uint8_t role, hold;
    bool refusing; /* until the client goes back to the refused batch (R2) */
    bool early;    /* the last batch was to be answered before it is durable */
    bool ending;   /* it is closed behind what waits to be durable: nothing more is taken */
    struct gwi_link_hold hold_of;
};

struct gwi_dispatcher {
    struct gwi_server *server;
    uint32_t index;
    pthread_t thread;
    struct gw_net *net;
    struct gw_thread *store;
    uint32_t epoch_slot;
    struct gwi_mailbox box;
    bool stopping, inside;
    bool device_watched;  /* completions of the store's device end a wait of the net */
    bool park_try_all;    /* the view has changed: every waiting key is looked at again */
    uint64_t now_ns;      /* read once a turn */
    uint64_t generation;  /* of the view noticed last */
    uint64_t reads_ended; /* told by gw_store_ready so far */
    uint64_t next_link_generation;
    const struct gwi_view *view; /* valid inside the epoch only */
    struct gwi_sessions sessions;
    struct gwi_park park;
    struct gwi_commit commit;
    struct gwi_holding hold;
    size_t park_bytes_max;
    uint32_t park_session_max; /* operations of one session: nobody fills it alone */
    size_t backlog_soft;       /* above it a client's next operations wait for it to read */
    struct gwi_link held;      /* sentinel */
    struct gwi_link *links;    /* all */
    struct gwi_haul *haul;
    struct gwi_control *control; /* dispatcher 0 only */

    uint64_t ready[GWI_READY_GROUP]; /* hashes from gw_store_ready, not yet looked at */
    uint32_t ready_count;
    struct gw_op ops[GWI_GROUP];
    uint8_t *room; /* values read by one group */
    size_t room_bytes;
    uint8_t *reply; /* a REPLY, COMPLETIONs or another frame in the making, never two at a time */
    size_t reply_room;
    uint64_t completion_session; /* whose completions lie in `reply`, if there are any */
    size_t completions_bytes;
    uint32_t completions_count;
    bool completions_early; /* all of them are of early batches */

    /* How late requests are: those of a turn came, at the earliest, when the network was looked at
     * before it, or woke us; their answers leave when it is looked at next. */
    struct gwi_lateness lateness;
    struct gwi_pace pace;
    uint64_t looked_ns, woken_ns, came_ns;
    uint64_t paced_ns, idle_ns;   /* the last gwi_pace_time: when, and what the net had waited */
    uint64_t operations_answered; /* counted in `lateness` */

    _Atomic uint64_t operations;  /* written here, read by control */
    _Atomic uint64_t late_p99_ns; /* likewise: of requests of late, 0: none */
    struct gwi_slot_count slot_count;
    /* Likewise, now and then (explain.h). */
    _Atomic uint64_t memory_in, memory_out, memory_net, memory_sessions, memory_parked;
    _Atomic uint64_t parked_operations;
    _Atomic uint64_t sessions_open;
};

/* Work for the sessions of one dispatcher, handed there and back by mail; control owns it. */
struct gwi_errand {
    uint64_t job, attempt, part;
    uint32_t dispatcher;        /* to whom it went */
    struct gw_slots slots;      /* COLLECT, DROP */
    struct gw_applied *entries; /* COLLECT: found (malloc'ed); MERGE: to be merged */
    size_t count;
    enum gw_status status;
};

/* Everything but the thread. GW_E_NOMEM, GW_E_LIMIT, GW_E_UNSUPPORTED (no io_uring). */
GW_MUST_USE enum gw_status gwi_dispatcher_create(struct gwi_server *server, uint32_t index,
                                                 struct gwi_dispatcher **out);
GW_MUST_USE enum gw_status gwi_dispatcher_start(struct gwi_dispatcher *d);
void gwi_dispatcher_join(struct gwi_dispatcher *d); /* after a STOP mail */
void gwi_dispatcher_destroy(
    struct gwi_dispatcher *d); /* when all have been joined; NULL is ignored */
/* Posts mail and wakes the owner; any thread. False: out of memory. */
bool gwi_dispatcher_post(struct gwi_dispatcher *d, enum gwi_mail_kind kind, uint64_t number,
                         void *subject);

/* Enters the epoch, loads the view, does this dispatcher's part of a change and of open cuts.
 * Everything that looks at the view stands between the two. */
void gwi_dispatcher_enter(struct gwi_dispatcher *d);
void gwi_dispatcher_exit(struct gwi_dispatcher *d);

/* links.c */
extern const struct gw_net_events gwi_link_events;
GW_MUST_USE enum gw_status gwi_link_open(struct gwi_dispatcher *d, const char *address,
                                         const struct gwi_out_events *events, void *ctx,
                                         struct gw_conn **out);
struct gwi_link *gwi_link_attach(struct gwi_dispatcher *d, struct gw_handover *takes);
void gwi_link_hold(struct gwi_link *link, enum gwi_hold why, uint64_t until_ns);
void gwi_links_free(struct gwi_dispatcher *d);    /* at the end, when the net is gone */
void gwi_links_release(struct gwi_dispatcher *d); /* resumes those whose reason may be gone */
/* Must what makes output for this link wait until it has read, or until others have? `more` bytes
 * are about to be added to what it has not read. */
bool gwi_link_is_behind(const struct gwi_link *link, size_t more);
/* Is there so much that is not durable that nothing more is to be executed now? */
bool gwi_link_is_undurable(const struct gwi_link *link);
bool gwi_link_send(struct gw_conn *conn, const uint8_t *frame,
                   size_t bytes); /* false: backlog full */
enum gw_status gwi_link_error(struct gw_conn *conn, enum gw_status st, const char *text);

/* batch.c, scan.c */
enum gw_status gwi_batch_frame(struct gwi_link *link, const struct gw_frame *f,
                               const uint8_t *body);
enum gw_status gwi_scan_frame(struct gwi_link *link, const struct gw_frame *f, const uint8_t *body);

/* release.c: parked operations */
/* Parks what ops[] holds; `why` is what the engine said of it: GW_ABSENT (a pull is wanted),
 * GW_PENDING (its record is being read), GW_RETRY, or GW_OK when it was not asked. `resent`: the
 * client says that it was sent before. False: out of memory (the op is answered GW_E_NOMEM). */
bool gwi_release_park(struct gwi_dispatcher *d, struct gwi_link *link, const struct gw_op *op,
                      uint64_t serial, bool resent, enum gw_status why);
/* Tries parked keys again, at most `keys_max`; inside the epoch. */
void gwi_release_try(struct gwi_dispatcher *d, uint32_t keys_max);
/* Tries the cold keys among these, whose records the store has read; inside the epoch. */
void gwi_release_ready(struct gwi_dispatcher *d, const uint64_t *hashes, uint32_t n);
/* Tries cold keys that have waited for so long that the store has given their records up. Returns
 * after how many ns it wants to be called again; inside the epoch. */
uint64_t gwi_release_stale(struct gwi_dispatcher *d, uint32_t keys_max);
/* The view has changed: returns as GW_MOVED whatever waits for a slot that is not ours any more. */
void gwi_release_moved(struct gwi_dispatcher *d);
void gwi_release_flush(struct gwi_dispatcher *d); /* sends the completions gathered */
/* Engine verb of a wire verb; 0 if there is none. */
uint8_t gwi_verb_of_wire(uint8_t wire_verb);
#endif
