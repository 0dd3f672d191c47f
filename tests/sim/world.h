/* world.h - a seeded world of three servers, a coordinator and some clients, in one thread and on a
 * virtual clock. Real are: the stores with their images and recovery, the coordinator's state
 * machine with its facts, both machines, both data planes and the windows of applied serials. What
 * the world plays is what lies between and around them: connections that delay and break,
 * dispatchers that notice a new view late, control, clients that resend and replay.
 *
 * A durable world takes checkpoints, and parties die: at the n-th thing that can be seen of one of
 * them from outside (a frame sent or taken in, a view published, a checkpoint or facts made
 * durable) it loses its memory instead of doing it, and comes back from what is durable.
 *
 * Truth: every key's value is kept beside the stores. Whoever executes an operation must see the
 * truth and get the result that a single store would give, and must be the first to execute this
 * (session, serial). That one check finds lost, resurrected and repeated effects and second owners.
 * When the server that executes loses its memory the truth goes back to what its image holds of its
 * tenure, or to what it was given; what is undone by it must be known to its client as not durable,
 * who replays it. All keys belong to the range that moves. */
#ifndef GW_TESTS_SIM_WORLD_H
#define GW_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "coordinator/state.h"
#include "index/base/rand.h"
#include "migration/applied.h"
#include "migration/incoming.h"
#include "migration/outgoing.h"
#include "migration/source.h"
#include "migration/target.h"
#include "migration/unlink.h"
#include "tests/support/image.h"
#include "tests/support/ram_device.h"

#define SERVERS     3
#define DISPATCHERS 2
#define CLIENTS     4
#define KEYS        40
#define OPS         250 /* of a client, at most */
#define KEPT_MAX    40u /* answered and not durable, of a client */
#define MS          1000000ull
#define US          1000ull
#define DEADLINE_NS (200000 * MS) /* a world that is not done by then is stuck */

/* ---- connections and events: world.c ------------------------------------------------------- */

enum party { PARTY_A, PARTY_B, PARTY_C, PARTY_COORDINATOR, PARTIES };

enum role { ROLE_CLIENT, ROLE_CONTROL, ROLE_BULK, ROLE_PULL, ROLE_COORDINATOR };

/* Opened by one end (direction 0 is from it), in order, each direction for itself. */
struct conn {
    enum role role;
    int a,
        b; /* CLIENT: client, server. BULK, PULL: dispatcher of the opener. COORDINATOR: server */
    bool up;
    uint64_t generation; /* of its life: what was sent in another one does not arrive */
    uint64_t last_ns[2];
};

enum event_kind { EVENT_FRAME, EVENT_UP, EVENT_DOWN, EVENT_CALL };

struct event {
    uint64_t at_ns, order;
    enum event_kind kind;
    int party;     /* whose memory it is in: void when that has died since; PARTIES: nobody's */
    uint64_t life; /* of the party */
    bool buffered; /* arrives although its connection is broken: it was in the receiver's buffer */
    struct conn *conn;
    uint64_t generation;
    int direction;
    void (*call)(int a, int b);
    int a, b;
    uint8_t *bytes; /* owned */
    size_t size;
};

/* What of the cluster's map matters here: all keys are of one range. */
struct map {
    uint64_t version, since; /* since: of the owner's tenure */
    int owner;               /* -1: nobody yet */
    uint64_t view[SERVERS], incarnation[SERVERS];
};

/* ---- clients' messages --------------------------------------------------------------------- */

enum op_kind { OP_ADD, OP_PUT, OP_DELETE, OP_READ };

struct request {
    int client, key;
    uint64_t serial, view;
    uint64_t confirmed; /* all below are answered and durable */
    enum op_kind kind;
};
struct reply {
    uint64_t serial;
    enum gw_status status; /* WRONG_VIEW, NOT_YET, MOVED: with `map`; END: `position` is durable */
    int64_t number;
    uint64_t position; /* durable when the server says so of it or a higher one; 0: it is */
    uint64_t incarnation;
    struct map map;
};

/* ---- servers: server.c, jobs.c ------------------------------------------------------------- */

struct parked {
    struct parked *next;
    struct request request;
    bool begun;    /* PENDING in the window */
    bool negative; /* the source has no such key */
    bool wanted;   /* a pull is to be sent */
    uint64_t pull; /* the one that is under way; 0: none */
    bool led;      /* its answer has come and says where the key lies: `lead` */
    bool read_there;
    struct gw_incoming_lead lead;
    uint64_t slow_until_ns;
};

struct view {
    uint64_t number;
    enum gw_range_state state;
    uint64_t generation;
};

struct asked {
    uint64_t sequence; /* 0: free */
    uint32_t count;
    int key[KEYS];
};

