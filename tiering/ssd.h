/* ssd.h - the SSD tier: a gw_device (index/device.h) on segment files in one directory.
 *
 * Pages go to preallocated files of a fixed size, each with the checksums of its blocks; the
 * checksums stay in memory, and every read is verified against them. Each queue has an io_uring of
 * its own and reads past the page cache (O_DIRECT); where kernel or filesystem refuse that, threads
 * or the page cache stand in, and the report says so. Files are made and removed by a thread of the
 * device's own, so that no caller waits for a filesystem: a write into a segment that is not there
 * yet is GW_PENDING until it is.
 *
 * Beyond device.h:
 *  - write: GW_E_FULL comes from the submission when the bound has no room for a further segment,
 *    and from the callback when the filesystem has none, and then, for some 20 ms, from the
 *    submission of pages that would need a further segment. GW_NOT_FOUND, from the submission: the
 *    page lies below what was trimmed. GW_E_INVALID, from the submission: a caller's mistake (not
 *    one whole page, not aligned to a block, written before).
 *  - read: a range that is being trimmed while the read is under way may still be answered GW_OK,
 *    with the right bytes.
 *  - adopt and wait_fd of one queue must not run while another thread polls that queue. The first
 *    wait_fd makes the descriptor readable once, so that whoever sleeps on it polls first.
 * A write's GW_OK means that the page can be read back by this process; durable it is after `sync`.
 * Thread rule: as device.h; open, forget_earlier and close by one thread. Layer: tiering. */
#ifndef GW_TIERING_SSD_H
#define GW_TIERING_SSD_H

#include <stdbool.h>
#include <stdint.h>

#include "index/base/status.h"
#include "index/device.h"

#define GW_SSD_QUEUES_MAX    128u
#define GW_SSD_DEPTH_MAX     8192u
#define GW_SSD_DEPTH_DEFAULT 512u
#define GW_SSD_SEGMENT_BYTES ((uint64_t)256 << 20)
#define GW_SSD_SEGMENTS_MIN  8u /* within the bound, if segments are chosen by us */
#define GW_SSD_SEGMENT_PAGES                                                                       \
    8u                           /* of a segment, at least, unless fewer than 4 segments would fit \
                                  */
#define GW_SSD_SEGMENTS_LEAST 4u /* with fewer within the bound nothing could be compacted */
#define GW_SSD_WRITES_MAX     8u /* under way on one queue; beyond it GW_WOULD_BLOCK */
#define GW_SSD_TEXT_BYTES     512u

struct gw_ssd_calls;

/* Zero: the default in brackets, none: must be given. */
struct gw_ssd_options {
    const char *dir;        /* borrowed by open only; made if its parent is there */
    uint32_t page_bits;     /* log2 of the log's page, 12..30 */
    uint64_t segment_bytes; /* whole pages [256 MiB, or less so that at least 8 files fit into the
                               bound, but not below 8 pages as long as 4 fit] */
    uint64_t limit_bytes;   /* of all files [0: no bound] */
    uint64_t store_id;      /* whose files these are; other stores' are refused */
    uint8_t server_id[16];
    bool keep_earlier; /* gw_ssd_adopt follows: files of earlier incarnations are not counted yet */
    bool read_only;    /* of a copy or a backup: nothing is written, made or removed; writes are
                          GW_E_FULL */
    uint32_t incarnation; /* above that of every segment of this store in `dir` */
    uint32_t hash_seed_check;
    uint32_t queues; /* [1] */
    uint32_t depth;  /* operations under way on one queue [512] */
    bool buffered;   /* through the page cache, also where O_DIRECT would be taken */
    bool threads;    /* preadv and pwrite by threads, also where io_uring would be taken */
    const struct gw_ssd_calls *calls; /* the system [NULL: itself]; borrowed until close */
};

