/* coverage.c - see coverage.h. A server that was killed begins at 0 again: what it had done since
 * it was asked last is not counted. Servers are asked past the relays, at most ASK_MS each. */
#include "tests/godwit_torture/coverage.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "client/include/godwit.h"
#include "tests/godwit_torture/cluster.h"

#define ASK_MS   400u
#define PAUSE_MS 400u

static const struct {
    const char *section, *field, *shown;
} numbers[TORTURE_NUMBERS] = {
    [TORTURE_LINKED] = {"indirections", "linked", "linked"},
    [TORTURE_FOLLOWED] = {"indirections", "followed", "followed"},
    [TORTURE_FOUND] = {"indirections", "found", "found"},
    [TORTURE_ABSENT] = {"indirections", "absent", "absent"},
    [TORTURE_RESOLVED] = {"indirections", "resolved", "resolved"},
    [TORTURE_RETIRED] = {"indirections", "retired", "retired"},
    [TORTURE_COLD_READS] = {"blob", "cold_reads", "cold_reads"},
    [TORTURE_FOREIGN_READS] = {"blob", "foreign_reads", "foreign_reads"},
    [TORTURE_UPLOADED] = {"blob", "puts", "uploaded"},
    [TORTURE_DROPPED] = {"blob", "dropped_segments", "dropped_segments"},
    [TORTURE_DELETED] = {"blob", "deleted_objects", "deleted_objects"},
    [TORTURE_COMPACTED] = {NULL, "compacted_bytes", "compacted_bytes"},
};

static uint64_t number_of(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static void ask_server(struct torture_coverage *c, uint32_t i)
{
    uint16_t port = torture_relay_target(c->relays, i + 1);
    char address[32], *text = NULL;
    snprintf(address, sizeof address, "127.0.0.1:%u", port);
    if (port == 0 || gw_admin(address, "{\"op\":\"stats\"}", ASK_MS, &text) != GW_OK)
        return;
    json_t *answer = json_loads(text, 0, NULL);
    free(text);
    for (int n = 0; answer && n < TORTURE_NUMBERS; n++) {
        const json_t *in =
            numbers[n].section ? json_object_get(answer, numbers[n].section) : answer;
        uint64_t value = number_of(in, numbers[n].field), *last = &c->last[i][n];
        c->sum[n] += value >= *last ? value - *last : value;
        *last = value;
    }
    if (answer) {
        c->live[i] = number_of(json_object_get(answer, "indirections"), "live");
        c->keys[i] = number_of(answer, "keys");
    }
    json_decref(answer);
}

static void ask_coordinator(struct torture_coverage *c)
{
    char *text = torture_ask(c->run, "{\"op\":\"job-list\"}");
    json_t *answer = text ? json_loads(text, 0, NULL) : NULL, *job;
    size_t i;
    free(text);
    json_array_foreach(json_object_get(answer, "jobs"), i, job)
    {
        uint64_t id = number_of(job, "id");
        const char *state = json_string_value(json_object_get(job, "state"));
        if (id >= TORTURE_JOBS_MAX || !state || c->counted[id])
            continue;
        c->counted[id] = strcmp(state, "done") == 0 || strcmp(state, "failed") == 0;
        c->failed += strcmp(state, "failed") == 0;
        if (strcmp(state, "done") != 0)
            continue;
        atomic_fetch_add(&c->moves, 1);
        c->sent += number_of(job, "indirections");
        c->hot += number_of(job, "hot_records");
        c->pulls += number_of(job, "pulls");
        c->leads += number_of(job, "pull_leads");
    }
    json_array_foreach(json_object_get(answer, "plans"), i, job)
    {
        uint64_t id = number_of(job, "id");
        const char *state = json_string_value(json_object_get(job, "state"));
        if (id >= TORTURE_JOBS_MAX || !state || c->counted[id] || strcmp(state, "done") != 0)
            continue;
        c->counted[id] = true;
        c->plans++;
    }
    json_decref(answer);
}

void torture_coverage_ask(struct torture_coverage *c)
{
    ask_coordinator(c);
    for (uint32_t i = 0; i < c->run->options.servers; i++)
        ask_server(c, i);
}

void torture_coverage_rest(struct torture_coverage *c, uint64_t ms)
{
    uint64_t end = torture_now_ns(c->run) + ms * 1000000, live, keys;
    do {
        torture_sleep_ms(200);
        torture_coverage_ask(c);
        live = keys = 0;
        for (uint32_t i = 0; i < c->run->options.servers; i++) {
            live += c->live[i];
            keys += c->keys[i];
        }
    } while ((live > 0 || c->sum[TORTURE_DELETED] == 0) && torture_now_ns(c->run) < end);
    torture_event(c->run,
                  "%" PRIu64 " indirections are left, %" PRIu64
                  " objects were deleted; the servers "
                  "count %" PRIu64 " keys",
                  live, c->sum[TORTURE_DELETED], keys);
}

void *torture_coverage_run(void *ctx)
{
    struct torture_coverage *c = ctx;
    while (!atomic_load(&c->run->stop)) {
        torture_coverage_ask(c);
        for (uint32_t ms = 0; ms < PAUSE_MS && !atomic_load(&c->run->stop); ms += 20)
            torture_sleep_ms(20);
    }
    return NULL;
}

void torture_coverage_print(const struct torture_coverage *c, FILE *out)
{
    struct torture_run *run = c->run;
    fprintf(out,
            "coverage: moves=%" PRIu64 " failed=%" PRIu64 " plans=%" PRIu64 " drains=%" PRIu64
            " joins=%" PRIu64 " outages=%" PRIu64 " sent=%" PRIu64 " hot=%" PRIu64 " pulls=%" PRIu64
            " leads=%" PRIu64,
            atomic_load(&c->moves), c->failed, c->plans, atomic_load(&run->drains),
            atomic_load(&run->joins), atomic_load(&run->outages), c->sent, c->hot, c->pulls,
            c->leads);
    for (int n = 0; n < TORTURE_NUMBERS; n++)
        fprintf(out, " %s=%" PRIu64, numbers[n].shown, c->sum[n]);
    fputc('\n', out);
    fflush(out);
}
