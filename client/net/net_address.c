/* net_address.c - see net_address.h. */
#include "client/net/net_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "index/base/log_line.h"
#include "index/base/text.h"

socklen_t gwi_address_bytes(const union gwi_address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

static bool lookup(const char *host, int family, union gwi_address *out)
{
    const struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, NULL, &hints, &found);
    if (rc != 0) {
        gw_debug("net.lookup", "host=%s error=\"%s\"", host, gai_strerror(rc));
        return false;
    }
    memcpy(out, found->ai_addr, family == AF_INET6 ? sizeof out->v6 : sizeof out->v4);
    freeaddrinfo(found);
    return true;
}

enum gw_status gwi_address_parse(const char *text, union gwi_address *out)
{
    char host[256];
    uint16_t port;
    union gwi_address address;
    enum gw_status st = gw_parse_address(text, host, sizeof host, &port);
    if (st != GW_OK)
        return st;
    memset(&address, 0, sizeof address);
    if (inet_pton(AF_INET, host, &address.v4.sin_addr) == 1)
        address.v4.sin_family = AF_INET;
    else if (inet_pton(AF_INET6, host, &address.v6.sin6_addr) == 1)
        address.v6.sin6_family = AF_INET6;
    else if (!lookup(host, AF_INET, &address) && !lookup(host, AF_INET6, &address))
        return GW_E_UNREACHABLE;

    if (address.any.sa_family == AF_INET6)
        address.v6.sin6_port = htons(port);
    else
        address.v4.sin_port = htons(port);
    *out = address;
    return GW_OK;
}

void gwi_address_format(const union gwi_address *address, char room[GWI_ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "?";
    if (address->any.sa_family == AF_INET6) {
        (void)inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof host);
        snprintf(room, GWI_ADDRESS_TEXT, "[%s]:%u", host, ntohs(address->v6.sin6_port));
    } else {
        (void)inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof host);
        snprintf(room, GWI_ADDRESS_TEXT, "%s:%u", host, ntohs(address->v4.sin_port));
    }
}
