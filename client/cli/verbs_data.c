/* verbs_data.c - get, set, del, incr: one operation each, synchronous. Those about expiry and about
 * old values are in verbs_values.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/one_key.h"
#include "client/cli/value.h"
#include "index/base/text.h"

enum gw_exit gwi_cli_get(struct gw_cli *cli, int argc, char **argv)
{
    enum gw_exit code = gwi_one_key_begin(cli, NULL, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    struct gw_result result = {0};
    enum gw_status st = gw_get_sync(cli->session, argv[0], strlen(argv[0]), &result);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "get %s", argv[0]);
    return gwi_one_key_print(cli, argv[0], &result);
}

/* What the flags of `set` make of the write. */
static enum gw_exit set_flags(struct gw_cli *cli, const struct gwi_expiry_flags *expiry,
                              bool keep_ttl, bool if_absent, uint64_t if_version,
                              struct gw_write *write)
{
    enum gw_exit code = gwi_expiry_of(cli, expiry, &write->expiry_ms);
    if (code != GW_EXIT_OK)
        return code;
    if (if_absent && if_version)
        return gw_cli_fail_usage(cli, "--if-absent: not together with --if-version");
    if (keep_ttl && write->expiry_ms)
        return gw_cli_fail_usage(cli, "--keep-ttl: not together with --ttl or --until");
    if (keep_ttl)
        write->expiry_ms = GW_EXPIRY_KEEP;
    write->verb = if_absent ? GW_WRITE_INSERT : if_version ? GW_WRITE_CAS : GW_WRITE_SET;
    write->expected_version = (uint32_t)if_version;
    return GW_EXIT_OK;
}

enum gw_exit gwi_cli_set(struct gw_cli *cli, int argc, char **argv)
{
    bool bytes = false, keep_ttl = false, if_absent = false;
    uint64_t if_version = 0;
    struct gwi_expiry_flags expiry = {0};
    const struct gw_flag flags[] = {{"--bytes", GW_FLAG_SWITCH, &bytes, 0, 0},
                                    GWI_EXPIRY_FLAGS(&expiry),
                                    {"--keep-ttl", GW_FLAG_SWITCH, &keep_ttl, 0, 0},
                                    {"--if-absent", GW_FLAG_SWITCH, &if_absent, 0, 0},
                                    {"--if-version", GW_FLAG_NUMBER, &if_version, 1, UINT32_MAX},
                                    {0}};
    struct gw_write write = {0};
    enum gw_exit code = gwi_one_key_begin(cli, flags, &argc, argv, 2, 2);
    if (code == GW_EXIT_OK)
        code = set_flags(cli, &expiry, keep_ttl, if_absent, if_version, &write);
    if (code != GW_EXIT_OK)
        return code;
    write.value = argv[1];
    write.value_bytes = strlen(argv[1]);
    if (!bytes && gw_value_is_counter(argv[1], write.value_bytes, &write.number))
        write.kind = GW_VALUE_COUNTER;
    struct gw_result result = {0};
    enum gw_status st = gw_write_sync(cli->session, argv[0], strlen(argv[0]), &write, &result);
    if (st == GW_MISMATCH)
        return gw_cli_fail(cli, GW_EXIT_REFUSED, gw_status_name(st),
                           "set %s: its version is %" PRIu32, argv[0], result.version);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "set %s", argv[0]);
    if (!cli->json)
        return GW_EXIT_OK;
    return gw_cli_print(cli,
                        gwi_one_key_document(argv[0], "version", json_integer(result.version)));
}

enum gw_exit gwi_cli_del(struct gw_cli *cli, int argc, char **argv)
{
    enum gw_exit code = gwi_one_key_begin(cli, NULL, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    enum gw_status st = gw_delete_sync(cli->session, argv[0], strlen(argv[0]), NULL);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "del %s", argv[0]);
    return cli->json ? gw_cli_print(cli, gwi_one_key_document(argv[0], "deleted", json_true()))
                     : GW_EXIT_OK;
}

/* A flag with a signed number; NULL: not given. */
static enum gw_exit signed_flag(struct gw_cli *cli, const char *name, const char *text,
                                int64_t *out)
{
    if (!text || gw_parse_i64(text, out) == GW_OK)
        return GW_EXIT_OK;
    return gw_cli_fail_usage(cli, "%s: '%s' is not a number from %" PRId64 " to %" PRId64, name,
                             text, INT64_MIN, INT64_MAX);
}

enum gw_exit gwi_cli_incr(struct gw_cli *cli, int argc, char **argv)
{
    int64_t delta = 1;
    const char *low = NULL, *high = NULL;
    struct gwi_expiry_flags expiry = {0};
    struct gw_add_options add = {.low = INT64_MIN, .high = INT64_MAX};
    const struct gw_flag flags[] = {{"--min", GW_FLAG_TEXT, &low, 0, 0},
                                    {"--max", GW_FLAG_TEXT, &high, 0, 0},
                                    {"--clamp", GW_FLAG_SWITCH, &add.clamp, 0, 0},
                                    GWI_EXPIRY_FLAGS(&expiry),
                                    {0}};
    enum gw_exit code = gwi_one_key_begin(cli, flags, &argc, argv, 1, 2);
    if (code == GW_EXIT_OK && argc == 2)
        code = signed_flag(cli, "N", argv[1], &delta);
    if (code == GW_EXIT_OK)
        code = signed_flag(cli, "--min", low, &add.low);
    if (code == GW_EXIT_OK)
        code = signed_flag(cli, "--max", high, &add.high);
    if (code == GW_EXIT_OK)
        code = gwi_expiry_of(cli, &expiry, &add.expiry_ms);
    if (code != GW_EXIT_OK)
        return code;
    if (add.low > add.high)
        return gw_cli_fail_usage(cli, "--min: %" PRId64 " lies above --max %" PRId64, add.low,
                                 add.high);
    add.bounded = low || high || add.clamp;
    struct gw_result result = {0};
    enum gw_status st =
        gw_add_with_sync(cli->session, argv[0], strlen(argv[0]), delta, &add, &result);
    if (st == GW_OVERFLOW && add.bounded)
        return gw_cli_fail(cli, GW_EXIT_REFUSED, gw_status_name(st),
                           "incr %s: the counter would leave %" PRId64 " to %" PRId64, argv[0],
                           add.low, add.high);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "incr %s", argv[0]);
    if (cli->json)
        return gw_cli_print(cli,
                            gwi_one_key_document(argv[0], "value", json_integer(result.number)));
    printf("%" PRId64 "\n", result.number);
    return gw_cli_flush(cli);
}
