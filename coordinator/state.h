/* state.h - the cluster map and the migration jobs as a pure state machine.
 * It has no clock, no network and no disk: events come in by the calls below, and what has to
 * happen for them is put into an outcome: *facts*, to be made durable, and *actions*, frames to be
 * sent. The godwit-coordinator drives it over SQLite and sockets, the simulator over its own.
 *
 *     gw_coordinator_tick(c, now_ns, wall_ms);      whenever something happens, or once a second
 *     gw_coordinator_...(c, ...);                   any number of events
 *     const struct gw_outcome *o = gw_coordinator_outcome(c);
 *     save(o->fact, o->facts);                      one transaction, durable before ...
 *     for each o->action: perform                   ... the first frame leaves
 *     gw_coordinator_clear(c);
 *
 * If the facts cannot be saved nothing may be sent: throw the coordinator away and start another
 * from the store. A start is: create, gw_coordinator_apply of every stored fact,
 * gw_coordinator_start. Replaying all facts ever given, in their order, is the same as loading the
 * newest of each.
 *
 * A job's durable state moves by compare-and-set only (MIGRATION R3): `was` in a fact is what it
 * must be in the store. Events may be repeated and late: each is answered with the job as it is.
 *
 * A *link* is the caller's number for a connection: never 0, never used again. Thread rule: one
 * thread. Layer: coordinator. */
#ifndef GW_COORDINATOR_STATE_H
#define GW_COORDINATOR_STATE_H

#include "client/wire/control.h"
#include "client/wire/map.h"
#include "coordinator/plan.h"

#define GW_JOBS_OPEN_MAX     1024u /* one more is refused */
#define GW_JOBS_FINISHED_MAX 1024u /* older ones are forgotten */
#define GW_JOB_PHASE_MAX     63u
#define GW_SERVER_UP_NS      UINT64_C(5000000000)  /* heard within: up */
#define GW_SERVER_SILENT_NS  UINT64_C(15000000000) /* silent for longer: its link is closed */
#define GW_PROGRESS_SAVE_NS  UINT64_C(1000000000)  /* numbers are saved once in so long */

struct gw_coordinator;

/* Everything durable about a job. Servers are indices in the map. */
struct gw_job_record {
    uint64_t id;
    enum gw_job_state state;
    uint32_t from, to;
    struct gw_slots slots;
    uint64_t commit_version; /* map version that gave the slots to `to`; 0 before */
    uint64_t bytes_moved, records_moved, chunks_done, chunks, pulls, pause_ns;
    uint64_t created_ms, updated_ms;
    uint64_t transferred_ms; /* wall time of the commit; 0 before */
    uint64_t finished_ms;    /* 0 while open */
    uint64_t since;          /* when the latest of the slots' tenures at `from` began */
    bool paused;
    bool queued;   /* a plan's move that has not begun: CREATED, but no server knows of it */
    uint64_t plan; /* whose move it is; 0: nobody's */
    struct gw_job_options options;
    uint64_t bytes_left, records_left, rate, indirections, hot_records, retries, pull_leads;
    uint64_t source_p99_us, target_p99_us;
    char phase[GW_JOB_PHASE_MAX + 1];
    char error[256];
};

static inline bool gw_job_is_open(enum gw_job_state state)
{
    return state == GW_JOB_CREATED || state == GW_JOB_COMMITTED || state == GW_JOB_CLOSING;
}

/* What is durable about a server beside its place in the map. needs: of foreign logs, at most what
 * it has said, less than that never (state_needs.c). */
struct gw_server_record {
    bool lost;    /* given up by the operator, or removed: it may never join again */
    bool removed; /* it owned nothing */
    bool drained; /* no plan gives it anything */
    bool needs_all;
    uint64_t log_id; /* of its shared tier; 0: none, or its objects are gone */
    uint32_t needs;
    struct gw_need need[GW_HEARTBEAT_NEEDS_MAX];
};

