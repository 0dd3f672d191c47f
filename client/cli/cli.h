/* cli.h - what the verbs of `godwit` share: exit codes, where output goes, the table of verbs.
 *
 * Data goes to stdout, words and progress to stderr, so that output can be piped. With --json
 * stdout gets exactly one JSON document, also when the verb fails:
 * {"error": {"status": NAME, "message": SENTENCE}}. A verb therefore ends in one of two ways: it
 * prints its result and returns GW_EXIT_OK, or it returns what a gw_cli_fail_* gave.
 * One thread, except inside `count` and `demo`. Layer: client/cli. */
#ifndef GW_CLIENT_CLI_CLI_H
#define GW_CLIENT_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/include/godwit.h"

/* Scripts rely on these numbers: they are never changed. */
enum gw_exit {
    GW_EXIT_OK = 0,
    GW_EXIT_FAILED = 1,
    GW_EXIT_USAGE = 2,
    GW_EXIT_UNREACHABLE = 3,
    GW_EXIT_DEGRADED = 4,   /* status: a server is down */
    GW_EXIT_REFUSED = 5,    /* the cluster answered, and the answer is no */
    GW_EXIT_JOB_FAILED = 6, /* failed or cancelled */
    GW_EXIT_TIMED_OUT = 7,  /* the wait is over, the job goes on */
};

#define GW_CLI_COORDINATOR_DEFAULT "127.0.0.1:7400"

struct gw_cli;

struct gw_cli_verb {
    const char *name;  /* one word or two: "get", "job list" */
    const char *usage; /* what follows the name */
    const char *help;  /* sentences for --help; the first line is the summary */
    /* argv[0] is the first argument behind the name. */
    enum gw_exit (*run)(struct gw_cli *cli, int argc, char **argv);
};

struct gw_cli {
    const char *coordinator; /* checked: HOST:PORT */
    bool json;
    bool no_progress; /* waiting for jobs draws no bar: somebody else does */
    const struct gw_cli_verb *verb;
    struct gw_cluster *cluster; /* NULL until gw_cli_cluster; closed by gw_cli_main */
    struct gw_session *session; /* NULL until gw_cli_session; closed by gw_cli_main */
};

int gw_cli_main(int argc, char **argv);

/* Says what went wrong, on stderr or with --json on stdout, and returns `code`. */
enum gw_exit gw_cli_fail(struct gw_cli *cli, enum gw_exit code, const char *status,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
/* As above for a status of the library; the exit code follows from it. */
enum gw_exit gw_cli_fail_status(struct gw_cli *cli, enum gw_status st, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The wrong flag, argument or number of arguments; adds where the help is. */
enum gw_exit gw_cli_fail_usage(struct gw_cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
enum gw_exit gw_cli_exit_of(enum gw_status st);

/* {"error": {...}} with further fields: the caller adds them and prints it. Owned by the caller. */
json_t *gw_cli_error(const char *status, const char *message);
/* Prints one document and a line end to stdout; takes it. GW_EXIT_FAILED when stdout does. */
enum gw_exit gw_cli_print(struct gw_cli *cli, json_t *document);
/* Flushes stdout: GW_EXIT_FAILED, said once, when something written did not get there. */
enum gw_exit gw_cli_flush(struct gw_cli *cli);

/* The cluster and a session, opened on first use. On anything else than GW_EXIT_OK it has been
 * said. */
enum gw_exit gw_cli_cluster(struct gw_cli *cli);
enum gw_exit gw_cli_session(struct gw_cli *cli);

/* The verbs, one file a group. */
enum gw_exit gwi_cli_status(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_migrate(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_scale_out(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_drain(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_rebalance(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_split(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_remove(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_job_list(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_job_show(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_job_watch(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_job_cancel(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_job_pause(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_job_resume(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_job_revive(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_get(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_set(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_del(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_incr(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_expire(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_persist(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_ttl(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_append(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_prepend(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_getset(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_getdel(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_count(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_export(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_load(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_explain_memory(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_explain_store(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_collect(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_backup(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_restore(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_verify(struct gw_cli *cli, int argc, char **argv);
enum gw_exit gwi_cli_demo(struct gw_cli *cli, int argc, char **argv);
#endif
