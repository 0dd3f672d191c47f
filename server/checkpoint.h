/* checkpoint.h - checkpoints of a server: when, in which order, what follows from a finished one.
 *
 *   IDLE --wanted--> [INDEX] --> CUT --all crossed, sessions copied--> FLUSH --> PUBLISH --> IDLE
 *     ^                                                                             |
 *     `------------------- GIVE UP (says why, tried again later) <------------------'
 *
 * INDEX: a worker thread at low priority writes an index snapshot, when the last one is too old.
 * CUT: the engine chooses the image's end, dispatchers cross. FLUSH: what lies below it goes to the
 * device. PUBLISH: the worker makes the device durable, writes checkpoints/state-<number>.gwc
 * beside its name, renames it, and notes the number in store.json; then it is finished:
 * `checkpointed` rises, segments and logs may go. The newest two are kept, with their index files.
 *
 * A checkpoint that is given up costs nothing but time: the next one has a higher number and holds
 * what it would have held. A failed sync of device or state ends the server: after it nobody knows
 * what is on the disk.
 * Thread rule: the machine is dispatcher 0's (before the dispatchers run: the main thread's); what
 * any thread may call is marked. Layer: server. */
#ifndef GW_SERVER_CHECKPOINT_H
#define GW_SERVER_CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/wire/map.h"
#include "index/base/status.h"
#include "server/state_file.h"

struct gwi_server;
struct gwi_checkpoints;

/* Phase of the gw_cut that wakes the dispatchers for checkpoint `phase & ~GWI_CUT_CHECKPOINT`;
 * views use their generation. Before it acknowledges such a cut a dispatcher calls
 * gw_store_cross. */
#define GWI_CUT_CHECKPOINT (UINT64_C(1) << 63)

/* What recovery has found: where to go on. */
struct gwi_checkpoint_start {
    uint64_t number;                        /* of the newest state; 0: none */
    uint64_t interval;                      /* that the store is in */
    const struct gwi_state *newest, *older; /* as on disk; NULL: none. Copied */
    bool index_wanted;                      /* the next one needs a new index snapshot */
};

/* Makes the machine and its worker thread, for a server with a store. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_checkpoint_create(struct gwi_server *server,
                                                 const struct gwi_checkpoint_start *start);
/* Ends the worker, when no dispatcher runs any more; a checkpoint under way is left unfinished. */
void gwi_checkpoint_stop(struct gwi_server *server);
/* When the threads of the store are closed too, for a cut that was open ends with the last of them;
 * before the store is. */
void gwi_checkpoint_destroy(struct gwi_server *server);

/* What is due; outside of the epoch. Returns when it wants to run again, in ns of the monotonic
 * clock (0: at once). Nothing to do without --disk. */
uint64_t gwi_checkpoint_turn(struct gwi_server *server);
/* No view may be published: dispatchers are crossing, and the image belongs to one view. */
bool gwi_checkpoint_is_crossing(const struct gwi_server *server);

/* Takes one now, without dispatchers: the caller's thread drives the store. `sessions`: of all
 * dispatchers to be; `map` (that knows this server): whose view the image belongs to. What went
 * wrong has been said on stderr. */
struct gwi_sessions;
struct gw_thread;
GW_MUST_USE enum gw_status gwi_checkpoint_alone(struct gwi_server *server, struct gw_thread *thread,
                                                struct gwi_sessions *sessions, uint32_t threads,
                                                const struct gw_map *map);

/* ---- any thread ---- */

/* A checkpoint that holds everything executed so far is wanted soon. Its number. */
uint64_t gwi_checkpoint_ask(struct gwi_server *server);
/* Are there checkpoints, and has the coordinator let us join? */
bool gwi_checkpoint_is_possible(const struct gwi_server *server);
/* A dispatcher's sessions as of its crossing into `number` + 1; takes `bytes`. */
void gwi_checkpoint_sessions(struct gwi_server *server, uint32_t dispatcher, uint64_t number,
                             enum gw_status st, uint8_t *takes, size_t bytes, uint32_t sessions);
/* Has every dispatcher crossed for checkpoint `number`? */
bool gwi_checkpoint_crossed(const struct gwi_server *server, uint64_t number);

/* The newest finished checkpoint, copied without its sessions, and kept with all its files and
 * segments until unpin: a backup reads them. One pin at a time. Any thread but dispatcher 0's,
 * which it waits for. GW_NOT_FOUND: there is none; GW_E_NOMEM; GW_E_CANCELLED: the server ends. */
GW_MUST_USE enum gw_status gwi_checkpoint_pin(struct gwi_server *server, struct gwi_state *out);
void gwi_checkpoint_unpin(struct gwi_server *server);

/* For people. */
struct gwi_checkpoint_figures {
    const char *doing;                   /* "idle", "index", "cut", "flush", "publish" */
    uint64_t number;                     /* newest finished; 0: none */
    uint64_t finished_ms;                /* Unix time; 0: none by this process */
    uint64_t duration_ns, flushed_bytes; /* of it: what lay above the one before */
    uint64_t state_bytes, index_bytes, sessions;
    bool index; /* it came with a new index snapshot */
    uint64_t taken, given_up;
    char failure[256]; /* why the last one was given up; "": it was not */
};
void gwi_checkpoint_figures(const struct gwi_server *server, struct gwi_checkpoint_figures *out);
#endif
