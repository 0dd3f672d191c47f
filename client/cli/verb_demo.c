/* verb_demo.c - the verb `demo`: made-up events are counted in a running cluster while half of the
 * slots of one server move to another and back; then every count is compared with plain counting.
 *
 * The main thread counts; a second thread moves the slots, one job after the other, until the time
 * is over and the slots are back. Keys begin with "demo:" and are deleted at the end. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/cli/admin.h"
#include "client/cli/flags.h"
#include "client/cli/progress.h"
#include "index/base/clock.h"
#include "index/base/rand.h"
#include "index/base/slots.h"

#define KEYS        20000u
#define SECONDS_MAX 3600u
#define POLL_MS     10
#define KEY_BYTES   32
#define SLOTS_TEXT  (GW_SLOTS * 6u)

struct mover {
    struct gw_cli *cli;
    char from[64], to[64];
    char slots[SLOTS_TEXT];
    uint64_t jobs, bytes_moved, pause_us;
    enum gw_exit code; /* what was not GW_EXIT_OK has been said */
    /* Main thread: set at the end of the time. Relaxed: it publishes nothing. */
    _Atomic bool stop;
    _Atomic bool ended; /* the mover's last word (release), awaited by the main thread (acquire) */
};

struct demo {
    struct gw_session *session;
    uint64_t events, wrong, in_doubt;
    enum gw_status failure;
    uint64_t counted[KEYS];
    struct check {
        struct demo *demo;
        uint32_t key;
    } checks[KEYS];
};

/* ---- moving slots --------------------------------------------------------------------------- */

static enum gw_exit move_once(struct mover *mover, const char *from, const char *to)
{
    json_t *answer, *jobs;
    json_t *request = json_pack("{s:s, s:s, s:s, s:s}", "op", "migrate", "slots", mover->slots,
                                "from", from, "to", to);
    enum gw_exit code = gw_admin_ask(mover->cli, request, &answer);
    if (code != GW_EXIT_OK)
        return code;
    uint64_t id = gw_json_number(answer, "job");
    json_decref(answer);
    code = gw_admin_wait(mover->cli, &id, 1, 0, &jobs);
    if (!jobs)
        return code;
    const json_t *job = json_array_get(jobs, 0);
    mover->jobs++;
    mover->bytes_moved += gw_json_number(job, "bytes_moved");
    if (gw_json_number(job, "pause_us") > mover->pause_us)
        mover->pause_us = gw_json_number(job, "pause_us");
    if (code != GW_EXIT_OK)
        code = gw_cli_fail(mover->cli, code, "job_failed", "job %" PRIu64 ": %s", id,
                           gw_json_text(job, "error"));
    json_decref(jobs);
    return code;
}

static void *move_slots(void *ctx)
{
    struct mover *mover = ctx;
    bool away = false;
    while (mover->code == GW_EXIT_OK &&
           (away || !atomic_load_explicit(&mover->stop, memory_order_relaxed))) {
        mover->code = away ? move_once(mover, mover->to, mover->from)
                           : move_once(mover, mover->from, mover->to);
        away = !away;
    }
    atomic_store_explicit(&mover->ended, true, memory_order_release);
    return NULL;
}

static void half_of(const struct gw_slots *all, struct gw_slots *half)
{
    uint32_t wanted = (gw_slots_count(all) + 1) / 2;
    gw_slots_clear(half);
    for (uint32_t slot = 0; slot < GW_SLOTS && wanted > 0; slot++) {
        if (!gw_slots_has(all, (uint16_t)slot))
            continue;
        gw_slots_add(half, (uint16_t)slot);
        wanted--;
    }
}

