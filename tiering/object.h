/* object.h - an extent of a log as an object: independently compressed frames with an index.
 *
 * Little-endian. Header, GW_OBJECT_HEADER bytes: u32 magic "GWOB", u16 version 1, u16 page bits,
 * u64 cluster, u64 store id, u64 first address, u64 raw bytes, u32 frame bytes (raw, a power of
 * two), u32 frames, u32 incarnation, u32 hash seed check, u64 object bytes, zeros, u32 CRC32C of
 * what is before. Then the index: for each frame u32 offset / 8 from the object's start, u32 bytes
 * stored | raw << 31 (stored uncompressed), u32 CRC32C of the stored bytes, u32 CRC32C of the raw
 * ones; then u32 CRC32C of the index, u32 zero. Then the frames, each at a multiple of 8.
 * So header and index have a size that follows from the extent's (gw_object_head_bytes), and a cold
 * read is one range GET of one frame once they are known. Pages that do not exist in the log are
 * zeros. Thread rule: any thread. Layer: tiering. */
#ifndef GW_TIERING_OBJECT_H
#define GW_TIERING_OBJECT_H

#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

#define GW_OBJECT_HEADER     128u
#define GW_OBJECT_FRAME_MIN  (16u << 10)
#define GW_OBJECT_FRAME_MAX  (1u << 20)
#define GW_OBJECT_EXTENT_MAX (64u << 20)

struct gw_object_head {
    uint64_t cluster, store_id, first_address, raw_bytes, object_bytes;
    uint32_t frame_bytes, frames, incarnation, hash_seed_check;
    uint16_t page_bits;
};

struct gw_object_frame {
    uint64_t offset;
    uint32_t bytes, check, raw_check;
    bool raw;
};

size_t gw_object_head_bytes(uint64_t raw_bytes, uint32_t frame_bytes); /* header and index */
size_t gw_object_bytes_max(uint64_t raw_bytes, uint32_t frame_bytes);
/* Makes the object of `raw` in room. `head` tells all but frames and object_bytes, which are
 * filled in. level: of zstd. GW_E_INVALID, GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_object_make(struct gw_object_head *head, const uint8_t *raw,
                                          int level, uint8_t *room, size_t room_bytes,
                                          size_t *bytes);
/* Of bytes that nobody vouches for. frames NULL: the head alone. GW_E_CORRUPT; GW_E_VERSION. */
GW_MUST_USE enum gw_status gw_object_read_head(const uint8_t *bytes, size_t n,
                                               struct gw_object_head *head,
                                               struct gw_object_frame *frames, uint32_t frames_max);
/* One frame: checked, decompressed, checked. room: head->frame_bytes (the last one may be shorter).
 * GW_E_CORRUPT, GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_object_read_frame(const struct gw_object_head *head,
                                                const struct gw_object_frame *frame,
                                                uint32_t number, const uint8_t *stored, size_t n,
                                                uint8_t *room, size_t *raw_bytes);
#endif
