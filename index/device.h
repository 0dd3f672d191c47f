/* device.h - what the hybrid log needs of the place where its pages go beyond memory.
 *
 * Declared here, below everything that implements it (tiering, the simulator). The log works
 * without one (NULL): then nothing leaves memory and a full store refuses writes.
 * Rules for an implementation:
 *  1. Addresses are the log's byte addresses; offsets and lengths are multiples of
 *     GW_DEVICE_BLOCK. A write covers whole pages, each page is written once.
 *  2. Submitting never blocks: GW_PENDING means exactly one callback, from gw_device poll on the
 *     submitting thread, never from inside the submitting call; any other status means none
 *     (GW_WOULD_BLOCK: the queue is full, poll and try again).
 *  3. A write's callback says GW_OK only when the bytes are durable in the device's sense.
 *  4. Reads are verified against the checksums of their blocks: GW_E_CORRUPT, never wrong bytes.
 * Thread rule: `queue` is the caller's dispatcher; each has its own. Layer: index. */
#ifndef GW_INDEX_DEVICE_H
#define GW_INDEX_DEVICE_H

#include <stdint.h>

#include "index/address.h"
#include "index/base/status.h"

#define GW_DEVICE_BLOCK 4096u

typedef void (*gw_device_cb)(void *arg, enum gw_status status);

struct gw_device {
    /* Reads bytes at `at` into room, which is borrowed until the callback. */
    enum gw_status (*read)(struct gw_device *device, uint32_t queue, gw_addr at, void *room,
                           uint32_t bytes, gw_device_cb cb, void *arg);
    /* Writes whole pages; `from` is borrowed until the callback. */
    enum gw_status (*write)(struct gw_device *device, uint32_t queue, gw_addr at, const void *from,
                            uint64_t bytes, gw_device_cb cb, void *arg);
    /* Nothing below `below` is needed any more; best effort, no callback. */
    void (*trim)(struct gw_device *device, gw_addr below);
    /* Runs callbacks of this queue that are due; returns how many. */
    uint32_t (*poll)(struct gw_device *device, uint32_t queue);
};
#endif
