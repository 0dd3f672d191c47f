/* names.c - checks and codecs of ids, addresses, texts and other small things that many bodies
 * share. Rule: a string is checked byte by byte before it is copied, so that what decoding gives
 * out can go into logs, file names and SQL parameters as it is. */
#include "client/wire/names.h"

#include <string.h>

static bool id_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static bool address_byte(uint8_t c)
{
    return c > ' ' && c < 0x7f;
}

static bool text_byte(uint8_t c)
{
    return c >= ' ' && c != 0x7f;
}

static bool all_bytes(const uint8_t *bytes, size_t n, bool (*good)(uint8_t))
{
    for (size_t i = 0; i < n; i++)
        if (!good(bytes[i]))
            return false;
    return true;
}

bool gw_id_valid(const char *id)
{
    size_t n = strnlen(id, GW_ID_BYTES_MAX + 1);
    return n >= 1 && n <= GW_ID_BYTES_MAX && all_bytes((const uint8_t *)id, n, id_byte);
}

bool gw_address_valid(const char *address)
{
    size_t n = strnlen(address, GW_ADDRESS_BYTES_MAX + 1);
    return n >= 1 && n <= GW_ADDRESS_BYTES_MAX &&
           all_bytes((const uint8_t *)address, n, address_byte);
}

/* Copies n bytes of the reader into room, if they are good and fit in with a final zero. */
static void string_decode(struct gw_reader *r, size_t n, char *room, size_t room_bytes,
                          bool (*good)(uint8_t))
{
    room[0] = '\0';
    const uint8_t *bytes = gw_read_bytes(r, n);
    if (!bytes)
        return;
    if (n >= room_bytes || !all_bytes(bytes, n, good)) {
        r->bad = true;
        return;
    }
    memcpy(room, bytes, n);
    room[n] = '\0';
}

void gwi_id_encode(const char *id, struct gw_writer *w)
{
    size_t n = strnlen(id, GW_ID_BYTES_MAX);
    gw_write8(w, (uint8_t)n);
    gw_write_bytes(w, id, n);
}

void gwi_id_decode(struct gw_reader *r, char *room, enum gwi_presence presence)
{
    uint8_t n = gw_read8(r);
    gwi_expect(r, n > 0 || presence == GWI_OPTIONAL);
    string_decode(r, n, room, GW_ID_BYTES_MAX + 1, id_byte);
}

void gwi_address_encode(const char *address, struct gw_writer *w)
{
    size_t n = strnlen(address, GW_ADDRESS_BYTES_MAX);
    gw_write8(w, (uint8_t)n);
    gw_write_bytes(w, address, n);
}

void gwi_address_decode(struct gw_reader *r, char *room, enum gwi_presence presence)
{
    uint8_t n = gw_read8(r);
    gwi_expect(r, n > 0 || presence == GWI_OPTIONAL);
    string_decode(r, n, room, GW_ADDRESS_BYTES_MAX + 1, address_byte);
}

void gwi_text_encode(const char *text, size_t text_bytes_max, struct gw_writer *w)
{
    size_t n = 0; /* no strnlen: inlined with a literal gcc takes the bound for an over-read */
    while (n < text_bytes_max && text[n] != '\0')
        n++;
    gw_write16(w, (uint16_t)n);
    uint8_t *room = gw_write_room(w, n);
    if (!room)
        return;
    for (size_t i = 0; i < n; i++)
        room[i] = text_byte((uint8_t)text[i]) ? (uint8_t)text[i] : ' ';
}

void gwi_text_decode(struct gw_reader *r, char *room, size_t room_bytes)
{
    string_decode(r, gw_read16(r), room, room_bytes, text_byte);
}

int8_t gwi_status_decode(struct gw_reader *r)
{
    int8_t status = (int8_t)gw_read8(r);
    gwi_expect(r, gwi_status_known(status));
    return status;
}

void gwi_zero_encode(struct gw_writer *w, size_t n)
{
    uint8_t *room = gw_write_room(w, n);
    if (room)
        memset(room, 0, n);
}

void gwi_zero_decode(struct gw_reader *r, size_t n)
{
    const uint8_t *bytes = gw_read_bytes(r, n);
    for (size_t i = 0; bytes && i < n; i++)
        gwi_expect(r, bytes[i] == 0);
}

enum gw_status gwi_body_end(const struct gw_reader *r)
{
    return r->bad || gw_reader_left(r) != 0 ? GW_E_PROTOCOL : GW_OK;
}
