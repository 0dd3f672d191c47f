/* recover_commit_chain.h - which of one key's log entries count after a crash (ENGINE H3, H20, rule
 * 21). A pure function.
 *
 * What is acknowledged was made durable by every dispatcher that it rests upon; what is not may
 * have lost a predecessor that was in another dispatcher's log. So a key's changes count in the
 * order of their versions as long as each has its predecessor: in the log, or in the image. Behind
 * a gap nothing counts, but for what needs no predecessor (START).
 *
 * A change says whether its predecessor was made in an earlier interval (FIRST). For the interval
 * right behind the image that means: it is in the image. For a later one (a checkpoint was under
 * way, or was given up) it may be in the image or in a log; then the image's version decides, and
 * only then it has to be read. An entry that changed nothing counts if the version that it saw is
 * recovered. Any thread. Layer: server. */
#ifndef GW_SERVER_RECOVER_COMMIT_CHAIN_H
#define GW_SERVER_RECOVER_COMMIT_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "tiering/commit.h"

struct gwi_chain_entry {
    uint64_t interval; /* of its block */
    uint32_t version;  /* NOTHING: the one that it saw, 0: the key was not there */
    uint8_t op, flags; /* enum gw_commit_op; GW_COMMIT_START, GW_COMMIT_FIRST */
    bool kept;         /* out */
};

struct gwi_chain_image {
    bool known; /* it has been read */
    bool there; /* a record or tombstone of the key */
    uint32_t version;
};

#define GWI_CHAIN_NONE UINT32_MAX

/* Order in which entries are to be given: by version (modulo 2^32), changes before what saw them.
 * Negative, 0, positive. */
static inline int gwi_chain_compare(uint32_t a_version, uint8_t a_op, uint32_t b_version,
                                    uint8_t b_op)
{
    int32_t by_version = (int32_t)(a_version - b_version);
    if (by_version != 0)
        return by_version < 0 ? -1 : 1;
    return (a_op == GW_COMMIT_NOTHING) - (b_op == GW_COMMIT_NOTHING);
}

/* Decides on all n entries of one key, for an image of checkpoint `number`. False: image->version
 * is needed and not known; nothing is decided. *last: index of the change that is the key's state
 * now, GWI_CHAIN_NONE: the image's. */
bool gwi_chain_decide(struct gwi_chain_entry *entries, uint32_t n, uint64_t number,
                      const struct gwi_chain_image *image, uint32_t *last);
#endif
