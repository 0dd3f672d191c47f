/* Goal: whatever call of the SSD tier to the system fails, at whatever place, the status is clean,
 * no success is false, no bytes are wrong, what failed once works when it is asked for again, and
 * nothing leaks: neither memory (AddressSanitizer), nor descriptors, nor unfinished files.
 * How: one scenario, all kinds of calls; for each kind, each error and every n the n-th call fails,
 * until a run has fewer than n. Once, and again from the n-th on for good. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/tier.h"
#include "tiering/ssd.h"
#include "tiering/ssd_calls.h"
#include "tiering/ssd_format.h"

#define PAGE_BITS   13u
#define PAGE        (1u << PAGE_BITS)
#define SEGMENT     (2u * PAGE)
#define PAGES       6u /* three segments */
#define SHORT       0  /* as an error: half of what was asked for was done */
#define TIMES_MAX   400u
#define RING_WRITES (2 * (2 * PAGES - 2)) /* page and table of each */

enum kind {
    MAKE_DIR,
    OPEN,
    CLOSE,
    ALLOCATE,
    TRUNCATE,
    SYNC,
    RENAME,
    UNLINK,
    PREAD,
    PWRITE,
    EVENT_FD,
    RING_INIT,
    RING_SUBMIT,
    RING_READ,
    RING_WRITE,
    MEMORY,
};

static struct {
    enum kind kind;
    int error;
    uint32_t n;
    bool for_good;
    _Atomic uint32_t calls;
} fault;

/* Whether this call is the one to fail. */
static bool hit(enum kind kind)
{
    if (fault.kind != kind)
        return false;
    uint32_t call = atomic_fetch_add(&fault.calls, 1) + 1;
    return call == fault.n || (fault.for_good && call > fault.n);
}

#define REAL gw_ssd_calls_system()

static int faulty_make_dir(void *ctx, const char *path)
{
    return hit(MAKE_DIR) ? -fault.error : REAL->make_dir(ctx, path);
}
static int faulty_open(void *ctx, int dir_fd, const char *name, int flags)
{
    return hit(OPEN) ? -fault.error : REAL->open(ctx, dir_fd, name, flags);
}
static int faulty_close(void *ctx, int fd)
{
    int rc = REAL->close(ctx, fd); /* as in the kernel: the descriptor is gone all the same */
    return hit(CLOSE) ? -fault.error : rc;
}
static int faulty_allocate(void *ctx, int fd, uint64_t bytes)
{
    return hit(ALLOCATE) ? -fault.error : REAL->allocate(ctx, fd, bytes);
}
static int faulty_truncate(void *ctx, int fd, uint64_t bytes)
{
    return hit(TRUNCATE) ? -fault.error : REAL->truncate(ctx, fd, bytes);
}
static int faulty_sync(void *ctx, int fd)
{
    return hit(SYNC) ? -fault.error : REAL->sync(ctx, fd);
}
static int faulty_rename(void *ctx, int dir_fd, const char *from, const char *to)
{
    return hit(RENAME) ? -fault.error : REAL->rename(ctx, dir_fd, from, to);
}
static int faulty_unlink(void *ctx, int dir_fd, const char *name)
{
    return hit(UNLINK) ? -fault.error : REAL->unlink(ctx, dir_fd, name);
}
static ssize_t faulty_pread(void *ctx, int fd, void *room, size_t bytes, uint64_t offset)
{
    if (hit(PREAD)) {
        if (fault.error != SHORT)
            return -fault.error;
        bytes /= 2;
    }
    return REAL->pread(ctx, fd, room, bytes, offset);
}
static ssize_t faulty_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    if (hit(PWRITE)) {
        if (fault.error != SHORT)
            return -fault.error;
        bytes /= 2;
    }
    return REAL->pwrite(ctx, fd, from, bytes, offset);
}
static int faulty_event_fd(void *ctx)
{
    return hit(EVENT_FD) ? -fault.error : REAL->event_fd(ctx);
}
static int faulty_ring_init(void *ctx, uint32_t entries, struct io_uring *ring,
                            struct io_uring_params *params)
{
    return hit(RING_INIT) ? -fault.error : REAL->ring_init(ctx, entries, ring, params);
}
static int faulty_ring_submit(void *ctx, struct io_uring *ring)
{
    return hit(RING_SUBMIT) ? -fault.error : REAL->ring_submit(ctx, ring);
}
static int faulty_ring_result(void *ctx, bool write, void *memory, int result)
{
    if (hit(write ? RING_WRITE : RING_READ)) {
        int done = fault.error == SHORT ? result / 2 : 0;
        if (!write && result > 0) /* what did not come must not be believed */
            memset((uint8_t *)memory + done, 0xDD, (size_t)(result - done));
        return fault.error == SHORT ? done : -fault.error;
    }
    return REAL->ring_result(ctx, write, memory, result);
}
static void *faulty_memory(void *ctx, size_t bytes)
{
    return hit(MEMORY) ? NULL : REAL->memory(ctx, bytes);
}

