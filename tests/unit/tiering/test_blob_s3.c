/* Goal: the client of an S3 store keeps its promises (tiering/blob.h) with a real server behind a
 * network that fails in every way that we could think of: right bytes or a failure in words, never
 * wrong bytes and never for ever.
 * How: s3rver behind a check of signatures that is not ours (tests/s3rver/server.js), and
 * blob_proxy in between. Counts are exact where the fault is. */
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "index/base/clock.h"
#include "tests/support/blob_calls.h"
#include "tests/support/blob_proxy.h"
#include "tests/support/s3rver.h"
#include "tests/support/tier.h"

#define SMALL 4096u

static struct s3rver *server;
static struct blob_proxy *proxy;
static struct gw_blob *blob;
static struct gw_blob_options options;
static struct gw_blob_stats stats;
static char text[1 << 20];
static uint32_t count;

static void look(void)
{
    gw_blob_stats(blob, &stats);
}

static void key_is(const char *access, const char *secret)
{
    setenv("AWS_ACCESS_KEY_ID", access, 1);
    setenv("AWS_SECRET_ACCESS_KEY", secret, 1);
}

static struct gw_blob *open_store(const char *where)
{
    char url[512], error[512] = "";
    struct gw_blob *out = NULL;
    snprintf(url, sizeof url, "s3://%s%sendpoint=http%%3a//127.0.0.1:%u", where,
             strchr(where, '?') ? "&" : "?", blob_proxy_port(proxy));
    options.url = url;
    cr_assert_eq(gw_blob_open(&options, &out, error, sizeof error), GW_OK, "%s", error);
    return out;
}

/* A bucket "godwit"; skips the test if there is no server. */
static void start(int64_t skew_s)
{
    server = s3rver_start(GW_TEST_SOURCE_DIR, "godwit", skew_s);
    if (!server)
        cr_skip_test(S3RVER_MISSING);
    proxy = blob_proxy_start(s3rver_port(server));
    setenv("no_proxy", "*", 1);
    unsetenv("AWS_SESSION_TOKEN");
    unsetenv("AWS_ENDPOINT_URL");
    unsetenv("AWS_REGION");
    key_is("S3RVER", S3RVER_SECRET);
    options = (struct gw_blob_options){.backoff_first_ns = 5 * BLOB_MS};
    blob = open_store("godwit/pre/fix");
}

static void setup(void)
{
    start(0);
}

static void teardown(void)
{
    gw_blob_close(blob);
    blob_proxy_stop(proxy);
    s3rver_stop(server);
}

