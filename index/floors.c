/* floors.c - one address a slot; on paper two words a run of slots with the same one. Contract:
 * floors.h. */
#include "index/floors.h"

#include <stdatomic.h>
#include <stdlib.h>

struct gwi_floors {
    /* Raised by unlinking threads; read by who makes an image, after the cut, and by recovery. */
    _Atomic uint64_t of[GW_SLOTS];
};

enum gw_status gwi_floors_create(struct gwi_floors **out)
{
    struct gwi_floors *floors = calloc(1, sizeof *floors);
    if (!floors)
        return GW_E_NOMEM;
    *out = floors;
    return GW_OK;
}

void gwi_floors_destroy(struct gwi_floors *floors)
{
    free(floors);
}

static void raise(struct gwi_floors *floors, uint32_t slot, uint64_t to)
{
    /* Relaxed, both: a cut comes between who raises and who reads for an image that needs it. */
    uint64_t now = atomic_load_explicit(&floors->of[slot], memory_order_relaxed);
    while (now < to &&
           !atomic_compare_exchange_weak_explicit(&floors->of[slot], &now, to, memory_order_relaxed,
                                                  memory_order_relaxed)) {}
}

void gwi_floors_raise(struct gwi_floors *floors, const struct gw_slots *slots, gw_addr to)
{
    uint32_t at = 0;
    uint16_t first = 0, last = GW_SLOTS - 1;
    if (!slots) {
        for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
            raise(floors, slot, to.v);
        return;
    }
    while (gw_slots_next_run(slots, &at, &first, &last))
        for (uint32_t slot = first; slot <= last; slot++)
            raise(floors, slot, to.v);
}

uint64_t gwi_floor(const struct gwi_floors *floors, uint16_t slot)
{
    return atomic_load_explicit(&floors->of[slot], memory_order_relaxed);
}

bool gwi_floors_any(const struct gwi_floors *floors, uint64_t above)
{
    for (uint32_t slot = 0; slot < GW_SLOTS; slot++)
        if (gwi_floor(floors, (uint16_t)slot) > above)
            return true;
    return false;
}

uint64_t gwi_floors_write(const struct gwi_floors *floors, uint64_t begin, uint64_t *words,
                          uint64_t max)
{
    uint64_t count = 0;
    for (uint32_t slot = 0; slot < GW_SLOTS;) {
        uint64_t floor = gwi_floor(floors, (uint16_t)slot);
        uint32_t first = slot++;
        if (floor <= begin)
            continue;
        while (slot < GW_SLOTS && gwi_floor(floors, (uint16_t)slot) == floor)
            slot++;
        if (count + 2 <= max) {
            words[count] = (uint64_t)first << 32 | (slot - 1);
            words[count + 1] = floor;
        }
        count += 2;
    }
    return count;
}

enum gw_status gwi_floors_read(struct gwi_floors *floors, const uint64_t *words, uint64_t count,
                               gw_addr end)
{
    if (count % 2 != 0)
        return GW_E_CORRUPT;
    for (uint64_t i = 0; i < count; i += 2) {
        uint64_t first = words[i] >> 32, last = words[i] & UINT32_MAX;
        if (first > last || last >= GW_SLOTS)
            return GW_E_CORRUPT;
        uint64_t to = words[i + 1] < end.v ? words[i + 1] : end.v;
        for (uint64_t slot = first; slot <= last; slot++)
            raise(floors, (uint32_t)slot, to);
    }
    return GW_OK;
}
