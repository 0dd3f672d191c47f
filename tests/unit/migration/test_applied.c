/* Goal: a window remembers exactly which serials were applied, through growth, confirmation and a
 * move to another server. */
#include "migration/applied.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/ops.h"
#include "index/base/rand.h"

static void apply(struct gw_applied_window *w, uint64_t serial, uint16_t slot, int64_t number)
{
    cr_assert_eq(gw_applied_reserve(w, serial), GW_OK);
    gw_applied_begin(w, serial, slot);
    gw_applied_record(w, serial, slot, GW_OK, (uint32_t)serial + 1, GW_WIRE_COUNTER, number);
}

Test(applied, a_serial_goes_from_new_to_pending_to_done)
{
    struct gw_applied_window *w = gw_applied_create(64);
    const struct gw_applied_entry *e = NULL;
    cr_expect_eq(gw_applied_check(w, 5, &e), GW_APPLIED_NEW);
    cr_assert_eq(gw_applied_reserve(w, 5), GW_OK);
    gw_applied_begin(w, 5, 77);
    cr_expect_eq(gw_applied_check(w, 5, &e), GW_APPLIED_PENDING);
    cr_expect_eq(gw_applied_check(w, 4, NULL), GW_APPLIED_NEW);
    gw_applied_forget(w, 5);
    cr_expect_eq(gw_applied_check(w, 5, &e), GW_APPLIED_NEW, "returned as moved");
    gw_applied_begin(w, 5, 77);
    gw_applied_record(w, 5, 77, GW_NOT_FOUND, 9, 0, -3);
    cr_assert_eq(gw_applied_check(w, 5, &e), GW_APPLIED_DONE);
    cr_expect_eq(e->slot, 77);
    cr_expect_eq(e->status, GW_NOT_FOUND);
    cr_expect_eq(e->version, 9);
    cr_expect_eq(e->number, -3);
    gw_applied_forget(w, 5);
    cr_expect_eq(gw_applied_check(w, 5, &e), GW_APPLIED_DONE, "only what is pending is forgotten");
    gw_applied_destroy(w);
}

Test(applied, the_window_ends_where_it_was_agreed)
{
    struct gw_applied_window *w = gw_applied_create(100);
    cr_expect_eq(w->window, 128);
    cr_expect_null(w->ring, "nothing is allocated before the first serial");
    cr_expect_eq(gw_applied_check(w, 127, NULL), GW_APPLIED_NEW);
    cr_expect_eq(gw_applied_check(w, 128, NULL), GW_APPLIED_BEYOND);
    cr_expect_eq(gw_applied_reserve(w, 128), GW_E_SERIAL);
    gw_applied_confirm(w, 10);
    cr_expect_eq(gw_applied_check(w, 9, NULL), GW_APPLIED_BELOW);
    cr_expect_eq(gw_applied_check(w, 137, NULL), GW_APPLIED_NEW);
    cr_expect_eq(gw_applied_check(w, 138, NULL), GW_APPLIED_BEYOND);
    gw_applied_confirm(w, 5);
    cr_expect_eq(gw_applied_check(w, 9, NULL), GW_APPLIED_BELOW, "confirmed never falls");
    gw_applied_destroy(w);
    w = gw_applied_create(1);
    cr_expect_eq(w->window, GW_APPLIED_WINDOW_MIN);
    gw_applied_widen(w, 1u << 20);
    cr_expect_eq(w->window, GW_APPLIED_WINDOW_MAX);
    gw_applied_widen(w, 64);
    cr_expect_eq(w->window, GW_APPLIED_WINDOW_MAX);
    gw_applied_destroy(w);
}

