/* state_internal.h - what the files of the coordinator's state machine share.
 *
 *   state.c       loading facts, time, outcome, looking at what is
 *   state_join.c  servers: join, heartbeat, links
 *   state_jobs.c  jobs: events from their sources, migrate, cancel
 *   state_plan.c  plans: their moves' turns, pause, cancel, end; removing a server
 *   state_needs.c what servers need of others' logs
 *   state_loads.c what slots hold
 *
 * Rules (cited by number in these files):
 *  1. An event asks for room for its worst case before it changes anything, so that running out of
 *     memory leaves no half-done transition behind.
 *  2. Whatever is durable changes only together with its fact.
 *  3. A MAP goes out before the JOB that refers to it: a server knows the view before it acts.
 * Layer: coordinator. */
#ifndef GW_COORDINATOR_STATE_INTERNAL_H
#define GW_COORDINATOR_STATE_INTERNAL_H

#include "coordinator/state.h"
#include "index/base/assert.h"

#define GWI_NEEDS_NS UINT64_C(1000000000) /* between two looks at the needs */
#define GWI_RAISE_NS                                                                               \
    UINT64_C(10000000000) /* between two facts that only raise a server's needs                    \
                           */
#define GWI_JOBS_MAX (GW_JOBS_OPEN_MAX + GW_JOBS_FINISHED_MAX)

struct coordinator_server {
    uint64_t link;               /* 0: not connected */
    uint64_t heard_ns;           /* 0: not since our start */
    bool lost, removed, drained; /* as in gw_server_record */
    struct gw_heartbeat last;
    bool counted; /* its slots' loads are its own, of a time without a job (state_loads.c) */
    bool fresh;   /* and no job of its has ended since */
    bool needs_all;
    uint32_t needs;
    uint64_t log_id, needs_saved_ns;
    struct gw_need need[GW_HEARTBEAT_NEEDS_MAX];
    struct gw_needs told, tell; /* NEEDS: sent last on this link, and as it should be */
};

struct coordinator_job {
    struct gw_job_record record;
    uint64_t saved_ns;
    bool unsaved; /* numbers only (rule 2 holds for all else) */
};

/* Of one slot, on average over its owner's when that was counted. */
struct gwi_slot_load {
    float bytes, keys, operations;
};

struct gw_coordinator {
    struct gw_map *map; /* its server array has room for GW_SERVERS_MAX */
    struct coordinator_server *server;
    uint64_t now_ns, wall_ms, started_ns; /* started: the first tick */
    uint64_t next_job;
    uint32_t jobs, jobs_open, plans, plans_open;
    bool started;
    uint64_t round, needs_ns;                  /* round: raised whenever a job ends */
    struct gwi_slot_load slot[GW_SLOTS];       /* state_loads.c */
    struct gw_plan_record *plan[GW_PLANS_MAX]; /* by rising id */
    struct coordinator_job *job[GWI_JOBS_MAX]; /* by rising id */

    struct gw_outcome outcome;
    struct gw_fact *fact;
    struct gw_action *action;
    uint32_t facts_room, actions_room;
};

/* state.c */
bool gwi_coordinator_room(struct gw_coordinator *c, uint32_t facts, uint32_t actions); /* rule 1 */
struct gw_fact *gwi_coordinator_fact(struct gw_coordinator *c, enum gw_fact_kind kind);
struct gw_action *gwi_coordinator_action(struct gw_coordinator *c, enum gw_action_kind kind,
                                         uint64_t link);
/* The next map version, or only a changed next_job, as a fact. */
void gwi_coordinator_fact_cluster(struct gw_coordinator *c, uint64_t version);
void gwi_coordinator_fact_server(struct gw_coordinator *c, uint32_t server);
/* These slots are that server's, with a tenure that began at `since`; as a fact, too. */
void gwi_coordinator_own(struct gw_coordinator *c, const struct gw_slots *slots, uint32_t server,
                         uint64_t since);
void gwi_coordinator_send_map(struct gw_coordinator *c, uint64_t except_link);
int gwi_coordinator_find_job(const struct gw_coordinator *c, uint64_t id); /* position or -1 */

/* state_join.c */
int gwi_coordinator_server_of(const struct gw_coordinator *c, uint64_t link); /* or -1 */
void gwi_coordinator_refuse(struct gw_coordinator *c, uint64_t link, enum gw_status status,
                            const char *format, ...) __attribute__((format(printf, 4, 5)));

/* state_needs.c */
void gwi_coordinator_record_of(const struct gw_coordinator *c, uint32_t server,
                               struct gw_server_record *out);
/* The server never comes back (rule 3 there). The caller makes the fact. */
void gwi_coordinator_lose(struct gw_coordinator *c, uint32_t server);
/* What a heartbeat says of needs and log id. Room: 1 fact, 1 action. */
void gwi_coordinator_needs_heard(struct gw_coordinator *c, uint32_t server);
/* Now and then: what each origin may delete. Room: a fact a server. */
void gwi_coordinator_needs_turn(struct gw_coordinator *c);

/* state_loads.c */
/* What a heartbeat says of the server's slots. */
void gwi_coordinator_loads_heard(struct gw_coordinator *c, uint32_t server);

/* state_plan.c */
/* Begins moves whose turn has come, ends plans. Room: 2 facts and 2 actions for each open job, 5
 * facts for each open plan. */
void gwi_coordinator_plans_turn(struct gw_coordinator *c);
int gwi_coordinator_find_plan(const struct gw_coordinator *c, uint64_t id); /* or -1 */

/* state_jobs.c */
void gwi_coordinator_fact_job(struct gw_coordinator *c, struct coordinator_job *job,
                              enum gw_job_state was);
bool gwi_coordinator_job_move(struct gw_coordinator *c, struct coordinator_job *job,
                              enum gw_job_state was, enum gw_job_state next);
/* Could these slots be moved from there now? */
enum gw_status gwi_coordinator_slots_are_free(const struct gw_coordinator *c,
                                              const struct gw_slots *slots, uint32_t from,
                                              char *text, size_t text_bytes);
struct coordinator_job *gwi_coordinator_job_new(void);
/* Adds a job in state CREATED with its fact; takes `job`. Requires: room for 2 facts and 2 actions,
 * checked. */
uint64_t gwi_coordinator_job_open(struct gw_coordinator *c, struct coordinator_job *job,
                                  const struct gw_slots *slots, uint32_t from, uint32_t to);
void gwi_coordinator_send_job(struct gw_coordinator *c, const struct coordinator_job *job);
void gwi_coordinator_save_numbers(struct gw_coordinator *c, struct coordinator_job *job);
/* `to` must be known and up, and there must be room for so many more jobs. */
enum gw_status gwi_coordinator_target(struct gw_coordinator *c, const char *to, uint32_t jobs,
                                      uint32_t *server, char *text, size_t text_bytes);
#endif
