/* memory.h - the one memory number: how --memory is divided, and what follows from each part. The
 * parts are bounds that their owners keep; log and index get what is left. Where memory really is
 * at the moment: explain.h. Layer: server. */
#ifndef GW_SERVER_MEMORY_H
#define GW_SERVER_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"
#include "server/options.h"

struct gwi_memory {
    uint64_t limit; /* --memory */
    /* The parts, in bytes, of the whole server: */
    uint64_t process;     /* program, libraries, stacks, what malloc keeps */
    uint64_t dispatchers; /* receive buffers, rooms, rings, tables */
    uint64_t connections; /* bytes on their way, sessions, applied windows */
    uint64_t parked;      /* operations that wait */
    uint64_t reads;       /* rooms of device reads */
    uint64_t tables;      /* of the SSD tier: checksums, rings */
    uint64_t chains;      /* the engine's small tables */
    uint64_t threads;     /* what it holds for each dispatcher: pages in the making of compaction */
    uint64_t checkpoints; /* sessions on their way to a file, a block of the index */
    uint64_t commit;      /* what gathers for commit logs, and replies that wait for them */
    uint64_t blob;        /* of the shared tier: cache, uploads, tables */
    uint64_t log, index_start, index_max; /* log + index_start is all that is left */
    /* What follows: */
    uint32_t page_bits;
    uint32_t frame_bytes;                           /* the largest frame */
    uint32_t connections_max;                       /* of the server */
    uint32_t receive_buffers, receive_buffer_bytes; /* of a dispatcher */
    uint64_t net_bytes_max;                         /* bytes on their way, of a dispatcher */
    uint64_t windows_bytes_max;                     /* applied windows, of a dispatcher */
    uint64_t park_bytes_max;                        /* of a dispatcher */
    uint32_t cold_reads_max;                        /* of a dispatcher */
    uint64_t gather_bytes_max;                      /* of a dispatcher's commit log, twice */
    uint64_t blob_cache;                            /* of blob: the cache */
    uint64_t blob_extent; /* what is uploaded at a time; a power of two of pages */
};

/* Divides. GW_E_INVALID: it cannot be done, `why` says which flag, which value, what would do. */
GW_MUST_USE enum gw_status gwi_memory_plan(const struct gwi_options *options,
                                           struct gwi_memory *out, char *why, size_t why_bytes);
/* Gives holes in malloc's memory back to the system when the process comes near its limit. Now and
 * then, by one thread. */
void gwi_memory_ease(const struct gwi_memory *memory);
/* Tells malloc to give back what is freed; before the first thread. */
void gwi_memory_tune(const struct gwi_options *options);
#endif