Test(applied, growing_keeps_every_entry)
{
    struct gw_applied_window *w = gw_applied_create(65536);
    gw_applied_confirm(w, 1000);
    for (uint64_t serial = 1000; serial < 66536; serial += 7)
        apply(w, serial, (uint16_t)(serial % 16384), (int64_t)serial * 3);
    const struct gw_applied_entry *e = NULL;
    for (uint64_t serial = 1000; serial < 66536; serial++) {
        bool applied = (serial - 1000) % 7 == 0;
        cr_assert_eq(gw_applied_check(w, serial, &e), applied ? GW_APPLIED_DONE : GW_APPLIED_NEW);
        if (applied)
            cr_assert_eq(e->number, (int64_t)serial * 3);
    }
    gw_applied_destroy(w);
}

Test(applied, what_was_confirmed_is_not_taken_for_a_later_serial)
{
    struct gw_applied_window *w = gw_applied_create(64);
    apply(w, 3, 1, 1);
    gw_applied_confirm(w, 64);
    cr_expect_eq(gw_applied_check(w, 67, NULL), GW_APPLIED_NEW, "the same place in the ring");
    cr_expect_eq(gw_applied_collect(w, 1, NULL, NULL, 0), 0);
    /* The same low half, 2^32 serials later. */
    gw_applied_confirm(w, 1ull << 32);
    cr_expect_eq(gw_applied_check(w, (1ull << 32) + 3, NULL), GW_APPLIED_NEW);
    gw_applied_destroy(w);
}

/* Against a plain map: random serials, confirmations, moves of slots. */
Test(applied, agrees_with_a_plain_map)
{
    enum { SERIALS = 4096 };
    struct plain {
        uint8_t state;
        uint16_t slot;
        int64_t number;
    };
    static struct plain plain[SERIALS];
    struct gw_rand rand;
    gw_rand_init(&rand, 42);
    struct gw_applied_window *w = gw_applied_create(512);
    uint64_t confirmed = 0;
    for (uint32_t i = 0; i < 200000 && confirmed + 512 < SERIALS; i++) {
        uint64_t serial = confirmed + gw_rand_below(&rand, 512);
        uint16_t slot = (uint16_t)gw_rand_below(&rand, 4);
        uint64_t kind = gw_rand_below(&rand, 100);
        const struct gw_applied_entry *e = NULL;
        cr_assert_eq(gw_applied_check(w, serial, &e), plain[serial].state);
        if (plain[serial].state == GW_APPLIED_DONE)
            cr_assert_eq(e->number, plain[serial].number);
        if (plain[serial].state == GW_APPLIED_NEW && kind < 60) {
            cr_assert_eq(gw_applied_reserve(w, serial), GW_OK);
            gw_applied_begin(w, serial, slot);
            plain[serial] = (struct plain){GW_APPLIED_PENDING, slot, 0};
        } else if (plain[serial].state == GW_APPLIED_PENDING && kind < 20) {
            gw_applied_forget(w, serial);
            plain[serial].state = GW_APPLIED_NEW;
        } else if (plain[serial].state == GW_APPLIED_PENDING) {
            gw_applied_record(w, serial, plain[serial].slot, GW_OK, 1, 0, (int64_t)i);
            plain[serial].state = GW_APPLIED_DONE;
            plain[serial].number = i;
        } else if (kind < 2) {
            confirmed += gw_rand_below(&rand, 20);
            gw_applied_confirm(w, confirmed);
        } else if (kind == 2) {
            struct gw_slots slots;
            gw_slots_clear(&slots);
            gw_slots_add(&slots, slot);
            static struct gw_applied moved[512];
            size_t n = gw_applied_collect(w, 9, &slots, moved, 512);
            size_t expected = 0;
            for (uint64_t s = confirmed; s < confirmed + 512; s++)
                if (plain[s].state == GW_APPLIED_DONE && plain[s].slot == slot) {
                    cr_assert_lt(expected, n);
                    cr_assert_eq(moved[expected].serial, s);
                    cr_assert_eq(moved[expected].number, plain[s].number);
                    expected++;
                    plain[s].state = GW_APPLIED_NEW;
                }
            cr_assert_eq(n, expected);
            gw_applied_drop(w, &slots);
        }
    }
    gw_applied_destroy(w);
}

