/* log_image.h - what an image of a checkpoint holds, read from the pages of a RAM device as
 * recovery would: every record of [begin, end), newest one of each key last.
 *
 * Aborts when a page of the range is missing or does not look like one. Thread rule: any thread;
 * the pages must not be trimmed meanwhile. */
#ifndef GW_TESTS_SUPPORT_LOG_IMAGE_H
#define GW_TESTS_SUPPORT_LOG_IMAGE_H

#include "index/record_inline.h"
#include "index/store_cut.h"
#include "tests/support/ram_device.h"

struct gw_image_record {
    gw_addr address;
    const uint8_t *key, *value; /* borrowed until fn returns */
    uint64_t control, expiry_ms;
    uint64_t value_bytes;
};
typedef void (*gw_image_cb)(void *ctx, const struct gw_image_record *record);

/* Calls fn for every record that is not void, in rising order of addresses. Returns how many. */
uint64_t gw_log_image_walk(struct gw_ram_device *ram, uint32_t page_bits,
                           const struct gw_store_image *image, gw_image_cb fn, void *ctx);
#endif
