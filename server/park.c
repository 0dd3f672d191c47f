/* park.c - a hash table of queues with a ring for the retry order; see park.h. */
#include "server/park.h"

#include <stdlib.h>
#include <string.h>

#include "index/base/assert.h"

#define BUCKETS_FIRST 1024u
#define MALLOC_BYTES  16u /* of each block, counted too: most operations are small */

static void ring_remove(struct gwi_parked_key *k)
{
    k->before->after = k->after;
    k->after->before = k->before;
}

static void ring_insert(struct gwi_parked_key *k, struct gwi_parked_key *before)
{
    k->before = before;
    k->after = before->after;
    before->after->before = k;
    before->after = k;
}

static struct gwi_parked_key **bucket_of(const struct gwi_park *p, uint64_t hash)
{
    return &p->bucket[hash & (p->buckets - 1)];
}

bool gwi_park_init(struct gwi_park *p)
{
    memset(p, 0, sizeof *p);
    p->bucket = calloc(BUCKETS_FIRST, sizeof *p->bucket);
    p->buckets = BUCKETS_FIRST;
    p->ring.before = p->ring.after = &p->ring;
    p->cold.before = p->cold.after = &p->cold;
    return p->bucket != NULL;
}

void gwi_park_fini(struct gwi_park *p)
{
    if (!p->bucket)
        return;
    while (p->keys) {
        struct gwi_parked_key *k = p->ring.after != &p->ring ? p->ring.after : p->cold.after;
        bool gone = false;
        while (!gone)
            free(gwi_park_take(p, k, &gone));
    }
    free(p->bucket);
    p->bucket = NULL;
}

struct gwi_parked_key *gwi_park_find(const struct gwi_park *p, uint64_t hash)
{
    struct gwi_parked_key *k = *bucket_of(p, hash);
    while (k && k->hash != hash)
        k = k->chain;
    return k;
}

struct gwi_parked_op *gwi_parked_op_create(const void *key, uint16_t key_bytes, const void *value,
                                           uint32_t value_bytes)
{
    struct gwi_parked_op *op = calloc(1, sizeof *op + key_bytes + (size_t)value_bytes);
    if (!op)
        return NULL;
    op->key_bytes = key_bytes;
    op->value_bytes = value_bytes;
    memcpy(op->bytes, key, key_bytes);
    if (value_bytes)
        memcpy(op->bytes + key_bytes, value, value_bytes);
    return op;
}

static void rehash(struct gwi_park *p, struct gwi_parked_key *sentinel)
{
    for (struct gwi_parked_key *k = sentinel->after; k != sentinel; k = k->after) {
        struct gwi_parked_key **b = bucket_of(p, k->hash);
        k->chain = *b;
        *b = k;
    }
}

/* Doubles the table; staying small when there is no memory costs time, never correctness. */
static void grow(struct gwi_park *p)
{
    struct gwi_parked_key **wider = calloc((size_t)p->buckets * 2, sizeof *wider);
    if (!wider)
        return;
    free(p->bucket);
    p->bucket = wider;
    p->buckets *= 2;
    rehash(p, &p->ring);
    rehash(p, &p->cold);
}

static size_t op_bytes(const struct gwi_parked_op *op)
{
    return sizeof *op + MALLOC_BYTES + op->key_bytes + op->value_bytes;
}

struct gwi_parked_key *gwi_park_add(struct gwi_park *p, uint64_t hash, uint16_t slot,
                                    struct gwi_parked_op *op)
{
    struct gwi_parked_key *k = gwi_park_find(p, hash);
    if (!k) {
        k = calloc(1, sizeof *k);
        if (!k)
            return NULL;
        if (p->keys >= p->buckets)
            grow(p);
        k->hash = hash;
        k->slot = slot;
        struct gwi_parked_key **b = bucket_of(p, hash);
        k->chain = *b;
        *b = k;
        ring_insert(k, p->ring.before);
        p->keys++;
        p->bytes += sizeof *k + MALLOC_BYTES;
    }
    op->next = NULL;
    if (k->last)
        k->last->next = op;
    else
        k->first = op;
    k->last = op;
    p->ops++;
    p->bytes += op_bytes(op);
    return k;
}

struct gwi_parked_op *gwi_park_take(struct gwi_park *p, struct gwi_parked_key *k, bool *key_gone)
{
    return gwi_park_take_after(p, k, NULL, key_gone);
}

struct gwi_parked_op *gwi_park_take_after(struct gwi_park *p, struct gwi_parked_key *k,
                                          struct gwi_parked_op *before, bool *key_gone)
{
    struct gwi_parked_op *op = before ? before->next : k->first;
    GW_ASSERT(op != NULL);
    if (before)
        before->next = op->next;
    else
        k->first = op->next;
    if (k->last == op)
        k->last = before;
    p->ops--;
    p->bytes -= op_bytes(op);
    *key_gone = k->first == NULL;
    if (*key_gone) {
        struct gwi_parked_key **b = bucket_of(p, k->hash);
        while (*b != k)
            b = &(*b)->chain;
        *b = k->chain;
        ring_remove(k);
        if (k->pull_wanted && !k->pull_sent)
            p->unsent_pulls--;
        p->keys--;
        p->bytes -= sizeof *k + MALLOC_BYTES;
        free(k);
    }
    return op;
}

void gwi_park_to_front(struct gwi_park *p, struct gwi_parked_key *k)
{
    ring_remove(k);
    ring_insert(k, &p->ring);
    k->cold = false;
}

void gwi_park_to_back(struct gwi_park *p, struct gwi_parked_key *k)
{
    ring_remove(k);
    ring_insert(k, p->ring.before);
    k->cold = false;
}

void gwi_park_to_cold(struct gwi_park *p, struct gwi_parked_key *k, uint64_t now_ns)
{
    ring_remove(k);
    ring_insert(k, p->cold.before);
    k->cold = true;
    k->cold_ns = now_ns;
}

struct gwi_parked_key *gwi_park_coldest(const struct gwi_park *p)
{
    return p->cold.after != &p->cold ? p->cold.after : NULL;
}
