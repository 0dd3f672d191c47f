/* blob.h - an object store as the shared tier sees it: whole objects put, parts of them got, names
 * listed, objects deleted. Two kinds: S3 (path style, SigV4, libcurl) and a directory.
 *
 * All work is done by one thread of the store's own (S3: a curl multi handle; a directory: plain
 * calls, which may take as long as the file system does). Nobody who calls waits: each call is
 * queued, and ends with exactly one callback on that thread, gw_blob_close included
 * (GW_E_CANCELLED). A callback must not block and must not call gw_blob_close.
 *
 * Every request is tried again, with jittered exponential backoff, as long as its deadline allows
 * and the failure may pass by itself (no connection, a connection cut, 408, 429, 5xx, a body
 * shorter than announced). What will not pass (403, 404 of the bucket, a wrong signature) is tried
 * again only after GW_BLOB_HOPELESS_NS, so that a mended configuration is noticed. Puts are
 * idempotent: the same name always means the same bytes. A get that has not answered within the
 * hedge delay (a multiple of the recent median, measured) is asked a second time, and the first
 * answer wins. A server's clock that differs (RequestTimeTooSkewed) is followed: the difference is
 * taken from its Date header, applied, and said.
 * Thread rule: any thread, open and close apart. Layer: tiering. */
#ifndef GW_TIERING_BLOB_H
#define GW_TIERING_BLOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"

/* Bytes of a name. Names are [A-Za-z0-9._/-]; parts between slashes are not empty and do not begin
 * with a dot. */
#define GW_BLOB_NAME_MAX     255u
#define GW_BLOB_URL_MAX      1023u
#define GW_BLOB_TEXT_BYTES   256u
#define GW_BLOB_REQUESTS_MAX 64u /* under way at the object store at the same time */
#define GW_BLOB_QUEUE_MAX    4096u
#define GW_BLOB_DEADLINE_NS  UINT64_C(30000000000)
#define GW_BLOB_HOPELESS_NS  UINT64_C(5000000000)

struct gw_blob;

/* Zero: the default in brackets. */
struct gw_blob_options {
    /* "dir:PATH": a directory that all servers of the cluster share; it must be there.
     * "s3://BUCKET[/PREFIX][?endpoint=http://HOST:PORT&region=REGION]". Credentials:
     * AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, else the profile AWS_PROFILE
     * [default] of AWS_SHARED_CREDENTIALS_FILE [~/.aws/credentials]. region: AWS_REGION,
     * AWS_DEFAULT_REGION [us-east-1]. endpoint: AWS_ENDPOINT_URL [https://s3.REGION.amazonaws.com].
     */
    const char *url;
    uint64_t request_timeout_ns; /* one try without a byte moving [5 s] */
    uint64_t backoff_first_ns;   /* [50 ms], doubling up to 5 s, each times 0.5 to 1.5 */
    uint32_t requests_max;       /* [16] */
};

/* Counters since open; health as of now. */
struct gw_blob_stats {
    uint64_t puts, gets, lists, deletes; /* requests sent, tries included: what is paid for */
    uint64_t retries, hedges, hedges_won, failures; /* failures: calls that ended with one */
    uint64_t bytes_up, bytes_down;                  /* bodies, tries included */
    uint32_t queued, under_way;
    bool healthy;                     /* the last try that ended was answered as hoped */
    uint64_t unhealthy_since_ms;      /* Unix time; 0: healthy */
    int64_t clock_ahead_s;            /* its clock, of ours, if that had to be followed */
    char trouble[GW_BLOB_TEXT_BYTES]; /* the last failure in words: host, code, and what to look at
                                       */
};

/* Checks the URL and the credentials' form, not whether anybody answers: a server starts while its
 * object store is away. GW_E_INVALID, GW_E_REFUSED (no credentials; not a directory), GW_E_NOMEM;
 * `error` is a sentence that names what is wrong. */
GW_MUST_USE enum gw_status gw_blob_open(const struct gw_blob_options *options, struct gw_blob **out,
                                        char *error, size_t error_bytes);
/* Ends what is under way. NULL is ignored. */
void gw_blob_close(struct gw_blob *blob);

/* status: GW_OK; GW_NOT_FOUND (no such object); GW_E_TIMEOUT (the deadline; the last failure is in
 * the statistics); GW_E_REFUSED (403, no such bucket, and what else does not pass by itself, when
 * the deadline leaves no other try); GW_E_LIMIT (delete and put: the store or disk is full);
 * GW_E_CANCELLED. data: of a get, good until the callback returns; bytes: got, fewer than asked for
 * only where the object ends. */
typedef void (*gw_blob_cb)(void *ctx, enum gw_status status, const uint8_t *data, size_t bytes);

/* deadline_ns: from now, 0: GW_BLOB_DEADLINE_NS, UINT64_MAX: none. All give GW_OK (a callback
 * follows), GW_WOULD_BLOCK (the queue is full, or closing), GW_E_INVALID (a name), GW_E_NOMEM. */
/* `data` is borrowed until the callback. Over http its SHA-256 is made by the caller's thread (some
 * ms for each 10 MiB), over https only its CRC32C. */
GW_MUST_USE enum gw_status gw_blob_put(struct gw_blob *blob, const char *name, const void *data,
                                       size_t bytes, uint64_t deadline_ns, gw_blob_cb cb,
                                       void *ctx);
/* bytes 0: the whole object (offset 0). An offset at or behind its end: GW_OK, no bytes. */
GW_MUST_USE enum gw_status gw_blob_get(struct gw_blob *blob, const char *name, uint64_t offset,
                                       size_t bytes, uint64_t deadline_ns, gw_blob_cb cb,
                                       void *ctx);
/* An object that is not there is deleted already: GW_OK. */
GW_MUST_USE enum gw_status gw_blob_delete(struct gw_blob *blob, const char *name,
                                          uint64_t deadline_ns, gw_blob_cb cb, void *ctx);
/* Names that begin with `prefix` and come behind `after` ("" : from the first), in order. The
 * callback's data: for each u64 size and the name with its zero byte; at most 1000 a call, none
 * left when there are fewer. */
GW_MUST_USE enum gw_status gw_blob_list(struct gw_blob *blob, const char *prefix, const char *after,
                                        uint64_t deadline_ns, gw_blob_cb cb, void *ctx);

void gw_blob_stats(struct gw_blob *blob, struct gw_blob_stats *out);
#endif
