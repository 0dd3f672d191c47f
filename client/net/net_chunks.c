/* net_chunks.c - see net_chunks.h. */
#include "client/net/net_chunks.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"

static uint32_t chunk_class(size_t bytes)
{
    uint32_t kind = 0;
    while (GWI_CHUNK_BYTES_MIN << kind < bytes)
        kind++;
    return kind;
}

bool gwi_chunk_take(struct gwi_chunks *chunks, size_t bytes, struct gwi_chunk *out)
{
    uint32_t kind = chunk_class(bytes);
    size_t capacity = GWI_CHUNK_BYTES_MIN << kind;
    uint8_t *found = kind < GWI_CHUNK_CLASSES ? chunks->free[kind] : NULL;
    if (found) {
        memcpy(&chunks->free[kind], found, sizeof(void *));
        chunks->cached_bytes -= capacity;
    } else {
        found = malloc(capacity);
        if (!found)
            return false;
    }
    chunks->taken_bytes += capacity;
    *out = (struct gwi_chunk){found, capacity};
    return true;
}

void gwi_chunk_give(struct gwi_chunks *chunks, struct gwi_chunk *chunk)
{
    if (!chunk->bytes)
        return;
    uint32_t kind = chunk_class(chunk->capacity);
    size_t most = chunks->cached_bytes_max ? chunks->cached_bytes_max : GWI_CHUNKS_CACHED_BYTES_MAX;
    chunks->taken_bytes -= chunk->capacity;
    if (kind < GWI_CHUNK_CLASSES && chunks->cached_bytes + chunk->capacity <= most) {
        memcpy(chunk->bytes, &chunks->free[kind], sizeof(void *));
        chunks->free[kind] = chunk->bytes;
        chunks->cached_bytes += chunk->capacity;
    } else {
        free(chunk->bytes);
    }
    *chunk = (struct gwi_chunk){NULL, 0};
}

bool gwi_chunk_grow(struct gwi_chunks *chunks, struct gwi_chunk *chunk, size_t start, size_t end,
                    size_t bytes)
{
    GW_ASSERT(start <= end);
    GW_ASSERT(end - start <= bytes);
    struct gwi_chunk wider;
    if (!gwi_chunk_take(chunks, bytes, &wider))
        return false;
    if (end > start)
        memcpy(wider.bytes, chunk->bytes + start, end - start);
    gwi_chunk_give(chunks, chunk);
    *chunk = wider;
    return true;
}

void gwi_chunks_fini(struct gwi_chunks *chunks)
{
    for (uint32_t kind = 0; kind < GWI_CHUNK_CLASSES; kind++) {
        while (chunks->free[kind]) {
            void *chunk = chunks->free[kind];
            memcpy(&chunks->free[kind], chunk, sizeof(void *));
            free(chunk);
        }
    }
    chunks->cached_bytes = 0;
}
