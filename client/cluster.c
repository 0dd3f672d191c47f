/* cluster.c - the newest map of a process and the bounded asking for a newer one. */
#include "client/cluster.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "client/ask.h"
#include "index/base/assert.h"
#include "index/base/clock.h"
#include "index/base/hash.h"
#include "index/base/rand.h"

#define SESSION_COUNTER_MASK 0xffffu

struct gw_cluster {
    char coordinator[GWI_ADDRESS_TEXT_BYTES];
    uint32_t timeout_ms;

    pthread_mutex_t lock; /* of everything below but the version */
    struct gw_map *map;   /* NULL: none yet */
    bool fetching;
    uint32_t pause_ms;
    uint64_t fetch_at_ns;
    struct gw_rand rand;
    uint64_t session_base;
    uint16_t session_count;

    /* Written under the lock, read without: sessions look at it once a poll. It publishes nothing,
     * who sees it raised takes the lock to read the map, so relaxed is enough. */
    _Atomic uint64_t version;
};

void gw_cluster_options_default(struct gw_cluster_options *options)
{
    *options = (struct gw_cluster_options){.connect_timeout_ms = 5000};
}

enum gw_status gwi_cluster_create(const char *coordinator, const struct gw_cluster_options *options,
                                  uint64_t seed, struct gw_map *map, struct gw_cluster **out)
{
    struct gw_cluster_options defaults;
    gw_cluster_options_default(&defaults);
    if (!options)
        options = &defaults;
    size_t bytes = strlen(coordinator);
    struct gw_cluster *cluster = NULL;
    enum gw_status st = GW_E_INVALID;
    if (bytes == 0 || bytes >= GWI_ADDRESS_TEXT_BYTES)
        goto fail;
    st = GW_E_NOMEM;
    cluster = calloc(1, sizeof *cluster);
    if (!cluster || pthread_mutex_init(&cluster->lock, NULL) != 0)
        goto fail;

    memcpy(cluster->coordinator, coordinator, bytes + 1);
    cluster->timeout_ms =
        options->connect_timeout_ms ? options->connect_timeout_ms : defaults.connect_timeout_ms;
    cluster->pause_ms = GWI_FETCH_PAUSE_MS_MIN;
    gw_rand_init(&cluster->rand, seed);
    cluster->session_base = gw_rand_next(&cluster->rand) & ~(uint64_t)SESSION_COUNTER_MASK;
    cluster->map = map;
    atomic_init(&cluster->version, map ? map->version : 0);
    *out = cluster;
    return GW_OK;

fail:
    free(cluster);
    gw_map_destroy(map);
    return st;
}

void gw_cluster_close(struct gw_cluster *cluster)
{
    if (!cluster)
        return;
    gw_map_destroy(cluster->map);
    pthread_mutex_destroy(&cluster->lock);
    free(cluster);
}

enum gw_status gw_cluster_open(const char *coordinator, const struct gw_cluster_options *options,
                               struct gw_cluster **out)
{
    struct gw_cluster *cluster;
    enum gw_status st =
        gwi_cluster_create(coordinator, options, gw_rand_system_seed(), NULL, &cluster);
    if (st != GW_OK)
        return st;
    struct gwi_asker *asker;
    st = gwi_asker_create(&asker);
    if (st != GW_OK)
        goto fail_cluster;

    uint8_t request[GW_FRAME_HEADER];
    size_t bytes = gw_frame_empty(request, sizeof request, GW_KIND_MAP_GET, 0);
    struct gwi_answer answer;
    st = gwi_asker_ask(asker, cluster->coordinator, request, (uint32_t)bytes, cluster->timeout_ms,
                       &answer);
    if (st == GW_OK && answer.head.kind != GW_KIND_MAP)
        st = GW_E_PROTOCOL;
    if (st == GW_OK)
        st = gwi_cluster_offer_wire(cluster, &answer.body);
    gwi_asker_destroy(asker);
    if (st == GW_OK) {
        *out = cluster;
        return GW_OK;
    }
fail_cluster:
    gw_cluster_close(cluster);
    return st;
}

uint64_t gw_cluster_map_version(struct gw_cluster *cluster)
{
    return atomic_load_explicit(&cluster->version, memory_order_relaxed);
}

