/* tier_origin.c - which objects another server's log has: names are listed when first needed, from
 * the last known one on when an address lies above them, and from the start when one has gone.
 *
 *  1. An operation has its log listed again once from the last known name on, and once from the
 *     start: what then is not there is not there. The former is not enough, for several objects are
 *     put at a time: a later one may have been in a list from which an earlier one was missing.
 *  2. An address below all objects of a log that has some lies below that log's begin, or below
 *     what is still kept: GW_NOT_FOUND. One that lies between objects, above them all, or in a log
 *     without any, should be there: a wrong bucket must not look like keys that were never written.
 *     So it is GW_E_UNREACHABLE, and said.
 *  3. Sizes are not in the names: an object that is found may end below the address, which its head
 *     says (tier_read.c). Then the next one is looked at of those that may reach there. The newest
 *     incarnation is first, then the nearest: what a process put and died before it wrote it down
 *     lies beside what was put instead of it, and is of no later incarnation. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "tiering/tier_reader.h"

/* Object store's thread: takes a note. */
static void listed(void *ctx, enum gw_status status, const uint8_t *data, size_t bytes)
{
    struct tier_origin *o = ctx;
    struct tier_reader *r = o->tier->reader;
    o->status = status;
    if (status == GW_OK) {
        o->body = malloc(bytes ? bytes : 1);
        o->body_bytes = bytes;
        if (o->body && bytes)
            memcpy(o->body, data, bytes);
        if (!o->body)
            o->status = GW_E_NOMEM;
    }
    pthread_mutex_lock(&r->lock);
    o->next_answer = r->listed;
    r->listed = o;
    pthread_cond_signal(&r->wakes);
    pthread_mutex_unlock(&r->lock);
}

static enum gw_status ask(struct tier_origin *o, uint64_t deadline_ns)
{
    char prefix[GWI_TIER_NAME_BYTES], after[GWI_TIER_NAME_BYTES] = "";
    struct gw_tier *tier = o->tier;
    uint64_t log_id = atomic_load_explicit(&tier->origins[o->number], memory_order_relaxed);
    gwi_tier_prefix(tier->cluster, log_id, prefix);
    if (o->count > 0) {
        const struct tier_object *last = &o->objects[o->count - 1];
        gwi_tier_object_name(tier->cluster, log_id, last->first, last->incarnation, after);
    }
    uint64_t now = gwi_tier_now();
    return gw_blob_list(tier->blob, prefix, after, deadline_ns > now ? deadline_ns - now : 1,
                        listed, o);
}

static struct tier_origin *origin_of(struct gw_tier *tier, uint32_t number)
{
    struct tier_origin **at = &tier->reader->origins[number];
    if (!*at) {
        *at = calloc(1, sizeof **at);
        if (*at) {
            (*at)->tier = tier;
            (*at)->number = number;
            (*at)->waiting_end = &(*at)->waiting;
        }
    }
    return *at;
}

/* The operation waits for a list (`all`: from the start), which is asked for unless one is on its
 * way. */
static enum gw_status wait_for(struct tier_origin *o, struct tier_op *op, bool all)
{
    if (o->listing ? op->glance : !gwi_tier_may_ask(o->tier, op))
        return GW_WOULD_BLOCK; /* tier_read.c rule 7 */
    if (!o->listing) {
        uint32_t count = o->count;
        o->count = all ? 0 : count;
        enum gw_status status = ask(o, op->deadline_ns);
        if (status != GW_OK) {
            o->count = count;
            return status;
        }
        o->listing = true;
        /* From before it was asked for: rule 1. */
        op->listed = o->count == 0 ? TIER_LISTED_ALL : TIER_LISTED_MORE;
    }
    op->past = false;
    op->next = NULL;
    *o->waiting_end = op;
    o->waiting_end = &op->next;
    return GW_PENDING;
}

/* Does a come before b where both may hold the address (rule 3)? */
static bool is_before(const struct tier_object *a, const struct tier_object *b)
{
    return a->incarnation != b->incarnation ? a->incarnation > b->incarnation : a->first > b->first;
}

/* The next of objects[0, end) that may reach as far as the address. */
static const struct tier_object *next_of(const struct tier_origin *o, const struct tier_op *op,
                                         uint32_t end, uint64_t at)
{
    const struct tier_object *best = NULL;
    struct tier_object past = {.first = op->past_first, .incarnation = op->past_incarnation};
    for (uint32_t i = end; i-- > 0 && at - o->objects[i].first < GW_OBJECT_EXTENT_MAX;) {
        const struct tier_object *object = &o->objects[i];
        if ((!op->past || is_before(&past, object)) && (!best || is_before(object, best)))
            best = object;
    }
    return best;
}

