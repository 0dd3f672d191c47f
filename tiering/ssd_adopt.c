/* ssd_adopt.c - taking over the segments of earlier incarnations that an image needs (ssd.h).
 *
 *  1. Everything is looked at before anything is removed: a directory that cannot be adopted stays
 *     as it was.
 *  2. What is adopted stands in the segments' slots like our own, with its own incarnation for name
 *     and tables. Pages that the image does not have are not readable: they may hold what a run
 *     wrote whose changes were never part of a checkpoint. Nothing is written into these files.
 *  3. Where a log resumes lies above every file that was found, also those removed here. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiering/ssd_check.h"

gw_addr gw_ssd_resume(const struct gw_device *device, gw_addr least)
{
    const struct ssd *ssd = (const struct ssd *)device;
    uint64_t at = ssd->earlier_end > least.v ? ssd->earlier_end : least.v;
    uint64_t segment = ssd->g.segment_bytes;
    return gw_addr_of((at + segment - 1) / segment * segment);
}

/* The file that holds the segment from `first` on: of the highest incarnation. */
static const struct gw_ssd_file *file_at(const struct gw_ssd_file *files, uint32_t count,
                                         uint64_t first)
{
    const struct gw_ssd_file *best = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (files[i].first_address == first && (!best || files[i].incarnation > best->incarnation))
            best = &files[i];
    return best;
}

static int by_address(const void *a, const void *b)
{
    const struct gw_ssd_file *x = a, *y = b;
    if (x->first_address != y->first_address)
        return x->first_address < y->first_address ? -1 : 1;
    return x->incarnation < y->incarnation ? 1 : x->incarnation > y->incarnation ? -1 : 0;
}

/* Adopts one; the segment is not wanted or it stands in its slot, or why not. */
static enum gw_status adopt_one(struct ssd *ssd, const struct gwi_ssd_wanted *w,
                                const struct gw_ssd_file *file, char *error)
{
    uint32_t *checks = gwi_ssd_checks_make(ssd);
    if (!checks) {
        snprintf(error, GW_SSD_TEXT_BYTES, "out of memory for the checksums of the segments");
        return GW_E_NOMEM;
    }
    int fd = -1;
    enum gw_status status =
        gwi_ssd_check_open(w, file, ssd->direct, checks, gwi_ssd_pages_of(ssd, checks), &fd, error);
    if (status == GW_OK) {
        status = gwi_ssd_take_over(ssd, file->first_address / ssd->g.segment_bytes,
                                   file->incarnation, fd, checks);
        if (status == GW_OK)
            return GW_OK;
        if (status == GW_E_NOMEM)
            snprintf(error, GW_SSD_TEXT_BYTES, "out of memory for the list of segments");
        else
            snprintf(error, GW_SSD_TEXT_BYTES,
                     "there are more segments than --disk has room for (%u): give it at least what "
                     "it was before",
                     ssd->segments_count);
        (void)ssd->calls.close(ssd->calls.ctx, fd);
    }
    free(checks);
    return status;
}

enum gw_status gw_ssd_adopt(struct gw_device *device, gw_addr begin, gw_addr end,
                            const struct gw_addr_range *gaps, uint32_t gaps_count, char *error,
                            size_t error_bytes)
{
    struct ssd *ssd = (struct ssd *)device;
    char text[GW_SSD_TEXT_BYTES] = "";
    struct gwi_ssd_wanted w = {.calls = &ssd->calls,
                               .dir_fd = ssd->dir_fd,
                               .g = ssd->g,
                               .store_id = ssd->store_id,
                               .server_id = ssd->server_id,
                               .hash_seed_check = ssd->hash_seed_check,
                               .begin = begin,
                               .end = end,
                               .gaps = gaps,
                               .gaps_count = gaps_count};
    enum gw_status status = GW_OK;
    uint32_t count = ssd->earlier_count, kept = 0;
    if (count)
        qsort(ssd->earlier, count, sizeof *ssd->earlier, by_address);
    uint64_t segment = ssd->g.segment_bytes;
    ssd->own_first = gw_ssd_resume(device, end).v / segment;
    for (uint64_t first = begin.v / segment * segment; status == GW_OK && first < end.v;
         first += segment) {
        if (!gwi_ssd_segment_wanted(&w, first))
            continue;
        const struct gw_ssd_file *file = file_at(ssd->earlier, count, first);
        if (file) {
            status = adopt_one(ssd, &w, file, text);
        } else {
            snprintf(text, sizeof text,
                     "the segment with addresses from %#" PRIx64 " (a file log-*-%016" PRIx64
                     ".gws) is missing",
                     first, first);
            status = GW_NOT_FOUND;
        }
    }
    if (status != GW_OK) {
        snprintf(error, error_bytes, "%s", text);
        return status;
    }
    for (uint32_t i = 0; i < count; i++) { /* those adopted leave the list, the rest is removed */
        const struct gw_ssd_file *f = &ssd->earlier[i];
        bool first_of_address = i == 0 || f[-1].first_address != f->first_address;
        if (!first_of_address || !gwi_ssd_segment_wanted(&w, f->first_address))
            ssd->earlier[kept++] = *f;
    }
    ssd->earlier_count = kept;
    /* What cannot be removed is counted, and the next start tries again. */
    uint64_t more = 0;
    for (uint32_t i = 0; i < kept; i++)
        more += ssd->earlier[i].bytes;
    pthread_mutex_lock(&ssd->lock);
    atomic_fetch_add_explicit(&ssd->used_bytes, more, memory_order_relaxed);
    ssd->earlier_counted = true;
    pthread_mutex_unlock(&ssd->lock);
    enum gw_status removed = ssd->read_only ? GW_OK : gw_ssd_forget_earlier(device, NULL);
    (void)removed;
    return GW_OK;
}

