/* verbs_cluster.c - status, migrate and the job verbs: requests to the coordinator. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/cli/admin.h"
#include "client/cli/flags.h"
#include "client/cli/plan_flags.h"
#include "index/base/slots.h"
#include "index/base/text.h"

/* ---- status --------------------------------------------------------------------------------- */

/* "commit, checkpoint 12 3.1 s ago", "none" */
static void describe_durability(const json_t *server, char *room, size_t room_bytes)
{
    const char *mode = gw_json_text(server, "durability");
    uint64_t checkpoint = gw_json_number(server, "checkpoint");
    if (strcmp(mode, "none") == 0 || !mode[0])
        snprintf(room, room_bytes, "none");
    else if (checkpoint == 0)
        snprintf(room, room_bytes, "%.16s, no checkpoint yet", mode);
    else
        snprintf(room, room_bytes, "%.16s, checkpoint %" PRIu64 " %.1f s ago", mode, checkpoint,
                 (double)gw_json_number(server, "checkpoint_age_ms") / 1000);
}

static void print_servers(const json_t *servers)
{
    printf("%-16s %-6s %-22s %7s %12s %22s %22s %9s  %s\n", "SERVER", "STATE", "ADDRESS", "SLOTS",
           "KEYS", "MEMORY", "DISK", "SESSIONS", "DURABLE");
    size_t i;
    json_t *server;
    json_array_foreach((json_t *)servers, i, server)
    {
        char used[32], total[32], memory[72], disk[72] = "-", durable[96];
        gw_format_size(gw_json_number(server, "memory_used"), used, sizeof used);
        gw_format_size(gw_json_number(server, "memory_total"), total, sizeof total);
        snprintf(memory, sizeof memory, "%s of %s", used, total);
        if (gw_json_number(server, "disk_total")) {
            gw_format_size(gw_json_number(server, "disk_used"), used, sizeof used);
            gw_format_size(gw_json_number(server, "disk_total"), total, sizeof total);
            snprintf(disk, sizeof disk, "%s of %s", used, total);
        }
        describe_durability(server, durable, sizeof durable);
        printf("%-16s %-6s %-22s %7" PRIu64 " %12" PRIu64 " %22s %22s %9" PRIu64 "  %s\n",
               gw_json_text(server, "id"), gw_json_text(server, "state"),
               gw_json_text(server, "address"), gw_json_number(server, "slots"),
               gw_json_number(server, "keys"), memory, disk, gw_json_number(server, "sessions"),
               durable);
    }
    json_array_foreach((json_t *)servers, i, server)
    {
        const char *trouble = gw_json_text(server, "trouble");
        if (trouble[0])
            printf("%s: %s\n", gw_json_text(server, "id"), trouble);
    }
}

/* "created", "waiting", "committed, paused" */
static void describe_state(const json_t *job, char *room, size_t room_bytes)
{
    bool paused = json_is_true(json_object_get(job, "paused"));
    bool waiting = json_is_true(json_object_get(job, "waiting"));
    snprintf(room, room_bytes, "%.20s%s", waiting ? "waiting" : gw_json_text(job, "state"),
             paused ? ", paused" : "");
}

static void print_jobs(const json_t *jobs)
{
    printf("%-6s %-17s %-12s %-12s %7s %9s %12s %10s  %s\n", "JOB", "STATE", "FROM", "TO", "SLOTS",
           "CHUNKS", "MOVED", "PAUSE", "LEFT, ERROR");
    size_t i;
    json_t *job;
    json_array_foreach((json_t *)jobs, i, job)
    {
        char moved[32], chunks[48], state[48], left[96];
        describe_state(job, state, sizeof state);
        gwi_left_in_words(job, left, sizeof left);
        const char *error = gw_json_text(job, "error");
        gw_format_size(gw_json_number(job, "bytes_moved"), moved, sizeof moved);
        snprintf(chunks, sizeof chunks, "%" PRIu64 "/%" PRIu64, gw_json_number(job, "chunks_done"),
                 gw_json_number(job, "chunks"));
        printf("%-6" PRIu64 " %-17s %-12s %-12s %7" PRIu64 " %9s %12s %7.1f ms  %s%s%s\n",
               gw_json_number(job, "id"), state, gw_json_text(job, "from"), gw_json_text(job, "to"),
               gw_json_number(job, "slot_count"), chunks, moved,
               (double)gw_json_number(job, "pause_us") / 1000, left,
               left[0] && error[0] ? ": " : "", error);
    }
}

