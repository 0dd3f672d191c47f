/* tier_upload.c - the uploader: a thread that makes objects of extents, in the order of their
 * addresses.
 *
 *   next: find an extent that is whole --> sync --> read --> compress --> put (a few at a time)
 *                                                                           |
 *                       shared rises <-- tier.json says so <-- the lowest one is answered
 *
 *  1. All that exists below `next` is uploaded or on its way up. An extent that begins below what
 *     this process writes is as whole as it will ever be, and pages that its image lacks are zeros;
 *     above, all its pages must have been written, or all below what is hurried for. The first
 *     write of a process is its lowest (tier.h), so nothing comes to be behind `next`.
 *  2. Nothing is read before it was synced: what others can see is never more than what a crash of
 *     the machine leaves us. Reads go through the SSD tier and its checksums.
 *  3. `shared` rises only over objects that tier.json names, so a restarted process knows all that
 *     was ever promised, without a question. What was put and not written down is put again, under
 *     a name of this process: one that a dead process sent may still arrive, and must not take the
 *     place of what is promised meanwhile. It has the same bytes, or zeros for pages that nobody
 *     was told of; who reads prefers the newer incarnation (tier_origin.c).
 *  4. Before the first put, and again from time to time, owner.json must say that we are who we
 *     are. If it does not, nothing is put or deleted.
 *  5. While the object store is in trouble and nobody has anything to ask of it, it is asked for
 *     owner.json every now and then: else it would be said to be in trouble, and for what it was
 *     then, until somebody happens to need something that lies there only. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/log_line.h"
#include "tiering/tier_internal.h"

#define TICK_NS     100000000u
#define IO_PAUSE_NS 100000u
#define DAMAGED_NS  UINT64_C(10000000000)
#define STEPS_MAX   4096u

/* ---- our queue of the SSD ---- */

static void called_back(void *arg, enum gw_status status)
{
    struct tier_uploader *up = arg;
    up->calls_left--;
    if (status != GW_OK && up->call_status == GW_OK)
        up->call_status = status;
}

static void poll_ssd(struct gw_tier *tier)
{
    if (tier->ssd_face->poll(tier->ssd_face, tier->queues_count) == 0)
        nanosleep(&(struct timespec){.tv_nsec = IO_PAUSE_NS}, NULL);
}

static enum gw_status wait_ssd(struct gw_tier *tier)
{
    while (tier->up.calls_left > 0) /* even if we are to end: the room is in use */
        poll_ssd(tier);
    return tier->up.call_status;
}

static enum gw_status sync_ssd(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    up->call_status = GW_OK;
    up->calls_left = 1;
    enum gw_status status =
        tier->ssd_face->sync(tier->ssd_face, tier->queues_count, called_back, up);
    if (status == GW_PENDING)
        return wait_ssd(tier);
    up->calls_left = 0;
    return status;
}

/* Reads the pages of [first, end) into up->raw. */
static enum gw_status read_pages(struct gw_tier *tier, uint64_t first, uint64_t end, bool old)
{
    struct tier_uploader *up = &tier->up;
    enum gw_status status = GW_OK;
    up->call_status = GW_OK;
    up->calls_left = 0;
    for (uint64_t at = first; status == GW_OK && at < end;) {
        uint8_t *room = up->raw + (at - first);
        status = tier->ssd_face->read(tier->ssd_face, tier->queues_count, gw_addr_of(at), room,
                                      (uint32_t)tier->page_bytes, called_back, up);
        if (status == GW_WOULD_BLOCK) {
            poll_ssd(tier);
            status = GW_OK;
            continue;
        }
        if (status == GW_NOT_FOUND && (old || at == 0)) {
            memset(room, 0, tier->page_bytes); /* it does not exist, or was trimmed just now */
            status = GW_OK;
        } else if (status == GW_PENDING) {
            up->calls_left++;
            status = GW_OK;
        }
        at += tier->page_bytes;
    }
    enum gw_status read = wait_ssd(tier);
    return status != GW_OK ? status : read;
}

/* ---- which extent is next ---- */

enum extent_state { EXTENT_SKIP, EXTENT_WAIT, EXTENT_WHOLE };

