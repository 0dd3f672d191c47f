/* test_memory.c - large mappings are zeroed, aligned and given back. */
#include "index/base/memory.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MIB ((size_t)1 << 20)

Test(memory, is_zeroed_aligned_and_writable_to_its_end)
{
    static const size_t sizes[] = {0, 1, 4096, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 7 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t rounded = (sizes[i] ? sizes[i] + 2 * MIB - 1 : 2 * MIB) / (2 * MIB) * (2 * MIB);
        void *p = NULL;
        enum gw_memory_kind kind;
        cr_assert_eq(gw_memory_map(sizes[i], &p, &kind), GW_OK);
        cr_expect_eq((uintptr_t)p % (2 * MIB), 0u);
        cr_expect_str_neq(gw_memory_kind_name(kind), "unknown");
        uint8_t *bytes = p;
        for (size_t at = 0; at < rounded; at += 4096)
            cr_assert_eq(bytes[at], 0);
        memset(bytes, 0xa5, rounded);
        cr_expect_eq(bytes[rounded - 1], 0xa5);
        gw_memory_unmap(p, sizes[i]);
    }
}

Test(memory, unmapping_gives_back_the_whole_rounded_mapping)
{
    void *p;
    unsigned char in_core[1];
    cr_assert_eq(gw_memory_map(3 * MIB, &p, NULL), GW_OK);
    cr_expect_eq(mincore(p, 4096, in_core), 0);
    gw_memory_unmap(p, 3 * MIB);
    cr_expect_eq(mincore(p, 4096, in_core), -1, "the first page is still mapped");
    cr_expect_eq(mincore((uint8_t *)p + 4 * MIB - 4096, 4096, in_core), -1, "the last one is");
}

static long mapped_pages(void)
{
    long pages = -1;
    FILE *statm = fopen("/proc/self/statm", "r");
    cr_assert(statm);
    cr_assert_eq(fscanf(statm, "%ld", &pages), 1);
    fclose(statm);
    return pages;
}

/* Goal: what is mapped beyond the size, to find an aligned place in it, does not stay. */
Test(memory, mapping_and_unmapping_leaves_no_address_space_behind)
{
    long before = mapped_pages();
    for (int i = 0; i < 200; i++) {
        void *p, *neighbour = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_eq(gw_memory_map(3 * MIB, &p, NULL), GW_OK);
        gw_memory_unmap(p, 3 * MIB);
        munmap(neighbour, 4096); /* moved the next mapping off its alignment */
    }
    cr_expect_lt(mapped_pages() - before, (long)(20 * MIB / 4096));
}

Test(memory, what_cannot_be_had_is_refused_and_nothing_written)
{
    void *p = &p;
    enum gw_memory_kind kind = GW_MEMORY_HUGETLB;
    cr_expect_eq(gw_memory_map(SIZE_MAX, &p, &kind), GW_E_NOMEM);
    cr_expect_eq(gw_memory_map((size_t)1 << 62, &p, &kind), GW_E_NOMEM);
    cr_expect_eq(p, (void *)&p);
    cr_expect_eq(kind, GW_MEMORY_HUGETLB);
}

Test(memory, unmapping_nothing_does_nothing)
{
    void *p;
    cr_assert_eq(gw_memory_map(1, &p, NULL), GW_OK);
    gw_memory_unmap(NULL, 2 * MIB);
    memset(p, 1, 2 * MIB);
    gw_memory_unmap(p, 1);
}

Test(memory, kinds_have_names)
{
    cr_expect_str_eq(gw_memory_kind_name(GW_MEMORY_PLAIN), "plain");
    cr_expect_str_eq(gw_memory_kind_name(GW_MEMORY_ADVISED), "advised");
    cr_expect_str_eq(gw_memory_kind_name(GW_MEMORY_HUGETLB), "hugetlb");
}
