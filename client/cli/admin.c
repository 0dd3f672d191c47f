/* admin.c - see admin.h.
 *
 * A wait outlives its coordinator: jobs are durable and go on when it comes back, so an unreachable
 * coordinator is asked again for ABSENT_MS before the wait gives up. */
#include "client/cli/admin.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/cli/plan_flags.h"
#include "client/cli/progress.h"
#include "index/base/clock.h"
#include "index/base/text.h"

#define ANSWER_MS      10000u
#define POLL_MS        20u
#define ABSENT_MS      30000u
#define NS_PER_MS      1000000u
#define STATUS_UNKNOWN "e_internal"

const char *gw_json_text(const json_t *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object, field));
    return text ? text : "";
}

uint64_t gw_json_number(const json_t *object, const char *field)
{
    const json_t *value = json_object_get(object, field);
    if (json_is_integer(value))
        return json_integer_value(value) < 0 ? 0 : (uint64_t)json_integer_value(value);
    return json_is_real(value) && json_real_value(value) > 0 ? (uint64_t)json_real_value(value) : 0;
}

/* What the coordinator calls its error decides the exit code: its own troubles are failures, all
 * else is its no. */
static enum gw_exit exit_of_error(const char *status)
{
    static const struct {
        const char *status;
        enum gw_exit code;
    } known[] = {

        {"e_internal", GW_EXIT_FAILED},     {"e_io", GW_EXIT_FAILED},
        {"e_nomem", GW_EXIT_FAILED},        {"e_corrupt", GW_EXIT_FAILED},
        {"e_timeout", GW_EXIT_UNREACHABLE}, {"e_unreachable", GW_EXIT_UNREACHABLE},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].status, status) == 0)
            return known[i].code;
    return GW_EXIT_REFUSED;
}

/* One exchange; says nothing. */
static enum gw_status exchange(const char *address, const char *request, json_t **answer)
{
    char *text = NULL;
    enum gw_status st = gw_admin(address, request, ANSWER_MS, &text);
    if (st != GW_OK)
        return st;
    json_error_t error;
    json_t *document = json_loads(text, 0, &error);
    free(text);
    if (!json_is_object(document)) {
        json_decref(document);
        return GW_E_PROTOCOL;
    }
    *answer = document;
    return GW_OK;
}

static enum gw_exit check_answer(struct gw_cli *cli, json_t *document, json_t **answer)
{
    const json_t *error = json_object_get(document, "error");
    if (!json_is_object(error)) { /* a job's "error" is a text */
        *answer = document;
        return GW_EXIT_OK;
    }
    const char *status = gw_json_text(error, "status");
    if (!status[0])
        status = STATUS_UNKNOWN;
    enum gw_exit code =
        gw_cli_fail(cli, exit_of_error(status), status, "%s", gw_json_text(error, "message"));
    json_decref(document);
    return code;
}

enum gw_exit gw_admin_ask(struct gw_cli *cli, json_t *request, json_t **answer)
{
    return gw_admin_ask_at(cli, cli->coordinator, request, answer);
}

enum gw_exit gw_admin_ask_at(struct gw_cli *cli, const char *address, json_t *request,
                             json_t **answer)
{
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (!text)
        return gw_cli_fail_status(cli, GW_E_NOMEM, "request");
    json_t *document;
    enum gw_status st = exchange(address, text, &document);
    free(text);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "%s %s",
                                  address == cli->coordinator ? "coordinator" : "server", address);
    return check_answer(cli, document, answer);
}

enum gw_exit gw_admin_ask_again(struct gw_cli *cli, json_t *request, uint64_t ms, json_t **answer)
{
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    if (!text)
        return gw_cli_fail_status(cli, GW_E_NOMEM, "request");
    uint64_t end = gw_clock_now_ns(gw_clock_system()) + ms * NS_PER_MS;
    json_t *document;
    enum gw_status st;
    while ((st = exchange(cli->coordinator, text, &document)) == GW_OK) {
        const json_t *error = json_object_get(document, "error");
        if (strcmp(gw_json_text(error, "status"), "e_busy") != 0 ||
            gw_clock_now_ns(gw_clock_system()) >= end)
            break;
        json_decref(document);
        usleep(5 * POLL_MS * 1000);
    }
    free(text);
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "coordinator %s", cli->coordinator);
    return check_answer(cli, document, answer);
}

