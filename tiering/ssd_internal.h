/* ssd_internal.h - what the files of the SSD tier share.
 *
 *   ssd.c           the face: submits, completes, counts
 *   ssd_segments.c  which segments there are; makes and removes their files; trim
 *   ssd_uring.c     sends to the kernel, one ring a queue
 *   ssd_threads.c   sends to threads, where there is no ring
 *   ssd_open.c      sizes, begin and end
 *   ssd_sync.c      makes durable what was written
 *   ssd_adopt.c     takes over what an earlier incarnation wrote
 *   ssd_dir.c       the directory: what may be used, what is in the way, what is earlier
 *
 * An operation belongs to its queue's thread, except while it waits for its segment (then to who
 * holds the device's lock) and while a worker has it. It comes back through the queue's inbox.
 * Layer: tiering. */
#ifndef GW_TIERING_SSD_INTERNAL_H
#define GW_TIERING_SSD_INTERNAL_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "index/base/assert.h"
#include "tiering/ssd.h"
#include "tiering/ssd_calls.h"
#include "tiering/ssd_format.h"

#define GWI_SSD_TRIES_MAX 16u /* of a call that was interrupted, or gave nothing */
#define GWI_SSD_WORKERS   4u
#define GWI_SSD_FILES_MAX                                                                          \
    1024u /* registered with a ring; segments beyond use plain descriptors                         \
           */
#define GWI_SSD_EARLIER_MAX 65536u

enum { SSD_PART_DATA, SSD_PART_TABLE, SSD_PARTS };

struct ssd_op {
    _Alignas(GW_CACHE_LINE) struct ssd_op *next;
    struct ssd_queue *queue;
    struct ssd_segment *segment; /* holds one reference from start to finish */
    uint64_t at;
    uint8_t *memory; /* of a write: only read */
    uint8_t *table;  /* of a write: its check table */
    uint32_t bytes, table_bytes;
    uint32_t done[SSD_PARTS];
    uint32_t parts, tries;
    bool write, started, fixed, sync;
    enum gw_status status;
    gw_device_cb cb;
    void *arg;
};

/* See ssd_segments.c for states and proof. */
struct ssd_segment {
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t word;
    uint64_t number; /* addresses from number x segment bytes */
    uint32_t *checks;
    _Atomic uint8_t *pages; /* enum ssd_page */
    int fd;
    uint32_t incarnation;   /* that wrote it */
    _Atomic bool dirty;     /* written since the last sync began */
    uint32_t index;         /* of this slot */
    struct ssd_op *waiting; /* under the lock, while it is being made; newest first */
    struct ssd_segment *next_job;
};

/* NONE --write begins--> WRITING --done--> WRITTEN; a failed write goes back to NONE. */
enum ssd_page { SSD_PAGE_NONE, SSD_PAGE_WRITING, SSD_PAGE_WRITTEN };

/* Written by the queue's thread alone (plain add on a relaxed word), read by usage. */
struct ssd_counters {
    _Atomic uint64_t reads, read_bytes, writes, write_bytes, corrupt_blocks, failed_reads,
        failed_writes;
};

struct ssd_queue {
    _Alignas(GW_CACHE_LINE) struct ssd *ssd;
    uint32_t number, in_flight, writing;
    bool syncing;
    uint64_t finished; /* operations, ever */
    struct ssd_op *ops, *free_ops;
    uint8_t *tables; /* GW_SSD_WRITES_MAX x table bytes */
    uint8_t *free_tables[GW_SSD_WRITES_MAX];
    struct ssd_op *to_send, **to_send_end; /* for workers, until poll */
    uint8_t *room, *room_end;              /* adopted */
    bool fixed_room;                       /* and registered with the ring */
    bool closing;                          /* no callbacks any more */
    struct io_uring ring;
    bool ring_made, ring_dead;
    uint32_t submit_failures;
    uint64_t *files; /* by segment slot: number + 1 of the segment registered there; 0: none */
    uint32_t files_count;
    bool files_refused;
    int event_fd;
    uint32_t idle_polls;
    struct ssd_counters counters;
    /* What came back from elsewhere: pushed by any thread with release, taken as a whole by the
     * queue's with acquire. */
    _Alignas(GW_CACHE_LINE) _Atomic(struct ssd_op *) inbox;
    _Atomic bool events_on; /* a sleeper may wait for event_fd */
};

struct ssd {
    struct gw_device face;
    struct gw_ssd_calls calls;
    struct gw_ssd_geometry g;
    uint64_t store_id, limit_bytes;
    uint8_t server_id[16];
    uint32_t incarnation, hash_seed_check;
    bool direct, uring, no_allocate, read_only;
    int dir_fd;
    uint32_t queues_count, depth;
    struct ssd_queue *queues;

    struct ssd_segment *segments; /* slot of segment n: n % segments_count (a power of two) */
    uint32_t segments_count;
    _Atomic uint64_t trimmed;    /* rises under the lock */
    _Atomic uint64_t used_bytes; /* changes under the lock */
    _Atomic uint64_t memory_bytes;

    pthread_mutex_t lock;
    pthread_cond_t keeper_wakes;
    struct ssd_segment *jobs, **jobs_end;
    enum gw_status make_failed; /* of the last file, and when the next may be tried */
    uint64_t make_again_ns;
    bool keeper_ends, keeper_runs;
    pthread_t keeper;

    pthread_mutex_t work_lock;
    pthread_cond_t work_wakes;
    struct ssd_op *work, **work_end;
    bool workers_end;
    uint32_t workers_count;
    pthread_t workers[GWI_SSD_WORKERS];

