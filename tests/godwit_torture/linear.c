/* linear.c - the search, forward in time with all explanations at once (after Wing and Gong 1993,
 * Lowe 2017; see linear.h).
 *
 * A configuration says: these of the operations that are open now (invoked, not yet answered) have
 * taken effect, and the key's state is this. We keep every configuration that the past allows, and
 * walk through the invocations and answers by time. An answer throws out what does not have its
 * operation's effect; before that, each configuration is extended in every way that ends in just
 * that operation (effects are put in as late as possible). None left: the answer is impossible. At
 * a quiescent moment no operation is open, so the history is cut there by itself.
 *
 * Rules, which only leave out what another configuration can do as well:
 *  1. An operation that, by its answer, changed nothing takes effect as soon as it fits the state.
 *  2. Operations in doubt stay open for ever. Of two configurations that differ only in them, the
 *     one that has used fewer of them can do all that the other can.
 *  3. Operations of one session that were answered take effect in their order of issue.
 *  4. States that nobody has seen or named, nor seen a continuation of, are one: PRESENT.
 *  5. Of operations in doubt that do the same to every state any one will do: the first. */
#include "tests/godwit_torture/linear.h"

#include <stdlib.h>

#include "index/base/assert.h"

#define OPEN_WORDS  4u
#define OPEN_MAX    (OPEN_WORDS * 64u)
#define PRESENT     (UINT64_MAX - 1)
#define NO_OP       SIZE_MAX
#define CONFIGS_MAX (1u << 20)

struct bits {
    uint64_t word[OPEN_WORDS];
};

struct config {
    uint64_t state;
    struct bits done;
    uint32_t head, next; /* its place by hash; the next one there, + 1 */
};

/* Configurations without those that another one makes needless. */
struct set {
    struct config *config;
    uint32_t *head;              /* by hash: index + 1 */
    uint32_t count, room, heads; /* heads: a power of two */
};

struct event {
    uint64_t at_ns;
    size_t op;
    bool answer;
};

struct search {
    const struct torture_op *ops;
    uint64_t *argument; /* per op, by rule 4 */
    uint64_t *seen_states;
    size_t seen_count;
    size_t *before;             /* per op: the one of its session that must go first, or NO_OP */
    uint16_t *place;            /* per op: its bit while it is open */
    size_t open[OPEN_MAX];      /* the op of each bit, or NO_OP */
    struct bits used, in_doubt; /* bits that stand for an op; of those: in doubt */
    struct set now, then, seen;
    uint64_t steps, steps_max;
    bool failed; /* no memory, or too much to look at */
};

