/* ssd.c - the SSD tier alone: pages written one after another, then blocks read at random, through
 * the same gw_device that the store uses.
 *
 * One thread keeps `depth` reads under way on one queue. What it does when nothing has come back is
 * its choice (--wait): sleep until an event says so, pause for a fixed time so that several come
 * back together, or ask again at once. CPU per read is that of the whole process, system time
 * included, so it is the device's cost only where the thread does not spin. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bench/bench.h"
#include "index/base/clock.h"
#include "index/base/histogram.h"
#include "index/base/rand.h"
#include "index/base/text.h"
#include "tiering/ssd.h"

#define PAGE_BITS   22u
#define PAGE        ((uint64_t)1 << PAGE_BITS)
#define WRITES      8u
#define PAUSE_NS    100000
#define BYTES_FIRST ((uint64_t)1 << 30)

enum wait_kind { WAIT_EVENT, WAIT_PAUSE, WAIT_SPIN };

struct settings {
    const char *dir;
    uint64_t bytes, depth;
    double seconds;
    enum wait_kind wait;
    bool threads, buffered, json;
};

struct bench;
struct read_slot {
    struct bench *bench;
    uint8_t *room;
    uint64_t begun_ns;
};

struct bench {
    struct settings s;
    struct gw_device *device;
    struct gw_rand rand;
    struct read_slot *slots, **idle;
    uint8_t *rooms;
    uint64_t idle_count, reads, failed, writing;
    double write_seconds, seconds, cpu; /* seconds, cpu: of reading */
    struct gw_histogram latency;
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static double cpu_seconds(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void written(void *arg, enum gw_status status)
{
    struct bench *b = arg;
    b->writing--;
    b->failed += status != GW_OK;
}

/* Random bytes, since disks may look at them. */
static void write_all(struct bench *b)
{
    uint8_t *pages = aligned_alloc(GW_DEVICE_BLOCK, WRITES * PAGE);
    if (!pages) {
        b->failed++;
        return;
    }
    for (uint64_t i = 0; i < WRITES * PAGE; i += 8) {
        uint64_t word = gw_rand_next(&b->rand);
        memcpy(pages + i, &word, 8);
    }
    uint64_t start = now_ns();
    for (uint64_t at = 0; at < b->s.bytes && b->failed == 0;) {
        if (b->writing < WRITES) {
            const uint8_t *page = pages + at / PAGE % WRITES * PAGE;
            enum gw_status st =
                b->device->write(b->device, 0, gw_addr_of(at), page, PAGE, written, b);
            if (st == GW_PENDING) {
                b->writing++;
                at += PAGE;
            } else if (st != GW_WOULD_BLOCK) {
                b->failed++;
            }
        }
        if (b->device->poll(b->device, 0) == 0)
            usleep(50);
    }
    while (b->writing > 0)
        if (b->device->poll(b->device, 0) == 0)
            usleep(50);
    free(pages);
    b->write_seconds = (double)(now_ns() - start) / 1e9;
}

static void read_done(void *arg, enum gw_status status)
{
    struct read_slot *slot = arg;
    struct bench *b = slot->bench;
    gw_histogram_add(&b->latency, now_ns() - slot->begun_ns);
    b->reads++;
    b->failed += status != GW_OK;
    b->idle[b->idle_count++] = slot;
}

static void read_one(struct bench *b)
{
    struct read_slot *slot = b->idle[--b->idle_count];
    uint64_t at = gw_rand_below(&b->rand, b->s.bytes / GW_DEVICE_BLOCK) * GW_DEVICE_BLOCK;
    slot->begun_ns = now_ns();
    if (b->device->read(b->device, 0, gw_addr_of(at), slot->room, GW_DEVICE_BLOCK, read_done,
                        slot) != GW_PENDING) {
        b->failed++;
        b->idle[b->idle_count++] = slot;
    }
}

static void wait_for_more(struct bench *b, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    struct timespec pause = {.tv_nsec = PAUSE_NS};
    if (b->s.wait == WAIT_EVENT)
        poll(&p, 1, 1000);
    else if (b->s.wait == WAIT_PAUSE)
        nanosleep(&pause, NULL);
}

static bool read_init(struct bench *b)
{
    size_t bytes = b->s.depth * GW_DEVICE_BLOCK;
    b->rooms = aligned_alloc(GW_DEVICE_BLOCK, bytes);
    b->slots = calloc(b->s.depth, sizeof *b->slots);
    b->idle = calloc(b->s.depth, sizeof *b->idle);
    if (!b->rooms || !b->slots || !b->idle)
        return false;
    memset(b->rooms, 0, bytes);
    for (uint64_t i = 0; i < b->s.depth; i++) {
        b->slots[i] = (struct read_slot){.bench = b, .room = b->rooms + i * GW_DEVICE_BLOCK};
        b->idle[b->idle_count++] = &b->slots[i];
    }
    b->device->adopt(b->device, 0, b->rooms, bytes);
    return true;
}

static void read_all(struct bench *b)
{
    int fd = b->s.wait == WAIT_EVENT ? b->device->wait_fd(b->device, 0) : -1;
    double cpu = cpu_seconds();
    uint64_t start = now_ns(), end = start + (uint64_t)(b->s.seconds * 1e9), now;
    do {
        while (b->idle_count > 0 && b->failed == 0)
            read_one(b);
        if (b->device->poll(b->device, 0) == 0)
            wait_for_more(b, fd);
        now = now_ns();
    } while (now < end && b->failed == 0);
    b->cpu = cpu_seconds() - cpu;
    b->seconds = (double)(now - start) / 1e9;
    uint64_t reads = b->reads;
    while (b->idle_count < b->s.depth)
        b->device->poll(b->device, 0);
    b->reads = reads; /* those of the measured time */
}

static void print(const struct bench *b, const struct gw_ssd_report *r)
{
    double reads = (double)b->reads / b->seconds, per_read = b->cpu * 1e6 / (double)b->reads;
    double written_rate = (double)b->s.bytes / b->write_seconds / 1e6;
    double p50 = (double)gw_histogram_at(&b->latency, 0.5) / 1000,
           p99 = (double)gw_histogram_at(&b->latency, 0.99) / 1000;
    if (b->s.json) {
        json_t *root =
            json_pack("{s:f, s:f, s:f, s:f, s:f, s:b, s:b, s:I, s:I}", "reads_per_second", reads,
                      "cpu_us_per_read", per_read, "p50_us", p50, "p99_us", p99,
                      "written_mb_per_second", written_rate, "direct", r->direct, "uring", r->uring,
                      "depth", (json_int_t)b->s.depth, "bytes", (json_int_t)b->s.bytes);
        json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(8));
        putchar('\n');
        json_decref(root);
        return;
    }
    printf("device   %s, %s%s%s\n", r->uring ? "io_uring" : "threads",
           r->direct ? "direct" : "buffered", r->why[0] ? ": " : "", r->why);
    printf("written  %8.0f MB/s in pages of 4 MiB\n", written_rate);
    printf("reads    %8.0f /s of 4 KiB, %" PRIu64 " under way\n", reads, b->s.depth);
    printf("cpu      %8.2f us a read\n", per_read);
    printf("latency  %8.0f us p50, %.0f us p99\n", p50, p99);
}

