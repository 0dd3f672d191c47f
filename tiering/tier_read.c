/* tier_read.c - the reader: a thread that sees reads through which need the object store.
 *
 *   an operation --> object (tier_objects.c, tier_origin.c) --> head --> frame --> its bytes
 *                         ^                                               |
 *                         `----------- the next frame or object ---------´
 *
 *  1. Each step looks into the cache; what is not there is fetched, and the operation waits with
 *     it. When it has come the operation goes on from where it stopped and looks again: nothing is
 *     remembered in between that could have gone.
 *  2. A head or a frame is fetched once, however many operations wait for it.
 *  3. A head must say that it is the object that was meant: cluster, log, address, incarnation and
 *     hash seed; a frame must have the checksums that the head tells. Wrong bytes are fetched again
 *     a few times, for they may have gone wrong on the way; then they are GW_E_CORRUPT.
 *  4. An operation is answered by its deadline: a fetch has that of the first operation that
 *     waited; who came later tries again in the time that he has left.
 *  5. Callbacks of the object store copy bytes and leave a note. Decompression is done here.
 *  6. A read of several frames asks for some of them at once: a page is not worth as many round
 *     trips as it has frames.
 *  7. While the object store is ailing and gives nothing, a read takes what is in the cache and is
 *     given up soon, but not at once, for some try again at once. With the usual deadline reads
 *     would stand in line, behind as many as may be under way, until their clients give up. One in
 *     a while tries all the same, and is waited for by nobody else; what comes ends it for all. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/log_line.h"
#include "tiering/tier_reader.h"

#define LATER_NS     2000000u
#define SAY_AGAIN_NS UINT64_C(1000000000)
#define AHEAD_MAX    16u /* frames */

static uint64_t log_id_of(const struct gw_tier *tier, uint32_t origin)
{
    return atomic_load_explicit(&tier->origins[origin], memory_order_relaxed);
}

static void name_of(const struct gw_tier *tier, const struct tier_key *key,
                    char name[GWI_TIER_NAME_BYTES])
{
    gwi_tier_object_name(tier->cluster, log_id_of(tier, key->origin), key->first, key->incarnation,
                         name);
}

/* ---- the end of an operation ---- */

/* Whether the log has been trimmed above it while it was on its way: then its object may go. */
static bool trimmed(const struct gw_tier *tier, uint32_t origin, uint64_t at)
{
    return origin == GWI_TIER_OWN && at < atomic_load_explicit(&tier->begin, memory_order_relaxed);
}

static void finish(struct gw_tier *tier, struct tier_op *op, enum gw_status status)
{
    if (gw_failed(status) && !op->foreign && trimmed(tier, op->origin, op->at))
        status = GW_NOT_FOUND;
    if (status == GW_OK && !op->waited)
        gwi_tier_add(&tier->cache_hits, 1);
    if (status == GW_OK)
        gwi_tier_add(&tier->cold_bytes, op->bytes);
    else if (status == GW_E_CORRUPT)
        gwi_tier_add(&tier->cold_corrupt, 1);
    else if (gw_failed(status))
        gwi_tier_add(&tier->cold_failed, 1);
    gwi_tier_deliver(op, status);
}

void gwi_tier_later(struct gw_tier *tier, struct tier_op *op)
{
    op->next = NULL;
    *tier->reader->later_end = op;
    tier->reader->later_end = &op->next;
}

void gwi_tier_give_up(struct gw_tier *tier, struct tier_op *op, enum gw_status status)
{
    bool again = status == GW_E_TIMEOUT || status == GW_WOULD_BLOCK;
    if (again && gwi_tier_now() < op->deadline_ns)
        gwi_tier_later(tier, op);
    else if (status == GW_E_CORRUPT || status == GW_E_NOMEM || status == GW_NOT_FOUND)
        finish(tier, op, status);
    else
        finish(tier, op, GW_E_UNREACHABLE);
}

/* ---- fetching ---- */

bool gwi_tier_may_ask(struct gw_tier *tier, struct tier_op *op)
{
    if (!op->glance)
        return true;
    uint64_t now = gwi_tier_now(), wait_ns = tier->read_deadline_ns;
    if (gwi_tier_gives_nothing(tier)) {
        if (now - tier->reader->trial_ns < GWI_TIER_TRIALS_NS)
            return false;
        tier->reader->trial_ns = now;
        wait_ns = wait_ns < GWI_TIER_TRIAL_NS ? wait_ns : GWI_TIER_TRIAL_NS;
    }
    op->glance = false;
    op->deadline_ns = now + wait_ns;
    return true;
}

