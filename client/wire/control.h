/* control.h - what a server and the coordinator say to each other. A server holds one connection to
 * the coordinator: JOIN, then JOINED with the map, then HEARTBEATs one way, MAPs and JOBs the
 * other, JOB_EVENTs whenever a job of which the server is the source moves on. The coordinator
 * answers a JOB_EVENT by a JOB (its new durable state) and, if the map changed, a MAP before it.
 * Events are idempotent: the server repeats the last one until the JOB shows it (after a reconnect,
 * too). "u8+" is u8 bytes and the bytes, "u16+" likewise (names.h). Any thread. Layer: client/wire.
 */
#ifndef GW_CLIENT_WIRE_CONTROL_H
#define GW_CLIENT_WIRE_CONTROL_H

#include <stdint.h>

#include "client/wire/frame.h"
#include "index/base/slots.h"

/* JOIN: u64 incarnation, u64 cluster (0: never joined), u8+ id, u8+ address. */
struct gw_join {
    uint64_t incarnation, cluster;
    char id[GW_ID_BYTES_MAX + 1];
    char address[GW_ADDRESS_BYTES_MAX + 1];
};
/* JOINED carries frame.view = map version, frame.count = the JOBs that follow it at once (this
 * server's open ones: before it knows them all it serves no slot), and the map as its body.
 * Refusals come as ERROR; with the status e_cancelled the operator has given this server up for
 * lost: it has to end, whatever it holds (see GW_JOB_REVIVED). */

/* HEARTBEAT: all u64: incarnation, map version held, operations done, keys, memory used, memory
 * total, sessions; of the SSD tier bytes used and their bound (0: none); of the store bytes that
 * are not superseded, operations that needed the device, live records dropped (a cache), records
 * found expired, bytes that compaction has read, and of those the live ones; of durability the mode
 * (0 none, 1 memory, 2 commit), number of the newest checkpoint (0: none), its age in ms and how
 * long it took in ns, bytes of commit logs, checkpoints taken and given up by this process, number
 * of the image that it was recovered from (0: none), how long that took in ms and how many entries
 * of commit logs were applied, sessions forgotten with writes in doubt; of the shared tier
 * the log id (0: there is none), the round of the newest NEEDS that came on this connection (0:
 * none), bytes in the object store, closed bytes that are not there yet, reads of other logs,
 * indirections that are live, and the orphan that was cleared away last (0: none). Then u8 needs,
 * u8 loads, u8 flags, u8[5] zero; for each need u64 log id (not 0, each once), u64 lowest address;
 * for each load u16 first slot, u16 last slot, u32 operations a second of late, rising, not
 * overlapping. Then u16+ what is wrong with durability or the shared tier, for people (empty:
 * nothing). */
#define GW_HEARTBEAT_NEEDS_MAX 64u
#define GW_HEARTBEAT_LOADS_MAX 64u
#define GW_HEARTBEAT_NEEDS_ALL 1u /* it needs more logs than fit: nothing at all may be deleted */
#define GW_HEARTBEAT_BYTES_MAX 2560u
struct gw_need { /* nothing of that log below `lowest` is needed by who says it */
    uint64_t log_id, lowest;
};
/* Ranges of about the same load, so that a hot slot is a range of its own. Sampled. */
struct gw_load {
    uint16_t first, last;
    uint32_t operations;
};
struct gw_heartbeat {
    uint64_t incarnation, map_version, operations, keys, memory_used, memory_total, sessions;
    uint64_t disk_used, disk_total, live_bytes, cold_reads, evicted, expired;
    uint64_t compacted, compacted_live;
    uint64_t durability, checkpoint, checkpoint_age_ms, checkpoint_ns, log_bytes;
    uint64_t checkpoints, checkpoints_failed;
    uint64_t recovered, recovery_ms, recovered_entries, sessions_forgotten;
    uint64_t log_id, round, shared_used, shared_lag, foreign_reads, indirections, orphan_done;
    uint32_t needs, loads;
    uint64_t flags;
    struct gw_need need[GW_HEARTBEAT_NEEDS_MAX];
    struct gw_load load[GW_HEARTBEAT_LOADS_MAX];
    char trouble[256];
};

/* NEEDS: u64 round, u64 keep from, u64 orphan. What others need of this server's log: from `keep
 * from` up (0: nothing may be deleted, UINT64_MAX: nobody needs anything). The server names the
 * round in its next heartbeats and with it says that what they tell of its needs is newer than this
 * frame. orphan: the log id of a server that was removed, whose objects nobody needs any more: this
 * server deletes them and says so in `orphan_done`; 0: none. Sent when it differs from the last. */
struct gw_needs {
    uint64_t round, keep_from, orphan;
};

