/* foreign.h - what a store knows of its indirections as a whole: which slots may have some, what of
 * other logs they need. Contract of the feature: indirection.h.
 *
 * A slot's word says up to which address indirections of it were written (in our own log), or that
 * none stands any more. It tells a look-up that found nothing whether there is more to ask,
 * compaction whether a tombstone may go (MIGRATION R13), and an image what recovery must know.
 *  1. Who publishes an indirection raises the word first (release, strictly upwards), so whoever
 *     has acquired an entry that leads to one sees the word.
 *  2. Indirections that lie below begin are no more: the word counts only at or above begin.
 *  3. A pass over all chains of the slot that met none that stands clears the word, by CAS from the
 *     value that it had an epoch before the pass began: whoever had raised it by then has
 *     published since, or given up; who raises it later changes it, and the CAS fails.
 *     `any`, the sum of all words, goes the same way in two steps: to CLOSING, and from there to
 *     NONE only if it still says CLOSING when all words have been looked at. Who has raised a word
 *     and does not find SOME after that writes it, before he publishes. So it never says NONE to
 *     anybody who has acquired an entry that leads to an indirection that stands.
 *  4. A word that was cleared keeps the tail of that moment: images whose end lies at or below it
 *     may hold indirections that stand.
 * A log's numbers follow the same rules. Thread rule: any thread. Layer: index. */
#ifndef GW_INDEX_FOREIGN_H
#define GW_INDEX_FOREIGN_H

#include "index/indirection.h"
#include "index/store_internal.h"

#define GWI_FOREIGN_LOGS_MAX 1024u
#define GWI_FOREIGN_CLEARED  1u /* in a word: the rest is the tail when it was cleared */

/* An indirection met by a walk for a key. */
struct gwi_lead {
    struct gw_indirection in;
    bool done; /* retired, or followed already */
};

struct gwi_foreign_log {
    _Atomic uint64_t id; /* written before `logs` counts it */
    _Atomic uint64_t lowest, highest;
    _Atomic int64_t live;
};

enum gwi_foreign_any { GWI_FOREIGN_NONE, GWI_FOREIGN_SOME, GWI_FOREIGN_CLOSING };

struct gwi_foreign {
    _Atomic uint8_t any; /* does some word count? enum gwi_foreign_any; NONE: none is looked at */
    _Atomic uint32_t logs;
    _Atomic uint32_t resolve_percent;
    _Atomic uint64_t linked, followed, found, absent, resolved, retired;
    _Atomic int64_t live;
    _Atomic uint64_t
        retained;         /* end of the oldest retained checkpoint; gw_store_foreign_retained */
    pthread_mutex_t lock; /* adding a log */
    struct gwi_resolver *resolver;
    _Atomic uint64_t slot[GW_SLOTS];
    struct gwi_foreign_log log[GWI_FOREIGN_LOGS_MAX];
};

GW_MUST_USE enum gw_status gwi_foreign_create(struct gwi_foreign **out); /* GW_E_NOMEM */
void gwi_foreign_destroy(struct gwi_foreign *foreign);                   /* NULL is ignored */

/* May a chain of this slot hold an indirection that stands? Ask after loading its entry with
 * acquire. */
static inline bool gwi_foreign_has(const struct gwi_foreign *foreign, uint16_t slot, uint64_t begin)
{
    /* Relaxed, both: rule 1; what is asked about was acquired. */
    if (GW_LIKELY(atomic_load_explicit(&foreign->any, memory_order_relaxed) == GWI_FOREIGN_NONE))
        return false;
    uint64_t word = atomic_load_explicit(&foreign->slot[slot], memory_order_relaxed);
    return word >= begin && !(word & GWI_FOREIGN_CLEARED) && word != 0;
}

/* Some word counts (rule 3): after it was raised. */
void gwi_foreign_some(struct gwi_foreign *foreign);
/* Sees whether none does any more. One thread at a time. */
void gwi_foreign_none(struct gwi_foreign *foreign);
/* An indirection is about to be published at `address` (rule 1). GW_E_LIMIT: too many logs. */
GW_MUST_USE enum gw_status gwi_foreign_raise(struct gwi_foreign *foreign,
                                             const struct gw_indirection *in, gw_addr address);
/* So many more (or fewer) of this log stand; a number for people. */
void gwi_foreign_count(struct gwi_foreign *foreign, uint64_t log_id, int64_t n);

/* As words of an image: returns how many, stores at most `max`; 0: there never was one. What lies
 * below `from` is left out; `held`: all that was cleared below it is in every image. */
uint64_t gwi_foreign_write(struct gwi_foreign *foreign, uint64_t from, uint64_t held,
                           uint64_t *words, uint64_t max);
