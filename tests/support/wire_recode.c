/* wire_recode.c - decode and encode again, for every body; see wire_recode.h. */
#include "tests/support/wire_recode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/wire/control.h"
#include "client/wire/map.h"
#include "client/wire/ops.h"
#include "client/wire/peer.h"
#include "client/wire/scan.h"

static enum gw_status list_end(const struct gw_reader *r)
{
    return r->bad ? GW_E_PROTOCOL : GW_OK;
}

/* static: a body on the stack would hide a read of what the decoder has not written. */
#define WHOLE_BODY(name)                                                                           \
    static enum gw_status recode_##name(struct gw_reader *r, struct gw_writer *w)                  \
    {                                                                                              \
        static struct gw_##name m;                                                                 \
        memset(&m, 0xa5, sizeof m);                                                                \
        enum gw_status st = gw_##name##_decode(r, &m);                                             \
        if (st == GW_OK)                                                                           \
            gw_##name##_encode(&m, w);                                                             \
        return st;                                                                                 \
    }
WHOLE_BODY(hello)
WHOLE_BODY(welcome)
WHOLE_BODY(scan)
WHOLE_BODY(prepare)
WHOLE_BODY(prepared)
WHOLE_BODY(secured)
WHOLE_BODY(join)
WHOLE_BODY(heartbeat)
WHOLE_BODY(needs)
WHOLE_BODY(job)
WHOLE_BODY(job_event)
#undef WHOLE_BODY