/* Nothing that was listed holds the address. */
static enum gw_status not_listed(struct tier_origin *o, struct tier_op *op, uint32_t end,
                                 uint64_t at)
{
    bool more = op->listed == TIER_LISTED_NOTHING && o->count > 0 && end == o->count;
    uint64_t log_id = atomic_load_explicit(&o->tier->origins[o->number], memory_order_relaxed);
    if (op->listed != TIER_LISTED_ALL)
        return wait_for(o, op, !more);
    if (o->count > 0 && end == 0)
        return GW_NOT_FOUND; /* rule 2 */
    if (o->count > 0)
        gwi_tier_trouble(o->tier, false,
                         "no object of store %016" PRIx64 " holds address %#" PRIx64, log_id, at);
    else
        gwi_tier_trouble(o->tier, false,
                         "store %016" PRIx64 " has no objects under our prefix: wrong bucket or "
                         "prefix?",
                         log_id);
    return GW_E_UNREACHABLE;
}

enum gw_status gwi_tier_origin_find(struct gw_tier *tier, struct tier_op *op, uint64_t at,
                                    struct tier_object *out)
{
    struct tier_origin *o = origin_of(tier, op->origin);
    if (!o)
        return GW_E_NOMEM;
    if (!o->known || o->listing) /* half a list says wrong things about what lies behind it */
        return wait_for(o, op, true);
    uint32_t low = 0, high = o->count; /* the last that begins at or below: high - 1 */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (o->objects[middle].first <= at)
            low = middle + 1;
        else
            high = middle;
    }
    const struct tier_object *found = next_of(o, op, low, at);
    if (!found)
        return not_listed(o, op, low, at);
    *out = *found;
    return GW_OK;
}

void gwi_tier_origin_past(struct tier_op *op, const struct tier_key *object)
{
    op->past = true;
    op->past_first = object->first;
    op->past_incarnation = object->incarnation;
}

enum gw_status gwi_tier_origin_again(struct gw_tier *tier, struct tier_op *op)
{
    struct tier_origin *o = origin_of(tier, op->origin);
    if (!o)
        return GW_E_NOMEM;
    if (op->listed == TIER_LISTED_ALL && !o->listing)
        return GW_E_UNREACHABLE;
    return wait_for(o, op, true);
}

static enum gw_status add(struct tier_origin *o, struct tier_object object)
{
    if (o->count > 0 && o->objects[o->count - 1].first == object.first) {
        o->objects[o->count - 1] = object; /* names rise, so its incarnation is the higher one */
        return GW_OK;
    }
    if (o->count == o->room) {
        uint32_t room = o->room ? 2 * o->room : 256;
        struct tier_object *more = realloc(o->objects, room * sizeof *more);
        if (!more)
            return GW_E_NOMEM;
        o->objects = more;
        o->room = room;
    }
    o->objects[o->count++] = object;
    return GW_OK;
}

/* Takes the names; *names tells how many there were, those that are no objects included. */
static enum gw_status take_names(struct tier_origin *o, uint32_t *names)
{
    char prefix[GWI_TIER_NAME_BYTES];
    struct gw_tier *tier = o->tier;
    gwi_tier_prefix(tier->cluster,
                    atomic_load_explicit(&tier->origins[o->number], memory_order_relaxed), prefix);
    size_t skip = strlen(prefix);
    const uint8_t *at = o->body, *end = o->body + o->body_bytes;
    for (*names = 0; end - at > 8; (*names)++) {
        const char *name = (const char *)at + 8;
        size_t room = (size_t)(end - at) - 8, n = strnlen(name, room);
        if (n == room)
            return GW_E_CORRUPT;
        struct tier_object object = {0};
        if (n > skip && memcmp(name, prefix, skip) == 0 &&
            gwi_tier_object_name_read(name + skip, &object.first, &object.incarnation)) {
            enum gw_status status = add(o, object);
            if (status != GW_OK)
                return status;
        }
        at += 8 + n + 1;
    }
    return GW_OK;
}

void gwi_tier_origin_answer(struct gw_tier *tier, struct tier_origin *o)
{
    enum gw_status status = o->status;
    uint32_t names = 0, before = o->count;
    uint64_t deadline = 0;
    gwi_tier_got(tier, status);
    if (status == GW_OK)
        status = take_names(o, &names);
    free(o->body);
    o->body = NULL;
    for (const struct tier_op *op = o->waiting; op; op = op->next)
        deadline = op->deadline_ns > deadline ? op->deadline_ns : deadline;
    if (status == GW_OK && names >= GWI_TIER_LIST_MAX && o->count > before) {
        status = ask(o, deadline);
        if (status == GW_OK)
            return; /* and so on until there are fewer */
    }
    o->listing = false;
    struct tier_op *ops = o->waiting;
    o->waiting = NULL;
    o->waiting_end = &o->waiting;
    if (status == GW_OK) {
        o->known = true;
        gwi_tier_run_all(tier, ops);
        return;
    }
    o->known = false;
    o->count = 0;
    while (ops) {
        struct tier_op *op = ops;
        ops = op->next;
        gwi_tier_give_up(tier, op, status);
    }
}

void gwi_tier_origins_end(struct gw_tier *tier)
{
    for (uint32_t i = 0; tier->reader->origins && i < GWI_TIER_ORIGINS_MAX; i++) {
        struct tier_origin *o = tier->reader->origins[i];
        if (!o)
            continue;
        free(o->objects);
        free(o->body);
        free(o);
    }
    free(tier->reader->origins);
}
