/* applied.c - growing, moving and forgetting of applied serials; the hot path is in the header.
 *
 * Rules: 1. An entry counts only while its serial lies in [confirmed, confirmed + window); which
 * serial its low half means follows from `confirmed`. 2. No two serials of the window share a
 * place: the ring is never smaller than the distance between confirmed and what it holds. 3.
 * Merging never replaces what was done here: the later owner knows better (MIGRATION R7). What only
 * waits here was sent again before its history came, and is answered from it. */
#include "migration/applied.h"

#include <stdlib.h>
#include <string.h>

#include "client/wire/ops.h"

#define CAPACITY_FIRST 64u
#define KEPT_FIRST     8u
#define PIECE_BYTES    8u
_Static_assert(KEPT_FIRST <= GW_APPLIED_WINDOW_MIN / GW_APPLIED_KEPT_SHARE, "the first ones fit");

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
    free(w->kept);
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

size_t gw_applied_memory(const struct gw_applied_window *w)
{
    return sizeof *w + w->capacity * sizeof *w->ring + w->kept_capacity * sizeof *w->kept;
}

/* ---- values ---- */

static struct gw_applied_kept *kept_at(const struct gw_applied_window *w, uint64_t place)
{
    return &w->kept[place & (w->kept_capacity - 1)];
}

/* Room for one more; false: all that the window may keep are there, or no memory. */
static bool kept_reserve(struct gw_applied_window *w)
{
    if (w->kept_next - w->kept_first < w->kept_capacity)
        return true;
    uint32_t capacity = w->kept_capacity ? 2 * w->kept_capacity : KEPT_FIRST;
    if (capacity > w->window / GW_APPLIED_KEPT_SHARE)
        return false;
    struct gw_applied_kept *kept = calloc(capacity, sizeof *kept);
    if (!kept)
        return false;
    for (uint64_t place = w->kept_first; place < w->kept_next; place++)
        kept[place & (capacity - 1)] = *kept_at(w, place);
    free(w->kept);
    w->kept = kept;
    w->kept_capacity = capacity;
    return true;
}

void gwi_applied_confirm_kept(struct gw_applied_window *w)
{
    while (w->kept_first != w->kept_next && kept_at(w, w->kept_first)->serial < w->confirmed)
        w->kept_first++;
}

/* Records the serial with room for a value of so many bytes; NULL: without, as forgotten. */
static struct gw_applied_kept *record_kept(struct gw_applied_window *w, uint64_t serial,
                                           uint16_t slot, int8_t status, uint32_t version,
                                           uint64_t bytes)
{
    if (serial < w->confirmed)
        return NULL;
    if (bytes > GW_APPLIED_VALUE_MAX || !kept_reserve(w)) {
        gw_applied_record(w, serial, slot, status, version, GW_WIRE_FORGOTTEN, 0);
        return NULL;
    }
    uint64_t place = w->kept_next++;
    struct gw_applied_kept *kept = kept_at(w, place);
    *kept = (struct gw_applied_kept){.serial = serial, .bytes = (uint8_t)bytes};
    gw_applied_record(w, serial, slot, status, version, GW_WIRE_VALUE, (int64_t)place);
    return kept;
}

void gw_applied_record_value(struct gw_applied_window *w, uint64_t serial, uint16_t slot,
                             int8_t status, uint32_t version, const uint8_t *value, uint32_t bytes)
{
    struct gw_applied_kept *kept = record_kept(w, serial, slot, status, version, bytes);
    if (kept && bytes)
        memcpy(kept->value, value, bytes);
}

const uint8_t *gw_applied_value(const struct gw_applied_window *w,
                                const struct gw_applied_entry *entry, uint32_t *bytes)
{
    GW_ASSERT(entry->flags == GW_WIRE_VALUE);
    const struct gw_applied_kept *kept = kept_at(w, (uint64_t)entry->number);
    GW_ASSERT((uint32_t)kept->serial == entry->serial);
    *bytes = kept->bytes;
    return kept->value;
}

/* A piece of a value whose entry came before it. */
static void merge_piece(struct gw_applied_window *w, const struct gw_applied *piece)
{
    const struct gw_applied_entry *e = NULL;
    if (gw_applied_check(w, piece->serial, &e) != GW_APPLIED_DONE || e->flags != GW_WIRE_VALUE)
        return; /* confirmed meanwhile, or there was no room for it */
    struct gw_applied_kept *kept = kept_at(w, (uint64_t)e->number);
    uint32_t at = piece->version * PIECE_BYTES;
    GW_ASSERT(at < GW_APPLIED_VALUE_MAX); /* checked when it was decoded */
    gw_store64(kept->value + at, (uint64_t)piece->number);
}

/* ---- moving ---- */

/* Appends the entry, and the pieces of its value, as far as there is room; returns how many. */
static size_t collect_one(const struct gw_applied_window *w, const struct gw_applied_entry *e,
                          uint64_t session, uint64_t serial, struct gw_applied *out, size_t max)
{
    struct gw_applied entry = {.session = session,
                               .serial = serial,
                               .number = e->number,
                               .version = e->version,
                               .slot = e->slot,
                               .status = e->status,
                               .flags = e->flags};
    const uint8_t *value = NULL;
    uint32_t bytes = 0, n = 1;
    if (GW_UNLIKELY(e->flags == GW_WIRE_VALUE)) {
        value = gw_applied_value(w, e, &bytes);
        entry.number = bytes;
    }
    if (max > 0)
        out[0] = entry;
    for (; (n - 1) * PIECE_BYTES < bytes; n++) {
        entry.flags = GW_APPLIED_PIECE;
        entry.version = n - 1;
        entry.number = (int64_t)gw_load64(value + (size_t)(n - 1) * PIECE_BYTES);
        if (n < max)
            out[n] = entry;
    }
    return n;
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
        n += collect_one(w, e, session, serial, n < max ? out + n : NULL, n < max ? max - n : 0);
    }
    return n;
}

bool gw_applied_has_later(const struct gw_applied_window *w, uint64_t serial, uint16_t slot,
                          bool done)
{
    for (uint32_t i = 0; i < w->capacity; i++) {
        const struct gw_applied_entry *e = &w->ring[i];
        /* The whole serial, from its low half: at or above `confirmed`, or it is forgotten. */
        uint64_t whole = w->confirmed + (uint32_t)(e->serial - (uint32_t)w->confirmed);
        if ((done ? e->state == GW_APPLIED_DONE : e->state != GW_APPLIED_NEW) && e->slot == slot &&
            whole > serial && whole - w->confirmed < w->window)
            return true;
    }
    return false;
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
    if (entry->flags & GW_APPLIED_PIECE) {
        merge_piece(w, entry);
        return GW_OK;
    }
    if (entry->serial - w->confirmed >= w->window)
        gw_applied_confirm(w, entry->serial - w->window + 1);
    if (gw_applied_check(w, entry->serial, NULL) == GW_APPLIED_DONE)
        return GW_OK;
    enum gw_status st = gw_applied_reserve(w, entry->serial);
    if (st == GW_OK && (entry->flags & GW_WIRE_VALUE))
        (void)record_kept(w, entry->serial, entry->slot, entry->status, entry->version,
                          (uint64_t)entry->number); /* its pieces follow */
    else if (st == GW_OK)
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