static uint64_t now(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static void expect_got(const char *name, uint64_t offset, size_t bytes, const uint8_t *expected,
                       size_t expected_bytes)
{
    struct blob_note note;
    enum gw_status st = blob_get(blob, name, offset, bytes, BLOB_NONE, &note);
    look();
    cr_expect_eq(st, GW_OK, "%s: %s", gw_status_name(st), stats.trouble);
    cr_expect_eq(note.bytes, expected_bytes);
    if (note.bytes == expected_bytes && expected_bytes > 0)
        cr_expect_arr_eq(note.data, expected, expected_bytes);
    blob_note_fini(&note);
}

Test(blob_s3, objects_are_put_got_listed_and_deleted, .init = setup, .fini = teardown)
{
    struct blob_note note;
    size_t n = (3 << 20) + 5;
    uint8_t *bytes = blob_bytes(n, 4);
    cr_assert_eq(blob_put(blob, "c/s/one.gwo", bytes, n, BLOB_NONE), GW_OK);
    expect_got("c/s/one.gwo", 0, 0, bytes, n);
    expect_got("c/s/one.gwo", 1234567, SMALL, bytes + 1234567, SMALL);
    expect_got("c/s/one.gwo", n - 5, SMALL, bytes + n - 5, 5);
    expect_got("c/s/one.gwo", 0, n + 100, bytes, n);
    expect_got("c/s/one.gwo", n + 5, SMALL, NULL, 0);
    cr_expect_eq(blob_put(blob, "c/s/none", NULL, 0, BLOB_NONE), GW_OK);
    expect_got("c/s/none", 0, 0, NULL, 0);
    cr_expect_eq(blob_put(blob, "c/s/one.gwo", "again", 5, BLOB_NONE), GW_OK);
    expect_got("c/s/one.gwo", 0, 0, (const uint8_t *)"again", 5);

    cr_expect_eq(blob_get(blob, "c/s/two", 0, 0, BLOB_NONE, &note), GW_NOT_FOUND);
    cr_expect_eq(blob_get(blob, "c/s/two", 0, SMALL, BLOB_NONE, &note), GW_NOT_FOUND);
    cr_expect_eq(blob_put(blob, "c/t-1_2.gwo", "abc", 3, BLOB_NONE), GW_OK);
    cr_expect_eq(blob_list(blob, "c/", "", BLOB_NONE, text, sizeof text, &count), GW_OK);
    cr_expect_str_eq(text, "c/s/none=0 c/s/one.gwo=5 c/t-1_2.gwo=3 ");
    cr_expect_eq(blob_list(blob, "c/s/", "c/s/none", BLOB_NONE, text, sizeof text, &count), GW_OK);
    cr_expect_str_eq(text, "c/s/one.gwo=5 ");
    cr_expect_eq(blob_list(blob, "", "c/t-1_2.gwo", BLOB_NONE, text, sizeof text, &count), GW_OK);
    cr_expect_str_eq(text, "");
    cr_expect_eq(blob_delete(blob, "c/s/none", BLOB_NONE), GW_OK);
    cr_expect_eq(blob_delete(blob, "c/s/none", BLOB_NONE), GW_OK);
    cr_expect_eq(blob_get(blob, "c/s/none", 0, 0, BLOB_NONE, &note), GW_NOT_FOUND);
    cr_expect_eq(blob_get(blob, "../x", 0, 0, BLOB_NONE, &note), GW_E_INVALID);

    /* Another prefix of the bucket sees nothing of it. */
    struct gw_blob *other = open_store("godwit/pre");
    cr_expect_eq(blob_get(other, "c/s/one.gwo", 0, 0, BLOB_NONE, &note), GW_NOT_FOUND);
    cr_expect_eq(blob_get(other, "fix/c/s/one.gwo", 0, 0, BLOB_NONE, &note), GW_OK);
    blob_note_fini(&note);
    gw_blob_close(other);
    look();
    cr_expect_eq(stats.puts, 4);
    cr_expect_eq(stats.gets - stats.hedges, 10);
    cr_expect_eq(stats.lists, 3);
    cr_expect_eq(stats.deletes, 2);
    cr_expect_eq(stats.bytes_up, n + 5 + 3);
    cr_expect_eq(stats.retries + stats.failures, 0);
    cr_expect(stats.healthy);
    free(bytes);
}

/* The server gives 40 a page. */
Test(blob_s3, a_list_of_several_pages_is_whole_and_in_order, .init = setup, .fini = teardown)
{
    enum { OBJECTS = 103 };
    static struct blob_note notes[OBJECTS];
    static char expected[sizeof text];
    char name[32];
    size_t used = 0;
    for (int i = 0; i < OBJECTS; i++) {
        snprintf(name, sizeof name, "o/%05d", i * 7 % OBJECTS);
        cr_assert_eq(gw_blob_put(blob, name, "x", 1, 0, blob_noted, &notes[i]), GW_OK);
        used += (size_t)sprintf(expected + used, "o/%05d=1 ", i);
    }
    for (int i = 0; i < OBJECTS; i++) {
        blob_await(&notes[i]);
        cr_assert_eq(notes[i].status, GW_OK);
    }
    cr_expect_leq(blob_proxy_most_open(proxy), 16, "requests at the same time");
    cr_expect_gt(blob_proxy_most_open(proxy), 4);
    /* The second page fails once, and then once more. */
    const struct blob_fault cut = {.kind = BLOB_FAULT_CUT, .skip = 1, .count = 2};
    blob_proxy_fault(proxy, &cut);
    enum gw_status st = blob_list(blob, "o/", "", BLOB_NONE, text, sizeof text, &count);
    look();
    cr_assert_eq(st, GW_OK, "%s", stats.trouble);
    cr_expect_eq(count, OBJECTS);
    cr_expect_str_eq(text, expected);
    cr_expect_eq(stats.lists, 5);
    cr_expect_eq(stats.retries, 2);
    cr_assert_eq(blob_list(blob, "o/", "o/00099", BLOB_NONE, text, sizeof text, &count), GW_OK);
    cr_expect_str_eq(text, "o/00100=1 o/00101=1 o/00102=1 ");
}

/* Since the last time. A hedge (the machine stood still) may take what would be a retry. */
static void expect_retries(uint64_t expected)
{
    static uint64_t retries, hedges;
    look();
    uint64_t got = stats.retries - retries, hedged = stats.hedges - hedges;
    retries = stats.retries;
    hedges = stats.hedges;
    cr_expect(got == expected || (hedged > 0 && got < expected), "%u retries: %s", (unsigned)got,
              stats.trouble);
}

/* Each fault twice, then the right answer. */
Test(blob_s3, what_passes_is_tried_again, .init = setup, .fini = teardown)
{
    static const struct {
        struct blob_fault fault;
        const char *word;
    } cases[] = {
        {{.kind = BLOB_FAULT_STATUS, .status = 503, .code = "SlowDown"}, "503 SlowDown"},
        {{.kind = BLOB_FAULT_STATUS, .status = 500, .code = "InternalError"}, "500 InternalError"},
        {{.kind = BLOB_FAULT_STATUS, .status = 429, .code = "TooMany"}, "429 TooMany"},
        {{.kind = BLOB_FAULT_STATUS, .status = 400, .code = "RequestTimeout"}, "RequestTimeout"},
        {{.kind = BLOB_FAULT_CUT, .method = "GET"}, "the answer was cut"},
        {{.kind = BLOB_FAULT_LONGER, .method = "GET"}, "more than the 1000 bytes asked for"},
        {{.kind = BLOB_FAULT_RANGE, .method = "GET"}, "206 with another range"},
    };
    uint8_t *bytes = blob_bytes(SMALL, 5);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct blob_fault fault = cases[i].fault;
        char name[32];
        snprintf(name, sizeof name, "o%zu", i);
        fault.count = 2;
        blob_proxy_fault(proxy, &fault);
        cr_expect_eq(blob_put(blob, name, bytes, SMALL, BLOB_NONE), GW_OK, "%s", cases[i].word);
        expect_retries(fault.method ? 0 : 2);
        blob_proxy_fault(proxy, &fault);
        expect_got(name, 100, 1000, bytes + 100, 1000);
        expect_retries(2);
        cr_expect(strstr(stats.trouble, cases[i].word), "%s", stats.trouble);
        cr_expect(stats.healthy);
        cr_expect_eq(stats.failures, 0);
    }
    /* Lists and deletes as well. */
    const struct blob_fault cut = {.kind = BLOB_FAULT_CUT, .count = 2};
    blob_proxy_fault(proxy, &cut);
    cr_expect_eq(blob_list(blob, "o", "", BLOB_NONE, text, sizeof text, &count), GW_OK);
    cr_expect_eq(count, sizeof cases / sizeof *cases);
    expect_retries(2);
    const struct blob_fault busy = {.kind = BLOB_FAULT_STATUS,
                                    .status = 503,
                                    .code = "SlowDown",
                                    .count = 2};
    blob_proxy_fault(proxy, &busy);
    cr_expect_eq(blob_delete(blob, "o0", BLOB_NONE), GW_OK);
    expect_retries(2);
    cr_expect_eq(stats.deletes, 3);
    free(bytes);
}

