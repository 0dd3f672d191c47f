/* commit_log.h - what tests of the commit log share: a log in a directory of its own, entries that
 * tell their own number, and what is read back. */
#ifndef GW_TESTS_COMMIT_LOG_H
#define GW_TESTS_COMMIT_LOG_H

#include "tiering/commit.h"
#include "tiering/commit_read.h"

#define COMMIT_STORE 0x1122334455667788u

/* A log of small files. */
struct gw_commit_options commit_options(const char *dir, uint16_t dispatcher, uint32_t incarnation,
                                        uint64_t file_bytes);

/* Appends entry number n as session 7's serial n: what it is follows from n alone. value_bytes: of
 * a SET, else it is chosen. */
enum gw_status commit_append(struct gw_commit *log, uint64_t n, uint32_t value_bytes);
/* Flushes and waits: the final status (GW_E_FULL: not even begun). Aborts after 20 s. */
enum gw_status commit_flush_whole(struct gw_commit *log, uint64_t interval, uint64_t view);
enum gw_status commit_wait(struct gw_commit *log);

/* What a directory says. */
struct commit_seen {
    enum gw_status status;
    char error[GW_COMMIT_TEXT_BYTES];
    uint64_t first, last, count; /* numbers of the entries of the first log; rising by one */
    uint64_t blocks, torn_bytes, interval_last;
    uint32_t logs;
    bool wrong; /* an entry was not what its number says, or one was left out or came twice */
};
void commit_see(const char *dir, uint64_t interval, bool salvage, struct commit_seen *out);
#endif
