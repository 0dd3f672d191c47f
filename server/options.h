/* options.h - the flags of godwit-server. Layer: server. */
#ifndef GW_SERVER_OPTIONS_H
#define GW_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/wire/frame.h"
#include "tiering/blob.h"

#define GWI_THREADS_MAX             128u
#define GWI_MEMORY_MIN              (32ull << 20)
#define GWI_DISK_MAX                (16ull << 40)

#define GWI_BLOB_LIMIT_MAX          (32ull << 40) /* half of what addresses tell apart */
#define GWI_BLOB_CACHE_MIN          (1ull << 20)
#define GWI_BLOB_LEVEL_MAX          19u

#define GWI_COMMIT_LOG_MIN          (64ull << 20)
#define GWI_COMMIT_LOG_DEFAULT_MAX  (1ull << 30)
#define GWI_CHECKPOINT_INTERVAL     60u
#define GWI_CHECKPOINT_INTERVAL_MAX 86400u

enum gwi_durability { GWI_DURABILITY_NONE = 0, GWI_DURABILITY_MEMORY, GWI_DURABILITY_COMMIT };
enum gwi_io { GWI_IO_AUTO = 0, GWI_IO_DIRECT, GWI_IO_BUFFERED };

struct gwi_options {
    char id[GW_ID_BYTES_MAX + 1];
    char listen[GW_ADDRESS_BYTES_MAX + 1];
    char advertise[GW_ADDRESS_BYTES_MAX + 1]; /* "": the address that was bound */
    char coordinator[GW_ADDRESS_BYTES_MAX + 1];
    char data[1024];
    uint32_t threads;
    uint64_t memory_bytes;
    uint64_t index_bytes;   /* at the start; 0: memory.h chooses */
    uint64_t disk_bytes;    /* bound of the SSD tier; 0: none */
    uint64_t segment_bytes; /* 0: the tier chooses */
    uint32_t page_bits;     /* 0: memory.h chooses */
    enum gwi_io io;
    char blob_url[GW_BLOB_URL_MAX + 1]; /* the shared tier (blob.h); "": none */
    uint64_t blob_limit_bytes;          /* of the log, on disk and beyond; 0: no bound */
    uint64_t blob_cache_bytes;          /* of memory; 0: memory.h chooses */
    uint32_t blob_level;                /* of zstd */
    enum gwi_durability durability;
    uint32_t checkpoint_interval_s; /* 0: only when something asks for one */
    uint64_t commit_log_bytes;      /* of all commit logs; a checkpoint is taken above it */
    bool salvage;                   /* --recover=salvage */
    bool evict;
    bool pin; /* --pin: dispatcher i on the i-th allowed CPU; default when there are as many as CPUs
               */
};

/* Returns -1 to go on, or the process's exit code (0 after --help and --version, 2 after a flag
 * that makes no sense, which has been named on stderr with its limit). */
int gwi_options_parse(int argc, char **argv, struct gwi_options *out);
#endif
