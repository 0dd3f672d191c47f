/* one_key.c - see one_key.h. */
#include "client/cli/one_key.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/value.h"
#include "index/base/clock.h"

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

enum gw_exit gwi_one_key_begin(struct gw_cli *cli, const struct gw_flag *flags, int *argc,
                               char **argv, int least, int most)
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

json_t *gwi_one_key_document(const char *key, const char *field, json_t *value)
{
    json_t *text = gw_value_json_text(key, strlen(key)); /* taken */
    return json_pack("{s:o*,s:o*}", "key", text, field, value);
}

static enum gw_exit print_json(struct gw_cli *cli, const char *key, const struct gw_result *result)
{
    bool counter = result->kind == GW_VALUE_COUNTER;
    bool none = result->kind == GW_VALUE_NONE;
    json_t *value = none      ? json_null()
                    : counter ? json_integer(result->number)
                              : gw_value_json_text(result->value, result->value_bytes);
    json_t *document = gwi_one_key_document(key, "value", value);
    if (!none)
        json_object_set_new(document, "kind", json_string(counter ? "counter" : "bytes"));
    json_object_set_new(document, "version", json_integer(result->version));
    if (result->expiry_ms)
        json_object_set_new(document, "expiry_ms", json_integer((json_int_t)result->expiry_ms));
    return gw_cli_print(cli, document);
}

enum gw_exit gwi_one_key_print(struct gw_cli *cli, const char *key, const struct gw_result *result)
{
    if (result->kind == GW_VALUE_FORGOTTEN)
        return gw_cli_fail(cli, GW_EXIT_FAILED, gw_status_name(GW_IN_DOUBT),
                           "%s is changed, but the answer with its old value was lost on the way",
                           key);
    if (cli->json)
        return print_json(cli, key, result);
    if (result->kind == GW_VALUE_NONE)
        return GW_EXIT_OK;
    if (result->kind == GW_VALUE_COUNTER)
        printf("%" PRId64, result->number);
    else
        fwrite(result->value, 1, result->value_bytes, stdout);
    putchar('\n');
    return gw_cli_flush(cli);
}

enum gw_exit gwi_expiry_after(struct gw_cli *cli, const char *flag, const char *duration,
                              uint64_t *expiry_ms)
{
    uint64_t ms;
    if (!gw_value_is_duration(duration, &ms))
        return gw_cli_fail_usage(cli, "%s: '%s' is not a duration like 500ms, 10s, 5m, 2h or 7d",
                                 flag, duration);
    *expiry_ms = gw_clock_wall_ms(gw_clock_system()) + ms;
    return GW_EXIT_OK;
}

enum gw_exit gwi_expiry_of(struct gw_cli *cli, const struct gwi_expiry_flags *flags,
                           uint64_t *expiry_ms)
{
    *expiry_ms = flags->until_ms;
    if (!flags->ttl)
        return GW_EXIT_OK;
    if (flags->until_ms)
        return gw_cli_fail_usage(cli, "--ttl: not together with --until");
    return gwi_expiry_after(cli, "--ttl", flags->ttl, expiry_ms);
}
