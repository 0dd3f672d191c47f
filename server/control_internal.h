/* control_internal.h - what the files of control share: control.c (coordinator, map, views, mail),
 * control_source.c and control_target.c (one machine each). Layer: server. */
#ifndef GW_SERVER_CONTROL_INTERNAL_H
#define GW_SERVER_CONTROL_INTERNAL_H

#include "client/wire/control.h"
#include "migration/source.h"
#include "migration/target.h"
#include "server/control.h"
#include "server/server.h"

#define GWI_CHUNK_BITS 8u /* 256 chunks a job */

struct gwi_source_slot {       /* one outgoing job */
    struct gw_source *machine; /* NULL: free */
    struct gwi_control *control;
    uint64_t id;
    struct gw_slots slots;
    struct gwi_outgoing_job *job; /* NULL until shipping */
    struct gw_conn *peer;
    enum gw_range_state range;
    bool range_set;          /* overlay the map's states with `range` */
    bool cut_wanted, dying;  /* dying: freed when cut_generation has passed */
    uint64_t cut_generation; /* 0: none is waited for */
    uint32_t errands;        /* COLLECT under way */
    struct gw_applied *collected;
    size_t collected_count;
    bool securing; /* until secure_ticket is done */
    uint64_t secure_ticket;
    bool sampling;                      /* what is read of its slots gathers at the log's tail */
    uint64_t held_ticket;               /* of what was here when the job came; 0: none */
    uint64_t sample_from, sample_bytes; /* the tail then, and how far it may go for that */
    struct {
        uint64_t at_ns, bytes, rate; /* of the last event: bytes sent, and a second since */
    } told;
};

#define GWI_MERGING 64u
#define GWI_OVER    64u
struct gwi_target_slot { /* one incoming job */
    struct gw_target *machine;
    struct gwi_control *control;
    uint64_t id;
    struct gwi_incoming_job *job;
    struct gwi_link *link; /* the source's control connection; NULL: down */
    enum gw_range_state range;
    bool range_set;
    bool cut_wanted, dying;
    uint64_t cut_generation;
    /* MERGE under way, by part modulo the ring: the source keeps fewer parts in flight. */
    struct gwi_merging {
        uint32_t errands;
        bool failed;
    } merging[GWI_MERGING];
    bool unlink_wanted; /* there was no memory for it */
    uint64_t orphan_ns; /* not committed, and its source has been away since; 0: it is there */
    bool untold;        /* of it the coordinator has not spoken since we joined */
    uint64_t receive_attempt; /* 0: not receiving */
    bool securing;            /* until secure_ticket is done */
    uint64_t secure_ticket;
};

struct gwi_old_view {
    struct gwi_old_view *next;
    struct gwi_view *view;
};

struct gwi_control {
    struct gwi_dispatcher *d;
    struct gwi_server *server;
    struct gw_map *map; /* newest known; NULL before JOINED */
    struct gw_conn *coordinator;
    bool joined, ready_told, publish_wanted, securing;
    uint64_t generation, passed; /* of views: published last, passed by all */
    uint64_t busy_since_ns;      /* refused since: somebody of our id runs; 0: not */
    uint64_t retry_ns, heartbeat_ns, tick_ns;
    uint32_t retry_ms;
    struct gwi_old_view *old;
    uint64_t over[GWI_OVER]; /* incoming jobs that ended last */
    uint32_t over_next;
    struct gw_slots dirty; /* slots of which the index may hold entries */
    /* After a recovery. held: slots that the map of the recovery gave us: what is here of them is
     * of the present tenure; until we give them away. stale: all others: what is here of them is of
     * an earlier tenure, or frozen for an open outgoing job; until it is unlinked. */
    struct gw_slots held, stale;
    bool jobs_known;       /* all that were open when we joined: before it nothing is served */
    uint32_t jobs_left;    /* of them, to be told of yet */
    uint64_t rejoin_ns;    /* to ask for them again */
    struct gw_needs needs; /* the coordinator's newest on this connection; 0: none */
    struct gwi_slot_load load;
    struct gwi_source_slot source[GWI_JOBS_MAX];
    struct gwi_target_slot target[GWI_JOBS_MAX];
    uint32_t jobs;
};

static inline void gwi_slots_take_out(struct gw_slots *from, const struct gw_slots *these)
{
    for (size_t i = 0; i < sizeof from->word / sizeof from->word[0]; i++)
        from->word[i] &= ~these->word[i];
}

/* control.c */
void gwi_control_publish(struct gwi_control *c); /* now, or as soon as a cut is free */
bool gwi_control_send(struct gwi_control *c, uint8_t kind, const uint8_t *body,
                      size_t bytes); /* to the coordinator */
void gwi_control_adopt(struct gwi_control *c, struct gw_map *takes);
/* Joins again on the connection that stands: the coordinator tells which jobs are open. */
void gwi_control_rejoin(struct gwi_control *c);
void gwi_control_wake_all(struct gwi_control *c);
void gwi_control_tick_soon(struct gwi_control *c); /* a job has come: it lives by ticks */
void gwi_control_count_jobs(struct gwi_control *c);
bool gwi_control_range_is_ours(const struct gwi_control *c, const struct gw_slots *slots);
/* The index holds nothing of these slots any more: the next job that brings them back need not
 * look. */
void gwi_control_clean(struct gwi_control *c, const struct gw_slots *slots);
/* Sends an errand to a dispatcher; false: out of memory (freed). */
bool gwi_control_errand(struct gwi_control *c, uint32_t dispatcher, enum gwi_mail_kind kind,
                        struct gwi_errand *takes);
void gwi_errand_free(struct gwi_errand *errand);

/* control_tell.c */
void gwi_control_heartbeat(struct gwi_control *c);
void gwi_control_hold_objects(struct gwi_control *c); /* once a turn */
void gwi_control_on_needs(struct gwi_control *c, const struct gw_needs *needs);

/* control_source.c */
void gwi_source_on_job(struct gwi_control *c, const struct gw_job *job);
void gwi_source_event(struct gwi_source_slot *s, const struct gw_source_event *event);
void gwi_source_collected(struct gwi_control *c, struct gwi_errand *takes);
/* Looks whether what a machine wants durable is; true: not yet. */
bool gwi_source_securing(struct gwi_source_slot *s);
bool gwi_target_securing(struct gwi_target_slot *t);
struct gwi_source_slot *gwi_source_find(struct gwi_control *c, uint64_t id);
void gwi_source_bury(struct gwi_source_slot *s); /* behind the cut: frees it all */

/* control_target.c */
/* False: there is no memory for a job that is new here. */
bool gwi_target_on_job(struct gwi_control *c, const struct gw_job *job);
enum gw_status gwi_target_on_frame(struct gwi_control *c, struct gwi_link *link,
                                   const struct gw_frame *f, const uint8_t *body);
enum gw_status gwi_target_event(struct gwi_target_slot *t, const struct gw_target_event *event);
void gwi_target_tick(struct gwi_target_slot *t);
/* Deleted keys of slots that are on their way here have to be remembered (ENGINE H17). */
void gwi_target_keep_tombstones(struct gwi_control *c);
/* The job is not open any more. */
void gwi_target_ended(struct gwi_target_slot *t);
void gwi_target_merged(struct gwi_control *c, struct gwi_errand *takes);
struct gwi_target_slot *gwi_target_find(struct gwi_control *c, uint64_t id);
void gwi_target_bury(struct gwi_target_slot *t);
#endif
