/* data.h - the data directory of a server: who uses it, whose it is, how much room there is.
 *
 *   lock         held (flock) by the process that uses the directory; its pid in words
 *   store.json   whose directory this is: format, server, store, incarnation; replaced whole
 *   log/         segment files of the SSD tier
 *   checkpoints/ states and index snapshots (checkpoint.h)
 *   commit/      commit logs (tiering/commit.h)
 *
 * Nothing is removed but what carries this store's name. Layer: server. */
#ifndef GW_SERVER_DATA_H
#define GW_SERVER_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include "server/options.h"

#define GWI_DATA_FORMAT 1u

struct gwi_data {
    int lock_fd; /* -1: none */
    char log_dir[1100], commit_dir[1100];
    uint64_t store_id;
    uint32_t incarnation; /* of this process in this directory: higher with every start */
    /* Number of the newest checkpoint that was finished, as far as it was noted: a state file that
     * is older than this is not the newest. 0: none. */
    uint64_t checkpoint;
    int64_t created_ms;
    /* Commit logs that must be there: one for each of so many dispatchers, of that incarnation,
     * unless a checkpoint of a later one is. 0: none. */
    uint32_t logs_incarnation, logs_count;
    /* Of the shared tier in which a part of the log may lie, for good from the first start with
     * one on; "": none. */
    char blob_url[GW_BLOB_URL_MAX + 1];
};

/* Makes the directory if it is not there, locks it, and reads or writes its identity. Whatever
 * speaks against it has been said on stderr, with the remedy: GW_E_BUSY (a living process has it),
 * GW_E_IO (cannot be made, written or read), GW_E_VERSION (another format), GW_E_REFUSED (another
 * server's, or one that has used a shared tier and none was given), GW_E_CORRUPT (store.json is
 * none). On failure nothing is held. */
GW_MUST_USE enum gw_status gwi_data_open(const struct gwi_options *options, struct gwi_data *out);
/* Notes a finished checkpoint in store.json, durably. GW_E_IO, GW_E_FULL: said on stderr. One
 * thread at a time. */
GW_MUST_USE enum gw_status gwi_data_note_checkpoint(const struct gwi_options *options,
                                                    struct gwi_data *data, uint64_t number);
/* Notes that the commit logs of these dispatchers are there (count 0: that none is needed any
 * more), durably: before the first answer that rests upon them, and before the first of them is
 * removed. As above. */
GW_MUST_USE enum gw_status gwi_data_note_logs(const struct gwi_options *options,
                                              struct gwi_data *data, uint32_t count);
/* Notes the shared tier of the options: before anything is dropped from the disk because it lies
 * there. As above. */
GW_MUST_USE enum gw_status gwi_data_note_blob(const struct gwi_options *options,
                                              struct gwi_data *data);
/* Writes a store.json for a copy of this directory whose newest checkpoint is `number`, and that
 * has all of it. Any thread: ours may be noting a later one at the same time. As above. */
GW_MUST_USE enum gw_status gwi_data_identity_of_copy(const struct gwi_options *options,
                                                     const struct gwi_data *data, uint64_t number,
                                                     const char *path);
/* CRC32C over the fields of a store.json, for its field "crc". Any thread. */
struct json_t;
uint32_t gwi_data_identity_crc(const struct json_t *root);
void gwi_data_close(struct gwi_data *data);
/* Bytes that the directory's file system would give us. GW_E_IO: said on stderr. */
GW_MUST_USE enum gw_status gwi_data_free_bytes(const struct gwi_options *options, uint64_t *bytes);
#endif
