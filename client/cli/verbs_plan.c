/* verbs_plan.c - scale-out, drain, rebalance, split and remove: the cluster's shape. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/plan_flags.h"
#include "client/cli/value.h"
#include "index/base/text.h"

#define NUMBERS_MS 3000u /* after a move servers soon say what they hold now */

/* ---- options -------------------------------------------------------------------------------- */

/* "2ms", "500us", "1s"; a number alone is milliseconds. */
static bool parse_us(const char *text, uint64_t *us)
{
    size_t n = strlen(text);
    char digits[24];
    uint64_t ms;
    if (n > 2 && n < sizeof digits && strcmp(text + n - 2, "us") == 0) {
        memcpy(digits, text, n - 2);
        digits[n - 2] = '\0';
        return gw_parse_u64(digits, 1, 60000000, us) == GW_OK;
    }
    if (gw_parse_u64(text, 1, 60000, &ms) != GW_OK &&
        (!gw_value_is_duration(text, &ms) || ms > 60000 || ms == 0))
        return false;
    *us = ms * 1000;
    return true;
}

/* "100MB/s", "64MiB": as sizes; "/s" may follow, and "MB" is 10^6. */
static bool parse_rate(const char *text, uint64_t *rate)
{
    char size[32];
    size_t n = strlen(text);
    if (n >= sizeof size)
        return false;
    memcpy(size, text, n + 1);
    if (n > 2 && strcmp(size + n - 2, "/s") == 0)
        size[n -= 2] = '\0';
    static const struct {
        const char *unit;
        uint64_t bytes;
    } decimal[] = {{"KB", 1000}, {"kB", 1000}, {"MB", 1000000}, {"GB", 1000000000}};
    for (size_t i = 0; i < sizeof decimal / sizeof decimal[0]; i++)
        if (n > 2 && strcmp(size + n - 2, decimal[i].unit) == 0) {
            size[n - 2] = '\0';
            if (gw_parse_u64(size, 1, 1000000000, rate) != GW_OK)
                return false;
            *rate *= decimal[i].bytes;
            return true;
        }
    return gw_parse_size(size, rate) == GW_OK && *rate > 0 && *rate <= INT64_MAX;
}

enum gw_exit gwi_move_options(struct gw_cli *cli, const struct gwi_move_flags *flags,
                              json_t *request)
{
    uint64_t value;
    if (flags->timeout_s && !flags->wait)
        return gw_cli_fail_usage(cli, "--timeout: there is nothing to wait for without --wait");
    if (flags->max_impact) {
        if (!parse_us(flags->max_impact, &value))
            return gw_cli_fail_usage(cli, "--max-impact: '%s' is not a time from 1us to 60s",
                                     flags->max_impact);
        json_object_set_new(request, "max_impact_us", json_integer((json_int_t)value));
    }
    if (flags->rate) {
        if (!parse_rate(flags->rate, &value))
            return gw_cli_fail_usage(cli, "--rate: '%s' is not a rate such as 100MB/s",
                                     flags->rate);
        json_object_set_new(request, "rate", json_integer((json_int_t)value));
    }
    if (flags->sample_time) {
        if (!parse_us(flags->sample_time, &value) || value < 1000)
            return gw_cli_fail_usage(cli, "--sample-time: '%s' is not a time from 1ms to 60s",
                                     flags->sample_time);
        json_object_set_new(request, "sample_ms", json_integer((json_int_t)(value / 1000)));
    }
    if (flags->sample_bytes) {
        if (gw_parse_size(flags->sample_bytes, &value) != GW_OK || value > INT64_MAX || !value)
            return gw_cli_fail_usage(cli, "--sample-bytes: '%s' is not a size such as 64MiB",
                                     flags->sample_bytes);
        json_object_set_new(request, "sample_bytes", json_integer((json_int_t)value));
    }
    if (flags->no_sampling)
        json_object_set_new(request, "sampling", json_false());
    if (flags->no_indirection)
        json_object_set_new(request, "indirection", json_false());
    if (flags->no_pulls)
        json_object_set_new(request, "pulls", json_false());
    if (flags->dry_run)
        json_object_set_new(request, "dry_run", json_true());
    return GW_EXIT_OK;
}

