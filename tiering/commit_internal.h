/* commit_internal.h - one commit log: what its dispatcher gathers, what its flusher thread writes.
 *
 *   dispatcher                 handed over                flusher
 *   gather ----flush----> job (state: BUSY) ------> blocks sealed, written, durable
 *          <---poll------ state: IDLE | BROKEN <---- then wake
 *
 * Layer: tiering, internal. */
#ifndef GW_TIERING_COMMIT_INTERNAL_H
#define GW_TIERING_COMMIT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "tiering/commit_format.h"
#include "tiering/ssd_calls.h"

enum gwi_commit_state { GWI_COMMIT_IDLE, GWI_COMMIT_BUSY, GWI_COMMIT_BROKEN };

/* Whole blocks from `base` on, but that the last may be open. Of a closed block the header holds
 * what is known already: groups and payload bytes, and as soon as it is divided, interval and
 * view. The flusher does the rest. */
struct gwi_commit_buffer {
    uint8_t *base;
    size_t room;
    size_t used;     /* end of what is in it */
    size_t block;    /* the open one, if block_open */
    size_t group;    /* the open one, if group_open */
    size_t dividing; /* blocks from here on have no interval yet */
    uint32_t groups; /* of the open block */
    uint32_t small;  /* flushes in a row that needed little of `room` */
    bool block_open, group_open;
};

struct gwi_commit_file {
    struct gwi_commit_file *next; /* the one that comes after it */
    struct gwi_commit_name name;
    uint64_t bytes;
    uint64_t at;     /* the next block goes here */
    uint64_t filled; /* written at least once up to here: faster to write again */
    uint64_t interval_first, interval_last; /* of its durable blocks; none: first is UINT64_MAX */
    int fd;
};

struct gw_commit {
    /* the dispatcher's */
    struct gwi_commit_buffer gather;
    struct gw_commit_group group; /* as begun; entries and bytes unused */
    uint64_t interval;            /* highest divided by */
    bool grouped;

    /* handed over: the dispatcher's while IDLE, the flusher's while BUSY */
    struct gwi_commit_buffer flight;
    /* Written by the dispatcher (BUSY, release: the job) and by the flusher (IDLE or BROKEN,
     * release: the buffer is the dispatcher's again); read by the dispatcher (acquire). */
    _Atomic int state;
    gw_commit_wake_cb wake;
    void *wake_ctx;

    pthread_mutex_t lock;
    pthread_cond_t wakes;
    bool job, end;     /* under the lock */
    uint64_t finished; /* interval of the newest finished checkpoint; under the lock */
    uint64_t job_ns;   /* when it was handed over */
    pthread_t thread;

    /* the flusher's, and open's before it runs */
    struct gw_commit_options options;
    struct gw_ssd_calls calls;
    int dir_fd;
    struct gwi_commit_file *files, *current; /* oldest; newest, into which is written */
    struct gwi_commit_file *spare;           /* the next ones, made ahead or given back */
    uint8_t *zeros;                          /* GWI_COMMIT_FILL_BYTES of them */
    uint8_t *end_unit;                       /* room for a foot or a seal */
    uint64_t sequence, durable;              /* of the next block; highest durable */
    uint64_t spares;                         /* numbers them */

    /* Written by the flusher, read by any (relaxed: each is a fact on its own). */
    _Atomic bool full;     /* no room for the next file, the last time it was tried */
    _Atomic uint64_t left; /* bytes that can be written without another file, spare included */
    _Atomic uint64_t flushes, bytes_written, file_bytes, spare_bytes, flush_ns_last,
        flush_ns_longest;
    _Atomic uint32_t files_count;
};

#define GWI_COMMIT_FILL_BYTES (128u << 10)

/* commit_files.c. The first file, ready to be written. */
GW_MUST_USE enum gw_status gwi_commit_files_open(struct gw_commit *log, char *error);
/* The next file, ready to be written, with room for a block of this many bytes. GW_E_FULL: try
 * again later, nothing has changed; GW_E_IO. */
GW_MUST_USE enum gw_status gwi_commit_files_turn(struct gw_commit *log, uint64_t block_bytes);
/* A spare is missing and will be needed soon. */
bool gwi_commit_files_urgent(const struct gw_commit *log);
/* One small piece of work ahead: a spare, or zeros. GW_OK: there may be more; GW_END: none;
 * GW_E_FULL, GW_E_IO. */
GW_MUST_USE enum gw_status gwi_commit_files_ahead(struct gw_commit *log);
/* Gives back what no interval above `finished` needs. */
void gwi_commit_files_give_back(struct gw_commit *log, uint64_t finished);
void gwi_commit_files_close(struct gw_commit *log);
void gwi_commit_files_count(struct gw_commit *log); /* publishes `left` and the usage */

/* commit_flush.c */
void *gwi_commit_flusher(void *log);
#endif
