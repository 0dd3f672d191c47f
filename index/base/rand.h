/* rand.h - pseudo-random numbers from a seed (xoshiro256**, Blackman and Vigna 2018, seeded by
 * splitmix64), and seeds from the system. One generator belongs to one thread. Layer: base. */
#ifndef GW_INDEX_BASE_RAND_H
#define GW_INDEX_BASE_RAND_H

#include <stdint.h>

struct gw_rand {
    uint64_t s[4];
};

void gw_rand_init(struct gw_rand *r, uint64_t seed);
uint64_t gw_rand_next(struct gw_rand *r);
/* Uniform in [0, n), without modulo bias to speak of; requires: n > 0. */
uint64_t gw_rand_below(struct gw_rand *r, uint64_t n);
/* Uniform in [0, 1). */
double gw_rand_unit(struct gw_rand *r);
/* A seed from getrandom(2), never 0. */
uint64_t gw_rand_system_seed(void);
#endif
