/* The tries of an S3 store: one curl multi handle, one easy handle a try, HTTP/1.1.
 *
 * Rules:
 *  1. Requests are made anew for each try, because their date is part of the signature.
 *  2. The payload is hashed only where nothing else vouches for it (http): by the caller's thread,
 *     once, not by the thread that answers cold reads. Over TLS it is UNSIGNED-PAYLOAD. Its CRC32C
 *     goes with it in any case (x-amz-checksum-crc32c): who knows that header checks it.
 *  3. A body is never longer in memory than what was asked for: a range's bytes, a list's page, the
 *     begin of an error; a whole object grows as it comes, whatever length is announced.
 *  4. HTTP/2 would put a hedge on the connection of what it is to overtake, so it is not used; a
 *     hedge and a try after a failure take a new connection.
 */
#include "tiering/blob_s3.h"

#include <curl/curl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"
#include "index/base/checksum.h"
#include "index/base/clock.h"

#define ERROR_BODY_BYTES ((size_t)64 << 10)
#define LIST_BODY_BYTES  ((size_t)8 << 20)
#define URL_BYTES        16384u
#define IDLE_HANDLES     GW_BLOB_REQUESTS_MAX
#define HEADERS          8u

struct s3_backend;

struct s3_try {
    struct gwi_blob_try base;
    struct s3_backend *backend;
    struct s3_try *next, *prev;
    CURL *easy;
    struct curl_slist *headers;
    size_t sent; /* of the put's data */
    uint64_t up; /* the same, also after a rewind */
    uint8_t *body;
    size_t body_bytes, body_room, body_max;
    struct gwi_s3_answer answer;
    char error[CURL_ERROR_SIZE];
};

struct s3_backend {
    struct gwi_blob_backend base;
    struct gwi_s3_store store;
    CURLM *multi;
    CURL *idle[IDLE_HANDLES];
    uint32_t idle_count;
    uint64_t timeout_ns;
    const char *ca_bundle; /* borrowed from the environment; NULL: the system's */
};

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static int64_t wall_s(void)
{
    return (int64_t)(gw_clock_wall_ms(gw_clock_system()) / 1000);
}

/* ---- what curl calls ---- */

static bool answered_well(const struct s3_try *t)
{
    return t->answer.status >= 200 && t->answer.status < 300;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct s3_try *t = arg;
    size_t n = size * count;
    t->base.moved_ns = now_ns();
    size_t most = answered_well(t) ? t->body_max : ERROR_BODY_BYTES;
    if (n > most - t->body_bytes) {
        t->answer.cut = true;
        return CURL_WRITEFUNC_ERROR;
    }
    if (t->body_bytes + n > t->body_room) {
        size_t room = t->body_room ? t->body_room * 2 : (size_t)64 << 10;
        if (t->body_room == 0 && t->answer.announced > 0 && t->base.call->bytes > 0)
            room = t->base.call->bytes; /* what we asked for, so what we have room for */
        room = room < t->body_bytes + n ? t->body_bytes + n : room;
        room = room > most ? most : room;
        uint8_t *body = realloc(t->body, room);
        if (!body)
            return CURL_WRITEFUNC_ERROR;
        t->body = body;
        t->body_room = room;
    }
    memcpy(t->body + t->body_bytes, data, n);
    t->body_bytes += n;
    return n;
}

