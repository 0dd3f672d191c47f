/* source.h - the control machine of one outgoing job. Sans-I/O: the server tells it what happened
 * and does what it returns, in order.
 *
 *   NEW --START--> PREPARING --PREPARED--> SAMPLING --time or bytes are over--> ASKING
 *      --JOB committed--> CUTTING --> SECURING --> COLLECTING --> YOURS --> SHIPPING --every chunk
 * acknowledged, SECURED--> ARRIVED
 *      --JOB closing--> UNLINKING --> SETTLING --> CLOSED --> DONE
 *   before the commit: PREPARING, SAMPLING, ASKING --> GIVING_UP --JOB failed, cancelled-->
 * CANCELLED behind it, the target is lost for good: any --JOB revived--> REVIVED SAMPLING: what is
 * read or written of the range is gathered at the log's tail, to be sent first; left out where the
 * store has no device or the job's options say so. A pause ends it, and it begins anew when the job
 * goes on. The commit is the coordinator's: until a JOB shows it we own and serve the range, after
 * it there is no way but forward (MIGRATION R3). Beside the state runs the connection: down,
 * connecting, greeting (PREPARE sent), ready (PREPARED came). Lost and regained past the commit:
 * the attempt is raised and PREPARE, "yours" and what is not acknowledged go out again, all of it
 * idempotent; a target with a new incarnation gets everything (R22). If we restart, the job starts
 * again from what the coordinator says of it, with what we have recovered.
 *
 * Thread rule: one thread at a time. The machine owns the frames in its actions until the next
 * step. Layer: migration. */
#ifndef GW_MIGRATION_SOURCE_H
#define GW_MIGRATION_SOURCE_H

#include <stdbool.h>

#include "client/wire/control.h"
#include "client/wire/peer.h"
#include "migration/range.h"

struct gw_source;

enum gw_source_state {
    GW_SOURCE_NEW = 0,
    GW_SOURCE_PREPARING,
    GW_SOURCE_SAMPLING,
    GW_SOURCE_ASKING,
    GW_SOURCE_GIVING_UP,
    GW_SOURCE_CUTTING,
    GW_SOURCE_SECURING, /* what was executed on the range is being made durable (R5) */
    GW_SOURCE_COLLECTING,
    GW_SOURCE_YOURS,
    GW_SOURCE_SHIPPING,
    GW_SOURCE_ARRIVED,
    GW_SOURCE_UNLINKING,
    GW_SOURCE_SETTLING,
    GW_SOURCE_CLOSED,
    GW_SOURCE_DONE,
    GW_SOURCE_CANCELLED,
    GW_SOURCE_REVIVED,
    GW_SOURCE_STATES
};
const char *gw_source_state_name(enum gw_source_state state);

enum gw_source_event_kind {
    GW_SOURCE_ON_START = 1, /* once, first; the job's state may already be beyond the commit */
    GW_SOURCE_ON_JOB,       /* a JOB of the coordinator: .job */
    GW_SOURCE_ON_PEER_UP,   /* the control connection stands */
    /* It could not be opened or has ended, or a BULK connection has: what was in flight is lost.
     * The server closes the job's other outgoing connections and opens them again when told to
     * ship. */
    GW_SOURCE_ON_PEER_DOWN,
    GW_SOURCE_ON_PREPARED,   /* .prepared, .attempt (frame.view) */
    GW_SOURCE_ON_SAMPLED,    /* of BEGIN_SAMPLING: as many bytes as wanted have gathered */
    GW_SOURCE_ON_CUT_PASSED, /* of BEGIN_CUT. The first: every dispatcher has crossed and every
                              * operation of the range has taken effect or was returned (R5) */
    GW_SOURCE_ON_SECURED,    /* of SECURE */
    GW_SOURCE_ON_APPLIED_COLLECTED, /* .applied */
    GW_SOURCE_ON_YOURS_ACK,         /* .part (frame.sequence), .attempt */
    GW_SOURCE_ON_ALL_CHUNKS_ACKED,  /* gw_outgoing_done; .attempt of the last ack */
    GW_SOURCE_ON_TARGET_SECURED,    /* SECURED came: .attempt (frame.view), .incarnation */
    GW_SOURCE_ON_UNLINKED,          /* gw_outgoing_unlinked */
    GW_SOURCE_ON_TICK,              /* at least every 100 ms */
};

