/* offline_tier.h - the part of a data directory that lies in the shared tier only: which it is, by
 * log/tier.json, and whether it is there. Nothing is written. Layer: server. */
#ifndef GW_SERVER_OFFLINE_TIER_H
#define GW_SERVER_OFFLINE_TIER_H

#include <stdbool.h>
#include <stdint.h>

#include "server/state_file.h"
#include "tiering/blob.h"

struct gwi_offline_object {
    uint64_t first, bytes; /* of addresses */
    uint32_t incarnation;
};

struct gwi_offline_tier {
    char url[GW_BLOB_URL_MAX + 1]; /* that store.json names; "": never had a shared tier */
    bool there;                    /* log/tier.json */
    uint64_t cluster, store_id;
    uint64_t local_from;               /* address: all below need not be on the disk */
    struct gwi_offline_object *object; /* owned; by address */
    uint32_t objects;
};

/* False: log/tier.json is there and damaged, `wrong` says how. Without one: all zero, but url. */
bool gwi_offline_tier(const char *dir, struct gwi_offline_tier *out, const char **wrong);
void gwi_offline_tier_fini(struct gwi_offline_tier *tier);

/* What of an image is not on the disk: [begin, *to), in how many objects; false: nothing. */
bool gwi_offline_tier_part(const struct gwi_offline_tier *tier, const struct gwi_state *state,
                           uint64_t *to, uint32_t *objects);

/* Checks that part: that every page of it has an object, and, at `url` (NULL: not looked at), that
 * the objects are there and (not `quick`) whole. fn as that of gw_ssd_verify, for each object or
 * what is missing. False: the object store could not be asked, `why` (GW_BLOB_TEXT_BYTES) says why.
 */
typedef void (*gwi_offline_tier_cb)(void *ctx, const char *file, uint64_t bytes, const char *wrong);
bool gwi_offline_tier_check(const struct gwi_offline_tier *tier, const struct gwi_state *state,
                            const char *url, bool quick, gwi_offline_tier_cb fn, void *ctx,
                            char *why);
#endif