#define LIST(name, type)                                                                           \
    static enum gw_status recode_##name(struct gw_reader *r, struct gw_writer *w)                  \
    {                                                                                              \
        struct gw_##type m;                                                                        \
        while (gw_##type##_decode(r, &m)) {                                                        \
            size_t before = gw_writer_used(w);                                                     \
            gw_##type##_encode(&m, w);                                                             \
            if (!w->bad && gw_writer_used(w) - before != gw_##type##_bytes(&m))                    \
                abort();                                                                           \
        }                                                                                          \
        return list_end(r);                                                                        \
    }
#define gw_applied_bytes(m) ((void)(m), GW_APPLIED_BYTES)
LIST(ops, wire_op)
LIST(replies, wire_reply)
LIST(peer_records, peer_record)
LIST(scan_records, scan_record)
LIST(applied_list, applied)
#undef LIST

static enum gw_status recode_scan_reply(struct gw_reader *r, struct gw_writer *w)
{
    struct gw_scan_reply m;
    enum gw_status st = gw_scan_reply_decode(r, &m);
    if (st != GW_OK)
        return st;
    gw_scan_reply_encode(&m, w);
    return recode_scan_records(r, w);
}

static enum gw_status recode_yours(struct gw_reader *r, struct gw_writer *w)
{
    struct gw_yours m;
    enum gw_status st = gw_yours_decode(r, &m);
    if (st != GW_OK)
        return st;
    gw_yours_encode(&m, w);
    return recode_applied_list(r, w);
}

static enum gw_status recode_pull(struct gw_reader *r, struct gw_writer *w)
{
    const uint8_t *key;
    uint16_t key_bytes;
    while (gw_pull_key_decode(r, &key, &key_bytes))
        gw_pull_key_encode(key, key_bytes, w);
    return list_end(r);
}

static enum gw_status recode_pull_answer(struct gw_reader *r, struct gw_writer *w)
{
    enum gw_pull_found found;
    struct gw_peer_record m;
    while (gw_pull_answer_decode(r, &found, &m))
        gw_pull_answer_encode(found, &m, w);
    return list_end(r);
}

static enum gw_status recode_map(struct gw_reader *r, struct gw_writer *w)
{
    struct gw_map *map;
    enum gw_status st = gw_map_decode(r, &map);
    if (st != GW_OK)
        return st;
    struct gw_map *copy = gw_map_copy(map);
    gw_map_destroy(map); /* the copy must stand alone */
    if (!copy)
        return GW_E_NOMEM;
    gw_map_encode(copy, w);
    if (!w->bad && gw_map_wire_bytes(copy) < gw_writer_used(w))
        abort();
    gw_map_destroy(copy);
    return GW_OK;
}

static enum gw_status recode_error(struct gw_reader *r, struct gw_writer *w)
{
    char text[2048];
    uint8_t frame[2048];
    const uint8_t *start = r->at;
    enum gw_status st = gw_frame_error_decode(r, text, sizeof text);
    if (!gw_failed(st))
        abort(); /* an ERROR never says that all is well */
    if (r->bad || r->at != r->end || (int8_t)*start != (int8_t)st)
        return GW_E_PROTOCOL;
    size_t n = gw_frame_error(frame, sizeof frame, st, text);
    gw_write_bytes(w, frame + GW_FRAME_HEADER, n - GW_FRAME_HEADER);
    return GW_OK;
}

const struct wire_codec wire_ops_codecs[] = {
    {"ops", recode_ops, true},
    {"replies", recode_replies, true},
    {"hello", recode_hello, false},
    {"welcome", recode_welcome, false},
    {"error", recode_error, false},
    {"scan", recode_scan, false},
    {"scan_reply", recode_scan_reply, true},
};
const size_t wire_ops_codecs_count = sizeof wire_ops_codecs / sizeof wire_ops_codecs[0];

const struct wire_codec wire_peer_codecs[] = {
    {"prepare", recode_prepare, false},        {"prepared", recode_prepared, false},
    {"secured", recode_secured, false},        {"yours", recode_yours, true},
    {"chunk", recode_peer_records, true},      {"pull", recode_pull, true},
    {"pull_answer", recode_pull_answer, true},
};
const size_t wire_peer_codecs_count = sizeof wire_peer_codecs / sizeof wire_peer_codecs[0];

const struct wire_codec wire_map_control_codecs[] = {
    {"map", recode_map, false},
    {"join", recode_join, false},
    {"heartbeat", recode_heartbeat, false},
    {"needs", recode_needs, false},
    {"job", recode_job, false},
    {"job_event", recode_job_event, false},
};
const size_t wire_map_control_codecs_count =
    sizeof wire_map_control_codecs / sizeof wire_map_control_codecs[0];

enum gw_status wire_recode(const struct wire_codec *codec, const uint8_t *bytes, size_t n,
                           size_t *good)
{
    uint8_t *exact = malloc(n ? n : 1);
    uint8_t *again = malloc(n ? n : 1);
    if (!exact || !again)
        abort();
    if (n)
        memcpy(exact, bytes, n);
    struct gw_reader r = gw_reader_of(exact, n);
    struct gw_writer w = gw_writer_of(again, n);
    enum gw_status st = codec->recode(&r, &w);
    size_t used = gw_writer_used(&w);
    if (w.bad || memcmp(again, exact, used) != 0 || (st == GW_OK && used != n) ||
        (st != GW_OK && used > n)) {
        fprintf(stderr, "%s: %zu bytes decoded, status %d, encode to %zu others\n", codec->name, n,
                (int)st, used);
        abort();
    }
    free(exact);
    free(again);
    if (good)
        *good = used;
    return st;
}

const struct wire_codec *wire_codec_find(const char *name)
{
    const struct {
        const struct wire_codec *codec;
        size_t count;
    } table[] = {{wire_ops_codecs, wire_ops_codecs_count},
                 {wire_peer_codecs, wire_peer_codecs_count},
                 {wire_map_control_codecs, wire_map_control_codecs_count}};
    for (size_t t = 0; t < sizeof table / sizeof table[0]; t++)
        for (size_t i = 0; i < table[t].count; i++)
            if (strcmp(table[t].codec[i].name, name) == 0)
                return &table[t].codec[i];
    fprintf(stderr, "no codec %s\n", name);
    abort();
}