struct gw_source_event {
    enum gw_source_event_kind kind;
    uint64_t attempt;
    uint64_t part;
    uint64_t incarnation;
    const struct gw_job *job;
    const struct gw_prepared *prepared;
    struct {
        const struct gw_applied *entries; /* copied */
        size_t count;
        uint32_t version_highest; /* gw_store_version_highest after the cut (R19) */
    } applied;
};

enum gw_source_action_kind {
    GW_SOURCE_DO_CONNECT_PEER = 1, /* to job.to_address; answer PEER_UP or PEER_DOWN */
    GW_SOURCE_DO_SEND_PEER,        /* .frame on the control connection; dropped if that is down */
    GW_SOURCE_DO_SEND_EVENT,       /* .event to the coordinator; the server adds its numbers;
                                    * dropped if that is down: the machine repeats */
    GW_SOURCE_DO_BEGIN_SAMPLING,   /* gw_store_sample with the range; SAMPLED if its bytes end it */
    GW_SOURCE_DO_END_SAMPLING,     /* gather no more; what was gathered is sent first, if it comes
                                    * to that */
    GW_SOURCE_DO_BEGIN_CUT,        /* publish a view in which the range is .range */
    GW_SOURCE_DO_SECURE,           /* make durable what was executed so far; ON_SECURED then */
    GW_SOURCE_DO_COLLECT_APPLIED,  /* from the sessions of every dispatcher */
    GW_SOURCE_DO_START_SHIPPING,   /* gw_outgoing_create; open BULK connections; .attempt,
                                    * .indirection: the target follows indirections to our log */
    GW_SOURCE_DO_RESTART_SHIPPING, /* gw_outgoing_restart; open BULK connections anew; .attempt,
                                    * .indirection, .from_scratch: earlier acks do not count */
    GW_SOURCE_DO_BEGIN_UNLINK,     /* data plane: gw_outgoing_unlink_begin, then unlink */
    GW_SOURCE_DO_FINISH,           /* .result: destroy job and machine. GW_OK: everything is
                                    * unlinked; GW_E_CANCELLED: the range is ours as before */
};

struct gw_source_action {
    enum gw_source_action_kind kind;
    enum gw_status result;
    enum gw_range_state range;
    bool from_scratch, indirection;
    uint64_t attempt;
    const uint8_t *frame;
    size_t frame_bytes;
    struct gw_job_event event;
};

#define GW_SOURCE_ACTIONS_MAX 12u
struct gw_source_actions {
    uint32_t count;
    struct gw_source_action action[GW_SOURCE_ACTIONS_MAX];
};

/* incarnation: of this server's process. self_address: as advertised. *job is copied.
 * GW_E_INVALID: no slots, or chunk_bits above GW_CHUNK_BITS_MAX; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_source_create(const struct gw_job *job, uint64_t incarnation,
                                            const char *self_address, uint8_t chunk_bits,
                                            struct gw_source **out);
void gw_source_destroy(struct gw_source *source); /* NULL is ignored */
/* What our store can do, before the first step: it samples (it has a device), and its log is in a
 * shared tier. Neither without this call. */
void gw_source_able(struct gw_source *source, bool samples, bool shared_tier);
/* Is what our store held when the job came durable? Said before a step; yes until it is said. While
 * it is not, the sampling phase waits with the end, some seconds at most. */
void gw_source_durable(struct gw_source *source, bool durable);

/* Fills *out (emptied first). Events that do not fit the state are repeats or come late and are
 * dropped. Out of memory: nothing happens, a repeat does it again. */
void gw_source_step(struct gw_source *source, const struct gw_source_event *event, uint64_t now_ns,
                    struct gw_source_actions *out);

enum gw_source_state gw_source_state(const struct gw_source *source);
const struct gw_job *
gw_source_job(const struct gw_source *source); /* as the coordinator told last */
uint8_t gw_source_chunk_bits(const struct gw_source *source);
uint64_t gw_source_attempt(const struct gw_source *source);
/* May hot records be sent first: has the sampling phase ended as it should? */
bool gw_source_sampled(const struct gw_source *source);
#endif
