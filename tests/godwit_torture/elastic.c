/* elastic.c - see elastic.h. One server at a time is out: drained, then given slots again or
 * removed. A removed one ends by itself; who looks after processes (cluster.c) wipes its data and
 * starts one of a new name in its place, which gets slots as a drained one does. What was asked for
 * without an answer may have been done: what is to be done next is told by the status alone. */
#include "tests/godwit_torture/elastic.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/godwit_torture/cluster.h"

long long torture_say(struct torture_run *run, const char *request, const char *field)
{
    long long made = 0;
    char *answer = torture_ask(run, request);
    json_t *said = answer ? json_loads(answer, 0, NULL) : NULL;
    json_t *error = json_object_get(said, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    if (said && !message && field) {
        made = (long long)json_integer_value(json_object_get(said, field));
        torture_event(run, "%s %lld: %s", field, made, request);
        atomic_fetch_add(&run->jobs, 1);
    } else {
        torture_event(run, "%s: %s", request, !said ? "no answer" : message ? message : "done");
    }
    json_decref(said);
    free(answer);
    return made;
}

void torture_move_options(struct gw_rand *rand, char *room, size_t room_bytes)
{
    size_t used = 0;
    room[0] = '\0';
#define PUT(...) used += (size_t)snprintf(room + used, room_bytes - used, __VA_ARGS__)
    if (gw_rand_below(rand, 4) == 0)
        PUT(",\"rate\":%" PRIu64, (8 + gw_rand_below(rand, 40)) << 20);
    if (gw_rand_below(rand, 4) == 0)
        PUT(",\"max_impact_us\":%" PRIu64, 500 + gw_rand_below(rand, 20000));
    if (gw_rand_below(rand, 4) == 0)
        PUT(",\"sampling\":false");
    else if (gw_rand_below(rand, 2) == 0)
        PUT(",\"sample_ms\":%" PRIu64 ",\"sample_bytes\":%" PRIu64, 1 + gw_rand_below(rand, 1000),
            gw_rand_below(rand, 4u << 20) + 1);
    if (gw_rand_below(rand, 5) == 0)
        PUT(",\"indirection\":false");
    if (gw_rand_below(rand, 12) == 0)
        PUT(",\"pulls\":false");
#undef PUT
}

struct servers {
    uint32_t up, owning, drained; /* how many; then one of each, 0: none */
    uint32_t a_drained, a_fresh, an_owning;
};

static void look(struct torture_run *run, struct gw_rand *rand, const json_t *status,
                 struct servers *out)
{
    size_t i;
    json_t *server;
    *out = (struct servers){0};
    json_array_foreach(json_object_get(status, "servers"), i, server)
    {
        const char *id = json_string_value(json_object_get(server, "id"));
        const char *state = json_string_value(json_object_get(server, "state"));
        uint32_t n = id ? torture_server_of(run, id) : 0;
        if (n == 0 || !state || strcmp(state, "removed") == 0)
            continue; /* another one is in its place, or will be */
        out->up += strcmp(state, "up") == 0;
        bool owns = json_integer_value(json_object_get(server, "slots")) > 0;
        bool drained = json_is_true(json_object_get(server, "drained"));
        if (owns && gw_rand_below(rand, ++out->owning) == 0)
            out->an_owning = n;
        out->drained += drained;
        if (drained && !owns)
            out->a_drained = n;
        if (!owns && !drained)
            out->a_fresh = n;
    }
}

static void on_server(struct torture_run *run, struct gw_rand *rand, const char *op,
                      const char *field, uint32_t server)
{
    char request[320], id[24], options[200];
    torture_server_name(run, server, id, sizeof id);
    torture_move_options(rand, options, sizeof options);
    snprintf(request, sizeof request, "{\"op\":\"%s\",\"%s\":\"%s\"%s}", op, field, id, options);
    long long plan = torture_say(run, request, "plan");
    if (plan && strcmp(op, "drain") == 0)
        atomic_fetch_add(&run->drains, 1);
}

static void remove_server(struct torture_run *run, uint32_t server)
{
    char request[96], id[24];
    torture_server_name(run, server, id, sizeof id);
    snprintf(request, sizeof request, "{\"op\":\"remove\",\"server\":\"%s\"}", id);
    (void)torture_say(run, request, NULL);
}

bool torture_elastic_turn(struct torture_run *run, struct gw_rand *rand, const json_t *status)
{
    struct servers s;
    bool idle = json_array_size(json_object_get(status, "jobs")) == 0 &&
                json_array_size(json_object_get(status, "plans")) == 0;
    look(run, rand, status, &s);
    if (!idle || s.up < run->options.servers)
        return false;
    uint64_t what = gw_rand_below(rand, 10);
    if (s.a_drained) {
        if (what < 3 && !run->options.no_join)
            remove_server(run, s.a_drained);
        else if (what < 7)
            on_server(run, rand, "scale-out", "to", s.a_drained);
        return what < 7;
    }
    if (s.a_fresh) {
        if (what < 6)
            on_server(run, rand, "scale-out", "to", s.a_fresh);
        return what < 6;
    }
    if (what < 2 && s.owning >= 2 && s.drained == 0) {
        on_server(run, rand, "drain", "server", s.an_owning);
        return true;
    }
    if (what == 2) {
        char request[300], options[200];
        static const char *const by[] = {"both", "bytes", "operations"};
        torture_move_options(rand, options, sizeof options);
        snprintf(request, sizeof request, "{\"op\":\"rebalance\",\"by\":\"%s\"%s}",
                 by[gw_rand_below(rand, 3)], options);
        (void)torture_say(run, request, "plan");
        return true;
    }
    return false;
}