/* Takes over what the words say; `end`: of the image. GW_E_CORRUPT. */
GW_MUST_USE enum gw_status gwi_foreign_read(struct gwi_foreign *foreign, const uint64_t *words,
                                            uint64_t count, gw_addr end);

/* ---- the record ---- */

#define GWI_INDIRECTION_UNITS 4u

/* What an indirection's record says; false: its lengths are wrong. */
bool gwi_indirection_of(struct gw_record *record, uint64_t control, struct gw_indirection *out);
/* Fills a private record of GWI_INDIRECTION_UNITS. */
void gwi_indirection_fill(struct gw_record *record, const struct gw_indirection *in,
                          uint64_t flags);
static inline bool gwi_indirection_covers(const struct gw_indirection *in, uint64_t hash)
{
    return in->prefix_bits == 0 || (in->hash_prefix ^ hash) >> (64 - in->prefix_bits) == 0;
}
/* The same one, whatever part of it? */
static inline bool gwi_indirection_is(const struct gw_indirection *a,
                                      const struct gw_indirection *b)
{
    return a->log_id == b->log_id && a->address == b->address && a->map_version == b->map_version;
}
/* A hash with these top bits: the last one. */
static inline uint64_t gwi_prefix_last(uint64_t prefix, uint32_t bits)
{
    return bits == 0 ? UINT64_MAX : prefix | (bits == 64 ? 0 : UINT64_MAX >> bits);
}
/* How many top bits all hashes have in common that share an entry with this one: those of its
 * bucket, and those that the entry holds. Requires: inside the epoch. */
uint32_t gwi_chain_bits(const struct gw_thread *t, uint64_t hash);
/* The hashes of the chain to which this entry leads, of the bucket that holds `hash`, as prefix and
 * prefix_bits; the rest is not written. Beyond six doublings of the index a chain leads to records
 * of others too, and to indirections that cover more than it: what they say beyond it is none of
 * its business, so chains are looked at within this. Requires: inside the epoch. */
void gwi_chain_prefix(const struct gw_thread *t, uint64_t hash, uint64_t entry,
                      struct gw_indirection *out);
/* Makes of *in the part that lies within; false: there is none. */
static inline bool gwi_indirection_narrow(struct gw_indirection *in,
                                          const struct gw_indirection *within)
{
    if (within->prefix_bits <= in->prefix_bits)
        return gwi_indirection_covers(within, in->hash_prefix);
    if (!gwi_indirection_covers(in, within->hash_prefix))
        return false;
    in->hash_prefix = within->hash_prefix;
    in->prefix_bits = within->prefix_bits;
    return true;
}

/* ---- store_link.c ---- */

/* Puts the indirection, as far as it covers the chain of its first hash, or with flags
 * GW_CONTROL_TOMBSTONE that it is retired, on top of that chain, whose entry is position->entry (no
 * place: there is none yet). `reserved`: see gw_log_allocate.
 * GW_RETRY: the entry has changed. */
enum gw_status gwi_put_indirection(struct gw_thread *t, const struct gw_indirection *in,
                                   uint64_t flags, bool reserved, struct gwi_position *position);

/* ---- store_follow.c ---- */

#define GWI_INSERT_DELETES 1u
#define GWI_INSERT_OVER    2u

/* Goes on where a look-up ended ABSENT in the chain of position->entry: the key's record behind the
 * indirections of that chain is inserted (MIGRATION R11). FOUND: position is that of the copy, or,
 * for a read that cannot have one, of a record in a buffer at an address above all others; ABSENT:
 * nobody has the key; COLD: *status. */
enum gwi_walk gwi_follow(struct gw_thread *t, const struct gw_op *op, struct gwi_position *position,
                         enum gw_status *status);
/* Inserts a record of another log as the newest of the chain, if its entry still is
 * position->entry, from which a walk has not found its key. DELETES: takes from the reserve of
 * deletes; OVER: in place of the chain's first record, position->record. GW_OK: *position is that
 * of the copy; GW_RETRY; else as gw_log_allocate; GW_E_TOO_LARGE. */
enum gw_status gwi_insert_foreign(struct gw_thread *t, uint64_t hash, uint16_t slot, uint32_t how,
                                  struct gw_record *from, struct gwi_position *position);

/* ---- resolve.c ---- */

GW_MUST_USE enum gw_status gwi_resolver_create(struct gwi_resolver **out); /* GW_E_NOMEM */
void gwi_resolver_destroy(struct gwi_resolver *resolver);                  /* NULL is ignored */
/* A bounded share of the thread's time, outside of the epoch. True: there is more to do. */
bool gwi_resolve_turn(struct gw_thread *t);
void gwi_resolve_leave(struct gw_thread *t); /* the thread closes */
#endif
