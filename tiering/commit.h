/* commit.h - the commit log of one dispatcher: blocks of results, appended in memory, written once,
 * made durable one flush at a time (ENGINE section 2, H21, rules 20 to 22).
 *
 *   append ... append --flush--> in flight --durable--> gone
 *   meanwhile the next appends gather for the next flush
 *
 * A block is n x 4 KiB: header, groups, zeros. A group is what one session did in a row, an entry
 * one operation's result. Who acknowledges when is not decided here (server/commit.h).
 * Files: commit/c<dispatcher>-<incarnation>-<first sequence>.gwl in the data directory, of a fixed
 * size (larger for a block that is larger), blocks back to back, every block written once, the
 * first is number 1; the last 8 KiB say what follows it and how long it is. A file is given back as
 * a whole when every block in it, and the first one behind it, belongs to an interval whose
 * checkpoint is finished. "spare-..." are files made ahead.
 *
 * Thread rule: all calls on one log by its dispatcher; commit_read.h by anybody. Layer: tiering. */
#ifndef GW_TIERING_COMMIT_H
#define GW_TIERING_COMMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

#define GW_COMMIT_MAGIC        0x4c475747u /* "GWGL" */
#define GW_COMMIT_FORMAT       1u
#define GW_COMMIT_BLOCK_UNIT   4096u
#define GW_COMMIT_BLOCK_HEADER 64u
#define GW_COMMIT_BLOCK_MAX                                                                        \
    (8u << 20) /* bytes of one block, and so of one flush, but for one                             \
                  entry that is larger */
#define GW_COMMIT_GROUP_BYTES 40u
#define GW_COMMIT_ENTRY_BYTES 16u
#define GW_COMMIT_TEXT_BYTES  512u

/* Block header, little-endian: magic 4, format 2, dispatcher 2, store id 8, sequence 8, durable
 * sequence 8 (highest known durable when this was made), incarnation 4, groups 4, interval 8, view
 * 8 (map version under which all of it was executed), payload bytes 4, CRC32C 4 of header (with
 * this field zero) and payload. */
struct gw_commit_block {
    uint64_t store_id, sequence, durable_sequence, interval, view;
    uint32_t incarnation, groups, payload_bytes;
    uint16_t dispatcher;
};

/* Group: session 8, confirmed 8 (every serial below it is not needed), first serial 8, entries 4,
 * bytes 4 (of its entries), flags 4 (0), zero 4. */
struct gw_commit_group {
    uint64_t session, confirmed, first_serial;
    uint32_t entries, bytes;
};

enum gw_commit_op {
    GW_COMMIT_SET = 1,       /* value: the record's, all of it */
    GW_COMMIT_COUNTER = 2,   /* value: 8 bytes */
    GW_COMMIT_TOMBSTONE = 3, /* no value */
    GW_COMMIT_NOTHING = 4,   /* nothing changed; status says what was answered */
};
#define GW_COMMIT_START   1u /* flags: needs no predecessor (GW_EFFECT_START) */
#define GW_COMMIT_EXPIRES 2u
#define GW_COMMIT_FIRST   4u /* its predecessor is in the image before this interval */

/* Entry: version 4, value bytes 4, key bytes 2, op 1, flags 1, status 1, reply 1, serial - first 2;
 * then [expiry 8], key, value, zeros to 8. */
struct gw_commit_entry {
    const uint8_t *key, *value; /* borrowed */
    int64_t number;             /* COUNTER: encoded from here, decoded to here; value is unused */
    uint64_t expiry_ms;         /* 0: none */
    uint64_t serial;
    uint32_t version, value_bytes;
    uint16_t key_bytes;
    uint8_t op, flags, reply; /* reply: what a replay is told besides, the caller's */
    int8_t status;
};

struct gw_commit;
struct gw_ssd_calls;

struct gw_commit_options {
    const char *dir; /* borrowed by open; made if its parent is there */
    uint64_t store_id;
    uint32_t incarnation;
    uint16_t dispatcher;
    uint64_t file_bytes;  /* whole block units; 0: 64 MiB */
    uint64_t limit_bytes; /* of this log's files; beyond it flush is GW_E_FULL until some are given
                             back; 0: none */
    const struct gw_ssd_calls *calls; /* NULL: the system */
};

/* GW_E_IO (also: the incarnation has been used already), GW_E_FULL (no room for the first file),
 * GW_E_NOMEM, GW_E_INVALID; `error` names the file. Begins a thread. */
GW_MUST_USE enum gw_status gw_commit_open(const struct gw_commit_options *options,
                                          struct gw_commit **out, char *error);
/* Waits for what is in flight, unless there is no room for it; what is only gathered is not
 * written. NULL is ignored. */
void gw_commit_close(struct gw_commit *log);

/* Begins a group; entries follow until the next begin, also over divisions and flushes. Always
 * GW_OK: its bytes are taken with its first entry. */
GW_MUST_USE enum gw_status gw_commit_group(struct gw_commit *log, uint64_t session,
                                           uint64_t confirmed, uint64_t first_serial);
/* Hot: some 10 ns. A serial must lie within 65,535 above the group's first, else begin a group.
 * GW_E_NOMEM: the gather buffer cannot grow (2 GiB is the end); GW_E_TOO_LARGE: beyond 1 GiB. The
 * entry's `flags` but EXPIRES, which follows from expiry_ms, are taken as they are. */
GW_MUST_USE enum gw_status gw_commit_append(struct gw_commit *log,
                                            const struct gw_commit_entry *entry);
size_t gw_commit_gathered(const struct gw_commit *log); /* bytes that the next flush takes */
/* Everything gathered so far belongs to this interval and view: what comes next goes to another
 * block. Nothing when nothing is gathered. */
void gw_commit_divide(struct gw_commit *log, uint64_t interval, uint64_t view);
/* Sends what is gathered (interval and view: of what was not divided yet). GW_PENDING: in flight;
 * GW_OK: nothing was gathered; GW_WOULD_BLOCK: one is in flight already; GW_E_FULL: limit_bytes or
 * the filesystem, for this flush or for the one in flight (which goes on trying); what is gathered
 * stays. GW_E_IO: broken, for good. Intervals never fall. */
GW_MUST_USE enum gw_status gw_commit_flush(struct gw_commit *log, uint64_t interval, uint64_t view);
/* GW_PENDING: still in flight; GW_OK: none is, all flushed so far is durable; GW_E_IO: a write or
 * its sync has failed: nothing is durable any more from here on, for good. Never waits. */
GW_MUST_USE enum gw_status gw_commit_poll(struct gw_commit *log);
/* Called when a flush has ended, from another thread: wake the dispatcher. Set before the first
 * flush. */
typedef void (*gw_commit_wake_cb)(void *ctx);
void gw_commit_on_done(struct gw_commit *log, gw_commit_wake_cb wake, void *ctx);
/* The checkpoint of `interval` is finished: files with nothing later are removed or used again. */
void gw_commit_truncate(struct gw_commit *log, uint64_t interval);

struct gw_commit_usage {
    uint64_t flushes, bytes_written;
    uint64_t file_bytes, spare_bytes; /* of all files; of them, of those that hold nothing needed */
    uint64_t flush_ns_last, flush_ns_longest;
    uint32_t files;
};
void gw_commit_usage(const struct gw_commit *log, struct gw_commit_usage *out); /* any thread */
#endif
