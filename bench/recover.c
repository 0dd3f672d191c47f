/* recover.c - how long a store takes to come back: a log is written, cut and closed; then the files
 * are read one after the other by all cores, which is what the device can give, and the same log is
 * recovered, in turns. All past the page cache (O_DIRECT), so both come from the device.
 *
 * Without --snapshot all of the log is replayed; with it an index snapshot, made when --rest of the
 * log was still to be written, is loaded first. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/bench.h"
#include "index/base/clock.h"
#include "index/base/rand.h"
#include "index/base/text.h"
#include "index/device.h"
#include "index/store_recover.h"
#include "tiering/ssd.h"

#define PAGE_BITS   22u
#define BATCH       256u
#define FILES_MAX   4096u
#define PIECE       ((uint64_t)4 << 20)
#define THREADS_MAX 64u
#define STORE_ID    0x676f64776974u

struct settings {
    const char *dir;
    uint64_t bytes, memory, value_bytes, threads, rest, turns;
    bool snapshot, json;
};

struct files {
    int fd[FILES_MAX];
    uint64_t pieces[FILES_MAX]; /* up to and with this one */
    uint32_t count;
    _Atomic uint64_t next;
    _Atomic bool failed;
};

struct bench {
    struct settings s;
    char dir[4096];
    struct gw_device *device;
    struct gw_store *store;
    struct gw_thread *thread;
    struct gw_store_options options;
    struct gw_store_image image;
    uint64_t *words, words_count, keys, incarnation;
    uint8_t *blocks; /* of the snapshot */
    uint64_t blocks_count, block_next;
    gw_addr snapshot_start;
    double read_seconds, recover_seconds; /* the best of all turns */
    double cpu_seconds;                   /* of that recovery */
    uint64_t file_bytes;
};

static double now(void)
{
    return (double)gw_clock_now_ns(gw_clock_system()) / 1e9;
}

static double cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static bool fail(const char *what, const char *why)
{
    fprintf(stderr, "godwit-bench recover: %s: %s\n", what, why);
    return false;
}

/* ---- the log ---- */

static bool device_open(struct bench *b)
{
    struct gw_ssd_report report = {0};
    struct gw_ssd_options o = {.dir = b->dir,
                               .page_bits = PAGE_BITS,
                               .store_id = STORE_ID,
                               .keep_earlier = b->incarnation != 0,
                               .queues = (uint32_t)b->s.threads + 1};
    o.incarnation = (uint32_t)++b->incarnation;
    if (gw_ssd_open(&o, &b->device, &report) == GW_OK)
        return report.direct || fail(b->dir, report.why);
    b->device = NULL;
    return fail("the tier", report.error);
}

static bool fill(struct bench *b, uint64_t until)
{
    struct gw_op ops[BATCH];
    uint64_t keys[BATCH], hashes[64];
    uint8_t *value = calloc(1, b->s.value_bytes + 1), room[64];
    uint32_t n = 0;
    struct gw_store_stats stats = {0};
    for (uint64_t round = 0; value && stats.log_tail < until; round++) {
        for (; n < BATCH; n++) {
            keys[n] = b->keys++;
            ops[n] = (struct gw_op){.verb = GW_VERB_UPSERT,
                                    .key_bytes = 8,
                                    .value = value,
                                    .value_bytes = (uint32_t)b->s.value_bytes};
        }
        for (uint32_t i = 0; i < n; i++) {
            ops[i].key = (const uint8_t *)&keys[i];
            gw_store_hash(b->store, &ops[i]);
        }
        size_t used;
        gw_store_enter(b->thread);
        gw_store_execute(b->thread, ops, n, room, sizeof room, &used);
        gw_store_exit(b->thread);
        uint32_t left = 0;
        for (uint32_t i = 0; i < n; i++) {
            if (ops[i].status == GW_OK)
                continue;
            if (ops[i].status != GW_RETRY && ops[i].status != GW_PENDING) {
                free(value);
                return fail("writing", gw_status_text((enum gw_status)ops[i].status));
            }
            ops[left] = ops[i];
            keys[left++] = keys[i];
        }
        n = left;
        gw_store_poll(b->thread);
        while (gw_store_ready(b->thread, hashes, 64) != 0) {}
        if (round % 64 == 0)
            gw_store_stats(b->store, &stats);
    }
    b->keys -= n;
    free(value);
    return value != NULL;
}

