/* Goal: no bytes make the decoders of objects and of tier.json read or write outside of what they
 * were given. How: the input is taken as an object, also with a header whose checksums fit, and as
 * the text of tier.json, also with a checksum that fits. The sanitizers see what is touched. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "index/base/checksum.h"
#include "tiering/object.h"
#include "tiering/tier_internal.h"

#define FRAMES_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_object(const uint8_t *data, size_t n)
{
    struct gw_object_head head;
    struct gw_object_frame *frames = malloc(FRAMES_MAX * sizeof *frames);
    GW_ASSERT(frames);
    if (gw_object_read_head(data, n, &head, frames, FRAMES_MAX) == GW_OK) {
        uint8_t *room = malloc(head.frame_bytes);
        GW_ASSERT(room);
        for (uint32_t i = 0; i < head.frames; i++) {
            size_t raw = 0;
            GW_ASSERT(frames[i].offset + frames[i].bytes <= head.object_bytes);
            if (frames[i].offset + frames[i].bytes <= n &&
                gw_object_read_frame(&head, &frames[i], i, data + frames[i].offset, frames[i].bytes,
                                     room, &raw) == GW_OK)
                GW_ASSERT(raw > 0 && raw <= head.frame_bytes);
        }
        free(room);
    }
    free(frames);
}

static void read_state(const char *text, size_t n)
{
    struct tier_state state;
    if (gwi_tier_state_read(1, 2, text, n, &state) != GW_OK)
        return;
    size_t bytes = 0;
    char *again = gwi_tier_state_write(1, 2, &state, &bytes);
    struct tier_state same;
    GW_ASSERT(again && gwi_tier_state_read(1, 2, again, bytes, &same) == GW_OK);
    GW_ASSERT(same.count == state.count && same.local_from == state.local_from);
    GW_ASSERT(state.count == 0 ||
              memcmp(same.objects, state.objects, state.count * sizeof *state.objects) == 0);
    free(again);
    free(same.objects);
    free(state.objects);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    read_object(data, n);
    read_state((const char *)data, n);
    if (n >= GW_OBJECT_HEADER && n < (1u << 20)) {
        uint8_t *copy = malloc(n);
        GW_ASSERT(copy);
        memcpy(copy, data, n);
        gw_store32(copy, 0x424F5747u);
        gw_store16(copy + 4, 1);
        gw_store32(copy + GW_OBJECT_HEADER - 4, gw_crc32c(0, copy, GW_OBJECT_HEADER - 4));
        uint64_t index = (uint64_t)gw_load32(copy + 44) * 16;
        if (GW_OBJECT_HEADER + index + 8 <= n)
            gw_store32(copy + GW_OBJECT_HEADER + index,
                       gw_crc32c(0, copy + GW_OBJECT_HEADER, index));
        read_object(copy, n);
        free(copy);
        char *text = malloc(n + 64);
        GW_ASSERT(text);
        memcpy(text, data, n);
        int more = snprintf(text + n, 64, ",\"crc32c\":\"%08x\"}\n", gw_crc32c(0, text, n));
        read_state(text, n + (size_t)more);
        free(text);
    }
    return 0;
}
