/* Goal: operations that wait keep the order of their key and leave nothing behind.
 * How: a park by hand; the server's use of it is tested with real processes. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "server/park.h"

static struct gwi_parked_op *make(uint64_t serial, const char *key)
{
    struct gwi_parked_op *op = gwi_parked_op_create(key, (uint16_t)strlen(key), "v", 1);
    cr_assert(op);
    op->serial = serial;
    return op;
}

Test(park, operations_of_a_key_come_out_in_the_order_in_which_they_came)
{
    struct gwi_park park;
    cr_assert(gwi_park_init(&park));
    struct gwi_parked_key *key = NULL;
    for (uint64_t serial = 1; serial <= 5; serial++)
        key = gwi_park_add(&park, 42, 7, make(serial, "k"));
    cr_expect_eq(park.keys, 1);
    cr_expect_eq(park.ops, 5);
    cr_expect_eq(gwi_park_find(&park, 42), key);
    cr_expect_null(gwi_park_find(&park, 43));
    for (uint64_t serial = 1; serial <= 5; serial++) {
        bool gone;
        struct gwi_parked_op *op = gwi_park_take(&park, key, &gone);
        cr_expect_eq(op->serial, serial);
        cr_expect_eq(gone, serial == 5);
        free(op);
    }
    cr_expect_eq(park.bytes, 0, "%zu bytes are still counted", park.bytes);
    cr_expect_null(gwi_park_find(&park, 42));
    gwi_park_fini(&park);
}

Test(park, thousands_of_keys_are_found_and_leave_no_bytes)
{
    struct gwi_park park;
    cr_assert(gwi_park_init(&park));
    for (uint64_t hash = 0; hash < 20000; hash++)
        cr_assert(gwi_park_add(&park, hash * 0x9e3779b97f4a7c15ull, 1, make(hash, "key")));
    for (uint64_t hash = 0; hash < 20000; hash++) {
        struct gwi_parked_key *key = gwi_park_find(&park, hash * 0x9e3779b97f4a7c15ull);
        cr_assert(key);
        cr_assert_eq(key->first->serial, hash);
        bool gone;
        free(gwi_park_take(&park, key, &gone));
        cr_assert(gone);
    }
    cr_expect_eq(park.keys, 0);
    cr_expect_eq(park.bytes, 0);
    gwi_park_fini(&park);
}

Test(park, a_key_that_ends_takes_its_wish_for_a_pull_with_it)
{
    struct gwi_park park;
    cr_assert(gwi_park_init(&park));
    struct gwi_parked_key *key = gwi_park_add(&park, 1, 1, make(1, "k"));
    key->pull_wanted = true;
    park.unsent_pulls++;
    bool gone;
    free(gwi_park_take(&park, key, &gone));
    cr_expect_eq(park.unsent_pulls, 0);
    gwi_park_fini(&park);
}

Test(park, front_and_back_decide_who_is_tried_next)
{
    struct gwi_park park;
    cr_assert(gwi_park_init(&park));
    struct gwi_parked_key *a = gwi_park_add(&park, 1, 1, make(1, "a"));
    struct gwi_parked_key *b = gwi_park_add(&park, 2, 1, make(2, "b"));
    struct gwi_parked_key *c = gwi_park_add(&park, 3, 1, make(3, "c"));
    cr_expect_eq(park.ring.after, a);
    gwi_park_to_back(&park, a);
    cr_expect_eq(park.ring.after, b);
    gwi_park_to_front(&park, c);
    cr_expect_eq(park.ring.after, c);
    cr_expect_eq(park.ring.before, a);
    gwi_park_fini(&park);
}

/* Goal: what waits for the device is not tried in vain, is found when its record is there, and is
 * tried again when nobody says so. */
Test(park, cold_keys_stay_out_of_the_retry_order_until_they_are_put_back)
{
    struct gwi_park park;
    cr_assert(gwi_park_init(&park));
    struct gwi_parked_key *a = gwi_park_add(&park, 1, 1, make(1, "a"));
    struct gwi_parked_key *b = gwi_park_add(&park, 2, 1, make(2, "b"));
    struct gwi_parked_key *c = gwi_park_add(&park, 3, 1, make(3, "c"));
    gwi_park_to_cold(&park, c, 100);
    gwi_park_to_cold(&park, a, 200);
    cr_expect_eq(park.ring.after, b);
    cr_expect_eq(park.ring.before, b);
    cr_expect_eq(gwi_park_coldest(&park), c);
    cr_expect(c->cold && a->cold && !b->cold);
    cr_expect_eq(c->cold_ns, 100);
    gwi_park_to_cold(&park, c, 300);
    cr_expect_eq(gwi_park_coldest(&park), a);
    gwi_park_to_front(&park, a);
    cr_expect_eq(park.ring.after, a);
    cr_expect(!a->cold);
    gwi_park_to_back(&park, c);
    cr_expect_eq(park.ring.before, c);
    cr_expect_null(gwi_park_coldest(&park));
    gwi_park_fini(&park);
}

Test(park, a_growing_table_finds_cold_keys_too_and_the_end_frees_them)
{
    struct gwi_park park;
    cr_assert(gwi_park_init(&park));
    for (uint64_t i = 0; i < 5000; i++) {
        struct gwi_parked_key *key =
            gwi_park_add(&park, i * 0x9e3779b97f4a7c15ull, 1, make(i, "key"));
        cr_assert(key);
        if (i % 3)
            gwi_park_to_cold(&park, key, i);
    }
    cr_expect_gt(park.buckets, 1024, "it has not grown, the test says nothing");
    for (uint64_t i = 0; i < 5000; i++) {
        struct gwi_parked_key *key = gwi_park_find(&park, i * 0x9e3779b97f4a7c15ull);
        cr_assert(key);
        cr_expect_eq(key->cold, i % 3 != 0);
    }
    for (uint64_t i = 0; i < 5000; i += 2) {
        bool gone;
        free(gwi_park_take(&park, gwi_park_find(&park, i * 0x9e3779b97f4a7c15ull), &gone));
        cr_expect(gone);
    }
    cr_expect_eq(park.keys, 2500);
    gwi_park_fini(&park); /* the leak checker sees what is left */
}

Test(park, an_operation_can_be_taken_from_behind_another)
{
    struct gwi_park park;
    cr_assert(gwi_park_init(&park));
    struct gwi_parked_key *key = NULL;
    for (uint64_t serial = 1; serial <= 3; serial++)
        key = gwi_park_add(&park, 42, 7, make(serial, "k"));
    bool gone;
    struct gwi_parked_op *op = gwi_park_take_after(&park, key, key->first, &gone);
    cr_expect_eq(op->serial, 2);
    cr_expect(!gone);
    free(op);
    op = gwi_park_take_after(&park, key, key->first, &gone); /* the last one */
    cr_expect_eq(op->serial, 3);
    cr_expect(!gone);
    free(op);
    cr_assert_eq(gwi_park_add(&park, 42, 7, make(4, "k")), key);
    cr_expect_eq(key->first->serial, 1);
    cr_expect_eq(key->first->next->serial, 4, "what comes behind the last one is lost");
    cr_expect_eq(park.ops, 2);
    gwi_park_fini(&park);
}
