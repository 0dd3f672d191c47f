/* blob_calls.c - calls of an object store's client that wait (blob_calls.h). */
#include "tests/support/blob_calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "index/base/clock.h"
#include "index/base/rand.h"

#define WAIT_NS (UINT64_C(60) * 1000000000)

void blob_noted(void *arg, enum gw_status status, const uint8_t *data, size_t bytes)
{
    struct blob_note *note = arg;
    GW_ASSERT(atomic_load_explicit(&note->calls, memory_order_relaxed) == 0);
    note->status = status;
    if (bytes > 0) {
        note->data = malloc(bytes);
        GW_ASSERT(note->data);
        memcpy(note->data, data, bytes);
    }
    note->bytes = bytes;
    note->ended_ns = gw_clock_now_ns(gw_clock_system());
    /* Release: what is above comes before; pairs with the acquire of blob_await. */
    atomic_fetch_add_explicit(&note->calls, 1, memory_order_release);
}

void blob_await(struct blob_note *note)
{
    uint64_t until = gw_clock_now_ns(gw_clock_system()) + WAIT_NS;
    while (atomic_load_explicit(&note->calls, memory_order_acquire) == 0) {
        GW_ASSERT(gw_clock_now_ns(gw_clock_system()) < until);
        usleep(200);
    }
}

void blob_note_fini(struct blob_note *note)
{
    free(note->data);
    note->data = NULL;
}

enum gw_status blob_put(struct gw_blob *blob, const char *name, const void *data, size_t bytes,
                        uint64_t deadline_ns)
{
    struct blob_note note = {0};
    enum gw_status st = gw_blob_put(blob, name, data, bytes, deadline_ns, blob_noted, &note);
    if (st != GW_OK)
        return st;
    blob_await(&note);
    GW_ASSERT(note.bytes == 0);
    return note.status;
}

enum gw_status blob_get(struct gw_blob *blob, const char *name, uint64_t offset, size_t bytes,
                        uint64_t deadline_ns, struct blob_note *note)
{
    *note = (struct blob_note){0};
    enum gw_status st = gw_blob_get(blob, name, offset, bytes, deadline_ns, blob_noted, note);
    if (st != GW_OK)
        return st;
    blob_await(note);
    return note->status;
}

enum gw_status blob_delete(struct gw_blob *blob, const char *name, uint64_t deadline_ns)
{
    struct blob_note note = {0};
    enum gw_status st = gw_blob_delete(blob, name, deadline_ns, blob_noted, &note);
    if (st != GW_OK)
        return st;
    blob_await(&note);
    return note.status;
}

enum gw_status blob_list(struct gw_blob *blob, const char *prefix, const char *after,
                         uint64_t deadline_ns, char *room, size_t room_bytes, uint32_t *count)
{
    struct blob_note note = {0};
    room[0] = 0;
    *count = 0;
    enum gw_status st = gw_blob_list(blob, prefix, after, deadline_ns, blob_noted, &note);
    if (st != GW_OK)
        return st;
    blob_await(&note);
    size_t used = 0;
    for (size_t at = 0; at < note.bytes; ++*count) {
        const char *name = (const char *)note.data + at + 8;
        int n = snprintf(room + used, room_bytes - used, "%s=%llu ", name,
                         (unsigned long long)gw_load64(note.data + at));
        GW_ASSERT(n > 0 && (size_t)n < room_bytes - used);
        used += (size_t)n;
        at += 8 + strlen(name) + 1;
    }
    blob_note_fini(&note);
    return note.status;
}

uint8_t *blob_bytes(size_t n, uint64_t seed)
{
    struct gw_rand rand;
    uint8_t *bytes = malloc(n ? n : 1);
    GW_ASSERT(bytes);
    gw_rand_init(&rand, seed);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)gw_rand_next(&rand);
    return bytes;
}
