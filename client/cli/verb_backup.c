/* verb_backup.c - backup and restore of a whole cluster. Each server copies its own newest
 * checkpoint; `restore` reads such copies through the server's program and writes every record into
 * a cluster of any number of servers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/admin.h"
#include "client/cli/flags.h"
#include "client/cli/program.h"
#include "client/cli/progress.h"
#include "client/wire/peer.h"
#include "index/base/text.h"

#define POLL_MS          10
#define ASK_AGAIN_MS     200
#define PARTS_MAX        1024u
#define RECORD_BYTES_MAX (128u << 20)
#define PATH_BYTES       1400

/* ---- backup --------------------------------------------------------------------------------- */

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static enum gw_exit ask_status(struct gw_cli *cli, json_t **answer)
{
    return gw_admin_ask(cli, json_pack("{s:s}", "op", "status"), answer);
}

/* Asks every server to begin. */
static enum gw_exit begin_all(struct gw_cli *cli, const json_t *servers, const char *to)
{
    size_t i;
    json_t *server, *answer;
    json_array_foreach((json_t *)servers, i, server)
    {
        enum gw_exit code =
            gw_admin_ask_at(cli, gw_json_text(server, "address"),
                            json_pack("{s:s, s:s}", "op", "backup", "to", to), &answer);
        if (code != GW_EXIT_OK)
            return code;
        json_decref(answer);
    }
    return GW_EXIT_OK;
}

/* Waits for one; `report` gets what it came to. */
static enum gw_exit wait_one(struct gw_cli *cli, const json_t *server, struct gw_progress *bar,
                             json_t *report)
{
    char words[160];
    for (;;) {
        json_t *answer;
        enum gw_exit code = gw_admin_ask_at(cli, gw_json_text(server, "address"),
                                            json_pack("{s:s}", "op", "backup_status"), &answer);
        if (code != GW_EXIT_OK)
            return code;
        const char *state = gw_json_text(answer, "state");
        bool done = strcmp(state, "done") == 0;
        if (done || strcmp(state, "failed") == 0 || strcmp(state, "none") == 0) {
            gw_progress_clear(bar);
            if (!done)
                code = gw_cli_fail(cli, GW_EXIT_FAILED, "e_io", "server %s: %s",
                                   gw_json_text(server, "id"),
                                   strcmp(state, "none") == 0 ? "it has restarted: begin again"
                                                              : gw_json_text(answer, "error"));
            else
                json_array_append_new(report,
                                      json_pack("{s:s, s:I, s:I}", "server",
                                                gw_json_text(server, "id"), "checkpoint",
                                                (json_int_t)gw_json_number(answer, "checkpoint"),
                                                "bytes",
                                                (json_int_t)gw_json_number(answer, "bytes")));
            json_decref(answer);
            return code;
        }
        uint64_t all = gw_json_number(answer, "bytes_all"), bytes = gw_json_number(answer, "bytes");
        snprintf(words, sizeof words, "server %s: %s", gw_json_text(server, "id"), state);
        gw_progress_show(bar, all ? (double)bytes / (double)all : -1, words);
        json_decref(answer);
        pause_ms(ASK_AGAIN_MS);
    }
}

static enum gw_exit backup_said(struct gw_cli *cli, const char *to, json_t *report)
{
    char size[32];
    size_t i;
    json_t *one;
    if (cli->json)
        return gw_cli_print(cli, json_pack("{s:s, s:O}", "to", to, "servers", report));
    json_array_foreach(report, i, one)
    {
        gw_format_size(gw_json_number(one, "bytes"), size, sizeof size);
        printf("server %s: checkpoint %" PRIu64 ", %s in %s/%s\n", gw_json_text(one, "server"),
               gw_json_number(one, "checkpoint"), size, to, gw_json_text(one, "server"));
    }
    return gw_cli_flush(cli);
}