void gwi_tier_got(struct gw_tier *tier, enum gw_status status)
{
    atomic_store_explicit(&tier->gets_fail, status != GW_OK && status != GW_NOT_FOUND,
                          memory_order_relaxed); /* a hint */
}

/* Object store's thread: takes a note. */
static void fetched(void *ctx, enum gw_status status, const uint8_t *data, size_t bytes)
{
    struct tier_cached *c = ctx;
    struct tier_reader *r = c->tier->reader;
    c->status = status;
    if (status == GW_OK) {
        c->body = malloc(bytes ? bytes : 1);
        c->body_bytes = bytes;
        if (c->body && bytes)
            memcpy(c->body, data, bytes);
        if (!c->body)
            c->status = GW_E_NOMEM;
    }
    pthread_mutex_lock(&r->lock);
    c->next_answer = r->answers;
    r->answers = c;
    pthread_cond_signal(&r->wakes);
    pthread_mutex_unlock(&r->lock);
}

static enum gw_status fetch(struct gw_tier *tier, struct tier_cached *c)
{
    char name[GWI_TIER_NAME_BYTES];
    name_of(tier, &c->key, name);
    uint64_t now = gwi_tier_now();
    return gw_blob_get(tier->blob, name, c->offset, c->asked,
                       c->deadline_ns > now ? c->deadline_ns - now : 1, fetched, c);
}

static void wait_for(struct tier_cached *c, struct tier_op *op)
{
    op->waited = true;
    op->next = NULL;
    *c->waiting_end = op;
    c->waiting_end = &op->next;
}

/* Begins to fetch what is neither here nor on its way. */
static enum gw_status begin_fetch(struct gw_tier *tier, const struct tier_key *key,
                                  const struct tier_cached *head, uint64_t deadline_ns,
                                  struct tier_cached **out)
{
    struct tier_cached *c = gwi_tier_cache_make(tier, key);
    if (!c)
        return GW_E_NOMEM;
    c->asked = GWI_TIER_HEAD_FIRST;
    if (head) {
        c->of = head->head;
        c->frame = head->frames[key->part - 1];
        c->offset = c->frame.offset;
        c->asked = c->frame.bytes;
    }
    c->deadline_ns = deadline_ns;
    enum gw_status status = fetch(tier, c);
    if (status != GW_OK)
        gwi_tier_cache_drop(tier, c);
    else
        *out = c;
    return status;
}

/* The operation has been given up, or waits. */
static void fetch_for(struct gw_tier *tier, struct tier_op *op, const struct tier_key *key,
                      const struct tier_cached *head)
{
    struct tier_cached *c;
    enum gw_status status = gwi_tier_may_ask(tier, op)
                                ? begin_fetch(tier, key, head, op->deadline_ns, &c)
                                : GW_WOULD_BLOCK;
    if (status == GW_OK)
        wait_for(c, op);
    else
        gwi_tier_give_up(tier, op, status);
}

/* Waits with others for what is on its way. */
static void join(struct gw_tier *tier, struct tier_cached *c, struct tier_op *op)
{
    if (op->glance)
        gwi_tier_give_up(tier, op, GW_WOULD_BLOCK); /* that may take longer than it has */
    else
        wait_for(c, op);
}

/* Rule 6: asks for the frames that the operation needs behind this one, of the same object. */
static void fetch_ahead(struct gw_tier *tier, const struct tier_op *op,
                        const struct tier_cached *head, uint32_t number)
{
    uint64_t last = op->at + op->bytes - 1 - head->key.first;
    uint32_t end = head->head.frames,
             fit = (uint32_t)(tier->cache_bytes / 2 / head->head.frame_bytes);
    if (last / head->head.frame_bytes + 1 < end)
        end = (uint32_t)(last / head->head.frame_bytes) + 1;
    if (end - number > AHEAD_MAX)
        end = number + AHEAD_MAX;
    if (end - number > fit)
        end = number + fit;
    struct tier_key key = head->key;
    for (uint32_t i = number + 1; i < end; i++) {
        struct tier_cached *c;
        key.part = i + 1;
        if (!gwi_tier_cache_find(tier->reader, &key) &&
            begin_fetch(tier, &key, head, op->deadline_ns, &c) != GW_OK)
            return; /* it is asked for again when it is needed */
    }
}

