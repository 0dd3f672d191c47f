/* The object store's client: the queue of calls and the one thread that works on it.
 *
 * Rules:
 *  1. A call is in exactly one list from its submission to its callback: incoming (under the lock),
 *     ready gets, ready puts, waiting, under way.
 *  2. Cold reads come before uploads, for somebody waits for them; but one put may always go, so
 *     that a stream of reads does not stop the uploading, and puts never take all requests.
 *  3. Each failure in a row halves the number of requests that may be under way, each answer adds
 *     one; after several in a row there is a pause before the next try of whatever call. So an
 *     object store that is away or asks to slow down sees a probe now and then instead of a storm
 *     made of as many calls as are queued.
 *  4. A get is hedged once, only while none of its tries has been answered, only from a budget (a
 *     tenth of the gets): a store that became slow as a whole is not to be asked twice as much.
 */
#include "tiering/blob.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/base/rand.h"
#include "tiering/blob_internal.h"

#define TIMEOUT_NS      UINT64_C(5000000000)
#define BACKOFF_NS      UINT64_C(50000000)
#define BACKOFF_MAX_NS  UINT64_C(5000000000)
#define REQUESTS        16u
#define PAUSE_AFTER     4u /* failures in a row */
#define PAUSE_MAX_NS    UINT64_C(1000000000)
#define HALVE_NS        UINT64_C(100000000) /* failures this close together are one sign */
#define SAMPLES         64u
#define SAMPLES_LEAST   8u
#define HEDGE_MEDIANS   4u
#define HEDGE_MIN_NS    UINT64_C(20000000)
#define HEDGE_UNSURE_NS UINT64_C(1000000000) /* no median yet */
#define SILENCE_NS      UINT64_C(100000000)  /* at a deadline: worth to be told */
#define HEDGE_CREDIT    10u                  /* one hedge, in tenths; each get earns one */
#define HEDGE_SAVED     (8u * HEDGE_CREDIT)

struct gw_blob {
    struct gwi_blob_backend *backend;
    uint64_t timeout_ns, backoff_ns;
    pthread_t thread;

    pthread_mutex_t lock;
    struct gwi_blob_calls incoming; /* under the lock, as all down to stats */
    uint32_t calls;                 /* not ended yet */
    bool closing;
    struct gw_blob_stats stats;

    /* the thread's */
    struct gwi_blob_calls gets, puts, waiting, under_way; /* gets: all but puts */
    uint32_t tries, put_tries;
    uint64_t look_ns; /* nothing in gets, puts and waiting wants anything before */
    struct gw_rand rand;
    uint32_t allowed; /* rule 3 */
    uint32_t failures_in_row;
    uint64_t halved_ns, pause_until_ns;
    uint64_t samples[SAMPLES]; /* from the begin of a get to the first byte of its answer */
    uint32_t samples_count, samples_at;
    uint64_t hedge_ns;
    uint32_t hedge_credit;
    bool said_unhealthy;

