/* offline.h - reading a data directory that no server uses: what verify and dump share. Nothing is
 * written. Layer: server. */
#ifndef GW_SERVER_OFFLINE_H
#define GW_SERVER_OFFLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/wire/frame.h"

#define GWI_OFFLINE_PATH_BYTES 1400
#define GWI_OFFLINE_STATES_MAX 64u

/* Who store.json says that this is; *checkpoint: the newest it knows of, 0: none; *bytes: of that
 * file, 0: there is none. */
bool gwi_offline_identity(const char *dir, uint64_t *store_id, char server[GW_ID_BYTES_MAX + 1],
                          uint64_t *checkpoint, uint64_t *bytes);
/* Numbers of the state files, the newest first; at most GWI_OFFLINE_STATES_MAX. */
uint32_t gwi_offline_states(const char *dir, uint64_t *numbers);
/* The whole file, from malloc; NULL: `wrong` says why. */
uint8_t *gwi_offline_read(const char *path, size_t *bytes, const char **wrong);
#endif
