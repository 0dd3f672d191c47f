/* ssd_check.h - looking at a segment file that somebody else has written: is it what it is named,
 * are the pages there that an image needs, and what are their checksums. Layer: tiering. */
#ifndef GW_TIERING_SSD_CHECK_H
#define GW_TIERING_SSD_CHECK_H

#include "tiering/ssd_internal.h"

struct gwi_ssd_wanted {
    const struct gw_ssd_calls *calls;
    int dir_fd;
    struct gw_ssd_geometry g; /* that the file must have */
    uint64_t store_id;
    const uint8_t *server_id; /* NULL: whosever */
    uint32_t hash_seed_check;
    gw_addr begin, end;
    const struct gw_addr_range *gaps;
    uint32_t gaps_count;
};

/* Does the image have this page? */
bool gwi_ssd_page_wanted(const struct gwi_ssd_wanted *w, uint64_t address);
/* Does it have any page of [first, first + bytes)? */
bool gwi_ssd_segment_wanted(const struct gwi_ssd_wanted *w, uint64_t first);

/* Opens the file and checks header and the tables of the wanted pages; fills `checks` for these and
 * sets their bytes in `pages` to SSD_PAGE_WRITTEN. *fd is the caller's (O_RDWR if it may be
 * written, else O_RDONLY; O_DIRECT with `direct`). `error` (GW_SSD_TEXT_BYTES) says what is wrong.
 */
GW_MUST_USE enum gw_status gwi_ssd_check_open(const struct gwi_ssd_wanted *w,
                                              const struct gw_ssd_file *file, bool direct,
                                              uint32_t *checks, _Atomic uint8_t *pages, int *fd,
                                              char *error);
/* Reads every wanted page and compares it with the checks. */
GW_MUST_USE enum gw_status gwi_ssd_check_pages(const struct gwi_ssd_wanted *w,
                                               const struct gw_ssd_file *file, int fd,
                                               const uint32_t *checks, char *error);
#endif
