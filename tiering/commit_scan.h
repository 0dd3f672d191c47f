/* commit_scan.h - the files of one log, read and judged. Layer: tiering, internal to the reader. */
#ifndef GW_TIERING_COMMIT_SCAN_H
#define GW_TIERING_COMMIT_SCAN_H

#include "tiering/commit_format.h"
#include "tiering/commit_read.h"

struct gwi_scan_file {
    struct gwi_commit_name name;
    const uint8_t *map; /* owned: mapped for reading; NULL: not yet */
    uint64_t bytes;     /* of the file */
    uint64_t content;   /* where blocks may be: without seal and foot */
    uint64_t next;      /* number of the file that follows, if it is sealed; else 0 */
    uint64_t run_end;   /* behind the last block of the row that begins at 0 */
};

struct gwi_scan_block {
    const uint8_t *at;
    uint64_t sequence, interval, durable;
    uint32_t file;
};

/* One log: one dispatcher of one incarnation. */
struct gwi_scan_log {
    struct gwi_scan_file *files; /* owned; by rising number */
    uint32_t files_count, files_room;
    struct gwi_scan_block *blocks; /* owned; by rising sequence */
    uint64_t blocks_count, blocks_room;
    struct gw_commit_log_info info;
    enum gw_status status;
    char error[GW_COMMIT_TEXT_BYTES]; /* "": none */
};

struct gwi_scan_wish {
    const char *dir;
    uint64_t store_id, interval;
    bool salvage;
};

/* Maps and verifies all files; the result is log->status, and what is left of the blocks. */
void gwi_scan_log(const struct gwi_scan_wish *wish, struct gwi_scan_log *log);
/* Highest interval of any block of a file; GW_OK with 0: none. For removing. */
GW_MUST_USE enum gw_status gwi_scan_interval(const struct gwi_scan_wish *wish,
                                             const struct gwi_commit_name *name, uint64_t *out);
void gwi_scan_fini(struct gwi_scan_log *log);
#endif
