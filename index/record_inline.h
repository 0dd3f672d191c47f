/* record_inline.h - a record in the log and its control word (ENGINE section 2).
 *
 * Aligned to 16 bytes:
 *   word 0  63-42 record bytes / 16 (0: rest of the page unused) | 41-0 previous address / 16
 *   word 1  the control word, atomic:
 *           63-32 version | 31-16 key bytes | 15-8 slack | 7 arrived | 6 checkpoint parity
 *           5-4 kind | 3 has expiry | 2 tombstone | 1 sealed | 0 locked
 *   [expiry, 8 bytes] key, zeros to 8, value, zeros to 8, slack
 *
 * Word 0, the key, where the value begins and whether there is a word of expiry never change once
 * an index entry leads here. A record that has the word may have its time changed in place, to
 * GW_EXPIRY_NEVER as well; one without it is copied to get it. All words up to units x 16 are
 * written by who fills the record, for the room comes as the last one left it.
 * All else is the control word's and changes by this protocol:
 *  1. Who changes a record in place locks it: one CAS from the unlocked, unsealed word, the
 *     update's only locked instruction. It stores value words, and that of the expiry, with release
 *     and unlocks with one release store that raises the version.
 *  2. Who replaces a record that may still change in place seals it first, by CAS from the
 * unlocked, unsealed word; a sealed record never changes again, unless its sealer gives up and
 * unseals.
 *  3. Readers load control, expiry and value words (acquire), control again, and start over if it
 *     moved.
 *     Why no fence is needed: a reader that saw one of a writer's value words acquired it, and with
 *     it the writer's lock, so its second load of control sees the lock or something later.
 * Thread rule: as said. Layer: index. */
#ifndef GW_INDEX_RECORD_INLINE_H
#define GW_INDEX_RECORD_INLINE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "index/address.h"
#include "index/base/bytes.h"

struct gw_record {
    uint64_t link;            /* word 0: written while private, published by the entry's CAS */
    _Atomic uint64_t control; /* word 1 */
    uint8_t rest[];           /* key, value */
};
static_assert(sizeof(struct gw_record) == 16, "a record begins with two words");

#define GW_RECORD_HEADER         16u
#define GW_RECORD_UNITS_MAX      (((uint64_t)1 << 22) - 1)
#define GW_RECORD_SLACK_MAX      255u
#define GW_EXPIRY_NEVER          UINT64_MAX /* in the word of expiry: there is none */

#define GW_CONTROL_LOCKED        ((uint64_t)1)
#define GW_CONTROL_SEALED        ((uint64_t)2)
#define GW_CONTROL_TOMBSTONE     ((uint64_t)4)
#define GW_CONTROL_EXPIRY        ((uint64_t)8)
#define GW_CONTROL_KIND_SHIFT    4
#define GW_CONTROL_PARITY        ((uint64_t)1 << 6)
#define GW_CONTROL_ARRIVED       ((uint64_t)1 << 7)
#define GW_CONTROL_SLACK_SHIFT   8
#define GW_CONTROL_KEY_SHIFT     16
#define GW_CONTROL_VERSION_SHIFT 32

enum gw_record_kind {
    GW_RECORD_BYTES = 0,
    GW_RECORD_COUNTER = 1,
    GW_RECORD_INDIRECTION = 2,
    GW_RECORD_VOID = 3,
};

static inline uint64_t gw_round8(uint64_t n)
{
    return (n + 7) & ~(uint64_t)7;
}

static inline uint64_t gw_control_make(uint32_t version, uint16_t key_bytes, uint32_t slack,
                                       enum gw_record_kind kind, uint64_t flags)
{
    return (uint64_t)version << GW_CONTROL_VERSION_SHIFT |
           (uint64_t)key_bytes << GW_CONTROL_KEY_SHIFT | (uint64_t)slack << GW_CONTROL_SLACK_SHIFT |
           (uint64_t)kind << GW_CONTROL_KIND_SHIFT | flags;
}
static inline uint32_t gw_control_version(uint64_t c)
{
    return (uint32_t)(c >> GW_CONTROL_VERSION_SHIFT);
}
static inline uint16_t gw_control_key_bytes(uint64_t c)
{
    return (uint16_t)(c >> GW_CONTROL_KEY_SHIFT);
}
static inline uint32_t gw_control_slack(uint64_t c)
{
    return (uint32_t)(c >> GW_CONTROL_SLACK_SHIFT) & 255;
}
static inline enum gw_record_kind gw_control_kind(uint64_t c)
{
    return (enum gw_record_kind)((c >> GW_CONTROL_KIND_SHIFT) & 3);
}

