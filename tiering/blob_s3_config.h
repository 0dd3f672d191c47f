/* blob_s3_config.h - where an S3 store is and who we are there: the URL, the environment, the
 * credentials file. Layer: tiering, internal. */
#ifndef GW_TIERING_BLOB_S3_CONFIG_H
#define GW_TIERING_BLOB_S3_CONFIG_H

#include "tiering/blob.h"
#include "tiering/blob_sign.h"

struct gwi_s3_config {
    char bucket[256];
    char prefix[GW_BLOB_URL_MAX + 2];   /* "" or with a slash at its end */
    char endpoint[GW_BLOB_URL_MAX + 1]; /* scheme and authority, no slash at the end */
    char host[GW_BLOB_URL_MAX + 1];     /* the authority: the Host header */
    bool tls;
    bool from_file; /* the key: it may change there */
    struct gwi_sign_key key;
};

/* `rest`: behind "s3://". GW_E_INVALID, GW_E_REFUSED (no credentials); `error` says why. */
GW_MUST_USE enum gw_status gwi_s3_config(const char *rest, struct gwi_s3_config *out, char *error,
                                         size_t error_bytes);
/* Reads the credentials anew, region apart: environment, else file. GW_E_REFUSED: *key is
 * unchanged. */
GW_MUST_USE enum gw_status gwi_s3_credentials(struct gwi_sign_key *key, bool *from_file,
                                              char *error, size_t error_bytes);
#endif