void gwi_left_in_words(const json_t *job, char *room, size_t room_bytes)
{
    uint64_t left = gw_json_number(job, "bytes_left"), rate = gw_json_number(job, "rate");
    char size[32], speed[32];
    room[0] = '\0';
    if (gw_json_number(job, "finished_ms") || (!left && !rate))
        return;
    gw_format_size(left, size, sizeof size);
    gw_format_size(rate, speed, sizeof speed);
    if (rate)
        snprintf(room, room_bytes, "%s at %s/s, %.1f s left", size, speed,
                 (double)left / (double)rate);
    else
        snprintf(room, room_bytes, "%s left", size);
}

/* ---- a draft -------------------------------------------------------------------------------- */

static const json_t *share_of(const json_t *shares, const char *server)
{
    size_t i;
    json_t *share;
    json_array_foreach((json_t *)shares, i, share)
    {
        if (strcmp(gw_json_text(share, "server"), server) == 0)
            return share;
    }
    return NULL;
}

static void print_draft(const json_t *draft)
{
    const json_t *after = json_object_get(draft, "after");
    printf("%-16s %16s %24s %24s\n", "SERVER", "SLOTS", "BYTES", "OPERATIONS/S");
    size_t i;
    json_t *share, *move;
    json_array_foreach(json_object_get(draft, "before"), i, share)
    {
        const json_t *then = share_of(after, gw_json_text(share, "server"));
        char slots[48], bytes[80], operations[64], from[32], to[32];
        gw_format_size(gw_json_number(share, "bytes"), from, sizeof from);
        gw_format_size(gw_json_number(then, "bytes"), to, sizeof to);
        snprintf(bytes, sizeof bytes, "%s > %s", from, to);
        snprintf(slots, sizeof slots, "%" PRIu64 " > %" PRIu64, gw_json_number(share, "slots"),
                 gw_json_number(then, "slots"));
        snprintf(operations, sizeof operations, "%" PRIu64 " > %" PRIu64,
                 gw_json_number(share, "operations"), gw_json_number(then, "operations"));
        printf("%-16s %16s %24s %24s\n", gw_json_text(share, "server"), slots, bytes, operations);
    }
    json_array_foreach(json_object_get(draft, "moves"), i, move)
    {
        printf("move %" PRIu64 " slots from %s to %s\n", gw_json_number(move, "slot_count"),
               gw_json_text(move, "from"), gw_json_text(move, "to"));
    }
    json_array_foreach(json_object_get(draft, "left_out"), i, share)
    {
        printf("server %s is down and takes no part\n", json_string_value(share));
    }
    char size[32], shipped[32];
    gw_format_size(gw_json_number(draft, "bytes"), size, sizeof size);
    gw_format_size(gw_json_number(draft, "shipped_bytes"), shipped, sizeof shipped);
    printf("%zu moves of about %s, %s over the wire, in about %.0f s, for map version %" PRIu64
           "\n",
           json_array_size(json_object_get(draft, "moves")), size, shipped,
           (double)gw_json_number(draft, "predicted_ms") / 1000,
           gw_json_number(draft, "map_version"));
}

/* Sends a request that makes a plan (taken; NULL: an id that is no text) and says what came of it.
 */
