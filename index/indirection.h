/* indirection.h - records that say "if nothing else in this chain matches, look there": cold parts
 * of a range that stay in the log of a former owner when the range moves (DESIGN section 8;
 * Shadowfax, VLDB'21 section 3.3.2; rules MIGRATION R11 to R17).
 *
 * An indirection is a record of kind GW_RECORD_INDIRECTION without a key; its value is the origin's
 * log id, an address there, the prefix of the hashes that it covers, the slot, and the map version
 * at which the origin gave the slot away (R16). A look-up walks past it and follows it only when
 * the rest of the chain had no answer; of several that cover the hash the newest map version is
 * followed first, and each to its chain's end before the next. Behind the address lies a chain of
 * the origin's log, read through the device (device.h, GW_DEVICE_FOREIGN), in which older
 * indirections may lie (A to B to C): they are followed in turn.
 *
 * What is found is inserted by one CAS against the chain that was examined, if the key is still
 * absent and the indirection still stands (R11); then the operation runs on it. A tombstone found
 * there is an answer as well. Until an indirection is retired no tombstone of a key that it covers
 * is dropped, and no delete clears the entry (R13).
 * Resolving: the store's threads read what an indirection leads to, insert of each covered key the
 * newest record if absent, and retire it; a bounded share of their time, see
 * gw_store_resolve_rate. Layer: index. */
#ifndef GW_INDEX_INDIRECTION_H
#define GW_INDEX_INDIRECTION_H

#include "index/store.h"

struct gw_indirection {
    uint64_t log_id;      /* of the origin */
    uint64_t address;     /* the first record there that was not shipped */
    uint64_t hash_prefix; /* the top prefix_bits bits of the hashes covered, the rest zero */
    uint64_t map_version;
    uint16_t slot;
    uint8_t prefix_bits;
    uint64_t begin; /* of the origin's log when this was made, whole 64 KiB: the chain ends there,
                     * and nothing below is needed. 0: not known */
};
/* Of the value: u64 log id, address, hash prefix, map version; u16 slot, u8 prefix bits, and in 5
 * bytes begin / 65536. */
#define GW_INDIRECTION_BYTES       40u
#define GW_INDIRECTION_ADDRESS_MAX (((uint64_t)1 << 48) - 1)
void gw_indirection_encode(const struct gw_indirection *in, uint8_t value[GW_INDIRECTION_BYTES]);
void gw_indirection_decode(const uint8_t value[GW_INDIRECTION_BYTES], struct gw_indirection *out);
/* May it be linked, as far as its own fields say? */
bool gw_indirection_is_sound(const struct gw_indirection *in);

/* Links *in in every chain that it covers (several where this table is larger than the origin's),
 * if it is not linked there already, as far as the chain is in memory: twice is harmless while the
 * slot's tombstones are kept (gw_store_keep_tombstones). Requires: entered; R15: what is in front
 * of it in the origin's chain has come. GW_OK; GW_RETRY, GW_NOT_YET: try again in a later turn, all
 * of it; GW_E_FULL; GW_E_UNSUPPORTED: the device has no shared tier; GW_E_LIMIT: it knows too many
 * logs, or the table has more than GW_LINK_CHAINS_MAX chains of the prefix; GW_E_INVALID. */
#define GW_LINK_CHAINS_MAX 65536u
GW_MUST_USE enum gw_status gw_store_link(struct gw_thread *thread, const struct gw_indirection *in);

/* Where the rest of its chain begins, for an operation that was answered GW_END (GW_OP_LEADS) since
 * the thread entered: an indirection for this hash alone. It is for those who wait for the key
 * while the rest of the chain has not come (MIGRATION R15), and is not to be linked. */
void gw_store_lead(const struct gw_thread *thread, const struct gw_op *op, uint64_t map_version,
                   struct gw_indirection *out);