static bool snapshot_take(struct bench *b)
{
    struct gw_snapshot *snapshot;
    if (gw_snapshot_begin(b->store, &snapshot, &b->snapshot_start) != GW_OK)
        return fail("the snapshot", "cannot begin");
    enum gw_status st;
    do {
        if (b->blocks_count % 64 == 0)
            b->blocks = realloc(b->blocks, (b->blocks_count + 64) * GW_SNAPSHOT_BLOCK);
        st = b->blocks ? gw_snapshot_next(snapshot, b->blocks + b->blocks_count * GW_SNAPSHOT_BLOCK)
                       : GW_E_NOMEM;
        b->blocks_count += st == GW_OK;
    } while (st == GW_OK);
    gw_snapshot_end(snapshot);
    return st == GW_END || fail("the snapshot", gw_status_text(st));
}

static void synced(void *arg, enum gw_status status)
{
    *(enum gw_status *)arg = status;
}

static bool cut(struct bench *b)
{
    enum gw_status st;
    while ((st = gw_store_cut_begin(b->store, 1, &b->image)) == GW_RETRY)
        gw_store_poll(b->thread);
    if (st != GW_OK)
        return fail("the cut", gw_status_text(st));
    gw_store_enter(b->thread);
    gw_store_exit(b->thread);
    while (!gw_store_cut_flushed(b->store, b->image.end))
        gw_store_poll(b->thread);
    gw_store_cut_numbers(b->store, &b->image);
    b->words_count = gw_store_mixed_chains(b->store, NULL, 0);
    b->words = calloc(b->words_count, sizeof *b->words);
    if (!b->words || gw_store_mixed_chains(b->store, b->words, b->words_count) != b->words_count)
        return fail("the image", "its words cannot be had");
    st = b->device->sync(b->device, 0, synced, &st);
    for (; st == GW_PENDING; usleep(100))
        b->device->poll(b->device, 0);
    return st == GW_OK || fail("the sync", gw_status_text(st));
}

static bool write_log(struct bench *b)
{
    if (!device_open(b))
        return false;
    b->options = (struct gw_store_options){.log_bytes = b->s.memory,
                                           .index_bytes = (uint64_t)64 << 20,
                                           .index_bytes_max = (uint64_t)16 << 30,
                                           .page_bits = PAGE_BITS,
                                           .threads_max = (uint32_t)b->s.threads + 1,
                                           .hash_seed = 1,
                                           .device = b->device};
    /* What the index takes beyond its start the log gives up. */
    b->options.log_bytes += b->s.bytes / (32 + b->s.value_bytes) * 24;
    enum gw_status st = gw_store_open(&b->options, &b->store);
    if (st != GW_OK || gw_store_thread_open(b->store, &b->thread) != GW_OK)
        return fail("the store", gw_status_text(st));
    gw_store_retain_all(b->store);
    bool good = fill(b, b->s.bytes - (b->s.snapshot ? b->s.rest : 0));
    if (good && b->s.snapshot)
        good = snapshot_take(b) && fill(b, b->s.bytes);
    return good && cut(b);
}

static void store_close(struct bench *b)
{
    gw_store_thread_close(b->thread);
    gw_store_close(b->store);
    gw_ssd_close(b->device);
    b->thread = NULL;
    b->store = NULL;
    b->device = NULL;
}

/* ---- what the device gives ---- */

static bool files_open(struct bench *b, struct files *f)
{
    struct dirent *entry;
    DIR *dir = opendir(b->dir);
    uint64_t pieces = 0;
    b->file_bytes = 0;
    while (dir && f->count < FILES_MAX && (entry = readdir(dir))) {
        struct stat stat;
        int fd = openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECT | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) {
            if (fd >= 0)
                close(fd);
            continue;
        }
        b->file_bytes += (uint64_t)stat.st_blocks * 512;
        pieces += (uint64_t)stat.st_blocks * 512 / PIECE;
        f->fd[f->count] = fd;
        f->pieces[f->count++] = pieces;
    }
    if (dir)
        closedir(dir);
    return pieces != 0 || fail(b->dir, "there are no segments");
}

static void *read_files(void *arg)
{
    struct files *f = arg;
    uint8_t *room = aligned_alloc(4096, PIECE);
    uint64_t all = f->pieces[f->count - 1];
    for (uint64_t i; room && (i = atomic_fetch_add(&f->next, 1)) < all;) {
        uint32_t at = 0;
        while (f->pieces[at] <= i)
            at++;
        uint64_t number = i - (at ? f->pieces[at - 1] : 0);
        if (pread(f->fd[at], room, PIECE, (off_t)(number * PIECE)) < 0)
            atomic_store(&f->failed, true);
    }
    if (!room)
        atomic_store(&f->failed, true);
    free(room);
    return NULL;
}

