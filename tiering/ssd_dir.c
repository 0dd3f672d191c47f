/* ssd_dir.c - the tier's directory: whether it can be used and how, and what lies in it already.
 *
 *  1. Nothing is removed but files whose own header, or whose name for want of one, says that this
 *     store wrote them in an earlier incarnation; and those only by forget_earlier.
 *  2. Segments of another store or format, or of an incarnation that is not earlier, are refused:
 *     two writers would stand on one directory, or a name be taken twice.
 *  3. What is no segment is left alone and named in the report. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tiering/ssd_internal.h"

__attribute__((format(printf, 2, 3))) static void say(char *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(text, GW_SSD_TEXT_BYTES, format, args);
    va_end(args);
}

static enum gw_status refuse(struct gw_ssd_report *report, const char *dir, int error)
{
    const char *fix = "";
    enum gw_status status = GW_E_IO;
    switch (-error) {
    case ENOTDIR:
    case EEXIST:
        fix = ": name a directory of its own";
        status = GW_E_REFUSED;
        break;
    case ENOENT:
        fix = ": make the directory above it";
        status = GW_E_REFUSED;
        break;
    case EACCES:
    case EPERM:
    case EROFS:
        fix = ": make it writable for this process";
        status = GW_E_REFUSED;
        break;
    case ENOSPC:
    case EDQUOT:
        fix = ": free some room on its filesystem";
        status = GW_E_FULL;
        break;
    case EMFILE:
    case ENFILE:
        fix = ": raise the limit of open files (ulimit -n)";
        status = GW_E_NOMEM;
        break;
    case ENOMEM:
        status = GW_E_NOMEM;
        break;
    }
    say(report->error, "cannot use %s for the SSD tier: %s%s", dir, strerror(-error), fix);
    return status;
}

/* ---- whether it takes our files ---- */

static int probe_file(struct ssd *ssd, const char *name, bool direct, uint8_t *block)
{
    const struct gw_ssd_calls *calls = &ssd->calls;
    int flags = O_RDWR | O_CREAT | O_TRUNC | (direct ? O_DIRECT : 0);
    int fd = calls->open(calls->ctx, ssd->dir_fd, name, flags);
    if (fd < 0)
        return fd;
    struct ssd_range range = {block, GW_DEVICE_BLOCK, 0};
    memset(block, 0xA5, GW_DEVICE_BLOCK);
    int rc = gwi_ssd_transfer(calls, fd, true, range);
    if (rc == 0) {
        memset(block, 0, GW_DEVICE_BLOCK);
        rc = gwi_ssd_transfer(calls, fd, false, range);
    }
    for (uint32_t i = 0; rc == 0 && i < GW_DEVICE_BLOCK; i++)
        if (block[i] != 0xA5)
            rc = -EIO;
    (void)calls->close(calls->ctx, fd);
    (void)calls->unlink(calls->ctx, ssd->dir_fd, name);
    return rc;
}

/* 0: usable, and ssd->direct says how. */
static int probe(struct ssd *ssd, bool buffered, struct gw_ssd_report *report)
{
    char name[GW_SSD_NAME_BYTES];
    uint8_t *block = ssd->calls.memory(ssd->calls.ctx, GW_DEVICE_BLOCK);
    if (!block)
        return -ENOMEM;
    snprintf(name, sizeof name, "probe-%016" PRIx64 ".tmp", ssd->store_id);
    int rc = -EINVAL;
    if (!buffered) {
        rc = probe_file(ssd, name, true, block);
        ssd->direct = rc == 0;
        if (rc == -EINVAL || rc == -EOPNOTSUPP)
            say(report->why, "buffered: the filesystem refuses O_DIRECT, the page cache takes "
                             "memory beyond the bound");
    } else {
        say(report->why, "buffered: as asked, the page cache takes memory beyond the bound");
    }
    if (rc == -EINVAL || rc == -EOPNOTSUPP)
        rc = probe_file(ssd, name, false, block);
    free(block);
    return rc;
}

/* ---- what is in it ---- */

struct scan {
    struct ssd *ssd;
    struct gw_ssd_report *report;
    const char *dir;
    uint8_t *block;
    uint32_t room; /* of ssd->earlier */
};

enum gw_status gwi_ssd_header_of(struct ssd *ssd, const char *name, uint8_t *block,
                                 struct gw_ssd_header *header)
{
    const struct gw_ssd_calls *calls = &ssd->calls;
    int fd = calls->open(calls->ctx, ssd->dir_fd, name, O_RDONLY | O_NOFOLLOW);
    if (fd < 0)
        return GW_E_IO;
    struct ssd_range range = {block, GW_SSD_HEADER_BYTES, 0};
    int rc = gwi_ssd_transfer(calls, fd, false, range);
    (void)calls->close(calls->ctx, fd);
    /* Shorter than a header is no header; anything else that fails is the disk's fault. */
    return rc < 0 ? GW_E_IO : gw_ssd_header_read(block, header);
}

