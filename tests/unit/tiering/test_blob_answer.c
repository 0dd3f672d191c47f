/* Goal: an answer of an S3 store is believed only if it is whole, of what was asked for, and ours;
 * a page of a list that is bad half way leaves nothing behind.
 * How: answers made by hand, without a transport. Real ones are in test_blob_s3. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/bytes.h"
#include "tiering/blob_s3.h"

#define ENTRY(key) "<Contents><Key>" key "</Key><Size>5</Size></Contents>"
#define NO         "<IsTruncated>false</IsTruncated>"
#define YES        "<IsTruncated>true</IsTruncated>"
#define LIST(in)   "<ListBucketResult>" in "</ListBucketResult>"

static struct gwi_s3_store store = {
    .config = {.bucket = "b", .prefix = "p/", .host = "store.example", .endpoint = "http://x"}};
static struct gwi_blob_call call;
static struct gwi_blob_result result;
static char text[GW_BLOB_TEXT_BYTES];

static enum gwi_blob_outcome judge(long status, const char *body)
{
    struct gwi_s3_answer answer = {.status = status,
                                   .body = (const uint8_t *)body,
                                   .bytes = strlen(body),
                                   .announced = (int64_t)strlen(body),
                                   .date = -1};
    result = (struct gwi_blob_result){0};
    gwi_s3_judge(&store, &call, &answer, 1000, &result, text);
    return result.outcome;
}

static void list_of(const char *prefix, const char *after)
{
    free(call.found);
    free(call.token);
    call = (struct gwi_blob_call){.kind = GWI_BLOB_LIST, .name = prefix, .after = after};
}

static void teardown(void)
{
    list_of("", "");
}

Test(blob_answer, a_page_that_is_bad_half_way_leaves_nothing, .fini = teardown)
{
    list_of("a", "");
    cr_expect_eq(judge(200, LIST(YES ENTRY("p/a1") "<NextContinuationToken>t</"
                                                   "NextContinuationToken>")),
                 GWI_BLOB_MORE);
    cr_expect_str_eq(call.token, "t");
    cr_expect_eq(judge(200, LIST(NO ENTRY("p/a2") ENTRY("p/a3") "<Contents/>")), GWI_BLOB_PASSING);
    cr_expect(strstr(text, "malformed"), "%s", text);
    cr_expect_eq(call.found_count, 1);
    cr_expect_eq(judge(200, LIST(NO ENTRY("p/a2") ENTRY("p/a4"))), GWI_BLOB_DONE,
                 "the same page, tried again: %s", text);
    cr_expect_eq(call.found_count, 3);
    cr_expect_eq(call.found_bytes, 3 * (8 + 3));
    cr_expect_str_eq((char *)call.found + 2 * 11 + 8, "a4");
    cr_expect_eq(gw_load64(call.found + 2 * 11), 5);
}

Test(blob_answer, names_of_others_are_left_out_and_wrong_ones_refused, .fini = teardown)
{
    list_of("a", "a1");
    cr_expect_eq(judge(200, LIST(NO ENTRY("p/a2") ENTRY("p/a b") ENTRY("p/a.c/../d"))),
                 GWI_BLOB_DONE);
    cr_expect_eq(call.found_count, 1);
    static const char *const bad[] = {
        LIST(NO ENTRY("q/a2")),               /* not our prefix */
        LIST(NO ENTRY("p/b2")),               /* not the one asked for */
        LIST(NO ENTRY("p/a1")),               /* not behind */
        LIST(NO ENTRY("p/a3") ENTRY("p/a2")), /* not in order */
        LIST(NO ENTRY("p/a3") ENTRY("p/a3")), /* twice */
        LIST(YES ENTRY("p/a3")),              /* more, but not how */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        list_of("a", "a1");
        cr_expect_eq(judge(200, bad[i]), GWI_BLOB_PASSING, "%s", bad[i]);
        cr_expect_eq(call.found_count, 0, "%s", bad[i]);
    }
    /* The same page for ever. */
    list_of("a", "");
    static const char again[] = LIST(YES "<NextContinuationToken>t</NextContinuationToken>");
    cr_expect_eq(judge(200, again), GWI_BLOB_MORE);
    cr_expect_eq(judge(200, again), GWI_BLOB_PASSING);
}

