/* state_needs.c - which part of each server's log others still need (MIGRATION R17).
 *
 * A server that has a shared tier says in its heartbeats from which address on it needs each log
 * that is not its own, its retained checkpoints included. What nobody needs, its origin may delete
 * once its own log begins above it.
 *
 * Rules:
 *  1. Nothing rises unless everybody has spoken: no job is under way, and every server with a
 *     shared tier, neither lost nor removed, is connected and has named the present round in its
 *     newest heartbeat. A round begins when a job ends, and takes the minimum of the job's source
 *     back to 0 (which holds it there itself while it has a job). So what is said in a round was
 *     composed after the indirections of that job were linked; of others' logs what was found
 *     before stays valid, for a need of them that is new to somebody was another's before.
 *  2. Needs are transitive. Who follows an indirection into the log of B may find one there that
 *     leads to that of A, which B itself has forgotten. So, while anybody needs the log of B, B
 *     counts with the least that it has ever said; that is durable, for B may be lost or removed by
 *     then.
 *  3. A server that is lost before it could speak in the present round counts as needing
 *     everything, as long as anybody needs its own log.
 *  4. What is durable is never above what was said; raising it may wait, lowering it may not.
 *  5. A log that no server has (its data directory was replaced by another) may lead on to any
 *     other: while somebody needs it nothing is deleted.
 *  6. The objects of a removed server go to an heir, one after the other, when nobody needs them.
 * Rules of the machine: state_internal.h. */
#include <stdlib.h>

#include "coordinator/state_internal.h"
#include "index/base/log_line.h"

struct needs {
    bool all;
    uint32_t n;
    struct gw_need need[GW_HEARTBEAT_NEEDS_MAX];
};

void gwi_coordinator_record_of(const struct gw_coordinator *c, uint32_t server,
                               struct gw_server_record *out)
{
    const struct coordinator_server *of = &c->server[server];
    memset(out, 0, sizeof *out);
    out->lost = of->lost;
    out->removed = of->removed;
    out->drained = of->drained;
    out->needs_all = of->needs_all;
    out->log_id = of->log_id;
    out->needs = of->needs;
    memcpy(out->need, of->need, of->needs * sizeof of->need[0]);
}

/* Adds one need, the lower of two. */
static void need(struct needs *needs, uint64_t log_id, uint64_t lowest)
{
    for (uint32_t i = 0; i < needs->n; i++)
        if (needs->need[i].log_id == log_id) {
            if (lowest < needs->need[i].lowest)
                needs->need[i].lowest = lowest;
            return;
        }
    if (needs->n == GW_HEARTBEAT_NEEDS_MAX)
        needs->all = true;
    else
        needs->need[needs->n++] = (struct gw_need){log_id, lowest};
}

static void add_all(struct needs *needs, bool all, const struct gw_need *more, uint32_t n)
{
    needs->all |= all;
    for (uint32_t i = 0; i < n; i++)
        need(needs, more[i].log_id, more[i].lowest);
}

static void add_durable(struct needs *needs, const struct coordinator_server *server)
{
    add_all(needs, server->needs_all, server->need, server->needs);
}

static void add_said(struct needs *needs, const struct coordinator_server *server)
{
    add_all(needs, server->last.flags & GW_HEARTBEAT_NEEDS_ALL, server->last.need,
            server->last.needs);
}

static bool same(const struct needs *needs, const struct coordinator_server *server)
{
    return needs->all == server->needs_all && needs->n == server->needs &&
           memcmp(needs->need, server->need, needs->n * sizeof needs->need[0]) == 0;
}

static void set(struct gw_coordinator *c, uint32_t at, const struct needs *needs)
{
    struct coordinator_server *server = &c->server[at];
    server->needs_all = needs->all;
    server->needs = needs->n;
    memcpy(server->need, needs->need, needs->n * sizeof needs->need[0]);
    server->needs_saved_ns = c->now_ns;
    gwi_coordinator_fact_server(c, at);
}

void gwi_coordinator_needs_heard(struct gw_coordinator *c, uint32_t at)
{
    struct coordinator_server *server = &c->server[at];
    if (!server->last.log_id)
        return;
    struct needs needs = {0};
    add_durable(&needs, server); /* rule 4: what is new or lower, at once */
    add_said(&needs, server);
    bool other_log = server->log_id != server->last.log_id;
    server->log_id = server->last.log_id;
    if (other_log || !same(&needs, server))
        set(c, at, &needs);
    server->tell.round = c->round;
    if (memcmp(&server->tell, &server->told, sizeof server->tell) == 0)
        return;
    server->told = server->tell;
    gwi_coordinator_action(c, GW_ACT_NEEDS, server->link)->id = at;
}

void gwi_coordinator_lose(struct gw_coordinator *c, uint32_t at)
{
    struct coordinator_server *server = &c->server[at];
    if (!server->lost && server->last.round != c->round) /* rule 3 */
        server->needs_all = true;
    server->lost = true;
}