    pthread_mutex_t sync_lock;
    pthread_cond_t sync_wakes;
    struct ssd_op *syncs, **syncs_end;
    bool syncer_ends, syncer_runs;
    enum gw_status sync_failed; /* for good */
    pthread_t syncer;

    struct gw_ssd_file *earlier;
    uint32_t earlier_count;
    bool earlier_counted; /* used_bytes has them */
    uint64_t earlier_end; /* first address above every file that was found */
    uint64_t *adopted;    /* owned; numbers of segments, rising; fixed by the first operation */
    uint32_t adopted_count;
    uint64_t own_first; /* number of the first segment above them that can be written */
};

static inline void gwi_ssd_count(_Atomic uint64_t *word, uint64_t add)
{
    /* Relaxed: one writer, and nothing is published by it. */
    atomic_store_explicit(word, atomic_load_explicit(word, memory_order_relaxed) + add,
                          memory_order_relaxed);
}

/* ---- ssd.c ---- */

void gwi_ssd_face(struct gw_device *face);
uint32_t gwi_ssd_poll(struct ssd_queue *q);

/* All parts of an operation have ended: status is op->status. Queue's thread. */
void gwi_ssd_finish(struct ssd_op *op);
/* What a part of an operation came to: `result` as the kernel's. True: it has ended (op->status
 * says how), false: the rest of it must be sent again. Whoever has the operation. */
bool gwi_ssd_part_result(struct ssd_op *op, uint32_t part, int64_t result);
/* Hands an operation back to its queue. Any thread. */
void gwi_ssd_deliver(struct ssd_op *op);
enum gw_status gwi_ssd_status_of(int error, bool write);

/* Where a part's rest lies. */
struct ssd_range {
    uint8_t *memory;
    uint32_t bytes;
    uint64_t offset;
};
struct ssd_range gwi_ssd_range(const struct ssd_op *op, uint32_t part);

/* ---- ssd_segments.c ---- */

GW_MUST_USE enum gw_status gwi_ssd_segments_init(struct ssd *ssd);
void gwi_ssd_segments_fini(struct ssd *ssd); /* ends the keeper after its last job */
/* The open segment with this number, with a reference; NULL: there is none. Any thread. */
struct ssd_segment *gwi_ssd_acquire(struct ssd *ssd, uint64_t number);
void gwi_ssd_release(struct ssd *ssd, struct ssd_segment *segment);
/* Puts a segment of an earlier incarnation into its slot, open: its file, and for each page whether
 * it is there, with the checks. The arrays are laid out as gwi_ssd_checks_make gives them.
 * Numbers come rising, below own_first. GW_E_LIMIT: there are more than slots; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_ssd_take_over(struct ssd *ssd, uint64_t number, uint32_t incarnation,
                                             int fd, uint32_t *takes_checks);
uint32_t *gwi_ssd_checks_make(const struct ssd *ssd); /* zeroed; NULL: no memory */
static inline _Atomic uint8_t *gwi_ssd_pages_of(const struct ssd *ssd, uint32_t *checks)
{
    return (_Atomic uint8_t *)(checks + (size_t)ssd->g.segment_pages * ssd->g.page_blocks);
}
/* For a write whose segment is not open: leaves it with the segment that is being made
 * (GW_PENDING), or says why not. GW_RETRY: it is open now. */
enum gw_status gwi_ssd_wait_for_segment(struct ssd *ssd, struct ssd_op *op);
void gwi_ssd_trim(struct ssd *ssd, uint64_t below);

/* ---- ssd_uring.c ---- */

GW_MUST_USE int gwi_ssd_ring_init(struct ssd_queue *q); /* 0 or -errno */
void gwi_ssd_ring_fini(struct ssd_queue *q);
void gwi_ssd_ring_send(struct ssd_op *op, uint32_t part); /* prepares; poll sends */
bool gwi_ssd_ring_gather(struct ssd_queue *q);            /* whether anything has come back */
void gwi_ssd_ring_reap(struct ssd_queue *q);
void gwi_ssd_ring_flush(struct ssd_queue *q); /* sends what is prepared, if anything is */
void gwi_ssd_ring_adopt(struct ssd_queue *q);
void gwi_ssd_ring_disown(struct ssd_queue *q);
bool gwi_ssd_ring_events(struct ssd_queue *q); /* an event for each completion from now on */
void gwi_ssd_ring_forget_file(struct ssd_queue *q, struct ssd_segment *segment);

/* ---- ssd_threads.c ---- */

GW_MUST_USE enum gw_status gwi_ssd_threads_init(struct ssd *ssd);
void gwi_ssd_threads_fini(struct ssd *ssd);
void gwi_ssd_threads_send(struct ssd_queue *q); /* what is in to_send */

/* Writes or reads all of a range; 0 or -errno. -EIO: the file ends before. */
int gwi_ssd_transfer(const struct gw_ssd_calls *calls, int fd, bool write, struct ssd_range range);

/* ---- ssd_sync.c ---- */

GW_MUST_USE enum gw_status gwi_ssd_sync_init(struct ssd *ssd);
void gwi_ssd_sync_fini(struct ssd *ssd); /* ends the syncer after its last job */
void gwi_ssd_sync_send(struct ssd_op *op);

/* ---- ssd_dir.c ---- */

/* The header of a file in the directory. GW_E_IO: cannot be read; else as gw_ssd_header_read. */
GW_MUST_USE enum gw_status gwi_ssd_header_of(struct ssd *ssd, const char *name, uint8_t *block,
                                             struct gw_ssd_header *header);

/* Probes the directory and lists what is in it. */
GW_MUST_USE enum gw_status gwi_ssd_dir_open(struct ssd *ssd, const struct gw_ssd_options *options,
                                            struct gw_ssd_report *report);
void gwi_ssd_dir_close(struct ssd *ssd);
#endif
