/* test_slots.c - sets of slots, against a plain array of flags. */
#include "index/base/slots.h"

#include <criterion/criterion.h>
#include <string.h>

#include "index/base/rand.h"

static struct gw_slots parsed(const char *text)
{
    struct gw_slots s;
    char error[200] = "";
    cr_assert_eq(gw_slots_parse(text, &s, error, sizeof error), GW_OK, "%s: %s", text, error);
    return s;
}

static void random_set(struct gw_rand *r, struct gw_slots *s, bool flag[GW_SLOTS])
{
    gw_slots_clear(s);
    memset(flag, 0, GW_SLOTS);
    for (uint64_t runs = gw_rand_below(r, 20); runs; runs--) {
        uint16_t first = (uint16_t)gw_rand_below(r, GW_SLOTS);
        uint16_t last = (uint16_t)(first + gw_rand_below(r, gw_rand_below(r, 3) ? 70 : 4000));
        if (last >= GW_SLOTS)
            last = GW_SLOTS - 1;
        gw_slots_add_range(s, first, last);
        memset(flag + first, true, last - first + 1u);
        uint16_t hole = (uint16_t)gw_rand_below(r, GW_SLOTS);
        gw_slots_remove(s, hole);
        flag[hole] = false;
    }
}

Test(slots, ranges_runs_and_counts_match_a_plain_array)
{
    static bool flag[GW_SLOTS], from_runs[GW_SLOTS];
    struct gw_rand r;
    struct gw_slots s;
    gw_rand_init(&r, 10);
    for (int round = 0; round < 300; round++) {
        random_set(&r, &s, flag);
        uint32_t count = 0;
        for (uint32_t i = 0; i < GW_SLOTS; i++) {
            cr_assert_eq(gw_slots_has(&s, (uint16_t)i), flag[i], "slot %u", i);
            count += flag[i];
        }
        cr_assert_eq(gw_slots_count(&s), count);
        memset(from_runs, 0, sizeof from_runs);
        uint32_t at = 0;
        int64_t before = -2;
        uint16_t first, last;
        while (gw_slots_next_run(&s, &at, &first, &last)) {
            cr_assert_leq(first, last);
            cr_assert_gt((int64_t)first, before + 1, "runs are as long as they can be");
            before = last;
            memset(from_runs + first, true, last - first + 1u);
        }
        cr_assert_arr_eq(from_runs, flag, sizeof flag);
        cr_assert_not(gw_slots_next_run(&s, &at, &first, &last), "the end stays the end");
    }
}

Test(slots, overlap_and_containment_match_a_plain_array)
{
    static bool fa[GW_SLOTS], fb[GW_SLOTS];
    struct gw_rand r;
    struct gw_slots a, b;
    gw_rand_init(&r, 11);
    for (int round = 0; round < 300; round++) {
        random_set(&r, &a, fa);
        if (round % 3) {
            random_set(&r, &b, fb);
        } else { /* a part of a, which random sets hardly ever are */
            b = a;
            memcpy(fb, fa, sizeof fb);
            uint16_t out = (uint16_t)gw_rand_below(&r, GW_SLOTS);
            gw_slots_remove(&b, out);
            fb[out] = false;
        }
        bool overlap = false, contains = true;
        for (uint32_t i = 0; i < GW_SLOTS; i++) {
            overlap |= fa[i] && fb[i];
            contains &= fa[i] || !fb[i];
        }
        cr_assert_eq(gw_slots_overlap(&a, &b), overlap);
        cr_assert_eq(gw_slots_contains(&a, &b), contains);
    }
}

Test(slots, the_empty_set_and_the_full_set)
{
    struct gw_slots none, all;
    uint32_t at = 0;
    uint16_t first, last;
    gw_slots_clear(&none);
    gw_slots_clear(&all);
    gw_slots_add_range(&all, 0, GW_SLOTS - 1);
    cr_expect_eq(gw_slots_count(&none), 0u);
    cr_expect_eq(gw_slots_count(&all), GW_SLOTS);
    cr_expect_not(gw_slots_next_run(&none, &at, &first, &last));
    at = 0;
    cr_assert(gw_slots_next_run(&all, &at, &first, &last));
    cr_expect_eq(first, 0);
    cr_expect_eq(last, GW_SLOTS - 1);
    cr_expect_not(gw_slots_next_run(&all, &at, &first, &last));
    cr_expect(gw_slots_contains(&all, &none));
    cr_expect(gw_slots_contains(&none, &none));
    cr_expect_not(gw_slots_contains(&none, &all));
    cr_expect_not(gw_slots_overlap(&none, &all));
}

