/* expiring.h - what the one writer of a key that expires knows of it, and what may therefore be
 * seen. A key belongs to one thread. Layer: tests. */
#ifndef GW_TESTS_TORTURE_EXPIRING_H
#define GW_TESTS_TORTURE_EXPIRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/godwit_torture/pieces.h"

#define TORTURE_EXPIRY_SLACK_MS 1000u
#define TORTURE_DOUBTS_MAX      24u

struct torture_life {
    uint64_t piece;     /* 0: deleted */
    uint64_t expiry_ms; /* 0: none */
};

struct torture_expiring {
    struct torture_life now;                        /* what was acknowledged last */
    struct torture_life doubts[TORTURE_DOUBTS_MAX]; /* what may have come after it */
    uint32_t doubts_count;
    bool busy; /* an operation of the writer is under way */
    bool lost; /* more doubts than can be kept: nothing is known */
};

void torture_expiring_wrote(struct torture_expiring *key, struct torture_life life, bool in_doubt);
/* May the writer have seen this? `value` NULL: not found. Between asking and being told the wall
 * clock showed from_ms to to_ms. False: `why` says it. */
bool torture_expiring_saw(const struct torture_expiring *key, const struct torture_value *value,
                          uint64_t from_ms, uint64_t to_ms, char *why, size_t why_bytes);
/* The same for anybody else, who knows only what the value says of itself. */
bool torture_expired_seen(const struct torture_value *value, uint64_t from_ms, char *why,
                          size_t why_bytes);
#endif