static bool has(const struct bits *b, uint32_t i)
{
    return (b->word[i / 64] >> (i % 64)) & 1;
}
static void put(struct bits *b, uint32_t i)
{
    b->word[i / 64] |= UINT64_C(1) << (i % 64);
}
static void drop(struct bits *b, uint32_t i)
{
    b->word[i / 64] &= ~(UINT64_C(1) << (i % 64));
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t known(const struct search *s, uint64_t state) /* rule 4 */
{
    bool there = state == 0 || bsearch(&state, s->seen_states, s->seen_count,
                                       sizeof *s->seen_states, by_value) != NULL;
    return there ? state : PRESENT;
}

/* Could the operation take effect in this state with the answer that it got? */
static bool effect(const struct search *s, size_t i, uint64_t state, uint64_t *after)
{
    const struct torture_op *op = &s->ops[i];
    bool doubt = torture_doubtful(op), ok = doubt || op->outcome == TORTURE_OK;
    *after = state;
    switch ((enum torture_verb)op->verb) {
    case TORTURE_GET:
        return op->outcome == TORTURE_OK ? state != 0 && state == op->result : state == 0;
    case TORTURE_SET:
        *after = s->argument[i];
        return ok;
    case TORTURE_APPEND:
        *after = known(s, torture_state_append(state, op->argument));
        return ok;
    case TORTURE_DELETE:
        *after = 0;
        return doubt || (op->outcome == TORTURE_OK) == (state != 0);
    case TORTURE_INSERT:
        if (op->outcome == TORTURE_EXISTS)
            return state != 0;
        *after = s->argument[i];
        return state == 0;
    case TORTURE_CAS:
        if (op->outcome == TORTURE_MISMATCH)
            return state != 0 && state != op->expected;
        if (op->outcome == TORTURE_NOT_FOUND)
            return state == 0;
        *after = s->argument[i];
        return state == op->expected;
    case TORTURE_GET_SET:
        *after = s->argument[i];
        return doubt || (ok && (op->result == TORTURE_UNKNOWN || op->result == state));
    case TORTURE_GET_DELETE:
        *after = 0;
        if (op->outcome == TORTURE_NOT_FOUND)
            return state == 0;
        return doubt || (state != 0 && (op->result == TORTURE_UNKNOWN || op->result == state));
    case TORTURE_ADD:
    case TORTURE_SEEN:
        break;
    }
    return false;
}

/* ---- sets ----------------------------------------------------------------------------------- */

static uint64_t hash_of(const struct search *s, const struct config *c)
{
    uint64_t h = c->state;
    for (uint32_t i = 0; i < OPEN_WORDS; i++)
        h = torture_state_append(h, c->done.word[i] & ~s->in_doubt.word[i]);
    return h;
}

static bool set_grow(struct search *s, struct set *set)
{
    uint32_t room = set->room ? set->room * 2 : 64;
    struct config *config = realloc(set->config, room * sizeof *config);
    if (!config)
        return false;
    set->config = config;
    uint32_t *head = calloc((size_t)room * 2, sizeof *head);
    if (!head)
        return false;
    free(set->head);
    set->head = head;
    set->room = room;
    set->heads = room * 2;
    for (uint32_t i = 0; i < set->count; i++) {
        config[i].head = (uint32_t)hash_of(s, &config[i]) & (set->heads - 1);
        config[i].next = head[config[i].head];
        head[config[i].head] = i + 1;
    }
    return true;
}

static void set_clear(struct set *set)
{
    for (uint32_t i = 0; i < set->count; i++)
        set->head[set->config[i].head] = 0;
    set->count = 0;
}

/* Rule 2. True when it was put in. */
static bool set_add(struct search *s, struct set *set, const struct config *c)
{
    if (set->count == set->room) {
        if (set->count >= CONFIGS_MAX || !set_grow(s, set)) {
            s->failed = true;
            return false;
        }
    }
    uint32_t head = (uint32_t)hash_of(s, c) & (set->heads - 1);
    for (uint32_t at = set->head[head]; at; at = set->config[at - 1].next) {
        const struct config *other = &set->config[at - 1];
        bool covers = other->state == c->state;
        for (uint32_t i = 0; covers && i < OPEN_WORDS; i++) {
            uint64_t theirs = other->done.word[i], ours = c->done.word[i];
            uint64_t doubt = s->in_doubt.word[i];
            covers = (theirs & ~doubt) == (ours & ~doubt) && (theirs & ~ours) == 0;
        }
        if (covers)
            return false;
    }
    set->config[set->count] = *c;
    set->config[set->count].head = head;
    set->config[set->count].next = set->head[head];
    set->head[head] = ++set->count;
    return true;
}

/* ---- extending ------------------------------------------------------------------------------ */

static bool may_go(const struct search *s, const struct config *c, size_t op) /* rule 3 */
{
    size_t before = s->before[op];
    return before == NO_OP || s->place[before] == OPEN_MAX || has(&c->done, s->place[before]);
}

static bool only_looked(const struct torture_op *op)
{
    return op->verb == TORTURE_GET || op->outcome != TORTURE_OK;
}

static void settle(const struct search *s, struct config *c) /* rule 1 */
{
    for (bool again = true; again;) {
        again = false;
        for (uint32_t w = 0; w < OPEN_WORDS; w++) {
            uint64_t left = s->used.word[w] & ~s->in_doubt.word[w] & ~c->done.word[w];
            for (; left; left &= left - 1) {
                uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(left);
                uint64_t after;
                if (only_looked(&s->ops[s->open[i]]) && effect(s, s->open[i], c->state, &after) &&
                    may_go(s, c, s->open[i])) {
                    put(&c->done, i);
                    again = true;
                }
            }
        }
    }
}

/* What an operation in doubt does, as one number, if others may do the same; 0: they may not. */
static uint64_t likeness(const struct search *s, size_t op) /* rule 5 */
{
    switch ((enum torture_verb)s->ops[op].verb) {
    case TORTURE_DELETE:
    case TORTURE_GET_DELETE:
        return 1;
    case TORTURE_SET:
    case TORTURE_GET_SET:
        return s->argument[op] == PRESENT ? 2 : 0;
    case TORTURE_INSERT:
        return s->argument[op] == PRESENT ? 3 : 0;
    case TORTURE_CAS:
        return s->argument[op] == PRESENT ? torture_state_append(4, s->ops[op].expected) : 0;
    default:
        return 0;
    }
}

/* Puts into s->then what comes of c when operations take effect, `last` as the last of them. */
static void extend(struct search *s, const struct config *c, uint32_t last)
{
    uint64_t tried[32];
    uint32_t tried_count = 0;
    for (int doubtful = 0; doubtful < 2 && !s->failed; doubtful++) {
        for (uint32_t w = 0; w < OPEN_WORDS; w++) {
            uint64_t kind = doubtful ? s->in_doubt.word[w] : ~s->in_doubt.word[w];
            uint64_t left = s->used.word[w] & kind & ~c->done.word[w];
            for (; left; left &= left - 1) {
                uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(left);
                struct config next = *c;
                if (++s->steps > s->steps_max) {
                    s->failed = true;
                    return;
                }
                if (!effect(s, s->open[i], c->state, &next.state) || !may_go(s, c, s->open[i]) ||
                    (doubtful && next.state == c->state))
                    continue;
                uint64_t like = doubtful ? likeness(s, s->open[i]) : 0;
                uint32_t t = 0;
                while (like && t < tried_count && tried[t] != like)
                    t++;
                if (like && t < tried_count)
                    continue;
                if (like && t < sizeof tried / sizeof tried[0])
                    tried[tried_count++] = like;
                put(&next.done, i);
                settle(s, &next);
                if (has(&next.done, last))
                    (void)set_add(s, &s->then, &next);
                else
                    (void)set_add(s, &s->seen, &next);
            }
        }
    }
}

/* ---- events --------------------------------------------------------------------------------- */

static bool invoked(struct search *s, size_t op)
{
    uint32_t i = 0;
    while (i < OPEN_MAX && has(&s->used, i))
        i++;
    if (i == OPEN_MAX)
        return false;
    s->open[i] = op;
    s->place[op] = (uint16_t)i;
    put(&s->used, i);
    if (torture_doubtful(&s->ops[op])) {
        put(&s->in_doubt, i);
        return true;
    }
    set_clear(&s->then);
    for (uint32_t c = 0; c < s->now.count; c++) {
        struct config next = s->now.config[c];
        settle(s, &next);
        (void)set_add(s, &s->then, &next);
    }
    struct set was = s->now;
    s->now = s->then;
    s->then = was;
    return true;
}

/* Bits that no configuration can use any more stand for nothing. */
static void close_bits(struct search *s, uint32_t answered)
{
    struct bits all = s->in_doubt;
    for (uint32_t c = 0; c < s->then.count; c++)
        for (uint32_t w = 0; w < OPEN_WORDS; w++)
            all.word[w] &= s->then.config[c].done.word[w];
    put(&all, answered);
    set_clear(&s->now);
    for (uint32_t w = 0; w < OPEN_WORDS; w++)
        for (uint64_t left = all.word[w]; left; left &= left - 1) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(left);
            s->place[s->open[i]] = OPEN_MAX;
            s->open[i] = NO_OP;
            drop(&s->used, i);
            drop(&s->in_doubt, i);
        }
    for (uint32_t c = 0; c < s->then.count; c++) {
        struct config next = s->then.config[c];
        for (uint32_t w = 0; w < OPEN_WORDS; w++)
            next.done.word[w] &= ~all.word[w];
        settle(s, &next);
        (void)set_add(s, &s->now, &next);
    }
}

