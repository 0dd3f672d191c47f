/* haul_internal.h - what the files of a dispatcher's share of migrations know of each other:
 * haul.c (portions, connections) and haul_pull.c (look-ups for the target of a range). Layer:
 * server. */
#ifndef GW_SERVER_HAUL_INTERNAL_H
#define GW_SERVER_HAUL_INTERNAL_H

#include "server/haul.h"
#include "server/server.h"

struct hauler;

/* A PULL of which some records are being read from the device. */
struct gwi_pull {
    struct gwi_pull *next, **at;
    struct gwi_link *link;      /* NULL: closed, nobody waits for the answer */
    struct gw_frame f;          /* the PULL's */
    uint32_t waiting, there;    /* keys that are parked; late answers that are to be sent */
    size_t bytes;               /* of these */
    struct gw_pull_late late[]; /* by key */
};

struct gwi_haul {
    struct gwi_pull *pulls;
    uint32_t pulls_count;
    size_t pulls_bytes;
    struct hauler *all;
    struct hauler *out[GWI_JOBS_MAX], *in[GWI_JOBS_MAX];
    uint8_t *room, *scratch; /* the dispatcher's */
    size_t room_bytes;
    uint64_t pull_again_ns; /* after "ask again" */
    uint64_t leads_ns;      /* from then on leads are asked for again */
    uint64_t chunks_seen;   /* of all incoming jobs, complete at the last look */
    uint64_t impact_ns;     /* of the last turn: gwi_haul_impact */
    uint32_t first;         /* job that is looked at first in the next turn */
    uint64_t operations;    /* of the dispatcher at the last look */
    uint64_t busy_until_ns; /* operations came not long ago */
};

/* The job that a hauler or a PULL names, if it is still in the table; inside the epoch. */
static inline struct gwi_outgoing_job *gwi_outgoing_by_id(struct gwi_server *server, uint64_t id)
{
    for (uint32_t i = 0; i < GWI_JOBS_MAX; i++) {
        struct gwi_outgoing_job *job =
            atomic_load_explicit(&server->outgoing[i], memory_order_acquire);
        if (job && job->id == id)
            return job;
    }
    return NULL;
}

/* haul_pull.c */
void gwi_haul_pulls_free(struct gwi_haul *haul);
void gwi_haul_pulls_orphan(struct gwi_haul *haul, const struct gwi_link *link);
#endif
