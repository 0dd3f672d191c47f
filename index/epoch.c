/* epoch.c - slots, the global epoch and its triggers.
 *
 * Rules:
 *  1. Entering stores the current epoch into one's slot (seq_cst), then loads the global epoch
 *     again (seq_cst) and only then anything else that matters.
 *  2. Deferring raises the global epoch (seq_cst) after the caller has made its change, and files
 *     the action under the epoch before the raise.
 *  3. An action runs once every slot is 0 or holds a later epoch, as seen by seq_cst loads made
 *     after the raise.
 * Why an action then runs when nobody can hold the old state: take a thread that is inside while it
 * runs. The poller saw 0 in its slot (or a later epoch, then it entered after the raise and loaded
 * `current` from it). In the single order of seq_cst operations the poller's load comes before the
 * thread's store of rule 1, the raise before the poller's load, so the thread's second load of
 * `current` reads the raise or later and synchronises with it: all that was changed before the
 * raise is visible to it. A thread that was inside before the raise holds the action back until its
 * release store of 0, which the poller acquires. Storing an epoch that is already old is harmless:
 * it only holds actions back.
 *
 * The list of actions is under a mutex: deferring is rare (page turns, boundary shifts) and polling
 * looks at one relaxed counter first. Design: DESIGN section 5. */
#include "index/epoch.h"

#include <stdlib.h>
#include <string.h>

#include "index/epoch_internal.h"

#define DESTROY_ROUNDS 16u /* triggers have far fewer steps */

enum gw_status gw_epoch_create(uint32_t slots_max, struct gw_epoch **out)
{
    GW_ASSERT(slots_max > 0);
    size_t bytes = sizeof(struct gw_epoch) + slots_max * sizeof(struct gwi_epoch_slot);
    bytes = (bytes + GW_CACHE_LINE - 1) / GW_CACHE_LINE * GW_CACHE_LINE;
    struct gw_epoch *epoch = aligned_alloc(GW_CACHE_LINE, bytes);
    if (!epoch)
        return GW_E_NOMEM;
    memset(epoch, 0, bytes);
    if (pthread_mutex_init(&epoch->lock, NULL) != 0) {
        free(epoch);
        return GW_E_NOMEM;
    }
    epoch->slots_max = slots_max;
    atomic_init(&epoch->current, 1);
    *out = epoch;
    return GW_OK;
}

void gw_epoch_destroy(struct gw_epoch *epoch)
{
    for (uint32_t i = 0; i < epoch->slots_max; i++)
        GW_ASSERT(!epoch->slots[i].taken);
    /* A trigger may defer its next step, and a full ring of them does not end in one call. */
    for (uint32_t i = 0; i < DESTROY_ROUNDS && epoch->actions_count != 0; i++)
        gw_epoch_poll(epoch);
    GW_ASSERT(epoch->actions_count == 0);
    pthread_mutex_destroy(&epoch->lock);
    free(epoch);
}

enum gw_status gw_epoch_join(struct gw_epoch *epoch, bool participant, uint32_t *slot)
{
    enum gw_status st = GW_E_LIMIT;
    pthread_mutex_lock(&epoch->lock);
    for (uint32_t i = 0; i < epoch->slots_max && st != GW_OK; i++) {
        struct gwi_epoch_slot *s = &epoch->slots[i];
        if (s->taken)
            continue;
        s->taken = true;
        s->participant = participant;
        /* Cuts that are open already were published without us. Relaxed: written under the lock. */
        s->cut_acknowledged = atomic_load_explicit(&epoch->cuts_published, memory_order_relaxed);
        *slot = i;
        st = GW_OK;
    }
    pthread_mutex_unlock(&epoch->lock);
    return st;
}

void gw_epoch_leave(struct gw_epoch *epoch, uint32_t slot)
{
    GW_ASSERT(slot < epoch->slots_max && epoch->slots[slot].taken);
    GW_ASSERT(!gw_epoch_inside(epoch, slot));
    /* First not to be counted for new cuts, then to let go of the open ones. */
    pthread_mutex_lock(&epoch->lock);
    bool participant = epoch->slots[slot].participant;
    epoch->slots[slot].participant = false;
    pthread_mutex_unlock(&epoch->lock);
    if (participant)
        gwi_cut_forfeit(epoch, slot);
    pthread_mutex_lock(&epoch->lock);
    epoch->slots[slot].taken = false;
    pthread_mutex_unlock(&epoch->lock);
}