static void print_plans(const json_t *plans)
{
    if (json_array_size(plans) == 0)
        return;
    printf("%-6s %-17s %-12s %-12s %9s %12s  %s\n", "PLAN", "STATE", "KIND", "SERVER", "MOVES",
           "MOVED", "LEFT, ERROR");
    size_t i;
    json_t *plan;
    json_array_foreach((json_t *)plans, i, plan)
    {
        char moved[32], moves[48], state[48], left[320];
        describe_state(plan, state, sizeof state);
        gwi_left_in_words(plan, left, sizeof left);
        const char *phase = gw_json_text(plan, "phase");
        if (phase[0]) {
            size_t n = strlen(left);
            snprintf(left + n, sizeof left - n, "%s%.160s", n ? "; " : "", phase);
        }
        const char *error = gw_json_text(plan, "error"), *from = gw_json_text(plan, "from");
        gw_format_size(gw_json_number(plan, "bytes_moved"), moved, sizeof moved);
        snprintf(moves, sizeof moves, "%" PRIu64 "/%" PRIu64, gw_json_number(plan, "moves_done"),
                 gw_json_number(plan, "moves"));
        printf("%-6" PRIu64 " %-17s %-12s %-12s %9s %12s  %s%s%s\n", gw_json_number(plan, "id"),
               state, gw_json_text(plan, "kind"), from[0] ? from : gw_json_text(plan, "to"), moves,
               moved, left, left[0] && error[0] ? ": " : "", error);
    }
}

enum gw_exit gwi_cli_status(struct gw_cli *cli, int argc, char **argv)
{
    json_t *answer;
    enum gw_exit code = gw_flags_parse_counted(cli, NULL, &argc, argv, 0, 0);
    if (code == GW_EXIT_OK)
        code = gw_admin_ask(cli, json_pack("{s:s}", "op", "status"), &answer);
    if (code != GW_EXIT_OK)
        return code;
    bool healthy = json_is_true(json_object_get(answer, "healthy"));
    enum gw_exit health = healthy ? GW_EXIT_OK : GW_EXIT_DEGRADED;
    if (cli->json) {
        code = gw_cli_print(cli, answer);
        return code != GW_EXIT_OK ? code : health;
    }
    const json_t *jobs = json_object_get(answer, "jobs");
    const json_t *plans = json_object_get(answer, "plans");
    printf("map %" PRIu64 ", cluster %s, %s\n", gw_json_number(answer, "map_version"),
           gw_json_text(answer, "cluster"), healthy ? "healthy" : "degraded");
    print_servers(json_object_get(answer, "servers"));
    if (json_array_size(jobs) > 0) {
        putchar('\n');
        print_jobs(jobs);
    }
    if (json_array_size(plans) > 0)
        putchar('\n');
    print_plans(plans);
    json_decref(answer);
    code = gw_cli_flush(cli);
    return code != GW_EXIT_OK ? code : health;
}

/* ---- migrate, scale-out --------------------------------------------------------------------- */

enum gw_exit gwi_cli_migrate(struct gw_cli *cli, int argc, char **argv)
{
    const char *slots = NULL, *from = NULL, *to = NULL;
    struct gwi_move_flags move = {0};
    const struct gw_flag flags[] = {
        {"--slots", GW_FLAG_TEXT, &slots, 0, 0},
        {"--from", GW_FLAG_TEXT, &from, 0, 0},
        {"--to", GW_FLAG_TEXT, &to, 0, 0},
        GWI_MOVE_FLAGS(&move),
        {0},
    };
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code != GW_EXIT_OK)
        return code;
    if (!slots || !from || !to)
        return gw_cli_fail_usage(cli, "%s is missing",
                                 !slots  ? "--slots"
                                 : !from ? "--from"
                                         : "--to");
    struct gw_slots set;
    char why[160];
    if (gw_slots_parse(slots, &set, why, sizeof why) != GW_OK)
        return gw_cli_fail_usage(cli, "--slots: %s", why);

    json_t *request =
        json_pack("{s:s, s:s, s:s, s:s}", "op", "migrate", "slots", slots, "from", from, "to", to);
    json_t *answer, *jobs;
    if (!request)
        return gw_cli_fail_usage(cli, "--from, --to: a server's id is printable text");
    code = gwi_move_options(cli, &move, request);
    if (code != GW_EXIT_OK) {
        json_decref(request);
        return code;
    }
    code = gw_admin_ask(cli, request, &answer);
    if (code != GW_EXIT_OK)
        return code;
    uint64_t id = gw_json_number(answer, "job");
    bool wait = move.wait && !move.dry_run;
    if (!wait && cli->json)
        return gw_cli_print(cli, answer);
    if (move.dry_run) {
        printf("would move %" PRIu64 " slots from %s to %s\n", gw_json_number(answer, "slot_count"),
               from, to);
        json_decref(answer);
        return gw_cli_flush(cli);
    }
    json_decref(answer);
    if (!cli->json)
        printf("%" PRIu64 "\n", id);
    code = gw_cli_flush(cli);
    if (!wait || code != GW_EXIT_OK)
        return code;
    code = gw_admin_wait(cli, &id, 1, move.timeout_s, &jobs);
    if (!jobs)
        return code;
    code = gw_admin_end_said(cli, code, jobs, json_pack("{s:O}", "job", json_array_get(jobs, 0)));
    json_decref(jobs);
    return code;
}

