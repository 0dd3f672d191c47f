/* device.h - what the hybrid log needs of the place where its pages go beyond memory.
 *
 * Declared here, below everything that implements it (tiering, the simulator, tests). The log works
 * without one (NULL): then nothing leaves memory, and a full store refuses writes or, in cache
 * mode, drops its oldest records.
 * Rules for an implementation:
 *  1. Addresses are the log's byte addresses. A write is one whole page; each page is written once,
 *     pages may be written in any order. A read begins and ends at multiples of GW_DEVICE_BLOCK and
 *     lies within one page that was written before.
 *  2. Submitting never blocks and never calls back: GW_PENDING means exactly one callback later,
 *     from `poll` on the same queue; any other status means none:
 *     GW_WOULD_BLOCK  the queue is full, poll and try again
 *     GW_E_FULL       write: the configured bound or the filesystem has no room; the page stays the
 *                     log's and is offered again later
 *     GW_NOT_FOUND    read: below what was trimmed, or never written
 *     GW_E_IO         the device has failed for good
 *  3. A write's callback says GW_OK when the page can be read back from then on, by every queue. A
 *     failed write may be offered again (it overwrites the same place).
 *  4. Reads are verified against the checksums of their blocks: GW_E_CORRUPT, never wrong bytes.
 *     GW_NOT_FOUND: trimmed meanwhile. GW_E_IO: could not be read. GW_E_UNREACHABLE: it lies in the
 *     object store, which has not answered in time; it may do so later.
 *  5. Rooms of reads are aligned to GW_DEVICE_BLOCK; those in a region given to `adopt` before may
 *     be registered with the kernel.
 * Thread rule: `queue` is the caller's (a thread of the store, below threads_max of the store);
 * read, write, poll, adopt of one queue by one thread at a time; trim and usage by any thread.
 * Layer: index. */
#ifndef GW_INDEX_DEVICE_H
#define GW_INDEX_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/address.h"
#include "index/base/status.h"

#define GW_DEVICE_BLOCK 4096u
/* Addresses of other servers' logs, for reads only: this bit, GW_DEVICE_ORIGIN bits of a number
 * that `origin` gives, and the address there. A foreign page need not be as large as ours. */
#define GW_DEVICE_FOREIGN      ((uint64_t)1 << 63)
#define GW_DEVICE_ORIGIN_SHIFT 48

typedef void (*gw_device_cb)(void *arg, enum gw_status status);

/* Bytes on the device, file headers and tables included. */
struct gw_device_usage {
    uint64_t used_bytes;    /* taken now */
    uint64_t limit_bytes;   /* 0: no bound */
    uint64_t segment_bytes; /* the unit in which room is taken and trimmed, without tables */
    uint64_t memory_bytes;  /* memory that the device itself holds: tables, rings */
    uint64_t reads, read_bytes, writes, write_bytes, corrupt_blocks, failed_reads, failed_writes;
};

struct gw_device {
    enum gw_status (*read)(struct gw_device *device, uint32_t queue, gw_addr at, void *room,
                           uint32_t bytes, gw_device_cb cb, void *arg);
    /* `from` is borrowed until the callback and does not change meanwhile. */
    enum gw_status (*write)(struct gw_device *device, uint32_t queue, gw_addr at, const void *from,
                            uint32_t bytes, gw_device_cb cb, void *arg);
    /* Nothing below `below` is read or written any more; reads on their way still call back. */
    void (*trim)(struct gw_device *device, gw_addr below);
    /* Sends what was submitted, runs the callbacks that are due; returns how many. Never waits. */
    uint32_t (*poll)(struct gw_device *device, uint32_t queue);
    /* Read rooms will come from here (rule 5), instead of the region given before; NULL ends it,
     * and comes before the memory goes. Requires: no read of this queue is on its way. A refusal by
     * the kernel is not an error. */
    void (*adopt)(struct gw_device *device, uint32_t queue, void *memory, size_t bytes);
    /* Makes durable what was written before: pages whose write has called back, and the files and
     * names that hold them. Never waits: GW_PENDING, then exactly one cb from `poll` of this queue;
     * GW_OK: all of it survives a crash of the machine; anything else: some of it may not, and a
     * later sync says no more about it (after a failed fsync nobody knows): do not trust pages
     * written before. GW_WOULD_BLOCK: another sync of this queue is under way. */
    enum gw_status (*sync)(struct gw_device *device, uint32_t queue, gw_device_cb cb, void *arg);
    void (*usage)(struct gw_device *device, struct gw_device_usage *out);
    /* An event descriptor that becomes readable when callbacks of this queue are due, for threads
     * that sleep while something is on its way; -1: none, poll instead. */
    int (*wait_fd)(struct gw_device *device, uint32_t queue);
    /* A shared tier, or NULL, all three. shared: all pages below this address can be read by other
     * servers, for good; only rises. origin: the base of the addresses of the log of this id (a
     * store id), the same for the device's life; 0: too many. log_id: of our own log. Any thread.
     */
    uint64_t (*shared)(struct gw_device *device);
    uint64_t (*origin)(struct gw_device *device, uint64_t log_id);
    uint64_t (*log_id)(const struct gw_device *device);
    /* May be NULL. Is a read there known to come to GW_E_UNREACHABLE, because the object store has
     * not answered for some while? A hint, for who can do without the read. Any thread. */
    bool (*away)(const struct gw_device *device, gw_addr at);
};
#endif
