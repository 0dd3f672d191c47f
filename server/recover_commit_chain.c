/* recover_commit_chain.c - see recover_commit_chain.h. */
#include "server/recover_commit_chain.h"

#include <stddef.h>

/* The first change: what it rests upon is not in the log. */
static bool first_counts(const struct gwi_chain_entry *e, uint64_t number,
                         const struct gwi_chain_image *image, bool *ask)
{
    if ((e->flags & GW_COMMIT_START) || ((e->flags & GW_COMMIT_FIRST) && e->interval == number + 1))
        return true;
    if (!(e->flags & GW_COMMIT_FIRST))
        return false; /* it rests upon a change of its own interval, and that is lost */
    if (!image->known) {
        *ask = true;
        return false;
    }
    return image->there && image->version + 1 == e->version;
}

static bool in_image(uint32_t version, const struct gwi_chain_image *image, bool *ask)
{
    *ask |= !image->known;
    return image->known && image->there && (int32_t)(version - image->version) <= 0;
}

bool gwi_chain_decide(struct gwi_chain_entry *entries, uint32_t n, uint64_t number,
                      const struct gwi_chain_image *image, uint32_t *last)
{
    bool ask = false;
    uint32_t first = GWI_CHAIN_NONE, kept = GWI_CHAIN_NONE;
    for (uint32_t i = 0; i < n; i++) {
        struct gwi_chain_entry *e = &entries[i];
        if (e->op == GW_COMMIT_NOTHING)
            continue;
        if (first == GWI_CHAIN_NONE) {
            first = i;
            e->kept = first_counts(e, number, image, &ask);
        } else {
            e->kept = (e->flags & GW_COMMIT_START) ||
                      (kept != GWI_CHAIN_NONE && entries[kept].version + 1 == e->version);
        }
        if (e->kept)
            kept = i;
    }
    /* What changed nothing: sorted behind the change that it saw, if that is here. */
    const struct gwi_chain_entry *before = NULL;
    for (uint32_t i = 0; i < n; i++) {
        struct gwi_chain_entry *e = &entries[i];
        if (e->op != GW_COMMIT_NOTHING) {
            if (!before || e->kept || before->version != e->version)
                before = e;
        } else if (e->version == 0) {
            e->kept = true; /* rests upon nothing */
        } else if (before) {
            e->kept = before->kept && before->version == e->version;
        } else if (first != GWI_CHAIN_NONE && entries[first].kept) {
            e->kept = true; /* below a change that counts: in the image, or about to arrive again */
        } else {
            e->kept = in_image(e->version, image, &ask);
        }
    }
    /* It saw what arrived by migration, which is not logged, and the first change of that counts:
     * then it counts too, or, sent again, it would take effect behind that change. */
    const struct gwi_chain_entry *next = NULL;
    for (uint32_t i = n; i-- > 0;) {
        struct gwi_chain_entry *e = &entries[i];
        if (e->op != GW_COMMIT_NOTHING)
            next = e;
        else if (next && next->kept && (next->flags & GW_COMMIT_START) &&
                 next->version == e->version + 1)
            e->kept = true;
    }
    *last = kept;
    return !ask;
}
