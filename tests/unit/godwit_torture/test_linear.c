/* Goal: the checker of histories accepts what one order explains, and nothing else.
 * How: histories by hand, one for each defect that it is there for; and random executions of a
 * register, as they are and with one answer changed to an impossible one. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "index/base/rand.h"
#include "tests/godwit_torture/linear.h"

#define STEPS   1000000u
#define OPS_MAX 4000u

struct story {
    struct torture_op op[OPS_MAX];
    size_t count;
};

static struct torture_op *tell(struct story *story, enum torture_verb verb, uint64_t from,
                               uint64_t to, enum torture_outcome outcome)
{
    struct torture_op *op = &story->op[story->count++];
    *op = (struct torture_op){.invoke_ns = from,
                              .response_ns = outcome >= TORTURE_OK ? to : TORTURE_NEVER,
                              .session = (uint32_t)story->count,
                              .verb = (uint8_t)verb,
                              .outcome = (uint8_t)outcome};
    return op;
}

static struct torture_op *set(struct story *s, uint64_t from, uint64_t to, uint64_t value)
{
    struct torture_op *op = tell(s, TORTURE_SET, from, to, TORTURE_OK);
    op->argument = value;
    return op;
}

static struct torture_op *set_in_doubt(struct story *s, uint64_t from, uint64_t value)
{
    struct torture_op *op = tell(s, TORTURE_SET, from, 0, TORTURE_IN_DOUBT);
    op->argument = value;
    return op;
}

static struct torture_op *get(struct story *s, uint64_t from, uint64_t to, uint64_t value)
{
    struct torture_op *op = tell(s, TORTURE_GET, from, to, value ? TORTURE_OK : TORTURE_NOT_FOUND);
    op->result = value;
    return op;
}

static struct torture_op *cas(struct story *s, uint64_t from, uint64_t to, uint64_t expected,
                              uint64_t value, enum torture_outcome outcome)
{
    struct torture_op *op = tell(s, TORTURE_CAS, from, to, outcome);
    op->expected = expected;
    op->argument = value;
    return op;
}

static void expect(const struct story *s, enum torture_verdict verdict, size_t op)
{
    struct torture_finding finding;
    cr_expect_eq(torture_linear_check(s->op, s->count, STEPS, &finding), verdict);
    if (verdict == TORTURE_IMPOSSIBLE)
        cr_expect_eq(finding.op, op, "operation %zu is named, not %zu", finding.op, op);
}

Test(linear, operations_one_after_the_other_are_explained)
{
    struct story s = {0};
    get(&s, 1, 2, 0);
    set(&s, 3, 4, 7);
    get(&s, 5, 6, 7);
    cas(&s, 7, 8, 7, 8, TORTURE_OK);
    cas(&s, 9, 10, 7, 9, TORTURE_MISMATCH);
    tell(&s, TORTURE_INSERT, 11, 12, TORTURE_EXISTS);
    tell(&s, TORTURE_DELETE, 13, 14, TORTURE_OK);
    tell(&s, TORTURE_DELETE, 15, 16, TORTURE_NOT_FOUND);
    cas(&s, 17, 18, 8, 9, TORTURE_NOT_FOUND);
    tell(&s, TORTURE_INSERT, 19, 20, TORTURE_OK)->argument = 11;
    tell(&s, TORTURE_GET_SET, 21, 22, TORTURE_OK)->argument = 12;
    s.op[s.count - 1].result = 11;
    tell(&s, TORTURE_GET_DELETE, 23, 24, TORTURE_OK)->result = 12;
    get(&s, 25, 26, 0);
    expect(&s, TORTURE_EXPLAINED, 0);
}

Test(linear, overlapping_operations_may_take_effect_in_any_order)
{
    struct story s = {0};
    set(&s, 1, 10, 1);
    set(&s, 1, 10, 2);
    get(&s, 2, 3, 2); /* 2 first, then 1 */
    get(&s, 11, 12, 1);
    expect(&s, TORTURE_EXPLAINED, 0);
    s.op[3].result = 2; /* 1 first */
    expect(&s, TORTURE_EXPLAINED, 0);
    get(&s, 4, 5, 1);
    expect(&s, TORTURE_IMPOSSIBLE, 3); /* 2, 1, and 2 again */
}

Test(linear, a_lost_update_is_found)
{
    struct story s = {0};
    set(&s, 1, 2, 1);
    set(&s, 3, 4, 2);
    get(&s, 5, 6, 1);
    expect(&s, TORTURE_IMPOSSIBLE, 2);
    memset(&s, 0, sizeof s);
    set(&s, 1, 2, 1);
    get(&s, 5, 6, 0);
    expect(&s, TORTURE_IMPOSSIBLE, 1);
}

Test(linear, a_stale_read_is_found)
{
    struct story s = {0};
    set(&s, 1, 2, 1);
    set(&s, 3, 20, 2); /* still open when others have seen it */
    get(&s, 4, 5, 2);
    get(&s, 6, 7, 1);
    expect(&s, TORTURE_IMPOSSIBLE, 3);
}

