/* target.h - the control machine of one incoming job. Sans-I/O: the server tells it what happened
 * and does what it returns, in order.
 *
 *   NEW --PREPARE, JOB--> UNLINKING --> ENTERING (cut to WAITING) --> PREPARED
 *      --JOB committed, map, first YOURS--> RECEIVING --last part merged, map adopted--> SERVING
 *      --every chunk complete--> SECURING --durable, SECURED to the source--> SETTLING (cut to
 *      OWNED) --> COMPLETE --JOB done--> DONE
 *   before the commit is known: ABANDON or JOB cancelled --> LEAVING (cut to FOREIGN) --> CANCELLED
 *   restarted behind the commit (`resumed`): NEW --> ENTERING
 *
 * What a restarted target has recovered of the range is of this tenure and stays; all else comes
 * again, and is inserted where nothing is. Nothing of the range is executed before the last part of
 * "yours" is merged (MIGRATION R7); the view is adopted as soon as the commit is known, whoever
 * says so (R1). Everything may come twice; what belongs to an earlier attempt is dropped (R12).
 *
 * Thread rule: one thread at a time. The machine owns the frames in its actions until the next
 * step; entries of MERGE_APPLIED borrow the event. Layer: migration. */
#ifndef GW_MIGRATION_TARGET_H
#define GW_MIGRATION_TARGET_H

#include <stdbool.h>

#include "client/wire/control.h"
#include "client/wire/peer.h"
#include "migration/range.h"

struct gw_target;

enum gw_target_state {
    GW_TARGET_NEW = 0,
    GW_TARGET_UNLINKING,
    GW_TARGET_ENTERING,
    GW_TARGET_PREPARED,
    GW_TARGET_RECEIVING,
    GW_TARGET_SERVING,
    GW_TARGET_SECURING, /* served as before, while everything that has come is made durable */
    GW_TARGET_SETTLING,
    GW_TARGET_COMPLETE,
    GW_TARGET_DONE,
    GW_TARGET_LEAVING,
    GW_TARGET_CANCELLED,
    GW_TARGET_STATES
};
const char *gw_target_state_name(enum gw_target_state state);

enum gw_target_event_kind {
    GW_TARGET_ON_PREPARE = 1, /* .prepare, .attempt (frame.view) */
    GW_TARGET_ON_ABANDON,
    GW_TARGET_ON_JOB,         /* .job; first event of a job that was committed before we started */
    GW_TARGET_ON_MAP_ADOPTED, /* .map_version, .owned: does the map give us the whole range? */
    GW_TARGET_ON_YOURS,  /* .part (frame.sequence), .count, .attempt, .body behind the header */
    GW_TARGET_ON_MERGED, /* of MERGE_APPLIED: every entry of .part stands in its session;
                          * .attempt as in the action */
    GW_TARGET_ON_MERGE_FAILED, /* there was no memory for .part: its repeat is merged again */
    GW_TARGET_ON_UNLINKED,
    GW_TARGET_ON_CUT_PASSED,
    GW_TARGET_ON_ALL_COMPLETE, /* gw_incoming_done */
    GW_TARGET_ON_SECURED,      /* of SECURE */
    GW_TARGET_ON_PEER_DOWN,
    GW_TARGET_ON_TICK,
};

struct gw_target_event {
    enum gw_target_event_kind kind;
    bool owned;
    bool current; /* ON_PREPARE: the map says that this is the source's present process */
    uint32_t count;
    uint64_t attempt, part, map_version;
    const struct gw_prepare *prepare;
    const struct gw_job *job;
    struct gw_reader body;
};

enum gw_target_action_kind {
    GW_TARGET_DO_SEND_PEER = 1, /* .frame on the connection from which the source spoke last */
    GW_TARGET_DO_BEGIN_UNLINK,  /* gw_unlinker: whatever we have of the range */
    GW_TARGET_DO_BEGIN_CUT,     /* publish a view in which the range is .range; CUT_PASSED */
    GW_TARGET_DO_FETCH_MAP,     /* we know of the commit (.map_version) but not the map: ask the
                                 * coordinator and the source */
    GW_TARGET_DO_RECEIVE,       /* gw_incoming_create, or gw_incoming_restart if there is one;
                                 * .attempt */
    GW_TARGET_DO_MERGE_APPLIED, /* .entries into the sessions' windows; MERGED when all are in */
    GW_TARGET_DO_BEGIN_SERVING, /* gw_store_version_floor(.version_highest), then publish ARRIVING:
                                 * no cut is waited for. Pull, unless gw_target_flags says
                                 * GW_JOB_NO_PULLS: then operations wait for their chunk */
    GW_TARGET_DO_SECURE,        /* make durable whatever is in the store now; ON_SECURED then */
    GW_TARGET_DO_FINISH,        /* .result GW_OK or GW_E_CANCELLED: destroy job and machine */
};

struct gw_target_action {
    enum gw_target_action_kind kind;
    enum gw_status result;
    enum gw_range_state range;
    uint32_t version_highest;
    uint64_t attempt, part, map_version;
    const struct gw_applied *entries; /* until the next step */
    size_t entries_count;
    const uint8_t *frame;
    size_t frame_bytes;
};

#define GW_TARGET_ACTIONS_MAX 8u
struct gw_target_actions {
    uint32_t count;
    struct gw_target_action action[GW_TARGET_ACTIONS_MAX];
};

/* incarnation: of this server's process. *slots: the job's, copied. resumed: the job was committed
 * before this process started, and what it has of the range it has recovered under a map that gave
 * it the range already, so that nothing of an earlier tenure is left (R23). GW_E_INVALID: no slots;
 * GW_E_NOMEM. The chunk bits come with the PREPARE. */
GW_MUST_USE enum gw_status gw_target_create(uint64_t job, const struct gw_slots *slots,
                                            uint64_t incarnation, bool resumed,
                                            struct gw_target **out);
void gw_target_destroy(struct gw_target *target); /* NULL is ignored */
/* Our store follows indirections to the source's log: said in PREPARED. False without this call. */
void gw_target_able(struct gw_target *target, bool shared_tier);

/* Fills *out (emptied first). Returns GW_OK, or GW_E_PROTOCOL for a YOURS whose body is not what
 * its header says: close that connection. */
GW_MUST_USE enum gw_status gw_target_step(struct gw_target *target,
                                          const struct gw_target_event *event, uint64_t now_ns,
                                          struct gw_target_actions *out);

enum gw_target_state gw_target_state(const struct gw_target *target);
uint64_t gw_target_job(const struct gw_target *target);
const struct gw_slots *gw_target_slots(const struct gw_target *target);
uint8_t gw_target_chunk_bits(const struct gw_target *target);
uint64_t gw_target_attempt(const struct gw_target *target);
uint8_t gw_target_flags(const struct gw_target *target); /* GW_JOB_..., of the last PREPARE */
const char *gw_target_source_address(const struct gw_target *target); /* "" before PREPARE or JOB */
/* Is the range's commit known, so that the job cannot be cancelled any more? */
bool gw_target_committed(const struct gw_target *target);
#endif
