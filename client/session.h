/* session.h - a session's inside: what its files share.
 *
 *   session.c         opening and closing, options, statistics
 *   session_verbs.c   the calls that issue an operation, and their synchronous wrappers
 *   session_writes.c  those of them that are rarer: expiry, old values, bounds
 *   session_window.c  the window of operations: answers, deadlines, callbacks
 *   session_route.c   which operation may go to which server: maps, order, going back
 *   session_lane.c    a server's connection: opening, handshake, loss
 *   session_batch.c   batches out; replies, refusals and completions in
 *   session_keep.c    what is answered and not durable: kept, let go, sent again after a crash
 *   session_poll.c    time: poll, flush, drain, the descriptor
 *
 * An operation lives in the window at serial & mask from its issue to its answer:
 *
 *   FREE --issue--> QUEUED --dispatch--> READY --send--> SENT --GW_PENDING--> PENDING
 *     ^               ^  |                 |              |                      |
 *     |               |  `----- fail ------+-> FAILED     |                      |
 *     |               |-- returned, refused, lane lost ---+----------------------|
 *     |               `-- server restarted -- APPLIED <-- answered, not durable -'
 *     `-- answered (callback), delivered (FAILED), durable (APPLIED)
 *
 * QUEUED waits at the session, READY stands in its lane's list, SENT in a batch in flight, APPLIED
 * in its lane's list of kept ones. A told operation's callback has run: what happens to it
 * afterwards is silent.
 * Rules (cited by number in these files):
 *  1. Per slot, an operation goes to a lane only if no earlier one of the slot is QUEUED and none
 *     is READY, SENT or PENDING at another lane (MIGRATION R6).
 *  2. After a returned operation (GW_MOVED, GW_RETRY) nothing of its slot is sent before everything
 *     of the slot that is under way has come back; then in the order of serials.
 *  3. A refused lane sends nothing until none of its batches is in flight; its next batch carries
 *     GW_BATCH_RESUME (R2).
 *  4. Callbacks run only where `running` is set, which is inside gw_poll and what is built on it;
 *     what fails elsewhere becomes FAILED and is delivered there.
 *  5. An operation whose caller has been told of a deadline while it was under way stays in the
 *     window, `abandoned`, until its answer comes or its lane is lost: its place in order is taken.
 *  6. A kept operation (APPLIED) binds its slot to its lane, as one under way does (rule 1), until
 *     it is durable or is given to another owner because its server does not come back. `oldest`,
 *     which is what servers are told as confirmed, does not pass it.
 *  7. Positions are those of one incarnation of a server. With another one everything kept there is
 *     QUEUED again, before anything is sent to it, so that a slot's operations go in the order of
 *     serials; what cannot be sent again without applying it twice is lost, and counted.
 *
 * Time and transport come from the environment, so that a simulation runs the same code.
 * Thread rule: that of godwit.h. Layer: client. */
#ifndef GW_CLIENT_SESSION_H
#define GW_CLIENT_SESSION_H

#include <pthread.h>

#include "client/cluster.h"
#include "client/net/net.h"
#include "client/wire/ops.h"
#include "index/base/assert.h"
#include "index/base/rand.h"

#define GWI_WINDOW_MAX        65536u
#define GWI_BATCHES_MAX       64u
#define GWI_INLINE_BYTES      64u
#define GWI_NO_OP             UINT32_MAX
#define GWI_NO_LANE           0xffffu
#define GWI_MS                UINT64_C(1000000) /* in ns */
#define GWI_WAIT_MS_MAX       20u /* after GW_MOVED, GW_RETRY, GW_NOT_YET: from 1 ms up */
#define GWI_RECONNECT_MS_MIN  10u
#define GWI_RECONNECT_MS_MAX  1000u
#define GWI_HANDSHAKE_NS      (5000 * GWI_MS)
#define GWI_DEADLINE_CHECK_NS (5 * GWI_MS)
#define GWI_SILENCE_NS        (1000 * GWI_MS) /* an abandoned operation's lane silent so long: lost */
#define GWI_REFUSALS_MAX      3u /* connections in a row ended by an ERROR that repeating won't cure */
#define GWI_ISSUES_PER_CLOCK  64u

