/* store.h - the engine's public face: a latch-free index over a hybrid log, worked in batches.
 *
 * Thread rule: a struct gw_thread belongs to one thread, which brackets each batch (one or several
 * calls of execute, walk, unlink) with gw_store_enter and gw_store_exit. Nothing waits in between:
 * what cannot be done now is answered GW_RETRY and left to the caller's next turn. Everything else
 * here may be called by any thread at any time, open and close apart.
 * Ownership: the store owns index and log; ops, keys, values and `room` are the caller's.
 * What the words mean and which rules they keep: docs/engine.md. Layer: index. */
#ifndef GW_INDEX_STORE_H
#define GW_INDEX_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/memory.h"
#include "index/base/slots.h"
#include "index/base/status.h"

struct gw_store;
struct gw_thread;
struct gw_epoch;
struct gw_device;
struct gw_clock;

#define GW_STORE_PAGE_BITS     22u /* default: pages of 4 MiB */
#define GW_STORE_PAGE_BITS_MIN 16u /* servers offer 20 to 26; smaller ones are for tests */
#define GW_STORE_PAGE_BITS_MAX 26u
#define GW_STORE_THREADS_MAX   256u
#define GW_KEY_BYTES_MAX       65535u

struct gw_store_options {
    uint64_t log_bytes; /* memory of the log, cut to whole pages; at least two, with a device six */
    uint64_t index_bytes; /* memory of the index at the start, all in: the largest power of two of
                           * buckets within two thirds of it, the rest for overflow lines. 0: half
                           * of log_bytes */
    uint64_t index_bytes_max; /* the index may grow to this; what it takes beyond index_bytes the
                               * log gives up, so that log_bytes + index_bytes bounds both at any
                               * time. 0: no growth */
    uint32_t page_bits;       /* 0: GW_STORE_PAGE_BITS */
    uint32_t threads_max;     /* threads open at the same time; 0: 64 */
    uint64_t hash_seed;       /* the cluster's, ENGINE H16 */
    uint64_t log_start;       /* first address, cut to a page; 0: the second page */
    bool populate;            /* touch all memory now instead of at first use */
    struct gw_device *device; /* borrowed; NULL: memory only. Its queue q serves the q-th thread */
    /* Cache mode: when memory (or the device, if there is one) is used up, the oldest records are
     * dropped instead of refusing writes; a record read shortly before its turn gets another. */
    bool evict;
    uint32_t cold_reads_max;      /* device reads of one thread under way; 0: 512 */
    const struct gw_clock *clock; /* for expiry: its wall time; NULL: gw_clock_coarse() */
};

/* GW_E_INVALID: an option out of range; GW_E_NOMEM. *out is then not written. */
GW_MUST_USE enum gw_status gw_store_open(const struct gw_store_options *options,
                                         struct gw_store **out);
void gw_store_close(struct gw_store *store); /* requires: every thread closed. NULL is ignored */

/* One for each dispatcher thread. It takes part in cuts (epoch.h) from here on.
 * GW_E_LIMIT: threads_max are open; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_store_thread_open(struct gw_store *store, struct gw_thread **out);
void gw_store_thread_close(struct gw_thread *thread); /* requires: not inside. NULL is ignored */

/* Enters the epoch, then loads the log's boundaries and the time; calls do not nest. After it,
 * before reading its input, a dispatcher looks for a cut (gw_cut_next) and loads its view (ENGINE
 * rule 12). */
void gw_store_enter(struct gw_thread *thread);
void gw_store_exit(struct gw_thread *thread);
/* Runs epoch triggers and device callbacks that are due, and does a bounded share of the store's
 * own work: flushing, making room, growth, compaction. Call outside of enter/exit, once a turn and
 * before sleeping. Returns true when there is more to do at once: do not sleep for long then. */
