/* object.c - makes and reads objects (object.h).
 *
 *  1. A frame that zstd does not make smaller by an eighth is stored as it is: it would cost a
 *     decompression for nothing.
 *  2. Of what is read nothing is believed before its checksum was seen, and then only if it fits:
 *     frames lie behind the index, in order, inside of the object, and are no longer than zstd can
 *     make them. What is decompressed is compared with the checksum of the raw bytes too: an object
 *     of another zstd, or a bug in one, is no wrong data. */
#include "tiering/object.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "index/base/checksum.h"

#define MAGIC       0x424F5747u /* "GWOB" */
#define FORMAT      1u
#define HEADER_CRC  (GW_OBJECT_HEADER - 4)
#define ENTRY_BYTES 16u
#define TAIL_BYTES  8u /* of the index */
#define RAW_BIT     0x80000000u
#define ALIGN       8u

static_assert((GW_OBJECT_HEADER + ENTRY_BYTES + TAIL_BYTES) % ALIGN == 0, "frames are aligned");
static_assert(GW_OBJECT_EXTENT_MAX / GW_OBJECT_FRAME_MIN <= 4096, "indexes are small");

static uint64_t frames_of(uint64_t raw_bytes, uint32_t frame_bytes)
{
    return (raw_bytes + frame_bytes - 1) / frame_bytes;
}

static bool sizes_fit(uint64_t raw_bytes, uint32_t frame_bytes)
{
    return frame_bytes >= GW_OBJECT_FRAME_MIN && frame_bytes <= GW_OBJECT_FRAME_MAX &&
           (frame_bytes & (frame_bytes - 1)) == 0 && raw_bytes > 0 &&
           raw_bytes <= GW_OBJECT_EXTENT_MAX;
}

static uint64_t aligned(uint64_t bytes)
{
    return (bytes + ALIGN - 1) & ~(uint64_t)(ALIGN - 1);
}

/* Raw bytes of one frame: the last may be shorter. */
static uint32_t raw_of(const struct gw_object_head *head, uint32_t number)
{
    uint64_t from = (uint64_t)number * head->frame_bytes, left = head->raw_bytes - from;
    return left < head->frame_bytes ? (uint32_t)left : head->frame_bytes;
}

size_t gw_object_head_bytes(uint64_t raw_bytes, uint32_t frame_bytes)
{
    GW_ASSERT(frame_bytes > 0);
    return GW_OBJECT_HEADER + (size_t)frames_of(raw_bytes, frame_bytes) * ENTRY_BYTES + TAIL_BYTES;
}

size_t gw_object_bytes_max(uint64_t raw_bytes, uint32_t frame_bytes)
{
    /* Each frame is stored raw at worst (rule 1), then padded. */
    return gw_object_head_bytes(raw_bytes, frame_bytes) + (size_t)raw_bytes +
           (size_t)frames_of(raw_bytes, frame_bytes) * ALIGN;
}

static void header_write(const struct gw_object_head *head, uint8_t *room)
{
    memset(room, 0, GW_OBJECT_HEADER);
    struct gw_writer w = gw_writer_of(room, GW_OBJECT_HEADER);
    gw_write32(&w, MAGIC);
    gw_write16(&w, FORMAT);
    gw_write16(&w, head->page_bits);
    gw_write64(&w, head->cluster);
    gw_write64(&w, head->store_id);
    gw_write64(&w, head->first_address);
    gw_write64(&w, head->raw_bytes);
    gw_write32(&w, head->frame_bytes);
    gw_write32(&w, head->frames);
    gw_write32(&w, head->incarnation);
    gw_write32(&w, head->hash_seed_check);
    gw_write64(&w, head->object_bytes);
    GW_ASSERT(!w.bad);
    gw_store32(room + HEADER_CRC, gw_crc32c(0, room, HEADER_CRC));
}

/* Stores one frame at `at`, of at most raw_bytes; tells what it wrote. */
static enum gw_status frame_make(ZSTD_CCtx *zstd, int level, const uint8_t *raw, uint32_t raw_bytes,
                                 uint8_t *at, struct gw_object_frame *frame)
{
    /* With less room than the raw bytes zstd gives up early on what does not shrink. */
    size_t n = ZSTD_compressCCtx(zstd, at, raw_bytes - raw_bytes / 8, raw, raw_bytes, level);
    frame->raw = ZSTD_isError(n);
    if (frame->raw && ZSTD_getErrorCode(n) == ZSTD_error_memory_allocation)
        return GW_E_NOMEM;
    if (frame->raw) {
        memcpy(at, raw, raw_bytes);
        n = raw_bytes;
    }
    frame->bytes = (uint32_t)n;
    frame->check = gw_crc32c(0, at, n);
    frame->raw_check = frame->raw ? frame->check : gw_crc32c(0, raw, raw_bytes);
    return GW_OK;
}

