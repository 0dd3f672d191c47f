/* Model: each image of a checkpoint is exactly what its threads had done when they crossed, in
 * every order of their steps that chance comes to on one thread of the system: cuts begin while
 * threads are inside, between two of their calls, and in the middle of one (when it reads from the
 * device, on behalf of a cutter that runs then); some sleep for long. */
#include <criterion/criterion.h>

#include "tests/support/cut_world.h"

#define WORKERS 3u

static struct cut_world world;

static void cut_now(void *ctx)
{
    struct cut_world *w = ctx;
    if (gw_rand_below(&w->rand, 3) == 0)
        cut_begin(w);
}

/* A turn of each worker. */
static uint32_t turn(struct cut_world *w)
{
    uint32_t waiting = 0;
    for (uint32_t i = 0; i < w->workers; i++) {
        do
            cut_worker_step(&w->worker[i]);
        while (!cut_worker_is_outside(&w->worker[i]));
        waiting += w->worker[i].waiting;
    }
    cut_look(w);
    return waiting;
}

static void drain(struct cut_world *w)
{
    for (uint32_t i = 0; i < w->workers; i++)
        w->worker[i].drains = true;
    while (turn(w) != 0 || w->under_way) {}
    w->on_read = NULL;
    while (!cut_begin(w))
        turn(w);
    while (w->under_way)
        turn(w);
}

static void play(uint64_t seed, uint32_t steps)
{
    struct cut_world *w = &world;
    cut_world_open(w, WORKERS, seed);
    w->on_read = cut_now;
    w->on_read_ctx = w;
    uint32_t asleep = WORKERS, wakes = 0;
    for (uint32_t step = 0; step < steps; step++) {
        if (step == wakes) {
            asleep = (uint32_t)gw_rand_below(&w->rand, WORKERS + 1);
            wakes = step + 1 + (uint32_t)gw_rand_below(&w->rand, 200);
        }
        uint32_t i = (uint32_t)gw_rand_below(&w->rand, WORKERS);
        if (i == asleep)
            continue;
        cut_worker_step(&w->worker[i]);
        if (gw_rand_below(&w->rand, 2000) == 0)
            cut_begin(w);
        cut_look(w);
    }
    drain(w);
    cut_world_compare(w);
}

Test(store_cut, images_and_notes_are_exact)
{
    uint64_t cuts = 0, firsts = 0, early = 0, promoted = 0, compacted = 0, notes = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct gw_store_stats stats;
        play(seed, 100000);
        gw_store_stats(world.store, &stats);
        promoted += stats.promoted;
        compacted += stats.compacted_live_bytes;
        cuts += world.cuts;
        firsts += world.firsts;
        early += world.early;
        notes += world.notes;
        cut_world_close(&world);
    }
    cr_log_info("%lu cuts, %lu notes, %lu first, %lu early, %lu promoted, %lu compacted",
                (unsigned long)cuts, (unsigned long)notes, (unsigned long)firsts,
                (unsigned long)early, (unsigned long)promoted, (unsigned long)compacted);
    cr_expect_gt(cuts, 100);
    cr_expect_gt(firsts, 1000);
    cr_expect_gt(early, 10, "no call ended early");
    cr_expect_gt(promoted, 100);
    cr_expect_gt(compacted, 10000);
}