/* False: no configuration explains the answer; s->now is what there was. */
static bool answered(struct search *s, size_t op)
{
    uint32_t last = s->place[op];
    set_clear(&s->then);
    set_clear(&s->seen);
    for (uint32_t c = 0; c < s->now.count; c++)
        if (has(&s->now.config[c].done, last))
            (void)set_add(s, &s->then, &s->now.config[c]);
        else
            (void)set_add(s, &s->seen, &s->now.config[c]);
    for (uint32_t c = 0; c < s->seen.count && !s->failed; c++) {
        struct config from = s->seen.config[c]; /* the set may move */
        extend(s, &from, last);
    }
    if (s->failed)
        return true;
    if (s->then.count == 0)
        return false;
    close_bits(s, last);
    return true;
}

static int by_time(const void *a, const void *b)
{
    const struct event *x = a, *y = b;
    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    if (x->answer != y->answer)
        return x->answer ? 1 : -1; /* at the same instant they overlap */
    return x->op < y->op ? -1 : x->op > y->op;
}

static const struct torture_op *sorted_ops; /* one thread, while it sorts */
static int by_issue(const void *a, const void *b)
{
    const struct torture_op *x = &sorted_ops[*(const size_t *)a];
    const struct torture_op *y = &sorted_ops[*(const size_t *)b];
    if (x->session != y->session)
        return x->session < y->session ? -1 : 1;
    return x->serial < y->serial ? -1 : x->serial > y->serial;
}

