/* server_address.h - which server is meant, for verbs that ask one themselves. Layer: client/cli.
 */
#ifndef GW_CLIENT_CLI_SERVER_ADDRESS_H
#define GW_CLIENT_CLI_SERVER_ADDRESS_H

#include "client/cli/cli.h"

/* The address of the server of that id, which the coordinator knows, or `address` (HOST:PORT) as it
 * is, or, both NULL, of the only server there is. Anything else than GW_EXIT_OK has been said. */
enum gw_exit gw_server_address(struct gw_cli *cli, const char *id, const char *address, char *room,
                               size_t room_bytes);
#endif
