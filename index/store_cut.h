/* store_cut.h - checkpoints as seen by the engine: the cut, and what a finished checkpoint allows.
 *
 * A cut is an address, E, at the start of a page. Every operation of a thread that was executed
 * before the thread *crossed* E has its record below E, changed there for the last time; every
 * later one goes to a record at or above E. So the image of a checkpoint is simply what lies below
 * E once all threads have crossed: no void records in between, no version bits
 * (docs/decisions/0007).
 *
 * Why it holds. E is chosen by the very step that turns the tail's page (log_cut.c). A thread that
 * has loaded E changes nothing in place below it, for E bounds its view's read_only; who finds a
 * record that may still change below E seals it and copies it, as ever. A thread that has not
 * loaded E yet and allocates at or above it, or meets a record there, crosses first: at that
 * operation, not at its batch's end (ENGINE rule 17). Copies that change nothing (promotion,
 * compaction, arrivals) belong to no session and do not cross.
 *
 * Intervals are numbered: operations executed between the cuts n - 1 and n belong to interval n,
 * and are in the image of checkpoint n. A record's parity bit says whether its last change was made
 * in the interval whose number has that parity; copies that change nothing carry the other one.
 * With it a logged change knows whether its predecessor lies in the last image (GW_EFFECT_FIRST).
 *
 * FASTER's CPR (SIGMOD'19) in other clothes. Thread rule: as each function says. Layer: index. */
#ifndef GW_INDEX_STORE_CUT_H
#define GW_INDEX_STORE_CUT_H

#include "index/address.h"
#include "index/store.h"

/* What an image is: the numbers that recovery needs, as of the cut. */
struct gw_store_image {
    uint64_t number;    /* of the checkpoint, and of the interval that it ends */
    gw_addr begin, end; /* its records lie in [begin, end) */
    uint32_t version_highest;
    uint64_t expiry_ms;              /* no key was found expired at a later time than this */
    int64_t keys, live_bytes, waste; /* approximate */
    bool expires;                    /* there are records with an expiry */
    /* Pages of [begin, end) that do not exist, rising: each restart resumes above everything that
     * was written before (ENGINE H8) and so leaves out what lies between the image that it had and
     * there. Of gw_store_cut_begin: the store's, constant for its life; those below begin are left
     * out by whoever writes them down. */
    const struct gw_addr_range *gaps;
    uint32_t gaps_count;
};
#define GW_STORE_GAPS_MAX 4096u

/* Begins checkpoint `number` (above every earlier one, by less than 2^15): chooses E and turns the
 * page; the rest of it stays empty. From now on threads cross. Outside of the epoch, one thread at
 * a time. GW_RETRY: others turned pages a bounded number of times, or no page is to be had now: try
 * again next turn; nothing has begun. GW_E_BUSY: the last cut has not been flushed yet;
 * GW_E_UNSUPPORTED: there is no device. */
GW_MUST_USE enum gw_status gw_store_cut_begin(struct gw_store *store, uint64_t number,
                                              struct gw_store_image *out);
/* The rest of the image's numbers, once every thread has crossed. */
void gw_store_cut_numbers(const struct gw_store *store, struct gw_store_image *image);
/* Is everything below `end` with the device (not yet synced there)? gw_store_poll of any thread
 * drives it; the caller sees to it that somebody polls. */
bool gw_store_cut_flushed(const struct gw_store *store, gw_addr end);

/* Called when a thread crosses into interval `number`, on that thread, inside the epoch: from
 * gw_store_enter, or from gw_store_execute before any operation of that call. All operations that
 * were executed, and whose results the owner has, belong to earlier intervals, all later ones to
 * this one or a later one. gw_store_execute returns early, as when `room` is used up, where an
 * operation in the middle of its list must cross: the caller takes note of what was executed and
 * calls again. Never if it would return 0, nor on a thread without a callback: these cross where
 * they are. */
typedef void (*gw_cross_cb)(void *ctx, uint64_t number);
void gw_store_on_cross(struct gw_thread *thread, gw_cross_cb cb, void *ctx);
/* Crosses if a cut has begun that this thread has not loaded. Requires: entered, and no results of
 * gw_store_execute that the owner has not taken note of. Before a dispatcher acknowledges the cut
 * of a checkpoint it calls this: gw_store_enter may have come before the cut. */
void gw_store_cross(struct gw_thread *thread);
/* The interval that this thread is in. */
uint64_t gw_store_interval(const struct gw_thread *thread);

/* ---- what a finished checkpoint allows (ENGINE H10, H17) ---- */

/* For stores with checkpoints: from now on (call it before the first thread) segments are trimmed
 * and tombstones dropped only as far as gw_store_retain has allowed. */
void gw_store_retain_all(struct gw_store *store);
/* Retained checkpoints need nothing below `begin`, and the newest holds everything below `end`.
 * Both only rise. Any thread. */
void gw_store_retain(struct gw_store *store, gw_addr begin, gw_addr end);
/* Compaction has passed so much that only a checkpoint lets it give back, or cannot go on without:
 * take one soon. Any thread. */
bool gw_store_wants_checkpoint(const struct gw_store *store);

/* ---- what a change was: for the commit log ---- */

/* op->effect of a write. Set for every executed write (0: nothing changed). */
#define GW_EFFECT_CHANGED   1u
#define GW_EFFECT_START     2u /* created from nothing, or the first change of an arrived record */
#define GW_EFFECT_FIRST     4u /* its predecessor was last changed in an earlier interval */
#define GW_EFFECT_TOMBSTONE 8u /* it is a tombstone now */
/* With it each executed write that changed something also gives what the record is now: expiry_ms
 * (0: none), and for APPEND, PREPEND, TOUCH and READ_TOUCH the whole value, in `result` and
 * `result_bytes` (in `room`), or in `number` if kind says counter. */
void gw_store_give_results(struct gw_thread *thread, bool on);
#endif
