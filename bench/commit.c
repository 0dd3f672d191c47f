/* commit.c - what the device needs to make a block durable, and what the commit log makes of it.
 *
 * For each block size, in turns of a tenth of a second so that both meet the same device: the raw
 * one is pwrite + fdatasync of the next block in a file that has been written once, by one thread;
 * the log's is from the first append of a block's worth of entries until its dispatcher has been
 * woken. "append" is the cost of one entry of a 16-byte key and a counter, no flush counted. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bench/bench.h"
#include "index/base/clock.h"
#include "index/base/histogram.h"
#include "tiering/commit_read.h"

#define RAW_BYTES ((uint64_t)64 << 20)
#define TURN_NS   100000000u
#define KEY_BYTES 16u

static const uint32_t sizes[] = {4096, 16384, 65536};
#define SIZES (sizeof sizes / sizeof *sizes)

struct bench {
    const char *dir;
    double seconds;
    bool json;
    char place[4096]; /* ours, in dir */
    int raw, event;
    uint64_t raw_at, serial, entries, append_ns;
    uint8_t *block;
    struct gw_commit *log;
    struct gw_histogram device[SIZES], commit[SIZES];
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static void woken(void *ctx)
{
    struct bench *b = ctx;
    (void)eventfd_write(b->event, 1); /* the counter cannot be full */
}

/* A file whose blocks have all been written. */
static bool raw_open(struct bench *b)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/raw", b->place);
    b->raw = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (b->raw < 0)
        return false;
    memset(b->block, 0x5A, sizes[SIZES - 1]);
    for (uint64_t at = 0; at < RAW_BYTES; at += sizes[SIZES - 1])
        if (pwrite(b->raw, b->block, sizes[SIZES - 1], (off_t)at) != (ssize_t)sizes[SIZES - 1])
            return false;
    return fsync(b->raw) == 0;
}

static bool raw_once(struct bench *b, uint32_t size, struct gw_histogram *h)
{
    if (b->raw_at + size > RAW_BYTES)
        b->raw_at = 0;
    uint64_t begun = now_ns();
    if (pwrite(b->raw, b->block, size, (off_t)b->raw_at) != (ssize_t)size || fdatasync(b->raw) < 0)
        return false;
    gw_histogram_add(h, now_ns() - begun);
    b->raw_at += size;
    return true;
}

/* The flush of one block of that size at most. */
static bool commit_once(struct bench *b, uint32_t size, struct gw_histogram *h)
{
    static const uint8_t key[KEY_BYTES] = "commit-benchmark";
    struct gw_commit_entry entry = {
        .key = key, .key_bytes = KEY_BYTES, .op = GW_COMMIT_COUNTER, .version = 1, .status = GW_OK};
    uint64_t begun = now_ns();
    if (gw_commit_group(b->log, 1, b->serial, b->serial) != GW_OK)
        return false;
    while (gw_commit_gathered(b->log) + GW_COMMIT_ENTRY_BYTES + KEY_BYTES + 8 <= size) {
        entry.serial = b->serial++;
        entry.number++;
        if (gw_commit_append(b->log, &entry) != GW_OK)
            return false;
        b->entries++;
    }
    b->append_ns += now_ns() - begun;
    enum gw_status status = gw_commit_flush(b->log, 1, 1);
    while (status == GW_PENDING) {
        eventfd_t value;
        if (eventfd_read(b->event, &value) < 0 && errno != EINTR)
            return false;
        status = gw_commit_poll(b->log);
    }
    gw_histogram_add(h, now_ns() - begun);
    return status == GW_OK;
}

static bool run(struct bench *b)
{
    for (size_t i = 0; i < SIZES; i++) {
        uint64_t end = now_ns() + (uint64_t)(b->seconds * 1e9 / SIZES);
        for (bool raw = true; now_ns() < end; raw = !raw) {
            uint64_t turn = now_ns() + TURN_NS;
            while (now_ns() < turn)
                if (!(raw ? raw_once(b, sizes[i], &b->device[i])
                          : commit_once(b, sizes[i], &b->commit[i])))
                    return false;
        }
        if (b->commit[i].count == 0 && !commit_once(b, sizes[i], &b->commit[i]))
            return false;
    }
    return true;
}

