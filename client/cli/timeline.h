/* timeline.h - what happened in each tenth of a second: events and the percentiles of their
 * latency, added up over threads and written as rows of a table. A row is written once it is
 * GW_TIMELINE_LATE rows old; what comes later still goes into the oldest row that is open, so
 * memory is bounded. Any thread. Layer: client/cli. */
#ifndef GW_CLIENT_CLI_TIMELINE_H
#define GW_CLIENT_CLI_TIMELINE_H

#include <stdint.h>

#include "index/base/histogram.h"
#include "index/base/status.h"

#define GW_TIMELINE_ROW_MS 100u
#define GW_TIMELINE_LATE   32u

struct gw_timeline;

/* Creates the file and writes its head, which names the columns and the Unix time of t_ms = 0.
 * GW_E_IO: errno says it; GW_E_NOMEM. */
GW_MUST_USE enum gw_status gw_timeline_create(const char *path, struct gw_timeline **out);
/* Writes what is open and ends it; GW_E_IO when not everything got into the file. NULL is ignored.
 */
GW_MUST_USE enum gw_status gw_timeline_close(struct gw_timeline *timeline);

/* The row of this moment. */
uint64_t gw_timeline_row(const struct gw_timeline *timeline, uint64_t now_ns);
/* Adds one thread's part of a row: sampled latencies in ns, and the longest of all. */
void gw_timeline_add(struct gw_timeline *timeline, uint64_t row, uint64_t events,
                     const struct gw_histogram *latency_ns, uint64_t longest_ns);
#endif
