/* manifest.h - manifest.json of a backup: which files it has, how long they are, and the CRC32C of
 * each; written last, so that a backup without one is none. A backup of a cluster is a directory
 * with one such directory for each server. Any thread. Layer: server. */
#ifndef GW_SERVER_MANIFEST_H
#define GW_SERVER_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "index/base/status.h"

#define GWI_MANIFEST_FORMAT    1u
#define GWI_MANIFEST_PARTS_MAX 1024u

struct gwi_manifest_file {
    char name[160]; /* within the directory, "log/..." */
    uint64_t bytes;
    uint32_t crc;
};

struct gwi_manifest {
    char server[64];
    uint64_t store_id, checkpoint, created_ms;
    uint64_t cluster, hash_seed, map_version;
    char *slots;                    /* owned: those that the server owned, "0-99,200" */
    struct gwi_manifest_file *file; /* owned, from malloc */
    uint32_t files;
};
void gwi_manifest_fini(struct gwi_manifest *m);

/* Written beside, synced, renamed; the directory is synced. GW_E_IO, GW_E_FULL, GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_manifest_write(const char *dir, const struct gwi_manifest *m);
/* GW_NOT_FOUND: there is none; GW_E_CORRUPT, GW_E_IO, GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_manifest_read(const char *dir, struct gwi_manifest *out);

/* Compares every file with the manifest: fn gets the name, and "" or what is wrong. False: the
 * directory has no manifest. */
typedef void (*gwi_manifest_cb)(void *ctx, const char *file, uint64_t bytes, const char *wrong);
bool gwi_manifest_check(const char *dir, gwi_manifest_cb fn, void *ctx);

struct gwi_manifest_list {
    char name[GWI_MANIFEST_PARTS_MAX][64];
    uint32_t count;
};
/* The directories in `dir` that have a manifest, by name. False: none. */
bool gwi_manifest_parts(const char *dir, struct gwi_manifest_list *out);
#endif
