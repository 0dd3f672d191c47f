/* backup_cold.h - segments of a backup that are not on the disk any more: made again from what the
 * shared tier holds, so that a backup is whole without it. Layer: server. */
#ifndef GW_SERVER_BACKUP_COLD_H
#define GW_SERVER_BACKUP_COLD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/state_file.h"

struct gwi_server;

/* Has the image this page? */
bool gwi_backup_page_wanted(const struct gwi_state *state, uint64_t page_address);

/* Writes the segment file of the addresses from `first` on to `fd`, which is empty: all pages that
 * the image has, read through the device, which checks them. Reads on a queue of the device that
 * nobody else uses; one thread at a time. False: `why` is a sentence. *bytes: of the file, *crc: of
 * all of it; *done rises by what is written. */
struct gwi_backup_cold {
    struct gwi_server *server;
    const struct gwi_state *state;
    uint64_t first;
    int fd;
    const atomic_bool *stop;
    _Atomic uint64_t *done;
};
bool gwi_backup_rebuild(const struct gwi_backup_cold *cold, uint64_t *bytes, uint32_t *crc,
                        char *why, size_t why_bytes);

/* Waits until nothing of the store is in another server's log only (index/indirection.h), resolving
 * with more of the dispatchers' time than usual and taking checkpoints: what a backup copies then
 * is whole by itself. False: `why`; ten minutes, or *stop. */
bool gwi_backup_resolve(struct gwi_server *server, const atomic_bool *stop, char *why,
                        size_t why_bytes);
#endif
