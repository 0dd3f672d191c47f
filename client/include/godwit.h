/* godwit.h - the client library of Godwit: asynchronous, pipelined, exactly once.
 *
 *   gw_cluster     one per process and cluster: knows the coordinator and the newest map.
 * Thread-safe. gw_session     one per thread: a window of operations in flight, batched per server,
 * routed by slot. It belongs to one thread at a time; calls on it are not thread-safe.
 *
 * An operation call copies key and value, gives the operation a serial number and returns at once;
 * GW_OK means exactly one callback later, on the calling thread, from inside gw_poll, gw_flush,
 * gw_drain or a _sync call, never from inside the call that issued it. GW_WOULD_BLOCK means a bound
 * of the session is reached: nothing was done, poll and try again. Any other status: nothing was
 * done and no callback comes.
 *
 * Order: operations of one session on one key take effect in the order in which they were issued. A
 * read whose answer was lost with its connection is done again, unless later writes of the session
 * to its slot may have taken effect meanwhile: then it is GW_IN_DOUBT.
 * Batching: with nothing in flight to a server an operation is sent at the next gw_flush or
 * gw_poll, at once when the batch is full; meanwhile they fill a batch up to batch_operations.
 * Exactly once: after a lost connection or a migration the library sends again what was not
 * answered; servers recognise by session and serial what they have applied already. GW_IN_DOUBT is
 * the answer when it cannot be known whether an operation took effect (its server lost its memory,
 * or the deadline passed while it was under way); it is never reported as failed. Durable: see
 * "acknowledgement and durability" below. The coordinator
 * is asked at the start and when a refusal names a server that the map does not know; it may be
 * down meanwhile.
 */
#ifndef GODWIT_H
#define GODWIT_H

#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define GW_VERSION_TEXT "0.1.0"

struct gw_cluster;
struct gw_session;

struct gw_cluster_options {
    uint32_t connect_timeout_ms; /* default 5,000 */
};
void gw_cluster_options_default(struct gw_cluster_options *options);
/* "HOST:PORT" of the coordinator. Fetches the map. GW_E_INVALID, GW_E_UNREACHABLE, GW_E_TIMEOUT,
 * GW_E_NOMEM. options may be NULL. */
GW_MUST_USE enum gw_status gw_cluster_open(const char *coordinator,
                                           const struct gw_cluster_options *options,
                                           struct gw_cluster **out);
void gw_cluster_close(
    struct gw_cluster *cluster); /* requires: its sessions are closed; NULL is ignored */
uint64_t gw_cluster_map_version(struct gw_cluster *cluster);

/* ---- acknowledgement and durability ------------------------------------------------------------
 * An operation completes twice: it is applied (every other client sees it), and it is durable (a
 * killed server comes back with it). A server runs in one of three modes (--durability):
 *
 *   none     without --disk. Nothing survives the process.
 *   memory   answers when applied; what is applied becomes durable with the next checkpoint,
 *            together with everything before it.
 *   commit   answers when durable, after a group commit of about a millisecond.
 *
 * Which of the two completions runs the callback is chosen for a session (options.acknowledge) and
 * may be changed for the calls that follow (gw_session_set_acknowledge); operations of all modes
 * may be in flight together.
 */
enum gw_acknowledge {
    /* The callback runs when the server's own mode answers. Nothing is kept afterwards: it costs
     * nothing. On a memory server, what was answered since its last checkpoint is lost when it is
     * killed; gw_session_sync tells. */
    GW_ACKNOWLEDGE_SERVER = 0,
    /* The callback runs when the operation is applied, on a commit server too, which then answers
     * without waiting for its disk. A write that had an effect keeps its place in the window, its
     * key and value within bytes_max, until it is durable: beyond, calls say GW_WOULD_BLOCK. When
     * its server is killed before that, it is sent again, in the order of issue for each slot,
     * exactly once, without a second callback, also where the slot has moved to another server
     * meanwhile. What other sessions lost in the crash may make its new result (a counter's number,
     * a version) another one than the one that was told. Reads, and writes that had no effect
     * (GW_NOT_FOUND, GW_MISMATCH, ...), are not kept: nothing is missing without them.
     * Throughput that of memory mode; memory: the window. Calls that are refused because of what is
     * kept, and half a window of it, ask the servers to make it durable at once. */
    GW_ACKNOWLEDGE_APPLIED = 1,
    /* The callback runs when what it says is durable: of a write that it will stay, of a read that
     * what it saw will. Until then the operation is kept with its answer, within bytes_max, and
     * after a crash it is executed again if it is not in what was recovered. On a commit server
     * nothing is kept and it costs what that server's mode costs; on a memory server the callback
     * waits for a checkpoint (gw_session_sync, gw_drain and the _sync calls ask for one at once).
     * Failures are told at once. At a server of mode none it is GW_E_UNSUPPORTED, never sent. When
     * the deadline passes in between: GW_IN_DOUBT. */
    GW_ACKNOWLEDGE_DURABLE = 2
};

