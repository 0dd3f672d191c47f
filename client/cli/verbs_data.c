/* verbs_data.c - get, set, del, incr: one operation each, synchronous. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/cli/flags.h"
#include "client/cli/value.h"
#include "index/base/text.h"

#define KEY_BYTES_MAX 65535u
#define DEADLINE_MS   10000u /* somebody sits in front of it */

static enum gw_exit check_key(struct gw_cli *cli, const char *key)
{
    size_t len = strlen(key);
    if (len == 0 || len > KEY_BYTES_MAX)
        return gw_cli_fail_usage(cli, "K: a key has 1 to %u bytes, this one %zu", KEY_BYTES_MAX,
                                 len);
    return GW_EXIT_OK;
}

/* Flags, the key and a session: how each of the four verbs begins. */
static enum gw_exit begin(struct gw_cli *cli, const struct gw_flag *flags, int *argc, char **argv,
                          int least, int most)
{
    enum gw_exit code = gw_flags_parse_counted(cli, flags, argc, argv, least, most);
    if (code == GW_EXIT_OK)
        code = check_key(cli, argv[0]);
    if (code == GW_EXIT_OK)
        code = gw_cli_session(cli);
    if (code == GW_EXIT_OK)
        gw_session_set_deadline(cli->session, DEADLINE_MS);
    return code;
}

/* {"key": ..., FIELD: value}; keys are escaped as in `export`. Takes value. */
static json_t *document_of(const char *key, const char *field, json_t *value)
{
    json_t *text = gw_value_json_text(key, strlen(key)); /* taken */
    return json_pack("{s:o*,s:o*}", "key", text, field, value);
}

enum gw_exit gwi_cli_get(struct gw_cli *cli, int argc, char **argv)
{
    enum gw_exit code = begin(cli, NULL, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    struct gw_result result = {0};
    enum gw_status st = gw_get_sync(cli->session, argv[0], strlen(argv[0]), &result);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "get %s", argv[0]);
    if (cli->json) {
        bool counter = result.kind == GW_VALUE_COUNTER;
        json_t *value = counter ? json_integer(result.number)
                                : gw_value_json_text(result.value, result.value_bytes);
        json_t *document = document_of(argv[0], "value", value);
        json_object_set_new(document, "kind", json_string(counter ? "counter" : "bytes"));
        json_object_set_new(document, "version", json_integer(result.version));
        return gw_cli_print(cli, document);
    }
    if (result.kind == GW_VALUE_COUNTER)
        printf("%" PRId64, result.number);
    else
        fwrite(result.value, 1, result.value_bytes, stdout);
    putchar('\n');
    return gw_cli_flush(cli);
}

enum gw_exit gwi_cli_set(struct gw_cli *cli, int argc, char **argv)
{
    bool bytes = false;
    const struct gw_flag flags[] = {{"--bytes", GW_FLAG_SWITCH, &bytes, 0, 0}, {0}};
    enum gw_exit code = begin(cli, flags, &argc, argv, 2, 2);
    if (code != GW_EXIT_OK)
        return code;
    struct gw_result result = {0};
    int64_t number;
    enum gw_status st;
    if (!bytes && gw_value_is_counter(argv[1], strlen(argv[1]), &number))
        st = gw_set_counter_sync(cli->session, argv[0], strlen(argv[0]), number, &result);
    else
        st = gw_set_sync(cli->session, argv[0], strlen(argv[0]), argv[1], strlen(argv[1]), &result);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "set %s", argv[0]);
    if (!cli->json)
        return GW_EXIT_OK;
    return gw_cli_print(cli, document_of(argv[0], "version", json_integer(result.version)));
}

enum gw_exit gwi_cli_del(struct gw_cli *cli, int argc, char **argv)
{
    enum gw_exit code = begin(cli, NULL, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    enum gw_status st = gw_delete_sync(cli->session, argv[0], strlen(argv[0]), NULL);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "del %s", argv[0]);
    return cli->json ? gw_cli_print(cli, document_of(argv[0], "deleted", json_true())) : GW_EXIT_OK;
}

enum gw_exit gwi_cli_incr(struct gw_cli *cli, int argc, char **argv)
{
    int64_t delta = 1;
    enum gw_exit code = begin(cli, NULL, &argc, argv, 1, 2);
    if (code != GW_EXIT_OK)
        return code;
    if (argc == 2 && gw_parse_i64(argv[1], &delta) != GW_OK)
        return gw_cli_fail_usage(cli, "N: '%s' is not a number from %" PRId64 " to %" PRId64,
                                 argv[1], INT64_MIN, INT64_MAX);
    struct gw_result result = {0};
    enum gw_status st = gw_add_sync(cli->session, argv[0], strlen(argv[0]), delta, 0, &result);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "incr %s", argv[0]);
    if (cli->json)
        return gw_cli_print(cli, document_of(argv[0], "value", json_integer(result.number)));
    printf("%" PRId64 "\n", result.number);
    return gw_cli_flush(cli);
}
