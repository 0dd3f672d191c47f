/* workload.h - what a benchmark asks for: YCSB's mixes over 8-byte keys, from fixed seeds, so that
 * two runs ask the same questions.
 *
 *   a  50 % read, 50 % update      b  95 % read, 5 % update       c  reads only
 *   d  95 % read of the latest, 5 % insert
 *   add, f   counter adds only     50:50  half reads, half counter adds (YCSB's own f)
 *   insert   new keys only
 * Distributions: uniform; zipfian is YCSB's scrambled one, the ranks hashed over the key space
 * (Cooper et al. 2010; Gray et al. 1994); latest is zipfian counted back from the newest key.
 * A struct gw_workload belongs to one thread. Layer: bench. */
#ifndef GW_BENCH_WORKLOAD_H
#define GW_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "index/base/rand.h"
#include "index/base/status.h"

#define GW_WORKLOAD_THETA 0.99 /* YCSB's skew */

enum gw_workload_verb {
    GW_WORKLOAD_READ,
    GW_WORKLOAD_UPDATE,
    GW_WORKLOAD_INSERT, /* d, insert: a key that is not there yet */
    GW_WORKLOAD_ADD,
};

/* The letters of YCSB, and two of our own. */
#define GW_MIX_ADD    'f'
#define GW_MIX_HALF   'm'
#define GW_MIX_INSERT 'i'

enum gw_distribution { GW_UNIFORM, GW_ZIPFIAN, GW_LATEST };

struct gw_workload_options {
    char mix; /* 'a', 'b', 'c', 'd', GW_MIX_ADD, GW_MIX_HALF, GW_MIX_INSERT */
    enum gw_distribution distribution;
    double theta;  /* of zipfian and latest: 0: GW_WORKLOAD_THETA; else up to 10, not 1 */
    uint64_t keys; /* loaded before: key numbers 0 .. keys - 1; insert: may be 0 */
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

/* GW_E_INVALID: unknown mix, no keys, theta out of range. Unless uniform it sums up to `keys`
 * terms, once. */
GW_MUST_USE enum gw_status gw_workload_init(struct gw_workload *w,
                                            const struct gw_workload_options *options);
/* The next operation and the number of its key. Threads insert disjoint keys. */
enum gw_workload_verb gw_workload_next(struct gw_workload *w, uint64_t *key);

/* Whether the mix adds to counters, whether it inserts keys. */
bool gw_workload_adds(char mix);
bool gw_workload_inserts(char mix);

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

/* What a command line says: "a".."d", "f", "add", "50:50", "insert"; "uniform", "zipfian",
 * "latest"; a skew. GW_E_INVALID otherwise, *out is then unchanged. */
GW_MUST_USE enum gw_status gw_workload_parse_mix(const char *text, char *mix);
GW_MUST_USE enum gw_status gw_workload_parse_distribution(const char *text,
                                                          enum gw_distribution *out);
GW_MUST_USE enum gw_status gw_workload_parse_theta(const char *text, double *out);
const char *gw_workload_mix_name(char mix);
const char *gw_workload_distribution_name(enum gw_distribution distribution);
#endif
