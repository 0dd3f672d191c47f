/* chains.c - the set of mixed chains: open addressing, in shards, in two generations.
 *
 * Rules:
 *  1. A shard's younger generation takes the marks. When it has no place it becomes the older one,
 *     if there is none; else it grows; else "everything is mixed" up to the address in question.
 *  2. The older generation is dropped when begin has passed the highest address marked in it.
 * Why that is sound: chains.h. */
#include "index/chains.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"

#define SHARD_BITS 4u
#define SHARDS     (1u << SHARD_BITS)
#define PLACES_MIN 64u

struct generation {
    uint64_t *names; /* name + 1; 0: empty */
    uint32_t places; /* a power of two; at most half of them are taken */
    uint32_t count;
    uint64_t highest; /* address that was marked in it */
};

struct shard {
    _Alignas(GW_CACHE_LINE) pthread_mutex_t lock;
    struct generation young, old;
    uint64_t all_until; /* everything is mixed until begin has passed this; 0: no */
};

struct gwi_chains {
    uint64_t shard_bytes_max;
    /* Marks ever made: 0 spares compaction the lock. Relaxed: the mark of a pair that compaction
     * may meet happened before its look (chains.h, 2). */
    _Atomic uint64_t marks;
    _Atomic uint64_t bytes;
    struct shard shards[SHARDS];
};

enum gw_status gwi_chains_create(uint64_t bytes_max, struct gwi_chains **out)
{
    struct gwi_chains *chains = aligned_alloc(GW_CACHE_LINE, sizeof *chains);
    if (!chains)
        return GW_E_NOMEM;
    memset(chains, 0, sizeof *chains);
    if (bytes_max < GWI_CHAINS_BYTES_MIN)
        bytes_max = GWI_CHAINS_BYTES_MIN;
    chains->shard_bytes_max = bytes_max / SHARDS;
    for (uint32_t i = 0; i < SHARDS; i++) {
        if (pthread_mutex_init(&chains->shards[i].lock, NULL) != 0) {
            while (i-- > 0)
                pthread_mutex_destroy(&chains->shards[i].lock);
            free(chains);
            return GW_E_NOMEM;
        }
    }
    *out = chains;
    return GW_OK;
}

void gwi_chains_destroy(struct gwi_chains *chains)
{
    if (!chains)
        return;
    for (uint32_t i = 0; i < SHARDS; i++) {
        free(chains->shards[i].young.names);
        free(chains->shards[i].old.names);
        pthread_mutex_destroy(&chains->shards[i].lock);
    }
    free(chains);
}

static uint64_t scramble(uint64_t name)
{
    name *= 0x9e3779b97f4a7c15u;
    return name ^ name >> 32;
}

static struct shard *shard_of(struct gwi_chains *chains, uint64_t scrambled)
{
    return &chains->shards[scrambled >> (64 - SHARD_BITS)];
}

/* The place of the name, or the empty one where it would go. Requires: places > 0. */
static uint64_t *place_of(const struct generation *g, uint64_t name, uint64_t scrambled)
{
    uint64_t at = scrambled & (g->places - 1);
    while (g->names[at] != 0 && g->names[at] != name + 1)
        at = (at + 1) & (g->places - 1);
    return &g->names[at];
}

static bool has(const struct generation *g, uint64_t name, uint64_t scrambled)
{
    return g->count != 0 && *place_of(g, name, scrambled) != 0;
}

static void generation_free(struct gwi_chains *chains, struct generation *g)
{
    free(g->names);
    atomic_fetch_sub_explicit(&chains->bytes, g->places * sizeof(uint64_t), memory_order_relaxed);
    *g = (struct generation){.names = NULL};
}

/* Gives the generation, which may be empty, `places` places. False: no memory. */
static bool generation_grow(struct gwi_chains *chains, struct generation *g, uint32_t places)
{
    uint64_t *names = calloc(places, sizeof *names);
    if (!names)
        return false;
    struct generation next = {names, places, g->count, g->highest};
    for (uint32_t i = 0; i < g->places; i++)
        if (g->names[i] != 0)
            *place_of(&next, g->names[i] - 1, scramble(g->names[i] - 1)) = g->names[i];
    atomic_fetch_add_explicit(&chains->bytes, places * sizeof *names, memory_order_relaxed);
    generation_free(chains, g);
    *g = next;
    return true;
}

