/* Goal: counters that were counted wrongly are found, and others not. */
#include <criterion/criterion.h>

#include "index/base/rand.h"
#include "tests/godwit_torture/counting.h"

static struct torture_op add(uint64_t from, uint64_t to, uint64_t number)
{
    return (struct torture_op){.invoke_ns = from,
                               .response_ns = number ? to : TORTURE_NEVER,
                               .argument = 1,
                               .result = number,
                               .verb = TORTURE_ADD,
                               .outcome = number ? TORTURE_OK : TORTURE_IN_DOUBT};
}

static struct torture_op get(uint64_t from, uint64_t to, uint64_t number)
{
    return (struct torture_op){.invoke_ns = from,
                               .response_ns = to,
                               .result = number,
                               .verb = TORTURE_GET,
                               .outcome = number ? TORTURE_OK : TORTURE_NOT_FOUND};
}

#define EXPECT(wanted, end, ...)                                                                   \
    do {                                                                                           \
        struct torture_op ops[] = {__VA_ARGS__};                                                   \
        struct torture_count count;                                                                \
        enum torture_miscount found =                                                              \
            torture_count_check(ops, sizeof ops / sizeof ops[0], true, end, &count);               \
        cr_expect_eq(found, wanted, "%s", torture_miscount_words(found));                          \
    } while (0)

Test(counting, adds_and_gets_that_agree_are_right)
{
    EXPECT(TORTURE_COUNT_RIGHT, 2, get(1, 2, 0), add(3, 6, 2), add(3, 5, 1), get(5, 6, 1),
           get(7, 8, 2));
    EXPECT(TORTURE_COUNT_RIGHT, 1, add(1, 2, 1), get(5, 6, 1), get(3, 4, 1), get(9, 10, 1));
    EXPECT(TORTURE_COUNT_RIGHT, 0, get(1, 2, 0));
}

Test(counting, a_lost_update_is_found)
{
    EXPECT(TORTURE_COUNT_TWICE, 1, add(1, 5, 1), add(2, 6, 1));
    EXPECT(TORTURE_COUNT_LOST, 1, add(1, 2, 1), add(3, 4, 2));
}

Test(counting, a_double_add_is_found)
{
    EXPECT(TORTURE_COUNT_SKIPPED, 3, add(1, 2, 1), add(3, 4, 3));
    EXPECT(TORTURE_COUNT_SKIPPED, 2, add(1, 2, 1), get(3, 4, 2));
    EXPECT(TORTURE_COUNT_TOO_MANY, 2, add(1, 2, 1));
    /* The one in doubt was invoked after the number had been seen. */
    EXPECT(TORTURE_COUNT_SKIPPED, 3, add(1, 2, 1), add(3, 4, 3), add(5, 0, 0));
}

Test(counting, a_stale_read_is_found)
{
    EXPECT(TORTURE_COUNT_BACKWARDS, 2, add(1, 2, 1), add(3, 4, 2), get(5, 6, 1));
    EXPECT(TORTURE_COUNT_BACKWARDS, 2, add(1, 2, 2), add(3, 4, 1));
    EXPECT(TORTURE_COUNT_BACKWARDS, 1, get(1, 2, 1), add(3, 4, 1));
}

Test(counting, adds_in_doubt_may_count_or_not)
{
    EXPECT(TORTURE_COUNT_RIGHT, 2, add(1, 2, 1), add(3, 0, 0));
    EXPECT(TORTURE_COUNT_RIGHT, 1, add(1, 2, 1), add(3, 0, 0));
    EXPECT(TORTURE_COUNT_RIGHT, 3, add(1, 2, 1), add(1, 0, 0), add(3, 4, 3));
    EXPECT(TORTURE_COUNT_TOO_MANY, 3, add(1, 2, 1), add(3, 0, 0));
}

Test(counting, without_answers_only_the_end_counts)
{
    struct torture_op ops[] = {add(1, 2, 5), add(3, 4, 1)};
    struct torture_count count;
    cr_expect_eq(torture_count_check(ops, 2, false, 2, &count), TORTURE_COUNT_RIGHT);
    cr_expect_eq(torture_count_check(ops, 2, false, 1, &count), TORTURE_COUNT_LOST);
    cr_expect_eq(torture_count_check(ops, 2, false, 3, &count), TORTURE_COUNT_TOO_MANY);
}

Test(counting, random_executions_are_right_until_one_answer_is_changed)
{
    enum { OPS = 200, CLIENTS = 6 };
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct gw_rand rand;
        gw_rand_init(&rand, seed);
        struct torture_op ops[OPS], open[CLIENTS] = {0};
        uint64_t number = 0, now = 0;
        size_t count = 0;
        while (count < OPS) {
            struct torture_op *op = &open[gw_rand_below(&rand, CLIENTS)];
            now++;
            if (op->invoke_ns == 0) {
                *op = gw_rand_below(&rand, 4) ? add(now, 0, 0) : get(now, 0, 0);
                op->outcome = TORTURE_UNANSWERED;
            } else if (op->outcome == TORTURE_UNANSWERED && gw_rand_below(&rand, 8)) {
                number += op->verb == TORTURE_ADD;
                op->result = number;
                op->outcome = number ? TORTURE_OK : TORTURE_NOT_FOUND;
            } else {
                if (op->outcome == TORTURE_UNANSWERED || gw_rand_below(&rand, 16) == 0)
                    op->outcome = TORTURE_IN_DOUBT;
                op->response_ns = op->outcome == TORTURE_IN_DOUBT ? TORTURE_NEVER : now;
                ops[count++] = *op;
                op->invoke_ns = 0;
            }
        }
        for (size_t i = 0; i < CLIENTS && count < OPS; i++)
            ops[count++] = open[i];
        struct torture_count out;
        /* Adds still open have counted or not: put them in as being in doubt. */
        struct torture_op all[OPS + CLIENTS];
        size_t n = 0;
        for (size_t i = 0; i < OPS; i++)
            all[n++] = ops[i];
        for (size_t i = 0; i < CLIENTS; i++)
            if (open[i].invoke_ns) {
                all[n] = open[i];
                all[n].outcome = TORTURE_IN_DOUBT;
                all[n++].response_ns = TORTURE_NEVER;
            }
        enum torture_miscount found = torture_count_check(all, n, true, number, &out);
        cr_expect_eq(found, TORTURE_COUNT_RIGHT, "seed %lu: %s", (unsigned long)seed,
                     torture_miscount_words(found));
        size_t victim = gw_rand_below(&rand, OPS);
        while (all[victim].outcome != TORTURE_OK || all[victim].verb != TORTURE_ADD)
            victim = (victim + 1) % OPS;
        all[victim].result += OPS + 7;
        found = torture_count_check(all, n, true, number, &out);
        cr_expect_neq(found, TORTURE_COUNT_RIGHT, "seed %lu", (unsigned long)seed);
    }
}