    /* Written by the thread, read by any (relaxed: a number for people). */
    _Atomic uint32_t in_flight;
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static uint64_t soonest(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

const char *gwi_blob_kind_name(enum gwi_blob_kind kind)
{
    static const char *const names[] = {"put", "get", "delete", "list"};
    return names[kind];
}

static void list_add(struct gwi_blob_calls *list, struct gwi_blob_call *call)
{
    GW_ASSERT(!call->in);
    call->in = list;
    call->next = NULL;
    call->prev = list->tail;
    if (list->tail)
        list->tail->next = call;
    else
        list->head = call;
    list->tail = call;
    list->count++;
}

static void list_add_first(struct gwi_blob_calls *list, struct gwi_blob_call *call)
{
    GW_ASSERT(!call->in);
    call->in = list;
    call->prev = NULL;
    call->next = list->head;
    if (list->head)
        list->head->prev = call;
    else
        list->tail = call;
    list->head = call;
    list->count++;
}

static void list_take(struct gwi_blob_call *call)
{
    struct gwi_blob_calls *list = call->in;
    if (!list)
        return;
    *(call->prev ? &call->prev->next : &list->head) = call->next;
    *(call->next ? &call->next->prev : &list->tail) = call->prev;
    list->count--;
    call->in = NULL;
}

static void call_free(struct gwi_blob_call *call)
{
    free(call->token);
    free(call->found);
    free(call);
}

static struct gwi_blob_calls *ready_list(struct gw_blob *blob, const struct gwi_blob_call *call)
{
    return call->kind == GWI_BLOB_PUT ? &blob->puts : &blob->gets;
}

/* ---- what was found by a list ---- */

enum gw_status gwi_blob_found(struct gwi_blob_call *call, const char *name, uint64_t size)
{
    size_t bytes = strlen(name) + 1;
    GW_ASSERT(bytes <= GW_BLOB_NAME_MAX + 1);
    if (call->found_count > 0 && strcmp(name, call->found_last) <= 0)
        return GW_E_CORRUPT;
    if (call->found_count == GWI_BLOB_LIST_MAX)
        return GW_END;
    if (call->found_room - call->found_bytes < 8 + bytes) {
        size_t room = call->found_room ? call->found_room * 2 : 4096;
        uint8_t *found = realloc(call->found, room);
        if (!found)
            return GW_E_NOMEM;
        call->found = found;
        call->found_room = room;
    }
    gw_store64(call->found + call->found_bytes, size);
    memcpy(call->found + call->found_bytes + 8, name, bytes);
    memcpy(call->found_last, name, bytes);
    call->found_bytes += 8 + bytes;
    call->found_count++;
    return GW_OK;
}

/* ---- health and statistics ---- */

static void note_trouble(struct gw_blob *blob, const char *text)
{
    pthread_mutex_lock(&blob->lock);
    if (blob->stats.healthy)
        blob->stats.unhealthy_since_ms = gw_clock_wall_ms(gw_clock_system());
    blob->stats.healthy = false;
    blob->stats.clock_ahead_s = blob->backend->clock_ahead_s;
    snprintf(blob->stats.trouble, sizeof blob->stats.trouble, "%s", text);
    pthread_mutex_unlock(&blob->lock);
}

static void note_success(struct gw_blob *blob)
{
    blob->failures_in_row = 0;
    blob->pause_until_ns = 0;
    if (blob->allowed < blob->backend->requests_max)
        blob->allowed++;
    pthread_mutex_lock(&blob->lock);
    blob->stats.healthy = true;
    blob->stats.unhealthy_since_ms = 0;
    pthread_mutex_unlock(&blob->lock);
    if (blob->said_unhealthy) {
        blob->said_unhealthy = false;
        gw_info("blob_answers", "host=%s", blob->backend->host);
    }
}

static uint64_t jittered(struct gw_blob *blob, uint64_t ns)
{
    return ns / 2 + gw_rand_below(&blob->rand, ns + 1);
}

static uint64_t doubled(uint64_t first, uint32_t times, uint64_t most)
{
    return times >= 32 || first >= most >> times ? most : first << times;
}

/* Rule 3. */
static void note_failure(struct gw_blob *blob, uint64_t now, const char *text)
{
    note_trouble(blob, text);
    if (now - blob->halved_ns >= HALVE_NS) {
        blob->allowed = blob->allowed > 1 ? blob->allowed / 2 : 1;
        blob->halved_ns = now;
    }
    if (++blob->failures_in_row < PAUSE_AFTER)
        return;
    blob->pause_until_ns =
        now + jittered(blob, doubled(blob->backoff_ns, blob->failures_in_row - PAUSE_AFTER,
                                     PAUSE_MAX_NS));
    if (!blob->said_unhealthy) { /* once, until it answers again: the rest is in the statistics */
        blob->said_unhealthy = true;
        gw_warn("blob_trouble", "host=%s next=retried trouble=\"%s\"", blob->backend->host, text);
    }
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void note_answer_time(struct gw_blob *blob, uint64_t ns)
{
    blob->samples[blob->samples_at++ % SAMPLES] = ns;
    if (blob->samples_count < SAMPLES)
        blob->samples_count++;
    if (blob->samples_at % SAMPLES_LEAST != 0)
        return;
    uint64_t sorted[SAMPLES];
    memcpy(sorted, blob->samples, sizeof sorted);
    qsort(sorted, blob->samples_count, sizeof *sorted, by_size);
    uint64_t delay = sorted[blob->samples_count / 2] * HEDGE_MEDIANS;
    blob->hedge_ns = soonest(delay > HEDGE_MIN_NS ? delay : HEDGE_MIN_NS, blob->timeout_ns / 2);
}

static void count_bytes(struct gw_blob *blob, uint64_t up, uint64_t down)
{
    pthread_mutex_lock(&blob->lock);
    blob->stats.bytes_up += up;
    blob->stats.bytes_down += down;
    pthread_mutex_unlock(&blob->lock);
}

static void try_gone(struct gw_blob *blob, struct gwi_blob_try *try_)
{
    struct gwi_blob_call *call = try_->call;
    if (call->one == try_)
        call->one = NULL;
    else
        call->two = NULL;
    blob->tries--;
    if (call->kind == GWI_BLOB_PUT)
        blob->put_tries--;
}

static void try_cancel(struct gw_blob *blob, struct gwi_blob_try *try_)
{
    uint64_t up = 0, down = 0;
    if (!try_)
        return;
    try_gone(blob, try_);
    blob->backend->ops->cancel(blob->backend, try_, &up, &down);
    count_bytes(blob, up, down);
}

/* ---- the end of a call ---- */

static void complete(struct gw_blob *blob, struct gwi_blob_call *call, enum gw_status status,
                     const uint8_t *data, size_t bytes)
{
    list_take(call);
    try_cancel(blob, call->one);
    try_cancel(blob, call->two);
    pthread_mutex_lock(&blob->lock);
    blob->calls--;
    if (gw_failed(status))
        blob->stats.failures++;
    pthread_mutex_unlock(&blob->lock);
    call->cb(call->ctx, status, data, bytes);
    call_free(call);
}

static enum gw_status failure_status(enum gwi_blob_outcome last)
{
    switch (last) {
    case GWI_BLOB_REFUSED:
    case GWI_BLOB_HOPELESS:
        return GW_E_REFUSED;
    case GWI_BLOB_FULL:
        return GW_E_LIMIT;
    default:
        return GW_E_TIMEOUT;
    }
}

/* After a failure: WAITING, or the end. */
static void retry(struct gw_blob *blob, struct gwi_blob_call *call, uint64_t now)
{
    uint64_t left = call->deadline_ns > now ? call->deadline_ns - now : 0;
    uint64_t delay;
    list_take(call);
    if (call->last == GWI_BLOB_AGAIN)
        delay = 0;
    else if (call->last == GWI_BLOB_PASSING)
        delay = jittered(blob, doubled(blob->backoff_ns, call->failed, BACKOFF_MAX_NS));
    else
        delay = GW_BLOB_HOPELESS_NS + gw_rand_below(&blob->rand, GW_BLOB_HOPELESS_NS / 2);
    call->failed++;
    if (delay >= left) {
        /* What may pass is tried some more times in the rest, rather than given up early. */
        if (call->last != GWI_BLOB_PASSING || left < 2 * blob->backoff_ns) {
            complete(blob, call, failure_status(call->last), NULL, 0);
            return;
        }
        delay = left / 2;
    }
    pthread_mutex_lock(&blob->lock);
    blob->stats.retries++;
    pthread_mutex_unlock(&blob->lock);
    call->ready_ns = now + delay;
    blob->look_ns = soonest(blob->look_ns, call->ready_ns);
    list_add(&blob->waiting, call);
}

void gwi_blob_ended(struct gw_blob *blob, struct gwi_blob_try *try_,
                    const struct gwi_blob_result *result)
{
    struct gwi_blob_call *call = try_->call;
    bool hedge = call->two == try_;
    uint64_t now = now_ns();
    try_gone(blob, try_);
    count_bytes(blob, result->up, result->down);
    if (call->kind == GWI_BLOB_GET && try_->answered_ns)
        note_answer_time(blob, try_->answered_ns - try_->began_ns);

    switch (result->outcome) {
    case GWI_BLOB_DONE:
    case GWI_BLOB_ABSENT:
    case GWI_BLOB_MORE:
        note_success(blob);
        break;
    case GWI_BLOB_AGAIN:
        note_trouble(blob, result->text);
        gw_warn("blob_trouble", "host=%s next=retried trouble=\"%s\"", blob->backend->host,
                result->text);
        break;
    default:
        note_failure(blob, now, result->text);
        break;
    }

    if (result->outcome == GWI_BLOB_MORE) {
        list_take(call);
        call->failed = 0; /* the next page is another request */
        list_add_first(ready_list(blob, call), call);
    } else if (result->outcome == GWI_BLOB_DONE || result->outcome == GWI_BLOB_ABSENT) {
        if (hedge) {
            pthread_mutex_lock(&blob->lock);
            blob->stats.hedges_won++;
            pthread_mutex_unlock(&blob->lock);
        }
        bool listed = call->kind == GWI_BLOB_LIST;
        complete(blob, call, result->outcome == GWI_BLOB_DONE ? GW_OK : GW_NOT_FOUND,
                 listed ? call->found : result->data, listed ? call->found_bytes : result->bytes);
    } else {
        call->last = result->outcome;
        if (!call->one && !call->two) /* else the other one goes on */
            retry(blob, call, now);
    }
}

/* ---- the thread ---- */

/* Ready and waiting calls: those whose deadline has passed, those that may be tried again. */
static void look(struct gw_blob *blob, uint64_t now)
{
    struct gwi_blob_calls *const lists[] = {&blob->gets, &blob->puts, &blob->waiting};
    if (now < blob->look_ns)
        return;
    blob->look_ns = UINT64_MAX;
    for (uint32_t i = 0; i < 3; i++) {
        for (struct gwi_blob_call *call = lists[i]->head, *next; call; call = next) {
            next = call->next;
            if (call->deadline_ns <= now) {
                complete(blob, call, failure_status(call->last), NULL, 0);
                continue;
            }
            blob->look_ns = soonest(blob->look_ns, call->deadline_ns);
            if (lists[i] != &blob->waiting)
                continue;
            if (call->ready_ns > now) {
                blob->look_ns = soonest(blob->look_ns, call->ready_ns);
            } else {
                list_take(call);
                list_add(ready_list(blob, call), call);
            }
        }
    }
}

static bool begin(struct gw_blob *blob, struct gwi_blob_call *call, bool hedge, uint64_t now)
{
    struct gwi_blob_try *try_;
    bool fresh = hedge || call->last == GWI_BLOB_PASSING;
    if (blob->backend->ops->begin(blob->backend, call, fresh, &try_) != GW_OK)
        return false;
    try_->call = call;
    try_->began_ns = try_->moved_ns = now;
    try_->answered_ns = 0;
    *(hedge ? &call->two : &call->one) = try_;
    blob->tries++;
    if (call->kind == GWI_BLOB_PUT)
        blob->put_tries++;
    else if (call->kind == GWI_BLOB_GET && !hedge && blob->hedge_credit < HEDGE_SAVED)
        blob->hedge_credit++;
    pthread_mutex_lock(&blob->lock);
    struct gw_blob_stats *s = &blob->stats;
    ++*(call->kind == GWI_BLOB_PUT      ? &s->puts
        : call->kind == GWI_BLOB_GET    ? &s->gets
        : call->kind == GWI_BLOB_DELETE ? &s->deletes
                                        : &s->lists);
    s->hedges += hedge;
    pthread_mutex_unlock(&blob->lock);
    return true;
}

/* Rule 2. */
static struct gwi_blob_call *choose(struct gw_blob *blob)
{
    bool put_may = blob->puts.head && blob->put_tries < blob->backend->puts_max;
    if (put_may && (blob->put_tries == 0 || !blob->gets.head) &&
        (blob->allowed > 1 || !blob->gets.head))
        return blob->puts.head;
    return blob->gets.head;
}

static void send(struct gw_blob *blob, uint64_t now)
{
    struct gwi_blob_call *call;
    while (now >= blob->pause_until_ns && blob->tries < blob->allowed &&
           (call = choose(blob)) != NULL) {
        list_take(call);
        if (begin(blob, call, false, now)) {
            list_add(&blob->under_way, call);
        } else {
            note_failure(blob, now, "out of memory for a request to the object store");
            call->last = GWI_BLOB_PASSING;
            retry(blob, call, now);
        }
    }
}

static void failed_silently(struct gw_blob *blob, struct gwi_blob_call *call, uint64_t now,
                            uint64_t waited_ns)
{
    char text[GW_BLOB_TEXT_BYTES];
    snprintf(text, sizeof text,
             "%.60s does not answer: %s of %.40s: no byte moved for %u ms; is it up and reachable?",
             blob->backend->host, gwi_blob_kind_name(call->kind), call->name,
             (unsigned)(waited_ns / 1000000));
    note_failure(blob, now, text);
}

/* Calls under way: deadlines, tries that stand still, gets that want a hedge. Gives when it must
 * look again. */
static uint64_t watch(struct gw_blob *blob, uint64_t now)
{
    uint64_t again = UINT64_MAX;
    for (struct gwi_blob_call *call = blob->under_way.head, *next; call; call = next) {
        next = call->next;
        if (call->deadline_ns <= now) {
            if (call->one && !call->one->answered_ns && now - call->one->moved_ns >= SILENCE_NS)
                failed_silently(blob, call, now, now - call->one->moved_ns);
            complete(blob, call, failure_status(call->last), NULL, 0);
            continue;
        }
        struct gwi_blob_try *const tries[] = {call->one, call->two};
        bool answered = false;
        for (uint32_t i = 0; i < 2; i++) {
            if (!tries[i])
                continue;
            if (now >= tries[i]->moved_ns + blob->timeout_ns) {
                failed_silently(blob, call, now, now - tries[i]->moved_ns);
                call->last = GWI_BLOB_PASSING;
                try_cancel(blob, tries[i]);
                continue;
            }
            answered |= tries[i]->answered_ns != 0;
            again = soonest(again, tries[i]->moved_ns + blob->timeout_ns);
        }
        if (!call->one && !call->two) {
            retry(blob, call, now);
            continue;
        }
        again = soonest(again, call->deadline_ns);
        if (!blob->backend->hedges || call->kind != GWI_BLOB_GET || answered || call->two ||
            !call->one)
            continue;
        uint64_t hedge_ns = call->one->began_ns + blob->hedge_ns;
        if (now < hedge_ns) {
            again = soonest(again, hedge_ns);
        } else if (blob->hedge_credit >= HEDGE_CREDIT && blob->tries < blob->allowed) {
            if (begin(blob, call, true, now))
                blob->hedge_credit -= HEDGE_CREDIT;
        }
    }
    return again;
}

static bool take_incoming(struct gw_blob *blob)
{
    pthread_mutex_lock(&blob->lock);
    bool closing = blob->closing;
    struct gwi_blob_call *call;
    while ((call = blob->incoming.head) != NULL) {
        list_take(call);
        blob->look_ns = soonest(blob->look_ns, call->deadline_ns);
        list_add(ready_list(blob, call), call);
    }
    pthread_mutex_unlock(&blob->lock);
    return !closing;
}

static void *work(void *arg)
{
    struct gw_blob *blob = arg;
    while (take_incoming(blob)) {
        uint64_t now = now_ns();
        look(blob, now);
        uint64_t again = watch(blob, now);
        send(blob, now);
        again = soonest(again, blob->look_ns);
        atomic_store_explicit(&blob->in_flight, blob->under_way.count, memory_order_relaxed);
        if ((blob->gets.head || blob->puts.head) && blob->pause_until_ns > now)
            again = soonest(again, blob->pause_until_ns);
        if (blob->under_way.head) /* just begun ones have timers of their own */
            again = soonest(again, now + soonest(blob->hedge_ns, blob->timeout_ns));
        now = now_ns();
        blob->backend->ops->run(blob->backend, again > now ? again - now : 0);
    }
    struct gwi_blob_calls *const lists[] = {&blob->under_way, &blob->gets, &blob->puts,
                                            &blob->waiting};
    for (uint32_t i = 0; i < 4; i++)
        while (lists[i]->head)
            complete(blob, lists[i]->head, GW_E_CANCELLED, NULL, 0);
    return NULL;
}

/* ---- calls ---- */

bool gwi_blob_name_valid(const char *name)
{
    size_t n = strnlen(name, GW_BLOB_NAME_MAX + 1);
    if (n == 0 || n > GW_BLOB_NAME_MAX || name[n - 1] == '/')
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = name[i];
        bool first = i == 0 || name[i - 1] == '/';
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '_' || c == '-';
        if (!letter && ((c != '.' && c != '/') || first))
            return false;
    }
    return true;
}

/* The begin of a name: "" and "a/" too. */
static bool prefix_valid(const char *prefix)
{
    char name[GW_BLOB_NAME_MAX + 2];
    size_t n = strnlen(prefix, GW_BLOB_NAME_MAX);
    if (n == GW_BLOB_NAME_MAX)
        return false;
    memcpy(name, prefix, n);
    memcpy(name + n, "x", 2);
    return gwi_blob_name_valid(name);
}

static enum gw_status submit(struct gw_blob *blob, const struct gwi_blob_call *wish,
                             uint64_t deadline_ns)
{
    size_t name_bytes = strlen(wish->name) + 1;
    size_t after_bytes = wish->after ? strlen(wish->after) + 1 : 0;
    struct gwi_blob_call *call = malloc(sizeof *call + name_bytes + after_bytes);
    if (!call)
        return GW_E_NOMEM;
    *call = *wish;
    char *text = (char *)(call + 1);
    call->name = memcpy(text, wish->name, name_bytes);
    if (wish->after)
        call->after = memcpy(text + name_bytes, wish->after, after_bytes);
    uint64_t now = now_ns();
    deadline_ns = deadline_ns ? deadline_ns : GW_BLOB_DEADLINE_NS;
    call->deadline_ns = deadline_ns > UINT64_MAX - now ? UINT64_MAX : now + deadline_ns;
    if (blob->backend->ops->prepare)
        blob->backend->ops->prepare(blob->backend, call);

    pthread_mutex_lock(&blob->lock);
    bool refused = blob->closing || blob->calls >= GW_BLOB_QUEUE_MAX;
    bool first = !blob->incoming.head;
    if (!refused) {
        blob->calls++;
        list_add(&blob->incoming, call);
    }
    pthread_mutex_unlock(&blob->lock);
    if (refused) {
        call_free(call);
        return GW_WOULD_BLOCK;
    }
    if (first)
        blob->backend->ops->wake(blob->backend);
    return GW_OK;
}

enum gw_status gw_blob_put(struct gw_blob *blob, const char *name, const void *data, size_t bytes,
                           uint64_t deadline_ns, gw_blob_cb cb, void *ctx)
{
    if (!gwi_blob_name_valid(name) || bytes > GWI_BLOB_BODY_MAX)
        return GW_E_INVALID;
    struct gwi_blob_call wish = {
        .kind = GWI_BLOB_PUT, .name = name, .data = data, .bytes = bytes, .cb = cb, .ctx = ctx};
    return submit(blob, &wish, deadline_ns);
}

enum gw_status gw_blob_get(struct gw_blob *blob, const char *name, uint64_t offset, size_t bytes,
                           uint64_t deadline_ns, gw_blob_cb cb, void *ctx)
{
    if (!gwi_blob_name_valid(name) || bytes > GWI_BLOB_BODY_MAX || offset > INT64_MAX - bytes ||
        (bytes == 0 && offset > 0))
        return GW_E_INVALID;
    struct gwi_blob_call wish = {
        .kind = GWI_BLOB_GET, .name = name, .offset = offset, .bytes = bytes, .cb = cb, .ctx = ctx};
    return submit(blob, &wish, deadline_ns);
}

enum gw_status gw_blob_delete(struct gw_blob *blob, const char *name, uint64_t deadline_ns,
                              gw_blob_cb cb, void *ctx)
{
    if (!gwi_blob_name_valid(name))
        return GW_E_INVALID;
    struct gwi_blob_call wish = {.kind = GWI_BLOB_DELETE, .name = name, .cb = cb, .ctx = ctx};
    return submit(blob, &wish, deadline_ns);
}

enum gw_status gw_blob_list(struct gw_blob *blob, const char *prefix, const char *after,
                            uint64_t deadline_ns, gw_blob_cb cb, void *ctx)
{
    if (!prefix_valid(prefix) || (after[0] && !gwi_blob_name_valid(after)))
        return GW_E_INVALID;
    struct gwi_blob_call wish = {
        .kind = GWI_BLOB_LIST, .name = prefix, .after = after, .cb = cb, .ctx = ctx};
    return submit(blob, &wish, deadline_ns);
}

void gw_blob_stats(struct gw_blob *blob, struct gw_blob_stats *out)
{
    pthread_mutex_lock(&blob->lock);
    *out = blob->stats;
    out->under_way = atomic_load_explicit(&blob->in_flight, memory_order_relaxed);
    out->queued = blob->calls > out->under_way ? blob->calls - out->under_way : 0;
    pthread_mutex_unlock(&blob->lock);
}

/* ---- open and close ---- */

static enum gw_status open_backend(const struct gw_blob_options *options,
                                   struct gwi_blob_backend **out, char *error, size_t error_bytes)
{
    const char *url = options->url;
    if (strlen(url) > GW_BLOB_URL_MAX) {
        snprintf(error, error_bytes, "the URL of the object store is longer than %u bytes",
                 GW_BLOB_URL_MAX);
        return GW_E_INVALID;
    }
    if (options->requests_max > GW_BLOB_REQUESTS_MAX) {
        snprintf(error, error_bytes, "at most %u requests may be under way at an object store",
                 GW_BLOB_REQUESTS_MAX);
        return GW_E_INVALID;
    }
    if (strncmp(url, "dir:", 4) == 0)
        return gwi_blob_dir_open(url + 4, options, out, error, error_bytes);
    if (strncmp(url, "s3://", 5) == 0)
        return gwi_blob_s3_open(url + 5, options, out, error, error_bytes);
    snprintf(error, error_bytes,
             "'%.100s' names no object store: dir:PATH or s3://BUCKET[/PREFIX] is wanted", url);
    return GW_E_INVALID;
}

enum gw_status gw_blob_open(const struct gw_blob_options *options, struct gw_blob **out,
                            char *error, size_t error_bytes)
{
    struct gw_blob_options wish = *options;
    if (!wish.request_timeout_ns)
        wish.request_timeout_ns = TIMEOUT_NS;
    if (!wish.backoff_first_ns)
        wish.backoff_first_ns = BACKOFF_NS;
    if (!wish.requests_max)
        wish.requests_max = REQUESTS;
    struct gw_blob *blob = calloc(1, sizeof *blob);
    if (!blob) {
        snprintf(error, error_bytes, "out of memory for the object store");
        return GW_E_NOMEM;
    }
    enum gw_status st = open_backend(&wish, &blob->backend, error, error_bytes);
    if (st != GW_OK)
        goto fail_backend;
    blob->backend->blob = blob;
    blob->timeout_ns = wish.request_timeout_ns;
    blob->backoff_ns = soonest(wish.backoff_first_ns, BACKOFF_MAX_NS);
    blob->allowed = blob->backend->requests_max;
    blob->hedge_ns = soonest(HEDGE_UNSURE_NS, blob->timeout_ns / 2);
    blob->hedge_credit = HEDGE_SAVED / 2;
    blob->look_ns = UINT64_MAX;
    blob->stats.healthy = true;
    gw_rand_init(&blob->rand, gw_rand_system_seed());
    pthread_mutex_init(&blob->lock, NULL);

    /* Signals are the other threads' business; SIGPIPE of a connection cut nobody's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&blob->thread, NULL, work, blob);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        snprintf(error, error_bytes, "no thread for the object store: %s", strerror(rc));
        st = GW_E_NOMEM;
        goto fail_thread;
    }
    *out = blob;
    return GW_OK;

fail_thread:
    pthread_mutex_destroy(&blob->lock);
    blob->backend->ops->close(blob->backend);
fail_backend:
    free(blob);
    return st;
}

void gw_blob_close(struct gw_blob *blob)
{
    if (!blob)
        return;
    pthread_mutex_lock(&blob->lock);
    blob->closing = true;
    pthread_mutex_unlock(&blob->lock);
    blob->backend->ops->wake(blob->backend);
    pthread_join(blob->thread, NULL);
    GW_ASSERT(blob->calls == 0 && blob->tries == 0);
    blob->backend->ops->close(blob->backend);
    pthread_mutex_destroy(&blob->lock);
    free(blob);
}
