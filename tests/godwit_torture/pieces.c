/* pieces.c - see pieces.h. A piece: u32 mark, u32 bytes, u32 key, u32 zero, u64 id, u64 expiry,
 * u32 CRC32C of the piece with this field as zero, u32 zero, then bytes made of the id. */
#include "tests/godwit_torture/pieces.h"

#include <inttypes.h>
#include <stdio.h>

#include "index/base/bytes.h"
#include "index/base/checksum.h"
#include "tests/godwit_torture/history.h"

#define MARK   UINT32_C(0x65636970)
#define AT_CRC 32u

static uint32_t checksum(const uint8_t *piece, size_t bytes)
{
    uint32_t crc = gw_crc32c(0, piece, AT_CRC);
    return gw_crc32c(crc, piece + AT_CRC + 4, bytes - AT_CRC - 4);
}

void torture_piece_write(uint8_t *room, size_t bytes, uint32_t key, uint64_t id, uint64_t expiry_ms)
{
    struct gw_writer w = gw_writer_of(room, bytes);
    gw_write32(&w, MARK);
    gw_write32(&w, (uint32_t)bytes);
    gw_write32(&w, key);
    gw_write32(&w, 0);
    gw_write64(&w, id);
    gw_write64(&w, expiry_ms);
    gw_write64(&w, 0);
    for (uint64_t word = id; gw_writer_left(&w) > 0;) {
        size_t left = gw_writer_left(&w);
        word = torture_state_append(word, id);
        gw_write_bytes(&w, &word, left < sizeof word ? left : sizeof word);
    }
    gw_store32(room + AT_CRC, checksum(room, bytes));
}

bool torture_value_read(const uint8_t *value, size_t bytes, uint32_t key, struct torture_value *out,
                        char *why, size_t why_bytes)
{
    *out = (struct torture_value){0};
    for (size_t at = 0; at < bytes;) {
        const uint8_t *piece = value + at;
        size_t left = bytes - at, length = left >= 8 ? gw_load32(piece + 4) : 0;
        const char *what = NULL;
        if (left < TORTURE_PIECE_HEAD || gw_load32(piece) != MARK)
            what = "no piece begins here";
        else if (length < TORTURE_PIECE_HEAD || length > left)
            what = "the piece is longer than what is there";
        else if (checksum(piece, length) != gw_load32(piece + AT_CRC))
            what = "the checksum is wrong";
        else if (gw_load32(piece + 8) != key)
            what = "the piece belongs to another key";
        if (what) {
            snprintf(why, why_bytes, "%s, at byte %zu of %zu, behind %zu whole pieces", what, at,
                     bytes, out->pieces);
            return false;
        }
        out->last = gw_load64(piece + 16);
        out->expiry_ms = gw_load64(piece + 24);
        out->state = torture_state_append(out->state, out->last);
        out->pieces++;
        at += length;
    }
    if (out->pieces == 0) {
        snprintf(why, why_bytes, "the value is empty, and nobody writes such");
        return false;
    }
    return true;
}
