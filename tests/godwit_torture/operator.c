/* operator.c - see operator.h. */
#include "tests/godwit_torture/operator.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/rand.h"
#include "tests/godwit_torture/cluster.h"
#include "tests/godwit_torture/elastic.h"

#define JOBS_MAX    4u
#define REST_NS     UINT64_C(12000000000)
#define CALM_ONE_IN 20u
#define IDLE_NS     UINT64_C(2000000000)
#define RANGES_MAX  200u

struct range {
    uint32_t first, last;
};

/* "0-99,200,..." as ranges; a text that was cut ends in "...". */
static size_t parse_ranges(const char *text, struct range *out)
{
    size_t n = 0;
    while (*text >= '0' && *text <= '9' && n < RANGES_MAX) {
        char *end;
        out[n].first = out[n].last = (uint32_t)strtoul(text, &end, 10);
        if (*end == '-')
            out[n].last = (uint32_t)strtoul(end + 1, &end, 10);
        if (*end == '.')
            return n; /* cut in the middle of a number, perhaps */
        n++;
        text = *end == ',' ? end + 1 : end;
    }
    return n;
}

struct move {
    uint32_t first, last;
    char from[24], to[24];
};

static long long order(struct torture_run *run, struct gw_rand *rand, const struct move *m)
{
    char request[480], options[200] = "";
    if (run->options.blob)
        torture_move_options(rand, options, sizeof options);
    snprintf(request, sizeof request,
             "{\"op\":\"migrate\",\"slots\":\"%u-%u\",\"from\":\"%s\",\"to\":\"%s\"%s}", m->first,
             m->last, m->from, m->to, options);
    return torture_say(run, request, "job");
}

/* Has the target killed while it holds what came with a range that it had before, and no checkpoint
 * has it yet: right behind the job's commit. */
static void kill_at_commit(struct torture_run *run, long long job, const char *to)
{
    char request[96];
    snprintf(request, sizeof request, "{\"op\":\"job-show\",\"id\":%lld}", job);
    for (int tries = 0; tries < 200 && !atomic_load(&run->stop); tries++) {
        char *answer = torture_ask(run, request);
        json_t *said = answer ? json_loads(answer, 0, NULL) : NULL;
        const json_t *shown = json_object_get(said, "job");
        const char *state = json_string_value(json_object_get(shown, "state"));
        bool committed = state && strcmp(state, "committed") == 0;
        bool over = !state || (!committed && strcmp(state, "created") != 0);
        json_decref(said);
        free(answer);
        if (committed)
            atomic_store(&run->kill_wanted, torture_server_of(run, to));
        if (committed || over)
            return;
        torture_sleep_ms(1);
    }
}

/* One that the last move was neither from nor to. */
static void third_server(struct torture_run *run, struct gw_rand *rand, const struct move *last,
                         char *room, size_t room_bytes)
{
    do {
        uint32_t some = 1 + (uint32_t)gw_rand_below(rand, run->options.servers);
        torture_server_name(run, some, room, room_bytes);
    } while (strcmp(room, last->from) == 0 || strcmp(room, last->to) == 0);
}

static void resume_all(struct torture_run *run, const json_t *jobs)
{
    size_t i;
    json_t *job;
    json_array_foreach((json_t *)jobs, i, job)
    {
        char request[96];
        snprintf(request, sizeof request, "{\"op\":\"job-resume\",\"id\":%lld}",
                 (long long)json_integer_value(json_object_get(job, "id")));
        if (json_is_true(json_object_get(job, "paused")))
            (void)torture_say(run, request, NULL);
    }
}

/* Nothing more is begun, what is open goes on, and then for a while there is no move at all: only
 * then it is known what nobody needs any more, and may be deleted. */
static void rest(struct torture_run *run)
{
    uint64_t begin = torture_now_ns(run), idle_since = 0;
    torture_event(run, "the operator rests");
    while (!atomic_load(&run->stop) && torture_now_ns(run) - begin < REST_NS) {
        char *answer = torture_ask(run, "{\"op\":\"status\"}");
        json_t *status = answer ? json_loads(answer, 0, NULL) : NULL;
        const json_t *jobs = json_object_get(status, "jobs");
        resume_all(run, jobs);
        bool idle = status && json_array_size(jobs) == 0;
        json_decref(status);
        free(answer);
        idle_since = !idle ? 0 : idle_since ? idle_since : torture_now_ns(run);
        if (idle && torture_now_ns(run) - idle_since > IDLE_NS)
            return;
        torture_sleep_ms(100);
    }
}