static enum gw_status take_head(struct gw_tier *tier, struct tier_cached *c)
{
    struct gw_object_head head;
    enum gw_status status = gw_object_read_head(c->body, c->body_bytes, &head, NULL, 0);
    if (status != GW_OK)
        return status;
    if (head.cluster != tier->cluster || head.store_id != log_id_of(tier, c->key.origin) ||
        head.first_address != c->key.first || head.incarnation != c->key.incarnation ||
        head.hash_seed_check != tier->hash_seed_check)
        return GW_E_REFUSED;
    size_t wanted = gw_object_head_bytes(head.raw_bytes, head.frame_bytes);
    if (c->body_bytes < wanted) {
        if (c->asked >= wanted)
            return GW_E_CORRUPT; /* it ends before its own index does */
        c->asked = wanted;
        return GW_RETRY;
    }
    c->frames = malloc(head.frames * sizeof *c->frames);
    if (!c->frames)
        return GW_E_NOMEM;
    status = gw_object_read_head(c->body, c->body_bytes, &c->head, c->frames, head.frames);
    if (status != GW_OK) {
        free(c->frames);
        c->frames = NULL;
        c->head.frames = 0;
    }
    return status;
}

static enum gw_status take_frame(struct tier_cached *c)
{
    size_t bytes = 0;
    c->raw = malloc(c->of.frame_bytes);
    if (!c->raw)
        return GW_E_NOMEM;
    enum gw_status status = gw_object_read_frame(&c->of, &c->frame, c->key.part - 1, c->body,
                                                 c->body_bytes, c->raw, &bytes);
    c->raw_bytes = (uint32_t)bytes;
    if (status != GW_OK) {
        free(c->raw);
        c->raw = NULL;
        c->raw_bytes = 0;
    }
    return status;
}

static void say(struct gw_tier *tier, const struct tier_key *key, enum gw_status status)
{
    char name[GWI_TIER_NAME_BYTES];
    name_of(tier, key, name);
    const char *what = status == GW_E_CORRUPT   ? "has wrong bytes: reads of it fail"
                       : status == GW_E_VERSION ? "has another version's format"
                       : status == GW_E_REFUSED
                           ? "is another cluster's or store's object: the prefix is used twice"
                           : "is missing: wrong bucket or prefix, or somebody has deleted it";
    /* Only this thread writes it. Once until it is quiet: every read of it comes by here. */
    bool again = tier->reader->says && gwi_tier_now() - tier->trouble_read_ns < SAY_AGAIN_NS;
    gwi_tier_trouble(tier, false, "object %s %s", name, what);
    tier->reader->said = *key;
    tier->reader->says = true;
    tier->reader->says_corrupt = status == GW_E_CORRUPT;
    if (!again)
        gw_warn("tiering.object", "name=%s why=\"%s\" status=%s", name, what,
                gw_status_name(status));
}

/* It could be read: if it was said that it cannot, that is over. Of wrong bytes only for that part.
 */
static void unsay(struct gw_tier *tier, const struct tier_key *key)
{
    struct tier_reader *r = tier->reader;
    if (!r->says || key->origin != r->said.origin || key->first != r->said.first ||
        key->incarnation != r->said.incarnation || (r->says_corrupt && key->part != r->said.part))
        return;
    r->says = false;
    gwi_tier_trouble(tier, false, NULL);
}

/* What was fetched did not do: the operations that waited hear of it, or have it listed again. */
static void refuse_all(struct gw_tier *tier, struct tier_cached *c, enum gw_status status)
{
    struct tier_key key = c->key;
    struct tier_op *ops = c->waiting;
    /* Access denied is nothing that this object could help: the object store's trouble says it. */
    bool denied = status == GW_E_REFUSED && c->status == GW_E_REFUSED;
    gwi_tier_cache_drop(tier, c);
    bool said = false;
    while (ops) {
        struct tier_op *op = ops;
        ops = op->next;
        enum gw_status answer = status == GW_NOT_FOUND ? GW_E_UNREACHABLE
                                : status == GW_E_VERSION || status == GW_E_REFUSED
                                    ? GW_E_UNREACHABLE
                                    : status;
        if (status == GW_NOT_FOUND && key.origin != GWI_TIER_OWN) {
            answer = gwi_tier_origin_again(tier, op);
            if (answer == GW_PENDING)
                continue;
        }
        bool wrong = status == GW_NOT_FOUND || status == GW_E_CORRUPT || status == GW_E_VERSION ||
                     (status == GW_E_REFUSED && !denied);
        if (wrong && !said && !trimmed(tier, key.origin, key.first))
            say(tier, &key, status);
        said |= wrong;
        gwi_tier_give_up(tier, op, answer);
    }
}

