/* blob_s3.h - one HTTP answer of an S3 store, judged. What it means is decided in blob_s3_answer.c,
 * apart from how it came. Layer: tiering, internal. */
#ifndef GW_TIERING_BLOB_S3_H
#define GW_TIERING_BLOB_S3_H

#include "tiering/blob_internal.h"
#include "tiering/blob_s3_config.h"

struct gwi_s3_answer {
    long status;           /* 0: no answer */
    const char *transport; /* what went wrong below HTTP; NULL: nothing */
    bool hopeless;         /* and whether that needs somebody (a certificate) */
    const uint8_t *body;
    size_t bytes;
    bool cut;          /* the body was longer than what could be wanted */
    int64_t announced; /* Content-Length; -1: none */
    bool has_range;    /* Content-Range: first-last/total */
    uint64_t range_first, range_last, range_total;
    int64_t date;    /* Unix time, -1: none */
    char region[64]; /* x-amz-bucket-region; "": none */
};

/* What the store is told in, for the judgement. */
struct gwi_s3_store {
    struct gwi_s3_config config;
    int64_t clock_ahead_s; /* theirs before ours; followed */
};

/* The result but for `up` and `down`; text: GW_BLOB_TEXT_BYTES. Takes a list's page into the call,
 * follows the clock. now_s: our Unix time. */
void gwi_s3_judge(struct gwi_s3_store *store, struct gwi_blob_call *call,
                  const struct gwi_s3_answer *answer, int64_t now_s, struct gwi_blob_result *result,
                  char *text);
#endif
