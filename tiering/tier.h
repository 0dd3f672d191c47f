/* tier.h - SSD and object store as one device: a gw_device over gw_ssd and gw_blob.
 *
 *   pages --write--> segment files --upload, an extent an object--> object store
 *                        `--dropped, oldest first, once uploaded and the budget is short
 *
 * An extent (a power of two of whole pages, at most 32 MiB, a part of a segment) is uploaded when
 * all of it is written, synced and nothing of it is in memory only. Extents are uploaded in the
 * order of their addresses by a thread of the tier's own, several at a time; `shared` is the
 * address below which all of them are in the object store (and readable there: their names were
 * answered for). A segment whose extents are all below `shared` may be dropped from the disk; then
 * its pages are read from the object store, a frame (object.h) at a time, through a bounded cache
 * of frames. Reads of foreign logs (device.h, GW_DEVICE_FOREIGN) always go there.
 *
 * Names: CLUSTER/STORE/ADDRESS-INCARNATION.gwo, numbers in hex of fixed width, and CLUSTER/STORE/
 * owner.json: server id, store id, cluster, incarnation. A store whose owner.json names another
 * server or a later incarnation, or an object whose header names another cluster or store, is
 * refused and said: two servers with one identity, or a prefix used twice.
 *
 * When the object store fails: reads of what is on disk go on, and writes, up to the disk's bound
 * (GW_E_FULL then, as without a shared tier); reads of what is there only wait up to the read
 * deadline and are then answered GW_E_UNREACHABLE. Once it has failed for as long as that, reads
 * too, they wait for 50 ms only: whoever asks for many cold keys is not to wait for one after the
 * other. Ten a second try all the same, for a second.
 * Uploading catches up by itself.
 *
 * Trimming: what lies below the log's begin is deleted there as well, but never above
 * `keep_from` (gw_tier_keep): the lowest address that anybody else still needs (MIGRATION R17).
 * gw_tier_collect finds objects that no list of ours knows (left by a crash) and deletes or names
 * them. Thread rule: as device.h; the calls below by any thread. Layer: tiering.
 *
 * Beyond device.h: the first page that a process writes is the lowest that it will ever write
 * (what lies between an image and there does not exist); a lower one is GW_E_INVALID. A write that
 * finds the disk full is GW_WOULD_BLOCK while uploading makes room (something was uploaded within
 * the last seconds), else GW_E_FULL. */
#ifndef GW_TIERING_TIER_H
#define GW_TIERING_TIER_H

#include "tiering/blob.h"
#include "tiering/ssd.h"

#define GW_TIER_EXTENT_BYTES  (32u << 20)
#define GW_TIER_FRAME_BYTES   (64u << 10)
#define GW_TIER_CACHE_BYTES   (64u << 20)
#define GW_TIER_READ_DEADLINE UINT64_C(5000000000) /* clients wait 10 s by default */

struct gw_tier;

struct gw_tier_options {
    struct gw_ssd_options ssd; /* limit_bytes: of local segments */
    const char *blob_url;      /* gw_blob_options.url */
    uint64_t cluster;
    char server_id[64];
    uint64_t blob_limit_bytes; /* of raw bytes of the log, on disk and beyond [0: no bound] */
    uint64_t cache_bytes;      /* of frames [64 MiB] */
    uint32_t frame_bytes;      /* [64 KiB] */
    uint64_t extent_bytes; /* at most, a power of two; some five of them are in memory while they
                              are uploaded [32 MiB] */
    uint64_t read_deadline_ns; /* [5 s] */
    /* With no room on disk, writes wait for uploads until so long none has ended; a third of it
     * when the object store fails. Then they are refused. [15 s] */
    uint64_t full_wait_ns;
    int level; /* of zstd [1] */
    /* What was dropped from the disk by an earlier process: DIR/tier.json, written before the
     * first file of a segment goes, says up to where. */
};

struct gw_tier_stats {
    struct gw_blob_stats blob;
    uint64_t shared;                 /* address: all below is in the object store */
    uint64_t local_from;             /* address: all above is on disk */
    uint64_t lag_bytes;              /* closed, not yet uploaded */
    uint64_t objects, objects_bytes; /* ours, of this process's knowledge */
    uint64_t uploaded_raw_bytes, uploaded_bytes, uploads_failed;
    uint64_t dropped_segments, deleted_objects;
    uint64_t cold_reads, cache_hits, foreign_reads; /* reads that needed the object store */
    uint64_t cache_bytes;
    char trouble[GW_BLOB_TEXT_BYTES]; /* "": none; else what does not work and what it means */
};

/* As gw_ssd_open. *out is the device; *tier its other face, the same object. A shared tier that
 * does not answer is not a failure, but for a directory of an earlier process without a tier.json
 * (it was brought back from a copy): GW_E_UNREACHABLE. */
GW_MUST_USE enum gw_status gw_tier_open(const struct gw_tier_options *options,
                                        struct gw_device **out, struct gw_tier **tier,
                                        struct gw_ssd_report *report);
/* In place of gw_ssd_adopt and gw_ssd_resume: what was dropped is adopted from the object store
 * without asking it. */
GW_MUST_USE enum gw_status gw_tier_adopt(struct gw_tier *tier, gw_addr begin, gw_addr end,
                                         const struct gw_addr_range *gaps, uint32_t gaps_count,
                                         char *error, size_t error_bytes);
/* Also for a log that begins empty where an earlier process may have been (least 0): before its
 * files are removed. Not beside other calls. */
gw_addr gw_tier_resume(struct gw_tier *tier, gw_addr least);
struct gw_device *gw_tier_ssd(struct gw_tier *tier); /* for gw_ssd_earlier and forget_earlier */
/* Ends uploads that are under way; they are done again by the next process. NULL is ignored. */
void gw_tier_close(struct gw_tier *tier);

/* Nobody needs anything of our log below `from` but ourselves. Starts at 0: nothing is deleted;
 * falls to 0 again while slots move away, for who gets them may need what nobody needed before. */
void gw_tier_keep(struct gw_tier *tier, gw_addr from);
/* Makes closed extents be uploaded now, a begun one included up to `to`, which must be flushed:
 * what a migration or a drain waits for. */
void gw_tier_hurry(struct gw_tier *tier, gw_addr to);

/* Lists our prefix and deletes (dry: only names) objects below the log's begin and keep_from, of
 * earlier incarnations and unknown ones that nothing needs. Blocks. */
typedef void (*gw_tier_collect_cb)(void *ctx, const char *name, uint64_t bytes, const char *why);
GW_MUST_USE enum gw_status gw_tier_collect(struct gw_tier *tier, bool dry, gw_tier_collect_cb fn,
                                           void *ctx);
void gw_tier_stats(struct gw_tier *tier, struct gw_tier_stats *out);
#endif
