/* cli.c - the table of verbs, the flags that all of them have, and how results and failures are
 * said. The flags of a verb are read by the verb (flags.h). */
#include "client/cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/text.h"

#define MESSAGE_BYTES 1024

#define MOVE_OPTIONS                                                                               \
    "  --max-impact D    p99 of requests at both ends that shipping may cause (500us, 2ms;\n"      \
    "                    default: 2ms, or as much again as usual if that is more)\n"               \
    "  --rate R          bytes a second that are shipped at most (100MB/s)\n"                      \
    "  --sample-time D   how long the hot set gathers before the transfer (500ms)\n"               \
    "  --sample-bytes N  how much of it goes first (64MiB)\n"                                      \
    "  --no-sampling     no hot set first\n"                                                       \
    "  --no-indirection  what lies in the shared tier is read and shipped, too\n"                  \
    "  --no-pulls        requests wait for their chunk; for measurements\n"                        \
    "  --dry-run         say what would happen, and check it; change nothing\n"

static const struct gw_cli_verb verbs[] = {
    {"status", "",
     "Shows the servers, their slots and the open jobs.\n"
     "Exit code 4 when a server is down.\n",
     gwi_cli_status},
    {"migrate", "--slots A-B[,C-D] --from S --to T [OPTIONS] [--wait [--timeout SECONDS]]",
     "Moves slots from one server to another while both serve.\n"
     "Prints the id of the job. With --wait it returns when the job has ended: exit code 6 if it\n"
     "failed or was cancelled, 7 if SECONDS have passed (the job goes on).\n" MOVE_OPTIONS,
     gwi_cli_migrate},
    {"scale-out", "--to T [OPTIONS] [--wait [--timeout SECONDS]]",
     "Gives server T an even share of all, by bytes.\n"
     "Prints the id of the plan, whose moves run one after the other (`job show`). --wait: as for\n"
     "migrate. A server that was drained takes slots again.\n" MOVE_OPTIONS,
     gwi_cli_scale_out},
    {"drain", "SERVER [OPTIONS] [--wait [--timeout SECONDS]]",
     "Moves everything away from a server, for good, evenly by bytes.\n"
     "Prints the id of the plan. No plan gives the server anything any more: then `remove` it, or\n"
     "name it in a scale-out. Cancelling takes it back. --wait: as for migrate.\n" MOVE_OPTIONS,
     gwi_cli_drain},
    {"rebalance",
     "[--by both|bytes|operations] [--plan FILE | --apply FILE] [OPTIONS] [--wait ...]",
     "Makes the servers even, by bytes and by operations.\n"
     "Prints the id of the plan. It tells what it would do with --dry-run, and writes that with\n"
     "--plan into a file, which --apply carries out unless the map has changed since (exit code "
     "5).\n" MOVE_OPTIONS,
     gwi_cli_rebalance},
    {"split", "",
     "Shows the ranges of slots with most operations a slot, hottest first.\n"
     "A range of one slot is a hot slot: rebalance moves others away from its server, but cannot "
     "divide\n"
     "it. The numbers are sampled.\n",
     gwi_cli_split},
    {"remove", "SERVER [--dry-run]",
     "Takes a server that owns nothing out of the cluster, for good.\n"
     "Its process ends, and none of its id may join again. What it has in the object store is "
     "deleted\n"
     "by another server as soon as nobody needs it.\n",
     gwi_cli_remove},
    {"job list", "", "Lists the jobs, the open ones and those that have ended, one a line.\n",
     gwi_cli_job_list},
    {"job show", "ID", "Shows one job: its state, progress and last error.\n", gwi_cli_job_show},
    {"job watch", "ID [--timeout SECONDS]",
     "Waits for a job to end.\n"
     "Exit code 6 if it failed or was cancelled, 7 if SECONDS have passed (the job goes on).\n",
     gwi_cli_job_watch},
    {"job cancel", "ID",
     "Cancels a job whose transfer is not committed yet (else exit code 5).\n"
     "A committed job finishes, and what it moved can be moved back.\n",
     gwi_cli_job_cancel},
    {"job pause", "ID",
     "Holds an open job up, at any step, for as long as you like.\n"
     "Before the transfer is committed it does not ask for it; later it ships nothing but what\n"
     "requests wait for, and closes. Durable: a restart of any server does not resume it.\n",
     gwi_cli_job_pause},
    {"job resume", "ID", "Lets a paused job go on.\n", gwi_cli_job_resume},
    {"job revive", "ID --lost SERVER [--yes]",
     "Gives the slots of a committed job back to its source, for a target that never comes back.\n"
     "The source goes on with what it had at the transfer; the lost server is fenced for good.\n"
     "Says what is lost by it, and does nothing without --yes. Exit code 5 when the server was\n"
     "heard of in the last 15 seconds, the source is down, the job is not committed (cancel it)\n"
     "or is closing (the target had everything: start it from its data).\n",
     gwi_cli_job_revive},
    {"get", "K",
     "Prints the value of a key: counters in decimal, bytes as they are.\n"
     "Exit code 1 when there is no such key.\n",
     gwi_cli_get},
    {"set", "K V [--bytes] [--ttl D | --until MS | --keep-ttl] [--if-absent | --if-version N]",
     "Sets a key.\n"
     "A value that is a decimal 64-bit integer becomes a counter, which `incr` can change; with\n"
     "--bytes every value is kept as bytes.\n"
     "  --ttl D         the key ends after D: 500ms, 10s, 5m, 2h, 7d; a number alone is seconds\n"
     "  --until MS      the key ends at this Unix time in milliseconds\n"
     "  --keep-ttl      the key keeps the end that it has; without these three it has none\n"
     "  --if-absent     only if there is no such key (else exit code 5)\n"
     "  --if-version N  only if the key has this version, which `get --json` shows (else exit code "
     "5,\n"
     "                  or 1 when there is no such key)\n"
     "Times are compared with the server's clock.\n",
     gwi_cli_set},
    {"del", "K", "Deletes a key. Exit code 1 when there is no such key.\n", gwi_cli_del},
    {"incr", "K [N] [--min N] [--max N] [--clamp] [--ttl D | --until MS]",
     "Adds N (default 1, may be negative) to a counter and prints the new value.\n"
     "A key that does not exist starts at 0. Exit code 5 when the value is no counter or would\n"
     "leave the range of 64-bit integers.\n"
     "  --min N, --max N  the bounds of the new value: beyond them nothing changes, exit code 5\n"
     "  --clamp           beyond a bound it becomes the bound instead\n"
     "  --ttl, --until    when the key ends, as for set; without them it keeps the end that it "
     "has\n",
     gwi_cli_incr},
    {"expire", "K D | K --until MS",
     "Sets when a key ends: after D (500ms, 10s, 5m, 2h, 7d; a number alone is seconds).\n"
     "  --until MS  at this Unix time in milliseconds; a time that is past deletes the key\n"
     "Exit code 1 when there is no such key.\n",
     gwi_cli_expire},
    {"persist", "K", "Takes the end of a key away. Exit code 1 when there is no such key.\n",
     gwi_cli_persist},
    {"ttl", "K",
     "Prints the seconds that a key has left, or `none` when it has no end.\n"
     "Exit code 1 when there is no such key.\n",
     gwi_cli_ttl},
    {"append", "K V [--existing]",
     "Puts V behind the value of a key and prints how many bytes it has now.\n"
     "A key that does not exist is created; with --existing that is exit code 1. Exit code 5 when "
     "the\n"
     "value is a counter or would be too large.\n",
     gwi_cli_append},
    {"prepend", "K V [--existing]", "Puts V before the value of a key; else as append.\n",
     gwi_cli_prepend},
    {"getset", "K V [--bytes] [--ttl D | --until MS]",
     "Sets a key, as set does, and prints the value that it had before.\n"
     "Prints nothing when there was none.\n",
     gwi_cli_getset},
    {"getdel", "K",
     "Deletes a key and prints the value that it had. Exit code 1 when there is no such key.\n",
     gwi_cli_getdel},
    {"count", "[--threads N] [--repeat N] [--timeline FILE] < lines",
     "Adds 1 to the counter named by each line of the input; empty lines are skipped.\n"
     "  --threads N      sessions, one a thread (1 to 64, default 1)\n"
     "  --repeat N       counts the whole input N times; it is then held in memory\n"
     "  --timeline FILE  writes a row every 100 ms: t_ms events p50_us p99_us max_us\n"
     "Prints events, seconds, events/s, the longest wait of any event and the number of events\n"
     "that are in doubt (exit code 1 if there are any). Lines may have 65,535 bytes.\n",
     gwi_cli_count},
    {"export", "> tsv",
     "Prints KEY<TAB>VALUE for every live key of the cluster, each once, in no order.\n"
     "Counters are decimal; bytes are escaped (\\t \\n \\r \\\\ \\xHH). The first byte of a value "
     "that\n"
     "looks like a counter and is none is escaped too, so that `load` gives back what was there,\n"
     "but for the ends of keys: only --json has them.\n"
     "A key that a moving slot shows twice is recognised by its 128-bit hash; the set of these\n"
     "takes 24 to 48 bytes of memory a key.\n",
     gwi_cli_export},
    {"load", "[--bytes] < tsv",
     "Sets KEY to VALUE for every line KEY<TAB>VALUE, with the escapes of `export`.\n"
     "A value that is a decimal 64-bit integer becomes a counter; with --bytes none does.\n",
     gwi_cli_load},
    {"explain memory", "[--server ID | --address HOST:PORT]",
     "Shows where the memory of a server is, beside its bounds and what the system says.\n"
     "With one server in the cluster no flag is needed; --address asks without a coordinator.\n",
     gwi_cli_explain_memory},
    {"explain store", "[--server ID | --address HOST:PORT]",
     "Shows what a server's store holds and has done: log, index, disk, cold reads, compaction.\n",
     gwi_cli_explain_store},
    {"collect", "[--server ID | --address HOST:PORT] [--dry-run] [--timeout SECONDS]",
     "Deletes the objects of a server in the shared tier that nothing needs (--dry-run: names).\n"
     "Servers do so by themselves every six hours. One line for each object: name, bytes, why;\n"
     "what another server needs, or may still be on its way up, stays.\n",
     gwi_cli_collect},
    {"backup", "--to DIR",
     "Copies the newest checkpoint of every server into DIR/SERVER, while they serve.\n"
     "A checkpoint is taken first: what was durable when the verb began is in it. DIR must be "
     "there\n"
     "on each server's machine. Each copy has a manifest with checksums, and is checked by "
     "`verify`.\n"
     "Refused while slots move. Exit code 1 when a copy failed: the reason is named.\n",
     gwi_cli_backup},
    {"restore", "--from DIR [--no-verify]",
     "Writes every key of a backup into this cluster, however many servers it has.\n"
     "DIR is that of `backup`, or one server's part of it, and is read here. It is checked first;\n"
     "keys that are there already are overwritten, others stay. Versions begin anew.\n",
     gwi_cli_restore},
    {"verify", "DIR [--quick]",
     "Checks a server's data directory, or a backup, offline: every file that recovery would "
     "read.\n"
     "Checkpoints, index files, each block of the segments, commit logs, a backup's manifest.\n"
     "Nothing is written. Exit code 1 when anything is damaged or missing: it is named.\n"
     "  --quick  without reading the segments whole\n",
     gwi_cli_verify},
    {"demo", "[--seconds S]",
     "Counts made-up events while slots move between two servers, and checks every count.\n"
     "It counts for S seconds (default 10), in this cluster, while half of the slots of one "
     "server\n"
     "move to another and back, compares every count and deletes its keys (\"demo:...\").\n"
     "Needs two servers. Exit code 1 if any count is wrong.\n",
     gwi_cli_demo},
};
#define VERBS (sizeof verbs / sizeof verbs[0])

