/* world.h - a seeded world of two servers, a coordinator and some clients, in one thread and on a
 * virtual clock. Real are: the stores, both machines, both data planes and the windows of applied
 * serials. What the world plays is what lies between and around them: connections that delay and
 * break, dispatchers that notice a new view late, clients that resend.
 *
 * Truth: every key's value is kept beside the stores. Whoever executes an operation must see the
 * truth and get the result that a single store would give, and must be the first to execute this
 * (session, serial). That one check finds lost, resurrected and repeated effects and second owners.
 * All keys belong to the range that moves. */
#ifndef GW_TESTS_SIM_WORLD_H
#define GW_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "index/base/rand.h"
#include "migration/applied.h"
#include "migration/incoming.h"
#include "migration/outgoing.h"
#include "migration/source.h"
#include "migration/target.h"
#include "migration/unlink.h"

#define SERVERS     2
#define DISPATCHERS 2
#define CLIENTS     4
#define KEYS        40
#define OPS         250 /* of a client */
#define JOBS        4
#define MS          1000000ull
#define US          1000ull
#define DEADLINE_NS (200000 * MS) /* a world that is not done by then is stuck */

/* ---- connections and events: world.c ------------------------------------------------------- */

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
    bool buffered; /* arrives although its connection is broken: it was in the receiver's buffer */
    struct conn *conn;
    uint64_t generation;
    int direction;
    void (*call)(int a, int b);
    int a, b;
    uint8_t *bytes; /* owned */
    size_t size;
};

/* ---- clients' messages --------------------------------------------------------------------- */

enum op_kind { OP_ADD, OP_PUT, OP_DELETE, OP_READ };

struct request {
    int client, key;
    uint64_t serial, view;
    enum op_kind kind;
};
struct reply {
    uint64_t serial;
    enum gw_status status; /* WRONG_VIEW, NOT_YET, MOVED: with `view` and `owner` */
    int64_t number;
    uint64_t view;
    int owner;
};

/* ---- servers: server.c, jobs.c ------------------------------------------------------------- */

struct parked {
    struct parked *next;
    struct request request;
    bool begun;    /* PENDING in the window */
    bool negative; /* the source has no such key */
    bool wanted;   /* a pull is to be sent */
    uint64_t pull; /* the one that is under way; 0: none */
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

struct server {
    struct gw_store *store;
    struct view view; /* published */
    uint64_t map_version;
    int map_owner;
    struct dispatcher dispatcher[DISPATCHERS];
    uint64_t cut_generation; /* 0: no cut is waited for */

    struct gw_source *source;
    struct gw_target *target;
    enum gw_range_state range; /* of the job's slots, while range_set */
    bool range_set;
    struct gw_outgoing *out;
    bool shipping, unlinking, all_acked_told, unlinked_told;
    struct gw_incoming *in;
    struct gw_unlinker *unlinker;
    bool pulling;
    struct {
        struct gw_applied *entries; /* owned */
        size_t count;
        uint64_t attempt, part;
        uint32_t left; /* dispatchers that have not merged it */
    } merge[8];
    uint64_t newest_job; /* told of by the coordinator */
    struct gw_applied *collected;
    size_t collected_count;
    uint32_t collect_errands;
};

struct client {
    uint64_t map_version;
    int map_owner;
    struct request request;
    bool busy; /* an operation is under way */
    uint32_t done;
    struct conn conn[SERVERS];
};

struct key_truth {
    bool exists;
    int64_t number;
};

struct world {
    uint64_t seed;
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

    /* The coordinator and the one open job. */
    uint64_t map_version;
    int map_owner;
    struct gw_job job;
    bool job_open;
    uint32_t jobs_made, jobs_done, jobs_cancelled;
    int source, target; /* server numbers */
    struct conn control, bulk[DISPATCHERS], pull[DISPATCHERS], coordinator[SERVERS];

    struct key_truth truth[KEYS];
    struct {
        bool applied;
        struct reply result;
    } history[CLIENTS][OPS + 2];
    /* For the summary: did the schedules reach what they are there for? */
    uint64_t pulls, moved, replays, restarts, breaks;
    bool failed;
    char failure[256];
};
extern struct world *w;

/* Runs one schedule; false: *failure says why. */
struct summary {
    uint64_t pulls, moved, replays, restarts, breaks, jobs, cancelled;
};
bool world_run(uint64_t seed, struct summary *summary, char *failure, size_t failure_bytes);

void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
uint64_t below(uint64_t n);
bool chance(uint32_t percent);
void call_in(uint64_t delay_ns, void (*call)(int, int), int a, int b);
void conn_open(struct conn *c);  /* UP or DOWN follows */
void conn_close(struct conn *c); /* by its opener: nobody is told */
void conn_break(struct conn *c); /* DOWN follows */
void conn_send(struct conn *c, int direction, const void *bytes, size_t size);

/* server.c */
void server_open(int s);
void server_close(int s);
void server_publish(int s, bool cut);
void server_adopt_map(int s, uint64_t version, int owner);
void server_turn(int s, int d);
void server_request(int s, const struct request *request);
void server_drop_asked(int s, int d); /* the PULL connection is gone: ask again */
void parked_again(int s, int d, int key, enum gw_status outcome);
/* jobs.c */
void jobs_frame(struct conn *c, int direction, const uint8_t *bytes, size_t size);
void jobs_up(struct conn *c);
void jobs_down(struct conn *c);
void jobs_turn(int s, int d);
void jobs_tick(int s, int unused);
void jobs_cut_passed(int s);
void jobs_map_adopted(int s);
void jobs_pull(int s, int d);
void jobs_told(int s, const struct gw_job *job);
/* coordinator.c */
void coordinator_tick(int a, int b);
void coordinator_event(int s, const struct gw_job_event *event);
void coordinator_message(int s, const uint8_t *bytes); /* arrives at the server */
void coordinator_send_map(int s);
/* clients.c */
void client_start(int c, int unused);
void client_reply(int c, int s, const struct reply *reply);
void client_up(int c, int s);
void client_down(int c, int s);
void truth_check(int s, const struct request *r, enum gw_status status, int64_t number);
#endif
