/* net_uring.h - what the files of the io_uring transport share.
 *
 *   net_uring.c           ring, poll loop, sleeping and waking, listeners, ticks
 *   net_uring_conn.c      a connection's life: accept, connect, end
 *   net_uring_recv.c      provided buffers, cutting the stream into frames, pausing
 *   net_uring_send.c      reserve, commit, one send in flight a connection
 *   net_uring_crowd.c     too many bytes on their way: one partial frame after the other
 *   net_uring_handover.c  detach and attach
 *   net_uring_watch.c     a descriptor of somebody else's that ends a wait
 *
 * Rules (cited by number in these files):
 *  1. Every operation that the kernel holds is noted (recv_armed, send_inflight, connect_inflight,
 * and all of them in uring_net.inflight) until its last completion. A connection is given free only
 *     when it has none, so the kernel never writes into freed memory.
 *  2. user_data is {generation 32, slot 24, operation 8}, never a pointer: a completion that names
 * an earlier tenant of the slot is recognised and dropped.
 *  3. A connection changes hands and ends only in gw_net_poll (the `ending` list), never in the
 * call that asked for it: the caller may be in the midst of its frame.
 *  4. After each callback the state is looked at again: it may have closed or detached anything.
 * Layer: client/net. */
#ifndef GW_CLIENT_NET_NET_URING_H
#define GW_CLIENT_NET_NET_URING_H

#include <assert.h>
#include <liburing.h>
#include <stdatomic.h>

#include "client/net/net_address.h"
#include "client/net/net_chunks.h"
#include "client/net/net_internal.h"
#include "index/base/assert.h"

#define GWI_URING_ENTRIES     1024u
#define GWI_URING_COMPLETIONS 8192u
#define GWI_BUFFERS_MAX       1024u
#define GWI_BUFFERS_MAP_BYTES ((size_t)2 << 20) /* from here on in pages of their own */
#define GWI_HINT_MAX          ((size_t)1 << 20)
#define GWI_HINT_BOUNDED      ((size_t)16 << 10)
#define GWI_CROWD_STALLED_NS  UINT64_C(5000000000)
#define GWI_CROWD_STALLED_MS  1000u /* who takes nothing while nobody else can be served */
#define GWI_LISTENERS_MAX     8u
#define GWI_LISTEN_BACKLOG    4096
#define GWI_TICK_NS           UINT64_C(100000000)
#define GWI_LINGER_NS         UINT64_C(1000000000)
#define GWI_DESTROY_WAITS_MAX 200u /* of 10 ms */
/* More than this in a paused connection of a net without bound: stop receiving. */
#define GWI_PAUSED_BYTES_MAX ((size_t)256 << 10)

/* Intrusive list; a link that is in none points to itself. */
struct gwi_link {
    struct gwi_link *prev, *next;
};

static inline void gwi_link_init(struct gwi_link *l)
{
    l->prev = l->next = l;
}
static inline bool gwi_link_alone(const struct gwi_link *l) /* for a head: the list is empty */
{
    return l->next == l;
}
static inline void gwi_link_remove(struct gwi_link *l)
{
    l->prev->next = l->next;
    l->next->prev = l->prev;
    gwi_link_init(l);
}
static inline void gwi_link_append(struct gwi_link *head, struct gwi_link *l) /* once is enough */
{
    if (!gwi_link_alone(l))
        return;
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}
/* Takes all of `from` over into the empty `to`, so that what is appended meanwhile waits a turn. */
static inline void gwi_link_move_all(struct gwi_link *from, struct gwi_link *to)
{
    gwi_link_init(to);
    if (gwi_link_alone(from))
        return;
    *to = *from;
    to->next->prev = to;
    to->prev->next = to;
    gwi_link_init(from);
}
#define gwi_link_conn(l, member)                                                                   \
    ((struct uring_conn *)(void *)((char *)(l)-offsetof(struct uring_conn, member)))

enum uring_op {
    OP_NONE, /* cancellations: the cancelled operation's own completion counts */
    OP_ACCEPT,
    OP_WAKE,
    OP_TICK,
    OP_WATCH,
    OP_CONNECT,
    OP_RECV,
    OP_SEND,
};

/*   CONNECTING --> OPEN --> DRAINING --.
 *        |          |`--> DETACHING    |
 *        `----------+------------------+--> CLOSING
 * DETACHING ends in a handover (CLOSING when memory runs out), CLOSING in the last callback. */
enum uring_conn_state { CONN_CONNECTING, CONN_OPEN, CONN_DRAINING, CONN_DETACHING, CONN_CLOSING };