Test(linear, a_resurrected_delete_is_found)
{
    struct story s = {0};
    set(&s, 1, 2, 1);
    tell(&s, TORTURE_DELETE, 3, 4, TORTURE_OK);
    get(&s, 5, 6, 0);
    get(&s, 7, 8, 1);
    expect(&s, TORTURE_IMPOSSIBLE, 3);
}

Test(linear, a_piece_that_was_appended_twice_is_found)
{
    struct story s = {0};
    uint64_t one = torture_state_append(0, 5), two = torture_state_append(one, 6);
    set(&s, 1, 2, one);
    tell(&s, TORTURE_APPEND, 3, 4, TORTURE_OK)->argument = 6;
    get(&s, 5, 6, two);
    tell(&s, TORTURE_SEEN, 0, 0, TORTURE_NOT_DONE)->result = one;
    expect(&s, TORTURE_EXPLAINED, 0);
    s.op[2].result = torture_state_append(two, 6);
    expect(&s, TORTURE_IMPOSSIBLE, 2);
}

Test(linear, two_successes_of_one_cas_are_found)
{
    struct story s = {0};
    set(&s, 1, 2, 1);
    cas(&s, 3, 10, 1, 2, TORTURE_OK);
    cas(&s, 3, 11, 1, 3, TORTURE_MISMATCH);
    expect(&s, TORTURE_EXPLAINED, 0);
    s.op[2].outcome = TORTURE_OK;
    expect(&s, TORTURE_IMPOSSIBLE, 2);
}

Test(linear, a_value_that_nobody_wrote_is_found)
{
    struct story s = {0};
    set(&s, 1, 2, 1);
    set_in_doubt(&s, 1, 2);
    get(&s, 3, 4, 9);
    expect(&s, TORTURE_IMPOSSIBLE, 2);
}

Test(linear, what_is_in_doubt_may_take_effect_late_once_or_never)
{
    struct story s = {0};
    set(&s, 1, 2, 1);
    set_in_doubt(&s, 3, 2);
    get(&s, 5, 6, 1);
    expect(&s, TORTURE_EXPLAINED, 0);
    set(&s, 7, 8, 3);
    get(&s, 9, 10, 2); /* late, above what came after it */
    get(&s, 11, 12, 2);
    expect(&s, TORTURE_EXPLAINED, 0);
    set(&s, 13, 14, 4);
    get(&s, 15, 16, 2); /* but once */
    expect(&s, TORTURE_IMPOSSIBLE, 7);
}

Test(linear, what_is_in_doubt_does_not_take_effect_before_it_is_invoked)
{
    struct story s = {0};
    set(&s, 1, 2, 1);
    get(&s, 3, 4, 2);
    set_in_doubt(&s, 5, 2);
    expect(&s, TORTURE_IMPOSSIBLE, 1);
}

Test(linear, what_was_not_done_has_no_effect)
{
    struct story s = {0};
    set(&s, 1, 2, 1);
    tell(&s, TORTURE_SET, 3, 0, TORTURE_NOT_DONE)->argument = 2;
    get(&s, 5, 6, 1);
    expect(&s, TORTURE_EXPLAINED, 0);
    s.op[2].result = 2;
    expect(&s, TORTURE_IMPOSSIBLE, 2);
}

Test(linear, operations_of_one_session_keep_their_order)
{
    struct story s = {0};
    set(&s, 1, 10, 1);
    set(&s, 2, 11, 2);
    get(&s, 12, 13, 1);
    expect(&s, TORTURE_EXPLAINED, 0);
    s.op[0].session = s.op[1].session = 77;
    s.op[1].serial = 1;
    expect(&s, TORTURE_IMPOSSIBLE, 2);
    s.op[2].result = 2;
    expect(&s, TORTURE_EXPLAINED, 0);
}

Test(linear, hundreds_in_doubt_do_not_drown_it)
{
    struct story s = {0};
    for (uint64_t i = 0; i < 120; i++) {
        set(&s, 10 * i + 1, 10 * i + 3, 2 * i + 1);
        set_in_doubt(&s, 10 * i + 2, 2 * i + 2);
        get(&s, 10 * i + 5, 10 * i + 6, i % 7 == 0 ? 2 * i + 2 : 2 * i + 1);
    }
    expect(&s, TORTURE_EXPLAINED, 0);
    s.op[s.count - 1].result = 1;
    expect(&s, TORTURE_IMPOSSIBLE, s.count - 1);
}

Test(linear, a_search_without_end_is_ended)
{
    struct story s = {0};
    struct torture_finding finding;
    for (uint64_t i = 0; i < 60; i++)
        set(&s, i + 1, 1000 + i, i + 1);
    get(&s, 500, 501, 99);
    cr_expect_eq(torture_linear_check(s.op, s.count, 1000, &finding), TORTURE_UNDECIDED);
}

/* ---- random executions ---------------------------------------------------------------------- */

/* A register with `clients` clients, as it really would be: each operation takes effect at one
 * moment between its invocation and its answer. */