enum gwi_op_state {
    GWI_OP_FREE,
    GWI_OP_QUEUED,
    GWI_OP_READY,
    GWI_OP_SENT,
    GWI_OP_PENDING,
    GWI_OP_FAILED,  /* status is set, the callback is owed (rule 4) */
    GWI_OP_APPLIED, /* answered, kept until it is durable (rule 6) */
};

/* The answer of an operation that is APPLIED and not told yet (GW_ACKNOWLEDGE_DURABLE). */
struct gwi_held {
    void *ctx;
    uint64_t issued_ns;
    size_t bytes; /* of all this, within the session's bound */
    struct gw_wire_reply reply;
    uint8_t value[];
};

struct gwi_op {
    uint64_t serial;
    gw_callback callback;
    union {
        void *ctx;
        struct gwi_held *held; /* APPLIED and not told; owned */
    };
    uint8_t *heap; /* owned: the encoded operation, if it is longer than `bytes_inline` */
    union {
        uint64_t issued_ns;
        uint64_t position; /* APPLIED: durable when its lane's server has reached it */
    };
    uint64_t deadline_ns; /* UINT64_MAX: none */
    uint32_t next;        /* behind it in its lane's list, batch, or list of kept ones */
    uint32_t bytes;       /* encoded */
    uint16_t slot;
    uint16_t lane; /* READY, SENT, PENDING, APPLIED: where; else where it was last */
    uint8_t state;
    int8_t status;      /* FAILED */
    uint8_t mode;       /* enum gw_acknowledge */
    bool abandoned : 1; /* rule 5 */
    bool unsure : 1;    /* was under way when a lane was lost: may have been applied */
    bool told : 1;      /* its callback has run */
    bool orphan : 1;    /* kept; its server has forgotten its serial: can't be sent again */
    uint8_t bytes_inline[GWI_INLINE_BYTES];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct gwi_op) == 128, "two cache lines an operation");

struct gwi_slot {
    uint32_t under_way; /* operations READY, SENT or PENDING, all at `lane` */
    uint32_t queued;
    uint16_t lane;
    uint16_t owner; /* by the session's map; GWI_NO_LANE: nobody */
    uint16_t pass;  /* the dispatch that found it blocked */
    bool returning; /* rule 2 */
    uint8_t tries;  /* returned so often without an answer in between */
};
_Static_assert(sizeof(struct gwi_slot) == 16, "four slots a cache line");
_Static_assert(GWI_NO_LANE == GW_NO_SERVER, "owners are copied from the map");

/* Operations that were answered with a position and are not kept: what is needed of them to know
 * the commit point, and what a crash has lost. */
#define GWI_MARKS 8u
struct gwi_mark {
    uint64_t position;
    uint64_t first;  /* their lowest serial */
    uint64_t writes; /* those of them that had an effect */
};

struct gwi_batch {
    uint64_t sequence, view;
    uint32_t first, left; /* operations not yet answered, in order */
};

enum gwi_lane_state {
    GWI_LANE_DOWN,    /* no connection; retry_ns says when one may be opened */
    GWI_LANE_OPENING, /* HELLO is sent or will be, WELCOME has not come */
    GWI_LANE_UP,
};

