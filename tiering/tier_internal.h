/* tier_internal.h - what the files of the shared tier have in common.
 *
 *   tier.c          the face: writes, reads of what is on disk, completions, begin and end
 *   tier_read.c     the reader, a thread: reads of what is in the object store only
 *   tier_cache.c    heads and frames that the reader keeps
 *   tier_origin.c   logs of others: their numbers, and which objects they have
 *   tier_upload.c   the uploader, a thread: extents become objects
 *   tier_room.c     drops segments, deletes objects, collects what nobody knows
 *   tier_objects.c  which objects our log has
 *   tier_files.c    tier.json, owner.json, names
 *   tier_adopt.c    after a restart
 *
 * Two threads beside the callers': the reader owns everything about reads that are under way, the
 * uploader everything about what is on its way up. Callbacks of the object store only put a note
 * into the inbox of one of them. Locks: `objects.lock` for the list of objects, `trouble_lock` for
 * the sentence; each is held for a few lines and never with another. Layer: tiering. */
#ifndef GW_TIERING_TIER_INTERNAL_H
#define GW_TIERING_TIER_INTERNAL_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "index/base/assert.h"
#include "tiering/object.h"
#include "tiering/ssd_internal.h"
#include "tiering/tier.h"

#define GWI_TIER_NAME_BYTES   (GW_BLOB_NAME_MAX + 1)
#define GWI_TIER_PUTS_MAX     3u /* objects in memory, on their way up */
#define GWI_TIER_DELETES_MAX  16u
#define GWI_TIER_ORIGINS_MAX  4096u
#define GWI_TIER_OWN          0u /* the number of our own log among the origins */
#define GWI_TIER_HEAD_FIRST   (16u << 10)
#define GWI_TIER_FULL_WAIT_NS UINT64_C(15000000000)
#define GWI_TIER_SAID_NS      UINT64_C(50000000000) /* a read's trouble is in status */
#define GWI_TIER_OWNER_AGE_NS UINT64_C(15000000000)
#define GWI_TIER_AGAIN_NS     UINT64_C(500000000)
#define GWI_TIER_AILING_NS    UINT64_C(50000000)   /* a read's deadline then */
#define GWI_TIER_TRIAL_NS     UINT64_C(1000000000) /* and that of one that tries all the same, */
#define GWI_TIER_TRIALS_NS    UINT64_C(100000000)  /* of which there is one each so long */
#define GWI_TIER_PROBE_NS     UINT64_C(1000000000)
#define GWI_TIER_LIST_MAX     1000u /* of a call (blob.h) */

struct tier_op {
    struct tier_op *next;
    struct tier_queue *queue;
    uint64_t at, deadline_ns;
    uint8_t *room;
    uint64_t past_first; /* with past: objects from this one on, in the order of tier_origin.c, */
    uint32_t bytes, done, origin, past_incarnation; /* do not hold what is wanted next */
    uint8_t listed;                                 /* enum tier_listed */
    bool foreign, waited, past;
    bool glance; /* nothing is fetched for it: tier_read.c rule 7 */
    enum gw_status status;
    gw_device_cb cb;
    void *arg;
};

struct tier_queue {
    _Alignas(GW_CACHE_LINE) struct tier_op *ops, *free_ops;
    uint64_t finished;
    /* Pushed by the reader with release, taken by the queue's thread with acquire. */
    _Alignas(GW_CACHE_LINE) _Atomic(struct tier_op *) inbox;
    _Atomic int event_fd; /* -1: nobody sleeps; the SSD's, which stays its owner */
};

/* An object of a log. Sorted by address; addresses of one log do not overlap. */
struct tier_object {
    uint64_t first, bytes; /* of addresses; 0: not known (a foreign one) */
    uint32_t incarnation;
    bool deleting;
};

struct tier_objects {
    pthread_mutex_t lock;
    struct tier_object *at;
    uint32_t count, room;
};

/* What tier.json holds. */
struct tier_state {
    uint64_t local_from, shared, used;
    struct tier_object *objects; /* owned */
    uint32_t count;
    bool found; /* there is a tier.json */
};

struct tier_put {
    enum { TIER_PUT_FREE, TIER_PUT_MADE, TIER_PUT_SENT, TIER_PUT_DONE, TIER_PUT_FAILED } state;
    struct gw_tier *tier;
    uint64_t first, bytes, again_ns;
    uint32_t incarnation;
    bool listed; /* among the objects */
    uint8_t *object;
    size_t object_bytes;
    enum gw_status status;
};

