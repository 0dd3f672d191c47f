/* Goal: what a thread inside the epoch can reach is never retired under it; a cut completes once,
 * after every participant has done its part, sleepers included.
 * How: readers follow a shared pointer that writers replace, the old one is poisoned by trigger;
 * a publisher sends cuts, whose completion looks at what every participant has written plainly, so
 * that TSan would see a missing order. */
#include <string.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "index/epoch.h"
#include "tests/torture/torture.h"

#define THREADS 4u
#define MAGIC   0x600dULL

struct object {
    uint64_t magic, check; /* plain on purpose */
};

struct part {
    _Alignas(64) uint64_t phase_done; /* plain: the cut must order it */
};

static struct gw_epoch *epoch;
static _Atomic(struct object *) shared;
static _Atomic uint64_t retired, cuts_done;
static _Atomic uint32_t stop, working;
static struct part parts[THREADS];
static uint64_t phase_open; /* of the publisher, handed over by the cut */

static struct object *object_new(uint64_t check)
{
    struct object *o = malloc(sizeof *o);
    CHECK(o, "memory");
    *o = (struct object){MAGIC, check};
    return o;
}

static void object_retired(void *arg)
{
    struct object *o = arg;
    o->magic = 0; /* a reader that still holds it sees this, and TSan sees the race */
    free(o);
    atomic_fetch_add(&retired, 1);
}

static void cut_done(void *arg)
{
    uint64_t phase = *(uint64_t *)arg;
    for (uint32_t i = 0; i < THREADS; i++)
        CHECK(parts[i].phase_done == phase, "thread %u is at %lu of %lu", i,
              (unsigned long)parts[i].phase_done, (unsigned long)phase);
    atomic_fetch_add_explicit(&cuts_done, 1, memory_order_release);
}

static void worker(uint32_t number, uint32_t slot)
{
    struct gw_rand rand;
    gw_rand_init(&rand, number + 1);
    uint64_t last = 0;
    /* Goes on until the publisher is done, so that no cut stays open. */
    while (!atomic_load(&stop)) {
        gw_epoch_poll(epoch);
        gw_epoch_enter(epoch, slot);
        struct gw_cut cut;
        while (gw_cut_next(epoch, slot, &cut)) {
            CHECK(cut.phase == last + 1, "phases in order");
            last = cut.phase;
            parts[number].phase_done = cut.phase;
            gw_cut_acknowledge(epoch, slot);
        }
        for (int i = 0; i < 8; i++) {
            struct object *o = atomic_load_explicit(&shared, memory_order_acquire);
            uint64_t check = o->check;
            CHECK(o->magic == MAGIC, "object %lu was retired under a reader", (unsigned long)check);
        }
        if (gw_rand_below(&rand, 4) == 0) {
            struct object *o = object_new(gw_rand_next(&rand));
            struct object *old = atomic_exchange_explicit(&shared, o, memory_order_acq_rel);
            while (gw_epoch_defer(epoch, object_retired, old) != GW_OK) {
                gw_epoch_exit(epoch, slot); /* full: let the others run it */
                gw_epoch_poll(epoch);
                gw_epoch_enter(epoch, slot);
            }
        }
        gw_epoch_exit(epoch, slot);
        if (gw_rand_below(&rand, 64) == 0)
            usleep(50); /* a sleeper: outside, its part not done */
    }
}

static void publisher(void)
{
    uint64_t end = torture_now_ms() + torture_duration_ms();
    uint64_t phase = 0;
    while (torture_now_ms() < end) {
        phase_open = ++phase;
        struct gw_cut cut = {.phase = phase, .done = cut_done, .arg = &phase_open};
        CHECK(gw_cut_publish(epoch, &cut) == GW_OK, "publish");
        while (atomic_load_explicit(&cuts_done, memory_order_acquire) != phase)
            usleep(10);
    }
    CHECK(phase > 10, "only %lu cuts", (unsigned long)phase);
    atomic_store(&stop, 1);
}

static void body(uint32_t number, void *ctx)
{
    (void)ctx;
    uint32_t slot = 0;
    if (number < THREADS) {
        CHECK(gw_epoch_join(epoch, true, &slot) == GW_OK, "join");
        atomic_fetch_add(&working, 1);
        worker(number, slot);
        gw_epoch_leave(epoch, slot);
    } else {
        while (atomic_load(&working) != THREADS)
            usleep(100);
        publisher();
    }
}

int main(void)
{
    CHECK(gw_epoch_create(THREADS, &epoch) == GW_OK, "create");
    atomic_store(&shared, object_new(0));
    torture_run(THREADS + 1, body, NULL);
    CHECK(gw_cut_open(epoch) == 0, "a cut stayed open");
    gw_epoch_destroy(epoch);
    free(atomic_load(&shared));
    printf("%lu retired, %lu cuts\n", (unsigned long)atomic_load(&retired),
           (unsigned long)atomic_load(&cuts_done));
    CHECK(atomic_load(&retired) > 100, "hardly anything was retired");
    return 0;
}
