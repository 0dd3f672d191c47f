/* Goal: the short way for keys of 8 bytes gives XXH3's hash, for any seed. */
#include "index/base/hash.h"

#include <criterion/criterion.h>
#include <xxhash.h>

#include "index/base/rand.h"

Test(hash8, equals_the_library)
{
    struct gw_rand rand;
    gw_rand_init(&rand, 8);
    for (int i = 0; i < 100000; i++) {
        uint64_t key = gw_rand_next(&rand), seed = i < 10 ? (uint64_t)i : gw_rand_next(&rand);
        cr_assert_eq(gw_key_hash(&key, 8, seed), XXH3_64bits_withSeed(&key, 8, seed));
    }
}
