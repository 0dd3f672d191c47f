/* net_address.h - "HOST:PORT" and the kernel's form of it (IPv4 and IPv6). Any thread. Layer:
 * client/net. */
#ifndef GW_CLIENT_NET_NET_ADDRESS_H
#define GW_CLIENT_NET_NET_ADDRESS_H

#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

#include "index/base/status.h"

#define GWI_ADDRESS_TEXT 64u /* "[IPv6]:PORT" and its zero: what net.h promises for `bound` */

union gwi_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

socklen_t gwi_address_bytes(const union gwi_address *address);
/* GW_E_INVALID: not HOST:PORT; GW_E_UNREACHABLE: the host's name is not known. A name that has both
 * kinds of address gives its IPv4 one: "localhost" must find a server on 127.0.0.1. */
GW_MUST_USE enum gw_status gwi_address_parse(const char *text, union gwi_address *out);
void gwi_address_format(const union gwi_address *address, char room[GWI_ADDRESS_TEXT]);
#endif
