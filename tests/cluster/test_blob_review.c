/* Goal: what a server has put into the shared tier, and others may have been told of, is never made
 * to mean something else by a later process of it. How: a real server that is killed before its
 * first checkpoint, and a directory as the object store whose names are looked at. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/cluster/blob_world.h"

TestSuite(blob_review, .timeout = 120);

struct names {
    uint32_t older, newer;         /* objects of the first process's segments, of later ones */
    uint64_t older_top, newer_low; /* highest and lowest address of either */
};

/* Of the only store. */
static struct names names_of(const struct world *w)
{
    struct names n = {.newer_low = UINT64_MAX};
    char line[700];
    snprintf(line, sizeof line, "find %s -name '*.gwo' -printf '%%f\n'", w->store);
    FILE *f = popen(line, "r");
    cr_assert(f);
    while (fgets(line, sizeof line, f)) {
        uint64_t first;
        unsigned incarnation;
        cr_assert_eq(sscanf(line, "%16" SCNx64 "-%8x.gwo", &first, &incarnation), 2, "%s", line);
        if (incarnation == 1) {
            n.older++;
            n.older_top = first > n.older_top ? first : n.older_top;
        } else {
            n.newer++;
            n.newer_low = first < n.newer_low ? first : n.newer_low;
        }
    }
    pclose(f);
    return n;
}

/* Without a checkpoint everything is taken from the commit logs, into a log that begins anew: not
 * at the addresses that it had. */
Test(blob_review, killed_before_its_first_checkpoint_it_uses_no_address_again)
{
    struct world w;
    world_open(&w, "commit", 5000, NULL);
    world_each(&w, true, 0, w.keys, 1);
    for (uint64_t end = harness_now_ms() + 10000;
         world_number(&w, "objects") < 2 && harness_now_ms() < end; harness_sleep_ms(20)) {}
    cr_assert_eq(recovery_checkpoint(world_server(&w)), 0, "the trace is another one");
    recovery_kill(&w.spawn, "A");
    struct names n, before = names_of(&w);
    cr_assert_gt(before.older, 0, "nothing was put");
    world_start_again(&w);
    for (uint64_t end = harness_now_ms() + 10000;
         (n = names_of(&w)).newer == 0 && harness_now_ms() < end; harness_sleep_ms(10)) {}
    cr_assert_gt(n.newer, 0, "nothing was put");
    cr_expect_gt(n.newer_low, before.older_top,
                 "addresses from %#" PRIx64 " on were used again, others may read up to %#" PRIx64,
                 n.newer_low, before.older_top);
    world_each(&w, false, 0, w.keys, 1);
    world_expect_exact(&w, "after the kill");
    world_close(&w);
}