static bool measure_read(struct bench *b)
{
    static struct files f;
    memset(&f, 0, sizeof f);
    if (!files_open(b, &f))
        return false;
    pthread_t threads[THREADS_MAX];
    double start = now();
    uint32_t started = 0;
    while (started < b->s.threads && pthread_create(&threads[started], NULL, read_files, &f) == 0)
        started++;
    for (uint32_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    double seconds = now() - start;
    for (uint32_t i = 0; i < f.count; i++)
        close(f.fd[i]);
    if (started == 0 || atomic_load(&f.failed))
        return fail("reading", "a read failed");
    uint64_t read = f.pieces[f.count - 1] * PIECE;
    seconds *= (double)(b->image.end.v - b->image.begin.v) / (double)read; /* of as many bytes */
    if (b->read_seconds == 0 || seconds < b->read_seconds)
        b->read_seconds = seconds;
    return true;
}

/* ---- recovery ---- */

static enum gw_status next_block(void *ctx, uint8_t *block)
{
    struct bench *b = ctx;
    if (b->block_next == b->blocks_count)
        return GW_END;
    memcpy(block, b->blocks + b->block_next++ * GW_SNAPSHOT_BLOCK, GW_SNAPSHOT_BLOCK);
    return GW_OK;
}

static bool check_some(struct bench *b)
{
    uint8_t *room = malloc(b->s.value_bytes + 64);
    struct gw_rand rand;
    gw_rand_init(&rand, 5);
    bool good = room && gw_store_thread_open(b->store, &b->thread) == GW_OK;
    for (uint32_t i = 0; i < 2000 && good; i++) {
        uint64_t key = gw_rand_below(&rand, b->keys), hashes[8];
        struct gw_op op = {.verb = GW_VERB_READ, .key = (const uint8_t *)&key, .key_bytes = 8};
        size_t used;
        gw_store_hash(b->store, &op);
        do {
            gw_store_poll(b->thread);
            while (gw_store_ready(b->thread, hashes, 8) != 0) {}
            gw_store_enter(b->thread);
            gw_store_execute(b->thread, &op, 1, room, b->s.value_bytes + 64, &used);
            gw_store_exit(b->thread);
        } while (op.status == GW_PENDING || op.status == GW_RETRY);
        good = op.status == GW_OK && op.out_bytes == b->s.value_bytes;
    }
    free(room);
    return good || fail("the recovered store", "a key is missing");
}

static bool measure_recover(struct bench *b)
{
    char why[512];
    if (!device_open(b))
        return false;
    if (gw_ssd_adopt(b->device, b->image.begin, b->image.end, NULL, 0, why, sizeof why) != GW_OK)
        return fail("the segments", why);
    b->options.device = b->device;
    b->block_next = 0;
    b->image.gaps = NULL;
    b->image.gaps_count = 0;
    struct gw_recovery r = {.image = b->image,
                            .snapshot_start = b->s.snapshot ? b->snapshot_start : b->image.begin,
                            .resume = gw_ssd_resume(b->device, b->image.end),
                            .threads = (uint32_t)b->s.threads,
                            .next_block = b->s.snapshot ? next_block : NULL,
                            .next_ctx = b,
                            .mixed = b->words,
                            .mixed_count = b->words_count};
    double start = now(), cpu_start = cpu();
    if (gw_store_recover(&b->options, &r, &b->store, why, sizeof why) != GW_OK)
        return fail("recovery", why);
    double seconds = now() - start;
    if (b->recover_seconds == 0 || seconds < b->recover_seconds) {
        b->recover_seconds = seconds;
        b->cpu_seconds = cpu() - cpu_start;
    }
    return check_some(b);
}

/* ---- the program ---- */

static void print(const struct bench *b)
{
    double bytes = (double)(b->image.end.v - b->image.begin.v);
    double read = bytes / b->read_seconds / 1e6, recover = bytes / b->recover_seconds / 1e6;
    if (b->s.json) {
        json_t *root =
            json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:b, s:I}", "log_bytes",
                      (json_int_t)bytes, "keys", (json_int_t)b->keys, "threads",
                      (json_int_t)b->s.threads, "read_mb_per_second", read, "recover_mb_per_second",
                      recover, "recover_seconds", b->recover_seconds, "cpu_seconds", b->cpu_seconds,
                      "ratio", recover / read, "snapshot", b->s.snapshot, "snapshot_bytes",
                      (json_int_t)(b->blocks_count * GW_SNAPSHOT_BLOCK));
        json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(8));
        putchar('\n');
        json_decref(root);
        return;
    }
    printf("log      %8.0f MiB, %" PRIu64 " keys, %" PRIu64 " threads\n", bytes / 1048576, b->keys,
           b->s.threads);
    if (b->s.snapshot)
        printf("snapshot %8.0f MiB\n", (double)(b->blocks_count * GW_SNAPSHOT_BLOCK) / 1048576);
    printf("read     %8.0f MB/s, the files one after the other, past the page cache\n", read);
    printf("recover  %8.0f MB/s of log, %.2f s, %.2f s of CPU\n", recover, b->recover_seconds,
           b->cpu_seconds);
    printf("ratio    %8.2f\n", recover / read);
}