enum gw_fact_kind {
    GW_FACT_CLUSTER,  /* the one of its kind */
    GW_FACT_SERVER,   /* a server as it is now; index = number of servers: a new one */
    GW_FACT_OWNER,    /* these slots belong to that server, since that map version */
    GW_FACT_JOB,      /* a job as it is now; was = 0: a new one */
    GW_FACT_JOB_GONE, /* a finished job is forgotten */
    GW_FACT_PLAN,     /* a plan as it is now; was = 0: a new one; before its jobs */
    GW_FACT_PLAN_GONE
};

struct gw_fact {
    enum gw_fact_kind kind;
    union {
        struct {
            uint64_t version_was; /* compare-and-set; 0 with a new cluster */
            uint64_t version, cluster, hash_seed, next_job;
        } cluster;
        struct {
            uint32_t index;
            struct gw_map_server is;
            struct gw_server_record record;
        } server;
        struct {
            uint32_t server;
            uint64_t since;
            struct gw_slots slots;
        } owner;
        struct {
            enum gw_job_state was; /* compare-and-set; 0: it must not exist */
            struct gw_job_record is;
        } job;
        uint64_t job_gone;
        struct {
            enum gw_job_state was;
            struct gw_plan_record is;
        } plan;
        uint64_t plan_gone;
    };
};

enum gw_action_kind {
    GW_ACT_JOINED,     /* JOINED with the map as it is now; frame.count = id = JOBs behind it */
    GW_ACT_MAP,        /* MAP as it is now; frame.session = id */
    GW_ACT_JOB,        /* JOB `id`: gw_coordinator_job_wire */
    GW_ACT_NEEDS,      /* NEEDS to server number `id`: gw_coordinator_needs_wire */
    GW_ACT_REFUSE,     /* ERROR with status and text; the link is closed behind it */
    GW_ACT_ADMIN_REPLY /* ADMIN_REPLY with `json`; frame.session = id */
};

struct gw_action {
    enum gw_action_kind kind;
    enum gw_status status;
    uint64_t link, id;
    char *json; /* the outcome's */
    char text[256];
};

struct gw_outcome { /* lives until the next event or clear */
    const struct gw_fact *fact;
    uint32_t facts, actions;
    const struct gw_action *action;
};

/* GW_E_NOMEM. Empty, not yet started. */
GW_MUST_USE enum gw_status gw_coordinator_create(struct gw_coordinator **out);
void gw_coordinator_destroy(struct gw_coordinator *c);
/* Takes over one stored fact, before the start. GW_E_CORRUPT: it contradicts what came before;
 * GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_coordinator_apply(struct gw_coordinator *c,
                                                const struct gw_fact *fact);
/* Ends loading. A store without facts founds a cluster of these two numbers (random, not 0), which
 * is a fact of the first outcome. GW_E_CORRUPT: the facts together make no sense, `text` says why.
 */
GW_MUST_USE enum gw_status gw_coordinator_start(struct gw_coordinator *c, uint64_t new_cluster,
                                                uint64_t new_hash_seed, char *text,
                                                size_t text_bytes);

/* Time for all events until the next tick; never goes back. Also: saves the numbers that are due,
 * closes the links of silent servers. GW_E_NOMEM here and below: nothing has happened; close the
 * link that it came from, servers repeat their events. */
GW_MUST_USE enum gw_status gw_coordinator_tick(struct gw_coordinator *c, uint64_t now_ns,
                                               uint64_t wall_ms);
GW_MUST_USE enum gw_status gw_coordinator_join(struct gw_coordinator *c, uint64_t link,
                                               const struct gw_join *join);
GW_MUST_USE enum gw_status gw_coordinator_heartbeat(struct gw_coordinator *c, uint64_t link,
                                                    const struct gw_heartbeat *heartbeat);
GW_MUST_USE enum gw_status gw_coordinator_job_event(struct gw_coordinator *c, uint64_t link,
                                                    const struct gw_job_event *event);
void gw_coordinator_link_lost(struct gw_coordinator *c, uint64_t link); /* unknown: ignored */

/* The operator's verbs. A refusal gives its status and a sentence in `text` (256 bytes are enough);
 * then nothing has changed. GW_E_INVALID, GW_E_REFUSED, GW_NOT_FOUND (server, job), GW_E_LIMIT,
 * GW_E_NOMEM. Admin requests in JSON: admin.h. */
