/* program.c - see program.h. */
#include "client/cli/program.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void gw_cli_server_program(char *room, size_t room_bytes)
{
    char own[1000];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (n > 0) {
        own[n] = 0;
        char *slash = strrchr(own, '/');
        if (slash) {
            *slash = 0;
            snprintf(room, room_bytes, "%s/godwit-server", own);
            if (access(room, X_OK) == 0)
                return;
        }
    }
    snprintf(room, room_bytes, "godwit-server");
}

void gw_cli_become_server(const char **words)
{
    char path[GW_CLI_PROGRAM_BYTES];
    gw_cli_server_program(path, sizeof path);
    words[0] = path;
    execvp(path, (char *const *)words);
}
