/* verb_verify.c - verify: the offline check of a data directory or a backup. What is in it only the
 * server knows how to read, so its program is run; the verb is here for people to find. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/program.h"

enum gw_exit gwi_cli_verify(struct gw_cli *cli, int argc, char **argv)
{
    const char *words[8] = {NULL, "verify"};
    int n = 2;
    if (argc < 1)
        return gw_cli_fail_usage(cli, "the directory is missing");
    for (int i = 0; i < argc; i++) {
        if (n == 6)
            return gw_cli_fail_usage(cli, "too many arguments");
        words[n++] = argv[i];
    }
    if (cli->json)
        words[n++] = "--json";
    words[n] = NULL;
    fflush(stdout);
    gw_cli_become_server(words); /* returns only when it cannot */
    return gw_cli_fail(cli, GW_EXIT_FAILED, "e_io", "cannot run godwit-server: %s",
                       strerror(errno));
}