/* FETCH of a key in the log to which such a lead points: op->key, key_bytes, hash, slot in, results
 * as FETCH has them; nothing is inserted. GW_OK, GW_TOMBSTONE, GW_NOT_FOUND; GW_PENDING: again when
 * gw_store_ready names the hash; GW_RETRY: again in a later turn; GW_WOULD_BLOCK: `room` does not
 * hold op->out_bytes; GW_E_INVALID: not sound, or not of this key; GW_E_UNSUPPORTED, GW_E_LIMIT as
 * gw_store_link; GW_E_UNREACHABLE, GW_E_IO, GW_E_CORRUPT: it cannot be read. Requires: entered. */
GW_MUST_USE enum gw_status gw_store_fetch_lead(struct gw_thread *thread,
                                               const struct gw_indirection *lead, struct gw_op *op,
                                               uint8_t *room, size_t room_bytes);

/* As gw_store_walk with tombstones, for a range that stands still (R5), but what lies on the device
 * and below the shared boundary is not read: behind the records of a chain that are in memory, or
 * not yet shared, comes, once, the indirection that leads to the rest (log_id: ours), and those
 * that lie in the chain themselves with their own map versions. Order within a chain: newest
 * records first, then indirections (R14). fn_in returning false stops the walk as fn does. */
typedef bool (*gw_walk_indirection_cb)(void *ctx, const struct gw_indirection *in);
void gw_store_walk_shared(struct gw_thread *thread, struct gw_cursor *cursor, uint64_t hash_last,
                          const struct gw_slots *slots, uint64_t map_version, uint32_t buckets_max,
                          gw_walk_cb fn, gw_walk_indirection_cb fn_in, void *ctx);

/* Until the next call records of these slots that are read or changed, and were written before the
 * sampling began, are copied to the tail, each once, so that the hot set gathers there (the
 * sampling phase; Shadowfax section 3.3). NULL: none. A call while it goes on changes the slots,
 * not the beginning. One caller at a time, outside of any stay in the epoch. */
void gw_store_sample(struct gw_store *store, const struct gw_slots *slots);
/* Visits what was copied for that reason and is still newest of its key, from the address that the
 * log's tail had when the sampling began: at most `bytes` of records in all. For a range that
 * stands still. *at: 0 at first, then where to go on; UINT64_MAX: the end. Requires: entered. */
void gw_store_walk_sampled(struct gw_thread *thread, uint64_t *at, const struct gw_slots *slots,
                           uint64_t bytes, gw_walk_cb fn, void *ctx);

/* Part of a thread's time that resolving may take, in percent; 0: none, and compaction does not
 * begin for thrift alone either, as long as the device has room. 5 at the start. */
void gw_store_resolve_rate(struct gw_store *store, uint32_t percent);
/* When gw_store_poll of this thread has returned false: after how many ns resolving wants it to be
 * called again; UINT64_MAX: there is nothing to resolve. */
uint64_t gw_store_resolve_wait(const struct gw_thread *thread);

struct gw_foreign_need {
    uint64_t log_id;
    uint64_t lowest; /* address: nothing below is needed, by entries or retained checkpoints */
    uint64_t indirections; /* that stand; a number for people */
    bool retained_only;    /* none stands: retained checkpoints alone may have some */
};
/* What of other logs this store needs; fills at most max, returns how many there are. Never says
 * more than is true: may be low for a while. What others need that follow an indirection into our
 * log, and meet one of ours there, is not in it: who puts the needs of all together knows (a need
 * of our log brings all that we ever said). Any thread. */
uint32_t gw_store_foreign(struct gw_store *store, struct gw_foreign_need *out, uint32_t max);
/* The oldest checkpoint that is retained, pinned ones included, ends here: what stood in older ones
 * is needed no more. Without this call a need stays until compaction has passed all that was ever
 * written of it (stores without checkpoints need no call). Only rises. Any thread. */
void gw_store_foreign_retained(struct gw_store *store, uint64_t oldest_end);
struct gw_indirection_stats {
    uint64_t linked, followed, found, absent, resolved, retired, live;
};
void gw_store_indirection_stats(const struct gw_store *store, struct gw_indirection_stats *out);
#endif