/* ---- offline -------------------------------------------------------------------------------- */

struct listing {
    struct gw_ssd_file *files;
    uint32_t count, room;
    uint32_t pages; /* of a segment, by the first valid header; 0: none yet */
};

static enum gw_status list_files(int dir_fd, const struct gw_ssd_calls *calls,
                                 const struct gw_ssd_expected *expected, struct listing *list)
{
    int fd = calls->open(calls->ctx, dir_fd, ".", O_RDONLY | O_DIRECTORY);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    uint8_t *block = calls->memory(calls->ctx, GW_SSD_HEADER_BYTES);
    enum gw_status status = !dir ? GW_E_IO : block ? GW_OK : GW_E_NOMEM;
    for (struct dirent *entry; status == GW_OK && (entry = readdir(dir));) {
        struct gw_ssd_file file = {0};
        if (!gw_ssd_name_read(entry->d_name, &file.incarnation, &file.first_address))
            continue;
        if (list->count == list->room) {
            uint32_t room = list->room ? 2 * list->room : 64;
            struct gw_ssd_file *more = realloc(list->files, room * sizeof *more);
            if (!more) {
                status = GW_E_NOMEM;
                break;
            }
            list->files = more;
            list->room = room;
        }
        struct gw_ssd_header h = {0};
        int one = calls->open(calls->ctx, dir_fd, entry->d_name, O_RDONLY | O_NOFOLLOW);
        struct ssd_range range = {block, GW_SSD_HEADER_BYTES, 0};
        if (one >= 0 && gwi_ssd_transfer(calls, one, false, range) == 0 &&
            gw_ssd_header_read(block, &h) == GW_OK && h.page_bits == expected->page_bits &&
            h.store_id == expected->store_id && list->pages == 0)
            list->pages = (uint32_t)(h.segment_bytes >> h.page_bits);
        if (one >= 0)
            (void)calls->close(calls->ctx, one);
        list->files[list->count++] = file;
    }
    free(block);
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        (void)calls->close(calls->ctx, fd);
    return status;
}

static enum gw_status verify_one(const struct gwi_ssd_wanted *w, const struct gw_ssd_file *file,
                                 bool deep, gw_ssd_verify_cb fn, void *ctx)
{
    char name[GW_SSD_NAME_BYTES], text[GW_SSD_TEXT_BYTES] = "";
    gw_ssd_name(file->incarnation, file->first_address, name);
    uint32_t blocks = w->g.segment_pages * w->g.page_blocks;
    uint32_t *checks = calloc(1, blocks * sizeof *checks + w->g.segment_pages);
    int fd = -1;
    enum gw_status status = GW_E_NOMEM;
    if (checks)
        status = gwi_ssd_check_open(w, file, false, checks, (_Atomic uint8_t *)(checks + blocks),
                                    &fd, text);
    if (status == GW_OK && deep)
        status = gwi_ssd_check_pages(w, file, fd, checks, text);
    if (fd >= 0)
        (void)w->calls->close(w->calls->ctx, fd);
    free(checks);
    if (status == GW_E_NOMEM)
        return status;
    fn(ctx, name, w->g.file_bytes, text);
    return status == GW_OK ? GW_OK : GW_E_CORRUPT;
}

enum gw_status gw_ssd_verify(const char *dir, const struct gw_ssd_expected *expected, bool deep,
                             gw_ssd_verify_cb fn, void *ctx)
{
    const struct gw_ssd_calls *calls = gw_ssd_calls_system();
    struct listing list = {0};
    int dir_fd = calls->open(calls->ctx, AT_FDCWD, dir, O_RDONLY | O_DIRECTORY);
    if (dir_fd < 0)
        return GW_E_IO;
    enum gw_status status = list_files(dir_fd, calls, expected, &list);
    struct gwi_ssd_wanted w = {.calls = calls,
                               .dir_fd = dir_fd,
                               .store_id = expected->store_id,
                               .hash_seed_check = expected->hash_seed_check,
                               .begin = expected->begin,
                               .end = expected->end,
                               .gaps = expected->gaps,
                               .gaps_count = expected->gaps_count};
    bool bad = false;
    if (status == GW_OK && list.pages == 0 && expected->begin.v < expected->end.v) {
        fn(ctx, "log-*.gws", 0, "there is no readable segment file of this store");
        status = GW_E_CORRUPT;
    }
    if (status == GW_OK && list.pages != 0) {
        w.g = gw_ssd_geometry_of(expected->page_bits, list.pages);
        uint64_t segment = w.g.segment_bytes;
        for (uint64_t first = w.begin.v / segment * segment; status == GW_OK && first < w.end.v;
             first += segment) {
            if (!gwi_ssd_segment_wanted(&w, first))
                continue;
            const struct gw_ssd_file *file = file_at(list.files, list.count, first);
            if (!file) {
                char name[GW_SSD_NAME_BYTES];
                snprintf(name, sizeof name, "log-*-%016" PRIx64 ".gws", first);
                fn(ctx, name, 0, "missing");
                bad = true;
                continue;
            }
            enum gw_status one = verify_one(&w, file, deep, fn, ctx);
            bad |= one == GW_E_CORRUPT;
            status = one == GW_E_CORRUPT ? GW_OK : one;
        }
    }
    free(list.files);
    (void)calls->close(calls->ctx, dir_fd);
    return status != GW_OK ? status : bad ? GW_E_CORRUPT : GW_OK;
}
