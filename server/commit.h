/* commit.h - a dispatcher's commit log: what is appended, what is open, when it is flushed.
 *
 * The rule by which replies leave, in short (ENGINE H3, rule 20; tests/model/spin/commit.pml has
 * the exact order of loads and stores and what breaks without each):
 *
 *   a batch that may change something   tag = round; if nothing of mine is open: open = tag; then
 *                                       the operations
 *   end of a batch, of reads too        position = round; if every open word is above it: durable
 *                                       (position 0), else its replies wait (hold.h)
 *   flush                               round + 1, the buffer goes to the log
 *   durable                             open = tag of the first batch gathered meanwhile, or
 *                                       NOTHING; round + 1; who waits is woken
 *
 * What is appended: each write that did not fail, also one that changed nothing (its answer must
 * come again when it is sent again, if what it saw is recovered). A flush begins when none is under
 * way and something is gathered: at once, or, where the last flushes brought together what several
 * batches gave, after a wait for as many, a quarter of a flush long at most and never above a
 * millisecond.
 *
 * When files or the disk are full the log takes no more, batches wait and a checkpoint is asked
 * for. When a write or sync has failed nothing is acknowledged any more and the server ends.
 * Only in commit mode: else `log` is NULL, and that is the one branch it costs. Thread rule: the
 * dispatcher's thread, but for what durable.h says. Layer: server. */
#ifndef GW_SERVER_COMMIT_H
#define GW_SERVER_COMMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index/base/status.h"
#include "index/store.h"

struct gw_commit;
struct gw_commit_entry;
struct gwi_dispatcher;
struct gwi_session;

#define GWI_COMMIT_DELAY_NS_MAX 1000000ull
#define GWI_COMMIT_FULL_NS      20000000ull /* between two tries while there is no room */

struct gwi_commit {
    struct gw_commit *log; /* owned; NULL: not in commit mode */
    uint64_t open;         /* as published in gwi_durable.dispatcher[] */
    uint64_t first;        /* tag of the first batch that has gathered since the last flush */
    uint64_t tag;          /* of the batch that runs; NOTHING_OPEN: it has changed nothing so far */
    uint64_t durable;      /* highest position found durable */
    uint64_t session;      /* whose group is open; 0: none */
    uint64_t serial_first, serial_last; /* of that group */
    uint64_t interval, view;            /* of what is gathered and not divided */
    uint64_t truncated;                 /* checkpoint told to the log */
    uint64_t limit;                     /* of the log's files, in bytes */
    size_t gather_max;                  /* bytes; above it batches wait */
    bool flying, full, failed;
    bool waits; /* gwi_commit_sleep was called */
    bool gave;  /* the batch that runs has appended */
    bool asked; /* for a checkpoint, since the last one */
    /* the delay */
    uint64_t gathered_ns, retry_ns;
    uint64_t flush_begin_ns, flush_ns; /* the last one: begun at, took */
    uint32_t batches, batches_before;  /* that gave something: since the last flush, at that one */
};

/* Opens the log, in commit mode; the server's options, data and store are there. GW_E_IO, _NOMEM,
 * _FULL: said on stderr. */
GW_MUST_USE enum gw_status gwi_commit_open(struct gwi_dispatcher *d);
void gwi_commit_close(struct gwi_dispatcher *d); /* waits for what is in flight */

/* ---- requires commit mode from here on ---- */

/* Before the first operation of a batch that may change something. */
void gwi_commit_begin(struct gwi_dispatcher *d);
/* A write has been executed and did not fail: takes note of it. What the operation gave is read
 * here. Within the batch. */
void gwi_commit_write(struct gwi_dispatcher *d, const struct gwi_session *session, uint64_t serial,
                      const struct gw_op *op);
/* Behind the last operation whose results are about to be shown. Returns the position of what was
 * executed; 0: all of it is durable. More operations may follow: they begin again. */
uint64_t gwi_commit_end(struct gwi_dispatcher *d);
/* Everything that comes is executed under another view. */
void gwi_commit_view(struct gwi_dispatcher *d, uint64_t number);
/* Has so much gathered, or is there so little room, that no batch may begin? */
bool gwi_commit_is_behind(const struct gwi_dispatcher *d);
/* Ends and begins flushes; outside of the epoch. Returns after how many ns it wants to be called
 * again, UINT64_MAX: when it is woken. */
uint64_t gwi_commit_turn(struct gwi_dispatcher *d);
/* Looks what is durable; raises commit.durable. */
void gwi_commit_look(struct gwi_dispatcher *d);
/* Before sleeping with something that waits for others: whoever makes something durable wakes us.
 * Look once more behind it. */
void gwi_commit_sleep(struct gwi_dispatcher *d);

/* Of an executed write, what recovery needs: everything but the serial. */
void gwi_commit_entry_of(const struct gw_op *op, struct gw_commit_entry *out);
#endif
