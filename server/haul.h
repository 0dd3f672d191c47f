/* haul.h - a dispatcher's share of migrations: ships chunks and answers pulls for what leaves,
 * inserts and pulls for what arrives, unlinks. Between batches, in small portions, lowest priority.
 * Jobs are published by control in the server's tables; a dispatcher looks there each turn, inside
 * the epoch, and keeps its own connections for each. A job is freed behind a cut in which every
 * dispatcher has let go of it. Layer: server. */
#ifndef GW_SERVER_HAUL_H
#define GW_SERVER_HAUL_H

#include <stdatomic.h>

#include "migration/incoming.h"
#include "migration/outgoing.h"
#include "migration/unlink.h"
#include "server/dispatcher.h"

struct gwi_outgoing_job {
    uint64_t id;
    struct gw_slots slots;
    char to_address[GW_ADDRESS_BYTES_MAX + 1];
    struct gw_outgoing *out; /* owned; before the job is in the table */
    _Atomic uint64_t
        shipping;       /* attempt that is to be shipped; 0: none. Written by control (release) */
    atomic_bool paused; /* written by control: nothing is shipped; pulls are answered */
    atomic_bool unlinking; /* set by control after gw_outgoing_unlink_begin */
    atomic_bool done_told, unlinked_told;
    _Atomic uint64_t pause_ns; /* longest that the target says an operation waited there */
    /* What the operator asks (gw_job_options), written by control, 0: the default; how late the
     * target says its requests are (p99). Relaxed: each stands for itself. */
    _Atomic uint64_t rate_bytes, impact_ns, late_there_ns;
    _Atomic uint64_t rate_due_ns; /* of all dispatchers: pace.h */
};

struct gwi_incoming_job {
    uint64_t id;
    struct gw_slots slots;
    char from_address[GW_ADDRESS_BYTES_MAX + 1];
    _Atomic(struct gw_incoming *) in; /* set once by control (release), then for the job's life */
    _Atomic(struct gw_unlinker *) unlinker; /* not NULL: unlink. Control's; freed with the job */
    atomic_bool unlinked_told;
    atomic_bool pulling;        /* the range is served: keep a PULL connection */
    _Atomic uint64_t pause_ns;  /* longest that an operation of the range waited here */
    _Atomic uint64_t impact_ns; /* as in gwi_outgoing_job */
};

GW_MUST_USE struct gwi_haul *gwi_haul_create(struct gwi_dispatcher *d);
void gwi_haul_destroy(struct gwi_haul *haul); /* after the net is gone */

/* One portion of work; inside the epoch. Returns after how many ns it wants the next one: 0 at
 * once, UINT64_MAX when something has to happen first. */
uint64_t gwi_haul_turn(struct gwi_dispatcher *d);
/* How much later requests may be for the jobs at work here, as of the last turn: the least that one
 * of them says, 0 the default; UINT64_MAX: none is at work. */
uint64_t gwi_haul_impact(const struct gwi_dispatcher *d);
/* How late requests of this server are (p99 of its slowest dispatcher, in ns); any thread. */
uint64_t gwi_haul_late(const struct gwi_server *server);
/* Lets go of jobs that control has taken out of the tables; inside, before a cut is acknowledged.
 */
void gwi_haul_notice(struct gwi_dispatcher *d);

/* May "not found" be said of this key? Read before the look-up (MIGRATION R10). */
static inline bool gwi_haul_settled(const struct gwi_view *view, uint16_t slot, uint64_t hash)
{
    const struct gwi_incoming_job *job = view->incoming[view->incoming_of[slot]];
    struct gw_incoming *in = atomic_load_explicit(&job->in, memory_order_acquire);
    return in && gw_incoming_complete(in, hash);
}

/* Moves keys that wait here and whose chunk has been completed since the last call to the front of
 * those that are tried; returns how many (R20). Inside the epoch. */
uint32_t gwi_haul_bring_settled(struct gwi_dispatcher *d);

/* Raises a maximum that several dispatchers write. */
static inline void gwi_haul_raise(_Atomic uint64_t *most, uint64_t value)
{
    uint64_t seen = atomic_load_explicit(most, memory_order_relaxed); /* a number for people */
    while (value > seen &&
           !atomic_compare_exchange_weak_explicit(most, &seen, value, memory_order_relaxed,
                                                  memory_order_relaxed))
        ;
}

enum gw_status gwi_haul_control_frame(struct gwi_link *link, const struct gw_frame *f,
                                      const uint8_t *body);
enum gw_status gwi_haul_chunk_frame(struct gwi_link *link, const struct gw_frame *f,
                                    const uint8_t *body);
enum gw_status gwi_haul_pull_frame(struct gwi_link *link, const struct gw_frame *f,
                                   const uint8_t *body);
void gwi_haul_link_closed(struct gwi_link *link);
/* Goes where the pull's answer said that an absent key lies (key->led). GW_OK: try the operation
 * again; GW_PENDING: the store will name the hash; GW_NOT_YET: in a later turn. Inside the epoch.
 */
enum gw_status gwi_haul_follow(struct gwi_dispatcher *d, struct gwi_parked_key *key,
                               const struct gwi_parked_op *op);
/* A look-up for another server, parked because its record was on the device, has ended; op may be
 * NULL when st is no record. The last one of a PULL sends its answer. */
void gwi_haul_pulled(struct gwi_dispatcher *d, struct gwi_pull *pull, uint32_t index,
                     const struct gw_op *op, enum gw_status st);
#endif
