/* net_chunks.h - buffers for bytes on their way, in powers of two from 4 KiB up, with a small cache
 * of free ones. A connection holds one only while it has bytes in it, so that thousands of idle
 * connections cost no buffer; the last one given back is the first one taken, so that it is warm.
 * A chunk is plain malloc memory: it may be given to another cache than it came from, when both are
 * told (leave, join).
 * Thread rule: a cache belongs to one thread. Layer: client/net. */
#ifndef GW_CLIENT_NET_NET_CHUNKS_H
#define GW_CLIENT_NET_NET_CHUNKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GWI_CHUNK_BYTES_MIN         ((size_t)4096)
#define GWI_CHUNK_CLASSES           9u /* cached: 4 KiB to 1 MiB; larger ones go back to malloc */
#define GWI_CHUNKS_CACHED_BYTES_MAX ((size_t)4 << 20) /* unless the cache says less */

struct gwi_chunk {
    uint8_t *bytes; /* NULL: none */
    size_t capacity;
};

struct gwi_chunks {
    void *free[GWI_CHUNK_CLASSES];         /* singly linked through their first word */
    size_t cached_bytes, cached_bytes_max; /* 0: the constant */
    size_t taken_bytes;                    /* of chunks that somebody has */
};

/* A chunk of at least `bytes`; false: no memory, *out unchanged. */
bool gwi_chunk_take(struct gwi_chunks *chunks, size_t bytes, struct gwi_chunk *out);
void gwi_chunk_give(struct gwi_chunks *chunks,
                    struct gwi_chunk *chunk); /* an empty one is ignored */
/* Makes room for `bytes` in all; keeps what is in [start, end), moved to the beginning. */
bool gwi_chunk_grow(struct gwi_chunks *chunks, struct gwi_chunk *chunk, size_t start, size_t end,
                    size_t bytes);
/* The chunk changes to another cache, or to nobody's. */
static inline void gwi_chunk_leave(struct gwi_chunks *chunks, const struct gwi_chunk *chunk)
{
    chunks->taken_bytes -= chunk->capacity;
}
static inline void gwi_chunk_join(struct gwi_chunks *chunks, const struct gwi_chunk *chunk)
{
    chunks->taken_bytes += chunk->capacity;
}
void gwi_chunks_fini(struct gwi_chunks *chunks);
#endif
