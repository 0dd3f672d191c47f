/* Goal: what was promised to other servers stays readable for them, whatever stands beside it in
 * the object store: objects that came into a list late, objects that a process put and died before
 * it wrote them down, and what a store has put that was then brought back from a copy of its
 * directory. How: against a directory as the object store, where a test can do to names what time
 * and crashes do. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/tier.h"
#include "tiering/ssd_format.h"
#include "tiering/tier.h"
#include "tiering/tier_internal.h"

#define PAGE_BITS 13u
#define PAGE      (1u << PAGE_BITS)
#define SEGMENT   (8u * PAGE)
#define CLUSTER   0xC1u
#define STORE     0x51u
#define WAIT_NS   (UINT64_C(20) * 1000000000)

struct world {
    char *dir, *store, *url;
    struct gw_tier_options options;
    struct gw_device *device;
    struct gw_tier *tier;
    struct gw_ssd_report report;
    uint8_t *page;
};

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
    char command[8400];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    cr_assert_eq(system(command), 0, "%s", command);
}

static struct world world_make(uint64_t store_id, const char *url)
{
    struct world w = {.dir = tier_dir_make(), .page = tier_room(PAGE)};
    if (url) {
        w.url = strdup(url);
    } else {
        w.store = tier_dir_make();
        w.url = malloc(strlen(w.store) + 8);
        sprintf(w.url, "dir:%s", w.store);
    }
    uint64_t file = gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE).file_bytes;
    w.options = (struct gw_tier_options){.ssd = {.dir = w.dir,
                                                 .page_bits = PAGE_BITS,
                                                 .segment_bytes = SEGMENT,
                                                 .limit_bytes = 64 * file,
                                                 .store_id = store_id,
                                                 .incarnation = 1,
                                                 .queues = 2,
                                                 .depth = 64,
                                                 .keep_earlier = true,
                                                 .hash_seed_check = 77},
                                         .blob_url = w.url,
                                         .cluster = CLUSTER,
                                         .server_id = "s1",
                                         .frame_bytes = GW_OBJECT_FRAME_MIN,
                                         .cache_bytes = 64 << 10,
                                         .read_deadline_ns = UINT64_C(2000000000)};
    return w;
}

static void world_open(struct world *w)
{
    enum gw_status status = gw_tier_open(&w->options, &w->device, &w->tier, &w->report);
    cr_assert_eq(status, GW_OK, "%s", w->report.error);
}

static void world_close(struct world *w)
{
    gw_tier_close(w->tier);
    w->tier = NULL;
}

static void world_end(struct world *w)
{
    gw_tier_close(w->tier);
    run("rm -rf '%s'", w->dir);
    free(w->dir);
    if (w->store) {
        run("rm -rf '%s'", w->store);
        free(w->store);
    }
    free(w->url);
    free(w->page);
}

/* A process that ends, and the next one, whose image ends there. */
static void world_restart(struct world *w, uint64_t image_end)
{
    char error[512] = "";
    world_close(w);
    w->options.ssd.incarnation++;
    world_open(w);
    enum gw_status status = gw_tier_adopt(w->tier, gw_addr_of(PAGE), gw_addr_of(image_end), NULL, 0,
                                          error, sizeof error);
    cr_assert_eq(status, GW_OK, "%s", error);
}

static void write_pages(struct world *w, uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at += PAGE) {
        tier_fill(w->page, PAGE, at);
        cr_assert_eq(tier_write(w->device, 0, at, w->page, PAGE), GW_OK);
    }
}

static void await_shared(struct world *w, uint64_t to)
{
    uint64_t end = gwi_tier_now() + WAIT_NS;
    while (w->device->shared(w->device) < to) {
        cr_assert(gwi_tier_now() < end, "shared %#lx, wanted %#lx", w->device->shared(w->device),
                  to);
        usleep(500);
    }
}