struct extent {
    uint64_t first, end;
    uint32_t incarnation;
    bool old; /* of an earlier process, or nothing: it does not grow any more */
};

/* How many pages of [from, to), which lie in that segment, have been written. */
static uint64_t pages_written(const struct gw_tier *tier, const struct ssd_segment *s,
                              uint64_t from, uint64_t to)
{
    uint64_t count = 0;
    for (uint64_t at = from; at < to; at += tier->page_bytes) {
        /* Acquire: as for a read (ssd.c, rule 3). */
        uint8_t state = atomic_load_explicit(&s->pages[at % tier->segment_bytes >> tier->page_bits],
                                             memory_order_acquire);
        count += state == SSD_PAGE_WRITTEN || at == 0; /* address 0 is no page's */
    }
    return count;
}

static enum extent_state extent_at(struct gw_tier *tier, uint64_t next, struct extent *e)
{
    /* Acquire: what was adopted, and the pages' files. */
    uint64_t own = atomic_load_explicit(&tier->first_write, memory_order_acquire);
    uint64_t segment = tier->segment_bytes, start = next / segment * segment;
    uint64_t hurry = atomic_load_explicit(&tier->hurry_to, memory_order_relaxed);
    e->first = next;
    e->old = next < own;
    e->end = start + ((next - start) / tier->extent_bytes + 1) * tier->extent_bytes;
    e->end = e->end < start + segment ? e->end : start + segment;
    if (e->old) {
        if (next >= tier->image_end) { /* nothing lies between there and our own */
            e->end = own;
            return own == UINT64_MAX ? EXTENT_WAIT : EXTENT_SKIP;
        }
        e->end = e->end < tier->image_end ? e->end : tier->image_end;
    }
    struct ssd_segment *s = gwi_ssd_acquire(tier->ssd, next / segment);
    if (!s) {
        if (e->old && start + segment < tier->image_end)
            e->end = start + segment;
        return e->old ? EXTENT_SKIP : EXTENT_WAIT;
    }
    e->incarnation = tier->incarnation; /* rule 3 */
    uint64_t pages = (e->end - next) >> tier->page_bits,
             written = pages_written(tier, s, next, e->end);
    enum extent_state state = EXTENT_WAIT;
    if (e->old) {
        state = written ? EXTENT_WHOLE : EXTENT_SKIP;
    } else if (written == pages) {
        state = EXTENT_WHOLE;
    } else if (hurry > next && hurry < e->end &&
               pages_written(tier, s, next, hurry) == (hurry - next) >> tier->page_bits) {
        e->end = hurry;
        state = EXTENT_WHOLE;
    }
    gwi_ssd_release(tier->ssd, s);
    return state;
}

/* ---- puts ---- */

/* Object store's thread. */
static void put_done(void *ctx, enum gw_status status, const uint8_t *data, size_t bytes)
{
    struct tier_put *p = ctx;
    struct tier_uploader *up = &p->tier->up;
    (void)data;
    (void)bytes;
    pthread_mutex_lock(&up->lock);
    p->status = status;
    p->state = status == GW_OK ? TIER_PUT_DONE : TIER_PUT_FAILED;
    up->woken = true;
    pthread_cond_signal(&up->wakes);
    pthread_mutex_unlock(&up->lock);
}

static int put_state(struct gw_tier *tier, const struct tier_put *p)
{
    pthread_mutex_lock(&tier->up.lock);
    int state = p->state;
    pthread_mutex_unlock(&tier->up.lock);
    return state;
}

static void put_free(struct tier_put *p)
{
    free(p->object);
    *p = (struct tier_put){.state = TIER_PUT_FREE, .tier = p->tier};
}

static void put_send(struct gw_tier *tier, struct tier_put *p)
{
    char name[GWI_TIER_NAME_BYTES];
    gwi_tier_object_name(tier->cluster, tier->store_id, p->first, p->incarnation, name);
    pthread_mutex_lock(&tier->up.lock);
    p->state = TIER_PUT_SENT; /* before: the answer may be quicker than we */
    pthread_mutex_unlock(&tier->up.lock);
    enum gw_status status =
        gw_blob_put(tier->blob, name, p->object, p->object_bytes, 0, put_done, p);
    if (status == GW_OK)
        return;
    pthread_mutex_lock(&tier->up.lock);
    p->state = TIER_PUT_MADE;
    pthread_mutex_unlock(&tier->up.lock);
    p->again_ns = gwi_tier_now() + GWI_TIER_AGAIN_NS;
}