struct gw_session_options {
    uint32_t operations_max; /* in flight at most (rounded up to a power of two): default 16,384; up
                                to 65,536 */
    uint64_t bytes_max;      /* of keys and values in flight: default 64 MiB */
    uint32_t batch_operations;       /* ops per frame at most: default 512 */
    uint32_t batch_bytes;            /* default 64 KiB; a larger single operation goes alone */
    uint32_t batches_in_flight;      /* per server; default 4 */
    uint32_t deadline_ms;            /* default for every operation; 0: none; default 30,000 */
    uint32_t spin_us;                /* busy wait before sleeping in gw_poll; default 50 */
    enum gw_acknowledge acknowledge; /* default GW_ACKNOWLEDGE_SERVER */
};
void gw_session_options_default(struct gw_session_options *options);
GW_MUST_USE enum gw_status gw_session_open(struct gw_cluster *cluster,
                                           const struct gw_session_options *options,
                                           struct gw_session **out);
/* Tells the servers that the session is over. What is in flight gets its callback with
 * GW_E_CANCELLED if it was never sent, else GW_IN_DOUBT. What is kept is not waited for:
 * gw_session_sync before, where it matters. */
void gw_session_close(struct gw_session *session);

enum gw_value_kind {
    GW_VALUE_BYTES = 0,
    GW_VALUE_COUNTER = 1,
    GW_VALUE_NONE = 2, /* gw_get_set: there was no value before */
    /* gw_get_set, gw_get_delete, gw_get_touch: it took effect, once, but its answer was lost with a
     * connection and the old value is not known any more. Servers keep old values for that case,
     * up to 64 bytes each and one for every eight operations of the window. */
    GW_VALUE_FORGOTTEN = 3
};

struct gw_result {
    enum gw_status status;
    uint32_t version; /* of the record now in force, where the verb gives one */
    enum gw_value_kind kind;
    int64_t number;    /* counters: the value */
    const void *value; /* bytes; valid during the callback only (sync: until the next call on the
                          session) */
    size_t value_bytes;
    uint64_t expiry_ms; /* gw_get: when the key ends, Unix time in ms; 0: never */
};
typedef void (*gw_callback)(void *ctx, const struct gw_result *result);

/* The verbs. callback may be NULL (fire and forget; gw_drain still waits for it). Keys 1..65,535
 * bytes: else GW_E_INVALID; what does not fit a page of the server: GW_E_TOO_LARGE. get GW_OK,
 * GW_NOT_FOUND set       GW_OK                           (value bytes) set_counter GW_OK (value =
 * number) delete    GW_OK: was there; GW_NOT_FOUND add       GW_OK, number = new value; a key that
 * is absent starts at `initial`; GW_WRONG_TYPE (not a counter), GW_OVERFLOW cas       GW_OK:
 * version matched and the value was replaced; GW_MISMATCH (version = the one in force),
 * GW_NOT_FOUND insert    GW_OK; GW_EXISTS All: GW_IN_DOUBT, GW_E_FULL, GW_E_TIMEOUT (deadline,
 * never sent), GW_E_UNREACHABLE (never sent). */
GW_MUST_USE enum gw_status gw_get(struct gw_session *s, const void *key, size_t key_bytes,
                                  gw_callback cb, void *ctx);
GW_MUST_USE enum gw_status gw_set(struct gw_session *s, const void *key, size_t key_bytes,
                                  const void *value, size_t value_bytes, gw_callback cb, void *ctx);
GW_MUST_USE enum gw_status gw_set_counter(struct gw_session *s, const void *key, size_t key_bytes,
                                          int64_t number, gw_callback cb, void *ctx);
GW_MUST_USE enum gw_status gw_delete(struct gw_session *s, const void *key, size_t key_bytes,
                                     gw_callback cb, void *ctx);
GW_MUST_USE enum gw_status gw_add(struct gw_session *s, const void *key, size_t key_bytes,
                                  int64_t delta, int64_t initial, gw_callback cb, void *ctx);