struct dispatcher {
    struct gw_thread *thread;
    struct view view; /* as noticed last */
    struct gw_applied_window *window[CLIENTS];
    struct parked *parked;
    struct asked asked[8];
    uint64_t next_pull;
};

struct key_truth {
    bool exists;
    int64_t number;
};
struct history { /* of one serial of one client */
    bool applied;
    struct reply result;
};
/* What is true at a moment, as far as operations made it so. */
struct truth {
    struct key_truth key[KEYS];
    struct history history[CLIENTS][OPS + 2];
};

/* A checkpoint of a server. */
struct image {
    uint64_t number, view;
    struct gw_test_image store;
    struct window_image {
        struct gw_applied *entries; /* owned */
        size_t count;
        uint64_t confirmed;
        bool there;
    } window[DISPATCHERS][CLIENTS];
    uint64_t tenure; /* of the range, if the server executed on it then; else UINT64_MAX */
    struct truth truth;
};

struct server {
    /* What its death leaves. */
    struct gw_ram_device *device; /* NULL: nothing is durable */
    struct image *image;          /* owned; the newest durable one */
    gw_addr log_tail;             /* when it died */
    uint64_t incarnation;

    struct gw_store *store;
    struct image *image_next; /* owned; cut, not durable yet */
    uint64_t image_number;    /* cut last */
    bool checkpoint_asked;
    bool source_secures, target_secures;
    uint64_t source_ticket, target_ticket; /* image numbers; 0: at once */
    bool joined, jobs_known, publish_wanted, cut_wanted;
    bool held, stale; /* control_internal.h */
    uint32_t jobs_left;
    uint64_t over_job;  /* incoming one that ended last */
    uint64_t orphan_ns; /* control_internal.h */
    bool untold;        /* the target, of which the coordinator has not spoken since we joined */

    struct view view; /* published */
    struct map map;   /* newest known; version 0: none */
    struct dispatcher dispatcher[DISPATCHERS];
    uint64_t cut_generation; /* 0: no cut is waited for */

    struct gw_source *source;
    struct gw_target *target;
    enum gw_range_state range; /* of the job's slots, while range_set */
    bool range_set;
    struct gw_outgoing *out;
    bool shipping, unlinking, all_acked_told, unlinked_told, sampling;
    struct gw_incoming *in;
    struct gw_unlinker *unlinker;
    bool pulling;
    struct {
        struct gw_applied *entries; /* owned */
        size_t count;
        uint64_t attempt, part;
        uint32_t left; /* dispatchers that have not merged it */
    } merge[8];
    struct gw_applied *collected;
    size_t collected_count;
    uint32_t collect_errands;
};

struct kept { /* answered, and not durable yet */
    struct request request;
    int server;
    uint64_t incarnation, position;
    bool replay; /* its server has lost it */
};

struct client {
    struct map map;
    struct request request;
    bool busy; /* an operation is under way */
    uint32_t done;
    struct kept kept[KEPT_MAX]; /* by rising serial */
    uint32_t kept_count;
    uint64_t incarnation[SERVERS]; /* as heard last */
    struct conn conn[SERVERS];
};

struct death {
    enum party party;
    uint64_t step; /* the party's: it dies instead of it; 0: never */
};
struct plan {
    uint64_t seed;
    bool durable;
    bool shared; /* durable, and each server reads what the others have stored */
    bool fresh;  /* only who has the range has a checkpoint yet, others have none for some while */
    bool round;  /* the range goes from A to B to C to A, else there and back */
    uint32_t ops, jobs;
    uint32_t cancels; /* percent: a job that is not committed, each time the operator looks */
    uint32_t breaks;  /* connections that break, at most */
    struct death death[2];
};

struct world {
    struct plan plan;
    bool dying[PARTIES]; /* it is to die at the end of this event; nothing of it is seen any more */
    bool down[PARTIES];
    uint64_t life[PARTIES], step[PARTIES];
    struct gw_rand rand;
    uint64_t now_ns, next_order;
    struct event *heap;
    size_t events, events_room;
    uint32_t breaks_left;

    struct server server[SERVERS];
    struct client client[CLIENTS];
    char key[KEYS][24];
    uint64_t hash[KEYS];
    uint16_t slot[KEYS];

    /* The coordinator: coordinator.c. */
    struct gw_coordinator *state; /* NULL: down */
    struct gw_fact *fact;         /* owned; durable */
    uint32_t facts;
    uint64_t link[SERVERS], links;
    uint32_t jobs_made, jobs_done, jobs_cancelled;
    int source, target; /* server numbers of the newest job */
    struct gw_slots slots;
    struct conn control, bulk[DISPATCHERS], pull[DISPATCHERS], coordinator[SERVERS];

