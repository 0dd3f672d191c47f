/* flags.c - see flags.h. */
#include "client/cli/flags.h"

#include <inttypes.h>
#include <string.h>

#include "index/base/text.h"

static bool is_flag(const char *arg)
{
    return arg[0] == '-' && arg[1] != '\0' && !(arg[1] >= '0' && arg[1] <= '9');
}

static const struct gw_flag *find(const struct gw_flag *flags, const char *arg, size_t len)
{
    for (const struct gw_flag *flag = flags; flag && flag->name; flag++)
        if (strlen(flag->name) == len && memcmp(flag->name, arg, len) == 0)
            return flag;
    return NULL;
}

static enum gw_exit store(struct gw_cli *cli, const struct gw_flag *flag, const char *value)
{
    if (flag->kind == GW_FLAG_TEXT) {
        if (value[0] == '\0')
            return gw_cli_fail_usage(cli, "%s: must not be empty", flag->name);
        *(const char **)flag->out = value;
        return GW_EXIT_OK;
    }
    if (gw_parse_u64(value, flag->min, flag->max, flag->out) != GW_OK)
        return gw_cli_fail_usage(cli, "%s: '%s' is not a number from %" PRIu64 " to %" PRIu64,
                                 flag->name, value, flag->min, flag->max);
    return GW_EXIT_OK;
}

enum gw_exit gw_flags_parse(struct gw_cli *cli, const struct gw_flag *flags, int *argc, char **argv)
{
    int kept = 0;
    for (int i = 0; i < *argc; i++) {
        char *arg = argv[i];
        if (strcmp(arg, "--") == 0) {
            while (++i < *argc)
                argv[kept++] = argv[i];
            break;
        }
        if (!is_flag(arg)) {
            argv[kept++] = arg;
            continue;
        }
        const char *equals = strchr(arg, '=');
        size_t len = equals ? (size_t)(equals - arg) : strlen(arg);
        const struct gw_flag *flag = find(flags, arg, len);
        if (!flag)
            return gw_cli_fail_usage(cli, "%.*s: no such flag", (int)len, arg);
        if (flag->kind == GW_FLAG_SWITCH) {
            if (equals)
                return gw_cli_fail_usage(cli, "%s: takes no value", flag->name);
            *(bool *)flag->out = true;
            continue;
        }
        const char *value = equals ? equals + 1 : i + 1 < *argc ? argv[++i] : NULL;
        if (!value)
            return gw_cli_fail_usage(cli, "%s: needs a value", flag->name);
        enum gw_exit code = store(cli, flag, value);
        if (code != GW_EXIT_OK)
            return code;
    }
    *argc = kept;
    return GW_EXIT_OK;
}

enum gw_exit gw_flags_parse_counted(struct gw_cli *cli, const struct gw_flag *flags, int *argc,
                                    char **argv, int least, int most)
{
    enum gw_exit code = gw_flags_parse(cli, flags, argc, argv);
    if (code != GW_EXIT_OK)
        return code;
    if (*argc < least)
        return gw_cli_fail_usage(cli, "too few arguments");
    if (*argc > most)
        return gw_cli_fail_usage(cli, "'%s': one argument too many", argv[most]);
    return GW_EXIT_OK;
}
