/* state_join.c - servers come, are heard of and go.
 * A server is its id. Its address may change with every join; the incarnation tells processes of
 * the same id apart. A join that changes something raises the map's version, so that everybody
 * learns of it, but no view: who owns what is the same as before (map.h). Rules: state_internal.h.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "client/wire/names.h"
#include "coordinator/state_internal.h"
#include "index/base/text.h"

int gwi_coordinator_server_of(const struct gw_coordinator *c, uint64_t link)
{
    for (uint32_t i = 0; i < c->map->servers; i++)
        if (c->server[i].link == link)
            return (int)i;
    return -1;
}

void gwi_coordinator_refuse(struct gw_coordinator *c, uint64_t link, enum gw_status status,
                            const char *format, ...)
{
    struct gw_action *action = gwi_coordinator_action(c, GW_ACT_REFUSE, link);
    action->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(action->text, sizeof action->text, format, args);
    va_end(args);
    /* From here on the link is nobody's: what still arrives on it comes from a stranger. */
    gw_coordinator_link_lost(c, link);
}

void gw_coordinator_link_lost(struct gw_coordinator *c, uint64_t link)
{
    int at = gwi_coordinator_server_of(c, link);
    if (at >= 0)
        c->server[at].link = 0;
}

static bool address_is_sane(const char *address)
{
    char host[GW_ADDRESS_BYTES_MAX + 1];
    uint16_t port;
    return gw_parse_address(address, host, sizeof host, &port) == GW_OK && port != 0;
}

/* May this process speak for the server `at` from now on? False: it has been refused. */
static bool admit(struct gw_coordinator *c, uint64_t link, const struct gw_join *join, int at)
{
    if (join->cluster && join->cluster != c->map->cluster) {
        gwi_coordinator_refuse(c, link, GW_E_REFUSED,
                               "server %s belongs to cluster %016" PRIx64
                               ", this is cluster %016" PRIx64,
                               join->id, join->cluster, c->map->cluster);
        return false;
    }
    if (at < 0) {
        if (c->map->servers < GW_SERVERS_MAX)
            return true;
        gwi_coordinator_refuse(c, link, GW_E_LIMIT, "a cluster has at most %u servers",
                               GW_SERVERS_MAX);
        return false;
    }
    const struct coordinator_server *server = &c->server[at];
    if (server->lost) { /* its slots may be others' now, with another history */
        gwi_coordinator_refuse(c, link, GW_E_CANCELLED,
                               "server %s was %s by the operator and may never join again: start "
                               "an empty one with another --id",
                               join->id, server->removed ? "removed" : "given up for lost");
        return false;
    }
    uint64_t known = c->map->server[at].incarnation;
    if (!server->link || server->link == link || known == join->incarnation)
        return true; /* one process, whatever became of its earlier connection */
    if (gw_coordinator_server_up(c, (uint32_t)at)) {
        gwi_coordinator_refuse(c, link, GW_E_BUSY,
                               "server %s is running already at %s (incarnation %016" PRIx64
                               "): give this one another --id or stop that one",
                               join->id, c->map->server[at].address, known);
        return false;
    }
    if (join->incarnation < known) {
        /* Both are connected and the newer one is only silent: were the older one let in, it would
         * serve from before whatever the newer one has done. */
        gwi_coordinator_refuse(c, link, GW_E_REFUSED,
                               "a newer process of server %s is connected (incarnation %016" PRIx64
                               ", this one is %016" PRIx64 ")",
                               join->id, known, join->incarnation);
        return false;
    }
    return true;
}

static uint32_t add_server(struct gw_coordinator *c, const struct gw_join *join)
{
    struct gw_map *map = c->map;
    uint32_t at = map->servers++;
    struct gw_map_server *server = &map->server[at];
    memcpy(server->id, join->id, sizeof server->id);
    server->view = map->version; /* the caller has raised it */
    if (at == 0) {               /* the first of all gets everything */
        struct gw_slots all;
        gw_slots_clear(&all);
        gw_slots_add_range(&all, 0, GW_SLOTS - 1);
        gwi_coordinator_own(c, &all, 0, map->version);
    }
    return at;
}

static bool has_part(const struct gw_job_record *job, uint32_t server)
{
    return gw_job_is_open(job->state) && !job->queued && (job->from == server || job->to == server);
}

