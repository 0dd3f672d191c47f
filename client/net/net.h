/* net.h - how bytes travel: one thread's transport, with whole frames as its unit.
 * Three implementations behind one face: uring (TCP on io_uring), loop (in process, for the
 * simulator), fabric (libfabric, a later issue). A frame starts with its length (client/wire/
 * frame.h); the transport checks magic, version and length and gives the frame whole, in place
 * where it can; it does not know what a frame means.
 *
 * Thread rule: a net and its connections belong to the thread that first calls gw_net_poll,
 * gw_net_flush or gw_net_eventfd (io_uring single issuer); until then any one thread may create it,
 * listen and connect. Afterwards only gw_net_wake may be called from elsewhere. Callbacks run
 * inside gw_net_poll, never inside another call. gw_net_destroy: by the owner, or after it has
 * ended. Ownership: a gw_conn is the net's; after its last callback it is gone. Memory is bounded:
 * per connection by `frame_bytes_max` in and `backlog_bytes_max` out, over all by
 * `connections_max` and `transit_bytes_max`; a partial frame's buffer grows as bytes arrive and is
 * given back. A paused connection keeps what the receive buffers held on top. Layer: client/net. */
#ifndef GW_CLIENT_NET_NET_H
#define GW_CLIENT_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/clock.h"
#include "index/base/status.h"

struct gw_net;
struct gw_conn;

struct gw_net_events {
    /* A connection came in at the listener; set its user pointer here. */
    void (*accepted)(void *ctx, struct gw_conn *conn);
    /* Outcome of gw_net_connect: GW_OK, or GW_E_UNREACHABLE / GW_E_TIMEOUT, behind which comes no
     * `closed`. A connection that is closed before it stands has only `closed`. */
    void (*connected)(void *ctx, struct gw_conn *conn, enum gw_status st);
    /* One whole frame, valid during the call only. Returns GW_OK: taken. GW_WOULD_BLOCK: not
     * taken; the connection is paused now and the same frame comes again after gw_conn_resume.
     * GW_END: the callee has closed or detached the connection, it is not touched any more. A
     * failure: closed with it. */
    enum gw_status (*frame)(void *ctx, struct gw_conn *conn, const uint8_t *frame, uint32_t bytes);
    /* What came is no frame: GW_E_PROTOCOL (magic), GW_E_VERSION, GW_E_TOO_LARGE. The callee may
     * send one last frame (an error); the connection is closed after that is flushed. May be NULL.
     */
    void (*garbage)(void *ctx, struct gw_conn *conn, enum gw_status st);
    /* The backlog, once refused with NULL by gw_conn_reserve, has fallen under half its bound. May
     * be NULL. */
    void (*drained)(void *ctx, struct gw_conn *conn);
    /* The connection has ended: the last callback. GW_E_CLOSED: by gw_conn_close*, or by the peer
     * between two frames; GW_E_IO: broken, or ended inside a frame; GW_E_TIMEOUT: the peer has
     * stalled; GW_E_NOMEM; or what `garbage` was told, or the failure that `frame` returned. */
    void (*closed)(void *ctx, struct gw_conn *conn, enum gw_status st);
};

struct gw_net_options {
    uint32_t connections_max;    /* default 12,000: one more is accepted and closed at once */
    uint32_t frame_bytes_max;    /* default 4 MiB + 128 KiB */
    uint32_t backlog_bytes_max;  /* per connection, outgoing; default 8 MiB */
    uint32_t spin_ns_max;        /* adaptive busy wait before sleeping; default 50,000; 0 = none */
    uint32_t connect_timeout_ms; /* default 5,000 */
    uint32_t stalled_ms_max;     /* a peer that takes no byte of a backlog for so long is closed;
                                    default 30,000 */
    uint32_t receive_buffers;    /* shared by all connections, a power of two; default 64 */
    uint32_t receive_buffer_bytes; /* of each; default 64 KiB */
    /* Bytes on their way, of all connections: half of it in, half of it out. Beyond it one partial
     * frame after the other is completed, and gw_net_crowded asks the caller to make no more
     * output; default: no bound. */
    uint64_t transit_bytes_max;
};

struct gw_net_stats {
    uint64_t frames_in, bytes_in, bytes_out, sends, waits, connections;
    /* Time in gw_net_poll in which there was nothing to do and, as far as can be told, nobody else
     * used the processor instead; uring only. */
    uint64_t idle_ns;
    /* Memory of bytes on their way: in, of that in frames that the caller has paused, out, and
     * spare rooms. */
    uint64_t transit_in, transit_paused, transit_out, transit_spare;
    uint64_t fixed_bytes; /* memory of the net itself, and of its connections without those */
};

void gw_net_options_default(struct gw_net_options *options);

/* TCP over io_uring; falls back on older setup flags where the kernel refuses them. Borrows events
 * and ctx until destroy. GW_E_UNSUPPORTED: the kernel refuses io_uring; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_net_uring_create(const struct gw_net_options *options,
                                               const struct gw_net_events *events, void *ctx,
                                               struct gw_net **out);
void gw_net_destroy(struct gw_net *net); /* closes everything, without callbacks */

/* "HOST:PORT" (at most 8 of them a net); port 0 takes a free one; `bound` (may be NULL, at least 64
 * bytes) gets the real one. GW_E_BUSY: the address is in use; GW_E_INVALID: not an address;
 * GW_E_IO. */
