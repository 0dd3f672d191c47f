/* Goal: an S3 server that answers nothing, refuses or cuts stops nobody who is hot; cold reads get
 * a status, it is said, and everything comes back by itself. How: s3rver, with a proxy in front
 * that does to its answers what networks and object stores do. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/cluster/blob_world.h"
#include "tests/support/blob_proxy.h"
#include "tests/support/s3rver.h"

TestSuite(blob_s3, .timeout = 120);

Test(blob_s3, a_store_that_answers_nothing_stops_nobody_who_is_hot)
{
    struct s3rver *store = s3rver_start(GW_TEST_SOURCE_DIR, "godwit", 0);
    if (!store)
        cr_skip_test(S3RVER_MISSING);
    struct blob_proxy *proxy = blob_proxy_start(s3rver_port(store));
    struct world w;
    char url[200];
    snprintf(url, sizeof url, "s3://godwit/tests?endpoint=http://127.0.0.1:%u",
             blob_proxy_port(proxy));
    setenv("AWS_ACCESS_KEY_ID", S3RVER_SECRET, 1);
    setenv("AWS_SECRET_ACCESS_KEY", S3RVER_SECRET, 1);
    world_open(&w, "memory", 15000, url);
    for (uint32_t half = 0; half < 2; half++) { /* no faster than it is uploaded */
        world_each(&w, true, half * w.keys / 2, (half + 1) * w.keys / 2, 1);
        world_expect_exact(&w, "written");
        world_until_uploaded(&w);
    }
    cr_assert_gt(world_number(&w, "dropped_segments"), 0);
    world_each(&w, false, 0, w.keys, 3);
    world_expect_exact(&w, "before");

    blob_proxy_fault(proxy, &(struct blob_fault){.kind = BLOB_FAULT_SILENT});
    uint32_t hot = w.keys - w.keys / 30;
    uint64_t began = harness_now_ms();
    world_each(&w, false, hot, w.keys, 1);
    world_expect_exact(&w, "hot reads");
    world_each(&w, true, hot, w.keys, 1);
    world_expect_exact(&w, "hot writes");
    cr_expect_lt(harness_now_ms() - began, 4000, "hot traffic waits");
    world_each(&w, false, 1, w.keys / 20, 9);
    cr_expect_gt(w.unreachable, 0, "cold reads are not told");
    cr_expect_eq(w.wrong + w.missing, 0, "%llu keys vanish",
                 (unsigned long long)(w.wrong + w.missing));
    world_until_trouble(&w, "shared tier", 15000);

    blob_proxy_fault(proxy, &(struct blob_fault){.kind = BLOB_FAULT_STATUS,
                                                 .status = 503,
                                                 .code = "SlowDown"});
    world_until_trouble(&w, "503", 15000);
    world_each(&w, true, hot, w.keys, 1);
    world_expect_exact(&w, "hot writes, later");

    blob_proxy_heal(proxy);
    world_until_trouble(&w, NULL, 60000);
    world_each(&w, false, 0, w.keys, 1);
    world_expect_exact(&w, "it is back");
    world_close(&w);
    blob_proxy_stop(proxy);
    s3rver_stop(store);
}
