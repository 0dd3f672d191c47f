/* world.c - see world.h. */
#include "tests/unit/coordinator/world.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    /* Memory, where there is some: each turn waits for the file to be durable. */
    char directory[64] = "/dev/shm/godwit-test-XXXXXX";
    if (!mkdtemp(directory)) {
        strcpy(directory, "/tmp/godwit-test-XXXXXX");
        cr_assert_not_null(mkdtemp(directory));
    }
    snprintf(w->path, sizeof w->path, "%s/map.db", directory);
    snprintf(w->url, sizeof w->url, "sqlite:%s", w->path);
    w->now_ns = 1000000000;
    w->wall_ms = 1700000000000;
    world_start(w);
}

void world_start(struct world *w)
{
    char why[256] = "";
    cr_assert_eq(gw_fact_store_open(w->url, &w->store, why, sizeof why), GW_OK, "%s", why);
    cr_assert_eq(gw_fact_store_start(w->store, WORLD_CLUSTER, WORLD_SEED, &w->c, why, sizeof why),
                 GW_OK, "%s", why);
    world_turn(w);
}

void world_stop(struct world *w)
{
    gw_coordinator_destroy(w->c);
    gw_fact_store_close(w->store);
    w->c = NULL;
    w->store = NULL;
}

void world_fini(struct world *w)
{
    world_stop(w);
    free(w->reply);
    char name[160];
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s%s", w->path, suffixes[i]);
        unlink(name);
    }
    *strrchr(w->path, '/') = '\0';
    rmdir(w->path);
}

void world_turn(struct world *w)
{
    char why[512] = "";
    cr_assert_eq(gw_coordinator_tick(w->c, w->now_ns, w->wall_ms), GW_OK);
    cr_assert(gw_coordinator_check(w->c, why, sizeof why), "%s", why);
    const struct gw_outcome *o = gw_coordinator_outcome(w->c);
    cr_assert_eq(gw_fact_store_save(w->store, o->fact, o->facts, why, sizeof why), GW_OK, "%s",
                 why);
    w->sents = 0;
    for (uint32_t i = 0; i < o->actions; i++) {
        const struct gw_action *a = &o->action[i];
        cr_assert_lt(w->sents, WORLD_SENT);
        struct world_sent *s = &w->sent[w->sents++];
        *s = (struct world_sent){.kind = a->kind,
                                 .status = a->status,
                                 .link = a->link,
                                 .id = a->id,
                                 .map_version = gw_coordinator_map(w->c)->version};
        memcpy(s->text, a->text, sizeof s->text);
        if (a->kind == GW_ACT_JOB)
            s->state = gw_coordinator_job(w->c, a->id)->state;
        if (a->kind == GW_ACT_ADMIN_REPLY) {
            free(w->reply);
            w->reply = strdup(a->json);
        }
    }
    gw_coordinator_clear(w->c);
}

void world_pass(struct world *w, uint64_t ms)
{
    w->now_ns += ms * 1000000;
    w->wall_ms += ms;
    cr_assert_eq(gw_coordinator_tick(w->c, w->now_ns, w->wall_ms), GW_OK);
}

uint64_t world_join_at(struct world *w, const char *id, uint64_t incarnation, const char *address,
                       uint64_t cluster)
{
    struct gw_join join = {.incarnation = incarnation, .cluster = cluster};
    snprintf(join.id, sizeof join.id, "%s", id);
    snprintf(join.address, sizeof join.address, "%s", address);
    uint64_t link = ++w->links;
    cr_assert_eq(gw_coordinator_join(w->c, link, &join), GW_OK);
    world_turn(w);
    return link;
}

uint64_t world_join(struct world *w, const char *id, uint64_t incarnation)
{
    char address[64];
    snprintf(address, sizeof address, "%s:7401", id);
    return world_join_at(w, id, incarnation, address, 0);
}

void world_heartbeat(struct world *w, uint64_t link, uint64_t incarnation)
{
    struct gw_heartbeat h = {.incarnation = incarnation, .keys = 7, .operations = 8};
    h.map_version = gw_coordinator_map(w->c)->version;
    cr_assert_eq(gw_coordinator_heartbeat(w->c, link, &h), GW_OK);
}

void world_event(struct world *w, uint64_t link, uint64_t job, enum gw_job_event_kind event)
{
    struct gw_job_event e = {.job = job,
                             .event = event,
                             .bytes_moved = 10 * event,
                             .chunks = 4,
                             .bytes_left = 20,
                             .records_left = 21,
                             .rate = 22,
                             .indirections = 23,
                             .hot_records = 24,
                             .retries = 25,
                             .source_p99_us = 26,
                             .target_p99_us = 27,
                             .pull_leads = 28};
    snprintf(e.text, sizeof e.text, "word %d", (int)event);
    cr_assert_eq(gw_coordinator_job_event(w->c, link, &e), GW_OK);
    world_turn(w);
}

