/* durable.h - what a server's dispatchers share about durability, and the questions that its other
 * parts may ask. Parts:
 *
 *   checkpoint.c      the checkpoint as a machine on dispatcher 0; a worker thread does the files
 *   state_file.c      checkpoints/state-<number>.gwc: the image's numbers, sessions
 *   session_image.c   each dispatcher's sessions as of its crossing
 *   commit.c          a dispatcher's commit log: what is appended, what is open, when it is flushed
 *   hold.c            replies that wait until they are durable
 *   recover.c         from the files to a store that serves; recover_commit.c: from commit logs
 *
 * Modes (--durability): none: no --disk, a restart begins empty. memory: checkpoints only. commit:
 * a reply leaves when what it shows is durable (ENGINE rules 20, 21; model: tests/model/spin/
 * commit.pml). Layer: server. */
#ifndef GW_SERVER_DURABLE_H
#define GW_SERVER_DURABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "index/base/assert.h"
#include "index/base/status.h"
#include "server/options.h"

struct gwi_server;
struct gwi_dispatcher;
struct gwi_session;

#define GWI_NOTHING_OPEN UINT64_MAX

/* A dispatcher's word of the acknowledgement rule, on a line of its own. */
struct gwi_open_word {
    /* Round of its first batch of which something is not durable; NOTHING_OPEN. Written by its
     * dispatcher (seq_cst), read by all. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t open;
    atomic_bool waits; /* wake it when somebody's open rises */
};

struct gwi_durable {
    enum gwi_durability mode;
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t round;
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t checkpointed; /* newest finished checkpoint; 0: none */
    _Atomic uint64_t interval;  /* that dispatchers are in, or on their way to */
    _Atomic int failed;         /* an enum gw_status: nothing is acknowledged as durable any more */
    _Atomic uint64_t forgotten; /* sessions forgotten with writes that nobody confirmed */
    atomic_bool control_waits;  /* wake dispatcher 0 when somebody's open rises */
    struct gwi_open_word dispatcher[GWI_THREADS_MAX];
};

/* ---- asked by control (dispatcher 0's thread) ---- */

enum gwi_secure {
    GWI_SECURE_EXECUTED, /* every operation executed so far: log, or in memory mode a checkpoint */
    GWI_SECURE_RECORDS,  /* whatever is in the store now, arrivals too: a checkpoint */
};
/* A ticket for what is here now; begins what is needed. 0: it is durable already, or the server
 * makes nothing durable. */
uint64_t gwi_secure_begin(struct gwi_server *server, enum gwi_secure what);
/* Has it become durable? Control is called again (its turn) when it may have. */
bool gwi_secure_done(struct gwi_server *server, uint64_t ticket);

/* ---- positions, as clients are told (docs/PROTOCOL.md) ----
 * A reply carries a position: what it shows is durable when the server says DURABLE with one at
 * least as high. In memory mode it is the number of the checkpoint that will hold it, in commit
 * mode the round behind its batch. 0: it is durable. Positions of one incarnation only rise. */

/* What is durable now: memory: `checkpointed`; commit: gwi_commit_durable. */
uint64_t gwi_durable_position(const struct gwi_server *server);
/* A client wants everything it has been answered to be durable soon: flushes, or asks for a
 * checkpoint. Any dispatcher. */
void gwi_durable_hurry(struct gwi_server *server);

/* ---- a dispatcher's part ---- */

/* The thread of the store crosses into interval `number`: the sessions are frozen as they are now
 * for checkpoint `number` - 1 (session_image.h), the commit log divides (gwi_commit_cross). Is the
 * gw_cross_cb of every dispatcher's gw_thread; ctx: the dispatcher. May come again with the same
 * number: the last call counts. */
void gwi_durable_cross(void *dispatcher, uint64_t number);

/* ---- of commit mode: commit.c (and only there; called in commit mode only) ---- */

/* The highest position that is durable now: what was answered with it, or a lower one, is. Loads
 * the round and then all open words (tests/model/spin/commit.pml), so it is never above the round;
 * a call may give less than an earlier one, and both were right. Any thread. */
uint64_t gwi_commit_durable(const struct gwi_server *server);
/* The position of everything that was executed so far by any dispatcher; 0: it is durable. It
 * becomes durable without further ado (logs are flushed by themselves). Any thread; set
 * control_waits before asking gwi_commit_durable, then its rise wakes dispatcher 0. */
uint64_t gwi_commit_ticket(const struct gwi_server *server);
/* What was executed so far belongs to intervals before `number`: the log's block ends here. On the
 * dispatcher's thread, inside the epoch. */
void gwi_commit_cross(struct gwi_dispatcher *d, uint64_t number);
/* Bytes of the commit logs' files, of all dispatchers. Any thread. */
uint64_t gwi_commit_log_bytes(const struct gwi_server *server);
#endif