/* Reads, compresses and sends an extent. */
static enum gw_status make(struct gw_tier *tier, struct tier_put *p, const struct extent *e)
{
    struct tier_uploader *up = &tier->up;
    struct gw_object_head head = {.cluster = tier->cluster,
                                  .store_id = tier->store_id,
                                  .first_address = e->first,
                                  .raw_bytes = e->end - e->first,
                                  .frame_bytes = tier->frame_bytes,
                                  .incarnation = e->incarnation,
                                  .hash_seed_check = tier->hash_seed_check,
                                  .page_bits = (uint16_t)tier->page_bits};
    if (!up->raw)
        up->raw = tier->ssd->calls.memory(tier->ssd->calls.ctx, tier->extent_bytes);
    if (!up->raw)
        return GW_E_NOMEM;
    enum gw_status status = sync_ssd(tier);
    if (status == GW_OK)
        status = read_pages(tier, e->first, e->end, e->old);
    if (status != GW_OK)
        return status;
    size_t room = gw_object_bytes_max(head.raw_bytes, head.frame_bytes), bytes = 0;
    uint8_t *object = malloc(room);
    if (!object)
        return GW_E_NOMEM;
    status = gw_object_make(&head, up->raw, tier->level, object, room, &bytes);
    if (status != GW_OK) {
        free(object);
        return status;
    }
    uint8_t *less = realloc(object, bytes);
    *p = (struct tier_put){.state = TIER_PUT_MADE,
                           .tier = tier,
                           .first = e->first,
                           .bytes = head.raw_bytes,
                           .incarnation = e->incarnation,
                           .object = less ? less : object,
                           .object_bytes = bytes};
    put_send(tier, p);
    return GW_OK;
}

/* The one with the lowest address among those in use; NULL. */
static struct tier_put *lowest_put(struct gw_tier *tier)
{
    struct tier_put *lowest = NULL;
    for (uint32_t i = 0; i < GWI_TIER_PUTS_MAX; i++) {
        struct tier_put *p = &tier->up.puts[i];
        if (put_state(tier, p) != TIER_PUT_FREE && (!lowest || p->first < lowest->first))
            lowest = p;
    }
    return lowest;
}

static void share(struct gw_tier *tier, uint64_t below)
{
    /* Relaxed: ours. Release: with tier_shared. */
    if (below > atomic_load_explicit(&tier->shared, memory_order_relaxed))
        atomic_store_explicit(&tier->shared, below, memory_order_release);
}

/* Rule 3. False: tier.json could not be written. */
static bool take_put(struct gw_tier *tier, struct tier_put *p)
{
    struct tier_object object = {.first = p->first,
                                 .bytes = p->bytes,
                                 .incarnation = p->incarnation};
    uint64_t shared = atomic_load_explicit(&tier->shared, memory_order_relaxed);
    uint64_t end = p->first + p->bytes;
    if (!p->listed && gwi_tier_objects_add(&tier->objects, object) != GW_OK)
        return false;
    p->listed = true;
    if (gwi_tier_save(tier, atomic_load_explicit(&tier->local_from, memory_order_relaxed),
                      end > shared ? end : shared) != GW_OK)
        return false;
    gwi_tier_add(&tier->uploaded_raw_bytes, p->bytes);
    gwi_tier_add(&tier->uploaded_bytes, p->object_bytes);
    gwi_tier_add(&tier->objects_bytes, p->object_bytes);
    atomic_store_explicit(&tier->progress_ns, gwi_tier_now(), memory_order_relaxed);
    gwi_tier_trouble(tier, true, NULL);
    put_free(p);
    share(tier, end);
    return true;
}

