/* Goal: what may be seen of a key that expires, by its only writer and by others. */
#include <criterion/criterion.h>

#include "tests/godwit_torture/expiring.h"

#define NOW UINT64_C(1000000)

static char why[200];

static bool saw(const struct torture_expiring *key, uint64_t piece, uint64_t expiry_ms,
                uint64_t at_ms)
{
    struct torture_value value = {.last = piece, .expiry_ms = expiry_ms, .pieces = 1};
    return torture_expiring_saw(key, piece ? &value : NULL, at_ms, at_ms, why, sizeof why);
}

Test(expiring, the_last_acknowledged_write_is_there_until_its_end)
{
    struct torture_expiring key = {0};
    cr_expect(saw(&key, 0, 0, NOW));
    cr_expect_not(saw(&key, 1, 0, NOW), "nobody wrote that");
    torture_expiring_wrote(&key, (struct torture_life){1, NOW + 5000}, false);
    cr_expect(saw(&key, 1, NOW + 5000, NOW));
    cr_expect_not(saw(&key, 0, 0, NOW), "it was lost before its end");
    cr_expect(saw(&key, 0, 0, NOW + 5000));
    cr_expect_not(saw(&key, 1, NOW + 5000, NOW + 5000 + TORTURE_EXPIRY_SLACK_MS + 1));
    torture_expiring_wrote(&key, (struct torture_life){2, 0}, false);
    cr_expect_not(saw(&key, 1, NOW + 5000, NOW), "an older value is back");
    cr_expect_not(saw(&key, 0, 0, NOW + 1000000), "without an end it stays");
    torture_expiring_wrote(&key, (struct torture_life){0, 0}, false);
    cr_expect_not(saw(&key, 2, 0, NOW), "a delete was undone");
}

Test(expiring, what_is_in_doubt_may_be_seen_or_not)
{
    struct torture_expiring key = {0};
    torture_expiring_wrote(&key, (struct torture_life){1, 0}, false);
    torture_expiring_wrote(&key, (struct torture_life){2, 0}, true);
    cr_expect(saw(&key, 1, 0, NOW));
    cr_expect(saw(&key, 2, 0, NOW));
    cr_expect_not(saw(&key, 0, 0, NOW));
    torture_expiring_wrote(&key, (struct torture_life){0, 0}, true);
    cr_expect(saw(&key, 0, 0, NOW));
    for (uint64_t i = 0; i < TORTURE_DOUBTS_MAX; i++)
        torture_expiring_wrote(&key, (struct torture_life){10 + i, 0}, true);
    cr_expect(saw(&key, 99, 0, NOW), "with too many doubts nothing is known");
}

Test(expiring, others_know_what_the_value_says)
{
    struct torture_value value = {.expiry_ms = NOW};
    cr_expect_not(torture_expired_seen(&value, NOW + TORTURE_EXPIRY_SLACK_MS, why, sizeof why));
    cr_expect(torture_expired_seen(&value, NOW + TORTURE_EXPIRY_SLACK_MS + 1, why, sizeof why));
    value.expiry_ms = 0;
    cr_expect_not(torture_expired_seen(&value, NOW, why, sizeof why));
}
