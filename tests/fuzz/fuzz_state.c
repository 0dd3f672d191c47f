/* Goal: no bytes make the decoder of state files, or of the sessions in them, read outside of them.
 * How: the bytes as they are, and again with the checksums made good, so that what lies behind them
 * is reached; the sessions of whatever is accepted are read. */
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "index/base/checksum.h"
#include "server/session_image.h"
#include "server/state_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void sessions(const uint8_t *bytes, size_t n)
{
    struct gwi_sessions s[2] = {{.bucket = NULL}, {.bucket = NULL}};
    uint64_t count = 0;
    if (gwi_sessions_init(&s[0]) && gwi_sessions_init(&s[1]))
        (void)gwi_session_image_read(bytes, n, s, 2, &count);
    gwi_sessions_fini(&s[0]);
    gwi_sessions_fini(&s[1]);
}

static void state(const uint8_t *bytes, size_t n)
{
    struct gwi_state s;
    char why[GWI_STATE_WHY];
    if (gwi_state_decode(bytes, n, &s, why) != GW_OK)
        return;
    for (uint32_t i = 0; i < s.parts_count; i++)
        sessions(s.parts[i].bytes, s.parts[i].n);
    gwi_state_fini(&s);
}

/* Magic, format, every section's checksum, end and the file's: as if we had written it. */
static void seal(uint8_t *bytes, size_t n)
{
    memcpy(bytes, GWI_STATE_MAGIC, 8);
    gw_store32(bytes + 8, GWI_STATE_FORMAT);
    for (size_t at = 16; n - at >= 16 + 12 + 8;) {
        uint64_t length = gw_load64(bytes + at + 8) % (n - at - 16 - 12 - 8 + 1);
        gw_store32(bytes + at + 4, 0);
        gw_store64(bytes + at + 8, length);
        uint8_t *tail = bytes + at + 16 + length;
        size_t tail_bytes = 4 + (size_t)((8 - (length + 4) % 8) % 8);
        gw_store32(tail, gw_crc32c(0, bytes + at + 16, length));
        memset(tail + 4, 0, tail_bytes - 4);
        at += 16 + length + tail_bytes;
    }
    memcpy(bytes + n - 8, "end.", 4);
    gw_store32(bytes + n - 4, gw_crc32c(0, bytes, n - 4));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    state(data, n);
    sessions(data, n);
    if (n < 16 + 16 + 12 + 8)
        return 0;
    uint8_t *copy = malloc(n);
    if (!copy)
        return 0;
    memcpy(copy, data, n);
    seal(copy, n);
    state(copy, n);
    free(copy);
    return 0;
}
