/* ssd_calls.c - the system's side of ssd_calls.h: errno becomes a negative result, nothing else. */
#include "tiering/ssd_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/device.h"

static int result_of(int rc)
{
    return rc < 0 ? -errno : rc;
}

static int system_make_dir(void *ctx, const char *path)
{
    (void)ctx;
    return result_of(mkdir(path, 0777));
}

static int system_open(void *ctx, int dir_fd, const char *name, int flags)
{
    (void)ctx;
    return result_of(openat(dir_fd, name, flags | O_CLOEXEC, 0666));
}

static int system_close(void *ctx, int fd)
{
    (void)ctx;
    return result_of(close(fd));
}

static int system_allocate(void *ctx, int fd, uint64_t bytes)
{
    (void)ctx;
    return result_of(fallocate(fd, 0, 0, (off_t)bytes));
}

static int system_truncate(void *ctx, int fd, uint64_t bytes)
{
    (void)ctx;
    return result_of(ftruncate(fd, (off_t)bytes));
}

static int system_sync(void *ctx, int fd)
{
    (void)ctx;
    return result_of(fdatasync(fd));
}

static int system_rename(void *ctx, int dir_fd, const char *from, const char *to)
{
    (void)ctx;
    return result_of(renameat(dir_fd, from, dir_fd, to));
}

static int system_unlink(void *ctx, int dir_fd, const char *name)
{
    (void)ctx;
    return result_of(unlinkat(dir_fd, name, 0));
}

static ssize_t system_pread(void *ctx, int fd, void *room, size_t bytes, uint64_t offset)
{
    (void)ctx;
    ssize_t n = pread(fd, room, bytes, (off_t)offset);
    return n < 0 ? -errno : n;
}

static ssize_t system_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    (void)ctx;
    ssize_t n = pwrite(fd, from, bytes, (off_t)offset);
    return n < 0 ? -errno : n;
}

static int system_event_fd(void *ctx)
{
    (void)ctx;
    return result_of(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

static int system_ring_init(void *ctx, uint32_t entries, struct io_uring *ring,
                            struct io_uring_params *params)
{
    (void)ctx;
    return io_uring_queue_init_params(entries, ring, params);
}

static int system_ring_submit(void *ctx, struct io_uring *ring)
{
    (void)ctx;
    return io_uring_submit_and_get_events(ring);
}

static int system_ring_result(void *ctx, bool write, void *memory, int result)
{
    (void)ctx;
    (void)write;
    (void)memory;
    return result;
}

static void *system_memory(void *ctx, size_t bytes)
{
    (void)ctx;
    size_t rounded = (bytes + GW_DEVICE_BLOCK - 1) & ~(size_t)(GW_DEVICE_BLOCK - 1);
    if (rounded < bytes)
        return NULL;
    void *memory = aligned_alloc(GW_DEVICE_BLOCK, rounded ? rounded : GW_DEVICE_BLOCK);
    if (memory)
        memset(memory, 0, rounded);
    return memory;
}

const struct gw_ssd_calls *gw_ssd_calls_system(void)
{
    static const struct gw_ssd_calls calls = {
        .make_dir = system_make_dir,
        .open = system_open,
        .close = system_close,
        .allocate = system_allocate,
        .truncate = system_truncate,
        .sync = system_sync,
        .rename = system_rename,
        .unlink = system_unlink,
        .pread = system_pread,
        .pwrite = system_pwrite,
        .event_fd = system_event_fd,
        .ring_init = system_ring_init,
        .ring_submit = system_ring_submit,
        .ring_result = system_ring_result,
        .memory = system_memory,
    };
    return &calls;
}