/* Makes a place in the younger generation; false: there is none to be had. */
static bool room_make(struct gwi_chains *chains, struct shard *shard)
{
    struct generation *young = &shard->young;
    if (young->count * 2 < young->places)
        return true;
    uint32_t places = young->places ? young->places : PLACES_MIN;
    if (young->count != 0 && shard->old.count == 0) {
        generation_free(chains, &shard->old);
        shard->old = *young;
        *young = (struct generation){.names = NULL};
    } else if (young->count != 0) {
        places *= 2;
    }
    if ((places + (uint64_t)shard->old.places) * sizeof(uint64_t) > chains->shard_bytes_max)
        return false;
    return generation_grow(chains, young, places);
}

void gwi_chains_mark(struct gwi_chains *chains, uint64_t name, gw_addr address, uint64_t begin)
{
    uint64_t scrambled = scramble(name);
    struct shard *shard = shard_of(chains, scrambled);
    pthread_mutex_lock(&shard->lock);
    if (shard->old.count != 0 && shard->old.highest < begin)
        generation_free(chains, &shard->old);
    struct generation *young = &shard->young;
    if (!has(young, name, scrambled)) {
        if (room_make(chains, shard)) {
            *place_of(young, name, scrambled) = name + 1;
            young->count++;
        } else if (shard->all_until < address.v) {
            shard->all_until = address.v;
        }
    }
    if (young->highest < address.v)
        young->highest = address.v;
    pthread_mutex_unlock(&shard->lock);
    atomic_fetch_add_explicit(&chains->marks, 1, memory_order_relaxed);
}

bool gwi_chains_mixed(struct gwi_chains *chains, uint64_t name, uint64_t begin)
{
    if (atomic_load_explicit(&chains->marks, memory_order_relaxed) == 0)
        return false;
    uint64_t scrambled = scramble(name);
    struct shard *shard = shard_of(chains, scrambled);
    pthread_mutex_lock(&shard->lock);
    bool mixed = shard->all_until >= begin || has(&shard->young, name, scrambled) ||
                 has(&shard->old, name, scrambled);
    pthread_mutex_unlock(&shard->lock);
    return mixed;
}

static uint64_t names_of(const struct generation *g, uint64_t *names, uint64_t count, uint64_t max)
{
    for (uint32_t i = 0; i < g->places; i++)
        if (g->names[i] != 0) {
            if (count < max)
                names[count] = g->names[i] - 1;
            count++;
        }
    return count;
}

uint64_t gwi_chains_names(struct gwi_chains *chains, uint64_t *names, uint64_t max,
                          uint64_t *all_until)
{
    uint64_t count = 0, until = 0;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &chains->shards[i];
        pthread_mutex_lock(&shard->lock);
        count = names_of(&shard->young, names, count, max);
        count = names_of(&shard->old, names, count, max);
        until = shard->all_until > until ? shard->all_until : until;
        pthread_mutex_unlock(&shard->lock);
    }
    *all_until = until;
    return count;
}

void gwi_chains_mark_all(struct gwi_chains *chains, uint64_t until)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &chains->shards[i];
        pthread_mutex_lock(&shard->lock);
        if (shard->all_until < until)
            shard->all_until = until;
        pthread_mutex_unlock(&shard->lock);
    }
    atomic_fetch_add_explicit(&chains->marks, 1, memory_order_relaxed);
}

uint64_t gwi_chains_bytes(const struct gwi_chains *chains)
{
    return sizeof *chains + atomic_load_explicit(&chains->bytes, memory_order_relaxed);
}

uint64_t gwi_chains_count(struct gwi_chains *chains)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &chains->shards[i];
        pthread_mutex_lock(&shard->lock);
        count += shard->young.count + shard->old.count;
        pthread_mutex_unlock(&shard->lock);
    }
    return count;
}