struct uring_conn {
    struct gw_conn base;
    int fd; /* -1: none yet */
    uint32_t slot, generation;
    enum uring_conn_state state;
    enum gw_status end;    /* what the last callback says */
    bool recv_armed;       /* rule 1 */
    bool send_inflight;    /* rule 1 */
    bool connect_inflight; /* rule 1 */
    bool recv_cancelling;  /* only so that it is asked for once */
    bool paused;
    bool eof;       /* the peer has sent its last byte */
    bool broken;    /* cannot send any more; what has come is still delivered */
    bool lingering; /* DRAINING: our last byte has left, waiting for the peer's end */
    bool refused;   /* gw_conn_reserve has said NULL: `drained` is owed */
    bool reserved;
    bool progressed;       /* a byte was taken since the last tick */
    bool drain_when_open;  /* gw_conn_close_after_flush before it stood */
    bool connect_reported; /* false: the last callback is `connected`, not `closed` */
    bool detach_again;     /* the frame in hand goes with it */

    struct gwi_chunk sending; /* in the kernel's hands while send_inflight */
    size_t sending_at, sending_end;
    struct gwi_chunk filling;
    size_t filling_end;
    size_t filling_hint; /* a recent size, so that a busy connection's buffer is not grown by
                            copying */

    struct gwi_chunk
        stash; /* received and not consumed: a partial frame, or what came while paused */
    size_t stash_at, stash_end;
    size_t stash_paused; /* of its capacity, counted in the net's in_paused */

    struct gwi_link dirty;   /* has committed bytes and no send in flight */
    struct gwi_link ready;   /* has a stash to be looked at again */
    struct gwi_link starved; /* its receive ended for lack of buffers */
    struct gwi_link ending;  /* nothing in flight: the last callback is due */
    struct gwi_link timed;   /* the tick looks at it */
    struct gwi_link crowded; /* its partial frame waits for room */
    uint64_t since_ns; /* connecting, lingering or without progress since; 0: since the next tick */

    struct gw_handover *handover; /* DETACHING */
    gw_detached_cb detached;
    void *detached_ctx;

    union gwi_address address;   /* the peer's */
    char peer[GWI_ADDRESS_TEXT]; /* empty: not asked for yet */
};

struct uring_listener {
    int fd;
    bool armed;  /* rule 1 */
    bool paused; /* accepting failed for lack of something: again at the next tick */
};

struct uring_net {
    struct gw_net base;
    struct io_uring ring;
    bool enabled;       /* the owner is known */
    uint64_t inflight;  /* rule 1, listeners and the net's own included */
    uint32_t callbacks; /* run so far, wraps */

    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffers;
    bool buffers_mapped;

    struct uring_conn **conns; /* by slot */
    uint32_t *generations;
    uint32_t *free_slots;
    uint32_t free_count;

    struct gwi_link dirty, ready, starved, ending, timed;
    struct gwi_link crowded;   /* partial frames that wait for room: net_uring_crowd.c */
    uint64_t crowd_ns;         /* the first one has been that, without a byte, since */
    size_t crowd_bytes;        /* it held then */
    struct gwi_chunks in, out; /* stashes; sending and filling */
    uint64_t in_paused;        /* of `in`, what paused connections hold */
    uint64_t out_bytes;        /* committed and not taken by the kernel, of all connections */

    struct uring_listener listeners[GWI_LISTENERS_MAX];
    uint32_t listener_count;

    bool tick_armed;
    struct __kernel_timespec tick_time;
    uint64_t spin_ns;       /* present budget, 0 to options.spin_ns_max */
    uint64_t waited_ns;     /* when a wait or a yield has ended, last */
    uint64_t given_ns;      /* of the present wait, to others */
    uint64_t yield_from_ns; /* we do not yield before */
    uint64_t yield_rest_ns; /* how long it was put off, last */

    int wake_fd;
    uint64_t wake_value;
    bool wake_armed;
    int watch_fd; /* gw_net_watch; -1: none */
    bool watch_armed, watch_fired;
    int outside_fd; /* gw_net_eventfd; -1: never asked for */

    /* Written by wakers (1) and the owner (0). See uring_wake. */
    _Alignas(GW_CACHE_LINE) atomic_uint wake_pending;
    /* Written by the owner: 1 while it sleeps, or may sleep elsewhere on outside_fd. Read by
     * wakers. */
    atomic_uint asleep;
};

static inline struct uring_net *gwi_uring_of(const struct gw_conn *conn)
{
    return (struct uring_net *)(void *)conn->net;
}

