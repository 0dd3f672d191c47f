/* Goal: counts stay exact whatever moves, dies or comes back meanwhile.
 * How: writers add to counters of all slots and count plainly; at the end both are compared. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "index/base/rand.h"
#include "index/base/slots.h"
#include "tests/cluster/harness.h"

TestSuite(moves, .timeout = 280);

#define KEYS 20000u

/* `count` slots that `owner` says server `from` has, at random places, as runs. */
static void draw_slots(struct gw_rand *rand, const uint8_t *owner, uint8_t from, uint32_t count,
                       struct gw_slots *out)
{
    gw_slots_clear(out);
    for (uint32_t got = 0; got < count;) {
        uint32_t at = (uint32_t)gw_rand_below(rand, GW_SLOTS);
        for (uint32_t run = 0; run < 512 && got < count; run++, at = (at + 1) % GW_SLOTS)
            if (owner[at] == from && !gw_slots_has(out, (uint16_t)at)) {
                gw_slots_add(out, (uint16_t)at);
                got++;
            }
    }
}

Test(moves, counts_are_exact_through_20_migrations_in_random_directions)
{
    struct gw_spawn spawn;
    struct harness_writer writer = {0};
    static uint8_t owner[GW_SLOTS];
    static char text[GW_SLOTS * 6];
    static const char *const ids[] = {"A", "B", "C"};
    struct gw_rand rand;
    uint64_t seed = gw_rand_system_seed();
    fprintf(stderr, "seed %llu\n", (unsigned long long)seed);
    gw_rand_init(&rand, seed);
    harness_start(&spawn, 3);
    harness_writer_start(&writer, &spawn, "k", KEYS);
    int under_load = 0; /* a move of few slots may be over before the writer gets the processor */
    for (int i = 0; i < 20; i++) {
        uint32_t owned[3] = {0};
        for (uint32_t s = 0; s < GW_SLOTS; s++)
            owned[owner[s]]++;
        uint8_t from, to;
        do
            from = (uint8_t)gw_rand_below(&rand, 3);
        while (owned[from] == 0);
        do
            to = (uint8_t)gw_rand_below(&rand, 3);
        while (to == from);
        struct gw_slots slots;
        draw_slots(&rand, owner, from, 1 + (uint32_t)gw_rand_below(&rand, owned[from]), &slots);
        gw_slots_format(&slots, text, sizeof text);
        uint64_t before = harness_writer_total(&writer);
        HARNESS_CHECK(&spawn, 0, "migrate", "--slots", text, "--from", ids[from], "--to", ids[to],
                      "--wait", "--timeout", "30");
        under_load += harness_writer_total(&writer) > before;
        for (uint32_t s = 0; s < GW_SLOTS; s++)
            if (gw_slots_has(&slots, (uint16_t)s))
                owner[s] = to;
    }
    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    fprintf(stderr, "%llu adds, longest wait %.1f ms\n",
            (unsigned long long)harness_writer_total(&writer),
            (double)writer.wait_longest_ns / 1e6);
    harness_writer_free(&writer);
    harness_stop(&spawn);
}

Test(moves, jobs_on_disjoint_ranges_run_in_both_directions_at_once)
{
    struct gw_spawn spawn;
    struct harness_writer writer = {0};
    static const char *const ranges[2] = {"0-3000", "12000-15000"};
    static const char *const ids[2] = {"A", "B"};
    harness_start(&spawn, 2);
    HARNESS_CHECK(&spawn, 0, "migrate", "--slots", ranges[1], "--from", "A", "--to", "B", "--wait",
                  "--timeout", "30");
    harness_writer_start(&writer, &spawn, "k", KEYS);
    for (int round = 0; round < 4; round++) {
        /* The first range is where the round's number says, the second one at the other server. */
        char jobs[2][16];
        for (int i = 0; i < 2; i++) {
            int from = (round + i) % 2;
            struct harness_run run =
                HARNESS_EXPECT(&spawn, 0, NULL, "migrate", "--slots", ranges[i], "--from",
                               ids[from], "--to", ids[1 - from]);
            snprintf(jobs[i], sizeof jobs[i], "%.*s", (int)strcspn(run.out, "\n"), run.out);
            harness_run_free(&run);
        }
        for (int i = 0; i < 2; i++)
            HARNESS_CHECK(&spawn, 0, "job", "watch", jobs[i], "--timeout", "30");
    }
    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    harness_writer_free(&writer);
    harness_stop(&spawn);
}