/* From: the server with most slots; to: the one with fewest. Fills the mover. */
static enum gw_exit plan(struct gw_cli *cli, struct mover *mover)
{
    json_t *status;
    enum gw_exit code = gw_admin_ask(cli, json_pack("{s:s}", "op", "status"), &status);
    if (code != GW_EXIT_OK)
        return code;
    const json_t *most = NULL, *fewest = NULL;
    size_t i;
    json_t *server;
    json_array_foreach(json_object_get(status, "servers"), i, server)
    {
        if (strcmp(gw_json_text(server, "state"), "up") != 0)
            continue;
        uint64_t slots = gw_json_number(server, "slots");
        if (!most || slots > gw_json_number(most, "slots"))
            most = server;
        if (!fewest || slots <= gw_json_number(fewest, "slots"))
            fewest = server;
    }
    struct gw_slots all, half;
    char why[160];
    if (!most || most == fewest) {
        code = gw_cli_fail(cli, GW_EXIT_REFUSED, "e_refused",
                           "demo needs two servers that are up; start another one");
    } else if (gw_slots_parse(gw_json_text(most, "slot_ranges"), &all, why, sizeof why) != GW_OK) {
        code = gw_cli_fail(cli, GW_EXIT_REFUSED, "e_refused", "slots of server %s: %s",
                           gw_json_text(most, "id"), why);
    } else {
        snprintf(mover->from, sizeof mover->from, "%s", gw_json_text(most, "id"));
        snprintf(mover->to, sizeof mover->to, "%s", gw_json_text(fewest, "id"));
        half_of(&all, &half);
        gw_slots_format(&half, mover->slots, sizeof mover->slots);
    }
    json_decref(status);
    return code;
}

/* ---- counting ------------------------------------------------------------------------------- */

static size_t key_of(uint32_t number, char *room)
{
    return (size_t)snprintf(room, KEY_BYTES, "demo:%u", number);
}

static void answered(void *ctx, const struct gw_result *result)
{
    struct demo *demo = ctx;
    if (result->status == GW_OK)
        demo->events++;
    else if (result->status == GW_IN_DOUBT)
        demo->in_doubt++;
    else if (result->status != GW_NOT_FOUND && demo->failure == GW_OK)
        demo->failure = result->status;
}

static void compared(void *ctx, const struct gw_result *result)
{
    struct check *check = ctx;
    struct demo *demo = check->demo;
    uint64_t expected = demo->counted[check->key];
    bool right = result->status == GW_OK
                     ? result->kind == GW_VALUE_COUNTER && (uint64_t)result->number == expected
                     : result->status == GW_NOT_FOUND && expected == 0;
    demo->wrong += !right;
}

enum step { STEP_CLEAR, STEP_COMPARE };

/* One operation for each key. */
static enum gw_status for_all_keys(struct demo *demo, enum step step)
{
    char key[KEY_BYTES];
    for (uint32_t i = 0; i < KEYS && demo->failure == GW_OK;) {
        size_t len = key_of(i, key);
        demo->checks[i] = (struct check){demo, i};
        enum gw_status st = step == STEP_CLEAR
                                ? gw_delete(demo->session, key, len, answered, demo)
                                : gw_get(demo->session, key, len, compared, &demo->checks[i]);
        if (st == GW_WOULD_BLOCK)
            (void)gw_poll(demo->session, POLL_MS);
        else if (st != GW_OK)
            return st;
        else
            i++;
    }
    enum gw_status st = gw_drain(demo->session, -1);
    return st != GW_OK ? st : demo->failure;
}

static enum gw_status count_until(struct demo *demo, struct mover *mover, uint64_t seconds)
{
    const struct gw_clock *clock = gw_clock_system();
    struct gw_progress progress;
    struct gw_rand rand;
    char key[KEY_BYTES];
    enum gw_status st = GW_OK;
    uint64_t start = gw_clock_now_ns(clock), end = start + seconds * 1000000000ull;
    gw_rand_init(&rand, gw_rand_system_seed());
    gw_progress_init(&progress);
    while (st == GW_OK && demo->failure == GW_OK &&
           !atomic_load_explicit(&mover->ended, memory_order_acquire)) {
        for (uint32_t i = 0; i < 1000 && st == GW_OK; i++) {
            /* The smaller of two draws: some keys are hotter than others. */
            uint64_t a = gw_rand_below(&rand, KEYS), b = gw_rand_below(&rand, KEYS);
            uint32_t number = (uint32_t)(a < b ? a : b);
            size_t len = key_of(number, key);
            while ((st = gw_add(demo->session, key, len, 1, 0, answered, demo)) == GW_WOULD_BLOCK)
                (void)gw_poll(demo->session, POLL_MS);
            if (st == GW_OK)
                demo->counted[number]++;
        }
        (void)gw_poll(demo->session, 0);
        uint64_t now = gw_clock_now_ns(clock);
        if (now >= end)
            atomic_store_explicit(&mover->stop, true, memory_order_relaxed);
        char words[96];
        snprintf(words, sizeof words, "%" PRIu64 " events counted", demo->events);
        gw_progress_show(&progress, (double)(now - start) / (double)(end - start), words);
    }
    gw_progress_clear(&progress);
    if (st == GW_OK)
        st = gw_drain(demo->session, -1);
    return st != GW_OK ? st : demo->failure;
}