static double us(const struct gw_histogram *h, double quantile)
{
    return (double)gw_histogram_at(h, quantile) / 1e3;
}

static json_t *json_of(const struct gw_histogram *h)
{
    return json_pack("{s:I, s:f, s:f, s:f}", "count", (json_int_t)h->count, "p50_us", us(h, 0.5),
                     "p99_us", us(h, 0.99), "p999_us", us(h, 0.999));
}

static void print(const struct bench *b)
{
    double append = b->entries ? (double)b->append_ns / (double)b->entries : 0;
    if (b->json) {
        json_t *list = json_array();
        for (size_t i = 0; i < SIZES; i++)
            json_array_append_new(list, json_pack("{s:I, s:o, s:o}", "bytes", (json_int_t)sizes[i],
                                                  "device", json_of(&b->device[i]), "commit",
                                                  json_of(&b->commit[i])));
        json_t *root = json_pack("{s:f, s:o}", "append_ns", append, "blocks", list);
        json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(8));
        putchar('\n');
        json_decref(root);
        return;
    }
    printf("block      write+fdatasync p50/p99/p99.9 us   commit log p50/p99/p99.9 us\n");
    for (size_t i = 0; i < SIZES; i++)
        printf("%6u B   %9.0f %9.0f %9.0f      %9.0f %9.0f %9.0f\n", sizes[i],
               us(&b->device[i], 0.5), us(&b->device[i], 0.99), us(&b->device[i], 0.999),
               us(&b->commit[i], 0.5), us(&b->commit[i], 0.99), us(&b->commit[i], 0.999));
    printf("append   %9.1f ns an entry\n", append);
}

static int usage(void)
{
    fputs("usage: godwit-bench fsync --dir DIR [FLAGS]\n"
          "  --dir DIR      a folder of ours is made in it, and removed\n"
          "  --seconds S    altogether (3)\n"
          "  --json\n",
          stderr);
    return 2;
}

static bool parse(int argc, char **argv, struct bench *b)
{
    static const struct option options[] = {{"dir", required_argument, NULL, 'd'},
                                            {"seconds", required_argument, NULL, 's'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    b->seconds = 3;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            b->dir = optarg;
        else if (c == 's')
            b->seconds = atof(optarg);
        else if (c == 'j')
            b->json = true;
        else
            return false;
    }
    return b->dir && b->seconds > 0 && optind == argc;
}

int gw_bench_fsync(int argc, char **argv)
{
    struct bench *b = calloc(1, sizeof *b);
    char error[GW_COMMIT_TEXT_BYTES] = "", path[4200];
    if (!b || !parse(argc, argv, b)) {
        free(b);
        return usage();
    }
    snprintf(b->place, sizeof b->place, "%s/godwit-bench-fsync-%d", b->dir, (int)getpid());
    struct gw_commit_options options = {.dir = b->place, .store_id = 1, .incarnation = 1};
    bool good = false;
    b->raw = -1;
    b->event = eventfd(0, EFD_CLOEXEC);
    b->block = malloc(sizes[SIZES - 1]);
    if (b->block && b->event >= 0 && gw_commit_open(&options, &b->log, error) == GW_OK) {
        gw_commit_on_done(b->log, woken, b);
        good = raw_open(b) && run(b);
    }
    if (good)
        print(b);
    else
        fprintf(stderr, "godwit-bench fsync: %s\n", error[0] ? error : strerror(errno));
    gw_commit_close(b->log);
    if (b->raw >= 0)
        close(b->raw);
    if (b->event >= 0)
        close(b->event);
    snprintf(path, sizeof path, "%s/raw", b->place);
    unlink(path);
    if ((gw_commit_logs_remove(b->place, 1, 1, 0, NULL) != GW_OK || rmdir(b->place) < 0) && good)
        fprintf(stderr, "godwit-bench fsync: %s: cannot be removed\n", b->place);
    free(b->block);
    free(b);
    return good ? 0 : 1;
}