struct gwi_lane {
    struct gw_session *session;
    struct gw_conn *conn; /* NULL: DOWN */
    uint64_t view;        /* of the server, by the session's map */
    uint64_t sequence;    /* of the last batch of this connection */
    uint64_t incarnation; /* of the server that welcomed us last; 0: none did */
    uint64_t position;    /* of the frame whose answers are being taken; 0: durable */
    uint64_t durable;     /* position that the server has reached */
    uint64_t given;       /* the highest position that it has given */
    uint64_t synced;      /* the highest that it was asked for on this connection */
    uint64_t forgotten;   /* as its last WELCOME said */
    uint64_t retry_ns, opened_ns, heard_ns;
    uint64_t resume_ns;          /* refused: not before */
    uint32_t first, last, count; /* READY */
    size_t bytes;                /* of them */
    uint32_t frame_bytes_max;
    uint32_t batch_head, batch_count;
    uint32_t pending;                     /* operations */
    uint32_t abandoned;                   /* operations (rule 5) */
    uint32_t kept_first, kept_last, kept; /* APPLIED, positions rise (rule 6) */
    uint32_t marks;
    uint32_t failures; /* connections in a row that came to nothing */
    uint32_t fatal;    /* of these, ended by E_VERSION, E_PROTOCOL, E_REFUSED */
    uint32_t not_yet;  /* refusals in a row that a newer map did not explain */
    uint16_t index;
    uint8_t state;
    uint8_t durability; /* enum gw_wire_durability, as its last WELCOME said */
    bool hurry;         /* a SYNC is wanted */
    bool draining;      /* rule 3 */
    bool resuming;      /* rule 3: the next batch says so */
    bool returned;      /* an operation of it was returned: its READY ones go back to QUEUED */
    bool choked;        /* the transport's backlog is full */
    bool map_asked;
    char address[GWI_ADDRESS_TEXT_BYTES];
    struct gwi_mark mark[GWI_MARKS]; /* positions rise */
    struct gwi_batch batch[GWI_BATCHES_MAX];
};

/* What differs between production and a simulation. */
struct gwi_env {
    const struct gw_clock *clock;
    uint64_t seed;
    enum gw_status (*net_create)(void *ctx, const struct gw_net_options *options,
                                 const struct gw_net_events *events, void *events_ctx,
                                 struct gw_net **out);
    void *ctx;
};

struct gw_session {
    /* What every operation touches comes first. */
    struct gwi_op *op;
    struct gwi_slot *slot;
    struct gwi_lane **lane; /* by server index */
    uint64_t oldest;        /* the lowest serial that is not FREE */
    uint64_t next;          /* the serial to be given next */
    uint32_t mask;
    uint32_t window;    /* serials between oldest and next at most: ours and the servers' bound */
    uint32_t in_flight; /* callbacks owed */
    uint32_t queued;    /* operations QUEUED */
    uint32_t failed;    /* operations FAILED */
    uint32_t kept;      /* operations APPLIED */
    uint32_t held;      /* of them, not told */
    uint32_t lane_count;
    uint64_t bytes; /* encoded operations in the window */
    uint64_t now_ns, deadline_after_ns, deadline_low_ns;
    uint32_t issues; /* since the clock was read */
    bool clock_stale, running, dispatch_due, map_wanted;
    bool owned;     /* `owner` is the thread that the transport belongs to (net.h) */
    bool hurry;     /* some lane's */
    bool syncing;   /* inside of gw_session_sync */
    bool waits;     /* somebody waits for callbacks: what they wait for is wanted durable */
    bool refused;   /* a call, for want of room that kept ones take */
    bool room_made; /* operations have become durable since the poll began */
    uint8_t mode;   /* of what is issued */
    uint16_t pass;
    uint64_t callbacks;

