/* outgoing.h - the source's data plane of one job: all dispatchers walk disjoint chunks of the
 * index between batches and answer pulls. From START_SHIPPING on, behind our cut, the range's
 * records are frozen (MIGRATION R5), so what is read here needs no care for writers.
 *
 * Of each key the newest version goes out, tombstones too (R14); all frames of a chunk are made by
 * one dispatcher and go out on its one connection, in order, numbered from 0, the last one marked.
 * Where indirections are allowed, records that lie in the shared tier stay there, and behind the
 * others of their chain comes an indirection (index/indirection.h) in their place. Where they are
 * not, what lies on the device goes first, page by page in the order in which it lies there, and
 * the chunks leave it out, if the range's records lie close enough for that. Before all that go the
 * hot records that the sampling phase gathered, in frames of their own.
 * Thread rule: functions with a `dispatcher` are called by that dispatcher alone, different ones at
 * the same time; the others by anyone at any time, create and destroy apart. Those with a thread
 * require: entered. Layer: migration. */
#ifndef GW_MIGRATION_OUTGOING_H
#define GW_MIGRATION_OUTGOING_H

#include <stdbool.h>

#include "client/wire/peer.h"
#include "index/store.h"
#include "migration/range.h"

struct gw_outgoing;

/* *slots is copied. GW_E_INVALID: chunk_bits not in 1..GW_CHUNK_BITS_MAX; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_outgoing_create(uint64_t job, const struct gw_slots *slots,
                                              uint8_t chunk_bits, uint64_t attempt,
                                              uint32_t dispatchers, struct gw_outgoing **out);
void gw_outgoing_destroy(struct gw_outgoing *out); /* requires: no dispatcher uses it */

/* Zero, and without the call: none of it. */
struct gw_outgoing_options {
    uint64_t hot_bytes;   /* of hot records that go first, at most */
    uint64_t map_version; /* by which the range was given away (R16) */
    /* That will have to be sent: an estimate, for progress; 0 records: no page is read as such. */
    uint64_t bytes, records;
};
/* Before the first fill. */
void gw_outgoing_set(struct gw_outgoing *out, const struct gw_outgoing_options *options);
/* Are indirections allowed? Before the first fill of an attempt, that is before the restart. */
void gw_outgoing_indirect(struct gw_outgoing *out, bool allowed);

/* A frame of this size holds any record of the store; smaller ones serve while records fit. */
size_t gw_outgoing_frame_bytes_max(const struct gw_store *store);

/* Makes at most one CHUNK frame in room (8-byte aligned or not), looking at no more than
 * buckets_max buckets, or as many records of a page, and goes on there next time.
 *   GW_OK           *used bytes are to be sent, in this order, on this dispatcher's BULK
 *                   connection; 0: nothing to send yet, call again next turn
 *   GW_PENDING      likewise, and the walk waits for records from the device or for somebody who
 *                   holds one: calling again in the same turn is of no use
 *   GW_END          nothing left to claim: only acks, a restart or nothing at all can follow
 *   GW_E_TOO_LARGE  the next record does not fit the room; call again with a larger one
 * `attempt` is the one that the connection was opened for: once another is current, GW_END. A frame
 * that is lost afterwards is made up for by gw_outgoing_restart only. */
GW_MUST_USE enum gw_status gw_outgoing_fill(struct gw_outgoing *out, uint32_t dispatcher,
                                            struct gw_thread *thread, uint64_t attempt,
                                            uint8_t *room, size_t room_bytes, uint32_t buckets_max,
                                            size_t *used);

/* A CHUNK_ACK came, with this header. False: of another attempt, or no such chunk or page;
 * dropped. */
bool gw_outgoing_acked(struct gw_outgoing *out, const struct gw_frame *ack);
/* Sends over what is not acknowledged; from_scratch: all of it. Attempts rise. */
void gw_outgoing_restart(struct gw_outgoing *out, uint64_t attempt, bool from_scratch);
bool gw_outgoing_done(const struct gw_outgoing *out); /* every chunk is acknowledged */
uint64_t gw_outgoing_attempt(const struct gw_outgoing *out);