static const struct gw_ssd_calls faulty = {
    .make_dir = faulty_make_dir,
    .open = faulty_open,
    .close = faulty_close,
    .allocate = faulty_allocate,
    .truncate = faulty_truncate,
    .sync = faulty_sync,
    .rename = faulty_rename,
    .unlink = faulty_unlink,
    .pread = faulty_pread,
    .pwrite = faulty_pwrite,
    .event_fd = faulty_event_fd,
    .ring_init = faulty_ring_init,
    .ring_submit = faulty_ring_submit,
    .ring_result = faulty_ring_result,
    .memory = faulty_memory,
};

/* What a run did; `written` pages have been acknowledged. */
struct run {
    struct gw_device *device;
    uint8_t *page, *room;
    bool written[2 * PAGES];
    uint32_t failures; /* statuses that were not GW_OK */
    const char *name;
};

/* One that failed is offered again, as the log does. */
static void write_pages(struct run *run, uint64_t from, uint64_t to)
{
    for (uint64_t p = from; p < to; p++) {
        tier_fill(run->page, PAGE, p * PAGE);
        uint32_t tries_max = fault.for_good ? 2 : 500; /* it may want to be left alone a little */
        for (uint32_t tries = 0; tries < tries_max && !run->written[p]; tries++) {
            if (tries > 0)
                usleep(1000);
            enum gw_status status = tier_write(run->device, 0, p * PAGE, run->page, PAGE);
            run->written[p] = status == GW_OK;
            run->failures += status != GW_OK;
            if (run->failures == 1 && fault.kind == ALLOCATE && fault.error == ENOSPC)
                cr_assert_eq(status, GW_E_FULL, "%s", run->name);
            cr_assert(status == GW_OK || status == GW_E_IO || status == GW_E_FULL ||
                          status == GW_E_NOMEM,
                      "%s: write: %s", run->name, gw_status_text(status));
        }
        cr_assert(run->written[p] || fault.for_good, "%s: page %lu lost by one failure", run->name,
                  p);
    }
}

static void read_pages(struct run *run, uint64_t from, uint64_t to)
{
    for (uint64_t p = from; p < to; p++) {
        enum gw_status status = tier_read(run->device, 1, p * PAGE, run->room, PAGE);
        if (status != GW_OK && status != GW_NOT_FOUND) {
            run->failures++;
            cr_assert_eq(status, GW_E_IO, "%s: read: %s", run->name, gw_status_text(status));
            status = tier_read(run->device, 1, p * PAGE, run->room, PAGE);
        }
        if (status == GW_OK)
            cr_assert(tier_is_filled(run->room, PAGE, p * PAGE), "%s: wrong bytes", run->name);
        if (fault.for_good && status == GW_E_IO)
            continue; /* the device has failed, and says so */
        cr_assert_eq(status, run->written[p] ? GW_OK : GW_NOT_FOUND, "%s: page %lu: %s", run->name,
                     p, gw_status_text(status));
    }
}

/* Of the sanitizer that looks for leaks, if there is one; Criterion's workers may end without it.
 */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

static void expect_no_leak(void)
{
    if (__lsan_do_recoverable_leak_check)
        cr_assert_eq(__lsan_do_recoverable_leak_check(), 0, "memory leaks");
}

/* True: the failing call was met. */
static bool scenario(bool threads, const char *name)
{
    uint32_t files_before = tier_open_files();
    char *parent = tier_dir_make(), dir[4200];
    snprintf(dir, sizeof dir, "%s/tier", parent);
    struct gw_ssd_report report;
    struct run run = {.page = tier_room(PAGE), .room = tier_room(PAGE), .name = name};
    struct gw_ssd_options options = {.dir = dir,
                                     .page_bits = PAGE_BITS,
                                     .segment_bytes = SEGMENT,
                                     .limit_bytes = 5 * gw_ssd_geometry_of(PAGE_BITS, 2).file_bytes,
                                     .store_id = 1,
                                     .incarnation = 2,
                                     .queues = 2,
                                     .depth = 8,
                                     .threads = threads,
                                     .calls = &faulty};
    atomic_store(&fault.calls, 0);
    enum gw_status status = gw_ssd_open(&options, &run.device, &report);
    if (status != GW_OK) {
        cr_assert(gw_failed(status), "%s", name);
        cr_assert_neq(report.error[0], 0, "%s: no word of why", name);
        cr_assert_geq(atomic_load(&fault.calls), fault.n, "%s: %s", name, report.error);
        goto closed;
    }
    int wait_fd = run.device->wait_fd(run.device, 1);
    cr_assert(wait_fd >= 0 || fault.kind == EVENT_FD, "%s", name);
    write_pages(&run, 0, PAGES);
    read_pages(&run, 0, PAGES);
    run.device->trim(run.device, gw_addr_of(2 * SEGMENT));
    write_pages(&run, PAGES, 2 * PAGES - 2);
    read_pages(&run, 4, 2 * PAGES - 2);
    struct gw_device_usage usage;
    run.device->usage(run.device, &usage);
    cr_assert_leq(usage.used_bytes, options.limit_bytes, "%s", name);
    if (fault.error == EINTR && fault.kind != OPEN && !fault.for_good)
        cr_assert_eq(run.failures, 0, "%s: an interruption came through", name);
    if (fault.error == SHORT && fault.kind == RING_WRITE && !fault.for_good)
        cr_assert_eq(atomic_load(&fault.calls), RING_WRITES + (fault.n <= RING_WRITES),
                     "%s: the rest was not written", name);
    gw_ssd_close(run.device);
closed:
    cr_assert_eq(tier_open_files(), files_before, "%s: descriptors leak", name);
    if (!fault.for_good && fault.kind != UNLINK)
        cr_assert_eq(tier_dir_count(dir, ".tmp"), 0, "%s: unfinished files", name);
    free(run.page);
    free(run.room);
    char *inner = strdup(dir);
    if (tier_dir_count(parent, "tier"))
        tier_dir_remove(inner);
    else
        free(inner);
    tier_dir_remove(parent);
    return atomic_load(&fault.calls) >= fault.n;
}