/* Sends again what failed, takes what was answered, lowest first. */
static void see_puts(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    uint64_t now = gwi_tier_now();
    bool ours = up->owner == TIER_OWNER_US;
    for (uint32_t i = 0; i < GWI_TIER_PUTS_MAX; i++) {
        struct tier_put *p = &up->puts[i];
        int state = put_state(tier, p);
        if (state == TIER_PUT_FAILED) {
            struct gw_blob_stats blob;
            gw_blob_stats(tier->blob, &blob);
            gwi_tier_add(&tier->uploads_failed, 1);
            gwi_tier_trouble(tier, true,
                             "uploading fails: cold data stays on the disk, and writes are "
                             "refused when that is full (%.140s)",
                             blob.trouble[0] ? blob.trouble : gw_status_text(p->status));
            gw_debug("tiering.put", "first=%" PRIu64 " status=%s", p->first,
                     gw_status_name(p->status));
            p->state = state = TIER_PUT_MADE; /* nobody else has it now */
            p->again_ns = now + GWI_TIER_AGAIN_NS;
        }
        if (state == TIER_PUT_MADE && now >= p->again_ns && ours)
            put_send(tier, p);
    }
    struct tier_put *p;
    while (now >= up->again_ns && (p = lowest_put(tier)) && put_state(tier, p) == TIER_PUT_DONE)
        if (!take_put(tier, p))
            up->again_ns = now + GWI_TIER_AGAIN_NS;
}

/* ---- who we are ---- */

/* Object store's thread. */
static void asked(void *ctx, enum gw_status status, const uint8_t *data, size_t bytes)
{
    struct tier_ask *a = ctx;
    struct tier_uploader *up = &a->tier->up;
    pthread_mutex_lock(&up->lock);
    a->status = status;
    a->bytes = 0;
    if (status == GW_OK && data && bytes > 0) {
        a->data = malloc(bytes);
        if (a->data) {
            memcpy(a->data, data, bytes);
            a->bytes = bytes;
        } else {
            a->status = GW_E_NOMEM;
        }
    }
    a->done = true;
    up->woken = true;
    pthread_cond_signal(&up->wakes);
    pthread_mutex_unlock(&up->lock);
}

static void owner_set(struct gw_tier *tier, enum tier_owner owner)
{
    tier->up.owner = owner;
    tier->up.owner_checked_ns = gwi_tier_now();
}

static void owner_ask(struct gw_tier *tier, bool put)
{
    struct tier_uploader *up = &tier->up;
    char name[GWI_TIER_NAME_BYTES];
    gwi_tier_owner_name(tier, name);
    up->ask.tier = tier;
    up->ask.done = false;
    up->ask.under_way = true;
    up->owner_putting = put;
    size_t bytes = gwi_tier_owner_write(tier, up->owner_text, sizeof up->owner_text);
    enum gw_status status =
        put ? gw_blob_put(tier->blob, name, up->owner_text, bytes, 0, asked, &up->ask)
            : gw_blob_get(tier->blob, name, 0, 0, 0, asked, &up->ask);
    if (status == GW_OK)
        return;
    up->ask.under_way = false;
    up->again_ns = gwi_tier_now() + GWI_TIER_AGAIN_NS;
}

static void owner_found(struct gw_tier *tier, const uint8_t *data, size_t bytes)
{
    enum tier_owner owner = TIER_OWNER_OTHER;
    bool stale = false;
    char why[160] = "is not one of ours: the prefix is used for something else";
    if (gwi_tier_owner_read(tier, data, bytes, &owner, &stale, why, sizeof why) != GW_OK)
        owner = TIER_OWNER_OTHER;
    if (owner == TIER_OWNER_US && stale) {
        owner_ask(tier, true);
        return;
    }
    if (owner == TIER_OWNER_OTHER) {
        gwi_tier_trouble(tier, true, "nothing is uploaded: owner.json of store %016" PRIx64 " %s",
                         tier->store_id, why);
        if (tier->up.owner != TIER_OWNER_OTHER)
            gw_error("tiering.owner", "store=%016" PRIx64 " why=\"%s\" next=upload_nothing",
                     tier->store_id, why);
    } else if (tier->up.owner != TIER_OWNER_US) {
        gwi_tier_trouble(tier, true, NULL);
    }
    owner_set(tier, owner);
}

