/* slot_load.h - how many operations which slots get, sampled: for the coordinator's plans and hints
 * (control.h, HEARTBEAT). Each dispatcher adds, for each group of operations that it executes, the
 * group's size to the slot of one of them, taken in turn: on average that is right, and costs one
 * addition a group. Layer: server. */
#ifndef GW_SERVER_SLOT_LOAD_H
#define GW_SERVER_SLOT_LOAD_H

#include <stdatomic.h>
#include <stdint.h>

#include "client/wire/control.h"

struct gwi_slot_count { /* of one dispatcher, who alone adds */
    uint32_t turn;
    _Atomic uint32_t operations[GW_SLOTS]; /* wrap */
};

static inline void gwi_slot_count_add(struct gwi_slot_count *count, uint16_t slot, uint32_t n)
{
    _Atomic uint32_t *at = &count->operations[slot];
    atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + n,
                          memory_order_relaxed); /* one writer; a reader may see it late */
}

struct gwi_slot_load { /* one reader's */
    uint64_t at_ns;    /* 0: not looked yet */
    uint32_t loads;
    struct gw_load load[GW_HEARTBEAT_LOADS_MAX];
    uint32_t seen[GW_SLOTS], sum[GW_SLOTS]; /* when looked last, and now */
    float rate[GW_SLOTS];                   /* operations a second of the last seconds */
};

/* A dispatcher's counters; NULL ends the list. */
typedef const struct gwi_slot_count *(*gwi_slot_count_cb)(void *ctx, uint32_t dispatcher);

/* Looks again, at most once a second: load and loads become ranges of the slots with any load, of
 * about the same load each, so that a hot slot is alone in its range. */
void gwi_slot_load_look(struct gwi_slot_load *load, uint64_t now_ns, gwi_slot_count_cb counts,
                        void *ctx);
#endif
