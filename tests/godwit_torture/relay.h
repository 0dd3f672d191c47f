/* relay.h - stands between the address that a server tells others and the one on which it listens,
 * and can cut every connection, hold back what is on its way, or let nobody in. One thread serves
 * all relays; the other calls are for any thread. Layer: tests. */
#ifndef GW_TESTS_TORTURE_RELAY_H
#define GW_TESTS_TORTURE_RELAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct torture_relays;

/* NULL: errno. */
struct torture_relays *torture_relays_start(uint32_t count);
void torture_relays_stop(struct torture_relays *relays);
/* "127.0.0.1:PORT" where relay i listens. */
void torture_relay_address(struct torture_relays *relays, uint32_t i, char *room,
                           size_t room_bytes);
/* Where it connects to; false: not an address of this machine. */
bool torture_relay_lead(struct torture_relays *relays, uint32_t i, const char *address);
/* The port that it leads to; 0: none yet. */
uint16_t torture_relay_target(struct torture_relays *relays, uint32_t i);
void torture_relay_cut(struct torture_relays *relays, uint32_t i);
void torture_relay_hold(struct torture_relays *relays, uint32_t i, uint32_t ms);
void torture_relay_refuse(struct torture_relays *relays, uint32_t i, uint32_t ms);
void torture_relay_heal(struct torture_relays *relays, uint32_t i);
#endif