GW_MUST_USE enum gw_status gw_cas(struct gw_session *s, const void *key, size_t key_bytes,
                                  uint32_t expected_version, const void *value, size_t value_bytes,
                                  gw_callback cb, void *ctx);
GW_MUST_USE enum gw_status gw_insert(struct gw_session *s, const void *key, size_t key_bytes,
                                     const void *value, size_t value_bytes, gw_callback cb,
                                     void *ctx);
/* ---- expiry ------------------------------------------------------------------------------------
 * A key may have a time at which it ends: Unix time in ms, by the clock of its server. From then on
 * it is deleted for every verb. A time that is past when it arrives deletes the key at once, with
 * GW_OK. What the functions above write has no expiry, gw_add apart: it keeps the one that is
 * there.
 */
#define GW_EXPIRY_NONE UINT64_C(0)
#define GW_EXPIRY_KEEP UINT64_MAX /* the one that the key has; not for gw_touch and gw_append */

GW_MUST_USE enum gw_status gw_set_until(struct gw_session *s, const void *key, size_t key_bytes,
                                        const void *value, size_t value_bytes, uint64_t expiry_ms,
                                        gw_callback cb, void *ctx);
/* Sets the expiry of a key that is there, GW_EXPIRY_NONE takes it away; GW_NOT_FOUND. The value
 * stays, the version rises. */
GW_MUST_USE enum gw_status gw_touch(struct gw_session *s, const void *key, size_t key_bytes,
                                    uint64_t expiry_ms, gw_callback cb, void *ctx);
/* gw_touch without expiry. */
GW_MUST_USE enum gw_status gw_persist(struct gw_session *s, const void *key, size_t key_bytes,
                                      gw_callback cb, void *ctx);
/* gw_touch that also gives the value. */
GW_MUST_USE enum gw_status gw_get_touch(struct gw_session *s, const void *key, size_t key_bytes,
                                        uint64_t expiry_ms, gw_callback cb, void *ctx);

/* ---- changes that look at the old value --------------------------------------------------------
 */

#define GW_MUST_EXIST 1u
/* Bytes put behind or before those that are there; result->value_bytes: how many there are now
 * (value is NULL). A key that is absent is created, with GW_MUST_EXIST it is GW_NOT_FOUND. Keeps
 * the expiry. GW_WRONG_TYPE: a counter is there; GW_E_TOO_LARGE: it would not fit a page of the
 * server (4 MiB where its memory allows, key and value together), nothing changed. */
GW_MUST_USE enum gw_status gw_append(struct gw_session *s, const void *key, size_t key_bytes,
                                     const void *value, size_t value_bytes, uint32_t flags,
                                     gw_callback cb, void *ctx);
GW_MUST_USE enum gw_status gw_prepend(struct gw_session *s, const void *key, size_t key_bytes,
                                      const void *value, size_t value_bytes, uint32_t flags,
                                      gw_callback cb, void *ctx);
/* Sets the value and gives the old one; result->kind is GW_VALUE_NONE if there was none. */
GW_MUST_USE enum gw_status gw_get_set(struct gw_session *s, const void *key, size_t key_bytes,
                                      const void *value, size_t value_bytes, gw_callback cb,
                                      void *ctx);
/* Deletes the key and gives the value; GW_NOT_FOUND. */
GW_MUST_USE enum gw_status gw_get_delete(struct gw_session *s, const void *key, size_t key_bytes,
                                         gw_callback cb, void *ctx);

/* An add with all that it can do. Zeroed: gw_add with initial 0. */
struct gw_add_options {
    int64_t initial;    /* what the delta is added to when the key is absent */
    uint64_t expiry_ms; /* GW_EXPIRY_NONE: the key keeps what it has, if any */
    /* With `bounded` the sum must lie in [low, high]: else GW_OVERFLOW and nothing changes, or with
     * `clamp` the bound is stored, also where the value lay beyond it before. */
    bool bounded, clamp;
    int64_t low, high; /* low above high: GW_E_INVALID */
};
GW_MUST_USE enum gw_status gw_add_with(struct gw_session *s, const void *key, size_t key_bytes,
                                       int64_t delta, const struct gw_add_options *options,
                                       gw_callback cb, void *ctx);

