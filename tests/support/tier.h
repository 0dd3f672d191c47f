/* tier.h - what tests of the SSD tier share: a directory of their own, pages whose bytes follow
 * from their address, and reads and writes of a gw_device that wait for their callback. */
#ifndef GW_TESTS_SUPPORT_TIER_H
#define GW_TESTS_SUPPORT_TIER_H

#include <stdbool.h>
#include <stdint.h>

#include "index/device.h"

/* A fresh directory in TMPDIR or /tmp; the caller ends it with tier_dir_remove. */
char *tier_dir_make(void);
void tier_dir_remove(char *dir); /* with the files in it */
/* Files whose name ends so. */
uint32_t tier_dir_count(const char *dir, const char *suffix);
/* Open descriptors of this process. */
uint32_t tier_open_files(void);

/* A page or room aligned as devices want it, ended by free(). */
uint8_t *tier_room(uint32_t bytes);
/* Every 8 bytes hold a number made of their own address. */
void tier_fill(uint8_t *memory, uint32_t bytes, uint64_t at);
bool tier_is_filled(const uint8_t *memory, uint32_t bytes, uint64_t at);

/* Submits, polls until the callback and gives its status; a status of the submission as it is, but
 * GW_WOULD_BLOCK is tried again. Aborts when the callback does not come within 20 s or comes twice.
 */
enum gw_status tier_write(struct gw_device *device, uint32_t queue, uint64_t at,
                          const uint8_t *page, uint32_t bytes);
enum gw_status tier_read(struct gw_device *device, uint32_t queue, uint64_t at, uint8_t *room,
                         uint32_t bytes);

/* For many at once. */
struct tier_note {
    uint32_t calls;
    enum gw_status status;
};
void tier_noted(void *note, enum gw_status status);
/* Polls until all have been called; aborts after 20 s. */
void tier_await(struct gw_device *device, uint32_t queue, const struct tier_note *notes,
                uint32_t count);
#endif
