/* commit_format.h - the bytes of commit-log files, for the writer, the reader and their tests.
 *
 * A file: blocks back to back, then old bytes or zeros, then two units: the seal, written when the
 * next file has got its name: so that a last file that is gone is missed; and the foot, written
 * when the file is made: so that one cut short is told from one that is not full. Layer: tiering.
 */
#ifndef GW_TIERING_COMMIT_FORMAT_H
#define GW_TIERING_COMMIT_FORMAT_H

#include "tiering/commit.h"

/* Where the words of a block header are. */
enum {
    GWI_BLOCK_MAGIC = 0,
    GWI_BLOCK_FORMAT = 4,
    GWI_BLOCK_DISPATCHER = 6,
    GWI_BLOCK_STORE = 8,
    GWI_BLOCK_SEQUENCE = 16,
    GWI_BLOCK_DURABLE = 24,
    GWI_BLOCK_INCARNATION = 32,
    GWI_BLOCK_GROUPS = 36,
    GWI_BLOCK_INTERVAL = 40,
    GWI_BLOCK_VIEW = 48,
    GWI_BLOCK_PAYLOAD = 56,
    GWI_BLOCK_CHECK = 60,
};

#define GWI_COMMIT_NAME_BYTES 64u
struct gwi_commit_name {
    uint64_t number; /* of its first block; of a spare: any */
    uint32_t incarnation;
    uint16_t dispatcher;
    bool spare; /* made ahead, holds no block: "spare-<dispatcher>-<incarnation>-<n>.gwl" */
};
void gwi_commit_name_print(const struct gwi_commit_name *name, char *out);
bool gwi_commit_name_parse(const char *text, struct gwi_commit_name *out); /* false: no such name */

/* Bytes of a block with this payload, in whole units. */
static inline uint64_t gwi_commit_block_bytes(uint64_t payload_bytes)
{
    uint64_t bytes = GW_COMMIT_BLOCK_HEADER + payload_bytes;
    return (bytes + GW_COMMIT_BLOCK_UNIT - 1) & ~(uint64_t)(GW_COMMIT_BLOCK_UNIT - 1);
}
/* Fills in the header in front of a payload that is there already, its checksum too. */
void gwi_commit_block_seal(uint8_t *block, const struct gw_commit_block *header);

enum gwi_commit_found {
    GWI_COMMIT_BLOCK,
    GWI_COMMIT_NOTHING, /* no block, or a bad one */
    GWI_COMMIT_FORMAT,  /* a good one of another format */
};
/* What begins at `at`, of which `bytes` are there. */
enum gwi_commit_found gwi_commit_block_look(const uint8_t *at, uint64_t bytes,
                                            struct gw_commit_block *out);

/* The header of a block that has been looked at. */
void gwi_commit_block_read(const uint8_t *at, struct gw_commit_block *out);

#define GWI_COMMIT_END_BYTES (2 * GW_COMMIT_BLOCK_UNIT) /* seal and foot */
void gwi_commit_foot_make(uint8_t *unit, uint64_t store_id, uint64_t file_bytes);
void gwi_commit_seal_make(uint8_t *unit, uint64_t store_id, uint64_t number, uint64_t next_number);
/* The number of the file that follows file `number`; 0: none does. */
uint64_t gwi_commit_seal_look(const uint8_t *unit, uint64_t store_id, uint64_t number);
/* false: it is none. */
bool gwi_commit_foot_look(const uint8_t *unit, uint16_t *format, uint64_t *store_id,
                          uint64_t *file_bytes);

/* Bytes of an entry; 0: larger than any block can be. */
size_t gwi_commit_entry_bytes(const struct gw_commit_entry *entry);
void gwi_commit_entry_put(uint8_t *at, const struct gw_commit_entry *entry, uint64_t first_serial);
void gwi_commit_group_put(uint8_t *at, const struct gw_commit_group *group);
#endif
