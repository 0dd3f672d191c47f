/* migrate_watch.c - what coordinator, servers and kernel say while slots move: see migrate.h.
 *
 * One thread in one loop: the job every JOB_NS (TURN_NS with an idle cluster), the kernel's byte
 * counts every WIRE_NS, the servers every SERVERS_NS; each is a short request. What a server counts
 * of its dispatchers is up to a quarter of a second old, so its numbers are a check of the
 * client's, no timeline of their own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench/migrate.h"
#include "client/ask.h"
#include "index/base/clock.h"

#define TURN_NS    10000000ull
#define JOB_NS     40000000ull /* under load: each look takes the processor from who is measured */
#define WIRE_NS    50000000ull
#define SERVERS_NS 100000000ull
#define ANSWER_MS  5000u
/* One look may fall between the flush of a part and its upload. */
#define QUIET_LOOKS 5u

static uint64_t now_ns(void)
{
    return gw_clock_now_ns(gw_clock_system());
}

static uint64_t number(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return json_is_number(value) && json_number_value(value) > 0
               ? (uint64_t)json_number_value(value)
               : 0;
}

/* Over the asker's connection, which stands from one look to the next: opening one takes more
 * processor time than the question, and it is that of those who are measured. */
static json_t *exchange(struct gwi_asker *asker, const char *address, const char *words,
                        enum gw_status *st)
{
    size_t bytes = strlen(words);
    uint8_t *frame = malloc(GW_FRAME_HEADER + bytes);
    struct gwi_answer reply;
    *st = GW_E_NOMEM;
    if (!frame)
        return NULL;
    struct gw_frame head = {.bytes = (uint32_t)(GW_FRAME_HEADER + bytes),
                            .kind = GW_KIND_ADMIN,
                            .session = 1};
    gw_frame_encode(&head, frame);
    memcpy(frame + GW_FRAME_HEADER, words, bytes);
    *st = gwi_asker_ask(asker, address, frame, head.bytes, ANSWER_MS, &reply);
    free(frame);
    return *st == GW_OK
               ? json_loadb((const char *)reply.body.at, gw_reader_left(&reply.body), 0, NULL)
               : NULL;
}

/* One request; the answer is the caller's. NULL: none, or a refusal, which is said. `asker` may be
 * NULL. */
static json_t *ask(struct gwi_asker *asker, const char *address, json_t *request, bool say)
{
    char *words = json_dumps(request, JSON_COMPACT), *text = NULL;
    json_decref(request);
    if (!words)
        return NULL;
    json_t *answer = NULL;
    enum gw_status st;
    if (asker) {
        answer = exchange(asker, address, words, &st);
    } else {
        st = gw_admin(address, words, ANSWER_MS, &text);
        answer = st == GW_OK ? json_loads(text, 0, NULL) : NULL;
        free(text);
    }
    free(words);
    const json_t *error = json_object_get(answer, "error");
    if (answer && !json_is_object(error))
        return answer;
    if (say)
        fprintf(stderr, "godwit-bench migrate: %s: %s\n", address,
                error ? json_string_value(json_object_get(error, "message")) : gw_status_text(st));
    json_decref(answer);
    return NULL;
}

json_t *gw_migrate_ask_stats(const char *server)
{
    return ask(NULL, server, json_pack("{s:s}", "op", "stats"), false);
}