static const char overview[] =
    "usage: godwit [-c HOST:PORT] [--json] VERB ...\n"
    "\n"
    "  -c HOST:PORT  the coordinator (default: $GODWIT_COORDINATOR, "
    "else " GW_CLI_COORDINATOR_DEFAULT ")\n"
    "  --json        print one JSON document on stdout, also for errors\n"
    "  --help        this page; behind a verb: that verb's\n"
    "  --version     print the version\n"
    "\n"
    "verbs:\n";

static const char exit_codes[] =
    "\n"
    "exit codes: 0 ok, 1 failed, 2 usage, 3 unreachable, 4 degraded, 5 refused, 6 job failed,\n"
    "            7 timed out while the job goes on\n";

static void print_overview(FILE *to)
{
    fputs(overview, to);
    for (size_t i = 0; i < VERBS; i++) {
        int summary = (int)strcspn(verbs[i].help, "\n");
        fprintf(to, "  %-14s %.*s\n", verbs[i].name, summary, verbs[i].help);
    }
    fputs(exit_codes, to);
}

static void print_help(const struct gw_cli_verb *verb, FILE *to)
{
    fprintf(to, "usage: godwit [-c HOST:PORT] [--json] %s%s%s\n\n%s", verb->name,
            verb->usage[0] ? " " : "", verb->usage, verb->help);
}

