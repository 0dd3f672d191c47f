/* status.c - the texts and names of the statuses, from the list in status.h. */
#include "index/base/status.h"

#include <ctype.h>
#include <stddef.h>
#include <stdint.h>

/* The wire carries a status in one signed byte. */
#define STATUS_FITS(name, number, text)                                                            \
    _Static_assert((number) >= INT8_MIN && (number) <= INT8_MAX, #name " must fit the wire");
GW_STATUS_LIST(STATUS_FITS)
#undef STATUS_FITS

const char *gw_status_text(enum gw_status st)
{
    switch (st) {
#define STATUS_TEXT(name, number, text)                                                            \
    case name:                                                                                     \
        return text;
        GW_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "unknown status";
}

/* The preprocessor cannot write lower case, so the names are lowered once, before main: no thread
 * runs yet, and later readers need no order. */
#define NAME_BYTES 32

struct status_name {
    int number;
    char name[NAME_BYTES];
};

static struct status_name names[] = {
#define STATUS_NAME(name, number, text) {number, #name},
    GW_STATUS_LIST(STATUS_NAME)
#undef STATUS_NAME
};

#define STATUS_FITS(name, number, text)                                                            \
    _Static_assert(sizeof #name <= NAME_BYTES, #name " is too long");
GW_STATUS_LIST(STATUS_FITS)
#undef STATUS_FITS

__attribute__((constructor)) static void status_names_make(void)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        for (char *c = names[i].name; *c; c++)
            *c = (char)tolower((unsigned char)*c);
}

const char *gw_status_name(enum gw_status st)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == (int)st)
            return names[i].name + sizeof "gw_" - 1;
    return "unknown";
}
