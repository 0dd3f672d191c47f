/* plan_flags.h - what the verbs that move slots share: a job's options as flags, waiting, and
 * numbers in words. Layer: client/cli. */
#ifndef GW_CLIENT_CLI_PLAN_FLAGS_H
#define GW_CLIENT_CLI_PLAN_FLAGS_H

#include "client/cli/admin.h"
#include "client/cli/flags.h"

#define GWI_TIMEOUT_S_MAX 604800u /* a week */

struct gwi_move_flags {
    const char *max_impact, *rate, *sample_time, *sample_bytes;
    bool no_sampling, no_indirection, no_pulls, dry_run, wait;
    uint64_t timeout_s;
};
#define GWI_MOVE_FLAGS(f)                                                                          \
    {"--max-impact", GW_FLAG_TEXT, &(f)->max_impact, 0, 0},                                        \
        {"--rate", GW_FLAG_TEXT, &(f)->rate, 0, 0},                                                \
        {"--sample-time", GW_FLAG_TEXT, &(f)->sample_time, 0, 0},                                  \
        {"--sample-bytes", GW_FLAG_TEXT, &(f)->sample_bytes, 0, 0},                                \
        {"--no-sampling", GW_FLAG_SWITCH, &(f)->no_sampling, 0, 0},                                \
        {"--no-indirection", GW_FLAG_SWITCH, &(f)->no_indirection, 0, 0},                          \
        {"--no-pulls", GW_FLAG_SWITCH, &(f)->no_pulls, 0, 0},                                      \
        {"--dry-run", GW_FLAG_SWITCH, &(f)->dry_run, 0, 0},                                        \
        {"--wait", GW_FLAG_SWITCH, &(f)->wait, 0, 0},                                              \
    {                                                                                              \
        "--timeout", GW_FLAG_NUMBER, &(f)->timeout_s, 1, GWI_TIMEOUT_S_MAX                         \
    }

/* Adds the options that were given to a request. GW_EXIT_USAGE: it has been said. */
enum gw_exit gwi_move_options(struct gw_cli *cli, const struct gwi_move_flags *flags,
                              json_t *request);
/* "1.2 GiB at 80.0 MiB/s, 15 s left": what a job or plan still has to do; "" for one that has
 * ended. */
void gwi_left_in_words(const json_t *job, char *room, size_t room_bytes);
#endif
