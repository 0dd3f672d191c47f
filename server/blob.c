/* blob.c - see blob.h. Prices are the published ones of S3 Standard in us-east-1 (2024), so that
 * one sees what a change is worth; other stores have others, and a directory has none. */
#define _GNU_SOURCE
#include "server/blob.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "index/base/clock.h"
#include "index/base/log_line.h"
#include "index/base/text.h"
#include "server/objects.h"
#include "server/server.h"
#include "tiering/tier.h"

#define WATCH_S              1
#define CLOCK_S              60
#define FIRST_COLLECT_S      600
#define COLLECT_S            21600
#define IDLE_S               60
#define SECOND_NS            UINT64_C(1000000000)
#define CLEAR_AGAIN_S        10
#define LIST_MAX             1000u
#define NAME_BYTES           (GW_BLOB_NAME_MAX + 1)

#define PICO_DOLLARS_A_PUT   5000000u /* and a list */
#define PICO_DOLLARS_A_GET   400000u
#define PICO_DOLLARS_A_MB_MO 22460937u /* 0.023 a GiB and month */

enum collect_state { COLLECT_NONE, COLLECT_RUNNING, COLLECT_DONE, COLLECT_FAILED };

struct found {
    char name[NAME_BYTES];
    char why[64];
    uint64_t bytes;
};

struct gwi_blob {
    struct gwi_server *server;
    uint64_t cluster;
    pthread_t watcher, worker;
    bool watches, works;
    pthread_mutex_t lock; /* everything below */
    pthread_cond_t wakes;
    bool stop;
    bool wanted; /* something of what follows */
    bool collect, dry;
    uint64_t orphan, cleared; /* logs of others: to be cleared away, the last that was */
    enum collect_state state;
    bool state_dry;
    uint64_t objects, bytes;
    struct found *list; /* owned; the first of them */
    uint32_t listed;
    char error[160];
};

bool gwi_blob_trouble(const struct gwi_server *s, char *room, size_t room_bytes)
{
    struct gw_tier_stats t;
    room[0] = 0;
    if (!s->tier)
        return false;
    gw_tier_stats(s->tier, &t);
    if (t.trouble[0])
        snprintf(room, room_bytes, "shared tier: %s", t.trouble);
    else if (!t.blob.healthy && t.blob.unhealthy_since_ms != 0)
        snprintf(room, room_bytes, "shared tier: %s",
                 t.blob.trouble[0] ? t.blob.trouble : "it does not answer");
    else if (t.blob.clock_ahead_s > CLOCK_S || t.blob.clock_ahead_s < -CLOCK_S)
        snprintf(room, room_bytes,
                 "shared tier: its clock is %" PRIu64 " s %s ours (RequestTimeTooSkewed); requests "
                 "are dated by its clock",
                 (uint64_t)llabs(t.blob.clock_ahead_s),
                 t.blob.clock_ahead_s > 0 ? "ahead of" : "behind");
    return room[0] != 0;
}

/* ---- watching ------------------------------------------------------------------------------- */

/* False: the time is up; true: it ends, or (collector) something is wanted. Requires: the lock. */
static bool wait_s(struct gwi_blob *b, time_t seconds, const bool *wanted)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += seconds;
    while (!b->stop && !(wanted && *wanted))
        if (pthread_cond_timedwait(&b->wakes, &b->lock, &until) != 0)
            return b->stop;
    return true;
}