static enum gw_exit report(struct gw_cli *cli, const struct demo *demo, const struct mover *mover,
                           double seconds)
{
    struct gw_session_stats stats;
    gw_session_stats(demo->session, &stats);
    bool exact = demo->wrong == 0 && demo->in_doubt == 0;
    if (!cli->json) {
        printf("events=%" PRIu64 " events_per_second=%.0f jobs=%" PRIu64 " bytes_moved=%" PRIu64
               " longest_wait_ms=%.2f wrong_counts=%" PRIu64 " in_doubt=%" PRIu64 "\n",
               demo->events, (double)demo->events / seconds, mover->jobs, mover->bytes_moved,
               (double)stats.wait_longest_ns / 1e6, demo->wrong, demo->in_doubt);
        enum gw_exit flushed = gw_cli_flush(cli);
        return exact ? flushed
                     : gw_cli_fail(cli, GW_EXIT_FAILED, "e_corrupt", "%" PRIu64 " counts are wrong",
                                   demo->wrong);
    }
    json_t *document =
        json_pack("{s:I, s:f, s:I, s:I, s:f, s:I, s:I}", "events", (json_int_t)demo->events,
                  "events_per_second", (double)demo->events / seconds, "jobs",
                  (json_int_t)mover->jobs, "bytes_moved", (json_int_t)mover->bytes_moved,
                  "longest_wait_ms", (double)stats.wait_longest_ns / 1e6, "wrong_counts",
                  (json_int_t)demo->wrong, "in_doubt", (json_int_t)demo->in_doubt);
    if (!exact)
        json_object_update_new(document, gw_cli_error("e_corrupt", "counts are wrong"));
    enum gw_exit printed = gw_cli_print(cli, document);
    return exact ? printed : GW_EXIT_FAILED;
}

static enum gw_exit run_demo(struct gw_cli *cli, struct demo *demo, struct mover *mover,
                             uint64_t seconds)
{
    enum gw_status st = for_all_keys(demo, STEP_CLEAR);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "demo");
    demo->events = 0;
    uint64_t start = gw_clock_now_ns(gw_clock_system());
    pthread_t thread;
    if (pthread_create(&thread, NULL, move_slots, mover) != 0)
        return gw_cli_fail_status(cli, GW_E_NOMEM, "demo");
    st = count_until(demo, mover, seconds);
    double took = (double)(gw_clock_now_ns(gw_clock_system()) - start) / 1e9;
    atomic_store_explicit(&mover->stop, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    if (mover->code != GW_EXIT_OK)
        return mover->code;
    if (st == GW_OK)
        st = for_all_keys(demo, STEP_COMPARE);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "demo");
    enum gw_exit code = report(cli, demo, mover, took);
    st = for_all_keys(demo, STEP_CLEAR);
    if (st != GW_OK && code == GW_EXIT_OK)
        fprintf(stderr, "godwit: demo: its keys could not be deleted: %s\n", gw_status_text(st));
    return code;
}

enum gw_exit gwi_cli_demo(struct gw_cli *cli, int argc, char **argv)
{
    uint64_t seconds = 10;
    const struct gw_flag flags[] = {
        {"--seconds", GW_FLAG_NUMBER, &seconds, 1, SECONDS_MAX},
        {0},
    };
    enum gw_exit code = gw_flags_parse_counted(cli, flags, &argc, argv, 0, 0);
    if (code != GW_EXIT_OK)
        return code;
    struct demo *demo = calloc(1, sizeof *demo);
    struct mover *mover = calloc(1, sizeof *mover);
    if (!demo || !mover) {
        code = gw_cli_fail_status(cli, GW_E_NOMEM, "demo");
        goto end;
    }
    mover->cli = cli;
    cli->no_progress = true; /* the counting thread shows its own */
    code = plan(cli, mover);
    if (code == GW_EXIT_OK)
        code = gw_cli_session(cli);
    if (code != GW_EXIT_OK)
        goto end;
    demo->session = cli->session;
    code = run_demo(cli, demo, mover, seconds);
end:
    free(demo);
    free(mover);
    return code;
}