static bool header_is(const char *line, size_t n, const char *name, char value[256])
{
    size_t name_bytes = strlen(name);
    if (n <= name_bytes || strncasecmp(line, name, name_bytes) != 0 || line[name_bytes] != ':')
        return false;
    const char *at = line + name_bytes + 1, *end = line + n;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
        end--;
    size_t bytes = (size_t)(end - at);
    if (bytes > 255)
        return false;
    memcpy(value, at, bytes);
    value[bytes] = 0;
    return true;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    struct s3_try *t = arg;
    struct gwi_s3_answer *a = &t->answer;
    size_t n = size * count;
    char value[256];
    t->base.moved_ns = now_ns();
    if (n > 5 && memcmp(line, "HTTP/", 5) == 0) {
        long status = 0;
        curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
        *a = (struct gwi_s3_answer){.status = status, .announced = -1, .date = -1};
        if (status >= 200)
            t->base.answered_ns = t->base.moved_ns;
    } else if (header_is(line, n, "content-length", value)) {
        size_t digits = strspn(value, "0123456789");
        if (digits > 0 && digits <= 18 && value[digits] == 0)
            a->announced = (int64_t)strtoull(value, NULL, 10);
    } else if (header_is(line, n, "content-range", value)) {
        unsigned long long first, last, total;
        int end = 0;
        a->has_range =
            sscanf(value, "bytes %18llu-%18llu/%18llu%n", &first, &last, &total, &end) == 3 &&
            value[end] == 0 && first <= last && last < total;
        if (a->has_range) {
            a->range_first = first;
            a->range_last = last;
            a->range_total = total;
        }
    } else if (header_is(line, n, "date", value)) {
        a->date = (int64_t)curl_getdate(value, NULL);
    } else if (header_is(line, n, "x-amz-bucket-region", value)) {
        size_t good = strspn(value, "abcdefghijklmnopqrstuvwxyz0123456789-");
        if (value[good] == 0)
            snprintf(a->region, sizeof a->region, "%.63s", value);
    }
    return n;
}

static size_t on_send(char *room, size_t size, size_t count, void *arg)
{
    struct s3_try *t = arg;
    const struct gwi_blob_call *call = t->base.call;
    size_t n = size * count, left = call->bytes - t->sent;
    n = n < left ? n : left;
    memcpy(room, call->data + t->sent, n);
    t->sent += n;
    t->up += n;
    t->base.moved_ns = now_ns();
    return n;
}

/* A connection that was kept open turned out to be closed: curl begins anew on another one. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct s3_try *t = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->base.call->bytes)
        return CURL_SEEKFUNC_CANTSEEK;
    t->sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* ---- requests ---- */

static bool append(char *url, size_t *used, const char *name, const char *value)
{
    char encoded[URL_BYTES];
    if (gwi_sign_encode(value, false, encoded, sizeof encoded) != GW_OK)
        return false;
    int n = snprintf(url + *used, URL_BYTES - *used, "%s%s=%s", *used ? "&" : "", name, encoded);
    if (n < 0 || (size_t)n >= URL_BYTES - *used)
        return false;
    *used += (size_t)n;
    return true;
}

/* Path and query, encoded; the parameters in order. */
static bool resource(const struct s3_backend *s3, const struct gwi_blob_call *call,
                     char path[URL_BYTES], char query[URL_BYTES])
{
    const struct gwi_s3_config *config = &s3->store.config;
    char plain[GWI_BLOB_KEY_MAX + GW_BLOB_URL_MAX + 260];
    bool list = call->kind == GWI_BLOB_LIST;
    size_t used = 0;
    query[0] = 0;
    snprintf(plain, sizeof plain, list ? "/%s" : "/%s/%s%s", config->bucket, config->prefix,
             call->name);
    if (gwi_sign_encode(plain, true, path, URL_BYTES) != GW_OK)
        return false;
    if (!list)
        return true;
    if (call->token && !append(query, &used, "continuation-token", call->token))
        return false;
    if (!append(query, &used, "list-type", "2") || !append(query, &used, "max-keys", "1000"))
        return false;
    snprintf(plain, sizeof plain, "%s%s", config->prefix, call->name);
    if (!append(query, &used, "prefix", plain))
        return false;
    snprintf(plain, sizeof plain, "%s%s", config->prefix, call->after);
    return call->token || !call->after[0] || append(query, &used, "start-after", plain);
}

static bool add_header(struct s3_try *t, const char *name, const char *value)
{
    char line[GWI_SIGN_HEADERS_BYTES + 256];
    int n = snprintf(line, sizeof line, "%s: %s", name, value);
    if (n < 0 || (size_t)n >= sizeof line)
        return false;
    struct curl_slist *more = curl_slist_append(t->headers, line);
    if (!more)
        return false;
    t->headers = more;
    return true;
}

