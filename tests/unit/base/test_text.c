/* test_text.c - numbers, sizes, addresses and escapes, good and bad. */
#include "index/base/text.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/rand.h"

Test(text, sizes_are_read_with_their_units)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {
        {"0", 0},
        {"123", 123},
        {"5B", 5},
        {"64KiB", 65536},
        {"64MiB", 64u << 20},
        {"2GiB", UINT64_C(2) << 30},
        {"1TiB", UINT64_C(1) << 40},
        {"3K", 3072},
        {"3M", 3u << 20},
        {"3G", UINT64_C(3) << 30},
        {"3T", UINT64_C(3) << 40},
        {"3KB", 3000},
        {"3MB", 3000000},
        {"3GB", UINT64_C(3000000000)},
        {"3TB", UINT64_C(3000000000000)},
        {"4611686018427387904", UINT64_C(1) << 62},
        {"4194304TiB", UINT64_C(1) << 62},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        uint64_t bytes = 7;
        cr_expect_eq(gw_parse_size(good[i].text, &bytes), GW_OK, "%s", good[i].text);
        cr_expect_eq(bytes, good[i].bytes, "%s", good[i].text);
    }
}

Test(text, bad_sizes_are_refused_and_change_nothing)
{
    static const char *const bad[] = {
        "",
        " 1",
        "1 ",
        "-1",
        "+1",
        "MiB",
        "1.5GiB",
        "1 MiB",
        "1mib",
        "1MiBs",
        "1e3",
        "0x10",
        "1Ki",
        "4611686018427387905",
        "18446744073709551616",
        "4194305TiB",
        "99999999999999999999999",
        "1KiBKiB",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t bytes = 7;
        cr_expect_eq(gw_parse_size(bad[i], &bytes), GW_E_INVALID, "%s", bad[i]);
        cr_expect_eq(bytes, 7u, "%s", bad[i]);
    }
}

Test(text, unsigned_numbers_stay_within_their_bounds)
{
    uint64_t v = 7;
    cr_expect_eq(gw_parse_u64("0", 0, 10, &v), GW_OK);
    cr_expect_eq(v, 0u);
    cr_expect_eq(gw_parse_u64("10", 0, 10, &v), GW_OK);
    cr_expect_eq(v, 10u);
    cr_expect_eq(gw_parse_u64("18446744073709551615", 0, UINT64_MAX, &v), GW_OK);
    cr_expect_eq(v, UINT64_MAX);
    static const char *const bad[] = {"11", "", "-1", "1x", " 1", "+1", "18446744073709551616"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        v = 7;
        cr_expect_eq(gw_parse_u64(bad[i], 1, 10, &v), GW_E_INVALID, "%s", bad[i]);
        cr_expect_eq(v, 7u);
    }
    cr_expect_eq(gw_parse_u64("0", 1, 10, &v), GW_E_INVALID);
}

Test(text, signed_numbers_reach_both_ends_of_64_bits)
{
    int64_t v = 7;
    cr_expect_eq(gw_parse_i64("-9223372036854775808", &v), GW_OK);
    cr_expect_eq(v, INT64_MIN);
    cr_expect_eq(gw_parse_i64("9223372036854775807", &v), GW_OK);
    cr_expect_eq(v, INT64_MAX);
    cr_expect_eq(gw_parse_i64("+5", &v), GW_OK);
    cr_expect_eq(v, 5);
    cr_expect_eq(gw_parse_i64("-0", &v), GW_OK);
    cr_expect_eq(v, 0);
    static const char *const bad[] = {
        "", "-", "+", "--1", "9223372036854775808", "-9223372036854775809", "1.0", "1 ", " 1",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        v = 7;
        cr_expect_eq(gw_parse_i64(bad[i], &v), GW_E_INVALID, "%s", bad[i]);
        cr_expect_eq(v, 7);
    }
}

Test(text, addresses_are_split)
{
    static const struct {
        const char *text, *host;
        uint16_t port;
    } good[] = {
        {"127.0.0.1:7400", "127.0.0.1", 7400},
        {"localhost:0", "localhost", 0},
        {"a.example-1.org:65535", "a.example-1.org", 65535},
        {"[::1]:7400", "::1", 7400},
        {"[fe80::1%eth0]:1", "fe80::1%eth0", 1},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char host[64];
        uint16_t port = 1;
        cr_expect_eq(gw_parse_address(good[i].text, host, sizeof host, &port), GW_OK, "%s",
                     good[i].text);
        cr_expect_str_eq(host, good[i].host);
        cr_expect_eq(port, good[i].port);
    }
}

Test(text, bad_addresses_are_refused_and_change_nothing)
{
    static const char *const bad[] = {
        "",         ":",       ":80",     "host",  "host:",    "host:65536", "host:-1",
        "host:x",   "host:1x", "::1:80",  "[::1]", "[::1]80",  "[]:80",      "[::1:80",
        "ho st:80", "h/x:80",  "host: 1", "a]:80", "[[::1]:1", "x[::1]:80",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char host[64] = "old";
        uint16_t port = 7;
        cr_expect_eq(gw_parse_address(bad[i], host, sizeof host, &port), GW_E_INVALID, "%s",
                     bad[i]);
        cr_expect_str_eq(host, "old", "%s", bad[i]);
        cr_expect_eq(port, 7);
    }
    char tight[5] = "old";
    uint16_t port;
    cr_expect_eq(gw_parse_address("abcd:1", tight, sizeof tight, &port), GW_OK);
    cr_expect_eq(gw_parse_address("abcde:1", tight, sizeof tight, &port), GW_E_INVALID);
    cr_expect_str_eq(tight, "abcd");
}