GW_MUST_USE enum gw_status gw_net_listen(struct gw_net *net, const char *address, char *bound);
/* Starts a connection; `connected` follows, also for failures found at once. frames may be reserved
 * and committed already: they leave when it stands. Host names are looked up at once, which may
 * block: event loops give numbers. GW_E_INVALID: no address; GW_E_LIMIT: too many connections;
 * GW_E_NOMEM; GW_E_IO. */
GW_MUST_USE enum gw_status gw_net_connect(struct gw_net *net, const char *address, void *user,
                                          struct gw_conn **out);

/* Room for one frame of at most `bytes` at the end of what is to be sent, or NULL (the backlog
 * bound: wait for `drained`). Commit says how many were used (0 gives it back). What is committed
 * is sent at the next gw_net_poll or gw_net_flush, everything of a turn in one send. An empty
 * backlog always takes one frame of up to frame_bytes_max (more in one piece is a fault of the
 * caller). One reservation a connection at a time; it holds back the sending of this connection
 * until it is committed. NULL also on a connection that is ending. */
uint8_t *gw_conn_reserve(struct gw_conn *conn, size_t bytes);
void gw_conn_commit(struct gw_conn *conn, size_t bytes);
size_t gw_conn_backlog(const struct gw_conn *conn); /* committed and not yet taken by the kernel */
/* Starts sending what is committed (submits, does not wait, runs no callback). */
void gw_net_flush(struct gw_net *net);

void gw_conn_close(struct gw_conn *conn); /* `closed` follows from poll with GW_E_CLOSED; unsent
                                             bytes are dropped */
/* No more frames are delivered; closed when the backlog has left and the peer has closed its end
 * too, or a second later (what is unread when a socket closes destroys what the peer has not read
 * yet). */
void gw_conn_close_after_flush(struct gw_conn *conn);
/* Pausing stops delivery of frames (bytes already in memory are kept, the kernel's window does the
 * rest). */
void gw_conn_pause(struct gw_conn *conn);
void gw_conn_resume(struct gw_conn *conn);
void *gw_conn_user(const struct gw_conn *conn);
void gw_conn_set_user(struct gw_conn *conn, void *user);
const char *gw_conn_peer(const struct gw_conn *conn); /* "127.0.0.1:40312", for logs */

/* Moves a connection to another thread's net: detach (allowed inside the `frame` callback, which
 * then returns GW_END) takes it out with all that was received and not consumed (the frame in hand
 * included when `again`) and all that was committed and not sent. The kernel may be receiving at
 * that moment, so it takes a turn: `done` is called once, from this net's poll, with the handover,
 * or with NULL when memory ran out and the connection was closed. From detach on the connection
 * must not be used and has no other callback. GW_E_CLOSED: it is ending already; GW_E_NOMEM;
 * GW_E_UNSUPPORTED. attach (on the other net's thread) puts it in: `accepted` is not called, frames
 * follow. On failure (GW_E_LIMIT, GW_E_NOMEM) the handover stays the caller's. One that is never
 * attached must be ended with gw_handover_drop. uring only. */
struct gw_handover;
typedef void (*gw_detached_cb)(void *ctx, struct gw_handover *handover);
GW_MUST_USE enum gw_status gw_conn_detach(struct gw_conn *conn, bool again, gw_detached_cb done,
                                          void *ctx);
GW_MUST_USE enum gw_status gw_net_attach(struct gw_net *net, struct gw_handover *takes, void *user,
                                         struct gw_conn **out);
void gw_handover_drop(struct gw_handover *handover);

/* Handles what has come, sends what is committed; sleeps at most timeout_ns (0: does not,
 * UINT64_MAX: for ever) if there was nothing to do. Returns the number of callbacks run; returns
 * early after gw_net_wake. `before_sleep`/`after_sleep` of gw_net_set_sleep_hooks bracket the time
 * in the kernel (an epoch is left there). */
uint32_t gw_net_poll(struct gw_net *net, uint64_t timeout_ns);
void gw_net_set_sleep_hooks(struct gw_net *net, void (*before_sleep)(void *ctx),
                            void (*after_sleep)(void *ctx));
void gw_net_wake(struct gw_net *net); /* any thread: the next or present poll returns at once */
/* A descriptor that becomes readable when gw_net_poll has something to do; -1 where there is none.
 * Not to be read: gw_net_poll resets it. For a thread that sleeps in an event loop of its own and
 * then calls gw_net_poll with timeout 0. */
int gw_net_eventfd(struct gw_net *net);
/* From now on gw_net_poll also returns when `fd`, an eventfd of somebody else's (a storage device's
 * completions), becomes readable; it reads it dry then and makes it non-blocking now, so the caller
 * looks at what it stands for after every gw_net_poll. One a net; open until the net is destroyed.
 * Owner's thread. GW_E_LIMIT: there is one already; GW_E_INVALID: no descriptor;
 * GW_E_UNSUPPORTED: loop. */
GW_MUST_USE enum gw_status gw_net_watch(struct gw_net *net, int fd);
void gw_net_stats(const struct gw_net *net, struct gw_net_stats *out); /* owner's thread */
/* 0, or: 1: more than a half of transit_bytes_max is on its way out; who makes output makes none
 * for connections that have some. 2: all of it is; none for anybody. It ends by itself: what is out
 * leaves, or its connection is closed after stalled_ms_max. */
uint32_t gw_net_crowded(const struct gw_net *net);
#endif
