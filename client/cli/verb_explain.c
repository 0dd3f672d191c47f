/* verb_explain.c - explain: where a server's memory is, and what its store has done. The server
 * itself is asked; the coordinator only for its address. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/admin.h"
#include "client/cli/flags.h"
#include "client/cli/server_address.h"
#include "index/base/text.h"

/* --server ID, --address HOST:PORT or, of a single server, nothing; asks it for `op`. */
static enum gw_exit ask_server(struct gw_cli *cli, int argc, char **argv, const char *op,
                               json_t **answer)
{
    const char *id = NULL, *address = NULL;
    char found[128];
    const struct gw_flag flags[] = {
        {"--server", GW_FLAG_TEXT, &id, 0, 0},
        {"--address", GW_FLAG_TEXT, &address, 0, 0},
        {0},
    };
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code != GW_EXIT_OK)
        return code;
    code = gw_server_address(cli, id, address, found, sizeof found);
    return code == GW_EXIT_OK ? gw_admin_ask_at(cli, found, json_pack("{s:s}", "op", op), answer)
                              : code;
}

enum gw_exit gwi_cli_explain_memory(struct gw_cli *cli, int argc, char **argv)
{
    json_t *answer, *part;
    size_t i;
    enum gw_exit code = ask_server(cli, argc, argv, "memory", &answer);
    if (code != GW_EXIT_OK)
        return code;
    if (cli->json)
        return gw_cli_print(cli, answer);
    char a[32], b[32];
    uint64_t limit = gw_json_number(answer, "limit"), resident = gw_json_number(answer, "resident");
    gw_format_size(resident, a, sizeof a);
    gw_format_size(limit, b, sizeof b);
    printf("server %s: %s resident, --memory %s (%.1f %%), %" PRIu64 " of %" PRIu64
           " connections\n\n",
           gw_json_text(answer, "server"), a, b,
           limit ? 100.0 * (double)resident / (double)limit : 0.0,
           gw_json_number(answer, "connections"), gw_json_number(answer, "connections_max"));
    printf("%-10s %12s %12s  %s\n", "PART", "BYTES", "BOUND", "WHAT");
    json_array_foreach(json_object_get(answer, "parts"), i, part)
    {
        uint64_t bound = gw_json_number(part, "bound");
        gw_format_size(gw_json_number(part, "bytes"), a, sizeof a);
        gw_format_size(bound, b, sizeof b);
        printf("%-10s %12s %12s  %s\n", gw_json_text(part, "name"), a, bound ? b : "-",
               gw_json_text(part, "what"));
    }
    json_decref(answer);
    return gw_cli_flush(cli);
}

static void print_numbers(const json_t *object, const char *before)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)object, name, value)
    {
        if (json_is_object(value))
            print_numbers(value, name);
        else if (json_is_integer(value))
            printf("%s%s%s %" JSON_INTEGER_FORMAT "\n", before, before[0] ? "_" : "", name,
                   json_integer_value(value));
        else if (json_is_string(value))
            printf("%s%s%s %s\n", before, before[0] ? "_" : "", name, json_string_value(value));
        else
            printf("%s%s%s %s\n", before, before[0] ? "_" : "", name,
                   json_is_true(value) ? "yes" : "no");
    }
}

enum gw_exit gwi_cli_explain_store(struct gw_cli *cli, int argc, char **argv)
{
    json_t *answer;
    enum gw_exit code = ask_server(cli, argc, argv, "stats", &answer);
    if (code != GW_EXIT_OK)
        return code;
    if (cli->json)
        return gw_cli_print(cli, answer);
    print_numbers(answer, "");
    json_decref(answer);
    return gw_cli_flush(cli);
}
