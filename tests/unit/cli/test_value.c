/* Goal: what is a counter is decided by its text alone, and the text of a counter comes back. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/cli/value.h"

Test(value, only_canonical_integers_are_counters)
{
    static const struct {
        const char *text;
        bool counter;
        int64_t number;
    } cases[] = {
        {"0", true, 0},
        {"-1", true, -1},
        {"42", true, 42},
        {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN},
        {"9223372036854775808", false, 0},
        {"", false, 0},
        {"-", false, 0},
        {"-0", false, 0},
        {"+7", false, 0},
        {"007", false, 0},
        {" 7", false, 0},
        {"7 ", false, 0},
        {"7.0", false, 0},
        {"0x7", false, 0},
        {"99999999999999999999999999", false, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t number = 0;
        bool counter = gw_value_is_counter(cases[i].text, strlen(cases[i].text), &number);
        cr_expect_eq(counter, cases[i].counter, "'%s'", cases[i].text);
        cr_expect_eq(number, cases[i].number, "'%s'", cases[i].text);
    }
    int64_t number = 0;
    cr_expect_not(gw_value_is_counter("4\0", 2, &number));
}

Test(value, bytes_become_a_json_string_whatever_they_are)
{
    json_t *text = gw_value_json_text("a\0\xff\t\\\"", 6);
    cr_assert(text);
    cr_expect_str_eq(json_string_value(text), "a\\x00\\xff\\t\\\\\"");
    json_decref(text);
}

Test(value, durations_have_units_and_bounds)
{
    static const struct {
        const char *text;
        uint64_t ms; /* 0: refused */
    } cases[] = {{"1", 1000},
                 {"10s", 10000},
                 {"500ms", 500},
                 {"5m", 300000},
                 {"2h", 7200000},
                 {"7d", 604800000},
                 {"0", 0},
                 {"0ms", 0},
                 {"", 0},
                 {"s", 0},
                 {"-1s", 0},
                 {"1.5s", 0},
                 {"1 s", 0},
                 {"1w", 0},
                 {"1sm", 0},
                 {"366000d", 31622400000000},
                 {"366001d", 0},
                 {"99999999999999999999999ms", 0},
                 {"18446744073709551616ms", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ms = 0;
        cr_expect_eq(gw_value_is_duration(cases[i].text, &ms), cases[i].ms != 0, "%s",
                     cases[i].text);
        cr_expect_eq(ms, cases[i].ms, "%s", cases[i].text);
    }
}
