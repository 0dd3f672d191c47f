/* checksum.c - CRC32C, reflected polynomial 0x82f63b78 (RFC 3720, B.4).
 *
 * Two ways to the same number: the SSE4.2 instruction (8 bytes in 3 cycles) where the processor has
 * it, asked once, and else a table of 256 words made at start-up. */
#include "index/base/checksum.h"

#include <stdbool.h>

#include "index/base/bytes.h"

#define POLYNOMIAL 0x82f63b78u

static uint32_t table[256];
static bool has_instruction;

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
#endif
}

static uint32_t crc32c_by_table(uint32_t crc, const uint8_t *p, size_t n)
{
    for (; n; n--)
        crc = (crc >> 8) ^ table[(crc ^ *p++) & 0xff];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_by_instruction(uint32_t crc,
                                                                        const uint8_t *p, size_t n)
{
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
