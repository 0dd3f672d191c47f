/* linear.h - is there one order of all operations on a key that explains every answer and agrees
 * with real time? (Herlihy and Wing, 1990; per key, since linearizability is local.)
 * One thread. Layer: tests. */
#ifndef GW_TESTS_TORTURE_LINEAR_H
#define GW_TESTS_TORTURE_LINEAR_H

#include "tests/godwit_torture/history.h"

enum torture_verdict { TORTURE_EXPLAINED, TORTURE_IMPOSSIBLE, TORTURE_UNDECIDED };

#define TORTURE_STATES_SHOWN 8u
struct torture_finding {
    size_t op; /* IMPOSSIBLE: the first operation, by its answer, that no order explains */
    /* The states that the key may have been in just before that answer. */
    uint64_t states[TORTURE_STATES_SHOWN];
    size_t states_count; /* more of them are not listed */
    uint64_t steps;      /* what it took */
};

/* `ops`: all operations of one key, in any order. The state is 0 before the first. A value that was
 * read and is made of several pieces comes with a SEEN entry for each state on its way. A search of
 * more than `steps_max` steps is UNDECIDED. Adds are checked by counting.h and not allowed here. */
enum torture_verdict torture_linear_check(const struct torture_op *ops, size_t count,
                                          uint64_t steps_max, struct torture_finding *finding);
#endif