/* ---- how failures are said ------------------------------------------------------------------ */

enum gw_exit gw_cli_exit_of(enum gw_status st)
{
    switch (st) {
    case GW_OK:
        return GW_EXIT_OK;
    case GW_E_UNREACHABLE:
    case GW_E_TIMEOUT:
    case GW_E_CLOSED:
        return GW_EXIT_UNREACHABLE;
    case GW_EXISTS:
    case GW_MISMATCH:
    case GW_WRONG_TYPE:
    case GW_OVERFLOW:
    case GW_E_FULL:
    case GW_E_INVALID:
    case GW_E_TOO_LARGE:
    case GW_E_REFUSED:
    case GW_E_LIMIT:
    case GW_E_BUSY:
    case GW_E_UNSUPPORTED:
        return GW_EXIT_REFUSED;
    default: /* not found, in doubt, and what should not happen */
        return GW_EXIT_FAILED;
    }
}

json_t *gw_cli_error(const char *status, const char *message)
{
    /* JSON is UTF-8, and a message may quote whatever bytes the user typed. */
    char clean[MESSAGE_BYTES];
    gw_escape(message, strlen(message), clean, sizeof clean);
    return json_pack("{s:{s:s,s:s}}", "error", "status", status, "message", clean);
}

enum gw_exit gw_cli_flush(struct gw_cli *cli)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return GW_EXIT_OK;
    fprintf(stderr, "godwit: cannot write to stdout: %s\n", strerror(errno));
    (void)cli;
    return GW_EXIT_FAILED;
}