/* Answers one PULL (header *f, body behind it) by a PULL_ANSWER. Where indirections are allowed and
 * the PULL asks for leads, a key of which nothing is in memory, and whose chain goes on in the
 * shared tier, is answered by where (GW_PULL_LEAD), and not read. What does not fit, is
 * busy, is no key of the range or is being unlinked is answered "ask again" (2), and what cannot be
 * read by why (GW_PULL_UNREACHABLE, _CORRUPT, _UNREADABLE). scratch: for values while they are
 * read; both should take the largest record, else a large one is never answered. GW_E_PROTOCOL: the
 * body is not what the header says; GW_E_TOO_LARGE: not even the answers without records fit. A key
 * whose record is on the device is offered to `cold` (NULL: asked for again) with its place in the
 * frame: true means that the caller executes the look-up again when the store has the record, and
 * hands its outcome to gw_outgoing_pull_late. If any was taken the answer is GW_PENDING: room holds
 * the frame with the answers to the others, "elsewhere" in place of those that were taken, and
 * gw_outgoing_pull_more makes the frames in which these come. */
typedef bool (*gw_pull_cold_cb)(void *ctx, uint32_t index, const struct gw_op *op);
GW_MUST_USE enum gw_status gw_outgoing_answer_pull(
    struct gw_outgoing *out, struct gw_thread *thread, const struct gw_store *store,
    const struct gw_frame *f, struct gw_reader body, uint8_t *scratch, size_t scratch_bytes,
    uint8_t *room, size_t room_bytes, size_t *used, gw_pull_cold_cb cold, void *ctx);
/* One late answer, encoded into room (at least gw_outgoing_pull_late_bytes; op may be NULL with a
 * status that is no record). Returns the bytes used. `out` NULL: the job is gone. */
size_t gw_outgoing_pull_late_bytes(const struct gw_op *op);
size_t gw_outgoing_pull_late(struct gw_outgoing *out, const struct gw_op *op, enum gw_status st,
                             uint8_t *room, size_t room_bytes);
struct gw_pull_late {
    uint8_t *bytes; /* NULL: to be asked for again */
    size_t count;   /* 0: not there yet, or in another frame */
};
/* A further PULL_ANSWER to the PULL with that header, with the late answers (by key) that are
 * there; its bytes. Room: the header, a byte a key, and the late answers. */
size_t gw_outgoing_pull_more(const struct gw_frame *f, const struct gw_pull_late *late,
                             uint8_t *room, size_t room_bytes);
/* The answer of a server that has no such job (any more, or yet): "ask again" for every key. */
GW_MUST_USE enum gw_status gw_outgoing_answer_unknown(const struct gw_frame *f, uint8_t *room,
                                                      size_t room_bytes, size_t *used);

/* Closing (R24), after the coordinator said so: from begin on pulls are answered "ask again". Each
 * dispatcher calls unlink between batches until it gives GW_END (GW_OK: call again); when
 * gw_outgoing_unlinked says true everything is unlinked and a cut must pass. */
void gw_outgoing_unlink_begin(struct gw_outgoing *out);
GW_MUST_USE enum gw_status gw_outgoing_unlink(struct gw_outgoing *out, uint32_t dispatcher,
                                              struct gw_thread *thread, uint32_t buckets_max);
bool gw_outgoing_unlinked(const struct gw_outgoing *out);

struct gw_outgoing_progress {
    uint64_t bytes, records;           /* sent, repeats included, pulls too */
    uint64_t chunks_done, chunks;      /* acknowledged, all */
    uint64_t pulls;                    /* keys asked for */
    uint64_t pull_leads;               /* of them: told where they lie */
    uint64_t indirections;             /* sent, repeats included */
    uint64_t hot_records;              /* of `records`: those that went first */
    uint64_t retries;                  /* attempts begun over */
    uint64_t bytes_left, records_left; /* estimates */
};
void gw_outgoing_progress(const struct gw_outgoing *out, struct gw_outgoing_progress *progress);
#endif