GW_MUST_USE enum gw_status gw_coordinator_migrate(struct gw_coordinator *c,
                                                  const struct gw_slots *slots, const char *from,
                                                  const char *to, uint64_t *job, char *text,
                                                  size_t text_bytes);
GW_MUST_USE enum gw_status
gw_coordinator_migrate_as(struct gw_coordinator *c, const struct gw_slots *slots, const char *from,
                          const char *to, const struct gw_job_options *options, bool really,
                          uint64_t *job, char *text, size_t text_bytes); /* false: checks only */
/* gw_plan_scale_out and gw_coordinator_plan_begin at once. *jobs: how many ids of moves were
 * written (room for one a server). */
GW_MUST_USE enum gw_status gw_coordinator_scale_out(struct gw_coordinator *c, const char *to,
                                                    uint64_t *ids, uint32_t *jobs, char *text,
                                                    size_t text_bytes);
/* GW_OK also for a job that has been cancelled before. */
GW_MUST_USE enum gw_status gw_coordinator_cancel(struct gw_coordinator *c, uint64_t job, char *text,
                                                 size_t text_bytes);
/* GW_OK also when it is so already. GW_E_REFUSED: the job has ended. A job that is paused does not
 * ask for the commit and ships nothing unasked; pulls, "yours" and closing go on. */
GW_MUST_USE enum gw_status gw_coordinator_pause(struct gw_coordinator *c, uint64_t job, bool paused,
                                                char *text, size_t text_bytes);
/* The target `lost` of a committed job never comes back: fences it for good and gives the job's
 * slots back to the source, which has them as they were at the commit. With `really` false nothing
 * changes, but everything is checked. GW_E_REFUSED: the job is not committed, or closing already;
 * `lost` is not its target, or has been heard of in the last GW_SERVER_SILENT_NS (since the
 * coordinator's start, if it was not heard of); the source is not up. */
GW_MUST_USE enum gw_status gw_coordinator_revive(struct gw_coordinator *c, uint64_t job,
                                                 const char *lost, bool really, char *text,
                                                 size_t text_bytes);
/* Queues an ADMIN_REPLY behind the facts of this turn; takes `json` (malloc), also on GW_E_NOMEM.
 */
GW_MUST_USE enum gw_status gw_coordinator_reply(struct gw_coordinator *c, uint64_t link,
                                                uint64_t request, char *json);

/* Queues a MAP to a client behind the facts of this turn; its action's id is `request`. */
GW_MUST_USE enum gw_status gw_coordinator_ask_map(struct gw_coordinator *c, uint64_t link,
                                                  uint64_t request);

const struct gw_outcome *gw_coordinator_outcome(struct gw_coordinator *c);
void gw_coordinator_clear(struct gw_coordinator *c);

/* What is. */
const struct gw_map *gw_coordinator_map(const struct gw_coordinator *c);
bool gw_coordinator_server_lost(const struct gw_coordinator *c, uint32_t server);
void gw_coordinator_server_record(const struct gw_coordinator *c, uint32_t server,
                                  struct gw_server_record *out);
bool gw_coordinator_server_up(const struct gw_coordinator *c, uint32_t server);
/* The newest heartbeat of a server; all zero when none has come since the coordinator's start. */
const struct gw_heartbeat *gw_coordinator_server_numbers(const struct gw_coordinator *c,
                                                         uint32_t server);
uint32_t gw_coordinator_jobs(const struct gw_coordinator *c); /* finished ones included */
const struct gw_job_record *gw_coordinator_job_at(const struct gw_coordinator *c,
                                                  uint32_t at); /* by rising id */
const struct gw_job_record *gw_coordinator_job(const struct gw_coordinator *c, uint64_t id);
/* The NEEDS frame's content for a server. */
void gw_coordinator_needs_wire(const struct gw_coordinator *c, uint32_t server,
                               struct gw_needs *out);
/* The JOB frame's content for a job that exists. */
void gw_coordinator_job_wire(const struct gw_coordinator *c, uint64_t id, struct gw_job *out);
/* Do map and jobs fit together? Walks everything; false with a sentence in `text`. For tests and
 * the simulator; the start does it by itself. */
bool gw_coordinator_check(const struct gw_coordinator *c, char *text, size_t text_bytes);
#endif
