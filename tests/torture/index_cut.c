/* Goal: while threads change, promote and compact records as fast as they can, each checkpoint that
 * is cut holds exactly what every thread had done when it crossed, and what the threads note for a
 * commit log leads from each image to the next.
 * How: tests/support/cut_world.h. GW_TORTURE_MS. */
#include "tests/support/cut_world.h"
#include "tests/torture/torture.h"

#define WORKERS 4u

static struct cut_world world;
static _Atomic uint32_t draining, drained;

static void body(uint32_t number, void *ctx)
{
    (void)ctx;
    if (number == WORKERS) { /* the cutter */
        uint64_t end = torture_now_ms() + torture_duration_ms();
        while (torture_now_ms() < end) {
            for (uint64_t pause = gw_rand_below(&world.rand, 3000); pause > 0; pause--)
                gw_clock_now_ns(gw_clock_system());
            cut_begin(&world);
            while (world.under_way && !cut_look(&world)) {}
        }
        atomic_store(&draining, 1);
        while (atomic_load(&drained) < WORKERS || !cut_begin(&world)) {}
        while (!cut_look(&world)) {}
        atomic_store(&draining, 2);
        return;
    }
    struct cut_worker *k = &world.worker[number];
    bool counted = false;
    while (atomic_load(&draining) < 2) {
        k->drains = atomic_load(&draining) != 0;
        do
            cut_worker_step(k);
        while (!cut_worker_is_outside(k));
        if (k->drains && k->waiting == 0 && !counted) {
            counted = true;
            atomic_fetch_add(&drained, 1);
        }
    }
}

int main(void)
{
    cut_world_open(&world, WORKERS, 20261121);
    torture_run(WORKERS + 1, body, NULL);
    cut_world_compare(&world);
    struct gw_store_stats stats;
    gw_store_stats(world.store, &stats);
    printf("%lu cuts, %lu changes, %lu first, %lu started, %lu calls ended early, %lu pending, "
           "%lu busy, %lu promoted, %lu KiB compacted\n",
           (unsigned long)world.cuts, (unsigned long)world.notes, (unsigned long)world.firsts,
           (unsigned long)world.starts, (unsigned long)world.early, (unsigned long)world.pendings,
           (unsigned long)world.retries, (unsigned long)stats.promoted,
           (unsigned long)stats.compacted_bytes >> 10);
    CHECK(world.cuts > 3 && world.firsts > 0 && world.pendings > 0, "nothing has happened");
    cut_world_close(&world);
    return 0;
}
