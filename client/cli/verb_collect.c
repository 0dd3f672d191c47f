/* verb_collect.c - collect: objects of the shared tier that no list of their server knows are
 * deleted, or named. The server does it by itself, too; this is for who wants to see it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/admin.h"
#include "client/cli/flags.h"
#include "client/cli/server_address.h"
#include "index/base/clock.h"
#include "index/base/text.h"

#define POLL_US   50000u
#define TIMEOUT_S 600u

/* Waits for the end of what runs. *status is written with GW_EXIT_OK only. */
static enum gw_exit wait_for(struct gw_cli *cli, const char *address, uint64_t timeout_s,
                             json_t **status)
{
    const struct gw_clock *clock = gw_clock_system();
    uint64_t end_ns = gw_clock_now_ns(clock) + timeout_s * UINT64_C(1000000000);
    for (;; usleep(POLL_US)) {
        enum gw_exit code =
            gw_admin_ask_at(cli, address, json_pack("{s:s}", "op", "collect_status"), status);
        if (code != GW_EXIT_OK)
            return code;
        if (strcmp(gw_json_text(*status, "state"), "running") != 0)
            return GW_EXIT_OK;
        json_decref(*status);
        if (gw_clock_now_ns(clock) > end_ns)
            return gw_cli_fail(cli, GW_EXIT_TIMED_OUT, "e_timeout",
                               "%s is not done after %" PRIu64 " s; it goes on", address,
                               timeout_s);
    }
}

static enum gw_exit say(struct gw_cli *cli, json_t *status)
{
    const json_t *object;
    const json_t *list = json_object_get(status, "list");
    uint64_t objects = gw_json_number(status, "objects");
    bool dry = json_is_true(json_object_get(status, "dry"));
    char bytes[32];
    size_t i;
    json_array_foreach(list, i, object)
        printf("%s\t%" PRIu64 "\t%s\n", gw_json_text(object, "name"),
               gw_json_number(object, "bytes"), gw_json_text(object, "why"));
    if (objects > json_array_size(list))
        fprintf(stderr, "and %" PRIu64 " more\n", objects - json_array_size(list));
    gw_format_size(gw_json_number(status, "bytes"), bytes, sizeof bytes);
    fprintf(stderr, "%s%" PRIu64 " object%s, %s%s\n", dry ? "" : "deleted ", objects,
            objects == 1 ? "" : "s", bytes, dry ? ": nothing was deleted" : "");
    json_decref(status);
    return gw_cli_flush(cli);
}

enum gw_exit gwi_cli_collect(struct gw_cli *cli, int argc, char **argv)
{
    const char *id = NULL, *address = NULL;
    bool dry = false;
    uint64_t timeout_s = TIMEOUT_S;
    char at[128];
    json_t *answer;
    const struct gw_flag flags[] = {
        {"--server", GW_FLAG_TEXT, &id, 0, 0},
        {"--address", GW_FLAG_TEXT, &address, 0, 0},
        {"--dry-run", GW_FLAG_SWITCH, &dry, 0, 0},
        {"--timeout", GW_FLAG_NUMBER, &timeout_s, 1, 86400},
        {0},
    };
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code == GW_EXIT_OK)
        code = gw_server_address(cli, id, address, at, sizeof at);
    if (code == GW_EXIT_OK)
        code =
            gw_admin_ask_at(cli, at, json_pack("{s:s, s:b}", "op", "collect", "dry", dry), &answer);
    if (code != GW_EXIT_OK)
        return code;
    json_decref(answer);
    code = wait_for(cli, at, timeout_s, &answer);
    if (code != GW_EXIT_OK)
        return code;
    if (strcmp(gw_json_text(answer, "state"), "done") != 0) {
        code = gw_cli_fail(cli, GW_EXIT_FAILED, "e_io", "collecting failed: %s",
                           gw_json_text(answer, "error"));
        json_decref(answer);
        return code;
    }
    return cli->json ? gw_cli_print(cli, answer) : say(cli, answer);
}
