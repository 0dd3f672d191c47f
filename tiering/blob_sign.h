/* blob_sign.h - AWS Signature Version 4, in a header ("Authenticating Requests: Using the
 * Authorization Header" of the S3 documentation). Pure: the time is handed in. Any thread.
 * Layer: tiering, internal. */
#ifndef GW_TIERING_BLOB_SIGN_H
#define GW_TIERING_BLOB_SIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

#define GWI_SIGN_TIME_BYTES    17u /* "20130524T000000Z" and zero */
#define GWI_SIGN_HASH_BYTES    65u /* hex of SHA-256 and zero */
#define GWI_SIGN_HEADERS_BYTES 8192u
#define GWI_SIGN_TOKEN_MAX     4096u
#define GWI_SIGN_UNSIGNED      "UNSIGNED-PAYLOAD"

struct gwi_sign_key {
    char access[136], secret[264], region[64];
    char token[GWI_SIGN_TOKEN_MAX]; /* "": none */
};

struct gwi_sign_header {
    const char *name; /* lower case */
    const char *value;
};

struct gwi_sign_request {
    const char *method;
    const char *path;                      /* encoded: gwi_sign_encode */
    const char *query;                     /* encoded, parameters in order; "": none */
    const struct gwi_sign_header *headers; /* in order of their names, x-amz-date among them */
    uint32_t headers_count;
    const char *payload_hash;
};

/* Unix time as x-amz-date wants it. */
void gwi_sign_time(int64_t seconds, char out[GWI_SIGN_TIME_BYTES]);
void gwi_sign_hash(const void *bytes, size_t n, char out[GWI_SIGN_HASH_BYTES]);
/* All but A-Z a-z 0-9 - . _ ~ (and / if it is kept) as %XX. GW_E_TOO_LARGE: no room. */
GW_MUST_USE enum gw_status gwi_sign_encode(const char *text, bool keep_slash, char *out,
                                           size_t room);
/* The value of the Authorization header. GW_E_TOO_LARGE: no room. */
GW_MUST_USE enum gw_status gwi_sign(const struct gwi_sign_key *key,
                                    const struct gwi_sign_request *request,
                                    const char time[GWI_SIGN_TIME_BYTES], char *out, size_t room);
#endif