static void live(struct story *s, struct gw_rand *rand, uint32_t clients, size_t count)
{
    uint64_t way[64]; /* states that the value went through */
    size_t steps = 0;
    struct {
        struct torture_op op;
        bool open, done;
        uint64_t known;
    } client[8] = {0};
    uint64_t state = 0, now = 0, value = 0;
    for (size_t ended = 0; ended < count;) {
        uint32_t c = (uint32_t)gw_rand_below(rand, clients);
        struct torture_op *op = &client[c].op;
        now++;
        if (!client[c].open) {
            *op = (struct torture_op){.invoke_ns = now, .session = c, .serial = (uint32_t)now};
            op->verb = (uint8_t)gw_rand_below(rand, TORTURE_ADD);
            op->argument = ++value * 1000003u;
            op->expected = client[c].known;
            if (op->verb == TORTURE_CAS && !op->expected)
                op->verb = TORTURE_GET;
            client[c].open = true;
            client[c].done = false;
        } else if (!client[c].done && gw_rand_below(rand, 2)) {
            uint64_t was = state;
            client[c].done = true;
            op->outcome = TORTURE_OK;
            if (op->verb == TORTURE_APPEND && steps == 60)
                op->verb = TORTURE_SET;
            if (op->verb == TORTURE_GET || op->verb == TORTURE_GET_SET ||
                op->verb == TORTURE_GET_DELETE)
                for (size_t i = 0; i < steps; i++)
                    tell(s, TORTURE_SEEN, 0, 0, TORTURE_NOT_DONE)->result = way[i];
            switch (op->verb) {
            case TORTURE_GET:
                op->result = client[c].known = state;
                op->outcome = state ? TORTURE_OK : TORTURE_NOT_FOUND;
                break;
            case TORTURE_GET_SET:
                op->result = was;
                state = op->argument;
                break;
            case TORTURE_SET:
                state = op->argument;
                break;
            case TORTURE_APPEND:
                state = torture_state_append(state, op->argument);
                break;
            case TORTURE_GET_DELETE:
                op->result = was;
                /* fall through */
            case TORTURE_DELETE:
                state = 0;
                op->outcome = was ? TORTURE_OK : TORTURE_NOT_FOUND;
                break;
            case TORTURE_INSERT:
                op->outcome = was ? TORTURE_EXISTS : TORTURE_OK;
                state = was ? was : op->argument;
                break;
            case TORTURE_CAS:
                op->outcome = was == op->expected ? TORTURE_OK
                              : was               ? TORTURE_MISMATCH
                                                  : TORTURE_NOT_FOUND;
                state = was == op->expected ? op->argument : was;
                break;
            }
            steps = op->verb == TORTURE_APPEND || state == was ? steps : 0;
            if (state != was)
                way[steps++] = state;
        } else if (client[c].done || gw_rand_below(rand, 60) == 0) {
            bool lost = !client[c].done || gw_rand_below(rand, 50) == 0;
            op->response_ns = lost ? TORTURE_NEVER : now;
            if (lost) {
                op->outcome = TORTURE_IN_DOUBT;
                op->result = 0;
            }
            s->op[s->count++] = *op;
            client[c].open = false;
            ended++;
        }
    }
    for (uint32_t c = 0; c < clients; c++) {
        if (!client[c].open)
            continue;
        client[c].op.outcome = TORTURE_UNANSWERED;
        client[c].op.response_ns = TORTURE_NEVER;
        client[c].op.result = 0;
        s->op[s->count++] = client[c].op;
    }
}

Test(linear, random_executions_of_a_register_are_explained)
{
    struct gw_rand rand;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        static struct story s;
        s.count = 0;
        struct torture_finding finding;
        gw_rand_init(&rand, seed);
        live(&s, &rand, 2 + (uint32_t)(seed % 6), 100 + seed % 200);
        enum torture_verdict v = torture_linear_check(s.op, s.count, STEPS, &finding);
        cr_expect_eq(v, TORTURE_EXPLAINED, "seed %lu: verdict %d at operation %zu",
                     (unsigned long)seed, v, finding.op);
    }
}

Test(linear, random_executions_with_one_impossible_answer_are_found)
{
    struct gw_rand rand;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        static struct story s;
        s.count = 0;
        struct torture_finding finding;
        gw_rand_init(&rand, seed);
        live(&s, &rand, 2 + (uint32_t)(seed % 6), 100 + seed % 200);
        size_t victim = (size_t)gw_rand_below(&rand, s.count);
        struct torture_op *op;
        do {
            victim = (victim + 1) % s.count;
            op = &s.op[victim];
        } while (op->verb != TORTURE_GET || op->outcome != TORTURE_OK);
        /* Of a write that comes later, or of nobody. */
        op->result = UINT64_C(7);
        for (size_t i = s.count; i-- > 0 && gw_rand_below(&rand, 2) == 0;)
            if (s.op[i].verb == TORTURE_SET && s.op[i].invoke_ns > op->response_ns)
                op->result = s.op[i].argument;
        enum torture_verdict v = torture_linear_check(s.op, s.count, STEPS, &finding);
        cr_expect_eq(v, TORTURE_IMPOSSIBLE, "seed %lu: verdict %d", (unsigned long)seed, v);
    }
}
