/* Goal: compaction is right whatever the shape of the store: pages of memory, sizes of values, few
 * or many slots, a fixed or a growing index, with and without a device, bounded or not, whose
 * completions come late.
 * How: every seed draws a shape, then overwrites, deletes and reads several times the memory
 * against a plain map. A failure names the seed; GW_SEED runs one seed alone, GW_SEEDS more of
 * them. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "compact_world.h"
#include "tests/support/ram_device.h"

#define PAGE_BITS  16u
#define SEEDS      24u
#define KEYS_MAX   8000u
#define OPS_MAX    100000u
#define RECORD_MIN 32u

struct shape {
    struct world_options world;
    uint64_t memory, live; /* bytes */
    bool device, bounded;
};

static void draw(struct shape *shape, struct gw_rand *rand, uint64_t seed)
{
    *shape = (struct shape){.device = gw_rand_below(rand, 2), .world = {.seed = seed}};
    struct world_options *o = &shape->world;
    shape->bounded = shape->device && gw_rand_below(rand, 2);
    o->pages = 12 + (uint32_t)gw_rand_below(rand, 26);
    o->value_max = 50 + (uint32_t)gw_rand_below(rand, gw_rand_below(rand, 4) ? 1000 : 30000);
    o->one_slot = gw_rand_below(rand, 2);
    o->index_bytes = (uint64_t)65536 << gw_rand_below(rand, 3);
    o->index_bytes_max = gw_rand_below(rand, 2) ? 2 * o->index_bytes : 0;
    shape->memory = (uint64_t)o->pages << PAGE_BITS;
    if (shape->device)
        shape->live = shape->memory * 3 * (20 + gw_rand_below(rand, 60)) / 100;
    else
        shape->live = shape->memory * (20 + gw_rand_below(rand, 20)) / 100;
    uint64_t keys = shape->live / (o->value_max / 2 + RECORD_MIN) + 5;
    uint64_t fit = o->index_bytes / RECORD_MIN;
    keys = keys < fit ? keys : fit;
    o->keys = (uint32_t)(keys < KEYS_MAX ? keys : KEYS_MAX);
}

static void churn(struct world *w, uint64_t seed, uint64_t bytes)
{
    for (uint32_t ops = 0; w->written < bytes && ops < OPS_MAX; ops++) {
        uint32_t key = (uint32_t)gw_rand_below(&w->rand, w->keys);
        uint64_t dice = gw_rand_below(&w->rand, 10);
        if (dice < 6) {
            enum gw_status st = world_put(w, key, (uint32_t)gw_rand_below(&w->rand, w->value_max));
            cr_assert(st == GW_OK || st == GW_E_FULL, "seed %lu: %d", (unsigned long)seed, st);
        } else if (dice < 8) {
            world_delete(w, key);
        } else {
            world_check(w, key);
        }
    }
}

static void run_seed(uint64_t seed)
{
    struct gw_rand rand;
    struct shape shape;
    struct gw_ram_device *ram = NULL;
    gw_rand_init(&rand, seed);
    draw(&shape, &rand, seed);
    if (shape.device) {
        ram = gw_ram_device_create(&(struct gw_ram_device_options){
            .page_bits = PAGE_BITS,
            .segment_bytes = (uint64_t)4 << gw_rand_below(&rand, 2) << PAGE_BITS,
            .limit_bytes =
                shape.bounded ? shape.live * 5 / 2 + (48u << PAGE_BITS) + shape.memory : 0,
            .delay_polls_max = (uint32_t)gw_rand_below(&rand, 8),
            .seed = seed});
        shape.world.device = gw_ram_device_face(ram);
    }
    struct world w;
    world_open(&w, &shape.world);
    churn(&w, seed, shape.memory * (4 + gw_rand_below(&rand, 4)));
    struct gw_store_stats stats;
    gw_store_stats(w.f.store, &stats);
    cr_assert_eq(stats.keys, world_live(&w), "seed %lu: %lu keys", (unsigned long)seed,
                 (unsigned long)stats.keys);
    cr_assert_eq(stats.evicted + stats.corrupt, 0, "seed %lu", (unsigned long)seed);
    world_check_all(&w);
    world_close(&w);
    if (ram)
        gw_ram_device_destroy(ram);
}

Test(compact_shapes, all_answer_like_a_map)
{
    const char *one = getenv("GW_SEED"), *many = getenv("GW_SEEDS");
    if (one) {
        run_seed(strtoull(one, NULL, 10));
        return;
    }
    uint64_t seeds = many ? strtoull(many, NULL, 10) : SEEDS;
    for (uint64_t seed = 1; seed <= seeds; seed++)
        run_seed(seed);
}
