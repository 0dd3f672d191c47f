/* program.h - the server's program, where this one lies or along PATH, for verbs that read data
 * directories: only the server knows what is in them. Layer: client/cli. */
#ifndef GW_CLIENT_CLI_PROGRAM_H
#define GW_CLIENT_CLI_PROGRAM_H

#include <stddef.h>

#include "client/cli/cli.h"

#define GW_CLI_PROGRAM_BYTES 1200
/* The path of godwit-server beside this program; "godwit-server" if there is none there. */
void gw_cli_server_program(char *room, size_t room_bytes);
/* Becomes that program, with words[1..] as arguments (words[0] is filled in). Returns only on
 * failure, with errno. */
void gw_cli_become_server(const char **words);
#endif