static void link_sessions(struct search *s, size_t count, size_t *order)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        if (torture_answered(&s->ops[i]))
            order[n++] = i;
    sorted_ops = s->ops;
    qsort(order, n, sizeof *order, by_issue);
    for (size_t i = 1; i < n; i++)
        if (s->ops[order[i]].session == s->ops[order[i - 1]].session)
            s->before[order[i]] = order[i - 1];
}

static void show(const struct search *s, size_t op, struct torture_finding *finding)
{
    finding->op = op;
    finding->states_count = 0;
    for (uint32_t c = 0; c < s->now.count; c++) {
        uint64_t state = s->now.config[c].state;
        size_t i = 0;
        while (i < finding->states_count && finding->states[i] != state)
            i++;
        if (i == finding->states_count && i < TORTURE_STATES_SHOWN)
            finding->states[finding->states_count++] = state;
    }
}

enum torture_verdict torture_linear_check(const struct torture_op *ops, size_t count,
                                          uint64_t steps_max, struct torture_finding *finding)
{
    *finding = (struct torture_finding){0};
    enum torture_verdict verdict = TORTURE_UNDECIDED;
    struct search *s = calloc(1, sizeof *s);
    struct event *events = calloc(count * 2 + 1, sizeof *events);
    size_t *order = calloc(count + 1, sizeof *order), events_count = 0;
    if (!s || !events || !order)
        goto out;
    s->argument = calloc(count + 1, sizeof *s->argument);
    s->seen_states = calloc(count + 1, sizeof *s->seen_states);
    s->before = calloc(count + 1, sizeof *s->before);
    s->place = calloc(count + 1, sizeof *s->place);
    if (!s->argument || !s->seen_states || !s->before || !s->place)
        goto out;
    s->ops = ops;
    s->steps_max = steps_max;
    for (size_t i = 0; i < count; i++)
        if (ops[i].verb == TORTURE_CAS)
            s->seen_states[s->seen_count++] = ops[i].expected;
        else if (ops[i].result != 0)
            s->seen_states[s->seen_count++] = ops[i].result;
    qsort(s->seen_states, s->seen_count, sizeof *s->seen_states, by_value);
    for (size_t i = 0; i < count; i++)
        s->argument[i] = known(s, ops[i].argument);
    for (uint32_t i = 0; i < OPEN_MAX; i++)
        s->open[i] = NO_OP;
    for (size_t i = 0; i < count; i++) {
        const struct torture_op *op = &ops[i];
        GW_ASSERT(op->verb != TORTURE_ADD);
        s->before[i] = NO_OP;
        s->place[i] = OPEN_MAX;
        if (op->outcome == TORTURE_NOT_DONE || op->verb == TORTURE_SEEN ||
            (torture_doubtful(op) && op->verb == TORTURE_GET))
            continue;
        events[events_count++] = (struct event){op->invoke_ns, i, false};
        if (torture_answered(op))
            events[events_count++] = (struct event){op->response_ns, i, true};
    }
    link_sessions(s, count, order);
    qsort(events, events_count, sizeof *events, by_time);
    struct config start = {0};
    (void)set_add(s, &s->now, &start);
    verdict = TORTURE_EXPLAINED;
    for (size_t e = 0; e < events_count && verdict == TORTURE_EXPLAINED; e++) {
        if (!events[e].answer) {
            if (!invoked(s, events[e].op))
                s->failed = true;
        } else if (!answered(s, events[e].op)) {
            verdict = TORTURE_IMPOSSIBLE;
            show(s, events[e].op, finding);
        }
        if (s->failed)
            verdict = TORTURE_UNDECIDED;
    }
    finding->steps = s->steps;
out:
    if (s) {
        struct set *sets[] = {&s->now, &s->then, &s->seen};
        for (size_t i = 0; i < 3; i++) {
            free(sets[i]->config);
            free(sets[i]->head);
        }
        free(s->argument);
        free(s->seen_states);
        free(s->before);
        free(s->place);
    }
    free(s);
    free(events);
    free(order);
    return verdict;
}