/* What open found; `why` and `error` are sentences for people, empty if there is nothing to say. */
struct gw_ssd_report {
    bool direct, uring;
    char why[GW_SSD_TEXT_BYTES];   /* why not direct, why not io_uring */
    char error[GW_SSD_TEXT_BYTES]; /* why open failed: names the file or folder and the remedy */
    uint64_t segment_bytes, file_bytes;
    uint32_t earlier_files; /* of this store's earlier incarnations, in use for nothing here */
    uint64_t earlier_bytes; /* counted in used_bytes until they are forgotten */
    uint32_t unknown_files; /* left alone; the first is named */
    char unknown[GW_SSD_TEXT_BYTES];
};

/* A segment file of an earlier incarnation. */
struct gw_ssd_file {
    uint32_t incarnation;
    uint64_t first_address, bytes; /* bytes: of the file */
};

/* The caller ends *out with gw_ssd_close. `report` is filled also on failure:
 * GW_E_INVALID      options that contradict one another, a bound too small for a segment
 * GW_E_REFUSED      not a directory, not writable, segments of another store or of an incarnation
 *                   that is not earlier
 * GW_E_VERSION      segments of another format
 * GW_E_FULL         the filesystem has no room at all
 * GW_E_IO, GW_E_NOMEM */
GW_MUST_USE enum gw_status gw_ssd_open(const struct gw_ssd_options *options, struct gw_device **out,
                                       struct gw_ssd_report *report);

/* Files of earlier incarnations: fills at most `room` of them, returns how many there are. */
uint32_t gw_ssd_earlier(const struct gw_device *device, struct gw_ssd_file *files, uint32_t room);
/* Removes them, each after its header was seen to be this store's, and what a crash left unfinished
 * of theirs. GW_E_IO: some are still there, and counted. *removed may be NULL. */
GW_MUST_USE enum gw_status gw_ssd_forget_earlier(struct gw_device *device, uint32_t *removed);

/* ---- after a restart ----
 * Segments of earlier incarnations that an image needs are adopted: they are read like those of our
 * own, and trimmed like them; nothing is written into them. Between open and the first read. */

/* Adopts what holds [begin, end): each segment file's header must be this store's (server id and
 * hash seed check too), and the table of every page in the range undamaged. Of two files that cover
 * one address the higher incarnation's counts. Files of earlier incarnations that hold nothing of
 * the range are removed. On failure nothing is removed, and `error` names the file and what is
 * wrong with it: GW_NOT_FOUND (a segment is missing: its address), GW_E_CORRUPT, GW_E_REFUSED
 * (foreign), GW_E_VERSION, GW_E_IO. */
GW_MUST_USE enum gw_status gw_ssd_adopt(struct gw_device *device, gw_addr begin, gw_addr end,
                                        const struct gw_addr_range *gaps, uint32_t gaps_count,
                                        char *error, size_t error_bytes);
/* First address of the segment above everything that any file in the directory has, or could have,
 * held: where a recovered log resumes (ENGINE H8). At least `least`. */
gw_addr gw_ssd_resume(const struct gw_device *device, gw_addr least);

/* Offline check of the segment files in `dir` that hold [begin, end): headers, tables, and with
 * `deep` every block against its checksum. fn is called for each file, with "" if it is good, else
 * with what is wrong. GW_OK: all good; GW_E_CORRUPT: some are not, or one is missing (fn is told
 * its name); GW_E_IO. Opens nothing for writing. */
typedef void (*gw_ssd_verify_cb)(void *ctx, const char *file, uint64_t bytes, const char *wrong);
struct gw_ssd_expected {
    uint64_t store_id;
    uint32_t page_bits, hash_seed_check;
    gw_addr begin, end;
    const struct gw_addr_range *gaps;
    uint32_t gaps_count;
};
GW_MUST_USE enum gw_status gw_ssd_verify(const char *dir, const struct gw_ssd_expected *expected,
                                         bool deep, gw_ssd_verify_cb fn, void *ctx);

/* Waits for what is under way, without callbacks, and for files to be made and removed. Segments
 * stay on disk, unless everything was trimmed before (trim of UINT64_MAX). NULL is ignored. */
void gw_ssd_close(struct gw_device *device);
#endif