Test(blob_s3, what_does_not_pass_is_told_and_ends_with_the_deadline, .init = setup,
     .fini = teardown)
{
    static const struct {
        struct blob_fault fault;
        const char *word;
        enum gw_status status;
    } cases[] = {
        {{.kind = BLOB_FAULT_STATUS, .status = 403, .code = "AccessDenied"},
         "look at its policy",
         GW_E_REFUSED},
        {{.kind = BLOB_FAULT_STATUS, .status = 404, .code = "NotFound"},
         "is this the address of an object store?",
         GW_E_REFUSED},
        {{.kind = BLOB_FAULT_STATUS, .status = 301, .code = "PermanentRedirect"},
         "the bucket is elsewhere",
         GW_E_REFUSED},
        {{.kind = BLOB_FAULT_STATUS, .status = 400, .code = "AuthorizationHeaderMalformed"},
         "made by the test",
         GW_E_REFUSED},
        {{.kind = BLOB_FAULT_STATUS, .status = 507, .code = "Full"}, "is full", GW_E_LIMIT},
        {{.kind = BLOB_FAULT_STATUS, .status = 503, .code = "SlowDown"},
         "503 SlowDown",
         GW_E_TIMEOUT},
        {{.kind = BLOB_FAULT_CUT}, "the answer was cut", GW_E_TIMEOUT},
        {{.kind = BLOB_FAULT_DROP}, "the connection broke", GW_E_TIMEOUT},
        {{.kind = BLOB_FAULT_REFUSE}, "no connection", GW_E_TIMEOUT},
        {{.kind = BLOB_FAULT_SILENT}, "no byte moved", GW_E_TIMEOUT},
        {{.kind = BLOB_FAULT_STALL}, NULL, GW_E_TIMEOUT},
    };
    uint8_t *bytes = blob_bytes(SMALL, 6);
    struct blob_note note;
    cr_assert_eq(blob_put(blob, "one", bytes, SMALL, BLOB_NONE), GW_OK);
    const char *silence = "no byte moved";
    uint32_t ends = 0, again = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        blob_proxy_fault(proxy, &cases[i].fault);
        uint64_t begin = now();
        enum gw_status st = blob_get(blob, "one", 0, 0, 800 * BLOB_MS, &note);
        uint64_t took = now() - begin;
        look();
        cr_expect_eq(st, cases[i].status, "case %zu: %s", i, gw_status_name(st));
        cr_expect_lt(took, 6000 * BLOB_MS, "case %zu", i);
        cr_expect_eq(stats.failures, ++ends);
        bool stood = cases[i].word && strcmp(cases[i].word, silence) != 0 &&
                     strstr(stats.trouble, silence) && again++ < 5;
        if (stood) { /* this machine did, as long as it takes to give a try up */
            i--;
        } else if (cases[i].word) {
            cr_expect_not(stats.healthy, "case %zu", i);
            cr_expect_neq(stats.unhealthy_since_ms, 0);
            cr_expect(strstr(stats.trouble, cases[i].word), "case %zu: %s", i, stats.trouble);
            cr_expect(strstr(stats.trouble, "127.0.0.1"), "%s", stats.trouble);
        }
        blob_proxy_heal(proxy);
        expect_got("one", 0, 0, bytes, SMALL); /* and then it goes on by itself */
        look();
        cr_expect(stats.healthy);
        cr_expect_eq(stats.unhealthy_since_ms, 0);
    }
    free(bytes);
}

