/* commit_read.h - reading commit logs back: all files of a directory, verified, in order.
 * A block that is bad at or below the highest durable sequence that any later valid block of its
 * log names is corruption; above it, the torn tail, which is left out (ENGINE rule 22). A log is
 * one dispatcher of one incarnation. Layer: tiering. */
#ifndef GW_TIERING_COMMIT_READ_H
#define GW_TIERING_COMMIT_READ_H

#include "tiering/commit.h"

struct gw_commit_logs; /* what a directory holds */

struct gw_commit_log_info {
    uint32_t incarnation;
    uint16_t dispatcher;
    uint32_t files;
    uint64_t blocks, bytes; /* valid, with an interval above the wanted one */
    uint64_t interval_last; /* highest seen */
    uint64_t torn_bytes;    /* left out at the end */
};

/* Scans the directory: files of other stores, unknown names, holes in the sequence, files of
 * another format, corruption: each a failure that `error` names (GW_E_REFUSED, GW_E_VERSION,
 * GW_E_CORRUPT, GW_E_IO). Blocks of intervals at or below `interval` are skipped, and whole files
 * of such may be missing. salvage: instead of failing on corruption, what lies at and behind the
 * first bad block of a log is left out, and counted as torn; `error` then tells the first such,
 * else it is "". A directory that is not there: no logs. */
GW_MUST_USE enum gw_status gw_commit_logs_open(const char *dir, uint64_t store_id,
                                               uint64_t interval, bool salvage,
                                               struct gw_commit_logs **out, char *error);
void gw_commit_logs_close(struct gw_commit_logs *logs); /* NULL is ignored */
/* Logs by rising incarnation, then dispatcher. */
uint32_t gw_commit_logs_count(const struct gw_commit_logs *logs);
void gw_commit_logs_info(const struct gw_commit_logs *logs, uint32_t log,
                         struct gw_commit_log_info *out);

/* All blocks of one log, in order; different logs by different threads at the same time. The
 * payload stays valid until close (mapped or owned). fn false: end early, GW_END. */
typedef bool (*gw_commit_block_cb)(void *ctx, const struct gw_commit_block *block,
                                   const uint8_t *payload);
GW_MUST_USE enum gw_status gw_commit_logs_each(struct gw_commit_logs *logs, uint32_t log,
                                               gw_commit_block_cb fn, void *ctx);
/* Groups of a payload, entries of a group: false at the end or when *bad. Start with *at = 0. */
bool gw_commit_next_group(const uint8_t *payload, uint32_t payload_bytes, uint32_t *at,
                          struct gw_commit_group *group, const uint8_t **entries, bool *bad);
bool gw_commit_next_entry(const struct gw_commit_group *group, const uint8_t *entries, uint32_t *at,
                          struct gw_commit_entry *entry, bool *bad);

/* Removes the logs all of whose blocks have an interval at or below this one, and what was made
 * ahead; those of incarnation `ours` stay (their log gives them back). *removed may be NULL. A
 * crash in the middle leaves logs that can be read. GW_E_REFUSED: a file of another store. */
GW_MUST_USE enum gw_status gw_commit_logs_remove(const char *dir, uint64_t store_id,
                                                 uint64_t interval, uint32_t ours,
                                                 uint32_t *removed);
#endif