/* ---- holes of MIGRATION.md ----------------------------------------------------------------- */

/* Session 7: serial 9 (slot C, at T) is lost in flight; 10 (slot A, at S) is applied. A moves. The
 * client sends 9 to T again: it must be executed. */
Test(applied, hole_1_merging_is_entry_by_entry_never_the_highest_serial)
{
    enum { SLOT_A = 100 };
    struct gw_applied_window *s = gw_applied_create(64), *t = gw_applied_create(64);
    apply(s, 10, SLOT_A, 1);
    struct gw_slots slots;
    gw_slots_clear(&slots);
    gw_slots_add(&slots, SLOT_A);
    struct gw_applied moved[4];
    cr_assert_eq(gw_applied_collect(s, 7, &slots, moved, 4), 1);
    cr_expect_eq(moved[0].session, 7);
    cr_expect_eq(moved[0].flags, GW_WIRE_COUNTER);
    cr_assert_eq(gw_applied_merge(t, &moved[0]), GW_OK);
    cr_expect_eq(gw_applied_check(t, 9, NULL), GW_APPLIED_NEW, "not a replay");
    const struct gw_applied_entry *e = NULL;
    cr_assert_eq(gw_applied_check(t, 10, &e), GW_APPLIED_DONE);
    cr_expect_eq(e->number, 1);
    cr_expect_eq(e->version, 11);
    gw_applied_destroy(s);
    gw_applied_destroy(t);
}

Test(applied, hole_5_a_merged_entry_answers_the_resent_operation)
{
    struct gw_applied_window *t = gw_applied_create(GW_APPLIED_WINDOW_MAX);
    struct gw_applied far = {
        .session = 1, .serial = 5000000, .slot = 3, .status = GW_OK, .number = 17, .version = 4};
    cr_assert_eq(gw_applied_merge(t, &far), GW_OK, "a session that T has never seen");
    struct gw_applied near = far;
    near.serial = 5000000 - 60000;
    cr_assert_eq(gw_applied_merge(t, &near), GW_OK);
    cr_expect_eq(gw_applied_check(t, far.serial, NULL), GW_APPLIED_DONE);
    cr_expect_eq(gw_applied_check(t, near.serial, NULL), GW_APPLIED_DONE);
    cr_expect_eq(gw_applied_check(t, far.serial - 1, NULL), GW_APPLIED_NEW);
    far.number = 18;
    cr_assert_eq(gw_applied_merge(t, &far), GW_OK, "\"yours\" comes twice");
    const struct gw_applied_entry *e = NULL;
    cr_assert_eq(gw_applied_check(t, far.serial, &e), GW_APPLIED_DONE);
    cr_expect_eq(e->number, 17, "what is known stays");
    gw_applied_destroy(t);
}

/* The resend came first, and waits: it is not executed a second time. */
Test(applied, hole_5_an_entry_that_comes_behind_its_resent_operation_answers_it)
{
    struct gw_applied_window *w = gw_applied_create(64);
    cr_assert_eq(gw_applied_reserve(w, 3), GW_OK);
    gw_applied_begin(w, 3, 7);
    cr_expect_not(gw_applied_has_later(w, 1, 7, true), "it only waits");
    struct gw_applied old = {.session = 1, .serial = 3, .slot = 7, .number = 42, .version = 9};
    cr_assert_eq(gw_applied_merge(w, &old), GW_OK);
    const struct gw_applied_entry *e = NULL;
    cr_assert_eq(gw_applied_check(w, 3, &e), GW_APPLIED_DONE);
    cr_expect_eq(e->number, 42);
    cr_expect_eq(gw_applied_pending(w, NULL), 0);
    cr_expect(gw_applied_has_later(w, 1, 7, true));
    gw_applied_forget(w, 3); /* returned as moved: known all the same */
    cr_expect_eq(gw_applied_check(w, 3, &e), GW_APPLIED_DONE);
    gw_applied_destroy(w);
}