Test(blob_s3, wrong_credentials_are_named_and_mended_ones_noticed, .init = setup, .fini = teardown)
{
    struct blob_note note;
    char path[] = "/tmp/godwit-credentials-XXXXXX";
    cr_assert_eq(blob_put(blob, "one", "1", 1, BLOB_NONE), GW_OK);
    static const struct {
        const char *access, *secret, *word;
    } cases[] = {{"S3RVER", "wrong", "SignatureDoesNotMatch: the secret key"},
                 {"NOBODY", S3RVER_SECRET, "InvalidAccessKeyId: the access key"}};
    for (int i = 0; i < 2; i++) {
        gw_blob_close(blob);
        key_is(cases[i].access, cases[i].secret);
        blob = open_store("godwit/pre/fix");
        uint64_t begin = now();
        cr_expect_eq(blob_get(blob, "one", 0, 0, 3000 * BLOB_MS, &note), GW_E_REFUSED);
        cr_expect_lt(now() - begin, 2900 * BLOB_MS, "no other try fits into the deadline");
        look();
        cr_expect(strstr(stats.trouble, cases[i].word), "%s", stats.trouble);
        cr_expect_not(strstr(stats.trouble, cases[i].secret) && i == 0, "the secret is told");
        cr_expect_eq(stats.gets, 1);
    }

    /* From the file, which is mended while we run. */
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    FILE *file = fdopen(fd, "w");
    fprintf(file, "# ours\n[default]\naws_access_key_id=X\naws_secret_access_key=Y\n"
                  "[godwit]\n aws_access_key_id = S3RVER \naws_secret_access_key = wrong\n");
    fclose(file);
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    setenv("AWS_SHARED_CREDENTIALS_FILE", path, 1);
    setenv("AWS_PROFILE", "godwit", 1);
    gw_blob_close(blob);
    blob = open_store("godwit/pre/fix");
    cr_expect_eq(blob_get(blob, "one", 0, 0, 1000 * BLOB_MS, &note), GW_E_REFUSED);
    file = fopen(path, "w");
    fprintf(file, "[godwit]\naws_access_key_id = S3RVER\naws_secret_access_key = S3RVER\n");
    fclose(file);
    cr_expect_eq(blob_get(blob, "one", 0, 0, 1000 * BLOB_MS, &note), GW_OK);
    blob_note_fini(&note);
    unlink(path);
}