enum gw_exit gw_cli_print(struct gw_cli *cli, json_t *document)
{
    if (!document) {
        fputs("godwit: out of memory\n", stderr);
        return GW_EXIT_FAILED;
    }
    json_dumpf(document, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    fputc('\n', stdout);
    json_decref(document);
    return gw_cli_flush(cli);
}

static enum gw_exit fail(struct gw_cli *cli, enum gw_exit code, const char *status,
                         const char *message)
{
    if (cli->json)
        (void)gw_cli_print(cli, gw_cli_error(status, message)); /* the first failure counts */
    else
        fprintf(stderr, "godwit: %s\n", message);
    return code;
}

enum gw_exit gw_cli_fail(struct gw_cli *cli, enum gw_exit code, const char *status,
                         const char *format, ...)
{
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return fail(cli, code, status, message);
}

enum gw_exit gw_cli_fail_status(struct gw_cli *cli, enum gw_status st, const char *format, ...)
{
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof message)
        snprintf(message + n, sizeof message - (size_t)n, ": %s", gw_status_text(st));
    return fail(cli, gw_cli_exit_of(st), gw_status_name(st), message);
}

enum gw_exit gw_cli_fail_usage(struct gw_cli *cli, const char *format, ...)
{
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    enum gw_exit code = fail(cli, GW_EXIT_USAGE, "usage", message);
    if (!cli->json)
        fprintf(stderr, "see: godwit %s%s--help\n", cli->verb ? cli->verb->name : "",
                cli->verb ? " " : "");
    return code;
}

/* ---- the cluster ---------------------------------------------------------------------------- */

enum gw_exit gw_cli_cluster(struct gw_cli *cli)
{
    if (cli->cluster)
        return GW_EXIT_OK;
    enum gw_status st = gw_cluster_open(cli->coordinator, NULL, &cli->cluster);
    if (st == GW_OK)
        return GW_EXIT_OK;
    return gw_cli_fail_status(cli, st, "coordinator %s", cli->coordinator);
}

enum gw_exit gw_cli_session(struct gw_cli *cli)
{
    if (cli->session)
        return GW_EXIT_OK;
    enum gw_exit code = gw_cli_cluster(cli);
    if (code != GW_EXIT_OK)
        return code;
    enum gw_status st = gw_session_open(cli->cluster, NULL, &cli->session);
    if (st == GW_OK)
        return GW_EXIT_OK;
    return gw_cli_fail_status(cli, st, "cannot open a session");
}