static void *watch(void *arg)
{
    struct gwi_blob *b = arg;
    char said[GW_BLOB_TEXT_BYTES + 32] = "", now[GW_BLOB_TEXT_BYTES + 32];
    uint64_t since = 0;
    pthread_mutex_lock(&b->lock);
    while (!wait_s(b, WATCH_S, NULL)) {
        pthread_mutex_unlock(&b->lock);
        bool trouble = gwi_blob_trouble(b->server, now, sizeof now);
        struct gw_tier_stats t;
        gw_tier_stats(b->server->tier, &t);
        if (trouble && !said[0]) {
            since = gw_clock_now_ns(gw_clock_system());
            gw_warn("blob_trouble",
                    "why=\"%s\" lag_bytes=%" PRIu64
                    " next=\"what is in memory and on disk is served, uploads are tried again\"",
                    now, t.lag_bytes);
            strcpy(said, now);
        } else if (!trouble && said[0]) {
            gw_info("blob_well", "after_s=%" PRIu64 " lag_bytes=%" PRIu64,
                    (gw_clock_now_ns(gw_clock_system()) - since) / 1000000000u, t.lag_bytes);
            said[0] = 0;
        }
        pthread_mutex_lock(&b->lock);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

/* ---- collecting ----------------------------------------------------------------------------- */

static void collected(void *ctx, const char *name, uint64_t bytes, const char *why)
{
    struct gwi_blob *b = ctx;
    pthread_mutex_lock(&b->lock);
    b->objects++;
    b->bytes += bytes;
    if (b->listed < LIST_MAX && b->list) {
        struct found *f = &b->list[b->listed++];
        snprintf(f->name, sizeof f->name, "%s", name);
        snprintf(f->why, sizeof f->why, "%s", why);
        f->bytes = bytes;
    }
    pthread_mutex_unlock(&b->lock);
}

/* Requires: the lock, which is let go meanwhile. */
static void collect_now(struct gwi_blob *b)
{
    bool dry = b->dry;
    b->collect = b->dry = false;
    b->state = COLLECT_RUNNING;
    b->state_dry = dry;
    b->objects = b->bytes = b->listed = 0;
    b->error[0] = 0;
    if (!b->list)
        b->list = malloc(LIST_MAX * sizeof *b->list); /* without it only counted */
    pthread_mutex_unlock(&b->lock);
    enum gw_status st = gw_tier_collect(b->server->tier, dry, collected, b);
    pthread_mutex_lock(&b->lock);
    b->state = st == GW_OK ? COLLECT_DONE : COLLECT_FAILED;
    if (st != GW_OK)
        snprintf(b->error, sizeof b->error, "%s", gw_status_text(st));
    if (st != GW_OK || b->objects)
        gw_info("blob_collected", "objects=%" PRIu64 " bytes=%" PRIu64 " dry=%d status=%s",
                b->objects, b->bytes, dry, gw_status_name(st));
}

/* ---- what others have left ------------------------------------------------------------------ */

struct clearing {
    struct gwi_blob *blob;
    struct gwi_objects *objects;
    enum gw_status status;
    uint64_t count;
};

static bool clear_one(void *ctx, const char *name, uint64_t bytes)
{
    struct clearing *c = ctx;
    (void)bytes;
    c->status = gwi_objects_delete(c->objects, name);
    c->count += c->status == GW_OK;
    pthread_mutex_lock(&c->blob->lock);
    bool stop = c->blob->stop;
    pthread_mutex_unlock(&c->blob->lock);
    if (stop && c->status == GW_OK)
        c->status = GW_E_CANCELLED;
    return c->status == GW_OK;
}

static bool clear(struct gwi_blob *b, uint64_t log_id)
{
    char prefix[GWI_OBJECTS_PREFIX_BYTES], error[GW_BLOB_TEXT_BYTES] = "";
    struct clearing c = {.blob = b};
    enum gw_status st = gwi_objects_open(b->server->options.blob_url, &c.objects, error);
    if (st == GW_OK) {
        gwi_objects_prefix(b->cluster, log_id, prefix);
        st = gwi_objects_each(c.objects, prefix, clear_one, &c);
        if (st == GW_OK)
            st = c.status;
        gwi_objects_close(c.objects);
    }
    gw_info("blob_orphan", "log=%016" PRIx64 " deleted=%" PRIu64 " status=%s%s%s", log_id, c.count,
            gw_status_name(st), error[0] ? " why=" : "", error);
    return st == GW_OK;
}

static void clear_now(struct gwi_blob *b)
{
    uint64_t log_id = b->orphan;
    pthread_mutex_unlock(&b->lock);
    bool done = clear(b, log_id);
    pthread_mutex_lock(&b->lock);
    if (done) {
        b->cleared = log_id;
        if (b->orphan == log_id)
            b->orphan = 0;
    }
}

void gwi_blob_clear(struct gwi_server *s, uint64_t log_id)
{
    struct gwi_blob *b = s->blob;
    if (!b || log_id == 0 || log_id == s->data.store_id)
        return;
    pthread_mutex_lock(&b->lock);
    if (b->cleared != log_id && b->orphan != log_id) {
        b->orphan = log_id;
        b->wanted = true;
        pthread_cond_broadcast(&b->wakes);
    }
    pthread_mutex_unlock(&b->lock);
}

uint64_t gwi_blob_cleared(const struct gwi_server *s)
{
    struct gwi_blob *b = s->blob;
    if (!b)
        return 0;
    pthread_mutex_lock(&b->lock);
    uint64_t log_id = b->cleared;
    pthread_mutex_unlock(&b->lock);
    return log_id;
}

/* ---- the thread that does both -------------------------------------------------------------- */

static void *work(void *arg)
{
    struct gwi_blob *b = arg;
    uint64_t due_ns = gw_clock_now_ns(gw_clock_system()) + FIRST_COLLECT_S * SECOND_NS;
    pthread_mutex_lock(&b->lock);
    while (!b->stop) {
        b->wanted = false;
        uint64_t now = gw_clock_now_ns(gw_clock_system());
        if (b->collect || now >= due_ns) {
            collect_now(b);
            due_ns = gw_clock_now_ns(gw_clock_system()) + COLLECT_S * SECOND_NS;
        }
        bool again = b->orphan != 0;
        if (again && !b->stop)
            clear_now(b);
        (void)wait_s(b, again ? CLEAR_AGAIN_S : IDLE_S, &b->wanted);
    }
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

enum gw_status gwi_blob_start(struct gwi_server *s, uint64_t cluster)
{
    if (!s->tier)
        return GW_OK;
    struct gwi_blob *b = calloc(1, sizeof *b);
    if (!b)
        return GW_E_NOMEM;
    b->server = s;
    b->cluster = cluster;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->wakes, NULL);
    s->blob = b;
    b->watches = pthread_create(&b->watcher, NULL, watch, b) == 0;
    b->works = pthread_create(&b->worker, NULL, work, b) == 0;
    if (b->watches && b->works)
        return GW_OK;
    gwi_blob_stop(s);
    return GW_E_NOMEM;
}

void gwi_blob_stop(struct gwi_server *s)
{
    struct gwi_blob *b = s->blob;
    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    b->stop = true;
    pthread_cond_broadcast(&b->wakes);
    pthread_mutex_unlock(&b->lock);
    if (b->watches)
        pthread_join(b->watcher, NULL);
    if (b->works)
        pthread_join(b->worker, NULL);
    pthread_cond_destroy(&b->wakes);
    pthread_mutex_destroy(&b->lock);
    free(b->list);
    free(b);
    s->blob = NULL;
}

/* ---- requests ------------------------------------------------------------------------------- */

static json_t *refusal(const char *status, const char *message)
{
    return json_pack("{s:{s:s, s:s}}", "error", "status", status, "message", message);
}

static json_t *collect_begin(struct gwi_server *s, bool dry)
{
    struct gwi_blob *b = s->blob;
    if (!b)
        return refusal("e_unsupported", "this server has no shared tier: start it with --blob");
    pthread_mutex_lock(&b->lock);
    bool busy = b->state == COLLECT_RUNNING;
    if (!busy) {
        b->collect = b->wanted = true;
        b->dry = dry;
        b->state = COLLECT_RUNNING;
        pthread_cond_broadcast(&b->wakes);
    }
    pthread_mutex_unlock(&b->lock);
    return busy ? refusal("e_busy", "a collection is under way")
                : json_pack("{s:s, s:b}", "state", "running", "dry", dry);
}

static json_t *collect_status(const struct gwi_server *s)
{
    static const char *const names[] = {"none", "running", "done", "failed"};
    struct gwi_blob *b = s->blob;
    if (!b)
        return refusal("e_unsupported", "this server has no shared tier: start it with --blob");
    json_t *list = json_array();
    pthread_mutex_lock(&b->lock);
    for (uint32_t i = 0; i < b->listed; i++)
        json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "name", b->list[i].name, "bytes",
                                              (json_int_t)b->list[i].bytes, "why", b->list[i].why));
    json_t *o = json_pack("{s:s, s:b, s:I, s:I, s:s, s:o}", "state", names[b->state], "dry",
                          b->state_dry, "objects", (json_int_t)b->objects, "bytes",
                          (json_int_t)b->bytes, "error", b->error, "list", list);
    pthread_mutex_unlock(&b->lock);
    return o;
}

