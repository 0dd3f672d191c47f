/* applied.c - growing, moving and forgetting of applied serials; the hot path is in the header.
 *
 * Rules: 1. An entry counts only while its serial lies in [confirmed, confirmed + window); which
 * serial its low half means follows from `confirmed`. 2. No two serials of the window share a
 * place: the ring is never smaller than the distance between confirmed and what it holds. 3.
 * Merging never replaces what is here: the later owner knows better (MIGRATION R7). */
#include "migration/applied.h"

#include <stdlib.h>

#define CAPACITY_FIRST 64u

static uint32_t round_window(uint32_t window)
{
    uint32_t n = GW_APPLIED_WINDOW_MIN;
    while (n < window && n < GW_APPLIED_WINDOW_MAX)
        n *= 2;
    return n;
}

struct gw_applied_window *gw_applied_create(uint32_t window)
{
    struct gw_applied_window *w = calloc(1, sizeof *w);
    if (w)
        w->window = round_window(window);
    return w;
}

void gw_applied_destroy(struct gw_applied_window *w)
{
    if (!w)
        return;
    free(w->ring);
    free(w);
}

void gw_applied_widen(struct gw_applied_window *w, uint32_t window)
{
    uint32_t wider = round_window(window);
    if (wider > w->window)
        w->window = wider;
}

/* The serial of an entry that counts; false for empty ones and left-overs from below confirmed. */
static bool entry_serial(const struct gw_applied_window *w, const struct gw_applied_entry *e,
                         uint64_t *serial)
{
    uint32_t ahead = e->serial - (uint32_t)w->confirmed;
    *serial = w->confirmed + ahead;
    return e->state != GW_APPLIED_NEW && ahead < w->capacity;
}

enum gw_status gwi_applied_grow(struct gw_applied_window *w, uint64_t serial)
{
    uint64_t ahead = serial - w->confirmed;
    if (serial < w->confirmed || ahead >= w->window)
        return GW_E_SERIAL;
    uint32_t capacity = w->capacity ? w->capacity : CAPACITY_FIRST;
    while (capacity <= ahead)
        capacity *= 2;
    struct gw_applied_entry *ring = calloc(capacity, sizeof *ring);
    if (!ring)
        return GW_E_NOMEM;
    for (uint32_t i = 0; i < w->capacity; i++) {
        uint64_t s;
        if (entry_serial(w, &w->ring[i], &s))
            ring[s & (capacity - 1)] = w->ring[i];
    }
    free(w->ring);
    w->ring = ring;
    w->capacity = capacity;
    return GW_OK;
}

void gwi_applied_sweep(struct gw_applied_window *w, uint64_t confirmed)
{
    for (uint32_t i = 0; i < w->capacity; i++) {
        uint64_t serial;
        if (!entry_serial(w, &w->ring[i], &serial) || serial < confirmed)
            w->ring[i] = (struct gw_applied_entry){.state = GW_APPLIED_NEW};
    }
}

size_t gw_applied_collect(const struct gw_applied_window *w, uint64_t session,
                          const struct gw_slots *slots, struct gw_applied *out, size_t max)
{
    size_t n = 0;
    for (uint32_t i = 0; i < w->capacity; i++) {
        uint64_t serial = w->confirmed + i; /* the ring in the order of serials */
        const struct gw_applied_entry *e = gwi_applied_at(w, serial);
        if (e->state != GW_APPLIED_DONE || e->serial != (uint32_t)serial ||
            (slots && !gw_slots_has(slots, e->slot)))
            continue;
        if (n < max)
            out[n] = (struct gw_applied){.session = session,
                                         .serial = serial,
                                         .number = e->number,
                                         .version = e->version,
                                         .slot = e->slot,
                                         .status = e->status,
                                         .flags = e->flags};
        n++;
    }
    return n;
}

size_t gw_applied_pending(const struct gw_applied_window *w, const struct gw_slots *slots)
{
    size_t n = 0;
    for (uint32_t i = 0; i < w->capacity; i++) {
        const struct gw_applied_entry *e = gwi_applied_at(w, w->confirmed + i);
        n += e->state == GW_APPLIED_PENDING && e->serial == (uint32_t)(w->confirmed + i) &&
             (!slots || gw_slots_has(slots, e->slot));
    }
    return n;
}

enum gw_status gw_applied_merge(struct gw_applied_window *w, const struct gw_applied *entry)
{
    if (entry->serial < w->confirmed)
        return GW_OK;
    if (entry->serial - w->confirmed >= w->window)
        gw_applied_confirm(w, entry->serial - w->window + 1);
    if (gw_applied_check(w, entry->serial, NULL) != GW_APPLIED_NEW)
        return GW_OK;
    enum gw_status st = gw_applied_reserve(w, entry->serial);
    if (st == GW_OK)
        gw_applied_record(w, entry->serial, entry->slot, entry->status, entry->version,
                          entry->flags, entry->number);
    return st;
}

void gw_applied_drop(struct gw_applied_window *w, const struct gw_slots *slots)
{
    for (uint32_t i = 0; i < w->capacity; i++)
        if (w->ring[i].state == GW_APPLIED_DONE && gw_slots_has(slots, w->ring[i].slot))
            w->ring[i].state = GW_APPLIED_NEW;
}
