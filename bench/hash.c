/* hash.c - what the two hashes of a key cost, by its length: nanoseconds a key when the keys lie in
 * the first-level cache and are hashed one after the other, as a batch does it. */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "index/base/clock.h"
#include "index/base/hash.h"
#include "index/base/rand.h"

#define KEYS          256u
#define KEY_BYTES_MAX 64u
#define SEED          20240229u
#define RUN_NS        100000000u
#define ROUNDS        5

enum part { PART_SLOT, PART_HASH, PART_BOTH, PARTS };

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

/* One pass over all keys. The sum keeps the compiler from leaving out what nobody looks at. */
static uint64_t pass(const uint8_t *keys, size_t bytes, enum part part)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < KEYS; i++) {
        const uint8_t *key = keys + i * KEY_BYTES_MAX;
        if (part != PART_HASH)
            sum += gw_key_slot(key, bytes);
        if (part != PART_SLOT)
            sum += gw_key_hash(key, bytes, SEED);
    }
    return sum;
}

/* The least of several rounds: the processor's other work only ever adds. */
static double measure(const uint8_t *keys, size_t bytes, enum part part, uint64_t *sum)
{
    double least = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t passes = 0, start = now_ns(), now;
        do {
            for (int i = 0; i < 64; i++)
                *sum += pass(keys, bytes, part);
            passes += 64;
            now = now_ns();
        } while (now - start < RUN_NS / ROUNDS);
        double ns = (double)(now - start) / (double)(passes * KEYS);
        least = round == 0 || ns < least ? ns : least;
    }
    return least;
}

int gw_bench_hash(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
    bool json = false;
    optind = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        json = c == 'j';
        if (!json)
            optind = argc + 1;
    }
    if (optind != argc) {
        fputs("usage: godwit-bench hash [--json]\n", stderr);
        return 2;
    }
    static _Alignas(64) uint8_t keys[KEYS * KEY_BYTES_MAX];
    struct gw_rand rand;
    gw_rand_init(&rand, SEED);
    for (size_t i = 0; i < sizeof keys; i++)
        keys[i] = (uint8_t)('a' + gw_rand_below(&rand, 26));

    static const size_t lengths[] = {8, 16, 32, 64};
    static const char *const names[PARTS] = {"crc16_ns", "xxh3_ns", "both_ns"};
    json_t *rows = json_array();
    uint64_t sum = 0;
    if (!json)
        puts("key bytes  CRC16 ns  XXH3 ns  both ns");
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        json_t *row = json_pack("{s:I}", "key_bytes", (json_int_t)lengths[i]);
        double ns[PARTS];
        for (int part = 0; part < PARTS; part++) {
            ns[part] = measure(keys, lengths[i], (enum part)part, &sum);
            json_object_set_new(row, names[part], json_real(ns[part]));
        }
        json_array_append_new(rows, row);
        if (!json)
            printf("%9zu %9.2f %8.2f %8.2f\n", lengths[i], ns[PART_SLOT], ns[PART_HASH],
                   ns[PART_BOTH]);
    }
    if (json) {
        json_t *root = json_pack("{s:O, s:I}", "keys", rows, "sum", (json_int_t)(sum & INT32_MAX));
        json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
        putchar('\n');
        json_decref(root);
    }
    json_decref(rows);
    return 0;
}
