/* test_bytes.c - the bounds-checked reader and writer never leave their room. */
#include "index/base/bytes.h"

#include <criterion/criterion.h>

Test(bytes, what_is_written_is_read_back_little_endian)
{
    uint8_t room[18];
    struct gw_writer w = gw_writer_of(room, sizeof room);
    gw_write8(&w, 0x01);
    gw_write16(&w, 0x0203);
    gw_write32(&w, 0x04050607);
    gw_write64(&w, 0x08090a0b0c0d0e0fu);
    gw_write_bytes(&w, "xyz", 3);
    cr_assert_not(w.bad);
    cr_expect_eq(gw_writer_used(&w), sizeof room);
    cr_expect_eq(gw_writer_left(&w), 0u);
    static const uint8_t expected[] = {1,  3,  2,  7,  6, 5, 4,   15,  14,
                                       13, 12, 11, 10, 9, 8, 'x', 'y', 'z'};
    cr_expect_arr_eq(room, expected, sizeof room);

    struct gw_reader r = gw_reader_of(room, sizeof room);
    cr_expect_eq(gw_read8(&r), 0x01);
    cr_expect_eq(gw_read16(&r), 0x0203);
    cr_expect_eq(gw_read32(&r), 0x04050607u);
    cr_expect_eq(gw_read64(&r), 0x08090a0b0c0d0e0fu);
    const uint8_t *tail = gw_read_bytes(&r, 3);
    cr_assert(tail);
    cr_expect_arr_eq(tail, "xyz", 3);
    cr_expect_not(r.bad);
    cr_expect_eq(gw_reader_left(&r), 0u);
}

Test(bytes, a_read_beyond_the_end_gives_zero_and_the_reader_stays_bad)
{
    static const uint8_t three[] = {0xff, 0xff, 0xff};
    struct gw_reader r = gw_reader_of(three, sizeof three);
    cr_expect_eq(gw_read32(&r), 0u);
    cr_expect(r.bad);
    cr_expect_eq(gw_read8(&r), 0, "one byte would fit, but the reader is bad");
    cr_expect_null(gw_read_bytes(&r, 0));
    struct gw_reader huge = gw_reader_of(three, sizeof three);
    cr_expect_null(gw_read_bytes(&huge, SIZE_MAX));
    cr_expect(huge.bad);
}

Test(bytes, a_write_beyond_the_end_changes_nothing_and_the_writer_stays_bad)
{
    uint8_t room[4] = {1, 2, 3, 4};
    struct gw_writer w = gw_writer_of(room, 3);
    gw_write32(&w, 0);
    cr_expect(w.bad);
    gw_write8(&w, 0);
    cr_expect_eq(gw_writer_used(&w), 0u);
    static const uint8_t expected[] = {1, 2, 3, 4};
    cr_expect_arr_eq(room, expected, 4);
    struct gw_writer huge = gw_writer_of(room, 3);
    gw_write_bytes(&huge, room, SIZE_MAX);
    cr_expect(huge.bad);
}