/* What a frame has of what the operation wants next. */
static void copy_from(const struct tier_cached *c, struct tier_op *op)
{
    uint64_t begin = c->key.first + (uint64_t)(c->key.part - 1) * c->of.frame_bytes;
    uint64_t at = op->at + op->done;
    GW_ASSERT(at >= begin && at - begin < c->raw_bytes);
    uint32_t from = (uint32_t)(at - begin), n = c->raw_bytes - from, left = op->bytes - op->done;
    n = n < left ? n : left;
    memcpy(op->room + op->done, c->raw + from, n);
    op->done += n;
    op->past = false;
}

static void answer(struct gw_tier *tier, struct tier_cached *c)
{
    enum gw_status status = c->status;
    gwi_tier_got(tier, status);
    if (status == GW_OK)
        status = c->key.part == GWI_TIER_HEAD ? take_head(tier, c) : take_frame(c);
    free(c->body);
    c->body = NULL;
    bool once_more = status == GW_RETRY;
    if (status == GW_E_CORRUPT && ++c->tries < GWI_TIER_TRIES)
        once_more = true; /* rule 3 */
    if (once_more) {
        enum gw_status sent = fetch(tier, c);
        if (sent == GW_OK)
            return;
        status = sent;
    }
    if (status != GW_OK) {
        refuse_all(tier, c, status);
        return;
    }
    struct tier_op *ops = c->waiting;
    c->waiting = NULL;
    unsay(tier, &c->key);
    gwi_tier_cache_ready(tier, c);
    /* Each fetch brings those who waited further, before anything can push it out again: the head
     * that led to a frame may be gone by now. */
    for (struct tier_op *op = ops; op && c->key.part != GWI_TIER_HEAD; op = op->next)
        copy_from(c, op);
    gwi_tier_run_all(tier, ops);
    gwi_tier_cache_trim(tier);
}

/* ---- an operation ---- */

/* The object with the byte at `at`, and its head. NULL: the operation has ended, or waits. */
static struct tier_cached *head_of(struct gw_tier *tier, struct tier_op *op, uint64_t at)
{
    struct tier_object object;
    if (op->origin == GWI_TIER_OWN) {
        if (!gwi_tier_objects_find(&tier->objects, at, &object)) {
            finish(tier, op, GW_NOT_FOUND); /* a hole, or deleted: our own list is exact */
            return NULL;
        }
    } else {
        enum gw_status status = gwi_tier_origin_find(tier, op, at, &object);
        if (status == GW_PENDING)
            return NULL;
        if (status != GW_OK) {
            gwi_tier_give_up(tier, op, status);
            return NULL;
        }
    }
    struct tier_key key = {.first = object.first,
                           .origin = op->origin,
                           .incarnation = object.incarnation,
                           .part = GWI_TIER_HEAD};
    struct tier_cached *c = gwi_tier_cache_find(tier->reader, &key);
    if (!c)
        fetch_for(tier, op, &key, NULL);
    else if (!c->ready)
        join(tier, c, op);
    return c && c->ready ? c : NULL;
}

void gwi_tier_run(struct gw_tier *tier, struct tier_op *op)
{
    while (op->done < op->bytes) {
        uint64_t at = op->at + op->done;
        struct tier_cached *head = head_of(tier, op, at);
        if (!head)
            return;
        uint64_t in_object = at - head->key.first;
        if (in_object >= head->head.raw_bytes) {
            if (op->origin != GWI_TIER_OWN) {
                gwi_tier_origin_past(op, &head->key);
                continue;
            }
            /* Our list and the head contradict one another. */
            gwi_tier_give_up(tier, op, GW_E_CORRUPT);
            return;
        }
        uint32_t number = (uint32_t)(in_object / head->head.frame_bytes);
        struct tier_key key = head->key;
        key.part = number + 1;
        struct tier_cached *c = gwi_tier_cache_find(tier->reader, &key);
        if (!c || !c->ready) {
            if (!op->glance)
                fetch_ahead(tier, op, head, number);
            if (c)
                join(tier, c, op);
            else
                fetch_for(tier, op, &key, head);
            return;
        }
        copy_from(c, op);
    }
    finish(tier, op, GW_OK);
}

