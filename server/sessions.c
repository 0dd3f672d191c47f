/* sessions.c - a chained table of sessions; see sessions.h. */
#include "server/sessions.h"

#include <stdlib.h>

#include "index/base/rand.h"
#include "server/session_image.h"

#define BUCKETS 4096u

bool gwi_sessions_init(struct gwi_sessions *s)
{
    s->bucket = calloc(BUCKETS, sizeof *s->bucket);
    s->buckets = BUCKETS;
    s->count = 0;
    return s->bucket != NULL;
}

static void session_free(struct gwi_session *session)
{
    gw_applied_destroy(session->applied);
    free(session);
}

void gwi_sessions_fini(struct gwi_sessions *s)
{
    for (uint32_t i = 0; s->bucket && i < s->buckets; i++)
        for (struct gwi_session *x = s->bucket[i], *next; x; x = next) {
            next = x->chain;
            session_free(x);
        }
    free(s->bucket);
    s->bucket = NULL;
    gwi_session_image_close(s);
}

/* Ids are random in their high bits and count up in their low ones. */
static struct gwi_session **bucket_of(const struct gwi_sessions *s, uint64_t id)
{
    return &s->bucket[(id * 0x9e3779b97f4a7c15ull >> 40) & (s->buckets - 1)];
}

struct gwi_session *gwi_sessions_find(const struct gwi_sessions *s, uint64_t id)
{
    struct gwi_session *x = *bucket_of(s, id);
    while (x && x->id != id)
        x = x->chain;
    return x;
}

void gwi_sessions_remove(struct gwi_sessions *s, struct gwi_session *session)
{
    gwi_session_image_take_of(s, session);
    struct gwi_session **b = bucket_of(s, session->id);
    while (*b != session)
        b = &(*b)->chain;
    *b = session->chain;
    s->count--;
    s->granted -= session->granted;
    session_free(session);
}

void gwi_sessions_raise_forgotten(_Atomic uint64_t *forgotten)
{
    uint64_t now = atomic_load_explicit(forgotten, memory_order_relaxed), next;
    do
        next = (gw_rand_system_seed() & ~(uint64_t)UINT32_MAX) | (uint32_t)(now + 1);
    while (!atomic_compare_exchange_weak_explicit(forgotten, &now, next, memory_order_release,
                                                  memory_order_relaxed));
}

/* Removes a session whose client may come back. What it has applied and not confirmed is not known
 * here any more: who finds the counter raised cannot take "unknown" for "not applied". */
static void forget(struct gwi_sessions *s, struct gwi_session *session)
{
    if (s->forgotten && gw_applied_collect(session->applied, session->id, NULL, NULL, 0) > 0)
        gwi_sessions_raise_forgotten(s->forgotten);
    gwi_sessions_remove(s, session);
}

static bool forget_longest_idle(struct gwi_sessions *s)
{
    struct gwi_session *oldest = NULL;
    for (uint32_t i = 0; i < s->buckets; i++)
        for (struct gwi_session *x = s->bucket[i]; x; x = x->chain)
            if (!x->link && x->parked == 0 && (!oldest || x->idle_since_ns < oldest->idle_since_ns))
                oldest = x;
    if (oldest)
        forget(s, oldest);
    return oldest != NULL;
}

struct gwi_session *gwi_sessions_create(struct gwi_sessions *s, uint64_t id, uint32_t window)
{
    if (s->count >= (s->count_max ? s->count_max : GWI_SESSIONS_MAX) && !forget_longest_idle(s))
        return NULL;
    struct gwi_session *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->id = id;
    x->imaged = s->image.generation; /* not of the image in the making: it was not there */
    x->applied = gw_applied_create(window);
    if (!x->applied) {
        free(x);
        return NULL;
    }
    struct gwi_session **b = bucket_of(s, id);
    x->chain = *b;
    *b = x;
    s->count++;
    return x;
}

uint32_t gwi_sessions_grant(struct gwi_sessions *s, struct gwi_session *session, uint32_t asked)
{
    uint64_t left = s->granted_max ? s->granted_max - s->granted : UINT64_MAX;
    if (s->granted >= s->granted_max && s->granted_max)
        left = 0;
    uint32_t window = GW_APPLIED_WINDOW_MIN;
    while (window * 2 <= asked && window <= left / 4) /* half of what is left, at most */
        window *= 2;
    if (window > session->granted) {
        s->granted += window - session->granted;
        session->granted = window;
    }
    return session->granted < asked ? session->granted : window;
}

uint64_t gwi_sessions_bytes(const struct gwi_sessions *s)
{
    uint64_t bytes = s->buckets * sizeof *s->bucket;
    for (uint32_t i = 0; i < s->buckets; i++)
        for (const struct gwi_session *x = s->bucket[i]; x; x = x->chain)
            bytes += sizeof *x + gw_applied_memory(x->applied);
    return bytes;
}

void gwi_sessions_expire(struct gwi_sessions *s, uint64_t now_ns)
{
    for (uint32_t i = 0; i < s->buckets; i++)
        for (struct gwi_session *x = s->bucket[i], *next; x; x = next) {
            next = x->chain;
            if (!x->link && x->parked == 0 && now_ns - x->idle_since_ns > GWI_SESSION_IDLE_NS)
                forget(s, x);
        }
}