enum gw_exit gwi_cli_backup(struct gw_cli *cli, int argc, char **argv)
{
    const char *to = NULL;
    const struct gw_flag flags[] = {{"--to", GW_FLAG_TEXT, &to, 0, 0}, {0}};
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code != GW_EXIT_OK)
        return code;
    if (!to || to[0] != '/')
        return gw_cli_fail_usage(cli, "--to takes an absolute path on the servers' machines");
    json_t *before, *after, *report = json_array();
    code = ask_status(cli, &before);
    if (code != GW_EXIT_OK) {
        json_decref(report);
        return code;
    }
    const json_t *servers = json_object_get(before, "servers");
    size_t i;
    json_t *server;
    struct gw_progress bar;
    gw_progress_init(&bar);
    if (json_array_size(json_object_get(before, "jobs")) != 0)
        code = gw_cli_fail(cli, GW_EXIT_REFUSED, "e_busy",
                           "slots move: wait until no job is open (`godwit job list`)");
    else
        code = begin_all(cli, servers, to);
    if (code == GW_EXIT_OK)
        json_array_foreach((json_t *)servers, i, server)
        {
            code = wait_one(cli, server, &bar, report);
            if (code != GW_EXIT_OK)
                break;
        }
    if (code == GW_EXIT_OK && (code = ask_status(cli, &after)) == GW_EXIT_OK) {
        if (gw_json_number(after, "map_version") != gw_json_number(before, "map_version"))
            code = gw_cli_fail(cli, GW_EXIT_FAILED, "e_busy",
                               "slots moved meanwhile: these copies do not belong together; remove "
                               "them and begin again");
        json_decref(after);
    }
    if (code == GW_EXIT_OK)
        code = backup_said(cli, to, report);
    json_decref(report);
    json_decref(before);
    return code;
}

/* ---- restore -------------------------------------------------------------------------------- */

struct restore {
    struct gw_cli *cli;
    uint64_t issued, stored, in_doubt;
    enum gw_status failure;
    uint8_t *room;
    size_t room_bytes;
};

static void stored(void *ctx, const struct gw_result *result)
{
    struct restore *r = ctx;
    if (result->status == GW_OK)
        r->stored++;
    else if (result->status == GW_IN_DOUBT)
        r->in_doubt++;
    else if (r->failure == GW_OK)
        r->failure = result->status;
}

static enum gw_status issue(struct restore *r, const struct gw_peer_record *m)
{
    struct gw_write what = {.verb = GW_WRITE_SET,
                            .kind = m->kind == GW_PEER_COUNTER ? GW_VALUE_COUNTER : GW_VALUE_BYTES,
                            .value = m->value,
                            .value_bytes = m->value_bytes,
                            .number = m->number,
                            .expiry_ms = m->expiry_ms};
    for (;;) {
        enum gw_status st = gw_write(r->cli->session, m->key, m->key_bytes, &what, stored, r);
        if (st != GW_WOULD_BLOCK || r->failure != GW_OK)
            return st;
        (void)gw_poll(r->cli->session, POLL_MS);
    }
}

static bool take(FILE *in, void *room, size_t bytes)
{
    return fread(room, 1, bytes, in) == bytes;
}

/* GW_E_CORRUPT: not such a stream, or cut off. */
static enum gw_status read_stream(struct restore *r, FILE *in)
{
    uint8_t head[8];
    uint64_t records = 0;
    if (!take(in, head, 8) || memcmp(head, "GWDUMP1\n", 8) != 0)
        return GW_E_CORRUPT;
    while (r->failure == GW_OK) {
        if (!take(in, head, 4))
            return GW_E_CORRUPT;
        uint32_t bytes = gw_load32(head);
        if (bytes == 0)
            return take(in, head, 8) && gw_load64(head) == records ? GW_OK : GW_E_CORRUPT;
        if (bytes > RECORD_BYTES_MAX)
            return GW_E_CORRUPT;
        if (bytes > r->room_bytes) {
            uint8_t *room = realloc(r->room, bytes);
            if (!room)
                return GW_E_NOMEM;
            r->room = room;
            r->room_bytes = bytes;
        }
        if (!take(in, r->room, bytes))
            return GW_E_CORRUPT;
        struct gw_peer_record m;
        struct gw_reader reader = gw_reader_of(r->room, bytes);
        if (!gw_peer_record_decode(&reader, &m) || m.tombstone)
            return GW_E_CORRUPT;
        records++;
        r->issued++;
        enum gw_status st = issue(r, &m);
        if (st != GW_OK)
            return st;
    }
    return r->failure;
}

/* Runs `godwit-server WORD path`; *out: its stdout, or NULL when that is not wanted. */
static pid_t run_server(const char *word, const char *path, FILE **out)
{
    char program[GW_CLI_PROGRAM_BYTES];
    int ends[2] = {-1, -1};
    gw_cli_server_program(program, sizeof program);
    if (out && pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        int to = out ? ends[1] : open("/dev/null", O_WRONLY);
        dup2(to, STDOUT_FILENO);
        execlp(program, program, word, path, (char *)NULL);
        _exit(127);
    }
    if (out) {
        close(ends[1]);
        *out = child > 0 ? fdopen(ends[0], "rb") : NULL;
        if (!*out)
            close(ends[0]);
    }
    return child;
}