bool gw_store_poll(struct gw_thread *thread);
/* Hashes of keys whose device reads have ended since the last call: execute again what was answered
 * GW_PENDING for them. Returns how many were stored in `hashes`; call until it returns 0, in every
 * turn: results stay until they are named and take up the room of other reads. A hash may come more
 * than once, and one that nobody waits for any more may come too. */
uint32_t gw_store_ready(struct gw_thread *thread, uint64_t *hashes, uint32_t max);
/* Device reads and writes of this thread under way: while there are some, a sleeping thread wakes
 * up by the descriptor of gw_store_wait_fd (-1: none, poll instead). */
uint32_t gw_store_in_flight(const struct gw_thread *thread);
int gw_store_wait_fd(const struct gw_thread *thread);
struct gw_epoch *gw_store_epoch(struct gw_store *store);
uint32_t gw_store_epoch_slot(const struct gw_thread *thread); /* for gw_cut_next and _acknowledge */

/* ---- operations ---- */

enum gw_verb {
    GW_VERB_READ = 1, /* OK, NOT_FOUND */
    GW_VERB_UPSERT,   /* OK */
    GW_VERB_DELETE,   /* OK: was live; NOT_FOUND: absent or deleted already, nothing changed */
    GW_VERB_ADD,      /* OK, WRONG_TYPE (bytes are there), OVERFLOW; adds `delta` */
    GW_VERB_CAS,      /* OK: replaced, the version was expected_version; MISMATCH; NOT_FOUND */
    GW_VERB_INSERT,   /* OK; EXISTS: a live record is there */
    GW_VERB_FETCH,    /* the newest record as it lies there: OK, TOMBSTONE, NOT_FOUND; END: LEADS */
    GW_VERB_ARRIVE, /* OK: a migrated record was inserted; EXISTS: a record or tombstone is there */
    GW_VERB_TOUCH,  /* OK: has the expiry of the operation now, or none; NOT_FOUND */
    GW_VERB_READ_TOUCH, /* the same, and gives the value */
    GW_VERB_APPEND,     /* OK: out_bytes is the new length; WRONG_TYPE (a counter is there) */
    GW_VERB_PREPEND,    /* likewise */
    GW_VERB_GETSET, /* as UPSERT, and gives the old value: kind GW_KIND_NONE where there was none */
    GW_VERB_GETDEL, /* as DELETE, and gives the old value */
    /* Recovery only (store_recover.h): the key is now this value, counter or tombstone (flags
     * COUNTER, TOMBSTONE, HAS_EXPIRY) with version expected_version, whatever it was: OK. Looks at
     * nothing older. */
    GW_VERB_RESTORE,
};

/* Absent means unknown: where the key has no record and no tombstone the answer is GW_ABSENT and
 * nothing changes, whatever the verb (ARRIVE ignores the flag). A blind write needs no pull: leave
 * the flag off for UPSERT, then it inserts. */
#define GW_OP_UNSETTLED 1u
/* UPSERT, INSERT, CAS, GETSET, ARRIVE: the value is the counter `number` (in). */
#define GW_OP_COUNTER   2u
#define GW_OP_TOMBSTONE 4u /* ARRIVE: a deleted key; value and number are not read */
/* FETCH: GW_END where nothing of the key is in memory and its chain goes on in the shared tier:
 * nothing is read then, and gw_store_lead (indirection.h) says where. */
#define GW_OP_LEADS 2u
/* ADD: a key without a live value gets `initial` + delta; without the flag initial is 0. */
#define GW_OP_HAS_INITIAL 8u
/* Every verb that writes but DELETE and GETDEL: the key expires at expiry_ms. Without the flag
 * UPSERT, INSERT, CAS, GETSET and ARRIVE leave it without expiry, TOUCH and READ_TOUCH take its
 * expiry away, and ADD, APPEND and PREPEND keep what it has. */