enum gw_status world_migrate(struct world *w, const char *slots, const char *from, const char *to,
                             uint64_t *job)
{
    struct gw_slots set;
    char text[256] = "";
    cr_assert_eq(gw_slots_parse(slots, &set, NULL, 0), GW_OK);
    enum gw_status st = gw_coordinator_migrate(w->c, &set, from, to, job, text, sizeof text);
    cr_assert_eq(st == GW_OK, text[0] == '\0', "a refusal, and only that, has a sentence");
    world_turn(w);
    return st;
}

uint32_t world_sent_to(const struct world *w, uint64_t link, enum gw_action_kind kind)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->sents; i++)
        n += w->sent[i].link == link && w->sent[i].kind == kind;
    return n;
}

const struct world_sent *world_last(const struct world *w, uint64_t link, enum gw_action_kind kind)
{
    for (uint32_t i = w->sents; i-- > 0;)
        if (w->sent[i].link == link && w->sent[i].kind == kind)
            return &w->sent[i];
    cr_assert_fail("nothing of kind %d was sent to link %lu", (int)kind, (unsigned long)link);
    return NULL;
}

const char *world_owner(const struct world *w, uint32_t slot)
{
    const struct gw_map *map = gw_coordinator_map(w->c);
    return map->owner[slot] == GW_NO_SERVER ? "" : map->server[map->owner[slot]].id;
}

static bool same_job(const struct gw_job_record *a, const struct gw_job_record *b)
{
    return a->id == b->id && a->state == b->state && a->from == b->from && a->to == b->to &&
           memcmp(&a->slots, &b->slots, sizeof a->slots) == 0 &&
           a->commit_version == b->commit_version && a->since == b->since &&
           a->paused == b->paused && a->bytes_moved == b->bytes_moved &&
           a->records_moved == b->records_moved && a->chunks_done == b->chunks_done &&
           a->chunks == b->chunks && a->pulls == b->pulls && a->pause_ns == b->pause_ns &&
           a->created_ms == b->created_ms && a->updated_ms == b->updated_ms &&
           a->transferred_ms == b->transferred_ms && a->finished_ms == b->finished_ms &&
           a->plan == b->plan && a->queued == b->queued &&
           a->options.rate_bytes == b->options.rate_bytes &&
           a->options.sample_bytes == b->options.sample_bytes &&
           a->options.max_impact_us == b->options.max_impact_us &&
           a->options.sample_ms == b->options.sample_ms && a->options.flags == b->options.flags &&
           a->bytes_left == b->bytes_left && a->records_left == b->records_left &&
           a->rate == b->rate && a->indirections == b->indirections &&
           a->hot_records == b->hot_records && a->retries == b->retries &&
           a->source_p99_us == b->source_p99_us && a->target_p99_us == b->target_p99_us &&
           a->pull_leads == b->pull_leads && strcmp(a->phase, b->phase) == 0 &&
           strcmp(a->error, b->error) == 0;
}

static bool same_plan(const struct gw_plan_record *a, const struct gw_plan_record *b)
{
    return a->id == b->id && a->kind == b->kind && a->state == b->state && a->server == b->server &&
           a->ending == b->ending && a->paused == b->paused && a->moves == b->moves &&
           a->moves_done == b->moves_done && a->map_version == b->map_version &&
           a->created_ms == b->created_ms && a->updated_ms == b->updated_ms &&
           a->finished_ms == b->finished_ms && strcmp(a->error, b->error) == 0;
}

static bool same_server(const struct gw_coordinator *a, const struct gw_coordinator *b, uint32_t i)
{
    static struct gw_server_record x, y;
    gw_coordinator_server_record(a, i, &x);
    gw_coordinator_server_record(b, i, &y);
    return memcmp(&x, &y, sizeof x) == 0;
}

bool world_same(const struct gw_coordinator *a, const struct gw_coordinator *b)
{
    const struct gw_map *x = gw_coordinator_map(a), *y = gw_coordinator_map(b);
    if (x->version != y->version || x->cluster != y->cluster || x->hash_seed != y->hash_seed ||
        x->servers != y->servers || memcmp(x->owner, y->owner, sizeof x->owner) != 0 ||
        memcmp(x->since, y->since, sizeof x->since) != 0 ||
        gw_coordinator_jobs(a) != gw_coordinator_jobs(b) ||
        gw_coordinator_plans(a) != gw_coordinator_plans(b))
        return false;
    for (uint32_t i = 0; i < gw_coordinator_plans(a); i++)
        if (!same_plan(gw_coordinator_plan_at(a, i), gw_coordinator_plan_at(b, i)))
            return false;
    for (uint32_t i = 0; i < x->servers; i++)
        if (strcmp(x->server[i].id, y->server[i].id) != 0 ||
            strcmp(x->server[i].address, y->server[i].address) != 0 ||
            x->server[i].view != y->server[i].view ||
            x->server[i].incarnation != y->server[i].incarnation || !same_server(a, b, i))
            return false;
    for (uint32_t i = 0; i < gw_coordinator_jobs(a); i++)
        if (!same_job(gw_coordinator_job_at(a, i), gw_coordinator_job_at(b, i)))
            return false;
    return true;
}