Test(blob_answer, bytes_are_believed_only_as_announced_and_asked_for)
{
    static const uint8_t body[100];
    struct gwi_s3_answer good = {.status = 206,
                                 .body = body,
                                 .bytes = 100,
                                 .announced = 100,
                                 .has_range = true,
                                 .range_first = 50,
                                 .range_last = 149,
                                 .range_total = 1000,
                                 .date = -1};
    call = (struct gwi_blob_call){
        .kind = GWI_BLOB_GET, .name = "k", .after = NULL, .offset = 50, .bytes = 100};
#define JUDGE(change, expected)                                                                    \
    do {                                                                                           \
        struct gwi_s3_answer a = good;                                                             \
        result = (struct gwi_blob_result){0};                                                      \
        change;                                                                                    \
        gwi_s3_judge(&store, &call, &a, 1000, &result, text);                                      \
        cr_expect_eq(result.outcome, expected, #change ": %d %s", (int)result.outcome, text);      \
        if (result.outcome != GWI_BLOB_DONE)                                                       \
            cr_expect(result.bytes == 0 && strstr(text, "store.example: get of k: "), "%s", text); \
    } while (0)
    JUDGE((void)0, GWI_BLOB_DONE);
    cr_expect_eq(result.bytes, 100);
    JUDGE(a.announced = -1, GWI_BLOB_DONE);
    JUDGE(a.announced = 101, GWI_BLOB_PASSING);
    JUDGE(a.bytes = 99, GWI_BLOB_PASSING);
    JUDGE(a.bytes = a.announced = 99, GWI_BLOB_PASSING);
    JUDGE(a.range_first = 51, GWI_BLOB_PASSING);
    JUDGE(a.range_last = 148, GWI_BLOB_PASSING);
    JUDGE(a.range_total = 120, GWI_BLOB_PASSING);
    JUDGE(a.has_range = false, GWI_BLOB_PASSING);
    JUDGE(a.cut = true, GWI_BLOB_PASSING);
    JUDGE(a.status = 200, GWI_BLOB_PASSING); /* from its begin: other bytes */
    JUDGE(a.status = 204, GWI_BLOB_PASSING);
    JUDGE(a.status = 416, GWI_BLOB_DONE); /* it ends before */
    cr_expect_eq(result.bytes, 0);
    JUDGE((a.range_last = 99, a.range_total = 100, a.bytes = a.announced = 50), GWI_BLOB_DONE);
    cr_expect_eq(result.bytes, 50);
    /* Only NoSuchKey says that an object is not there. */
    cr_expect_eq(judge(404, "<Error><Code>NoSuchKey</Code></Error>"), GWI_BLOB_ABSENT);
    cr_expect_eq(judge(404, "<html>nginx</html>"), GWI_BLOB_HOPELESS);
    cr_expect_eq(judge(404, ""), GWI_BLOB_HOPELESS);
    call.kind = GWI_BLOB_PUT;
    cr_expect_eq(judge(404, "<Error><Code>NoSuchUpload</Code></Error>"), GWI_BLOB_HOPELESS);
    cr_expect_eq(judge(400, "<Error><Code>BadDigest</Code></Error>"), GWI_BLOB_PASSING);
    cr_expect_eq(judge(200, ""), GWI_BLOB_DONE);
    cr_expect_eq(judge(202, ""), GWI_BLOB_PASSING);
    call = (struct gwi_blob_call){0};
}

Test(blob_answer, a_url_is_taken_apart_or_refused_with_a_sentence)
{
    static struct gwi_s3_config config;
    char error[GW_BLOB_TEXT_BYTES];
    setenv("AWS_ACCESS_KEY_ID", "a", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "s", 1);
    unsetenv("AWS_ENDPOINT_URL");
    setenv("AWS_REGION", "eu-west-1", 1);
    cr_assert_eq(gwi_s3_config("buck/a/b/", &config, error, sizeof error), GW_OK, "%s", error);
    cr_expect_str_eq(config.bucket, "buck");
    cr_expect_str_eq(config.prefix, "a/b/");
    cr_expect_str_eq(config.endpoint, "https://s3.eu-west-1.amazonaws.com");
    cr_expect_str_eq(config.host, "s3.eu-west-1.amazonaws.com");
    cr_expect(config.tls && !config.from_file);
    cr_assert_eq(gwi_s3_config("buck?region=us-x&endpoint=http://h:9000/", &config, error,
                               sizeof error),
                 GW_OK, "%s", error);
    cr_expect_str_eq(config.prefix, "");
    cr_expect_str_eq(config.endpoint, "http://h:9000");
    cr_expect_str_eq(config.key.region, "us-x");
    cr_expect_not(config.tls);
    static const char *const bad[][2] = {
        {"", "names no bucket"},
        {"/p", "names no bucket"},
        {"b c", "names no bucket"},
        {"b/../c", "cannot be a prefix"},
        {"b/c//d", "cannot be a prefix"},
        {"b?endpoint=ftp://h", "cannot be an endpoint"},
        {"b?endpoint=http://", "cannot be an endpoint"},
        {"b?endpoint=http://u@h", "cannot be an endpoint"},
        {"b?region=", "cannot be a region"},
        {"b?regio=x", "unknown parameter 'regio'"},
        {"b?region", "malformed"},
        {"b?region=%4", "malformed"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(gwi_s3_config(bad[i][0], &config, error, sizeof error), GW_E_INVALID, "%s",
                     bad[i][0]);
        cr_expect(strstr(error, bad[i][1]), "%s: %s", bad[i][0], error);
    }
    unsetenv("AWS_SECRET_ACCESS_KEY");
    cr_expect_eq(gwi_s3_config("b", &config, error, sizeof error), GW_E_REFUSED);
    cr_expect(strstr(error, "AWS_SECRET_ACCESS_KEY is not"), "%s", error);
    unsetenv("AWS_ACCESS_KEY_ID");
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file", 1);
    cr_expect_eq(gwi_s3_config("b", &config, error, sizeof error), GW_E_REFUSED);
    cr_expect(strstr(error, "/no/such/file"), "%s", error);
}
