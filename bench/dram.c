/* dram.c - this machine's random cache-line rate: the ceiling that the engine is compared with.
 *
 * Lines of a huge-page mapping much larger than the caches are read in a random order that the
 * processor cannot foresee, each prefetched a fixed distance ahead: the same means that the engine
 * has. The order comes from a generator whose state does not depend on what is read, so nothing
 * but memory limits the rate. Several distances are tried and the best counts. Then once more
 * with each address made of what the line before it held: what a miss costs that nothing hides. */
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/counters.h"
#include "index/base/clock.h"
#include "index/base/memory.h"
#include "index/base/rand.h"
#include "index/base/text.h"

#define LINE          64u
#define BYTES_DEFAULT ((uint64_t)8 << 30) /* half of what is free, if that is less */
#define BYTES_MIN     ((uint64_t)64 << 20)
#define RUN_NS        700000000u
#define CORES_MAX     256u

struct reader {
    const uint8_t *memory;
    uint64_t lines;
    uint32_t distance, number;
    pthread_barrier_t *start;
    bool dependent;
    double rate; /* lines a second */
    uint64_t sum;
};

/* Where the n-th line of a walk is: a multiplicative hash of a counter, reduced without division.
 */
static inline uint64_t line_at(uint64_t n, uint64_t lines)
{
    uint64_t x = n * 0x9e3779b97f4a7c15u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return (uint64_t)(((__uint128_t)x * lines) >> 64);
}

static void *reader_main(void *arg)
{
    struct reader *r = arg;
    const uint64_t chunk = 1 << 16;
    uint64_t n = (uint64_t)(r->number + 1) << 40, done = 0, sum = 0;
    pthread_barrier_wait(r->start);
    uint64_t start = gw_clock_now_ns(gw_clock_system()), now;
    do {
        if (r->dependent) {
            for (uint64_t i = 0; i < chunk; i++, n++) /* the sum is part of the next address */
                sum += *(const uint64_t *)(r->memory + line_at(n + sum, r->lines) * LINE);
        } else {
            for (uint64_t i = 0; i < chunk; i++, n++) {
                __builtin_prefetch(r->memory + line_at(n + r->distance, r->lines) * LINE, 0, 3);
                sum += *(const uint64_t *)(r->memory + line_at(n, r->lines) * LINE);
            }
        }
        done += chunk;
        now = gw_clock_now_ns(gw_clock_system());
    } while (now - start < RUN_NS);
    r->rate = (double)done * 1e9 / (double)(now - start);
    r->sum = sum;
    return NULL;
}

/* Lines a second of `cores` readers together. Distance 0: one after the other. */
static double measure(const uint8_t *memory, uint64_t lines, uint32_t cores, uint32_t distance)
{
    struct reader readers[CORES_MAX];
    pthread_t threads[CORES_MAX];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, cores);
    for (uint32_t i = 0; i < cores; i++) {
        readers[i] = (struct reader){memory, lines, distance, i, &start, distance == 0, 0, 0};
        if (pthread_create(&threads[i], NULL, reader_main, &readers[i]) != 0) {
            fprintf(stderr, "godwit-bench dram: cannot start thread %u\n", i);
            exit(1); /* the others wait at the barrier for ever */
        }
    }
    double rate = 0;
    for (uint32_t i = 0; i < cores; i++) {
        pthread_join(threads[i], NULL);
        rate += readers[i].rate;
    }
    pthread_barrier_destroy(&start);
    return rate;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: godwit-bench dram [--bytes SIZE] [--json]\n"
            "SIZE: 64MiB or more; default 8GiB, or half of the free memory if that is less\n");
    return 2;
}

static uint64_t bytes_by_default(void)
{
    uint64_t half = gw_bench_memory_free() / 2 / LINE * LINE;
    if (half == 0 || half >= BYTES_DEFAULT)
        return BYTES_DEFAULT;
    uint64_t bytes = half > BYTES_MIN ? half : BYTES_MIN;
    fprintf(stderr, "godwit-bench dram: less than 16 GiB are free, using %" PRIu64 " MiB\n",
            bytes >> 20);
    return bytes;
}

int gw_bench_dram(int argc, char **argv)
{
    static const struct option options[] = {{"bytes", required_argument, NULL, 'b'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    uint64_t bytes = 0;
    bool json = false;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'j')
            json = true;
        else if (c != 'b' || gw_parse_size(optarg, &bytes) != GW_OK || bytes < BYTES_MIN)
            return usage();
    }
    if (optind != argc)
        return usage();

    if (bytes == 0)
        bytes = bytes_by_default();
    void *memory;
    enum gw_memory_kind kind;
    if (gw_memory_map(bytes, &memory, &kind) != GW_OK) {
        fprintf(stderr, "godwit-bench dram: cannot map %" PRIu64 " bytes\n", bytes);
        return 1;
    }
    memset(memory, 1, bytes); /* else all of it is one zero page */

    uint32_t cores = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
    cores = cores > CORES_MAX ? CORES_MAX : cores;
    static const uint32_t distances[] = {16, 32, 64};
    double one = 0, all = 0;
    uint32_t best = distances[0];
    for (size_t i = 0; i < sizeof distances / sizeof distances[0]; i++) {
        double rate = measure(memory, bytes / LINE, 1, distances[i]);
        if (rate > one) {
            one = rate;
            best = distances[i];
        }
    }
    all = measure(memory, bytes / LINE, cores, best);
    double dependent = measure(memory, bytes / LINE, 1, 0);
    gw_memory_unmap(memory, bytes);

    if (json) {
        json_t *root =
            json_pack("{s:f, s:f, s:f, s:f, s:i, s:i, s:I, s:s}", "lines_per_second_one_core", one,
                      "lines_per_second_all_cores", all, "lines_per_second_dependent", dependent,
                      "dependent_ns", 1e9 / dependent, "cores", (int)cores, "prefetch_distance",
                      (int)best, "bytes", (json_int_t)bytes, "pages", gw_memory_kind_name(kind));
        json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
        putchar('\n');
        json_decref(root);
    } else {
        printf("one core  %8.1f M lines/s (prefetch %u ahead)\n", one / 1e6, best);
        printf("%u cores   %8.1f M lines/s\n", cores, all / 1e6);
        printf("dependent %8.1f M lines/s, %.0f ns each\n", dependent / 1e6, 1e9 / dependent);
        printf("memory    %" PRIu64 " MiB, %s pages\n", bytes >> 20, gw_memory_kind_name(kind));
    }
    return 0;
}
