/* server.h - one store process: what its dispatchers share. Layer: server. */
#ifndef GW_SERVER_SERVER_H
#define GW_SERVER_SERVER_H

#include <stdatomic.h>

#include "index/address.h"
#include "server/data.h"
#include "server/dispatcher.h"
#include "server/durable.h"
#include "server/haul.h"
#include "server/memory.h"
#include "server/options.h"
#include "server/recover.h"

/* Threads of the store beside the dispatchers: tools that look at it. */
#define GWI_STORE_THREADS_MORE 3u
#define GWI_CONNECTIONS_KEPT   32u /* beyond the bound: for servers and tools */

struct gwi_server { /* aligned to a cache line */
    struct gwi_options options;
    uint64_t incarnation; /* of this process: rises with time */
    struct gw_store *store;
    struct gwi_memory memory; /* how --memory is divided */
    struct gwi_data data;
    struct gw_device *device; /* the SSD tier, or the shared one with it; NULL: none */
    struct gw_tier *tier;     /* the same device's other face; NULL: no shared tier */
    struct gwi_blob *blob;    /* who watches it; NULL: as above */
    uint64_t segment_bytes;   /* of the tier */
    struct gwi_durable durable;
    struct gwi_checkpoints *checkpoints; /* NULL: nothing is made durable */
    struct gwi_backup *backup;           /* the last one; NULL: there was none */
    struct gwi_recover_report report;    /* of this start */
    /* There was something to recover: until control knows of our jobs, records of any slot may lie
     * here, and tombstones of all are kept. */
    bool recovered;
    /* Slots that the map of the recovery gave us, and its version: gwi_control_note_recovery. */
    struct gw_slots held;
    uint64_t held_version;
    struct gwi_sessions *recovered_sessions; /* [options.threads]; NULL once the dispatchers have
                                                them */
    _Atomic uint32_t connections;            /* of all dispatchers, those that we opened included */
    char address[GW_ADDRESS_BYTES_MAX + 1];  /* advertised */
    char bound[GW_ADDRESS_BYTES_MAX + 1];
    uint32_t frame_bytes_max, value_bytes_max;
    /* Written by control, read by every dispatcher after it entered the epoch; never NULL. */
    _Atomic(struct gwi_view *) view;
    uint64_t cluster; /* 0: not joined yet; control's */
    struct gwi_dispatcher *dispatcher[GWI_THREADS_MAX];
    uint32_t dispatchers;
    /* Open jobs of either direction: control writes (release), dispatchers read inside the epoch.
     */
    _Atomic(struct gwi_outgoing_job *) outgoing[GWI_JOBS_MAX];
    _Atomic(struct gwi_incoming_job *) incoming[GWI_JOBS_MAX];
    _Atomic uint32_t jobs; /* how many in both tables: 0 spares the look */
    atomic_bool stopping;
    atomic_int fatal; /* an enum gw_status that ends the process */
};

/* Locks the data directory, asks the coordinator for the map (until it answers or *stop is set:
 * GW_E_CANCELLED), opens the store and starts the dispatchers; serves nothing before the
 * coordinator has let it join. An error has been written to stderr; *exit_code is then what the
 * process should end with: 3 if what lies in the data directory cannot be recovered, else 1. */
GW_MUST_USE enum gw_status gwi_server_start(const struct gwi_options *options,
                                            const atomic_bool *stop, struct gwi_server **out,
                                            int *exit_code);
/* Asks all dispatchers to stop, joins them and frees everything. */
void gwi_server_stop(struct gwi_server *server);

/* Takes a last checkpoint, as far as it is ready within `wait_ms` or until *hurry is set. For an
 * orderly stop; the dispatchers run on. */
void gwi_server_settle(struct gwi_server *server, uint32_t wait_ms, const atomic_bool *hurry);

/* open.c, with options, memory and data set. An error has been said, unless it is about
 * `recovery`: what the store begins with (NULL: empty); `why` says what is wrong with it. */
struct gw_ssd_report;
struct gw_recovery;
struct gw_map;
GW_MUST_USE enum gw_status gwi_server_open_device(struct gwi_server *server,
                                                  const struct gw_map *map,
                                                  struct gw_ssd_report *report);
void gwi_server_close_device(struct gwi_server *server); /* if there is one */
/* Adopts what an image needs (gw_ssd_adopt, gw_tier_adopt); where the log may go on. */
struct gw_addr_range;
GW_MUST_USE enum gw_status gwi_server_adopt(struct gwi_server *server, gw_addr begin, gw_addr end,
                                            const struct gw_addr_range *gaps, uint32_t gaps_count,
                                            char *error, size_t error_bytes);
gw_addr gwi_server_resume(const struct gwi_server *server, gw_addr least);
/* Is there room for what --disk promises? */
GW_MUST_USE enum gw_status gwi_server_check_room(const struct gwi_server *server,
                                                 const struct gw_ssd_report *report);
GW_MUST_USE enum gw_status gwi_server_open_store(struct gwi_server *server, uint64_t hash_seed,
                                                 const struct gw_recovery *recovery, char *why,
                                                 size_t why_bytes);

/* Publishes a view and a cut with it; when every dispatcher has passed, control gets the mail
 * CUT_PASSED with the view's generation. Takes the view; the old one is the caller's to free behind
 * that. Control's thread only. GW_E_BUSY: too many cuts are open, GW_E_NOMEM: nothing happened, the
 * view is still the caller's. BUSY too: a checkpoint's cut is open, see checkpoint.h. */
GW_MUST_USE enum gw_status gwi_server_publish(struct gwi_server *server, struct gwi_view *takes);
#endif
