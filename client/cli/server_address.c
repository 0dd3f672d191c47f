/* server_address.c - see server_address.h. */
#include "client/cli/server_address.h"

#include <stdio.h>
#include <string.h>

#include "client/cli/admin.h"
#include "index/base/text.h"

/* The address of the server of that id, or of the only one. */
static enum gw_exit find_server(struct gw_cli *cli, const char *id, char *room, size_t room_bytes)
{
    json_t *answer, *server, *found = NULL;
    enum gw_exit code = gw_admin_ask(cli, json_pack("{s:s}", "op", "status"), &answer);
    if (code != GW_EXIT_OK)
        return code;
    json_t *servers = json_object_get(answer, "servers");
    size_t i;
    json_array_foreach(servers, i, server) if (id ? strcmp(gw_json_text(server, "id"), id) == 0
                                                  : json_array_size(servers) == 1) found = server;
    if (found)
        snprintf(room, room_bytes, "%s", gw_json_text(found, "address"));
    else if (id)
        code = gw_cli_fail(cli, GW_EXIT_REFUSED, "not_found",
                           "no server %s; `godwit status` lists them", id);
    else
        code = gw_cli_fail_usage(cli, "--server is missing: there are %zu servers",
                                 json_array_size(servers));
    json_decref(answer);
    return code;
}

enum gw_exit gw_server_address(struct gw_cli *cli, const char *id, const char *address, char *room,
                               size_t room_bytes)
{
    char host[256];
    uint16_t port;
    if (id && address)
        return gw_cli_fail_usage(cli, "--server and --address: one of them");
    if (!address)
        return find_server(cli, id, room, room_bytes);
    if (gw_parse_address(address, host, sizeof host, &port) != GW_OK)
        return gw_cli_fail_usage(cli, "--address %s: not HOST:PORT", address);
    snprintf(room, room_bytes, "%s", address);
    return GW_EXIT_OK;
}