/* ---- word 0 ---- */

static inline uint64_t gw_record_link(uint64_t units, uint64_t previous_narrow)
{
    return units << GW_ADDR_BITS | previous_narrow;
}
static inline uint64_t gw_record_units(const struct gw_record *r)
{
    return r->link >> GW_ADDR_BITS;
}
static inline uint64_t gw_record_previous(const struct gw_record *r)
{
    return r->link & GW_ADDR_MASK;
}

/* ---- sizes: all a function of units, key bytes and slack ---- */

/* Units of a record that has this key, room for this value, and a word of expiry or none. */
static inline uint64_t gw_record_units_for(uint16_t key_bytes, uint64_t value_bytes, bool expires)
{
    return (GW_RECORD_HEADER + (expires ? 8 : 0) + gw_round8(key_bytes) + value_bytes +
            GW_ADDR_UNIT - 1) /
           GW_ADDR_UNIT;
}
static inline uint64_t gw_record_head_bytes(uint64_t control)
{
    return GW_RECORD_HEADER + ((control & GW_CONTROL_EXPIRY) ? 8 : 0);
}
/* What the value may grow to in place, a multiple of 8. */
static inline uint64_t gw_record_capacity(const struct gw_record *r, uint64_t control)
{
    return gw_record_units(r) * GW_ADDR_UNIT - gw_record_head_bytes(control) -
           gw_round8(gw_control_key_bytes(control));
}
static inline uint64_t gw_record_value_bytes(const struct gw_record *r, uint64_t control)
{
    return gw_record_capacity(r, control) - gw_control_slack(control);
}
static inline const uint8_t *gw_record_key(const struct gw_record *r, uint64_t control)
{
    return (const uint8_t *)r + gw_record_head_bytes(control);
}
/* The value as words; 8-byte aligned since the key is padded. */
static inline _Atomic uint64_t *gw_record_value(struct gw_record *r, uint64_t control)
{
    return (_Atomic uint64_t *)((uint8_t *)r + gw_record_head_bytes(control) +
                                gw_round8(gw_control_key_bytes(control)));
}

/* The word of expiry. Requires: control says that there is one. */
static inline _Atomic uint64_t *gw_record_expiry_word(struct gw_record *r)
{
    return (_Atomic uint64_t *)r->rest;
}
/* When the record expires, ms; 0: never. Acquire: as the value's words (rule 3). */
static inline uint64_t gw_record_expiry(struct gw_record *r, uint64_t control)
{
    if (!(control & GW_CONTROL_EXPIRY))
        return 0;
    uint64_t at = atomic_load_explicit(gw_record_expiry_word(r), memory_order_acquire);
    return at == GW_EXPIRY_NEVER ? 0 : at;
}
/* Requires, for an answer that holds: nobody changes the record meanwhile, or control is loaded
 * again afterwards. */
static inline bool gw_record_expired(struct gw_record *r, uint64_t control, uint64_t now_ms)
{
    return (control & GW_CONTROL_EXPIRY) &&
           atomic_load_explicit(gw_record_expiry_word(r), memory_order_acquire) <= now_ms;
}

/* Keys are immutable, so plain loads do; the words behind key and length were published with the
 * record. Keys of 8 bytes, the common ones, take one compare. */
static inline bool gw_record_has_key(const struct gw_record *r, uint64_t control,
                                     const uint8_t *key, uint16_t key_bytes)
{
    if (gw_control_key_bytes(control) != key_bytes)
        return false;
    const uint8_t *mine = gw_record_key(r, control);
    if (key_bytes == 8)
        return gw_load64(mine) == gw_load64(key);
    return memcmp(mine, key, key_bytes) == 0;
}