/* ---- job ------------------------------------------------------------------------------------ */

enum gw_exit gwi_cli_job_list(struct gw_cli *cli, int argc, char **argv)
{
    json_t *answer;
    enum gw_exit code = gw_flags_parse_counted(cli, NULL, &argc, argv, 0, 0);
    if (code == GW_EXIT_OK)
        code = gw_admin_ask(cli, json_pack("{s:s}", "op", "job-list"), &answer);
    if (code != GW_EXIT_OK)
        return code;
    if (cli->json)
        return gw_cli_print(cli, answer);
    print_jobs(json_object_get(answer, "jobs"));
    if (json_array_size(json_object_get(answer, "plans")) > 0)
        putchar('\n');
    print_plans(json_object_get(answer, "plans"));
    json_decref(answer);
    return gw_cli_flush(cli);
}

static enum gw_exit parse_id(struct gw_cli *cli, const struct gw_flag *flags, int *argc,
                             char **argv, uint64_t *id)
{
    enum gw_exit code = gw_flags_parse_counted(cli, flags, argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    if (gw_parse_u64(argv[0], 1, INT64_MAX, id) != GW_OK)
        return gw_cli_fail_usage(cli, "ID: '%s' is not a job's number (1 or more)", argv[0]);
    return GW_EXIT_OK;
}

static void print_field(const char *key, const json_t *value)
{
    if (json_is_string(value)) {
        printf("%-15s %s\n", key, json_string_value(value));
    } else if (json_is_boolean(value)) {
        printf("%-15s %s\n", key, json_is_true(value) ? "yes" : "no");
    } else if (json_is_integer(value)) {
        printf("%-15s %" PRId64 "\n", key, (int64_t)json_integer_value(value));
    } else if (json_is_array(value)) {
        printf("%-15s", key);
        for (size_t i = 0; i < json_array_size(value); i++)
            printf(" %" PRId64, (int64_t)json_integer_value(json_array_get(value, i)));
        putchar('\n');
    }
}

static void print_job(const json_t *job)
{
    const char *key, *name;
    json_t *value, *option;
    json_object_foreach((json_t *)job, key, value)
    {
        print_field(key, value);
        json_object_foreach(value, name, option) /* none, unless it is an object: the options */
        {
            print_field(name, option);
        }
    }
    char left[96];
    gwi_left_in_words(job, left, sizeof left);
    if (left[0])
        printf("%-15s %s\n", "left", left);
}

/* job-show, job-cancel, job-pause, job-resume: one request with an id, which is answered with the
 * job. */
static enum gw_exit ask_about(struct gw_cli *cli, const char *op, int argc, char **argv)
{
    uint64_t id;
    json_t *answer;
    enum gw_exit code = parse_id(cli, NULL, &argc, argv, &id);
    if (code == GW_EXIT_OK)
        code = gw_admin_ask(cli, json_pack("{s:s, s:I}", "op", op, "id", (json_int_t)id), &answer);
    if (code != GW_EXIT_OK)
        return code;
    if (cli->json)
        return gw_cli_print(cli, answer);
    print_job(json_object_get(answer, "job"));
    json_decref(answer);
    return gw_cli_flush(cli);
}

enum gw_exit gwi_cli_job_show(struct gw_cli *cli, int argc, char **argv)
{
    return ask_about(cli, "job-show", argc, argv);
}

enum gw_exit gwi_cli_job_cancel(struct gw_cli *cli, int argc, char **argv)
{
    return ask_about(cli, "job-cancel", argc, argv);
}

enum gw_exit gwi_cli_job_pause(struct gw_cli *cli, int argc, char **argv)
{
    return ask_about(cli, "job-pause", argc, argv);
}

enum gw_exit gwi_cli_job_resume(struct gw_cli *cli, int argc, char **argv)
{
    return ask_about(cli, "job-resume", argc, argv);
}

static void print_loss(const json_t *answer, const char *lost)
{
    const json_t *job = json_object_get(answer, "job"), *loses = json_object_get(answer, "loses");
    time_t at = (time_t)(gw_json_number(loses, "writes_since_ms") / 1000);
    char when[64] = "?";
    struct tm tm;
    if (localtime_r(&at, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    bool revived = json_is_true(json_object_get(answer, "revived"));
    fprintf(stderr,
            "job %" PRIu64 ": server %s %s its %" PRIu64 " slots back as it had them at %s\n",
            gw_json_number(job, "id"), gw_json_text(job, "from"), revived ? "has" : "would get",
            gw_json_number(job, "slot_count"), when);
    fprintf(stderr, "lost with server %s:\n", lost);
    fprintf(stderr, "  every write to these slots since then, acknowledged ones too\n");
    fprintf(stderr, "  its %" PRIu64 " other slots (%s), with whatever they hold\n",
            gw_json_number(loses, "other_slots"),
            gw_json_number(loses, "other_slots") ? gw_json_text(loses, "other_slot_ranges")
                                                 : "none");
    fprintf(stderr,
            "  it had %" PRIu64 " keys in all when it was heard of last, and a part in %" PRIu64
            " other open jobs\n",
            gw_json_number(loses, "keys"), gw_json_number(loses, "other_jobs"));
    if (revived)
        fprintf(stderr, "server %s is fenced: it can never join again\n", lost);
    else
        fprintf(stderr,
                "Server %s would be fenced for good. Make sure that its process is dead: while it "
                "lives it serves\nwho still asks it. Nothing has been done; --yes does it.\n",
                lost);
}

enum gw_exit gwi_cli_job_revive(struct gw_cli *cli, int argc, char **argv)
{
    uint64_t id;
    const char *lost = NULL;
    bool yes = false;
    const struct gw_flag flags[] = {
        {"--lost", GW_FLAG_TEXT, &lost, 0, 0},
        {"--yes", GW_FLAG_SWITCH, &yes, 0, 0},
        {0},
    };
    json_t *answer;
    enum gw_exit code = parse_id(cli, flags, &argc, argv, &id);
    if (code != GW_EXIT_OK)
        return code;
    if (!lost)
        return gw_cli_fail_usage(cli, "--lost is missing: name the server that never comes back");
    json_t *request = json_pack("{s:s, s:I, s:s, s:b}", "op", "job-revive", "id", (json_int_t)id,
                                "lost", lost, "really", yes);
    if (!request)
        return gw_cli_fail_usage(cli, "--lost: a server's id is printable text");
    code = gw_admin_ask(cli, request, &answer);
    if (code != GW_EXIT_OK)
        return code;
    if (cli->json)
        return gw_cli_print(cli, answer);
    print_loss(answer, lost);
    json_decref(answer);
    return GW_EXIT_OK;
}

enum gw_exit gwi_cli_job_watch(struct gw_cli *cli, int argc, char **argv)
{
    uint64_t id, timeout_s = 0;
    json_t *jobs;
    const struct gw_flag flags[] = {
        {"--timeout", GW_FLAG_NUMBER, &timeout_s, 1, GWI_TIMEOUT_S_MAX},
        {0},
    };
    enum gw_exit code = parse_id(cli, flags, &argc, argv, &id);
    if (code == GW_EXIT_OK) {
        code = gw_admin_wait(cli, &id, 1, timeout_s, &jobs);
        if (!jobs)
            return code;
        code =
            gw_admin_end_said(cli, code, jobs, json_pack("{s:O}", "job", json_array_get(jobs, 0)));
        json_decref(jobs);
    }
    return code;
}