static int exit_code_of(pid_t child)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static enum gw_exit verify_part(struct gw_cli *cli, const char *path)
{
    pid_t child = run_server("verify", path, NULL);
    int code = child < 0 ? 127 : exit_code_of(child);
    if (code == 0)
        return GW_EXIT_OK;
    if (code == 127)
        return gw_cli_fail(cli, GW_EXIT_FAILED, "e_io", "cannot run godwit-server");
    return gw_cli_fail(cli, GW_EXIT_FAILED, "e_corrupt",
                       "%s is damaged: nothing was restored; `godwit verify` names the file", path);
}

static enum gw_exit restore_part(struct restore *r, const char *path)
{
    FILE *in = NULL;
    pid_t child = run_server("dump", path, &in);
    if (child < 0 || !in)
        return gw_cli_fail(r->cli, GW_EXIT_FAILED, "e_io", "cannot run godwit-server: %s",
                           strerror(errno));
    enum gw_status st = read_stream(r, in), drained = gw_drain(r->cli->session, -1);
    fclose(in); /* ends a child that still writes */
    int code = exit_code_of(child);
    if (st == GW_OK)
        st = drained != GW_OK ? drained : r->failure;
    if (st == GW_E_CORRUPT || (st == GW_OK && code != 0))
        return gw_cli_fail(r->cli, GW_EXIT_FAILED, "e_corrupt",
                           "%s could not be read whole: the cluster has a part of it only", path);
    if (st != GW_OK)
        return gw_cli_fail_status(r->cli, st, "restore stopped in %s behind %" PRIu64 " records",
                                  path, r->stored);
    return GW_EXIT_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Directories with a manifest in `from`, or `from` itself; names owned by the caller. */
static uint32_t find_parts(const char *from, char **parts)
{
    char path[PATH_BYTES];
    uint32_t count = 0;
    snprintf(path, sizeof path, "%s/manifest.json", from);
    if (access(path, F_OK) == 0) {
        parts[0] = strdup(from);
        return parts[0] ? 1 : 0;
    }
    DIR *dir = opendir(from);
    for (struct dirent *e; dir && count < PARTS_MAX && (e = readdir(dir));) {
        snprintf(path, sizeof path, "%s/%s/manifest.json", from, e->d_name);
        if (e->d_name[0] == '.' || access(path, F_OK) != 0)
            continue;
        path[strlen(path) - strlen("/manifest.json")] = 0;
        if ((parts[count] = strdup(path)))
            count++;
    }
    if (dir)
        closedir(dir);
    qsort((void *)parts, count, sizeof *parts, by_name);
    return count;
}

enum gw_exit gwi_cli_restore(struct gw_cli *cli, int argc, char **argv)
{
    struct restore r = {.cli = cli};
    const char *from = NULL;
    bool unchecked = false;
    static char *parts[PARTS_MAX];
    const struct gw_flag flags[] = {{"--from", GW_FLAG_TEXT, &from, 0, 0},
                                    {"--no-verify", GW_FLAG_SWITCH, &unchecked, 0, 0},
                                    {0}};
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code != GW_EXIT_OK)
        return code;
    if (!from)
        return gw_cli_fail_usage(cli, "--from is missing: the directory of a backup");
    uint32_t count = find_parts(from, parts);
    if (count == 0)
        return gw_cli_fail(cli, GW_EXIT_FAILED, "not_found",
                           "%s has no backup: no manifest.json in it or in a directory of it",
                           from);
    for (uint32_t i = 0; !unchecked && code == GW_EXIT_OK && i < count; i++)
        code = verify_part(cli, parts[i]);
    if (code == GW_EXIT_OK)
        code = gw_cli_session(cli);
    for (uint32_t i = 0; code == GW_EXIT_OK && i < count; i++)
        code = restore_part(&r, parts[i]);
    if (code == GW_EXIT_OK && r.in_doubt)
        code = gw_cli_fail(cli, GW_EXIT_FAILED, gw_status_name(GW_IN_DOUBT),
                           "%" PRIu64 " keys are in doubt: restore again", r.in_doubt);
    if (code == GW_EXIT_OK && cli->json)
        code = gw_cli_print(cli, json_pack("{s:I, s:i}", "keys", (json_int_t)r.stored, "parts",
                                           (int)count));
    else if (code == GW_EXIT_OK)
        fprintf(stderr, "%" PRIu64 " keys from %u servers\n", r.stored, count);
    for (uint32_t i = 0; i < count; i++)
        free(parts[i]);
    free(r.room);
    return code;
}