Test(text, sizes_are_written_for_people)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1 KiB"},
        {1536, "1.5 KiB"},
        {(1u << 20) - 1, "1 MiB"},
        {UINT64_C(3) << 29, "1.5 GiB"},
        {UINT64_C(1) << 40, "1 TiB"},
        {UINT64_MAX, "16 EiB"},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char room[32];
        gw_format_size(sizes[i].bytes, room, sizeof room);
        cr_expect_str_eq(room, sizes[i].text);
    }
    char tight[4] = "###";
    gw_format_size(1536, tight, 3);
    cr_expect_str_eq(tight, "1.");
}

static const char *escaped(const char *bytes, size_t n)
{
    static char room[200];
    size_t need = gw_escape(bytes, n, room, sizeof room);
    cr_assert_eq(need, strlen(room));
    return room;
}

Test(text, escapes_are_those_of_a_tsv_field)
{
    cr_expect_str_eq(escaped("plain text ~", 12), "plain text ~");
    cr_expect_str_eq(escaped("a\tb\nc\rd\\e", 9), "a\\tb\\nc\\rd\\\\e");
    cr_expect_str_eq(escaped("\0\x01\x1f\x7f", 4), "\\x00\\x01\\x1f\\x7f");
    cr_expect_str_eq(escaped("", 0), "");
}

Test(text, valid_utf8_stays_and_the_rest_is_escaped)
{
    static const char *const valid[] = {
        "\u00e9", "\u20ac", "\U0001d11e", "\u0800", "\ud7ff", "\ue000", "\U0010ffff",
    };
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++)
        cr_expect_str_eq(escaped(valid[i], strlen(valid[i])), valid[i]);
    cr_expect_str_eq(escaped("\xc0\x80", 2), "\\xc0\\x80", "overlong zero");
    cr_expect_str_eq(escaped("\xe0\x9f\xbf", 3), "\\xe0\\x9f\\xbf", "overlong of three");
    cr_expect_str_eq(escaped("\xf0\x8f\xbf\xbf", 4), "\\xf0\\x8f\\xbf\\xbf", "overlong of four");
    cr_expect_str_eq(escaped("\xed\xa0\x80", 3), "\\xed\\xa0\\x80", "a surrogate");
    cr_expect_str_eq(escaped("\xf4\x90\x80\x80", 4), "\\xf4\\x90\\x80\\x80", "beyond U+10FFFF");
    cr_expect_str_eq(escaped("\xe2\x82", 2), "\\xe2\\x82", "cut at the end");
    cr_expect_str_eq(escaped("\xe2\x82z", 3), "\\xe2\\x82z", "cut in the middle");
    cr_expect_str_eq(escaped("\x80\xff", 2), "\\x80\\xff");
}

Test(text, any_bytes_come_back_from_their_escapes)
{
    struct gw_rand r;
    gw_rand_init(&r, 20);
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[40], back[160];
        char room[161];
        size_t n = gw_rand_below(&r, sizeof bytes + 1);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (uint8_t)(gw_rand_below(&r, 2) ? gw_rand_next(&r) : 0xc0 + i % 64);
        size_t len = gw_escape(bytes, n, room, sizeof room);
        cr_assert_lt(len, sizeof room);
        cr_assert_null(strpbrk(room, "\t\n\r"));
        cr_assert_eq(gw_unescape(room, len, back), n);
        cr_assert(n == 0 || memcmp(back, bytes, n) == 0);
        cr_assert_eq(gw_unescape(room, len, (uint8_t *)room), n, "in place");
        cr_assert(n == 0 || memcmp(room, bytes, n) == 0);
    }
}

Test(text, an_escape_without_room_is_cut_whole_and_tells_what_it_needs)
{
    char room[8];
    memset(room, '#', sizeof room);
    cr_expect_eq(gw_escape("a\x01z", 3, room, 5), 6u);
    cr_expect_str_eq(room, "a", "half an escape would be another text");
    cr_expect_eq(room[5], '#');
    cr_expect_eq(gw_escape("a\x01z", 3, room, 7), 6u);
    cr_expect_str_eq(room, "a\\x01z");
    cr_expect_eq(gw_escape("a\x01z", 3, NULL, 0), 6u, "asking for the length only");
}

Test(text, bad_escapes_are_refused)
{
    static const char *const bad[] = {"\\", "a\\", "\\q", "\\x", "\\x1", "\\xg0", "\\x0g", "\\T"};
    uint8_t room[16];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(gw_unescape(bad[i], strlen(bad[i]), room), SIZE_MAX, "%s", bad[i]);
    cr_expect_eq(gw_unescape("\\xAf\\\\", 6, room), 2u, "either case of hex digits");
    cr_expect(room[0] == 0xaf && room[1] == '\\');
}