/* ---- locking -----------------------------------------------------------------------------------
 */

/* Rule 1's CAS. `seen` must be unlocked and unsealed. Acquire: the changes of the last holder come
 * before ours; pairs with the release of gw_record_unlock. Relaxed on failure: nothing is read. */
static inline bool gw_record_lock(struct gw_record *r, uint64_t seen)
{
    return atomic_compare_exchange_strong_explicit(&r->control, &seen, seen | GW_CONTROL_LOCKED,
                                                   memory_order_acquire, memory_order_relaxed);
}
/* `next` is the whole new word, unlocked. Release: value words before it; pairs with the acquire
 * loads of control in gw_record_lock, gw_record_seal and of readers. */
static inline void gw_record_unlock(struct gw_record *r, uint64_t next)
{
    atomic_store_explicit(&r->control, next, memory_order_release);
}
/* Rule 2's CAS; acquire as in gw_record_lock: the value below the seal is final and is read next.
 */
static inline bool gw_record_seal(struct gw_record *r, uint64_t seen)
{
    return atomic_compare_exchange_strong_explicit(&r->control, &seen, seen | GW_CONTROL_SEALED,
                                                   memory_order_acquire, memory_order_relaxed);
}
/* Gives up a seal of one's own; nobody else writes a sealed word, so a store does. */
static inline void gw_record_unseal(struct gw_record *r, uint64_t seen)
{
    atomic_store_explicit(&r->control, seen & ~GW_CONTROL_SEALED, memory_order_release);
}

/* ---- value words -------------------------------------------------------------------------------
 */

/* Release, so that whoever reads one of them sees the lock under which it was written (rule 3).
 * Bytes behind the value up to the next word become zero. */
static inline void gw_value_store(_Atomic uint64_t *to, const uint8_t *from, uint64_t bytes)
{
    uint64_t words = bytes / 8;
    for (uint64_t i = 0; i < words; i++)
        atomic_store_explicit(&to[i], gw_load64(from + 8 * i), memory_order_release);
    if (bytes % 8) {
        uint64_t last = 0;
        memcpy(&last, from + 8 * words, bytes % 8);
        atomic_store_explicit(&to[words], last, memory_order_release);
    }
}
/* Acquire: pairs with the release above; the caller checks control again afterwards. */
static inline void gw_value_load(uint8_t *to, _Atomic uint64_t *from, uint64_t bytes)
{
    uint64_t words = bytes / 8;
    for (uint64_t i = 0; i < words; i++)
        gw_store64(to + 8 * i, atomic_load_explicit(&from[i], memory_order_acquire));
    if (bytes % 8) {
        uint64_t last = atomic_load_explicit(&from[words], memory_order_acquire);
        memcpy(to + 8 * words, &last, bytes % 8);
    }
}

/* Fills a record that is still private: key, zeros to 8, control. The caller stores the expiry if
 * control says that there is one, the value, and what lies behind it (gw_record_pad). */
static inline void gw_record_fill(struct gw_record *r, uint64_t units, const uint8_t *key,
                                  uint64_t control)
{
    uint16_t key_bytes = gw_control_key_bytes(control);
    uint8_t *at = (uint8_t *)r + gw_record_head_bytes(control);
    r->link = gw_record_link(units, 0);
    if (key_bytes == 8) {
        gw_store64(at, gw_load64(key));
    } else {
        memcpy(at, key, key_bytes);
        memset(at + key_bytes, 0, gw_round8(key_bytes) - key_bytes);
    }
    /* Relaxed: private still; publication is the release CAS of the index entry. */
    atomic_store_explicit(&r->control, control, memory_order_relaxed);
}
/* Writes the words behind the value of a record that is still private, up to its end. The common
 * sizes have none: a counter under a key of 8 bytes costs one comparison. */
static inline void gw_record_pad(struct gw_record *r, uint64_t control)
{
    uint64_t capacity = gw_record_capacity(r, control);
    uint64_t used = gw_round8(capacity - gw_control_slack(control));
    if (used < capacity)
        memset((uint8_t *)gw_record_value(r, control) + used, 0, capacity - used);
}
#endif
