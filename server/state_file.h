/* state_file.h - checkpoints/state-<number>.gwc: everything that recovery needs beside the log.
 *
 *   magic 8, format 4, sections 4, then sections: type 4, zero 4, bytes 8, body, CRC32C 4 of the
 *   body, zeros to 8; then "end." 4 and CRC32C 4 of all before it.
 *
 * Sections: 1 numbers (once, first); 2 gaps of the image; 3 mixed chains; 4 sessions of one
 * dispatcher, as many as there were (session_image.h); types of 128 and above may be left out by
 * who does not know them. Encoding and decoding are pure functions of bytes; no length is believed.
 * Any thread. Layer: server. */
#ifndef GW_SERVER_STATE_FILE_H
#define GW_SERVER_STATE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "client/wire/frame.h"
#include "index/store_cut.h"
#include "server/options.h"

#define GWI_STATE_MAGIC  "GWSTATE\n"
#define GWI_STATE_FORMAT 1u
#define GWI_STATE_WHY    160u

struct gwi_state_part {
    const uint8_t *bytes; /* borrowed: of the caller of encode, of the bytes decoded */
    size_t n;
    uint32_t sessions;
};

struct gwi_state {
    uint64_t store_id;
    char server_id[GW_ID_BYTES_MAX + 1];
    uint32_t incarnation; /* that wrote it */
    uint64_t cluster;     /* of the map; 0: never joined */
    uint64_t view;        /* the view number that the image belongs to */
    uint64_t created_ms;
    uint64_t segment_bytes; /* of the tier */
    uint32_t page_bits, hash_seed_check;
    uint64_t forgotten;          /* sessions (durable.h) */
    struct gw_store_image image; /* gaps: borrowed, see gaps_owned */
    /* Index snapshot; number 0: none, the whole image is replayed. */
    struct {
        uint64_t number; /* index-<number>.gwi */
        gw_addr start;
        uint64_t blocks;
        uint32_t crc;  /* of the file */
        uint64_t view; /* that it was begun in */
    } index;
    const uint64_t *mixed;
    uint64_t mixed_count;
    const struct gwi_state_part *parts;
    uint32_t parts_count;
    void *owned; /* by decode and copy: gaps, mixed, parts */
};

/* Hands the file's bytes to `put`, in order; stops at and returns its first failure. */
typedef enum gw_status (*gwi_state_put)(void *ctx, const void *bytes, size_t n);
GW_MUST_USE enum gw_status gwi_state_encode(const struct gwi_state *state, gwi_state_put put,
                                            void *ctx);
/* GW_E_CORRUPT, GW_E_VERSION: `why` (GWI_STATE_WHY bytes) says what is wrong; GW_E_NOMEM. Parts
 * borrow `bytes`. */
GW_MUST_USE enum gw_status gwi_state_decode(const uint8_t *bytes, size_t n, struct gwi_state *out,
                                            char *why);
/* The same without parts. GW_E_NOMEM. */
GW_MUST_USE enum gw_status gwi_state_copy(const struct gwi_state *state, struct gwi_state *out);
void gwi_state_fini(struct gwi_state *state);

/* Names within the folder checkpoints/; room: 64 bytes. */
const char *gwi_state_name(uint64_t number, char *room);
const char *gwi_index_name(uint64_t number, char *room);
/* The number of such a name; 0: it is none. */
uint64_t gwi_state_number(const char *name);
uint64_t gwi_index_number(const char *name);
#endif
