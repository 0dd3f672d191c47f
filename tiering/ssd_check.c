/* ssd_check.c - see ssd_check.h. Nothing that a file says is trusted before its checksum was seen.
 */
#include "tiering/ssd_check.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/checksum.h"

bool gwi_ssd_page_wanted(const struct gwi_ssd_wanted *w, uint64_t address)
{
    if (address + w->g.page_bytes <= w->begin.v || address >= w->end.v)
        return false;
    for (uint32_t i = 0; i < w->gaps_count; i++)
        if (address >= w->gaps[i].from.v && address < w->gaps[i].to.v)
            return false;
    return true;
}

bool gwi_ssd_segment_wanted(const struct gwi_ssd_wanted *w, uint64_t first)
{
    for (uint32_t i = 0; i < w->g.segment_pages; i++)
        if (gwi_ssd_page_wanted(w, first + (uint64_t)i * w->g.page_bytes))
            return true;
    return false;
}

static enum gw_status check_header(const struct gwi_ssd_wanted *w, const struct gw_ssd_file *file,
                                   const char *name, const uint8_t *block, char *error)
{
    struct gw_ssd_header h = {0};
    enum gw_status status = gw_ssd_header_read(block, &h);
    const char *wrong = NULL;
    if (status == GW_E_VERSION) {
        wrong = "its format is another version's";
    } else if (status != GW_OK) {
        wrong = "its header is damaged";
        status = GW_E_CORRUPT;
    } else if (h.store_id != w->store_id ||
               (w->server_id && memcmp(h.server_id, w->server_id, sizeof h.server_id) != 0)) {
        wrong = "it is another server's";
        status = GW_E_REFUSED;
    } else if (h.hash_seed_check != w->hash_seed_check) {
        wrong = "it was written with another hash seed: it belongs to another cluster";
        status = GW_E_REFUSED;
    } else if (h.incarnation != file->incarnation || h.first_address != file->first_address) {
        wrong = "its header is another segment's";
        status = GW_E_CORRUPT;
    } else if (h.page_bits != w->g.page_bits || h.segment_bytes != w->g.segment_bytes) {
        wrong = "its pages or the segment have another size than the store's";
        status = GW_E_INVALID;
    }
    if (wrong)
        snprintf(error, GW_SSD_TEXT_BYTES, "%s: %s", name, wrong);
    return status;
}

static enum gw_status check_tables(const struct gwi_ssd_wanted *w, const struct gw_ssd_file *file,
                                   const char *name, const uint8_t *tables, uint32_t *checks,
                                   _Atomic uint8_t *pages, char *error)
{
    for (uint32_t i = 0; i < w->g.segment_pages; i++) {
        uint64_t at = file->first_address + (uint64_t)i * w->g.page_bytes;
        if (!gwi_ssd_page_wanted(w, at))
            continue;
        if (gw_ssd_table_read(&w->g, w->store_id, file->incarnation, at,
                              tables + (size_t)i * w->g.table_bytes,
                              checks + (size_t)i * w->g.page_blocks) != GW_OK) {
            snprintf(error, GW_SSD_TEXT_BYTES,
                     "%s: the checksum table of the page at address %#" PRIx64
                     " (file offset %" PRIu64 ") is damaged or missing",
                     name, at, gw_ssd_table_offset(&w->g, i));
            return GW_E_CORRUPT;
        }
        atomic_store_explicit(&pages[i], SSD_PAGE_WRITTEN, memory_order_relaxed); /* ours still */
    }
    return GW_OK;
}

enum gw_status gwi_ssd_check_open(const struct gwi_ssd_wanted *w, const struct gw_ssd_file *file,
                                  bool direct, uint32_t *checks, _Atomic uint8_t *pages, int *fd,
                                  char *error)
{
    char name[GW_SSD_NAME_BYTES];
    gw_ssd_name(file->incarnation, file->first_address, name);
    size_t bytes = GW_SSD_HEADER_BYTES + (size_t)w->g.segment_pages * w->g.table_bytes;
    uint8_t *head = w->calls->memory(w->calls->ctx, bytes);
    if (!head) {
        snprintf(error, GW_SSD_TEXT_BYTES, "%s: out of memory", name);
        return GW_E_NOMEM;
    }
    int flags = O_RDONLY | O_NOFOLLOW | (direct ? O_DIRECT : 0);
    int file_fd = w->calls->open(w->calls->ctx, w->dir_fd, name, flags);
    struct ssd_range range = {head, (uint32_t)bytes, 0};
    int rc = file_fd < 0 ? file_fd : gwi_ssd_transfer(w->calls, file_fd, false, range);
    enum gw_status status = GW_E_IO;
    if (rc < 0)
        snprintf(error, GW_SSD_TEXT_BYTES, "%s: cannot be read, or is too short: %s", name,
                 strerror(-rc));
    else
        status = check_header(w, file, name, head, error);
    if (status == GW_OK)
        status = check_tables(w, file, name, head + GW_SSD_HEADER_BYTES, checks, pages, error);
    free(head);
    if (status != GW_OK && file_fd >= 0)
        (void)w->calls->close(w->calls->ctx, file_fd);
    *fd = status == GW_OK ? file_fd : -1;
    return status;
}

enum gw_status gwi_ssd_check_pages(const struct gwi_ssd_wanted *w, const struct gw_ssd_file *file,
                                   int fd, const uint32_t *checks, char *error)
{
    char name[GW_SSD_NAME_BYTES];
    gw_ssd_name(file->incarnation, file->first_address, name);
    uint8_t *page = w->calls->memory(w->calls->ctx, w->g.page_bytes);
    enum gw_status status = page ? GW_OK : GW_E_NOMEM;
    for (uint32_t i = 0; status == GW_OK && i < w->g.segment_pages; i++) {
        uint64_t at = file->first_address + (uint64_t)i * w->g.page_bytes;
        if (!gwi_ssd_page_wanted(w, at))
            continue;
        uint64_t offset = gw_ssd_page_offset(&w->g, i);
        int rc = gwi_ssd_transfer(w->calls, fd, false,
                                  (struct ssd_range){page, w->g.page_bytes, offset});
        if (rc < 0) {
            snprintf(error, GW_SSD_TEXT_BYTES,
                     "%s: the page at file offset %" PRIu64 " cannot be read: %s", name, offset,
                     strerror(-rc));
            status = GW_E_IO;
        }
        for (uint32_t b = 0; status == GW_OK && b < w->g.page_blocks; b++)
            if (gw_crc32c(0, page + (size_t)b * GW_DEVICE_BLOCK, GW_DEVICE_BLOCK) !=
                checks[(size_t)i * w->g.page_blocks + b]) {
                snprintf(error, GW_SSD_TEXT_BYTES,
                         "%s: the block at file offset %" PRIu64 " (address %#" PRIx64
                         ") is damaged",
                         name, offset + (uint64_t)b * GW_DEVICE_BLOCK,
                         at + (uint64_t)b * GW_DEVICE_BLOCK);
                status = GW_E_CORRUPT;
            }
    }
    free(page);
    return status;
}
