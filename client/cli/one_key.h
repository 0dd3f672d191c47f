/* one_key.h - what the verbs on one key share: how they begin, how values and expiries are written.
 * Layer: client/cli. */
#ifndef GW_CLIENT_CLI_ONE_KEY_H
#define GW_CLIENT_CLI_ONE_KEY_H

#include "client/cli/cli.h"
#include "client/cli/flags.h"

/* Flags, the key (the first argument) and a session with a deadline for somebody who waits. */
enum gw_exit gwi_one_key_begin(struct gw_cli *cli, const struct gw_flag *flags, int *argc,
                               char **argv, int least, int most);
/* {"key": ..., FIELD: value}; keys are escaped as in `export`. Takes value. */
json_t *gwi_one_key_document(const char *key, const char *field, json_t *value);

/* The value of a result: in decimal or as it is, and a line end; with --json a document with value,
 * kind and version, and the expiry if it has one. There may be none (GW_VALUE_NONE): then nothing,
 * or null. */
enum gw_exit gwi_one_key_print(struct gw_cli *cli, const char *key, const struct gw_result *result);

/* --ttl D and --until MS, of which one may be given. */
struct gwi_expiry_flags {
    const char *ttl;
    uint64_t until_ms; /* 0: not given */
};
#define GWI_EXPIRY_FLAGS(out)                                                                      \
    {"--ttl", GW_FLAG_TEXT, &(out)->ttl, 0, 0},                                                    \
    {                                                                                              \
        "--until", GW_FLAG_NUMBER, &(out)->until_ms, 1, UINT64_MAX - 1                             \
    }
/* *expiry_ms becomes the time, GW_EXPIRY_NONE without flags. */
enum gw_exit gwi_expiry_of(struct gw_cli *cli, const struct gwi_expiry_flags *flags,
                           uint64_t *expiry_ms);
/* What is D from now. `flag` is how it is called in a message. */
enum gw_exit gwi_expiry_after(struct gw_cli *cli, const char *flag, const char *duration,
                              uint64_t *expiry_ms);
#endif