/* Rule 4: false: not now. */
static bool owner_is_us(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    struct tier_ask *a = &up->ask;
    if (a->under_way) {
        pthread_mutex_lock(&up->lock);
        bool done = a->done;
        pthread_mutex_unlock(&up->lock);
        if (!done)
            return false;
        uint8_t *data = a->data;
        a->data = NULL;
        a->under_way = false;
        if (a->status == GW_OK && up->owner_putting)
            owner_set(tier, TIER_OWNER_US);
        else if (a->status == GW_OK)
            owner_found(tier, data, a->bytes);
        else if (a->status == GW_NOT_FOUND && !up->owner_putting)
            owner_ask(tier, true);
        else {
            struct gw_blob_stats blob;
            gw_blob_stats(tier->blob, &blob);
            gwi_tier_trouble(tier, true,
                             "nothing is uploaded: the object store does not say whose store "
                             "%016" PRIx64 " is (%.140s)",
                             tier->store_id,
                             blob.trouble[0] ? blob.trouble : gw_status_text(a->status));
            up->owner = TIER_OWNER_UNKNOWN;
            up->again_ns = gwi_tier_now() + GWI_TIER_AGAIN_NS;
        }
        free(data);
    }
    uint64_t now = gwi_tier_now(); /* behind what was checked just now */
    if (!a->under_way && now >= up->again_ns &&
        (up->owner == TIER_OWNER_UNKNOWN || now - up->owner_checked_ns >= GWI_TIER_OWNER_AGE_NS))
        owner_ask(tier, false);
    return up->owner == TIER_OWNER_US && !a->under_way;
}

/* Rule 5, and how long it has been so. What it says is not looked at: that it answers is all. */
static void probe(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    struct tier_ask *a = &up->probe;
    struct gw_blob_stats blob;
    uint64_t now = gwi_tier_now();
    gw_blob_stats(tier->blob, &blob);
    if (blob.healthy)
        up->unwell_ns = 0;
    else if (!up->unwell_ns)
        up->unwell_ns = now;
    /* Relaxed, both: hints. */
    atomic_store_explicit(&tier->unwell, up->unwell_ns || up->owner == TIER_OWNER_OTHER,
                          memory_order_relaxed);
    atomic_store_explicit(&tier->ailing,
                          up->unwell_ns && now - up->unwell_ns >= tier->read_deadline_ns,
                          memory_order_relaxed);
    if (a->under_way) {
        pthread_mutex_lock(&up->lock);
        bool done = a->done;
        pthread_mutex_unlock(&up->lock);
        if (!done)
            return;
        free(a->data);
        a->data = NULL;
        a->under_way = false;
    }
    if (blob.healthy || blob.queued + blob.under_way > 0 || now < up->probe_ns)
        return;
    char name[GWI_TIER_NAME_BYTES];
    gwi_tier_owner_name(tier, name);
    up->probe_ns = now + GWI_TIER_PROBE_NS;
    a->tier = tier;
    a->done = false;
    a->under_way = gw_blob_get(tier->blob, name, 0, 0, 0, asked, a) == GW_OK; /* ours alone */
}

/* ---- the thread ---- */

static void start(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    /* Acquire: what was adopted. */
    bool adopted = atomic_load_explicit(&tier->adopted, memory_order_acquire);
    uint64_t first = atomic_load_explicit(&tier->first_write, memory_order_acquire);
    if (!adopted && first == UINT64_MAX)
        return;
    uint64_t shared = atomic_load_explicit(&tier->shared, memory_order_relaxed);
    const struct tier_objects *o = &tier->objects; /* nobody changes it yet */
    uint64_t top = o->count ? o->at[o->count - 1].first + o->at[o->count - 1].bytes : 0;
    up->next = !adopted ? first : top > shared ? top : shared; /* they were put in order */
    up->started = true;
}

static struct tier_put *free_put(struct gw_tier *tier)
{
    for (uint32_t i = 0; i < GWI_TIER_PUTS_MAX; i++)
        if (put_state(tier, &tier->up.puts[i]) == TIER_PUT_FREE)
            return &tier->up.puts[i];
    return NULL;
}