static void expect_page(struct world *w, uint64_t at)
{
    memset(w->page, 0xEE, PAGE);
    enum gw_status status = tier_read(w->device, 0, at, w->page, PAGE);
    cr_expect_eq(status, GW_OK, "page %#lx: %s", at, gw_status_text(status));
    if (status == GW_OK)
        cr_expect(tier_is_filled(w->page, PAGE, at & (((uint64_t)1 << GW_DEVICE_ORIGIN_SHIFT) - 1)),
                  "page %#lx: wrong bytes", at);
}

static void object_path(const struct world *w, uint64_t first, uint32_t incarnation,
                        char path[4300])
{
    snprintf(path, 4300, "%s/%016x/%016x/%016lx-%08x.gwo", w->store, CLUSTER, STORE, first,
             incarnation);
}

/* Puts are several at a time: the third may be there before the second. Who lists then must not
 * believe for ever that there is no second one. */
Test(tier_review, an_object_that_came_into_the_list_late_is_found)
{
    struct world w = world_make(STORE, NULL), t = world_make(STORE + 1, w.url);
    char path[4300];
    snprintf(t.options.server_id, sizeof t.options.server_id, "s2");
    world_open(&w);
    world_open(&t);
    write_pages(&w, PAGE, 4 * SEGMENT);
    await_shared(&w, 4 * SEGMENT);
    uint64_t base = t.device->origin(t.device, STORE);
    object_path(&w, SEGMENT, 1, path);
    run("mv %s %s.later", path, path);
    expect_page(&t, base | PAGE);
    expect_page(&t, base | 3 * SEGMENT);
    run("mv %s.later %s", path, path);
    for (uint64_t at = PAGE; at < 4 * SEGMENT; at += PAGE)
        expect_page(&t, base | at);
    /* The lowest of all, too: below a log's first object nothing is needed, but it must be known
     * which one that is. */
    struct world u = world_make(STORE + 2, w.url);
    snprintf(u.options.server_id, sizeof u.options.server_id, "s3");
    world_open(&u);
    base = u.device->origin(u.device, STORE);
    object_path(&w, PAGE, 1, path);
    run("mv %s %s.later", path, path);
    expect_page(&u, base | SEGMENT);
    run("mv %s.later %s", path, path);
    expect_page(&u, base | PAGE);
    world_end(&u);
    world_end(&t);
    world_end(&w);
}

/* A process is killed when it has put two parts of an extent that were hurried for, and has not
 * written it down; the next one puts the extent as one. The second part, which no list of its owner
 * has, lies in front of what is behind it. */
Test(tier_review, what_nobody_wrote_down_hides_nothing)
{
    struct world w = world_make(STORE, NULL), t = world_make(STORE + 1, w.url);
    char path[4300];
    snprintf(t.options.server_id, sizeof t.options.server_id, "s2");
    world_open(&w);
    write_pages(&w, PAGE, SEGMENT);
    await_shared(&w, SEGMENT);
    run("cp %s/tier.json %s/tier.json.before", w.dir, w.dir);
    write_pages(&w, SEGMENT, SEGMENT + 6 * PAGE);
    gw_tier_hurry(w.tier, gw_addr_of(SEGMENT + PAGE));
    await_shared(&w, SEGMENT + PAGE);
    gw_tier_hurry(w.tier, gw_addr_of(SEGMENT + 2 * PAGE));
    await_shared(&w, SEGMENT + 2 * PAGE);
    world_close(&w);
    run("mv %s/tier.json.before %s/tier.json", w.dir, w.dir);
    world_restart(&w, SEGMENT + 6 * PAGE);
    await_shared(&w, SEGMENT + 6 * PAGE);
    object_path(&w, SEGMENT + PAGE, 1, path);
    cr_assert_eq(access(path, F_OK), 0, "the trace is another one");
    world_open(&t);
    uint64_t base = t.device->origin(t.device, STORE);
    for (uint64_t at = PAGE; at < SEGMENT + 6 * PAGE; at += PAGE)
        expect_page(&t, base | at);
    /* One read that needs the bytes in front of it, its own, and those behind it. */
    uint8_t *large = tier_room(4 * PAGE);
    cr_expect_eq(tier_read(t.device, 0, base | SEGMENT, large, 4 * PAGE), GW_OK);
    cr_expect(tier_is_filled(large, 4 * PAGE, SEGMENT));
    free(large);
    world_end(&t);
    world_end(&w);
}

