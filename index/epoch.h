/* epoch.h - the only way threads agree: when nobody can hold what was reachable before (triggers),
 * and when everybody has done his part of a change (cuts).
 *
 * A thread joins once and gets a slot, its own until it leaves. It follows log addresses and acts
 * on views and phases only between gw_epoch_enter and gw_epoch_exit; both are wait-free.
 * Triggers run once every thread that was inside when they were deferred has left. A cut runs its
 * completion once every participant has acknowledged it, sleeping ones too: being outside of the
 * epoch counts as having left, never as having done one's part (ENGINE H7).
 * Why this is safe: the heads of epoch.c and cut.c. Layer: index. */
#ifndef GW_INDEX_EPOCH_H
#define GW_INDEX_EPOCH_H

#include <stdbool.h>
#include <stdint.h>

#include "index/base/status.h"

struct gw_epoch;
typedef void (*gw_epoch_cb)(void *arg);

#define GW_EPOCH_ACTIONS_MAX 256u /* triggers that may wait at the same time */
#define GW_CUTS_MAX          16u  /* cuts that may be open at the same time */

GW_MUST_USE enum gw_status gw_epoch_create(uint32_t slots_max, struct gw_epoch **out);
/* Requires: every slot has been left. Triggers that still wait are run; open cuts are dropped. */
void gw_epoch_destroy(struct gw_epoch *epoch);

/* Takes a slot for the calling thread. `participant`: cuts published from now on need its
 * acknowledgement. GW_E_LIMIT: slots_max are taken. */
GW_MUST_USE enum gw_status gw_epoch_join(struct gw_epoch *epoch, bool participant, uint32_t *slot);
/* Gives the slot back and acknowledges what is open: who is gone has no part left to do.
 * Requires: outside. May run completions of cuts. */
void gw_epoch_leave(struct gw_epoch *epoch, uint32_t slot);

/* Enter is a seq_cst store and load: what is loaded after it is at least as new as every change
 * whose trigger has run. Calls do not nest. */
void gw_epoch_enter(struct gw_epoch *epoch, uint32_t slot);
void gw_epoch_exit(struct gw_epoch *epoch, uint32_t slot);
bool gw_epoch_inside(const struct gw_epoch *epoch, uint32_t slot); /* of one's own slot */

/* Arranges cb(arg) for when every thread that is inside now has left. Any thread, inside or not;
 * never calls it itself: gw_epoch_poll does, on whatever thread that runs. Borrows arg until then.
 * GW_E_FULL: nothing changed, poll and try again. */
GW_MUST_USE enum gw_status gw_epoch_defer(struct gw_epoch *epoch, gw_epoch_cb cb, void *arg);
/* Runs what is due, oldest first, and returns how many; callbacks may defer again. A thread that
 * is inside holds back only what was deferred since it entered. */
uint32_t gw_epoch_poll(struct gw_epoch *epoch);
uint32_t gw_epoch_waiting(const struct gw_epoch *epoch); /* triggers that have not run */

/* ---- the cut ---- */

/* What is published. `phase` and `subject` mean something to the participants only; `done(arg)`
 * runs on the thread of the last acknowledgement, inside of its call. */
struct gw_cut {
    uint64_t phase;
    void *subject;
    gw_epoch_cb done; /* may be NULL */
    void *arg;
};

/* Called by gw_cut_publish for every participant but never under a lock: wake it if it sleeps.
 * Set once, before the first cut. */
typedef void (*gw_cut_wake_cb)(void *ctx, uint32_t slot);
void gw_cut_set_waker(struct gw_epoch *epoch, gw_cut_wake_cb wake, void *ctx);

/* Publishes *cut to all who participate now. Cuts are acknowledged in the order of publication.
 * With no participant done runs at once. GW_E_BUSY: GW_CUTS_MAX are open, nothing happened. */
GW_MUST_USE enum gw_status gw_cut_publish(struct gw_epoch *epoch, const struct gw_cut *cut);
/* The oldest cut that this slot has not acknowledged; false: none. Call it after entering, before
 * looking at any input: one load when there is none. */
bool gw_cut_next(struct gw_epoch *epoch, uint32_t slot, struct gw_cut *out);
/* This slot has done its part of what gw_cut_next gave. */
void gw_cut_acknowledge(struct gw_epoch *epoch, uint32_t slot);
uint32_t gw_cut_open(const struct gw_epoch *epoch); /* cuts not yet complete */
#endif
