/* Goal: the short ways for keys of 8 bytes give XXH3's hash, for any seed, and CRC16's slot. */
#include "index/base/hash.h"

#include <criterion/criterion.h>
#include <string.h>
#include <xxhash.h>

#include "index/base/rand.h"

Test(hash8, equals_the_library)
{
    struct gw_rand rand;
    gw_rand_init(&rand, 8);
    for (int i = 0; i < 100000; i++) {
        uint64_t key = gw_rand_next(&rand), seed = i < 10 ? (uint64_t)i : gw_rand_next(&rand);
        cr_assert_eq(gw_key_hash(&key, 8, seed), XXH3_64bits_withSeed(&key, 8, seed));
        if (!memchr(&key, '{', 8))
            cr_assert_eq(gw_key_slot(&key, 8), gw_crc16(&key, 8) & 16383);
    }
}
