/* applied.h - exactly once: which serials of a session a server has applied, and with what result,
 * until the client says that it has the answers (MIGRATION R7; never "the highest serial").
 *
 * A window covers the serials [confirmed, confirmed + window). Its entries are a ring indexed by
 * serial that starts small and doubles when serials are further apart; gw_applied_reserve makes
 * room before anything is executed, so that recording cannot fail. An operation is PENDING from
 * begin to record or forget: a resent one that finds it so waits for the first one's answer (R8).
 * What travels with a range: collect at the source, merge at the target, entry by entry.
 * Old values that a write gave back (GETSET, GETDEL, READ_TOUCH) are kept beside the entries, in a
 * ring of their own that is made when the first one comes: up to GW_APPLIED_VALUE_MAX bytes each,
 * and one for every GW_APPLIED_KEPT_SHARE serials of the window. Of one that is longer, or one too
 * many, only that it was given is known: its entry says GW_WIRE_FORGOTTEN, so that a replay is
 * never answered falsely. Thread rule: the owner's thread. Hot path: applied_inline.h. Layer:
 * migration. */
#ifndef GW_MIGRATION_APPLIED_H
#define GW_MIGRATION_APPLIED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/wire/peer.h"
#include "index/base/slots.h"
#include "index/base/status.h"

#define GW_APPLIED_WINDOW_MIN 64u
#define GW_APPLIED_WINDOW_MAX 65536u
#define GW_APPLIED_KEPT_SHARE 8u

enum gw_applied_state {
    GW_APPLIED_NEW = 0, /* not executed here, nor known from elsewhere */
    GW_APPLIED_PENDING, /* accepted, its result follows */
    GW_APPLIED_DONE,    /* executed: answer with this result, do not execute */
    GW_APPLIED_BELOW,   /* the client said that it has the answer: it must not ask */
    GW_APPLIED_BEYOND,  /* further ahead than the window agreed */
};

struct gw_applied_entry {
    uint32_t serial; /* low half; which serial it is follows from `confirmed` */
    uint16_t slot;
    int8_t status;
    /* NEW: empty. flags: one of GW_WIRE_COUNTER, LENGTH, VALUE, NONE, FORGOTTEN, or 0 */
    uint8_t state : 2, flags : 6;
    int64_t number; /* VALUE: its place among those kept, see gw_applied_value */
    uint32_t version;
    uint32_t zero;
};
_Static_assert(sizeof(struct gw_applied_entry) == 24, "a session's memory is counted in these");

/* An old value that was given. */
struct gw_applied_kept {
    uint64_t serial;
    uint8_t bytes;
    uint8_t value[GW_APPLIED_VALUE_MAX];
};

/* What a window takes for each of its serials, at most. */
#define GW_APPLIED_SERIAL_BYTES                                                                    \
    (sizeof(struct gw_applied_entry) + sizeof(struct gw_applied_kept) / GW_APPLIED_KEPT_SHARE)

struct gw_applied_window {
    uint64_t confirmed;
    uint32_t window;               /* a power of two */
    uint32_t capacity;             /* entries, a power of two or 0 */
    struct gw_applied_entry *ring; /* owned; NULL: nothing recorded yet */
    /* Values kept, in the order of recording: places kept_first up to kept_next, at place &
     * (kept_capacity - 1). Those at the front go when they are confirmed. */
    struct gw_applied_kept *kept; /* owned; NULL: none so far */
    uint64_t kept_first, kept_next;
    uint32_t kept_capacity; /* a power of two or 0 */
};

/* window is raised to a power of two within the bounds. NULL: out of memory. */
struct gw_applied_window *gw_applied_create(uint32_t window);
void gw_applied_destroy(struct gw_applied_window *w); /* NULL is ignored */
/* For a session that agrees on its window later (created by a merge, for one); never lowers it. */
void gw_applied_widen(struct gw_applied_window *w, uint32_t window);

/* Makes room for every serial up to and with `serial`. GW_E_NOMEM; GW_E_SERIAL: BELOW or
 * BEYOND. */
GW_MUST_USE static inline enum gw_status gw_applied_reserve(struct gw_applied_window *w,
                                                            uint64_t serial);
/* The entry is valid with PENDING and DONE, until the window is changed; may be NULL. */
static inline enum gw_applied_state gw_applied_check(const struct gw_applied_window *w,
                                                     uint64_t serial,
                                                     const struct gw_applied_entry **entry);
/* The three below require: reserved. begin: NEW -> PENDING. record: NEW or PENDING -> DONE; with a
 * status other than GW_OK, too, if the client is to get the same answer again. forget: PENDING ->
 * NEW, returned unexecuted. */
static inline void gw_applied_begin(struct gw_applied_window *w, uint64_t serial, uint16_t slot);
static inline void gw_applied_record(struct gw_applied_window *w, uint64_t serial, uint16_t slot,
                                     int8_t status, uint32_t version, uint8_t flags,
                                     int64_t number);
static inline void gw_applied_forget(struct gw_applied_window *w, uint64_t serial);
/* As gw_applied_record, with bytes that were the result. */
void gw_applied_record_value(struct gw_applied_window *w, uint64_t serial, uint16_t slot,
                             int8_t status, uint32_t version, const uint8_t *value, uint32_t bytes);
/* The value of a DONE entry whose flags say GW_WIRE_VALUE; valid until the window is changed. */
const uint8_t *gw_applied_value(const struct gw_applied_window *w,
                                const struct gw_applied_entry *entry, uint32_t *bytes);
/* Memory of the window, all in. */
size_t gw_applied_memory(const struct gw_applied_window *w);
/* Every serial below `confirmed` has been answered. Lower values than before are ignored. */
static inline void gw_applied_confirm(struct gw_applied_window *w, uint64_t confirmed);

/* DONE entries of these slots (NULL: of all), oldest first, each with the pieces of its value
 * behind it; fills at most `max` and returns how many there are. */
size_t gw_applied_collect(const struct gw_applied_window *w, uint64_t session,
                          const struct gw_slots *slots, struct gw_applied *out, size_t max);
/* Is a later serial of this slot known, DONE or, unless `done` is asked for, PENDING? Then a read
 * of `serial` that is sent again comes too late: what it would have shown may have been changed by
 * its own session since. Looks at the whole window. */
bool gw_applied_has_later(const struct gw_applied_window *w, uint64_t serial, uint16_t slot,
                          bool done);
/* How many PENDING ones: 0 for a range at the moment of its collection (R5). */
size_t gw_applied_pending(const struct gw_applied_window *w, const struct gw_slots *slots);
/* Takes over one entry, or one piece of a value, of the previous owner. Below `confirmed`, or DONE
 * here: dropped. PENDING here: it was sent again before its history came, and is DONE from now on,
 * not to be executed. Beyond: confirmed follows, for a client never has more than its window in
 * flight; the session's window must be no smaller than that, at least what any server grants.
 * GW_E_NOMEM: nothing happened. */
GW_MUST_USE enum gw_status gw_applied_merge(struct gw_applied_window *w,
                                            const struct gw_applied *entry);
/* Forgets the DONE entries of these slots (closing: the new owner has them). */
void gw_applied_drop(struct gw_applied_window *w, const struct gw_slots *slots);

#include "migration/applied_inline.h"
#endif
