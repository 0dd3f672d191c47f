/* What an answer of an S3 store means: done, absent, worth another try, or somebody's business.
 *
 * Rules:
 *  1. "Absent" is believed only of NoSuchKey: a 404 of whatever else is at that address (a proxy,
 *     a wrong bucket) must never look like data that does not exist.
 *  2. Bytes are believed only if they are exactly as many as announced, and of the range that was
 *     asked for.
 *  3. Each failure has a sentence that names host, request, code, and what to look at.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiering/blob_s3.h"
#include "tiering/blob_xml.h"

#define SKEW_LEAST_S 60

struct judge {
    struct gwi_s3_store *store;
    struct gwi_blob_call *call;
    const struct gwi_s3_answer *answer;
    struct gwi_blob_result *result;
    char *text;
    char code[64], message[128];
};

/* "HOST: get of NAME: REASON", and the outcome. */
__attribute__((format(printf, 3, 4))) static void
fail(struct judge *j, enum gwi_blob_outcome outcome, const char *format, ...)
{
    char reason[GW_BLOB_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    j->result->outcome = outcome;
    snprintf(j->text, GW_BLOB_TEXT_BYTES, "%.60s: %s of %.40s: %.140s", j->store->config.host,
             gwi_blob_kind_name(j->call->kind), j->call->name, reason);
}

static bool is(const struct judge *j, const char *code)
{
    return strcmp(j->code, code) == 0;
}

/* A server's clock that differs: RequestTimeTooSkewed, and its Date tells by how much. */
static bool follow_clock(struct judge *j, int64_t now_s)
{
    int64_t date = j->answer->date;
    if (date < 0)
        return false;
    int64_t ahead = date - now_s;
    if (llabs(ahead - j->store->clock_ahead_s) < SKEW_LEAST_S)
        return false; /* the difference is known already, and did not help */
    j->store->clock_ahead_s = ahead;
    fail(j, GWI_BLOB_AGAIN,
         "%ld %s: its clock is %lld s %s ours: requests are dated by its clock; look at both",
         j->answer->status, j->code, llabs(ahead), ahead > 0 ? "ahead of" : "behind");
    return true;
}

/* A renewed key in the credentials file. */
static bool renew_key(struct judge *j)
{
    struct gwi_s3_config *config = &j->store->config;
    struct gwi_sign_key key = config->key;
    char error[GW_BLOB_TEXT_BYTES];
    if (!config->from_file ||
        gwi_s3_credentials(&key, &config->from_file, error, sizeof error) != GW_OK ||
        memcmp(&key, &config->key, sizeof key) == 0)
        return false;
    config->key = key;
    fail(j, GWI_BLOB_AGAIN, "%ld %s: the credentials file has other ones now, which are tried",
         j->answer->status, j->code);
    return true;
}

static void judge_refusal(struct judge *j, int64_t now_s)
{
    const char *bucket = j->store->config.bucket;
    long status = j->answer->status;
    if (is(j, "RequestTimeTooSkewed")) {
        if (!follow_clock(j, now_s))
            fail(j, GWI_BLOB_REFUSED, "%ld %s: set the clock here or there", status, j->code);
        return;
    }
    if (renew_key(j))
        return;
    if (is(j, "InvalidAccessKeyId"))
        fail(j, GWI_BLOB_REFUSED, "%ld %s: the access key is not known there", status, j->code);
    else if (is(j, "SignatureDoesNotMatch"))
        fail(j, GWI_BLOB_REFUSED,
             "%ld %s: the secret key is another one there (or a proxy changes requests)", status,
             j->code);
    else if (is(j, "ExpiredToken") || is(j, "TokenRefreshRequired"))
        fail(j, GWI_BLOB_REFUSED, "%ld %s: the session token must be renewed", status, j->code);
    else
        fail(j, GWI_BLOB_REFUSED,
             "%ld %s: the key may not do that in bucket %.63s; look at its policy (reads need "
             "ListBucket too)",
             status, j->code[0] ? j->code : "Forbidden", bucket);
}

static void judge_failure(struct judge *j, int64_t now_s)
{
    const struct gwi_s3_config *config = &j->store->config;
    long status = j->answer->status;
    gwi_xml_error((const char *)j->answer->body, j->answer->bytes, j->code, j->message);
    const char *code = j->code[0] ? j->code : "without a reason";
    if (status == 403 || is(j, "ExpiredToken") || is(j, "TokenRefreshRequired"))
        judge_refusal(j, now_s);
    else if (status == 404 && is(j, "NoSuchKey"))
        j->result->outcome = j->call->kind == GWI_BLOB_DELETE ? GWI_BLOB_DONE : GWI_BLOB_ABSENT;
    else if (status == 404 && is(j, "NoSuchBucket"))
        fail(j, GWI_BLOB_HOPELESS, "404 NoSuchBucket: bucket %.63s is not there; make it",
             config->bucket);
    else if (status == 404)
        fail(j, GWI_BLOB_HOPELESS, "404 %s: is this the address of an object store?", code);
    else if (status >= 300 && status < 400)
        fail(j, GWI_BLOB_HOPELESS, "%ld %s: the bucket is elsewhere%s%s (region %s was asked)",
             status, code, j->answer->region[0] ? ": region " : "", j->answer->region,
             config->key.region);
    else if (status == 416 && j->call->kind == GWI_BLOB_GET && j->call->bytes > 0)
        j->result->outcome = GWI_BLOB_DONE; /* it ends before the range: no bytes */
    else if (status == 507 || is(j, "QuotaExceeded") || is(j, "XMinioStorageFull"))
        fail(j, GWI_BLOB_FULL, "%ld %s: the object store is full", status, code);
    else if (status == 429 || status == 503)
        fail(j, GWI_BLOB_PASSING, "%ld %s: it asks to slow down or is busy; tried again later",
             status, code);
    else if (status == 408 || status == 409 || is(j, "RequestTimeout") || is(j, "BadDigest") ||
             is(j, "XAmzContentSHA256Mismatch") || is(j, "IncompleteBody"))
        fail(j, GWI_BLOB_PASSING, "%ld %s: the request did not get through whole", status, code);
    else if (status >= 500 && status != 501)
        fail(j, GWI_BLOB_PASSING, "%ld %s: it fails on its side; %s", status, code,
             j->message[0] ? j->message : "look there");
    else
        fail(j, GWI_BLOB_HOPELESS, "%ld %s: it does not take the request: %s", status, code,
             j->message[0] ? j->message : "look at endpoint and region");
}

/* Rule 2. */
static void judge_get(struct judge *j)
{
    const struct gwi_s3_answer *a = j->answer;
    const struct gwi_blob_call *call = j->call;
    if (a->cut) {
        if (call->bytes > 0)
            fail(j, GWI_BLOB_PASSING, "%ld, with a body of more than the %zu bytes asked for",
                 a->status, call->bytes);
        else
            fail(j, GWI_BLOB_HOPELESS, "it is larger than %zu bytes, so none of ours",
                 GWI_BLOB_BODY_MAX);
        return;
    }
    if (a->announced >= 0 && (uint64_t)a->announced != a->bytes) {
        fail(j, GWI_BLOB_PASSING, "%lld bytes announced, %zu came", (long long)a->announced,
             a->bytes);
        return;
    }
    if (call->bytes > 0 && a->status == 206) {
        uint64_t last = call->offset + call->bytes - 1;
        if (a->has_range && last >= a->range_total)
            last = a->range_total - 1;
        if (!a->has_range || a->range_first != call->offset || a->range_last != last ||
            a->bytes != last - call->offset + 1) {
            fail(j, GWI_BLOB_PASSING, "206 with another range than bytes %llu-%llu",
                 (unsigned long long)call->offset, (unsigned long long)last);
            return;
        }
    } else if (a->status != 200 || call->offset > 0) {
        fail(j, GWI_BLOB_PASSING, "%ld where a %s was asked for", a->status,
             call->bytes ? "range" : "whole object");
        return;
    }
    j->result->data = a->body;
    j->result->bytes = a->bytes;
}

struct listing {
    struct judge *judge;
    bool order; /* a key was where it must not be */
};

static enum gw_status take_object(void *ctx, const char *key, uint64_t size)
{
    struct listing *l = ctx;
    const char *prefix = l->judge->store->config.prefix;
    size_t prefix_bytes = strlen(prefix);
    struct gwi_blob_call *call = l->judge->call;
    if (strncmp(key, prefix, prefix_bytes) != 0) {
        l->order = true;
        return GW_E_CORRUPT;
    }
    const char *name = key + prefix_bytes;
    if (!gwi_blob_name_valid(name))
        return GW_OK; /* nobody of us put it */
    if (strncmp(name, call->name, strlen(call->name)) != 0 || strcmp(name, call->after) <= 0) {
        l->order = true;
        return GW_E_CORRUPT;
    }
    enum gw_status st = gwi_blob_found(call, name, size);
    l->order = st == GW_E_CORRUPT;
    return st;
}

static void judge_list(struct judge *j)
{
    const struct gwi_s3_answer *a = j->answer;
    struct gwi_blob_call *call = j->call;
    struct gwi_xml_page page;
    struct listing l = {.judge = j};
    if (a->status != 200 || a->cut || (a->announced >= 0 && (uint64_t)a->announced != a->bytes)) {
        fail(j, GWI_BLOB_PASSING, "%ld, and a list that is not whole", a->status);
        return;
    }
    /* A page that is bad half way must not leave its first half in what was found. */
    size_t found_bytes = call->found_bytes;
    uint32_t found_count = call->found_count;
    char found_last[sizeof call->found_last];
    memcpy(found_last, call->found_last, sizeof found_last);
    enum gw_status st = gwi_xml_list((const char *)a->body, a->bytes, take_object, &l, &page);
    if (st == GW_END) /* as many as a call gives */
        return;
    if (st == GW_OK && page.truncated && call->found_count < GWI_BLOB_LIST_MAX) {
        char *token = page.token[0] ? strdup(page.token) : NULL;
        if (token && call->token && strcmp(token, call->token) == 0) {
            free(token); /* the same page for ever */
            token = NULL;
        }
        if (token) {
            free(call->token);
            call->token = token;
            j->result->outcome = GWI_BLOB_MORE;
            return;
        }
        st = GW_E_CORRUPT;
    }
    if (st == GW_OK)
        return;
    call->found_bytes = found_bytes;
    call->found_count = found_count;
    memcpy(call->found_last, found_last, sizeof found_last);
    fail(j, GWI_BLOB_PASSING, "200 with a list that %s",
         st == GW_E_NOMEM ? "does not fit into memory"
         : l.order        ? "is not in order or not of our prefix"
                          : "is malformed");
}

void gwi_s3_judge(struct gwi_s3_store *store, struct gwi_blob_call *call,
                  const struct gwi_s3_answer *answer, int64_t now_s, struct gwi_blob_result *result,
                  char *text)
{
    struct judge j = {
        .store = store, .call = call, .answer = answer, .result = result, .text = text};
    text[0] = 0;
    result->outcome = GWI_BLOB_DONE;
    result->text = text;
    if (answer->transport)
        fail(&j, answer->hopeless ? GWI_BLOB_HOPELESS : GWI_BLOB_PASSING, "%s", answer->transport);
    else if (answer->status < 200 || answer->status >= 300)
        judge_failure(&j, now_s);
    else if (call->kind == GWI_BLOB_GET)
        judge_get(&j);
    else if (call->kind == GWI_BLOB_LIST)
        judge_list(&j);
    else if (answer->status != 200 && answer->status != 204)
        fail(&j, GWI_BLOB_PASSING, "%ld instead of 200", answer->status);
}
