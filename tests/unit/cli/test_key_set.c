/* Goal: a key is new exactly once, however many there are. How: against plain numbering. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "client/cli/key_set.h"

Test(key_set, a_key_is_new_exactly_once)
{
    enum { KEYS = 100000 };
    struct gw_key_set *set;
    char key[32];
    cr_assert_eq(gw_key_set_create(&set), GW_OK);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < KEYS; i++) {
            int len = snprintf(key, sizeof key, "key %d", i);
            cr_assert_eq(gw_key_set_add(set, key, (size_t)len), round ? GW_EXISTS : GW_OK);
        }
    cr_expect_eq(gw_key_set_count(set), KEYS);
    gw_key_set_destroy(set);
}

Test(key_set, keys_that_contain_each_other_are_different)
{
    static const char bytes[8] = {0};
    struct gw_key_set *set;
    cr_assert_eq(gw_key_set_create(&set), GW_OK);
    for (size_t len = 1; len <= sizeof bytes; len++)
        cr_expect_eq(gw_key_set_add(set, bytes, len), GW_OK);
    cr_expect_eq(gw_key_set_add(set, bytes, 3), GW_EXISTS);
    cr_expect_eq(gw_key_set_count(set), 8);
    gw_key_set_destroy(set);
}
