/* hash.c - where a key lies and who owns it.
 *
 * CRC16-XMODEM (polynomial 0x1021, start 0, not reflected) is what Redis Cluster calls CRC16. It is
 * computed for every operation. Where the processor multiplies without carries, eight bytes S of a
 * message are two multiplications: with P the polynomial and mu = x^80 / P, the quotient of
 * S x^16 / P is q = S + (S mu / x^64), and the rest is what q P has in its low 16 bits (Barrett's
 * reduction; Gopal et al., "Fast CRC computation for generic polynomials using PCLMULQDQ", 2009).
 * Elsewhere it goes eight bytes a step by table: slice[k][b] is the CRC of byte b with k zero bytes
 * behind it, and since a CRC is linear over XOR, the look-ups do not wait for each other (Kounavis
 * and Berry, "A systematic approach to building high performance, software-based, CRC generators",
 * 2005). */
#include "index/base/hash.h"

#include <stdbool.h>
#include <string.h>

#include "index/base/bytes.h"

#if defined(__PCLMUL__)
#include <wmmintrin.h>
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

#if defined(__PCLMUL__)

#define CRC16_P  0x1021u             /* x^16 + x^12 + x^5 + 1, without its first term */
#define CRC16_MU 0x11303471a041b343u /* x^80 / P, without its first term */

/* CRC of eight bytes, read with the first as the highest. */
static inline uint16_t crc16_of_word(uint64_t s)
{
    const __m128i constants = _mm_set_epi64x(CRC16_P, (long long)CRC16_MU);
    __m128i t = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)s), constants, 0x00);
    uint64_t q = s ^ (uint64_t)_mm_extract_epi64(t, 1);
    t = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)q), constants, 0x10);
    return (uint16_t)_mm_cvtsi128_si32(t);
}

static inline uint64_t load_high_first(const uint8_t *p)
{
    return __builtin_bswap64(gw_load64(p));
}

/* Zeros in front change nothing, so the odd bytes come first and fill one word. */
static inline uint16_t crc16(const uint8_t *p, size_t n)
{
    size_t odd = n % 8;
    uint64_t word = 0;
    if (odd != 0 && n >= 8)
        word = load_high_first(p) >> (64 - 8 * odd);
    else
        for (size_t i = 0; i < odd; i++)
            word = word << 8 | p[i];
    uint16_t crc = odd ? crc16_of_word(word) : 0;
    for (size_t at = odd; at < n; at += 8)
        crc = crc16_of_word((uint64_t)crc << 48 ^ load_high_first(p + at));
    return crc;
}

#else

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

static uint16_t crc16(const uint8_t *p, size_t n)
{
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

#endif

uint16_t gw_crc16(const void *bytes, size_t n)
{
    return crc16(bytes, n);
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

uint16_t gw_key_slot(const void *key, size_t key_bytes)
{
    if (key_bytes == 8 && !brace_in(gw_load64(key)))
        return crc16(key, 8) & (GW_SLOTS - 1);
    if (may_hold_tag(key, key_bytes))
        key = hash_tag(key, &key_bytes);
    return crc16(key, key_bytes) & (GW_SLOTS - 1);
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
