/* counting.h - counters that start absent (0), to which clients only ever add 1: each add has its
 * own number, so an order that explains all answers is found by sorting. One thread. Layer: tests.
 */
#ifndef GW_TESTS_TORTURE_COUNTING_H
#define GW_TESTS_TORTURE_COUNTING_H

#include "tests/godwit_torture/history.h"

enum torture_miscount {
    TORTURE_COUNT_RIGHT,
    TORTURE_COUNT_TWICE,     /* two adds were told the same number: one of them was lost */
    TORTURE_COUNT_BACKWARDS, /* a number was seen after a higher one had been */
    TORTURE_COUNT_SKIPPED,   /* the number rose by more than what was added or is in doubt */
    TORTURE_COUNT_LOST,      /* at the end there are fewer than were acknowledged */
    TORTURE_COUNT_TOO_MANY,  /* at the end there are more than were acknowledged or in doubt */
};
const char *torture_miscount_words(enum torture_miscount miscount);

struct torture_count {
    uint64_t acknowledged, in_doubt;
    size_t ops[2]; /* those that contradict each other; SIZE_MAX: none */
    uint64_t number;
};

/* `ops`: adds of 1 and gets of one key, in any order. With `answers` false only the end is looked
 * at: what adds and gets were told on the way may have been taken back by a crash. `end`: the
 * number that was there when all was over. */
enum torture_miscount torture_count_check(const struct torture_op *ops, size_t count, bool answers,
                                          uint64_t end, struct torture_count *out);
#endif