/* ---- main ----------------------------------------------------------------------------------- */

/* The verb at the front of the arguments; *used becomes its number of words. */
static const struct gw_cli_verb *find_verb(int argc, char **argv, int *used)
{
    for (size_t i = 0; i < VERBS; i++) {
        const char *space = strchr(verbs[i].name, ' ');
        size_t first = space ? (size_t)(space - verbs[i].name) : strlen(verbs[i].name);
        if (argc < 1 || strlen(argv[0]) != first || memcmp(argv[0], verbs[i].name, first) != 0)
            continue;
        if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0))
            continue;
        *used = space ? 2 : 1;
        return &verbs[i];
    }
    return NULL;
}

struct common {
    bool help, version;
};

/* Takes the flags that every verb has out of argv, wherever they stand before "--". The rest stays
 * in its order. */
static enum gw_exit take_common(struct gw_cli *cli, struct common *common, int *argc, char **argv)
{
    int kept = 0;
    const char *missing = NULL;
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            for (; i < *argc; i++)
                argv[kept++] = argv[i];
        } else if (strcmp(argv[i], "--json") == 0) {
            cli->json = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            common->help = true;
        } else if (strcmp(argv[i], "--version") == 0) {
            common->version = true;
        } else if (strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "--coordinator") == 0) {
            if (i + 1 < *argc)
                cli->coordinator = argv[++i];
            else
                missing = argv[i];
        } else if (strncmp(argv[i], "--coordinator=", 14) == 0) {
            cli->coordinator = argv[i] + 14;
        } else {
            argv[kept++] = argv[i];
        }
    }
    *argc = kept;
    if (missing) /* said last, when --json is known */
        return gw_cli_fail_usage(cli, "%s: needs HOST:PORT", missing);
    return GW_EXIT_OK;
}

static enum gw_exit check_coordinator(struct gw_cli *cli)
{
    char host[256];
    uint16_t port;
    if (gw_parse_address(cli->coordinator, host, sizeof host, &port) == GW_OK && port != 0)
        return GW_EXIT_OK;
    return gw_cli_fail_usage(cli, "-c: '%s' is not HOST:PORT with a port from 1 to 65535",
                             cli->coordinator);
}

static enum gw_exit run(struct gw_cli *cli, int argc, char **argv)
{
    struct common common = {false, false};
    enum gw_exit code = take_common(cli, &common, &argc, argv);
    if (code != GW_EXIT_OK)
        return code;
    if (common.version) {
        if (cli->json)
            return gw_cli_print(cli, json_pack("{s:s}", "version", GW_VERSION_TEXT));
        puts("godwit " GW_VERSION_TEXT);
        return gw_cli_flush(cli);
    }
    int used = 0;
    cli->verb = find_verb(argc, argv, &used);
    if (common.help) {
        if (cli->verb)
            print_help(cli->verb, stdout);
        else
            print_overview(stdout);
        return gw_cli_flush(cli);
    }
    if (argc == 0) {
        if (!cli->json)
            print_overview(stderr);
        return cli->json ? gw_cli_fail_usage(cli, "a verb is missing") : GW_EXIT_USAGE;
    }
    if (!cli->verb && strcmp(argv[0], "job") == 0)
        return gw_cli_fail_usage(
            cli, "job: one of list, show, watch, cancel, pause, resume, revive must follow");
    if (!cli->verb)
        return gw_cli_fail_usage(cli, "%s: no such verb", argv[0]);
    code = check_coordinator(cli);
    if (code != GW_EXIT_OK)
        return code;
    return cli->verb->run(cli, argc - used, argv + used);
}

int gw_cli_main(int argc, char **argv)
{
    struct gw_cli cli = {.coordinator = getenv("GODWIT_COORDINATOR")};
    if (!cli.coordinator || !cli.coordinator[0])
        cli.coordinator = GW_CLI_COORDINATOR_DEFAULT;
    enum gw_exit code = run(&cli, argc - 1, argv + 1);
    if (cli.session)
        gw_session_close(cli.session);
    gw_cluster_close(cli.cluster);
    return (int)code;
}