static void unknown(struct scan *scan, const char *name, const char *what)
{
    if (scan->report->unknown_files++ == 0)
        say(scan->report->unknown, "%s/%s: %s, left alone", scan->dir, name, what);
}

static enum gw_status earlier_add(struct scan *scan, const struct gw_ssd_header *h)
{
    struct ssd *ssd = scan->ssd;
    if (ssd->earlier_count == scan->room) {
        uint32_t room = scan->room ? scan->room * 2 : 64;
        struct gw_ssd_file *files = ssd->calls.memory(ssd->calls.ctx, room * sizeof *files);
        if (!files)
            return GW_E_NOMEM;
        if (ssd->earlier_count)
            memcpy(files, ssd->earlier, ssd->earlier_count * sizeof *files);
        free(ssd->earlier);
        ssd->earlier = files;
        scan->room = room;
    }
    uint32_t pages = (uint32_t)(h->segment_bytes >> h->page_bits);
    ssd->earlier[ssd->earlier_count++] =
        (struct gw_ssd_file){h->incarnation, h->first_address,
                             gw_ssd_geometry_of(h->page_bits, pages).file_bytes};
    if (h->first_address + h->segment_bytes > ssd->earlier_end)
        ssd->earlier_end = h->first_address + h->segment_bytes;
    return GW_OK;
}

static enum gw_status scan_segment(struct scan *scan, const char *name, uint32_t named_incarnation,
                                   uint64_t named_first)
{
    struct ssd *ssd = scan->ssd;
    char *error = scan->report->error;
    struct gw_ssd_header h = {0};
    enum gw_status status = gwi_ssd_header_of(ssd, name, scan->block, &h);
    if (status == GW_E_VERSION) {
        say(error,
            "%s/%s has format %u, this program knows %u: use the program that wrote it, or "
            "another directory",
            scan->dir, name, h.format, GW_SSD_FORMAT);
        return GW_E_VERSION;
    }
    if (status != GW_OK && named_incarnation >= ssd->incarnation) {
        say(error, "%s/%s is not a segment but has the name that one would get: move it away",
            scan->dir, name);
        return GW_E_REFUSED;
    }
    if (status != GW_OK) {
        /* It may have held something once: no address of it is used again. */
        if (named_first + ssd->g.segment_bytes > ssd->earlier_end)
            ssd->earlier_end = named_first + ssd->g.segment_bytes;
        unknown(scan, name, "named like a segment but without a valid header");
        return GW_OK;
    }
    if (h.store_id != ssd->store_id) {
        say(error,
            "%s/%s belongs to store %016" PRIx64 ", this one is %016" PRIx64
            ": give each store a directory of its own",
            scan->dir, name, h.store_id, ssd->store_id);
        return GW_E_REFUSED;
    }
    if (h.incarnation >= ssd->incarnation) {
        say(error,
            "%s/%s is of incarnation %u, this start is %u: another process runs on this "
            "directory, or the store's identity was restored from a copy",
            scan->dir, name, h.incarnation, ssd->incarnation);
        return GW_E_REFUSED;
    }
    if (h.incarnation != named_incarnation || h.first_address != named_first) {
        unknown(scan, name, "its header is another segment's");
        return GW_OK;
    }
    status = earlier_add(scan, &h);
    if (status != GW_OK)
        say(error, "out of memory while reading %s", scan->dir);
    return status;
}

static enum gw_status scan_entry(struct scan *scan, const char *name)
{
    uint32_t incarnation;
    uint64_t first, store_id;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return GW_OK;
    if (gw_ssd_name_read(name, &incarnation, &first))
        return scan_segment(scan, name, incarnation, first);
    if (gw_ssd_name_unfinished_read(name, &store_id, &incarnation) &&
        store_id == scan->ssd->store_id && incarnation < scan->ssd->incarnation)
        return GW_OK; /* goes with forget_earlier */
    if (strcmp(name, "tier.json") == 0 || strcmp(name, "tier.json.tmp") == 0)
        return GW_OK; /* the shared tier's (tier_files.c) */
    unknown(scan, name, "not a segment");
    return GW_OK;
}

/* Calls `each` for every name in the directory until one fails. */
static enum gw_status for_each_name(struct ssd *ssd, enum gw_status (*each)(void *, const char *),
                                    void *arg)
{
    int fd = ssd->calls.open(ssd->calls.ctx, ssd->dir_fd, ".", O_RDONLY | O_DIRECTORY);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0)
            (void)ssd->calls.close(ssd->calls.ctx, fd);
        return GW_E_IO;
    }
    enum gw_status status = GW_OK;
    for (struct dirent *entry; status == GW_OK && (entry = readdir(dir));)
        status = each(arg, entry->d_name);
    closedir(dir);
    return status;
}

static enum gw_status scan_each(void *arg, const char *name)
{
    return scan_entry(arg, name);
}

