/* hold.h - frames that wait until what they show is durable, and clients that are told what is.
 *
 * In commit mode a reply leaves when it is durable (commit.h). Until then its frame lies here, in
 * the order in which frames were made; what must not overtake it on its connection (refusals,
 * scans, the last word of a connection) waits behind it. Held bytes count as the connection's
 * backlog, and all of them are bounded: above the bound batches wait. A connection that ends takes
 * its frames with it: a client that sends again is answered from what is known of its serials.
 *
 * In memory mode, and for early batches of commit mode, a reply leaves at once and names the
 * position at which it will be durable; when that is reached the connection is sent DURABLE.
 * Neither costs anything without durability but a branch. Thread rule: the dispatcher's thread.
 * Layer: server. */
#ifndef GW_SERVER_HOLD_H
#define GW_SERVER_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/wire/frame.h"

struct gwi_dispatcher;
struct gwi_link;

#define GWI_TELL_LINKS 256u /* connections that are told DURABLE by one turn */

struct gwi_held {
    struct gwi_held *next, *next_of_link;
    struct gwi_link *link; /* NULL: gone */
    uint64_t position;
    size_t bytes;
    bool last;       /* the connection is closed behind it */
    uint8_t frame[]; /* may be empty */
};

struct gwi_holding {
    struct gwi_held *first, **end; /* all, oldest first */
    size_t bytes, bytes_max;
    /* Connections that were given positions which they have not been told to be durable, those that
     * were told longest ago first. */
    struct gwi_link *tell_first, *tell_last;
    uint64_t told; /* the highest position told to anybody */
};

/* A connection's part. */
struct gwi_link_hold {
    struct gwi_held *first, *last; /* its own, oldest first */
    size_t bytes;
    uint64_t position; /* the highest that it was given */
    uint64_t told;
    struct gwi_link *before, *after; /* list of those to be told */
    bool listed;
};

void gwi_hold_init(struct gwi_dispatcher *d);
void gwi_hold_fini(struct gwi_dispatcher *d);

/* Sends a reply (REPLY, COMPLETION) of operations just executed, or lets it wait: writes the header
 * *f, with the position, to the start of `frame`, f->bytes long. early: not to wait. False: the
 * connection does not take it, close it. */
bool gwi_hold_reply(struct gwi_link *link, struct gw_frame *f, uint8_t *frame, bool early);
/* Sends any other frame that shows what was executed (`shows`), or that must only not overtake. */
bool gwi_hold_frame(struct gwi_link *link, const uint8_t *frame, size_t bytes, bool shows);
/* Room for a frame behind those that wait on this connection; it is committed with this. NULL: out
 * of memory. Requires: some wait. */
uint8_t *gwi_hold_room(struct gwi_link *link, size_t bytes);
/* Closes the connection behind the frames that wait on it. False: none do, nothing happened; or
 * there is no memory: it may be closed at once. */
bool gwi_hold_close_behind(struct gwi_link *link);
/* Too much is held: no batch may begin. */
bool gwi_hold_is_full(const struct gwi_dispatcher *d);
/* The connection is about to be freed. */
void gwi_hold_forget(struct gwi_link *link);
/* A client's earlier connections were given positions up to those of now: this one is told. */
void gwi_hold_resume(struct gwi_link *link);
/* Sends what has become durable, and tells. Once a turn, behind gwi_commit_turn. True: there is
 * more to do at once. */
bool gwi_hold_turn(struct gwi_dispatcher *d);
#endif
