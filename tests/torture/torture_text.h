/* torture_text.h - values that carry their own check: their length, a seed, and bytes that follow
 * from both, so that a torn or mixed-up one is found by whoever reads it. */
#ifndef GW_TESTS_TORTURE_TEXT_H
#define GW_TESTS_TORTURE_TEXT_H

#include <string.h>

#include "tests/torture/torture.h"

/* Requires: n >= 8. */
static inline void text_make(uint8_t *text, uint32_t n, uint32_t seed)
{
    memcpy(text, &n, 4);
    memcpy(text + 4, &seed, 4);
    for (uint32_t i = 8; i < n; i++)
        text[i] = (uint8_t)(seed * 31 + i * 7);
}

static inline void text_check(const uint8_t *text, uint32_t bytes)
{
    uint32_t n, seed;
    CHECK(bytes >= 8, "%u bytes", bytes);
    memcpy(&n, text, 4);
    memcpy(&seed, text + 4, 4);
    CHECK(n == bytes, "length %u in a value of %u", n, bytes);
    for (uint32_t i = 8; i < n; i++)
        CHECK(text[i] == (uint8_t)(seed * 31 + i * 7), "torn at byte %u of %u", i, n);
}
#endif
