/* recover.h - from the files of a data directory to a store that serves.
 *
 * Newest state file -> its segments are adopted -> index snapshot and log replay (the engine) ->
 * sessions -> commit logs (recover_commit.c) -> a checkpoint, if a log was there -> logs removed.
 * A file that is missing, damaged or foreign is named, with the remedy, and nothing is served:
 * exit code 3. With --recover=salvage the next older state is taken instead, bad ends of commit
 * logs are left out, and what was left out is said. Nothing is removed before the store has been
 * recovered, but files that no state needs. Layer: server. */
#ifndef GW_SERVER_RECOVER_H
#define GW_SERVER_RECOVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/wire/map.h"
#include "index/base/status.h"
#include "tiering/commit_read.h"

struct gwi_server;
struct gwi_sessions;

/* What was done, for people (status) and for salvage's report. */
struct gwi_recover_report {
    bool recovered;  /* there was an image or a log */
    uint64_t number; /* of the image; 0: none */
    uint64_t image_bytes, keys, sessions, dropped_slots;
    uint64_t started_ns, duration_ns;
    _Atomic uint64_t progress_bytes; /* of index, log and commit logs */
    /* Of the commit logs; filled in by gwi_recover_commit. */
    uint64_t logs, blocks, bytes;
    uint64_t entries; /* read */
    uint64_t applied; /* of them, in the store or in a window now */
    uint64_t dropped; /* behind a gap, or of a slot that was not ours any more */
    uint64_t torn;    /* bytes left out at the ends of logs */
};

/* Opens device and store, with what is in the directory; server->options, data and memory are set.
 * `map`: the coordinator's. Sessions of the dispatchers to be: in server->recovered_sessions. What
 * lies in a shared tier that does not answer is waited for, until *stop (GW_E_CANCELLED). What
 * went wrong has been said on stderr; *exit_code is 3 when it is the data's fault. */
GW_MUST_USE enum gw_status gwi_recover(struct gwi_server *server, const struct gw_map *map,
                                       const atomic_bool *stop, int *exit_code);

/* recover_commit.c: applies the blocks of intervals above `number` (of the image; 0: none) to the
 * recovered store, which no thread has joined, and to the windows of sessions[id % threads]
 * (threads: server->options.threads). GW_E_CORRUPT, GW_E_NOMEM, ...: `why` is a sentence. */
GW_MUST_USE enum gw_status
gwi_recover_commit(struct gwi_server *server, struct gw_commit_logs *logs, uint64_t number,
                   const struct gw_map *map, struct gwi_sessions *sessions,
                   struct gwi_recover_report *report, char *why, size_t why_bytes);
#endif