bool gw_migrate_settle(const char *server, uint64_t seconds)
{
    uint64_t end = now_ns() + seconds * 1000000000ull;
    for (uint32_t quiet = 0; quiet < QUIET_LOOKS;) {
        json_t *answer = gw_migrate_ask_stats(server);
        const json_t *blob = json_object_get(answer, "blob");
        bool has = json_is_object(blob);
        uint64_t left = number(blob, "lag_bytes");
        json_decref(answer);
        if (!has)
            return true;
        quiet = left ? 0 : quiet + 1;
        if (left && now_ns() >= end) {
            fprintf(stderr,
                    "godwit-bench migrate: %" PRIu64 " bytes are not uploaded after %" PRIu64
                    " s\n",
                    left, seconds);
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    }
    return true;
}

bool gw_migrate_watch_open(struct gw_migrate_watch *w, uint64_t seconds)
{
    w->jobs_max = (uint32_t)(seconds * (1000000000 / TURN_NS) + 16);
    w->wires_max = (uint32_t)(seconds * (1000000000 / WIRE_NS) + 16);
    w->servers_max = (uint32_t)(seconds * (1000000000 / SERVERS_NS) + 16);
    w->jobs = calloc(w->jobs_max, sizeof *w->jobs);
    w->wires = calloc(w->wires_max, sizeof *w->wires);
    w->servers = calloc(w->servers_max, sizeof *w->servers);
    w->wire = gw_migrate_wire_open(w->source, w->target);
    for (int i = 0; i < 3; i++)
        if (gwi_asker_create(&w->asker[i]) != GW_OK)
            w->asker[i] = NULL;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    w->wall_offset_ns = (int64_t)wall.tv_sec * 1000000000 + wall.tv_nsec - (int64_t)now_ns();
    return w->jobs && w->wires && w->servers;
}

void gw_migrate_watch_close(struct gw_migrate_watch *w)
{
    gw_migrate_wire_close(w->wire);
    for (int i = 0; i < 3; i++)
        gwi_asker_destroy(w->asker[i]);
    json_decref(w->last);
    free(w->jobs);
    free(w->wires);
    free(w->servers);
    memset(w, 0, sizeof *w);
}

static json_t *options_of(const struct gw_migrate_settings *s)
{
    json_t *o = json_object();
    for (int i = 0; i < GW_ABLATIONS; i++)
        if (s->without[i])
            json_object_set_new(o, gw_migrate_ablation_names[i], json_false());
    if (s->job_rate_bytes)
        json_object_set_new(o, "rate", json_integer((json_int_t)s->job_rate_bytes));
    if (s->max_impact_us)
        json_object_set_new(o, "max_impact_us", json_integer((json_int_t)s->max_impact_us));
    return o;
}

bool gw_migrate_watch_ask(struct gw_migrate_watch *w, const struct gw_migrate_settings *s,
                          const struct gw_slots *slots, const char *from, const char *to)
{
    char *text = malloc(GW_SLOTS * 6);
    if (!text)
        return false;
    gw_slots_format(slots, text, GW_SLOTS * 6);
    json_t *request =
        json_pack("{s:s, s:s, s:s, s:s}", "op", "migrate", "slots", text, "from", from, "to", to);
    free(text);
    json_object_update_new(request, options_of(s));
    json_t *answer = ask(NULL, w->coordinator, request, true);
    w->job = number(answer, "job");
    json_decref(answer);
    return w->job != 0;
}

/* A moment that the coordinator wrote down, on the load's clock; 0: not yet. */
static uint64_t moment(const struct gw_migrate_watch *w, uint64_t wall_ms)
{
    int64_t at = (int64_t)wall_ms * 1000000 - w->wall_offset_ns - (int64_t)w->start_ns;
    return wall_ms == 0 ? 0 : at > 0 ? (uint64_t)at : 1;
}

bool gw_migrate_watch_ended(const struct gw_migrate_watch *w)
{
    return strcmp(w->state, "done") == 0 || strcmp(w->state, "failed") == 0 ||
           strcmp(w->state, "cancelled") == 0 || strcmp(w->state, "revived") == 0;
}

static void look_at_job(struct gw_migrate_watch *w, uint64_t at_ns)
{
    json_t *answer =
        ask(w->asker[0], w->coordinator,
            json_pack("{s:s, s:I}", "op", "job-show", "id", (json_int_t)w->job), false);
    const json_t *job = json_object_get(answer, "job");
    if (json_is_object(job)) {
        const char *state = json_string_value(json_object_get(job, "state"));
        const char *error = json_string_value(json_object_get(job, "error"));
        snprintf(w->state, sizeof w->state, "%s", state ? state : "");
        snprintf(w->error, sizeof w->error, "%s", error ? error : "");
        w->pause_us = number(job, "pause_us");
        w->committed_ns = moment(w, number(job, "transferred_ms"));
        bool closing = strcmp(w->state, "closing") == 0, done = strcmp(w->state, "done") == 0;
        if ((closing || done) && w->last_chunk_ns == 0)
            w->last_chunk_ns = closing ? moment(w, number(job, "updated_ms")) : at_ns;
        if (done)
            w->done_ns = moment(w, number(job, "finished_ms"));
        if (w->last_chunk_ns > w->done_ns && w->done_ns)
            w->last_chunk_ns = w->done_ns;
        if (w->jobs_count < w->jobs_max)
            w->jobs[w->jobs_count++] = (struct gw_migrate_job_sample){
                .at_ns = at_ns,
                .bytes = number(job, "bytes_moved"),
                .records = number(job, "records_moved"),
                .chunks_done = number(job, "chunks_done"),
                .chunks = number(job, "chunks"),
                .pulls = number(job, "pulls"),
                .pull_leads = number(job, "pull_leads"),
                .indirections = number(job, "indirections"),
                .hot_records = number(job, "hot_records"),
                .bytes_left = number(job, "bytes_left"),
            };
        json_decref(w->last);
        w->last = json_incref((json_t *)job);
    }
    json_decref(answer);
}

static void look_at_servers(struct gw_migrate_watch *w, uint64_t at_ns)
{
    const char *address[2] = {w->source, w->target};
    if (w->servers_count == w->servers_max)
        return;
    struct gw_migrate_server_sample *sample = &w->servers[w->servers_count++];
    sample->at_ns = at_ns;
    for (int i = 0; i < 2; i++) {
        json_t *answer = ask(w->asker[1 + i], address[i], json_pack("{s:s}", "op", "stats"), false);
        sample->operations[i] = number(answer, "operations");
        sample->parked[i] = number(answer, "parked");
        json_decref(answer);
    }
}

static bool due(uint64_t at_ns, uint64_t last_ns, uint64_t every_ns)
{
    return last_ns == 0 || at_ns >= last_ns + every_ns;
}

void gw_migrate_watch_turn(struct gw_migrate_watch *w)
{
    uint64_t at = now_ns() - w->start_ns;
    uint64_t servers_at = w->servers_count ? w->servers[w->servers_count - 1].at_ns : 0;
    uint64_t wires_at = w->wires_count ? w->wires[w->wires_count - 1].at_ns : 0;
    if (w->job && !gw_migrate_watch_ended(w) &&
        due(at, w->looked_ns, w->idle ? TURN_NS / 2 : JOB_NS)) {
        w->looked_ns = at;
        look_at_job(w, at);
    }
    if (w->wire && due(at, wires_at, WIRE_NS) && w->wires_count < w->wires_max) {
        struct gw_migrate_wire_sample *sample = &w->wires[w->wires_count];
        sample->at_ns = now_ns() - w->start_ns;
        if (gw_migrate_wire_look(w->wire, &sample->bulk, &sample->pulled)) {
            w->wires_count++;
        } else {
            gw_migrate_wire_close(w->wire);
            w->wire = NULL;
        }
    }
    if (due(at, servers_at, SERVERS_NS))
        look_at_servers(w, at);
    uint64_t took = now_ns() - w->start_ns - at;
    if (took < TURN_NS)
        nanosleep(&(struct timespec){.tv_nsec = (long)(TURN_NS - took)}, NULL);
}