enum gw_status gw_object_make(struct gw_object_head *head, const uint8_t *raw, int level,
                              uint8_t *room, size_t room_bytes, size_t *bytes)
{
    if (!sizes_fit(head->raw_bytes, head->frame_bytes) ||
        room_bytes < gw_object_bytes_max(head->raw_bytes, head->frame_bytes))
        return GW_E_INVALID;
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    if (!zstd)
        return GW_E_NOMEM;
    enum gw_status status = GW_OK;
    head->frames = (uint32_t)frames_of(head->raw_bytes, head->frame_bytes);
    uint64_t at = gw_object_head_bytes(head->raw_bytes, head->frame_bytes);
    uint8_t *entry = room + GW_OBJECT_HEADER;
    for (uint32_t i = 0; status == GW_OK && i < head->frames; i++, entry += ENTRY_BYTES) {
        struct gw_object_frame frame;
        status = frame_make(zstd, level, raw + (uint64_t)i * head->frame_bytes, raw_of(head, i),
                            room + at, &frame);
        if (status != GW_OK)
            break;
        gw_store32(entry, (uint32_t)(at / ALIGN));
        gw_store32(entry + 4, frame.bytes | (frame.raw ? RAW_BIT : 0));
        gw_store32(entry + 8, frame.check);
        gw_store32(entry + 12, frame.raw_check);
        uint64_t end = at + frame.bytes;
        at = aligned(end);
        memset(room + end, 0, at - end);
    }
    ZSTD_freeCCtx(zstd);
    if (status != GW_OK)
        return status;
    size_t index_bytes = (size_t)head->frames * ENTRY_BYTES;
    gw_store32(entry, gw_crc32c(0, room + GW_OBJECT_HEADER, index_bytes));
    gw_store32(entry + 4, 0);
    head->object_bytes = at;
    header_write(head, room);
    *bytes = (size_t)at;
    return GW_OK;
}

static enum gw_status header_read(const uint8_t *bytes, size_t n, struct gw_object_head *head)
{
    if (n < GW_OBJECT_HEADER)
        return GW_E_CORRUPT;
    struct gw_reader r = gw_reader_of(bytes, GW_OBJECT_HEADER);
    if (gw_read32(&r) != MAGIC || gw_load32(bytes + HEADER_CRC) != gw_crc32c(0, bytes, HEADER_CRC))
        return GW_E_CORRUPT;
    if (gw_read16(&r) != FORMAT)
        return GW_E_VERSION;
    struct gw_object_head h = {.page_bits = gw_read16(&r)};
    h.cluster = gw_read64(&r);
    h.store_id = gw_read64(&r);
    h.first_address = gw_read64(&r);
    h.raw_bytes = gw_read64(&r);
    h.frame_bytes = gw_read32(&r);
    h.frames = gw_read32(&r);
    h.incarnation = gw_read32(&r);
    h.hash_seed_check = gw_read32(&r);
    h.object_bytes = gw_read64(&r);
    for (const uint8_t *p = r.at; p < bytes + HEADER_CRC; p++)
        if (*p != 0)
            return GW_E_CORRUPT;
    if (!sizes_fit(h.raw_bytes, h.frame_bytes) || h.page_bits < 12 || h.page_bits > 30 ||
        h.first_address > UINT64_MAX - h.raw_bytes ||
        h.frames != frames_of(h.raw_bytes, h.frame_bytes) ||
        h.object_bytes < gw_object_head_bytes(h.raw_bytes, h.frame_bytes) ||
        h.object_bytes > gw_object_bytes_max(h.raw_bytes, h.frame_bytes))
        return GW_E_CORRUPT;
    *head = h;
    return GW_OK;
}

/* Whether frame `number`, which begins no lower than `from`, may be as its entry says. */
static bool frame_fits(const struct gw_object_head *head, uint32_t number,
                       const struct gw_object_frame *f, uint64_t from)
{
    uint32_t raw = raw_of(head, number);
    return f->offset == from && f->bytes > 0 && f->bytes <= raw && (!f->raw || f->bytes == raw) &&
           (!f->raw || f->check == f->raw_check) && f->offset + f->bytes <= head->object_bytes;
}

enum gw_status gw_object_read_head(const uint8_t *bytes, size_t n, struct gw_object_head *head,
                                   struct gw_object_frame *frames, uint32_t frames_max)
{
    struct gw_object_head h;
    enum gw_status status = header_read(bytes, n, &h);
    if (status != GW_OK)
        return status;
    if (frames) {
        size_t index_bytes = (size_t)h.frames * ENTRY_BYTES;
        const uint8_t *index = bytes + GW_OBJECT_HEADER;
        if (h.frames > frames_max || n < gw_object_head_bytes(h.raw_bytes, h.frame_bytes) ||
            gw_load32(index + index_bytes) != gw_crc32c(0, index, index_bytes) ||
            gw_load32(index + index_bytes + 4) != 0)
            return GW_E_CORRUPT;
        uint64_t from = gw_object_head_bytes(h.raw_bytes, h.frame_bytes);
        for (uint32_t i = 0; i < h.frames; i++, index += ENTRY_BYTES) {
            uint32_t word = gw_load32(index + 4);
            struct gw_object_frame f = {.offset = (uint64_t)gw_load32(index) * ALIGN,
                                        .bytes = word & ~RAW_BIT,
                                        .raw = (word & RAW_BIT) != 0,
                                        .check = gw_load32(index + 8),
                                        .raw_check = gw_load32(index + 12)};
            if (!frame_fits(&h, i, &f, from))
                return GW_E_CORRUPT;
            from = aligned(f.offset + f.bytes);
            frames[i] = f;
        }
        if (from != h.object_bytes)
            return GW_E_CORRUPT;
    }
    *head = h;
    return GW_OK;
}

enum gw_status gw_object_read_frame(const struct gw_object_head *head,
                                    const struct gw_object_frame *frame, uint32_t number,
                                    const uint8_t *stored, size_t n, uint8_t *room,
                                    size_t *raw_bytes)
{
    if (number >= head->frames || n != frame->bytes || gw_crc32c(0, stored, n) != frame->check)
        return GW_E_CORRUPT;
    uint32_t raw = raw_of(head, number);
    if (frame->raw) {
        if (n != raw)
            return GW_E_CORRUPT;
        memcpy(room, stored, n);
    } else {
        size_t got = ZSTD_decompress(room, raw, stored, n);
        if (ZSTD_isError(got) && ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation)
            return GW_E_NOMEM;
        if (got != raw || gw_crc32c(0, room, raw) != frame->raw_check)
            return GW_E_CORRUPT;
    }
    *raw_bytes = raw;
    return GW_OK;
}
