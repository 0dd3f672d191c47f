/* Goal: a process that is killed at any moment, while it uploads and drops, leaves a directory from
 * which the next one reads everything that was synced; what it said to be shared, another server
 * reads. How: a child writes under a small bound, tells its progress through a pipe and is killed
 * after a random time, many times on the same directories; then all is read. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "tests/support/tier.h"
#include "tiering/ssd_format.h"
#include "tiering/tier.h"

#define PAGE_BITS 13u
#define PAGE      (1u << PAGE_BITS)
#define SEGMENT   (4u * PAGE)
#define KILLS     25u
#define GAPS_MAX  (KILLS + 1)

struct said {
    uint64_t synced, shared;
};

static char *dir, *store, url[4200];
static struct gw_addr_range gaps[GAPS_MAX];
static uint32_t gaps_count;
static uint64_t image_end = PAGE, trimmed = PAGE;

static struct gw_tier *open_one(const char *in, uint64_t id, uint32_t incarnation,
                                struct gw_device **device)
{
    struct gw_ssd_report report;
    struct gw_tier *tier;
    struct gw_tier_options options = {
        .ssd = {.dir = in,
                .page_bits = PAGE_BITS,
                .segment_bytes = SEGMENT,
                .limit_bytes = 6 * gw_ssd_geometry_of(PAGE_BITS, SEGMENT / PAGE).file_bytes,
                .store_id = id,
                .incarnation = incarnation,
                .keep_earlier = true,
                .queues = 1,
                .depth = 32},
        .blob_url = url,
        .cluster = 1,
        .frame_bytes = 16 << 10};
    snprintf(options.server_id, sizeof options.server_id, "s%u", (unsigned)id);
    enum gw_status status = gw_tier_open(&options, device, &tier, &report);
    cr_assert_eq(status, GW_OK, "%s", report.error);
    return tier;
}

static void adopt(struct gw_tier *tier)
{
    char error[512] = "";
    enum gw_status status = gw_tier_adopt(tier, gw_addr_of(trimmed), gw_addr_of(image_end), gaps,
                                          gaps_count, error, sizeof error);
    cr_assert_eq(status, GW_OK, "image to %#lx: %s", image_end, error);
}

static void sync_all(struct gw_device *device)
{
    struct tier_note note = {0};
    if (device->sync(device, 0, tier_noted, &note) == GW_PENDING)
        tier_await(device, 0, &note, 1);
    if (note.status != GW_OK)
        _exit(1);
}

static void child(uint32_t incarnation, uint64_t resume, int out)
{
    struct gw_device *device;
    struct gw_tier *tier = open_one(dir, 1, incarnation, &device);
    if (incarnation > 1)
        adopt(tier);
    uint8_t *page = tier_room(PAGE);
    for (uint64_t at = resume;; at += PAGE) {
        tier_fill(page, PAGE, at);
        enum gw_status status;
        while ((status = tier_write(device, 0, at, page, PAGE)) == GW_E_FULL)
            usleep(500);
        if (status != GW_OK)
            _exit(2);
        if (at % (3 * PAGE) == 0) {
            sync_all(device);
            struct said s = {at + PAGE, device->shared(device)};
            if (write(out, &s, sizeof s) != sizeof s)
                _exit(3);
        }
        if (at % (5 * PAGE) == 0)
            gw_tier_hurry(tier, gw_addr_of(at + PAGE));
    }
}

static bool exists(uint64_t at)
{
    for (uint32_t i = 0; i < gaps_count; i++)
        if (at >= gaps[i].from.v && at < gaps[i].to.v)
            return false;
    return true;
}

static void check_all(struct gw_device *device, uint64_t base, uint64_t to, uint32_t round)
{
    uint8_t *page = tier_room(PAGE);
    for (uint64_t at = trimmed; at < to; at += PAGE) {
        if (!exists(at))
            continue;
        enum gw_status status = tier_read(device, 0, base | at, page, PAGE);
        cr_assert_eq(status, GW_OK, "kill %u: page %#lx of %#lx: %s", round, at, to,
                     gw_status_text(status));
        cr_assert(tier_is_filled(page, PAGE, at), "kill %u: page %#lx has wrong bytes", round, at);
    }
    free(page);
}

Test(tier_kill, whatever_was_synced_is_read_again, .timeout = 120)
{
    char *other_dir = tier_dir_make();
    struct gw_rand rand;
    uint32_t incarnation = 0, dropped = 0;
    dir = tier_dir_make();
    store = tier_dir_make();
    snprintf(url, sizeof url, "dir:%s", store);
    gw_rand_init(&rand, 11);
    uint64_t resume = PAGE;
    for (uint32_t round = 0; round < KILLS; round++) {
        int pipes[2];
        struct said s = {image_end, 0}, one;
        cr_assert_eq(pipe(pipes), 0);
        pid_t pid = fork();
        cr_assert_geq(pid, 0);
        if (pid == 0)
            child(++incarnation, resume, pipes[1]);
        incarnation++;
        close(pipes[1]);
        usleep((useconds_t)(20000 + gw_rand_below(&rand, 150000)));
        cr_assert_eq(kill(pid, SIGKILL), 0);
        int how = 0;
        cr_assert_eq(waitpid(pid, &how, 0), pid);
        cr_assert(WIFSIGNALED(how), "the child ended by itself: %d", WEXITSTATUS(how));
        while (read(pipes[0], &one, sizeof one) == sizeof one)
            s = one;
        close(pipes[0]);
        if (s.synced > resume) { /* as a checkpoint would say it */
            if (resume > image_end)
                gaps[gaps_count++] =
                    (struct gw_addr_range){gw_addr_of(image_end), gw_addr_of(resume)};
            image_end = s.synced;
        }
        struct gw_device *device, *other;
        struct gw_tier *tier = open_one(dir, 1, ++incarnation, &device);
        resume = gw_tier_resume(tier, gw_addr_of(image_end)).v;
        adopt(tier);
        check_all(device, 0, image_end, round);
        struct gw_tier *reader = open_one(other_dir, 2, incarnation, &other);
        check_all(other, other->origin(other, 1), s.shared < image_end ? s.shared : image_end,
                  round);
        struct gw_tier_stats stats;
        gw_tier_stats(tier, &stats);
        dropped += stats.local_from > 0;
        gw_tier_close(reader);
        gw_tier_close(tier);
        if (round % 8 == 7 && image_end > trimmed + 40 * SEGMENT) { /* not all of it for ever */
            trimmed = image_end - 30 * SEGMENT;
            uint32_t kept = 0;
            for (uint32_t i = 0; i < gaps_count; i++)
                if (gaps[i].to.v > trimmed)
                    gaps[kept++] = gaps[i];
            gaps_count = kept;
        }
    }
    cr_assert_gt(dropped, KILLS / 2, "hardly anything was dropped");
    char command[8400];
    snprintf(command, sizeof command, "rm -rf '%s' '%s' '%s'", store, dir, other_dir);
    cr_assert_eq(system(command), 0);
    free(store);
    free(dir);
    free(other_dir);
}