void gwi_tier_run_all(struct gw_tier *tier, struct tier_op *ops)
{
    while (ops) {
        struct tier_op *op = ops;
        ops = op->next;
        gwi_tier_run(tier, op);
    }
}

/* ---- the thread ---- */

static struct tier_op *later_take(struct tier_reader *r)
{
    struct tier_op *ops = r->later;
    r->later = NULL;
    r->later_end = &r->later;
    return ops;
}

static void wait_some(struct tier_reader *r)
{
    struct timespec until;
    if (!r->later) {
        pthread_cond_wait(&r->wakes, &r->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LATER_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_cond_timedwait(&r->wakes, &r->lock, &until);
}

static void *reader_main(void *arg)
{
    struct gw_tier *tier = arg;
    struct tier_reader *r = tier->reader;
    pthread_mutex_lock(&r->lock);
    while (!r->ends) {
        if (!r->ops && !r->answers && !r->listed)
            wait_some(r);
        struct tier_op *ops = r->ops;
        struct tier_cached *answers = r->answers;
        struct tier_origin *lists = r->listed;
        r->ops = NULL;
        r->ops_end = &r->ops;
        r->answers = NULL;
        r->listed = NULL;
        bool ends = r->ends;
        pthread_mutex_unlock(&r->lock);
        uint64_t now = r->later ? gwi_tier_now() : 0;
        struct tier_op *later = NULL;
        if (r->later && now >= r->later_ns) { /* not whenever something else wakes us */
            later = later_take(r);
            r->later_ns = now + LATER_NS;
        }
        while (!ends && answers) {
            struct tier_cached *next = answers->next_answer;
            answer(tier, answers);
            answers = next;
        }
        while (!ends && lists) {
            struct tier_origin *next = lists->next_answer;
            gwi_tier_origin_answer(tier, lists);
            lists = next;
        }
        if (!ends) {
            gwi_tier_run_all(tier, later);
            while (ops) { /* those that need not wait found all in the cache */
                struct tier_op *op = ops;
                ops = op->next;
                gwi_tier_run(tier, op);
            }
            gwi_tier_cache_trim(tier);
        }
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

void gwi_tier_reader_take(struct gw_tier *tier, struct tier_op *op)
{
    struct tier_reader *r = tier->reader;
    op->next = NULL;
    pthread_mutex_lock(&r->lock);
    *r->ops_end = op;
    r->ops_end = &op->next;
    pthread_cond_signal(&r->wakes);
    pthread_mutex_unlock(&r->lock);
}

enum gw_status gwi_tier_reader_begin(struct gw_tier *tier)
{
    struct tier_reader *r = calloc(1, sizeof *r);
    if (!r)
        return GW_E_NOMEM;
    tier->reader = r;
    r->ops_end = &r->ops;
    r->later_end = &r->later;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->wakes, &monotonic);
    pthread_condattr_destroy(&monotonic);
    r->origins = calloc(GWI_TIER_ORIGINS_MAX, sizeof *r->origins);
    if (!r->origins || pthread_create(&r->thread, NULL, reader_main, tier) != 0)
        return GW_E_NOMEM;
    r->runs = true;
    return GW_OK;
}

void gwi_tier_reader_stop(struct gw_tier *tier)
{
    struct tier_reader *r = tier->reader;
    if (!r || !r->runs)
        return;
    pthread_mutex_lock(&r->lock);
    r->ends = true;
    pthread_cond_signal(&r->wakes);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    r->runs = false;
}

void gwi_tier_reader_end(struct gw_tier *tier)
{
    struct tier_reader *r = tier->reader;
    if (!r)
        return;
    gwi_tier_cache_end(tier);
    gwi_tier_origins_end(tier);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->wakes);
    free(r);
    tier->reader = NULL;
}
