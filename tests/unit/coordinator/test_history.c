/* test_history.c - random histories: joins, losses, repeated and late events, operators who cancel,
 * and a kill at any moment. After every event map and jobs must fit together (world_turn checks),
 * and what the file holds must be what memory held. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/state.h"
#include "index/base/rand.h"
#include "tests/unit/coordinator/world.h"

#define SERVERS 5u

static struct world w;
static struct gw_rand rand_;
static uint64_t link_of[SERVERS], incarnation_of[SERVERS];
static uint64_t commits; /* that the model has seen */

static uint32_t below(uint32_t n)
{
    return (uint32_t)gw_rand_below(&rand_, n);
}
static void name(uint32_t server, char *room)
{
    sprintf(room, "s%u", server);
}

static void join(uint32_t s)
{
    char id[8], address[32];
    name(s, id);
    sprintf(address, "h%u:%u", s, 1 + below(2));
    uint64_t incarnation = incarnation_of[s] + below(2);
    uint64_t link = world_join_at(&w, id, incarnation, address, 0);
    if (world_sent_to(&w, link, GW_ACT_JOINED)) {
        link_of[s] = link;
        incarnation_of[s] = incarnation;
    }
}

static void random_join(void)
{
    /* Mostly who is missing; now and then who is in, as the same process or as another one. */
    uint32_t s = below(SERVERS);
    for (uint32_t i = 0; i < SERVERS && below(4); i++)
        if (!link_of[i])
            s = i;
    join(s);
}

static void random_slots(struct gw_slots *out)
{
    gw_slots_clear(out);
    for (uint32_t runs = 1 + below(3); runs; runs--) {
        uint32_t first = below(64) * 256, count = 1 + below(512);
        uint32_t last = first + count > GW_SLOTS ? GW_SLOTS - 1 : first + count - 1;
        gw_slots_add_range(out, (uint16_t)first, (uint16_t)last);
    }
}

static void random_migrate(void)
{
    char from[8], to[8], text[256];
    struct gw_slots slots, owned;
    uint64_t job;
    uint32_t source = below(SERVERS);
    name(source, from);
    name(below(SERVERS), to);
    random_slots(&slots);
    int at = gw_map_find(gw_coordinator_map(w.c), from);
    if (at >= 0 && below(4)) { /* mostly what could work */
        gw_map_slots_of(gw_coordinator_map(w.c), (uint32_t)at, &owned);
        for (uint32_t i = 0; i < GW_SLOTS / 64; i++)
            slots.word[i] &= owned.word[i];
    }
    uint32_t jobs = gw_coordinator_jobs(w.c);
    enum gw_status st = gw_coordinator_migrate(w.c, &slots, from, to, &job, text, sizeof text);
    cr_assert_eq(gw_coordinator_jobs(w.c), jobs + (st == GW_OK));
}

static void random_scale_out(void)
{
    char to[8], text[256];
    uint64_t ids[GW_SERVERS_MAX];
    uint32_t jobs;
    name(below(SERVERS), to);
    uint32_t before = gw_coordinator_jobs(w.c);
    if (gw_coordinator_scale_out(w.c, to, ids, &jobs, text, sizeof text) != GW_OK)
        jobs = 0;
    cr_assert_eq(gw_coordinator_jobs(w.c), before + jobs);
}

static void random_plan(void)
{
    struct gw_plan_draft draft;
    char text[256], id[8];
    static const struct gw_job_options options = {.rate_bytes = 9, .flags = GW_JOB_NO_PULLS};
    uint64_t plan;
    enum gw_status st;
    name(below(SERVERS), id);
    if (!below(3)) {
        random_scale_out();
        return;
    }
    if (below(2))
        st = gw_plan_drain(w.c, id, 0, &draft, text, sizeof text);
    else
        st = gw_plan_rebalance(w.c, (enum gw_plan_by)below(3), NULL, &draft, text, sizeof text);
    if (st != GW_OK)
        return;
    uint32_t before = gw_coordinator_jobs(w.c);
    st = gw_coordinator_plan_begin(w.c, &draft, &options, &plan, text, sizeof text);
    cr_assert_eq(gw_coordinator_jobs(w.c), before + (st == GW_OK ? draft.moves : 0));
    gw_plan_draft_destroy(&draft);
}

static void random_plan_change(void)
{
    char text[256];
    uint32_t plans = gw_coordinator_plans(w.c);
    if (!plans)
        return;
    uint64_t id = gw_coordinator_plan_at(w.c, plans - 1 - below(plans < 3 ? plans : 3))->id;
    enum gw_status st = below(3)
                            ? gw_coordinator_plan_cancel(w.c, id, text, sizeof text)
                            : gw_coordinator_plan_pause(w.c, id, below(3) == 0, text, sizeof text);
    cr_assert(st == GW_OK || st == GW_E_REFUSED);
}