    struct truth truth;
    bool was_read[CLIENTS][OPS + 2]; /* the serial was a read, which leaves no trace */
    struct truth given;              /* at the beginning of the tenure */
    uint64_t tenure;                 /* 0, or the job that gave the range to the holder */
    int holder;                      /* who executes on it; -1: nobody has yet */
    /* For the summary: did the schedules reach what they are there for? */
    uint64_t pulls, moved, replays, restarts, breaks, deaths, checkpoints, undone, resumed;
    uint64_t hot, indirections, linked, leads, followed, paged;
    bool failed;
    char failure[256];
};
extern struct world *w;

/* Runs one schedule; false: *failure says why. */
struct summary {
    uint64_t pulls, moved, replays, restarts, breaks, jobs, cancelled, deaths, checkpoints, undone,
        resumed, hot, indirections, linked, leads, followed, foreign_reads, paged;
    uint64_t step[PARTIES]; /* of the last run: how many there were */
};
bool world_run(const struct plan *plan, struct summary *summary, char *failure,
               size_t failure_bytes);

void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t below(uint64_t n);
bool chance(uint32_t percent);
void call_in(uint64_t delay_ns, void (*call)(int, int), int a, int b);
/* Forgotten when the party dies. */
void party_call_in(int party, uint64_t delay_ns, void (*call)(int, int), int a, int b);
/* Something of the party is about to be seen from outside. False: it is dead, do not do it. */
bool party_step(int party);
void conn_open(struct conn *c);  /* UP or DOWN follows */
void conn_close(struct conn *c); /* by its opener: nobody is told */
void conn_break(struct conn *c); /* DOWN follows */
void conn_send(struct conn *c, int direction, const void *bytes, size_t size);
/* The same, where a death is of no interest: heartbeats. */
void conn_send_unseen(struct conn *c, int direction, const void *bytes, size_t size);

/* server.c */
void server_open(int s);
void server_close(int s);
void server_start(int s);                        /* its turns, and it joins */
void server_run(int s, int d, struct gw_op *op); /* until it is done */
void server_publish(int s, bool cut);
void server_adopt_map(int s, const struct map *map);
void server_turn(int s, int d);
void server_request(int s, const struct request *request);
void server_drop_asked(int s, int d); /* the PULL connection is gone: ask again */
void parked_again(int s, int d, int key, enum gw_status outcome,
                  const struct gw_incoming_lead *lead);
/* jobs.c */
void jobs_frame(struct conn *c, int direction, const uint8_t *bytes, size_t size);
void jobs_up(struct conn *c);
void jobs_down(struct conn *c);
void jobs_turn(int s, int d);
void jobs_tick(int s, int unused);
void jobs_cut_passed(int s);
void jobs_map_adopted(int s);
void jobs_pull(int s, int d);
void jobs_follow(int s, int d); /* to where pulls' answers say that keys lie */
void jobs_told(int s, const struct gw_job *job);
void jobs_joined(int s, uint32_t jobs);
void jobs_secured(int s); /* something has become durable */
/* tier.c */
struct gw_job_options job_options(uint64_t job);
bool tier_is_shared(int s);
void tier_sample(int s, bool on);
void tier_outgoing(int s, bool indirection); /* the data plane of its outgoing job is there */
void tier_share(int s);
void tier_answered(int s, const uint8_t *bytes, size_t size);
void tier_sent(int s, const uint8_t *bytes, size_t size); /* a CHUNK frame */
void tier_forget_turn(int unused, int unused2);
void tier_count(int s); /* its outgoing job ends */
/* crash.c */
void checkpoint_turn(int s, int unused);
uint64_t checkpoint_ask(int s); /* the number of the image that will hold what is here now */
void checkpoint_first(int s);
void party_die(int party);
void truth_given(int s); /* the server begins to execute on the range, as the source left it */
void image_free(struct image *image);
/* coordinator.c */
void coordinator_tick(int a, int b);
void coordinator_open(void);
void coordinator_close(void);
const struct map *coordinator_map(void);               /* NULL: it is down */
void coordinator_frame(int s, const uint8_t *bytes);   /* from the server */
void coordinator_message(int s, const uint8_t *bytes); /* arrives at the server */
void coordinator_up(int s);
void coordinator_down(int s);
bool coordinator_idle(void); /* all jobs have ended */
const char *coordinator_job_state(void);
void server_say_event(int s, const struct gw_job_event *event);
void server_say_map_get(int s);
void server_heartbeat(int s);
void server_say_join(int s);
/* clients.c */
void client_start(int c, int unused);
void client_reply(int c, int s, const struct reply *reply);
void client_up(int c, int s);
void client_down(int c, int s);
bool client_keeps(int c, uint64_t serial); /* or has it under way */
void truth_check(int s, const struct request *r, enum gw_status status, int64_t number);
#endif
