/* names.h - what the wire takes for a server id, an address and a text, and the codecs' strings.
 * An id is 1 to 63 bytes of [A-Za-z0-9._-]. An address is at most 63 printable bytes without
 * blanks. A text is for people: any bytes but control characters, so that nobody's terminal can be
 * steered from afar; encoding turns those into blanks, decoding refuses them. On the wire an id or
 * address is u8 bytes and the bytes, a text u16 bytes and the bytes; in memory each ends with a
 * zero. Any thread. Layer: client/wire. */
#ifndef GW_CLIENT_WIRE_NAMES_H
#define GW_CLIENT_WIRE_NAMES_H

#include "client/wire/frame.h"

/* For flags and configuration, so that a bad name is refused where it is typed. */
bool gw_id_valid(const char *id);
bool gw_address_valid(const char *address);

/* Below: for the files of this folder. `room` has GW_ID_BYTES_MAX + 1, GW_ADDRESS_BYTES_MAX + 1 or
 * room_bytes bytes. Reading something bad marks the reader and leaves an empty string. */
enum gwi_presence { GWI_REQUIRED, GWI_OPTIONAL }; /* optional: may be empty */
void gwi_id_encode(const char *id, struct gw_writer *w);
void gwi_id_decode(struct gw_reader *r, char *room, enum gwi_presence presence);
void gwi_address_encode(const char *address, struct gw_writer *w);
void gwi_address_decode(struct gw_reader *r, char *room, enum gwi_presence presence);
/* Cuts the text to text_bytes_max. */
void gwi_text_encode(const char *text, size_t text_bytes_max, struct gw_writer *w);
/* Refuses a text that room cannot hold. */
void gwi_text_decode(struct gw_reader *r, char *room, size_t room_bytes);
/* The status of a byte, or marks the reader bad. */
int8_t gwi_status_decode(struct gw_reader *r);
/* n bytes that must be zero. */
void gwi_zero_encode(struct gw_writer *w, size_t n);
void gwi_zero_decode(struct gw_reader *r, size_t n);
/* GW_OK if everything was good and nothing is left, else GW_E_PROTOCOL. */
GW_MUST_USE enum gw_status gwi_body_end(const struct gw_reader *r);

/* Marks the reader bad unless `good`. */
static inline void gwi_expect(struct gw_reader *r, bool good)
{
    r->bad |= !good;
}

/* The lowest and highest status; the assertions below fail when the list outgrows them. */
#define GWI_STATUS_LEAST GW_E_INTERNAL
#define GWI_STATUS_MOST  GW_END
#define GWI_STATUS_WITHIN(name, number, text)                                                      \
    _Static_assert((number) >= GWI_STATUS_LEAST && (number) <= GWI_STATUS_MOST,                    \
                   #name " lies outside of what the codecs accept");
GW_STATUS_LIST(GWI_STATUS_WITHIN)
#undef GWI_STATUS_WITHIN

static inline bool gwi_status_known(int8_t status)
{
    return (uint8_t)(status - GWI_STATUS_LEAST) <= GWI_STATUS_MOST - GWI_STATUS_LEAST;
}
#endif
