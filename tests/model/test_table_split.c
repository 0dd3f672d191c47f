/* Goal: a bucket is split right in whatever order the steps of threads fall (ENGINE H2, H15).
 * How: the table's own code, with a scheduler at each of its accesses to shared words (GWI_STEP).
 * Each thread begins in turn and is preempted at each of its steps by each other one; two more
 * preemptions are drawn. Two helpers, an updater of two entries, one of them in an overflow line,
 * and two inserters of one tag. The Spin model table_split.pml has all orders of a simpler bucket.
 * Sequentially consistent, as that is. */
static void step(void);
#define GWI_STEP() step()

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "index/base/rand.h"
#include "index/table.c"
#include "index/table_split.c"

#define THREADS  5u
#define STACK    (64u << 10)
#define FILLERS  6u
#define HASH     ((uint64_t)9 << 55 | (uint64_t)40 << 49)
#define ADDRESS  (1u << 20)
#define PREEMPTS 3u
#define SAMPLES  64u /* of the second and third preemption, for each first one */

enum { HELPER_1, HELPER_2, UPDATER, INSERTER_1, INSERTER_2 };

static struct {
    ucontext_t main, context[THREADS];
    uint8_t *stack[THREADS];
    bool done[THREADS];
    uint32_t now, steps, next; /* next preemption */
    struct {
        uint32_t step, to;
    } preempt[PREEMPTS];
} run;

static struct gw_table *table;
static struct gwi_growth growth;
static struct gw_bucket *old, *child;
static uint64_t updated[2], inserted[2];
static enum gw_status insert_status[2];

static void switch_to(uint32_t to)
{
    uint32_t from = run.now;
    run.now = to;
    swapcontext(&run.context[from], &run.context[to]);
}

static void step(void)
{
    if (run.now >= THREADS)
        return; /* preparing or checking */
    uint32_t at = run.steps++;
    if (run.next < PREEMPTS && run.preempt[run.next].step == at) {
        uint32_t to = run.preempt[run.next++].to;
        if (to != run.now && !run.done[to])
            switch_to(to);
    }
}

static uint64_t tag_of(uint32_t n)
{
    return gw_table_tag(table, HASH, (uint16_t)n);
}

static void update(uint32_t which, uint32_t n)
{
    for (uint32_t times = 1; times <= 2; times++) {
        uint64_t entry, next;
        _Atomic uint64_t *place;
        do {
            place = gwi_table_find_exact(table, HASH, tag_of(n), &entry);
            cr_assert_not_null(place, "lost");
            cr_assert_eq(entry, updated[which], "an update was lost or undone");
            next = entry + 1000;
            step();
        } while (!atomic_compare_exchange_strong(place, &entry, next));
        updated[which] = next;
    }
}

static void body(uint32_t number)
{
    switch (number) {
    case HELPER_1:
    case HELPER_2:
        gwi_split_bucket(table, &growth, 9);
        break;
    case UPDATER:
        update(0, 0);
        update(1, 7);
        break;
    default: {
        uint32_t i = number - INSERTER_1;
        _Atomic uint64_t *place;
        gw_addr at = gw_addr_of(2 * ADDRESS + 16 * number);
        while ((insert_status[i] = gw_table_insert(table, HASH, tag_of(100), at, &place,
                                                   &inserted[i])) == GW_RETRY)
            for (uint32_t n = 1; n < THREADS; n++) /* another one's tentative entry is first */
                if (!run.done[(number + n) % THREADS]) {
                    switch_to((number + n) % THREADS);
                    break;
                }
    }
    }
    run.done[number] = true;
    for (uint32_t to = 0; to < THREADS; to++)
        if (!run.done[to])
            switch_to(to);
    run.now = THREADS;
    setcontext(&run.main);
}

/* Eight entries, the last one in an overflow line. */
static void reset(void)
{
    memset(old, 0, sizeof *old);
    memset(child, 0xff, 2 * sizeof *child);
    struct gwi_arena *arena = gwi_chunk_arena(growth.old_word);
    memset(gwi_chunk_line(growth.old_word, 1), 0, 8 * sizeof *old);
    atomic_store(&arena->next, 0), atomic_store(&arena->used, 0), atomic_store(&arena->free, 0);
    arena = gwi_chunk_arena(growth.new_word);
    memset(gwi_chunk_line(growth.new_word, 1), 0, 32 * sizeof *old);
    atomic_store(&arena->next, 0), atomic_store(&arena->used, 0), atomic_store(&arena->free, 0);
    atomic_store(&table->grow->lines_used, 0);
    for (uint32_t n = 0; n < FILLERS + 2; n++) {
        struct gw_bucket *line = n < 7 ? old : gwi_chunk_line(growth.old_word, 1);
        atomic_store(&line->word[n % 7], gw_entry_make(tag_of(n), gw_addr_of(ADDRESS + 16 * n)));
    }
    cr_assert_eq(gwi_line_take(table, growth.old_word, false), 1);
    atomic_store(&old->word[GW_BUCKET_OVERFLOW], 1);
    updated[0] = atomic_load(&old->word[0]);
    updated[1] = atomic_load(&gwi_chunk_line(growth.old_word, 1)->word[0]);
}