static bool everybody_has_spoken(const struct gw_coordinator *c)
{
    for (uint32_t i = 0; i < c->jobs; i++)
        if (gw_job_is_open(c->job[i]->record.state) && !c->job[i]->record.queued)
            return false;
    for (uint32_t i = 0; i < c->map->servers; i++) {
        const struct coordinator_server *server = &c->server[i];
        if (server->lost)
            continue;
        /* Not heard of since our start: it may have a shared tier. */
        if (!server->link || !server->last.incarnation ||
            (server->last.log_id && server->last.round != c->round))
            return false;
    }
    return true;
}

static bool names(const struct needs *needs, uint64_t log_id)
{
    for (uint32_t i = 0; i < needs->n; i++)
        if (needs->need[i].log_id == log_id)
            return true;
    return needs->all;
}

/* Rule 2: what each server counts with; `counts[i]` says whether its durable needs are in it. */
static void close_over(const struct gw_coordinator *c, struct needs *needs, bool *counts)
{
    uint32_t n = c->map->servers;
    for (uint32_t i = 0; i < n; i++)
        if (!c->server[i].lost)
            add_said(&needs[i], &c->server[i]);
    for (bool more = true; more;) {
        more = false;
        for (uint32_t b = 0; b < n; b++) {
            bool needed = false;
            for (uint32_t x = 0; x < n && !counts[b] && !needed && c->server[b].log_id; x++)
                needed = x != b && names(&needs[x], c->server[b].log_id);
            if (!needed)
                continue;
            counts[b] = more = true;
            add_durable(&needs[b], &c->server[b]);
        }
    }
}

static uint64_t least_need(const struct needs *needs, uint32_t n, uint64_t log_id)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t x = 0; x < n; x++) {
        if (needs[x].all)
            return 0;
        for (uint32_t i = 0; i < needs[x].n; i++)
            if (needs[x].need[i].log_id == log_id && needs[x].need[i].lowest < least)
                least = needs[x].need[i].lowest;
    }
    return least;
}

/* Rule 5. */
static bool names_unknown(const struct gw_coordinator *c, const struct needs *needs)
{
    for (uint32_t x = 0; x < c->map->servers; x++)
        for (uint32_t i = 0; i < needs[x].n; i++) {
            uint32_t of = 0;
            while (of < c->map->servers && c->server[of].log_id != needs[x].need[i].log_id)
                of++;
            if (of == c->map->servers)
                return true;
        }
    return false;
}

/* Rule 6. */
static void name_heir(struct gw_coordinator *c, const struct needs *needs)
{
    uint32_t n = c->map->servers, heir = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        c->server[i].tell.orphan = 0;
        if (heir == UINT32_MAX && !c->server[i].lost && c->server[i].last.log_id &&
            gw_coordinator_server_up(c, i))
            heir = i;
    }
    for (uint32_t i = 0; i < n && heir != UINT32_MAX; i++) {
        struct coordinator_server *gone = &c->server[i];
        if (!gone->removed || !gone->log_id || least_need(needs, n, gone->log_id) != UINT64_MAX)
            continue;
        if (c->server[heir].last.orphan_done == gone->log_id) {
            gw_info("objects of a removed server are gone", "server=%s", c->map->server[i].id);
            gone->log_id = 0;
            set(c, i, &(struct needs){0});
            continue;
        }
        c->server[heir].tell.orphan = gone->log_id;
        return;
    }
}

void gwi_coordinator_needs_turn(struct gw_coordinator *c)
{
    uint32_t n = c->map->servers;
    bool any = false;
    for (uint32_t i = 0; i < n; i++)
        any |= c->server[i].log_id != 0;
    if (!any || !everybody_has_spoken(c)) /* rule 1 */
        return;
    struct needs *needs = calloc(n, sizeof *needs);
    bool *counts = calloc(n, sizeof *counts);
    if (!needs || !counts)
        goto out; /* a later turn has memory */
    close_over(c, needs, counts);
    bool all = names_unknown(c, needs);
    for (uint32_t i = 0; i < n; i++) {
        struct coordinator_server *server = &c->server[i];
        if (!server->lost)
            server->tell.keep_from = all              ? 0
                                     : server->log_id ? least_need(needs, n, server->log_id)
                                                      : UINT64_MAX;
        if (!counts[i] && !server->lost && !same(&needs[i], server) &&
            c->now_ns - server->needs_saved_ns >= GWI_RAISE_NS)
            set(c, i, &needs[i]); /* rule 4 */
    }
    if (!all)
        name_heir(c, needs);
out:
    free(needs);
    free(counts);
}

void gw_coordinator_needs_wire(const struct gw_coordinator *c, uint32_t server,
                               struct gw_needs *out)
{
    GW_ASSERT(server < c->map->servers);
    *out = c->server[server].told;
}