Test(slots, text_is_parsed_and_written_back_in_order)
{
    static const char *const texts[][2] = {
        {"0", "0"},
        {"16383", "16383"},
        {"0-16383", "0-16383"},
        {"5-5", "5"},
        {"0-99,200,300-16383", "0-99,200,300-16383"},
        {"300-400,1,2", "1-2,300-400"},
        {"1-10,5-20,21", "1-21"},
        {"007", "7"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct gw_slots s = parsed(texts[i][0]);
        char room[100];
        gw_slots_format(&s, room, sizeof room);
        cr_expect_str_eq(room, texts[i][1]);
    }
}

Test(slots, bad_text_is_refused_with_its_part_and_the_limit_and_changes_nothing)
{
    static const char *const texts[] = {
        "",    ",",    "1,",  ",1",  "1,,2",       "16384", "0-16384", "99999999999999",
        "5-4", "-5",   "5-",  "a",   "1a",         "1-2-3", " 1",      "1 ",
        "+1",  "0x10", "1;2", "1-b", "4294967296", "--",    "1,2,x,4", "65536",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct gw_slots s = parsed("77");
        char error[200] = "";
        cr_expect_eq(gw_slots_parse(texts[i], &s, error, sizeof error), GW_E_INVALID, "%s",
                     texts[i]);
        cr_expect(strstr(error, "16383"), "%s: %s", texts[i], error);
        cr_expect(gw_slots_count(&s) == 1 && gw_slots_has(&s, 77), "%s", texts[i]);
        cr_expect_eq(gw_slots_parse(texts[i], &s, NULL, 0), GW_E_INVALID);
    }
    struct gw_slots s;
    char error[200], small[8];
    cr_expect_eq(gw_slots_parse("1,2,x,4", &s, error, sizeof error), GW_E_INVALID);
    cr_expect(strstr(error, "'x'"), "%s", error);
    cr_expect_eq(gw_slots_parse("oops", &s, small, sizeof small), GW_E_INVALID);
    cr_expect_lt(strlen(small), sizeof small);
}

Test(slots, text_without_room_is_cut_after_a_whole_run)
{
    struct gw_slots s = parsed("0-99,200,300-16383");
    static const char whole[] = "0-99,200,300-16383";
    for (size_t room_bytes = 4; room_bytes < 30; room_bytes++) {
        char room[40];
        memset(room, '#', sizeof room);
        gw_slots_format(&s, room, room_bytes);
        size_t n = strlen(room);
        cr_assert_lt(n, room_bytes);
        cr_expect_eq(room[room_bytes], '#', "wrote behind its room");
        if (room_bytes >= sizeof whole) {
            cr_expect_str_eq(room, whole);
        } else {
            cr_expect_str_eq(room + n - 3, "...");
            cr_expect(n == 3 || strncmp(room, "0-99...", 7) == 0 ||
                          strncmp(room, "0-99,200...", 11) == 0,
                      "%s", room);
        }
    }
    gw_slots_clear(&s);
    char room[4] = "abc";
    gw_slots_format(&s, room, sizeof room);
    cr_expect_str_eq(room, "");
}

Test(slots, the_wire_form_gives_the_same_set_back)
{
    static uint8_t room[GW_SLOTS_WIRE_MAX];
    static bool flag[GW_SLOTS];
    struct gw_rand r;
    struct gw_slots s, back;
    gw_rand_init(&r, 12);
    for (int round = 0; round < 200; round++) {
        random_set(&r, &s, flag);
        struct gw_writer w = gw_writer_of(room, sizeof room);
        gw_slots_encode(&s, &w);
        cr_assert_not(w.bad);
        struct gw_reader reader = gw_reader_of(room, gw_writer_used(&w));
        gw_slots_decode(&reader, &back);
        cr_assert_not(reader.bad);
        cr_assert_eq(gw_reader_left(&reader), 0u);
        cr_assert_arr_eq(&s, &back, sizeof s);
    }
}

Test(slots, the_worst_set_fills_the_wire_bound_exactly)
{
    static uint8_t room[GW_SLOTS_WIRE_MAX];
    struct gw_slots s, back;
    gw_slots_clear(&s);
    for (uint32_t i = 0; i < GW_SLOTS; i += 2)
        gw_slots_add(&s, (uint16_t)i);
    struct gw_writer w = gw_writer_of(room, sizeof room);
    gw_slots_encode(&s, &w);
    cr_expect_not(w.bad);
    cr_expect_eq(gw_writer_used(&w), sizeof room);
    struct gw_reader r = gw_reader_of(room, sizeof room);
    gw_slots_decode(&r, &back);
    cr_expect_not(r.bad);
    cr_expect_arr_eq(&s, &back, sizeof s);

    struct gw_writer tight = gw_writer_of(room, sizeof room - 1);
    gw_slots_encode(&s, &tight);
    cr_expect(tight.bad);
}

Test(slots, a_lying_wire_form_marks_the_reader_bad)
{
    static const struct {
        const char *what;
        uint16_t words[5];
        size_t n;
    } bad[] = {
        {"no count", {0}, 0},
        {"fewer runs than it says", {2, 0, 1}, 3},
        {"half a run", {1, 0}, 2},
        {"a slot too high", {1, 0, 16384}, 3},
        {"first above last", {1, 5, 4}, 3},
        {"out of order", {2, 10, 20, 0, 5}, 5},
        {"overlapping", {2, 10, 20, 20, 30}, 5},
        {"touching", {2, 10, 20, 21, 30}, 5},
        {"all ones", {65535, 65535, 65535}, 3},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct gw_slots s;
        struct gw_reader r = gw_reader_of(bad[i].words, bad[i].n * 2);
        gw_slots_decode(&r, &s);
        cr_expect(r.bad, "%s", bad[i].what);
        cr_expect_eq(gw_slots_count(&s), 0u, "%s", bad[i].what);
    }
}
