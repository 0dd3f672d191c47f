/* counting.c - see counting.h.
 *
 * Sorted by number, an add before the gets of its number, and those by time: in that order the
 * operations can have taken effect if none was answered before one that stands in front of it was
 * invoked. Numbers that no answer names belong to adds in doubt: the i-th of them needs i adds in
 * doubt that were invoked before anybody was told a higher number. */
#include "tests/godwit_torture/counting.h"

#include <stdlib.h>

struct entry {
    uint64_t number, invoke_ns;
    size_t op;
    bool add;
};

const char *torture_miscount_words(enum torture_miscount miscount)
{
    static const char *const words[] = {
        [TORTURE_COUNT_RIGHT] = "right",
        [TORTURE_COUNT_TWICE] = "two adds were told the same number, so one was lost",
        [TORTURE_COUNT_BACKWARDS] = "it went backwards",
        [TORTURE_COUNT_SKIPPED] = "it rose by more than what was added: an add was applied twice",
        [TORTURE_COUNT_LOST] = "acknowledged adds are lost",
        [TORTURE_COUNT_TOO_MANY] = "adds were applied twice",
    };
    return words[miscount];
}

static int by_number(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    if (x->add != y->add)
        return x->add ? -1 : 1;
    return x->invoke_ns < y->invoke_ns ? -1 : x->invoke_ns > y->invoke_ns;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static enum torture_miscount order(const struct torture_op *ops, struct entry *sorted, size_t n,
                                   struct torture_count *out)
{
    qsort(sorted, n, sizeof *sorted, by_number);
    for (size_t i = 1; i < n; i++) {
        if (!sorted[i].add || !sorted[i - 1].add || sorted[i].number != sorted[i - 1].number)
            continue;
        out->ops[0] = sorted[i - 1].op;
        out->ops[1] = sorted[i].op;
        out->number = sorted[i].number;
        return TORTURE_COUNT_TWICE;
    }
    size_t first = SIZE_MAX; /* of those behind: the one that was answered first */
    for (size_t i = n; i-- > 0;) {
        if (first != SIZE_MAX && ops[first].response_ns < ops[sorted[i].op].invoke_ns) {
            out->ops[0] = first;
            out->ops[1] = sorted[i].op;
            out->number = sorted[i].number;
            return TORTURE_COUNT_BACKWARDS;
        }
        if (first == SIZE_MAX || ops[sorted[i].op].response_ns < ops[first].response_ns)
            first = sorted[i].op;
    }
    return TORTURE_COUNT_RIGHT;
}

static enum torture_miscount gaps(const struct torture_op *ops, const struct entry *sorted,
                                  size_t n, const uint64_t *doubts, struct torture_count *out)
{
    /* From behind: by when the numbers below had to be there. From the front: how many miss. */
    uint64_t *until = calloc(n + 1, sizeof *until);
    if (!until)
        return TORTURE_COUNT_RIGHT;
    until[n] = TORTURE_NEVER;
    for (size_t i = n; i-- > 0;) {
        uint64_t response = ops[sorted[i].op].response_ns;
        until[i] = response < until[i + 1] ? response : until[i + 1];
    }
    enum torture_miscount miscount = TORTURE_COUNT_RIGHT;
    uint64_t missing = 0, number = 0; /* all up to `number` are accounted for */
    for (size_t i = 0; i < n && miscount == TORTURE_COUNT_RIGHT; i++) {
        uint64_t there = sorted[i].add ? sorted[i].number - 1 : sorted[i].number;
        if (there > number) {
            missing += there - number;
            number = there;
        }
        if (sorted[i].add)
            number = sorted[i].number;
        if (missing > 0 && (missing > out->in_doubt || doubts[missing - 1] >= until[i])) {
            out->ops[0] = sorted[i].op;
            out->number = sorted[i].number;
            miscount = TORTURE_COUNT_SKIPPED;
        }
    }
    free(until);
    return miscount;
}

enum torture_miscount torture_count_check(const struct torture_op *ops, size_t count, bool answers,
                                          uint64_t end, struct torture_count *out)
{
    *out = (struct torture_count){.ops = {SIZE_MAX, SIZE_MAX}, .number = end};
    struct entry *sorted = calloc(count + 1, sizeof *sorted);
    uint64_t *doubts = calloc(count + 1, sizeof *doubts); /* when they were invoked */
    enum torture_miscount miscount = TORTURE_COUNT_RIGHT;
    size_t n = 0;
    if (!sorted || !doubts)
        goto out;
    for (size_t i = 0; i < count; i++) {
        const struct torture_op *op = &ops[i];
        bool add = op->verb == TORTURE_ADD;
        if (torture_answered(op)) {
            out->acknowledged += add;
            uint64_t number = op->outcome == TORTURE_OK ? op->result : 0;
            sorted[n++] = (struct entry){number, op->invoke_ns, i, add};
        } else if (torture_doubtful(op) && add) {
            doubts[out->in_doubt++] = op->invoke_ns;
        }
    }
    qsort(doubts, out->in_doubt, sizeof *doubts, by_value);
    if (answers)
        miscount = order(ops, sorted, n, out);
    if (answers && miscount == TORTURE_COUNT_RIGHT)
        miscount = gaps(ops, sorted, n, doubts, out);
    if (miscount == TORTURE_COUNT_RIGHT && end < out->acknowledged)
        miscount = TORTURE_COUNT_LOST;
    if (miscount == TORTURE_COUNT_RIGHT && end > out->acknowledged + out->in_doubt)
        miscount = TORTURE_COUNT_TOO_MANY;
out:
    free(sorted);
    free(doubts);
    return miscount;
}
