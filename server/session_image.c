/* session_image.c - copying a dispatcher's sessions as of its crossing; see session_image.h.
 *
 * A session belongs to the image if it was there at the opening: those that are created later carry
 * its generation from the start. Each is copied exactly once, when it is changed, removed, or when
 * the turns come to it, whichever is first; in what order they lie in the bytes means nothing.
 *
 * A session: id 8, confirmed 8, window 4, granted 4, entries 4, zero 12; then its entries, 32 bytes
 * each, as in a YOURS frame (client/wire/peer.h). */
#include "server/session_image.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_LEAST 4096u

_Static_assert(sizeof(struct gw_applied) == GW_APPLIED_BYTES,
               "entries are collected where their bytes will be");

void gwi_session_image_close(struct gwi_sessions *s)
{
    free(s->image.bytes);
    s->image = (struct gwi_session_image){.generation = s->image.generation};
}

void gwi_session_image_open(struct gwi_sessions *s, uint64_t number)
{
    gwi_session_image_close(s);
    s->image.generation++;
    s->image.number = number;
    s->image.open = true;
}

static uint8_t *more_room(struct gwi_session_image *image, size_t n)
{
    if (image->room - image->used < n) {
        size_t room = image->room + image->room / 2;
        if (room < image->used + n)
            room = image->used + n;
        if (room < ROOM_LEAST)
            room = ROOM_LEAST;
        uint8_t *bytes = realloc(image->bytes, room);
        if (!bytes)
            return NULL;
        image->bytes = bytes;
        image->room = room;
    }
    return image->bytes + image->used;
}

static void copy(struct gwi_session_image *image, const struct gwi_session *session)
{
    const struct gw_applied_window *w = session->applied;
    size_t n = gw_applied_collect(w, session->id, NULL, NULL, 0);
    size_t bytes = GWI_IMAGE_SESSION_BYTES + n * GW_APPLIED_BYTES;
    uint8_t *at = more_room(image, bytes);
    if (!at) {
        image->failed = true;
        return;
    }
    /* malloc'ed, and every session's bytes are a multiple of 8: aligned for the structs. */
    struct gw_applied *entries = (struct gw_applied *)(void *)(at + GWI_IMAGE_SESSION_BYTES);
    GW_ASSERT(gw_applied_collect(w, session->id, NULL, entries, n) == n);
    for (size_t i = 0; i < n; i++) {
        struct gw_applied entry = entries[i];
        struct gw_writer w8 = gw_writer_of(&entries[i], GW_APPLIED_BYTES);
        gw_applied_encode(&entry, &w8);
    }
    struct gw_writer head = gw_writer_of(at, GWI_IMAGE_SESSION_BYTES);
    gw_write64(&head, session->id);
    gw_write64(&head, w->confirmed);
    gw_write32(&head, w->window);
    gw_write32(&head, session->granted);
    gw_write32(&head, (uint32_t)n);
    gw_write32(&head, 0);
    gw_write64(&head, 0);
    image->used += bytes;
    image->sessions++;
}

void gwi_session_image_take_slow(struct gwi_sessions *s, struct gwi_session *session)
{
    session->imaged = s->image.generation;
    if (s->image.open && !s->image.failed)
        copy(&s->image, session);
}

bool gwi_session_image_copy(struct gwi_sessions *s, uint32_t entries)
{
    struct gwi_session_image *image = &s->image;
    GW_ASSERT(image->open);
    uint64_t looked = 0;
    for (; image->bucket < s->buckets; image->bucket++) {
        for (struct gwi_session *x = s->bucket[image->bucket]; x; x = x->chain) {
            if (x->imaged == image->generation)
                continue;
            if (looked >= entries)
                return image->failed;
            gwi_session_image_take_slow(s, x);
            looked += x->applied->capacity + 16;
            if (image->failed)
                return true;
        }
        if (image->bucket % 64 == 63)
            looked++; /* empty buckets are not for nothing */
    }
    return true;
}

enum gw_status gwi_session_image_fetch(struct gwi_sessions *s, uint8_t **bytes, size_t *n,
                                       uint32_t *sessions)
{
    struct gwi_session_image *image = &s->image;
    enum gw_status st = image->failed ? GW_E_NOMEM : GW_OK;
    GW_ASSERT(image->open && (image->failed || image->bucket == s->buckets));
    if (st == GW_OK) {
        *bytes = image->bytes;
        *n = image->used;
        *sessions = image->sessions;
        image->bytes = NULL;
    }
    gwi_session_image_close(s);
    return st;
}

/* ---- reading ----------------------------------------------------------------------------------
 */

static enum gw_status read_entries(struct gw_reader *r, uint32_t entries, struct gwi_session *x)
{
    struct gw_applied entry;
    for (uint32_t i = 0; i < entries; i++) {
        if (!gw_applied_decode(r, &entry) || entry.session != x->id ||
            entry.serial < x->applied->confirmed ||
            entry.serial - x->applied->confirmed >= x->applied->window)
            return GW_E_CORRUPT;
        enum gw_status st = gw_applied_merge(x->applied, &entry);
        if (st != GW_OK)
            return st;
    }
    return GW_OK;
}

enum gw_status gwi_session_image_read(const uint8_t *bytes, size_t n, struct gwi_sessions *sessions,
                                      uint32_t threads, uint64_t *count)
{
    struct gw_reader r = gw_reader_of(bytes, n);
    while (gw_reader_left(&r) > 0) {
        uint64_t id = gw_read64(&r), confirmed = gw_read64(&r);
        uint32_t window = gw_read32(&r), granted = gw_read32(&r), entries = gw_read32(&r);
        uint64_t zero = gw_read32(&r);
        zero |= gw_read64(&r);
        if (r.bad || zero != 0 || window < GW_APPLIED_WINDOW_MIN ||
            window > GW_APPLIED_WINDOW_MAX || (window & (window - 1)) ||
            granted > GW_APPLIED_WINDOW_MAX || entries > gw_reader_left(&r) / GW_APPLIED_BYTES)
            return GW_E_CORRUPT;
        struct gwi_sessions *s = &sessions[id % threads];
        if (gwi_sessions_find(s, id))
            return GW_E_CORRUPT;
        struct gwi_session *x = gwi_sessions_create(s, id, window);
        if (!x)
            return GW_E_NOMEM;
        x->granted = granted;
        s->granted += granted;
        gw_applied_confirm(x->applied, confirmed);
        enum gw_status st = read_entries(&r, entries, x);
        if (st != GW_OK)
            return st;
        ++*count;
    }
    return GW_OK;
}
