/* log_image.c - see log_image.h. */
#include "tests/support/log_image.h"

#include <stdlib.h>
#include <string.h>

#include "index/log.h"

static void page_read(struct gw_ram_device *ram, uint64_t at, uint8_t *page, uint64_t bytes)
{
    for (uint64_t i = 0; i < bytes; i += GW_DEVICE_BLOCK) {
        const uint8_t *block = gw_ram_device_peek(ram, gw_addr_of(at + i));
        GW_ASSERT(block != NULL);
        memcpy(page + i, block, GW_DEVICE_BLOCK);
    }
}

static uint64_t page_walk(uint64_t at, uint8_t *page, uint64_t bytes, gw_image_cb fn, void *ctx)
{
    const struct gw_log_page_header *header = (const void *)page;
    uint64_t end = (uint64_t)header->used_units * GW_ADDR_UNIT, count = 0;
    GW_ASSERT(header->magic == GW_LOG_PAGE_MAGIC && header->address == at);
    GW_ASSERT(end >= GW_LOG_PAGE_HEADER && end <= bytes);
    for (uint64_t i = GW_LOG_PAGE_HEADER; i < end;) {
        struct gw_record *r = (struct gw_record *)(void *)(page + i);
        uint64_t units = gw_record_units(r), control = atomic_load(&r->control);
        GW_ASSERT(units != 0 && i + units * GW_ADDR_UNIT <= end);
        GW_ASSERT(!(control & GW_CONTROL_LOCKED));
        if (gw_control_kind(control) != GW_RECORD_VOID) {
            struct gw_image_record record = {.address = gw_addr_of(at + i),
                                             .key = gw_record_key(r, control),
                                             .value = (uint8_t *)gw_record_value(r, control),
                                             .control = control,
                                             .expiry_ms = gw_record_expiry(r, control),
                                             .value_bytes = gw_record_value_bytes(r, control)};
            fn(ctx, &record);
            count++;
        }
        i += units * GW_ADDR_UNIT;
    }
    return count;
}

uint64_t gw_log_image_walk(struct gw_ram_device *ram, uint32_t page_bits,
                           const struct gw_store_image *image, gw_image_cb fn, void *ctx)
{
    uint64_t bytes = (uint64_t)1 << page_bits, count = 0;
    GW_ASSERT(image->begin.v % bytes == 0 && image->end.v % bytes == 0);
    uint8_t *page = aligned_alloc(GW_DEVICE_BLOCK, bytes);
    GW_ASSERT(page != NULL);
    for (uint64_t at = image->begin.v; at < image->end.v; at += bytes) {
        page_read(ram, at, page, bytes);
        count += page_walk(at, page, bytes, fn, ctx);
    }
    free(page);
    return count;
}