/* net_uring.c */
struct io_uring_sqe *gwi_uring_sqe(struct uring_net *net);
void gwi_uring_kick(
    struct uring_net *net); /* poll has something to do although no completion says so */
uint64_t gwi_uring_now_ns(void);

/* net_uring_conn.c */
static inline uint64_t gwi_uring_data(const struct uring_conn *c, enum uring_op op)
{
    return (uint64_t)c->generation << 32 | (uint64_t)c->slot << 8 | (uint64_t)op;
}
/* The tenant of a completion, or NULL (rule 2). */
struct uring_conn *gwi_uring_find(struct uring_net *net, uint64_t user_data);
struct uring_conn *gwi_uring_conn_new(struct uring_net *net, int fd,
                                      void *user); /* NULL: no room; open */
void gwi_uring_conn_free(struct uring_net *net,
                         struct uring_conn *c); /* requires: nothing in flight */
void gwi_uring_accepted(struct uring_net *net, int fd);
enum gw_status gwi_uring_connect(struct gw_net *net, const char *address, void *user,
                                 struct gw_conn **out);
void gwi_uring_connect_done(struct uring_net *net, struct uring_conn *c, int result);
void gwi_uring_cancel(struct uring_net *net, struct uring_conn *c, enum uring_op op);
/* No more callbacks but the last one, `closed` with st. A second call changes nothing. */
void gwi_uring_end(struct uring_conn *c, enum gw_status st);
/* Ends once the backlog has left. */
void gwi_uring_drain(struct uring_conn *c, enum gw_status st);
void gwi_uring_drain_check(struct uring_conn *c);
void gwi_uring_settle(struct uring_conn *c); /* on the ending list if it is time (rule 1) */
void gwi_uring_run_ending(struct uring_net *net);
void gwi_uring_watch(struct uring_conn *c); /* the tick shall look at it from now on */
void gwi_uring_tick(struct uring_net *net);
void gwi_uring_close(struct gw_conn *conn);
void gwi_uring_close_after_flush(struct gw_conn *conn);
const char *gwi_uring_peer(const struct gw_conn *conn);

/* net_uring_recv.c */
enum gw_status gwi_uring_buffers_init(struct uring_net *net);
void gwi_uring_buffers_fini(struct uring_net *net);
void gwi_uring_recv_arm(struct uring_conn *c); /* if it should receive and does not */
void gwi_uring_recv_done(struct uring_net *net, struct uring_conn *c, int result, uint32_t flags);
void gwi_uring_run_ready(struct uring_net *net);
void gwi_uring_run_starved(struct uring_net *net);
void gwi_uring_pause(struct gw_conn *conn);
void gwi_uring_resume(struct gw_conn *conn);

/* net_uring_send.c */
uint8_t *gwi_uring_reserve(struct gw_conn *conn, size_t bytes);
void gwi_uring_commit(struct gw_conn *conn, size_t bytes);
size_t gwi_uring_backlog(const struct gw_conn *conn);
void gwi_uring_run_dirty(struct uring_net *net);
void gwi_uring_send_done(struct uring_net *net, struct uring_conn *c, int result);

/* net_uring_crowd.c */
/* After every change of `paused` or of the stash's capacity. */
static inline void gwi_uring_stash_count(struct uring_net *net, struct uring_conn *c)
{
    size_t now = c->paused ? c->stash.capacity : 0;
    net->in_paused += now - c->stash_paused;
    c->stash_paused = now;
}
bool gwi_uring_bounded(const struct uring_net *net);
/* Of a bounded net: must it not receive now? Then that is remembered. */
bool gwi_uring_crowd_waits(struct uring_net *net, struct uring_conn *c);
void gwi_uring_crowd_turn(struct uring_net *net);
void gwi_uring_crowd_tick(struct uring_net *net, uint64_t now_ns);
uint32_t gwi_uring_crowded(const struct gw_net *net);
void gwi_uring_memory(const struct gw_net *net, struct gw_net_stats *out);

/* net_uring_watch.c */
enum gw_status gwi_uring_watch_descriptor(struct gw_net *net, int fd);
void gwi_uring_watch_arm(struct uring_net *net); /* before waiting */
void gwi_uring_watch_done(struct uring_net *net);

/* net_uring_handover.c */
enum gw_status gwi_uring_detach(struct gw_conn *conn, bool again, gw_detached_cb done, void *ctx);
void gwi_uring_detached(struct uring_net *net, struct uring_conn *c); /* from the ending list */
enum gw_status gwi_uring_attach(struct gw_net *net, struct gw_handover *takes, void *user,
                                struct gw_conn **out);
#endif
