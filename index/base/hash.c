/* hash.c - where a key lies and who owns it.
 *
 * CRC16-XMODEM (polynomial 0x1021, start 0, not reflected) is what Redis Cluster calls CRC16. It is
 * computed for every operation, so it goes eight bytes a step: slice[k][b] is the CRC of byte b
 * with k zero bytes behind it, and since a CRC is linear over XOR, the eight look-ups do not wait
 * for each other (Kounavis and Berry, "A systematic approach to building high performance,
 * software-based, CRC generators", 2005). The 4 KiB of tables stay in the first-level cache. */
#include "index/base/hash.h"

#include <stdbool.h>
#include <string.h>

#include "index/base/bytes.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SLICES 8

static uint16_t slice[SLICES][256];

/* Before main, so that no thread can race it; tables filled by the compiler would be 2,048 numbers
 * that nobody can read. */
__attribute__((constructor)) static void hash_tables_make(void)
{
    for (unsigned b = 0; b < 256; b++) {
        unsigned crc = b << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc << 1) ^ (crc & 0x8000 ? 0x1021 : 0);
        slice[0][b] = (uint16_t)crc;
    }
    for (int k = 1; k < SLICES; k++)
        for (unsigned b = 0; b < 256; b++) {
            uint16_t crc = slice[k - 1][b];
            slice[k][b] = (uint16_t)(crc << 8 ^ slice[0][crc >> 8]);
        }
}

uint16_t gw_crc16(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    unsigned crc = 0;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w = gw_load64(p);
        crc = slice[7][(w ^ crc >> 8) & 0xff] ^ slice[6][(w >> 8 ^ crc) & 0xff] ^
              slice[5][w >> 16 & 0xff] ^ slice[4][w >> 24 & 0xff] ^ slice[3][w >> 32 & 0xff] ^
              slice[2][w >> 40 & 0xff] ^ slice[1][w >> 48 & 0xff] ^ slice[0][w >> 56];
    }
    if (n >= 4) {
        uint32_t w = gw_load32(p);
        crc = slice[3][(w ^ crc >> 8) & 0xff] ^ slice[2][(w >> 8 ^ crc) & 0xff] ^
              slice[1][w >> 16 & 0xff] ^ slice[0][w >> 24];
        n -= 4;
        p += 4;
    }
    for (; n; n--)
        crc = (crc << 8 & 0xffff) ^ slice[0][(crc >> 8 ^ *p++) & 0xff];
    return (uint16_t)crc;
}

/* The part of a key that decides its slot: between the first '{' and the first '}' behind it,
 * unless nothing is between. */
static const void *hash_tag(const char *key, size_t *bytes)
{
    const char *open = memchr(key, '{', *bytes);
    if (!open)
        return key;
    const char *tag = open + 1;
    const char *close = memchr(tag, '}', (size_t)(key + *bytes - tag));
    if (!close || close == tag)
        return key;
    *bytes = (size_t)(close - tag);
    return tag;
}

/* Not zero if a byte of `word` is '{': such a byte is zero in x, and only the lowest zero byte and
 * bytes above it can set their high bit here, so no word without one is reported. */
static inline uint64_t brace_in(uint64_t word)
{
    uint64_t x = word ^ 0x7b7b7b7b7b7b7b7bu;
    return (x - 0x0101010101010101u) & ~x & 0x8080808080808080u;
}

/* Most keys are short and have no tag. Two loads that may overlap see a key of 4 to 16 bytes in a
 * few instructions, where memchr is a call. */
static inline bool may_hold_tag(const uint8_t *key, size_t bytes)
{
    if (bytes >= 8 && bytes <= 16)
        return brace_in(gw_load64(key)) | brace_in(gw_load64(key + bytes - 8));
    if (bytes >= 4 && bytes < 8)
        return brace_in(gw_load32(key) | (uint64_t)gw_load32(key + bytes - 4) << 32);
    return bytes > 2; /* the shortest tag is "{x}" */
}

/* gw_crc16 of 8 bytes: one step of its loop, without the loop. */
static inline uint16_t crc16_of_word(uint64_t w)
{
    return slice[7][w & 0xff] ^ slice[6][w >> 8 & 0xff] ^ slice[5][w >> 16 & 0xff] ^
           slice[4][w >> 24 & 0xff] ^ slice[3][w >> 32 & 0xff] ^ slice[2][w >> 40 & 0xff] ^
           slice[1][w >> 48 & 0xff] ^ slice[0][w >> 56];
}

uint16_t gw_key_slot(const void *key, size_t key_bytes)
{
    if (key_bytes == 8 && !brace_in(gw_load64(key)))
        return crc16_of_word(gw_load64(key)) & (GW_SLOTS - 1);
    if (may_hold_tag(key, key_bytes))
        key = hash_tag(key, &key_bytes);
    return gw_crc16(key, key_bytes) & (GW_SLOTS - 1);
}

/* XXH3's own path for 8 bytes, written out because the general function is too large to be inlined:
 * a call an operation costs a tenth of an engine read. A unit test holds it against the library. */
static inline uint64_t hash8(const void *key, uint64_t seed)
{
    const uint64_t prime = 0x9fb21c651e98df25u;
    seed ^= (uint64_t)__builtin_bswap32((uint32_t)seed) << 32;
    uint64_t secret = gw_load64(XXH3_kSecret + 8) ^ gw_load64(XXH3_kSecret + 16);
    uint64_t word = gw_load64(key);
    uint64_t h = (word >> 32 | word << 32) ^ (secret - seed);
    h ^= (h << 49 | h >> 15) ^ (h << 24 | h >> 40);
    h *= prime;
    h ^= (h >> 35) + 8;
    h *= prime;
    return h ^ h >> 28;
}

uint64_t gw_key_hash(const void *key, size_t key_bytes, uint64_t seed)
{
    if (key_bytes == 8)
        return hash8(key, seed);
    return XXH3_64bits_withSeed(key, key_bytes, seed);
}