const char *gwi_cluster_coordinator(const struct gw_cluster *cluster)
{
    return cluster->coordinator;
}

uint32_t gwi_cluster_timeout_ms(const struct gw_cluster *cluster)
{
    return cluster->timeout_ms;
}

bool gwi_cluster_offer(struct gw_cluster *cluster, struct gw_map *map)
{
    pthread_mutex_lock(&cluster->lock);
    bool newer = !cluster->map || map->version > cluster->map->version;
    if (newer) {
        struct gw_map *old = cluster->map;
        cluster->map = map;
        map = old;
        atomic_store_explicit(&cluster->version, cluster->map->version, memory_order_relaxed);
        cluster->pause_ms = GWI_FETCH_PAUSE_MS_MIN;
    }
    pthread_mutex_unlock(&cluster->lock);
    gw_map_destroy(map);
    return newer;
}

enum gw_status gwi_cluster_offer_wire(struct gw_cluster *cluster, struct gw_reader *r)
{
    if (gw_reader_left(r) < sizeof(uint64_t))
        return GW_E_PROTOCOL;
    uint64_t version = gw_load64(r->at); /* the map's first word */
    uint64_t have = gw_cluster_map_version(cluster);
    if (have != 0 && version <= have)
        return GW_OK;
    struct gw_map *map;
    enum gw_status st = gw_map_decode(r, &map);
    if (st == GW_OK)
        gwi_cluster_offer(cluster, map);
    return st;
}

void gwi_cluster_read(struct gw_cluster *cluster, void (*fn)(void *ctx, const struct gw_map *map),
                      void *ctx)
{
    pthread_mutex_lock(&cluster->lock);
    if (cluster->map)
        fn(ctx, cluster->map);
    pthread_mutex_unlock(&cluster->lock);
}

bool gwi_cluster_fetch_begin(struct gw_cluster *cluster, uint64_t now_ns)
{
    pthread_mutex_lock(&cluster->lock);
    bool yes = !cluster->fetching && now_ns >= cluster->fetch_at_ns;
    if (yes)
        cluster->fetching = true;
    pthread_mutex_unlock(&cluster->lock);
    return yes;
}

void gwi_cluster_fetch_end(struct gw_cluster *cluster, uint64_t now_ns, bool newer)
{
    pthread_mutex_lock(&cluster->lock);
    GW_ASSERT(cluster->fetching);
    cluster->fetching = false;
    if (newer)
        cluster->pause_ms = GWI_FETCH_PAUSE_MS_MIN;
    /* Half of the pause is drawn, so that processes that lost the same server do not ask in step.
     */
    uint64_t half_ns = (uint64_t)cluster->pause_ms * 500000u;
    cluster->fetch_at_ns = now_ns + half_ns + gw_rand_below(&cluster->rand, half_ns);
    if (!newer && cluster->pause_ms < GWI_FETCH_PAUSE_MS_MAX)
        cluster->pause_ms = cluster->pause_ms * 2 < GWI_FETCH_PAUSE_MS_MAX ? cluster->pause_ms * 2
                                                                           : GWI_FETCH_PAUSE_MS_MAX;
    pthread_mutex_unlock(&cluster->lock);
}

uint64_t gwi_cluster_fetch_at(struct gw_cluster *cluster, uint64_t now_ns)
{
    pthread_mutex_lock(&cluster->lock);
    uint64_t at_ns = cluster->fetch_at_ns;
    /* Somebody else is asking: nobody wakes us, so look again soon. */
    if (cluster->fetching && at_ns < now_ns + 10000000u)
        at_ns = now_ns + 10000000u;
    pthread_mutex_unlock(&cluster->lock);
    return at_ns;
}

uint64_t gwi_cluster_session_id(struct gw_cluster *cluster)
{
    pthread_mutex_lock(&cluster->lock);
    uint64_t id = cluster->session_base | cluster->session_count;
    if (++cluster->session_count == 0) { /* 65,536 sessions: ids must stay unique */
        cluster->session_base = gw_rand_next(&cluster->rand) & ~(uint64_t)SESSION_COUNTER_MASK;
    }
    pthread_mutex_unlock(&cluster->lock);
    return id ? id : gwi_cluster_session_id(cluster);
}

uint16_t gw_slot_of(const void *key, size_t key_bytes)
{
    return gw_key_slot(key, key_bytes);
}
