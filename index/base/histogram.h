/* histogram.h - latencies with a bounded relative error, in the manner of HdrHistogram (Tene):
 * 64 linear sub-buckets per power of two, so an error under 1.6 %. Values are of any unit (ns by
 * custom), up to 2^40. One writer a histogram; add them up afterwards. Layer: base. */
#ifndef GW_INDEX_BASE_HISTOGRAM_H
#define GW_INDEX_BASE_HISTOGRAM_H

#include <stdint.h>

#define GW_HISTOGRAM_BUCKETS ((40 - 6 + 1) * 64 + 64)

struct gw_histogram {
    uint64_t count, max, sum;
    uint64_t bucket[GW_HISTOGRAM_BUCKETS];
};

void gw_histogram_clear(struct gw_histogram *h);
void gw_histogram_add(struct gw_histogram *h, uint64_t value);
void gw_histogram_add_n(struct gw_histogram *h, uint64_t value, uint64_t n);
void gw_histogram_merge(struct gw_histogram *into, const struct gw_histogram *from);
/* The value at or below which `quantile` (0..1) of what was added lies; 0 when empty. Never more
 * than the true maximum. */
uint64_t gw_histogram_at(const struct gw_histogram *h, double quantile);
#endif