/* Any event for a recent job, mostly from its source, in an order of its own. */
static void random_event(void)
{
    uint32_t jobs = gw_coordinator_jobs(w.c);
    if (!jobs)
        return;
    uint32_t back = below(jobs < 6 ? jobs : 6);
    for (uint32_t try = 0; try < 20 && below(20); try++) { /* mostly one that runs */
        const struct gw_job_record *job = gw_coordinator_job_at(w.c, jobs - 1 - back);
        if (gw_job_is_open(job->state) && !job->queued)
            break;
        back = below(jobs < 30 ? jobs : 30);
    }
    const struct gw_job_record *job = gw_coordinator_job_at(w.c, jobs - 1 - back);
    enum gw_job_state was = job->state;
    uint64_t id = job->id;
    uint32_t sender = (uint32_t)(gw_coordinator_map(w.c)->server[job->from].id[1] - '0');
    if (!below(60))
        sender = below(SERVERS);
    if (!link_of[sender])
        return;
    struct gw_job_event e = {.job = id,
                             .event = (enum gw_job_event_kind)(1 + below(4)),
                             .bytes_moved = gw_rand_next(&rand_),
                             .pause_ns = below(1000)};
    if (!below(10))
        e.event = GW_JOB_GAVE_UP;
    uint64_t version = gw_coordinator_map(w.c)->version;
    cr_assert_eq(gw_coordinator_job_event(w.c, link_of[sender], &e), GW_OK);
    enum gw_job_state now = gw_coordinator_job(w.c, id)->state;
    bool committed = was == GW_JOB_CREATED && now == GW_JOB_COMMITTED;
    cr_assert_eq(gw_coordinator_map(w.c)->version, version + committed, "%s to %s",
                 gw_job_state_name(was), gw_job_state_name(now));
    cr_assert(now == was || (e.event == GW_JOB_ASK_COMMIT && committed) ||
                  (e.event == GW_JOB_GAVE_UP && was == GW_JOB_CREATED && now == GW_JOB_FAILED) ||
                  (e.event == GW_JOB_ARRIVED && was == GW_JOB_COMMITTED && now == GW_JOB_CLOSING) ||
                  (e.event == GW_JOB_CLOSED && was == GW_JOB_CLOSING && now == GW_JOB_DONE),
              "event %d moved a job from %s to %s", (int)e.event, gw_job_state_name(was),
              gw_job_state_name(now));
    commits += committed;
}

static void random_cancel(void)
{
    char text[256];
    uint32_t jobs = gw_coordinator_jobs(w.c);
    if (!jobs)
        return;
    const struct gw_job_record *job = gw_coordinator_job_at(w.c, jobs - 1 - below(jobs));
    enum gw_job_state was = job->state;
    uint64_t id = job->id;
    bool may = was == GW_JOB_CREATED || was == GW_JOB_CANCELLED;
    cr_assert_eq(gw_coordinator_cancel(w.c, id, text, sizeof text) == GW_OK, may);
    cr_assert_eq(gw_coordinator_job(w.c, id)->state, may ? GW_JOB_CANCELLED : was);
}

static void random_pause(void)
{
    char text[256];
    uint32_t jobs = gw_coordinator_jobs(w.c);
    if (!jobs)
        return;
    const struct gw_job_record *job = gw_coordinator_job_at(w.c, jobs - 1 - below(jobs));
    bool paused = below(8) == 0, open = gw_job_is_open(job->state);
    cr_assert_eq(gw_coordinator_pause(w.c, job->id, paused, text, sizeof text) == GW_OK, open);
    cr_assert(!open || job->paused == paused);
}

static void random_loss(void)
{
    uint32_t s = below(SERVERS);
    if (link_of[s])
        gw_coordinator_link_lost(w.c, link_of[s]);
    link_of[s] = 0;
}

static void all_heartbeat(void)
{
    for (uint32_t s = 0; s < SERVERS; s++)
        if (link_of[s])
            world_heartbeat(&w, link_of[s], incarnation_of[s]);
}

/* Killed and started again: everything durable is as it was, nobody is connected. */
static void kill_and_compare(void)
{
    world_pass(&w, 1000); /* numbers wait at most so long */
    world_turn(&w);
    struct gw_coordinator *before = w.c;
    w.c = NULL;
    gw_fact_store_close(w.store);
    world_start(&w);
    cr_assert(world_same(before, w.c), "the file differs from what memory held");
    gw_coordinator_destroy(before);
    memset(link_of, 0, sizeof link_of);
    cr_assert_eq(gw_coordinator_tick(w.c, w.now_ns, w.wall_ms), GW_OK);
    for (uint32_t i = 0; i < gw_coordinator_map(w.c)->servers; i++)
        cr_assert_not(gw_coordinator_server_up(w.c, i));
}

