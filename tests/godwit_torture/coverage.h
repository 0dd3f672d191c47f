/* coverage.h - what of the shared tier and of moving a run has come to: numbers that servers and
 * the coordinator tell, added up over kills. A run in which they stay 0 shows nothing. Layer:
 * tests. */
#ifndef GW_TESTS_TORTURE_COVERAGE_H
#define GW_TESTS_TORTURE_COVERAGE_H

#include "tests/godwit_torture/relay.h"
#include "tests/godwit_torture/run.h"

enum torture_number {
    TORTURE_LINKED, /* indirections, and what became of them */
    TORTURE_FOLLOWED,
    TORTURE_FOUND,
    TORTURE_ABSENT,
    TORTURE_RESOLVED,
    TORTURE_RETIRED,
    TORTURE_COLD_READS, /* from the object store */
    TORTURE_FOREIGN_READS,
    TORTURE_UPLOADED, /* objects */
    TORTURE_DROPPED,  /* local segments */
    TORTURE_DELETED,  /* objects */
    TORTURE_COMPACTED,
    TORTURE_NUMBERS
};

#define TORTURE_JOBS_MAX 16384u
struct torture_coverage {
    struct torture_run *run;
    struct torture_relays *relays;
    pthread_t thread;
    uint64_t last[TORTURE_SERVERS_MAX][TORTURE_NUMBERS], sum[TORTURE_NUMBERS];
    bool counted[TORTURE_JOBS_MAX];
    /* Of moves that are done; sent: indirections. `moves` is read by others. */
    _Atomic uint64_t moves;
    uint64_t sent, hot, pulls, leads, failed, plans;
    uint64_t live[TORTURE_SERVERS_MAX]; /* indirections */
    uint64_t keys[TORTURE_SERVERS_MAX]; /* as the server counts them */
};

/* What its thread does until run->stop. */
void *torture_coverage_run(void *coverage);
/* Asks once more, from any one thread when that has ended. */
void torture_coverage_ask(struct torture_coverage *coverage);
/* With no move open and all up: waits until no indirection is left and some object was deleted, at
 * most `ms`. */
void torture_coverage_rest(struct torture_coverage *coverage, uint64_t ms);
/* "coverage: moves=12 ...", one line. */
void torture_coverage_print(const struct torture_coverage *coverage, FILE *out);
#endif