#define GW_OP_HAS_EXPIRY 16u
/* UPSERT, CAS, GETSET: a live key keeps its expiry. HAS_EXPIRY overrides it. */
#define GW_OP_KEEP_EXPIRY 32u
/* ADD: `value` is 16 bytes, the bounds low and high as little-endian i64 (low above high:
 * E_INVALID). A sum beyond them is OVERFLOW and changes nothing; with CLAMP it becomes the bound,
 * also where the value lay beyond it before. */
#define GW_OP_BOUNDED 64u
#define GW_OP_CLAMP   128u
/* APPEND, PREPEND: NOT_FOUND where the key has no live value; without the flag it is created. */
#define GW_OP_MUST_EXIST    128u

#define GW_ADD_BOUNDS_BYTES 16u

enum gw_kind { GW_KIND_BYTES = 0, GW_KIND_COUNTER = 1, GW_KIND_NONE = 2 /* GETSET only */ };

/* In: verb, flags, key, hash, slot (gw_store_hash fills both), and what the verb says.
 * Out: status; version (OK, EXISTS, MISMATCH, TOMBSTONE: of the record now in force); kind;
 * number (of a counter: READ, FETCH, ADD, and the old one of GETSET, GETDEL, READ_TOUCH); out,
 * out_bytes (bytes, with the same verbs; 8-byte aligned if `room` is, in `room`); expiry_ms (READ,
 * FETCH; 0: none). kind is valid with OK. A failed or refused operation changed nothing.
 * Expiry: Unix time in ms. A key whose time has come is as good as deleted for every verb, from the
 * first batch entered at or after it; its version goes on rising. A time that is past when it is
 * set deletes the key in the same change (OK; the version is that of the tombstone). */
struct gw_op {
    const uint8_t *key;
    const uint8_t *value;
    uint64_t hash;
    int64_t delta, initial;
    uint32_t value_bytes;
    uint32_t expected_version; /* CAS: must equal; ARRIVE: the version that the record keeps */
    uint16_t key_bytes, slot;
    uint8_t verb, flags;
    /* results */
    int8_t status;
    uint8_t kind;
    uint32_t version;
    uint32_t out_bytes;
    int64_t number;
    const uint8_t *out;
    uint64_t expiry_ms; /* in with HAS_EXPIRY, out of READ and FETCH; see gw_store_give_results */
    const uint8_t *result; /* see gw_store_give_results */
    uint32_t result_bytes;
    uint8_t effect; /* GW_EFFECT_... (store_cut.h), of writes */
};

void gw_store_hash(const struct gw_store *store, struct gw_op *op); /* fills hash and slot */
uint64_t gw_store_hash_seed(const struct gw_store *store);

/* Executes ops[0..n) as if one after the other. Requires: entered.
 * Statuses beside those of the verbs:
 *   GW_RETRY        somebody else holds the record; every later operation of this call on the same
 *                   key is left undone with GW_RETRY, so that their order stays
 *   GW_PENDING      the record is on the device and is being read: execute the operation again when
 *                   gw_store_ready names its hash. Nothing has happened yet: it takes effect,
 * whole, when it is executed and answered otherwise. Later operations of this call on the same key
 * are left undone with GW_PENDING too; the caller keeps those of later calls behind it
 *   GW_E_CORRUPT, GW_E_IO   its record, or one before it in its chain, cannot be read from the
 *                   device; nothing changed
 *   GW_E_UNREACHABLE        the same, because it lies in an object store that does not answer. An
 *                   UPSERT without KEEP_EXPIRY depends on nothing there: it goes on, with a version
 *                   above all that were given so far (docs/decisions/0011)
 *   GW_ABSENT       see GW_OP_UNSETTLED; later operations of this call on the same key
 *                   likewise, arrivals apart
 *   GW_E_FULL       neither log nor index has room; reads and changes in place go on
 *   GW_E_TOO_LARGE  key and value, the new one of APPEND and PREPEND, do not fit a page
 *                   (gw_store_record_bytes_max)
 *   GW_E_INVALID    key of 0 bytes, unknown verb, bounds that contradict one another
 *   GW_WOULD_BLOCK  the value to be given does not fit what is left of `room`; this and all later
 *                   operations are not executed, nothing has changed. Go on with a new room, at
 * least out_bytes large. Returns the number executed; *room_used is what lies in room. */
