/* applied.c - the rare half of the applied window: growing, collecting, merging (applied.h).
 * Rules: 1. an entry counts only while its serial lies in [confirmed, confirmed + window);
 * 2. merging never replaces what is here: the later owner knows better (R7). */
#include "migration/applied.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static_assert(sizeof(struct gw_applied_entry) == 24, "three entries in 72 bytes, none across more than two lines");

static uint32_t round_window(uint32_t window)
{
    uint32_t n = GW_WINDOW_MIN;
    while (n < window && n < GW_WINDOW_MAX)
        n *= 2;
    return n;
}

void gw_applied_init(struct gw_applied_window *w, uint32_t window)
{
    *w = (struct gw_applied_window){.window = round_window(window)};
}

void gw_applied_fini(struct gw_applied_window *w)
{
    free(w->ring);
    w->ring = NULL;
}

bool gw_applied_reserve(struct gw_applied_window *w)
{
    if (!w->ring)
        w->ring = calloc(w->window, sizeof *w->ring);
    return w->ring != NULL;
}

/* The whole serial of an entry, from its low half and the window's place; false: outside of it. */
static bool entry_serial(const struct gw_applied_window *w, const struct gw_applied_entry *e, uint64_t *serial)
{
    uint32_t ahead = e->serial - (uint32_t)w->confirmed;
    *serial = w->confirmed + ahead;
    return (e->state & 15) != GW_APPLIED_EMPTY && ahead < w->window;
}

bool gw_applied_grow(struct gw_applied_window *w, uint32_t window)
{
    uint32_t wider = round_window(window);
    if (wider <= w->window)
        return true;
    if (w->ring) {
        struct gw_applied_entry *ring = calloc(wider, sizeof *ring);
        if (!ring)
            return false;
        for (uint32_t i = 0; i < w->window; i++) {
            uint64_t serial;
            if (entry_serial(w, &w->ring[i], &serial))
                ring[serial & (wider - 1)] = w->ring[i];
        }
        free(w->ring);
        w->ring = ring;
    }
    w->window = wider;
    return true;
}

size_t gw_applied_collect(const struct gw_applied_window *w, uint64_t session, const struct gw_slots *slots,
                          struct gw_applied *out, size_t max)
{
    size_t n = 0;
    for (uint32_t i = 0; w->ring && i < w->window; i++) {
        const struct gw_applied_entry *e = &w->ring[i];
        uint64_t serial;
        if ((e->state & 15) != GW_APPLIED_DONE || !entry_serial(w, e, &serial) || !gw_slots_has(slots, e->slot))
            continue;
        if (n < max)
            out[n] = (struct gw_applied){.session = session,
                                         .serial = serial,
                                         .number = e->number,
                                         .version = e->version,
                                         .slot = e->slot,
                                         .status = e->status,
                                         .flags = gw_applied_flags(e)};
        n++;
    }
    return n;
}

bool gw_applied_merge(struct gw_applied_window *w, const struct gw_applied *m)
{
    if (m->serial < w->confirmed)
        return true;
    uint64_t ahead = m->serial - w->confirmed;
    if (w->confirmed == 0 && !w->ring) {
        /* The session is not known here by its client yet: its serials are somewhere around this
         * one. Half a window on either side holds all that it can have in flight. */
        if (!gw_applied_grow(w, GW_WINDOW_MAX))
            return false;
        w->confirmed = m->serial > GW_WINDOW_MAX / 2 ? m->serial - GW_WINDOW_MAX / 2 : 0;
        ahead = m->serial - w->confirmed;
    }
    if (ahead >= w->window && (ahead >= GW_WINDOW_MAX || !gw_applied_grow(w, (uint32_t)ahead + 1)))
        return ahead >= GW_WINDOW_MAX; /* no client can have so many in flight: not one of ours */
    if (!gw_applied_reserve(w))
        return false;
    const struct gw_applied_entry *known;
    if (gw_applied_check(w, m->serial, &known) == GW_APPLIED_EMPTY)
        gw_applied_record(w, m->serial, m->slot, (enum gw_status)m->status, m->version, m->number, m->flags);
    return true;
}

void gw_applied_drop(struct gw_applied_window *w, const struct gw_slots *slots)
{
    for (uint32_t i = 0; w->ring && i < w->window; i++)
        if (w->ring[i].state && gw_slots_has(slots, w->ring[i].slot))
            w->ring[i].state = GW_APPLIED_EMPTY;
}