/* ---- waiting -------------------------------------------------------------------------------- */

static bool job_ended(const json_t *job)
{
    const char *state = gw_json_text(job, "state");
    return strcmp(state, "done") == 0 || strcmp(state, "failed") == 0 ||
           strcmp(state, "cancelled") == 0 || strcmp(state, "revived") == 0;
}

static void show(struct gw_progress *progress, const json_t *jobs)
{
    uint64_t done = 0, chunks = 0, bytes = 0;
    const char *phase = "";
    size_t i, ended = 0;
    json_t *job;
    json_array_foreach((json_t *)jobs, i, job)
    {
        done += gw_json_number(job, "chunks_done");
        chunks += gw_json_number(job, "chunks");
        bytes += gw_json_number(job, "bytes_moved");
        if (job_ended(job))
            ended++;
        else
            phase = gw_json_text(job, "phase");
        if (json_object_get(job, "moves")) { /* a plan */
            done += gw_json_number(job, "moves_done");
            chunks += gw_json_number(job, "moves");
        }
    }
    char moved[32], left[96] = "", words[320];
    gw_format_size(bytes, moved, sizeof moved);
    if (json_array_size(jobs) > 1)
        snprintf(words, sizeof words, "%zu of %zu jobs done, %s moved %s", ended,
                 json_array_size(jobs), moved, phase);
    else {
        gwi_left_in_words(json_array_get(jobs, 0), left, sizeof left);
        snprintf(words, sizeof words, "%s moved%s%s %.160s", moved, left[0] ? ", " : "", left,
                 phase);
    }
    gw_progress_show(progress, chunks ? (double)done / (double)chunks : 0, words);
}

static volatile sig_atomic_t interrupted; /* the signal that came */

static void on_signal(int number)
{
    interrupted = number;
}

/* The first Ctrl-C ends the wait in an orderly way, the second one the program. What is ignored
 * (nohup) stays so. */
static void take_signals(struct sigaction old[2])
{
    static const int numbers[2] = {SIGINT, SIGTERM};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    for (int i = 0; i < 2; i++)
        if (sigaction(numbers[i], NULL, &old[i]) == 0 && old[i].sa_handler == SIG_DFL)
            sigaction(numbers[i], &action, NULL);
}

static void give_signals_back(const struct sigaction old[2])
{
    sigaction(SIGINT, &old[0], NULL);
    sigaction(SIGTERM, &old[1], NULL);
}

struct wait {
    uint64_t absent_since_ns; /* 0: the coordinator answers */
    uint64_t deadline_ns;     /* UINT64_MAX: none */
};

/* Asks for one job and puts it at its place in `jobs`. */
static enum gw_exit refresh(struct gw_cli *cli, struct wait *wait, uint64_t id, json_t *jobs,
                            size_t place)
{
    char request[64];
    snprintf(request, sizeof request, "{\"op\":\"job-show\",\"id\":%" PRIu64 "}", id);
    json_t *document, *answer;
    enum gw_status st = exchange(cli->coordinator, request, &document);
    uint64_t now = gw_clock_now_ns(gw_clock_system());
    if (st == GW_E_UNREACHABLE || st == GW_E_TIMEOUT || st == GW_E_CLOSED) {
        if (wait->absent_since_ns == 0)
            wait->absent_since_ns = now;
        if (now - wait->absent_since_ns < (uint64_t)ABSENT_MS * NS_PER_MS)
            return GW_EXIT_OK;
    }
    if (st != GW_OK)
        return gw_cli_fail_status(cli, st, "coordinator %s", cli->coordinator);
    wait->absent_since_ns = 0;
    enum gw_exit code = check_answer(cli, document, &answer);
    if (code != GW_EXIT_OK)
        return code;
    json_t *job = json_object_get(answer, "job");
    if (json_is_object(job))
        json_array_set(jobs, place, job);
    json_decref(answer);
    return GW_EXIT_OK;
}

