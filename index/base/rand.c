/* rand.c - xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators",
 * 2018), seeded by splitmix64 as its authors advise. */
#include "index/base/rand.h"

#include <sys/random.h>

#include "index/base/assert.h"
#include "index/base/clock.h"

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void gw_rand_init(struct gw_rand *r, uint64_t seed)
{
    /* splitmix64 is a bijection of its counter: four steps in a row cannot all be zero, which is
     * the one state that xoshiro never leaves. */
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix64(&seed);
}

static inline uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t gw_rand_next(struct gw_rand *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t gw_rand_below(struct gw_rand *r, uint64_t n)
{
    GW_ASSERT(n > 0);
    /* Lemire's multiply-and-shift without the rejection loop: the bias is n / 2^64, and a
     * simulator's schedule takes the same number of draws whatever n is. */
    return (uint64_t)(((unsigned __int128)gw_rand_next(r) * n) >> 64);
}

double gw_rand_unit(struct gw_rand *r)
{
    return (double)(gw_rand_next(r) >> 11) * 0x1.0p-53;
}

uint64_t gw_rand_system_seed(void)
{
    uint64_t seed = 0;
    for (int tries = 0; tries < 100 && seed == 0; tries++) {
        /* Up to 256 bytes are never cut short; EINTR is possible only before the pool is ready. */
        if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
            seed = 0;
    }
    if (seed == 0) /* a kernel or sandbox without getrandom: differ at least from start to start */
        seed = gw_clock_now_ns(gw_clock_system()) | 1;
    return seed;
}