/* A process is killed before its first checkpoint, and the next one as soon as it has removed what
 * that one wrote: the third knows of no file, and of no object. */
Test(tier_review, a_log_that_begins_anew_uses_no_address_again)
{
    struct world w = world_make(STORE, NULL);
    struct gw_device_usage usage;
    uint32_t removed;
    world_open(&w);
    write_pages(&w, PAGE, 3 * SEGMENT);
    await_shared(&w, 3 * SEGMENT);
    world_close(&w);
    run("rm %s/tier.json", w.dir);
    w.options.ssd.incarnation = 2;
    run("mv %s %s.away && mkdir %s", w.store, w.store, w.store); /* nor does the store tell */
    world_open(&w);
    cr_expect_eq(gw_tier_resume(w.tier, gw_addr_of(0)).v, 3 * SEGMENT);
    cr_assert_eq(gw_ssd_forget_earlier(gw_tier_ssd(w.tier), &removed), GW_OK);
    cr_expect_eq(removed, 3);
    w.device->usage(w.device, &usage);
    cr_expect_eq(usage.used_bytes, 0, "%lu bytes", usage.used_bytes);
    world_close(&w);
    run("rmdir %s && mv %s.away %s", w.store, w.store, w.store);
    w.options.ssd.incarnation = 3;
    world_open(&w);
    gw_addr resume = gw_tier_resume(w.tier, gw_addr_of(0));
    cr_expect_eq(resume.v, 3 * SEGMENT);
    write_pages(&w, resume.v, resume.v + 2 * SEGMENT);
    await_shared(&w, resume.v + 2 * SEGMENT);
    world_end(&w);
}

/* A server is brought back from a copy of its directory (a backup has no tier.json). What it had
 * put since then, others were told of: its log must not go on at the same addresses. */
Test(tier_review, a_copy_of_the_directory_uses_no_address_again)
{
    struct world w = world_make(STORE, NULL), t = world_make(STORE + 1, w.url);
    char error[512] = "";
    snprintf(t.options.server_id, sizeof t.options.server_id, "s2");
    world_open(&w);
    write_pages(&w, PAGE, 2 * SEGMENT);
    await_shared(&w, 2 * SEGMENT);
    run("cp -r %s %s.copy && rm %s.copy/tier.json", w.dir, w.dir, w.dir);
    write_pages(&w, 2 * SEGMENT, 4 * SEGMENT);
    await_shared(&w, 4 * SEGMENT);
    world_close(&w);
    run("rm -rf %s && mv %s.copy %s", w.dir, w.dir, w.dir);
    w.options.ssd.incarnation = 2;
    world_open(&w);
    gw_addr resume = gw_tier_resume(w.tier, gw_addr_of(2 * SEGMENT));
    cr_expect_geq(resume.v, 4 * SEGMENT, "it goes on at %#lx", resume.v);
    cr_assert_eq(gw_tier_adopt(w.tier, gw_addr_of(PAGE), gw_addr_of(2 * SEGMENT), NULL, 0, error,
                               sizeof error),
                 GW_OK, "%s", error);
    for (uint64_t at = resume.v; at < resume.v + 2 * SEGMENT; at += PAGE) {
        tier_fill(w.page, PAGE, at + 8 * GW_DEVICE_BLOCK); /* other bytes than those of before */
        cr_assert_eq(tier_write(w.device, 0, at, w.page, PAGE), GW_OK);
    }
    await_shared(&w, resume.v + 2 * SEGMENT);
    world_open(&t);
    uint64_t base = t.device->origin(t.device, STORE);
    for (uint64_t at = PAGE; at < 4 * SEGMENT; at += PAGE)
        expect_page(&t, base | at);
    world_end(&t);
    world_end(&w);
}
