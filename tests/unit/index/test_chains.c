/* Goal: a chain that was noted as mixed stays so while a record of the pair can be met, whatever
 * the set's bounds do; and one that was not noted is not called mixed while there is room. */
#include "index/chains.h"

#include <criterion/criterion.h>

#define AT(n) gw_addr_of((uint64_t)(n)*16)

Test(chains, what_is_marked_is_mixed_and_nothing_else)
{
    struct gwi_chains *chains;
    cr_assert_eq(gwi_chains_create(1 << 20, &chains), GW_OK);
    cr_expect_not(gwi_chains_mixed(chains, 0, 1), "empty");
    gwi_chains_mark(chains, 0, AT(100), 1);
    gwi_chains_mark(chains, UINT64_MAX - 1, AT(100), 1);
    cr_expect(gwi_chains_mixed(chains, 0, 1));
    cr_expect(gwi_chains_mixed(chains, UINT64_MAX - 1, 1));
    cr_expect_not(gwi_chains_mixed(chains, 1, 1));
    for (uint64_t i = 0; i < 20000; i += 2)
        gwi_chains_mark(chains, i << 20, AT(200 + i), 1);
    for (uint64_t i = 0; i < 20000; i++)
        cr_assert_eq(gwi_chains_mixed(chains, i << 20, 1), i % 2 == 0, "%lu", (unsigned long)i);
    gwi_chains_destroy(chains);
}

Test(chains, a_name_has_the_bits_of_slot_and_smallest_table)
{
    uint32_t shift = 64 - 10 - 6;
    uint64_t name = gwi_chains_name(16383, 0xABCDu << 4 | (uint64_t)0xFFFF << 48, shift);
    cr_expect_eq(name, gwi_chains_name(16383, (uint64_t)0xFFFF << 48, shift));
    cr_expect_neq(name, gwi_chains_name(16382, (uint64_t)0xFFFF << 48, shift));
    cr_expect_neq(name, gwi_chains_name(16383, (uint64_t)0xFFFE << 48, shift));
}

/* Names of records that begin has passed give way to new ones: the set does not grow for ever. */
Test(chains, old_marks_go_when_begin_has_passed_them)
{
    struct gwi_chains *chains;
    cr_assert_eq(gwi_chains_create(1 << 20, &chains), GW_OK);
    uint64_t begin = 1, now = 100;
    for (uint32_t round = 0; round < 200; round++) {
        uint64_t first = now;
        for (uint32_t i = 0; i < 2000; i++)
            gwi_chains_mark(chains, (uint64_t)round << 32 | i, AT(now++), begin);
        for (uint32_t i = 0; i < 2000; i++)
            cr_assert(gwi_chains_mixed(chains, (uint64_t)round << 32 | i, begin));
        begin = AT(first).v; /* the rounds before this one are gone */
    }
    cr_expect_lt(gwi_chains_count(chains), 20000);
    cr_expect_lt(gwi_chains_bytes(chains), 1u << 19);
    cr_expect_not(gwi_chains_mixed(chains, 1, begin), "of the first round");
    gwi_chains_destroy(chains);
}

Test(chains, marks_stay_as_long_as_they_are_needed)
{
    struct gwi_chains *chains;
    cr_assert_eq(gwi_chains_create(1 << 20, &chains), GW_OK);
    gwi_chains_mark(chains, 77, AT(100), 1);
    for (uint64_t i = 0; i < 30000; i++)
        gwi_chains_mark(chains, i << 24 | 1, AT(200 + i), AT(100).v);
    cr_expect(gwi_chains_mixed(chains, 77, AT(100).v), "begin is not above its record");
    gwi_chains_destroy(chains);
}

/* A full set says "mixed" of everything, until begin has passed what it could not note. */
Test(chains, a_full_set_errs_on_the_safe_side_and_recovers)
{
    struct gwi_chains *chains;
    cr_assert_eq(gwi_chains_create(GWI_CHAINS_BYTES_MIN, &chains), GW_OK);
    uint64_t most = GWI_CHAINS_BYTES_MIN / 8;
    for (uint64_t i = 0; i < 4 * most; i++)
        gwi_chains_mark(chains, i << 12, AT(1000 + i), 1);
    cr_expect_leq(gwi_chains_bytes(chains), GWI_CHAINS_BYTES_MIN + 8192);
    for (uint64_t i = 0; i < 4 * most; i++)
        cr_assert(gwi_chains_mixed(chains, i << 12, 1));
    cr_expect(gwi_chains_mixed(chains, 1, 1), "everything is");
    uint64_t begin = AT(1000 + 4 * most).v;
    cr_expect_not(gwi_chains_mixed(chains, 1, begin), "until begin has passed");
    gwi_chains_mark(chains, 3, AT(2000 + 4 * most), begin);
    cr_expect(gwi_chains_mixed(chains, 3, begin));
    gwi_chains_destroy(chains);
}
