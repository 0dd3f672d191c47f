/* Goal: no bytes make the decoders of the commit log read outside of them, and what they accept is
 * written again to the same bytes. How: the input is taken as a block, as a seal and a foot, as a
 * payload, and as a name. The sanitizers see what is read; the rest aborts. */
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/bytes.h"
#include "tiering/commit_format.h"
#include "tiering/commit_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_entry(const uint8_t *at, size_t bytes, const struct gw_commit_entry *entry,
                        uint64_t first_serial)
{
    GW_ASSERT(gwi_commit_entry_bytes(entry) == bytes);
    uint8_t *again = malloc(bytes);
    GW_ASSERT(again);
    gwi_commit_entry_put(again, entry, first_serial);
    GW_ASSERT(memcmp(again, at, bytes) == 0);
    free(again);
}

static void walk(const uint8_t *payload, uint32_t bytes)
{
    uint32_t at = 0;
    struct gw_commit_group group;
    const uint8_t *entries;
    bool bad;
    while (gw_commit_next_group(payload, bytes, &at, &group, &entries, &bad)) {
        uint8_t head[GW_COMMIT_GROUP_BYTES];
        gwi_commit_group_put(head, &group);
        GW_ASSERT(at <= bytes && memcmp(head, entries - sizeof head, sizeof head) == 0);
        struct gw_commit_entry entry;
        for (uint32_t in = 0, before = 0; gw_commit_next_entry(&group, entries, &in, &entry, &bad);
             before = in)
            check_entry(entries + before, in - before, &entry, group.first_serial);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct gw_commit_block block;
    if (gwi_commit_block_look(data, n, &block) == GWI_COMMIT_BLOCK)
        walk(data + GW_COMMIT_BLOCK_HEADER, block.payload_bytes);
    if (n <= UINT32_MAX)
        walk(data, (uint32_t)n);
    if (n >= GW_COMMIT_BLOCK_UNIT) {
        uint16_t format;
        uint64_t store_id, bytes;
        (void)gwi_commit_foot_look(data, &format, &store_id, &bytes);
        (void)gwi_commit_seal_look(data, gw_load64(data + 8), gw_load64(data + 16));
    }
    /* The same input with a header that fits it, so that payloads are reached through blocks. */
    if (n >= GW_COMMIT_BLOCK_HEADER && n < (1u << 20)) {
        uint64_t whole = gwi_commit_block_bytes(n - GW_COMMIT_BLOCK_HEADER);
        uint8_t *copy = calloc(1, whole);
        GW_ASSERT(copy);
        memcpy(copy, data, n);
        gwi_commit_block_read(copy, &block);
        block.payload_bytes = (uint32_t)(n - GW_COMMIT_BLOCK_HEADER);
        block.sequence |= 1;
        block.durable_sequence = block.sequence - 1;
        gwi_commit_block_seal(copy, &block);
        struct gw_commit_block again;
        GW_ASSERT(gwi_commit_block_look(copy, whole, &again) == GWI_COMMIT_BLOCK);
        GW_ASSERT(again.sequence == block.sequence && again.view == block.view &&
                  again.interval == block.interval && again.payload_bytes == block.payload_bytes);
        GW_ASSERT(gwi_commit_block_look(copy, whole - 1, &again) == GWI_COMMIT_NOTHING);
        free(copy);
    }
    char text[64] = {0}, print[GWI_COMMIT_NAME_BYTES];
    struct gwi_commit_name name;
    memcpy(text, data, n < sizeof text ? n : sizeof text - 1);
    if (gwi_commit_name_parse(text, &name)) {
        gwi_commit_name_print(&name, print);
        GW_ASSERT(strcmp(print, text) == 0);
    }
    return 0;
}