static void check(void)
{
    gwi_split_bucket(table, &growth, 9);
    cr_assert_eq(insert_status[0] == GW_OK ? insert_status[1] : insert_status[0], GW_EXISTS);
    cr_assert(insert_status[0] == GW_OK || insert_status[1] == GW_OK);
    cr_assert_eq(inserted[0], inserted[1]);
    uint32_t seen[101] = {0}, lines = 0;
    for (struct gw_bucket *b = child + 1; b;
         b = gwi_chunk_next_line(growth.new_word, b, memory_order_acquire), lines++)
        for (uint32_t i = 0; i < GW_BUCKET_ENTRIES; i++) {
            uint64_t e = atomic_load(&b->word[i]);
            if (e == 0)
                continue;
            cr_assert(gw_entry_is_live(e));
            uint32_t n = gw_entry_slot(e);
            seen[n]++;
            uint64_t wanted = n == 0     ? updated[0]
                              : n == 7   ? updated[1]
                              : n == 100 ? inserted[0]
                                         : gw_entry_make(tag_of(n), gw_addr_of(ADDRESS + 16 * n));
            cr_assert_eq(e, wanted, "entry %u", n);
        }
    for (uint32_t n = 0; n < FILLERS + 2; n++)
        cr_assert_eq(seen[n], 1, "entry %u", n);
    cr_assert_eq(seen[100], 1);
    cr_assert_eq(atomic_load(&gwi_chunk_arena(growth.new_word)->used), lines - 1, "a line is lost");
    for (uint32_t i = 0; i < 8; i++)
        cr_assert_eq(atomic_load(&child->word[i]), 0, "the other child is empty");
}

/* Runs one schedule, begun by thread `first`; returns its number of steps. */
static uint32_t run_one(uint32_t first)
{
    reset();
    memset(run.done, 0, sizeof run.done);
    run.steps = run.next = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        getcontext(&run.context[i]);
        run.context[i].uc_stack.ss_sp = run.stack[i];
        run.context[i].uc_stack.ss_size = STACK;
        run.context[i].uc_link = NULL;
        makecontext(&run.context[i], (void (*)(void))(uintptr_t)body, 1, i);
    }
    run.now = first;
    swapcontext(&run.main, &run.context[first]);
    cr_assert_eq(run.now, THREADS);
    check();
    return run.steps;
}

Test(table_split, no_order_of_steps_loses_doubles_or_undoes, .timeout = 120)
{
    struct gw_table_options options = {.bytes = 65536, .bytes_max = 1 << 20, .chunk_bits = 9};
    cr_assert_eq(gw_table_create(&options, &table), GW_OK);
    growth.grow = table->grow;
    growth.old_word = gwi_table_word(table, HASH);
    cr_assert_eq(gwi_chunk_create(table, 0, 10, &growth.new_word, NULL), GW_OK);
    old = gwi_chunk_buckets(growth.old_word) + 9;
    child = gwi_chunk_buckets(growth.new_word) + 18;
    atomic_store(&table->directory[0], (uint64_t)(uintptr_t)&growth | GWI_DIRECTORY_GROWING);
    for (uint32_t i = 0; i < THREADS; i++)
        run.stack[i] = malloc(STACK);
    run.now = THREADS;

    uint64_t schedules = 0;
    struct gw_rand rand;
    gw_rand_init(&rand, 11);
    for (uint32_t first = 0; first < THREADS; first++) {
        for (uint32_t i = 0; i < PREEMPTS; i++)
            run.preempt[i].step = UINT32_MAX;
        uint32_t steps = run_one(first);
        for (uint32_t a = 0; a < steps; a++)
            for (uint32_t to = 0; to < THREADS; to++)
                for (uint32_t n = 0; n < SAMPLES; n++, schedules++) {
                    run.preempt[0].step = a, run.preempt[0].to = to;
                    for (uint32_t i = 1; i < PREEMPTS; i++) {
                        uint64_t ahead = 1 + gw_rand_below(&rand, steps / 2);
                        run.preempt[i].step = run.preempt[i - 1].step + (uint32_t)ahead;
                        run.preempt[i].to = (uint32_t)gw_rand_below(&rand, THREADS);
                    }
                    run_one(first);
                }
    }
    fprintf(stderr, "%lu schedules\n", (unsigned long)schedules);
    cr_expect_gt(schedules, 10000);
}
