/* keys.h - the keys of a run: numbers, in families that are treated in different ways. A plain
 * value. Layer: tests. */
#ifndef GW_TESTS_TORTURE_KEYS_H
#define GW_TESTS_TORTURE_KEYS_H

#include <stddef.h>
#include <stdint.h>

enum torture_family {
    TORTURE_COUNTERS,  /* add 1 */
    TORTURE_REGISTERS, /* small values, few keys: set, cas, insert, delete, ... at once */
    TORTURE_VALUES,    /* many keys, up to some 10 KiB, appends */
    TORTURE_EXPIRING,  /* one writer each */
    TORTURE_PROMISES,  /* counters, for sessions that are answered before it is durable */
    TORTURE_FAMILIES
};

struct torture_keys {
    uint32_t first[TORTURE_FAMILIES + 1]; /* numbers of a family: [first[f], first[f + 1]) */
};

#define TORTURE_KEY_BYTES 256u
struct torture_keys torture_keys_make(uint32_t keys, uint32_t values);
enum torture_family torture_family_of(const struct torture_keys *keys, uint32_t key);
/* The key itself, with a zero behind; returns its bytes. */
size_t torture_key_write(const struct torture_keys *keys, uint32_t key, char *room);
/* Its number; UINT32_MAX: none of ours. */
uint32_t torture_key_read(const struct torture_keys *keys, const void *text, size_t bytes);
#endif
