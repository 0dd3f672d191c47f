/* Goal: no bytes that an object store answers with make the code that judges them read outside of
 * them, hand out a name that is none of ours, or go on for ever.
 * How: the first bytes choose request and status, the rest is the body. */
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "tiering/blob_s3.h"
#include "tiering/blob_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What a list found: names of ours with the prefix, behind `after`, rising. */
static void check_found(const struct gwi_blob_call *call)
{
    const char *before = call->after;
    uint32_t count = 0;
    for (size_t at = 0; at < call->found_bytes; count++) {
        const char *name = (const char *)call->found + at + 8;
        if (!gwi_blob_name_valid(name) || strcmp(name, before) <= 0 ||
            strncmp(name, call->name, strlen(call->name)) != 0)
            abort();
        before = name;
        at += 8 + strlen(name) + 1;
    }
    if (count != call->found_count || count > GWI_BLOB_LIST_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const long statuses[] = {200, 206, 204, 301, 400, 403, 404, 416, 500, 503, 507, 0};
    if (n < 4)
        return 0;
    static struct gwi_s3_store store;
    char text[GW_BLOB_TEXT_BYTES];
    memset(&store, 0, sizeof store);
    strcpy(store.config.bucket, "b");
    strcpy(store.config.prefix, data[3] & 1 ? "p/" : "");
    strcpy(store.config.host, "h");
    struct gwi_blob_call call = {.kind = (enum gwi_blob_kind)(data[0] % 4),
                                 .name = data[3] & 2                    ? "a"
                                         : data[0] % 4 == GWI_BLOB_LIST ? ""
                                                                        : "k",
                                 .after = data[3] & 4 ? "a" : "",
                                 .bytes = data[2]};
    size_t left = n - 4;
    uint8_t *body = malloc(left ? left : 1); /* of just that size */
    if (!body)
        return 0;
    memcpy(body, data + 4, left);
    struct gwi_s3_answer answer = {.status = statuses[data[1] % 12],
                                   .body = body,
                                   .bytes = left,
                                   .announced = data[3] & 8 ? (int64_t)left : -1,
                                   .has_range = data[3] & 16,
                                   .range_last = left ? left - 1 : 0,
                                   .range_total = left,
                                   .date = data[3] & 32 ? (int64_t)data[2] << 20 : -1};
    struct gwi_blob_result result = {0};
    gwi_s3_judge(&store, &call, &answer, 1000, &result, text);
    if (!memchr(text, 0, sizeof text))
        abort();
    if (result.outcome == GWI_BLOB_DONE && call.kind == GWI_BLOB_GET &&
        (result.bytes > left || (call.bytes && result.bytes > call.bytes && answer.status == 206)))
        abort();
    if (call.kind == GWI_BLOB_LIST)
        check_found(&call);
    if (result.outcome >= GWI_BLOB_AGAIN && !text[0])
        abort(); /* a failure without a word */
    free(call.found);
    free(call.token);
    free(body);
    return 0;
}