static void migrate(struct torture_run *run, struct gw_rand *rand, const json_t *servers,
                    struct move *last)
{
    if (last->to[0] && gw_rand_below(rand, run->options.blob ? 2 : 3) == 0) {
        /* Back, to where an older tenure was; or, of a chain that leads through several logs, on to
         * a third server. */
        struct move back = {.first = last->first, .last = last->last};
        memcpy(back.from, last->to, sizeof back.from);
        memcpy(back.to, last->from, sizeof back.to);
        if (run->options.blob && run->options.servers > 2 && gw_rand_below(rand, 3))
            third_server(run, rand, last, back.to, sizeof back.to);
        *last = back;
        long long job = order(run, rand, &back);
        if (job && !run->options.no_kill && gw_rand_below(rand, 2))
            kill_at_commit(run, job, back.to);
        return;
    }
    size_t count = json_array_size(servers);
    if (count < 2)
        return;
    size_t from = gw_rand_below(rand, count), to = gw_rand_below(rand, count - 1);
    to += to >= from;
    const json_t *source = json_array_get(servers, from);
    const char *owned = json_string_value(json_object_get(source, "slot_ranges"));
    struct range ranges[RANGES_MAX];
    size_t n = owned ? parse_ranges(owned, ranges) : 0;
    if (n == 0)
        return;
    const struct range *r = &ranges[gw_rand_below(rand, n)];
    uint32_t width = r->last - r->first + 1;
    uint32_t most = gw_rand_below(rand, 4) ? 400 : 6000;
    uint32_t slots = 1 + (uint32_t)gw_rand_below(rand, width < most ? width : most);
    uint32_t first = r->first + (uint32_t)gw_rand_below(rand, width - slots + 1);
    *last = (struct move){.first = first, .last = first + slots - 1};
    snprintf(last->from, sizeof last->from, "%s", json_string_value(json_object_get(source, "id")));
    snprintf(last->to, sizeof last->to, "%s",
             json_string_value(json_object_get(json_array_get(servers, to), "id")));
    (void)order(run, rand, last);
}

static void meddle(struct torture_run *run, struct gw_rand *rand, const json_t *jobs)
{
    static const char *const verbs[] = {"job-pause",  "job-pause",  "job-resume",
                                        "job-resume", "job-resume", "job-cancel"};
    const json_t *job = json_array_get(jobs, gw_rand_below(rand, json_array_size(jobs)));
    char request[96];
    snprintf(request, sizeof request, "{\"op\":\"%s\",\"id\":%lld}",
             verbs[gw_rand_below(rand, sizeof verbs / sizeof verbs[0])],
             (long long)json_integer_value(json_object_get(job, "id")));
    (void)torture_say(run, request, NULL);
}

void *torture_operator_run(void *ctx)
{
    struct torture_run *run = ctx;
    struct gw_rand rand;
    struct move last = {0};
    bool calm = false;
    gw_rand_init(&rand, torture_seed(run, "operator", 0));
    while (!atomic_load(&run->stop)) {
        char *answer = torture_ask(run, "{\"op\":\"status\"}");
        json_t *status = answer ? json_loads(answer, 0, NULL) : NULL;
        const json_t *jobs = json_object_get(status, "jobs");
        size_t open = json_array_size(jobs);
        bool whole = run->options.blob && !run->options.no_drain && status;
        calm |= whole && gw_rand_below(&rand, CALM_ONE_IN) == 0;
        bool more = whole && torture_elastic_turn(run, &rand, status);
        if (more)
            calm = false;
        else if (calm) { /* whole servers are spoken of when nothing moves */
            resume_all(run, jobs);
            more = true;
        }
        if (status && !more && open < JOBS_MAX && gw_rand_below(&rand, 3))
            migrate(run, &rand, json_object_get(status, "servers"), &last);
        else if (open > 0 && !more)
            meddle(run, &rand, jobs);
        json_decref(status);
        free(answer);
        if (run->options.blob && gw_rand_below(&rand, 70) == 0)
            rest(run);
        for (uint64_t ms = 100 + gw_rand_below(&rand, run->options.blob ? 400 : 900);
             ms > 0 && !atomic_load(&run->stop); ms -= ms < 20 ? ms : 20)
            torture_sleep_ms(20);
    }
    return NULL;
}