Test(applied, hole_4_pending_operations_of_a_range_are_counted)
{
    struct gw_applied_window *w = gw_applied_create(64);
    struct gw_slots slots;
    gw_slots_clear(&slots);
    gw_slots_add(&slots, 5);
    cr_assert_eq(gw_applied_reserve(w, 2), GW_OK);
    gw_applied_begin(w, 1, 5);
    gw_applied_begin(w, 2, 6);
    cr_expect_eq(gw_applied_pending(w, &slots), 1);
    cr_expect_eq(gw_applied_pending(w, NULL), 2);
    cr_expect_eq(gw_applied_collect(w, 1, NULL, NULL, 0), 0, "not applied: does not travel");
    gw_applied_forget(w, 1);
    cr_expect_eq(gw_applied_pending(w, &slots), 0);
    gw_applied_destroy(w);
}

/* ---- old values ---------------------------------------------------------------------------- */

static void give(struct gw_applied_window *w, uint64_t serial, uint16_t slot, uint32_t bytes)
{
    uint8_t value[200];
    for (uint32_t i = 0; i < bytes; i++)
        value[i] = (uint8_t)(serial * 7 + i);
    cr_assert_eq(gw_applied_reserve(w, serial), GW_OK);
    gw_applied_record_value(w, serial, slot, GW_OK, (uint32_t)serial, value, bytes);
}

static void expect_given(const struct gw_applied_window *w, uint64_t serial, uint32_t bytes)
{
    const struct gw_applied_entry *e = NULL;
    cr_assert_eq(gw_applied_check(w, serial, &e), GW_APPLIED_DONE, "%lu", (unsigned long)serial);
    cr_assert_eq(e->flags, GW_WIRE_VALUE);
    cr_expect_eq(e->version, (uint32_t)serial);
    uint32_t got;
    const uint8_t *value = gw_applied_value(w, e, &got);
    cr_assert_eq(got, bytes);
    for (uint32_t i = 0; i < bytes; i++)
        cr_assert_eq(value[i], (uint8_t)(serial * 7 + i));
}

Test(applied, an_old_value_is_given_again_until_it_is_confirmed)
{
    struct gw_applied_window *w = gw_applied_create(GW_APPLIED_WINDOW_MAX);
    for (uint64_t serial = 0; serial < 500; serial += 2)
        give(w, serial, 3, (uint32_t)serial % 65);
    for (uint64_t serial = 0; serial < 500; serial += 2)
        expect_given(w, serial, (uint32_t)serial % 65);
    gw_applied_confirm(w, 400);
    for (uint64_t serial = 400; serial < 500; serial += 2)
        expect_given(w, serial, (uint32_t)serial % 65);
    cr_expect_eq(w->kept_next - w->kept_first, 50, "what is confirmed is let go");
    size_t memory = gw_applied_memory(w);
    for (uint64_t serial = 500; serial < 60000; serial++) {
        give(w, serial, 3, 8);
        gw_applied_confirm(w, serial - 50);
    }
    cr_expect_eq(gw_applied_memory(w), memory, "and its room is used again");
    gw_applied_destroy(w);
}

Test(applied, an_old_value_too_long_or_one_too_many_is_forgotten_not_invented)
{
    struct gw_applied_window *w = gw_applied_create(GW_APPLIED_WINDOW_MAX);
    const uint32_t most = GW_APPLIED_WINDOW_MAX / GW_APPLIED_KEPT_SHARE;
    const struct gw_applied_entry *e = NULL;
    give(w, 1, 3, GW_APPLIED_VALUE_MAX + 1);
    cr_assert_eq(gw_applied_check(w, 1, &e), GW_APPLIED_DONE);
    cr_expect_eq(e->flags, GW_WIRE_FORGOTTEN);
    for (uint64_t serial = 2; serial < 2 + most; serial++)
        give(w, serial, 3, 1);
    expect_given(w, 1 + most, 1);
    give(w, 2 + most, 3, 1);
    cr_assert_eq(gw_applied_check(w, 2 + most, &e), GW_APPLIED_DONE);
    cr_expect_eq(e->flags, GW_WIRE_FORGOTTEN);
    gw_applied_destroy(w);
}