static int usage(void)
{
    fputs("usage: godwit-bench recover --dir DIR [FLAGS]\n"
          "  --dir DIR      a folder of ours is made in it, and removed\n"
          "  --bytes SIZE   of log (1GiB)\n"
          "  --memory SIZE  of the log, beside the index (256MiB)\n"
          "  --value N      bytes of a value (200)\n"
          "  --threads N    that recover (2)\n"
          "  --turns N      of reading and recovering; the best of each counts (3)\n"
          "  --snapshot     with an index snapshot\n"
          "  --rest SIZE    of log behind the snapshot (128MiB)\n"
          "  --json\n",
          stderr);
    return 2;
}

static bool parse(int argc, char **argv, struct settings *s)
{
    static const struct option options[] = {
        {"dir", required_argument, NULL, 'd'},     {"bytes", required_argument, NULL, 'b'},
        {"memory", required_argument, NULL, 'm'},  {"value", required_argument, NULL, 'v'},
        {"threads", required_argument, NULL, 't'}, {"turns", required_argument, NULL, 'n'},
        {"rest", required_argument, NULL, 'r'},    {"snapshot", no_argument, NULL, 's'},
        {"json", no_argument, NULL, 'j'},          {0}};
    *s = (struct settings){.bytes = (uint64_t)1 << 30,
                           .memory = (uint64_t)256 << 20,
                           .value_bytes = 200,
                           .threads = 2,
                           .turns = 3,
                           .rest = (uint64_t)128 << 20};
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        bool good = true;
        if (c == 'd')
            s->dir = optarg;
        else if (c == 'b')
            good = gw_parse_size(optarg, &s->bytes) == GW_OK && s->bytes >= (uint64_t)64 << 20;
        else if (c == 'm')
            good = gw_parse_size(optarg, &s->memory) == GW_OK && s->memory >= (uint64_t)64 << 20;
        else if (c == 'v')
            good = gw_parse_u64(optarg, 1, 1 << 20, &s->value_bytes) == GW_OK;
        else if (c == 't')
            good = gw_parse_u64(optarg, 1, THREADS_MAX, &s->threads) == GW_OK;
        else if (c == 'n')
            good = gw_parse_u64(optarg, 1, 100, &s->turns) == GW_OK;
        else if (c == 'r')
            good = gw_parse_size(optarg, &s->rest) == GW_OK;
        else if (c == 's')
            s->snapshot = true;
        else if (c == 'j')
            s->json = true;
        else
            good = false;
        if (!good)
            return false;
    }
    return s->dir && optind == argc && s->rest < s->bytes;
}

int gw_bench_recover(int argc, char **argv)
{
    static struct bench b;
    memset(&b, 0, sizeof b);
    if (!parse(argc, argv, &b.s))
        return usage();
    snprintf(b.dir, sizeof b.dir, "%s/godwit-bench-recover-%d", b.s.dir, (int)getpid());
    bool good = write_log(&b);
    if (b.device)
        store_close(&b);
    for (uint64_t i = 0; i < b.s.turns && good; i++) {
        good = measure_read(&b) && measure_recover(&b);
        if (b.device && i + 1 < b.s.turns)
            store_close(&b);
    }
    if (good)
        print(&b);
    if (!b.device) /* to take the files away */
        device_open(&b);
    if (b.device) {
        gw_store_thread_close(b.thread);
        gw_store_close(b.store);
        good &= gw_ssd_forget_earlier(b.device, NULL) == GW_OK; /* where nothing was adopted */
        b.device->trim(b.device, gw_addr_of(UINT64_MAX));
        gw_ssd_close(b.device);
    }
    rmdir(b.dir);
    free(b.words);
    free(b.blocks);
    return good ? 0 : 1;
}
