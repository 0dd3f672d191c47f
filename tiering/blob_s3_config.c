/* The URL of an S3 store, the environment, and the credentials file. */
#include "tiering/blob_s3_config.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiering/blob_internal.h"

#define LINE_BYTES (GWI_SIGN_TOKEN_MAX + 256u)
#define PATH_BYTES 4096u

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

static bool copy(char *out, size_t room, const char *text)
{
    size_t n = strlen(text);
    if (n >= room)
        return false;
    memcpy(out, text, n + 1);
    return true;
}

/* What may stand in a header without changing it. */
static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text >= 127)
            return false;
    return true;
}

/* ---- credentials ---- */

static char *trim(char *text)
{
    while (*text == ' ' || *text == '\t')
        text++;
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r\n", text[n - 1]))
        text[--n] = 0;
    return text;
}

/* The lines of [profile]; false: a value is too long or not plain. */
static bool read_profile(FILE *file, const char *profile, struct gwi_sign_key *key)
{
    char line[LINE_BYTES];
    bool ours = false, good = true, whole = true;
    while (good && fgets(line, sizeof line, file)) {
        bool begins = whole;
        whole = strchr(line, '\n') != NULL;
        char *text = trim(line), *equals;
        if (!begins || text[0] == '#' || text[0] == ';')
            continue;
        if (text[0] == '[') {
            size_t n = strlen(text);
            if (text[n - 1] == ']')
                text[n - 1] = 0;
            ours = strcmp(trim(text + 1), profile) == 0;
            continue;
        }
        if (!ours || (equals = strchr(text, '=')) == NULL)
            continue;
        *equals = 0;
        const char *name = trim(text), *value = trim(equals + 1);
        if (strcmp(name, "aws_access_key_id") == 0)
            good = copy(key->access, sizeof key->access, value) && is_plain(value);
        else if (strcmp(name, "aws_secret_access_key") == 0)
            good = copy(key->secret, sizeof key->secret, value) && is_plain(value);
        else if (strcmp(name, "aws_session_token") == 0)
            good = copy(key->token, sizeof key->token, value) && is_plain(value);
    }
    OPENSSL_cleanse(line, sizeof line);
    return good;
}

static enum gw_status from_file(struct gwi_sign_key *key, char *error, size_t error_bytes)
{
    char path[PATH_BYTES];
    const char *named = environment("AWS_SHARED_CREDENTIALS_FILE"), *home = environment("HOME");
    const char *profile = environment("AWS_PROFILE");
    profile = profile ? profile : "default";
    snprintf(path, sizeof path, named ? "%s" : "%s/.aws/credentials",
             named  ? named
             : home ? home
                    : "");
    FILE *file = fopen(path, "re");
    if (!file) {
        snprintf(error, error_bytes,
                 "no credentials for the object store: neither AWS_ACCESS_KEY_ID and "
                 "AWS_SECRET_ACCESS_KEY are set, nor can %.200s be read: %s",
                 path, strerror(errno));
        return GW_E_REFUSED;
    }
    bool good = read_profile(file, profile, key);
    fclose(file);
    if (good && key->access[0] && key->secret[0])
        return GW_OK;
    snprintf(error, error_bytes, "%.200s: profile [%.60s] %s", path, profile,
             good ? "has no aws_access_key_id and aws_secret_access_key"
                  : "has a value that is too long or not printable");
    return GW_E_REFUSED;
}

static enum gw_status from_environment(struct gwi_sign_key *key, const char *access,
                                       const char *secret, char *error, size_t error_bytes)
{
    const char *token = environment("AWS_SESSION_TOKEN");
    token = token ? token : "";
    if (!access || !secret) {
        snprintf(error, error_bytes, "%s is set, but %s is not",
                 access ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY",
                 access ? "AWS_SECRET_ACCESS_KEY" : "AWS_ACCESS_KEY_ID");
        return GW_E_REFUSED;
    }
    if (copy(key->access, sizeof key->access, access) &&
        copy(key->secret, sizeof key->secret, secret) &&
        copy(key->token, sizeof key->token, token) && is_plain(access) && is_plain(secret) &&
        is_plain(token))
        return GW_OK;
    snprintf(error, error_bytes,
             "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN is too long or not "
             "printable");
    return GW_E_REFUSED;
}

enum gw_status gwi_s3_credentials(struct gwi_sign_key *key, bool *file, char *error,
                                  size_t error_bytes)
{
    const char *access = environment("AWS_ACCESS_KEY_ID");
    const char *secret = environment("AWS_SECRET_ACCESS_KEY");
    struct gwi_sign_key read = {0};
    bool is_file = !access && !secret;
    enum gw_status st = is_file ? from_file(&read, error, error_bytes)
                                : from_environment(&read, access, secret, error, error_bytes);
    if (st == GW_OK) {
        memcpy(read.region, key->region, sizeof read.region);
        *key = read;
        *file = is_file;
    }
    OPENSSL_cleanse(&read, sizeof read);
    return st;
}

