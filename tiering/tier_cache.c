/* tier_cache.c - heads and frames that were read, least recently used out first. The reader's
 * thread alone comes here, so there is no lock. What is on its way is in the table too: whoever
 * needs it waits there, so that it is asked for once. */
#include <stdlib.h>

#include "tiering/tier_reader.h"

static struct tier_cached **bucket_of(struct tier_reader *r, const struct tier_key *k)
{
    uint64_t h = (k->first ^ (uint64_t)k->origin << 48 ^ (uint64_t)k->incarnation << 32) + k->part;
    h = (h ^ h >> 29) * 0x9e3779b97f4a7c15u;
    return &r->buckets[(h >> 40) % GWI_TIER_BUCKETS];
}

static void unlink_used(struct tier_reader *r, struct tier_cached *c)
{
    *(c->newer ? &c->newer->older : &r->newest) = c->older;
    *(c->older ? &c->older->newer : &r->oldest) = c->newer;
}

static void link_newest(struct tier_reader *r, struct tier_cached *c)
{
    c->newer = NULL;
    c->older = r->newest;
    *(r->newest ? &r->newest->newer : &r->oldest) = c;
    r->newest = c;
}

struct tier_cached *gwi_tier_cache_find(struct tier_reader *r, const struct tier_key *key)
{
    struct tier_cached *c = *bucket_of(r, key);
    while (c && (c->key.first != key->first || c->key.origin != key->origin ||
                 c->key.incarnation != key->incarnation || c->key.part != key->part))
        c = c->bucket_next;
    if (c && c->ready) {
        unlink_used(r, c);
        link_newest(r, c);
    }
    return c;
}

struct tier_cached *gwi_tier_cache_make(struct gw_tier *tier, const struct tier_key *key)
{
    struct tier_cached **bucket = bucket_of(tier->reader, key), *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->tier = tier;
    c->key = *key;
    c->waiting_end = &c->waiting;
    c->bucket_next = *bucket;
    *bucket = c;
    return c;
}

static void count(struct gw_tier *tier)
{
    atomic_store_explicit(&tier->cache_used, tier->reader->cached_bytes, memory_order_relaxed);
}

void gwi_tier_cache_ready(struct gw_tier *tier, struct tier_cached *c)
{
    c->ready = true;
    c->bytes = sizeof *c + c->raw_bytes + c->head.frames * sizeof *c->frames;
    tier->reader->cached_bytes += c->bytes;
    link_newest(tier->reader, c);
    count(tier);
}

void gwi_tier_cache_drop(struct gw_tier *tier, struct tier_cached *c)
{
    struct tier_cached **at = bucket_of(tier->reader, &c->key);
    while (*at != c)
        at = &(*at)->bucket_next;
    *at = c->bucket_next;
    if (c->ready) {
        unlink_used(tier->reader, c);
        tier->reader->cached_bytes -= c->bytes;
        count(tier);
    }
    free(c->frames);
    free(c->raw);
    free(c->body);
    free(c);
}

void gwi_tier_cache_trim(struct gw_tier *tier)
{
    struct tier_reader *r = tier->reader;
    while (r->oldest && r->cached_bytes > tier->cache_bytes)
        gwi_tier_cache_drop(tier, r->oldest);
}

void gwi_tier_cache_end(struct gw_tier *tier)
{
    for (uint32_t i = 0; i < GWI_TIER_BUCKETS; i++)
        while (tier->reader->buckets[i])
            gwi_tier_cache_drop(tier, tier->reader->buckets[i]);
}
