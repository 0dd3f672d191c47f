/* main.c - the program `godwit`; everything is in cli.c and the verbs. */
#include "client/cli/cli.h"

int main(int argc, char **argv)
{
    return gw_cli_main(argc, argv);
}
