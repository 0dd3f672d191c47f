/* Goal: an S3 server that answers nothing, refuses or cuts stops nobody who is hot; cold reads get
 * a status, it is said, and everything comes back by itself. How: s3rver, with a proxy in front
 * that does to its answers what networks and object stores do. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/cluster/blob_world.h"
#include "tests/support/blob_proxy.h"
#include "tests/support/s3rver.h"

TestSuite(blob_s3, .timeout = 250);

struct scene {
    struct s3rver *store;
    struct blob_proxy *proxy;
    struct world w;
    uint32_t hot; /* keys from here on are in memory */
};

/* A server larger than its disk, in front of a store whose clock is that far ahead. False: there is
 * no S3 server. */
static bool scene_open(struct scene *s, int64_t skew_s)
{
    char url[200];
    s->store = s3rver_start(GW_TEST_SOURCE_DIR, "godwit", skew_s);
    if (!s->store)
        return false;
    s->proxy = blob_proxy_start(s3rver_port(s->store));
    snprintf(url, sizeof url, "s3://godwit/tests?endpoint=http://127.0.0.1:%u",
             blob_proxy_port(s->proxy));
    setenv("AWS_ACCESS_KEY_ID", S3RVER_SECRET, 1);
    setenv("AWS_SECRET_ACCESS_KEY", S3RVER_SECRET, 1);
    world_open(&s->w, "memory", 15000, url);
    for (uint32_t half = 0; half < 2; half++) { /* no faster than it is uploaded */
        world_each(&s->w, true, half * s->w.keys / 2, (half + 1) * s->w.keys / 2, 1);
        world_expect_exact(&s->w, "written");
        world_until_uploaded(&s->w);
    }
    cr_assert_gt(world_number(&s->w, "dropped_segments"), 0);
    s->hot = s->w.keys - s->w.keys / 30;
    return true;
}

static void scene_close(struct scene *s)
{
    world_close(&s->w);
    blob_proxy_stop(s->proxy);
    s3rver_stop(s->store);
}

/* Hot keys are read and written as if nothing was. */
static void expect_hot(struct scene *s, const char *when)
{
    uint64_t began = harness_now_ms();
    world_each(&s->w, false, s->hot, s->w.keys, 1);
    world_expect_exact(&s->w, when);
    world_each(&s->w, true, s->hot, s->w.keys, 1);
    world_expect_exact(&s->w, when);
    /* A third of what a cold read waits at most: not one hot operation waited for one. */
    cr_expect_lt(harness_now_ms() - began, 4000, "%s: hot traffic waits", when);
}

Test(blob_s3, a_store_that_answers_nothing_stops_nobody_who_is_hot)
{
    struct scene s;
    if (!scene_open(&s, 0))
        cr_skip_test(S3RVER_MISSING);
    struct world *w = &s.w;
    world_until_exact(w, 0, w->keys, 3, "before");

    blob_proxy_fault(s.proxy, &(struct blob_fault){.kind = BLOB_FAULT_SILENT});
    expect_hot(&s, "while it is silent");
    world_each(w, false, 1, w->keys / 20, 9);
    cr_expect_gt(w->unreachable, 0, "cold reads are not told");
    cr_expect_eq(w->wrong + w->missing, 0, "%llu keys vanish",
                 (unsigned long long)(w->wrong + w->missing));
    world_each(w, true, 2, w->keys / 20, 9);
    world_expect_exact(w, "cold writes while it is silent");
    world_until_trouble(w, "does not answer", 15000);
    world_until_status(w, "does not answer");

    /* Nobody asks anything of it any more; another cause is noticed nevertheless. */
    blob_proxy_fault(s.proxy, &(struct blob_fault){.kind = BLOB_FAULT_STATUS,
                                                   .status = 503,
                                                   .code = "SlowDown"});
    world_until_trouble(w, "503 SlowDown", 15000);
    expect_hot(&s, "while it is busy");

    blob_proxy_heal(s.proxy); /* and so is the end */
    world_until_trouble(w, NULL, 20000);
    world_until_exact(w, 0, w->keys, 1, "it is back");
    scene_close(&s);
}

/* Goal: whatever it answers instead of what was asked for has a name, gives no wrong value and no
 * "not found", and is over when it is over. */
Test(blob_s3, what_it_refuses_or_garbles_is_named_and_never_believed)
{
    static const struct {
        struct blob_fault fault;
        const char *named;
    } cases[] = {
        {{.kind = BLOB_FAULT_STATUS, .status = 403, .code = "AccessDenied"}, "403 AccessDenied"},
        {{.kind = BLOB_FAULT_STATUS, .status = 404, .code = "NoSuchBucket"}, "404 NoSuchBucket"},
        {{.kind = BLOB_FAULT_STATUS, .status = 404, .code = "NoSuchKey"}, "is missing"},
        {{.kind = BLOB_FAULT_STATUS, .status = 500, .code = "InternalError"}, "500 InternalError"},
        {{.kind = BLOB_FAULT_CUT}, "the answer was cut"},
        {{.kind = BLOB_FAULT_FLIP, .method = "GET"}, "has wrong bytes"},
        {{.kind = BLOB_FAULT_REFUSE}, "no connection"},
    };
    struct scene s;
    if (!scene_open(&s, 0))
        cr_skip_test(S3RVER_MISSING);
    struct world *w = &s.w;
    uint32_t at = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *named = cases[i].named;
        blob_proxy_fault(s.proxy, &cases[i].fault);
        /* Other keys each time, some frames apart: none that has been read already. */
        world_each(w, false, at, at + 100, 20);
        cr_expect_eq(w->wrong + w->missing, 0, "%s: %llu wrong, %llu vanish", named,
                     (unsigned long long)w->wrong, (unsigned long long)w->missing);
        cr_expect_gt(w->unreachable + w->failed, 0, "%s: cold reads are not told", named);
        world_until_trouble(w, named, 10000);
        expect_hot(&s, named);
        blob_proxy_heal(s.proxy);
        world_until_exact(w, at, at + 100, 20, named);
        at += 500;
        world_until_trouble(w, NULL, 20000);
    }
    world_until_exact(w, 0, w->keys, 1, "it is back");
    scene_close(&s);
}