struct order {
    char name[32]; /* no pointer: Criterion hands it to another process */
    enum kind kind;
    bool threads;
    int errors[4]; /* up to the first -1 */
};

static struct order orders[] = {
    {"make_dir", MAKE_DIR, false, {EACCES, EIO, -1}},
    {"open", OPEN, false, {EIO, ENOSPC, EMFILE, EINTR}},
    {"close", CLOSE, false, {EIO, -1}},
    {"allocate", ALLOCATE, false, {EIO, ENOSPC, EINTR, EOPNOTSUPP}},
    {"truncate", TRUNCATE, false, {EIO, -1}},
    {"sync", SYNC, false, {EIO, ENOSPC, -1}},
    {"rename", RENAME, false, {EIO, ENOSPC, -1}},
    {"unlink", UNLINK, false, {EIO, -1}},
    {"pread", PREAD, true, {EIO, EINTR, SHORT, -1}},
    {"pwrite", PWRITE, true, {EIO, ENOSPC, EINTR, SHORT}},
    {"pwrite of a ring's device", PWRITE, false, {EIO, ENOSPC, SHORT, -1}},
    {"event_fd", EVENT_FD, true, {EMFILE, -1}},
    {"ring_init", RING_INIT, false, {ENOSYS, EPERM, ENOMEM, EINVAL}},
    {"ring_submit", RING_SUBMIT, false, {EAGAIN, EBUSY, EINTR, -1}},
    {"ring_read", RING_READ, false, {EIO, EINTR, EAGAIN, SHORT}},
    {"ring_write", RING_WRITE, false, {EIO, ENOSPC, EINTR, SHORT}},
    {"memory", MEMORY, false, {ENOMEM, -1}},
    {"memory with threads", MEMORY, true, {ENOMEM, -1}},
};

ParameterizedTestParameters(tier_ssd, the_nth_call_fails)
{
    return cr_make_param_array(struct order, orders, sizeof orders / sizeof *orders);
}

ParameterizedTest(struct order *order, tier_ssd, the_nth_call_fails)
{
    for (uint32_t e = 0; e < 4 && order->errors[e] >= 0; e++) {
        uint32_t met = 0;
        for (fault.n = 1; fault.n < TIMES_MAX; fault.n++) {
            char name[128];
            snprintf(name, sizeof name, "%s %u: %s", order->name, fault.n,
                     order->errors[e] ? strerror(order->errors[e]) : "short");
            fault.kind = order->kind;
            fault.error = order->errors[e];
            fault.for_good = false;
            if (!scenario(order->threads, name))
                break;
            met++;
        }
        cr_expect_gt(met, 0, "%s is never called", order->name);
        cr_expect_lt(met, TIMES_MAX - 1, "%s has no end", order->name);
    }
    expect_no_leak();
}

ParameterizedTestParameters(tier_ssd, calls_fail_from_the_nth_on)
{
    return cr_make_param_array(struct order, orders, sizeof orders / sizeof *orders);
}

ParameterizedTest(struct order *order, tier_ssd, calls_fail_from_the_nth_on)
{
    for (uint32_t e = 0; e < 4 && order->errors[e] >= 0; e++) {
        for (fault.n = 1; fault.n < 16; fault.n += 1 + fault.n / 3) {
            char name[128];
            snprintf(name, sizeof name, "%s from %u on: %s", order->name, fault.n,
                     order->errors[e] ? strerror(order->errors[e]) : "short");
            fault.kind = order->kind;
            fault.error = order->errors[e];
            fault.for_good = true;
            if (!scenario(order->threads, name))
                break;
        }
    }
    expect_no_leak();
}
