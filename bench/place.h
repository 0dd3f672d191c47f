/* place.h - the store of a benchmark, and the device under it: one memory number divided between
 * index and log, and a directory of segment files when there is a disk number. Layer: bench. */
#ifndef GW_BENCH_PLACE_H
#define GW_BENCH_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "index/device.h"
#include "index/store.h"

struct gw_bench_place_options {
    uint64_t memory_bytes; /* of everything; 0: what log_bytes and index_bytes say */
    uint64_t log_bytes, index_bytes, index_bytes_max; /* 0: by need and memory_bytes */
    uint64_t disk_bytes;                              /* 0: no device */
    const char *directory; /* for the device's files, which are removed at the end */
    bool evict, populate;
    uint64_t keys, record_bytes; /* what will be stored: number, mean size of a record */
    uint64_t record_bytes_max;   /* largest one; 0: record_bytes */
    uint32_t threads, depth;     /* depth: device reads of one thread under way */
};

struct gw_bench_place {
    struct gw_store *store;
    struct gw_device *device;        /* NULL: memory only */
    struct gw_store_options options; /* as opened */
    bool direct, uring;              /* how the device does it */
    char error[512];
    char directory[512]; /* private: of the device's files */
};

/* False: it could not be opened; place->error says why, in a sentence. */
bool gw_bench_place_open(struct gw_bench_place *place,
                         const struct gw_bench_place_options *options);
/* Requires: every thread of the store is closed. Removes what open has created. */
void gw_bench_place_close(struct gw_bench_place *place);

/* Bytes of a record with a key of 8 bytes and so long a value. */
uint64_t gw_bench_record_bytes(uint64_t value_bytes);
/* Index bytes for this many keys at two to four keys a bucket, where a look-up is cheapest. */
uint64_t gw_bench_index_bytes(uint64_t keys);
#endif
