/* checksum.c - CRC32C, reflected polynomial 0x82f63b78 (RFC 3720, B.4).
 *
 * Two ways to the same number: the SSE4.2 instruction where the processor has it, asked once, and
 * else a table of 256 words made at start-up.
 *
 * The instruction takes 8 bytes and gives its result after 3 cycles, but one can begin each cycle:
 * so blocks of three lanes go side by side. The checksum is linear: that of A followed by B is
 * A's, gone on with as many zeros as B has bytes, xor B's from nothing. Going on with a lane of
 * zeros is a linear map of 32 bits, of which `over_lane` has the image of each byte. A block of
 * 4 KiB is one such group and two words. */
#include "index/base/checksum.h"

#include <stdbool.h>

#include "index/base/bytes.h"

#define POLYNOMIAL 0x82f63b78u

#define LANE       1360u /* bytes: three of them and 16 more are 4096 */

static uint32_t table[256];
static uint32_t over_lane[4][256];
static bool has_instruction;

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static void lanes_prepare(void)
{
    for (uint32_t bit = 0; bit < 32; bit++) {
        uint64_t crc = (uint64_t)1 << bit;
        for (uint32_t i = 0; i < LANE / 8; i++)
            crc = __builtin_ia32_crc32di(crc, 0);
        for (uint32_t byte = 0; byte < 256; byte++)
            if (byte >> bit % 8 & 1)
                over_lane[bit / 8][byte] ^= (uint32_t)crc;
    }
}
#endif

/* Before main, so that no thread can race it. */
__attribute__((constructor)) static void checksum_prepare(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ (POLYNOMIAL & -(crc & 1));
        table[i] = crc;
    }
#if defined(__x86_64__)
    __builtin_cpu_init(); /* other constructors may have run before libgcc's */
    has_instruction = __builtin_cpu_supports("sse4.2");
    if (has_instruction)
        lanes_prepare();
#endif
}

static uint32_t crc32c_by_table(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n; n--)
        crc = (crc >> 8) ^ table[(crc ^ *p++) & 0xff];
    return crc;
}

#if defined(__x86_64__)
static uint32_t pass_lane(uint64_t crc)
{
    return over_lane[0][crc & 0xff] ^ over_lane[1][crc >> 8 & 0xff] ^
           over_lane[2][crc >> 16 & 0xff] ^ over_lane[3][crc >> 24 & 0xff];
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_by_instruction(uint32_t crc,
                                                                        const uint8_t *p, size_t n)
{
    for (; n >= 3 * LANE; n -= 3 * LANE, p += 3 * LANE) {
        uint64_t a = crc, b = 0, c = 0;
        for (uint32_t i = 0; i < LANE; i += 8) {
            a = __builtin_ia32_crc32di(a, gw_load64(p + i));
            b = __builtin_ia32_crc32di(b, gw_load64(p + LANE + i));
            c = __builtin_ia32_crc32di(c, gw_load64(p + 2 * LANE + i));
        }
        crc = pass_lane(pass_lane(a) ^ b) ^ (uint32_t)c;
    }
    uint64_t wide = crc;
    for (; n >= 8; n -= 8, p += 8)
        wide = __builtin_ia32_crc32di(wide, gw_load64(p));
    crc = (uint32_t)wide;
    for (; n; n--)
        crc = __builtin_ia32_crc32qi(crc, *p++);
    return crc;
}
#endif

uint32_t gwi_crc32c_portable(uint32_t crc, const void *bytes, size_t n)
{
    return ~crc32c_by_table(~crc, bytes, n);
}

uint32_t gw_crc32c(uint32_t crc, const void *bytes, size_t n)
{
#if defined(__x86_64__)
    if (has_instruction)
        return ~crc32c_by_instruction(~crc, bytes, n);
#endif
    return gwi_crc32c_portable(crc, bytes, n);
}