struct tier_delete {
    bool used, done; /* done and status by the callback */
    struct gw_tier *tier;
    struct tier_object object;
    enum gw_status status;
};

/* One call to the object store whose answer somebody waits for. */
struct tier_ask {
    struct gw_tier *tier;
    bool under_way, done;
    enum gw_status status;
    uint8_t *data; /* owned */
    size_t bytes;
};

enum tier_owner { TIER_OWNER_UNKNOWN, TIER_OWNER_US, TIER_OWNER_OTHER };

struct tier_uploader {
    pthread_t thread;
    bool runs;
    pthread_mutex_t lock; /* of what callbacks and others tell: marked * */
    pthread_cond_t wakes;
    bool ends, woken;                                 /* * */
    struct tier_put puts[GWI_TIER_PUTS_MAX];          /* * state and status once sent */
    struct tier_delete deletes[GWI_TIER_DELETES_MAX]; /* * done and status */
    struct tier_ask ask;                              /* * of owner.json */
    struct tier_ask probe;                            /* * the same, while it is in trouble */
    uint64_t probe_ns;                                /* not before */
    uint64_t unwell_ns;                               /* since when; 0: it is well */
    char owner_text[512];
    _Atomic int owner; /* enum tier_owner */
    bool owner_putting;
    uint64_t owner_checked_ns, again_ns, delete_again_ns;
    uint64_t next; /* address: all below is uploaded, on its way up, or does not exist */
    uint8_t *raw;  /* owned; an extent */
    bool started, files_stale;
    uint32_t calls_left;        /* of our queue of the SSD */
    enum gw_status call_status; /* the worst of them */
};

struct tier_reader;

struct gw_tier {
    struct gw_device face;
    struct gw_device *ssd_face;
    struct ssd *ssd;
    struct gw_blob *blob;
    uint64_t cluster, store_id, blob_limit_bytes, cache_bytes, read_deadline_ns, full_wait_ns,
        process;
    uint32_t frame_bytes, incarnation, hash_seed_check, page_bits, queues_count, depth;
    uint64_t page_bytes, extent_bytes, segment_bytes;
    int level;
    bool read_only, keep_earlier;
    char server_id[64];
    struct tier_queue *queues;
    struct gw_addr_range *holes; /* owned: where no page exists; fixed before the first read */
    uint32_t holes_count;
    uint64_t image_end;
    uint64_t used; /* what lies below may have been written or put by an earlier process */

    /* Each rises; written by the thread named, read by any. */
    _Atomic uint64_t begin;       /* the log's; trim */
    _Atomic uint64_t keep_from;   /* gw_tier_keep */
    _Atomic uint64_t hurry_to;    /* gw_tier_hurry */
    _Atomic uint64_t local_from;  /* uploader: below is read from the object store */
    _Atomic uint64_t shared;      /* uploader */
    _Atomic uint64_t first_write; /* of this process, UINT64_MAX before; the log's flusher */
    _Atomic uint64_t written_end; /* highest end of a page that was given to the SSD */
    _Atomic uint64_t progress_ns; /* when something was last uploaded; at first: the start */
    _Atomic uint64_t remote_bytes;
    _Atomic bool unwell;        /* uploader: the object store fails, or is not ours */
    _Atomic bool ailing;        /* uploader: the object store has failed for a read's deadline */
    _Atomic bool gets_fail;     /* reader: and what it last wanted from it has not come */
    _Atomic bool adopted, full; /* full: a write found no room since the last drop */

    _Atomic uint64_t objects_bytes, uploaded_raw_bytes, uploaded_bytes, uploads_failed,
        dropped_segments, deleted_objects, cold_reads, cold_bytes, cold_failed, cold_corrupt,
        cache_hits, foreign_reads, cache_used;

    struct tier_objects objects;
    struct tier_uploader up;
    struct tier_reader *reader;
    pthread_mutex_t origins_lock;
    _Atomic uint32_t origins_count;
    _Atomic uint64_t *origins; /* log ids; written under the lock, before the count */

    pthread_mutex_t trouble_lock;
    char trouble_up[GW_BLOB_TEXT_BYTES], trouble_read[GW_BLOB_TEXT_BYTES];
    uint64_t trouble_read_ns;
};

uint64_t gwi_tier_now(void);

