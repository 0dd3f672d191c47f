/* ops.c - the bodies that open and end a connection: HELLO, WELCOME, ERROR; and frames without a
 * body. Ops and replies themselves are in ops_inline.h. */
#include "client/wire/ops.h"

#include "client/wire/names.h"

void gw_hello_encode(const struct gw_hello *h, struct gw_writer *w)
{
    gw_write8(w, h->role);
    gw_write8(w, h->flags);
    gw_write16(w, 0);
    gw_write32(w, h->window);
    gw_write32(w, h->index);
    gw_write64(w, h->incarnation);
    gwi_id_encode(h->id, w);
}

enum gw_status gw_hello_decode(struct gw_reader *r, struct gw_hello *h)
{
    struct gw_hello m = {0};
    m.role = gw_read8(r);
    m.flags = gw_read8(r);
    gwi_zero_decode(r, 2);
    m.window = gw_read32(r);
    m.index = gw_read32(r);
    m.incarnation = gw_read64(r);
    gwi_id_decode(r, m.id, m.role == GW_ROLE_CLIENT ? GWI_OPTIONAL : GWI_REQUIRED);
    gwi_expect(r, m.role >= GW_ROLE_CLIENT && m.role <= GW_ROLE_PEER_PULL);
    gwi_expect(r, (m.flags & ~GW_HELLO_RESUME) == 0);
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *h = m;
    return st;
}

void gw_welcome_encode(const struct gw_welcome *m, struct gw_writer *w)
{
    gw_write32(w, m->window);
    gw_write32(w, m->frame_bytes_max);
    gw_write32(w, m->value_bytes_max);
    gw_write8(w, m->flags);
    gw_write8(w, m->durability);
    gwi_zero_encode(w, 2);
    gw_write64(w, m->incarnation);
    gw_write64(w, m->cluster);
    gw_write64(w, m->durable);
    gw_write64(w, m->forgotten);
    gwi_id_encode(m->id, w);
}

enum gw_status gw_welcome_decode(struct gw_reader *r, struct gw_welcome *out)
{
    struct gw_welcome m = {0};
    m.window = gw_read32(r);
    m.frame_bytes_max = gw_read32(r);
    m.value_bytes_max = gw_read32(r);
    m.flags = gw_read8(r);
    m.durability = gw_read8(r);
    gwi_zero_decode(r, 2);
    m.incarnation = gw_read64(r);
    m.cluster = gw_read64(r);
    m.durable = gw_read64(r);
    m.forgotten = gw_read64(r);
    gwi_id_decode(r, m.id, GWI_OPTIONAL);
    gwi_expect(r, (m.flags & ~GW_WELCOME_KNOWN) == 0);
    gwi_expect(r, m.durability <= GW_WIRE_DURABILITY_COMMIT);
    enum gw_status st = gwi_body_end(r);
    if (st == GW_OK)
        *out = m;
    return st;
}

size_t gw_frame_error(uint8_t *room, size_t room_bytes, enum gw_status st, const char *text)
{
    GW_ASSERT(gw_failed(st) && gwi_status_known((int8_t)st));
    struct gw_writer w = gw_writer_of(room, room_bytes);
    uint8_t *header = gw_write_room(&w, GW_FRAME_HEADER);
    gw_write8(&w, (uint8_t)(int8_t)st);
    gwi_text_encode(text ? text : gw_status_text(st), GW_ERROR_TEXT_BYTES_MAX, &w);
    if (w.bad)
        return 0;
    size_t bytes = gw_writer_used(&w);
    gw_frame_encode(&(struct gw_frame){.bytes = (uint32_t)bytes, .kind = GW_KIND_ERROR}, header);
    return bytes;
}

size_t gw_frame_empty(uint8_t *room, size_t room_bytes, uint8_t kind, uint64_t session)
{
    if (room_bytes < GW_FRAME_HEADER)
        return 0;
    struct gw_frame f = {.bytes = GW_FRAME_HEADER, .kind = kind, .session = session};
    gw_frame_encode(&f, room);
    return GW_FRAME_HEADER;
}

enum gw_status gw_frame_error_decode(struct gw_reader *r, char *text, size_t text_bytes)
{
    GW_ASSERT(text_bytes > 0);
    char whole[GW_ERROR_TEXT_BYTES_MAX + 1];
    int8_t status = gwi_status_decode(r);
    gwi_text_decode(r, whole, sizeof whole);
    gwi_expect(r, gw_failed((enum gw_status)status));
    text[0] = '\0';
    if (gwi_body_end(r) != GW_OK)
        return GW_E_PROTOCOL;

    size_t n = strnlen(whole, text_bytes - 1);
    memcpy(text, whole, n);
    text[n] = '\0';
    return (enum gw_status)status;
}
