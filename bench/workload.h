/* workload.h - what a benchmark asks for: YCSB's mixes over 8-byte keys, uniform or zipfian, from
 * fixed seeds, so that two runs ask the same questions.
 *
 *   a  50 % read, 50 % update      b  95 % read, 5 % update       c  reads only
 *   d  95 % read of the latest, 5 % insert                        f  counter add
 * Zipfian is YCSB's scrambled one: theta 0.99, the ranks hashed over the key space (Cooper et al.
 * 2010; Gray et al. 1994). A struct gw_workload belongs to one thread. Layer: bench. */
#ifndef GW_BENCH_WORKLOAD_H
#define GW_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "index/base/rand.h"
#include "index/base/status.h"

enum gw_workload_verb {
    GW_WORKLOAD_READ,
    GW_WORKLOAD_UPDATE,
    GW_WORKLOAD_INSERT, /* d: a key that is not there yet */
    GW_WORKLOAD_ADD,
};

enum gw_distribution { GW_UNIFORM, GW_ZIPFIAN };

struct gw_workload_options {
    char mix; /* 'a', 'b', 'c', 'd', 'f' */
    enum gw_distribution distribution;
    uint64_t keys; /* loaded before: key numbers 0 .. keys - 1 */
    uint32_t thread, threads;
    uint64_t seed; /* 0: a fixed one */
};

struct gw_workload {
    struct gw_workload_options options;
    struct gw_rand rand;
    uint32_t read_share; /* of 2^32 */
    uint64_t inserted;   /* by this thread */
    double zipf_alpha, zipf_zeta, zipf_eta, zipf_half;
};

/* GW_E_INVALID: unknown mix, or no keys. With zipfian it sums up to `keys` terms, once. */
GW_MUST_USE enum gw_status gw_workload_init(struct gw_workload *w,
                                            const struct gw_workload_options *options);
/* The next operation and the number of its key. Threads insert disjoint keys. */
enum gw_workload_verb gw_workload_next(struct gw_workload *w, uint64_t *key);

/* The 8 bytes of a key: its number scrambled by an invertible mix, so that keys are neither dense
 * nor ordered; different numbers give different keys. */
static inline uint64_t gw_workload_key(uint64_t number)
{
    number ^= number >> 32;
    number *= 0xd6e8feb86659fd93u;
    number ^= number >> 32;
    number *= 0xd6e8feb86659fd93u;
    number ^= number >> 32;
    return number;
}

/* "a".."f" and "uniform" or "zipfian" from a command line; GW_E_INVALID otherwise. */
GW_MUST_USE enum gw_status gw_workload_parse_mix(const char *text, char *mix);
GW_MUST_USE enum gw_status gw_workload_parse_distribution(const char *text,
                                                          enum gw_distribution *out);
#endif