static enum gw_status scan_dir(struct ssd *ssd, const char *dir, bool keep,
                               struct gw_ssd_report *report)
{
    struct scan scan = {.ssd = ssd, .report = report, .dir = dir};
    scan.block = ssd->calls.memory(ssd->calls.ctx, GW_SSD_HEADER_BYTES);
    enum gw_status status = scan.block ? for_each_name(ssd, scan_each, &scan) : GW_E_NOMEM;
    free(scan.block);
    if (status != GW_OK && report->error[0] == 0)
        say(report->error, "cannot list %s: %s", dir, gw_status_text(status));
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < ssd->earlier_count; i++)
        bytes += ssd->earlier[i].bytes;
    report->earlier_files = ssd->earlier_count;
    report->earlier_bytes = bytes;
    ssd->earlier_counted = !keep;
    if (!keep)
        atomic_store_explicit(&ssd->used_bytes, bytes, memory_order_relaxed); /* nobody else yet */
    return status;
}

enum gw_status gwi_ssd_dir_open(struct ssd *ssd, const struct gw_ssd_options *options,
                                struct gw_ssd_report *report)
{
    const struct gw_ssd_calls *calls = &ssd->calls;
    int made = ssd->read_only ? 0 : calls->make_dir(calls->ctx, options->dir);
    ssd->dir_fd = calls->open(calls->ctx, AT_FDCWD, options->dir, O_RDONLY | O_DIRECTORY);
    if (ssd->dir_fd < 0)
        return refuse(report, options->dir, made < 0 && made != -EEXIST ? made : ssd->dir_fd);
    enum gw_status status =
        scan_dir(ssd, options->dir, options->keep_earlier, report); /* before anything is written */
    int rc = status == GW_OK && !ssd->read_only ? probe(ssd, options->buffered, report) : 0;
    if (rc < 0)
        status = refuse(report, options->dir, rc);
    if (status != GW_OK)
        gwi_ssd_dir_close(ssd);
    return status;
}

void gwi_ssd_dir_close(struct ssd *ssd)
{
    if (ssd->dir_fd >= 0)
        (void)ssd->calls.close(ssd->calls.ctx, ssd->dir_fd);
    ssd->dir_fd = -1;
    free(ssd->earlier);
    ssd->earlier = NULL;
    ssd->earlier_count = 0;
}

/* ---- earlier incarnations ---- */

uint32_t gw_ssd_earlier(const struct gw_device *device, struct gw_ssd_file *files, uint32_t room)
{
    const struct ssd *ssd = (const struct ssd *)device;
    for (uint32_t i = 0; i < ssd->earlier_count && i < room; i++)
        files[i] = ssd->earlier[i];
    return ssd->earlier_count;
}

/* Removes one, if its header still says whose it is. */
static bool forget(struct ssd *ssd, const struct gw_ssd_file *file, uint8_t *block)
{
    char name[GW_SSD_NAME_BYTES];
    struct gw_ssd_header h = {0};
    gw_ssd_name(file->incarnation, file->first_address, name);
    if (gwi_ssd_header_of(ssd, name, block, &h) != GW_OK || h.store_id != ssd->store_id ||
        h.incarnation != file->incarnation || h.first_address != file->first_address)
        return false;
    return ssd->calls.unlink(ssd->calls.ctx, ssd->dir_fd, name) == 0;
}

static enum gw_status forget_unfinished(void *arg, const char *name)
{
    struct ssd *ssd = arg;
    uint64_t store_id;
    uint32_t incarnation;
    if (gw_ssd_name_unfinished_read(name, &store_id, &incarnation) && store_id == ssd->store_id &&
        incarnation < ssd->incarnation)
        (void)ssd->calls.unlink(ssd->calls.ctx, ssd->dir_fd, name); /* the next start tries again */
    return GW_OK;
}

enum gw_status gw_ssd_forget_earlier(struct gw_device *device, uint32_t *removed)
{
    struct ssd *ssd = (struct ssd *)device;
    uint32_t kept = 0, count = ssd->earlier_count;
    uint64_t freed = 0;
    uint8_t *block = ssd->calls.memory(ssd->calls.ctx, GW_SSD_HEADER_BYTES);
    if (!block)
        return GW_E_NOMEM;
    for (uint32_t i = 0; i < count; i++) {
        if (forget(ssd, &ssd->earlier[i], block))
            freed += ssd->earlier[i].bytes;
        else
            ssd->earlier[kept++] = ssd->earlier[i];
    }
    free(block);
    ssd->earlier_count = kept;
    pthread_mutex_lock(&ssd->lock);
    uint64_t used = atomic_load_explicit(&ssd->used_bytes, memory_order_relaxed);
    atomic_store_explicit(&ssd->used_bytes, used - (ssd->earlier_counted ? freed : 0),
                          memory_order_relaxed);
    pthread_mutex_unlock(&ssd->lock);
    if (removed)
        *removed = count - kept;
    enum gw_status listed = for_each_name(ssd, forget_unfinished, ssd);
    return kept > 0 ? GW_E_IO : listed;
}
