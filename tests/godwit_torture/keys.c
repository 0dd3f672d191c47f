/* keys.c - see keys.h. Every sixteenth key is long, so that records have many sizes; every eighth
 * has one of a few hash tags, so that slots with many keys and chains of several exist. */
#include "tests/godwit_torture/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char letters[TORTURE_FAMILIES] = {'c', 'r', 'v', 'e', 'p'};

struct torture_keys torture_keys_make(uint32_t keys, uint32_t values)
{
    const uint32_t counts[TORTURE_FAMILIES] = {keys, keys / 4 + 4, values, keys / 2 + 8,
                                               keys / 4 + 1};
    struct torture_keys out = {0};
    for (int f = 0; f < TORTURE_FAMILIES; f++)
        out.first[f + 1] = out.first[f] + counts[f];
    return out;
}

enum torture_family torture_family_of(const struct torture_keys *keys, uint32_t key)
{
    int f = 0;
    while (f + 1 < TORTURE_FAMILIES && key >= keys->first[f + 1])
        f++;
    return (enum torture_family)f;
}

size_t torture_key_write(const struct torture_keys *keys, uint32_t key, char *room)
{
    enum torture_family f = torture_family_of(keys, key);
    int n = snprintf(room, TORTURE_KEY_BYTES, "%c%u", letters[f], key - keys->first[f]);
    if (key % 16 == 5)
        n += snprintf(room + n, TORTURE_KEY_BYTES - (size_t)n, "-%0*u", 40 + (int)(key % 150), 0u);
    else if (key % 8 == 3)
        n += snprintf(room + n, TORTURE_KEY_BYTES - (size_t)n, "{%u}", key / 8 % 2);
    return (size_t)n;
}

uint32_t torture_key_read(const struct torture_keys *keys, const void *text, size_t bytes)
{
    char copy[TORTURE_KEY_BYTES], again[TORTURE_KEY_BYTES];
    if (bytes < 2 || bytes >= sizeof copy)
        return UINT32_MAX;
    memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    for (int f = 0; f < TORTURE_FAMILIES; f++) {
        if (copy[0] != letters[f])
            continue;
        unsigned long number = strtoul(copy + 1, NULL, 10);
        if (number >= keys->first[f + 1] - keys->first[f])
            return UINT32_MAX;
        uint32_t key = keys->first[f] + (uint32_t)number;
        if (torture_key_write(keys, key, again) == bytes && memcmp(copy, again, bytes) == 0)
            return key;
    }
    return UINT32_MAX;
}
