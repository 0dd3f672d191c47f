/* checkpoint_internal.h - what the machine (checkpoint.c) and its worker (checkpoint_files.c)
 * share. Layer: server. */
#ifndef GW_SERVER_CHECKPOINT_INTERNAL_H
#define GW_SERVER_CHECKPOINT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/checkpoint.h"
#include "server/server.h"

enum gwi_checkpoint_phase {
    GWI_CHECKPOINT_IDLE = 0,
    GWI_CHECKPOINT_INDEX,   /* the worker writes an index snapshot */
    GWI_CHECKPOINT_BEGIN,   /* the engine is to cut */
    GWI_CHECKPOINT_CUT,     /* dispatchers cross and copy their sessions */
    GWI_CHECKPOINT_FLUSH,   /* what lies below the cut goes to the device */
    GWI_CHECKPOINT_PUBLISH, /* the worker syncs, writes and renames */
    GWI_CHECKPOINT_PHASES
};

/* What the worker is to do, and how it went. Written by the machine before `job` is posted, by the
 * worker before it says done. */
enum gwi_checkpoint_job { GWI_JOB_NONE = 0, GWI_JOB_INDEX, GWI_JOB_PUBLISH, GWI_JOB_STOP };

enum gwi_pin { GWI_PIN_NONE = 0, GWI_PIN_WANTED, GWI_PIN_HELD, GWI_PIN_RELEASED };

struct gwi_index_file { /* as in struct gwi_state */
    uint64_t number;    /* 0: none */
    gw_addr start;
    uint64_t blocks;
    uint32_t crc;
    uint64_t view;
};

struct gwi_checkpoints {
    struct gwi_server *server;

    /* The machine's. */
    enum gwi_checkpoint_phase phase;
    uint64_t next;                  /* number of the checkpoint that is taken, or will be */
    struct gwi_state state;         /* in the making */
    struct gwi_index_file index;    /* newest snapshot that is whole */
    struct gwi_state newest, older; /* on disk; image.number 0: none */
    struct gwi_state_part part[GWI_THREADS_MAX];
    uint8_t *part_bytes[GWI_THREADS_MAX]; /* owned */
    uint64_t *mixed;                      /* owned */
    bool index_wanted, crossing;
    const struct gw_map *alone_map; /* borrowed, while gwi_checkpoint_alone runs */
    uint64_t started_ns, last_ns;   /* of this one, of the last one's cut */
    uint64_t retry_ns, retry_pause_ns;
    uint64_t look_ns;        /* when the log's bytes are looked at next */
    uint64_t log_floor;      /* bytes of the commit logs after the last one */
    uint64_t operations;     /* of all dispatchers at the last cut */
    uint32_t intervals_idle; /* since something was last written */

    /* Between threads. */
    _Atomic uint64_t asked;      /* the highest number wanted; any thread raises it */
    atomic_bool known;           /* we are in a map: written by the machine, read by who stops */
    _Atomic uint64_t crossed;    /* release: by the last to cross; acquire: all */
    _Atomic uint32_t parts_left; /* dispatchers that have not handed in (release, acquire) */
    _Atomic int part_failed;     /* an enum gw_status */

    /* A pin (gwi_checkpoint_pin). */
    _Atomic int pin; /* enum gwi_pin; WANTED by the backup, then HELD or NONE by the machine */
    enum gw_status pin_status;
    struct gwi_state pinned; /* the machine's while HELD; image.number 0: none */

    /* The worker. */
    pthread_t thread;
    pthread_mutex_t lock; /* guards job, figures */
    pthread_cond_t posted;
    enum gwi_checkpoint_job job;
    atomic_bool done, stop; /* done: release by the worker */
    struct gwi_index_file job_index;
    enum gw_status job_status;
    bool job_fatal; /* a sync failed: nobody knows what is on the disk */
    uint64_t job_bytes;
    char job_why[200];
    struct gwi_checkpoint_figures figures;
};

/* checkpoint_files.c: the worker's thread; arg: struct gwi_checkpoints. */
void *gwi_checkpoint_worker(void *arg);
/* Removes what no state names: states but those of these numbers, index files but those, and
 * unfinished files. */
void gwi_checkpoint_sweep(const char *data, const uint64_t *states, uint32_t states_count,
                          const uint64_t *indexes, uint32_t indexes_count);
#endif