uint32_t gw_store_execute(struct gw_thread *thread, struct gw_op *ops, uint32_t n, uint8_t *room,
                          size_t room_bytes, size_t *room_used);

/* A record needs 16 + round8(key) + value bytes, 8 more if it expires, rounded up to 16; this is
 * the limit of that sum. */
uint64_t gw_store_record_bytes_max(const struct gw_store *store);

/* ---- walking ---- */

struct gw_record_view {
    const uint8_t *key; /* borrowed until the walk returns */
    uint16_t key_bytes, slot;
    uint64_t hash;
    bool tombstone, arrived; /* tombstone: deleted or expired */
    uint8_t kind;            /* enum gw_kind */
    uint32_t version;
    const uint8_t *value; /* bytes: an untorn copy, good until fn returns */
    uint32_t value_bytes; /* counter: 8 */
    int64_t number;       /* counter */
    uint64_t expiry_ms;   /* 0: none */
};

struct gw_cursor {
    uint64_t hash;  /* start: the first hash wanted */
    uint64_t ahead; /* 0 at the start; the walk's own */
    bool done;
};

typedef bool (*gw_walk_cb)(void *ctx, const struct gw_record_view *view);

/* Visits the newest record of every key (of deleted and expired ones too if `tombstones`) whose
 * hash lies in [cursor->hash, hash_last] and whose slot is in `slots` (NULL: all), bucket by
 * bucket, at most buckets_max buckets. A key that is there all the time is visited at least once.
 * fn returns false to stop: the cursor stays at the start of this bucket, which is visited again
 * from its first record later. A record that is locked for too long stops the walk in the same way,
 * and so does a bucket with records on the device until they have been read: call again in a later
 * turn. Records that cannot be read are left out and counted (gw_store_stats.corrupt). Requires:
 * entered; fn does not call the store with this thread. */
void gw_store_walk(struct gw_thread *thread, struct gw_cursor *cursor, uint64_t hash_last,
                   const struct gw_slots *slots, bool tombstones, uint32_t buckets_max,
                   gw_walk_cb fn, void *ctx);

/* The same, tombstones too, for who has visited pages by gw_store_walk_page before, in this life of
 * the store and while nobody else could change a key of these slots: `brought` says of which pages
 * (by number) every record was handed out. Keys of which one of these is the newest record are left
 * out and not read, but for some that share a chain with others. */
typedef bool (*gw_walk_brought_cb)(void *ctx, uint64_t page);
void gw_store_walk_rest(struct gw_thread *thread, struct gw_cursor *cursor, uint64_t hash_last,
                        const struct gw_slots *slots, uint32_t buckets_max,
                        gw_walk_brought_cb brought, gw_walk_cb fn, void *ctx);

struct gw_page_cursor {
    uint64_t owner;   /* tells those apart who read the same page at the same time on one thread */
    uint64_t page;    /* its number: address / bytes of a page */
    uint64_t at, end; /* 0, both, to begin */
};

/* Visits the records of a page on the device in the order of their addresses, and hands out those
 * of these slots to which the index leads at once: the newest ones of their keys, tombstones and
 * expired ones too. It looks at records_max at most and goes on there in the next call; fn returns
 * false to be given the same record again then.
 *   GW_OK        there is more
 *   GW_END       the page is at its end, or gone
 *   GW_PENDING   its next piece is being read: again in a later turn
 *   GW_NOT_YET   too much is being read: again in a later turn
 *   GW_E_UNREACHABLE  it lies in the object store, which does not answer: again later
 *   else         it cannot be read
 * Requires: entered; the page is one of gw_store_pages_cold; fn does not call the store with this
 * thread. */