Test(blob_s3, a_bucket_that_is_not_there_is_named, .init = setup, .fini = teardown)
{
    struct blob_note note;
    gw_blob_close(blob);
    blob = open_store("nobucket");
    cr_expect_eq(blob_get(blob, "one", 0, 0, 1000 * BLOB_MS, &note), GW_E_REFUSED,
                 "absent is what a bucket says, not its absence");
    look();
    cr_expect(strstr(stats.trouble, "bucket nobucket is not there"), "%s", stats.trouble);
    cr_expect_eq(blob_put(blob, "one", "1", 1, 1000 * BLOB_MS), GW_E_REFUSED);
    cr_expect_eq(blob_list(blob, "", "", 1000 * BLOB_MS, text, sizeof text, &count), GW_E_REFUSED);
}

static void setup_ahead(void)
{
    start(3600);
}

Test(blob_s3, a_clock_that_differs_is_followed_and_told, .init = setup_ahead, .fini = teardown)
{
    struct blob_note note;
    cr_expect_eq(blob_put(blob, "one", "1", 1, 3000 * BLOB_MS), GW_OK);
    look();
    cr_expect(strstr(stats.trouble, "s ahead of ours"), "%s", stats.trouble);
    cr_expect(strstr(stats.trouble, "RequestTimeTooSkewed"), "%s", stats.trouble);
    cr_expect(stats.clock_ahead_s > 3500 && stats.clock_ahead_s < 3700);
    cr_expect_eq(stats.retries, 1);
    cr_expect_eq(blob_get(blob, "one", 0, 0, 3000 * BLOB_MS, &note), GW_OK);
    blob_note_fini(&note);
    look();
    cr_expect_eq(stats.retries, 1, "it is known now");
    cr_expect(stats.healthy);
}

Test(blob_s3, a_get_that_is_late_is_asked_a_second_time, .init = setup, .fini = teardown)
{
    uint8_t *bytes = blob_bytes(SMALL, 7);
    cr_assert_eq(blob_put(blob, "one", bytes, SMALL, BLOB_NONE), GW_OK);
    for (int i = 0; i < 24; i++) /* a median */
        expect_got("one", 0, 100, bytes, 100);
    look();
    uint64_t hedges = stats.hedges, won = stats.hedges_won; /* of a machine that stood still */
    const struct blob_fault late = {.kind = BLOB_FAULT_DELAY,
                                    .method = "GET",
                                    .count = 1,
                                    .delay_ms = 4000};
    blob_proxy_fault(proxy, &late);
    uint64_t begin = now();
    expect_got("one", 5, 100, bytes + 5, 100);
    cr_expect_lt(now() - begin, 3500 * BLOB_MS);
    look();
    cr_expect_eq(stats.hedges, hedges + 1);
    cr_expect_eq(stats.hedges_won, won + 1);
    cr_expect_eq(stats.retries, 0);
    cr_expect_eq(stats.failures, 0);

    /* The first answer wins, whichever it is: the hedge may be the late one. */
    const struct blob_fault late_hedge = {
        .kind = BLOB_FAULT_DELAY, .method = "GET", .skip = 1, .count = 1, .delay_ms = 4000};
    blob_proxy_fault(proxy, &late_hedge);
    begin = now();
    expect_got("one", 6, 100, bytes + 6, 100);
    expect_got("one", 7, 100, bytes + 7, 100);
    cr_expect_lt(now() - begin, 3500 * BLOB_MS);

    /* A store that is slow as a whole is not asked twice for everything. */
    const struct blob_fault slow = {.kind = BLOB_FAULT_DELAY, .method = "GET", .delay_ms = 60};
    look();
    hedges = stats.hedges;
    blob_proxy_fault(proxy, &slow);
    for (int i = 0; i < 30; i++)
        expect_got("one", 0, 100, bytes, 100);
    look();
    cr_expect_leq(stats.hedges - hedges, 12, "%u hedges", (unsigned)(stats.hedges - hedges));
    free(bytes);
}

