/* tier_room.c - what may go: segments from the disk, objects from the object store.
 *
 *  1. A segment is dropped when all of it lies below `shared` and the disk's bound leaves no room
 *     for two further ones, or a write has found none: the oldest first, never more than needed.
 *  2. tier.json says so durably before the first file goes; then local_from rises; then the SSD
 *     trims. A crash in between leaves files that the next start removes.
 *  3. An object is deleted when nobody needs what is in it: it ends below the log's begin and below
 *     keep_from. tier.json may name it a little longer.
 *  4. An object that the list does not know was put by a process that ended before it could write
 *     it down, so it was never promised to anybody. It still goes only below keep_from: should the
 *     list be the one that is wrong, others may need the object. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "index/base/log_line.h"
#include "tiering/tier_internal.h"

#define SEGMENTS_FREE 2u

enum gw_status gwi_tier_save(struct gw_tier *tier, uint64_t local_from, uint64_t shared)
{
    struct tier_state state = {.local_from = local_from, .shared = shared, .used = tier->used};
    enum gw_status status = GW_E_NOMEM;
    pthread_mutex_lock(&tier->objects.lock);
    state.objects = malloc((tier->objects.count + 1) * sizeof *state.objects);
    if (state.objects) {
        state.count = tier->objects.count;
        if (state.count)
            memcpy(state.objects, tier->objects.at, state.count * sizeof *state.objects);
    }
    pthread_mutex_unlock(&tier->objects.lock);
    if (state.objects)
        status = gwi_tier_state_save(tier, &state);
    free(state.objects);
    if (status != GW_OK)
        gwi_tier_trouble(tier, true,
                         "tier.json cannot be written (%s): nothing more counts as uploaded, and "
                         "nothing is dropped from the disk",
                         gw_status_text(status));
    return status;
}

enum gw_status gwi_tier_begin_empty(struct gw_tier *tier, uint64_t first_write)
{
    struct tier_objects *o = &tier->objects;
    pthread_mutex_lock(&o->lock);
    uint64_t top = o->count ? o->at[o->count - 1].first + o->at[o->count - 1].bytes : 0;
    if (top > first_write)
        o->count = 0; /* they may be needed by others, and stay where they are */
    pthread_mutex_unlock(&o->lock);
    atomic_store_explicit(&tier->begin, first_write, memory_order_relaxed);
    /* Relaxed: nothing reads or uploads before the first write. */
    if (atomic_load_explicit(&tier->local_from, memory_order_relaxed) == 0 &&
        atomic_load_explicit(&tier->shared, memory_order_relaxed) == 0)
        return GW_OK;
    enum gw_status status = gwi_tier_save(tier, 0, 0);
    if (status != GW_OK)
        return status;
    atomic_store_explicit(&tier->local_from, 0, memory_order_relaxed);
    atomic_store_explicit(&tier->shared, 0, memory_order_relaxed);
    gwi_tier_count_remote(tier);
    return GW_OK;
}

void gwi_tier_count_remote(struct gw_tier *tier)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&tier->objects.lock);
    /* Relaxed: numbers. */
    uint64_t from = atomic_load_explicit(&tier->begin, memory_order_relaxed);
    uint64_t to = atomic_load_explicit(&tier->local_from, memory_order_relaxed);
    for (uint32_t i = gwi_tier_objects_place(&tier->objects, from); i < tier->objects.count; i++) {
        const struct tier_object *o = &tier->objects.at[i];
        uint64_t first = o->first > from ? o->first : from, end = o->first + o->bytes;
        end = end < to ? end : to;
        if (first >= end)
            break;
        bytes += end - first;
    }
    atomic_store_explicit(&tier->remote_bytes, bytes, memory_order_relaxed);
    pthread_mutex_unlock(&tier->objects.lock);
}

/* ---- segments ---- */

static bool is_there(struct gw_tier *tier, uint64_t number)
{
    struct ssd_segment *s = gwi_ssd_acquire(tier->ssd, number);
    if (s)
        gwi_ssd_release(tier->ssd, s);
    return s != NULL;
}