/* Headers that curl would add and nobody needs. */
static bool remove_header(struct s3_try *t, const char *line)
{
    struct curl_slist *more = curl_slist_append(t->headers, line);
    if (!more)
        return false;
    t->headers = more;
    return true;
}

static const char *method(const struct gwi_blob_call *call)
{
    return call->kind == GWI_BLOB_PUT ? "PUT" : call->kind == GWI_BLOB_DELETE ? "DELETE" : "GET";
}

/* Rule 1. */
static bool sign(struct s3_backend *s3, struct s3_try *t, const char *path, const char *query)
{
    const struct gwi_blob_call *call = t->base.call;
    const struct gwi_s3_config *config = &s3->store.config;
    char time[GWI_SIGN_TIME_BYTES], empty[GWI_SIGN_HASH_BYTES], range[64], crc[16];
    char authorization[1024];
    const char *hash = GWI_SIGN_UNSIGNED;
    struct gwi_sign_header headers[HEADERS];
    uint32_t count = 0;
    gwi_sign_time(wall_s() + s3->store.clock_ahead_s, time);
    if (call->payload_hash[0]) {
        hash = call->payload_hash;
    } else if (call->kind != GWI_BLOB_PUT) {
        gwi_sign_hash("", 0, empty);
        hash = empty;
    }
    headers[count++] = (struct gwi_sign_header){"host", config->host};
    if (call->kind == GWI_BLOB_GET && call->bytes > 0) {
        snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)call->offset,
                 (unsigned long long)(call->offset + call->bytes - 1));
        headers[count++] = (struct gwi_sign_header){"range", range};
    }
    if (call->kind == GWI_BLOB_PUT) {
        const uint8_t big[4] = {(uint8_t)(call->payload_crc >> 24),
                                (uint8_t)(call->payload_crc >> 16),
                                (uint8_t)(call->payload_crc >> 8), (uint8_t)call->payload_crc};
        EVP_EncodeBlock((uint8_t *)crc, big, sizeof big);
        headers[count++] = (struct gwi_sign_header){"x-amz-checksum-crc32c", crc};
    }
    headers[count++] = (struct gwi_sign_header){"x-amz-content-sha256", hash};
    headers[count++] = (struct gwi_sign_header){"x-amz-date", time};
    if (config->key.token[0])
        headers[count++] = (struct gwi_sign_header){"x-amz-security-token", config->key.token};

    const struct gwi_sign_request request = {method(call), path, query, headers, count, hash};
    if (gwi_sign(&config->key, &request, time, authorization, sizeof authorization) != GW_OK)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!add_header(t, headers[i].name, headers[i].value))
            return false;
    return add_header(t, "Authorization", authorization) && remove_header(t, "Expect:") &&
           remove_header(t, "Accept:") && remove_header(t, "Content-Type:");
}

#define SET(option, value) (ok = ok && curl_easy_setopt(t->easy, (option), (value)) == CURLE_OK)

static bool configure(struct s3_backend *s3, struct s3_try *t, const char *url, bool fresh)
{
    const struct gwi_blob_call *call = t->base.call;
    long timeout_ms = (long)(s3->timeout_ns / 1000000);
    bool ok = true;
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* rule 4 */
    SET(CURLOPT_FRESH_CONNECT, fresh ? 1L : 0L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, timeout_ms > 0 ? timeout_ms : 1L);
    SET(CURLOPT_BUFFERSIZE, 256L << 10);
    SET(CURLOPT_HTTPHEADER, t->headers);
    SET(CURLOPT_ERRORBUFFER, t->error);
    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, t);
    if (s3->ca_bundle)
        SET(CURLOPT_CAINFO, s3->ca_bundle);
    if (call->kind == GWI_BLOB_PUT) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)call->bytes);
        SET(CURLOPT_READFUNCTION, on_send);
        SET(CURLOPT_READDATA, t);
        SET(CURLOPT_SEEKFUNCTION, on_seek);
        SET(CURLOPT_SEEKDATA, t);
    } else if (call->kind == GWI_BLOB_DELETE) {
        SET(CURLOPT_CUSTOMREQUEST, "DELETE");
    }
    return ok;
}

