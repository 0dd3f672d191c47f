/* histogram.c - a log-linear histogram.
 *
 * Values below 128 have a bucket each. Above, the bits below the leading one and its six followers
 * are dropped: bucket = 64 * (exponent - 5) + mantissa - 64, contiguous with the first 128. */
#include "index/base/histogram.h"

#include <string.h>

#include "index/base/assert.h"

#define SUB_BITS  6
#define SUB       (1u << SUB_BITS)
#define VALUE_MAX (((uint64_t)1 << 40) - 1)

static uint32_t bucket_of(uint64_t value)
{
    if (value < 2 * SUB)
        return (uint32_t)value;
    if (value > VALUE_MAX)
        value = VALUE_MAX;
    uint32_t shift = 63 - (uint32_t)__builtin_clzll(value) - SUB_BITS; /* >= 1 */
    return shift * SUB + (uint32_t)(value >> shift);
}

_Static_assert((40 - 1 - SUB_BITS) * SUB + 2 * SUB - 1 < GW_HISTOGRAM_BUCKETS,
               "the largest value has a bucket");

/* The largest value that falls into the bucket: a quantile is never told too small. */
static uint64_t bucket_top(uint32_t bucket)
{
    if (bucket < 2 * SUB)
        return bucket;
    uint32_t shift = bucket / SUB - 1;
    uint64_t mantissa = bucket - shift * SUB;
    return ((mantissa + 1) << shift) - 1;
}

void gw_histogram_clear(struct gw_histogram *h)
{
    memset(h, 0, sizeof *h);
}

void gw_histogram_add(struct gw_histogram *h, uint64_t value)
{
    gw_histogram_add_n(h, value, 1);
}

void gw_histogram_add_n(struct gw_histogram *h, uint64_t value, uint64_t n)
{
    if (n == 0)
        return;
    h->bucket[bucket_of(value)] += n;
    h->count += n;
    h->sum += value * n;
    if (value > h->max)
        h->max = value;
}

void gw_histogram_merge(struct gw_histogram *into, const struct gw_histogram *from)
{
    for (uint32_t i = 0; i < GW_HISTOGRAM_BUCKETS; i++)
        into->bucket[i] += from->bucket[i];
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max)
        into->max = from->max;
}

uint64_t gw_histogram_at(const struct gw_histogram *h, double quantile)
{
    if (h->count == 0)
        return 0;
    if (!(quantile > 0))
        quantile = 0;
    if (quantile >= 1)
        return h->max;
    /* The rank is rounded up: the 0.5 of one value is that value, and so is every other. */
    double exact = quantile * (double)h->count;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0)
        rank++;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < GW_HISTOGRAM_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= rank) {
            uint64_t top = bucket_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}
