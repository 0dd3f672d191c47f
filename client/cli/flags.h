/* flags.h - the flags of a verb as a table, and their parser. What makes no sense is refused with
 * the flag's name and its limits. Layer: client/cli. */
#ifndef GW_CLIENT_CLI_FLAGS_H
#define GW_CLIENT_CLI_FLAGS_H

#include "client/cli/cli.h"

enum gw_flag_kind {
    GW_FLAG_SWITCH, /* bool *: --wait */
    GW_FLAG_TEXT,   /* const char **: borrows argv */
    GW_FLAG_NUMBER, /* uint64_t *: a decimal number within [min, max] */
};

struct gw_flag {
    const char *name; /* with its dashes; NULL ends the table */
    enum gw_flag_kind kind;
    void *out;
    uint64_t min, max;
};

/* Reads "--flag VALUE" and "--flag=VALUE" into what the table names and moves the other arguments
 * to the front of argv, in their order; *argc becomes their number. "--" ends the flags; an
 * argument such as -5 is a number and no flag. GW_EXIT_USAGE: it has been said. */
enum gw_exit gw_flags_parse(struct gw_cli *cli, const struct gw_flag *flags, int *argc,
                            char **argv);
/* As above, for verbs that take between least and most further arguments. */
enum gw_exit gw_flags_parse_counted(struct gw_cli *cli, const struct gw_flag *flags, int *argc,
                                    char **argv, int least, int most);
#endif