static enum gw_exit plan(struct gw_cli *cli, const struct gwi_move_flags *flags, json_t *request)
{
    if (!request)
        return gw_cli_fail_usage(cli, "a server's id is printable text");
    enum gw_exit code = gwi_move_options(cli, flags, request);
    if (code != GW_EXIT_OK) {
        json_decref(request);
        return code;
    }
    json_t *answer, *ended;
    bool compares = strcmp(gw_json_text(request, "op"), "rebalance") == 0;
    code = gw_admin_ask_again(cli, request, compares ? NUMBERS_MS : 0, &answer);
    if (code != GW_EXIT_OK)
        return code;
    uint64_t id = gw_json_number(answer, "plan");
    bool wait = flags->wait && !flags->dry_run;
    if (cli->json && !wait)
        return gw_cli_print(cli, answer);
    if (flags->dry_run)
        print_draft(json_object_get(answer, "draft"));
    else if (!cli->json)
        printf("%" PRIu64 "\n", id);
    json_decref(answer);
    code = gw_cli_flush(cli);
    if (!wait || code != GW_EXIT_OK)
        return code;
    code = gw_admin_wait(cli, &id, 1, flags->timeout_s, &ended);
    if (!ended)
        return code;
    code = gw_admin_end_said(cli, code, ended, json_pack("{s:O}", "job", json_array_get(ended, 0)));
    json_decref(ended);
    return code;
}

enum gw_exit gwi_cli_scale_out(struct gw_cli *cli, int argc, char **argv)
{
    const char *to = NULL;
    struct gwi_move_flags move = {0};
    const struct gw_flag flags[] = {{"--to", GW_FLAG_TEXT, &to, 0, 0}, GWI_MOVE_FLAGS(&move), {0}};
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code != GW_EXIT_OK)
        return code;
    if (!to)
        return gw_cli_fail_usage(cli, "--to is missing");
    return plan(cli, &move, json_pack("{s:s, s:s}", "op", "scale-out", "to", to));
}

enum gw_exit gwi_cli_drain(struct gw_cli *cli, int argc, char **argv)
{
    struct gwi_move_flags move = {0};
    const struct gw_flag flags[] = {GWI_MOVE_FLAGS(&move), {0}};
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    return plan(cli, &move, json_pack("{s:s, s:s}", "op", "drain", "server", argv[0]));
}

/* Of a file only what the coordinator reads; the file may be larger than a request. */
static json_t *read_draft(const char *path, char *why, size_t why_bytes)
{
    json_error_t where;
    json_t *file = json_load_file(path, JSON_REJECT_DUPLICATES, &where);
    json_t *draft = json_is_object(file) ? json_object() : NULL;
    static const char *const fields[] = {"kind", "server", "cluster", "map_version", "moves"};
    for (size_t i = 0; draft && i < sizeof fields / sizeof fields[0]; i++)
        if (json_object_get(file, fields[i]))
            json_object_set(draft, fields[i], json_object_get(file, fields[i]));
    if (!draft)
        snprintf(why, why_bytes, "%s", file ? "it is no JSON object" : where.text);
    json_decref(file);
    return draft;
}

/* The draft goes into the file, as it is. */
static enum gw_exit plan_to_file(struct gw_cli *cli, struct gwi_move_flags *move, json_t *request,
                                 const char *path)
{
    move->dry_run = true;
    enum gw_exit code = gwi_move_options(cli, move, request);
    json_t *answer;
    if (code != GW_EXIT_OK) {
        json_decref(request);
        return code;
    }
    code = gw_admin_ask_again(cli, request, NUMBERS_MS, &answer);
    if (code != GW_EXIT_OK)
        return code;
    const json_t *draft = json_object_get(answer, "draft");
    if (json_dump_file(draft, path, JSON_INDENT(2) | JSON_PRESERVE_ORDER) != 0) {
        code =
            gw_cli_fail(cli, GW_EXIT_FAILED, "e_io", "cannot write %s: %s", path, strerror(errno));
    } else if (cli->json) {
        code = gw_cli_print(cli, json_incref(answer));
    } else {
        print_draft(draft);
        printf("%s: apply it with `godwit rebalance --apply %s` before the map changes\n", path,
               path);
        code = gw_cli_flush(cli);
    }
    json_decref(answer);
    return code;
}

