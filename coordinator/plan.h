/* plan.h - plans: which slots go where so that the cluster has the wanted shape, and the durable
 * parents of the moves that bring it there.
 *
 * A draft is computed from the map, from open jobs as if they had ended, and from what is known of
 * each slot (state_loads.c): live bytes (taken as even over a server's slots: keys lie by their
 * hash) and the sampled operations of ranges of slots. It changes nothing. Begun, it becomes a
 * plan: a record of its own and one job a move, all in one transaction. The moves wait
 * (gw_job_record.queued: their slots are reserved, no server knows of them) until their turn comes:
 * at most GW_PLAN_AT_ONCE of all plans at the same time, no two with a server in common, and none
 * with a server of another open job. A move that fails ends the plan: what waits is cancelled, what
 * runs ends by itself.
 *
 * drain marks its server drained when it begins: nothing gives it slots any more until a scale-out
 * names it or the plan is cancelled or fails. Thread rule: the coordinator's. Layer: coordinator.
 */
#ifndef GW_COORDINATOR_PLAN_H
#define GW_COORDINATOR_PLAN_H

#include "client/wire/control.h"

#define GW_PLAN_AT_ONCE   4u
#define GW_PLANS_OPEN_MAX 16u
#define GW_PLANS_MAX      256u                /* older finished ones are forgotten */
#define GW_PLAN_RATE      UINT64_C(200000000) /* bytes a second that the first prediction takes */
#define GW_PLAN_SIZEABLE_BYTES                                                                     \
    UINT64_C(16777216)           /* who has moved as much tells later predictions its rate */
#define GW_PLAN_SLOT_BYTES  64u  /* what an empty slot counts */
#define GW_PLAN_KEY_BYTES   100u /* what a key counts at a server that says no live bytes */
#define GW_PLAN_EVEN_WITHIN 0.05 /* of the average: nothing to rebalance */

struct gw_coordinator;
struct gw_job_record;

enum gw_plan_kind { GW_PLAN_SCALE_OUT = 1, GW_PLAN_DRAIN, GW_PLAN_REBALANCE, GW_PLAN_KINDS };
const char *gw_plan_kind_name(enum gw_plan_kind kind); /* "scale-out", ...; never NULL */
/* What a rebalance makes even. */
enum gw_plan_by { GW_PLAN_BY_BOTH, GW_PLAN_BY_BYTES, GW_PLAN_BY_OPERATIONS };

/* Everything durable about a plan. */
struct gw_plan_record {
    uint64_t id; /* from the same numbers as jobs */
    enum gw_plan_kind kind;
    enum gw_job_state state; /* CREATED: it runs; DONE, CANCELLED, FAILED */
    uint32_t server;         /* that gets or gives; of a rebalance 0 */
    enum gw_job_state
        ending; /* CANCELLED, FAILED: what it will be once its moves have ended; or 0 */
    bool paused;
    uint32_t moves, moves_done;
    uint64_t map_version; /* of the draft */
    uint64_t created_ms, updated_ms, finished_ms;
    char error[256];
};

struct gw_plan_move {
    uint32_t from, to;
    struct gw_slots slots;
    double shipped, keys; /* bytes and records that go over the wire, by the draft's estimate */
};

struct gw_plan_share { /* of one server */
    uint32_t slots;
    double bytes, operations;
};

struct gw_plan_draft {
    enum gw_plan_kind kind;
    uint32_t server; /* as in the record */
    uint64_t map_version;
    uint32_t servers, moves;
    struct gw_plan_move *move;
    struct gw_plan_share *before, *after; /* by server index */
    double bytes, shipped;                /* that change hands; of these over the wire */
    uint64_t ms;                          /* that it will take */
};

/* GW_OK also for a draft without a move. On anything else a sentence in `text` and nothing to
 * destroy: GW_NOT_FOUND, GW_E_REFUSED (a server that is down, lost or drained, an open job towards
 * the drained one, nobody to take), GW_E_BUSY (rebalance: a server has not said yet what it has),
 * GW_E_NOMEM. options (NULL: the defaults) only matter for the prediction. */
GW_MUST_USE enum gw_status gw_plan_scale_out(const struct gw_coordinator *c, const char *to,
                                             const struct gw_job_options *options,
                                             struct gw_plan_draft *out, char *text,
                                             size_t text_bytes);
GW_MUST_USE enum gw_status gw_plan_drain(const struct gw_coordinator *c, const char *server,
                                         const struct gw_job_options *options,
                                         struct gw_plan_draft *out, char *text, size_t text_bytes);
/* Servers that are down take no part. */
GW_MUST_USE enum gw_status gw_plan_rebalance(const struct gw_coordinator *c, enum gw_plan_by by,
                                             const struct gw_job_options *options,
                                             struct gw_plan_draft *out, char *text,
                                             size_t text_bytes);
/* A draft from moves that somebody has written down: fills in all but kind, server, map_version and
 * the moves, which the caller has set (malloc; taken on GW_OK only). GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_plan_of_moves(const struct gw_coordinator *c,
                                            const struct gw_job_options *options,
                                            struct gw_plan_draft *draft);
void gw_plan_draft_destroy(struct gw_plan_draft *draft);

/* Makes the draft a plan; *plan is its id, the moves' ids follow it directly. GW_MISMATCH: the map
 * has changed since the draft. GW_E_BUSY (slots in an open job), GW_E_REFUSED (nothing to do; a
 * server that is down; slots of another owner), GW_E_LIMIT, GW_E_NOMEM. Nothing has changed then.
 */
GW_MUST_USE enum gw_status gw_coordinator_plan_begin(struct gw_coordinator *c,
                                                     const struct gw_plan_draft *draft,
                                                     const struct gw_job_options *options,
                                                     uint64_t *plan, char *text, size_t text_bytes);
/* Moves that wait or are not committed are cancelled; committed ones go on to their end, and so
 * does the plan until then. GW_OK also when it was cancelled before. GW_NOT_FOUND, GW_E_REFUSED (it
 * has ended), GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_coordinator_plan_cancel(struct gw_coordinator *c, uint64_t plan,
                                                      char *text, size_t text_bytes);
/* With all its open moves. As gw_coordinator_pause. */
GW_MUST_USE enum gw_status gw_coordinator_plan_pause(struct gw_coordinator *c, uint64_t plan,
                                                     bool paused, char *text, size_t text_bytes);

/* Takes a server that owns nothing, and has no part in an open job, out of the cluster for good: it
 * ends, and no process of its id may join again. Its objects in the shared tier are deleted by
 * another server once nobody needs them. `really` false: checks only. GW_OK also when it is so
 * already. GW_NOT_FOUND, GW_E_REFUSED, GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_coordinator_remove(struct gw_coordinator *c, const char *server,
                                                 bool really, char *text, size_t text_bytes);

/* Why a move has not begun, in words; "" for one that has. */
void gw_coordinator_plan_waits(const struct gw_coordinator *c, const struct gw_job_record *move,
                               char *text, size_t text_bytes);

uint32_t gw_coordinator_plans(const struct gw_coordinator *c); /* finished ones included */
const struct gw_plan_record *gw_coordinator_plan_at(const struct gw_coordinator *c, uint32_t at);
const struct gw_plan_record *gw_coordinator_plan(const struct gw_coordinator *c, uint64_t id);
#endif
