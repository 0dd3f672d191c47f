/* verbs_values.c - expire, persist, ttl, append, prepend, getset, getdel: one operation each,
 * synchronous. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "client/cli/one_key.h"
#include "client/cli/value.h"
#include "index/base/clock.h"

/* A verb that only says that it was done: nothing, or with --json the version. */
static enum gw_exit done(struct gw_cli *cli, const char *verb, const char *key, enum gw_status st,
                         const struct gw_result *result)
{
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "%s %s", verb, key);
    if (!cli->json)
        return GW_EXIT_OK;
    return gw_cli_print(cli, gwi_one_key_document(key, "version", json_integer(result->version)));
}

enum gw_exit gwi_cli_expire(struct gw_cli *cli, int argc, char **argv)
{
    uint64_t expiry_ms = 0;
    const struct gw_flag flags[] = {{"--until", GW_FLAG_NUMBER, &expiry_ms, 1, UINT64_MAX - 1},
                                    {0}};
    enum gw_exit code = gwi_one_key_begin(cli, flags, &argc, argv, 1, 2);
    if (code != GW_EXIT_OK)
        return code;
    if ((argc == 2) == (expiry_ms != 0))
        return gw_cli_fail_usage(cli, "expire: needs either a duration or --until");
    if (argc == 2)
        code = gwi_expiry_after(cli, "D", argv[1], &expiry_ms);
    if (code != GW_EXIT_OK)
        return code;
    struct gw_result result = {0};
    enum gw_status st = gw_touch_sync(cli->session, argv[0], strlen(argv[0]), expiry_ms, &result);
    return done(cli, "expire", argv[0], st, &result);
}

enum gw_exit gwi_cli_persist(struct gw_cli *cli, int argc, char **argv)
{
    enum gw_exit code = gwi_one_key_begin(cli, NULL, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    struct gw_result result = {0};
    enum gw_status st = gw_persist_sync(cli->session, argv[0], strlen(argv[0]), &result);
    return done(cli, "persist", argv[0], st, &result);
}

enum gw_exit gwi_cli_ttl(struct gw_cli *cli, int argc, char **argv)
{
    enum gw_exit code = gwi_one_key_begin(cli, NULL, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    struct gw_result result = {0};
    enum gw_status st = gw_get_sync(cli->session, argv[0], strlen(argv[0]), &result);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "ttl %s", argv[0]);
    uint64_t now_ms = gw_clock_wall_ms(gw_clock_system());
    uint64_t left_ms = result.expiry_ms > now_ms ? result.expiry_ms - now_ms : 0;
    bool has = result.expiry_ms != 0;
    if (cli->json) {
        json_t *document =
            gwi_one_key_document(argv[0], "ttl_ms",
                                 has ? json_integer((json_int_t)left_ms) : json_null());
        json_object_set_new(document, "expiry_ms",
                            has ? json_integer((json_int_t)result.expiry_ms) : json_null());
        return gw_cli_print(cli, document);
    }
    if (has)
        printf("%" PRIu64 ".%03u\n", left_ms / 1000, (unsigned)(left_ms % 1000));
    else
        puts("none");
    return gw_cli_flush(cli);
}

static enum gw_exit put_piece(struct gw_cli *cli, const char *verb, int argc, char **argv)
{
    bool existing = false;
    const struct gw_flag flags[] = {{"--existing", GW_FLAG_SWITCH, &existing, 0, 0}, {0}};
    enum gw_exit code = gwi_one_key_begin(cli, flags, &argc, argv, 2, 2);
    if (code != GW_EXIT_OK)
        return code;
    struct gw_result result = {0};
    uint32_t how = existing ? GW_MUST_EXIST : 0;
    enum gw_status st;
    if (strcmp(verb, "append") == 0)
        st = gw_append_sync(cli->session, argv[0], strlen(argv[0]), argv[1], strlen(argv[1]), how,
                            &result);
    else
        st = gw_prepend_sync(cli->session, argv[0], strlen(argv[0]), argv[1], strlen(argv[1]), how,
                             &result);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "%s %s", verb, argv[0]);
    if (cli->json)
        return gw_cli_print(cli,
                            gwi_one_key_document(argv[0], "bytes",
                                                 json_integer((json_int_t)result.value_bytes)));
    printf("%zu\n", result.value_bytes);
    return gw_cli_flush(cli);
}

enum gw_exit gwi_cli_append(struct gw_cli *cli, int argc, char **argv)
{
    return put_piece(cli, "append", argc, argv);
}

enum gw_exit gwi_cli_prepend(struct gw_cli *cli, int argc, char **argv)
{
    return put_piece(cli, "prepend", argc, argv);
}

enum gw_exit gwi_cli_getset(struct gw_cli *cli, int argc, char **argv)
{
    bool bytes = false;
    struct gwi_expiry_flags expiry = {0};
    const struct gw_flag flags[] = {{"--bytes", GW_FLAG_SWITCH, &bytes, 0, 0},
                                    GWI_EXPIRY_FLAGS(&expiry),
                                    {0}};
    struct gw_write write = {.verb = GW_WRITE_GET_SET};
    enum gw_exit code = gwi_one_key_begin(cli, flags, &argc, argv, 2, 2);
    if (code == GW_EXIT_OK)
        code = gwi_expiry_of(cli, &expiry, &write.expiry_ms);
    if (code != GW_EXIT_OK)
        return code;
    write.value = argv[1];
    write.value_bytes = strlen(argv[1]);
    if (!bytes && gw_value_is_counter(argv[1], write.value_bytes, &write.number))
        write.kind = GW_VALUE_COUNTER;
    struct gw_result result = {0};
    enum gw_status st = gw_write_sync(cli->session, argv[0], strlen(argv[0]), &write, &result);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "getset %s", argv[0]);
    return gwi_one_key_print(cli, argv[0], &result);
}

enum gw_exit gwi_cli_getdel(struct gw_cli *cli, int argc, char **argv)
{
    enum gw_exit code = gwi_one_key_begin(cli, NULL, &argc, argv, 1, 1);
    if (code != GW_EXIT_OK)
        return code;
    struct gw_result result = {0};
    enum gw_status st = gw_get_delete_sync(cli->session, argv[0], strlen(argv[0]), &result);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "getdel %s", argv[0]);
    return gwi_one_key_print(cli, argv[0], &result);
}
