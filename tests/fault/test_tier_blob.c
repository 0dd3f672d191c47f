/* Goal: whatever request to the object store fails, or call to the system behind tier.json and the
 * segments, at whatever place, no bytes are wrong, no read hangs, no success is false; and the next
 * process reads all that was written, once what failed works again.
 * How: one scenario writes under a small bound and reads everything while the n-th request of a
 * kind fails, once or from then on, for each kind and way to fail and every n until a run has
 * fewer. The object store is one in memory, for the n-th request must be the one that is meant and
 * its answer exact: lost, refused, late, wrong. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "tests/support/tier.h"
#include "tiering/ssd_calls.h"
#include "tiering/ssd_format.h"
#include "tiering/tier.h"

#define PAGE_BITS 13u
#define PAGE      (1u << PAGE_BITS)
#define SEGMENT   (4u * PAGE)
#define PAGES     (7u * 4)
#define TIMES_MAX 60u
#define PATIENCE  UINT64_C(250000000)

enum kind { PUT, GET, DELETE, OPEN, PWRITE, SYNC, RENAME, UNLINK };
enum way { TIMES_OUT, REFUSED, LOST_ANSWER, ABSENT, SHORT, WRONG, BUSY, FAILS };

static struct {
    enum kind kind;
    enum way way;
    uint32_t n;
    bool for_good;
    _Atomic bool armed;
    _Atomic uint32_t calls;
} fault;

static bool hit(enum kind kind)
{
    if (!atomic_load(&fault.armed) || fault.kind != kind)
        return false;
    uint32_t call = atomic_fetch_add(&fault.calls, 1) + 1;
    return call == fault.n || (fault.for_good && call > fault.n);
}

/* ---- an object store in memory ---- */

