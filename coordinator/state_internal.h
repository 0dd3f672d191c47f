/* state_internal.h - what the files of the coordinator's state machine share.
 *
 *   state.c       loading facts, time, outcome, looking at what is
 *   state_join.c  servers: join, heartbeat, links
 *   state_jobs.c  jobs: events from their sources, migrate, cancel
 *   state_plan.c  scale-out
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

#define GWI_JOBS_MAX (GW_JOBS_OPEN_MAX + GW_JOBS_FINISHED_MAX)

struct coordinator_server {
    uint64_t link;     /* 0: not connected */
    uint64_t heard_ns; /* 0: not since our start */
    bool lost;
    struct gw_heartbeat last;
};

struct coordinator_job {
    struct gw_job_record record;
    uint64_t saved_ns;
    bool unsaved; /* numbers only (rule 2 holds for all else) */
};

struct gw_coordinator {
    struct gw_map *map; /* its server array has room for GW_SERVERS_MAX */
    struct coordinator_server *server;
    uint64_t now_ns, wall_ms, started_ns; /* started: the first tick */
    uint64_t next_job;
    uint32_t jobs, jobs_open;
    bool started;
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

/* state_jobs.c */
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