void gw_epoch_enter(struct gw_epoch *epoch, uint32_t slot)
{
    struct gwi_epoch_slot *s = &epoch->slots[slot];
    GW_ASSERT(!gw_epoch_inside(epoch, slot));
    /* Relaxed: an old value is harmless, see above. */
    uint64_t now = atomic_load_explicit(&epoch->current, memory_order_relaxed);
    /* seq_cst, both: the store must be seen before what we load next (store, then load). */
    atomic_store_explicit(&s->entered, now, memory_order_seq_cst);
    (void)atomic_load_explicit(&epoch->current, memory_order_seq_cst);
}

void gw_epoch_exit(struct gw_epoch *epoch, uint32_t slot)
{
    GW_ASSERT(gw_epoch_inside(epoch, slot));
    /* Release: all we did inside comes before an action that this lets run; pairs with the load in
     * oldest_inside. */
    atomic_store_explicit(&epoch->slots[slot].entered, 0, memory_order_release);
}

bool gw_epoch_inside(const struct gw_epoch *epoch, uint32_t slot)
{
    /* Relaxed: asked by the slot's own thread. */
    return atomic_load_explicit(&epoch->slots[slot].entered, memory_order_relaxed) != 0;
}

enum gw_status gw_epoch_defer(struct gw_epoch *epoch, gw_epoch_cb cb, void *arg)
{
    enum gw_status st = GW_E_FULL;
    pthread_mutex_lock(&epoch->lock);
    if (epoch->actions_count < GW_EPOCH_ACTIONS_MAX) {
        uint32_t at = (epoch->actions_first + epoch->actions_count) % GW_EPOCH_ACTIONS_MAX;
        /* Rule 2; seq_cst pairs with the second load in gw_epoch_enter. */
        uint64_t before = atomic_fetch_add_explicit(&epoch->current, 1, memory_order_seq_cst);
        epoch->actions[at] = (struct gwi_epoch_action){before, cb, arg};
        epoch->actions_count++;
        /* Relaxed: only a hint to look under the lock. */
        atomic_store_explicit(&epoch->actions_waiting, epoch->actions_count, memory_order_relaxed);
        st = GW_OK;
    }
    pthread_mutex_unlock(&epoch->lock);
    return st;
}

/* The oldest epoch that a thread inside may be in; UINT64_MAX when all are outside. */
static uint64_t oldest_inside(const struct gw_epoch *epoch)
{
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < epoch->slots_max; i++) {
        /* seq_cst: rule 3; acquires what the thread did before it left. */
        uint64_t e = atomic_load_explicit(&epoch->slots[i].entered, memory_order_seq_cst);
        if (e != 0 && e < oldest)
            oldest = e;
    }
    return oldest;
}

uint32_t gw_epoch_poll(struct gw_epoch *epoch)
{
    uint32_t ran = 0;
    /* Bounded by what can wait at the same time, so that a callback that defers again at once does
     * not keep this thread for ever. */
    while (ran < GW_EPOCH_ACTIONS_MAX) {
        if (atomic_load_explicit(&epoch->actions_waiting, memory_order_relaxed) == 0)
            break;
        struct gwi_epoch_action action = {0};
        pthread_mutex_lock(&epoch->lock);
        if (epoch->actions_count > 0 &&
            epoch->actions[epoch->actions_first].epoch < oldest_inside(epoch)) {
            action = epoch->actions[epoch->actions_first];
            epoch->actions_first = (epoch->actions_first + 1) % GW_EPOCH_ACTIONS_MAX;
            epoch->actions_count--;
            atomic_store_explicit(&epoch->actions_waiting, epoch->actions_count,
                                  memory_order_relaxed);
        }
        pthread_mutex_unlock(&epoch->lock);
        if (!action.cb)
            break;
        action.cb(action.arg); /* outside of the lock: it may defer or publish */
        ran++;
    }
    return ran;
}

uint32_t gw_epoch_waiting(const struct gw_epoch *epoch)
{
    return atomic_load_explicit(&epoch->actions_waiting, memory_order_relaxed); /* a hint */
}
