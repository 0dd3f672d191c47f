/* admin.h - requests of the operator to the coordinator (docs/ADMIN.md), and waiting for jobs.
 * Layer: client/cli. */
#ifndef GW_CLIENT_CLI_ADMIN_H
#define GW_CLIENT_CLI_ADMIN_H

#include "client/cli/cli.h"

/* Sends `request` (taken) and gives the answer, which the caller owns. On anything else than
 * GW_EXIT_OK *answer is not written and the failure has been said: 3 unreachable, 5 the coordinator
 * refused, 1 it failed or answered with something that is no answer. */
enum gw_exit gw_admin_ask(struct gw_cli *cli, json_t *request, json_t **answer);

/* The same; what is refused as e_busy is asked again for so long. */
enum gw_exit gw_admin_ask_again(struct gw_cli *cli, json_t *request, uint64_t ms, json_t **answer);

/* The same to another program that answers admin requests, a server. */
enum gw_exit gw_admin_ask_at(struct gw_cli *cli, const char *address, json_t *request,
                             json_t **answer);

/* Waits for the end of `count` jobs, with a bar on stderr if it is a terminal. timeout_s 0: none.
 * *jobs becomes an array of the last job objects (owned by the caller), also when it ends with
 * GW_EXIT_JOB_FAILED or GW_EXIT_TIMED_OUT, which then have not been said yet: gw_admin_end_said
 * does. On other codes the failure has been said and *jobs is NULL. */
enum gw_exit gw_admin_wait(struct gw_cli *cli, const uint64_t *ids, size_t count,
                           uint64_t timeout_s, json_t **jobs);

/* Says how awaited jobs ended: words on stderr, or with --json one document: `document` (taken) as
 * it is for GW_EXIT_OK, with an "error" beside its fields otherwise. Returns code, or 1 when stdout
 * fails. */
enum gw_exit gw_admin_end_said(struct gw_cli *cli, enum gw_exit code, const json_t *jobs,
                               json_t *document);

/* Fields of a job or a server; an absent one is "" or 0. */
const char *gw_json_text(const json_t *object, const char *field);
uint64_t gw_json_number(const json_t *object, const char *field);
#endif
