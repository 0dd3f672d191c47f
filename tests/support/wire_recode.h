/* wire_recode.h - every body of the native protocol behind one face: decode it, encode what came
 * out. What a decoder accepts has exactly one wire form, so the result must be the same bytes; the
 * unit tests and the fuzz harnesses both lean on that. */
#ifndef GW_TESTS_SUPPORT_WIRE_RECODE_H
#define GW_TESTS_SUPPORT_WIRE_RECODE_H

#include "client/wire/frame.h"

struct wire_codec {
    const char *name;
    /* Decodes all of r; what was good is in w, also when the rest was refused. */
    enum gw_status (*recode)(struct gw_reader *r, struct gw_writer *w);
    bool list; /* entries to the end: a cut between two of them is no error to the codec */
};

extern const struct wire_codec wire_ops_codecs[];         /* ops.h, scan.h */
extern const struct wire_codec wire_peer_codecs[];        /* peer.h */
extern const struct wire_codec wire_map_control_codecs[]; /* map.h, control.h */
extern const size_t wire_ops_codecs_count, wire_peer_codecs_count, wire_map_control_codecs_count;

/* Recodes n bytes from a buffer of exactly that size, so that AddressSanitizer sees a read behind
 * its end. Aborts with a message when what was decoded does not encode to the same bytes. Gives the
 * decoder's status; *good (may be NULL) gets the number of bytes that were decoded. */
enum gw_status wire_recode(const struct wire_codec *codec, const uint8_t *bytes, size_t n,
                           size_t *good);
/* By name, from any of the tables; aborts when there is none. */
const struct wire_codec *wire_codec_find(const char *name);
#endif
