/* floors.h - below which address the records of a slot are no more.
 *
 * A slot that is given away or received anew loses its index entries (gw_store_unlink), but its
 * records lie on in the log until compaction comes by. While the process lives nobody meets them;
 * recovery, which makes entries of records, would bring them back to life. So each slot has a
 * floor, the tail at the end of its last unlinking: what lies below is dead. Floors are part of an
 * image, and go when begin has passed them. Thread rule: any thread. Layer: index. */
#ifndef GW_INDEX_FLOORS_H
#define GW_INDEX_FLOORS_H

#include <stdbool.h>
#include <stdint.h>

#include "index/address.h"
#include "index/base/slots.h"

struct gwi_floors;

GW_MUST_USE enum gw_status gwi_floors_create(struct gwi_floors **out); /* GW_E_NOMEM */
void gwi_floors_destroy(struct gwi_floors *floors);                    /* NULL is ignored */

/* Raises the floors of these slots (NULL: all) to `to`, none down. */
void gwi_floors_raise(struct gwi_floors *floors, const struct gw_slots *slots, gw_addr to);
uint64_t gwi_floor(const struct gwi_floors *floors, uint16_t slot);   /* 0: none */
bool gwi_floors_any(const struct gwi_floors *floors, uint64_t above); /* is a floor above this? */

/* Those above `begin` as words: returns how many words, stores at most `max`. */
uint64_t gwi_floors_write(const struct gwi_floors *floors, uint64_t begin, uint64_t *words,
                          uint64_t max);
/* Raises the floors to what the words say, none above `end`, the image's: a slot may have been
 * unlinked behind its cut, at a tail of which nothing was ever written. A log that goes on may use
 * those addresses, and what it has there is no record of before. GW_E_CORRUPT: they are not of
 * gwi_floors_write. */
GW_MUST_USE enum gw_status gwi_floors_read(struct gwi_floors *floors, const uint64_t *words,
                                           uint64_t count, gw_addr end);
#endif