/* A write with all that it can do; what has a function of its own above is shorter there. */
enum gw_write_verb {
    GW_WRITE_SET = 0,     /* GW_OK */
    GW_WRITE_INSERT = 1,  /* GW_OK; GW_EXISTS */
    GW_WRITE_CAS = 2,     /* GW_OK; GW_MISMATCH; GW_NOT_FOUND */
    GW_WRITE_GET_SET = 3, /* GW_OK, and the old value */
};
struct gw_write {
    enum gw_write_verb verb;
    enum gw_value_kind kind; /* GW_VALUE_BYTES: value, GW_VALUE_COUNTER: number */
    const void *value;
    size_t value_bytes;
    int64_t number;
    uint32_t expected_version; /* CAS */
    uint64_t expiry_ms;        /* or GW_EXPIRY_NONE, GW_EXPIRY_KEEP */
};
GW_MUST_USE enum gw_status gw_write(struct gw_session *s, const void *key, size_t key_bytes,
                                    const struct gw_write *what, gw_callback cb, void *ctx);

/* As above with a deadline of its own for the calls that follow (ms from now at each call; 0:
 * none). */
void gw_session_set_deadline(struct gw_session *s, uint32_t deadline_ms);

/* Sends what waits in batches; runs no callback. */
void gw_flush(struct gw_session *s);
/* Sends, receives, runs callbacks; waits up to timeout_ms (0: not at all, -1: as long as something
 * is in flight, or a call was refused for want of room that kept operations take) if nothing is
 * there. Ends early, with 0, when such room was made. Returns the number of callbacks run. */
int gw_poll(struct gw_session *s, int timeout_ms);
/* Until nothing is in flight, or GW_E_TIMEOUT. */
GW_MUST_USE enum gw_status gw_drain(struct gw_session *s, int timeout_ms);
size_t
gw_in_flight(const struct gw_session *s); /* callbacks owed; not what is kept after its own */
/* Becomes readable when gw_poll has something to do: for poll(2), epoll, libuv... Owned by the
 * session. */
int gw_session_eventfd(struct gw_session *s);

/* The mode of the calls that follow. GW_E_INVALID: none of the three. */
enum gw_status gw_session_set_acknowledge(struct gw_session *s, enum gw_acknowledge mode);

/* Operations are numbered from 1 in the order of issue. Every operation up to gw_session_durable,
 * the session's commit point, is finished, and what its callback said is durable; it only rises, up
 * to gw_session_issued. It works in all three modes. It stops below an operation that was lost
 * (stats.lost), or was answered by a server that makes nothing durable, until gw_session_sync has
 * reported that; it lags behind a little where answers without effect are spread over many
 * checkpoints or commits. */
uint64_t gw_session_issued(const struct gw_session *s);
uint64_t gw_session_durable(const struct gw_session *s);
/* Called from inside gw_poll (and counted there) when the commit point has risen: with many answers
 * once. NULL: no more. While it is set, lost connections are opened again for its sake too. */
typedef void (*gw_durable_callback)(void *ctx, uint64_t durable);
void gw_session_on_durable(struct gw_session *s, gw_durable_callback callback, void *ctx);
/* Until everything issued so far is finished and durable: flushes, asks the servers concerned to
 * hurry, waits up to timeout_ms (-1: without end); callbacks run meanwhile.
 * GW_OK           it is
 * GW_E_TIMEOUT    not yet. The servers stay asked: with timeout 0 this is the call for event loops,
 *                 to be repeated, or see gw_session_on_durable
 * GW_IN_DOUBT     everything is settled, but a server was killed or replaced and has come back
 *                 without operations of this session that had been acknowledged, or cannot tell:
 *                 in GW_ACKNOWLEDGE_SERVER mode what a memory server had answered since its last
 *                 checkpoint; in the others only where the server had forgotten the session, or
 *                 a kept operation failed when it was sent again. stats.lost counts them. Said once
 * GW_E_UNSUPPORTED  everything is answered, some of it by a server that makes nothing durable. Said
 *                 once for what was issued so far
 * GW_E_INVALID    called from inside a callback */
GW_MUST_USE enum gw_status gw_session_sync(struct gw_session *s, int timeout_ms);

struct gw_session_stats {
    uint64_t operations, batches, refusals, resent, pending, in_doubt, reconnects, map_fetches;
    uint64_t durable;         /* the commit point, as gw_session_durable */
    uint64_t kept;            /* now: answered, not durable, held for sending again */
    uint64_t replayed;        /* of these, sent again because their server came back without them */
    uint64_t lost;            /* writes acknowledged that are not, or perhaps not, there any more */
    uint64_t wait_longest_ns; /* longest time from issue to answer of any operation;
                                 gw_session_stats_reset_wait clears it */
};
void gw_session_stats(const struct gw_session *s, struct gw_session_stats *out);
void gw_session_stats_reset_wait(struct gw_session *s);

