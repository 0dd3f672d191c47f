/* test_checksum.c - CRC32C, by instruction and by table. */
#include "index/base/checksum.h"

#include <criterion/criterion.h>
#include <string.h>

#include "index/base/rand.h"

/* RFC 3720, B.4. */
Test(checksum, has_the_values_of_the_rfc)
{
    uint8_t bytes[32];
    cr_expect_eq(gw_crc32c(0, "123456789", 9), 0xe3069283u);
    memset(bytes, 0, sizeof bytes);
    cr_expect_eq(gw_crc32c(0, bytes, 32), 0x8a9136aau);
    memset(bytes, 0xff, sizeof bytes);
    cr_expect_eq(gw_crc32c(0, bytes, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++)
        bytes[i] = (uint8_t)i;
    cr_expect_eq(gw_crc32c(0, bytes, 32), 0x46dd794eu);
    cr_expect_eq(gwi_crc32c_portable(0, bytes, 32), 0x46dd794eu);
    cr_expect_eq(gw_crc32c(0, NULL, 0), 0u);
}

Test(checksum, table_and_instruction_agree_at_every_length_and_alignment)
{
    uint8_t bytes[128];
    struct gw_rand r;
    gw_rand_init(&r, 5);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)gw_rand_next(&r);
    for (size_t at = 0; at < 16; at++)
        for (size_t n = 0; at + n <= sizeof bytes; n++)
            cr_assert_eq(gw_crc32c(9, bytes + at, n), gwi_crc32c_portable(9, bytes + at, n));
}

/* Long inputs go by several lanes at once: around one, two and three groups of them. */
Test(checksum, table_and_instruction_agree_on_long_inputs)
{
    static uint8_t bytes[3 * 4080 + 64];
    struct gw_rand r;
    gw_rand_init(&r, 6);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)gw_rand_next(&r);
    for (size_t groups = 1; groups <= 3; groups++)
        for (size_t n = groups * 4080 - 20; n < groups * 4080 + 40; n++)
            cr_assert_eq(gw_crc32c(77, bytes + n % 8, n), gwi_crc32c_portable(77, bytes + n % 8, n),
                         "%zu bytes", n);
}

Test(checksum, parts_add_up_to_the_whole)
{
    static const char text[] = "godwits fly without landing";
    size_t n = sizeof text - 1;
    uint32_t whole = gw_crc32c(0, text, n);
    for (size_t cut = 0; cut <= n; cut++)
        cr_expect_eq(gw_crc32c(gw_crc32c(0, text, cut), text + cut, n - cut), whole);
}

Test(checksum, every_flipped_bit_is_seen)
{
    uint8_t block[64] = {1, 2, 3};
    uint32_t before = gw_crc32c(0, block, sizeof block);
    for (size_t bit = 0; bit < sizeof block * 8; bit++) {
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
        cr_expect_neq(gw_crc32c(0, block, sizeof block), before, "bit %zu", bit);
        block[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}