/* Forgets links that the coordinator has ended. */
static void note_refusals(void)
{
    for (uint32_t i = 0; i < w.sents; i++)
        for (uint32_t s = 0; s < SERVERS; s++)
            if (w.sent[i].kind == GW_ACT_REFUSE && w.sent[i].link == link_of[s])
                link_of[s] = 0;
}

static void history(uint64_t seed, uint32_t events)
{
    world_init(&w);
    gw_rand_init(&rand_, seed);
    memset(link_of, 0, sizeof link_of);
    for (uint32_t s = 0; s < SERVERS; s++)
        incarnation_of[s] = 1;
    uint64_t version = 0;
    for (uint32_t i = 0; i < events; i++) {
        for (uint32_t burst = 1 + below(3); burst; burst--) { /* several events a turn */
            uint32_t what = below(100);
            if (what < 12)
                random_join();
            else if (what < 14)
                random_loss();
            else if (what < 30)
                random_migrate();
            else if (what < 31)
                random_plan();
            else if (what < 34)
                random_plan_change();
            else if (what < 85)
                random_event();
            else if (what < 89)
                random_cancel();
            else if (what < 91)
                random_pause();
            else
                world_pass(&w, below(900));
            note_refusals();
        }
        if (below(20))
            all_heartbeat();
        world_turn(&w);
        note_refusals();
        cr_assert_geq(gw_coordinator_map(w.c)->version, version, "seed %lu", (unsigned long)seed);
        version = gw_coordinator_map(w.c)->version;
        if (!below(60))
            kill_and_compare();
    }
    kill_and_compare();
    world_fini(&w);
}

Test(history, random_events_and_kills_keep_map_and_jobs_together, .timeout = 120)
{
    uint64_t first = 1, count = 12;
    if (getenv("GW_TEST_SEED")) {
        first = strtoull(getenv("GW_TEST_SEED"), NULL, 10);
        count = 1;
    }
    commits = 0;
    for (uint64_t seed = first; seed < first + count; seed++) {
        fprintf(stderr, "seed %lu\n", (unsigned long)seed);
        history(seed, 600);
    }
    cr_assert_gt(commits, 15 * count, "the histories are too dull: %lu commits",
                 (unsigned long)commits);
}

/* Goal: replaying every fact ever given is the same as loading the file, which the simulator uses.
 */
Test(history, the_facts_in_their_order_are_the_state)
{
    world_init(&w);
    static struct gw_fact all[64];
    uint32_t n = 0;
    struct gw_coordinator *c, *again;
    char text[256];
    uint64_t job;
    cr_assert_eq(gw_coordinator_create(&c), GW_OK);
    cr_assert_eq(gw_coordinator_start(c, 1, 2, text, sizeof text), GW_OK);
    cr_assert_eq(gw_coordinator_tick(c, 5, 6), GW_OK);
    struct gw_join join = {.incarnation = 3, .id = "a", .address = "a:1"};
    cr_assert_eq(gw_coordinator_join(c, 1, &join), GW_OK);
    join.id[0] = 'b';
    cr_assert_eq(gw_coordinator_join(c, 2, &join), GW_OK);
    struct gw_slots slots;
    gw_slots_clear(&slots);
    gw_slots_add_range(&slots, 7, 70);
    cr_assert_eq(gw_coordinator_migrate(c, &slots, "a", "b", &job, text, sizeof text), GW_OK);
    struct gw_job_event e = {.job = job, .event = GW_JOB_ASK_COMMIT};
    cr_assert_eq(gw_coordinator_job_event(c, 1, &e), GW_OK);
    const struct gw_outcome *o = gw_coordinator_outcome(c);
    for (uint32_t i = 0; i < o->facts; i++)
        all[n++] = o->fact[i];
    cr_assert_eq(gw_coordinator_create(&again), GW_OK);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(gw_coordinator_apply(again, &all[i]), GW_OK, "fact %u", i);
    cr_assert_eq(gw_coordinator_start(again, 9, 9, text, sizeof text), GW_OK, "%s", text);
    cr_expect(world_same(c, again));
    cr_expect_eq(gw_coordinator_outcome(again)->facts, 0, "nothing new is founded");
    gw_coordinator_destroy(again);
    gw_coordinator_destroy(c);
    world_fini(&w);
}
