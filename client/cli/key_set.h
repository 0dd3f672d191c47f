/* key_set.h - has this key been seen? Keys are known by 128 bits of two seeded hashes: among 10^9
 * keys two share them with a probability under 10^-20. Open addressing, doubling at 2/3 full: 24 to
 * 48 bytes a key. One thread. Layer: client/cli. */
#ifndef GW_CLIENT_CLI_KEY_SET_H
#define GW_CLIENT_CLI_KEY_SET_H

#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

struct gw_key_set;

GW_MUST_USE enum gw_status gw_key_set_create(struct gw_key_set **out); /* GW_E_NOMEM */
void gw_key_set_destroy(struct gw_key_set *set);                       /* NULL is ignored */
/* GW_OK: it was not there and is now; GW_EXISTS; GW_E_NOMEM: nothing changed. */
GW_MUST_USE enum gw_status gw_key_set_add(struct gw_key_set *set, const void *key, size_t bytes);
uint64_t gw_key_set_count(const struct gw_key_set *set);
#endif
