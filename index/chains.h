/* chains.h - which chains of records hold records of more than one key.
 *
 * An index entry leads to a chain, newest record first; keys of one slot whose hashes agree in the
 * bits of the smallest table and the six behind them share a chain. That is rare, and nearly all
 * that compaction wants to know follows from whether it is so: in a chain of one key every record
 * but the first is dead, and nobody need read the first to know it (ENGINE H11). So it is written
 * down whenever a record is put before one of another key.
 *
 * Names: slot << 50 | hash without the bits behind the entry's six. A table that grows splits
 * chains but never joins them: a name covers all that became of its chain.
 *
 * Why "not mixed" may be trusted. Call a pair two neighbours of a chain, both at or above begin,
 * with different keys; U is the upper one.
 *  1. Who publishes U knows the key before which he puts it, or knows that it is not his: he came
 *     there by a walk for his own key. He marks the name under the shard's lock, with U's address,
 *     before his publishing CAS (release).
 *  2. Compaction loads an entry (acquire) and asks afterwards. The chain behind that entry was
 *     published by CASes each of which expected, hence had acquired, the one before. So every mark
 *     of every pair behind the entry happened before the question, and the lock shows it.
 *  3. A mark goes only with its generation, and that only when begin has passed the highest address
 *     marked in it: then U of every such pair is below begin, and the pair is none any more.
 *  4. When the set is full, or memory is, the shard says "mixed" of everything until begin has
 *     passed the record whose mark found no place.
 * A mark without a publication, and one whose keys are gone, cost a walk. Nothing else.
 * Thread rule: any thread; one short mutex a shard, taken only for marks and by compaction.
 * Layer: index. */
#ifndef GW_INDEX_CHAINS_H
#define GW_INDEX_CHAINS_H

#include <stdbool.h>
#include <stdint.h>

#include "index/address.h"
#include "index/base/status.h"

struct gwi_chains;

#define GWI_CHAINS_BYTES_MIN 65536u

/* The set takes at most bytes_max (not less than GWI_CHAINS_BYTES_MIN). GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_chains_create(uint64_t bytes_max, struct gwi_chains **out);
void gwi_chains_destroy(struct gwi_chains *chains); /* NULL is ignored */

static inline uint64_t gwi_chains_name(uint16_t slot, uint64_t hash, uint32_t split_shift)
{
    return (uint64_t)slot << 50 | hash >> split_shift;
}

/* The record at `address` is about to be published before one of another key. `begin`: the log's,
 * or an older one. Call again for every record, allocated before the call. */
void gwi_chains_mark(struct gwi_chains *chains, uint64_t name, gw_addr address, uint64_t begin);
/* May the chain hold more than one key? Ask after loading the entry with acquire. */
bool gwi_chains_mixed(struct gwi_chains *chains, uint64_t name, uint64_t begin);

/* The names in the set, of two generations twice; *all_until: everything is mixed until begin has
 * passed this (rule 4), 0: no. Returns how many there are, stores at most `max`. What it gives is
 * complete for every record whose publication happened before the call. */
uint64_t gwi_chains_names(struct gwi_chains *chains, uint64_t *names, uint64_t max,
                          uint64_t *all_until);
/* Everything counts as mixed until begin has passed `until`. */
void gwi_chains_mark_all(struct gwi_chains *chains, uint64_t until);

uint64_t gwi_chains_bytes(const struct gwi_chains *chains);
uint64_t gwi_chains_count(struct gwi_chains *chains); /* names, those of two generations twice */
#endif