/* Durable states of a job; moved only by the coordinator, by compare-and-set in one transaction
 * (MIGRATION R3).
 *   CREATED --commit--> COMMITTED --arrived--> CLOSING --closed--> DONE
 *      `--cancel, failure--> CANCELLED | FAILED
 * COMMITTED --the operator says that the target is lost--> REVIVED: the source owns the slots
 * again, with what it had when it gave them away. Its tenure is the one that it had before: what it
 * recovers of the range counts (MIGRATION R23). */
enum gw_job_state {
    GW_JOB_CREATED = 1, /* the source prepares the target and then asks for the commit */
    GW_JOB_COMMITTED,   /* the map names the new owner; no cancel any more */
    GW_JOB_CLOSING,     /* the target has every chunk: the source may unlink */
    GW_JOB_DONE,
    GW_JOB_CANCELLED,
    GW_JOB_FAILED,
    GW_JOB_REVIVED,
    GW_JOB_STATES
};
const char *gw_job_state_name(enum gw_job_state state); /* "created", ...; never NULL */

/* What the operator asks of a job. Zero: the default in brackets. Wire: u64 rate bytes, u64 sample
 * bytes, u32 max impact us, u32 sample ms, u8 flags, u8[7] zero. */
#define GW_JOB_NO_SAMPLING    1u
#define GW_JOB_NO_INDIRECTION 2u /* cold records are read and shipped */
#define GW_JOB_NO_PULLS       4u /* operations wait for their chunk; for measurements */
struct gw_job_options {
    uint64_t rate_bytes;    /* shipped a second at most [no cap] */
    uint64_t sample_bytes;  /* of hot records that go first [an eighth of the log's memory] */
    uint32_t max_impact_us; /* p99 of requests at both ends that shipping may cause [2000] */
    uint32_t sample_ms;     /* how long the hot set gathers [500] */
    uint8_t flags;
};

/* JOB: u64 id, u8 state, u8 paused (0, 1), u8[2] zero, u64 map version of the commit (0 before it
 * and in jobs that never had one, never 0 after), options, u8+ from id, u8+ to id, u8+ from
 * address, u8+ to address (may be empty: not known), slots, u16+ last error. Sent to both parties
 * at each change, and at JOIN for every open job of that server. */
struct gw_job {
    uint64_t id;
    uint64_t commit_version;
    enum gw_job_state state;
    bool paused; /* do not ask for the commit; behind it, ship nothing unasked */
    struct gw_job_options options;
    char from[GW_ID_BYTES_MAX + 1], to[GW_ID_BYTES_MAX + 1];
    char from_address[GW_ADDRESS_BYTES_MAX + 1], to_address[GW_ADDRESS_BYTES_MAX + 1];
    char error[256];
    struct gw_slots slots;
};

/* JOB_EVENT: u64 job, u8 event, u8[3] zero, then u64: bytes moved, records moved, chunks done,
 * chunks, pulls, pause ns (longest that any request of the range waited), bytes left and records
 * left (estimates, of what is in memory or not shared), bytes a second of late, indirections, hot
 * records, attempts begun over, p99 in us of requests of late here and at the target, pulls that
 * were answered by where a key lies, then u16+ text (failure's reason; progress: phase). */
enum gw_job_event_kind {
    GW_JOB_PROGRESS = 1, /* numbers only; changes no state */
    GW_JOB_ASK_COMMIT,   /* every dispatcher of the target has passed Prepare */
    GW_JOB_ARRIVED,      /* the target has acknowledged every chunk */
    GW_JOB_CLOSED,       /* unlinked, cut passed */
    GW_JOB_GAVE_UP,      /* before the commit: the target cannot or will not */
};
struct gw_job_event {
    uint64_t job;
    uint64_t bytes_moved, records_moved, chunks_done, chunks, pulls, pause_ns;
    uint64_t bytes_left, records_left, rate, indirections, hot_records, retries, pull_leads;
    uint64_t source_p99_us, target_p99_us;
    enum gw_job_event_kind event;
    char text[256];
};

/* Each encode writes the body only and marks the writer when the room does not suffice; control
 * characters of a text become blanks. Each decode takes the whole body and leaves nothing
 * unchecked: GW_E_PROTOCOL, and then *m is not written. */
void gw_join_encode(const struct gw_join *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_join_decode(struct gw_reader *r, struct gw_join *m);
void gw_heartbeat_encode(const struct gw_heartbeat *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_heartbeat_decode(struct gw_reader *r, struct gw_heartbeat *m);
void gw_needs_encode(const struct gw_needs *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_needs_decode(struct gw_reader *r, struct gw_needs *m);
void gw_job_encode(const struct gw_job *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_job_decode(struct gw_reader *r, struct gw_job *m);
void gw_job_event_encode(const struct gw_job_event *m, struct gw_writer *w);
GW_MUST_USE enum gw_status gw_job_event_decode(struct gw_reader *r, struct gw_job_event *m);
#endif