struct object {
    struct object *next;
    char name[GW_BLOB_NAME_MAX + 1];
    uint8_t *data;
    size_t bytes;
};
struct gw_blob {
    int unused;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct object *objects;
static struct gw_blob the_store;

static struct object **place_of(const char *name)
{
    struct object **at = &objects;
    while (*at && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static void object_free(struct object **at)
{
    struct object *gone = *at;
    *at = gone->next;
    free(gone->data);
    free(gone);
}

enum gw_status gw_blob_open(const struct gw_blob_options *options, struct gw_blob **out,
                            char *error, size_t error_bytes)
{
    (void)options, (void)error, (void)error_bytes;
    *out = &the_store;
    return GW_OK;
}

void gw_blob_close(struct gw_blob *blob)
{
    (void)blob;
}

void gw_blob_stats(struct gw_blob *blob, struct gw_blob_stats *out)
{
    (void)blob;
    *out = (struct gw_blob_stats){.healthy = true};
}

enum gw_status gw_blob_put(struct gw_blob *blob, const char *name, const void *data, size_t bytes,
                           uint64_t deadline_ns, gw_blob_cb cb, void *ctx)
{
    (void)blob, (void)deadline_ns;
    bool fails = hit(PUT);
    if (fails && fault.way == BUSY)
        return GW_WOULD_BLOCK;
    if (!fails || fault.way == LOST_ANSWER) {
        pthread_mutex_lock(&lock);
        struct object **at = place_of(name);
        if (!*at) {
            *at = calloc(1, sizeof **at);
            snprintf((*at)->name, sizeof(*at)->name, "%s", name);
        }
        free((*at)->data);
        (*at)->data = malloc(bytes);
        memcpy((*at)->data, data, bytes);
        (*at)->bytes = bytes;
        pthread_mutex_unlock(&lock);
    }
    cb(ctx, !fails ? GW_OK : fault.way == REFUSED ? GW_E_REFUSED : GW_E_TIMEOUT, NULL, 0);
    return GW_OK;
}

enum gw_status gw_blob_get(struct gw_blob *blob, const char *name, uint64_t offset, size_t bytes,
                           uint64_t deadline_ns, gw_blob_cb cb, void *ctx)
{
    (void)blob, (void)deadline_ns;
    bool fails = hit(GET);
    if (fails && fault.way == BUSY)
        return GW_WOULD_BLOCK;
    if (fails && fault.way <= LOST_ANSWER) {
        cb(ctx, fault.way == REFUSED ? GW_E_REFUSED : GW_E_TIMEOUT, NULL, 0);
        return GW_OK;
    }
    uint8_t *copy = NULL;
    size_t n = 0;
    pthread_mutex_lock(&lock);
    struct object *o = *place_of(name);
    if (o && offset <= o->bytes && !(fails && fault.way == ABSENT)) {
        n = o->bytes - (size_t)offset;
        n = bytes && bytes < n ? bytes : n;
        copy = malloc(n + 1);
        memcpy(copy, o->data + offset, n);
        if (fails && fault.way == SHORT)
            n /= 2;
        if (fails && fault.way == WRONG && n > 0)
            copy[n / 3] ^= 4;
    }
    pthread_mutex_unlock(&lock);
    cb(ctx, copy ? GW_OK : GW_NOT_FOUND, copy, n);
    free(copy);
    return GW_OK;
}

enum gw_status gw_blob_delete(struct gw_blob *blob, const char *name, uint64_t deadline_ns,
                              gw_blob_cb cb, void *ctx)
{
    (void)blob, (void)deadline_ns;
    bool fails = hit(DELETE);
    if (fails && fault.way == BUSY)
        return GW_WOULD_BLOCK;
    pthread_mutex_lock(&lock);
    struct object **at = place_of(name);
    if (*at && (!fails || fault.way == LOST_ANSWER))
        object_free(at);
    pthread_mutex_unlock(&lock);
    cb(ctx, !fails ? GW_OK : fault.way == REFUSED ? GW_E_REFUSED : GW_E_TIMEOUT, NULL, 0);
    return GW_OK;
}

enum gw_status gw_blob_list(struct gw_blob *blob, const char *prefix, const char *after,
                            uint64_t deadline_ns, gw_blob_cb cb, void *ctx)
{
    (void)blob, (void)prefix, (void)after, (void)deadline_ns;
    cb(ctx, GW_OK, (const uint8_t *)"", 0);
    return GW_OK;
}

/* ---- the system ---- */

#define REAL gw_ssd_calls_system()

static int faulty_open(void *ctx, int dir_fd, const char *name, int flags)
{
    return hit(OPEN) ? -EMFILE : REAL->open(ctx, dir_fd, name, flags);
}
static int faulty_sync(void *ctx, int fd)
{
    return hit(SYNC) ? -EIO : REAL->sync(ctx, fd);
}
static int faulty_rename(void *ctx, int dir_fd, const char *from, const char *to)
{
    return hit(RENAME) ? -EIO : REAL->rename(ctx, dir_fd, from, to);
}
static int faulty_unlink(void *ctx, int dir_fd, const char *name)
{
    return hit(UNLINK) ? -EIO : REAL->unlink(ctx, dir_fd, name);
}
static ssize_t faulty_pwrite(void *ctx, int fd, const void *from, size_t bytes, uint64_t offset)
{
    if (!hit(PWRITE))
        return REAL->pwrite(ctx, fd, from, bytes, offset);
    if (fault.way == SHORT && bytes > 1)
        return REAL->pwrite(ctx, fd, from, bytes / 2, offset);
    return -ENOSPC;
}

/* ---- the scenario ---- */

static struct gw_tier *open_one(const char *dir, uint32_t incarnation, struct gw_device **device)
{
    struct gw_ssd_report report;
    struct gw_tier *tier;
    struct gw_ssd_calls calls = *REAL;
    calls.open = faulty_open;
    calls.sync = faulty_sync;
    calls.rename = faulty_rename;
    calls.unlink = faulty_unlink;
    calls.pwrite = faulty_pwrite;
    struct gw_tier_options options = {
        .ssd = {.dir = dir,
                .page_bits = PAGE_BITS,
                .segment_bytes = SEGMENT,
                .limit_bytes = 4 * gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE).file_bytes,
                .store_id = 1,
                .incarnation = incarnation,
                .keep_earlier = true,
                .queues = 1,
                .depth = 32,
                .calls = &calls},
        .blob_url = "dir:",
        .cluster = 1,
        .server_id = "s",
        .frame_bytes = 16 << 10,
        .cache_bytes = 1, /* nothing is kept: each read asks */
        .read_deadline_ns = 20000000,
        .full_wait_ns = 90000000};
    enum gw_status status = gw_tier_open(&options, device, &tier, &report);
    cr_assert_eq(status, GW_OK, "%s", report.error);
    return tier;
}

static void check_all(struct gw_device *device, uint64_t to, bool strict, const char *when)
{
    uint8_t *page = tier_room(PAGE);
    for (uint64_t at = PAGE; at < to; at += PAGE) {
        memset(page, 0xEE, PAGE);
        enum gw_status status = tier_read(device, 0, at, page, PAGE);
        if (status == GW_OK)
            cr_assert(tier_is_filled(page, PAGE, at), "%s: wrong bytes at %#lx", when, at);
        else
            cr_assert(!strict && (status == GW_E_UNREACHABLE || status == GW_E_CORRUPT),
                      "%s: page %#lx: %s", when, at, gw_status_text(status));
    }
    free(page);
}

/* One life with the fault, one without. True: the fault was met. */
static bool life(void)
{
    char when[96], error[512] = "";
    snprintf(when, sizeof when, "kind %d way %d n %u%s", fault.kind, fault.way, fault.n,
             fault.for_good ? " for good" : "");
    char *dir = tier_dir_make();
    struct gw_device *device;
    atomic_store(&fault.calls, 0);
    struct gw_tier *tier = open_one(dir, 1, &device);
    atomic_store(&fault.armed, true);
    uint8_t *page = tier_room(PAGE);
    uint64_t end = gw_clock_now_ns(gw_clock_system()) + PATIENCE, at = PAGE;
    for (; at < PAGES * PAGE && gw_clock_now_ns(gw_clock_system()) < end;) {
        tier_fill(page, PAGE, at);
        if (tier_write(device, 0, at, page, PAGE) == GW_OK)
            at += PAGE;
        else
            usleep(500);
    }
    check_all(device, at, false, when);
    if (fault.kind == DELETE) {
        device->trim(device, gw_addr_of(2 * SEGMENT));
        gw_tier_keep(tier, gw_addr_of(UINT64_MAX));
        for (uint32_t i = 0; i < 2000 && atomic_load(&fault.calls) < 2; i++)
            usleep(500); /* two objects */
    }
    bool met = atomic_load(&fault.calls) >= fault.n;
    gw_tier_close(tier);
    atomic_store(&fault.armed, false);
    tier = open_one(dir, 2, &device);
    uint64_t from = fault.kind == DELETE ? 2 * SEGMENT : PAGE;
    enum gw_status status =
        gw_tier_adopt(tier, gw_addr_of(from), gw_addr_of(at), NULL, 0, error, sizeof error);
    cr_assert_eq(status, GW_OK, "%s: %s", when, error);
    if (from == PAGE)
        check_all(device, at, true, when);
    end = gw_clock_now_ns(gw_clock_system()) + UINT64_C(10000000000);
    uint64_t shared = at / SEGMENT * SEGMENT;
    while (device->shared(device) < shared && gw_clock_now_ns(gw_clock_system()) < end)
        usleep(500);
    cr_assert_geq(device->shared(device), shared, "%s: it does not catch up", when);
    if (fault.kind == DELETE) {
        gw_tier_keep(tier, gw_addr_of(UINT64_MAX));
        struct gw_tier_stats stats = {.objects = 99};
        while (stats.objects > PAGES / 4 - 1 && gw_clock_now_ns(gw_clock_system()) < end) {
            gw_tier_stats(tier, &stats);
            usleep(500);
        }
        cr_assert_leq(stats.objects, PAGES / 4 - 1, "%s: not deleted later", when);
    }
    gw_tier_close(tier);
    while (objects)
        object_free(&objects);
    free(page);
    tier_dir_remove(dir);
    return met;
}

static void all_of(enum kind kind, enum way way)
{
    for (uint32_t good = 0; good < 2; good++) {
        uint32_t n = 1;
        /* From then on: each start of an outage is like its neighbour's, and takes longer. */
        for (bool met = true; met && n <= TIMES_MAX; n += n < (good ? 3 : 12) ? 1 : 5) {
            fault.kind = kind;
            fault.way = way;
            fault.n = n;
            fault.for_good = good;
            met = life();
        }
        cr_assert_gt(n, 2, "the fault was never met");
    }
}

Test(tier_blob, a_put_fails, .timeout = 250)
{
    all_of(PUT, TIMES_OUT);
    all_of(PUT, REFUSED);
    all_of(PUT, LOST_ANSWER);
    all_of(PUT, BUSY);
}

Test(tier_blob, a_get_fails, .timeout = 250)
{
    all_of(GET, TIMES_OUT);
    all_of(GET, ABSENT);
    all_of(GET, SHORT);
    all_of(GET, WRONG);
    all_of(GET, BUSY);
}

Test(tier_blob, a_delete_fails, .timeout = 250)
{
    all_of(DELETE, TIMES_OUT);
    all_of(DELETE, LOST_ANSWER);
    all_of(DELETE, BUSY);
}

Test(tier_blob, a_call_to_the_system_fails, .timeout = 250)
{
    all_of(OPEN, FAILS);
    all_of(PWRITE, FAILS);
    all_of(PWRITE, SHORT);
    all_of(SYNC, FAILS);
    all_of(RENAME, FAILS);
    all_of(UNLINK, FAILS);
}
