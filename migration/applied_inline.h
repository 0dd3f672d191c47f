/* applied_inline.h - the hot path of applied.h: one entry of a ring a call, no loop. Included by
 * applied.h only. A slot of the ring may still hold a serial that lies below `confirmed`: it is
 * told apart by its serial, so that confirming costs nothing. */
#ifndef GW_MIGRATION_APPLIED_INLINE_H
#define GW_MIGRATION_APPLIED_INLINE_H

#include "index/base/assert.h"
#include "migration/applied.h"

/* Cold: grows the ring so that `serial` has a place. */
enum gw_status gwi_applied_grow(struct gw_applied_window *w, uint64_t serial);
/* Cold: lets go of the kept values that are confirmed. */
void gwi_applied_confirm_kept(struct gw_applied_window *w);
/* Cold: forgets confirmed entries before their low halves can come again. */
void gwi_applied_sweep(struct gw_applied_window *w, uint64_t confirmed);

static inline struct gw_applied_entry *gwi_applied_at(const struct gw_applied_window *w,
                                                      uint64_t serial)
{
    return &w->ring[serial & (w->capacity - 1)];
}

static inline enum gw_status gw_applied_reserve(struct gw_applied_window *w, uint64_t serial)
{
    /* Below confirmed wraps to huge and takes the cold way. */
    if (GW_LIKELY(serial - w->confirmed < w->capacity))
        return GW_OK;
    return gwi_applied_grow(w, serial);
}

static inline enum gw_applied_state gw_applied_check(const struct gw_applied_window *w,
                                                     uint64_t serial,
                                                     const struct gw_applied_entry **entry)
{
    uint64_t ahead = serial - w->confirmed;
    if (GW_UNLIKELY(ahead >= w->capacity)) {
        if (serial < w->confirmed)
            return GW_APPLIED_BELOW;
        return ahead < w->window ? GW_APPLIED_NEW : GW_APPLIED_BEYOND;
    }
    const struct gw_applied_entry *e = gwi_applied_at(w, serial);
    if (e->serial != (uint32_t)serial)
        return GW_APPLIED_NEW;
    if (entry)
        *entry = e;
    return (enum gw_applied_state)e->state;
}

static inline void gw_applied_begin(struct gw_applied_window *w, uint64_t serial, uint16_t slot)
{
    GW_ASSERT(serial - w->confirmed < w->capacity);
    *gwi_applied_at(w, serial) = (struct gw_applied_entry){.serial = (uint32_t)serial,
                                                           .slot = slot,
                                                           .state = GW_APPLIED_PENDING};
}

static inline void gw_applied_record(struct gw_applied_window *w, uint64_t serial, uint16_t slot,
                                     int8_t status, uint32_t version, uint8_t flags, int64_t number)
{
    /* Confirmed meanwhile: the client has given the answer up, nobody will ask. */
    if (GW_UNLIKELY(serial < w->confirmed))
        return;
    GW_ASSERT(serial - w->confirmed < w->capacity);
    *gwi_applied_at(w, serial) = (struct gw_applied_entry){.serial = (uint32_t)serial,
                                                           .slot = slot,
                                                           .status = status,
                                                           .state = GW_APPLIED_DONE,
                                                           .flags = flags & 63u,
                                                           .number = number,
                                                           .version = version};
}

static inline void gw_applied_forget(struct gw_applied_window *w, uint64_t serial)
{
    if (serial - w->confirmed >= w->capacity)
        return;
    struct gw_applied_entry *e = gwi_applied_at(w, serial);
    if (e->serial == (uint32_t)serial && e->state == GW_APPLIED_PENDING)
        e->state = GW_APPLIED_NEW;
}

static inline void gw_applied_confirm(struct gw_applied_window *w, uint64_t confirmed)
{
    if (confirmed <= w->confirmed)
        return;
    if (GW_UNLIKELY((confirmed ^ w->confirmed) >> 30))
        gwi_applied_sweep(w, confirmed);
    w->confirmed = confirmed;
    if (GW_UNLIKELY(w->kept_first != w->kept_next))
        gwi_applied_confirm_kept(w);
}
#endif
