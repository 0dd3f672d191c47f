/* recover_files.h - finding and loading the state files of a data directory. Layer: server. */
#ifndef GW_SERVER_RECOVER_FILES_H
#define GW_SERVER_RECOVER_FILES_H

#include "server/data.h"
#include "server/state_file.h"

#define GWI_STATES_MAX 16u

struct gwi_states {
    uint64_t number[GWI_STATES_MAX]; /* the newest first */
    uint32_t count;
    uint64_t highest; /* of states and index files */
    /* Salvage: those that were left out. */
    uint64_t bad_number[GWI_STATES_MAX];
    uint32_t bad;
};

/* Makes checkpoints/ if it is not there; removes unfinished files. GW_E_IO: said on stderr. */
GW_MUST_USE enum gw_status gwi_states_find(const char *data, struct gwi_states *out);

struct gwi_loaded {
    struct gwi_state state; /* borrows bytes */
    uint8_t *bytes;         /* owned */
    size_t n;
};

/* Reads and checks a state file: whole, of this store and server, and of this number. `why` names
 * the file and says what is wrong: GW_NOT_FOUND, GW_E_CORRUPT, GW_E_VERSION, GW_E_REFUSED (another
 * store's), GW_E_IO, GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_state_load(const char *data, const struct gwi_data *identity,
                                          const char *server_id, uint64_t number,
                                          struct gwi_loaded *out, char *why, size_t why_bytes);
void gwi_state_unload(struct gwi_loaded *loaded);
/* Renames a state file that could not be used: it stays for who wants to look at it. */
void gwi_states_set_aside(const char *data, uint64_t number);
#endif