enum gw_status gw_coordinator_join(struct gw_coordinator *c, uint64_t link,
                                   const struct gw_join *join)
{
    GW_ASSERT(c->started && link);
    if (!gwi_coordinator_room(c, 3, 3 + c->map->servers + 2 * c->jobs_open))
        return GW_E_NOMEM;
    int joined = gwi_coordinator_server_of(c, link);
    if (joined >= 0 && strcmp(c->map->server[joined].id, join->id) != 0) {
        gwi_coordinator_refuse(c, link, GW_E_PROTOCOL,
                               "this connection has joined as server %s, not %s",
                               c->map->server[joined].id, join->id);
        return GW_OK;
    }
    if (!gw_id_valid(join->id)) {
        gwi_coordinator_refuse(c, link, GW_E_INVALID,
                               "a server's id has 1 to %u letters, digits, '.', '_' or '-'",
                               GW_ID_BYTES_MAX);
        return GW_OK;
    }
    if (!address_is_sane(join->address)) {
        gwi_coordinator_refuse(c, link, GW_E_INVALID,
                               "server %s advertises an address that is not HOST:PORT", join->id);
        return GW_OK;
    }
    int at = gw_map_find(c->map, join->id);
    if (!admit(c, link, join, at))
        return GW_OK;

    bool changed = at < 0 || c->map->server[at].incarnation != join->incarnation ||
                   strcmp(c->map->server[at].address, join->address) != 0;
    if (at >= 0 && c->server[at].link && c->server[at].link != link)
        gwi_coordinator_refuse(c, c->server[at].link, GW_E_CLOSED,
                               "server %s has joined on another connection", join->id);
    if (changed) {
        gwi_coordinator_fact_cluster(c, c->map->version + 1);
        /* The owner fact names the server, so it comes behind it; add_server makes the former. */
        struct gw_fact *fact = gwi_coordinator_fact(c, GW_FACT_SERVER);
        if (at < 0)
            at = (int)add_server(c, join);
        struct gw_map_server *server = &c->map->server[at];
        if (server->incarnation != join->incarnation)
            c->server[at].last = (struct gw_heartbeat){0}, c->server[at].fresh = false;
        memcpy(server->address, join->address, sizeof server->address);
        server->incarnation = join->incarnation;
        fact->server.index = (uint32_t)at;
        fact->server.is = *server;
        gwi_coordinator_record_of(c, (uint32_t)at, &fact->server.record);
    }
    c->server[at].link = link;
    c->server[at].heard_ns = c->now_ns;
    c->server[at].last.round = 0; /* what it needs counts when it has said it again */
    c->server[at].told = (struct gw_needs){0};

    uint64_t open = 0;
    for (uint32_t i = 0; i < c->jobs; i++)
        open += has_part(&c->job[i]->record, (uint32_t)at);
    gwi_coordinator_action(c, GW_ACT_JOINED, link)->id = open;
    if (changed)
        gwi_coordinator_send_map(c, link); /* rule 3 */
    for (uint32_t i = 0; i < c->jobs; i++) {
        const struct gw_job_record *job = &c->job[i]->record;
        if (!has_part(job, (uint32_t)at))
            continue;
        if (changed) /* the other party finds the new address in it */
            gwi_coordinator_send_job(c, c->job[i]);
        else
            gwi_coordinator_action(c, GW_ACT_JOB, link)->id = job->id;
    }
    return GW_OK;
}

enum gw_status gw_coordinator_heartbeat(struct gw_coordinator *c, uint64_t link,
                                        const struct gw_heartbeat *heartbeat)
{
    GW_ASSERT(c->started && link);
    if (!gwi_coordinator_room(c, 1, 1))
        return GW_E_NOMEM;
    int at = gwi_coordinator_server_of(c, link);
    if (at < 0 || c->map->server[at].incarnation != heartbeat->incarnation) {
        gwi_coordinator_refuse(c, link, GW_E_PROTOCOL,
                               "a heartbeat on a connection that has not joined as its process");
        return GW_OK;
    }
    if (heartbeat->map_version > c->map->version) {
        /* A version is durable before anybody hears of it: this store is an older copy, and servers
         * that adopt maps only upwards would never follow it again. */
        gwi_coordinator_refuse(c, link, GW_E_REFUSED,
                               "server %s holds map version %" PRIu64
                               ", this coordinator's store ends at %" PRIu64
                               ": it is older than the cluster",
                               c->map->server[at].id, heartbeat->map_version, c->map->version);
        return GW_OK;
    }
    c->server[at].heard_ns = c->now_ns;
    c->server[at].last = *heartbeat;
    gwi_coordinator_needs_heard(c, (uint32_t)at);
    gwi_coordinator_loads_heard(c, (uint32_t)at);
    return GW_OK;
}
