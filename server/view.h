/* view.h - the ownership view that a server's dispatchers work by: an immutable value that is
 * published whole. A dispatcher loads it after entering the epoch, once a batch, and compares two
 * integers (DESIGN section 7); only slots that are not plainly owned cost more (MIGRATION R1).
 * Control (dispatcher 0) builds and publishes views; the old one is freed by an epoch trigger.
 * Layer: server. */
#ifndef GW_SERVER_VIEW_H
#define GW_SERVER_VIEW_H

#include <stdint.h>

#include "client/wire/map.h"

struct gwi_incoming_job;

enum gwi_slot_state {
    GWI_SLOT_FOREIGN = 0, /* somebody else's: an operation is returned as moved */
    GWI_SLOT_OWNED,
    GWI_SLOT_WAITING,  /* ours soon, or ours and "yours" has not come: operations wait */
    GWI_SLOT_ARRIVING, /* ours, its records are still coming: what is absent is pulled */
};

#define GWI_JOBS_MAX 32u /* open jobs of a server in each direction */

struct gwi_view {
    uint64_t number;     /* the server's view number in the map */
    uint64_t generation; /* raised by every publication, also those that keep the number */
    struct gw_map *map;  /* owned */
    uint8_t *map_wire;   /* the map, encoded once for refusals */
    size_t map_wire_bytes;
    uint32_t self; /* index in the map, GW_NO_SERVER before it is known */
    uint32_t incoming_count;
    struct gwi_incoming_job
        *incoming[GWI_JOBS_MAX];   /* borrowed: outlive every view that names them */
    uint8_t incoming_of[GW_SLOTS]; /* WAITING and ARRIVING: index into incoming */
    uint8_t state[GW_SLOTS];       /* enum gwi_slot_state */
};

/* The view that a map gives to the server of that id: owned or foreign slots, nothing incoming.
 * Takes `map` (also on failure, NULL then). */
struct gwi_view *gwi_view_create(struct gw_map *map, const char *self_id);
void gwi_view_destroy(struct gwi_view *view);
#endif
