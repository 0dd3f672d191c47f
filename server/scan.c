/* scan.c - SCAN frames: a portion of one server's live keys, from a cursor on. Slots that are still
 * arriving make the client ask again: their keys are spread over two servers. */
#include <string.h>

#include "client/wire/scan.h"
#include "server/server.h"

#define SCAN_BUCKETS   4096u /* looked at by one request: bounds the pause of everybody else */
#define SCAN_BYTES_MAX (256u << 10)
#define HOLD_COLD_NS   1000000ull /* about what the device takes for what was asked for ahead */
#define PORTION        16u        /* buckets */
#define MARKS          1024u

/* Where a record of this portion begins in the reply. */
struct mark {
    uint64_t hash;
    uint8_t *at;
};

struct scan_room {
    struct gw_writer w;
    uint32_t count;
    struct mark mark[MARKS];
    uint32_t marks; /* the last of a full table counts for all behind it */
    bool full;
};

static bool put(void *ctx, const struct gw_record_view *v)
{
    struct scan_room *room = ctx;
    struct gw_scan_record m = {.key = v->key,
                               .value = v->value,
                               .number = v->number,
                               .expiry_ms = v->expiry_ms,
                               .version = v->version,
                               .value_bytes = v->kind == GW_KIND_COUNTER ? 8 : v->value_bytes,
                               .key_bytes = v->key_bytes,
                               .kind = v->kind};
    if (gw_scan_record_bytes(&m) > gw_writer_left(&room->w)) {
        room->full = true;
        return false;
    }
    if (room->marks < MARKS)
        room->mark[room->marks] = (struct mark){v->hash, room->w.at};
    room->marks++;
    gw_scan_record_encode(&m, &room->w);
    room->count++;
    return true;
}

/* Takes back what came of a bucket that is not finished: it comes again, whole. Buckets are walked
 * in the order of their hashes, so that this is the end of what was written. False: there were more
 * records than marks. */
static bool take_back(struct scan_room *room, uint64_t unfinished)
{
    if (room->marks > MARKS)
        return false;
    while (room->marks > 0 && room->mark[room->marks - 1].hash >= unfinished) {
        room->w.at = room->mark[--room->marks].at;
        room->count--;
    }
    return true;
}

/* Whether these slots can be scanned here now. */
static enum gw_status look(const struct gwi_view *view, const struct gw_slots *slots)
{
    uint16_t first, last;
    for (uint32_t at = 0; gw_slots_next_run(slots, &at, &first, &last);)
        for (uint32_t s = first; s <= last; s++) {
            if (view->state[s] == GWI_SLOT_FOREIGN)
                return GW_WRONG_VIEW;
            if (view->state[s] != GWI_SLOT_OWNED)
                return GW_PENDING;
        }
    return GW_OK;
}

enum gw_status gwi_scan_frame(struct gwi_link *link, const struct gw_frame *f, const uint8_t *body)
{
    struct gwi_dispatcher *d = link->dispatcher;
    struct gw_scan scan;
    struct gw_reader r = gw_reader_of(body, f->bytes - GW_FRAME_HEADER);
    if (gw_scan_decode(&r, &scan) != GW_OK)
        return gwi_link_error(link->conn, GW_E_PROTOCOL, "malformed SCAN");
    if (gwi_link_is_behind(link, 0)) {
        gwi_link_hold(link, GWI_HOLD_BACKLOG, 0);
        return GW_WOULD_BLOCK;
    }
    struct gw_scan_reply reply = {.cursor = scan.cursor};
    enum gw_status st = look(d->view, &scan.slots);
    uint8_t head[64];
    struct gw_writer w = gw_writer_of(head, sizeof head);
    gw_scan_reply_encode(&reply, &w);
    size_t head_bytes = gw_writer_used(&w);
    struct scan_room room;
    room.w = gw_writer_of(d->reply, d->reply_room);
    room.count = room.marks = 0;
    room.full = false;
    room.w.at += GW_FRAME_HEADER + head_bytes;
    uint64_t unreadable = gw_store_unreadable(d->store);
    if (st == GW_OK) {
        struct gw_cursor cursor = {.hash = scan.cursor};
        size_t limit = scan.bytes_max < SCAN_BYTES_MAX ? scan.bytes_max : SCAN_BYTES_MAX;
        bool waits = false;
        /* A few buckets at a time, so that the limit is passed by little. */
        for (uint32_t looked = 0;
             looked < SCAN_BUCKETS && !cursor.done && gw_writer_used(&room.w) < limit;
             looked += PORTION) {
            struct gw_writer before = room.w;
            uint32_t count = room.count;
            uint64_t at = cursor.hash;
            room.marks = 0;
            gw_store_walk(d->store, &cursor, UINT64_MAX, &scan.slots, false, PORTION, put, &room);
            if (!cursor.done && !take_back(&room, cursor.hash)) {
                room.w = before; /* very long chains: all of the portion comes again */
                room.count = count;
                cursor.hash = at;
            }
            if (room.full)
                break;
            waits = !cursor.done && cursor.hash == at; /* for the device, or for a writer */
            if (waits)
                break;
        }
        if (gw_store_unreadable(d->store) != unreadable)
            return gwi_link_error(link->conn, GW_E_CORRUPT,
                                  "records of this server cannot be read: the scan is not whole");
        if (waits && cursor.hash == scan.cursor) {
            gwi_link_hold(link, GWI_HOLD_COLD, d->now_ns + HOLD_COLD_NS);
            return GW_WOULD_BLOCK;
        }
        if (room.full && cursor.hash == scan.cursor)
            return gwi_link_error(link->conn, GW_E_TOO_LARGE,
                                  "one bucket's records do not fit a reply");
        st = cursor.done ? GW_END : GW_OK;
        reply.cursor = cursor.hash;
    }
    reply.status = (int8_t)st;
    w = gw_writer_of(d->reply + GW_FRAME_HEADER, head_bytes);
    gw_scan_reply_encode(&reply, &w);
    struct gw_frame out = {.bytes = (uint32_t)gw_writer_used(&room.w),
                           .kind = GW_KIND_SCAN_REPLY,
                           .count = room.count,
                           .session = f->session,
                           .view = d->view->number};
    gw_frame_encode(&out, d->reply);
    return gwi_hold_frame(link, d->reply, out.bytes, true) ? GW_OK : GW_E_LIMIT;
}