/* Goal: a server that starts with what the store does not accept serves what it has, says what is
 * wrong, and uploads when it is put right. */
Test(blob_s3, wrong_credentials_and_a_missing_bucket_are_named)
{
    struct scene s;
    if (!scene_open(&s, 900 + 2700)) /* its clock is followed */
        cr_skip_test(S3RVER_MISSING);
    struct world *w = &s.w;
    cr_expect(recovery_log_has(&w->spawn, "A", "RequestTimeTooSkewed"));
    world_until_trouble(w, "its clock is", 5000);
    world_until_exact(w, 0, w->keys, 3, "with another clock");
    static const struct {
        const char *access, *secret, *bucket, *named;
    } cases[] = {
        {S3RVER_SECRET, "wrong", "godwit", "SignatureDoesNotMatch"},
        {"NOBODY", S3RVER_SECRET, "godwit", "InvalidAccessKeyId"},
        {S3RVER_SECRET, S3RVER_SECRET, "elsewhere", "NoSuchBucket"},
        {S3RVER_SECRET, S3RVER_SECRET, "godwit", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *named = cases[i].named ? cases[i].named : "all is well";
        recovery_take_checkpoint(world_server(w));
        recovery_kill(&w->spawn, "A");
        setenv("AWS_ACCESS_KEY_ID", cases[i].access, 1);
        setenv("AWS_SECRET_ACCESS_KEY", cases[i].secret, 1);
        snprintf(w->url, sizeof w->url, "s3://%s/tests?endpoint=http://127.0.0.1:%u",
                 cases[i].bucket, blob_proxy_port(s.proxy));
        world_start_again(w);
        if (cases[i].named) {
            world_each(w, false, 7, 8, 1);
            cr_expect_eq(w->good + w->wrong + w->missing, 0, "%s: a cold key is read", named);
            world_until_trouble(w, named, 10000);
            world_until_status(w, named);
        }
        world_each(w, true, s.hot, w->keys, 1);
        world_expect_exact(w, named);
    }
    world_until_trouble(w, "its clock is", 20000);
    world_until_exact(w, 0, w->keys, 1, "it is mended");
    scene_close(&s);
}

/* Goal: with the store away writes go on into what the disk has, then are refused at once and by
 * name; nothing that was taken is lost, and all is uploaded once it is back. */
Test(blob_s3, a_disk_that_is_full_meanwhile_refuses_and_catches_up)
{
    struct scene s;
    if (!scene_open(&s, 0))
        cr_skip_test(S3RVER_MISSING);
    struct world *w = &s.w;
    blob_proxy_fault(s.proxy, &(struct blob_fault){.kind = BLOB_FAULT_REFUSE});
    /* New keys: what is written of a cold one is decided by what it was. */
    uint32_t old = w->keys, chunk = old / 60, at = old; /* 2.5 MB */
    world_more(w, 3 * old);
    for (w->failed = 0; w->failed == 0; at += chunk) {
        cr_assert_lt(at, 3 * old, "a disk of 128 MiB takes more than 300 MB");
        world_each(w, true, at, at + chunk, 1);
        cr_assert_lt(w->unreachable, 20, "%llu", (unsigned long long)w->unreachable);
    }
    cr_expect_eq(w->failure, GW_E_FULL, "%s", gw_status_text(w->failure));
    cr_expect_gt(at - old, old / 3, "%u keys are all that the disk takes", at - old);
    for (uint32_t i = 0; i < 3; i++) { /* and it stays so, for nobody longer than a moment */
        uint64_t began = harness_now_ms();
        world_each(w, true, at, at + chunk, 1);
        cr_expect_lt(harness_now_ms() - began, 8000, "a write to a full store hangs");
        cr_expect_gt(w->failed, 0);
        cr_expect_eq(w->failure, GW_E_FULL, "%s", gw_status_text(w->failure));
    }
    world_until_trouble(w, "no connection", 10000);
    world_until_status(w, "no connection");

    blob_proxy_heal(s.proxy);
    world_until_trouble(w, NULL, 30000);
    world_until_uploaded(w);
    world_until_exact(w, 0, at + chunk, 1, "after a full disk");
    for (uint32_t from = 0; from < old; from += old / 4) { /* no faster than it is uploaded */
        world_each(w, true, from, from + old / 4, 1);
        world_expect_exact(w, "written again");
        world_until_uploaded(w);
    }
    world_until_exact(w, 0, at + chunk, 7, "read again");
    scene_close(&s);
}
