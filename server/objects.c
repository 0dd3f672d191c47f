/* objects.c - see objects.h. Each call hands itself to the blob's thread and waits for the one
 * callback, which its own deadline bounds. */
#define _GNU_SOURCE
#include "server/objects.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FULL_US     2000u
#define NAME_BYTES  (GW_BLOB_NAME_MAX + 1)
#define LIST_PAGE   1000u
#define WRONG_BYTES 128u

struct gwi_objects {
    struct gw_blob *blob;
    struct gw_blob_stats stats;
    pthread_mutex_t lock; /* everything below: of the call under way */
    pthread_cond_t ended;
    bool done;
    enum gw_status status;
    uint8_t *bytes; /* owned */
    size_t n;
};

enum gw_status gwi_objects_open(const char *url, struct gwi_objects **out, char *error)
{
    struct gwi_objects *o = calloc(1, sizeof *o);
    struct gw_blob_options options = {.url = url};
    if (!o) {
        snprintf(error, GW_BLOB_TEXT_BYTES, "out of memory");
        return GW_E_NOMEM;
    }
    enum gw_status st = gw_blob_open(&options, &o->blob, error, GW_BLOB_TEXT_BYTES);
    if (st != GW_OK) {
        free(o);
        return st;
    }
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->ended, NULL);
    *out = o;
    return GW_OK;
}

void gwi_objects_close(struct gwi_objects *o)
{
    if (!o)
        return;
    gw_blob_close(o->blob);
    pthread_cond_destroy(&o->ended);
    pthread_mutex_destroy(&o->lock);
    free(o->bytes);
    free(o);
}

const char *gwi_objects_trouble(struct gwi_objects *o)
{
    gw_blob_stats(o->blob, &o->stats);
    return o->stats.trouble;
}

void gwi_objects_prefix(uint64_t cluster, uint64_t store_id, char room[GWI_OBJECTS_PREFIX_BYTES])
{
    snprintf(room, GWI_OBJECTS_PREFIX_BYTES, "%016" PRIx64 "/%016" PRIx64 "/", cluster, store_id);
}

bool gwi_objects_name_read(const char *name, uint64_t *address, uint32_t *incarnation)
{
    const char *last = strrchr(name, '/');
    int end = 0;
    last = last ? last + 1 : name;
    return sscanf(last, "%16" SCNx64 "-%8" SCNx32 ".gwo%n", address, incarnation, &end) == 2 &&
           end > 0 && last[end] == 0;
}

/* On the blob's thread. */
static void answered(void *ctx, enum gw_status st, const uint8_t *data, size_t bytes)
{
    struct gwi_objects *o = ctx;
    pthread_mutex_lock(&o->lock);
    free(o->bytes);
    o->bytes = NULL;
    o->n = 0;
    o->status = st;
    if (st == GW_OK && data && bytes) {
        o->bytes = malloc(bytes);
        if (o->bytes) {
            memcpy(o->bytes, data, bytes);
            o->n = bytes;
        } else {
            o->status = GW_E_NOMEM;
        }
    }
    o->done = true;
    pthread_cond_signal(&o->ended);
    pthread_mutex_unlock(&o->lock);
}

static enum gw_status wait_for(struct gwi_objects *o)
{
    pthread_mutex_lock(&o->lock);
    while (!o->done)
        pthread_cond_wait(&o->ended, &o->lock);
    enum gw_status st = o->status;
    pthread_mutex_unlock(&o->lock);
    return st;
}

static bool list_page(struct gwi_objects *o, gwi_objects_cb fn, void *ctx, char last[NAME_BYTES],
                      uint32_t *count, bool *go_on)
{
    size_t at = 0;
    for (*count = 0; at < o->n; (*count)++) {
        uint64_t bytes;
        if (o->n - at <= sizeof bytes)
            return false;
        memcpy(&bytes, o->bytes + at, sizeof bytes);
        at += sizeof bytes;
        size_t length = strnlen((const char *)o->bytes + at, o->n - at);
        if (length == o->n - at || length >= NAME_BYTES)
            return false;
        memcpy(last, o->bytes + at, length + 1);
        at += length + 1;
        if (!(*go_on = fn(ctx, last, bytes)))
            return true;
    }
    return true;
}

enum gw_status gwi_objects_each(struct gwi_objects *o, const char *prefix, gwi_objects_cb fn,
                                void *ctx)
{
    char last[NAME_BYTES] = "";
    for (;;) {
        enum gw_status st;
        o->done = false;
        while ((st = gw_blob_list(o->blob, prefix, last, 0, answered, o)) == GW_WOULD_BLOCK)
            usleep(FULL_US);
        if (st == GW_OK)
            st = wait_for(o);
        if (st != GW_OK)
            return st;
        uint8_t *page = o->bytes; /* fn may call us */
        struct gwi_objects got = {.bytes = page, .n = o->n};
        uint32_t count = 0;
        bool go_on = true;
        o->bytes = NULL;
        bool good = list_page(&got, fn, ctx, last, &count, &go_on);
        free(page);
        if (!good)
            return GW_E_CORRUPT;
        if (!go_on || count < LIST_PAGE)
            return GW_OK;
    }
}

enum gw_status gwi_objects_get(struct gwi_objects *o, const char *name, uint8_t **bytes, size_t *n)
{
    enum gw_status st;
    o->done = false;
    while ((st = gw_blob_get(o->blob, name, 0, 0, 0, answered, o)) == GW_WOULD_BLOCK)
        usleep(FULL_US);
    if (st == GW_OK)
        st = wait_for(o);
    if (st != GW_OK)
        return st;
    *bytes = o->bytes;
    *n = o->n;
    o->bytes = NULL;
    return GW_OK;
}

enum gw_status gwi_objects_delete(struct gwi_objects *o, const char *name)
{
    enum gw_status st;
    o->done = false;
    while ((st = gw_blob_delete(o->blob, name, 0, answered, o)) == GW_WOULD_BLOCK)
        usleep(FULL_US);
    return st == GW_OK ? wait_for(o) : st;
}

static const char *check_frames(const uint8_t *bytes, size_t n, const struct gw_object_head *head,
                                const struct gw_object_frame *frames, char *room)
{
    uint8_t *raw = malloc(head->frame_bytes);
    if (!raw)
        return "out of memory";
    room[0] = 0;
    for (uint32_t i = 0; i < head->frames && !room[0]; i++) {
        const struct gw_object_frame *f = &frames[i];
        size_t got = 0;
        if (f->offset > n || f->bytes > n - f->offset)
            snprintf(room, WRONG_BYTES, "it is cut off in frame %u of %u", i, head->frames);
        else if (gw_object_read_frame(head, f, i, bytes + f->offset, f->bytes, raw, &got) != GW_OK)
            snprintf(room, WRONG_BYTES, "frame %u of %u is damaged", i, head->frames);
    }
    free(raw);
    return room[0] ? room : NULL;
}

const char *gwi_objects_check(const uint8_t *bytes, size_t n, struct gw_object_head *head,
                              char *room)
{
    const uint32_t most = GW_OBJECT_EXTENT_MAX / GW_OBJECT_FRAME_MIN;
    struct gw_object_frame *frames = malloc(most * sizeof *frames);
    if (!frames)
        return "out of memory";
    const char *wrong = NULL;
    if (gw_object_read_head(bytes, n, head, frames, most) != GW_OK)
        wrong = "its header or index is damaged, or not ours";
    else if (head->object_bytes != n)
        wrong = "it is shorter or longer than its header says";
    else
        wrong = check_frames(bytes, n, head, frames, room);
    free(frames);
    return wrong;
}
