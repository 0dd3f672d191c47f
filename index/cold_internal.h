/* cold_internal.h - what the files of cold walks share.
 *
 *   cold.c         asking, and a thread's part as a whole
 *   cold_walk.c    a walk's steps, the blocks that it reads
 *   cold_memory.c  lists, buffers, bounds
 * Layer: index. */
#ifndef GW_INDEX_COLD_INTERNAL_H
#define GW_INDEX_COLD_INTERNAL_H

#include "index/cold.h"
#include "index/device.h"

#define GWI_COLD_SMALL_BYTES 8192u /* buffers of the common size, registered with the device */
#define GWI_COLD_PLACES      1024u /* a power of two: buckets of both tables */

enum gwi_cold_state {
    GWI_COLD_QUEUED,
    GWI_COLD_READING,
    GWI_COLD_FOUND,
    GWI_COLD_ABSENT,
    GWI_COLD_FAILED
};

struct gwi_cold_walk;

struct gwi_cold_block {
    struct gwi_cold *cold;
    struct gwi_cold_block *next; /* in its place */
    struct gwi_cold_walk *waiting;
    uint8_t *data;
    uint64_t at;
    uint32_t bytes, refs;
    bool ready;
};

struct gwi_cold_walk {
    struct gwi_cold_walk *next;           /* in its place */
    struct gwi_cold_walk *before, *after; /* in a list: queued, fresh, used; or none */
    struct gwi_cold_walk *wait;           /* behind the same block */
    struct gwi_cold_walk *announce;       /* not yet named by gwi_cold_ready */
    struct gwi_cold_block *block;         /* GWI_COLD_READING, GWI_COLD_FOUND */
    struct gw_record *record;             /* GWI_COLD_FOUND */
    struct gw_record **chain;             /* of a whole chain: what was read */
    struct gwi_lead *met;                 /* of a key: indirections that cover it */
    uint64_t hash, top, at, stop, ended_ns, ended_turn;
    uint64_t end;                           /* foreign: the chain ends below this; its address */
    uint32_t chain_count, chain_room, need; /* need: bytes to read, 0: as usual */
    uint32_t met_count, met_room;
    enum gw_status status; /* GWI_COLD_FAILED */
    uint8_t state;
    bool whole, one, announced, used; /* whole: of a chain, or with `one` its first */
    bool needed;                      /* of the bucket at which a walk over the table is now */
    bool foreign;                     /* `at` leads into another log (rule 4) */
    uint16_t key_bytes;
    uint8_t key[];
};

struct gwi_cold_list {
    struct gwi_cold_walk *first, *last;
};

struct gwi_cold {
    struct gw_thread *t;
    struct gw_log *log;
    struct gw_device *device;
    uint32_t queue, reads_max, walks_max;
    uint32_t reads, walks, chains; /* chains: walks over whole chains, of all */
    uint64_t turn;
    uint32_t guess;
    uint64_t heap, heap_max; /* bytes beyond the slab */
    uint64_t bulk;           /* of them, those of records: buffers and copies */
    _Atomic uint64_t bytes;  /* all that is held; for the statistics */
    uint8_t *slab;
    void *slab_free; /* a list through the buffers */
    struct gwi_cold_list queued, fresh, used, whole;
    struct gwi_cold_walk *announced, **announced_end;
    struct gwi_cold_walk *place[GWI_COLD_PLACES];
    struct gwi_cold_block *blocks[GWI_COLD_PLACES];
    uint32_t *ghost; /* names of keys read once, about one for each KiB of the log's memory */
    uint32_t ghosts;
};

/* ---- cold_memory.c ---- */

void gwi_cold_list_add(struct gwi_cold_list *list, struct gwi_cold_walk *w);
void gwi_cold_list_remove(struct gwi_cold_list *list, struct gwi_cold_walk *w);
/* Bytes held from now on, or given back; bulk: those of records. */
void gwi_cold_account(struct gwi_cold *cold, int64_t bytes);
void gwi_cold_account_bulk(struct gwi_cold *cold, int64_t bytes);
/* False: over the bound. A record is always let in where there is none, for the largest one must be
 * readable. */
bool gwi_cold_may_take(const struct gwi_cold *cold, uint64_t bytes);
uint8_t *gwi_cold_buffer_take(struct gwi_cold *cold, uint32_t bytes, bool needed);
void gwi_cold_buffer_free(struct gwi_cold *cold, uint8_t *data, uint32_t bytes);
struct gwi_cold_block **gwi_cold_block_place(struct gwi_cold *cold, uint64_t at);
void gwi_cold_block_release(struct gwi_cold *cold, struct gwi_cold_block *b);
void gwi_cold_block_leave(struct gwi_cold *cold, struct gwi_cold_walk *w);
struct gwi_cold_walk **gwi_cold_walk_place(struct gwi_cold *cold, uint64_t hash);
/* Requires: not READING (its block would call back). */
void gwi_cold_walk_free(struct gwi_cold *cold, struct gwi_cold_walk *w);
/* Lets the result go that is needed least (cold.c, rule 1); false: all are needed. */
bool gwi_cold_evict(struct gwi_cold *cold);

/* ---- cold_walk.c ---- */

/* Takes a walk as far as it gets. Requires: in no list, behind no block. */
void gwi_cold_walk_go(struct gwi_cold *cold, struct gwi_cold_walk *w);
/* Notes an indirection among those of a walk for a key; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_cold_meet(struct gwi_cold *cold, struct gwi_cold_walk *w,
                                         const struct gw_indirection *in, bool retired);
/* Lets a walk begin with the newest of the indirections that it has not followed. False: there is
 * none, or (the walk has ended then) it cannot be followed. */
bool gwi_cold_walk_next(struct gwi_cold *cold, struct gwi_cold_walk *w);
#endif