Test(blob_s3, a_request_without_a_moving_byte_is_given_up, .init = setup, .fini = teardown)
{
    uint8_t *bytes = blob_bytes(1 << 20, 8);
    gw_blob_close(blob);
    options.request_timeout_ns = 300 * BLOB_MS;
    blob = open_store("godwit/pre/fix");
    cr_assert_eq(blob_put(blob, "one", bytes, 1 << 20, BLOB_NONE), GW_OK);
    static const enum blob_fault_kind kinds[] = {BLOB_FAULT_SILENT, BLOB_FAULT_STALL};
    for (int i = 0; i < 2; i++) {
        /* Both the first try and its hedge. */
        const struct blob_fault fault = {.kind = kinds[i], .count = 2};
        blob_proxy_fault(proxy, &fault);
        uint64_t begin = now();
        expect_got("one", 0, 0, bytes, 1 << 20);
        cr_expect_gt(now() - begin, 250 * BLOB_MS);
        cr_expect_lt(now() - begin, 5000 * BLOB_MS);
        look();
        cr_expect_geq(stats.retries, (uint64_t)i + 1);
        cr_expect(strstr(stats.trouble, "no byte moved for 3"), "%s", stats.trouble);
    }
    free(bytes);
}

Test(blob_s3, an_outage_with_a_full_queue_is_no_storm_and_passes, .init = setup, .fini = teardown)
{
    enum { CALLS = 300 };
    static struct blob_note notes[CALLS];
    char name[32];
    blob_proxy_fault(proxy, &(struct blob_fault){.kind = BLOB_FAULT_STATUS,
                                                 .status = 503,
                                                 .code = "SlowDown"});
    for (int i = 0; i < CALLS; i++) {
        snprintf(name, sizeof name, "o%03d", i);
        cr_assert_eq(gw_blob_put(blob, name, "x", 1, UINT64_MAX, blob_noted, &notes[i]), GW_OK);
    }
    usleep(2000000);
    cr_expect_leq(blob_proxy_requests(proxy), 100, "%u requests in 2 s of outage",
                  blob_proxy_requests(proxy));
    cr_expect_geq(blob_proxy_requests(proxy), 3);
    look();
    cr_expect_not(stats.healthy);
    cr_expect_eq(stats.queued + stats.under_way, CALLS);
    blob_proxy_heal(proxy);
    for (int i = 0; i < CALLS; i++) {
        blob_await(&notes[i]);
        cr_assert_eq(notes[i].status, GW_OK);
    }
    look();
    cr_expect(stats.healthy);
    cr_expect_eq(stats.failures, 0);
}

Test(blob_s3, close_ends_what_is_under_way, .init = setup, .fini = teardown)
{
    enum { CALLS = 40 };
    static struct blob_note notes[CALLS];
    blob_proxy_fault(proxy, &(struct blob_fault){.kind = BLOB_FAULT_SILENT});
    for (int i = 0; i < CALLS; i++)
        cr_assert_eq(gw_blob_get(blob, "one", 0, 0, UINT64_MAX, blob_noted, &notes[i]), GW_OK);
    usleep(200000);
    uint64_t begin = now();
    gw_blob_close(blob);
    cr_expect_lt(now() - begin, 1000 * BLOB_MS);
    for (int i = 0; i < CALLS; i++) {
        cr_expect_eq(notes[i].calls, 1);
        cr_expect_eq(notes[i].status, GW_E_CANCELLED);
    }
    blob_proxy_heal(proxy);
    blob = open_store("godwit");
}

/* What the store did before it could answer counts as nothing; a byte changed on the way is what
 * the tier's own checksums are for. */
Test(blob_s3, a_changed_byte_comes_through_as_it_came, .init = setup, .fini = teardown)
{
    struct blob_note note;
    uint8_t *bytes = blob_bytes(SMALL, 9);
    cr_assert_eq(blob_put(blob, "one", bytes, SMALL, BLOB_NONE), GW_OK);
    blob_proxy_fault(proxy, &(struct blob_fault){.kind = BLOB_FAULT_FLIP, .count = 1});
    cr_assert_eq(blob_get(blob, "one", 0, 0, BLOB_NONE, &note), GW_OK);
    cr_expect_eq(note.bytes, SMALL);
    uint32_t changed = 0;
    for (size_t i = 0; i < SMALL && note.bytes == SMALL; i++)
        changed += note.data[i] != bytes[i];
    cr_expect_eq(changed, 1);
    blob_note_fini(&note);
    free(bytes);
}