static void try_free(struct s3_backend *s3, struct s3_try *t)
{
    if (t->easy) {
        curl_easy_reset(t->easy);
        if (s3->idle_count < IDLE_HANDLES)
            s3->idle[s3->idle_count++] = t->easy;
        else
            curl_easy_cleanup(t->easy);
    }
    curl_slist_free_all(t->headers);
    free(t->body);
    free(t);
}

static enum gw_status s3_begin(struct gwi_blob_backend *backend, struct gwi_blob_call *call,
                               bool fresh, struct gwi_blob_try **out)
{
    struct s3_backend *s3 = (struct s3_backend *)backend;
    char path[URL_BYTES], query[URL_BYTES], url[2 * URL_BYTES + GW_BLOB_URL_MAX + 8];
    struct s3_try *t = calloc(1, sizeof *t);
    if (!t)
        return GW_E_NOMEM;
    t->backend = s3;
    t->base.call = call;
    t->answer = (struct gwi_s3_answer){.announced = -1, .date = -1};
    t->body_max = call->kind == GWI_BLOB_GET    ? call->bytes ? call->bytes : GWI_BLOB_BODY_MAX
                  : call->kind == GWI_BLOB_LIST ? LIST_BODY_BYTES
                                                : ERROR_BODY_BYTES;
    t->easy = s3->idle_count > 0 ? s3->idle[--s3->idle_count] : curl_easy_init();
    if (!t->easy || !resource(s3, call, path, query) || !sign(s3, t, path, query))
        goto fail;
    snprintf(url, sizeof url, "%s%s%s%s", s3->store.config.endpoint, path, query[0] ? "?" : "",
             query);
    if (!configure(s3, t, url, fresh) || curl_multi_add_handle(s3->multi, t->easy) != CURLM_OK)
        goto fail;
    *out = &t->base;
    return GW_OK;

fail:
    try_free(s3, t);
    return GW_E_NOMEM;
}

static uint64_t down_bytes(const struct s3_try *t)
{
    return t->body_bytes;
}

static void s3_cancel(struct gwi_blob_backend *backend, struct gwi_blob_try *try_, uint64_t *up,
                      uint64_t *down)
{
    struct s3_backend *s3 = (struct s3_backend *)backend;
    struct s3_try *t = (struct s3_try *)try_;
    *up = t->up;
    *down = down_bytes(t);
    curl_multi_remove_handle(s3->multi, t->easy);
    try_free(s3, t);
}

static void s3_prepare(struct gwi_blob_backend *backend, struct gwi_blob_call *call) /* rule 2 */
{
    const struct s3_backend *s3 = (struct s3_backend *)backend;
    if (call->kind != GWI_BLOB_PUT)
        return;
    call->payload_crc = gw_crc32c(0, call->data, call->bytes);
    if (!s3->store.config.tls)
        gwi_sign_hash(call->data, call->bytes, call->payload_hash);
}

/* ---- answers ---- */

static bool is_certificate(CURLcode code)
{
    return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_SSL_ISSUER_ERROR || code == CURLE_SSL_INVALIDCERTSTATUS;
}

static void ended(struct s3_backend *s3, struct s3_try *t, CURLcode code)
{
    struct gwi_s3_answer *a = &t->answer;
    char text[GW_BLOB_TEXT_BYTES], transport[GW_BLOB_TEXT_BYTES];
    const char *detail = t->error[0] ? t->error : curl_easy_strerror(code);
    a->body = t->body;
    a->bytes = t->body_bytes;
    /* What we refused to read says more than that curl was told to end; an error's code counts
     * although its page was too long or was cut. */
    bool judged = code == CURLE_OK || (a->cut && code == CURLE_WRITE_ERROR) ||
                  (a->status >= 300 && t->body_bytes > 0);
    if (!judged) {
        if (code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST)
            snprintf(transport, sizeof transport, "no connection: %.120s; is it up?", detail);
        else if (code == CURLE_PARTIAL_FILE)
            snprintf(transport, sizeof transport, "the answer was cut: %.120s", detail);
        else if (code == CURLE_OPERATION_TIMEDOUT)
            snprintf(transport, sizeof transport, "it does not answer: %.120s", detail);
        else if (is_certificate(code))
            snprintf(transport, sizeof transport,
                     "its certificate is not trusted: %.100s; set AWS_CA_BUNDLE", detail);
        else
            snprintf(transport, sizeof transport, "the connection broke: %.120s", detail);
        a->transport = transport;
        a->hopeless = is_certificate(code);
    }
    struct gwi_blob_result result = {.up = t->up, .down = down_bytes(t)};
    gwi_s3_judge(&s3->store, t->base.call, a, wall_s(), &result, text);
    s3->base.clock_ahead_s = s3->store.clock_ahead_s;
    gwi_blob_ended(s3->base.blob, &t->base, &result);
    try_free(s3, t);
}

