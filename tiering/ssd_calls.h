/* ssd_calls.h - every call of the SSD tier to the system, behind one table, so that a test can make
 * the n-th one fail. Each gives what the kernel gives: a result, or -errno.
 * Thread rule: any thread calls them; `ctx` is whoever's made the table. Layer: tiering. */
#ifndef GW_TIERING_SSD_CALLS_H
#define GW_TIERING_SSD_CALLS_H

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct gw_ssd_calls {
    void *ctx;
    int (*make_dir)(void *ctx, const char *path);
    int (*open)(void *ctx, int dir_fd, const char *name, int flags); /* dir_fd may be AT_FDCWD */
    int (*close)(void *ctx, int fd);
    int (*allocate)(void *ctx, int fd, uint64_t bytes); /* fallocate: room for all of the file */
    int (*truncate)(void *ctx, int fd, uint64_t bytes);
    int (*sync)(void *ctx, int fd); /* fdatasync */
    int (*rename)(void *ctx, int dir_fd, const char *from, const char *to);
    int (*unlink)(void *ctx, int dir_fd, const char *name);
    ssize_t (*pread)(void *ctx, int fd, void *room, size_t bytes, uint64_t offset);
    ssize_t (*pwrite)(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset);
    int (*event_fd)(void *ctx);
    int (*ring_init)(void *ctx, uint32_t entries, struct io_uring *ring,
                     struct io_uring_params *params);
    int (*ring_submit)(void *ctx, struct io_uring *ring); /* sends, and runs deferred work */
    /* Sees each result of a ring's read or write (of a read: what came in at `memory`), and gives
     * what it is to be taken for. */
    int (*ring_result)(void *ctx, bool write, void *memory, int result);
    /* Zeroed memory, aligned to a block, given back by free(); NULL: there is none. */
    void *(*memory)(void *ctx, size_t bytes);
};

/* The system itself. */
const struct gw_ssd_calls *gw_ssd_calls_system(void);
#endif
