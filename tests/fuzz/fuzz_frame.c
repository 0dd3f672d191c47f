/* Goal: no bytes make the frame header's code read outside of them, and a header that is accepted
 * encodes to the same bytes.
 * How: the input is a frame; its length field is also believed, to reach what lies behind it, and
 * its checksum sealed, which the fuzzer could not guess. */
#include <stdlib.h>
#include <string.h>

#include "client/wire/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const uint8_t *frame, uint32_t n)
{
    struct gw_frame f;
    uint8_t again[GW_FRAME_HEADER];
    if (gw_frame_decode(frame, n, &f) != GW_OK)
        return;
    gw_frame_encode(&f, again);
    if (f.bytes != n || memcmp(again, frame, sizeof again) != 0)
        abort();
    if (gw_reader_left(&(struct gw_reader){frame + GW_FRAME_HEADER, frame + n, false}) !=
        n - GW_FRAME_HEADER)
        abort();
    if (gw_frame_count_plausible(&f, 1) && f.count > n - GW_FRAME_HEADER)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint32_t bytes;
    enum gw_status st = gw_frame_length(data, n, 1u << 20, &bytes);
    if (st != GW_OK && bytes != 0)
        abort();
    if (bytes != 0 && (bytes < GW_FRAME_HEADER || bytes > 1u << 20))
        abort();
    check(data, (uint32_t)n);

    if (n < GW_FRAME_HEADER)
        return 0;
    uint8_t *frame = malloc(n);
    if (!frame)
        return 0;
    memcpy(frame, data, n);
    gw_store32(frame, (uint32_t)n);
    gw_store16(frame + 4, GW_FRAME_MAGIC);
    frame[6] = GW_FRAME_VERSION;
    check(frame, (uint32_t)n);
    gw_frame_seal(frame);
    struct gw_frame f;
    if (gw_frame_decode(frame, (uint32_t)n, &f) == GW_E_CORRUPT)
        abort(); /* just sealed */
    check(frame, (uint32_t)n);
    (void)gw_frame_kind_name(frame[7]);
    free(frame);
    return 0;
}