enum gw_exit gwi_cli_rebalance(struct gw_cli *cli, int argc, char **argv)
{
    const char *by = NULL, *file = NULL, *apply = NULL;
    struct gwi_move_flags move = {0};
    const struct gw_flag flags[] = {{"--by", GW_FLAG_TEXT, &by, 0, 0},
                                    {"--plan", GW_FLAG_TEXT, &file, 0, 0},
                                    {"--apply", GW_FLAG_TEXT, &apply, 0, 0},
                                    GWI_MOVE_FLAGS(&move),
                                    {0}};
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code != GW_EXIT_OK)
        return code;
    if (file && apply)
        return gw_cli_fail_usage(cli, "--plan and --apply exclude one another");
    if (apply && by)
        return gw_cli_fail_usage(cli, "--by: what --apply does stands in the plan");
    if (file && (move.wait || move.dry_run))
        return gw_cli_fail_usage(cli, "--plan only writes the plan: it neither waits nor needs "
                                      "--dry-run");
    by = by ? by : "both";
    if (strcmp(by, "both") != 0 && strcmp(by, "bytes") != 0 && strcmp(by, "operations") != 0)
        return gw_cli_fail_usage(cli, "--by: both, bytes or operations, not '%s'", by);
    if (apply) {
        char why[JSON_ERROR_TEXT_LENGTH];
        json_t *draft = read_draft(apply, why, sizeof why);
        if (!draft)
            return gw_cli_fail(cli, GW_EXIT_FAILED, "e_invalid", "%s is no plan: %s", apply, why);
        return plan(cli, &move, json_pack("{s:s, s:o}", "op", "plan-apply", "draft", draft));
    }
    json_t *request = json_pack("{s:s, s:s}", "op", "rebalance", "by", by);
    return file && request ? plan_to_file(cli, &move, request, file) : plan(cli, &move, request);
}

/* ---- split, remove -------------------------------------------------------------------------- */

enum gw_exit gwi_cli_split(struct gw_cli *cli, int argc, char **argv)
{
    json_t *answer, *range;
    enum gw_exit code = gw_flags_parse_counted(cli, NULL, &argc, argv, 0, 0);
    if (code == GW_EXIT_OK)
        code = gw_admin_ask(cli, json_pack("{s:s}", "op", "hot"), &answer);
    if (code != GW_EXIT_OK)
        return code;
    if (cli->json)
        return gw_cli_print(cli, answer);
    printf("%-16s %-13s %7s %14s %14s  %s\n", "SERVER", "SLOTS", "NUMBER", "OPERATIONS/S", "A SLOT",
           "HINT");
    size_t i;
    json_array_foreach(json_object_get(answer, "ranges"), i, range)
    {
        char slots[48];
        snprintf(slots, sizeof slots, "%" PRIu64 "-%" PRIu64, gw_json_number(range, "first"),
                 gw_json_number(range, "last"));
        printf("%-16s %-13s %7" PRIu64 " %14" PRIu64 " %14" PRIu64 "  %s\n",
               gw_json_text(range, "server"), slots, gw_json_number(range, "slots"),
               gw_json_number(range, "operations"), gw_json_number(range, "operations_a_slot"),
               gw_json_text(range, "hint"));
    }
    json_decref(answer);
    return gw_cli_flush(cli);
}

enum gw_exit gwi_cli_remove(struct gw_cli *cli, int argc, char **argv)
{
    bool dry_run = false;
    const struct gw_flag flags[] = {{"--dry-run", GW_FLAG_SWITCH, &dry_run, 0, 0}, {0}};
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    json_t *answer, *request = json_pack("{s:s, s:s, s:b}", "op", "remove", "server", argv[0],
                                         "dry_run", dry_run);
    if (!request)
        return gw_cli_fail_usage(cli, "a server's id is printable text");
    code = gw_admin_ask(cli, request, &answer);
    if (code != GW_EXIT_OK)
        return code;
    if (cli->json)
        return gw_cli_print(cli, answer);
    printf("server %s %s\n", argv[0], dry_run ? "can be removed" : "is removed");
    json_decref(answer);
    return gw_cli_flush(cli);
}