GW_MUST_USE enum gw_status gw_store_walk_page(struct gw_thread *thread,
                                              struct gw_page_cursor *cursor,
                                              const struct gw_slots *slots, uint32_t records_max,
                                              gw_walk_cb fn, void *ctx);
/* The pages that are on the device only: [*first, *end). Requires: entered. */
void gw_store_pages_cold(struct gw_thread *thread, uint64_t *first, uint64_t *end);
uint64_t gw_store_page_bytes(const struct gw_thread *thread);

/* Records that this thread has met and could not read so far: raised by a walk that leaves some
 * out. Its thread only. */
uint64_t gw_store_unreadable(const struct gw_thread *thread);

/* Removes every index entry of these slots in the buckets that [cursor->hash, hash_last] touches,
 * at most buckets_max of them. Only for slots that no operation may touch: not owned, and a cut
 * has passed. An entry covers whole buckets: hand in ranges that end where buckets end (prefixes
 * shorter than the table's), or all of it. Adds to *unlinked. Requires: entered. */
void gw_store_unlink(struct gw_thread *thread, struct gw_cursor *cursor, uint64_t hash_last,
                     const struct gw_slots *slots, uint32_t buckets_max, uint64_t *unlinked);

/* ---- versions, boundaries, numbers ---- */

/* The highest version that any record was given so far (not lower than the floor). Exact once the
 * threads that write have passed a cut. */
uint32_t gw_store_version_highest(const struct gw_store *store);
/* Keys created from now on get versions above floor; floors only rise. */
void gw_store_version_floor(struct gw_store *store, uint32_t floor);

/* Until the next call compaction keeps the tombstones and expired records of these slots, and cache
 * mode does not drop what was written to them here: older records of their keys may still arrive
 * (ENGINE H17). A page that is under work now may not know it yet: call it before the first record
 * is asked for, with a cut in between. NULL: no slots. */
void gw_store_keep_tombstones(struct gw_store *store, const struct gw_slots *slots);

/* Makes all that is in the log now read-only: later changes copy to the tail. It takes two epochs;
 * gw_store_poll drives them. GW_E_FULL: too many triggers wait, poll and try again. */
GW_MUST_USE enum gw_status gw_store_shift_read_only(struct gw_store *store);

struct gw_store_stats {
    uint64_t keys; /* live keys, approximate: expired ones count until replaced or dropped */
    uint64_t log_bytes_used;  /* from the log's begin to its tail, on the device or not */
    uint64_t log_bytes_total; /* memory of the log that it may use now */
    uint64_t log_begin, log_head, log_flushed, log_read_only, log_tail;
    uint64_t live_bytes;  /* of log_bytes_used: newest records, tombstones included */
    uint64_t index_bytes; /* buckets and overflow lines, reserved */
    uint64_t index_buckets, index_overflow_used, index_overflow_total, index_splits;
    enum gw_memory_kind log_pages, index_pages; /* which pages the system gave */
    bool full;                                  /* the last write that needed room got none */
    uint64_t refused_full;                      /* operations answered GW_E_FULL */
    uint64_t retries;                           /* operations answered GW_RETRY */
    uint64_t copies;                            /* records superseded by a copy at the tail */
    uint32_t walk_longest;                      /* records met in the longest look-up */
    uint64_t cold;     /* operations and walks that needed a record from the device */
    uint64_t promoted; /* records copied to the tail since they were read */
    uint64_t evicted;  /* live records dropped (cache mode) */
    uint64_t expired;  /* records found expired by compaction or eviction */
    uint64_t corrupt;  /* records that could not be read */
    uint64_t compacted_bytes, compacted_live_bytes; /* log read by compaction; of it, copied */
    uint64_t compact_reads; /* device reads made only to tell whether a record is dead */
    /* Where the memory is, in bytes: */
    uint64_t memory_log, memory_index, memory_cold, memory_chains, memory_threads, memory_device;
};
void gw_store_stats(const struct gw_store *store, struct gw_store_stats *out);
#endif