static void cannot_make(struct gw_tier *tier, const struct extent *e, enum gw_status status)
{
    bool damaged = status == GW_E_CORRUPT || status == GW_E_IO;
    if (status == GW_NOT_FOUND || status == GW_WOULD_BLOCK)
        return; /* trimmed meanwhile; next is looked for again */
    gwi_tier_trouble(tier, true,
                     "the extent at address %#" PRIx64 " cannot be uploaded (%s): nothing above it "
                     "is, and the disk fills up",
                     e->first, gw_status_text(status));
    gw_error("tiering.extent", "first=%" PRIu64 " status=%s next=try_again", e->first,
             gw_status_name(status));
    tier->up.again_ns = gwi_tier_now() + (damaged ? DAMAGED_NS : GWI_TIER_AGAIN_NS);
}

/* Goes over what does not exist, and begins what is whole. True: come again at once. */
static bool advance(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    uint64_t begin = atomic_load_explicit(&tier->begin, memory_order_relaxed);
    struct extent e;
    uint64_t end = atomic_load_explicit(&tier->written_end, memory_order_relaxed);
    end = end > tier->image_end ? end : tier->image_end;
    begin = (begin < end ? begin : end) & ~(tier->page_bytes - 1);
    up->next = up->next > begin ? up->next : begin;
    enum extent_state state = EXTENT_SKIP;
    for (uint32_t i = 0; i < STEPS_MAX && (state = extent_at(tier, up->next, &e)) == EXTENT_SKIP;
         i++)
        up->next = e.end;
    bool more = state == EXTENT_SKIP;
    if (state == EXTENT_WHOLE && gwi_tier_now() >= up->again_ns && owner_is_us(tier)) {
        struct tier_put *p = free_put(tier);
        enum gw_status status = p ? make(tier, p, &e) : GW_WOULD_BLOCK;
        if (p && status == GW_OK) {
            up->next = e.end;
            more = true;
        } else if (p) {
            cannot_make(tier, &e, status);
        }
    }
    struct tier_put *lowest = lowest_put(tier);
    share(tier, lowest ? lowest->first : up->next);
    return more;
}

static bool step(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    if (tier->read_only)
        return false;
    probe(tier);
    if (!up->started)
        start(tier);
    if (!up->started)
        return false;
    if (up->ask.under_way || up->owner != TIER_OWNER_US) /* else when something is to be put */
        (void)owner_is_us(tier);
    see_puts(tier);
    bool more = advance(tier);
    gwi_tier_drop(tier);
    gwi_tier_delete(tier);
    return more;
}

static void *uploader_main(void *arg)
{
    struct gw_tier *tier = arg;
    struct tier_uploader *up = &tier->up;
    pthread_mutex_lock(&up->lock);
    while (!up->ends) {
        up->woken = false;
        pthread_mutex_unlock(&up->lock);
        bool more = step(tier);
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_mutex_lock(&up->lock);
        while (!more && !up->ends && !up->woken)
            if (pthread_cond_timedwait(&up->wakes, &up->lock, &until) != 0)
                break;
    }
    pthread_mutex_unlock(&up->lock);
    return NULL;
}

void gwi_tier_uploader_wake(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    pthread_mutex_lock(&up->lock);
    up->woken = true;
    pthread_cond_signal(&up->wakes);
    pthread_mutex_unlock(&up->lock);
}

enum gw_status gwi_tier_uploader_begin(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&up->lock, NULL);
    pthread_cond_init(&up->wakes, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (uint32_t i = 0; i < GWI_TIER_PUTS_MAX; i++)
        up->puts[i].tier = tier;
    if (pthread_create(&up->thread, NULL, uploader_main, tier) != 0) {
        gwi_tier_uploader_end(tier);
        return GW_E_NOMEM;
    }
    up->runs = true;
    return GW_OK;
}

void gwi_tier_uploader_stop(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    if (!up->runs)
        return;
    pthread_mutex_lock(&up->lock);
    up->ends = true;
    pthread_cond_signal(&up->wakes);
    pthread_mutex_unlock(&up->lock);
    pthread_join(up->thread, NULL);
    up->runs = false;
}

void gwi_tier_uploader_end(struct gw_tier *tier)
{
    struct tier_uploader *up = &tier->up;
    for (uint32_t i = 0; i < GWI_TIER_PUTS_MAX; i++)
        free(up->puts[i].object);
    free(up->ask.data);
    free(up->probe.data);
    free(up->raw);
    pthread_mutex_destroy(&up->lock);
    pthread_cond_destroy(&up->wakes);
}
