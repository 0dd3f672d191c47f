/* tier.c - what the world's jobs ask for, the hot records that gather before them, and the shared
 * tier: each server's log as the other one reads it, and when it may forget what. */
#include "index/base/assert.h"
#include "index/indirection.h"
#include "world.h"

/* By seed and job alone: both ends, and a source that restarts, see the same. */
struct gw_job_options job_options(uint64_t job)
{
    struct gw_rand rand;
    gw_rand_init(&rand, w->plan.seed * 1000 + job);
    struct gw_job_options options = {.sample_ms = 1 + (uint32_t)gw_rand_below(&rand, 8)};
    if (gw_rand_below(&rand, 4) == 0)
        options.flags |= GW_JOB_NO_SAMPLING;
    if (gw_rand_below(&rand, 5) == 0)
        options.flags |= GW_JOB_NO_PULLS;
    if (gw_rand_below(&rand, 4) == 0)
        options.flags |= GW_JOB_NO_INDIRECTION;
    if (gw_rand_below(&rand, 4) == 0)
        options.sample_bytes = 200;
    return options;
}

bool tier_is_shared(int s)
{
    return w->server[s].device && gw_ram_device_face(w->server[s].device)->shared;
}

/* server/control_source.c */
void tier_sample(int s, bool on)
{
    struct server *server = &w->server[s];
    server->sampling = on;
    gw_store_sample(server->store, on ? &w->slots : NULL);
}

void tier_outgoing(int s, bool indirection)
{
    struct server *server = &w->server[s];
    const struct gw_job *job = gw_source_job(server->source);
    /* Of every other job the cold part goes page by page, if it may not stay. */
    struct gw_outgoing_options options = {.map_version = job->commit_version,
                                          .records = (w->plan.seed + job->id) % 2 ? 1000000 : 0};
    if (gw_source_sampled(server->source))
        options.hot_bytes = job->options.sample_bytes ? job->options.sample_bytes : 100000;
    gw_outgoing_set(server->out, &options);
    gw_outgoing_indirect(server->out, indirection);
}

/* A checkpoint is durable: some of what it holds may be with the others by now. */
void tier_share(int s)
{
    struct server *server = &w->server[s];
    if (!tier_is_shared(s) || chance(20))
        return;
    uint64_t page = (uint64_t)1 << GW_STORE_PAGE_BITS_MIN;
    uint64_t end = server->image->store.numbers.end.v, pages = chance(30) ? 0 : below(6);
    if (end / page > pages)
        gw_ram_device_share(server->device, gw_addr_of((end / page - pages) * page));
    gw_store_foreign_retained(server->store, server->image->store.numbers.end.v);
}

/* An indirection is sent only once what it leads to is durable in the shared tier. */
static void must_be_shared(int s, const struct gw_peer_indirection *m)
{
    GW_ASSERT(m->log_id >= 1 && m->log_id <= SERVERS);
    struct gw_device *device = gw_ram_device_face(w->server[m->log_id - 1].device);
    if (m->address >= device->shared(device))
        fail("server %d sends others to %llu of log %llu, which is not shared", s,
             (unsigned long long)m->address, (unsigned long long)m->log_id);
}

/* And so is where a pull's answer leads. */
void tier_answered(int s, const uint8_t *bytes, size_t size)
{
    struct gw_frame f;
    struct gw_peer_record record;
    struct gw_peer_indirection m;
    enum gw_pull_found found;
    GW_ASSERT(gw_frame_decode(bytes, (uint32_t)size, &f) == GW_OK);
    struct gw_reader body = gw_frame_body(bytes, &f);
    while (gw_pull_answer_decode(&body, &found, &record)) {
        if (found != GW_PULL_LEAD || !gw_peer_indirection_of(&record, &m))
            continue;
        must_be_shared(s, &m);
        w->leads++;
    }
}

void tier_sent(int s, const uint8_t *bytes, size_t size)
{
    struct gw_frame f;
    struct gw_peer_record record;
    struct gw_peer_indirection m;
    GW_ASSERT(gw_frame_decode(bytes, (uint32_t)size, &f) == GW_OK);
    struct gw_reader body = gw_frame_body(bytes, &f);
    while (gw_peer_record_decode(&body, &record)) {
        if (gw_peer_indirection_of(&record, &m))
            must_be_shared(s, &m);
        w->paged += f.flags & GW_CHUNK_PAGE ? 1 : 0;
    }
}

/* The lowest address of this log that the others need; of the log's begin if they need none. */
static uint64_t needed(int s)
{
    struct gw_foreign_need need[8];
    struct gw_store_stats stats;
    gw_store_stats(w->server[s].store, &stats);
    uint64_t lowest = stats.log_begin;
    for (int o = 0; o < SERVERS; o++) {
        if (o == s)
            continue;
        uint32_t n = gw_store_foreign(w->server[o].store, need, 8);
        GW_ASSERT(n <= 8);
        for (uint32_t i = 0; i < n; i++)
            if (need[i].log_id == (uint64_t)s + 1 && need[i].lowest < lowest)
                lowest = need[i].lowest;
    }
    return lowest;
}

/* MIGRATION R17: only what nobody needs, and not while a job of its own is open. */
void tier_forget_turn(int unused, int unused2)
{
    bool all_there = coordinator_idle();
    for (int s = 0; s < SERVERS; s++)
        all_there &= !w->down[s] && !w->dying[s] && w->server[s].jobs_known &&
                     !w->server[s].source && !w->server[s].target;
    for (int s = 0; s < SERVERS && all_there; s++)
        gw_ram_device_delete(w->server[s].device, gw_addr_of(needed(s)));
    call_in(5 * MS + below(20 * MS), tier_forget_turn, unused, unused2);
}

void tier_count(int s)
{
    struct server *server = &w->server[s];
    struct gw_outgoing_progress p;
    if (!server->out)
        return;
    gw_outgoing_progress(server->out, &p);
    w->hot += p.hot_records;
    w->indirections += p.indirections;
}