enum gw_exit gw_admin_wait(struct gw_cli *cli, const uint64_t *ids, size_t count,
                           uint64_t timeout_s, json_t **out)
{
    const struct gw_clock *clock = gw_clock_system();
    struct wait wait = {.deadline_ns = UINT64_MAX};
    if (timeout_s)
        wait.deadline_ns = gw_clock_now_ns(clock) + timeout_s * 1000 * NS_PER_MS;
    json_t *jobs = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(jobs, json_pack("{s:I}", "id", (json_int_t)ids[i]));
    struct gw_progress progress;
    gw_progress_init(&progress);
    if (cli->no_progress)
        progress.terminal = false;
    *out = NULL;

    enum gw_exit code;
    struct sigaction old[2];
    take_signals(old);
    for (;;) {
        bool all = true, well = true;
        for (size_t i = 0; i < count; i++) {
            if (!job_ended(json_array_get(jobs, i))) {
                code = refresh(cli, &wait, ids[i], jobs, i);
                if (code != GW_EXIT_OK)
                    goto fail_ask;
            }
            all = all && job_ended(json_array_get(jobs, i));
            well = well && strcmp(gw_json_text(json_array_get(jobs, i), "state"), "done") == 0;
        }
        show(&progress, jobs);
        if (all) {
            code = well ? GW_EXIT_OK : GW_EXIT_JOB_FAILED;
            break;
        }
        if (interrupted) {
            gw_progress_clear(&progress);
            fprintf(stderr,
                    "godwit: interrupted; the job goes on: `godwit job watch %" PRIu64
                    "`, or `job pause`, or `job cancel`\n",
                    ids[0]);
            give_signals_back(old);
            raise(interrupted);
        }
        if (gw_clock_now_ns(clock) >= wait.deadline_ns) {
            code = GW_EXIT_TIMED_OUT;
            break;
        }
        usleep(POLL_MS * 1000);
    }
    gw_progress_clear(&progress);
    give_signals_back(old);
    *out = jobs;
    return code;

fail_ask:
    give_signals_back(old);
    gw_progress_clear(&progress);
    json_decref(jobs);
    return code;
}

static void describe(const json_t *job, char *room, size_t room_bytes)
{
    char moved[32];
    gw_format_size(gw_json_number(job, "bytes_moved"), moved, sizeof moved);
    const char *error = gw_json_text(job, "error");
    if (json_object_get(job, "moves"))
        snprintf(room, room_bytes,
                 "plan %" PRIu64 " (%.20s) %s: %" PRIu64 " of %" PRIu64
                 " moves done, %s moved, longest pause %.1f ms%s%s",
                 gw_json_number(job, "id"), gw_json_text(job, "kind"), gw_json_text(job, "state"),
                 gw_json_number(job, "moves_done"), gw_json_number(job, "moves"), moved,
                 (double)gw_json_number(job, "pause_us") / 1000, error[0] ? ": " : "", error);
    else
        snprintf(room, room_bytes,
                 "job %" PRIu64 " %s: %s moved, %" PRIu64 " records, longest pause %.1f ms%s%s",
                 gw_json_number(job, "id"), gw_json_text(job, "state"), moved,
                 gw_json_number(job, "records_moved"),
                 (double)gw_json_number(job, "pause_us") / 1000, error[0] ? ": " : "", error);
}

enum gw_exit gw_admin_end_said(struct gw_cli *cli, enum gw_exit code, const json_t *jobs,
                               json_t *document)
{
    char words[512], failure[512] = "";
    size_t i;
    json_t *job;
    json_array_foreach((json_t *)jobs, i, job)
    {
        describe(job, words, sizeof words);
        if (!cli->json)
            fprintf(stderr, "%s\n", words);
        bool wanted = code == GW_EXIT_TIMED_OUT ? !job_ended(job)
                                                : strcmp(gw_json_text(job, "state"), "done") != 0;
        if (wanted && !failure[0])
            memcpy(failure, words, sizeof failure);
    }
    if (!cli->json) {
        if (code == GW_EXIT_TIMED_OUT)
            fputs("godwit: timed out; the job goes on\n", stderr);
        json_decref(document);
        return code;
    }
    if (code != GW_EXIT_OK) {
        const char *status = code == GW_EXIT_TIMED_OUT ? "e_timeout" : "job_failed";
        json_t *error = gw_cli_error(status, failure);
        json_object_update_new(document, error);
    }
    enum gw_exit printed = gw_cli_print(cli, document);
    return code == GW_EXIT_OK ? printed : code;
}
