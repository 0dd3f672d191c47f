/* Goal: the words of a segment file lie where ENGINE section 2 puts them, and no damaged byte of a
 * header or table is taken for a good one. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "tests/support/tier.h"
#include "tiering/ssd_format.h"

Test(ssd_format, sizes_follow_from_page_and_segment)
{
    struct gw_ssd_geometry g = gw_ssd_geometry_of(22, 64);
    cr_expect_eq(g.page_blocks, 1024);
    cr_expect_eq(g.table_bytes, 8192, "64 + 4 x 1024, to whole blocks");
    cr_expect_eq(gw_ssd_table_offset(&g, 1), 4096 + 8192);
    cr_expect_eq(gw_ssd_page_offset(&g, 0), 4096 + 64 * 8192);
    cr_expect_eq(gw_ssd_page_offset(&g, 63) + g.page_bytes, g.file_bytes);
    g = gw_ssd_geometry_of(12, 1);
    cr_expect_eq(g.table_bytes, 4096);
    cr_expect_eq(g.file_bytes, 3 * 4096);
}

Test(ssd_format, header_words_lie_in_their_places)
{
    uint8_t block[GW_SSD_HEADER_BYTES];
    struct gw_ssd_header h = {.page_bits = 22,
                              .block_bits = 12,
                              .store_id = 0x0102030405060708,
                              .first_address = (uint64_t)5 << 28,
                              .segment_bytes = (uint64_t)1 << 28,
                              .incarnation = 77,
                              .hash_seed_check = 0xDEADBEEF};
    memcpy(h.server_id, "0123456789abcdef", 16);
    gw_ssd_header_write(&h, block);
    cr_expect_eq(memcmp(block, "GWGS", 4), 0);
    cr_expect_eq(gw_load16(block + 4), 1);
    cr_expect_eq(block[6], 22);
    cr_expect_eq(block[7], 12);
    cr_expect_eq(gw_load64(block + 8), h.store_id);
    cr_expect_eq(memcmp(block + 16, "0123456789abcdef", 16), 0);
    cr_expect_eq(gw_load64(block + 32), h.first_address);
    cr_expect_eq(gw_load64(block + 40), h.segment_bytes);
    cr_expect_eq(gw_load32(block + 48), 77);
    cr_expect_eq(gw_load32(block + 52), 0xDEADBEEF);
    struct gw_ssd_header back = {0};
    cr_assert_eq(gw_ssd_header_read(block, &back), GW_OK);
    cr_expect_eq(back.first_address, h.first_address);
    cr_expect_eq(memcmp(back.server_id, h.server_id, 16), 0);
    for (uint32_t i = 0; i < GW_SSD_HEADER_BYTES; i++) { /* every byte counts */
        block[i] ^= 0x40;
        cr_assert_eq(gw_ssd_header_read(block, &back), GW_E_CORRUPT, "byte %u", i);
        block[i] ^= 0x40;
    }
}

Test(ssd_format, table_holds_the_checksum_of_each_block)
{
    struct gw_ssd_geometry g = gw_ssd_geometry_of(14, 2);
    uint8_t *page = tier_room(16384), *table = tier_room(4096);
    uint32_t checks[4], back[4];
    tier_fill(page, 16384, 16384);
    gw_ssd_table_write(&g, 9, 3, 16384, page, table, checks);
    cr_expect_eq(memcmp(table, "GWGT", 4), 0);
    cr_expect_eq(gw_load32(table + 4), 4);
    cr_expect_eq(gw_load64(table + 8), 16384);
    cr_expect_eq(gw_load32(table + 64), checks[0]);
    cr_expect_eq(gw_load32(table + 76), checks[3]);
    cr_expect_neq(checks[0], checks[1]);
    cr_assert_eq(gw_ssd_table_read(&g, 9, 3, 16384, table, back), GW_OK);
    cr_expect_eq(memcmp(checks, back, sizeof checks), 0);
    cr_expect_eq(gw_ssd_table_read(&g, 8, 3, 16384, table, back), GW_E_CORRUPT);
    cr_expect_eq(gw_ssd_table_read(&g, 9, 2, 16384, table, back), GW_E_CORRUPT);
    cr_expect_eq(gw_ssd_table_read(&g, 9, 3, 0, table, back), GW_E_CORRUPT);
    for (uint32_t i = 0; i < 80; i++) {
        table[i] ^= 1;
        cr_assert_eq(gw_ssd_table_read(&g, 9, 3, 16384, table, back), GW_E_CORRUPT, "byte %u", i);
        table[i] ^= 1;
    }
    free(page);
    free(table);
}

Test(ssd_format, names_are_read_back_and_nothing_else_is)
{
    char name[GW_SSD_NAME_BYTES];
    uint32_t incarnation = 0;
    uint64_t first = 0, store = 0;
    gw_ssd_name(0xAB, 0x123456789ABCDEF0, name);
    cr_expect_str_eq(name, "log-000000ab-123456789abcdef0.gws");
    cr_assert(gw_ssd_name_read(name, &incarnation, &first));
    cr_expect_eq(incarnation, 0xAB);
    cr_expect_eq(first, 0x123456789ABCDEF0);
    gw_ssd_name_unfinished(7, 0xAB, 16, name);
    cr_assert(gw_ssd_name_unfinished_read(name, &store, &incarnation));
    cr_expect_eq(store, 7);
    cr_expect_not(gw_ssd_name_read(name, &incarnation, &first));
    static const char *const others[] = {"",
                                         "log-",
                                         "log-000000ab-123456789abcdef0.gw",
                                         "log-000000ab-123456789abcdef0.gwsx",
                                         "log-000000AB-123456789abcdef0.gws",
                                         "log-00000ab-123456789abcdef0.gws",
                                         "xlog-000000ab-123456789abcdef0.gws"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_expect_not(gw_ssd_name_read(others[i], &incarnation, &first), "%s", others[i]);
}