static void s3_run(struct gwi_blob_backend *backend, uint64_t wait_ns)
{
    struct s3_backend *s3 = (struct s3_backend *)backend;
    int running, left;
    CURLMsg *message;
    curl_multi_perform(s3->multi, &running);
    bool any = false;
    while ((message = curl_multi_info_read(s3->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE)
            continue;
        /* The message dies with the handle's removal. */
        CURLcode code = message->data.result;
        CURL *easy = message->easy_handle;
        char *private;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
        curl_multi_remove_handle(s3->multi, easy);
        ended(s3, (struct s3_try *)private, code);
        any = true;
    }
    if (any)
        return; /* there may be room for others */
    int ms = wait_ns >= UINT64_C(1000000000) ? 1000 : (int)((wait_ns + 999999) / 1000000);
    curl_multi_poll(s3->multi, NULL, 0, ms, NULL);
}

static void s3_wake(struct gwi_blob_backend *backend)
{
    curl_multi_wakeup(((struct s3_backend *)backend)->multi);
}

static void s3_close(struct gwi_blob_backend *backend)
{
    struct s3_backend *s3 = (struct s3_backend *)backend;
    while (s3->idle_count > 0)
        curl_easy_cleanup(s3->idle[--s3->idle_count]);
    curl_multi_cleanup(s3->multi);
    OPENSSL_cleanse(&s3->store.config.key, sizeof s3->store.config.key);
    free(s3);
}

static const struct gwi_blob_ops s3_ops = {
    .prepare = s3_prepare,
    .begin = s3_begin,
    .cancel = s3_cancel,
    .run = s3_run,
    .wake = s3_wake,
    .close = s3_close,
};

static CURLcode curl_ready = CURLE_FAILED_INIT;

static void init_curl(void)
{
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

enum gw_status gwi_blob_s3_open(const char *rest, const struct gw_blob_options *options,
                                struct gwi_blob_backend **out, char *error, size_t error_bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct s3_backend *s3 = calloc(1, sizeof *s3);
    enum gw_status st = GW_E_NOMEM;
    if (!s3)
        goto no_memory;
    st = gwi_s3_config(rest, &s3->store.config, error, error_bytes);
    if (st != GW_OK)
        goto fail;
    pthread_once(&once, init_curl);
    s3->multi = curl_ready == CURLE_OK ? curl_multi_init() : NULL;
    st = GW_E_NOMEM;
    if (!s3->multi)
        goto no_memory;
    curl_multi_setopt(s3->multi, CURLMOPT_MAXCONNECTS, (long)options->requests_max);
    s3->timeout_ns = options->request_timeout_ns;
    const char *ca_bundle = getenv("AWS_CA_BUNDLE");
    s3->ca_bundle = ca_bundle && ca_bundle[0] ? ca_bundle : NULL;
    s3->base.ops = &s3_ops;
    s3->base.requests_max = options->requests_max;
    s3->base.puts_max = options->requests_max < 4 ? 1 : options->requests_max * 3 / 4;
    s3->base.hedges = true;
    snprintf(s3->base.host, sizeof s3->base.host, "%.127s", s3->store.config.host);
    *out = &s3->base;
    return GW_OK;

no_memory:
    snprintf(error, error_bytes, "out of memory for the object store");
fail:
    free(s3);
    return st;
}