void gwi_tier_drop(struct gw_tier *tier)
{
    struct ssd *ssd = tier->ssd;
    uint64_t segment = tier->segment_bytes, file = ssd->g.file_bytes, limit = ssd->limit_bytes;
    /* Relaxed, all: numbers, and what only this thread writes. */
    bool full = atomic_load_explicit(&tier->full, memory_order_relaxed);
    uint64_t used = atomic_load_explicit(&ssd->used_bytes, memory_order_relaxed);
    uint64_t local = atomic_load_explicit(&tier->local_from, memory_order_relaxed), to = local;
    uint64_t begin = atomic_load_explicit(&tier->begin, memory_order_relaxed);
    uint64_t shared = atomic_load_explicit(&tier->shared, memory_order_relaxed);
    uint64_t wanted = SEGMENTS_FREE * file, freed = 0;
    uint32_t count = 0;
    bool short_of_room = limit && used + wanted > limit;
    if (!short_of_room && !full)
        return;
    for (uint64_t n = (begin > local ? begin : local) / segment; (n + 1) * segment <= shared; n++) {
        if (count > 0 && (!limit || used - freed + wanted <= limit))
            break;
        if (is_there(tier, n)) {
            freed += file;
            count++;
        }
        to = (n + 1) * segment;
    }
    if (count == 0)
        return;
    if (gwi_tier_save(tier, to, shared) != GW_OK)
        return;
    /* Before the SSD lets go of anything, which it does under its lock: dropped_below in tier.c. */
    atomic_store_explicit(&tier->local_from, to, memory_order_release);
    tier->ssd_face->trim(tier->ssd_face, gw_addr_of(to));
    gwi_tier_add(&tier->dropped_segments, count);
    atomic_store_explicit(&tier->full, false, memory_order_relaxed);
    atomic_store_explicit(&tier->progress_ns, gwi_tier_now(), memory_order_relaxed);
    gwi_tier_count_remote(tier);
}

/* ---- objects ---- */

static uint64_t needless_below(const struct gw_tier *tier)
{
    uint64_t begin = atomic_load_explicit(&tier->begin, memory_order_relaxed);
    uint64_t keep = atomic_load_explicit(&tier->keep_from, memory_order_relaxed);
    return begin < keep ? begin : keep;
}

/* Object store's thread. */
static void deleted(void *ctx, enum gw_status status, const uint8_t *data, size_t bytes)
{
    struct tier_delete *d = ctx;
    struct tier_uploader *up = &d->tier->up;
    (void)data;
    (void)bytes;
    pthread_mutex_lock(&up->lock);
    d->status = status;
    d->done = true;
    up->woken = true;
    pthread_cond_signal(&up->wakes);
    pthread_mutex_unlock(&up->lock);
}

static void take_deleted(struct gw_tier *tier, struct tier_delete *d)
{
    pthread_mutex_lock(&tier->up.lock);
    bool done = d->used && d->done;
    enum gw_status status = d->status;
    pthread_mutex_unlock(&tier->up.lock);
    if (!done)
        return;
    d->used = false;
    if (status == GW_OK || status == GW_NOT_FOUND) {
        gwi_tier_objects_remove(&tier->objects, d->object.first, d->object.incarnation);
        gwi_tier_add(&tier->deleted_objects, 1);
        tier->up.files_stale = true;
        return;
    }
    pthread_mutex_lock(&tier->objects.lock);
    for (uint32_t i = 0; i < tier->objects.count; i++)
        if (tier->objects.at[i].first == d->object.first)
            tier->objects.at[i].deleting = false;
    pthread_mutex_unlock(&tier->objects.lock);
    tier->up.delete_again_ns = gwi_tier_now() + GWI_TIER_AGAIN_NS;
}

/* The lowest object that may go and does not already. */
static bool next_needless(struct gw_tier *tier, uint64_t below, struct tier_object *out)
{
    bool found = false;
    pthread_mutex_lock(&tier->objects.lock);
    for (uint32_t i = 0; !found && i < tier->objects.count; i++) {
        struct tier_object *o = &tier->objects.at[i];
        if (o->first + o->bytes > below)
            break;
        if (o->deleting)
            continue;
        o->deleting = true;
        *out = *o;
        found = true;
    }
    pthread_mutex_unlock(&tier->objects.lock);
    return found;
}

