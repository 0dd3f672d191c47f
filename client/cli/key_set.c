/* key_set.c - see key_set.h. */
#include "client/cli/key_set.h"

#include <stdlib.h>

#include "index/base/hash.h"
#include "index/base/rand.h"

#define CELLS_FIRST 1024u

struct cell {
    uint64_t low, high; /* both zero: empty */
};

struct gw_key_set {
    struct cell *cells;
    uint64_t mask, count;
    uint64_t seed[2];
};

enum gw_status gw_key_set_create(struct gw_key_set **out)
{
    struct gw_key_set *set = calloc(1, sizeof *set);
    struct cell *cells = calloc(CELLS_FIRST, sizeof *cells);
    if (!set || !cells) {
        free(set);
        free(cells);
        return GW_E_NOMEM;
    }
    set->cells = cells;
    set->mask = CELLS_FIRST - 1;
    set->seed[0] = gw_rand_system_seed();
    set->seed[1] = gw_rand_system_seed();
    *out = set;
    return GW_OK;
}

void gw_key_set_destroy(struct gw_key_set *set)
{
    if (set)
        free(set->cells);
    free(set);
}

/* The cell of this hash, or the empty one where it belongs. */
static struct cell *find(struct cell *cells, uint64_t mask, const struct cell *wanted)
{
    for (uint64_t i = wanted->low & mask;; i = (i + 1) & mask) {
        struct cell *cell = &cells[i];
        if ((cell->low == wanted->low && cell->high == wanted->high) || !(cell->low | cell->high))
            return cell;
    }
}

static enum gw_status grow(struct gw_key_set *set)
{
    uint64_t mask = set->mask * 2 + 1;
    struct cell *cells = calloc(mask + 1, sizeof *cells);
    if (!cells)
        return GW_E_NOMEM;
    for (uint64_t i = 0; i <= set->mask; i++)
        if (set->cells[i].low | set->cells[i].high)
            *find(cells, mask, &set->cells[i]) = set->cells[i];
    free(set->cells);
    set->cells = cells;
    set->mask = mask;
    return GW_OK;
}

enum gw_status gw_key_set_add(struct gw_key_set *set, const void *key, size_t bytes)
{
    struct cell wanted = {gw_key_hash(key, bytes, set->seed[0]),
                          gw_key_hash(key, bytes, set->seed[1]) | 1}; /* never all zero */
    if (set->count * 3 >= set->mask * 2) {
        enum gw_status st = grow(set);
        if (st != GW_OK)
            return st;
    }
    struct cell *cell = find(set->cells, set->mask, &wanted);
    if (cell->low | cell->high)
        return GW_EXISTS;
    *cell = wanted;
    set->count++;
    return GW_OK;
}

uint64_t gw_key_set_count(const struct gw_key_set *set)
{
    return set->count;
}