Test(moves, a_job_finishes_after_its_coordinator_was_killed_and_restarted)
{
    struct gw_spawn spawn;
    struct harness_writer writer = {0};
    harness_start(&spawn, 2);
    harness_writer_start(&writer, &spawn, "k", KEYS);
    bool at_a = true;
    static const uint64_t delays_ms[] = {0, 2, 5, 10, 25, 60};
    for (size_t i = 0; i < sizeof delays_ms / sizeof delays_ms[0]; i++) {
        struct harness_run run =
            HARNESS_EXPECT(&spawn, 0, NULL, "migrate", "--slots", "0-8191", "--from",
                           at_a ? "A" : "B", "--to", at_a ? "B" : "A");
        char id[16];
        snprintf(id, sizeof id, "%.*s", (int)strcspn(run.out, "\n"), run.out);
        harness_run_free(&run);
        harness_sleep_ms(delays_ms[i]);
        cr_assert_eq(gw_process_stop(&spawn.coordinator, SIGKILL, 5000), 128 + SIGKILL);
        uint64_t before = harness_writer_total(&writer);
        harness_sleep_ms(300);
        cr_expect_gt(harness_writer_total(&writer), before,
                     "the data path stopped while the coordinator was down");
        cr_assert(gw_spawn_coordinator(&spawn), "%s", spawn.error);
        HARNESS_CHECK(&spawn, 0, "job", "watch", id, "--timeout", "30");
        harness_until_healthy(&spawn);
        at_a = !at_a;
    }
    harness_writer_stop(&writer);
    harness_writer_check(&writer);
    harness_writer_free(&writer);
    harness_stop(&spawn);
}

Test(moves, a_client_killed_mid_flight_loses_nothing_that_was_acknowledged)
{
    enum { DYING_KEYS = 500 };
    struct gw_spawn spawn;
    struct harness_writer other = {0};
    harness_start(&spawn, 2);
    HARNESS_CHECK(&spawn, 0, "scale-out", "--to", "B", "--wait", "--timeout", "30");
    harness_writer_start(&other, &spawn, "other", 2000);

    size_t bytes = DYING_KEYS * sizeof(_Atomic uint64_t);
    _Atomic uint64_t *shared =
        mmap(NULL, 2 * bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(shared, MAP_FAILED);
    pid_t child = fork();
    cr_assert(child >= 0);
    if (child == 0) {
        static struct harness_writer dying;
        dying.sent = shared;
        dying.acknowledged = shared + DYING_KEYS;
        harness_writer_start(&dying, &spawn, "dying", DYING_KEYS);
        pause();
        _exit(0);
    }
    /* Kill it in full flight, with a migration on the way. */
    HARNESS_CHECK(&spawn, 0, "migrate", "--slots", "0-4000", "--from", "A", "--to", "B", "--wait",
                  "--timeout", "30");
    harness_sleep_ms(300);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);

    harness_writer_stop(&other);
    harness_writer_check(&other);
    struct gw_session *session;
    uint64_t sent = 0, acknowledged = 0;
    cr_assert_eq(gw_session_open(other.cluster, NULL, &session), GW_OK);
    for (uint32_t i = 0; i < DYING_KEYS; i++) {
        char key[32];
        struct gw_result result = {0};
        int len = snprintf(key, sizeof key, "dying%u", i);
        enum gw_status st = gw_get_sync(session, key, (size_t)len, &result);
        cr_assert(st == GW_OK || st == GW_NOT_FOUND, "%s", gw_status_text(st));
        uint64_t least = shared[DYING_KEYS + i], most = shared[i];
        cr_expect((uint64_t)result.number >= least && (uint64_t)result.number <= most,
                  "%s is %lld: acknowledged %llu, sent %llu", key, (long long)result.number,
                  (unsigned long long)least, (unsigned long long)most);
        sent += most;
        acknowledged += least;
    }
    cr_expect_gt(acknowledged, 0);
    cr_expect_gt(sent, acknowledged, "it was not in flight when it was killed");
    gw_session_close(session);
    harness_writer_free(&other);
    munmap(shared, 2 * bytes);
    harness_stop(&spawn);
}