Test(applied, an_old_value_moves_with_its_range)
{
    struct gw_applied_window *s = gw_applied_create(64), *t = gw_applied_create(64);
    static const uint32_t bytes[] = {0, 1, 7, 8, 9, 63, 64};
    uint32_t n = sizeof bytes / sizeof bytes[0];
    for (uint32_t i = 0; i < n; i++)
        give(s, 10 + i, (uint16_t)(i % 2), bytes[i]);
    apply(s, 30, 0, 5);
    give(s, 31, 0, 65);
    struct gw_applied moved[100];
    size_t count = gw_applied_collect(s, 1, NULL, moved, 100);
    cr_assert_eq(count, n + 2 + (0 + 1 + 1 + 1 + 2 + 8 + 8));
    cr_expect_eq(gw_applied_collect(s, 1, NULL, NULL, 0), count);
    cr_expect_eq(gw_applied_collect(s, 1, NULL, moved, 5), count, "a short list is filled as far");
    gw_applied_collect(s, 1, NULL, moved, 100);
    for (int twice = 0; twice < 2; twice++)
        for (size_t i = 0; i < count; i++) {
            uint8_t wire[GW_APPLIED_BYTES];
            struct gw_writer w = gw_writer_of(wire, sizeof wire);
            gw_applied_encode(&moved[i], &w);
            struct gw_reader r = gw_reader_of(wire, sizeof wire);
            struct gw_applied got;
            cr_assert(gw_applied_decode(&r, &got));
            cr_assert_eq(gw_applied_merge(t, &got), GW_OK);
        }
    for (uint32_t i = 0; i < n; i++)
        expect_given(t, 10 + i, bytes[i]);
    const struct gw_applied_entry *e = NULL;
    cr_assert_eq(gw_applied_check(t, 30, &e), GW_APPLIED_DONE);
    cr_expect_eq(e->number, 5);
    cr_assert_eq(gw_applied_check(t, 31, &e), GW_APPLIED_DONE);
    cr_expect_eq(e->flags, GW_WIRE_FORGOTTEN);
    gw_applied_destroy(s);
    gw_applied_destroy(t);
}

Test(applied, a_read_sent_again_is_told_from_one_behind_which_its_session_wrote)
{
    struct gw_applied_window *w = gw_applied_create(64);
    cr_expect_not(gw_applied_has_later(w, 1, 7, false), "an empty window");
    apply(w, 3, 7, 1);
    apply(w, 5, 8, 1);
    cr_expect(gw_applied_has_later(w, 2, 7, false));
    cr_expect_not(gw_applied_has_later(w, 3, 7, false), "its own serial, or an earlier one");
    cr_expect_not(gw_applied_has_later(w, 4, 7, false));
    cr_expect(gw_applied_has_later(w, 4, 8, false));
    cr_expect_not(gw_applied_has_later(w, 2, 9, false), "another slot");
    gw_applied_confirm(w, 6);
    cr_expect_not(gw_applied_has_later(w, 2, 7, false), "confirmed: its client has the answer");
    cr_assert_eq(gw_applied_reserve(w, 9), GW_OK);
    gw_applied_begin(w, 9, 7); /* it waits: the read would be queued behind it */
    cr_expect(gw_applied_has_later(w, 8, 7, false));
    gw_applied_forget(w, 9);
    cr_expect_not(gw_applied_has_later(w, 8, 7, false));
    gw_applied_destroy(w);
}