/* ---- tier.c ---- */
void gwi_tier_deliver(struct tier_op *op, enum gw_status status);
/* A sentence for status; NULL: none any more. `up`: of uploading, else of reading. */
void gwi_tier_trouble(struct gw_tier *tier, bool up, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static inline void gwi_tier_add(_Atomic uint64_t *word, uint64_t add)
{
    atomic_fetch_add_explicit(word, add, memory_order_relaxed); /* a number */
}
bool gwi_tier_in_hole(const struct gw_tier *tier, uint64_t at);
/* Is it known that reads of the object store fail? */
bool gwi_tier_gives_nothing(const struct gw_tier *tier);

/* ---- tier_read.c ---- */
GW_MUST_USE enum gw_status gwi_tier_reader_begin(struct gw_tier *tier);
void gwi_tier_reader_stop(struct gw_tier *tier); /* ends the thread */
void gwi_tier_reader_end(struct gw_tier *tier);  /* after the object store was closed */
void gwi_tier_reader_take(struct gw_tier *tier, struct tier_op *op);

/* ---- tier_upload.c ---- */
GW_MUST_USE enum gw_status gwi_tier_uploader_begin(struct gw_tier *tier);
void gwi_tier_uploader_stop(struct gw_tier *tier);
void gwi_tier_uploader_end(struct gw_tier *tier);
void gwi_tier_uploader_wake(struct gw_tier *tier);

/* ---- tier_room.c ---- */
/* Forgets what tier.json says, durably: the log begins anew at addresses that it names. */
GW_MUST_USE enum gw_status gwi_tier_begin_empty(struct gw_tier *tier, uint64_t first_write);
/* Raises `used` above all objects of our log that are there. Blocks. GW_E_UNREACHABLE. */
GW_MUST_USE enum gw_status gwi_tier_look_for_used(struct gw_tier *tier);
void gwi_tier_drop(struct gw_tier *tier);   /* uploader */
void gwi_tier_delete(struct gw_tier *tier); /* uploader */
void gwi_tier_count_remote(struct gw_tier *tier);
GW_MUST_USE enum gw_status gwi_tier_save(struct gw_tier *tier, uint64_t local_from,
                                         uint64_t shared);

/* ---- tier_objects.c ---- */
GW_MUST_USE enum gw_status gwi_tier_objects_add(struct tier_objects *o, struct tier_object object);
bool gwi_tier_objects_find(struct tier_objects *o, uint64_t at, struct tier_object *out);
void gwi_tier_objects_remove(struct tier_objects *o, uint64_t first, uint32_t incarnation);
/* The place of the first object that ends above `at`. Under the lock, or alone. */
uint32_t gwi_tier_objects_place(const struct tier_objects *o, uint64_t at);

/* ---- tier_files.c ---- */
void gwi_tier_object_name(uint64_t cluster, uint64_t log_id, uint64_t first, uint32_t incarnation,
                          char name[GWI_TIER_NAME_BYTES]);
void gwi_tier_prefix(uint64_t cluster, uint64_t log_id, char name[GWI_TIER_NAME_BYTES]);
/* Of a name behind the prefix. */
bool gwi_tier_object_name_read(const char *name, uint64_t *first, uint32_t *incarnation);
void gwi_tier_owner_name(const struct gw_tier *tier, char name[GWI_TIER_NAME_BYTES]);
size_t gwi_tier_owner_write(const struct gw_tier *tier, char *room, size_t bytes);
/* Whose it is; GW_E_CORRUPT: not to be read. `why` says what is wrong with another's. */
GW_MUST_USE enum gw_status gwi_tier_owner_read(const struct gw_tier *tier, const uint8_t *data,
                                               size_t bytes, enum tier_owner *owner, bool *stale,
                                               char *why, size_t why_bytes);
/* Text of tier.json; the caller frees. NULL: no memory. */
char *gwi_tier_state_write(uint64_t cluster, uint64_t store_id, const struct tier_state *state,
                           size_t *bytes);
/* GW_E_CORRUPT, GW_E_REFUSED (another store's), GW_E_VERSION, GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_tier_state_read(uint64_t cluster, uint64_t store_id,
                                               const char *text, size_t bytes,
                                               struct tier_state *state);
GW_MUST_USE enum gw_status gwi_tier_state_load(const struct gw_tier *tier, struct tier_state *state,
                                               char *error, size_t error_bytes);
GW_MUST_USE enum gw_status gwi_tier_state_save(const struct gw_tier *tier,
                                               const struct tier_state *state);
#endif