/* Synchronous wrappers: one operation, wait for its answer (other callbacks of the session may run
 * meanwhile). The returned status is the result's; result->value is valid until the next call on
 * the session. result may be NULL. */
enum gw_status gw_get_sync(struct gw_session *s, const void *key, size_t key_bytes,
                           struct gw_result *result);
enum gw_status gw_set_sync(struct gw_session *s, const void *key, size_t key_bytes,
                           const void *value, size_t value_bytes, struct gw_result *result);
enum gw_status gw_set_counter_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                   int64_t number, struct gw_result *result);
enum gw_status gw_delete_sync(struct gw_session *s, const void *key, size_t key_bytes,
                              struct gw_result *result);
enum gw_status gw_add_sync(struct gw_session *s, const void *key, size_t key_bytes, int64_t delta,
                           int64_t initial, struct gw_result *result);
enum gw_status gw_cas_sync(struct gw_session *s, const void *key, size_t key_bytes,
                           uint32_t expected_version, const void *value, size_t value_bytes,
                           struct gw_result *result);
enum gw_status gw_insert_sync(struct gw_session *s, const void *key, size_t key_bytes,
                              const void *value, size_t value_bytes, struct gw_result *result);
enum gw_status gw_set_until_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                 const void *value, size_t value_bytes, uint64_t expiry_ms,
                                 struct gw_result *result);
enum gw_status gw_touch_sync(struct gw_session *s, const void *key, size_t key_bytes,
                             uint64_t expiry_ms, struct gw_result *result);
enum gw_status gw_persist_sync(struct gw_session *s, const void *key, size_t key_bytes,
                               struct gw_result *result);
enum gw_status gw_get_touch_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                 uint64_t expiry_ms, struct gw_result *result);
enum gw_status gw_append_sync(struct gw_session *s, const void *key, size_t key_bytes,
                              const void *value, size_t value_bytes, uint32_t flags,
                              struct gw_result *result);
enum gw_status gw_prepend_sync(struct gw_session *s, const void *key, size_t key_bytes,
                               const void *value, size_t value_bytes, uint32_t flags,
                               struct gw_result *result);
enum gw_status gw_get_set_sync(struct gw_session *s, const void *key, size_t key_bytes,
                               const void *value, size_t value_bytes, struct gw_result *result);
enum gw_status gw_get_delete_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                  struct gw_result *result);
enum gw_status gw_add_with_sync(struct gw_session *s, const void *key, size_t key_bytes,
                                int64_t delta, const struct gw_add_options *options,
                                struct gw_result *result);
enum gw_status gw_write_sync(struct gw_session *s, const void *key, size_t key_bytes,
                             const struct gw_write *what, struct gw_result *result);

/* Every live key of the cluster, at least once (exactly once when no slot moves and no server's
 * index grows meanwhile; a scan that meets a moving slot asks again for that slot at its new owner,
 * and then may give keys of that slot twice). fn returns false to end (GW_END). GW_E_UNREACHABLE,
 * GW_E_TIMEOUT; GW_E_CORRUPT: a server has records that it cannot read, what came is not all. */
struct gw_scan_item {
    const void *key;
    size_t key_bytes;
    enum gw_value_kind kind;
    int64_t number;
    const void *value;
    size_t value_bytes;
    uint32_t version;
    uint64_t expiry_ms; /* 0: none */
};
typedef bool (*gw_scan_callback)(void *ctx, const struct gw_scan_item *item);
enum gw_status gw_scan_all(struct gw_cluster *cluster, gw_scan_callback fn, void *ctx);

/* Operator requests: a JSON document to the coordinator, its JSON answer (docs/ADMIN.md),
 * malloc'ed, the caller frees it. GW_OK: an answer came, which may be {"error":...}.
 * GW_E_UNREACHABLE, GW_E_TIMEOUT, GW_E_TOO_LARGE. */
enum gw_status gw_admin(const char *coordinator, const char *request, uint32_t timeout_ms,
                        char **answer);

/* The slot of a key (CRC16 and hash tags, as in Redis Cluster). */
uint16_t gw_slot_of(const void *key, size_t key_bytes);

#ifdef __cplusplus
}
#endif
#endif