json_t *gwi_blob_answer(struct gwi_server *s, const json_t *request, const char *op)
{
    if (strcmp(op, "collect") == 0)
        return collect_begin(s, json_is_true(json_object_get(request, "dry")));
    if (strcmp(op, "collect_status") == 0)
        return collect_status(s);
    return NULL;
}

/* ---- explain -------------------------------------------------------------------------------- */

static void number(json_t *o, const char *name, uint64_t value)
{
    json_object_set_new(o, name, json_integer((json_int_t)value));
}

json_t *gwi_blob_explain(const struct gwi_server *s)
{
    struct gw_tier_stats t;
    char trouble[GW_BLOB_TEXT_BYTES + 32];
    if (!s->tier)
        return NULL;
    gw_tier_stats(s->tier, &t);
    (void)gwi_blob_trouble(s, trouble, sizeof trouble);
    json_t *o = json_pack("{s:s, s:b}", "url", s->options.blob_url, "healthy", t.blob.healthy);
    json_object_set_new(o, "trouble", json_string(trouble));
    uint64_t now_ms = gw_clock_wall_ms(gw_clock_system()), since = t.blob.unhealthy_since_ms;
    number(o, "unhealthy_ms", since && now_ms > since ? now_ms - since : 0);
    number(o, "limit_bytes", s->options.blob_limit_bytes);
    number(o, "shared", t.shared);
    number(o, "local_from", t.local_from);
    number(o, "lag_bytes", t.lag_bytes);
    number(o, "objects", t.objects);
    number(o, "objects_bytes", t.objects_bytes);
    number(o, "uploaded_raw_bytes", t.uploaded_raw_bytes);
    number(o, "uploaded_bytes", t.uploaded_bytes);
    number(o, "uploads_failed", t.uploads_failed);
    number(o, "dropped_segments", t.dropped_segments);
    number(o, "deleted_objects", t.deleted_objects);
    number(o, "cold_reads", t.cold_reads);
    number(o, "foreign_reads", t.foreign_reads);
    number(o, "cache_hits", t.cache_hits);
    number(o, "cache_bytes", t.cache_bytes);
    number(o, "puts", t.blob.puts);
    number(o, "gets", t.blob.gets);
    number(o, "lists", t.blob.lists);
    number(o, "deletes", t.blob.deletes);
    number(o, "retries", t.blob.retries);
    number(o, "hedges", t.blob.hedges);
    number(o, "hedges_won", t.blob.hedges_won);
    number(o, "failures", t.blob.failures);
    number(o, "bytes_up", t.blob.bytes_up);
    number(o, "bytes_down", t.blob.bytes_down);
    json_object_set_new(o, "clock_ahead_s", json_integer(t.blob.clock_ahead_s));
    number(o, "queued", t.blob.queued);
    number(o, "under_way", t.blob.under_way);
    uint64_t requests = (t.blob.puts + t.blob.lists) * PICO_DOLLARS_A_PUT / 1000000 +
                        t.blob.gets * PICO_DOLLARS_A_GET / 1000000;
    number(o, "cost_requests_microdollars", requests);
    number(o, "cost_month_microdollars",
           (t.objects_bytes >> 20) * (PICO_DOLLARS_A_MB_MO / 1000) / 1000);
    return o;
}
