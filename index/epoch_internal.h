/* epoch_internal.h - what epoch.c and cut.c share: the slots and the board of cuts. Layer: index.
 */
#ifndef GW_INDEX_EPOCH_INTERNAL_H
#define GW_INDEX_EPOCH_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "index/base/assert.h"
#include "index/epoch.h"

/* One thread's words, on a cache line of their own. */
struct gwi_epoch_slot {
    /* 0: outside, else the epoch entered. Written by its thread, read by whoever polls. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t entered;
    /* Number of the last cut that this slot acknowledged. Its thread's own; plain. */
    uint64_t cut_acknowledged;
    bool taken, participant; /* under gw_epoch.lock */
};

struct gwi_epoch_action {
    uint64_t epoch; /* due once every thread inside has entered a later one */
    gw_epoch_cb cb;
    void *arg;
};

struct gwi_cut_entry {
    struct gw_cut cut;     /* written under the lock while closed, published by cuts_published */
    _Atomic uint32_t left; /* acknowledgements still missing; who takes it to 0 completes the cut */
    _Atomic bool open;
};

struct gw_epoch {
    /* Written by gw_epoch_defer, read on entry. */
    _Alignas(GW_CACHE_LINE) _Atomic uint64_t current;
    /* Number of the newest cut; written under the lock, read by every participant at each batch. */
    _Atomic uint64_t cuts_published;

    /* Actions that wait, for the look without the lock; writes are under it. */
    _Alignas(GW_CACHE_LINE) _Atomic uint32_t actions_waiting;
    pthread_mutex_t lock; /* slots' taken/participant, actions, publication of cuts */
    uint32_t slots_max;
    uint32_t actions_first, actions_count; /* a ring, in the order of their epochs */
    struct gwi_epoch_action actions[GW_EPOCH_ACTIONS_MAX];

    gw_cut_wake_cb wake;
    void *wake_ctx;
    struct gwi_cut_entry cuts[GW_CUTS_MAX]; /* cut n lies at n % GW_CUTS_MAX */

    struct gwi_epoch_slot slots[];
};

/* Acknowledges whatever is open for a slot that leaves; the lock is not held. */
void gwi_cut_forfeit(struct gw_epoch *epoch, uint32_t slot);
#endif