static void not_deleting(struct gw_tier *tier, uint64_t first)
{
    pthread_mutex_lock(&tier->objects.lock);
    uint32_t place = gwi_tier_objects_place(&tier->objects, first);
    if (place < tier->objects.count)
        tier->objects.at[place].deleting = false;
    pthread_mutex_unlock(&tier->objects.lock);
}

void gwi_tier_delete(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    bool ours = atomic_load_explicit(&up->owner, memory_order_relaxed) == TIER_OWNER_US;
    uint64_t below = ours ? needless_below(tier) : 0;
    bool busy = false;
    for (uint32_t i = 0; i < GWI_TIER_DELETES_MAX; i++) {
        struct tier_delete *d = &up->deletes[i];
        take_deleted(tier, d);
        if (!d->used && below > 0 && gwi_tier_now() >= up->delete_again_ns &&
            next_needless(tier, below, &d->object)) {
            char name[GWI_TIER_NAME_BYTES];
            gwi_tier_object_name(tier->cluster, tier->store_id, d->object.first,
                                 d->object.incarnation, name);
            d->tier = tier;
            d->done = false;
            d->used = true;
            if (gw_blob_delete(tier->blob, name, 0, deleted, d) != GW_OK) {
                d->used = false;
                not_deleting(tier, d->object.first);
                up->delete_again_ns = gwi_tier_now() + GWI_TIER_AGAIN_NS;
            }
        }
        busy |= d->used;
    }
    if (up->files_stale && !busy) {
        up->files_stale = false; /* if it fails: only a list that names too much */
        enum gw_status saved =
            gwi_tier_save(tier, atomic_load_explicit(&tier->local_from, memory_order_relaxed),
                          atomic_load_explicit(&tier->shared, memory_order_relaxed));
        (void)saved;
    }
}

/* ---- what nobody knows ---- */

struct waiting {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool done;
    enum gw_status status;
    uint8_t *data; /* owned */
    size_t bytes;
};

/* Object store's thread. */
static void waited(void *ctx, enum gw_status status, const uint8_t *data, size_t bytes)
{
    struct waiting *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->status = status;
    w->bytes = 0;
    if (status == GW_OK && bytes > 0 && data) {
        w->data = malloc(bytes);
        if (w->data) {
            memcpy(w->data, data, bytes);
            w->bytes = bytes;
        } else {
            w->status = GW_E_NOMEM;
        }
    }
    w->done = true;
    pthread_cond_signal(&w->ended);
    pthread_mutex_unlock(&w->lock);
}

static enum gw_status wait_for(struct waiting *w, enum gw_status submitted)
{
    if (submitted != GW_OK)
        return submitted;
    pthread_mutex_lock(&w->lock);
    while (!w->done)
        pthread_cond_wait(&w->ended, &w->lock);
    w->done = false;
    enum gw_status status = w->status;
    pthread_mutex_unlock(&w->lock);
    return status;
}

/* Why this object may go; NULL: it stays. */
static const char *why_needless(struct gw_tier *tier, uint64_t first, uint32_t incarnation)
{
    struct tier_object o;
    uint64_t below = needless_below(tier);
    uint64_t keep = atomic_load_explicit(&tier->keep_from, memory_order_relaxed);
    uint64_t shared = atomic_load_explicit(&tier->shared, memory_order_acquire);
    bool known = gwi_tier_objects_find(&tier->objects, first, &o) && o.first == first &&
                 o.incarnation == incarnation;
    if (known)
        return o.first + o.bytes <= below ? "below all that anybody needs" : NULL;
    /* Above `shared` it may be on its way up right now. */
    if (incarnation > tier->incarnation || first >= shared)
        return NULL;
    bool unneeded =
        keep == UINT64_MAX || (keep > GW_OBJECT_EXTENT_MAX && first <= keep - GW_OBJECT_EXTENT_MAX);
    return unneeded ? "unknown: an earlier process ended before it had written it down" : NULL;
}

