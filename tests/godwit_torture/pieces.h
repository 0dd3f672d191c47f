/* pieces.h - values that say about themselves whether they are whole: pieces, each with the key it
 * belongs to, who wrote it, its length, its end in time, and a checksum. A set writes one piece,
 * an append puts one behind. Any thread. Layer: tests. */
#ifndef GW_TESTS_TORTURE_PIECES_H
#define GW_TESTS_TORTURE_PIECES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TORTURE_PIECE_HEAD 40u
#define TORTURE_PIECE_MAX  (20u << 10)

/* Writes a piece of `bytes` (HEAD to MAX) in all. `id` is the writer's, never used again, not 0;
 * expiry_ms 0: none. */
void torture_piece_write(uint8_t *room, size_t bytes, uint32_t key, uint64_t id,
                         uint64_t expiry_ms);

struct torture_value {
    uint64_t state; /* history.h */
    uint64_t last;  /* id of the last piece */
    uint64_t expiry_ms;
    size_t pieces;
};
/* False: `why` says what is wrong with it and where. */
bool torture_value_read(const uint8_t *value, size_t bytes, uint32_t key, struct torture_value *out,
                        char *why, size_t why_bytes);
#endif