/* ---- the URL ---- */

static bool bucket_valid(const char *bucket)
{
    size_t n = strlen(bucket);
    for (size_t i = 0; i < n; i++) {
        char c = bucket[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && ((c != '-' && c != '.' && c != '_') || i == 0))
            return false;
    }
    return n > 0;
}

static bool region_valid(const char *region)
{
    size_t n = strspn(region, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");
    return n > 0 && region[n] == 0;
}

/* %XX within a parameter's value, in place. */
static bool decode(char *text)
{
    char *out = text;
    for (; *text; text++) {
        unsigned byte;
        if (*text != '%') {
            *out++ = *text;
        } else {
            if (strspn(text + 1, "0123456789abcdefABCDEF") < 2 ||
                sscanf(text + 1, "%2x", &byte) != 1 || byte == 0)
                return false;
            *out++ = (char)byte;
            text += 2;
        }
    }
    *out = 0;
    return true;
}

static bool take_endpoint(struct gwi_s3_config *config, const char *text)
{
    const char *authority;
    if (strncmp(text, "http://", 7) == 0) {
        config->tls = false;
        authority = text + 7;
    } else if (strncmp(text, "https://", 8) == 0) {
        config->tls = true;
        authority = text + 8;
    } else {
        return false;
    }
    size_t n = strlen(authority);
    if (n > 0 && authority[n - 1] == '/')
        n--;
    for (size_t i = 0; i < n; i++) {
        char c = authority[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && !strchr("-._:[]", c))
            return false;
    }
    snprintf(config->host, sizeof config->host, "%.*s", (int)n, authority);
    snprintf(config->endpoint, sizeof config->endpoint, "%s%.*s",
             config->tls ? "https://" : "http://", (int)n, authority);
    return n > 0;
}

enum gw_status gwi_s3_config(const char *rest, struct gwi_s3_config *out, char *error,
                             size_t error_bytes)
{
    char text[GW_BLOB_URL_MAX + 1], fallback[128];
    const char *endpoint = environment("AWS_ENDPOINT_URL"), *region = environment("AWS_REGION");
    *out = (struct gwi_s3_config){0};
    if (!copy(text, sizeof text, rest))
        goto malformed;
    char *query = strchr(text, '?');
    if (query)
        *query++ = 0;
    char *prefix = strchr(text, '/');
    if (prefix)
        *prefix++ = 0;
    if (!bucket_valid(text) || !copy(out->bucket, sizeof out->bucket, text)) {
        snprintf(error, error_bytes,
                 "'s3://%.100s' names no bucket: s3://BUCKET[/PREFIX] is wanted", rest);
        return GW_E_INVALID;
    }
    if (prefix && prefix[0]) {
        size_t n = strlen(prefix);
        if (prefix[n - 1] == '/')
            prefix[--n] = 0;
        if (!gwi_blob_name_valid(prefix)) {
            snprintf(error, error_bytes,
                     "'%.100s' cannot be a prefix: parts of letters, digits, '.', '_' and '-' "
                     "between slashes, none empty or beginning with a dot",
                     prefix);
            return GW_E_INVALID;
        }
        snprintf(out->prefix, sizeof out->prefix, "%s/", prefix);
    }

    region = region ? region : environment("AWS_DEFAULT_REGION");
    region = region ? region : "us-east-1";
    for (char *save, *p = query ? strtok_r(query, "&", &save) : NULL; p;
         p = strtok_r(NULL, "&", &save)) {
        char *value = strchr(p, '=');
        if (!value)
            goto malformed;
        *value++ = 0;
        if (!decode(value))
            goto malformed;
        if (strcmp(p, "endpoint") == 0) {
            endpoint = value;
        } else if (strcmp(p, "region") == 0) {
            region = value;
        } else {
            snprintf(error, error_bytes,
                     "the object store's URL has an unknown parameter '%.60s': endpoint and region "
                     "are known",
                     p);
            return GW_E_INVALID;
        }
    }
    if (!region_valid(region) || !copy(out->key.region, sizeof out->key.region, region)) {
        snprintf(error, error_bytes, "'%.60s' cannot be a region", region);
        return GW_E_INVALID;
    }
    if (!endpoint) {
        snprintf(fallback, sizeof fallback, "https://s3.%s.amazonaws.com", region);
        endpoint = fallback;
    }
    if (!take_endpoint(out, endpoint)) {
        snprintf(error, error_bytes,
                 "'%.100s' cannot be an endpoint: http://HOST[:PORT] or https://HOST[:PORT] is "
                 "wanted",
                 endpoint);
        return GW_E_INVALID;
    }
    return gwi_s3_credentials(&out->key, &out->from_file, error, error_bytes);

malformed:
    snprintf(error, error_bytes,
             "'s3://%.100s' is malformed: s3://BUCKET[/PREFIX][?endpoint=URL&region=REGION] is "
             "wanted",
             rest);
    return GW_E_INVALID;
}