static int usage(void)
{
    fputs("usage: godwit-bench ssd --dir DIR [FLAGS]\n"
          "  --dir DIR      a folder of ours is made in it, and removed\n"
          "  --bytes SIZE   written, then read from (1GiB)\n"
          "  --depth N      reads under way, 1..8192 (128)\n"
          "  --seconds S    of reading (3)\n"
          "  --wait HOW     when nothing has come back: event (default), pause (100 us) or spin\n"
          "  --threads      threads in place of io_uring\n"
          "  --buffered     through the page cache\n"
          "  --json\n",
          stderr);
    return 2;
}

static bool parse(int argc, char **argv, struct settings *s)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"bytes", required_argument, NULL, 'b'},
                                            {"depth", required_argument, NULL, 'n'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"wait", required_argument, NULL, 'w'},
                                            {"threads", no_argument, NULL, 't'},
                                            {"buffered", no_argument, NULL, 'p'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    static const char *const waits[] = {"event", "pause", "spin"};
    *s = (struct settings){.bytes = BYTES_FIRST, .depth = 128, .seconds = 3};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool good = true;
        switch (c) {
        case 'd':
            s->dir = optarg;
            break;
        case 'b':
            good = gw_parse_size(optarg, &s->bytes) == GW_OK && s->bytes >= PAGE;
            break;
        case 'n':
            good = gw_parse_u64(optarg, 1, GW_SSD_DEPTH_MAX, &s->depth) == GW_OK;
            break;
        case 's':
            s->seconds = atof(optarg);
            good = s->seconds > 0;
            break;
        case 'w':
            good = false;
            for (uint32_t i = 0; i < sizeof waits / sizeof *waits; i++)
                if (strcmp(optarg, waits[i]) == 0) {
                    s->wait = (enum wait_kind)i;
                    good = true;
                }
            break;
        case 't':
            s->threads = true;
            break;
        case 'p':
            s->buffered = true;
            break;
        case 'j':
            s->json = true;
            break;
        default:
            good = false;
        }
        if (!good)
            return false;
    }
    s->bytes &= ~(PAGE - 1);
    return s->dir && optind == argc;
}

int gw_bench_ssd(int argc, char **argv)
{
    struct bench b = {0};
    struct gw_ssd_report report;
    char dir[4096];
    if (!parse(argc, argv, &b.s))
        return usage();
    snprintf(dir, sizeof dir, "%s/godwit-bench-ssd-%d", b.s.dir, (int)getpid());
    gw_rand_init(&b.rand, 1);
    gw_histogram_clear(&b.latency);
    struct gw_ssd_options options = {.dir = dir,
                                     .page_bits = PAGE_BITS,
                                     .store_id = gw_rand_system_seed(),
                                     .depth = (uint32_t)b.s.depth,
                                     .threads = b.s.threads,
                                     .buffered = b.s.buffered};
    if (gw_ssd_open(&options, &b.device, &report) != GW_OK) {
        fprintf(stderr, "godwit-bench ssd: %s\n", report.error);
        rmdir(dir);
        return 1;
    }
    write_all(&b);
    if (b.failed == 0 && read_init(&b))
        read_all(&b);
    bool good = b.failed == 0 && b.reads > 0;
    if (good)
        print(&b, &report);
    else
        fprintf(stderr, "godwit-bench ssd: a read or write failed, or there is no memory\n");
    b.device->trim(b.device, gw_addr_of(UINT64_MAX)); /* takes our files away */
    gw_ssd_close(b.device);
    rmdir(dir);
    free(b.rooms);
    free(b.slots);
    free(b.idle);
    return good ? 0 : 1;
}
