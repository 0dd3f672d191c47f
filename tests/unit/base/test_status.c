/* test_status.c - statuses have a text, a name and a number that stays. */
#include "index/base/status.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <string.h>

static const struct {
    const char *symbol;
    enum gw_status status;
    int number;
    const char *text;
} all[] = {
#define ROW(name, number, text) {#name, name, number, text},
    GW_STATUS_LIST(ROW)
#undef ROW
};
#define ALL (sizeof all / sizeof *all)

Test(status, every_status_has_its_text_and_its_lower_case_name)
{
    for (size_t i = 0; i < ALL; i++) {
        cr_expect_str_eq(gw_status_text(all[i].status), all[i].text);
        const char *name = gw_status_name(all[i].status);
        cr_expect_eq(strlen(name), strlen(all[i].symbol) - 3);
        cr_expect_eq(strcasecmp(name, all[i].symbol + 3), 0, "%s", name);
        for (const char *c = name; *c; c++)
            cr_expect_not(isupper((unsigned char)*c), "%s", name);
    }
    cr_expect_str_eq(gw_status_name(GW_NOT_FOUND), "not_found");
    cr_expect_str_eq(gw_status_name(GW_E_FULL), "e_full");
}

Test(status, numbers_are_unique_and_their_sign_tells_failure)
{
    for (size_t i = 0; i < ALL; i++) {
        cr_expect_eq((int)all[i].status, all[i].number);
        cr_expect_eq(gw_failed(all[i].status), all[i].number < 0);
        cr_expect_eq(strncmp(all[i].symbol, "GW_E_", 5) == 0, all[i].number < 0, "%s",
                     all[i].symbol);
        for (size_t j = 0; j < i; j++)
            cr_expect_neq(all[i].number, all[j].number, "%s and %s", all[i].symbol, all[j].symbol);
    }
}

/* Goal: the numbers travel on the wire, so that a peer of another release reads them right.
 * How: those of the first release are written down here once more. */
Test(status, wire_numbers_have_not_changed)
{
    cr_expect_eq((int)GW_OK, 0);
    cr_expect_eq((int)GW_PENDING, 1);
    cr_expect_eq((int)GW_NOT_FOUND, 2);
    cr_expect_eq((int)GW_RETRY, 3);
    cr_expect_eq((int)GW_WRONG_VIEW, 4);
    cr_expect_eq((int)GW_EXISTS, 5);
    cr_expect_eq((int)GW_MISMATCH, 6);
    cr_expect_eq((int)GW_WRONG_TYPE, 7);
    cr_expect_eq((int)GW_MOVED, 8);
    cr_expect_eq((int)GW_IN_DOUBT, 9);
    cr_expect_eq((int)GW_WOULD_BLOCK, 10);
    cr_expect_eq((int)GW_NOT_YET, 11);
    cr_expect_eq((int)GW_OVERFLOW, 12);
    cr_expect_eq((int)GW_E_NOMEM, -1);
    cr_expect_eq((int)GW_E_FULL, -2);
    cr_expect_eq((int)GW_E_INVALID, -3);
    cr_expect_eq((int)GW_E_TOO_LARGE, -4);
    cr_expect_eq((int)GW_E_CORRUPT, -5);
    cr_expect_eq((int)GW_E_VERSION, -11);
    cr_expect_eq((int)GW_E_UNKNOWN_SESSION, -17);
    cr_expect_eq((int)GW_E_SERIAL, -18);
}

Test(status, a_number_outside_of_the_list_is_unknown)
{
    cr_expect_str_eq(gw_status_text((enum gw_status)77), "unknown status");
    cr_expect_str_eq(gw_status_text((enum gw_status) - 100), "unknown status");
    cr_expect_str_eq(gw_status_name((enum gw_status)77), "unknown");
}
