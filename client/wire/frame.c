/* frame.c - the frame header: lengths, checks and the checksum.
 * Rules: (1) a transport trusts a length only after magic, version and bound are checked, from the
 * first 8 bytes alone; (2) nothing of a frame is used before its checksum, if it has one, is right;
 * (3) what this version does not know (kinds, flags, reserved fields) is refused, so that a later
 * version can give it a meaning. Layout: docs/PROTOCOL.md. */
#include "client/wire/frame.h"

#include "client/wire/ops.h"
#include "client/wire/peer.h"
#include "index/base/checksum.h"

enum {
    AT_BYTES = 0,
    AT_MAGIC = 4,
    AT_VERSION = 6,
    AT_KIND = 7,
    AT_FLAGS = 8,
    AT_ZERO2 = 10,
    AT_COUNT = 12,
    AT_SESSION = 16,
    AT_SEQUENCE = 24,
    AT_VIEW = 32,
    AT_SERIAL = 40,
    AT_CONFIRMED = 48,
    AT_CRC = 56,
    AT_ZERO4 = 60,
    LENGTH_BYTES = 8 /* length, magic and version: what gw_frame_length needs */
};
_Static_assert(AT_ZERO4 + 4 == GW_FRAME_HEADER, "the header's fields fill it");
_Static_assert((GW_FRAME_HAS_CRC | GW_CHUNK_LAST | GW_BATCH_RESUME | GW_BATCH_EARLY | GW_CHUNK_HOT |
                GW_PULL_LEADS | GW_CHUNK_PAGE) == GW_FRAME_HAS_CRC + GW_CHUNK_LAST +
                                                      GW_BATCH_RESUME + GW_BATCH_EARLY +
                                                      GW_CHUNK_HOT + GW_PULL_LEADS + GW_CHUNK_PAGE,
               "flags of a frame are distinct bits");

static bool kind_exists(uint8_t kind)
{
    switch (kind) {
#define KIND_CASE(name, number, text) case name:
        GW_FRAME_KIND_LIST(KIND_CASE)
#undef KIND_CASE
        return true;
    default:
        return false;
    }
}

static uint16_t flags_of(uint8_t kind)
{
    switch (kind) {
    case GW_KIND_CHUNK:
        return GW_FRAME_HAS_CRC | GW_CHUNK_LAST | GW_CHUNK_HOT | GW_CHUNK_PAGE;
    case GW_KIND_CHUNK_ACK:
        return GW_FRAME_HAS_CRC | GW_CHUNK_PAGE;
    case GW_KIND_BATCH:
        return GW_FRAME_HAS_CRC | GW_BATCH_RESUME | GW_BATCH_EARLY;
    case GW_KIND_PULL:
        return GW_FRAME_HAS_CRC | GW_PULL_LEADS;
    default:
        return GW_FRAME_HAS_CRC;
    }
}

static uint32_t frame_crc(const uint8_t *frame, uint32_t bytes)
{
    static const uint8_t zero[4];
    uint32_t crc = gw_crc32c(0, frame, AT_CRC);
    crc = gw_crc32c(crc, zero, sizeof zero);
    return gw_crc32c(crc, frame + AT_ZERO4, bytes - AT_ZERO4);
}

void gw_frame_encode(const struct gw_frame *f, uint8_t *room)
{
    gw_store32(room + AT_BYTES, f->bytes);
    gw_store16(room + AT_MAGIC, GW_FRAME_MAGIC);
    room[AT_VERSION] = GW_FRAME_VERSION;
    room[AT_KIND] = f->kind;
    gw_store16(room + AT_FLAGS, f->flags);
    gw_store16(room + AT_ZERO2, 0);
    gw_store32(room + AT_COUNT, f->count);
    gw_store64(room + AT_SESSION, f->session);
    gw_store64(room + AT_SEQUENCE, f->sequence);
    gw_store64(room + AT_VIEW, f->view);
    gw_store64(room + AT_SERIAL, f->serial);
    gw_store64(room + AT_CONFIRMED, f->confirmed);
    gw_store32(room + AT_CRC, f->crc);
    gw_store32(room + AT_ZERO4, 0);
}

enum gw_status gw_frame_decode(const uint8_t *frame, uint32_t bytes, struct gw_frame *out)
{
    if (bytes < GW_FRAME_HEADER || gw_load16(frame + AT_MAGIC) != GW_FRAME_MAGIC)
        return GW_E_PROTOCOL;
    if (frame[AT_VERSION] != GW_FRAME_VERSION)
        return GW_E_VERSION; /* before all else: another version may lay out the rest differently */
    if (gw_load32(frame + AT_BYTES) != bytes)
        return GW_E_PROTOCOL;

    uint8_t kind = frame[AT_KIND];
    uint16_t flags = gw_load16(frame + AT_FLAGS);
    uint32_t crc = gw_load32(frame + AT_CRC);
    if (!(flags & GW_FRAME_HAS_CRC)) {
        if (crc != 0)
            return GW_E_PROTOCOL;
    } else if (frame_crc(frame, bytes) != crc) {
        return GW_E_CORRUPT;
    }
    if (!kind_exists(kind) || (flags & ~flags_of(kind)) || gw_load16(frame + AT_ZERO2) != 0 ||
        gw_load32(frame + AT_ZERO4) != 0)
        return GW_E_PROTOCOL;

    *out = (struct gw_frame){
        .bytes = bytes,
        .kind = kind,
        .flags = flags,
        .count = gw_load32(frame + AT_COUNT),
        .session = gw_load64(frame + AT_SESSION),
        .sequence = gw_load64(frame + AT_SEQUENCE),
        .view = gw_load64(frame + AT_VIEW),
        .serial = gw_load64(frame + AT_SERIAL),
        .confirmed = gw_load64(frame + AT_CONFIRMED),
        .crc = crc,
    };
    return GW_OK;
}

enum gw_status gw_frame_length(const uint8_t *start, size_t have, uint32_t max, uint32_t *bytes)
{
    *bytes = 0;
    if (have < LENGTH_BYTES)
        return GW_OK;
    if (gw_load16(start + AT_MAGIC) != GW_FRAME_MAGIC)
        return GW_E_PROTOCOL;
    if (start[AT_VERSION] != GW_FRAME_VERSION)
        return GW_E_VERSION;
    uint32_t length = gw_load32(start + AT_BYTES);
    if (length < GW_FRAME_HEADER || length > max)
        return GW_E_TOO_LARGE;
    *bytes = length;
    return GW_OK;
}

void gw_frame_seal(uint8_t *frame)
{
    gw_store16(frame + AT_FLAGS, gw_load16(frame + AT_FLAGS) | GW_FRAME_HAS_CRC);
    gw_store32(frame + AT_CRC, frame_crc(frame, gw_load32(frame + AT_BYTES)));
}

const char *gw_frame_kind_name(uint8_t kind)
{
    switch (kind) {
#define KIND_NAME(name, number, text)                                                              \
    case name:                                                                                     \
        return text;
        GW_FRAME_KIND_LIST(KIND_NAME)
#undef KIND_NAME
    default:
        return "unknown";
    }
}
