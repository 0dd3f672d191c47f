/* Goal: a value that is not exactly what somebody wrote is known for it. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/godwit_torture/history.h"
#include "tests/godwit_torture/pieces.h"

Test(pieces, whole_pieces_are_read_and_chained)
{
    uint8_t room[400];
    char why[200];
    struct torture_value value;
    torture_piece_write(room, 100, 7, 11, 0);
    torture_piece_write(room + 100, 41, 7, 12, 99);
    cr_assert(torture_value_read(room, 141, 7, &value, why, sizeof why), "%s", why);
    cr_expect_eq(value.pieces, 2);
    cr_expect_eq(value.last, 12);
    cr_expect_eq(value.expiry_ms, 99);
    cr_expect_eq(value.state, torture_state_append(torture_state_append(0, 11), 12));
    cr_expect_not(torture_value_read(room, 141, 8, &value, why, sizeof why));
    cr_expect(strstr(why, "another key"));
}

Test(pieces, a_changed_byte_or_length_is_found)
{
    uint8_t room[200];
    char why[200];
    struct torture_value value;
    torture_piece_write(room, 120, 7, 11, 5);
    for (size_t i = 0; i < 120; i++) {
        room[i] ^= 0x10;
        cr_expect_not(torture_value_read(room, 120, 7, &value, why, sizeof why), "byte %zu", i);
        room[i] ^= 0x10;
    }
    for (size_t n = 0; n < 120; n++)
        cr_expect_not(torture_value_read(room, n, 7, &value, why, sizeof why), "%zu bytes", n);
    memcpy(room + 120, room, 50); /* a piece of another piece behind it */
    cr_expect_not(torture_value_read(room, 170, 7, &value, why, sizeof why));
    cr_expect(torture_value_read(room, 120, 7, &value, why, sizeof why));
}