    struct gw_session_options options;
    struct gw_session_stats stats;
    uint64_t id, map_version, cluster_id;
    uint64_t *slot_wait_ns; /* by slot: returned, not before */
    uint32_t *slot_kept;    /* by slot: operations APPLIED, all at slot.lane */
    uint64_t sync_to;       /* everything up to this serial is wanted durable soon; 0: nothing */
    uint64_t lost_from;     /* lowest serial lost since that was reported; UINT64_MAX: none */
    uint64_t volatile_from; /* the same: answered by a server that makes nothing durable */
    uint64_t durable_told;  /* what on_durable was called with */
    gw_durable_callback on_durable;
    void *on_durable_ctx;
    uint64_t wait_low_ns; /* the lowest of them that somebody waits for */
    uint64_t deadline_check_ns;
    struct gw_cluster *cluster;
    pthread_t owner;
    struct gw_net *net;
    const struct gw_clock *clock;
    struct gw_rand rand;
    struct gw_conn *fetch; /* to the coordinator; NULL: none */
    uint64_t fetch_until_ns;
    int epoll_fd, timer_fd; /* gw_session_eventfd; -1: never asked for */
    uint64_t timer_set_ns;
    void *memory; /* op, slot, slot_wait_ns, slot_kept */
    size_t memory_bytes;
    uint8_t *sync_value; /* of the last synchronous call */
    size_t sync_room;
};

static inline struct gwi_op *gwi_op_at(struct gw_session *s, uint64_t serial)
{
    return &s->op[serial & s->mask];
}
static inline uint8_t *gwi_op_bytes(struct gwi_op *op)
{
    return op->heap ? op->heap : op->bytes_inline;
}
static inline bool gwi_op_writes(struct gwi_op *op)
{
    return gwi_op_bytes(op)[0] != GW_WIRE_READ;
}

static inline bool gwi_lane_outstanding(const struct gwi_lane *lane)
{
    return lane->kept > 0 || lane->marks > 0;
}
/* Rules 1 and 6: must operations of the slot stay at slot->lane? */
static inline bool gwi_slot_bound(const struct gw_session *s, uint32_t slot)
{
    return s->slot[slot].under_way != 0 || s->slot_kept[slot] != 0;
}

/* Before the try behind `tries` fruitless ones: 1, 2, 4, 8, 16, 20, 20, ... ms. */
static inline uint64_t gwi_wait_ns(uint32_t tries)
{
    return (tries < 5 ? UINT64_C(1) << tries : GWI_WAIT_MS_MAX) * GWI_MS;
}

/* session.c */
GW_MUST_USE enum gw_status gwi_session_create(struct gw_cluster *cluster,
                                              const struct gw_session_options *options,
                                              const struct gwi_env *env, struct gw_session **out);

/* session_window.c */
/* The answer to an operation that is SENT or PENDING at this lane; runs its callback, now or when
 * it is durable. */
void gwi_op_answer(struct gwi_lane *lane, struct gwi_op *op, const struct gw_wire_reply *reply);
/* What a callback gets for this reply. */
void gwi_op_call_back(gw_callback callback, void *ctx, const struct gw_wire_reply *reply);
/* Bookkeeping of a callback that is about to run. */
void gwi_op_tell(struct gw_session *s, uint64_t issued_ns, enum gw_status st);
/* Its place in the window becomes free. */
void gwi_op_release(struct gw_session *s, struct gwi_op *op);
/* Ends an operation that is QUEUED or READY without asking a server; its callback comes later. One
 * that was told is lost. An op that is READY must have been taken from its lane's list. */
void gwi_op_fail(struct gw_session *s, struct gwi_op *op, enum gw_status st);
/* Forgets an operation that is QUEUED-to-be and abandoned: nobody waits for it any more. */
void gwi_op_free(struct gw_session *s, struct gwi_op *op);
void gwi_window_deliver(struct gw_session *s); /* callbacks of what has FAILED */
void gwi_window_deadlines(struct gw_session *s);