typedef enum gw_status (*name_fn)(void *ctx, struct waiting *w, const char *name, uint64_t bytes);

/* Calls fn for every name under our prefix until it fails. */
static enum gw_status each_name(struct gw_tier *tier, name_fn fn, void *ctx)
{
    char prefix[GWI_TIER_NAME_BYTES], after[GWI_TIER_NAME_BYTES] = "";
    struct waiting w = {.done = false};
    enum gw_status status = GW_OK;
    uint32_t names;
    gwi_tier_prefix(tier->cluster, tier->store_id, prefix);
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.ended, NULL);
    do {
        names = 0;
        status = wait_for(&w, gw_blob_list(tier->blob, prefix, after, 0, waited, &w));
        uint8_t *data = w.data;
        size_t end = w.bytes;
        w.data = NULL;
        for (size_t at = 0; status == GW_OK && end - at > 8; names++) {
            const char *name = (const char *)data + at + 8;
            size_t n = strnlen(name, end - at - 8);
            if (n == end - at - 8 || n >= sizeof after || n < strlen(prefix)) {
                status = GW_E_CORRUPT;
                break;
            }
            memcpy(after, name, n + 1);
            status = fn(ctx, &w, name, gw_load64(data + at));
            at += 8 + n + 1;
        }
        free(data);
    } while (status == GW_OK && names >= GWI_TIER_LIST_MAX);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.ended);
    return status;
}

struct collecting {
    struct gw_tier *tier;
    bool dry;
    gw_tier_collect_cb fn;
    void *ctx;
    size_t skip;
};

static enum gw_status collect_one(void *ctx, struct waiting *w, const char *name, uint64_t bytes)
{
    struct collecting *c = ctx;
    struct gw_tier *tier = c->tier;
    uint64_t first;
    uint32_t incarnation;
    if (!gwi_tier_object_name_read(name + c->skip, &first, &incarnation))
        return GW_OK;
    const char *why = why_needless(tier, first, incarnation);
    if (!why)
        return GW_OK;
    enum gw_status status = GW_OK;
    if (!c->dry) {
        status = wait_for(w, gw_blob_delete(tier->blob, name, 0, waited, w));
        if (status != GW_OK)
            return status;
        gwi_tier_objects_remove(&tier->objects, first, incarnation);
        gwi_tier_add(&tier->deleted_objects, 1);
    }
    if (c->fn)
        c->fn(c->ctx, name, bytes, why);
    return status;
}

static size_t prefix_bytes(const struct gw_tier *tier)
{
    char prefix[GWI_TIER_NAME_BYTES];
    gwi_tier_prefix(tier->cluster, tier->store_id, prefix);
    return strlen(prefix);
}

enum gw_status gw_tier_collect(struct gw_tier *tier, bool dry, gw_tier_collect_cb fn, void *ctx)
{
    struct collecting c = {
        .tier = tier, .dry = dry, .fn = fn, .ctx = ctx, .skip = prefix_bytes(tier)};
    if (!dry && (tier->read_only ||
                 atomic_load_explicit(&tier->up.owner, memory_order_relaxed) != TIER_OWNER_US))
        return GW_E_REFUSED;
    return each_name(tier, collect_one, &c);
}

static enum gw_status use_one(void *ctx, struct waiting *w, const char *name, uint64_t bytes)
{
    struct gw_tier *tier = ctx;
    uint64_t first, end;
    uint32_t incarnation;
    (void)w;
    (void)bytes;
    if (!gwi_tier_object_name_read(name + prefix_bytes(tier), &first, &incarnation) ||
        first > UINT64_MAX / 2)
        return GW_OK;
    end = (first / tier->segment_bytes + 1) * tier->segment_bytes; /* none crosses a segment */
    tier->used = end > tier->used ? end : tier->used;
    return GW_OK;
}

enum gw_status gwi_tier_look_for_used(struct gw_tier *tier)
{
    enum gw_status status = each_name(tier, use_one, tier);
    return status == GW_OK || status == GW_E_NOMEM ? status : GW_E_UNREACHABLE;
}
