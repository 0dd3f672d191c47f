/* AWS Signature Version 4: canonical request, string to sign, signing key, signature. */
#include "tiering/blob_sign.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "index/base/assert.h"

#define HASH 32u

struct text {
    char *at;
    size_t room, used;
    bool full;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->at + t->used, t->room - t->used, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= t->room - t->used)
        t->full = true;
    else
        t->used += (size_t)n;
}

static void hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = 0;
}

static void hmac(const void *key, size_t key_bytes, const char *text, uint8_t out[HASH])
{
    unsigned n = HASH;
    const uint8_t *done =
        HMAC(EVP_sha256(), key, (int)key_bytes, (const uint8_t *)text, strlen(text), out, &n);
    GW_ASSERT(done && n == HASH);
}

void gwi_sign_time(int64_t seconds, char out[GWI_SIGN_TIME_BYTES])
{
    time_t at = (time_t)seconds;
    struct tm tm;
    GW_ASSERT(gmtime_r(&at, &tm));
    size_t n = strftime(out, GWI_SIGN_TIME_BYTES, "%Y%m%dT%H%M%SZ", &tm);
    GW_ASSERT(n == GWI_SIGN_TIME_BYTES - 1);
}

void gwi_sign_hash(const void *bytes, size_t n, char out[GWI_SIGN_HASH_BYTES])
{
    uint8_t hash[HASH];
    unsigned got = HASH;
    int ok = EVP_Digest(n ? bytes : "", n, hash, &got, EVP_sha256(), NULL);
    GW_ASSERT(ok == 1 && got == HASH);
    hex(hash, HASH, out);
}

enum gw_status gwi_sign_encode(const char *text, bool keep_slash, char *out, size_t room)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t at = 0;
    for (; *text; text++) {
        uint8_t c = (uint8_t)*text;
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash);
        if (at + (plain ? 1 : 3) >= room)
            return GW_E_TOO_LARGE;
        if (plain) {
            out[at++] = (char)c;
        } else {
            out[at++] = '%';
            out[at++] = digits[c >> 4];
            out[at++] = digits[c & 15];
        }
    }
    if (room == 0)
        return GW_E_TOO_LARGE;
    out[at] = 0;
    return GW_OK;
}

/* A value without spaces at its ends, and with one where there are several. */
static void add_trimmed(struct text *t, const char *value)
{
    while (*value == ' ')
        value++;
    for (; *value; value++)
        if (*value != ' ' || (value[1] != ' ' && value[1] != 0))
            add(t, "%c", *value);
}

static void add_names(struct text *t, const struct gwi_sign_request *request)
{
    for (uint32_t i = 0; i < request->headers_count; i++)
        add(t, "%s%s", i ? ";" : "", request->headers[i].name);
}

enum gw_status gwi_sign(const struct gwi_sign_key *key, const struct gwi_sign_request *request,
                        const char time[GWI_SIGN_TIME_BYTES], char *out, size_t room)
{
    char canonical[GWI_SIGN_HEADERS_BYTES * 2];
    struct text t = {.at = canonical, .room = sizeof canonical};
    add(&t, "%s\n%s\n%s\n", request->method, request->path, request->query);
    for (uint32_t i = 0; i < request->headers_count; i++) {
        GW_ASSERT(i == 0 || strcmp(request->headers[i - 1].name, request->headers[i].name) < 0);
        add(&t, "%s:", request->headers[i].name);
        add_trimmed(&t, request->headers[i].value);
        add(&t, "\n");
    }
    add(&t, "\n");
    add_names(&t, request);
    add(&t, "\n%s", request->payload_hash);
    if (t.full)
        return GW_E_TOO_LARGE;

    char hash[GWI_SIGN_HASH_BYTES], scope[128], to_sign[512];
    gwi_sign_hash(canonical, t.used, hash);
    snprintf(scope, sizeof scope, "%.8s/%s/s3/aws4_request", time, key->region);
    snprintf(to_sign, sizeof to_sign, "AWS4-HMAC-SHA256\n%s\n%s\n%s", time, scope, hash);

    char first[sizeof key->secret + 8], date[9];
    uint8_t derived[HASH], signature[HASH];
    int n = snprintf(first, sizeof first, "AWS4%s", key->secret);
    snprintf(date, sizeof date, "%.8s", time);
    hmac(first, (size_t)n, date, derived);
    hmac(derived, HASH, key->region, derived);
    hmac(derived, HASH, "s3", derived);
    hmac(derived, HASH, "aws4_request", derived);
    hmac(derived, HASH, to_sign, signature);
    OPENSSL_cleanse(first, sizeof first);
    OPENSSL_cleanse(derived, sizeof derived);

    struct text result = {.at = out, .room = room};
    hex(signature, HASH, hash);
    add(&result, "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=", key->access, scope);
    add_names(&result, request);
    add(&result, ",Signature=%s", hash);
    return result.full ? GW_E_TOO_LARGE : GW_OK;
}