/* session_route.c */
/* A new operation takes its way. */
void gwi_route_queue(struct gw_session *s, struct gwi_op *op);
void gwi_route_ready(struct gw_session *s, struct gwi_lane *lane, struct gwi_op *op);
/* READY, SENT or PENDING becomes QUEUED; the caller has taken it from list or batch. */
void gwi_route_requeue(struct gw_session *s, struct gwi_op *op);
/* A single operation came back unexecuted (GW_MOVED, GW_RETRY, GW_WRONG_VIEW). */
void gwi_route_returned(struct gw_session *s, struct gwi_op *op, bool moved);
void gwi_route_pull_back(struct gw_session *s, struct gwi_lane *lane); /* all READY of the lane */
void gwi_route_dispatch(struct gw_session *s); /* QUEUED to READY, in the order of serials */
/* Adopts the cluster's map if it is newer than the session's. */
void gwi_route_adopt(struct gw_session *s);

/* session_lane.c */
extern const struct gw_net_events gwi_session_events;
void gwi_lane_init(struct gwi_lane *lane, struct gw_session *s, uint16_t index);
void gwi_lane_tick(struct gwi_lane *lane); /* opens, gives up, resumes */
void gwi_lane_lost(struct gwi_lane *lane, enum gw_status st);
void gwi_lane_ask_map(struct gwi_lane *lane);
/* Is there anything that this lane's connection is needed for? */
bool gwi_lane_wanted(const struct gwi_lane *lane);
void gwi_fetch_tick(struct gw_session *s);

/* session_batch.c */
/* Sends what may be sent. `force`: also batches that are not full while others are in flight. */
void gwi_lane_send(struct gwi_lane *lane, bool force);
enum gw_status gwi_batch_reply(struct gwi_lane *lane, const struct gw_frame *head,
                               const uint8_t *frame);
enum gw_status gwi_batch_completion(struct gwi_lane *lane, const struct gw_frame *head,
                                    const uint8_t *frame);
enum gw_status gwi_batch_refusal(struct gwi_lane *lane, const struct gw_frame *head,
                                 const uint8_t *frame);

/* session_keep.c */
/* An answer whose position is not durable, or to an operation told before. False: the caller goes
 * on as with any other. */
bool gwi_keep_answer(struct gwi_lane *lane, struct gwi_op *op, const struct gw_wire_reply *reply);
/* The lane's server says that so much is durable; runs callbacks. */
void gwi_keep_durable(struct gwi_lane *lane, uint64_t position);
/* A server that had welcomed us before does so again: settles what was kept there and what is
 * unsure (rule 7). Before the lane is up. */
void gwi_keep_welcome(struct gwi_lane *lane, const struct gw_welcome *w);
/* The lane's server cannot be reached: what it keeps of slots that are others' now goes there. */
void gwi_keep_give_over(struct gwi_lane *lane);
void gwi_keep_lost(struct gw_session *s, uint64_t serial, uint64_t writes);
void gwi_keep_hurry(struct gw_session *s, struct gwi_lane *lane); /* lane NULL: all that keep */
void gwi_keep_tick(struct gw_session *s);                         /* sends what SYNCs are due */
void gwi_keep_tell(struct gw_session *s);                         /* on_durable */
void gwi_keep_expire(struct gw_session *s, struct gwi_op *op);    /* APPLIED, not told: deadline */
void *gwi_keep_drop(struct gw_session *s, struct gwi_op *op);     /* frees `held`; its ctx */
/* Is everything up to this serial durable, lost, or at a server that makes nothing durable? */
bool gwi_keep_secured(const struct gw_session *s, uint64_t serial);

/* session_poll.c */
/* One turn without the transport: maps, timers, deadlines, callbacks owed, dispatch, sending. */
void gwi_session_turn(struct gw_session *s, bool force);
/* When a turn is due even if nothing comes. UINT64_MAX: never. */
uint64_t gwi_session_next_ns(struct gw_session *s);

/* Before the transport is used: from the first time on it is this thread's. */
static inline void gwi_session_own(struct gw_session *s)
{
    if (!s->owned) {
        s->owner = pthread_self();
        s->owned = true;
    }
}

static inline void gwi_session_clock(struct gw_session *s)
{
    s->now_ns = gw_clock_now_ns(s->clock);
    s->issues = 0;
    s->clock_stale = false;
}
#endif
