/* net_probe.h - a net with a recorder behind it, for the tests of the transports.
 * Frames made here carry a number and a pattern that follows from it; the recorder checks both, so
 * that a byte lost, doubled or out of place anywhere is seen. */
#ifndef GW_TESTS_UNIT_NET_NET_PROBE_H
#define GW_TESTS_UNIT_NET_NET_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/net/net.h"
#include "client/wire/frame.h"

struct probe {
    struct gw_net *net;
    struct gw_conn *conn; /* the newest accepted or connected one, NULL after its end */
    uint32_t accepted, connected, closed, garbage, drained;
    enum gw_status connected_status, closed_status, garbage_status;
    uint64_t frames, bytes;
    uint64_t expected; /* the number that the next frame must have; checked if `ordered` */
    uint64_t wrong;    /* frames that were not what they should be */
    bool ordered;
    bool echo;              /* sends every frame back */
    bool error_on_garbage;  /* sends one last frame numbered 999 */
    uint32_t close_at;      /* closes in the callback of the n-th frame (1 = first); 0: never */
    uint32_t fail_at;       /* the n-th frame's callback returns GW_E_REFUSED */
    uint32_t block_at;      /* the n-th frame is answered with GW_WOULD_BLOCK once */
    uint32_t pause_at;      /* pauses in the callback of the n-th frame, and takes it */
    struct gw_conn *resume; /* resumed in the callback of the next frame of another connection */
    uint32_t detach_at;     /* detaches in the callback of the n-th frame */
    bool detach_again;
    bool blocked;
    uint32_t handovers;
    struct gw_handover *handover;
    bool lost_handover;
};

extern const struct gw_net_events probe_events; /* ctx: struct probe */

void probe_frame(uint8_t *room, uint32_t bytes, uint64_t number);
bool probe_frame_is(const uint8_t *frame, uint32_t bytes, uint64_t number);
/* Reserves, fills and commits; false: the backlog is full. */
bool probe_send(struct gw_conn *conn, uint32_t bytes, uint64_t number);
/* A size for the frame `number`, from the header alone up to max. */
uint32_t probe_size(uint64_t number, uint32_t max);

uint64_t probe_now_ms(void);
void probe_open_net(struct probe *p, const struct gw_net_options *options);
void probe_open_server(struct probe *p, const struct gw_net_options *options, char *bound);
/* A client connected to a server, both polled here. */
void probe_connect_pair(struct probe *server, const struct gw_net_options *server_options,
                        struct probe *client, const struct gw_net_options *client_options);
void probe_close_pair(struct probe *a, struct probe *b);
int probe_raw_connect(const char *bound); /* a plain socket, blocking */
/* Polls a and b (may be NULL) until *counter is at least `goal`; false after 5 s. */
bool probe_pump_until(struct probe *a, struct probe *b, const void *counter, size_t counter_bytes,
                      uint64_t goal);
void probe_pump_for(struct probe *a, struct probe *b, uint64_t ms);
#define probe_pump(a, b, counter, goal)                                                            \
    cr_assert(probe_pump_until(a, b, &(counter), sizeof(counter), goal), #counter " is %llu",      \
              (unsigned long long)(counter))
#endif
