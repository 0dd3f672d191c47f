/* cold.h - records beyond memory, as seen by one thread: walks that go down a chain on the device.
 *
 * A look-up that comes to an address below head is neither found nor absent (ENGINE H6). It asks
 * here, and one of the thread's *cold walks* follows the chain from that address (its `top`) down,
 * read after read, by itself. Its result - the record found, or that there is none - stays true for
 * that key and top as long as the process lives: what lies below head never changes, addresses are
 * not used twice, and records below begin are taken for absent when the result is used. So the
 * operation holds nothing meanwhile (ENGINE rule 14); it is executed again later, walks from the
 * present entry, and takes the result if it comes to the same top. If it comes to another one, what
 * was in memory has gone cold, and a new walk begins.
 *
 * Reads of one block by several walks are one read. All is bounded: walks, reads under way, bytes.
 * Thread rule: everything belongs to the thread of the store that made it. Layer: index. */
#ifndef GW_INDEX_COLD_H
#define GW_INDEX_COLD_H

#include "index/store_internal.h"

struct gwi_cold;
struct gw_indirection;
struct gwi_lead;

/* A thread's part. reads_max: device reads under way. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_cold_create(struct gw_thread *t, uint32_t reads_max,
                                           struct gwi_cold **out);
/* Waits for the reads that are under way: their rooms are ours. NULL is ignored. */
void gwi_cold_destroy(struct gwi_cold *cold);

/* Goes on behind GWI_COLD: position->address is the top. Walks end above `stop` (compaction: the
 * record that is asked about; others: 0).
 *   GWI_FOUND   position->record (good until gw_store_exit or gwi_cold_turn) and address
 *   GWI_ABSENT  the chain's end, begin or `stop` was reached; position->address is what comes next
 *               in the chain: `stop` itself, or below it
 *   GWI_COLD    not known yet: *status is GW_PENDING (gw_store_ready will name the hash, unless
 *               `stop` is given), GW_NOT_YET (too much is under way, nothing was begun) or the
 *               failure to read, then of position->address
 * Requires: inside the epoch. */
enum gwi_walk gwi_cold_find(struct gw_thread *t, uint64_t hash, const uint8_t *key,
                            uint16_t key_bytes, gw_addr stop, struct gwi_position *position,
                            enum gw_status *status);

/* The same with stop 0; ABSENT: *met, *count are the indirections that cover the hash and were
 * passed, newest first, those below which they are retired marked `done`; good as the record is. */
enum gwi_walk gwi_cold_find_met(struct gw_thread *t, uint64_t hash, const uint8_t *key,
                                uint16_t key_bytes, struct gwi_position *position,
                                const struct gwi_lead **met, uint32_t *count,
                                enum gw_status *status);
/* Looks where these indirections lead (foreign.h; those marked `done` are left out wherever they
 * are met), newest map version first. FOUND: position->record, with an address that is foreign;
 * ABSENT: none of them leads to the key; COLD as above. Requires: one that is not done. */
enum gwi_walk gwi_cold_follow(struct gw_thread *t, uint64_t hash, const uint8_t *key,
                              uint16_t key_bytes, const struct gwi_lead *met, uint32_t count,
                              struct gwi_position *position, enum gw_status *status);

/* All records of a chain from `top` down, newest first, of every key, down to begin as it is when
 * they are read; with `one` the first of them only. ahead: not needed now, GW_NOT_YET when much is
 * under way; else all that is asked for before it is dropped can be had at the same time. GW_OK:
 * *records, *count, good until gwi_cold_chain_drop or gw_store_exit; otherwise as *status above.
 * records NULL: only sees to it that the chain is read; a failure stays for who wants it. */
enum gw_status gwi_cold_chain(struct gw_thread *t, gw_addr top, bool one, bool ahead,
                              struct gw_record *const **records, uint32_t *count);
/* The same of the chain to which an indirection leads; *top: by which it is dropped. */
enum gw_status gwi_cold_foreign(struct gw_thread *t, const struct gw_indirection *in, bool ahead,
                                struct gw_record *const **records, uint32_t *count, gw_addr *top);
void gwi_cold_chain_drop(struct gw_thread *t, gw_addr top, bool one);

/* Begins reads that had to wait; outside of the epoch, once a turn. True: some still wait. */
bool gwi_cold_turn(struct gw_thread *t);
uint32_t gwi_cold_ready(struct gwi_cold *cold, uint64_t *hashes, uint32_t max);
uint32_t gwi_cold_reads(const struct gwi_cold *cold); /* under way */
uint64_t gwi_cold_bytes(const struct gwi_cold *cold); /* memory held; any thread */

/* Is this the second read of a cold key in a short while? Remembers it. */
bool gwi_cold_again(struct gwi_cold *cold, uint64_t hash);
#endif
